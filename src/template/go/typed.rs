//! What Go knows of a value by its type: structs, times, durations, `map[string]any`. A value here
//! is text, number, list or map; a map with the key [`TYPE`] is one of those, a map without it is a
//! set of labels.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use gotmpl::Value;
use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};

use super::time;
use crate::model::text::format_float_g;
use crate::template::{MAX_OUTPUT, text};

/// The key of a map that holds its type and the names of its fields in order. No label or field can
/// have this name.
const TYPE: &str = "\0type";

pub(in crate::template) const TIME: &str = "time.Time";
pub(in crate::template) const DURATION: &str = "time.Duration";
pub(in crate::template) const MONTH: &str = "time.Month";
pub(in crate::template) const WEEKDAY: &str = "time.Weekday";
pub(in crate::template) const HISTOGRAM: &str = "*histogram.FloatHistogram";
pub(in crate::template) const DICT: &str = "map[string]interface {}";
pub(in crate::template) const PAIR: &str = "template.Pair";

/// Which program's templates these are: a set of labels is `KV` with methods in Alertmanager, a
/// plain map in Prometheus.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::template) enum Dialect {
    Rule,
    Notification,
}

/// A struct of Go.
pub(in crate::template) fn structure<const N: usize>(
    name: &str,
    fields: [(&str, Value); N],
) -> Value {
    let mut described = vec![text(name)];
    described.extend(fields.iter().map(|(field, _)| text(field)));
    let mut map: BTreeMap<Arc<str>, Value> = fields
        .into_iter()
        .map(|(field, value)| (Arc::from(field), value))
        .collect();
    map.insert(TYPE.into(), Value::List(described.into()));
    Value::Map(Arc::new(map))
}

/// A map that may hold anything.
pub(in crate::template) fn dict(mut entries: BTreeMap<Arc<str>, Value>) -> Value {
    entries.insert(TYPE.into(), Value::List(vec![text(DICT)].into()));
    Value::Map(Arc::new(entries))
}

/// A time with its zone.
pub(in crate::template) fn moment(moment: &Zoned) -> Value {
    let zone = moment.time_zone().iana_name().unwrap_or("UTC").to_owned();
    let stamp = moment.timestamp();
    let fields = [
        ("second", Value::Int(stamp.as_second())),
        ("nanosecond", Value::Int(stamp.subsec_nanosecond().into())),
        ("zone", text(&zone)),
    ];
    structure(TIME, fields)
}

/// A time in UTC.
pub(in crate::template) fn utc(stamp: Timestamp) -> Value {
    moment(&stamp.to_zoned(TimeZone::UTC))
}

/// A native histogram: nothing but its text can be had of it.
pub(in crate::template) fn histogram(shown: &str) -> Value {
    structure(HISTOGRAM, [("text", text(shown))])
}

/// A duration, a month or a day of the week.
pub(in crate::template) fn number(kind: &'static str, value: i64) -> Value {
    structure(kind, [("number", Value::Int(value))])
}

/// The type of a value that has one by [`TYPE`].
pub(in crate::template) fn kind(value: &Value) -> Option<&str> {
    described(value)
        .and_then(|described| described.first())
        .and_then(|name| {
            if let Value::String(s) = name {
                Some(s.as_ref())
            } else {
                None
            }
        })
}

fn described(value: &Value) -> Option<&[Value]> {
    match value.field(TYPE) {
        Some(Value::List(described)) => Some(described),
        _ => None,
    }
}

/// The fields of a struct in order, the entries of a map by name.
pub(in crate::template) fn entries(value: &Value) -> Vec<(&str, &Value)> {
    let Value::Map(map) = value else {
        return Vec::new();
    };
    match described(value) {
        Some(described) if described.len() > 1 => described[1..]
            .iter()
            .filter_map(|name| {
                if let Value::String(s) = name {
                    Some((s.as_ref(), map.get(s)?))
                } else {
                    None
                }
            })
            .collect(),
        _ => map
            .iter()
            .filter(|(key, _)| key.as_ref() != TYPE)
            .map(|(key, value)| (key.as_ref(), value))
            .collect(),
    }
}

