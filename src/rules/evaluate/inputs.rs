//! What feeds an alert whose expression has no result for it any longer: has the condition ended,
//! is the input missing, or is the alert still to recover (`recover_expr`)?
//!
//! The input of an alert is every series that a selector of its expression finds, unless a label
//! that both have differs from the result's. Missing is a series that was there at the last
//! evaluation that had all it needs and is not there now. Whether that is a gap says the series
//! `up` of its target: 0, the target fails (SEMANTICS 13); no sample and no stale marker, it is not
//! collected; a stale marker, the target was removed on purpose (SEMANTICS 15); 1, a healthy target
//! stopped exposing the series (SEMANTICS 12). The last two end an alert, as in Prometheus. A
//! collector whose target answers may fail in part, which it says of itself ([`PART_FAILS`]): what
//! that part measured is missing by a gap too. A series that names neither `job` nor `instance`, or
//! whose target never had `up`, belongs to no target.
//!
//! After a gap the input may come back in part: what a rate needs two samples of has one, and what
//! rules record comes later. An alert is held until then, for a lookback at most. Where other
//! series of the same metric and target are there, that metric has come back, or was never lost: a
//! series that is not among them has gone, as the sessions of a database that was restarted have.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use super::active::{ActiveAlert, AlertState, Held, HeldBy};
use crate::model::{LabelSets, Labels, METRIC_NAME, Timestamp};
use crate::promql::syntax::ast::{MatrixSelector, ValueType, VectorSelector};
use crate::promql::{Expr, VectorSample, deep, parse};
use crate::rules::backend::Backend;
use crate::rules::error::RuleError;
use crate::rules::{AlertingRule, NoData};

/// What collectors say of parts that they could not read; the first is of any collector, the others
/// are the exporters' own.
const PART_FAILS: &str = r#"{__name__=~"nightbell_collector_success|(node|pg)_scrape_collector_success"@} == 0
    or {__name__=~"(redis|pg)_exporter_last_scrape_error|vectorstore_last_scrape_error"@} == 1
    or {__name__="host_unreadable_lines"@} > 0"#;
/// How far an instant selector looks back.
const LOOKBACK: &str = "5m";
/// How long a target that is not collected is waited for: after a restart it may have been removed
/// from the configuration meanwhile.
const PATIENCE: Duration = Duration::from_secs(3600);
/// Most missing series that an alert remembers.
const MAX_MISSING: usize = 16;

/// Some series.
type SeriesSet = HashSet<Labels, ahash::RandomState>;

/// Functions that have no result for a series with one sample.
const OF_TWO_SAMPLES: [&str; 8] = [
    "rate",
    "irate",
    "increase",
    "delta",
    "idelta",
    "deriv",
    "predict_linear",
    "double_exponential_smoothing",
];

/// How a target stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Target {
    Healthy,
    /// Healthy now, failing within the lookback.
    Recovering,
    Failing,
    Removed,
    /// Nothing is heard of it.
    Silent,
}

/// The input of one rule at one evaluation.
pub(in crate::rules) struct Inputs<'a> {
    backend: &'a dyn Backend,
    rule: &'a AlertingRule,
    /// The instant of the samples, and of the evaluation.
    at: Timestamp,
    now: Timestamp,
    /// What the rule says of missing input, `None` where a gap holds an alert.
    no_data: Option<NoData>,
    /// What the selectors find now.
    found: Option<Vec<LabelSets>>,
    /// The same, to look one up.
    there: Option<SeriesSet>,
    /// What the expression read at the evaluation before this one. It is kept, not asked for again:
    /// the end of a series may come in late, with an instant that was judged already.
    before: Option<Vec<LabelSets>>,
    /// What it read before a restart, by instant, as far as history has it.
    then: BTreeMap<Timestamp, Vec<LabelSets>>,
    targets: HashMap<Labels, Target>,
    /// Targets with a part that fails.
    in_part: HashMap<Labels, bool>,
    /// Labels, without the name, of series with too few samples for the function that reads them.
    thin: Option<SeriesSet>,
    /// The labels for which the alert has recovered.
    recovered: Option<Result<Vec<Labels>, RuleError>>,
}

impl<'a> Inputs<'a> {
    /// `before`: what the expression read at the evaluation before this one; `hold_gaps`: whether a
    /// gap holds the alerts of a rule that says nothing about it.
    pub fn new(
        backend: &'a dyn Backend,
        rule: &'a AlertingRule,
        (at, now): (Timestamp, Timestamp),
        before: Option<Vec<LabelSets>>,
        hold_gaps: bool,
    ) -> Self {
        let no_data = rule.no_data.or((!hold_gaps).then_some(NoData::Resolve));
        Inputs {
            backend,
            rule,
            at,
            now,
            no_data,
            found: None,
            there: None,
            before,
            then: BTreeMap::new(),
            targets: HashMap::new(),
            in_part: HashMap::new(),
            thin: None,
            recovered: None,
        }
    }

