//! Taking samples, floats and native histograms by the same rules: a sample must be newer than its
//! series' newest one, an exact repetition is accepted silently, and what is dated too far ahead is
//! refused.

use std::sync::Arc;

use super::memory::column::ColumnId;
use super::memory::series::Outcome;
use super::shares::Asks;
use super::{FUTURE, Inner, SeriesId, Store};
use crate::model::{HistogramSample, Labels, NativeHistogram, Sample, Timestamp, is_histogram};

/// How many samples of a batch were taken, and what became of the others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Appended {
    /// Stored, or an exact repetition of what was stored.
    pub appended: usize,
    /// Same instant as the newest sample, another value.
    pub duplicate: usize,
    /// Older than the newest sample.
    pub out_of_order: usize,
    /// More than ten minutes after the batch's time, or so old that their time is in a block on
    /// disk.
    pub out_of_bounds: usize,
    /// Of series that were not created, see [`super::Refused`].
    pub refused: usize,
    /// Series that retention has dropped: ask for a new id and append again.
    pub forgotten: Vec<SeriesId>,
}

impl Appended {
    fn count(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Appended | Outcome::Repeated => self.appended += 1,
            Outcome::Duplicate => self.duplicate += 1,
            Outcome::OutOfOrder => self.out_of_order += 1,
            Outcome::OutOfBounds => self.out_of_bounds += 1,
        }
    }
}

impl Inner {
    /// `None` when the series is not there any more.
    pub(super) fn append(
        &mut self,
        slot: u32,
        at: i64,
        value: f64,
        current: &mut Option<ColumnId>,
    ) -> Option<Outcome> {
        let series = self.slots.get_mut(slot)?;
        if at < self.floor {
            self.late.missed(at);
            return Some(Outcome::OutOfBounds);
        }
        // A marker never stands alone: a float with its bits is any NaN.
        let value = if is_histogram(value) { f64::NAN } else { value };
        let outcome = series.append(at, value, &mut self.columns, current);
        if outcome == Outcome::Appended {
            self.late.see(at);
            if let Some(log) = &mut self.log {
                log.add(slot, &series.labels, at, value);
            }
        }
        Some(outcome)
    }

    /// Likewise a native histogram.
    pub(super) fn append_histogram(
        &mut self,
        slot: u32,
        at: i64,
        histogram: &Arc<NativeHistogram>,
        current: &mut Option<ColumnId>,
    ) -> Option<Outcome> {
        let series = self.slots.get_mut(slot)?;
        if at < self.floor {
            self.late.missed(at);
            return Some(Outcome::OutOfBounds);
        }
        let outcome = series.append_histogram(at, histogram, &mut self.columns, current);
        if outcome == Outcome::Appended {
            self.late.see(at);
            if let Some(log) = &mut self.log {
                log.add_histogram(slot, &series.labels, at, histogram);
            }
        }
        Some(outcome)
    }

    fn append_worth(
        &mut self,
        slot: u32,
        at: i64,
        worth: &Worth<'_>,
        current: &mut Option<ColumnId>,
    ) -> Option<Outcome> {
        if self.waiting.is_some() {
            return self.hold(slot, at, worth);
        }
        match worth {
            Worth::Float(value) => self.append(slot, at, *value, current),
            Worth::Histogram(histogram) => self.append_histogram(slot, at, histogram, current),
        }
    }

    /// Ends one call to append.
    pub(super) fn finish(&mut self) {
        if let Some(log) = &mut self.log {
            log.finish();
        }
    }
}

/// The value of a sample.
pub(super) enum Worth<'a> {
    Float(f64),
    Histogram(&'a Arc<NativeHistogram>),
}

impl Store {
    /// Appends what one scrape or collection at `at` brought; a sample with a timestamp of its own
    /// keeps it.
    pub fn append(&self, at: Timestamp, samples: &[Sample]) -> Appended {
        self.take(
            at,
            samples
                .iter()
                .map(|s| (&s.labels, s.timestamp, Worth::Float(s.value))),
        )
    }

    /// Appends the native histograms that one scrape at `at` brought, by the same rules; a
    /// histogram with a timestamp of its own keeps it.
    pub fn append_histograms(&self, at: Timestamp, samples: &[HistogramSample]) -> Appended {
        self.take(
            at,
            samples
                .iter()
                .map(|s| (&s.labels, s.timestamp, Worth::Histogram(&s.histogram))),
        )
    }

    /// Appends one sample at `at` to each of these series.
    pub fn append_ids(&self, at: Timestamp, samples: &[(SeriesId, f64)]) -> Appended {
        self.take_known(
            at,
            samples
                .iter()
                .map(|(id, value)| (*id, Worth::Float(*value))),
        )
    }

    /// Appends one native histogram at `at` to each of these series.
    pub fn append_histogram_ids(
        &self,
        at: Timestamp,
        samples: &[(SeriesId, Arc<NativeHistogram>)],
    ) -> Appended {
        self.take_known(
            at,
            samples
                .iter()
                .map(|(id, histogram)| (*id, Worth::Histogram(histogram))),
        )
    }

    fn take<'a>(
        &self,
        at: Timestamp,
        samples: impl Iterator<Item = (&'a Labels, Option<Timestamp>, Worth<'a>)>,
    ) -> Appended {
        let mut result = Appended::default();
        let mut current = None;
        let bound = at + FUTURE;
        let inner = &mut *self.inner.write();
        if inner.is_straggling(at) {
            return Appended {
                out_of_bounds: samples.count(),
                ..result
            };
        }
        for (labels, timestamp, worth) in samples {
            let time = timestamp.unwrap_or(at);
            if time > bound {
                result.out_of_bounds += 1;
                continue;
            }
            let slot = inner
                .find_or_create(labels, &self.limits, Asks::of(labels))
                .ok();
            match slot.and_then(|slot| inner.append_worth(slot, time.0, &worth, &mut current)) {
                Some(outcome) => result.count(outcome),
                None => result.refused += 1,
            }
        }
        inner.finish();
        result
    }

    fn take_known<'a>(
        &self,
        at: Timestamp,
        samples: impl Iterator<Item = (SeriesId, Worth<'a>)>,
    ) -> Appended {
        let mut result = Appended::default();
        let mut current = None;
        let inner = &mut *self.inner.write();
        if inner.is_straggling(at) {
            return Appended {
                out_of_bounds: samples.count(),
                ..result
            };
        }
        for (id, worth) in samples {
            let valid = inner.slots.known(id).is_some();
            match valid
                .then(|| inner.append_worth(id.slot, at.0, &worth, &mut current))
                .flatten()
            {
                Some(outcome) => result.count(outcome),
                None => result.forgotten.push(id),
            }
        }
        inner.finish();
        result
    }
}
