//! Times as Go writes them: the default text, and the layouts of `time.Format`
//! (<https://pkg.go.dev/time#pkg-constants>).

use jiff::{Timestamp, Zoned};

/// `2015-07-01 20:10:51.781 +0000 UTC`: what Go prints for a time, trailing zeros of the fraction
/// left out.
pub(in crate::template) fn go_text(moment: &Zoned) -> String {
    format("2006-01-02 15:04:05.999999999 -0700 MST", moment)
}

/// Go's text of a `time.Duration`: `1h0m5.5s`.
pub(in crate::template) fn duration(nanos: i64) -> String {
    let sign = if nanos < 0 { "-" } else { "" };
    let nanos = nanos.unsigned_abs();
    let decimal = |value: u64, unit: u64| {
        let fraction = format!("{:0width$}", value % unit, width = unit.ilog10() as usize);
        let fraction = fraction.trim_end_matches('0');
        let dot = if unit == 1 || fraction.is_empty() {
            ""
        } else {
            "."
        };
        format!(
            "{}{dot}{}",
            value / unit,
            if unit == 1 { "" } else { fraction }
        )
    };
    match nanos {
        0 => "0s".to_owned(),
        1..1_000 => format!("{sign}{nanos}ns"),
        1_000..1_000_000 => format!("{sign}{}µs", decimal(nanos, 1_000)),
        1_000_000..1_000_000_000 => format!("{sign}{}ms", decimal(nanos, 1_000_000)),
        _ => {
            let minutes = nanos / 60_000_000_000;
            let seconds = decimal(nanos % 60_000_000_000, 1_000_000_000);
            match (minutes / 60, minutes % 60) {
                (0, 0) => format!("{sign}{seconds}s"),
                (0, minutes) => format!("{sign}{minutes}m{seconds}s"),
                (hours, minutes) => format!("{sign}{hours}h{minutes}m{seconds}s"),
            }
        }
    }
}

/// Nanoseconds from `earlier` to `later`, at most what Go's duration holds.
pub(in crate::template) fn between(later: Timestamp, earlier: Timestamp) -> i64 {
    let nanos = later.as_nanosecond() - earlier.as_nanosecond();
    i64::try_from(nanos).unwrap_or(if nanos > 0 { i64::MAX } else { i64::MIN })
}

/// Go's `AddDate`: what overflows a month goes on into the next.
pub(in crate::template) fn add_date(
    moment: &Zoned,
    years: i64,
    months: i64,
    days: i64,
) -> Option<Timestamp> {
    let month = i64::from(moment.month()) - 1 + months;
    let year = i64::from(moment.year())
        .checked_add(years)?
        .checked_add(month.div_euclid(12))?;
    let month = i8::try_from(month.rem_euclid(12) + 1).ok()?;
    let first = jiff::civil::Date::new(i16::try_from(year).ok()?, month, 1).ok()?;
    let date = first
        .checked_add(
            jiff::Span::new()
                .try_days(i64::from(moment.day()) - 1 + days)
                .ok()?,
        )
        .ok()?;
    date.to_datetime(moment.time())
        .to_zoned(moment.time_zone().clone())
        .ok()
        .map(|moved| moved.timestamp())
}

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const WEEKDAYS: [&str; 7] = [
    "Sunday",
    "Monday",
    "Tuesday",
    "Wednesday",
    "Thursday",
    "Friday",
    "Saturday",
];

/// The name of a month, from 1.
pub(in crate::template) fn month(number: i64) -> &'static str {
    usize::try_from(number - 1)
        .ok()
        .and_then(|n| MONTHS.get(n))
        .copied()
        .unwrap_or("")
}

/// The name of a day, from Sunday, 0.
pub(in crate::template) fn weekday(number: i64) -> &'static str {
    usize::try_from(number)
        .ok()
        .and_then(|n| WEEKDAYS.get(n))
        .copied()
        .unwrap_or("")
}

