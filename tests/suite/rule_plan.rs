//! Rules as one program: what rules share is computed once, and every result is what each would
//! have got alone; urgent rules do not wait.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use nightbell::model::{
    Alert, HistogramSample, Labels, METRIC_NAME, NativeHistogram, Sample, Timestamp, stale_nan,
};
use nightbell::promql::{Engine, Expr, Plan, Results, Sharing, parse};
use nightbell::rules::backend::{Backend, Hits, hits};
use nightbell::rules::evaluate::group::{Group, Settings};
use nightbell::rules::file::parse_text;
use nightbell::rules::scheduler::Scheduler;
use nightbell::state::State;
use nightbell::store::{Limits, Store};
use nightbell::telemetry::Telemetry;
use proptest::prelude::{ProptestConfig, prop_assert_eq, proptest};
use tokio::sync::mpsc;

/// Series with instants and the bits of values.
type Stored = BTreeMap<String, Vec<(i64, u64)>>;

/// An engine over a store; counts what was answered with the results of other rules at hand.
struct Local {
    store: Store,
    engine: Engine,
    shared: AtomicUsize,
}

impl Local {
    fn new() -> Arc<Self> {
        Arc::new(Local {
            store: Store::new(Limits::default()),
            engine: Engine::default(),
            shared: AtomicUsize::new(0),
        })
    }

    fn value(&self, engine: &Engine, expr: &Expr, at: Timestamp) -> Hits {
        hits(engine.instant(&self.store, expr, at)?.value)
    }

    fn sample(&self, at: i64, pairs: &[(&str, &str)], value: f64) {
        self.store.append(
            Timestamp(at),
            &[Sample {
                labels: Labels::from_pairs(pairs.iter().copied()),
                value,
                timestamp: None,
            }],
        );
    }

    /// Everything that is stored, values by their bits.
    fn everything(&self) -> Stored {
        let mut all = Stored::new();
        let read = self
            .store
            .select(&[], Timestamp::MIN, Timestamp::MAX, |labels, window| {
                all.insert(
                    labels.to_string(),
                    window
                        .times
                        .iter()
                        .copied()
                        .zip(window.values.iter().map(|v| v.to_bits()))
                        .collect(),
                );
                for (time, histogram) in window.histograms {
                    all.insert(
                        format!("{labels} {time} {}", histogram.notation()),
                        Vec::new(),
                    );
                }
                ControlFlow::Continue(())
            });
        read.expect("sound chunks");
        all
    }
}

impl Backend for Local {
    fn query(&self, expr: &Expr, at: Timestamp) -> Hits {
        self.value(&self.engine, expr, at)
    }

    fn query_sharing(&self, expr: &Expr, at: Timestamp, sharing: Sharing) -> Hits {
        self.shared.fetch_add(1, Ordering::Relaxed);
        self.value(
            &Engine {
                sharing: Some(sharing),
                ..self.engine.clone()
            },
            expr,
            at,
        )
    }

    fn query_text(&self, text: &str, at: Timestamp) -> Hits {
        self.query(&parse(text)?, at)
    }

    fn append(&self, at: Timestamp, samples: &[Sample]) {
        self.store.append(at, samples);
    }

    fn append_histograms(&self, at: Timestamp, samples: &[HistogramSample]) {
        self.store.append_histograms(at, samples);
    }
}

/// Expressions that have much in common; `r0` and `r1` are recorded, `ALERTS` is written by every
/// alert.
const EXPRESSIONS: [&str; 20] = [
    "sum by (job) (rate(h[1m]))",
    "histogram_quantile(0.9, sum by (job) (rate(h[1m])))",
    "rate(h[1m]) or h * 2",
    "histogram_count(sum by (job) (rate(h[1m]))) > 0 or sum(r0)",
    "sum by (job) (rate(c_total[1m]))",
    "sum by (job) (rate(c_total[1m])) / sum by (job) (rate(c_total[2m])) > 0.5",
    "avg(rate(c_total[1m])) > 0",
    "rate(c_total[1m]) > 3",
    "rate((c_total[1m]))",
    "topk(2, g)",
    "g > 40",
    "g > 40 and on (i) rate(c_total[1m]) > 1",
    "max by (job) (g) - on (job) min by (job) (g)",
    "r0",
    "sum(r0) + sum(r1)",
    "r1 > 2 or r0",
    "count(ALERTS)",
    "count({i=~\".+\"})",
    "max_over_time(sum(r0)[1m:15s]) + sum(r0)",
    "g offset 30s + -g",
];

