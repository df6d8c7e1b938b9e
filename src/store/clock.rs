//! What a jump of the clock means for samples: those that lie after the new time make room and are
//! kept on disk until their time has come.
//!
//! After a step back, a series whose newest sample lies in the future could take none for as long
//! as that is ahead, and rules would be blind. So memory is cut at the new time. What is cut off
//! goes into a block first, which is not served as long as its samples lie in the future; the log
//! says that it was cut, so that a restart does the same. Where time comes by twice, the samples
//! that were taken last are served.

use std::time::{Duration, Instant};

use tracing::warn;

use super::history::History;
use super::upkeep::Late;
use super::{Inner, Store};
use crate::model::Timestamp;
use crate::model::clock::Jump;

/// For how long after the clock was set back samples may still come that were begun by the old
/// time, and how far ahead of the new one they must lie to be such.
const STRAGGLERS: Duration = Duration::from_secs(120);
const SLACK: Duration = Duration::from_secs(1);
/// Series that are cut before the lock is offered to others.
const BATCH: u32 = 256;

/// When the clock was set back, and to what.
#[derive(Clone, Copy, Debug)]
pub(super) struct Turned {
    at: Instant,
    to: Timestamp,
}

impl Turned {
    /// Whether a sample of this time was begun before the clock was set back.
    fn is_before(self, time: Timestamp) -> bool {
        let since = self.at.elapsed();
        since < STRAGGLERS && time > self.to + since + SLACK
    }
}

impl Inner {
    /// Whether these samples bear a time that is no more: the clock was set back while they were
    /// collected.
    pub(super) fn is_straggling(&self, at: Timestamp) -> bool {
        self.turned.is_some_and(|turned| turned.is_before(at))
    }

    /// Drops what lies after `to`, in the series of these slots.
    fn cut(&mut self, to: i64, slots: std::ops::Range<u32>) {
        for slot in slots {
            if let Some(series) = self.slots.get_mut(slot) {
                series.cut(to, &mut self.columns);
            }
        }
    }

    /// The same in all series, as the log says that it was done.
    pub(super) fn cut_all(&mut self, to: i64) {
        self.cut(to, 0..self.slots.end());
        self.late = Late::default();
    }

    /// The newest sample.
    fn newest(&self) -> Option<i64> {
        self.slots
            .iter()
            .filter_map(|(_, series)| series.span(&self.columns))
            .map(|(_, last)| last)
            .max()
    }
}

impl Store {
    /// The newest sample of all that are served.
    pub fn newest(&self) -> Option<Timestamp> {
        let on_disk = self
            .history
            .get()
            .and_then(|history| history.snapshot().newest());
        self.inner.read().newest().max(on_disk).map(Timestamp)
    }

    /// The clock has jumped. It reads and writes files: call it off the async runtime.
    pub fn clock_jumped(&self, jump: Jump) {
        self.wait_until_read();
        if jump.is_back() {
            return self.turn_back(jump.to);
        }
        self.inner.write().turned = None;
        if let Some(history) = self.history.get() {
            self.catch_up(history, jump.to);
        }
    }

    /// What a start finds may have been written under another clock. Says whether it had to be cut.
    pub(super) fn settle(&self, now: Timestamp) -> bool {
        let (oldest, newest) = {
            let inner = self.inner.read();
            (inner.oldest(i64::MIN), inner.newest())
        };
        let Some(history) = self.history.get() else {
            return false;
        };
        if newest.is_some_and(|newest| Timestamp(newest) > now + SLACK) {
            self.turn_back(now);
            return true;
        }
        if let Some(oldest) = oldest.filter(|oldest| *oldest < history.snapshot().floor) {
            let floor = history.snapshot().floor;
            self.written_aside(history, oldest, floor, i64::MAX);
        }
        false
    }

    fn turn_back(&self, to: Timestamp) {
        let newest = {
            let inner = &mut *self.inner.write();
            inner.turned = Some(Turned {
                at: Instant::now(),
                to,
            });
            inner.late = Late::default();
            if let Some(log) = &mut inner.log {
                log.turn(to.0);
            }
            inner.newest().unwrap_or(i64::MIN).saturating_add(1)
        };
        let next = to.0.saturating_add(1);
        if let Some(history) = self.history.get() {
            // What is in blocks already needs no other.
            let from = next.max(history.end());
            if from < newest {
                self.written_aside(history, from, newest, to.0);
            }
            // What lies before goes to the disk, too: so the log before the turn holds nothing that
            // is not there.
            let floor = history.snapshot().floor;
            let oldest = self.oldest(history, floor).unwrap_or(next);
            if oldest >= next || self.written_aside(history, oldest, next, i64::MAX) {
                history.turn_back(to.0);
                self.inner.write().floor = history.snapshot().floor;
            }
        }
        let end = self.inner.read().slots.end();
        for first in (0..end).step_by(BATCH as usize) {
            self.inner.write().cut(to.0, first..end.min(first + BATCH));
        }
        self.decoded.clear();
    }

    /// Blocks whose time has come are served again, now that the clock is ahead of them; what
    /// memory holds of before goes to the disk.
    fn catch_up(&self, history: &History, to: Timestamp) {
        let Some(floor) = history.waiting_until(to.0) else {
            return;
        };
        let oldest = self.oldest(history, history.snapshot().floor);
        if oldest.is_none_or(|oldest| oldest >= floor)
            || oldest.is_some_and(|oldest| self.written_aside(history, oldest, floor, i64::MAX))
        {
            self.inner.write().floor = floor;
            history.serve(to.0, floor);
        }
    }

    /// Writes a block of what memory holds of `start <= timestamp < end`, of which only what is not
    /// after `until` is served now. When that fails the samples are in the log, and in memory as
    /// far as they are not of the future.
    fn written_aside(&self, history: &History, start: i64, end: i64, until: i64) -> bool {
        match self.block(history, (start, end), true) {
            Ok(block) => {
                history.keep(block, until);
                true
            }
            Err(error) => {
                warn!(%error, "What was sampled before the clock jumped cannot be written into a block; it stays in the log.");
                false
            }
        }
    }
}
