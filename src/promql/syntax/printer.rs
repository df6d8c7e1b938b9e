//! The canonical text of an expression, as Prometheus prints it: one line, parentheses as written,
//! matchers sorted, `@` before `offset`.

use std::fmt::{self, Display, Formatter, Write};
use std::time::Duration;

use super::ast::{
    Aggregate, At, Binary, Cardinality, Expr, Matching, NumberLiteral, Subquery, UnaryOp,
    VectorSelector,
};
use super::depth::deep;
use crate::model::text::{is_legacy_metric_name, quote};
use crate::model::{METRIC_NAME, MatchOp, format_duration};

impl Display for Expr {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        deep(|| match self {
            Expr::Number(number) => write_number(f, number),
            Expr::String(string) => f.write_str(&quote(&string.value)),
            Expr::VectorSelector(selector) => {
                write_selector(f, selector)?;
                write_modifiers(f, selector.at, selector.offset)
            }
            Expr::MatrixSelector(matrix) => {
                write_selector(f, &matrix.selector)?;
                write!(f, "[{}]", format_duration(matrix.range))?;
                write_modifiers(f, matrix.selector.at, matrix.selector.offset)
            }
            Expr::Subquery(subquery) => write_subquery(f, subquery),
            Expr::Call(call) => {
                write!(f, "{}(", call.function.name)?;
                for (index, arg) in call.args.iter().enumerate() {
                    f.write_str(if index > 0 { ", " } else { "" })?;
                    arg.fmt(f)?;
                }
                f.write_char(')')
            }
            Expr::Aggregate(aggregate) => write_aggregate(f, aggregate),
            Expr::Binary(binary) => write_binary(f, binary),
            Expr::Unary(unary) => {
                f.write_char(if unary.op == UnaryOp::Minus { '-' } else { '+' })?;
                unary.expr.fmt(f)
            }
            Expr::Paren(paren) => {
                f.write_char('(')?;
                paren.expr.fmt(f)?;
                f.write_char(')')
            }
        })
    }
}

fn write_number(f: &mut Formatter<'_>, number: &NumberLiteral) -> fmt::Result {
    if number.duration {
        let sign = if number.value < 0.0 { "-" } else { "" };
        return write!(
            f,
            "{sign}{}",
            format_duration(Duration::from_nanos((number.value.abs() * 1e9) as u64))
        );
    }
    f.write_str(&plain_float(number.value))
}

/// A value without an exponent, as Go's `FormatFloat(v, 'f', -1, 64)` writes it.
fn plain_float(value: f64) -> String {
    if value.is_infinite() {
        return if value > 0.0 {
            "+Inf".into()
        } else {
            "-Inf".into()
        };
    }
    format!("{value}")
}

fn write_selector(f: &mut Formatter<'_>, selector: &VectorSelector) -> fmt::Result {
    f.write_str(&selector.name)?;
    let is_name = |m: &&crate::model::Matcher| {
        m.name == METRIC_NAME
            && m.op == MatchOp::Equal
            && m.value == selector.name
            && !m.value.is_empty()
    };
    let mut matchers: Vec<String> = selector
        .matchers
        .iter()
        .filter(|m| !is_name(m))
        .map(ToString::to_string)
        .collect();
    if matchers.is_empty() {
        return Ok(());
    }
    matchers.sort();
    write!(f, "{{{}}}", matchers.join(","))
}

fn write_modifiers(f: &mut Formatter<'_>, at: Option<At>, offset: i64) -> fmt::Result {
    match at {
        Some(At::Timestamp(t)) => write!(f, " @ {:.3}", t.seconds())?,
        Some(At::Start) => f.write_str(" @ start()")?,
        Some(At::End) => f.write_str(" @ end()")?,
        None => {}
    }
    match offset {
        0 => Ok(()),
        _ => {
            let sign = if offset < 0 { "-" } else { "" };
            write!(
                f,
                " offset {sign}{}",
                format_duration(Duration::from_millis(offset.unsigned_abs()))
            )
        }
    }
}

fn write_subquery(f: &mut Formatter<'_>, subquery: &Subquery) -> fmt::Result {
    subquery.expr.fmt(f)?;
    let step = subquery.step.map(format_duration).unwrap_or_default();
    write!(f, "[{}:{step}]", format_duration(subquery.range))?;
    write_modifiers(f, subquery.at, subquery.offset)
}

fn write_aggregate(f: &mut Formatter<'_>, aggregate: &Aggregate) -> fmt::Result {
    f.write_str(aggregate.op.as_str())?;
    if aggregate.without {
        write!(f, " without ({}) ", names(&aggregate.grouping))?;
    } else if !aggregate.grouping.is_empty() {
        write!(f, " by ({}) ", names(&aggregate.grouping))?;
    }
    f.write_char('(')?;
    if let Some(param) = &aggregate.param {
        write!(f, "{param}, ")?;
    }
    write!(f, "{})", aggregate.expr)
}

fn write_binary(f: &mut Formatter<'_>, binary: &Binary) -> fmt::Result {
    binary.lhs.fmt(f)?;
    write!(
        f,
        " {}{}",
        binary.op,
        if binary.return_bool { " bool" } else { "" }
    )?;
    if let Some(matching) = &binary.matching {
        write_matching(f, matching)?;
    }
    f.write_char(' ')?;
    binary.rhs.fmt(f)
}

fn write_matching(f: &mut Formatter<'_>, matching: &Matching) -> fmt::Result {
    let side = match matching.cardinality {
        Cardinality::ManyToOne => Some("left"),
        Cardinality::OneToMany => Some("right"),
        _ => None,
    };
    if matching.on || side.is_some() || !matching.labels.is_empty() {
        write!(
            f,
            " {} ({})",
            if matching.on { "on" } else { "ignoring" },
            names(&matching.labels)
        )?;
    }
    if let Some(side) = side {
        write!(f, " group_{side} ({})", names(&matching.include))?;
    }
    Ok(())
}

fn names(labels: &[String]) -> String {
    let name = |label: &String| {
        if is_legacy_metric_name(label) {
            label.clone()
        } else {
            quote(label)
        }
    };
    labels.iter().map(name).collect::<Vec<_>>().join(", ")
}