/// A file of two groups; each number chooses a rule.
fn file(choices: &[usize]) -> String {
    let mut text = String::from("groups:\n");
    for (index, choice) in choices.iter().enumerate() {
        if index % 8 == 0 {
            text.push_str(&format!("- name: g{index}\n  interval: 15s\n  rules:\n"));
        }
        let expr = EXPRESSIONS[choice % EXPRESSIONS.len()].replace('"', "\\\"");
        let head = if choice % 3 == 0 {
            format!("record: r{}", choice % 2)
        } else {
            format!("alert: A{choice}")
        };
        let labels = if choice % 3 == 0 {
            format!("\n    labels: {{n: '{index}'}}")
        } else {
            String::new()
        };
        text.push_str(&format!("  - {head}\n    expr: \"{expr}\"{labels}\n"));
    }
    text
}

fn groups(text: &str, settings: &Settings) -> Vec<Group> {
    let file = parse_text("f.yml", text).unwrap_or_else(|errors| panic!("{errors}\n{text}"));
    file.groups
        .into_iter()
        .map(|group| Group::new(group, settings))
        .collect()
}

/// What the rules write, tell and fail with over some instants.
fn run(choices: &[usize], values: &[u32], together: bool) -> (Stored, Vec<String>) {
    let (local, settings) = (Local::new(), Settings::default());
    let backend: Arc<dyn Backend> = local.clone();
    let mut groups = groups(&file(choices), &settings);
    let mut plan = Plan::default();
    groups.iter_mut().for_each(|group| group.plan(&mut plan));
    plan.finish();
    groups.iter_mut().for_each(|group| group.planned(&plan));
    let (plan, mut notified) = (Arc::new(plan), Vec::new());
    let mut totals = [0.0; 6];
    for (tick, value) in values.iter().enumerate() {
        let now = Timestamp(tick as i64 * 15_000);
        for (series, total) in totals.iter_mut().enumerate() {
            let step = f64::from(value.rotate_left(series as u32 * 5) % 97) / 3.0;
            *total = if step < 2.0 { step } else { *total + step };
            let (job, i) = (["a", "b"][series % 2], series.to_string());
            local.sample(
                now.0,
                &[(METRIC_NAME, "c_total"), ("job", job), ("i", &i)],
                *total,
            );
            let gauge = if value % 7 == series as u32 {
                stale_nan()
            } else {
                step
            };
            local.sample(now.0, &[(METRIC_NAME, "g"), ("job", job), ("i", &i)], gauge);
            let positive = [(1, *total), (2, 1.0)].into_iter().collect();
            let histogram = Arc::new(NativeHistogram {
                count: *total + 1.0,
                sum: *total,
                positive,
                ..NativeHistogram::default()
            });
            let labels = Labels::from_pairs([(METRIC_NAME, "h"), ("job", job), ("i", i.as_str())]);
            local.append_histograms(
                now,
                &[HistogramSample {
                    labels,
                    histogram,
                    timestamp: None,
                }],
            );
        }
        let results = Arc::new(Results::new(plan.clone(), now));
        for group in &mut groups {
            let outcome = match together {
                true => group.eval_sharing(&backend, now, &settings, &results),
                false => group.eval(&backend, now, &settings),
            };
            notified.extend(
                outcome
                    .alerts
                    .iter()
                    .map(|alert| format!("{now:?} {alert:?}")),
            );
            notified.extend(
                group
                    .rules
                    .iter()
                    .map(|rule| format!("{:?} {:?}", rule.health.ok, rule.health.last_error)),
            );
        }
        if together {
            assert!(results.kept() < plan.len(), "results are given away");
        }
    }
    assert_eq!(
        local.shared.load(Ordering::Relaxed) > 0,
        together && !choices.is_empty()
    );
    (local.everything(), notified)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Results are bit-equal to evaluating each rule alone, and rules see what those before them
    /// wrote.
    #[test]
    fn rules_that_share_get_what_each_gets_alone(
        choices in proptest::collection::vec(0usize..96, 1..20),
        values in proptest::collection::vec(proptest::prelude::any::<u32>(), 1..14),
    ) {
        prop_assert_eq!(run(&choices, &values, true), run(&choices, &values, false));
    }
}

