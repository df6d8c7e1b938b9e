//! Prometheus's text formats, out ([`encode`]) and in ([`parse`]), and what is unusual in a page ([`lint`]).

pub mod encode;
pub mod lint;
mod openmetrics;
pub mod parse;
mod series;

pub use encode::{EncodedFamily, Format, Page};
pub use parse::{Item, Line, Lines, ParseError};
pub use series::labels;
