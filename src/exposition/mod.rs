//! Prometheus's text formats, out ([`encode`]) and in ([`parse`]).

pub mod encode;
mod openmetrics;
pub mod parse;
mod series;

pub use encode::{EncodedFamily, Format, Page};
pub use parse::{Item, Line, Lines, ParseError};
pub use series::labels;
