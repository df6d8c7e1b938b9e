//! Reading one YAML tree of rules or tests field by field, with the mistakes collected instead of
//! returned.
//!
//! Values are taken as they stand: `${NAME}` means nothing here, because annotations may hold it.

use std::fmt::Display;
use std::time::Duration;

use super::{RuleFileError, RuleFileErrors, RuleLocation, Unportable};
use crate::config::{ConfigError, Document, Node, Position, ScalarStyle, Value};
use crate::model::parse_duration;
use crate::model::text::nearest;

type Entry = (String, Position, Node);

/// A tree being read, and what is wrong with it so far.
pub(in crate::rules) struct Reading<'a> {
    document: &'a Document,
    rule: Option<RuleLocation>,
    errors: Vec<RuleFileError>,
    pub unportable: Vec<Unportable>,
    unknown_keys: UnknownKeys,
}

/// What becomes of keys that mean nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum UnknownKeys {
    /// They are mistakes.
    #[default]
    Refused,
    /// They are somebody else's, and passed over.
    Ignored,
}

impl<'a> Reading<'a> {
    pub fn new(document: &'a Document) -> Self {
        Self::with(document, UnknownKeys::Refused)
    }

    pub fn with(document: &'a Document, unknown_keys: UnknownKeys) -> Self {
        Reading {
            document,
            rule: None,
            errors: Vec::new(),
            unportable: Vec::new(),
            unknown_keys,
        }
    }

    /// A file that is no YAML.
    pub fn refused(error: ConfigError) -> RuleFileErrors {
        let ConfigError {
            file,
            position,
            problem,
            remedy,
            ..
        } = error;
        let problem = if remedy.is_empty() {
            problem
        } else {
            format!("{problem}; {remedy}")
        };
        RuleFileErrors(vec![RuleFileError {
            file,
            position,
            rule: None,
            problem,
            token: None,
        }])
    }

    pub fn file(&self) -> &'a str {
        &self.document.file
    }

    pub fn source(&self) -> &'a str {
        &self.document.source
    }

    /// Mistakes from here on stand in this rule.
    pub fn enter(&mut self, rule: RuleLocation) {
        self.rule = Some(rule);
    }

    /// A part of this rule is refused by a Prometheus; the same is said once.
    pub fn is_unportable(&mut self, position: Position, problem: String) {
        let Some(rule) = self.rule.clone() else {
            return;
        };
        let known = self
            .unportable
            .iter()
            .any(|known| known.problem == problem && known.rule == rule);
        if !known {
            self.unportable.push(Unportable {
                file: self.document.file.clone(),
                position,
                rule,
                problem,
            });
        }
    }

    pub fn leave(&mut self) {
        self.rule = None;
    }

    pub fn error(&mut self, position: Position, problem: impl Into<String>) {
        self.push(position, problem.into(), None);
    }

    pub fn error_with_token(&mut self, position: Position, problem: String, token: Position) {
        self.push(position, problem, Some(token));
    }

    fn push(&mut self, position: Position, problem: String, token: Option<Position>) {
        let (file, rule) = (self.document.file.clone(), self.rule.clone());
        self.errors.push(RuleFileError {
            file,
            position: Some(position),
            rule,
            problem,
            token,
        });
    }

    /// `value`, if nothing was wrong.
    pub fn finish<T>(self, value: T) -> Result<T, RuleFileErrors> {
        let mut errors = self.errors;
        if errors.is_empty() {
            return Ok(value);
        }
        errors.sort_by_key(|e| e.position);
        Err(RuleFileErrors(errors))
    }

    /// Refuses keys that are not in `known`, and anything but a mapping.
    pub fn known_keys(&mut self, node: &Node, known: &[&str]) {
        match &node.value {
            Value::Map(_) if self.unknown_keys == UnknownKeys::Ignored => {}
            Value::Map(entries) => {
                for (key, position, _) in entries
                    .iter()
                    .filter(|(k, _, _)| !known.contains(&k.as_str()))
                {
                    let hint = nearest(key, known.iter().copied())
                        .map(|name| format!("; did you mean {name:?}?"));
                    let hint =
                        hint.unwrap_or_else(|| format!("; known here: {}", known.join(", ")));
                    self.error(*position, format!("unknown key {key:?}{hint}"));
                }
            }
            _ if node.is_null() => {}
            _ => self.error(node.position, format!("is {}, not a mapping", node.kind())),
        }
    }

    /// The items of `key`. One without a value (a dash alone) is none, as in Go.
    pub fn list<'n>(&mut self, node: &'n Node, key: &str) -> Vec<&'n Node> {
        match node.get(key).map(|n| (n, &n.value)) {
            Some((_, Value::List(items))) => items.iter().filter(|item| !item.is_null()).collect(),
            Some((n, _)) if !n.is_null() => {
                self.error(n.position, format!("{key}: is {}, not a list", n.kind()));
                Vec::new()
            }
            _ => Vec::new(),
        }
    }

    pub fn mapping<'n>(&mut self, node: &'n Node, key: &str) -> &'n [Entry] {
        match node.get(key).map(|n| (n, &n.value)) {
            Some((_, Value::Map(entries))) => entries,
            Some((n, _)) if !n.is_null() => {
                self.error(n.position, format!("{key}: is {}, not a mapping", n.kind()));
                &[]
            }
            _ => &[],
        }
    }

    /// The text of `key`; `None` when it is absent or null.
    pub fn text(&mut self, node: &Node, key: &str) -> Option<String> {
        node.get(key)
            .filter(|n| !n.is_null())
            .and_then(|n| self.scalar(n, key))
    }

    /// The text of a single value; null is empty.
    pub fn scalar(&mut self, node: &Node, key: &str) -> Option<String> {
        match &node.value {
            _ if node.is_null() => None,
            Value::Scalar { text, .. } => Some(text.clone()),
            _ => {
                self.error(
                    node.position,
                    format!("{key}: is {}, not a single value", node.kind()),
                );
                None
            }
        }
    }

    pub fn duration(&mut self, node: &Node, key: &str) -> Option<Duration> {
        let text = self.text(node, key)?;
        self.parsed(node, key, parse_duration(&text))
    }

    pub fn integer(&mut self, node: &Node, key: &str) -> Option<i64> {
        let text = self.text(node, key)?;
        // A fraction is cut off, as Go's reader of YAML does.
        let number = text.parse().ok().or_else(|| {
            text.parse()
                .ok()
                .filter(|n: &f64| n.is_finite())
                .map(|n| n as i64)
        });
        self.parsed(
            node,
            key,
            number.ok_or_else(|| format!("{text:?} is not a whole number")),
        )
    }

    /// The value of a result; its error stands at `key`.
    pub fn parsed<T, E: Display>(
        &mut self,
        node: &Node,
        key: &str,
        result: Result<T, E>,
    ) -> Option<T> {
        let position = node.get(key).map_or(node.position, |n| n.position);
        result
            .map_err(|problem| self.error(position, format!("{key}: {problem}")))
            .ok()
    }
}

