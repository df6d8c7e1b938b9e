//! One flush of one group, top to bottom: inhibition, active intervals, mute intervals, silences,
//! then for each integration the decision and the message (SEMANTICS 153). Nothing is sent here:
//! the messages go to the outbox.

use std::collections::BTreeSet;
use std::time::Duration;

use super::decision::Decision;
use super::dedup::{Found, LogEntry, NotificationLog, NotifyReason, should_notify};
use super::group::Group;
use super::message::{Subject, compose, notified, order};
use super::unaccepted::AllUnaccepted;
use crate::alerting::config::route::Route;
use crate::alerting::config::{Alerting, Integration};
use crate::alerting::follow_up::escalation::{Signer, is_critical};
use crate::alerting::follow_up::recovery;
use crate::alerting::follow_up::recovery::Recent;
use crate::alerting::mute::flapping::{Flaps, clue, flapping_id, text};
use crate::alerting::mute::inhibit::Inhibition;
use crate::alerting::mute::silence::Silences;
use crate::model::alert::evidence::Clue;
use crate::model::alert::stage::{Inhibitor, Silencer, label_map};
use crate::model::{Alert, Labels, Stage, Timestamp};
use crate::notify::{AlertStatus, Notification, NotifiedAlert};
use crate::state::{DecisionRow, EscalationRow, FlapRow, LogRow, OutboxRow};

/// Longest time an entry of the notification log is kept.
const RETENTION: Duration = Duration::from_secs(120 * 3600);

/// How long the link to a picture can be opened.
const PICTURE_LASTS: Duration = Duration::from_secs(86_400);

/// The annotation that carries the link to acknowledge an alert.
const LINK: &str = "acknowledge_url";
/// The annotation that says how an alert flaps.
const FLAPPING: &str = "flapping";
/// The annotation that says what recovery actions did about an alert.
const RECOVERY: &str = "recovery";

/// What decides about muting.
pub struct Mutes<'a> {
    /// Time intervals and receivers.
    pub config: &'a Alerting,
    /// The inhibition rules with their firing sources.
    pub inhibition: &'a Inhibition<'a>,
    /// The silences.
    pub silences: &'a Silences,
    /// Which alerts flap.
    pub flaps: &'a Flaps,
    /// Signs the links with which people acknowledge.
    pub signer: &'a Signer,
    /// What was done about alerts.
    pub actions: &'a Recent,
    /// What receivers refused.
    pub unaccepted: &'a AllUnaccepted,
}

/// One group at one instant.
pub struct Flush<'a> {
    /// The group.
    pub group: &'a Group,
    /// Its route.
    pub route: &'a Route,
    /// Its alerts.
    pub alerts: Vec<&'a Alert>,
    /// The instant.
    pub now: Timestamp,
}

/// What came of a flush.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Messages for the outbox.
    pub messages: Vec<OutboxRow>,
    /// Changed entries of the notification log.
    pub log: Vec<LogRow>,
    /// Firing alerts that a message tells.
    pub notified: BTreeSet<u64>,
    /// What was decided about each alert.
    pub decisions: Vec<Decision>,
}

impl Outcome {
    fn decided(&mut self, integration: &str, alerts: impl IntoIterator<Item = u64>, stage: Stage) {
        let alerts: Vec<u64> = alerts.into_iter().collect();
        if !alerts.is_empty() {
            self.decisions.push(Decision {
                integration: integration.to_owned(),
                alerts,
                stage,
            });
        }
    }
}

