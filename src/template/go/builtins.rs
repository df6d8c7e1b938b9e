//! The functions that every Go template has (<https://pkg.go.dev/text/template#hdr-Functions>).

use std::cmp::Ordering;

use gotmpl::Value;

use super::call::{Arity, Context, Fault, Outcome, Row, fail, misuse};
use super::printf;
use super::typed::{self, DICT};
use crate::template::text;

use Arity::{AtLeast, Exactly};

/// The table; `and` and `or` evaluate as much as they need and belong to the engine.
pub(in crate::template) const BUILTINS: &[Row] = &[
    ("len", Exactly(1), len),
    ("index", AtLeast(1), index),
    ("slice", AtLeast(1), slice),
    ("not", Exactly(1), |_, args| {
        Ok(Value::Bool(!args[0].is_truthy()))
    }),
    ("eq", AtLeast(1), eq),
    ("ne", Exactly(2), |context, args| {
        Ok(Value::Bool(!equal(context, &args[0], &args[1])?))
    }),
    ("lt", Exactly(2), |context, args| {
        ordered(context, args, |order| order == Some(Ordering::Less))
    }),
    ("le", Exactly(2), |context, args| {
        ordered(context, args, |order| {
            matches!(order, Some(Ordering::Less | Ordering::Equal))
        })
    }),
    // Go says "not less": beside NaN both are true.
    ("gt", Exactly(2), |context, args| {
        ordered(context, args, |order| {
            !matches!(order, Some(Ordering::Less | Ordering::Equal))
        })
    }),
    ("ge", Exactly(2), |context, args| {
        ordered(context, args, |order| order != Some(Ordering::Less))
    }),
    ("print", AtLeast(0), |context, args| {
        Ok(text(&printed(context, args)?))
    }),
    ("println", AtLeast(0), println),
    ("printf", AtLeast(1), |context, args| {
        match typed::as_text(&args[0]) {
            Some(form) => Ok(text(&printf::printf(context, form, &args[1..])?)),
            None => misuse(format!(
                "wrong type for value; expected string; got {}",
                context.type_of(&args[0])
            )),
        }
    }),
    ("call", AtLeast(1), |context, args| {
        fail(format!(
            "non-function {} of type {}",
            context.shown(&args[0])?,
            context.type_of(&args[0])
        ))
    }),
];

/// What an escaping function does to a text.
type Escape = fn(&str) -> String;

/// The functions that escape; HTML templates must find them by their names.
pub(in crate::template) const ESCAPES: &[(&str, Escape)] = &[
    ("html", |s| gotmpl::html_escape(s).to_string()),
    ("js", |s| gotmpl::js_escape(s).to_string()),
    ("urlquery", |s| gotmpl::url_encode(s).to_string()),
];

/// Names that templates may use and no table holds.
pub(in crate::template) const SPECIAL: [&str; 5] = ["and", "or", "html", "js", "urlquery"];

/// Go's `fmt.Sprint`: a space between two operands when neither is a text.
pub(in crate::template) fn printed(context: &Context, args: &[Value]) -> Result<String, Fault> {
    let mut out = String::new();
    for (position, arg) in args.iter().enumerate() {
        if position > 0
            && typed::as_text(arg).is_none()
            && typed::as_text(&args[position - 1]).is_none()
        {
            out.push(' ');
        }
        out.push_str(&one(context, arg, args.len() > 1)?);
    }
    Ok(out)
}

fn println(context: &Context, args: &[Value]) -> Outcome {
    let parts: Result<Vec<String>, Fault> =
        args.iter().map(|arg| one(context, arg, true)).collect();
    Ok(text(&(parts?.join(" ") + "\n")))
}

fn one(context: &Context, arg: &Value, many: bool) -> Result<String, Fault> {
    match arg {
        Value::Nil if many => Ok("<nil>".into()),
        other => context.shown(other),
    }
}

fn len(context: &Context, args: &[Value]) -> Outcome {
    match &args[0] {
        Value::List(items) => Ok(Value::Int(items.len() as i64)),
        Value::String(s) | Value::Safe { s, .. } => Ok(Value::Int(s.len() as i64)),
        Value::Map(_) if !typed::is_opaque(&args[0]) => {
            Ok(Value::Int(typed::entries(&args[0]).len() as i64))
        }
        Value::Nil => fail("len of nil pointer"),
        other => fail(format!("len of type {}", context.type_of(other))),
    }
}

fn position(context: &Context, at: &Value, length: usize) -> Result<usize, Fault> {
    match typed::as_integer(at) {
        Some(number) => match usize::try_from(number) {
            Ok(position) if position < length => Ok(position),
            _ => fail(format!("index out of range: {number}")),
        },
        None if matches!(at, Value::Nil) => fail("cannot index slice/array with nil"),
        None => fail(format!(
            "cannot index slice/array with type {}",
            context.type_of(at)
        )),
    }
}

