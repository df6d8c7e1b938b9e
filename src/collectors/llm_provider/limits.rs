//! Rate-limit headers of the providers, brought to numbers. A header that is absent stays absent:
//! unknown is not zero.

use std::time::Duration;

use crate::http::HeaderMap;
use crate::model::Timestamp;

/// One allowance that an answer stated.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Allowance {
    /// `requests`, `tokens`, `input_tokens`, `output_tokens`.
    pub kind: &'static str,
    /// The whole allowance.
    pub limit: Option<f64>,
    /// What is left.
    pub remaining: Option<f64>,
    /// Seconds until it is full again.
    pub reset_seconds: Option<f64>,
}

const KINDS: [(&str, &str); 4] = [
    ("requests", "requests"),
    ("tokens", "tokens"),
    ("input_tokens", "input-tokens"),
    ("output_tokens", "output-tokens"),
];

/// The allowances in `headers`: OpenAI's `x-ratelimit-{limit,remaining,reset}-KIND` and Anthropic's
/// `anthropic-ratelimit-KIND-{…}`.
pub fn allowances(headers: &HeaderMap, now: Timestamp) -> Vec<Allowance> {
    let text = |name: String| headers.get(&name).and_then(|v| v.to_str().ok());
    let either = |word: &str, field: &str| {
        text(format!("x-ratelimit-{field}-{word}"))
            .or_else(|| text(format!("anthropic-ratelimit-{word}-{field}")))
    };
    let number = |word: &str, field: &str| {
        either(word, field)
            .and_then(|t| t.trim().parse::<f64>().ok())
            .filter(|v| v.is_finite())
    };
    KINDS
        .iter()
        .map(|(kind, word)| Allowance {
            kind,
            limit: number(word, "limit"),
            remaining: number(word, "remaining"),
            reset_seconds: either(word, "reset").and_then(|t| reset(t, now)),
        })
        .filter(|a| a.limit.is_some() || a.remaining.is_some() || a.reset_seconds.is_some())
        .collect()
}

/// The wait that an answer asks for: `retry-after-ms`, or `retry-after` in seconds or as a date.
pub fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let text = |name: &str| headers.get(name).and_then(|v| v.to_str().ok());
    let seconds = text("retry-after-ms")
        .and_then(|t| t.parse::<f64>().ok().map(|ms| ms / 1000.0))
        .or_else(|| {
            text("retry-after").and_then(|t| t.parse::<f64>().ok().or_else(|| http_date(t, now)))
        })?;
    // A day is the longest wait worth believing.
    (seconds.is_finite() && seconds >= 0.0).then(|| Duration::from_secs_f64(seconds.min(86_400.0)))
}

fn http_date(text: &str, now: Timestamp) -> Option<f64> {
    let date = jiff::fmt::rfc2822::parse(text).ok()?;
    Some((date.timestamp().as_millisecond() - now.0).max(0) as f64 / 1000.0)
}

/// A reset as seconds from now: `20ms`, `1m30.5s`, RFC 3339, Unix seconds or plain seconds.
fn reset(text: &str, now: Timestamp) -> Option<f64> {
    let text = text.trim();
    if let Ok(number) = text.parse::<f64>() {
        let epoch = number > 1e9;
        return number.is_finite().then_some(if epoch {
            (number - now.seconds()).max(0.0)
        } else {
            number.max(0.0)
        });
    }
    if let Some(at) = Timestamp::parse_rfc3339(text) {
        return Some((at.0 - now.0).max(0) as f64 / 1000.0);
    }
    compound(text)
}

/// Go's duration text with decimals: `1h2m3.5s`, `20ms`.
fn compound(text: &str) -> Option<f64> {
    let (mut rest, mut total) = (text, 0.0);
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        let tail = &rest[digits..];
        let letters = tail
            .find(|c: char| c.is_ascii_digit())
            .unwrap_or(tail.len());
        total += number
            * match &tail[..letters] {
                "ms" => 0.001,
                "s" => 1.0,
                "m" => 60.0,
                "h" => 3600.0,
                "d" => 86_400.0,
                _ => return None,
            };
        rest = &tail[letters..];
    }
    Some(total)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::{HeaderName, HeaderValue};

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(n, v)| (HeaderName::from_static(n), HeaderValue::from_static(v)))
            .collect()
    }

    #[test]
    fn every_spelling_of_a_reset_becomes_seconds() {
        let now = Timestamp(1_700_000_000_000);
        for (text, seconds) in [
            ("20ms", 0.02),
            ("60s", 60.0),
            ("1m30s", 90.0),
            ("6m0.5s", 360.5),
            ("12", 12.0),
            ("1700000030", 30.0),
            ("2023-11-14T22:13:30Z", 10.0),
        ] {
            assert_eq!(reset(text, now), Some(seconds), "{text}");
        }
        assert_eq!(reset("soon", now), None);
    }

    #[test]
    fn openai_and_anthropic_headers_are_read_and_absence_stays_absence() {
        let now = Timestamp(0);
        let openai = headers(&[
            ("x-ratelimit-limit-requests", "500"),
            ("x-ratelimit-remaining-requests", "499"),
            ("x-ratelimit-reset-requests", "120ms"),
        ]);
        let wanted = Allowance {
            kind: "requests",
            limit: Some(500.0),
            remaining: Some(499.0),
            reset_seconds: Some(0.12),
        };
        assert_eq!(allowances(&openai, now), [wanted]);
        let anthropic = headers(&[("anthropic-ratelimit-input-tokens-remaining", "9000")]);
        assert_eq!(allowances(&anthropic, now)[0].kind, "input_tokens");
        assert_eq!(allowances(&HeaderMap::new(), now), []);
    }

    #[test]
    fn retry_after_is_read_in_all_three_forms() {
        let now = Timestamp(1_700_000_000_000);
        assert_eq!(
            retry_after(&headers(&[("retry-after-ms", "1500")]), now),
            Some(Duration::from_millis(1500))
        );
        assert_eq!(
            retry_after(&headers(&[("retry-after", "7")]), now),
            Some(Duration::from_secs(7))
        );
        assert_eq!(
            retry_after(
                &headers(&[("retry-after", "Tue, 14 Nov 2023 22:13:30 GMT")]),
                now
            ),
            Some(Duration::from_secs(10))
        );
        assert_eq!(retry_after(&headers(&[("retry-after", "-3")]), now), None);
    }
}
