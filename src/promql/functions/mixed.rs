//! Windows with native histograms in them: what the functions over a range make of those, alone or
//! among floats.
//!
//! Texts are Prometheus's own.

use std::sync::Arc;

use crate::model::NativeHistogram;
use crate::model::native_histogram::Incompatible;
use crate::model::text::quote;
use crate::promql::eval::evaluator::Query;
use crate::promql::eval::windows::Range;
use crate::promql::syntax::ast::{Call, Span};
use crate::promql::value::Severity;

/// What a function makes of a window with native histograms in it.
#[derive(Clone, Copy, Debug)]
pub(in crate::promql) enum Native {
    /// It looks at floats only, and says so where there are both.
    Ignored,
    /// It takes them.
    Taken(fn(&Mixed<'_>) -> Option<Point>),
}

/// The value of a function at one step.
pub(in crate::promql) enum Point {
    Float(f64),
    Histogram(Arc<NativeHistogram>),
}

/// A window with at least one native histogram.
pub(in crate::promql) struct Mixed<'a> {
    pub(in crate::promql) range: Range<'a>,
    /// The metric name of the series.
    pub(in crate::promql) name: &'a str,
    pub(in crate::promql) call: &'a Call,
    pub(in crate::promql) query: &'a Query<'a>,
}

/// One sample of such a window.
#[derive(Clone, Copy)]
enum Either<'a> {
    Float(f64),
    Histogram(&'a NativeHistogram),
}

impl Mixed<'_> {
    /// Where annotations on the window point to.
    fn position(&self) -> Span {
        self.call.annotated_span(0)
    }

    fn annotate(&self, severity: Severity, text: &str) {
        self.query.annotate(
            severity,
            format!("PromQL {text} {}", quote(self.name)),
            self.position(),
        );
    }

    /// Histograms were left out.
    pub(in crate::promql) fn annotate_ignored(&self) {
        let text = "info: ignored histograms in a range containing both floats and histograms for metric name";
        self.annotate(Severity::Info, text);
    }

    /// Floats and histograms do not go together.
    pub(super) fn warn_mixed(&self) {
        self.annotate(
            Severity::Warning,
            "warning: encountered a mix of histograms and floats for metric name",
        );
    }

    /// A gauge where a counter is wanted.
    pub(super) fn warn_no_counter(&self) {
        self.annotate(
            Severity::Warning,
            "warning: this native histogram metric is not a counter:",
        );
    }

    /// A counter where a gauge is wanted.
    pub(super) fn warn_no_gauge(&self) {
        self.annotate(
            Severity::Warning,
            "warning: this native histogram metric is not a gauge:",
        );
    }

    /// The histograms do not go together.
    pub(super) fn warn_incompatible(&self, reason: Incompatible) {
        self.query.annotate(
            Severity::Warning,
            incompatible(reason, self.name),
            self.position(),
        );
    }

    /// All samples, ascending in time.
    fn samples(&self) -> impl Iterator<Item = (i64, Either<'_>)> {
        let mut floats = self
            .range
            .times
            .iter()
            .copied()
            .zip(self.range.values.iter().copied())
            .peekable();
        let mut histograms = self.range.histograms.iter().peekable();
        std::iter::from_fn(move || match (floats.peek(), histograms.peek()) {
            (Some((float, _)), Some((histogram, _))) if float >= histogram => {
                next_histogram(&mut histograms)
            }
            (Some(_), _) => floats
                .next()
                .map(|(time, value)| (time, Either::Float(value))),
            (None, _) => next_histogram(&mut histograms),
        })
    }
}

fn next_histogram<'a>(
    histograms: &mut impl Iterator<Item = &'a (i64, Arc<NativeHistogram>)>,
) -> Option<(i64, Either<'a>)> {
    histograms
        .next()
        .map(|(time, histogram)| (*time, Either::Histogram(histogram)))
}

/// The warning for histograms that do not go together.
pub(in crate::promql) fn incompatible(reason: Incompatible, name: &str) -> String {
    let what = match reason {
        Incompatible::Schema => "a mix of histograms with exponential and custom buckets schemas",
        Incompatible::Bounds => "histograms with incompatible custom buckets",
    };
    format!(
        "PromQL warning: vector contains {what} for metric name {}",
        quote(name)
    )
}

