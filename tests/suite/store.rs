//! The series store from outside: what it accepts, what it shows, what it forgets.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use nightbell::model::{
    HistogramSample, Labels, MatchOp, Matcher, NativeHistogram, Sample, Timestamp, histogram_nan,
    is_histogram, is_stale, stale_nan,
};
use nightbell::store::{Appended, HistorySettings, Limits, Refused, Store};

fn labels(text: &str) -> Labels {
    Labels::from_pairs(
        text.split(',')
            .map(|pair| pair.split_once('=').expect("name=value")),
    )
}

fn sample(text: &str, value: f64) -> Sample {
    Sample {
        labels: labels(text),
        value,
        timestamp: None,
    }
}

fn read(store: &Store, matchers: &[Matcher], from: i64, to: i64) -> Vec<(Labels, Vec<(i64, f64)>)> {
    let mut found = Vec::new();
    store
        .select(
            matchers,
            Timestamp(from),
            Timestamp(to),
            |labels, window| {
                found.push((
                    labels.clone(),
                    window
                        .times
                        .iter()
                        .copied()
                        .zip(window.values.iter().copied())
                        .collect(),
                ));
                ControlFlow::Continue(())
            },
        )
        .expect("nothing is damaged");
    found
}

fn all() -> Vec<Matcher> {
    vec![Matcher::new("__name__", MatchOp::Regex, ".+").expect("valid")]
}

/// SEMANTICS 9 to 11: an exact repetition is silent, another value is a duplicate, the past is out
/// of order, the future out of bounds.
#[test]
fn samples_are_accepted_by_prometheus_rules() {
    let store = Store::new(Limits::default());
    let at = Timestamp(1_000_000);
    let taken = |value: f64, time: i64| {
        store.append(
            at,
            &[Sample {
                timestamp: Some(Timestamp(time)),
                ..sample("__name__=a", value)
            }],
        )
    };
    let one = Appended {
        appended: 1,
        ..Appended::default()
    };
    assert_eq!(taken(1.0, 1_000_000), one);
    assert_eq!(taken(1.0, 1_000_000), one);
    assert_eq!(
        taken(2.0, 1_000_000),
        Appended {
            duplicate: 1,
            ..Appended::default()
        }
    );
    assert_eq!(
        taken(1.0, 999_999),
        Appended {
            out_of_order: 1,
            ..Appended::default()
        }
    );
    assert_eq!(
        taken(1.0, 1_600_001),
        Appended {
            out_of_bounds: 1,
            ..Appended::default()
        }
    );
    assert_eq!(taken(f64::NAN, 1_600_000), one);
    assert_eq!(taken(f64::NAN, 1_600_000), one, "NaN repeats bit for bit");
    assert_eq!(read(&store, &all(), 0, i64::MAX)[0].1.len(), 2);
}

fn histogram(text: &str, count: f64) -> HistogramSample {
    let histogram = Arc::new(NativeHistogram {
        count,
        sum: f64::NAN,
        ..NativeHistogram::default()
    });
    HistogramSample {
        labels: labels(text),
        histogram,
        timestamp: None,
    }
}

/// SEMANTICS 9 to 11 and 85: native histograms are accepted by the rules of floats, and among them.
#[test]
fn native_histograms_are_accepted_as_floats_are() {
    let store = Store::new(Limits::default());
    let at = Timestamp(1_000_000);
    let taken = |count: f64, time: i64| {
        store.append_histograms(
            at,
            &[HistogramSample {
                timestamp: Some(Timestamp(time)),
                ..histogram("__name__=h", count)
            }],
        )
    };
    let one = Appended {
        appended: 1,
        ..Appended::default()
    };
    assert_eq!(taken(1.0, 1_000_000), one);
    assert_eq!(taken(1.0, 1_000_000), one, "a repetition");
    assert_eq!(
        taken(2.0, 1_000_000),
        Appended {
            duplicate: 1,
            ..Appended::default()
        }
    );
    assert_eq!(
        taken(1.0, 999_999),
        Appended {
            out_of_order: 1,
            ..Appended::default()
        }
    );
    assert_eq!(
        taken(1.0, 1_600_001),
        Appended {
            out_of_bounds: 1,
            ..Appended::default()
        }
    );
    assert_eq!(
        store.append(at, &[sample("__name__=h", 1.0)]),
        Appended {
            duplicate: 1,
            ..Appended::default()
        }
    );
    store.append(Timestamp(1_001_000), &[sample("__name__=h", 1.0)]);
    let id = store.series_id(&labels("__name__=h")).expect("known");
    let histogram = histogram("__name__=h", 3.0).histogram;
    assert_eq!(
        store.append_histogram_ids(Timestamp(1_002_000), &[(id, histogram)]),
        one
    );
    let read = read(&store, &all(), 0, i64::MAX);
    assert_eq!(
        read[0]
            .1
            .iter()
            .map(|(_, value)| is_histogram(*value))
            .collect::<Vec<_>>(),
        [true, false, true]
    );
    // A float with the bits of the marker is any NaN.
    store.append(
        Timestamp(1_003_000),
        &[sample("__name__=h", histogram_nan())],
    );
    let mut last = None;
    let visit = |_: &Labels, window: nightbell::store::Window<'_>| {
        last = window.values.last().copied();
        ControlFlow::Continue(())
    };
    store
        .select(&all(), Timestamp(0), Timestamp::MAX, visit)
        .expect("readable");
    assert!(last.is_some_and(|value| value.is_nan() && !is_histogram(value)));
}

