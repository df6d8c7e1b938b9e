//! Metrics: each data point with its metric and its resource
//! (<https://github.com/open-telemetry/opentelemetry-proto/blob/main/opentelemetry/proto/metrics/v1/metrics.proto>).

use super::super::wire::{Fields, Value};
use super::attribute::Attributes;
use super::message::{Problem, each};
use super::resource::each_resource;

/// What the numbers of a counter or of a histogram count.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Temporality {
    /// Nothing is said.
    #[default]
    Unspecified,
    /// What came since the last export.
    Delta,
    /// Everything since the start.
    Cumulative,
}

/// A metric without its data points.
#[derive(Clone, Copy, Debug, Default)]
pub struct Metric<'a> {
    /// Its name.
    pub name: &'a str,
    /// What it is, for people.
    pub description: &'a str,
    /// Its unit, as UCUM has them.
    pub unit: &'a str,
    /// Whether it is a sum that only grows.
    pub is_monotonic: bool,
    /// Whether it is a sum at all.
    pub is_sum: bool,
    /// What its points count.
    pub temporality: Temporality,
}

/// One data point.
#[derive(Clone, Debug)]
pub struct Point<'a> {
    /// Its attributes.
    pub attributes: Attributes<'a>,
    /// When counting began, in nanoseconds since 1970; 0 where it is not known.
    pub start: u64,
    /// When it was observed, likewise.
    pub time: u64,
    /// Whether it says that there is no value any more.
    pub is_gone: bool,
    /// Its value.
    pub data: Data,
}

/// The value of a data point.
#[derive(Clone, Debug)]
pub enum Data {
    /// Of a gauge or a sum.
    Number(f64),
    /// Of a histogram with bounds of its own.
    Histogram {
        /// All observations.
        count: u64,
        /// Their sum, where it is known.
        sum: Option<f64>,
        /// Upper bounds, ascending.
        bounds: Vec<f64>,
        /// Observations in each bucket, one more than bounds.
        counts: Vec<u64>,
    },
    /// Of an exponential histogram.
    Exponential {
        /// All observations.
        count: u64,
        /// Their sum, where it is known.
        sum: Option<f64>,
        /// The resolution: buckets grow by `2^(2^-scale)`.
        scale: i32,
        /// Observations of zero.
        zero_count: u64,
        /// Index of the first bucket above zero, and the counts from there.
        positive: (i32, Vec<u64>),
        /// Likewise below zero.
        negative: (i32, Vec<u64>),
    },
    /// Of a summary.
    Summary {
        /// All observations.
        count: u64,
        /// Their sum.
        sum: f64,
        /// Quantiles with their values.
        quantiles: Vec<(f64, f64)>,
    },
}

/// Bit of the flags that says that there is no value.
const NO_RECORDED_VALUE: u32 = 1;

/// What a message of metrics is made of, in this order: a resource, its metrics, the points of
/// each.
#[derive(Debug)]
pub enum Piece<'p, 'a> {
    /// The next resource.
    Resource(&'p Attributes<'a>),
    /// The next metric of that resource.
    Metric(&'p Metric<'a>),
    /// The next point of that metric.
    Point(Point<'a>),
}

/// Calls `visit` for every piece of a message `ExportMetricsServiceRequest`.
///
/// # Errors
/// When the message is not one; what was visited before was.
pub fn points<'a>(body: &'a [u8], visit: &mut dyn FnMut(Piece<'_, 'a>)) -> Result<(), Problem> {
    each_resource(body, 1, |resource, whole| {
        visit(Piece::Resource(resource));
        each(whole, 2, |scope| {
            each(scope, 2, |fields| metric(fields, visit))
        })
    })
}

/// The kinds of data of a metric, by the number of their field.
#[derive(Clone, Copy)]
enum Kind {
    Gauge,
    Sum,
    Histogram,
    Exponential,
    Summary,
}

fn metric<'a>(mut fields: Fields<'a>, visit: &mut dyn FnMut(Piece<'_, 'a>)) -> Result<(), Problem> {
    let mut metric = Metric::default();
    let mut data = None;
    while let Some((number, value)) = fields.next()? {
        match number {
            1 => metric.name = value.text()?,
            2 => metric.description = value.text()?,
            3 => metric.unit = value.text()?,
            5 => data = Some((Kind::Gauge, value.message()?)),
            7 => data = Some((Kind::Sum, value.message()?)),
            9 => data = Some((Kind::Histogram, value.message()?)),
            10 => data = Some((Kind::Exponential, value.message()?)),
            11 => data = Some((Kind::Summary, value.message()?)),
            _ => {}
        }
    }
    let Some((kind, whole)) = data else {
        return Ok(());
    };
    metric.is_sum = matches!(kind, Kind::Sum);
    let mut fields = whole;
    while let Some((number, value)) = fields.next()? {
        match (number, kind) {
            (2, Kind::Sum | Kind::Histogram | Kind::Exponential) => {
                metric.temporality = match value.uint()? {
                    1 => Temporality::Delta,
                    2 => Temporality::Cumulative,
                    _ => Temporality::Unspecified,
                };
            }
            (3, Kind::Sum) => metric.is_monotonic = value.uint()? != 0,
            _ => {}
        }
    }
    visit(Piece::Metric(&metric));
    each(whole, 1, |fields| {
        let point = match kind {
            Kind::Gauge | Kind::Sum => number(fields)?,
            Kind::Histogram => histogram(fields)?,
            Kind::Exponential => exponential(fields)?,
            Kind::Summary => summary(fields)?,
        };
        visit(Piece::Point(point));
        Ok(())
    })
}

