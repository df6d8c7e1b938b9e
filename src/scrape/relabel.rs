//! Relabelling as Prometheus does it (`relabel_configs`, `metric_relabel_configs`): a list of rules that rewrite or drop a label set.

use md5::{Digest, Md5};
use regex::Regex;

use crate::config::{Section, Value};
use crate::model::LabelsBuilder;
use crate::model::matcher::anchored;
use crate::model::text::{is_legacy_label_name, nearest};

/// What a rule does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Action {
    Replace,
    Keep,
    Drop,
    KeepEqual,
    DropEqual,
    HashMod,
    LabelMap,
    LabelDrop,
    LabelKeep,
    Lowercase,
    Uppercase,
}

const ACTIONS: [(&str, Action); 11] = [
    ("replace", Action::Replace),
    ("keep", Action::Keep),
    ("drop", Action::Drop),
    ("keepequal", Action::KeepEqual),
    ("dropequal", Action::DropEqual),
    ("hashmod", Action::HashMod),
    ("labelmap", Action::LabelMap),
    ("labeldrop", Action::LabelDrop),
    ("labelkeep", Action::LabelKeep),
    ("lowercase", Action::Lowercase),
    ("uppercase", Action::Uppercase),
];

/// One entry of `relabel_configs`.
#[derive(Clone, Debug)]
pub struct RelabelRule {
    source_labels: Vec<String>,
    separator: String,
    regex: Regex,
    modulus: u64,
    target_label: String,
    replacement: String,
    action: Action,
}

/// Reads the list of rules under `key`.
pub fn read_rules(section: &Section<'_>, key: &str) -> Vec<RelabelRule> {
    section.sections(key).iter().filter_map(RelabelRule::read).collect()
}

/// Applies the rules in order; `false` when one of them drops the label set.
pub fn apply(rules: &[RelabelRule], labels: &mut LabelsBuilder) -> bool {
    rules.iter().all(|rule| rule.apply(labels))
}

/// The lower case of one character that is one character, as Go maps them: a sigma does not know that it ends a word.
fn lowercase(c: char) -> char {
    let mut lower = c.to_lowercase();
    lower.next().unwrap_or(c)
}

/// The same for upper case: what would become several characters stays, but for Greek letters with an iota, which have a form of their own.
fn uppercase(c: char) -> char {
    match c {
        '\u{1F80}'..='\u{1F87}' | '\u{1F90}'..='\u{1F97}' | '\u{1FA0}'..='\u{1FA7}' => char::from_u32(c as u32 + 8).unwrap_or(c),
        '\u{1FB3}' | '\u{1FC3}' | '\u{1FF3}' => char::from_u32(c as u32 + 9).unwrap_or(c),
        _ => {
            let mut upper = c.to_uppercase();
            if upper.len() == 1 { upper.next().unwrap_or(c) } else { c }
        }
    }
}

/// A text in which `${1}` is a regular expression's group, so no environment variable is replaced.
fn raw(section: &Section<'_>, key: &str) -> Option<String> {
    match section.node(key).map(|node| (node, &node.value)) {
        Some((_, Value::Scalar { text, .. })) => Some(text.clone()),
        Some((node, _)) => {
            section.error(key, format!("is {}", node.kind()), "give text");
            None
        }
        None => None,
    }
}

impl RelabelRule {
    fn read(section: &Section<'_>) -> Option<Self> {
        let word = section.or("action", "replace".to_owned());
        let pattern = section.get::<String>("regex");
        let rule = RelabelRule {
            source_labels: section.or("source_labels", Vec::new()),
            separator: raw(section, "separator").unwrap_or_else(|| ";".into()),
            regex: match anchored(pattern.as_deref().unwrap_or("(.*)")) {
                Ok(regex) => regex,
                Err(error) => {
                    section.error("regex", error.to_string(), "write a regular expression in RE2 syntax, without look-around");
                    return None;
                }
            },
            modulus: section.or("modulus", 0),
            target_label: raw(section, "target_label").unwrap_or_default(),
            replacement: raw(section, "replacement").unwrap_or_else(|| "$1".into()),
            action: match ACTIONS.iter().find(|(name, _)| *name == word.to_lowercase()) {
                Some((_, action)) => *action,
                None => {
                    let remedy = match nearest(&word, ACTIONS.iter().map(|(n, _)| *n)) {
                        Some(name) => format!("did you mean {name:?}?"),
                        None => format!("known here: {}", ACTIONS.map(|(n, _)| n).join(", ")),
                    };
                    section.error("action", format!("unknown action {word:?}"), remedy);
                    return None;
                }
            },
        };
        rule.validate(section);
        section.finish();
        Some(rule)
    }

