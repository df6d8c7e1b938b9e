//! nightbell's own logs and its own metrics.
//!
//! Metrics live in a prometheus-client [`Registry`](prometheus_client::registry::Registry) that is
//! made once and passed to the code that counts; there is no global one.

mod logs;
mod process;
mod registry;
mod sparing;
mod standstill;

pub use logs::{LogFormat, start_logs};
pub use registry::{Telemetry, encode_registry};
pub use sparing::Sparing;
pub use standstill::{Standstill, watched};
