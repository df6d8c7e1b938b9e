//! `nightbell test`: rule tests in promtool's format, and a marked message to a receiver.

pub(super) mod junit;
pub(super) mod notify;
pub mod rules;
