//! Prometheus's text formats, out ([`encode`]) and in (`parse`).

pub mod encode;

pub use encode::{EncodedFamily, Format, Page};
