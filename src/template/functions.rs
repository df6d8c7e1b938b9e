//! The functions of Prometheus's templates that need nothing but their arguments.

use std::collections::BTreeMap;
use std::sync::Arc;

use gotmpl::{FuncMap, TemplateError, Value, url_encode};
use regex::Regex;

use super::rewrite::{DOT, SHOWN};
use super::{dot, failed, humanize, text, time};
use crate::model::parse_duration;
use crate::model::text::format_float_g;

type Outcome = Result<Value, TemplateError>;

/// Longest pattern and the memory a compiled one may take.
const MAX_PATTERN: usize = 1 << 20;

/// The functions by name.
pub(super) fn functions() -> FuncMap {
    let mut map = FuncMap::new();
    let mut add = |name: &str, function: fn(&[Value]) -> Outcome| drop(map.insert(name.into(), Arc::new(function)));
    add(DOT, dot::dot);
    add(SHOWN, shown);
    add("humanize", |args| number(args, humanize::decimal));
    add("humanize1024", |args| number(args, humanize::binary));
    add("humanizeDuration", |args| number(args, humanize::duration));
    add("humanizePercentage", |args| number(args, humanize::percentage));
    add("humanizeTimestamp", timestamp);
    add("toTime", timestamp);
    add("toDuration", |args| number(args, go_duration));
    add("parseDuration", parsed_duration);
    add("title", |args| string(args, title));
    add("toUpper", |args| string(args, str::to_uppercase));
    add("toLower", |args| string(args, str::to_lowercase));
    add("safeHtml", |args| string(args, str::to_owned));
    add("urlQueryEscape", |args| string(args, |s| url_encode(s).to_string()));
    add("stripPort", |args| string(args, |s| strip_port(s).to_owned()));
    add("stripDomain", |args| string(args, strip_domain));
    add("graphLink", |args| string(args, |s| format!("/graph?g0.expr={}&g0.tab=0", url_encode(s))));
    add("tableLink", |args| string(args, |s| format!("/graph?g0.expr={}&g0.tab=1", url_encode(s))));
    add("match", matches);
    add("reReplaceAll", replace_all);
    add("args", numbered);
    add("first", first);
    add("label", label);
    add("value", |args| Ok(args.first().and_then(|s| s.field("Value")).cloned().unwrap_or(Value::Float(0.0))));
    add("strvalue", |args| Ok(label_of(args.first(), "__value__")));
    add("sortByLabel", sort_by_label);
    map
}

/// A value as Go prints it: floats in their `%v` form.
fn shown(args: &[Value]) -> Outcome {
    match args.first() {
        Some(Value::Float(value)) => Ok(text(&format_float_g(*value))),
        other => Ok(other.cloned().unwrap_or(Value::Nil)),
    }
}

fn string(args: &[Value], function: impl Fn(&str) -> String) -> Outcome {
    match args {
        [Value::String(argument)] => Ok(text(&function(argument))),
        [other] => failed(format!("wrong type for value; expected string; got {}", dot::go_type(other))),
        _ => failed(format!("wrong number of args: want 1 got {}", args.len())),
    }
}

/// The only argument as a number (Prometheus's `ConvertToFloat`).
fn float(args: &[Value]) -> Result<f64, TemplateError> {
    match args {
        [Value::Float(value)] => Ok(*value),
        [Value::Int(value)] => Ok(*value as f64),
        [Value::Uint(value)] => Ok(*value as f64),
        [Value::String(value)] => value.parse().or_else(|_| failed(format!("strconv.ParseFloat: parsing {value:?}: invalid syntax"))),
        [other] => failed(format!("can't convert {} to float", dot::go_type(other))),
        _ => failed(format!("wrong number of args: want 1 got {}", args.len())),
    }
}

fn number(args: &[Value], function: impl Fn(f64) -> String) -> Outcome {
    Ok(text(&function(float(args)?)))
}

fn timestamp(args: &[Value]) -> Outcome {
    let seconds = float(args)?;
    if !seconds.is_finite() {
        return Ok(text(&humanize::four_digits(seconds)));
    }
    if seconds.abs() >= i64::MAX as f64 / 1e9 {
        return failed(format!("{seconds:e} cannot be represented as a nanoseconds timestamp since it overflows int64"));
    }
    match jiff::Timestamp::from_millisecond((seconds * 1000.0).round() as i64) {
        Ok(moment) => Ok(text(&time::go_text(moment))),
        Err(_) => failed(format!("{seconds} is not a time")),
    }
}

