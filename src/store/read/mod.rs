//! Reading: which series pass some matchers, and their samples from disk and memory as one.

pub(super) mod kept;
mod located;
pub(super) mod merged;
mod reading;
pub(super) mod seen;
pub(super) mod selection;
