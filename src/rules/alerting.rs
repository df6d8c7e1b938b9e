//! Alerting rules: inactive, pending, firing, resolved. One pure step per evaluation
//! (<https://prometheus.io/docs/prometheus/latest/configuration/alerting_rules/>).
//!
//! Where Prometheus would lose an alert, this keeps it: an error, or more alerts than the limit, leaves every alert as it was.

use std::collections::BTreeMap;
use std::time::Duration;

use super::AlertingRule;
use super::active::{ActiveAlert, AlertState};
use crate::model::{Alert, Labels, LabelsBuilder, METRIC_NAME, Stage, Timestamp};
use crate::promql::Expr;
use crate::promql::ast::BinaryOp;
use crate::template::{Query, RuleData, Template};

/// How long a resolved alert is kept, so that its end is told again.
const RESOLVED_RETENTION: Duration = Duration::from_secs(15 * 60);

/// What a step needs besides the rule: the same for all rules of a group.
pub struct Context<'a> {
    /// Most alerts; 0: no limit.
    pub limit: usize,
    /// How long until an alert that still fires is handed on again.
    pub resend_delay: Duration,
    /// Labels added to what is handed on, where the alert lacks them.
    pub external_labels: &'a Labels,
    /// Where this instance's pages are.
    pub external_url: &'a str,
    /// Answers `query` in templates.
    pub query: &'a Query,
}

/// The alerts of one rule, and its templates, read once.
pub struct AlertingState {
    alerts: BTreeMap<u64, ActiveAlert>,
    labels: Vec<(String, Template)>,
    annotations: Vec<(String, Template)>,
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
    /// Alerts that began to be pending, and those that ended before they fired, with the instant they began.
    pub pending: Vec<(Labels, Stage)>,
}

impl AlertingState {
    /// A rule without alerts. A template that cannot be read becomes its error's text.
    pub fn new(rule: &AlertingRule) -> Self {
        let read = |set: &Labels| -> Vec<(String, Template)> {
            set.iter().map(|(name, text)| (name.to_owned(), Template::rule_or_error(&rule.name, text))).collect()
        };
        let mut top = &rule.expr;
        while let Expr::Paren(inner) = top {
            top = &inner.expr;
        }
        let lower_is_worse = matches!(top, Expr::Binary(b) if matches!(b.op, BinaryOp::Less | BinaryOp::LessOrEqual));
        AlertingState { alerts: BTreeMap::new(), labels: read(&rule.labels), annotations: read(&rule.annotations), lower_is_worse }
    }

    /// The alerts, by fingerprint of their labels; resolved ones included for a while.
    pub fn alerts(&self) -> impl Iterator<Item = &ActiveAlert> {
        self.alerts.values()
    }

    /// The alert with this fingerprint.
    pub fn alert(&self, fingerprint: u64) -> Option<&ActiveAlert> {
        self.alerts.get(&fingerprint)
    }

    /// Takes over an alert from before a restart or a reload.
    pub fn adopt(&mut self, alert: ActiveAlert) {
        self.alerts.insert(alert.labels.fingerprint(), alert);
    }

    /// Gives up all alerts.
    pub fn take(&mut self) -> Vec<ActiveAlert> {
        std::mem::take(&mut self.alerts).into_values().collect()
    }

    /// Judges the result of the rule's expression at `now`. When it errs, nothing has changed.
    pub fn step(&mut self, rule: &AlertingRule, hits: &[(Labels, f64)], now: Timestamp, context: &Context<'_>) -> Result<Step, String> {
        let mut step = Step::default();
        if hits.is_empty() && self.alerts.is_empty() {
            return Ok(step);
        }
        let present = self.present(rule, hits, now, context)?;
        for (fingerprint, (labels, source, value)) in &present {
            let alert = match self.alerts.remove(fingerprint) {
                Some(alert) if alert.state != AlertState::Inactive => alert,
                _ => ActiveAlert::new(labels.clone(), self.expand(&self.annotations, source, *value, now, context), *value, now),
            };
            let (alert, changed) = self.seen(alert, rule, *value, now);
            if changed {
                step.changed.push(*fingerprint);
            }
            if alert.state == AlertState::Pending && alert.active_at == now {
                step.pending.push((alert.outgoing_labels(context), Stage::Pending { since: now, hold: rule.hold }));
            }
            self.alerts.insert(*fingerprint, alert);
        }
        self.absent(rule, &present, now, context, &mut step);
        self.hand_on(&present, rule, now, context, &mut step);
        step.changed.sort_unstable();
        step.changed.dedup();
        Ok(step)
    }

