//! The only type checker: refuses what can be written but not evaluated, in the order and the words
//! of Prometheus.
//!
//! It also settles what the grammar leaves open: set operators match many to many, and only two
//! vectors are matched at all.

use super::ast::{
    Aggregate, Binary, Call, Cardinality, Expr, Span, UnaryOp, ValueType, VectorSelector,
};
use super::depth::deep;
use super::fault::Fault;
use crate::model::METRIC_NAME;
use crate::promql::functions::Variadic;

/// Checks `expr`, read from `text`, and everything below it; returns its type.
pub(in crate::promql) fn check(expr: &mut Expr, text: &str) -> Result<ValueType, Fault> {
    deep(|| check_node(expr, text))
}

fn check_node(expr: &mut Expr, text: &str) -> Result<ValueType, Fault> {
    let span = expr.span();
    match expr {
        Expr::Number(_) => Ok(ValueType::Scalar),
        Expr::String(_) => Ok(ValueType::String),
        Expr::VectorSelector(selector) => check_selector(selector).map(|()| ValueType::Vector),
        Expr::MatrixSelector(matrix) => {
            check_selector(&matrix.selector).map(|()| ValueType::Matrix)
        }
        Expr::Subquery(subquery) => match check(&mut subquery.expr, text)? {
            ValueType::Vector => Ok(ValueType::Matrix),
            other => fail(
                span,
                format!(
                    "subquery is only allowed on instant vector, got {} instead",
                    other.as_str()
                ),
            ),
        },
        Expr::Paren(paren) => check(&mut paren.expr, text),
        Expr::Unary(unary) => match check(&mut unary.expr, text)? {
            kind @ (ValueType::Scalar | ValueType::Vector) => Ok(kind),
            other => {
                debug_assert!(matches!(unary.op, UnaryOp::Plus | UnaryOp::Minus));
                let got = other.documented();
                fail(
                    span,
                    format!(
                        "unary expression only allowed on expressions of type scalar or instant vector, got {got:?}"
                    ),
                )
            }
        },
        Expr::Aggregate(aggregate) => check_aggregate(aggregate, text),
        Expr::Call(call) => check_call(call, text),
        Expr::Binary(binary) => check_binary(binary, text),
    }
}

fn fail<T>(span: Span, message: impl std::fmt::Display) -> Result<T, Fault> {
    Err(Fault::new(span, message))
}

fn check_selector(selector: &VectorSelector) -> Result<(), Fault> {
    if !selector.name.is_empty() {
        // The last matcher is the one for the name before the braces.
        let others = &selector.matchers[..selector.matchers.len().saturating_sub(1)];
        return match others.iter().find(|m| m.name == METRIC_NAME) {
            Some(m) => fail(
                selector.span,
                format!(
                    "metric name must not be set twice: {:?} or {:?}",
                    selector.name, m.value
                ),
            ),
            None => Ok(()),
        };
    }
    if !selector.may_match_all && selector.matchers.iter().all(|m| m.matches("")) {
        return fail(
            selector.span,
            "vector selector must contain at least one non-empty matcher",
        );
    }
    Ok(())
}

fn check_aggregate(aggregate: &mut Aggregate, text: &str) -> Result<ValueType, Fault> {
    expect(
        &mut aggregate.expr,
        ValueType::Vector,
        text,
        "aggregation expression",
    )?;
    if let (Some(param), Some(wanted)) = (&mut aggregate.param, aggregate.op.param()) {
        expect(param, wanted, text, "aggregation parameter")?;
    }
    Ok(ValueType::Vector)
}

fn expect(expr: &mut Expr, wanted: ValueType, text: &str, position: &str) -> Result<(), Fault> {
    let got = check(expr, text)?;
    if got == wanted {
        return Ok(());
    }
    fail(
        expr.span(),
        format!(
            "expected type {} in {position}, got {}",
            wanted.documented(),
            got.documented()
        ),
    )
}

