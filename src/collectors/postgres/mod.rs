//! PostgreSQL 10 and later: sessions, databases, locks, log, replication, settings, and in each database tables and indexes, from the
//! statistics views (<https://www.postgresql.org/docs/current/monitoring-stats.html>).
//!
//! Names, types and labels are those of postgres_exporter 0.20, so that its dashboards and rules work. It needs no privilege beyond
//! `CONNECT`; what a missing `pg_monitor` costs is a metric and one line in the log. It never writes, never reads the text of a query,
//! and repeats what changes slowly instead of asking for it again. One connection stays open for each database looked into.

mod activity;
mod config;
mod database;
mod health;
mod locks;
mod part;
mod replication;
mod server;
mod session;
mod settings;
mod statements;
mod tables;
mod wal;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use sqlx::{Row as _, SqlStr};
use tokio::time::Instant;

use crate::config::Section;
use crate::model::Batch;

use super::{CollectError, Collector, CollectorKind, Target};
use config::Config;
use health::{Health, PartHealth};
use part::{Cadence, Part};
use session::{Error, Session};

/// The collector `postgres`.
pub const KIND: CollectorKind = CollectorKind {
    name: "postgres",
    about: "a PostgreSQL server: sessions, databases, locks, log, replication, tables, indexes, statements, settings",
    metrics: &[
        &health::METRICS,
        &server::VERSION_METRICS,
        &server::START_METRICS,
        &server::ROLES_METRICS,
        &server::VACUUM_METRICS,
        &activity::SESSIONS_METRICS,
        &activity::LONG_METRICS,
        &activity::IDLE_METRICS,
        &database::STATISTICS_METRICS,
        &database::CONFLICTS_METRICS,
        &database::SIZE_METRICS,
        &locks::HELD_METRICS,
        &locks::WAITING_METRICS,
        &wal::FILES_METRICS,
        &wal::ACTIVITY_METRICS,
        &wal::ARCHIVER_METRICS,
        &wal::WRITER_METRICS,
        &wal::CHECKPOINTS_METRICS,
        &replication::ROLE_METRICS,
        &replication::REPLICAS_METRICS,
        &replication::SLOTS_METRICS,
        &replication::SLOT_TYPES_METRICS,
        &replication::SLOT_STATUS_METRICS,
        &replication::RECEIVER_METRICS,
        &statements::METRICS,
        &tables::TABLES_METRICS,
        &tables::INDEXES_METRICS,
        &tables::UNUSED_METRICS,
    ],
    build,
};

/// Every part, in the order of asking.
const PARTS: &[&Part] = &[
    &activity::SESSIONS,
    &activity::LONG_RUNNING,
    &activity::IDLE,
    &database::STATISTICS,
    &locks::HELD,
    &locks::WAITING,
    &replication::ROLE,
    &replication::REPLICAS,
    &replication::SLOTS,
    &replication::SLOT_TYPES,
    &replication::SLOT_STATUS,
    &replication::RECEIVER,
    &wal::ACTIVITY,
    &wal::ARCHIVER,
    &wal::WRITER,
    &wal::CHECKPOINTS,
    &wal::FILES,
    &server::START,
    &server::VACUUM,
    &server::VERSION,
    &server::ROLES,
    &database::SIZES,
    &database::CONFLICTS,
    &statements::STATEMENTS,
    &statements::STATEMENTS_17,
    &settings::SETTINGS,
    &tables::TABLES,
    &tables::INDEXES,
    &tables::UNUSED_INDEXES,
];

/// How long settings, versions and roles are repeated before they are read again.
const RARE: Duration = Duration::from_secs(300);

const DATABASES: &str = "SELECT datname::text, has_database_privilege(datname, 'CONNECT') FROM pg_database
    WHERE datallowconn AND NOT datistemplate AND datname <> current_database() ORDER BY datname LIMIT 1000";

fn build(section: &Section<'_>, target: &Target) -> Box<dyn Collector> {
    Box::new(Postgres {
        config: Config::read(section).map(Arc::new),
        target: target.clone(),
        main: None,
        databases: BTreeMap::new(),
        kept: Kept::default(),
        connected: Duration::ZERO,
        warned: None,
    })
}

struct Postgres {
    config: Option<Arc<Config>>,
    target: Target,
    /// Taken out while in use: a collection that is cut off leaves no half-read connection behind.
    main: Option<Session>,
    databases: BTreeMap<String, Session>,
    kept: Kept,
    /// How long the last connect took.
    connected: Duration,
    /// The missing privileges that were last logged.
    warned: Option<(String, String)>,
}

/// What is repeated until it is read again.
#[derive(Default)]
struct Kept {
    /// Collections so far.
    round: u32,
    slow: Batch,
    rare: Batch,
    health: Health,
    skipped: [f64; 2],
}

/// What one collection gathers.
struct Round<'a> {
    config: &'a Config,
    deadline: Instant,
    batch: &'a mut Batch,
    slow: Option<Batch>,
    rare: Option<Batch>,
    health: Health,
    skipped: [f64; 2],
    failures: Vec<String>,
}

