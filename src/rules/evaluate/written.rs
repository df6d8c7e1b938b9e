//! The series that a rule wrote at its last evaluation: the end of those that it does not write
//! again is marked.
//!
//! What an alerting rule writes follows from its alerts, so that their labels are kept, which they
//! share, and not those of the series.

use std::collections::HashSet;

use super::active::AlertState;
use super::alerting::AlertingState;
use super::recording::Recorded;
use crate::model::{Labels, LabelsBuilder, METRIC_NAME, Sample, stale_nan};
use crate::rules::{AlertingRule, Rule};

/// What a rule wrote.
#[derive(Default)]
pub(in crate::rules) enum Written {
    /// Nothing.
    #[default]
    Nothing,
    /// The series of a recording rule.
    Series(HashSet<Labels, ahash::RandomState>),
    /// Pending and firing alerts, each of which has its `ALERTS` and `ALERTS_FOR_STATE`.
    Alerts(Vec<(Labels, AlertState)>),
}

impl Written {
    /// Takes down what a recording rule writes now; gives the markers for what it writes no more.
    pub(in crate::rules) fn record(&mut self, recorded: &Recorded) -> Vec<Sample> {
        let mut before = match std::mem::take(self) {
            Written::Series(series) => series,
            _ => HashSet::default(),
        };
        if !recorded.is_empty() {
            // Labels that were there last time are kept as they are: the store has the same ones.
            let now = recorded
                .labels()
                .map(|labels| before.take(labels).unwrap_or_else(|| labels.clone()))
                .collect();
            *self = Written::Series(now);
        }
        before.into_iter().map(marker).collect()
    }

    /// Takes down the alerts of a rule; gives the samples of all that are pending or fire, and the
    /// markers for what was there last time and is not now.
    pub(in crate::rules) fn alerts(
        &mut self,
        rule: &AlertingRule,
        state: &AlertingState,
    ) -> (Vec<Sample>, Vec<Sample>) {
        let before = match std::mem::take(self) {
            Written::Alerts(alerts) => alerts,
            _ => Vec::new(),
        };
        let active = state
            .alerts()
            .filter(|alert| alert.state != AlertState::Inactive);
        let mut now = Vec::new();
        let mut samples = Vec::new();
        for alert in active {
            let [since, alerts] = series(rule, &alert.labels, alert.state);
            let seconds = alert.active_at.0.div_euclid(1000) as f64;
            samples.push(Sample {
                labels: since,
                value: seconds,
                timestamp: None,
            });
            samples.push(Sample {
                labels: alerts,
                value: 1.0,
                timestamp: None,
            });
            now.push((alert.labels.clone(), alert.state));
        }
        let mut markers = Vec::new();
        if before != now {
            let there: HashSet<(&Labels, AlertState), ahash::RandomState> =
                now.iter().map(|(labels, state)| (labels, *state)).collect();
            let others = [AlertState::Pending, AlertState::Firing];
            for (labels, state) in before
                .iter()
                .filter(|(labels, state)| !there.contains(&(labels, *state)))
            {
                let [since, alerts] = series(rule, labels, *state);
                let goes_on = others.iter().any(|other| there.contains(&(labels, *other)));
                markers.extend((!goes_on).then(|| marker(since)));
                markers.push(marker(alerts));
            }
        }
        if !now.is_empty() {
            *self = Written::Alerts(now);
        }
        (samples, markers)
    }

    /// The series that `rule` wrote.
    pub(in crate::rules) fn series(&self, rule: &Rule) -> Vec<Labels> {
        match (self, rule) {
            (Written::Series(series), _) => series.iter().cloned().collect(),
            (Written::Alerts(alerts), Rule::Alerting(rule)) => alerts
                .iter()
                .flat_map(|(labels, state)| series(rule, labels, *state))
                .collect(),
            _ => Vec::new(),
        }
    }
}

/// A stale marker.
pub(in crate::rules) fn marker(labels: Labels) -> Sample {
    Sample {
        labels,
        value: stale_nan(),
        timestamp: None,
    }
}

/// `ALERTS_FOR_STATE` and `ALERTS` of an alert.
fn series(rule: &AlertingRule, alert: &Labels, state: AlertState) -> [Labels; 2] {
    // As in Prometheus, a label that the alert lacks because its text came out empty stands here as
    // the rule writes it.
    let mut labels = LabelsBuilder::new();
    for (name, value) in rule.labels.iter().chain(alert) {
        labels.set(name, value);
    }
    labels
        .set("alertname", &rule.name)
        .set(METRIC_NAME, "ALERTS_FOR_STATE");
    let since = labels.build();
    labels
        .set(METRIC_NAME, "ALERTS")
        .set("alertstate", state.as_str());
    [since, labels.build()]
}
