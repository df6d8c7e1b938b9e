//! What a courier carries: one group of alerts at one flush. It can be written to the outbox and read back unchanged.

use serde::{Deserialize, Serialize};

/// Whether an alert, or a whole notification, is about trouble or its end.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AlertStatus {
    /// In trouble.
    Firing,
    /// Over.
    Resolved,
}

impl AlertStatus {
    /// `firing` or `resolved`.
    pub fn as_str(self) -> &'static str {
        match self {
            AlertStatus::Firing => "firing",
            AlertStatus::Resolved => "resolved",
        }
    }
}

/// One alert inside a notification. Times are milliseconds since the Unix epoch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NotifiedAlert {
    /// Firing or resolved, as it was at the flush.
    pub status: AlertStatus,
    /// Labels, sorted by name.
    pub labels: Vec<(String, String)>,
    /// Annotations, sorted by name.
    pub annotations: Vec<(String, String)>,
    /// When it began to fire.
    pub starts_at_ms: i64,
    /// When it ended; `None` while it fires.
    pub ends_at_ms: Option<i64>,
    /// Link to the expression, may be empty.
    pub generator_url: String,
    /// 16 hexadecimal digits.
    pub fingerprint: String,
    /// The value at the flush (for a resolved alert: the value now), where known.
    pub value: Option<f64>,
    /// The worst value while it fired, where known.
    pub peak: Option<f64>,
}

impl NotifiedAlert {
    /// The value of a label, `""` when absent.
    pub fn label(&self, name: &str) -> &str {
        self.labels.iter().find(|(n, _)| n == name).map_or("", |(_, v)| v)
    }

    /// The value of an annotation, `""` when absent.
    pub fn annotation(&self, name: &str) -> &str {
        self.annotations.iter().find(|(n, _)| n == name).map_or("", |(_, v)| v)
    }
}

/// One message to one integration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Notification {
    /// Unique for this delivery and the same for each repeated attempt, so that a receiver can drop repeats.
    pub delivery_id: String,
    /// The receiver's name.
    pub receiver: String,
    /// Alertmanager's group key: `{}/{severity="page"}:{alertname="X"}`.
    pub group_key: String,
    /// Firing if any alert fires.
    pub status: AlertStatus,
    /// The alerts, ordered as Alertmanager orders them.
    pub alerts: Vec<NotifiedAlert>,
    /// Alerts left out because of `max_alerts`.
    pub truncated_alerts: usize,
    /// The labels the group was made by.
    pub group_labels: Vec<(String, String)>,
    /// Label pairs that all alerts share.
    pub common_labels: Vec<(String, String)>,
    /// Annotation pairs that all alerts share.
    pub common_annotations: Vec<(String, String)>,
    /// Where people reach this nightbell.
    pub external_url: String,
    /// Why it is sent: `first notification`, `new alerts added`, `all alerts resolved`, `some alerts resolved`, `repeat interval elapsed`.
    pub reason: String,
    /// When the flush was, milliseconds since the Unix epoch.
    pub at_ms: i64,
}
