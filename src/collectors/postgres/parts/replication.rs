//! Replication, both ends: `pg_stat_replication`, `pg_replication_slots`, `pg_stat_wal_receiver`,
//! <https://www.postgresql.org/docs/current/monitoring-stats.html#MONITORING-PG-STAT-REPLICATION-VIEW>.
//!
//! Names and labels as postgres_exporter 0.20; `pg_replication_lag` is the older name of the lag.
//! Log positions are bytes since the beginning of the log.

use crate::model::MetricDesc;

use crate::collectors::postgres::config::Limit;
use crate::collectors::postgres::part::{
    Cadence, Grant, Measure, Part, Rows, counter, descs, gauge,
};

const ROLE_MEASURES: [Measure; 4] = [
    gauge("pg_replication_is_replica", "CASE WHEN pg_is_in_recovery() THEN 1 ELSE 0 END", "1 on a replica, 0 on a primary."),
    gauge("pg_replication_lag_seconds", LAG, "Seconds between now and the last replayed transaction; 0 on a primary.").unit("seconds"),
    gauge("pg_replication_lag", LAG, "The older name of pg_replication_lag_seconds.").unit("seconds"),
    gauge(
        "pg_replication_last_replay_seconds",
        "CASE WHEN NOT pg_is_in_recovery() THEN 0
            WHEN pg_last_xact_replay_timestamp() IS NOT NULL
            THEN greatest(0, extract(epoch FROM (now() - pg_last_xact_replay_timestamp()))) END",
        "Seconds since the last replayed transaction, even if the replica has caught up; 0 on a primary, absent before the first.",
    )
    .unit("seconds"),
];

const LAG: &str = "CASE WHEN NOT pg_is_in_recovery() OR pg_last_wal_receive_lsn() = pg_last_wal_replay_lsn() THEN 0
    ELSE greatest(0, extract(epoch FROM (now() - pg_last_xact_replay_timestamp()))) END";

/// Metrics of [`ROLE`].
pub static ROLE_METRICS: [MetricDesc; 4] = descs(
    &ROLE_MEASURES,
    &[],
    "pg_is_in_recovery(), pg_last_xact_replay_timestamp()",
);

/// Whether this is a replica, and how far it lags.
pub static ROLE: Part = Part {
    name: "replication",
    rows: Rows::Columns(&[], &ROLE_MEASURES),
    since: 100_000,
    ..Part::DEFAULT
};

const REPLICAS_MEASURES: [Measure; 3] = [
    gauge(
        "pg_stat_replication_pg_current_wal_lsn_bytes",
        "current - '0/0'::pg_lsn",
        "Write position of the log on this server.",
    )
    .unit("bytes"),
    gauge(
        "pg_stat_replication_pg_wal_lsn_diff",
        "current - replay_lsn",
        "How far the replica's replay lies behind, in bytes.",
    )
    .unit("bytes"),
    gauge(
        "pg_stat_replication_reply_time",
        "extract(epoch FROM reply_time)",
        "When the replica replied last, Unix time.",
    )
    .unit("seconds")
    .since(120_000),
];

/// Metrics of [`REPLICAS`].
pub static REPLICAS_METRICS: [MetricDesc; 3] = descs(
    &REPLICAS_MEASURES,
    &[
        "application_name",
        "client_addr",
        "pid",
        "slot_name",
        "state",
    ],
    "pg_stat_replication",
);

/// Each replica, seen from its primary.
pub static REPLICAS: Part = Part {
    name: "stat_replication",
    rows: Rows::Columns(
        &[
            ("application_name", "application_name"),
            ("client_addr", "host(client_addr)"),
            ("pid", "r.pid"),
            ("slot_name", "s.slot_name"),
            ("state", "state"),
        ],
        &REPLICAS_MEASURES,
    ),
    from: "FROM pg_stat_replication r LEFT JOIN pg_replication_slots s ON r.pid = s.active_pid
        CROSS JOIN (SELECT CASE WHEN pg_is_in_recovery() THEN pg_last_wal_receive_lsn() ELSE pg_current_wal_lsn() END AS current) c
        WHERE state IS NOT NULL ORDER BY current - replay_lsn DESC NULLS FIRST, r.pid LIMIT {limit}",
    limit: Some((Limit::Sessions, "count(*) OVER ()")),
    grant: Some(Grant { role: "pg_read_all_stats", cost: "the replicas and how far each lags", required: false }),
    since: 100_000,
    ..Part::DEFAULT
};

