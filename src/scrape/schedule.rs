//! When a target is collected: on the grid of its interval.
//!
//! All targets of one interval share one tick, so that rules see every target at the same age and one instant is stored once. (Prometheus
//! spreads its scrapes over the interval, SEMANTICS 28, because it must not meet all targets at once; nightbell reads its own host and a
//! few servers, and bounds what each may cost.) The first collection starts at once.

use std::time::Duration;

use tokio::sync::watch;

use crate::model::Timestamp;
use crate::model::time::millis;

use super::collection::Collection;

/// The first grid instant after `now`.
pub(super) fn next_tick(now: Timestamp, interval: Duration) -> Timestamp {
    let step = millis(interval).max(1);
    Timestamp(now.0.div_euclid(step).saturating_add(1).saturating_mul(step))
}

/// The instant of the tick that a task planned for `planned` and that woke up at `now`, and how many ticks it slept through.
pub(super) fn due_tick(planned: Timestamp, now: Timestamp, interval: Duration) -> (Timestamp, u64) {
    let step = millis(interval).max(1);
    let late = now.0.saturating_sub(planned.0).max(0) / step;
    (Timestamp(planned.0 + late * step), late as u64)
}

/// Collects until `stop` says that the target was removed; then marks its series as ended (SEMANTICS 15). Never returns otherwise.
pub(super) async fn run(mut collection: Collection, mut stop: watch::Receiver<bool>) {
    let interval = collection.shared.info.interval;
    let mut at = Timestamp::now();
    loop {
        collection.collect(at).await;
        let ended = Timestamp::now();
        let planned = next_tick(ended.max(at), interval);
        // Ticks between this one and the planned one passed while the collection ran.
        let missed = (planned.0 - next_tick(at, interval).0) / millis(interval).max(1);
        collection.metrics.skipped.inc_by(u64::try_from(missed).unwrap_or(0));
        if sleep_until(planned, &mut stop).await {
            break;
        }
        let (due, late) = due_tick(planned, Timestamp::now(), interval);
        collection.metrics.skipped.inc_by(late);
        at = due;
    }
    // The target may come back within an interval, under the same labels: then these marks are too old and are refused.
    let would_be = next_tick(Timestamp::now(), interval);
    let wait = would_be.since(Timestamp::now()) + interval + interval / 10;
    tokio::time::sleep(wait).await;
    collection.end(would_be);
}

/// Whether the target was removed before `instant`.
async fn sleep_until(instant: Timestamp, stop: &mut watch::Receiver<bool>) -> bool {
    let removed = async {
        if stop.wait_for(|stop| *stop).await.is_err() {
            // The scraper was dropped: the process ends, nothing more is asked of this task.
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        () = tokio::time::sleep(instant.since(Timestamp::now())) => false,
        () = removed => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEP: Duration = Duration::from_secs(15);

    /// SEMANTICS 28, but for the spread: all targets of an interval share the grid.
    #[test]
    fn ticks_lie_on_the_grid_of_the_interval() {
        assert_eq!(next_tick(Timestamp(0), STEP), Timestamp(15_000));
        assert_eq!(next_tick(Timestamp(14_999), STEP), Timestamp(15_000));
        assert_eq!(next_tick(Timestamp(15_000), STEP), Timestamp(30_000));
        assert_eq!(next_tick(Timestamp(-1), STEP), Timestamp(0));
    }

    /// SEMANTICS 28.
    #[test]
    fn a_late_start_is_snapped_back_and_lost_ticks_are_counted() {
        assert_eq!(due_tick(Timestamp(15_000), Timestamp(15_900), STEP), (Timestamp(15_000), 0));
        assert_eq!(due_tick(Timestamp(15_000), Timestamp(61_000), STEP), (Timestamp(60_000), 3));
        assert_eq!(due_tick(Timestamp(15_000), Timestamp(14_990), STEP), (Timestamp(15_000), 0), "the clock went back a little");
    }
}
