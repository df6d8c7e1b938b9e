//! The loop: every group at its slots, alert state durable before alerts are handed on, reload
//! without losing state.
//!
//! All groups of one interval are evaluated at one instant, a multiple of the interval plus a small
//! phase, so that every rule judges the same collection, and what they share is computed once.
//! Critical rules without `for` are also evaluated when samples arrive. The loop evaluates on the
//! thread that runs it, one group at a time, so it wants a thread of its own ([`Scheduler::run`]).

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{mpsc, watch};
use tracing::{error, info, warn};

use super::RuleGroup;
use super::backend::Backend;
use super::evaluate::active::ActiveAlert;
use super::evaluate::group::{Group, GroupOutcome, Settings, orphan, same};
use super::explain::no_alert::Standing;
use super::metrics::{GroupLabel, Metrics};
use super::snapshot::GroupSnapshot;
use crate::model::clock::{self, Jump};
use crate::model::time::millis;
use crate::model::{Alert, Labels, Matcher, Sample, Timestamp, stale_nan};
use crate::promql::{Plan, Results};
use crate::state::{RuleAlertChanges, State};
use crate::telemetry::Telemetry;

/// How long urgent rules rest after an evaluation that was not at a slot, however much arrives.
const ARRIVAL_PAUSE: Duration = Duration::from_millis(250);
/// How long a jump of the clock waits for the evaluation under way.
const HOLD: Duration = Duration::from_secs(10);
/// After the process stood still, or after the clock has jumped, how long the first evaluation
/// waits for the targets that are due, and how often it looks.
const CATCH_UP: Duration = Duration::from_secs(2);
const CATCH_UP_LOOK: Duration = Duration::from_millis(5);
/// Most decisions that are held in memory when the database cannot take them.
const MAX_UNWRITTEN: usize = 1000;

/// The loop cannot go on: nobody takes alerts any more.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The receiving side of the alerts is gone.
    #[error("rule evaluation: nobody takes alerts any more")]
    Closed,
}

/// A time that was read, which a jump of the clock makes worthless: a slot of the old time would
/// not be due for as long as the clock went back.
#[derive(Clone, Copy)]
struct Read {
    at: Timestamp,
    jumps: u64,
}

impl Read {
    fn now() -> Self {
        // In this order: a jump in between makes it worthless too.
        let jumps = clock::jumps();
        Read {
            at: Timestamp::now(),
            jumps,
        }
    }

    fn as_if(at: Timestamp) -> Self {
        Read {
            at,
            jumps: clock::jumps(),
        }
    }

    fn is_over(self) -> bool {
        clock::jumps() != self.jumps
    }
}

/// All groups, and the loop that evaluates them.
pub struct Scheduler {
    backend: Arc<dyn Backend>,
    state: State,
    alerts: mpsc::Sender<Vec<Alert>>,
    metrics: Metrics,
    inner: Mutex<Inner>,
    /// What the database missed: the next evaluation writes it, too.
    unwritten: Mutex<RuleAlertChanges>,
    /// Counts reloads and jumps of the clock, so that the loop looks again at what is due.
    reloads: watch::Sender<u64>,
    /// One evaluation or reload at a time.
    turn: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Inner {
    settings: Arc<Settings>,
    groups: Vec<Slot>,
    /// What the groups of one interval and one offset compute at an instant.
    plans: BTreeMap<(Duration, Duration), Arc<Plan>>,
    /// Series of groups that are gone, and when their end is due.
    ended: Vec<(Timestamp, Vec<Labels>)>,
}

/// What was computed at an instant, by plan.
type Computed = BTreeMap<(Duration, Duration, Timestamp), Arc<Results>>;

#[derive(Clone)]
struct Slot {
    group: Arc<Mutex<Group>>,
    /// What the group is, to be seen without waiting for its evaluation.
    definition: Arc<RuleGroup>,
    leaving: Arc<AtomicBool>,
    interval: Duration,
    /// `query_offset`.
    offset: Duration,
    /// Whether a rule must not wait for the next slot.
    urgent: bool,
    next: Timestamp,
}

impl Slot {
    fn new(group: Group, next: Timestamp) -> Self {
        let (interval, offset, urgent) = (group.interval, group.query_offset, group.has_urgent());
        let (definition, leaving) = (Arc::clone(&group.definition), Arc::clone(&group.leaving));
        Slot {
            group: Arc::new(Mutex::new(group)),
            definition,
            leaving,
            interval,
            offset,
            urgent,
            next,
        }
    }

