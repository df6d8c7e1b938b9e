//! JSON as it comes from outside: texts stay where they are, and depth and number of values are
//! bounded.
//!
//! More is taken than RFC 8259 allows, because one bad number must not cost all others: `NaN`,
//! `Infinity` and `1e999` are numbers that are not finite, and of a key that comes twice the last
//! value counts.

use std::borrow::Cow;

/// Most levels of lists and mappings.
pub const MAX_DEPTH: usize = 100;
/// Most values of one document.
pub const MAX_VALUES: usize = 250_000;

/// A value.
#[derive(Debug, Clone, PartialEq)]
pub enum Json<'a> {
    /// `null`
    Null,
    /// `true`, `false`
    Bool(bool),
    /// A number, which need not be finite.
    Number(f64),
    /// A text.
    Text(Cow<'a, str>),
    /// A list.
    List(Vec<Json<'a>>),
    /// Keys and values in the order of the text.
    Map(Vec<(Cow<'a, str>, Json<'a>)>),
}

impl Json<'_> {
    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&Self> {
        match self {
            Json::Map(entries) => entries
                .iter()
                .rev()
                .find(|(name, _)| name == key)
                .map(|(_, value)| value),
            _ => None,
        }
    }
}

/// Why a text cannot be read. The words are fixed: they label a series.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// Nothing is there.
    #[error("the body is empty")]
    Empty,
    /// It begins as a page for browsers does.
    #[error("the body is HTML, not JSON")]
    Html,
    /// It is something else, or ends early.
    #[error("the body is not JSON, or breaks off")]
    NotJson,
    /// Lists in lists, mappings in mappings.
    #[error("the JSON is nested too deeply")]
    TooDeep,
    /// More values than are held.
    #[error("the JSON has too many values")]
    TooMany,
}

/// Reads a whole document.
pub fn parse(body: &[u8]) -> Result<Json<'_>, Problem> {
    let text = std::str::from_utf8(body).map_err(|_| Problem::NotJson)?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut reader = Reader {
        text,
        at: 0,
        values: 0,
    };
    reader.pass_space();
    match reader.peek() {
        None => return Err(Problem::Empty),
        Some(b'<') => return Err(Problem::Html),
        Some(_) => {}
    }
    let value = reader.value(0)?;
    reader.pass_space();
    if reader.peek().is_some() {
        Err(Problem::NotJson)
    } else {
        Ok(value)
    }
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
    values: usize,
}

