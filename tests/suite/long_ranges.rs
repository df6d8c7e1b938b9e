//! Range queries compute all windows of a series at once, on several threads, from chunks that were
//! kept decoded: each value must have the bits that the same expression has at that instant alone.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use nightbell::model::native_histogram::ResetHint;
use nightbell::model::{
    Budget, HistogramSample, Holder, Labels, NativeHistogram, Sample, Timestamp, stale_nan,
};
use nightbell::promql::{Engine, Memory, ParseOptions, Value, parse_with};
use nightbell::store::{HistorySettings, Limits, Store};

use crate::promql_differential::random::Random;

/// A time on a boundary of blocks.
const START: i64 = 1_764_000_000_000;
const TICK: i64 = 15_000;
const TICKS: i64 = 900;

/// Every function over a range, with W for the window and what it is of.
const EXPRESSIONS: [&str; 26] = [
    "rate(W)",
    "increase(W)",
    "delta(W)",
    "irate(W)",
    "idelta(W)",
    "changes(W)",
    "resets(W)",
    "deriv(W)",
    "predict_linear(W, 3600)",
    "predict_linear(W, time() % 777)",
    "double_exponential_smoothing(W, 0.3, 0.6)",
    "avg_over_time(W)",
    "sum_over_time(W)",
    "count_over_time(W)",
    "min_over_time(W)",
    "max_over_time(W)",
    "first_over_time(W)",
    "last_over_time(W)",
    "present_over_time(W)",
    "quantile_over_time(0.9, W)",
    "quantile_over_time(time() % 3 - 1, W)",
    "stddev_over_time(W)",
    "stdvar_over_time(W)",
    "mad_over_time(W)",
    "ts_of_max_over_time(W)",
    "absent_over_time(W)",
];

/// The values of one series, of which kinds take different ways.
fn value(kind: usize, before: f64, random: &mut Random) -> f64 {
    let step = random.below(1000) as f64;
    match kind {
        // A counter with resets.
        0 if random.chance(2) => step,
        0 => before + step,
        // A gauge that walks in large steps, now and then over zero.
        1 => before + 4096.0 * (random.below(7) as f64 - 3.0),
        2 => before + (step - 499.5) / 100.0,
        // Mostly the same.
        3 if random.chance(95) => before,
        3 => step,
        // Anything.
        4 => [
            f64::NAN,
            f64::INFINITY,
            f64::NEG_INFINITY,
            -0.0,
            0.0,
            1e300,
            -1e300,
            f64::MIN_POSITIVE,
            step,
        ][random.below(9)],
        // Zeroes of both signs among small numbers.
        5 => [0.0, -0.0, 1.0, -1.0][random.below(4)],
        // Beyond what a float holds exactly.
        6 => before + 9.0e15 * (step - 300.0),
        // Counters of bytes with a fraction.
        _ => before.max(0.0) + step * 0.001,
    }
}

fn fill(store: &Store, seed: u64, maintained: bool) {
    let mut random = Random(seed);
    let mut values = [1e6; 8];
    let offset = [0, 7, 500][random.below(3)];
    let jitter = random.chance(30);
    let mut total = 0.0;
    for tick in 0..TICKS {
        let late = if jitter { random.below(40) as i64 } else { 0 };
        let at = Timestamp(START + offset + tick * TICK + late);
        let mut samples = Vec::new();
        for (kind, last) in values.iter_mut().enumerate() {
            // Gaps, some of them long.
            if random.chance(3) || (tick / 40 + kind as i64) % 9 == 8 {
                continue;
            }
            let labels = Labels::from_pairs([("__name__", "x"), ("kind", &kind.to_string())]);
            let next = if random.chance(1) {
                stale_nan()
            } else {
                *last = value(kind, *last, &mut random);
                *last
            };
            samples.push(Sample {
                labels,
                value: next,
                timestamp: None,
            });
        }
        drop(store.append(at, &samples));
        // One series has floats and native histograms in turn.
        let labels = Labels::from_pairs([("__name__", "x"), ("kind", "mixed")]);
        if tick / 100 % 2 == 0 {
            total += random.below(9) as f64;
            let histogram = NativeHistogram {
                count: total,
                sum: total / 2.0,
                zero_count: total,
                ..NativeHistogram::default()
            };
            let histogram = Arc::new(histogram);
            drop(store.append_histograms(
                at,
                &[HistogramSample {
                    labels,
                    histogram,
                    timestamp: None,
                }],
            ));
        } else {
            let value = random.below(100) as f64;
            drop(store.append(
                at,
                &[Sample {
                    labels,
                    value,
                    timestamp: None,
                }],
            ));
        }
    }
    if maintained {
        store.maintain(Timestamp(START + TICKS * TICK + 7_200_000));
    }
}

