//! The configuration of collection: `global`, `scrape_configs` and `collectors`, key for key as
//! Prometheus documents them where it has them.
//!
//! [`job`] reads one scrape job and is where to start; [`global`] holds what jobs inherit,
//! [`collecting`] the block `collectors`, [`relabel`] rewrites targets and series. [`identity`]
//! tells a reload which targets are unchanged, so that they go on undisturbed.

pub(super) mod collecting;
pub(super) mod global;
pub(super) mod identity;
pub(super) mod job;
pub(super) mod names;
pub(super) mod native;
pub mod protocol;
pub(super) mod relabel;
