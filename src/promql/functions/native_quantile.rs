//! Quantiles and fractions of native histograms.
//!
//! Inside an exponential bucket observations are taken to be spread evenly over its logarithm; in
//! the zero bucket, and between custom bounds, over the bucket itself.

use super::go_math::power::{exp2, log2};
use crate::model::NativeHistogram;
use crate::model::native_histogram::Bucket;

/// What observations of NaN do to a result: they count, but are in no bucket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Unnumbered {
    /// The result is NaN.
    Result,
    /// The quantile is greater than that of the other observations.
    Skewed,
    /// They are in no fraction.
    Excluded,
}

impl Unnumbered {
    /// The annotation, without the metric name.
    pub(super) fn text(self) -> &'static str {
        match self {
            Unnumbered::Result => {
                "PromQL info: input to histogram_quantile has NaN observations, result is NaN for metric name"
            }
            Unnumbered::Skewed => {
                "PromQL info: input to histogram_quantile has NaN observations, result is skewed higher for metric name"
            }
            Unnumbered::Excluded => {
                "PromQL info: input to histogram_fraction has NaN observations, which are excluded from all fractions for metric name"
            }
        }
    }
}

/// Where there are buckets on one side only, the zero bucket ends at zero on the other.
fn one_sided(histogram: &NativeHistogram, bucket: &mut Bucket) {
    match (histogram.negative.is_empty(), histogram.positive.is_empty()) {
        (true, false) => bucket.lower = 0.0,
        (false, true) => bucket.upper = 0.0,
        _ => {}
    }
}

/// The quantile `q`, and what is to be said of it.
pub(super) fn quantile(q: f64, histogram: &NativeHistogram) -> (f64, Option<Unnumbered>) {
    if q < 0.0 {
        return (f64::NEG_INFINITY, None);
    }
    if q > 1.0 {
        return (f64::INFINITY, None);
    }
    if histogram.count == 0.0 || q.is_nan() {
        return (f64::NAN, None);
    }
    let unnumbered = histogram.sum.is_nan();
    // From the nearer end. Observations that are no numbers count as greatest.
    let ascending = unnumbered || q < 0.5;
    let mut buckets = histogram.buckets();
    if !ascending {
        buckets.reverse();
    }
    let mut rank = if ascending { q } else { 1.0 - q } * histogram.count;
    let (mut bucket, mut count) = (Bucket::EMPTY, 0.0);
    let mut buckets = buckets.into_iter();
    for next in buckets.by_ref() {
        bucket = next;
        count += next.count;
        if next.count != 0.0 && count >= rank {
            break;
        }
    }
    if histogram.is_custom() {
        if bucket.lower == f64::NEG_INFINITY {
            if bucket.upper <= 0.0 {
                return (bucket.upper, None);
            }
            bucket.lower = 0.0;
        } else if bucket.upper == f64::INFINITY {
            return (bucket.lower, None);
        }
    } else if bucket.lower < 0.0 && bucket.upper > 0.0 {
        one_sided(histogram, &mut bucket);
    }
    count = if count > histogram.count {
        histogram.count
    } else {
        count
    };
    if count < rank {
        return if unnumbered {
            (f64::NAN, Some(Unnumbered::Result))
        } else {
            (bucket.upper, None)
        };
    }
    rank = if ascending {
        rank - (count - bucket.count)
    } else {
        count - rank
    };
    let mut annotation = None;
    if unnumbered {
        // Prometheus goes on to the last bucket here, and takes the quantile from that one.
        for next in buckets {
            bucket = next;
            count += next.count;
        }
        annotation = (count < histogram.count).then_some(Unnumbered::Skewed);
    }
    (inside(histogram, bucket, rank / bucket.count), annotation)
}

/// The value at a share of a bucket's observations.
fn inside(histogram: &NativeHistogram, bucket: Bucket, share: f64) -> f64 {
    if histogram.is_custom() || (bucket.lower <= 0.0 && bucket.upper >= 0.0) {
        return bucket.lower + (bucket.upper - bucket.lower) * share;
    }
    let (lower, upper) = (log2(bucket.lower.abs()), log2(bucket.upper.abs()));
    if bucket.lower > 0.0 {
        exp2(lower + (upper - lower) * share)
    } else {
        -exp2(upper + (lower - upper) * (1.0 - share))
    }
}

/// The share of observations between `lower` and `upper`, and what is to be said of it.
pub(super) fn fraction(
    lower: f64,
    upper: f64,
    histogram: &NativeHistogram,
) -> (f64, Option<Unnumbered>) {
    if histogram.count == 0.0 || lower.is_nan() || upper.is_nan() {
        return (f64::NAN, None);
    }
    if lower >= upper {
        return (0.0, None);
    }
    let buckets = histogram.buckets();
    let (mut rank, mut below, mut above) = (0.0, None, None);
    for bucket in &buckets {
        let mut bucket = *bucket;
        let zero = bucket.lower <= 0.0 && bucket.upper >= 0.0;
        if zero {
            one_sided(histogram, &mut bucket);
        }
        let linear = zero || histogram.is_custom();
        let at = |bound: f64| {
            if bucket.lower >= bound {
                Some(rank)
            } else if bucket.upper > bound {
                Some(rank + share(bucket, bound, linear))
            } else {
                None
            }
        };
        below = below.or_else(|| at(lower));
        above = above.or_else(|| at(upper));
        if below.is_some() && above.is_some() {
            break;
        }
        rank += bucket.count;
    }
    let (mut most, mut annotation) = (histogram.count, None);
    if histogram.sum.is_nan() {
        most = buckets.iter().map(|bucket| bucket.count).sum();
        annotation = (most < histogram.count).then_some(Unnumbered::Excluded);
    }
    let capped =
        |found: Option<f64>| found.map_or(most, |rank| if rank > most { most } else { rank });
    (
        (capped(above) - capped(below)) / histogram.count,
        annotation,
    )
}

/// How many of a bucket's observations are below a bound inside it.
fn share(bucket: Bucket, bound: f64, linear: bool) -> f64 {
    if linear {
        return bucket.count * (bound - bucket.lower) / (bucket.upper - bucket.lower);
    }
    let (lower, upper, at) = (
        log2(bucket.lower.abs()),
        log2(bucket.upper.abs()),
        log2(bound.abs()),
    );
    let share = if bound > 0.0 {
        (at - lower) / (upper - lower)
    } else {
        1.0 - (at - upper) / (lower - upper)
    };
    bucket.count * share
}
