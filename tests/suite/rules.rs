//! The rule engine on timelines of virtual time: a backend that answers each expression from a
//! script.

mod scheduler;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use nightbell::config::Position;
use nightbell::model::{Alert, Labels, METRIC_NAME, Sample, Stage, Timestamp, is_stale};
use nightbell::promql::syntax::ast::{Expr, Span, VectorSelector};
use nightbell::promql::{EvalError, VectorSample};
use nightbell::rules::backend::{self, Backend};
use nightbell::rules::error::RuleError;
use nightbell::rules::evaluate::active::{ActiveAlert, AlertState};
use nightbell::rules::evaluate::group::{Group, Settings};
use nightbell::rules::file::parse_text;
use nightbell::rules::{AlertingRule, RecordingRule, Rule, RuleGroup};
use nightbell::state::RuleAlertRow;
use parking_lot::Mutex;
use proptest::prelude::{Just, Strategy, any, prop_assert_eq, prop_oneof, proptest};

type Hits = Result<Vec<(Labels, f64)>, EvalError>;
type Stored = Vec<(Timestamp, Labels, f64)>;

/// Answers a selector by its name: from the script, otherwise with what was stored at that instant.
#[derive(Default)]
struct Script {
    answers: Mutex<BTreeMap<String, Hits>>,
    stored: Mutex<Stored>,
}

impl Script {
    fn set(&self, name: &str, hits: Hits) {
        self.answers.lock().insert(name.to_owned(), hits);
    }

    fn stored(&self, name: &str, at: i64) -> Vec<(Labels, f64)> {
        let stored = self.stored.lock();
        stored
            .iter()
            .filter(|(t, l, _)| t.0 == at && l.metric_name() == name)
            .map(|(_, l, v)| (l.clone(), *v))
            .collect()
    }
}

impl Backend for Script {
    fn query(&self, expr: &Expr, at: Timestamp) -> backend::Hits {
        let Expr::VectorSelector(selector) = expr else {
            return Err(RuleError::NotAVector);
        };
        let answer = match self.answers.lock().get(&selector.name) {
            Some(answer) => answer.clone()?,
            None => self.stored(&selector.name, at.0),
        };
        Ok(answer.into_iter().map(VectorSample::from).collect())
    }

    fn query_text(&self, text: &str, at: Timestamp) -> backend::Hits {
        self.query(&selector(text), at)
    }

    fn append(&self, at: Timestamp, samples: &[Sample]) {
        self.stored
            .lock()
            .extend(samples.iter().map(|s| (at, s.labels.clone(), s.value)));
    }
}

fn selector(name: &str) -> Expr {
    Expr::VectorSelector(VectorSelector {
        name: name.to_owned(),
        matchers: Vec::new(),
        offset: 0,
        at: None,
        may_match_all: false,
        span: Span::default(),
    })
}

fn alert(name: &str, hold: u64, keep: u64) -> AlertingRule {
    AlertingRule {
        name: name.to_owned(),
        expr: selector("m"),
        expr_text: "m".into(),
        hold: Duration::from_secs(hold),
        keep_firing_for: Duration::from_secs(keep),
        recover_expr: None,
        no_data: None,
        labels: Labels::from_pairs([("severity", "page")]),
        annotations: Labels::from_pairs([("summary", "{{ $labels.i }} is at {{ $value }}")]),
        position: Position::default(),
        selectors: Vec::new(),
    }
}

fn group(rules: Vec<Rule>) -> RuleGroup {
    RuleGroup {
        name: "g".into(),
        file: "f.yml".into(),
        interval: Some(Duration::from_secs(60)),
        query_offset: None,
        limit: 0,
        labels: Labels::empty(),
        shipped: false,
        wanted: std::collections::BTreeMap::new(),
        rules,
    }
}

fn hit(instance: &str, value: f64) -> (Labels, f64) {
    (
        Labels::from_pairs([(METRIC_NAME, "m"), ("i", instance)]),
        value,
    )
}

/// A group with its script, stepped minute by minute.
struct Timeline {
    group: Group,
    script: Arc<Script>,
    settings: Settings,
}

impl Timeline {
    fn new(definition: RuleGroup) -> Self {
        let settings = Settings {
            external_url: "http://bell/".into(),
            ..Settings::default()
        };
        Timeline {
            group: Group::new(definition, &settings),
            script: Arc::default(),
            settings,
        }
    }

