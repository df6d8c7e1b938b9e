//! A long log is shortened by blocks that do not wait for late samples, unless some come late; a crash
//! at any moment loses and doubles nothing.

use std::fs;
use std::path::Path;

use super::*;

const MINUTE: i64 = 60_000;

/// A copy of the folder is what a crash at this moment leaves.
fn crashed(folder: &Path) -> tempfile::TempDir {
    fn copy(from: &Path, to: &Path) {
        fs::create_dir_all(to).expect("a folder");
        for entry in fs::read_dir(from).expect("readable") {
            let entry = entry.expect("readable");
            let to = to.join(entry.file_name());
            if entry.file_type().expect("known").is_dir() {
                copy(&entry.path(), &to);
            } else {
                fs::copy(entry.path(), to).expect("copied");
            }
        }
    }
    let left = tempfile::tempdir().expect("a folder");
    copy(folder, left.path());
    left
}

/// Collects for a minute and keeps the store in order, as the program does; `late` milliseconds is how
/// old a second series' samples are.
fn minute(store: &Store, memory: &Store, number: i64, late: Option<i64>) {
    for tick in number * 4..number * 4 + 4 {
        let at = START + tick * STEP;
        let mut batch = super::tick(tick);
        batch.extend(late.map(|late| Sample {
            timestamp: Some(Timestamp(at - late)),
            ..sample("late", 1, tick as f64)
        }));
        for store in [store, memory] {
            let taken = store.append(Timestamp(at), &batch);
            assert_eq!(taken.appended, batch.len(), "minute {number}: {taken:?}");
            let histograms = histograms(tick);
            assert_eq!(
                store.append_histograms(Timestamp(at), &histograms).appended,
                histograms.len()
            );
        }
    }
    store.maintain(Timestamp(START + (number + 1) * MINUTE));
}

fn segments(folder: &Path) -> usize {
    fs::read_dir(folder.join("wal")).expect("readable").count()
}

#[test]
fn a_long_log_holds_half_an_hour_and_a_crash_at_any_minute_loses_and_doubles_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let (store, memory) = (open(folder.path(), START), Store::new(Limits::default()));
    store.shorten_log_beyond(0);
    for number in 0..100 {
        minute(&store, &memory, number, None);
        // Half an hour is in a block two minutes after its end, and its log is gone.
        let blocks = store.history().expect("a history").blocks.len() as i64;
        assert!(blocks > 0 || number < 31, "minute {number}");
        let held = store.stats().head_samples + store.stats().sealed_samples;
        assert!(held < 8 * 4 * 65, "{held} samples in memory at {number}");
        assert!(segments(folder.path()) <= 3, "minute {number}");
        if number % 9 == 0 || (30..34).contains(&(number % 60)) {
            assert!(store.flush());
            let left = crashed(folder.path());
            let again = open(left.path(), START + (number + 1) * MINUTE);
            assert_eq!(content(&again), content(&memory), "minute {number}");
        }
    }
}

#[test]
fn a_long_log_waits_for_samples_that_come_late() {
    let folder = tempfile::tempdir().expect("a folder");
    let (store, memory) = (open(folder.path(), START), Store::new(Limits::default()));
    store.shorten_log_beyond(0);
    // Each is refused as soon as a block holds its time, and the test would fail.
    (0..120).for_each(|number| minute(&store, &memory, number, Some(12 * MINUTE)));
    assert!(!store.history().expect("a history").blocks.is_empty());
    assert_eq!(content(&store), content(&memory));
}

#[test]
fn a_log_that_is_not_long_waits_an_hour_for_whatever_comes_late() {
    let folder = tempfile::tempdir().expect("a folder");
    let (store, memory) = (open(folder.path(), START), Store::new(Limits::default()));
    (0..85).for_each(|number| minute(&store, &memory, number, None));
    assert!(store.history().expect("a history").blocks.is_empty());
    minute(&store, &memory, 85, Some(59 * MINUTE));
    assert_eq!(content(&store), content(&memory));
}
