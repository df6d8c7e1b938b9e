//! Field access and methods: what Go finds by reflection.
//!
//! Values have no types here, so a convention stands for them: a map that holds only texts is Go's `map[string]string` (a missing key is
//! the empty text), any other map is a struct (a missing field is an error). A time is its text in Go's form.

use std::sync::Arc;

use gotmpl::{TemplateError, Value};

use super::{failed, text, time};

/// Go's zero time, the first second of the year 1, in seconds since the Unix epoch.
const ZERO_SECOND: i64 = -62_135_596_800;

/// `base.name` with arguments.
pub(super) fn dot(args: &[Value]) -> Result<Value, TemplateError> {
    let (Some(base), Some(Value::String(name))) = (args.first(), args.get(1)) else {
        return failed("field access without a field");
    };
    let arguments = &args[2..];
    match base {
        Value::Map(map) => match map.get(name.as_ref()) {
            Some(Value::Function(method)) => method(arguments),
            Some(_) if !arguments.is_empty() => failed(format!("{name} has arguments but cannot be invoked as function")),
            Some(value) => Ok(value.clone()),
            None if map.values().all(|v| matches!(v, Value::String(_))) => match name.as_ref() {
                "SortedPairs" | "Names" | "Values" | "Remove" => set_method(map, name, arguments),
                _ => Ok(text("")),
            },
            None => failed(format!("can't evaluate field {name} in this type")),
        },
        Value::String(moment) => match time::parse(moment) {
            Some(moment) => time_method(moment, name, arguments),
            None => failed(format!("can't evaluate field {name} in type string")),
        },
        Value::List(list) => match name.as_ref() {
            "Firing" => Ok(with_status(list, "firing")),
            "Resolved" => Ok(with_status(list, "resolved")),
            "Names" => Ok(each(list, "Name")),
            "Values" => Ok(each(list, "Value")),
            _ => failed(format!("can't evaluate field {name} in a list")),
        },
        Value::Nil => failed(format!("nil pointer evaluating interface {{}}.{name}")),
        other => failed(format!("can't evaluate field {name} in type {}", go_type(other))),
    }
}

/// The methods of a label set (Alertmanager's `KV`): `SortedPairs`, `Names`, `Values`, `Remove`.
fn set_method(map: &std::collections::BTreeMap<Arc<str>, Value>, name: &str, arguments: &[Value]) -> Result<Value, TemplateError> {
    if name == "Remove" {
        let Some(Value::List(removed)) = arguments.first() else { return failed("Remove wants a list of names") };
        let gone = |key: &Arc<str>| removed.iter().any(|r| matches!(r, Value::String(r) if r == key));
        return Ok(Value::Map(Arc::new(map.iter().filter(|(k, _)| !gone(k)).map(|(k, v)| (Arc::clone(k), v.clone())).collect())));
    }
    let mut keys: Vec<&Arc<str>> = map.keys().collect();
    // Stable: `alertname` comes first, the others stay sorted.
    keys.sort_by_key(|key| key.as_ref() != "alertname");
    let value = |key: &Arc<str>| map.get(key).cloned().unwrap_or(Value::Nil);
    let list: Vec<Value> = match name {
        "Names" => keys.into_iter().map(|k| Value::String(Arc::clone(k))).collect(),
        "Values" => keys.into_iter().map(value).collect(),
        _ => keys
            .into_iter()
            .map(|k| Value::Map(Arc::new([(Arc::from("Name"), Value::String(Arc::clone(k))), (Arc::from("Value"), value(k))].into())))
            .collect(),
    };
    Ok(Value::List(list.into()))
}

/// The alerts of a list that have this status (Alertmanager's `Alerts.Firing`).
fn with_status(alerts: &[Value], status: &str) -> Value {
    Value::List(alerts.iter().filter(|a| matches!(a.field("Status"), Some(Value::String(s)) if s.as_ref() == status)).cloned().collect())
}

/// One field of each element (Alertmanager's `Pairs.Names`).
fn each(list: &[Value], field: &str) -> Value {
    Value::List(list.iter().filter_map(|element| element.field(field).cloned()).collect())
}

fn time_method(moment: jiff::Timestamp, name: &str, arguments: &[Value]) -> Result<Value, TemplateError> {
    match (name, arguments) {
        ("Format", [Value::String(layout)]) => Ok(text(&time::format(layout, &moment.to_zoned(jiff::tz::TimeZone::UTC)))),
        ("Unix", []) => Ok(Value::Int(moment.as_second())),
        ("UnixMilli", []) => Ok(Value::Int(moment.as_millisecond())),
        ("UTC" | "Local", []) => Ok(text(&time::go_text(moment))),
        ("IsZero", []) => Ok(Value::Bool(moment.as_second() == ZERO_SECOND)),
        _ => failed(format!("can't evaluate field {name} in type *time.Time")),
    }
}

/// Go's name for the type of a value.
pub(super) fn go_type(value: &Value) -> &'static str {
    match value {
        Value::Nil => "nil",
        Value::Bool(_) => "bool",
        Value::Int(_) => "int",
        Value::Uint(_) => "uint64",
        Value::Float(_) => "float64",
        Value::String(_) => "string",
        Value::List(_) => "[]interface {}",
        Value::Map(_) => "map[string]interface {}",
        Value::Function(_) => "func",
    }
}
