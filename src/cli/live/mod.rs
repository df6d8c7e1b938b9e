//! Commands that ask a running nightbell, or change something there. [`server`] is the connection
//! that they share.

pub(super) mod ack;
pub(super) mod actions;
pub(super) mod alert;
pub(super) mod arguments;
pub(super) mod dead_letters;
pub(super) mod health;
pub(super) mod maintenance;
pub(super) mod place;
pub(super) mod query;
pub(super) mod query_output;
pub(super) mod routes;
pub(super) mod server;
pub(super) mod silence;
pub(super) mod why;
