//! The pass-throughs that are configured, by name, and what each knows of its calls. What it knows
//! stays when a reload replaces the collector, and calls that run outlive it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use crate::collectors::gen_ai::{Call, Grown, Ledger, Measured, Of, Period, Spending};
use crate::collectors::job::disk::Disk;
use crate::config::SecretSource;
use crate::http::{HeaderMap, HeaderName};
use crate::model::{Batch, Timestamp};

use super::metrics::{BUDGET, BYTES, REFUSED, RESPONSES, RUNNING, SPENT, UNREAD};
use super::settings::Settings;

/// Callers, and agents, that are distinguished.
const CALLERS: usize = 50;
/// Longest name of one, in characters.
const LONGEST: usize = 60;

/// All pass-throughs. Cheap to clone; clones share them.
#[derive(Clone, Default)]
pub struct Proxies(Arc<Mutex<HashMap<String, Weak<Proxy>>>>);

impl fmt::Debug for Proxies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Proxies")
    }
}

impl Proxies {
    /// The one of this name, which is there as long as somebody holds it.
    pub(super) fn hold(&self, name: &str, disk: impl FnOnce() -> Arc<Disk>) -> Arc<Proxy> {
        let mut all = self.0.lock();
        all.retain(|_, proxy| proxy.strong_count() > 0);
        if let Some(proxy) = all.get(name).and_then(Weak::upgrade) {
            proxy.holders.fetch_add(1, Ordering::AcqRel);
            return proxy;
        }
        let proxy = Arc::new(Proxy {
            disk: disk(),
            settings: Mutex::new(None),
            kept: Mutex::default(),
            running: AtomicUsize::new(0),
            sent: AtomicU64::new(0),
            holders: AtomicUsize::new(1),
        });
        all.insert(name.to_owned(), Arc::downgrade(&proxy));
        proxy
    }

    /// The one of this name, where it is configured.
    pub fn get(&self, name: &str) -> Option<Arc<Proxy>> {
        self.0
            .lock()
            .get(name)
            .and_then(Weak::upgrade)
            .filter(|proxy| proxy.holders.load(Ordering::Acquire) > 0)
    }

    /// Whether one is configured.
    pub fn is_empty(&self) -> bool {
        self.0
            .lock()
            .values()
            .all(|proxy| proxy.strong_count() == 0)
    }

    /// Writes what was spent through all of them, and waits until it is on disk.
    pub async fn save(&self) {
        let all: Vec<_> = self.0.lock().values().filter_map(Weak::upgrade).collect();
        for written in all.iter().filter_map(|proxy| proxy.save()) {
            // What is not written was logged.
            let _ = written.await;
        }
    }

    /// Calls under way through all of them.
    pub fn running(&self) -> usize {
        self.0
            .lock()
            .values()
            .filter_map(Weak::upgrade)
            .map(|proxy| proxy.running.load(Ordering::Acquire))
            .sum()
    }
}

/// One pass-through.
pub struct Proxy {
    pub(super) disk: Arc<Disk>,
    settings: Mutex<Option<Arc<Settings>>>,
    kept: Mutex<Kept>,
    running: AtomicUsize,
    sent: AtomicU64,
    /// Collectors that hold it: without one no call begins.
    pub(super) holders: AtomicUsize,
}

#[derive(Default)]
struct Kept {
    ledger: Ledger,
    spending: Spending,
    /// Spending has changed since it was saved.
    is_dirty: bool,
    responses: BTreeMap<u16, u64>,
    refused: BTreeMap<&'static str, u64>,
    received: u64,
    unread: u64,
    callers: BTreeSet<String>,
    agents: BTreeSet<String>,
}

impl Proxy {
    /// Applies the first settings; those that replace them wait for [`Proxy::apply`].
    pub(super) fn begin(&self, settings: &Arc<Settings>) -> bool {
        let mut current = self.settings.lock();
        let is_first = current.is_none();
        if is_first {
            *current = Some(Arc::clone(settings));
        }
        is_first
    }

    pub(super) fn apply(&self, settings: &Arc<Settings>) {
        *self.settings.lock() = Some(Arc::clone(settings));
    }

    /// The settings in force.
    pub fn settings(&self) -> Option<Arc<Settings>> {
        self.settings.lock().clone()
    }

    /// The token for callers from elsewhere, and whether everybody may call.
    pub fn access(&self) -> (Option<SecretSource>, bool) {
        self.settings
            .lock()
            .as_ref()
            .map_or((None, false), |settings| {
                (settings.token.clone(), settings.is_open)
            })
    }

