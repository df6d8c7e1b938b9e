//! Reads an exposition line by line: Prometheus text 0.0.4 as Prometheus's own scraper accepts it,
//! and OpenMetrics 1.0.
//!
//! Nothing is copied: an [`Item`] borrows from the page. A sample's series stays raw bytes, so that
//! a caller who saw the same bytes on the previous page parses no label twice; [`super::labels`]
//! reads them when they are new. The scanner allocates nothing and stops at the first mistake,
//! which fails the page as a whole. A page may be read part by part while it comes: see
//! [`Lines::part`].

use super::number::float;
use std::borrow::Cow;

use memchr::{memchr, memchr_iter, memchr2, memrchr};

use super::encode::Format;
use super::series::{UNCLOSED_QUOTE, closing_quote, name_end, skip_blanks, unquoted};
use crate::model::{MetricKind, Timestamp};

/// A mistake in a page.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {problem}")]
pub struct ParseError {
    /// Line, from 1.
    pub line: usize,
    /// What is wrong; never quotes the page.
    pub problem: &'static str,
}

/// What a line (of a page that is read so far without mistake) says.
#[derive(Debug, Clone, PartialEq)]
pub enum Item<'a> {
    /// `# HELP family text`; the text is still escaped, see [`help_text`].
    Help(Cow<'a, str>, &'a str),
    /// `# TYPE family type`.
    Type(Cow<'a, str>, MetricKind),
    /// `# UNIT family unit` of OpenMetrics, and of text that was made of protobuf.
    Unit(Cow<'a, str>, &'a str),
    /// A sample.
    Sample(Line<'a>),
}

/// A sample line.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Line<'a> {
    /// Name and labels as they stand.
    pub series: &'a [u8],
    /// Whether `series` equals the hint, so that it is known to be well-formed.
    pub expected: bool,
    /// The value; every NaN is the canonical one.
    pub value: f64,
    /// The exposed timestamp.
    pub timestamp: Option<Timestamp>,
}

/// What is wrong, in words.
type Problem = &'static str;
const UNCLOSED_BRACE: Problem = "labels without closing brace";

/// The lines of a page, or of one part of it.
pub struct Lines<'a> {
    page: &'a [u8],
    at: usize,
    format: Format,
    before: Progress,
    last: bool,
    ended: bool,
}

/// How far the parts of a page have been read.
#[derive(Clone, Copy, Debug, Default)]
pub struct Progress {
    lines: usize,
    ended: bool,
}

impl<'a> Lines<'a> {
    /// Starts at the beginning of a page that is there as a whole.
    pub fn new(page: &'a [u8], format: Format) -> Self {
        Lines::part(page, format, Progress::default(), true)
    }

    /// Goes on behind the parts that were read `before`. Of a part that is not the `last` one whole
    /// lines are read, up to one whose quotes or braces are still open; what is left then
    /// ([`Lines::taken`]) must stand before the next part. All parts together give the items, and
    /// the mistake, of the page as a whole.
    pub fn part(part: &'a [u8], format: Format, before: Progress, last: bool) -> Self {
        let end = if last {
            part.len()
        } else {
            memrchr(b'\n', part).map_or(0, |at| at + 1)
        };
        Lines {
            page: &part[..end],
            at: 0,
            format,
            before,
            last,
            ended: before.ended,
        }
    }

    /// How many bytes of the part were read, and what the next one must know.
    pub fn taken(&self) -> (usize, Progress) {
        (
            self.at,
            Progress {
                lines: self.line() - 1,
                ended: self.ended,
            },
        )
    }