    /// The final labels of every hit; errs when two are equal or there are more alerts than allowed.
    fn present<'h>(
        &self,
        rule: &AlertingRule,
        hits: &'h [(Labels, f64)],
        now: Timestamp,
        context: &Context<'_>,
    ) -> Result<BTreeMap<u64, (Labels, &'h Labels, f64)>, String> {
        let mut present = BTreeMap::new();
        for (source, value) in hits {
            let mut labels = source.without_name().to_builder();
            let data = data(source, *value, now, context);
            for (name, template) in &self.labels {
                // An empty text removes the sample's own label.
                labels.set(name, &template.expand(&data));
            }
            let labels = labels.remove(METRIC_NAME).set("alertname", &rule.name).build();
            if present.insert(labels.fingerprint(), (labels, source, *value)).is_some() {
                return Err("vector contains metrics with the same labelset after applying alert labels".into());
            }
        }
        let held = self
            .alerts
            .iter()
            .filter(|(key, alert)| !present.contains_key(key) && alert.state == AlertState::Firing && !rule.keep_firing_for.is_zero());
        let count = present.len() + held.count();
        if context.limit > 0 && count > context.limit {
            return Err(format!("exceeded limit of {} with {count} alerts", context.limit));
        }
        Ok(present)
    }

    fn expand(&self, set: &[(String, Template)], source: &Labels, value: f64, now: Timestamp, context: &Context<'_>) -> Labels {
        let data = data(source, value, now, context);
        let mut out = LabelsBuilder::new();
        for (name, template) in set {
            out.set(name, &template.expand(&data));
        }
        out.build()
    }

    /// One alert whose series is there. Tells whether anything about it changed.
    fn seen(&self, mut alert: ActiveAlert, rule: &AlertingRule, value: f64, now: Timestamp) -> (ActiveAlert, bool) {
        let mut changed = alert.last_seen.is_none() || alert.value.to_bits() != value.to_bits() || alert.keep_firing_since.is_some();
        alert.last_seen = Some(now);
        alert.value = value;
        alert.keep_firing_since = None;
        let worse = if self.lower_is_worse { value < alert.peak } else { value > alert.peak };
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
        (alert, changed)
    }

    /// The alerts whose series is not there.
    fn absent(
        &mut self,
        rule: &AlertingRule,
        present: &BTreeMap<u64, (Labels, &Labels, f64)>,
        now: Timestamp,
        context: &Context<'_>,
        step: &mut Step,
    ) {
        self.alerts.retain(|fingerprint, alert| {
            if present.contains_key(fingerprint) {
                return true;
            }
            let forget = match alert.state {
                AlertState::Pending => {
                    step.pending.push((alert.outgoing_labels(context), Stage::PendingEnded { since: alert.active_at }));
                    true
                }
                AlertState::Inactive => alert.resolved_at.is_none_or(|at| now.since(at) > RESOLVED_RETENTION),
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

    /// Collects the alerts that are due to be told, their annotations expanded anew.
    fn hand_on(
        &mut self,
        present: &BTreeMap<u64, (Labels, &Labels, f64)>,
        rule: &AlertingRule,
        now: Timestamp,
        context: &Context<'_>,
        step: &mut Step,
    ) {
        let due: Vec<u64> =
            self.alerts.iter().filter(|(_, alert)| alert.is_due(now, context.resend_delay)).map(|(fingerprint, _)| *fingerprint).collect();
        for fingerprint in due {
            let annotations =
                present.get(&fingerprint).map(|(_, source, value)| self.expand(&self.annotations, source, *value, now, context));
            let Some(alert) = self.alerts.get_mut(&fingerprint) else { continue };
            if let Some(annotations) = annotations {
                alert.annotations = annotations;
            }
            alert.last_sent_at = Some(now);
            step.alerts.push(alert.to_model(now, context, &rule.expr_text));
            step.changed.push(fingerprint);
        }
    }
}

fn data<'a>(labels: &'a Labels, value: f64, now: Timestamp, context: &Context<'a>) -> RuleData<'a> {
    RuleData { labels, external_labels: context.external_labels, external_url: context.external_url, value, now, query: context.query }
}
