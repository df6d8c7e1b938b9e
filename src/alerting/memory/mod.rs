//! What the dispatcher remembers between flushes: the active alerts, their groups and timers, and
//! the views of them that the API shows.
//!
//! [`dispatcher::Dispatcher`] owns it all and decides what is due. It does no I/O and asks no
//! clock: [`super::dispatch`] drives it.

pub(super) mod acceptance;
pub mod alerts;
pub(super) mod clock;
pub mod dispatcher;
pub(super) mod refusals;
pub mod view;