fn check_call(call: &mut Call, text: &str) -> Result<ValueType, Fault> {
    let (function, given) = (call.function, call.args.len());
    let (name, fewest) = (function.name, function.min_args());
    match (function.variadic, function.max_args()) {
        (Variadic::Fixed, _) if given != fewest => {
            return fail(
                call.span,
                format!("expected {fewest} argument(s) in call to {name:?}, got {given}"),
            );
        }
        (_, _) if given < fewest => {
            return fail(
                call.span,
                format!("expected at least {fewest} argument(s) in call to {name:?}, got {given}"),
            );
        }
        (_, Some(most)) if given > most => {
            return fail(
                call.span,
                format!("expected at most {most} argument(s) in call to {name:?}, got {given}"),
            );
        }
        _ => {}
    }
    if name == "info" {
        check_info(call)?;
    }
    let position = format!("call to function {name:?}");
    for (index, arg) in call.args.iter_mut().enumerate() {
        let Some(wanted) = function.args.get(index).or(function.args.last()) else {
            break;
        };
        expect(arg, *wanted, text, &position)?;
    }
    Ok(function.returns)
}

/// The second argument of `info` selects by labels only, and may then match everything.
fn check_info(call: &mut Call) -> Result<(), Fault> {
    let span = call.span;
    let Some(selector) = call.args.get_mut(1) else {
        return Ok(());
    };
    let (got, position) = (selector.value_type(), selector.span());
    if got != ValueType::Vector {
        return fail(
            span,
            format!(
                "expected type instant vector in call to function \"info\", got {}",
                got.documented()
            ),
        );
    }
    match selector {
        Expr::VectorSelector(selector) if selector.name.is_empty() => {
            selector.may_match_all = true;
            Ok(())
        }
        Expr::VectorSelector(_) => fail(
            position,
            "expected label selectors only, got vector selector instead",
        ),
        _ => fail(position, "expected label selectors only"),
    }
}

fn check_binary(binary: &mut Binary, text: &str) -> Result<ValueType, Fault> {
    let left = check(&mut binary.lhs, text)?;
    let right = check(&mut binary.rhs, text)?;
    let (op, span) = (binary.op, binary.span);
    let operator = operator_span(binary, text);
    let both = |kind| left == kind && right == kind;
    if binary.return_bool && !op.is_comparison() {
        return fail(
            operator,
            "bool modifier can only be used on comparison operators",
        );
    }
    if op.is_comparison() && !binary.return_bool && both(ValueType::Scalar) {
        return fail(
            operator,
            "comparisons between scalars must use BOOL modifier",
        );
    }
    let Some(matching) = &mut binary.matching else {
        return Ok(binary_type(left, right));
    };
    if op.is_set() && matching.cardinality == Cardinality::OneToOne {
        matching.cardinality = Cardinality::ManyToMany;
    }
    if let Some(label) = matching
        .labels
        .iter()
        .find(|label| matching.on && matching.include.contains(label))
    {
        return fail(
            operator,
            format!("label {label:?} must not occur in ON and GROUP clause at once"),
        );
    }
    for (kind, operand) in [(left, &binary.lhs), (right, &binary.rhs)] {
        if !matches!(kind, ValueType::Scalar | ValueType::Vector) {
            return fail(
                operand.span(),
                "binary expression must contain only scalar and instant vector types",
            );
        }
    }
    if !both(ValueType::Vector) {
        if !matching.labels.is_empty() {
            return fail(span, "vector matching only allowed between instant vectors");
        }
        if op.is_set() {
            return fail(
                span,
                format!("set operator \"{op}\" not allowed in binary scalar expression"),
            );
        }
        binary.matching = None;
    } else if op.is_set() && matching.cardinality != Cardinality::ManyToMany {
        return fail(span, format!("no grouping allowed for \"{op}\" operation"));
    }
    Ok(binary_type(left, right))
}

fn binary_type(left: ValueType, right: ValueType) -> ValueType {
    if left == ValueType::Scalar && right == ValueType::Scalar {
        ValueType::Scalar
    } else {
        ValueType::Vector
    }
}

/// The operator's position: from the end of the left operand, blanks skipped.
fn operator_span(binary: &Binary, text: &str) -> Span {
    let end = binary.lhs.span().end;
    let blanks = text.get(end..).map_or(0, |rest| {
        rest.len() - rest.trim_start_matches([' ', '\t', '\n', '\r']).len()
    });
    Span::new(end + blanks, binary.rhs.span().start)
}
