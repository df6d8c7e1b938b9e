//! Who already has a delivery that goes to several recipients: the next attempt leaves them out,
//! also after a cut, a reload or a restart.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;

/// Most deliveries that one integration remembers by itself; beyond it the oldest is forgotten.
const MAX_DELIVERIES: usize = 4096;

/// The recipients of one delivery as far as they are dealt with. Who drives the attempts keeps it
/// from one to the next.
#[derive(Debug, Default)]
pub struct Recipients {
    done: Mutex<BTreeSet<String>>,
    refused: Mutex<Vec<String>>,
}

impl Recipients {
    /// Those that earlier attempts dealt with.
    pub fn new(done: impl IntoIterator<Item = String>) -> Self {
        Recipients {
            done: Mutex::new(done.into_iter().collect()),
            refused: Mutex::default(),
        }
    }

    /// Those that have the delivery, or never will.
    pub fn done(&self) -> Vec<String> {
        self.done.lock().iter().cloned().collect()
    }

    /// What was said of those that were refused for good, in words without secrets.
    pub fn refused(&self) -> Vec<String> {
        self.refused.lock().clone()
    }
}

tokio::task_local! {
    static RECIPIENTS: Arc<Recipients>;
}

/// Makes an attempt that leaves out whom `recipients` names, and adds to it whom the attempt deals
/// with, as it does: also when it is cut.
pub async fn remembering<T>(recipients: Arc<Recipients>, attempt: impl Future<Output = T>) -> T {
    RECIPIENTS.scope(recipients, attempt).await
}

/// Remembers the recipients that are done, for each delivery that is not.
#[derive(Default)]
pub(super) struct Served(Mutex<VecDeque<(String, BTreeSet<String>)>>);

impl Served {
    /// Those of `all` that are not dealt with yet, each once.
    pub(super) fn waiting(
        &self,
        delivery: &str,
        all: impl IntoIterator<Item = String>,
    ) -> Vec<String> {
        let deliveries = self.0.lock();
        let own = deliveries
            .iter()
            .find(|(id, _)| id == delivery)
            .map(|(_, done)| done);
        let mut seen = RECIPIENTS
            .try_with(|recipients| recipients.done.lock().clone())
            .unwrap_or_default();
        seen.extend(own.into_iter().flatten().cloned());
        all.into_iter()
            .filter(|recipient| seen.insert(recipient.clone()))
            .collect()
    }

    /// A recipient has this delivery, from this moment on.
    pub(super) fn has_it(&self, delivery: &str, recipient: &str) {
        let _ =
            RECIPIENTS.try_with(|recipients| recipients.done.lock().insert(recipient.to_owned()));
        let mut deliveries = self.0.lock();
        if let Some((_, done)) = deliveries.iter_mut().find(|(id, _)| id == delivery) {
            done.insert(recipient.to_owned());
            return;
        }
        if deliveries.len() == MAX_DELIVERIES {
            deliveries.pop_front();
        }
        deliveries.push_back((delivery.to_owned(), BTreeSet::from([recipient.to_owned()])));
    }

    /// A recipient was refused for good: no attempt is made again, and it holds up no other.
    pub(super) fn is_refused(&self, delivery: &str, recipient: &str, receiver: &str, error: &str) {
        tracing::warn!(
            receiver,
            recipient,
            error,
            "A recipient was refused for good; the others get the message."
        );
        let _ = RECIPIENTS.try_with(|recipients| recipients.refused.lock().push(error.to_owned()));
        self.has_it(delivery, recipient);
    }

    /// A delivery that is complete is forgotten.
    pub(super) fn complete(&self, delivery: &str) {
        self.0.lock().retain(|(id, _)| id != delivery);
    }
}