    /// The next item; `None` at the end. `hint` is the series that probably comes next, `""` for
    /// none: if it does, the line is not scanned.
    pub fn next(&mut self, hint: &[u8]) -> Result<Option<Item<'a>>, ParseError> {
        match self.item(hint) {
            Ok(item) => Ok(item),
            // The rest of the line may be on its way.
            Err(UNCLOSED_BRACE | UNCLOSED_QUOTE) if !self.last => Ok(None),
            Err(problem) => {
                let line = self.line();
                self.at = self.page.len();
                self.ended = true;
                Err(ParseError { line, problem })
            }
        }
    }

    /// The line that comes next, from 1. Counts the part so far: for messages, not for every item.
    pub fn line(&self) -> usize {
        self.before.lines + memchr_iter(b'\n', &self.page[..self.at]).count() + 1
    }

    fn item(&mut self, hint: &[u8]) -> Result<Option<Item<'a>>, Problem> {
        loop {
            if self.format == Format::Text {
                self.skip_blanks();
            }
            match self.peek() {
                None if self.format == Format::OpenMetrics && self.last && !self.ended => {
                    return Err("the page does not end with # EOF");
                }
                None => return Ok(None),
                Some(_) if self.ended => return Err("data after # EOF"),
                Some(b'\n') if self.format == Format::Text => self.at += 1,
                Some(b'#') => match if self.format == Format::Text {
                    self.text_comment()?
                } else {
                    self.open_comment()?
                } {
                    Some(item) => return Ok(Some(item)),
                    None => continue,
                },
                Some(_) => return self.sample(hint).map(|line| Some(Item::Sample(line))),
            }
        }
    }

    fn peek(&self) -> Option<u8> {
        self.page.get(self.at).copied()
    }

    fn skip_blanks(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t')) {
            self.at += 1;
        }
    }

    /// The rest of the line; moves behind its line break.
    fn rest_of_line(&mut self) -> &'a [u8] {
        let rest = &self.page[self.at..];
        let end = memchr(b'\n', rest).unwrap_or(rest.len());
        self.at += (end + 1).min(rest.len());
        &rest[..end]
    }

    fn text_comment(&mut self) -> Result<Option<Item<'a>>, Problem> {
        let start = self.at;
        let mut line = self.rest_of_line();
        line = &line[1..];
        let word = skip_blanks(line);
        let is_blank = |b: Option<&u8>| matches!(b, Some(b' ' | b'\t'));
        let (Some(keyword), true) = (word.get(..4), is_blank(line.first())) else {
            return Ok(None);
        };
        if !matches!(keyword, b"HELP" | b"TYPE" | b"UNIT") || !is_blank(word.get(4)) {
            return Ok(None);
        }
        if keyword == b"UNIT" {
            // To this format it is a comment like any other, which cannot be wrong.
            return Ok(unit(skip_blanks(&word[4..])).ok());
        }
        let end = self.at;
        self.at = start;
        let body = skip_blanks(&word[4..]);
        let item = metadata(keyword, body, self.format)?;
        self.at = end;
        Ok(Some(item))
    }

    fn open_comment(&mut self) -> Result<Option<Item<'a>>, Problem> {
        let start = self.at;
        let line = self.rest_of_line();
        let end = std::mem::replace(&mut self.at, start);
        let item = match line {
            b"# EOF" => {
                self.ended = true;
                None
            }
            _ if !self.page[..end].ends_with(b"\n") => {
                return Err("the page ends inside a comment");
            }
            _ => match line.split_at_checked(7) {
                Some((b"# HELP ", body)) => Some(metadata(b"HELP", body, self.format)?),
                Some((b"# TYPE ", body)) => Some(metadata(b"TYPE", body, self.format)?),
                Some((b"# UNIT ", body)) => Some(unit(body)?),
                _ => return Err("a comment must be HELP, TYPE, UNIT or EOF"),
            },
        };
        self.at = end;
        Ok(item)
    }

    fn sample(&mut self, hint: &[u8]) -> Result<Line<'a>, Problem> {
        let rest = &self.page[self.at..];
        let expected =
            !hint.is_empty() && rest.starts_with(hint) && is_whole(&rest[hint.len()..], hint);
        let length = if expected {
            hint.len()
        } else {
            series_length(rest, self.format)?
        };
        let series = &rest[..length];
        let tail = &rest[length..];
        let (value, timestamp, used) = match self.format {
            Format::Text => text_tail(tail)?,
            Format::OpenMetrics => super::openmetrics::tail(tail)?,
        };
        self.at += length + used;
        Ok(Line {
            series,
            expected,
            value,
            timestamp,
        })
    }
}

/// Whether a series that ends before `tail` ends there indeed: `name` before ` {a="b"} 1` does not.
fn is_whole(tail: &[u8], series: &[u8]) -> bool {
    let blank = matches!(tail.first(), Some(b' ' | b'\t'));
    blank
        && (series.ends_with(b"}")
            || tail
                .iter()
                .find(|b| !matches!(b, b' ' | b'\t'))
                .is_some_and(|b| *b != b'{'))
}

/// Length of the name and the braces at the start of `rest`.
fn series_length(rest: &[u8], format: Format) -> Result<usize, Problem> {
    let name = name_end(rest);
    let blanks = match format {
        Format::Text => rest[name..]
            .iter()
            .take_while(|b| matches!(b, b' ' | b'\t'))
            .count(),
        Format::OpenMetrics => 0,
    };
    if rest.get(name + blanks) != Some(&b'{') {
        return if name == 0 {
            Err("expected a metric name")
        } else {
            Ok(name)
        };
    }
    let mut at = name + blanks + 1;
    loop {
        match memchr2(b'"', b'}', &rest[at..]) {
            None => return Err(UNCLOSED_BRACE),
            Some(found) if rest[at + found] == b'}' => {
                let end = at + found + 1;
                let broken = format == Format::OpenMetrics && memchr(b'\n', &rest[..end]).is_some();
                return if broken {
                    Err("line break inside labels")
                } else {
                    Ok(end)
                };
            }
            Some(found) => at = closing_quote(rest, at + found)? + 1,
        }
    }
}

