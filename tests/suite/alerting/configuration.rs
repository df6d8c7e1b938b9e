//! `route`, `receivers` and the rest as `alertmanager.yml` writes them; the routing without a
//! route; reload.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use nightbell::alerting::dispatch::Dispatch;
use nightbell::alerting::metrics::Metrics;
use nightbell::alerting::{Alerting, Incoming};
use nightbell::config::{Document, Environment, Loader};
use nightbell::model::{Labels, format_duration};
use nightbell::state::State;

use super::{START, alert, config, read_config};

/// Global SMTP settings, child routes by `match`, several receivers; SEMANTICS 142, what is
/// inherited.
#[test]
fn an_alertmanager_file_works_as_it_stands() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("alertmanager.yml");
    let text = "\
global:
  smtp_smarthost: 'smtp.example.org:587'
  smtp_from: 'alerts@example.org'
  smtp_auth_username: 'alerts@example.org'
  smtp_auth_password: 'secret'
  opsgenie_api_url: 'https://api.opsgenie.com/'
  resolve_timeout: 7m
route:
  group_by: ['alertname', 'cluster']
  group_wait: 10s
  group_interval: 10s
  repeat_interval: 12h
  receiver: 'default'
  routes:
    - match: {severity: critical}
      receiver: 'critical'
      group_wait: 1s
      routes: [{match_re: {service: 'a|b'}, group_by: ['...']}]
    - match: {severity: warning}
      receiver: 'warning'
receivers:
  - name: 'default'
    email_configs: [{to: 'ops@example.org'}]
  - name: 'critical'
    email_configs: [{to: 'oncall@example.org', send_resolved: true}]
    webhook_configs: [{url: 'http://127.0.0.1:5001/'}, {url: 'http://127.0.0.1:5002/'}]
  - name: 'warning'
    slack_configs: [{api_url: 'https://hooks.slack.com/services/x', channel: '#alerts'}]
inhibit_rules:
  - source_match: {severity: 'critical'}
    target_match: {severity: 'warning'}
    equal: ['alertname', 'cluster']
";
    std::fs::write(&path, text).expect("written");
    let (config, mistakes) =
        Alerting::read_file(&path, &Environment::default()).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(mistakes.to_string(), "");
    let keys: Vec<(&str, bool)> = config
        .receivers
        .iter()
        .flat_map(|r| &r.integrations)
        .map(|i| (i.key.as_str(), i.send_resolved))
        .collect();
    let wanted = [
        ("default/email/0", false),
        ("critical/email/0", true),
        ("critical/webhook/0", true),
        ("critical/webhook/1", true),
        ("warning/slack/0", false),
    ];
    assert_eq!(keys, wanted);
    assert_eq!(config.resolve_timeout, Duration::from_secs(7 * 60));
    let deepest = &config.routes.nodes()[2];
    assert_eq!(
        deepest.key,
        r#"{}/{severity="critical"}/{service=~"^(?:a|b)$"}"#
    );
    assert_eq!(
        (deepest.receiver.as_str(), deepest.group_wait),
        ("critical", Duration::from_secs(1))
    );
    assert_eq!(format_duration(deepest.repeat_interval), "12h");
}

