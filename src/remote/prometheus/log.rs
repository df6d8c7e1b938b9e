//! The log of a Prometheus (`wal/`, and `wbl/` for what came out of order): series, samples and
//! deletions in records, which stand in pages of 32 KiB.
//!
//! A record that a crash has cut short ends the last segment, as it does for Prometheus. Records
//! that are compressed with zstd are refused: Prometheus uses Snappy unless it is asked to.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};

use super::{
    CASTAGNOLI, Deleted, Error, LeftOut, Take, big_u64, entries, failed, format, is_deleted,
};
use crate::model::bytes::Reader;
use crate::model::{Labels, Timestamp};

const PAGE: usize = 32 << 10;
/// Bytes before each part of a record: kind, length, checksum.
const HEAD: usize = 7;
/// Longest record, compressed or not.
const LONGEST: usize = 256 << 20;

/// What the first byte of a part says.
const REST_OF_PAGE: u8 = 0;
const FULL: u8 = 1;
const FIRST: u8 = 2;
const MIDDLE: u8 = 3;
const LAST: u8 = 4;
const SNAPPY: u8 = 8;
const ZSTD: u8 = 16;

/// What the first byte of a record says.
const SERIES: u8 = 1;
const SAMPLES: u8 = 2;
const TOMBSTONES: u8 = 3;
/// Native histograms, of whole numbers and of floats, with and without bounds of their own.
const HISTOGRAMS: [u8; 4] = [7, 8, 9, 10];

/// The files to read, in order: those of the newest checkpoint, what follows it, and the log of what
/// came out of order.
pub(super) fn segments(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let (log, late) = (folder.join("wal"), folder.join("wbl"));
    let mut found = Vec::new();
    if log.is_dir() {
        let number = |path: &PathBuf| {
            let name = path.file_name()?.to_str()?;
            name.strip_prefix("checkpoint.")?.parse::<u64>().ok()
        };
        let checkpoints = entries(&log)?;
        let checkpoint = checkpoints
            .iter()
            .filter_map(|p| Some((number(p)?, p)))
            .max();
        if let Some((_, path)) = checkpoint {
            found.extend(numbered(path)?.into_iter().map(|(_, path)| path));
        }
        let after = checkpoint.map(|(number, _)| number);
        let rest = numbered(&log)?.into_iter();
        found.extend(
            rest.filter(|(n, _)| after.is_none_or(|after| *n > after))
                .map(|(_, p)| p),
        );
    }
    if late.is_dir() {
        found.extend(numbered(&late)?.into_iter().map(|(_, path)| path));
    }
    Ok(found)
}

/// The files of a folder whose names are numbers.
fn numbered(folder: &Path) -> Result<Vec<(u64, PathBuf)>, Error> {
    let mut found: Vec<(u64, PathBuf)> = entries(folder)?
        .into_iter()
        .filter_map(|path| Some((path.file_name()?.to_str()?.parse().ok()?, path)))
        .filter(|(_, path)| path.is_file())
        .collect();
    found.sort();
    Ok(found)
}

/// Hands all samples of these files to `take`. Series come before their samples, deletions after
/// what they delete: the files are read twice.
pub(super) fn read(
    files: &[PathBuf],
    take: &mut Take<'_>,
    left: &mut LeftOut,
    progress: &mut dyn FnMut(u64),
) -> Result<(), Error> {
    let (mut known, mut deleted) = (HashMap::new(), Deleted::new());
    for file in files {
        each_record(file, file == &files[files.len() - 1], |record| {
            declarations(record, &mut known, &mut deleted).ok_or(Fault::Damaged)
        })?;
    }
    let mut done = 0;
    for file in files {
        each_record(file, file == &files[files.len() - 1], |record| {
            samples(record, &known, &deleted, left, take)
        })?;
        done += fs::metadata(file).map_or(0, |data| data.len());
        progress(done);
    }
    Ok(())
}

/// Why a record is not taken.
enum Fault {
    Damaged,
    Refused(String),
}

fn declarations(
    record: &[u8],
    known: &mut HashMap<u64, Labels>,
    deleted: &mut Deleted,
) -> Option<()> {
    let mut reader = Reader(record);
    let kind = reader.byte()?;
    while !reader.0.is_empty() {
        match kind {
            SERIES => {
                let number = big_u64(&mut reader)?;
                let labels = reader.size(reader.0.len())?;
                let pairs: Option<Vec<(&str, &str)>> = (0..labels)
                    .map(|_| Some((reader.text()?, reader.text()?)))
                    .collect();
                known.insert(number, Labels::from_pairs(pairs?));
            }
            TOMBSTONES => {
                let series = big_u64(&mut reader)?;
                let span = (reader.int()?, reader.int()?);
                deleted.entry(series).or_default().push(span);
            }
            _ => break,
        }
    }
    Some(())
}

fn samples(
    record: &[u8],
    known: &HashMap<u64, Labels>,
    deleted: &Deleted,
    left: &mut LeftOut,
    take: &mut Take<'_>,
) -> Result<(), Fault> {
    let mut reader = Reader(record);
    match reader.byte() {
        Some(SAMPLES) if !reader.0.is_empty() => {}
        Some(kind) if HISTOGRAMS.contains(&kind) => {
            // Each of them has a length of its own kind: that there are some is known.
            left.histograms += 1;
            return Ok(());
        }
        _ => return Ok(()),
    }
    let base = big_u64(&mut reader).zip(big_u64(&mut reader));
    let (first, begin) = base.ok_or(Fault::Damaged)?;
    while !reader.0.is_empty() {
        let mut sample = || {
            let number = first.wrapping_add(reader.int()? as u64);
            let at = (begin as i64).wrapping_add(reader.int()?);
            Some((number, at, f64::from_bits(big_u64(&mut reader)?)))
        };
        let (number, at, value) = sample().ok_or(Fault::Damaged)?;
        // One whose series is gone was too old to be kept.
        let Some(labels) = known.get(&number) else {
            continue;
        };
        if is_deleted(deleted, number, at) {
            left.deleted += 1;
            continue;
        }
        take(labels, Timestamp(at), value).map_err(Fault::Refused)?;
    }
    Ok(())
}

