//! How long this process stood still during a piece of work: it was stopped, its machine was
//! suspended, or it got no processor or no memory.
//!
//! What fails by a deadline meanwhile says nothing of the other side. It is measured, not concluded
//! from the load: a task that looks at the clock every [`LOOK`] is late by as much as it was held
//! up. Work that ends sooner costs nothing.

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use crate::model::clock::monotonic;
use crate::model::time::millis;

/// Time between two looks at the clock.
const LOOK: Duration = Duration::from_millis(100);
/// By how much a look may be late on a machine that is merely busy.
const USUAL: Duration = Duration::from_millis(50);
/// Which part of its deadline a piece of work must have lost for its failure to be ours: one in so
/// many.
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

/// The looks at the clock, in milliseconds.
struct Looks {
    last: i64,
    /// Processor time of the process at the last look.
    used: i64,
    total: i64,
}

impl Looks {
    fn start() -> Self {
        Looks {
            last: monotonic(),
            used: processor_time(),
            total: 0,
        }
    }

    /// It is `now` by the monotonic clock, and the look was due at once after the last one, or
    /// [`LOOK`] later. What the process itself computed meanwhile is its own work, such as a large
    /// page that a target made it read.
    fn look(&mut self, now: i64, used: i64) {
        let late = now
            .saturating_sub(self.last)
            .saturating_sub(millis(LOOK))
            .saturating_sub(used.saturating_sub(self.used));
        if late > millis(USUAL) {
            self.total = self.total.saturating_add(late);
        }
        (self.last, self.used) = (now, used);
    }
}

/// Milliseconds that all threads of this process have run together.
fn processor_time() -> i64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    time.tv_sec * 1000 + time.tv_nsec / 1_000_000
}

/// Does the work, and says how long the process stood still meanwhile.
pub async fn watched<T>(work: impl Future<Output = T>) -> (T, Standstill) {
    let mut work = pin!(work);
    let mut looks = Looks::start();
    let result = loop {
        tokio::select! {
            biased;
            result = &mut work => break result,
            () = tokio::time::sleep(LOOK) => looks.look(monotonic(), processor_time()),
        }
    };
    looks.look(monotonic(), processor_time());
    (
        result,
        Standstill {
            total: Duration::from_millis(looks.total.unsigned_abs()),
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn total(looks: &[(i64, i64)]) -> i64 {
        let mut seen = Looks {
            last: 0,
            used: 0,
            total: 0,
        };
        looks.iter().for_each(|(now, used)| seen.look(*now, *used));
        seen.total
    }

    #[test]
    fn what_a_look_is_late_by_is_time_in_which_the_process_stood_still() {
        assert_eq!(
            total(&[(100, 1), (200, 2), (300, 3), (310, 3)]),
            0,
            "on time"
        );
        assert_eq!(
            total(&[(120, 1), (260, 2), (390, 3), (530, 4)]),
            0,
            "a little late each time: a busy machine"
        );
        assert_eq!(
            total(&[(100, 0), (3200, 0), (3300, 0)]),
            3000,
            "stopped for three seconds"
        );
        assert_eq!(total(&[(100, 0), (3190, 0)]), 2990, "and over at once then");
        assert_eq!(
            total(&[(300, 10), (600, 20), (900, 30), (1200, 40)]),
            760,
            "it hardly runs"
        );
        assert_eq!(
            total(&[(100, 5), (2100, 1905), (4100, 5905)]),
            0,
            "it was busy itself, on one processor and on two"
        );
    }

    #[test]
    fn a_failure_is_excused_by_a_quarter_of_its_deadline() {
        let excused = |stood: u64, deadline: u64| {
            Standstill {
                total: Duration::from_millis(stood),
            }
            .excuses(Duration::from_millis(deadline))
        };
        let cases = [
            excused(0, 0),
            excused(0, 1000),
            excused(249, 1000),
            excused(250, 1000),
            excused(90_000, 1000),
        ];
        assert_eq!(cases, [false, false, false, true, true]);
    }

    #[tokio::test]
    async fn waiting_is_no_standstill() {
        let ((), stood) = watched(tokio::time::sleep(Duration::from_millis(300))).await;
        assert!(stood.total < Duration::from_millis(300), "{stood:?}");
    }
}
