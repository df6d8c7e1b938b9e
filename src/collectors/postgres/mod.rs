//! PostgreSQL 10 and later: sessions, databases, locks, log, replication, settings, and in each
//! database tables and indexes, from the statistics views
//! (<https://www.postgresql.org/docs/current/monitoring-stats.html>).
//!
//! Names, types and labels are those of postgres_exporter 0.20, so that its dashboards and rules
//! work. It needs no privilege beyond `CONNECT`; what a missing `pg_monitor` costs is a metric and
//! one line in the log. It never writes, never shows the text of a query, and repeats what changes
//! slowly instead of asking for it again. One connection stays open, to the database of the DSN;
//! into the others it looks one after the other, and leaves each at once, so that they can be
//! dropped, renamed and copied.

mod address;
mod config;
mod dsn;
mod health;
mod own;
mod part;
mod parts;
mod session;
mod trouble;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use sqlx::Row as _;
use tokio::time::Instant;

use crate::config::Section;
use crate::model::Batch;

use super::sql::{self, Dialect, Queries, Reader};
use super::{CollectError, Collector, CollectorKind, Finding, Report, Target};
pub(super) use address::reach;
pub(super) use config::{Config, parse_dsn, socket_folder};
pub(super) use dsn::Dsn;
use health::{Health, PartHealth};
use part::{Cadence, Part, Scope};
use session::{Error, Server};
pub(super) use session::{Error as SessionError, Session};
use trouble::{Trouble, Troubles};

/// The collector `postgres`.
pub const KIND: CollectorKind = CollectorKind {
    name: "postgres",
    about: "a PostgreSQL server: sessions, databases, locks, log, replication, tables, indexes, statements, settings",
    metrics: &[
        &health::METRICS,
        &parts::server::VERSION_METRICS,
        &parts::server::START_METRICS,
        &parts::server::ROLES_METRICS,
        &parts::server::VACUUM_METRICS,
        &parts::activity::SESSIONS_METRICS,
        &parts::activity::LONG_METRICS,
        &parts::activity::IDLE_METRICS,
        &parts::database::STATISTICS_METRICS,
        &parts::database::CONFLICTS_METRICS,
        &parts::database::SIZE_METRICS,
        &parts::locks::HELD_METRICS,
        &parts::locks::WAITING_METRICS,
        &parts::wal::FILES_METRICS,
        &parts::wal::ACTIVITY_METRICS,
        &parts::wal::ARCHIVER_METRICS,
        &parts::wal::WRITER_METRICS,
        &parts::wal::CHECKPOINTS_METRICS,
        &parts::replication::ROLE_METRICS,
        &parts::replication::REPLICAS_METRICS,
        &parts::replication::SLOTS_METRICS,
        &parts::replication::SLOT_TYPES_METRICS,
        &parts::replication::SLOT_STATUS_METRICS,
        &parts::replication::RECEIVER_METRICS,
        &parts::statements::METRICS,
        &parts::tables::TABLES_METRICS,
        &parts::tables::INDEXES_METRICS,
        &parts::tables::UNUSED_METRICS,
        &sql::METRICS,
    ],
    build,
};

/// What notes of the texts of statements are called.
pub use parts::statements::TEXT as STATEMENT_TEXT;

/// Every part, in the order of asking.
const PARTS: &[&Part] = &[
    &parts::activity::SESSIONS,
    &parts::activity::LONG_RUNNING,
    &parts::activity::IDLE,
    &parts::database::STATISTICS,
    &parts::locks::HELD,
    &parts::locks::WAITING,
    &parts::replication::ROLE,
    &parts::replication::REPLICAS,
    &parts::replication::SLOTS,
    &parts::replication::SLOT_TYPES,
    &parts::replication::SLOT_STATUS,
    &parts::replication::RECEIVER,
    &parts::wal::ACTIVITY,
    &parts::wal::ARCHIVER,
    &parts::wal::WRITER,
    &parts::wal::CHECKPOINTS,
    &parts::wal::FILES,
    &parts::server::START,
    &parts::server::VACUUM,
    &parts::server::VERSION,
    &parts::server::ROLES,
    &parts::database::SIZES,
    &parts::database::CONFLICTS,
    &parts::statements::STATEMENTS,
    &parts::statements::STATEMENTS_17,
    &parts::statements::TEXTS,
    &parts::settings::SETTINGS,
    &parts::tables::TABLES,
    &parts::tables::INDEXES,
    &parts::tables::UNUSED_INDEXES,
];

