//! The history on disk: samples survive a restart and `kill -9`.
//!
//! Every accepted sample goes into a log ([`log`], [`log::writer`]) that is read again at start
//! ([`log::recover`]). Every half hour what memory holds of the half hour before becomes a block
//! ([`block`], [`block_writer`]), and the log before it is deleted; later blocks are merged into
//! larger ones ([`compact`]). Queries read blocks from the disk ([`blocks`]). The folder belongs to
//! one process at a time.

mod block;
mod block_writer;
mod blocks;
mod chunks;
mod compact;
mod copies;
mod delta;
mod ended;
mod ended_files;
mod histogram;
pub mod import;
mod log;
mod metrics;
mod walk;

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use tracing::warn;

pub(in crate::store) use self::block::{Block, Known, Located};
pub(in crate::store) use self::block_writer::{BlockWriter, order};
pub(in crate::store) use self::blocks::{Snapshot, View};
pub(in crate::store) use self::chunks::runs::Run;
pub(in crate::store) use self::ended::Until;
pub(in crate::store) use self::log::{Entry, SEGMENT_TIME as BLOCK_TIME};
pub(in crate::store) use self::metrics::Metrics;
pub(in crate::store) use self::walk::Walk;
use super::memory::series::Gathered;
use super::read::seen::Seen;
use crate::model::{Budget, Holder, Labels, Matcher, NativeHistogram, Timestamp};
use crate::telemetry::Telemetry;
use blocks::Blocks;
use log::encoder::Encoder;
use log::writer::Writer;

/// How long a start waits for the folder.
const HANDOVER: Duration = Duration::from_millis(500);

/// About the milliseconds of a chunk in a merged block.
const CHUNK_TIME: i64 = 2 * 3_600_000;

/// Where the history is kept.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Its folder, which is made if need be.
    pub path: PathBuf,
    /// How long samples are kept.
    pub retention: Duration,
    /// Bytes that the folder may take; the oldest samples go first.
    pub max_size: Option<u64>,
}

/// The history in numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HistoryStatus {
    /// Its folder.
    pub path: PathBuf,
    /// Whether the last write succeeded.
    pub writable: bool,
    /// The blocks, in order of time.
    pub blocks: Vec<BlockStatus>,
    /// Segments of the log.
    pub segments: usize,
    /// Bytes of the log.
    pub log_bytes: u64,
    /// Parts that were damaged and set aside since the start.
    pub damaged: u64,
}

/// A block in numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockStatus {
    /// The file's name.
    pub name: String,
    /// Time of its oldest sample.
    pub first: Timestamp,
    /// Time of its newest sample.
    pub last: Timestamp,
    /// Series in it.
    pub series: u64,
    /// Samples in it.
    pub samples: u64,
    /// Bytes on disk, the index included.
    pub bytes: u64,
}

/// A block that a query reads.
#[derive(Debug)]
pub(super) struct Part {
    view: View,
    columns: Arc<block::Columns>,
}

impl Part {
    /// Whether it holds something that is seen.
    pub(super) fn is_seen(&self, seen: &Seen) -> bool {
        seen.any(self.view.after.saturating_add(1), self.view.to)
    }

    fn span(&self, seen: &Seen) -> (i64, i64) {
        (seen.from.max(self.view.after), seen.to.min(self.view.to))
    }

    /// Whether most of its chunks are seen.
    fn is_worth_keeping(&self, seen: &Seen) -> bool {
        let ((from, to), view) = (self.span(seen), &self.view);
        let all = view.to.saturating_sub(view.after);
        to.saturating_sub(from) >= all / 2 && (seen.is_dense(CHUNK_TIME) || all <= CHUNK_TIME)
    }
}

/// Why the history cannot be kept on disk.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// Another process has the folder.
    #[error("{0} is in use by another nightbell")]
    InUse(PathBuf),
    /// The folder cannot be made, read or written.
    #[error("{path}: {error}")]
    Folder {
        /// What could not be used.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
}