/// SEMANTICS 141 to 145: every mistake, with its place and what to do.
#[test]
fn mistakes_are_reported_all_at_once() {
    let errors = read_config(
        "\
route:
  receiver: nobody
  matchers: [a=b]
  continue: true
  group_interval: 0s
  group_by: [a, a]
  routes:
    - {receiver: ops, group_by: ['...', b], mute_time_intervals: [nights]}
    - {matchers: ['a=~\"(\"'], recevier: ops}
    - {matchers: [a=b], flapping: {within: 2d, stable: 5m}}
flapping: {firings: 1, stable_for: 0s}
receivers:
  - {name: ops, sns_configs: [{}]}
  - {name: ops}
time_intervals:
  - {name: days, time_intervals: [{weekdays: [funday]}]}
",
    )
    .err()
    .expect("mistakes")
    .to_string();
    for wanted in [
        "route: receiver \"nobody\" is not defined; define it under receivers; there is ops",
        "route: the root route has matchers",
        "route.continue: is not allowed in the root route",
        "route.group_interval: is zero",
        "route.group_by: names a label twice",
        "route.routes[0].group_by: mixes '...' with other labels",
        "time interval \"nights\" is not defined",
        "route.routes[1].matchers: ",
        "route.routes[1].recevier: unknown key; did you mean \"receiver\"?",
        "receivers[0].sns_configs: nightbell has no such notifier yet; known here: ",
        "flapping.firings: 1 would make every alert flap; give 2 or more, or 0 to turn it off",
        "flapping.stable_for: is not between 1ms and 1d; give a duration such as 30m",
        "route.routes[2].flapping.within: is not between 1ms and 1d",
        "route.routes[2].flapping.stable: unknown key",
        "receivers: two receivers have the same name",
        "weekdays: \"funday\" is not valid here; give a weekday or a range such as monday:friday",
    ] {
        assert_eq!(
            errors.matches(wanted).count(),
            1,
            "{wanted:?} must be said once in\n{errors}"
        );
    }
}

fn default_routing(yaml: &str) -> Alerting {
    let document = Document::parse("nightbell.yml", yaml).expect("YAML");
    let environment = Environment::default();
    let loader = Loader::new(&document, &environment, Path::new("."));
    let alerting = Alerting::read_default(&loader.root(), None);
    loader
        .finish(alerting)
        .unwrap_or_else(|errors| panic!("{errors}"))
}

fn notified(config: &Alerting, labels: &[(&str, &str)]) -> Vec<String> {
    let labels = Labels::from_pairs(labels.iter().copied());
    let routes = config.routes.matching(&labels);
    routes
        .iter()
        .map(|r| config.routes.get(*r).expect("a route").receiver.clone())
        .collect()
}

/// Severity decides. In doubt, notify: what no configured receiver would take goes to the broadest
/// one.
#[test]
fn without_a_route_severity_decides() {
    let email =
        "email: {to: ops@example.org, from: a@example.org, smarthost: 'smtp.example.org:587'}\n";
    let slack = "slack: {api_url: 'https://hooks.slack.com/services/x', channel: '#a'}\n";
    let webhook = "webhook: {url: 'http://127.0.0.1:1/'}\n";
    let all = default_routing(&format!("{email}{slack}{webhook}"));
    assert_eq!(
        notified(&all, &[("severity", "critical")]),
        ["email", "slack", "webhook"]
    );
    assert_eq!(
        notified(&all, &[("severity", "warning")]),
        ["slack", "webhook"]
    );
    assert_eq!(notified(&all, &[("severity", "info")]), ["webhook"]);
    assert_eq!(
        notified(&all, &[]),
        ["email", "slack", "webhook"],
        "no severity counts as critical"
    );
    assert_eq!(all.routes.nodes()[0].group_wait, Duration::from_secs(5));
    assert!(
        all.receivers
            .iter()
            .flat_map(|r| &r.integrations)
            .all(|i| i.send_resolved)
    );

    let two = default_routing(&format!("{email}{slack}"));
    assert_eq!(
        notified(&two, &[("severity", "critical")]),
        ["email", "slack"]
    );
    assert_eq!(notified(&two, &[("severity", "info")]), ["slack"]);
    let one = default_routing(email);
    assert_eq!(notified(&one, &[("severity", "info")]), ["email"]);
    assert!(default_routing("{}").receivers[0].integrations.is_empty());
}

