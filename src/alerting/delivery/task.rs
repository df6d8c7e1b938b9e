//! Delivery: one task for each integration takes its messages from the outbox, in order, until the
//! receiver has accepted each.
//!
//! The backlog lies in the database; a task holds one message. A failed attempt is retried after
//! 500 ms, then ever later up to a minute (or when the service says so), up to the age at which it
//! is given up. Messages of other groups take their turn meanwhile, and messages of one group that
//! pile up become one. Where there are more than the service takes, all become one digest (see
//! [`super::digest`]).

use std::hash::BuildHasher;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tracing::{debug, error, info, warn};

use super::deliverer::Deliverer;
use super::digest::{Fold, is_too_large};
use super::mailbox::LONGEST_RETRY_AFTER;
use super::refused::is_about_messages;
use crate::alerting::flush::decision::outcome;
use crate::alerting::flush::message::merge;
use crate::model::{Stage, Timestamp, clock, format_duration};
use crate::notify::{
    Digest, Notification, NotifyError, Reason, Recipients, counting_failed_templates, remembering,
};
use crate::state::{DeadLetter, DecisionRow, Error, OutboxRow};

/// First and longest wait of a message that the service may take later, while it takes others.
const APART: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(600));
/// Longest time after which it is written down who has a delivery to several recipients.
const SERVED: Duration = Duration::from_secs(1);
/// First pause after a failure.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// Longest pause of our own choice.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// Most messages of one group that are merged at once.
const MERGE: i64 = 64;
/// Messages that are read at once for a digest.
const CHUNK: i64 = 100;

/// How often an integration looks whether its quiet hours are over, or the database is back.
const LOOK: Duration = Duration::from_secs(15);

/// What a step came to.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// There is nothing to deliver.
    Idle,
    /// A message was dealt with: go on.
    Done,
    /// The outbox cannot be read: look again before long, at once when there is a message in
    /// memory.
    Look,
    /// Try again after this time.
    Pause(Duration),
}

struct Waiting {
    message: OutboxRow,
    /// Its position in the outbox; `None` when it is in memory alone.
    position: Option<i64>,
}

impl Deliverer {
    /// Delivers until `stop` becomes true; an attempt under way is finished first.
    pub async fn run(mut self, mut stop: watch::Receiver<bool>) {
        let mailbox = self.mailbox.clone();
        let _turn = mailbox.turn.lock().await;
        while !*stop.borrow_and_update() {
            let step = self.step(Timestamp::now()).await;
            let apart = self.mailbox.next_put_off(Timestamp::now());
            // Only an idle task is woken by a new message: a failing receiver is not tried more
            // often because there is more to say.
            let wait = async {
                match step {
                    Step::Done => {}
                    Step::Idle
                        if self.integration.policy.quiet_hours.is_empty() && apart.is_none() =>
                    {
                        self.mailbox.wake.notified().await
                    }
                    // Nobody says when quiet hours end, or when the database is back.
                    Step::Idle | Step::Look => {
                        let look = apart.unwrap_or(LOOK).clamp(FIRST_PAUSE, LOOK);
                        drop(tokio::time::timeout(look, self.mailbox.wake.notified()).await);
                    }
                    Step::Pause(pause) => tokio::time::sleep(pause).await,
                }
            };
            tokio::select! {
                () = wait => {}
                _ = stop.changed() => {}
            }
        }
    }

    /// Tries one message.
    pub async fn step(&mut self, now: Timestamp) -> Step {
        self.follow_clock();
        let ready = match self.pace.ready(now) {
            Ok(ready) => ready.min(self.integration.notifier.ready()),
            Err(wait) => return Step::Pause(wait),
        };
        let quiet = self.integration.policy.is_quiet(now);
        let waiting = match self.next(quiet, now).await {
            Ok(Some(waiting)) => waiting,
            Ok(None) => return Step::Idle,
            // What it holds is not lost.
            Err(()) => return Step::Look,
        };
        if self
            .mailbox
            .done
            .lock()
            .contains(&waiting.message.delivery_id)
        {
            self.cursor = waiting.position.unwrap_or(self.cursor);
            return if self.leave(&waiting.message, &[]).await {
                Step::Done
            } else {
                Step::Look
            };
        }
        let (waiting, notification) = match self.merged(waiting, quiet).await {
            Ok(merged) => merged,
            Err((waiting, reason)) => {
                let error = NotifyError::permanent(
                    Reason::Template,
                    format!("the stored message cannot be read: {reason}"),
                );
                self.give_up(&waiting.message, &error, true, now).await;
                return Step::Done;
            }
        };
        if self
            .drop_unheard_end(&waiting.message, &notification, now)
            .await
        {
            return Step::Done;
        }
        let notifier = Arc::clone(&self.integration.notifier);
        if let Some(action) = notifier.action() {
            self.cursor = waiting.position.unwrap_or(self.cursor);
            return self.act(action, &waiting.message, &notification, now).await;
        }
        let (waiting, notification, parted) = self.folded(waiting, notification, ready).await;
        self.pace.may_try = false;
        let result = self.attempt(&notification).await;
        // The rest of a message is next after its first part; a message that came too early goes
        // first again.
        let again = parted
            || result
                .as_ref()
                .is_err_and(|e| e.reason == Reason::RateLimited);
        self.cursor =
            waiting.position.map_or(
                self.cursor,
                |position| if again { position - 1 } else { position },
            );
        self.settle(waiting, &notification, result, now).await
    }

