//! Where what applications send arrives: the web puts in, the collector takes out. What came stays
//! when a reload replaces the collector.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::collectors::gen_ai::{Call, Ledger, Measured};
use crate::config::SecretSource;
use crate::exposition::otlp::{self, Attributes, Metric, Piece, Point, Problem, json::Signal};
use crate::model::{Batch, Labels, Timestamp};

use super::calls::{self, Added, Seen};
use super::convention::Role;
use super::labels::Resource;
use super::metrics::{ITEMS, LAST, LOGS, REFUSED, REJECTED, SERIES, SERIES_LIMIT};
use super::names::metric_name;
use super::series::{AllSeries, Refusal};
use super::settings::Settings;
use super::worth::Worth;

/// Applications whose log records are counted apart.
const APPLICATIONS: usize = 100;

/// The one receiver, while a collector holds it. Cheap to clone; clones share it.
#[derive(Clone, Default)]
pub struct Inbox(Arc<Mutex<std::sync::Weak<Receiver>>>);

impl fmt::Debug for Inbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Inbox")
    }
}

impl Inbox {
    /// The receiver, which is there as long as one holds it.
    pub(super) fn hold(&self, now: Timestamp) -> Arc<Receiver> {
        let mut held = self.0.lock();
        held.upgrade().unwrap_or_else(|| {
            let receiver = Arc::new(Receiver::new(now));
            *held = Arc::downgrade(&receiver);
            receiver
        })
    }

    /// The receiver, where one is configured.
    pub fn receiver(&self) -> Option<Arc<Receiver>> {
        self.0.lock().upgrade()
    }
}

/// What a request has brought.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    /// What was taken.
    pub accepted: u64,
    /// Points that were not.
    pub rejected: u64,
    /// Why, for the sender.
    pub problem: String,
}

/// Takes what applications send.
pub struct Receiver {
    settings: Mutex<Option<Arc<Settings>>>,
    kept: Mutex<Kept>,
}

struct Kept {
    series: AllSeries,
    ledger: Ledger,
    seen: Seen,
    /// When a call was last seen in a span, by application: then its metrics do not count the same
    /// calls again.
    traced: BTreeMap<String, Timestamp>,
    records: BTreeMap<(String, &'static str), u64>,
    /// By signal.
    accepted: [u64; 3],
    last: [Option<Timestamp>; 3],
    rejected: [u64; Refusal::ALL.len()],
    refused: BTreeMap<(&'static str, &'static str), u64>,
}

/// How long the spans of an application stand in for its metrics.
const TRACED: std::time::Duration = std::time::Duration::from_secs(900);
/// The signals, in the order of the counts.
const SIGNALS: [(Signal, &str); 3] = [
    (Signal::Metrics, "metrics"),
    (Signal::Traces, "traces"),
    (Signal::Logs, "logs"),
];

fn place(signal: Signal) -> usize {
    SIGNALS
        .iter()
        .position(|(known, _)| *known == signal)
        .unwrap_or(0)
}

impl Receiver {
    fn new(now: Timestamp) -> Self {
        let kept = Kept {
            series: AllSeries::new(now),
            ledger: Ledger::default(),
            seen: Seen::default(),
            traced: BTreeMap::new(),
            records: BTreeMap::new(),
            accepted: [0; 3],
            last: [None; 3],
            rejected: [0; 3],
            refused: BTreeMap::new(),
        };
        Receiver {
            settings: Mutex::new(None),
            kept: Mutex::new(kept),
        }
    }

    /// Applies the first settings; those that replace them wait for [`Receiver::apply`].
    pub(super) fn begin(&self, settings: &Arc<Settings>) -> bool {
        let mut current = self.settings.lock();
        let is_first = current.is_none();
        if is_first {
            *current = Some(Arc::clone(settings));
        }
        is_first
    }

    pub(super) fn apply(&self, settings: &Arc<Settings>) {
        *self.settings.lock() = Some(Arc::clone(settings));
    }

    /// A token that lets requests in, beside the administrator's.
    pub fn token(&self) -> Option<SecretSource> {
        self.settings
            .lock()
            .as_ref()
            .and_then(|settings| settings.token.clone())
    }

