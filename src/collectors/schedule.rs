//! When a backup, or a run of a job, must be there: at least so often, or at times of cron
//! (<https://man7.org/linux/man-pages/man5/crontab.5.html>) in a zone.
//!
//! A time that the change to summer time leaves out is the moment after the gap. One that comes
//! twice counts the first time; where every hour is meant, both times, as cron does it.

use std::time::Duration;

use jiff::civil::{Date, Time};
use jiff::tz::{AmbiguousOffset, TimeZone};
use jiff::{Span, Timestamp as Instant};

use crate::config::Section;
use crate::model::Timestamp;

/// How far a schedule is looked through: a leap day may be eight years away.
const DAYS: usize = 366 * 9;
/// A clock that stamps files may be behind by so much, in seconds.
const SKEW: i64 = 60;
const WEEKDAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];
const MONTHS: [&str; 12] = [
    "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
];

/// Which are expected.
#[derive(Clone, Debug)]
pub enum Schedule {
    /// One in each such time.
    Every(Duration),
    /// One after each of these times.
    At(Cron, TimeZone),
}

impl Schedule {
    /// When the backup after the one of `last` ought to be made; `None` when the schedule names no
    /// time.
    pub fn next(&self, last: Timestamp) -> Option<Timestamp> {
        match self {
            Schedule::Every(_) => self.after(last),
            Schedule::At(cron, zone) => {
                cron.next(Timestamp(last.0.saturating_add(SKEW * 1000)), zone)
            }
        }
    }

    /// The first time after `last`, to the millisecond.
    pub fn after(&self, last: Timestamp) -> Option<Timestamp> {
        match self {
            Schedule::Every(every) => Some(Timestamp(
                last.0
                    .saturating_add(i64::try_from(every.as_millis()).ok()?),
            )),
            Schedule::At(cron, zone) => cron.next(last, zone),
        }
    }

    /// How much later it may be: a fifth of the interval, or an hour.
    pub fn grace(&self) -> Duration {
        match self {
            Schedule::Every(every) => *every / 5,
            Schedule::At(..) => Duration::from_secs(3600),
        }
    }
}

/// A cron expression: which minutes, hours, days, months and weekdays, as bits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cron {
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    weekdays: u64,
    /// Days of the month and of the week are both given: either is enough.
    either: bool,
    /// Every hour is meant, so that one that comes twice counts twice.
    hourly: bool,
}

impl Cron {
    /// Reads `0 2 * * *`, `@daily`, `02:00` or `Sun 04:00`.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim().to_ascii_lowercase();
        let fields: Vec<&str> = match text.as_str() {
            "@hourly" => vec!["0", "*", "*", "*", "*"],
            "@daily" | "@midnight" => vec!["0", "0", "*", "*", "*"],
            "@weekly" => vec!["0", "0", "*", "*", "0"],
            "@monthly" => vec!["0", "0", "1", "*", "*"],
            "@yearly" | "@annually" => vec!["0", "0", "1", "1", "*"],
            other => other.split_whitespace().collect(),
        };
        match fields.as_slice() {
            [minutes, hours, days, months, weekdays] => {
                let week = bits(weekdays, 0, 7, &WEEKDAYS)?;
                Some(Cron {
                    minutes: bits(minutes, 0, 59, &[])?,
                    hours: bits(hours, 0, 23, &[])?,
                    days: bits(days, 1, 31, &[])?,
                    months: bits(months, 1, 12, &MONTHS)?,
                    weekdays: (week | week >> 7) & 0x7f,
                    either: !days.starts_with('*') && !weekdays.starts_with('*'),
                    hourly: hours.starts_with('*'),
                })
            }
            [time] => Self::of_day("*", time),
            [weekday, time] => Self::of_day(weekday, time),
            _ => None,
        }
    }

    fn of_day(weekdays: &str, time: &str) -> Option<Self> {
        let (hour, minute) = time
            .split_once(':')
            .filter(|(_, minute)| minute.len() == 2)?;
        Self::parse(&format!(
            "{} {} * * {weekdays}",
            minute.parse::<u8>().ok()?,
            hour.parse::<u8>().ok()?
        ))
    }

    fn is_on(&self, date: Date) -> bool {
        let has = |bits: u64, number: i8| bits >> number & 1 == 1;
        let day = has(self.days, date.day());
        let weekday = has(self.weekdays, date.weekday().to_sunday_zero_offset());
        has(self.months, date.month())
            && if self.either {
                day || weekday
            } else {
                day && weekday
            }
    }

    /// The first time after `last`.
    fn next(&self, last: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let after = Instant::from_millisecond(last.0).ok()?;
        let mut date = zone.to_datetime(after).date();
        for _ in 0..DAYS {
            if self.is_on(date)
                && let Some(found) = self.next_on(date, after, zone)
            {
                return Some(Timestamp(found.as_millisecond()));
            }
            date = date.checked_add(Span::new().days(1)).ok()?;
        }
        None
    }

    /// The first time of a day that lies after an instant.
    fn next_on(&self, date: Date, after: Instant, zone: &TimeZone) -> Option<Instant> {
        // No change of the clocks is longer.
        let from = zone
            .to_datetime(after)
            .checked_sub(Span::new().hours(3))
            .ok()?;
        let mut earliest: Option<Instant> = None;
        for (hour, minute) in (0..24i8).flat_map(|hour| (0..60i8).map(move |minute| (hour, minute)))
        {
            if self.hours >> hour & 1 == 0 || self.minutes >> minute & 1 == 0 {
                continue;
            }
            let time = date.to_datetime(Time::new(hour, minute, 0, 0).ok()?);
            if time < from {
                continue;
            }
            let ambiguous = zone.to_ambiguous_zoned(time);
            let comes_twice = matches!(ambiguous.offset(), AmbiguousOffset::Fold { .. });
            let again = (comes_twice && self.hourly)
                .then(|| ambiguous.clone().later().ok())
                .flatten();
            let times = [ambiguous.compatible().ok(), again];
            let found = times
                .into_iter()
                .flatten()
                .map(|time| time.timestamp())
                .filter(|time| *time > after)
                .min();
            earliest = earliest.into_iter().chain(found).min();
            // The second round of a time that comes twice begins after later times of the first.
            if earliest.is_some() && !comes_twice {
                break;
            }
        }
        earliest
    }
}

