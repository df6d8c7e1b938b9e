//! What would feed a rule: which names it reads in the end, through the rules that record them, and
//! who brings those.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use crate::collectors::COLLECTORS;
use crate::model::{METRIC_NAME, MatchOp};
use crate::promql::syntax::ast::VectorSelector;
use crate::rules::{Rule, RuleGroup};

/// How deep recorded series may be recorded from others before one stops asking.
const MAX_DEPTH: usize = 8;
/// What every nightbell has, whatever it watches.
const OWN: [&str; 6] = [
    "scrape_",
    "nightbell_",
    "process_",
    "ALERTS",
    "collector_",
    "alertmanager_",
];
/// What no exporter of others exposes.
const ONLY_COLLECTED: [&str; 11] = [
    "log_",
    "access_log_",
    "backup_",
    "job_",
    "json_api_",
    "app_component_",
    "directory_",
    "file_integrity_",
    "sqlite_",
    "llm_",
    "vectorstore_",
];
/// Folder of the rules that a profile adds (`rules.profiles`).
pub const PROFILES: &str = "built-in rules/profiles/";

/// Whether somebody has switched a rule on: one's own, and those that a profile wants. The others
/// are there for whatever is watched.
pub fn is_wanted(group: &RuleGroup, rule: &Rule) -> bool {
    !group.file.starts_with("built-in ") || group.wanted.contains_key(rule.name())
}

/// The alerts of rows of which another alert has input: that one will do.
pub(super) fn stood_in_for<'g>(
    groups: impl Iterator<Item = &'g RuleGroup> + Clone,
    mut is_fed: impl FnMut(&Rule) -> bool,
) -> HashSet<String> {
    let names: HashSet<&String> = groups
        .clone()
        .flat_map(|group| group.wanted.values())
        .flat_map(|wanted| &wanted.alerts)
        .collect();
    let rules = groups.clone().flat_map(|group| &group.rules);
    let fed: HashSet<String> = rules
        .filter(|rule| names.contains(&rule.name().to_owned()) && is_fed(rule))
        .map(|rule| rule.name().to_owned())
        .collect();
    let rows = groups
        .flat_map(|group| group.wanted.values())
        .filter(|wanted| wanted.alerts.iter().any(|alert| fed.contains(alert)));
    rows.flat_map(|wanted| wanted.alerts.iter().cloned())
        .collect()
}

/// The one name that a selector can match.
pub(in crate::rules) fn name_of(selector: &VectorSelector) -> Option<&str> {
    selector
        .matchers
        .iter()
        .find(|m| m.name == METRIC_NAME && m.op == MatchOp::Equal)
        .map(|m| m.value.as_str())
}

/// Who records which series.
pub struct Recorded<'a>(HashMap<&'a str, Vec<&'a Rule>>);

impl<'a> Recorded<'a> {
    /// Of the rules in force.
    pub fn new(groups: impl IntoIterator<Item = &'a RuleGroup>) -> Self {
        let mut recorded: HashMap<&str, Vec<&Rule>> = HashMap::new();
        for rule in groups
            .into_iter()
            .flat_map(|group| &group.rules)
            .filter(|rule| matches!(rule, Rule::Recording(_)))
        {
            recorded.entry(rule.name()).or_default().push(rule);
        }
        Recorded(recorded)
    }

    /// The rules that record this name.
    pub(in crate::rules) fn of(&self, name: &str) -> Option<&[&'a Rule]> {
        self.0.get(name).map(Vec::as_slice)
    }

    /// Whether a selector has input: series of its own, or of something that is recorded into its
    /// name.
    pub(in crate::rules) fn is_fed(
        &self,
        selector: &VectorSelector,
        alive: &mut impl FnMut(&VectorSelector) -> bool,
    ) -> bool {
        self.is_fed_within(selector, alive, MAX_DEPTH)
    }

    fn is_fed_within(
        &self,
        selector: &VectorSelector,
        alive: &mut impl FnMut(&VectorSelector) -> bool,
        depth: usize,
    ) -> bool {
        if depth == 0
            || name_of(selector).is_some_and(|name| name.starts_with("ALERTS"))
            || alive(selector)
        {
            return true;
        }
        let recorders = name_of(selector)
            .and_then(|name| self.of(name))
            .unwrap_or_default();
        recorders.iter().any(|rule| {
            let selectors = rule.selectors();
            // One that reads nothing, such as vector(1), needs nothing.
            selectors.is_empty()
                || selectors
                    .iter()
                    .any(|(selector, _)| self.is_fed_within(selector, alive, depth - 1))
        })
    }

    /// Whether a rule has any input at all.
    pub(in crate::rules) fn feeds(
        &self,
        rule: &Rule,
        alive: &mut impl FnMut(&VectorSelector) -> bool,
    ) -> bool {
        let selectors = rule.selectors();
        selectors.is_empty()
            || selectors
                .iter()
                .any(|(selector, _)| self.is_fed(selector, alive))
    }

    /// What would bring the series of a name, in words.
    pub fn feed(&self, name: &str) -> String {
        let mut names = BTreeSet::new();
        self.leaves(name, &mut names, MAX_DEPTH);
        let sources = self
            .sources(name)
            .into_iter()
            .collect::<Vec<_>>()
            .join("; ");
        if self.of(name).is_none() {
            return sources;
        }
        let names: Vec<&str> = names.into_iter().collect();
        format!("{name} is recorded from {}: {sources}", names.join(", "))
    }

