//! A notifier whose secrets lie in files: they are read again when one of them has changed, so that
//! a rotated token needs no reload.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use tracing::{info, warn};

use crate::config::{Renewal, Stamp};
use crate::notify::{Digest, Notification, Notifier, NotifierKind, NotifyError};

/// The notifier in use, and what its files were like when it was read.
pub struct Renewing {
    kind: &'static NotifierKind,
    renewal: Renewal,
    current: Mutex<(Vec<Stamp>, Arc<dyn Notifier>)>,
}

impl Renewing {
    /// Keeps `notifier` up to date.
    pub fn new(kind: &'static NotifierKind, renewal: Renewal, notifier: Arc<dyn Notifier>) -> Self {
        let current = Mutex::new((renewal.stamps(), notifier));
        Renewing {
            kind,
            renewal,
            current,
        }
    }

    fn current(&self) -> Arc<dyn Notifier> {
        Arc::clone(&self.current.lock().1)
    }

    /// The notifier with what the files hold now; the one before where that cannot be used.
    fn renewed(&self, receiver: &str) -> Arc<dyn Notifier> {
        let mut current = self.current.lock();
        let stamps = self.renewal.stamps();
        if stamps != current.0 {
            current.0 = stamps;
            let build = |part: &crate::config::Section<'_>,
                         common: Option<&crate::config::Section<'_>>| {
                part.node("send_resolved");
                (self.kind.build)(part, common)
            };
            match self.renewal.read(build) {
                Ok(notifier) => {
                    info!(
                        receiver,
                        notifier = self.kind.name,
                        "Secrets were read again: a file has changed."
                    );
                    current.1 = Arc::from(notifier);
                }
                Err(error) => {
                    warn!(receiver, notifier = self.kind.name, %error, "A changed secret cannot be used; the former one is.")
                }
            }
        }
        Arc::clone(&current.1)
    }
}

impl Notifier for Renewing {
    fn notify<'a>(
        &'a self,
        notification: &'a Notification,
    ) -> BoxFuture<'a, Result<(), NotifyError>> {
        Box::pin(async move {
            let notifier = self.renewed(&notification.receiver);
            notifier.notify(notification).await
        })
    }

    fn digest(&self) -> Digest {
        self.current().digest()
    }

    fn ready(&self) -> usize {
        self.current().ready()
    }

    fn deadline(&self) -> Duration {
        self.current().deadline()
    }

    fn advice(&self) -> Option<String> {
        self.current().advice()
    }

    fn has_recipients(&self) -> bool {
        self.current().has_recipients()
    }
}
