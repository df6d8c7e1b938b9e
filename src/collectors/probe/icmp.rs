//! The ICMP prober: one echo request and its reply (RFC 792, RFC 4443).
//!
//! A ping socket needs no privilege where the kernel's `net.ipv4.ping_group_range` holds our group;
//! else a raw socket is tried, which needs CAP_NET_RAW.

use std::hash::{BuildHasher as _, RandomState};
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd as _;
use std::time::Instant;

use nix::sys::socket::{
    AddressFamily, ControlMessageOwned, MsgFlags, SockFlag, SockProtocol, SockType,
    SockaddrStorage, recvmsg, sendto, setsockopt, socket, sockopt,
};
use tokio::io::Interest;
use tokio::net::UdpSocket;

use super::connection::Connector;
use super::report::{Failure, IcmpFound, Reason, Report};

/// What the payload begins with, so that those who see it know what it is.
const PAYLOAD: &[u8] = b"nightbell";
/// Most bytes of a payload.
pub const MAX_PAYLOAD: usize = 65_000;
/// What helps where no socket may be opened.
const REMEDY: &str = "ICMP is not allowed: set net.ipv4.ping_group_range to include nightbell's group, or give it CAP_NET_RAW";

/// Whom to ask.
#[derive(Clone)]
pub struct IcmpProbe {
    /// Host name or address.
    pub host: String,
    /// Size of the payload in bytes.
    pub payload: usize,
    /// Hop limit of the request.
    pub ttl: Option<u8>,
}

/// A socket for echoes.
struct Pinger {
    /// Datagrams of whatever protocol: the type only waits for them.
    socket: UdpSocket,
    /// Whether the kernel gives replies of all requests, and IPv4 headers before them.
    raw: bool,
    v4: bool,
}

impl IcmpProbe {
    /// Sends one request and waits for its reply.
    pub async fn run(&self, connector: &Connector, report: &mut Report) -> Result<(), Failure> {
        report.icmp = Some(IcmpFound::default());
        let addresses = connector.resolve(&self.host, 0, report).await?;
        let address = *addresses
            .first()
            .ok_or_else(|| Failure::new(Reason::Dns, "the name has no address"))?;
        let start = Instant::now();
        let pinger = Pinger::open(address.ip(), self.ttl).map_err(|error| match error.kind() {
            io::ErrorKind::PermissionDenied => {
                Failure::new(Reason::Permission, REMEDY).brief_as(REMEDY)
            }
            _ => of_kernel(&error),
        })?;
        let (id, sequence) = {
            let random = RandomState::new().hash_one(start);
            (random as u16, (random >> 16) as u16)
        };
        let request = pinger.request(id, sequence, self.payload);
        let setup = start.elapsed();
        let found = |found: IcmpFound, report: &mut Report| report.icmp = Some(found);
        found(
            IcmpFound {
                setup,
                ..IcmpFound::default()
            },
            report,
        );
        let start = Instant::now();
        pinger
            .send(&request, address)
            .await
            .map_err(|error| of_kernel(&error))?;
        loop {
            let (reply, from, hop_limit) =
                pinger.receive().await.map_err(|error| of_kernel(&error))?;
            if from == Some(address.ip()) && pinger.is_reply(&reply, &request) {
                found(
                    IcmpFound {
                        setup,
                        rtt: start.elapsed(),
                        hop_limit,
                    },
                    report,
                );
                return Ok(());
            }
        }
    }
}

fn of_kernel(error: &io::Error) -> Failure {
    Failure::new(Reason::Connect, error.to_string()).brief_as(error.kind().to_string())
}

impl Pinger {
    fn open(to: IpAddr, ttl: Option<u8>) -> io::Result<Self> {
        let v4 = to.is_ipv4();
        let (family, protocol) = if v4 {
            (AddressFamily::Inet, SockProtocol::Icmp)
        } else {
            (AddressFamily::Inet6, SockProtocol::IcmpV6)
        };
        let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
        let (socket, raw) = match socket(family, SockType::Datagram, flags, protocol) {
            Ok(socket) => (socket, false),
            Err(_) => (socket(family, SockType::Raw, flags, protocol)?, true),
        };
        // Without it the hop limit is not known, and everything else is.
        let _unknown = if v4 {
            setsockopt(&socket, sockopt::Ipv4RecvTtl, &true)
        } else {
            setsockopt(&socket, sockopt::Ipv6RecvHopLimit, &true)
        };
        if let Some(ttl) = ttl {
            let ttl = i32::from(ttl);
            if v4 {
                setsockopt(&socket, sockopt::Ipv4Ttl, &ttl)?
            } else {
                setsockopt(&socket, sockopt::Ipv6Ttl, &ttl)?
            };
        }
        Ok(Pinger {
            socket: UdpSocket::from_std(socket.into())?,
            raw,
            v4,
        })
    }