    /// An evaluation under way ends after its rule, and no other begins (SEMANTICS 104).
    fn leave(&self) {
        self.leaving.store(true, Ordering::Relaxed);
    }
}

impl Inner {
    /// When the next group is due. One that seems to be due later than its slot after the next was
    /// planned by a clock that is no more.
    fn next(&mut self, now: Timestamp) -> Option<Timestamp> {
        let phase = self.settings.phase;
        for slot in &mut self.groups {
            if slot.next.since(now) > slot.interval * 2 + phase {
                slot.next = next_slot(now, slot.interval, phase);
            }
        }
        self.groups.iter().map(|slot| slot.next).min()
    }

    /// Finds anew what the groups share.
    fn plan(&mut self) {
        let mut plans: BTreeMap<(Duration, Duration), Plan> = BTreeMap::new();
        for slot in &self.groups {
            slot.group
                .lock()
                .plan(plans.entry((slot.interval, slot.offset)).or_default());
        }
        plans.values_mut().for_each(Plan::finish);
        for slot in &self.groups {
            slot.group
                .lock()
                .planned(plans.entry((slot.interval, slot.offset)).or_default());
        }
        self.plans = plans
            .into_iter()
            .map(|(key, plan)| (key, Arc::new(plan)))
            .collect();
    }
}

impl Scheduler {
    /// A scheduler without groups: [`Scheduler::reload`] brings them, then [`Scheduler::restore`]
    /// what they knew before a restart.
    pub fn new(
        backend: Arc<dyn Backend>,
        state: State,
        alerts: mpsc::Sender<Vec<Alert>>,
        telemetry: &Telemetry,
    ) -> Self {
        Scheduler {
            backend,
            state,
            alerts,
            metrics: Metrics::register(telemetry),
            inner: Mutex::default(),
            unwritten: Mutex::default(),
            reloads: watch::Sender::new(0),
            turn: tokio::sync::Mutex::default(),
        }
    }

    /// Gives the groups their alerts from before the restart. Alerts whose rule is gone are
    /// resolved. To be called once, after the first [`Scheduler::reload`] and before
    /// [`Scheduler::run`]. A broken state database costs the memory, not the start.
    pub async fn restore(&self, now: Timestamp) -> Result<(), Error> {
        let _turn = self.turn.lock().await;
        let rows = match self.state.rule_alerts().await {
            Ok(rows) => rows,
            Err(error) => {
                error!(%error, "Alert state of the rules was not read; pending alerts start anew.");
                return Ok(());
            }
        };
        let mut by_rule: BTreeMap<String, Vec<ActiveAlert>> = BTreeMap::new();
        let mut outcome = GroupOutcome::default();
        for row in rows {
            match ActiveAlert::from_json(&row.body) {
                Ok(alert) => by_rule
                    .entry(row.rule)
                    .or_default()
                    .push(alert.not_after(now)),
                Err(error) => {
                    warn!(rule = row.rule, %error, "Alert state of a rule cannot be read and is dropped.");
                    outcome.changes.gone.push((row.rule, row.fingerprint));
                }
            }
        }
        {
            let inner = self.inner.lock();
            inner
                .groups
                .iter()
                .for_each(|slot| slot.group.lock().restore(&mut by_rule));
            for (rule, alerts) in by_rule {
                alerts
                    .into_iter()
                    .for_each(|alert| orphan(&rule, alert, now, &inner.settings, &mut outcome));
            }
        }
        self.hand_on(outcome).await
    }

    /// Replaces the running groups by these. A group that did not change goes on untouched; a
    /// changed one keeps the alerts of rules with the same name and labels; alerts of rules that
    /// are gone are resolved (SEMANTICS 105-108).
    pub async fn reload(
        &self,
        groups: Vec<RuleGroup>,
        settings: Settings,
        now: Timestamp,
    ) -> Result<(), Error> {
        for slot in &self.inner.lock().groups {
            if !groups.iter().any(|definition| {
                same(
                    &slot.definition,
                    (slot.interval, slot.offset),
                    definition,
                    &settings,
                )
            }) {
                slot.leave();
            }
        }
        let _turn = self.turn.lock().await;
        let mut outcome = GroupOutcome::default();
        {
            let inner = &mut *self.inner.lock();
            let settings = Arc::new(settings);
            let mut old = std::mem::take(&mut inner.groups);
            for definition in groups {
                let index = old.iter().position(|slot| {
                    slot.group.lock().key() == (&definition.file, &definition.name)
                });
                let before = index.map(|index| old.swap_remove(index));
                let slot = match before {
                    Some(slot) if slot.group.lock().is_same(&definition, &settings) => slot,
                    Some(slot) => {
                        let mut group = Group::new(definition, &settings);
                        let interval = group.interval;
                        let running = std::mem::replace(&mut *slot.group.lock(), Group::empty());
                        outcome.merge(group.inherit(running, now, &inner.settings));
                        let next = if slot.interval == interval {
                            slot.next
                        } else {
                            next_slot(now, interval, settings.phase)
                        };
                        Slot::new(group, next)
                    }
                    None => {
                        let group = Group::new(definition, &settings);
                        let next = next_slot(now, group.interval, settings.phase);
                        Slot::new(group, next)
                    }
                };
                inner.groups.push(slot);
            }
            for slot in old {
                let group = std::mem::replace(&mut *slot.group.lock(), Group::empty());
                self.metrics.forget(&group);
                let (ended, series) = group.end(now, &inner.settings);
                outcome.merge(ended);
                inner.ended.push((now + slot.interval * 2, series));
            }
            inner.settings = settings;
            inner.plan();
        }
        self.reloads.send_modify(|count| *count += 1);
        self.hand_on(outcome).await
    }