/// Whether it is a struct or a named number: nothing that has a length.
pub(in crate::template) fn is_opaque(value: &Value) -> bool {
    kind(value).is_some_and(|kind| kind != DICT)
}

/// A map without the mark of its type, for `range`.
pub(in crate::template) fn unmarked(value: &Value) -> Value {
    match value {
        Value::Map(map) if map.contains_key(TYPE) => Value::Map(Arc::new(
            map.iter()
                .filter(|(key, _)| key.as_ref() != TYPE)
                .map(|(k, v)| (Arc::clone(k), v.clone()))
                .collect(),
        )),
        other => other.clone(),
    }
}

/// The time that a value is.
pub(in crate::template) fn as_moment(value: &Value) -> Option<Zoned> {
    if kind(value) != Some(TIME) {
        return None;
    }
    let (Some(Value::Int(second)), Some(Value::Int(nano)), Some(Value::String(zone))) = (
        value.field("second"),
        value.field("nanosecond"),
        value.field("zone"),
    ) else {
        return None;
    };
    let stamp = Timestamp::new(*second, i32::try_from(*nano).ok()?).ok()?;
    let zone = if zone.as_ref() == "UTC" {
        TimeZone::UTC
    } else {
        TimeZone::get(zone).unwrap_or(TimeZone::UTC)
    };
    Some(stamp.to_zoned(zone))
}

/// The whole number that a value is.
pub(in crate::template) fn as_integer(value: &Value) -> Option<i64> {
    match value {
        Value::Int(number) => Some(*number),
        Value::Uint(number) => i64::try_from(*number).ok(),
        Value::Map(_) => match (kind(value), value.field("number")) {
            (Some(DURATION | MONTH | WEEKDAY), Some(Value::Int(number))) => Some(*number),
            _ => None,
        },
        _ => None,
    }
}

/// The whole number that a duration's argument is: Go reads a constant such as `28800e9` as an
/// integer where it needs one.
pub(in crate::template) fn as_nanoseconds(value: &Value) -> Option<i64> {
    match value {
        // Within 2^63, the conversion is exact.
        Value::Float(number) if number.fract() == 0.0 && number.abs() < 9.2e18 => {
            Some(*number as i64)
        }
        value => as_integer(value),
    }
}

/// The text that a value is.
pub(in crate::template) fn as_text(value: &Value) -> Option<&Arc<str>> {
    match value {
        Value::String(s) | Value::Safe { s, .. } => Some(s),
        _ => None,
    }
}

/// Go's name for the type of a value.
pub(in crate::template) fn go_type(value: &Value, dialect: Dialect) -> Cow<'_, str> {
    let name = match value {
        Value::Nil => "nil",
        Value::Bool(_) => "bool",
        Value::Int(_) => "int",
        Value::Uint(_) => "uint64",
        Value::Float(_) => "float64",
        Value::String(_) => "string",
        Value::Safe { .. } => "template.HTML",
        Value::List(items) => match items.first().and_then(kind) {
            Some("template.Alert") => "template.Alerts",
            Some(PAIR) => "template.Pairs",
            Some("template.sample") => "template.queryResult",
            _ if !items.is_empty() && items.iter().all(|item| as_text(item).is_some()) => {
                "[]string"
            }
            _ => "[]interface {}",
        },
        Value::Map(_) => match kind(value) {
            Some(kind) => return Cow::Borrowed(kind),
            None if dialect == Dialect::Notification => "template.KV",
            None => "map[string]string",
        },
        Value::Function(_) => "func",
    };
    Cow::Borrowed(name)
}

/// What does not fit into a message.
#[derive(Debug)]
pub(in crate::template) struct TooLong;

/// A value as Go's `%v` writes it. `inside` a list or a struct nothing is `<nil>`, on its own it is
/// `<no value>`.
pub(in crate::template) fn shown(value: &Value, dialect: Dialect) -> Result<String, TooLong> {
    let mut out = String::new();
    match value {
        Value::Nil => out.push_str("<no value>"),
        other => show(other, dialect, &mut out)?,
    }
    Ok(out)
}

