//! The dispatch loop: takes commands, flushes what is due, and writes every transition down before
//! anyone is notified.
//!
//! [`Dispatch`] is the loop without the clock: each method takes `now`, so that tests drive it
//! through days in milliseconds. [`Dispatch::run`] is the loop that reads the clock.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot, watch};
use tracing::{debug, error, info, warn};

use super::DeliveryEnded;
use super::config::{Alerting, Integration};
use super::delivery::action::{REMEMBERED, decision_row};
use super::delivery::deliverer::Fallbacks;
use super::delivery::deliverer::{Deliverer, DeliveryContext};
use super::delivery::mailbox::Mailbox;
use super::delivery::tasks::Deliveries;
use super::follow_up::escalation::{Signer, fresh_key};
use super::memory::alerts::Incoming;
use super::memory::dispatcher::{Dispatcher, Restored};
use super::memory::refusals::Refused;
use super::metrics::{IntegrationLabels, Metrics};
use super::mute::flapping::LONGEST;
use super::mute::silence::{RETENTION, Silence, SilenceError};
use crate::model::alert::evidence::Clue;
use crate::model::clock::{self, Jump};
use crate::model::{Alert, Timestamp};
use crate::state::{
    DeadLetter, DecisionRow, Error, MAX_DEAD_LETTERS, OutboxRow, State, Transition,
};

/// Time between two log lines about posted alerts that were refused.
const REFUSAL_QUIET: Duration = Duration::from_secs(60);
/// Longest sleep: a clock that jumps is noticed within it.
const LONGEST_SLEEP: Duration = Duration::from_secs(15);
/// Time between two clean-ups.
const CLEAN_UP: Duration = Duration::from_secs(15 * 60);
/// How long decisions are kept.
const DECISIONS_RETENTION: Duration = Duration::from_secs(30 * 86_400);
/// Most alerts at once of which it is said how often they fired before, and how long the database
/// may take to say it.
const MAX_REMEMBERED: usize = 20;
const REMEMBERING: Duration = Duration::from_millis(100);
/// How long messages of an integration that is not configured here are left to others, where
/// several instances share a database.
const UNKNOWN: Duration = Duration::from_secs(3600);
/// Most actions of a former process that are remembered.
const MAX_REMEMBERED_ACTIONS: i64 = 500;
/// Most decisions that are held in memory when the database cannot take them.
const MAX_UNWRITTEN: usize = 1000;

/// What the handle asks of the loop.
pub(super) enum Command {
    Put(Vec<Incoming>, oneshot::Sender<Refused>),
    SetSilence(Box<Silence>, oneshot::Sender<Result<String, SilenceError>>),
    ExpireSilence(String, oneshot::Sender<Result<(), SilenceError>>),
    Acknowledge(Vec<u64>, String, oneshot::Sender<usize>),
    Tell(Vec<OutboxRow>, oneshot::Sender<()>),
    SendAgain(
        Option<String>,
        oneshot::Sender<Result<usize, SendAgainError>>,
    ),
    Reload(Arc<Alerting>, oneshot::Sender<()>),
    AdoptClock(oneshot::Sender<Option<Jump>>),
}

