//! Alertmanager's text form of matchers, in both syntaxes
//! (<https://prometheus.io/docs/alerting/latest/configuration/#matcher>).
//!
//! The classic syntax restricts names and lets a value hold almost anything; the UTF-8 syntax
//! allows any name and quotes as Go does. As Alertmanager's default mode does, both are tried: the
//! UTF-8 reading counts when the classic one fails or both agree, the classic one otherwise. Where
//! they disagree, a warning says so.

use crate::model::text::{is_legacy_metric_name, quote};
use crate::model::{MatchOp, Matcher, MatcherError};

/// The operators, longest first.
const OPERATORS: [(&str, MatchOp); 4] = [
    ("=~", MatchOp::Regex),
    ("!~", MatchOp::NotRegex),
    ("!=", MatchOp::NotEqual),
    ("=", MatchOp::Equal),
];

/// Why a text is no matcher, or no list of them.
#[derive(Clone, Debug, thiserror::Error)]
pub enum MatcherSyntax {
    /// Braces around a single matcher.
    #[error("{0:?} has braces, which only a list of matchers may have")]
    Braces(String),
    /// Another number of matchers than one.
    #[error("{text:?} holds {found} matchers instead of one")]
    NotOne {
        /// As it was given.
        text: String,
        /// Matchers in it.
        found: usize,
    },
    /// The classic syntax does not know it.
    #[error("bad matcher format: {0}")]
    Format(String),
    /// A quote inside a value.
    #[error("matcher value contains unescaped double quote: {0}")]
    UnescapedQuote(String),
    /// A quoted value without its end.
    #[error("matcher value has no closing double quote: {0}")]
    OpenValue(String),
    /// One brace of two.
    #[error("an opening and a closing brace must both be there, or neither")]
    OneBrace,
    /// Something else stands there.
    #[error("{rest:?}: expected {wanted}")]
    Expected {
        /// What stands there.
        rest: String,
        /// What may stand there.
        wanted: &'static str,
    },
    /// A matcher of no label.
    #[error("a label name is empty")]
    NoName,
    /// A string without its end.
    #[error("{0}: the closing double quote is missing")]
    OpenString(String),
    /// An escape that Go does not know.
    #[error("{text}: invalid escape \\{escape}")]
    Escape {
        /// The string.
        text: String,
        /// What stands behind the backslash.
        escape: char,
    },
    /// A pattern is no regular expression.
    #[error(transparent)]
    Pattern(#[from] MatcherError),
}

/// Reads one matcher, `name="value"`, without braces.
///
/// # Errors
/// On a text that is another number of matchers, or none.
pub fn parse_matcher(text: &str) -> Result<Matcher, MatcherSyntax> {
    if text.trim_start().starts_with('{') || text.trim_end().ends_with('}') {
        return Err(MatcherSyntax::Braces(text.to_owned()));
    }
    match parse_matchers(text)?.as_slice() {
        [one] => Ok(one.clone()),
        found => Err(MatcherSyntax::NotOne {
            text: text.to_owned(),
            found: found.len(),
        }),
    }
}

/// Reads matchers separated by commas, with or without braces.
///
/// # Errors
/// On a text that is none in either syntax.
pub fn parse_matchers(text: &str) -> Result<Vec<Matcher>, MatcherSyntax> {
    match (classic(text), Utf8 { rest: text }.list()) {
        (Ok(classic), Ok(utf8)) if classic == utf8 => Ok(utf8),
        (Ok(classic), _) if !classic.is_empty() || text.trim().is_empty() => {
            tracing::warn!(
                matchers = text,
                "Matchers are read in the classic syntax; quote the value to make them unambiguous."
            );
            Ok(classic)
        }
        (_, Ok(utf8)) => Ok(utf8),
        (_, Err(reason)) => Err(reason),
    }
}

fn classic(text: &str) -> Result<Vec<Matcher>, MatcherSyntax> {
    let inner = text.strip_prefix('{').unwrap_or(text);
    let inner = inner.strip_suffix('}').unwrap_or(inner);
    let mut parts = vec![String::new()];
    let (mut quoted, mut escaped) = (false, false);
    for c in inner.chars() {
        if c == ',' && !quoted {
            parts.push(String::new());
            continue;
        }
        match c {
            '"' if !escaped => quoted = !quoted,
            '\\' => escaped = !escaped,
            _ => escaped = false,
        }
        if c == '"' {
            escaped = false;
        }
        if let Some(part) = parts.last_mut() {
            part.push(c);
        }
    }
    if parts.last().is_some_and(|p| p.trim().is_empty()) {
        parts.pop();
    }
    parts.iter().map(|part| classic_one(part)).collect()
}

fn classic_one(text: &str) -> Result<Matcher, MatcherSyntax> {
    let bad = || MatcherSyntax::Format(text.to_owned());
    let trimmed = text.trim();
    let end = trimmed
        .find(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == ':'))
        .ok_or_else(bad)?;
    let (name, rest) = trimmed.split_at(end);
    if !is_legacy_metric_name(name) {
        return Err(bad());
    }
    let rest = rest.trim_start();
    // `=~` is an operator and `!` alone is none.
    let (op, raw) = OPERATORS
        .iter()
        .find_map(|(op, kind)| Some((*kind, rest.strip_prefix(op)?)))
        .ok_or_else(bad)?;
    let raw = raw.trim();
    let (body, expects_quote) = raw
        .strip_prefix('"')
        .map_or((raw, false), |body| (body, true));
    let mut value = String::new();
    let mut characters = body.chars().peekable();
    let mut closed = false;
    while let Some(c) = characters.next() {
        match c {
            '\\' => match characters.next() {
                Some('n') => value.push('\n'),
                Some(c @ ('"' | '\\')) => value.push(c),
                Some(c) => value.extend(['\\', c]),
                None => value.push('\\'),
            },
            '"' if expects_quote && characters.peek().is_none() => closed = true,
            '"' => {
                return Err(MatcherSyntax::UnescapedQuote(raw.to_owned()));
            }
            c => value.push(c),
        }
    }
    if expects_quote && !closed {
        return Err(MatcherSyntax::OpenValue(raw.to_owned()));
    }
    Ok(Matcher::new(name, op, &value)?)
}

