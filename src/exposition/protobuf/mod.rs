//! Prometheus's delimited protobuf format
//! (<https://prometheus.io/docs/instrumenting/exposition_formats/#protobuf-format>), the only one
//! that carries native histograms: messages `io.prometheus.client.MetricFamily`, each after its
//! length.
//!
//! What text can say too becomes a page of text, in the order and spelling in which the text format
//! has it; so everything behind reads one format, and a series is the same whichever way its target
//! was asked. Native histograms come beside it. Exemplars and times of creation are not kept. The
//! body is borrowed; what is made of it is bounded by [`Options::bound`], since a few bytes can
//! name a family and its samples repeat it.

mod histogram;

use std::borrow::Cow;

use super::encode::escape;
use super::series::{bound_text, push_name, push_quoted};
use super::wire::{Fields, Value, delimited};
use crate::model::bytes::Reader;
use crate::model::text::{is_legacy_label_name, is_legacy_metric_name, write_float};
use crate::model::{MetricKind, NativeHistogram, Timestamp};
use histogram::{Message, bucket};

/// What is wrong, in words.
type Problem = Cow<'static, str>;

/// What to make of a page.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Native histograms are read; else a histogram is the classic one that it also is.
    pub native: bool,
    /// The classic buckets of a native histogram are read too.
    pub classic: bool,
    /// Bytes that the result may take.
    pub bound: usize,
}

/// A page as text, with what text cannot say.
#[derive(Debug, Default)]
pub struct Expanded {
    /// Text 0.0.4.
    pub text: String,
    /// Its native histograms, in order.
    pub histograms: Vec<Exposed>,
}

/// A native histogram of a page.
#[derive(Debug)]
pub struct Exposed {
    /// Name and labels, as a text page writes them.
    pub series: Box<str>,
    /// The exposed timestamp.
    pub timestamp: Option<Timestamp>,
    /// Its value.
    pub histogram: NativeHistogram,
}

/// A mistake in a page.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("metric family {family}: {problem}")]
pub struct Error {
    /// Number of the family, from 1.
    pub family: usize,
    /// What is wrong; never quotes the page.
    pub problem: Cow<'static, str>,
}

/// Reads a page.
pub fn expand(body: &[u8], options: &Options) -> Result<Expanded, Error> {
    let mut reader = Reader(body);
    let mut writer = Writer {
        options,
        out: Expanded::default(),
        bytes: 0,
        labels: String::new(),
    };
    let mut number = 0;
    while !reader.0.is_empty() {
        number += 1;
        let message = delimited(&mut reader).ok_or("the page ends before the family does");
        message
            .map_err(Problem::from)
            .and_then(|message| writer.family(message))
            .map_err(|problem| Error {
                family: number,
                problem,
            })?;
    }
    Ok(writer.out)
}

/// The types of `MetricType`.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Type {
    Counter,
    Gauge,
    Summary,
    Untyped,
    Histogram,
    GaugeHistogram,
}

impl Type {
    fn of(number: u64) -> Result<Self, Problem> {
        Ok(match number {
            0 => Type::Counter,
            1 => Type::Gauge,
            2 => Type::Summary,
            3 => Type::Untyped,
            4 => Type::Histogram,
            5 => Type::GaugeHistogram,
            _ => return Err("unknown metric type".into()),
        })
    }

    /// The type that text has for it.
    fn kind(self) -> MetricKind {
        match self {
            Type::Counter => MetricKind::Counter,
            Type::Gauge => MetricKind::Gauge,
            Type::Summary => MetricKind::Summary,
            Type::Histogram => MetricKind::Histogram,
            Type::Untyped | Type::GaugeHistogram => MetricKind::Untyped,
        }
    }
}

struct Writer<'o> {
    options: &'o Options,
    out: Expanded,
    /// Bytes of the histograms so far.
    bytes: usize,
    /// `a="b",c="d"` of the metric that is being read.
    labels: String,
}

