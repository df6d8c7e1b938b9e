//! `/proc/meminfo` and, on request, each NUMA node's `meminfo` and `numastat` (proc(5),
//! `Documentation/admin-guide/numastat.rst`).

use crate::model::{MetricDesc, MetricKind};

use super::kernel::{PartError, names};
use super::part::{Context, Lane, Part, find, gauge};
use super::scan::{lines, text, whole, words};

/// The machine's memory.
pub const PART: Part = Part {
    name: "meminfo",
    default: true,
    lane: Lane::Kernel,
    metrics: METRICS,
    read,
};
/// Memory of each NUMA node, only on request: some 50 series a node. Its names are those of the
/// kernel's fields.
pub const NUMA: Part = Part {
    name: "meminfo_numa",
    default: false,
    lane: Lane::Kernel,
    metrics: &[],
    read: read_numa,
};

const SOURCE: &str = "/proc/meminfo";
const METRICS: &[MetricDesc] = &[
    gauge(
        "node_memory_Active_anon_bytes",
        "bytes",
        "Field Active(anon) of /proc/meminfo, in bytes.",
        &[],
        SOURCE,
    ),
    gauge(
        "node_memory_Active_bytes",
        "bytes",
        "Field Active of /proc/meminfo, in bytes.",
        &[],
        SOURCE,
    ),
    gauge(
        "node_memory_Active_file_bytes",
        "bytes",
        "Field Active(file) of /proc/meminfo, in bytes.",
        &[],
        SOURCE,
    ),
    gauge(
        "node_memory_AnonHugePages_bytes",
        "bytes",
        "Field AnonHugePages of /proc/meminfo, in bytes.",
        &[],
        SOURCE,
    ),
    gauge(
        "node_memory_AnonPages_bytes",
        "bytes",
        "Field AnonPages of /proc/meminfo, in bytes.",
        &[],
        SOURCE,
    ),
    gauge(
        "node_memory_Balloon_bytes",
        "bytes",
        "Field Balloon of /proc/meminfo, in bytes.",
        &[],
        SOURCE,
    ),
    gauge(
        "node_memory_Bounce_bytes",
        "bytes",
        "Field Bounce of /proc/meminfo, in bytes.",
        &[],
        SOURCE,
    ),
    gauge(
        "node_memory_Buffers_bytes",
        "bytes",
        "Field Buffers of /proc/meminfo, in bytes.",
        &[],
        SOURCE,
    ),
    gauge(
        "node_memory_Cached_bytes",
        "bytes",
        "Field Cached of /proc/meminfo, in bytes.",
        &[],
        SOURCE,
    ),
    gauge(
        "node_memory_CommitLimit_bytes",
        "bytes",
        "Field CommitLimit of /proc/meminfo, in bytes.",
        &[],
        SOURCE,
    ),
    gauge(
        "node_memory_Committed_AS_bytes",
        "bytes",
        "Field Committed_AS of /proc/meminfo, in bytes.",
        &[],
        SOURCE,
    ),
    gauge(
        "node_memory_DirectMap1G_bytes",
        "bytes",
        "Field DirectMap1G of /proc/meminfo, in bytes.",
        &[],
        SOURCE,
    ),
    gauge(
        "node_memory_DirectMap2M_bytes",
        "bytes",
        "Field DirectMap2M of /proc/meminfo, in bytes.",
        &[],
        SOURCE,
    ),
    gauge(
        "node_memory_DirectMap4k_bytes",
        "bytes",
        "Field DirectMap4k of /proc/meminfo, in bytes.",
        &[],
        SOURCE,
    ),
    gauge(
        "node_memory_Dirty_bytes",
        "bytes",
        "Field Dirty of /proc/meminfo, in bytes.",
        &[],
        SOURCE,
    ),
    gauge(
        "node_memory_FileHugePages_bytes",
        "bytes",
        "Field FileHugePages of /proc/meminfo, in bytes.",
        &[],
        SOURCE,
    ),
    gauge(
        "node_memory_FilePmdMapped_bytes",
        "bytes",
        "Field FilePmdMapped of /proc/meminfo, in bytes.",
        &[],
        SOURCE,
    ),
    gauge(
        "node_memory_HardwareCorrupted_bytes",
        "bytes",
        "Field HardwareCorrupted of /proc/meminfo, in bytes.",
        &[],
        SOURCE,
    ),
    gauge(
        "node_memory_HugePages_Free",
        "",
        "Field HugePages_Free of /proc/meminfo.",
        &[],
        SOURCE,
    ),
    gauge(
        "node_memory_HugePages_Rsvd",
        "",
        "Field HugePages_Rsvd of /proc/meminfo.",
        &[],
        SOURCE,
    ),
    gauge(
        "node_memory_HugePages_Surp",
        "",
        "Field HugePages_Surp of /proc/meminfo.",
        &[],
        SOURCE,
    ),
    gauge(
        "node_memory_HugePages_Total",
        "",
        "Field HugePages_Total of /proc/meminfo.",
        &[],
        SOURCE,
    ),
    gauge(
        "node_memory_Hugepagesize_bytes",
        "bytes",
        "Field Hugepagesize of /proc/meminfo, in bytes.",
        &[],
        SOURCE,
    ),
    gauge(
        "node_memory_Hugetlb_bytes",
        "bytes",
        "Field Hugetlb of /proc/meminfo, in bytes.",
        &[],
        SOURCE,
    ),
    gauge(
        "node_memory_Inactive_anon_bytes",
        "bytes",
        "Field Inactive(anon) of /proc/meminfo, in bytes.",
        &[],
        SOURCE,
    ),
    gauge(
        "node_memory_Inactive_bytes",
        "bytes",
        "Field Inactive of /proc/meminfo, in bytes.",
        &[],
        SOURCE,
    ),
    gauge(
        "node_memory_Inactive_file_bytes",
        "bytes",
        "Field Inactive(file) of /proc/meminfo, in bytes.",
        &[],
        SOURCE,
    ),
    gauge(
        "node_memory_KReclaimable_bytes",
        "bytes",
        "Field KReclaimable of /proc/meminfo, in bytes.",
        &[],
        SOURCE,
    ),
    gauge(
        "node_memory_KernelStack_bytes",
        "bytes",
        "Field KernelStack of /proc/meminfo, in bytes.",
        &[],
        SOURCE,
    ),
    gauge(
        "node_memory_Mapped_bytes",
        "bytes",
        "Field Mapped of /proc/meminfo, in bytes.",
        &[],
        SOURCE,
    ),
    gauge(
        "node_memory_MemAvailable_bytes",
        "bytes",
        "Field MemAvailable of /proc/meminfo, in bytes.",
        &[],
        SOURCE,
    ),
    gauge(
        "node_memory_MemFree_bytes",
        "bytes",
        "Field MemFree of /proc/meminfo, in bytes.",
        &[],
        SOURCE,
    ),
    gauge(
        "node_memory_MemTotal_bytes",
        "bytes",
        "Field MemTotal of /proc/meminfo, in bytes.",
        &[],
        SOURCE,
    ),
    gauge(
        "node_memory_Mlocked_bytes",
        "bytes",
        "Field Mlocked of /proc/meminfo, in bytes.",
        &[],
        SOURCE,
    ),
    gauge(
        "node_memory_NFS_Unstable_bytes",
        "bytes",
        "Field NFS_Unstable of /proc/meminfo, in bytes.",
        &[],
        SOURCE,
    ),
    gauge(
        "node_memory_PageTables_bytes",
        "bytes",
        "Field PageTables of /proc/meminfo, in bytes.",
        &[],
        SOURCE,
    ),
    gauge(
        "node_memory_Percpu_bytes",
        "bytes",
        "Field Percpu of /proc/meminfo, in bytes.",
        &[],
        SOURCE,
    ),
    gauge(
        "node_memory_SReclaimable_bytes",
        "bytes",
        "Field SReclaimable of /proc/meminfo, in bytes.",
        &[],
        SOURCE,
    ),
    gauge(
        "node_memory_SUnreclaim_bytes",
        "bytes",
        "Field SUnreclaim of /proc/meminfo, in bytes.",
        &[],
        SOURCE,
    ),
    gauge(
        "node_memory_SecPageTables_bytes",
        "bytes",
        "Field SecPageTables of /proc/meminfo, in bytes.",
        &[],
        SOURCE,
    ),
    gauge(
        "node_memory_ShmemHugePages_bytes",
        "bytes",
        "Field ShmemHugePages of /proc/meminfo, in bytes.",
        &[],
        SOURCE,
    ),
    gauge(
        "node_memory_ShmemPmdMapped_bytes",
        "bytes",
        "Field ShmemPmdMapped of /proc/meminfo, in bytes.",
        &[],
        SOURCE,
    ),
    gauge(
        "node_memory_Shmem_bytes",
        "bytes",
        "Field Shmem of /proc/meminfo, in bytes.",
        &[],
        SOURCE,
    ),
    gauge(
        "node_memory_Slab_bytes",
        "bytes",
        "Field Slab of /proc/meminfo, in bytes.",
        &[],
        SOURCE,
    ),
    gauge(
        "node_memory_SwapCached_bytes",
        "bytes",
        "Field SwapCached of /proc/meminfo, in bytes.",
        &[],
        SOURCE,
    ),
    gauge(
        "node_memory_SwapFree_bytes",
        "bytes",
        "Field SwapFree of /proc/meminfo, in bytes.",
        &[],
        SOURCE,
    ),
    gauge(
        "node_memory_SwapTotal_bytes",
        "bytes",
        "Field SwapTotal of /proc/meminfo, in bytes.",
        &[],
        SOURCE,
    ),
    gauge(
        "node_memory_Unevictable_bytes",
        "bytes",
        "Field Unevictable of /proc/meminfo, in bytes.",
        &[],
        SOURCE,
    ),
    gauge(
        "node_memory_VmallocChunk_bytes",
        "bytes",
        "Field VmallocChunk of /proc/meminfo, in bytes.",
        &[],
        SOURCE,
    ),
    gauge(
        "node_memory_VmallocTotal_bytes",
        "bytes",
        "Field VmallocTotal of /proc/meminfo, in bytes.",
        &[],
        SOURCE,
    ),
    gauge(
        "node_memory_VmallocUsed_bytes",
        "bytes",
        "Field VmallocUsed of /proc/meminfo, in bytes.",
        &[],
        SOURCE,
    ),
    gauge(
        "node_memory_WritebackTmp_bytes",
        "bytes",
        "Field WritebackTmp of /proc/meminfo, in bytes.",
        &[],
        SOURCE,
    ),
    gauge(
        "node_memory_Writeback_bytes",
        "bytes",
        "Field Writeback of /proc/meminfo, in bytes.",
        &[],
        SOURCE,
    ),
    gauge(
        "node_memory_Zswap_bytes",
        "bytes",
        "Field Zswap of /proc/meminfo, in bytes.",
        &[],
        SOURCE,
    ),
    gauge(
        "node_memory_Zswapped_bytes",
        "bytes",
        "Field Zswapped of /proc/meminfo, in bytes.",
        &[],
        SOURCE,
    ),
];

