//! What OpenTelemetry's exporters send over HTTP (<https://opentelemetry.io/docs/specs/otlp/>):
//! metrics, spans and log records, in Protocol Buffers or in JSON, which is rewritten as Protocol
//! Buffers first ([`json`]), so that everything behind reads one format.
//!
//! A message is borrowed and visited piece by piece: nothing is gathered, since a few bytes can
//! name very much. What a message says of people's texts is not looked at: bodies of log records
//! and descriptions of errors are skipped.

mod attribute;
pub mod json;
mod message;
mod metric;
mod resource;
mod schema;
mod trace;

pub use attribute::{Any, Attributes};
pub use message::Problem;
pub use metric::{Data, Metric, Piece, Point, Temporality, points};
pub use trace::{Event, Span, logs, spans};
