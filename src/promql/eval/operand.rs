//! One operation on two samples, floats or native histograms.

use std::sync::Arc;

use super::binary::{compared, computed};
use crate::model::NativeHistogram;
use crate::promql::syntax::ast::BinaryOp;

/// A sample on one side of an operator.
#[derive(Clone, Copy)]
pub(in crate::promql) enum Operand<'a> {
    Float(f64),
    Histogram(&'a Arc<NativeHistogram>),
}

impl Operand<'_> {
    fn type_name(self) -> &'static str {
        match self {
            Operand::Float(_) => "float",
            Operand::Histogram(_) => "histogram",
        }
    }
}

/// What an operator makes of two samples.
pub(in crate::promql) enum Outcome {
    Float(f64),
    Histogram(NativeHistogram),
    /// Whether a comparison holds.
    Truth(bool),
}

/// Why an operator makes nothing of two samples.
#[derive(Clone, Copy)]
pub(in crate::promql) enum Mismatch {
    /// It does not take these types.
    Types(&'static str, &'static str),
    /// The buckets of the histograms do not meet.
    Layout,
}

/// `a op b`.
pub(in crate::promql) fn operate(
    op: BinaryOp,
    a: Operand<'_>,
    b: Operand<'_>,
) -> Result<Outcome, Mismatch> {
    let changed = |histogram: &NativeHistogram, change: &dyn Fn(&mut NativeHistogram)| {
        let mut result = histogram.clone();
        change(&mut result);
        Ok(Outcome::Histogram(result.compacted()))
    };
    match (a, b, op) {
        (Operand::Float(a), Operand::Float(b), op) => {
            Ok(compared(op, a, b)
                .map_or_else(|| Outcome::Float(computed(op, a, b)), Outcome::Truth))
        }
        (Operand::Histogram(histogram), Operand::Float(factor), BinaryOp::Mul)
        | (Operand::Float(factor), Operand::Histogram(histogram), BinaryOp::Mul) => {
            changed(histogram, &|result| result.multiply(factor))
        }
        (Operand::Histogram(histogram), Operand::Float(divisor), BinaryOp::Div) => {
            changed(histogram, &|result| result.divide(divisor))
        }
        (Operand::Histogram(a), Operand::Histogram(b), BinaryOp::Add | BinaryOp::Sub) => {
            let mut result = NativeHistogram::clone(a);
            let met = if op == BinaryOp::Add {
                result.add(b)
            } else {
                result.subtract(b)
            };
            met.map(|()| Outcome::Histogram(result.compacted()))
                .map_err(|_| Mismatch::Layout)
        }
        (Operand::Histogram(a), Operand::Histogram(b), BinaryOp::Equal) => {
            Ok(Outcome::Truth(a == b))
        }
        (Operand::Histogram(a), Operand::Histogram(b), BinaryOp::NotEqual) => {
            Ok(Outcome::Truth(a != b))
        }
        (a, b, _) => Err(Mismatch::Types(a.type_name(), b.type_name())),
    }
}
