//! Which time a report is about: the last so many hours, or the last whole day, week or month of a
//! zone.

use std::time::Duration;

use jiff::ToSpan as _;
use jiff::civil::Date;
use jiff::tz::TimeZone;

use crate::model::{Timestamp, format_duration, parse_duration};

/// The longest period that a report is made of: as long as rollups are kept.
const LONGEST: Duration = Duration::from_secs(400 * 86_400);

/// A period that ends now, or has ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Last {
    /// So long, up to now.
    Time(Duration),
    /// Yesterday.
    Day,
    /// The last week, from Monday to Sunday.
    Week,
    /// The last month.
    Month,
}

impl Last {
    /// Reads `day`, `week`, `month`, or a duration from an hour on.
    ///
    /// # Errors
    ///
    /// It is none of them; the text says what is.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text {
            "day" => Ok(Last::Day),
            "week" => Ok(Last::Week),
            "month" => Ok(Last::Month),
            _ => match parse_duration(text) {
                Err(error) => Err(format!(
                    "{error}; give day, week, month, or a duration such as 30d"
                )),
                Ok(last) if last < Duration::from_secs(3600) => Err("give an hour at least".into()),
                Ok(last) if last > LONGEST => {
                    Err(format!("give {}d at most", LONGEST.as_secs() / 86_400))
                }
                Ok(last) => Ok(Last::Time(last)),
            },
        }
    }

    /// As it is read.
    pub fn text(self) -> String {
        match self {
            Last::Day => "day".into(),
            Last::Week => "week".into(),
            Last::Month => "month".into(),
            Last::Time(last) => format_duration(last),
        }
    }

    /// Its end at `now`, and how long it is.
    pub fn period(self, zone: &TimeZone, now: Timestamp) -> (Timestamp, Duration) {
        let today = jiff::Timestamp::from_millisecond(now.0)
            .map(|instant| zone.to_datetime(instant).date());
        let whole = today.ok().and_then(|today| {
            let (from, to) = match self {
                Last::Time(_) => return None,
                Last::Day => (today.checked_sub(1.day()).ok()?, today),
                Last::Week => {
                    let monday = today
                        .checked_sub(i64::from(today.weekday().to_monday_zero_offset()).days())
                        .ok()?;
                    (monday.checked_sub(7.days()).ok()?, monday)
                }
                Last::Month => (
                    today.first_of_month().checked_sub(1.month()).ok()?,
                    today.first_of_month(),
                ),
            };
            Some((begin_of(from, zone)?, begin_of(to, zone)?))
        });
        match (whole, self) {
            (Some((from, to)), _) => (to, to.since(from)),
            (None, Last::Time(last)) => (now, last),
            // Beyond the calendar.
            (None, _) => (now, Duration::from_secs(86_400)),
        }
    }
}

fn begin_of(date: Date, zone: &TimeZone) -> Option<Timestamp> {
    date.to_zoned(zone.clone())
        .ok()
        .map(|zoned| Timestamp(zoned.timestamp().as_millisecond()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_month_is_that_of_the_zone_and_as_long_as_it_was() {
        let period = |last: Last, zone: &str, now: &str| {
            let zone = TimeZone::get(zone).expect("a zone");
            let (end, length) = last.period(&zone, Timestamp::parse_rfc3339(now).expect("a time"));
            (
                (end - length).rfc3339()[..16].to_owned(),
                end.rfc3339()[..16].to_owned(),
            )
        };
        let is = |from: &str, to: &str| (from.to_owned(), to.to_owned());
        assert_eq!(
            period(Last::Month, "Asia/Shanghai", "2026-12-01T00:00:00Z"),
            is("2026-10-31T16:00", "2026-11-30T16:00")
        );
        assert_eq!(
            period(Last::Month, "UTC", "2026-03-15T00:00:00Z"),
            is("2026-02-01T00:00", "2026-03-01T00:00")
        );
        assert_eq!(
            period(Last::Month, "Europe/Berlin", "2026-04-02T00:00:00Z"),
            is("2026-02-28T23:00", "2026-03-31T22:00"),
            "an hour less"
        );
        assert_eq!(
            period(Last::Week, "UTC", "2026-12-01T10:00:00Z"),
            is("2026-11-23T00:00", "2026-11-30T00:00")
        );
        assert_eq!(
            period(Last::Day, "Asia/Shanghai", "2026-12-01T17:00:00Z"),
            is("2026-11-30T16:00", "2026-12-01T16:00")
        );
        assert_eq!(
            period(
                Last::parse("36h").expect("a time"),
                "UTC",
                "2026-12-01T12:00:00Z"
            ),
            is("2026-11-30T00:00", "2026-12-01T12:00")
        );
        assert!(
            Last::parse("5m").is_err()
                && Last::parse("2y").is_err()
                && Last::parse("fortnight").is_err()
        );
    }
}
