//! The languages of reports, and how numbers, times and texts from outside are written in them.

use std::time::Duration;

use crate::model::format_duration;

/// A number for programs: nine significant digits, so that rounding does not show.
pub fn rounded(value: f64) -> f64 {
    if value.abs() < 1e-12 {
        0.0
    } else {
        format!("{value:.8e}").parse().unwrap_or(value)
    }
}

/// A share for people: `43.2 %`; more digits below a hundredth.
pub fn percent(share: f64) -> String {
    let value = share * 100.0;
    if !value.is_finite() {
        return "–".into();
    }
    match value.abs() {
        0.0 => "0 %".into(),
        below if below < 1.0 => format!("{value:.2} %"),
        _ => format!("{value:.1} %"),
    }
}

/// Seconds for people: `340 ms`, `2.41 s`, `3h20m`.
pub fn seconds(value: f64) -> String {
    match value {
        v if !v.is_finite() => "–".into(),
        v if v.abs() < 1.0 => format!("{:.0} ms", v * 1000.0),
        v if v.abs() < 120.0 => format!("{v:.2} s"),
        v => span(v),
    }
}

/// A longer time for people, without what nobody counts: `3h20m`, `12d4h`.
pub fn span(seconds: f64) -> String {
    let whole = seconds.abs().min(1e12) as u64;
    let unit = match whole {
        0..3600 => 1,
        3600..86_400 => 60,
        _ => 3600,
    };
    let text = format_duration(Duration::from_secs(whole - whole % unit));
    if seconds < 0.0 {
        format!("-{text}")
    } else {
        text
    }
}

/// A number for people: thousands apart, fractions of small numbers only.
pub fn number(value: f64) -> String {
    if !value.is_finite() {
        return "–".into();
    }
    let digits = match value.abs() {
        v if v.fract() == 0.0 || v >= 1000.0 => 0,
        v if v >= 10.0 => 1,
        _ => 2,
    };
    let text = format!("{value:.digits$}");
    let (whole, rest) = text
        .split_once('.')
        .map_or((text.as_str(), String::new()), |(whole, rest)| {
            (whole, format!(".{rest}"))
        });
    let (sign, whole) = whole
        .strip_prefix('-')
        .map_or(("", whole), |whole| ("-", whole));
    let mut out = String::new();
    for (at, digit) in whole.chars().enumerate() {
        if at > 0 && (whole.len() - at) % 3 == 0 {
            out.push(',');
        }
        out.push(digit);
    }
    format!("{sign}{out}{rest}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_written_for_people() {
        assert_eq!(
            [percent(0.4321), percent(0.0042), percent(0.0), percent(1.0)],
            ["43.2 %", "0.42 %", "0 %", "100.0 %"]
        );
        assert_eq!(
            [seconds(0.34), seconds(2.41), seconds(12_010.0)],
            ["340 ms", "2.41 s", "3h20m"]
        );
        assert_eq!([span(-90.0), span(1_051_234.0)], ["-1m30s", "12d4h"]);
        assert_eq!(
            [
                number(1_234_567.0),
                number(-1234.5),
                number(12.345),
                number(0.5),
                number(999.0)
            ],
            ["1,234,567", "-1,234", "12.3", "0.50", "999"]
        );
    }
}