    fn validate(&self, section: &Section<'_>) {
        use Action::{DropEqual, HashMod, KeepEqual, LabelDrop, LabelKeep, LabelMap, Lowercase, Replace, Uppercase};
        let word = ACTIONS.iter().find(|(_, a)| *a == self.action).map_or("", |(n, _)| n);
        if self.action == HashMod && self.modulus == 0 {
            section.error("modulus", "action hashmod needs a modulus", "add modulus: the number of shards");
        }
        let needs_target = matches!(self.action, Replace | HashMod | Lowercase | Uppercase | KeepEqual | DropEqual);
        if needs_target && self.target_label.is_empty() {
            section.error("target_label", format!("action {word} needs a target_label"), "add target_label: the label to write or compare");
        } else if needs_target && self.action != Replace && !is_legacy_label_name(&self.target_label) {
            section.error("target_label", "is not a label name", "use letters, digits and _");
        }
        if self.action == LabelMap
            && !is_legacy_label_name(&self.replacement.replace(['$', '{', '}'], ""))
            && !self.replacement.contains('$')
        {
            section.error("replacement", "is not a label name", "use letters, digits and _");
        }
        let only: &[&str] = match self.action {
            LabelDrop | LabelKeep => &["regex"],
            KeepEqual | DropEqual => &["source_labels", "separator", "target_label"],
            _ => return,
        };
        for key in ["source_labels", "separator", "modulus", "target_label", "regex", "replacement"] {
            if !only.contains(&key) && section.own_node().get(key).is_some() {
                section.error(key, format!("has no meaning beside action {word}"), "remove it");
            }
        }
    }

    fn apply(&self, labels: &mut LabelsBuilder) -> bool {
        let values: Vec<&str> = self.source_labels.iter().map(|name| labels.get(name).unwrap_or("")).collect();
        let value = values.join(&self.separator);
        match self.action {
            Action::Drop => return !self.regex.is_match(&value),
            Action::Keep => return self.regex.is_match(&value),
            Action::DropEqual => return labels.get(&self.target_label).unwrap_or("") != value,
            Action::KeepEqual => return labels.get(&self.target_label).unwrap_or("") == value,
            Action::Replace => self.replace(labels, &value),
            Action::Lowercase => drop(labels.set(&self.target_label, &value.chars().map(lowercase).collect::<String>())),
            Action::Uppercase => drop(labels.set(&self.target_label, &value.chars().map(uppercase).collect::<String>())),
            Action::HashMod => {
                // Prometheus takes the last eight bytes of the MD5 sum.
                let sum = Md5::digest(value.as_bytes());
                let hash = sum[8..].iter().fold(0u64, |n, b| n << 8 | u64::from(*b));
                labels.set(&self.target_label, &(hash % self.modulus.max(1)).to_string());
            }
            Action::LabelMap => {
                let matching = |(name, value): (&str, &str)| {
                    let captures = self.regex.captures(name)?;
                    let mut target = String::new();
                    captures.expand(&self.replacement, &mut target);
                    Some((target, value.to_owned()))
                };
                let mapped: Vec<(String, String)> = labels.iter().filter_map(matching).collect();
                for (name, value) in mapped {
                    labels.set(&name, &value);
                }
            }
            Action::LabelDrop => drop(labels.retain(|name, _| !self.regex.is_match(name))),
            Action::LabelKeep => drop(labels.retain(|name, _| self.regex.is_match(name))),
        }
        true
    }

    fn replace(&self, labels: &mut LabelsBuilder, value: &str) {
        let Some(captures) = self.regex.captures(value) else { return };
        let (mut target, mut text) = (String::new(), String::new());
        captures.expand(&self.target_label, &mut target);
        captures.expand(&self.replacement, &mut text);
        if !target.is_empty() {
            labels.set(&target, &text);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Recorded from Go's `strings.ToLower` and `strings.ToUpper`.
    #[test]
    fn case_is_changed_character_by_character() {
        assert_eq!("ΟΔΟΣ İX ẞ".chars().map(lowercase).collect::<String>(), "οδοσ ix ß");
        assert_eq!("straße ﬁ ᾳ é".chars().map(uppercase).collect::<String>(), "STRAßE ﬁ ᾼ É");
    }
}
