//! Functions of time: the evaluation's, a sample's, and the parts of a date in UTC.

use super::{Body, Function, Variadic, row};
use crate::promql::eval::evaluator::{Evaluator, drop_names};
use crate::promql::eval::frame::{Node, is_absent};
use crate::promql::syntax::ast::ValueType::Vector;
use crate::promql::syntax::ast::{Call, Expr};
use crate::promql::value::EvalError;

/// The functions of this family.
pub(super) static FAMILY: &[Function] = &[
    row(
        "day_of_month",
        &[Vector],
        Body::Special(day_of_month),
        "Day of the month in UTC, 1 to 31.",
    )
    .variadic(Variadic::UpTo(1)),
    row(
        "day_of_week",
        &[Vector],
        Body::Special(day_of_week),
        "Day of the week in UTC, 0 is Sunday.",
    )
    .variadic(Variadic::UpTo(1)),
    row(
        "day_of_year",
        &[Vector],
        Body::Special(day_of_year),
        "Day of the year in UTC, 1 to 366.",
    )
    .variadic(Variadic::UpTo(1)),
    row(
        "days_in_month",
        &[Vector],
        Body::Special(days_in_month),
        "Days of the month in UTC, 28 to 31.",
    )
    .variadic(Variadic::UpTo(1)),
    row(
        "hour",
        &[Vector],
        Body::Special(hour),
        "Hour of the day in UTC, 0 to 23.",
    )
    .variadic(Variadic::UpTo(1)),
    row(
        "minute",
        &[Vector],
        Body::Special(minute),
        "Minute of the hour in UTC, 0 to 59.",
    )
    .variadic(Variadic::UpTo(1)),
    row(
        "month",
        &[Vector],
        Body::Special(month),
        "Month of the year in UTC, 1 to 12.",
    )
    .variadic(Variadic::UpTo(1)),
    row(
        "time",
        &[],
        Body::Special(time),
        "Unix seconds of the evaluation.",
    )
    .scalar(),
    row(
        "timestamp",
        &[Vector],
        Body::Special(timestamp),
        "Unix seconds of each sample.",
    ),
    row("year", &[Vector], Body::Special(year), "Year in UTC.").variadic(Variadic::UpTo(1)),
];

fn time(evaluator: &Evaluator<'_>, _: &Call) -> Result<Node, EvalError> {
    Ok(Node::Scalar(
        evaluator
            .steps
            .iter()
            .map(|at| at as f64 / 1000.0)
            .collect(),
    ))
}

fn timestamp(evaluator: &Evaluator<'_>, call: &Call) -> Result<Node, EvalError> {
    let mut frame = match call.args[0].without_parens() {
        // Only a selector itself shows when its samples were taken.
        Expr::VectorSelector(selector) => {
            evaluator.select_with(selector, |time, _| time as f64 / 1000.0)?
        }
        other => {
            let mut frame = evaluator.vector(other)?;
            for row in 0..frame.rows.len() {
                for (value, at) in frame
                    .row_mut(row)
                    .iter_mut()
                    .zip(evaluator.steps.iter())
                    .filter(|(v, _)| !is_absent(**v))
                {
                    *value = at as f64 / 1000.0;
                }
            }
            frame
        }
    };
    drop_names(&mut frame);
    frame.merged().map(Node::Vector)
}

/// A day of the proleptic Gregorian calendar.
struct Day {
    /// Days since the Unix epoch.
    number: i128,
    year: i128,
    month: i128,
    day: i128,
}

impl Day {
    /// The day of an instant, by Howard Hinnant's `civil_from_days`
    /// (<https://howardhinnant.github.io/date_algorithms.html>).
    fn of(seconds: i128) -> Day {
        let number = seconds.div_euclid(86_400);
        let shifted = number + 719_468;
        let era = shifted.div_euclid(146_097);
        let day_of_era = shifted.rem_euclid(146_097);
        let year_of_era =
            (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted_month = (5 * day_of_year + 2) / 153;
        let month = if shifted_month < 10 {
            shifted_month + 3
        } else {
            shifted_month - 9
        };
        let year = year_of_era + era * 400 + i128::from(month <= 2);
        Day {
            number,
            year,
            month,
            day: day_of_year - (153 * shifted_month + 2) / 5 + 1,
        }
    }

    fn is_leap_year(&self) -> bool {
        self.year % 4 == 0 && (self.year % 100 != 0 || self.year % 400 == 0)
    }

    fn days_in_month(&self) -> i128 {
        match self.month {
            2 => 28 + i128::from(self.is_leap_year()),
            4 | 6 | 9 | 11 => 30,
            _ => 31,
        }
    }

    fn day_of_year(&self) -> i128 {
        const BEFORE: [i128; 12] = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334];
        let month = usize::try_from(self.month - 1).unwrap_or(0);
        BEFORE[month] + self.day + i128::from(month > 1 && self.is_leap_year())
    }
}

/// Whole seconds as Go's `time` counts them: in 64 bits from a far past, NaN and what does not fit
/// being the least number.
fn whole_seconds(value: f64) -> i128 {
    const FROM_FAR_PAST: i64 = 9_223_372_028_715_321_600;
    let seconds = if value >= i64::MIN as f64 && value < i64::MAX as f64 {
        value as i64
    } else {
        i64::MIN
    };
    i128::from(seconds.wrapping_add(FROM_FAR_PAST) as u64) - i128::from(FROM_FAR_PAST)
}

fn date(
    evaluator: &Evaluator<'_>,
    call: &Call,
    part: impl Fn(i128) -> i128,
) -> Result<Node, EvalError> {
    if call.args.is_empty() {
        return Ok(Node::Vector(
            evaluator.per_step(|at| Some(part(i128::from(at / 1000)) as f64)),
        ));
    }
    super::map_values(evaluator, call, |value| part(whole_seconds(value)) as f64)
}

fn minute(evaluator: &Evaluator<'_>, call: &Call) -> Result<Node, EvalError> {
    date(evaluator, call, |seconds| {
        seconds.div_euclid(60).rem_euclid(60)
    })
}

fn hour(evaluator: &Evaluator<'_>, call: &Call) -> Result<Node, EvalError> {
    date(evaluator, call, |seconds| {
        seconds.div_euclid(3600).rem_euclid(24)
    })
}

fn day_of_week(evaluator: &Evaluator<'_>, call: &Call) -> Result<Node, EvalError> {
    // The epoch was a Thursday.
    date(evaluator, call, |seconds| {
        (Day::of(seconds).number + 4).rem_euclid(7)
    })
}

fn day_of_month(evaluator: &Evaluator<'_>, call: &Call) -> Result<Node, EvalError> {
    date(evaluator, call, |seconds| Day::of(seconds).day)
}

fn day_of_year(evaluator: &Evaluator<'_>, call: &Call) -> Result<Node, EvalError> {
    date(evaluator, call, |seconds| Day::of(seconds).day_of_year())
}

fn days_in_month(evaluator: &Evaluator<'_>, call: &Call) -> Result<Node, EvalError> {
    date(evaluator, call, |seconds| Day::of(seconds).days_in_month())
}

fn month(evaluator: &Evaluator<'_>, call: &Call) -> Result<Node, EvalError> {
    date(evaluator, call, |seconds| Day::of(seconds).month)
}

fn year(evaluator: &Evaluator<'_>, call: &Call) -> Result<Node, EvalError> {
    date(evaluator, call, |seconds| Day::of(seconds).year)
}
