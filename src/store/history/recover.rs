//! What a start finds in the folder of the log: good records go into memory, damaged ones are set aside.
//!
//! A segment that a crash cut short is cut back to its last whole record. Anything else that is not as it was written is moved into a file
//! `<segment>.damaged` from the first wrong byte on, reported, and never served.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tracing::{info, warn};

use super::log::{self, Entry, Read};
use super::metrics::Metrics;
use super::writer::{Segment, segment_path};

/// How often a long replay says how far it is.
const PROGRESS: Duration = Duration::from_secs(2);

/// The end of the name of what is set aside.
pub(super) const DAMAGED: &str = "damaged";

/// A segment to read.
struct Found {
    number: u32,
    path: PathBuf,
    bytes: u64,
}

/// Reads all segments in order; `visit` gets the segment's number with each entry. Gives back the segments that remain.
pub(super) fn replay(folder: &Path, metrics: &Metrics, mut visit: impl FnMut(u32, Entry<'_>)) -> io::Result<BTreeMap<u32, Segment>> {
    let found = find(folder)?;
    let total: u64 = found.iter().map(|f| f.bytes).sum();
    let (start, mut told) = (Instant::now(), Instant::now());
    let mut segments = BTreeMap::new();
    let mut done = 0;
    for segment in &found {
        let (mut last, mut samples) = (i64::MIN, 0_usize);
        let file = File::open(&segment.path)?;
        let read = log::read(BufReader::with_capacity(64 << 10, file), |entry| {
            if let Entry::Tick(time, values) = &entry {
                last = last.max(*time);
                samples += values.len();
                if told.elapsed() >= PROGRESS {
                    told = Instant::now();
                    info!(segment = segment.number, of_bytes = total, read_bytes = done, "Reading the log.");
                }
            }
            visit(segment.number, entry);
        })?;
        done += segment.bytes;
        if let Some(reason) = read.damage {
            set_aside(folder, segment, &read, reason, samples, metrics)?;
        }
        if samples == 0 {
            remove(&segment.path)?;
        } else {
            segments.insert(segment.number, Segment { last, bytes: read.good });
        }
    }
    let seconds = start.elapsed().as_secs_f64();
    metrics.replayed(seconds);
    if total > 0 {
        info!(segments = found.len(), bytes = total, duration_seconds = seconds, "Log read.");
    }
    Ok(segments)
}

fn find(folder: &Path) -> io::Result<Vec<Found>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let Some(number) = name.to_str().filter(|n| n.len() == 8).and_then(|n| n.parse().ok()) else { continue };
        found.push(Found { number, path: entry.path(), bytes: entry.metadata()?.len() });
    }
    found.sort_unstable_by_key(|f| f.number);
    Ok(found)
}

/// Moves what follows the last good record out of the way.
fn set_aside(folder: &Path, segment: &Found, read: &Read, reason: &str, samples: usize, metrics: &Metrics) -> io::Result<()> {
    metrics.damaged("log");
    let file = segment.path.display();
    if read.torn {
        warn!(file = %file, bytes = segment.bytes - read.good, samples_kept = samples, reason, "The log was cut short; its last record is dropped.");
    } else {
        let mut input = File::open(&segment.path)?;
        input.seek(SeekFrom::Start(read.good))?;
        let kept = segment_path(folder, segment.number).with_extension(DAMAGED);
        io::copy(&mut input.take(segment.bytes), &mut File::create(&kept)?)?;
        warn!(
            file = %file, set_aside = %kept.display(), bytes = segment.bytes - read.good, samples_kept = samples, reason,
            "The log is damaged; what follows the damage is set aside."
        );
    }
    File::options().write(true).open(&segment.path)?.set_len(read.good)
}

fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
