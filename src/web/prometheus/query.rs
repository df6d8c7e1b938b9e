//! `/query`, `/query_range`, `/query_exemplars`, `/format_query`.

use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::State;
use axum::routing::get;
use serde_json::{Value as Json, json};

use crate::model::time::millis;
use crate::model::{Holder, Reservation, Timestamp};
use crate::promql::{Engine, EvalError, Evaluated, Expr, Memory};
use crate::store::Store;

use super::super::Context;
use super::super::running::Asked;
use super::super::seats::Seat;
use super::answer::{Answer, Problem};
use super::parameters::Parameters;

/// Most points of one series in an answer, less one (SEMANTICS 200).
const MAX_RESOLUTION: i64 = 11_000;

/// The routes of this file that evaluate an expression.
pub fn routes() -> Router<Context> {
    Router::new()
        .route("/query", get(instant).post(instant))
        .route("/query_range", get(range).post(range))
}

/// Those that only read one.
pub fn lookups() -> Router<Context> {
    Router::new()
        .route("/query_exemplars", get(exemplars).post(exemplars))
        .route("/format_query", get(format).post(format))
}

/// About what an expression takes in memory once it is read, for each byte of its text: what stands
/// in quotes is copied a few times, everything else becomes nodes of a tree.
const QUOTED_BYTE: usize = 4;
const OTHER_BYTE: usize = 32;

/// About the memory of an expression, in bytes. The text need not be one.
fn read_size(text: &str) -> usize {
    let (mut inside, mut is_escaped, mut quoted) = (None, false, 0);
    for byte in text.bytes() {
        match inside {
            Some(quote) => {
                quoted += 1;
                let is_end = byte == quote && !is_escaped;
                is_escaped = byte == b'\\' && !is_escaped && !matches!(quote, b'`' | b'\n');
                inside = (!is_end).then_some(quote);
            }
            // A comment ends with its line.
            None if byte == b'#' => inside = Some(b'\n'),
            None if matches!(byte, b'"' | b'\'' | b'`') => inside = Some(byte),
            None => {}
        }
    }
    quoted * QUOTED_BYTE + (text.len() - quoted) * OTHER_BYTE
}

/// Evaluates the query of the request within the deadline of its seat, from a first instant to a
/// last one at every step.
fn evaluate(
    context: &Context,
    seat: &Seat,
    parameters: &Parameters,
    (start, end, step): (Timestamp, Timestamp, Duration),
    run: impl Fn(&Engine, &Store, &Expr) -> Result<Evaluated, EvalError>,
) -> Result<Answer, Problem> {
    let limit = parameters.limit()?;
    if parameters
        .get("timeout")
        .is_some_and(|timeout| timeout.starts_with('-'))
    {
        parameters.duration("timeout")?;
        return Err(EvalError::TimedOut.into());
    }
    if parameters
        .duration("timeout")?
        .is_some_and(|timeout| timeout.is_zero())
    {
        return Err(Problem::parameter("query", "context deadline exceeded"));
    }
    let (text, expr, _held) = read(seat, parameters)?;
    let mut engine = context.engine.clone();
    engine.interrupt = Some(seat.interrupt.clone());
    engine.memory = Some(Memory::new(context.budget.clone(), Holder::Queries));
    // A selection is kept only for as long as dashboards use it: one-off queries must not fill the
    // memory.
    engine.keeps_selections = false;
    if let Some(lookback) = parameters.lookback()? {
        engine.lookback = lookback;
    }
    let begun = Instant::now();
    let asked = Asked {
        text: text.to_owned(),
        start,
        end,
        step,
    };
    let running = context
        .running
        .begin(asked, seat.waited, seat.interrupt.clone());
    let outcome = seat.evaluate(|| match run(&engine, &context.store, &expr) {
        // What is kept of blocks is there for queries, not in their way.
        Err(EvalError::NoMemory(_)) if context.store.let_go() => {
            run(&engine, &context.store, &expr)
        }
        outcome => outcome,
    });
    running.finish(&outcome);
    let evaluated = outcome?;
    let wants_stats = parameters
        .get("stats")
        .is_some_and(|stats| !stats.is_empty());
    let stats = wants_stats.then(|| stats(&evaluated, seat.waited, begun.elapsed()));
    let answer = Answer::evaluated(evaluated, text, end, limit);
    Ok(stats.into_iter().fold(answer, Answer::with_stats))
}

