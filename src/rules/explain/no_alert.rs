//! Why a rule has no alert: no series, or a value on the right side of its threshold. Every number
//! comes from the engine, at the instant of the rule's own evaluation.

use std::collections::HashMap;

use crate::model::alert::stage::label_map;
use crate::model::{Labels, Matcher, Stage, Timestamp};
use crate::promql::syntax::ast::{Binary, BinaryOp, Matching, ValueType};
use crate::promql::{Expr, VectorSample, deep};
use crate::rules::backend::Backend;
use crate::rules::error::RuleError;
use crate::rules::evaluate::active::AlertState;
use crate::rules::evaluate::context::Context;
use crate::rules::evaluate::group::{Group, RunningRule, Settings};
use crate::rules::{AlertingRule, Rule};

/// How a rule stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Standing {
    /// Its group.
    pub group: String,
    /// Its file.
    pub file: String,
    /// Its expression.
    pub expression: String,
    /// The labels that it gives to every alert.
    pub labels: Labels,
    /// Its alerts that fire or are pending: labels as the alerting side knows them, and the stage
    /// of those that are pending or held.
    pub alerts: Vec<(Labels, Option<Stage>)>,
    /// Why it has no alert, if it has none.
    pub stage: Option<Stage>,
}

impl Group {
    /// How the rules called `name` stand whose alerts `matchers` may match: now, or at the instant
    /// `at` as far as samples tell.
    pub(in crate::rules) fn standings(
        &self,
        backend: &dyn Backend,
        name: &str,
        matchers: &[Matcher],
        at: Option<Timestamp>,
        settings: &Settings,
    ) -> Vec<Standing> {
        let standing = |running: &RunningRule| {
            let Rule::Alerting(rule) = &*running.rule else {
                return None;
            };
            if rule.name != name {
                return None;
            }
            let wanted = Wanted {
                rule,
                external: &settings.external_labels,
                matchers,
            };
            if !wanted.may_match() {
                return None;
            }
            let alerts = if at.is_none() {
                wanted.alerts(running, settings)
            } else {
                Vec::new()
            };
            let stage = alerts
                .is_empty()
                .then(|| match at.or(self.last_evaluation) {
                    None => Stage::NotEvaluated,
                    Some(_) if at.is_none() && running.health.last_error.is_some() => {
                        Stage::RuleFailing {
                            error: running.health.last_error.clone().unwrap_or_default(),
                        }
                    }
                    Some(instant) => wanted.explain(backend, instant - self.query_offset),
                });
            Some(Standing {
                group: self.definition.name.clone(),
                file: self.definition.file.clone(),
                expression: rule.expr_text.clone(),
                labels: wanted.labels(&Labels::empty()),
                alerts,
                stage,
            })
        };
        self.rules.iter().filter_map(standing).collect()
    }
}

/// The alerts that somebody asks about.
struct Wanted<'a> {
    rule: &'a AlertingRule,
    external: &'a Labels,
    matchers: &'a [Matcher],
}

impl Wanted<'_> {
    /// The labels of the alert that a series would raise, as far as they need no template.
    fn labels(&self, series: &Labels) -> Labels {
        let mut labels = series.without_name().to_builder();
        for (name, value) in self
            .external
            .iter()
            .filter(|(name, _)| series.get(name).is_none())
        {
            labels.set(name, value);
        }
        for (name, value) in self
            .rule
            .labels
            .iter()
            .filter(|(_, value)| !value.contains("{{"))
        {
            labels.set(name, value);
        }
        labels.set("alertname", &self.rule.name);
        labels.build()
    }

    fn is_template(&self, name: &str) -> bool {
        self.rule.labels.value(name).contains("{{")
    }

    /// Whether the rule's fixed labels leave the matchers a chance.
    fn may_match(&self) -> bool {
        let fixed = |name: &str| {
            name == "alertname" || (self.rule.labels.get(name).is_some() && !self.is_template(name))
        };
        let labels = self.labels(&Labels::empty());
        self.matchers
            .iter()
            .filter(|m| fixed(&m.name))
            .all(|m| m.matches_labels(&labels))
    }

    fn matches(&self, series: &Labels) -> bool {
        let labels = self.labels(series);
        self.matchers
            .iter()
            .filter(|m| !self.is_template(&m.name))
            .all(|m| m.matches_labels(&labels))
    }

    fn alerts(&self, running: &RunningRule, settings: &Settings) -> Vec<(Labels, Option<Stage>)> {
        let query: crate::template::Query = std::sync::Arc::new(|_| Ok(Vec::new()));
        let context = Context {
            limit: 0,
            resend_delay: settings.resend_delay,
            external_labels: &settings.external_labels,
            external_url: &settings.external_url,
            query: &query,
            shipped: false,
            hold_gaps: settings.hold_gaps,
        };
        let active = running
            .alerting
            .iter()
            .flat_map(|state| state.alerts())
            .filter(|alert| alert.state != AlertState::Inactive);
        let shown = active.map(|alert| {
            let pending = || Stage::Pending {
                since: alert.active_at,
                hold: self.rule.hold,
            };
            let stage = alert
                .held_stage(self.rule)
                .or_else(|| (alert.state == AlertState::Pending).then(pending));
            (alert.outgoing_labels(&context), stage)
        });
        shown
            .filter(|(labels, _)| self.matchers.iter().all(|m| m.matches_labels(labels)))
            .collect()
    }

    fn explain(&self, backend: &dyn Backend, at: Timestamp) -> Stage {
        match explain(&self.rule.expr, backend, at, &|labels| self.matches(labels)) {
            Ok(Some(stage)) => stage,
            // The condition holds at an instant that the rule has not judged yet.
            Ok(None) => Stage::NotEvaluated,
            Err(error) => Stage::RuleFailing {
                error: error.to_string(),
            },
        }
    }
}