/// Value and timestamp of text 0.0.4, and how many bytes they take with the line break.
fn text_tail(tail: &[u8]) -> Result<(f64, Option<Timestamp>, usize), Problem> {
    let blank = |b: &u8| matches!(b, b' ' | b'\t');
    let token = |from: usize| {
        let start = from + tail[from..].iter().take_while(|b| blank(b)).count();
        let end = start
            + tail[start..]
                .iter()
                .take_while(|b| !blank(b) && **b != b'\n')
                .count();
        (start, end)
    };
    let (start, end) = token(0);
    let value = float(&tail[start..end])?;
    if tail.get(end) == Some(&b'\n') {
        return Ok((value, None, end + 1));
    }
    let (start, end) = token(end);
    let timestamp = match &tail[start..end] {
        [] => None,
        digits => Some(Timestamp(
            whole(digits).ok_or("timestamp is not a whole number of milliseconds")?,
        )),
    };
    let (extra, behind) = token(end);
    match (extra == behind, tail.get(behind)) {
        (true, None) => Ok((value, timestamp, behind)),
        (true, Some(_)) => Ok((value, timestamp, behind + 1)),
        (false, _) => Err("data after the timestamp"),
    }
}

fn whole(digits: &[u8]) -> Option<i64> {
    digits.iter().try_fold(0i64, |n, b| {
        if b.is_ascii_digit() {
            n.checked_mul(10)?.checked_add(i64::from(b - b'0'))
        } else {
            None
        }
    })
}

/// The body of a HELP or TYPE line: a name, one blank, a text.
fn metadata<'a>(keyword: &[u8], body: &'a [u8], format: Format) -> Result<Item<'a>, Problem> {
    let (family, text) = family_and_text(body)?;
    let text = std::str::from_utf8(text).map_err(|_| "HELP or TYPE is not UTF-8")?;
    if keyword == b"HELP" {
        return Ok(Item::Help(family, text));
    }
    let kind = match (text, format) {
        ("counter", _) => MetricKind::Counter,
        ("gauge", _) => MetricKind::Gauge,
        ("histogram", _) => MetricKind::Histogram,
        ("summary", _) => MetricKind::Summary,
        ("untyped", Format::Text) | ("unknown", Format::OpenMetrics) => MetricKind::Untyped,
        ("info", Format::OpenMetrics) => MetricKind::Info,
        ("stateset", Format::OpenMetrics) => MetricKind::StateSet,
        ("gaugehistogram", Format::OpenMetrics) => MetricKind::GaugeHistogram,
        _ => return Err("unknown metric type"),
    };
    Ok(Item::Type(family, kind))
}

fn family_and_text(body: &[u8]) -> Result<(Cow<'_, str>, &[u8]), Problem> {
    const PROBLEM: Problem = "expected a metric name after HELP, TYPE or UNIT";
    let (end, name) = if body.first() == Some(&b'"') {
        let close = closing_quote(body, 0)?;
        (close + 1, unquoted(&body[1..close])?)
    } else {
        let end = name_end(body);
        (
            end,
            Cow::Borrowed(std::str::from_utf8(&body[..end]).map_err(|_| PROBLEM)?),
        )
    };
    match (name.is_empty(), body.get(end)) {
        (false, None) => Ok((name, &[])),
        (false, Some(b' ' | b'\t')) => Ok((name, &body[end + 1..])),
        _ => Err(PROBLEM),
    }
}

fn unit(body: &[u8]) -> Result<Item<'_>, Problem> {
    let (family, unit) = family_and_text(body)?;
    let unit = std::str::from_utf8(unit).map_err(|_| "UNIT is not UTF-8")?;
    let fits = unit.is_empty()
        || family
            .strip_suffix(unit)
            .is_some_and(|rest| rest.ends_with('_'));
    if fits {
        Ok(Item::Unit(family, unit))
    } else {
        Err("the metric name does not end with its unit")
    }
}

/// A HELP text without its escapes: `\\` and `\n`, in OpenMetrics `\"` too.
pub fn help_text(text: &str, format: Format) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        let mut after = chars.clone();
        match (c, after.next()) {
            ('\\', Some('\\')) => out.push('\\'),
            ('\\', Some('n')) => out.push('\n'),
            ('\\', Some('"')) if format == Format::OpenMetrics => out.push('"'),
            _ => {
                out.push(c);
                continue;
            }
        }
        chars = after;
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::float;

    proptest! {
        #[test]
        fn numbers_are_read_as_the_general_parser_reads_them(text in r"[0-9]{0,17}\.?[0-9]{0,9}(e[0-9])?") {
            prop_assert_eq!(float(text.as_bytes()).ok().map(f64::to_bits), text.parse::<f64>().ok().map(f64::to_bits), "{}", text);
        }
    }
}
