//! One group at one instant: its rules in order, each seeing what those before it wrote.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::active::{ActiveAlert, AlertState};
use super::alerting::{AlertingState, Hits, Step};
use super::context::Context;
use super::inputs::Inputs;
use super::recording::{Recorded, record};
use super::written::{Written, marker};
use crate::model::clock::Jump;
use crate::model::{Alert, Labels, Stage, Timestamp};
use crate::promql::{Marks, Plan, Results, Sharing, VectorSample};
use crate::rules::backend::Backend;
use crate::rules::error::RuleError;
use crate::rules::explain::evidence::Scene;
use crate::rules::{Rule, RuleGroup};
use crate::state::{DecisionRow, RuleAlertChanges, RuleAlertRow};
use crate::template::{Queried, Query};

/// What all groups share.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Interval of groups that name none (`evaluation_interval`).
    pub interval: Duration,
    /// Offset of groups that name none (`rule_query_offset`).
    pub query_offset: Duration,
    /// How long until an alert that still fires is handed on again.
    pub resend_delay: Duration,
    /// How far behind the grid evaluations stand, so that the collections of the same slot have
    /// ended.
    pub phase: Duration,
    /// Labels added to what is handed on, where the alert lacks them.
    pub external_labels: Labels,
    /// Where this instance's pages are.
    pub external_url: String,
    /// Whether evidence is gathered for alerts that begin to fire.
    pub evidence: bool,
    /// Whether an alert stays as it is while its target fails or is not collected, where its rule
    /// says nothing about that (`no_data`).
    pub hold_gaps: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            interval: Duration::from_secs(60),
            query_offset: Duration::ZERO,
            resend_delay: Duration::from_secs(60),
            phase: Duration::ZERO,
            external_labels: Labels::empty(),
            external_url: String::new(),
            evidence: false,
            hold_gaps: true,
        }
    }
}

/// How the last evaluation of a rule went.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Health {
    /// `None` before the first evaluation, then whether it succeeded.
    pub ok: Option<bool>,
    /// Why the last one failed.
    pub last_error: Option<String>,
    /// When it was.
    pub last_evaluation: Option<Timestamp>,
    /// How long it took.
    pub evaluation_time: Duration,
}

impl Health {
    /// `unknown`, `ok` or `err`, as the API says.
    pub fn as_str(&self) -> &'static str {
        match self.ok {
            None => "unknown",
            Some(true) => "ok",
            Some(false) => "err",
        }
    }
}

/// A rule of a group's definition.
#[derive(Clone)]
pub struct GroupRule {
    group: Arc<RuleGroup>,
    index: usize,
}

impl std::ops::Deref for GroupRule {
    type Target = Rule;
    fn deref(&self) -> &Rule {
        &self.group.rules[self.index]
    }
}

impl GroupRule {
    /// Identity across restarts: file, group, name, labels, and a number among equals.
    fn key(&self, number: usize) -> String {
        let plain = format!(
            "{};{};{};{}",
            self.group.file,
            self.group.name,
            self.name(),
            self.labels().braced()
        );
        if number == 0 {
            plain
        } else {
            format!("{plain};{number}")
        }
    }
}

/// A rule with what it remembers.
pub struct RunningRule {
    /// Its definition.
    pub rule: GroupRule,
    /// How its last evaluation went.
    pub health: Health,
    /// Its alerts, when it is an alerting rule.
    pub alerting: Option<AlertingState>,
    /// Which one it is among those of the group with the same name and labels.
    number: usize,
    /// Series it wrote at its last evaluation.
    written: Written,
    /// Where what it shares with other rules stands in its expression.
    marks: Arc<Marks>,
}

/// What one evaluation of a group did.
#[derive(Debug, Default)]
pub struct GroupOutcome {
    /// Alerts to hand on, once the changes are durable.
    pub alerts: Vec<Alert>,
    /// What changed in the state database.
    pub changes: RuleAlertChanges,
    /// Rules evaluated.
    pub evaluations: u64,
    /// Rules that failed.
    pub failures: u64,
    /// Samples written.
    pub samples: usize,
}

/// A group of rules that runs.
pub struct Group {
    /// Its definition.
    pub definition: Arc<RuleGroup>,
    /// Time between evaluations.
    pub interval: Duration,
    /// How far before the evaluation time queries look.
    pub query_offset: Duration,
    /// Its rules, in order.
    pub rules: Vec<RunningRule>,
    /// When it was last evaluated.
    pub last_evaluation: Option<Timestamp>,
    /// How long that took.
    pub evaluation_time: Duration,
    /// Series of rules that are no more: their end is written at the next evaluation.
    ended: Vec<Labels>,
    /// Raised by who waits for the end of this group: an evaluation under way ends after its rule
    /// (SEMANTICS 104).
    pub(in crate::rules) leaving: Arc<AtomicBool>,
}