    fn step(&mut self, minute: i64, hits: Hits) -> Vec<Alert> {
        self.script.set("m", hits);
        let backend: Arc<dyn Backend> = self.script.clone();
        self.group
            .eval(&backend, Timestamp(minute * 60_000), &self.settings)
            .alerts
    }

    fn states(&self) -> Vec<(AlertState, i64)> {
        let alerting = self.group.rules[0]
            .alerting
            .as_ref()
            .expect("an alerting rule");
        alerting
            .alerts()
            .map(|a| (a.state, a.active_at.0 / 60_000))
            .collect()
    }
}

/// SEMANTICS 112, 113, 122: pending from the first hit, firing once `for` has passed; notified with
/// labels, texts, value and peak.
#[test]
fn an_alert_fires_when_its_expression_held_for_long_enough() {
    let mut line = Timeline::new(group(vec![Rule::Alerting(alert("A", 120, 0))]));
    assert!(line.step(1, Ok(vec![hit("x", 5.0)])).is_empty());
    assert!(line.step(2, Ok(vec![hit("x", 9.0)])).is_empty());
    assert_eq!(line.states(), [(AlertState::Pending, 1)]);
    let notified = line.step(3, Ok(vec![hit("x", 7.0)]));
    assert_eq!(line.states(), [(AlertState::Firing, 1)]);
    assert_eq!(notified.len(), 1);
    assert_eq!(
        notified[0].labels,
        Labels::from_pairs([("alertname", "A"), ("i", "x"), ("severity", "page")])
    );
    assert_eq!(notified[0].annotations.value("summary"), "x is at 7");
    assert_eq!(
        (
            notified[0].starts_at.0,
            notified[0].ends_at,
            notified[0].value,
            notified[0].peak
        ),
        (180_000, None, Some(7.0), Some(9.0))
    );
    assert_eq!(
        notified[0].generator_url,
        "http://bell/graph?g0.expr=m&g0.tab=1"
    );
}

/// SEMANTICS 112: the annotations of an alert that goes on are those of its last value, notified or
/// not.
#[test]
fn annotations_follow_the_value_from_evaluation_to_evaluation() {
    let mut line = Timeline::new(group(vec![Rule::Alerting(alert("A", 120, 120))]));
    let summary = |line: &Timeline| {
        let alerting = line.group.rules[0]
            .alerting
            .as_ref()
            .expect("an alerting rule");
        alerting
            .alerts()
            .map(|a| a.annotations.value("summary").to_owned())
            .collect::<Vec<_>>()
            .join(",")
    };
    for (minute, value) in [(1, 5.0), (2, 6.0), (3, 7.0), (4, 8.5), (5, 9.0)] {
        line.step(minute, Ok(vec![hit("x", value)]));
        assert_eq!(
            summary(&line),
            format!("x is at {value}"),
            "minute {minute}"
        );
    }
    line.step(6, Ok(vec![]));
    assert_eq!(
        summary(&line),
        "x is at 9",
        "held by keep_firing_for, as it was"
    );
    let mut changed = alert("A", 120, 120);
    changed.annotations = Labels::from_pairs([("summary", "new")]);
    let after = Group::new(group(vec![Rule::Alerting(changed)]), &line.settings);
    let before = std::mem::replace(&mut line.group, after);
    line.group
        .inherit(before, Timestamp(390_000), &line.settings);
    line.step(7, Ok(vec![hit("x", 9.0)]));
    assert_eq!(summary(&line), "new", "the same value under a changed rule");
}

/// SEMANTICS 109, 111: a label set to nothing is taken away from what the rule finds.
#[test]
fn a_label_that_a_rule_sets_to_nothing_is_taken_away() {
    let file = "groups:\n- name: g\n  labels: {tier: web}\n  rules:\n  - {alert: A, expr: m, labels: {i: '', tier: ''}}\n";
    let groups = nightbell::rules::file::parse_text("f.yml", file)
        .expect("valid")
        .groups;
    let mut line = Timeline::new(groups.into_iter().next().expect("one group"));
    let hit = (
        Labels::from_pairs([(METRIC_NAME, "m"), ("i", "x"), ("tier", "db"), ("job", "j")]),
        1.0,
    );
    assert_eq!(
        line.step(1, Ok(vec![hit]))[0].labels,
        Labels::from_pairs([("alertname", "A"), ("job", "j")])
    );
    let stored = line.script.stored("ALERTS", 60_000);
    assert_eq!(
        stored[0].0.to_string(),
        r#"ALERTS{alertname="A", alertstate="firing", job="j"}"#
    );
}

