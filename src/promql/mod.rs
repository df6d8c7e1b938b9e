//! PromQL: text to typed tree, tree to value.
//!
//! [`parse`] reads, checks and returns an [`Expr`]; its `Display` is Prometheus's canonical form. An [`Engine`] evaluates it over a
//! [`crate::store::Store`]. Native histograms are not stored, and so not evaluated.

mod aggregate;
pub mod ast;
mod binary;
mod check;
mod engine;
mod eval;
mod frame;
pub mod functions;
mod lexer;
mod literal;
mod order;
mod parser;
mod plan;
mod printer;
mod selector;
mod selector_syntax;
mod series_description;
mod value;

pub use ast::{Expr, Span, ValueType};
pub use engine::Engine;
pub use parser::{ParseError, ParseOptions, parse, parse_selector, parse_with};
pub use plan::{Marks, Plan, Results, Sharing};
pub use series_description::{SeriesDescription, parse_metric, parse_series};
pub use value::{Annotation, EvalError, Evaluated, Interrupt, MatrixSeries, Severity, Value, VectorSample};
