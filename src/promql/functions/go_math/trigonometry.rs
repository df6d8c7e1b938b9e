//! Trigonometry as Go's `math` computes it, which Prometheus uses: the functions of the Cephes
//! library (<https://netlib.org/cephes/>) and the hyperbolic ones of FreeBSD, so that the last
//! digit is the same. Of angles of 2^29 and more the multiples of pi/4 are taken away by Payne's
//! and Hanek's method.

use std::f64::consts::{FRAC_PI_2, FRAC_PI_4, LN_2, PI};

use super::power::log;

/// From here on a multiple of pi/4 cannot be taken away in three steps.
const LARGE: f64 = (1u64 << 29) as f64;

/// The binary digits of 4/pi, the whole part first.
const FOUR_OVER_PI: [u64; 20] = [
    0x0000_0000_0000_0001,
    0x45f3_06dc_9c88_2a53,
    0xf84e_afa3_ea69_bb81,
    0xb6c5_2b32_7887_2083,
    0xfca2_c757_bd77_8ac3,
    0x6e48_dc74_849b_a5c0,
    0x0c92_5dd4_13a3_2439,
    0xfc3b_d639_6253_4e7d,
    0xd104_6bea_5d76_8909,
    0xd338_e04d_68be_fc82,
    0x7323_ac73_06a6_73e9,
    0x3908_bf17_7bf2_5076,
    0x3ff1_2fff_bc0b_301f,
    0xde5e_2316_b414_da3e,
    0xda6c_fd9e_4f96_136e,
    0x9e8c_7ecd_3cbf_d45a,
    0xea4f_758f_d7cb_e2f6,
    0x7a0e_73ef_14a5_25d4,
    0xd7f6_bf62_3f1a_ba10,
    0xac06_608d_f8f6_d757,
];

/// A polynomial, highest coefficient first.
fn polynomial(x: f64, coefficients: &[f64]) -> f64 {
    coefficients[1..]
        .iter()
        .fold(coefficients[0], |sum, c| sum * x + c)
}

/// The octant of a positive angle, made even, and the angle's distance from it.
fn octant(x: f64) -> (u64, f64) {
    const PARTS: [f64; 3] = [
        7.853_981_256_484_985e-1,
        3.774_894_707_930_798e-8,
        2.695_151_429_079_059_5e-15,
    ];
    if x >= LARGE {
        return far_octant(x);
    }
    let mut octant = (x * (4.0 / PI)) as u64;
    octant += octant & 1;
    let y = octant as f64;
    (
        octant & 7,
        ((x - y * PARTS[0]) - y * PARTS[1]) - y * PARTS[2],
    )
}

/// The same where the angle has fewer digits than the multiple: the significant bits are multiplied
/// by those digits of 4/pi alone that reach the fraction.
fn far_octant(x: f64) -> (u64, f64) {
    const MANTISSA: u32 = f64::MANTISSA_DIGITS - 1;
    const BIAS: u64 = f64::MAX_EXP as u64 - 1;
    let bits = x.to_bits();
    let significant = bits & ((1 << MANTISSA) - 1) | 1 << MANTISSA;
    // `x` is this times a power of two, which says at which digit to begin: three bits of the
    // product are whole.
    let skipped = (bits >> MANTISSA) + 61 - BIAS - u64::from(MANTISSA);
    let (first, shift) = ((skipped / 64) as usize, (skipped % 64) as u32);
    let digit = |n: usize| {
        let at = |index: usize| u128::from(FOUR_OVER_PI.get(first + index).copied().unwrap_or(0));
        u128::from((((at(n) << 64 | at(n + 1)) << shift) >> 64) as u64)
    };
    let significant = u128::from(significant);
    let low = (digit(1) * significant).wrapping_add((digit(2) * significant) >> 64);
    let product = ((digit(0) * significant) << 64).wrapping_add(low);
    let octant = (product >> 125) as u64;
    let (fraction, rest) = ((product << 3 >> 64) as u64, product as u64);
    let zeros = fraction.leading_zeros() + 1;
    // What is moved in from the right is not moved by the three bits above, as in Go.
    let mantissa = (fraction.checked_shl(zeros).unwrap_or(0)
        | rest.checked_shr(64 - zeros.min(64)).unwrap_or(0))
        >> (64 - MANTISSA);
    let z = f64::from_bits((BIAS - u64::from(zeros)) << MANTISSA | mantissa);
    if octant % 2 == 1 {
        ((octant + 1) & 7, (z - 1.0) * FRAC_PI_4)
    } else {
        (octant, z * FRAC_PI_4)
    }
}

