//! Rolls hours up: what reports need of each hour is computed once and kept for 400 days. The first
//! start goes back as far as the history does; after that an hour is rolled up a little after its
//! end, and hours in which nightbell did not run are empty.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use tracing::{info, warn};

use crate::model::{Timestamp, clock};
use crate::promql::Engine;
use crate::report::hours::HOUR;
use crate::report::quantities::{QUANTITIES, Quantity};
use crate::store::Store;
use crate::store::rollup::{Day, HOURS, Rollups};
use crate::telemetry::Telemetry;
use crate::web::report::evaluate;

/// How often it is looked whether an hour is over.
const LOOK: Duration = Duration::from_secs(30);
/// Samples of an hour may come so much later.
const LATE: Duration = Duration::from_secs(120);
/// How long an hour that cannot be evaluated is tried again.
const PATIENCE: Duration = Duration::from_secs(2 * 3600);
/// How long rollups are kept.
const KEPT: Duration = Duration::from_secs(400 * 86_400);
/// How far back the first start goes at most.
const FIRST: Duration = Duration::from_secs(62 * 86_400);

/// What is counted.
#[derive(Clone, Default)]
pub(in crate::app) struct Metrics {
    until: Gauge<f64, AtomicU64>,
    bytes: Gauge,
    dropped: Counter,
    failed: Counter,
}

impl Metrics {
    pub(in crate::app) fn register(telemetry: &Telemetry) -> Self {
        let metrics = Metrics::default();
        telemetry.register(|registry| {
            registry.register(
                "rollups_until_timestamp_seconds",
                "Until when hours are rolled up for reports, Unix time.",
                metrics.until.clone(),
            );
            registry.register_with_unit(
                "rollups_size",
                "Bytes of the rollups on disk.",
                prometheus_client::registry::Unit::Bytes,
                metrics.bytes.clone(),
            );
            registry.register(
                "rollups_series_dropped",
                "Series of an hour that had no room in the rollups.",
                metrics.dropped.clone(),
            );
            registry.register(
                "rollups_failed",
                "Attempts to roll an hour up that failed.",
                metrics.failed.clone(),
            );
        });
        metrics
    }
}

