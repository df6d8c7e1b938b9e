//! Aggregations: groups by labels, sums with compensation, selections of the greatest and least.

use std::cmp::Ordering;
use std::collections::HashMap;

use super::ast::{Aggregate, AggregateOp};
use super::eval::Evaluator;
use super::frame::{Frame, absent, is_absent};
use super::functions::over_time::{Mean, Sum, quantile};
use super::value::{EvalError, Severity};
use crate::model::{Labels, METRIC_NAME};

/// The value of an aggregation.
pub(super) fn eval(evaluator: &Evaluator<'_>, aggregate: &Aggregate) -> Result<Frame, EvalError> {
    if aggregate.op == AggregateOp::CountValues {
        return count_values(evaluator, aggregate);
    }
    let params = match &aggregate.param {
        Some(param) => evaluator.scalar(param)?,
        None => Vec::new(),
    };
    let input = evaluator.vector(&aggregate.expr)?;
    match aggregate.op {
        AggregateOp::Topk | AggregateOp::Bottomk | AggregateOp::Limitk => {
            if input.rows.is_empty() || !check_counts(&params)? {
                return Ok(Frame::new(input.steps));
            }
            Ok(select(evaluator, aggregate, input, &params))
        }
        AggregateOp::LimitRatio => limit_ratio(evaluator, aggregate, input, &params),
        AggregateOp::Quantile => {
            if let Some(q) = params.iter().find(|q| !(0.0..=1.0).contains(*q))
                && let Some(param) = &aggregate.param
            {
                let text =
                    format!("PromQL warning: quantile value should be between 0 and 1, got {}", crate::model::text::format_float_g(*q));
                evaluator.query.remark(Severity::Warning, text, param.span());
            }
            Ok(fold(aggregate, &input, &params))
        }
        _ => Ok(fold(aggregate, &input, &params)),
    }
}

/// The labels that stay in the result.
fn group_labels(aggregate: &Aggregate, labels: &Labels) -> Labels {
    let listed = |name: &str| aggregate.grouping.iter().any(|g| g == name);
    match (aggregate.without, aggregate.grouping.is_empty()) {
        (false, true) => Labels::empty(),
        (false, false) => labels.filtered(listed),
        (true, _) => labels.filtered(|name| name != METRIC_NAME && !listed(name)),
    }
}

/// Rows of the input by group, groups in the order of their first row.
fn groups(aggregate: &Aggregate, rows: &[Labels]) -> Vec<(Labels, Vec<usize>)> {
    let mut groups: Vec<(Labels, Vec<usize>)> = Vec::new();
    let mut index: HashMap<Labels, usize, ahash::RandomState> = HashMap::default();
    for (row, labels) in rows.iter().enumerate() {
        let group = *index.entry(group_labels(aggregate, labels)).or_insert_with_key(|labels| {
            groups.push((labels.clone(), Vec::new()));
            groups.len() - 1
        });
        groups[group].1.push(row);
    }
    groups
}

/// Aggregations that make one value of each group.
fn fold(aggregate: &Aggregate, input: &Frame, params: &[f64]) -> Frame {
    let mut out = Frame::new(input.steps);
    let mut values = Vec::new();
    for (labels, rows) in groups(aggregate, &input.rows) {
        let target = out.push(labels);
        for (step, target) in target.iter_mut().enumerate() {
            values.clear();
            values.extend(rows.iter().map(|row| input.at(*row, step)).filter(|v| !is_absent(*v)));
            if !values.is_empty() {
                *target = value(aggregate.op, &mut values, params.get(step).copied().unwrap_or(f64::NAN));
            }
        }
    }
    out.compact();
    out
}

fn value(op: AggregateOp, values: &mut [f64], param: f64) -> f64 {
    match op {
        AggregateOp::Sum => {
            // The sum starts at the first value, not at zero: -0 alone stays -0.
            let mut sum = Sum::starting(values[0]);
            values[1..].iter().for_each(|v| sum.add(*v));
            sum.total()
        }
        AggregateOp::Avg => {
            let mut mean = Mean::starting(values[0]);
            values[1..].iter().for_each(|v| mean.add(*v));
            mean.value()
        }
        AggregateOp::Count => values.len() as f64,
        AggregateOp::Group => 1.0,
        AggregateOp::Min => values.iter().copied().reduce(|a, b| if a > b || a.is_nan() { b } else { a }).unwrap_or(f64::NAN),
        AggregateOp::Max => values.iter().copied().reduce(|a, b| if a < b || a.is_nan() { b } else { a }).unwrap_or(f64::NAN),
        AggregateOp::Stdvar => variance(values),
        AggregateOp::Stddev => variance(values).sqrt(),
        AggregateOp::Quantile => quantile(param, values),
        _ => f64::NAN,
    }
}

/// Population variance by Welford; NaN if any value is not finite.
fn variance(values: &[f64]) -> f64 {
    if values.iter().any(|v| !v.is_finite()) {
        return f64::NAN;
    }
    let (mut mean, mut total) = (values[0], 0.0);
    for (index, value) in values.iter().enumerate().skip(1) {
        let delta = value - mean;
        mean += delta / (index + 1) as f64;
        total += delta * (value - mean);
    }
    total / values.len() as f64
}

