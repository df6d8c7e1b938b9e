//! Recording and alerting rules: their definitions, and reading them from rule files.
//!
//! A definition is immutable. State and health live with the group that evaluates it.

pub mod backend;
pub mod backtest;
pub mod error;
pub mod evaluate;
pub mod explain;
pub mod file;
mod metrics;
pub mod print;
pub mod scheduler;
pub mod snapshot;
pub mod threshold;
pub mod unit_test;

use std::collections::BTreeMap;
use std::time::Duration;

use crate::config::Position;
use crate::model::Labels;
use crate::promql::Expr;
use crate::promql::syntax::ast::VectorSelector;

/// A group of rules, evaluated one after another at the same instants.
#[derive(Clone, Debug, PartialEq)]
pub struct RuleGroup {
    /// Unique within its file.
    pub name: String,
    /// The file it stands in, as the configuration named it.
    pub file: String,
    /// Time between evaluations; `None`: the global `evaluation_interval`.
    pub interval: Option<Duration>,
    /// How far before the evaluation time queries look; `None`: the global `rule_query_offset`.
    pub query_offset: Option<Duration>,
    /// Most series or alerts one rule may produce; 0: no limit.
    pub limit: usize,
    /// Labels of the group, already merged under the labels of its rules.
    pub labels: Labels,
    /// Whether it is one of nightbell's own.
    pub shipped: bool,
    /// The rules that a profile wants, by name, with what each stands for.
    pub wanted: BTreeMap<String, Wanted>,
    /// The rules, in file order.
    pub rules: Vec<Rule>,
}

/// What a profile wants of a rule: a row of its application's demands, of which any one alert will
/// do.
#[derive(Clone, Debug, PartialEq)]
pub struct Wanted {
    /// The row and the profile: `T2 of intent`.
    pub row: String,
    /// The alerts that can be it.
    pub alerts: Vec<String>,
}

/// A rule: one of two kinds.
#[derive(Clone, Debug, PartialEq)]
pub enum Rule {
    /// Writes the value of an expression as new series.
    Recording(RecordingRule),
    /// Raises an alert for every series of an expression.
    Alerting(AlertingRule),
}

/// A rule that writes the value of an expression as new series.
#[derive(Clone, Debug, PartialEq)]
pub struct RecordingRule {
    /// Metric name of the series it writes.
    pub name: String,
    /// The expression.
    pub expr: Expr,
    /// The expression as Prometheus prints it.
    pub expr_text: String,
    /// Labels that replace those of the result; an empty one takes it away. The group's included.
    pub labels: Labels,
    /// Where it stands in its file.
    pub position: Position,
    /// Where its selectors stand, in the order of [`Rule::selectors`].
    pub selectors: Vec<Position>,
}

/// A rule that raises an alert for every series of an expression.
#[derive(Clone, Debug, PartialEq)]
pub struct AlertingRule {
    /// The value of `alertname`.
    pub name: String,
    /// The expression.
    pub expr: Expr,
    /// The expression as Prometheus prints it.
    pub expr_text: String,
    /// How long the expression must hold before the alert fires (`for`).
    pub hold: Duration,
    /// How long the alert goes on firing after the expression ceased to hold.
    pub keep_firing_for: Duration,
    /// When the alert has recovered, as soon as the expression holds no longer; `None`: at once.
    pub recover_expr: Option<Box<Expr>>,
    /// What becomes of alerts whose input is missing; `None`: they stay as they are while their
    /// target fails or is not collected.
    pub no_data: Option<NoData>,
    /// Labels added to the alert, templates not yet expanded; an empty one takes the result's away.
    /// The group's included.
    pub labels: Labels,
    /// Annotations, templates not yet expanded.
    pub annotations: Labels,
    /// Where it stands in its file.
    pub position: Position,
    /// Where its selectors stand, in the order of [`Rule::selectors`].
    pub selectors: Vec<Position>,
}

/// What `no_data` says of missing input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoData {
    /// An alert stays as it is until its input is back, whatever the reason.
    Hold,
    /// A selector that finds nothing raises the alert.
    Alert,
    /// An alert ends as it does in Prometheus.
    Resolve,
}

impl NoData {
    /// Every value that there is.
    pub const ALL: [NoData; 3] = [NoData::Hold, NoData::Alert, NoData::Resolve];

    /// The word in rule files.
    pub fn as_str(self) -> &'static str {
        match self {
            NoData::Hold => "hold",
            NoData::Alert => "alert",
            NoData::Resolve => "resolve",
        }
    }
}

impl Rule {
    /// The value of `record` or `alert`.
    pub fn name(&self) -> &str {
        match self {
            Rule::Recording(rule) => &rule.name,
            Rule::Alerting(rule) => &rule.name,
        }
    }

    /// The expression.
    pub fn expr(&self) -> &Expr {
        match self {
            Rule::Recording(rule) => &rule.expr,
            Rule::Alerting(rule) => &rule.expr,
        }
    }

    /// The expression as written.
    pub fn expr_text(&self) -> &str {
        match self {
            Rule::Recording(rule) => &rule.expr_text,
            Rule::Alerting(rule) => &rule.expr_text,
        }
    }

    /// Whether it does the same as `other`; where it stands does not count.
    pub fn is_same(&self, other: &Rule) -> bool {
        match (self, other) {
            (Rule::Recording(a), Rule::Recording(b)) => {
                (&a.name, &a.expr_text, &a.labels) == (&b.name, &b.expr_text, &b.labels)
            }
            (Rule::Alerting(a), Rule::Alerting(b)) => {
                let recovery =
                    |rule: &AlertingRule| rule.recover_expr.as_ref().map(ToString::to_string);
                (
                    &a.name,
                    &a.expr_text,
                    &a.labels,
                    &a.annotations,
                    a.hold,
                    a.keep_firing_for,
                    a.no_data,
                ) == (
                    &b.name,
                    &b.expr_text,
                    &b.labels,
                    &b.annotations,
                    b.hold,
                    b.keep_firing_for,
                    b.no_data,
                ) && recovery(a) == recovery(b)
            }
            _ => false,
        }
    }

    /// Whether it is evaluated as soon as samples arrive, not only at its slots: a critical alert
    /// that is to fire at once (`for: 0`).
    pub fn is_urgent(&self) -> bool {
        matches!(self, Rule::Alerting(rule) if rule.hold.is_zero() && rule.labels.value("severity") == "critical")
    }

    /// Its labels, the group's included.
    pub fn labels(&self) -> &Labels {
        match self {
            Rule::Recording(rule) => &rule.labels,
            Rule::Alerting(rule) => &rule.labels,
        }
    }

    /// The selectors of its expression, then those of `recover_expr`, each with its place in the
    /// file.
    pub fn selectors(&self) -> Vec<(&VectorSelector, Position)> {
        let (recovery, places) = match self {
            Rule::Recording(rule) => (None, &rule.selectors),
            Rule::Alerting(rule) => (rule.recover_expr.as_deref(), &rule.selectors),
        };
        let selectors = self
            .expr()
            .selectors()
            .into_iter()
            .chain(recovery.into_iter().flat_map(Expr::selectors));
        let places = places
            .iter()
            .copied()
            .chain(std::iter::repeat(self.position()));
        selectors.zip(places).collect()
    }

    /// Where it stands in its file.
    pub fn position(&self) -> Position {
        match self {
            Rule::Recording(rule) => rule.position,
            Rule::Alerting(rule) => rule.position,
        }
    }
}
