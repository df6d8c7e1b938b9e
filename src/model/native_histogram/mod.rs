//! Native histograms: one sample that holds the distribution of observations over many buckets
//! (<https://prometheus.io/docs/specs/native_histograms/>).
//!
//! Counts are floats, as PromQL needs them; whole ones come back whole up to 2^53. What may be
//! added, and what a reset is, follows Prometheus 3.5.

mod arithmetic;
mod bounds;
mod buckets;
mod text;

use std::sync::Arc;

pub use arithmetic::Incompatible;
pub use bounds::{CUSTOM_SCHEMA, EXPONENTIAL_SCHEMAS};
pub use buckets::{Buckets, Span};

/// The bits of a marker among floats: a NaN that says "here stands a native histogram".
pub const HISTOGRAM_NAN_BITS: u64 = 0x7ff0_0000_0000_0003;

/// The marker that stands for a native histogram among floats. Compare with [`is_histogram`].
pub fn histogram_nan() -> f64 {
    f64::from_bits(HISTOGRAM_NAN_BITS)
}

/// Whether `value` stands for a native histogram, bit for bit.
pub fn is_histogram(value: f64) -> bool {
    value.to_bits() == HISTOGRAM_NAN_BITS
}

/// What is known of resets between a histogram and the one before it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum ResetHint {
    /// Nothing: compare the two.
    #[default]
    Unknown,
    /// The counters were reset.
    Reset,
    /// They were not.
    NotReset,
    /// No counters at all: counts may sink.
    Gauge,
}

/// A native histogram.
#[derive(Clone, Debug, Default)]
pub struct NativeHistogram {
    /// What is known of resets.
    pub hint: ResetHint,
    /// The resolution: one of [`EXPONENTIAL_SCHEMAS`], or [`CUSTOM_SCHEMA`].
    pub schema: i8,
    /// Observations of at most this distance from zero are in the zero bucket.
    pub zero_threshold: f64,
    /// Observations in the zero bucket.
    pub zero_count: f64,
    /// All observations, NaN among them.
    pub count: f64,
    /// The sum of all observations.
    pub sum: f64,
    /// Buckets above zero; those of custom bounds, whatever their sign.
    pub positive: Buckets,
    /// Buckets below zero, the nearest to zero first.
    pub negative: Buckets,
    /// Upper bounds, ascending, when the schema is [`CUSTOM_SCHEMA`].
    pub bounds: Arc<[f64]>,
}

/// Why something is no histogram.
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
pub enum InvalidHistogram {
    /// The schema is none.
    #[error(
        "histogram has an unknown schema {0}: it is -4 to 8 for exponential buckets, -53 for custom bounds"
    )]
    Schema(i64),
    /// A span reaches back.
    #[error(
        "span number {number} with offset {offset}: histogram has a span whose offset is negative"
    )]
    NegativeOffset {
        /// Which span, from 1.
        number: usize,
        /// Its offset.
        offset: i32,
    },
    /// Indexes beyond 32 bits.
    #[error("histogram spans reach beyond the range of bucket indexes")]
    IndexRange,
    /// Spans and counts do not fit.
    #[error(
        "spans need {needed} buckets, have {found} buckets: histogram spans specify different number of buckets than provided"
    )]
    SpanLength {
        /// Buckets in all spans.
        needed: usize,
        /// Counts.
        found: usize,
    },
    /// Fewer than no observations.
    #[error(
        "{side} side: bucket number {number} has observation count of {count}: histogram has a bucket whose observation count is negative"
    )]
    NegativeCount {
        /// On which side of zero.
        side: &'static str,
        /// Which bucket, from 1.
        number: usize,
        /// Its count.
        count: f64,
    },
    /// The zero bucket's width is no width.
    #[error("histogram has a zero threshold of {0}, which is negative or no number")]
    ZeroThreshold(f64),
    /// Custom bounds where there are exponential buckets.
    #[error("histogram with exponential schema must not have custom bounds")]
    Bounds,
    /// What does not go with custom bounds.
    #[error("custom buckets: {0}")]
    Custom(String),
}

/// A bucket with its bounds.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Bucket {
    /// The lower bound.
    pub lower: f64,
    /// The upper bound.
    pub upper: f64,
    /// Whether an observation of the lower bound is in the bucket.
    pub lower_inclusive: bool,
    /// Whether an observation of the upper bound is in the bucket.
    pub upper_inclusive: bool,
    /// Observations.
    pub count: f64,
}

impl Bucket {
    /// A bucket without width or observations.
    pub const EMPTY: Bucket = Bucket {
        lower: 0.0,
        upper: 0.0,
        lower_inclusive: false,
        upper_inclusive: false,
        count: 0.0,
    };
}

/// Equal in everything that was observed, bit by bit. The hint tells of another histogram, and does
/// not count.
impl PartialEq for NativeHistogram {
    fn eq(&self, other: &Self) -> bool {
        let same = |a: f64, b: f64| a.to_bits() == b.to_bits();
        self.schema == other.schema
            && same(self.count, other.count)
            && same(self.sum, other.sum)
            && self.zero_threshold == other.zero_threshold
            && same(self.zero_count, other.zero_count)
            && self.same_bounds(other)
            && self.positive == other.positive
            && self.negative == other.negative
    }
}

impl NativeHistogram {
    /// Whether its bounds are a list of their own.
    pub fn is_custom(&self) -> bool {
        self.schema == CUSTOM_SCHEMA
    }

    /// Whether the lists of bounds are equal.
    fn same_bounds(&self, other: &Self) -> bool {
        let same = |(a, b): (&f64, &f64)| a.to_bits() == b.to_bits();
        self.bounds.len() == other.bounds.len() && self.bounds.iter().zip(&*other.bounds).all(same)
    }

