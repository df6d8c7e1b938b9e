//! The values of expressions at all slots of a window, computed at once, and the store in which
//! they are computed.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use crate::model::{HistogramSample, Labels, NativeHistogram, Sample, Timestamp, stale_nan};
use crate::promql::{Engine, Expr, Value, VectorSample, deep, parse};
use crate::rules::Rule;
use crate::rules::backend::{Backend, Hits, hits};
use crate::rules::evaluate::group::Group;
use crate::rules::evaluate::recording::record;
use crate::store::Store;

/// A rule: the number of its group, and its own in it.
pub(super) type RuleId = (usize, usize);

type SeriesSet = HashSet<Labels, ahash::RandomState>;

/// The value of an expression at every slot of a window.
struct Answer {
    rows: Vec<Labels>,
    /// By instant, in milliseconds; an instant without samples is absent.
    at: HashMap<i64, Vec<(u32, f64)>, ahash::RandomState>,
    /// The native histograms of instants and rows; their value there is 0.
    histograms: HashMap<(i64, u32), Arc<NativeHistogram>, ahash::RandomState>,
    /// It cannot be computed for all slots at once: one slot fails, or it depends on where the
    /// range begins.
    one_by_one: bool,
    slots: (Timestamp, Timestamp, Duration),
}

/// What one window's evaluations need.
pub(super) struct Answers {
    pub(super) store: Store,
    engine: Engine,
    found: Mutex<HashMap<RuleId, Arc<Answer>>>,
    /// The same expression at the same slots is computed once.
    shared: Mutex<HashMap<(String, i64, i64), Arc<Answer>>>,
    /// Series that a recording rule wrote last.
    written: Mutex<HashMap<RuleId, SeriesSet>>,
}

impl Answers {
    pub(super) fn new(store: Store, engine: Engine) -> Self {
        Answers {
            store,
            engine,
            found: Mutex::default(),
            shared: Mutex::default(),
            written: Mutex::default(),
        }
    }

    /// Forgets the window.
    pub(super) fn clear(&self) {
        self.found.lock().clear();
        self.shared.lock().clear();
    }

    /// Computes a rule's expression at `from`, `from + step`, … up to `to`.
    pub(super) fn prepare(
        &self,
        rule: RuleId,
        expr: &Expr,
        from: Timestamp,
        to: Timestamp,
        step: Duration,
    ) {
        let key = (expr.to_string(), from.0, crate::model::time::millis(step));
        let known = self.shared.lock().get(&key).cloned();
        let answer = known.unwrap_or_else(|| Arc::new(self.compute(expr, from, to, step)));
        self.shared.lock().insert(key, answer.clone());
        self.found.lock().insert(rule, answer);
    }

    fn compute(&self, expr: &Expr, from: Timestamp, to: Timestamp, step: Duration) -> Answer {
        let mut answer = Answer {
            rows: Vec::new(),
            at: HashMap::default(),
            histograms: HashMap::default(),
            one_by_one: false,
            slots: (from, to, step),
        };
        if to < from {
            return answer;
        }
        let value = if depends_on_range(expr) {
            None
        } else {
            self.engine.range(&self.store, expr, from, to, step).ok()
        };
        let Some(Value::Matrix(series)) = value.map(|evaluated| evaluated.value) else {
            answer.one_by_one = true;
            return answer;
        };
        for (row, one) in series.into_iter().enumerate() {
            let row = u32::try_from(row).unwrap_or(u32::MAX);
            for (at, value) in one.points {
                answer.at.entry(at.0).or_default().push((row, value));
            }
            for (at, histogram) in one.histograms {
                answer.at.entry(at.0).or_default().push((row, 0.0));
                answer.histograms.insert((at.0, row), histogram);
            }
            answer.rows.push(one.labels);
        }
        answer
    }

    fn hits(&self, answer: &Answer, expr: &Expr, at: Timestamp) -> Hits {
        if answer.one_by_one {
            return self.instant(expr, at);
        }
        let Some(samples) = answer.at.get(&at.0) else {
            return Ok(Vec::new());
        };
        let hit = |(row, value): &(u32, f64)| VectorSample {
            labels: answer.rows[*row as usize].clone(),
            value: *value,
            histogram: if answer.histograms.is_empty() {
                None
            } else {
                answer.histograms.get(&(at.0, *row)).cloned()
            },
        };
        Ok(samples.iter().map(hit).collect())
    }