    /// Most bytes of a request after decompression.
    pub fn most_bytes(&self) -> usize {
        self.settings
            .lock()
            .as_ref()
            .map_or(0, |settings| settings.max_body)
    }

    /// Counts a request of which nothing was taken.
    pub fn refuse(&self, signal: Signal, reason: &'static str) {
        *self
            .kept
            .lock()
            .refused
            .entry((SIGNALS[place(signal)].1, reason))
            .or_default() += 1;
    }

    /// Takes a request, all of it or, where it cannot be read, nothing.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn take(&self, signal: Signal, body: &[u8], now: Timestamp) -> Result<Taken, Problem> {
        let settings = self
            .settings
            .lock()
            .clone()
            .ok_or("nothing is taken any more")?;
        let taken = match signal {
            Signal::Metrics => {
                otlp::points(body, &mut |_| {})?;
                self.take_metrics(&settings, body, now)?
            }
            Signal::Traces => {
                otlp::spans(body, &mut |_, _| {})?;
                self.take_spans(&settings, body, now)?
            }
            Signal::Logs => {
                otlp::logs(body, &mut |_, _| {})?;
                self.take_logs(body)?
            }
        };
        let mut kept = self.kept.lock();
        kept.accepted[place(signal)] += taken.accepted;
        kept.last[place(signal)] = Some(now);
        Ok(taken)
    }

    fn take_metrics(
        &self,
        settings: &Settings,
        body: &[u8],
        now: Timestamp,
    ) -> Result<Taken, Problem> {
        let (mut taken, mut resource) = (Taken::default(), Resource::default());
        let (mut metric, mut name) = (Metric::default(), None);
        let mut has_info = false;
        otlp::points(body, &mut |piece| match piece {
            Piece::Resource(attributes) => {
                resource = Resource::of(attributes);
                has_info = false;
            }
            Piece::Metric(next) => (metric, name) = (*next, None),
            Piece::Point(point) => {
                // Nothing is locked for longer than a point takes.
                let mut kept = self.kept.lock();
                if !has_info && let Some(info) = resource.info.clone() {
                    // Where there is no room for it, there is none for the point either, which is
                    // counted.
                    let _ = kept
                        .series
                        .set(info, Worth::Number(1.0), settings.series, now);
                }
                has_info = true;
                let is_gauge = !metric.is_sum && matches!(point.data, otlp::Data::Number(_))
                    || (metric.is_sum && !metric.is_monotonic);
                let name = name.get_or_insert_with(|| metric_name(&metric, is_gauge));
                let labels = name
                    .as_ref()
                    .and_then(|name| resource.series(name, &point.attributes));
                match kept.take(settings, &resource, &metric, labels, point, now) {
                    Ok(()) => taken.accepted += 1,
                    Err(refusal) => {
                        kept.rejected[refusal as usize] += 1;
                        taken.rejected += 1;
                        taken.problem = problem(refusal, settings);
                    }
                }
            }
        })?;
        Ok(taken)
    }

    fn take_spans(
        &self,
        settings: &Settings,
        body: &[u8],
        now: Timestamp,
    ) -> Result<Taken, Problem> {
        let mut taken = Taken::default();
        otlp::spans(body, &mut |resource, span| {
            let application = application(resource);
            let found = calls::of_span(&application, &span);
            let mut kept = self.kept.lock();
            taken.accepted += 1;
            if !kept
                .seen
                .counts(&span, found.as_ref().map(|(call, _)| call.operation))
            {
                return;
            }
            if let Some((call, measured)) = found {
                if kept.traced.len() < APPLICATIONS || kept.traced.contains_key(&application) {
                    kept.traced.insert(application, now);
                }
                kept.ledger.note(&settings.calls, call, &measured, now);
            }
        })?;
        Ok(taken)
    }

    fn take_logs(&self, body: &[u8]) -> Result<Taken, Problem> {
        let mut taken = Taken::default();
        otlp::logs(body, &mut |resource, severity| {
            let mut kept = self.kept.lock();
            let mut application = application(resource);
            let is_known = kept.records.keys().any(|(known, _)| *known == application);
            if !is_known && kept.records.len() >= APPLICATIONS * LEVELS.len() {
                application = "other".to_owned();
            }
            *kept
                .records
                .entry((application, level(severity)))
                .or_default() += 1;
            taken.accepted += 1;
        })?;
        Ok(taken)
    }

