//! Packets waiting for a CPU (`/proc/net/softnet_stat`), connection tracking
//! (`/proc/net/stat/nf_conntrack`), neighbours (`/proc/net/arp`).

use std::collections::BTreeMap;

use crate::model::MetricDesc;

use super::kernel::PartError;
use super::part::{Context, Lane, Part, counter, gauge};
use super::scan::{hex, lines, text, whole, words};

/// The receive path of each CPU.
pub const SOFTNET: Part = Part {
    name: "softnet",
    default: true,
    lane: Lane::Kernel,
    metrics: &SOFT,
    read: read_softnet,
};
/// The table of connections.
pub const CONNTRACK: Part = Part {
    name: "conntrack",
    default: true,
    lane: Lane::Kernel,
    metrics: &TRACK,
    read: read_conntrack,
};
/// The neighbour table.
pub const ARP: Part = Part {
    name: "arp",
    default: true,
    lane: Lane::Kernel,
    metrics: &[ENTRIES],
    read: read_arp,
};

const SOFTNET_STAT: &str = "/proc/net/softnet_stat";
const SOFT: [MetricDesc; 7] = [
    counter(
        "node_softnet_processed_total",
        "",
        "Packets processed.",
        &["cpu"],
        SOFTNET_STAT,
    ),
    counter(
        "node_softnet_dropped_total",
        "",
        "Packets dropped.",
        &["cpu"],
        SOFTNET_STAT,
    ),
    counter(
        "node_softnet_times_squeezed_total",
        "",
        "How often processing ran out of its share of time.",
        &["cpu"],
        SOFTNET_STAT,
    ),
    counter(
        "node_softnet_cpu_collision_total",
        "",
        "Collisions for a device lock while sending.",
        &["cpu"],
        SOFTNET_STAT,
    ),
    counter(
        "node_softnet_received_rps_total",
        "",
        "How often another CPU asked this one to process packets.",
        &["cpu"],
        SOFTNET_STAT,
    ),
    counter(
        "node_softnet_flow_limit_count_total",
        "",
        "How often the flow limit was reached.",
        &["cpu"],
        SOFTNET_STAT,
    ),
    gauge(
        "node_softnet_backlog_len",
        "",
        "Packets in the backlog.",
        &["cpu"],
        SOFTNET_STAT,
    ),
];
/// The column of each.
const SOFT_COLUMNS: [usize; 7] = [0, 1, 2, 8, 9, 10, 11];
/// The column that holds the number of the CPU (since Linux 5.14).
const SOFT_CPU: usize = 12;

const NF_CONNTRACK: &str = "/proc/net/stat/nf_conntrack, sum of all CPUs";
const TRACK: [MetricDesc; 10] = [
    gauge(
        "node_nf_conntrack_entries",
        "",
        "Connections in the table.",
        &[],
        "/proc/sys/net/netfilter/nf_conntrack_count",
    ),
    gauge(
        "node_nf_conntrack_entries_limit",
        "",
        "Connections that fit.",
        &[],
        "/proc/sys/net/netfilter/nf_conntrack_max",
    ),
    gauge(
        "node_nf_conntrack_stat_found",
        "",
        "Entries found by a search.",
        &[],
        NF_CONNTRACK,
    ),
    gauge(
        "node_nf_conntrack_stat_invalid",
        "",
        "Packets that cannot be tracked.",
        &[],
        NF_CONNTRACK,
    ),
    gauge(
        "node_nf_conntrack_stat_ignore",
        "",
        "Packets of connections already tracked.",
        &[],
        NF_CONNTRACK,
    ),
    gauge(
        "node_nf_conntrack_stat_insert",
        "",
        "Entries made.",
        &[],
        NF_CONNTRACK,
    ),
    gauge(
        "node_nf_conntrack_stat_insert_failed",
        "",
        "Entries that could not be made.",
        &[],
        NF_CONNTRACK,
    ),
    gauge(
        "node_nf_conntrack_stat_drop",
        "",
        "Packets dropped because no entry was free.",
        &[],
        NF_CONNTRACK,
    ),
    gauge(
        "node_nf_conntrack_stat_early_drop",
        "",
        "Entries given up to make room.",
        &[],
        NF_CONNTRACK,
    ),
    gauge(
        "node_nf_conntrack_stat_search_restart",
        "",
        "Searches begun again because the table grew.",
        &[],
        NF_CONNTRACK,
    ),
];
const TRACK_FIELDS: [&[u8]; 8] = [
    b"found",
    b"invalid",
    b"ignore",
    b"insert",
    b"insert_failed",
    b"drop",
    b"early_drop",
    b"search_restart",
];

const ENTRIES: MetricDesc = gauge(
    "node_arp_entries",
    "",
    "Entries of the neighbour table, for each interface.",
    &["device"],
    "/proc/net/arp",
);

fn read_softnet(context: &mut Context<'_>) -> Result<(), PartError> {
    for (row, line) in lines(context.kernel.proc("net/softnet_stat")?).enumerate() {
        let columns: Option<Vec<u64>> = words(line).map(hex).collect();
        let Some(columns) = context.memory.lines.take(columns) else {
            continue;
        };
        let cpu = columns
            .get(SOFT_CPU)
            .copied()
            .unwrap_or(row as u64)
            .to_string();
        for (desc, column) in SOFT.iter().zip(SOFT_COLUMNS) {
            if let Some(value) = columns.get(column) {
                context.batch.push(desc, &[("cpu", &cpu)], *value as f64);
            }
        }
    }
    Ok(())
}

fn read_conntrack(context: &mut Context<'_>) -> Result<(), PartError> {
    for (desc, path) in TRACK.iter().zip([
        "sys/net/netfilter/nf_conntrack_count",
        "sys/net/netfilter/nf_conntrack_max",
    ]) {
        let value =
            whole(context.kernel.proc(path)?.trim_ascii()).ok_or(PartError::Malformed { path })?;
        context.batch.push(desc, &[], value as f64);
    }
    let path = "net/stat/nf_conntrack";
    let mut all = lines(context.kernel.proc(path)?);
    let heads: Vec<&[u8]> = all
        .next()
        .map(|line| words(line).collect())
        .unwrap_or_default();
    let mut sums = [0_u64; TRACK_FIELDS.len()];
    for line in all {
        for (head, value) in heads.iter().zip(words(line).filter_map(hex)) {
            if let Some(index) = TRACK_FIELDS.iter().position(|field| field == head) {
                sums[index] = sums[index].wrapping_add(value);
            }
        }
    }
    for (desc, sum) in TRACK[2..].iter().zip(sums) {
        context.batch.push(desc, &[], sum as f64);
    }
    Ok(())
}

fn read_arp(context: &mut Context<'_>) -> Result<(), PartError> {
    let mut entries: BTreeMap<&[u8], u32> = BTreeMap::new();
    for line in lines(context.kernel.proc("net/arp")?).skip(1) {
        if let Some(device) = words(line).nth(5) {
            *entries.entry(device).or_default() += 1;
        }
    }
    for (device, count) in entries.iter().take(context.settings.max_objects) {
        context
            .batch
            .push(&ENTRIES, &[("device", &text(device))], f64::from(*count));
    }
    Ok(())
}