impl Collector for Postgres {
    fn collect<'a>(&'a mut self, batch: &'a mut Batch) -> BoxFuture<'a, Result<(), CollectError>> {
        async move {
            let Some(config) = self.config.clone() else {
                return Err(CollectError::new("not configured: dsn is missing"));
            };
            // A tenth is kept back so that pg_up can still be said before the loop's own deadline.
            let started = Instant::now();
            let deadline = started + self.target.timeout.mul_f64(0.9);
            let result = self.measure(&config, batch, deadline).await;
            let up = !matches!(result, Err(Error::Lost(_)));
            batch.push(&health::METRICS[0], &[], f64::from(u8::from(up)));
            batch.push(&health::METRICS[8], &[], f64::from(u8::from(result.is_err())));
            batch.push(&health::METRICS[9], &[], started.elapsed().as_secs_f64());
            result.map_err(|error| CollectError::new(error.to_string()))
        }
        .boxed()
    }

    fn address(&self) -> String {
        self.config.as_ref().map(|c| c.address.clone()).unwrap_or_default()
    }
}

impl Postgres {
    async fn measure(&mut self, config: &Config, batch: &mut Batch, deadline: Instant) -> Result<(), Error> {
        let (mut session, ping) = self.reach(config, deadline).await?;
        batch.push(&health::METRICS[1], &[], self.connected.as_secs_f64());
        batch.push(&health::METRICS[2], &[], ping.as_secs_f64());
        let due = |every: Duration| {
            let rounds = (every.as_secs_f64() / self.target.interval.as_secs_f64().max(0.001)).round().clamp(1.0, 1e6) as u32;
            self.kept.round.is_multiple_of(rounds).then(Batch::new)
        };
        let (slow, rare) = (due(config.table_interval), due(RARE));
        let (health, skipped) = (self.kept.health.clone(), self.kept.skipped);
        let mut round = Round { config, deadline, batch, slow, rare, health, skipped, failures: Vec::new() };
        round.begin();
        match round.ask_everything(&mut session, &mut self.databases).await {
            Ok(()) => self.main = Some(session),
            // The server is there, only slow: what was read counts, and the rest is not tried again at once.
            Err(Error::Late(text)) => round.failures.push(text),
            Err(error) => {
                self.forget();
                return Err(error);
            }
        }
        self.finish(round)
    }

    /// Nothing old may be repeated once the server has been away.
    fn forget(&mut self) {
        self.databases.clear();
        self.kept = Kept::default();
    }

    /// An open connection that has answered, and how long the answer took. One that has died since the last time is replaced at once.
    async fn reach(&mut self, config: &Config, deadline: Instant) -> Result<(Session, Duration), Error> {
        if let Some(mut session) = self.main.take() {
            match session.ping(config, deadline).await {
                Ok(ping) => return Ok((session, ping)),
                Err(error) if Instant::now() >= deadline => {
                    self.forget();
                    return Err(error);
                }
                Err(_) => self.forget(),
            }
        }
        let started = Instant::now();
        let mut session = match Session::open(config, None, PARTS, deadline).await {
            Ok(session) => session,
            Err(error) => {
                self.forget();
                return Err(error);
            }
        };
        self.connected = started.elapsed();
        self.warn(&session);
        let ping = session.ping(config, deadline).await?;
        Ok((session, ping))
    }

    /// One line in the log when the missing privileges are not those that were last logged.
    fn warn(&mut self, session: &Session) {
        let missing = health::missing_grant(PARTS, &session.server);
        if missing != self.warned {
            if let Some((grant, cost)) = &missing {
                tracing::warn!(collector = "postgres", target = %self.target.name, %grant, %cost, "A privilege is missing.");
            }
            self.warned = missing;
        }
    }

    fn finish(&mut self, round: Round<'_>) -> Result<(), Error> {
        let Round { batch, slow, rare, health, skipped, failures, .. } = round;
        let kept = &mut self.kept;
        kept.round = kept.round.wrapping_add(1);
        kept.slow = slow.unwrap_or_else(|| std::mem::take(&mut kept.slow));
        kept.rare = rare.unwrap_or_else(|| std::mem::take(&mut kept.rare));
        (kept.health, kept.skipped) = (health, skipped);
        batch.append(kept.slow.clone());
        batch.append(kept.rare.clone());
        health::push(&kept.health, batch);
        for (reason, value) in ["limit", "permission"].iter().zip(kept.skipped) {
            batch.push(&health::METRICS[7], &[("reason", reason)], value);
        }
        if failures.is_empty() { Ok(()) } else { Err(Error::Query(failures.join("; "))) }
    }
}