/// Why a dead letter is not sent again.
#[derive(Debug, thiserror::Error)]
pub enum SendAgainError {
    /// There is none of this id.
    #[error("there is no dead letter of this id")]
    Unknown,
    /// Nobody could send it.
    #[error("its integration {0:?} is no longer configured")]
    Unconfigured(String),
    /// The database failed.
    #[error(transparent)]
    State(#[from] Error),
    /// The process ends.
    #[error("nightbell is stopping")]
    Stopped,
}

/// The dispatcher with its database and its deliveries.
pub struct Dispatch {
    pub(super) memory: Arc<Mutex<Dispatcher>>,
    pub(super) state: State,
    metrics: Metrics,
    /// By integration, with the labels of its metrics.
    pub(super) mailboxes: BTreeMap<String, (Arc<Mailbox>, IntegrationLabels)>,
    /// The database missed something: the next transition writes everything.
    behind: bool,
    /// What the database holds was not read yet: until then nothing is written over it.
    unread: bool,
    /// Decisions that the database missed.
    unwritten: Vec<DecisionRow>,
    pub(super) cleaned_at: Timestamp,
    /// When it was last looked whether the database's file is still there.
    pub(super) looked_at: Timestamp,
    refusal_logged_at: Option<Timestamp>,
}

impl Dispatch {
    /// Goes on where the last process stopped. What cannot be read from the database is logged,
    /// counted and done without.
    pub async fn restore(
        config: Arc<Alerting>,
        state: State,
        metrics: Metrics,
        now: Timestamp,
    ) -> Self {
        let (mut restored, unread) = read(&state, now).await;
        // Without a database, links hold as long as this process.
        let fresh = fresh_key();
        restored.signer = Signer::new(state.secret("acknowledge", &fresh).await.unwrap_or(fresh));
        let memory = Arc::new(Mutex::new(Dispatcher::new(config, restored, now)));
        let mut dispatch = Dispatch {
            memory,
            state,
            metrics,
            mailboxes: BTreeMap::new(),
            behind: unread,
            unread,
            unwritten: Vec::new(),
            cleaned_at: now,
            looked_at: Timestamp::MIN,
            refusal_logged_at: None,
        };
        dispatch.open_mailboxes(now).await;
        dispatch
    }

    /// Reads what could not be read at the start, now that the database may be back; what is known
    /// by now stands.
    async fn catch_up(&mut self, now: Timestamp) {
        // Ping first: if the database is down, skip the other queries.
        if self.state.ping().await.is_err() {
            return;
        }
        let (restored, unread) = read(&self.state, now).await;
        if !unread {
            self.unread = false;
            self.memory.lock().adopt(restored, now);
            self.open_mailboxes(now).await;
        }
    }

    /// Takes alerts in; when it returns, they are written down (or the database is broken, and they
    /// are in memory). Gives what was refused.
    pub async fn put(&mut self, incoming: Vec<Incoming>, now: Timestamp) -> Refused {
        self.metrics.received.inc_by(incoming.len() as u64);
        let incoming = self.remembered(incoming, now).await;
        let (transition, refused) = {
            let mut memory = self.memory.lock();
            memory.follow_clock(now);
            let transition = memory.put(incoming, now);
            let share = memory.config.posted_alerts;
            (transition, memory.refused.take(share))
        };
        if refused.count > 0 {
            self.metrics.refuse("share", refused.count);
            // A flood of alerts must not flood the log.
            if self
                .refusal_logged_at
                .is_none_or(|at| now.since(at) >= REFUSAL_QUIET || now < at)
            {
                self.refusal_logged_at = Some(now);
                let (refused, share) = (refused.count, refused.share);
                error!(
                    refused,
                    share,
                    "Posted alerts were refused: the share of alerts from outside is used up."
                );
            }
        }
        self.commit(transition).await;
        refused
    }

    /// Says of alerts that begin to fire how often they did before: of a few at once, and only as
    /// long as the database answers quickly.
    async fn remembered(&self, mut incoming: Vec<Incoming>, now: Timestamp) -> Vec<Incoming> {
        let is_new = |memory: &Dispatcher, alert: &Alert| {
            !alert.is_resolved(now)
                && memory
                    .alerts
                    .get(alert.fingerprint())
                    .is_none_or(|row| row.alert.is_resolved(now))
        };
        let new: Vec<usize> = {
            let memory = self.memory.lock();
            (0..incoming.len())
                .filter(|index| is_new(&memory, &incoming[*index].alert))
                .take(MAX_REMEMBERED + 1)
                .collect()
        };
        if new.len() > MAX_REMEMBERED {
            return incoming;
        }
        let count = async {
            for index in new {
                let alert = &mut incoming[index].alert;
                let Ok((count, last)) = self
                    .state
                    .firings(alert.name(), alert.fingerprint(), now - DECISIONS_RETENTION)
                    .await
                else {
                    return;
                };
                alert.evidence.push(Clue::seen(count, last));
            }
        };
        // Do not wait for slow subscribers.
        let _ = tokio::time::timeout(REMEMBERING, count).await;
        incoming
    }

