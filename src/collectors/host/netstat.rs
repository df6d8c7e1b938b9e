//! `/proc/net/netstat`, `/proc/net/snmp` and `/proc/net/snmp6`: counters of IP, ICMP, TCP and UDP
//! (RFC 2011 to 2013, `Documentation/networking/snmp_counter.rst`).
//!
//! Of some 300 fields it takes those that node_exporter takes by default and those that published
//! dashboards use beyond them.

use crate::model::{Batch, MetricDesc};

use super::kernel::PartError;
use super::part::{Context, Lane, LineCount, Part, find, untyped};
use super::scan::{lines, signed, split_once, words};

/// The protocol counters.
pub const PART: Part = Part {
    name: "netstat",
    default: true,
    lane: Lane::Kernel,
    metrics: METRICS,
    read,
};

const PREFIX: &str = "node_netstat_";
const METRICS: &[MetricDesc] = &[
    untyped(
        "node_netstat_Icmp6_InErrors",
        "Field Icmp6 InErrors of /proc/net/snmp6.",
        "/proc/net/snmp6",
    ),
    untyped(
        "node_netstat_Icmp6_InMsgs",
        "Field Icmp6 InMsgs of /proc/net/snmp6.",
        "/proc/net/snmp6",
    ),
    untyped(
        "node_netstat_Icmp6_OutMsgs",
        "Field Icmp6 OutMsgs of /proc/net/snmp6.",
        "/proc/net/snmp6",
    ),
    untyped(
        "node_netstat_IcmpMsg_InType3",
        "Field IcmpMsg InType3 of /proc/net/snmp.",
        "/proc/net/snmp",
    ),
    untyped(
        "node_netstat_IcmpMsg_OutType3",
        "Field IcmpMsg OutType3 of /proc/net/snmp.",
        "/proc/net/snmp",
    ),
    untyped(
        "node_netstat_Icmp_InAddrMaskReps",
        "Field Icmp InAddrMaskReps of /proc/net/snmp.",
        "/proc/net/snmp",
    ),
    untyped(
        "node_netstat_Icmp_InAddrMasks",
        "Field Icmp InAddrMasks of /proc/net/snmp.",
        "/proc/net/snmp",
    ),
    untyped(
        "node_netstat_Icmp_InCsumErrors",
        "Field Icmp InCsumErrors of /proc/net/snmp.",
        "/proc/net/snmp",
    ),
    untyped(
        "node_netstat_Icmp_InDestUnreachs",
        "Field Icmp InDestUnreachs of /proc/net/snmp.",
        "/proc/net/snmp",
    ),
    untyped(
        "node_netstat_Icmp_InEchoReps",
        "Field Icmp InEchoReps of /proc/net/snmp.",
        "/proc/net/snmp",
    ),
    untyped(
        "node_netstat_Icmp_InEchos",
        "Field Icmp InEchos of /proc/net/snmp.",
        "/proc/net/snmp",
    ),
    untyped(
        "node_netstat_Icmp_InErrors",
        "Field Icmp InErrors of /proc/net/snmp.",
        "/proc/net/snmp",
    ),
    untyped(
        "node_netstat_Icmp_InMsgs",
        "Field Icmp InMsgs of /proc/net/snmp.",
        "/proc/net/snmp",
    ),
    untyped(
        "node_netstat_Icmp_InRedirects",
        "Field Icmp InRedirects of /proc/net/snmp.",
        "/proc/net/snmp",
    ),
    untyped(
        "node_netstat_Icmp_InTimeExcds",
        "Field Icmp InTimeExcds of /proc/net/snmp.",
        "/proc/net/snmp",
    ),
    untyped(
        "node_netstat_Icmp_InTimestampReps",
        "Field Icmp InTimestampReps of /proc/net/snmp.",
        "/proc/net/snmp",
    ),
    untyped(
        "node_netstat_Icmp_InTimestamps",
        "Field Icmp InTimestamps of /proc/net/snmp.",
        "/proc/net/snmp",
    ),
    untyped(
        "node_netstat_Icmp_OutAddrMaskReps",
        "Field Icmp OutAddrMaskReps of /proc/net/snmp.",
        "/proc/net/snmp",
    ),
    untyped(
        "node_netstat_Icmp_OutAddrMasks",
        "Field Icmp OutAddrMasks of /proc/net/snmp.",
        "/proc/net/snmp",
    ),
    untyped(
        "node_netstat_Icmp_OutDestUnreachs",
        "Field Icmp OutDestUnreachs of /proc/net/snmp.",
        "/proc/net/snmp",
    ),
    untyped(
        "node_netstat_Icmp_OutEchoReps",
        "Field Icmp OutEchoReps of /proc/net/snmp.",
        "/proc/net/snmp",
    ),
    untyped(
        "node_netstat_Icmp_OutEchos",
        "Field Icmp OutEchos of /proc/net/snmp.",
        "/proc/net/snmp",
    ),
    untyped(
        "node_netstat_Icmp_OutErrors",
        "Field Icmp OutErrors of /proc/net/snmp.",
        "/proc/net/snmp",
    ),
    untyped(
        "node_netstat_Icmp_OutMsgs",
        "Field Icmp OutMsgs of /proc/net/snmp.",
        "/proc/net/snmp",
    ),
    untyped(
        "node_netstat_Icmp_OutRedirects",
        "Field Icmp OutRedirects of /proc/net/snmp.",
        "/proc/net/snmp",
    ),
    untyped(
        "node_netstat_Icmp_OutTimestampReps",
        "Field Icmp OutTimestampReps of /proc/net/snmp.",
        "/proc/net/snmp",
    ),
    untyped(
        "node_netstat_Icmp_OutTimestamps",
        "Field Icmp OutTimestamps of /proc/net/snmp.",
        "/proc/net/snmp",
    ),
    untyped(
        "node_netstat_Ip6_InOctets",
        "Field Ip6 InOctets of /proc/net/snmp6.",
        "/proc/net/snmp6",
    ),
    untyped(
        "node_netstat_Ip6_OutOctets",
        "Field Ip6 OutOctets of /proc/net/snmp6.",
        "/proc/net/snmp6",
    ),
    untyped(
        "node_netstat_IpExt_InOctets",
        "Field IpExt InOctets of /proc/net/netstat.",
        "/proc/net/netstat",
    ),
    untyped(
        "node_netstat_IpExt_OutOctets",
        "Field IpExt OutOctets of /proc/net/netstat.",
        "/proc/net/netstat",
    ),
    untyped(
        "node_netstat_Ip_Forwarding",
        "Field Ip Forwarding of /proc/net/snmp.",
        "/proc/net/snmp",
    ),
    untyped(
        "node_netstat_TcpExt_ListenDrops",
        "Field TcpExt ListenDrops of /proc/net/netstat.",
        "/proc/net/netstat",
    ),
    untyped(
        "node_netstat_TcpExt_ListenOverflows",
        "Field TcpExt ListenOverflows of /proc/net/netstat.",
        "/proc/net/netstat",
    ),
    untyped(
        "node_netstat_TcpExt_SyncookiesFailed",
        "Field TcpExt SyncookiesFailed of /proc/net/netstat.",
        "/proc/net/netstat",
    ),
    untyped(
        "node_netstat_TcpExt_SyncookiesRecv",
        "Field TcpExt SyncookiesRecv of /proc/net/netstat.",
        "/proc/net/netstat",
    ),
    untyped(
        "node_netstat_TcpExt_SyncookiesSent",
        "Field TcpExt SyncookiesSent of /proc/net/netstat.",
        "/proc/net/netstat",
    ),
    untyped(
        "node_netstat_TcpExt_TCPOFOQueue",
        "Field TcpExt TCPOFOQueue of /proc/net/netstat.",
        "/proc/net/netstat",
    ),
    untyped(
        "node_netstat_TcpExt_TCPRcvQDrop",
        "Field TcpExt TCPRcvQDrop of /proc/net/netstat.",
        "/proc/net/netstat",
    ),
    untyped(
        "node_netstat_TcpExt_TCPSynRetrans",
        "Field TcpExt TCPSynRetrans of /proc/net/netstat.",
        "/proc/net/netstat",
    ),
    untyped(
        "node_netstat_TcpExt_TCPTimeouts",
        "Field TcpExt TCPTimeouts of /proc/net/netstat.",
        "/proc/net/netstat",
    ),
    untyped(
        "node_netstat_Tcp_ActiveOpens",
        "Field Tcp ActiveOpens of /proc/net/snmp.",
        "/proc/net/snmp",
    ),
    untyped(
        "node_netstat_Tcp_AttemptFails",
        "Field Tcp AttemptFails of /proc/net/snmp.",
        "/proc/net/snmp",
    ),
    untyped(
        "node_netstat_Tcp_CurrEstab",
        "Field Tcp CurrEstab of /proc/net/snmp.",
        "/proc/net/snmp",
    ),
    untyped(
        "node_netstat_Tcp_EstabResets",
        "Field Tcp EstabResets of /proc/net/snmp.",
        "/proc/net/snmp",
    ),
    untyped(
        "node_netstat_Tcp_InCsumErrors",
        "Field Tcp InCsumErrors of /proc/net/snmp.",
        "/proc/net/snmp",
    ),
    untyped(
        "node_netstat_Tcp_InErrs",
        "Field Tcp InErrs of /proc/net/snmp.",
        "/proc/net/snmp",
    ),
    untyped(
        "node_netstat_Tcp_InSegs",
        "Field Tcp InSegs of /proc/net/snmp.",
        "/proc/net/snmp",
    ),
    untyped(
        "node_netstat_Tcp_MaxConn",
        "Field Tcp MaxConn of /proc/net/snmp.",
        "/proc/net/snmp",
    ),
    untyped(
        "node_netstat_Tcp_OutRsts",
        "Field Tcp OutRsts of /proc/net/snmp.",
        "/proc/net/snmp",
    ),
    untyped(
        "node_netstat_Tcp_OutSegs",
        "Field Tcp OutSegs of /proc/net/snmp.",
        "/proc/net/snmp",
    ),
    untyped(
        "node_netstat_Tcp_PassiveOpens",
        "Field Tcp PassiveOpens of /proc/net/snmp.",
        "/proc/net/snmp",
    ),
    untyped(
        "node_netstat_Tcp_RetransSegs",
        "Field Tcp RetransSegs of /proc/net/snmp.",
        "/proc/net/snmp",
    ),
    untyped(
        "node_netstat_Tcp_RtoAlgorithm",
        "Field Tcp RtoAlgorithm of /proc/net/snmp.",
        "/proc/net/snmp",
    ),
    untyped(
        "node_netstat_Tcp_RtoMax",
        "Field Tcp RtoMax of /proc/net/snmp.",
        "/proc/net/snmp",
    ),
    untyped(
        "node_netstat_Tcp_RtoMin",
        "Field Tcp RtoMin of /proc/net/snmp.",
        "/proc/net/snmp",
    ),
    untyped(
        "node_netstat_Udp6_InDatagrams",
        "Field Udp6 InDatagrams of /proc/net/snmp6.",
        "/proc/net/snmp6",
    ),
    untyped(
        "node_netstat_Udp6_InErrors",
        "Field Udp6 InErrors of /proc/net/snmp6.",
        "/proc/net/snmp6",
    ),
    untyped(
        "node_netstat_Udp6_NoPorts",
        "Field Udp6 NoPorts of /proc/net/snmp6.",
        "/proc/net/snmp6",
    ),
    untyped(
        "node_netstat_Udp6_OutDatagrams",
        "Field Udp6 OutDatagrams of /proc/net/snmp6.",
        "/proc/net/snmp6",
    ),
    untyped(
        "node_netstat_Udp6_RcvbufErrors",
        "Field Udp6 RcvbufErrors of /proc/net/snmp6.",
        "/proc/net/snmp6",
    ),
    untyped(
        "node_netstat_Udp6_SndbufErrors",
        "Field Udp6 SndbufErrors of /proc/net/snmp6.",
        "/proc/net/snmp6",
    ),
    untyped(
        "node_netstat_UdpLite6_InErrors",
        "Field UdpLite6 InErrors of /proc/net/snmp6.",
        "/proc/net/snmp6",
    ),
    untyped(
        "node_netstat_UdpLite_InCsumErrors",
        "Field UdpLite InCsumErrors of /proc/net/snmp.",
        "/proc/net/snmp",
    ),
    untyped(
        "node_netstat_UdpLite_InDatagrams",
        "Field UdpLite InDatagrams of /proc/net/snmp.",
        "/proc/net/snmp",
    ),
    untyped(
        "node_netstat_UdpLite_InErrors",
        "Field UdpLite InErrors of /proc/net/snmp.",
        "/proc/net/snmp",
    ),
    untyped(
        "node_netstat_UdpLite_NoPorts",
        "Field UdpLite NoPorts of /proc/net/snmp.",
        "/proc/net/snmp",
    ),
    untyped(
        "node_netstat_UdpLite_OutDatagrams",
        "Field UdpLite OutDatagrams of /proc/net/snmp.",
        "/proc/net/snmp",
    ),
    untyped(
        "node_netstat_UdpLite_RcvbufErrors",
        "Field UdpLite RcvbufErrors of /proc/net/snmp.",
        "/proc/net/snmp",
    ),
    untyped(
        "node_netstat_UdpLite_SndbufErrors",
        "Field UdpLite SndbufErrors of /proc/net/snmp.",
        "/proc/net/snmp",
    ),
    untyped(
        "node_netstat_Udp_InCsumErrors",
        "Field Udp InCsumErrors of /proc/net/snmp.",
        "/proc/net/snmp",
    ),
    untyped(
        "node_netstat_Udp_InDatagrams",
        "Field Udp InDatagrams of /proc/net/snmp.",
        "/proc/net/snmp",
    ),
    untyped(
        "node_netstat_Udp_InErrors",
        "Field Udp InErrors of /proc/net/snmp.",
        "/proc/net/snmp",
    ),
    untyped(
        "node_netstat_Udp_NoPorts",
        "Field Udp NoPorts of /proc/net/snmp.",
        "/proc/net/snmp",
    ),
    untyped(
        "node_netstat_Udp_OutDatagrams",
        "Field Udp OutDatagrams of /proc/net/snmp.",
        "/proc/net/snmp",
    ),
    untyped(
        "node_netstat_Udp_RcvbufErrors",
        "Field Udp RcvbufErrors of /proc/net/snmp.",
        "/proc/net/snmp",
    ),
    untyped(
        "node_netstat_Udp_SndbufErrors",
        "Field Udp SndbufErrors of /proc/net/snmp.",
        "/proc/net/snmp",
    ),
];

