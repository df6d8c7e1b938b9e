//! The notation of test series: `up{job="a"} 1+1x3 _ stale`
//! (<https://prometheus.io/docs/prometheus/latest/configuration/unit_testing_rules/#series>).
//!
//! What is the same many times in a row is kept once. Series of more than [`MAX_LENGTH`] values,
//! and of more than [`MAX_VALUES`] that differ from the one before, are refused.

use std::sync::Arc;

use super::histogram_description::parse_histogram;
use crate::model::text::quote;
use crate::model::{Labels, LabelsBuilder, MatchOp, NativeHistogram, stale_nan};
use crate::promql::syntax::ast::Span;
use crate::promql::syntax::fault::Fault;
use crate::promql::syntax::literal::parse_number;
use crate::promql::syntax::parser::{ParseError, parse_selector};

/// Most values one series may expand to.
pub const MAX_LENGTH: usize = 1 << 32;
/// Most runs of equal values in one series.
pub const MAX_VALUES: usize = 1 << 20;

/// One value of a described series.
#[derive(Clone, Debug, PartialEq)]
pub enum SeriesValue {
    /// No sample.
    Gap,
    /// A float.
    Float(f64),
    /// A native histogram.
    Histogram(Arc<NativeHistogram>),
}

/// A series and its values at equal distances.
#[derive(Clone, Debug, PartialEq)]
pub struct SeriesDescription {
    /// The series.
    pub labels: Labels,
    /// Its values, the first at the start of the test.
    pub values: SeriesValues,
}

/// Values at equal distances, as runs of equal ones.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SeriesValues {
    /// Each run with the position behind its end.
    runs: Vec<(usize, SeriesValue)>,
}

impl SeriesValues {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.runs.last().map_or(0, |(end, _)| *end)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// The value at a position, from 0.
    pub fn get(&self, position: usize) -> Option<&SeriesValue> {
        // Mostly each value differs from the one before.
        if let Some((end, value)) = self.runs.get(position)
            && *end == position + 1
        {
            return Some(value);
        }
        self.runs
            .get(self.runs.partition_point(|(end, _)| *end <= position))
            .map(|(_, value)| value)
    }

    /// One value of each run.
    pub fn runs(&self) -> impl Iterator<Item = &SeriesValue> {
        self.runs.iter().map(|(_, value)| value)
    }

    /// Every value.
    pub fn iter(&self) -> impl Iterator<Item = &SeriesValue> {
        let mut start = 0;
        self.runs.iter().flat_map(move |(end, value)| {
            std::iter::repeat_n(value, end - std::mem::replace(&mut start, *end))
        })
    }

    fn push(&mut self, value: SeriesValue, times: usize) {
        if times > 0 {
            self.runs.push((self.len() + times, value));
        }
    }
}

/// Reads a metric alone: a name, labels with `=`, or both.
pub fn parse_metric(text: &str) -> Result<Labels, ParseError> {
    if text.trim() == "{}" || text.trim().is_empty() {
        return Ok(Labels::empty());
    }
    let mut builder = LabelsBuilder::new();
    for matcher in parse_selector(text)? {
        if matcher.op != MatchOp::Equal {
            let message = format!(
                "unexpected <op:{}> in label set, expected \"=\"",
                matcher.op.as_str()
            );
            return Err(ParseError::new(text, Fault::new(Span::default(), message)));
        }
        builder.set(&matcher.name, &matcher.value);
    }
    Ok(builder.build())
}

/// Reads a metric followed by its values.
pub fn parse_series(text: &str) -> Result<SeriesDescription, ParseError> {
    let end = metric_end(text);
    let labels = parse_metric(&text[..end])?;
    let mut scanner = Scanner { text, pos: end };
    let values = scanner
        .values()
        .map_err(|fault| ParseError::new(text, fault))?;
    Ok(SeriesDescription { labels, values })
}

/// Where the metric ends: after its closing brace, or after its name.
fn metric_end(text: &str) -> usize {
    let name = text
        .find(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == ':'))
        .unwrap_or(text.len());
    if !text[name..].starts_with('{') {
        return name;
    }
    let (mut open, mut escaped) = (None, false);
    for (at, c) in text.char_indices().skip_while(|(at, _)| *at < name) {
        match open {
            _ if escaped => escaped = false,
            Some(quote) if c == '\\' && quote != '`' => escaped = true,
            Some(quote) if c == quote => open = None,
            Some(_) => {}
            None if c == '}' => return at + 1,
            None if matches!(c, '"' | '\'' | '`') => open = Some(c),
            None => {}
        }
    }
    text.len()
}

