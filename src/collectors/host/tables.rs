//! Counters of the kernel's tables: control groups, caches of the network, IPsec. Only on request.

use crate::model::MetricDesc;

use super::kernel::{PartError, names};
use super::part::{Context, Lane, Part, counter, gauge};
use super::scan::{hex, lines, signed, text, whole, words};

/// Control groups by controller.
pub const CGROUPS: Part = Part {
    name: "cgroups",
    default: false,
    lane: Lane::Kernel,
    metrics: &CGROUP,
    read: read_cgroups,
};
/// Caches and tables of the network, by CPU.
pub const LNSTAT: Part = Part {
    name: "lnstat",
    default: false,
    lane: Lane::Kernel,
    metrics: &LN,
    read: read_lnstat,
};
/// Packets that IPsec refused.
pub const XFRM: Part = Part {
    name: "xfrm",
    default: false,
    lane: Lane::Kernel,
    metrics: &XFRMS,
    read: read_xfrm,
};

/// Series of caches at most.
const MAX_SERIES: usize = 5000;

const CGROUP: [MetricDesc; 2] = [
    gauge(
        "node_cgroups_cgroups",
        "",
        "Control groups of the controller.",
        &["subsys_name"],
        "/proc/cgroups num_cgroups",
    ),
    gauge(
        "node_cgroups_enabled",
        "",
        "1 when the controller is on.",
        &["subsys_name"],
        "/proc/cgroups enabled",
    ),
];

fn read_cgroups(context: &mut Context<'_>) -> Result<(), PartError> {
    for line in lines(context.kernel.proc("cgroups")?).filter(|line| !line.starts_with(b"#")) {
        let parts: Vec<&[u8]> = words(line).collect();
        let [name, _, count, enabled] = parts[..] else {
            context.memory.lines.odd += 1;
            continue;
        };
        let Some((count, enabled)) = context.memory.lines.take(whole(count).zip(whole(enabled)))
        else {
            continue;
        };
        context
            .batch
            .push(&CGROUP[0], &[("subsys_name", &text(name))], count as f64);
        context
            .batch
            .push(&CGROUP[1], &[("subsys_name", &text(name))], enabled as f64);
    }
    Ok(())
}

/// A counter of a cache.
const fn cache(name: &'static str) -> MetricDesc {
    counter(
        name,
        "",
        "What the kernel counts under this name for the cache or table.",
        &["cpu", "subsystem"],
        "/proc/net/stat",
    )
}

/// The columns that are shown, sorted, in the order of [`LN`].
const COLUMNS: [&str; 52] = [
    "allocs",
    "chainlength",
    "clashres",
    "conn_reopened",
    "cookie_invalid",
    "cookie_retrans",
    "cookie_valid",
    "delete",
    "delete_list",
    "destroys",
    "drop",
    "early_drop",
    "entries",
    "expect_create",
    "expect_delete",
    "expect_new",
    "forced_gc_runs",
    "found",
    "gc_dst_overflow",
    "gc_goal_miss",
    "gc_ignored",
    "gc_total",
    "hash_grows",
    "hits",
    "icmp_error",
    "ignore",
    "in_brd",
    "in_hit",
    "in_hlist_search",
    "in_martian_dst",
    "in_martian_src",
    "in_no_route",
    "in_slow_mc",
    "in_slow_tot",
    "insert",
    "insert_failed",
    "invalid",
    "lookups",
    "new",
    "out_hit",
    "out_hlist_search",
    "out_slow_mc",
    "out_slow_tot",
    "periodic_gc_runs",
    "rcv_probes_mcast",
    "rcv_probes_ucast",
    "res_failed",
    "search_restart",
    "searched",
    "syn_received",
    "table_fulls",
    "unresolved_discards",
];
const LN: [MetricDesc; COLUMNS.len()] = [
    cache("node_lnstat_allocs_total"),
    cache("node_lnstat_chainlength_total"),
    cache("node_lnstat_clashres_total"),
    cache("node_lnstat_conn_reopened_total"),
    cache("node_lnstat_cookie_invalid_total"),
    cache("node_lnstat_cookie_retrans_total"),
    cache("node_lnstat_cookie_valid_total"),
    cache("node_lnstat_delete_total"),
    cache("node_lnstat_delete_list_total"),
    cache("node_lnstat_destroys_total"),
    cache("node_lnstat_drop_total"),
    cache("node_lnstat_early_drop_total"),
    cache("node_lnstat_entries_total"),
    cache("node_lnstat_expect_create_total"),
    cache("node_lnstat_expect_delete_total"),
    cache("node_lnstat_expect_new_total"),
    cache("node_lnstat_forced_gc_runs_total"),
    cache("node_lnstat_found_total"),
    cache("node_lnstat_gc_dst_overflow_total"),
    cache("node_lnstat_gc_goal_miss_total"),
    cache("node_lnstat_gc_ignored_total"),
    cache("node_lnstat_gc_total_total"),
    cache("node_lnstat_hash_grows_total"),
    cache("node_lnstat_hits_total"),
    cache("node_lnstat_icmp_error_total"),
    cache("node_lnstat_ignore_total"),
    cache("node_lnstat_in_brd_total"),
    cache("node_lnstat_in_hit_total"),
    cache("node_lnstat_in_hlist_search_total"),
    cache("node_lnstat_in_martian_dst_total"),
    cache("node_lnstat_in_martian_src_total"),
    cache("node_lnstat_in_no_route_total"),
    cache("node_lnstat_in_slow_mc_total"),
    cache("node_lnstat_in_slow_tot_total"),
    cache("node_lnstat_insert_total"),
    cache("node_lnstat_insert_failed_total"),
    cache("node_lnstat_invalid_total"),
    cache("node_lnstat_lookups_total"),
    cache("node_lnstat_new_total"),
    cache("node_lnstat_out_hit_total"),
    cache("node_lnstat_out_hlist_search_total"),
    cache("node_lnstat_out_slow_mc_total"),
    cache("node_lnstat_out_slow_tot_total"),
    cache("node_lnstat_periodic_gc_runs_total"),
    cache("node_lnstat_rcv_probes_mcast_total"),
    cache("node_lnstat_rcv_probes_ucast_total"),
    cache("node_lnstat_res_failed_total"),
    cache("node_lnstat_search_restart_total"),
    cache("node_lnstat_searched_total"),
    cache("node_lnstat_syn_received_total"),
    cache("node_lnstat_table_fulls_total"),
    cache("node_lnstat_unresolved_discards_total"),
];

