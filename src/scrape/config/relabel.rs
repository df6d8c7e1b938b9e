//! Relabelling as Prometheus does it (`relabel_configs`, `metric_relabel_configs`): a list of rules
//! that rewrite or drop a label set.

use std::sync::LazyLock;

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
    section
        .sections(key)
        .iter()
        .filter_map(RelabelRule::read)
        .collect()
}

/// Applies the rules in order; `false` when one of them drops the label set.
pub fn apply(rules: &[RelabelRule], labels: &mut LabelsBuilder) -> bool {
    rules.iter().all(|rule| rule.apply(labels))
}

/// The lower case of one character that is one character, as Go maps them: a sigma does not know
/// that it ends a word.
fn lowercase(c: char) -> char {
    let mut lower = c.to_lowercase();
    lower.next().unwrap_or(c)
}

/// The same for upper case: what would become several characters stays, but for Greek letters with
/// an iota, which have a form of their own.
fn uppercase(c: char) -> char {
    match c {
        '\u{1F80}'..='\u{1F87}' | '\u{1F90}'..='\u{1F97}' | '\u{1FA0}'..='\u{1FA7}' => {
            char::from_u32(c as u32 + 8).unwrap_or(c)
        }
        '\u{1FB3}' | '\u{1FC3}' | '\u{1FF3}' => char::from_u32(c as u32 + 9).unwrap_or(c),
        _ => {
            let mut upper = c.to_uppercase();
            if upper.len() == 1 {
                upper.next().unwrap_or(c)
            } else {
                c
            }
        }
    }
}

/// Writes `template` with the groups of a match, as Go's `Regexp.Expand` does: a name is the
/// longest run of letters, digits and `_`; what is no name behind a dollar stands as it is, and so
/// does a brace that does not close behind one.
fn expand(captures: &regex::Captures<'_>, template: &str, out: &mut String) {
    let mut rest = template;
    while let Some((before, behind)) = rest.split_once('$') {
        out.push_str(before);
        if let Some(behind) = behind.strip_prefix('$') {
            out.push('$');
            rest = behind;
            continue;
        }
        let (braced, text) = behind
            .strip_prefix('{')
            .map_or((false, behind), |text| (true, text));
        let end = text
            .find(|c: char| c != '_' && !is_letter_or_digit(c))
            .unwrap_or(text.len());
        let (name, after) = text.split_at(end);
        let after = if braced {
            after.strip_prefix('}')
        } else {
            Some(after)
        };
        let (Some(after), false) = (after, name.is_empty()) else {
            out.push('$');
            rest = behind;
            continue;
        };
        rest = after;
        let is_number =
            name.bytes().all(|b| b.is_ascii_digit()) && (name == "0" || !name.starts_with('0'));
        let group = if is_number {
            name.parse().ok().and_then(|number| captures.get(number))
        } else {
            captures.name(name)
        };
        out.push_str(group.map_or("", |group| group.as_str()));
    }
    out.push_str(rest);
}

