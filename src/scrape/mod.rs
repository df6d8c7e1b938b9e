//! The collection loop: what is measured, when, and how it enters the store.

mod collecting;
mod global;
mod identity;
mod job;
mod relabel;

pub use crate::exposition::Format;
pub use collecting::{CollectorTarget, read_collectors, read_kinds};
pub use global::{Global, Limits};
pub use job::{Job, Protocol, TargetGroup, accept_header, read_jobs};
pub use relabel::{RelabelRule, apply as apply_relabelling, read_rules};
