//! Attributes: names with values of several types, and how OpenTelemetry writes a value as text.

use std::borrow::Cow;

use base64::Engine as _;

use super::super::wire::{Fields, Value};
use super::message::{Problem, each};
use crate::model::text::format_float;

/// Most attributes that are read of one thing; OpenTelemetry's own limit is the same.
const MOST: usize = 128;
/// How deep lists and maps are read.
const DEEPEST: usize = 16;

/// A value.
#[derive(Clone, Copy, Debug)]
pub enum Any<'a> {
    /// None at all.
    Empty,
    /// A text.
    Text(&'a str),
    /// True or false.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// Any number.
    Double(f64),
    /// Bytes.
    Bytes(&'a [u8]),
    /// Values.
    List(List<'a>),
    /// Names with values.
    Map(List<'a>),
}

/// The parts of a list or of a map, which are not read before they are needed.
#[derive(Clone, Copy, Debug)]
pub struct List<'a>(Fields<'a>);

impl<'a> Any<'a> {
    fn read(mut fields: Fields<'a>) -> Result<Self, Problem> {
        let mut any = Any::Empty;
        while let Some((number, value)) = fields.next()? {
            any = match number {
                1 => Any::Text(value.text()?),
                2 => Any::Bool(value.uint()? != 0),
                3 => Any::Int(value.int()?),
                4 => Any::Double(value.double()?),
                5 => Any::List(List(value.message()?)),
                6 => Any::Map(List(value.message()?)),
                7 => Any::Bytes(value.bytes()?),
                _ => continue,
            };
        }
        Ok(any)
    }

    /// The text itself, where it is one.
    pub fn as_text(&self) -> Option<&'a str> {
        match self {
            Any::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The number, where it is one or a text of one.
    pub fn as_number(&self) -> Option<f64> {
        match self {
            Any::Int(number) => Some(*number as f64),
            Any::Double(number) => Some(*number),
            Any::Text(text) => text.parse().ok(),
            _ => None,
        }
    }

    /// The value as text, as OpenTelemetry's libraries for Go write it: lists and maps are JSON.
    pub fn text(&self) -> Cow<'a, str> {
        match self {
            Any::Empty => Cow::Borrowed(""),
            Any::Text(text) => Cow::Borrowed(text),
            Any::Bool(value) => Cow::Borrowed(if *value { "true" } else { "false" }),
            Any::Int(number) => Cow::Owned(number.to_string()),
            Any::Double(number) => Cow::Owned(json_float(*number)),
            Any::Bytes(bytes) => {
                Cow::Owned(base64::engine::general_purpose::STANDARD.encode(bytes))
            }
            Any::List(_) | Any::Map(_) => {
                let mut out = String::new();
                self.write_json(&mut out, 0);
                Cow::Owned(out)
            }
        }
    }

    fn write_json(&self, out: &mut String, depth: usize) {
        match self {
            _ if depth > DEEPEST => out.push_str("null"),
            Any::Empty => out.push_str("null"),
            Any::Text(text) => write_text(out, text),
            Any::Bytes(_) => write_text(out, &self.text()),
            Any::Bool(_) | Any::Int(_) | Any::Double(_) => out.push_str(&self.text()),
            Any::List(list) => {
                out.push('[');
                let mut separator = "";
                // What cannot be read was refused with its message before.
                let _ = each(list.0, 1, |fields| {
                    out.push_str(separator);
                    separator = ",";
                    Any::read(fields)?.write_json(out, depth + 1);
                    Ok(())
                });
                out.push(']');
            }
            Any::Map(list) => {
                let mut pairs = Vec::new();
                let _ = each(list.0, 1, |fields| {
                    pairs.push(pair(fields)?);
                    Ok(())
                });
                pairs.sort_by_key(|(name, _)| *name);
                out.push('{');
                for (index, (name, value)) in pairs.iter().enumerate() {
                    out.push_str(if index > 0 { "," } else { "" });
                    write_text(out, name);
                    out.push(':');
                    value.write_json(out, depth + 1);
                }
                out.push('}');
            }
        }
    }
}

fn write_text(out: &mut String, text: &str) {
    // A text is always JSON; Go's writer escapes what HTML has a meaning for.
    for c in serde_json::to_string(text).unwrap_or_default().chars() {
        match c {
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                out.push_str(&format!("\\u{:04x}", u32::from(c)))
            }
            c => out.push(c),
        }
    }
}

/// A number as Go's JSON writes it: its exponent has no leading zero.
fn json_float(number: f64) -> String {
    let text = format_float(number).replace("e-0", "e-");
    if number.is_finite() {
        text
    } else {
        format!("json: unsupported value: {text}")
    }
}

fn pair<'a>(mut fields: Fields<'a>) -> Result<(&'a str, Any<'a>), Problem> {
    let (mut name, mut any) = ("", Any::Empty);
    while let Some((number, value)) = fields.next()? {
        match number {
            1 => name = value.text()?,
            2 => any = Any::read(value.message()?)?,
            _ => {}
        }
    }
    Ok((name, any))
}

/// The attributes of one thing, in the order in which they came.
#[derive(Clone, Debug, Default)]
pub struct Attributes<'a> {
    pairs: Vec<(&'a str, Any<'a>)>,
    /// How many there were beyond the bound.
    pub excess: usize,
}

impl<'a> Attributes<'a> {
    /// Adds those in fields of this number.
    pub(super) fn read(&mut self, fields: Fields<'a>, wanted: u32) -> Result<(), Problem> {
        each(fields, wanted, |fields| self.add(fields))
    }

    pub(super) fn add_value(&mut self, value: Value<'a>) -> Result<(), Problem> {
        self.add(value.message()?)
    }

    fn add(&mut self, fields: Fields<'a>) -> Result<(), Problem> {
        let pair = pair(fields)?;
        if self.pairs.len() < MOST {
            self.pairs.push(pair);
        } else {
            self.excess += 1;
        }
        Ok(())
    }

    /// The value of a name.
    pub fn get(&self, name: &str) -> Option<Any<'a>> {
        self.pairs
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(_, value)| *value)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (&'a str, Any<'a>)> + '_ {
        self.pairs.iter().copied()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.pairs.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.pairs.is_empty()
    }
}
