//! Log files: lines by level and by named pattern, errors by type, figures from fields, how old the last line is, and whether the log can be
//! read. Plain lines, JSON, logfmt, or a regular expression with named groups; across every usual rotation, each line once, also over
//! `kill -9`.
//!
//! It only reads. No text of a log becomes a label but the types of errors, which are bounded and masked.

mod counts;
mod envelope;
pub(super) mod follow;
pub(super) mod json;
mod level;
mod mask;
mod metrics;
pub(super) mod reader;
pub(super) mod reading;
pub(super) mod settings;
mod siblings;

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;

use crate::config::Section;
use crate::model::{Batch, Timestamp};

use super::{CollectError, Collector, CollectorKind, Target};
use counts::{Counter, Counts, OTHER};
use level::LEVELS;
use metrics::{CONTINUATIONS, ERRORS, FIELD, FIELD_ODD, FIELD_SECONDS, FIELD_TOTAL, LINES, MATCHES, METRICS, SLOW};
use reader::{Reader, Seen, Thread};
use settings::{Measure, Settings};

/// The collector `log_file`.
pub const KIND: CollectorKind = CollectorKind {
    name: "log_file",
    about: "log files: lines by level and pattern, errors by type, figures from fields, age, readability",
    metrics: &[METRICS, reading::METRICS],
    build,
};

fn build(section: &Section<'_>, target: &Target) -> Box<dyn Collector> {
    let settings = Arc::new(Settings::read(section));
    let reader = Reader::new(settings.files.clone(), target.memory.clone());
    let path = settings.files.to_string();
    Box::new(LogFile { settings, path, timeout: target.timeout, reader: Thread::new(reader), last: Batch::new() })
}

struct LogFile {
    settings: Arc<Settings>,
    path: String,
    timeout: Duration,
    reader: Thread<Reader<Counts>, (Batch, Option<String>)>,
    /// What is shown while a file system hangs.
    last: Batch,
}

impl Collector for LogFile {
    fn collect<'a>(&'a mut self, batch: &'a mut Batch) -> BoxFuture<'a, Result<(), CollectError>> {
        async move {
            let (settings, time) = (self.settings.clone(), self.timeout.mul_f64(0.6));
            let done = self.reader.run(self.timeout.mul_f64(0.9), move |reader| measure(reader, &settings, time)).await;
            match done {
                Ok((found, problem)) => {
                    self.last.clone_from(&found);
                    batch.append(found);
                    problem.map_or(Ok(()), |problem| Err(CollectError::new(problem)))
                }
                Err(problem) => {
                    reading::show_hanging(&mut self.last, batch);
                    Err(CollectError::new(format!("{}: {problem}", self.path)))
                }
            }
        }
        .boxed()
    }

    fn address(&self) -> String {
        self.path.clone()
    }
}

/// Reads what is new and shows all counts.
fn measure(reader: &mut Reader<Counts>, settings: &Settings, time: Duration) -> (Batch, Option<String>) {
    let now_ms = Timestamp::now().0;
    let mut seen = reader.look(time, &mut |counts, read| read(&mut Counter { settings, counts, now_ms }));
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
                batch.push_buckets(&FIELD_SECONDS, &labels, bounds, &buckets, figure.map_or(0.0, |f| f.sum));
            }
            Measure::Gauge => figure.and_then(|f| f.last).into_iter().for_each(|value| batch.push(&FIELD, &labels, value)),
            Measure::Counter => batch.push(&FIELD_TOTAL, &labels, figure.map_or(0.0, |f| f.sum)),
        }
        batch.push(&FIELD_ODD, &labels, figure.map_or(0, |f| f.odd) as f64);
    }
    if settings.slow.is_some() {
        batch.push(&SLOW, &[], counts.slow as f64);
    }
    reading::show(&counts.totals, seen, batch);
}
