//! What every rule of a group is evaluated with.

use std::time::Duration;

use crate::model::Labels;
use crate::template::Query;

/// What a step needs besides the rule: the same for all rules of a group.
pub struct Context<'a> {
    /// Most alerts; 0: no limit.
    pub limit: usize,
    /// How long until an alert that still fires is handed on again.
    pub resend_delay: Duration,
    /// Labels added to what is handed on, where the alert lacks them.
    pub external_labels: &'a Labels,
    /// Where this instance's pages are.
    pub external_url: &'a str,
    /// Answers `query` in templates.
    pub query: &'a Query,
    /// Whether the rules are nightbell's own.
    pub shipped: bool,
    /// Whether a gap holds the alerts of rules that say nothing about it.
    pub hold_gaps: bool,
}
