//! Tables and indexes of one database: `pg_stat_user_tables`, `pg_statio_user_tables`,
//! `pg_stat_user_indexes`, `pg_statio_user_indexes`,
//! <https://www.postgresql.org/docs/current/monitoring-stats.html#MONITORING-PG-STAT-ALL-TABLES-VIEW>.
//!
//! Names as postgres_exporter, with the label `datname` everywhere. The largest tables and indexes
//! come first; the rest is counted. Asking for a size takes a lock on the relation, so a relation
//! that someone holds or awaits exclusively (a migration) has none just then.

use crate::model::MetricDesc;

use crate::collectors::postgres::config::Limit;
use crate::collectors::postgres::part::{
    Cadence, Measure, Part, Rows, Scope, counter, descs, gauge,
};

const TABLE: &[(&str, &str)] = &[
    ("datname", "current_database()"),
    ("schemaname", "t.schemaname"),
    ("relname", "t.relname"),
];

const TABLES_MEASURES: [Measure; 30] = [
    counter(
        "pg_stat_user_tables_seq_scan",
        "t.seq_scan",
        "Sequential scans.",
    ),
    counter(
        "pg_stat_user_tables_seq_tup_read",
        "t.seq_tup_read",
        "Live rows read by sequential scans.",
    ),
    counter(
        "pg_stat_user_tables_idx_scan",
        "coalesce(t.idx_scan, 0)",
        "Index scans.",
    ),
    counter(
        "pg_stat_user_tables_idx_tup_fetch",
        "coalesce(t.idx_tup_fetch, 0)",
        "Live rows fetched by index scans.",
    ),
    counter(
        "pg_stat_user_tables_n_tup_ins",
        "t.n_tup_ins",
        "Rows inserted.",
    ),
    counter(
        "pg_stat_user_tables_n_tup_upd",
        "t.n_tup_upd",
        "Rows updated.",
    ),
    counter(
        "pg_stat_user_tables_n_tup_del",
        "t.n_tup_del",
        "Rows deleted.",
    ),
    counter(
        "pg_stat_user_tables_n_tup_hot_upd",
        "t.n_tup_hot_upd",
        "Rows updated without a change to an index.",
    ),
    gauge(
        "pg_stat_user_tables_n_live_tup",
        "t.n_live_tup",
        "Estimated live rows.",
    ),
    gauge(
        "pg_stat_user_tables_n_dead_tup",
        "t.n_dead_tup",
        "Estimated dead rows.",
    ),
    gauge(
        "pg_stat_user_tables_n_mod_since_analyze",
        "t.n_mod_since_analyze",
        "Estimated rows modified since the last analyze.",
    ),
    gauge(
        "pg_stat_user_tables_last_vacuum",
        "coalesce(extract(epoch FROM t.last_vacuum), 0)",
        "When it was last vacuumed by hand, Unix time; 0 never.",
    )
    .unit("seconds"),
    gauge(
        "pg_stat_user_tables_last_autovacuum",
        "coalesce(extract(epoch FROM t.last_autovacuum), 0)",
        "When autovacuum last vacuumed it, Unix time; 0 never.",
    )
    .unit("seconds"),
    gauge(
        "pg_stat_user_tables_last_analyze",
        "coalesce(extract(epoch FROM t.last_analyze), 0)",
        "When it was last analyzed by hand, Unix time; 0 never.",
    )
    .unit("seconds"),
    gauge(
        "pg_stat_user_tables_last_autoanalyze",
        "coalesce(extract(epoch FROM t.last_autoanalyze), 0)",
        "When autovacuum last analyzed it, Unix time; 0 never.",
    )
    .unit("seconds"),
    counter(
        "pg_stat_user_tables_vacuum_count",
        "t.vacuum_count",
        "Vacuums by hand.",
    ),
    counter(
        "pg_stat_user_tables_autovacuum_count",
        "t.autovacuum_count",
        "Vacuums by autovacuum.",
    ),
    counter(
        "pg_stat_user_tables_analyze_count",
        "t.analyze_count",
        "Analyzes by hand.",
    ),
    counter(
        "pg_stat_user_tables_autoanalyze_count",
        "t.autoanalyze_count",
        "Analyzes by autovacuum.",
    ),
    gauge(
        "pg_stat_user_tables_table_size_bytes",
        "CASE WHEN l.relation IS NULL THEN pg_table_size(t.relid) END",
        "Disk space of the table, its indexes apart.",
    )
    .unit("bytes"),
    gauge(
        "pg_stat_user_tables_index_size_bytes",
        "CASE WHEN l.relation IS NULL THEN pg_indexes_size(t.relid) END",
        "Disk space of the table's indexes.",
    )
    .unit("bytes"),
    counter(
        "pg_statio_user_tables_heap_blocks_read",
        "io.heap_blks_read",
        "Blocks of the table read.",
    ),
    counter(
        "pg_statio_user_tables_heap_blocks_hit",
        "io.heap_blks_hit",
        "Blocks of the table found in the buffer cache.",
    ),
    counter(
        "pg_statio_user_tables_idx_blocks_read",
        "coalesce(io.idx_blks_read, 0)",
        "Blocks of its indexes read.",
    ),
    counter(
        "pg_statio_user_tables_idx_blocks_hit",
        "coalesce(io.idx_blks_hit, 0)",
        "Blocks of its indexes found in the buffer cache.",
    ),
    counter(
        "pg_statio_user_tables_toast_blocks_read",
        "coalesce(io.toast_blks_read, 0)",
        "Blocks of its TOAST table read.",
    ),
    counter(
        "pg_statio_user_tables_toast_blocks_hit",
        "coalesce(io.toast_blks_hit, 0)",
        "Blocks of its TOAST table found in the buffer cache.",
    ),
    counter(
        "pg_statio_user_tables_tidx_blocks_read",
        "coalesce(io.tidx_blks_read, 0)",
        "Blocks of the TOAST table's index read.",
    ),
    counter(
        "pg_statio_user_tables_tidx_blocks_hit",
        "coalesce(io.tidx_blks_hit, 0)",
        "Blocks of the TOAST table's index found in the buffer cache.",
    ),
    counter(
        "pg_stat_user_tables_n_tup_newpage_upd",
        "t.n_tup_newpage_upd",
        "Rows updated onto another page.",
    )
    .since(160_000),
];

