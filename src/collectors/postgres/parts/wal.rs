//! Log, archiver, background writer and checkpointer: `pg_ls_waldir()`, `pg_stat_wal`,
//! `pg_stat_archiver`, `pg_stat_bgwriter`, `pg_stat_checkpointer`,
//! <https://www.postgresql.org/docs/current/monitoring-stats.html>. Names as postgres_exporter.

use crate::model::MetricDesc;

use crate::collectors::postgres::part::{
    Cadence, Grant, Measure, Part, Rows, counter, descs, gauge,
};

const FILES_MEASURES: [Measure; 2] = [
    gauge(
        "pg_wal_segments",
        "count(*)",
        "Files of the write-ahead log.",
    ),
    gauge(
        "pg_wal_size_bytes",
        "coalesce(sum(size), 0)",
        "Disk space of the write-ahead log.",
    )
    .unit("bytes"),
];

/// Metrics of [`FILES`].
pub static FILES_METRICS: [MetricDesc; 2] = descs(&FILES_MEASURES, &[], "pg_ls_waldir()");

/// The files of the write-ahead log.
pub static FILES: Part = Part {
    name: "wal",
    rows: Rows::Columns(&[], &FILES_MEASURES),
    from: "FROM pg_ls_waldir() WHERE name ~ '^[0-9A-F]{24}$'",
    cadence: Cadence::Slow,
    grant: Some(Grant {
        role: "pg_monitor",
        cost: "number and size of the log's files",
        required: true,
    }),
    since: 100_000,
    ..Part::DEFAULT
};

const ACTIVITY_MEASURES: [Measure; 3] = [
    counter(
        "pg_stat_wal_records_total",
        "wal_records",
        "Records written to the log.",
    ),
    counter(
        "pg_stat_wal_bytes_total",
        "wal_bytes",
        "Bytes written to the log.",
    )
    .unit("bytes"),
    counter(
        "pg_stat_wal_buffers_full_total",
        "wal_buffers_full",
        "Times the log was written because its buffers were full.",
    ),
];

/// Metrics of [`ACTIVITY`].
pub static ACTIVITY_METRICS: [MetricDesc; 3] = descs(&ACTIVITY_MEASURES, &[], "pg_stat_wal");

/// What is written to the log.
pub static ACTIVITY: Part = Part {
    name: "stat_wal",
    rows: Rows::Columns(&[], &ACTIVITY_MEASURES),
    from: "FROM pg_stat_wal",
    since: 140_000,
    ..Part::DEFAULT
};

const ARCHIVER_MEASURES: [Measure; 3] = [
    counter(
        "pg_stat_archiver_archived_count",
        "archived_count",
        "Log files archived.",
    ),
    counter(
        "pg_stat_archiver_failed_count",
        "failed_count",
        "Attempts to archive a log file that failed.",
    ),
    gauge(
        "pg_stat_archiver_last_archive_age",
        "extract(epoch FROM now() - last_archived_time)",
        "Seconds since a log file was archived; absent before the first.",
    )
    .unit("seconds"),
];

/// Metrics of [`ARCHIVER`].
pub static ARCHIVER_METRICS: [MetricDesc; 3] = descs(&ARCHIVER_MEASURES, &[], "pg_stat_archiver");

/// The archiver.
pub static ARCHIVER: Part = Part {
    name: "stat_archiver",
    rows: Rows::Columns(&[], &ARCHIVER_MEASURES),
    from: "FROM pg_stat_archiver",
    ..Part::DEFAULT
};

/// From this version on the checkpointer has a view of its own.
const CHECKPOINTER: u32 = 170_000;