/// Each marker of a window finds its histogram, across sealed chunks and after retention.
#[test]
fn windows_hold_the_histograms_of_their_samples() {
    let store = Store::new(Limits::default());
    for tick in 0..1000_i64 {
        let at = Timestamp(tick * 15_000);
        match tick % 5 {
            0 => drop(store.append(at, &[sample("__name__=h", tick as f64)])),
            _ => drop(store.append_histograms(at, &[histogram("__name__=h", tick as f64)])),
        }
    }
    let check = |from: i64, to: i64| {
        let mut samples = 0;
        let visit = |_: &Labels, window: nightbell::store::Window<'_>| {
            samples += window.times.len();
            for (time, value) in window.times.iter().zip(window.values) {
                let count = window.histogram(*time).map(|histogram| histogram.count);
                assert_eq!(
                    (is_histogram(*value), count),
                    (
                        time / 15_000 % 5 != 0,
                        count.filter(|count| *count == (time / 15_000) as f64)
                    )
                );
            }
            assert_eq!(
                window.histograms.len(),
                window
                    .values
                    .iter()
                    .filter(|value| is_histogram(**value))
                    .count()
            );
            ControlFlow::Continue(())
        };
        store
            .select(&all(), Timestamp(from), Timestamp(to), visit)
            .expect("readable");
        samples
    };
    assert_eq!(check(-1, i64::MAX), 1000);
    assert_eq!(check(15_000 * 100, 15_000 * 350), 250);
    let bytes = store.stats().bytes;
    store.retain(Timestamp(15_000 * 600));
    assert!(check(-1, i64::MAX) < 600 && store.stats().bytes < bytes);
    store.retain(Timestamp(15_000 * 2000));
    assert_eq!((check(-1, i64::MAX), store.series_count()), (0, 0));
}

/// SEMANTICS 4 and 6: a window excludes its start and includes its end, also where it reaches into
/// sealed chunks.
#[test]
fn windows_are_left_open_across_chunks() {
    let store = Store::new(Limits::default());
    for tick in 0..1000_i64 {
        let value = if tick == 500 {
            stale_nan()
        } else {
            tick as f64
        };
        // The second series misses ticks now and then, and so leaves the shared column.
        let mut batch = vec![sample("__name__=a,i=0", value)];
        if tick % 37 != 0 {
            batch.push(sample("__name__=a,i=1", value));
        }
        assert_eq!(
            store.append(Timestamp(tick * 15_000), &batch).appended,
            batch.len()
        );
    }
    for (from, to) in [
        (0, 999),
        (117, 123),
        (119, 120),
        (499, 500),
        (998, 999),
        (990, 999),
        (5, 5),
    ] {
        let found = read(&store, &all(), from * 15_000, to * 15_000);
        for (labels, points) in found {
            let other = labels.get("i") == Some("1");
            let expected: Vec<i64> = (from + 1..=to).filter(|t| !other || t % 37 != 0).collect();
            assert_eq!(
                points.iter().map(|(t, _)| t / 15_000).collect::<Vec<_>>(),
                expected,
                "{labels} ({from}, {to}]"
            );
            assert!(points.iter().all(|(t, v)| if *t == 7_500_000 {
                is_stale(*v)
            } else {
                *v == (*t / 15_000) as f64
            }));
        }
    }
    let stats = store.stats();
    assert!(
        stats.sealed_samples > 1_500 && stats.head_samples < 500,
        "{stats:?}"
    );
}

