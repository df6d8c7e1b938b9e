//! Other servers that nightbell talks to, or whose files it reads.

pub mod alertmanager;
pub mod heartbeat;
pub mod peer;
pub mod prometheus;
pub mod victoria;
