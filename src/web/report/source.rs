//! Where the hours of a report come from: the rollups, and the history itself for hours that are
//! not rolled up.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tracing::warn;

use crate::model::{Labels, Timestamp};
use crate::promql::{Engine, Value, parse};
use crate::report::hours::{HOUR, Series, Span};
use crate::report::quantities::Quantity;
use crate::store::Store;
use crate::store::rollup::{Day, HOURS, Rollups};

/// The history with its rollups. Cheap to clone.
#[derive(Clone)]
pub struct Source {
    /// The history.
    pub store: Arc<Store>,
    /// The rollups, where they can be kept.
    pub rollups: Option<Rollups>,
}

/// The days of a report, read.
pub struct Loaded<'a> {
    source: &'a Source,
    days: BTreeMap<i64, Day>,
}

impl Source {
    /// Reads the days of a time.
    pub fn load(&self, from: Timestamp, to: Timestamp) -> Loaded<'_> {
        let mut days = BTreeMap::new();
        let Some(rollups) = &self.rollups else {
            return Loaded { source: self, days };
        };
        for day in Rollups::day_of(from)..=Rollups::day_of(to) {
            match rollups.read(day) {
                Ok(found) => days.extend(found.map(|found| (day, found))),
                Err(error) => {
                    warn!(%error, "A day of rollups cannot be read; reports use the history where it reaches back.")
                }
            }
        }
        Loaded { source: self, days }
    }
}

impl Loaded<'_> {
    /// The hours of a quantity.
    ///
    /// # Errors
    ///
    /// The history cannot be read, or the expression takes too much.
    pub fn hours(
        &self,
        quantity: &Quantity,
        span: Span,
        engine: &Engine,
        now: Timestamp,
    ) -> Result<Vec<Series>, String> {
        let mut found: BTreeMap<Labels, Vec<f64>> = BTreeMap::new();
        let mut put = |labels: &Labels, hour: usize, value: f64| {
            if value.is_finite() {
                found
                    .entry(labels.clone())
                    .or_insert_with(|| vec![f64::NAN; span.hours])[hour] = value;
            }
        };
        let oldest = now - self.source.store.retention();
        let mut missing: Vec<usize> = Vec::new();
        for hour in 0..span.hours {
            let begin = Timestamp(span.from.0 + hour as i64 * HOUR);
            let (day, of_day) = (
                Rollups::day_of(begin),
                (begin.0.div_euclid(HOUR)).rem_euclid(HOURS as i64) as usize,
            );
            match self.days.get(&day).filter(|day| of_day < day.hours) {
                Some(day) => {
                    let series = day.quantities.get(quantity.name).into_iter().flatten();
                    series.for_each(|(labels, hours)| put(labels, hour, hours[of_day]));
                }
                None if span.end_of(hour) >= oldest => missing.push(hour),
                None => {}
            }
        }
        // A day at a time: a month of raw samples at once would take all the memory.
        for hours in missing
            .chunk_by(|a, b| a + 1 == *b)
            .flat_map(|run| run.chunks(HOURS))
        {
            let (Some(first), Some(last)) = (hours.first(), hours.last()) else {
                continue;
            };
            for (labels, points) in evaluate(
                &self.source.store,
                engine,
                quantity,
                span.end_of(*first),
                span.end_of(*last),
            )? {
                for (at, value) in points {
                    let hour = usize::try_from((at.0 - span.from.0) / HOUR - 1).unwrap_or(0);
                    put(&labels, hour.min(span.hours - 1), value);
                }
            }
        }
        let mut series: Vec<Series> = found
            .into_iter()
            .map(|(labels, hours)| Series { labels, hours })
            .collect();
        if series.len() > quantity.most * 2 {
            // Over a long time more series come and go than an hour has; those with most hours
            // matter most.
            series.sort_by_key(|one| std::cmp::Reverse(one.count()));
            series.truncate(quantity.most * 2);
        }
        Ok(series)
    }
}

/// A series with its values at the ends of hours.
pub type Points = (Labels, Vec<(Timestamp, f64)>);

/// A quantity at the ends of hours from `first` to `last`.
///
/// # Errors
///
/// The history cannot be read, or the expression takes too much.
pub fn evaluate(
    store: &Store,
    engine: &Engine,
    quantity: &Quantity,
    first: Timestamp,
    last: Timestamp,
) -> Result<Vec<Points>, String> {
    let expr = parse(quantity.expression).map_err(|error| format!("{}: {error}", quantity.name))?;
    let evaluated = engine.range(
        store,
        &expr,
        first,
        last,
        Duration::from_millis(HOUR as u64),
    );
    match evaluated
        .map_err(|error| format!("{}: {error}", quantity.name))?
        .value
    {
        Value::Matrix(series) => Ok(series
            .into_iter()
            .map(|one| (one.labels, one.points))
            .collect()),
        _ => Ok(Vec::new()),
    }
}
