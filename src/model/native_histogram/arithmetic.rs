//! Sums, differences, scaling and resets of native histograms.
//!
//! Two histograms of different resolution meet in the coarser one; two zero buckets of different
//! width in a zero bucket that holds both and ends at no populated bucket's inside. Exponential and
//! custom bounds do not meet, nor do different custom bounds.

use super::bounds::exponential;
use super::{Buckets, NativeHistogram, ResetHint};

/// Why two histograms do not meet.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Incompatible {
    /// One has exponential buckets, the other custom bounds.
    #[error(
        "cannot apply this operation on histograms with a mix of exponential and custom bucket schemas"
    )]
    Schema,
    /// Both have custom bounds, but others.
    #[error(
        "cannot apply this operation on custom buckets histograms with different custom bounds"
    )]
    Bounds,
}

impl NativeHistogram {
    /// Adds the observations of another histogram. Buckets that hold nothing stay, see
    /// [`NativeHistogram::compacted`].
    pub fn add(&mut self, other: &NativeHistogram) -> Result<(), Incompatible> {
        self.check(other)?;
        self.hint = match (self.hint, other.hint) {
            (a, b) if a == b => a,
            (ResetHint::Gauge, _) | (_, ResetHint::Gauge) => ResetHint::Gauge,
            _ => ResetHint::Unknown,
        };
        self.combine(other, |count| count);
        Ok(())
    }

    /// Takes the observations of another histogram away.
    pub fn subtract(&mut self, other: &NativeHistogram) -> Result<(), Incompatible> {
        self.check(other)?;
        self.combine(other, |count| -count);
        Ok(())
    }

    fn check(&self, other: &NativeHistogram) -> Result<(), Incompatible> {
        match (self.is_custom(), other.is_custom()) {
            (true, true) if !self.same_bounds(other) => Err(Incompatible::Bounds),
            (a, b) if a != b => Err(Incompatible::Schema),
            _ => Ok(()),
        }
    }

    fn combine(&mut self, other: &NativeHistogram, signed: impl Fn(f64) -> f64 + Copy) {
        if !self.is_custom() {
            self.zero_count += signed(self.reconcile_zero(other));
        }
        self.count += signed(other.count);
        self.sum += signed(other.sum);
        if other.schema < self.schema {
            *self = std::mem::take(self).reduced_to(other.schema);
        }
        let threshold = if self.is_custom() {
            f64::NEG_INFINITY
        } else {
            self.zero_threshold
        };
        let schema = self.schema;
        for (own, others) in [
            (&mut self.positive, &other.positive),
            (&mut self.negative, &other.negative),
        ] {
            let reduced = (other.schema > schema).then(|| others.reduced(other.schema, schema));
            let others = beyond(reduced.as_ref().unwrap_or(others), schema, threshold);
            *own = own.plus(others.map(|(index, count)| (index, signed(count))));
        }
    }

    /// The same histogram with the buckets of a coarser schema.
    #[must_use]
    pub fn reduced_to(mut self, schema: i8) -> Self {
        if schema < self.schema && !self.is_custom() && schema != super::CUSTOM_SCHEMA {
            self.positive = self.positive.reduced(self.schema, schema);
            self.negative = self.negative.reduced(self.schema, schema);
            self.schema = schema;
        }
        self
    }

    /// Multiplies every count and the sum.
    pub fn multiply(&mut self, factor: f64) {
        self.scale(|value| value * factor);
    }

    /// Divides every count and the sum; division by zero leaves no bucket.
    pub fn divide(&mut self, divisor: f64) {
        self.scale(|value| value / divisor);
        if divisor == 0.0 {
            self.positive = Buckets::default();
            self.negative = Buckets::default();
        }
    }

    fn scale(&mut self, change: impl Fn(f64) -> f64) {
        if !self.is_custom() {
            self.zero_count = change(self.zero_count);
        }
        (self.count, self.sum) = (change(self.count), change(self.sum));
        self.positive.map(&change);
        self.negative.map(&change);
    }

    /// Widens the own zero bucket to one that can hold both; returns what the other histogram would
    /// have in it.
    fn reconcile_zero(&mut self, other: &NativeHistogram) -> f64 {
        let (mut count, mut threshold) = (other.zero_count, other.zero_threshold);
        while self.zero_threshold != threshold
            && !self.zero_threshold.is_nan()
            && !threshold.is_nan()
        {
            if self.zero_threshold > threshold {
                (count, threshold) = other.zero_count_within(self.zero_threshold);
            }
            if threshold > self.zero_threshold {
                (self.zero_count, self.zero_threshold) = self.zero_count_within(threshold);
                self.trim_zero();
            }
        }
        count
    }

