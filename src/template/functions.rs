//! The functions that both programs' templates have, and those of Prometheus's alone.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use gotmpl::{Value, url_encode};

use super::go::builtins::BUILTINS;
use super::go::call::{Arity, Context, Fault, Functions, Outcome, Row, fail, misuse};
use super::go::title;
use super::go::typed;
use super::go::typed::DURATION;
use super::{humanize, text};
use crate::model::parse_duration;

use Arity::{AtLeast, Exactly};

/// What both have.
const COMMON: &[Row] = &[
    ("humanizeDuration", Exactly(1), |context, args| {
        number(context, args, humanize::duration)
    }),
    ("toUpper", Exactly(1), |context, args| {
        string(context, args, |s| {
            each_char(s, |c| single(c, c.to_uppercase()))
        })
    }),
    ("toLower", Exactly(1), |context, args| {
        string(context, args, |s| {
            each_char(s, |c| single(c, c.to_lowercase()))
        })
    }),
    ("match", Exactly(2), |context, args| {
        let [pattern, subject] = texts(context, args)?;
        Ok(Value::Bool(context.pattern(pattern)?.is_match(subject)))
    }),
    ("reReplaceAll", Exactly(3), |context, args| {
        let [pattern, replacement, subject] = texts(context, args)?;
        replaced(context, pattern, replacement, subject)
    }),
];

/// What the templates of rules have beyond that.
const RULE: &[Row] = &[
    ("humanize", Exactly(1), |context, args| {
        number(context, args, humanize::decimal)
    }),
    ("humanize1024", Exactly(1), |context, args| {
        number(context, args, humanize::binary)
    }),
    ("humanizePercentage", Exactly(1), |context, args| {
        number(context, args, humanize::percentage)
    }),
    (
        "humanizeTimestamp",
        Exactly(1),
        |context, args| match moment(context, &args[0])? {
            Ok(stamp) => Ok(text(&context.shown(&typed::utc(stamp))?)),
            Err(value) => Ok(text(&humanize::four_digits(value))),
        },
    ),
    ("toTime", Exactly(1), |context, args| {
        match moment(context, &args[0])? {
            Ok(stamp) => Ok(typed::utc(stamp)),
            Err(_) => fail("value is NaN or Inf"),
        }
    }),
    ("toDuration", Exactly(1), |context, args| {
        let seconds = float(context, &args[0])?;
        Ok(typed::number(DURATION, (seconds * 1e9) as i64))
    }),
    ("now", Exactly(0), |context, _| {
        Ok(Value::Float(context.now.seconds()))
    }),
    ("parseDuration", Exactly(1), parsed_duration),
    ("title", Exactly(1), |context, args| {
        string(context, args, |s| title::title(s, false))
    }),
    ("safeHtml", Exactly(1), |context, args| {
        string(context, args, str::to_owned)
    }),
    ("urlQueryEscape", Exactly(1), |context, args| {
        string(context, args, |s| url_encode(s).to_string())
    }),
    ("stripPort", Exactly(1), |context, args| {
        string(context, args, |s| strip_port(s).to_owned())
    }),
    ("stripDomain", Exactly(1), |context, args| {
        string(context, args, strip_domain)
    }),
    ("graphLink", Exactly(1), |context, args| {
        string(context, args, |s| {
            format!("/graph?g0.expr={}&g0.tab=0", url_encode(s))
        })
    }),
    ("tableLink", Exactly(1), |context, args| {
        string(context, args, |s| {
            format!("/graph?g0.expr={}&g0.tab=1", url_encode(s))
        })
    }),
    ("externalURL", Exactly(0), |context, _| {
        Ok(text(&context.external_url))
    }),
    ("pathPrefix", Exactly(0), |context, _| {
        Ok(text(
            url::Url::parse(&context.external_url)
                .as_ref()
                .map_or("", url::Url::path),
        ))
    }),
    ("query", Exactly(1), query),
    ("args", AtLeast(0), |_, args| {
        Ok(typed::dict(
            args.iter()
                .enumerate()
                .map(|(i, v)| (Arc::from(format!("arg{i}")), v.clone()))
                .collect(),
        ))
    }),
    ("first", Exactly(1), |context, args| match &args[0] {
        Value::List(samples) if !samples.is_empty() => Ok(samples[0].clone()),
        Value::List(_) => fail("first() called on vector with no elements"),
        other => expected("template.queryResult", context, other),
    }),
    ("label", Exactly(2), |context, args| {
        Ok(label_of(
            sample_of(context, &args[1])?,
            string_of(context, &args[0])?,
        ))
    }),
    ("value", Exactly(1), |context, args| {
        Ok(sample_of(context, &args[0])?
            .field("Value")
            .cloned()
            .unwrap_or(Value::Float(0.0)))
    }),
    ("strvalue", Exactly(1), |context, args| {
        Ok(label_of(sample_of(context, &args[0])?, "__value__"))
    }),
    ("sortByLabel", Exactly(2), |context, args| {
        let Value::List(samples) = &args[1] else {
            return expected("template.queryResult", context, &args[1]);
        };
        let (mut samples, name) = (samples.to_vec(), string_of(context, &args[0])?);
        samples.sort_by_cached_key(|sample| label_of(sample, name).to_string());
        Ok(Value::List(samples.into()))
    }),
];