impl Group {
    /// A group that remembers nothing.
    pub fn new(definition: impl Into<Arc<RuleGroup>>, settings: &Settings) -> Self {
        let definition = definition.into();
        let mut equals: HashMap<(&str, &Labels), usize> = HashMap::new();
        let rules = definition.rules.iter().enumerate().map(|(index, rule)| {
            let equal = equals.entry((rule.name(), rule.labels())).or_default();
            let number = std::mem::replace(equal, *equal + 1);
            let alerting = match rule {
                Rule::Alerting(rule) => Some(AlertingState::new(rule)),
                Rule::Recording(_) => None,
            };
            RunningRule {
                rule: GroupRule {
                    group: Arc::clone(&definition),
                    index,
                },
                health: Health::default(),
                alerting,
                number,
                written: Written::Nothing,
                marks: Arc::default(),
            }
        });
        Group {
            rules: rules.collect(),
            interval: interval(&definition, settings),
            query_offset: query_offset(&definition, settings),
            last_evaluation: None,
            evaluation_time: Duration::ZERO,
            ended: Vec::new(),
            leaving: Arc::default(),
            definition,
        }
    }

    /// A group without rules, to stand where another was taken from.
    pub(in crate::rules) fn empty() -> Self {
        let definition = RuleGroup {
            name: String::new(),
            file: String::new(),
            interval: None,
            query_offset: None,
            limit: 0,
            labels: Labels::empty(),
            shipped: false,
            wanted: std::collections::BTreeMap::new(),
            rules: Vec::new(),
        };
        Group::new(definition, &Settings::default())
    }

    /// The clock has jumped: whatever its alerts wait for is moved with it.
    pub(in crate::rules) fn clock_jumped(&mut self, jump: Jump) {
        self.rules
            .iter_mut()
            .filter_map(|rule| rule.alerting.as_mut())
            .for_each(|state| state.clock_jumped(jump));
    }

    /// Whether it does the same as a group of this definition: where rules stand in the file does
    /// not count (SEMANTICS 105).
    pub fn is_same(&self, other: &RuleGroup, settings: &Settings) -> bool {
        same(
            &self.definition,
            (self.interval, self.query_offset),
            other,
            settings,
        )
    }

    /// File and name: unique among groups.
    pub fn key(&self) -> (&str, &str) {
        (&self.definition.file, &self.definition.name)
    }

    /// Takes over the alerts of its rules from the state database; gives back the rows that belong
    /// to no rule here.
    pub fn restore(&mut self, rows: &mut BTreeMap<String, Vec<ActiveAlert>>) {
        for rule in &mut self.rules {
            if let (Some(state), Some(alerts)) =
                (&mut rule.alerting, rows.remove(&rule.rule.key(rule.number)))
            {
                for mut alert in alerts {
                    // Whether the process before this one came to hand it on is not known: tell it
                    // again.
                    alert.last_sent_at = None;
                    state.adopt(alert);
                }
            }
        }
    }

    /// Takes over from the group's previous definition: rules with the same name and labels keep
    /// their alerts and series. What is left over is ended: its alerts are resolved, its series
    /// marked stale.
    pub fn inherit(&mut self, mut old: Group, now: Timestamp, settings: &Settings) -> GroupOutcome {
        for rule in &mut self.rules {
            let identity = |rule: &RunningRule| (rule.number, rule.alerting.is_some());
            let same = |o: &&mut RunningRule| {
                identity(o) == identity(rule)
                    && (o.rule.name(), o.rule.labels()) == (rule.rule.name(), rule.rule.labels())
            };
            let Some(before) = old.rules.iter_mut().find(same) else {
                continue;
            };
            rule.written = std::mem::take(&mut before.written);
            rule.health = before.health.clone();
            if let (Some(new), Some(old)) = (&mut rule.alerting, &mut before.alerting) {
                old.take().into_iter().for_each(|alert| new.adopt(alert));
            }
        }
        self.last_evaluation = old.last_evaluation;
        let (outcome, series) = old.end(now, settings);
        self.ended = series;
        outcome
    }

