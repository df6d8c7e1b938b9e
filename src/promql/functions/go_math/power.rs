//! Powers and logarithms as Go's `math` computes them (<https://pkg.go.dev/math>), which Prometheus
//! uses: a last digit that differs shows in `count_values`, in `==`, and far from zero in
//! everything that follows.

use std::f64::consts::{FRAC_1_SQRT_2, LOG2_E, LOG10_E};

use super::exponential::exp;

/// `value` as a fraction in [0.5, 1) and a power of two; finite and not zero.
fn fraction(value: f64) -> (f64, i64) {
    let (scaled, shift) = if value.abs() < f64::MIN_POSITIVE {
        (value * (1u64 << 52) as f64, -52)
    } else {
        (value, 0)
    };
    let bits = scaled.to_bits();
    let exponent = (bits >> 52 & 0x7ff) as i64 - 1022;
    (
        f64::from_bits(bits & !(0x7ff << 52) | 1022 << 52),
        exponent + shift,
    )
}

/// Natural logarithm: FreeBSD's, its terms added in Go's order.
pub(in crate::promql::functions) fn log(value: f64) -> f64 {
    const LN_2_PARTS: [f64; 2] = [6.931_471_803_691_238e-1, 1.908_214_929_270_587_7e-10];
    const ODD: [f64; 4] = [
        6.666_666_666_666_735e-1,
        2.857_142_874_366_239e-1,
        1.818_357_216_161_805e-1,
        1.479_819_860_511_658_6e-1,
    ];
    const EVEN: [f64; 3] = [
        3.999_999_999_940_942e-1,
        2.222_219_843_214_978_4e-1,
        1.531_383_769_920_937_3e-1,
    ];
    if value <= 0.0 || !value.is_finite() {
        return value.ln();
    }
    let (mut part, mut exponent) = fraction(value);
    if part < FRAC_1_SQRT_2 {
        part *= 2.0;
        exponent -= 1;
    }
    let (f, k) = (part - 1.0, exponent as f64);
    let s = f / (2.0 + f);
    let s2 = s * s;
    let s4 = s2 * s2;
    let odd = s2 * (ODD[0] + s4 * (ODD[1] + s4 * (ODD[2] + s4 * ODD[3])));
    let even = s4 * (EVEN[0] + s4 * (EVEN[1] + s4 * EVEN[2]));
    let half_square = 0.5 * f * f;
    k * LN_2_PARTS[0] - ((half_square - (s * (half_square + (odd + even)) + k * LN_2_PARTS[1])) - f)
}

/// Binary logarithm; exact for powers of two.
pub(in crate::promql::functions) fn log2(value: f64) -> f64 {
    if value <= 0.0 || !value.is_finite() {
        return log(value);
    }
    match fraction(value) {
        (0.5, exponent) => (exponent - 1) as f64,
        (fraction, exponent) => log(fraction) * LOG2_E + exponent as f64,
    }
}

/// 2 to the power of `x`: FreeBSD's, its terms added in Go's order.
pub(in crate::promql::functions) fn exp2(x: f64) -> f64 {
    const LN_2_PARTS: [f64; 2] = [6.931_471_803_691_238e-1, 1.908_214_929_270_587_7e-10];
    const TERMS: [f64; 5] = [
        1.666_666_666_666_666_6e-1,
        -2.777_777_777_701_559_3e-3,
        6.613_756_321_437_934e-5,
        -1.653_390_220_546_525_2e-6,
        4.138_136_797_057_238_5e-8,
    ];
    if x.is_nan() || x == f64::INFINITY || x > 1.023_999_999_999_999_9e3 {
        return if x.is_nan() { x } else { f64::INFINITY };
    }
    if x < -1074.0 {
        return 0.0;
    }
    let whole = (x + 0.5_f64.copysign(x)).trunc();
    let part = x - whole;
    let (high, low) = (part * LN_2_PARTS[0], -part * LN_2_PARTS[1]);
    let r = high - low;
    let t = r * r;
    let c = r - t * (TERMS[0] + t * (TERMS[1] + t * (TERMS[2] + t * (TERMS[3] + t * TERMS[4]))));
    let y = 1.0 - ((low - (r * c) / (2.0 - c)) - high);
    libm::ldexp(y, whole as i32)
}

