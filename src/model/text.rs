//! Text forms that several formats share: names, quoted strings and float spellings.

use std::borrow::Cow;
use std::fmt::Write;

/// Whether `name` matches `[a-zA-Z_:][a-zA-Z0-9_:]*`, the metric names that need no quotes.
pub fn is_legacy_metric_name(name: &str) -> bool {
    !name.is_empty()
        && name.bytes().enumerate().all(|(i, b)| {
            b == b'_' || b == b':' || b.is_ascii_alphabetic() || (i > 0 && b.is_ascii_digit())
        })
}

/// Whether `name` matches `[a-zA-Z_][a-zA-Z0-9_]*`, the label names that need no quotes.
pub fn is_legacy_label_name(name: &str) -> bool {
    is_legacy_metric_name(name) && !name.contains(':')
}

/// Bytes in hexadecimal, in lower case.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// `text` as a Go double-quoted string literal (`strconv.Quote`).
pub fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{b}' => out.push_str("\\v"),
            '\u{c}' => out.push_str("\\f"),
            c if c < ' ' || c == '\u{7f}' => drop(write!(out, "\\x{:02x}", c as u32)),
            c if is_printable(c) => out.push(c),
            c if (c as u32) < 0x1_0000 => drop(write!(out, "\\u{:04x}", c as u32)),
            c => drop(write!(out, "\\U{:08x}", c as u32)),
        }
    }
    out.push('"');
    out
}

/// Whether a terminal acts on a character, or shows something else in place of it: control
/// characters, line separators, and what turns the direction of text
/// (<https://www.unicode.org/reports/tr36/#Bidirectional_Text_Spoofing>) or hides in it.
pub fn is_active(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
        || matches!(c, '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// A text from outside for a terminal or a log, on one line: what [`is_active`] names is escaped.
pub fn visible(text: &str) -> Cow<'_, str> {
    escaped(text, is_active)
}

/// The same for a text of several lines of our own.
pub fn visible_lines(text: &str) -> Cow<'_, str> {
    escaped(text, |c| is_active(c) && !matches!(c, '\n' | '\t'))
}

fn escaped(text: &str, is_escaped: impl Fn(char) -> bool + Copy) -> Cow<'_, str> {
    if !text.contains(is_escaped) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if is_escaped(c) {
            out.extend(c.escape_default())
        } else {
            out.push(c)
        }
    }
    Cow::Owned(out)
}

/// Go's `unicode.IsPrint`: letters, marks, numbers, punctuation, symbols and the ASCII space.
fn is_printable(c: char) -> bool {
    // After a letter, `escape_debug` leaves marks alone and escapes exactly what is not printable.
    c.is_ascii() || ['a', c].iter().collect::<String>().escape_debug().count() == 2
}

/// A value as Prometheus writes it in JSON and exposition text: the shortest digits that read back,
/// an exponent only below 1e-6 or from 1e21 on (Go's `e-07` form), `NaN`, `+Inf`, `-Inf`.
pub fn format_float(value: f64) -> String {
    let mut out = String::new();
    write_float(&mut out, value);
    out
}

/// Appends what [`format_float`] gives.
pub fn write_float(out: &mut String, value: f64) {
    /// Whole numbers below this are exact.
    const EXACT: f64 = 9e15;
    let magnitude = value.abs();
    if magnitude < EXACT && value.trunc() == value && (value != 0.0 || value.is_sign_positive()) {
        out.push_str(itoa::Buffer::new().format(value as i64));
    } else if (1e-4..EXACT).contains(&magnitude) {
        // The fast way to the shortest digits; in this range they come without an exponent.
        out.push_str(zmij::Buffer::new().format_finite(value));
    } else {
        out.push_str(&rare_float(value));
    }
}

fn rare_float(value: f64) -> String {
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
    let magnitude = value.abs();
    if magnitude != 0.0 && !(1e-6..1e21).contains(&magnitude) {
        return go_exponent(&format!("{value:e}"));
    }
    format!("{value}")
}

