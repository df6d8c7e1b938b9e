//! The tasks that deliver: started together, replaced by a reload, given time to finish at the end.

use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::warn;

use super::deliverer::Deliverer;

/// How long attempts under way may take when the process ends.
const GRACE: Duration = Duration::from_secs(25);

/// The running delivery tasks.
pub(in crate::alerting) struct Deliveries {
    pub(in crate::alerting) tasks: JoinSet<()>,
    stop: watch::Sender<bool>,
    /// Tasks of former configurations that still finish an attempt; their successors wait at the
    /// mailbox.
    retiring: JoinSet<()>,
}

impl Deliveries {
    pub(in crate::alerting) fn start(deliverers: impl Iterator<Item = Deliverer>) -> Self {
        let (tasks, stop) = Self::spawn(deliverers);
        Deliveries {
            tasks,
            stop,
            retiring: JoinSet::new(),
        }
    }

    fn spawn(deliverers: impl Iterator<Item = Deliverer>) -> (JoinSet<()>, watch::Sender<bool>) {
        let (stop, stopped) = watch::channel(false);
        let mut tasks = JoinSet::new();
        for deliverer in deliverers {
            tasks.spawn(deliverer.run(stopped.clone()));
        }
        (tasks, stop)
    }

    pub(in crate::alerting) fn replace(&mut self, deliverers: impl Iterator<Item = Deliverer>) {
        let (tasks, stop) = Self::spawn(deliverers);
        let _ = std::mem::replace(&mut self.stop, stop).send(true);
        let mut former = std::mem::replace(&mut self.tasks, tasks);
        while self.retiring.try_join_next().is_some() {}
        self.retiring
            .spawn(async move { while former.join_next().await.is_some() {} });
    }

    /// Attempts under way are finished first, but for those that take too long: their messages stay
    /// in the outbox.
    pub(in crate::alerting) async fn stop(&mut self) {
        let _ = self.stop.send(true);
        let finished = async {
            while self.tasks.join_next().await.is_some() {}
            while self.retiring.join_next().await.is_some() {}
        };
        if tokio::time::timeout(GRACE, finished).await.is_err() {
            warn!("A receiver has not answered; its message is sent again after the next start.");
            self.tasks.shutdown().await;
            self.retiring.shutdown().await;
        }
    }
}
