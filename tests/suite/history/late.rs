//! Samples that come long after their time: a page with timestamps from hours or days ago.

use super::*;

const MINUTE: i64 = 60_000;

fn sample(name: &str, at: i64) -> Sample {
    Sample {
        labels: Labels::from_pairs([("__name__", name)]),
        value: at as f64,
        timestamp: Some(Timestamp(at)),
    }
}

fn times(store: &Store, name: &str) -> Vec<i64> {
    let found = content(store);
    found
        .get(&Labels::from_pairs([("__name__", name)]).to_string())
        .map(|s| s.iter().map(|(at, _)| *at).collect())
        .unwrap_or_default()
}

/// Nothing is lost of a history that is fed in while the program runs and collects, at a minute's
/// upkeep; blocks are written as it goes, and a restart on the way changes nothing.
#[test]
fn a_history_that_is_fed_in_is_kept_whole() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut store = open(folder.path(), START);
    let begin = START - 3 * 86_400_000;
    let (mut fed, mut collected) = (Vec::new(), Vec::new());
    // Three hours are fed each minute, and forty minutes pass: a block of the present becomes due
    // on the way.
    for minute in 0..24 {
        let now = START + minute * 2 * MINUTE;
        for part in 0..2 {
            let now = now + part * MINUTE;
            store.append(Timestamp(now), &[sample("collected", now)]);
            collected.push(now);
            let page: Vec<i64> = (0..90)
                .map(|n| begin + (minute * 2 + part) * 90 * MINUTE + n * MINUTE + 7)
                .collect();
            let taken = store.append(
                Timestamp(now),
                &page.iter().map(|at| sample("fed", *at)).collect::<Vec<_>>(),
            );
            assert_eq!(
                (taken.appended, taken.out_of_bounds),
                (90, 0),
                "minute {minute}"
            );
            fed.extend(page);
            store.maintain(Timestamp(now + 30_000));
        }
        if minute == 11 {
            assert!(store.flush());
            drop(store);
            store = open(folder.path(), now + MINUTE);
        }
    }
    let blocks = |store: &Store| store.history().expect("a history").blocks;
    assert!(
        !blocks(&store).is_empty(),
        "blocks are written while it comes"
    );
    assert!(
        store.stats().head_samples + store.stats().sealed_samples < 90 * 6,
        "memory holds the last minutes only"
    );
    let mut now = START + 48 * MINUTE;
    for _ in 0..120 {
        now += MINUTE;
        store.append(Timestamp(now), &[sample("collected", now)]);
        collected.push(now);
        store.maintain(Timestamp(now));
    }
    assert!(
        blocks(&store).last().is_some_and(|b| b.last.0 > START),
        "the present goes into blocks again"
    );
    assert_eq!(times(&store, "fed"), fed);
    assert_eq!(times(&store, "collected"), collected);
    assert!(store.flush());
    drop(store);
    let store = open(folder.path(), now);
    assert_eq!(
        (times(&store, "fed"), times(&store, "collected")),
        (fed, collected)
    );
}

/// A service that lags by an hour and a half loses nothing, for however long.
#[test]
fn a_target_that_always_lags_loses_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path(), START);
    for minute in 0..5 * 60 {
        let now = START + minute * MINUTE;
        let taken = store.append(
            Timestamp(now),
            &[
                sample("collected", now),
                sample("lagging", now - 90 * MINUTE),
            ],
        );
        assert_eq!(taken.appended, 2, "minute {minute}: {taken:?}");
        store.maintain(Timestamp(now));
    }
    assert_eq!(times(&store, "lagging").len(), 300);
    assert!(
        store.stats().head_samples + store.stats().sealed_samples < 2 * 150,
        "what is in blocks is not in memory"
    );
}

/// What is days late for hours on end does not keep everything in memory: after two hours it is
/// refused, and counted.
#[test]
fn samples_that_are_days_late_are_waited_for_at_most_two_hours() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path(), START);
    let mut refused = 0;
    for minute in 0..4 * 60 {
        let now = START + minute * MINUTE;
        let taken = store.append(
            Timestamp(now),
            &[
                sample("collected", now),
                sample("ancient", now - 86_400_000),
            ],
        );
        refused += taken.out_of_bounds;
        assert!(minute > 120 || refused == 0, "minute {minute}");
        store.maintain(Timestamp(now));
    }
    assert!((100..125).contains(&refused), "{refused}");
    assert!(store.history().is_some_and(|h| {
        h.blocks
            .last()
            .is_some_and(|b| b.last.0 > START + 120 * MINUTE)
    }));
}
