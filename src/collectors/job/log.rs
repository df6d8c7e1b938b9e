//! Runs that a log tells of: each line counts once, across rotation and restarts.

use memchr::memchr;
use regex::bytes::Captures;

use crate::collectors::log_file::follow::Sink;
use crate::collectors::log_file::settings::parse_time;

use super::kept::{Ended, Kept, Outcome};
use super::settings::{Log, Pattern};

/// How far ahead a line's time may lie before it is not believed, in milliseconds.
const AHEAD: i64 = 60_000;

/// Takes lines.
pub struct Lines<'a> {
    /// What is looked for.
    pub log: &'a Log,
    /// What is known of the job.
    pub kept: &'a mut Kept,
    /// When a line without a time was written at the latest, Unix milliseconds.
    pub now: i64,
}

impl Sink for Lines<'_> {
    fn lines(&mut self, lines: &[u8], _: &mut bool) {
        let mut rest = lines;
        while let Some(end) = memchr(b'\n', rest) {
            self.line(rest[..end].strip_suffix(b"\r").unwrap_or(&rest[..end]));
            rest = &rest[end + 1..];
        }
    }

    fn cut(&mut self, begin: &[u8], _: &mut bool) {
        self.line(begin);
    }
}

impl Lines<'_> {
    fn line(&mut self, line: &[u8]) {
        let failed = self
            .log
            .failed
            .as_ref()
            .and_then(|regex| regex.captures(line));
        let (outcome, groups) = match (failed, &self.log.success) {
            (Some(groups), _) => (Outcome::Failed, Some(groups)),
            (None, Pattern::Contains(text)) if text.find(line).is_some() => {
                (Outcome::Success, None)
            }
            (None, Pattern::Regex(regex)) => match regex.captures(line) {
                Some(groups) => (Outcome::Success, Some(groups)),
                None => return,
            },
            (None, Pattern::Contains(_)) => return,
        };
        let number = |name: &str| groups.as_ref().and_then(|groups| number(groups, name));
        let exit_code = number("exit_code").map(|code| code as i32);
        let outcome = if exit_code.is_some_and(|code| code != 0) {
            Outcome::Failed
        } else {
            outcome
        };
        let at = self.time(line).unwrap_or(self.now);
        self.kept.ended(Ended {
            outcome,
            at,
            duration: number("duration").filter(|d| *d >= 0.0),
            exit_code,
        });
    }

    /// The time at the beginning of a line, in its first word or its first two.
    fn time(&self, line: &[u8]) -> Option<i64> {
        let text = String::from_utf8_lossy(&line[..line.len().min(64)]);
        let text = text.trim_start_matches(['[', '"', ' ', '{']);
        let mut ends = text
            .match_indices(char::is_whitespace)
            .map(|(at, _)| at)
            .chain([text.len()]);
        let (first, second) = (ends.next()?, ends.next().unwrap_or(text.len()));
        let read = |end: usize| {
            let word = text[..end].trim_end_matches([']', '"', ',', ':']);
            // A number alone says nothing.
            word.contains(['-', '/'])
                .then(|| parse_time(word, &self.log.zone))
                .flatten()
        };
        let at = (read(second).or_else(|| read(first))? * 1000.0).round() as i64;
        Some(at)
            .filter(|at| *at <= self.now + AHEAD)
            .map(|at| at.min(self.now))
    }
}

fn number(groups: &Captures<'_>, name: &str) -> Option<f64> {
    let text = std::str::from_utf8(groups.name(name)?.as_bytes()).ok()?;
    text.trim()
        .parse()
        .ok()
        .filter(|number: &f64| number.is_finite())
}
