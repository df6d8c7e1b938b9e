//! `toJson`: a value as Go's `encoding/json` writes it
//! (<https://pkg.go.dev/encoding/json#Marshal>).

use std::fmt::Write as _;

use gotmpl::Value;

use super::typed::{self, DURATION, MONTH, TIME, WEEKDAY};
use crate::model::text::go_exponent;
use crate::template::MAX_OUTPUT;

/// Why a value has no JSON.
#[derive(Debug, thiserror::Error)]
pub(in crate::template) enum JsonError {
    #[error("json: unsupported type: func")]
    Function,
    #[error("json: unsupported value: {0}")]
    Number(String),
    #[error("it is not a time")]
    NoTime,
    #[error("a text is longer than {MAX_OUTPUT} bytes")]
    TooLong,
}

/// The value in JSON.
pub(in crate::template) fn encode(value: &Value) -> Result<String, JsonError> {
    let mut out = String::new();
    write(value, &mut out)?;
    Ok(out)
}

fn write(value: &Value, out: &mut String) -> Result<(), JsonError> {
    match value {
        Value::Nil => out.push_str("null"),
        Value::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
        Value::Int(number) => drop(write!(out, "{number}")),
        Value::Uint(number) => drop(write!(out, "{number}")),
        Value::Float(number) => out.push_str(&float(*number)?),
        Value::String(s) | Value::Safe { s, .. } => string(s, out),
        Value::List(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                out.push_str(if index > 0 { "," } else { "" });
                write(item, out)?;
            }
            out.push(']');
        }
        Value::Map(_) => match typed::kind(value) {
            Some(TIME) => {
                let moment = typed::as_moment(value).ok_or(JsonError::NoTime)?;
                let written = super::time::format("2006-01-02T15:04:05.999999999Z07:00", &moment);
                out.push_str(&format!("\"{written}\""));
            }
            Some(DURATION | MONTH | WEEKDAY) => {
                let _ = write!(out, "{}", typed::as_integer(value).unwrap_or(0));
            }
            kind => {
                out.push('{');
                for (index, (name, value)) in typed::entries(value).into_iter().enumerate() {
                    out.push_str(if index > 0 { "," } else { "" });
                    string(&key(kind, name), out);
                    out.push(':');
                    write(value, out)?;
                }
                out.push('}');
            }
        },
        Value::Function(_) => return Err(JsonError::Function),
    }
    if out.len() > MAX_OUTPUT {
        Err(JsonError::TooLong)
    } else {
        Ok(())
    }
}

/// The name of a field in Alertmanager's JSON.
fn key(kind: Option<&str>, name: &str) -> String {
    match (kind, name) {
        (Some("template.Data"), "NotificationReason") => "notification_reason".into(),
        (Some("template.Data" | "template.Alert"), name) => {
            name[..1].to_ascii_lowercase() + &name[1..]
        }
        _ => name.into(),
    }
}

fn string(written: &str, out: &mut String) {
    out.push('"');
    for c in written.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' | '\0'..='\u{1f}' => {
                let _ = write!(out, "\\u{:04x}", c as u32);
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

fn float(value: f64) -> Result<String, JsonError> {
    if !value.is_finite() {
        return Err(JsonError::Number(crate::model::text::format_float(value)));
    }
    let magnitude = value.abs();
    if magnitude != 0.0 && !(1e-6..1e21).contains(&magnitude) {
        let written = go_exponent(&format!("{value:e}"));
        // JSON's exponents have no leading zero after a minus.
        return Ok(written.replace("e-0", "e-"));
    }
    Ok(format!("{value}"))
}
