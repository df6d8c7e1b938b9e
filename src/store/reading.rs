//! The log is read beside everything else: collection goes on at once, whatever the history's size.
//!
//! What comes in meanwhile is newer than what is still to be read, and a series takes its samples
//! in order of time. So it is taken down in the log at once, waits in memory, and is appended when
//! the log has been read. Until then nothing is deleted, and the clock is not followed.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;

use parking_lot::{Condvar, Mutex};
use tracing::error;

use super::append::Worth;
use super::history::{self, Entry, History, HistoryError, Unread, Until};
use super::memory::series::Outcome;
use super::shares::Asks;
use super::{HistorySettings, Inner, Limits, Store};
use crate::model::{Labels, NativeHistogram, Timestamp, is_histogram};

/// Samples of one instant that are appended under one lock.
const PIECE: usize = 16 << 10;
/// Most samples that wait; further ones are in the log alone, and in memory after the next start.
const MOST_WAITING: usize = 8 << 20;

/// A log that is still to be read, see [`Store::open_beside`].
#[derive(Debug)]
pub struct Reading {
    unread: Unread,
    now: Timestamp,
    since: Instant,
}

impl Reading {
    /// Bytes of the log.
    pub fn bytes(&self) -> u64 {
        self.unread.bytes()
    }
}

/// Whether the log is being read.
#[derive(Debug, Default)]
pub(super) struct Progress {
    reading: AtomicBool,
    /// Segments that are read, and all.
    segments: (AtomicUsize, AtomicUsize),
    ended: (Mutex<()>, Condvar),
}

/// What came in while the log is read, in order.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    pieces: VecDeque<Piece>,
    samples: usize,
}

/// Samples of one instant, by slot.
#[derive(Debug)]
struct Piece {
    at: i64,
    floats: Vec<(u32, f64)>,
    histograms: Vec<(u32, Arc<NativeHistogram>)>,
}

impl Waiting {
    fn add(&mut self, slot: u32, at: i64, worth: &Worth<'_>) {
        self.samples += 1;
        let fits = |piece: &&mut Piece| {
            piece.at == at && piece.floats.len() + piece.histograms.len() < PIECE
        };
        if self
            .pieces
            .back_mut()
            .as_ref()
            .is_none_or(|last| !fits(last))
        {
            self.pieces.push_back(Piece {
                at,
                floats: Vec::new(),
                histograms: Vec::new(),
            });
        }
        let Some(piece) = self.pieces.back_mut() else {
            return;
        };
        match worth {
            Worth::Float(value) => piece.floats.push((slot, *value)),
            Worth::Histogram(histogram) => piece.histograms.push((slot, Arc::clone(histogram))),
        }
    }
}

impl Inner {
    /// Takes a sample down that is appended when the log has been read. `None` when its series is
    /// not there any more.
    pub(super) fn hold(&mut self, slot: u32, at: i64, worth: &Worth<'_>) -> Option<Outcome> {
        let series = self.slots.get(slot)?;
        if let Some(log) = &mut self.log {
            match worth {
                Worth::Float(value) => {
                    let value = if is_histogram(*value) {
                        f64::NAN
                    } else {
                        *value
                    };
                    log.add(slot, &series.labels, at, value);
                }
                Worth::Histogram(histogram) => {
                    log.add_histogram(slot, &series.labels, at, histogram);
                }
            }
        }
        let waiting = self.waiting.as_mut()?;
        if waiting.samples >= MOST_WAITING {
            return Some(Outcome::OutOfBounds);
        }
        waiting.add(slot, at, worth);
        Some(Outcome::Appended)
    }

    fn append_piece(&mut self, piece: Piece) {
        let mut current = None;
        // What is refused was taken down nevertheless; a start refuses it as well.
        for (slot, value) in piece.floats {
            let _ = self.append(slot, piece.at, value, &mut current);
        }
        for (slot, histogram) in piece.histograms {
            let _ = self.append_histogram(slot, piece.at, &histogram, &mut current);
        }
    }
}

