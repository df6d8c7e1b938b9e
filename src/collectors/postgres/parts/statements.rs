//! The statements that take most time: the extension `pg_stat_statements`,
//! <https://www.postgresql.org/docs/current/pgstatstatements.html>.
//!
//! Names and labels as postgres_exporter 0.20, and the mean and longest time. The text of a query
//! is never shown: it may hold data. With `statements: {text: true}` it is read for reports,
//! constants replaced as the extension does it, and never for a label; only of statements whose
//! constants the extension replaces: `ALTER ROLE … PASSWORD` is not among them. Our own statements
//! carry a comment, by which they are left out.

use sqlx::postgres::PgRow;

use crate::model::{Batch, MetricDesc, Note};

use crate::collectors::postgres::config::Limit;
use crate::collectors::postgres::part::{
    Cadence, Grant, Measure, Part, Rows, Scope, counter, descs, gauge, text,
};

const MEASURES: [Measure; 7] = [
    counter(
        "pg_stat_statements_calls_total",
        "s.calls",
        "Times the statement was executed.",
    ),
    counter(
        "pg_stat_statements_seconds_total",
        "s.total_exec_time / 1000",
        "Seconds spent executing the statement.",
    )
    .unit("seconds"),
    counter(
        "pg_stat_statements_rows_total",
        "s.rows",
        "Rows retrieved or affected.",
    ),
    counter(
        "pg_stat_statements_block_read_seconds_total",
        "s.read_time / 1000",
        "Seconds spent reading blocks (track_io_timing).",
    )
    .unit("seconds"),
    counter(
        "pg_stat_statements_block_write_seconds_total",
        "s.write_time / 1000",
        "Seconds spent writing blocks (track_io_timing).",
    )
    .unit("seconds"),
    gauge(
        "pg_stat_statements_mean_time_seconds",
        "s.mean_exec_time / 1000",
        "Mean time of one execution.",
    )
    .unit("seconds"),
    gauge(
        "pg_stat_statements_max_time_seconds",
        "s.max_exec_time / 1000",
        "Longest time of one execution.",
    )
    .unit("seconds"),
];

const LABELS: &[(&str, &str)] = &[
    ("user", "pg_get_userbyid(s.userid)"),
    ("datname", "d.datname"),
    ("queryid", "s.queryid"),
];

/// Metrics of both parts.
pub static METRICS: [MetricDesc; 7] = descs(
    &MEASURES,
    &["user", "datname", "queryid"],
    "pg_stat_statements",
);

const GRANT: Option<Grant> = Some(Grant {
    role: "pg_read_all_stats",
    cost: "statements of other roles",
    required: false,
});

/// Statements, before PostgreSQL 17.
pub static STATEMENTS: Part = Part {
    name: "stat_statements",
    rows: Rows::Columns(LABELS, &MEASURES),
    from: "FROM (SELECT userid, dbid, queryid, sum(calls) AS calls, sum(rows) AS rows, sum(total_exec_time) AS total_exec_time,
            sum(total_exec_time) / greatest(sum(calls), 1) AS mean_exec_time, max(max_exec_time) AS max_exec_time,
            sum(blk_read_time) AS read_time, sum(blk_write_time) AS write_time
        FROM {schema}.pg_stat_statements WHERE queryid IS NOT NULL AND query NOT LIKE '%/* nightbell */%' GROUP BY 1, 2, 3) s JOIN pg_database d ON d.oid = s.dbid
        ORDER BY s.total_exec_time DESC LIMIT {limit}",
    limit: Some((Limit::Statements, "count(*) OVER ()")),
    scope: Scope::Statements,
    cadence: Cadence::Slow,
    grant: GRANT,
    since: 130_000,
    until: 170_000,
};

/// Statements, from PostgreSQL 17 on, where the times of shared and local blocks are apart.
pub static STATEMENTS_17: Part = Part {
    name: "stat_statements",
    rows: Rows::Columns(LABELS, &MEASURES),
    from: "FROM (SELECT userid, dbid, queryid, sum(calls) AS calls, sum(rows) AS rows, sum(total_exec_time) AS total_exec_time,
            sum(total_exec_time) / greatest(sum(calls), 1) AS mean_exec_time, max(max_exec_time) AS max_exec_time,
            sum(shared_blk_read_time) AS read_time, sum(shared_blk_write_time) AS write_time
        FROM {schema}.pg_stat_statements WHERE queryid IS NOT NULL AND query NOT LIKE '%/* nightbell */%' GROUP BY 1, 2, 3) s JOIN pg_database d ON d.oid = s.dbid
        ORDER BY s.total_exec_time DESC LIMIT {limit}",
    limit: Some((Limit::Statements, "count(*) OVER ()")),
    scope: Scope::Statements,
    cadence: Cadence::Slow,
    grant: GRANT,
    since: 170_000,
    ..Part::DEFAULT
};

/// What notes of texts are called; no rule asks for a metric of this name.
pub const TEXT: &str = "pg_stat_statements_text";

/// The texts of the statements that take most time, on one line each.
pub static TEXTS: Part = Part {
    name: "stat_statements",
    rows: Rows::Custom("s.queryid::text, left(regexp_replace(s.query, '\\s+', ' ', 'g'), 300)", read_texts),
    from: "FROM (SELECT queryid, min(query) AS query, sum(total_exec_time) AS time FROM {schema}.pg_stat_statements
        WHERE queryid IS NOT NULL AND query NOT LIKE '%/* nightbell */%' AND query ~* '^\\s*(SELECT|INSERT|UPDATE|DELETE|WITH|MERGE)\\M'
        GROUP BY 1 ORDER BY 3 DESC LIMIT 50) s",
    scope: Scope::StatementTexts,
    cadence: Cadence::Slow,
    grant: GRANT,
    since: 130_000,
    ..Part::DEFAULT
};

fn read_texts(rows: &[PgRow], batch: &mut Batch) -> sqlx::Result<()> {
    let line = |row: &PgRow| {
        Ok(format!(
            "{}\t{}",
            text(row, 0)?.unwrap_or_default(),
            text(row, 1)?.unwrap_or_default()
        ))
    };
    let lines = rows
        .iter()
        .map(line)
        .collect::<sqlx::Result<Vec<String>>>()?;
    batch.notes.push(Note {
        metrics: &[TEXT],
        labels: Vec::new(),
        lines,
    });
    Ok(())
}