type Keep<'a> = &'a dyn Fn(&Labels) -> bool;

/// The first part of an expression because of which it has no result; `None` when it has one.
fn explain(
    expr: &Expr,
    backend: &dyn Backend,
    at: Timestamp,
    keep: Keep<'_>,
) -> Result<Option<Stage>, RuleError> {
    deep(|| explain_node(expr, backend, at, keep))
}

fn explain_node(
    expr: &Expr,
    backend: &dyn Backend,
    at: Timestamp,
    keep: Keep<'_>,
) -> Result<Option<Stage>, RuleError> {
    let expr = expr.without_parens();
    match expr {
        Expr::Binary(binary) if binary.op.is_comparison() && !binary.return_bool => {
            compare(binary, backend, at, keep)
        }
        Expr::Binary(binary) if binary.op.is_set() => {
            let left = explain(&binary.lhs, backend, at, keep)?;
            let right = || explain(&binary.rhs, backend, at, &|_| true);
            match (binary.op, left) {
                (BinaryOp::Or, Some(left)) => {
                    Ok(explain(&binary.rhs, backend, at, keep)?.map(|_| left))
                }
                (BinaryOp::Or, None) => Ok(None),
                (_, Some(left)) => Ok(Some(left)),
                (BinaryOp::And, None) => Ok(right()?.or(meets(expr, backend, at, keep)?)),
                (_, None) => meets(expr, backend, at, keep),
            }
        }
        _ => {
            let found = backend.query(expr, at)?;
            let is_absent = |e: &Expr| matches!(e, Expr::Call(call) if call.function.name.starts_with("absent"));
            Ok(match found.iter().any(|hit| keep(&hit.labels)) {
                true => None,
                false if is_absent(expr) => Some(Stage::ConditionFalse {
                    expression: expr.to_string(),
                }),
                false => Some(Stage::NoSeries {
                    expression: expr.to_string(),
                }),
            })
        }
    }
}

/// Two sides that each have a result, but not for the same labels.
fn meets(
    expr: &Expr,
    backend: &dyn Backend,
    at: Timestamp,
    keep: Keep<'_>,
) -> Result<Option<Stage>, RuleError> {
    let found = backend.query(expr, at)?.iter().any(|hit| keep(&hit.labels));
    Ok((!found).then(|| Stage::ConditionFalse {
        expression: expr.to_string(),
    }))
}

/// The series of a comparison that is nearest to its threshold.
fn compare(
    binary: &Binary,
    backend: &dyn Backend,
    at: Timestamp,
    keep: Keep<'_>,
) -> Result<Option<Stage>, RuleError> {
    // `90 < x` asks the same as `x > 90`.
    let turned = binary.lhs.value_type() == ValueType::Scalar;
    let (values, limit) = if turned {
        (&binary.rhs, &binary.lhs)
    } else {
        (&binary.lhs, &binary.rhs)
    };
    let operator = if turned { turn(binary.op) } else { binary.op };
    let found = backend.query(values, at)?;
    // A native histogram is not compared with a limit.
    let kept: Vec<VectorSample> = found
        .into_iter()
        .filter(|hit| hit.histogram.is_none() && keep(&hit.labels))
        .collect();
    if kept.is_empty() {
        let inner = explain(values, backend, at, keep)?;
        return Ok(Some(inner.unwrap_or_else(|| Stage::NoSeries {
            expression: values.to_string(),
        })));
    }
    let limits: HashMap<Labels, f64> = backend
        .query(limit, at)?
        .into_iter()
        .map(|hit| (signature(&hit.labels, binary.matching.as_ref()), hit.value))
        .collect();
    let pairs: Vec<(&Labels, f64, f64)> = kept
        .iter()
        .filter_map(|hit| {
            Some((
                &hit.labels,
                hit.value,
                *limits.get(&signature(&hit.labels, binary.matching.as_ref()))?,
            ))
        })
        .collect();
    if pairs
        .iter()
        .any(|(_, value, limit)| holds(operator, *value, *limit))
    {
        return Ok(None);
    }
    let nearest = pairs
        .iter()
        .min_by(|a, b| (a.1 - a.2).abs().total_cmp(&(b.1 - b.2).abs()));
    Ok(Some(match nearest {
        None => Stage::NoSeries {
            expression: limit.to_string(),
        },
        Some((labels, value, limit)) => Stage::BelowThreshold {
            value: *value,
            operator: operator.as_str().to_owned(),
            threshold: *limit,
            by: (value - limit).abs(),
            series: label_map(&labels.without_name()),
            compared: pairs.len(),
        },
    }))
}

/// What must be equal for a series to meet its limit; a scalar meets all.
fn signature(labels: &Labels, matching: Option<&Matching>) -> Labels {
    match matching {
        None => Labels::empty(),
        Some(m) => labels
            .without_name()
            .filtered(|name| m.labels.iter().any(|l| l == name) == m.on),
    }
}

fn turn(op: BinaryOp) -> BinaryOp {
    match op {
        BinaryOp::Less => BinaryOp::Greater,
        BinaryOp::LessOrEqual => BinaryOp::GreaterOrEqual,
        BinaryOp::Greater => BinaryOp::Less,
        BinaryOp::GreaterOrEqual => BinaryOp::LessOrEqual,
        other => other,
    }
}

fn holds(op: BinaryOp, value: f64, limit: f64) -> bool {
    match op {
        BinaryOp::Equal => value == limit,
        BinaryOp::NotEqual => value != limit,
        BinaryOp::Less => value < limit,
        BinaryOp::LessOrEqual => value <= limit,
        BinaryOp::Greater => value > limit,
        BinaryOp::GreaterOrEqual => value >= limit,
        _ => false,
    }
}
