//! Field access and methods: what Go finds by reflection.
//!
//! A set of labels is Go's `map[string]string` (a missing key is the empty text), a struct refuses
//! a field that it has not.

use std::sync::Arc;

use gotmpl::Value;
use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};

use super::call::{Context, Fault, Outcome, fail, misuse};
use super::time;
use super::typed::{self, DICT, DURATION, Dialect, PAIR};
use crate::template::functions::expected;
use crate::template::text;

/// Go's zero time, the first second of the year 1, in seconds since the Unix epoch.
const ZERO_SECOND: i64 = -62_135_596_800;

/// `base.name` with arguments.
pub(in crate::template) fn dot(
    context: &Context,
    base: &Value,
    name: &str,
    arguments: &[Value],
) -> Outcome {
    let unknown = || {
        misuse(format!(
            "can't evaluate field {name} in type {}",
            context.type_of(base)
        ))
    };
    match (base, typed::kind(base)) {
        (Value::Map(_), Some(typed::TIME)) => match typed::as_moment(base) {
            Some(moment) => time_method(&moment, name, arguments)?.map_or_else(unknown, Ok),
            None => unknown(),
        },
        (Value::Map(_), Some(DURATION)) => {
            duration_method(typed::as_integer(base).unwrap_or(0), name, arguments)?
                .map_or_else(unknown, Ok)
        }
        (Value::Map(_), Some(kind @ (typed::MONTH | typed::WEEKDAY))) if name == "String" => {
            let number = typed::as_integer(base).unwrap_or(0);
            Ok(text(if kind == typed::MONTH {
                time::month(number)
            } else {
                time::weekday(number)
            }))
        }
        (Value::Map(map), kind) => match map.get(name) {
            _ if kind.is_none()
                && context.dialect == Dialect::Notification
                && is_set_method(name) =>
            {
                set_method(context, base, name, arguments)
            }
            Some(_) if !arguments.is_empty() => misuse(format!(
                "{name} has arguments but cannot be invoked as function"
            )),
            Some(value) => Ok(value.clone()),
            None if kind == Some(DICT) => Ok(Value::Nil),
            // Alertmanager has them from 0.34 on; the routes here have no labels.
            None if kind == Some("template.Data") && name == "RouteLabels" => {
                Ok(Value::Map(Arc::default()))
            }
            None if kind.is_none() => Ok(text("")),
            None => unknown(),
        },
        (Value::List(list), _) => match (name, list.first().and_then(typed::kind)) {
            ("Firing", Some("template.Alert") | None) => Ok(with_status(list, "firing")),
            ("Resolved", Some("template.Alert") | None) => Ok(with_status(list, "resolved")),
            ("Names", Some(PAIR) | None) => Ok(each(list, "Name")),
            ("Values", Some(PAIR) | None) => Ok(each(list, "Value")),
            ("String", Some(PAIR)) => Ok(text(&context.shown(base)?)),
            _ => unknown(),
        },
        (Value::Nil, _) => misuse(format!("nil pointer evaluating interface {{}}.{name}")),
        _ => unknown(),
    }
}

fn is_set_method(name: &str) -> bool {
    matches!(
        name,
        "SortedPairs" | "Names" | "Values" | "Remove" | "String"
    )
}

/// The methods of a label set (Alertmanager's `KV`, SEMANTICS 176).
fn set_method(context: &Context, set: &Value, name: &str, arguments: &[Value]) -> Outcome {
    let want = usize::from(name == "Remove");
    if arguments.len() != want {
        return misuse(format!(
            "wrong number of args for {name}: want {want} got {}",
            arguments.len()
        ));
    }
    let pairs = typed::sorted(set);
    let list: Vec<Value> = match name {
        "Names" => pairs.iter().map(|(name, _)| text(name)).collect(),
        "Values" => pairs.iter().map(|(_, value)| (*value).clone()).collect(),
        "SortedPairs" => pairs
            .iter()
            .map(|(name, value)| {
                typed::structure(PAIR, [("Name", text(name)), ("Value", (*value).clone())])
            })
            .collect(),
        "Remove" => {
            let Some(Value::List(removed)) = arguments.first() else {
                return expected(
                    "[]string",
                    context,
                    arguments.first().unwrap_or(&Value::Nil),
                );
            };
            let gone = |name: &str| {
                removed
                    .iter()
                    .filter_map(typed::as_text)
                    .any(|removed| removed.as_ref() == name)
            };
            let kept = pairs
                .iter()
                .filter(|(name, _)| !gone(name))
                .map(|(name, value)| (Arc::from(*name), (*value).clone()));
            return Ok(Value::Map(Arc::new(kept.collect())));
        }
        _ => {
            return Ok(text(
                &typed::shown(set, Dialect::Notification).unwrap_or_default(),
            ));
        }
    };
    Ok(Value::List(list.into()))
}

/// The alerts of a list that have this status (Alertmanager's `Alerts.Firing`).
fn with_status(alerts: &[Value], status: &str) -> Value {
    Value::List(
        alerts
            .iter()
            .filter(|a| {
                a.field("Status")
                    .and_then(typed::as_text)
                    .is_some_and(|s| s.as_ref() == status)
            })
            .cloned()
            .collect(),
    )
}

/// One field of each element (Alertmanager's `Pairs.Names`).
fn each(list: &[Value], field: &str) -> Value {
    Value::List(
        list.iter()
            .filter_map(|element| element.field(field).cloned())
            .collect(),
    )
}

