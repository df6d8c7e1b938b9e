//! A history whose files are cut short, flipped or full of holes: what is left is served, and what
//! is lost is bounded and set aside.

use nightbell::store::Import;

use super::*;

const DAY: i64 = 86_400_000;

/// A log of one segment, and what it holds.
fn one_segment() -> (tempfile::TempDir, Content, Vec<u8>) {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path(), START);
    fill(&store, 0..24);
    assert!(store.flush());
    let written = content(&store);
    drop(store);
    let bytes = fs::read(folder.path().join("wal/00000001")).expect("a segment");
    (folder, written, bytes)
}

/// Where the records of a segment begin, and where the last one ends: eight bytes name the format;
/// a record is mark, length, checksum, kind, payload.
fn boundaries(bytes: &[u8]) -> Vec<usize> {
    let mut boundaries = vec![8];
    while let Some(length) = bytes
        .get(boundaries[boundaries.len() - 1] + 4..)
        .and_then(|rest| rest.first_chunk::<4>())
    {
        boundaries
            .push(boundaries[boundaries.len() - 1] + 13 + u32::from_le_bytes(*length) as usize);
    }
    boundaries
}

fn count(content: &Content) -> usize {
    content.values().map(Vec::len).sum()
}

/// A log cut short anywhere gives the beginning of what was written, and the next run writes on.
#[test]
fn a_log_cut_short_anywhere_gives_its_beginning() {
    let (folder, written, bytes) = one_segment();
    let boundaries = boundaries(&bytes);
    assert_eq!(
        boundaries.len(),
        1 + 24 + 12 + 24 + 4,
        "records for each tick: floats, half of them with one more, histograms; and two that declare, twice"
    );
    let mut cuts: Vec<usize> = boundaries
        .iter()
        .flat_map(|b| [b - 1, *b, b + 1, b + 5, b + 12])
        .filter(|c| *c < bytes.len())
        .collect();
    cuts.sort_unstable();
    let mut most = 0;
    for length in [0, 1].into_iter().chain(cuts) {
        let other = folder.path().join("other");
        fs::create_dir_all(other.join("wal")).expect("a folder");
        fs::write(other.join("wal/00000001"), &bytes[..length]).expect("written");
        let store = open(&other, START + 24 * STEP);
        let found = content(&store);
        assert_prefix(&found, &written);
        let count: usize = found.values().map(Vec::len).sum();
        assert!(count >= most, "a longer log holds no less");
        most = count;
        if length % 11 == 0 {
            fill(&store, 24..26);
            assert!(store.flush());
            let now = content(&store);
            drop(store);
            assert_eq!(
                content(&open(&other, START + 26 * STEP)),
                now,
                "cut at {length}"
            );
        }
        fs::remove_dir_all(&other).expect("removed");
    }
    let all: usize = written.values().map(Vec::len).sum();
    assert!(
        most >= all - 2,
        "only the last tick is lost when the last byte is"
    );
}

