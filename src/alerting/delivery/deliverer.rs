//! One integration's deliverer: what it works with, what it remembers, and what its service has
//! shown of its own limit.

use std::collections::VecDeque;
use std::hash::RandomState;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::mailbox::Mailbox;
use crate::alerting::config::Integration;
use crate::alerting::memory::dispatcher::Dispatcher;
use crate::alerting::metrics::{IntegrationLabels, Metrics};
use crate::model::{ActionOutcome, Timestamp, clock};
use crate::notify::Reason;
use crate::state::State;

/// How long a service's refusal for too many messages tells us what it takes in a minute.
const LEARNED: Duration = Duration::from_secs(3600);
/// A minute, and a second for the way.
const MINUTE: Duration = Duration::from_secs(61);

/// What all delivery tasks work with.
#[derive(Clone)]
pub struct DeliveryContext {
    /// The state database.
    pub state: State,
    /// What is counted.
    pub metrics: Metrics,
    /// The alerts and the actions about them.
    pub memory: Arc<Mutex<Dispatcher>>,
}

/// Who is notified instead of an integration that cannot be.
#[derive(Default)]
pub struct Fallbacks {
    /// The integrations of its `fallback`.
    pub fallback: Vec<(Integration, Arc<Mailbox>)>,
    /// Those of the default receiver, where a template of ours left nowhere to send to and there is
    /// no fallback.
    pub last_resort: Vec<(Integration, Arc<Mailbox>)>,
}

/// One integration's task.
pub struct Deliverer {
    pub(in crate::alerting) integration: Integration,
    pub(in crate::alerting) state: State,
    pub(in crate::alerting) mailbox: Arc<Mailbox>,
    pub(in crate::alerting) metrics: Metrics,
    pub(in crate::alerting) memory: Arc<Mutex<Dispatcher>>,
    pub(in crate::alerting) labels: IntegrationLabels,
    /// Position of the last message that was tried; the next one after it is next.
    pub(super) cursor: i64,
    pub(super) failures: u32,
    pub(super) last_error: Option<Reason>,
    /// The message whose failure was written down last, and why it failed.
    pub(super) noted: Option<(String, Reason)>,
    pub(super) jitter: RandomState,
    pub(super) pace: Pace,
    /// Since when no attempt succeeds.
    pub(super) failing_since: Option<Timestamp>,
    /// The jumps of the clock that its times have followed, in milliseconds.
    pub(super) jumped: i64,
    pub(in crate::alerting) fallbacks: Fallbacks,
}

/// What a service has shown of its own limit.
#[derive(Default)]
pub(super) struct Pace {
    /// When it accepted messages, within the last minute.
    pub(super) accepted: VecDeque<Timestamp>,
    /// How many it takes in a minute, and until when we believe that.
    pub(super) learned: Option<(usize, Timestamp)>,
    /// It named a time, and that has come.
    pub(super) may_try: bool,
}

impl Pace {
    pub(super) fn accepted(&mut self, now: Timestamp) {
        self.accepted.push_back(now);
        self.forget(now);
    }

    pub(super) fn forget(&mut self, now: Timestamp) {
        while self
            .accepted
            .front()
            .is_some_and(|at| now.since(*at) >= MINUTE || *at > now)
        {
            self.accepted.pop_front();
        }
    }

    /// The service refused because of too many messages.
    pub(super) fn refused(&mut self, now: Timestamp) {
        self.forget(now);
        self.learned = Some((self.accepted.len().max(1), now + LEARNED));
        self.may_try = true;
    }

    /// How many messages it takes now; if none, how long that lasts.
    pub(super) fn ready(&mut self, now: Timestamp) -> Result<usize, Duration> {
        self.forget(now);
        let Some((most, _)) = self.learned.filter(|(_, until)| *until > now) else {
            return Ok(usize::MAX);
        };
        match (
            most.saturating_sub(self.accepted.len()),
            self.accepted.front(),
        ) {
            (0, Some(first)) if !self.may_try => Err(MINUTE.saturating_sub(now.since(*first))),
            (ready, _) => Ok(ready.max(1)),
        }
    }
}

impl Deliverer {
    /// The task of `integration`.
    pub fn new(
        integration: Integration,
        mailbox: Arc<Mailbox>,
        context: DeliveryContext,
        fallbacks: Fallbacks,
    ) -> Self {
        let DeliveryContext {
            state,
            metrics,
            memory,
        } = context;
        let labels = IntegrationLabels::of(&integration);
        // Series that exist from the start show their first increase.
        drop(metrics.notifications.get_or_create(&labels));
        drop(metrics.template_failures.get_or_create(&labels));
        drop(metrics.misled.get_or_create(&labels));
        for reason in Reason::ALL {
            drop(
                metrics
                    .failed
                    .get_or_create(&labels.because(reason.as_str())),
            );
            drop(metrics.dead.get_or_create(&labels.because(reason.as_str())));
        }
        if integration.notifier.action().is_some() {
            for outcome in ActionOutcome::ALL {
                drop(
                    metrics
                        .actions
                        .get_or_create(&labels.ended(outcome.as_str())),
                );
            }
            for outcome in ["helped", "not_helped"] {
                drop(metrics.judged.get_or_create(&labels.ended(outcome)));
            }
        }
        let jitter = RandomState::new();
        Deliverer {
            integration,
            state,
            mailbox,
            metrics,
            memory,
            labels,
            cursor: 0,
            failures: 0,
            last_error: None,
            noted: None,
            jitter,
            pace: Pace::default(),
            failing_since: None,
            jumped: clock::total(),
            fallbacks,
        }
    }
}
