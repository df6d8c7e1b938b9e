//! `/parse_query`: the syntax tree as Prometheus's user interface takes it.

use axum::Router;
use axum::routing::get;
use serde_json::{Value as Json, json};

use crate::model::text::format_float_f;
use crate::model::time::millis;
use crate::model::{MatchOp, Matcher};
use crate::promql::functions::Variadic;
use crate::promql::syntax::ast::{At, Cardinality, Matching, UnaryOp, VectorSelector};
use crate::promql::{Expr, deep, wide};

use super::super::Context;
use super::super::seats::Seat;
use super::answer::{Answer, Problem};
use super::parameters::Parameters;
use super::query::read;

/// The routes of this file.
pub fn routes() -> Router<Context> {
    Router::new().route("/parse_query", get(parse).post(parse))
}

async fn parse(seat: Seat, parameters: Parameters) -> Result<Answer, Problem> {
    let (_, expr, _held) = read(&seat, &parameters)?;
    // As high as the expression; to write it and to drop it takes stack for each level.
    Ok(wide(|| Answer::json(&tree(&expr))))
}

/// An expression as JSON.
fn tree(expr: &Expr) -> Json {
    deep(|| node(expr))
}

fn node(expr: &Expr) -> Json {
    match expr {
        Expr::Number(n) => json!({ "type": "numberLiteral", "val": format_float_f(n.value) }),
        Expr::String(n) => json!({ "type": "stringLiteral", "val": n.value }),
        Expr::VectorSelector(n) => selector("vectorSelector", n),
        Expr::MatrixSelector(n) => {
            let mut out = selector("matrixSelector", &n.selector);
            out["range"] = json!(millis(n.range));
            out
        }
        Expr::Subquery(n) => {
            let out = json!({
                "type": "subquery", "expr": null, "range": millis(n.range), "offset": n.offset,
                "step": n.step.map_or(0, millis), "timestamp": timestamp(n.at), "startOrEnd": start_or_end(n.at),
            });
            with(out, "expr", tree(&n.expr))
        }
        Expr::Call(n) => {
            let function = n.function;
            let variadic = match function.variadic {
                Variadic::Fixed => 0,
                Variadic::UpTo(count) => i64::try_from(count).unwrap_or(i64::MAX),
                Variadic::Unlimited => -1,
            };
            let types: Vec<&str> = function.args.iter().map(|t| t.as_str()).collect();
            let out = json!({
                "type": "call", "args": null,
                "func": { "name": function.name, "argTypes": types, "variadic": variadic, "returnType": function.returns.as_str() },
            });
            with(out, "args", Json::Array(n.args.iter().map(tree).collect()))
        }
        Expr::Aggregate(n) => {
            let op = n.op.as_str();
            let out = json!({ "type": "aggregation", "op": op, "expr": null, "param": null, "grouping": n.grouping, "without": n.without });
            with(
                with(out, "expr", tree(&n.expr)),
                "param",
                n.param.as_deref().map_or(Json::Null, tree),
            )
        }
        Expr::Binary(n) => {
            let (op, matching) = (n.op.as_str(), n.matching.as_ref().map(matching));
            let out = json!({ "type": "binaryExpr", "op": op, "lhs": null, "rhs": null, "matching": matching, "bool": n.return_bool });
            with(with(out, "lhs", tree(&n.lhs)), "rhs", tree(&n.rhs))
        }
        Expr::Unary(n) => {
            let op = if n.op == UnaryOp::Minus { "-" } else { "+" };
            with(
                json!({ "type": "unaryExpr", "op": op, "expr": null }),
                "expr",
                tree(&n.expr),
            )
        }
        Expr::Paren(n) => with(
            json!({ "type": "parenExpr", "expr": null }),
            "expr",
            tree(&n.expr),
        ),
    }
}

/// The object with a part of it put in: the macro would copy the part, at every level all below it.
fn with(mut object: Json, key: &str, part: Json) -> Json {
    object[key] = part;
    object
}

fn selector(kind: &str, selector: &VectorSelector) -> Json {
    json!({
        "type": kind, "name": selector.name, "offset": selector.offset, "matchers": selector.matchers.iter().map(matcher).collect::<Vec<_>>(),
        "timestamp": timestamp(selector.at), "startOrEnd": start_or_end(selector.at),
    })
}

fn matcher(matcher: &Matcher) -> Json {
    let op: MatchOp = matcher.op;
    json!({ "name": matcher.name, "value": matcher.value, "type": op.as_str() })
}

fn matching(matching: &Matching) -> Json {
    let card = match matching.cardinality {
        Cardinality::OneToOne => "one-to-one",
        Cardinality::ManyToOne => "many-to-one",
        Cardinality::OneToMany => "one-to-many",
        Cardinality::ManyToMany => "many-to-many",
    };
    json!({ "card": card, "labels": matching.labels, "on": matching.on, "include": matching.include })
}

fn timestamp(at: Option<At>) -> Option<i64> {
    match at {
        Some(At::Timestamp(at)) => Some(at.0),
        _ => None,
    }
}

fn start_or_end(at: Option<At>) -> Option<&'static str> {
    match at {
        Some(At::Start) => Some("start"),
        Some(At::End) => Some("end"),
        _ => None,
    }
}
