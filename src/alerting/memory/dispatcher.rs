//! The dispatcher's memory and decisions: alerts in, groups and timers, transitions out. It does no
//! I/O and asks no clock.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Duration;

use super::alerts::{Alerts, Change, Incoming};
use super::refusals::Refusals;
use crate::alerting::config::Alerting;
use crate::alerting::flush::decision::Decisions;
use crate::alerting::flush::dedup::{LogEntry, NotificationLog};
use crate::alerting::flush::group::{Group, group_id, group_key};
use crate::alerting::flush::pipeline;
use crate::alerting::flush::pipeline::{Flush, Mutes};
use crate::alerting::flush::unaccepted::AllUnaccepted;
use crate::alerting::follow_up::escalation::{Escalations, Signer, is_critical};
use crate::alerting::follow_up::recovery::Recent;
use crate::alerting::mute::flapping::{Flaps, LONGEST, flapping_id};
use crate::alerting::mute::inhibit::Inhibition;
use crate::alerting::mute::silence::{RETENTION, Silence, Silences};
use crate::model::{Alert, Labels, Stage, Timestamp};
use crate::state::{
    ActionRow, AlertPath, AlertRow, DecisionRow, EscalationRow, FlapRow, GroupRow, LogRow,
    Transition,
};

/// Time between two looks at an escalation that is due but muted.
const ESCALATION_PAUSE: Duration = Duration::from_secs(15);

/// What the database remembered.
#[derive(Default)]
pub struct Restored {
    /// Alerts whose end was not notified yet.
    pub alerts: Vec<AlertRow>,
    /// Timers.
    pub groups: Vec<GroupRow>,
    /// The notification log.
    pub log: Vec<LogRow>,
    /// Silences.
    pub silences: Vec<Silence>,
    /// Alerts that wait for an acknowledgement.
    pub escalations: Vec<EscalationRow>,
    /// Recovery actions.
    pub actions: Vec<ActionRow>,
    /// How often alerts changed.
    pub flaps: Vec<FlapRow>,
    /// Signs links.
    pub signer: Signer,
}

/// The dispatcher. Each method that changes something returns what has to be written down.
pub struct Dispatcher {
    pub(in crate::alerting) config: Arc<Alerting>,
    pub(in crate::alerting) alerts: Alerts,
    pub(in crate::alerting) groups: BTreeMap<String, Group>,
    pub(in crate::alerting) silences: Silences,
    pub(in crate::alerting) log: NotificationLog,
    /// What receivers refused.
    pub(in crate::alerting) unaccepted: AllUnaccepted,
    decisions: Decisions,
    pub(in crate::alerting) escalations: Escalations,
    pub(in crate::alerting) actions: Recent,
    pub(in crate::alerting) flaps: Flaps,
    pub(in crate::alerting) signer: Signer,
    /// When the escalations were looked at.
    pub(in crate::alerting) escalated_at: Timestamp,
    /// Alerts from outside that were not taken because their share is used up, until somebody asks.
    pub(in crate::alerting) refused: Refusals,
    /// The jumps of the clock that all times here have followed, in milliseconds.
    pub(in crate::alerting) jumped: i64,
}

impl Dispatcher {
    /// A dispatcher that goes on where another one stopped.
    pub fn new(config: Arc<Alerting>, restored: Restored, now: Timestamp) -> Self {
        let mut dispatcher = Dispatcher {
            alerts: Alerts::default(),
            groups: BTreeMap::new(),
            silences: Silences::default(),
            log: NotificationLog::default(),
            unaccepted: AllUnaccepted::default(),
            decisions: Decisions::default(),
            escalations: Escalations::default(),
            actions: Recent::default(),
            flaps: Flaps::default(),
            signer: restored.signer.clone(),
            escalated_at: Timestamp::MIN,
            refused: Refusals::default(),
            jumped: crate::model::clock::total(),
            config,
        };
        dispatcher.adopt(restored, now);
        dispatcher
    }

