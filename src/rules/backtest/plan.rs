//! What a backtest needs from history, and in what order the rules are computed.

use std::collections::{HashMap, HashSet};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use super::answers::RuleId;
use crate::model::time::millis;
use crate::model::{Labels, METRIC_NAME, Matcher, NativeHistogram, Timestamp, is_histogram};
use crate::promql::syntax::ast::At;
use crate::promql::{Engine, Expr, deep};
use crate::rules::Rule;
use crate::rules::evaluate::group::Group;
use crate::store::{ChunkError, SeriesId, Store};

/// Series that rules make of alerts.
const SYNTHETIC: [&str; 2] = ["ALERTS", "ALERTS_FOR_STATE"];
/// How far expressions in templates look back, at least.
const TEMPLATES: Duration = Duration::from_secs(3600);

/// The order of computation, and the samples it needs.
pub(super) struct Plan {
    /// Rules that need only what history or an earlier level gives.
    pub(super) levels: Vec<Vec<RuleId>>,
    /// A rule reads what a later one records: only slot by slot gives what live evaluation gives.
    pub(super) in_step: bool,
    pub(super) notes: Vec<String>,
    /// What is read from history, each selector once.
    selectors: Vec<Vec<Matcher>>,
    /// Names that are computed, not read.
    computed: HashSet<String>,
    /// How far before a slot samples are needed.
    span: i64,
    /// The earliest instant that an `@` names, less what is read before it.
    fixed: Option<i64>,
}

impl Plan {
    pub(super) fn new(groups: &[Group], engine: &Engine) -> Self {
        let mut plan = Plan {
            levels: Vec::new(),
            in_step: false,
            notes: Vec::new(),
            selectors: Vec::new(),
            computed: SYNTHETIC.map(str::to_owned).into(),
            span: millis(TEMPLATES),
            fixed: None,
        };
        let rules: Vec<(RuleId, &Rule)> = groups
            .iter()
            .enumerate()
            .flat_map(|(group, one)| {
                one.rules
                    .iter()
                    .enumerate()
                    .map(move |(rule, running)| ((group, rule), &*running.rule))
            })
            .collect();
        let mut producers: HashMap<&str, Vec<usize>> = HashMap::new();
        for (index, (_, rule)) in rules.iter().enumerate() {
            if matches!(rule, Rule::Recording(_)) {
                producers.entry(rule.name()).or_default().push(index);
                plan.computed.insert(rule.name().to_owned());
            }
        }
        let offset = groups
            .iter()
            .map(|group| millis(group.query_offset))
            .max()
            .unwrap_or(0);
        let mut levels: Vec<usize> = Vec::new();
        for (index, (id, rule)) in rules.iter().enumerate() {
            let mut reads = Reads {
                lookback: millis(engine.lookback),
                ..Reads::default()
            };
            reads.walk(rule.expr(), offset);
            if let Rule::Alerting(rule) = rule {
                // Whether an alert ends depends on its input at the slot before, and on its
                // targets.
                let before = millis(groups[id.0].interval);
                reads.walk(&rule.expr, offset.saturating_add(before));
                reads.targets(offset.saturating_add(before));
                if let Some(recovery) = &rule.recover_expr {
                    reads.walk(recovery, offset);
                }
            }
            plan.span = plan.span.max(reads.span);
            plan.fixed = plan.fixed.into_iter().chain(reads.fixed).min();
            if reads.ahead {
                plan.notes.push(format!(
                    "rule {:?} looks ahead: live it would have seen less",
                    rule.name()
                ));
            }
            let mut level = 0;
            for matchers in reads.selectors {
                let may_be = |name: &str| {
                    matchers
                        .iter()
                        .filter(|m| m.name == METRIC_NAME)
                        .all(|m| m.matches(name))
                };
                for (_, from) in producers.iter().filter(|(name, _)| may_be(name)) {
                    if let Some(later) = from.iter().find(|from| **from >= index) {
                        plan.read_later(rule.name(), rules[*later].1.name());
                    }
                    level = from
                        .iter()
                        .filter_map(|from| levels.get(*from))
                        .map(|l| l + 1)
                        .max()
                        .unwrap_or(0)
                        .max(level);
                }
                if let Some(name) = SYNTHETIC.into_iter().find(|name| may_be(name)) {
                    plan.read_later(rule.name(), name);
                }
                if !plan.selectors.contains(&matchers) {
                    plan.selectors.push(matchers);
                }
            }
            levels.push(level);
            if plan.levels.len() <= level {
                plan.levels.resize(level + 1, Vec::new());
            }
            plan.levels[level].push(*id);
        }
        plan
    }

