//! The notation of a native histogram in test series:
//! `{{schema:1 sum:10 count:4 offset:-1 buckets:[1 0 3]}}`
//! (<https://prometheus.io/docs/prometheus/latest/configuration/unit_testing_rules/#series>).

use std::collections::BTreeSet;

use crate::model::NativeHistogram;
use crate::model::native_histogram::{
    Buckets, CUSTOM_SCHEMA, EXPONENTIAL_SCHEMAS, ResetHint, Span as BucketSpan,
};
use crate::model::text::quote;
use crate::promql::syntax::ast::Span;
use crate::promql::syntax::fault::Fault;
use crate::promql::syntax::literal::parse_number;

/// What a key holds.
enum Written {
    Number(f64),
    Numbers(Vec<f64>),
    Hint(ResetHint),
}

/// Reads the histogram that `text` holds from its byte `start` on, where `{{` stands; returns it
/// and where it ends.
pub(in crate::promql) fn parse_histogram(
    text: &str,
    start: usize,
) -> Result<(NativeHistogram, usize), Fault> {
    let mut scanner = Scanner {
        text,
        pos: start + 2,
    };
    let mut histogram = NativeHistogram::default();
    let (mut positive, mut negative) = ((0, Vec::new()), (0, Vec::new()));
    let mut seen = BTreeSet::new();
    loop {
        scanner.blanks();
        if scanner.accept("}}") {
            break;
        }
        let begin = scanner.pos;
        let key = scanner.word().to_ascii_lowercase();
        if key.is_empty() {
            return scanner.fail(INCOMPLETE);
        }
        if !KEYS.contains(&key.as_str()) {
            return Err(Fault::new(
                Span::new(begin, begin),
                format!("bad histogram descriptor found: {}", quote(&key)),
            ));
        }
        if !scanner.accept(":") {
            return Err(Fault::new(
                Span::new(begin, begin),
                "missing `:` for histogram descriptor",
            ));
        }
        if !seen.insert(key.clone()) {
            return Err(Fault::new(
                Span::default(),
                format!("duplicate key {} in histogram", quote(&key)),
            ));
        }
        let begin = scanner.pos;
        let unfit = || {
            Fault::new(
                Span::new(begin, begin),
                format!("unexpected value of {key} in histogram description"),
            )
        };
        let whole = |value: f64| {
            (value.fract() == 0.0 && value.abs() <= f64::from(i32::MAX))
                .then_some(value as i32)
                .ok_or_else(unfit)
        };
        match (key.as_str(), scanner.value(&key)?) {
            ("schema", Written::Number(value)) => {
                histogram.schema = schema(whole(value)?).ok_or_else(unfit)?
            }
            ("sum", Written::Number(value)) => histogram.sum = value,
            ("count", Written::Number(value)) => histogram.count = value,
            ("z_bucket", Written::Number(value)) => histogram.zero_count = value,
            ("z_bucket_w", Written::Number(value)) if value >= 0.0 || value.is_nan() => {
                histogram.zero_threshold = value
            }
            ("offset", Written::Number(value)) => positive.0 = whole(value)?,
            ("n_offset", Written::Number(value)) => negative.0 = whole(value)?,
            ("buckets", Written::Numbers(counts)) => positive.1 = counts,
            ("n_buckets", Written::Numbers(counts)) => negative.1 = counts,
            ("custom_values", Written::Numbers(bounds)) => histogram.bounds = bounds.into(),
            ("counter_reset_hint", Written::Hint(hint)) => histogram.hint = hint,
            _ => return Err(unfit()),
        }
    }
    let side = |(offset, counts): (i32, Vec<f64>)| {
        let spans = [BucketSpan {
            offset,
            length: counts.len() as u32,
        }];
        let spans = if counts.is_empty() {
            &[][..]
        } else {
            &spans[..]
        };
        Buckets::new(spans, counts)
            .map_err(|error| Fault::new(Span::new(start, scanner.pos), error.to_string()))
    };
    (histogram.positive, histogram.negative) = (side(positive)?, side(negative)?);
    Ok((histogram, scanner.pos))
}

const INCOMPLETE: &str = "histogram description incomplete unexpected";

const KEYS: [&str; 11] = [
    "schema",
    "sum",
    "count",
    "z_bucket",
    "z_bucket_w",
    "offset",
    "n_offset",
    "buckets",
    "n_buckets",
    "custom_values",
    "counter_reset_hint",
];

fn schema(number: i32) -> Option<i8> {
    i8::try_from(number)
        .ok()
        .filter(|schema| *schema == CUSTOM_SCHEMA || EXPONENTIAL_SCHEMAS.contains(schema))
}

struct Scanner<'a> {
    text: &'a str,
    pos: usize,
}