/// Runs one flush.
pub fn flush(mut flush: Flush<'_>, mutes: &Mutes<'_>, log: &mut NotificationLog) -> Outcome {
    let mut outcome = Outcome::default();
    let now = flush.now;
    let Some(receiver) = mutes.config.receiver(&flush.route.receiver) else {
        return outcome;
    };
    flush.alerts.sort_by(|a, b| order(&a.labels, &b.labels));

    let quiet = muting_intervals(flush.route, mutes.config, now);
    let (mut passing, mut suppressed) = (Vec::new(), Vec::new());
    let entries = receiver
        .integrations
        .iter()
        .filter_map(|i| log.get(&flush.group.key, &i.key));
    let heard: BTreeSet<u64> = entries
        .flat_map(|entry| entry.firing.iter().copied())
        .collect();
    for alert in flush.alerts.iter().copied() {
        let settled = mutes
            .flaps
            .settled(alert.fingerprint())
            .map(|row| flapping_id(alert, row));
        let ids = [Some(alert.fingerprint()), settled];
        let notified = alert.is_resolved(now) && ids.iter().flatten().any(|id| heard.contains(id));
        match stopped(alert, notified, &quiet, mutes, now) {
            None => passing.push(alert),
            Some(stage) => {
                suppressed.push(alert);
                outcome.decided("", [alert.fingerprint()], stage);
            }
        }
    }

    // An alert that ended unheard leaves the group without a word; should it fire again, it must
    // count as new (SEMANTICS 158).
    let leaves = |alert: &Alert| {
        alert.is_resolved(now) && mutes.flaps.flapping(alert.fingerprint()).is_none()
    };
    let unheard: BTreeSet<u64> = suppressed
        .iter()
        .filter(|a| leaves(a))
        .map(|a| a.fingerprint())
        .collect();
    if receiver.integrations.is_empty() {
        outcome.decided(
            "",
            passing.iter().map(|a| a.fingerprint()),
            Stage::NoIntegration,
        );
    }
    for integration in &receiver.integrations {
        // What acts does so each time that an alert fires.
        let flaps = Some(mutes.flaps).filter(|_| integration.notifier.action().is_none());
        let entry = log.get(&flush.group.key, &integration.key);
        // What was opened at a pager is closed there, whatever mutes it by now.
        let opened = |alert: &&&Alert| {
            integration.is_pager()
                && alert.is_resolved(now)
                && entry.is_some_and(|entry| entry.firing.contains(&alert.fingerprint()))
        };
        let closing = suppressed.iter().filter(opened);
        let mut passing: Vec<Passing<'_>> = passing
            .iter()
            .chain(closing)
            .map(|alert| Passing::new(alert, flaps, now))
            .collect();
        if let Some(unaccepted) = mutes.unaccepted.get(&flush.group.key, &integration.key) {
            // Nobody hears of the end of what was never accepted.
            let heard = |a: &Passing<'_>| entry.is_some_and(|entry| entry.firing.contains(&a.id));
            passing.retain(|a| !a.resolved || !unaccepted.alerts.contains(&a.id) || heard(a));
        }
        if !passing.is_empty() {
            tell(&flush, &passing, mutes, integration, log, &mut outcome);
        }
        if !unheard.is_empty() {
            outcome
                .log
                .extend(log.forget(&flush.group.key, &integration.key, &unheard));
        }
    }
    outcome
}

/// An alert that nothing mutes.
struct Passing<'a> {
    alert: &'a Alert,
    /// Its identity in the notification log.
    id: u64,
    /// Whether it has ended for good.
    resolved: bool,
    /// What is known of its flapping.
    flapping: Option<&'a FlapRow>,
    /// The same of one that has settled, with its former identity.
    settled: Option<(u64, &'a FlapRow)>,
}

impl<'a> Passing<'a> {
    fn new(alert: &'a Alert, flaps: Option<&'a Flaps>, now: Timestamp) -> Self {
        let fingerprint = alert.fingerprint();
        let flapping = flaps.and_then(|flaps| flaps.flapping(fingerprint));
        Passing {
            alert,
            id: flapping.map_or(fingerprint, |row| flapping_id(alert, row)),
            resolved: alert.is_resolved(now) && flapping.is_none(),
            flapping,
            settled: flaps
                .and_then(|flaps| flaps.settled(fingerprint))
                .map(|row| (flapping_id(alert, row), row)),
        }
    }

    /// As a message shows it.
    fn shown(&self, now: Timestamp) -> NotifiedAlert {
        let mut shown = notified(self.alert, now);
        if self.flapping.is_some() {
            (shown.status, shown.ends_at_ms) = (AlertStatus::Firing, None);
        }
        if let Some(row) = self.flapping.or(self.settled.map(|(_, row)| row)) {
            shown.evidence.insert(0, clue(row, self.alert, now));
            shown.annotations.push((FLAPPING.to_owned(), text(row)));
            shown.annotations.sort();
        }
        shown
    }
}