fn read(context: &mut Context<'_>) -> Result<(), PartError> {
    let mut name = String::from("node_memory_");
    let bare = name.len();
    for line in lines(context.kernel.proc("meminfo")?) {
        let mut parts = words(line);
        let pair = parts.next().zip(parts.next().and_then(whole));
        let Some((field, value)) = context.memory.lines.take(pair) else {
            continue;
        };
        let kilobytes = parts.next().is_some();
        name.truncate(bare);
        push_field(&mut name, field);
        if kilobytes {
            name.push_str("_bytes");
        }
        let value = value as f64 * if kilobytes { 1024.0 } else { 1.0 };
        // A newer kernel's field is left out: no dashboard knows it, and its camel case would stand
        // out in `promtool check metrics`.
        if let Some(desc) = find(METRICS, &name) {
            context.batch.push(desc, &[], value);
        }
    }
    Ok(())
}

/// `Active(anon):` becomes `Active_anon`.
fn push_field(name: &mut String, field: &[u8]) {
    let text = text(field);
    let trimmed = text.trim_end_matches(':');
    name.extend(trimmed.chars().filter_map(|c| match c {
        '(' => Some('_'),
        ')' => None,
        c if c.is_ascii_alphanumeric() => Some(c),
        _ => Some('_'),
    }));
}

