//! Series that ended leave memory within minutes and are read from disk; nothing that is asked
//! changes by it.

use super::*;

const MINUTE: i64 = 60_000;
/// Series that end in each minute.
const CHURN: i64 = 20;
/// Where a target may have few series, few that ended are worth a file.
const LIMITS: Limits = Limits {
    max_series: 1_000_000,
    max_series_per_target: CHURN as usize,
    max_labels_bytes: 1 << 20,
};

fn open(path: &Path, now: i64) -> Store {
    Store::open(LIMITS, &settings(path), Timestamp(now)).expect("the folder can be used")
}

/// A minute of a target: series that live for a minute and end with a marker, some of which come
/// back, beside one that stays.
fn minute(stores: [&Store; 2], number: i64) {
    let at = |tick: i64| Timestamp(START + number * MINUTE + tick * STEP);
    let names =
        |number: i64| (0..CHURN).map(move |n| if n % 10 == 7 { n } else { number * CHURN + n });
    for store in stores {
        for tick in 0..4 {
            let mut batch: Vec<Sample> = names(number)
                .map(|n| sample("churn", n as usize, (n * 3 + tick) as f64))
                .collect();
            batch.push(sample("stays", 0, (number * 4 + tick) as f64));
            if tick == 0 && number > 0 {
                let again: std::collections::HashSet<i64> = names(number).collect();
                let gone = names(number - 1).filter(|n| !again.contains(n));
                batch.extend(gone.map(|n| sample("churn", n as usize, stale_nan())));
            }
            assert_eq!(store.append(at(tick), &batch).appended, batch.len());
        }
        if number % 9 == 4 {
            store.append_histograms(at(3), &histograms(number));
        }
    }
}

fn end_of(number: i64) -> i64 {
    START + (number + 1) * MINUTE
}

/// Every file of the folder `blocks` with this ending.
fn of_kind(folder: &Path, kind: &str) -> Vec<PathBuf> {
    files(&folder.join("blocks"))
        .into_iter()
        .filter(|file| file.extension().is_some_and(|e| e == kind))
        .collect()
}

/// Through evictions, blocks, restarts and kills the answers are those of a store that has all in
/// memory, and memory holds what ended some minutes ago at most.
#[test]
fn series_that_ended_leave_memory_and_no_answer_changes() {
    let folder = tempfile::tempdir().expect("a folder");
    let memory = Store::new(LIMITS);
    let mut store = open(folder.path(), START);
    let (mut most, mut written) = (0, 0);
    for number in 0..130 {
        minute([&store, &memory], number);
        store.maintain(Timestamp(end_of(number)));
        most = most.max(store.series_count());
        written = written.max(of_kind(folder.path(), "ended").len());
        if number % 26 == 25 {
            assert!(store.flush());
            for (from, to) in [
                (0, number + 1),
                (number - 10, number),
                (number - 70, number - 3),
                (number - 2, number + 1),
            ] {
                let (from, to) = (START + from * MINUTE - 1, START + to * MINUTE);
                assert_eq!(
                    between(&store, from, to),
                    between(&memory, from, to),
                    "minute {number}: {from} to {to}"
                );
            }
            drop(store);
            store = open(folder.path(), end_of(number));
            assert!(
                store.series_count() < 10 * CHURN as usize,
                "{} series after a start",
                store.series_count()
            );
            assert_eq!(
                content(&store),
                content(&memory),
                "after the start in minute {number}"
            );
        }
    }
    assert!(most < 10 * CHURN as usize, "{most} series in memory");
    assert!(written > 3, "{written} files of ended series at once");
    assert!(
        store
            .history()
            .is_some_and(|h| h.blocks.len() > 1 && h.damaged == 0)
    );
    let names = |store: &Store| {
        store.label_values("i", &any_series(), Timestamp(START), Timestamp(end_of(130)))
    };
    assert_eq!(names(&store), names(&memory));
}

/// A series that comes back under the same labels goes on, whether its samples come in time or
/// late, and over a start too.
#[test]
fn a_series_that_comes_back_goes_on() {
    let folder = tempfile::tempdir().expect("a folder");
    let memory = Store::new(LIMITS);
    let store = open(folder.path(), START);
    for number in 0..3 {
        minute([&store, &memory], number);
    }
    (3..12).for_each(|number| store.maintain(Timestamp(end_of(number))));
    assert!(
        store.series_count() < 2 * CHURN as usize,
        "{} series",
        store.series_count()
    );
    let at = end_of(12);
    for store in [&store, &memory] {
        let back: Vec<Sample> = (0..15)
            .map(|n| sample("churn", n + CHURN as usize, 7.0))
            .collect();
        assert_eq!(store.append(Timestamp(at), &back).appended, 15);
        let late = Sample {
            timestamp: Some(Timestamp(at - 20 * MINUTE)),
            ..sample("late", 0, 1.0)
        };
        assert_eq!(store.append(Timestamp(at), &[late]).appended, 1);
    }
    assert_eq!(content(&store), content(&memory));
    assert!(store.flush());
    drop(store);
    let store = open(folder.path(), at);
    assert_eq!(content(&store), content(&memory), "after a start");
    // What is written anew is put together with what was written before.
    (13..24).for_each(|number| store.maintain(Timestamp(end_of(number))));
    assert_eq!(content(&store), content(&memory));
    store.maintain(Timestamp(at + 3 * 60 * MINUTE));
    assert!(
        of_kind(folder.path(), "ended").is_empty()
            && store.history().is_some_and(|h| !h.blocks.is_empty())
    );
    assert_eq!(content(&store), content(&memory), "in a block");
}

