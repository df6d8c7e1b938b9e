//! The report series of a target (SEMANTICS 20), written at each collection, failed ones too.

use crate::exposition::EncodedFamily;
use crate::model::{Labels, METRIC_NAME};
use crate::store::{SeriesId, Store};

use super::page::single;

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
    ("up", "1 if the target could be collected, 0 if not.", |f| f64::from(u8::from(f.up))),
    ("scrape_duration_seconds", "Duration of the collection in seconds.", |f| f.seconds),
    ("scrape_samples_scraped", "Samples the target exposed.", |f| f.scraped as f64),
    ("scrape_samples_post_metric_relabeling", "Samples that remained after metric relabelling.", |f| f.kept as f64),
    ("scrape_series_added", "New series in this collection.", |f| f.added as f64),
];

const OF_COLLECTORS: [Row; 2] = [
    ("nightbell_collector_success", "1 if the collector succeeded, 0 if it failed or was too late.", |f| f64::from(u8::from(f.up))),
    ("nightbell_collector_duration_seconds", "Duration of the collection in seconds.", |f| f.seconds),
];

/// The report series of one target with their numbers.
pub(super) struct Report {
    rows: Vec<(Row, Labels, Option<SeriesId>)>,
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
            let labels = target.with("collector", kind).with("target", target.value("instance"));
            rows.extend(OF_COLLECTORS.into_iter().map(|r| row(r, &labels)));
        }
        Report { rows }
    }

    /// Asks the store again for series that it had no room for, or that are gone since the target is collected so seldom.
    pub(super) fn renew(&mut self, store: &Store) {
        let gone = store.departed(self.ids());
        for (_, labels, id) in &mut self.rows {
            if id.is_none_or(|id| gone.contains(&id)) {
                *id = store.series_id(labels).ok();
            }
        }
    }

    /// Adds the report's values to what will be stored.
    pub(super) fn samples(&self, figures: &Figures, out: &mut Vec<(SeriesId, f64)>) {
        out.extend(self.rows.iter().filter_map(|((_, _, value), _, id)| Some(((*id)?, value(figures)))));
    }

    /// The report as families for /metrics.
    pub(super) fn families(&self, figures: &Figures) -> impl Iterator<Item = EncodedFamily> {
        self.rows.iter().map(|((name, help, value), labels, _)| single(name, help, labels, value(figures)))
    }

    /// Numbers of the report series.
    pub(super) fn ids(&self) -> impl Iterator<Item = SeriesId> {
        self.rows.iter().filter_map(|(_, _, id)| *id)
    }
}