/// A result with one more reader is kept, the last reader takes it, and a write makes it forgotten.
#[test]
fn a_shared_result_lives_until_its_last_reader() {
    let (local, settings) = (Local::new(), Settings::default());
    let backend: Arc<dyn Backend> = local.clone();
    local.sample(0, &[(METRIC_NAME, "x"), ("i", "1")], 1.0);
    let text = "groups:\n- name: a\n  rules:\n  - {record: y, expr: sum(x)}\n- name: b\n  rules:\n  - {record: z, expr: sum(x) + 1}\n";
    let mut groups = groups(text, &settings);
    let mut plan = Plan::default();
    groups.iter_mut().for_each(|group| group.plan(&mut plan));
    plan.finish();
    groups.iter_mut().for_each(|group| group.planned(&plan));
    let results = Arc::new(Results::new(Arc::new(plan), Timestamp(0)));
    groups[0].eval_sharing(&backend, Timestamp(0), &settings, &results);
    assert_eq!(results.kept(), 1, "sum(x), for the second group");
    groups[1].eval_sharing(&backend, Timestamp(0), &settings, &results);
    assert_eq!(results.kept(), 0);
    let stored: Vec<String> = local.everything().into_keys().collect();
    assert_eq!(stored, ["x{i=\"1\"}", "y", "z"]);
    groups[0].eval_sharing(&backend, Timestamp(0), &settings, &results);
    results.written("other");
    assert_eq!(results.kept(), 1);
    results.written("x");
    assert_eq!(results.kept(), 0, "it may have read what was written");
}

/// A critical rule without `for` fires when its input arrives, not at the next slot; others wait.
#[tokio::test]
async fn critical_rules_without_for_do_not_wait_for_their_slot() {
    let local = Local::new();
    let (sender, mut notified) = mpsc::channel::<Vec<Alert>>(16);
    let state = State::in_memory().await.expect("a database");
    let scheduler = Scheduler::new(local.clone(), state, sender, &Telemetry::new());
    let rule = |name: &str, severity: &str, hold: &str| {
        format!(
            "  - alert: {name}\n    expr: x > 0\n    for: {hold}\n    labels: {{severity: {severity}}}\n"
        )
    };
    let rules = [
        rule("Urgent", "critical", "0s"),
        rule("Patient", "critical", "1m"),
        rule("Calm", "warning", "0s"),
    ]
    .concat();
    let file = parse_text(
        "f.yml",
        &format!("groups:\n- name: g\n  interval: 1m\n  rules:\n{rules}"),
    )
    .expect("sound rules");
    scheduler
        .reload(file.groups, Settings::default(), Timestamp(1))
        .await
        .expect("reload");
    let names = |alerts: Vec<Alert>| {
        alerts
            .iter()
            .map(|alert| alert.name().to_owned())
            .collect::<Vec<_>>()
    };

    local.sample(5_000, &[(METRIC_NAME, "x")], 1.0);
    scheduler
        .arrived(Timestamp(5_001))
        .await
        .expect("evaluated");
    assert_eq!(
        names(notified.try_recv().expect("notified before the slot")),
        ["Urgent"]
    );
    assert!(
        !local
            .everything()
            .keys()
            .any(|series| series.starts_with("ALERTS")),
        "series of alerts are written at slots"
    );

    local.sample(60_000, &[(METRIC_NAME, "x")], 1.0);
    scheduler.tick(Timestamp(60_000)).await.expect("tick");
    assert_eq!(
        names(notified.try_recv().expect("notified at the slot")),
        ["Calm"],
        "the urgent one was notified already"
    );

    local.sample(65_000, &[(METRIC_NAME, "x")], 0.0);
    scheduler
        .arrived(Timestamp(65_001))
        .await
        .expect("evaluated");
    let ended = notified.try_recv().expect("the end");
    assert_eq!(
        (names(ended.clone()), ended[0].ends_at),
        (vec!["Urgent".to_owned()], Some(Timestamp(65_001)))
    );
}
