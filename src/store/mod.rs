//! The time series store: everything that was measured, in memory and, where a folder is given, on
//! disk.
//!
//! Follows Prometheus's rules for accepting samples: a sample must be newer than its series' newest
//! one; an exact repetition is accepted silently. The store knows nothing of PromQL; it gives
//! windows of samples, left-open and right-closed, stale markers included. It refuses new series
//! beyond [`Limits::max_series`], never a sample of a series that it knows.

mod append;
mod awaited;
mod cardinality;
mod clock;
mod config;
mod ended;
mod history;
mod memory;
mod read;
mod reading;
pub mod rollup;
mod shares;
mod upkeep;

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::OnceLock;
use std::time::Duration;

use parking_lot::{Mutex, RwLock};

use crate::model::{Labels, METRIC_NAME, Matcher, Timestamp};
use crate::telemetry::Telemetry;
pub use append::Appended;
use awaited::Awaited;
pub use cardinality::Cardinality;
pub use config::{SeriesLimits, StorageConfig};
use ended::Endings;
pub use history::import::{Import, Imported};
pub use history::{BlockStatus, HistoryError, HistoryStatus, Settings as HistorySettings};
use history::{History, Log};
pub use memory::chunk::ChunkError;
use memory::column::Columns;
use memory::decoded::Decoded;
use memory::index::Index;
use memory::lookup::Lookup;
pub use memory::series::{TimedHistogram, Window};
use memory::slots::Slots;
use read::kept::Locations;
pub(crate) use read::seen::Seen;
pub use read::selection::Selection;
use read::selection::Selections;
pub use reading::Reading;
use reading::{Progress, Waiting};
pub use shares::Owner;
use shares::{Asks, Shares};
use upkeep::Late;

/// Samples stamped further than this beyond the time of their scrape are out of bounds
/// (SEMANTICS 11).
const FUTURE: Duration = Duration::from_secs(600);

/// How long samples are kept in memory.
const MEMORY_RETENTION: Duration = Duration::from_secs(6 * 3600);

/// How long series of recording rules (a colon in their name) are kept in memory: a month's mean
/// needs a month.
const RECORDED_RETENTION: Duration = Duration::from_secs(31 * 86_400);

/// Bytes of a log that is long, unless somebody says otherwise.
const LONG_LOG: u64 = 128 << 20;

/// Series that upkeep goes through under one lock.
const AT_ONCE: u32 = 4096;

/// What the store refuses to exceed.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Series held at once.
    pub max_series: usize,
    /// Series of one target, those that ended a few minutes ago included.
    pub max_series_per_target: usize,
    /// Bytes of a series' names and values together.
    pub max_labels_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            max_series: 1_000_000,
            max_series_per_target: 200_000,
            max_labels_bytes: 1 << 20,
        }
    }
}

/// A series in the store. Stays valid until retention drops the series; afterwards appends to it
/// come back as `forgotten`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub struct SeriesId {
    slot: u32,
    version: Version,
}

/// Which of the series that had a slot one after the other; never zero, so that an
/// `Option<SeriesId>` takes no more room than an id.
type Version = std::num::NonZeroU32;

/// Why a series was not created.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The store holds as many series as it may.
    #[error("series limit of {0} reached")]
    TooManySeries(usize),
    /// The target holds as many series as one may.
    #[error("a target may have {0} series")]
    ShareTaken(usize),
    /// The label set is too long.
    #[error("labels take {length} bytes, more than the limit of {limit}")]
    LabelsTooLong {
        /// Bytes of this label set.
        length: usize,
        /// Most bytes allowed.
        limit: usize,
    },
}

/// What the store holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Series.
    pub series: usize,
    /// Samples not yet compressed.
    pub head_samples: usize,
    /// Samples in sealed chunks.
    pub sealed_samples: usize,
    /// Bytes of sealed chunks.
    pub sealed_bytes: usize,
    /// Bytes of everything, about.
    pub bytes: usize,
    /// Series ever refused.
    pub refused_series: u64,
    /// Chunks that could not be read or written.
    pub damaged_chunks: u64,
}

