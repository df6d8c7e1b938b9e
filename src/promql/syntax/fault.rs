//! A mistake in an expression, before its line and column are known.

use super::ast::Span;

/// A mistake before its line and column are known.
#[derive(Debug)]
pub(in crate::promql) struct Fault {
    pub span: Span,
    pub message: String,
}

impl Fault {
    pub fn new(span: Span, message: impl Into<String>) -> Self {
        Fault {
            span,
            message: message.into(),
        }
    }
}
