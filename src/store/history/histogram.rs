//! A native histogram as bytes: after another one of the same series by what has changed, else by
//! itself.
//!
//! Whole counts, which nearly all are, stand as variable-length integers: the first of a side, then
//! each as its distance from the one before; after a histogram with the same buckets, as its
//! distance from there. What is read is checked as if a target had sent it.

use std::io::{self, Read as _, Write as _};
use std::sync::Arc;

use flate2::Compression;
use flate2::read::DeflateDecoder;
use flate2::write::DeflateEncoder;

use super::log::LONGEST;
use crate::model::bytes::{Reader, put_int, put_uint};
use crate::model::native_histogram::{Buckets, ResetHint, Span};
use crate::model::{NativeHistogram, is_histogram};
use crate::store::memory::series::TimedHistogram;

/// Bits of the first byte; the lowest two are the hint.
const WHOLE: u8 = 4;
const SAME_BUCKETS: u8 = 8;
const HINTS: [ResetHint; 4] = [
    ResetHint::Unknown,
    ResetHint::Reset,
    ResetHint::NotReset,
    ResetHint::Gauge,
];
/// Whole numbers below it are exact.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// Appends a histogram that follows `last`.
pub(super) fn put(last: Option<&NativeHistogram>, histogram: &NativeHistogram, out: &mut Vec<u8>) {
    let numbers = || {
        [histogram.count, histogram.zero_count]
            .into_iter()
            .chain(counts(histogram))
    };
    let whole =
        |value: f64| ((value as i64) as f64).to_bits() == value.to_bits() && value.abs() < EXACT;
    let last = last.filter(|last| same_buckets(last, histogram));
    let is_whole = numbers().all(whole)
        && last.is_none_or(|last| {
            [last.count, last.zero_count]
                .into_iter()
                .chain(counts(last))
                .all(whole)
        });
    let hint = HINTS
        .iter()
        .position(|hint| *hint == histogram.hint)
        .unwrap_or(0) as u8;
    out.push(
        hint | if is_whole { WHOLE } else { 0 } | if last.is_some() { SAME_BUCKETS } else { 0 },
    );
    if last.is_none() {
        put_int(out, i64::from(histogram.schema));
        out.extend_from_slice(&histogram.zero_threshold.to_le_bytes());
        put_uint(out, histogram.bounds.len() as u64);
        histogram
            .bounds
            .iter()
            .for_each(|bound| out.extend_from_slice(&bound.to_le_bytes()));
        for side in [&histogram.positive, &histogram.negative] {
            put_uint(out, side.spans().len() as u64);
            for span in side.spans() {
                put_int(out, i64::from(span.offset));
                put_uint(out, u64::from(span.length));
            }
        }
    }
    out.extend_from_slice(&histogram.sum.to_le_bytes());
    if !is_whole {
        numbers().for_each(|value| out.extend_from_slice(&value.to_le_bytes()));
        return;
    }
    let mut before = bases(last);
    let mut previous = 0;
    for value in numbers() {
        let value = value as i64;
        let base = before.next().unwrap_or(previous);
        put_int(out, value - base);
        previous = value;
    }
}