    /// Flushes every group that is due. The messages are in the outbox when it returns.
    pub async fn flush(&mut self, now: Timestamp) {
        let mut transition = {
            let mut memory = self.memory.lock();
            memory.follow_clock(now);
            self.metrics
                .alerts
                .set(i64::try_from(memory.alerts.firing(now).count()).unwrap_or(i64::MAX));
            // First, so that the messages of this instant tell of it.
            let actions = memory.judge_actions(now);
            let transition = Transition {
                actions,
                ..memory.flush_due(now)
            };
            self.metrics
                .flapping
                .set(i64::try_from(memory.flaps.count()).unwrap_or(i64::MAX));
            self.metrics
                .groups
                .set(i64::try_from(memory.groups.len()).unwrap_or(i64::MAX));
            transition
        };
        self.tell_judgements(&mut transition, now);
        self.look_after_file(now).await;
        if self.unread {
            self.catch_up(now).await;
        }
        // A database that failed is tried again even when nothing happens.
        transition.replace |= self.behind;
        self.commit(transition).await;
        if now.since(self.cleaned_at) >= CLEAN_UP || now < self.cleaned_at {
            self.cleaned_at = now;
            let aged = clock::aged(now);
            let forgotten = self.memory.lock().collect_garbage(now, aged);
            // A failure is counted by the state itself, and the next time comes soon.
            let _ = self.state.forget_log_entries(&forgotten).await;
            let _ = self.state.prune_silences(aged - RETENTION).await;
            let _ = self.state.prune_decisions(aged - DECISIONS_RETENTION).await;
            let _ = self.state.prune_actions(aged - DECISIONS_RETENTION).await;
            let _ = self.state.prune_flaps(aged - LONGEST * 2).await;
            let _ = self.state.trim(now).await;
            if self.state.is_shared() {
                self.open_mailboxes(now).await;
            }
        }
    }

    /// Counts, logs and records which recovery actions helped.
    fn tell_judgements(&self, transition: &mut Transition, now: Timestamp) {
        for row in &transition.actions {
            let helped = row.body.helped == Some(true);
            if let Some((_, labels)) = self.mailboxes.get(&row.integration) {
                self.metrics
                    .judged
                    .get_or_create(&labels.ended(if helped { "helped" } else { "not_helped" }))
                    .inc();
            }
            let (integration, target, alert) = (&row.integration, &row.target, &row.body.alert);
            if helped {
                info!(
                    integration,
                    target, alert, "Recovery action helped: the alert is over."
                );
            } else {
                warn!(
                    integration,
                    target, alert, "Recovery action did not help: the alert fires on."
                );
            }
            transition.decisions.push(decision_row(row, now));
        }
    }

    async fn look_after_file(&mut self, now: Timestamp) {
        if now.since(self.looked_at) < LONGEST_SLEEP && now >= self.looked_at {
            return;
        }
        self.looked_at = now;
        self.state.measure();
        match self.state.open_wanted(now).await {
            Ok(true) => {
                info!("The state database can be opened again; it is used from now on.");
                (self.unread, self.behind) = (true, true);
            }
            Ok(false) => {}
            // That it cannot be opened was said at the start, and the metric says it now.
            Err(error) => debug!(%error, "The state database still cannot be opened."),
        }
        match self.state.restore_removed_file(now).await {
            Ok(true) => error!(
                "The file of the state database was removed; it was written anew, with all that it held."
            ),
            Ok(false) => {}
            Err(error) => {
                error!(%error, "The file of the state database was removed and cannot be written anew.")
            }
        }
    }