fn sine_near_zero(z: f64) -> f64 {
    const SINE: [f64; 6] = [
        1.589_623_015_765_465_7e-10,
        -2.505_074_776_285_780_7e-8,
        2.755_731_362_138_572_2e-6,
        -1.984_126_982_958_954e-4,
        8.333_333_333_322_118e-3,
        -1.666_666_666_666_663e-1,
    ];
    z + z * (z * z) * polynomial(z * z, &SINE)
}

fn cosine_near_zero(z: f64) -> f64 {
    const COSINE: [f64; 6] = [
        -1.135_853_652_138_768_2e-11,
        2.087_570_084_197_473e-9,
        -2.755_731_417_929_674e-7,
        2.480_158_728_885_170_5e-5,
        -1.388_888_888_887_305_6e-3,
        4.166_666_666_666_659_5e-2,
    ];
    let zz = z * z;
    1.0 - 0.5 * zz + zz * zz * polynomial(zz, &COSINE)
}

/// Sine of radians.
pub(in crate::promql::functions) fn sin(x: f64) -> f64 {
    if x == 0.0 || !x.is_finite() {
        return x.sin();
    }
    let (octant, z) = octant(x.abs());
    let value = if matches!(octant & 3, 1 | 2) {
        cosine_near_zero(z)
    } else {
        sine_near_zero(z)
    };
    if (octant > 3) != (x < 0.0) {
        -value
    } else {
        value
    }
}

/// Cosine of radians.
pub(in crate::promql::functions) fn cos(x: f64) -> f64 {
    if !x.is_finite() {
        return x.cos();
    }
    let (octant, z) = octant(x.abs());
    let quarter = octant & 3;
    let value = if matches!(quarter, 1 | 2) {
        sine_near_zero(z)
    } else {
        cosine_near_zero(z)
    };
    if (octant > 3) != (quarter > 1) {
        -value
    } else {
        value
    }
}

/// Tangent of radians.
pub(in crate::promql::functions) fn tan(x: f64) -> f64 {
    const ABOVE: [f64; 3] = [
        -1.309_369_391_813_837_4e4,
        1.153_516_648_385_874_2e6,
        -1.795_652_519_764_848_8e7,
    ];
    const BELOW: [f64; 5] = [
        1.0,
        1.368_129_634_706_929_5e4,
        -1.320_892_344_402_109_7e6,
        2.500_838_018_233_579e7,
        -5.386_957_559_294_546_5e7,
    ];
    if x == 0.0 || !x.is_finite() {
        return x.tan();
    }
    let (octant, z) = octant(x.abs());
    let zz = z * z;
    let value = if zz > 1e-14 {
        z + z * (zz * polynomial(zz, &ABOVE) / polynomial(zz, &BELOW))
    } else {
        z
    };
    let value = if octant & 2 == 2 { -1.0 / value } else { value };
    if x < 0.0 { -value } else { value }
}

