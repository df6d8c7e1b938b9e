//! What the dispatcher and the task that delivers for one integration share: messages in memory,
//! what is done, what waits apart.

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::Duration;

use parking_lot::Mutex;
use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::Notify;

use crate::model::Timestamp;
use crate::state::OutboxRow;

/// Longest pause that a service may ask for.
pub(in crate::alerting) const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(3600);

/// Most messages that are held in memory when the database cannot take them.
const MAX_UNSAVED: usize = 1000;
/// Most delivered messages that are remembered because the database would not let them go.
const MAX_DONE: usize = 10_000;

/// What the dispatcher and one integration's task share; it outlives a reload.
#[derive(Default)]
pub struct Mailbox {
    pub(in crate::alerting) unsaved: Mutex<VecDeque<OutboxRow>>,
    /// Messages the receiver has accepted (or that were given up) but the database would not let
    /// go.
    pub(in crate::alerting) done: Mutex<HashSet<String>>,
    /// Messages that wait apart: until when, and how often they were put off.
    pub(in crate::alerting) put_off: Mutex<HashMap<String, (Timestamp, u32)>>,
    /// What the last attempt was notified of recipients that are refused for good.
    pub(in crate::alerting) refused: Mutex<Vec<String>>,
    waiting: Mutex<Waiting>,
    pub(in crate::alerting) wake: Notify,
    /// Held by the one task that delivers: after a reload the successor waits for the last attempt
    /// of its predecessor.
    pub(in crate::alerting) turn: tokio::sync::Mutex<()>,
}

/// Which messages wait, as hashes of their names, and where their number is shown.
#[derive(Default)]
struct Waiting {
    messages: HashSet<u64, ahash::RandomState>,
    /// While they are counted anew: what came (true) or went meanwhile.
    meanwhile: Option<HashMap<u64, bool>>,
    /// `None` once the integration is no longer configured.
    gauge: Option<Gauge>,
}

impl Waiting {
    /// Changes what waits, and shows by how much it became more: integrations of one receiver have
    /// one gauge.
    fn change(&mut self, change: impl FnOnce(&mut HashSet<u64, ahash::RandomState>)) {
        let before = self.messages.len() as i64;
        change(&mut self.messages);
        if let Some(gauge) = &self.gauge {
            gauge.inc_by(self.messages.len() as i64 - before);
        }
    }

    fn mark(&mut self, message: u64, waits: bool) {
        if let Some(meanwhile) = &mut self.meanwhile {
            meanwhile.insert(message, waits);
        }
        self.change(|messages| {
            if waits {
                messages.insert(message);
            } else {
                messages.remove(&message);
            }
        });
    }
}

fn hash(delivery_id: &str) -> u64 {
    // The same for every mailbox, so that what is counted twice is one.
    ahash::RandomState::with_seeds(1, 2, 3, 4).hash_one(delivery_id)
}

impl Mailbox {
    /// One whose waiting messages `gauge` shows.
    pub fn shown_by(gauge: Gauge) -> Self {
        Mailbox {
            waiting: Mutex::new(Waiting {
                gauge: Some(gauge),
                ..Waiting::default()
            }),
            ..Mailbox::default()
        }
    }

    /// A message waits from now on.
    pub fn expect(&self, delivery_id: &str) {
        self.waiting.lock().mark(hash(delivery_id), true);
    }

    /// A message waits no longer.
    pub fn settle(&self, delivery_id: &str) {
        self.waiting.lock().mark(hash(delivery_id), false);
    }

    /// What waits is about to be read from the database.
    pub fn begin_count(&self) {
        self.waiting.lock().meanwhile = Some(HashMap::new());
    }

