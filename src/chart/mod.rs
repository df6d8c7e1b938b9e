//! Small pictures of one series, for messages and pages. They hold no script and load nothing.

mod png;
mod svg;

pub use png::png;
pub use svg::{Plot, svg};