impl Round<'_> {
    fn due(&self, part: &Part) -> bool {
        match part.cadence {
            Cadence::Each => true,
            Cadence::Slow => self.slow.is_some(),
            Cadence::Rare => self.rare.is_some(),
        }
    }

    /// Forgets how the parts fared that are about to be asked again.
    fn begin(&mut self) {
        let again: Vec<&str> = PARTS.iter().filter(|part| self.due(part)).map(|part| part.name).collect();
        self.health.retain(|name, _| !again.contains(name));
    }

    async fn ask_everything(&mut self, main: &mut Session, databases: &mut BTreeMap<String, Session>) -> Result<(), Error> {
        self.ask_all(main).await?;
        if self.slow.is_some() { self.ask_databases(main, databases).await } else { Ok(()) }
    }

    async fn ask_all(&mut self, session: &mut Session) -> Result<(), Error> {
        for index in 0..session.queries.len() {
            if self.due(session.queries[index].part) {
                self.ask(session, index).await?;
            }
        }
        Ok(())
    }

    async fn ask(&mut self, session: &mut Session, index: usize) -> Result<(), Error> {
        let part = session.queries[index].part;
        let mut state = self.health.get(part.name).copied().unwrap_or_else(|| PartHealth::new(part));
        let denied = part.grant.filter(|grant| !session.server.holds(grant));
        let started = Instant::now();
        let answer = match denied {
            Some(grant) if grant.required => Err(Error::Denied(String::new())),
            _ => session.ask(session.queries[index].sql.clone(), self.config, self.deadline).await,
        };
        let read = answer.and_then(|rows| {
            let batch = match part.cadence {
                Cadence::Each => &mut *self.batch,
                Cadence::Slow => self.slow.get_or_insert_default(),
                Cadence::Rare => self.rare.get_or_insert_default(),
            };
            session.queries[index].read(&rows, batch).map_err(|e| Error::Query(format!("unexpected answer: {e}")))
        });
        state.duration += started.elapsed();
        state.denied = state.denied.map(|before| before || denied.is_some());
        match read {
            Ok(dropped) => state.dropped = state.dropped.map(|before| before + dropped),
            Err(Error::Late(text)) => return Err(Error::Late(format!("{}: {text}", part.name))),
            Err(Error::Lost(text)) => return Err(Error::Lost(text)),
            Err(Error::Denied(_)) => (state.success, state.denied) = (false, Some(true)),
            Err(Error::Unavailable(_)) => state.success = false,
            Err(Error::Query(text)) => {
                state.success = false;
                self.failures.push(format!("{}: {text}", part.name));
            }
        }
        self.health.insert(part.name, state);
        Ok(())
    }

    /// Looks into the other databases for tables and indexes.
    async fn ask_databases(&mut self, main: &mut Session, sessions: &mut BTreeMap<String, Session>) -> Result<(), Error> {
        let mut open = std::mem::take(sessions);
        let mut wanted = Vec::new();
        self.skipped = [0.0; 2];
        for row in main.ask(SqlStr::from_static(DATABASES), self.config, self.deadline).await? {
            let unexpected = |e: sqlx::Error| Error::Query(format!("databases: unexpected answer: {e}"));
            let name: String = row.try_get(0).map_err(unexpected)?;
            let allowed: bool = row.try_get(1).map_err(unexpected)?;
            match (self.config.wants(&name), allowed) {
                (false, _) => {}
                (true, false) => self.skipped[1] += 1.0,
                // The database of the DSN counts as one of them.
                (true, true) if wanted.len() + 1 >= self.config.max_databases => self.skipped[0] += 1.0,
                (true, true) => wanted.push(name),
            }
        }
        for name in wanted {
            match self.ask_database(&name, open.remove(&name)).await {
                Ok(session) => drop(sessions.insert(name, session)),
                Err(error) if Instant::now() >= self.deadline => return Err(Error::Late(format!("database {name}: {error}"))),
                Err(error) => self.failures.push(format!("database {name}: {error}")),
            }
        }
        for session in open.into_values() {
            session.close(self.deadline).await;
        }
        Ok(())
    }

    async fn ask_database(&mut self, name: &str, session: Option<Session>) -> Result<Session, Error> {
        let mut session = match session {
            Some(session) => session,
            None => Session::open(self.config, Some(name), PARTS, self.deadline).await?,
        };
        self.ask_all(&mut session).await?;
        Ok(session)
    }
}

/// Every metric that the parts can make is declared; used by the suite as well.
#[cfg(test)]
mod tests {
    use crate::model::MetricDesc;

    use super::*;
    use part::Rows;

    #[test]
    fn every_measure_of_every_part_is_declared_with_its_labels() {
        let declared: Vec<&MetricDesc> = KIND.metrics.iter().copied().flatten().collect();
        for part in PARTS {
            let Rows::Columns(labels, measures) = &part.rows else { continue };
            for measure in *measures {
                let found = declared.iter().find(|d| d.name == measure.desc.name).unwrap_or_else(|| panic!("{}", measure.desc.name));
                let mut names: Vec<&str> = labels.iter().map(|(name, _)| *name).collect();
                let mut declared_names = found.labels.to_vec();
                names.sort_unstable();
                declared_names.sort_unstable();
                assert_eq!(names, declared_names, "{}", found.name);
                assert_eq!(found.kind, measure.desc.kind);
                assert!(found.help.ends_with('.') && !found.source.is_empty(), "{}", found.name);
            }
        }
    }

    #[test]
    fn no_metric_is_declared_twice() {
        let mut names: Vec<&str> = KIND.metrics.iter().copied().flatten().map(|d| d.name).collect();
        names.sort_unstable();
        let count = names.len();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}