    /// Ends the group: resolves what fires and gives back the series it wrote.
    pub fn end(mut self, now: Timestamp, settings: &Settings) -> (GroupOutcome, Vec<Labels>) {
        let query: Query = Arc::new(|_| Ok(Vec::new()));
        let context = Context {
            limit: 0,
            ..context(&self.definition, settings, &query)
        };
        let mut outcome = GroupOutcome::default();
        let mut series = std::mem::take(&mut self.ended);
        for rule in &mut self.rules {
            series.extend(rule.written.series(&rule.rule));
            let (Some(state), Rule::Alerting(definition)) = (&mut rule.alerting, &*rule.rule)
            else {
                continue;
            };
            let key = rule.rule.key(rule.number);
            for alert in state.take() {
                outcome
                    .changes
                    .gone
                    .push((key.clone(), alert.labels.fingerprint()));
                outcome
                    .alerts
                    .extend(resolved(alert, now, &context, &definition.expr_text));
            }
        }
        (outcome, series)
    }

    /// The series that its rules wrote at their last evaluation.
    pub(in crate::rules) fn written(&self) -> impl Iterator<Item = Labels> {
        self.rules
            .iter()
            .flat_map(|rule| rule.written.series(&rule.rule))
    }

    /// Adds the expressions of its rules to what is evaluated at one instant.
    pub fn plan(&mut self, plan: &mut Plan) {
        self.rules
            .iter_mut()
            .for_each(|rule| rule.marks = Arc::new(plan.add(rule.rule.expr())));
    }

    /// Keeps of the positions of its expressions those that matter, once all groups are in the
    /// plan.
    pub fn planned(&mut self, plan: &Plan) {
        self.rules
            .iter_mut()
            .for_each(|rule| rule.marks = Arc::new(rule.marks.shared(plan)));
    }

    /// Evaluates every rule at the slot `now`. Samples go to the backend at once, so that the next
    /// rule sees them.
    pub fn eval(
        &mut self,
        backend: &Arc<dyn Backend>,
        now: Timestamp,
        settings: &Settings,
    ) -> GroupOutcome {
        self.eval_with(backend, now, settings, None)
    }

    /// The same, with what the rules of this plan have computed at this instant.
    pub fn eval_sharing(
        &mut self,
        backend: &Arc<dyn Backend>,
        now: Timestamp,
        settings: &Settings,
        results: &Arc<Results>,
    ) -> GroupOutcome {
        self.eval_with(backend, now, settings, Some(results))
    }

    /// Evaluates the rules that must not wait for the next slot, because what they read has
    /// arrived. Only their alerts move: samples of alerts are written at slots.
    pub fn eval_urgent(
        &mut self,
        backend: &Arc<dyn Backend>,
        now: Timestamp,
        settings: &Settings,
    ) -> GroupOutcome {
        let at = now - self.query_offset;
        let query = template_query(backend, now);
        let context = context(&self.definition, settings, &query);
        let mut outcome = GroupOutcome::default();
        for rule in self.rules.iter_mut().filter(|rule| rule.rule.is_urgent()) {
            if self.leaving.load(Ordering::Relaxed) {
                break;
            }
            let begun = Instant::now();
            let before = outcome.alerts.len();
            let judged = backend.query(rule.rule.expr(), at).and_then(|hits| {
                rule.judge(hits, backend.as_ref(), (at, now), &context, &mut outcome)
            });
            rule.examined(judged, now, begun, &mut outcome);
            if settings.evidence {
                let scene = Scene {
                    backend: backend.as_ref(),
                    at,
                    now,
                    interval: self.interval,
                };
                rule.add_evidence(&scene, outcome.alerts.get_mut(before..).unwrap_or_default());
            }
        }
        outcome
    }

    /// Whether it has a rule that must not wait for the next slot.
    pub fn has_urgent(&self) -> bool {
        self.rules.iter().any(|rule| rule.rule.is_urgent())
    }

    fn eval_with(
        &mut self,
        backend: &Arc<dyn Backend>,
        now: Timestamp,
        settings: &Settings,
        results: Option<&Arc<Results>>,
    ) -> GroupOutcome {
        let started = Instant::now();
        let at = now - self.query_offset;
        let query = template_query(backend, now);
        let context = context(&self.definition, settings, &query);
        let mut outcome = GroupOutcome::default();
        if !self.ended.is_empty() {
            let markers = Recorded {
                samples: self.ended.drain(..).map(marker).collect(),
                ..Recorded::default()
            };
            write(backend.as_ref(), at, &markers, results);
        }
        for rule in &mut self.rules {
            if self.leaving.load(Ordering::Relaxed) {
                break;
            }
            let begun = Instant::now();
            let before = outcome.alerts.len();
            let result = rule.eval(backend.as_ref(), (at, now), &context, results, &mut outcome);
            rule.examined(result, now, begun, &mut outcome);
            if settings.evidence {
                let scene = Scene {
                    backend: backend.as_ref(),
                    at,
                    now,
                    interval: self.interval,
                };
                rule.add_evidence(&scene, outcome.alerts.get_mut(before..).unwrap_or_default());
            }
        }
        self.last_evaluation = Some(now);
        self.evaluation_time = started.elapsed();
        outcome
    }
}