    /// The kernel writes the id of a ping socket, and the checksum with IPv6.
    fn request(&self, id: u16, sequence: u16, payload: usize) -> Vec<u8> {
        let kind = if self.v4 { 8 } else { 128 };
        let mut request = vec![kind, 0, 0, 0];
        request.extend(id.to_be_bytes());
        request.extend(sequence.to_be_bytes());
        request.extend(PAYLOAD);
        request.resize(8 + payload, 0);
        if self.v4 {
            let sum = checksum(&request).to_be_bytes();
            request[2..4].copy_from_slice(&sum);
        }
        request
    }

    async fn send(&self, request: &[u8], to: SocketAddr) -> io::Result<()> {
        let to = SockaddrStorage::from(to);
        let send = || {
            Ok(sendto(
                self.socket.as_raw_fd(),
                request,
                &to,
                MsgFlags::empty(),
            )?)
        };
        self.socket
            .async_io(Interest::WRITABLE, send)
            .await
            .map(drop)
    }

    /// A message, who sent it, and its hop limit.
    async fn receive(&self) -> io::Result<(Vec<u8>, Option<IpAddr>, Option<u8>)> {
        let receive = || {
            let mut room = vec![0; 1 << 16];
            let mut control = nix::cmsg_space!(i32);
            let mut parts = [IoSliceMut::new(&mut room)];
            let came = recvmsg::<SockaddrStorage>(
                self.socket.as_raw_fd(),
                &mut parts,
                Some(&mut control),
                MsgFlags::empty(),
            )?;
            let from = came.address.and_then(|from| {
                let v4 = from.as_sockaddr_in().map(|from| IpAddr::from(from.ip()));
                v4.or_else(|| from.as_sockaddr_in6().map(|from| IpAddr::from(from.ip())))
            });
            let limit = came.cmsgs().ok().and_then(|mut messages| {
                messages.find_map(|message| match message {
                    ControlMessageOwned::Ipv4Ttl(limit)
                    | ControlMessageOwned::Ipv6HopLimit(limit) => u8::try_from(limit).ok(),
                    _ => None,
                })
            });
            let length = came.bytes;
            room.truncate(length);
            Ok((room, from, limit))
        };
        let (mut message, from, limit) = self.socket.async_io(Interest::READABLE, receive).await?;
        if self.raw && self.v4 {
            let header = message
                .first()
                .map_or(0, |first| usize::from(first & 0x0f) * 4);
            message.drain(..header.min(message.len()));
        }
        Ok((message, from, limit))
    }

    /// Whether a message answers this request: the same but for type and checksum, and for the id
    /// that a ping socket has of its own.
    fn is_reply(&self, message: &[u8], request: &[u8]) -> bool {
        let kind = if self.v4 { 0 } else { 129 };
        let same = if self.raw { 4 } else { 6 };
        message.len() == request.len()
            && message[..2] == [kind, 0]
            && message[same..] == request[same..]
    }
}

/// RFC 1071.
fn checksum(message: &[u8]) -> u16 {
    let sum = message.chunks(2).fold(0_u32, |sum, pair| {
        sum + (u32::from(pair[0]) << 8) + u32::from(pair.get(1).copied().unwrap_or(0))
    });
    let folded = (sum & 0xffff) + (sum >> 16);
    !((folded & 0xffff) + (folded >> 16)) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of RFC 1071, section 3.
    #[test]
    fn a_checksum_is_the_complement_of_the_sum_of_words() {
        assert_eq!(
            checksum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]),
            !0xddf2
        );
        assert_eq!(checksum(&[0xff, 0xff, 0x01]), !0x0100);
    }
}