fn index(context: &Context, args: &[Value]) -> Outcome {
    let mut found = args[0].clone();
    for at in &args[1..] {
        found = match &found {
            Value::List(items) => items[position(context, at, items.len())?].clone(),
            Value::String(s) => Value::Uint(s.as_bytes()[position(context, at, s.len())?].into()),
            Value::Map(map) if !typed::is_opaque(&found) => match at {
                Value::String(key) => {
                    let missing = || {
                        if typed::kind(&found) == Some(DICT) {
                            Value::Nil
                        } else {
                            text("")
                        }
                    };
                    map.get(key).cloned().unwrap_or_else(missing)
                }
                Value::Nil => return fail("value is nil; should be of type string"),
                other => {
                    return fail(format!(
                        "value has type {}; should be string",
                        context.type_of(other)
                    ));
                }
            },
            Value::Nil => return fail("index of untyped nil"),
            other => {
                return fail(format!(
                    "can't index item of type {}",
                    context.type_of(other)
                ));
            }
        };
    }
    Ok(found)
}

fn slice(context: &Context, args: &[Value]) -> Outcome {
    let length = match &args[0] {
        Value::List(items) => items.len(),
        Value::String(s) => s.len(),
        Value::Nil => return fail("slice of untyped nil"),
        other => {
            return fail(format!(
                "can't slice item of type {}",
                context.type_of(other)
            ));
        }
    };
    if args.len() > 4 {
        return fail(format!("too many slice indexes: {}", args.len() - 1));
    }
    if args.len() == 4 && matches!(args[0], Value::String(_)) {
        return fail("cannot 3-index slice a string");
    }
    let mut bounds = [0, length, length];
    for (bound, at) in bounds.iter_mut().zip(&args[1..]) {
        // One past the end is a bound, too.
        *bound = position(context, at, length + 1)?;
    }
    let [from, to, cap] = bounds;
    if from > to {
        return fail(format!("invalid slice index: {from} > {to}"));
    }
    if args.len() == 4 && to > cap {
        return fail(format!("invalid slice index: {to} > {cap}"));
    }
    match &args[0] {
        Value::List(items) => Ok(Value::List(items[from..to].into())),
        Value::String(s) => Ok(text(&String::from_utf8_lossy(&s.as_bytes()[from..to]))),
        _ => Ok(Value::Nil),
    }
}

fn eq(context: &Context, args: &[Value]) -> Outcome {
    if args.len() < 2 {
        return fail("missing argument for comparison");
    }
    for other in &args[1..] {
        if equal(context, &args[0], other)? {
            return Ok(Value::Bool(true));
        }
    }
    Ok(Value::Bool(false))
}

fn mixed<T>(context: &Context, left: &Value, right: &Value) -> Result<T, Fault> {
    fail(format!(
        "incompatible types for comparison: {} and {}",
        context.type_of(left),
        context.type_of(right)
    ))
}

fn equal(context: &Context, left: &Value, right: &Value) -> Result<bool, Fault> {
    if let (Some(left), Some(right)) = (typed::as_text(left), typed::as_text(right)) {
        return Ok(left == right);
    }
    if let (Some(left), Some(right)) = (typed::as_integer(left), typed::as_integer(right)) {
        return Ok(left == right);
    }
    match (left, right) {
        (Value::Bool(left), Value::Bool(right)) => Ok(left == right),
        (Value::Float(left), Value::Float(right)) => Ok(left == right),
        (Value::Uint(left), Value::Uint(right)) => Ok(left == right),
        (Value::Nil, Value::Nil) => Ok(true),
        (Value::Nil, _) | (_, Value::Nil) => Ok(false),
        (Value::Map(_), Value::Map(_)) => match (typed::as_moment(left), typed::as_moment(right)) {
            (Some(left), Some(right)) => Ok(left == right),
            _ => fail(format!(
                "non-comparable type {}: {}",
                context.shown(left)?,
                context.type_of(left)
            )),
        },
        (Value::List(_), Value::List(_)) => fail(format!(
            "non-comparable type {}: {}",
            context.shown(left)?,
            context.type_of(left)
        )),
        _ => mixed(context, left, right),
    }
}

fn ordered(context: &Context, args: &[Value], accept: fn(Option<Ordering>) -> bool) -> Outcome {
    let (left, right) = (&args[0], &args[1]);
    if let (Some(left), Some(right)) = (typed::as_text(left), typed::as_text(right)) {
        return Ok(Value::Bool(accept(Some(left.cmp(right)))));
    }
    if let (Some(left), Some(right)) = (typed::as_integer(left), typed::as_integer(right)) {
        return Ok(Value::Bool(accept(Some(left.cmp(&right)))));
    }
    match (left, right) {
        (Value::Float(left), Value::Float(right)) => {
            Ok(Value::Bool(accept(left.partial_cmp(right))))
        }
        (Value::Uint(left), Value::Uint(right)) => Ok(Value::Bool(accept(Some(left.cmp(right))))),
        (Value::Bool(_), Value::Bool(_)) | (Value::Map(_) | Value::List(_) | Value::Nil, _) => {
            fail("invalid type for comparison")
        }
        (_, Value::Map(_) | Value::List(_) | Value::Nil) => fail("invalid type for comparison"),
        _ => mixed(context, left, right),
    }
}
