//! Time intervals that mute or allow a route
//! (<https://prometheus.io/docs/alerting/latest/configuration/#time_interval>).
//!
//! Fields of one element are ANDed, the items of a field and the elements ORed. Zones come from the
//! system's IANA database, or from the copy in the binary. Ranges neither wrap over midnight nor
//! over a week's, month's or year's end.

use jiff::tz::TimeZone;
use jiff::{Zoned, civil};
use serde_json::{Value as Json, json};

use crate::config::Section;
use crate::model::Timestamp;

const WEEKDAYS: [&str; 7] = [
    "sunday",
    "monday",
    "tuesday",
    "wednesday",
    "thursday",
    "friday",
    "saturday",
];
const MONTHS: [&str; 12] = [
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
];

/// One element of a time interval.
#[derive(Clone, Debug)]
pub struct TimeInterval {
    /// Minutes of the day, start inclusive, end exclusive.
    times: Vec<(i64, i64)>,
    weekdays: Vec<(i64, i64)>,
    days_of_month: Vec<(i64, i64)>,
    months: Vec<(i64, i64)>,
    years: Vec<(i64, i64)>,
    zone: TimeZone,
}

impl TimeInterval {
    /// Reads one element and records its mistakes.
    pub fn read(section: &Section<'_>) -> Self {
        let location: String = section.or("location", "UTC".into());
        let zone = zone(&location).unwrap_or_else(|| {
            section.error(
                "location",
                format!("{location:?} is not a time zone"),
                "give an IANA name such as Europe/Berlin, UTC or Local",
            );
            TimeZone::UTC
        });
        let interval = TimeInterval {
            times: section
                .sections("times")
                .iter()
                .filter_map(time_range)
                .collect(),
            weekdays: ranges(
                section,
                "weekdays",
                "a weekday or a range such as monday:friday",
                |t| name_or_number(t, &WEEKDAYS, 0, 0, 6),
            ),
            days_of_month: ranges(
                section,
                "days_of_month",
                "a day from 1 to 31 or -1 to -31, or a range such as 1:7",
                |t| t.parse().ok().filter(|d: &i64| *d != 0 && d.abs() <= 31),
            ),
            months: ranges(
                section,
                "months",
                "a month or a range such as january:march",
                |t| name_or_number(t, &MONTHS, 1, i64::MIN, i64::MAX),
            ),
            years: ranges(
                section,
                "years",
                "a year or a range such as 2026:2028",
                |t| t.parse().ok(),
            ),
            zone,
        };
        section.finish();
        interval
    }

    /// As it stands in a configuration.
    pub fn to_json(&self) -> Json {
        let mut shown = json!({});
        if !self.times.is_empty() {
            let time = |minute: i64| format!("{:02}:{:02}", minute / 60, minute % 60);
            let range = |(from, to): &(i64, i64)| json!({ "start_time": time(*from), "end_time": time(*to) });
            shown["times"] = self.times.iter().map(range).collect();
        }
        let number = |number: i64| number.to_string();
        for (key, ranges) in [
            (
                "weekdays",
                range_texts(&self.weekdays, |day| WEEKDAYS[day as usize % 7].to_owned()),
            ),
            ("days_of_month", range_texts(&self.days_of_month, number)),
            ("months", range_texts(&self.months, month_text)),
            ("years", range_texts(&self.years, number)),
        ] {
            if !ranges.is_empty() {
                shown[key] = json!(ranges);
            }
        }
        shown["location"] = json!(self.zone.iana_name().unwrap_or("Local"));
        shown
    }

    /// Whether `now` lies in it.
    pub fn contains(&self, now: Timestamp) -> bool {
        let Ok(instant) = jiff::Timestamp::from_millisecond(now.0) else {
            return false;
        };
        let local = instant.to_zoned(self.zone.clone());
        let minute = i64::from(local.hour()) * 60 + i64::from(local.minute());
        (self.times.is_empty()
            || self
                .times
                .iter()
                .any(|(from, to)| (*from..*to).contains(&minute)))
            && within(
                &self.weekdays,
                i64::from(local.weekday().to_sunday_zero_offset()),
            )
            && (self.days_of_month.is_empty()
                || self
                    .days_of_month
                    .iter()
                    .any(|range| day_matches(*range, &local)))
            && within(&self.months, i64::from(local.month()))
            && within(&self.years, i64::from(local.year()))
    }
}