/// SEMANTICS 113: `for: 0` fires in the first evaluation.
#[test]
fn without_for_the_first_evaluation_fires() {
    let mut line = Timeline::new(group(vec![Rule::Alerting(alert("A", 0, 0))]));
    assert_eq!(
        line.step(1, Ok(vec![hit("x", 1.0), hit("y", 1.0)])).len(),
        2
    );
}

/// SEMANTICS 115: a pending alert that vanishes was never there.
#[test]
fn a_pending_alert_vanishes_unnotified() {
    let mut line = Timeline::new(group(vec![Rule::Alerting(alert("A", 120, 0))]));
    line.step(1, Ok(vec![hit("x", 1.0)]));
    assert!(line.step(2, Ok(vec![])).is_empty());
    assert!(line.states().is_empty());
    line.step(3, Ok(vec![hit("x", 1.0)]));
    assert_eq!(line.states(), [(AlertState::Pending, 3)]);
}

/// SEMANTICS 116, 117, 121: the end is notified at once, notified again for 15 minutes, then
/// forgotten; a new start is a new cycle.
#[test]
fn the_end_is_notified_and_kept_for_fifteen_minutes() {
    let mut line = Timeline::new(group(vec![Rule::Alerting(alert("A", 0, 0))]));
    line.step(1, Ok(vec![hit("x", 1.0)]));
    let notified = line.step(2, Ok(vec![]));
    assert_eq!(notified[0].ends_at, Some(Timestamp(120_000)));
    assert_eq!(notified[0].annotations.value("summary"), "x is at 1");
    let later: Vec<i64> = (3..=20)
        .filter(|minute| !line.step(*minute, Ok(vec![])).is_empty())
        .collect();
    assert_eq!(later, [4, 6, 8, 10, 12, 14, 16]);
    assert!(line.states().is_empty());
    let notified = line.step(21, Ok(vec![hit("x", 2.0)]));
    assert_eq!(
        (notified[0].starts_at.0, notified[0].peak),
        (21 * 60_000, Some(2.0))
    );
}

/// SEMANTICS 116: keep_firing_for bridges gaps; the value stays what it was.
#[test]
fn keep_firing_for_bridges_a_gap() {
    let mut line = Timeline::new(group(vec![Rule::Alerting(alert("A", 0, 120))]));
    line.step(1, Ok(vec![hit("x", 4.0)]));
    line.step(2, Ok(vec![]));
    line.step(3, Ok(vec![hit("x", 3.0)]));
    for minute in [4, 5] {
        line.step(minute, Ok(vec![]));
        assert_eq!(line.states(), [(AlertState::Firing, 1)], "minute {minute}");
    }
    let notified = line.step(6, Ok(vec![]));
    // The value of the end is looked up with the evidence, which is off here.
    assert_eq!(
        (notified[0].ends_at, notified[0].value, notified[0].peak),
        (Some(Timestamp(360_000)), None, Some(4.0))
    );
}

/// SEMANTICS 119 [choice]: an evaluation error leaves every alert as it was.
#[test]
fn an_error_changes_no_alert() {
    let mut line = Timeline::new(group(vec![Rule::Alerting(alert("A", 0, 0))]));
    line.step(1, Ok(vec![hit("x", 1.0)]));
    assert!(
        line.step(2, Err(EvalError::Execution("no".into())))
            .is_empty()
    );
    assert_eq!(line.states(), [(AlertState::Firing, 1)]);
    assert_eq!(
        (
            line.group.rules[0].health.as_str(),
            line.group.rules[0].health.last_error.as_deref()
        ),
        ("err", Some("no"))
    );
    assert!(line.script.stored("ALERTS", 120_000).is_empty());
}

