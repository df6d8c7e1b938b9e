//! Databases: `pg_stat_database`, `pg_stat_database_conflicts`, sizes and transaction id age,
//! <https://www.postgresql.org/docs/current/monitoring-stats.html#MONITORING-PG-STAT-DATABASE-VIEW>.
//!
//! Names as postgres_exporter, which gives these counters no `_total`. Times are in the view's own
//! unit, milliseconds, where the established name says no unit.

use crate::model::{MetricDesc, MetricKind};

use crate::collectors::postgres::config::Limit;
use crate::collectors::postgres::part::{
    Cadence, Grant, Measure, Part, Rows, counter, descs, gauge, measure,
};

const ID_AND_NAME: &[(&str, &str)] = &[("datid", "datid"), ("datname", "datname")];

const fn untyped(name: &'static str, sql: &'static str, help: &'static str) -> Measure {
    measure(MetricKind::Untyped, name, sql, help)
}

const STATISTICS_MEASURES: [Measure; 27] = [
    gauge(
        "pg_stat_database_numbackends",
        "numbackends",
        "Sessions connected to the database.",
    ),
    counter(
        "pg_stat_database_xact_commit",
        "xact_commit",
        "Transactions committed.",
    ),
    counter(
        "pg_stat_database_xact_rollback",
        "xact_rollback",
        "Transactions rolled back.",
    ),
    counter(
        "pg_stat_database_blks_read",
        "blks_read",
        "Blocks read from disk or the kernel's cache.",
    ),
    counter(
        "pg_stat_database_blks_hit",
        "blks_hit",
        "Blocks found in the server's buffer cache.",
    ),
    counter(
        "pg_stat_database_tup_returned",
        "tup_returned",
        "Rows returned by scans.",
    ),
    counter(
        "pg_stat_database_tup_fetched",
        "tup_fetched",
        "Rows fetched by index scans.",
    ),
    counter(
        "pg_stat_database_tup_inserted",
        "tup_inserted",
        "Rows inserted.",
    ),
    counter(
        "pg_stat_database_tup_updated",
        "tup_updated",
        "Rows updated.",
    ),
    counter(
        "pg_stat_database_tup_deleted",
        "tup_deleted",
        "Rows deleted.",
    ),
    counter(
        "pg_stat_database_conflicts",
        "conflicts",
        "Queries cancelled because they conflicted with recovery.",
    ),
    counter(
        "pg_stat_database_temp_files",
        "temp_files",
        "Temporary files made by queries.",
    ),
    counter(
        "pg_stat_database_temp_bytes",
        "temp_bytes",
        "Bytes written to temporary files.",
    )
    .unit("bytes"),
    counter(
        "pg_stat_database_deadlocks",
        "deadlocks",
        "Deadlocks detected.",
    ),
    counter(
        "pg_stat_database_blk_read_time",
        "blk_read_time",
        "Milliseconds spent reading blocks (track_io_timing).",
    )
    .unit("milliseconds"),
    counter(
        "pg_stat_database_blk_write_time",
        "blk_write_time",
        "Milliseconds spent writing blocks (track_io_timing).",
    )
    .unit("milliseconds"),
    counter(
        "pg_stat_database_stats_reset",
        "coalesce(extract(epoch FROM stats_reset), 0)",
        "When the statistics were reset, Unix time.",
    )
    .unit("seconds"),
    counter(
        "pg_stat_database_active_time_seconds_total",
        "active_time / 1000",
        "Seconds that sessions spent executing.",
    )
    .unit("seconds")
    .since(140_000),
    untyped(
        "pg_stat_database_active_time",
        "active_time",
        "Milliseconds that sessions spent executing.",
    )
    .unit("milliseconds")
    .since(140_000),
    untyped(
        "pg_stat_database_idle_in_transaction_time",
        "idle_in_transaction_time",
        "Milliseconds that sessions idled in a transaction.",
    )
    .unit("milliseconds")
    .since(140_000),
    untyped(
        "pg_stat_database_session_time",
        "session_time",
        "Milliseconds that sessions lasted.",
    )
    .unit("milliseconds")
    .since(140_000),
    untyped("pg_stat_database_sessions", "sessions", "Sessions begun.").since(140_000),
    untyped(
        "pg_stat_database_sessions_abandoned",
        "sessions_abandoned",
        "Sessions that ended because the client was lost.",
    )
    .since(140_000),
    untyped(
        "pg_stat_database_sessions_fatal",
        "sessions_fatal",
        "Sessions ended by a fatal error.",
    )
    .since(140_000),
    untyped(
        "pg_stat_database_sessions_killed",
        "sessions_killed",
        "Sessions ended by an operator.",
    )
    .since(140_000),
    untyped(
        "pg_stat_database_checksum_failures",
        "checksum_failures",
        "Pages whose checksum was wrong; absent without checksums.",
    )
    .since(120_000),
    untyped(
        "pg_stat_database_checksum_last_failure",
        "extract(epoch FROM checksum_last_failure)",
        "When a checksum was last wrong, Unix time.",
    )
    .unit("seconds")
    .since(120_000),
];

