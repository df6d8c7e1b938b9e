//! How the kernel's own memory is laid out: `/proc/zoneinfo`, `/proc/slabinfo`, kernel samepage
//! merging. Only on request.

use crate::model::MetricDesc;

use super::kernel::PartError;
use super::part::{Context, Lane, Part, counter, gauge};
use super::scan::{lines, signed, split_once, text, whole, words};

/// Pages of each zone of memory.
pub const ZONEINFO: Part = Part {
    name: "zoneinfo",
    default: false,
    lane: Lane::Kernel,
    metrics: &ZONE,
    read: read_zoneinfo,
};
/// Objects of the kernel's allocator. Only root may read them.
pub const SLABINFO: Part = Part {
    name: "slabinfo",
    default: false,
    lane: Lane::Kernel,
    metrics: &SLAB,
    read: read_slabinfo,
};
/// Pages that the kernel has merged because they are alike.
pub const KSMD: Part = Part {
    name: "ksmd",
    default: false,
    lane: Lane::Kernel,
    metrics: &KSM,
    read: read_ksmd,
};

/// Slabs at most.
const MAX_SLABS: usize = 1000;
const ZONES: &[&str] = &["node", "zone"];

/// A metric of a zone.
const fn zone(name: &'static str, help: &'static str) -> MetricDesc {
    gauge(name, "", help, ZONES, "/proc/zoneinfo")
}

/// A counter of a zone.
const fn zone_total(name: &'static str, help: &'static str) -> MetricDesc {
    counter(name, "", help, ZONES, "/proc/zoneinfo")
}

/// The fields of a zone that are shown, in the order of [`ZONE`], sorted.
const FIELDS: [&str; 34] = [
    "high",
    "low",
    "managed",
    "min",
    "nr_active_anon",
    "nr_active_file",
    "nr_anon_pages",
    "nr_anon_transparent_hugepages",
    "nr_dirtied",
    "nr_dirty",
    "nr_file_pages",
    "nr_free_pages",
    "nr_inactive_anon",
    "nr_inactive_file",
    "nr_isolated_anon",
    "nr_isolated_file",
    "nr_kernel_stack",
    "nr_mapped",
    "nr_mlock_stack",
    "nr_shmem",
    "nr_slab_reclaimable",
    "nr_slab_unreclaimable",
    "nr_unevictable",
    "nr_writeback",
    "nr_written",
    "numa_foreign",
    "numa_hit",
    "numa_interleave",
    "numa_local",
    "numa_miss",
    "numa_other",
    "present",
    "scanned",
    "spanned",
];
const ZONE: [MetricDesc; FIELDS.len() + PROTECTION] = [
    zone("node_zoneinfo_high_pages", "High watermark of the zone."),
    zone("node_zoneinfo_low_pages", "Low watermark of the zone."),
    zone(
        "node_zoneinfo_managed_pages",
        "Pages that the allocator manages.",
    ),
    zone("node_zoneinfo_min_pages", "Minimum watermark of the zone."),
    zone(
        "node_zoneinfo_nr_active_anon_pages",
        "Anonymous pages in use lately.",
    ),
    zone(
        "node_zoneinfo_nr_active_file_pages",
        "Pages of files in use lately.",
    ),
    zone("node_zoneinfo_nr_anon_pages", "Anonymous pages mapped."),
    zone(
        "node_zoneinfo_nr_anon_transparent_hugepages",
        "Transparent huge pages of anonymous memory.",
    ),
    zone_total("node_zoneinfo_nr_dirtied_total", "Pages that became dirty."),
    zone("node_zoneinfo_nr_dirty_pages", "Dirty pages."),
    zone("node_zoneinfo_nr_file_pages", "Pages of files."),
    zone("node_zoneinfo_nr_free_pages", "Free pages."),
    zone(
        "node_zoneinfo_nr_inactive_anon_pages",
        "Anonymous pages not in use lately.",
    ),
    zone(
        "node_zoneinfo_nr_inactive_file_pages",
        "Pages of files not in use lately.",
    ),
    zone(
        "node_zoneinfo_nr_isolated_anon_pages",
        "Anonymous pages taken off the lists for a while.",
    ),
    zone(
        "node_zoneinfo_nr_isolated_file_pages",
        "Pages of files taken off the lists for a while.",
    ),
    zone("node_zoneinfo_nr_kernel_stacks", "Kernel stacks."),
    zone("node_zoneinfo_nr_mapped_pages", "Pages of files mapped."),
    zone(
        "node_zoneinfo_nr_mlock_stack_pages",
        "Stack pages locked in memory.",
    ),
    zone("node_zoneinfo_nr_shmem_pages", "Pages of shared memory."),
    zone(
        "node_zoneinfo_nr_slab_reclaimable_pages",
        "Slab pages that can be given back.",
    ),
    zone(
        "node_zoneinfo_nr_slab_unreclaimable_pages",
        "Slab pages that cannot be given back.",
    ),
    zone(
        "node_zoneinfo_nr_unevictable_pages",
        "Pages that cannot be evicted.",
    ),
    zone(
        "node_zoneinfo_nr_writeback_pages",
        "Pages being written back.",
    ),
    zone_total("node_zoneinfo_nr_written_total", "Pages written back."),
    zone_total(
        "node_zoneinfo_numa_foreign_total",
        "Pages meant for this node and taken from another.",
    ),
    zone_total(
        "node_zoneinfo_numa_hit_total",
        "Pages taken from the node they were meant for.",
    ),
    zone_total(
        "node_zoneinfo_numa_interleave_total",
        "Pages taken as interleaving wants them.",
    ),
    zone_total(
        "node_zoneinfo_numa_local_total",
        "Pages taken from the node of the process.",
    ),
    zone_total(
        "node_zoneinfo_numa_miss_total",
        "Pages taken here because the node they were meant for had none.",
    ),
    zone_total(
        "node_zoneinfo_numa_other_total",
        "Pages taken from another node than that of the process.",
    ),
    zone("node_zoneinfo_present_pages", "Pages that are there."),
    zone(
        "node_zoneinfo_scanned_pages",
        "Pages scanned since the last reclaim.",
    ),
    zone("node_zoneinfo_spanned_pages", "Pages that the zone spans."),
    zone(
        "node_zoneinfo_protection_0",
        "Pages kept from requests that could use a higher zone.",
    ),
    zone(
        "node_zoneinfo_protection_1",
        "Pages kept from requests that could use a higher zone.",
    ),
    zone(
        "node_zoneinfo_protection_2",
        "Pages kept from requests that could use a higher zone.",
    ),
    zone(
        "node_zoneinfo_protection_3",
        "Pages kept from requests that could use a higher zone.",
    ),
    zone(
        "node_zoneinfo_protection_4",
        "Pages kept from requests that could use a higher zone.",
    ),
];
/// Values of `protection` at most: one for each zone that there can be.
const PROTECTION: usize = 5;

