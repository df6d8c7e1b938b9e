//! PromQL: text to typed tree, tree to value.
//!
//! [`parse`] reads, checks and returns an [`Expr`]; its `Display` is Prometheus's canonical form.

pub mod ast;
mod check;
pub mod functions;
mod lexer;
mod literal;
mod parser;
mod printer;
mod selector_syntax;

pub use ast::{Expr, Span, ValueType};
pub use parser::{ParseError, ParseOptions, parse, parse_selector, parse_with};
