//! Log lines about what may happen thousands of times: one a minute, which says how often it
//! happened.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// How long nothing is logged after a line.
const PAUSE: Duration = Duration::from_secs(60);

/// Decides when the next line about one kind of event is due.
#[derive(Debug, Default)]
pub struct Sparing(Mutex<(Option<Instant>, u64)>);

impl Sparing {
    /// Counts an event; `Some` with the number of events since the last line when a line is due.
    pub fn due(&self) -> Option<u64> {
        self.due_at(Instant::now())
    }

    fn due_at(&self, now: Instant) -> Option<u64> {
        let (last, count) = &mut *self.0.lock();
        *count += 1;
        if last.is_some_and(|last| now.duration_since(last) < PAUSE) {
            return None;
        }
        *last = Some(now);
        Some(std::mem::take(count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_a_minute_says_how_often() {
        let (sparing, start) = (Sparing::default(), Instant::now());
        assert_eq!(sparing.due_at(start), Some(1));
        assert_eq!(
            (1..5)
                .map(|s| sparing.due_at(start + Duration::from_secs(s)))
                .collect::<Vec<_>>(),
            [None; 4]
        );
        assert_eq!(sparing.due_at(start + PAUSE), Some(5));
    }
}