/// SEMANTICS 111, 118 [choice]: equal labels or too many alerts fail the evaluation and lose
/// nothing.
#[test]
fn equal_labels_and_too_many_alerts_fail_the_evaluation() {
    let mut definition = group(vec![Rule::Alerting(alert("A", 0, 0))]);
    definition.limit = 1;
    let mut line = Timeline::new(definition);
    line.step(1, Ok(vec![hit("x", 1.0)]));
    line.step(2, Ok(vec![hit("x", 1.0), hit("y", 1.0)]));
    assert_eq!(
        line.group.rules[0].health.last_error.as_deref(),
        Some("exceeded limit of 1 with 2 alerts")
    );
    assert_eq!(line.states(), [(AlertState::Firing, 1)]);
    let twin = (Labels::from_pairs([("i", "x")]), 1.0);
    line.step(3, Ok(vec![hit("x", 1.0), twin]));
    let error = line.group.rules[0]
        .health
        .last_error
        .clone()
        .expect("an error");
    assert_eq!(
        error,
        "vector contains metrics with the same labelset after applying alert labels"
    );
}

/// SEMANTICS 124: ALERTS and ALERTS_FOR_STATE, with stale markers when the state changes or ends.
#[test]
fn synthetic_series_follow_the_state() {
    let mut line = Timeline::new(group(vec![Rule::Alerting(alert("A", 60, 0))]));
    line.step(1, Ok(vec![hit("x", 1.0)]));
    let pending = line.script.stored("ALERTS", 60_000);
    assert_eq!(
        pending[0].0.to_string(),
        r#"ALERTS{alertname="A", alertstate="pending", i="x", severity="page"}"#
    );
    line.step(2, Ok(vec![hit("x", 1.0)]));
    let both = line.script.stored("ALERTS", 120_000);
    assert!(
        both.iter()
            .any(|(l, v)| l.value("alertstate") == "firing" && *v == 1.0)
    );
    assert!(
        both.iter()
            .any(|(l, v)| l.value("alertstate") == "pending" && is_stale(*v))
    );
    assert_eq!(line.script.stored("ALERTS_FOR_STATE", 120_000)[0].1, 60.0);
    line.step(3, Ok(vec![]));
    assert!(
        line.script
            .stored("ALERTS_FOR_STATE", 180_000)
            .iter()
            .all(|(_, v)| is_stale(*v))
    );
    line.step(4, Ok(vec![]));
    assert!(line.script.stored("ALERTS", 240_000).is_empty());
}

/// SEMANTICS 101, 109: a recorded series has the rule's name and labels, and the next rule sees it
/// at the same instant.
#[test]
fn a_rule_sees_what_the_rule_before_it_recorded() {
    let recording = RecordingRule {
        name: "r".into(),
        expr: selector("m"),
        expr_text: "m".into(),
        labels: Labels::from_pairs([("by", "rule")]),
        position: Position::default(),
        selectors: Vec::new(),
    };
    let mut reader = alert("A", 0, 0);
    reader.expr = selector("r");
    let mut line = Timeline::new(group(vec![
        Rule::Recording(recording),
        Rule::Alerting(reader),
    ]));
    let notified = line.step(1, Ok(vec![hit("x", 3.0)]));
    assert_eq!(
        line.script.stored("r", 60_000)[0].0.to_string(),
        r#"r{by="rule", i="x"}"#
    );
    assert_eq!(notified[0].value, Some(3.0));
    line.step(2, Ok(vec![]));
    assert!(is_stale(line.script.stored("r", 120_000)[0].1));
}

/// SEMANTICS 18, 110, 120: over its limit a recording rule writes nothing, neither samples nor
/// markers; health is unknown, then ok or err.
#[test]
fn a_recording_rule_that_fails_writes_nothing() {
    let recording = RecordingRule {
        name: "r".into(),
        expr: selector("m"),
        expr_text: "m".into(),
        labels: Labels::empty(),
        position: Position::default(),
        selectors: Vec::new(),
    };
    let mut definition = group(vec![Rule::Recording(recording)]);
    definition.limit = 1;
    let mut line = Timeline::new(definition);
    let health = |line: &Timeline| line.group.rules[0].health.as_str();
    assert_eq!(health(&line), "unknown");
    line.step(1, Ok(vec![hit("x", 1.0)]));
    assert_eq!(health(&line), "ok");
    line.step(2, Ok(vec![hit("y", 1.0), hit("z", 1.0)]));
    assert_eq!(
        (health(&line), line.script.stored("r", 120_000).len()),
        ("err", 0)
    );
    assert_eq!(
        line.group.rules[0].health.last_error.as_deref(),
        Some("exceeded limit of 1 with 2 series")
    );
    line.step(3, Err(EvalError::Execution("broken".into())));
    assert_eq!(
        (health(&line), line.script.stored("r", 180_000).len()),
        ("err", 0)
    );
    // What the last good evaluation wrote and this one lacks is marked now.
    line.step(4, Ok(vec![hit("y", 2.0)]));
    let ended: Vec<bool> = line
        .script
        .stored("r", 240_000)
        .iter()
        .map(|(_, v)| is_stale(*v))
        .collect();
    assert_eq!(ended.iter().filter(|ended| **ended).count(), 1);
    assert_eq!((health(&line), ended.len()), ("ok", 2));
}