fn read_lnstat(context: &mut Context<'_>) -> Result<(), PartError> {
    let folder = context.kernel.in_proc("net/stat");
    let (mut pushed, mut omitted) = (0, 0);
    for subsystem in names(&folder)? {
        // A table goes away with its module.
        let Ok(content) = context.kernel.once(&folder.join(&subsystem)) else {
            continue;
        };
        let mut all = lines(content);
        let columns: Vec<Option<usize>> = all
            .next()
            .map(|line| {
                words(line)
                    .map(|word| COLUMNS.binary_search(&&*text(word)).ok())
                    .collect()
            })
            .unwrap_or_default();
        for (cpu, line) in all.enumerate() {
            let cpu = cpu.to_string();
            for (column, value) in columns.iter().zip(words(line).map(hex)) {
                let (Some(column), Some(value)) = (*column, value) else {
                    continue;
                };
                if pushed == MAX_SERIES {
                    omitted += 1;
                    continue;
                }
                pushed += 1;
                context.batch.push(
                    &LN[column],
                    &[("cpu", &cpu), ("subsystem", &subsystem)],
                    value as f64,
                );
            }
        }
    }
    context.memory.omitted = Some(omitted);
    Ok(())
}

/// A counter of packets.
const fn packets(name: &'static str) -> MetricDesc {
    counter(
        name,
        "",
        "Packets that the kernel counts under this name.",
        &[],
        "/proc/net/xfrm_stat",
    )
}

/// The kernel's names, sorted, in the order of [`XFRMS`].
const ERRORS: [&str; 28] = [
    "XfrmAcquireError",
    "XfrmFwdHdrError",
    "XfrmInBufferError",
    "XfrmInError",
    "XfrmInHdrError",
    "XfrmInNoPols",
    "XfrmInNoStates",
    "XfrmInPolBlock",
    "XfrmInPolError",
    "XfrmInStateExpired",
    "XfrmInStateInvalid",
    "XfrmInStateMismatch",
    "XfrmInStateModeError",
    "XfrmInStateProtoError",
    "XfrmInStateSeqError",
    "XfrmInTmplMismatch",
    "XfrmOutBundleCheckError",
    "XfrmOutBundleGenError",
    "XfrmOutError",
    "XfrmOutNoStates",
    "XfrmOutPolBlock",
    "XfrmOutPolDead",
    "XfrmOutPolError",
    "XfrmOutStateExpired",
    "XfrmOutStateInvalid",
    "XfrmOutStateModeError",
    "XfrmOutStateProtoError",
    "XfrmOutStateSeqError",
];
const XFRMS: [MetricDesc; ERRORS.len()] = [
    packets("node_xfrm_acquire_error_packets_total"),
    packets("node_xfrm_fwd_hdr_error_packets_total"),
    packets("node_xfrm_in_buffer_error_packets_total"),
    packets("node_xfrm_in_error_packets_total"),
    packets("node_xfrm_in_hdr_error_packets_total"),
    packets("node_xfrm_in_no_pols_packets_total"),
    packets("node_xfrm_in_no_states_packets_total"),
    packets("node_xfrm_in_pol_block_packets_total"),
    packets("node_xfrm_in_pol_error_packets_total"),
    packets("node_xfrm_in_state_expired_packets_total"),
    packets("node_xfrm_in_state_invalid_packets_total"),
    packets("node_xfrm_in_state_mismatch_packets_total"),
    packets("node_xfrm_in_state_mode_error_packets_total"),
    packets("node_xfrm_in_state_proto_error_packets_total"),
    packets("node_xfrm_in_state_seq_error_packets_total"),
    packets("node_xfrm_in_tmpl_mismatch_packets_total"),
    packets("node_xfrm_out_bundle_check_error_packets_total"),
    packets("node_xfrm_out_bundle_gen_error_packets_total"),
    packets("node_xfrm_out_error_packets_total"),
    packets("node_xfrm_out_no_states_packets_total"),
    packets("node_xfrm_out_pol_block_packets_total"),
    packets("node_xfrm_out_pol_dead_packets_total"),
    packets("node_xfrm_out_pol_error_packets_total"),
    packets("node_xfrm_out_state_expired_packets_total"),
    packets("node_xfrm_out_state_invalid_packets_total"),
    packets("node_xfrm_out_state_mode_error_packets_total"),
    packets("node_xfrm_out_state_proto_error_packets_total"),
    packets("node_xfrm_out_state_seq_error_packets_total"),
];

fn read_xfrm(context: &mut Context<'_>) -> Result<(), PartError> {
    for line in lines(context.kernel.proc("net/xfrm_stat")?) {
        let mut parts = words(line);
        let Some(name) = parts.next().map(text) else {
            continue;
        };
        let Ok(index) = ERRORS.binary_search(&&*name) else {
            continue;
        };
        if let Some(value) = context.memory.lines.take(parts.next().and_then(signed)) {
            context.batch.push(&XFRMS[index], &[], value);
        }
    }
    Ok(())
}