type Bits = BTreeMap<(String, i64), String>;

/// All of a histogram, but that it was not reset: a reader may find that out, and must where what
/// came before is in another chunk.
fn described(histogram: &NativeHistogram) -> String {
    let mut histogram = histogram.clone();
    if histogram.hint == ResetHint::NotReset {
        histogram.hint = ResetHint::Unknown;
    }
    format!("{histogram:?}")
}

fn assert_equal(found: &Bits, expected: &Bits, what: &str) {
    let differs = expected
        .iter()
        .find(|(key, value)| found.get(*key) != Some(*value));
    if let Some((key, value)) = differs {
        panic!("{what}: {key:?} is {:?}, not {value}", found.get(key));
    }
    assert_eq!(
        found.len(),
        expected.len(),
        "{what}: more than there should be"
    );
}

/// What is told apart of a value: its bits, or all of a histogram.
fn bits(labels: &Labels, at: i64, value: f64) -> ((String, i64), String) {
    (
        (labels.to_string(), at),
        format!("{:016x}", value.to_bits()),
    )
}

fn by_range(
    engine: &Engine,
    store: &Store,
    text: &str,
    (start, end, step): (i64, i64, i64),
) -> Bits {
    let expr = parse_with(text, ParseOptions { experimental: true }).expect("it can be read");
    let step = Duration::from_millis(step as u64);
    let found = engine
        .range(store, &expr, Timestamp(start), Timestamp(end), step)
        .expect("it has a value");
    let Value::Matrix(series) = found.value else {
        panic!("a range query gives a matrix");
    };
    let mut all = Bits::new();
    for one in &series {
        let points = one.points.iter();
        all.extend(points.map(|(at, value)| bits(&one.labels, at.0, *value)));
        let histograms = one.histograms.iter();
        all.extend(histograms.map(|(at, h)| ((one.labels.to_string(), at.0), described(h))));
    }
    all
}

fn by_instants(
    engine: &Engine,
    store: &Store,
    text: &str,
    (start, end, step): (i64, i64, i64),
) -> Bits {
    let expr = parse_with(text, ParseOptions { experimental: true }).expect("it can be read");
    let mut all = Bits::new();
    for at in (start..=end).step_by(step as usize) {
        let found = engine
            .instant(store, &expr, Timestamp(at))
            .expect("it has a value");
        let Value::Vector(samples) = found.value else {
            panic!("an instant query gives a vector");
        };
        all.extend(samples.iter().map(|sample| match &sample.histogram {
            Some(h) => ((sample.labels.to_string(), at), described(h)),
            None => bits(&sample.labels, at, sample.value),
        }));
    }
    all
}

fn settings(path: &Path) -> HistorySettings {
    HistorySettings {
        path: path.to_owned(),
        retention: Duration::from_secs(30 * 86_400),
        max_size: None,
    }
}