const SLOTS_MEASURES: [Measure; 2] = [
    gauge(
        "pg_replication_slots_active",
        "active::int",
        "1 while a replica uses the slot.",
    ),
    gauge(
        "pg_replication_slots_pg_wal_lsn_diff",
        "current - restart_lsn",
        "Log kept for the slot, in bytes.",
    )
    .unit("bytes"),
];

/// Metrics of [`SLOTS`].
pub static SLOTS_METRICS: [MetricDesc; 2] = descs(
    &SLOTS_MEASURES,
    &["slot_name", "database"],
    "pg_replication_slots",
);

/// Replication slots by name and database.
pub static SLOTS: Part = Part {
    name: "replication_slots",
    rows: Rows::Columns(
        &[("slot_name", "slot_name"), ("database", "database")],
        &SLOTS_MEASURES,
    ),
    from: SLOTS_FROM,
    limit: Some((Limit::Sessions, "count(*) OVER ()")),
    since: 100_000,
    ..Part::DEFAULT
};

const SLOTS_FROM: &str = "FROM pg_replication_slots
    CROSS JOIN (SELECT CASE WHEN pg_is_in_recovery() THEN pg_last_wal_receive_lsn() ELSE pg_current_wal_lsn() END AS current) c
    ORDER BY current - restart_lsn DESC NULLS LAST, slot_name LIMIT {limit}";

const SLOT_TYPES_MEASURES: [Measure; 8] = [
    gauge(
        "pg_replication_slots_slot_current_wal_lsn",
        "current - '0/0'::pg_lsn",
        "Write position of the log on this server.",
    )
    .unit("bytes"),
    gauge(
        "pg_replication_slots_slot_confirmed_flush_lsn",
        "CASE WHEN active THEN coalesce(confirmed_flush_lsn, '0/0') - '0/0'::pg_lsn END",
        "Position up to which the slot's user has confirmed receipt.",
    )
    .unit("bytes"),
    gauge(
        "pg_replication_slots_slot_is_active",
        "active::int",
        "1 while a replica uses the slot.",
    ),
    gauge(
        "pg_replication_slots_safe_wal_size_bytes",
        "safe_wal_size",
        "Bytes that may be written before the slot is lost.",
    )
    .unit("bytes")
    .since(130_000),
    gauge(
        "pg_replication_slot_slot_current_wal_lsn",
        "current - '0/0'::pg_lsn",
        OLDER_NAME,
    )
    .unit("bytes"),
    gauge(
        "pg_replication_slot_slot_confirmed_flush_lsn",
        "CASE WHEN active THEN coalesce(confirmed_flush_lsn, '0/0') - '0/0'::pg_lsn END",
        OLDER_NAME,
    )
    .unit("bytes"),
    gauge(
        "pg_replication_slot_slot_is_active",
        "active::int",
        OLDER_NAME,
    ),
    gauge(
        "pg_replication_slot_safe_wal_size_bytes",
        "safe_wal_size",
        OLDER_NAME,
    )
    .unit("bytes")
    .since(130_000),
];

const OLDER_NAME: &str = "The older name, in postgres_exporter up to 0.19, of the metric that begins with pg_replication_slots.";

/// Metrics of [`SLOT_TYPES`].
pub static SLOT_TYPES_METRICS: [MetricDesc; 8] = descs(
    &SLOT_TYPES_MEASURES,
    &["slot_name", "slot_type"],
    "pg_replication_slots",
);