    /// What the zero bucket would hold if it were wider; wider still where it would end inside a
    /// populated bucket.
    fn zero_count_within(&self, mut threshold: f64) -> (f64, f64) {
        if threshold == self.zero_threshold {
            return (self.zero_count, threshold);
        }
        'widened: loop {
            let mut count = self.zero_count;
            for bucket in self.positive_buckets() {
                if bucket.lower >= threshold {
                    break;
                }
                count += bucket.count;
                if bucket.upper > threshold {
                    if bucket.count != 0.0 {
                        threshold = bucket.upper;
                    }
                    break;
                }
            }
            for bucket in self.negative_buckets() {
                if -bucket.upper >= threshold {
                    break;
                }
                count += bucket.count;
                if -bucket.lower > threshold {
                    if bucket.count != 0.0 {
                        // What was added of the other side does not hold any more.
                        threshold = -bucket.lower;
                        continue 'widened;
                    }
                    break;
                }
            }
            return (count, threshold);
        }
    }

    /// Removes the buckets that the zero bucket has swallowed, and those that hold nothing.
    fn trim_zero(&mut self) {
        let (schema, threshold) = (self.schema, self.zero_threshold);
        let outside = |side: &Buckets| {
            let begins = |index: i32| exponential(index.wrapping_sub(1), schema);
            side.iter()
                .skip_while(|(index, _)| begins(*index) < threshold)
                .filter(|(_, count)| *count != 0.0)
                .collect()
        };
        (self.positive, self.negative) = (outside(&self.positive), outside(&self.negative));
    }

    /// Whether a counter was reset between `previous` and this histogram: the hint says so, or a
    /// count sank, or the bounds changed in a way that only a reset explains.
    pub fn is_reset_after(&self, previous: &NativeHistogram) -> bool {
        match self.hint {
            ResetHint::Reset => true,
            ResetHint::NotReset => false,
            ResetHint::Unknown | ResetHint::Gauge => self.sank_below(previous),
        }
    }

    /// The hint of a histogram that comes after `previous` in a series, which its reader then need
    /// not find out again: a gauge stays one, and a counter that went on in the same layout was not
    /// reset. A reset is left to be found, as in Prometheus, whose readers may not see `previous`.
    pub fn hint_after(&self, previous: Option<&NativeHistogram>) -> ResetHint {
        let goes_on = |previous: &NativeHistogram| {
            previous.hint != ResetHint::Gauge
                && self.hint != ResetHint::Reset
                && self.schema == previous.schema
                && self.zero_threshold == previous.zero_threshold
                && !self.sank_below(previous)
        };
        match previous {
            _ if self.hint == ResetHint::Gauge => ResetHint::Gauge,
            Some(previous) if goes_on(previous) => ResetHint::NotReset,
            _ => ResetHint::Unknown,
        }
    }

    /// Whether a count sank, or the bounds changed in a way that only a reset explains.
    fn sank_below(&self, previous: &NativeHistogram) -> bool {
        if self.count < previous.count
            || self.check(previous).is_err()
            || self.schema > previous.schema
            || self.zero_threshold < previous.zero_threshold
        {
            return true;
        }
        let (zero_count, threshold) = previous.zero_count_within(self.zero_threshold);
        if threshold != self.zero_threshold || self.zero_count < zero_count {
            return true;
        }
        let start = if self.is_custom() {
            f64::NEG_INFINITY
        } else {
            self.zero_threshold
        };
        [
            (&self.positive, &previous.positive),
            (&self.negative, &previous.negative),
        ]
        .into_iter()
        .any(|(now, before)| {
            let reduced = (previous.schema > self.schema)
                .then(|| before.reduced(previous.schema, self.schema));
            let mut now = beyond(now, self.schema, start).peekable();
            let mut before = beyond(reduced.as_ref().unwrap_or(before), self.schema, start);
            before.any(|(index, count)| {
                while now.next_if(|(at, _)| *at < index).is_some() {}
                match now.peek() {
                    Some((at, now)) if *at == index => *now < count,
                    _ => count != 0.0,
                }
            })
        })
    }
}

/// The buckets after those that end at or before `threshold`.
fn beyond(side: &Buckets, schema: i8, threshold: f64) -> impl Iterator<Item = (i32, f64)> + '_ {
    side.iter()
        .skip_while(move |(index, _)| threshold > 0.0 && exponential(*index, schema) <= threshold)
}
