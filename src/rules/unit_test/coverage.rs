//! What tests do not show: rules that no test makes fire, label sets that only ever wait, branches
//! of expressions that never decide.
//!
//! A branch is a comparison, or a set operator. Of each, both outcomes are looked for at every
//! instant of every test, with the values that the operands have there: a comparison holds and does
//! not hold; `and` and `unless` let pass and hold back; each side of `or` gives something. A
//! constant expression has no branch.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fmt::Write as _;

use crate::config::Position;
use crate::model::{Labels, Timestamp};
use crate::promql::syntax::ast::{Binary, BinaryOp};
use crate::promql::{Engine, Expr, Value, ValueType, deep};
use crate::rules::evaluate::active::AlertState;
use crate::rules::evaluate::group::{Group, RunningRule};
use crate::rules::{Rule, RuleGroup};
use crate::store::Store;

/// What all tests together show of all rules.
#[derive(Default)]
pub struct Coverage {
    rules: BTreeMap<(String, Position), Shown>,
}

/// What is known of one rule.
struct Shown {
    group: String,
    name: String,
    labels: Labels,
    is_alert: bool,
    fires: bool,
    /// Label sets of alerts: whether one fired, or only waited.
    alerts: BTreeMap<Labels, bool>,
    branches: Vec<Branch>,
}

/// A part of an expression whose result depends on the data.
struct Branch {
    expr: Binary,
    /// For each outcome, whether it was seen.
    seen: [bool; 2],
}

/// What is missing, as lines for people, and the sums.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gaps {
    /// Rules that fire, and all.
    pub rules: (usize, usize),
    /// Outcomes of branches that were seen, and all.
    pub outcomes: (usize, usize),
    /// One line for each gap, in the order of the files.
    pub lines: Vec<String>,
}

impl Coverage {
    /// Adds rules, so that those which no test evaluates are missed too.
    pub fn expect(&mut self, groups: &[RuleGroup]) {
        for group in groups {
            for rule in &group.rules {
                self.shown(group, rule);
            }
        }
    }

    fn shown(&mut self, group: &RuleGroup, rule: &Rule) -> &mut Shown {
        self.rules
            .entry((group.file.clone(), rule.position()))
            .or_insert_with(|| Shown::new(&group.name, rule))
    }

    /// Looks at rules that were just evaluated at `at`.
    pub fn observe(&mut self, groups: &[Group], engine: &Engine, store: &Store, at: Timestamp) {
        for group in groups {
            for rule in &group.rules {
                let evaluate = |expr: &Expr| {
                    engine
                        .instant(store, expr, at)
                        .ok()
                        .map(|evaluated| evaluated.value)
                };
                self.shown(&group.definition, &rule.rule)
                    .observe(rule, &evaluate);
            }
        }
    }

    /// What is missing.
    pub fn gaps(&self) -> Gaps {
        let mut gaps = Gaps {
            rules: (0, self.rules.len()),
            outcomes: (0, 0),
            lines: Vec::new(),
        };
        for ((file, position), rule) in &self.rules {
            let place = format!("{file}:{position}: {rule}");
            gaps.rules.0 += usize::from(rule.fires);
            gaps.outcomes.1 += rule.branches.len() * 2;
            gaps.outcomes.0 += rule
                .branches
                .iter()
                .flat_map(|b| b.seen)
                .filter(|seen| *seen)
                .count();
            if !rule.fires {
                let word = if rule.is_alert {
                    "no test makes it fire"
                } else {
                    "no test makes it give a sample"
                };
                gaps.lines.push(format!("{place}: {word}"));
            }
            for (labels, _) in rule
                .alerts
                .iter()
                .filter(|(_, fired)| rule.fires && !**fired)
            {
                gaps.lines.push(format!(
                    "{place}: {} is pending, and never fires",
                    labels.braced()
                ));
            }
            for branch in &rule.branches {
                let missing = branch
                    .outcomes()
                    .into_iter()
                    .zip(branch.seen)
                    .filter(|(_, seen)| !seen);
                gaps.lines.extend(missing.map(|(outcome, _)| {
                    format!("{place}: {}: {outcome}", Expr::Binary(branch.expr.clone()))
                }));
            }
        }
        gaps
    }
}