fn positive_atan(x: f64) -> f64 {
    const ABOVE: [f64; 5] = [
        -8.750_608_600_031_904e-1,
        -1.615_753_718_733_365_2e1,
        -7.500_855_792_314_705e1,
        -1.228_866_684_490_136_1e2,
        -6.485_021_904_942_025e1,
    ];
    const BELOW: [f64; 6] = [
        1.0,
        2.485_846_490_142_306_3e1,
        1.650_270_098_316_988_5e2,
        4.328_810_604_912_902_7e2,
        4.853_903_996_359_137e2,
        1.945_506_571_482_614e2,
    ];
    /// The bits of pi/2 that do not fit into a float.
    const MORE: f64 = 6.123_233_995_736_766e-17;
    let near_zero = |x: f64| {
        let z = x * x;
        x * (z * polynomial(z, &ABOVE) / polynomial(z, &BELOW)) + x
    };
    if x <= 0.66 {
        near_zero(x)
    } else if x > 1.0 + std::f64::consts::SQRT_2 {
        FRAC_PI_2 - near_zero(1.0 / x) + MORE
    } else {
        FRAC_PI_4 + near_zero((x - 1.0) / (x + 1.0)) + 0.5 * MORE
    }
}

/// Arctangent, in radians.
pub(in crate::promql::functions) fn atan(x: f64) -> f64 {
    if x == 0.0 || x.is_nan() {
        x
    } else if x > 0.0 {
        positive_atan(x)
    } else {
        -positive_atan(-x)
    }
}

/// Arcsine, in radians.
pub(in crate::promql::functions) fn asin(x: f64) -> f64 {
    if x == 0.0 || x.is_nan() {
        return x;
    }
    let size = x.abs();
    if size > 1.0 {
        return f64::NAN;
    }
    let other = (1.0 - size * size).sqrt();
    let value = if size > 0.7 {
        FRAC_PI_2 - positive_atan(other / size)
    } else {
        positive_atan(size / other)
    };
    if x < 0.0 { -value } else { value }
}

/// Arccosine, in radians.
pub(in crate::promql::functions) fn acos(x: f64) -> f64 {
    FRAC_PI_2 - asin(x)
}

/// The angle of the point (`x`, `y`).
pub(in crate::promql) fn atan2(y: f64, x: f64) -> f64 {
    if !x.is_finite() || !y.is_finite() || x == 0.0 || y == 0.0 {
        return y.atan2(x);
    }
    let value = atan(y / x);
    match x < 0.0 {
        true if value <= 0.0 => value + PI,
        true => value - PI,
        false => value,
    }
}

/// Below this a hyperbolic function is its argument.
const SMALL: f64 = 1.0 / (1u64 << 28) as f64;

/// Inverse hyperbolic sine.
pub(in crate::promql::functions) fn asinh(x: f64) -> f64 {
    if !x.is_finite() {
        return x;
    }
    let size = x.abs();
    let value = if size > 1.0 / SMALL {
        log(size) + LN_2
    } else if size > 2.0 {
        log(2.0 * size + 1.0 / ((size * size + 1.0).sqrt() + size))
    } else if size < SMALL {
        size
    } else {
        libm::log1p(size + size * size / (1.0 + (1.0 + size * size).sqrt()))
    };
    value.copysign(x)
}

/// Inverse hyperbolic cosine.
pub(in crate::promql::functions) fn acosh(x: f64) -> f64 {
    if x < 1.0 || x.is_nan() {
        f64::NAN
    } else if x == 1.0 {
        0.0
    } else if x >= 1.0 / SMALL {
        log(x) + LN_2
    } else if x > 2.0 {
        log(2.0 * x - 1.0 / (x + (x * x - 1.0).sqrt()))
    } else {
        let t = x - 1.0;
        libm::log1p(t + (2.0 * t + t * t).sqrt())
    }
}

/// Inverse hyperbolic tangent.
pub(in crate::promql::functions) fn atanh(x: f64) -> f64 {
    let size = x.abs();
    if size > 1.0 || x.is_nan() {
        return f64::NAN;
    }
    let value = if size == 1.0 {
        f64::INFINITY
    } else if size < SMALL {
        size
    } else if size < 0.5 {
        let twice = size + size;
        0.5 * libm::log1p(twice + twice * size / (1.0 - size))
    } else {
        0.5 * libm::log1p((size + size) / (1.0 - size))
    };
    value.copysign(x)
}

