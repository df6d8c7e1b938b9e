//! What was spent on this day and in this month (UTC), kept across restarts.

use serde::{Deserialize, Serialize};

use crate::model::Timestamp;

/// A stretch of time with a budget of its own.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Period {
    /// From midnight to midnight, UTC.
    Day,
    /// A calendar month, UTC.
    Month,
}

impl Period {
    /// Both.
    pub const ALL: [Period; 2] = [Period::Day, Period::Month];

    /// The name, as metrics show it.
    pub fn as_str(self) -> &'static str {
        match self {
            Period::Day => "day",
            Period::Month => "month",
        }
    }
}

/// Money spent, by day and month.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Spending {
    /// The day, `2026-01-31`.
    day: String,
    of_day: f64,
    of_month: f64,
}

impl Spending {
    /// Adds an amount.
    pub fn add(&mut self, amount: f64, now: Timestamp) {
        self.turn(now);
        self.of_day += amount;
        self.of_month += amount;
    }

    /// What was spent in the period that this instant is in.
    pub fn of(&mut self, period: Period, now: Timestamp) -> f64 {
        self.turn(now);
        match period {
            Period::Day => self.of_day,
            Period::Month => self.of_month,
        }
    }

    /// Begins a new day or month. A clock that is set back a little begins none.
    fn turn(&mut self, now: Timestamp) {
        let today: String = now.rfc3339().chars().take(10).collect();
        if self.day >= today && self.day.get(..7) == today.get(..7) {
            return;
        }
        if self.day.get(..7) != today.get(..7) {
            self.of_month = 0.0;
        }
        self.of_day = 0.0;
        self.day = today;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_and_months_begin_at_zero() {
        let at = |text: &str| Timestamp::parse_rfc3339(text).expect("a time");
        let mut spending = Spending::default();
        spending.add(2.0, at("2026-01-30T10:00:00Z"));
        spending.add(3.0, at("2026-01-31T10:00:00Z"));
        assert_eq!(
            (
                spending.of(Period::Day, at("2026-01-31T11:00:00Z")),
                spending.of(Period::Month, at("2026-01-31T11:00:00Z"))
            ),
            (3.0, 5.0)
        );
        let kept: Spending =
            serde_json::from_str(&serde_json::to_string(&spending).expect("JSON")).expect("read");
        assert_eq!(kept, spending);
        assert_eq!(
            (
                spending.of(Period::Day, at("2026-02-01T00:00:00Z")),
                spending.of(Period::Month, at("2026-02-01T00:00:00Z"))
            ),
            (0.0, 0.0)
        );
    }
}
