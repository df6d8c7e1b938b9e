//! What rules stand on: something that answers expressions and takes samples.

use std::time::Duration;

use super::error::RuleError;
use crate::model::{HistogramSample, LabelSets, Labels, Sample, Timestamp};
use crate::promql::{Expr, Sharing, Value, VectorSample};

/// A series of a range query.
pub type RangeSeries = (Labels, Vec<(Timestamp, f64)>);

/// What an expression gives.
pub type Hits = Result<Vec<VectorSample>, RuleError>;

/// The samples of a value; a scalar is one sample without labels.
pub fn hits(value: Value) -> Hits {
    match value {
        Value::Vector(samples) => Ok(samples),
        Value::Scalar(value) => Ok(vec![(Labels::empty(), value).into()]),
        Value::String(_) | Value::Matrix(_) => Err(RuleError::NotAVector),
    }
}

/// Answers expressions at an instant and takes samples: the engine with its store, and the store of
/// a rule test.
pub trait Backend: Send + Sync {
    /// The instant vector of `expr` at `at`; a scalar is one sample without labels.
    fn query(&self, expr: &Expr, at: Timestamp) -> Hits;

    /// The same, with what other rules of this instant have computed; the answer is equal.
    fn query_sharing(&self, expr: &Expr, at: Timestamp, sharing: Sharing) -> Hits {
        let _ = sharing;
        self.query(expr, at)
    }

    /// The series that `expr` has a result for, as a list that others may share.
    fn series(&self, expr: &Expr, at: Timestamp) -> Result<LabelSets, RuleError> {
        Ok(self
            .query(expr, at)?
            .into_iter()
            .map(|sample| sample.labels)
            .collect())
    }

    /// The same for an expression in a template.
    fn query_text(&self, text: &str, at: Timestamp) -> Hits;

    /// The values of `expr` from `from` to `to`, a `step` apart; none where nobody draws pictures.
    fn range(
        &self,
        _expr: &Expr,
        _from: Timestamp,
        _to: Timestamp,
        _step: Duration,
    ) -> Result<Vec<RangeSeries>, RuleError> {
        Ok(Vec::new())
    }

    /// Stores samples at `at`; they are visible to the next query. What is refused is counted
    /// there.
    fn append(&self, at: Timestamp, samples: &[Sample]);

    /// The same for native histograms.
    fn append_histograms(&self, _at: Timestamp, _samples: &[HistogramSample]) {}
}
