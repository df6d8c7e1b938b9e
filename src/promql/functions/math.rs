//! Functions of one value: rounding, limits, logarithms, trigonometry.

use std::f64::consts::PI;

use super::go_math::{exponential, power, trigonometry};
use super::{Body, Function, Variadic, row};
use crate::promql::eval::evaluator::{Evaluator, drop_names};
use crate::promql::eval::frame::{Node, absent, is_absent};
use crate::promql::syntax::ast::Call;
use crate::promql::syntax::ast::ValueType::{Scalar, Vector};
use crate::promql::value::EvalError;

/// The functions of this family.
pub(super) static FAMILY: &[Function] = &[
    row("abs", &[Vector], Body::Map(f64::abs), "Absolute value."),
    row(
        "acos",
        &[Vector],
        Body::Map(trigonometry::acos),
        "Arccosine, in radians.",
    ),
    row(
        "acosh",
        &[Vector],
        Body::Map(trigonometry::acosh),
        "Inverse hyperbolic cosine.",
    ),
    row(
        "asin",
        &[Vector],
        Body::Map(trigonometry::asin),
        "Arcsine, in radians.",
    ),
    row(
        "asinh",
        &[Vector],
        Body::Map(trigonometry::asinh),
        "Inverse hyperbolic sine.",
    ),
    row(
        "atan",
        &[Vector],
        Body::Map(trigonometry::atan),
        "Arctangent, in radians.",
    ),
    row(
        "atanh",
        &[Vector],
        Body::Map(trigonometry::atanh),
        "Inverse hyperbolic tangent.",
    ),
    row(
        "ceil",
        &[Vector],
        Body::Map(f64::ceil),
        "Rounded up to a whole number.",
    ),
    row(
        "clamp",
        &[Vector, Scalar, Scalar],
        Body::Special(clamp),
        "Limited to the range from minimum to maximum.",
    ),
    row(
        "clamp_max",
        &[Vector, Scalar],
        Body::Special(clamp_max),
        "Limited to a maximum.",
    ),
    row(
        "clamp_min",
        &[Vector, Scalar],
        Body::Special(clamp_min),
        "Limited to a minimum.",
    ),
    row(
        "cos",
        &[Vector],
        Body::Map(trigonometry::cos),
        "Cosine of radians.",
    ),
    row(
        "cosh",
        &[Vector],
        Body::Map(exponential::cosh),
        "Hyperbolic cosine.",
    ),
    row("deg", &[Vector], Body::Map(degrees), "Radians to degrees."),
    row(
        "exp",
        &[Vector],
        Body::Map(exponential::exp),
        "e to the power of the value.",
    ),
    row(
        "floor",
        &[Vector],
        Body::Map(f64::floor),
        "Rounded down to a whole number.",
    ),
    row("ln", &[Vector], Body::Map(power::log), "Natural logarithm."),
    row(
        "log10",
        &[Vector],
        Body::Map(power::log10),
        "Decimal logarithm.",
    ),
    row(
        "log2",
        &[Vector],
        Body::Map(power::log2),
        "Binary logarithm.",
    ),
    row("pi", &[], Body::Special(pi), "The number pi.").scalar(),
    row("rad", &[Vector], Body::Map(radians), "Degrees to radians."),
    row(
        "round",
        &[Vector, Scalar],
        Body::Special(round),
        "Rounded to the nearest multiple of the second argument, 1 by default; ties up.",
    )
    .variadic(Variadic::UpTo(1)),
    row("sgn", &[Vector], Body::Map(sign), "Sign: -1, 0 or 1."),
    row(
        "sin",
        &[Vector],
        Body::Map(trigonometry::sin),
        "Sine of radians.",
    ),
    row(
        "sinh",
        &[Vector],
        Body::Map(exponential::sinh),
        "Hyperbolic sine.",
    ),
    row("sqrt", &[Vector], Body::Map(f64::sqrt), "Square root."),
    row(
        "tan",
        &[Vector],
        Body::Map(trigonometry::tan),
        "Tangent of radians.",
    ),
    row(
        "tanh",
        &[Vector],
        Body::Map(exponential::tanh),
        "Hyperbolic tangent.",
    ),
];

fn degrees(value: f64) -> f64 {
    value * 180.0 / PI
}

fn radians(value: f64) -> f64 {
    value * PI / 180.0
}

fn sign(value: f64) -> f64 {
    if value < 0.0 {
        -1.0
    } else if value > 0.0 {
        1.0
    } else {
        value
    }
}

fn pi(evaluator: &Evaluator<'_>, _: &Call) -> Result<Node, EvalError> {
    Ok(Node::Scalar(vec![PI; evaluator.steps.count]))
}

fn round(evaluator: &Evaluator<'_>, call: &Call) -> Result<Node, EvalError> {
    let nearest = match call.args.get(1) {
        Some(expr) => evaluator.scalar(expr)?,
        None => vec![1.0; evaluator.steps.count],
    };
    // The inverse first: it costs less precision.
    per_step(evaluator, call, |value, step| {
        let inverse = 1.0 / nearest[step];
        Some((value * inverse + 0.5).floor() / inverse)
    })
}

fn clamp(evaluator: &Evaluator<'_>, call: &Call) -> Result<Node, EvalError> {
    let (least, greatest) = (
        evaluator.scalar(&call.args[1])?,
        evaluator.scalar(&call.args[2])?,
    );
    per_step(evaluator, call, |value, step| {
        clamped(value, least[step], greatest[step])
    })
}

fn clamp_min(evaluator: &Evaluator<'_>, call: &Call) -> Result<Node, EvalError> {
    let least = evaluator.scalar(&call.args[1])?;
    per_step(evaluator, call, |value, step| {
        clamped(value, least[step], f64::INFINITY)
    })
}

fn clamp_max(evaluator: &Evaluator<'_>, call: &Call) -> Result<Node, EvalError> {
    let greatest = evaluator.scalar(&call.args[1])?;
    per_step(evaluator, call, |value, step| {
        clamped(value, f64::NEG_INFINITY, greatest[step])
    })
}

fn clamped(value: f64, least: f64, greatest: f64) -> Option<f64> {
    if greatest < least {
        None
    } else {
        Some(go_max(least, go_min(greatest, value)))
    }
}

/// The smaller one; NaN if either is, unless the other is -Inf.
fn go_min(a: f64, b: f64) -> f64 {
    if a == f64::NEG_INFINITY || b == f64::NEG_INFINITY {
        f64::NEG_INFINITY
    } else if a.is_nan() || b.is_nan() {
        f64::NAN
    } else {
        a.min(b)
    }
}

/// The greater one; NaN if either is, unless the other is +Inf.
fn go_max(a: f64, b: f64) -> f64 {
    -go_min(-a, -b)
}

fn per_step(
    evaluator: &Evaluator<'_>,
    call: &Call,
    map: impl Fn(f64, usize) -> Option<f64>,
) -> Result<Node, EvalError> {
    let mut frame = evaluator.vector(&call.args[0])?;
    frame.drop_histograms();
    for row in 0..frame.rows.len() {
        for (step, value) in frame
            .row_mut(row)
            .iter_mut()
            .enumerate()
            .filter(|(_, v)| !is_absent(**v))
        {
            *value = map(*value, step).unwrap_or_else(absent);
        }
    }
    drop_names(&mut frame);
    frame.merged().map(Node::Vector)
}