    /// When the next group is due.
    pub fn next_due(&self) -> Option<Timestamp> {
        self.memory.lock().next_due()
    }

    /// Makes or changes a silence; it mutes only once it is written down.
    pub async fn set_silence(
        &mut self,
        silence: Silence,
        now: Timestamp,
    ) -> Result<String, SilenceError> {
        let changed = self
            .memory
            .lock()
            .silences
            .plan_set(silence, new_id(), now)?;
        let id = changed.last().map(|s| s.id.clone()).unwrap_or_default();
        self.apply_silences(changed).await?;
        Ok(id)
    }

    /// Ends a silence.
    pub async fn expire_silence(&mut self, id: &str, now: Timestamp) -> Result<(), SilenceError> {
        let changed = self.memory.lock().silences.plan_expire(id, now)?;
        self.apply_silences(changed.into_iter().collect()).await
    }

    /// Notes who took alerts on; gives how many of them fire.
    pub async fn acknowledge(&mut self, fingerprints: &[u64], by: &str, now: Timestamp) -> usize {
        let (count, transition) = self.memory.lock().acknowledge(fingerprints, by, now);
        self.commit(transition).await;
        count
    }

    /// Sends a dead letter again, or all whose integration is still there; gives how many.
    pub async fn send_again(
        &mut self,
        delivery_id: Option<&str>,
        now: Timestamp,
    ) -> Result<usize, SendAgainError> {
        let letters = match delivery_id {
            Some(id) => vec![
                self.state
                    .dead_letter(id)
                    .await?
                    .ok_or(SendAgainError::Unknown)?,
            ],
            None => self.state.dead_letters(MAX_DEAD_LETTERS).await?,
        };
        let mut sent = 0;
        // The oldest first, in the order in which they were decided.
        for letter in letters.into_iter().rev() {
            let DeadLetter { message, .. } = letter;
            let Some((mailbox, _)) = self.mailboxes.get(&message.integration) else {
                if delivery_id.is_some() {
                    return Err(SendAgainError::Unconfigured(message.integration));
                }
                continue;
            };
            mailbox.forget_done(&message.delivery_id);
            if self.state.revive_message(&message.delivery_id, now).await? {
                let body = self.memory.lock().renewed(&message, now);
                if let Some(body) = body {
                    self.state
                        .merge_messages(&message.delivery_id, &body, &[])
                        .await?;
                }
                mailbox.expect(&message.delivery_id);
                mailbox.wake();
                sent += 1;
            }
        }
        info!(messages = sent, "Dead letters are sent again.");
        Ok(sent)
    }

    async fn apply_silences(&mut self, changed: Vec<Silence>) -> Result<(), SilenceError> {
        let rows: Vec<_> = changed.iter().map(Silence::to_row).collect();
        self.state.put_silences(&rows).await?;
        self.memory.lock().silences.apply(changed);
        Ok(())
    }

    /// Takes a new configuration; the caller replaces the deliveries.
    pub async fn reconfigure(&mut self, config: Arc<Alerting>, now: Timestamp) {
        let transition = self.memory.lock().reconfigure(config, now);
        self.commit(transition).await;
        self.open_mailboxes(now).await;
    }