pub(in crate::template) fn show(
    value: &Value,
    dialect: Dialect,
    out: &mut String,
) -> Result<(), TooLong> {
    match value {
        Value::Nil => out.push_str("<nil>"),
        Value::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
        Value::Int(number) => drop(write!(out, "{number}")),
        Value::Uint(number) => drop(write!(out, "{number}")),
        Value::Float(number) => out.push_str(&format_float_g(*number)),
        Value::String(s) | Value::Safe { s, .. } => out.push_str(s),
        Value::Function(_) => out.push_str("<func>"),
        Value::List(items) if items.first().and_then(kind) == Some(PAIR) => {
            for (index, pair) in items.iter().enumerate() {
                out.push_str(if index > 0 { ", " } else { "" });
                show_pair(pair.field("Name"), pair.field("Value"), dialect, out)?;
            }
        }
        Value::List(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                out.push_str(if index > 0 { " " } else { "" });
                show(item, dialect, out)?;
            }
            out.push(']');
        }
        Value::Map(_) => match kind(value) {
            Some(TIME) => out.push_str(
                &as_moment(value).map_or_else(String::new, |moment| time::go_text(&moment)),
            ),
            Some(DURATION) => out.push_str(&time::duration(as_integer(value).unwrap_or(0))),
            Some(MONTH) => out.push_str(time::month(as_integer(value).unwrap_or(0))),
            Some(WEEKDAY) => out.push_str(time::weekday(as_integer(value).unwrap_or(0))),
            Some(HISTOGRAM) => out.push_str(
                value
                    .field("text")
                    .and_then(as_text)
                    .map_or("", |text| text),
            ),
            None if dialect == Dialect::Notification => {
                for (index, (name, value)) in sorted(value).into_iter().enumerate() {
                    out.push_str(if index > 0 { ", " } else { "" });
                    show_pair(Some(&text(name)), Some(value), dialect, out)?;
                }
            }
            None | Some(DICT) => {
                out.push_str("map[");
                for (index, (name, value)) in entries(value).into_iter().enumerate() {
                    out.push_str(if index > 0 { " " } else { "" });
                    out.push_str(name);
                    out.push(':');
                    show(value, dialect, out)?;
                }
                out.push(']');
            }
            Some(_) => {
                out.push('{');
                for (index, (_, value)) in entries(value).into_iter().enumerate() {
                    out.push_str(if index > 0 { " " } else { "" });
                    show(value, dialect, out)?;
                }
                out.push('}');
            }
        },
    }
    if out.len() > MAX_OUTPUT {
        Err(TooLong)
    } else {
        Ok(())
    }
}

fn show_pair(
    name: Option<&Value>,
    value: Option<&Value>,
    dialect: Dialect,
    out: &mut String,
) -> Result<(), TooLong> {
    show(name.unwrap_or(&Value::Nil), dialect, out)?;
    out.push('=');
    show(value.unwrap_or(&Value::Nil), dialect, out)
}

/// The pairs of a label set: `alertname` first, the others by name (SEMANTICS 176).
pub(in crate::template) fn sorted(set: &Value) -> Vec<(&str, &Value)> {
    let mut pairs = entries(set);
    pairs.sort_by_key(|(name, _)| *name != "alertname");
    pairs
}

/// How much a value holds, in bytes of text and 16 for each part, counted as if nothing were
/// shared; `None` beyond `limit` or 64 levels.
pub(in crate::template) fn weight(value: &Value, limit: usize) -> Option<usize> {
    fn add(value: &Value, depth: usize, left: &mut usize) -> Option<()> {
        if depth > 64 {
            return None;
        }
        let own = 16 + as_text(value).map_or(0, |s| s.len());
        *left = left.checked_sub(own)?;
        match value {
            Value::List(items) => items.iter().try_for_each(|item| add(item, depth + 1, left)),
            Value::Map(map) => map.values().try_for_each(|item| add(item, depth + 1, left)),
            _ => Some(()),
        }
    }
    let mut left = limit;
    add(value, 0, &mut left).map(|()| limit - left)
}