/// Flipped bytes are noticed and set aside; they cost their own tick, or those up to the next key
/// tick, and nothing wrong is served.
#[test]
fn flipped_bytes_in_the_log_cost_what_they_touch() {
    let (folder, written, bytes) = one_segment();
    let mut runner = TestRunner::new(ProptestConfig {
        cases: 100,
        rng_seed: RngSeed::Fixed(5),
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    let flips = (0..bytes.len(), 1_u8..=255);
    let run = |(place, bits): (usize, u8)| {
        let other = folder.path().join("other");
        fs::create_dir_all(other.join("wal")).expect("a folder");
        let mut damaged = bytes.clone();
        damaged[place] ^= bits;
        fs::write(other.join("wal/00000001"), &damaged).expect("written");
        let store = open(&other, START + 24 * STEP);
        let found = content(&store);
        assert_subset(&found, &written);
        let lost = count(&written) - count(&found);
        assert!(
            lost <= 8 * 6,
            "the flip at {place} costs {lost} samples of {}",
            count(&written)
        );
        assert_eq!(
            store.history().map(|h| h.damaged),
            Some(1),
            "the flip at {place} is notified"
        );
        drop(store);
        let store = open(&other, START + 24 * STEP);
        assert_eq!(content(&store), found, "what was found good stays");
        assert_eq!(store.history().map(|h| h.damaged), Some(0), "mended");
        let aside = files(&other.join("wal"))
            .iter()
            .any(|f| f.extension().is_some_and(|e| e == "damaged"));
        let cut =
            fs::metadata(other.join("wal/00000001")).map_or(0, |m| m.len()) < bytes.len() as u64;
        assert!(aside || cut, "set aside or cut back");
        drop(store);
        fs::remove_dir_all(&other).expect("removed");
        Ok(())
    };
    runner.run(&flips, run).expect("holds");
}

/// A stretch of damage in the midst of a log costs the targets whose ticks it hits at most eight of
/// them, and the others what it covers; in the first records, which declare the series, what comes
/// before they are declared again.
#[test]
fn damage_in_the_midst_of_a_log_leaves_what_follows() {
    let folder = tempfile::tempdir().expect("a folder");
    let batch = |target: usize, tick: i64| -> Vec<Sample> {
        (0..10)
            .map(|n| {
                sample(
                    "value",
                    target * 100 + n,
                    (tick * 17 + n as i64) as f64 / 10.0,
                )
            })
            .collect()
    };
    let store = open(folder.path(), START);
    for tick in 0..100 {
        (0..4).for_each(|target| {
            drop(store.append(Timestamp(START + tick * STEP), &batch(target, tick)))
        });
    }
    assert!(store.flush());
    let written = content(&store);
    drop(store);
    let bytes = fs::read(folder.path().join("wal/00000001")).expect("a segment");
    let records = boundaries(&bytes);
    let kinds =
        |from: usize, to: usize| records.iter().filter(|at| (from..to).contains(*at)).count();
    let places: Vec<(usize, usize)> = (1..records.len())
        .step_by(7)
        .map(|n| (records[n - 1] + 13, records[n - 1] + 14))
        .collect();
    let sectors = (0..bytes.len())
        .step_by(1999)
        .map(|at| (at, (at + 512).min(bytes.len())));
    for (from, to) in places.into_iter().chain(sectors) {
        let other = folder.path().join("other");
        fs::create_dir_all(other.join("wal")).expect("a folder");
        let mut damaged = bytes.clone();
        damaged[from..to].fill(0xaa);
        fs::write(other.join("wal/00000001"), &damaged).expect("written");
        let store = open(&other, START + 100 * STEP);
        let found = content(&store);
        assert_subset(&found, &written);
        let (lost, hit) = (
            count(&written) - count(&found),
            kinds(from.saturating_sub(200), to),
        );
        let undeclared = if from < records[12] {
            kinds(0, 9000)
        } else {
            0
        };
        assert!(
            lost <= (hit + 8 * hit.min(4) + undeclared) * 10,
            "{from}..{to} costs {lost} samples, {hit} records are hit"
        );
        let last = START + 99 * STEP;
        let at_the_end = between(&store, last - 1, last);
        assert!(
            to > records[records.len() - 8 * 4 - 1] || at_the_end.len() == 40,
            "{from}..{to}: what follows is served"
        );
        drop(store);
        fs::remove_dir_all(&other).expect("removed");
    }
}

/// A flipped byte or a missing end of a block is noticed; at most that block is missing, and it is
/// set aside.
#[test]
fn damaged_blocks_are_set_aside_and_the_rest_is_served() {
    let (folder, written) = several_blocks();
    let block = files(&folder.path().join("blocks"))[1].clone();
    let bytes = fs::read(&block).expect("a block");
    let elsewhere = |time: i64| !(START + BLOCK * STEP..START + 2 * BLOCK * STEP).contains(&time);
    let rest = |content: &Content| -> Content {
        let kept = |samples: &Vec<(i64, u64)>| {
            samples
                .iter()
                .copied()
                .filter(|(t, _)| elsewhere(*t))
                .collect()
        };
        content
            .iter()
            .map(|(labels, samples)| (labels.clone(), kept(samples)))
            .collect()
    };
    let now = START + (3 * BLOCK + 30) * STEP;
    let check = |damaged: &[u8]| {
        fs::write(&block, damaged).expect("written");
        let store = open(folder.path(), now);
        let found = content(&store);
        assert_subset(&found, &written);
        assert_eq!(rest(&found), rest(&written), "the other blocks are served");
        assert_ne!(found, written, "the damage cannot be harmless");
        (0..4).for_each(|_| upkeep(&store, now));
        assert_eq!(content(&store), found, "mending changes no answer");
        assert!(
            store.history().is_some_and(|h| h.damaged > 0),
            "the damage is counted"
        );
        let aside: Vec<PathBuf> = files(&folder.path().join("blocks"))
            .into_iter()
            .filter(|f| f.extension().is_some_and(|e| e == "damaged"))
            .collect();
        assert_eq!(aside.len(), 1, "the block is set aside");
        fs::remove_file(&aside[0]).expect("removed");
    };
    let mut runner = TestRunner::new(ProptestConfig {
        cases: 40,
        rng_seed: RngSeed::Fixed(7),
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    let flips = (0..bytes.len(), 1_u8..=255);
    let flip = |(place, bits): (usize, u8)| {
        let mut damaged = bytes.clone();
        damaged[place] ^= bits;
        check(&damaged);
        Ok(())
    };
    runner.run(&flips, flip).expect("holds");
    for length in [0, 1, 8, bytes.len() / 2, bytes.len() - 80, bytes.len() - 1] {
        check(&bytes[..length]);
    }
}

/// A flipped byte in a block of a day costs the chunk that it is in, or what one series has of that
/// day: what its chunks share comes before them.
#[test]
fn a_flipped_byte_in_a_block_of_a_day_costs_one_series_at_most() {
    let folder = tempfile::tempdir().expect("a folder");
    let day = START.div_euclid(DAY) * DAY;
    let values = |series: i64, at: i64| match series {
        0 => (at * 7919 % 1009 * 4096) as f64,
        1 => (at as f64 * 0.37).sin(),
        2 => (at / 1900) as f64,
        _ => (at * at % 997) as f64 / 100.0,
    };
    let now = Timestamp(day + DAY + 3_600_000);
    let mut import = Import::open(&settings(folder.path()), now).expect("free");
    for at in 0..DAY / STEP {
        for series in 0..4 {
            let labels = Labels::from_pairs([("__name__", "m"), ("i", &series.to_string())]);
            let time = Timestamp(day + at * STEP);
            import.add(&labels, time, values(series, at)).expect("room");
        }
    }
    assert_eq!(import.finish(|_, _| ()).expect("written").blocks, 1);
    let written = content(&open(folder.path(), now.0));
    let count = |content: &Content| content.values().map(Vec::len).sum::<usize>();
    assert_eq!(count(&written), 4 * 5760);
    let block = files(&folder.path().join("blocks"))[0].clone();
    let bytes = fs::read(&block).expect("a block");
    // What follows is the index: without that the block is set aside.
    let end = bytes.len() - 200;
    for place in (8..end).step_by(end / 60) {
        let mut damaged = bytes.clone();
        damaged[place] ^= 0x24;
        fs::write(&block, damaged).expect("written");
        let store = open(folder.path(), now.0);
        let found = content(&store);
        assert_subset(&found, &written);
        let hurt = written
            .iter()
            .filter(|(labels, samples)| found.get(*labels).is_none_or(|found| found != *samples));
        let hurt: Vec<&String> = hurt.map(|(labels, _)| labels).collect();
        assert_eq!(hurt.len(), 1, "{place} of {end}: {hurt:?}");
    }
}

/// What a newer nightbell wrote is neither read nor touched.
#[test]
fn a_block_of_a_newer_format_stays_as_it_is() {
    let (folder, written) = several_blocks();
    let block = files(&folder.path().join("blocks"))[1].clone();
    let mut bytes = fs::read(&block).expect("a block");
    bytes[7] += 1;
    fs::write(&block, &bytes).expect("written");
    let now = START + (3 * BLOCK + 30) * STEP;
    let store = open(folder.path(), now);
    let found = content(&store);
    assert_subset(&found, &written);
    assert_ne!(found, written, "it is not served");
    (0..4).for_each(|_| upkeep(&store, now));
    drop(store);
    assert_eq!(fs::read(&block).expect("is there"), bytes);
}
