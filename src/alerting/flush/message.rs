//! From a flush to the message that a notifier carries, and from two waiting messages of one group
//! to one.

use std::cmp::Ordering;

use sha2::{Digest, Sha256};

use super::dedup::NotifyReason;
use crate::alerting::config::Integration;
use crate::model::text::hex;
use crate::model::{Alert, Labels, Timestamp};
use crate::notify::{AlertStatus, Notification, NotifiedAlert};

/// What a message is about.
pub struct Subject<'a> {
    /// Alertmanager's group key.
    pub group_key: &'a str,
    /// The labels the group was made by.
    pub group_labels: &'a Labels,
    /// Where people reach this nightbell.
    pub external_url: &'a str,
    /// The instant of the flush.
    pub now: Timestamp,
}

/// Builds the message of one integration. The delivery id follows from what the message is, so
/// deciding twice yields one id.
pub fn compose(
    subject: &Subject<'_>,
    integration: &Integration,
    reason: NotifyReason,
    alerts: Vec<NotifiedAlert>,
) -> Notification {
    let mut notification = Notification {
        delivery_id: delivery_id(&integration.key, subject.group_key, subject.now),
        receiver: integration.receiver.clone(),
        group_key: subject.group_key.to_owned(),
        status: AlertStatus::Resolved,
        alerts,
        stands_in_for: Vec::new(),
        report: None,
        digest: 0,
        truncated_alerts: 0,
        group_labels: pairs(subject.group_labels),
        common_labels: Vec::new(),
        common_annotations: Vec::new(),
        external_url: subject.external_url.to_owned(),
        reason: reason.as_str().to_owned(),
        at_ms: subject.now.0,
    };
    summarise(&mut notification);
    notification
}

/// A message that tries an integration and alarms nobody.
pub fn test_message(integration: &Integration, external_url: &str, now: Timestamp) -> Notification {
    let labels = Labels::from_pairs([
        ("alertname", "NightbellTest"),
        ("receiver", &integration.receiver),
        ("severity", "info"),
    ]);
    let text = "This is a test of the way to you, sent on request; nothing is wrong.";
    let text_zh = "这是按要求发送的通道测试消息，没有任何异常。";
    let annotations = Labels::from_pairs([
        ("summary", "TEST: nightbell reaches you"),
        ("summary_zh", "测试：nightbell 的消息可以送达"),
        ("description", text),
        ("description_zh", text_zh),
    ]);
    let alert = Alert {
        labels: labels.clone(),
        annotations,
        starts_at: now,
        ends_at: None,
        updated_at: now,
        generator_url: String::new(),
        value: None,
        peak: None,
        evidence: Vec::new(),
        shipped: true,
    };
    let group_labels = Labels::from_pairs([("alertname", "NightbellTest")]);
    let subject = Subject {
        group_key: "{}:{alertname=\"NightbellTest\"}",
        group_labels: &group_labels,
        external_url,
        now,
    };
    Notification {
        reason: "test".into(),
        ..compose(
            &subject,
            integration,
            NotifyReason::First,
            vec![notified(&alert, now)],
        )
    }
}

/// The message that tells that all of it is over.
pub fn ended(mut message: Notification) -> Notification {
    for alert in &mut message.alerts {
        (alert.status, alert.ends_at_ms) = (AlertStatus::Resolved, Some(message.at_ms));
    }
    summarise(&mut message);
    message
}

/// The newer of two waiting messages about one group, with the alerts that only the older one
/// names: a receiver that was away hears the present truth once, and no alert is lost.
pub fn merge(older: Notification, mut newer: Notification) -> Notification {
    let known: std::collections::HashSet<String> =
        newer.alerts.iter().map(|a| a.fingerprint.clone()).collect();
    newer.alerts.extend(
        older
            .alerts
            .into_iter()
            .filter(|a| !known.contains(&a.fingerprint)),
    );
    newer.alerts.sort_by_cached_key(|alert| {
        Ordered(Labels::from_pairs(alert.labels.iter().map(|(n, v)| (n, v))))
    });
    summarise(&mut newer);
    newer
}

