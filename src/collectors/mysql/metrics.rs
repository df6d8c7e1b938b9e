//! What is read of `SHOW GLOBAL STATUS`, `SHOW GLOBAL VARIABLES` and the status of replicas, under
//! mysqld_exporter's names, types and labels (<https://github.com/prometheus/mysqld_exporter>): of
//! hundreds those that dashboards and rules ask for.

use std::collections::BTreeMap;

use crate::model::{Batch, MetricDesc, MetricKind};

const fn desc(
    name: &'static str,
    kind: MetricKind,
    unit: &'static str,
    help: &'static str,
    source: &'static str,
) -> MetricDesc {
    MetricDesc {
        name,
        kind,
        unit,
        help,
        labels: &[],
        source,
    }
}

const fn own(
    name: &'static str,
    unit: &'static str,
    help: &'static str,
    labels: &'static [&'static str],
) -> MetricDesc {
    MetricDesc {
        name,
        kind: MetricKind::Gauge,
        unit,
        help,
        labels,
        source: "nightbell",
    }
}

const fn status(name: &'static str, help: &'static str) -> MetricDesc {
    desc(name, MetricKind::Untyped, "", help, "SHOW GLOBAL STATUS")
}

const fn variable(name: &'static str, unit: &'static str, help: &'static str) -> MetricDesc {
    desc(name, MetricKind::Gauge, unit, help, "SHOW GLOBAL VARIABLES")
}

const fn labelled(
    name: &'static str,
    kind: MetricKind,
    labels: &'static [&'static str],
    help: &'static str,
) -> MetricDesc {
    MetricDesc {
        name,
        kind,
        unit: "",
        help,
        labels,
        source: "SHOW GLOBAL STATUS",
    }
}

const fn replica(name: &'static str, unit: &'static str, help: &'static str) -> MetricDesc {
    const LABELS: &[&str] = &[
        "channel_name",
        "connection_name",
        "master_host",
        "master_uuid",
    ];
    MetricDesc {
        name,
        kind: MetricKind::Untyped,
        unit,
        help,
        labels: LABELS,
        source: "SHOW REPLICA STATUS",
    }
}

/// About the collection itself.
pub static METRICS: [MetricDesc; 5] = [
    own(
        "mysql_up",
        "",
        "1 when the server accepted the connection and answered a query.",
        &[],
    ),
    own(
        "mysql_connect_duration_seconds",
        "seconds",
        "Time that the connect took, login included.",
        &[],
    ),
    own(
        "mysql_exporter_collector_success",
        "",
        "1 when this part was read.",
        &["collector"],
    ),
    own(
        "mysql_exporter_collector_duration_seconds",
        "seconds",
        "Time that reading this part took.",
        &["collector"],
    ),
    MetricDesc {
        name: "mysql_version_info",
        kind: MetricKind::Gauge,
        unit: "",
        help: "1; the labels are the server's version.",
        labels: &["innodb_version", "version", "version_comment"],
        source: "SHOW GLOBAL VARIABLES",
    },
];

const STATUS_PREFIX: &str = "mysql_global_status_";
const VARIABLE_PREFIX: &str = "mysql_global_variables_";
const REPLICA_PREFIX: &str = "mysql_slave_status_";

