//! The fields of INFO and CLUSTER INFO that are one number, and the metrics they become,
//! <https://redis.io/docs/latest/commands/info/>.
//!
//! Names and types as redis_exporter 1.86; where it gives a field that only grows the type gauge,
//! so does this.

use crate::model::{MetricDesc, MetricKind};

/// One field.
#[derive(Clone, Copy)]
pub struct Field {
    /// Its name in the answer.
    pub key: &'static str,
    /// What it becomes.
    pub desc: MetricDesc,
}

const fn field(
    kind: MetricKind,
    key: &'static str,
    name: &'static str,
    unit: &'static str,
    help: &'static str,
) -> Field {
    Field {
        key,
        desc: MetricDesc {
            name,
            kind,
            unit,
            help,
            labels: &[],
            source: "INFO",
        },
    }
}

const fn gauge(
    key: &'static str,
    name: &'static str,
    unit: &'static str,
    help: &'static str,
) -> Field {
    field(MetricKind::Gauge, key, name, unit, help)
}

const fn counter(
    key: &'static str,
    name: &'static str,
    unit: &'static str,
    help: &'static str,
) -> Field {
    field(MetricKind::Counter, key, name, unit, help)
}

/// Their metrics.
pub static METRICS: [MetricDesc; COUNT] = {
    let mut out = [FIELDS[0].desc; COUNT];
    let mut index = 0;
    while index < COUNT {
        out[index] = FIELDS[index].desc;
        index += 1;
    }
    out
};

const COUNT: usize = 179;