    /// What keeps an alert without a result as it is; `None`: its condition has ended.
    pub fn held(&mut self, alert: &ActiveAlert, before: Option<&Held>) -> Option<Held> {
        // A no-data alert resolves when data returns.
        if alert.no_data {
            return None;
        }
        let since = |why: HeldBy, now: Timestamp| {
            before
                .filter(|held| held.why == why)
                .map_or(now, |held| held.since)
        };
        let watched_since = before
            .and_then(|held| held.watched_since)
            .unwrap_or(self.now);
        // An alert on its way out needs its input no more.
        if alert.keep_firing_since.is_none() {
            let missing = self.missing(alert, before);
            if !missing.is_empty() {
                let since = since(HeldBy::NoData, self.now);
                return Some(Held {
                    why: HeldBy::NoData,
                    since,
                    missing,
                    watched_since: Some(watched_since),
                });
            }
        }
        let waits = alert.state == AlertState::Firing
            && self.rule.recover_expr.is_some()
            && self.is_fed(alert)
            && !self.has_recovered(alert);
        let since = since(HeldBy::Recovery, self.now);
        waits.then(|| Held {
            why: HeldBy::Recovery,
            since,
            missing: Vec::new(),
            watched_since: None,
        })
    }

    /// Why `recover_expr` could not be evaluated.
    pub fn error(&self) -> Option<RuleError> {
        let error = self.recovered.as_ref()?.as_ref().err()?;
        Some(RuleError::Recovery(Box::new(error.clone())))
    }

    /// The series that an alert lacks, as far as they hold it.
    fn missing(&mut self, alert: &ActiveAlert, before: Option<&Held>) -> Vec<Labels> {
        if self.no_data == Some(NoData::Resolve) {
            return Vec::new();
        }
        let before = before.filter(|held| held.why == HeldBy::NoData);
        let mut missing = before.map_or_else(|| self.fed_by(alert), |held| held.missing.clone());
        let selectors = self.rule.expr.selectors();
        // The rule may have been changed meanwhile.
        let reads = |series: &Labels| {
            selectors
                .iter()
                .any(|s| s.matchers.iter().all(|m| m.matches_labels(series)))
        };
        missing.retain(|series| series.metric_name().is_empty() || reads(series));
        missing.retain(|series| {
            if self.is_there(series) {
                return self.is_thin(series);
            }
            self.no_data == Some(NoData::Hold) || self.is_gap(series, alert, before)
        });
        missing.sort_unstable();
        missing.dedup();
        missing.truncate(MAX_MISSING);
        missing
    }

    /// The input of an alert when it was last fed; when the history of that time is gone, no more
    /// than its target.
    fn fed_by(&mut self, alert: &ActiveAlert) -> Vec<Labels> {
        let at = self.then(alert);
        let known = self.before.clone().or_else(|| self.then.get(&at).cloned());
        let then = known.unwrap_or_else(|| {
            let read = self.read_at(at);
            self.then.insert(at, read.clone());
            read
        });
        let mut fed_by: Vec<Labels> = each(&then)
            .filter(|series| agree(series, &alert.source))
            .cloned()
            .collect();
        if fed_by.is_empty() && self.before.is_none() {
            // A collection that fails ends its series at the instant when it began, which an
            // evaluation meanwhile has passed.
            fed_by = each(&self.read_before(at))
                .filter(|series| agree(series, &alert.source))
                .cloned()
                .collect();
        }
        let target = target_of(&alert.source);
        if fed_by.is_empty() && alert.restored && target.len() == 2 {
            vec![target]
        } else {
            fed_by
        }
    }

    /// The instant of the samples that last fed an alert.
    fn then(&self, alert: &ActiveAlert) -> Timestamp {
        alert.fed_at - self.now.since(self.at)
    }

    /// Whether any of the alert's input is there.
    fn is_fed(&mut self, alert: &ActiveAlert) -> bool {
        self.rule.expr.selectors().is_empty()
            || each(self.series()).any(|series| agree(series, &alert.source))
    }

