//! The files of a Prometheus, read: its blocks, and the log of what is in no block yet.
//!
//! By the formats in <https://github.com/prometheus/prometheus/tree/main/tsdb/docs/format>. Nothing
//! is written, and nothing is waited for: a Prometheus may run, though blocks that it merges
//! meanwhile end the reading with an error. Chunks of native histograms are counted and left out.

mod block;
mod chunk;
mod log;

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crc::{CRC_32_ISCSI, Crc, Table};

use crate::model::bytes::Reader;
use crate::model::{Labels, Timestamp};

/// The checksum of everything in these files.
const CASTAGNOLI: Crc<u32, Table<16>> = Crc::<u32, Table<16>>::new(&CRC_32_ISCSI);
/// Longest index, log record or chunk that is read.
const LONGEST: u64 = 4 << 30;

/// Why the files cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The disk says no.
    #[error("{}: {error}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// They are not what a Prometheus writes.
    #[error("{}: {what}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// The samples are not taken.
    #[error("{0}")]
    Refused(String),
}

/// What was found beside the samples.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LeftOut {
    /// Native histograms.
    pub histograms: u64,
    /// Samples that were deleted by request.
    pub deleted: u64,
}

/// Takes a sample; the error ends the reading.
pub type Take<'a> = dyn FnMut(&Labels, Timestamp, f64) -> Result<(), String> + 'a;

/// Times that were deleted, by series.
type Deleted = HashMap<u64, Vec<(i64, i64)>>;

fn is_deleted(deleted: &Deleted, series: u64, at: i64) -> bool {
    deleted
        .get(&series)
        .is_some_and(|spans| spans.iter().any(|(from, to)| (*from..=*to).contains(&at)))
}

/// Reads a data folder of Prometheus, or one block of it. `progress` hears how many of how many
/// bytes of indexes and log have been read.
///
/// # Errors
/// When a file cannot be read or is damaged, when there is none, or when a sample is refused.
pub fn read(
    folder: &Path,
    take: &mut Take<'_>,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<LeftOut, Error> {
    let blocks = blocks(folder)?;
    let logs = if is_block(folder) {
        Vec::new()
    } else {
        log::segments(folder)?
    };
    if blocks.is_empty() && logs.is_empty() {
        return Err(format(
            folder,
            "it holds no block and no log of a Prometheus",
        ));
    }
    let size = |path: &PathBuf| fs::metadata(path).map_or(0, |data| data.len());
    let indexes: Vec<u64> = blocks.iter().map(|b| size(&b.join("index"))).collect();
    let all = indexes
        .iter()
        .chain(&logs.iter().map(&size).collect::<Vec<_>>())
        .sum();
    let (mut left, mut done) = (LeftOut::default(), 0);
    for (block, bytes) in blocks.iter().zip(indexes) {
        block::read(block, take, &mut left, &mut |at| progress(done + at, all))?;
        done += bytes;
    }
    log::read(&logs, take, &mut left, &mut |at| progress(done + at, all))?;
    progress(all, all);
    Ok(left)
}

fn is_block(folder: &Path) -> bool {
    folder.join("meta.json").is_file() && folder.join("index").is_file()
}

/// The blocks in a folder, in order of their names, which is that of their making.
fn blocks(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    if is_block(folder) {
        return Ok(vec![folder.to_owned()]);
    }
    let mut found: Vec<PathBuf> = entries(folder)?;
    // What is being written or deleted has an ending.
    found.retain(|path| path.extension().is_none() && is_block(path));
    found.sort();
    Ok(found)
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let entries = fs::read_dir(folder).map_err(|error| failed(folder, error))?;
    entries
        .map(|entry| {
            entry
                .map(|entry| entry.path())
                .map_err(|e| failed(folder, e))
        })
        .collect()
}

fn failed(path: &Path, error: io::Error) -> Error {
    Error::Read {
        path: path.to_owned(),
        error,
    }
}

fn format(path: &Path, what: impl Into<String>) -> Error {
    Error::Format {
        path: path.to_owned(),
        what: what.into(),
    }
}

/// Four bytes, the highest first, as all numbers of a fixed length are.
fn big_u32(reader: &mut Reader<'_>) -> Option<u32> {
    reader.take(4)?.try_into().ok().map(u32::from_be_bytes)
}

/// The same of eight bytes.
fn big_u64(reader: &mut Reader<'_>) -> Option<u64> {
    reader.take(8)?.try_into().ok().map(u64::from_be_bytes)
}
