//! Exponential and hyperbolic functions as Go's `math` computes them on processors with fused
//! multiplication (<https://pkg.go.dev/math>), which Prometheus uses: to the last digit.

use std::f64::consts::LOG2_E;

/// e to the power of `x`: the series of the rest after whole powers of two, of a sixteenth of it,
/// squared four times.
pub(in crate::promql::functions) fn exp(x: f64) -> f64 {
    const LN_2_PARTS: [f64; 2] = [0.693_147_180_559_663, 2.823_529_056_303_157_7e-13];
    /// One by factorials, from 7 down.
    const TERMS: [f64; 7] = [
        1.0 / 5040.0,
        1.0 / 720.0,
        1.0 / 120.0,
        1.0 / 24.0,
        1.0 / 6.0,
        0.5,
        1.0,
    ];
    if x.is_nan() || x > 709.782_712_893_384 {
        return if x.is_nan() { x } else { f64::INFINITY };
    }
    if x == f64::NEG_INFINITY {
        return 0.0;
    }
    let whole = (x * LOG2_E).round_ties_even();
    if whole >= 1024.0 {
        // Some that would still fit: the power of two alone does not.
        return f64::INFINITY;
    }
    if whole < -1100.0 {
        // Below the smallest number, and so far below that the rest below would be no small one.
        return 0.0;
    }
    let rest = LN_2_PARTS
        .into_iter()
        .fold(x, |rest, part| (-whole).mul_add(part, rest))
        * 0.0625;
    let series = TERMS
        .into_iter()
        .fold(1.0 / 40320.0, |sum: f64, term| rest.mul_add(sum, term));
    let mut part = rest * series;
    for _ in 0..3 {
        part *= part + 2.0;
    }
    libm::ldexp((part + 2.0).mul_add(part, 1.0), whole as i32)
}

/// Hyperbolic sine.
pub(in crate::promql::functions) fn sinh(x: f64) -> f64 {
    const ABOVE: [f64; 4] = [
        -630_767.364_049_771_7,
        -89_912.720_220_395_09,
        -2_894.211_355_989_564,
        -26.305_632_133_974_97,
    ];
    const BELOW: [f64; 3] = [
        -630_767.364_049_771_7,
        15_215.173_787_900_19,
        -173.678_953_558_233_7,
    ];
    let positive = x.abs();
    let value = if positive > 21.0 {
        exp(positive) / 2.0
    } else if positive > 0.5 {
        let power = exp(positive);
        (power - 1.0 / power) / 2.0
    } else {
        let square = positive * positive;
        let above =
            (((ABOVE[3] * square + ABOVE[2]) * square + ABOVE[1]) * square + ABOVE[0]) * positive;
        above / (((square + BELOW[2]) * square + BELOW[1]) * square + BELOW[0])
    };
    value.copysign(x)
}

/// Hyperbolic cosine.
pub(in crate::promql::functions) fn cosh(x: f64) -> f64 {
    let positive = x.abs();
    let power = exp(positive);
    if positive > 21.0 {
        power / 2.0
    } else {
        (power + 1.0 / power) / 2.0
    }
}

/// Hyperbolic tangent.
pub(in crate::promql::functions) fn tanh(x: f64) -> f64 {
    const ABOVE: [f64; 3] = [
        -0.964_399_179_425_052_3,
        -99.287_723_100_191_85,
        -1_614.687_684_417_084_5,
    ];
    const BELOW: [f64; 3] = [
        112.811_678_491_632_93,
        2_235.488_390_601_004_5,
        4_844.063_053_251_255,
    ];
    /// Half the logarithm of 2^127.
    const ONE: f64 = 0.5 * 88.029_691_931_113_05;
    let positive = x.abs();
    if positive > ONE {
        1.0_f64.copysign(x)
    } else if positive >= 0.625 {
        (1.0 - 2.0 / (exp(2.0 * positive) + 1.0)).copysign(x)
    } else if x == 0.0 {
        x
    } else {
        let s = x * x;
        let above = (ABOVE[0] * s + ABOVE[1]) * s + ABOVE[2];
        let below = ((s + BELOW[0]) * s + BELOW[1]) * s + BELOW[2];
        x + x * s * above / below
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Recorded from Prometheus 3.5.
    #[test]
    fn the_last_digit_is_gos() {
        let recorded = [
            (
                0.1,
                [
                    1.1051709180756477,
                    0.10016675001984404,
                    1.0050041680558035,
                    0.09966799462495582,
                ],
            ),
            (
                -0.3,
                [
                    0.7408182206817179,
                    -0.3045202934471426,
                    1.0453385141288605,
                    -0.2913126124515909,
                ],
            ),
            (
                0.5,
                [
                    1.6487212707001282,
                    0.5210953054937474,
                    1.1276259652063807,
                    0.46211715726000974,
                ],
            ),
            (
                0.62,
                [
                    1.858928041846342,
                    0.6604918021258338,
                    1.1984362397205084,
                    0.5511280285381469,
                ],
            ),
            (
                0.7,
                [
                    2.0137527074704766,
                    0.7585837018395336,
                    1.255169005630943,
                    0.6043677771171635,
                ],
            ),
            (
                1.5,
                [
                    4.481689070338065,
                    2.1292794550948178,
                    2.3524096152432477,
                    0.9051482536448664,
                ],
            ),
            (
                -2.25,
                [
                    0.10539922456186433,
                    -4.69116830589833,
                    4.7965675304601945,
                    -0.9780261147388136,
                ],
            ),
            (
                10.0,
                [
                    22026.465794806718,
                    11013.232874703393,
                    11013.232920103324,
                    0.9999999958776927,
                ],
            ),
            (
                21.5,
                [
                    2174359553.5764885,
                    1087179776.7882442,
                    1087179776.7882442,
                    1.0,
                ],
            ),
            (
                -30.0,
                [
                    9.357622968840175e-14,
                    -5343237290762.23,
                    5343237290762.23,
                    -1.0,
                ],
            ),
            (
                700.5,
                [
                    1.6721859620674987e+304,
                    8.360929810337493e+303,
                    8.360929810337493e+303,
                    1.0,
                ],
            ),
            (
                -708.4,
                [
                    2.217119081664265e-308,
                    -2.255178822531618e+307,
                    2.255178822531618e+307,
                    -1.0,
                ],
            ),
            (-740.1, [3.8e-322, f64::NEG_INFINITY, f64::INFINITY, -1.0]),
            (709.7, [f64::INFINITY, f64::INFINITY, f64::INFINITY, 1.0]),
            (
                0.878,
                [
                    2.406082725590862,
                    0.9952347089833868,
                    1.4108480166074753,
                    0.7054159606621044,
                ],
            ),
        ];
        for (x, expected) in recorded {
            assert_eq!([exp(x), sinh(x), cosh(x), tanh(x)], expected, "of {x}");
        }
        assert!(
            exp(f64::NAN).is_nan()
                && sinh(f64::NAN).is_nan()
                && cosh(f64::NAN).is_nan()
                && tanh(f64::NAN).is_nan()
        );
        assert_eq!([-745.2, -800.0, -1e20, -1e22, -1e300].map(exp), [0.0; 5]);
        assert_eq!(
            (
                exp(f64::NEG_INFINITY),
                tanh(f64::NEG_INFINITY),
                sinh(-0.0).to_bits()
            ),
            (0.0, -1.0, (-0.0_f64).to_bits())
        );
    }
}