/// A letter (Unicode's category L) or a decimal digit (Nd), as Go has them.
fn is_letter_or_digit(c: char) -> bool {
    static OTHERS: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"^[\p{L}\p{Nd}]$").ok());
    c.is_ascii_alphanumeric()
        || (!c.is_ascii()
            && OTHERS
                .as_ref()
                .is_some_and(|others| others.is_match(c.encode_utf8(&mut [0; 4]))))
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
                    section.error(
                        "regex",
                        error.to_string(),
                        "write a regular expression in RE2 syntax, without look-around",
                    );
                    return None;
                }
            },
            modulus: section.or("modulus", 0),
            target_label: raw(section, "target_label").unwrap_or_default(),
            replacement: raw(section, "replacement").unwrap_or_else(|| "$1".into()),
            action: match ACTIONS
                .iter()
                .find(|(name, _)| *name == word.to_lowercase())
            {
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
        use Action::{
            DropEqual, HashMod, KeepEqual, LabelDrop, LabelKeep, LabelMap, Lowercase, Replace,
            Uppercase,
        };
        let word = ACTIONS
            .iter()
            .find(|(_, a)| *a == self.action)
            .map_or("", |(n, _)| n);
        if self.action == HashMod && self.modulus == 0 {
            section.error(
                "modulus",
                "action hashmod needs a modulus",
                "add modulus: the number of shards",
            );
        }
        let needs_target = matches!(
            self.action,
            Replace | HashMod | Lowercase | Uppercase | KeepEqual | DropEqual
        );
        if needs_target && self.target_label.is_empty() {
            section.error(
                "target_label",
                format!("action {word} needs a target_label"),
                "add target_label: the label to write or compare",
            );
        } else if needs_target
            && self.action != Replace
            && !is_legacy_label_name(&self.target_label)
        {
            section.error(
                "target_label",
                "is not a label name",
                "use letters, digits and _",
            );
        }
        if self.action == LabelMap
            && !is_legacy_label_name(&self.replacement.replace(['$', '{', '}'], ""))
            && !self.replacement.contains('$')
        {
            section.error(
                "replacement",
                "is not a label name",
                "use letters, digits and _",
            );
        }
        let only: &[&str] = match self.action {
            LabelDrop | LabelKeep => &["regex"],
            KeepEqual | DropEqual => &["source_labels", "separator", "target_label"],
            _ => return,
        };
        for key in [
            "source_labels",
            "separator",
            "modulus",
            "target_label",
            "regex",
            "replacement",
        ] {
            if !only.contains(&key) && section.own_node().get(key).is_some() {
                section.error(
                    key,
                    format!("has no meaning beside action {word}"),
                    "remove it",
                );
            }
        }
    }

    fn apply(&self, labels: &mut LabelsBuilder) -> bool {
        let values: Vec<&str> = self
            .source_labels
            .iter()
            .map(|name| labels.get(name).unwrap_or(""))
            .collect();
        let value = values.join(&self.separator);
        match self.action {
            Action::Drop => return !self.regex.is_match(&value),
            Action::Keep => return self.regex.is_match(&value),
            Action::DropEqual => return labels.get(&self.target_label).unwrap_or("") != value,
            Action::KeepEqual => return labels.get(&self.target_label).unwrap_or("") == value,
            Action::Replace => self.replace(labels, &value),
            Action::Lowercase => drop(labels.set(
                &self.target_label,
                &value.chars().map(lowercase).collect::<String>(),
            )),
            Action::Uppercase => drop(labels.set(
                &self.target_label,
                &value.chars().map(uppercase).collect::<String>(),
            )),
            Action::HashMod => {
                // Prometheus takes the last eight bytes of the MD5 sum.
                let sum = Md5::digest(value.as_bytes());
                let hash = sum[8..].iter().fold(0u64, |n, b| n << 8 | u64::from(*b));
                labels.set(
                    &self.target_label,
                    &(hash % self.modulus.max(1)).to_string(),
                );
            }
            Action::LabelMap => {
                let matching = |(name, value): (&str, &str)| {
                    let captures = self.regex.captures(name)?;
                    let mut target = String::new();
                    expand(&captures, &self.replacement, &mut target);
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
        let Some(captures) = self.regex.captures(value) else {
            return;
        };
        let (mut target, mut text) = (String::new(), String::new());
        expand(&captures, &self.target_label, &mut target);
        expand(&captures, &self.replacement, &mut text);
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
        assert_eq!(
            "ΟΔΟΣ İX ẞ".chars().map(lowercase).collect::<String>(),
            "οδοσ ix ß"
        );
        assert_eq!(
            "straße ﬁ ᾳ é".chars().map(uppercase).collect::<String>(),
            "STRAßE ﬁ ᾼ É"
        );
    }

    /// Recorded from Prometheus 3.5, job `rel`.
    #[test]
    fn groups_are_put_in_as_go_puts_them_in() {
        let regex = anchored("(r)(.*)").expect("sound");
        let captures = regex.captures("rel").expect("it matches");
        for (template, want) in [
            ("x${ y", "x${ y"),
            ("x$ y", "x$ y"),
            ("x$", "x$"),
            ("x${1", "x${1"),
            ("x${}z", "x${}z"),
            ("x$1y-$$-${2}", "x-$-el"),
            ("${a b}$1", "${a b}r"),
            ("$-$1 ${ 1}", "$-r ${ 1}"),
            ("é$é$ä1${1}${é}x", "érx"),
            ("$01$1$${1}${01}", "r${1}"),
            ("$0|$3|$1_|$99999999999999999999", "rel|||"),
        ] {
            let mut text = String::new();
            expand(&captures, template, &mut text);
            assert_eq!(text, want, "{template}");
        }
    }
}