    fn read_later(&mut self, rule: &str, name: &str) {
        if !self.in_step {
            self.notes.push(format!("rule {rule:?} reads {name}, which is made after it: evaluated slot by slot, which takes longer"));
        }
        self.in_step = true;
    }

    /// The instant after which samples are needed for slots from `at` on.
    pub(super) fn begin(&self, at: Timestamp) -> Timestamp {
        let begin = at.0.saturating_sub(self.span).saturating_sub(1);
        Timestamp(self.fixed.map_or(begin, |fixed| fixed.min(begin)))
    }

    /// Copies the samples of `from < timestamp <= to` that rules read.
    pub(super) fn copy(
        &self,
        history: &Store,
        store: &Store,
        from: Timestamp,
        to: Timestamp,
    ) -> Result<(), ChunkError> {
        let mut seen: HashSet<Labels, ahash::RandomState> = HashSet::default();
        let mut samples: Vec<(i64, SeriesId, f64)> = Vec::new();
        let mut histograms: HashMap<(i64, SeriesId), Arc<NativeHistogram>> = HashMap::new();
        for matchers in &self.selectors {
            history.select(matchers, from, to, |labels, window| {
                if !self.computed.contains(labels.metric_name())
                    && seen.insert(labels.clone())
                    && let Ok(id) = store.series_id(labels)
                {
                    samples.extend(
                        window
                            .times
                            .iter()
                            .zip(window.values)
                            .map(|(at, value)| (*at, id, *value)),
                    );
                    histograms.extend(
                        window
                            .histograms
                            .iter()
                            .map(|(at, histogram)| ((*at, id), Arc::clone(histogram))),
                    );
                }
                ControlFlow::Continue(())
            })?;
        }
        samples.sort_by_key(|(at, id, _)| (*at, *id));
        for tick in samples.chunk_by(|a, b| a.0 == b.0) {
            let at = tick[0].0;
            let floats = tick.iter().filter(|(.., value)| !is_histogram(*value));
            store.append_ids(
                Timestamp(at),
                &floats
                    .map(|(_, id, value)| (*id, *value))
                    .collect::<Vec<_>>(),
            );
            if !histograms.is_empty() {
                let here = tick
                    .iter()
                    .filter_map(|(_, id, _)| Some((*id, histograms.remove(&(at, *id))?)));
                store.append_histogram_ids(Timestamp(at), &here.collect::<Vec<_>>());
            }
        }
        Ok(())
    }
}

/// What an expression reads.
#[derive(Default)]
struct Reads {
    lookback: i64,
    selectors: Vec<Vec<Matcher>>,
    span: i64,
    fixed: Option<i64>,
    ahead: bool,
}

impl Reads {
    /// `back`: how far before the slot the instants lie at which `expr` is evaluated.
    fn walk(&mut self, expr: &Expr, back: i64) {
        let (selector, window) = match expr {
            Expr::VectorSelector(selector) => (selector, self.lookback),
            Expr::MatrixSelector(matrix) => (&matrix.selector, millis(matrix.range)),
            Expr::Subquery(subquery) => {
                let here = self.reach(back, subquery.offset, millis(subquery.range), subquery.at);
                return deep(|| self.walk(&subquery.expr, here));
            }
            other => {
                return deep(|| {
                    other
                        .children()
                        .into_iter()
                        .for_each(|child| self.walk(child, back))
                });
            }
        };
        self.reach(back, selector.offset, window, selector.at);
        self.selectors.push(selector.matchers.clone());
    }

    /// The health of targets.
    fn targets(&mut self, back: i64) {
        self.reach(back, 0, self.lookback, None);
        self.selectors.push(vec![Matcher::equal(METRIC_NAME, "up")]);
    }

    fn reach(&mut self, back: i64, offset: i64, window: i64, at: Option<At>) -> i64 {
        let reach = back.saturating_add(offset).saturating_add(window);
        self.ahead |= offset < 0;
        self.span = self.span.max(reach);
        if let Some(At::Timestamp(at)) = at {
            let earliest = at.0.saturating_sub(reach).saturating_sub(self.lookback);
            self.fixed = Some(self.fixed.map_or(earliest, |fixed| fixed.min(earliest)));
        }
        reach
    }
}
