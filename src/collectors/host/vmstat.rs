//! `/proc/vmstat`: paging, swapping, faults, kills for lack of memory (proc(5)).
//!
//! It takes the fields that node_exporter takes by default and those that published dashboards use
//! beyond them.

use crate::model::MetricDesc;

use super::kernel::PartError;
use super::part::{Context, Lane, Part, find, untyped};
use super::scan::{lines, split_once, text, whole};

/// Virtual memory.
pub const PART: Part = Part {
    name: "vmstat",
    default: true,
    lane: Lane::Kernel,
    metrics: METRICS,
    read,
};

const METRICS: &[MetricDesc] = &[
    untyped(
        "node_vmstat_drop_slab",
        "Field drop_slab of /proc/vmstat.",
        "/proc/vmstat",
    ),
    untyped(
        "node_vmstat_nr_active_anon",
        "Field nr_active_anon of /proc/vmstat.",
        "/proc/vmstat",
    ),
    untyped(
        "node_vmstat_nr_active_file",
        "Field nr_active_file of /proc/vmstat.",
        "/proc/vmstat",
    ),
    untyped(
        "node_vmstat_nr_anon_transparent_hugepages",
        "Field nr_anon_transparent_hugepages of /proc/vmstat.",
        "/proc/vmstat",
    ),
    untyped(
        "node_vmstat_nr_bounce",
        "Field nr_bounce of /proc/vmstat.",
        "/proc/vmstat",
    ),
    untyped(
        "node_vmstat_nr_dirty",
        "Field nr_dirty of /proc/vmstat.",
        "/proc/vmstat",
    ),
    untyped(
        "node_vmstat_nr_dirty_background_threshold",
        "Field nr_dirty_background_threshold of /proc/vmstat.",
        "/proc/vmstat",
    ),
    untyped(
        "node_vmstat_nr_dirty_threshold",
        "Field nr_dirty_threshold of /proc/vmstat.",
        "/proc/vmstat",
    ),
    untyped(
        "node_vmstat_nr_free_cma",
        "Field nr_free_cma of /proc/vmstat.",
        "/proc/vmstat",
    ),
    untyped(
        "node_vmstat_nr_free_pages",
        "Field nr_free_pages of /proc/vmstat.",
        "/proc/vmstat",
    ),
    untyped(
        "node_vmstat_nr_inactive_anon",
        "Field nr_inactive_anon of /proc/vmstat.",
        "/proc/vmstat",
    ),
    untyped(
        "node_vmstat_nr_inactive_file",
        "Field nr_inactive_file of /proc/vmstat.",
        "/proc/vmstat",
    ),
    untyped(
        "node_vmstat_nr_isolated_anon",
        "Field nr_isolated_anon of /proc/vmstat.",
        "/proc/vmstat",
    ),
    untyped(
        "node_vmstat_nr_isolated_file",
        "Field nr_isolated_file of /proc/vmstat.",
        "/proc/vmstat",
    ),
    untyped(
        "node_vmstat_nr_kernel_stack",
        "Field nr_kernel_stack of /proc/vmstat.",
        "/proc/vmstat",
    ),
    untyped(
        "node_vmstat_nr_mapped",
        "Field nr_mapped of /proc/vmstat.",
        "/proc/vmstat",
    ),
    untyped(
        "node_vmstat_nr_mlock",
        "Field nr_mlock of /proc/vmstat.",
        "/proc/vmstat",
    ),
    untyped(
        "node_vmstat_nr_page_table_pages",
        "Field nr_page_table_pages of /proc/vmstat.",
        "/proc/vmstat",
    ),
    untyped(
        "node_vmstat_nr_shmem",
        "Field nr_shmem of /proc/vmstat.",
        "/proc/vmstat",
    ),
    untyped(
        "node_vmstat_nr_shmem_hugepages",
        "Field nr_shmem_hugepages of /proc/vmstat.",
        "/proc/vmstat",
    ),
    untyped(
        "node_vmstat_nr_shmem_pmdmapped",
        "Field nr_shmem_pmdmapped of /proc/vmstat.",
        "/proc/vmstat",
    ),
    untyped(
        "node_vmstat_nr_slab_reclaimable",
        "Field nr_slab_reclaimable of /proc/vmstat.",
        "/proc/vmstat",
    ),
    untyped(
        "node_vmstat_nr_slab_unreclaimable",
        "Field nr_slab_unreclaimable of /proc/vmstat.",
        "/proc/vmstat",
    ),
    untyped(
        "node_vmstat_nr_unevictable",
        "Field nr_unevictable of /proc/vmstat.",
        "/proc/vmstat",
    ),
    untyped(
        "node_vmstat_nr_unstable",
        "Field nr_unstable of /proc/vmstat.",
        "/proc/vmstat",
    ),
    untyped(
        "node_vmstat_nr_vmscan_immediate_reclaim",
        "Field nr_vmscan_immediate_reclaim of /proc/vmstat.",
        "/proc/vmstat",
    ),
    untyped(
        "node_vmstat_nr_vmscan_write",
        "Field nr_vmscan_write of /proc/vmstat.",
        "/proc/vmstat",
    ),
    untyped(
        "node_vmstat_nr_writeback",
        "Field nr_writeback of /proc/vmstat.",
        "/proc/vmstat",
    ),
    untyped(
        "node_vmstat_nr_writeback_temp",
        "Field nr_writeback_temp of /proc/vmstat.",
        "/proc/vmstat",
    ),
    untyped(
        "node_vmstat_oom_kill",
        "Field oom_kill of /proc/vmstat.",
        "/proc/vmstat",
    ),
    untyped(
        "node_vmstat_pgactivate",
        "Field pgactivate of /proc/vmstat.",
        "/proc/vmstat",
    ),
    untyped(
        "node_vmstat_pgalloc_dma",
        "Field pgalloc_dma of /proc/vmstat.",
        "/proc/vmstat",
    ),
    untyped(
        "node_vmstat_pgalloc_dma32",
        "Field pgalloc_dma32 of /proc/vmstat.",
        "/proc/vmstat",
    ),
    untyped(
        "node_vmstat_pgalloc_movable",
        "Field pgalloc_movable of /proc/vmstat.",
        "/proc/vmstat",
    ),
    untyped(
        "node_vmstat_pgalloc_normal",
        "Field pgalloc_normal of /proc/vmstat.",
        "/proc/vmstat",
    ),
    untyped(
        "node_vmstat_pgdeactivate",
        "Field pgdeactivate of /proc/vmstat.",
        "/proc/vmstat",
    ),
    untyped(
        "node_vmstat_pgfault",
        "Field pgfault of /proc/vmstat.",
        "/proc/vmstat",
    ),
    untyped(
        "node_vmstat_pgmajfault",
        "Field pgmajfault of /proc/vmstat.",
        "/proc/vmstat",
    ),
    untyped(
        "node_vmstat_pgpgin",
        "Field pgpgin of /proc/vmstat.",
        "/proc/vmstat",
    ),
    untyped(
        "node_vmstat_pgpgout",
        "Field pgpgout of /proc/vmstat.",
        "/proc/vmstat",
    ),
    untyped(
        "node_vmstat_pgrefill_dma",
        "Field pgrefill_dma of /proc/vmstat.",
        "/proc/vmstat",
    ),
    untyped(
        "node_vmstat_pgrefill_dma32",
        "Field pgrefill_dma32 of /proc/vmstat.",
        "/proc/vmstat",
    ),
    untyped(
        "node_vmstat_pgrefill_movable",
        "Field pgrefill_movable of /proc/vmstat.",
        "/proc/vmstat",
    ),
    untyped(
        "node_vmstat_pgrefill_normal",
        "Field pgrefill_normal of /proc/vmstat.",
        "/proc/vmstat",
    ),
    untyped(
        "node_vmstat_pgscan_direct_dma",
        "Field pgscan_direct_dma of /proc/vmstat.",
        "/proc/vmstat",
    ),
    untyped(
        "node_vmstat_pgscan_direct_dma32",
        "Field pgscan_direct_dma32 of /proc/vmstat.",
        "/proc/vmstat",
    ),
    untyped(
        "node_vmstat_pgscan_direct_movable",
        "Field pgscan_direct_movable of /proc/vmstat.",
        "/proc/vmstat",
    ),
    untyped(
        "node_vmstat_pgscan_direct_normal",
        "Field pgscan_direct_normal of /proc/vmstat.",
        "/proc/vmstat",
    ),
    untyped(
        "node_vmstat_pgscan_kswapd_dma",
        "Field pgscan_kswapd_dma of /proc/vmstat.",
        "/proc/vmstat",
    ),
    untyped(
        "node_vmstat_pgscan_kswapd_dma32",
        "Field pgscan_kswapd_dma32 of /proc/vmstat.",
        "/proc/vmstat",
    ),
    untyped(
        "node_vmstat_pgscan_kswapd_movable",
        "Field pgscan_kswapd_movable of /proc/vmstat.",
        "/proc/vmstat",
    ),
    untyped(
        "node_vmstat_pgscan_kswapd_normal",
        "Field pgscan_kswapd_normal of /proc/vmstat.",
        "/proc/vmstat",
    ),
    untyped(
        "node_vmstat_pgsteal_direct_dma",
        "Field pgsteal_direct_dma of /proc/vmstat.",
        "/proc/vmstat",
    ),
    untyped(
        "node_vmstat_pgsteal_direct_dma32",
        "Field pgsteal_direct_dma32 of /proc/vmstat.",
        "/proc/vmstat",
    ),
    untyped(
        "node_vmstat_pgsteal_direct_movable",
        "Field pgsteal_direct_movable of /proc/vmstat.",
        "/proc/vmstat",
    ),
    untyped(
        "node_vmstat_pgsteal_direct_normal",
        "Field pgsteal_direct_normal of /proc/vmstat.",
        "/proc/vmstat",
    ),
    untyped(
        "node_vmstat_pgsteal_kswapd_dma",
        "Field pgsteal_kswapd_dma of /proc/vmstat.",
        "/proc/vmstat",
    ),
    untyped(
        "node_vmstat_pgsteal_kswapd_dma32",
        "Field pgsteal_kswapd_dma32 of /proc/vmstat.",
        "/proc/vmstat",
    ),
    untyped(
        "node_vmstat_pgsteal_kswapd_movable",
        "Field pgsteal_kswapd_movable of /proc/vmstat.",
        "/proc/vmstat",
    ),
    untyped(
        "node_vmstat_pgsteal_kswapd_normal",
        "Field pgsteal_kswapd_normal of /proc/vmstat.",
        "/proc/vmstat",
    ),
    untyped(
        "node_vmstat_pswpin",
        "Field pswpin of /proc/vmstat.",
        "/proc/vmstat",
    ),
    untyped(
        "node_vmstat_pswpout",
        "Field pswpout of /proc/vmstat.",
        "/proc/vmstat",
    ),
    untyped(
        "node_vmstat_slabs_scanned",
        "Field slabs_scanned of /proc/vmstat.",
        "/proc/vmstat",
    ),
];

fn read(context: &mut Context<'_>) -> Result<(), PartError> {
    let mut name = String::from("node_vmstat_");
    let bare = name.len();
    for line in lines(context.kernel.proc("vmstat")?) {
        let Some((field, value)) = split_once(line, b' ') else {
            continue;
        };
        name.truncate(bare);
        name.push_str(&text(field));
        if let Some(desc) = find(METRICS, &name)
            && let Some(value) = context.memory.lines.take(whole(value))
        {
            context.batch.push(desc, &[], value as f64);
        }
    }
    Ok(())
}