/// What the points of all kinds have.
#[derive(Default)]
struct Head<'a> {
    attributes: Attributes<'a>,
    start: u64,
    time: u64,
    flags: u32,
}

impl<'a> Head<'a> {
    fn point(self, data: Data) -> Point<'a> {
        Point {
            attributes: self.attributes,
            start: self.start,
            time: self.time,
            is_gone: self.flags & NO_RECORDED_VALUE != 0,
            data,
        }
    }
}

fn number(mut fields: Fields<'_>) -> Result<Point<'_>, Problem> {
    let (mut head, mut worth) = (Head::default(), 0.0);
    while let Some((number, value)) = fields.next()? {
        match number {
            2 => head.start = value.fixed64()?,
            3 => head.time = value.fixed64()?,
            4 => worth = value.double()?,
            6 => worth = value.fixed64()? as i64 as f64,
            7 => head.attributes.add_value(value)?,
            8 => head.flags = value.small()?,
            _ => {}
        }
    }
    Ok(head.point(Data::Number(worth)))
}

fn histogram(mut fields: Fields<'_>) -> Result<Point<'_>, Problem> {
    let mut head = Head::default();
    let (mut count, mut sum, mut bounds, mut counts) = (0, None, Vec::new(), Vec::new());
    while let Some((number, value)) = fields.next()? {
        match number {
            2 => head.start = value.fixed64()?,
            3 => head.time = value.fixed64()?,
            4 => count = value.fixed64()?,
            5 => sum = Some(value.double()?),
            6 => value.fixed64s(&mut counts)?,
            7 => value.doubles(&mut bounds)?,
            9 => head.attributes.add_value(value)?,
            10 => head.flags = value.small()?,
            _ => {}
        }
    }
    Ok(head.point(Data::Histogram {
        count,
        sum,
        bounds,
        counts,
    }))
}

fn exponential(mut fields: Fields<'_>) -> Result<Point<'_>, Problem> {
    let mut head = Head::default();
    let (mut count, mut sum, mut scale, mut zero_count) = (0, None, 0, 0);
    let (mut positive, mut negative) = ((0, Vec::new()), (0, Vec::new()));
    while let Some((number, value)) = fields.next()? {
        match number {
            1 => head.attributes.add_value(value)?,
            2 => head.start = value.fixed64()?,
            3 => head.time = value.fixed64()?,
            4 => count = value.fixed64()?,
            5 => sum = Some(value.double()?),
            6 => scale = value.sint32()?,
            7 => zero_count = value.fixed64()?,
            8 => positive = side(value)?,
            9 => negative = side(value)?,
            10 => head.flags = value.small()?,
            _ => {}
        }
    }
    Ok(head.point(Data::Exponential {
        count,
        sum,
        scale,
        zero_count,
        positive,
        negative,
    }))
}

fn side(value: Value<'_>) -> Result<(i32, Vec<u64>), Problem> {
    let (mut offset, mut counts) = (0, Vec::new());
    let mut fields = value.message()?;
    while let Some((number, value)) = fields.next()? {
        match number {
            1 => offset = value.sint32()?,
            2 => value.uints(&mut counts)?,
            _ => {}
        }
    }
    Ok((offset, counts))
}

fn summary(mut fields: Fields<'_>) -> Result<Point<'_>, Problem> {
    let mut head = Head::default();
    let (mut count, mut sum, mut quantiles) = (0, 0.0, Vec::new());
    while let Some((number, value)) = fields.next()? {
        match number {
            2 => head.start = value.fixed64()?,
            3 => head.time = value.fixed64()?,
            4 => count = value.fixed64()?,
            5 => sum = value.double()?,
            6 => {
                let (mut quantile, mut at) = (0.0, 0.0);
                let mut fields = value.message()?;
                while let Some((number, value)) = fields.next()? {
                    match number {
                        1 => quantile = value.double()?,
                        2 => at = value.double()?,
                        _ => {}
                    }
                }
                if quantiles.len() >= super::super::wire::MOST {
                    return Err("a summary has too many quantiles");
                }
                quantiles.push((quantile, at));
            }
            7 => head.attributes.add_value(value)?,
            8 => head.flags = value.small()?,
            _ => {}
        }
    }
    Ok(head.point(Data::Summary {
        count,
        sum,
        quantiles,
    }))
}
