//! One label matcher (`= != =~ !~`), its regular expression anchored as Prometheus anchors it.

use std::fmt;
use std::sync::Arc;

use regex::{Regex, RegexBuilder};

use super::labels::Labels;
use super::regex::translate;
use super::text::{is_legacy_label_name, quote};

/// Longest pattern that is compiled, in bytes. Alternatives of plain text are not compiled and may
/// be longer.
const MAX_PATTERN: usize = 1 << 20;
/// What a compiled pattern may take, in bytes: so much, so much for each byte of its text, and
/// never more than that.
const MAX_COMPILED: usize = 512 << 10;
/// Bytes of a compiled pattern for each byte of its text.
pub const COMPILED_BYTE: usize = 64;
/// Most bytes of one compiled pattern.
pub const MOST_COMPILED: usize = 16 << 20;

/// How a matcher compares.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub enum MatchOp {
    /// `=`
    Equal,
    /// `!=`
    NotEqual,
    /// `=~`, anchored at both ends
    Regex,
    /// `!~`, anchored at both ends
    NotRegex,
}

impl MatchOp {
    /// The operator's text.
    pub fn as_str(self) -> &'static str {
        match self {
            MatchOp::Equal => "=",
            MatchOp::NotEqual => "!=",
            MatchOp::Regex => "=~",
            MatchOp::NotRegex => "!~",
        }
    }
}

/// The pattern of a matcher is not a regular expression.
#[derive(Debug, Clone, thiserror::Error)]
#[error("invalid regular expression {pattern:?}: {reason}")]
pub struct MatcherError {
    /// The pattern as written.
    pub pattern: String,
    /// What is wrong with it, in the words of Go's parser where it refuses too.
    pub reason: String,
}

/// A test on one label. An absent label counts as `""`.
#[derive(Clone)]
pub struct Matcher {
    /// The label's name.
    pub name: String,
    /// The comparison.
    pub op: MatchOp,
    /// The text or the pattern as written.
    pub value: String,
    pattern: Pattern,
}

/// What a pattern was made into.
#[derive(Clone)]
enum Pattern {
    /// None is needed.
    Text,
    /// The alternatives of a pattern without other syntax, sorted: found without compiling
    /// anything, however many there are.
    Literals(Arc<[Box<str>]>),
    Regex(Regex),
}

impl Pattern {
    fn new(pattern: &str) -> Result<Self, MatcherError> {
        match literals(pattern) {
            Some(literals) => Ok(Pattern::Literals(literals)),
            None => anchored(pattern).map(Pattern::Regex),
        }
    }

    fn is_match(&self, value: &str) -> bool {
        match self {
            Pattern::Text => false,
            Pattern::Literals(literals) => literals
                .binary_search_by(|literal| (**literal).cmp(value))
                .is_ok(),
            Pattern::Regex(regex) => regex.is_match(value),
        }
    }
}

/// The alternatives of a pattern that has no other syntax than `|`, without repetitions.
fn literals(pattern: &str) -> Option<Arc<[Box<str>]>> {
    if pattern.bytes().any(|b| b"\\.+*?()[]{}^$".contains(&b)) {
        return None;
    }
    let mut literals: Vec<Box<str>> = pattern.split('|').map(Box::from).collect();
    literals.sort_unstable();
    literals.dedup();
    Some(literals.into())
}

impl Matcher {
    /// Builds a matcher; errs when a pattern does not compile.
    pub fn new(name: &str, op: MatchOp, value: &str) -> Result<Self, MatcherError> {
        let pattern = match op {
            MatchOp::Equal | MatchOp::NotEqual => Pattern::Text,
            MatchOp::Regex | MatchOp::NotRegex => Pattern::new(value)?,
        };
        Ok(Matcher {
            name: name.to_owned(),
            op,
            value: value.to_owned(),
            pattern,
        })
    }

    /// `name = value`.
    pub fn equal(name: &str, value: &str) -> Self {
        Matcher {
            name: name.to_owned(),
            op: MatchOp::Equal,
            value: value.to_owned(),
            pattern: Pattern::Text,
        }
    }

