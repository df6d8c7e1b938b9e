//! Alerting rules: inactive, pending, firing, resolved. One pure step per evaluation
//! (<https://prometheus.io/docs/prometheus/latest/configuration/alerting_rules/>).
//!
//! Where Prometheus would lose an alert, this keeps it: an error, or more alerts than the limit,
//! leaves every alert as it was.

use super::context::Context;
use std::collections::BTreeMap;
use std::time::Duration;

use super::active::{ActiveAlert, AlertState, Held, HeldBy};
use super::inputs::absences;
use crate::model::clock::Jump;
use crate::model::{Alert, LabelSets, Labels, LabelsBuilder, METRIC_NAME, Stage, Timestamp};
use crate::promql::syntax::ast::BinaryOp;
use crate::promql::{Expr, VectorSample};
use crate::rules::AlertingRule;
use crate::rules::error::{RuleError, RuleKind};
use crate::template::{RuleData, RuleText};

/// How long a resolved alert is kept, so that its end is sent again.
const RESOLVED_RETENTION: Duration = Duration::from_secs(15 * 60);

/// The alerts of one rule.
pub struct AlertingState {
    alerts: BTreeMap<u64, Box<ActiveAlert>>,
    /// Whether annotations may change while the value stays: they ask for other samples, or for the
    /// time.
    texts_move: bool,
    /// Whether alerts came from before a restart or a reload, with the annotations of that time.
    adopted: bool,
    /// What has a result when a selector finds nothing, with `no_data: alert`.
    absences: Vec<Expr>,
    /// What the expression read at the last evaluation, while there are alerts.
    pub(in crate::rules) read: Option<Vec<LabelSets>>,
    /// Whether the expression asks for values below a threshold.
    lower_is_worse: bool,
}

/// What a step did.
#[derive(Debug, Default)]
pub struct Step {
    /// Alerts to hand on.
    pub alerts: Vec<Alert>,
    /// Alerts whose state changed, by fingerprint of their labels.
    pub changed: Vec<u64>,
    /// Alerts that are forgotten.
    pub gone: Vec<u64>,
    /// What the rule decided that its alerts do not tell: they began to be pending or ended before
    /// they fired; they are held or no more.
    pub decisions: Vec<(Labels, Stage)>,
}

/// The result of a rule's expression.
pub struct Hits<'a> {
    /// Its samples.
    pub found: &'a [VectorSample],
    /// The last so many of them stand for data that are not there.
    pub no_data: usize,
}

/// A result with the labels of its alert.
struct Present<'h> {
    labels: Labels,
    sample: &'h VectorSample,
    no_data: bool,
}

/// What keeps an alert without a result as it is, given what did so before.
type HeldFn<'a> = &'a mut dyn FnMut(&ActiveAlert, Option<&Held>) -> Option<Held>;

impl AlertingState {
    /// A rule without alerts.
    pub fn new(rule: &AlertingRule) -> Self {
        let mut top = &rule.expr;
        while let Expr::Paren(inner) = top {
            top = &inner.expr;
        }
        let lower_is_worse = matches!(top, Expr::Binary(b) if matches!(b.op, BinaryOp::Less | BinaryOp::LessOrEqual));
        AlertingState {
            alerts: BTreeMap::new(),
            texts_move: rule.annotations.iter().any(|(_, text)| {
                text.contains("{{") && (text.contains("query") || text.contains("now"))
            }),
            adopted: false,
            absences: absences(rule),
            read: None,
            lower_is_worse,
        }
    }

    /// What has a result when a selector of the rule finds nothing; empty unless the rule says
    /// `no_data: alert`.
    pub(in crate::rules) fn absences(&self) -> &[Expr] {
        &self.absences
    }

    /// The alerts, by fingerprint of their labels; resolved ones included for a while.
    pub fn alerts(&self) -> impl Iterator<Item = &ActiveAlert> {
        self.alerts.values().map(|alert| &**alert)
    }

    /// The alert with this fingerprint.
    pub fn alert(&self, fingerprint: u64) -> Option<&ActiveAlert> {
        self.alerts.get(&fingerprint).map(|alert| &**alert)
    }

    /// The clock has jumped.
    pub(in crate::rules) fn clock_jumped(&mut self, jump: Jump) {
        self.alerts
            .values_mut()
            .for_each(|alert| alert.clock_jumped(jump));
    }

    /// Takes over an alert from before a restart or a reload.
    pub fn adopt(&mut self, alert: ActiveAlert) {
        self.adopted = true;
        self.alerts
            .insert(alert.labels.fingerprint(), Box::new(alert));
    }

    /// Whether an alert is pending or fires.
    pub(in crate::rules) fn is_active(&self) -> bool {
        self.alerts
            .values()
            .any(|alert| alert.state != AlertState::Inactive)
    }

    /// Gives up all alerts.
    pub fn take(&mut self) -> Vec<ActiveAlert> {
        std::mem::take(&mut self.alerts)
            .into_values()
            .map(|alert| *alert)
            .collect()
    }

