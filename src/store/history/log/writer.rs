//! The thread that writes the log, so that a slow disk never holds up a collection.
//!
//! Appending puts records into a queue of bounded size; the thread writes what it finds there at
//! once, with one call to the kernel for all of it, and asks the disk to keep it ([`SYNC`]). What
//! the kernel has taken survives the end of the process; what the disk has kept survives the end of
//! the power. When the disk takes no more, the records wait in the queue and the writer tries
//! again; when the queue is full, new records are dropped and counted, and the log goes on in a new
//! segment once there is room.

use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use tracing::{error, info};

use super::MAGIC;
use super::encoder::Record;
use crate::store::history::metrics::Metrics;

/// Bytes of records that may wait.
const QUEUE: usize = 16 << 20;
/// Bytes of room that is kept from one write to the next.
const FRAMES: usize = 32 << 10;
/// How often the disk is asked to keep what was written.
const SYNC: Duration = Duration::from_secs(15);
/// How long the writer waits after a failure.
const RETRY: Duration = Duration::from_secs(2);
/// How long [`Writer::flush`] waits for the disk.
const FLUSH: Duration = Duration::from_secs(5);

/// Stack of the thread: the deflater is built there.
const STACK: usize = 1 << 20;

/// What is known of a segment on disk.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::store::history) struct Segment {
    /// Milliseconds of its newest sample.
    pub(in crate::store::history) last: i64,
    /// Bytes.
    pub(in crate::store::history) bytes: u64,
}

/// The queue and its thread.
#[derive(Debug)]
pub(in crate::store::history) struct Writer {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug)]
struct Shared {
    folder: PathBuf,
    queue: Mutex<Queue>,
    /// Something came into the queue.
    wake: Condvar,
    /// The queue was worked off, or could not be.
    done: Condvar,
    segments: Mutex<BTreeMap<u32, Segment>>,
    metrics: Metrics,
}

#[derive(Debug, Default)]
struct Queue {
    records: VecDeque<Record>,
    bytes: usize,
    /// Number of the last flush that was asked for, and of the last one done.
    wanted: u64,
    flushed: u64,
    stopping: bool,
}

