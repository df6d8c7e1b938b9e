//! Backtests: what rules would have said about stored samples is what live evaluation says,
//! evaluation by evaluation.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use nightbell::model::{
    HistogramSample, Labels, METRIC_NAME, NativeHistogram, Sample, Timestamp, stale_nan,
};
use nightbell::promql::Engine;
use nightbell::rules::backend::Backend;
use nightbell::rules::backtest::{Longer, Options, Report, run};
use nightbell::rules::evaluate::active::AlertState;
use nightbell::rules::evaluate::group::{Group, Settings};
use nightbell::rules::file::parse_text;
use nightbell::rules::{Rule, RuleGroup};
use nightbell::store::{Limits, Store};

use crate::live::Live;

const START: Timestamp = Timestamp(1_700_000_010_000);
const STEP: Duration = Duration::from_secs(15);

/// Values that rise and fall without a pattern, the same in every run.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

/// Three instances of some gauges and counters over `steps` scrapes, with gaps and ends of series.
fn history(steps: usize) -> Store {
    let (store, mut noise) = (Store::new(Limits::default()), Noise(0x9E37_79B9_7F4A_7C15));
    let (mut counters, mut levels) = ([0.0; 3], [0i64; 3]);
    for step in 0..steps {
        let at = START + STEP * u32::try_from(step).expect("few");
        let (mut samples, mut histograms) = (Vec::new(), Vec::new());
        for (instance, name) in ["a", "b", "c"].into_iter().enumerate() {
            let labels = |metric: &str| {
                Labels::from_pairs([
                    (METRIC_NAME, metric),
                    ("instance", name),
                    ("job", if instance < 2 { "x" } else { "y" }),
                ])
            };
            let dice = noise.next();
            if dice % 41 == 0 {
                samples.push(Sample {
                    labels: labels("level"),
                    value: stale_nan(),
                    timestamp: None,
                });
                samples.push(Sample {
                    labels: labels("up"),
                    value: 0.0,
                    timestamp: None,
                });
                continue;
            }
            samples.push(Sample {
                labels: labels("up"),
                value: 1.0,
                timestamp: None,
            });
            if dice % 7 < 3 {
                levels[instance] = i64::try_from(dice / 7 % 21).expect("small") - 10;
            }
            counters[instance] += (dice / 1000 % 50) as f64;
            samples.push(Sample {
                labels: labels("level"),
                value: levels[instance] as f64,
                timestamp: None,
            });
            samples.push(Sample {
                labels: labels("events_total"),
                value: counters[instance],
                timestamp: None,
            });
            let positive = [(2, counters[instance]), (dice as i32 % 4, 20.0)]
                .into_iter()
                .filter(|(index, _)| *index > 2);
            let positive = [(2, counters[instance])]
                .into_iter()
                .chain(positive.take(1))
                .collect();
            let histogram = NativeHistogram {
                count: counters[instance],
                sum: counters[instance],
                positive,
                ..NativeHistogram::default()
            };
            let (labels, histogram) = (labels("latency"), Arc::new(histogram));
            histograms.push(HistogramSample {
                labels,
                histogram,
                timestamp: None,
            });
        }
        store.append(at, &samples);
        store.append_histograms(at, &histograms);
        // What a live nightbell recorded under other rules must not be mistaken for what these
        // rules record.
        let old = Labels::from_pairs([(METRIC_NAME, "job:level:max"), ("job", "x")]);
        store.append(
            at,
            &[Sample {
                labels: old,
                value: 1e9,
                timestamp: None,
            }],
        );
    }
    store
}

const RULES: &str = r#"groups:
- name: one
  interval: 15s
  rules:
  - {record: 'job:level:max', expr: max by (job) (level)}
  - {record: 'instance:events:rate', expr: 'rate(events_total[2m])', labels: {kind: e}}
  - {record: 'job:latency:rate', expr: 'sum by (job) (rate(latency[2m]))'}
  - {alert: Sluggish, expr: 'histogram_quantile(0.99, job:latency:rate) > 3.98', for: 30s}
  - {alert: Native, expr: 'job:latency:rate and job:level:max > 3', annotations: {s: '{{ $value }}'}}
  - {alert: High, expr: level > 5}
  - {alert: Held, expr: level > 0, for: 45s, labels: {severity: '{{ if gt $value 8.0 }}page{{ else }}mail{{ end }}'}}
  - {alert: Kept, expr: level > 6, for: 30s, keep_firing_for: 1m}
  - {alert: Busy, expr: 'instance:events:rate > 1.6', for: 1m, annotations: {s: '{{ $value }}'}}
  - {alert: Slow, expr: level > 8, recover_expr: level < -3, keep_firing_for: 30s}
  - {alert: Follows, expr: level > 7, no_data: resolve}
  - {alert: Missing, expr: 'level{instance="b"} > 7', for: 15s, no_data: alert}
  - {alert: Waits, expr: 'level{instance="c"} > 4', no_data: hold}
