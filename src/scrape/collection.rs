//! One target's collections: measure or fetch, label, store, mark what went, report.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::FutureExt;
use tokio::sync::watch;
use tracing::{info, warn};

use crate::collectors::{Collector, found_down};
use crate::exposition::{EncodedFamily, Format, Page};
use crate::model::{
    Batch, Labels, MetricKind, NativeHistogram, Timestamp, format_duration, stale_nan,
};
use crate::store::{Appended, Owner, Refused, SeriesId, Store};
use crate::telemetry::{Standstill, Telemetry, watched};

use super::config::protocol::Encoding;
use super::error::{PageError, ScrapeError};
use super::metrics::{Metrics, Refusals};
use super::page::body::Body;
use super::page::cache::{Cache, Entry};
use super::page::fetch::Fetch;
use super::page::labelling::Labelling;
use super::page::metrics_page::ScrapedPage;
use super::page::reader::{Fetched, Reader};
use super::page::scan::{Hit, NewSeries, PageCache, Scanned, Span, over};
use super::report::{Figures, Report};
use super::target::{Health, LastPage, Shared, Status};

/// How far in the future an exposed timestamp may lie (SEMANTICS 11).
const MAX_AHEAD: Duration = Duration::from_secs(600);

/// Where a target's samples come from.
pub(super) enum Source {
    /// A collector of ours; the cache keeps the stored labels for /metrics.
    Collector(Box<dyn Collector>, Cache<Labels, Labels>),
    /// An endpoint.
    Http(Box<Fetch>, PageCache),
    /// Our own registry.
    Own(Telemetry, PageCache),
}

/// How exposed timestamps are treated.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stamps {
    /// `honor_timestamps`.
    pub(super) honor: bool,
    /// `track_timestamps_staleness`.
    pub(super) track: bool,
}

/// A target with everything its task needs.
pub(super) struct Collection {
    pub(super) shared: Arc<Shared>,
    pub(super) source: Source,
    pub(super) labelling: Arc<Labelling>,
    pub(super) stamps: Stamps,
    pub(super) report: Report,
    pub(super) store: Arc<Store>,
    /// Whose its series are in the store.
    pub(super) owner: Owner,
    /// How many series had left the store when it was last asked which of ours did.
    pub(super) departures: u64,
    pub(super) metrics: Metrics,
    /// Notified when samples have been stored.
    pub(super) arrivals: watch::Sender<u64>,
    /// Room for the samples of the next page.
    pub(super) room: Vec<(SeriesId, f64)>,
    /// What the store refused of it.
    pub(super) refusals: Refusals,
}

/// Pages that come at least so often use each other's room, and the last one stands ready to be
/// compared with the next; others are read while they come, and what would lie idle until the next
/// one is given back.
const OFTEN: Duration = Duration::from_secs(10);

/// The buffer without what is in it, for items of the same size: room for twice as much as it held
/// is kept at most.
fn emptied<T, U>(mut buffer: Vec<T>) -> Vec<U> {
    buffer.shrink_to(buffer.len() * 2);
    buffer.into_iter().filter_map(|_| None).collect()
}

/// What one collection brought, ready to be stored.
#[derive(Default)]
struct Outcome {
    samples: Vec<(SeriesId, f64)>,
    stamped: Vec<(Timestamp, SeriesId, f64)>,
    histograms: Vec<(Timestamp, SeriesId, NativeHistogram)>,
    families: Vec<EncodedFamily>,
    scraped: Option<(Body, Format)>,
    /// Samples of series for which the store had no room.
    refused: usize,
    figures: Figures,
    error: String,
}