/// A file of ended series that is damaged, lost, or cut short by a crash costs no sample: the log
/// has them too.
#[test]
fn a_damaged_file_of_ended_series_costs_no_sample() {
    let folder = tempfile::tempdir().expect("a folder");
    let memory = Store::new(LIMITS);
    let store = open(folder.path(), START);
    for number in 0..4 {
        minute([&store, &memory], number);
    }
    (4..13).for_each(|number| store.maintain(Timestamp(end_of(number))));
    assert!(store.flush());
    drop(store);
    let file = of_kind(folder.path(), "ended")
        .pop()
        .expect("a file of ended series");
    let whole = fs::read(&file).expect("a file");
    for (name, bytes) in [
        ("cut short", whole[..whole.len() - 9].to_vec()),
        (
            "damaged at its end",
            [
                &whole[..whole.len() - 120],
                &[0x55; 20],
                &whole[whole.len() - 100..],
            ]
            .concat(),
        ),
        (
            "damaged at its begin",
            [&whole[..30], &[0x55; 20], &whole[50..]].concat(),
        ),
    ] {
        fs::write(&file, bytes).expect("written");
        fs::write(file.with_extension("tmp"), b"half").expect("written");
        let store = open(folder.path(), end_of(13));
        assert_eq!(content(&store), content(&memory), "{name}");
        drop(store);
        for other in files(&folder.path().join("blocks")) {
            assert!(
                other.extension().is_none_or(|e| e != "tmp"),
                "{}",
                other.display()
            );
        }
    }
    fs::remove_file(&file).ok();
    assert_eq!(
        content(&open(folder.path(), end_of(13))),
        content(&memory),
        "lost"
    );
}

/// Without a folder so many of the series that ended are kept, those that ended last.
#[test]
fn a_store_in_memory_only_keeps_a_number_of_ended_series() {
    let store = Store::new(Limits::default());
    for number in 0..54_i64 {
        let at = |seconds: i64| Timestamp(START + number * MINUTE + seconds * 1000);
        let batch = |value: f64| {
            (0..1000)
                .map(|n| sample("churn", (number * 1000 + n) as usize, value))
                .collect::<Vec<_>>()
        };
        store.append(at(0), &batch(1.0));
        store.append(at(1), &batch(stale_nan()));
    }
    store.maintain(Timestamp(end_of(70)));
    assert_eq!(store.series_count(), 50_000);
    let has = |number: usize| {
        !store
            .series(
                &[Matcher::equal("i", &number.to_string())],
                Timestamp(0),
                Timestamp(i64::MAX),
            )
            .is_empty()
    };
    assert!(has(53_999) && has(4000) && !has(3999) && !has(0));
}

/// What a crash at this instant would leave: the log first, since what goes from it into a block or
/// file meanwhile is then in both.
fn copy_of(folder: &Path) -> tempfile::TempDir {
    let copy = tempfile::tempdir().expect("a folder");
    for part in ["wal", "blocks"] {
        let to = copy.path().join(part);
        fs::create_dir_all(&to).expect("a folder");
        for file in files(&folder.join(part)) {
            // One that goes while it is copied is not there at a crash either.
            let _ = fs::copy(&file, to.join(file.file_name().expect("a name")));
        }
    }
    copy
}

/// A crash in the midst of an eviction loses nothing and serves nothing twice.
#[test]
fn a_crash_in_the_midst_of_an_eviction_loses_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let memory = Store::new(LIMITS);
    let store = open(folder.path(), START);
    for number in 0..9 {
        minute([&store, &memory], number);
    }
    assert!(store.flush());
    let copies = std::thread::scope(|scope| {
        let upkeep =
            scope.spawn(|| (9..24).for_each(|number| store.maintain(Timestamp(end_of(number)))));
        let mut copies = vec![copy_of(folder.path())];
        while !upkeep.is_finished() && copies.len() < 12 {
            copies.push(copy_of(folder.path()));
        }
        copies
    });
    assert!(
        store.series_count() < 2 * CHURN as usize,
        "{}",
        store.series_count()
    );
    for (number, copy) in copies.iter().chain([&copy_of(folder.path())]).enumerate() {
        // The last bytes of a file that was being written as it was copied are of no log record: it
        // is cut back.
        assert_eq!(
            content(&open(copy.path(), end_of(24))),
            content(&memory),
            "copy {number} of {}",
            copies.len()
        );
    }
}

/// A query that began before series left memory reads them to its end, however many files are
/// written meanwhile.
#[test]
fn a_query_that_takes_long_misses_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let (store, memory) = (open(folder.path(), START), Store::new(LIMITS));
    for number in 0..4 {
        minute([&store, &memory], number);
    }
    let (from, to) = (Timestamp(START - 1), Timestamp(end_of(30)));
    let selection = store.selection(&any_series(), from, to, false);
    for number in 4..30 {
        minute([&store, &memory], number);
        store.maintain(Timestamp(end_of(number)));
    }
    assert!(!of_kind(folder.path(), "ended").is_empty());
    let mut found = Content::new();
    let read = store.read(&selection, from, to, |row, window| {
        let samples = window
            .times
            .iter()
            .zip(window.values)
            .map(|(t, v)| (*t, bits(*v, window.histogram(*t))))
            .collect();
        found.insert(selection.labels[row].to_string(), samples);
        ControlFlow::Continue(())
    });
    read.expect("readable");
    let all = content(&memory);
    for (labels, samples) in &found {
        assert_eq!(samples, &all[labels], "{labels}");
    }
    assert!(found.len() > 3 * CHURN as usize, "{} series", found.len());
    drop(selection);
    store.maintain(Timestamp(end_of(31)));
    assert!(
        store.series_count() < 10 * CHURN as usize,
        "{} series",
        store.series_count()
    );
    assert_eq!(content(&store), all);
}