const WRITER_MEASURES: [Measure; 22] = [
    counter(
        "pg_stat_bgwriter_checkpoints_timed_total",
        "checkpoints_timed",
        "Checkpoints begun because it was time.",
    )
    .until(CHECKPOINTER),
    counter(
        "pg_stat_bgwriter_checkpoints_req_total",
        "checkpoints_req",
        "Checkpoints begun on request.",
    )
    .until(CHECKPOINTER),
    counter(
        "pg_stat_bgwriter_checkpoint_write_time_total",
        "checkpoint_write_time",
        "Milliseconds spent writing files in checkpoints.",
    )
    .unit("milliseconds")
    .until(CHECKPOINTER),
    counter(
        "pg_stat_bgwriter_checkpoint_sync_time_total",
        "checkpoint_sync_time",
        "Milliseconds spent syncing files in checkpoints.",
    )
    .unit("milliseconds")
    .until(CHECKPOINTER),
    counter(
        "pg_stat_bgwriter_buffers_checkpoint_total",
        "buffers_checkpoint",
        "Buffers written in checkpoints.",
    )
    .until(CHECKPOINTER),
    counter(
        "pg_stat_bgwriter_buffers_clean_total",
        "buffers_clean",
        "Buffers written by the background writer.",
    ),
    counter(
        "pg_stat_bgwriter_maxwritten_clean_total",
        "maxwritten_clean",
        "Times the background writer stopped because it wrote too many.",
    ),
    counter(
        "pg_stat_bgwriter_buffers_backend_total",
        "buffers_backend",
        "Buffers written by sessions themselves.",
    )
    .until(CHECKPOINTER),
    counter(
        "pg_stat_bgwriter_buffers_backend_fsync_total",
        "buffers_backend_fsync",
        "Times a session had to sync by itself.",
    )
    .until(CHECKPOINTER),
    counter(
        "pg_stat_bgwriter_buffers_alloc_total",
        "buffers_alloc",
        "Buffers allocated.",
    ),
    counter(
        "pg_stat_bgwriter_stats_reset_total",
        "extract(epoch FROM stats_reset)",
        "When these statistics were reset, Unix time.",
    )
    .unit("seconds"),
    counter(
        "pg_stat_bgwriter_checkpoints_timed",
        "checkpoints_timed",
        OLDER,
    )
    .until(CHECKPOINTER),
    counter("pg_stat_bgwriter_checkpoints_req", "checkpoints_req", OLDER).until(CHECKPOINTER),
    counter(
        "pg_stat_bgwriter_checkpoint_write_time",
        "checkpoint_write_time",
        OLDER,
    )
    .unit("milliseconds")
    .until(CHECKPOINTER),
    counter(
        "pg_stat_bgwriter_checkpoint_sync_time",
        "checkpoint_sync_time",
        OLDER,
    )
    .unit("milliseconds")
    .until(CHECKPOINTER),
    counter(
        "pg_stat_bgwriter_buffers_checkpoint",
        "buffers_checkpoint",
        OLDER,
    )
    .until(CHECKPOINTER),
    counter("pg_stat_bgwriter_buffers_clean", "buffers_clean", OLDER),
    counter(
        "pg_stat_bgwriter_maxwritten_clean",
        "maxwritten_clean",
        OLDER,
    ),
    counter("pg_stat_bgwriter_buffers_backend", "buffers_backend", OLDER).until(CHECKPOINTER),
    counter(
        "pg_stat_bgwriter_buffers_backend_fsync",
        "buffers_backend_fsync",
        OLDER,
    )
    .until(CHECKPOINTER),
    counter("pg_stat_bgwriter_buffers_alloc", "buffers_alloc", OLDER),
    counter(
        "pg_stat_bgwriter_stats_reset",
        "extract(epoch FROM stats_reset)",
        OLDER,
    )
    .unit("seconds"),
];

/// Dashboards for postgres_exporter before 0.11 read these.
const OLDER: &str = "The older name of the metric that ends in _total.";

/// Metrics of [`WRITER`].
pub static WRITER_METRICS: [MetricDesc; 22] = descs(&WRITER_MEASURES, &[], "pg_stat_bgwriter");

/// The background writer and, before PostgreSQL 17, the checkpointer.
pub static WRITER: Part = Part {
    name: "stat_bgwriter",
    rows: Rows::Columns(&[], &WRITER_MEASURES),
    from: "FROM pg_stat_bgwriter",
    ..Part::DEFAULT
};

const CHECKPOINTER_MEASURES: [Measure; 9] = [
    counter(
        "pg_stat_checkpointer_num_timed_total",
        "num_timed",
        "Checkpoints begun because it was time.",
    ),
    counter(
        "pg_stat_checkpointer_num_requested_total",
        "num_requested",
        "Checkpoints begun on request.",
    ),
    counter(
        "pg_stat_checkpointer_restartpoints_timed_total",
        "restartpoints_timed",
        "Restart points begun because it was time.",
    ),
    counter(
        "pg_stat_checkpointer_restartpoints_req_total",
        "restartpoints_req",
        "Restart points begun on request.",
    ),
    counter(
        "pg_stat_checkpointer_restartpoints_done_total",
        "restartpoints_done",
        "Restart points completed.",
    ),
    counter(
        "pg_stat_checkpointer_write_time_total",
        "write_time",
        "Milliseconds spent writing files in checkpoints.",
    )
    .unit("milliseconds"),
    counter(
        "pg_stat_checkpointer_sync_time_total",
        "sync_time",
        "Milliseconds spent syncing files in checkpoints.",
    )
    .unit("milliseconds"),
    counter(
        "pg_stat_checkpointer_buffers_written_total",
        "buffers_written",
        "Buffers written in checkpoints.",
    ),
    counter(
        "pg_stat_checkpointer_stats_reset_total",
        "extract(epoch FROM stats_reset)",
        "When these statistics were reset, Unix time.",
    )
    .unit("seconds"),
];

/// Metrics of [`CHECKPOINTS`].
pub static CHECKPOINTS_METRICS: [MetricDesc; 9] =
    descs(&CHECKPOINTER_MEASURES, &[], "pg_stat_checkpointer");

/// The checkpointer, from PostgreSQL 17 on.
pub static CHECKPOINTS: Part = Part {
    name: "stat_checkpointer",
    rows: Rows::Columns(&[], &CHECKPOINTER_MEASURES),
    from: "FROM pg_stat_checkpointer",
    since: CHECKPOINTER,
    ..Part::DEFAULT
};