/// SEMANTICS 23 and 49: an absent label is empty; patterns are anchored; negative matchers take
/// series away.
#[test]
fn matchers_select_series() {
    let store = Store::new(Limits::default());
    let names = [
        "__name__=a,x=1",
        "__name__=a,x=2",
        "__name__=a",
        "__name__=b,x=1",
        "__name__=b,x=12",
    ];
    store.append(Timestamp(1), &names.map(|n| sample(n, 1.0)));
    let count = |matchers: &[(&str, MatchOp, &str)]| {
        let matchers: Vec<Matcher> = matchers
            .iter()
            .map(|(n, op, v)| Matcher::new(n, *op, v).expect("valid"))
            .collect();
        store.series(&matchers, Timestamp(0), Timestamp(2)).len()
    };
    use MatchOp::{Equal, NotEqual, NotRegex, Regex};
    assert_eq!(count(&[("__name__", Equal, "a")]), 3);
    assert_eq!(count(&[("__name__", Equal, "a"), ("x", Equal, "")]), 1);
    assert_eq!(count(&[("__name__", Equal, "a"), ("x", NotEqual, "")]), 2);
    assert_eq!(count(&[("x", Regex, "1|2")]), 3);
    assert_eq!(count(&[("x", Regex, "1.*")]), 3);
    assert_eq!(count(&[("__name__", Regex, ".+"), ("x", Regex, "1|")]), 3);
    assert_eq!(
        count(&[("__name__", Regex, ".+"), ("x", NotRegex, "1.*")]),
        2
    );
    assert_eq!(count(&[("__name__", Regex, ".+"), ("x", NotEqual, "1")]), 3);
    assert_eq!(
        store.label_names(&[], Timestamp(0), Timestamp(2)),
        ["__name__", "x"]
    );
    assert_eq!(
        store.label_values(
            "x",
            &[Matcher::equal("__name__", "b")],
            Timestamp(0),
            Timestamp(2)
        ),
        ["1", "12"]
    );
}

#[test]
fn new_series_beyond_the_limit_are_refused_and_known_ones_go_on() {
    let store = Store::new(Limits {
        max_series: 2,
        ..Limits::default()
    });
    let batch = ["__name__=a", "__name__=b", "__name__=c"].map(|n| sample(n, 1.0));
    assert_eq!(
        store.append(Timestamp(1), &batch),
        Appended {
            appended: 2,
            refused: 1,
            ..Appended::default()
        }
    );
    assert_eq!(
        store.append(Timestamp(2), &batch),
        Appended {
            appended: 2,
            refused: 1,
            ..Appended::default()
        }
    );
    assert_eq!(
        store.series_id(&labels("__name__=d")),
        Err(Refused::TooManySeries(2))
    );
    assert_eq!((store.series_count(), store.stats().refused_series), (2, 3));
}

/// Recorded series may be kept longer than what was measured: some rules look back for days.
#[test]
fn retention_may_differ_by_series() {
    let store = Store::new(Limits::default());
    store.append(
        Timestamp(1_000),
        &[
            sample("__name__=a:recorded", 1.0),
            sample("__name__=measured", 1.0),
        ],
    );
    let age = |labels: &Labels| {
        Timestamp(if labels.metric_name().contains(':') {
            0
        } else {
            60_000
        })
    };
    assert_eq!(store.retain_by(age), 1);
    assert_eq!(
        store.series(&all(), Timestamp(0), Timestamp(100_000)),
        [labels("__name__=a:recorded")]
    );
}

/// The values of series that share their instants stand together: one that stays behind must not
/// hold the room of the others for hours.
/// Large targets that begin together are not sealed together, neither the first time nor later, and of
/// one target no more than a part is.
#[test]
fn heads_are_sealed_over_time_whatever_begins_together() {
    let store = Store::new(Limits::default());
    let targets: Vec<Vec<Sample>> = (0..6)
        .map(|target| {
            (0..5000)
                .map(|i| sample(&format!("__name__=t{target},i={i}"), f64::from(i)))
                .collect()
        })
        .collect();
    let (mut sealed, mut at_once) = (0, 0);
    const TICKS: i64 = 250;
    for tick in 1..=TICKS {
        for (offset, target) in (0..).zip(&targets) {
            store.append(Timestamp(tick * 1000 + offset), target);
        }
        let now = store.stats().sealed_samples;
        at_once = at_once.max(now - sealed);
        sealed = now;
    }
    assert!(sealed >= 30_000 * (TICKS as usize - 120));
    let most = at_once / 120;
    assert!(most < 30_000 / 3, "{most} series were sealed in one tick");
    let matcher = vec![Matcher::new("i", MatchOp::Regex, "4.99").expect("valid")];
    for (labels, samples) in read(&store, &matcher, 0, i64::MAX) {
        assert_eq!(samples.len(), TICKS as usize, "{labels}");
        assert!(samples.is_sorted_by(|a, b| a.0 + 1000 == b.0 && a.1 == b.1));
    }
}

