//! Numbers for people, with exactly the outputs of Prometheus's template functions
//! (<https://prometheus.io/docs/prometheus/latest/configuration/template_reference/>).

use crate::model::text::go_exponent;

/// Go's `%.4g`.
pub(super) fn four_digits(value: f64) -> String {
    if value.is_nan() {
        return "NaN".into();
    }
    if value.is_infinite() {
        return if value > 0.0 {
            "+Inf".into()
        } else {
            "-Inf".into()
        };
    }
    let scientific = format!("{value:.3e}");
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..4).contains(&exponent) {
        let fixed = format!("{value:.*}", usize::try_from(3 - exponent).unwrap_or(0));
        trimmed(&fixed).to_owned()
    } else {
        go_exponent(&format!("{}e{exponent}", trimmed(mantissa)))
    }
}

fn trimmed(digits: &str) -> &str {
    if digits.contains('.') {
        digits.trim_end_matches('0').trim_end_matches('.')
    } else {
        digits
    }
}

/// With a decimal prefix: `1.235M`, `500m`.
pub(super) fn decimal(value: f64) -> String {
    if value == 0.0 || !value.is_finite() {
        return four_digits(value);
    }
    let (value, prefix) = if value.abs() >= 1.0 {
        up(value, 1000.0, &["k", "M", "G", "T", "P", "E", "Z", "Y"])
    } else {
        down(value)
    };
    format!("{}{prefix}", four_digits(value))
}

/// With a binary prefix: `1Mi`, `2ki`.
pub(super) fn binary(value: f64) -> String {
    if value.abs() <= 1.0 || !value.is_finite() {
        return four_digits(value);
    }
    let (value, prefix) = up(
        value,
        1024.0,
        &["ki", "Mi", "Gi", "Ti", "Pi", "Ei", "Zi", "Yi"],
    );
    format!("{}{prefix}", four_digits(value))
}

fn up(mut value: f64, step: f64, prefixes: &[&'static str]) -> (f64, &'static str) {
    let mut prefix = "";
    for next in prefixes {
        if value.abs() < step {
            break;
        }
        prefix = next;
        value /= step;
    }
    (value, prefix)
}

fn down(mut value: f64) -> (f64, &'static str) {
    let mut prefix = "";
    for next in ["m", "u", "n", "p", "f", "a", "z", "y"] {
        if value.abs() >= 1.0 {
            break;
        }
        prefix = next;
        value *= 1000.0;
    }
    (value, prefix)
}

/// A ratio as a percentage: `12.35%`.
pub(super) fn percentage(value: f64) -> String {
    format!("{}%", four_digits(value * 100.0))
}

/// Seconds: `1d 2h 3m 4s`, `1.235s`, `100ms`.
pub(super) fn duration(value: f64) -> String {
    if !value.is_finite() {
        return four_digits(value);
    }
    if value == 0.0 {
        return format!("{}s", four_digits(value));
    }
    if value.abs() < 1.0 {
        let (value, prefix) = down(value);
        return format!("{}{prefix}s", four_digits(value));
    }
    let sign = if value < 0.0 { "-" } else { "" };
    let value = value.abs();
    // Go's conversion of what does not fit gives the least number.
    let whole = if value < i64::MAX as f64 {
        value as i64
    } else {
        i64::MIN
    };
    let (seconds, minutes, hours, days) = (
        whole % 60,
        whole / 60 % 60,
        whole / 3600 % 24,
        whole / 86_400,
    );
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{sign}{}s", four_digits(value)),
        (0, 0, _) => format!("{sign}{minutes}m {seconds}s"),
        (0, _, _) => format!("{sign}{hours}h {minutes}m {seconds}s"),
        _ => format!("{sign}{days}d {hours}h {minutes}m {seconds}s"),
    }
}
