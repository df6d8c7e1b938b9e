//! Functions of labels, and the ways between scalar and vector.

use std::collections::{BTreeMap, HashMap};

use super::{Body, Function, Variadic, row};
use crate::model::matcher::anchored;
use crate::model::{Labels, LabelsBuilder, METRIC_NAME, MatchOp, Matcher};
use crate::promql::deep;
use crate::promql::eval::evaluator::Evaluator;
use crate::promql::eval::frame::{Frame, Node, is_absent};
use crate::promql::eval::memory::LABELS;
use crate::promql::syntax::ast::ValueType::{Scalar, String as Text, Vector};
use crate::promql::syntax::ast::{Call, Expr, VectorSelector};
use crate::promql::value::EvalError;

/// The functions of this family.
pub(super) static FAMILY: &[Function] = &[
    row(
        "absent",
        &[Vector],
        Body::Special(absent),
        "1 when the vector is empty, with the labels that the selector fixes.",
    ),
    row(
        "info",
        &[Vector, Vector],
        Body::Special(info),
        "Adds the labels of matching info series.",
    )
    .variadic(Variadic::UpTo(1))
    .experimental(),
    row(
        "label_join",
        &[Vector, Text, Text, Text],
        Body::Special(label_join),
        "Sets a label to the values of others, joined.",
    )
    .variadic(Variadic::Unlimited),
    row(
        "label_replace",
        &[Vector, Text, Text, Text, Text],
        Body::Special(label_replace),
        "Sets a label from a regular expression over another.",
    ),
    row(
        "scalar",
        &[Vector],
        Body::Special(scalar),
        "Value of the only sample, NaN if there is not exactly one.",
    )
    .scalar(),
    row(
        "vector",
        &[Scalar],
        Body::Special(vector),
        "One sample without labels.",
    ),
];

fn vector(evaluator: &Evaluator<'_>, call: &Call) -> Result<Node, EvalError> {
    let values = evaluator.scalar(&call.args[0])?;
    Ok(Node::Vector(Frame::floats(
        values.len(),
        vec![Labels::empty()].into(),
        values,
    )))
}

fn scalar(evaluator: &Evaluator<'_>, call: &Call) -> Result<Node, EvalError> {
    let mut frame = evaluator.vector(&call.args[0])?;
    frame.drop_histograms();
    let only = |step: usize| {
        let mut values = (0..frame.rows.len())
            .map(|row| frame.at(row, step))
            .filter(|v| !is_absent(*v));
        match (values.next(), values.next()) {
            (Some(value), None) => value,
            _ => f64::NAN,
        }
    };
    Ok(Node::Scalar((0..frame.steps).map(only).collect()))
}

fn absent(evaluator: &Evaluator<'_>, call: &Call) -> Result<Node, EvalError> {
    let found = evaluator.vector(&call.args[0])?;
    let mut frame = Frame::new(found.steps);
    let row = frame.push(absent_labels(&call.args[0]));
    for (step, value) in row.iter_mut().enumerate() {
        if !found.any_at(step) {
            *value = 1.0;
        }
    }
    frame.compact();
    Ok(Node::Vector(frame))
}

/// The labels that a selector fixes: those with one `=` matcher and no other.
pub(super) fn absent_labels(expr: &Expr) -> Labels {
    let selector = match expr.without_parens() {
        Expr::VectorSelector(selector) => selector,
        Expr::MatrixSelector(matrix) => &matrix.selector,
        _ => return Labels::empty(),
    };
    let mut builder = LabelsBuilder::new();
    let mut seen: Vec<&str> = Vec::new();
    for matcher in selector.matchers.iter().filter(|m| m.name != METRIC_NAME) {
        if matcher.op == MatchOp::Equal && !seen.contains(&matcher.name.as_str()) {
            builder.set(&matcher.name, &matcher.value);
            seen.push(&matcher.name);
        } else {
            builder.remove(&matcher.name);
        }
    }
    builder.build()
}