/// Calls `visit` for each record of a segment.
fn each_record(
    path: &Path,
    is_last: bool,
    mut visit: impl FnMut(&[u8]) -> Result<(), Fault>,
) -> Result<(), Error> {
    let mut file = File::open(path).map_err(|error| failed(path, error))?;
    let (mut page, mut record, mut plain) = (Vec::new(), Vec::new(), Vec::new());
    let damaged = |at: u64| format(path, format!("the record at byte {at} is damaged"));
    for number in 0.. {
        page.clear();
        let read = (&mut file).take(PAGE as u64).read_to_end(&mut page);
        if read.map_err(|error| failed(path, error))? == 0 {
            break;
        }
        let mut rest = &page[..];
        while let Some((head, after)) = rest.split_first_chunk::<HEAD>() {
            let at = number * PAGE as u64 + (page.len() - rest.len()) as u64;
            if head[0] & 7 == REST_OF_PAGE {
                break;
            }
            let length = usize::from(u16::from_be_bytes([head[1], head[2]]));
            let part = after.split_at_checked(length);
            let whole = part.filter(|(part, _)| {
                CASTAGNOLI.checksum(part).to_be_bytes() == head[3..] && record.len() < LONGEST
            });
            let Some((part, after)) = whole else {
                // A crash has cut it short.
                return if is_last { Ok(()) } else { Err(damaged(at)) };
            };
            rest = after;
            let kind = head[0] & 7;
            if matches!(kind, FULL | FIRST) {
                record.clear();
            }
            if !matches!(kind, FULL | FIRST | MIDDLE | LAST) {
                return Err(damaged(at));
            }
            record.extend_from_slice(part);
            if !matches!(kind, FULL | LAST) {
                continue;
            }
            let found = if head[0] & ZSTD != 0 {
                return Err(format(
                    path,
                    "its records are compressed with zstd, which is not read; blocks are: import them one by one",
                ));
            } else if head[0] & SNAPPY != 0 {
                plain.clear();
                inflated(&record, &mut plain).ok_or_else(|| damaged(at))?;
                &plain
            } else {
                &record
            };
            visit(found).map_err(|fault| match fault {
                Fault::Damaged => damaged(at),
                Fault::Refused(reason) => Error::Refused(reason),
            })?;
        }
    }
    Ok(())
}

fn inflated(record: &[u8], into: &mut Vec<u8>) -> Option<()> {
    let length = snap::raw::decompress_len(record).ok()?;
    if length > LONGEST {
        return None;
    }
    into.resize(length, 0);
    let read = snap::raw::Decoder::new().decompress(record, into).ok()?;
    (read == length).then_some(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn part(kind: u8, bytes: &[u8]) -> Vec<u8> {
        let sum = CASTAGNOLI.checksum(bytes).to_be_bytes();
        [
            &[kind][..],
            &(bytes.len() as u16).to_be_bytes(),
            &sum,
            bytes,
        ]
        .concat()
    }

    fn record(value: f64) -> (Vec<u8>, Vec<u8>) {
        let series = [&[SERIES][..], &7_u64.to_be_bytes(), &[1, 1, b'a', 1, b'b']].concat();
        let ends = [&7_u64.to_be_bytes()[..], &1000_i64.to_be_bytes(), &[0, 4]].concat();
        let samples = [&[SAMPLES][..], &ends, &value.to_bits().to_be_bytes()].concat();
        (series, samples)
    }

    fn found(bytes: &[u8]) -> Result<Vec<(String, i64, f64)>, Error> {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("00000000");
        fs::write(&file, bytes).expect("written");
        let mut found = Vec::new();
        let mut take = |labels: &Labels, at: Timestamp, value: f64| {
            found.push((labels.to_string(), at.0, value));
            Ok(())
        };
        let mut left = LeftOut::default();
        read(&[file], &mut take, &mut left, &mut |_| ())?;
        Ok(found)
    }

    #[test]
    fn records_in_parts_and_compressed_ones_are_read() {
        let (series, samples) = record(2.5);
        let packed = snap::raw::Encoder::new()
            .compress_vec(&samples)
            .expect("compresses");
        let (front, back) = samples.split_at(9);
        let whole = [
            part(FULL, &series),
            part(FIRST, front),
            part(LAST, back),
            part(FULL | SNAPPY, &packed),
        ]
        .concat();
        let one = ("{a=\"b\"}".to_owned(), 1002, 2.5);
        assert_eq!(found(&whole).expect("readable"), [one.clone(), one.clone()]);
        // A crash cuts the last one short.
        assert_eq!(found(&whole[..whole.len() - 3]).expect("readable"), [one]);
        let zstd = found(&part(FULL | ZSTD, &samples)).expect_err("is refused");
        assert!(zstd.to_string().contains("zstd"), "{zstd}");
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 300, rng_seed: proptest::test_runner::RngSeed::Fixed(1), ..ProptestConfig::default() })]

        #[test]
        fn any_record_is_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100), kind in 1_u8..5) {
            let _ = found(&part(FULL, &[&[kind], &bytes[..]].concat()));
            let _ = found(&part(FULL | SNAPPY, &bytes));
            let _ = found(&bytes);
        }
    }
}
