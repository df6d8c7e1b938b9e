//! The report series of a target (SEMANTICS 20), written at each collection, failed ones too.

use crate::exposition::EncodedFamily;
use std::time::{Duration, Instant};

use crate::model::{Labels, METRIC_NAME, stale_nan};
use crate::store::{SeriesId, Store};

use super::page::metrics_page::single;

/// What a collection reports about itself.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Figures {
    pub(super) up: bool,
    pub(super) seconds: f64,
    pub(super) scraped: usize,
    pub(super) kept: usize,
    pub(super) added: usize,
}

type Row = (&'static str, &'static str, fn(&Figures) -> f64);

const ALL: [Row; 5] = [
    ("up", "1 if the target could be collected, 0 if not.", |f| {
        f64::from(u8::from(f.up))
    }),
    (
        "scrape_duration_seconds",
        "Duration of the collection in seconds.",
        |f| f.seconds,
    ),
    (
        "scrape_samples_scraped",
        "Samples the target exposed.",
        |f| f.scraped as f64,
    ),
    (
        "scrape_samples_post_metric_relabeling",
        "Samples that remained after metric relabelling.",
        |f| f.kept as f64,
    ),
    (
        "scrape_series_added",
        "New series in this collection.",
        |f| f.added as f64,
    ),
];

const OF_COLLECTORS: [Row; 2] = [
    (
        "nightbell_collector_success",
        "1 if the collector succeeded, 0 if it failed or was too late.",
        |f| f64::from(u8::from(f.up)),
    ),
    (
        "nightbell_collector_duration_seconds",
        "Duration of the collection in seconds.",
        |f| f.seconds,
    ),
];

/// Why a target is down and where it is, for an alert's text.
const FAILURE: &str = "nightbell_target_failure_info";
const FAILURE_HELP: &str =
    "Why the target is down and where it is, always 1; absent while it is up.";
/// Most characters of a reason that labels a series.
const MAX_MESSAGE: usize = 160;
/// How long a reason is shown at least: one that changes with each collection makes no series each
/// time.
const SHOWN: Duration = Duration::from_secs(60);

/// Why a target is down, as it is shown.
struct Failure {
    message: String,
    since: Instant,
    labels: Labels,
    id: Option<SeriesId>,
}

/// The report series of one target with their numbers.
pub(super) struct Report {
    rows: Vec<(Row, Labels, Option<SeriesId>)>,
    /// What every series of it carries.
    target: Labels,
    failure: Option<Failure>,
    /// A reason that is not shown any more.
    past: Option<SeriesId>,
}

impl Report {
    /// `collector` is the kind of a collector; `None` for pages that are scraped.
    pub(super) fn new(target: &Labels, collector: Option<&str>, store: &Store) -> Self {
        let row = |row: Row, labels: &Labels| {
            let labels = labels.with(METRIC_NAME, row.0);
            let id = store.series_id(&labels).ok();
            (row, labels, id)
        };
        let mut rows: Vec<_> = ALL.into_iter().map(|r| row(r, target)).collect();
        if let Some(kind) = collector {
            let labels = target
                .with("collector", kind)
                .with("target", target.value("instance"));
            rows.extend(OF_COLLECTORS.into_iter().map(|r| row(r, &labels)));
        }
        Report {
            rows,
            target: target.clone(),
            failure: None,
            past: None,
        }
    }

    /// Asks the store again for series that it had no room for, or that are gone since the target
    /// is collected so seldom.
    pub(super) fn renew(&mut self, store: &Store) {
        let gone = store.departed(self.ids());
        for (_, labels, id) in &mut self.rows {
            if id.is_none_or(|id| gone.contains(&id)) {
                *id = store.series_id(labels).ok();
            }
        }
        if let Some(failure) = &mut self.failure
            && failure.id.is_none_or(|id| gone.contains(&id))
        {
            failure.id = store.series_id(&failure.labels).ok();
        }
    }

    /// Notes why the target at `address` is down; an empty error: it is up.
    pub(super) fn fails(&mut self, error: &str, address: &str, store: &Store) {
        let message = shown(error);
        // Numbers of lines and samples change, and what an endpoint says may.
        let stays = |failure: &Failure| {
            alike(&failure.message, &message) || failure.since.elapsed() < SHOWN
        };
        if !message.is_empty() && self.failure.as_ref().is_some_and(stays) {
            return;
        }
        self.past = self.failure.take().and_then(|failure| failure.id);
        if !message.is_empty() {
            let labels = self
                .target
                .with(METRIC_NAME, FAILURE)
                .with("url", address)
                .with("message", &message);
            let id = store.series_id(&labels).ok();
            self.failure = Some(Failure {
                message,
                since: Instant::now(),
                labels,
                id,
            });
        }
    }

