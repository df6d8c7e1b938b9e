//! What a receiver may say beside Alertmanager's keys: how long a message is worth trying, who is
//! notified in its stead, when it is quiet.

use std::collections::BTreeMap;
use std::time::Duration;

use super::time_interval::TimeInterval;
use crate::alerting::follow_up::escalation::Step;
use crate::config::{Section, Value};
use crate::model::Timestamp;
use crate::notify::Notification;

/// A group that still has something to say renews its message each `repeat_interval`, so what is
/// older than this is news to nobody.
const GIVE_UP_AFTER: Duration = Duration::from_secs(24 * 3600);
const FALLBACK_AFTER: Duration = Duration::from_secs(10 * 60);
/// Severities that wait for the end of quiet hours. What has another one, or none, may be critical:
/// in doubt, notify.
const QUIET: [&str; 4] = ["warning", "info", "none", "debug"];

/// A receiver's own keys.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Age at which a message that was never accepted becomes a dead letter.
    pub give_up_after: Duration,
    /// The receiver that is notified when this one cannot be.
    pub fallback: Option<String>,
    /// For how long it must be down.
    pub fallback_after: Duration,
    /// Who is notified next of a critical alert that nobody acknowledges.
    pub escalation: Vec<Step>,
    /// When messages without anything critical are held; one digest follows.
    pub quiet_hours: Vec<TimeInterval>,
}

impl Default for Policy {
    fn default() -> Self {
        Policy {
            give_up_after: GIVE_UP_AFTER,
            fallback: None,
            fallback_after: FALLBACK_AFTER,
            escalation: Vec::new(),
            quiet_hours: Vec::new(),
        }
    }
}

impl Policy {
    /// Reads the keys; `quiet_hours` lists names out of `intervals`, or the elements of a time
    /// interval themselves.
    pub fn read(section: &Section<'_>, intervals: &BTreeMap<String, Vec<TimeInterval>>) -> Self {
        let default = Policy::default();
        Policy {
            give_up_after: section.or("give_up_after", default.give_up_after),
            fallback: section.get("fallback"),
            fallback_after: section.or("fallback_after", default.fallback_after),
            escalation: Step::read_all(section),
            quiet_hours: quiet_hours(section, intervals),
        }
    }

    /// Whether only what may be critical is delivered at `now`.
    pub fn is_quiet(&self, now: Timestamp) -> bool {
        self.quiet_hours
            .iter()
            .any(|interval| interval.contains(now))
    }

    /// Whether a message that is decided at `now` waits for the end of the quiet hours.
    pub fn holds(&self, message: &Notification, now: Timestamp) -> bool {
        self.is_quiet(now)
            && message
                .alerts
                .iter()
                .all(|alert| QUIET.contains(&alert.label("severity")))
    }
}

fn quiet_hours(
    section: &Section<'_>,
    intervals: &BTreeMap<String, Vec<TimeInterval>>,
) -> Vec<TimeInterval> {
    let Some(node) = section.node("quiet_hours") else {
        return Vec::new();
    };
    let Value::List(items) = &node.value else {
        return section
            .sections("quiet_hours")
            .iter()
            .map(TimeInterval::read)
            .collect();
    };
    if items.iter().all(|item| matches!(item.value, Value::Map(_))) {
        return section
            .sections("quiet_hours")
            .iter()
            .map(TimeInterval::read)
            .collect();
    }
    let names: Vec<String> = section.or("quiet_hours", Vec::new());
    let mut out = Vec::new();
    for name in names {
        match intervals.get(&name) {
            Some(elements) => out.extend(elements.iter().cloned()),
            None => section.error(
                "quiet_hours",
                format!("time interval {name:?} is not defined"),
                "define it under time_intervals",
            ),
        }
    }
    out
}
