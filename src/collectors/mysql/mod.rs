//! MySQL 8 and MariaDB 10.2 and later: connections, statements, InnoDB, locks, settings,
//! replication, from `SHOW GLOBAL STATUS`, `SHOW GLOBAL VARIABLES` and the status of replicas
//! (<https://dev.mysql.com/doc/refman/8.4/en/show.html>), and queries of the configuration.
//!
//! Names, types and labels are mysqld_exporter's. It needs no privilege but `REPLICATION CLIENT`
//! (MariaDB: `SLAVE MONITOR`) for replication. One read-only connection a collection, which ends
//! with it; it never writes and never shows the text of a statement.

mod config;
mod metrics;
mod session;

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::time::Instant;

use crate::config::Section;
use crate::model::Batch;

use super::sql::{self, Dialect, Queries, Reader};
use super::{CollectError, Collector, CollectorKind, Finding, Report, Target};
use config::Config;
use metrics::{METRICS, Values};
use session::Session;

/// The collector `mysql`.
pub const KIND: CollectorKind = CollectorKind {
    name: "mysql",
    about: "a MySQL or MariaDB server: connections, statements, InnoDB, locks, settings, replication",
    metrics: &[
        &METRICS,
        &metrics::STATUS,
        &metrics::FAMILIES,
        &metrics::VARIABLES,
        &metrics::REPLICA,
        &sql::METRICS,
    ],
    build,
};

const STATUS: &str = "collect.global_status";
const VARIABLES: &str = "collect.global_variables";
const REPLICAS: &str = "collect.slave_status";

fn build(section: &Section<'_>, target: &Target) -> Box<dyn Collector> {
    Box::new(Mysql {
        config: Config::read(section).map(Arc::new),
        target: target.clone(),
        queries: Queries::read(
            section,
            KIND.name,
            &Reader {
                dialect: Dialect::Mysql,
                target,
                own: KIND.metrics,
            },
        ),
        troubles: BTreeMap::new(),
        known: false,
    })
}

struct Mysql {
    config: Option<Arc<Config>>,
    target: Target,
    /// Those of the configuration.
    queries: Queries,
    /// Parts that the last collection could not read, and why.
    troubles: BTreeMap<&'static str, String>,
    /// Whether what answers there speaks MySQL's protocol.
    known: bool,
}

impl Collector for Mysql {
    fn collect<'a>(&'a mut self, batch: &'a mut Batch) -> BoxFuture<'a, Result<(), CollectError>> {
        async move {
            let Some(config) = self.config.clone() else {
                return Err(CollectError::new("not configured: dsn is missing"));
            };
            // A tenth is kept back so that mysql_up can still be said before the loop's own
            // deadline.
            let deadline = Instant::now() + self.target.timeout.mul_f64(0.9);
            // The client library trusts a server to keep to the protocol.
            let measured = AssertUnwindSafe(self.measure(&config, batch, deadline))
                .catch_unwind()
                .await;
            let result = measured.unwrap_or_else(|_| {
                self.known = false;
                Err("the server does not keep to MySQL's protocol".to_owned())
            });
            batch.push(&METRICS[0], &[], f64::from(u8::from(result.is_ok())));
            if result.is_err() {
                self.queries.lose();
                self.troubles.clear();
            }
            self.queries.emit(batch);
            result.map_err(CollectError::new)
        }
        .boxed()
    }

    fn address(&self) -> String {
        self.config
            .as_ref()
            .map(|config| config.address.clone())
            .unwrap_or_default()
    }

    fn chosen(&self) -> Vec<String> {
        self.queries.chosen()
    }

    fn missed(&mut self) {
        self.queries.missed();
    }

    fn report(&self) -> Report {
        let of = |(part, error): (&&str, &String)| Finding {
            failed: *part != REPLICAS,
            text: format!("part {part}: {error}"),
        };
        let mut report = Report {
            findings: self.troubles.iter().map(of).collect(),
            results: Batch::new(),
        };
        self.queries.report(&mut report);
        report
    }
}

impl Mysql {
    /// Errs when the server does not answer.
    async fn measure(
        &mut self,
        config: &Config,
        batch: &mut Batch,
        deadline: Instant,
    ) -> Result<(), String> {
        let started = Instant::now();
        let patience = self.target.timeout / 2;
        let mut session = Session::open(config, &mut self.known, patience, deadline).await?;
        batch.push(&METRICS[1], &[], started.elapsed().as_secs_f64());
        let replicas = match session.is_mariadb() {
            true => "SHOW ALL SLAVES STATUS",
            false if before(&session.version, (8, 0, 22)) => "SHOW SLAVE STATUS",
            false => "SHOW REPLICA STATUS",
        };
        let mut troubles = BTreeMap::new();
        for (part, statement) in [
            (STATUS, "SHOW GLOBAL STATUS"),
            (VARIABLES, "SHOW GLOBAL VARIABLES"),
            (REPLICAS, replicas),
        ] {
            let asked = Instant::now();
            let rows = session.rows(statement, config, deadline).await;
            batch.push(
                &METRICS[2],
                &[("collector", part)],
                f64::from(u8::from(rows.is_ok())),
            );
            batch.push(
                &METRICS[3],
                &[("collector", part)],
                asked.elapsed().as_secs_f64(),
            );
            match rows {
                Ok(rows) => match part {
                    STATUS => metrics::push_status(&pairs(rows), batch),
                    VARIABLES => metrics::push_variables(&pairs(rows), batch),
                    _ => rows
                        .iter()
                        .for_each(|row| metrics::push_replica(row, batch)),
                },
                Err(error) if error == "timed out" => {
                    self.note(BTreeMap::from([(part, error)]));
                    self.queries.finish(&self.queries.due(), Vec::new());
                    return Ok(());
                }
                Err(error) => {
                    let privilege = if session.is_mariadb() {
                        "SLAVE MONITOR"
                    } else {
                        "REPLICATION CLIENT"
                    };
                    let remedy = if part == REPLICAS && error.contains("denied") {
                        format!("; GRANT {privilege} ON *.* TO '{}'@'…'", config.user)
                    } else {
                        String::new()
                    };
                    troubles.insert(part, error + &remedy);
                }
            }
        }
        self.note(troubles);
        let due = self.queries.due();
        if due.is_empty() {
            session.close(deadline).await;
        } else {
            let runs = session.run_all(&due, config, deadline).await;
            self.queries.finish(&due, runs);
        }
        Ok(())
    }

    /// One line in the log for what is new.
    fn note(&mut self, troubles: BTreeMap<&'static str, String>) {
        for (part, error) in &troubles {
            if self.troubles.get(part) != Some(error) {
                tracing::warn!(collector = "mysql", target = %self.target.name, part, %error, "A part could not be read.");
            }
        }
        self.troubles = troubles;
    }
}

/// Rows of a name and its value.
fn pairs(rows: Vec<Values>) -> Values {
    let pair = |mut row: Values| {
        Some((
            row.remove("variable_name")?.to_ascii_lowercase(),
            row.remove("value")?,
        ))
    };
    rows.into_iter().filter_map(pair).collect()
}

/// Whether a version such as `8.0.21-log` is before this one.
fn before(version: &str, wanted: (u32, u32, u32)) -> bool {
    let mut numbers = version
        .split(|c: char| !c.is_ascii_digit())
        .map(|part| part.parse::<u32>().unwrap_or(0));
    let mut next = || numbers.next().unwrap_or(0);
    (next(), next(), next()) < wanted
}
