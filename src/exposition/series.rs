//! A series as a page writes it: `name{label="value",…}`, or with quoted names
//! `{"metric.name","label name"="value"}`.

use std::borrow::Cow;

use memchr::memchr2;

use super::encode::escape;
use crate::model::text::{format_float_g, is_legacy_label_name, is_legacy_metric_name};
use crate::model::{Labels, LabelsBuilder, METRIC_NAME, MetricKind};

type Problem = &'static str;
pub(super) const UNCLOSED_QUOTE: Problem = "quoted text without closing quote";

/// Labels that a series may write, empty ones included: what reading them costs grows faster than
/// their number.
const MOST_LABELS: usize = 1024;

/// Reads the raw bytes of a series into `labels`, the metric name included; pairs with an empty
/// value vanish. `kind` is the type that the page declared last: Prometheus spells a histogram's
/// `le` and a summary's `quantile` as floats (`1` becomes `1.0`).
pub fn labels(series: &[u8], kind: MetricKind, labels: &mut LabelsBuilder) -> Result<(), Problem> {
    let end = name_end(series);
    let mut name = Cow::Borrowed(text(&series[..end])?);
    let rest = skip_blanks(&series[end..]);
    let mut seen: Vec<Cow<'_, str>> = Vec::new();
    if let Some(inner) = rest.strip_prefix(b"{") {
        let inner = inner
            .strip_suffix(b"}")
            .ok_or("labels without closing brace")?;
        pairs(inner, |label, value| {
            let Some(value) = value else {
                let first = name.is_empty();
                name = label;
                return if first {
                    Ok(())
                } else {
                    Err("two metric names")
                };
            };
            if seen.len() >= MOST_LABELS {
                return Err("a sample has more than 1,024 labels");
            }
            let bound = matches!(
                (kind, &*label),
                (MetricKind::Histogram, "le") | (MetricKind::Summary, "quantile")
            );
            match value.parse::<f64>() {
                Ok(number) if bound => labels.set(&label, &bound_text(number)),
                _ => labels.set(&label, &value),
            };
            seen.push(label);
            Ok(())
        })?;
    }
    if name.is_empty() {
        return Err("no metric name");
    }
    seen.sort_unstable();
    if seen.windows(2).any(|pair| pair[0] == pair[1]) {
        return Err("the same label twice");
    }
    if seen.iter().any(|label| label == METRIC_NAME) {
        return Err("__name__ beside a metric name");
    }
    labels.set(METRIC_NAME, &name);
    Ok(())
}

/// A bucket bound or quantile in the spelling of OpenMetrics: always a float.
pub(super) fn bound_text(value: f64) -> String {
    let text = format_float_g(value);
    if text.contains(['e', '.', 'N', 'I']) {
        text
    } else {
        format!("{text}.0")
    }
}

/// Writes a series as [`labels`] reads it: names outside the legacy alphabet between quotes.
pub fn written(labels: &Labels) -> String {
    let mut out = String::new();
    let name = labels.metric_name();
    let mut separator = if is_legacy_metric_name(name) {
        out.extend([name, "{"]);
        ""
    } else {
        out.push('{');
        push_quoted(&mut out, name);
        ","
    };
    for (name, value) in labels.iter().filter(|(name, _)| *name != METRIC_NAME) {
        out.push_str(separator);
        push_name(&mut out, name, is_legacy_label_name);
        out.push('=');
        push_quoted(&mut out, value);
        separator = ",";
    }
    out.push('}');
    out
}

/// Writes a name, between quotes where `bare` does not take it without.
pub(super) fn push_name(out: &mut String, name: &str, bare: fn(&str) -> bool) {
    if bare(name) {
        out.push_str(name)
    } else {
        push_quoted(out, name)
    }
}

pub(super) fn push_quoted(out: &mut String, text: &str) {
    out.push('"');
    escape(out, text, true);
    out.push('"');
}

/// Calls `each` for every `name="value"`, and with `None` for a quoted name that stands alone.
/// `inner` is what stands between the braces.
pub(super) fn pairs<'a>(
    inner: &'a [u8],
    mut each: impl FnMut(Cow<'a, str>, Option<Cow<'a, str>>) -> Result<(), Problem>,
) -> Result<(), Problem> {
    let mut rest = skip_blanks(inner);
    while !rest.is_empty() {
        let quoted = rest[0] == b'"';
        let (name, tail) = if quoted {
            quoted_text(rest)?
        } else {
            bare_name(rest)?
        };
        rest = skip_blanks(tail);
        match rest.strip_prefix(b"=") {
            Some(tail) => {
                let (value, tail) = quoted_text(skip_blanks(tail))?;
                each(name, Some(value))?;
                rest = skip_blanks(tail);
            }
            None if quoted => each(name, None)?,
            None => return Err("expected = after a label name"),
        }
        if let Some(tail) = rest.strip_prefix(b",") {
            rest = skip_blanks(tail);
        }
    }
    Ok(())
}

fn quoted_text(rest: &[u8]) -> Result<(Cow<'_, str>, &[u8]), Problem> {
    if rest.first() != Some(&b'"') {
        return Err("expected a quoted label value");
    }
    let close = closing_quote(rest, 0)?;
    Ok((unquoted(&rest[1..close])?, &rest[close + 1..]))
}

fn bare_name(rest: &[u8]) -> Result<(Cow<'_, str>, &[u8]), Problem> {
    let end = name_end(rest);
    match (&rest[..end], end) {
        (name, 1..) if !name.contains(&b':') => Ok((Cow::Borrowed(text(name)?), &rest[end..])),
        _ => Err("expected a label name"),
    }
}

/// `rest` from its first byte that is neither space nor tab.
pub(super) fn skip_blanks(rest: &[u8]) -> &[u8] {
    &rest[rest
        .iter()
        .take_while(|b| matches!(b, b' ' | b'\t'))
        .count()..]
}

/// Where the bare name at the start of `rest` ends; 0 when there is none.
pub(super) fn name_end(rest: &[u8]) -> usize {
    let part = |(i, b): (usize, &u8)| {
        b.is_ascii_alphabetic() || matches!(b, b'_' | b':') || (i > 0 && b.is_ascii_digit())
    };
    rest.iter()
        .enumerate()
        .take_while(|pair| part(*pair))
        .count()
}

/// The position of the quote that closes the one at `open`.
pub(super) fn closing_quote(rest: &[u8], open: usize) -> Result<usize, Problem> {
    let mut at = open + 1;
    loop {
        match rest.get(at..).and_then(|tail| memchr2(b'"', b'\\', tail)) {
            None => return Err(UNCLOSED_QUOTE),
            Some(found) if rest[at + found] == b'"' => return Ok(at + found),
            Some(found) => at += found + 2,
        }
    }
}

/// What stood between quotes, without the escapes `\\`, `\"` and `\n`; any other backslash stays.
pub(super) fn unquoted(inner: &[u8]) -> Result<Cow<'_, str>, Problem> {
    let inner = text(inner)?;
    if !inner.contains('\\') {
        return Ok(Cow::Borrowed(inner));
    }
    let mut out = String::with_capacity(inner.len());
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        let mut after = chars.clone();
        match (c, after.next()) {
            ('\\', Some('n')) => out.push('\n'),
            ('\\', Some(escaped @ ('\\' | '"'))) => out.push(escaped),
            _ => {
                out.push(c);
                continue;
            }
        }
        chars = after;
    }
    Ok(Cow::Owned(out))
}

fn text(bytes: &[u8]) -> Result<&str, Problem> {
    std::str::from_utf8(bytes).map_err(|_| "a name or label value is not UTF-8")
}
