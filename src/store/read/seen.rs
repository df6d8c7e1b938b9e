//! What a reader looks at: windows at regular steps, so that chunks between them are not decoded.

use crate::model::Timestamp;

/// Windows of one length at regular steps; a reader may be given samples outside of them, and
/// need not be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Seen {
    /// Milliseconds; the first window excludes this instant …
    pub(in crate::store) from: i64,
    /// … and the last one includes this.
    pub(in crate::store) to: i64,
    length: i64,
    step: i64,
    count: i64,
}

impl Seen {
    /// All samples in `from < timestamp <= to`.
    pub fn all(from: Timestamp, to: Timestamp) -> Self {
        Seen::windows((from.0, to.0), to.0.saturating_sub(from.0), 1, 1)
    }

    /// `count` windows of `length`, each `step` after the one before it, all in milliseconds; they
    /// span `from < timestamp <= to`.
    pub(crate) fn windows((from, to): (i64, i64), length: i64, step: i64, count: usize) -> Self {
        Seen {
            from,
            to,
            length,
            step: step.max(1),
            count: i64::try_from(count).unwrap_or(i64::MAX),
        }
    }

    /// Milliseconds that all windows see together.
    pub(crate) fn milliseconds(&self) -> i64 {
        self.length
            .min(self.step)
            .saturating_mul(self.count)
            .max(self.length)
            .min(self.to.saturating_sub(self.from))
    }

    /// Whether something is seen of all that lies within so many milliseconds of each other.
    pub(in crate::store) fn is_dense(&self, milliseconds: i64) -> bool {
        self.length >= self.step || self.step <= milliseconds
    }

    /// Whether a window may hold an instant of `first..=last`.
    pub(in crate::store) fn any(&self, first: i64, last: i64) -> bool {
        if last <= self.from || first > self.to {
            return false;
        }
        if self.length >= self.step {
            return true;
        }
        // The first window that does not end before `first`.
        let behind = first.saturating_sub(self.from).saturating_sub(self.length);
        let number = if behind <= 0 {
            0
        } else {
            behind.div_euclid(self.step) + i64::from(behind.rem_euclid(self.step) > 0)
        };
        number < self.count && self.from.saturating_add(number.saturating_mul(self.step)) < last
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_chunk_is_left_out_only_where_no_window_is(
            from in -50_i64..50, length in 1_i64..30, step in 1_i64..40, count in 1_usize..8,
            first in -100_i64..300, more in 0_i64..30,
        ) {
            let to = from + (count as i64 - 1) * step + length;
            let seen = Seen::windows((from, to), length, step, count);
            let some = (first..=first + more).any(|at| {
                (0..count as i64).any(|k| from + k * step < at && at <= from + k * step + length)
            });
            // Where windows overlap the whole span is seen.
            prop_assert!(seen.any(first, first + more) || !some);
            prop_assert!(some || length >= step || !seen.any(first, first + more));
        }
    }
}