fn context<'a>(group: &RuleGroup, settings: &'a Settings, query: &'a Query) -> Context<'a> {
    Context {
        limit: group.limit,
        shipped: group.shipped,
        resend_delay: settings.resend_delay,
        external_labels: &settings.external_labels,
        external_url: &settings.external_url,
        query,
        hold_gaps: settings.hold_gaps,
    }
}

fn interval(definition: &RuleGroup, settings: &Settings) -> Duration {
    definition
        .interval
        .unwrap_or(settings.interval)
        .max(Duration::from_millis(1))
}

fn query_offset(definition: &RuleGroup, settings: &Settings) -> Duration {
    definition.query_offset.unwrap_or(settings.query_offset)
}

/// Whether a group that runs with this interval and query offset does what `b` says.
pub(in crate::rules) fn same(
    a: &RuleGroup,
    running: (Duration, Duration),
    b: &RuleGroup,
    settings: &Settings,
) -> bool {
    (&a.file, &a.name, a.limit) == (&b.file, &b.name, b.limit)
        && running == (interval(b, settings), query_offset(b, settings))
        && a.rules.len() == b.rules.len()
        && a.rules.iter().zip(&b.rules).all(|(a, b)| a.is_same(b))
}

impl GroupOutcome {
    /// Adds what another step did.
    pub(in crate::rules) fn merge(&mut self, other: GroupOutcome) {
        self.alerts.extend(other.alerts);
        self.changes.put.extend(other.changes.put);
        self.changes.gone.extend(other.changes.gone);
        self.changes.decisions.extend(other.changes.decisions);
    }
}

/// An alert from before a restart whose rule (`key`) is no more: forgotten, and resolved if it
/// fired.
pub(in crate::rules) fn orphan(
    key: &str,
    alert: ActiveAlert,
    now: Timestamp,
    settings: &Settings,
    outcome: &mut GroupOutcome,
) {
    let query: Query = Arc::new(|_| Ok(Vec::new()));
    outcome
        .changes
        .gone
        .push((key.to_owned(), alert.labels.fingerprint()));
    outcome.alerts.extend(resolved(
        alert,
        now,
        &context(&Group::empty().definition, settings, &query),
        "",
    ));
}

/// The end of an alert whose rule is gone, if it fires; others have ended already, or never began.
fn resolved(
    mut alert: ActiveAlert,
    now: Timestamp,
    context: &Context<'_>,
    expr: &str,
) -> Option<Alert> {
    if alert.state != AlertState::Firing {
        return None;
    }
    alert.resolved_at = Some(now);
    Some(alert.to_model(now, context, expr))
}

impl RunningRule {
    /// Its alerts' state: the highest of all; `None` for a recording rule or before the first
    /// evaluation.
    pub fn state(&self) -> Option<AlertState> {
        let alerting = self.alerting.as_ref()?;
        self.health.ok?;
        Some(
            alerting
                .alerts()
                .map(|alert| alert.state)
                .max()
                .unwrap_or(AlertState::Inactive),
        )
    }

    /// Judges at the slot `now` what the samples up to `at` say, and writes what follows.
    fn eval(
        &mut self,
        backend: &dyn Backend,
        (at, now): (Timestamp, Timestamp),
        context: &Context<'_>,
        results: Option<&Arc<Results>>,
        outcome: &mut GroupOutcome,
    ) -> Result<(), RuleError> {
        let hits = match results {
            Some(results) => backend.query_sharing(
                self.rule.expr(),
                at,
                Sharing::new(results.clone(), self.marks.clone()),
            )?,
            None => backend.query(self.rule.expr(), at)?,
        };
        let (mut recorded, ended) = match &*self.rule {
            Rule::Recording(rule) => {
                let recorded = record(rule, hits, context.limit)?;
                let ended = self.written.record(&recorded);
                (recorded, ended)
            }
            Rule::Alerting(_) => {
                self.judge(hits, backend, (at, now), context, outcome)?;
                let (Rule::Alerting(rule), Some(state)) = (&*self.rule, &self.alerting) else {
                    return Ok(());
                };
                let (samples, ended) = self.written.alerts(rule, state);
                (
                    Recorded {
                        samples,
                        ..Recorded::default()
                    },
                    ended,
                )
            }
        };
        let discarded = recorded.discarded.take();
        outcome.samples += recorded.samples.len() + recorded.histograms.len();
        recorded.samples.extend(ended);
        if !recorded.is_empty() {
            write(backend, at, &recorded, results);
        }
        discarded.map_or(Ok(()), Err)
    }

