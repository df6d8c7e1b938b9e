//! What the API shows: alerts with who muted them, and groups. Computed from the dispatcher's
//! memory at the instant of the question.

use super::dispatcher::Dispatcher;
use crate::alerting::flush::message::before;
use crate::alerting::flush::pipeline::muting_intervals;
use crate::alerting::mute::inhibit::Inhibition;
use crate::model::{Alert, Labels, Timestamp};
use crate::state::FlapRow;

/// An alert as people see it.
#[derive(Clone, Debug)]
pub struct AlertView {
    /// The alert.
    pub alert: Alert,
    /// The receivers that its routes name.
    pub receivers: Vec<String>,
    /// Ids of the silences that mute it.
    pub silenced_by: Vec<String>,
    /// Fingerprints of the alerts that inhibit it.
    pub inhibited_by: Vec<String>,
    /// Names of the time intervals that mute its group; only in a group.
    pub muted_by: Vec<String>,
    /// What is known of its flapping, while it flaps.
    pub flapping: Option<FlapRow>,
}

impl AlertView {
    /// `active` or `suppressed`.
    pub fn state(&self) -> &'static str {
        let heard =
            self.silenced_by.is_empty() && self.inhibited_by.is_empty() && self.muted_by.is_empty();
        if heard { "active" } else { "suppressed" }
    }
}

/// A group as people see it.
#[derive(Clone, Debug)]
pub struct GroupView {
    /// The labels it was made by.
    pub labels: Labels,
    /// Alertmanager's group key.
    pub key: String,
    /// Its receiver.
    pub receiver: String,
    /// Its alerts that have not ended.
    pub alerts: Vec<AlertView>,
    /// When it is flushed next.
    pub next_flush: Timestamp,
}

impl Dispatcher {
    /// The alerts that have not ended at `now`, ordered by fingerprint.
    pub fn alert_views(&self, now: Timestamp) -> Vec<AlertView> {
        let inhibition = Inhibition::new(&self.config.inhibit_rules, self.alerts.firing(now));
        let mut views: Vec<AlertView> = self
            .alerts
            .firing(now)
            .map(|alert| self.alert_view(alert, &inhibition, now))
            .collect();
        views.sort_by_cached_key(|view| view.alert.fingerprint());
        views
    }

    /// The groups, ordered by labels, then receiver.
    pub fn group_views(&self, now: Timestamp) -> Vec<GroupView> {
        let inhibition = Inhibition::new(&self.config.inhibit_rules, self.alerts.firing(now));
        let mut views: Vec<GroupView> = self
            .groups
            .values()
            .filter_map(|group| {
                let route = self.config.routes.get(group.route)?;
                let muted_by: Vec<String> = muting_intervals(route, &self.config, now)
                    .into_iter()
                    .map(str::to_owned)
                    .collect();
                let alerts = group
                    .alerts
                    .iter()
                    .filter_map(|f| self.alerts.get(*f))
                    .filter(|row| !row.alert.is_resolved(now));
                let view = |alert: &Alert| AlertView {
                    muted_by: muted_by.clone(),
                    ..self.alert_view(alert, &inhibition, now)
                };
                Some(GroupView {
                    labels: group.labels.clone(),
                    key: group.key.clone(),
                    receiver: route.receiver.clone(),
                    alerts: alerts.map(|row| view(&row.alert)).collect(),
                    next_flush: group.next_flush,
                })
            })
            .collect();
        views
            .sort_by(|a, b| before(&a.labels, &b.labels).then_with(|| a.receiver.cmp(&b.receiver)));
        views
    }

    fn alert_view(&self, alert: &Alert, inhibition: &Inhibition<'_>, now: Timestamp) -> AlertView {
        let routes = self.config.routes.matching(&alert.labels);
        let mut receivers: Vec<String> = routes
            .iter()
            .filter_map(|r| Some(self.config.routes.get(*r)?.receiver.clone()))
            .collect();
        receivers.dedup();
        let inhibited = inhibition.muting(alert, false);
        AlertView {
            alert: alert.clone(),
            receivers,
            silenced_by: self
                .silences
                .muting(&alert.labels, now)
                .into_iter()
                .map(str::to_owned)
                .collect(),
            inhibited_by: inhibited
                .iter()
                .map(|source| format!("{:016x}", source.fingerprint()))
                .collect(),
            muted_by: Vec::new(),
            flapping: self.flaps.flapping(alert.fingerprint()).cloned(),
        }
    }
}