    /// Whether a label value (`""` for an absent label) passes.
    pub fn matches(&self, value: &str) -> bool {
        match self.op {
            MatchOp::Equal => value == self.value,
            MatchOp::NotEqual => value != self.value,
            MatchOp::Regex => self.pattern.is_match(value),
            MatchOp::NotRegex => !self.pattern.is_match(value),
        }
    }

    /// The texts that the pattern matches, sorted, where it is nothing but alternatives of plain
    /// text.
    pub fn literals(&self) -> Option<&[Box<str>]> {
        match &self.pattern {
            Pattern::Literals(literals) => Some(literals),
            Pattern::Text | Pattern::Regex(_) => None,
        }
    }

    /// Whether the label set passes.
    pub fn matches_labels(&self, labels: &Labels) -> bool {
        self.matches(labels.value(&self.name))
    }
}

/// Most bytes that a pattern of this length may take once it is compiled.
fn compiled_size(length: usize) -> usize {
    (MAX_COMPILED + COMPILED_BYTE * length).min(MOST_COMPILED)
}

/// Compiles a pattern anchored at both ends, the dot matching newlines (Prometheus 3).
pub fn anchored(pattern: &str) -> Result<Regex, MatcherError> {
    let fail = |reason: String| MatcherError {
        pattern: pattern.to_owned(),
        reason,
    };
    if pattern.len() > MAX_PATTERN {
        return Err(MatcherError {
            pattern: String::new(),
            reason: format!("it is longer than {MAX_PATTERN} bytes"),
        });
    }
    let translated = translate(pattern).map_err(|error| fail(error.to_string()))?;
    let compiled = RegexBuilder::new(&format!("^(?s:{translated})$"))
        .size_limit(compiled_size(pattern.len()))
        .build();
    compiled.map_err(|e| {
        let text = e.to_string();
        fail(
            text.lines()
                .rfind(|l| !l.trim().is_empty())
                .unwrap_or("")
                .trim()
                .trim_start_matches("error: ")
                .to_owned(),
        )
    })
}

impl PartialEq for Matcher {
    fn eq(&self, other: &Self) -> bool {
        (&self.name, self.op, &self.value) == (&other.name, other.op, &other.value)
    }
}

impl Eq for Matcher {}

impl std::hash::Hash for Matcher {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        (&self.name, self.op, &self.value).hash(state);
    }
}

impl fmt::Display for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if is_legacy_label_name(&self.name) {
            f.write_str(&self.name)?;
        } else {
            f.write_str(&quote(&self.name))?;
        }
        write!(f, "{}{}", self.op.as_str(), quote(&self.value))
    }
}

impl fmt::Debug for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// SEMANTICS 49 and 144: anchored, the dot matches newlines, an absent label is empty.
    #[test]
    fn patterns_are_anchored_and_absent_labels_are_empty() {
        let m = Matcher::new("a", MatchOp::Regex, "x.y").expect("valid");
        assert!(m.matches("x\ny") && !m.matches("ax.yb"));
        let n = Matcher::new("a", MatchOp::NotEqual, "x").expect("valid");
        assert!(n.matches_labels(&Labels::empty()));
        assert!(Matcher::new("a", MatchOp::Regex, "(").is_err());
    }

    #[test]
    fn alternatives_of_plain_text_are_looked_up_whatever_their_number() {
        let pattern = (0..100_000)
            .map(|i| format!("pod-{i}"))
            .collect::<Vec<_>>()
            .join("|")
            + "|";
        let (is, is_not) = (
            Matcher::new("a", MatchOp::Regex, &pattern),
            Matcher::new("a", MatchOp::NotRegex, &pattern),
        );
        let (is, is_not) = (is.expect("valid"), is_not.expect("valid"));
        for (value, expected) in [
            ("pod-99999", true),
            ("", true),
            ("pod-", false),
            ("pod-1|pod-2", false),
            ("xpod-1", false),
        ] {
            assert_eq!(
                (is.matches(value), is_not.matches(value)),
                (expected, !expected),
                "{value}"
            );
        }
        assert!(
            Matcher::new("a", MatchOp::Regex, "a.b")
                .expect("valid")
                .literals()
                .is_none()
        );
    }
}