impl Writer<'_> {
    fn family(&mut self, message: &[u8]) -> Result<(), Problem> {
        let (mut name, mut help, mut unit, mut kind, mut metrics) = ("", "", "", Type::Counter, 0);
        let mut fields = Fields::of(message);
        while let Some((number, value)) = fields.next()? {
            match number {
                1 => name = value.text()?,
                2 => help = value.text()?,
                3 => kind = Type::of(value.uint()?)?,
                4 => metrics += usize::from(matches!(value, Value::Bytes(_))),
                5 => unit = value.text()?,
                _ => {}
            }
        }
        if metrics == 0 {
            return Ok(());
        }
        if name.is_empty() {
            return Err("it has no name".into());
        }
        let stem = if kind == Type::Counter {
            name.strip_suffix("_total").unwrap_or(name)
        } else {
            name
        };
        if !unit.is_empty()
            && !stem
                .strip_suffix(unit)
                .is_some_and(|rest| rest.ends_with('_'))
        {
            return Err("the metric name does not end with its unit".into());
        }
        self.head(name, help, unit, kind.kind());
        let mut fields = Fields::of(message);
        while let Some((number, value)) = fields.next()? {
            if number == 4 {
                self.metric(name, kind, value.message()?)?;
            }
        }
        Ok(())
    }

    fn head(&mut self, name: &str, help: &str, unit: &str, kind: MetricKind) {
        let out = &mut self.out.text;
        if !help.is_empty() {
            out.push_str("# HELP ");
            push_name(out, name, is_legacy_metric_name);
            out.push(' ');
            escape(out, help, false);
            out.push('\n');
        }
        // A counter is declared with `_total`, behind which no unit can stand.
        if !unit.is_empty() && kind != MetricKind::Counter {
            out.push_str("# UNIT ");
            push_name(out, name, is_legacy_metric_name);
            out.extend([" ", unit, "\n"]);
        }
        out.push_str("# TYPE ");
        push_name(out, name, is_legacy_metric_name);
        out.extend([" ", kind.as_str(), "\n"]);
    }

    fn metric(&mut self, name: &str, kind: Type, mut fields: Fields<'_>) -> Result<(), Problem> {
        self.labels.clear();
        let whole = fields;
        let (mut value, mut timestamp) = (0.0, 0);
        let mut summary = Summary::default();
        let mut histogram = Message::default();
        while let Some((number, field)) = fields.next()? {
            match (number, kind) {
                (1, _) => self.label(field.message()?)?,
                (2, Type::Gauge) | (3, Type::Counter) | (5, Type::Untyped) => {
                    value = plain(field.message()?)?.unwrap_or(value)
                }
                (4, Type::Summary) => summary.read(field.message()?)?,
                (7, Type::Histogram | Type::GaugeHistogram) => histogram.read(field.message()?)?,
                (6, _) => timestamp = field.int()?,
                // Of another type than the family's: not looked at, but it must be whole.
                (2..=5 | 7, _) => field.message()?.check()?,
                _ => {}
            }
        }
        if timestamp < 0 {
            return Err("a timestamp is before 1970".into());
        }
        // Zero cannot be distinguished from a timestamp that is not there.
        let timestamp = (timestamp != 0).then_some(Timestamp(timestamp));
        match kind {
            Type::Counter | Type::Gauge | Type::Untyped => {
                self.sample(name, "", None, value, timestamp)
            }
            Type::Summary => {
                self.sample(name, "_count", None, summary.count as f64, timestamp)?;
                self.sample(name, "_sum", None, summary.sum, timestamp)?;
                each_of(whole, (4, 3), |fields| {
                    let (quantile, value) = quantile(fields)?;
                    self.sample(name, "", Some(("quantile", quantile)), value, timestamp)
                })
            }
            Type::Histogram | Type::GaugeHistogram => {
                let (count, sum, has_buckets) = (
                    histogram.observations(),
                    histogram.sum,
                    histogram.has_buckets,
                );
                if self.options.native && histogram.is_native() {
                    self.native(name, histogram, kind == Type::GaugeHistogram, timestamp)?;
                    if !self.options.classic || !has_buckets {
                        return Ok(());
                    }
                }
                self.sample(name, "_count", None, count, timestamp)?;
                self.sample(name, "_sum", None, sum, timestamp)?;
                let mut infinite = false;
                each_of(whole, (7, 3), |fields| {
                    let (bound, count) = bucket(fields)?;
                    infinite |= bound == f64::INFINITY;
                    self.sample(name, "_bucket", Some(("le", bound)), count, timestamp)
                })?;
                if infinite {
                    Ok(())
                } else {
                    self.sample(
                        name,
                        "_bucket",
                        Some(("le", f64::INFINITY)),
                        count,
                        timestamp,
                    )
                }
            }
        }
    }

    fn label(&mut self, mut fields: Fields<'_>) -> Result<(), Problem> {
        let (mut name, mut value) = ("", "");
        while let Some((number, field)) = fields.next()? {
            match number {
                1 => name = field.text()?,
                2 => value = field.text()?,
                _ => {}
            }
        }
        if !self.labels.is_empty() {
            self.labels.push(',');
        }
        push_name(&mut self.labels, name, is_legacy_label_name);
        self.labels.push('=');
        push_quoted(&mut self.labels, value);
        self.check_bound()
    }

    fn native(
        &mut self,
        name: &str,
        message: Message,
        gauge: bool,
        timestamp: Option<Timestamp>,
    ) -> Result<(), Problem> {
        let mut series = String::new();
        push_series(&mut series, name, "", &self.labels, None);
        let histogram = message.native(gauge)?;
        self.bytes += size_of::<Exposed>() + series.len() + histogram.heap_size();
        self.out.histograms.push(Exposed {
            series: series.into(),
            timestamp,
            histogram,
        });
        self.check_bound()
    }

    fn sample(
        &mut self,
        name: &str,
        suffix: &str,
        bound: Option<(&str, f64)>,
        value: f64,
        timestamp: Option<Timestamp>,
    ) -> Result<(), Problem> {
        let out = &mut self.out.text;
        push_series(out, name, suffix, &self.labels, bound);
        out.push(' ');
        write_float(out, value);
        if let Some(at) = timestamp {
            out.push(' ');
            out.push_str(&at.0.to_string());
        }
        out.push('\n');
        self.check_bound()
    }

    fn check_bound(&self) -> Result<(), Problem> {
        if self.out.text.len() + self.labels.len() + self.bytes > self.options.bound {
            Err("the page takes more memory than body_size_limit allows".into())
        } else {
            Ok(())
        }
    }
}