/// How long settings, versions and roles are repeated before they are read again.
const RARE: Duration = Duration::from_secs(300);

/// How long a database that refused us is left alone: each refusal is a line in the server's log.
const REFUSED: Duration = Duration::from_secs(600);

/// The busiest first. A limit of -2 marks what an interrupted DROP DATABASE left.
const DATABASES: &str = "SELECT /* nightbell */ d.datname::text, has_database_privilege(d.oid, 'CONNECT')
        AND (d.datconnlimit = -1 OR s.numbackends < d.datconnlimit OR (SELECT rolsuper FROM pg_roles WHERE rolname = current_user))
    FROM pg_database d LEFT JOIN pg_stat_database s ON s.datid = d.oid
    WHERE d.datallowconn AND NOT d.datistemplate AND d.datname <> current_database() AND d.datconnlimit <> -2
    ORDER BY s.numbackends DESC NULLS LAST, s.tup_returned DESC NULLS LAST, d.datname LIMIT 1000";

/// Why databases are not looked into, in the order of [`Kept::skipped`].
const SKIPPED: [&str; 3] = ["limit", "permission", "failed"];

fn build(section: &Section<'_>, target: &Target) -> Box<dyn Collector> {
    Box::new(Postgres {
        config: Config::read(section, target.timeout).map(Arc::new),
        target: target.clone(),
        main: None,
        known: false,
        refused: BTreeMap::new(),
        kept: Kept::default(),
        connected: Duration::ZERO,
        collections: 0,
        warned: None,
        troubles: Troubles::new(&target.name),
        queries: Queries::read(
            section,
            KIND.name,
            &Reader {
                dialect: Dialect::Postgres,
                target,
                own: KIND.metrics,
            },
        ),
    })
}

struct Postgres {
    config: Option<Arc<Config>>,
    target: Target,
    /// Taken out while in use: a collection that is cut off leaves no half-read connection behind.
    main: Option<Session>,
    /// Whether what answers there speaks PostgreSQL's protocol.
    known: bool,
    /// Databases that refused us, when and why.
    refused: BTreeMap<String, (Instant, String)>,
    kept: Kept,
    /// How long the last connect took.
    connected: Duration,
    /// Since the start.
    collections: u64,
    /// The missing privileges that were last logged.
    warned: Option<(String, String)>,
    troubles: Troubles,
    /// Those of the configuration.
    queries: Queries,
}

/// What is repeated until it is read again.
#[derive(Default)]
struct Kept {
    /// Collections so far.
    round: u32,
    slow: Batch,
    rare: Batch,
    health: Health,
    skipped: [f64; 3],
}

/// What one collection gathers.
struct Round<'a> {
    config: &'a Config,
    deadline: Instant,
    batch: &'a mut Batch,
    slow: Option<Batch>,
    rare: Option<Batch>,
    health: Health,
    skipped: [f64; 3],
    troubles: Vec<Trouble>,
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
            match &result {
                Ok(_) => self.ask_queries(&config, deadline).await,
                Err(_) => self.queries.lose(),
            }
            self.queries.emit(batch);
            batch.push(
                &health::METRICS[0],
                &[],
                f64::from(u8::from(result.is_ok())),
            );
            batch.push(
                &health::METRICS[8],
                &[],
                f64::from(u8::from(!matches!(result, Ok(true)))),
            );
            batch.push(&health::METRICS[9], &[], started.elapsed().as_secs_f64());
            batch.push(&health::METRICS[10], &health::BUILD, 1.0);
            self.collections += 1;
            batch.push(&health::METRICS[11], &[], self.collections as f64);
            result
                .map(drop)
                .map_err(|error| CollectError::new(error.to_string()))
        }
        .boxed()
    }

    fn address(&self) -> String {
        self.config
            .as_ref()
            .map(|c| c.address.clone())
            .unwrap_or_default()
    }

    fn chosen(&self) -> Vec<String> {
        [vec!["pg_settings_".to_owned()], self.queries.chosen()].concat()
    }

    fn missed(&mut self) {
        self.queries.missed();
    }

    fn report(&self) -> Report {
        let mut report = Report::default();
        if let Some((grant, cost)) = &self.warned {
            report.findings.push(Finding {
                failed: false,
                text: format!("a privilege is missing: {grant}; without it: {cost}"),
            });
        }
        report.findings.extend(self.troubles.latest());
        self.queries.report(&mut report);
        report
    }
}

