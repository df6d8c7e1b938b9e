//! A mistake in an expression, before its line and column are known.

use std::fmt;

use super::ast::Span;

/// A mistake before its line and column are known.
#[derive(Debug)]
pub(in crate::promql) struct Fault {
    pub span: Span,
    pub message: String,
}

impl Fault {
    pub fn new(span: Span, message: impl fmt::Display) -> Self {
        Fault {
            span,
            message: message.to_string(),
        }
    }
}