    /// One notifier for each integration.
    pub fn deliverers(&self) -> Vec<Deliverer> {
        let integrations = self.integrations();
        let mailbox = |key: &str| {
            self.mailboxes
                .get(key)
                .map(|(mailbox, _)| mailbox.clone())
                .unwrap_or_default()
        };
        let to = |receiver: Option<&str>| -> Vec<(Integration, Arc<Mailbox>)> {
            let named = integrations.iter().filter(|other| {
                receiver == Some(&other.receiver) && other.notifier.action().is_none()
            });
            named
                .map(|other| (other.clone(), mailbox(&other.key)))
                .collect()
        };
        let default = self
            .memory
            .lock()
            .config
            .routes
            .get(0)
            .map(|root| root.receiver.clone());
        // If the default receiver is this receiver, there is no fallback: all its integrations were
        // tried already.
        let last = |i: &Integration| to(default.as_deref().filter(|name| *name != i.receiver));
        let fallbacks = |i: &Integration| Fallbacks {
            fallback: to(i.policy.fallback.as_deref()),
            last_resort: last(i),
        };
        let context = DeliveryContext {
            state: self.state.clone(),
            metrics: self.metrics.clone(),
            memory: self.memory.clone(),
        };
        let deliverer = |i: &Integration| {
            Deliverer::new(i.clone(), mailbox(&i.key), context.clone(), fallbacks(i))
        };
        integrations.iter().map(deliverer).collect()
    }

    fn integrations(&self) -> Vec<Integration> {
        self.memory
            .lock()
            .config
            .receivers
            .iter()
            .flat_map(|r| r.integrations.iter().cloned())
            .collect()
    }

    /// Writes a transition down, then wakes the deliveries. A database that fails costs durability,
    /// never a message.
    pub(super) async fn commit(&mut self, mut transition: Transition) {
        if transition.is_empty() {
            return;
        }
        for message in &transition.messages {
            if let Some((mailbox, _)) = self.mailboxes.get(&message.integration) {
                mailbox.expect(&message.delivery_id);
            }
        }
        let in_memory = self.behind;
        if in_memory {
            // The deliveries need not wait for a database that may not answer.
            std::mem::take(&mut transition.messages)
                .into_iter()
                .for_each(|message| self.keep_in_memory(message));
            let decisions = self
                .unwritten
                .iter()
                .cloned()
                .chain(std::mem::take(&mut transition.decisions))
                .collect();
            let messages = self
                .mailboxes
                .values()
                .flat_map(|(mailbox, _)| mailbox.unsaved_messages())
                .collect();
            transition = Transition {
                messages,
                decisions,
                ..self.memory.lock().everything()
            };
        }
        let recorded = if self.unread {
            Err(Error::Unread)
        } else {
            self.state.record(&transition).await
        };
        match recorded {
            Ok(refused) => {
                self.unwritten.clear();
                for message in &transition.messages {
                    // A message that the database cannot store is still sent.
                    if refused.messages.contains(&message.delivery_id) {
                        if !in_memory {
                            self.keep_in_memory(message.clone());
                        }
                        continue;
                    }
                    let Some((mailbox, _)) = self.mailboxes.get(&message.integration) else {
                        continue;
                    };
                    if in_memory {
                        mailbox.saved(&message.delivery_id);
                    }
                    mailbox.wake();
                }
                if std::mem::take(&mut self.behind) {
                    info!("State database is up to date again.");
                    // They may have something to take out of the outbox.
                    self.mailboxes
                        .values()
                        .for_each(|(mailbox, _)| mailbox.wake());
                }
            }
            Err(error) => {
                if !std::mem::replace(&mut self.behind, true) {
                    error!(%error, "State database failed; messages are sent from memory.");
                }
                self.unwritten = transition.decisions;
                self.unwritten
                    .drain(..self.unwritten.len().saturating_sub(MAX_UNWRITTEN));
                if !in_memory {
                    transition
                        .messages
                        .into_iter()
                        .for_each(|message| self.keep_in_memory(message));
                }
            }
        }
        let unsaved: usize = self.mailboxes.values().map(|(m, _)| m.unsaved()).sum();
        self.metrics
            .unsaved
            .set(i64::try_from(unsaved).unwrap_or(i64::MAX));
    }