/// Replication slots by name and type.
pub static SLOT_TYPES: Part = Part {
    name: "replication_slot",
    rows: Rows::Columns(
        &[("slot_name", "slot_name"), ("slot_type", "slot_type")],
        &SLOT_TYPES_MEASURES,
    ),
    from: SLOTS_FROM,
    limit: Some((Limit::Sessions, "count(*) OVER ()")),
    since: 100_000,
    ..Part::DEFAULT
};

const SLOT_STATUS_MEASURES: [Measure; 2] = [
    gauge(
        "pg_replication_slots_wal_status",
        "1",
        "1; the label says whether the slot's log is still there.",
    ),
    gauge("pg_replication_slot_wal_status", "1", OLDER_NAME),
];

/// Metrics of [`SLOT_STATUS`].
pub static SLOT_STATUS_METRICS: [MetricDesc; 2] = descs(
    &SLOT_STATUS_MEASURES,
    &["slot_name", "slot_type", "wal_status"],
    "pg_replication_slots.wal_status",
);

/// Whether the log that a slot needs is still there.
pub static SLOT_STATUS: Part = Part {
    name: "replication_slot_status",
    rows: Rows::Columns(
        &[
            ("slot_name", "slot_name"),
            ("slot_type", "slot_type"),
            ("wal_status", "wal_status"),
        ],
        &SLOT_STATUS_MEASURES,
    ),
    from: "FROM pg_replication_slots WHERE wal_status IS NOT NULL ORDER BY wal_status IN ('reserved', 'extended'), slot_name LIMIT {limit}",
    limit: Some((Limit::Sessions, "count(*) OVER ()")),
    cadence: Cadence::Slow,
    since: 130_000,
    ..Part::DEFAULT
};

const RECEIVER_MEASURES: [Measure; 8] = [
    counter(
        "pg_stat_wal_receiver_receive_start_lsn",
        "receive_start_lsn - '0/0'::pg_lsn",
        "First position received.",
    )
    .unit("bytes"),
    gauge(
        "pg_stat_wal_receiver_receive_start_tli",
        "receive_start_tli",
        "First timeline received.",
    ),
    counter(
        "pg_stat_wal_receiver_flushed_lsn",
        "flushed_lsn - '0/0'::pg_lsn",
        "Last position received and flushed.",
    )
    .unit("bytes")
    .since(130_000),
    gauge(
        "pg_stat_wal_receiver_received_tli",
        "received_tli",
        "Timeline of the last position received.",
    ),
    counter(
        "pg_stat_wal_receiver_last_msg_send_time",
        "extract(epoch FROM last_msg_send_time)",
        "When the last message was sent, Unix time.",
    )
    .unit("seconds"),
    counter(
        "pg_stat_wal_receiver_last_msg_receipt_time",
        "extract(epoch FROM last_msg_receipt_time)",
        "When the last message came in, Unix time.",
    )
    .unit("seconds"),
    counter(
        "pg_stat_wal_receiver_latest_end_lsn",
        "latest_end_lsn - '0/0'::pg_lsn",
        "Last position reported to the sender.",
    )
    .unit("bytes"),
    counter(
        "pg_stat_wal_receiver_latest_end_time",
        "extract(epoch FROM latest_end_time)",
        "When that position was reported, Unix time.",
    )
    .unit("seconds"),
];

/// Metrics of [`RECEIVER`].
pub static RECEIVER_METRICS: [MetricDesc; 8] = descs(
    &RECEIVER_MEASURES,
    &["upstream_host", "slot_name", "status"],
    "pg_stat_wal_receiver",
);

/// The log receiver of a replica.
pub static RECEIVER: Part = Part {
    name: "stat_wal_receiver",
    rows: Rows::Columns(
        &[
            ("upstream_host", "sender_host"),
            ("slot_name", "slot_name"),
            ("status", "status"),
        ],
        &RECEIVER_MEASURES,
    ),
    from: "FROM pg_stat_wal_receiver WHERE status IS NOT NULL",
    grant: Some(Grant {
        role: "pg_read_all_stats",
        cost: "a replica's receiver",
        required: false,
    }),
    since: 110_000,
    ..Part::DEFAULT
};