/// The series store. Shared between threads; each call locks for itself.
#[derive(Debug)]
pub struct Store {
    limits: Limits,
    inner: RwLock<Inner>,
    selections: Mutex<Selections>,
    located: Mutex<Locations>,
    decoded: Decoded,
    damaged: std::sync::atomic::AtomicU64,
    /// Set at the start, or later where it is awaited.
    history: OnceLock<History>,
    awaited: Option<Awaited>,
    endings: Endings,
    progress: Progress,
    /// Bytes of a log that is long.
    long_log: std::sync::atomic::AtomicU64,
}

#[derive(Debug, Default)]
struct Inner {
    slots: Slots,
    by_labels: Lookup,
    index: Index,
    columns: Columns,
    /// Grows whenever a series comes or goes.
    generation: u64,
    /// The generation at which a series of this metric name last came or went.
    by_name: HashMap<Box<str>, u64, ahash::RandomState>,
    refused: u64,
    /// Grows whenever a series goes.
    departures: u64,
    /// Samples before it are in a block, or in one that is being written.
    floor: i64,
    late: Late,
    /// When the clock was set back last.
    turned: Option<clock::Turned>,
    shares: Shares,
    /// Where accepted samples are taken down, when there is a history on disk.
    log: Option<Log>,
    /// What comes in while the log is read.
    waiting: Option<Waiting>,
}

impl Inner {
    fn find_or_create(
        &mut self,
        labels: &Labels,
        limits: &Limits,
        asks: Asks,
    ) -> Result<u32, Refused> {
        if let Some(slot) = self.by_labels.find(&self.slots, labels) {
            return Ok(slot);
        }
        if let Some(refusal) = self.refusal(labels, limits, asks) {
            self.refused += 1;
            return Err(refusal);
        }
        let slot = self.slots.add(labels.clone());
        self.by_labels.add(&self.slots, slot);
        self.index.add(slot, labels);
        self.changed(labels);
        Ok(slot)
    }

    /// A series with these labels came or went.
    fn changed(&mut self, labels: &Labels) {
        self.generation += 1;
        let name = labels.metric_name();
        match self.by_name.get_mut(name) {
            _ if !self.index.contains(METRIC_NAME, name) => drop(self.by_name.remove(name)),
            Some(generation) => *generation = self.generation,
            None => drop(self.by_name.insert(name.into(), self.generation)),
        }
    }
}

impl Store {
    /// An empty store, in memory only.
    pub fn new(limits: Limits) -> Self {
        Store::with(
            limits,
            Inner {
                floor: i64::MIN,
                ..Inner::default()
            },
            None,
        )
    }

    fn with(limits: Limits, inner: Inner, history: Option<History>) -> Self {
        Store {
            limits,
            inner: RwLock::new(inner),
            selections: Mutex::new(Selections::default()),
            located: Mutex::new(Locations::default()),
            decoded: Decoded::default(),
            damaged: std::sync::atomic::AtomicU64::new(0),
            history: history.map_or_else(OnceLock::new, OnceLock::from),
            awaited: None,
            endings: Endings::default(),
            progress: Progress::default(),
            long_log: std::sync::atomic::AtomicU64::new(LONG_LOG),
        }
    }

    /// A store with a history on disk; what the folder holds is read at once. What lies after `now`
    /// was stamped by another clock: it is kept, and served when its time has come.
    pub fn open(
        limits: Limits,
        settings: &HistorySettings,
        now: Timestamp,
    ) -> Result<Self, HistoryError> {
        Store::open_with(limits, settings, history::Metrics::default(), now)
    }

    /// How long samples are kept.
    pub fn retention(&self) -> Duration {
        match (self.history.get(), &self.awaited) {
            (Some(history), _) => history.retention(),
            (None, Some(awaited)) => awaited.retention(),
            (None, None) => MEMORY_RETENTION,
        }
    }

    /// The history on disk in numbers; `None` when samples live in memory only.
    pub fn history(&self) -> Option<HistoryStatus> {
        self.history.get().map(History::status)
    }

