//! Small pictures of one series, for messages and pages. They hold no script and load nothing.

mod svg;

pub use svg::{Plot, svg};
