//! What rules stand on: something that answers expressions and takes samples.

use crate::model::{Labels, Sample, Timestamp};
use crate::promql::{Expr, Sharing};

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

    /// Stores samples at `at`; they are visible to the next query. What is refused is counted there.
    fn append(&self, at: Timestamp, samples: &[Sample]);
}