/// One value each.
pub static STATUS: [MetricDesc; 69] = [
    status(
        "mysql_global_status_aborted_clients",
        "Connections that ended because the client went away without a goodbye.",
    ),
    status(
        "mysql_global_status_aborted_connects",
        "Attempts to connect that failed.",
    ),
    status(
        "mysql_global_status_binlog_cache_disk_use",
        "Transactions too large for the cache of the binary log.",
    ),
    status(
        "mysql_global_status_binlog_cache_use",
        "Transactions that used the cache of the binary log.",
    ),
    status(
        "mysql_global_status_bytes_received",
        "Bytes received from clients.",
    ),
    status("mysql_global_status_bytes_sent", "Bytes sent to clients."),
    status(
        "mysql_global_status_connections",
        "Attempts to connect, successful or not.",
    ),
    status(
        "mysql_global_status_created_tmp_disk_tables",
        "Temporary tables made on disk.",
    ),
    status(
        "mysql_global_status_created_tmp_files",
        "Temporary files made.",
    ),
    status(
        "mysql_global_status_created_tmp_tables",
        "Temporary tables made.",
    ),
    status(
        "mysql_global_status_innodb_buffer_pool_bytes_data",
        "Bytes of pages with data in the buffer pool.",
    ),
    status(
        "mysql_global_status_innodb_buffer_pool_bytes_dirty",
        "Bytes of changed pages in the buffer pool.",
    ),
    status(
        "mysql_global_status_innodb_buffer_pool_read_requests",
        "Logical reads.",
    ),
    status(
        "mysql_global_status_innodb_buffer_pool_reads",
        "Logical reads that had to go to disk.",
    ),
    status(
        "mysql_global_status_innodb_buffer_pool_wait_free",
        "Waits for a clean page of the buffer pool.",
    ),
    status(
        "mysql_global_status_innodb_buffer_pool_write_requests",
        "Writes to the buffer pool.",
    ),
    status("mysql_global_status_innodb_data_fsyncs", "fsync calls."),
    status(
        "mysql_global_status_innodb_data_read",
        "Bytes read from data files.",
    ),
    status(
        "mysql_global_status_innodb_data_reads",
        "Reads of data files.",
    ),
    status(
        "mysql_global_status_innodb_data_writes",
        "Writes of data files.",
    ),
    status(
        "mysql_global_status_innodb_data_written",
        "Bytes written to data files.",
    ),
    status(
        "mysql_global_status_innodb_deadlocks",
        "Deadlocks; not every server counts them.",
    ),
    status(
        "mysql_global_status_innodb_history_list_length",
        "Transactions that are not purged yet; not every server counts them.",
    ),
    status(
        "mysql_global_status_innodb_log_waits",
        "Waits because the log buffer was too small.",
    ),
    status(
        "mysql_global_status_innodb_mem_adaptive_hash",
        "Bytes of the adaptive hash index; not every server counts them.",
    ),
    status(
        "mysql_global_status_innodb_mem_dictionary",
        "Bytes of the data dictionary; not every server counts them.",
    ),
    status(
        "mysql_global_status_innodb_num_open_files",
        "Files that InnoDB has open.",
    ),
    status(
        "mysql_global_status_innodb_os_log_written",
        "Bytes written to the redo log.",
    ),
    status("mysql_global_status_innodb_page_size", "Bytes of a page."),
    status(
        "mysql_global_status_innodb_row_lock_current_waits",
        "Row locks that are waited for.",
    ),
    status(
        "mysql_global_status_innodb_row_lock_time",
        "Milliseconds spent waiting for row locks.",
    ),
    status(
        "mysql_global_status_innodb_row_lock_time_avg",
        "Mean milliseconds of a wait for a row lock.",
    ),
    status(
        "mysql_global_status_innodb_row_lock_waits",
        "Times a row lock had to be waited for.",
    ),
    status(
        "mysql_global_status_max_used_connections",
        "Most connections at the same time since the start.",
    ),
    status("mysql_global_status_open_files", "Open files."),
    status(
        "mysql_global_status_open_table_definitions",
        "Table definitions kept.",
    ),
    status("mysql_global_status_open_tables", "Open tables."),
    status("mysql_global_status_opened_files", "Files opened."),
    status(
        "mysql_global_status_opened_table_definitions",
        "Table definitions read.",
    ),
    status("mysql_global_status_opened_tables", "Tables opened."),
    status(
        "mysql_global_status_prepared_stmt_count",
        "Prepared statements.",
    ),
    status(
        "mysql_global_status_qcache_free_memory",
        "Bytes of the query cache that are free.",
    ),
    status(
        "mysql_global_status_qcache_hits",
        "Hits of the query cache.",
    ),
    status(
        "mysql_global_status_qcache_inserts",
        "Statements added to the query cache.",
    ),
    status(
        "mysql_global_status_qcache_lowmem_prunes",
        "Statements that left the query cache for lack of memory.",
    ),
    status(
        "mysql_global_status_qcache_not_cached",
        "Statements that the query cache did not take.",
    ),
    status(
        "mysql_global_status_qcache_queries_in_cache",
        "Statements in the query cache.",
    ),
    status(
        "mysql_global_status_queries",
        "Statements executed, those inside of stored programs included.",
    ),
    status(
        "mysql_global_status_questions",
        "Statements that clients sent.",
    ),
    status(
        "mysql_global_status_select_full_join",
        "Joins that scanned tables because no index could be used.",
    ),
    status(
        "mysql_global_status_select_full_range_join",
        "Joins that searched a range of a reference table.",
    ),
    status(
        "mysql_global_status_select_range",
        "Joins that used a range of the first table.",
    ),
    status(
        "mysql_global_status_select_range_check",
        "Joins without keys that checked for some after each row.",
    ),
    status(
        "mysql_global_status_select_scan",
        "Joins that scanned the first table.",
    ),
    status(
        "mysql_global_status_slow_queries",
        "Statements that took longer than long_query_time.",
    ),
    status(
        "mysql_global_status_sort_merge_passes",
        "Passes of merge sorts.",
    ),
    status("mysql_global_status_sort_range", "Sorts done by ranges."),
    status("mysql_global_status_sort_rows", "Rows sorted."),
    status(
        "mysql_global_status_sort_scan",
        "Sorts done by scanning the table.",
    ),
    status(
        "mysql_global_status_table_locks_immediate",
        "Table locks that were given at once.",
    ),
    status(
        "mysql_global_status_table_locks_waited",
        "Table locks that had to be waited for.",
    ),
    status(
        "mysql_global_status_table_open_cache_hits",
        "Hits of the cache of open tables.",
    ),
    status(
        "mysql_global_status_table_open_cache_misses",
        "Misses of the cache of open tables.",
    ),
    status(
        "mysql_global_status_table_open_cache_overflows",
        "Overflows of the cache of open tables.",
    ),
    status(
        "mysql_global_status_threads_cached",
        "Threads that wait for a connection.",
    ),
    status("mysql_global_status_threads_connected", "Open connections."),
    status(
        "mysql_global_status_threads_created",
        "Threads made for connections.",
    ),
    status(
        "mysql_global_status_threads_running",
        "Threads that are not asleep.",
    ),
    status(
        "mysql_global_status_uptime",
        "Seconds since the server started.",
    ),
];