fn read(context: &mut Context<'_>) -> Result<(), PartError> {
    let mut name = String::from(PREFIX);
    for path in ["net/netstat", "net/snmp"] {
        read_pairs(
            context.kernel.proc(path)?,
            &mut name,
            &mut context.memory.lines,
            context.batch,
        );
    }
    match context.kernel.proc("net/snmp6") {
        Ok(content) => read_single(content, &mut name, context.batch),
        // A kernel without IPv6.
        Err(PartError::Absent) => {}
        Err(error) => return Err(error),
    }
    Ok(())
}

/// A line of names, then a line of values, both opened by the protocol.
fn read_pairs(content: &[u8], name: &mut String, count: &mut LineCount, batch: &mut Batch) {
    let mut heads: Option<(&[u8], &[u8])> = None;
    for line in lines(content) {
        let Some((protocol, rest)) = count.take(split_once(line, b':')) else {
            continue;
        };
        let Some((_, fields)) = heads.take_if(|(of, _)| *of == protocol) else {
            // Names whose values did not come.
            count.odd += usize::from(heads.is_some());
            heads = Some((protocol, rest));
            continue;
        };
        let values: Option<Vec<f64>> = words(rest).map(signed).collect();
        for (field, value) in words(fields).zip(count.take(values).unwrap_or_default()) {
            push(name, protocol, field, value, batch);
        }
    }
}

/// `Ip6InOctets 12`: the protocol ends with the 6.
fn read_single(content: &[u8], name: &mut String, batch: &mut Batch) {
    for line in lines(content) {
        let mut parts = words(line);
        let (Some(field), Some(value)) = (parts.next(), parts.next().and_then(signed)) else {
            continue;
        };
        if let Some(six) = memchr::memchr(b'6', field) {
            let (protocol, field) = field.split_at(six + 1);
            push(name, protocol, field, value, batch);
        }
    }
}

fn push(name: &mut String, protocol: &[u8], field: &[u8], value: f64, batch: &mut Batch) {
    name.truncate(PREFIX.len());
    let (Ok(protocol), Ok(field)) = (std::str::from_utf8(protocol), std::str::from_utf8(field))
    else {
        return;
    };
    name.push_str(protocol);
    name.push('_');
    name.push_str(field);
    if let Some(desc) = find(METRICS, name) {
        batch.push(desc, &[], value);
    }
}
