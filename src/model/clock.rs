//! The process's clock: wall time that runs as evenly as the monotonic clock, and steps only when
//! somebody says so.
//!
//! [`Timestamp::now`] returns the wall clock as long as it runs beside the monotonic one. When it
//! has jumped (NTP, a flat battery, somebody's hand), time goes on as before until [`adopt`] takes
//! the new time, at a moment when samples, timers and rules can be moved with it. Small corrections
//! are followed at once. The time that a machine was suspended is no jump: it has passed.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use parking_lot::Mutex;

use super::Timestamp;
use super::time::wall;

/// Milliseconds that are followed at once.
const FOLLOWED: i64 = 1000;
/// Milliseconds between two readings of the monotonic clock in which the wall clock was read; a
/// longer time says nothing about it.
const AT_ONCE: i64 = 50;
const READINGS: usize = 10;
/// No time was asked yet.
const UNSET: i64 = i64::MIN;

/// Wall time less monotonic time, as it is believed.
static OFFSET: AtomicI64 = AtomicI64::new(UNSET);
/// How often [`adopt`] and [`note`] were called.
static JUMPS: AtomicU64 = AtomicU64::new(0);
/// Milliseconds of all jumps together.
static TOTAL: AtomicI64 = AtomicI64::new(0);
/// Since when things grow old: a time and its monotonic time.
static AGED: Mutex<Option<(i64, i64)>> = Mutex::new(None);
/// The last jump, and its monotonic time.
static LAST: Mutex<Option<(Jump, i64)>> = Mutex::new(None);

/// A step of the wall clock: the same moment by the old time and by the new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Jump {
    /// What the time would be.
    pub from: Timestamp,
    /// What it is.
    pub to: Timestamp,
}

impl Jump {
    /// Milliseconds from the old time to the new one; negative when the clock was set back.
    pub fn millis(self) -> i64 {
        self.to.0.saturating_sub(self.from.0)
    }

    /// Whether the clock was set back.
    pub fn is_back(self) -> bool {
        self.to < self.from
    }

    /// The instant by the new time of what was due at `at` by the old one.
    pub fn moved(self, at: Timestamp) -> Timestamp {
        Timestamp(at.0.saturating_add(self.millis()))
    }
}

impl Timestamp {
    /// The clock's present; a wall clock that jumps is followed when [`adopt`] says so. Only floors
    /// 4 and above may call it; below, time is an argument.
    pub fn now() -> Self {
        now()
    }
}

/// Milliseconds of a clock that nobody sets, the time in which the machine was suspended included.
pub fn monotonic() -> i64 {
    #[cfg(target_os = "linux")]
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    #[cfg(not(target_os = "linux"))]
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    time.tv_sec * 1000 + time.tv_nsec / 1_000_000
}

/// The present; see [`Timestamp::now`].
pub(super) fn now() -> Timestamp {
    let (monotonic, measured) = read();
    let offset = OFFSET.load(Ordering::Relaxed);
    if offset == UNSET || is_followed(measured, offset) {
        if measured != offset {
            // Another thread set it first; its value is as good.
            let _ = OFFSET.compare_exchange(offset, measured, Ordering::Relaxed, Ordering::Relaxed);
        }
        return Timestamp(monotonic.saturating_add(measured));
    }
    Timestamp(monotonic.saturating_add(offset))
}

fn is_followed(measured: i64, offset: i64) -> bool {
    measured.saturating_sub(offset).saturating_abs() <= FOLLOWED
}

/// Monotonic time, and by how much the wall clock is ahead of it.
fn read() -> (i64, i64) {
    let mut before = monotonic();
    for _ in 0..READINGS {
        let wall = wall().0;
        let after = monotonic();
        if after - before <= AT_ONCE {
            return (after, wall.saturating_sub(after));
        }
        before = after;
    }
    // The process hardly runs. What was believed stands, unless nothing was.
    match OFFSET.load(Ordering::Relaxed) {
        UNSET => (before, wall().0.saturating_sub(before)),
        offset => (before, offset),
    }
}

/// The jump of the wall clock that [`Timestamp::now`] does not follow yet.
pub fn pending() -> Option<Jump> {
    let (monotonic, measured) = read();
    let offset = OFFSET.load(Ordering::Relaxed);
    let jumped = offset != UNSET && !is_followed(measured, offset);
    jumped.then(|| Jump {
        from: Timestamp(monotonic.saturating_add(offset)),
        to: Timestamp(monotonic.saturating_add(measured)),
    })
}

/// From now on [`Timestamp::now`] is the wall clock's time again; gives the jump that this is.
pub fn adopt() -> Option<Jump> {
    let jump = pending()?;
    OFFSET.store(jump.to.0.saturating_sub(monotonic()), Ordering::Relaxed);
    note(jump);
    Some(jump)
}

/// Notes a jump that was found otherwise: one that came while the process did not run.
pub fn note(jump: Jump) {
    *LAST.lock() = Some((jump, monotonic()));
    TOTAL.fetch_add(jump.millis(), Ordering::Relaxed);
    JUMPS.fetch_add(1, Ordering::Relaxed);
}

/// Notes a jump that is not followed, at least not yet.
pub fn see(jump: Jump) {
    *LAST.lock() = Some((jump, monotonic()));
}

/// Grows with each jump.
pub fn jumps() -> u64 {
    JUMPS.load(Ordering::Relaxed)
}

/// Milliseconds of all jumps together: by the difference of two readings whatever waits is moved.
pub fn total() -> i64 {
    TOTAL.load(Ordering::Relaxed)
}

/// The time by which it is decided what is old enough to be deleted: `now`, or an earlier time
/// while a clock that has jumped ahead is not believed yet. What is kept too long does no harm.
pub fn aged(now: Timestamp) -> Timestamp {
    let aged = AGED
        .lock()
        .map(|(at, since)| Timestamp(at.saturating_add(monotonic() - since)));
    aged.map_or(now, |aged| aged.min(now))
}

/// From now on things grow old from `at` on, as fast as the monotonic clock runs.
pub fn age_from(at: Timestamp) {
    *AGED.lock() = Some((at.0, monotonic()));
}

/// The last jump, and the milliseconds since.
pub fn last_jump() -> Option<(Jump, i64)> {
    LAST.lock().map(|(jump, at)| (jump, monotonic() - at))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_due_is_moved_with_the_clock() {
        let back = Jump {
            from: Timestamp(1_000_000),
            to: Timestamp(400_000),
        };
        assert_eq!(
            (
                back.millis(),
                back.is_back(),
                back.moved(Timestamp(1_030_000))
            ),
            (-600_000, true, Timestamp(430_000))
        );
        assert!(
            is_followed(5000, 4000)
                && !is_followed(5001, 4000)
                && !is_followed(i64::MIN + 1, i64::MAX),
            "a second is followed"
        );
    }

    #[test]
    fn the_present_is_the_wall_clocks_while_that_runs_evenly() {
        let (before, now, after) = (wall(), Timestamp::now(), wall());
        assert!(
            before.0 - 1 <= now.0 && now.0 <= after.0 + 1,
            "{before:?} {now:?} {after:?}"
        );
        assert_eq!(pending(), None);
    }
}
