//! Log files, and systemd's journal: lines by level and by named pattern, errors by type, figures
//! from fields, how old the last line is, and whether the log can be read. Plain lines, JSON,
//! logfmt, or a regular expression with named groups; across every usual rotation, each line once,
//! also over `kill -9`.
//!
//! It only reads. No text of a log becomes a label but the types of errors, which are bounded and
//! masked.

pub(super) mod collector;
mod counts;
mod envelope;
pub(super) mod follow;
pub(super) mod journal;
pub(super) mod json;
mod level;
mod mask;
mod metrics;
pub(super) mod reader;
pub(super) mod reading;
pub(super) mod settings;
mod siblings;

use std::time::Duration;

use crate::config::Section;
use crate::model::{Batch, Note, Timestamp};

use super::{Collector, CollectorKind, Target};
use collector::{LogCollector, Looked};
use counts::{Counter, Counts, ErrorType, OTHER, Slow};
use level::LEVELS;
use metrics::{
    CONTINUATIONS, ERRORS, FIELD, FIELD_ODD, FIELD_SECONDS, FIELD_TOTAL, LINES, MATCHES, METRICS,
    SLOW,
};
use reader::{Reader, Seen};
use settings::{Measure, Settings};

/// The collector `log_file`.
pub const KIND: CollectorKind = CollectorKind {
    name: "log_file",
    about: "log files: lines by level and pattern, errors by type, figures from fields, age, readability",
    metrics: &[METRICS, reading::METRICS],
    build,
};

fn build(section: &Section<'_>, target: &Target) -> Box<dyn Collector> {
    let settings = Settings::read(section);
    let files = settings.files.clone();
    Box::new(LogCollector::new(files, target, move |reader, time| {
        measure(reader, &settings, time)
    }))
}

/// Reads what is new and shows all counts.
fn measure(reader: &mut Reader<Counts>, settings: &Settings, time: Duration) -> Looked {
    let now_ms = Timestamp::now().0;
    let mut seen = reader.look(time, &mut |counts, read| {
        read(&mut Counter {
            settings,
            counts,
            now_ms,
        })
    });
    let counts = &mut reader.counts;
    counts.totals.add(&seen, !settings.has_time());
    counts.settle();
    seen.saved = reader.save();
    let mut batch = Batch::new();
    show(&reader.counts, settings, &seen, &mut batch);
    (batch, seen.problem)
}

fn show(counts: &Counts, settings: &Settings, seen: &Seen, batch: &mut Batch) {
    for (level, count) in LEVELS.iter().zip(counts.lines) {
        batch.push(&LINES, &[("level", level)], count as f64);
    }
    batch.push(&CONTINUATIONS, &[], counts.continuations as f64);
    for pattern in &settings.count {
        let count = counts.matches.get(&pattern.name).copied().unwrap_or(0);
        batch.push(&MATCHES, &[("pattern", &pattern.name)], count as f64);
    }
    for kind in &counts.types {
        batch.push(&ERRORS, &[("type", &kind.name)], kind.count as f64);
    }
    batch.push(&ERRORS, &[("type", OTHER)], counts.other as f64);
    for observation in &settings.observe {
        let labels = [("field", observation.name.as_str())];
        let figure = counts.fields.get(&observation.name);
        match &observation.measure {
            Measure::Histogram(bounds) => {
                let mut buckets = figure.map(|f| f.buckets.clone()).unwrap_or_default();
                buckets.resize(bounds.len() + 1, 0);
                batch.push_buckets(
                    &FIELD_SECONDS,
                    &labels,
                    bounds,
                    &buckets,
                    figure.map_or(0.0, |f| f.sum),
                );
            }
            Measure::Gauge => figure
                .and_then(|f| f.last)
                .into_iter()
                .for_each(|value| batch.push(&FIELD, &labels, value)),
            Measure::Counter => batch.push(&FIELD_TOTAL, &labels, figure.map_or(0.0, |f| f.sum)),
        }
        batch.push(&FIELD_ODD, &labels, figure.map_or(0, |f| f.odd) as f64);
    }
    if settings.slow.is_some() {
        batch.push(&SLOW, &[], counts.slow as f64);
    }
    note(counts, batch);
    reading::show(&counts.totals, seen, batch);
}

/// Slow lines that are named in an alert.
const SLOWEST: usize = 3;

/// What alerts about the log say beside numbers: the newest lines of each type of error, the newest
/// type first, and the slowest lines.
fn note(counts: &Counts, batch: &mut Batch) {
    let mut types: Vec<&ErrorType> = counts
        .types
        .iter()
        .filter(|kind| !kind.newest.is_empty())
        .collect();
    types.sort_by_key(|kind| std::cmp::Reverse(kind.at_ms));
    for kind in types {
        let labels = vec![("type", kind.name.clone())];
        batch.notes.push(Note {
            metrics: &["log_lines_total", "log_errors_total", "log_matches_total"],
            labels,
            lines: kind.newest.clone(),
        });
    }
    let shown = |slow: &Slow| {
        let fields: Vec<String> = slow
            .shown
            .iter()
            .map(|(name, text)| format!("{name}={text}"))
            .collect();
        format!("{} {}", slow.value, fields.join(" "))
            .trim_end()
            .to_owned()
    };
    if !counts.slowest.is_empty() {
        let lines = counts.slowest.iter().take(SLOWEST).map(shown).collect();
        batch.notes.push(Note {
            metrics: &["log_slow_lines_total", "log_field_seconds"],
            labels: Vec::new(),
            lines,
        });
    }
}