/// A value as Go's `strconv.FormatFloat(v, 'g', -1, 64)` writes it: as [`format_float`], but with
/// an exponent already from 1e6 on and below 1e-4. Bucket bounds and quantiles are spelled so.
pub fn format_float_g(value: f64) -> String {
    let magnitude = value.abs();
    // The decision looks at the decimal exponent of the shortest digits, which `{:e}` shows.
    if magnitude.is_finite() && magnitude != 0.0 && !(1e-4..1e6).contains(&magnitude) {
        go_exponent(&format!("{value:e}"))
    } else {
        format_float(value)
    }
}

/// A value as Go's `strconv.FormatFloat(v, 'f', -1, 64)` writes it: never with an exponent.
pub fn format_float_f(value: f64) -> String {
    if value.is_finite() {
        format!("{value}")
    } else {
        format_float(value)
    }
}

/// Rust's `1e-7` in Go's spelling `1e-07`: a sign and at least two digits.
pub fn go_exponent(text: &str) -> String {
    let Some((mantissa, exponent)) = text.split_once('e') else {
        return text.to_owned();
    };
    let (sign, digits) = exponent
        .strip_prefix('-')
        .map_or(('+', exponent), |d| ('-', d));
    format!("{mantissa}e{sign}{digits:0>2}")
}

/// Levenshtein distance, for "did you mean": small inputs only.
pub fn edit_distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, cb) in b.iter().enumerate() {
            let change = diagonal + usize::from(ca != *cb);
            diagonal = row[j + 1];
            row[j + 1] = change.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

/// The candidate nearest to `name`, if it is near enough to be a typo.
pub fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let limit = (name.chars().count() / 3).max(1);
    candidates
        .into_iter()
        .map(|c| (edit_distance(name, c), c))
        .filter(|(d, _)| *d <= limit)
        .min()
        .map(|(_, c)| c)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// SEMANTICS 201: the spellings of the HTTP API.
    #[test]
    fn floats_are_spelled_as_go_spells_them() {
        for (value, text) in [
            (1e-7, "1e-07"),
            (1e21, "1e+21"),
            (1e20, "100000000000000000000"),
            (0.1 + 0.2, "0.30000000000000004"),
            (0.0, "0"),
            (-0.0, "-0"),
            (f64::NAN, "NaN"),
            (f64::INFINITY, "+Inf"),
            (1.5e-300, "1.5e-300"),
            (1e-6, "0.000001"),
        ] {
            assert_eq!(format_float(value), text);
        }
    }

    /// As few digits as the plain way gives; of two that are equally near, Go takes the even one.
    #[test]
    fn every_float_reads_back_from_its_shortest_digits() {
        let mut bits = 1u64;
        for _ in 0..20_000 {
            bits = bits
                .wrapping_mul(0x5851_f42d_4c95_7f2d)
                .wrapping_add(0x1405_7b7e_f767_814f);
            let (fraction, exponent) = (bits >> 12, 1023 - 16 + bits % 72);
            let value = f64::from_bits(exponent << 52 | fraction >> (bits % 50) << (bits % 50));
            let (text, plain) = (format_float(value), format!("{value}"));
            assert_eq!(
                (text.parse(), text.len()),
                (Ok(value), plain.len()),
                "{text} {plain}"
            );
            assert_eq!(format_float(-value), format!("-{text}"));
        }
        assert_eq!(
            format_float(194_209_585_111.0 + 0.328_125),
            "194209585111.32812"
        );
    }

    #[test]
    fn scalars_are_spelled_without_an_exponent() {
        let spellings = [1e21, 1e-7, -0.5, f64::NEG_INFINITY, f64::NAN].map(format_float_f);
        assert_eq!(
            spellings,
            ["1000000000000000000000", "0.0000001", "-0.5", "-Inf", "NaN"]
        );
    }

    #[test]
    fn bounds_are_spelled_as_go_spells_them() {
        for (value, text) in [
            (1e6, "1e+06"),
            (999_999.0, "999999"),
            (123_456_789.0, "1.23456789e+08"),
            (0.0001, "0.0001"),
            (0.000_05, "5e-05"),
        ] {
            assert_eq!(format_float_g(value), text);
        }
    }

    #[test]
    fn a_slip_of_the_finger_finds_its_neighbour() {
        assert_eq!(nearest("timeot", ["interval", "timeout"]), Some("timeout"));
        assert_eq!(nearest("zzz", ["interval", "timeout"]), None);
    }
}
