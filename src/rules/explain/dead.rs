//! Rules that can never say anything: a selector that has matched no series since nightbell
//! started, with the name that was probably meant.
//!
//! Not meant are selectors below `absent` (they ask for nothing), `ALERTS`, what another rule
//! records from something that is there, and the standard built-in rules, most of which belong to
//! collectors that are not configured. Those that a profile wants count where nothing that they
//! read is there, nor what an alert reads that will do as well: somebody has switched them on.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use tracing::{info, warn};

use super::feed::{Recorded, is_wanted, name_of, stood_in_for};
use crate::config::Position;
use crate::model::text::nearest;
use crate::model::{METRIC_NAME, MatchOp, Matcher, Timestamp};
use crate::promql::Expr;
use crate::promql::syntax::ast::VectorSelector;
use crate::rules::scheduler::Scheduler;
use crate::store::Store;
use crate::telemetry::Telemetry;

/// Time between two looks.
const LOOK: Duration = Duration::from_secs(5);
/// How far back what is like a dead selector is looked for: so far it is in memory.
const LATELY: Duration = Duration::from_secs(5 * 60);
/// How long a rule is waited for at least; and three of its group's intervals.
const PATIENCE: Duration = Duration::from_secs(15);

/// Most rules without input that are named in the metric.
const MAX_EMPTY: usize = 100;

/// A selector of a rule that has matched no series.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DeadSelector {
    /// The file, as the configuration named it.
    pub file: String,
    /// Where the selector stands in it.
    pub position: Position,
    /// The group's name.
    pub group: String,
    /// The value of `alert` or `record`.
    pub rule: String,
    /// The selector.
    pub selector: String,
    /// What was probably meant.
    pub hint: Option<String>,
}

impl fmt::Display for DeadSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}:{}: rule {:?}: {} has matched no series",
            self.file, self.position, self.rule, self.selector
        )?;
        self.hint
            .as_ref()
            .map_or(Ok(()), |hint| write!(f, "; {hint}"))
    }
}

