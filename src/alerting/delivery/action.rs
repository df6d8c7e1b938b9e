//! Taking recovery actions: what a delivery task does with a message where the integration is an
//! action.
//!
//! An action is in the database before it begins. Without a database nothing is begun: what is not
//! remembered could be done over and over.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use tracing::{debug, error, info, warn};

use super::deliverer::Deliverer;
use super::task::Step;
use crate::alerting::flush::message::derived_id;
use crate::alerting::follow_up::recovery;
use crate::alerting::follow_up::recovery::Decision;
use crate::model::{ActionOutcome, Stage, Timestamp};
use crate::notify::{Action, AlertStatus, Notification, NotifiedAlert, Order};
use crate::state::{ActionRow, DecisionRow, Error, OutboxRow};

/// Most targets that one message may lead to.
const MAX_TARGETS: usize = 20;
/// Most rows that a decision looks at.
const LOOK_BACK: i64 = 1000;

/// What one message asks to be done to one target.
struct Wish {
    order: Result<Order, String>,
    target: String,
    alert: String,
    alerts: Vec<u64>,
}

impl Deliverer {
    /// Takes the action for each target that the firing alerts of a message name, then lets the
    /// message go.
    pub(in crate::alerting) async fn act(
        &mut self,
        action: &Action,
        row: &OutboxRow,
        message: &Notification,
        now: Timestamp,
    ) -> Step {
        let (started, mut decided) = (Instant::now(), Vec::new());
        for wish in self.wishes(action, message, now) {
            // One after the other: the second may wait for a minute until the first has ended.
            match self
                .fulfil(action, wish, &message.delivery_id, now + started.elapsed())
                .await
            {
                Ok(rows) => decided.extend(rows),
                Err(error) => {
                    let (receiver, notifier) = (&self.integration.receiver, self.integration.kind);
                    warn!(receiver, notifier, %error, "Recovery action waits: it cannot be written down, so it is not begun.");
                    return self.pause(None);
                }
            }
        }
        self.recovered();
        self.leave(row, &decided).await;
        Step::Done
    }

    /// What the alerts that still fire ask for, each target once.
    fn wishes(&self, action: &Action, message: &Notification, now: Timestamp) -> Vec<Wish> {
        let mut wishes: Vec<Wish> = Vec::new();
        for alert in message
            .alerts
            .iter()
            .filter(|alert| alert.status == AlertStatus::Firing)
        {
            let Some(fingerprint) =
                fingerprint(alert).filter(|f| self.memory.lock().fires(*f, now))
            else {
                continue;
            };
            let order = action
                .order(message, alert)
                .map_err(|error| error.to_string());
            let target = order
                .as_ref()
                .map_or_else(String::clone, |order| order.target.clone());
            if let Some(wish) = wishes.iter_mut().find(|wish| wish.target == target) {
                wish.alerts.push(fingerprint);
            } else if wishes.len() < MAX_TARGETS {
                wishes.push(Wish {
                    order,
                    target,
                    alert: alert.label("alertname").to_owned(),
                    alerts: vec![fingerprint],
                });
            } else {
                warn!(
                    receiver = self.integration.receiver,
                    target, "Recovery action is not taken: one message asks for too many."
                );
            }
        }
        wishes
    }

    async fn fulfil(
        &self,
        action: &Action,
        wish: Wish,
        delivery: &str,
        now: Timestamp,
    ) -> Result<Vec<DecisionRow>, Error> {
        let (limits, key) = (action.limits(), &self.integration.key);
        let id = derived_id("action", &[key.as_str(), delivery, &wish.target]);
        let far = limits.cool_down.max(limits.limit_per);
        let before = self
            .state
            .actions_on(key, &wish.target, now - far, LOOK_BACK)
            .await?;
        let mut row = recovery::row(id, key, &wish.target, (&wish.alert, wish.alerts), now);
        let decision = match &wish.order {
            Err(problem) => Decision::Leave(ActionOutcome::Refused, problem.clone()),
            Ok(_) => {
                let of_all = self
                    .state
                    .actions_begun(key, now - limits.limit_per)
                    .await?;
                recovery::decide(
                    limits,
                    &row.id,
                    &before,
                    usize::try_from(of_all).unwrap_or(usize::MAX),
                    now,
                )
            }
        };
        match (decision, wish.order) {
            (Decision::Done(known), _) => return Ok(vec![decision_row(&known, now)]),
            (Decision::Take, Ok(_)) if limits.dry_run => {
                self.noted(&mut row, ActionOutcome::DryRun, "nothing was done".into())
                    .await?
            }
            (Decision::Take, Ok(order)) => self.take(action, &order, &mut row).await?,
            (Decision::Leave(outcome, why), _) => {
                self.count(outcome);
                if !recovery::is_news(outcome, &before, &row.body.alerts) {
                    return Ok(Vec::new());
                }
                (row.outcome, row.body.detail) = (outcome, why);
                self.state.put_action(&row).await?;
                self.memory.lock().actions.put(row.clone());
                let (receiver, target, error) =
                    (&self.integration.receiver, &row.target, &row.body.detail);
                match outcome {
                    ActionOutcome::CoolingDown => {
                        debug!(receiver, target, error, "Recovery action is not taken.")
                    }
                    _ => error!(receiver, target, error, "Recovery action is not taken."),
                }
            }
            (Decision::Take, Err(_)) => {}
        }
        // What was begun has a decision of its own; this one is about its end.
        let end = row.body.ended_ms.map_or(now, Timestamp);
        Ok(vec![decision_row(&row, end)])
    }