    /// Errs where the parts do not fit each other. Whether `count` is the sum of all buckets is not
    /// looked at: it is not, where NaN was observed.
    pub fn validate(&self) -> Result<(), InvalidHistogram> {
        if !self.is_custom() {
            if !EXPONENTIAL_SCHEMAS.contains(&self.schema) {
                return Err(InvalidHistogram::Schema(self.schema.into()));
            }
            if self.zero_threshold.is_nan() || self.zero_threshold < 0.0 {
                return Err(InvalidHistogram::ZeroThreshold(self.zero_threshold));
            }
            if !self.bounds.is_empty() {
                return Err(InvalidHistogram::Bounds);
            }
        } else if let Some(reason) = self.custom_mistake() {
            return Err(InvalidHistogram::Custom(reason));
        }
        for (side, buckets) in [("negative", &self.negative), ("positive", &self.positive)] {
            if let Some((number, count)) = buckets
                .counts()
                .iter()
                .enumerate()
                .find(|(_, count)| **count < 0.0)
            {
                return Err(InvalidHistogram::NegativeCount {
                    side,
                    number: number + 1,
                    count: *count,
                });
            }
        }
        Ok(())
    }

    fn custom_mistake(&self) -> Option<String> {
        let descending = self.bounds.windows(2).find(|pair| pair[0] >= pair[1]);
        let first = self.positive.spans().first().map_or(0, |span| span.offset);
        let needed = self
            .positive
            .iter()
            .last()
            .map_or(0, |(index, _)| i64::from(index) + 1);
        if self.bounds.iter().any(|bound| bound.is_nan()) {
            Some("histogram custom bounds must not be NaN".into())
        } else if let Some([previous, current]) = descending {
            let reason = "histogram custom bounds must be in strictly increasing order";
            Some(format!(
                "previous bound is {previous:.6} and current is {current:.6}: {reason}"
            ))
        } else if self.bounds.last() == Some(&f64::INFINITY) {
            Some("last +Inf bound must not be explicitly defined: histogram custom bounds must be finite".into())
        } else if first < 0 {
            Some(
                InvalidHistogram::NegativeOffset {
                    number: 1,
                    offset: first,
                }
                .to_string(),
            )
        } else if needed > self.bounds.len() as i64 + 1 {
            let known = self.bounds.len();
            let insufficient = format!(
                "only {known} custom bounds defined which is insufficient to cover total span length of {needed}"
            );
            Some(format!(
                "{insufficient}: histogram custom bounds are too few"
            ))
        } else if self.zero_count != 0.0 {
            Some("must have zero count of 0".into())
        } else if self.zero_threshold != 0.0 {
            Some("must have zero threshold of 0".into())
        } else if !self.negative.is_empty() {
            Some("must not have negative spans".into())
        } else {
            None
        }
    }

    /// Leaves out the buckets that hold nothing.
    #[must_use]
    pub fn compacted(mut self) -> Self {
        self.positive.compact();
        self.negative.compact();
        self
    }

    /// The buckets above zero, ascending, as they are.
    pub(super) fn positive_buckets(&self) -> impl Iterator<Item = Bucket> + '_ {
        self.positive.iter().map(|(index, count)| {
            let lower = bounds::bound(index.wrapping_sub(1), self.schema, &self.bounds);
            let upper = bounds::bound(index, self.schema, &self.bounds);
            if self.is_custom() {
                Bucket {
                    lower,
                    upper,
                    lower_inclusive: index == 0,
                    upper_inclusive: true,
                    count,
                }
            } else {
                Bucket {
                    lower,
                    upper,
                    lower_inclusive: lower < 0.0,
                    upper_inclusive: upper > 0.0,
                    count,
                }
            }
        })
    }

    /// The buckets below zero, the nearest to zero first, as they are.
    pub(super) fn negative_buckets(&self) -> impl Iterator<Item = Bucket> + '_ {
        self.negative.iter().map(|(index, count)| {
            let lower = -bounds::bound(index, self.schema, &[]);
            let upper = -bounds::bound(index.wrapping_sub(1), self.schema, &[]);
            Bucket {
                lower,
                upper,
                lower_inclusive: lower < 0.0,
                upper_inclusive: upper > 0.0,
                count,
            }
        })
    }

    /// The zero bucket.
    pub(super) fn zero_bucket(&self) -> Bucket {
        let (lower, upper) = (-self.zero_threshold, self.zero_threshold);
        Bucket {
            lower,
            upper,
            lower_inclusive: true,
            upper_inclusive: true,
            count: self.zero_count,
        }
    }

    /// All buckets, ascending, the zero bucket only if it is populated; what reaches into the zero
    /// bucket begins or ends at its bound.
    pub fn buckets(&self) -> Vec<Bucket> {
        let mut all: Vec<Bucket> = self.negative_buckets().collect();
        all.reverse();
        if self.zero_count > 0.0 {
            all.push(self.zero_bucket());
        }
        all.extend(self.positive_buckets());
        for bucket in &mut all {
            if bucket.upper < 0.0 && bucket.upper > -self.zero_threshold {
                bucket.upper = -self.zero_threshold;
            } else if bucket.lower > 0.0 && bucket.lower < self.zero_threshold {
                bucket.lower = self.zero_threshold;
            }
        }
        all
    }

    /// Bytes on the heap; bounds that others share count too.
    pub fn heap_size(&self) -> usize {
        self.positive.heap_size() + self.negative.heap_size() + self.bounds.len() * size_of::<f64>()
    }
}

#[cfg(test)]
mod tests;