    /// A call begins. What its headers say of caller and agent.
    pub(super) fn begins(&self, settings: &Settings, headers: &HeaderMap) -> (String, String) {
        self.running.fetch_add(1, Ordering::AcqRel);
        let kept = &mut *self.kept.lock();
        (
            named(headers, settings.caller_header.as_ref(), &mut kept.callers),
            named(headers, settings.agent_header.as_ref(), &mut kept.agents),
        )
    }

    pub(super) fn ends(&self) {
        self.running.fetch_sub(1, Ordering::AcqRel);
    }

    /// The period whose budget is used up, where calls beyond it are refused.
    pub fn over_budget(&self, settings: &Settings, now: Timestamp) -> Option<Period> {
        let mut kept = self.kept.lock();
        let is_over = |period: &Period| {
            settings
                .budget
                .get(period.as_str())
                .is_some_and(|budget| kept.spending.of(*period, now) >= *budget)
        };
        if settings.refuses {
            Period::ALL.into_iter().find(is_over)
        } else {
            None
        }
    }

    /// Counts a call that was refused here.
    pub fn refuse(&self, reason: &'static str) {
        *self.kept.lock().refused.entry(reason).or_default() += 1;
    }

    /// Counts bytes of a request.
    pub fn sent(&self, bytes: usize) {
        self.sent.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(super) fn note(
        &self,
        settings: &Settings,
        call: Call,
        measured: &Measured,
        (status, received, is_unread): (u16, u64, bool),
        gaps: Option<&Grown>,
    ) {
        let now = Timestamp::now();
        let mut kept = self.kept.lock();
        *kept
            .responses
            .entry(if status < 600 { status } else { 599 })
            .or_default() += 1;
        kept.received += received;
        kept.unread += u64::from(is_unread);
        if let Some(gaps) = gaps {
            kept.ledger
                .grow(&settings.calls, call.clone(), Of::Gap, gaps, now);
        }
        let cost = kept.ledger.note(&settings.calls, call, measured, now);
        if let Some(cost) =
            cost.filter(|cost| cost.currency == settings.currency && cost.amount > 0.0)
        {
            kept.spending.add(cost.amount, now);
            kept.is_dirty = true;
        }
    }

    /// Takes what an earlier process has spent.
    pub(super) fn remember(&self, text: &str, now: Timestamp) {
        let Ok(mut spending) = serde_json::from_str::<Spending>(text) else {
            return;
        };
        let mut kept = self.kept.lock();
        spending.add(kept.spending.of(Period::Day, now), now);
        kept.spending = spending;
    }

    /// Writes what was spent, if it is new.
    pub(super) fn save(&self) -> Option<tokio::task::JoinHandle<()>> {
        let mut kept = self.kept.lock();
        if !std::mem::take(&mut kept.is_dirty) {
            return None;
        }
        let text = serde_json::to_string(&kept.spending).ok()?;
        drop(kept);
        self.disk.write(text)
    }

    /// Shows everything.
    pub(super) fn show(&self, settings: &Settings, now: Timestamp, batch: &mut Batch) {
        let kept = &mut *self.kept.lock();
        kept.ledger.show(&settings.calls, now, batch);
        for (code, count) in &kept.responses {
            batch.push(
                &RESPONSES,
                &[
                    ("provider", &settings.provider),
                    ("code", &code.to_string()),
                ],
                *count as f64,
            );
        }
        for reason in ["access", "budget"] {
            batch.push(
                &REFUSED,
                &[("reason", reason)],
                kept.refused.get(reason).copied().unwrap_or(0) as f64,
            );
        }
        batch.push(&RUNNING, &[], self.running.load(Ordering::Acquire) as f64);
        batch.push(
            &BYTES,
            &[("direction", "sent")],
            self.sent.load(Ordering::Relaxed) as f64,
        );
        batch.push(&BYTES, &[("direction", "received")], kept.received as f64);
        batch.push(&UNREAD, &[], kept.unread as f64);
        for period in Period::ALL {
            let labels = [
                ("period", period.as_str()),
                ("currency", settings.currency.as_str()),
            ];
            batch.push(&SPENT, &labels, kept.spending.of(period, now));
            settings
                .budget
                .get(period.as_str())
                .into_iter()
                .for_each(|budget| batch.push(&BUDGET, &labels, *budget));
        }
    }
}

/// What a header names, one of few.
fn named(headers: &HeaderMap, header: Option<&HeaderName>, known: &mut BTreeSet<String>) -> String {
    let Some(value) = header
        .and_then(|header| headers.get(header))
        .and_then(|value| value.to_str().ok())
    else {
        return String::new();
    };
    let name: String = value.trim().chars().take(LONGEST).collect();
    if known.contains(&name) || name.is_empty() {
        return name;
    }
    if known.len() >= CALLERS {
        return "other".to_owned();
    }
    known.insert(name.clone());
    name
}
