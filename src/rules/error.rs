//! Why a rule has no result.

use crate::promql::{EvalError, ParseError};

/// Why a rule has no result, in Prometheus's words where it has some.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RuleError {
    /// A text is no expression.
    #[error(transparent)]
    Parse(#[from] ParseError),
    /// An expression has no value.
    #[error(transparent)]
    Query(#[from] EvalError),
    /// An expression has a value that rules cannot use.
    #[error("rule result is not a vector or scalar")]
    NotAVector,
    /// Two results have equal labels.
    #[error("vector contains metrics with the same labelset after applying {0} labels")]
    EqualLabels(RuleKind),
    /// There are more results than the group's limit.
    #[error("exceeded limit of {limit} with {found} {}", match kind { RuleKind::Recording => "series", RuleKind::Alerting => "alerts" })]
    Limit {
        /// The group's limit.
        limit: usize,
        /// Results.
        found: usize,
        /// The kind of the rule.
        kind: RuleKind,
    },
    /// A histogram has a bucket of fewer than no observations, as differences of histograms have
    /// them: Prometheus's storage refuses those.
    #[error(
        "{side} side: bucket number {bucket} has observation count of {count}: histogram has a bucket whose observation count is negative"
    )]
    NegativeBucket {
        /// `negative` or `positive`.
        side: &'static str,
        /// From 1.
        bucket: usize,
        /// The observations, as Go prints them.
        count: String,
    },
    /// The expression that says when an alert has recovered has no result.
    #[error("recover_expr: {0}")]
    Recovery(Box<RuleError>),
}

/// The kinds of rules there are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RuleKind {
    /// Writes the result as a series.
    Recording,
    /// Makes alerts of the result.
    Alerting,
}

impl std::fmt::Display for RuleKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            RuleKind::Recording => "rule",
            RuleKind::Alerting => "alert",
        })
    }
}