/// Writes `name_suffix{labels,bound}`.
fn push_series(
    out: &mut String,
    name: &str,
    suffix: &str,
    labels: &str,
    bound: Option<(&str, f64)>,
) {
    let legacy = is_legacy_metric_name(name);
    if legacy {
        out.extend([name, suffix]);
        if labels.is_empty() && bound.is_none() {
            return;
        }
        out.push('{');
    } else {
        out.push_str("{\"");
        escape(out, name, true);
        out.extend([suffix, "\""]);
    }
    let mut separator = if legacy { "" } else { "," };
    if !labels.is_empty() {
        out.extend([separator, labels]);
        separator = ",";
    }
    if let Some((label, bound)) = bound {
        out.extend([separator, label, "=\"", &bound_text(bound), "\""]);
    }
    out.push('}');
}

/// The value of a counter, a gauge or an untyped metric.
fn plain(mut fields: Fields<'_>) -> Result<Option<f64>, Problem> {
    let mut found = None;
    while let Some((number, value)) = fields.next()? {
        match number {
            1 => found = Some(value.double()?),
            // A counter's exemplar and the time of its creation.
            2 | 3 => value.message()?.check()?,
            _ => {}
        }
    }
    Ok(found)
}

/// Calls `visit` for the messages in field `inner` of those in field `outer`; they are not
/// gathered, since they may be many.
fn each_of<'a>(
    mut fields: Fields<'a>,
    (outer, inner): (u32, u32),
    mut visit: impl FnMut(Fields<'a>) -> Result<(), Problem>,
) -> Result<(), Problem> {
    while let Some((number, value)) = fields.next()? {
        if number != outer {
            continue;
        }
        let mut fields = value.message()?;
        while let Some((number, value)) = fields.next()? {
            if number == inner {
                visit(value.message()?)?;
            }
        }
    }
    Ok(())
}

/// Count and sum of a summary.
#[derive(Default)]
struct Summary {
    count: u64,
    sum: f64,
}

impl Summary {
    fn read(&mut self, mut fields: Fields<'_>) -> Result<(), Problem> {
        while let Some((number, value)) = fields.next()? {
            match number {
                1 => self.count = value.uint()?,
                2 => self.sum = value.double()?,
                4 => value.message()?.check()?,
                _ => {}
            }
        }
        Ok(())
    }
}

fn quantile(mut fields: Fields<'_>) -> Result<(f64, f64), Problem> {
    let (mut quantile, mut found) = (0.0, 0.0);
    while let Some((number, value)) = fields.next()? {
        match number {
            1 => quantile = value.double()?,
            2 => found = value.double()?,
            _ => {}
        }
    }
    Ok((quantile, found))
}