struct Scanner<'a> {
    text: &'a str,
    pos: usize,
}

impl<'a> Scanner<'a> {
    fn values(&mut self) -> Result<SeriesValues, Fault> {
        let mut values = SeriesValues::default();
        loop {
            let blanks = self.rest().len() - self.rest().trim_start().len();
            self.pos += blanks;
            if self.rest().is_empty() {
                return Ok(values);
            }
            if blanks == 0 {
                return self.unexpected("");
            }
            self.item(&mut values)?;
        }
    }

    fn item(&mut self, values: &mut SeriesValues) -> Result<(), Fault> {
        if self.rest().starts_with("{{") {
            return self.histograms(values);
        }
        if self.rest().starts_with('x') {
            return self.unexpected("");
        }
        if self.accept("_") {
            let times = if self.accept("x") {
                self.repetition()?
            } else {
                1
            };
            return self.repeat(values, times, SeriesValue::Gap);
        }
        let mut value = self.value()?;
        if self.accept("x") {
            let times = self.repetition()? + 1;
            return self.repeat(values, times, SeriesValue::Float(value));
        }
        if !self.rest().starts_with(['+', '-']) {
            return self.repeat(values, 1, SeriesValue::Float(value));
        }
        let step = self.value()?;
        if !self.accept("x") {
            return self.unexpected("series values");
        }
        let times = self.repetition()? + 1;
        if step == 0.0 {
            return self.repeat(values, times, SeriesValue::Float(value));
        }
        self.extend(values, times, || {
            let now = value;
            value += step;
            SeriesValue::Float(now)
        })
    }

    fn histogram(&mut self) -> Result<NativeHistogram, Fault> {
        if !self.rest().starts_with("{{") {
            return self.unexpected("series values");
        }
        let (histogram, end) = parse_histogram(self.text, self.pos)?;
        self.pos = end;
        Ok(histogram)
    }

    /// `{{…}}`, `{{…}}x3`, `{{…}}+{{…}}x3`.
    fn histograms(&mut self, values: &mut SeriesValues) -> Result<(), Fault> {
        let mut histogram = Arc::new(self.histogram()?);
        if self.accept("x") {
            let times = self.repetition()? + 1;
            return self.repeat(values, times, SeriesValue::Histogram(histogram));
        }
        let falls = self.rest().starts_with('-');
        if !falls && !self.rest().starts_with('+') {
            return self.repeat(values, 1, SeriesValue::Histogram(histogram));
        }
        self.pos += 1;
        let step = self.histogram()?;
        if !self.accept("x") {
            return self.unexpected("series values");
        }
        let times = self.repetition()? + 1;
        let mut failure = None;
        self.extend(values, times, || {
            let now = Arc::clone(&histogram);
            let next = Arc::make_mut(&mut histogram);
            let combined = if next.schema > step.schema {
                Err(format!(
                    "error combining histograms: cannot merge from schema {} to {}",
                    step.schema, next.schema
                ))
            } else {
                let combined = if falls {
                    next.subtract(&step)
                } else {
                    next.add(&step)
                };
                combined.map_err(|error| error.to_string())
            };
            failure = failure.take().or(combined.err());
            SeriesValue::Histogram(now)
        })?;
        match failure.filter(|_| times > 1) {
            Some(reason) => Err(Fault::new(Span::new(self.pos - 1, self.pos), reason)),
            None => Ok(()),
        }
    }

    fn extend(
        &self,
        values: &mut SeriesValues,
        times: usize,
        mut value: impl FnMut() -> SeriesValue,
    ) -> Result<(), Fault> {
        self.check_room(values, times, times)?;
        (0..times).for_each(|_| values.push(value(), 1));
        Ok(())
    }

    fn repeat(
        &self,
        values: &mut SeriesValues,
        times: usize,
        value: SeriesValue,
    ) -> Result<(), Fault> {
        self.check_room(values, 1, times)?;
        values.push(value, times);
        Ok(())
    }

    fn check_room(&self, values: &SeriesValues, runs: usize, times: usize) -> Result<(), Fault> {
        if values.runs.len().saturating_add(runs) > MAX_VALUES {
            return self.fail(&format!(
                "more than {MAX_VALUES} different values in one series"
            ));
        }
        if values.len().saturating_add(times) > MAX_LENGTH {
            return self.fail(&format!("more than {MAX_LENGTH} values in one series"));
        }
        Ok(())
    }

