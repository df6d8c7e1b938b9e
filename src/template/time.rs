//! Times as Go writes them: the default text, and the layouts of `time.Format` (<https://pkg.go.dev/time#pkg-constants>).

use jiff::{Timestamp, Zoned};

/// `2015-07-01 20:10:51.781 +0000 UTC`: what Go prints for a time in UTC, trailing zeros of the fraction left out.
pub(super) fn go_text(moment: Timestamp) -> String {
    format("2006-01-02 15:04:05.999999999 -0700 UTC", &moment.to_zoned(jiff::tz::TimeZone::UTC))
}

/// Reads what [`go_text`] writes.
pub(super) fn parse(text: &str) -> Option<Timestamp> {
    let (date, rest) = text.strip_suffix(" +0000 UTC")?.split_once(' ')?;
    format!("{date}T{rest}Z").parse().ok()
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
pub(super) fn format(layout: &str, moment: &Zoned) -> String {
    let mut out = String::new();
    let mut rest = layout;
    while let Some(first) = rest.chars().next() {
        if let Some((form, tail)) = fraction(rest) {
            out.push_str(&digits(form, moment));
            rest = tail;
        } else if let Some((element, form)) = ELEMENTS.iter().find(|(element, _)| rest.starts_with(element)) {
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