/// The keys `every`, and `at` (or how else it is called) with `timezone`; mistakes are recorded.
pub fn read(section: &Section<'_>, at_key: &str) -> Option<Schedule> {
    let (every, at) = (
        section.get::<Duration>("every"),
        section.get::<String>(at_key),
    );
    let zone = section.get::<String>("timezone");
    // Times of a log are read in it, too.
    if zone.is_some() && at.is_none() && section.node("log").is_none() {
        section.error(
            "timezone",
            format!("belongs to {at_key:?}"),
            format!("give {at_key}: a time such as \"02:00\", or remove it"),
        );
    }
    match (every, at) {
        (Some(_), Some(_)) => {
            section.error(at_key, "stands beside \"every\"", "keep one of the two");
            None
        }
        (Some(every), None) if every.is_zero() => {
            section.error("every", "is zero", "give the time between two, such as 1d");
            None
        }
        (Some(every), None) => Some(Schedule::Every(every)),
        (None, Some(at)) => {
            let cron = Cron::parse(&at);
            if cron.is_none() {
                let remedy =
                    "give \"02:00\", \"Sun 04:00\" or five fields of cron such as \"0 2 * * *\"";
                section.error(at_key, format!("{at:?} is no time"), remedy);
            }
            let zone = match zone.as_deref() {
                None | Some("Local") => TimeZone::system(),
                Some(name) => TimeZone::get(name).unwrap_or_else(|_| {
                    let remedy = "give an IANA name such as Asia/Shanghai, UTC or Local";
                    section.error("timezone", format!("{name:?} is not a time zone"), remedy);
                    TimeZone::UTC
                }),
            };
            Some(Schedule::At(cron?, zone))
        }
        (None, None) => None,
    }
}

