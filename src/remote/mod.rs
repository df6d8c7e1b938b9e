//! Other servers that nightbell talks to.

pub mod alertmanager;
pub mod heartbeat;
pub mod peer;