/// A series as the log declares it, while that is read.
#[derive(Clone, Debug, Default)]
struct Logged {
    /// Until it has a slot; from then on they stand there alone. Each segment declares all series
    /// anew: kept as long as the segment is read, their labels would be in memory twice, and leave
    /// holes in it.
    labels: Option<Labels>,
    /// Milliseconds up to which its samples are on disk already.
    until: i64,
    /// Known from its first sample on, or from the declaration where the store has it already.
    slot: Option<u32>,
}

impl Logged {
    /// Where its sample of this time goes, if it goes into memory.
    fn slot(&mut self, at: i64, inner: &mut Inner, limits: &Limits) -> Option<u32> {
        if at > self.until
            && self.slot.is_none()
            && let Some(labels) = &self.labels
        {
            self.slot = inner.find_or_create(labels, limits, Asks::Vital).ok();
            if self.slot.is_some() {
                self.labels = None;
            }
        }
        self.slot.filter(|_| at > self.until)
    }
}

/// What the log has said so far.
#[derive(Default)]
struct Replay {
    /// After a turn of the clock it may be any time.
    turned: bool,
    segment: u32,
    /// The series of the segment that is being read: known by their slot from their first sample
    /// on.
    series: Vec<Logged>,
}

impl Replay {
    fn take(
        &mut self,
        inner: &mut Inner,
        limits: &Limits,
        (number, floor, ended): (u32, i64, &Until),
        entry: Entry<'_>,
    ) {
        let Replay {
            turned,
            segment,
            series,
        } = self;
        inner.floor = if *turned { i64::MIN } else { floor };
        if number != *segment {
            *segment = number;
            series.clear();
        }
        match entry {
            Entry::Series(first, more) => {
                let end = first as usize + more.len();
                // Numbers whose declaration is lost are not used: the log's reader leaves such
                // samples out.
                series.resize(end.max(series.len()), Logged::default());
                for (known, labels) in series[first as usize..end].iter_mut().zip(more) {
                    let until = if *turned { i64::MIN } else { ended.of(&labels) };
                    let slot = inner.by_labels.find(&inner.slots, &labels);
                    *known = Logged {
                        until,
                        labels: slot.is_none().then_some(labels),
                        slot,
                    };
                }
            }
            Entry::Turn(at) => {
                inner.cut_all(at);
                *turned = true;
                // What was written of series that ended is of the time before.
                series.iter_mut().for_each(|known| known.until = i64::MIN);
            }
            Entry::Tick(at, samples) if at >= floor || *turned => {
                let mut current = None;
                for (number, value) in samples {
                    let Some(slot) = series
                        .get_mut(*number as usize)
                        .and_then(|s| s.slot(at, inner, limits))
                    else {
                        continue;
                    };
                    // What came out of order was not logged; a damaged log may make it so, and
                    // then the store refuses it.
                    let _ = inner.append(slot, at, *value, &mut current);
                }
            }
            Entry::Tick(..) => {}
            Entry::Histograms(histograms) => {
                let mut current = None;
                for (number, (at, histogram)) in histograms
                    .iter()
                    .filter(|(_, (at, _))| *at >= floor || *turned)
                {
                    let known = series.get_mut(*number as usize);
                    if let Some(slot) = known.and_then(|s| s.slot(*at, inner, limits)) {
                        let _ = inner.append_histogram(slot, *at, histogram, &mut current);
                    }
                }
            }
        }
    }
}

impl Store {
    pub(super) fn open_with(
        limits: Limits,
        settings: &HistorySettings,
        metrics: history::Metrics,
        now: Timestamp,
    ) -> Result<Self, HistoryError> {
        let (store, reading) = Store::begin(limits, settings, metrics, now)?;
        store.read_log(&reading)?;
        Ok(store)
    }