- name: two
  interval: 30s
  query_offset: 30s
  limit: 2
  rules:
  - {alert: Job, expr: 'job:level:max > 7 unless on (job) (count by (job) (level < -8))'}
  - {alert: Many, expr: level > 2}
  - {alert: Gone, expr: 'absent(level{instance="a"})'}
  - {alert: Subquery, expr: 'max_over_time(job:level:max[2m:30s]) > 9 and job:level:max @ end() > 3'}
  - {alert: Broken, expr: 'level + on (job) level > 0'}
"#;

/// Name, labels, begin and end of every firing, as live evaluation shows them.
type Firings = Vec<(String, String, i64, i64)>;

fn live(history: &Store, groups: &[RuleGroup], from: Timestamp, to: Timestamp) -> (Firings, u64) {
    let backend = Arc::new(Live {
        engine: Engine::default(),
        store: Store::new(Limits::default()),
    });
    let as_backend: Arc<dyn Backend> = backend.clone();
    let settings = Settings::default();
    let mut running: Vec<(Group, Timestamp)> = groups
        .iter()
        .map(|g| (Group::new(g.clone(), &settings), from))
        .collect();
    let mut samples: Vec<(i64, Labels, f64, Option<Arc<NativeHistogram>>)> = Vec::new();
    for name in ["level", "events_total", "up", "latency"] {
        let matcher = nightbell::model::Matcher::equal(METRIC_NAME, name);
        let visit = |labels: &Labels, window: nightbell::store::Window<'_>| {
            let sample = |(at, value): (&i64, &f64)| {
                (*at, labels.clone(), *value, window.histogram(*at).cloned())
            };
            samples.extend(window.times.iter().zip(window.values).map(sample));
            std::ops::ControlFlow::Continue(())
        };
        history
            .select(&[matcher], Timestamp(0), to, visit)
            .expect("readable");
    }
    samples.sort_by_key(|sample| sample.0);
    let mut samples = samples.into_iter().peekable();
    let (mut open, mut done, mut failures) = (BTreeMap::new(), Vec::new(), 0);
    let mut now = from;
    while now <= to {
        while let Some((at, labels, value, histogram)) = samples.next_if(|sample| sample.0 <= now.0)
        {
            match histogram {
                Some(histogram) => backend.store.append_histograms(
                    Timestamp(at),
                    &[HistogramSample {
                        labels,
                        histogram,
                        timestamp: None,
                    }],
                ),
                None => backend.store.append(
                    Timestamp(at),
                    &[Sample {
                        labels,
                        value,
                        timestamp: None,
                    }],
                ),
            };
        }
        for (group, next) in running.iter_mut().filter(|(_, next)| *next <= now) {
            failures += group.eval(&as_backend, now, &settings).failures;
            *next = now + group.interval;
            for rule in &group.rules {
                let (Rule::Alerting(definition), Some(state)) = (&*rule.rule, &rule.alerting)
                else {
                    continue;
                };
                if rule.health.ok == Some(false) {
                    continue;
                }
                let name = definition.name.clone();
                let fires: Vec<String> = state
                    .alerts()
                    .filter(|a| a.state == AlertState::Firing)
                    .map(|a| a.labels.braced())
                    .collect();
                let ended: Vec<(String, String)> = open
                    .keys()
                    .filter(|(n, labels): &&(String, String)| *n == name && !fires.contains(labels))
                    .cloned()
                    .collect();
                for key in ended {
                    let begin = open.remove(&key).expect("it is open");
                    done.push((key.0, key.1, begin, now.0));
                }
                for labels in fires {
                    open.entry((name.clone(), labels)).or_insert(now.0);
                }
            }
        }
        now = now + STEP;
    }
    done.extend(
        open.into_iter()
            .map(|((name, labels), begin)| (name, labels, begin, to.0)),
    );
    done.sort();
    (done, failures)
}

