//! Prometheus's text formats, out ([`encode`]) and in ([`parse`]), its protobuf format in
//! ([`protobuf`]), what OpenTelemetry sends ([`otlp`]), and what is unusual in a page ([`lint`]).

pub mod encode;
pub mod lint;
mod number;
mod openmetrics;
pub mod otlp;
pub mod parse;
pub mod protobuf;
mod series;
mod wire;

pub use encode::{EncodedFamily, Format, Metadata, Page};
pub use parse::{Item, Line, Lines, ParseError, Progress};
pub use series::{labels, written};
