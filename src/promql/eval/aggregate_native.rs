//! Sums and means of groups with native histograms in them, and the annotations of aggregations
//! that leave histograms out.

use super::evaluator::Evaluator;
use super::frame::{Frame, is_absent};
use super::memory::histogram_bytes;
use crate::model::{Grouping, NativeHistogram};
use crate::promql::functions::mixed::{add_to_mean, incompatible};
use crate::promql::functions::over_time::{Mean, Sum};
use crate::promql::syntax::ast::{Aggregate, AggregateOp};
use crate::promql::value::{EvalError, Severity};

/// What is known of one group at one step.
#[derive(Default)]
struct State {
    floats: usize,
    sum: Option<Sum>,
    mean: Option<Mean>,
    histogram: Option<NativeHistogram>,
    /// The histogram stands for some: the group began with a float, and has no value in the end.
    hollow: bool,
    /// Samples of both kinds.
    count: f64,
    /// Histograms that do not go together: nothing more is looked at.
    failed: bool,
}

/// `sum` and `avg` of floats or of histograms; a group of both has a warning and no value.
pub(in crate::promql) fn combine(
    evaluator: &Evaluator<'_>,
    aggregate: &Aggregate,
    grouping: &Grouping,
    input: &Frame,
) -> Result<Frame, EvalError> {
    let span = aggregate.expr.span();
    let warn = |text: String| evaluator.query.annotate(Severity::Warning, text, span);
    let groups = input.rows.groups(grouping);
    let mut out = Frame::absent(evaluator.query, input.steps, groups.labels.clone())?;
    for group in 0..groups.labels.len() {
        evaluator.query.check()?;
        for step in 0..input.steps {
            let mut state = State::default();
            for row in groups.rows(group).iter().map(|row| *row as usize) {
                let value = input.at(row, step);
                if is_absent(value) || state.failed {
                    continue;
                }
                state.count += 1.0;
                let Some(histogram) = input.histograms.get(value) else {
                    state.add_float(value);
                    continue;
                };
                let met = match &mut state.histogram {
                    None => {
                        state.hollow = state.floats > 0;
                        state.histogram = Some(NativeHistogram::clone(histogram));
                        Ok(())
                    }
                    Some(_) if state.hollow => Ok(()),
                    Some(sum) if aggregate.op == AggregateOp::Sum => sum.add(histogram),
                    Some(mean) => add_to_mean(mean, state.count, histogram),
                };
                if let Err(reason) = met {
                    warn(incompatible(reason, input.rows[row].metric_name()));
                    state.failed = true;
                }
            }
            let cell = group * input.steps + step;
            match state.histogram {
                Some(_) if state.floats > 0 => {
                    warn("PromQL warning: encountered a mix of histograms and floats for aggregation".into());
                }
                Some(_) if state.failed => {}
                Some(histogram) => {
                    let histogram = histogram.compacted();
                    evaluator.query.memory.take(histogram_bytes(&histogram))?;
                    out.values[cell] = out.histograms.add(histogram);
                }
                None => {
                    let total = if aggregate.op == AggregateOp::Sum {
                        state.sum.map(Sum::total)
                    } else {
                        state.mean.map(Mean::value)
                    };
                    out.values[cell] = total.unwrap_or(out.values[cell]);
                }
            }
        }
    }
    out.compact();
    Ok(out)
}

impl State {
    fn add_float(&mut self, value: f64) {
        self.floats += 1;
        match (&mut self.sum, &mut self.mean) {
            (Some(sum), Some(mean)) => {
                sum.add(value);
                mean.add(value);
            }
            _ => {
                self.sum = Some(Sum::starting(value));
                self.mean = Some(Mean::starting(value));
            }
        }
    }
}

/// Leaves the histograms out of what is aggregated, and says so.
pub(in crate::promql) fn ignore(
    evaluator: &Evaluator<'_>,
    aggregate: &Aggregate,
    input: &mut Frame,
) {
    if !input.drop_histograms() {
        return;
    }
    let span = match aggregate.op {
        AggregateOp::Topk | AggregateOp::Bottomk => aggregate.span,
        _ => aggregate.expr.span(),
    };
    evaluator.query.annotate(
        Severity::Info,
        format!(
            "PromQL info: ignored histogram in {} aggregation",
            aggregate.op
        ),
        span,
    );
    input.compact();
}
