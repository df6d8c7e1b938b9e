//! One flush of one aggregation group: from the alerts that it holds to the messages in the outbox.
//!
//! A [`group::Group`] says when it is due. [`pipeline`] then goes through the stages of
//! Alertmanager's pipeline: inhibition, intervals, silences, flapping, and for each integration the
//! notification log ([`dedup`]). [`decision`] records why each alert was or was not notified,
//! [`message`] writes what the notifier will carry. Nothing here does I/O: the result is one
//! transaction for `state`. [`unaccepted`] brings back what a receiver refused, so that the next
//! flush sends it again. Start with [`pipeline`].

pub mod decision;
pub mod dedup;
pub mod group;
pub mod message;
pub mod pipeline;
pub(super) mod unaccepted;