    /// A receiver is not down for longer, nor its limit older, because the clock has jumped.
    fn follow_clock(&mut self) {
        let total = clock::total();
        let moved = total - std::mem::replace(&mut self.jumped, total);
        if moved != 0 {
            let later = |at: Timestamp| Timestamp(at.0.saturating_add(moved));
            self.failing_since = self.failing_since.map(later);
            self.pace
                .accepted
                .iter_mut()
                .for_each(|at| *at = later(*at));
            self.pace.learned = self.pace.learned.map(|(most, until)| (most, later(until)));
        }
    }

    /// The next message: after the cursor, else from the beginning, else from memory.
    async fn next(&mut self, quiet: bool, now: Timestamp) -> Result<Option<Waiting>, ()> {
        let mut found = self.next_after(self.cursor, quiet, now).await;
        if self.cursor > 0 && matches!(found, Ok(None)) {
            self.cursor = 0;
            found = self.next_after(0, quiet, now).await;
        }
        let in_memory = || {
            let unsaved = self.mailbox.unsaved.lock();
            let ready = |row: &&OutboxRow| {
                !(row.held && quiet || self.mailbox.is_put_off(&row.delivery_id, now))
            };
            unsaved.iter().find(ready).cloned().map(|message| Waiting {
                message,
                position: None,
            })
        };
        match found {
            Ok(Some((position, message))) => Ok(Some(Waiting {
                message,
                position: Some(position),
            })),
            Ok(None) => Ok(in_memory()),
            Err(error) => {
                debug!(receiver = self.integration.receiver, notifier = self.integration.kind, %error, "Outbox cannot be read.");
                in_memory().map(Some).ok_or(())
            }
        }
    }

    /// Returns the first message in the database after this sequence number, except those that wait
    /// for their own time.
    async fn next_after(
        &self,
        mut after: i64,
        quiet: bool,
        now: Timestamp,
    ) -> Result<Option<(i64, OutboxRow)>, Error> {
        loop {
            let found = self
                .state
                .next_message(&self.integration.key, after, !quiet)
                .await?;
            match found {
                Some((position, row)) if self.mailbox.is_put_off(&row.delivery_id, now) => {
                    after = position
                }
                found => return Ok(found),
            }
        }
    }

    /// Folds the messages of the same group that wait behind this one into the newest of them, in
    /// the database first.
    async fn merged(
        &self,
        waiting: Waiting,
        quiet: bool,
    ) -> Result<(Waiting, Notification), (Waiting, String)> {
        let own = match serde_json::from_str::<Notification>(&waiting.message.body) {
            Ok(own) => own,
            Err(error) => return Err((waiting, error.to_string())),
        };
        let Some(position) = waiting.position else {
            return Ok((waiting, own));
        };
        let beside = self
            .state
            .group_messages(&waiting.message, !quiet, MERGE)
            .await
            .unwrap_or_default();
        if beside.is_empty() {
            return Ok((waiting, own));
        }
        let done = self.mailbox.done.lock().clone();
        let readable = beside
            .into_iter()
            .filter(|(_, row)| !done.contains(&row.delivery_id))
            .filter_map(|(position, row)| {
                let notification = serde_json::from_str::<Notification>(&row.body).ok()?;
                Some((position, row, notification))
            });
        let mut readable: Vec<(i64, OutboxRow, Notification)> = readable
            .chain([(position, waiting.message.clone(), own.clone())])
            .collect();
        // One that is sent again is older than its position.
        readable.sort_by_key(|(position, _, message)| (message.at_ms, *position));
        let Some((position, mut row, newest)) = (if readable.len() > 1 {
            readable.pop()
        } else {
            None
        }) else {
            return Ok((waiting, own));
        };
        let superseded: Vec<String> = readable
            .iter()
            .map(|(_, row, _)| row.delivery_id.clone())
            .collect();
        let merged = readable
            .into_iter()
            .rev()
            .fold(newest, |newer, (_, _, older)| merge(older, newer));
        row.body = serde_json::to_string(&merged).unwrap_or_default();
        match self
            .state
            .merge_messages(&row.delivery_id, &row.body, &superseded)
            .await
        {
            Ok(()) => {
                superseded
                    .iter()
                    .for_each(|delivery_id| self.mailbox.settle(delivery_id));
                Ok((
                    Waiting {
                        message: row,
                        position: Some(position),
                    },
                    merged,
                ))
            }
            Err(_) => Ok((waiting, own)),
        }
    }

