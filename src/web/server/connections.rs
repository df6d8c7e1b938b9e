//! Who is connected: each address has a share of the connections, this machine has room that nobody
//! else can take, and where a share is used up the connection that has waited longest for a request
//! makes room for the new one.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use parking_lot::Mutex;
use tokio::sync::Notify;

/// Of all connections, one address other than this machine's own may have one part in so many.
const SHARE: usize = 4;
/// The share of this machine's own address.
const OWN_SHARE: usize = 2;
/// One part in so many is kept for this machine.
const RESERVED: usize = 8;

/// The value of [`Connection::waiting`] while a request is being answered.
const BUSY: u64 = u64::MAX;

/// All connections.
pub struct Connections {
    most: usize,
    begun: Instant,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    by_address: HashMap<IpAddr, Vec<Arc<Connection>>>,
    count: usize,
    next: u64,
}

/// One connection.
struct Connection {
    number: u64,
    /// Since when it waits for a request, in milliseconds; [`BUSY`] while one is answered.
    waiting: AtomicU64,
    sent_away: Notify,
}

/// What became of a new connection.
pub enum Admission {
    /// It is let in.
    In(Slot),
    /// It is let in, and another one was sent away for it.
    InsteadOfAnother(Slot),
    /// All are busy.
    Refused,
}

/// The slot of one connection; free again when it is dropped.
pub struct Slot {
    all: Arc<Connections>,
    address: IpAddr,
    connection: Arc<Connection>,
}

impl Connections {
    /// At most so many at once.
    pub fn new(most: usize) -> Arc<Self> {
        Arc::new(Connections {
            most,
            begun: Instant::now(),
            state: Mutex::default(),
        })
    }

    /// Lets a connection from this address in, if there is room or if room can be made.
    pub fn admit(self: &Arc<Self>, peer: IpAddr) -> Admission {
        let address = client(peer);
        let own = is_own(address);
        let share = (self.most / if own { OWN_SHARE } else { SHARE }).max(1);
        let most = if own {
            self.most
        } else {
            (self.most - self.most / RESERVED).max(1)
        };
        let mut state = self.state.lock();
        let mut made_room = false;
        if state
            .by_address
            .get(&address)
            .is_some_and(|list| list.len() >= share)
        {
            made_room = state.send_away(address);
            if !made_room {
                return Admission::Refused;
            }
        } else if state.count >= most {
            // The address with most connections loses one.
            let crowd = state
                .by_address
                .iter()
                .max_by_key(|(_, list)| list.len())
                .map(|(address, _)| *address);
            made_room = crowd.is_some_and(|crowd| state.send_away(crowd));
            if !made_room {
                return Admission::Refused;
            }
        }
        state.next += 1;
        let waiting = AtomicU64::new(self.now());
        let connection = Arc::new(Connection {
            number: state.next,
            waiting,
            sent_away: Notify::new(),
        });
        state.count += 1;
        state
            .by_address
            .entry(address)
            .or_default()
            .push(Arc::clone(&connection));
        let slot = Slot {
            all: Arc::clone(self),
            address,
            connection,
        };
        if made_room {
            Admission::InsteadOfAnother(slot)
        } else {
            Admission::In(slot)
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(BUSY - 1)
    }
}

impl State {
    /// Ends the connection of this address that has waited longest for a request, if one waits.
    fn send_away(&mut self, address: IpAddr) -> bool {
        let Some(list) = self.by_address.get_mut(&address) else {
            return false;
        };
        let waiting = |(_, connection): &(usize, &Arc<Connection>)| {
            connection.waiting.load(Ordering::Relaxed)
        };
        let Some((slot, _)) = list
            .iter()
            .enumerate()
            .min_by_key(waiting)
            .filter(|found| waiting(found) != BUSY)
        else {
            return false;
        };
        list.swap_remove(slot).sent_away.notify_one();
        self.count -= 1;
        true
    }

    fn remove(&mut self, address: IpAddr, number: u64) {
        let Some(list) = self.by_address.get_mut(&address) else {
            return;
        };
        if let Some(slot) = list
            .iter()
            .position(|connection| connection.number == number)
        {
            list.swap_remove(slot);
            self.count -= 1;
        }
        if list.is_empty() {
            self.by_address.remove(&address);
        }
    }
}

impl Slot {
    /// A request is being answered.
    pub fn busy(&self) {
        self.connection.waiting.store(BUSY, Ordering::Relaxed);
    }

    /// The next request may come.
    pub fn waits(&self) {
        self.connection
            .waiting
            .store(self.all.now(), Ordering::Relaxed);
    }

    /// Ends when another connection needs this slot.
    pub async fn sent_away(&self) {
        self.connection.sent_away.notified().await;
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.all
            .state
            .lock()
            .remove(self.address, self.connection.number);
    }
}

/// Whom an address stands for: one machine has as many addresses of version 6 as it likes.
fn client(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(address) if !address.is_loopback() => {
            IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64))
        }
        address => address,
    }
}

/// Whether it is the address at which programs of this machine connect when nobody names another.
fn is_own(address: IpAddr) -> bool {
    matches!(
        address,
        IpAddr::V4(Ipv4Addr::LOCALHOST) | IpAddr::V6(Ipv6Addr::LOCALHOST)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    fn admitted(all: &Arc<Connections>, from: &str) -> Option<Slot> {
        match all.admit(address(from)) {
            Admission::In(slot) | Admission::InsteadOfAnother(slot) => Some(slot),
            Admission::Refused => None,
        }
    }

    #[test]
    fn an_address_that_takes_its_share_leaves_room_for_others() {
        let all = Connections::new(16);
        let busy: Vec<Slot> = (0..4)
            .filter_map(|_| admitted(&all, "192.0.2.1"))
            .inspect(Slot::busy)
            .collect();
        assert_eq!(busy.len(), 4);
        assert!(
            admitted(&all, "192.0.2.1").is_none(),
            "its share is used up, and every connection of it is busy"
        );
        assert!(admitted(&all, "192.0.2.2").is_some());
        drop(busy);
        assert!(admitted(&all, "192.0.2.1").is_some());
    }

    #[test]
    fn this_machine_has_room_whatever_the_others_hold() {
        let all = Connections::new(16);
        let peers = (0..16).map(|peer| format!("192.0.2.{peer}"));
        let busy: Vec<Slot> = peers
            .filter_map(|peer| admitted(&all, &peer))
            .inspect(Slot::busy)
            .collect();
        assert_eq!(busy.len(), 14);
        assert!(admitted(&all, "127.0.0.1").is_some() && admitted(&all, "::1").is_some());
    }

    #[tokio::test]
    async fn the_connection_that_waits_longest_makes_room() {
        let all = Connections::new(8);
        let (first, second) = (
            admitted(&all, "127.0.0.9").expect("room"),
            admitted(&all, "127.0.0.9").expect("room"),
        );
        first.busy();
        let third = all.admit(address("127.0.0.9"));
        assert!(matches!(third, Admission::InsteadOfAnother(_)));
        second.sent_away().await;
        drop((first, second));
        drop(third);
        assert_eq!(all.state.lock().count, 0);
    }
}
