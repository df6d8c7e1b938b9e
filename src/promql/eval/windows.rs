//! The windows of a range expression: which samples of a series each step sees.

use std::ops::Deref;

use super::evaluator::{Query, Steps};
use crate::promql::value::EvalError;
use crate::store::{Seen, TimedHistogram};

/// Samples inside one window, and the window.
#[derive(Clone, Copy, Debug)]
pub(in crate::promql) struct Range<'a> {
    /// Milliseconds of the floats, ascending.
    pub(in crate::promql) times: &'a [i64],
    /// The floats; none where there are histograms alone.
    pub(in crate::promql) values: &'a [f64],
    /// The native histograms, ascending in time. A function of floats is asked only where there is
    /// none, or where it ignores them.
    pub(in crate::promql) histograms: &'a [TimedHistogram],
    /// The window excludes this instant …
    pub(in crate::promql) start: i64,
    /// … and includes this one.
    pub(in crate::promql) end: i64,
    /// Milliseconds of the step that is evaluated.
    pub(in crate::promql) at: i64,
    /// Index of that step.
    pub(in crate::promql) step: usize,
}

/// Which window a range expression means at each step.
#[derive(Clone, Copy, Debug)]
pub(super) struct Windows {
    pub(super) pinned: Option<i64>,
    pub(super) offset: i64,
    pub(super) length: i64,
}

impl Windows {
    /// `(start, end]` at an instant.
    pub(super) fn at(&self, instant: i64) -> (i64, i64) {
        let end = self.pinned.unwrap_or(instant).saturating_sub(self.offset);
        (end.saturating_sub(self.length), end)
    }

    /// The union over all steps.
    pub(super) fn span(&self, steps: Steps) -> (i64, i64) {
        (self.at(steps.start).0, self.at(steps.last()).1)
    }

    /// What the windows of all steps see.
    pub(super) fn seen(&self, steps: Steps) -> Seen {
        let (from, to) = self.span(steps);
        let (step, count) = match self.pinned {
            Some(_) => (1, 1),
            None => (steps.step, steps.count),
        };
        Seen::windows((from, to), self.length, step, count)
    }

    /// Where the window of each step begins in a list of instants, and where it ends.
    pub(super) fn bounds(&self, steps: Steps, times: &[i64]) -> Bounds {
        let (mut low, mut high) = (0, 0);
        let mut next = |at| {
            let (start, end) = self.at(at);
            high = after(times, high, end);
            low = after(times, low, start);
            (low.min(high) as u32, high as u32)
        };
        if steps.count == 1 {
            return Bounds::One([next(steps.start)]);
        }
        Bounds::Many(steps.iter().map(next).collect())
    }
}

/// The bounds of windows. Those of a single step, as rules have them, need no allocation.
pub(super) enum Bounds {
    One([(u32, u32); 1]),
    Many(Vec<(u32, u32)>),
}

impl Deref for Bounds {
    type Target = [(u32, u32)];

    fn deref(&self) -> &Self::Target {
        match self {
            Bounds::One(bounds) => bounds,
            Bounds::Many(bounds) => bounds,
        }
    }
}

/// The position of the first instant after `limit`, looked for from `from` on in growing strides.
pub(super) fn after(times: &[i64], from: usize, limit: i64) -> usize {
    let (mut low, mut stride) = (from, 1);
    loop {
        let next = low + stride;
        match times.get(next - 1) {
            Some(time) if *time <= limit => {
                low = next;
                stride *= 2;
            }
            _ => {
                let end = (next - 1).min(times.len());
                return low + times[low..end].partition_point(|time| *time <= limit);
            }
        }
    }
}

/// A series of floats, with the window of every step.
pub(in crate::promql) struct Windowed<'a> {
    /// Milliseconds, ascending.
    pub(in crate::promql) times: &'a [i64],
    /// As many values; no stale marker among them.
    pub(in crate::promql) values: &'a [f64],
    /// The first sample of each window and the one after its last; both never go back from one step
    /// to the next.
    pub(in crate::promql) bounds: &'a [(u32, u32)],
    pub(super) windows: Windows,
    pub(super) steps: Steps,
    pub(super) query: &'a Query<'a>,
}

impl Windowed<'_> {
    /// The windows that have samples: the step, where it begins and where it ends.
    pub(in crate::promql) fn filled(&self) -> impl Iterator<Item = (usize, usize, usize)> + '_ {
        self.bounds
            .iter()
            .enumerate()
            .filter(|(_, (low, high))| low < high)
            .map(|(step, (low, high))| (step, *low as usize, *high as usize))
    }

    /// Most samples of one window.
    pub(in crate::promql) fn longest(&self) -> usize {
        let lengths = self.bounds.iter().map(|(low, high)| high - low);
        lengths.max().unwrap_or(0) as usize
    }

    /// Milliseconds of a step.
    pub(in crate::promql) fn at(&self, step: usize) -> i64 {
        self.steps.at(step)
    }

    /// The window of a step: without its start, with its end.
    pub(in crate::promql) fn window(&self, step: usize) -> (i64, i64) {
        self.windows.at(self.at(step))
    }

    /// Errs when the query was ended from outside; to be asked between pieces of long work.
    pub(in crate::promql) fn check(&self) -> Result<(), EvalError> {
        self.query.check()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn strides_find_what_a_search_finds(
            times in prop::collection::btree_set(0_i64..400, 0..60),
            limit in -5_i64..405,
            share in 0.0_f64..1.0,
        ) {
            let times: Vec<i64> = times.into_iter().collect();
            let expected = times.partition_point(|time| *time <= limit);
            let from = (expected as f64 * share) as usize;
            prop_assert_eq!(after(&times, from, limit), expected);
        }
    }
}