#[cfg(test)]
mod tests {
    use super::*;

    type Function = fn(f64) -> f64;

    #[test]
    fn values_are_those_of_the_standard_library_but_for_the_last_digit() {
        let functions: [(Function, Function); 9] = [
            (sin, f64::sin),
            (cos, f64::cos),
            (tan, f64::tan),
            (atan, f64::atan),
            (asin, f64::asin),
            (acos, f64::acos),
            (asinh, f64::asinh),
            (acosh, f64::acosh),
            (atanh, f64::atanh),
        ];
        for step in -400..=400 {
            let x = f64::from(step) * 0.037;
            for (index, (ours, standard)) in functions.iter().enumerate() {
                let (a, b) = (ours(x), standard(x));
                assert!(
                    (a.is_nan() && b.is_nan()) || (a - b).abs() <= 1e-12 * (1.0 + b.abs()),
                    "function {index} of {x}: {a}, {b}"
                );
            }
            for y in [-2.5, -0.1, 0.3, 1e6] {
                assert!(
                    (atan2(y, x) - y.atan2(x)).abs() < 1e-15 * 4.0,
                    "{y} atan2 {x}"
                );
            }
        }
    }

    /// Recorded from Prometheus 3.5: an angle, its sine, cosine and tangent.
    #[test]
    fn far_angles_have_gos_last_digit_too() {
        for (x, sine, cosine, tangent) in [
            (
                1e9,
                0.5458434494486994,
                0.8378871813639024,
                0.6514522021451411,
            ),
            (
                -1e9,
                -0.5458434494486994,
                0.8378871813639024,
                -0.6514522021451411,
            ),
            (
                536870911.5,
                0.7397305569762235,
                -0.6729031899728566,
                -1.0993120080260914,
            ),
            (
                536870912.0,
                0.3265676630185634,
                -0.9451738260608966,
                -0.3455106923343039,
            ),
            (
                123456789012.25,
                -0.3255702527780658,
                -0.945517853086882,
                0.3443300956350633,
            ),
            (
                2.5e11,
                -0.16366655676989028,
                0.9865157161419621,
                -0.1659036486615265,
            ),
            (
                1e15,
                0.8582727931702359,
                -0.5131937377869702,
                -1.6724147821275832,
            ),
            (
                4503599627370496.5,
                0.8742173026236351,
                -0.48553486774222054,
                -1.8005242480088441,
            ),
            (
                1.2345678901234567e18,
                -0.865128705595728,
                -0.5015499205007017,
                1.7249104630144538,
            ),
            (
                1e22,
                -0.8522008497671889,
                0.5232147853951389,
                -1.6287782256068992,
            ),
            (
                1e100,
                -0.3806377310050287,
                0.9247242387519338,
                -0.4116229628832498,
            ),
            (
                -3.5e200,
                -0.8516749261373695,
                0.5240704343777715,
                -1.6251153857755072,
            ),
            (
                f64::MAX,
                0.004961954789184084,
                -0.9999876894265599,
                -0.004962015874444917,
            ),
        ] {
            assert_eq!((sin(x), cos(x), tan(x)), (sine, cosine, tangent), "{x}");
        }
    }

    /// Recorded from Prometheus 3.5.
    #[test]
    fn the_last_digit_is_gos() {
        assert_eq!(
            (tan(1.0), tan(35.4)),
            (1.557407724654902, 1.1212163300856046)
        );
        assert_eq!(atan2(1000.0, 3.0), 1.567796335794848);
        assert_eq!(acosh(1.000000000000001), 4.712160915387241e-8);
        assert_eq!(
            (sin(123456.789), cos(-77.1)),
            (-0.9986640823432246, -0.13060579803066766)
        );
        assert_eq!(
            (asinh(0.3), atanh(0.7), asin(0.71)),
            (0.29567304756342244, 0.8673005276940531, 0.7894982093461719)
        );
    }
}
