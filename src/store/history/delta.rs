//! One value after another of the same series, in as few bytes as are quickly found.
//!
//! Most values on a host are what they were a tick before, or a whole number a little larger, or a
//! decimal fraction so (CPU time counts hundredths of seconds, pressure stall millionths). Two bits
//! say which; the rest are the bytes in which the two floats differ, as in Facebook's Gorilla
//! paper. The writer decodes what it chose and takes it only if the same bits come back.

use crate::model::bytes::{Reader, put_uint, uint_length, unzigzag, zigzag};

/// The same bits as before.
const SAME: u8 = 0;
/// A whole number, by its distance.
const WHOLE: u8 = 1;
/// A decimal fraction, by its distance in units of one of [`SCALES`].
const DECIMAL: u8 = 2;
/// The bytes that differ.
const BITS: u8 = 3;

/// Units in one, for decimal fractions.
const SCALES: [f64; 4] = [1e2, 1e3, 1e6, 1e9];

/// Writes `value`, which follows `last`, and returns the two bits that the reader must have.
pub(super) fn put(last: f64, value: f64, out: &mut Vec<u8>) -> u8 {
    let differing = last.to_bits() ^ value.to_bits();
    if differing == 0 {
        return SAME;
    }
    let whole = zigzag((value as i64).wrapping_sub(last as i64));
    let is_whole = from_whole(last, whole).to_bits() == value.to_bits();
    // Most are; bytes that differ would take two at least.
    if is_whole && whole < 1 << 14 {
        put_uint(out, whole);
        return WHOLE;
    }
    let (front, back) = (
        differing.leading_zeros() / 8,
        differing.trailing_zeros() / 8,
    );
    let length = 8 - front - back;
    let longest = 1 + length as usize;
    if is_whole && uint_length(whole) <= longest {
        put_uint(out, whole);
        return WHOLE;
    }
    for (number, scale) in SCALES.iter().enumerate() {
        let distance = zigzag(units(value, *scale).wrapping_sub(units(last, *scale)));
        // Two bits name the scale.
        if distance < 1 << 62
            && from_decimal(last, distance, *scale).to_bits() == value.to_bits()
            && uint_length(distance << 2) <= longest
        {
            put_uint(out, distance << 2 | number as u64);
            return DECIMAL;
        }
    }
    out.push((front << 4 | length) as u8);
    out.extend_from_slice(&(differing >> (back * 8)).to_le_bytes()[..length as usize]);
    BITS
}

/// Reads the value that follows `last`.
pub(super) fn take(last: f64, kind: u8, reader: &mut Reader<'_>) -> Option<f64> {
    Some(match kind {
        SAME => last,
        WHOLE => from_whole(last, reader.uint()?),
        DECIMAL => {
            let number = reader.uint()?;
            from_decimal(last, number >> 2, SCALES[(number & 3) as usize])
        }
        _ => {
            let head = u32::from(reader.byte()?);
            let (front, length) = (head >> 4, head & 15);
            let back = 8_u32.checked_sub(front.checked_add(length)?)?;
            let mut bytes = [0; 8];
            bytes
                .get_mut(..length as usize)?
                .copy_from_slice(reader.take(length as usize)?);
            f64::from_bits(last.to_bits() ^ u64::from_le_bytes(bytes).checked_shl(back * 8)?)
        }
    })
}

fn from_whole(last: f64, distance: u64) -> f64 {
    (last as i64).wrapping_add(unzigzag(distance)) as f64
}

fn from_decimal(last: f64, distance: u64, scale: f64) -> f64 {
    units(last, scale).wrapping_add(unzigzag(distance)) as f64 / scale
}

/// The number of units, rounded half away from zero; `f64::round` is a call into libm where the
/// processor may be an old one.
fn units(value: f64, scale: f64) -> i64 {
    let units = value * scale;
    let whole = units as i64;
    let rest = units - whole as f64;
    whole.saturating_add(i64::from(rest >= 0.5) - i64::from(rest <= -0.5))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::stale_nan;
    use proptest::prelude::*;

    fn round_trip(last: f64, value: f64) -> usize {
        let mut out = Vec::new();
        let kind = put(last, value, &mut out);
        let mut reader = Reader(&out);
        assert_eq!(
            take(last, kind, &mut reader).map(f64::to_bits),
            Some(value.to_bits()),
            "{last} {value}"
        );
        assert!(reader.0.is_empty());
        out.len()
    }

    #[test]
    fn common_steps_are_short() {
        assert_eq!(round_trip(4096.0, 4096.0), 0);
        assert_eq!(round_trip(123_456_789.0, 123_456_800.0), 1);
        assert_eq!(round_trip(1234.56, 1234.61), 1);
        assert_eq!(round_trip(0.000_017, 0.000_021), 1);
    }

    #[test]
    fn odd_values_come_back_bit_for_bit() {
        let odd = [
            0.0,
            -0.0,
            f64::INFINITY,
            f64::NEG_INFINITY,
            stale_nan(),
            f64::NAN,
            f64::MIN_POSITIVE / 3.0,
            1e308,
            -1e15,
            9e18,
            0.1,
        ];
        for last in odd {
            for value in odd {
                round_trip(last, value);
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 500, rng_seed: proptest::test_runner::RngSeed::Fixed(1), ..ProptestConfig::default() })]

        #[test]
        fn any_bits_come_back(last in any::<u64>(), value in any::<u64>(), small in -1000_i64..1000, scale in 0_i32..10) {
            round_trip(f64::from_bits(last), f64::from_bits(value));
            round_trip(f64::from_bits(last), small as f64 / 10_f64.powi(scale));
            round_trip(small as f64 / 10_f64.powi(scale), f64::from_bits(value));
            for value in [f64::from_bits(value), small as f64 / 2.0, small as f64 / 10_f64.powi(scale)] {
                prop_assert_eq!(units(value, 1.0), value.round() as i64);
                prop_assert_eq!(units(value, 100.0), (value * 100.0).round() as i64);
            }
        }

        #[test]
        fn any_bytes_are_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..12), last in any::<u64>(), kind in 0_u8..4) {
            let _ = take(f64::from_bits(last), kind, &mut Reader(&bytes));
        }
    }
}