    /// Folds this message and those that wait behind it into a digest where there are more than the
    /// `ready` ones that the service takes, and parts a message that has more alerts than one can
    /// name; messages that were held become one, too. In the database first. The last value says
    /// whether a part is left.
    async fn folded(
        &self,
        waiting: Waiting,
        notification: Notification,
        ready: usize,
    ) -> (Waiting, Notification, bool) {
        let (key, form) = (&self.integration.key, self.integration.notifier.digest());
        let overflow = form != Digest::Never
            && notification.digest == 0
            && (1..usize::MAX).contains(&ready)
            && self
                .state
                .outbox_size(key)
                .await
                .is_ok_and(|waiting| waiting > i64::try_from(ready).unwrap_or(i64::MAX));
        let after_quiet = form != Digest::Never && notification.digest == 0 && waiting.message.held;
        if waiting.position.is_none()
            || !(overflow || after_quiet || is_too_large(form, &notification))
        {
            return (waiting, notification, false);
        }
        let done = self.mailbox.done.lock().clone();
        let mut fold = Fold::new(form);
        let mut more =
            fold.add(waiting.message.clone(), notification.clone()) && (overflow || after_quiet);
        let mut after = 0;
        while more {
            let rows = self
                .state
                .next_messages(key, after, after_quiet, CHUNK)
                .await
                .unwrap_or_default();
            more = i64::try_from(rows.len()) == Ok(CHUNK);
            for (position, row) in rows {
                after = position;
                let readable = serde_json::from_str::<Notification>(&row.body)
                    .ok()
                    .filter(|_| !done.contains(&row.delivery_id));
                let readable = readable.filter(|_| row.delivery_id != waiting.message.delivery_id);
                if let Some(message) = readable
                    && !fold.add(row, message)
                {
                    more = false;
                    break;
                }
            }
        }
        let Some(folded) = fold.finish() else {
            return (waiting, notification, false);
        };
        if self
            .state
            .replace_messages(&folded.row, &folded.superseded, folded.rest.as_ref())
            .await
            .is_err()
        {
            return (waiting, notification, false);
        }
        let parted = folded.rest.is_some();
        let gone = folded.superseded.len() - 1;
        folded
            .superseded
            .iter()
            .for_each(|delivery_id| self.mailbox.settle(delivery_id));
        std::iter::once(&folded.row)
            .chain(&folded.rest)
            .for_each(|row| self.mailbox.expect(&row.delivery_id));
        debug!(
            receiver = self.integration.receiver,
            notifier = self.integration.kind,
            messages = gone + 1,
            "Messages became a digest."
        );
        (
            Waiting {
                message: folded.row,
                position: waiting.position,
            },
            folded.notification,
            parted,
        )
    }

    async fn attempt(&self, notification: &Notification) -> Result<(), NotifyError> {
        self.metrics.notifications.get_or_create(&self.labels).inc();
        let started = Instant::now();
        let deadline = self.integration.notifier.deadline();
        let failed_templates = Arc::new(AtomicU64::new(0));
        let attempt = counting_failed_templates(
            Arc::clone(&failed_templates),
            self.integration.notifier.notify(notification),
        );
        let result =
            match tokio::time::timeout(deadline, self.remembering(notification, attempt)).await {
                Ok(result) => result,
                Err(_) => Err(NotifyError::retryable(
                    Reason::Timeout,
                    format!("no answer within {}s", deadline.as_secs()),
                )),
            };
        self.metrics
            .template_failures
            .get_or_create(&self.labels)
            .inc_by(failed_templates.load(Ordering::Relaxed));
        self.metrics
            .duration
            .get_or_create(&self.labels)
            .inc_by(started.elapsed().as_secs_f64());
        result
    }