    fn keep_in_memory(&self, message: OutboxRow) {
        let Some((mailbox, _)) = self.mailboxes.get(&message.integration) else {
            return;
        };
        if let Some(lost) = mailbox.keep(message) {
            error!(
                integration = lost.integration,
                group_key = lost.group_key,
                "Too many messages wait in memory; the oldest is lost."
            );
        }
    }

    /// A mailbox for each integration. Messages for one that is no longer configured become dead
    /// letters: nobody could send them.
    async fn open_mailboxes(&mut self, now: Timestamp) {
        let integrations = self.integrations();
        let configured: HashMap<&str, IntegrationLabels> = integrations
            .iter()
            .map(|i| (i.key.as_str(), IntegrationLabels::of(i)))
            .collect();
        self.mailboxes.retain(|key, (mailbox, labels)| {
            let stays = configured.contains_key(key.as_str());
            if !stays {
                mailbox.close();
                // Another integration of the same receiver may be left.
                if configured.values().all(|other| other != labels) {
                    self.metrics.outbox.remove(labels);
                }
            }
            stays
        });
        for (key, labels) in &configured {
            let gauge = || self.metrics.outbox.get_or_create(labels).clone();
            self.mailboxes
                .entry((*key).to_owned())
                .or_insert_with(|| (Arc::new(Mailbox::shown_by(gauge())), labels.clone()));
        }
        // Unreadable now: the deliveries look again by themselves.
        self.mailboxes
            .values()
            .for_each(|(mailbox, _)| mailbox.begin_count());
        let Ok(waiting) = self.state.outbox_deliveries().await else {
            return;
        };
        for (key, (mailbox, _)) in &self.mailboxes {
            mailbox.end_count(
                waiting
                    .iter()
                    .filter(|(integration, _)| integration == key)
                    .map(|(_, delivery)| delivery.as_str()),
            );
        }
        for of_one in waiting.chunk_by(|a, b| a.0 == b.0) {
            if !self.mailboxes.contains_key(&of_one[0].0) {
                self.give_up_all(&of_one[0].0, now).await;
            }
        }
    }

    async fn give_up_all(&self, integration: &str, now: Timestamp) {
        let mut said = false;
        while let Ok(Some((_, message))) = self.state.next_message(integration, 0, true).await {
            // Another instance on the same database may know it, and send it.
            if self.state.is_shared() && now.since(message.created_at) < UNKNOWN {
                break;
            }
            if !std::mem::replace(&mut said, true) {
                warn!(
                    integration,
                    "Messages wait for an integration that is no longer configured; they are kept as dead letters."
                );
            }
            let letter = DeadLetter {
                message,
                died_at: now,
                error: "its integration is no longer configured".into(),
            };
            if self.state.move_to_dead_letters(&letter).await.is_err() {
                break;
            }
        }
    }

    /// Runs until `stop` becomes true, then lets attempts under way end.
    ///
    /// # Errors
    /// When a delivery task ended by itself.
    pub(super) async fn run(
        mut self,
        mut commands: mpsc::Receiver<Command>,
        mut stop: watch::Receiver<bool>,
    ) -> Result<(), DeliveryEnded> {
        let mut deliveries = Deliveries::start(self.deliverers().into_iter());
        let result = loop {
            self.flush(Timestamp::now()).await;
            let now = Timestamp::now();
            let sleep = self
                .next_due()
                .map_or(LONGEST_SLEEP, |due| due.since(now).min(LONGEST_SLEEP));
            tokio::select! {
                command = commands.recv() => match command {
                    Some(command) => self.handle(command, &mut deliveries).await,
                    None => break Ok(()),
                },
                () = tokio::time::sleep(sleep) => {}
                Some(ended) = deliveries.tasks.join_next(), if !deliveries.tasks.is_empty() => {
                    break Err(DeliveryEnded(ended.err()));
                }
                _ = stop.changed() => break Ok(()),
            }
        };
        deliveries.stop().await;
        result
    }

