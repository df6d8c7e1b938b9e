//! Aggregations: groups by labels, sums with compensation, selections of the greatest and least.

use std::collections::HashMap;

use super::aggregate_native;
use super::evaluator::Evaluator;
use super::frame::{Frame, absent, is_absent};
use super::memory::LABELS;
use super::order::{heap_fix_root, heap_push, sort};
use crate::model::text::{format_float, format_float_g};
use crate::model::{Grouping, Labels};
use crate::promql::functions::over_time::{Mean, Sum, invalid_quantile, quantile};
use crate::promql::syntax::ast::{Aggregate, AggregateOp, Span};
use crate::promql::value::{EvalError, Severity};

/// The value of an aggregation.
pub(in crate::promql) fn eval(
    evaluator: &Evaluator<'_>,
    aggregate: &Aggregate,
) -> Result<Frame, EvalError> {
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
    let mut input = evaluator.vector(&aggregate.expr)?;
    let native = !input.histograms.is_empty();
    match aggregate.op {
        AggregateOp::Sum | AggregateOp::Avg if native => {
            return aggregate_native::combine(evaluator, aggregate, &grouping(aggregate), &input);
        }
        AggregateOp::Min
        | AggregateOp::Max
        | AggregateOp::Stddev
        | AggregateOp::Stdvar
        | AggregateOp::Quantile
            if native =>
        {
            aggregate_native::ignore(evaluator, aggregate, &mut input);
        }
        _ => {}
    }
    match aggregate.op {
        AggregateOp::Topk | AggregateOp::Bottomk | AggregateOp::Limitk => {
            if greatest(&params) < 1.0 {
                return Ok(Frame::new(input.steps));
            }
            check_counts(&input, &params)?;
            if native && aggregate.op != AggregateOp::Limitk {
                aggregate_native::ignore(evaluator, aggregate, &mut input);
            }
            select(evaluator, aggregate, input, &params)
        }
        AggregateOp::LimitRatio => limit_ratio(evaluator, aggregate, input, &params),
        AggregateOp::Quantile => {
            let warn = |q: f64| {
                evaluator.query.annotate(
                    Severity::Warning,
                    invalid_quantile(q),
                    param_span(aggregate),
                )
            };
            if params.iter().any(|q| q.is_nan()) {
                warn(f64::NAN);
            }
            if greatest(&params) > 1.0 {
                warn(greatest(&params));
            }
            if least(&params) < 0.0 {
                warn(least(&params));
            }
            fold(evaluator, aggregate, &input, &params)
        }
        _ => fold(evaluator, aggregate, &input, &params),
    }
}

/// The labels that stay in the result.
fn grouping(aggregate: &Aggregate) -> Grouping {
    Grouping {
        without: aggregate.without,
        labels: aggregate.grouping.clone(),
    }
}

/// Steps that are gathered at once where a value depends on all of its group together.
const BLOCK: usize = 16;

/// Aggregations that make one value of each group.
fn fold(
    evaluator: &Evaluator<'_>,
    aggregate: &Aggregate,
    input: &Frame,
    params: &[f64],
) -> Result<Frame, EvalError> {
    // Values are added in the order of the rows: it is part of the answer.
    match aggregate.op {
        // The sum starts at the first value, not at zero: -0 alone stays -0.
        AggregateOp::Sum => accumulated(
            evaluator,
            aggregate,
            input,
            Sum::starting,
            |sum, v| sum.add(v),
            Sum::total,
        ),
        AggregateOp::Avg => accumulated(
            evaluator,
            aggregate,
            input,
            Mean::starting,
            |mean, v| mean.add(v),
            Mean::value,
        ),
        AggregateOp::Count => accumulated(
            evaluator,
            aggregate,
            input,
            |_| 1.0,
            |count, _| *count += 1.0,
            |count| count,
        ),
        AggregateOp::Group => {
            accumulated(evaluator, aggregate, input, |_| (), |(), _| (), |()| 1.0)
        }
        AggregateOp::Min => accumulated(
            evaluator,
            aggregate,
            input,
            |v| v,
            |a, b| *a = if *a > b || a.is_nan() { b } else { *a },
            |v| v,
        ),
        AggregateOp::Max => accumulated(
            evaluator,
            aggregate,
            input,
            |v| v,
            |a, b| *a = if *a < b || a.is_nan() { b } else { *a },
            |v| v,
        ),
        op => gathered(evaluator, aggregate, input, |step, values| {
            value(op, values, params.get(step).copied().unwrap_or(f64::NAN))
        }),
    }
}