/// The functions of rules.
pub(super) static RULES: LazyLock<Functions> = LazyLock::new(|| table(&[BUILTINS, COMMON, RULE]));

/// The tables as one, with those that both programs have.
pub(super) fn common_and(own: &'static [Row]) -> Functions {
    table(&[BUILTINS, COMMON, own])
}

fn table(tables: &[&'static [Row]]) -> Functions {
    tables
        .iter()
        .flat_map(|rows| rows.iter())
        .map(|row| (row.0, *row))
        .collect::<BTreeMap<_, _>>()
}

/// An argument of the wrong type, in Go's words.
pub(super) fn expected<T>(wanted: &str, context: &Context, got: &Value) -> Result<T, Fault> {
    Err(Fault::Argument {
        at: std::ptr::from_ref(got).addr(),
        wanted: wanted.to_owned(),
        got: context.type_of(got).into_owned(),
    })
}

pub(super) fn string_of<'a>(context: &Context, value: &'a Value) -> Result<&'a str, Fault> {
    match typed::as_text(value) {
        Some(written) => Ok(written),
        None => expected("string", context, value),
    }
}

pub(super) fn texts<'a, const N: usize>(
    context: &Context,
    args: &'a [Value],
) -> Result<[&'a str; N], Fault> {
    let mut out = [""; N];
    for (slot, arg) in out.iter_mut().zip(args) {
        *slot = string_of(context, arg)?;
    }
    Ok(out)
}

pub(super) fn string(
    context: &Context,
    args: &[Value],
    function: impl Fn(&str) -> String,
) -> Outcome {
    let [written] = texts(context, args)?;
    Ok(text(&function(written)))
}

/// The argument as a number (Prometheus's `ConvertToFloat`, SEMANTICS 131).
fn float(context: &Context, value: &Value) -> Result<f64, Fault> {
    match value {
        Value::Float(value) => Ok(*value),
        Value::Int(value) => Ok(*value as f64),
        Value::Uint(value) => Ok(*value as f64),
        Value::Safe { s, .. } | Value::String(s) => match parse_float(s) {
            Some(value) => Ok(value),
            None => fail(format!(
                "strconv.ParseFloat: parsing {}: invalid syntax",
                crate::model::text::quote(s)
            )),
        },
        other if typed::kind(other) == Some(DURATION) => {
            Ok(typed::as_integer(other).unwrap_or(0) as f64 / 1e9)
        }
        Value::Nil => fail("can't convert <nil> to float"),
        other => fail(format!("can't convert {} to float", context.type_of(other))),
    }
}

/// Go's `strconv.ParseFloat`; it knows hexadecimal digits, too, which nobody writes here.
fn parse_float(written: &str) -> Option<f64> {
    let bare = written.trim_start_matches(['+', '-']).to_ascii_lowercase();
    let named = matches!(bare.as_str(), "inf" | "infinity" | "nan");
    let number: f64 = written
        .parse()
        .ok()
        .filter(|_| named || bare.starts_with(|c: char| c.is_ascii_digit() || c == '.'))?;
    (named || number.is_finite()).then_some(number)
}

pub(super) fn number(
    context: &Context,
    args: &[Value],
    function: impl Fn(f64) -> String,
) -> Outcome {
    Ok(text(&function(float(context, &args[0])?)))
}

