//! What an evaluation gives: values, annotations, errors.
//!
//! Texts are Prometheus's own, so that clients which look for them keep working.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use super::syntax::ast::{Span, ValueType};
use crate::model::{Labels, NativeHistogram, OverBudget, Reservation, Timestamp};

/// One sample of an instant vector.
#[derive(Clone, Debug, PartialEq)]
pub struct VectorSample {
    /// The series.
    pub labels: Labels,
    /// The value; 0 where it is a native histogram.
    pub value: f64,
    /// The native histogram, where it is one.
    pub histogram: Option<Arc<NativeHistogram>>,
}

/// A float.
impl From<(Labels, f64)> for VectorSample {
    fn from((labels, value): (Labels, f64)) -> Self {
        VectorSample {
            labels,
            value,
            histogram: None,
        }
    }
}

/// One series of a matrix.
#[derive(Clone, Debug, PartialEq)]
pub struct MatrixSeries {
    /// The series.
    pub labels: Labels,
    /// Its floats, ascending in time.
    pub points: Vec<(Timestamp, f64)>,
    /// Its native histograms, ascending in time.
    pub histograms: Vec<(Timestamp, Arc<NativeHistogram>)>,
}

/// The value of an expression.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A number at the instant of the evaluation.
    Scalar(f64),
    /// A text.
    String(String),
    /// At most one sample per series, all at the instant of the evaluation.
    Vector(Vec<VectorSample>),
    /// Samples of each series over time; of a range query sorted by labels.
    Matrix(Vec<MatrixSeries>),
}

impl Value {
    /// The type, as the HTTP API names it.
    pub fn value_type(&self) -> ValueType {
        match self {
            Value::Scalar(_) => ValueType::Scalar,
            Value::String(_) => ValueType::String,
            Value::Vector(_) => ValueType::Vector,
            Value::Matrix(_) => ValueType::Matrix,
        }
    }
}

/// How serious an [`Annotation`] is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Severity {
    /// The result is probably not what was meant.
    Warning,
    /// The result may not be what was meant.
    Info,
}

/// An annotation of a result.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Annotation {
    /// How serious it is.
    pub severity: Severity,
    /// The text, without position.
    pub message: String,
    /// The position in the query it speaks of.
    pub span: Span,
}

impl Annotation {
    /// The text as Prometheus shows it, with line and column in `query`.
    pub fn render(&self, query: &str) -> String {
        let before = query
            .get(..self.span.start.min(query.len()))
            .unwrap_or(query);
        let line = before.matches('\n').count() + 1;
        let column = before
            .rfind('\n')
            .map_or(self.span.start, |newline| self.span.start - newline - 1)
            + 1;
        format!("{} ({line}:{column})", self.message)
    }
}

/// The outcome of an evaluation.
#[derive(Clone, Debug)]
pub struct Evaluated {
    /// The value.
    pub value: Value,
    /// Annotations, each once.
    pub annotations: Vec<Annotation>,
    /// Samples that were read, in all.
    pub samples_read: usize,
    /// Most samples that were held at once.
    pub samples_held: usize,
    /// What the value holds of the memory of all queries, given back with it.
    pub memory: Option<Arc<Reservation>>,
}

impl Evaluated {
    /// The annotations of one severity with their position in `query`.
    pub fn annotations(&self, severity: Severity, query: &str) -> Vec<String> {
        self.annotations
            .iter()
            .filter(|a| a.severity == severity)
            .map(|a| a.render(query))
            .collect()
    }
}

/// Why an expression has no value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EvalError {
    /// The deadline passed.
    #[error("query timed out in expression evaluation")]
    TimedOut,
    /// The client has gone.
    #[error("query was canceled in expression evaluation")]
    Canceled,
    /// More samples than the engine may hold at once.
    #[error("query processing would load too many samples into memory in query execution")]
    TooManySamples,
    /// More memory than one query may hold.
    #[error("query processing would load too many samples into memory in query execution: {0}")]
    TooMuchMemory(OverBudget),
    /// Others hold the memory that queries may have together.
    #[error("{0}")]
    NoMemory(OverBudget),
    /// The data do not fit the expression.
    #[error("{0}")]
    Execution(String),
    /// A range query of an expression that is neither scalar nor instant vector.
    #[error("invalid expression type \"{0}\" for range query, must be Scalar or instant Vector")]
    RangeType(&'static str),
    /// Stored samples cannot be read.
    #[error("expanding series: {0}")]
    Storage(#[from] crate::store::ChunkError),
}

impl From<OverBudget> for EvalError {
    fn from(refusal: OverBudget) -> Self {
        match refusal {
            OverBudget::TooLarge(_) => EvalError::TooMuchMemory(refusal),
            OverBudget::Full { .. } => EvalError::NoMemory(refusal),
        }
    }
}

impl EvalError {
    pub(super) fn new(text: impl Into<String>) -> Self {
        EvalError::Execution(text.into())
    }
}

/// A flag through which another thread ends an evaluation.
#[derive(Debug, Default)]
pub struct Interrupt(AtomicU8);

impl Interrupt {
    /// A flag that is not raised.
    pub const fn new() -> Self {
        Interrupt(AtomicU8::new(0))
    }

    /// Ends the evaluation: the client has gone.
    pub fn cancel(&self) {
        self.0.store(1, Ordering::Relaxed);
    }

    /// Ends the evaluation: its time is up.
    pub fn time_out(&self) {
        self.0.store(2, Ordering::Relaxed);
    }

    /// Errs when the evaluation shall end.
    pub fn check(&self) -> Result<(), EvalError> {
        match self.0.load(Ordering::Relaxed) {
            0 => Ok(()),
            1 => Err(EvalError::Canceled),
            _ => Err(EvalError::TimedOut),
        }
    }
}
