//! Reading one query from a configuration.

use std::time::Duration;

use crate::config::{Secret, Section};
use crate::model::text::is_legacy_label_name;
use crate::model::{MetricDesc, MetricKind};

use super::super::Target;
use super::statement::{Dialect, Statement};
use super::{Column, Query};

/// How long a query may run where nothing is said.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Rows of a query where nothing is said.
pub const MAX_ROWS: usize = 100;

/// Rows of a query at most.
const MOST_ROWS: usize = 10_000;

/// What reading queries needs to know.
pub struct Reader<'a> {
    /// Whose SQL it is.
    pub dialect: Dialect,
    /// The target that they are for.
    pub target: &'a Target,
    /// The collector's own metrics.
    pub own: &'a [&'a [MetricDesc]],
}

impl Reader<'_> {
    /// Reads one entry of `queries`.
    pub(super) fn query(&self, section: &Section<'_>) -> Option<Query> {
        let name: String = section.require("name");
        let own = name == "query" || name.starts_with("query_");
        if !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') || own || name.len() > 100 {
            let problem = if own {
                "would make metrics that are nightbell's own"
            } else {
                "cannot be a part of a metric's name"
            };
            section.error(
                "name",
                problem,
                "use letters, digits and _, such as results_expired",
            );
        }
        let secret = section.secret("sql");
        let key = if section.node("sql_file").is_some() {
            "sql_file"
        } else {
            "sql"
        };
        if secret.is_none() && key == "sql" {
            section.error("sql", "is missing", "add sql: SELECT …");
        }
        let labels: Vec<String> = section.or("labels", Vec::new());
        for label in &labels {
            if !is_label(label) {
                let remedy = "use letters, digits and _ in the column's name (AS …); job and instance are the target's own";
                section.error("labels", format!("{label:?} cannot be a label"), remedy);
            }
        }
        let max_rows = section.or("max_rows", MAX_ROWS);
        if !(1..=MOST_ROWS).contains(&max_rows) {
            section.error(
                "max_rows",
                "is out of range",
                "give a number from 1 to 10000",
            );
        }
        let columns = section
            .section("columns")
            .map(|columns| read_columns(&columns))
            .unwrap_or_default();
        let interval = section.or("interval", Duration::ZERO);
        let timeout: Option<Duration> = section.get("timeout");
        if timeout.is_some_and(|timeout| timeout > self.target.timeout || timeout.is_zero()) {
            let remedy = "give at most the collector's own timeout:, which may be raised";
            section.error(
                "timeout",
                "is longer than a collection may take, or zero",
                remedy,
            );
        }
        let database = if self.dialect == Dialect::Postgres {
            section.get("database")
        } else {
            None
        };
        let (sql, literals) = self.statement(section, key, secret?.expose())?;
        let prefix = format!("sql_{name}_");
        let timeout = self.timeout(timeout);
        Some(Query {
            name,
            sql,
            literals,
            interval,
            timeout,
            max_rows,
            labels,
            fixed: Vec::new(),
            prefix,
            columns,
            others: true,
            database,
        })
    }

    /// What a query may take: never more than a collection, less what it takes to say so.
    pub fn timeout(&self, wanted: Option<Duration>) -> Duration {
        wanted
            .unwrap_or(TIMEOUT)
            .min(self.target.timeout.mul_f64(0.8))
            .max(Duration::from_millis(1))
    }

    /// The statement and what stands between quotes in it; what cannot be taken is a mistake in the
    /// value of `key`.
    pub fn statement(
        &self,
        section: &Section<'_>,
        key: &str,
        text: &str,
    ) -> Option<(Secret, Vec<Secret>)> {
        match Statement::read(text, self.dialect) {
            Ok(statement) => Some((
                Secret::new(statement.text),
                statement.literals.into_iter().map(Secret::new).collect(),
            )),
            Err(refusal) => {
                section.error(key, refusal.problem, refusal.remedy);
                None
            }
        }
    }
}

/// Whether a label of a row may be called so.
pub fn is_label(name: &str) -> bool {
    is_legacy_label_name(name) && !name.starts_with("__") && !matches!(name, "job" | "instance")
}

fn read_columns(section: &Section<'_>) -> Vec<Column> {
    let read = |name: &str| {
        let column = section.section(name)?;
        let kind = match column.or("type", "gauge".to_owned()).as_str() {
            "gauge" => MetricKind::Gauge,
            "counter" => MetricKind::Counter,
            "untyped" => MetricKind::Untyped,
            _ => {
                column.error(
                    "type",
                    "is no type of a metric",
                    "give gauge, counter or untyped",
                );
                MetricKind::Gauge
            }
        };
        let help = column.or("help", String::new());
        column.finish();
        Some(Column {
            name: name.to_owned(),
            kind,
            help,
            metric: None,
            label: None,
        })
    };
    section.keys().into_iter().filter_map(read).collect()
}
