//! Functions that order an instant vector.

use super::{Body, Function, Variadic, row};
use crate::promql::eval::evaluator::Evaluator;
use crate::promql::eval::frame::{Frame, Node, is_absent};
use crate::promql::eval::order;
use crate::promql::syntax::ast::Call;
use crate::promql::syntax::ast::ValueType::{String as Text, Vector};
use crate::promql::value::EvalError;

/// The functions of this family.
pub(super) static FAMILY: &[Function] = &[
    row(
        "sort",
        &[Vector],
        Body::Special(sort),
        "Sorted by value, ascending.",
    ),
    row(
        "sort_by_label",
        &[Vector, Text],
        Body::Special(sort_by_label),
        "Sorted by labels in natural order, ascending.",
    )
    .variadic(Variadic::Unlimited)
    .experimental(),
    row(
        "sort_by_label_desc",
        &[Vector, Text],
        Body::Special(sort_by_label_desc),
        "Sorted by labels in natural order, descending.",
    )
    .variadic(Variadic::Unlimited)
    .experimental(),
    row(
        "sort_desc",
        &[Vector],
        Body::Special(sort_desc),
        "Sorted by value, descending.",
    ),
];

fn sort(evaluator: &Evaluator<'_>, call: &Call) -> Result<Node, EvalError> {
    by_value(evaluator, call, |a, b| a > b)
}

fn sort_desc(evaluator: &Evaluator<'_>, call: &Call) -> Result<Node, EvalError> {
    by_value(evaluator, call, |a, b| a < b)
}

/// Sorts by value, what is `worse` and NaN last; only an instant query shows an order.
fn by_value(
    evaluator: &Evaluator<'_>,
    call: &Call,
    worse: impl Fn(f64, f64) -> bool,
) -> Result<Node, EvalError> {
    let mut frame = evaluator.vector(&call.args[0])?;
    frame.drop_histograms();
    if frame.steps != 1 {
        return Ok(Node::Vector(frame));
    }
    let mut order: Vec<usize> = (0..frame.rows.len())
        .filter(|row| !is_absent(frame.values[*row]))
        .collect();
    order::sort(&mut order, &|a, b| {
        let (a, b) = (frame.values[*a], frame.values[*b]);
        b.is_nan() || worse(b, a)
    });
    Ok(Node::Vector(reordered(frame, &order)))
}

fn reordered(frame: Frame, order: &[usize]) -> Frame {
    let rows = order.iter().map(|row| frame.rows[*row].clone()).collect();
    let values = order
        .iter()
        .flat_map(|row| frame.row(*row).iter().copied())
        .collect();
    Frame {
        rows,
        values,
        ..frame
    }
}

fn sort_by_label(evaluator: &Evaluator<'_>, call: &Call) -> Result<Node, EvalError> {
    by_labels(evaluator, call, false)
}

fn sort_by_label_desc(evaluator: &Evaluator<'_>, call: &Call) -> Result<Node, EvalError> {
    by_labels(evaluator, call, true)
}

fn by_labels(evaluator: &Evaluator<'_>, call: &Call, descending: bool) -> Result<Node, EvalError> {
    let names = call.args[1..]
        .iter()
        .map(|arg| evaluator.string(arg))
        .collect::<Result<Vec<_>, _>>()?;
    let frame = evaluator.vector(&call.args[0])?;
    if frame.steps != 1 {
        return Ok(Node::Vector(frame));
    }
    let mut order: Vec<usize> = (0..frame.rows.len()).collect();
    order::sort(&mut order, &|a, b| {
        let (a, b) = (&frame.rows[*a], &frame.rows[*b]);
        match names
            .iter()
            .map(|name| (a.value(name), b.value(name)))
            .find(|(x, y)| x != y)
        {
            Some((x, y)) => natural(x, y) != descending,
            None if descending => a > b,
            None => a < b,
        }
    });
    Ok(Node::Vector(reordered(frame, &order)))
}

/// Whether `a` comes before the different `b` in natural order: runs of digits compare as numbers,
/// everything else as text. No text comes before nothing, nor nothing before a text, as in the
/// natsort of Prometheus.
fn natural(a: &str, b: &str) -> bool {
    let (mut a, mut b) = (a, b);
    while !a.is_empty() && !b.is_empty() {
        let (part_a, rest_a) = chunk(a);
        let (part_b, rest_b) = chunk(b);
        let equal = match (part_a.parse::<i64>(), part_b.parse::<i64>()) {
            (Ok(x), Ok(y)) if x != y => return x < y,
            (Ok(_), Ok(_)) => true,
            _ => part_a == part_b,
        };
        if !equal {
            return part_a < part_b;
        }
        if rest_a.is_empty() || rest_b.is_empty() {
            return rest_a.is_empty();
        }
        (a, b) = (rest_a, rest_b);
    }
    false
}

/// The leading run of digits, or of anything else.
fn chunk(text: &str) -> (&str, &str) {
    let digit = text.starts_with(|c: char| c.is_ascii_digit());
    let end = text
        .find(|c: char| c.is_ascii_digit() != digit)
        .unwrap_or(text.len());
    text.split_at(end)
}