    /// Takes in what the database remembered, as far as nothing newer is known.
    pub fn adopt(&mut self, restored: Restored, now: Timestamp) {
        let restored = restored.not_after(now);
        let unknown: Vec<Silence> = restored
            .silences
            .into_iter()
            .filter(|silence| self.silences.get(&silence.id).is_none())
            .collect();
        self.silences.apply(unknown);
        for row in restored.log {
            self.log.restore(row);
        }
        self.escalations.restore(restored.escalations);
        restored
            .actions
            .into_iter()
            .for_each(|row| self.actions.put(row));
        self.flaps.restore(restored.flaps);
        // Whatever the database still holds has not been notified to its end.
        let mut held = self.held();
        for row in restored.alerts {
            let fingerprint = row.alert.fingerprint();
            if self.alerts.get(fingerprint).is_none() {
                held.insert(fingerprint);
                self.alerts.restore(row, now, self.config.resolve_timeout);
            }
        }
        let timers: Vec<GroupRow> = restored
            .groups
            .into_iter()
            .chain(self.groups.iter().map(|(id, group)| group.to_row(id)))
            .collect();
        let live = self
            .alerts
            .iter()
            .filter(|row| held.contains(&row.alert.fingerprint()));
        let live: Vec<AlertRow> = live.cloned().collect();
        self.regroup(&live, &timers, now);
    }

    /// Takes a new configuration: every alert that is not notified to its end is routed anew.
    /// Groups that stay keep their timers.
    pub fn reconfigure(&mut self, config: Arc<Alerting>, now: Timestamp) -> Transition {
        let timers: Vec<GroupRow> = self
            .groups
            .iter()
            .map(|(id, group)| group.to_row(id))
            .collect();
        let held = self.held();
        let live = self
            .alerts
            .iter()
            .filter(|row| held.contains(&row.alert.fingerprint()) || !row.alert.is_resolved(now));
        let live: Vec<AlertRow> = live.cloned().collect();
        self.config = config;
        let before = keys(&self.groups);
        self.regroup(&live, &timers, now);
        let after = keys(&self.groups);
        let moved = live
            .iter()
            .map(|row| &row.alert)
            .filter(|alert| before.get(&alert.fingerprint()) != after.get(&alert.fingerprint()));
        Transition {
            decisions: moved.map(|alert| self.arrival(alert, now)).collect(),
            ..self.everything()
        }
    }

    fn regroup(&mut self, live: &[AlertRow], timers: &[GroupRow], now: Timestamp) {
        self.groups.clear();
        for row in live {
            self.insert(row, now);
        }
        for row in timers {
            if let Some(group) = self.groups.get_mut(&row.id) {
                group.resume(row, now);
            }
        }
    }

    /// Takes alerts in.
    pub fn put(&mut self, incoming: Vec<Incoming>, now: Timestamp) -> Transition {
        let mut transition = Transition::default();
        let mut touched: BTreeSet<String> = BTreeSet::new();
        for report in incoming {
            let fingerprint = report.alert.fingerprint();
            let labels = report.posted.then(|| report.alert.labels.clone());
            let change = self.alerts.put(report, self.config.posted_alerts, now);
            match change {
                Change::News | Change::Ended => {
                    let Some(row) = self.alerts.get(fingerprint).cloned() else {
                        continue;
                    };
                    // After a restart, rules report ends again that were notified before it.
                    if change == Change::News
                        && row.alert.is_resolved(now)
                        && !self.is_notified_firing(&row.alert)
                    {
                        continue;
                    }
                    let flap = self.flaps.changed(
                        &row.alert,
                        &self.config.flapping(&row.alert.labels),
                        now,
                    );
                    transition.flaps.extend(flap);
                    // What was decided before is no answer to this.
                    self.decisions.forget(fingerprint);
                    touched.extend(self.insert(&row, now));
                    transition.decisions.push(self.arrival(&row.alert, now));
                    transition.alerts.push(row);
                }
                // What people see of it must be the same after a restart.
                Change::Revised => transition
                    .alerts
                    .extend(self.alerts.get(fingerprint).cloned()),
                Change::Renewed | Change::Repeated => {}
                Change::Refused => self.refused.note(labels.unwrap_or_default(), now),
            }
        }
        let timers = touched
            .iter()
            .filter_map(|id| Some(self.groups.get(id)?.to_row(id)));
        transition.groups = timers.collect();
        transition
    }

    /// Whether somebody who wants to hear of ends was notified that this alert fires, and not that
    /// it ended.
    fn is_notified_firing(&self, alert: &Alert) -> bool {
        let routes = self
            .config
            .routes
            .matching(&alert.labels)
            .into_iter()
            .filter_map(|index| self.config.routes.get(index));
        routes.into_iter().any(|route| {
            let key = group_key(route, &route.group_by.of(&alert.labels));
            let integrations = self
                .config
                .receiver(&route.receiver)
                .map_or(&[][..], |receiver| &receiver.integrations);
            let flapping = self
                .flaps
                .flapping(alert.fingerprint())
                .map(|row| flapping_id(alert, row));
            let knows = |entry: &LogEntry| {
                [Some(alert.fingerprint()), flapping]
                    .iter()
                    .flatten()
                    .any(|id| entry.firing.contains(id))
            };
            let wanting = integrations
                .iter()
                .filter(|integration| integration.send_resolved);
            wanting
                .into_iter()
                .any(|integration| self.log.get(&key, &integration.key).is_some_and(knows))
        })
    }

