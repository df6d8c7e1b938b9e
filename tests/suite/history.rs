//! The history on disk: what was appended is there after a restart, bit for bit; what is damaged is
//! never served.

mod awaited;
mod beside;
mod damage;
mod ended;
mod import;
mod late;
mod long_log;
mod program;

use std::collections::BTreeMap;
use std::fs;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use nightbell::model::native_histogram::ResetHint;
use nightbell::model::{
    HistogramSample, Labels, MatchOp, Matcher, NativeHistogram, Sample, Timestamp, is_histogram,
    stale_nan,
};
use nightbell::promql::{Engine, Value, parse};
use nightbell::rules::backtest;
use nightbell::rules::evaluate::group::Settings;
use nightbell::rules::file::parse_text;
use nightbell::store::{HistorySettings, Limits, Store};
use proptest::prelude::*;
use proptest::test_runner::{RngSeed, TestRunner};

use crate::servers::wait_until;

/// A time on a boundary of blocks and segments.
const START: i64 = 1_764_000_000_000;
/// One tick.
const STEP: i64 = 15_000;

type Content = BTreeMap<String, Vec<(i64, u64)>>;

fn settings(path: &Path) -> HistorySettings {
    HistorySettings {
        path: path.to_owned(),
        retention: Duration::from_secs(30 * 86_400),
        max_size: None,
    }
}

fn open(path: &Path, now: i64) -> Store {
    Store::open(Limits::default(), &settings(path), Timestamp(now)).expect("the folder can be used")
}

fn any_series() -> Vec<Matcher> {
    vec![Matcher::new("__name__", MatchOp::Regex, ".+").expect("valid")]
}

/// What tells a sample from any other: the bits of a float, or a hash of all that a native
/// histogram says. That it was not reset it need not say: a reader may find out, and must where
/// what came before is lost.
fn bits(value: f64, histogram: Option<&Arc<NativeHistogram>>) -> u64 {
    assert_eq!(
        is_histogram(value),
        histogram.is_some(),
        "a marker stands for each histogram"
    );
    let mut hasher = DefaultHasher::new();
    histogram.map_or(value.to_bits(), |histogram| {
        let mut notified = NativeHistogram::clone(histogram);
        if notified.hint == ResetHint::NotReset {
            notified.hint = ResetHint::Unknown;
        }
        format!("{notified:?}").hash(&mut hasher);
        hasher.finish()
    })
}

/// Everything in `from < time <= to`.
fn between(store: &Store, from: i64, to: i64) -> Content {
    let mut content = Content::new();
    store
        .select(
            &any_series(),
            Timestamp(from),
            Timestamp(to),
            |labels, window| {
                let samples = window
                    .times
                    .iter()
                    .zip(window.values)
                    .map(|(t, v)| (*t, bits(*v, window.histogram(*t))))
                    .collect();
                assert!(
                    content.insert(labels.to_string(), samples).is_none(),
                    "{labels} came twice"
                );
                ControlFlow::Continue(())
            },
        )
        .expect("readable");
    content
}

fn content(store: &Store) -> Content {
    between(store, i64::MIN / 2, i64::MAX / 2)
}

fn sample(name: &str, number: usize, value: f64) -> Sample {
    Sample {
        labels: Labels::from_pairs([("__name__", name), ("i", &number.to_string())]),
        value,
        timestamp: None,
    }
}

/// One tick of a small target: a constant, counters, a fraction, a stale marker now and then, a
/// series that comes and goes.
fn tick(number: i64) -> Vec<Sample> {
    let n = number as f64;
    let mut batch = vec![
        sample("constant", 0, 4096.0),
        sample("counter_total", 0, n * 17.0),
        sample("cpu_seconds_total", 0, n * 13.0 / 100.0),
        sample("ratio", 0, (n * 0.37).sin()),
    ];
    if number % 7 != 3 {
        batch.push(sample(
            "now_and_then",
            1,
            if number % 7 == 2 { stale_nan() } else { n },
        ));
    }
    batch
}

