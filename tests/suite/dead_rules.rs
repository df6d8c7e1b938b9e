//! Rules that can never say anything, and the hint of what was meant.

use std::sync::Arc;
use std::time::Duration;

use nightbell::model::{Labels, METRIC_NAME, Sample, Timestamp};
use nightbell::promql::Expr;
use nightbell::rules::backend::{Backend, Hits};
use nightbell::rules::dead::DeadRules;
use nightbell::rules::file::parse_text;
use nightbell::rules::group::Settings;
use nightbell::rules::scheduler::Scheduler;
use nightbell::state::State;
use nightbell::store::{Limits, Store};
use nightbell::telemetry::Telemetry;
use tokio::sync::mpsc;

/// Nobody asks it.
struct Silent;

impl Backend for Silent {
    fn query(&self, _: &Expr, _: Timestamp) -> Hits {
        Ok(Vec::new())
    }

    fn query_text(&self, _: &str, _: Timestamp) -> Hits {
        Ok(Vec::new())
    }

    fn append(&self, _: Timestamp, _: &[Sample]) {}
}

const RULES: &str = "groups:
- name: g
  interval: 10s
  rules:
  - {record: 'job:up:sum', expr: sum(upp)}
  - {alert: Label, expr: 'http_requests_total{code=\"50\"} > 1'}
  - {alert: Name, expr: 'rate(http_request_total[5m]) > 1'}
  - {alert: Absent, expr: 'absent(gone) or job:up:sum > 1 or ALERTS{alertname=\"x\"}'}
  - {alert: Alive, expr: http_requests_total offset 1m > 1}
  - alert: Block
    expr: |
      http_requests_total > 1
        and on ()
          uq{job=\"x\"} > 0
    recover_expr: >-
      http_requests_total <
      1 or upq
";

/// Issue 3.7: after three intervals a selector without series is dead, at its own line and column, with what was probably meant; until it matches.
#[tokio::test]
async fn a_rule_whose_selector_matches_nothing_is_told_with_the_nearest_name() {
    let folder = tempfile::tempdir().expect("a folder");
    let (state, store) = (State::open(&folder.path().join("state.db")).await.expect("opens"), Arc::new(Store::new(Limits::default())));
    let (sender, _receiver) = mpsc::channel(1);
    let telemetry = Telemetry::new();
    let scheduler = Arc::new(Scheduler::new(Arc::new(Silent), state, sender, &telemetry));
    let groups = parse_text("rules.yml", RULES).expect("valid").groups;
    let now = Timestamp(1_700_000_000_000);
    scheduler.reload(groups, Settings::default(), now).await.expect("loads");
    let append = |name: &str, labels: &[(&str, &str)]| {
        let labels = Labels::from_pairs(labels.iter().copied().chain([(METRIC_NAME, name)]));
        store.append(now, &[Sample { labels, value: 1.0, timestamp: None }]);
    };
    append("http_requests_total", &[("code", "500")]);
    append("up", &[]);
    let dead = DeadRules::new(scheduler, store.clone(), &telemetry);
    dead.look(now);
    dead.look(now + Duration::from_secs(29));
    assert_eq!(dead.found(), [], "three intervals have not passed");
    dead.look(now + Duration::from_secs(30));
    let told: Vec<String> = dead.found().iter().map(ToString::to_string).collect();
    assert_eq!(
        told,
        [
            "rules.yml:5:38: rule \"job:up:sum\": upp has matched no series; the nearest existing metric is up",
            "rules.yml:6:27: rule \"Label\": http_requests_total{code=\"50\"} has matched no series; no http_requests_total has code=\"50\"; the nearest value is \"500\"",
            "rules.yml:7:31: rule \"Name\": http_request_total has matched no series; the nearest existing metric is http_requests_total",
            "rules.yml:14:11: rule \"Block\": uq{job=\"x\"} has matched no series; the nearest existing metric is up",
            "rules.yml:17:12: rule \"Block\": upq has matched no series; the nearest existing metric is up",
        ]
    );
    append("upp", &[]);
    dead.look(now + Duration::from_secs(40));
    assert_eq!(dead.found().len(), 4);
}
