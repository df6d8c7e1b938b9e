//! What a start finds in the folder of the log: good records go into memory, damaged ones are set
//! aside.
//!
//! A segment that a crash cut short is cut back to its last whole record. Anything else that is not
//! as it was written is moved into a file `<segment>.damaged`, reported, and never served; what is
//! good before and behind it stays and is read.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, Read as _, Seek as _, SeekFrom, Write as _};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tracing::{info, warn};

use super::writer::{Segment, segment_path};
use super::{Entry, MAGIC, Read};
use crate::store::history::log;
use crate::store::history::metrics::Metrics;

/// How often a long replay says how far it is.
const PROGRESS: Duration = Duration::from_secs(2);

/// The end of the name of what is set aside.
pub(in crate::store::history) const DAMAGED: &str = "damaged";

/// The end of the name of a segment that is being written anew.
const MENDED: &str = "mended";

/// Entries that are decoded ahead of those that are being taken.
const AHEAD: usize = 8;

/// A segment to read.
#[derive(Debug)]
pub(in crate::store::history) struct Found {
    pub(in crate::store::history) number: u32,
    pub(in crate::store::history) path: PathBuf,
    pub(in crate::store::history) bytes: u64,
}

/// An entry on its way from the thread that decodes to the one that takes.
enum Sent {
    Tick(i64, Vec<(u32, f64)>),
    Other(Entry<'static>),
}

impl Sent {
    fn new(entry: Entry<'_>) -> Self {
        Sent::Other(match entry {
            Entry::Tick(time, samples) => return Sent::Tick(time, samples.to_vec()),
            Entry::Series(first, series) => Entry::Series(first, series),
            Entry::Turn(time) => Entry::Turn(time),
            Entry::Histograms(histograms) => Entry::Histograms(histograms),
        })
    }
}

/// Reads these segments in order; `visit` gets the segment's number with each entry. A thread of
/// its own decodes. Gives back the segments that remain.
pub(in crate::store::history) fn replay(
    folder: &Path,
    found: &[Found],
    metrics: &Metrics,
    mut visit: impl FnMut(u32, Entry<'_>),
) -> io::Result<BTreeMap<u32, Segment>> {
    if found.is_empty() {
        metrics.replayed(0.0);
        return Ok(BTreeMap::new());
    }
    std::thread::scope(|scope| {
        let (send, receive) = std::sync::mpsc::sync_channel(AHEAD);
        let decoder = std::thread::Builder::new().name("log-decoder".into());
        let decoder = decoder.spawn_scoped(scope, move || {
            decode(folder, found, metrics, |number, entry| {
                // It ends when all was sent, or with the one that takes.
                let _ = send.send((number, Sent::new(entry)));
            })
        })?;
        for (number, sent) in receive {
            match sent {
                Sent::Tick(time, samples) => visit(number, Entry::Tick(time, &samples)),
                Sent::Other(entry) => visit(number, entry),
            }
        }
        let ended = decoder.join();
        ended.unwrap_or_else(|_| Err(io::Error::other("the decoder of the log has panicked")))
    })
}

fn decode(
    folder: &Path,
    found: &[Found],
    metrics: &Metrics,
    mut visit: impl FnMut(u32, Entry<'_>),
) -> io::Result<BTreeMap<u32, Segment>> {
    let total: u64 = found.iter().map(|f| f.bytes).sum();
    let (start, mut logged) = (Instant::now(), Instant::now());
    let mut segments = BTreeMap::new();
    let mut done = 0;
    for segment in found {
        let (mut last, mut samples) = (i64::MIN, 0_usize);
        let file = File::open(&segment.path)?;
        let read = log::read(BufReader::with_capacity(64 << 10, file), |entry| {
            if let Entry::Tick(time, values) = &entry {
                last = last.max(*time);
                samples += values.len();
                if logged.elapsed() >= PROGRESS {
                    logged = Instant::now();
                    info!(
                        segment = segment.number,
                        of_bytes = total,
                        read_bytes = done,
                        "Reading the log."
                    );
                }
            }
            if let Entry::Histograms(histograms) = &entry {
                last = histograms
                    .iter()
                    .map(|(_, (time, _))| *time)
                    .fold(last, i64::max);
                samples += histograms.len();
            }
            visit(segment.number, entry);
        })?;
        done += segment.bytes;
        let mut bytes = segment.bytes;
        if let Some(reason) = read.damage {
            let mended = set_aside(folder, segment, &read, reason, samples, metrics);
            // Without room for it the damage stays where it is, and is skipped at the next start as
            // it was at this.
            match mended {
                Ok(kept) => bytes = kept,
                Err(error) => {
                    warn!(file = %segment.path.display(), %error, "What is damaged in the log cannot be set aside.")
                }
            }
        }
        if samples == 0 {
            remove(&segment.path)?;
        } else {
            segments.insert(segment.number, Segment { last, bytes });
        }
    }
    let seconds = start.elapsed().as_secs_f64();
    metrics.replayed(seconds);
    if total > 0 {
        info!(
            segments = found.len(),
            bytes = total,
            duration_seconds = seconds,
            "Log read."
        );
    }
    Ok(segments)
}

/// The segments in a folder, in order.
pub(in crate::store::history) fn find(folder: &Path) -> io::Result<Vec<Found>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        if entry.path().extension().is_some_and(|e| e == MENDED) {
            remove(&entry.path())?;
        }
        let Some(number) = name
            .to_str()
            .filter(|n| n.len() == 8)
            .and_then(|n| n.parse().ok())
        else {
            continue;
        };
        found.push(Found {
            number,
            path: entry.path(),
            bytes: entry.metadata()?.len(),
        });
    }
    found.sort_unstable_by_key(|f| f.number);
    Ok(found)
}

/// Moves what is damaged out of the way. Gives back the bytes that the segment then has.
fn set_aside(
    folder: &Path,
    segment: &Found,
    read: &Read,
    reason: &str,
    samples: usize,
    metrics: &Metrics,
) -> io::Result<u64> {
    metrics.damaged(if read.torn { "log" } else { "record" });
    let file = segment.path.display();
    let bad: u64 = read.bad.iter().map(|range| range.end - range.start).sum();
    if read.torn {
        warn!(file = %file, bytes = bad, samples_kept = samples, reason, "The log was cut short; its last record is dropped.");
        File::options()
            .write(true)
            .open(&segment.path)?
            .set_len(read.length - bad)?;
        return Ok(read.length - bad);
    }
    let aside = segment_path(folder, segment.number).with_extension(DAMAGED);
    warn!(
        file = %file, set_aside = %aside.display(), bytes = bad, gaps = read.bad.len(), samples_kept = samples,
        samples_without_base = read.lost, reason, "The log is damaged in places; these are set aside, the rest is read."
    );
    let mut input = File::open(&segment.path)?;
    let mut copy = |range: Range<u64>, output: &mut File| {
        input.seek(SeekFrom::Start(range.start))?;
        io::copy(&mut (&input).take(range.end - range.start), output)
    };
    let mut output = File::create(&aside)?;
    for range in &read.bad {
        copy(range.clone(), &mut output)?;
    }
    let mended = segment.path.with_extension(MENDED);
    let mut output = File::create(&mended)?;
    let (mut at, mut kept) = (0, 0);
    if read.bad.first().is_some_and(|range| range.start == 0) {
        output.write_all(MAGIC)?;
        kept = MAGIC.len() as u64;
    }
    for bad in &read.bad {
        kept += copy(at..bad.start, &mut output)?;
        at = bad.end;
    }
    kept += copy(at..read.length, &mut output)?;
    output.sync_all()?;
    std::fs::rename(&mended, &segment.path)?;
    Ok(kept)
}

fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
