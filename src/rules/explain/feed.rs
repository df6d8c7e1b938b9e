//! What would feed a rule: which names it reads in the end, through the rules that record them, and who brings those.

use std::collections::{BTreeSet, HashMap, HashSet};

use crate::collectors::COLLECTORS;
use crate::model::{METRIC_NAME, MatchOp};
use crate::promql::syntax::ast::VectorSelector;
use crate::rules::{Rule, RuleGroup};

/// How deep recorded series may be recorded from others before one stops asking.
const MAX_DEPTH: usize = 8;
/// What every nightbell has, whatever it watches.
const OWN: [&str; 6] = ["scrape_", "nightbell_", "process_", "ALERTS", "collector_", "alertmanager_"];
/// Folder of the rules that are switched on by name (`rules.profiles`).
pub const PROFILES: &str = "built-in rules/profiles/";

/// Whether somebody has switched a group's rules on: one's own, and those of a profile. The others are there for whatever is watched.
pub fn is_wanted(group: &RuleGroup) -> bool {
    !group.file.starts_with("built-in ") || group.file.starts_with(PROFILES)
}

/// The one name that a selector can match.
pub(in crate::rules) fn name_of(selector: &VectorSelector) -> Option<&str> {
    selector.matchers.iter().find(|m| m.name == METRIC_NAME && m.op == MatchOp::Equal).map(|m| m.value.as_str())
}

/// Who records which series.
pub struct Recorded<'a>(HashMap<&'a str, Vec<&'a Rule>>);

impl<'a> Recorded<'a> {
    /// Of the rules in force.
    pub fn new(groups: impl IntoIterator<Item = &'a RuleGroup>) -> Self {
        let mut recorded: HashMap<&str, Vec<&Rule>> = HashMap::new();
        for rule in groups.into_iter().flat_map(|group| &group.rules).filter(|rule| matches!(rule, Rule::Recording(_))) {
            recorded.entry(rule.name()).or_default().push(rule);
        }
        Recorded(recorded)
    }

    /// The rules that record this name.
    pub(in crate::rules) fn of(&self, name: &str) -> Option<&[&'a Rule]> {
        self.0.get(name).map(Vec::as_slice)
    }

    /// Whether a selector has input: series of its own, or of something that is recorded into its name.
    pub(in crate::rules) fn is_fed(&self, selector: &VectorSelector, alive: &mut impl FnMut(&VectorSelector) -> bool) -> bool {
        self.is_fed_within(selector, alive, MAX_DEPTH)
    }

    fn is_fed_within(&self, selector: &VectorSelector, alive: &mut impl FnMut(&VectorSelector) -> bool, depth: usize) -> bool {
        if depth == 0 || name_of(selector).is_some_and(|name| name.starts_with("ALERTS")) || alive(selector) {
            return true;
        }
        let recorders = name_of(selector).and_then(|name| self.of(name)).unwrap_or_default();
        recorders.iter().any(|rule| {
            let selectors = rule.selectors();
            // One that reads nothing, such as vector(1), needs nothing.
            selectors.is_empty() || selectors.iter().any(|(selector, _)| self.is_fed_within(selector, alive, depth - 1))
        })
    }

    /// Whether a rule has any input at all.
    pub(in crate::rules) fn feeds(&self, rule: &Rule, alive: &mut impl FnMut(&VectorSelector) -> bool) -> bool {
        let selectors = rule.selectors();
        selectors.is_empty() || selectors.iter().any(|(selector, _)| self.is_fed(selector, alive))
    }

    /// What would bring the series of a name, in words.
    pub fn feed(&self, name: &str) -> String {
        let mut names = BTreeSet::new();
        self.leaves(name, &mut names, MAX_DEPTH);
        let sources: BTreeSet<String> = names.iter().map(|leaf| brought_by(leaf)).collect();
        let sources = sources.into_iter().collect::<Vec<_>>().join("; ");
        if self.of(name).is_none() {
            return sources;
        }
        let names: Vec<&str> = names.into_iter().collect();
        format!("{name} is recorded from {}: {sources}", names.join(", "))
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
    // From the end: of the names that several have, the last kind is the one that is named for them (probe, not json_api).
    match COLLECTORS.iter().rev().find(|kind| kind.metrics.iter().copied().flatten().any(|metric| is_series_of(name, metric.name))) {
        // Applications expose these themselves, as a rule.
        Some(kind) if kind.name == "access_log" && name.starts_with("http_") => {
            format!("a target of scrape_configs that exposes {name} would bring it, and so would collectors.access_log")
        }
        Some(kind) => format!("collectors.{} would bring it", kind.name),
        None if name.starts_with("sql_") => "a query of that name under queries of postgres, mysql or sqlite would bring it".to_owned(),
        None => format!("a target of scrape_configs that exposes {name} would bring it"),
    }
}

fn is_series_of(series: &str, metric: &str) -> bool {
    series.strip_prefix(metric).is_some_and(|rest| matches!(rest, "" | "_bucket" | "_sum" | "_count"))
}

/// The wanted rules that nothing in a configuration can feed, each with what would; empty where anything may come, because targets are scraped.
/// `chosen` are beginnings of further names, which the configuration gave.
pub fn without_input(groups: &[RuleGroup], collectors: &[&str], chosen: &[String]) -> Vec<String> {
    let kinds: Vec<_> = COLLECTORS.iter().filter(|kind| collectors.contains(&kind.name)).collect();
    if kinds.iter().any(|kind| kind.metrics.is_empty()) {
        return Vec::new();
    }
    let brought: HashSet<&str> = kinds.iter().flat_map(|kind| kind.metrics.iter().copied().flatten()).map(|metric| metric.name).collect();
    let base = |name: &str| ["", "_bucket", "_sum", "_count"].iter().any(|end| name.strip_suffix(end).is_some_and(|n| brought.contains(n)));
    let mut alive = |selector: &VectorSelector| {
        let is_chosen = |name: &str| chosen.iter().any(|beginning| name.starts_with(beginning.as_str()));
        name_of(selector).is_none_or(|name| base(name) || name == "up" || OWN.iter().any(|own| name.starts_with(own)) || is_chosen(name))
    };
    let recorded = Recorded::new(groups);
    let mut found = Vec::new();
    for group in groups.iter().filter(|group| is_wanted(group)) {
        for rule in group.rules.iter().filter(|rule| !recorded.feeds(rule, &mut alive)) {
            let names: BTreeSet<&str> = rule.selectors().iter().filter_map(|(selector, _)| name_of(selector)).collect();
            let feeds: Vec<String> = names.iter().map(|name| recorded.feed(name)).collect();
            found.push(format!("{}:{}: rule {:?} has nothing to read: {}", group.file, rule.position(), rule.name(), feeds.join("; ")));
        }
    }
    found
}
