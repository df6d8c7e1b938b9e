//! The socket tables `/proc/net/tcp`, `tcp6`, `udp`, `udp6`: states, queues, listening ports and
//! connections to each.
//!
//! The kernel walks its whole hash table of TCP sockets for each reading: some 7 ms of CPU on a
//! machine with 24 GiB, more than all other parts together. So the TCP part runs only when ports
//! are configured or it is enabled. A table beyond 16 MiB (about 100,000 sockets) is read up to
//! there.

use super::settings::TCPSTAT;
use std::collections::BTreeMap;

use crate::model::MetricDesc;

use super::kernel::PartError;
use super::part::{Context, Lane, Part, gauge};
use super::scan::{hex, lines, split_once, words};

/// TCP connections by state, listening ports.
pub const TCP: Part = Part {
    name: TCPSTAT,
    default: false,
    lane: Lane::Kernel,
    metrics: &[STATES, LISTENING, CONNECTIONS],
    read: read_tcp,
};
/// What waits in UDP sockets.
pub const UDP: Part = Part {
    name: "udp_queues",
    default: true,
    lane: Lane::Kernel,
    metrics: &[QUEUES],
    read: read_udp,
};

const STATES: MetricDesc = gauge(
    "node_tcp_connection_states",
    "",
    "TCP sockets in each state, and bytes in their queues.",
    &["state"],
    "/proc/net/tcp, /proc/net/tcp6",
);
const LISTENING: MetricDesc = gauge(
    "host_tcp_listening",
    "",
    "1 when something listens on the port, 0 when nothing listens on a port that the configuration names.",
    &["port"],
    "/proc/net/tcp, /proc/net/tcp6",
);
const CONNECTIONS: MetricDesc = gauge(
    "host_tcp_connections",
    "",
    "Established connections to a port on which something listens or that the configuration names.",
    &["port"],
    "/proc/net/tcp, /proc/net/tcp6",
);
const QUEUES: MetricDesc = gauge(
    "node_udp_queues",
    "",
    "Bytes waiting in UDP sockets.",
    &["ip", "queue"],
    "/proc/net/udp, /proc/net/udp6",
);

/// The states in the kernel's numbering, from 1 (`include/net/tcp_states.h`).
const STATE_NAMES: [&str; 11] = [
    "established",
    "syn_sent",
    "syn_recv",
    "fin_wait1",
    "fin_wait2",
    "time_wait",
    "close",
    "close_wait",
    "last_ack",
    "listen",
    "closing",
];
const ESTABLISHED: u64 = 1;
const LISTEN: u64 = 10;

struct Socket {
    port: u16,
    state: u64,
    sent: u64,
    received: u64,
}

fn sockets(content: &[u8]) -> impl Iterator<Item = Socket> {
    lines(content).skip(1).filter_map(|line| {
        let mut parts = words(line).skip(1);
        let (_, port) = split_once(parts.next()?, b':')?;
        let state = hex(parts.nth(1)?)?;
        let (sent, received) = split_once(parts.next()?, b':')?;
        Some(Socket {
            port: u16::try_from(hex(port)?).ok()?,
            state,
            sent: hex(sent)?,
            received: hex(received)?,
        })
    })
}

fn read_tcp(context: &mut Context<'_>) -> Result<(), PartError> {
    let mut states = [0_u64; STATE_NAMES.len() + 1];
    let (mut sent, mut received) = (0_u64, 0_u64);
    let mut ports: BTreeMap<u16, bool> = context
        .settings
        .ports
        .iter()
        .map(|port| (*port, false))
        .collect();
    let mut established: BTreeMap<u16, u32> = BTreeMap::new();
    for path in ["net/tcp", "net/tcp6"] {
        let content = match context.kernel.proc(path) {
            Ok(content) => content,
            // A kernel without IPv6.
            Err(PartError::Absent) if path == "net/tcp6" => continue,
            Err(error) => return Err(error),
        };
        for socket in sockets(content) {
            if let Some(count) = states.get_mut(socket.state as usize) {
                *count += 1;
            }
            sent += socket.sent;
            received += socket.received;
            match socket.state {
                LISTEN => *ports.entry(socket.port).or_default() = true,
                ESTABLISHED => *established.entry(socket.port).or_default() += 1,
                _ => {}
            }
        }
    }
    for (name, count) in STATE_NAMES
        .iter()
        .zip(&states[1..])
        .filter(|(_, count)| **count > 0)
    {
        context
            .batch
            .push(&STATES, &[("state", name)], *count as f64);
    }
    context
        .batch
        .push(&STATES, &[("state", "rx_queued_bytes")], received as f64);
    context
        .batch
        .push(&STATES, &[("state", "tx_queued_bytes")], sent as f64);
    let named = |port: &u16| context.settings.ports.contains(port);
    let shown: Vec<u16> = ports
        .keys()
        .copied()
        .filter(named)
        .chain(ports.keys().copied().filter(|p| !named(p)))
        .collect();
    context.memory.omitted = Some(shown.len().saturating_sub(context.settings.max_objects));
    for port in shown.into_iter().take(context.settings.max_objects) {
        let label = port.to_string();
        let listening = ports.get(&port) == Some(&true);
        context.batch.push(
            &LISTENING,
            &[("port", &label)],
            f64::from(u8::from(listening)),
        );
        context.batch.push(
            &CONNECTIONS,
            &[("port", &label)],
            f64::from(established.get(&port).copied().unwrap_or(0)),
        );
    }
    Ok(())
}

fn read_udp(context: &mut Context<'_>) -> Result<(), PartError> {
    for (path, ip) in [("net/udp", "v4"), ("net/udp6", "v6")] {
        let content = match context.kernel.proc(path) {
            Ok(content) => content,
            Err(PartError::Absent) if ip == "v6" => continue,
            Err(error) => return Err(error),
        };
        let (mut sent, mut received) = (0_u64, 0_u64);
        for socket in sockets(content) {
            sent += socket.sent;
            received += socket.received;
        }
        context
            .batch
            .push(&QUEUES, &[("ip", ip), ("queue", "tx")], sent as f64);
        context
            .batch
            .push(&QUEUES, &[("ip", ip), ("queue", "rx")], received as f64);
    }
    Ok(())
}