/// Metrics of [`TABLES`].
pub static TABLES_METRICS: [MetricDesc; 30] = descs(
    &TABLES_MEASURES,
    &["datname", "schemaname", "relname"],
    "pg_stat_user_tables, pg_statio_user_tables",
);

/// The largest tables of a database.
pub static TABLES: Part = Part {
    name: "stat_user_tables",
    rows: Rows::Columns(TABLE, &TABLES_MEASURES),
    from: "FROM (SELECT s.*, count(*) OVER () AS total FROM pg_stat_user_tables s JOIN pg_class c ON c.oid = s.relid
            ORDER BY c.relpages DESC, s.relid LIMIT {limit}) t
        JOIN pg_statio_user_tables io USING (relid)
        LEFT JOIN (SELECT DISTINCT relation FROM pg_locks WHERE mode = 'AccessExclusiveLock') l ON l.relation = t.relid",
    limit: Some((Limit::Tables, "t.total")),
    scope: Scope::Database,
    cadence: Cadence::Slow,
    ..Part::DEFAULT
};

const INDEX: &[(&str, &str)] = &[
    ("datname", "current_database()"),
    ("schemaname", "t.schemaname"),
    ("relname", "t.relname"),
    ("indexrelname", "t.indexrelname"),
];

const INDEXES_MEASURES: [Measure; 6] = [
    counter(
        "pg_stat_user_indexes_idx_scan",
        "t.idx_scan",
        "Scans of the index; 0 for one that nobody uses.",
    ),
    counter(
        "pg_stat_user_indexes_idx_tup_read",
        "t.idx_tup_read",
        "Entries returned by scans.",
    ),
    counter(
        "pg_stat_user_indexes_idx_tup_fetch",
        "t.idx_tup_fetch",
        "Live rows fetched by simple scans.",
    ),
    gauge(
        "pg_stat_user_indexes_size_bytes",
        "CASE WHEN l.relation IS NULL THEN pg_relation_size(t.indexrelid) END",
        "Disk space of the index.",
    )
    .unit("bytes"),
    counter(
        "pg_statio_user_indexes_idx_blks_read_total",
        "io.idx_blks_read",
        "Blocks of the index read.",
    ),
    counter(
        "pg_statio_user_indexes_idx_blks_hit_total",
        "io.idx_blks_hit",
        "Blocks of the index found in the buffer cache.",
    ),
];

/// Metrics of [`INDEXES`].
pub static INDEXES_METRICS: [MetricDesc; 6] = descs(
    &INDEXES_MEASURES,
    &["datname", "schemaname", "relname", "indexrelname"],
    "pg_stat_user_indexes, pg_statio_user_indexes",
);

/// The largest indexes of a database.
pub static INDEXES: Part = Part {
    name: "stat_user_indexes",
    rows: Rows::Columns(INDEX, &INDEXES_MEASURES),
    from: "FROM (SELECT s.*, count(*) OVER () AS total FROM pg_stat_user_indexes s JOIN pg_class c ON c.oid = s.indexrelid
            ORDER BY c.relpages DESC, s.indexrelid LIMIT {limit}) t
        JOIN pg_statio_user_indexes io USING (indexrelid)
        LEFT JOIN (SELECT DISTINCT relation FROM pg_locks WHERE mode = 'AccessExclusiveLock') l ON l.relation = t.indexrelid",
    limit: Some((Limit::Indexes, "t.total")),
    scope: Scope::Database,
    cadence: Cadence::Slow,
    ..Part::DEFAULT
};

const UNUSED_MEASURES: [Measure; 2] = [
    gauge(
        "pg_unused_indexes",
        "count(*)",
        "Indexes that no query has used since the statistics were reset; unique ones apart.",
    ),
    gauge(
        "pg_unused_indexes_bytes",
        "coalesce(sum(pg_relation_size(s.indexrelid)) FILTER (WHERE l.relation IS NULL), 0)",
        "Disk space of the unused indexes.",
    )
    .unit("bytes"),
];

/// Metrics of [`UNUSED_INDEXES`].
pub static UNUSED_METRICS: [MetricDesc; 2] = descs(
    &UNUSED_MEASURES,
    &["datname"],
    "pg_stat_user_indexes.idx_scan, pg_index",
);

/// Indexes that cost writes and serve nobody. Every index of the database is counted, whatever the
/// limit.
pub static UNUSED_INDEXES: Part = Part {
    name: "unused_indexes",
    rows: Rows::Columns(&[("datname", "current_database()")], &UNUSED_MEASURES),
    from: "FROM pg_stat_user_indexes s JOIN pg_index i USING (indexrelid)
        LEFT JOIN (SELECT DISTINCT relation FROM pg_locks WHERE mode = 'AccessExclusiveLock') l ON l.relation = s.indexrelid
        WHERE s.idx_scan = 0 AND NOT i.indisunique",
    scope: Scope::Database,
    cadence: Cadence::Slow,
    ..Part::DEFAULT
};