    /// Shows everything.
    pub(super) fn show(&self, settings: &Settings, now: Timestamp, batch: &mut Batch) {
        let mut kept = self.kept.lock();
        let kept = &mut *kept;
        kept.traced.retain(|_, last| now.since(*last) < TRACED);
        kept.series.show(settings.stale_after, now, batch);
        kept.ledger.show(&settings.calls, now, batch);
        for (place, (_, signal)) in SIGNALS.iter().enumerate() {
            batch.push(&ITEMS, &[("signal", signal)], kept.accepted[place] as f64);
            kept.last[place]
                .into_iter()
                .for_each(|last| batch.push(&LAST, &[("signal", signal)], last.seconds()));
        }
        for refusal in Refusal::ALL {
            batch.push(
                &REJECTED,
                &[("signal", "metrics"), ("reason", refusal.as_str())],
                kept.rejected[refusal as usize] as f64,
            );
        }
        for ((signal, reason), count) in &kept.refused {
            batch.push(
                &REFUSED,
                &[("signal", signal), ("reason", reason)],
                *count as f64,
            );
        }
        for ((application, level), count) in &kept.records {
            batch.push(
                &LOGS,
                &[("application", application), ("level", level)],
                *count as f64,
            );
        }
        batch.push(&SERIES, &[], kept.series.count() as f64);
        batch.push(&SERIES_LIMIT, &[], settings.series as f64);
    }
}

impl Kept {
    fn take(
        &mut self,
        settings: &Settings,
        resource: &Resource,
        metric: &Metric<'_>,
        labels: Option<Labels>,
        mut point: Point<'_>,
        now: Timestamp,
    ) -> Result<(), Refusal> {
        let labels = labels.ok_or(Refusal::Invalid)?;
        let role = calls::role_of(metric.name);
        let attributes = std::mem::take(&mut point.attributes);
        let growth = self.series.take(
            labels,
            metric,
            point,
            (settings.series, role.is_some()),
            now,
        )?;
        let application = resource.job.as_deref().unwrap_or_default();
        if let Some(role) = role.filter(|_| !self.traced.contains_key(application))
            && let Some((call, added)) =
                calls::of_point(application, role, &attributes, &growth, metric.unit)
        {
            added
                .into_iter()
                .for_each(|added| self.add(settings, role.0, call.clone(), added, now));
        }
        Ok(())
    }

    fn add(&mut self, settings: &Settings, role: Role, call: Call, added: Added, now: Timestamp) {
        match added {
            Added::Observed(grown) => {
                self.ledger
                    .grow(&settings.calls, call, role.observed(), &grown, now)
            }
            Added::Tokens(tokens) => {
                let measured = Measured {
                    tokens,
                    ..Measured::default()
                };
                self.ledger.note(&settings.calls, call, &measured, now);
            }
            Added::Failed(_, 0) => {}
            Added::Failed(class, count) => {
                self.ledger.fail(&settings.calls, call, class, count, now)
            }
        }
    }
}

/// Who sends: the service, with its namespace before a slash.
fn application(resource: &Attributes<'_>) -> String {
    Resource::of(resource).job.unwrap_or_default()
}

fn problem(refusal: Refusal, settings: &Settings) -> String {
    match refusal {
        Refusal::Invalid => "a name, an attribute or a value is none that can be kept".into(),
        Refusal::Temporality => "a sum or a histogram without aggregation temporality".into(),
        Refusal::Full => format!(
            "no room for further series: {} may be held (key series of collectors.otlp)",
            settings.series
        ),
    }
}

const LEVELS: [(u64, &str); 7] = [
    (21, "fatal"),
    (17, "error"),
    (13, "warn"),
    (9, "info"),
    (5, "debug"),
    (1, "trace"),
    (0, "unspecified"),
];

fn level(severity: u64) -> &'static str {
    LEVELS
        .iter()
        .find(|(least, _)| severity >= *least)
        .map_or("unspecified", |(_, level)| level)
}