    /// Judges the result of the rule's expression at `now`; `held` is asked about alerts that it
    /// has nothing for. When it errs, nothing has changed.
    pub(in crate::rules) fn step(
        &mut self,
        rule: &AlertingRule,
        hits: &Hits<'_>,
        now: Timestamp,
        context: &Context<'_>,
        held: HeldFn<'_>,
    ) -> Result<Step, RuleError> {
        let mut step = Step::default();
        if hits.found.is_empty() && self.alerts.is_empty() {
            return Ok(step);
        }
        let present = self.present(rule, hits, now, context)?;
        let texts = texts(rule, &rule.annotations);
        for (fingerprint, hit) in &present {
            let (mut alert, is_new) = match self.alerts.remove(fingerprint) {
                Some(alert) if alert.state != AlertState::Inactive => (alert, false),
                _ => {
                    let source = hit.sample.labels.without_name();
                    (
                        Box::new(ActiveAlert::new(
                            hit.labels.clone(),
                            source,
                            Labels::empty(),
                            hit.sample.value,
                            now,
                        )),
                        true,
                    )
                }
            };
            if let Some(held) = alert.held.take() {
                step.changed.push(*fingerprint);
                step.decisions.push((
                    alert.outgoing_labels(context),
                    Stage::HoldEnded { since: held.since },
                ));
            }
            // Of a native histogram the value is a marker, always the same.
            let value_changed = alert.value.to_bits() != hit.sample.value.to_bits()
                || hit.sample.histogram.is_some();
            let mut texts_changed = false;
            if is_new || value_changed || self.adopted || self.texts_move {
                let annotations = expand(&texts, hit.sample, now, context);
                texts_changed = annotations != alert.annotations;
                alert.annotations = annotations;
            }
            let changed = self.seen(&mut alert, rule, hit, now);
            if changed || is_new || texts_changed {
                step.changed.push(*fingerprint);
            }
            if alert.state == AlertState::Pending && alert.active_at == now {
                step.decisions.push((
                    alert.outgoing_labels(context),
                    Stage::Pending {
                        since: now,
                        hold: rule.hold,
                    },
                ));
            }
            self.alerts.insert(*fingerprint, alert);
        }
        self.adopted = false;
        self.absent(rule, &present, now, context, (&mut step, held));
        self.hand_on(rule, now, context, &mut step);
        step.changed.sort_unstable();
        step.changed.dedup();
        Ok(step)
    }

