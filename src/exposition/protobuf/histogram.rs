//! The message `Histogram`: cumulative buckets, sparse ones, or both.

use super::Problem;
use crate::exposition::wire::{Fields, MOST, TOO_MANY, Value};
use crate::model::NativeHistogram;
use crate::model::native_histogram::{Buckets, ResetHint, Span};

/// A histogram as the wire has it.
#[derive(Debug, Default)]
pub(super) struct Message {
    count: u64,
    count_float: f64,
    pub(super) sum: f64,
    /// Whether it has classic buckets.
    pub(super) has_buckets: bool,
    schema: i32,
    zero_threshold: f64,
    zero_count: u64,
    zero_count_float: f64,
    positive: Side,
    negative: Side,
}

/// The sparse buckets on one side of zero.
#[derive(Debug, Default)]
pub(super) struct Side {
    spans: Vec<Span>,
    /// Of an integer histogram: each count as its distance from the one before.
    deltas: Vec<i64>,
    /// Of a float histogram.
    counts: Vec<f64>,
}

impl Side {
    fn floats(self) -> Result<Buckets, Problem> {
        Ok(Buckets::new(&self.spans, self.counts).map_err(|error| error.to_string())?)
    }

    /// The buckets, and what they hold together.
    fn integers(self) -> Result<(Buckets, u128), Problem> {
        let (mut count, mut total) = (0_i64, 0_u128);
        let mut counts = Vec::with_capacity(self.deltas.len());
        for delta in self.deltas {
            count = count
                .checked_add(delta)
                .filter(|count| *count >= 0)
                .ok_or("a native histogram has a bucket of less than no observations")?;
            total += count.unsigned_abs() as u128;
            counts.push(count as f64);
        }
        let buckets = Buckets::new(&self.spans, counts).map_err(|error| error.to_string())?;
        Ok((buckets, total))
    }

    fn longest(&self) -> usize {
        self.spans
            .len()
            .max(self.deltas.len())
            .max(self.counts.len())
    }
}

impl Message {
    /// Reads a message into this one, as a repeated field of the same number merges.
    pub(super) fn read(&mut self, mut fields: Fields<'_>) -> Result<(), Problem> {
        while let Some((number, value)) = fields.next()? {
            match number {
                1 => self.count = value.uint()?,
                2 => self.sum = value.double()?,
                3 => self.has_buckets = true,
                4 => self.count_float = value.double()?,
                5 => self.schema = value.sint32()?,
                6 => self.zero_threshold = value.double()?,
                7 => self.zero_count = value.uint()?,
                8 => self.zero_count_float = value.double()?,
                9 => self.negative.spans.push(span(value)?),
                10 => value.sints(&mut self.negative.deltas)?,
                11 => value.doubles(&mut self.negative.counts)?,
                12 => self.positive.spans.push(span(value)?),
                13 => value.sints(&mut self.positive.deltas)?,
                14 => value.doubles(&mut self.positive.counts)?,
                // The time of its creation, and exemplars: not kept, but they must be whole.
                15 | 16 => value.message()?.check()?,
                _ => {}
            }
            if self.positive.longest() > MOST || self.negative.longest() > MOST {
                return Err(TOO_MANY.into());
            }
        }
        Ok(())
    }

    /// How a histogram tells that it is a native one: one without observations has a span of length
    /// zero, or a threshold.
    pub(super) fn is_native(&self) -> bool {
        let spans = self.positive.spans.len() + self.negative.spans.len();
        spans > 0 || self.zero_threshold > 0.0 || self.zero_count > 0 || self.zero_count_float > 0.0
    }

    /// Number of observations.
    pub(super) fn observations(&self) -> f64 {
        if self.count_float == 0.0 {
            self.count as f64
        } else {
            self.count_float
        }
    }

    /// The native histogram. Its buckets must hold what its count says, NaN apart; of floats, which
    /// round, that is not asked.
    pub(super) fn native(self, gauge: bool) -> Result<NativeHistogram, Problem> {
        let float = self.count_float > 0.0 || self.zero_count_float > 0.0;
        let schema =
            i8::try_from(self.schema).map_err(|_| "a native histogram has an unknown schema")?;
        let (positive, negative, zero_count) = if float {
            (
                self.positive.floats()?,
                self.negative.floats()?,
                self.zero_count_float,
            )
        } else {
            let (positive, above) = self.positive.integers()?;
            let (negative, below) = self.negative.integers()?;
            let inside = u128::from(self.zero_count) + above + below;
            let count = u128::from(self.count);
            if inside > count || (inside < count && !self.sum.is_nan()) {
                return Err("a native histogram's buckets do not hold as many observations as its count says".into());
            }
            (positive, negative, self.zero_count as f64)
        };
        let histogram = NativeHistogram {
            hint: if gauge {
                ResetHint::Gauge
            } else {
                ResetHint::Unknown
            },
            schema,
            zero_threshold: self.zero_threshold,
            zero_count,
            count: if float {
                self.count_float
            } else {
                self.count as f64
            },
            // A target must not be able to write a stale marker.
            sum: if self.sum.is_nan() {
                f64::NAN
            } else {
                self.sum
            },
            positive,
            negative,
            ..NativeHistogram::default()
        };
        histogram.validate().map_err(|error| error.to_string())?;
        Ok(histogram.compacted())
    }
}

fn span(value: Value<'_>) -> Result<Span, Problem> {
    let mut span = Span::default();
    let mut fields = value.message()?;
    while let Some((number, value)) = fields.next()? {
        match number {
            1 => span.offset = value.sint32()?,
            2 => span.length = value.uint()? as u32,
            _ => {}
        }
    }
    Ok(span)
}

/// Upper bound and cumulative count of a classic bucket.
pub(super) fn bucket(mut fields: Fields<'_>) -> Result<(f64, f64), Problem> {
    let (mut bound, mut count, mut count_float) = (0.0, 0, 0.0);
    while let Some((number, value)) = fields.next()? {
        match number {
            1 => count = value.uint()?,
            2 => bound = value.double()?,
            3 => value.message()?.check()?,
            4 => count_float = value.double()?,
            _ => {}
        }
    }
    Ok((
        bound,
        if count_float == 0.0 {
            count as f64
        } else {
            count_float
        },
    ))
}