    /// Adds an alert to every matching group, except groups that have already sent its resolution.
    /// Returns the ids of new groups.
    fn insert(&mut self, row: &AlertRow, now: Timestamp) -> Vec<String> {
        let (alert, mut made) = (&row.alert, Vec::new());
        for index in self.config.routes.matching(&alert.labels) {
            let Some(route) = self.config.routes.get(index) else {
                continue;
            };
            let labels = route.group_by.of(&alert.labels);
            let id = group_id(route, &labels);
            if row.left.contains(&id) {
                continue;
            }
            let group = self.groups.entry(id.clone()).or_insert_with(|| {
                made.push(id);
                Group::new(index, route, labels, now)
            });
            group.insert(alert, route.group_wait, now);
        }
        made
    }

    /// The record of an alert that goes into its groups.
    pub(in crate::alerting) fn arrival(&self, alert: &Alert, now: Timestamp) -> DecisionRow {
        let paths = self.paths(&alert.labels);
        let until = paths.iter().map(|path| path.due).min().unwrap_or(now);
        DecisionRow {
            scope: alert.name().to_owned(),
            at: now,
            alerts: vec![alert.fingerprint()],
            integration: String::new(),
            stage: Stage::Waiting {
                until,
                resolved: alert.is_resolved(now),
            },
            labels: alert.labels.clone(),
            paths,
        }
    }

    /// Where an alert with these labels is sent: the groups that it is in.
    pub(in crate::alerting) fn paths(&self, labels: &Labels) -> Vec<AlertPath> {
        let path = |index: usize| {
            let route = self.config.routes.get(index)?;
            let group = self
                .groups
                .get(&group_id(route, &route.group_by.of(labels)))?;
            Some(AlertPath {
                group_key: group.key.clone(),
                receiver: route.receiver.clone(),
                due: group.next_flush,
            })
        };
        self.config
            .routes
            .matching(labels)
            .into_iter()
            .filter_map(path)
            .collect()
    }

    /// When the next group is due.
    pub fn next_due(&self) -> Option<Timestamp> {
        let contact = |row: &EscalationRow| {
            Escalations::due(row, self.config.receiver(&row.receiver)?.escalation())
        };
        // One that is muted is looked at again, not without a pause.
        let contacts = self.escalations.rows().filter_map(contact).map(|due| {
            if due <= self.escalated_at {
                self.escalated_at + ESCALATION_PAUSE
            } else {
                due
            }
        });
        self.groups
            .values()
            .map(|g| g.next_flush)
            .chain(contacts)
            .chain(self.actions.next_due())
            .min()
    }

    /// Flushes every group that is due.
    pub fn flush_due(&mut self, now: Timestamp) -> Transition {
        self.distrust_clock(now);
        let due: Vec<String> = self
            .groups
            .iter()
            .filter(|(_, g)| g.next_flush <= now)
            .map(|(id, _)| id.clone())
            .collect();
        let mut transition = Transition::default();
        let mut ended_in: Vec<(u64, String)> = Vec::new();
        if due.is_empty() && self.escalations.rows().next().is_none() {
            return transition;
        }
        let config = self.config.clone();
        let alerts = std::mem::take(&mut self.alerts);
        let labels = |fingerprint: u64| {
            alerts
                .get(fingerprint)
                .map_or_else(Labels::empty, |row| row.alert.labels.clone())
        };
        transition.flaps = self
            .flaps
            .settle(now, |fingerprint| config.flapping(&labels(fingerprint)));
        let inhibition = Inhibition::new(&config.inhibit_rules, alerts.firing(now));
        for id in due {
            let ended = self.flush(&id, &alerts, &inhibition, now, &mut transition);
            ended_in.extend(
                ended
                    .into_iter()
                    .map(|fingerprint| (fingerprint, id.clone())),
            );
        }
        self.escalate(&alerts, &inhibition, now, &mut transition);
        drop(inhibition);
        self.alerts = alerts;
        let held: BTreeSet<u64> = if ended_in.is_empty() {
            BTreeSet::new()
        } else {
            self.held()
        };
        let mut gone = BTreeSet::new();
        for (fingerprint, group) in ended_in {
            if held.contains(&fingerprint) {
                transition
                    .alerts
                    .extend(self.alerts.leave(fingerprint, &group));
            } else {
                gone.insert(fingerprint);
            }
        }
        transition.gone_alerts = gone.into_iter().collect();
        transition
            .gone_alerts
            .iter()
            .for_each(|fingerprint| self.decisions.forget(*fingerprint));
        transition
    }

