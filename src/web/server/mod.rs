//! The listening side, below every route: connections and their bounds, TLS, heads of requests, and
//! the headers of every answer.
//!
//! [`serve`] accepts connections and is where to start; [`connections`] counts them for each
//! address, [`stream`] reads heads within bounds of time and size, [`starting`] answers while the
//! log is still read.

pub(super) mod connections;
pub(super) mod guard;
pub mod serve;
pub(super) mod slash;
pub mod starting;
pub(super) mod stream;
pub mod tls;