impl Postgres {
    /// Whether every part was read. Errs when the server does not answer.
    async fn measure(
        &mut self,
        config: &Config,
        batch: &mut Batch,
        deadline: Instant,
    ) -> Result<bool, Error> {
        let (mut session, ping) = self.reach(config, deadline).await?;
        batch.push(&health::METRICS[1], &[], self.connected.as_secs_f64());
        batch.push(&health::METRICS[2], &[], ping.as_secs_f64());
        let due = |every: Duration| {
            let rounds = (every.as_secs_f64() / self.target.interval.as_secs_f64().max(0.001))
                .round()
                .clamp(1.0, 1e6) as u32;
            self.kept.round.is_multiple_of(rounds).then(Batch::new)
        };
        let (slow, rare) = (due(config.table_interval), due(RARE));
        let (health, skipped) = (self.kept.health.clone(), self.kept.skipped);
        let mut round = Round {
            config,
            deadline,
            batch,
            slow,
            rare,
            health,
            skipped,
            troubles: Vec::new(),
        };
        round.begin();
        let mut asked = 0;
        let mut read = round.ask_all(&mut session, &mut asked).await;
        if let Err(Error::Lost(_)) = read {
            // The server, a proxy or an operator ended the session: that costs no reading.
            session = Session::open(config, None, true, PARTS, deadline)
                .await
                .inspect_err(|_| self.forget())?;
            read = round.ask_all(&mut session, &mut asked).await;
        }
        match read {
            Ok(()) => {}
            // The server is there, only slow: what was read counts, and the rest is not tried again
            // at once.
            Err(Error::Late(text)) => {
                round.lose(&session, asked);
                round.troubles.push(Trouble::Late(text));
                return Ok(self.finish(round));
            }
            Err(error) => {
                self.forget();
                return Err(error);
            }
        }
        if round.slow.is_some() {
            self.look_around(&mut round, session).await;
        } else {
            self.main = Some(session);
        }
        Ok(self.finish(round))
    }

    /// Looks into the other databases. The one session that a role may have is given up for that.
    async fn look_around(&mut self, round: &mut Round<'_>, mut session: Session) {
        let wanted = match round.wanted(&mut session).await {
            Ok(wanted) => wanted,
            Err(error) => {
                round.lose_databases();
                round
                    .troubles
                    .push(Trouble::Part("databases", error.to_string()));
                return;
            }
        };
        if session.server.alone && !wanted.is_empty() {
            session.close(round.deadline).await;
            tokio::time::sleep(session::FAREWELL).await;
        } else {
            self.main = Some(session);
        }
        self.refused
            .retain(|name, (at, _)| at.elapsed() < REFUSED && wanted.contains(name));
        for name in wanted {
            if let Some((_, text)) = self.refused.get(&name) {
                round.skipped[1] += 1.0;
                round.troubles.push(Trouble::Refused(name, text.clone()));
                continue;
            }
            match round.ask_database(&name).await {
                Ok(()) => continue,
                Err(Error::Refused(text)) => {
                    round.skipped[1] += 1.0;
                    self.refused
                        .insert(name.clone(), (Instant::now(), text.clone()));
                    round.troubles.push(Trouble::Refused(name, text));
                }
                Err(error) => {
                    round.skipped[2] += 1.0;
                    // What was measured there is missing for now: that is a gap.
                    round.lose_databases();
                    round
                        .troubles
                        .push(Trouble::Database(name, error.to_string()));
                }
            }
        }
    }

    /// Runs those of the configuration that are due, last: a slow one costs nothing else.
    async fn ask_queries(&mut self, config: &Config, deadline: Instant) {
        let due = self.queries.due();
        if due.is_empty() {
            return;
        }
        let (main, runs) = own::run_all(&due, self.main.take(), config, deadline).await;
        self.main = main;
        self.queries.finish(&due, runs);
    }