/// Every field.
pub static FIELDS: [Field; COUNT] = [
    // Server
    gauge(
        "uptime_in_seconds",
        "redis_uptime_in_seconds",
        "seconds",
        "Time since the server started.",
    ),
    gauge(
        "process_id",
        "redis_process_id",
        "",
        "Process id of the server.",
    ),
    gauge(
        "io_threads_active",
        "redis_io_threads_active",
        "",
        "1 while the I/O threads work.",
    ),
    gauge(
        "configured_hz",
        "redis_configured_hz",
        "",
        "Configured frequency of background work, per second.",
    ),
    gauge(
        "hz",
        "redis_hz",
        "",
        "Frequency of background work, per second.",
    ),
    gauge(
        "server_threads",
        "redis_server_threads_total",
        "",
        "Threads of a KeyDB server.",
    ),
    // Clients
    gauge(
        "connected_clients",
        "redis_connected_clients",
        "",
        "Clients connected, replicas apart.",
    ),
    gauge(
        "blocked_clients",
        "redis_blocked_clients",
        "",
        "Clients waiting in a blocking command.",
    ),
    gauge(
        "tracking_clients",
        "redis_tracking_clients",
        "",
        "Clients that track keys.",
    ),
    gauge(
        "pubsub_clients",
        "redis_pubsub_clients",
        "",
        "Clients in publish and subscribe mode.",
    ),
    gauge(
        "watching_clients",
        "redis_watching_clients",
        "",
        "Clients that watch keys.",
    ),
    gauge(
        "clients_in_timeout_table",
        "redis_clients_in_timeout_table",
        "",
        "Clients in the table of timeouts.",
    ),
    gauge(
        "total_watched_keys",
        "redis_total_watched_keys",
        "",
        "Keys being watched.",
    ),
    gauge(
        "total_blocking_keys",
        "redis_total_blocking_keys",
        "",
        "Keys that clients wait for.",
    ),
    gauge(
        "total_blocking_keys_on_nokey",
        "redis_total_blocking_keys_on_nokey",
        "",
        "Keys whose deletion unblocks clients.",
    ),
    gauge(
        "maxclients",
        "redis_max_clients",
        "",
        "Clients that the server admits.",
    ),
    gauge(
        "cluster_connections",
        "redis_cluster_connections",
        "",
        "Sockets of the cluster bus.",
    ),
    gauge(
        "client_longest_output_list",
        "redis_client_longest_output_list",
        "",
        "Longest output list of a client (before Redis 5).",
    ),
    gauge(
        "client_biggest_input_buf",
        "redis_client_biggest_input_buf",
        "bytes",
        "Biggest input buffer of a client (before Redis 5).",
    ),
    gauge(
        "client_recent_max_output_buffer",
        "redis_client_recent_max_output_buffer_bytes",
        "bytes",
        "Biggest output buffer of a client lately.",
    ),
    gauge(
        "client_recent_max_input_buffer",
        "redis_client_recent_max_input_buffer_bytes",
        "bytes",
        "Biggest input buffer of a client lately.",
    ),
    // Memory
    gauge(
        "used_memory",
        "redis_memory_used_bytes",
        "bytes",
        "Memory allocated.",
    ),
    gauge(
        "used_memory_rss",
        "redis_memory_used_rss_bytes",
        "bytes",
        "Resident memory, as the operating system sees it.",
    ),
    gauge(
        "used_memory_peak",
        "redis_memory_used_peak_bytes",
        "bytes",
        "Peak of the memory allocated.",
    ),
    gauge(
        "used_memory_overhead",
        "redis_memory_used_overhead_bytes",
        "bytes",
        "Memory for the management of data.",
    ),
    gauge(
        "used_memory_startup",
        "redis_memory_used_startup_bytes",
        "bytes",
        "Memory allocated at start.",
    ),
    gauge(
        "used_memory_dataset",
        "redis_memory_used_dataset_bytes",
        "bytes",
        "Memory for the data itself.",
    ),
    gauge(
        "used_memory_lua",
        "redis_memory_used_lua_bytes",
        "bytes",
        "Memory of the script engine.",
    ),
    gauge(
        "used_memory_scripts",
        "redis_memory_used_scripts_bytes",
        "bytes",
        "Memory of scripts and functions.",
    ),
    gauge(
        "used_memory_scripts_eval",
        "redis_memory_used_scripts_eval_bytes",
        "bytes",
        "Memory of EVAL scripts outside the engine.",
    ),
    gauge(
        "used_memory_functions",
        "redis_memory_used_functions_bytes",
        "bytes",
        "Memory of functions outside the engine.",
    ),
    gauge(
        "used_memory_vm_eval",
        "redis_memory_used_vm_eval_bytes",
        "bytes",
        "Memory of the engine for EVAL.",
    ),
    gauge(
        "used_memory_vm_functions",
        "redis_memory_used_vm_functions_bytes",
        "bytes",
        "Memory of the engine for functions.",
    ),
    gauge(
        "used_memory_vm_total",
        "redis_memory_used_vm_total",
        "bytes",
        "Memory of the script engines.",
    ),
    gauge(
        "maxmemory",
        "redis_memory_max_bytes",
        "bytes",
        "Limit of the memory; 0 without one.",
    ),
    gauge(
        "maxmemory_reservation",
        "redis_memory_max_reservation_bytes",
        "bytes",
        "Memory reserved by a managed server.",
    ),
    gauge(
        "maxmemory_desired_reservation",
        "redis_memory_max_reservation_desired_bytes",
        "bytes",
        "Memory that a managed server would reserve.",
    ),
    gauge(
        "maxfragmentationmemory_reservation",
        "redis_memory_max_fragmentation_reservation_bytes",
        "bytes",
        "Memory reserved for fragmentation by a managed server.",
    ),
    gauge(
        "maxfragmentationmemory_desired_reservation",
        "redis_memory_max_fragmentation_reservation_desired_bytes",
        "bytes",
        "Memory that a managed server would reserve for fragmentation.",
    ),
    gauge(
        "total_system_memory",
        "redis_total_system_memory_bytes",
        "bytes",
        "Memory of the host.",
    ),
    gauge(
        "allocator_active",
        "redis_allocator_active_bytes",
        "bytes",
        "Bytes in active pages of the allocator.",
    ),
    gauge(
        "allocator_allocated",
        "redis_allocator_allocated_bytes",
        "bytes",
        "Bytes allocated from the allocator.",
    ),
    gauge(
        "allocator_resident",
        "redis_allocator_resident_bytes",
        "bytes",
        "Bytes resident in the allocator.",
    ),
    gauge(
        "allocator_muzzy",
        "redis_allocator_muzzy_bytes",
        "bytes",
        "Bytes that the allocator has offered back.",
    ),
    gauge(
        "allocator_frag_ratio",
        "redis_allocator_frag_ratio",
        "ratio",
        "Active by allocated bytes of the allocator.",
    ),
    gauge(
        "allocator_frag_bytes",
        "redis_allocator_frag_bytes",
        "bytes",
        "Active minus allocated bytes of the allocator.",
    ),
    gauge(
        "allocator_rss_ratio",
        "redis_allocator_rss_ratio",
        "ratio",
        "Resident by active bytes of the allocator.",
    ),
    gauge(
        "allocator_rss_bytes",
        "redis_allocator_rss_bytes",
        "bytes",
        "Resident minus active bytes of the allocator.",
    ),
    gauge(
        "mem_fragmentation_ratio",
        "redis_mem_fragmentation_ratio",
        "ratio",
        "Resident by allocated memory.",
    ),
    gauge(
        "mem_fragmentation_bytes",
        "redis_mem_fragmentation_bytes",
        "bytes",
        "Resident minus allocated memory.",
    ),
    gauge(
        "mem_clients_slaves",
        "redis_mem_clients_slaves",
        "bytes",
        "Memory of the buffers of replicas.",
    ),
    gauge(
        "mem_clients_normal",
        "redis_mem_clients_normal",
        "bytes",
        "Memory of the buffers of clients.",
    ),
    gauge(
        "mem_cluster_links",
        "redis_mem_cluster_links_bytes",
        "bytes",
        "Memory of the cluster bus.",
    ),
    gauge(
        "mem_aof_buffer",
        "redis_mem_aof_buffer_bytes",
        "bytes",
        "Memory of the append-only file's buffers.",
    ),
    gauge(
        "mem_replication_backlog",
        "redis_mem_replication_backlog_bytes",
        "bytes",
        "Memory of the replication backlog.",
    ),
    gauge(
        "mem_total_replication_buffers",
        "redis_mem_total_replication_buffers_bytes",
        "bytes",
        "Memory of all replication buffers.",
    ),
    gauge(
        "mem_overhead_db_hashtable_rehashing",
        "redis_mem_overhead_db_hashtable_rehashing_bytes",
        "bytes",
        "Memory of hash tables being rehashed.",
    ),
    gauge(
        "mem_not_counted_for_evict",
        "redis_mem_not_counted_for_eviction_bytes",
        "bytes",
        "Memory that does not count towards eviction.",
    ),
    gauge(
        "number_of_cached_scripts",
        "redis_number_of_cached_scripts",
        "",
        "EVAL scripts cached.",
    ),
    gauge(
        "number_of_functions",
        "redis_number_of_functions",
        "",
        "Functions.",
    ),
    gauge(
        "number_of_libraries",
        "redis_number_of_libraries",
        "",
        "Libraries of functions.",
    ),
    gauge(
        "lazyfree_pending_objects",
        "redis_lazyfree_pending_objects",
        "",
        "Objects waiting to be freed.",
    ),
    gauge(
        "lazyfreed_objects",
        "redis_lazyfreed_objects",
        "",
        "Objects freed in the background.",
    ),
    gauge(
        "active_defrag_running",
        "redis_active_defrag_running",
        "",
        "CPU percentage that defragmentation is meant to use; 0 when it rests.",
    ),
    // Persistence
    gauge(
        "loading",
        "redis_loading_dump_file",
        "",
        "1 while a dump is loaded.",
    ),
    gauge(
        "async_loading",
        "redis_async_loading",
        "",
        "1 while a replica loads data and serves the old.",
    ),
    gauge(
        "rdb_changes_since_last_save",
        "redis_rdb_changes_since_last_save",
        "",
        "Changes since the last dump.",
    ),
    gauge(
        "rdb_bgsave_in_progress",
        "redis_rdb_bgsave_in_progress",
        "",
        "1 while a dump is written.",
    ),
    gauge(
        "rdb_last_save_time",
        "redis_rdb_last_save_timestamp_seconds",
        "seconds",
        "When a dump last succeeded, Unix time.",
    ),
    gauge(
        "rdb_last_bgsave_status",
        "redis_rdb_last_bgsave_status",
        "",
        "1 when the last dump succeeded.",
    ),
    gauge(
        "rdb_last_bgsave_time_sec",
        "redis_rdb_last_bgsave_duration_sec",
        "seconds",
        "Time the last dump took; -1 before the first.",
    ),
    gauge(
        "rdb_current_bgsave_time_sec",
        "redis_rdb_current_bgsave_duration_sec",
        "seconds",
        "Time the dump being written has taken; -1 when none is.",
    ),
    gauge(
        "rdb_saves",
        "redis_rdb_saves_total",
        "",
        "Dumps written since start.",
    ),
    gauge(
        "rdb_last_cow_size",
        "redis_rdb_last_cow_size_bytes",
        "bytes",
        "Memory copied during the last dump.",
    ),
    gauge(
        "rdb_last_load_keys_expired",
        "redis_rdb_last_load_expired_keys",
        "",
        "Keys that had expired when the dump was loaded.",
    ),
    gauge(
        "rdb_last_load_keys_loaded",
        "redis_rdb_last_load_loaded_keys",
        "",
        "Keys loaded from the dump.",
    ),
    gauge(
        "aof_enabled",
        "redis_aof_enabled",
        "",
        "1 when the append-only file is on.",
    ),
    gauge(
        "aof_rewrite_in_progress",
        "redis_aof_rewrite_in_progress",
        "",
        "1 while the append-only file is rewritten.",
    ),
    gauge(
        "aof_rewrite_scheduled",
        "redis_aof_rewrite_scheduled",
        "",
        "1 when a rewrite will follow the dump being written.",
    ),
    gauge(
        "aof_last_rewrite_time_sec",
        "redis_aof_last_rewrite_duration_sec",
        "seconds",
        "Time the last rewrite took; -1 before the first.",
    ),
    gauge(
        "aof_current_rewrite_time_sec",
        "redis_aof_current_rewrite_duration_sec",
        "seconds",
        "Time the rewrite under way has taken; -1 when none is.",
    ),
    gauge(
        "aof_last_bgrewrite_status",
        "redis_aof_last_bgrewrite_status",
        "",
        "1 when the last rewrite succeeded.",
    ),
    gauge(
        "aof_last_write_status",
        "redis_aof_last_write_status",
        "",
        "1 when the last write to the append-only file succeeded.",
    ),
    gauge(
        "aof_last_cow_size",
        "redis_aof_last_cow_size_bytes",
        "bytes",
        "Memory copied during the last rewrite.",
    ),
    gauge(
        "aof_current_size",
        "redis_aof_current_size_bytes",
        "bytes",
        "Size of the append-only file.",
    ),
    gauge(
        "aof_base_size",
        "redis_aof_base_size_bytes",
        "bytes",
        "Its size after the last rewrite or start.",
    ),
    gauge(
        "aof_pending_rewrite",
        "redis_aof_pending_rewrite",
        "",
        "1 when a rewrite is pending.",
    ),
    gauge(
        "aof_buffer_length",
        "redis_aof_buffer_length",
        "bytes",
        "Size of the append-only buffer.",
    ),
    gauge(
        "aof_rewrite_buffer_length",
        "redis_aof_rewrite_buffer_length",
        "bytes",
        "Size of the rewrite buffer.",
    ),
    gauge(
        "aof_pending_bio_fsync",
        "redis_aof_pending_bio_fsync",
        "",
        "Syncs waiting in the background.",
    ),
    gauge(
        "aof_delayed_fsync",
        "redis_aof_delayed_fsync",
        "",
        "Syncs that were delayed.",
    ),
    gauge(
        "module_fork_in_progress",
        "redis_module_fork_in_progress",
        "",
        "1 while a module has forked.",
    ),
    gauge(
        "module_fork_last_cow_size",
        "redis_module_fork_last_cow_size",
        "bytes",
        "Memory copied during a module's last fork.",
    ),
    // Stats
    counter(
        "total_connections_received",
        "redis_connections_received_total",
        "",
        "Connections accepted.",
    ),
    counter(
        "total_commands_processed",
        "redis_commands_processed_total",
        "",
        "Commands processed.",
    ),
    counter(
        "rejected_connections",
        "redis_rejected_connections_total",
        "",
        "Connections refused because of maxclients.",
    ),
    counter(
        "total_net_input_bytes",
        "redis_net_input_bytes_total",
        "bytes",
        "Bytes read from the network.",
    ),
    counter(
        "total_net_output_bytes",
        "redis_net_output_bytes_total",
        "bytes",
        "Bytes written to the network.",
    ),
    counter(
        "total_net_repl_input_bytes",
        "redis_net_repl_input_bytes_total",
        "bytes",
        "Bytes read for replication.",
    ),
    counter(
        "total_net_repl_output_bytes",
        "redis_net_repl_output_bytes_total",
        "bytes",
        "Bytes written for replication.",
    ),
    counter(
        "expired_keys",
        "redis_expired_keys_total",
        "",
        "Keys that expired.",
    ),
    counter(
        "expired_subkeys",
        "redis_expired_subkeys_total",
        "",
        "Hash fields that expired.",
    ),
    counter(
        "evicted_keys",
        "redis_evicted_keys_total",
        "",
        "Keys evicted because of maxmemory.",
    ),
    counter(
        "evicted_clients",
        "redis_evicted_clients_total",
        "",
        "Clients evicted because of maxmemory-clients.",
    ),
    counter(
        "evicted_scripts",
        "redis_evicted_scripts_total",
        "",
        "Scripts evicted.",
    ),
    counter(
        "total_eviction_exceeded_time",
        "redis_eviction_exceeded_time_ms_total",
        "milliseconds",
        "Time that memory was over its limit.",
    ),
    gauge(
        "current_eviction_exceeded_time",
        "redis_current_eviction_exceeded_time_ms",
        "milliseconds",
        "Time since memory went over its limit; 0 when it is not.",
    ),
    counter(
        "expire_cycle_cpu_milliseconds",
        "redis_expire_cycle_cpu_time_ms_total",
        "milliseconds",
        "CPU time spent expiring keys.",
    ),
    counter(
        "expired_time_cap_reached_count",
        "redis_expired_time_cap_reached_total",
        "",
        "Times the expiry of keys was cut short.",
    ),
    gauge(
        "expired_stale_perc",
        "redis_expired_stale_percentage",
        "percent",
        "Keys that have probably expired and are still there.",
    ),
    counter(
        "keyspace_hits",
        "redis_keyspace_hits_total",
        "",
        "Lookups that found their key.",
    ),
    counter(
        "keyspace_misses",
        "redis_keyspace_misses_total",
        "",
        "Lookups that did not.",
    ),
    gauge(
        "pubsub_channels",
        "redis_pubsub_channels",
        "",
        "Channels with subscribers.",
    ),
    gauge(
        "pubsub_patterns",
        "redis_pubsub_patterns",
        "",
        "Patterns with subscribers.",
    ),
    gauge(
        "pubsubshard_channels",
        "redis_pubsubshard_channels",
        "",
        "Shard channels with subscribers.",
    ),
    gauge(
        "migrate_cached_sockets",
        "redis_migrate_cached_sockets_total",
        "",
        "Sockets open for MIGRATE.",
    ),
    gauge(
        "slave_expires_tracked_keys",
        "redis_slave_expires_tracked_keys",
        "",
        "Keys that a writable replica tracks for expiry.",
    ),
    gauge(
        "active_defrag_hits",
        "redis_defrag_hits",
        "",
        "Values moved by defragmentation.",
    ),
    gauge(
        "active_defrag_misses",
        "redis_defrag_misses",
        "",
        "Moves that defragmentation gave up.",
    ),
    gauge(
        "active_defrag_key_hits",
        "redis_defrag_key_hits",
        "",
        "Keys defragmented.",
    ),
    gauge(
        "active_defrag_key_misses",
        "redis_defrag_key_misses",
        "",
        "Keys that defragmentation passed over.",
    ),
    gauge(
        "tracking_total_keys",
        "redis_tracking_total_keys",
        "",
        "Keys tracked for clients.",
    ),
    gauge(
        "tracking_total_items",
        "redis_tracking_total_items",
        "",
        "Items tracked for clients.",
    ),
    gauge(
        "tracking_total_prefixes",
        "redis_tracking_total_prefixes",
        "",
        "Prefixes tracked for clients.",
    ),
    counter(
        "unexpected_error_replies",
        "redis_unexpected_error_replies",
        "",
        "Unexpected errors while loading or replicating.",
    ),
    counter(
        "total_error_replies",
        "redis_total_error_replies",
        "",
        "Errors answered.",
    ),
    counter(
        "dump_payload_sanitizations",
        "redis_dump_payload_sanitizations",
        "",
        "Deep checks of dump payloads.",
    ),
    counter(
        "total_reads_processed",
        "redis_total_reads_processed",
        "",
        "Reads from sockets.",
    ),
    counter(
        "total_writes_processed",
        "redis_total_writes_processed",
        "",
        "Writes to sockets.",
    ),
    counter(
        "io_threaded_reads_processed",
        "redis_io_threaded_reads_processed",
        "",
        "Reads by I/O threads.",
    ),
    counter(
        "io_threaded_writes_processed",
        "redis_io_threaded_writes_processed",
        "",
        "Writes by I/O threads.",
    ),
    counter(
        "reply_buffer_shrinks",
        "redis_reply_buffer_shrinks_total",
        "",
        "Times an output buffer was made smaller.",
    ),
    counter(
        "reply_buffer_expands",
        "redis_reply_buffer_expands_total",
        "",
        "Times an output buffer was made bigger.",
    ),
    counter(
        "eventloop_cycles",
        "redis_eventloop_cycles_total",
        "",
        "Turns of the event loop.",
    ),
    counter(
        "eventloop_duration_sum",
        "redis_eventloop_duration_sum_usec_total",
        "microseconds",
        "Time spent in the event loop.",
    ),
    counter(
        "eventloop_duration_cmd_sum",
        "redis_eventloop_duration_cmd_sum_usec_total",
        "microseconds",
        "Time spent executing commands.",
    ),
    gauge(
        "instantaneous_eventloop_cycles_per_sec",
        "redis_instantaneous_eventloop_cycles_per_sec",
        "",
        "Turns of the event loop in a second, lately.",
    ),
    gauge(
        "instantaneous_eventloop_duration_usec",
        "redis_instantaneous_eventloop_duration_usec",
        "microseconds",
        "Time of one turn of the event loop, lately.",
    ),
    counter(
        "acl_access_denied_auth",
        "redis_acl_access_denied_auth_total",
        "",
        "Logins refused.",
    ),
    counter(
        "acl_access_denied_cmd",
        "redis_acl_access_denied_cmd_total",
        "",
        "Commands refused by access rules.",
    ),
    counter(
        "acl_access_denied_key",
        "redis_acl_access_denied_key_total",
        "",
        "Keys refused by access rules.",
    ),
    counter(
        "acl_access_denied_channel",
        "redis_acl_access_denied_channel_total",
        "",
        "Channels refused by access rules.",
    ),
    counter(
        "client_query_buffer_limit_disconnections",
        "redis_client_query_buffer_limit_disconnections_total",
        "",
        "Clients cut off because of their query buffer.",
    ),
    counter(
        "client_output_buffer_limit_disconnections",
        "redis_client_output_buffer_limit_disconnections_total",
        "",
        "Clients cut off because of their output buffer.",
    ),
    gauge(
        "sync_full",
        "redis_replica_resyncs_full",
        "",
        "Full synchronisations with replicas.",
    ),
    gauge(
        "sync_partial_ok",
        "redis_replica_partial_resync_accepted",
        "",
        "Partial synchronisations accepted.",
    ),
    gauge(
        "sync_partial_err",
        "redis_replica_partial_resync_denied",
        "",
        "Partial synchronisations refused.",
    ),
    // Replication
    gauge(
        "connected_slaves",
        "redis_connected_slaves",
        "",
        "Replicas connected.",
    ),
    gauge(
        "repl_backlog_size",
        "redis_replication_backlog_bytes",
        "bytes",
        "Size of the replication backlog.",
    ),
    gauge(
        "repl_backlog_active",
        "redis_repl_backlog_is_active",
        "",
        "1 when the replication backlog is in use.",
    ),
    gauge(
        "repl_backlog_first_byte_offset",
        "redis_repl_backlog_first_byte_offset",
        "bytes",
        "Offset of the first byte in the backlog.",
    ),
    gauge(
        "repl_backlog_histlen",
        "redis_repl_backlog_history_bytes",
        "bytes",
        "Data in the backlog.",
    ),
    gauge(
        "master_repl_offset",
        "redis_master_repl_offset",
        "bytes",
        "Replication offset of this server.",
    ),
    gauge(
        "second_repl_offset",
        "redis_second_repl_offset",
        "bytes",
        "Offset up to which a former identity is accepted; -1 for none.",
    ),
    gauge(
        "slave_priority",
        "redis_slave_priority",
        "",
        "Priority of this replica in a failover.",
    ),
    // CPU
    counter(
        "used_cpu_sys",
        "redis_cpu_sys_seconds_total",
        "seconds",
        "CPU time in the kernel.",
    ),
    counter(
        "used_cpu_user",
        "redis_cpu_user_seconds_total",
        "seconds",
        "CPU time in user mode.",
    ),
    counter(
        "used_cpu_sys_children",
        "redis_cpu_sys_children_seconds_total",
        "seconds",
        "CPU time of background processes in the kernel.",
    ),
    counter(
        "used_cpu_user_children",
        "redis_cpu_user_children_seconds_total",
        "seconds",
        "CPU time of background processes in user mode.",
    ),
    counter(
        "used_cpu_sys_main_thread",
        "redis_cpu_sys_main_thread_seconds_total",
        "seconds",
        "CPU time of the main thread in the kernel.",
    ),
    counter(
        "used_cpu_user_main_thread",
        "redis_cpu_user_main_thread_seconds_total",
        "seconds",
        "CPU time of the main thread in user mode.",
    ),
    counter(
        "used_active_time_main_thread",
        "redis_active_time_main_thread_seconds_total",
        "seconds",
        "Time that the main thread was busy.",
    ),
    // Sentinel
    gauge(
        "sentinel_masters",
        "redis_sentinel_masters",
        "",
        "Primaries that this sentinel watches.",
    ),
    gauge(
        "sentinel_tilt",
        "redis_sentinel_tilt",
        "",
        "1 while the sentinel distrusts its clock.",
    ),
    gauge(
        "sentinel_running_scripts",
        "redis_sentinel_running_scripts",
        "",
        "Scripts being run.",
    ),
    gauge(
        "sentinel_scripts_queue_length",
        "redis_sentinel_scripts_queue_length",
        "",
        "Scripts waiting to be run.",
    ),
    gauge(
        "sentinel_simulate_failure_flags",
        "redis_sentinel_simulate_failure_flags",
        "",
        "Failures being simulated.",
    ),
    // Cluster
    gauge(
        "cluster_enabled",
        "redis_cluster_enabled",
        "",
        "1 when the server is part of a cluster.",
    ),
    gauge(
        "cluster_state",
        "redis_cluster_state",
        "",
        "1 when the cluster can serve.",
    ),
    gauge(
        "cluster_slots_assigned",
        "redis_cluster_slots_assigned",
        "",
        "Slots that belong to a node.",
    ),
    gauge(
        "cluster_slots_ok",
        "redis_cluster_slots_ok",
        "",
        "Slots whose node is well.",
    ),
    gauge(
        "cluster_slots_pfail",
        "redis_cluster_slots_pfail",
        "",
        "Slots whose node is perhaps down.",
    ),
    gauge(
        "cluster_slots_fail",
        "redis_cluster_slots_fail",
        "",
        "Slots whose node is down.",
    ),
    gauge(
        "cluster_known_nodes",
        "redis_cluster_known_nodes",
        "",
        "Nodes known.",
    ),
    gauge(
        "cluster_size",
        "redis_cluster_size",
        "",
        "Primaries that own slots.",
    ),
    gauge(
        "cluster_current_epoch",
        "redis_cluster_current_epoch",
        "",
        "Epoch of the cluster.",
    ),
    gauge(
        "cluster_my_epoch",
        "redis_cluster_my_epoch",
        "",
        "Epoch of this node.",
    ),
    gauge(
        "cluster_stats_messages_sent",
        "redis_cluster_messages_sent_total",
        "",
        "Messages sent on the cluster bus.",
    ),
    gauge(
        "cluster_stats_messages_received",
        "redis_cluster_messages_received_total",
        "",
        "Messages received on the cluster bus.",
    ),
];
