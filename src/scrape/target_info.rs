//! Who a target is.

use std::time::Duration;

use crate::model::Labels;

/// What does not change while a target lives.
#[derive(Debug, Clone, PartialEq)]
pub struct TargetInfo {
    /// The collector's kind, `app_metrics` for a scraped endpoint, `nightbell` for our own
    /// registry.
    pub kind: &'static str,
    /// The name of the scrape pool: `job_name`, or the collector's job.
    pub pool: String,
    /// Labels that every sample carries, `job` and `instance` among them.
    pub labels: Labels,
    /// Labels before relabelling, `__meta_*` included.
    pub discovered: Labels,
    /// Where it is, without secrets: a URL, or what the collector says of itself.
    pub address: String,
    /// Time between collections.
    pub interval: Duration,
    /// Deadline of one.
    pub timeout: Duration,
}