/// A month that is none, which Alertmanager takes, never comes.
fn month_text(month: i64) -> String {
    let name = usize::try_from(month - 1)
        .ok()
        .and_then(|index| MONTHS.get(index));
    name.map_or_else(|| month.to_string(), |name| (*name).to_owned())
}

fn range_texts(ranges: &[(i64, i64)], text: impl Fn(i64) -> String) -> Vec<String> {
    ranges
        .iter()
        .map(|(from, to)| {
            if from == to {
                text(*from)
            } else {
                format!("{}:{}", text(*from), text(*to))
            }
        })
        .collect()
}

fn zone(location: &str) -> Option<TimeZone> {
    match location {
        "" | "UTC" => Some(TimeZone::UTC),
        "Local" => Some(TimeZone::system()),
        // Names differ in case where the zones are files, as they are for Alertmanager.
        name => TimeZone::get(name)
            .ok()
            .filter(|zone| zone.iana_name() == Some(name)),
    }
}

fn within(ranges: &[(i64, i64)], value: i64) -> bool {
    ranges.is_empty()
        || ranges
            .iter()
            .any(|(from, to)| (*from..=*to).contains(&value))
}

/// Negative days count from the month's end; an end past it is clamped, a beginning past it never
/// matches.
fn day_matches((from, to): (i64, i64), local: &Zoned) -> bool {
    let last = i64::from(local.days_in_month());
    let absolute = |day: i64| if day < 0 { last + day + 1 } else { day };
    let (from, to) = (absolute(from), absolute(to));
    from <= last && (from.max(1)..=to.min(last)).contains(&i64::from(local.day()))
}

fn name_or_number(text: &str, names: &[&str], first: i64, low: i64, high: i64) -> Option<i64> {
    let lower = text.to_ascii_lowercase();
    let named = names
        .iter()
        .position(|n| *n == lower)
        .map(|i| i as i64 + first);
    named.or_else(|| lower.parse().ok().filter(|n| (low..=high).contains(n)))
}

fn ranges(
    section: &Section<'_>,
    key: &str,
    wanted: &str,
    parse: impl Fn(&str) -> Option<i64>,
) -> Vec<(i64, i64)> {
    let texts: Vec<String> = section.or(key, Vec::new());
    let read = |text: &String| {
        let (from, to) = text.split_once(':').unwrap_or((text, text));
        let range = parse(from).zip(parse(to));
        match range {
            // A day counted from the end is compared as in the shortest month, as Alertmanager
            // does.
            Some((from, to)) if to < 0 && from > 0 && from <= 28 + to => Some((from, to)),
            Some((from, to)) if from <= to && !(from < 0 && to > 0 && key == "days_of_month") => {
                Some((from, to))
            }
            Some(_) => {
                section.error(
                    key,
                    format!("{text:?} ends before it begins"),
                    "give two ranges, each within its own span",
                );
                None
            }
            None => {
                section.error(
                    key,
                    format!("{text:?} is not valid here"),
                    format!("give {wanted}"),
                );
                None
            }
        }
    };
    texts.iter().filter_map(read).collect()
}

fn time_range(section: &Section<'_>) -> Option<(i64, i64)> {
    let (start, end): (String, String) =
        (section.require("start_time"), section.require("end_time"));
    section.finish();
    let minute = |key: &str, text: &str| {
        let found = minute_of_day(text);
        // One that is missing is reported elsewhere.
        if found.is_none() && section.node(key).is_some_and(|node| !node.is_null()) {
            section.error(
                key,
                format!("{text:?} is not a time of day"),
                "give HH:MM from 00:00 to 24:00, in quotes",
            );
        }
        found
    };
    let (from, to) = (minute("start_time", &start), minute("end_time", &end));
    match (from?, to?) {
        (from, to) if from < to => Some((from, to)),
        _ => {
            section.error(
                "end_time",
                "is not after start_time",
                "give two ranges, one before and one after midnight",
            );
            None
        }
    }
}

