//! What follows the series on an OpenMetrics line: value, timestamp, exemplar, one space between
//! each (OpenMetrics 1.0, section ABNF).
//!
//! Exemplars are checked and dropped: nightbell stores none.

use super::number::float;
use super::series::{closing_quote, pairs};
use crate::model::Timestamp;

/// Value, timestamp, and how many bytes they take with an exemplar and the line break.
pub(super) fn tail(tail: &[u8]) -> Result<(f64, Option<Timestamp>, usize), &'static str> {
    let mut at = 0;
    let value = float(token(tail, &mut at)?)?;
    let mut timestamp = None;
    if starts_stamp(&tail[at..]) {
        timestamp = Some(stamp(token(tail, &mut at)?)?);
    }
    if tail[at..].starts_with(b" # ") {
        at += 3;
        exemplar(tail, &mut at)?;
    }
    match tail.get(at) {
        Some(b'\n') => Ok((value, timestamp, at + 1)),
        Some(_) => Err("unexpected data after the value"),
        None => Err("the page ends inside a line"),
    }
}

fn starts_stamp(rest: &[u8]) -> bool {
    matches!(rest, [b' ', next, ..] if *next != b'#')
}

/// One space and what follows it up to the next space or line break.
fn token<'a>(tail: &'a [u8], at: &mut usize) -> Result<&'a [u8], &'static str> {
    let Some((b' ', rest)) = tail.get(*at..).and_then(|t| t.split_first()) else {
        return Err("expected one space");
    };
    let length = rest
        .iter()
        .take_while(|b| !matches!(b, b' ' | b'\n' | b'\t'))
        .count();
    *at += 1 + length;
    if length == 0 {
        Err("expected a value after one space")
    } else {
        Ok(&rest[..length])
    }
}

/// Float seconds, truncated to milliseconds.
fn stamp(token: &[u8]) -> Result<Timestamp, &'static str> {
    let seconds = float(token).map_err(|_| "timestamp is not a number")?;
    if seconds.is_finite() {
        Ok(Timestamp((seconds * 1000.0) as i64))
    } else {
        Err("timestamp is not finite")
    }
}

fn exemplar(tail: &[u8], at: &mut usize) -> Result<(), &'static str> {
    const PROBLEM: &str = "malformed exemplar";
    if tail.get(*at) != Some(&b'{') {
        return Err(PROBLEM);
    }
    let start = *at + 1;
    let mut end = start;
    loop {
        match tail.get(end) {
            Some(b'}') => break,
            Some(b'"') => end = closing_quote(tail, end)? + 1,
            Some(b'\n') | None => return Err(PROBLEM),
            Some(_) => end += 1,
        }
    }
    pairs(&tail[start..end], |_, _| Ok(())).map_err(|_| PROBLEM)?;
    *at = end + 1;
    float(token(tail, at)?).map_err(|_| PROBLEM)?;
    if starts_stamp(&tail[*at..]) {
        stamp(token(tail, at)?)?;
    }
    Ok(())
}