    /// The series that its selectors find now. What cannot be read is not known to be missing.
    fn series(&mut self) -> &[LabelSets] {
        self.found.get_or_insert_with(|| {
            let selectors = self.rule.expr.selectors().into_iter();
            selectors
                .filter_map(|selector| {
                    self.backend
                        .series(&Expr::VectorSelector(selector.clone()), self.at)
                        .ok()
                })
                .collect()
        })
    }

    /// What the expression reads now, for the next evaluation; `None` where nobody will ask.
    pub fn read_now(&mut self) -> Option<Vec<LabelSets>> {
        if self.no_data == Some(NoData::Resolve) {
            return None;
        }
        let mut reads = Vec::new();
        reach(&self.rule.expr, Duration::ZERO, &mut reads);
        let is_instant = reads.iter().all(|(_, range)| range.is_zero());
        Some(if is_instant {
            self.series().to_vec()
        } else {
            self.read_at(self.at)
        })
    }

    /// The series that the expression read at an instant: of a range, those that had ended within
    /// it too.
    fn read_at(&self, at: Timestamp) -> Vec<LabelSets> {
        let mut reads = Vec::new();
        reach(&self.rule.expr, Duration::ZERO, &mut reads);
        let read = reads.into_iter().filter_map(|(selector, range)| {
            let selector = selector.clone();
            if range.is_zero() {
                return self
                    .backend
                    .series(&Expr::VectorSelector(selector), at)
                    .ok();
            }
            let range = Expr::MatrixSelector(MatrixSelector {
                span: selector.span,
                selector,
                range,
            });
            self.series_of(&format!("last_over_time({range})"), at)
        });
        read.collect()
    }

    /// The series that its selectors would have found within the lookback before an instant, ended
    /// or not.
    fn read_before(&self, at: Timestamp) -> Vec<LabelSets> {
        let selectors = self.rule.expr.selectors().into_iter();
        let read = selectors.filter_map(|selector| {
            let selector = Expr::VectorSelector(selector.clone());
            self.series_of(&format!("last_over_time({selector}[{LOOKBACK}])"), at)
        });
        read.collect()
    }

    fn series_of(&self, text: &str, at: Timestamp) -> Option<LabelSets> {
        self.backend.series(&parse(text).ok()?, at).ok()
    }

    fn is_there(&mut self, series: &Labels) -> bool {
        if series.metric_name().is_empty() {
            return self.target(series) == Target::Healthy;
        }
        if self.there.is_none() {
            self.there = Some(each(self.series()).cloned().collect());
        }
        self.there
            .as_ref()
            .is_some_and(|there| there.contains(series))
    }

    /// Whether a series that is there has too few samples for the function that reads it.
    fn is_thin(&mut self, series: &Labels) -> bool {
        let thin = self.thin.get_or_insert_with(|| {
            let mut ranges = Vec::new();
            of_two_samples(&self.rule.expr, &mut ranges);
            let counted = ranges.iter().filter_map(|range| {
                self.backend
                    .query_text(&format!("count_over_time({range})"), self.at)
                    .ok()
            });
            counted
                .flatten()
                .filter(|counted| counted.value < 2.0)
                .map(|counted| counted.labels)
                .collect()
        });
        !thin.is_empty() && thin.contains(&series.without_name())
    }

    /// Whether the target of a missing series fails or is not collected.
    fn is_gap(&mut self, series: &Labels, alert: &ActiveAlert, before: Option<&Held>) -> bool {
        let target = target_of(series);
        if target.is_empty() {
            return false;
        }
        match self.target(&target) {
            Target::Removed => false,
            Target::Healthy => self.fails_in_part(&target) && !self.has_siblings(series),
            Target::Recovering => before.is_some() && !self.has_siblings(series),
            Target::Failing => !self.has_siblings(series),
            Target::Silent => {
                let watched_since = before
                    .and_then(|held| held.watched_since)
                    .unwrap_or(self.now);
                let was_target = before.is_some()
                    || series.metric_name().is_empty()
                    || self.was_collected(&target, self.then(alert));
                was_target && self.now.since(watched_since) <= PATIENCE
            }
        }
    }

    /// Whether other series of its metric and target are there.
    fn has_siblings(&mut self, series: &Labels) -> bool {
        let (name, target) = (series.metric_name(), target_of(series));
        !name.is_empty()
            && each(self.series())
                .any(|other| other.metric_name() == name && target_of(other) == target)
    }

    fn fails_in_part(&mut self, target: &Labels) -> bool {
        if let Some(known) = self.in_part.get(target) {
            return *known;
        }
        let labels = target.braced();
        let wanted = format!(", {}", labels.trim_start_matches('{').trim_end_matches('}'));
        let fails = self
            .backend
            .query_text(&PART_FAILS.replace('@', &wanted), self.at)
            .is_ok_and(|found| !found.is_empty());
        self.in_part.insert(target.clone(), fails);
        fails
    }

