//! How long this process stood still during a piece of work: it was stopped, its machine was suspended, or it got no processor or no memory.
//!
//! What fails by a deadline meanwhile says nothing of the other side. It is measured, not concluded from the load: a task that looks at the
//! clock every [`LOOK`] is late by as much as it was held up. Work that ends sooner costs nothing.

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use crate::model::clock::monotonic;
use crate::model::time::millis;

/// Time between two looks at the clock.
const LOOK: Duration = Duration::from_millis(100);
/// By how much a look may be late on a machine that is merely busy.
const USUAL: Duration = Duration::from_millis(50);
/// Which part of its deadline a piece of work must have lost for its failure to be ours: one in so many.
const CONSIDERABLE: u32 = 4;

/// How long the process stood still during a piece of work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standstill {
    /// All of it together.
    pub total: Duration,
}

impl Standstill {
    /// Whether that is so much of a deadline that missing it says nothing of the other side.
    pub fn excuses(self, deadline: Duration) -> bool {
        !self.total.is_zero() && self.total >= deadline / CONSIDERABLE
    }
}

/// The looks at the clock.
struct Looks {
    last: i64,
    total: i64,
}

impl Looks {
    /// It is `now`, in milliseconds of the monotonic clock, and the look was due at once after the last one, or [`LOOK`] later.
    fn look(&mut self, now: i64) {
        let late = now.saturating_sub(self.last).saturating_sub(millis(LOOK));
        if late > millis(USUAL) {
            self.total = self.total.saturating_add(late);
        }
        self.last = now;
    }
}

/// Does the work, and says how long the process stood still meanwhile.
pub async fn watched<T>(work: impl Future<Output = T>) -> (T, Standstill) {
    let mut work = pin!(work);
    let mut looks = Looks { last: monotonic(), total: 0 };
    let result = loop {
        tokio::select! {
            biased;
            result = &mut work => break result,
            () = tokio::time::sleep(LOOK) => looks.look(monotonic()),
        }
    };
    looks.look(monotonic());
    (result, Standstill { total: Duration::from_millis(looks.total.unsigned_abs()) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn total(looks: &[i64]) -> i64 {
        let mut seen = Looks { last: 0, total: 0 };
        looks.iter().for_each(|now| seen.look(*now));
        seen.total
    }

    #[test]
    fn what_a_look_is_late_by_is_time_in_which_the_process_stood_still() {
        assert_eq!(total(&[100, 200, 300, 310]), 0, "on time");
        assert_eq!(total(&[120, 260, 390, 530]), 0, "a little late each time: a busy machine");
        assert_eq!(total(&[100, 3200, 3300]), 3000, "stopped for three seconds");
        assert_eq!(total(&[100, 3190]), 2990, "and over at once then");
        assert_eq!(total(&[300, 600, 900, 1200]), 800, "it hardly runs");
    }

    #[test]
    fn a_failure_is_excused_by_a_quarter_of_its_deadline() {
        let excused =
            |stood: u64, deadline: u64| Standstill { total: Duration::from_millis(stood) }.excuses(Duration::from_millis(deadline));
        assert_eq!(
            [excused(0, 0), excused(0, 1000), excused(249, 1000), excused(250, 1000), excused(90_000, 1000)],
            [false, false, false, true, true]
        );
    }

    #[tokio::test]
    async fn a_thread_that_was_blocked_is_seen_and_waiting_is_not() {
        let ((), stood) = watched(tokio::time::sleep(Duration::from_millis(300))).await;
        assert!(stood.total < Duration::from_millis(300), "{stood:?}");
        let blocked = async {
            std::thread::sleep(Duration::from_millis(700));
        };
        assert!(watched(blocked).await.1.total >= Duration::from_millis(500));
    }
}
