//! Inhibition: a firing alert mutes others
//! (<https://prometheus.io/docs/alerting/latest/configuration/#inhibit_rule>).
//!
//! Unlike Alertmanager, which indexes one source per tuple of equal labels, every candidate is
//! looked at (SEMANTICS 163).
//!
//! Rules that nightbell brings along hold between alerts of its own rules alone. They need every
//! `equal` label to be there, and never keep an end from people who heard of the beginning.

use std::collections::HashMap;

use crate::alerting::config::matchers::{MatcherSyntax, parse_matchers};
use crate::alerting::config::route::read_matchers;
use crate::config::Section;
use crate::model::{Alert, Labels, Matcher};

/// In a rule of our own: the label `host`, or without it `instance` without its port.
const HOST: &str = "host";

/// One rule: while a source fires, targets with the same `equal` labels are muted.
#[derive(Clone, Debug)]
pub struct InhibitRule {
    pub(in crate::alerting) source: Vec<Matcher>,
    pub(in crate::alerting) target: Vec<Matcher>,
    pub(in crate::alerting) equal: Vec<String>,
    /// Whether it is one of our own, for alerts of our own rules.
    shipped: bool,
}

impl InhibitRule {
    /// Reads one rule and records its mistakes.
    pub fn read(section: &Section<'_>) -> Self {
        section.get::<String>("name");
        let rule = InhibitRule {
            source: read_matchers(
                section,
                "source_match",
                "source_match_re",
                "source_matchers",
            ),
            target: read_matchers(
                section,
                "target_match",
                "target_match_re",
                "target_matchers",
            ),
            equal: section.or("equal", Vec::new()),
            shipped: false,
        };
        section.finish();
        rule
    }

    /// A rule of our own, from matchers as text.
    ///
    /// # Errors
    /// Where a text is none.
    pub fn shipped(source: &str, target: &str, equal: &[&str]) -> Result<Self, MatcherSyntax> {
        let equal = equal.iter().map(|name| (*name).to_owned()).collect();
        Ok(InhibitRule {
            source: parse_matchers(source)?,
            target: parse_matchers(target)?,
            equal,
            shipped: true,
        })
    }

    /// Whether it can mute this alert, if a source fires. `notified`: people know that the alert
    /// fires.
    fn is_about(&self, target: &Alert, notified: bool) -> bool {
        (!self.shipped || (target.shipped && !notified)) && all_match(&self.target, &target.labels)
    }

    fn is_source(&self, alert: &Alert) -> bool {
        (!self.shipped || alert.shipped) && all_match(&self.source, &alert.labels)
    }

    /// Whether `source`, which fires and matches the source side, mutes an alert with the labels
    /// `target`.
    fn mutes(&self, source: &Labels, target: &Labels, target_is_source: bool) -> bool {
        let equal = |name: &String| {
            let (a, b) = (self.value(source, name), self.value(target, name));
            a == b && !(self.shipped && a.is_empty())
        };
        !(target_is_source && all_match(&self.target, source)) && self.equal.iter().all(equal)
    }

    /// Equal for alerts that agree on every `equal` label.
    fn equal_hash(&self, labels: &Labels, state: &ahash::RandomState) -> u64 {
        let values: Vec<&str> = self
            .equal
            .iter()
            .map(|name| self.value(labels, name))
            .collect();
        state.hash_one(values)
    }

    fn value<'l>(&self, labels: &'l Labels, name: &str) -> &'l str {
        match labels.value(name) {
            "" if self.shipped && name == HOST => without_port(labels.value("instance")),
            value => value,
        }
    }
}

/// `db1` of `db1:9100`, `[::1]` of `[::1]:9100`.
fn without_port(instance: &str) -> &str {
    match instance.rsplit_once(':') {
        Some((host, port)) if !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()) => host,
        _ => instance,
    }
}

fn all_match(matchers: &[Matcher], labels: &Labels) -> bool {
    matchers.iter().all(|m| m.matches_labels(labels))
}

/// The rules with the alerts that fire on their source side now: made once for a tick, asked for
/// each alert.
pub struct Inhibition<'a>(Vec<Sources<'a>>);

/// The alerts of one rule's source side, by the hash of their `equal` labels.
struct Sources<'a> {
    rule: &'a InhibitRule,
    by_equal: HashMap<u64, Vec<&'a Alert>, ahash::RandomState>,
}

impl<'a> Inhibition<'a> {
    /// Finds the sources among the alerts that fire. Silenced, muted and otherwise routed ones
    /// count too.
    pub fn new(rules: &'a [InhibitRule], firing: impl Iterator<Item = &'a Alert> + Clone) -> Self {
        let sources = |rule: &'a InhibitRule| {
            let mut by_equal: HashMap<u64, Vec<&'a Alert>, ahash::RandomState> = HashMap::default();
            for alert in firing.clone().filter(|alert| rule.is_source(alert)) {
                by_equal
                    .entry(rule.equal_hash(&alert.labels, by_equal.hasher()))
                    .or_default()
                    .push(alert);
            }
            Sources { rule, by_equal }
        };
        Inhibition(rules.iter().map(sources).collect())
    }

    /// The alerts that mute this one: at most one for each rule. `notified`: people heard that it
    /// fires, and it has ended.
    pub fn muting(&self, target: &Alert, notified: bool) -> Vec<&'a Alert> {
        let muting = |Sources { rule, by_equal }: &Sources<'a>| {
            if by_equal.is_empty() || !rule.is_about(target, notified) {
                return None;
            }
            // A target that is a source itself is not muted by its like: no self-inhibition, no
            // mutual muting.
            let is_source = rule.is_source(target);
            let sources = by_equal.get(&rule.equal_hash(&target.labels, by_equal.hasher()))?;
            sources
                .iter()
                .copied()
                .find(|source| rule.mutes(&source.labels, &target.labels, is_source))
        };
        let mut found: Vec<&Alert> = self.0.iter().filter_map(muting).collect();
        found.sort_by_cached_key(|alert| alert.fingerprint());
        found.dedup_by(|a, b| a.labels == b.labels);
        found
    }
}