fn read_zoneinfo(context: &mut Context<'_>) -> Result<(), PartError> {
    let (mut node, mut zone) = (String::new(), String::new());
    for line in lines(context.kernel.proc("zoneinfo")?) {
        if let Some((found, rest)) = line
            .strip_prefix(b"Node ")
            .and_then(|rest| split_once(rest, b','))
        {
            node = text(found.trim_ascii()).into_owned();
            zone = words(rest)
                .nth(1)
                .map(|name| text(name).into_owned())
                .unwrap_or_default();
            continue;
        }
        let labels = [("node", node.as_str()), ("zone", zone.as_str())];
        let mut parts = words(line);
        let Some(key) = parts.next() else { continue };
        match key {
            // Those of single CPUs follow.
            b"pagesets" | b"cpu:" | b"vm" => {}
            b"protection:" => {
                for (desc, value) in ZONE[FIELDS.len()..].iter().zip(parts.filter_map(listed)) {
                    context.batch.push(desc, &labels, value as f64);
                }
            }
            // `pages free 12` stands for the zone's `nr_free_pages`, which follows.
            _ => {
                let name = text(key);
                let Ok(index) = FIELDS.binary_search(&&*name) else {
                    continue;
                };
                if let Some(value) = context.memory.lines.take(parts.next().and_then(whole)) {
                    context.batch.push(&ZONE[index], &labels, value as f64);
                }
            }
        }
    }
    Ok(())
}

/// The number of `(12,` and `34)`.
fn listed(word: &[u8]) -> Option<u64> {
    let word = word.strip_prefix(b"(").unwrap_or(word);
    whole(
        word.strip_suffix(b",")
            .or_else(|| word.strip_suffix(b")"))
            .unwrap_or(word),
    )
}

