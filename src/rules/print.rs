//! Rules as the text of a rule file: what is in force, for reading and for a Prometheus.

use std::fmt::Write as _;
use std::time::Duration;

use super::{AlertingRule, Rule, RuleGroup};
use crate::model::{Labels, format_duration};

/// The groups as one rule file. Labels of groups stand in their rules.
pub fn print(groups: &[RuleGroup]) -> String {
    let mut text = String::from("groups:\n");
    for group in groups {
        line(&mut text, "- name", &quoted(&group.name));
        group
            .interval
            .inspect(|interval| line(&mut text, "  interval", &format_duration(*interval)));
        group
            .query_offset
            .inspect(|offset| line(&mut text, "  query_offset", &format_duration(*offset)));
        if group.limit > 0 {
            line(&mut text, "  limit", &group.limit.to_string());
        }
        text.push_str("  rules:\n");
        for rule in &group.rules {
            line(
                &mut text,
                if matches!(rule, Rule::Alerting(_)) {
                    "  - alert"
                } else {
                    "  - record"
                },
                &quoted(rule.name()),
            );
            line(&mut text, "    expr", &quoted(rule.expr_text()));
            if let Rule::Alerting(alert) = rule {
                print_alert(&mut text, alert);
            }
            mapping(&mut text, "labels", rule.labels());
            if let Rule::Alerting(alert) = rule {
                mapping(&mut text, "annotations", &alert.annotations);
            }
        }
    }
    text
}

fn print_alert(text: &mut String, alert: &AlertingRule) {
    for (key, duration) in [
        ("    for", alert.hold),
        ("    keep_firing_for", alert.keep_firing_for),
    ] {
        if duration > Duration::ZERO {
            line(text, key, &format_duration(duration));
        }
    }
    alert
        .recover_expr
        .as_ref()
        .inspect(|recovery| line(text, "    recover_expr", &quoted(&recovery.to_string())));
    alert
        .no_data
        .inspect(|no_data| line(text, "    no_data", no_data.as_str()));
}

fn mapping(text: &mut String, key: &str, labels: &Labels) {
    let mut labels = labels.iter().peekable();
    if labels.peek().is_some() {
        line(text, &format!("    {key}"), "");
        labels.for_each(|(name, value)| line(text, &format!("      {name}"), &quoted(value)));
    }
}

fn line(text: &mut String, key: &str, value: &str) {
    let gap = if value.is_empty() { "" } else { " " };
    // Writing to a text cannot fail.
    let _ = writeln!(text, "{key}:{gap}{value}");
}

/// In double quotes: JSON's are YAML's.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