/// Native histograms of the same tick: one whose buckets grow and change, one that comes between
/// floats, a stale marker now and then.
fn histograms(number: i64) -> Vec<HistogramSample> {
    let n = number as f64;
    let positive = (number / 50..number / 50 + 6)
        .map(|index| (index as i32, (n * 7.0 + index as f64).floor()))
        .collect();
    let grows = NativeHistogram {
        schema: 3,
        count: n * 40.0,
        sum: n * 0.3,
        zero_threshold: 1e-128,
        positive,
        ..NativeHistogram::default()
    };
    let custom = NativeHistogram {
        schema: -53,
        count: n / 3.0,
        bounds: [0.5, 2.0].into(),
        positive: [(0, n / 3.0)].into_iter().collect(),
        hint: if number % 4 == 0 {
            ResetHint::Gauge
        } else {
            ResetHint::Unknown
        },
        ..NativeHistogram::default()
    };
    let sample = |name: &str, histogram| HistogramSample {
        labels: Labels::from_pairs([("__name__", name), ("i", "0")]),
        histogram: Arc::new(histogram),
        timestamp: None,
    };
    let mut batch = vec![sample("latency_seconds", grows)];
    if number % 2 == 0 {
        batch.push(sample("mixed", custom));
    }
    batch
}

fn fill_floats(store: &Store, ticks: std::ops::Range<i64>) {
    for number in ticks {
        let batch = tick(number);
        assert_eq!(
            store
                .append(Timestamp(START + number * STEP), &batch)
                .appended,
            batch.len()
        );
    }
}

fn fill(store: &Store, ticks: std::ops::Range<i64>) {
    for number in ticks {
        fill_floats(store, number..number + 1);
        let at = Timestamp(START + number * STEP);
        let mixed = [sample(
            "mixed",
            0,
            if number % 9 == 3 {
                stale_nan()
            } else {
                number as f64
            },
        )];
        let floats = if number % 2 == 1 {
            store.append(at, &mixed).appended
        } else {
            1
        };
        assert_eq!(
            (
                floats,
                store.append_histograms(at, &histograms(number)).appended
            ),
            (1, histograms(number).len())
        );
    }
}

/// Every series holds a beginning of what was written: nothing else, nothing in between lost.
fn assert_prefix(found: &Content, written: &Content) {
    for (labels, samples) in found {
        let all = written
            .get(labels)
            .unwrap_or_else(|| panic!("{labels} was never written"));
        assert!(
            samples.len() <= all.len() && *samples == all[..samples.len()],
            "{labels}: a wrong sample is served"
        );
    }
}

/// Every sample is one that was written, in order.
fn assert_subset(found: &Content, written: &Content) {
    for (labels, samples) in found {
        let all = written
            .get(labels)
            .unwrap_or_else(|| panic!("{labels} was never written"));
        let mut rest = all.iter();
        assert!(
            samples
                .iter()
                .all(|sample| rest.any(|other| other == sample)),
            "{labels}: a wrong sample is served"
        );
    }
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = fs::read_dir(folder)
        .map(|d| d.flatten().map(|e| e.path()).collect())
        .unwrap_or_default();
    found.sort();
    found
}

/// Samples survive a restart bit for bit, over several segments of the log and several restarts.
#[test]
fn samples_survive_restarts_bit_for_bit() {
    let folder = tempfile::tempdir().expect("a folder");
    let memory = Store::new(Limits::default());
    for part in 0..5 {
        let ticks = part * 70..(part + 1) * 70;
        let store = open(folder.path(), START + ticks.start * STEP);
        assert_eq!(content(&store), content(&memory), "before part {part}");
        fill(&store, ticks.clone());
        fill(&memory, ticks);
        assert!(store.flush());
    }
    assert_eq!(
        content(&open(folder.path(), START + 400 * STEP)),
        content(&memory)
    );
}

/// A second process must not write into the same folder.
#[test]
fn a_folder_belongs_to_one_process() {
    let folder = tempfile::tempdir().expect("a folder");
    let first = open(folder.path(), START);
    let second = Store::open(
        Limits::default(),
        &settings(folder.path()),
        Timestamp(START),
    );
    assert!(second.is_err_and(|e| e.to_string().contains("in use by another nightbell")));
    drop(first);
    open(folder.path(), START);
}

