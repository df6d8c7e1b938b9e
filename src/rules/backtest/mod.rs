//! What rules would have said about stored history: the groups are evaluated as they are live, at
//! every slot, over samples that are there already.
//!
//! An expression is computed for many slots at once (`answers`), and the groups step through the
//! answers: the counts are those of live evaluation at a fraction of its cost. What the rules
//! record is computed anew, whatever history has of it.

mod answers;
mod episodes;
mod plan;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

pub use episodes::{Episode, Longer, RuleReport};

use super::backend::Backend;
use super::evaluate::group::{Group, Settings};
use super::{Rule, RuleGroup};
use crate::model::time::millis;
use crate::model::{Labels, Timestamp};
use crate::promql::Engine;
use crate::store::{ChunkError, Limits, Store};
use answers::Answers;
use episodes::Watch;
use plan::Plan;

/// Time that is computed at once.
const WINDOW: Duration = Duration::from_secs(2 * 3600);
/// The smallest distance of two instants.
const TICK: Duration = Duration::from_millis(1);

/// The time to look at, and how.
#[derive(Clone, Debug)]
pub struct Options {
    /// First instant.
    pub from: Timestamp,
    /// Last instant.
    pub to: Timestamp,
    /// Threads that evaluate.
    pub threads: usize,
    /// What the groups share.
    pub settings: Settings,
    /// Evaluates.
    pub engine: Engine,
}

/// What would have been.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// Each alerting rule, in the order of the files.
    pub rules: Vec<RuleReport>,
    /// Evaluations of rules.
    pub evaluations: u64,
    /// Rules whose evaluation failed: which, how often, and why the last time.
    pub errors: Vec<(String, u64, String)>,
    /// What is not as it would be live, and what took longer than it need.
    pub notes: Vec<String>,
}

/// One group under way.
struct Running {
    group: Group,
    /// Its next slot.
    next: Timestamp,
    watch: Watch,
    evaluations: u64,
}

struct Backtest {
    plan: Plan,
    answers: Arc<Answers>,
    running: Vec<Mutex<Running>>,
    settings: Settings,
    threads: usize,
}

/// Evaluates the groups over `history`, which is only read.
pub fn run(history: &Store, groups: &[RuleGroup], options: &Options) -> Result<Report, ChunkError> {
    // Nobody is notified: an alert is not handed on again, and needs no annotations.
    let settings = Settings {
        resend_delay: Duration::from_secs(100 * 365 * 86_400),
        ..options.settings.clone()
    };
    let running: Vec<Group> = groups
        .iter()
        .map(|group| Group::new(silent(group.clone()), &settings))
        .collect();
    let plan = Plan::new(&running, &options.engine);
    let store = Store::new(Limits {
        max_series: usize::MAX,
        max_series_per_target: usize::MAX,
        max_labels_bytes: usize::MAX,
    });
    let answers = Arc::new(Answers::new(store, options.engine.clone()));
    let running = running
        .into_iter()
        .map(|group| Mutex::new(Running::new(group, options.from)))
        .collect();
    let backtest = Backtest {
        plan,
        answers,
        running,
        settings,
        threads: options.threads,
    };
    let mut loaded = backtest.plan.begin(options.from);
    let mut from = options.from;
    while from <= options.to {
        let last = (from + WINDOW - TICK).min(options.to);
        backtest
            .plan
            .copy(history, &backtest.answers.store, loaded, last)?;
        backtest.window(last);
        (loaded, from) = (last, last + TICK);
        backtest.answers.store.retain(backtest.plan.begin(from));
    }
    Ok(backtest.report(options.to))
}

fn silent(mut group: RuleGroup) -> RuleGroup {
    for rule in &mut group.rules {
        if let Rule::Alerting(rule) = rule {
            rule.annotations = Labels::empty();
        }
    }
    group
}

impl Running {
    fn new(group: Group, from: Timestamp) -> Self {
        let interval = millis(group.interval).max(1);
        // Rounded up: the first slot that is not before `from`.
        let next = Timestamp(-(-from.0).div_euclid(interval) * interval);
        Running {
            watch: Watch::new(&group),
            group,
            next,
            evaluations: 0,
        }
    }

    fn advance(&mut self, backend: &Arc<dyn Backend>, settings: &Settings) {
        self.group.eval(backend, self.next, settings);
        self.evaluations += self.group.rules.len() as u64;
        self.watch.look(&self.group, self.next);
        self.next = self.next + self.group.interval;
    }
}

impl Backtest {
    /// The slots up to `last`.
    fn window(&self, last: Timestamp) {
        if self.plan.in_step {
            return self.window_in_step(last);
        }
        self.answers.clear();
        for level in &self.plan.levels {
            self.parallel(level, |&(group, rule)| {
                let one = self.running[group].lock();
                let (expr, offset, interval) = (
                    one.group.rules[rule].rule.expr().clone(),
                    one.group.query_offset,
                    one.group.interval,
                );
                let (from, to) = (one.next - offset, last - offset);
                drop(one);
                self.answers
                    .prepare((group, rule), &expr, from, to, interval);
            });
            for &(group, rule) in level {
                let one = self.running[group].lock();
                self.answers.record(
                    (group, rule),
                    &one.group.rules[rule].rule,
                    one.group.definition.limit,
                );
            }
        }
        let groups: Vec<usize> = (0..self.running.len()).collect();
        self.parallel(&groups, |&index| {
            let mut one = self.running[index].lock();
            let backend: Arc<dyn Backend> = Arc::new(self.answers.of(index, &one.group));
            while one.next <= last {
                one.advance(&backend, &self.settings);
            }
        });
    }

    /// The same slot by slot, as it is done live: every rule sees what was recorded so far, and no
    /// more.
    fn window_in_step(&self, last: Timestamp) {
        let backend: Arc<dyn Backend> = Arc::clone(&self.answers) as Arc<dyn Backend>;
        loop {
            let due = self
                .running
                .iter()
                .enumerate()
                .map(|(index, one)| (one.lock().next, index))
                .min();
            let Some((_, index)) = due.filter(|(next, _)| *next <= last) else {
                return;
            };
            self.running[index].lock().advance(&backend, &self.settings);
        }
    }

    /// Does `work` for every item, on some threads.
    fn parallel<T: Sync>(&self, items: &[T], work: impl Fn(&T) + Sync) {
        let next = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..self.threads.clamp(1, items.len().max(1)) {
                scope.spawn(|| {
                    while let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
                        work(item);
                    }
                });
            }
        });
    }

    fn report(self, end: Timestamp) -> Report {
        let mut report = Report {
            notes: self.plan.notes,
            ..Report::default()
        };
        for one in self.running {
            let Running {
                group,
                watch,
                evaluations,
                ..
            } = one.into_inner();
            report.evaluations += evaluations;
            let (rules, errors) = watch.finish(&group, end);
            report.rules.extend(rules);
            report.errors.extend(errors);
        }
        report
    }
}