impl Collection {
    /// Collects once; `at` is the instant that all samples without a timestamp of their own get.
    /// False when nightbell itself stood still so long that the failure says nothing of the target:
    /// then nothing is stored, which is a gap.
    pub(super) async fn collect(&mut self, at: Timestamp) -> bool {
        self.forget_departed();
        let start = Instant::now();
        let timeout = self.shared.info.timeout;
        let often = self.is_often();
        let mut outcome = match &mut self.source {
            Source::Collector(collector, _) => {
                let mut batch = Batch::new();
                let measured = AssertUnwindSafe(collector.collect(&mut batch)).catch_unwind();
                let (measured, stood_still) =
                    watched(tokio::time::timeout(timeout, measured)).await;
                let error = match measured {
                    Ok(Ok(Ok(()))) => String::new(),
                    Ok(Ok(Err(error))) => error.to_string(),
                    Ok(Err(_)) => {
                        self.metrics.panics.inc();
                        "the collector panicked".to_owned()
                    }
                    Err(_) => format!("timed out after {}", format_duration(timeout)),
                };
                if stood_still.excuses(timeout) && (!error.is_empty() || found_down(&batch)) {
                    collector.missed();
                    return self.miss(at, start, stood_still);
                }
                self.shared.set_notes(std::mem::take(&mut batch.notes));
                self.take_batch(&batch, error, at)
            }
            Source::Http(fetch, cache) => {
                let reader = Reader {
                    cache,
                    labelling: &self.labelling,
                    often,
                    hits: emptied(std::mem::take(&mut self.room)),
                };
                let (page, stood_still) = watched(fetch.page(reader)).await;
                if stood_still.excuses(timeout) && page.is_err() {
                    return self.miss(at, start, stood_still);
                }
                self.take_page(page, at)
            }
            Source::Own(telemetry, cache) => {
                let reader = Reader {
                    cache,
                    labelling: &self.labelling,
                    often,
                    hits: emptied(std::mem::take(&mut self.room)),
                };
                let page = reader.whole(
                    Bytes::from(telemetry.encode()),
                    Encoding::Text(Format::OpenMetrics),
                );
                self.take_page(page, at)
            }
        };
        outcome.figures.seconds = start.elapsed().as_secs_f64();
        outcome.figures.up = outcome.error.is_empty();
        self.write(at, &mut outcome);
        self.refusals.tell(&self.shared.info, outcome.figures.up);
        self.publish(at, outcome);
        if !often {
            self.room = Vec::new();
        }
        true
    }

    /// Notes a collection that was missed because nightbell itself stood still. What was known of
    /// the target stands.
    fn miss(&mut self, at: Timestamp, start: Instant, stood_still: Standstill) -> bool {
        let (stood, timeout) = (
            stood_still.total.as_millis(),
            format_duration(self.shared.info.timeout),
        );
        let error = format!(
            "missed: nightbell itself stood still for {stood}ms while the deadline of {timeout} ran"
        );
        self.metrics.missed(&self.shared.info, &error);
        self.shared.miss(error, at, start.elapsed());
        false
    }

    fn is_often(&self) -> bool {
        self.shared.info.interval <= OFTEN
    }

    /// Marks every series of this target as ended (SEMANTICS 15).
    pub(super) fn end(&self, at: Timestamp) {
        let alive = match &self.source {
            Source::Collector(_, cache) => cache.alive(),
            Source::Http(_, cache) | Source::Own(_, cache) => cache.series.alive(),
        };
        let marks: Vec<(SeriesId, f64)> = alive
            .into_iter()
            .chain(self.report.ids())
            .map(|id| (id, stale_nan()))
            .collect();
        self.store.append_ids(at, &marks);
    }