    /// Makes an attempt of a delivery to several recipients and writes down who has it, while it
    /// runs: a cut must not make repeats.
    async fn remembering<T>(
        &self,
        notification: &Notification,
        attempt: impl Future<Output = T>,
    ) -> T {
        if !self.integration.notifier.has_recipients() {
            return attempt.await;
        }
        let id = &notification.delivery_id;
        // A database that fails costs a repeat, not the message.
        let mut written = self.state.served(id).await.unwrap_or_default();
        let recipients = Arc::new(Recipients::new(written.iter().cloned()));
        let attempt = remembering(Arc::clone(&recipients), attempt);
        tokio::pin!(attempt);
        loop {
            let result = tokio::time::timeout(SERVED, &mut attempt).await;
            let done = recipients.done();
            if done != written && self.state.put_served(id, &done).await.is_ok() {
                written = done;
            }
            if let Ok(result) = result {
                *self.mailbox.refused.lock() = recipients.refused();
                return result;
            }
        }
    }

    async fn settle(
        &mut self,
        waiting: Waiting,
        notification: &Notification,
        result: Result<(), NotifyError>,
        now: Timestamp,
    ) -> Step {
        let (receiver, notifier) = (self.integration.receiver.clone(), self.integration.kind);
        let error = match result {
            Ok(()) => {
                if self.last_error.take().is_some() {
                    info!(receiver, notifier, "Receiver accepts messages again.");
                }
                debug!(
                    receiver,
                    notifier,
                    group_key = waiting.message.group_key,
                    "Message was accepted."
                );
                self.failures = 0;
                self.failing_since = None;
                self.pace.accepted(now);
                self.note_accepted(notification);
                let refused = std::mem::take(&mut *self.mailbox.refused.lock());
                let mut decided = Vec::new();
                if let Some(first) = refused.first() {
                    self.metrics
                        .failed
                        .get_or_create(&self.labels.because(Reason::Rejected.as_str()))
                        .inc_by(refused.len() as u64);
                    let text = format!("{} recipients refused: {first}", refused.len());
                    decided = outcome(notification, &self.integration.key, now, |_| {
                        Stage::Failing {
                            error: text.clone(),
                        }
                    });
                }
                decided.extend(outcome(
                    notification,
                    &self.integration.key,
                    now,
                    |resolved| Stage::Delivered { resolved },
                ));
                self.leave(&waiting.message, &decided).await;
                return Step::Done;
            }
            Err(error) => error,
        };
        // A message about messages that fail raises nothing new by failing itself.
        if !is_about_messages(notification) {
            self.metrics
                .failed
                .get_or_create(&self.labels.because(error.reason.as_str()))
                .inc();
        }
        if error.reason == Reason::RateLimited {
            self.pace.refused(now);
        }
        if !error.retryable {
            let handed_over = self
                .hand_over(&waiting.message, &self.fallbacks.fallback, now)
                .await
                || error.reason == Reason::Template
                    && self.relieve(&waiting.message, &error, now).await;
            if !handed_over {
                self.not_accepted(&waiting.message, notification, &error, now)
                    .await;
            }
            return Step::Done;
        }
        if error.reason != Reason::RateLimited
            && self.is_down(&waiting.message, now)
            && self
                .hand_over(&waiting.message, &self.fallbacks.fallback, now)
                .await
        {
            warn!(receiver, notifier, %error, "Receiver is down; its messages go to its fallback.");
            self.hand_over_all(now).await;
            return self.pause(error.retry_after);
        }
        if now.since(waiting.message.created_at) >= self.integration.policy.give_up_after {
            let age = format_duration(self.integration.policy.give_up_after);
            let given_up = NotifyError {
                message: format!("given up after {age}: {error}"),
                ..error
            };
            self.not_accepted(&waiting.message, notification, &given_up, now)
                .await;
            return Step::Done;
        }
        if error.reason == Reason::Rejected {
            // It is about this message: no other has to wait.
            self.memory
                .lock()
                .not_yet_accepted(&self.integration.key, notification);
            self.put_off(&waiting.message, notification, &error, APART, now)
                .await;
            return Step::Done;
        }
        if self.last_error.replace(error.reason) != Some(error.reason) {
            warn!(receiver, notifier, group_key = waiting.message.group_key, %error, "Message was not accepted; it will be tried again.");
        }
        self.note_failure(&waiting.message, &error, now).await;
        self.pause(error.retry_after)
    }

