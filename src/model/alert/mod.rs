//! An alert as the alerting side sees it: labels are its identity.

pub mod action;
pub mod evidence;
pub(super) mod note;
pub mod stage;

use super::labels::Labels;
use super::time::Timestamp;
use evidence::Clue;

/// A firing or resolved alert.
#[derive(Clone, Debug, PartialEq)]
pub struct Alert {
    /// Identity: alerts with equal labels are the same alert.
    pub labels: Labels,
    /// Texts for people; may change while the alert lives.
    pub annotations: Labels,
    /// When it began to fire.
    pub starts_at: Timestamp,
    /// When it ended, or will be taken as ended unless it is renewed. `None`: it fires until it is
    /// ended.
    pub ends_at: Option<Timestamp>,
    /// When this record was last renewed.
    pub updated_at: Timestamp,
    /// Link to the expression that made it; may be empty.
    pub generator_url: String,
    /// The value of the expression at the last evaluation that had it, where the sender knows it.
    pub value: Option<f64>,
    /// The greatest distance seen so far, as the value then; `None` where the sender does not know
    /// values.
    pub peak: Option<f64>,
    /// What was found when it began to fire.
    pub evidence: Vec<Clue>,
    /// Whether one of nightbell's own rules raised it.
    pub shipped: bool,
}

impl Alert {
    /// Whether the alert has ended at `now` (Alertmanager: `ends_at` set and not in the future).
    pub fn is_resolved(&self, now: Timestamp) -> bool {
        self.ends_at.is_some_and(|end| end <= now)
    }

    /// The value of the `alertname` label.
    pub fn name(&self) -> &str {
        self.labels.value("alertname")
    }

    /// Identity as 64 bits; see [`Labels::fingerprint`].
    pub fn fingerprint(&self) -> u64 {
        self.labels.fingerprint()
    }
}