    /// Moves the alerts of an alerting rule.
    fn judge(
        &mut self,
        mut hits: Vec<VectorSample>,
        backend: &dyn Backend,
        (at, now): (Timestamp, Timestamp),
        context: &Context<'_>,
        outcome: &mut GroupOutcome,
    ) -> Result<(), RuleError> {
        let (Rule::Alerting(rule), Some(state)) = (&*self.rule, &mut self.alerting) else {
            return Ok(());
        };
        let found = hits.len();
        for absence in state.absences() {
            for VectorSample { labels, .. } in backend.query(absence, at)? {
                if !hits
                    .iter()
                    .any(|known| known.labels.without_name() == labels)
                {
                    // There is no value.
                    hits.push((labels, f64::NAN).into());
                }
            }
        }
        let hits = Hits {
            found: &hits,
            no_data: hits.len() - found,
        };
        let mut inputs = Inputs::new(
            backend,
            rule,
            (at, now),
            state.read.clone(),
            context.hold_gaps,
        );
        let step = state.step(rule, &hits, now, context, &mut |alert, before| {
            inputs.held(alert, before)
        })?;
        state.read = if state.is_active() {
            inputs.read_now()
        } else {
            None
        };
        note(
            (&self.rule, self.number),
            state,
            &step,
            now,
            &mut outcome.changes,
        );
        outcome.alerts.extend(step.alerts);
        // Alerts that wait for their recovery have stayed as they were; all else has been judged.
        inputs.error().map_or(Ok(()), Err)
    }

    /// Adds what was seen to the alerts that it tells.
    fn add_evidence(&self, scene: &Scene<'_>, alerts: &mut [Alert]) {
        if let Rule::Alerting(definition) = &*self.rule {
            scene.add(definition, alerts);
        }
    }

    /// Takes down how an evaluation went.
    fn examined(
        &mut self,
        result: Result<(), RuleError>,
        now: Timestamp,
        begun: Instant,
        outcome: &mut GroupOutcome,
    ) {
        outcome.evaluations += 1;
        outcome.failures += u64::from(result.is_err());
        self.health = Health {
            ok: Some(result.is_ok()),
            last_error: result.err().map(|error| error.to_string()),
            last_evaluation: Some(now),
            evaluation_time: begun.elapsed(),
        };
    }
}

/// Stores samples; what was computed from series of their names is forgotten.
fn write(
    backend: &dyn Backend,
    at: Timestamp,
    recorded: &Recorded,
    results: Option<&Arc<Results>>,
) {
    backend.append(at, &recorded.samples);
    if !recorded.histograms.is_empty() {
        backend.append_histograms(at, &recorded.histograms);
    }
    if let Some(results) = results {
        let names: BTreeSet<&str> = recorded.labels().map(Labels::metric_name).collect();
        names.into_iter().for_each(|name| results.written(name));
    }
}

/// What answers `query` in templates.
fn template_query(backend: &Arc<dyn Backend>, now: Timestamp) -> Query {
    let backend = Arc::clone(backend);
    let queried = |hit: VectorSample| Queried {
        labels: hit.labels,
        value: hit.value,
        histogram: hit.histogram,
    };
    Arc::new(move |text: &str| {
        Ok(backend
            .query_text(text, now)?
            .into_iter()
            .map(queried)
            .collect())
    })
}

/// Adds what a step changed to what goes into the state database.
fn note(
    (rule, number): (&GroupRule, usize),
    state: &AlertingState,
    step: &Step,
    now: Timestamp,
    changes: &mut RuleAlertChanges,
) {
    if step.changed.is_empty() && step.gone.is_empty() && step.decisions.is_empty() {
        return;
    }
    let key = rule.key(number);
    for fingerprint in &step.changed {
        if let Some(alert) = state.alert(*fingerprint) {
            changes.put.push(RuleAlertRow {
                rule: key.clone(),
                fingerprint: *fingerprint,
                body: alert.to_json(),
            });
        }
    }
    changes.gone.extend(
        step.gone
            .iter()
            .map(|fingerprint| (key.clone(), *fingerprint)),
    );
    let decision = |(labels, stage): &(Labels, Stage)| DecisionRow {
        scope: labels.value("alertname").to_owned(),
        at: now,
        alerts: vec![labels.fingerprint()],
        integration: String::new(),
        stage: stage.clone(),
        labels: labels.clone(),
        paths: Vec::new(),
    };
    changes
        .decisions
        .extend(step.decisions.iter().map(decision));
}