/// SEMANTICS 123: external labels are added where the alert lacks them, only to what is notified.
#[test]
fn external_labels_are_notified_and_not_stored() {
    let mut line = Timeline::new(group(vec![Rule::Alerting(alert("A", 0, 0))]));
    line.settings.external_labels = Labels::from_pairs([("region", "eu"), ("severity", "none")]);
    let notified = line.step(1, Ok(vec![hit("x", 1.0)]));
    assert_eq!(
        (
            notified[0].labels.value("region"),
            notified[0].labels.value("severity")
        ),
        ("eu", "page")
    );
    let stored = line.script.stored("ALERTS", 60_000);
    assert_eq!((stored.len(), stored[0].0.value("region")), (1, ""));
}

/// SEMANTICS 102: queries and outputs stand at the slot minus the offset, ages at the slot.
#[test]
fn a_query_offset_moves_queries_and_outputs() {
    let mut definition = group(vec![Rule::Alerting(alert("A", 0, 0))]);
    definition.query_offset = Some(Duration::from_secs(10));
    let mut line = Timeline::new(definition);
    let notified = line.step(1, Ok(vec![hit("x", 1.0)]));
    assert_eq!(notified[0].starts_at.0, 60_000);
    assert_eq!(line.script.stored("ALERTS", 50_000).len(), 1);
}

/// SEMANTICS 106, 107 [choice], 114: a changed rule keeps its alerts, a removed one resolves them
/// and ends its series.
#[test]
fn a_changed_rule_keeps_its_alerts_and_a_removed_one_resolves_them() {
    let mut line = Timeline::new(group(vec![
        Rule::Alerting(alert("A", 0, 0)),
        Rule::Alerting(alert("B", 0, 0)),
    ]));
    line.step(1, Ok(vec![hit("x", 1.0)]));
    let old = std::mem::replace(
        &mut line.group,
        Group::new(
            group(vec![Rule::Alerting(alert("A", 600, 0))]),
            &line.settings,
        ),
    );
    let outcome = line.group.inherit(old, Timestamp(90_000), &line.settings);
    assert_eq!(outcome.alerts.len(), 1);
    assert_eq!(
        (outcome.alerts[0].name(), outcome.alerts[0].ends_at),
        ("B", Some(Timestamp(90_000)))
    );
    line.step(2, Ok(vec![hit("x", 1.0)]));
    assert_eq!(line.states(), [(AlertState::Pending, 1)]);
    let ended = line.script.stored("ALERTS", 120_000);
    assert!(
        ended
            .iter()
            .any(|(l, v)| l.value("alertname") == "B" && is_stale(*v))
    );
}

/// The group again, as a new process would find it: only what the state database was given.
fn restarted(line: &Timeline, rows: &BTreeMap<(String, u64), String>) -> Group {
    let mut by_rule: BTreeMap<String, Vec<ActiveAlert>> = BTreeMap::new();
    for ((rule, _), body) in rows {
        by_rule
            .entry(rule.clone())
            .or_default()
            .push(ActiveAlert::from_json(body).expect("our own text"));
    }
    let mut group = Group::new(line.group.definition.clone(), &line.settings);
    group.restore(&mut by_rule);
    group
}

