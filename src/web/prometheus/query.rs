//! `/query`, `/query_range`, `/query_exemplars`, `/format_query`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::State;
use axum::routing::get;
use serde_json::{Value as Json, json};

use crate::model::Timestamp;
use crate::model::time::millis;
use crate::promql::{Engine, EvalError, Evaluated, Expr, Interrupt};
use crate::store::Store;

use super::super::Context;
use super::answer::{Answer, Problem};
use super::parameters::Parameters;

/// Most points of one series in an answer, less one (SEMANTICS 200).
const MAX_RESOLUTION: i64 = 11_000;
/// Deadline of a query that names none.
const TIMEOUT: Duration = Duration::from_secs(120);

/// The routes of this file.
pub fn routes() -> Router<Context> {
    Router::new()
        .route("/query", get(instant).post(instant))
        .route("/query_range", get(range).post(range))
        .route("/query_exemplars", get(exemplars).post(exemplars))
        .route("/format_query", get(format).post(format))
}

/// A query that ends when the client goes away: dropping it interrupts the evaluation.
struct Guard(Arc<Interrupt>);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

/// Evaluates and writes the answer, of times up to `at`, off the runtime's threads, a bounded number at once, within the deadline.
async fn evaluate(
    context: &Context,
    parameters: &Parameters,
    (text, at): (&str, Timestamp),
    run: impl FnOnce(&Engine, &Store) -> Result<Evaluated, EvalError> + Send + 'static,
) -> Result<Answer, Problem> {
    let asked = Instant::now();
    let limit = parameters.limit()?;
    let timeout = parameters.duration("timeout")?.unwrap_or(TIMEOUT).min(TIMEOUT);
    if timeout.is_zero() {
        return Err(Problem::parameter("query", "context deadline exceeded"));
    }
    let interrupt = Arc::new(Interrupt::default());
    let mut engine = context.engine.clone();
    engine.interrupt = Some(interrupt.clone());
    if let Some(lookback) = parameters.lookback()? {
        engine.lookback = lookback;
    }
    let guard = Guard(interrupt.clone());
    let permit = context.queries.clone().acquire_owned().await.map_err(|_| Problem::internal("nightbell is stopping"))?;
    let store = context.store.clone();
    let (text, wants_stats) = (text.to_owned(), parameters.get("stats").is_some_and(|stats| !stats.is_empty()));
    let mut work = tokio::task::spawn_blocking(move || {
        let _permit = permit;
        let begun = Instant::now();
        let evaluated = run(&engine, &store)?;
        let stats = wants_stats.then(|| stats(&evaluated, begun - asked, begun.elapsed()));
        let answer = Answer::evaluated(evaluated, &text, at, limit);
        Ok::<_, EvalError>(stats.into_iter().fold(answer, |answer, stats| answer.with_stats(&stats)))
    });
    let done = match tokio::time::timeout(timeout, &mut work).await {
        Ok(done) => done,
        Err(_) => {
            interrupt.time_out();
            work.await
        }
    };
    drop(guard);
    Ok(done.map_err(|_| Problem::internal("the evaluation panicked"))??)
}

/// What `stats` asks for, in Prometheus's words; what is not told apart here counts as evaluation.
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

async fn instant(State(context): State<Context>, parameters: Parameters) -> Result<Answer, Problem> {
    parameters.limit()?;
    let at = parameters.query_time("time")?.unwrap_or_else(Timestamp::now);
    let (text, expr) = parameters.query()?;
    evaluate(&context, &parameters, (text, at), move |engine, store| engine.instant(store, &expr, at)).await
}

async fn range(State(context): State<Context>, parameters: Parameters) -> Result<Answer, Problem> {
    parameters.limit()?;
    let (start, end) = (parameters.range_time("start")?, parameters.range_time("end")?);
    if end < start {
        return Err(Problem::parameter("end", "end timestamp must not be before start time"));
    }
    let step = parameters.duration("step")?.ok_or_else(|| Problem::parameter("step", "cannot parse \"\" to a valid duration"))?;
    if millis(step) <= 0 {
        return Err(Problem::parameter("step", "zero or negative query resolution step widths are not accepted. Try a positive integer"));
    }
    if (end.0 - start.0) / millis(step) > MAX_RESOLUTION {
        return Err(Problem::bad_data(
            "exceeded maximum resolution of 11,000 points per timeseries. Try decreasing the query resolution (?step=XX)",
        ));
    }
    let (text, expr) = parameters.query()?;
    evaluate(&context, &parameters, (text, end), move |engine, store| engine.range(store, &expr, start, end, step)).await
}

/// Exemplars are read and not kept: none are found.
async fn exemplars(parameters: Parameters) -> Result<Answer, Problem> {
    let (start, end) = (parameters.time("start")?, parameters.time("end")?);
    if let (Some(start), Some(end)) = (start, end)
        && end < start
    {
        return Err(Problem::bad_data("end timestamp must not be before start timestamp"));
    }
    crate::promql::parse(parameters.get("query").unwrap_or("")).map_err(|e| Problem::bad_data(e.to_string()))?;
    Ok(Answer::json(&Json::Array(Vec::new())))
}

async fn format(parameters: Parameters) -> Result<Answer, Problem> {
    let (_, expr): (_, Expr) = parameters.query()?;
    Ok(Answer::json(&Json::from(expr.to_string())))
}
