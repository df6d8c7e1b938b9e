//! A folder that could not be used at the start is used once it can be.

use super::*;

/// What its log and blocks hold, what was sampled without it and what comes after are one history,
/// also after a restart.
#[test]
fn a_folder_that_becomes_usable_is_used_again_and_nothing_is_missing() {
    let parent = tempfile::tempdir().expect("a folder");
    let (folder, away) = (parent.path().join("history"), parent.path().join("away"));
    let memory = Store::new(Limits::default());
    let at = |tick: i64| Timestamp(START + tick * STEP);
    {
        let store = open(&folder, START);
        live(&store, &memory, 0..BLOCK + 40);
        assert!(store.flush());
    }
    fs::rename(&folder, &away).expect("moved");
    fs::write(&folder, "a file is no folder").expect("written");
    Store::open(Limits::default(), &settings(&folder), at(BLOCK + 40)).expect_err("cannot be used");
    let store = Store::awaiting(Limits::default(), &settings(&folder));
    live(&store, &memory, BLOCK + 60..BLOCK + 100);
    store
        .open_awaited(at(BLOCK + 100))
        .expect_err("still cannot be used");
    assert!(store.awaits_history() && store.history().is_none());

    fs::remove_file(&folder).expect("removed");
    fs::rename(&away, &folder).expect("moved");
    store.open_awaited(at(BLOCK + 100)).expect("can be used");
    assert!(
        !store.awaits_history() && store.history().is_some_and(|h| h.blocks.len() >= 3),
        "{:?}",
        store.history()
    );
    assert_eq!(content(&store), content(&memory));
    live(&store, &memory, BLOCK + 100..BLOCK + 120);
    assert!(store.flush());
    assert_eq!(content(&store), content(&memory));
    store
        .open_awaited(at(BLOCK + 120))
        .expect("has nothing to do");
    drop(store);
    assert_eq!(
        content(&open(&folder, at(BLOCK + 120).0)),
        content(&memory),
        "after a restart"
    );
}

/// A folder that nobody has written yet begins with what memory holds.
#[test]
fn an_empty_folder_begins_with_what_memory_holds() {
    let parent = tempfile::tempdir().expect("a folder");
    let folder = parent.path().join("history");
    let memory = Store::new(Limits::default());
    let store = Store::awaiting(Limits::default(), &settings(&folder));
    live(&store, &memory, 0..50);
    let now = START + 50 * STEP;
    store.open_awaited(Timestamp(now)).expect("can be used");
    assert!(store.flush());
    assert_eq!(content(&store), content(&memory));
    drop(store);
    assert_eq!(
        content(&open(&folder, now)),
        content(&memory),
        "after a restart"
    );
}
