//! Queueing disciplines of the network interfaces, asked over rtnetlink
//! (`include/uapi/linux/rtnetlink.h`, `pkt_sched.h`, `gen_stats.h`), under node_exporter's names.
//! Only on request: `host: {enable: [qdisc]}`.
//!
//! Any user may ask. The socket lasts for one look; what is seen are the interfaces of the network
//! that this process is in. Only the discipline at the root of an interface is shown.

use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::PathBuf;

use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, sendto, socket,
};

use crate::model::MetricDesc;

use super::kernel::PartError;
use super::part::{Context, Lane, Part, counter, gauge};

/// The part.
pub const PART: Part = Part {
    name: "qdisc",
    default: false,
    lane: Lane::Kernel,
    metrics: &METRICS,
    read,
};

const LABELS: &[&str] = &["device", "kind"];
const METRICS: [MetricDesc; 7] = [
    counter(
        "node_qdisc_bytes_total",
        "bytes",
        "Bytes sent.",
        LABELS,
        "rtnetlink TCA_STATS_BASIC",
    ),
    counter(
        "node_qdisc_packets_total",
        "",
        "Packets sent.",
        LABELS,
        "rtnetlink TCA_STATS_BASIC, TCA_STATS_PKT64",
    ),
    counter(
        "node_qdisc_drops_total",
        "",
        "Packets dropped.",
        LABELS,
        "rtnetlink TCA_STATS_QUEUE",
    ),
    counter(
        "node_qdisc_requeues_total",
        "",
        "Packets taken out of the queue, not sent, and put back.",
        LABELS,
        "rtnetlink TCA_STATS_QUEUE",
    ),
    counter(
        "node_qdisc_overlimits_total",
        "",
        "Packets beyond the limit.",
        LABELS,
        "rtnetlink TCA_STATS_QUEUE",
    ),
    gauge(
        "node_qdisc_current_queue_length",
        "",
        "Packets that wait.",
        LABELS,
        "rtnetlink TCA_STATS_QUEUE",
    ),
    gauge(
        "node_qdisc_backlog",
        "bytes",
        "Bytes that wait.",
        LABELS,
        "rtnetlink TCA_STATS_QUEUE",
    ),
];

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const RTM_NEWQDISC: u16 = 36;
const RTM_GETQDISC: u16 = 38;
/// `NLM_F_REQUEST` and `NLM_F_DUMP`.
const DUMP: u16 = 0x301;
/// `TC_H_ROOT`: the discipline belongs to the interface itself.
const ROOT: u32 = 0xffff_ffff;
const HEADER: usize = 16;
/// `struct tcmsg`.
const MESSAGE: usize = 20;
const TCA_KIND: u16 = 1;
const TCA_STATS2: u16 = 7;
const TCA_STATS_BASIC: u16 = 1;
const TCA_STATS_QUEUE: u16 = 3;
const TCA_STATS_PKT64: u16 = 8;
/// One answer is no longer, in bytes.
const ROOM: usize = 64 << 10;
/// Answers at most: a million disciplines are none that could be shown.
const MAX_ANSWERS: usize = 4096;

/// One discipline.
#[derive(Debug, Default, PartialEq)]
struct Discipline {
    interface: u32,
    kind: String,
    bytes: u64,
    packets: u64,
    /// In the kernel's order: waiting packets, waiting bytes, dropped, put back, beyond the limit.
    queue: [u32; 5],
}

fn read(context: &mut Context<'_>) -> Result<(), PartError> {
    let failed = |source: io::Error| PartError::Io {
        path: PathBuf::from("rtnetlink"),
        source,
    };
    let found = ask().map_err(|error| failed(error.into()))?;
    let names = nix::net::if_::if_nameindex().map_err(|error| failed(error.into()))?;
    let (mut shown, mut omitted) = (0, 0);
    for one in found {
        let name = names
            .iter()
            .find(|interface| interface.index() == one.interface)
            .map(|interface| interface.name().to_string_lossy());
        // An interface that has gone meanwhile.
        let Some(name) = name else { continue };
        if context.settings.interfaces_exclude.is_match(&name) {
            continue;
        }
        if shown == context.settings.max_objects {
            omitted += 1;
            continue;
        }
        shown += 1;
        let labels = [("device", &*name), ("kind", one.kind.as_str())];
        let [length, backlog, drops, requeues, overlimits] = one.queue.map(f64::from);
        let values = [
            one.bytes as f64,
            one.packets as f64,
            drops,
            requeues,
            overlimits,
            length,
            backlog,
        ];
        for (desc, value) in METRICS.iter().zip(values) {
            context.batch.push(desc, &labels, value);
        }
    }
    context.memory.omitted = Some(omitted);
    Ok(())
}

/// Asks for all disciplines.
fn ask() -> nix::Result<Vec<Discipline>> {
    let socket: OwnedFd = socket(
        AddressFamily::Netlink,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::NetlinkRoute,
    )?;
    let mut request = Vec::with_capacity(HEADER + MESSAGE);
    request.extend(((HEADER + MESSAGE) as u32).to_ne_bytes());
    request.extend(RTM_GETQDISC.to_ne_bytes());
    request.extend(DUMP.to_ne_bytes());
    request.extend(1_u32.to_ne_bytes());
    request.resize(HEADER + MESSAGE, 0);
    let kernel = NetlinkAddr::new(0, 0);
    sendto(socket.as_raw_fd(), &request, &kernel, MsgFlags::empty())?;
    let (mut room, mut found) = (vec![0; ROOM], Vec::new());
    for _ in 0..MAX_ANSWERS {
        // The kernel has answered before `sendto` returned, so nothing is waited for.
        let length = recv(socket.as_raw_fd(), &mut room, MsgFlags::MSG_DONTWAIT)?;
        if take(&room[..length], &mut found)? {
            return Ok(found);
        }
    }
    Ok(found)
}