pub(super) fn count(mixed: &Mixed<'_>) -> Option<Point> {
    Some(Point::Float(
        (mixed.range.values.len() + mixed.range.histograms.len()) as f64,
    ))
}

pub(super) fn present(_: &Mixed<'_>) -> Option<Point> {
    Some(Point::Float(1.0))
}

pub(super) fn first(mixed: &Mixed<'_>) -> Option<Point> {
    let (histogram, float) = (mixed.range.histograms.first()?, mixed.range.times.first());
    match float {
        Some(time) if *time < histogram.0 => mixed.range.values.first().copied().map(Point::Float),
        _ => Some(Point::Histogram(Arc::clone(&histogram.1))),
    }
}

pub(super) fn last(mixed: &Mixed<'_>) -> Option<Point> {
    let (histogram, float) = (mixed.range.histograms.last()?, mixed.range.times.last());
    match float {
        Some(time) if *time > histogram.0 => mixed.range.values.last().copied().map(Point::Float),
        _ => Some(Point::Histogram(Arc::clone(&histogram.1))),
    }
}

pub(super) fn time_of_first(mixed: &Mixed<'_>) -> Option<Point> {
    mixed
        .samples()
        .next()
        .map(|(time, _)| Point::Float(time as f64 / 1000.0))
}

pub(super) fn time_of_last(mixed: &Mixed<'_>) -> Option<Point> {
    mixed
        .samples()
        .last()
        .map(|(time, _)| Point::Float(time as f64 / 1000.0))
}

/// What becomes of a window of histograms alone; one with floats too has a warning and no value.
fn unmixed(
    mixed: &Mixed<'_>,
    combine: impl Fn(&mut NativeHistogram, f64, &NativeHistogram) -> Result<(), Incompatible>,
) -> Option<Point> {
    if !mixed.range.values.is_empty() {
        mixed.warn_mixed();
        return None;
    }
    let (first, rest) = mixed.range.histograms.split_first()?;
    let mut result = NativeHistogram::clone(&first.1);
    for (count, (_, histogram)) in rest.iter().enumerate() {
        if let Err(reason) = combine(&mut result, (count + 2) as f64, histogram) {
            mixed.warn_incompatible(reason);
            return None;
        }
    }
    Some(Point::Histogram(result.into()))
}

pub(super) fn sum(mixed: &Mixed<'_>) -> Option<Point> {
    unmixed(mixed, |sum, _, histogram| sum.add(histogram))
}

pub(super) fn average(mixed: &Mixed<'_>) -> Option<Point> {
    unmixed(mixed, add_to_mean)
}

/// Makes the mean of `count - 1` histograms that of `count`.
pub(in crate::promql) fn add_to_mean(
    mean: &mut NativeHistogram,
    count: f64,
    histogram: &NativeHistogram,
) -> Result<(), Incompatible> {
    let (mut change, mut before) = (histogram.clone(), mean.clone());
    change.divide(count);
    before.divide(count);
    change.subtract(&before)?;
    mean.add(&change)
}

pub(super) fn changes(mixed: &Mixed<'_>) -> Option<Point> {
    let changed = |before: Either<'_>, after: Either<'_>| match (before, after) {
        (Either::Float(a), Either::Float(b)) => a != b && !(a.is_nan() && b.is_nan()),
        (Either::Histogram(a), Either::Histogram(b)) => a != b,
        _ => true,
    };
    count_pairs(mixed, changed)
}

pub(super) fn resets(mixed: &Mixed<'_>) -> Option<Point> {
    let reset = |before: Either<'_>, after: Either<'_>| match (before, after) {
        (Either::Float(a), Either::Float(b)) => b < a,
        (Either::Histogram(a), Either::Histogram(b)) => b.is_reset_after(a),
        _ => true,
    };
    count_pairs(mixed, reset)
}

fn count_pairs(
    mixed: &Mixed<'_>,
    counts: impl Fn(Either<'_>, Either<'_>) -> bool,
) -> Option<Point> {
    let mut samples = mixed.samples();
    let mut before = samples.next()?.1;
    let mut found = 0.0;
    for (_, after) in samples {
        if counts(before, after) {
            found += 1.0;
        }
        before = after;
    }
    Some(Point::Float(found))
}
