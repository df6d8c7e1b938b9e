//! Locks: `pg_locks`, <https://www.postgresql.org/docs/current/view-pg-locks.html>. Names as
//! postgres_exporter; its nine modes are always there.

use crate::model::MetricDesc;

use crate::collectors::postgres::config::Limit;
use crate::collectors::postgres::part::{Measure, Part, Rows, descs, gauge};

const HELD_MEASURES: [Measure; 1] = [gauge(
    "pg_locks_count",
    "count(l.mode)",
    "Locks held or awaited, by database and mode.",
)];

/// Metrics of [`HELD`].
pub static HELD_METRICS: [MetricDesc; 1] = descs(&HELD_MEASURES, &["datname", "mode"], "pg_locks");

/// Locks by database and mode.
pub static HELD: Part = Part {
    name: "locks",
    rows: Rows::Columns(&[("datname", "d.datname"), ("mode", "m.mode")], &HELD_MEASURES),
    from: "FROM (SELECT p.oid, p.datname FROM pg_database p LEFT JOIN pg_stat_database s ON s.datid = p.oid
            ORDER BY p.datistemplate, s.numbackends DESC NULLS LAST, s.tup_returned DESC NULLS LAST, p.datname LIMIT {limit}) d
        CROSS JOIN (VALUES ('accesssharelock'), ('rowsharelock'), ('rowexclusivelock'), ('shareupdateexclusivelock'), ('sharelock'),
            ('sharerowexclusivelock'), ('exclusivelock'), ('accessexclusivelock'), ('sireadlock')) m (mode)
        LEFT JOIN pg_locks l ON l.database = d.oid AND lower(l.mode) = m.mode AND l.pid IS DISTINCT FROM pg_backend_pid()
        GROUP BY d.datname, m.mode ORDER BY d.datname, m.mode",
    limit: Some((Limit::Databases, "(SELECT count(*) FROM pg_database)")),
    ..Part::DEFAULT
};

const WAITING_MEASURES: [Measure; 2] = [
    gauge(
        "pg_locks_not_granted",
        "count(*)",
        "Lock requests that wait.",
    ),
    gauge(
        "pg_locks_oldest_wait_start_timestamp_seconds",
        "min(extract(epoch FROM waitstart))",
        "When the longest wait for a lock of now began, Unix time; absent when none waits.",
    )
    .unit("seconds")
    .since(140_000),
];

/// Metrics of [`WAITING`].
pub static WAITING_METRICS: [MetricDesc; 2] = descs(&WAITING_MEASURES, &[], "pg_locks");

/// Lock requests that are not granted.
pub static WAITING: Part = Part {
    name: "locks_not_granted",
    rows: Rows::Columns(&[], &WAITING_MEASURES),
    from: "FROM pg_locks WHERE NOT granted",
    ..Part::DEFAULT
};