/// The first that stops an alert, if any does: inhibition, time intervals, silences.
fn stopped(
    alert: &Alert,
    notified: bool,
    quiet: &[&str],
    mutes: &Mutes<'_>,
    now: Timestamp,
) -> Option<Stage> {
    let inhibited = mutes.inhibition.muting(alert, notified);
    if !inhibited.is_empty() {
        let inhibitor = |source: &&Alert| Inhibitor {
            fingerprint: format!("{:016x}", source.fingerprint()),
            labels: label_map(&source.labels),
        };
        return Some(Stage::Inhibited {
            by: inhibited.iter().map(inhibitor).collect(),
        });
    }
    if !quiet.is_empty() {
        return Some(Stage::Muted {
            intervals: quiet.iter().map(|name| (*name).to_owned()).collect(),
        });
    }
    let silenced = mutes.silences.muting(&alert.labels, now);
    let silencer = |id: &&str| {
        let silence = mutes.silences.get(id)?;
        Some(Silencer {
            id: silence.id.clone(),
            created_by: silence.created_by.clone(),
            comment: silence.comment.clone(),
            ends_at: silence.ends_at,
        })
    };
    (!silenced.is_empty()).then(|| Stage::Silenced {
        by: silenced.iter().filter_map(silencer).collect(),
    })
}

/// Decides for one integration, and if it is to be notified, writes the message and the log entry.
fn tell(
    flush: &Flush<'_>,
    alerts: &[Passing<'_>],
    mutes: &Mutes<'_>,
    integration: &Integration,
    log: &mut NotificationLog,
    outcome: &mut Outcome,
) {
    let (now, key) = (flush.now, &flush.group.key);
    let of_state = |resolved: bool| {
        alerts
            .iter()
            .filter(|a| a.resolved == resolved)
            .map(|a| a.id)
            .collect()
    };
    let found = Found {
        firing: of_state(false),
        resolved: of_state(true),
    };
    let entry = log.get(key, &integration.key);
    // Who knows that an alert flaps hears of it again when it has settled.
    let (known, news): (Vec<&Passing<'_>>, Vec<&Passing<'_>>) = alerts.iter().partition(|a| {
        a.flapping.is_some() && entry.is_some_and(|entry| entry.firing.contains(&a.id))
    });
    flapping(&known, entry, mutes, integration, outcome);
    let repeat = flush.route.repeat_interval;
    let reason = should_notify(entry, &found, repeat, integration.send_resolved, now);
    let in_vain =
        |reason: &NotifyReason| *reason == NotifyReason::Repeat && news.iter().all(|a| a.resolved);
    if mutes
        .unaccepted
        .get(key, &integration.key)
        .is_some_and(|unaccepted| {
            let unheard = |id: &u64| entry.is_none_or(|entry| !entry.firing.contains(id));
            now < unaccepted.retry_at
                && found
                    .firing
                    .iter()
                    .filter(|id| unheard(id))
                    .all(|id| unaccepted.alerts.contains(id))
                && !found.firing.is_empty()
        })
    {
        return;
    }
    let Some(reason) = reason.filter(|reason| !in_vain(reason)) else {
        return held_back(&news, entry, repeat, integration, outcome);
    };
    let settled = |a: &&&Passing<'_>| {
        a.settled
            .is_some_and(|(id, _)| entry.is_some_and(|entry| entry.firing.contains(&id)))
    };
    let reason = match reason {
        _ if news.iter().any(|a| a.flapping.is_some()) => NotifyReason::Flaps,
        _ if news.iter().any(|a| settled(&a)) => NotifyReason::Settled,
        reason => reason,
    };

    let notified: Vec<&Passing<'_>> = news
        .iter()
        .copied()
        .filter(|a| integration.send_resolved || !a.resolved)
        .collect();
    let mut shown: Vec<NotifiedAlert> = notified
        .iter()
        .map(|a| with_clues(a.shown(now), a.alert, mutes, now))
        .collect();
    if !integration.send_resolved {
        outcome.decided(
            &integration.key,
            news.iter()
                .filter(|a| a.resolved)
                .map(|a| a.alert.fingerprint()),
            Stage::EndNotWanted,
        );
    }
    outcome.notified.extend(
        notified
            .iter()
            .filter(|a| !a.resolved)
            .map(|a| a.alert.fingerprint()),
    );
    // Of an alert that flaps nothing renews the entry.
    let kept = if alerts.iter().any(|a| a.flapping.is_some()) {
        RETENTION
    } else {
        RETENTION.min(repeat * 2)
    };
    let entry = LogEntry {
        sent_at: now,
        firing: found.firing,
        resolved: found.resolved,
        expires_at: now + kept,
        accepted: None,
    };
    outcome.log.push(log.put(key, &integration.key, entry));
    if shown.is_empty() {
        return;
    }
    if !integration.policy.escalation.is_empty() {
        for alert in notified
            .iter()
            .filter(|a| is_critical(a.alert) && !a.resolved)
        {
            with_link(&mut shown, alert.alert, mutes);
        }
    }
    let subject = Subject {
        group_key: key,
        group_labels: &flush.group.labels,
        external_url: &mutes.config.external_url,
        now,
    };
    let message = compose(&subject, integration, reason, shown);
    outcome.decided(
        &integration.key,
        notified.iter().map(|a| a.alert.fingerprint()),
        written(&message, integration, now),
    );
    outcome.messages.push(to_row(message, integration, now));
}