fn label_replace(evaluator: &Evaluator<'_>, call: &Call) -> Result<Node, EvalError> {
    let text = |index: usize| evaluator.string(&call.args[index]);
    let (target, replacement, source, pattern) = (text(1)?, text(2)?, text(3)?, text(4)?);
    let regex = anchored(&pattern).map_err(|_| {
        EvalError::new(format!(
            "invalid regular expression in label_replace(): {pattern}"
        ))
    })?;
    check_label("destination", "label_replace", &target)?;
    let mut frame = evaluator.vector(&call.args[0])?;
    let mut expanded = String::new();
    for labels in frame.rows.edit() {
        if let Some(captures) = regex.captures(labels.value(&source)) {
            expanded.clear();
            captures.expand(&replacement, &mut expanded);
            made(evaluator, labels, expanded.len())?;
            *labels = labels.with(&target, &expanded);
        }
    }
    frame.merged().map(Node::Vector)
}

fn label_join(evaluator: &Evaluator<'_>, call: &Call) -> Result<Node, EvalError> {
    let (target, separator) = (
        evaluator.string(&call.args[1])?,
        evaluator.string(&call.args[2])?,
    );
    let sources = call.args[3..]
        .iter()
        .map(|arg| evaluator.string(arg))
        .collect::<Result<Vec<_>, _>>()?;
    for source in &sources {
        check_label("source", "label_join", source)?;
    }
    check_label("destination", "label_join", &target)?;
    let mut frame = evaluator.vector(&call.args[0])?;
    for labels in frame.rows.edit() {
        let parts: Vec<&str> = sources.iter().map(|source| labels.value(source)).collect();
        let length = parts.iter().map(|part| part.len() + separator.len()).sum();
        made(evaluator, labels, length)?;
        *labels = labels.with(&target, &parts.join(&separator));
    }
    frame.merged().map(Node::Vector)
}

/// Counts a label set with a value of so many bytes more, before it is made.
fn made(evaluator: &Evaluator<'_>, labels: &Labels, length: usize) -> Result<(), EvalError> {
    evaluator.query.check()?;
    evaluator
        .query
        .memory
        .keep(labels.heap_size() + length + LABELS)
}

fn check_label(role: &str, function: &str, name: &str) -> Result<(), EvalError> {
    if name.is_empty() {
        Err(EvalError::new(format!(
            "invalid {role} label name in {function}(): {name}"
        )))
    } else {
        Ok(())
    }
}

/// Label by which info series are recognised, as in Prometheus where nothing else is configured.
const INFO_METRIC: &str = "target_info";

/// Labels that identify the entity of an info series.
const IDENTIFYING: [&str; 2] = ["instance", "job"];

/// Which samples of info series count: those of the time that the first selector of the expression
/// looks at. As in Prometheus 3.5 this only narrows what each step sees.
fn info_span(evaluator: &Evaluator<'_>, expr: &Expr) -> (i64, i64) {
    let steps = evaluator.steps;
    let (at, offset) =
        first_selector(expr).map_or((None, 0), |selector| (selector.at, selector.offset));
    let pinned = evaluator.query.pinned(at);
    let (start, end) = (
        pinned.unwrap_or(steps.start),
        pinned.unwrap_or(steps.last()),
    );
    let lookback = i64::try_from(evaluator.query.engine.lookback.as_millis()).unwrap_or(i64::MAX);
    let first = start
        .saturating_sub(lookback)
        .saturating_add(1)
        .saturating_sub(offset);
    (first, end.saturating_sub(offset))
}

fn first_selector(expr: &Expr) -> Option<&VectorSelector> {
    match expr {
        Expr::VectorSelector(selector) => Some(selector),
        Expr::MatrixSelector(matrix) => Some(&matrix.selector),
        other => deep(|| other.children().into_iter().find_map(first_selector)),
    }
}

