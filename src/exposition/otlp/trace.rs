//! Spans and log records, without what people wrote: bodies of records and descriptions of errors
//! are passed over
//! (<https://github.com/open-telemetry/opentelemetry-proto/tree/main/opentelemetry/proto>).

use super::super::wire::Fields;
use super::attribute::Attributes;
use super::message::{Problem, each, identifier};
use super::resource::each_resource;

/// One span.
#[derive(Clone, Debug, Default)]
pub struct Span<'a> {
    /// Its trace.
    pub trace: Option<[u8; 16]>,
    /// Itself.
    pub id: Option<[u8; 8]>,
    /// The span that it is a part of.
    pub parent: Option<[u8; 8]>,
    /// Its name.
    pub name: &'a str,
    /// Begin and end, in nanoseconds since 1970.
    pub start: u64,
    /// See `start`.
    pub end: u64,
    /// Its attributes.
    pub attributes: Attributes<'a>,
    /// The first of its events that bear this name or that, in the order in which they came; their
    /// attributes are not read.
    pub events: Vec<Event<'a>>,
    /// Whether its status is an error.
    pub is_error: bool,
}

/// An event of a span.
#[derive(Clone, Copy, Debug)]
pub struct Event<'a> {
    /// Its name.
    pub name: &'a str,
    /// When, in nanoseconds since 1970.
    pub at: u64,
}

/// Events that are kept of one span.
const MOST_EVENTS: usize = 64;
/// The status that is an error.
const ERROR: u64 = 2;

/// Calls `visit` for every span of a message `ExportTraceServiceRequest`, with the attributes of
/// its resource.
///
/// # Errors
/// When the message is not one; what was visited before was.
pub fn spans<'a>(
    body: &'a [u8],
    visit: &mut dyn FnMut(&Attributes<'a>, Span<'a>),
) -> Result<(), Problem> {
    each_resource(body, 1, |resource, whole| {
        each(whole, 2, |scope| {
            each(scope, 2, |fields| {
                visit(resource, span(fields)?);
                Ok(())
            })
        })
    })
}

fn span(mut fields: Fields<'_>) -> Result<Span<'_>, Problem> {
    let mut span = Span::default();
    while let Some((number, value)) = fields.next()? {
        match number {
            1 => span.trace = identifier(value)?,
            2 => span.id = identifier(value)?,
            4 => span.parent = identifier(value)?,
            5 => span.name = value.text()?,
            7 => span.start = value.fixed64()?,
            8 => span.end = value.fixed64()?,
            9 => span.attributes.add_value(value)?,
            11 => {
                let event = event(value.message()?)?;
                if span.events.len() < MOST_EVENTS {
                    span.events.push(event);
                }
            }
            15 => {
                let mut status = value.message()?;
                while let Some((number, value)) = status.next()? {
                    if number == 3 {
                        span.is_error = value.uint()? == ERROR;
                    }
                }
            }
            _ => {}
        }
    }
    Ok(span)
}

fn event(mut fields: Fields<'_>) -> Result<Event<'_>, Problem> {
    let mut event = Event { name: "", at: 0 };
    while let Some((number, value)) = fields.next()? {
        match number {
            1 => event.at = value.fixed64()?,
            2 => event.name = value.text()?,
            3 => value.message()?.check()?,
            _ => {}
        }
    }
    Ok(event)
}

/// Calls `visit` for every log record of a message `ExportLogsServiceRequest`, with the attributes
/// of its resource and the number of its severity: 0 for none, 1 to 24 from trace to fatal.
///
/// # Errors
/// When the message is not one; what was visited before was.
pub fn logs<'a>(
    body: &'a [u8],
    visit: &mut dyn FnMut(&Attributes<'a>, u64),
) -> Result<(), Problem> {
    each_resource(body, 1, |resource, whole| {
        each(whole, 2, |scope| {
            each(scope, 2, |mut fields| {
                let mut severity = 0;
                while let Some((number, value)) = fields.next()? {
                    if number == 2 {
                        severity = value.uint()?;
                    }
                }
                visit(resource, severity);
                Ok(())
            })
        })
    })
}
