//! The server as a whole: its version, start time, roles, and vacuums in progress,
//! <https://www.postgresql.org/docs/current/progress-reporting.html#VACUUM-PROGRESS-REPORTING>.
//! Names as postgres_exporter.

use crate::model::{MetricDesc, MetricKind};

use crate::collectors::postgres::config::Limit;
use crate::collectors::postgres::part::{
    Cadence, Grant, Measure, Part, Rows, descs, gauge, measure,
};

const VERSION_MEASURES: [Measure; 1] = [measure(
    MetricKind::Untyped,
    "pg_static",
    "1",
    "1; the labels are the server's version.",
)];

/// Metrics of [`VERSION`].
pub static VERSION_METRICS: [MetricDesc; 1] = descs(
    &VERSION_MEASURES,
    &["version", "short_version"],
    "version()",
);

/// The version.
pub static VERSION: Part = Part {
    name: "static",
    rows: Rows::Columns(
        &[
            ("version", "version()"),
            // Not by `||`, which fails where an administrator lets integers pass for text.
            (
                "short_version",
                "CASE WHEN v >= 100000 THEN concat(v / 10000, '.', v % 10000, '.0') ELSE concat(v / 10000, '.', v / 100 % 100, '.', v % 100) END",
            ),
        ],
        &VERSION_MEASURES,
    ),
    from: "FROM (SELECT current_setting('server_version_num')::int AS v) s",
    cadence: Cadence::Rare,
    ..Part::DEFAULT
};

const START_MEASURES: [Measure; 1] = [gauge(
    "pg_postmaster_start_time_seconds",
    "extract(epoch FROM pg_postmaster_start_time())",
    "When the server started, Unix time.",
)
.unit("seconds")];

/// Metrics of [`START`].
pub static START_METRICS: [MetricDesc; 1] =
    descs(&START_MEASURES, &[], "pg_postmaster_start_time()");

/// When the server started.
pub static START: Part = Part {
    name: "postmaster",
    rows: Rows::Columns(&[], &START_MEASURES),
    cadence: Cadence::Slow,
    ..Part::DEFAULT
};

const ROLES_MEASURES: [Measure; 1] = [gauge(
    "pg_roles_connection_limit",
    "rolconnlimit",
    "Sessions that the role may have; -1 without a limit.",
)];

/// Metrics of [`ROLES`].
pub static ROLES_METRICS: [MetricDesc; 1] =
    descs(&ROLES_MEASURES, &["rolname"], "pg_roles.rolconnlimit");

/// Limits of roles.
pub static ROLES: Part = Part {
    name: "roles",
    rows: Rows::Columns(&[("rolname", "rolname")], &ROLES_MEASURES),
    from: "FROM pg_roles ORDER BY rolconnlimit = -1, rolname LIMIT {limit}",
    limit: Some((Limit::Sessions, "count(*) OVER ()")),
    cadence: Cadence::Rare,
    ..Part::DEFAULT
};

const VACUUM_MEASURES: [Measure; 6] = [
    gauge(
        "pg_stat_progress_vacuum_heap_blks",
        "heap_blks_total",
        "Blocks of the table.",
    ),
    gauge(
        "pg_stat_progress_vacuum_heap_blks_scanned",
        "heap_blks_scanned",
        "Blocks scanned so far.",
    ),
    gauge(
        "pg_stat_progress_vacuum_heap_blks_vacuumed",
        "heap_blks_vacuumed",
        "Blocks vacuumed so far.",
    ),
    gauge(
        "pg_stat_progress_vacuum_index_vacuums",
        "index_vacuum_count",
        "Rounds through the indexes so far.",
    ),
    gauge(
        "pg_stat_progress_vacuum_max_dead_tuples",
        "max_dead_tuples",
        "Dead rows that fit before a round through the indexes.",
    )
    .until(170_000),
    gauge(
        "pg_stat_progress_vacuum_num_dead_tuples",
        "num_dead_tuples",
        "Dead rows collected since the last round.",
    )
    .until(170_000),
];

/// Metrics of [`VACUUM`].
pub static VACUUM_METRICS: [MetricDesc; 6] = descs(
    &VACUUM_MEASURES,
    &["datname", "relname"],
    "pg_stat_progress_vacuum",
);

/// Vacuums in progress. A table of another database is named by its number: its name can only be
/// seen there.
pub static VACUUM: Part = Part {
    name: "stat_progress_vacuum",
    rows: Rows::Columns(
        &[
            ("datname", "datname"),
            (
                "relname",
                "coalesce((SELECT relname FROM pg_class c WHERE c.oid = relid AND datname = current_database())::text, relid::text)",
            ),
        ],
        &VACUUM_MEASURES,
    ),
    from: "FROM pg_stat_progress_vacuum WHERE phase IS NOT NULL ORDER BY pid LIMIT {limit}",
    limit: Some((Limit::Sessions, "count(*) OVER ()")),
    grant: Some(Grant {
        role: "pg_read_all_stats",
        cost: "vacuums of other roles",
        required: false,
    }),
    since: 100_000,
    ..Part::DEFAULT
};
