//! Native histograms: what may be added to what, what a reset is, how they are written.

use super::{
    Buckets, CUSTOM_SCHEMA, Incompatible, NativeHistogram, ResetHint, histogram_nan, is_histogram,
};

fn side(buckets: &[(i32, f64)]) -> Buckets {
    buckets.iter().copied().collect()
}

fn exponential(schema: i8, positive: &[(i32, f64)]) -> NativeHistogram {
    let count = positive.iter().map(|(_, count)| count).sum();
    NativeHistogram {
        schema,
        count,
        sum: count * 1.5,
        positive: side(positive),
        ..NativeHistogram::default()
    }
}

fn custom(bounds: &[f64], positive: &[(i32, f64)]) -> NativeHistogram {
    NativeHistogram {
        bounds: bounds.into(),
        ..exponential(CUSTOM_SCHEMA, positive)
    }
}

/// SEMANTICS 85: what stands for a histogram is a bit pattern of its own.
#[test]
fn the_marker_is_neither_stale_nor_a_number() {
    let marker = histogram_nan();
    assert!(
        is_histogram(marker)
            && marker.is_nan()
            && !crate::model::is_stale(marker)
            && !is_histogram(f64::NAN)
    );
}

#[test]
fn histograms_meet_in_the_coarser_schema() {
    let mut sum = exponential(1, &[(0, 1.0), (1, 2.0), (2, 4.0)]);
    sum.add(&exponential(0, &[(1, 10.0), (2, 20.0)]))
        .expect("compatible");
    assert_eq!(sum.positive, side(&[(0, 1.0), (1, 16.0), (2, 20.0)]));
    assert_eq!((sum.schema, sum.count), (0, 37.0));
    let mut other = exponential(0, &[(1, 10.0), (2, 20.0)]);
    other
        .add(&exponential(1, &[(0, 1.0), (1, 2.0), (2, 4.0)]))
        .expect("compatible");
    assert_eq!(other, sum);
}

#[test]
fn a_difference_keeps_empty_buckets_until_it_is_compacted() {
    let mut difference = exponential(0, &[(0, 1.0), (1, 2.0)]);
    difference
        .subtract(&exponential(0, &[(1, 2.0), (3, 1.0)]))
        .expect("compatible");
    assert_eq!(difference.positive, side(&[(0, 1.0), (1, 0.0), (3, -1.0)]));
    assert_eq!(
        difference.compacted().positive,
        side(&[(0, 1.0), (3, -1.0)])
    );
}

/// The wider zero bucket swallows what lies in it, and widens where it would cut a populated
/// bucket.
#[test]
fn zero_buckets_are_reconciled() {
    let narrow = NativeHistogram {
        zero_threshold: 0.25,
        zero_count: 1.0,
        negative: side(&[(0, 3.0)]),
        ..exponential(0, &[(-1, 5.0), (2, 7.0)])
    };
    let wide = NativeHistogram {
        zero_threshold: 0.6,
        zero_count: 10.0,
        ..exponential(0, &[(2, 1.0)])
    };
    for (mut sum, other) in [(narrow.clone(), wide.clone()), (wide, narrow)] {
        sum.add(&other).expect("compatible");
        assert_eq!(
            (sum.zero_threshold, sum.zero_count),
            (1.0, 19.0),
            "the bucket from -1 to -0.5 was cut"
        );
        assert_eq!(
            (sum.positive.clone(), sum.negative.clone()),
            (side(&[(2, 8.0)]), side(&[]))
        );
    }
}

#[test]
fn custom_bounds_meet_only_their_like() {
    let mut sum = custom(&[1.0, 2.0], &[(0, 1.0), (2, 2.0)]);
    sum.add(&custom(&[1.0, 2.0], &[(1, 5.0)]))
        .expect("compatible");
    assert_eq!(sum.positive, side(&[(0, 1.0), (1, 5.0), (2, 2.0)]));
    assert_eq!(
        sum.add(&custom(&[1.0, 3.0], &[])),
        Err(Incompatible::Bounds)
    );
    assert_eq!(sum.add(&exponential(0, &[])), Err(Incompatible::Schema));
}

#[test]
fn scaling_changes_every_count_and_division_by_zero_leaves_no_bucket() {
    let mut histogram = exponential(0, &[(0, 2.0)]);
    histogram.multiply(3.0);
    assert_eq!(
        (
            histogram.count,
            histogram.sum,
            histogram.positive.counts()[0]
        ),
        (6.0, 9.0, 6.0)
    );
    histogram.divide(0.0);
    assert!(histogram.count.is_infinite() && histogram.positive.is_empty());
}