/// The history of one store.
#[derive(Debug)]
pub(super) struct History {
    settings: Settings,
    blocks: Blocks,
    writer: Arc<Writer>,
    metrics: Metrics,
    /// Held as long as the folder is ours.
    _lock: File,
}

/// What a start found in the log, and has not read yet.
#[derive(Debug)]
pub(super) struct Unread {
    folder: PathBuf,
    segments: Vec<log::recover::Found>,
    floor: i64,
    until: Until,
}

impl Unread {
    /// Segments to read.
    pub(super) fn segments(&self) -> usize {
        self.segments.len()
    }

    /// Bytes to read.
    pub(super) fn bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.bytes).sum()
    }
}

/// What appending tells the log. It lives behind the store's lock.
#[derive(Debug)]
pub(super) struct Log {
    encoder: Encoder,
    writer: Arc<Writer>,
    metrics: Metrics,
    /// The tick under way is not taken down: the queue is full.
    skipping: bool,
    adding: bool,
}

impl History {
    /// Takes the folder. What its log holds is still to be read: [`History::read_log`].
    pub(super) fn open(
        settings: &Settings,
        metrics: Metrics,
        now: Timestamp,
    ) -> Result<(Self, Log, Unread), HistoryError> {
        let folder = settings.path.join("wal");
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |error| HistoryError::Folder { path, error }
        };
        std::fs::create_dir_all(&folder).map_err(failed(&folder))?;
        let lock = settings.path.join("lock");
        let lock = File::options()
            .create(true)
            .append(true)
            .open(&lock)
            .map_err(failed(&lock))?;
        take(&lock).map_err(|_| HistoryError::InUse(settings.path.clone()))?;
        copies::tidy(&settings.path).map_err(failed(&settings.path))?;
        let kept = settings.path.join("blocks");
        let blocks = Blocks::open(kept.clone(), now.0, metrics.clone()).map_err(failed(&kept))?;
        // What was taken down before the clock was set back is in blocks, though their time may not
        // have come.
        let floor = blocks.end();
        let until = blocks.open_ended().map_err(failed(&kept))?;
        blocks.turn_back(now.0);
        let segments = log::recover::find(&folder).map_err(failed(&folder))?;
        let next = segments.last().map_or(1, |last| last.number + 1);
        let writer = Writer::start(&folder, metrics.clone()).map_err(failed(&folder))?;
        let writer = Arc::new(writer);
        metrics.log_written(true);
        let log = Log {
            encoder: Encoder::new(next),
            writer: Arc::clone(&writer),
            metrics: metrics.clone(),
            skipping: false,
            adding: false,
        };
        let unread = Unread {
            folder,
            segments,
            floor,
            until,
        };
        Ok((
            History {
                settings: settings.clone(),
                blocks,
                writer,
                metrics,
                _lock: lock,
            },
            log,
            unread,
        ))
    }

    /// Hands what the log held at the start to `visit`, with the number of the segment, the time
    /// before which blocks hold all, and what is known of series that ended.
    pub(super) fn read_log(
        &self,
        unread: &Unread,
        mut visit: impl FnMut(u32, i64, &Until, Entry<'_>),
    ) -> Result<(), HistoryError> {
        let Unread {
            folder,
            segments,
            floor,
            until,
        } = unread;
        let found = log::recover::replay(folder, segments, &self.metrics, |segment, entry| {
            visit(segment, *floor, until, entry)
        });
        let found = found.map_err(|error| HistoryError::Folder {
            path: folder.clone(),
            error,
        })?;
        self.writer.found(found);
        Ok(())
    }

    /// How long samples are kept.
    pub(super) fn retention(&self) -> Duration {
        self.settings.retention
    }

    /// The blocks now.
    pub(super) fn snapshot(&self) -> Arc<Snapshot> {
        self.blocks.snapshot()
    }

    /// The time before which nobody looks for samples in memory any more.
    pub(super) fn floor_for_all(&self) -> i64 {
        let before = self.blocks.replaced();
        let held = before
            .iter()
            .filter_map(Weak::upgrade)
            .map(|snapshot| snapshot.floor);
        held.chain([self.snapshot().floor])
            .min()
            .unwrap_or(i64::MIN)
    }

    /// Where blocks are written.
    pub(super) fn blocks_folder(&self) -> &Path {
        &self.blocks.folder
    }

    /// All samples before `floor` are in blocks now.
    pub(super) fn publish(&self, block: Option<Block>, floor: i64) {
        self.blocks.change(block, &[], floor);
    }

    /// A writer for series that ended, whose samples lie in `start <= timestamp < end`.
    pub(super) fn ended_writer(&self, start: i64, end: i64) -> io::Result<BlockWriter> {
        self.blocks.ended_writer(start, end)
    }

    /// What was written of series that ended is served from disk now. Gives back what readers may
    /// still hold of before: as long as they do the samples must stay in memory.
    pub(super) fn publish_ended(&self, block: Block) -> io::Result<Vec<Weak<Snapshot>>> {
        ended_files::written(&block);
        self.blocks.add_ended(block, &[])?;
        Ok(self.blocks.replaced())
    }

    /// Milliseconds of the oldest sample, from the floor on, of series that ended.
    pub(super) fn oldest_ended(&self) -> Option<i64> {
        let snapshot = self.snapshot();
        snapshot
            .ended(&[], i64::MIN, i64::MAX)
            .map(|ended| ended.block.first.max(snapshot.floor))
            .min()
    }

    /// The series that ended and have samples in `from < timestamp <= to`.
    pub(super) fn walk_ended(&self, from: i64, to: i64) -> io::Result<Walk<'_>> {
        let blocks: Vec<Arc<Block>> = self
            .snapshot()
            .ended(&[], from, to)
            .map(|ended| Arc::clone(&ended.block))
            .collect();
        Walk::new(&self.blocks, &blocks)
    }

    /// The clock was set back: what lies after `to` is not served until its time has come.
    pub(super) fn turn_back(&self, to: i64) {
        self.blocks.turn_back(to);
    }

    /// The end of the last block that waits for its time and ends before `now`.
    pub(super) fn waiting_until(&self, now: i64) -> Option<i64> {
        self.blocks.waiting_until(now)
    }

    /// Serves what waited and ends before `now`; from `floor` on samples are in memory.
    pub(super) fn serve(&self, now: i64, floor: i64) {
        self.blocks.serve(now, floor);
    }

    /// The end of the last block, whether its time has come or not.
    pub(super) fn end(&self) -> i64 {
        self.blocks.end()
    }

    /// The number that a block of this span needs to take precedence; 0 where it is the only one.
    pub(super) fn later_than(&self, start: i64, end: i64) -> u32 {
        let snapshot = self.snapshot();
        let over = snapshot
            .blocks
            .iter()
            .filter(|b| b.start < end && b.end > start)
            .map(|b| b.later + 1);
        over.max().unwrap_or(0)
    }

    /// Adds a block of which what is after `until` is not served yet.
    pub(super) fn keep(&self, block: Option<Block>, until: i64) {
        if let Some(block) = block {
            block
                .until
                .store(until, std::sync::atomic::Ordering::Relaxed);
            self.blocks.change(Some(block), &[], i64::MIN);
        }
    }

    /// Whether the blocks that were due could be written.
    pub(super) fn written(&self, written: bool) {
        if !written {
            self.metrics.failed();
        }
        self.metrics.blocks_written(written);
    }

    /// Says that series of these blocks will be sought.
    pub(super) fn announce(&self, views: &[View]) {
        self.blocks.announce(views.iter().map(|view| &view.block));
    }

    /// Says that these bytes of a block will be fetched.
    pub(super) fn announce_fetch(&self, part: &Part, span: (u64, usize)) {
        part.view.block.announce(span);
    }

    /// The series of a block that pass; one that cannot be read is set aside.
    pub(super) fn select(
        &self,
        view: &View,
        matchers: &[Matcher],
        intern: impl Fn(Labels) -> Labels,
    ) -> Option<(Part, Arc<[Located]>)> {
        let block = &view.block;
        let index = self.blocks.index(block)?;
        let Some(found) = index.select(matchers, intern) else {
            self.blocks.set_aside(block, "its index cannot be decoded");
            return None;
        };
        Some((
            Part {
                view: view.clone(),
                columns: Arc::clone(&index.columns),
            },
            found,
        ))
    }

    /// What is kept of the chunks of a series, decoded.
    pub(super) fn kept(&self, part: &Part, offset: u64) -> Option<Arc<[Run]>> {
        self.blocks.runs.find((part.view.block.number(), offset))
    }

    /// Appends bytes of a block; `false` when it cannot be read.
    pub(super) fn fetch(&self, part: &Part, span: (u64, usize), into: &mut Vec<u8>) -> bool {
        let block = &part.view.block;
        let known = block.is_damaged();
        let read = block.fetch(span, into);
        if !read && !known {
            self.blocks.lost(block, 1);
        }
        read
    }

    /// Appends the samples of a series whose chunks were fetched from this offset, of all chunks in
    /// which something is seen; chunks that are damaged are counted and left out.
    pub(super) fn decode(
        &self,
        part: &Part,
        known: &mut Known,
        (offset, data): (u64, &[u8]),
        seen: &Seen,
        samples: &mut Gathered,
    ) {
        let block = &part.view.block;
        let (was_damaged, span) = (block.is_damaged(), part.span(seen));
        // Half of a byte for a sample is the least that there is.
        let keeps = !was_damaged && part.is_worth_keeping(seen);
        if keeps
            && self.blocks.runs.has_room(data.len())
            && let Some(runs) = block.runs(data)
        {
            self.blocks.runs.keep((block.number(), offset), &runs);
            if self.append(part, known, &runs, seen, samples) {
                return;
            }
        }
        let instants = &self.blocks.instants;
        let lost = block.decode(&part.columns, instants, known, data, (span, seen), samples);
        if !was_damaged {
            self.blocks.lost(block, lost);
        }
    }

    /// The same of a series whose chunks are kept; `false` when their instants cannot be decoded.
    pub(super) fn append(
        &self,
        part: &Part,
        known: &mut Known,
        runs: &[Run],
        seen: &Seen,
        samples: &mut Gathered,
    ) -> bool {
        let (block, instants) = (&part.view.block, &self.blocks.instants);
        let before = samples.times.len();
        let whole = block.append(
            &part.columns,
            instants,
            known,
            runs,
            part.span(seen),
            samples,
        );
        if !whole {
            samples.times.truncate(before);
            samples.values.truncate(before);
        }
        whole
    }

    /// Counts what is kept for the next time as part of a budget.
    pub(super) fn keep_within(&self, budget: &Arc<Budget>) {
        let reservation = budget.reserve(Holder::Caches);
        self.blocks.runs.keep_within(budget, reservation);
    }

    /// Lets go what is kept of blocks, decoded; whether there was something.
    pub(super) fn let_go(&self) -> bool {
        self.blocks.runs.clear()
    }

    /// Deletes the log of what is in blocks, merges blocks, drops what is too old or too much.
    pub(super) fn maintain(&self, now: Timestamp) {
        let floor = self.snapshot().floor;
        self.writer.drop_before(floor);
        // Time has come by again where it was sampled before.
        if self.blocks.waiting_until(floor).is_some() {
            self.blocks.serve(floor, floor);
        }
        self.blocks.verify_one();
        self.blocks.runs.upkeep();
        if let Err(error) = compact::compact(&self.blocks, &self.metrics) {
            self.metrics.failed();
            warn!(%error, "Blocks cannot be merged; they stay as they are.");
        }
        if let Err(error) = self.blocks.merge_ended() {
            self.metrics.failed();
            warn!(%error, "Files of series that ended cannot be merged; they stay as they are.");
        }
        let status = self.status();
        let other = status.log_bytes + self.blocks.ended_bytes();
        let bytes = {
            let aside = [
                self.blocks.folder.as_path(),
                &self.settings.path.join("wal"),
            ];
            self.blocks.retain(
                (now - self.settings.retention).0,
                self.settings.max_size,
                other,
                &aside,
            )
        };
        self.metrics
            .size(self.snapshot().blocks.len(), bytes + other);
    }

    /// Bytes of the log.
    pub(super) fn log_bytes(&self) -> u64 {
        self.writer.segments().values().map(|s| s.bytes).sum()
    }

    /// Numbers for people.
    pub(super) fn status(&self) -> HistoryStatus {
        HistoryStatus {
            path: self.settings.path.clone(),
            writable: self.metrics.is_writable(),
            blocks: self
                .snapshot()
                .blocks
                .iter()
                .map(|block| block.status())
                .collect(),
            segments: self.writer.segments().len(),
            log_bytes: self.log_bytes(),
            damaged: self.metrics.damaged_count(),
        }
    }

    /// Makes a copy for a backup; gives back the name of its folder under `snapshots`.
    pub(super) fn copy(&self, now: Timestamp) -> Result<String, HistoryError> {
        copies::make(&self.settings.path, &self.blocks, &self.writer, now).map_err(|error| {
            HistoryError::Folder {
                path: self.settings.path.clone(),
                error,
            }
        })
    }

    /// Registers the metrics.
    pub(super) fn register(&self, telemetry: &Telemetry) {
        self.metrics.register(telemetry);
    }

    /// Waits until everything appended so far is on disk; `false` when the disk does not take it
    /// within seconds.
    pub(super) fn flush(&self) -> bool {
        self.writer.flush()
    }
}

