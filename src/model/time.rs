//! Instants in milliseconds and durations in Prometheus's spelling (`1h30m`).

use std::fmt;
use std::ops::{Add, Sub};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// An instant: milliseconds since the Unix epoch, UTC.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// Before every real instant.
    pub const MIN: Timestamp = Timestamp(i64::MIN);
    /// After every real instant.
    pub const MAX: Timestamp = Timestamp(i64::MAX);

    /// From Unix seconds, rounded to the millisecond.
    pub fn from_seconds(seconds: f64) -> Self {
        Timestamp((seconds * 1000.0).round() as i64)
    }

    /// Unix seconds.
    pub fn seconds(self) -> f64 {
        self.0 as f64 / 1000.0
    }

    /// Time since `earlier`; zero if `earlier` is later.
    pub fn since(self, earlier: Timestamp) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// RFC 3339 in UTC with milliseconds (`2026-11-21T09:00:00.000Z`).
    pub fn rfc3339(self) -> String {
        match jiff::Timestamp::from_millisecond(self.0) {
            Ok(t) => t.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string(),
            Err(_) => "0001-01-01T00:00:00.000Z".into(),
        }
    }

    /// Reads RFC 3339 text, any offset.
    pub fn parse_rfc3339(text: &str) -> Option<Self> {
        text.parse::<jiff::Timestamp>()
            .ok()
            .map(|t| Timestamp(t.as_millisecond()))
    }
}

/// What the wall clock shows, right or wrong.
pub(super) fn wall() -> Timestamp {
    SystemTime::now().into()
}

impl From<SystemTime> for Timestamp {
    fn from(time: SystemTime) -> Self {
        match time.duration_since(UNIX_EPOCH) {
            Ok(after) => Timestamp(after.as_millis() as i64),
            Err(before) => Timestamp(-(before.duration().as_millis() as i64)),
        }
    }
}

impl Add<Duration> for Timestamp {
    type Output = Timestamp;
    fn add(self, rhs: Duration) -> Timestamp {
        Timestamp(self.0.saturating_add(millis(rhs)))
    }
}

impl Sub<Duration> for Timestamp {
    type Output = Timestamp;
    fn sub(self, rhs: Duration) -> Timestamp {
        Timestamp(self.0.saturating_sub(millis(rhs)))
    }
}

/// A duration in whole milliseconds, saturating.
pub fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// Why a text is not a duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    /// Nothing was written.
    #[error("empty duration string")]
    Empty,
    /// Wrong form, or units out of order.
    #[error("not a valid duration string: {0:?}")]
    Invalid(String),
    /// A unit that does not exist.
    #[error("unknown unit {unit:?} in duration {text:?}")]
    UnknownUnit {
        /// The unit as written.
        unit: String,
        /// The whole duration as written.
        text: String,
    },
    /// Beyond what the form can hold (about 292 years).
    #[error("duration out of range")]
    OutOfRange,
}

const UNITS: [(&str, u64); 7] = [
    ("y", 31_536_000_000),
    ("w", 604_800_000),
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
    ("ms", 1),
];

/// Reads `1h30m`, `15s`, `500ms`, `0`: whole numbers, each unit at most once, from large to small.
pub fn parse_duration(text: &str) -> Result<Duration, DurationError> {
    match text {
        "" => return Err(DurationError::Empty),
        "0" => return Ok(Duration::ZERO),
        _ => {}
    }
    let invalid = || DurationError::Invalid(text.to_owned());
    let (mut rest, mut next_unit, mut total) = (text, 0, 0u64);
    while !rest.is_empty() {
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (number, tail) = rest.split_at(digits);
        let (unit, tail) = tail.split_at(
            tail.find(|c: char| c.is_ascii_digit())
                .unwrap_or(tail.len()),
        );
        if number.is_empty() || unit.is_empty() {
            return Err(invalid());
        }
        let unknown = || DurationError::UnknownUnit {
            unit: unit.to_owned(),
            text: text.to_owned(),
        };
        let index = UNITS
            .iter()
            .position(|(name, _)| *name == unit)
            .ok_or_else(unknown)?;
        if index < next_unit {
            return Err(invalid());
        }
        next_unit = index + 1;
        let number: u64 = number.parse().map_err(|_| DurationError::OutOfRange)?;
        total = number
            .checked_mul(UNITS[index].1)
            .and_then(|ms| total.checked_add(ms))
            .ok_or(DurationError::OutOfRange)?;
        rest = tail;
    }
    // Prometheus holds durations as signed 64-bit nanoseconds.
    if total > (i64::MAX / 1_000_000) as u64 {
        Err(DurationError::OutOfRange)
    } else {
        Ok(Duration::from_millis(total))
    }
}