/// Whether any step asks for at least one series; errs on what is not a number of series.
fn check_counts(params: &[f64]) -> Result<bool, EvalError> {
    for k in params {
        // Also NaN: it is no whole number either.
        if !(*k > i64::MIN as f64 && *k < i64::MAX as f64) {
            return Err(EvalError::new(format!("Scalar value {} overflows int64", crate::model::text::format_float_g(*k))));
        }
    }
    Ok(params.iter().any(|k| *k >= 1.0))
}

/// `topk`, `bottomk`, `limitk`: some of the series, as they are.
fn select(evaluator: &Evaluator<'_>, aggregate: &Aggregate, input: Frame, params: &[f64]) -> Frame {
    let steps = input.steps;
    let mut kept = Frame { steps, rows: input.rows.clone(), values: vec![absent(); input.values.len()] };
    let mut order = Vec::new();
    let groups = groups(aggregate, &input.rows);
    let mut ranked: Vec<usize> = Vec::new();
    for (_, rows) in &groups {
        for (step, k) in params.iter().enumerate() {
            let k = (*k).max(0.0) as usize;
            ranked.clear();
            ranked.extend(rows.iter().copied().filter(|row| !is_absent(input.at(*row, step))));
            if aggregate.op != AggregateOp::Limitk {
                ranked.sort_by(|a, b| rank(aggregate.op, input.at(*a, step), input.at(*b, step)));
            }
            ranked.truncate(k);
            for row in &ranked {
                kept.values[row * steps + step] = input.at(*row, step);
            }
        }
        order.extend_from_slice(&ranked);
    }
    // The order of an instant query is that of the values, group by group.
    if steps == 1 && evaluator.query.outer.count == 1 {
        let rows = order.iter().map(|row| kept.rows[*row].clone()).collect();
        let values = order.iter().map(|row| kept.values[*row]).collect();
        return Frame { steps, rows, values };
    }
    kept.compact();
    kept
}

/// Better first; NaN last.
fn rank(op: AggregateOp, a: f64, b: f64) -> Ordering {
    match (a.is_nan(), b.is_nan()) {
        (false, false) if op == AggregateOp::Topk => b.partial_cmp(&a).unwrap_or(Ordering::Equal),
        (false, false) => a.partial_cmp(&b).unwrap_or(Ordering::Equal),
        (a, b) => a.cmp(&b),
    }
}

/// A share of the series, chosen by a hash of their labels: `r` and `-(1-r)` are complementary.
fn limit_ratio(evaluator: &Evaluator<'_>, aggregate: &Aggregate, mut input: Frame, params: &[f64]) -> Result<Frame, EvalError> {
    if params.iter().any(|r| r.is_nan()) {
        return Err(EvalError::new("Ratio value is NaN"));
    }
    if let Some(ratio) = params.iter().find(|r| r.abs() > 1.0)
        && let Some(param) = &aggregate.param
    {
        let (given, capped) = (crate::model::text::format_float_g(*ratio), ratio.signum());
        let text = format!("PromQL warning: ratio value should be between -1 and 1, got {given}, capping to {capped}");
        evaluator.query.remark(Severity::Warning, text, param.span());
    }
    for row in 0..input.rows.len() {
        let share = input.rows[row].fingerprint() as f64 / u64::MAX as f64;
        for (value, ratio) in input.row_mut(row).iter_mut().zip(params) {
            let ratio = ratio.clamp(-1.0, 1.0);
            let keep = if ratio >= 0.0 { share < ratio } else { share >= 1.0 + ratio };
            if !keep {
                *value = absent();
            }
        }
    }
    input.compact();
    Ok(input)
}

/// Counts equal values; the value becomes a label.
fn count_values(evaluator: &Evaluator<'_>, aggregate: &Aggregate) -> Result<Frame, EvalError> {
    let Some(param) = &aggregate.param else { return Err(EvalError::new("count_values needs a label name")) };
    let label = evaluator.string(param)?;
    if label.is_empty() {
        return Err(EvalError::new("invalid label name \"\""));
    }
    let input = evaluator.vector(&aggregate.expr)?;
    let mut by = aggregate.clone();
    if !by.without {
        by.grouping.push(label.clone());
    }
    let mut out = Frame::new(input.steps);
    let mut index: HashMap<Labels, usize, ahash::RandomState> = HashMap::default();
    for (row, labels) in input.rows.iter().enumerate() {
        for (step, value) in input.row(row).iter().enumerate().filter(|(_, v)| !is_absent(**v)) {
            let labels = group_labels(&by, &labels.with(&label, &plain(*value)));
            let target = *index.entry(labels).or_insert_with_key(|labels| {
                out.push(labels.clone());
                out.rows.len() - 1
            });
            let cell = &mut out.row_mut(target)[step];
            *cell = if is_absent(*cell) { 1.0 } else { *cell + 1.0 };
        }
    }
    Ok(out)
}

/// The shortest decimal digits, never an exponent.
fn plain(value: f64) -> String {
    if value.is_finite() { format!("{value}") } else { crate::model::text::format_float(value) }
}