    /// After the clock was set back, no group waits longer than its route's waits.
    fn distrust_clock(&mut self, now: Timestamp) {
        for group in self.groups.values_mut() {
            let Some(route) = self.config.routes.get(group.route) else {
                continue;
            };
            group.next_flush = group
                .next_flush
                .min(now + route.group_wait.max(route.group_interval));
        }
    }

    /// Flushes one group; returns the alerts whose end it has notified.
    fn flush(
        &mut self,
        id: &str,
        known: &Alerts,
        inhibition: &Inhibition<'_>,
        now: Timestamp,
        transition: &mut Transition,
    ) -> Vec<u64> {
        let config = self.config.clone();
        let Some(group) = self.groups.get_mut(id) else {
            return Vec::new();
        };
        let Some(route) = config.routes.get(group.route) else {
            return Vec::new();
        };
        group.flushed = true;
        group.next_flush = now + route.group_interval;

        let group = &self.groups[id];
        let alerts: Vec<&Alert> = group
            .alerts
            .iter()
            .filter_map(|f| Some(&known.get(*f)?.alert))
            .collect();
        // An alert that flaps stays until it has settled.
        let ended = alerts
            .iter()
            .filter(|a| a.is_resolved(now))
            .map(|a| a.fingerprint());
        let ended: Vec<u64> = ended
            .filter(|fingerprint| self.flaps.flapping(*fingerprint).is_none())
            .collect();
        let mut log = std::mem::take(&mut self.log);
        let outcome = pipeline::flush(
            Flush {
                group,
                route,
                alerts,
                now,
            },
            &self.mutes(&config, inhibition),
            &mut log,
        );
        self.log = log;

        let escalates = config
            .receiver(&route.receiver)
            .is_some_and(|receiver| !receiver.escalation().is_empty());
        let notified = outcome
            .notified
            .iter()
            .filter(|_| escalates)
            .filter_map(|f| Some(&known.get(*f)?.alert))
            .filter(|alert| is_critical(alert));
        let begun: Vec<EscalationRow> = notified
            .filter_map(|alert| self.escalations.notified(alert, &route.receiver, now))
            .collect();
        transition.escalations.extend(begun);
        let group = &self.groups[id];
        let row = group.to_row(id);
        transition.log.extend(outcome.log);
        transition.messages.extend(outcome.messages);
        transition
            .decisions
            .extend(self.decisions.note(&group.key, outcome.decisions, now));
        let Some(group) = self.groups.get_mut(id) else {
            return ended;
        };
        group
            .alerts
            .retain(|fingerprint| !ended.contains(fingerprint));
        if group.alerts.is_empty() {
            self.groups.remove(id);
            transition.gone_groups.push(id.to_owned());
        } else {
            transition.groups.push(row);
        }
        ended
    }

    /// What decides about muting, but the notification log.
    fn mutes<'a>(&'a self, config: &'a Alerting, inhibition: &'a Inhibition<'a>) -> Mutes<'a> {
        Mutes {
            config,
            inhibition,
            silences: &self.silences,
            flaps: &self.flaps,
            signer: &self.signer,
            actions: &self.actions,
            unaccepted: &self.unaccepted,
        }
    }