/// The numbers of a field: `*`, `*/5`, `1-5`, `1-5/2`, `1,3`, names.
fn bits(field: &str, low: u32, high: u32, names: &[&str]) -> Option<u64> {
    let number = |text: &str| -> Option<u32> {
        let named = names
            .iter()
            .position(|name| *name == text)
            .and_then(|at| u32::try_from(at).ok());
        named
            .map(|at| at + u32::from(names.len() == 12))
            .or_else(|| text.parse().ok())
            .filter(|n| (low..=high).contains(n))
    };
    let mut found = 0;
    for part in field.split(',') {
        let (range, step) = match part.split_once('/') {
            Some((range, step)) => (range, step.parse::<u32>().ok().filter(|step| *step > 0)?),
            None => (part, 1),
        };
        let (from, to) = match range.split_once('-') {
            _ if range == "*" => (low, high),
            Some((from, to)) => (number(from)?, number(to)?),
            None => (number(range)?, if step > 1 { high } else { number(range)? }),
        };
        if from > to {
            return None;
        }
        (from..=to)
            .step_by(step as usize)
            .for_each(|n| found |= 1 << n);
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(cron: &str, zone: &str, last: &str) -> String {
        let zone = TimeZone::get(zone).expect(zone);
        let last = Timestamp(last.parse::<Instant>().expect(last).as_millisecond());
        let next = Schedule::At(Cron::parse(cron).expect(cron), zone)
            .next(last)
            .expect("a time");
        Instant::from_millisecond(next.0)
            .expect("a time")
            .to_string()
    }

    #[test]
    fn the_next_time_follows_cron_the_zone_and_summer_time() {
        for (cron, zone, last, next) in [
            (
                "02:00",
                "Asia/Shanghai",
                "2026-11-30T18:10:00Z",
                "2026-12-01T18:00:00Z",
            ),
            (
                "0 2 * * *",
                "Asia/Shanghai",
                "2026-11-30T17:50:00Z",
                "2026-11-30T18:00:00Z",
            ),
            (
                "@hourly",
                "UTC",
                "2026-11-30T17:59:30Z",
                "2026-11-30T19:00:00Z",
            ),
            (
                "Sun 04:00",
                "UTC",
                "2026-11-30T12:00:00Z",
                "2026-12-06T04:00:00Z",
            ),
            (
                "0 4 * * 7",
                "UTC",
                "2026-11-30T12:00:00Z",
                "2026-12-06T04:00:00Z",
            ),
            (
                "30 1 13 * fri",
                "UTC",
                "2026-11-30T12:00:00Z",
                "2026-12-04T01:30:00Z",
            ),
            (
                "*/20 9-17/4 * * mon-fri",
                "UTC",
                "2026-11-30T13:41:00Z",
                "2026-11-30T17:00:00Z",
            ),
            (
                "0 0 29 2 *",
                "UTC",
                "2026-11-30T13:41:00Z",
                "2028-02-29T00:00:00Z",
            ),
            // 02:30 does not exist on 2026-03-29 in Berlin, and exists twice on 2026-10-25.
            (
                "30 2 * * *",
                "Europe/Berlin",
                "2026-03-28T02:00:00Z",
                "2026-03-29T01:30:00Z",
            ),
            (
                "30 2 * * *",
                "Europe/Berlin",
                "2026-10-24T12:00:00Z",
                "2026-10-25T00:30:00Z",
            ),
            (
                "30 2 * * *",
                "Europe/Berlin",
                "2026-10-25T00:40:00Z",
                "2026-10-26T01:30:00Z",
            ),
            // Every hour means the hour that comes twice twice.
            (
                "*/30 * * * *",
                "Europe/Berlin",
                "2026-10-24T23:40:00Z",
                "2026-10-25T00:00:00Z",
            ),
            (
                "*/30 * * * *",
                "Europe/Berlin",
                "2026-10-25T00:10:00Z",
                "2026-10-25T00:30:00Z",
            ),
            (
                "*/30 * * * *",
                "Europe/Berlin",
                "2026-10-25T00:40:00Z",
                "2026-10-25T01:00:00Z",
            ),
            (
                "*/30 * * * *",
                "Europe/Berlin",
                "2026-10-25T01:40:00Z",
                "2026-10-25T02:00:00Z",
            ),
            (
                "0 * * * *",
                "Europe/Berlin",
                "2026-03-29T00:10:00Z",
                "2026-03-29T01:00:00Z",
            ),
            (
                "0 * * * *",
                "America/St_Johns",
                "2026-11-01T03:50:00Z",
                "2026-11-01T04:30:00Z",
            ),
        ] {
            assert_eq!(after(cron, zone, last), next, "{cron} {zone} {last}");
        }
        for wrong in [
            "",
            "25:00",
            "2:0",
            "60 * * * *",
            "* * * *",
            "5-1 * * * *",
            "*/0 * * * *",
            "0 0 31 foo *",
        ] {
            assert_eq!(Cron::parse(wrong), None, "{wrong}");
        }
        let none = Cron::parse("0 0 31 2 *")
            .expect("fields")
            .next(Timestamp(0), &TimeZone::UTC);
        assert_eq!(none, None);
    }
}
