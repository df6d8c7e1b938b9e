//! From a tree to a value, node by node over all steps of a query.
//!
//! [`evaluator`] walks the tree and is where to start; [`selector`] reads samples, on several
//! [`threads`] where there are many, [`windows`] says which of them each step sees, [`binary`] and
//! [`aggregate`] combine them, [`frame`] holds the values of several series at all steps,
//! [`memory`] counts what they take before they are made.

pub(super) mod aggregate;
pub(super) mod aggregate_native;
pub(super) mod binary;
pub(super) mod evaluator;
pub(super) mod frame;
pub(super) mod memory;
pub(super) mod operand;
pub(super) mod order;
pub(super) mod selector;
pub(super) mod span;
mod threads;
pub(super) mod windows;