/// Reads a duration as Go writes them: `1.5s`, `1h0m0.25s`, `0`; fractions are allowed, days are
/// not. Parts of a nanosecond are dropped.
pub fn parse_go_duration(text: &str) -> Result<Duration, DurationError> {
    const NANOSECONDS: [(&str, f64); 8] = [
        ("ns", 1.0),
        ("us", 1e3),
        ("µs", 1e3),
        ("μs", 1e3),
        ("ms", 1e6),
        ("s", 1e9),
        ("m", 60e9),
        ("h", 3600e9),
    ];
    match text {
        "" => return Err(DurationError::Empty),
        "0" => return Ok(Duration::ZERO),
        _ => {}
    }
    let (mut rest, mut total) = (text, 0.0);
    while !rest.is_empty() {
        let (number, tail) = rest.split_at(
            rest.find(|c: char| !c.is_ascii_digit() && c != '.')
                .unwrap_or(rest.len()),
        );
        let (unit, tail) = tail.split_at(
            tail.find(|c: char| c.is_ascii_digit() || c == '.')
                .unwrap_or(tail.len()),
        );
        let number: f64 = number
            .parse()
            .map_err(|_| DurationError::Invalid(text.to_owned()))?;
        let unknown = || DurationError::UnknownUnit {
            unit: unit.to_owned(),
            text: text.to_owned(),
        };
        total += number
            * NANOSECONDS
                .iter()
                .find(|(name, _)| *name == unit)
                .ok_or_else(unknown)?
                .1;
        rest = tail;
    }
    if total > i64::MAX as f64 {
        Err(DurationError::OutOfRange)
    } else {
        Ok(Duration::from_nanos(total as u64))
    }
}

/// Writes a duration as Prometheus does: `1h30m`, `1w`, `0s`; years and weeks only when they come
/// out even.
pub fn format_duration(duration: Duration) -> String {
    let mut ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    if ms == 0 {
        return "0s".into();
    }
    let mut out = String::new();
    for (index, (name, size)) in UNITS.iter().enumerate() {
        let count = ms / size;
        if count == 0 || (index < 2 && ms % size != 0) {
            continue;
        }
        out.push_str(&format!("{count}{name}"));
        ms -= count * size;
    }
    out
}

/// Displays a duration in Prometheus's spelling.
pub struct DisplayDuration(pub Duration);

impl fmt::Display for DisplayDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&format_duration(self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_and_print_as_prometheus_does() {
        for (text, ms, printed) in [
            ("0", 0, "0s"),
            ("0s", 0, "0s"),
            ("324ms", 324, "324ms"),
            ("3s", 3000, "3s"),
            ("5m", 300_000, "5m"),
            ("1h", 3_600_000, "1h"),
            ("4d", 345_600_000, "4d"),
            ("4d1h", 349_200_000, "4d1h"),
            ("14d", 1_209_600_000, "2w"),
            ("3w", 1_814_400_000, "3w"),
            ("3w2d1h", 1_990_800_000, "23d1h"),
            ("10y", 315_360_000_000, "10y"),
            ("1h30m", 5_400_000, "1h30m"),
        ] {
            assert_eq!(
                parse_duration(text),
                Ok(Duration::from_millis(ms)),
                "{text}"
            );
            assert_eq!(format_duration(Duration::from_millis(ms)), printed);
        }
    }

    #[test]
    fn durations_read_as_go_writes_them() {
        for (text, ms) in [
            ("0", Some(0)),
            ("1.5s", Some(1500)),
            ("1h0m0.25s", Some(3_600_250)),
            (".5m", Some(30_000)),
            ("1500us", Some(1)),
        ] {
            assert_eq!(
                parse_go_duration(text).ok().map(|d| d.as_millis()),
                ms,
                "{text}"
            );
        }
        for text in ["", "5", "1d", "1.2.3s", "s", "1s ", ".s", "999999999h"] {
            assert!(parse_go_duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn malformed_durations_are_refused() {
        for text in [
            "",
            "1",
            "1y1m1d",
            "-1w",
            "1.5d",
            "d",
            "294y",
            "200y10400w",
            "107675d",
            "2584200h",
            "5m5m",
            " 5m",
        ] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }
}
