//! Inhibition: a firing alert mutes others (<https://prometheus.io/docs/alerting/latest/configuration/#inhibit_rule>).
//!
//! Unlike Alertmanager, which indexes one source per tuple of equal labels, every candidate is looked at (SEMANTICS 163).

use super::route::read_matchers;
use crate::config::Section;
use crate::model::{Alert, Labels, Matcher};

/// One rule: while a source fires, targets with the same `equal` labels are muted.
#[derive(Clone, Debug)]
pub struct InhibitRule {
    pub(super) source: Vec<Matcher>,
    pub(super) target: Vec<Matcher>,
    pub(super) equal: Vec<String>,
}

impl InhibitRule {
    /// Reads one rule and records its mistakes.
    pub fn read(section: &Section<'_>) -> Self {
        section.get::<String>("name");
        let rule = InhibitRule {
            source: read_matchers(section, "source_match", "source_match_re", "source_matchers"),
            target: read_matchers(section, "target_match", "target_match_re", "target_matchers"),
            equal: section.or("equal", Vec::new()),
        };
        section.finish();
        rule
    }

    /// Whether `source`, which fires and matches the source side, mutes an alert with the labels `target`.
    fn mutes(&self, source: &Labels, target: &Labels, target_is_source: bool) -> bool {
        !(target_is_source && all_match(&self.target, source)) && self.equal.iter().all(|name| source.value(name) == target.value(name))
    }
}

fn all_match(matchers: &[Matcher], labels: &Labels) -> bool {
    matchers.iter().all(|m| m.matches_labels(labels))
}

/// The rules with the alerts that fire on their source side now: made once for a tick, asked for each alert.
pub struct Inhibition<'a>(Vec<(&'a InhibitRule, Vec<&'a Alert>)>);

impl<'a> Inhibition<'a> {
    /// Finds the sources among the alerts that fire. Silenced, muted and otherwise routed ones count too.
    pub fn new(rules: &'a [InhibitRule], firing: impl Iterator<Item = &'a Alert> + Clone) -> Self {
        let sources = |rule: &'a InhibitRule| (rule, firing.clone().filter(|a| all_match(&rule.source, &a.labels)).collect());
        Inhibition(rules.iter().map(sources).collect())
    }

    /// Fingerprints of the alerts that mute an alert with these labels: at most one for each rule.
    pub fn muting(&self, target: &Labels) -> Vec<u64> {
        let muting = |(rule, sources): &(&InhibitRule, Vec<&Alert>)| {
            if !all_match(&rule.target, target) {
                return None;
            }
            // A target that is a source itself is not muted by its like: no self-inhibition, no mutual muting.
            let is_source = all_match(&rule.source, target);
            sources.iter().find(|source| rule.mutes(&source.labels, target, is_source)).map(|source| source.fingerprint())
        };
        let mut found: Vec<u64> = self.0.iter().filter_map(muting).collect();
        found.sort_unstable();
        found.dedup();
        found
    }

    /// The labels of an alert that mutes others.
    pub fn source(&self, fingerprint: u64) -> Option<&'a Labels> {
        let sources = self.0.iter().flat_map(|(_, sources)| sources);
        sources.copied().find(|source| source.fingerprint() == fingerprint).map(|source| &source.labels)
    }
}