/// Seconds since the epoch as a time; what is not finite comes back as it is.
fn moment(context: &Context, seconds: &Value) -> Result<Result<jiff::Timestamp, f64>, Fault> {
    let seconds = float(context, seconds)?;
    if !seconds.is_finite() {
        return Ok(Err(seconds));
    }
    // Prometheus goes by way of nanoseconds, which must fit into 64 bits, and drops what is less
    // than a millisecond.
    let nanoseconds = seconds * 1e9;
    let milliseconds = nanoseconds as i64 / 1_000_000;
    if nanoseconds.abs() >= i64::MAX as f64 {
        let shown = crate::model::text::format_float_g(seconds);
        return fail(format!(
            "{shown} cannot be represented as a nanoseconds timestamp since it overflows int64"
        ));
    }
    jiff::Timestamp::from_millisecond(milliseconds)
        .map(Ok)
        .or_else(|_| fail(format!("{seconds} is not a time")))
}

fn parsed_duration(context: &Context, args: &[Value]) -> Outcome {
    let [written] = texts(context, args)?;
    let (sign, magnitude) = written
        .strip_prefix('-')
        .map_or((1.0, written), |rest| (-1.0, rest));
    match parse_duration(magnitude) {
        Ok(duration) => Ok(Value::Float(sign * duration.as_secs_f64())),
        Err(error) => fail(error.to_string()),
    }
}

fn each_char(written: &str, change: fn(char) -> char) -> String {
    written.chars().map(change).collect()
}

/// Go changes letter by letter: what becomes more than one letter stays as it is.
fn single(before: char, mut after: impl Iterator<Item = char>) -> char {
    match (after.next(), after.next()) {
        (Some(after), None) => after,
        _ => before,
    }
}

/// `reReplaceAll`: the text may grow, so that it is made piece by piece and stopped when it is too
/// long.
fn replaced(context: &Context, pattern: &str, replacement: &str, subject: &str) -> Outcome {
    let pattern = context.pattern(pattern).map_err(|fault| match fault {
        Fault::Failed(message) => Fault::Failed(format!("regexp: Compile(`{pattern}`): {message}")),
        other => other,
    })?;
    let (mut out, mut last) = (String::with_capacity(subject.len()), 0);
    for found in pattern.captures_iter(subject) {
        let Some(whole) = found.get(0) else { continue };
        out.push_str(&subject[last..whole.start()]);
        found.expand(replacement, &mut out);
        last = whole.end();
        if out.len() > super::MAX_OUTPUT {
            return misuse("a text is longer than 1048576 bytes");
        }
    }
    out.push_str(&subject[last..]);
    Ok(text(&out))
}

/// What a call of `query` costs beyond its text.
const QUERY_COST: u64 = 1_000;

fn query(context: &Context, args: &[Value]) -> Outcome {
    let [expression] = texts(context, args)?;
    context.spend(QUERY_COST)?;
    match context.query.as_ref().map(|query| query(expression)) {
        Some(Ok(samples)) => Ok(Value::List(
            samples.iter().map(super::rule::sample).collect(),
        )),
        Some(Err(error)) => fail(error.to_string()),
        None => fail("there is nothing to ask"),
    }
}

fn sample_of<'a>(context: &Context, value: &'a Value) -> Result<&'a Value, Fault> {
    if typed::kind(value) == Some("template.sample") {
        Ok(value)
    } else {
        expected("*template.sample", context, value)
    }
}

fn label_of(sample: &Value, name: &str) -> Value {
    sample
        .field("Labels")
        .and_then(|labels| labels.field(name))
        .cloned()
        .unwrap_or_else(|| text(""))
}

fn split_port(address: &str) -> Option<(&str, &str)> {
    let (host, port) = address.rsplit_once(':')?;
    match host.strip_prefix('[') {
        Some(inner) => inner.strip_suffix(']').map(|host| (host, port)),
        None => (!host.contains([':', '[', ']'])).then_some((host, port)),
    }
}

fn strip_port(address: &str) -> &str {
    split_port(address).map_or(address, |(host, _)| host)
}

fn strip_domain(address: &str) -> String {
    let (host, port) =
        split_port(address).map_or((address, None), |(host, port)| (host, Some(port)));
    if host.parse::<std::net::IpAddr>().is_ok() {
        return address.to_owned();
    }
    let host = host.split('.').next().unwrap_or(host);
    port.map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}