/// A history that an earlier version wrote is read: its blocks, and its log, in which each value
/// was notified from the one before.
#[test]
fn a_history_of_the_first_version_is_read() {
    let folder = tempfile::tempdir().expect("a folder");
    let recorded = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/history/version-1");
    for part in ["blocks", "wal"] {
        fs::create_dir_all(folder.path().join(part)).expect("a folder");
        for file in files(&recorded.join(part)) {
            fs::copy(
                &file,
                folder
                    .path()
                    .join(part)
                    .join(file.file_name().expect("a name")),
            )
            .expect("copied");
        }
    }
    let memory = Store::new(Limits::default());
    fill_floats(&memory, 0..3 * BLOCK + 30);
    let now = START + (3 * BLOCK + 30) * STEP;
    let store = open(folder.path(), now);
    assert_eq!(content(&store), content(&memory));
    fill_floats(&store, 3 * BLOCK + 30..3 * BLOCK + 40);
    fill_floats(&memory, 3 * BLOCK + 30..3 * BLOCK + 40);
    assert!(store.flush());
    drop(store);
    let log = folder.path().join("wal/00000004");
    let bytes = fs::read(&log).expect("a segment");
    let now = now + 10 * STEP;
    let store = open(folder.path(), now);
    assert_eq!(
        content(&store),
        content(&memory),
        "one segment of each version"
    );
    drop(store);
    fs::write(&log, [&bytes[..500], &[0xff], &bytes[501..]].concat()).expect("written");
    let store = open(folder.path(), now);
    let found = content(&store);
    assert_subset(&found, &content(&memory));
    assert!(store.history().is_some_and(|h| h.damaged == 1));
    let newest = |content: &Content| between_last(content);
    assert_eq!(
        newest(&found),
        newest(&content(&memory)),
        "the segment after it is read"
    );
}

/// The newest sample of each series.
fn between_last(content: &Content) -> Vec<(String, (i64, u64))> {
    content
        .iter()
        .filter_map(|(labels, samples)| Some((labels.clone(), *samples.last()?)))
        .collect()
}

/// Half an hour: what a block spans when it is first written.
const BLOCK: i64 = 120;

/// The upkeep at a time at which a block that ended five minutes before `now` is due: blocks wait
/// an hour for samples that come late.
fn upkeep(store: &Store, now: i64) {
    store.maintain(Timestamp(now + 55 * 60_000));
}

/// Runs through `ticks` with an upkeep every few ticks, in a store with a history and in one
/// without.
fn live(store: &Store, memory: &Store, ticks: std::ops::Range<i64>) {
    for number in ticks {
        fill(store, number..number + 1);
        fill(memory, number..number + 1);
        if number % 8 == 0 {
            upkeep(store, START + number * STEP);
        }
    }
}

/// With blocks on disk, merged ones too, and after restarts every answer is that of a store that
/// has all in memory.
#[test]
fn blocks_and_restarts_change_no_answer() {
    let folder = tempfile::tempdir().expect("a folder");
    let memory = Store::new(Limits::default());
    let mut store = open(folder.path(), START);
    for part in 0..7 {
        live(&store, &memory, part * 170..(part + 1) * 170);
        assert!(store.flush());
        if part % 2 == 1 {
            drop(store);
            store = open(folder.path(), START + (part + 1) * 170 * STEP);
        }
        for (from, to) in [
            (0, 1190),
            (3, 119),
            (119, 121),
            (120, 360),
            (470, 900),
            (part * 170, part * 170 + 9),
        ] {
            let (from, to) = (START + from * STEP - 1, START + to * STEP);
            assert_eq!(
                between(&store, from, to),
                between(&memory, from, to),
                "{from} to {to}"
            );
            assert_eq!(
                store.label_values("i", &any_series(), Timestamp(from), Timestamp(to)),
                memory.label_values("i", &any_series(), Timestamp(from), Timestamp(to))
            );
        }
        let equal = [
            Matcher::equal("__name__", "now_and_then"),
            Matcher::new("i", MatchOp::NotRegex, "0|2").expect("valid"),
        ];
        let count = |store: &Store| {
            let mut samples = 0;
            let counted = store.select(
                &equal,
                Timestamp(0),
                Timestamp(i64::MAX / 2),
                |_, window| {
                    samples += window.times.len();
                    ControlFlow::Continue(())
                },
            );
            counted.map(|()| samples).expect("readable")
        };
        assert_eq!(count(&store), count(&memory));
    }
    let status = store.history().expect("a history");
    assert!(
        status.blocks.len() < 6,
        "nine half hours, the first eight in one block: {:?}",
        status.blocks
    );
    assert!(
        store.stats().head_samples + store.stats().sealed_samples
            < memory.stats().head_samples + memory.stats().sealed_samples,
        "memory keeps the newest only"
    );
    assert!(status.segments <= 4 && status.damaged == 0, "{status:?}");
}