    fn sources(&self, name: &str) -> BTreeSet<String> {
        let mut names = BTreeSet::new();
        self.leaves(name, &mut names, MAX_DEPTH);
        names.into_iter().map(brought_by).collect()
    }

    fn leaves<'n>(&self, name: &'n str, names: &mut BTreeSet<&'n str>, depth: usize)
    where
        'a: 'n,
    {
        match self.of(name).filter(|_| depth > 0) {
            None => drop(names.insert(name)),
            Some(recorders) => {
                for (selector, _) in recorders.iter().flat_map(|rule| rule.selectors()) {
                    if let Some(name) = name_of(selector) {
                        self.leaves(name, names, depth - 1);
                    }
                }
            }
        }
    }
}

/// Who brings the series of a name that no rule records.
fn brought_by(name: &str) -> String {
    // From the end: of the names that several have, the last kind is the one that is named for them
    // (probe, not json_api).
    match COLLECTORS.iter().rev().find(|kind| {
        kind.metrics
            .iter()
            .copied()
            .flatten()
            .any(|metric| is_series_of(name, metric.name))
    }) {
        // Applications expose these themselves, as a rule.
        Some(kind) if kind.name == "access_log" && name.starts_with("http_") => {
            format!(
                "a target of scrape_configs that exposes {name} would bring it, and so would collectors.access_log"
            )
        }
        Some(kind) => format!("collectors.{} would bring it", kind.name),
        None if name == "app_component_up" => {
            "a metric of the name app_component_up in collectors.json_api would bring it".to_owned()
        }
        None if name.starts_with("sql_") => {
            "a query of that name under queries of postgres, mysql or sqlite would bring it"
                .to_owned()
        }
        None => format!("a target of scrape_configs that exposes {name} would bring it"),
    }
}

fn is_series_of(series: &str, metric: &str) -> bool {
    series
        .strip_prefix(metric)
        .is_some_and(|rest| matches!(rest, "" | "_bucket" | "_sum" | "_count"))
}

/// The wanted rules that nothing in a configuration can feed, with what would; a row of a profile
/// is one. `chosen` are beginnings of further names, which the configuration gave. Where targets
/// are scraped, `is_open`, anything may come but what only collectors measure.
pub fn without_input(
    groups: &[RuleGroup],
    collectors: &[&str],
    chosen: &[String],
    is_open: bool,
) -> Vec<String> {
    let kinds: Vec<_> = COLLECTORS
        .iter()
        .filter(|kind| collectors.contains(&kind.name))
        .collect();
    let is_open = is_open || kinds.iter().any(|kind| kind.metrics.is_empty());
    let brought: HashSet<&str> = kinds
        .iter()
        .flat_map(|kind| kind.metrics.iter().copied().flatten())
        .map(|metric| metric.name)
        .collect();
    let base = |name: &str| {
        ["", "_bucket", "_sum", "_count"]
            .iter()
            .any(|end| name.strip_suffix(end).is_some_and(|n| brought.contains(n)))
    };
    let mut alive = |selector: &VectorSelector| {
        let is_chosen = |name: &str| {
            chosen
                .iter()
                .any(|beginning| name.starts_with(beginning.as_str()))
        };
        let is_own = |name: &str| OWN.iter().any(|own| name.starts_with(own));
        let may_come = |name: &str| {
            is_open
                && !ONLY_COLLECTED
                    .iter()
                    .any(|beginning| name.starts_with(beginning))
        };
        name_of(selector).is_none_or(|name| {
            base(name) || name == "up" || is_own(name) || is_chosen(name) || may_come(name)
        })
    };
    let recorded = Recorded::new(groups);
    let replaced = stood_in_for(groups.iter(), |rule| recorded.feeds(rule, &mut alive));
    let (mut found, mut rows) = (
        Vec::new(),
        BTreeMap::<&str, (Vec<&str>, BTreeSet<String>)>::new(),
    );
    for group in groups {
        for rule in group
            .rules
            .iter()
            .filter(|rule| is_wanted(group, rule) && !replaced.contains(rule.name()))
        {
            if recorded.feeds(rule, &mut alive) {
                continue;
            }
            let names: BTreeSet<&str> = rule
                .selectors()
                .iter()
                .filter_map(|(selector, _)| name_of(selector))
                .collect();
            if let Some(wanted) = group.wanted.get(rule.name()) {
                let (alerts, sources) = rows.entry(&wanted.row).or_default();
                alerts.push(rule.name());
                sources.extend(names.iter().flat_map(|name| recorded.sources(name)));
            } else if !is_open {
                let feeds: Vec<String> = names.iter().map(|name| recorded.feed(name)).collect();
                found.push(format!(
                    "{}:{}: rule {:?} has nothing to read: {}",
                    group.file,
                    rule.position(),
                    rule.name(),
                    feeds.join("; ")
                ));
            }
        }
    }
    let row = |(row, (alerts, sources)): (&str, (Vec<&str>, BTreeSet<String>))| {
        let sources: Vec<String> = sources.into_iter().collect();
        format!(
            "{row} ({}) has nothing to read: {}",
            alerts.join(", "),
            sources.join("; ")
        )
    };
    found.extend(rows.into_iter().map(row));
    found
}