    /// These waited when the count began; so does what is in memory alone.
    pub fn end_count<'m>(&self, deliveries: impl Iterator<Item = &'m str>) {
        let unsaved: Vec<u64> = self
            .unsaved
            .lock()
            .iter()
            .map(|row| hash(&row.delivery_id))
            .collect();
        let mut waiting = self.waiting.lock();
        let meanwhile = waiting.meanwhile.take().unwrap_or_default();
        waiting.change(|messages| *messages = deliveries.map(hash).chain(unsaved).collect());
        meanwhile
            .into_iter()
            .for_each(|(message, waits)| waiting.mark(message, waits));
    }

    /// The integration is gone: nothing of it is shown any more, whatever the last attempt under
    /// way still says.
    pub fn close(&self) {
        let mut waiting = self.waiting.lock();
        waiting.change(HashSet::clear);
        waiting.gauge = None;
    }

    /// Says that there is something in the outbox.
    pub fn wake(&self) {
        self.wake.notify_one();
    }

    /// Keeps a message that the database could not take. Beyond the bound the oldest one goes, and
    /// is returned.
    pub fn keep(&self, message: OutboxRow) -> Option<OutboxRow> {
        let mut unsaved = self.unsaved.lock();
        unsaved.push_back(message);
        let lost = if unsaved.len() > MAX_UNSAVED {
            unsaved.pop_front()
        } else {
            None
        };
        self.wake();
        lost
    }

    /// What the database could not take, to try again.
    pub fn unsaved_messages(&self) -> Vec<OutboxRow> {
        self.unsaved.lock().iter().cloned().collect()
    }

    /// The database has taken this message. If it was delivered from memory meanwhile, it is not
    /// sent from there.
    pub fn saved(&self, delivery_id: &str) {
        let mut unsaved = self.unsaved.lock();
        let before = unsaved.len();
        unsaved.retain(|row| row.delivery_id != delivery_id);
        if unsaved.len() == before {
            self.is_done(delivery_id);
        }
    }

    /// The bound is far beyond what one outage brings; beyond it, a message may come twice.
    pub(in crate::alerting) fn is_done(&self, delivery_id: &str) {
        let mut done = self.done.lock();
        if done.len() < MAX_DONE {
            done.insert(delivery_id.to_owned());
        }
    }

    /// Lets a message wait apart for a time that follows from how often that was done before; gives
    /// how often it is now.
    pub(in crate::alerting) fn put_off(
        &self,
        delivery_id: &str,
        now: Timestamp,
        wait: impl Fn(u32) -> Duration,
    ) -> u32 {
        let mut put_off = self.put_off.lock();
        if put_off.len() >= MAX_DONE {
            put_off.clear();
        }
        let (until, count) = put_off.entry(delivery_id.to_owned()).or_insert((now, 0));
        *until = now + wait(*count);
        *count += 1;
        *count
    }

    /// Whether a message waits apart. A time that lies further ahead than any wait is from before a
    /// jump of the clock.
    pub(in crate::alerting) fn is_put_off(&self, delivery_id: &str, now: Timestamp) -> bool {
        let waits = |until: Timestamp| until > now && until.since(now) <= LONGEST_RETRY_AFTER;
        self.put_off
            .lock()
            .get(delivery_id)
            .is_some_and(|(until, _)| waits(*until))
    }

    /// How long it is until one of those that wait apart may be tried.
    pub(in crate::alerting) fn next_put_off(&self, now: Timestamp) -> Option<Duration> {
        self.put_off
            .lock()
            .values()
            .map(|(until, _)| until.since(now))
            .min()
    }

    /// A message that was dealt with is to be sent again.
    pub fn forget_done(&self, delivery_id: &str) {
        self.done.lock().remove(delivery_id);
    }

    /// How many messages are held in memory alone.
    pub fn unsaved(&self) -> usize {
        self.unsaved.lock().len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Neither a message that is counted twice, nor one that goes twice, nor a count while messages
    /// come and go.
    #[test]
    fn the_number_of_messages_that_wait_is_never_below_zero_nor_stays_above_it() {
        let gauge = Gauge::default();
        let (mailbox, other) = (
            Mailbox::shown_by(gauge.clone()),
            Mailbox::shown_by(gauge.clone()),
        );
        mailbox.settle("never expected");
        assert_eq!(gauge.get(), 0);
        mailbox.expect("a");
        mailbox.expect("a");
        other.expect("a");
        assert_eq!(gauge.get(), 2, "two integrations of one receiver");
        mailbox.begin_count();
        mailbox.settle("a");
        mailbox.expect("c");
        // The database was read before.
        mailbox.end_count(["a", "b"].into_iter());
        assert_eq!(gauge.get(), 3, "b, c, and the other one's");
        mailbox.settle("b");
        mailbox.settle("b");
        mailbox.settle("c");
        assert_eq!(gauge.get(), 1);
        other.close();
        other.settle("a");
        other.expect("late");
        assert_eq!(gauge.get(), 0, "what is closed shows nothing");
    }
}
