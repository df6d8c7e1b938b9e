//! The functions that the templates of notifications have beyond the common ones (SEMANTICS 176).

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE;
use gotmpl::{SafeKind, Value};

use super::functions::{common_and, expected, string, string_of, texts};
use super::go::call::{Arity, Context, Functions, Outcome, Row, fail, misuse};
use super::go::typed;
use super::go::typed::DURATION;
use super::go::{dot, json, time, title};
use super::text;

use Arity::{AtLeast, Exactly};

/// The zero time of Go, which an alert that fires has as its end.
const ZERO_SECOND: i64 = -62_135_596_800;

/// What the templates of notifications have beyond the common functions. Those from `routeLabels`
/// on came after Alertmanager 0.33; the routes here have no labels.
const NOTIFICATION: &[Row] = &[
    ("title", Exactly(1), |context, args| {
        string(context, args, |s| title::title(s, true))
    }),
    ("trimSpace", Exactly(1), |context, args| {
        string(context, args, |s| s.trim().to_owned())
    }),
    ("join", Exactly(2), join),
    ("safeHtml", Exactly(1), |context, args| {
        safe(context, args, SafeKind::Html)
    }),
    ("safeUrl", Exactly(1), |context, args| {
        safe(context, args, SafeKind::Url)
    }),
    ("urlUnescape", Exactly(1), unescaped),
    ("stringSlice", AtLeast(0), |context, args| {
        args.iter()
            .try_for_each(|arg| string_of(context, arg).map(drop))?;
        Ok(Value::List(
            args.iter()
                .filter_map(typed::as_text)
                .map(|s| Value::String(Arc::clone(s)))
                .collect(),
        ))
    }),
    ("date", Exactly(2), |context, args| {
        let layout = string_of(context, &args[0])?;
        match typed::as_moment(&args[1]) {
            Some(moment) => Ok(text(&time::format(layout, &moment))),
            None => expected("time.Time", context, &args[1]),
        }
    }),
    ("tz", Exactly(2), |context, args| {
        let zone = dot::zone(string_of(context, &args[0])?)?;
        match typed::as_moment(&args[1]) {
            Some(moment) => Ok(typed::moment(&moment.with_time_zone(zone))),
            None => expected("time.Time", context, &args[1]),
        }
    }),
    ("now", Exactly(0), |context, _| {
        now(context)
            .map(typed::utc)
            .map_or_else(|| fail("the time is out of range"), Ok)
    }),
    ("since", Exactly(1), |context, args| {
        match (now(context), typed::as_moment(&args[0])) {
            (Some(now), Some(then)) => Ok(typed::number(
                DURATION,
                time::between(now, then.timestamp()),
            )),
            _ => expected("time.Time", context, &args[0]),
        }
    }),
    ("toJson", Exactly(1), |_, args| {
        match json::encode(&args[0]) {
            Ok(written) => Ok(text(&written)),
            Err(error) => fail(error.to_string()),
        }
    }),
    ("list", AtLeast(0), |_, args| held(Value::List(args.into()))),
    ("append", AtLeast(1), |context, args| {
        let Value::List(items) = &args[0] else {
            return expected("[]interface {}", context, &args[0]);
        };
        held(Value::List(
            items.iter().chain(&args[1..]).cloned().collect(),
        ))
    }),
    ("dict", AtLeast(0), dict),
    ("routeLabels", AtLeast(0), |_, _| {
        Ok(Value::Map(Arc::default()))
    }),
    ("base64encode", Exactly(1), |context, args| {
        string(context, args, |s| URL_SAFE.encode(s))
    }),
    ("base64decode", Exactly(1), |context, args| {
        let [written] = texts(context, args)?;
        let Ok(bytes) = URL_SAFE.decode(written) else {
            return fail("illegal base64 data");
        };
        Ok(text(&String::from_utf8_lossy(&bytes)))
    }),
    ("toDate", Exactly(2), |context, args| {
        let [layout, written] = texts(context, args)?;
        Ok(time::parse(layout, written).map_or_else(zero_time, |moment| typed::moment(&moment)))
    }),
    ("mustToDate", Exactly(2), |context, args| {
        let [layout, written] = texts(context, args)?;
        match time::parse(layout, written) {
            Some(moment) => Ok(typed::moment(&moment)),
            None => fail(format!(
                "parsing time {written:?} as {layout:?}: cannot be read"
            )),
        }
    }),
];

pub(super) static NOTIFICATIONS: LazyLock<Functions> = LazyLock::new(|| common_and(NOTIFICATION));

fn now(context: &Context) -> Option<jiff::Timestamp> {
    jiff::Timestamp::from_millisecond(context.now.0).ok()
}

fn safe(context: &Context, args: &[Value], kind: SafeKind) -> Outcome {
    let [written] = texts(context, args)?;
    Ok(Value::Safe {
        kind,
        s: written.into(),
    })
}

fn join(context: &Context, args: &[Value]) -> Outcome {
    let separator = string_of(context, &args[0])?;
    let Value::List(parts) = &args[1] else {
        return expected("[]string", context, &args[1]);
    };
    let parts: Result<Vec<&str>, _> = parts.iter().map(|part| string_of(context, part)).collect();
    Ok(text(&parts?.join(separator)))
}

/// Go's `url.QueryUnescape`.
fn unescaped(context: &Context, args: &[Value]) -> Outcome {
    let [written] = texts(context, args)?;
    let bytes = written.as_bytes();
    let (mut out, mut at) = (Vec::with_capacity(bytes.len()), 0);
    while at < bytes.len() {
        match bytes[at] {
            b'+' => out.push(b' '),
            b'%' => {
                let digits = bytes
                    .get(at + 1..at + 3)
                    .and_then(|pair| std::str::from_utf8(pair).ok());
                let byte = digits
                    .filter(|d| d.bytes().all(|b| b.is_ascii_hexdigit()))
                    .and_then(|d| u8::from_str_radix(d, 16).ok());
                let Some(byte) = byte else {
                    let shown: String = written[at..].chars().take(3).collect();
                    return fail(format!("invalid URL escape {shown:?}"));
                };
                out.push(byte);
                at += 2;
            }
            other => out.push(other),
        }
        at += 1;
    }
    Ok(text(&String::from_utf8_lossy(&out)))
}

fn dict(_: &Context, args: &[Value]) -> Outcome {
    if !args.len().is_multiple_of(2) {
        return fail("dict requires an even number of arguments");
    }
    let mut entries = BTreeMap::new();
    for pair in args.chunks_exact(2) {
        let Some(name) = typed::as_text(&pair[0]) else {
            return fail("dict keys must be strings");
        };
        entries.insert(Arc::clone(name), pair[1].clone());
    }
    held(typed::dict(entries))
}

/// A list or map that a template made, if it is not too much.
fn held(value: Value) -> Outcome {
    match typed::weight(&value, super::MAX_OUTPUT) {
        Some(_) => Ok(value),
        None => misuse("a list or dict holds too much"),
    }
}

pub(super) fn zero_time() -> Value {
    jiff::Timestamp::from_second(ZERO_SECOND).map_or(Value::Nil, typed::utc)
}
