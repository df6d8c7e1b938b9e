//! OTLP's JSON (<https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding>) as Protocol
//! Buffers: lowerCamelCase names, 64-bit numbers as texts or numbers, enumerations as numbers,
//! identifiers in hexadecimal, unknown fields ignored.

use std::fmt;

use base64::Engine as _;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::schema::{self, Field, Kind};
use crate::model::bytes::{put_int, put_uint};

/// Which message a body is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Signal {
    /// `ExportMetricsServiceRequest`.
    Metrics,
    /// `ExportTraceServiceRequest`.
    Traces,
    /// `ExportLogsServiceRequest`.
    Logs,
}

/// Rewrites a body; what becomes of it has `most` bytes at most.
///
/// # Errors
/// What is wrong, in words that quote nothing of it.
pub fn to_protobuf(body: &[u8], signal: Signal, most: usize) -> Result<Vec<u8>, String> {
    let fields: &[Field] = match signal {
        Signal::Metrics => &schema::METRICS,
        Signal::Traces => &schema::TRACES,
        Signal::Logs => &schema::LOGS,
    };
    let mut out = Vec::new();
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    let read = Message {
        fields,
        out: &mut out,
        most,
    }
    .deserialize(&mut deserializer)
    .and_then(|()| deserializer.end());
    // The library's words may quote the body.
    read.map_err(|error| {
        format!(
            "the body is not this message in JSON: line {}, column {}",
            error.line(),
            error.column()
        )
    })?;
    Ok(out)
}

/// A message whose fields are appended to `out`.
struct Message<'o> {
    fields: &'static [Field],
    out: &'o mut Vec<u8>,
    most: usize,
}

impl<'de> DeserializeSeed<'de> for Message<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Message<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(name) = map.next_key::<std::borrow::Cow<'_, str>>()? {
            match self.fields.iter().find(|field| field.1 == name) {
                Some(field) => map.next_value_seed(Content {
                    field,
                    out: self.out,
                    most: self.most,
                })?,
                None => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }
}

/// The value of a field, or each of a list of them.
struct Content<'o> {
    field: &'static Field,
    out: &'o mut Vec<u8>,
    most: usize,
}

/// The wire types.
const VARINT: u32 = 0;
const FIXED64: u32 = 1;
const DELIMITED: u32 = 2;

impl Content<'_> {
    fn key(&mut self, wire: u32) {
        put_uint(self.out, u64::from(self.field.0 << 3 | wire));
    }

    fn delimited<E: Error>(&mut self, bytes: &[u8]) -> Result<(), E> {
        self.key(DELIMITED);
        put_uint(self.out, bytes.len() as u64);
        self.out.extend_from_slice(bytes);
        self.check()
    }

    fn check<E: Error>(&self) -> Result<(), E> {
        if self.out.len() > self.most {
            Err(E::custom("too long"))
        } else {
            Ok(())
        }
    }

    fn float<E: Error>(mut self, number: f64) -> Result<(), E> {
        self.key(FIXED64);
        self.out.extend_from_slice(&number.to_bits().to_le_bytes());
        self.check()
    }

    /// A whole number, whatever its sign: its bits are what is written.
    fn whole<E: Error>(mut self, number: u64) -> Result<(), E> {
        match self.field.2 {
            Kind::Varint => {
                self.key(VARINT);
                put_uint(self.out, number);
            }
            Kind::Zigzag => {
                self.key(VARINT);
                put_int(self.out, number as i64);
            }
            Kind::Fixed64 => {
                self.key(FIXED64);
                self.out.extend_from_slice(&number.to_le_bytes());
            }
            _ => return Err(E::custom("no number belongs here")),
        }
        self.check()
    }
}

impl<'de> DeserializeSeed<'de> for Content<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Content<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value of the field's type")
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<(), E> {
        match self.field.2 {
            Kind::Varint => self.whole(u64::from(value)),
            _ => Err(E::custom("no truth value belongs here")),
        }
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<(), E> {
        if matches!(self.field.2, Kind::Double) {
            self.float(value as f64)
        } else {
            self.whole(value)
        }
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<(), E> {
        if matches!(self.field.2, Kind::Double) {
            self.float(value as f64)
        } else {
            self.whole(value as u64)
        }
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<(), E> {
        match self.field.2 {
            Kind::Double => self.float(value),
            // Some write whole numbers with a point.
            _ if value.fract() == 0.0 && value.abs() < 9e15 => self.whole(value as i64 as u64),
            _ => Err(E::custom("a whole number belongs here")),
        }
    }

    fn visit_str<E: Error>(mut self, value: &str) -> Result<(), E> {
        match self.field.2 {
            Kind::Text => self.delimited(value.as_bytes()),
            Kind::Base64 => {
                let bytes = base64::engine::general_purpose::STANDARD.decode(value);
                self.delimited(&bytes.map_err(|_| E::custom("no base64"))?)
            }
            Kind::Hex => {
                self.delimited(&hex(value).ok_or_else(|| E::custom("no hexadecimal number"))?)
            }
            Kind::Double => self.float(value.parse().map_err(|_| E::custom("no number"))?),
            Kind::Varint | Kind::Zigzag | Kind::Fixed64 => {
                let number = value
                    .parse::<u64>()
                    .or_else(|_| value.parse::<i64>().map(|number| number as u64));
                self.whole(number.map_err(|_| E::custom("no whole number"))?)
            }
            Kind::Message(_) => Err(E::custom("an object belongs here")),
        }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        loop {
            let one = Content {
                field: self.field,
                out: &mut *self.out,
                most: self.most,
            };
            if list.next_element_seed(one)?.is_none() {
                return Ok(());
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(mut self, map: A) -> Result<(), A::Error> {
        let Kind::Message(fields) = self.field.2 else {
            return Err(A::Error::custom("no object belongs here"));
        };
        let mut inner = Vec::new();
        Message {
            fields,
            out: &mut inner,
            most: self.most.saturating_sub(self.out.len()),
        }
        .visit_map(map)?;
        self.delimited(&inner)
    }
}

/// The bytes of a hexadecimal number.
fn hex(text: &str) -> Option<Vec<u8>> {
    let (pairs, []) = text.as_bytes().as_chunks::<2>() else {
        return None;
    };
    let digit = |byte: u8| (byte as char).to_digit(16).map(|digit| digit as u8);
    pairs
        .iter()
        .map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?))
        .collect()
}
