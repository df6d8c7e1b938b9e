//! Functions that order an instant vector.

use std::cmp::Ordering;

use super::{Body, Function, Variadic, row};
use crate::promql::ast::Call;
use crate::promql::ast::ValueType::{String as Text, Vector};
use crate::promql::eval::Evaluator;
use crate::promql::frame::{Frame, Node};
use crate::promql::value::EvalError;

/// The functions of this family.
pub(super) static FAMILY: &[Function] = &[
    row("sort", &[Vector], Body::Special(sort), "Sorted by value, ascending."),
    row("sort_by_label", &[Vector, Text], Body::Special(sort_by_label), "Sorted by labels in natural order, ascending.")
        .variadic(Variadic::Unlimited)
        .experimental(),
    row("sort_by_label_desc", &[Vector, Text], Body::Special(sort_by_label_desc), "Sorted by labels in natural order, descending.")
        .variadic(Variadic::Unlimited)
        .experimental(),
    row("sort_desc", &[Vector], Body::Special(sort_desc), "Sorted by value, descending."),
];

fn sort(evaluator: &Evaluator<'_>, call: &Call) -> Result<Node, EvalError> {
    by_value(evaluator, call, |a, b| a.partial_cmp(&b).unwrap_or(Ordering::Equal))
}

fn sort_desc(evaluator: &Evaluator<'_>, call: &Call) -> Result<Node, EvalError> {
    by_value(evaluator, call, |a, b| b.partial_cmp(&a).unwrap_or(Ordering::Equal))
}

/// Sorts by value, NaN last; only an instant query shows an order.
fn by_value(evaluator: &Evaluator<'_>, call: &Call, compare: impl Fn(f64, f64) -> Ordering) -> Result<Node, EvalError> {
    let frame = evaluator.vector(&call.args[0])?;
    if frame.steps != 1 {
        return Ok(Node::Vector(frame));
    }
    let mut order: Vec<usize> = (0..frame.rows.len()).collect();
    order.sort_by(|a, b| {
        let (a, b) = (frame.values[*a], frame.values[*b]);
        match (a.is_nan(), b.is_nan()) {
            (false, false) => compare(a, b),
            (a, b) => a.cmp(&b),
        }
    });
    Ok(Node::Vector(reordered(&frame, &order)))
}

fn reordered(frame: &Frame, order: &[usize]) -> Frame {
    Frame {
        steps: frame.steps,
        rows: order.iter().map(|row| frame.rows[*row].clone()).collect(),
        values: order.iter().flat_map(|row| frame.row(*row).iter().copied()).collect(),
    }
}

fn sort_by_label(evaluator: &Evaluator<'_>, call: &Call) -> Result<Node, EvalError> {
    by_labels(evaluator, call, false)
}

fn sort_by_label_desc(evaluator: &Evaluator<'_>, call: &Call) -> Result<Node, EvalError> {
    by_labels(evaluator, call, true)
}

fn by_labels(evaluator: &Evaluator<'_>, call: &Call, descending: bool) -> Result<Node, EvalError> {
    let names = call.args[1..].iter().map(|arg| evaluator.string(arg)).collect::<Result<Vec<_>, _>>()?;
    let frame = evaluator.vector(&call.args[0])?;
    if frame.steps != 1 {
        return Ok(Node::Vector(frame));
    }
    let mut order: Vec<usize> = (0..frame.rows.len()).collect();
    order.sort_by(|a, b| {
        let (a, b) = (&frame.rows[*a], &frame.rows[*b]);
        let by_name = names.iter().map(|name| natural(a.value(name), b.value(name))).find(|o| *o != Ordering::Equal);
        let ascending = by_name.unwrap_or_else(|| a.cmp(b));
        if descending { ascending.reverse() } else { ascending }
    });
    Ok(Node::Vector(reordered(&frame, &order)))
}

/// Natural order: runs of digits compare as numbers, everything else as text.
fn natural(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a, b);
    while !a.is_empty() && !b.is_empty() {
        let (part_a, rest_a) = chunk(a);
        let (part_b, rest_b) = chunk(b);
        let digits = |part: &str| part.starts_with(|c: char| c.is_ascii_digit());
        let order = if digits(part_a) && digits(part_b) {
            let (x, y) = (part_a.trim_start_matches('0'), part_b.trim_start_matches('0'));
            x.len().cmp(&y.len()).then_with(|| x.cmp(y)).then_with(|| part_a.len().cmp(&part_b.len()))
        } else {
            part_a.cmp(part_b)
        };
        if order != Ordering::Equal {
            return order;
        }
        (a, b) = (rest_a, rest_b);
    }
    a.len().cmp(&b.len())
}

/// The leading run of digits, or of anything else.
fn chunk(text: &str) -> (&str, &str) {
    let digit = text.starts_with(|c: char| c.is_ascii_digit());
    let end = text.find(|c: char| c.is_ascii_digit() != digit).unwrap_or(text.len());
    text.split_at(end)
}