/// Where the byte `offset` of a scalar's text stands in the file.
///
/// Folding and indentation change white space only, so the n-th visible character of the text is
/// the n-th visible character of the source; quoted scalars are read escape by escape.
pub(in crate::rules) fn scalar_position(
    source: &str,
    node: &Node,
    text: &str,
    offset: usize,
) -> Position {
    let Value::Scalar { style, .. } = &node.value else {
        return node.position;
    };
    let before = text.get(..offset).unwrap_or(text);
    let mut visible = before.chars().filter(|c| !c.is_whitespace()).count();
    // Past the last visible character: one column after it.
    let past = text.get(offset..).is_none_or(|rest| rest.trim().is_empty());
    if past {
        visible = visible.saturating_sub(1);
    }
    let rest = source.get(node.offset..).unwrap_or("");
    let skipped = match style {
        ScalarStyle::Literal | ScalarStyle::Folded => rest.find('\n').map_or(rest.len(), |n| n + 1),
        ScalarStyle::Quoted if rest.starts_with(['"', '\'']) => 1,
        _ => 0,
    };
    let quote = rest
        .chars()
        .next()
        .filter(|c| *style == ScalarStyle::Quoted && matches!(c, '"' | '\''));
    let body = rest.get(skipped..).unwrap_or("");
    let at = node.offset + skipped + nth_visible(body, visible, quote);
    let mut position = position_of(source, at);
    if past && !before.trim().is_empty() {
        position.column += 1;
    }
    position
}

/// The byte in `body` at which its n-th (from 0) visible character begins.
fn nth_visible(body: &str, n: usize, quote: Option<char>) -> usize {
    let mut seen = 0;
    let mut chars = body.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        let visible = match (quote, c) {
            (Some('\''), '\'') => {
                chars.next();
                true
            }
            (Some('"'), '\\') => match chars.next().map(|(_, escaped)| escaped) {
                Some('n' | 't' | 'r' | ' ' | 'N' | '_' | 'L' | 'P' | 'v' | 'f' | '\n') | None => {
                    false
                }
                Some(long @ ('x' | 'u' | 'U')) => {
                    let digits = match long {
                        'x' => 2,
                        'u' => 4,
                        _ => 8,
                    };
                    let code: String = chars
                        .by_ref()
                        .take(digits)
                        .map(|(_, digit)| digit)
                        .collect();
                    let meant = u32::from_str_radix(&code, 16).ok().and_then(char::from_u32);
                    meant.is_none_or(|meant| !meant.is_whitespace())
                }
                Some(_) => true,
            },
            _ => !c.is_whitespace(),
        };
        if visible && seen == n {
            return at;
        }
        seen += usize::from(visible);
    }
    body.trim_end().len()
}

fn position_of(source: &str, offset: usize) -> Position {
    let before = source.get(..offset).unwrap_or(source);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or("").chars().count() + 1;
    Position {
        line: u32::try_from(line).unwrap_or(u32::MAX),
        column: u32::try_from(column).unwrap_or(u32::MAX),
    }
}
