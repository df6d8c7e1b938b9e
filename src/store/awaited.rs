//! A history whose folder could not be used at the start (a disk that was not mounted yet, a
//! read-only file system, wrong rights) is used as soon as it can be.
//!
//! What its log holds becomes a block, since memory has gone on without it; so does what was
//! sampled meanwhile. From then on the store is like one that began with it.

use std::collections::BTreeMap;
use std::time::Duration;

use super::history::{self, History, HistoryError, Log, Settings};
use super::memory::series::{Gathered, Scratch};
use super::{Inner, Limits, Store};
use crate::model::{Timestamp, is_histogram};

/// Samples that are younger stay in memory and go into the log: a scrape that runs now bears the
/// time at which it began.
const MARGIN: Duration = Duration::from_secs(120);

/// The history that a store waits for.
#[derive(Debug)]
pub(super) struct Awaited {
    settings: Settings,
    pub(super) metrics: history::Metrics,
}

impl Awaited {
    /// How long samples will be kept.
    pub(super) fn retention(&self) -> Duration {
        self.settings.retention
    }
}

/// A sample that the log has to learn.
type Unlogged = (
    u32,
    f64,
    Option<std::sync::Arc<crate::model::NativeHistogram>>,
);

impl Store {
    /// A store in memory that waits for its history: [`Store::open_awaited`] tries to open it.
    pub fn awaiting(limits: Limits, settings: &Settings) -> Self {
        let awaited = Awaited {
            settings: settings.clone(),
            metrics: history::Metrics::default(),
        };
        Store {
            awaited: Some(awaited),
            ..Store::new(limits)
        }
    }

    /// Whether the history could not be opened yet.
    pub fn awaits_history(&self) -> bool {
        self.awaited.is_some() && self.history.get().is_none()
    }

    /// Opens the history that the store waits for and goes on in it. It reads and writes files:
    /// call it off the async runtime, and not from two threads at once.
    ///
    /// # Errors
    /// When the folder still cannot be used; the store goes on in memory.
    pub fn open_awaited(&self, now: Timestamp) -> Result<(), HistoryError> {
        let Some(awaited) = self.awaited.as_ref().filter(|_| self.awaits_history()) else {
            return Ok(());
        };
        let Settings { path, .. } = &awaited.settings;
        let failed = |error| HistoryError::Folder {
            path: path.clone(),
            error,
        };
        let found = Store::open_with(
            self.limits.clone(),
            &awaited.settings,
            awaited.metrics.clone(),
            now,
        )?;
        if let Some(history) = found.history.get()
            && let Some(oldest) = found.oldest(history, history.snapshot().floor)
        {
            let end = found
                .newest()
                .map_or(oldest, |newest| newest.0)
                .saturating_add(1);
            let block = found.block(history, (oldest, end), true).map_err(failed)?;
            history.publish(block, end);
        }
        let Some((history, log)) = found.into_history() else {
            return Ok(());
        };
        let end = (now - MARGIN).0.max(history.snapshot().floor);
        let before = {
            let inner = &mut *self.inner.write();
            let before = inner.floor;
            inner.floor = before.max(end);
            before
        };
        let written = match self
            .inner
            .read()
            .oldest(history.snapshot().floor)
            .filter(|oldest| *oldest < end)
        {
            Some(oldest) => self.block(&history, (oldest, end), true),
            None => Ok(None),
        };
        let block = written.map_err(|error| {
            self.inner.write().floor = before;
            failed(error)
        })?;
        history.publish(block, end);
        let inner = &mut *self.inner.write();
        inner.log = Some(log);
        self.log_from(inner, end);
        // Nobody else sets it.
        let _ = self.history.set(history);
        self.selections.lock().clear();
        Ok(())
    }

    /// The history of a store that was just opened, and its log.
    fn into_history(self) -> Option<(History, Log)> {
        Some((self.history.into_inner()?, self.inner.into_inner().log?))
    }

    /// Writes what memory holds from `start` on into the log, in order of time.
    fn log_from(&self, inner: &mut Inner, start: i64) {
        let mut ticks: BTreeMap<i64, Vec<Unlogged>> = BTreeMap::new();
        let (mut samples, mut scratch) = (Gathered::default(), Scratch::default());
        for (slot, series) in inner.slots.iter() {
            samples.clear();
            match series.window(
                start.saturating_sub(1),
                i64::MAX,
                &inner.columns,
                &self.decoded,
                &mut scratch,
            ) {
                Ok(window) => samples.extend(window),
                // Reading it counts and reports the damage.
                Err(_) => continue,
            }
            let window = samples.window();
            for (time, value) in window.times.iter().zip(window.values) {
                let histogram = window
                    .histogram(*time)
                    .filter(|_| is_histogram(*value))
                    .cloned();
                ticks
                    .entry(*time)
                    .or_default()
                    .push((slot, *value, histogram));
            }
        }
        let Some(log) = &mut inner.log else { return };
        for (time, tick) in ticks {
            for (slot, value, histogram) in tick {
                let Some(series) = inner.slots.get(slot) else {
                    continue;
                };
                match histogram {
                    Some(histogram) => log.add_histogram(slot, &series.labels, time, &histogram),
                    None => log.add(slot, &series.labels, time, value),
                }
            }
            log.finish();
        }
    }
}