const ONE: &str = "
route: {receiver: ops, group_by: [alertname], group_wait: 5s, group_interval: 10s}
receivers: [{name: ops, webhook_configs: [{url: 'http://127.0.0.1:9/'}]}]
";
const TWO: &str = "
route: {receiver: ops, group_by: [alertname], group_wait: 5s, group_interval: 10s, routes: [{receiver: db, matchers: [team=db]}]}
receivers:
  - {name: ops, webhook_configs: [{url: 'http://127.0.0.1:9/'}]}
  - {name: db, webhook_configs: [{url: 'http://127.0.0.1:9/'}]}
";

/// A reload routes every alert anew; what was notified already is not notified again, what waits is
/// not forgotten, and messages for a receiver that is gone become dead letters.
#[tokio::test]
async fn a_reload_tells_nothing_twice_and_forgets_nothing() {
    let state = State::in_memory().await.expect("a database");
    let mut dispatch =
        Dispatch::restore(config(TWO), state.clone(), Metrics::default(), START).await;
    let at = |seconds| START + Duration::from_secs(seconds);
    let fire = |labels: &str, seconds| {
        vec![Incoming::from(alert(
            labels,
            at(seconds),
            None,
            at(seconds),
        ))]
    };
    dispatch.put(fire("alertname=A n=1", 0), at(0)).await;
    dispatch
        .put(fire("alertname=B n=2 team=db", 0), at(0))
        .await;
    dispatch.flush(at(5)).await;
    dispatch.put(fire("alertname=C n=3", 6), at(6)).await;
    assert_eq!(state.outbox(10).await.expect("read").len(), 2);

    dispatch.reconfigure(config(ONE), at(7)).await;
    let buried = state.dead_letters(10).await.expect("read");
    assert_eq!(
        buried
            .iter()
            .map(|l| l.message.integration.as_str())
            .collect::<Vec<_>>(),
        ["db/webhook/0"]
    );
    for second in 7..30 {
        dispatch.flush(at(second)).await;
    }
    let waiting: Vec<String> = state
        .outbox(10)
        .await
        .expect("read")
        .into_iter()
        .map(|m| m.group_key)
        .collect();
    let wanted = [
        r#"{}:{alertname="A"}"#,
        r#"{}:{alertname="B"}"#,
        r#"{}:{alertname="C"}"#,
    ];
    assert_eq!(
        waiting, wanted,
        "A once, B anew to its new receiver, C after its wait"
    );
    dispatch.reconfigure(Arc::clone(&config(ONE)), at(31)).await;
    for second in 31..60 {
        dispatch.flush(at(second)).await;
    }
    assert_eq!(state.outbox(10).await.expect("read").len(), 3);
}

/// SEMANTICS 167: a silence is written when it is made, so it holds after a restart.
#[tokio::test]
async fn a_silence_survives_a_restart() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("state.db");
    let silence = nightbell::alerting::Silence {
        id: String::new(),
        matchers: nightbell::alerting::config::matchers::parse_matchers("n=~\"1|2\"")
            .expect("matchers"),
        starts_at: START,
        ends_at: START + Duration::from_secs(3600),
        updated_at: START,
        created_by: "me".into(),
        comment: "why".into(),
        annotations: vec![("a".into(), "b".into())],
    };
    {
        let state = State::open(&path).await.expect("a state file");
        let mut dispatch =
            Dispatch::restore(config(ONE), state.clone(), Metrics::default(), START).await;
        let id = dispatch.set_silence(silence, START).await.expect("made");
        assert_eq!((id.len(), id.as_bytes()[14]), (36, b'4'), "{id} is a UUID");
    }
    let state = State::open(&path).await.expect("a state file");
    let mut dispatch =
        Dispatch::restore(config(ONE), state.clone(), Metrics::default(), START).await;
    dispatch
        .put(
            vec![alert("alertname=A n=1", START, None, START).into()],
            START,
        )
        .await;
    dispatch.flush(START + Duration::from_secs(5)).await;
    assert_eq!(state.outbox(10).await.expect("read"), []);
}