/// Looks for dead rules while the scheduler runs.
pub struct DeadRules {
    rules: Arc<Scheduler>,
    store: Arc<Store>,
    count: Gauge,
    /// The rules without any input, by group, rule, selector, and what would feed it.
    empty: Family<Vec<(&'static str, String)>, Gauge>,
    seen: Mutex<Seen>,
}

/// What the looks so far have shown.
#[derive(Default)]
struct Seen {
    /// Selectors that were looked for, and whether they matched something once.
    alive: HashMap<String, bool>,
    /// When each group was first met.
    since: BTreeMap<(String, String), Timestamp>,
    dead: BTreeSet<DeadSelector>,
    /// The label sets of rules without any input.
    empty: BTreeSet<Vec<(&'static str, String)>>,
}

impl DeadRules {
    /// Has shown nothing yet.
    pub fn new(rules: Arc<Scheduler>, store: Arc<Store>, telemetry: &Telemetry) -> Self {
        let (count, empty) = (
            Gauge::default(),
            Family::<Vec<(&'static str, String)>, Gauge>::default(),
        );
        telemetry.register(|registry| {
            registry.register("rule_dead_selectors", "Selectors of rules that have matched no series since the start", count.clone());
            let help = "1 for a rule of which no selector has matched any series since the start, with what would feed it";
            registry.register("rule_without_input", help, empty.clone());
        });
        DeadRules {
            rules,
            store,
            count,
            empty,
            seen: Mutex::default(),
        }
    }

    /// The dead selectors of the last look.
    pub fn found(&self) -> Vec<DeadSelector> {
        self.seen.lock().dead.iter().cloned().collect()
    }

    /// Runs until the process ends. Logs each dead selector once, and again when it matches.
    pub async fn run(self: Arc<Self>) -> Result<(), tokio::task::JoinError> {
        loop {
            tokio::time::sleep(LOOK).await;
            let this = self.clone();
            tokio::task::spawn_blocking(move || this.look(Timestamp::now())).await?;
        }
    }

    /// Looks once.
    pub fn look(&self, now: Timestamp) {
        let groups = self.rules.definitions();
        let recorded = Recorded::new(groups.iter().map(|(group, _)| &**group));
        let mut empty: BTreeSet<Vec<(&'static str, String)>> = BTreeSet::new();
        let mut dead: BTreeSet<DeadSelector> = BTreeSet::new();
        let seen = &mut *self.seen.lock();
        let definitions = groups.iter().map(|(group, _)| &**group);
        let replaced = stood_in_for(definitions, |rule| {
            recorded.feeds(rule, &mut |selector| {
                self.has_matched(&mut seen.alive, selector, now)
            })
        });
        for (group, interval) in &groups {
            if !group.rules.iter().any(|rule| is_wanted(group, rule)) {
                continue;
            }
            let since = *seen
                .since
                .entry((group.file.clone(), group.name.clone()))
                .or_insert(now);
            if now.since(since) < PATIENCE.max(*interval * 3) {
                continue;
            }
            for rule in group
                .rules
                .iter()
                .filter(|rule| is_wanted(group, rule) && !replaced.contains(rule.name()))
            {
                let mut alive =
                    |selector: &VectorSelector| self.has_matched(&mut seen.alive, selector, now);
                let is_fed = recorded.feeds(rule, &mut alive);
                if is_fed && group.shipped {
                    continue;
                }
                for (selector, position) in rule.selectors() {
                    if recorded.is_fed(selector, &mut alive) {
                        continue;
                    }
                    let (text, name) = (shown(selector), name_of(selector));
                    if !is_fed
                        && empty.len() < MAX_EMPTY
                        && !empty
                            .iter()
                            .any(|labels| labels[0].1 == group.name && labels[1].1 == rule.name())
                    {
                        let feed = name.map(|name| recorded.feed(name)).unwrap_or_default();
                        empty.insert(vec![
                            ("rule_group", group.name.clone()),
                            ("rule", rule.name().to_owned()),
                            ("selector", text.clone()),
                            ("feed", feed),
                        ]);
                    }
                    let (file, group) = (group.file.clone(), group.name.clone());
                    let mut found = DeadSelector {
                        file,
                        position,
                        group,
                        rule: rule.name().to_owned(),
                        selector: text,
                        hint: None,
                    };
                    found.hint = match seen.dead.iter().find(|old| found.is_same(old)) {
                        // Looking for what is like it takes its time, and is done once.
                        Some(old) => old.hint.clone(),
                        None => {
                            let recorder = name.filter(|name| recorded.of(name).is_some());
                            let alike = recorder.map_or_else(
                                || hint(&self.store, selector, now),
                                |name| Some(recorded.feed(name)),
                            );
                            // Where nothing is like it, say who would bring it.
                            alike.or_else(|| name.map(|name| recorded.feed(name)))
                        }
                    };
                    if !dead.iter().any(|other| found.is_same(other)) {
                        dead.insert(found);
                    }
                }
            }
        }
        for one in dead
            .difference(&seen.dead)
            .filter(|one| !seen.dead.iter().any(|old| old.is_same(one)))
        {
            warn!(
                rule_group = one.group,
                rule = one.rule,
                "Rule is dead: {one}."
            );
        }
        for one in seen
            .dead
            .iter()
            .filter(|one| seen.alive.get(&one.selector) == Some(&true))
        {
            info!(
                rule_group = one.group,
                rule = one.rule,
                selector = one.selector,
                "Rule has come to life."
            );
        }
        self.count
            .set(i64::try_from(dead.len()).unwrap_or(i64::MAX));
        if seen.empty != empty {
            self.empty.clear();
            for labels in &empty {
                self.empty.get_or_create(labels).set(1);
            }
            seen.empty = empty;
        }
        seen.dead = dead;
    }
}

impl DeadRules {
    /// Whether a selector has matched something since the start.
    fn has_matched(
        &self,
        alive: &mut HashMap<String, bool>,
        selector: &VectorSelector,
        now: Timestamp,
    ) -> bool {
        let text = shown(selector);
        let from = match alive.get(&text) {
            Some(true) => return true,
            // What comes is in memory: the whole history is looked through once.
            Some(false) => now - LATELY,
            None => Timestamp::MIN,
        };
        let matched = !self
            .store
            .series(&selector.matchers, from, Timestamp::MAX)
            .is_empty();
        alive.insert(text, matched);
        matched
    }
}

impl DeadSelector {
    /// Whether only the hint differs.
    fn is_same(&self, other: &DeadSelector) -> bool {
        (&self.file, &self.group, &self.rule, &self.selector)
            == (&other.file, &other.group, &other.rule, &other.selector)
    }
}

/// The selector without `offset` and `@`.
fn shown(selector: &VectorSelector) -> String {
    Expr::VectorSelector(VectorSelector {
        offset: 0,
        at: None,
        ..selector.clone()
    })
    .to_string()
}

/// What was probably meant: another name, or another value of the label that no series of this name
/// has; of what there has been lately.
fn hint(store: &Store, selector: &VectorSelector, now: Timestamp) -> Option<String> {
    let lately = (now - LATELY, now);
    let name = name_of(selector)?;
    let named = Matcher::equal(METRIC_NAME, name);
    let names = store.label_values(METRIC_NAME, &[], lately.0, lately.1);
    if !names.iter().any(|n| n == name) {
        return closest(name, &names)
            .map(|other| format!("the nearest existing metric is {other}"));
    }
    for matcher in selector.matchers.iter().filter(|m| m.name != METRIC_NAME) {
        let pair = [named.clone(), matcher.clone()];
        if store.series(&pair, lately.0, lately.1).is_empty() {
            let values = store.label_values(&matcher.name, &pair[..1], lately.0, lately.1);
            let meant = (matcher.op == MatchOp::Equal)
                .then(|| closest(&matcher.value, &values))
                .flatten();
            return Some(match meant {
                Some(value) => format!("no {name} has {matcher}; the nearest value is {value:?}"),
                None => format!("no {name} has {matcher}"),
            });
        }
    }
    Some(format!("{name} exists, but never with all these labels"))
}

/// The nearest of the names: a likely typo, else by the longest common beginning of whole words.
fn closest<'a>(name: &str, names: &'a [String]) -> Option<&'a str> {
    let words = |other: &str| {
        name.split('_')
            .zip(other.split('_'))
            .take_while(|(a, b)| a == b)
            .count()
    };
    let slip = nearest(name, names.iter().map(String::as_str));
    let alike = || {
        names
            .iter()
            .map(String::as_str)
            .max_by_key(|other| words(other))
            .filter(|other| words(other) > 0)
    };
    slip.or_else(alike)
}
