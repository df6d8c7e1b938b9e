//! What rules stand on: something that answers expressions and takes samples.

use std::time::Duration;

use crate::model::{Labels, Sample, Timestamp};
use crate::promql::{Expr, Sharing};

/// A series of a range query.
pub type RangeSeries = (Labels, Vec<(Timestamp, f64)>);

/// Answers expressions at an instant and takes samples: the engine with its store, and the store of a rule test.
pub trait Backend: Send + Sync {
    /// The instant vector of `expr` at `at`; a scalar is one sample without labels. The error is a text for people.
    fn query(&self, expr: &Expr, at: Timestamp) -> Result<Vec<(Labels, f64)>, String>;

    /// The same, with what other rules of this instant have computed; the answer is equal.
    fn query_sharing(&self, expr: &Expr, at: Timestamp, sharing: Sharing) -> Result<Vec<(Labels, f64)>, String> {
        let _ = sharing;
        self.query(expr, at)
    }

    /// The same for an expression in a template.
    fn query_text(&self, text: &str, at: Timestamp) -> Result<Vec<(Labels, f64)>, String>;

    /// The values of `expr` from `from` to `to`, a `step` apart; none where nobody draws pictures.
    fn range(&self, _expr: &Expr, _from: Timestamp, _to: Timestamp, _step: Duration) -> Result<Vec<RangeSeries>, String> {
        Ok(Vec::new())
    }

    /// Stores samples at `at`; they are visible to the next query. What is refused is counted there.
    fn append(&self, at: Timestamp, samples: &[Sample]);
}
