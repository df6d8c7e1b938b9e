//! What every text has in it that a pattern matches: where there are many texts they are searched
//! for that first, which is much faster than to match one after the other.

use regex_syntax::hir::{Class, Hir, HirKind};

use super::regex::translate;

/// Longest pattern that is looked at, in bytes.
const LONGEST: usize = 4 << 10;

/// Where a text has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Position {
    /// It is the text.
    Whole,
    /// The text begins with it.
    Start,
    /// The text ends with it.
    End,
    /// It is anywhere.
    Inside,
}

/// A literal that every text has which a pattern matches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Needle {
    /// The literal, never empty.
    pub text: String,
    /// Where the text has it.
    pub position: Position,
    /// Whether the pattern matches whatever has it.
    pub is_all: bool,
}

/// A part of a pattern.
enum Part {
    Text(Vec<u8>),
    /// `.*`
    Anything,
    Other,
}

impl Needle {
    /// The longest one of an anchored pattern, as it is written; `None` where there is none.
    pub fn of(pattern: &str) -> Option<Needle> {
        if pattern.len() > LONGEST {
            return None;
        }
        let hir = regex_syntax::parse(&format!("(?s:{})", translate(pattern).ok()?)).ok()?;
        let mut parts = Vec::new();
        flatten(&hir, &mut parts);
        let length = |part: &Part| match part {
            Part::Text(text) => text.len(),
            _ => 0,
        };
        let (at, longest) = parts
            .iter()
            .enumerate()
            .max_by_key(|(_, part)| length(part))?;
        let Part::Text(text) = longest else {
            return None;
        };
        let text = String::from_utf8(text.clone()).ok()?;
        let position = match (at == 0, at + 1 == parts.len()) {
            (true, true) => Position::Whole,
            (true, false) => Position::Start,
            (false, true) => Position::End,
            (false, false) => Position::Inside,
        };
        let others = || parts.iter().enumerate().filter(|(number, _)| *number != at);
        let is_all = parts.len() <= 3
            && others().all(|(_, part)| matches!(part, Part::Anything))
            && (parts.len() < 3 || at == 1);
        Some(Needle {
            text,
            position,
            is_all,
        })
    }
}

fn flatten(hir: &Hir, into: &mut Vec<Part>) {
    match hir.kind() {
        HirKind::Empty => {}
        HirKind::Concat(parts) => parts.iter().for_each(|part| flatten(part, into)),
        HirKind::Capture(group) => flatten(&group.sub, into),
        HirKind::Literal(literal) => match into.last_mut() {
            Some(Part::Text(text)) => text.extend_from_slice(&literal.0),
            _ => into.push(Part::Text(literal.0.to_vec())),
        },
        HirKind::Repetition(repetition)
            if repetition.min == 0 && repetition.max.is_none() && is_any(&repetition.sub) =>
        {
            into.push(Part::Anything);
        }
        _ => into.push(Part::Other),
    }
}

/// Whether it matches any one character.
fn is_any(hir: &Hir) -> bool {
    match hir.kind() {
        HirKind::Class(Class::Unicode(class)) => {
            matches!(class.ranges(), [all] if all.start() == '\0' && all.end() == char::MAX)
        }
        HirKind::Capture(group) => is_any(&group.sub),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::matcher::anchored;

    #[test]
    fn the_longest_literal_is_found_and_where_it_stands() {
        for (pattern, expected) in [
            ("pod-1.*", Some(("pod-1", Position::Start, true))),
            (".*api", Some(("api", Position::End, true))),
            (".*api.*", Some(("api", Position::Inside, true))),
            ("(.*)api(.*)", Some(("api", Position::Inside, true))),
            (r"a\.b", Some(("a.b", Position::Whole, true))),
            ("pod-[0-9]+", Some(("pod-", Position::Start, false))),
            ("[a-z]+-long-x", Some(("-long-x", Position::End, false))),
            ("a.*bc.*d", Some(("bc", Position::Inside, false))),
            ("a.*", Some(("a", Position::Start, true))),
            ("a.+", Some(("a", Position::Start, false))),
            ("foo|foobar", None),
            ("x.*|y.*", None),
            ("(?i)abc", None),
            (".*", None),
            (".+", None),
            ("", None),
            ("(", None),
        ] {
            let found = Needle::of(pattern);
            let found = found
                .as_ref()
                .map(|n| (n.text.as_str(), n.position, n.is_all));
            assert_eq!(found, expected, "{pattern}");
        }
    }

    proptest! {
        #[test]
        fn what_a_pattern_matches_has_its_needle(
            parts in prop::collection::vec(prop::sample::select(vec!["a", "b", "ab", ".*", ".+", ".", "a?", "(a|b)", "[ab]*", "(ab)+", "^", "$", "\n", "(?i:a)", "a|b"]), 1..5),
            text in "[abA\n]{0,6}",
        ) {
            let pattern = parts.concat();
            if let (Ok(regex), Some(needle)) = (anchored(&pattern), Needle::of(&pattern)) {
                let has = match needle.position {
                    Position::Whole => text == needle.text,
                    Position::Start => text.starts_with(&needle.text),
                    Position::End => text.ends_with(&needle.text),
                    Position::Inside => text.contains(&needle.text),
                };
                prop_assert!(has || !regex.is_match(&text), "{pattern:?} {text:?}");
                prop_assert!(!has || !needle.is_all || regex.is_match(&text), "{pattern:?} {text:?}");
            }
        }
    }
}