impl<'a> Reader<'a> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn pass_space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    /// Passes over `wanted` where it stands here.
    fn take(&mut self, wanted: &str) -> bool {
        let is_here = self.text.as_bytes()[self.at..].starts_with(wanted.as_bytes());
        self.at += if is_here { wanted.len() } else { 0 };
        is_here
    }

    fn value(&mut self, depth: usize) -> Result<Json<'a>, Problem> {
        self.values += 1;
        if self.values > MAX_VALUES {
            return Err(Problem::TooMany);
        }
        match self.peek().ok_or(Problem::NotJson)? {
            b'{' | b'[' if depth == MAX_DEPTH => Err(Problem::TooDeep),
            b'{' => self.map(depth + 1),
            b'[' => self.list(depth + 1),
            b'"' => self.string().map(Json::Text),
            _ if self.take("null") => Ok(Json::Null),
            _ if self.take("true") => Ok(Json::Bool(true)),
            _ if self.take("false") => Ok(Json::Bool(false)),
            // As Python's encoder writes them.
            _ if self.take("NaN") => Ok(Json::Number(f64::NAN)),
            _ if self.take("Infinity") => Ok(Json::Number(f64::INFINITY)),
            _ if self.take("-Infinity") => Ok(Json::Number(f64::NEG_INFINITY)),
            b'-' | b'0'..=b'9' => self.number(),
            _ => Err(Problem::NotJson),
        }
    }

    fn number(&mut self) -> Result<Json<'a>, Problem> {
        let start = self.at;
        while matches!(
            self.peek(),
            Some(b'-' | b'+' | b'.' | b'e' | b'E' | b'0'..=b'9')
        ) {
            self.at += 1;
        }
        self.text[start..self.at]
            .parse()
            .map(Json::Number)
            .map_err(|_| Problem::NotJson)
    }

    fn list(&mut self, depth: usize) -> Result<Json<'a>, Problem> {
        self.at += 1;
        let mut items = Vec::new();
        self.pass_space();
        if self.take("]") {
            return Ok(Json::List(items));
        }
        loop {
            self.pass_space();
            items.push(self.value(depth)?);
            self.pass_space();
            match (self.take(","), self.take("]")) {
                (true, false) => {}
                (false, true) => return Ok(Json::List(items)),
                _ => return Err(Problem::NotJson),
            }
        }
    }

    fn map(&mut self, depth: usize) -> Result<Json<'a>, Problem> {
        self.at += 1;
        let mut entries = Vec::new();
        self.pass_space();
        if self.take("}") {
            return Ok(Json::Map(entries));
        }
        loop {
            self.pass_space();
            let key = self.string()?;
            self.pass_space();
            if !self.take(":") {
                return Err(Problem::NotJson);
            }
            self.pass_space();
            entries.push((key, self.value(depth)?));
            self.pass_space();
            match (self.take(","), self.take("}")) {
                (true, false) => {}
                (false, true) => return Ok(Json::Map(entries)),
                _ => return Err(Problem::NotJson),
            }
        }
    }

    fn string(&mut self) -> Result<Cow<'a, str>, Problem> {
        if !self.take("\"") {
            return Err(Problem::NotJson);
        }
        let text = self.text;
        let mut owned = String::new();
        loop {
            let rest = &text[self.at..];
            let end = memchr::memchr2(b'"', b'\\', rest.as_bytes()).ok_or(Problem::NotJson)?;
            self.at += end + 1;
            if rest.as_bytes()[end] == b'"' {
                let part = &rest[..end];
                return Ok(if owned.is_empty() {
                    Cow::Borrowed(part)
                } else {
                    Cow::Owned(owned + part)
                });
            }
            owned.push_str(&rest[..end]);
            owned.push(self.escaped()?);
        }
    }

    /// What stands behind a backslash.
    fn escaped(&mut self) -> Result<char, Problem> {
        let byte = self.peek().ok_or(Problem::NotJson)?;
        self.at += 1;
        Ok(match byte {
            b'n' => '\n',
            b't' => '\t',
            b'r' => '\r',
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'"' | b'\\' | b'/' => char::from(byte),
            b'u' => {
                let first = self.four_digits()?;
                let is_high = (0xd800..0xdc00).contains(&first);
                let after = self.at;
                if is_high && self.take("\\u") {
                    let second = self.four_digits()?;
                    if (0xdc00..0xe000).contains(&second) {
                        let code = 0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00);
                        return Ok(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER));
                    }
                    // Not the other half: it stands for itself.
                    self.at = after;
                }
                char::from_u32(first).unwrap_or(char::REPLACEMENT_CHARACTER)
            }
            _ => return Err(Problem::NotJson),
        })
    }

    fn four_digits(&mut self) -> Result<u32, Problem> {
        let digits = self
            .text
            .get(self.at..self.at + 4)
            .filter(|text| text.bytes().all(|b| b.is_ascii_hexdigit()));
        self.at += 4;
        digits
            .and_then(|digits| u32::from_str_radix(digits, 16).ok())
            .ok_or(Problem::NotJson)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_value_is_read() {
        let text = "\u{feff} {\"a\": [1, -2.5e1, true, false, null, []], \"\u{952e}\": \"x\\n\\u4e2d\\ud83d\\ude00\\ud83d!\", \"a\": {}} ";
        let json = parse(text.as_bytes()).expect("JSON");
        assert_eq!(json.get("a"), Some(&Json::Map(vec![])));
        assert_eq!(
            json.get("\u{952e}"),
            Some(&Json::Text("x\n\u{4e2d}\u{1f600}\u{fffd}!".into()))
        );
        let Json::Map(entries) = json else {
            panic!("a mapping")
        };
        let numbers = vec![
            Json::Number(1.0),
            Json::Number(-25.0),
            Json::Bool(true),
            Json::Bool(false),
            Json::Null,
            Json::List(vec![]),
        ];
        assert_eq!(entries[0].1, Json::List(numbers));
    }

    /// Whatever stands at any place of a document, it is read or refused.
    #[test]
    fn no_document_makes_the_reader_panic() {
        let text =
            "{\"a\": [1.5e3, \"\\u00e9\\ud83d\\ude00\u{952e}\", null, {\"b\": -0}], \"c\": true}";
        let places: Vec<usize> = text.char_indices().map(|(at, _)| at).collect();
        for at in places {
            for other in [
                "",
                "\"",
                "\\",
                "\\u",
                "\\ud800",
                "{",
                "[",
                "}",
                "]",
                ",",
                ":",
                "e",
                "-",
                "9",
                "\u{1f600}",
                "\0",
            ] {
                let end = at + text[at..].chars().next().map_or(0, char::len_utf8);
                let _result = parse(format!("{}{other}{}", &text[..at], &text[end..]).as_bytes());
                let _result = parse(format!("{}{other}", &text[..at]).as_bytes());
            }
        }
    }

    #[test]
    fn numbers_that_are_not_finite_do_not_cost_the_document() {
        let json = parse(b"[NaN, Infinity, -Infinity, 1e999]").expect("JSON");
        let Json::List(items) = json else {
            panic!("a list")
        };
        assert!(
            items
                .iter()
                .all(|item| matches!(item, Json::Number(n) if !n.is_finite())),
            "{items:?}"
        );
    }

    #[test]
    fn what_is_no_json_is_refused_for_its_reason() {
        let deep = "[".repeat(100_000);
        let many = format!("[{}1]", "1,".repeat(MAX_VALUES));
        for (text, problem) in [
            ("", Problem::Empty),
            (" \n", Problem::Empty),
            ("<!doctype html>", Problem::Html),
            ("{\"a\": 1", Problem::NotJson),
            ("{\"a\" 1}", Problem::NotJson),
            ("[1,]", Problem::NotJson),
            ("[1 2]", Problem::NotJson),
            ("{\"a\": \"", Problem::NotJson),
            ("\"\\x\"", Problem::NotJson),
            ("\"\\u12\"", Problem::NotJson),
            ("\"\\u12\u{4e2d}\"", Problem::NotJson),
            ("\"\\", Problem::NotJson),
            ("1 1", Problem::NotJson),
            ("--1", Problem::NotJson),
            ("nul", Problem::NotJson),
            (deep.as_str(), Problem::TooDeep),
            (many.as_str(), Problem::TooMany),
        ] {
            assert_eq!(
                parse(text.as_bytes()),
                Err(problem),
                "{}",
                &text[..text.len().min(20)]
            );
        }
        assert_eq!(parse(b"\"\xff\""), Err(Problem::NotJson));
    }
}