impl fmt::Display for Gaps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::new();
        for line in &self.lines {
            let _ = writeln!(text, "    {line}");
        }
        let ((fire, rules), (seen, outcomes)) = (self.rules, self.outcomes);
        writeln!(
            f,
            "  COVERAGE: {fire} of {rules} rules fire, {seen} of {outcomes} outcomes of branches are tested"
        )?;
        f.write_str(&text)
    }
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let labels = if self.labels.is_empty() {
            String::new()
        } else {
            self.labels.braced()
        };
        write!(
            f,
            "group {:?}, {} {}{labels}",
            self.group,
            if self.is_alert { "alert" } else { "record" },
            self.name
        )
    }
}

impl Shown {
    fn new(group: &str, rule: &Rule) -> Self {
        let mut branches = Vec::new();
        collect(rule.expr(), &mut branches);
        Shown {
            group: group.to_owned(),
            name: rule.name().to_owned(),
            labels: rule.labels().clone(),
            is_alert: matches!(rule, Rule::Alerting(_)),
            fires: false,
            alerts: BTreeMap::new(),
            branches,
        }
    }

    fn observe(&mut self, rule: &RunningRule, evaluate: &impl Fn(&Expr) -> Option<Value>) {
        match &rule.alerting {
            Some(state) => {
                for alert in state
                    .alerts()
                    .filter(|alert| alert.state != AlertState::Inactive)
                {
                    let fires = alert.state == AlertState::Firing;
                    *self.alerts.entry(alert.labels.clone()).or_default() |= fires;
                    self.fires |= fires;
                }
            }
            None if !self.fires => {
                self.fires = evaluate(rule.rule.expr()).is_some_and(|value| count(&value) > 0)
            }
            None => {}
        }
        self.branches
            .iter_mut()
            .filter(|branch| branch.seen != [true; 2])
            .for_each(|branch| branch.observe(evaluate));
    }
}

/// The branches of an expression, outermost first.
fn collect(expr: &Expr, found: &mut Vec<Branch>) {
    if let Expr::Binary(binary) = expr {
        let is_constant = expr.value_type() == ValueType::Scalar && !selects(expr);
        if (binary.op.is_comparison() || binary.op.is_set()) && !is_constant {
            found.push(Branch {
                expr: binary.clone(),
                seen: [false; 2],
            });
        }
    }
    deep(|| {
        expr.children()
            .into_iter()
            .for_each(|child| collect(child, found))
    });
}

fn selects(expr: &Expr) -> bool {
    matches!(
        expr,
        Expr::VectorSelector(_) | Expr::MatrixSelector(_) | Expr::Call(_)
    ) || deep(|| expr.children().into_iter().any(selects))
}

impl Branch {
    /// What is said of an outcome that was not seen.
    fn outcomes(&self) -> [&'static str; 2] {
        match self.expr.op {
            BinaryOp::And => ["never lets anything pass", "never holds anything back"],
            BinaryOp::Unless => ["never lets anything pass", "never holds anything back"],
            BinaryOp::Or => [
                "the left side never gives anything",
                "the right side never gives anything that the left does not",
            ],
            _ => ["never holds", "never fails to hold"],
        }
    }

    fn observe(&mut self, evaluate: &impl Fn(&Expr) -> Option<Value>) {
        let Some(result) = evaluate(&Expr::Binary(self.expr.clone())) else {
            return;
        };
        let [first, second] = &mut self.seen;
        if self.expr.op.is_comparison()
            && (self.expr.return_bool || matches!(result, Value::Scalar(_)))
        {
            let values: BTreeSet<bool> = numbers(&result)
                .into_iter()
                .map(|value| value != 0.0)
                .collect();
            *first |= values.contains(&true);
            *second |= values.contains(&false);
            return;
        }
        let side = |expr: &Expr| evaluate(expr).map_or(0, |value| count(&value));
        let result = count(&result);
        // The side whose samples are compared: the vector, where the other one is a number.
        let left = if self.expr.lhs.value_type() == ValueType::Scalar {
            side(&self.expr.rhs)
        } else {
            side(&self.expr.lhs)
        };
        if self.expr.op == BinaryOp::Or {
            *first |= left > 0;
            *second |= result > left;
        } else {
            *first |= result > 0;
            *second |= result < left;
        }
    }
}

fn numbers(value: &Value) -> Vec<f64> {
    match value {
        Value::Scalar(value) => vec![*value],
        Value::Vector(samples) => samples.iter().map(|sample| sample.value).collect(),
        _ => Vec::new(),
    }
}

fn count(value: &Value) -> usize {
    match value {
        Value::Scalar(_) => 1,
        Value::Vector(samples) => samples.len(),
        _ => 0,
    }
}
