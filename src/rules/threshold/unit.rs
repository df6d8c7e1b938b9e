//! How a figure is written in a configuration, and how in the annotation `threshold`.

use crate::model::{format_duration, parse_duration};

/// What a figure counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// A part of a whole; rules compare 0 to 1.
    Share,
    /// A time; rules compare seconds.
    Seconds,
    /// A size; rules compare bytes.
    Bytes,
    /// Anything else.
    Number,
}

/// Powers of 1000, as the annotations have them.
const SIZES: [(&str, f64); 4] = [("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("KB", 1e3)];
const TIMES: [(&str, f64); 3] = [("days", 86_400.0), ("h", 3_600.0), ("min", 60.0)];

impl Unit {
    /// Reads a figure; `None` when it is not written in this unit.
    pub fn parse(self, text: &str) -> Option<f64> {
        let text = text.trim();
        let number = |text: &str| {
            text.trim()
                .parse::<f64>()
                .ok()
                .filter(|value| value.is_finite() && *value >= 0.0)
        };
        match self {
            Unit::Share => number(text.strip_suffix('%')?)
                .filter(|percent| *percent <= 100.0)
                .map(|percent| percent / 100.0),
            Unit::Seconds => parse_duration(text).ok().map(|time| time.as_secs_f64()),
            Unit::Bytes => {
                let (digits, size) = SIZES
                    .iter()
                    .find_map(|(name, size)| Some((text.strip_suffix(name)?, *size)))?;
                number(digits).map(|count| count * size)
            }
            Unit::Number => number(text),
        }
    }

    /// Writes a figure as the annotations do.
    pub fn write(self, value: f64) -> String {
        match self {
            // Rounded, because 0.29 * 100 is 28.999999999999996.
            Unit::Share => format!("{} %", (value * 1e6).round() / 1e4),
            Unit::Seconds => in_words(value),
            Unit::Bytes => {
                let (name, size) = SIZES
                    .into_iter()
                    .find(|(_, size)| value >= *size)
                    .unwrap_or(("B", 1.0));
                format!("{} {name}", value / size)
            }
            Unit::Number => value.to_string(),
        }
    }

    /// What is to be written, for messages.
    pub fn wanted(self) -> &'static str {
        match self {
            Unit::Share => "a share such as 80%",
            Unit::Seconds => "a time such as 500ms, 2s or 1h",
            Unit::Bytes => "a size such as 100MB or 1GB",
            Unit::Number => "a number such as 80",
        }
    }
}

/// A time in the largest unit that gives a whole number: `90 min`, `500 ms`.
pub(super) fn in_words(seconds: f64) -> String {
    let whole = |size: &f64| (seconds / size) >= 1.0 && (seconds % size) == 0.0;
    match TIMES
        .iter()
        .find(|(name, size)| whole(size) && (*name != "days" || seconds > *size))
    {
        Some((name, size)) => format!("{} {name}", seconds / size),
        None if seconds >= 1.0 || seconds == 0.0 => format!("{seconds} s"),
        None => format!("{} ms", (seconds * 1e6).round() / 1e3),
    }
}

/// A duration as Prometheus writes it, which is how the ranges of texts are written.
pub(super) fn as_range(duration: std::time::Duration) -> String {
    format_duration(duration)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_read_and_written_in_their_unit() {
        for (unit, text, value, written) in [
            (Unit::Share, "80%", 0.8, "80 %"),
            (Unit::Share, "0.5 %", 0.005, "0.5 %"),
            (Unit::Share, "29%", 0.29, "29 %"),
            (Unit::Seconds, "500ms", 0.5, "500 ms"),
            (Unit::Seconds, "2s", 2.0, "2 s"),
            (Unit::Seconds, "1m30s", 90.0, "90 s"),
            (Unit::Seconds, "30m", 1800.0, "30 min"),
            (Unit::Seconds, "1d", 86_400.0, "24 h"),
            (Unit::Seconds, "30d", 2_592_000.0, "30 days"),
            (Unit::Bytes, "100MB", 1e8, "100 MB"),
            (Unit::Number, "10", 10.0, "10"),
        ] {
            assert_eq!(unit.parse(text), Some(value), "{text}");
            assert_eq!(unit.write(value), written, "{text}");
        }
        for (unit, text) in [
            (Unit::Share, "0.8"),
            (Unit::Share, "120%"),
            (Unit::Seconds, "2"),
            (Unit::Number, "80%"),
            (Unit::Number, "-1"),
        ] {
            assert_eq!(unit.parse(text), None, "{text}");
        }
    }
}