/// Families whose names end in what becomes a label.
pub static FAMILIES: [MetricDesc; 7] = [
    labelled(
        "mysql_global_status_commands_total",
        MetricKind::Counter,
        &["command"],
        "Statements executed, by kind.",
    ),
    labelled(
        "mysql_global_status_handlers_total",
        MetricKind::Counter,
        &["handler"],
        "Calls of storage engines, by kind.",
    ),
    labelled(
        "mysql_global_status_connection_errors_total",
        MetricKind::Counter,
        &["error"],
        "Errors of connections, by kind.",
    ),
    labelled(
        "mysql_global_status_innodb_row_ops_total",
        MetricKind::Counter,
        &["operation"],
        "Rows read and written, by operation.",
    ),
    labelled(
        "mysql_global_status_buffer_pool_pages",
        MetricKind::Gauge,
        &["state"],
        "Pages of the buffer pool, by state.",
    ),
    labelled(
        "mysql_global_status_buffer_pool_dirty_pages",
        MetricKind::Gauge,
        &[],
        "Changed pages of the buffer pool.",
    ),
    labelled(
        "mysql_global_status_buffer_pool_page_changes_total",
        MetricKind::Counter,
        &["operation"],
        "Pages of the buffer pool that changed their state, by operation.",
    ),
];

