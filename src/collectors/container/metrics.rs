//! Every metric of the collector: cAdvisor's names and labels, and what the engine says of a
//! container.

use crate::model::MetricKind::{Counter, Gauge};

/// Labels of every container.
macro_rules! labels {
    ($($more:literal),*) => {
        &["id", "name", "image", "container_label_com_docker_compose_project", "container_label_com_docker_compose_service" $(, $more)*]
    };
}

metrics! {
    CPU "container_cpu_usage_seconds_total" Counter "seconds" labels!("cpu"), "CPU time.", "cpu.stat usage_usec; cpuacct.usage";
    CPU_USER "container_cpu_user_seconds_total" Counter "seconds" labels!(), "CPU time in user mode.", "cpu.stat user_usec; cpuacct.stat";
    CPU_SYSTEM "container_cpu_system_seconds_total" Counter "seconds" labels!(), "CPU time in the kernel.", "cpu.stat system_usec; cpuacct.stat";
    PERIODS "container_cpu_cfs_periods_total" Counter "" labels!(), "Periods of the CPU limit.", "cpu.stat nr_periods";
    THROTTLED "container_cpu_cfs_throttled_periods_total" Counter "" labels!(), "Periods in which the CPU limit was reached.", "cpu.stat nr_throttled";
    THROTTLED_TIME "container_cpu_cfs_throttled_seconds_total" Counter "seconds" labels!(), "Time for which the CPU limit held it up.", "cpu.stat throttled_usec, throttled_time";
    QUOTA "container_spec_cpu_quota" Gauge "microseconds" labels!(), "CPU time that it may take in a period; absent without a limit.", "cpu.max; cpu.cfs_quota_us";
    PERIOD "container_spec_cpu_period" Gauge "microseconds" labels!(), "The period of the CPU limit.", "cpu.max; cpu.cfs_period_us";
    MEMORY "container_memory_usage_bytes" Gauge "bytes" labels!(), "Memory in use, page cache included.", "memory.current; memory.usage_in_bytes";
    WORKING_SET "container_memory_working_set_bytes" Gauge "bytes" labels!(), "Memory in use without page cache that can go at once.", "memory.current, memory.stat inactive_file";
    RSS "container_memory_rss" Gauge "bytes" labels!(), "Anonymous memory.", "memory.stat anon; rss";
    CACHE "container_memory_cache" Gauge "bytes" labels!(), "Page cache.", "memory.stat file; cache";
    SWAP "container_memory_swap" Gauge "bytes" labels!(), "Swap.", "memory.swap.current; memory.stat swap";
    LIMIT "container_spec_memory_limit_bytes" Gauge "bytes" labels!(), "Limit of the memory; 0 for none.", "memory.max; memory.limit_in_bytes";
    OOM "container_oom_events_total" Counter "" labels!(), "Processes that were killed because the memory limit was reached.", "memory.events oom_kill; memory.oom_control";
    PROCESSES "container_processes" Gauge "" labels!(), "Processes and threads.", "pids.current";
    STARTED "container_start_time_seconds" Gauge "seconds" labels!(), "When its first process began, Unix time.", "/proc/[pid]/stat starttime";
    LAST_SEEN "container_last_seen" Gauge "seconds" labels!(), "When it was last seen running, Unix time; kept for an hour after that, five minutes without a name.", "nightbell";
    READ_BYTES "container_fs_reads_bytes_total" Counter "bytes" labels!("device"), "Bytes read.", "io.stat rbytes; blkio.throttle.io_service_bytes";
    WRITTEN_BYTES "container_fs_writes_bytes_total" Counter "bytes" labels!("device"), "Bytes written.", "io.stat wbytes; blkio.throttle.io_service_bytes";
    READS "container_fs_reads_total" Counter "" labels!("device"), "Reads.", "io.stat rios; blkio.throttle.io_serviced";
    WRITES "container_fs_writes_total" Counter "" labels!("device"), "Writes.", "io.stat wios; blkio.throttle.io_serviced";
    RECEIVED "container_network_receive_bytes_total" Counter "bytes" labels!("interface"), "Bytes received.", "/proc/[pid]/net/dev";
    RECEIVED_PACKETS "container_network_receive_packets_total" Counter "" labels!("interface"), "Packets received.", "/proc/[pid]/net/dev";
    RECEIVE_ERRORS "container_network_receive_errors_total" Counter "" labels!("interface"), "Errors while receiving.", "/proc/[pid]/net/dev";
    RECEIVE_DROPPED "container_network_receive_packets_dropped_total" Counter "" labels!("interface"), "Packets dropped while receiving.", "/proc/[pid]/net/dev";
    SENT "container_network_transmit_bytes_total" Counter "bytes" labels!("interface"), "Bytes sent.", "/proc/[pid]/net/dev";
    SENT_PACKETS "container_network_transmit_packets_total" Counter "" labels!("interface"), "Packets sent.", "/proc/[pid]/net/dev";
    SEND_ERRORS "container_network_transmit_errors_total" Counter "" labels!("interface"), "Errors while sending.", "/proc/[pid]/net/dev";
    SEND_DROPPED "container_network_transmit_packets_dropped_total" Counter "" labels!("interface"), "Packets dropped while sending.", "/proc/[pid]/net/dev";
    UP "container_up" Gauge "" labels!(), "1 while it runs; 0 when it has ended, and for an hour when it has gone.", "cgroups; engine";
    STATE "container_state" Gauge "" labels!("state"), "1; the state that the engine names.", "engine: State";
    HEALTHY "container_healthy" Gauge "" labels!(), "1 when its health check succeeds, 0 when not; absent without one.", "engine: Status";
    RESTARTS "container_restarts_total" Counter "" labels!(), "How often the engine started it anew.", "engine: RestartCount";
    EXIT_CODE "container_exit_code" Gauge "" labels!(), "Exit status of one that has ended.", "engine: State.ExitCode";
    SOCKET_UP "container_engine_up" Gauge "" &[], "1 when the engine answers at its socket.", "engine";
    FOUND "container_count" Gauge "" &[], "Containers that were found.", "cgroups; engine";
    OMITTED "container_omitted" Gauge "" &[], "Containers beyond the bound (limit), which are not shown.", "nightbell";
    UNREADABLE "container_unreadable" Gauge "" &[], "Containers whose figures could not be read.", "cgroups";
}