    /// What a collector pushed, before an error too; what it did not push this time is marked
    /// (SEMANTICS 19).
    fn take_batch(&mut self, batch: &Batch, mut error: String, at: Timestamp) -> Outcome {
        let Source::Collector(_, cache) = &mut self.source else {
            return Outcome::default();
        };
        let limit = usize::try_from(self.labelling.limits.samples).unwrap_or(usize::MAX);
        let mut outcome = Outcome::default();
        let mut hits: Vec<(usize, usize, f64, Option<Timestamp>)> = Vec::with_capacity(cache.len());
        let mut previous = None;
        let mut index_of = |labels: &Labels, error: &mut String| -> Option<usize> {
            let known = match cache.probable(previous) {
                Some((index, key, _)) if key == labels => Some(index),
                _ => cache.find(labels).map(|(index, _)| index),
            };
            let index = match known {
                Some(index) => index,
                None => match self.labelling.of_labels(labels) {
                    Ok(Some(stored)) => {
                        let id = match self.store.series_id_of(&self.owner, &stored) {
                            Ok(id) => Some(id),
                            Err(Refused::TooManySeries(_)) => None,
                            Err(refused) => {
                                *error = self
                                    .metrics
                                    .beyond(&self.shared.info, &stored, refused)
                                    .to_string();
                                return None;
                            }
                        };
                        let entry =
                            Entry::new(id, MetricKind::Untyped, stored).refused_if(id.is_none());
                        cache.put(labels.clone(), entry)
                    }
                    Ok(None) => return None,
                    Err(reason) => {
                        self.metrics.no_room.inc();
                        *error = reason.into_owned();
                        return None;
                    }
                },
            };
            previous = Some(index);
            Some(index)
        };
        for (number, (name, family)) in batch.families.iter().enumerate() {
            outcome.families.push(EncodedFamily::new(
                name.clone(),
                family.kind,
                family.help.clone(),
            ));
            for sample in &family.samples {
                outcome.figures.scraped += 1;
                if hits.len() >= limit {
                    error = over(hits.len() + 1, limit).to_string();
                } else if let Some(index) = index_of(&sample.labels, &mut error) {
                    hits.push((index, number, sample.value, sample.timestamp));
                }
            }
        }
        let mut histograms = Vec::with_capacity(batch.histograms.len());
        for sample in &batch.histograms {
            outcome.figures.scraped += 1;
            if hits.len() + histograms.len() >= limit {
                error = over(hits.len() + histograms.len() + 1, limit).to_string();
            } else if let Some(index) = index_of(&sample.labels, &mut error) {
                histograms.push((index, sample));
            }
        }
        outcome.figures.kept = hits.len() + histograms.len();
        let mut series = String::new();
        let mut turn = cache.turn(self.stamps.track);
        for (index, family, value, timestamp) in hits {
            let Some(entry) = turn.show(index, timestamp.is_some()) else {
                continue;
            };
            series.clear();
            crate::exposition::encode::series_text(&mut series, &entry.extra);
            outcome.families[family].push(&series, value, timestamp);
            match (entry.id, timestamp) {
                (Some(id), None) => outcome.samples.push((id, value)),
                (Some(id), Some(timestamp)) => outcome.stamped.push((timestamp, id, value)),
                (None, _) => outcome.refused += 1,
            }
        }
        for (index, sample) in histograms {
            match turn
                .show(index, sample.timestamp.is_some())
                .map(|entry| entry.id)
            {
                Some(Some(id)) => outcome.histograms.push((
                    sample.timestamp.unwrap_or(at),
                    id,
                    (*sample.histogram).clone(),
                )),
                Some(None) => outcome.refused += 1,
                None => {}
            }
        }
        let changes = turn.end();
        self.metrics.repeated.inc_by(changes.repeated as u64);
        outcome.figures.added = changes.added;
        outcome
            .samples
            .extend(changes.gone.into_iter().map(|id| (id, stale_nan())));
        self.drop_future(&mut outcome, at);
        Outcome { error, ..outcome }
    }