/// The expression of a request, and the memory that it is counted with.
pub(super) fn read<'a>(
    seat: &Seat,
    parameters: &'a Parameters,
) -> Result<(&'a str, Expr, Reservation), Problem> {
    let text = parameters.get("query").unwrap_or("");
    let held = seat.reserve(read_size(text))?;
    parameters.query().map(|(text, expr)| (text, expr, held))
}

/// What `stats` asks for, in Prometheus's words; what is not distinguished here counts as
/// evaluation.
fn stats(evaluated: &Evaluated, waited: Duration, took: Duration) -> Json {
    let (waited, took) = (waited.as_secs_f64(), took.as_secs_f64());
    json!({
        "timings": {
            "evalTotalTime": took, "resultSortTime": 0, "queryPreparationTime": 0, "innerEvalTime": took, "execQueueTime": waited,
            "execTotalTime": waited + took,
        },
        "samples": { "totalQueryableSamples": evaluated.samples_read, "peakSamples": evaluated.samples_held },
    })
}

async fn instant(
    State(context): State<Context>,
    seat: Seat,
    parameters: Parameters,
) -> Result<Answer, Problem> {
    parameters.limit()?;
    let at = parameters
        .query_time("time")?
        .unwrap_or_else(Timestamp::now);
    let asked = (at, at, Duration::ZERO);
    evaluate(
        &context,
        &seat,
        &parameters,
        asked,
        |engine, store, expr| engine.instant(store, expr, at),
    )
}

async fn range(
    State(context): State<Context>,
    seat: Seat,
    parameters: Parameters,
) -> Result<Answer, Problem> {
    parameters.limit()?;
    let (start, end) = (
        parameters.range_time("start")?,
        parameters.range_time("end")?,
    );
    if end < start {
        return Err(Problem::parameter(
            "end",
            "end timestamp must not be before start time",
        ));
    }
    let step = parameters
        .duration("step")?
        .ok_or_else(|| Problem::parameter("step", "cannot parse \"\" to a valid duration"))?;
    if step.is_zero() {
        return Err(Problem::parameter(
            "step",
            "zero or negative query resolution step widths are not accepted. Try a positive integer",
        ));
    }
    // A step below a millisecond is too fine for any range, as it is for Prometheus.
    if millis(step) <= 0 || (end.0.saturating_sub(start.0)) / millis(step) > MAX_RESOLUTION {
        return Err(Problem::bad_data(
            "exceeded maximum resolution of 11,000 points per timeseries. Try decreasing the query resolution (?step=XX)",
        ));
    }
    let asked = (start, end, step);
    evaluate(
        &context,
        &seat,
        &parameters,
        asked,
        |engine, store, expr| engine.range(store, expr, start, end, step),
    )
}

/// Exemplars are read and not kept: none are found.
async fn exemplars(seat: Seat, parameters: Parameters) -> Result<Answer, Problem> {
    let (start, end) = (parameters.time("start")?, parameters.time("end")?);
    if let (Some(start), Some(end)) = (start, end)
        && end < start
    {
        return Err(Problem::bad_data(
            "end timestamp must not be before start timestamp",
        ));
    }
    let _held = seat.reserve(read_size(parameters.get("query").unwrap_or("")))?;
    crate::promql::parse(parameters.get("query").unwrap_or(""))
        .map_err(|e| Problem::bad_data(e.to_string()))?;
    Ok(Answer::json(&Json::Array(Vec::new())))
}

async fn format(seat: Seat, parameters: Parameters) -> Result<Answer, Problem> {
    let (_, expr, _held) = read(&seat, &parameters)?;
    Ok(Answer::json(&Json::from(expr.to_string())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_in_quotes_and_comments_takes_less_memory_than_operators() {
        assert_eq!(read_size("a + b"), 5 * OTHER_BYTE);
        assert_eq!(read_size(r#"{a="b\"c"}"#), 5 * OTHER_BYTE + 5 * QUOTED_BYTE);
        assert_eq!(
            read_size("# it's\n1+1"),
            OTHER_BYTE + 6 * QUOTED_BYTE + 3 * OTHER_BYTE
        );
    }
}