    fn was_collected(&self, target: &Labels, at: Timestamp) -> bool {
        self.backend
            .query_text(&format!("up{}", target.braced()), at)
            .is_ok_and(|up| !up.is_empty())
    }

    fn target(&mut self, target: &Labels) -> Target {
        if let Some(known) = self.targets.get(target) {
            return *known;
        }
        let up = format!("up{}", target.braced());
        let ask = |text: &str| self.backend.query_text(text, self.at).unwrap_or_default();
        let is_zero = |found: &[VectorSample]| found.iter().any(|sample| sample.value == 0.0);
        let now = ask(&up);
        let lowest = ask(&format!("min_over_time({up}[{LOOKBACK}])"));
        let found = match (now.is_empty(), lowest.is_empty()) {
            (true, true) => Target::Silent,
            // Samples within the lookback that an instant selector does not find: a stale marker
            // follows them.
            (true, false) => Target::Removed,
            _ if is_zero(&now) => Target::Failing,
            _ if is_zero(&lowest) => Target::Recovering,
            _ => Target::Healthy,
        };
        self.targets.insert(target.clone(), found);
        found
    }

    /// Whether `recover_expr` is true for the alert's labels: a series of its result agrees with
    /// them, or it is a scalar other than 0.
    fn has_recovered(&mut self, alert: &ActiveAlert) -> bool {
        let Some(expr) = &self.rule.recover_expr else {
            return true;
        };
        let recovered = self.recovered.get_or_insert_with(|| {
            let found = self.backend.query(expr, self.at)?;
            let is_scalar = expr.value_type() == ValueType::Scalar;
            let yes = |value: f64| !is_scalar || (value != 0.0 && !value.is_nan());
            Ok(found
                .into_iter()
                .filter(|sample| yes(sample.value))
                .map(|sample| sample.labels)
                .collect())
        });
        recovered
            .as_ref()
            .is_ok_and(|found| found.iter().any(|labels| agree(labels, &alert.source)))
    }
}

/// The expressions that have a result when a selector of the rule finds nothing, for
/// `no_data: alert`.
pub(in crate::rules) fn absences(rule: &AlertingRule) -> Vec<Expr> {
    if rule.no_data != Some(NoData::Alert) {
        return Vec::new();
    }
    let absent = |selector: &VectorSelector| {
        // A selector in parentheses is an argument of any function that takes instant vectors, so
        // this always parses.
        parse(&format!(
            "absent({})",
            Expr::VectorSelector(selector.clone())
        ))
        .ok()
    };
    rule.expr
        .selectors()
        .into_iter()
        .filter_map(absent)
        .collect()
}

/// The ranges of which a function reads at least two samples, as text.
fn of_two_samples(expr: &Expr, found: &mut Vec<String>) {
    if let Expr::Call(call) = expr
        && OF_TWO_SAMPLES.contains(&call.function.name)
    {
        found.extend(
            call.args
                .iter()
                .filter(|arg| matches!(arg, Expr::MatrixSelector(_)))
                .map(ToString::to_string),
        );
    }
    deep(|| {
        expr.children()
            .into_iter()
            .for_each(|child| of_two_samples(child, found))
    });
}

/// The selectors of an expression, each with how far back its samples are read.
fn reach<'e>(expr: &'e Expr, back: Duration, found: &mut Vec<(&'e VectorSelector, Duration)>) {
    match expr {
        Expr::VectorSelector(selector) => found.push((selector, back)),
        Expr::MatrixSelector(matrix) => found.push((&matrix.selector, back + matrix.range)),
        Expr::Subquery(subquery) => reach(&subquery.expr, back + subquery.range, found),
        Expr::Call(call) if call.function.name.starts_with("absent") => {}
        other => deep(|| {
            other
                .children()
                .into_iter()
                .for_each(|child| reach(child, back, found))
        }),
    }
}

fn each(lists: &[LabelSets]) -> impl Iterator<Item = &Labels> {
    lists.iter().flat_map(|list| list.iter())
}

/// Whether two label sets are equal in those labels, the name aside, that both have.
fn agree(a: &Labels, b: &Labels) -> bool {
    a.iter()
        .filter(|(name, _)| *name != METRIC_NAME)
        .all(|(name, value)| b.get(name).is_none_or(|other| other == value))
}

fn target_of(series: &Labels) -> Labels {
    series.filtered(|name| name == "job" || name == "instance")
}
