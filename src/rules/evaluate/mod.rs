//! One group of rules at one instant: each rule sees what those before it wrote.
//!
//! [`group`] goes through the rules and is where to start; [`recording`] and [`alerting`] are one
//! step of a rule each, pure functions; [`active`] is one alert of a rule, [`inputs`] decides
//! between an end and a gap, [`written`] marks the end of series.

pub mod active;
pub mod alerting;
pub mod context;
pub mod group;
pub(super) mod inputs;
pub(super) mod recording;
pub(super) mod written;