/// A history of several blocks, and all that it holds.
fn several_blocks() -> (tempfile::TempDir, Content) {
    let folder = tempfile::tempdir().expect("a folder");
    let (store, memory) = (open(folder.path(), START), Store::new(Limits::default()));
    live(&store, &memory, 0..3 * BLOCK + 30);
    assert!(store.flush());
    assert_eq!(store.history().map(|h| h.blocks.len()), Some(3));
    (folder, content(&memory))
}

/// SEMANTICS 10 and issue 3.5: what comes up to an hour late is taken, as Prometheus's head takes
/// it; what comes after its block is counted.
#[test]
fn samples_that_come_late_are_taken_for_an_hour() {
    let folder = tempfile::tempdir().expect("a folder");
    let (minute, hours) = (60_000, 4);
    let now = START + hours * 60 * minute;
    let store = open(folder.path(), START);
    let sample = |name: &str, value: f64| Sample {
        labels: Labels::from_pairs([("__name__", name)]),
        value,
        timestamp: None,
    };
    (0..=hours * 60).for_each(|m| {
        drop(store.append(
            Timestamp(START + m * minute),
            &[sample("on_time", m as f64)],
        ))
    });
    store.maintain(Timestamp(now));
    assert!(
        store.history().is_some_and(|h| !h.blocks.is_empty()),
        "blocks are written"
    );
    let late = |age: i64| {
        store.append(
            Timestamp(now - age * minute),
            &[sample(&format!("late_{age}"), 1.0)],
        )
    };
    for age in [10, 59] {
        assert_eq!(
            (late(age).appended, late(age).out_of_bounds),
            (1, 0),
            "{age} minutes late"
        );
    }
    assert_eq!((late(120).appended, late(120).out_of_bounds), (0, 1));
}

/// Old blocks go by age and by size, the oldest first.
#[test]
fn old_blocks_are_dropped_by_age_and_by_size() {
    let (folder, written) = several_blocks();
    let now = START + (3 * BLOCK + 30) * STEP;
    let oldest = |store: &Store| {
        content(store)
            .values()
            .filter_map(|s| s.first().map(|(t, _)| *t))
            .min()
            .expect("samples")
    };
    let sizes: Vec<u64> = files(&folder.path().join("blocks"))
        .iter()
        .map(|f| fs::metadata(f).expect("a file").len())
        .collect();
    {
        let store = open(folder.path(), now);
        // A segment that was the newest when it was last looked at goes first.
        upkeep(&store, now);
        let log = store.history().expect("a history").log_bytes;
        drop(store);
        let settings = HistorySettings {
            max_size: Some(log + sizes[1] + sizes[2]),
            ..settings(folder.path())
        };
        let store = Store::open(Limits::default(), &settings, Timestamp(now)).expect("opens");
        upkeep(&store, now);
        assert_eq!(
            oldest(&store),
            START + BLOCK * STEP,
            "the oldest block is over the bound"
        );
        assert_subset(&content(&store), &written);
    }
    let settings = HistorySettings {
        retention: Duration::from_secs(3600),
        ..settings(folder.path())
    };
    let store = Store::open(Limits::default(), &settings, Timestamp(now)).expect("opens");
    store.maintain(Timestamp(START + 2 * BLOCK * STEP + 3_600_000 + 1));
    assert_eq!(oldest(&store), START + 2 * BLOCK * STEP);
}

