//! The function table: signature and description of every function of PromQL, by family.
//!
//! Signatures are those of Prometheus 3.5, with the few later ones that are stable there or about to be
//! (<https://prometheus.io/docs/prometheus/latest/querying/functions/>).

use super::ast::ValueType;
use super::ast::ValueType::{Matrix, Scalar, String, Vector};

/// How often the last argument may stand.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Variadic {
    /// Exactly once.
    Fixed,
    /// Not at all, or up to this many times.
    UpTo(usize),
    /// Not at all, or any number of times.
    Unlimited,
}

/// A function of PromQL. Parser, checker, evaluator and reference read the same row.
#[derive(Clone, Copy, Debug)]
pub struct Function {
    /// Its name.
    pub name: &'static str,
    /// The types of its arguments; the last may be optional or repeated, see `variadic`.
    pub args: &'static [ValueType],
    /// How often the last argument may stand.
    pub variadic: Variadic,
    /// The type of its value.
    pub returns: ValueType,
    /// Whether it has to be switched on.
    pub experimental: bool,
    /// What it does, one sentence.
    pub doc: &'static str,
}

impl PartialEq for Function {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Function {
    /// Fewest arguments it takes.
    pub fn min_args(&self) -> usize {
        match self.variadic {
            Variadic::Fixed => self.args.len(),
            _ => self.args.len().saturating_sub(1),
        }
    }

    /// Most arguments it takes; `None`: any number.
    pub fn max_args(&self) -> Option<usize> {
        match self.variadic {
            Variadic::Fixed => Some(self.args.len()),
            Variadic::UpTo(more) => Some(self.min_args() + more),
            Variadic::Unlimited => None,
        }
    }

    const fn scalar(mut self) -> Self {
        self.returns = Scalar;
        self
    }

    const fn variadic(mut self, variadic: Variadic) -> Self {
        self.variadic = variadic;
        self
    }

    const fn experimental(mut self) -> Self {
        self.experimental = true;
        self
    }
}

/// A stable function with fixed arguments that returns an instant vector.
const fn row(name: &'static str, args: &'static [ValueType], doc: &'static str) -> Function {
    Function { name, args, variadic: Variadic::Fixed, returns: Vector, experimental: false, doc }
}

/// All families.
pub const FAMILIES: [&[Function]; 7] = [HISTOGRAM, LABEL, MATH, OVER_TIME, RATE, SORT, TIME];

/// The function called `name`.
pub fn find(name: &str) -> Option<&'static Function> {
    FAMILIES.iter().flat_map(|family| family.iter()).find(|function| function.name == name)
}

static HISTOGRAM: &[Function] = &[
    row("histogram_avg", &[Vector], "Mean of the observations of native histograms."),
    row("histogram_count", &[Vector], "Number of observations of native histograms."),
    row("histogram_fraction", &[Scalar, Scalar, Vector], "Share of observations between two bounds."),
    row("histogram_quantile", &[Scalar, Vector], "Quantile of the observations of histograms."),
    row("histogram_stddev", &[Vector], "Estimated standard deviation of the observations of native histograms."),
    row("histogram_stdvar", &[Vector], "Estimated variance of the observations of native histograms."),
    row("histogram_sum", &[Vector], "Sum of the observations of native histograms."),
];

static LABEL: &[Function] = &[
    row("absent", &[Vector], "1 when the vector is empty, with the labels that the selector fixes."),
    row("info", &[Vector, Vector], "Adds the labels of matching info series.").variadic(Variadic::UpTo(1)).experimental(),
    row("label_join", &[Vector, String, String, String], "Sets a label to the values of others, joined.").variadic(Variadic::Unlimited),
    row("label_replace", &[Vector, String, String, String, String], "Sets a label from a regular expression over another."),
    row("scalar", &[Vector], "Value of the only sample, NaN if there is not exactly one.").scalar(),
    row("vector", &[Scalar], "One sample without labels."),
];

static MATH: &[Function] = &[
    row("abs", &[Vector], "Absolute value."),
    row("acos", &[Vector], "Arccosine, in radians."),
    row("acosh", &[Vector], "Inverse hyperbolic cosine."),
    row("asin", &[Vector], "Arcsine, in radians."),
    row("asinh", &[Vector], "Inverse hyperbolic sine."),
    row("atan", &[Vector], "Arctangent, in radians."),
    row("atanh", &[Vector], "Inverse hyperbolic tangent."),
    row("ceil", &[Vector], "Rounded up to a whole number."),
    row("clamp", &[Vector, Scalar, Scalar], "Limited to the range from minimum to maximum."),
    row("clamp_max", &[Vector, Scalar], "Limited to a maximum."),
    row("clamp_min", &[Vector, Scalar], "Limited to a minimum."),
    row("cos", &[Vector], "Cosine of radians."),
    row("cosh", &[Vector], "Hyperbolic cosine."),
    row("deg", &[Vector], "Radians to degrees."),
    row("exp", &[Vector], "e to the power of the value."),
    row("floor", &[Vector], "Rounded down to a whole number."),
    row("ln", &[Vector], "Natural logarithm."),
    row("log10", &[Vector], "Decimal logarithm."),
    row("log2", &[Vector], "Binary logarithm."),
    row("pi", &[], "The number pi.").scalar(),
    row("rad", &[Vector], "Degrees to radians."),
    row("round", &[Vector, Scalar], "Rounded to the nearest multiple of the second argument, 1 by default; ties up.")
        .variadic(Variadic::UpTo(1)),
    row("sgn", &[Vector], "Sign: -1, 0 or 1."),
    row("sin", &[Vector], "Sine of radians."),
    row("sinh", &[Vector], "Hyperbolic sine."),
    row("sqrt", &[Vector], "Square root."),
    row("tan", &[Vector], "Tangent of radians."),
    row("tanh", &[Vector], "Hyperbolic tangent."),
];