/// Metrics of [`STATISTICS`].
pub static STATISTICS_METRICS: [MetricDesc; 27] = descs(
    &STATISTICS_MEASURES,
    &["datid", "datname"],
    "pg_stat_database",
);

/// Activity of each database since the statistics were reset.
pub static STATISTICS: Part = Part {
    name: "stat_database",
    rows: Rows::Columns(ID_AND_NAME, &STATISTICS_MEASURES),
    from: "FROM pg_stat_database WHERE datname IS NOT NULL ORDER BY numbackends DESC, tup_returned DESC, datname LIMIT {limit}",
    limit: Some((Limit::Databases, "count(*) OVER ()")),
    ..Part::DEFAULT
};

const CONFLICTS_MEASURES: [Measure; 5] = [
    counter(
        "pg_stat_database_conflicts_confl_tablespace",
        "confl_tablespace",
        "Queries cancelled on a replica because of a dropped tablespace.",
    ),
    counter(
        "pg_stat_database_conflicts_confl_lock",
        "confl_lock",
        "Queries cancelled on a replica because of a lock timeout.",
    ),
    counter(
        "pg_stat_database_conflicts_confl_snapshot",
        "confl_snapshot",
        "Queries cancelled on a replica because of an old snapshot.",
    ),
    counter(
        "pg_stat_database_conflicts_confl_bufferpin",
        "confl_bufferpin",
        "Queries cancelled on a replica because of a pinned buffer.",
    ),
    counter(
        "pg_stat_database_conflicts_confl_deadlock",
        "confl_deadlock",
        "Queries cancelled on a replica because of a deadlock.",
    ),
];

/// Metrics of [`CONFLICTS`].
pub static CONFLICTS_METRICS: [MetricDesc; 5] = descs(
    &CONFLICTS_MEASURES,
    &["datid", "datname"],
    "pg_stat_database_conflicts",
);

/// Why queries on a replica were cancelled.
pub static CONFLICTS: Part = Part {
    name: "stat_database_conflicts",
    rows: Rows::Columns(ID_AND_NAME, &CONFLICTS_MEASURES),
    from: "FROM pg_stat_database_conflicts WHERE datname IS NOT NULL
        ORDER BY confl_tablespace + confl_lock + confl_snapshot + confl_bufferpin + confl_deadlock DESC, datname LIMIT {limit}",
    limit: Some((Limit::Databases, "count(*) OVER ()")),
    cadence: Cadence::Slow,
    ..Part::DEFAULT
};

const SIZE_MEASURES: [Measure; 4] = [
    gauge(
        "pg_database_size_bytes",
        "CASE WHEN has_database_privilege(d.oid, 'CONNECT') OR pg_has_role('pg_read_all_stats', 'USAGE') THEN pg_database_size(d.oid) END",
        "Disk space of the database.",
    )
    .unit("bytes"),
    gauge("pg_database_connection_limit", "datconnlimit", "Sessions that the database allows; -1 without a limit."),
    gauge(
        "pg_database_wraparound_age_datfrozenxid_seconds",
        "CASE WHEN datallowconn THEN age(datfrozenxid) END",
        "Age of the oldest unfrozen transaction id, in transactions (in spite of its established name).",
    ),
    gauge(
        "pg_database_wraparound_age_datminmxid_seconds",
        "CASE WHEN datallowconn THEN mxid_age(datminmxid) END",
        "Age of the oldest multixact id, in multixacts (in spite of its established name).",
    ),
];

/// Metrics of [`SIZES`].
pub static SIZE_METRICS: [MetricDesc; 4] = descs(&SIZE_MEASURES, &["datname"], "pg_database");

/// Size of each database, and how near it is to transaction id wraparound.
pub static SIZES: Part = Part {
    name: "database",
    rows: Rows::Columns(&[("datname", "datname")], &SIZE_MEASURES),
    from: "FROM (SELECT d.*, count(*) OVER () AS total FROM pg_database d LEFT JOIN pg_stat_database s ON s.datid = d.oid
            WHERE d.datconnlimit <> -2
            ORDER BY d.datistemplate, s.numbackends DESC NULLS LAST, s.tup_returned DESC NULLS LAST, d.datname LIMIT {limit}) d",
    limit: Some((Limit::Databases, "total")),
    cadence: Cadence::Slow,
    grant: Some(Grant { role: "pg_read_all_stats", cost: "sizes of databases that the role may not connect to", required: false }),
    ..Part::DEFAULT
};