const NAME: &[&str] = &["slab"];
const SLAB: [MetricDesc; 5] = [
    gauge(
        "node_slabinfo_active_objects",
        "",
        "Objects in use.",
        NAME,
        "/proc/slabinfo active_objs",
    ),
    gauge(
        "node_slabinfo_objects",
        "",
        "Objects there are.",
        NAME,
        "/proc/slabinfo num_objs",
    ),
    gauge(
        "node_slabinfo_object_size_bytes",
        "bytes",
        "Size of one object.",
        NAME,
        "/proc/slabinfo objsize",
    ),
    gauge(
        "node_slabinfo_objects_per_slab",
        "",
        "Objects in one slab.",
        NAME,
        "/proc/slabinfo objperslab",
    ),
    gauge(
        "node_slabinfo_pages_per_slab",
        "",
        "Pages of one slab.",
        NAME,
        "/proc/slabinfo pagesperslab",
    ),
];

fn read_slabinfo(context: &mut Context<'_>) -> Result<(), PartError> {
    let (mut shown, mut omitted) = (0, 0);
    // A version and the names of the columns come first.
    for line in lines(context.kernel.proc("slabinfo")?)
        .filter(|line| !line.starts_with(b"#") && !line.starts_with(b"slabinfo"))
    {
        let mut parts = words(line);
        let Some(name) = parts.next().map(text) else {
            continue;
        };
        let numbers: Option<Vec<u64>> = parts.take(SLAB.len()).map(whole).collect();
        let numbers = context
            .memory
            .lines
            .take(numbers.filter(|numbers| numbers.len() == SLAB.len()));
        match numbers {
            Some(_) if shown == MAX_SLABS => omitted += 1,
            Some(numbers) => {
                shown += 1;
                for (desc, value) in SLAB.iter().zip(numbers) {
                    context.batch.push(desc, &[("slab", &name)], value as f64);
                }
            }
            None => {}
        }
    }
    context.memory.omitted = Some(omitted);
    Ok(())
}

/// A number of the merger.
const fn ksm(name: &'static str, unit: &'static str, help: &'static str) -> MetricDesc {
    gauge(name, unit, help, &[], "/sys/kernel/mm/ksm")
}

const KSM: [MetricDesc; 10] = [
    counter(
        "node_ksmd_full_scans_total",
        "",
        "How often all memory that may be merged was scanned.",
        &[],
        "/sys/kernel/mm/ksm",
    ),
    ksm(
        "node_ksmd_general_profit_bytes",
        "bytes",
        "Memory that merging saves, less what it needs itself.",
    ),
    ksm(
        "node_ksmd_merge_across_nodes",
        "",
        "1 when pages of different NUMA nodes are merged.",
    ),
    ksm("node_ksmd_pages_shared", "", "Merged pages in use."),
    ksm("node_ksmd_pages_sharing", "", "Pages that share them."),
    ksm(
        "node_ksmd_pages_to_scan",
        "",
        "Pages to scan before the next sleep.",
    ),
    ksm(
        "node_ksmd_pages_unshared",
        "",
        "Pages unlike all others, looked at again and again.",
    ),
    ksm(
        "node_ksmd_pages_volatile",
        "",
        "Pages that change too fast.",
    ),
    ksm(
        "node_ksmd_run",
        "",
        "1 when merging is on, 2 when what was merged is split again, else 0.",
    ),
    ksm(
        "node_ksmd_sleep_seconds",
        "seconds",
        "Sleep between two scans.",
    ),
];
/// The files of [`KSM`], and the factor to its unit.
const KSM_FILES: [(&str, f64); KSM.len()] = [
    ("full_scans", 1.0),
    ("general_profit", 1.0),
    ("merge_across_nodes", 1.0),
    ("pages_shared", 1.0),
    ("pages_sharing", 1.0),
    ("pages_to_scan", 1.0),
    ("pages_unshared", 1.0),
    ("pages_volatile", 1.0),
    ("run", 1.0),
    ("sleep_millisecs", 1e-3),
];

fn read_ksmd(context: &mut Context<'_>) -> Result<(), PartError> {
    let folder = context.kernel.in_sys("kernel/mm/ksm");
    if !folder.is_dir() {
        return Err(PartError::Absent);
    }
    for (desc, (file, factor)) in KSM.iter().zip(KSM_FILES) {
        if let Some(value) = context
            .kernel
            .text(&folder.join(file))
            .and_then(|text| signed(text.as_bytes()))
        {
            context.batch.push(desc, &[], value * factor);
        }
    }
    Ok(())
}