/// Reads the messages of one answer; says whether it was the last.
fn take(mut answer: &[u8], found: &mut Vec<Discipline>) -> nix::Result<bool> {
    while let (Some(length), Some(kind)) = (u32_at(answer, 0), u16_at(answer, 4)) {
        let length = length as usize;
        let Some(message) = answer.get(HEADER..length) else {
            return Err(nix::Error::EBADMSG);
        };
        match kind {
            NLMSG_DONE => return Ok(true),
            NLMSG_ERROR => {
                let code = u32_at(message, 0).unwrap_or(0).cast_signed();
                return Err(nix::Error::from_raw(code.wrapping_neg()));
            }
            RTM_NEWQDISC => found.extend(discipline(message)),
            _ => {}
        }
        answer = answer.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(false)
}

/// The discipline of a message, when it is one at the root.
fn discipline(message: &[u8]) -> Option<Discipline> {
    let parent = u32_at(message, 12)?;
    if parent != ROOT && parent != 0 {
        return None;
    }
    let mut one = Discipline {
        interface: u32_at(message, 4)?,
        ..Discipline::default()
    };
    for (kind, value) in attributes(message.get(MESSAGE..)?) {
        match kind {
            TCA_KIND => {
                let name = value.split(|byte| *byte == 0).next().unwrap_or_default();
                one.kind = String::from_utf8_lossy(name).into_owned();
            }
            TCA_STATS2 => {
                for (kind, value) in attributes(value) {
                    match kind {
                        TCA_STATS_BASIC => {
                            one.bytes = u64_at(value, 0)?;
                            one.packets = one.packets.max(u32_at(value, 8)?.into());
                        }
                        TCA_STATS_PKT64 => one.packets = u64_at(value, 0)?,
                        TCA_STATS_QUEUE => {
                            for (at, number) in one.queue.iter_mut().enumerate() {
                                *number = u32_at(value, at * 4)?;
                            }
                        }
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    Some(one)
}

/// `struct rtattr`: length, kind, value, each at a multiple of four bytes.
fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let (length, kind) = (usize::from(u16_at(bytes, 0)?), u16_at(bytes, 2)?);
        let value = bytes.get(4..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        // The two highest bits say how the value is written.
        Some((kind & 0x3fff, value))
    })
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_ne_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend(((value.len() + 4) as u16).to_ne_bytes());
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    fn message(kind: u16, body: &[u8]) -> Vec<u8> {
        let mut bytes = ((HEADER + body.len()) as u32).to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.resize(HEADER, 0);
        bytes.extend(body);
        bytes
    }

    fn of(interface: u32, parent: u32) -> Vec<u8> {
        let mut body = vec![0; 4];
        body.extend(interface.to_ne_bytes());
        body.extend(0_u32.to_ne_bytes());
        body.extend(parent.to_ne_bytes());
        body.extend(0_u32.to_ne_bytes());
        let mut basic = 5_000_000_000_u64.to_ne_bytes().to_vec();
        basic.extend(7_u32.to_ne_bytes());
        let queue: Vec<u8> = [1_u32, 2, 3, 4, 5]
            .iter()
            .flat_map(|n| n.to_ne_bytes())
            .collect();
        body.extend(attribute(TCA_KIND, b"fq_codel\0"));
        let inner = [
            attribute(TCA_STATS_BASIC, &basic),
            attribute(TCA_STATS_QUEUE, &queue),
        ]
        .concat();
        body.extend(attribute(TCA_STATS2 | 0x8000, &inner));
        body
    }

    #[test]
    fn the_discipline_at_the_root_of_each_interface_is_read() {
        let answer = [
            message(RTM_NEWQDISC, &of(2, ROOT)),
            message(RTM_NEWQDISC, &of(3, 0x10001)),
        ]
        .concat();
        let mut found = Vec::new();
        assert_eq!(take(&answer, &mut found), Ok(false));
        let wanted = Discipline {
            interface: 2,
            kind: "fq_codel".to_owned(),
            bytes: 5_000_000_000,
            packets: 7,
            queue: [1, 2, 3, 4, 5],
        };
        assert_eq!(found, [wanted]);
        assert_eq!(take(&message(NLMSG_DONE, &[]), &mut found), Ok(true));
    }

    #[test]
    fn answers_that_break_off_or_refuse_are_errors() {
        let whole = message(RTM_NEWQDISC, &of(2, ROOT));
        let mut found = Vec::new();
        assert_eq!(
            take(&whole[..whole.len() - 1], &mut found),
            Err(nix::Error::EBADMSG)
        );
        let refused = message(NLMSG_ERROR, &(-1_i32).to_ne_bytes());
        assert_eq!(take(&refused, &mut found), Err(nix::Error::EPERM));
        // Of a message that is too short nothing is made.
        assert_eq!(
            take(&message(RTM_NEWQDISC, &[0; 10]), &mut found),
            Ok(false)
        );
        assert!(found.is_empty());
    }
}
