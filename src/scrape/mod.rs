//! The collection loop: what is measured, when, and how it enters the store.

mod collection;
mod config;
mod discovery;
mod error;
mod metrics;
mod page;
mod report;
mod schedule;
mod scraper;
mod target;
mod target_info;
mod trial;

pub use crate::exposition::Format;
pub use config::collecting::{CollectorTarget, read_collectors, read_kinds};
pub use config::global::{Global, Limits};
pub use config::job::{Job, TargetGroup, read_jobs};
pub use config::native::NativeHistograms;
pub use config::protocol::{Encoding, Protocol};
pub use config::relabel::{RelabelRule, apply as apply_relabelling, read_rules};
pub use discovery::group_files::group_file_problems;
pub use scraper::{DroppedTarget, Plan, Scraper, TaskEnded};
pub use target::{Health, Status, TargetSnapshot};
pub use target_info::TargetInfo;
pub use trial::{Trial, Tried, trials};
