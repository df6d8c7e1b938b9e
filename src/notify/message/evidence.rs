//! The evidence card of the built-in texts: what was found when an alert began to fire, as facts.

use std::time::Duration;

use crate::chart::{Plot, png};
use crate::model::Timestamp;
use crate::model::alert::evidence::{Clue, Top};

use super::super::notification::{AlertStatus, Notification, NotifiedAlert};
use super::shorten::cut_chars;
use super::words::Done;
use super::{Style, elapsed, format_value, gravest_first};
use crate::model::Language;

/// What the value was compared with: `> 90`.
pub(super) fn threshold(alert: &NotifiedAlert) -> Option<String> {
    alert.evidence.iter().find_map(|clue| match clue {
        Clue::Threshold {
            operator,
            value: Some(value),
        } => Some(format!("{operator} {}", format_value(*value))),
        _ => None,
    })
}

/// Who was notified before and when, where an alert comes because nobody answered.
pub(super) fn unanswered(alert: &NotifiedAlert) -> Option<(&str, i64)> {
    alert.evidence.iter().find_map(|clue| match clue {
        Clue::Unanswered { receiver, since_ms } => Some((receiver.as_str(), *since_ms)),
        _ => None,
    })
}

/// Longest part of a line of a log that is shown, in characters.
const MAX_LINE: usize = 300;
/// Most pictures of a message.
const MAX_PICTURES: usize = 3;

/// The pictures of a message: content id and PNG, of the first firing alerts that have one.
pub(crate) fn pictures(n: &Notification, style: &Style) -> Vec<(String, Vec<u8>)> {
    let found = gravest_first(n)
        .into_iter()
        .filter(|alert| alert.status == AlertStatus::Firing)
        .filter_map(|alert| {
            Some((
                cid(alert),
                drawn(alert, n.at_ms, style.utc_offset(n.at_ms))?,
            ))
        });
    found.take(MAX_PICTURES).collect()
}

/// The content id of an alert's picture.
pub(super) fn cid(alert: &NotifiedAlert) -> String {
    format!("picture-{}@nightbell", alert.fingerprint)
}

/// The picture of an alert, its times in UTC, if its values over the last hour are known.
pub fn picture(alert: &NotifiedAlert, now_ms: i64) -> Option<Vec<u8>> {
    drawn(alert, now_ms, 0)
}

/// A fault in drawing costs the picture and nothing else.
fn drawn(alert: &NotifiedAlert, now_ms: i64, utc_offset: i32) -> Option<Vec<u8>> {
    std::panic::catch_unwind(|| draw(alert, now_ms, utc_offset))
        .ok()
        .flatten()
}

fn draw(alert: &NotifiedAlert, now_ms: i64, utc_offset: i32) -> Option<Vec<u8>> {
    let (from, step, values) = alert.evidence.iter().find_map(|clue| match clue {
        Clue::Series {
            from_ms,
            step_ms,
            values,
        } => Some((*from_ms, *step_ms, values)),
        _ => None,
    })?;
    let threshold = alert.evidence.iter().find_map(|clue| match clue {
        Clue::Threshold { value, .. } => *value,
        _ => None,
    });
    let at = |index: usize| Timestamp(from + i64::try_from(index).unwrap_or(0) * step);
    let points: Vec<(Timestamp, f64)> = values
        .iter()
        .enumerate()
        .filter_map(|(index, value)| Some((at(index), (*value)?)))
        .collect();
    let known_to = at(values.len().saturating_sub(1));
    // A message that comes later shows that it still fires, up to twice the time.
    let to = known_to.max(Timestamp(now_ms.min(known_to.0 + (known_to.0 - from))));
    // Where only the end of the time is known, the picture begins there.
    let first = points.first().map_or(from, |(at, _)| at.0 - step);
    let from = if first - from > (to.0 - from) / 4 {
        first
    } else {
        from
    };
    let gap = Duration::from_millis(u64::try_from(step.saturating_mul(2)).unwrap_or(0));
    let firing = [(Timestamp(alert.starts_at_ms), to)];
    Some(png(&Plot {
        title: "",
        from: Timestamp(from),
        to,
        points: &points,
        gap,
        utc_offset,
        threshold,
        firing: &firing,
    }))
}

/// The link to an alert's picture.
pub(super) fn picture_url(alert: &NotifiedAlert) -> &str {
    let url = alert.evidence.iter().find_map(|clue| match clue {
        Clue::Picture { url } => Some(url.as_str()),
        _ => None,
    });
    url.unwrap_or_default()
}

