//! The collection loop: what is measured, when, and how it enters the store.

mod body;
mod cache;
mod collecting;
mod collection;
mod convert;
mod discovery;
mod fetch;
mod global;
mod group_files;
mod identity;
mod job;
mod labelling;
mod metrics;
mod names;
mod native;
mod page;
mod reader;
mod relabel;
mod report;
mod scan;
mod schedule;
mod scraper;
mod target;
mod trial;

pub use crate::exposition::Format;
pub use collecting::{CollectorTarget, read_collectors, read_kinds};
pub use global::{Global, Limits};
pub use group_files::group_file_problems;
pub use job::{Encoding, Job, Protocol, TargetGroup, read_jobs};
pub use native::NativeHistograms;
pub use relabel::{RelabelRule, apply as apply_relabelling, read_rules};
pub use scraper::{DroppedTarget, Plan, Scraper, TaskEnded};
pub use target::{Health, Status, TargetInfo, TargetSnapshot};
pub use trial::{Trial, Tried, trials};