struct Utf8<'a> {
    rest: &'a str,
}

impl Utf8<'_> {
    fn list(mut self) -> Result<Vec<Matcher>, MatcherSyntax> {
        let braces = self.eat("{");
        let mut matchers = Vec::new();
        loop {
            self.skip_space();
            if self.rest.is_empty() || self.rest.starts_with('}') {
                break;
            }
            matchers.push(self.matcher()?);
            if !self.eat(",") {
                break;
            }
        }
        if braces != self.eat("}") {
            return Err(MatcherSyntax::OneBrace);
        }
        self.skip_space();
        if self.rest.is_empty() {
            Ok(matchers)
        } else {
            Err(self.expected("a comma or the end"))
        }
    }

    fn matcher(&mut self) -> Result<Matcher, MatcherSyntax> {
        let name = self.token("a label name")?;
        self.skip_space();
        let found = OPERATORS.iter().find(|(op, _)| self.rest.starts_with(op));
        let (text, op) = *found.ok_or_else(|| self.expected("an operator such as = != =~ !~"))?;
        self.rest = &self.rest[text.len()..];
        let value = self.token("a label value")?;
        if name.is_empty() {
            return Err(MatcherSyntax::NoName);
        }
        Ok(Matcher::new(&name, op, &value)?)
    }

    /// The error that something else stands here.
    fn expected(&self, wanted: &'static str) -> MatcherSyntax {
        MatcherSyntax::Expected {
            rest: self.rest.to_owned(),
            wanted,
        }
    }

    fn token(&mut self, wanted: &'static str) -> Result<String, MatcherSyntax> {
        self.skip_space();
        if self.rest.starts_with('"') {
            return self.quoted();
        }
        let reserved = |c: char| c.is_whitespace() || "{}!=~,\\'\"`".contains(c);
        let end = self.rest.find(reserved).unwrap_or(self.rest.len());
        if end == 0 {
            return Err(self.expected(wanted));
        }
        let (token, rest) = self.rest.split_at(end);
        self.rest = rest;
        Ok(token.to_owned())
    }

    /// A Go string literal in double quotes.
    fn quoted(&mut self) -> Result<String, MatcherSyntax> {
        let whole = self.rest;
        let unterminated = || MatcherSyntax::OpenString(whole.to_owned());
        let invalid = |escape| MatcherSyntax::Escape {
            text: whole.to_owned(),
            escape,
        };
        let mut out = String::new();
        let mut characters = whole.char_indices().skip(1);
        while let Some((at, c)) = characters.next() {
            match c {
                '"' => {
                    self.rest = &whole[at + 1..];
                    return Ok(out);
                }
                '\\' => {
                    let (_, escape) = characters.next().ok_or_else(unterminated)?;
                    let digits = match escape {
                        'x' => 2,
                        'u' => 4,
                        'U' => 8,
                        _ => 0,
                    };
                    out.push(match escape {
                        'a' => '\u{7}',
                        'b' => '\u{8}',
                        'f' => '\u{c}',
                        'n' => '\n',
                        'r' => '\r',
                        't' => '\t',
                        'v' => '\u{b}',
                        '\\' | '"' => escape,
                        _ if digits > 0 => {
                            let code: String =
                                characters.by_ref().take(digits).map(|(_, c)| c).collect();
                            let code = u32::from_str_radix(&code, 16).ok().and_then(char::from_u32);
                            code.ok_or_else(|| invalid(escape))?
                        }
                        _ => return Err(invalid(escape)),
                    });
                }
                '\n' => return Err(unterminated()),
                c => out.push(c),
            }
        }
        Err(unterminated())
    }

    fn skip_space(&mut self) {
        self.rest = self.rest.trim_start();
    }

    fn eat(&mut self, token: &str) -> bool {
        self.skip_space();
        match self.rest.strip_prefix(token) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }
}

