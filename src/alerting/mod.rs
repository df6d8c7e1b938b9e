//! Alerting: active alerts are routed, grouped, muted and sent to receivers, as Alertmanager does
//! it (<https://prometheus.io/docs/alerting/latest/alertmanager/>), without losing any.
//!
//! A flush decides and, in one transaction, writes the decision and its messages to the state
//! database; delivery tasks bring the messages and take each out when its receiver has accepted it.
//! So `kill -9` loses nothing, and repeats at most the message in flight, with the same delivery
//! id. Clustering by gossip is refused: several instances share a database.

pub mod check;
pub mod config;
pub mod delivery;
pub mod dispatch;
pub mod flush;
pub mod follow_up;
pub mod memory;
pub mod metrics;
pub mod mute;
mod report;
pub mod self_test;
pub mod why;

use std::future::Future;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot, watch};

use crate::model::clock::Jump;
use crate::model::{Alert, Labels, Timestamp};
use crate::state::{OutboxRow, State};
use crate::telemetry::Telemetry;

pub use config::{Alerting, Integration, Receiver};
pub use flush::message::{ended, test_message};
pub use memory::alerts::{Incoming, PostedAlert};
pub use memory::refusals::Refused;
pub use memory::view::{AlertView, GroupView};
pub use mute::silence::{Silence, SilenceError, SilenceState};
pub use report::report_messages;

pub use dispatch::SendAgainError;
use dispatch::{Command, Dispatch};
use memory::dispatcher::Dispatcher;
use metrics::Metrics;

/// Batches of alerts that may wait for the dispatcher; more make their senders wait.
const QUEUE: usize = 64;

/// The way to the dispatcher. Cheap to clone.
#[derive(Clone)]
pub struct Handle {
    memory: Arc<Mutex<Dispatcher>>,
    commands: mpsc::Sender<Command>,
    metrics: Metrics,
}

/// A delivery task that ended by itself, which none does.
#[derive(Debug, thiserror::Error)]
#[error("a delivery task ended: {}", .0.as_ref().map_or("without a reason".to_owned(), ToString::to_string))]
pub struct DeliveryEnded(Option<tokio::task::JoinError>);

/// Restores the dispatcher from `state` and returns its handle and its loop. The loop runs until
/// `stop` becomes true; then it lets attempts under way end.
pub async fn start(
    config: Alerting,
    state: State,
    telemetry: &Telemetry,
    stop: watch::Receiver<bool>,
) -> (
    Handle,
    impl Future<Output = Result<(), DeliveryEnded>> + Send + 'static,
) {
    let metrics = Metrics::register(telemetry);
    let dispatch =
        Dispatch::restore(Arc::new(config), state, metrics.clone(), Timestamp::now()).await;
    let (commands, queue) = mpsc::channel(QUEUE);
    let handle = Handle {
        memory: dispatch.memory.clone(),
        commands,
        metrics,
    };
    (handle, dispatch.run(queue, stop))
}

impl Handle {
    /// Takes the alerts of a rule evaluation: firing ones (again and again) and those that ended.
    /// When it returns, they are written down.
    pub async fn put(&self, alerts: Vec<Alert>) {
        self.post(alerts.into_iter().map(Incoming::from).collect())
            .await;
    }

    /// Takes alerts that came from outside; see [`PostedAlert::accept`]. Gives what was refused
    /// because their share is used up.
    pub async fn post(&self, alerts: Vec<Incoming>) -> Refused {
        if alerts.is_empty() {
            return Refused::default();
        }
        let (done, wait) = oneshot::channel();
        // The loop ends only with the process; what it did not take then, the rules send again
        // after the start.
        if self.commands.send(Command::Put(alerts, done)).await.is_ok() {
            wait.await.unwrap_or_default()
        } else {
            Refused::default()
        }
    }

    /// Counts alerts that were posted and are not valid.
    pub fn count_invalid(&self, alerts: usize) {
        self.metrics.refuse("invalid", alerts as u64);
    }

    /// When a posted alert of this name, with labels that `matches` takes, was last refused, if it
    /// was lately.
    pub fn refused_lately(
        &self,
        name: &str,
        matches: impl Fn(&Labels) -> bool,
    ) -> Option<(Labels, Timestamp)> {
        self.memory.lock().refused.last(name, matches)
    }

    /// The alerts that have not ended, with who muted them, ordered by fingerprint.
    pub fn alerts(&self, now: Timestamp) -> Vec<AlertView> {
        self.memory.lock().alert_views(now)
    }

    /// The aggregation groups.
    pub fn groups(&self, now: Timestamp) -> Vec<GroupView> {
        self.memory.lock().group_views(now)
    }

