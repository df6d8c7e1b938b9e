//! From the outbox to the receivers: one task for each integration, in order, until the receiver
//! has accepted each message.
//!
//! [`tasks`] starts and replaces the tasks; [`task`] is one of them: it takes the oldest message,
//! folds what waits into a [`digest`] where the service's rate limit demands it, calls the notifier
//! once, and settles the result. [`mailbox`] is what the dispatcher and a task share, [`fallback`]
//! is notified where a receiver cannot be, [`action`] takes recovery actions. Start with [`task`].

pub(super) mod action;
pub mod deliverer;
pub mod digest;
pub mod fallback;
pub mod mailbox;
pub(super) mod refused;
pub(super) mod renewing;
pub mod task;
pub(super) mod tasks;