    /// Adds the report's values to what will be stored.
    pub(super) fn samples(&mut self, figures: &Figures, out: &mut Vec<(SeriesId, f64)>) {
        out.extend(self.past.take().map(|id| (id, stale_nan())));
        out.extend(
            self.failure
                .as_ref()
                .and_then(|failure| Some((failure.id?, 1.0))),
        );
        out.extend(
            self.rows
                .iter()
                .filter_map(|((_, _, value), _, id)| Some(((*id)?, value(figures)))),
        );
    }

    /// The report as families for /metrics.
    pub(super) fn families(&self, figures: &Figures) -> impl Iterator<Item = EncodedFamily> {
        let rows = self
            .rows
            .iter()
            .map(|((name, help, value), labels, _)| single(name, help, labels, value(figures)));
        rows.chain(
            self.failure
                .iter()
                .map(|failure| single(FAILURE, FAILURE_HELP, &failure.labels, 1.0)),
        )
    }

    /// Numbers of the report series.
    pub(super) fn ids(&self) -> impl Iterator<Item = SeriesId> {
        self.rows
            .iter()
            .map(|(_, _, id)| *id)
            .chain(self.failure.iter().map(|failure| failure.id))
            .flatten()
    }
}

/// A reason as the value of a label: one line, not too long.
fn shown(error: &str) -> String {
    let one_line = error.chars().map(|c| if c.is_control() { ' ' } else { c });
    let mut message: String = one_line.take(MAX_MESSAGE + 1).collect();
    if let Some((end, _)) = message.char_indices().nth(MAX_MESSAGE) {
        message.truncate(end);
        message.push('…');
    }
    message
}

/// Whether two reasons differ in nothing but longer numbers and what stands in quotes: those of
/// lines and samples, and what was read there.
fn alike(a: &str, b: &str) -> bool {
    fn essence(text: &str) -> String {
        let unquoted: String = text.split('"').step_by(2).collect();
        unquoted
            .split(|c: char| !c.is_ascii_alphanumeric())
            .map(|word| if is_number(word) { "0" } else { word })
            .collect::<Vec<_>>()
            .join(" ")
    }
    fn is_number(word: &str) -> bool {
        word.len() != 3 && word.bytes().all(|b| b.is_ascii_digit())
    }
    a == b || essence(a) == essence(b)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Timestamp, is_stale};
    use crate::store::Limits;

    #[test]
    fn a_reason_is_a_series_that_stays_while_the_reason_does() {
        let store = Store::new(Limits::default());
        let mut report = Report::new(
            &Labels::from_pairs([("job", "j"), ("instance", "i")]),
            None,
            &store,
        );
        let mut seen = Vec::new();
        for (second, error) in [
            "line 5: no value",
            "line 17: no value",
            "connect: refused",
            "",
            "",
            "connect: refused",
        ]
        .iter()
        .enumerate()
        {
            report.fails(error, "http://i/metrics", &store);
            let mut samples = Vec::new();
            report.samples(&Figures::default(), &mut samples);
            store.append_ids(Timestamp(second as i64 * 1000), &samples);
            seen.push(report.families(&Figures::default()).count());
        }
        assert_eq!(seen, [6, 6, 6, 5, 5, 6]);
        let mut found = Vec::new();
        let all = store.select(&[], Timestamp(-1), Timestamp::MAX, |labels, window| {
            if labels.metric_name() == FAILURE {
                assert_eq!(labels.value("url"), "http://i/metrics");
                let shown: Vec<_> = window
                    .values
                    .iter()
                    .map(|value| (!is_stale(*value)).then_some(*value))
                    .collect();
                found.push((labels.value("message").to_owned(), shown));
            }
            std::ops::ControlFlow::Continue(())
        });
        all.expect("no damaged chunk");
        found.sort_by(|a, b| a.0.cmp(&b.0));
        let refused = ("connect: refused".to_owned(), vec![Some(1.0)]);
        assert_eq!(
            found,
            [
                refused,
                (
                    "line 5: no value".to_owned(),
                    vec![Some(1.0), Some(1.0), Some(1.0), None]
                )
            ]
        );
    }

    #[test]
    fn reasons_are_alike_but_for_numbers_and_what_was_read() {
        assert!(alike(
            "line 20002: value \"1x\" is no number",
            "line 7: value \"2y\" is no number"
        ));
        assert!(alike(
            "sample limit exceeded: 20002 samples",
            "sample limit exceeded: 20007 samples"
        ));
        assert!(!alike(
            "server returned HTTP status 500",
            "server returned HTTP status 503"
        ));
        assert_eq!(shown(&"x\n".repeat(200)).chars().count(), MAX_MESSAGE + 1);
    }
}
