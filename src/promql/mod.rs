//! PromQL: text to typed tree, tree to value.
//!
//! [`parse`] reads, checks and returns an [`Expr`]; its `Display` is Prometheus's canonical form.

pub mod ast;
pub mod functions;
mod parser;

pub use ast::{Expr, Span, ValueType};
pub use parser::{ParseError, ParseOptions, parse, parse_with};