/// The facts. Of a resolved alert only how often it came, what was done and whether it flapped: the
/// rest spoke of the trouble.
pub(super) fn facts(alert: &NotifiedAlert, style: &Style) -> Vec<(&'static str, String)> {
    let words = style.words();
    let separator = if style.language == Language::Zh {
        "；"
    } else {
        "; "
    };
    let mut facts = Vec::new();
    if alert.status == AlertStatus::Firing {
        let part = |clue: &Clue| match clue {
            Clue::Part {
                expression,
                value: Some(value),
            } => Some(format!("{expression} = {}", in_bytes(expression, *value))),
            _ => None,
        };
        let parts: Vec<String> = alert.evidence.iter().filter_map(part).collect();
        if !parts.is_empty() {
            facts.push((words.evidence, parts.join(separator)));
        }
    }
    for clue in &alert.evidence {
        match clue {
            Clue::Flapping {
                firings,
                since_ms,
                until_ms,
                fires,
                values,
            } => {
                let values: Vec<String> = values.iter().map(|value| format_value(*value)).collect();
                let (since, until) = (style.time(*since_ms), until_ms.map(|ms| style.time(ms)));
                facts.push((
                    words.flapping,
                    style
                        .words()
                        .flaps(*firings, (&since, until), *fires, &values),
                ));
            }
            Clue::Seen { count, last_ms } => facts.push((
                words.seen,
                style
                    .words()
                    .seen_before(*count, last_ms.map(|ms| style.time(ms))),
            )),
            Clue::Action {
                target,
                at_ms,
                outcome,
                detail,
                output,
                helped,
            } => {
                let done = Done {
                    outcome: *outcome,
                    detail,
                    output,
                    helped: *helped,
                };
                facts.push((
                    words.recovery,
                    format!(
                        "{target} ({}): {}",
                        style.time(*at_ms),
                        style.words().done(&done)
                    ),
                ));
            }
            _ if alert.status == AlertStatus::Resolved => {}
            Clue::Before {
                value: Some(value),
                at_ms,
            } => facts.push((
                words.before,
                format!("{} ({})", format_value(*value), style.time(*at_ms)),
            )),
            Clue::SampleAge { seconds } => {
                let age = elapsed(0, (seconds * 1000.0) as i64);
                facts.push((
                    words.newest_sample,
                    style.words().old(&style.words().duration_in_words(age)),
                ));
            }
            Clue::Lines { lines } => facts.extend(
                lines
                    .iter()
                    .map(|line| (words.log, cut_chars(line, MAX_LINE).into_owned())),
            ),
            Clue::Top { of, items } => {
                let word = if *of == Top::Statements {
                    words.top_statements
                } else {
                    words.top_processes
                };
                // What would be shown as 0 uses nothing to speak of.
                let shown = items
                    .iter()
                    .filter(|(_, amount)| *of != Top::Statements || *amount >= 5e-5);
                let items: Vec<String> = shown
                    .map(|(name, amount)| format!("{name} {}", amount_of(*of, *amount)))
                    .collect();
                facts.push((word, items.join(separator)));
            }
            _ => {}
        }
    }
    facts
}

/// A value as it is, and in a larger unit where the expression is a metric of bytes:
/// `23220215808 (21.63 GiB)`.
fn in_bytes(expression: &str, value: f64) -> String {
    let name = &expression[..expression.find(['{', '[', ' ']).unwrap_or(expression.len())];
    let units = [
        (f64::from(1 << 30), "GiB"),
        (f64::from(1 << 20), "MiB"),
        (1024.0, "KiB"),
    ];
    match units.into_iter().find(|(size, _)| {
        name.ends_with("_bytes") && !expression.contains(' ') && value.abs() >= *size
    }) {
        Some((size, unit)) => format!(
            "{} ({} {unit})",
            format_value(value),
            format_value(value / size)
        ),
        None => format_value(value),
    }
}

/// `93% CPU`, `512 MiB`, `7.1 ms/s`: milliseconds of each second.
fn amount_of(of: Top, amount: f64) -> String {
    match of {
        Top::ProcessCpu => format!("{}% CPU", format_value((amount * 1000.0).round() / 10.0)),
        Top::ProcessMemory => format!("{} MiB", format_value((amount / 1_048_576.0).round())),
        Top::Statements => format!("{} ms/s", format_value((amount * 10_000.0).round() / 10.0)),
    }
}