/// Range queries and backtests over native histograms that are in blocks, in the log and in memory,
/// after a restart.
#[test]
fn stored_native_histograms_answer_queries_and_backtests() {
    let folder = tempfile::tempdir().expect("a folder");
    let memory = Store::new(Limits::default());
    let ticks = 3 * BLOCK + 30;
    {
        let store = open(folder.path(), START);
        live(&store, &memory, 0..ticks);
        assert!(store.flush());
    }
    let now = START + ticks * STEP;
    let store = open(folder.path(), now);
    assert_eq!(store.history().map(|h| h.blocks.len()), Some(3));
    let (engine, from) = (Engine::default(), Timestamp(START + 100 * STEP));
    for text in [
        "latency_seconds",
        "mixed",
        "rate(latency_seconds[5m])",
        "histogram_quantile(0.9, rate(latency_seconds[5m]))",
        "resets(latency_seconds[1h])",
        "sum(increase(latency_seconds[20m]))",
        "count_over_time(mixed[10m])",
        "histogram_avg(latency_seconds offset 20m)",
    ] {
        let expr = parse(text).expect("valid");
        let range = |store: &Store| {
            engine
                .range(store, &expr, from, Timestamp(now), Duration::from_secs(60))
                .expect("evaluates")
                .value
        };
        let found = range(&store);
        assert_eq!(found, range(&memory), "{text}");
        assert!(
            matches!(&found, Value::Matrix(series) if !series.is_empty()),
            "{text}: {found:?}"
        );
    }
    let rules = "groups:\n- name: g\n  interval: 1m\n  rules:\n  - {record: 'l:rate', expr: 'rate(latency_seconds[5m])'}\n  \
                 - {alert: Slow, expr: 'histogram_quantile(0.5, l:rate) > 1.05', for: 2m}\n  - {alert: Busy, expr: 'histogram_count(latency_seconds) > 9000'}\n";
    let groups = parse_text("rules.yml", rules).expect("valid").groups;
    let backtest = |store: &Store| -> Vec<(String, String, i64, i64)> {
        let options = backtest::Options {
            from,
            to: Timestamp(now),
            threads: 2,
            settings: Settings::default(),
            engine: Engine::default(),
        };
        let report = backtest::run(store, &groups, &options).expect("readable");
        assert_eq!(report.notes, [""; 0]);
        let episodes = |rule: &backtest::RuleReport| -> Vec<_> {
            rule.episodes
                .iter()
                .map(|e| (rule.name.clone(), e.labels.to_string(), e.from.0, e.to.0))
                .collect()
        };
        report.rules.iter().flat_map(episodes).collect()
    };
    let found = backtest(&store);
    assert_eq!(found, backtest(&memory));
    assert!(
        ["Slow", "Busy"]
            .iter()
            .all(|name| found.iter().any(|(rule, ..)| rule == name)),
        "{found:?}"
    );
}

/// What may happen to a store.
#[derive(Clone, Debug)]
enum Event {
    /// This many ticks, each of the series whose bit is set, with values drawn from the seed.
    Ticks(u8, u16, u64),
    /// Nobody collects for this many ticks.
    Pause(u16),
    /// The upkeep runs.
    Upkeep,
    /// The process ends, in order or not.
    Restart,
}

/// Whatever is appended, whenever the upkeep runs and the process restarts, the answers are those
/// of a store in memory.
#[test]
fn random_appends_and_restarts_answer_as_memory_does() {
    let event = prop_oneof![
        6 => (1_u8..60, any::<u16>(), any::<u64>()).prop_map(|(ticks, series, seed)| Event::Ticks(ticks, series, seed)),
        1 => (1_u16..400).prop_map(Event::Pause),
        3 => Just(Event::Upkeep),
        2 => Just(Event::Restart),
    ];
    let events = proptest::collection::vec(event, 10..40);
    let config = ProptestConfig {
        cases: 10,
        rng_seed: RngSeed::Fixed(11),
        failure_persistence: None,
        max_shrink_iters: 0,
        ..ProptestConfig::default()
    };
    let run = |events: Vec<Event>| {
        let folder = tempfile::tempdir().expect("a folder");
        let (mut store, memory) = (open(folder.path(), START), Store::new(Limits::default()));
        let mut now = START;
        for event in events {
            match event {
                Event::Ticks(ticks, series, seed) => {
                    for n in 0..u64::from(ticks) {
                        now += STEP;
                        let value = |i: u64| match (seed >> (i % 60)) % 5 {
                            0 => seed as f64,
                            1 => (n * i) as f64,
                            2 => (n * i) as f64 / 1000.0,
                            3 => f64::from_bits(seed.wrapping_mul(n * 31 + i + 1)),
                            _ => {
                                if n % 3 == 0 {
                                    stale_nan()
                                } else {
                                    -0.0
                                }
                            }
                        };
                        let batch: Vec<Sample> = (0..16)
                            .filter(|i| series >> i & 1 == 1)
                            .map(|i| sample("m", i, value(i as u64)))
                            .collect();
                        prop_assert_eq!(
                            store.append(Timestamp(now), &batch),
                            memory.append(Timestamp(now), &batch)
                        );
                        let native = if seed % 3 == 0 {
                            histograms(n as i64 + (seed % 400) as i64)
                        } else {
                            Vec::new()
                        };
                        prop_assert_eq!(
                            store.append_histograms(Timestamp(now), &native),
                            memory.append_histograms(Timestamp(now), &native)
                        );
                    }
                }
                Event::Pause(ticks) => now += i64::from(ticks) * STEP,
                Event::Upkeep => upkeep(&store, now),
                Event::Restart => {
                    prop_assert!(store.flush());
                    drop(store);
                    store = open(folder.path(), now);
                }
            }
            let from = now - (now - START) / 3;
            prop_assert_eq!(between(&store, from, now), between(&memory, from, now));
        }
        prop_assert_eq!(content(&store), content(&memory));
        prop_assert_eq!(store.history().map(|h| h.damaged), Some(0));
        Ok(())
    };
    TestRunner::new(config).run(&events, run).expect("holds");
}

