//! One target as others see it: who it is, how it is, and its last page for /metrics.

use super::page::metrics_page::ScrapedPage;
use super::target_info::TargetInfo;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use crate::exposition::Page;
use crate::model::{Note, Timestamp};

use super::page::metrics_page;

/// Whether the last collection succeeded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Health {
    /// Nothing was collected yet.
    #[default]
    Unknown,
    /// It did.
    Up,
    /// It did not.
    Down,
}

impl Health {
    /// The word of the HTTP API.
    pub fn as_str(self) -> &'static str {
        match self {
            Health::Unknown => "unknown",
            Health::Up => "up",
            Health::Down => "down",
        }
    }
}

/// The outcome of the last collection.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Status {
    /// Its health.
    pub health: Health,
    /// Why it failed, without secrets; empty when it succeeded.
    pub error: String,
    /// Its instant.
    pub at: Option<Timestamp>,
    /// How long it took.
    pub duration: Duration,
    /// Samples it brought, before relabelling.
    pub samples: usize,
}

/// A target with its last outcome.
#[derive(Debug, Clone, PartialEq)]
pub struct TargetSnapshot {
    /// Who.
    pub info: Arc<TargetInfo>,
    /// How.
    pub status: Status,
}

/// The last page of a target.
pub(super) enum LastPage {
    /// Encoded when it was collected: small pages that are asked for often.
    Encoded(Arc<Page>),
    /// As it was scraped, encoded when somebody asks: a page of 50,000 series costs nothing where
    /// nobody does.
    Scraped(Box<ScrapedPage>),
}

/// What a target's task shares with those who look at it.
pub(super) struct Shared {
    pub(super) info: Arc<TargetInfo>,
    status: Mutex<Status>,
    /// Until when it should have been collected, by the monotonic clock in milliseconds.
    due_by: AtomicI64,
    page: Mutex<Arc<LastPage>>,
    /// What its collector has to say in alerts.
    notes: Mutex<Vec<Note>>,
}

impl Shared {
    pub(super) fn new(info: TargetInfo) -> Self {
        let empty = LastPage::Encoded(Arc::new(Page::default()));
        let page = Mutex::new(Arc::new(empty));
        Shared {
            info: Arc::new(info),
            status: Mutex::default(),
            due_by: AtomicI64::new(i64::MAX),
            page,
            notes: Mutex::default(),
        }
    }

    /// It should have been collected by this monotonic time.
    pub(super) fn is_due_by(&self, at: i64) {
        self.due_by.store(at, Ordering::Relaxed);
    }

    /// Whether it should have been collected by this monotonic time and was not: the process stood
    /// still, or the clock has jumped.
    pub(super) fn is_overdue(&self, now: i64) -> bool {
        self.due_by.load(Ordering::Relaxed) <= now
    }

    pub(super) fn snapshot(&self) -> TargetSnapshot {
        TargetSnapshot {
            info: self.info.clone(),
            status: self.status.lock().clone(),
        }
    }

    /// What its collector says in alerts from now on.
    pub(super) fn set_notes(&self, notes: Vec<Note>) {
        *self.notes.lock() = notes;
    }

    pub(super) fn notes(&self) -> Vec<Note> {
        self.notes.lock().clone()
    }

    /// Sets the outcome and returns the one before.
    pub(super) fn set(&self, status: Status, page: LastPage) -> Status {
        *self.page.lock() = Arc::new(page);
        std::mem::replace(&mut *self.status.lock(), status)
    }

    /// A collection was missed: its health is what it was.
    pub(super) fn miss(&self, error: String, at: Timestamp, duration: Duration) {
        let status = &mut *self.status.lock();
        *status = Status {
            error,
            at: Some(at),
            duration,
            health: status.health,
            samples: 0,
        };
    }

    /// The last page; encodes a scraped one on first demand, a large one that comes seldom on each.
    pub(super) fn page(&self) -> Arc<Page> {
        let page = self.page.lock().clone();
        match &*page {
            LastPage::Encoded(page) => page.clone(),
            LastPage::Scraped(scraped) if scraped.body.is_deflated() => {
                Arc::new(metrics_page::encode_scraped(scraped))
            }
            LastPage::Scraped(scraped) => scraped
                .encoded
                .get_or_init(|| Arc::new(metrics_page::encode_scraped(scraped)))
                .clone(),
        }
    }
}