/// Matchers in canonical order (name, value, operator) and text: `{a="b",c=~"d"}`, the form of a
/// route key.
pub fn canonical(matchers: &[Matcher]) -> String {
    let mut sorted: Vec<&Matcher> = matchers.iter().collect();
    sorted.sort_by(|a, b| (&a.name, &a.value, rank(a.op)).cmp(&(&b.name, &b.value, rank(b.op))));
    let texts: Vec<String> = sorted.iter().map(|matcher| shown(matcher)).collect();
    format!("{{{}}}", texts.join(","))
}

fn rank(op: MatchOp) -> u8 {
    match op {
        MatchOp::Equal => 0,
        MatchOp::NotEqual => 1,
        MatchOp::Regex => 2,
        MatchOp::NotRegex => 3,
    }
}

/// A matcher as Alertmanager's group keys show it: a name in quotes only where it would be read as
/// something else.
fn shown(matcher: &Matcher) -> String {
    let is_reserved = |c: char| c.is_whitespace() || "{}!=~,\\\"'`".contains(c);
    if matcher.name.contains(is_reserved) {
        return format!(
            "{}{}{}",
            quote(&matcher.name),
            matcher.op.as_str(),
            quote(&matcher.value)
        );
    }
    let value = matcher
        .value
        .replace('\\', "\\\\")
        .replace('\n', "\\n")
        .replace('"', "\\\"");
    format!("{}{}\"{value}\"", matcher.name, matcher.op.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> String {
        parse_matchers(text).map_or_else(|e| format!("error: {e}"), |m| canonical(&m))
    }

    /// SEMANTICS 145, vectors from Alertmanager's own tests.
    #[test]
    fn both_syntaxes_are_read() {
        for (text, wanted) in [
            ("", "{}"),
            ("{}", "{}"),
            ("foo=bar", r#"{foo="bar"}"#),
            (r#"{foo="bar"}"#, r#"{foo="bar"}"#),
            (r#"foo = "bar", baz != "qux","#, r#"{baz!="qux",foo="bar"}"#),
            (r#"{foo!~"[a-z]+"}"#, r#"{foo!~"[a-z]+"}"#),
            (r#"foo=~".*", x!="""#, r#"{foo=~".*",x!=""}"#),
            ("foo=bar baz", r#"{foo="bar baz"}"#),
            (r#"foo="a,b""#, r#"{foo="a,b"}"#),
            (r#"foo="\"x\"""#, r#"{foo="\"x\""}"#),
            (r#"foo="\d""#, r#"{foo="\\d"}"#),
            (r#""with space"="x""#, r#"{"with space"="x"}"#),
            ("🙂=x", r#"{🙂="x"}"#),
            (r#"foo="\u00e9""#, r#"{foo="\\u00e9"}"#),
        ] {
            assert_eq!(read(text), wanted, "{text}");
        }
    }

    #[test]
    fn malformed_matchers_are_refused() {
        for text in [
            "foo",
            "=x",
            r#"foo="x"#,
            r#"foo="x"y""#,
            "a=~(",
            "!foo=bar",
            "{foo=\"bar\"}}x",
        ] {
            let got = read(text);
            assert!(got.starts_with("error: "), "{text}: {got}");
        }
        assert!(parse_matcher("{a=b}").is_err());
        assert!(parse_matcher("a=b,c=d").is_err());
    }
}
