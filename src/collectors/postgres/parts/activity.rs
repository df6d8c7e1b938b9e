//! Sessions: `pg_stat_activity`,
//! <https://www.postgresql.org/docs/current/monitoring-stats.html#MONITORING-PG-STAT-ACTIVITY-VIEW>.
//!
//! Names and labels as postgres_exporter 0.20. Sessions whose details the role may not see are
//! counted with state `unknown`; it reads no query text. Sessions of nightbell itself, by their
//! application_name, are not counted: it measures others.

use std::borrow::Cow;
use std::collections::BTreeMap;

use sqlx::Row as _;
use sqlx::postgres::PgRow;

use crate::model::{Batch, Histogram, MetricDesc, MetricKind};

use crate::collectors::postgres::config::Limit;
use crate::collectors::postgres::part::{Grant, Measure, Part, Rows, descs, gauge, text};

const STATS: Grant = Grant {
    role: "pg_read_all_stats",
    cost: "states, transactions and waits of other roles' sessions",
    required: false,
};

const SESSION_LABELS: &[(&str, &str)] = &[
    ("datname", "datname"),
    ("state", "state"),
    ("usename", "usename"),
    ("application_name", "application_name"),
    ("backend_type", "backend_type"),
    ("wait_event_type", "wait_event_type"),
    ("wait_event", "wait_event"),
];

const SESSIONS_MEASURES: [Measure; 2] = [
    gauge(
        "pg_stat_activity_count",
        "n",
        "Sessions by database, state, user, application, kind of process and what they wait for.",
    ),
    gauge(
        "pg_stat_activity_max_tx_duration",
        "tx",
        "Age of the oldest transaction open in these sessions, in seconds.",
    )
    .unit("seconds"),
];

/// Metrics of [`SESSIONS`].
pub static SESSIONS_METRICS: [MetricDesc; 2] = descs(
    &SESSIONS_MEASURES,
    &[
        "datname",
        "state",
        "usename",
        "application_name",
        "backend_type",
        "wait_event_type",
        "wait_event",
    ],
    "pg_stat_activity",
);

/// Sessions by everything one groups them by. Groups beyond the limit, smallest first, keep only
/// database and state.
pub static SESSIONS: Part = Part {
    name: "stat_activity",
    rows: Rows::Columns(SESSION_LABELS, &SESSIONS_MEASURES),
    from: "FROM (
        WITH grouped AS (
            SELECT datname,
                CASE WHEN query = '<insufficient privilege>' THEN 'unknown' ELSE state END AS state,
                usename, application_name, backend_type, wait_event_type, wait_event, count(*) AS n,
                coalesce(max(extract(epoch FROM now() - xact_start)), 0) AS tx, row_number() OVER (ORDER BY count(*) DESC) AS rank
            FROM pg_stat_activity
            WHERE datname IS NOT NULL AND (state IS NOT NULL OR query = '<insufficient privilege>')
                AND pid <> pg_backend_pid() AND application_name IS DISTINCT FROM 'nightbell'
            GROUP BY 1, 2, 3, 4, 5, 6, 7
        ), folded AS (
            SELECT datname, state, CASE WHEN rank <= {limit} THEN usename END AS usename,
                CASE WHEN rank <= {limit} THEN application_name END AS application_name,
                CASE WHEN rank <= {limit} THEN backend_type END AS backend_type,
                CASE WHEN rank <= {limit} THEN wait_event_type END AS wait_event_type,
                CASE WHEN rank <= {limit} THEN wait_event END AS wait_event,
                sum(n) AS n, max(tx) AS tx, (SELECT count(*) FROM grouped) AS total
            FROM grouped GROUP BY 1, 2, 3, 4, 5, 6, 7
        )
        SELECT * FROM folded
        UNION ALL
        SELECT d.datname, s.state, NULL, NULL, NULL, NULL, NULL, 0, 0, 0
        FROM (SELECT oid, datname FROM pg_database ORDER BY oid LIMIT {limit}) d
        CROSS JOIN (VALUES ('active'), ('idle'), ('idle in transaction'), ('idle in transaction (aborted)'),
            ('fastpath function call'), ('disabled')) s (state)
        WHERE NOT EXISTS (SELECT FROM folded f WHERE f.datname = d.datname AND f.state = s.state)
    ) sessions",
    limit: Some((Limit::Sessions, "max(total) OVER ()")),
    grant: Some(STATS),
    ..Part::DEFAULT
};