    /// A number with an optional sign, `Inf`, `NaN` or `stale`.
    fn value(&mut self) -> Result<f64, Fault> {
        let start = self.pos;
        let sign = if self.accept("-") { -1.0 } else { 1.0 };
        let signed = sign < 0.0 || self.accept("+");
        let rest = self.rest();
        let word = rest
            .find(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
            .map_or(rest, |end| &rest[..end]);
        if word.starts_with(|c: char| c.is_ascii_alphabetic() && c != 'x') {
            return match word.to_ascii_lowercase().as_str() {
                "inf" => self.take(word, sign * f64::INFINITY),
                "nan" => self.take(word, f64::NAN),
                "stale" if !signed => self.take(word, stale_nan()),
                _ => {
                    let message = format!(
                        "unexpected identifier {} in series values, expected number or \"stale\"",
                        quote(word)
                    );
                    Err(Fault::new(Span::new(start, self.pos + word.len()), message))
                }
            };
        }
        let length = number_length(rest);
        let number = &rest[..length];
        let follows_word =
            rest[length..].starts_with(|c: char| c.is_ascii_alphanumeric() && c != 'x');
        if length == 0 {
            return self.unexpected("series values");
        }
        if follows_word {
            return self.fail(&format!("bad number syntax: {}", quote(number)));
        }
        let value = parse_number(number)
            .map_err(|message| Fault::new(Span::new(self.pos, self.pos + length), message))?;
        self.take(number, sign * value)
    }

    fn take(&mut self, word: &str, value: f64) -> Result<f64, Fault> {
        self.pos += word.len();
        Ok(value)
    }

    fn repetition(&mut self) -> Result<usize, Fault> {
        let rest = self.rest();
        let number = &rest[..number_length(rest)];
        if number.is_empty() {
            return self.unexpected("series values");
        }
        let Ok(times) = number.parse::<usize>() else {
            let reason = format!(
                "strconv.ParseUint: parsing {}: invalid syntax",
                quote(number)
            );
            return self.fail(&format!("invalid repetition in series values: {reason}"));
        };
        self.pos += number.len();
        Ok(times.min(MAX_LENGTH))
    }

    fn rest(&self) -> &'a str {
        &self.text[self.pos..]
    }

    fn accept(&mut self, wanted: &str) -> bool {
        let found = self.rest().starts_with(wanted);
        if found {
            self.pos += wanted.len();
        }
        found
    }

    fn fail<T>(&self, message: &str) -> Result<T, Fault> {
        Err(Fault::new(Span::new(self.pos, self.pos), message))
    }

    fn unexpected<T>(&self, position: &str) -> Result<T, Fault> {
        let position = if position.is_empty() {
            String::new()
        } else {
            format!(" in {position}")
        };
        match self.rest().chars().next() {
            None => self.fail(&format!("unexpected end of input{position}")),
            Some(c @ ('+' | '-')) => self.fail(&format!("unexpected <op:{c}>{position}")),
            Some(c @ ('x' | ' ' | '_')) => self.fail(&format!("unexpected \"{c}\"{position}")),
            Some('{') if self.rest().starts_with("{{") => {
                self.fail(&format!("unexpected \"{{{{\"{position}"))
            }
            Some(c) if c.is_ascii_digit() => {
                let number = &self.rest()[..number_length(self.rest())];
                self.fail(&format!("unexpected number {}{position}", quote(number)))
            }
            Some(c) if c.is_ascii_alphabetic() => {
                let word = self
                    .rest()
                    .split(|c: char| !c.is_ascii_alphanumeric())
                    .next()
                    .unwrap_or_default();
                self.fail(&format!("unexpected identifier {}{position}", quote(word)))
            }
            Some(c) => self.fail(&format!("unexpected character in series sequence: '{c}'")),
        }
    }
}