/// Reads the histogram that follows `last`.
pub(super) fn take(
    last: Option<&NativeHistogram>,
    reader: &mut Reader<'_>,
) -> Option<NativeHistogram> {
    let flags = reader.byte()?;
    let hint = HINTS[usize::from(flags & 3)];
    let last = if flags & SAME_BUCKETS == 0 {
        None
    } else {
        Some(last?)
    };
    let (mut shape, spans) = match last {
        Some(last) => {
            let spans = [
                last.positive.spans().to_vec(),
                last.negative.spans().to_vec(),
            ];
            (
                NativeHistogram {
                    bounds: last.bounds.clone(),
                    ..shape_of(last.schema, last.zero_threshold)
                },
                spans,
            )
        }
        None => {
            let schema = i8::try_from(reader.int()?).ok()?;
            let shape = shape_of(schema, float(reader)?);
            let number = reader.size(reader.0.len() / 8)?;
            let bounds = (0..number).map(|_| float(reader)).collect::<Option<_>>()?;
            (
                NativeHistogram { bounds, ..shape },
                [spans(reader)?, spans(reader)?],
            )
        }
    };
    shape.hint = hint;
    shape.sum = float(reader)?;
    let lengths = spans
        .each_ref()
        .map(|side| side.iter().map(|span| u64::from(span.length)).sum::<u64>());
    // A count takes a byte at least.
    let buckets = usize::try_from(lengths[0].checked_add(lengths[1])?)
        .ok()
        .filter(|n| *n <= reader.0.len())?;
    let mut numbers = Vec::with_capacity(buckets + 2);
    let mut before = bases(last);
    let mut previous = 0_i64;
    for _ in 0..buckets + 2 {
        numbers.push(if flags & WHOLE == 0 {
            float(reader)?
        } else {
            previous = reader
                .int()?
                .checked_add(before.next().unwrap_or(previous))?;
            previous as f64
        });
    }
    (shape.count, shape.zero_count) = (numbers[0], numbers[1]);
    let (positive, negative) = numbers[2..].split_at(lengths[0] as usize);
    shape.positive = Buckets::new(&spans[0], positive.to_vec()).ok()?;
    shape.negative = Buckets::new(&spans[1], negative.to_vec()).ok()?;
    Some(shape)
}

/// The histograms of a chunk, each after the one before, deflated.
pub(super) fn put_all(histograms: &[TimedHistogram]) -> io::Result<Vec<u8>> {
    let mut plain = Vec::new();
    let mut last = None;
    for (_, histogram) in histograms {
        put(last, histogram, &mut plain);
        last = Some(&**histogram);
    }
    let mut deflate = DeflateEncoder::new(Vec::new(), Compression::default());
    deflate.write_all(&plain)?;
    deflate.finish()
}

/// What [`put_all`] wrote: one for each marker among the values. `None` where they do not fit. The
/// first one does not say that it was not reset: the chunk before, which would tell, may be lost.
pub(super) fn take_all(bytes: &[u8], times: &[i64], values: &[f64]) -> Option<Vec<TimedHistogram>> {
    let mut found: Vec<TimedHistogram> = Vec::new();
    if bytes.is_empty() {
        let marked = |piece: &[f64]| piece.iter().fold(false, |any, v| any | is_histogram(*v));
        return (!values.chunks(64).any(marked)).then_some(found);
    }
    let markers = times
        .iter()
        .zip(values)
        .filter(|(_, value)| is_histogram(**value));
    let plain = inflate(bytes)?;
    let mut reader = Reader(&plain);
    for (time, _) in markers {
        let mut histogram = take(found.last().map(|(_, last)| &**last), &mut reader)?;
        if found.is_empty() && histogram.hint == ResetHint::NotReset {
            histogram.hint = ResetHint::Unknown;
        }
        found.push((*time, Arc::new(histogram)));
    }
    reader.0.is_empty().then_some(found)
}

/// What was deflated; `None` beyond a length that nothing of ours has.
pub(super) fn inflate(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut plain = Vec::new();
    DeflateDecoder::new(bytes)
        .take(LONGEST as u64)
        .read_to_end(&mut plain)
        .ok()?;
    Some(plain)
}

fn shape_of(schema: i8, zero_threshold: f64) -> NativeHistogram {
    NativeHistogram {
        schema,
        zero_threshold,
        ..NativeHistogram::default()
    }
}

fn same_buckets(a: &NativeHistogram, b: &NativeHistogram) -> bool {
    let bits = |values: &[f64]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
    a.schema == b.schema
        && a.zero_threshold.to_bits() == b.zero_threshold.to_bits()
        && a.positive.spans() == b.positive.spans()
        && a.negative.spans() == b.negative.spans()
        && bits(&a.bounds) == bits(&b.bounds)
}