    /// Evaluates rules when they are due, and urgent rules whenever `arrivals` changes because
    /// samples came in. Ends only when it cannot go on. `overdue` says whether a target should have
    /// been collected a while ago: after a pause of the process or the machine those come before
    /// the first judgement, if they do not take long.
    pub async fn run(
        &self,
        mut arrivals: watch::Receiver<u64>,
        overdue: impl Fn() -> bool,
    ) -> Result<(), Error> {
        let mut reloads = self.reloads.subscribe();
        let (mut arrived, mut open, mut rested) = (false, true, tokio::time::Instant::now());
        let mut waited = false;
        loop {
            let caught_up = async {
                while overdue() {
                    tokio::time::sleep(CATCH_UP_LOOK).await;
                }
            };
            // Who takes longer is waited for once.
            if !overdue() {
                waited = false;
            } else if !waited {
                waited = tokio::time::timeout(CATCH_UP, caught_up).await.is_err();
                // What came is younger than the slots that were missed.
                let read = Read::now();
                self.evaluate_each(read).await?;
            }
            let read = Read::now();
            let now = read.at;
            let next = self.inner.lock().next(now);
            let wait = next.map_or(Duration::from_secs(3600), |next| next.since(now));
            if wait.is_zero() {
                self.evaluate_due(read).await?;
                continue;
            }
            if arrived && tokio::time::Instant::now() >= rested {
                arrived = false;
                self.evaluate_urgent(read).await?;
                rested = tokio::time::Instant::now() + ARRIVAL_PAUSE;
                continue;
            }
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                _ = reloads.changed() => {}
                () = tokio::time::sleep_until(rested), if arrived => {}
                changed = arrivals.changed(), if open && !arrived => (arrived, open) = (changed.is_ok(), changed.is_ok()),
            }
        }
    }