/// Length of the digits, dots, underscores and exponent that a number may be made of.
fn number_length(text: &str) -> usize {
    let mut previous = ' ';
    for (at, c) in text.char_indices() {
        let exponent_sign = matches!(c, '+' | '-') && matches!(previous, 'e' | 'E');
        if !(c.is_ascii_digit()
            || matches!(c, '.' | '_')
            || (matches!(c, 'e' | 'E') && at > 0)
            || exponent_sign)
        {
            return at;
        }
        previous = c;
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(notation: &str) -> Vec<Option<f64>> {
        let float = |value: SeriesValue| match value {
            SeriesValue::Gap => None,
            SeriesValue::Float(value) => Some(value),
            SeriesValue::Histogram(_) => panic!("a histogram"),
        };
        parse_series(&format!("up {notation}"))
            .expect(notation)
            .values
            .iter()
            .cloned()
            .map(float)
            .collect()
    }

    fn histograms(notation: &str) -> Vec<String> {
        let shown = |value: SeriesValue| match value {
            SeriesValue::Histogram(histogram) => histogram.notation(),
            other => format!("{other:?}"),
        };
        parse_series(&format!("up {notation}"))
            .expect(notation)
            .values
            .iter()
            .cloned()
            .map(shown)
            .collect()
    }

    /// SEMANTICS 85 and 211; values as promtool 3.5 expands them.
    #[test]
    fn histograms_expand_as_floats_do() {
        let shown = histograms("{{count:1 buckets:[1]}}x1 _ {{count:5}}-{{count:2}}x2 7 {{ }}");
        let five = ["{{count:5}}", "{{count:3}}", "{{count:1}}"];
        let repeated = "{{count:1 buckets:[1]}}";
        assert_eq!(
            shown,
            [
                repeated,
                repeated,
                "Gap",
                five[0],
                five[1],
                five[2],
                "Float(7.0)",
                "{{}}"
            ]
        );
        let grown =
            histograms("{{schema:0 count:1 buckets:[1]}}+{{schema:1 count:2 buckets:[1 1]}}x1");
        assert_eq!(grown[1], "{{count:3 buckets:[2 1]}}");
        for (notation, reason) in [
            (
                "{{schema:1}}+{{schema:0}}x1",
                "error combining histograms: cannot merge from schema 0 to 1",
            ),
            ("{{}}+{{schema:-53}}x1", "cannot merge from schema -53 to 0"),
            (
                "{{schema:-53}}+{{}}x1",
                "1:24: parse error: cannot apply this operation on histograms with a mix of",
            ),
            (
                "{{}}+1x3",
                "1:9: parse error: unexpected number \"1\" in series values",
            ),
            (
                "1+{{}}x3",
                "1:6: parse error: unexpected \"{{\" in series values",
            ),
            ("{{}}{{}}", "1:8: parse error: unexpected \"{{\""),
            ("{{}}xa", "unexpected identifier \"a\" in series values"),
            ("{{}} x3", "1:9: parse error: unexpected \"x\""),
        ] {
            let error = parse_series(&format!("up {notation}"))
                .expect_err(notation)
                .to_string();
            assert!(error.contains(reason), "{notation}: {error}");
        }
    }

    /// SEMANTICS 211; lengths and last values as promtool 3.5 counts them.
    #[test]
    fn series_expand_as_promtool_expands_them() {
        let some = |list: &[f64]| list.iter().copied().map(Some).collect::<Vec<_>>();
        assert_eq!(values("1"), some(&[1.0]));
        assert_eq!(values("1+1x3"), some(&[1.0, 2.0, 3.0, 4.0]));
        assert_eq!(values("-1-2x2"), some(&[-1.0, -3.0, -5.0]));
        assert_eq!(values("5x2"), some(&[5.0, 5.0, 5.0]));
        assert_eq!(values("_x3 1  _"), [None, None, None, Some(1.0), None]);
        assert_eq!(
            values("1.5+.5x2 1e3x0 Inf -inf"),
            some(&[1.5, 2.0, 2.5, 1000.0, f64::INFINITY, f64::NEG_INFINITY])
        );
        assert_eq!(values("0x3").len(), 4);
        assert_eq!(values(""), []);
        assert_eq!(
            values("stale")[0].map(f64::to_bits),
            Some(stale_nan().to_bits())
        );
        let labels = parse_series(r#"up{a="}",b='x y'} 1"#)
            .expect("valid")
            .labels;
        assert_eq!(labels.to_string(), r#"up{a="}", b="x y"}"#);
    }

    /// Recorded from promtool 3.5.
    #[test]
    fn broken_notation_is_refused_in_promtools_words() {
        for (notation, message) in [
            (
                "1x",
                "1:6: parse error: unexpected end of input in series values",
            ),
            (
                "1+x3",
                "1:6: parse error: unexpected \"x\" in series values",
            ),
            (
                "foo",
                "1:4: parse error: unexpected identifier \"foo\" in series values, expected number or \"stale\"",
            ),
            (
                "1+1",
                "1:7: parse error: unexpected end of input in series values",
            ),
            ("1h", "1:4: parse error: bad number syntax: \"1\""),
            (
                "1x-1",
                "1:6: parse error: unexpected <op:-> in series values",
            ),
            ("1x2+1", "1:7: parse error: unexpected <op:+>"),
            (
                "1x1.5",
                "1:6: parse error: invalid repetition in series values: strconv.ParseUint: parsing \"1.5\": invalid syntax",
            ),
        ] {
            assert_eq!(
                parse_series(&format!("up {notation}"))
                    .expect_err(notation)
                    .to_string(),
                message
            );
        }
        assert!(parse_series("up 1x99999999999").is_err());
    }
}