    fn instant(&self, expr: &Expr, at: Timestamp) -> Hits {
        hits(self.engine.instant(&self.store, expr, at)?.value)
    }

    /// Stores what a recording rule writes at the slots of the window, ends of series included, for
    /// the rules that read it.
    pub(super) fn record(&self, id: RuleId, rule: &Rule, limit: usize) {
        let Rule::Recording(rule) = rule else { return };
        let Some(answer) = self.found.lock().get(&id).cloned() else {
            return;
        };
        let (mut at, to, step) = answer.slots;
        let mut written = self.written.lock().remove(&id).unwrap_or_default();
        while at <= to {
            let recorded = self
                .hits(&answer, &rule.expr, at)
                .and_then(|hits| record(rule, hits, limit));
            if let Ok(mut recorded) = recorded
                && !(recorded.is_empty() && written.is_empty())
            {
                let now: SeriesSet = recorded.labels().cloned().collect();
                let ended = written.difference(&now).cloned();
                recorded.samples.extend(ended.map(|labels| Sample {
                    labels,
                    value: stale_nan(),
                    timestamp: None,
                }));
                self.store.append(at, &recorded.samples);
                self.store.append_histograms(at, &recorded.histograms);
                written = now;
            }
            at = at + step;
        }
        self.written.lock().insert(id, written);
    }

    /// The answers for the rules of one group.
    pub(super) fn of(self: &Arc<Self>, index: usize, group: &Group) -> GroupAnswers {
        let found = self.found.lock();
        let rules = group.rules.iter().enumerate();
        let by_place = rules
            .filter_map(|(rule, running)| {
                Some((
                    position(running.rule.expr()),
                    found.get(&(index, rule))?.clone(),
                ))
            })
            .collect();
        GroupAnswers {
            answers: Arc::clone(self),
            by_place,
        }
    }
}

/// Where an expression lies in memory: which of a group's rules asks.
fn position(expr: &Expr) -> usize {
    std::ptr::from_ref(expr) as usize
}

/// `@ start()` and `@ end()` are each slot's own in a rule, but not in a range.
fn depends_on_range(expr: &Expr) -> bool {
    use crate::promql::syntax::ast::At;
    let at = match expr {
        Expr::VectorSelector(selector) => selector.at,
        Expr::MatrixSelector(matrix) => matrix.selector.at,
        Expr::Subquery(subquery) => subquery.at,
        _ => None,
    };
    matches!(at, Some(At::Start | At::End))
        || deep(|| expr.children().into_iter().any(depends_on_range))
}

/// Every expression computed when it is asked for, every sample kept: evaluation slot by slot.
impl Backend for Answers {
    fn query(&self, expr: &Expr, at: Timestamp) -> Hits {
        self.instant(expr, at)
    }

    fn query_text(&self, text: &str, at: Timestamp) -> Hits {
        self.instant(&parse(text)?, at)
    }

    fn append(&self, at: Timestamp, samples: &[Sample]) {
        self.store.append(at, samples);
    }

    fn append_histograms(&self, at: Timestamp, samples: &[HistogramSample]) {
        self.store.append_histograms(at, samples);
    }
}

/// A group's way to the answers.
pub(super) struct GroupAnswers {
    answers: Arc<Answers>,
    by_place: HashMap<usize, Arc<Answer>, ahash::RandomState>,
}

impl Backend for GroupAnswers {
    fn query(&self, expr: &Expr, at: Timestamp) -> Hits {
        match self.by_place.get(&position(expr)) {
            Some(answer) => self.answers.hits(answer, expr, at),
            None => self.answers.instant(expr, at),
        }
    }

    fn query_text(&self, text: &str, at: Timestamp) -> Hits {
        self.answers.query_text(text, at)
    }

    /// What is recorded was stored before the groups were stepped; `ALERTS` is not read by any
    /// rule.
    fn append(&self, _: Timestamp, _: &[Sample]) {}
}
