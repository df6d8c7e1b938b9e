//! What others may see of the rules: the shape of Prometheus's `/api/v1/rules` and
//! `/api/v1/alerts`, as values.

use std::time::Duration;

use super::evaluate::active::{ActiveAlert, AlertState};
use super::evaluate::group::{Group, Health, RunningRule};
use super::{NoData, Rule};
use crate::model::{Labels, Timestamp};

/// A group and its rules.
#[derive(Clone, Debug, PartialEq)]
pub struct GroupSnapshot {
    /// Its name.
    pub name: String,
    /// Its file.
    pub file: String,
    /// Time between evaluations.
    pub interval: Duration,
    /// How far before the evaluation time queries look.
    pub query_offset: Duration,
    /// Most series or alerts of a rule; 0: no limit.
    pub limit: usize,
    /// How long the last evaluation took.
    pub evaluation_time: Duration,
    /// When it was.
    pub last_evaluation: Option<Timestamp>,
    /// The rules, in order.
    pub rules: Vec<RuleSnapshot>,
}

/// A rule.
#[derive(Clone, Debug, PartialEq)]
pub struct RuleSnapshot {
    /// The value of `record` or `alert`.
    pub name: String,
    /// The expression in its canonical form.
    pub query: String,
    /// Its labels, templates not expanded.
    pub labels: Labels,
    /// How its last evaluation went.
    pub health: Health,
    /// What only an alerting rule has.
    pub alerting: Option<AlertingSnapshot>,
}

/// What only an alerting rule has.
#[derive(Clone, Debug, PartialEq)]
pub struct AlertingSnapshot {
    /// The highest state of its alerts; `None` before the first evaluation.
    pub state: Option<AlertState>,
    /// How long the expression must hold.
    pub hold: Duration,
    /// How long it goes on firing.
    pub keep_firing_for: Duration,
    /// When the alert has recovered (`recover_expr`).
    pub recover_query: Option<String>,
    /// What the rule says of missing input.
    pub no_data: Option<NoData>,
    /// Annotations, templates not expanded.
    pub annotations: Labels,
    /// Pending and firing alerts.
    pub alerts: Vec<ActiveAlert>,
}

impl GroupSnapshot {
    pub(super) fn new(group: &Group) -> Self {
        GroupSnapshot {
            name: group.definition.name.clone(),
            file: group.definition.file.clone(),
            interval: group.interval,
            query_offset: group.query_offset,
            limit: group.definition.limit,
            evaluation_time: group.evaluation_time,
            last_evaluation: group.last_evaluation,
            rules: group.rules.iter().map(RuleSnapshot::new).collect(),
        }
    }
}

impl RuleSnapshot {
    fn new(running: &RunningRule) -> Self {
        let alerting = match (&*running.rule, &running.alerting) {
            (Rule::Alerting(rule), Some(state)) => Some(AlertingSnapshot {
                state: running.state(),
                hold: rule.hold,
                keep_firing_for: rule.keep_firing_for,
                recover_query: rule.recover_expr.as_ref().map(ToString::to_string),
                no_data: rule.no_data,
                annotations: rule.annotations.clone(),
                alerts: state
                    .alerts()
                    .filter(|alert| alert.state != AlertState::Inactive)
                    .cloned()
                    .collect(),
            }),
            _ => None,
        };
        RuleSnapshot {
            name: running.rule.name().to_owned(),
            query: running.rule.expr_text().to_owned(),
            labels: running.rule.labels().clone(),
            health: running.health.clone(),
            alerting,
        }
    }
}