#[test]
fn a_series_that_ended_does_not_hold_the_room_of_those_that_go_on() {
    let store = Store::new(Limits::default());
    let others: Vec<Sample> = (0..1000)
        .map(|i| sample(&format!("__name__=b,i={i}"), f64::from(i) / 4.0))
        .collect();
    let ended = [sample("__name__=a", 1.0), sample("__name__=c", 0.5)];
    let mut expected = Vec::new();
    for tick in 1..=125 {
        if tick <= 50 {
            store.append(Timestamp(tick * 1000), &[&others[..], &ended[..]].concat());
            expected.push((tick * 1000, 1.0));
        } else {
            store.append(Timestamp(tick * 1000), &others);
        }
    }
    let before = store.stats();
    assert_eq!(store.retain(Timestamp(0)), 0);
    let after = store.stats();
    assert_eq!(after.head_samples, 5 * 1000, "the ended ones are sealed");
    assert_eq!(
        after.head_samples + after.sealed_samples,
        before.head_samples + before.sealed_samples
    );
    assert!(
        after.bytes * 2 < before.bytes,
        "{} bytes, then {}",
        before.bytes,
        after.bytes
    );
    let matcher = vec![Matcher::new("__name__", MatchOp::Equal, "a").expect("valid")];
    assert_eq!(read(&store, &matcher, 0, i64::MAX)[0].1, expected);
    assert_eq!(
        store.append(Timestamp(125_000), &ended),
        Appended {
            appended: 2,
            ..Appended::default()
        },
        "and may come again"
    );
    expected.push((125_000, 1.0));
    assert_eq!(read(&store, &matcher, 0, i64::MAX)[0].1, expected);
}

#[test]
fn retention_drops_series_and_their_ids_stay_dead() {
    let store = Store::new(Limits::default());
    let old = store.series_id(&labels("__name__=old")).expect("room");
    store.append_ids(Timestamp(1_000), &[(old, 1.0)]);
    store.append(Timestamp(90_000), &[sample("__name__=new", 1.0)]);
    let generation = store.generation();
    assert_eq!(store.retain(Timestamp(60_000)), 1);
    assert!(store.generation() > generation);
    assert_eq!(
        store.series(&all(), Timestamp(0), Timestamp(100_000)),
        [labels("__name__=new")]
    );
    // The slot is taken by another series; the old id must not write to it.
    store.append(Timestamp(91_000), &[sample("__name__=next", 1.0)]);
    assert_eq!(
        store.append_ids(Timestamp(92_000), &[(old, 5.0)]),
        Appended {
            forgotten: vec![old],
            ..Appended::default()
        }
    );
    assert_eq!(
        read(&store, &[Matcher::equal("__name__", "next")], 0, 100_000)[0].1,
        [(91_000, 1.0)]
    );
}

/// What `/api/v1/status/tsdb` shows: the greatest first, equal ones by name.
#[test]
fn cardinality_counts_series_pairs_and_values() {
    let store = Store::new(Limits::default());
    assert_eq!(store.cardinality(10).span, None);
    let batch = [
        "__name__=a,i=1,zone=x",
        "__name__=a,i=2,zone=x",
        "__name__=b,i=1,zone=x",
    ]
    .map(|text| sample(text, 1.0));
    for tick in 1..=3 {
        store.append(Timestamp(tick * 1000), &batch);
    }
    let found = store.cardinality(2);
    assert_eq!((found.series, found.label_pairs, found.chunks), (3, 5, 3));
    assert_eq!(found.span, Some((Timestamp(1000), Timestamp(3000))));
    let list = |entries: &[(&str, usize)]| {
        entries
            .iter()
            .map(|(n, v)| ((*n).to_owned(), *v))
            .collect::<Vec<_>>()
    };
    assert_eq!(found.series_by_metric, list(&[("a", 2), ("b", 1)]));
    assert_eq!(found.values_by_label, list(&[("__name__", 2), ("i", 2)]));
    assert_eq!(found.bytes_by_label, list(&[("__name__", 3), ("i", 3)]));
    assert_eq!(
        found.series_by_pair,
        list(&[("zone=x", 3), ("__name__=a", 2)])
    );
}

