//! The values of PromQL's literals: numbers as Go's `strconv` reads them, durations, quoted
//! strings.

use crate::model::text::quote;
use crate::model::{DurationError, parse_duration};

/// Why a literal has no value, in Prometheus's words.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(in crate::promql) enum LiteralError {
    /// It is no number that Go reads.
    #[error(
        "error parsing number: strconv.ParseFloat: parsing {}: {reason}",
        quote(text)
    )]
    Number { text: String, reason: &'static str },
    /// It is no duration.
    #[error(transparent)]
    Duration(#[from] DurationError),
    /// Its escapes are none.
    #[error("error unquoting string {}: invalid syntax", quote(.0))]
    String(String),
    /// Its escapes give other bytes than text.
    #[error("string {0} is not UTF-8 after its escapes")]
    Encoding(String),
}

/// A number: Go's integer forms (`0x1f`, `0755`, `1_000`), else a float; infinities and NaN in any
/// case.
pub(in crate::promql) fn parse_number(text: &str) -> Result<f64, LiteralError> {
    if let Some(value) = parse_integer(text) {
        return Ok(value as f64);
    }
    let fail = |reason| {
        Err(LiteralError::Number {
            text: text.to_owned(),
            reason,
        })
    };
    let well_formed = !text.contains('_') || underscores_separate_digits(text);
    match text.replace('_', "").parse::<f64>() {
        Ok(value) if value.is_infinite() && text.contains(|c: char| c.is_ascii_digit()) => {
            fail("value out of range")
        }
        Ok(value) if well_formed => Ok(value),
        _ => fail("invalid syntax"),
    }
}

fn parse_integer(text: &str) -> Option<i64> {
    if text.contains('_') && !underscores_separate_digits(text) {
        return None;
    }
    let lower = text.to_ascii_lowercase();
    let (digits, radix) = match lower.as_bytes() {
        [b'0', b'x', ..] => (&lower[2..], 16),
        [b'0', _, ..] => (&lower[1..], 8),
        _ => (lower.as_str(), 10),
    };
    let digits = digits.replace('_', "");
    let plain = digits.bytes().all(|b| b.is_ascii_hexdigit());
    if plain {
        i64::from_str_radix(&digits, radix).ok()
    } else {
        None
    }
}

/// Go's rule: an underscore stands between digits, or between the base prefix and a digit.
fn underscores_separate_digits(text: &str) -> bool {
    let hex = text.len() > 2
        && text.as_bytes()[0] == b'0'
        && text.as_bytes()[1].eq_ignore_ascii_case(&b'x');
    let (body, mut last) = if hex { (&text[2..], '0') } else { (text, '^') };
    for c in body.chars() {
        last = match c {
            c if c.is_ascii_digit() || (hex && c.is_ascii_hexdigit()) => '0',
            '_' if last == '0' => '_',
            '_' => return false,
            _ if last == '_' => return false,
            _ => '.',
        };
    }
    last != '_'
}

/// The seconds of a duration literal.
pub(in crate::promql) fn parse_seconds(text: &str) -> Result<f64, LiteralError> {
    Ok(parse_duration(text)?.as_secs_f64())
}

/// The text inside a string literal whose escapes the lexer has already approved.
pub(in crate::promql) fn unquote(literal: &str) -> Result<String, LiteralError> {
    let fail = || LiteralError::String(literal.to_owned());
    let inner = literal
        .get(1..literal.len().saturating_sub(1))
        .ok_or_else(fail)?;
    if literal.starts_with('`') || !inner.contains('\\') {
        return Ok(inner.to_owned());
    }
    let mut out: Vec<u8> = Vec::with_capacity(inner.len());
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            continue;
        }
        let escape = chars.next().ok_or_else(fail)?;
        let (digits, base, value) = match escape {
            'x' => (2, 16, 0),
            'u' => (4, 16, 0),
            'U' => (8, 16, 0),
            c @ '0'..='7' => (2, 8, c.to_digit(8).unwrap_or(0)),
            c => {
                out.push(simple_escape(c));
                continue;
            }
        };
        let mut code = value;
        for _ in 0..digits {
            code = code * base
                + chars
                    .next()
                    .and_then(|d| d.to_digit(base))
                    .ok_or_else(fail)?;
        }
        match escape {
            'u' | 'U' => out.extend_from_slice(
                char::from_u32(code)
                    .ok_or_else(fail)?
                    .encode_utf8(&mut [0; 4])
                    .as_bytes(),
            ),
            _ => out.push(u8::try_from(code).map_err(|_| fail())?),
        }
    }
    String::from_utf8(out).map_err(|_| LiteralError::Encoding(literal.to_owned()))
}

fn simple_escape(c: char) -> u8 {
    match c {
        'a' => 0x07,
        'b' => 0x08,
        'f' => 0x0c,
        'n' => b'\n',
        'r' => b'\r',
        't' => b'\t',
        'v' => 0x0b,
        // The lexer lets through the backslash and the quote that opened the string.
        other => u8::try_from(other).unwrap_or(b'?'),
    }
}
