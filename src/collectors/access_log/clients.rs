//! Who sends most: a bounded count by address (Misra and Gries, "Finding repeated elements", 1982),
//! which never says more than was sent.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};

use serde::{Deserialize, Serialize};

/// Addresses that are counted at once. What is said of one lacks at most this part of all requests.
const MAX: usize = 4096;

/// Counts of one window.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Clients {
    /// The window's number since 1970.
    window: i64,
    counts: HashMap<IpAddr, u64, ahash::RandomState>,
}

impl Clients {
    /// Forgets every address when another window has begun.
    pub fn turn(&mut self, now_ms: i64, window_ms: i64) {
        let window = now_ms.div_euclid(window_ms.max(1));
        if self.window != window {
            *self = Clients {
                window,
                ..Clients::default()
            };
        }
    }

    /// Counts one request.
    pub fn add(&mut self, address: IpAddr) {
        if let Some(count) = self.counts.get_mut(&address) {
            *count += 1;
        } else if self.counts.len() < MAX {
            self.counts.insert(address, 1);
        } else {
            self.counts.retain(|_, count| {
                *count -= 1;
                *count > 0
            });
        }
    }

    /// Those above a limit, the greatest first.
    pub fn above(&self, limit: u64) -> Vec<(IpAddr, u64)> {
        let mut found: Vec<(IpAddr, u64)> = self
            .counts
            .iter()
            .filter(|(_, n)| **n > limit)
            .map(|(a, n)| (*a, *n))
            .collect();
        found.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(&b.0)));
        found
    }
}

/// One client of IPv6 has a network of 64 bits.
pub fn client_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX))),
        v4 => v4,
    }
}

/// A network in CIDR notation.
#[derive(Clone, Copy, Debug)]
pub struct Network {
    address: IpAddr,
    bits: u32,
}

impl Network {
    /// Reads `10.0.0.0/8`, or an address alone.
    pub fn parse(text: &str) -> Option<Network> {
        let (address, bits) = text
            .split_once('/')
            .map_or((text, None), |(address, bits)| (address, Some(bits)));
        let address: IpAddr = address.parse().ok()?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let bits = bits.map_or(Some(most), |bits| {
            bits.parse().ok().filter(|bits| *bits <= most)
        })?;
        Some(Network { address, bits })
    }

    fn holds(&self, address: IpAddr) -> bool {
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                (own.to_bits() ^ other.to_bits())
                    .checked_shr(32 - self.bits)
                    .unwrap_or(0)
                    == 0
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => {
                (own.to_bits() ^ other.to_bits())
                    .checked_shr(128 - self.bits)
                    .unwrap_or(0)
                    == 0
            }
            _ => false,
        }
    }
}

/// Who sent a request: the peer, or, when that is a trusted proxy, the last address that it was
/// forwarded for and that is none.
pub fn sender(peer: &[u8], forwarded: &[u8], trusted: &[Network]) -> Option<IpAddr> {
    let parse = |text: &[u8]| {
        std::str::from_utf8(text)
            .ok()?
            .trim()
            .trim_matches(['[', ']'])
            .parse::<IpAddr>()
            .ok()
    };
    let is_trusted = |address: IpAddr| trusted.iter().any(|network| network.holds(address));
    let peer = parse(peer)?;
    if !is_trusted(peer) {
        return Some(client_of(peer));
    }
    let mut chain = forwarded.rsplit(|b| *b == b',').map_while(parse);
    Some(client_of(
        chain.find(|address| !is_trusted(*address)).unwrap_or(peer),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_million_addresses_hide_nobody_who_sends_much_and_accuse_nobody() {
        let mut clients = Clients::default();
        clients.turn(0, 1000);
        let busy: IpAddr = "203.0.113.7".parse().expect("an address");
        for n in 0..200_000_u32 {
            clients.add(IpAddr::V4(n.into()));
            if n % 100 == 0 {
                clients.add(busy);
            }
        }
        let found = clients.above(500);
        assert_eq!(found.iter().map(|(a, _)| *a).collect::<Vec<_>>(), [busy]);
        assert!(found[0].1 <= 2000 && clients.counts.len() <= MAX);
        clients.turn(1000, 1000);
        assert!(
            clients.above(0).is_empty(),
            "a window later nobody is remembered"
        );
    }

    #[test]
    fn who_is_meant_depends_on_whom_one_trusts() {
        let trusted = ["10.0.0.0/8", "::1"].map(|text| Network::parse(text).expect("a network"));
        let of = |peer: &str, forwarded: &str| {
            sender(peer.as_bytes(), forwarded.as_bytes(), &trusted).map(|a| a.to_string())
        };
        assert_eq!(
            of("203.0.113.7", "198.51.100.1").as_deref(),
            Some("203.0.113.7"),
            "anybody can write a header"
        );
        assert_eq!(
            of("10.1.2.3", "9.9.9.9, 198.51.100.1, 10.0.0.9").as_deref(),
            Some("198.51.100.1")
        );
        assert_eq!(of("10.1.2.3", "-").as_deref(), Some("10.1.2.3"));
        assert_eq!(
            of("2001:db8:1:2:3:4:5:6", "").as_deref(),
            Some("2001:db8:1:2::")
        );
        assert_eq!(of("::ffff:203.0.113.7", "").as_deref(), Some("203.0.113.7"));
        assert_eq!(of("garbage", ""), None);
        assert!(Network::parse("10.0.0.0/33").is_none());
    }
}
