//! Rules that can never say anything, and the hint of what was meant.

use std::sync::Arc;
use std::time::Duration;

use nightbell::model::{Labels, METRIC_NAME, Sample, Timestamp};
use nightbell::promql::Expr;
use nightbell::rules::Wanted;
use nightbell::rules::backend::{Backend, Hits};
use nightbell::rules::evaluate::group::Settings;
use nightbell::rules::explain::dead::DeadRules;
use nightbell::rules::file::parse_text;
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

/// After three intervals a selector without series is dead, at its own line and column, with what
/// was probably meant; until it matches.
#[tokio::test]
async fn a_rule_whose_selector_matches_nothing_is_notified_with_the_nearest_name() {
    let folder = tempfile::tempdir().expect("a folder");
    let (state, store) = (
        State::open(&folder.path().join("state.db"))
            .await
            .expect("opens"),
        Arc::new(Store::new(Limits::default())),
    );
    let (sender, _receiver) = mpsc::channel(1);
    let telemetry = Telemetry::new();
    let scheduler = Arc::new(Scheduler::new(Arc::new(Silent), state, sender, &telemetry));
    let groups = parse_text("rules.yml", RULES).expect("valid").groups;
    let now = Timestamp(1_700_000_000_000);
    scheduler
        .reload(groups, Settings::default(), now)
        .await
        .expect("loads");
    let append = |name: &str, labels: &[(&str, &str)]| {
        let labels = Labels::from_pairs(labels.iter().copied().chain([(METRIC_NAME, name)]));
        store.append(
            now,
            &[Sample {
                labels,
                value: 1.0,
                timestamp: None,
            }],
        );
    };
    append("http_requests_total", &[("code", "500")]);
    append("up", &[]);
    let dead = DeadRules::new(scheduler, store.clone(), &telemetry);
    dead.look(now);
    dead.look(now + Duration::from_secs(29));
    assert_eq!(dead.found(), [], "three intervals have not passed");
    dead.look(now + Duration::from_secs(30));
    let notified: Vec<String> = dead.found().iter().map(ToString::to_string).collect();
    assert_eq!(
        notified,
        [
            "rules.yml:5:38: rule \"job:up:sum\": upp has matched no series; the nearest existing metric is up",
            "rules.yml:6:27: rule \"Label\": http_requests_total{code=\"50\"} has matched no series; no http_requests_total has code=\"50\"; the nearest value is \"500\"",
            "rules.yml:7:31: rule \"Name\": http_request_total has matched no series; the nearest existing metric is http_requests_total",
            "rules.yml:8:44: rule \"Absent\": job:up:sum has matched no series; job:up:sum is recorded from upp: a target of scrape_configs that exposes upp would bring it",
            "rules.yml:14:11: rule \"Block\": uq{job=\"x\"} has matched no series; the nearest existing metric is up",
            "rules.yml:17:12: rule \"Block\": upq has matched no series; the nearest existing metric is up",
        ]
    );
    append("upp", &[]);
    dead.look(now + Duration::from_secs(40));
    assert_eq!(dead.found().len(), 4);
}

/// Rules of a profile and of the user that read what a built-in rule records from nothing are
/// reported, with what would feed them; the standard rules are not, nor is a rule of a profile of
/// which something is there.
#[tokio::test]
async fn a_rule_that_reads_what_is_recorded_from_nothing_is_reported() {
    let folder = tempfile::tempdir().expect("a folder");
    let (state, store) = (
        State::open(&folder.path().join("state.db"))
            .await
            .expect("opens"),
        Arc::new(Store::new(Limits::default())),
    );
    let (sender, _receiver) = mpsc::channel(1);
    let telemetry = Telemetry::new();
    let scheduler = Arc::new(Scheduler::new(Arc::new(Silent), state, sender, &telemetry));
    let file = |name: &str, rules: &str| {
        let mut groups = parse_text(
            name,
            &format!(
                "groups:\n- name: {}\n  interval: 10s\n  rules:\n{rules}",
                name.len()
            ),
        )
        .expect("valid")
        .groups;
        for group in &mut groups {
            group.shipped = name.starts_with("built-in");
            // A profile wants two rows; of one, either alert will do.
            for (row, alerts) in [
                ("T1 of x", vec!["Slow"]),
                ("T2 of x", vec!["Half", "Other"]),
                ("T3 of x", vec!["Db"]),
            ] {
                let wanted = Wanted {
                    row: row.to_owned(),
                    alerts: alerts.iter().map(|alert| (*alert).to_owned()).collect(),
                };
                let names = alerts.iter().filter(|_| name.contains("/profiles/"));
                group
                    .wanted
                    .extend(names.map(|alert| ((*alert).to_owned(), wanted.clone())));
            }
        }
        groups
    };
    let standard = "  - {record: 'app:p95', expr: 'sum(rate(http_x_bucket[5m])) / sum(rate(http_x_count[5m]))'}\n  - {alert: PgDown, expr: 'pg_up == 0'}\n";
    let profile = "  - {alert: Slow, expr: 'app:p95 > 5'}\n  - {alert: Half, expr: 'up == 0 unless gone'}\n  - {alert: Db, expr: 'pg_up == 0'}\n  - {alert: Other, expr: 'gone > 1'}\n";
    let own = "  - {alert: Mine, expr: 'app:p95 > 1'}\n";
    let groups = [
        file("built-in rules/app.yml", standard),
        file("built-in rules/profiles/x.yml", profile),
        file("own.yml", own),
    ]
    .concat();
    let now = Timestamp(1_700_000_000_000);
    scheduler
        .reload(groups, Settings::default(), now)
        .await
        .expect("loads");
    let append = |name: &str| {
        store.append(
            now,
            &[Sample {
                labels: Labels::from_pairs([(METRIC_NAME, name)]),
                value: 1.0,
                timestamp: None,
            }],
        );
    };
    append("up");
    let dead = DeadRules::new(scheduler, store.clone(), &telemetry);
    dead.look(now);
    dead.look(now + Duration::from_secs(30));
    let feed = "app:p95 has matched no series; app:p95 is recorded from http_x_bucket, http_x_count: a target of scrape_configs that exposes \
                http_x_bucket would bring it; a target of scrape_configs that exposes http_x_count would bring it";
    let notified: Vec<String> = dead
        .found()
        .iter()
        .map(|one| {
            one.to_string()
                .splitn(4, ':')
                .last()
                .unwrap_or_default()
                .to_owned()
        })
        .collect();
    assert_eq!(notified.len(), 3, "{notified:?}");
    assert_eq!(notified[0], format!(" rule \"Slow\": {feed}"));
    assert!(
        notified[1].starts_with(" rule \"Db\": pg_up has matched no series; "),
        "{notified:?}"
    );
    assert_eq!(notified[2], format!(" rule \"Mine\": {feed}"));
    let metrics = telemetry.encode();
    let count = |what: &str| {
        metrics
            .lines()
            .filter(|line| line.starts_with("nightbell_rule_without_input{") && line.contains(what))
            .count()
    };
    assert_eq!(
        [
            count(""),
            count("rule=\"Slow\""),
            count("rule=\"Db\""),
            count("rule=\"Mine\"")
        ],
        [3, 1, 1, 1],
        "{metrics}"
    );
    assert!(
        metrics.contains("feed=\"collectors.postgres would bring it\""),
        "{metrics}"
    );
    append("http_x_bucket");
    append("pg_up");
    dead.look(now + Duration::from_secs(40));
    assert_eq!(dead.found(), []);
    assert!(!telemetry.encode().contains("nightbell_rule_without_input{"));
}
