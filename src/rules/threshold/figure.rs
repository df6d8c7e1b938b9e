//! The figure of a rule: the constant that decides whether its expression holds.

use crate::promql::Expr;
use crate::promql::syntax::ast::{Binary, BinaryOp, NumberLiteral};

/// A comparison with a constant.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Comparison {
    /// The operator; the constant stands on its right.
    pub op: BinaryOp,
    /// The constant.
    pub value: f64,
}

/// The comparisons that decide: of `a > 1 and b > 2` the first, of `a > 1 or b > 1` both, of
/// `a > b` none.
pub fn comparisons(expr: &Expr) -> Vec<Comparison> {
    let mut found = Vec::new();
    // Looking must not need another walk that could differ from the one that writes.
    visit(&mut expr.clone(), &mut |op, right| {
        found.extend(constant(right).map(|value| Comparison { op, value }))
    });
    found
}

/// Puts another constant into each of them.
pub(super) fn replace(expr: &mut Expr, value: f64) {
    visit(expr, &mut |_, right| {
        *right = Expr::Number(NumberLiteral {
            value,
            duration: false,
            span: right.span(),
        })
    });
}

fn visit(expr: &mut Expr, each: &mut impl FnMut(BinaryOp, &mut Expr)) {
    match expr {
        Expr::Paren(paren) => visit(&mut paren.expr, each),
        Expr::Binary(Binary {
            op: BinaryOp::And | BinaryOp::Unless,
            lhs,
            ..
        }) => visit(lhs, each),
        Expr::Binary(Binary {
            op: BinaryOp::Or,
            lhs,
            rhs,
            ..
        }) => {
            visit(lhs, each);
            visit(rhs, each);
        }
        Expr::Binary(Binary { op, rhs, .. }) if op.is_comparison() && constant(rhs).is_some() => {
            each(*op, rhs)
        }
        _ => {}
    }
}

/// The value of an expression of numbers alone, such as `30 * 86400`.
fn constant(expr: &Expr) -> Option<f64> {
    match expr.without_parens() {
        Expr::Number(number) => Some(number.value),
        Expr::Binary(Binary {
            op: BinaryOp::Mul,
            lhs,
            rhs,
            ..
        }) => Some(constant(lhs)? * constant(rhs)?),
        _ => None,
    }
}

/// Every range of the expression, for reading or writing.
pub(super) fn ranges(expr: &mut Expr, each: &mut impl FnMut(&mut std::time::Duration)) {
    match expr {
        Expr::MatrixSelector(matrix) => each(&mut matrix.range),
        Expr::Subquery(subquery) => {
            each(&mut subquery.range);
            ranges(&mut subquery.expr, each);
        }
        Expr::Call(call) => call
            .args
            .iter_mut()
            .for_each(|argument| ranges(argument, each)),
        Expr::Aggregate(aggregate) => {
            aggregate
                .param
                .iter_mut()
                .for_each(|param| ranges(param, each));
            ranges(&mut aggregate.expr, each);
        }
        Expr::Binary(binary) => {
            ranges(&mut binary.lhs, each);
            ranges(&mut binary.rhs, each);
        }
        Expr::Unary(unary) => ranges(&mut unary.expr, each),
        Expr::Paren(paren) => ranges(&mut paren.expr, each),
        Expr::Number(_) | Expr::String(_) | Expr::VectorSelector(_) => {}
    }
}