    /// Makes a copy of the history on disk for a backup, of hard links as far as possible, and gives
    /// back the name of its folder under `snapshots`; `None` when samples live in memory only. A
    /// nightbell can be started on it. It reads and writes files: call it off the async runtime.
    ///
    /// # Errors
    /// When the folder cannot be written; then nothing is left of it.
    pub fn snapshot(&self, now: Timestamp) -> Option<Result<String, HistoryError>> {
        self.history.get().map(|history| history.copy(now))
    }

    /// Registers the metrics of the history, if there is one.
    pub fn register(&self, telemetry: &Telemetry) {
        if let Some(awaited) = &self.awaited {
            awaited.metrics.register(telemetry);
        } else if let Some(history) = self.history.get() {
            history.register(telemetry);
        }
    }

    /// Waits until everything appended so far is on disk; `false` when the disk does not take it
    /// within seconds.
    pub fn flush(&self) -> bool {
        self.history.get().is_none_or(History::flush)
    }

    /// The id of a series that others depend upon, which is created if need be; see
    /// [`Store::series_id_of`] for those of a target.
    pub fn series_id(&self, labels: &Labels) -> Result<SeriesId, Refused> {
        let id = |inner: &Inner, slot: u32| SeriesId {
            slot,
            version: inner
                .slots
                .get(slot)
                .map_or(Version::MIN, |series| series.version),
        };
        {
            let inner = self.inner.read();
            if let Some(slot) = inner.by_labels.find(&inner.slots, labels) {
                return Ok(id(&inner, slot));
            }
        }
        let mut inner = self.inner.write();
        let slot = inner.find_or_create(labels, &self.limits, Asks::Vital)?;
        Ok(id(&inner, slot))
    }