/// When the disk is full the samples stay in memory; when there is room again they are written, and
/// nothing is missing.
#[test]
fn a_full_disk_leaves_samples_in_memory_until_there_is_room() {
    let disk = tempfile::tempdir().expect("a folder");
    let mount = |arguments: &[&str]| {
        Command::new(arguments[0])
            .args(&arguments[1..])
            .arg(disk.path())
            .status()
            .expect("runs")
            .success()
    };
    assert!(
        mount(&["mount", "-t", "tmpfs", "-o", "size=256k", "nightbell-test"]),
        "a tmpfs cannot be mounted: run the tests as root"
    );
    let memory = Store::new(Limits::default());
    let now = START + (BLOCK + 30) * STEP;
    {
        let store = open(&disk.path().join("history"), START);
        live(&store, &memory, 0..20);
        assert!(store.flush());
        let filler = disk.path().join("filler");
        let mut file = fs::File::create(&filler).expect("a file");
        while std::io::Write::write_all(&mut file, &[1; 4096]).is_ok() {}
        drop(file);
        // More than the segment's last page has room for, and a block that is due.
        live(&store, &memory, 20..BLOCK + 30);
        upkeep(&store, now);
        wait_until("the failure is known", Duration::from_secs(10), || {
            store.history().is_some_and(|h| !h.writable)
        });
        assert_eq!(content(&store), content(&memory), "memory has all");
        fs::remove_file(filler).expect("removed");
        wait_until("the log is written", Duration::from_secs(10), || {
            store.flush()
        });
        upkeep(&store, now);
        assert!(
            store
                .history()
                .is_some_and(|h| h.writable && h.blocks.len() == 1),
            "{:?}",
            store.history()
        );
        assert_eq!(content(&store), content(&memory));
    }
    assert_eq!(
        content(&open(&disk.path().join("history"), now)),
        content(&memory)
    );
    mount(&["umount", "-l"]);
}

/// The figure of issue 3: bytes a sample of a recorded history, given by tests/bench/history.py in
/// NIGHTBELL_HISTORY.
#[test]
#[ignore = "measures what tests/bench/history.py has recorded"]
fn recorded_bytes_per_sample() {
    let folder = PathBuf::from(std::env::var_os("NIGHTBELL_HISTORY").expect("a recorded history"));
    let now = Timestamp::now();
    let start = std::time::Instant::now();
    let store = open(&folder, now.0);
    let (replay, stats) = (start.elapsed(), store.stats());
    let log = store.history().expect("a history").log_bytes;
    let all = stats.head_samples + stats.sealed_samples;
    println!(
        "log: {all} samples, {log} bytes: {:.3} bytes a sample; read in {replay:?}",
        log as f64 / all as f64
    );
    println!(
        "sealed in memory: {} samples, {} bytes: {:.3} bytes a sample",
        stats.sealed_samples,
        stats.sealed_bytes,
        stats.sealed_bytes as f64 / stats.sealed_samples as f64
    );
    let start = std::time::Instant::now();
    upkeep(&store, now.0 + 2 * BLOCK * STEP);
    let blocks = store.history().expect("a history").blocks;
    let (samples, bytes) = blocks
        .iter()
        .fold((0, 0), |(s, b), block| (s + block.samples, b + block.bytes));
    println!(
        "blocks: {samples} samples, {bytes} bytes: {:.3} bytes a sample; written in {:?}",
        bytes as f64 / samples as f64,
        start.elapsed()
    );
}