/// Settings.
pub static VARIABLES: [MetricDesc; 20] = [
    variable(
        "mysql_global_variables_innodb_buffer_pool_size",
        "bytes",
        "Size of the buffer pool.",
    ),
    variable(
        "mysql_global_variables_innodb_flush_log_at_trx_commit",
        "",
        "When the redo log is written and flushed.",
    ),
    variable(
        "mysql_global_variables_innodb_lock_wait_timeout",
        "seconds",
        "How long a row lock is waited for.",
    ),
    variable(
        "mysql_global_variables_innodb_log_buffer_size",
        "bytes",
        "Size of the log buffer.",
    ),
    variable(
        "mysql_global_variables_innodb_log_file_size",
        "bytes",
        "Size of a redo log file.",
    ),
    variable(
        "mysql_global_variables_key_buffer_size",
        "bytes",
        "Size of the key buffer of MyISAM.",
    ),
    variable(
        "mysql_global_variables_long_query_time",
        "seconds",
        "From when on a statement is slow.",
    ),
    variable(
        "mysql_global_variables_max_allowed_packet",
        "bytes",
        "Size of a packet at most.",
    ),
    variable(
        "mysql_global_variables_max_connections",
        "",
        "Connections at most.",
    ),
    variable(
        "mysql_global_variables_max_heap_table_size",
        "bytes",
        "Size of a table in memory at most.",
    ),
    variable(
        "mysql_global_variables_open_files_limit",
        "",
        "Open files at most.",
    ),
    variable(
        "mysql_global_variables_query_cache_size",
        "bytes",
        "Size of the query cache.",
    ),
    variable(
        "mysql_global_variables_read_only",
        "",
        "1 when ordinary users cannot write.",
    ),
    variable(
        "mysql_global_variables_slow_query_log",
        "",
        "1 when slow statements are logged.",
    ),
    variable(
        "mysql_global_variables_sync_binlog",
        "",
        "After how many commits the binary log is flushed.",
    ),
    variable(
        "mysql_global_variables_table_definition_cache",
        "",
        "Table definitions kept.",
    ),
    variable(
        "mysql_global_variables_table_open_cache",
        "",
        "Open tables kept.",
    ),
    variable(
        "mysql_global_variables_thread_cache_size",
        "",
        "Threads kept.",
    ),
    variable(
        "mysql_global_variables_tmp_table_size",
        "bytes",
        "Size of a temporary table in memory at most.",
    ),
    variable(
        "mysql_global_variables_wait_timeout",
        "seconds",
        "After how long an idle connection is ended.",
    ),
];

/// Of each source that this server replicates.
pub static REPLICA: [MetricDesc; 12] = [
    replica(
        "mysql_slave_status_seconds_behind_master",
        "seconds",
        "How far the replica is behind; none while it does not replicate.",
    ),
    replica(
        "mysql_slave_status_slave_io_running",
        "",
        "1 when the thread that receives runs and is connected.",
    ),
    replica(
        "mysql_slave_status_slave_sql_running",
        "",
        "1 when the thread that applies runs.",
    ),
    replica(
        "mysql_slave_status_last_errno",
        "",
        "Number of the last error.",
    ),
    replica(
        "mysql_slave_status_last_io_errno",
        "",
        "Number of the last error in receiving.",
    ),
    replica(
        "mysql_slave_status_last_sql_errno",
        "",
        "Number of the last error in applying.",
    ),
    replica(
        "mysql_slave_status_exec_master_log_pos",
        "",
        "Position in the source's log up to which was applied.",
    ),
    replica(
        "mysql_slave_status_read_master_log_pos",
        "",
        "Position in the source's log up to which was received.",
    ),
    replica(
        "mysql_slave_status_relay_log_pos",
        "",
        "Position in the relay log.",
    ),
    replica(
        "mysql_slave_status_relay_log_space",
        "bytes",
        "Size of all relay logs.",
    ),
    replica(
        "mysql_slave_status_master_server_id",
        "",
        "The source's server_id.",
    ),
    replica(
        "mysql_slave_status_sql_delay",
        "seconds",
        "How far the replica stays behind on purpose.",
    ),
];

/// Commands that are shown before they were executed; others from then on.
const COMMANDS: [&str; 8] = [
    "begin", "commit", "delete", "insert", "replace", "rollback", "select", "update",
];

/// Names in lower case, with their values.
pub type Values = BTreeMap<String, String>;

/// A value as mysqld_exporter reads it.
fn number(text: &str) -> Option<f64> {
    match text.to_ascii_lowercase().as_str() {
        "yes" | "on" | "true" => Some(1.0),
        "no" | "off" | "false" | "disabled" | "connecting" | "preparing" => Some(0.0),
        text => text.parse().ok(),
    }
}