    /// Calls `visit` for every series that passes all matchers and has samples in
    /// `from < timestamp <= to`, in no particular order but the same one each time, until it
    /// breaks.
    ///
    /// The window is borrowed; `visit` must not call the store. Errs when a chunk is damaged.
    pub fn select(
        &self,
        matchers: &[Matcher],
        from: Timestamp,
        to: Timestamp,
        mut visit: impl FnMut(&Labels, Window<'_>) -> ControlFlow<()>,
    ) -> Result<(), ChunkError> {
        let selection = self.selection(matchers, from, to, false);
        self.read(&selection, from, to, |row, window| {
            visit(&selection.labels[row], window)
        })
    }

    /// The label sets of all series that pass the matchers and may have samples in
    /// `from < timestamp <= to`, sorted.
    pub fn series(&self, matchers: &[Matcher], from: Timestamp, to: Timestamp) -> Vec<Labels> {
        let known = self.known(matchers, false);
        let mut found: Vec<Labels> = Vec::new();
        for ids in known.ids.chunks(AT_ONCE as usize) {
            let inner = self.inner.read();
            let here = ids.iter().filter_map(|id| inner.slots.known(*id));
            found.extend(
                here.filter(|series| series.overlaps(from.0, to.0, &inner.columns))
                    .map(|series| series.labels.clone()),
            );
        }
        found.sort_unstable();
        self.series_on_disk(matchers, from.0, to.0, &mut found);
        found
    }

    /// The label names in use, sorted; with matchers, only those of series that [`Store::series`]
    /// returns.
    pub fn label_names(&self, matchers: &[Matcher], from: Timestamp, to: Timestamp) -> Vec<String> {
        if matchers.is_empty() && !self.is_on_disk(from.0, to.0) {
            return self.inner.read().index.names();
        }
        if !self.may_be_on_disk(matchers, from.0, to.0) {
            let inner = &*self.inner.read();
            let series = inner
                .index
                .selected(matchers, |slot, matcher| inner.passes(slot, matcher));
            return inner
                .index
                .names_among(&series, |slot| inner.lives(slot, from.0, to.0));
        }
        let mut names: Vec<String> = Vec::new();
        for labels in self.series(matchers, from, to) {
            for (name, _) in &labels {
                if let Err(position) = names.binary_search_by(|n| n.as_str().cmp(name)) {
                    names.insert(position, name.to_owned());
                }
            }
        }
        names
    }

    /// The values of one label, sorted; with matchers, only those of series that [`Store::series`]
    /// returns.
    pub fn label_values(
        &self,
        name: &str,
        matchers: &[Matcher],
        from: Timestamp,
        to: Timestamp,
    ) -> Vec<String> {
        self.first_label_values(name, matchers, (from, to), usize::MAX)
    }

    /// The first so many of them; where there are more, it may give all.
    pub fn first_label_values(
        &self,
        name: &str,
        matchers: &[Matcher],
        (from, to): (Timestamp, Timestamp),
        most: usize,
    ) -> Vec<String> {
        if matchers.is_empty() && !self.is_on_disk(from.0, to.0) {
            // Sorted without the lock.
            let values = self.inner.read().index.values(name);
            return values.map_or_else(Vec::new, |values| values.sorted(most));
        }
        if !self.may_be_on_disk(matchers, from.0, to.0) {
            let inner = &*self.inner.read();
            let series = inner
                .index
                .selected(matchers, |slot, matcher| inner.passes(slot, matcher));
            return inner.index.values_among(
                name,
                &series,
                |slot| inner.lives(slot, from.0, to.0),
                |slot| inner.slots.labels(slot),
            );
        }
        let found = self.series(matchers, from, to);
        let mut values: Vec<String> = found
            .iter()
            .filter_map(|labels| labels.get(name))
            .map(str::to_owned)
            .collect();
        values.sort_unstable();
        values.dedup();
        values
    }

    /// Number of series.
    pub fn series_count(&self) -> usize {
        self.inner.read().by_labels.len()
    }

    /// Grows whenever a series comes or goes: tables derived from label sets are valid for one
    /// generation.
    pub fn generation(&self) -> u64 {
        self.inner.read().generation
    }

    /// Counts and sizes; walks all series.
    pub fn stats(&self) -> Stats {
        let inner = self.inner.read();
        let mut stats = Stats {
            series: inner.by_labels.len(),
            refused_series: inner.refused,
            ..Stats::default()
        };
        stats.damaged_chunks = self.damaged.load(std::sync::atomic::Ordering::Relaxed);
        for (_, series) in inner.slots.iter() {
            let (head, sealed) = series.counts();
            let (sealed_bytes, other_bytes) = series.heap_sizes();
            stats.head_samples += head;
            stats.sealed_samples += sealed;
            stats.sealed_bytes += sealed_bytes;
            stats.bytes += sealed_bytes + other_bytes;
        }
        stats.damaged_chunks += inner.columns.lost;
        stats.bytes += inner.slots.heap_size()
            + inner.index.heap_size()
            + inner.columns.heap_size()
            + inner.by_labels.heap_size()
            + inner.shares.heap_size()
            + self.decoded.heap_size();
        stats
    }

    /// Drops the samples older than `before`, chunk by chunk, and series that have none left.
    /// Returns the number of series dropped.
    pub fn retain(&self, before: Timestamp) -> usize {
        self.retain_by(|_| before)
    }

    /// Like [`Store::retain`], each series with an age of its own.
    pub fn retain_by(&self, before: impl Fn(&Labels) -> Timestamp) -> usize {
        self.decoded.clear();
        let (mut dropped, mut next) = (0, 0);
        loop {
            // A few at a time, so that collections are not held up.
            let inner = &mut *self.inner.write();
            let end = inner.slots.end();
            let part = next..end.min(next + AT_ONCE);
            next = part.end;
            for slot in part {
                let Some(series) = inner.slots.get_mut(slot) else {
                    continue;
                };
                let before = before(&series.labels);
                series.settle(&mut inner.columns);
                if !series.retain(before.0, &mut inner.columns) {
                    continue;
                }
                inner.remove(slot);
                dropped += 1;
            }
            if next >= end {
                break;
            }
        }
        let inner = &mut *self.inner.write();
        inner.index.compress();
        inner.shares.tidy();
        dropped
    }
}