#[test]
fn resets_are_seen() {
    let before = NativeHistogram {
        zero_threshold: 0.1,
        zero_count: 1.0,
        ..exponential(1, &[(1, 2.0), (2, 2.0), (5, 0.0)])
    };
    let after = |change: fn(&mut NativeHistogram)| {
        let mut after = before.clone();
        after.count += 10.0;
        change(&mut after);
        after.is_reset_after(&before)
    };
    assert!(!after(|_| {}));
    assert!(after(|h| h.count = 1.0), "fewer observations");
    assert!(after(|h| h.schema = 2), "a finer schema");
    assert!(!after(|h| *h = h.clone().reduced_to(0)), "a coarser schema");
    assert!(
        after(|h| h.positive = side(&[(1, 2.0)])),
        "a populated bucket went"
    );
    assert!(
        after(|h| h.positive = side(&[(1, 1.0), (2, 9.0)])),
        "a bucket sank"
    );
    assert!(after(|h| h.zero_threshold = 0.01), "a narrower zero bucket");
    assert!(
        after(|h| h.zero_threshold = 1.2),
        "a zero bucket that ends inside a populated bucket"
    );
    assert!(!after(
        |h| (h.zero_threshold, h.zero_count, h.positive) = (1.0, 1.0, side(&[(1, 2.0), (2, 2.0)]))
    ));
    assert!(
        after(|h| h.hint = ResetHint::Reset)
            && !after(|h| (h.hint, h.count) = (ResetHint::NotReset, 0.0))
    );
    assert!(
        custom(&[1.0], &[(0, 9.0)]).is_reset_after(&custom(&[2.0], &[])),
        "other bounds"
    );
}

#[test]
fn equality_is_bit_by_bit_and_looks_at_no_hint() {
    let one = exponential(0, &[(0, f64::NAN)]);
    assert_eq!(
        one,
        NativeHistogram {
            hint: ResetHint::Gauge,
            ..one.clone()
        }
    );
    assert_ne!(exponential(0, &[(0, 0.0)]), exponential(0, &[(0, -0.0)]));
    assert_ne!(
        exponential(0, &[(0, 1.0), (1, 0.0)]).positive,
        exponential(0, &[(0, 1.0)]).positive,
        "an empty bucket is one too"
    );
}

#[test]
fn buckets_are_listed_with_bounds() {
    let histogram = NativeHistogram {
        zero_threshold: 0.6,
        zero_count: 1.0,
        negative: side(&[(0, 3.0), (1, 2.0)]),
        ..exponential(0, &[(0, 5.0)])
    };
    let bounds: Vec<(f64, f64)> = histogram
        .buckets()
        .iter()
        .map(|bucket| (bucket.lower, bucket.upper))
        .collect();
    assert_eq!(
        bounds,
        [(-2.0, -1.0), (-1.0, -0.6), (-0.6, 0.6), (0.6, 1.0)]
    );
    assert_eq!(
        histogram.to_string(),
        "{count:5, sum:7.5, [-2,-1):2, [-1,-0.5):3, [-0.6,0.6]:1, (0.5,1]:5}"
    );
    assert_eq!(
        custom(&[5.0], &[(0, 1.0), (1, 2.0)]).to_string(),
        "{count:3, sum:4.5, [-Inf,5]:1, (5,+Inf]:2}"
    );
}

#[test]
fn the_notation_is_that_of_rule_tests() {
    let histogram = NativeHistogram {
        hint: ResetHint::Gauge,
        negative: side(&[(2, 3.0)]),
        ..exponential(1, &[(-1, 0.0), (0, 5.0), (2, 1e6)])
    };
    assert_eq!(
        histogram.notation(),
        "{{schema:1 count:1.000005e+06 sum:1.5000075e+06 counter_reset_hint:gauge buckets:[5 0 1e+06] n_offset:2 n_buckets:[3]}}"
    );
    assert_eq!(
        custom(&[5.0, 10.0], &[(1, 1.0)]).notation(),
        "{{schema:-53 count:1 sum:1.5 custom_values:[5 10] offset:1 buckets:[1]}}"
    );
}

#[test]
fn what_does_not_fit_is_refused() {
    let reason = |histogram: NativeHistogram| histogram.validate().expect_err("broken").to_string();
    assert!(reason(exponential(9, &[])).contains("schema 9"));
    assert!(
        reason(exponential(0, &[(0, -1.0)]))
            .contains("bucket number 1 has observation count of -1")
    );
    assert!(
        reason(NativeHistogram {
            zero_threshold: f64::NAN,
            ..exponential(0, &[])
        })
        .contains("zero threshold")
    );
    assert!(reason(custom(&[2.0, 1.0], &[])).contains("strictly increasing"));
    assert!(reason(custom(&[1.0, f64::INFINITY], &[])).contains("finite"));
    assert!(reason(custom(&[1.0], &[(2, 1.0)])).contains("too few"));
    assert!(reason(custom(&[1.0], &[(-1, 1.0)])).contains("negative"));
    assert!(
        reason(NativeHistogram {
            zero_count: 1.0,
            ..custom(&[1.0], &[])
        })
        .contains("zero count")
    );
    assert_eq!(custom(&[1.0], &[(1, 1.0)]).validate(), Ok(()));
    assert_eq!(exponential(8, &[(i32::MAX - 1, 1.0)]).validate(), Ok(()));
}