/// One alert as a message shows it, resolved if it has ended at `now`.
pub fn notified(alert: &Alert, now: Timestamp) -> NotifiedAlert {
    let resolved = alert.is_resolved(now);
    NotifiedAlert {
        status: if resolved {
            AlertStatus::Resolved
        } else {
            AlertStatus::Firing
        },
        labels: pairs(&alert.labels),
        annotations: pairs(&alert.annotations),
        starts_at_ms: alert.starts_at.0,
        ends_at_ms: alert.ends_at.filter(|_| resolved).map(|t| t.0),
        generator_url: alert.generator_url.clone(),
        fingerprint: format!("{:016x}", alert.fingerprint()),
        value: alert.value,
        peak: alert.peak,
        evidence: alert.evidence.clone(),
    }
}

/// Alertmanager's order of alerts: by `job`, then `instance`, those without them last; then as
/// [`before`] says.
pub fn order(a: &Labels, b: &Labels) -> Ordering {
    let absent_last = |name: &str| match (a.get(name), b.get(name)) {
        (Some(x), Some(y)) => x.cmp(y),
        (x, y) => y.is_some().cmp(&x.is_some()),
    };
    absent_last("job")
        .then_with(|| absent_last("instance"))
        .then_with(|| before(a, b))
}

/// Alertmanager's order of label sets: fewer labels first, then by value, name by name.
pub fn before(a: &Labels, b: &Labels) -> Ordering {
    // At the first name that only one of the two has, the one without it comes first: the one whose
    // next name is greater.
    let step = |((name_a, value_a), (name_b, value_b)): ((&str, &str), (&str, &str))| {
        name_b.cmp(name_a).then_with(|| value_a.cmp(value_b))
    };
    let by_value = || {
        a.iter()
            .zip(b.iter())
            .map(step)
            .find(|o| o.is_ne())
            .unwrap_or(Ordering::Equal)
    };
    a.len().cmp(&b.len()).then_with(by_value)
}

#[derive(PartialEq, Eq)]
struct Ordered(Labels);

impl Ord for Ordered {
    fn cmp(&self, other: &Self) -> Ordering {
        order(&self.0, &other.0)
    }
}

impl PartialOrd for Ordered {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

pub(in crate::alerting) fn summarise(notification: &mut Notification) {
    let firing = notification
        .alerts
        .iter()
        .any(|a| a.status == AlertStatus::Firing);
    notification.status = if firing {
        AlertStatus::Firing
    } else {
        AlertStatus::Resolved
    };
    notification.common_labels = shared(&notification.alerts, |a| &a.labels);
    notification.common_annotations = shared(&notification.alerts, |a| &a.annotations);
}

fn shared(
    alerts: &[NotifiedAlert],
    of: fn(&NotifiedAlert) -> &Vec<(String, String)>,
) -> Vec<(String, String)> {
    let Some((first, others)) = alerts.split_first() else {
        return Vec::new();
    };
    of(first)
        .iter()
        .filter(|pair| others.iter().all(|a| of(a).contains(pair)))
        .cloned()
        .collect()
}

fn pairs(labels: &Labels) -> Vec<(String, String)> {
    labels
        .iter()
        .map(|(n, v)| (n.to_owned(), v.to_owned()))
        .collect()
}

fn delivery_id(integration: &str, group_key: &str, now: Timestamp) -> String {
    derived_id(integration, &[group_key, &now.0.to_string()])
}

/// A delivery id that follows from what it names, so that deciding twice yields one id.
pub(in crate::alerting) fn derived_id(role: &str, of: &[impl AsRef<str>]) -> String {
    let names: String = of
        .iter()
        .map(|name| format!("\0{}", name.as_ref()))
        .collect();
    let digest = Sha256::digest(format!("{role}{names}"));
    hex(&digest[..16])
}