    /// Nothing old may be repeated once the server has been away.
    fn forget(&mut self) {
        self.kept = Kept::default();
    }

    /// An open connection that has answered, and how long the answer took. One that has died since
    /// the last time is replaced at once.
    async fn reach(
        &mut self,
        config: &Config,
        deadline: Instant,
    ) -> Result<(Session, Duration), Error> {
        if let Some(mut session) = self.main.take() {
            // A router that has forgotten the connection drops what is sent: there must be time
            // left for another one.
            let patience = deadline.min(Instant::now() + self.target.timeout / 4);
            match session.ping(config, patience).await {
                Ok(ping) => return Ok((session, ping)),
                Err(_) => self.forget(),
            }
        }
        let started = Instant::now();
        let mut session = match Session::open(config, None, self.known, PARTS, deadline).await {
            Ok(session) => session,
            Err(error) => {
                self.known &= matches!(error, Error::Refused(_));
                self.forget();
                return Err(error);
            }
        };
        self.known = true;
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

    /// Whether every part was read.
    fn finish(&mut self, round: Round<'_>) -> bool {
        let Round {
            batch,
            slow,
            rare,
            health,
            skipped,
            troubles,
            ..
        } = round;
        let is_slow = slow.is_some();
        let kept = &mut self.kept;
        kept.round = kept.round.wrapping_add(1);
        kept.slow = slow.unwrap_or_else(|| std::mem::take(&mut kept.slow));
        kept.rare = rare.unwrap_or_else(|| std::mem::take(&mut kept.rare));
        (kept.health, kept.skipped) = (health, skipped);
        batch.append(kept.slow.clone());
        batch.append(kept.rare.clone());
        health::push(&kept.health, batch);
        for (reason, value) in SKIPPED.iter().zip(kept.skipped) {
            batch.push(&health::METRICS[7], &[("reason", reason)], value);
        }
        let complete = troubles
            .iter()
            .all(|trouble| matches!(trouble, Trouble::Refused(..)));
        self.troubles
            .log(troubles, &kept.health, kept.skipped[0], is_slow);
        complete
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
        let again: Vec<&str> = PARTS
            .iter()
            .filter(|part| self.due(part))
            .map(|part| part.name)
            .collect();
        self.health.retain(|name, _| !again.contains(name));
    }

    /// Asks what is due, from the query `asked` on, which counts along.
    async fn ask_all(&mut self, session: &mut Session, asked: &mut usize) -> Result<(), Error> {
        while *asked < session.queries.len() {
            if self.due(session.queries[*asked].part) {
                self.ask(session, *asked).await?;
            }
            *asked += 1;
        }
        Ok(())
    }

    /// The queries of a session from this one on were not read.
    fn lose(&mut self, session: &Session, from: usize) {
        let lost: Vec<&'static Part> = session
            .queries
            .iter()
            .skip(from)
            .map(|query| query.part)
            .filter(|part| self.due(part))
            .collect();
        for part in lost {
            self.health
                .entry(part.name)
                .or_insert_with(|| PartHealth::new(part))
                .success = false;
        }
    }

    /// What is measured in databases is not complete.
    fn lose_databases(&mut self) {
        for part in PARTS.iter().filter(|part| part.scope == Scope::Database) {
            self.health
                .entry(part.name)
                .or_insert_with(|| PartHealth::new(part))
                .success = false;
        }
    }

    async fn ask(&mut self, session: &mut Session, index: usize) -> Result<(), Error> {
        let part = session.queries[index].part;
        let mut state = self
            .health
            .get(part.name)
            .copied()
            .unwrap_or_else(|| PartHealth::new(part));
        let denied = part.grant.filter(|grant| !session.server.holds(grant));
        let started = Instant::now();
        let answer = match denied {
            Some(grant) if grant.required => Err(Error::Denied(String::new())),
            _ => {
                session
                    .ask(
                        &session.queries[index].sql.clone(),
                        self.config,
                        self.deadline,
                    )
                    .await
            }
        };
        let read = answer.and_then(|rows| {
            let batch = match part.cadence {
                Cadence::Each => &mut *self.batch,
                Cadence::Slow => self.slow.get_or_insert_default(),
                Cadence::Rare => self.rare.get_or_insert_default(),
            };
            session.queries[index]
                .read(&rows, batch)
                .map_err(|e| Error::Query(format!("unexpected answer: {e}")))
        });
        state.duration += started.elapsed();
        state.denied = state.denied.map(|before| before || denied.is_some());
        match read {
            Ok(dropped) => state.dropped = state.dropped.map(|before| before + dropped),
            Err(Error::Late(text)) => return Err(Error::Late(format!("{}: {text}", part.name))),
            Err(Error::Lost(text) | Error::Refused(text)) => return Err(Error::Lost(text)),
            Err(Error::Denied(text)) => {
                (state.success, state.denied) = (false, Some(true));
                // The privilege that the part is known to need was named when the session was
                // opened.
                if !text.is_empty() {
                    self.troubles.push(Trouble::Denied(
                        part.name,
                        text,
                        remedy(part, &session.server),
                    ));
                }
            }
            Err(Error::Unavailable(text)) => {
                state.success = false;
                self.troubles.push(Trouble::Unavailable(part.name, text));
            }
            Err(Error::Query(text) | Error::Encoding(text)) => {
                state.success = false;
                self.troubles.push(Trouble::Part(part.name, text));
            }
        }
        self.health.insert(part.name, state);
        Ok(())
    }

    /// The other databases to look into for tables and indexes.
    async fn wanted(&mut self, main: &mut Session) -> Result<Vec<String>, Error> {
        let mut wanted = Vec::new();
        self.skipped = [0.0; 3];
        for row in main.ask(DATABASES, self.config, self.deadline).await? {
            let unexpected = |e: sqlx::Error| Error::Query(format!("unexpected answer: {e}"));
            let name = part::text(&row, 0)
                .map_err(unexpected)?
                .unwrap_or_default()
                .into_owned();
            let allowed: Option<bool> = row.try_get(1).map_err(unexpected)?;
            match (self.config.wants(&name), allowed.unwrap_or_default()) {
                (false, _) => {}
                (true, false) => self.skipped[1] += 1.0,
                // The database of the DSN counts as one of them.
                (true, true) if wanted.len() + 1 >= self.config.max_databases => {
                    self.skipped[0] += 1.0
                }
                (true, true) => wanted.push(name),
            }
        }
        Ok(wanted)
    }

    /// Connects, reads, disconnects.
    async fn ask_database(&mut self, name: &str) -> Result<(), Error> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        let until = Instant::now() + left / 2;
        let mut session = Session::open(self.config, Some(name), true, PARTS, until).await?;
        let read = self.ask_all(&mut session, &mut 0).await;
        session.close(self.deadline).await;
        read
    }
}