fn firings(report: &Report) -> Firings {
    let mut all: Firings = report
        .rules
        .iter()
        .flat_map(|rule| {
            rule.episodes
                .iter()
                .map(|e| (rule.name.clone(), e.labels.braced(), e.from.0, e.to.0))
        })
        .collect();
    all.sort();
    all
}

fn options(from: Timestamp, to: Timestamp) -> Options {
    Options {
        from,
        to,
        threads: 2,
        settings: Settings::default(),
        engine: Engine::default(),
    }
}

/// Firings, their begin and end, and failures are those of live evaluation, over more than one
/// window.
#[test]
fn a_backtest_says_what_live_evaluation_says() {
    let steps = 640;
    let (history, groups) = (
        history(steps),
        parse_text("rules.yml", RULES).expect("valid").groups,
    );
    let from = Timestamp(START.0 / 30_000 * 30_000 + 600_000);
    let to = START + STEP * u32::try_from(steps).expect("few");
    let to = Timestamp(to.0 / 30_000 * 30_000);
    let report = run(&history, &groups, &options(from, to)).expect("readable");
    let (wanted, failures) = live(&history, &groups, from, to);
    for name in [
        "High", "Held", "Kept", "Busy", "Job", "Many", "Gone", "Subquery", "Slow", "Follows",
        "Missing", "Waits", "Sluggish", "Native",
    ] {
        assert!(
            wanted.iter().any(|firing| firing.0 == name),
            "{name} never fires: the test shows nothing"
        );
    }
    assert_eq!(firings(&report), wanted);
    assert_eq!(
        report.errors.iter().map(|(_, count, _)| count).sum::<u64>(),
        failures
    );
    assert!(failures > 0, "no evaluation fails: the test shows nothing");
    assert_eq!(report.notes, [""; 0]);
}

/// What a longer `for` would leave is what a backtest with that `for` gives; so is the number of
/// short firings.
#[test]
fn a_longer_for_leaves_what_its_own_backtest_shows() {
    let history = history(500);
    let (from, to) = (START, START + STEP * 500);
    let report_of = |hold: u64, rule: &str| {
        let text = format!(
            "groups:\n- name: g\n  interval: 15s\n  rules:\n  - {{alert: A, for: {hold}s, {rule}}}\n"
        );
        let report = run(
            &history,
            &parse_text("rules.yml", &text).expect("valid").groups,
            &options(from, to),
        )
        .expect("readable");
        report.rules.into_iter().next().expect("one rule")
    };
    let mut compared = 0;
    for rule in [
        "expr: level > 5",
        "expr: level > 3, keep_firing_for: 1m",
        "expr: level > 6, keep_firing_for: 40s",
    ] {
        for Longer { hold, fired, short } in report_of(0, rule).longer.into_iter().take(4) {
            let other = report_of(hold.as_secs(), rule);
            assert_eq!(
                (other.episodes.len(), other.short()),
                (fired, short),
                "{rule} for {hold:?}"
            );
            compared += fired;
        }
    }
    assert!(compared > 10, "{compared}");
}

/// Rules that read what is recorded after them are evaluated slot by slot, and the report says so.
#[test]
fn a_rule_that_reads_what_comes_later_is_evaluated_in_step() {
    let history = history(200);
    let rules = "groups:\n- name: g\n  interval: 15s\n  rules:\n  - {alert: Late, expr: 'level:late > 5'}\n  - {record: 'level:late', expr: max(level)}\n  - {alert: Again, expr: 'count(ALERTS{alertname=\"Late\"}) > 0'}\n";
    let groups = parse_text("rules.yml", rules).expect("valid").groups;
    let (from, to) = (
        Timestamp(START.0 / 15_000 * 15_000),
        Timestamp(START.0 / 15_000 * 15_000 + 15_000 * 190),
    );
    let report = run(&history, &groups, &options(from, to)).expect("readable");
    assert_eq!(firings(&report), live(&history, &groups, from, to).0);
    assert!(
        report.notes.len() == 1 && report.notes[0].contains("\"Late\" reads level:late"),
        "{:?}",
        report.notes
    );
}