/// Rolls up until the process ends.
pub(in crate::app) async fn run(
    store: Arc<Store>,
    engine: Engine,
    rollups: Option<Rollups>,
    metrics: Metrics,
) -> Result<(), tokio::task::JoinError> {
    let mut failing = false;
    loop {
        let Some(rollups) = rollups.clone() else {
            std::future::pending::<()>().await;
            continue;
        };
        let (store, engine, counted) = (store.clone(), engine.clone(), metrics.clone());
        let step = move || step(&store, &engine, &rollups, &counted, Timestamp::now());
        match tokio::task::spawn_blocking(step).await? {
            // There is more to do: the next day at once, with a breath in between.
            Ok(true) => {
                failing = false;
                tokio::time::sleep(Duration::from_millis(20)).await;
                continue;
            }
            Ok(false) => failing = false,
            Err(error) => {
                metrics.failed.inc();
                if !failing {
                    warn!(
                        error,
                        "An hour cannot be rolled up for reports; it is tried again."
                    );
                }
                failing = true;
            }
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Rolls up what is due of one day; whether there is more.
fn step(
    store: &Store,
    engine: &Engine,
    rollups: &Rollups,
    metrics: &Metrics,
    now: Timestamp,
) -> Result<bool, String> {
    let said = |error: io::Error| format!("the folder of rollups: {error}");
    let today = Rollups::day_of(now);
    // By the time that is believed: a clock that is years ahead removes nothing.
    let oldest = Rollups::day_of(clock::aged(now).min(now) - KEPT);
    rollups.keep(oldest, today + 1).map_err(said)?;
    let newest = rollups
        .days()
        .map_err(said)?
        .into_iter()
        .rfind(|day| *day <= today);
    let (day, mut content) = match newest {
        None => (
            Rollups::day_of(now - FIRST.min(store.retention())),
            Day::default(),
        ),
        Some(day) => match read(rollups, day)? {
            content if content.hours < HOURS => (day, content),
            _ => (day + 1, Day::default()),
        },
    };
    let begin = Rollups::begin_of(day);
    let over = (now - LATE).0.saturating_sub(begin.0).div_euclid(HOUR);
    let until = usize::try_from(over.clamp(0, HOURS as i64)).unwrap_or(0);
    metrics
        .bytes
        .set(i64::try_from(rollups.size()).unwrap_or(i64::MAX));
    if until <= content.hours {
        return Ok(false);
    }
    let end_of = |hour: usize| Timestamp(begin.0 + (hour as i64 + 1) * HOUR);
    let mut dropped = 0;
    for quantity in QUANTITIES {
        let found = match evaluate(
            store,
            engine,
            quantity,
            end_of(content.hours),
            end_of(until - 1),
        ) {
            Ok(found) => found,
            // What is too much for a day may do for an hour.
            Err(_) => {
                let mut found = Vec::new();
                for hour in content.hours..until {
                    match evaluate(store, engine, quantity, end_of(hour), end_of(hour)) {
                        Ok(one) => found.extend(one),
                        // Others may hold the memory for now; an hour that never fits must not hold
                        // up all that follow.
                        Err(error) if now.since(end_of(hour)) < PATIENCE => return Err(error),
                        Err(error) => {
                            metrics.failed.inc();
                            warn!(
                                error,
                                hour = end_of(hour).rfc3339(),
                                "An hour of a quantity is left out of the rollups."
                            );
                        }
                    }
                }
                found
            }
        };
        dropped += fill(
            content
                .quantities
                .entry(quantity.name.to_owned())
                .or_default(),
            quantity,
            found,
            begin,
        );
    }
    content.quantities.retain(|_, series| !series.is_empty());
    (content.hours, content.dropped) = (until, content.dropped + dropped);
    rollups.write(day, &content).map_err(said)?;
    metrics.dropped.inc_by(dropped);
    metrics.until.set(end_of(until - 1).seconds());
    Ok(until == HOURS && day < today)
}

/// A day that is damaged is put aside, and begun anew from what the history still has.
fn read(rollups: &Rollups, day: i64) -> Result<Day, String> {
    match rollups.read(day) {
        Ok(found) => Ok(found.unwrap_or_default()),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            warn!(%error, "A day of rollups is damaged: it is put aside, and made anew.");
            rollups.set_aside(day).map_err(|error| error.to_string())?;
            Ok(Day::default())
        }
        Err(error) => Err(error.to_string()),
    }
}

/// Puts the values of one quantity into a day, up to its bound; gives how many series had no room.
fn fill(
    day: &mut Vec<(crate::model::Labels, Vec<f64>)>,
    quantity: &Quantity,
    found: Vec<crate::web::report::Points>,
    begin: Timestamp,
) -> u64 {
    let mut known: BTreeMap<crate::model::Labels, usize> = day
        .iter()
        .enumerate()
        .map(|(at, (labels, _))| (labels.clone(), at))
        .collect();
    let mut dropped = 0;
    for (labels, points) in found {
        let at = match known.get(&labels) {
            Some(at) => *at,
            None if day.len() >= quantity.most => {
                dropped += 1;
                continue;
            }
            None => {
                known.insert(labels.clone(), day.len());
                day.push((labels, vec![f64::NAN; HOURS]));
                day.len() - 1
            }
        };
        for (time, value) in points {
            let hour = usize::try_from((time.0 - begin.0) / HOUR - 1).unwrap_or(0);
            if let Some(place) = day[at].1.get_mut(hour) {
                *place = value;
            }
        }
    }
    dropped
}

/// The folder beside the history; without one there are no rollups.
pub(in crate::app) fn open(folder: Option<std::path::PathBuf>) -> Option<Rollups> {
    let folder = folder?.join("rollups");
    match Rollups::open(&folder) {
        Ok(rollups) => {
            info!(folder = %folder.display(), "Hours are rolled up for reports.");
            Some(rollups)
        }
        Err(error) => {
            warn!(folder = %folder.display(), %error, "Hours cannot be rolled up: reports reach back as far as the history.");
            None
        }
    }
}
