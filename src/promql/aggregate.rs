//! Aggregations: groups by labels, sums with compensation, selections of the greatest and least.

use std::collections::HashMap;

use super::ast::{Aggregate, AggregateOp, Span};
use super::eval::Evaluator;
use super::frame::{Frame, absent, is_absent};
use super::functions::over_time::{Mean, Sum, invalid_quantile, quantile};
use super::order::{heap_fix_root, heap_push, sort};
use super::value::{EvalError, Severity};
use crate::model::text::{format_float, format_float_g};
use crate::model::{Labels, METRIC_NAME};

/// The value of an aggregation.
pub(super) fn eval(evaluator: &Evaluator<'_>, aggregate: &Aggregate) -> Result<Frame, EvalError> {
    if aggregate.op == AggregateOp::CountValues {
        return count_values(evaluator, aggregate);
    }
    let mut params = match &aggregate.param {
        Some(param) => evaluator.scalar(param)?,
        None => Vec::new(),
    };
    if let Some(first) = params.first().copied()
        && aggregate.expr.is_step_invariant()
    {
        // Prometheus computes such an aggregation once, whatever its parameter.
        params.fill(first);
    }
    let input = evaluator.vector(&aggregate.expr)?;
    match aggregate.op {
        AggregateOp::Topk | AggregateOp::Bottomk | AggregateOp::Limitk => {
            if greatest(&params) < 1.0 {
                return Ok(Frame::new(input.steps));
            }
            check_counts(&input, &params)?;
            Ok(select(evaluator, aggregate, input, &params))
        }
        AggregateOp::LimitRatio => limit_ratio(evaluator, aggregate, input, &params),
        AggregateOp::Quantile => {
            let warn = |q: f64| evaluator.query.remark(Severity::Warning, invalid_quantile(q), param_span(aggregate));
            if params.iter().any(|q| q.is_nan()) {
                warn(f64::NAN);
            }
            if greatest(&params) > 1.0 {
                warn(greatest(&params));
            }
            if least(&params) < 0.0 {
                warn(least(&params));
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

/// Where the parameter stands, without parentheses around it.
fn param_span(aggregate: &Aggregate) -> Span {
    let Some(param) = &aggregate.param else { return aggregate.span };
    param.remarked(true)
}

/// The greatest parameter; NaN if one is.
fn greatest(params: &[f64]) -> f64 {
    params.iter().copied().fold(f64::NEG_INFINITY, |a, b| if a.is_nan() || b.is_nan() { f64::NAN } else { a.max(b) })
}

/// The least parameter; NaN if one is.
fn least(params: &[f64]) -> f64 {
    -greatest(&params.iter().map(|p| -p).collect::<Vec<_>>())
}

/// Errs on what is not a number of series, where there is a series to count.
fn check_counts(input: &Frame, params: &[f64]) -> Result<(), EvalError> {
    for (step, k) in params.iter().enumerate() {
        // Also NaN: it is no whole number either.
        if !(*k >= i64::MIN as f64 && *k < i64::MAX as f64) && input.any_at(step) {
            return Err(EvalError::new(format!("Scalar value {} overflows int64", format_float_g(*k))));
        }
    }
    Ok(())
}

/// `topk`, `bottomk`, `limitk`: some of the series, as they are.
fn select(evaluator: &Evaluator<'_>, aggregate: &Aggregate, input: Frame, params: &[f64]) -> Frame {
    let steps = input.steps;
    let mut kept = Frame { steps, rows: input.rows.clone(), values: vec![absent(); input.values.len()] };
    let mut order = Vec::new();
    let groups = groups(aggregate, &input.rows);
    let mut ranked: Vec<(usize, f64)> = Vec::new();
    // What is worst comes first: NaN, then the values that others push out.
    let worse = |a: &(usize, f64), b: &(usize, f64)| match aggregate.op {
        _ if a.1.is_nan() => true,
        AggregateOp::Topk => a.1 < b.1,
        _ => a.1 > b.1,
    };
    for (_, rows) in &groups {
        for (step, k) in params.iter().enumerate() {
            let k = (*k).max(0.0) as usize;
            ranked.clear();
            let here = rows.iter().map(|row| (*row, input.at(*row, step))).filter(|(_, value)| !is_absent(*value));
            if aggregate.op == AggregateOp::Limitk {
                ranked.extend(here.take(k));
            } else if k > 0 {
                for sample in here {
                    if ranked.len() < k {
                        heap_push(&mut ranked, sample, &worse);
                    } else if !sample.1.is_nan() && worse(&ranked[0], &sample) {
                        ranked[0] = sample;
                        heap_fix_root(&mut ranked, &worse);
                    }
                }
                if ranked.len() > 1 {
                    sort(&mut ranked, &|a, b| worse(b, a));
                }
            }
            for (row, value) in &ranked {
                kept.values[row * steps + step] = *value;
            }
        }
        order.extend_from_slice(&ranked);
    }
    // The order of an instant query is that of the values, group by group.
    if steps == 1 && evaluator.query.outer.count == 1 {
        let rows = order.iter().map(|(row, _)| kept.rows[*row].clone()).collect();
        let values = order.iter().map(|(_, value)| *value).collect();
        return Frame { steps, rows, values };
    }
    kept.compact();
    kept
}

/// A share of the series, chosen by a hash of their labels: `r` and `-(1-r)` are complementary.
fn limit_ratio(evaluator: &Evaluator<'_>, aggregate: &Aggregate, mut input: Frame, params: &[f64]) -> Result<Frame, EvalError> {
    if params.iter().all(|r| *r == 0.0) {
        return Ok(Frame::new(input.steps));
    }
    let warn = |ratio: f64, cap: f64| {
        let text = format!("PromQL warning: ratio value should be between -1 and 1, got {}, capping to {cap}", format_float_g(ratio));
        evaluator.query.remark(Severity::Warning, text, param_span(aggregate));
    };
    if greatest(params) > 1.0 {
        warn(greatest(params), 1.0);
    }
    if least(params) < -1.0 {
        warn(least(params), -1.0);
    }
    if (0..params.len()).any(|step| params[step].is_nan() && input.any_at(step)) {
        return Err(EvalError::new("Ratio value NaN is NaN"));
    }
    for row in 0..input.rows.len() {
        let share = sampling_hash(&input.rows[row]) as f64 / u64::MAX as f64;
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

/// Prometheus's hash of a label set, so that the same series are chosen: XXH64 over each name and value with its length before it.
fn sampling_hash(labels: &Labels) -> u64 {
    let mut bytes = Vec::new();
    for text in labels.iter().flat_map(|(name, value)| [name, value]) {
        match u8::try_from(text.len()) {
            Ok(length) if length < u8::MAX => bytes.push(length),
            _ => bytes.extend([u8::MAX, text.len() as u8, (text.len() >> 8) as u8, (text.len() >> 16) as u8]),
        }
        bytes.extend_from_slice(text.as_bytes());
    }
    xxhash_rust::xxh64::xxh64(&bytes, 0)
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
    if value.is_finite() { format!("{value}") } else { format_float(value) }
}