const LONG_MEASURES: [Measure; 4] = [
    gauge(
        "pg_long_running_transactions",
        "count(*)",
        "Transactions that are open and not idle, of any age.",
    ),
    gauge(
        "pg_long_running_transactions_oldest_timestamp_seconds",
        "coalesce(max(extract(epoch FROM clock_timestamp() - xact_start)), 0)",
        "Age of the oldest open transaction, in seconds (an age in spite of its established name).",
    )
    .unit("seconds"),
    gauge(
        "pg_long_running_queries",
        "count(*) FILTER (WHERE state = 'active' AND now() - query_start > interval '1 minute')",
        "Queries that have been running for over one minute.",
    ),
    gauge(
        "pg_oldest_query_start_timestamp_seconds",
        "min(extract(epoch FROM query_start)) FILTER (WHERE state = 'active')",
        "When the longest-running query of now began, Unix time; absent when none runs.",
    )
    .unit("seconds"),
];

/// Metrics of [`LONG_RUNNING`].
pub static LONG_METRICS: [MetricDesc; 4] = descs(&LONG_MEASURES, &[], "pg_stat_activity");

/// Transactions and queries that take long; maintenance by autovacuum and this session apart.
pub static LONG_RUNNING: Part = Part {
    name: "long_running_transactions",
    rows: Rows::Columns(&[], &LONG_MEASURES),
    from: "FROM pg_stat_activity
        WHERE state IS DISTINCT FROM 'idle' AND query NOT LIKE 'autovacuum:%' AND xact_start IS NOT NULL AND pid <> pg_backend_pid()
            AND application_name IS DISTINCT FROM 'nightbell' AND backend_type IS DISTINCT FROM 'walsender'",
    grant: Some(STATS),
    ..Part::DEFAULT
};

/// Metrics of [`IDLE`].
pub static IDLE_METRICS: [MetricDesc; 1] = [MetricDesc {
    name: "pg_process_idle_seconds",
    kind: MetricKind::Histogram,
    unit: "seconds",
    help: "How long idle sessions have been idle, by application.",
    labels: &["state", "application_name"],
    source: "pg_stat_activity.state_change",
}];

/// How long sessions have been idle: the sign of a leaking connection pool.
pub static IDLE: Part = Part {
    name: "process_idle",
    rows: Rows::Custom("state, application_name, floor(extract(epoch FROM now() - state_change))::float8", read_idle),
    from: "FROM pg_stat_activity WHERE state LIKE 'idle%' AND state_change IS NOT NULL AND pid <> pg_backend_pid()
        AND application_name IS DISTINCT FROM 'nightbell' ORDER BY state_change LIMIT 1000",
    grant: Some(STATS),
    ..Part::DEFAULT
};

/// Applications beyond this number share one histogram without a name.
const APPLICATIONS: usize = 20;

fn read_idle(rows: &[PgRow], batch: &mut Batch) -> sqlx::Result<()> {
    const BOUNDS: &[f64] = &[1.0, 2.0, 5.0, 15.0, 30.0, 60.0, 90.0, 120.0, 300.0];
    let mut histograms: BTreeMap<(Cow<'_, str>, Cow<'_, str>), Histogram> = BTreeMap::new();
    for row in rows {
        let (state, application) = (
            text(row, 0)?.unwrap_or_default(),
            text(row, 1)?.unwrap_or_default(),
        );
        let mut key = (state, application);
        if histograms.len() >= APPLICATIONS && !histograms.contains_key(&key) {
            key.1 = Cow::Borrowed("");
        }
        histograms
            .entry(key)
            .or_insert_with(|| Histogram::new(BOUNDS))
            .observe(row.try_get(2)?);
    }
    for ((state, application), histogram) in &histograms {
        batch.push_histogram(
            &IDLE_METRICS[0],
            &[
                ("state", state.as_ref()),
                ("application_name", application.as_ref()),
            ],
            histogram,
        );
    }
    Ok(())
}