#[test]
fn all_windows_at_once_have_the_bits_of_each_by_itself() {
    let engine = Engine::default();
    for seed in 1..=12 {
        let memory = Store::new(Limits::default());
        fill(&memory, seed, false);
        let folder = tempfile::tempdir().expect("a folder");
        let now = Timestamp(START);
        let disk = Store::open(Limits::default(), &settings(folder.path()), now).expect("opens");
        fill(&disk, seed, true);
        let blocks = disk.history().map_or(0, |history| history.blocks.len());
        assert!(blocks > 0, "some of it is in blocks");
        let mut random = Random(seed * 77);
        let end = START + (TICKS - 30) * TICK + 10_000;
        for text in EXPRESSIONS {
            let window = [1, 5, 30, 90][random.below(4)];
            let suffix = ["", " offset 3m", " offset -2m"][random.below(3)];
            let step = [15_000, 77_000, 120_001, 300_000][random.below(4)];
            let text = text.replace('W', &format!("x[{window}m]{suffix}"));
            let asked = (end - 60 * step.min(120_001), end, step);
            let expected = by_instants(&engine, &memory, &text, asked);
            let ways = [
                ("memory", &memory),
                ("disk", &disk),
                ("disk, decoded before", &disk),
            ];
            for (way, store) in ways {
                let found = by_range(&engine, store, &text, asked);
                let what = format!("{text} with seed {seed}, {asked:?}, from {way}");
                assert_equal(&found, &expected, &what);
            }
        }
    }
}

/// Many series are read by several threads; their order and values are those of one.
#[test]
fn several_threads_give_what_one_gives() {
    let folder = tempfile::tempdir().expect("a folder");
    let now = Timestamp(START);
    let store = Store::open(Limits::default(), &settings(folder.path()), now).expect("opens");
    let mut random = Random(5);
    let names: Vec<Labels> = (0..120)
        .map(|n| Labels::from_pairs([("__name__", "y_total"), ("n", &n.to_string())]))
        .collect();
    let mut values = vec![0.0; names.len()];
    for tick in 0..3000 {
        let mut samples = Vec::new();
        for (labels, last) in names.iter().zip(&mut values) {
            *last += random.below(1000) as f64;
            samples.push(Sample {
                labels: labels.clone(),
                value: *last,
                timestamp: None,
            });
        }
        drop(store.append(Timestamp(START + tick * TICK), &samples));
    }
    let end = START + 2999 * TICK;
    store.maintain(Timestamp(end + 7_200_000));
    let engine = Engine::default();
    for text in [
        "y_total",
        "rate(y_total[5m])",
        "sum by (n) (max_over_time(y_total[1h]))",
    ] {
        let asked = (end - 240 * 180_000, end, 180_000);
        let found = by_range(&engine, &store, text, asked);
        assert_equal(&found, &by_instants(&engine, &store, text, asked), text);
        assert_eq!(found.len(), 120 * 241, "{text}");
    }
}

/// What several threads hold of one instant is a value for each series, not room for all of them in
/// each part.
#[test]
fn an_instant_of_many_series_takes_memory_for_its_values_alone() {
    const SERIES: usize = 40_000;
    let store = Store::new(Limits::default());
    let samples: Vec<Sample> = (0..SERIES)
        .map(|n| Sample {
            labels: Labels::from_pairs([("__name__", "z"), ("n", &n.to_string())]),
            value: 1.0,
            timestamp: None,
        })
        .collect();
    assert_eq!(store.append(Timestamp(START), &samples).appended, SERIES);
    let budget = Budget::new(2 << 20);
    let engine = Engine {
        memory: Some(Memory::new(budget, Holder::Queries)),
        ..Engine::default()
    };
    for text in ["count(z)", "sum(last_over_time(z[5m]))"] {
        let expr = parse_with(text, ParseOptions::default()).expect("valid");
        let found = engine.instant(&store, &expr, Timestamp(START));
        let Ok(Value::Vector(found)) = found.map(|found| found.value) else {
            panic!("{text} is refused");
        };
        assert_eq!(found[0].value, SERIES as f64, "{text}");
    }
}