/// What lets the role read a part that it was denied; empty where that is not known.
fn remedy(part: &Part, server: &Server) -> String {
    match (part.scope, &server.statements) {
        (Scope::Statements, Some(schema)) => {
            let role = server.role.replace('"', "\"\"");
            format!(
                "GRANT USAGE ON SCHEMA {schema} TO \"{role}\"; GRANT SELECT ON {schema}.pg_stat_statements TO \"{role}\""
            )
        }
        _ => String::new(),
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
            let Rows::Columns(labels, measures) = &part.rows else {
                continue;
            };
            for measure in *measures {
                let found = declared
                    .iter()
                    .find(|d| d.name == measure.desc.name)
                    .unwrap_or_else(|| panic!("{}", measure.desc.name));
                let mut names: Vec<&str> = labels.iter().map(|(name, _)| *name).collect();
                let mut declared_names = found.labels.to_vec();
                names.sort_unstable();
                declared_names.sort_unstable();
                assert_eq!(names, declared_names, "{}", found.name);
                assert_eq!(found.kind, measure.desc.kind);
                assert!(
                    found.help.ends_with('.') && !found.source.is_empty(),
                    "{}",
                    found.name
                );
            }
        }
    }

    #[test]
    fn no_metric_is_declared_twice() {
        let mut names: Vec<&str> = KIND
            .metrics
            .iter()
            .copied()
            .flatten()
            .map(|d| d.name)
            .collect();
        names.sort_unstable();
        let count = names.len();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}