/// Reads `written` by a Go layout; times without a zone are in UTC.
pub(in crate::template) fn parse(layout: &str, written: &str) -> Option<Zoned> {
    let mut form = String::new();
    let mut rest = layout;
    let mut zoned = false;
    while let Some(first) = rest.chars().next() {
        if let Some((_, tail)) = fraction(rest) {
            form.push_str("%.f");
            rest = tail;
        } else if let Some((element, directive)) = ELEMENTS
            .iter()
            .find(|(element, _)| rest.starts_with(element))
        {
            zoned |= matches!(*directive, "Z" | "Z:" | "%z" | "%:z");
            form.push_str(match *directive {
                "Z" => "%z",
                "Z:" => "%:z",
                // The letters of a zone say nothing certain.
                "%Z" => "UTC",
                other => other,
            });
            rest = &rest[element.len()..];
        } else if let Some(tail) = rest.strip_prefix('5') {
            form.push_str("%S%.f");
            rest = tail;
        } else {
            form.push_str(if first == '%' {
                "%%"
            } else {
                &rest[..first.len_utf8()]
            });
            rest = &rest[first.len_utf8()..];
        }
    }
    let form = form.replace("%S%.f%.f", "%S%.f");
    // Go takes Z for an offset of zero.
    let written = if zoned && written.ends_with('Z') {
        format!("{}+00:00", &written[..written.len() - 1])
    } else {
        written.to_owned()
    };
    let time = jiff::fmt::strtime::parse(&form, &written).ok()?;
    if zoned {
        return time
            .to_timestamp()
            .ok()
            .map(|stamp| stamp.to_zoned(jiff::tz::TimeZone::UTC));
    }
    let date = time
        .to_date()
        .ok()
        .or_else(|| jiff::civil::Date::new(0, 1, 1).ok())?;
    let clock = time.to_time().unwrap_or(jiff::civil::Time::midnight());
    date.to_datetime(clock)
        .to_zoned(jiff::tz::TimeZone::UTC)
        .ok()
}

/// Each element of a layout and its form here; longer ones before their prefixes.
const ELEMENTS: [(&str, &str); 24] = [
    ("January", "%B"),
    ("Jan", "%b"),
    ("Monday", "%A"),
    ("Mon", "%a"),
    ("MST", "%Z"),
    ("2006", "%Y"),
    ("-07:00", "%:z"),
    ("-0700", "%z"),
    ("Z07:00", "Z:"),
    ("Z0700", "Z"),
    ("01", "%m"),
    ("02", "%d"),
    ("03", "%I"),
    ("04", "%M"),
    ("05", "%S"),
    ("06", "%y"),
    ("15", "%H"),
    ("PM", "%p"),
    ("pm", "%P"),
    ("_2", "%e"),
    ("1", "%-m"),
    ("2", "%-d"),
    ("3", "%-I"),
    ("4", "%-M"),
];

/// Formats by a Go layout.
pub(in crate::template) fn format(layout: &str, moment: &Zoned) -> String {
    let mut out = String::new();
    let mut rest = layout;
    while let Some(first) = rest.chars().next() {
        if let Some((form, tail)) = fraction(rest) {
            out.push_str(&digits(form, moment));
            rest = tail;
        } else if let Some((element, form)) = ELEMENTS
            .iter()
            .find(|(element, _)| rest.starts_with(element))
        {
            match (*form, moment.offset().is_zero()) {
                ("Z" | "Z:", true) => out.push('Z'),
                ("Z", false) => out.push_str(&moment.strftime("%z").to_string()),
                ("Z:", false) => out.push_str(&moment.strftime("%:z").to_string()),
                (form, _) => out.push_str(&moment.strftime(form).to_string()),
            }
            rest = &rest[element.len()..];
        } else if let Some(tail) = rest.strip_prefix('5') {
            out.push_str(&moment.second().to_string());
            rest = tail;
        } else {
            out.push(first);
            rest = &rest[first.len_utf8()..];
        }
    }
    out
}

/// `.000` or `.999` and what follows, when no digit does.
fn fraction(text: &str) -> Option<(&str, &str)> {
    let kind = *text.as_bytes().get(1)?;
    if !matches!(text.as_bytes()[0], b'.' | b',') || !matches!(kind, b'0' | b'9') {
        return None;
    }
    let length = 1 + text[1..].bytes().take_while(|b| *b == kind).count();
    let follows = text.as_bytes().get(length).is_some_and(u8::is_ascii_digit);
    (!follows).then(|| text.split_at(length))
}

fn digits(form: &str, moment: &Zoned) -> String {
    let nanos = format!("{:09}", moment.subsec_nanosecond());
    let shown = &nanos[..(form.len() - 1).min(9)];
    if form.as_bytes()[1] == b'0' {
        return format!("{}{shown}", &form[..1]);
    }
    match shown.trim_end_matches('0') {
        "" => String::new(),
        shown => format!("{}{shown}", &form[..1]),
    }
}
