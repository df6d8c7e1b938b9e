//! `/proc/net/sockstat` and `/proc/net/sockstat6`: sockets in use by protocol (proc(5)).

use crate::model::{Batch, MetricDesc};

use super::kernel::PartError;
use super::part::{Context, Lane, Part, find, gauge};
use super::scan::{lines, split_once, text, whole, words};

/// Sockets in use.
pub const PART: Part = Part {
    name: "sockstat",
    default: true,
    lane: Lane::Kernel,
    metrics: METRICS,
    read,
};

const METRICS: &[MetricDesc] = &[
    gauge(
        "node_sockstat_FRAG6_inuse",
        "",
        "Field inuse of FRAG6 in /proc/net/sockstat6.",
        &[],
        "/proc/net/sockstat6",
    ),
    gauge(
        "node_sockstat_FRAG6_memory",
        "",
        "Field memory of FRAG6 in /proc/net/sockstat6.",
        &[],
        "/proc/net/sockstat6",
    ),
    gauge(
        "node_sockstat_FRAG_inuse",
        "",
        "Field inuse of FRAG in /proc/net/sockstat.",
        &[],
        "/proc/net/sockstat",
    ),
    gauge(
        "node_sockstat_FRAG_memory",
        "",
        "Field memory of FRAG in /proc/net/sockstat.",
        &[],
        "/proc/net/sockstat",
    ),
    gauge(
        "node_sockstat_RAW6_inuse",
        "",
        "Field inuse of RAW6 in /proc/net/sockstat6.",
        &[],
        "/proc/net/sockstat6",
    ),
    gauge(
        "node_sockstat_RAW_inuse",
        "",
        "Field inuse of RAW in /proc/net/sockstat.",
        &[],
        "/proc/net/sockstat",
    ),
    gauge(
        "node_sockstat_TCP6_inuse",
        "",
        "Field inuse of TCP6 in /proc/net/sockstat6.",
        &[],
        "/proc/net/sockstat6",
    ),
    gauge(
        "node_sockstat_TCP_alloc",
        "",
        "Field alloc of TCP in /proc/net/sockstat.",
        &[],
        "/proc/net/sockstat",
    ),
    gauge(
        "node_sockstat_TCP_inuse",
        "",
        "Field inuse of TCP in /proc/net/sockstat.",
        &[],
        "/proc/net/sockstat",
    ),
    gauge(
        "node_sockstat_TCP_mem",
        "",
        "Field mem of TCP in /proc/net/sockstat, in pages.",
        &[],
        "/proc/net/sockstat",
    ),
    gauge(
        "node_sockstat_TCP_mem_bytes",
        "bytes",
        "Memory of TCP sockets, in bytes.",
        &[],
        "/proc/net/sockstat",
    ),
    gauge(
        "node_sockstat_TCP_orphan",
        "",
        "Field orphan of TCP in /proc/net/sockstat.",
        &[],
        "/proc/net/sockstat",
    ),
    gauge(
        "node_sockstat_TCP_tw",
        "",
        "Field tw of TCP in /proc/net/sockstat.",
        &[],
        "/proc/net/sockstat",
    ),
    gauge(
        "node_sockstat_UDP6_inuse",
        "",
        "Field inuse of UDP6 in /proc/net/sockstat6.",
        &[],
        "/proc/net/sockstat6",
    ),
    gauge(
        "node_sockstat_UDPLITE6_inuse",
        "",
        "Field inuse of UDPLITE6 in /proc/net/sockstat6.",
        &[],
        "/proc/net/sockstat6",
    ),
    gauge(
        "node_sockstat_UDPLITE_inuse",
        "",
        "Field inuse of UDPLITE in /proc/net/sockstat.",
        &[],
        "/proc/net/sockstat",
    ),
    gauge(
        "node_sockstat_UDP_inuse",
        "",
        "Field inuse of UDP in /proc/net/sockstat.",
        &[],
        "/proc/net/sockstat",
    ),
    gauge(
        "node_sockstat_UDP_mem",
        "",
        "Field mem of UDP in /proc/net/sockstat, in pages.",
        &[],
        "/proc/net/sockstat",
    ),
    gauge(
        "node_sockstat_UDP_mem_bytes",
        "bytes",
        "Memory of UDP sockets, in bytes.",
        &[],
        "/proc/net/sockstat",
    ),
    gauge(
        "node_sockstat_sockets_used",
        "",
        "Field used of sockets in /proc/net/sockstat.",
        &[],
        "/proc/net/sockstat",
    ),
];

fn read(context: &mut Context<'_>) -> Result<(), PartError> {
    read_file(context.kernel.proc("net/sockstat")?, context.batch);
    match context.kernel.proc("net/sockstat6") {
        Ok(content) => read_file(content, context.batch),
        Err(PartError::Absent) => {}
        Err(error) => return Err(error),
    }
    Ok(())
}

fn read_file(content: &[u8], batch: &mut Batch) {
    let page = rustix::param::page_size() as f64;
    for line in lines(content) {
        let Some((protocol, fields)) = split_once(line, b':') else {
            continue;
        };
        let mut pairs = words(fields);
        while let (Some(field), Some(value)) = (pairs.next(), pairs.next().and_then(whole)) {
            let name = format!("node_sockstat_{}_{}", text(protocol), text(field));
            if let Some(desc) = find(METRICS, &name) {
                batch.push(desc, &[], value as f64);
            }
            if field == b"mem"
                && let Some(desc) = find(METRICS, &format!("{name}_bytes"))
            {
                batch.push(desc, &[], value as f64 * page);
            }
        }
    }
}
