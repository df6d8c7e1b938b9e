//! Who already has a delivery that went to several recipients and failed for some: the next attempt leaves them out.

use std::collections::VecDeque;

use parking_lot::Mutex;

/// Most deliveries that are remembered; beyond it the oldest is forgotten, and its recipients may get a repeat.
const MAX_DELIVERIES: usize = 64;

/// Remembers the recipients that are done, for each delivery that is not.
#[derive(Default)]
pub(super) struct Served(Mutex<VecDeque<(String, Vec<String>)>>);

impl Served {
    /// Those of `all` that do not have this delivery yet.
    pub(super) fn waiting(&self, delivery: &str, all: impl IntoIterator<Item = String>) -> Vec<String> {
        let deliveries = self.0.lock();
        let done = deliveries.iter().find(|(id, _)| id == delivery).map(|(_, done)| done.as_slice()).unwrap_or_default();
        all.into_iter().filter(|recipient| !done.contains(recipient)).collect()
    }

    /// After an attempt: `done` have it now; a delivery that is complete is forgotten.
    pub(super) fn settle(&self, delivery: &str, done: impl IntoIterator<Item = String>, complete: bool) {
        let mut deliveries = self.0.lock();
        let known = deliveries.iter().position(|(id, _)| id == delivery).and_then(|at| deliveries.remove(at));
        if complete {
            return;
        }
        let mut list = known.map(|(_, list)| list).unwrap_or_default();
        list.extend(done);
        if deliveries.len() == MAX_DELIVERIES {
            deliveries.pop_front();
        }
        deliveries.push_back((delivery.to_owned(), list));
    }
}
