//! When a target is collected: on the grid of its interval, each target at a position of its own.
//!
//! The position is the same after a restart and differs from target to target and from host to host
//! (SEMANTICS 28), so that neither this host sees its own burst in what it measures, nor a shared
//! target all its nightbells at once, nor the time-out of kept connections coincides with the next
//! request everywhere. Rules judge the interval that ends at their slot, in which each target was
//! collected once. The first collection starts at once.
//!
//! Waiting is counted by the monotonic clock and never lasts longer than an interval, whatever the
//! wall clock does meanwhile.

use std::time::Duration;

use tokio::sync::watch;

use crate::model::time::millis;
use crate::model::{Timestamp, clock};

use super::collection::Collection;

/// How late a collection may be without a sign that the process stood still.
const LATE: Duration = Duration::from_secs(1);

/// The instants at which a target is collected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Grid {
    /// Milliseconds.
    step: i64,
    /// Milliseconds after each multiple of the interval.
    position: i64,
}

impl Grid {
    /// The grid of an interval; `seed` tells targets apart.
    pub(super) fn new(interval: Duration, seed: u64) -> Self {
        let step = millis(interval).max(1);
        Grid {
            step,
            position: i64::try_from(seed % step.unsigned_abs()).unwrap_or(0),
        }
    }

    /// The first instant after `now`.
    fn next(self, now: Timestamp) -> Timestamp {
        let slot = now
            .0
            .saturating_sub(self.position)
            .div_euclid(self.step)
            .saturating_add(1);
        Timestamp(slot.saturating_mul(self.step).saturating_add(self.position))
    }

    /// The instant of the tick that a task planned for `planned` and that woke up at `now`, and how
    /// many ticks it slept through.
    fn due(self, planned: Timestamp, now: Timestamp) -> (Timestamp, u64) {
        let late = now.0.saturating_sub(planned.0).max(0) / self.step;
        (Timestamp(planned.0 + late * self.step), late.unsigned_abs())
    }
}

/// Collects until `stop` says that the target was removed; then marks its series as ended
/// (SEMANTICS 15). Never returns otherwise. A change of `at_once` makes it collect at once: the
/// clock has jumped, or the machine was suspended.
pub(super) async fn run(
    mut collection: Collection,
    grid: Grid,
    mut stop: watch::Receiver<bool>,
    mut at_once: watch::Receiver<u64>,
) {
    let interval = collection.shared.info.interval;
    let (mut at, mut once_more) = (Timestamp::now(), true);
    loop {
        at_once.mark_unchanged();
        let (jumps, begun) = (clock::jumps(), clock::monotonic());
        let longest = begun.saturating_add(millis(collection.shared.info.timeout + LATE));
        // One that begins too late is waited for to its end.
        if !collection.shared.is_overdue(begun) {
            collection.shared.is_due_by(longest);
        }
        let counts = collection.collect(at).await;
        let ended = Timestamp::now();
        // The process stood still meanwhile: what came is old already, or counts for nothing. Where
        // it goes on so, the next one has time.
        let again = !counts && once_more;
        once_more = counts;
        if (again || clock::monotonic() > longest) && !*stop.borrow() {
            collection.shared.is_due_by(i64::MIN);
            at = ended.max(Timestamp(at.0 + 1));
            continue;
        }
        let steady = jumps == clock::jumps();
        // A small step back does not make it collect twice at one instant.
        let planned = grid.next(if steady { ended.max(at) } else { ended });
        if steady {
            // Ticks between this one and the planned one passed while the collection ran.
            let missed = (planned.0 - grid.next(at).0) / grid.step;
            collection
                .metrics
                .skipped
                .inc_by(u64::try_from(missed).unwrap_or(0));
        }
        let wait = planned.since(ended).min(interval);
        if !at_once.has_changed().unwrap_or(false) {
            collection
                .shared
                .is_due_by(clock::monotonic().saturating_add(millis(wait + LATE)));
        }
        at = tokio::select! {
            () = tokio::time::sleep(wait) => {
                let now = Timestamp::now();
                if jumps == clock::jumps() {
                    let (due, late) = grid.due(planned, now);
                    collection.metrics.skipped.inc_by(late);
                    due
                } else {
                    now
                }
            }
            () = changed(&mut at_once) => Timestamp::now(),
            () = removed(&mut stop) => break,
        };
    }
    // The target may come back within an interval, under the same labels: then these marks are too
    // old and are refused.
    let (now, jumps) = (Timestamp::now(), clock::jumps());
    let would_be = grid.next(now);
    tokio::time::sleep(would_be.since(now) + interval + interval / 10).await;
    collection.end(if jumps == clock::jumps() {
        would_be
    } else {
        Timestamp::now()
    });
}

/// Ends when the target was removed. Where the scraper was dropped the process ends, and nothing
/// more is asked of this task.
async fn removed(stop: &mut watch::Receiver<bool>) {
    if stop.wait_for(|stop| *stop).await.is_err() {
        std::future::pending::<()>().await;
    }
}

async fn changed(at_once: &mut watch::Receiver<u64>) {
    if at_once.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEP: Duration = Duration::from_secs(15);

    /// SEMANTICS 28.
    #[test]
    fn ticks_lie_on_the_grid_of_the_interval() {
        let grid = Grid::new(STEP, 30_000);
        assert_eq!(grid.next(Timestamp(0)), Timestamp(15_000));
        assert_eq!(grid.next(Timestamp(14_999)), Timestamp(15_000));
        assert_eq!(grid.next(Timestamp(15_000)), Timestamp(30_000));
        assert_eq!(grid.next(Timestamp(-1)), Timestamp(0));
        let grid = Grid::new(STEP, 15_000 * 7 + 4_000);
        assert_eq!(
            grid.next(Timestamp(0)),
            Timestamp(4_000),
            "a position of its own"
        );
        assert_eq!(grid.next(Timestamp(4_000)), Timestamp(19_000));
    }

    /// SEMANTICS 28.
    #[test]
    fn a_late_start_is_snapped_back_and_lost_ticks_are_counted() {
        let grid = Grid::new(STEP, 0);
        assert_eq!(
            grid.due(Timestamp(15_000), Timestamp(15_900)),
            (Timestamp(15_000), 0)
        );
        assert_eq!(
            grid.due(Timestamp(15_000), Timestamp(61_000)),
            (Timestamp(60_000), 3)
        );
        assert_eq!(
            grid.due(Timestamp(15_000), Timestamp(14_990)),
            (Timestamp(15_000), 0),
            "the clock went back a little"
        );
    }
}
