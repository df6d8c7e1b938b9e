//! What a notifier carries: one group of alerts at one flush. It can be written to the outbox and
//! read back unchanged.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::model::alert::evidence::Clue;
use crate::model::text::hex;

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
    /// What was found when it began to fire.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub evidence: Vec<Clue>,
}

impl NotifiedAlert {
    /// The value of a label, `""` when absent.
    pub fn label(&self, name: &str) -> &str {
        self.labels
            .iter()
            .find(|(n, _)| n == name)
            .map_or("", |(_, v)| v)
    }

    /// The value of an annotation, `""` when absent.
    pub fn annotation(&self, name: &str) -> &str {
        self.annotations
            .iter()
            .find(|(n, _)| n == name)
            .map_or("", |(_, v)| v)
    }
}

/// A report that a message carries.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Its title.
    pub title: String,
    /// As Markdown.
    pub text: String,
    /// As HTML for a mail, without charts, where it is small enough.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    /// As a page of its own, with charts, where it is small enough.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub page: Option<String>,
}

/// One message to one integration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Notification {
    /// Unique for this delivery and the same for each repeated attempt, so that a receiver can drop
    /// repeats.
    pub delivery_id: String,
    /// The receiver's name.
    pub receiver: String,
    /// Alertmanager's group key: `{}/{severity="page"}:{alertname="X"}`.
    pub group_key: String,
    /// Firing if any alert fires.
    pub status: AlertStatus,
    /// The alerts, ordered as Alertmanager orders them.
    pub alerts: Vec<NotifiedAlert>,
    /// Receivers that this was meant for and that could not be reached, first to last.
    #[serde(default)]
    pub stands_in_for: Vec<String>,
    /// A report, which the message carries instead of trouble.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub report: Option<Report>,
    /// How many messages a digest stands for; 0 for an ordinary message.
    #[serde(default)]
    pub digest: usize,
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
    /// Why it is sent: `first notification`, `new alerts added`, `all alerts resolved`,
    /// `some alerts resolved`, `repeat interval elapsed`.
    pub reason: String,
    /// When the flush was, milliseconds since the Unix epoch.
    pub at_ms: i64,
}

impl Notification {
    /// How many alerts have this status.
    pub fn count(&self, status: AlertStatus) -> usize {
        self.alerts.iter().filter(|a| a.status == status).count()
    }

    /// The receiver as templates and Alertmanager's JSON see it: quoted for a regular expression
    /// (SEMANTICS 175).
    pub fn quoted_receiver(&self) -> String {
        let mut out = String::with_capacity(self.receiver.len());
        for c in self.receiver.chars() {
            if r"\.+*?()|[]{}^$".contains(c) {
                out.push('\\');
            }
            out.push(c);
        }
        out
    }

    /// SHA-256 of the group key in hexadecimal: Alertmanager's `dedup_key` and `alias`.
    pub fn group_key_hash(&self) -> String {
        hex(&Sha256::digest(self.group_key.as_bytes()))
    }

    /// The notification with its first `max` alerts only (0: all), everything that is derived from
    /// the alerts derived anew (SEMANTICS 179).
    pub fn first_alerts(&self, max: usize) -> Cow<'_, Notification> {
        if max == 0 || self.alerts.len() <= max {
            return Cow::Borrowed(self);
        }
        let mut kept = self.clone();
        kept.alerts.truncate(max);
        kept.truncated_alerts += self.alerts.len() - max;
        kept.status = if kept.count(AlertStatus::Firing) > 0 {
            AlertStatus::Firing
        } else {
            AlertStatus::Resolved
        };
        kept.common_labels = common(kept.alerts.iter().map(|a| a.labels.as_slice()));
        kept.common_annotations = common(kept.alerts.iter().map(|a| a.annotations.as_slice()));
        Cow::Owned(kept)
    }
}

/// The pairs that all lists share.
pub fn common<'a>(
    mut lists: impl Iterator<Item = &'a [(String, String)]>,
) -> Vec<(String, String)> {
    let mut shared = lists.next().map(<[_]>::to_vec).unwrap_or_default();
    for list in lists {
        shared.retain(|pair| list.contains(pair));
    }
    shared
}
