//! What OpenTelemetry's exporters send over HTTP (<https://opentelemetry.io/docs/specs/otlp/>): metrics, spans and log records, in Protocol
//! Buffers or in JSON, which is rewritten as Protocol Buffers first ([`json`]), so that everything behind reads one format.
//!
//! A message is borrowed and visited piece by piece: nothing is gathered, since a few bytes can name very much. What a message says of people's
//! texts is not looked at: bodies of log records and descriptions of errors are skipped.

mod attribute;
pub mod json;
mod metric;
mod schema;
mod trace;

pub use attribute::{Any, Attributes};
pub use metric::{Data, Metric, Piece, Point, Temporality, points};
pub use trace::{Event, Span, logs, spans};

use super::wire::{Fields, Value};

/// What is wrong with a message, in words that quote nothing of it.
pub type Problem = &'static str;

/// Calls `visit` for each message in field `outer` with the attributes of its resource, which may come after what it describes.
fn each_resource<'a>(
    body: &'a [u8],
    outer: u32,
    mut visit: impl FnMut(&Attributes<'a>, Fields<'a>) -> Result<(), Problem>,
) -> Result<(), Problem> {
    each(Fields::of(body), outer, |whole| {
        let mut resource = Attributes::default();
        each(whole, 1, |fields| Attributes::read(&mut resource, fields, 1))?;
        visit(&resource, whole)
    })
}

/// Calls `visit` for each message in the fields of one number; all others must be whole.
fn each<'a>(mut fields: Fields<'a>, wanted: u32, mut visit: impl FnMut(Fields<'a>) -> Result<(), Problem>) -> Result<(), Problem> {
    while let Some((number, value)) = fields.next()? {
        if number == wanted {
            visit(value.message()?)?;
        }
    }
    Ok(())
}

/// An identifier of fixed length; `None` where it is absent or of another length.
fn identifier<const N: usize>(value: Value<'_>) -> Result<Option<[u8; N]>, Problem> {
    Ok(value.bytes()?.try_into().ok().filter(|id: &[u8; N]| *id != [0; N]))
}
