//! The log is read beside collection; backfilled blocks are merged in one upkeep; copies for backups.

use std::fs;
use std::time::Duration;

use nightbell::model::{Labels, Sample, Timestamp};
use nightbell::store::{Limits, Store};

use super::{BLOCK, Content, START, STEP, content, live, open, settings};
use crate::servers::nightbell::Nightbell;
use crate::servers::wait_until;

fn sample(name: &str, number: i64, value: f64) -> Sample {
    Sample {
        labels: Labels::from_pairs([("__name__", name), ("i", &number.to_string())]),
        value,
        timestamp: None,
    }
}

/// Ticks of a series that the log holds already and of one that it does not.
fn tick(store: &Store, tick: i64) {
    let taken = store.append(
        Timestamp(START + tick * STEP),
        &[sample("old", 1, tick as f64), sample("new", 1, tick as f64)],
    );
    assert_eq!(taken.appended, 2);
}

/// What the log holds, and ten further ticks that came while it was read.
fn expected() -> Content {
    let memory = Store::new(Limits::default());
    for n in 0..60 {
        memory.append(Timestamp(START + n * STEP), &[sample("old", 1, n as f64)]);
    }
    (60..70).for_each(|n| tick(&memory, n));
    content(&memory)
}

fn written() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path(), START);
    for n in 0..60 {
        store.append(Timestamp(START + n * STEP), &[sample("old", 1, n as f64)]);
    }
    assert!(store.flush());
    folder
}

#[test]
fn what_comes_while_the_log_is_read_is_appended_after_it() {
    let folder = written();
    let now = Timestamp(START + 60 * STEP);
    let (store, reading) =
        Store::open_beside(Limits::default(), &settings(folder.path()), now).expect("opens");
    assert!(store.is_reading() && reading.bytes() > 0);
    (60..70).for_each(|n| tick(&store, n));
    // An upkeep meanwhile deletes nothing of what is not read yet.
    store.maintain(now);
    assert!(content(&store).is_empty(), "it waits for what is older");
    store.read_beside(&reading);
    assert!(!store.is_reading());
    store.wait_until_read();
    assert_eq!(store.segments_read(), (1, 1));
    assert_eq!(content(&store), expected());
    tick(&store, 70);
    assert!(store.flush());
    drop(store);
    let mut all = expected();
    for samples in all.values_mut() {
        samples.push((START + 70 * STEP, 70_f64.to_bits()));
    }
    assert_eq!(content(&open(folder.path(), START + 71 * STEP)), all);
}

#[test]
fn a_crash_while_the_log_is_read_loses_and_doubles_nothing() {
    let folder = written();
    let now = Timestamp(START + 60 * STEP);
    for end in [65, 70] {
        let (store, reading) =
            Store::open_beside(Limits::default(), &settings(folder.path()), now).expect("opens");
        (end - 5..end).for_each(|n| tick(&store, n));
        assert!(store.flush());
        // It ends before anything of the log was read.
        drop((store, reading));
    }
    assert_eq!(content(&open(folder.path(), START + 70 * STEP)), expected());
}

/// A clock that was set back while nightbell did not run cuts what the log holds of the future, and
/// not what came since.
#[test]
fn samples_that_wait_survive_a_clock_that_was_set_back() {
    let folder = written();
    let back = START + 30 * STEP;
    let (store, reading) =
        Store::open_beside(Limits::default(), &settings(folder.path()), Timestamp(back))
            .expect("opens");
    let at = Timestamp(back + 500);
    assert_eq!(store.append(at, &[sample("new", 1, 1.0)]).appended, 1);
    store.read_beside(&reading);
    let has = |store: &Store| content(store).keys().any(|name| name.starts_with("new"));
    assert!(has(&store));
    assert!(store.flush());
    drop(store);
    assert!(has(&open(folder.path(), back + 1000)));
}

#[test]
fn a_history_that_was_fed_in_is_merged_by_one_upkeep() {
    let folder = tempfile::tempdir().expect("a folder");
    let memory = Store::new(Limits::default());
    let store = open(folder.path(), START);
    let (hours, minute) = (5 * 24, 60_000);
    for n in 0..hours * 12 {
        let at = Timestamp(START + n * 5 * minute);
        let samples = [sample("fed", 1, n as f64), sample("fed", 2, -n as f64)];
        store.append(at, &samples);
        memory.append(at, &samples);
    }
    store.maintain(Timestamp(START + hours * 60 * minute));
    let blocks = store.history().expect("a history").blocks;
    assert!(
        blocks.len() <= 5 + 6 + 8,
        "days, quarters of the first and the last day, the last half hours: {}",
        blocks.len()
    );
    assert!(content(&store) == content(&memory));
}

#[test]
fn a_copy_is_the_history_of_its_moment() {
    let folder = tempfile::tempdir().expect("a folder");
    let (store, memory) = (open(folder.path(), START), Store::new(Limits::default()));
    live(&store, &memory, 0..3 * BLOCK + 30);
    let then = content(&memory);
    let now = Timestamp(START + (3 * BLOCK + 30) * STEP);
    let made = || store.snapshot(now).expect("a history").expect("is made");
    let (first, second) = (made(), made());
    assert_ne!(first, second);
    // What goes on changes no copy.
    live(&store, &memory, 3 * BLOCK + 30..10 * BLOCK);
    assert!(store.flush());
    for name in [first, second] {
        let copy = folder.path().join("snapshots").join(name);
        assert_eq!(content(&open(&copy, now.0)), then);
    }
    assert_eq!(content(&store), content(&memory));
    assert!(Store::new(Limits::default()).snapshot(now).is_none());
}

#[test]
fn a_copy_that_a_crash_cut_short_is_gone_after_the_next_start() {
    let folder = written();
    let left = folder
        .path()
        .join("snapshots")
        .join("20260101T000000Z-1.tmp");
    fs::create_dir_all(left.join("blocks")).expect("made");
    fs::write(left.join("blocks").join("x.block"), "half").expect("written");
    let store = open(folder.path(), START + 60 * STEP);
    assert!(!left.exists());
    // A folder that cannot be written: an error that names it, and nothing is left.
    fs::remove_dir_all(folder.path().join("snapshots")).expect("removed");
    fs::write(folder.path().join("snapshots"), "a file").expect("written");
    let error = store
        .snapshot(Timestamp(START + 60 * STEP))
        .expect("a history")
        .expect_err("cannot be made");
    assert!(
        error
            .to_string()
            .contains(&folder.path().display().to_string()),
        "{error}"
    );
}

#[test]
fn the_api_makes_a_copy_as_prometheus_does() {
    let mut nightbell =
        Nightbell::start("global: {scrape_interval: 500ms}\ncollectors:\n  host: {}\n");
    wait_until("samples", Duration::from_secs(20), || {
        nightbell
            .get("/api/v1/query?query=node_load1")
            .1
            .contains("\"value\"")
    });
    let (status, body) = nightbell.request("POST", "/api/v1/admin/tsdb/snapshot", "");
    assert_eq!(status, 200, "{body}");
    let answer: serde_json::Value = serde_json::from_str(&body).expect("JSON");
    let name = answer["data"]["name"].as_str().expect("a name").to_owned();
    nightbell.kill();
    let history = nightbell.folder.path().join("state/history");
    let copy = history.join("snapshots").join(name);
    let store = open(&copy, Timestamp::now().0);
    assert!(store.series_count() > 0);
}
