//! Reports on their way to a receiver: messages that no group decided.

use super::config::Receiver;
use super::flush::dedup::NotifyReason;
use super::flush::message::{Subject, compose, derived_id, notified};
use super::flush::pipeline::to_row;
use crate::model::{Alert, Labels, Timestamp};
use crate::notify::{Notification, Report};
use crate::state::OutboxRow;

/// The messages of a report to a receiver's integrations. They tell of an end, not of trouble:
/// nobody is called, and pagers open no incident. A report that was due at one time has one
/// delivery id, however often it is made.
pub fn report_messages(
    receiver: &Receiver,
    name: &str,
    report: &Report,
    external_url: &str,
    due: Timestamp,
    now: Timestamp,
) -> Vec<OutboxRow> {
    let labels = Labels::from_pairs([
        ("alertname", "NightbellReport"),
        ("report", name),
        ("severity", "info"),
    ]);
    let alert = Alert {
        annotations: Labels::from_pairs([("summary", report.title.as_str())]),
        starts_at: now,
        ends_at: Some(now),
        updated_at: now,
        generator_url: String::new(),
        value: None,
        peak: None,
        evidence: Vec::new(),
        shipped: true,
        labels,
    };
    let group_labels = Labels::from_pairs([("alertname", "NightbellReport"), ("report", name)]);
    // Messages of one group are merged while they wait; reports of two times are two.
    let group_key = format!("report:{name}:{}", due.0);
    let able = receiver
        .integrations
        .iter()
        .filter(|integration| integration.notifier.action().is_none());
    able.map(|integration| {
        let subject = Subject {
            group_key: &group_key,
            group_labels: &group_labels,
            external_url,
            now,
        };
        let composed = compose(
            &subject,
            integration,
            NotifyReason::First,
            vec![notified(&alert, now)],
        );
        let delivery_id = derived_id(&integration.key, &[group_key.as_str()]);
        to_row(
            Notification {
                delivery_id,
                reason: "report".into(),
                report: Some(report.clone()),
                ..composed
            },
            integration,
            now,
        )
    })
    .collect()
}
