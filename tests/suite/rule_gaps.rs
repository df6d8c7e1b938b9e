//! Alerts whose expression has no result for them any longer: gaps, `no_data`, `recover_expr`.
//! Timelines of virtual time over a real store that targets feed as collections feed it: `up`,
//! samples, stale markers (SEMANTICS 12, 13, 15).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use nightbell::model::{Alert, Labels, METRIC_NAME, Sample, Stage, Timestamp, stale_nan};
use nightbell::promql::{Engine, parse_metric};
use nightbell::rules::RuleGroup;
use nightbell::rules::backend::Backend;
use nightbell::rules::evaluate::active::{ActiveAlert, AlertState};
use nightbell::rules::evaluate::group::{Group, Settings};
use nightbell::rules::file::parse_text;
use nightbell::store::{Limits, Store};
use proptest::prelude::{Just, Strategy, any, prop_assert_eq, prop_oneof, proptest};

use crate::live::Live;
use crate::servers::http_sink::{HttpSink, Reply};
use crate::servers::nightbell::Nightbell;
use crate::servers::redis::Redis;
use crate::servers::wait_until;

const STEP: Duration = Duration::from_secs(15);

/// What a target does at a collection.
#[derive(Clone, Debug)]
enum Does {
    /// Answers with these series, `name` or `name{label="value"}`.
    Exposes(Vec<(&'static str, f64)>),
    Fails,
    /// It is not collected.
    Nothing,
    /// It is no longer configured.
    Removed,
}

/// Rules over targets of the job `app`, one slot after another.
struct Line {
    group: Group,
    backend: Arc<Live>,
    settings: Settings,
    now: Timestamp,
    alive: BTreeMap<&'static str, BTreeSet<String>>,
    /// The state database.
    rows: BTreeMap<(String, u64), String>,
    decisions: Vec<Stage>,
}

fn definition(rules: &str) -> RuleGroup {
    let text = format!("groups:\n- name: g\n  interval: 15s\n  rules:\n{rules}");
    parse_text("f.yml", &text)
        .unwrap_or_else(|errors| panic!("{errors}"))
        .groups
        .remove(0)
}

impl Line {
    fn new(rules: &str) -> Self {
        Self::with(rules, Settings::default())
    }

    fn with(rules: &str, settings: Settings) -> Self {
        let backend = Arc::new(Live {
            engine: Engine::default(),
            store: Store::new(Limits::default()),
        });
        Line {
            group: Group::new(definition(rules), &settings),
            backend,
            settings,
            now: Timestamp(1_700_000_010_000),
            alive: BTreeMap::new(),
            rows: BTreeMap::new(),
            decisions: Vec::new(),
        }
    }

    /// The next slot: these targets are collected, then the rules are evaluated. Gives what is
    /// notified, `+x` for firing, `-x` for over.
    fn step(&mut self, targets: &[(&'static str, Does)]) -> Vec<String> {
        self.now = self.now + STEP;
        for (instance, does) in targets {
            self.collect(instance, does);
        }
        self.evaluate().iter().map(notified).collect()
    }

    /// The same with one target, some times; gives what is notified in all.
    fn steps(&mut self, count: usize, does: &Does) -> Vec<String> {
        (0..count)
            .flat_map(|_| self.step(&[("a", does.clone())]))
            .collect()
    }

    fn collect(&mut self, instance: &'static str, does: &Does) {
        let target = Labels::from_pairs([("instance", instance), ("job", "app")]);
        let mut samples: Vec<Sample> = Vec::new();
        let mut put = |labels: Labels, value: f64| {
            samples.push(Sample {
                labels,
                value,
                timestamp: None,
            })
        };
        let series = |text: &str| {
            let mut labels = parse_metric(text).expect("a series").to_builder();
            for (name, value) in &target {
                labels.set(name, value);
            }
            labels.build()
        };
        let exposed = match does {
            Does::Nothing => return,
            Does::Exposes(series) => series.clone(),
            Does::Fails | Does::Removed => Vec::new(),
        };
        let up = target.with(METRIC_NAME, "up");
        put(
            up,
            match does {
                Does::Removed => stale_nan(),
                Does::Fails => 0.0,
                _ => 1.0,
            },
        );
        exposed
            .iter()
            .for_each(|(text, value)| put(series(text), *value));
        let now: BTreeSet<String> = exposed.iter().map(|(text, _)| (*text).to_owned()).collect();
        let before = self.alive.insert(instance, now.clone()).unwrap_or_default();
        before
            .difference(&now)
            .for_each(|text| put(series(text), stale_nan()));
        self.backend.append(self.now, &samples);
    }

    fn evaluate(&mut self) -> Vec<Alert> {
        let backend: Arc<dyn Backend> = self.backend.clone();
        let outcome = self.group.eval(&backend, self.now, &self.settings);
        for row in outcome.changes.put {
            self.rows.insert((row.rule, row.fingerprint), row.body);
        }
        for gone in outcome.changes.gone {
            self.rows.remove(&gone);
        }
        self.decisions
            .extend(outcome.changes.decisions.into_iter().map(|row| row.stage));
        outcome.alerts
    }

    /// A new process, which has only the state database and, if it is kept, the history.
    fn restart(&mut self, history: bool) {
        if !history {
            self.backend = Arc::new(Live {
                engine: Engine::default(),
                store: Store::new(Limits::default()),
            });
            self.alive.clear();
        }
        let mut by_rule: BTreeMap<String, Vec<ActiveAlert>> = BTreeMap::new();
        for ((rule, _), body) in &self.rows {
            by_rule
                .entry(rule.clone())
                .or_default()
                .push(ActiveAlert::from_json(body).expect("our own text"));
        }
        self.group = Group::new(self.group.definition.clone(), &self.settings);
        self.group.restore(&mut by_rule);
    }

    fn states(&self) -> Vec<AlertState> {
        let rules = self
            .group
            .rules
            .iter()
            .filter_map(|rule| rule.alerting.as_ref());
        rules
            .flat_map(|alerting| alerting.alerts())
            .map(|alert| alert.state)
            .filter(|s| *s != AlertState::Inactive)
            .collect()
    }

    fn health(&self) -> Option<&str> {
        self.group
            .rules
            .iter()
            .find_map(|rule| rule.health.last_error.as_deref())
    }
}

fn notified(alert: &Alert) -> String {
    let labels = alert
        .labels
        .filtered(|name| name != "alertname" && name != "job")
        .braced();
    format!(
        "{}{labels}",
        if alert.ends_at.is_some() { '-' } else { '+' }
    )
}

fn shows(value: f64) -> Does {
    Does::Exposes(vec![("cpu", value)])
}

const HOT: &str = "  - {alert: Hot, expr: cpu > 90}\n";
const FIRES: [&str; 1] = ["+{instance=\"a\"}"];
const ENDS: [&str; 1] = ["-{instance=\"a\"}"];
const NOTHING: [&str; 0] = [];

/// SEMANTICS 13: a target that fails sends no false RESOLVED; when it answers again, its samples
/// decide.
#[test]
fn a_target_that_fails_ends_no_alert() {
    let mut line = Line::new(HOT);
    assert_eq!(line.steps(1, &shows(95.0)), FIRES);
    // Notified again each minute, as every alert that fires is.
    assert_eq!(line.steps(40, &Does::Fails), ["+{instance=\"a\"}"; 8]);
    assert_eq!(line.states(), [AlertState::Firing]);
    assert_eq!(line.steps(1, &shows(96.0)), NOTHING);
    assert_eq!(line.steps(1, &Does::Fails), NOTHING);
    assert_eq!(line.steps(1, &shows(50.0)), ENDS);
    let name = |stage: &Stage| {
        serde_json::to_value(stage).expect("JSON")["stage"]
            .as_str()
            .expect("a name")
            .to_owned()
    };
    let notified: Vec<String> = line.decisions.iter().map(name).collect();
    assert_eq!(
        notified,
        ["held_no_data", "hold_ended", "held_no_data", "hold_ended"]
    );
    assert_eq!(
        serde_json::to_value(&line.decisions[0]).expect("JSON")["missing"][0],
        "cpu{instance=\"a\", job=\"app\"}"
    );
}

/// SEMANTICS 12: a healthy target that stops exposing the series ends the alert, as in Prometheus.
#[test]
fn a_series_that_a_healthy_target_stops_exposing_ends_its_alert() {
    let mut line = Line::new(HOT);
    assert_eq!(line.steps(1, &shows(95.0)), FIRES);
    assert_eq!(line.steps(1, &Does::Exposes(vec![("other", 1.0)])), ENDS);
}

/// A collector says which of its parts it could not read: what such a part measured is missing by a
/// gap, until the part is read again.
#[test]
fn a_part_that_fails_holds_the_alerts_of_what_it_measures() {
    const READ: &str = "node_scrape_collector_success{collector=\"cpu\"}";
    let part = |read: f64, cpu: Option<f64>| {
        Does::Exposes(
            [
                Some((READ, read)),
                Some(("other", 1.0)),
                cpu.map(|value| ("cpu", value)),
            ]
            .into_iter()
            .flatten()
            .collect(),
        )
    };
    let mut line = Line::new(HOT);
    assert_eq!(line.steps(1, &part(1.0, Some(95.0))), FIRES);
    line.steps(40, &part(0.0, None));
    assert_eq!(line.states(), [AlertState::Firing]);
    assert_eq!(line.steps(1, &part(1.0, Some(50.0))), ENDS);
    let mut line = Line::new(HOT);
    line.steps(1, &part(1.0, Some(95.0)));
    line.steps(3, &part(0.0, None));
    assert_eq!(
        line.steps(1, &part(1.0, None)),
        ENDS,
        "the part is read, and there is no such series"
    );
}

/// The sessions of a database that was restarted are others: their sum is there, and below the
/// threshold.
#[test]
fn an_alert_whose_input_is_back_and_below_its_threshold_ends_at_once() {
    let sessions = |states: &[(&'static str, f64)]| Does::Exposes(states.to_vec());
    const IDLE: &str = "sessions{state=\"idle\"}";
    const ACTIVE: &str = "sessions{state=\"active\"}";
    let rule = "  - {alert: Many, expr: 'sum by (job, instance) (sessions) > 90'}\n";
    let mut line = Line::new(rule);
    assert_eq!(
        line.steps(1, &sessions(&[(IDLE, 50.0), (ACTIVE, 60.0)])),
        FIRES
    );
    line.steps(4, &Does::Fails);
    assert_eq!(line.steps(1, &sessions(&[(IDLE, 20.0)])), ENDS);
    // The same while the target fails in another of its parts.
    let mut line = Line::new(rule);
    line.steps(1, &sessions(&[(IDLE, 50.0), (ACTIVE, 60.0)]));
    assert_eq!(
        line.steps(
            1,
            &sessions(&[
                (IDLE, 20.0),
                ("pg_scrape_collector_success{collector=\"x\"}", 0.0)
            ])
        )
        .len(),
        1
    );
}

/// SEMANTICS 15: who removes a target wants to hear of it no more.
#[test]
fn a_target_that_is_removed_ends_its_alerts() {
    let mut line = Line::new(HOT);
    line.steps(1, &shows(95.0));
    assert_eq!(line.steps(1, &Does::Removed), ENDS);
    // From within a gap too.
    let mut line = Line::new(HOT);
    line.steps(1, &shows(95.0));
    assert_eq!(line.steps(3, &Does::Fails), NOTHING);
    assert_eq!(line.steps(1, &Does::Removed), ENDS);
}

/// A target that is not collected is such a gap, but one of which nothing is heard for an hour is
/// no target any more.
#[test]
fn a_target_that_is_not_collected_ends_no_alert_for_an_hour() {
    let mut line = Line::new(HOT);
    line.steps(1, &shows(95.0));
    assert_eq!(
        line.steps(21, &Does::Nothing)
            .iter()
            .filter(|t| t.starts_with('-'))
            .count(),
        0,
        "past the lookback"
    );
    assert_eq!(
        line.steps(1, &shows(95.0))
            .iter()
            .filter(|t| t.starts_with('-'))
            .count(),
        0
    );
    let notified = line.steps(20 + 4 * 60, &Does::Nothing);
    assert_eq!(notified.iter().filter(|t| t.starts_with('-')).count(), 0);
    assert_eq!(
        line.steps(2, &Does::Nothing)
            .iter()
            .filter(|t| t.starts_with('-'))
            .count(),
        1
    );
}

/// A gap of one instance says nothing about another.
#[test]
fn an_alert_is_held_for_its_own_target_alone() {
    let mut line = Line::new(HOT);
    assert_eq!(
        line.step(&[("a", shows(95.0)), ("b", shows(95.0))]).len(),
        2
    );
    assert_eq!(
        line.step(&[("a", Does::Fails), ("b", shows(50.0))]),
        ["-{instance=\"b\"}"]
    );
    assert_eq!(line.states(), [AlertState::Firing]);
}

/// An alert over several series is held for each target that fed it, by what a rule recorded as
/// well; a target that did not feed it, not.
#[test]
fn an_alert_over_many_series_is_held_for_each_of_its_targets() {
    for rules in [
        "  - {alert: Many, expr: sum by (job) (cpu) > 100}\n",
        "  - {alert: Many, expr: sum (cpu) > 100}\n",
        "  - {record: 'job:cpu:max', expr: max by (job) (cpu)}\n  - {alert: Many, expr: 'job:cpu:max > 90'}\n",
    ] {
        let mut line = Line::new(rules);
        assert_eq!(
            line.step(&[("a", shows(95.0)), ("b", shows(20.0))]).len(),
            1,
            "{rules}"
        );
        let failing = if rules.contains("record") {
            vec![("a", Does::Fails), ("b", Does::Fails)]
        } else {
            vec![("a", Does::Fails)]
        };
        assert_eq!(line.step(&failing), NOTHING, "{rules}");
        assert_eq!(line.states(), [AlertState::Firing], "{rules}");
        assert_eq!(
            line.step(&[("a", shows(20.0)), ("b", shows(20.0))]),
            ["-{}"],
            "{rules}"
        );
        line.step(&[("a", shows(95.0)), ("b", shows(20.0)), ("c", Does::Fails)]);
        assert_eq!(
            line.step(&[("a", shows(20.0)), ("b", shows(20.0)), ("c", Does::Fails)]),
            ["-{}"],
            "{rules}"
        );
    }
}

/// After a gap a rate has no result until there are two samples, and what is recorded of it none:
/// that ends nothing either.
#[test]
fn a_rate_that_is_not_there_yet_after_a_gap_ends_no_alert() {
    for rules in [
        "  - {alert: Errors, expr: 'rate(errors_total[2m]) > 1'}\n",
        "  - {record: 'r', expr: 'rate(errors_total[2m])'}\n  - {alert: Errors, expr: r > 1}\n",
    ] {
        let mut line = Line::new(rules);
        let counts = |value: f64| Does::Exposes(vec![("errors_total", value)]);
        line.steps(1, &counts(0.0));
        assert_eq!(line.steps(1, &counts(1000.0)), FIRES, "{rules}");
        assert_eq!(
            line.steps(12, &Does::Fails)
                .iter()
                .filter(|t| t.starts_with('-'))
                .count(),
            0,
            "{rules}"
        );
        assert_eq!(
            line.steps(1, &counts(5000.0))
                .iter()
                .filter(|t| t.starts_with('-'))
                .count(),
            0,
            "one sample, {rules}"
        );
        assert_eq!(line.states(), [AlertState::Firing], "{rules}");
        assert_eq!(line.steps(1, &counts(5000.0)), ENDS, "{rules}");
    }
}

/// A pending alert waits through a gap and fires when the condition holds after it; it does not
/// fire unseen.
#[test]
fn a_pending_alert_waits_through_a_gap() {
    let mut line = Line::new("  - {alert: Hot, expr: cpu > 90, for: 1m}\n");
    line.steps(1, &shows(95.0));
    assert_eq!(line.steps(10, &Does::Fails), NOTHING);
    assert_eq!(line.states(), [AlertState::Pending]);
    assert_eq!(line.steps(1, &shows(95.0)), FIRES);
}

/// `no_data: resolve` ends an alert as Prometheus does, and so does a rule test that says nothing.
#[test]
fn no_data_resolve_follows_prometheus() {
    let mut line = Line::new("  - {alert: Hot, expr: cpu > 90, no_data: resolve}\n");
    line.steps(1, &shows(95.0));
    assert_eq!(line.steps(1, &Does::Fails), ENDS);
    let mut line = Line::with(
        HOT,
        Settings {
            hold_gaps: false,
            ..Settings::default()
        },
    );
    line.steps(1, &shows(95.0));
    assert_eq!(line.steps(1, &Does::Fails), ENDS);
}

/// `no_data: hold` keeps an alert whatever its input is missing for, through restarts, until the
/// input is back.
#[test]
fn no_data_hold_keeps_an_alert_until_its_input_is_back() {
    for missing in [Does::Exposes(Vec::new()), Does::Fails, Does::Removed] {
        let mut line = Line::new("  - {alert: Hot, expr: cpu > 90, no_data: hold}\n");
        line.steps(1, &shows(95.0));
        line.steps(1, &missing);
        line.restart(true);
        line.steps(30, &missing);
        assert_eq!(line.states(), [AlertState::Firing], "{missing:?}");
        assert_eq!(line.steps(1, &shows(50.0)), ENDS, "{missing:?}");
    }
}

/// `no_data: alert` raises the alert with the labels of the selector when it finds nothing, after
/// `for`, until there are data.
#[test]
fn no_data_alert_raises_the_alert_when_there_are_no_data() {
    let mut line = Line::new(
        "  - {alert: Hot, expr: 'cpu{mode=\"user\",cpu=~\"0|1\"} > 90', for: 30s, no_data: alert}\n",
    );
    assert_eq!(line.steps(2, &Does::Exposes(Vec::new())), NOTHING);
    assert_eq!(
        line.steps(1, &Does::Exposes(Vec::new())),
        ["+{mode=\"user\"}"],
        "as absent() gives them"
    );
    assert_eq!(
        line.steps(
            1,
            &Does::Exposes(vec![("cpu{mode=\"user\", cpu=\"0\"}", 10.0)])
        ),
        ["-{mode=\"user\"}"]
    );
    let notified = line.steps(
        3,
        &Does::Exposes(vec![("cpu{mode=\"user\", cpu=\"0\"}", 95.0)]),
    );
    assert_eq!(
        notified,
        ["+{cpu=\"0\", instance=\"a\", mode=\"user\"}"],
        "and its ordinary alerts"
    );
    // An alert that fires is held while its target fails; that there are no data is notified
    // besides.
    let notified = line.steps(3, &Does::Fails);
    assert!(
        notified.contains(&"+{mode=\"user\"}".to_owned())
            && notified.iter().all(|t| t.starts_with('+')),
        "{notified:?}"
    );
}

const HYSTERESIS: &str = "  - {alert: Hot, expr: cpu > 90, recover_expr: cpu < 70}\n";

/// Once firing, an alert goes on until `recover_expr` has a series with its labels; reload and
/// restart change nothing.
#[test]
fn an_alert_fires_until_its_recovery() {
    let mut line = Line::new(HYSTERESIS);
    assert_eq!(line.steps(2, &shows(80.0)), NOTHING, "not pending either");
    assert_eq!(line.steps(1, &shows(95.0)), FIRES);
    assert_eq!(line.steps(2, &shows(80.0)), NOTHING);
    assert!(
        matches!(line.decisions.last(), Some(Stage::NotRecovered { expression, .. }) if expression == "cpu < 70")
    );
    line.restart(true);
    assert_eq!(
        line.steps(1, &shows(80.0)),
        FIRES,
        "notified again after a restart, as every alert"
    );
    // A changed key keeps the alert.
    let changed = Group::new(
        definition("  - {alert: Hot, expr: cpu > 90, recover_expr: cpu < 60}\n"),
        &line.settings,
    );
    let old = std::mem::replace(&mut line.group, changed);
    line.group.inherit(old, line.now, &line.settings);
    assert_eq!(
        line.step(&[("a", shows(65.0)), ("b", shows(10.0))]),
        NOTHING,
        "another series recovered, not its own"
    );
    assert_eq!(line.steps(1, &Does::Fails), NOTHING, "nor does a gap");
    assert_eq!(line.steps(1, &shows(65.0)), NOTHING);
    assert_eq!(line.steps(1, &shows(55.0)), ENDS);
}

/// A series that a healthy target stops exposing has nothing left to recover.
#[test]
fn an_alert_whose_series_is_gone_does_not_wait_for_its_recovery() {
    let mut line = Line::new(HYSTERESIS);
    line.steps(1, &shows(95.0));
    line.steps(1, &shows(80.0));
    assert_eq!(line.steps(1, &Does::Exposes(Vec::new())), ENDS);
}

/// `keep_firing_for` begins with the recovery, and begins anew when the alert is no longer
/// recovered.
#[test]
fn keep_firing_for_begins_with_the_recovery() {
    let mut line = Line::new(
        "  - {alert: Hot, expr: cpu > 90, recover_expr: cpu < 70, keep_firing_for: 30s}\n",
    );
    line.steps(1, &shows(95.0));
    let ended = |notified: Vec<String>| notified.iter().any(|t| t.starts_with('-'));
    assert!(!ended(line.steps(4, &shows(80.0))));
    assert!(!ended(line.steps(2, &shows(60.0))));
    assert!(!ended(line.steps(1, &shows(80.0))));
    assert!(!ended(line.steps(2, &shows(60.0))));
    assert!(ended(line.steps(1, &shows(60.0))));
}

/// A recovery without labels, or a scalar other than 0, is that of every alert; an error leaves
/// them and shows in the rule's health.
#[test]
fn a_recovery_without_labels_is_that_of_every_alert() {
    for (recovery, quiet, calm) in [
        ("vector(1) and on () (sum(cpu) < 100)", 80.0, 40.0),
        ("scalar(cpu{instance=\"a\"} < bool 70)", 80.0, 40.0),
    ] {
        let mut line = Line::new(&format!(
            "  - {{alert: Hot, expr: cpu > 90, recover_expr: '{recovery}'}}\n"
        ));
        line.step(&[("a", shows(95.0)), ("b", shows(95.0))]);
        assert_eq!(
            line.step(&[("a", shows(quiet)), ("b", shows(80.0))]),
            NOTHING,
            "{recovery}"
        );
        assert_eq!(
            line.step(&[("a", shows(calm)), ("b", shows(calm))]).len(),
            2,
            "{recovery}"
        );
    }
    let mut line =
        Line::new("  - {alert: Hot, expr: cpu > 90, recover_expr: 'cpu + on (job) cpu < 1'}\n");
    line.step(&[("a", shows(95.0)), ("b", shows(80.0))]);
    assert_eq!(line.health(), None);
    assert_eq!(
        line.step(&[("a", shows(10.0)), ("b", shows(95.0))]),
        ["+{instance=\"b\"}"],
        "other alerts are judged all the same"
    );
    assert_eq!(line.states(), [AlertState::Firing, AlertState::Firing]);
    assert!(
        line.health()
            .is_some_and(|error| error.starts_with("recover_expr: ")),
        "{:?}",
        line.health()
    );
}

/// A restart within a gap ends nothing, though the history of the time before may be gone and the
/// target not collected yet.
#[test]
fn a_restart_within_a_gap_ends_no_alert() {
    for history in [true, false] {
        let mut line = Line::new(HOT);
        line.steps(1, &shows(95.0));
        line.steps(2, &Does::Fails);
        line.restart(history);
        assert_eq!(line.steps(2, &Does::Nothing), FIRES, "history: {history}");
        assert_eq!(line.steps(2, &Does::Fails), NOTHING, "history: {history}");
        assert_eq!(line.steps(1, &shows(50.0)), ENDS, "history: {history}");

        let mut line = Line::new(HOT);
        line.steps(1, &shows(95.0));
        line.restart(history);
        line.now = line.now + Duration::from_secs(7200);
        assert_eq!(line.steps(1, &Does::Nothing), FIRES, "history: {history}");
        assert_eq!(line.steps(1, &shows(50.0)), ENDS, "history: {history}");
    }
}

fn does() -> impl Strategy<Value = Does> {
    prop_oneof![
        6 => (0..10_u8).prop_map(|v| shows(f64::from(v) * 10.0 + 5.0)),
        2 => Just(Does::Fails),
        1 => Just(Does::Exposes(Vec::new())),
        1 => Just(Does::Nothing),
    ]
}

/// Who was notified of what, each firing once.
fn run(rule: &str, stream: &[[Does; 2]], restarts: &[bool]) -> BTreeSet<String> {
    let mut line = Line::new(rule);
    let mut all = BTreeSet::new();
    for ([a, b], restart) in stream.iter().zip(restarts) {
        if *restart {
            line.restart(true);
        }
        line.now = line.now + STEP;
        line.collect("a", a);
        line.collect("b", b);
        all.extend(
            line.evaluate()
                .iter()
                .map(|alert| format!("{} {:?} {:?}", alert.labels, alert.starts_at, alert.ends_at)),
        );
    }
    all
}

proptest! {
    /// Restarts at any evaluation give the same alerts as none, whatever the targets do and the
    /// rule says.
    #[test]
    fn restarts_change_no_alert_in_gaps(
        stream in proptest::collection::vec([does(), does()], 1..40),
        restarts in proptest::collection::vec(any::<bool>(), 40),
        rule in 0..5_usize,
    ) {
        let rule = [
            HOT,
            HYSTERESIS,
            "  - {alert: Hot, expr: cpu > 60, for: 30s, recover_expr: cpu < 30, keep_firing_for: 30s}\n",
            "  - {alert: Hot, expr: cpu > 60, no_data: hold}\n",
            "  - {alert: Hot, expr: cpu > 60, for: 30s, no_data: alert}\n",
        ][rule];
        prop_assert_eq!(run(rule, &stream, &restarts), run(rule, &stream, &[false; 40]));
    }
}

/// A collector of ours that hangs, or errs, is such a gap too. The built binary beside a real
/// Redis.
#[test]
fn a_collector_that_hangs_or_errs_ends_no_alert() {
    let mut redis = Redis::start(&[]);
    let sink = HttpSink::start([Reply::Answer(200, "", "{}")]);
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("rules.yml");
    std::fs::write(
        &file,
        "groups:\n- name: g\n  rules:\n  - {alert: Clients, expr: redis_connected_clients > 0}\n",
    )
    .expect("written");
    let nightbell = Nightbell::start(&format!(
        "global: {{scrape_interval: 500ms, scrape_timeout: 500ms, evaluation_interval: 500ms}}\nrules: {{shipped: false}}\n\
         rule_files: ['{}']\ncollectors:\n  redis: [{{name: cache, url: '{}'}}]\n\
         route: {{receiver: hook, group_wait: 0s, group_interval: 500ms}}\n\
         receivers: [{{name: hook, webhook_configs: [{{url: '{}'}}]}}]\n",
        file.display(),
        redis.url(),
        sink.url
    ));
    let stage = || -> String {
        let answer: serde_json::Value =
            serde_json::from_str(&nightbell.get("/api/nightbell/why?alert=Clients").1)
                .expect("JSON");
        answer["answers"][0]["stage"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    };
    let notified = || matches!(stage().as_str(), "delivered" | "deduplicated");
    let held = || stage() == "held_no_data";
    wait_until("the alert is notified", Duration::from_secs(20), notified);
    redis.cli(&["CLIENT", "PAUSE", "4000", "ALL"]);
    wait_until("the collector hangs", Duration::from_secs(20), held);
    wait_until("it answers again", Duration::from_secs(20), notified);
    redis.stop();
    wait_until("the collector errs", Duration::from_secs(20), held);
    redis.resume();
    wait_until("it answers again", Duration::from_secs(20), notified);
    let bodies: Vec<String> = sink
        .requests()
        .into_iter()
        .map(|request| request.body)
        .collect();
    assert!(
        bodies.len() == 1 && !bodies[0].contains("resolved\""),
        "one message, of its beginning: {bodies:?}"
    );
}

/// A collection that times out writes the end of its series late, at the instant that it began: an
/// evaluation of that instant has passed.
#[test]
fn an_end_that_comes_in_late_ends_no_alert() {
    let mut line = Line::new(HOT);
    assert_eq!(line.steps(1, &shows(95.0)), FIRES);
    // The slot is judged by the samples before it; then the collection of this slot ends in
    // failure.
    line.now = line.now + STEP;
    assert!(line.evaluate().is_empty());
    line.collect("a", &Does::Fails);
    assert_eq!(line.steps(1, &Does::Nothing), NOTHING);
    assert_eq!(line.states(), [AlertState::Firing]);
    assert_eq!(line.steps(1, &shows(50.0)), ENDS);
}