/// Adds what was done about an alert, and where its picture can be seen.
fn with_clues(
    mut shown: NotifiedAlert,
    alert: &Alert,
    mutes: &Mutes<'_>,
    now: Timestamp,
) -> NotifiedAlert {
    let resolved = shown.status == AlertStatus::Resolved;
    if mutes.config.is_public
        && !resolved
        && alert
            .evidence
            .iter()
            .any(|clue| matches!(clue, Clue::Series { .. }))
    {
        let url = mutes
            .signer
            .picture_link(&mutes.config.external_url, alert, now + PICTURE_LASTS);
        shown.evidence.push(Clue::Picture { url });
    }
    let done = mutes
        .actions
        .clues(alert.fingerprint(), alert.starts_at, resolved);
    if !done.is_empty() {
        shown
            .annotations
            .push((RECOVERY.to_owned(), recovery::text(&done)));
        shown.annotations.sort();
    }
    shown.evidence.extend(done);
    shown
}

/// Says of alerts that an integration is not notified of them because they flap, and it knows.
fn flapping(
    known: &[&Passing<'_>],
    entry: Option<&LogEntry>,
    mutes: &Mutes<'_>,
    integration: &Integration,
    outcome: &mut Outcome,
) {
    for (alert, row) in known.iter().filter_map(|a| Some((a.alert, a.flapping?))) {
        let (since, notified_at) = (
            row.since.unwrap_or(row.changed_at),
            entry.map_or(row.changed_at, |entry| entry.sent_at),
        );
        let stable_for = mutes.config.flapping(&alert.labels).stable_for;
        outcome.decided(
            &integration.key,
            [alert.fingerprint()],
            Stage::Flapping {
                since,
                notified_at,
                stable_for,
            },
        );
    }
}

/// Adds the link with which people acknowledge `alert`.
fn with_link(shown: &mut [NotifiedAlert], alert: &Alert, mutes: &Mutes<'_>) {
    let fingerprint = format!("{:016x}", alert.fingerprint());
    for notified in shown.iter_mut().filter(|a| a.fingerprint == fingerprint) {
        notified.annotations.push((
            LINK.to_owned(),
            mutes.signer.link(&mutes.config.external_url, alert),
        ));
        notified.annotations.sort();
    }
}

/// What stands instead of a group key in messages to further contacts, and in what is written down
/// of them.
pub fn escalation_key(fingerprint: u64) -> String {
    format!("escalation:{fingerprint:016x}")
}

/// The message that tells one contact of an escalated alert, or of its end, and what is written
/// down of it. It says who has not answered.
pub fn contact(
    (alert, over, row): (&Alert, bool, &EscalationRow),
    integration: &Integration,
    mutes: &Mutes<'_>,
    now: Timestamp,
) -> Option<(OutboxRow, DecisionRow)> {
    if over && !integration.send_resolved {
        return None;
    }
    let mut shown = vec![with_clues(
        Passing::new(alert, Some(mutes.flaps), now).shown(now),
        alert,
        mutes,
        now,
    )];
    let reason = if over {
        NotifyReason::AllResolved
    } else {
        NotifyReason::Escalated
    };
    if !over {
        with_link(&mut shown, alert, mutes);
        let unanswered = Clue::Unanswered {
            receiver: row.receiver.clone(),
            since_ms: row.notified_at.0,
        };
        shown
            .iter_mut()
            .for_each(|alert| alert.evidence.push(unanswered.clone()));
    }
    let group_labels = Labels::from_pairs([("alertname", alert.name())]);
    let key = escalation_key(alert.fingerprint());
    let subject = Subject {
        group_key: &key,
        group_labels: &group_labels,
        external_url: &mutes.config.external_url,
        now,
    };
    let message = compose(&subject, integration, reason, shown);
    let decided = DecisionRow {
        scope: key.clone(),
        at: now,
        alerts: vec![alert.fingerprint()],
        integration: integration.key.clone(),
        stage: written(&message, integration, now),
        labels: Labels::empty(),
        paths: Vec::new(),
    };
    Some((to_row(message, integration, now), decided))
}

/// That a message was written: on its way, or held for the end of quiet hours.
fn written(message: &Notification, integration: &Integration, now: Timestamp) -> Stage {
    let delivery_id = message.delivery_id.clone();
    match integration.policy.holds(message, now) {
        true => Stage::Held { delivery_id },
        false => Stage::Sending {
            reason: message.reason.clone(),
            delivery_id,
        },
    }
}

/// A message's row in the outbox.
pub fn to_row(message: Notification, integration: &Integration, now: Timestamp) -> OutboxRow {
    OutboxRow {
        delivery_id: message.delivery_id.clone(),
        integration: integration.key.clone(),
        group_key: message.group_key.clone(),
        created_at: now,
        held: integration.policy.holds(&message, now),
        // Strings, numbers and lists of them always have a JSON form.
        body: serde_json::to_string(&message).unwrap_or_default(),
    }
}

/// Says why an integration is not notified: it knows already, or there is nothing that it wants to
/// know.
fn held_back(
    news: &[&Passing<'_>],
    entry: Option<&LogEntry>,
    repeat: Duration,
    integration: &Integration,
    outcome: &mut Outcome,
) {
    let knows =
        |a: &&&Passing<'_>| !a.resolved || entry.is_some_and(|e| e.resolved.contains(&a.id));
    let (known, unnotified): (Vec<&&Passing<'_>>, Vec<&&Passing<'_>>) =
        news.iter().partition(knows);
    let fingerprints = |alerts: Vec<&&Passing<'_>>| {
        alerts
            .into_iter()
            .map(|a| a.alert.fingerprint())
            .collect::<Vec<u64>>()
    };
    if let Some(entry) = entry {
        let stage = Stage::Deduplicated {
            notified_at: entry.sent_at,
            until: entry.sent_at + repeat,
        };
        outcome.decided(&integration.key, fingerprints(known), stage);
    }
    let stage = if integration.send_resolved {
        Stage::EndedUnnotified
    } else {
        Stage::EndNotWanted
    };
    outcome.decided(&integration.key, fingerprints(unnotified), stage);
}

/// Names of the time intervals because of which a route is quiet at `now`.
pub fn muting_intervals<'a>(route: &'a Route, config: &Alerting, now: Timestamp) -> Vec<&'a str> {
    let inside = |name: &&String| {
        config
            .time_intervals
            .get(*name)
            .is_some_and(|elements| elements.iter().any(|e| e.contains(now)))
    };
    if !route.active_time_intervals.is_empty()
        && !route.active_time_intervals.iter().any(|name| inside(&name))
    {
        return route
            .active_time_intervals
            .iter()
            .map(String::as_str)
            .collect();
    }
    route
        .mute_time_intervals
        .iter()
        .filter(inside)
        .map(String::as_str)
        .collect()
}