fn plain(
    values: &Values,
    descs: &[MetricDesc],
    prefix: &str,
    labels: &[(&str, &str)],
    batch: &mut Batch,
) {
    for desc in descs {
        if let Some(value) = desc
            .name
            .strip_prefix(prefix)
            .and_then(|name| values.get(name))
            .and_then(|text| number(text))
        {
            batch.push(desc, labels, value);
        }
    }
}

/// `SHOW GLOBAL STATUS`.
pub fn push_status(values: &Values, batch: &mut Batch) {
    plain(values, &STATUS, STATUS_PREFIX, &[], batch);
    let [commands, handlers, errors, rows, pages, dirty, changes] = &FAMILIES;
    for (name, text) in values {
        let Some(value) = number(text) else { continue };
        if let Some(command) = name.strip_prefix("com_") {
            if value > 0.0 || COMMANDS.contains(&command) {
                batch.push(commands, &[("command", command)], value);
            }
        } else if let Some(handler) = name.strip_prefix("handler_") {
            batch.push(handlers, &[("handler", handler)], value);
        } else if let Some(error) = name.strip_prefix("connection_errors_") {
            batch.push(errors, &[("error", error)], value);
        } else if let Some(operation) = name.strip_prefix("innodb_rows_") {
            batch.push(rows, &[("operation", operation)], value);
        } else if let Some(state) = name.strip_prefix("innodb_buffer_pool_pages_") {
            match state {
                "data" | "free" | "misc" | "old" => batch.push(pages, &[("state", state)], value),
                "dirty" => batch.push(dirty, &[], value),
                "total" => {}
                operation => batch.push(changes, &[("operation", operation)], value),
            }
        }
    }
}

/// `SHOW GLOBAL VARIABLES`.
pub fn push_variables(values: &Values, batch: &mut Batch) {
    plain(values, &VARIABLES, VARIABLE_PREFIX, &[], batch);
    let of = |name: &str| values.get(name).map(String::as_str).unwrap_or_default();
    let labels = [
        ("innodb_version", of("innodb_version")),
        ("version", of("version")),
        ("version_comment", of("version_comment")),
    ];
    batch.push(&METRICS[4], &labels, 1.0);
}

/// One row of the status of replicas, of whichever server: names that say source and replica are
/// read as the ones of before.
pub fn push_replica(row: &Values, batch: &mut Batch) {
    let values: Values = row
        .iter()
        .map(|(name, value)| {
            (
                name.replace("source", "master").replace("replica", "slave"),
                value.clone(),
            )
        })
        .collect();
    let of = |name: &str| values.get(name).map(String::as_str).unwrap_or_default();
    let labels = [
        ("channel_name", of("channel_name")),
        ("connection_name", of("connection_name")),
        ("master_host", of("master_host")),
        ("master_uuid", of("master_uuid")),
    ];
    plain(&values, &REPLICA, REPLICA_PREFIX, &labels, batch);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// MySQL 8.4's names of the columns and MariaDB's are one.
    #[test]
    fn the_status_of_a_replica_has_one_name_whichever_server_gives_it() {
        let rows = [
            [
                ("source_host", "db1"),
                ("replica_io_running", "Connecting"),
                ("replica_sql_running", "Yes"),
                ("seconds_behind_source", ""),
            ],
            [
                ("master_host", "db1"),
                ("slave_io_running", "No"),
                ("slave_sql_running", "Yes"),
                ("sql_delay", "0"),
            ],
        ];
        for row in rows {
            let mut batch = Batch::new();
            push_replica(
                &row.into_iter()
                    .map(|(name, value)| (name.to_owned(), value.to_owned()))
                    .collect(),
                &mut batch,
            );
            let shown: Vec<String> = batch
                .samples()
                .map(|s| format!("{} {}", s.labels, s.value))
                .take(2)
                .collect();
            let wanted = [
                "io_running{master_host=\"db1\"} 0",
                "sql_running{master_host=\"db1\"} 1",
            ];
            assert_eq!(
                shown,
                wanted.map(|line| format!("mysql_slave_status_slave_{line}"))
            );
        }
    }
}