/// A target has a share; what it ended counts until it leaves memory, and a reload or a start does
/// not give it another one.
#[test]
fn a_target_has_a_share_that_comes_back_when_its_series_end() {
    let folder = tempfile::tempdir().expect("a folder");
    let settings = HistorySettings {
        path: folder.path().to_owned(),
        retention: Duration::from_secs(86_400),
        max_size: None,
    };
    let limits = Limits {
        max_series: 100_000,
        max_series_per_target: 300,
        ..Limits::default()
    };
    let start = Timestamp(1_764_000_000_000);
    let store = Store::open(limits.clone(), &settings, start).expect("opens");
    let (one, other) = (
        store.owner(&labels("job=one")),
        store.owner(&labels("job=other")),
    );
    let series = |n: usize| labels(&format!("__name__=m,n={n}"));
    let ids: Vec<_> = (0..300)
        .map(|n| {
            store
                .series_id_of(&one, &series(n))
                .expect("within its share")
        })
        .collect();
    assert_eq!(
        store.series_id_of(&one, &series(300)),
        Err(Refused::ShareTaken(300))
    );
    assert_eq!(
        store.series_id_of(&store.owner(&labels("job=one")), &series(301)),
        Err(Refused::ShareTaken(300)),
        "it is the same target"
    );
    assert!(
        store
            .series_id_of(&one, &series(7))
            .is_ok_and(|id| id == ids[7]),
        "a known series is"
    );
    assert!(
        store.series_id_of(&other, &series(302)).is_ok(),
        "another target is not concerned"
    );
    let samples = |value: f64| ids.iter().map(|id| (*id, value)).collect::<Vec<_>>();
    store.append_ids(start, &samples(1.0));
    store.append_ids(start + Duration::from_secs(1), &samples(stale_nan()));
    store.maintain(start + Duration::from_secs(60));
    assert_eq!(
        (
            store.series_of(&one),
            store.series_id_of(&one, &series(300))
        ),
        (300, Err(Refused::ShareTaken(300)))
    );
    store.maintain(start + Duration::from_secs(400));
    assert_eq!(store.series_of(&one), 0);
    let again = store
        .series_id_of(&one, &series(300))
        .expect("there is room again");
    store.append_ids(start + Duration::from_secs(401), &[(again, 1.0)]);
    assert!(store.flush());
    drop(store);
    let store = Store::open(limits, &settings, start + Duration::from_secs(402)).expect("opens");
    let one = store.owner(&labels("job=one"));
    assert_eq!(
        (store.series_count(), store.series_of(&one)),
        (1, 0),
        "nobody's after a start"
    );
    store.series_id_of(&one, &series(300)).expect("known");
    assert_eq!(store.series_of(&one), 1);
}

/// Room for what watches is never taken by targets and rules, nor that of small targets by large
/// ones.
#[test]
fn the_last_tenth_of_the_room_is_for_what_watches_and_for_small_targets() {
    let store = Store::new(Limits {
        max_series: 10_000,
        max_series_per_target: usize::MAX,
        ..Limits::default()
    });
    let fill = |job: &str, most: usize| {
        let owner = store.owner(&labels(&format!("job={job}")));
        (0..most)
            .take_while(|n| {
                store
                    .series_id_of(&owner, &labels(&format!("__name__=m,job={job},n={n}")))
                    .is_ok()
            })
            .count()
    };
    assert_eq!(fill("large", 20_000), 9000);
    assert_eq!(
        store
            .append(Timestamp(1), &[sample("__name__=recorded:by:a:rule", 1.0)])
            .refused,
        1
    );
    assert_eq!(
        ["small", "late", "a", "b", "c"].map(|job| fill(job, 20_000)),
        [100; 5],
        "a hundredth makes a target large"
    );
    assert_eq!(fill("too late", 20_000), 0);
    let vital = [
        "__name__=ALERTS,alertname=a",
        "__name__=ALERTS_FOR_STATE,alertname=a",
        "__name__=up,job=late",
        "__name__=scrape_series_added",
    ];
    assert_eq!(
        store
            .append(Timestamp(1), &vital.map(|text| sample(text, 1.0)))
            .appended,
        4
    );
    assert!(
        store
            .series_id(&labels("__name__=nightbell_targets"))
            .is_ok()
    );
}