fn counts(histogram: &NativeHistogram) -> impl Iterator<Item = f64> + '_ {
    histogram
        .positive
        .counts()
        .iter()
        .chain(histogram.negative.counts())
        .copied()
}

/// What each number of a histogram with the same buckets is a difference from.
fn bases(last: Option<&NativeHistogram>) -> impl Iterator<Item = i64> + '_ {
    last.into_iter()
        .flat_map(|last| {
            [last.count, last.zero_count]
                .into_iter()
                .chain(counts(last))
        })
        .map(|value| value as i64)
}

fn spans(reader: &mut Reader<'_>) -> Option<Vec<Span>> {
    let number = reader.size(reader.0.len())?;
    (0..number)
        .map(|_| {
            Some(Span {
                offset: i32::try_from(reader.int()?).ok()?,
                length: u32::try_from(reader.uint()?).ok()?,
            })
        })
        .collect()
}

fn float(reader: &mut Reader<'_>) -> Option<f64> {
    reader.u64().map(f64::from_bits)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn round_trip(last: Option<&NativeHistogram>, histogram: &NativeHistogram) -> usize {
        let mut out = Vec::new();
        put(last, histogram, &mut out);
        let mut reader = Reader(&out);
        let read = take(last, &mut reader).expect("reads");
        assert!(reader.0.is_empty());
        assert_eq!(
            (&read, read.hint, read.zero_threshold.to_bits()),
            (
                histogram,
                histogram.hint,
                histogram.zero_threshold.to_bits()
            )
        );
        out.len()
    }

    fn exponential(counts: &[f64]) -> NativeHistogram {
        let positive: Buckets = (0..).map(|n| n * 2).zip(counts.iter().copied()).collect();
        NativeHistogram {
            schema: 3,
            count: 20.0,
            sum: 1.5,
            zero_threshold: 1e-128,
            zero_count: 2.0,
            positive,
            ..NativeHistogram::default()
        }
    }

    /// Every bit comes back.
    #[test]
    fn histograms_come_back_bit_for_bit() {
        let one = exponential(&[3.0, 5.0, 7.0]);
        let next = NativeHistogram {
            count: 25.0,
            sum: 2.5,
            ..exponential(&[3.0, 6.0, 11.0])
        };
        assert!(
            round_trip(Some(&one), &next) < round_trip(None, &next)
                && round_trip(Some(&one), &next) == 14
        );
        let custom = NativeHistogram {
            schema: -53,
            bounds: [0.5, 2.0].into(),
            zero_threshold: 0.0,
            ..exponential(&[1.0, 2.0])
        };
        let gauge = NativeHistogram {
            hint: ResetHint::Gauge,
            negative: exponential(&[1.5, f64::NAN, -0.0]).positive,
            ..one.clone()
        };
        let infinite = NativeHistogram {
            count: 1e300,
            sum: f64::NEG_INFINITY,
            ..NativeHistogram::default()
        };
        for histogram in [&one, &custom, &gauge, &infinite] {
            round_trip(None, histogram);
            for last in [&one, &custom, &gauge, &infinite] {
                round_trip(Some(last), histogram);
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 500, rng_seed: proptest::test_runner::RngSeed::Fixed(1), ..ProptestConfig::default() })]

        #[test]
        fn any_bytes_are_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..60), follows in any::<bool>()) {
            let last = exponential(&[1.0, 2.0]);
            let _ = take(follows.then_some(&last), &mut Reader(&bytes));
        }

        #[test]
        fn any_counts_come_back(a in proptest::collection::vec(0_u64..1 << 53, 0..9), b in proptest::collection::vec(any::<f64>(), 0..9)) {
            let a = exponential(&a.iter().map(|n| *n as f64).collect::<Vec<_>>());
            let b = exponential(&b);
            round_trip(Some(&a), &b);
            round_trip(Some(&b), &a);
            round_trip(Some(&a), &a);
        }
    }
}