impl<'a> Scanner<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.pos..]
    }

    fn accept(&mut self, wanted: &str) -> bool {
        let found = self.rest().starts_with(wanted);
        self.pos += if found { wanted.len() } else { 0 };
        found
    }

    fn blanks(&mut self) {
        self.pos = self.text.len() - self.rest().trim_start().len();
    }

    fn word(&mut self) -> &'a str {
        let rest = self.rest();
        let word = rest
            .find(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
            .map_or(rest, |end| &rest[..end]);
        self.pos += word.len();
        word
    }

    fn fail<T>(&self, reason: &str) -> Result<T, Fault> {
        let found = self.rest().chars().next().unwrap_or('\u{fffd}');
        Err(Fault::new(
            Span::new(self.pos, self.pos),
            format!("{reason}: '{found}'"),
        ))
    }

    fn value(&mut self, key: &str) -> Result<Written, Fault> {
        if key == "counter_reset_hint" {
            let begin = self.pos;
            let hint = match self.word().to_ascii_lowercase().as_str() {
                "unknown" => ResetHint::Unknown,
                "reset" => ResetHint::Reset,
                "not_reset" => ResetHint::NotReset,
                "gauge" => ResetHint::Gauge,
                other => {
                    return Err(Fault::new(
                        Span::new(begin, begin),
                        format!("bad histogram descriptor found: {}", quote(other)),
                    ));
                }
            };
            return Ok(Written::Hint(hint));
        }
        if !self.accept("[") {
            return self.number(INCOMPLETE).map(Written::Number);
        }
        let mut numbers = Vec::new();
        loop {
            self.blanks();
            if self.accept("]") {
                return Ok(Written::Numbers(numbers));
            }
            numbers.push(self.number("invalid character in buckets description")?);
        }
    }

    fn number(&mut self, what: &str) -> Result<f64, Fault> {
        let begin = self.pos;
        let sign = if self.accept("-") { -1.0 } else { 1.0 };
        let rest = self.rest();
        let mut last = ' ';
        let in_number = |c: char| {
            let inside = c.is_ascii_alphanumeric()
                || matches!(c, '.' | '_')
                || (matches!(c, '+' | '-') && matches!(last, 'e' | 'E'));
            last = c;
            !inside
        };
        let word = rest.find(in_number).map_or(rest, |end| &rest[..end]);
        if word.is_empty() {
            return self.fail(what);
        }
        self.pos += word.len();
        let value = match word.to_ascii_lowercase().as_str() {
            "inf" => f64::INFINITY,
            "nan" => f64::NAN,
            other if other.starts_with(|c: char| c.is_ascii_alphabetic()) => {
                let message = format!("bad histogram descriptor found: {}", quote(word));
                return Err(Fault::new(Span::new(begin, begin), message));
            }
            _ => parse_number(word)
                .map_err(|message| Fault::new(Span::new(begin, self.pos), message))?,
        };
        Ok(sign * value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_read() {
        let text = "{{ schema:-1 sum:-3.5 count:1e2 z_bucket:2 z_bucket_w:0.5 offset:-3 buckets:[1 2.5 ] n_offset:4 n_buckets:[ 7]  \
                    counter_reset_hint:gauge}} rest";
        let (histogram, end) = parse_histogram(text, 0).expect("valid");
        assert_eq!(&text[end..], " rest");
        assert_eq!(
            histogram.notation(),
            "{{schema:-1 count:100 sum:-3.5 z_bucket:2 z_bucket_w:0.5 counter_reset_hint:gauge offset:-3 buckets:[1 2.5] n_offset:4 \
             n_buckets:[7]}}"
        );
        let (custom, _) = parse_histogram(
            "{{schema:-53 custom_values:[-1 Inf] sum:NaN buckets:[-1]}}",
            0,
        )
        .expect("valid");
        assert_eq!(
            (
                custom.bounds.to_vec(),
                custom.sum.is_nan(),
                custom.positive.counts()[0]
            ),
            (vec![-1.0, f64::INFINITY], true, -1.0)
        );
        assert_eq!(
            parse_histogram("{{}}", 0).expect("valid").0,
            NativeHistogram::default()
        );
    }

    #[test]
    fn broken_histograms_are_refused() {
        for (text, reason) in [
            ("{{what:1}}", "bad histogram descriptor found: \"what\""),
            ("{{sum 1}}", "missing `:`"),
            ("{{sum:1", "incomplete"),
            ("{{schema:9}}", "unexpected value of schema"),
            ("{{schema:1.5}}", "unexpected value of schema"),
            ("{{sum:[1]}}", "unexpected value of sum"),
            ("{{buckets:1}}", "unexpected value of buckets"),
            ("{{buckets:[1 x]}}", "bad histogram descriptor found: \"x\""),
            (
                "{{buckets:[1",
                "invalid character in buckets description: '\u{fffd}'",
            ),
            (
                "{{buckets:[1,2]}}",
                "invalid character in buckets description: ','",
            ),
            ("{{sum:1 sum:2}}", "duplicate key \"sum\" in histogram"),
            ("{{z_bucket_w:-1}}", "unexpected value of z_bucket_w"),
            ("{{sum:+1}}", "'+'"),
            (
                "{{counter_reset_hint:maybe}}",
                "bad histogram descriptor found: \"maybe\"",
            ),
            ("{{offset:2147483647 buckets:[1 2]}}", "indexes"),
        ] {
            let fault = parse_histogram(text, 0).expect_err(text);
            assert!(fault.message.contains(reason), "{text}: {}", fault.message);
        }
    }
}