static OVER_TIME: &[Function] = &[
    row("absent_over_time", &[Matrix], "1 when the window has no sample at all."),
    row("avg_over_time", &[Matrix], "Mean of the samples of the window."),
    row("count_over_time", &[Matrix], "Number of samples in the window."),
    row("first_over_time", &[Matrix], "Oldest sample of the window.").experimental(),
    row("last_over_time", &[Matrix], "Newest sample of the window."),
    row("mad_over_time", &[Matrix], "Median absolute deviation of the samples of the window.").experimental(),
    row("max_over_time", &[Matrix], "Greatest sample of the window."),
    row("min_over_time", &[Matrix], "Least sample of the window."),
    row("present_over_time", &[Matrix], "1 for every series with a sample in the window."),
    row("quantile_over_time", &[Scalar, Matrix], "Quantile of the samples of the window."),
    row("stddev_over_time", &[Matrix], "Population standard deviation of the samples of the window."),
    row("stdvar_over_time", &[Matrix], "Population variance of the samples of the window."),
    row("sum_over_time", &[Matrix], "Sum of the samples of the window."),
    row("ts_of_first_over_time", &[Matrix], "Unix seconds of the oldest sample of the window.").experimental(),
    row("ts_of_last_over_time", &[Matrix], "Unix seconds of the newest sample of the window.").experimental(),
    row("ts_of_max_over_time", &[Matrix], "Unix seconds of the last greatest sample of the window.").experimental(),
    row("ts_of_min_over_time", &[Matrix], "Unix seconds of the last least sample of the window.").experimental(),
];

static RATE: &[Function] = &[
    row("changes", &[Matrix], "Number of times a value changed in the window."),
    row("delta", &[Matrix], "Difference between the last and the first value of a gauge, extrapolated to the window."),
    row("deriv", &[Matrix], "Slope per second of a gauge, by least squares."),
    row("idelta", &[Matrix], "Difference between the last two samples of a gauge."),
    row("increase", &[Matrix], "Growth of a counter, resets bridged, extrapolated to the window."),
    row("irate", &[Matrix], "Growth per second of a counter between its last two samples."),
    row("predict_linear", &[Matrix, Scalar], "Value of a gauge so many seconds from now, by least squares."),
    row("rate", &[Matrix], "Growth per second of a counter, resets bridged, extrapolated to the window."),
    row("resets", &[Matrix], "Number of times a counter was reset in the window."),
    row(
        "double_exponential_smoothing",
        &[Matrix, Scalar, Scalar],
        "Smoothed value of a gauge; smoothing and trend factor between 0 and 1.",
    )
    .experimental(),
];

static SORT: &[Function] = &[
    row("sort", &[Vector], "Sorted by value, ascending."),
    row("sort_by_label", &[Vector, String], "Sorted by labels in natural order, ascending.").variadic(Variadic::Unlimited).experimental(),
    row("sort_by_label_desc", &[Vector, String], "Sorted by labels in natural order, descending.")
        .variadic(Variadic::Unlimited)
        .experimental(),
    row("sort_desc", &[Vector], "Sorted by value, descending."),
];

static TIME: &[Function] = &[
    row("day_of_month", &[Vector], "Day of the month in UTC, 1 to 31.").variadic(Variadic::UpTo(1)),
    row("day_of_week", &[Vector], "Day of the week in UTC, 0 is Sunday.").variadic(Variadic::UpTo(1)),
    row("day_of_year", &[Vector], "Day of the year in UTC, 1 to 366.").variadic(Variadic::UpTo(1)),
    row("days_in_month", &[Vector], "Days of the month in UTC, 28 to 31.").variadic(Variadic::UpTo(1)),
    row("hour", &[Vector], "Hour of the day in UTC, 0 to 23.").variadic(Variadic::UpTo(1)),
    row("minute", &[Vector], "Minute of the hour in UTC, 0 to 59.").variadic(Variadic::UpTo(1)),
    row("month", &[Vector], "Month of the year in UTC, 1 to 12.").variadic(Variadic::UpTo(1)),
    row("time", &[], "Unix seconds of the evaluation.").scalar(),
    row("timestamp", &[Vector], "Unix seconds of each sample."),
    row("year", &[Vector], "Year in UTC.").variadic(Variadic::UpTo(1)),
];