    /// The clock is about to jump: holds evaluation until the guard is dropped. Waits for the one
    /// under way, but not longer than a deadline.
    pub async fn hold(&self) -> Option<tokio::sync::MutexGuard<'_, ()>> {
        tokio::time::timeout(HOLD, self.turn.lock()).await.ok()
    }

    /// The clock has jumped: slots lie in the new time, what alerts wait for is moved with it, and
    /// the targets are judged again once they were collected again.
    pub fn clock_jumped(&self, jump: Jump) {
        {
            let inner = &mut *self.inner.lock();
            let phase = inner.settings.phase;
            for slot in &mut inner.groups {
                slot.next = next_slot(jump.to, slot.interval, phase);
                slot.group.lock().clock_jumped(jump);
            }
            inner
                .ended
                .iter_mut()
                .for_each(|(at, _)| *at = jump.moved(*at));
        }
        self.reloads.send_modify(|count| *count += 1);
    }

    /// Evaluates the rules that must not wait for their slot: samples came in before `now`.
    pub async fn arrived(&self, now: Timestamp) -> Result<(), Error> {
        self.evaluate_urgent(Read::as_if(now)).await
    }

    async fn evaluate_urgent(&self, read: Read) -> Result<(), Error> {
        let _turn = self.turn.lock().await;
        if read.is_over() {
            return Ok(());
        }
        let now = read.at;
        let urgent: Vec<Slot> = self
            .inner
            .lock()
            .groups
            .iter()
            .filter(|slot| slot.urgent)
            .cloned()
            .collect();
        for slot in urgent {
            let settings = Arc::clone(&self.inner.lock().settings);
            let (outcome, label) = {
                let mut group = slot.group.lock();
                (
                    group.eval_urgent(&self.backend, now, &settings),
                    GroupLabel::new(&group),
                )
            };
            self.metrics.counted(&label, &outcome);
            self.hand_on(outcome).await?;
        }
        Ok(())
    }

    /// Evaluates every group that is due at `now`, each at its slot, and hands its alerts on. Slots
    /// that were missed are counted, not made up for. A reload may come between two groups.
    pub async fn tick(&self, now: Timestamp) -> Result<(), Error> {
        self.evaluate_due(Read::as_if(now)).await
    }

    async fn evaluate_due(&self, read: Read) -> Result<(), Error> {
        let now = read.at;
        let due: Vec<Slot> = {
            let _turn = self.turn.lock().await;
            if read.is_over() {
                return Ok(());
            }
            self.write_ends(now);
            self.inner
                .lock()
                .groups
                .iter()
                .filter(|slot| slot.next <= now)
                .cloned()
                .collect()
        };
        let (mut computed, mut reloads) = (Computed::new(), *self.reloads.borrow());
        for slot in due {
            let _turn = self.turn.lock().await;
            if read.is_over() {
                return Ok(());
            }
            if std::mem::replace(&mut reloads, *self.reloads.borrow()) != reloads {
                // It belongs to plans that are no more.
                computed.clear();
            }
            if !self
                .inner
                .lock()
                .groups
                .iter()
                .any(|running| Arc::ptr_eq(&running.group, &slot.group))
            {
                continue;
            }
            let (at, missed) = self.advance(&slot, now);
            let phase = self.inner.lock().settings.phase;
            self.evaluate(&slot, at - phase, missed, &mut computed)
                .await?;
        }
        Ok(())
    }

    /// Ends all groups: waits for the rule that is being evaluated, and begins no other.
    pub async fn stop(&self) {
        self.inner.lock().groups.iter().for_each(Slot::leave);
        let _turn = self.turn.lock().await;
    }

    /// Evaluates every group once at `now`, slots aside: what was collected at start is judged at
    /// once.
    pub async fn evaluate_all(&self, now: Timestamp) -> Result<(), Error> {
        self.evaluate_each(Read::as_if(now)).await
    }

    async fn evaluate_each(&self, read: Read) -> Result<(), Error> {
        let _turn = self.turn.lock().await;
        if read.is_over() {
            return Ok(());
        }
        let now = read.at;
        let slots = self.inner.lock().groups.clone();
        let mut computed = Computed::new();
        for slot in slots {
            self.evaluate(&slot, now, 0, &mut computed).await?;
        }
        // A slot before this instant would judge what was known before it, and end what has just
        // begun.
        let inner = &mut *self.inner.lock();
        let phase = inner.settings.phase;
        for slot in &mut inner.groups {
            slot.next = slot.next.max(next_slot(now + phase, slot.interval, phase));
        }
        Ok(())
    }

    /// Evaluates one group at `at` and hands its alerts on.
    async fn evaluate(
        &self,
        slot: &Slot,
        at: Timestamp,
        missed: u64,
        computed: &mut Computed,
    ) -> Result<(), Error> {
        let (settings, plan) = {
            let inner = self.inner.lock();
            (
                Arc::clone(&inner.settings),
                inner
                    .plans
                    .get(&(slot.interval, slot.offset))
                    .cloned()
                    .unwrap_or_default(),
            )
        };
        let results = computed
            .entry((slot.interval, slot.offset, at))
            .or_insert_with(|| Arc::new(Results::new(plan, at - slot.offset)))
            .clone();
        let (outcome, label, took) = {
            let mut group = slot.group.lock();
            let outcome = group.eval_sharing(&self.backend, at, &settings, &results);
            (outcome, GroupLabel::new(&group), group.evaluation_time)
        };
        self.metrics.evaluated(&label, &outcome, took, missed);
        self.hand_on(outcome).await
    }

    /// The groups as they were read, with their intervals.
    pub fn definitions(&self) -> Vec<(Arc<RuleGroup>, Duration)> {
        self.inner
            .lock()
            .groups
            .iter()
            .map(|slot| (Arc::clone(&slot.definition), slot.interval))
            .collect()
    }

    /// Labels of this instance, for what leaves it.
    pub fn external_labels(&self) -> Labels {
        self.inner.lock().settings.external_labels.clone()
    }

    /// What is there now, by file and name. Waits at most for one group's evaluation.
    pub fn snapshot(&self) -> Vec<GroupSnapshot> {
        let slots = self.inner.lock().groups.clone();
        let mut groups: Vec<GroupSnapshot> = slots
            .iter()
            .map(|slot| GroupSnapshot::new(&slot.group.lock()))
            .collect();
        groups.sort_by(|a, b| (&a.file, &a.name).cmp(&(&b.file, &b.name)));
        groups
    }

    /// How the rules called `name` stand whose alerts `matchers` may match: now, or at `at` as far
    /// as samples tell. It evaluates their expressions, so it belongs on the blocking pool.
    pub fn standings(
        &self,
        name: &str,
        matchers: &[Matcher],
        at: Option<Timestamp>,
    ) -> Vec<Standing> {
        let (slots, settings) = {
            let inner = self.inner.lock();
            (inner.groups.clone(), inner.settings.clone())
        };
        let of = |slot: &Slot| {
            slot.group
                .lock()
                .standings(self.backend.as_ref(), name, matchers, at, &settings)
        };
        slots.iter().flat_map(of).collect()
    }

    /// The slot to evaluate, and how many before it were missed; sets the group's next one.
    fn advance(&self, slot: &Slot, now: Timestamp) -> (Timestamp, u64) {
        let interval = millis(slot.interval).max(1);
        let missed = (now.0 - slot.next.0).max(0) / interval;
        let at = Timestamp(slot.next.0 + missed * interval);
        if let Some(running) = self
            .inner
            .lock()
            .groups
            .iter_mut()
            .find(|s| Arc::ptr_eq(&s.group, &slot.group))
        {
            running.next = Timestamp(at.0 + interval);
        }
        (at, u64::try_from(missed).unwrap_or(0))
    }

    /// Marks the series of groups that went two intervals ago, except series that another group now
    /// writes.
    fn write_ends(&self, now: Timestamp) {
        let inner = &mut *self.inner.lock();
        if !inner.ended.iter().any(|(at, _)| *at <= now) {
            return;
        }
        let (due, later): (Vec<_>, Vec<_>) = std::mem::take(&mut inner.ended)
            .into_iter()
            .partition(|(at, _)| *at <= now);
        inner.ended = later;
        let mut series: Vec<Labels> = due.into_iter().flat_map(|(_, series)| series).collect();
        let written: HashSet<Labels, ahash::RandomState> = inner
            .groups
            .iter()
            .flat_map(|slot| slot.group.lock().written().collect::<Vec<_>>())
            .collect();
        series.retain(|labels| !written.contains(labels));
        let markers: Vec<Sample> = series
            .into_iter()
            .map(|labels| Sample {
                labels,
                value: stale_nan(),
                timestamp: None,
            })
            .collect();
        self.backend.append(now, &markers);
    }

    /// Makes the changes durable, then hands the alerts on: in doubt, notify, so a broken database
    /// holds nothing back.
    async fn hand_on(&self, outcome: GroupOutcome) -> Result<(), Error> {
        self.record(outcome.changes).await;
        if outcome.alerts.is_empty() {
            return Ok(());
        }
        self.alerts
            .send(outcome.alerts)
            .await
            .map_err(|_| Error::Closed)
    }

    /// Writes the changes down, and what the database missed before.
    async fn record(&self, changes: RuleAlertChanges) {
        let mut all = std::mem::take(&mut *self.unwritten.lock());
        let missed = !all.is_empty();
        all.absorb(changes);
        match self.state.record_rule_alerts(&all).await {
            Ok(()) if missed => info!("Alert state of the rules is written again."),
            Ok(()) => {}
            Err(error) => {
                if !missed {
                    warn!(%error, "Alert state of the rules was not written; it is kept in memory until it can be.");
                }
                self.metrics.not_recorded();
                all.decisions
                    .drain(..all.decisions.len().saturating_sub(MAX_UNWRITTEN));
                *self.unwritten.lock() = all;
            }
        }
    }
}

/// The first slot of an interval after `now`.
fn next_slot(now: Timestamp, interval: Duration, phase: Duration) -> Timestamp {
    let (interval, phase) = (millis(interval).max(1), millis(phase));
    Timestamp(((now.0 - phase).div_euclid(interval) + 1) * interval + phase)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// SEMANTICS 100: slots are multiples of the interval, all groups at one instant, plus the
    /// phase.
    #[test]
    fn slots_are_multiples_of_the_interval_plus_the_phase() {
        let slot = |now, phase| {
            next_slot(
                Timestamp(now),
                Duration::from_secs(15),
                Duration::from_millis(phase),
            )
            .0
        };
        assert_eq!(
            (slot(0, 0), slot(14_999, 0), slot(15_000, 0)),
            (15_000, 15_000, 30_000)
        );
        assert_eq!((slot(15_000, 500), slot(15_500, 500)), (15_500, 30_500));
    }
}