    async fn handle(&mut self, command: Command, deliveries: &mut Deliveries) {
        let now = Timestamp::now();
        // The caller may have gone; the command is carried out anyway.
        match command {
            Command::Put(alerts, done) => {
                let refused = self.put(alerts, now).await;
                let _ = done.send(refused);
            }
            Command::SetSilence(silence, done) => {
                drop(done.send(self.set_silence(*silence, now).await))
            }
            Command::ExpireSilence(id, done) => {
                drop(done.send(self.expire_silence(&id, now).await))
            }
            Command::Acknowledge(fingerprints, by, done) => {
                let _ = done.send(self.acknowledge(&fingerprints, &by, now).await);
            }
            Command::Tell(messages, done) => {
                self.commit(Transition {
                    messages,
                    ..Transition::default()
                })
                .await;
                let _ = done.send(());
            }
            Command::SendAgain(id, done) => {
                drop(done.send(self.send_again(id.as_deref(), now).await))
            }
            Command::AdoptClock(done) => {
                let jump = self.adopt_clock().await;
                let _ = done.send(jump);
            }
            Command::Reload(config, done) => {
                self.reconfigure(config, now).await;
                deliveries.replace(self.deliverers().into_iter());
                let _ = done.send(());
            }
        }
    }
}

/// What the database remembers, and whether something could not be read.
async fn read(state: &State, now: Timestamp) -> (Restored, bool) {
    let mut unread = false;
    // What could not be read stays where it is.
    let mut failed = |what: &str, error: Error| {
        unread = true;
        warn!(what, %error, "State cannot be read; going on without it.");
    };
    let (alerts, unreadable) = state
        .alerts()
        .await
        .map_err(|e| failed("alerts", e))
        .unwrap_or_default();
    let groups = state
        .alert_groups()
        .await
        .map_err(|e| failed("alert_groups", e))
        .unwrap_or_default();
    let log = state
        .notification_log()
        .await
        .map_err(|e| failed("notification_log", e))
        .unwrap_or_default();
    let silences = state
        .silences()
        .await
        .map_err(|e| failed("silences", e))
        .unwrap_or_default();
    let escalations = state
        .escalations()
        .await
        .map_err(|e| failed("escalations", e))
        .unwrap_or_default();
    let flaps = state
        .flaps()
        .await
        .map_err(|e| failed("flaps", e))
        .unwrap_or_default();
    if let Err(error) = state.forget_running_actions().await {
        failed("action_log", error);
    }
    let since = now - REMEMBERED;
    let actions = state
        .actions(since, MAX_REMEMBERED_ACTIONS)
        .await
        .map_err(|e| failed("action_log", e))
        .unwrap_or_default();
    if unreadable > 0 {
        error!(
            unreadable,
            "Alerts in the state database cannot be read; going on without them."
        );
    }
    let silences = silences.into_iter().filter_map(|row| {
        let id = row.id.clone();
        Silence::from_row(row)
            .map_err(|error| error!(id, %error, "Silence in the state database cannot be read."))
            .ok()
    });
    (
        Restored {
            alerts,
            groups,
            log,
            silences: silences.collect(),
            escalations,
            actions,
            flaps,
            signer: Signer::default(),
        },
        unread,
    )
}

/// A random UUID (version 4). It names a silence and guards nothing, so the standard library's hash
/// keys are random enough.
fn new_id() -> String {
    use std::hash::{BuildHasher, RandomState};
    let (a, b) = (
        RandomState::new().hash_one(1u8),
        RandomState::new().hash_one(2u8),
    );
    let (c, d) = (
        (a & 0xffff_ffff_ffff_0fff) | 0x4000,
        (b & 0x3fff_ffff_ffff_ffff) | 0x8000_0000_0000_0000,
    );
    format!(
        "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
        c >> 32,
        (c >> 16) & 0xffff,
        c & 0xffff,
        d >> 48,
        d & 0xffff_ffff_ffff
    )
}
