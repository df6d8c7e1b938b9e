//! The engine: one expression at one instant, or at every step of a range.

use std::sync::Arc;
use std::time::Duration;

use super::eval::evaluator::{Evaluator, Query, Steps};
use super::eval::frame::{Frame, Node, is_absent};
use super::eval::memory::{LABELS, Memory, POINT};
use super::plan::Sharing;
use super::syntax::ast::{Expr, ValueType};
use super::value::{EvalError, Evaluated, Interrupt, MatrixSeries, Value, VectorSample};
use crate::model::time::millis;
use crate::model::{LabelSets, Labels, Timestamp};
use crate::store::Store;

/// Evaluates expressions within limits. Cheap to clone: a caller that wants other limits or its own
/// interrupt changes a clone.
#[derive(Clone, Debug)]
pub struct Engine {
    /// How far an instant selector looks back for a sample.
    pub lookback: Duration,
    /// Samples that one query may load.
    pub max_samples: usize,
    /// Step of a subquery that names none: the global evaluation interval.
    pub default_step: Duration,
    /// Ends a query from outside.
    pub interrupt: Option<Arc<Interrupt>>,
    /// Where the memory comes from; `None`: it is not counted.
    pub memory: Option<Memory>,
    /// Whether what the selectors select is kept for the next time, whatever the matchers: for
    /// expressions that are evaluated again and again.
    pub keeps_selections: bool,
    /// What other expressions of the same instant have computed.
    pub sharing: Option<Sharing>,
}

impl Default for Engine {
    fn default() -> Self {
        Engine {
            lookback: Duration::from_secs(300),
            max_samples: 50_000_000,
            default_step: Duration::from_secs(60),
            interrupt: None,
            memory: None,
            keeps_selections: true,
            sharing: None,
        }
    }
}

impl Engine {
    /// The value of `expr` at `at`.
    pub fn instant(
        &self,
        store: &Store,
        expr: &Expr,
        at: Timestamp,
    ) -> Result<Evaluated, EvalError> {
        let steps = Steps::new(at.0, at.0, 1);
        let query = Query::new(self, store, steps, at.0);
        query.load(0)?;
        let evaluator = Evaluator {
            query: &query,
            steps,
        };
        let value = if expr.value_type() == ValueType::Matrix {
            Value::Matrix(evaluator.matrix(expr)?)
        } else {
            match evaluator.eval(expr)? {
                Node::Scalar(values) => Value::Scalar(values.first().copied().unwrap_or(f64::NAN)),
                Node::String(text) => Value::String(text),
                Node::Vector(frame) => {
                    query
                        .memory
                        .take(frame.rows.len().saturating_mul(size_of::<VectorSample>()))?;
                    Value::Vector(instant_vector(frame))
                }
            }
        };
        Ok(query.evaluated(value))
    }

    /// The series that an expression, an instant vector, has a value for at `at`; a list that is
    /// shared with whatever reads the same series.
    pub fn series(
        &self,
        store: &Store,
        expr: &Expr,
        at: Timestamp,
    ) -> Result<LabelSets, EvalError> {
        let steps = Steps::new(at.0, at.0, 1);
        let query = Query::new(self, store, steps, at.0);
        let mut frame = Evaluator {
            query: &query,
            steps,
        }
        .vector(expr)?;
        frame.compact();
        Ok(frame.rows)
    }

    /// The value of `expr` at `start`, `start + step`, … up to `end`: always a matrix, sorted by
    /// labels.
    pub fn range(
        &self,
        store: &Store,
        expr: &Expr,
        start: Timestamp,
        end: Timestamp,
        step: Duration,
    ) -> Result<Evaluated, EvalError> {
        let kind = expr.value_type();
        if !matches!(kind, ValueType::Scalar | ValueType::Vector) {
            return Err(EvalError::RangeType(kind.documented()));
        }
        let steps = Steps::new(start.0, end.0, millis(step));
        if steps.count > self.max_samples {
            return Err(EvalError::TooManySamples);
        }
        let query = Query::new(self, store, steps, end.0);
        query.load(0)?;
        let whole = Evaluator {
            query: &query,
            steps,
        };
        let evaluator = whole.trimmed(expr).map_or(whole, |(trimmed, _)| trimmed);
        let steps = evaluator.steps;
        let frame = match evaluator.eval(expr)? {
            Node::Scalar(values) => {
                Frame::floats(steps.count, vec![Labels::empty()].into(), values)
            }
            Node::Vector(frame) => frame.merged()?,
            Node::String(_) => return Err(EvalError::RangeType("string")),
        };
        let mut series: Vec<MatrixSeries> = Vec::with_capacity(frame.rows.len());
        for (row, labels) in frame.rows.iter().enumerate() {
            let count = frame.row(row).iter().filter(|v| !is_absent(**v)).count();
            query.memory.take(count * POINT + LABELS)?;
            let mut points = Vec::with_capacity(count);
            let values = frame
                .row(row)
                .iter()
                .enumerate()
                .filter(|(_, v)| !is_absent(**v));
            points.extend(values.map(|(step, v)| (Timestamp(steps.at(step)), *v)));
            let mut histograms = Vec::new();
            if !frame.histograms.is_empty() {
                let native = |(at, value): &(Timestamp, f64)| {
                    Some((*at, Arc::clone(frame.histograms.get(*value)?)))
                };
                histograms.extend(points.iter().filter_map(native));
                points.retain(|(_, value)| frame.histograms.get(*value).is_none());
            }
            if !points.is_empty() || !histograms.is_empty() {
                series.push(MatrixSeries {
                    labels: labels.clone(),
                    points,
                    histograms,
                });
            }
        }
        series.sort_by(|a, b| a.labels.cmp(&b.labels));
        let held = series
            .iter()
            .map(|one| (one.points.len() + one.histograms.len()) * POINT + LABELS)
            .sum();
        drop(frame);
        query.memory.settle(0, held)?;
        Ok(query.evaluated(Value::Matrix(series)))
    }
}

fn instant_vector(frame: Frame) -> Vec<VectorSample> {
    let samples = frame
        .rows
        .iter()
        .zip(frame.values)
        .filter(|(_, v)| !is_absent(*v));
    let sample = |(labels, value): (&Labels, f64)| {
        let histogram = frame.histograms.get(value).cloned();
        VectorSample {
            labels: labels.clone(),
            value: if histogram.is_some() { 0.0 } else { value },
            histogram,
        }
    };
    samples.map(sample).collect()
}
