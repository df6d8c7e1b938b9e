//! What nightbell computes at every step: samples, their history on disk, and PromQL over both.
//!
//! A package of its own because it is built for speed where the rest is built for size (see the
//! profiles in `Cargo.toml`), and because a change above it does not compile it again. Its modules
//! are those of the lowest floors (`ARCHITECTURE.md`) and lie beside the others in `src/`; the
//! package `nightbell` shows them under its own name, so that `crate::store` means the same
//! everywhere.

#[path = "../config/mod.rs"]
pub mod config;
#[path = "../exposition/mod.rs"]
pub mod exposition;
#[path = "../model/mod.rs"]
pub mod model;
#[path = "../promql/mod.rs"]
pub mod promql;
#[path = "../store/mod.rs"]
pub mod store;
#[path = "../telemetry/mod.rs"]
pub mod telemetry;