/// Goes through each group series by series, with what is known so far for every step.
fn accumulated<S: Copy>(
    evaluator: &Evaluator<'_>,
    aggregate: &Aggregate,
    input: &Frame,
    first: impl Fn(f64) -> S,
    add: impl Fn(&mut S, f64),
    total: impl Fn(S) -> f64,
) -> Result<Frame, EvalError> {
    let groups = input.rows.groups(&grouping(aggregate));
    let mut out = Frame::absent(evaluator.query, input.steps, groups.labels.clone())?;
    evaluator
        .query
        .memory
        .take(input.steps.saturating_mul(size_of::<Option<S>>()))?;
    let mut states: Vec<Option<S>> = Vec::new();
    for group in 0..groups.labels.len() {
        evaluator.query.check()?;
        states.clear();
        states.resize_with(input.steps, || None);
        for row in groups.rows(group) {
            for (state, value) in states.iter_mut().zip(input.row(*row as usize)) {
                match state {
                    _ if is_absent(*value) => {}
                    Some(state) => add(state, *value),
                    None => *state = Some(first(*value)),
                }
            }
        }
        for (target, state) in out.row_mut(group).iter_mut().zip(&states) {
            *target = state.map_or_else(absent, &total);
        }
    }
    out.compact();
    Ok(out)
}

/// Gives `compute` all values of a group at a step.
fn gathered(
    evaluator: &Evaluator<'_>,
    aggregate: &Aggregate,
    input: &Frame,
    compute: impl Fn(usize, &mut [f64]) -> f64,
) -> Result<Frame, EvalError> {
    let groups = input.rows.groups(&grouping(aggregate));
    let mut out = Frame::absent(evaluator.query, input.steps, groups.labels.clone())?;
    let mut columns: [Vec<f64>; BLOCK] = Default::default();
    for group in 0..groups.labels.len() {
        for start in (0..input.steps).step_by(BLOCK) {
            evaluator.query.check()?;
            let end = input.steps.min(start + BLOCK);
            columns.iter_mut().for_each(Vec::clear);
            for row in groups.rows(group) {
                for (column, value) in columns
                    .iter_mut()
                    .zip(&input.row(*row as usize)[start..end])
                {
                    if !is_absent(*value) {
                        column.push(*value);
                    }
                }
            }
            for ((step, target), values) in (start..end)
                .zip(&mut out.row_mut(group)[start..end])
                .zip(&mut columns)
            {
                if !values.is_empty() {
                    *target = compute(step, values);
                }
            }
        }
    }
    out.compact();
    Ok(out)
}

fn value(op: AggregateOp, values: &mut [f64], param: f64) -> f64 {
    match op {
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
    let Some(param) = &aggregate.param else {
        return aggregate.span;
    };
    param.annotated_span(true)
}

/// The greatest parameter; NaN if one is.
fn greatest(params: &[f64]) -> f64 {
    params.iter().copied().fold(f64::NEG_INFINITY, |a, b| {
        if a.is_nan() || b.is_nan() {
            f64::NAN
        } else {
            a.max(b)
        }
    })
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
            return Err(EvalError::new(format!(
                "Scalar value {} overflows int64",
                format_float_g(*k)
            )));
        }
    }
    Ok(())
}

