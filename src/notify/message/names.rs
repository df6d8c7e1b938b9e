//! Every alert by name and little else: for digests, and for what a message has no room to tell in
//! full.

use std::collections::BTreeMap;

use crate::notify::notification::{AlertStatus, NotifiedAlert, common};

use super::words::Words;

/// A line for each status, alert name and severity:
/// `[FIRING] HighCPU (critical) ×3, job=node: db1, db2, db3`. What the alerts of a line share is
/// said once; each is named by its other labels, by the value alone where all have the same single
/// one.
pub(super) fn names<'a>(
    alerts: impl Iterator<Item = &'a NotifiedAlert>,
    words: &Words,
    escape: fn(&str) -> String,
    line_end: &str,
) -> String {
    let mut lines: BTreeMap<(bool, &str, &str), Vec<&NotifiedAlert>> = BTreeMap::new();
    for alert in alerts {
        let key = (
            alert.status == AlertStatus::Resolved,
            alert.label("alertname"),
            alert.label("severity"),
        );
        lines.entry(key).or_default().push(alert);
    }
    let mut out = String::new();
    for ((resolved, name, severity), alerts) in lines {
        let status = if resolved {
            words.resolved
        } else {
            words.firing
        };
        let mut said = if name.is_empty() {
            words.alert.to_owned()
        } else {
            name.to_owned()
        };
        if !severity.is_empty() {
            said.push_str(&format!(" ({severity})"));
        }
        let shared = common(alerts.iter().map(|a| a.labels.as_slice()));
        let one = alerts.len() == 1;
        if !one {
            said.push_str(&format!(" ×{}", alerts.len()));
            for (label, value) in shared
                .iter()
                .filter(|(label, _)| !matches!(label.as_str(), "alertname" | "severity"))
            {
                said.push_str(&format!(", {label}={value}"));
            }
        }
        let own = |alert: &'a NotifiedAlert| -> Vec<&'a (String, String)> {
            let is_said = |pair: &&(String, String)| {
                if one {
                    matches!(pair.0.as_str(), "alertname" | "severity")
                } else {
                    shared.contains(pair)
                }
            };
            alert.labels.iter().filter(|pair| !is_said(pair)).collect()
        };
        let labels: Vec<Vec<&(String, String)>> = alerts.iter().map(|alert| own(alert)).collect();
        let single = !one
            && labels
                .iter()
                .all(|own| own.len() == 1 && own[0].0 == labels[0][0].0);
        let each = labels
            .iter()
            .filter(|own| !own.is_empty())
            .map(|own| match single {
                true => own[0].1.clone(),
                false => own
                    .iter()
                    .map(|(label, value)| format!("{label}={value}"))
                    .collect::<Vec<_>>()
                    .join(" "),
            });
        let each: Vec<String> = each.collect();
        let colon = if each.is_empty() { "" } else { words.colon };
        out.push_str(&format!(
            "[{status}] {}{colon}{}{line_end}",
            escape(&said),
            escape(&each.join(", "))
        ));
    }
    out
}