    /// A page that was fetched: all of it or nothing (SEMANTICS 13).
    fn take_page(
        &mut self,
        page: Result<Fetched, impl Into<ScrapeError>>,
        at: Timestamp,
    ) -> Outcome {
        let Fetched {
            mut scanned,
            format,
            body,
        } = match page {
            Ok(page) => page,
            Err(error) => return self.take_nothing(error.into().to_string()),
        };
        let mut figures = Figures {
            scraped: scanned.scraped,
            kept: scanned.kept,
            ..Figures::default()
        };
        let body = match body {
            Ok(body) => body,
            Err(error) => {
                return Outcome {
                    figures,
                    ..self.take_nothing(error.to_string())
                };
            }
        };
        let (often, is_own) = (self.is_often(), matches!(self.source, Source::Own(..)));
        let (Source::Http(_, cache) | Source::Own(_, cache)) = &mut self.source else {
            return Outcome::default();
        };
        let known = cache.series.len();
        cache.series.reserve(scanned.new.len());
        // What nightbell measures of itself has no share: there is room for it.
        let owner = Some(&self.owner).filter(|_| !is_own);
        let id = |labels: &Labels| {
            owner.map_or_else(
                || self.store.series_id(labels),
                |owner| self.store.series_id_of(owner, labels),
            )
        };
        let put = |new: NewSeries| {
            let id = match new.labels.as_ref().map(|labels| (labels, id(labels))) {
                None | Some((_, Err(Refused::TooManySeries(_)))) => None,
                Some((_, Ok(id))) => Some(id),
                Some((labels, Err(refused))) => {
                    return Err(self.metrics.beyond(&self.shared.info, labels, refused));
                }
            };
            let refused = new.labels.is_some() && id.is_none();
            Ok(cache.series.put(
                new.fingerprint,
                Entry::new(id, new.kind, ()).refused_if(refused),
            ))
        };
        let added: Result<Vec<usize>, PageError> = std::mem::take(&mut scanned.new)
            .into_iter()
            .map(put)
            .collect();
        let added = match added {
            Ok(added) => added,
            // What was made already has no sample, and goes at the next upkeep.
            Err(error) => {
                return Outcome {
                    figures,
                    ..self.take_nothing(error.to_string())
                };
            }
        };
        let timestamps = scanned.timestamps();
        let Scanned {
            hits,
            spans,
            histograms: values,
            ..
        } = scanned;
        let lines = hits.len() - values.len();
        let mut values = values.into_iter();
        let honor = self.stamps.honor;
        let mut outcome = Outcome::default();
        let mut last = cache.turn();
        last.spans
            .resize(if often { cache.series.len() } else { 0 }, Span::default());
        let mut turn = cache.series.turn(self.stamps.track);
        // A sample takes as much room as its hit: the standard library collects them in the same
        // memory.
        outcome.samples = (hits.into_iter().enumerate())
            .filter_map(|(position, Hit { series, value })| {
                let histogram = if position < lines {
                    None
                } else {
                    values.next()
                };
                let timestamp = timestamps(position).filter(|_| honor);
                let index = (series as usize)
                    .checked_sub(known)
                    .map_or(series as usize, |new| added[new]);
                let entry = turn.show(index, timestamp.is_some())?;
                if let Some(span) = last.spans.get_mut(index) {
                    *span = spans.get(position).copied().unwrap_or_default();
                }
                match (entry.id, timestamp, histogram) {
                    (Some(id), _, Some(histogram)) => {
                        outcome
                            .histograms
                            .push((timestamp.unwrap_or(at), id, histogram))
                    }
                    (Some(id), None, None) => return Some((id, value)),
                    (Some(id), Some(timestamp), None) => {
                        outcome.stamped.push((timestamp, id, value))
                    }
                    (None, _, _) => outcome.refused += usize::from(entry.refused),
                }
                None
            })
            .collect();
        let changes = turn.end();
        if let (true, Body::Plain(text)) = (often, &body) {
            last.body = text.clone();
            cache.keep(last, spans);
        }
        self.metrics.repeated.inc_by(changes.repeated as u64);
        figures.added = changes.added;
        outcome
            .samples
            .extend(changes.gone.into_iter().map(|id| (id, stale_nan())));
        self.drop_future(&mut outcome, at);
        Outcome {
            figures,
            scraped: Some((body, format)),
            ..outcome
        }
    }

    /// A failed scrape counts as an empty page: everything gets markers at once (SEMANTICS 13).
    fn take_nothing(&mut self, error: String) -> Outcome {
        let gone = match &mut self.source {
            Source::Collector(..) => Vec::new(),
            Source::Http(_, cache) | Source::Own(_, cache) => cache.series.turn(false).end().gone,
        };
        Outcome {
            error,
            samples: gone.into_iter().map(|id| (id, stale_nan())).collect(),
            ..Outcome::default()
        }
    }

    fn drop_future(&mut self, outcome: &mut Outcome, at: Timestamp) {
        let before = outcome.stamped.len() + outcome.histograms.len();
        outcome
            .stamped
            .retain(|(timestamp, _, _)| *timestamp <= at + MAX_AHEAD);
        outcome
            .histograms
            .retain(|(timestamp, _, _)| *timestamp <= at + MAX_AHEAD);
        let kept = outcome.stamped.len() + outcome.histograms.len();
        self.metrics.out_of_bounds.inc_by((before - kept) as u64);
        self.refusals.out_of_bounds += before - kept;
    }

    fn write(&mut self, at: Timestamp, outcome: &mut Outcome) {
        self.report
            .fails(&outcome.error, &self.shared.info.address, &self.store);
        self.report.samples(&outcome.figures, &mut outcome.samples);
        outcome.stamped.sort_by_key(|(timestamp, _, _)| *timestamp);
        for run in outcome.stamped.chunk_by(|a, b| a.0 == b.0) {
            let samples: Vec<(SeriesId, f64)> =
                run.iter().map(|(_, id, value)| (*id, *value)).collect();
            let appended = self.store.append_ids(run[0].0, &samples);
            self.account(&appended);
        }
        let appended = self.store.append_ids(at, &outcome.samples);
        self.account(&appended);
        self.room = std::mem::take(&mut outcome.samples);
        let mut histograms = std::mem::take(&mut outcome.histograms);
        self.metrics
            .native_histograms
            .inc_by(histograms.len() as u64);
        histograms.sort_by_key(|(timestamp, _, _)| *timestamp);
        for run in histograms.chunk_by_mut(|a, b| a.0 == b.0) {
            let samples: Vec<_> = run
                .iter_mut()
                .map(|(_, id, histogram)| (*id, Arc::new(std::mem::take(histogram))))
                .collect();
            let appended = self.store.append_histogram_ids(run[0].0, &samples);
            self.account(&appended);
        }
        self.arrivals
            .send_modify(|count| *count = count.wrapping_add(1));
        self.refusals.no_room += outcome.refused;
        if outcome.refused > 0 {
            self.metrics.no_room.inc_by(outcome.refused as u64);
            self.forget(&[]);
        }
    }