/// `topk`, `bottomk`, `limitk`: some of the series, as they are.
fn select(
    evaluator: &Evaluator<'_>,
    aggregate: &Aggregate,
    input: Frame,
    params: &[f64],
) -> Result<Frame, EvalError> {
    let steps = input.steps;
    let mut kept = Frame::absent(evaluator.query, steps, input.rows.clone())?;
    let mut order = Vec::new();
    let groups = input.rows.groups(&grouping(aggregate));
    let mut columns: [Vec<(usize, f64)>; BLOCK] = Default::default();
    let mut ranked: Vec<(usize, f64)> = Vec::new();
    // What is worst comes first: NaN, then the values that others push out.
    let worse = |a: &(usize, f64), b: &(usize, f64)| match aggregate.op {
        _ if a.1.is_nan() => true,
        AggregateOp::Topk => a.1 < b.1,
        _ => a.1 > b.1,
    };
    for group in 0..groups.labels.len() {
        for start in (0..params.len()).step_by(BLOCK) {
            evaluator.query.check()?;
            let end = params.len().min(start + BLOCK);
            columns.iter_mut().for_each(Vec::clear);
            for row in groups.rows(group).iter().map(|row| *row as usize) {
                for (column, value) in columns
                    .iter_mut()
                    .zip(&input.row(row)[start..end])
                    .filter(|(_, value)| !is_absent(**value))
                {
                    column.push((row, *value));
                }
            }
            for ((step, k), column) in (start..end).zip(&params[start..end]).zip(&columns) {
                let k = (*k).max(0.0) as usize;
                ranked.clear();
                if aggregate.op == AggregateOp::Limitk {
                    ranked.extend(column.iter().take(k));
                } else if k > 0 {
                    for sample in column {
                        if ranked.len() < k {
                            heap_push(&mut ranked, *sample, &worse);
                        } else if !sample.1.is_nan() && worse(&ranked[0], sample) {
                            ranked[0] = *sample;
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
        }
        order.extend_from_slice(&ranked);
    }
    // The order of an instant query is that of the values, group by group.
    if steps == 1 && evaluator.query.outer.count == 1 {
        let rows = order
            .iter()
            .map(|(row, _)| kept.rows[*row].clone())
            .collect();
        let values = order.iter().map(|(_, value)| *value).collect();
        return Ok(Frame {
            steps,
            rows,
            values,
            histograms: input.histograms,
        });
    }
    kept.histograms = input.histograms;
    kept.compact();
    Ok(kept)
}

/// A share of the series, chosen by a hash of their labels: `r` and `-(1-r)` are complementary.
fn limit_ratio(
    evaluator: &Evaluator<'_>,
    aggregate: &Aggregate,
    mut input: Frame,
    params: &[f64],
) -> Result<Frame, EvalError> {
    if params.iter().all(|r| *r == 0.0) {
        return Ok(Frame::new(input.steps));
    }
    let warn = |ratio: f64, cap: f64| {
        let text = format!(
            "PromQL warning: ratio value should be between -1 and 1, got {}, capping to {cap}",
            format_float_g(ratio)
        );
        evaluator
            .query
            .annotate(Severity::Warning, text, param_span(aggregate));
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
            let keep = if ratio >= 0.0 {
                share < ratio
            } else {
                share >= 1.0 + ratio
            };
            if !keep {
                *value = absent();
            }
        }
    }
    input.compact();
    Ok(input)
}

/// Prometheus's hash of a label set, so that the same series are chosen: XXH64 over each name and
/// value with its length before it.
fn sampling_hash(labels: &Labels) -> u64 {
    let mut bytes = Vec::new();
    for text in labels.iter().flat_map(|(name, value)| [name, value]) {
        match u8::try_from(text.len()) {
            Ok(length) if length < u8::MAX => bytes.push(length),
            _ => bytes.extend([
                u8::MAX,
                text.len() as u8,
                (text.len() >> 8) as u8,
                (text.len() >> 16) as u8,
            ]),
        }
        bytes.extend_from_slice(text.as_bytes());
    }
    xxhash_rust::xxh64::xxh64(&bytes, 0)
}

/// Counts equal values; the value becomes a label.
fn count_values(evaluator: &Evaluator<'_>, aggregate: &Aggregate) -> Result<Frame, EvalError> {
    let Some(param) = &aggregate.param else {
        return Err(EvalError::new("count_values needs a label name"));
    };
    let label = evaluator.string(param)?;
    if label.is_empty() {
        return Err(EvalError::new("invalid label name \"\""));
    }
    let input = evaluator.vector(&aggregate.expr)?;
    let mut by = grouping(aggregate);
    if !by.without {
        by.labels.push(label.clone());
    }
    let mut out = Frame::new(input.steps);
    let mut index: HashMap<Labels, usize, ahash::RandomState> = HashMap::default();
    for (row, labels) in input.rows.iter().enumerate() {
        evaluator.query.check()?;
        for (step, value) in input
            .row(row)
            .iter()
            .enumerate()
            .filter(|(_, v)| !is_absent(**v))
        {
            let text = input
                .histograms
                .get(*value)
                .map_or_else(|| plain(*value), |histogram| histogram.to_string());
            let labels = by.of(&labels.with(&label, &text));
            let target = match index.get(&labels) {
                Some(known) => *known,
                None => {
                    // Its values may be copied once as the frame grows.
                    evaluator.query.hold_cells(2, input.steps)?;
                    evaluator.query.memory.keep(labels.heap_size() + LABELS)?;
                    out.push(labels.clone());
                    index.insert(labels, out.rows.len() - 1);
                    out.rows.len() - 1
                }
            };
            let cell = &mut out.row_mut(target)[step];
            *cell = if is_absent(*cell) { 1.0 } else { *cell + 1.0 };
        }
    }
    Ok(out)
}

/// The shortest decimal digits, never an exponent.
fn plain(value: f64) -> String {
    if value.is_finite() {
        format!("{value}")
    } else {
        format_float(value)
    }
}