impl Writer {
    /// Starts the thread.
    pub(in crate::store::history) fn start(folder: &Path, metrics: Metrics) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            folder: folder.to_owned(),
            queue: Mutex::default(),
            wake: Condvar::new(),
            done: Condvar::new(),
            segments: Mutex::default(),
            metrics,
        });
        let worker = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("log-writer".into())
            .stack_size(STACK)
            .spawn(move || worker.run())?;
        Ok(Writer {
            shared,
            thread: Mutex::new(Some(thread)),
        })
    }

    /// These were there before.
    pub(in crate::store::history) fn found(&self, segments: BTreeMap<u32, Segment>) {
        self.shared.segments.lock().extend(segments);
    }

    /// Puts a record into the queue. It is never refused, since later ones build upon it: ask
    /// [`Writer::is_full`] before a tick.
    pub(in crate::store::history) fn push(&self, record: Record) {
        let mut queue = self.shared.queue.lock();
        queue.bytes += record.size();
        queue.records.push_back(record);
        self.shared.wake.notify_one();
    }

    /// Whether more waits than should.
    pub(in crate::store::history) fn is_full(&self) -> bool {
        self.shared.queue.lock().bytes >= QUEUE
    }

    /// Waits until everything so far is on disk; `false` when that does not come about within
    /// seconds.
    pub(in crate::store::history) fn flush(&self) -> bool {
        let mut queue = self.shared.queue.lock();
        queue.wanted += 1;
        let number = queue.wanted;
        self.shared.wake.notify_one();
        let deadline = Instant::now() + FLUSH;
        while queue.flushed < number {
            if self
                .shared
                .done
                .wait_until(&mut queue, deadline)
                .timed_out()
            {
                return false;
            }
        }
        true
    }

    /// The segments on disk, by number.
    pub(in crate::store::history) fn segments(&self) -> BTreeMap<u32, Segment> {
        self.shared.segments.lock().clone()
    }

    /// Deletes the segments whose samples are all older than `before`, except the newest.
    pub(in crate::store::history) fn drop_before(&self, before: i64) {
        let mut segments = self.shared.segments.lock();
        let newest = segments.keys().next_back().copied();
        segments.retain(|number, segment| {
            if Some(*number) == newest || segment.last >= before {
                return true;
            }
            let path = segment_path(&self.shared.folder, *number);
            match std::fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    error!(file = %path.display(), %error, "A segment of the log cannot be deleted.");
                    true
                }
                _ => false,
            }
        });
    }

    fn stop(&self) {
        self.shared.queue.lock().stopping = true;
        self.shared.wake.notify_one();
        if let Some(thread) = self.thread.lock().take()
            && thread.join().is_err()
        {
            error!("The writer of the log has panicked.");
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The file of a segment.
pub(in crate::store::history) fn segment_path(folder: &Path, number: u32) -> PathBuf {
    folder.join(format!("{number:08}"))
}

/// The segment that is being written.
struct Open {
    number: u32,
    file: File,
    length: u64,
    /// When something was written that the disk was not asked to keep.
    unsynced: Option<Instant>,
}

impl Shared {
    fn run(&self) {
        let mut open: Option<Open> = None;
        let mut frames = Vec::new();
        let mut failing = false;
        loop {
            let (batch, wanted, stopping) = self.next_batch(open.as_ref().and_then(|o| o.unsynced));
            let flush = wanted > self.queue.lock().flushed;
            let (rest, result) = self.write(batch, &mut open, &mut frames, flush || stopping);
            frames.clear();
            frames.shrink_to(FRAMES);
            let failed = result.is_err();
            if let Err(error) = result {
                self.metrics.failed();
                if !failing {
                    error!(folder = %self.folder.display(), %error, "The history cannot be written; samples are kept in memory until it can.");
                }
            } else if failing {
                info!(folder = %self.folder.display(), "The history is written again.");
            }
            failing = failed;
            self.metrics.log_written(!failed);
            let mut queue = self.queue.lock();
            for record in rest.into_iter().rev() {
                queue.records.push_front(record);
            }
            queue.bytes = queue.records.iter().map(Record::size).sum();
            if failed {
                if stopping {
                    return;
                }
                // A flush waits for a later attempt.
                self.wake.wait_for(&mut queue, RETRY);
                continue;
            }
            queue.flushed = queue.flushed.max(wanted);
            self.done.notify_all();
            if stopping && queue.records.is_empty() {
                return;
            }
        }
    }

    /// Waits for something to do: records, a flush, the end, or written bytes that the disk should
    /// keep by now.
    fn next_batch(&self, unsynced: Option<Instant>) -> (VecDeque<Record>, u64, bool) {
        let mut queue = self.queue.lock();
        while queue.records.is_empty() && !queue.stopping && queue.wanted == queue.flushed {
            match unsynced {
                Some(since) if self.wake.wait_until(&mut queue, since + SYNC).timed_out() => break,
                Some(_) => {}
                None => self.wake.wait(&mut queue),
            }
        }
        (
            std::mem::take(&mut queue.records),
            queue.wanted,
            queue.stopping,
        )
    }

    /// Writes the records; gives back those that could not be written.
    fn write(
        &self,
        mut batch: VecDeque<Record>,
        open: &mut Option<Open>,
        frames: &mut Vec<u8>,
        sync: bool,
    ) -> (VecDeque<Record>, io::Result<()>) {
        while let Some(segment) = batch.front().map(|r| r.segment) {
            frames.clear();
            let count = batch.iter().take_while(|r| r.segment == segment).count();
            let result = self.segment(segment, open).and_then(|open| {
                batch
                    .iter()
                    .take(count)
                    .try_for_each(|record| record.frame(frames))?;
                open.file.write_all_at(frames, open.length)?;
                open.length += frames.len() as u64;
                open.unsynced.get_or_insert_with(Instant::now);
                Ok(open.length)
            });
            match result {
                Ok(bytes) => {
                    let last = batch
                        .drain(..count)
                        .map(|r| r.time)
                        .max()
                        .unwrap_or(i64::MIN);
                    let mut segments = self.segments.lock();
                    let known = segments.entry(segment).or_insert(Segment { last, bytes });
                    *known = Segment {
                        last: known.last.max(last),
                        bytes,
                    };
                }
                Err(error) => return (batch, Err(error)),
            }
        }
        let due = |open: &Open| {
            open.unsynced
                .is_some_and(|since| sync || since.elapsed() >= SYNC)
        };
        let result = match open.as_mut().filter(|o| due(o)) {
            Some(open) => open.sync(),
            None => Ok(()),
        };
        (batch, result)
    }

    /// The file of this segment, opened if need be.
    fn segment<'a>(&self, number: u32, open: &'a mut Option<Open>) -> io::Result<&'a mut Open> {
        if let Some(other) = open.as_mut().filter(|o| o.number != number) {
            other.sync()?;
            *open = None;
        }
        match open {
            Some(open) => Ok(open),
            None => {
                let file = File::options()
                    .write(true)
                    .create(true)
                    .truncate(true)
                    .open(segment_path(&self.folder, number))?;
                file.write_all_at(MAGIC, 0)?;
                Ok(open.insert(Open {
                    number,
                    file,
                    length: MAGIC.len() as u64,
                    unsynced: None,
                }))
            }
        }
    }
}

impl Open {
    fn sync(&mut self) -> io::Result<()> {
        if self.unsynced.is_some() {
            self.file.sync_data()?;
            self.unsynced = None;
        }
        Ok(())
    }
}