/// Locks the folder; a process that is about to end has a moment to give it back.
fn take(lock: &File) -> rustix::io::Result<()> {
    let deadline = Instant::now() + HANDOVER;
    loop {
        match flock(lock, FlockOperation::NonBlockingLockExclusive) {
            Err(_) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(10)),
            taken => return taken,
        }
    }
}

impl Log {
    /// Takes down a sample that the store has accepted.
    pub(super) fn add(&mut self, slot: u32, labels: &Labels, time: i64, value: f64) {
        if self.has_room() {
            self.encoder.add(slot, labels, time, value, &mut |record| {
                self.writer.push(record)
            });
        }
    }

    /// Likewise a native histogram.
    pub(super) fn add_histogram(
        &mut self,
        slot: u32,
        labels: &Labels,
        time: i64,
        value: &NativeHistogram,
    ) {
        if self.has_room() {
            self.encoder
                .add_histogram(slot, labels, time, value, &mut |record| {
                    self.writer.push(record)
                });
        }
    }

    /// Whether the tick under way is taken down.
    fn has_room(&mut self) -> bool {
        if !self.adding {
            self.adding = true;
            self.skipping = self.writer.is_full();
            if self.skipping {
                self.encoder.restart();
            }
        }
        if self.skipping {
            self.metrics.dropped(1);
        }
        !self.skipping
    }

    /// Ends what one call to append brought.
    pub(super) fn finish(&mut self) {
        self.adding = false;
        self.encoder.finish(&mut |record| self.writer.push(record));
    }

    /// The clock was set back to this time.
    pub(super) fn turn(&mut self, time: i64) {
        self.adding = false;
        self.encoder
            .turn(time, &mut |record| self.writer.push(record));
    }

    /// The series in `slot` is gone.
    pub(super) fn forget(&mut self, slot: u32) {
        self.encoder.forget(slot);
    }
}