/// Go's text of a `time.Duration` given in seconds: `1h0m5.5s`.
fn go_duration(seconds: f64) -> String {
    if seconds == 0.0 || !seconds.is_finite() {
        return "0s".into();
    }
    let nanos = (seconds.abs() * 1e9).round();
    let sign = if seconds < 0.0 { "-" } else { "" };
    if nanos < 1e9 {
        let (size, unit) = if nanos < 1e3 {
            (1.0, "ns")
        } else if nanos < 1e6 {
            (1e3, "µs")
        } else {
            (1e6, "ms")
        };
        return format!("{sign}{}{unit}", nanos / size);
    }
    let whole = (nanos / 1e9) as u64;
    let rest = (nanos % 6e10) / 1e9;
    match (whole / 3600, whole / 60 % 60) {
        (0, 0) => format!("{sign}{rest}s"),
        (0, minutes) => format!("{sign}{minutes}m{rest}s"),
        (hours, minutes) => format!("{sign}{hours}h{minutes}m{rest}s"),
    }
}

fn parsed_duration(args: &[Value]) -> Outcome {
    let [Value::String(written)] = args else { return failed("parseDuration wants one string") };
    let (sign, magnitude) = written.strip_prefix('-').map_or((1.0, written.as_ref()), |rest| (-1.0, rest));
    match parse_duration(magnitude) {
        Ok(duration) => Ok(Value::Float(sign * duration.as_secs_f64())),
        Err(error) => failed(error.to_string()),
    }
}

/// Each word's first letter in upper case, the rest as it was (Go's `strings.Title`).
fn title(words: &str) -> String {
    let mut inside = false;
    let mut out = String::with_capacity(words.len());
    for c in words.chars() {
        if inside {
            out.push(c)
        } else {
            out.extend(c.to_uppercase())
        }
        inside = c.is_alphanumeric() || c == '_' || c == '\'';
    }
    out
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
    let (host, port) = split_port(address).map_or((address, None), |(host, port)| (host, Some(port)));
    if host.parse::<std::net::IpAddr>().is_ok() {
        return address.to_owned();
    }
    let host = host.split('.').next().unwrap_or(host);
    port.map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

fn pattern(written: &str) -> Result<Regex, TemplateError> {
    regex::RegexBuilder::new(written).size_limit(MAX_PATTERN).build().or_else(|_| failed(format!("error parsing regexp: {written}")))
}

fn matches(args: &[Value]) -> Outcome {
    let [Value::String(written), Value::String(subject)] = args else { return failed("match wants a pattern and a text") };
    Ok(Value::Bool(pattern(written)?.is_match(subject)))
}

fn replace_all(args: &[Value]) -> Outcome {
    let [Value::String(written), Value::String(replacement), Value::String(subject)] = args else {
        return failed("reReplaceAll wants a pattern, a replacement and a text");
    };
    Ok(text(&pattern(written)?.replace_all(subject, replacement.as_ref())))
}

fn numbered(args: &[Value]) -> Outcome {
    let map: BTreeMap<Arc<str>, Value> = args.iter().enumerate().map(|(i, v)| (format!("arg{i}").into(), v.clone())).collect();
    Ok(Value::Map(Arc::new(map)))
}

fn first(args: &[Value]) -> Outcome {
    match args {
        [Value::List(samples)] if !samples.is_empty() => Ok(samples[0].clone()),
        [Value::List(_)] => failed("first() called on vector with no elements"),
        _ => failed("first wants the result of a query"),
    }
}

fn label_of(sample: Option<&Value>, name: &str) -> Value {
    sample.and_then(|s| s.field("Labels")).and_then(|labels| labels.field(name)).cloned().unwrap_or_else(|| text(""))
}

fn label(args: &[Value]) -> Outcome {
    let [Value::String(name), sample] = args else { return failed("label wants a name and a sample") };
    Ok(label_of(Some(sample), name))
}

fn sort_by_label(args: &[Value]) -> Outcome {
    let [Value::String(name), Value::List(samples)] = args else { return failed("sortByLabel wants a name and the result of a query") };
    let mut samples: Vec<Value> = samples.to_vec();
    samples.sort_by_cached_key(|sample| label_of(Some(sample), name).to_string());
    Ok(Value::List(samples.into()))
}
