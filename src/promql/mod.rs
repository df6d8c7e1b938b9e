//! PromQL: text to typed tree, tree to value.
//!
//! [`parse`] reads, checks and returns an [`Expr`]; its `Display` is Prometheus's canonical form. An [`Engine`] evaluates it over a
//! [`crate::store::Store`], samples that are native histograms included.

mod aggregate;
mod aggregate_native;
pub mod ast;
mod binary;
mod check;
mod depth;
mod engine;
mod eval;
mod frame;
pub mod functions;
mod histogram_description;
mod lexer;
mod literal;
mod memory;
mod operand;
mod order;
mod parser;
mod plan;
mod printer;
mod selector;
mod selector_syntax;
mod series_description;
mod span;
mod value;

pub use ast::{Expr, Span, ValueType};
pub use depth::{deep, wide};
pub use engine::Engine;
pub use memory::Memory;
pub use parser::{Foreign, ParseError, ParseOptions, choose_language, language, parse, parse_noting, parse_selector, parse_with};
pub use plan::{Marks, Plan, Results, Sharing};
pub use series_description::{SeriesDescription, SeriesValue, parse_metric, parse_series};
pub use value::{Annotation, EvalError, Evaluated, Interrupt, MatrixSeries, Severity, Value, VectorSample};
