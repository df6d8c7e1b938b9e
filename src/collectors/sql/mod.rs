//! Queries of the configuration: rows that become metrics, for every collector of a database.
//!
//! A numeric column is a metric, `sql_<name>_<column>`; a text column is a label if it is listed.
//! The collectors differ in how they ask (the transaction, how values become numbers); what is
//! asked when, what becomes of rows and of failures, is here. No message holds the text of a query
//! or what stands between quotes in it.

mod answer;
mod exporters;
mod latest;
mod queries;
mod reader;
mod settings;
mod statement;

use std::time::Duration;

use crate::config::Secret;
use crate::model::{MetricDesc, MetricKind};

pub use answer::{Answer, Cell, Role, label};
pub use latest::{Latest, Said};
pub use queries::{Failure, Queries, Run};
pub use reader::Reader;
pub use statement::{Dialect, Statement};

const fn gauge(name: &'static str, unit: &'static str, help: &'static str) -> MetricDesc {
    MetricDesc {
        name,
        kind: MetricKind::Gauge,
        unit,
        help,
        labels: &["query"],
        source: "nightbell",
    }
}

/// How the queries of the configuration fared.
pub static METRICS: [MetricDesc; 5] = [
    gauge(
        "sql_query_success",
        "",
        "1 when the last run of this query of the configuration gave rows that could be used.",
    ),
    gauge(
        "sql_query_duration_seconds",
        "seconds",
        "Time that its last run took.",
    ),
    gauge("sql_query_rows", "", "Rows of its last run that were used."),
    gauge(
        "sql_query_truncated",
        "",
        "1 when its last run gave more rows than max_rows; those beyond are left out.",
    ),
    gauge(
        "sql_query_last_run_timestamp_seconds",
        "seconds",
        "When it was last run, Unix time.",
    ),
];

/// Characters of a label at most.
pub const MAX_LABEL: usize = 1024;

/// One query.
#[derive(Debug)]
pub struct Query {
    /// Its name, the label `query`.
    pub name: String,
    /// The statement.
    pub sql: Secret,
    /// What stands between quotes in it.
    literals: Vec<Secret>,
    /// Time between two runs; zero for each collection.
    interval: Duration,
    /// How long it may run.
    pub timeout: Duration,
    /// Rows at most.
    pub max_rows: usize,
    /// Columns that become labels.
    labels: Vec<String>,
    /// Labels of every row.
    fixed: Vec<(String, String)>,
    /// What metrics begin with: `sql_<name>_`, or what an exporter's file says.
    prefix: String,
    /// What is said of columns.
    columns: Vec<Column>,
    /// Whether a column that nothing is said of becomes a metric.
    others: bool,
    /// The database that it is asked in; `None` for the target's own.
    pub database: Option<String>,
}

/// What is said of one column.
#[derive(Debug)]
struct Column {
    name: String,
    kind: MetricKind,
    help: String,
    /// The whole name of the metric; `None` for the prefix and the column's name. Empty for a
    /// column that is left out.
    metric: Option<String>,
    /// A label that names the column.
    label: Option<(String, String)>,
}

impl Query {
    /// A server's message without what stands between quotes in the statement, and in one line.
    pub fn redact(&self, message: &str) -> String {
        let mut text = message.replace('\n', " ");
        for literal in &self.literals {
            text = literal.redact(&text);
        }
        self.sql.redact(&text)
    }
}
