//! OpenTelemetry's names as Prometheus has them
//! (<https://opentelemetry.io/docs/specs/otel/compatibility/prometheus_and_openmetrics/>): as the
//! receiver of Prometheus 3.5 makes them by default, with units and `_total`.

use crate::exposition::otlp::Metric;

/// Units, and what they are called.
const UNITS: &[(&str, &str)] = &[
    ("d", "days"),
    ("h", "hours"),
    ("min", "minutes"),
    ("s", "seconds"),
    ("ms", "milliseconds"),
    ("us", "microseconds"),
    ("ns", "nanoseconds"),
    ("By", "bytes"),
    ("KiBy", "kibibytes"),
    ("MiBy", "mebibytes"),
    ("GiBy", "gibibytes"),
    ("TiBy", "tibibytes"),
    ("KBy", "kilobytes"),
    ("MBy", "megabytes"),
    ("GBy", "gigabytes"),
    ("TBy", "terabytes"),
    ("m", "meters"),
    ("V", "volts"),
    ("A", "amperes"),
    ("J", "joules"),
    ("W", "watts"),
    ("g", "grams"),
    ("Cel", "celsius"),
    ("Hz", "hertz"),
    ("1", ""),
    ("%", "percent"),
];

/// Units behind a slash.
const PER: &[(&str, &str)] = &[
    ("s", "second"),
    ("m", "minute"),
    ("h", "hour"),
    ("d", "day"),
    ("w", "week"),
    ("mo", "month"),
    ("y", "year"),
];

fn is_plain(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == ':'
}

/// The name of a metric; `None` where nothing of it is left.
pub fn metric_name(metric: &Metric<'_>, is_gauge: bool) -> Option<String> {
    let mut words: Vec<&str> = metric
        .name
        .split(|c| !is_plain(c))
        .filter(|word| !word.is_empty())
        .collect();
    let (unit, per) = metric.unit.split_once('/').unwrap_or((metric.unit, ""));
    let unit = unit_word(unit, UNITS);
    let per = Some(unit_word(per, PER))
        .filter(|per| !per.is_empty())
        .map(|per| format!("per_{per}"))
        .unwrap_or_default();
    let per = per.trim_end_matches('_');
    let per = if per == "per" || words.contains(&per) {
        ""
    } else {
        per
    };
    let unit = if words.contains(&unit.as_str()) {
        ""
    } else {
        unit.as_str()
    };
    let unit = if per.is_empty() {
        unit
    } else {
        unit.strip_suffix('_').unwrap_or(unit)
    };
    words.extend([unit, per].into_iter().filter(|word| !word.is_empty()));
    let mut last = |word| {
        words.retain(|known| *known != word);
        words.push(word);
    };
    if metric.is_monotonic {
        last("total");
    }
    if metric.unit == "1" && is_gauge {
        last("ratio");
    }
    let name = words.join("_");
    match name.chars().next()? {
        first if first.is_ascii_digit() => Some(format!("_{name}")),
        _ => Some(name).filter(|name| name.contains(|c| c != '_')),
    }
}

/// A unit without what Prometheus does not allow.
fn unit_word(unit: &str, words: &[(&str, &str)]) -> String {
    let unit = unit.trim();
    if unit.contains(['{', '}']) {
        return String::new();
    }
    let word = words
        .iter()
        .find(|(symbol, _)| *symbol == unit)
        .map_or(unit, |(_, word)| word);
    let mut out = String::with_capacity(word.len());
    for c in word.chars().map(|c| if is_plain(c) { c } else { '_' }) {
        if !(c == '_' && out.ends_with('_')) {
            out.push(c);
        }
    }
    out.strip_prefix('_').map(str::to_owned).unwrap_or(out)
}

/// The name of a label.
pub fn label_name(name: &str) -> String {
    let plain: String = name
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '_' })
        .collect();
    match plain.as_bytes() {
        [b'0'..=b'9', ..] => format!("key_{plain}"),
        [b'_', b'_', ..] => plain,
        [b'_', ..] => format!("key{plain}"),
        _ => plain,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Recorded from the module `github.com/prometheus/otlptranslator` at the commit that
    /// Prometheus 3.5 is built with.
    const RECORDED: &str = include_str!("../../../tests/collectors/otlp/names.tsv");

    #[test]
    fn names_are_those_of_prometheus() {
        for line in RECORDED.lines() {
            let columns: Vec<&str> = line.split('\t').collect();
            match columns[..] {
                ["label", name, wanted] => assert_eq!(label_name(name), wanted, "{line}"),
                [kind, name, unit, wanted] => {
                    let metric = Metric {
                        name,
                        unit,
                        is_monotonic: kind == "counter",
                        ..Metric::default()
                    };
                    let is_gauge = kind == "gauge";
                    assert_eq!(
                        metric_name(&metric, is_gauge).unwrap_or_default(),
                        wanted,
                        "{line}"
                    );
                }
                _ => panic!("{line}"),
            }
        }
    }
}