/// Each alert that was notified, once: what a person sees, whatever was sent again.
fn run(stream: &[Hits], restarts: &[bool]) -> BTreeMap<(String, i64, Option<i64>), Option<String>> {
    let mut line = Timeline::new(group(vec![Rule::Alerting(alert("A", 120, 180))]));
    let mut rows: BTreeMap<(String, u64), String> = BTreeMap::new();
    let mut notified = BTreeMap::new();
    for (index, hits) in stream.iter().enumerate() {
        if restarts.get(index).copied().unwrap_or(false) {
            line.group = restarted(&line, &rows);
        }
        line.script.set("m", hits.clone());
        let backend: Arc<dyn Backend> = line.script.clone();
        let outcome = line
            .group
            .eval(&backend, Timestamp(index as i64 * 60_000), &line.settings);
        for RuleAlertRow {
            rule,
            fingerprint,
            body,
        } in outcome.changes.put
        {
            rows.insert((rule, fingerprint), body);
        }
        for gone in outcome.changes.gone {
            rows.remove(&gone);
        }
        for alert in outcome.alerts {
            // The value of a resolved alert is its last one; of a firing one it depends on when it
            // was sent.
            let end = alert
                .ends_at
                .map(|_| format!("{:?} {:?}", alert.value, alert.peak));
            notified
                .entry((
                    alert.labels.to_string(),
                    alert.starts_at.0,
                    alert.ends_at.map(|t| t.0),
                ))
                .or_insert(end);
        }
    }
    notified
}

fn hits() -> impl Strategy<Value = Hits> {
    let one = |name: &'static str| {
        prop_oneof![
            Just(Vec::new()),
            (0..9_u8).prop_map(move |v| vec![hit(name, f64::from(v))])
        ]
    };
    prop_oneof![
        1 => Just(Err(EvalError::Execution("no".into()))),
        9 => (one("x"), one("y")).prop_map(|(mut x, y)| { x.extend(y); Ok(x) }),
    ]
}

proptest! {
    /// SEMANTICS 125-128 [choice]: restarts at any evaluation give the same alerts as none.
    #[test]
    fn restarts_change_no_alert(
        stream in proptest::collection::vec(hits(), 1..40),
        restarts in proptest::collection::vec(any::<bool>(), 40),
    ) {
        prop_assert_eq!(run(&stream, &restarts), run(&stream, &[]));
    }
}

/// SEMANTICS 96: a template that Go refuses is a mistake of the file, at its place.
#[test]
fn a_broken_template_is_refused_at_load() {
    let text = "groups:\n- name: g\n  rules:\n  - alert: A\n    expr: up == 0\n    annotations:\n      a: '{{ nope }}'\n      b: '{{ $value }}'\n";
    let errors = parse_text("f.yml", text).expect_err("refused").to_string();
    assert!(
        errors.contains("7:10: group \"g\", rule 1, \"A\": annotation \"a\": template: __alert_A:1: function \"nope\" not defined"),
        "{errors}"
    );
    assert!(!errors.contains("annotation \"b\""), "{errors}");
}

/// SEMANTICS 124, as Prometheus 3.5 was seen to do: a label whose template comes out empty is not
/// on the alert, but stands in `ALERTS` and `ALERTS_FOR_STATE` as the rule writes it; a label that
/// is empty in the file stands nowhere.
#[test]
fn a_label_that_expands_to_nothing_stands_in_the_series_as_it_is_written() {
    let mut rule = alert("Empty", 0, 0);
    rule.labels = Labels::from_pairs([
        ("empty", "{{ $labels.nothing }}"),
        ("full", "{{ $value }}"),
        ("plain", "x"),
        ("gone", ""),
    ]);
    let mut line = Timeline::new(group(vec![Rule::Alerting(rule)]));
    let alerts = line.step(1, Ok(vec![hit("a", 1.0)]));
    assert_eq!(
        alerts[0].labels.to_string(),
        r#"{alertname="Empty", full="1", i="a", plain="x"}"#
    );
    let series = |name: &str| {
        line.script
            .stored(name, 60_000)
            .iter()
            .map(|(labels, _)| labels.to_string())
            .collect::<Vec<_>>()
    };
    let raw = r#"empty="{{ $labels.nothing }}", full="1", i="a", plain="x"}"#;
    assert_eq!(
        series("ALERTS"),
        [format!(
            r#"ALERTS{{alertname="Empty", alertstate="firing", {raw}"#
        )]
    );
    assert_eq!(
        series("ALERTS_FOR_STATE"),
        [format!(r#"ALERTS_FOR_STATE{{alertname="Empty", {raw}"#)]
    );
}
