//! PromQL: text to typed tree, tree to value.
//!
//! [`parse`] reads, checks and returns an [`Expr`]; its `Display` is Prometheus's canonical form.
//! An [`Engine`] evaluates it over a [`crate::store::Store`], samples that are native histograms
//! included.

mod engine;
mod eval;
pub mod functions;
mod notation;
mod plan;
pub mod syntax;
mod value;

pub use engine::Engine;
pub use eval::memory::Memory;
pub use notation::series_description::{
    SeriesDescription, SeriesValue, parse_metric, parse_series,
};
pub use plan::{Marks, Plan, Results, Sharing};
pub use syntax::ast::{Expr, Span, ValueType};
pub use syntax::depth::{deep, wide};
pub use syntax::parser::{
    Foreign, ParseError, ParseOptions, choose_language, language, parse, parse_noting,
    parse_selector, parse_with,
};
pub use value::{
    Annotation, EvalError, Evaluated, Interrupt, MatrixSeries, Severity, Value, VectorSample,
};