    /// Like [`Store::open`], but the log is not read yet: hand what comes with the store to
    /// [`Store::read_beside`], on a thread that may take its time. Samples are accepted meanwhile; what is
    /// asked for is answered from blocks and from what has been read so far.
    ///
    /// # Errors
    /// When the folder cannot be used.
    pub fn open_beside(
        limits: Limits,
        settings: &HistorySettings,
        now: Timestamp,
    ) -> Result<(Self, Reading), HistoryError> {
        Store::begin(limits, settings, history::Metrics::default(), now)
    }

    fn begin(
        limits: Limits,
        settings: &HistorySettings,
        metrics: history::Metrics,
        now: Timestamp,
    ) -> Result<(Self, Reading), HistoryError> {
        let since = Instant::now();
        let (history, log, unread) = History::open(settings, metrics, now)?;
        let inner = Inner {
            floor: i64::MIN,
            log: Some(log),
            waiting: Some(Waiting::default()),
            ..Inner::default()
        };
        let store = Store::with(limits, inner, Some(history));
        store.progress.reading.store(true, Ordering::Release);
        let all = &store.progress.segments.1;
        all.store(unread.segments(), Ordering::Relaxed);
        Ok((store, Reading { unread, now, since }))
    }

    /// Reads the log that the store was opened beside, and takes what came in meanwhile. A log that
    /// cannot be read any further stays as it is, which is logged.
    pub fn read_beside(&self, reading: &Reading) {
        if let Err(error) = self.read_log(reading) {
            error!(%error, "The log cannot be read to its end; what is left of it stays there and is read at the next start.");
        }
    }

    fn read_log(&self, reading: &Reading) -> Result<(), HistoryError> {
        let mut replay = Replay::default();
        let read = self.history.get().map_or(Ok(()), |history| {
            let read = history.read_log(&reading.unread, |segment, floor, ended, entry| {
                let inner = &mut *self.inner.write();
                // It stands there already.
                let log = inner.log.take();
                if segment != replay.segment && replay.segment != 0 {
                    self.progress.segments.0.fetch_add(1, Ordering::Relaxed);
                }
                replay.take(inner, &self.limits, (segment, floor, ended), entry);
                inner.log = log;
            });
            self.inner.write().floor = history.snapshot().floor;
            read
        });
        let turned = self.settle(reading.now + reading.since.elapsed());
        self.take_waiting(turned);
        self.selections.lock().clear();
        let (done, all) = &self.progress.segments;
        done.store(all.load(Ordering::Relaxed), Ordering::Relaxed);
        self.progress.reading.store(false, Ordering::Release);
        let (lock, ended) = &self.progress.ended;
        drop(lock.lock());
        ended.notify_all();
        read
    }

    /// Appends what came in while the log was read. `again`: the log says that the clock was set
    /// back after these samples were taken down, so they must stand after that, too.
    fn take_waiting(&self, again: bool) {
        loop {
            let inner = &mut *self.inner.write();
            let piece = inner.waiting.as_mut().and_then(|w| w.pieces.pop_front());
            let Some(piece) = piece else {
                inner.waiting = None;
                return;
            };
            let log = if again { None } else { inner.log.take() };
            inner.append_piece(piece);
            if again {
                inner.finish();
            } else {
                inner.log = log;
            }
        }
    }

    /// Whether the log is still being read: what it holds is not all there yet.
    pub fn is_reading(&self) -> bool {
        self.progress.reading.load(Ordering::Acquire)
    }

    /// Segments of the log that the start has read, and all that it found.
    pub fn segments_read(&self) -> (usize, usize) {
        let (done, all) = &self.progress.segments;
        (done.load(Ordering::Relaxed), all.load(Ordering::Relaxed))
    }

    /// Waits until the log has been read.
    pub fn wait_until_read(&self) {
        let (lock, ended) = &self.progress.ended;
        let mut held = lock.lock();
        while self.is_reading() {
            ended.wait(&mut held);
        }
    }
}