    /// Notifies the next contact of each alert that nobody acknowledged in time, and all who were
    /// notified of its end.
    fn escalate(
        &mut self,
        known: &Alerts,
        inhibition: &Inhibition<'_>,
        now: Timestamp,
        transition: &mut Transition,
    ) {
        self.escalated_at = now;
        let config = self.config.clone();
        let rows: Vec<EscalationRow> = self.escalations.rows().cloned().collect();
        for mut row in rows {
            let mutes = self.mutes(&config, inhibition);
            let steps = config
                .receiver(&row.receiver)
                .map_or(&[][..], |receiver| receiver.escalation());
            let alert = known.get(row.fingerprint).map(|known| &known.alert);
            let firing = alert.filter(|alert| {
                !alert.is_resolved(now) || self.flaps.flapping(row.fingerprint).is_some()
            });
            let contacts = match firing {
                None => &steps[..row.level.min(steps.len())],
                Some(alert) => {
                    let due = Escalations::due(&row, steps).is_some_and(|due| due <= now);
                    let muted = !inhibition.muting(alert, false).is_empty()
                        || !self.silences.muting(&alert.labels, now).is_empty();
                    if !due || muted {
                        continue;
                    }
                    &steps[row.level..=row.level]
                }
            };
            let receivers = contacts
                .iter()
                .filter_map(|step| config.receiver(&step.receiver));
            let integrations = receivers.flat_map(|receiver| &receiver.integrations);
            let over = firing.is_none();
            for (message, decided) in integrations
                .filter_map(|one| pipeline::contact((alert?, over, &row), one, &mutes, now))
            {
                transition.messages.push(message);
                transition.decisions.push(decided);
            }
            if firing.is_some() {
                row.level += 1;
                self.escalations.put(row.clone());
                transition.escalations.push(row);
            } else {
                self.escalations.remove(&row);
                transition.gone_escalations.push(row);
            }
        }
    }

    /// Notes who took alerts on: no further contact is notified of these firings. Gives how many
    /// were known and fire.
    pub fn acknowledge(
        &mut self,
        fingerprints: &[u64],
        by: &str,
        now: Timestamp,
    ) -> (usize, Transition) {
        let firing = fingerprints.iter().filter(|f| {
            self.alerts
                .get(**f)
                .is_some_and(|row| !row.alert.is_resolved(now))
        });
        let firing: Vec<u64> = firing.copied().collect();
        let escalations = firing
            .iter()
            .flat_map(|f| self.escalations.acknowledge(*f, by, now))
            .collect();
        (
            firing.len(),
            Transition {
                escalations,
                ..Transition::default()
            },
        )
    }

    /// Whether the alert with this fingerprint fires.
    pub fn fires(&self, fingerprint: u64, now: Timestamp) -> bool {
        self.alerts
            .get(fingerprint)
            .is_some_and(|row| !row.alert.is_resolved(now))
    }

    /// Judges the recovery actions whose time has come.
    pub fn judge_actions(&mut self, now: Timestamp) -> Vec<ActionRow> {
        let alerts = &self.alerts;
        let fires = |fingerprint| {
            alerts
                .get(fingerprint)
                .is_some_and(|row| !row.alert.is_resolved(now))
        };
        self.actions.judge(fires, now)
    }

    /// Forgets what is old, by the time `aged` where people would miss it; gives the entries of the
    /// notification log that went.
    pub fn collect_garbage(&mut self, now: Timestamp, aged: Timestamp) -> Vec<(String, String)> {
        let held = self.held();
        self.alerts
            .collect_garbage(now, |fingerprint| held.contains(&fingerprint));
        let keys: HashSet<&str> = self
            .groups
            .values()
            .map(|group| group.key.as_str())
            .collect();
        let forgotten = self.log.prune(aged, |group| keys.contains(group));
        self.unaccepted.retain(|group| keys.contains(group));
        self.silences.prune(aged - RETENTION);
        self.flaps.prune(aged - LONGEST * 2);
        forgotten
    }

    /// All that the database should hold, to be written after it had failed: instead of what is
    /// there.
    pub fn everything(&self) -> Transition {
        let held = self.held();
        Transition {
            replace: true,
            alerts: self
                .alerts
                .iter()
                .filter(|row| held.contains(&row.alert.fingerprint()))
                .cloned()
                .collect(),
            groups: self
                .groups
                .iter()
                .map(|(id, group)| group.to_row(id))
                .collect(),
            log: self.log.rows(),
            escalations: self.escalations.rows().cloned().collect(),
            actions: self.actions.rows().cloned().collect(),
            flaps: self.flaps.rows().cloned().collect(),
            ..Transition::default()
        }
    }

    fn held(&self) -> BTreeSet<u64> {
        self.groups
            .values()
            .flat_map(|g| g.alerts.iter().copied())
            .collect()
    }
}

/// The keys of the groups that each alert is in.
fn keys(groups: &BTreeMap<String, Group>) -> BTreeMap<u64, Vec<String>> {
    let mut keys: BTreeMap<u64, Vec<String>> = BTreeMap::new();
    for (group, fingerprint) in groups.values().flat_map(|group| {
        group
            .alerts
            .iter()
            .map(move |fingerprint| (group, *fingerprint))
    }) {
        keys.entry(fingerprint).or_default().push(group.key.clone());
    }
    keys
}