fn read_numa(context: &mut Context<'_>) -> Result<(), PartError> {
    let folder = context.kernel.in_sys("devices/system/node");
    for node in names(&folder)?
        .iter()
        .filter_map(|name| name.strip_prefix("node"))
        .filter(|id| whole(id.as_bytes()).is_some())
    {
        let own = folder.join(format!("node{node}"));
        for line in lines(context.kernel.once(&own.join("meminfo"))?) {
            let mut parts = words(line).skip(2);
            let (Some(field), Some(value)) = (parts.next(), parts.next().and_then(whole)) else {
                continue;
            };
            let mut name = String::from("node_memory_numa_");
            push_field(&mut name, field);
            let value = value as f64 * if parts.next().is_some() { 1024.0 } else { 1.0 };
            context.batch.push_named(
                &name,
                MetricKind::Gauge,
                "A field of a NUMA node's meminfo.",
                &[("node", node)],
                value,
            );
        }
        for line in lines(context.kernel.once(&own.join("numastat"))?) {
            let mut parts = words(line);
            let (Some(field), Some(value)) = (parts.next(), parts.next().and_then(whole)) else {
                continue;
            };
            let name = format!("node_memory_numa_{}_total", text(field));
            context.batch.push_named(
                &name,
                MetricKind::Counter,
                "A field of a NUMA node's numastat.",
                &[("node", node)],
                value as f64,
            );
        }
    }
    Ok(())
}