    /// Single samples that the store refused are counted and fail nothing (SEMANTICS 10).
    fn account(&mut self, appended: &Appended) {
        self.metrics.duplicate.inc_by(appended.duplicate as u64);
        self.metrics
            .out_of_order
            .inc_by(appended.out_of_order as u64);
        self.metrics
            .out_of_bounds
            .inc_by(appended.out_of_bounds as u64);
        self.refusals.duplicate += appended.duplicate;
        self.refusals.out_of_order += appended.out_of_order;
        self.refusals.out_of_bounds += appended.out_of_bounds;
        if !appended.forgotten.is_empty() {
            self.forget(&appended.forgotten);
        }
    }

    /// Series that ended leave the store: one that comes back is asked for anew, before its sample
    /// is there.
    fn forget_departed(&mut self) {
        let departures = self.store.departures();
        if departures != std::mem::replace(&mut self.departures, departures) {
            let gone = match &self.source {
                Source::Collector(_, cache) => self.store.departed(cache.ids()),
                Source::Http(_, cache) | Source::Own(_, cache) => {
                    self.store.departed(cache.series.ids())
                }
            };
            let is_gone = |id: Option<SeriesId>| id.is_some_and(|id| gone.contains(&id));
            match &mut self.source {
                _ if gone.is_empty() => {}
                Source::Collector(_, cache) => cache.forget(|e| is_gone(e.id)),
                Source::Http(_, cache) | Source::Own(_, cache) => {
                    cache.series.forget(|e| is_gone(e.id))
                }
            }
        }
        self.report.renew(&self.store);
    }

    /// Forgets series that retention dropped, and those that the store refused: the next page asks
    /// for them again.
    fn forget(&mut self, ids: &[SeriesId]) {
        let ids: std::collections::HashSet<SeriesId> = ids.iter().copied().collect();
        let gone =
            |id: Option<SeriesId>, refused: bool| refused || id.is_some_and(|id| ids.contains(&id));
        match &mut self.source {
            Source::Collector(_, cache) => cache.forget(|e| gone(e.id, e.refused)),
            Source::Http(_, cache) | Source::Own(_, cache) => {
                cache.series.forget(|e| gone(e.id, e.refused))
            }
        }
    }

    /// Sets the page for /metrics and the status; a failure is logged when it begins, when its text
    /// changes and when it ends.
    fn publish(&self, at: Timestamp, outcome: Outcome) {
        let report = self.report.families(&outcome.figures);
        let page = match outcome.scraped {
            Some((body, format)) => LastPage::Scraped(Box::new(ScrapedPage {
                body,
                format,
                labelling: self.labelling.clone(),
                report: Page::new(report.collect()),
                encoded: std::sync::OnceLock::new(),
            })),
            None => LastPage::Encoded(Arc::new(Page::new(
                outcome.families.into_iter().chain(report).collect(),
            ))),
        };
        let health = if outcome.figures.up {
            Health::Up
        } else {
            Health::Down
        };
        let status = Status {
            health,
            error: outcome.error.clone(),
            at: Some(at),
            duration: Duration::from_secs_f64(outcome.figures.seconds),
            samples: outcome.figures.scraped,
        };
        let before = self.shared.set(status, page);
        let who = &self.shared.info;
        let (collector, target) = (who.kind, who.labels.value("instance"));
        match health {
            Health::Down => {
                self.metrics.failed.inc();
                if before.error != outcome.error {
                    warn!(
                        collector,
                        target,
                        job = who.pool,
                        error = outcome.error,
                        "Collection failed."
                    );
                }
            }
            _ if before.health == Health::Down => {
                info!(collector, target, job = who.pool, "Collection works again.")
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests;