/// Decimal logarithm.
pub(in crate::promql::functions) fn log10(value: f64) -> f64 {
    log(value) * LOG10_E
}

/// `x` to the power of `y`: the whole part of the exponent by squaring, the rest through the
/// logarithm.
pub(in crate::promql) fn power(x: f64, y: f64) -> f64 {
    let ordinary = x.is_finite() && y.is_finite() && x != 0.0 && y != 0.0;
    if y == 0.5 && x > 0.0 {
        return x.sqrt();
    }
    if y == -0.5 && x > 0.0 {
        return 1.0 / x.sqrt();
    }
    let (mut whole, mut rest) = (y.abs().trunc(), y.abs().fract());
    // The cases that C's standard settles are the same in Go.
    if !ordinary || x == 1.0 || y == 1.0 || (rest != 0.0 && x < 0.0) || whole >= (1u64 << 63) as f64
    {
        return x.powf(y);
    }
    let (mut result, mut exponent) = (1.0, 0);
    if rest != 0.0 {
        if rest > 0.5 {
            rest -= 1.0;
            whole += 1.0;
        }
        result = exp(rest * log(x));
    }
    let (mut base, mut base_exponent) = fraction(x);
    let mut bits = whole as u64;
    while bits != 0 {
        if !(-4096..=4096).contains(&base_exponent) {
            // Out of range for good.
            exponent += base_exponent;
            break;
        }
        if bits & 1 == 1 {
            result *= base;
            exponent += base_exponent;
        }
        base *= base;
        base_exponent <<= 1;
        if base < 0.5 {
            base += base;
            base_exponent -= 1;
        }
        bits >>= 1;
    }
    if y < 0.0 {
        result = 1.0 / result;
        exponent = -exponent;
    }
    libm::ldexp(result, exponent.clamp(-10_000, 10_000) as i32)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Recorded from Prometheus 3.5.
    #[test]
    fn the_last_digit_is_gos() {
        for (x, y, expected) in RECORDED_POWERS {
            assert_eq!(
                power(*x, *y).to_bits(),
                expected.to_bits(),
                "{x} ^ {y} = {}",
                power(*x, *y)
            );
        }
        for (x, binary, decimal) in RECORDED_LOGARITHMS {
            assert_eq!((log2(*x), log10(*x)), (*binary, *decimal), "of {x}");
        }
        assert_eq!(
            (log2(1.0000000000000009), log2(10.1)),
            (1.3322676295501878e-15, 3.3362833878644325)
        );
        assert_eq!(
            (log10(4.7499999999999964), log10(7.73)),
            (0.6766936096248662, 0.8881794939183248)
        );
        assert_eq!(
            (log(0.6758), log(0.34), log(123456.789)),
            (
                -0.39185810470194754,
                -1.0788096613719298,
                11.723646487185881
            )
        );
        assert_eq!(
            (log10(0.34), log10(0.05), log2(0.71)),
            (-0.4685210829577448, -1.301029995663981, -0.4941090702700427)
        );
        assert!(log2(-1.0).is_nan() && log10(f64::NAN).is_nan());
        assert_eq!(
            (log2(0.0), log10(f64::INFINITY)),
            (f64::NEG_INFINITY, f64::INFINITY)
        );
    }

    const RECORDED_POWERS: &[(f64, f64, f64)] = &[
        (2.0, 0.3, 1.2311444133449163),
        (10.0, 17.5, 316227766016837950.0),
        (-3.0, 3.0, -27.0),
        (2.0, -1074.0, 5e-324),
        (1.5, 1e5, f64::INFINITY),
        (7.25, 11.0, 2908828202.6543207),
    ];
    const RECORDED_LOGARITHMS: &[(f64, f64, f64)] = &[
        (8.0, 3.0, 0.9030899869919435),
        (1000.0, 9.965784284662087, 3.0),
    ];
}