    /// The final labels of every hit; errs when two are equal or there are more alerts than
    /// allowed.
    fn present<'h>(
        &self,
        rule: &AlertingRule,
        hits: &Hits<'h>,
        now: Timestamp,
        context: &Context<'_>,
    ) -> Result<BTreeMap<u64, Present<'h>>, RuleError> {
        let (mut present, texts) = (BTreeMap::new(), texts(rule, &rule.labels));
        for (index, sample) in hits.found.iter().enumerate() {
            let mut labels = sample.labels.without_name().to_builder();
            let data = data(sample, now, context);
            for (name, text) in &texts {
                // An empty text removes the sample's own label.
                labels.set(name, &text.expand(&data));
            }
            let labels = labels
                .remove(METRIC_NAME)
                .set("alertname", &rule.name)
                .build();
            let no_data = index + hits.no_data >= hits.found.len();
            if present
                .insert(
                    labels.fingerprint(),
                    Present {
                        labels,
                        sample,
                        no_data,
                    },
                )
                .is_some()
            {
                return Err(RuleError::EqualLabels(RuleKind::Alerting));
            }
        }
        let stays = |alert: &ActiveAlert| {
            alert.held.is_some()
                || alert.state == AlertState::Firing && !rule.keep_firing_for.is_zero()
        };
        let held = self
            .alerts
            .iter()
            .filter(|(key, alert)| !present.contains_key(key) && stays(alert));
        let count = present.len() + held.count();
        if context.limit > 0 && count > context.limit {
            return Err(RuleError::Limit {
                limit: context.limit,
                found: count,
                kind: RuleKind::Alerting,
            });
        }
        Ok(present)
    }

    /// One alert whose series is there. Tells whether anything about it changed.
    fn seen(
        &self,
        alert: &mut ActiveAlert,
        rule: &AlertingRule,
        hit: &Present<'_>,
        now: Timestamp,
    ) -> bool {
        let value = hit.sample.value;
        let mut changed = alert.value.to_bits() != value.to_bits()
            || alert.keep_firing_since.is_some()
            || alert.no_data != hit.no_data;
        (alert.fed_at, alert.restored, alert.no_data) = (now, false, hit.no_data);
        alert.value = value;
        alert.keep_firing_since = None;
        let worse = if self.lower_is_worse {
            value < alert.peak
        } else {
            value > alert.peak
        };
        if worse || alert.peak.is_nan() {
            alert.peak = value;
        }
        let held = now.since(alert.active_at) >= rule.hold;
        match (alert.state, held) {
            (AlertState::Pending, true) => {
                alert.state = AlertState::Firing;
                alert.fired_at = Some(now);
                changed = true;
            }
            (AlertState::Firing, false) => {
                alert.state = AlertState::Pending;
                (alert.fired_at, alert.last_sent_at) = (None, None);
                changed = true;
            }
            _ => {}
        }
        changed
    }

    /// The alerts whose series is not there.
    fn absent(
        &mut self,
        rule: &AlertingRule,
        present: &BTreeMap<u64, Present<'_>>,
        now: Timestamp,
        context: &Context<'_>,
        (step, held): (&mut Step, HeldFn<'_>),
    ) {
        self.alerts.retain(|fingerprint, alert| {
            if present.contains_key(fingerprint) {
                return true;
            }
            if alert.state != AlertState::Inactive
                && stays(alert, rule, now, context, (step, &mut *held))
            {
                return true;
            }
            let forget = match alert.state {
                AlertState::Pending => {
                    step.decisions.push((
                        alert.outgoing_labels(context),
                        Stage::PendingEnded {
                            since: alert.active_at,
                        },
                    ));
                    true
                }
                AlertState::Inactive => alert
                    .resolved_at
                    .is_none_or(|at| now.since(at) > RESOLVED_RETENTION),
                AlertState::Firing => {
                    let fresh = alert.keep_firing_since.is_none();
                    let since = *alert.keep_firing_since.get_or_insert(now);
                    if now.since(since) >= rule.keep_firing_for {
                        alert.state = AlertState::Inactive;
                        alert.resolved_at = Some(now);
                        step.changed.push(*fingerprint);
                    } else if fresh {
                        step.changed.push(*fingerprint);
                    }
                    false
                }
            };
            if forget {
                step.gone.push(*fingerprint);
            }
            !forget
        });
    }

    /// Collects the alerts that are due to be sent.
    fn hand_on(
        &mut self,
        rule: &AlertingRule,
        now: Timestamp,
        context: &Context<'_>,
        step: &mut Step,
    ) {
        let due: Vec<u64> = self
            .alerts
            .iter()
            .filter(|(_, alert)| alert.is_due(now, context.resend_delay))
            .map(|(fingerprint, _)| *fingerprint)
            .collect();
        for fingerprint in due {
            let Some(alert) = self.alerts.get_mut(&fingerprint) else {
                continue;
            };
            alert.last_sent_at = Some(now);
            step.alerts
                .push(alert.to_model(now, context, &rule.expr_text));
            step.changed.push(fingerprint);
        }
    }
}

/// The texts of labels or annotations. One that cannot be read becomes its error's text.
fn texts<'a>(rule: &'a AlertingRule, set: &'a Labels) -> Vec<(&'a str, RuleText<'a>)> {
    set.iter()
        .map(|(name, text)| (name, RuleText::new(&rule.name, text)))
        .collect()
}

fn expand(
    texts: &[(&str, RuleText<'_>)],
    sample: &VectorSample,
    now: Timestamp,
    context: &Context<'_>,
) -> Labels {
    let data = data(sample, now, context);
    let mut out = LabelsBuilder::new();
    for (name, text) in texts {
        out.set(name, &text.expand(&data));
    }
    out.build()
}

/// Whether an alert without a result stays as it is, because something holds it; notes when that
/// begins and ends.
fn stays(
    alert: &mut ActiveAlert,
    rule: &AlertingRule,
    now: Timestamp,
    context: &Context<'_>,
    (step, held): (&mut Step, HeldFn<'_>),
) -> bool {
    let before = alert.held.take();
    alert.held = held(alert, before.as_deref()).map(Box::new);
    let since = |held: &Option<Box<Held>>| held.as_ref().map(|held| (held.why, held.since));
    let changed = since(&before) != since(&alert.held);
    if changed {
        step.changed.push(alert.labels.fingerprint());
    }
    let Some(held) = &alert.held else {
        if let Some(before) = before {
            step.decisions.push((
                alert.outgoing_labels(context),
                Stage::HoldEnded {
                    since: before.since,
                },
            ));
        }
        return false;
    };
    if held.why == HeldBy::Recovery {
        // Its input is there, and it is not on its way out.
        alert.fed_at = now;
        alert.keep_firing_since = None;
    }
    if changed && let Some(stage) = alert.held_stage(rule) {
        step.decisions.push((alert.outgoing_labels(context), stage));
    }
    true
}

fn data<'a>(sample: &'a VectorSample, now: Timestamp, context: &Context<'a>) -> RuleData<'a> {
    RuleData {
        labels: &sample.labels,
        external_labels: context.external_labels,
        external_url: context.external_url,
        value: sample.value,
        histogram: sample.histogram.as_deref(),
        now,
        query: context.query,
    }
}
