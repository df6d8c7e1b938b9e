//! The series that applications send, each with its last value: bounded in number and in memory,
//! shown until nothing has come for a while.

use std::time::Duration;

use indexmap::IndexMap;

use crate::exposition::otlp::{Metric, Point, Temporality};
use crate::model::{Batch, Labels, MetricKind, Timestamp};

use super::worth::Worth;

/// Bytes of all series at most.
const MOST_BYTES: usize = 64 << 20;
/// Longest help text, in bytes.
const LONGEST_HELP: usize = 1 << 10;
/// A series that is not shown any more is remembered so much longer, so that one that comes back is
/// not counted twice.
const REMEMBERED: Duration = Duration::from_secs(3600);
/// About what a series takes beside its labels and its value, in bytes.
const OVERHEAD: usize = 200;

/// Why a point is not taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// Its name, its labels or its value is none that can be kept.
    Invalid,
    /// It does not say what its numbers count.
    Temporality,
    /// There is no room for further series.
    Full,
}

impl Refusal {
    /// All of them.
    pub const ALL: [Refusal; 3] = [Refusal::Invalid, Refusal::Temporality, Refusal::Full];

    /// The reason, as metrics show it.
    pub fn as_str(self) -> &'static str {
        match self {
            Refusal::Invalid => "invalid",
            Refusal::Temporality => "temporality",
            Refusal::Full => "series_limit",
        }
    }
}

/// One series with its last value.
#[derive(Debug)]
struct Held {
    worth: Worth,
    kind: MetricKind,
    help: Box<str>,
    /// When counting began and when the last point was observed, as the application says, in
    /// nanoseconds.
    start: u64,
    time: u64,
    /// When it came.
    seen: Timestamp,
    bytes: usize,
}

/// How a value has changed, for what is derived from it.
#[derive(Debug)]
pub enum Growth {
    /// Nothing is new: it came already, or what was before is not known.
    Nothing,
    /// All of this is new.
    Whole(Worth),
    /// From the first value to the second.
    From(Worth, Worth),
}

/// All series.
#[derive(Debug)]
pub struct AllSeries {
    held: IndexMap<Labels, Held, ahash::RandomState>,
    series: usize,
    bytes: usize,
    /// When the first could come.
    begun: Timestamp,
}

impl AllSeries {
    /// None; they come from now on.
    pub fn new(begun: Timestamp) -> Self {
        AllSeries {
            held: IndexMap::default(),
            series: 0,
            bytes: 0,
            begun,
        }
    }

    /// Number of series, as they are stored.
    pub fn count(&self) -> usize {
        self.series
    }

    /// Sets a value that is simply there.
    pub fn set(
        &mut self,
        labels: Labels,
        worth: Worth,
        most: usize,
        now: Timestamp,
    ) -> Result<(), Refusal> {
        let kind = worth.kind(false);
        self.put(
            labels,
            Held {
                worth,
                kind,
                help: "".into(),
                start: 0,
                time: 0,
                seen: now,
                bytes: 0,
            },
            most,
        )
    }

    /// Takes a point. With `grows` it also says how the value has changed.
    pub fn take(
        &mut self,
        labels: Labels,
        metric: &Metric<'_>,
        point: Point<'_>,
        (most, grows): (usize, bool),
        now: Timestamp,
    ) -> Result<Growth, Refusal> {
        if point.is_gone {
            self.remove(&labels);
            return Ok(Growth::Nothing);
        }
        let (start, time) = (point.start, point.time);
        let mut worth = Worth::of(point.data).map_err(|_| Refusal::Invalid)?;
        let counts = metric.is_sum || matches!(worth, Worth::Histogram { .. } | Worth::Native(_));
        if counts && metric.temporality == Temporality::Unspecified {
            return Err(Refusal::Temporality);
        }
        let is_delta = counts && metric.temporality == Temporality::Delta;
        let old = self.held.get_mut(&labels);
        if let Some(old) = &old
            && time != 0
            && (time < old.time || (is_delta && time == old.time))
        {
            // It was sent again, or has been overtaken.
            return Ok(Growth::Nothing);
        }
        let growth = match (&old, grows) {
            (_, false) => Growth::Nothing,
            (_, true) if is_delta => Growth::Whole(worth.clone()),
            (Some(old), true) if old.start == start => {
                Growth::From(old.worth.clone(), worth.clone())
            }
            (Some(_), true) => Growth::Whole(worth.clone()),
            // Whatever was counted before this process, or may have been seen and forgotten, is not
            // new.
            (None, true) => {
                let start = Timestamp(i64::try_from(start / 1_000_000).unwrap_or(i64::MAX));
                let is_new = start >= self.begun && now.since(start) < REMEMBERED;
                if is_new {
                    Growth::Whole(worth.clone())
                } else {
                    Growth::Nothing
                }
            }
        };
        if let (true, Some(old)) = (is_delta, old) {
            let mut sum = old.worth.clone();
            sum.add(worth);
            worth = sum;
        }
        let kind = worth.kind(metric.is_monotonic);
        let help = metric
            .description
            .get(..LONGEST_HELP)
            .unwrap_or(metric.description);
        let help = if help.len() > LONGEST_HELP { "" } else { help };
        self.put(
            labels,
            Held {
                worth,
                kind,
                help: help.into(),
                start,
                time,
                seen: now,
                bytes: 0,
            },
            most,
        )?;
        Ok(growth)
    }

    fn put(&mut self, labels: Labels, mut held: Held, most: usize) -> Result<(), Refusal> {
        held.bytes = OVERHEAD + labels.heap_size() + held.help.len() + held.worth.heap_size();
        let (series, bytes) = self
            .held
            .get(&labels)
            .map_or((0, 0), |old| (old.worth.series(), old.bytes));
        let (series, bytes) = (
            self.series - series + held.worth.series(),
            self.bytes - bytes + held.bytes,
        );
        if (series > most && series > self.series) || (bytes > MOST_BYTES && bytes > self.bytes) {
            return Err(Refusal::Full);
        }
        (self.series, self.bytes) = (series, bytes);
        self.held.insert(labels, held);
        Ok(())
    }

    fn remove(&mut self, labels: &Labels) {
        if let Some(old) = self.held.swap_remove(labels) {
            self.series -= old.worth.series();
            self.bytes -= old.bytes;
        }
    }

    /// Shows what has come lately, and forgets what is long gone.
    pub fn show(&mut self, stale_after: Duration, now: Timestamp, batch: &mut Batch) {
        let is_over = |held: &Held, time: Duration| now.since(held.seen) > time;
        let gone: Vec<Labels> = self
            .held
            .iter()
            .filter(|(_, held)| is_over(held, stale_after + REMEMBERED))
            .map(|(labels, _)| labels.clone())
            .collect();
        gone.iter().for_each(|labels| self.remove(labels));
        for (labels, held) in self
            .held
            .iter()
            .filter(|(_, held)| !is_over(held, stale_after))
        {
            held.worth.show(labels, held.kind, &held.help, batch);
        }
    }
}