fn info(evaluator: &Evaluator<'_>, call: &Call) -> Result<Node, EvalError> {
    let base = evaluator.vector(&call.args[0])?;
    let wanted = match call.args.get(1).map(Expr::without_parens) {
        Some(Expr::VectorSelector(selector)) => selector.matchers.as_slice(),
        _ => &[],
    };
    let mut names: Vec<Matcher> = wanted
        .iter()
        .filter(|m| m.name == METRIC_NAME)
        .cloned()
        .collect();
    if names.is_empty() {
        names.push(Matcher::equal(METRIC_NAME, INFO_METRIC));
    }
    let data: Vec<&Matcher> = wanted.iter().filter(|m| m.name != METRIC_NAME).collect();
    let selector = VectorSelector {
        name: String::new(),
        matchers: names.iter().chain(data.iter().copied()).cloned().collect(),
        offset: 0,
        at: None,
        may_match_all: true,
        span: call.span,
    };
    // Of an info series only the time of its sample counts: among several of one metric the newest
    // holds.
    let info =
        evaluator.select_between(&selector, info_span(evaluator, &call.args[0]), |time, _| {
            time as f64
        })?;
    let entity = |labels: &Labels| labels.filtered(|n| IDENTIFYING.contains(&n));
    let mut by_entity: HashMap<Labels, BTreeMap<&str, Vec<usize>>, ahash::RandomState> =
        HashMap::default();
    for (row, labels) in info.rows.iter().enumerate() {
        by_entity
            .entry(entity(labels))
            .or_default()
            .entry(labels.metric_name())
            .or_default()
            .push(row);
    }
    let newest = |metric: &str, rows: &[usize], step: usize| -> Result<Option<usize>, EvalError> {
        let present = |row: &&usize| !is_absent(info.at(**row, step));
        let Some(row) = rows
            .iter()
            .filter(present)
            .max_by(|a, b| info.at(**a, step).total_cmp(&info.at(**b, step)))
        else {
            return Ok(None);
        };
        match rows
            .iter()
            .filter(|other| info.at(**other, step).to_bits() == info.at(*row, step).to_bits())
            .count()
        {
            1 => Ok(Some(*row)),
            _ => Err(EvalError::new(format!(
                "found duplicate series for info metric {metric}"
            ))),
        }
    };
    let required = data.iter().any(|m| !m.matches(""));
    let mut out = Frame::new(base.steps);
    for (row, labels) in base.rows.iter().enumerate() {
        evaluator.query.check()?;
        // Its values may be copied once as the frame grows.
        evaluator.query.hold_cells(2, base.steps)?;
        if names.iter().any(|name| name.matches_labels(labels)) {
            out.push(labels.clone()).copy_from_slice(base.row(row));
            continue;
        }
        let candidates = by_entity.get(&entity(labels));
        for (step, value) in base
            .row(row)
            .iter()
            .enumerate()
            .filter(|(_, v)| !is_absent(**v))
        {
            let mut builder = labels.to_builder();
            let mut added = false;
            for (metric, rows) in candidates.into_iter().flatten() {
                let Some(found) = newest(metric, rows, step)? else {
                    continue;
                };
                for (n, v) in &info.rows[found] {
                    let asked = data.is_empty() || data.iter().any(|m| m.name == n);
                    // What the series says of itself stands.
                    if n == METRIC_NAME || !asked || labels.get(n).is_some() {
                        continue;
                    }
                    if builder.get(n).is_some_and(|other| other != v) {
                        return Err(EvalError::new(format!("conflicting label: {n}")));
                    }
                    added = true;
                    builder.set(n, v);
                }
            }
            // An info series that adds nothing is none.
            if added || !required {
                let labels = builder.build();
                evaluator.query.hold_cells(2, base.steps)?;
                evaluator.query.memory.keep(labels.heap_size() + LABELS)?;
                out.push(labels)[step] = *value;
            }
        }
    }
    out.histograms = base.histograms;
    out.merged().map(Node::Vector)
}