    async fn noted(
        &self,
        row: &mut ActionRow,
        outcome: ActionOutcome,
        detail: String,
    ) -> Result<(), Error> {
        self.count(outcome);
        (row.outcome, row.body.detail) = (outcome, detail);
        self.state.put_action(row).await?;
        self.memory.lock().actions.put(row.clone());
        info!(
            receiver = self.integration.receiver,
            target = row.target,
            "Recovery action would be taken: dry_run."
        );
        Ok(())
    }

    async fn take(&self, action: &Action, order: &Order, row: &mut ActionRow) -> Result<(), Error> {
        let limits = action.limits();
        // Should this process end before the action does, it is still judged.
        row.body.verify_ms = Some((row.begun_at + limits.timeout + limits.verify_after).0);
        self.state.put_action(row).await?;
        self.memory.lock().actions.put(row.clone());
        // Of no consequence for the action: `why` says for a while that its message is on its way.
        let _ = self
            .state
            .record_decisions(&[decision_row(row, row.begun_at)])
            .await;
        let (receiver, target) = (&self.integration.receiver, &row.target);
        info!(
            receiver,
            target,
            alert = row.body.alert,
            "Recovery action begins."
        );
        let started = Instant::now();
        let ended = action.run(order).await;
        let end = row.begun_at + started.elapsed();
        self.count(ended.outcome);
        let (duration_seconds, error) = (started.elapsed().as_secs_f64(), ended.detail.as_str());
        match ended.outcome {
            ActionOutcome::Succeeded => info!(
                receiver,
                target, duration_seconds, "Recovery action succeeded."
            ),
            _ => error!(
                receiver,
                target, duration_seconds, error, "Recovery action failed."
            ),
        }
        row.outcome = ended.outcome;
        (row.body.detail, row.body.output) = (ended.detail, ended.output);
        (row.body.ended_ms, row.body.verify_ms) =
            (Some(end.0), Some((end + limits.verify_after).0));
        self.memory.lock().actions.put(row.clone());
        // It is done: a database that fails now must not have it done again. The judgement writes
        // the row once more.
        if let Err(error) = self.state.put_action(row).await {
            warn!(receiver, target = row.target, %error, "What came of the recovery action could not be written down.");
        }
        Ok(())
    }

    fn count(&self, outcome: ActionOutcome) {
        self.metrics
            .actions
            .get_or_create(&self.labels.ended(outcome.as_str()))
            .inc();
    }
}

fn fingerprint(alert: &NotifiedAlert) -> Option<u64> {
    u64::from_str_radix(&alert.fingerprint, 16).ok()
}

/// What `why` shows of an action.
pub(in crate::alerting) fn decision_row(row: &ActionRow, now: Timestamp) -> DecisionRow {
    let alerts: BTreeSet<u64> = row.body.alerts.iter().copied().collect();
    DecisionRow {
        scope: row.integration.clone(),
        at: now,
        alerts: alerts.into_iter().collect(),
        integration: row.integration.clone(),
        stage: Stage::Acted {
            action: row.target.clone(),
            outcome: row.outcome,
            detail: row.body.detail.clone(),
            helped: row.body.helped,
        },
        labels: crate::model::Labels::empty(),
        paths: Vec::new(),
    }
}

/// How far back the actions of a former process are remembered.
pub(in crate::alerting) const REMEMBERED: Duration = Duration::from_secs(86_400);
