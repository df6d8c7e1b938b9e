//! The function table: signature, description and body of every function of PromQL, by family.
//!
//! Signatures are those of Prometheus 3.5, with the few later ones that are stable there or about
//! to be (<https://prometheus.io/docs/prometheus/latest/querying/functions/>).

mod extrapolation;
pub(super) mod go_math;
mod histogram;
mod label;
mod line;
mod math;
pub(super) mod mixed;
mod native;
mod native_quantile;
mod native_rate;
pub(super) mod over_time;
mod rate;
mod slide;
mod sort;
mod time;

use mixed::Native;

use super::eval::evaluator::{Evaluator, drop_names};
use super::eval::frame::{Frame, Node, is_absent};
use super::eval::selector::Over;
use super::eval::windows::{Range, Windowed};
use super::syntax::ast::ValueType::{Scalar, Vector};
use super::syntax::ast::{Call, ValueType};
use super::value::EvalError;

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
    body: Body,
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

    /// Whether its value depends on the time of evaluation, not only on its arguments.
    pub(super) fn looks_at_time(&self) -> bool {
        time::FAMILY.contains(self) || self.name == "predict_linear"
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
const fn row(
    name: &'static str,
    args: &'static [ValueType],
    body: Body,
    doc: &'static str,
) -> Function {
    Function {
        name,
        args,
        variadic: Variadic::Fixed,
        returns: Vector,
        experimental: false,
        doc,
        body,
    }
}

/// All families.
pub static FAMILIES: [&[Function]; 8] = [
    histogram::FAMILY,
    label::FAMILY,
    math::FAMILY,
    native::FAMILY,
    over_time::FAMILY,
    rate::FAMILY,
    sort::FAMILY,
    time::FAMILY,
];

/// The function called `name`.
pub fn find(name: &str) -> Option<&'static Function> {
    FAMILIES
        .iter()
        .flat_map(|family| family.iter())
        .find(|function| function.name == name)
}

/// What a function computes.
#[derive(Clone, Copy, Debug)]
enum Body {
    /// Each value by itself; the metric name goes.
    Map(fn(f64) -> f64),
    /// The floats of one window, and what becomes of one with native histograms; the metric name
    /// goes.
    Range(fn(Range<'_>) -> Option<f64>, Native),
    /// The same, and what computes all windows of a series of floats at once.
    Slid(fn(Range<'_>) -> Option<f64>, Native, slide::Slider),
    /// As `Range`; the metric name stays.
    RangeNamed(fn(Range<'_>) -> Option<f64>, Native),
    /// Anything else.
    Special(fn(&Evaluator<'_>, &Call) -> Result<Node, EvalError>),
}

/// The value of a function call.
pub(super) fn eval(evaluator: &Evaluator<'_>, call: &Call) -> Result<Node, EvalError> {
    match call.function.body {
        Body::Map(map) => map_values(evaluator, call, map),
        Body::Range(compute, native) => {
            let mut frame = over(evaluator, call, native, None, compute)?;
            drop_names(&mut frame);
            frame.distinct().map(Node::Vector)
        }
        Body::Slid(compute, native, slide) => {
            let mut frame = over(evaluator, call, native, Some(slide), compute)?;
            drop_names(&mut frame);
            frame.distinct().map(Node::Vector)
        }
        Body::RangeNamed(compute, native) => over(evaluator, call, native, None, compute)?
            .distinct()
            .map(Node::Vector),
        Body::Special(body) => body(evaluator, call),
    }
}

fn over(
    evaluator: &Evaluator<'_>,
    call: &Call,
    native: Native,
    slide: Option<slide::Slider>,
    compute: fn(Range<'_>) -> Option<f64>,
) -> Result<Frame, EvalError> {
    let slider = |windowed: &Windowed<'_>, row: &mut [f64]| {
        slide.map_or(Ok(false), |slide| slide(windowed, row))
    };
    evaluator.over_ranges(&Over {
        call,
        argument: 0,
        native,
        slide: Some(&slider),
        compute: &|range| Ok(compute(range)),
    })
}

/// Applies `map` to each value of the first argument.
fn map_values(
    evaluator: &Evaluator<'_>,
    call: &Call,
    map: impl Fn(f64) -> f64,
) -> Result<Node, EvalError> {
    let mut frame = evaluator.vector(&call.args[0])?;
    frame.drop_histograms();
    frame
        .values
        .iter_mut()
        .filter(|v| !is_absent(**v))
        .for_each(|v| *v = map(*v));
    drop_names(&mut frame);
    frame.merged().map(Node::Vector)
}