/// A method of Go's `time.Time`; `None` when there is no such method.
fn time_method(moment: &Zoned, name: &str, arguments: &[Value]) -> Result<Option<Value>, Fault> {
    let stamp = moment.timestamp();
    let number = |number: i64| Ok(Some(Value::Int(number)));
    let other = || {
        arguments
            .first()
            .and_then(typed::as_moment)
            .map(|other| other.timestamp())
    };
    let shifted = |to: Option<Timestamp>| match to {
        Some(to) => Ok(Some(typed::moment(
            &to.to_zoned(moment.time_zone().clone()),
        ))),
        None => fail("the time is out of range"),
    };
    match (name, arguments) {
        ("Format", [layout]) => match typed::as_text(layout) {
            Some(layout) => Ok(Some(text(&time::format(layout, moment)))),
            None => misuse("wrong type for value; expected string"),
        },
        ("String", []) => Ok(Some(text(&time::go_text(moment)))),
        ("Unix", []) => number(stamp.as_second()),
        ("UnixMilli", []) => number(stamp.as_millisecond()),
        ("UnixMicro", []) => number(stamp.as_microsecond()),
        ("UnixNano", []) => number(i64::try_from(stamp.as_nanosecond()).unwrap_or(0)),
        ("UTC" | "Local", []) => Ok(Some(typed::utc(stamp))),
        ("IsZero", []) => Ok(Some(Value::Bool(
            stamp.as_second() == ZERO_SECOND && stamp.subsec_nanosecond() == 0,
        ))),
        ("Year", []) => number(moment.year().into()),
        ("Month", []) => Ok(Some(typed::number(typed::MONTH, moment.month().into()))),
        ("Day", []) => number(moment.day().into()),
        ("YearDay", []) => number(moment.day_of_year().into()),
        ("Hour", []) => number(moment.hour().into()),
        ("Minute", []) => number(moment.minute().into()),
        ("Second", []) => number(moment.second().into()),
        ("Nanosecond", []) => number(moment.subsec_nanosecond().into()),
        ("Weekday", []) => Ok(Some(typed::number(
            typed::WEEKDAY,
            moment.weekday().to_sunday_zero_offset().into(),
        ))),
        ("After", [_]) => Ok(other().map(|other| Value::Bool(stamp > other))),
        ("Before", [_]) => Ok(other().map(|other| Value::Bool(stamp < other))),
        ("Equal", [_]) => Ok(other().map(|other| Value::Bool(stamp == other))),
        ("Sub", [_]) => {
            Ok(other().map(|other| typed::number(DURATION, time::between(stamp, other))))
        }
        ("AddDate", [years, months, days]) => {
            let [years, months, days] =
                [years, months, days].map(|part| typed::as_nanoseconds(part).unwrap_or(0));
            shifted(time::add_date(moment, years, months, days))
        }
        ("Round", [by]) => shifted(typed::as_nanoseconds(by).and_then(|by| {
            let since = stamp.as_nanosecond() - i128::from(ZERO_SECOND) * 1_000_000_000;
            let by = i128::from(by);
            let past = if by > 0 { since.rem_euclid(by) } else { 0 };
            let shift = if past * 2 < by || by <= 0 {
                -past
            } else {
                by - past
            };
            Timestamp::from_nanosecond(stamp.as_nanosecond() + shift).ok()
        })),
        ("Add", [by]) => shifted(
            typed::as_nanoseconds(by)
                .and_then(|by| stamp.checked_add(jiff::SignedDuration::from_nanos(by)).ok()),
        ),
        ("Truncate", [by]) => shifted(typed::as_nanoseconds(by).and_then(|by| {
            let since = stamp.as_nanosecond() - i128::from(ZERO_SECOND) * 1_000_000_000;
            let by = i128::from(by);
            Timestamp::from_nanosecond(
                stamp.as_nanosecond() - if by > 0 { since.rem_euclid(by) } else { 0 },
            )
            .ok()
        })),
        _ => Ok(None),
    }
}

/// A method of Go's `time.Duration`; `None` when there is no such method.
fn duration_method(nanos: i64, name: &str, arguments: &[Value]) -> Result<Option<Value>, Fault> {
    let duration = |nanos: i64| Ok(Some(typed::number(DURATION, nanos)));
    match (name, arguments) {
        ("String", []) => Ok(Some(text(&time::duration(nanos)))),
        ("Nanoseconds", []) => Ok(Some(Value::Int(nanos))),
        ("Microseconds", []) => Ok(Some(Value::Int(nanos / 1_000))),
        ("Milliseconds", []) => Ok(Some(Value::Int(nanos / 1_000_000))),
        ("Seconds", []) => Ok(Some(Value::Float(nanos as f64 / 1e9))),
        ("Minutes", []) => Ok(Some(Value::Float(nanos as f64 / 60e9))),
        ("Hours", []) => Ok(Some(Value::Float(nanos as f64 / 3600e9))),
        ("Abs", []) => duration(nanos.saturating_abs()),
        ("Truncate" | "Round", [by]) => {
            let Some(by) = typed::as_integer(by) else {
                return misuse("wrong type for value; expected time.Duration");
            };
            if by <= 0 {
                return duration(nanos);
            }
            let down = nanos - nanos % by;
            let away = name == "Round" && (nanos % by).unsigned_abs() * 2 >= by.unsigned_abs();
            duration(if away {
                down.saturating_add(by * nanos.signum())
            } else {
                down
            })
        }
        _ => Ok(None),
    }
}

/// The zone of this name.
pub(in crate::template) fn zone(name: &str) -> Result<TimeZone, Fault> {
    match name {
        "" | "UTC" | "Local" => Ok(TimeZone::UTC),
        _ => TimeZone::get(name).or_else(|_| fail(format!("unknown time zone {name}"))),
    }
}