    /// Whether the receiver has been down long enough for its fallback: by its own failures, or by
    /// the time that this message has waited.
    fn is_down(&mut self, message: &OutboxRow, now: Timestamp) -> bool {
        let since = *self.failing_since.get_or_insert(now);
        // What was held has waited for another reason.
        let waiting = if message.held {
            since
        } else {
            since.min(message.created_at)
        };
        now.since(waiting) >= self.integration.policy.fallback_after
    }

    /// What became of a message, for each of its alerts.
    pub(in crate::alerting) fn decided(
        &self,
        message: &OutboxRow,
        now: Timestamp,
        stage: impl Fn(bool) -> Stage,
    ) -> Vec<DecisionRow> {
        let message = serde_json::from_str::<Notification>(&message.body);
        message
            .map(|message| outcome(&message, &self.integration.key, now, stage))
            .unwrap_or_default()
    }

    /// Writes down that a message was not accepted: once, until it fails otherwise or another one
    /// does.
    pub(in crate::alerting) async fn note_failure(
        &mut self,
        message: &OutboxRow,
        error: &NotifyError,
        now: Timestamp,
    ) {
        let failure = (message.delivery_id.clone(), error.reason);
        if self.noted.as_ref() == Some(&failure) {
            return;
        }
        let text = error.to_string();
        let decided = self.decided(message, now, |_| match error.reason {
            Reason::RateLimited => Stage::RateLimited {
                error: text.clone(),
            },
            _ => Stage::Failing {
                error: text.clone(),
            },
        });
        // A failure is counted by the state itself; the next attempt tries again to write it down.
        if self.state.record_decisions(&decided).await.is_ok() {
            self.noted = Some(failure);
        }
    }

    /// Takes a message that is dealt with out of the outbox; false when the database would not let
    /// it go. It is not sent again.
    pub(in crate::alerting) async fn leave(
        &self,
        message: &OutboxRow,
        decided: &[DecisionRow],
    ) -> bool {
        let id = &message.delivery_id;
        {
            let mut unsaved = self.mailbox.unsaved.lock();
            let before = unsaved.len();
            unsaved.retain(|row| row.delivery_id != *id);
            self.metrics
                .unsaved
                .dec_by(i64::try_from(before - unsaved.len()).unwrap_or(0));
        }
        // A message in memory may have reached the database after all: its commit can fail in our
        // eyes alone.
        let removed = self.state.settle_message(id, decided).await.is_ok();
        if removed {
            self.mailbox.done.lock().remove(id);
            self.mailbox.put_off.lock().remove(id);
            self.mailbox.settle(id);
        } else {
            self.mailbox.is_done(id);
        }
        removed
    }

    /// Keeps a message as a dead letter; it is `news` unless the same was counted before.
    pub(in crate::alerting) async fn give_up(
        &mut self,
        message: &OutboxRow,
        error: &NotifyError,
        news: bool,
        now: Timestamp,
    ) {
        let (receiver, notifier) = (&self.integration.receiver, self.integration.kind);
        error!(receiver, notifier, group_key = message.group_key, %error, "Message cannot be delivered; it is kept as a dead letter.");
        if news {
            self.metrics
                .dead
                .get_or_create(&self.labels.because(error.reason.as_str()))
                .inc();
        }
        let letter = DeadLetter {
            message: message.clone(),
            died_at: now,
            error: error.to_string(),
        };
        if let Err(error) = self.state.move_to_dead_letters(&letter).await {
            warn!(receiver, notifier, %error, "Dead letter could not be kept.");
        }
        let text = error.to_string();
        let decided = self.decided(message, now, |_| Stage::GivenUp {
            error: text.clone(),
        });
        self.leave(message, &decided).await;
    }

    /// What was asked for could be done.
    pub(in crate::alerting) fn recovered(&mut self) {
        self.failures = 0;
    }

    /// 500 ms, then 1.5 times longer each, ± 50 %, at most a minute; never sooner than the service
    /// asks.
    pub(in crate::alerting) fn pause(&mut self, retry_after: Option<Duration>) -> Step {
        let base = FIRST_PAUSE
            .mul_f64(1.5f64.powi(self.failures.min(30) as i32))
            .min(LONGEST_PAUSE);
        self.failures = self.failures.saturating_add(1);
        let random = self.jitter.hash_one(self.failures) as f64 / u64::MAX as f64;
        let own = base.mul_f64(0.5 + random).min(LONGEST_PAUSE);
        Step::Pause(own.max(retry_after.unwrap_or_default().min(LONGEST_RETRY_AFTER)))
    }
}