fn minute_of_day(text: &str) -> Option<i64> {
    if text == "24:00" {
        return Some(24 * 60);
    }
    let (hour, minute) = text
        .split_once(':')
        .filter(|(h, m)| h.len() == 2 && m.len() == 2)?;
    let time = civil::Time::new(hour.parse().ok()?, minute.parse().ok()?, 0, 0).ok()?;
    Some(i64::from(time.hour()) * 60 + i64::from(time.minute()))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::{Document, Environment, Loader};

    fn read(yaml: &str) -> Result<TimeInterval, String> {
        let document = Document::parse("n.yml", yaml).map_err(|e| e.to_string())?;
        let environment = Environment::default();
        let loader = Loader::new(&document, &environment, Path::new("."));
        let interval = TimeInterval::read(&loader.root());
        loader.finish(interval).map_err(|e| e.to_string())
    }

    fn at(text: &str) -> Timestamp {
        Timestamp::parse_rfc3339(text).expect("RFC 3339")
    }

    /// SEMANTICS 168 and 169.
    #[test]
    fn fields_are_anded_and_items_ored() {
        let office = "weekdays: ['monday:friday']\ntimes: [{start_time: '09:00', end_time: '17:00'}]\nlocation: Europe/Berlin\n";
        let office = read(office).expect("valid");
        // A Friday in summer: Berlin is two hours ahead of UTC.
        assert!(office.contains(at("2026-07-03T07:00:00Z")));
        assert!(!office.contains(at("2026-07-03T06:59:59Z")));
        assert!(office.contains(at("2026-07-03T14:59:59Z")));
        assert!(!office.contains(at("2026-07-03T15:00:00Z")));
        assert!(!office.contains(at("2026-07-04T10:00:00Z")), "Saturday");
        // In winter it is one hour.
        assert!(
            !office.contains(at("2026-01-05T07:30:00Z"))
                && office.contains(at("2026-01-05T08:00:00Z"))
        );
    }

    #[test]
    fn days_count_from_the_end_and_are_clamped() {
        let last = read("days_of_month: ['-1']").expect("valid");
        assert!(
            last.contains(at("2026-02-28T12:00:00Z")) && !last.contains(at("2026-02-27T12:00:00Z"))
        );
        assert!(last.contains(at("2028-02-29T12:00:00Z")));
        let late = read("days_of_month: ['29:31']").expect("valid");
        assert!(
            !late.contains(at("2026-02-28T12:00:00Z")) && late.contains(at("2026-01-31T12:00:00Z"))
        );
        let tail = read("days_of_month: ['25:-1']\nmonths: [february, '4']\nyears: ['2026:2027']")
            .expect("valid");
        assert!(
            tail.contains(at("2026-02-28T12:00:00Z")) && !tail.contains(at("2028-02-28T12:00:00Z"))
        );
        assert!(
            !tail.contains(at("2026-03-28T12:00:00Z")) && tail.contains(at("2026-04-25T12:00:00Z"))
        );
    }

    #[test]
    fn what_would_never_match_is_an_error() {
        for yaml in [
            "times: [{start_time: '17:00', end_time: '09:00'}]",
            "times: [{start_time: '9:00', end_time: '10:00'}]",
            "weekdays: ['friday:monday']",
            "weekdays: [funday]",
            "days_of_month: ['0']",
            "days_of_month: ['-5:5']",
            "days_of_month: ['28:-1']",
            "location: Mars/Olympus",
            "hours: ['1']",
        ] {
            assert!(read(yaml).is_err(), "{yaml}");
        }
    }
}