    /// The silences, expired ones included for five days.
    pub fn silences(&self) -> Vec<Silence> {
        self.memory.lock().silences.iter().cloned().collect()
    }

    /// The silence with this id.
    pub fn silence(&self, id: &str) -> Option<Silence> {
        self.memory.lock().silences.get(id).cloned()
    }

    /// The configuration in force.
    pub fn config(&self) -> Arc<Alerting> {
        self.memory.lock().config.clone()
    }

    /// Makes a silence (empty id) or changes one; returns its id, which is another one when the
    /// change made a new silence.
    pub async fn set_silence(&self, silence: Silence) -> Result<String, SilenceError> {
        let (done, wait) = oneshot::channel();
        self.commands
            .send(Command::SetSilence(Box::new(silence), done))
            .await
            .map_err(|_| SilenceError::Stopped)?;
        wait.await.map_err(|_| SilenceError::Stopped)?
    }

    /// Ends a silence; no error when it is over already.
    pub async fn expire_silence(&self, id: &str) -> Result<(), SilenceError> {
        let (done, wait) = oneshot::channel();
        self.commands
            .send(Command::ExpireSilence(id.to_owned(), done))
            .await
            .map_err(|_| SilenceError::Stopped)?;
        wait.await.map_err(|_| SilenceError::Stopped)?
    }

    /// Notes who took alerts on, so that no further contact is notified; gives how many of them
    /// fire.
    pub async fn acknowledge(&self, fingerprints: Vec<u64>, by: String) -> usize {
        let (done, wait) = oneshot::channel();
        if self
            .commands
            .send(Command::Acknowledge(fingerprints, by, done))
            .await
            .is_err()
        {
            return 0;
        }
        wait.await.unwrap_or(0)
    }

    /// Sends a dead letter again (or all of them); gives how many.
    pub async fn send_again(&self, delivery_id: Option<String>) -> Result<usize, SendAgainError> {
        let (done, wait) = oneshot::channel();
        self.commands
            .send(Command::SendAgain(delivery_id, done))
            .await
            .map_err(|_| SendAgainError::Stopped)?;
        wait.await.map_err(|_| SendAgainError::Stopped)?
    }

    /// Whether the alert with this fingerprint fires.
    pub fn fires(&self, fingerprint: u64, now: Timestamp) -> bool {
        self.memory.lock().fires(fingerprint, now)
    }

    /// Puts messages into the outbox that no group decided.
    pub async fn tell(&self, messages: Vec<OutboxRow>) {
        let (done, wait) = oneshot::channel();
        if self
            .commands
            .send(Command::Tell(messages, done))
            .await
            .is_ok()
        {
            let _ = wait.await;
        }
    }

    /// Whether `token` is that of the link to acknowledge this firing.
    pub fn may_acknowledge(&self, fingerprint: u64, since_ms: i64, token: &str) -> bool {
        self.memory
            .lock()
            .signer
            .verify(fingerprint, since_ms, token)
    }

    /// Whether `token` is that of the link to the picture of this firing.
    pub fn may_see_picture(
        &self,
        fingerprint: u64,
        since_ms: i64,
        until_ms: i64,
        token: &str,
    ) -> bool {
        self.memory
            .lock()
            .signer
            .verify_picture(fingerprint, since_ms, until_ms, token)
    }

    /// The last hour of the value of this firing, as PNG; `None` when it is over, or its values are
    /// not known.
    pub fn picture(&self, fingerprint: u64, since_ms: i64, now: Timestamp) -> Option<Vec<u8>> {
        let alert = self
            .memory
            .lock()
            .alerts
            .get(fingerprint)
            .map(|row| row.alert.clone())
            .filter(|alert| alert.starts_at.0 == since_ms)?;
        crate::notify::picture(&flush::message::notified(&alert, now), now.0)
    }

    /// Takes the time of a wall clock that has jumped (see [`crate::model::clock`]): timers, ends
    /// and repeats are moved with it. Gives the jump; `None` when there is none any more.
    pub async fn adopt_clock(&self) -> Option<Jump> {
        let (done, wait) = oneshot::channel();
        self.commands.send(Command::AdoptClock(done)).await.ok()?;
        wait.await.ok().flatten()
    }

    /// Puts a new configuration in force: attempts under way end, every alert is routed anew,
    /// nothing is notified twice.
    pub async fn reload(&self, config: Alerting) {
        let (done, wait) = oneshot::channel();
        if self
            .commands
            .send(Command::Reload(Arc::new(config), done))
            .await
            .is_ok()
        {
            let _ = wait.await;
        }
    }
}
