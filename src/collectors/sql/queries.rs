//! Which queries are due, what their runs brought, and what of that is shown until the next one.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::model::{Batch, Timestamp};

use super::super::{Finding, Report};
use super::answer::Results;
use super::{Answer, Latest, METRICS, Query};

/// How long a query that failed waits at most until it is run again; each failure is a line in the
/// server's log, and a timeout costs it.
const AGAIN: Duration = Duration::from_secs(60);
/// Failures in a row from which on it waits for that long at least, and ever longer up to its
/// interval.
const STUBBORN: u32 = 4;

/// Why a query gave nothing. Both are one line without secrets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What happened.
    pub reason: String,
    /// What helps, where that is known; a `GRANT`, for example.
    pub remedy: Option<String>,
}

impl Failure {
    /// Without a remedy.
    pub fn new(reason: impl Into<String>) -> Self {
        Failure {
            reason: reason.into(),
            remedy: None,
        }
    }
}

/// One run of one query.
pub struct Run {
    /// Which.
    pub query: Arc<Query>,
    /// How long it took.
    pub took: Duration,
    /// What it gave.
    pub result: Result<Answer, Failure>,
}

/// The queries of one target.
pub struct Queries {
    collector: &'static str,
    target: String,
    list: Vec<State>,
    /// Where others look for what the queries say.
    latest: Arc<Latest>,
}

struct State {
    query: Arc<Query>,
    /// When it is due; `None` for now.
    due: Option<Instant>,
    /// When it was last run, in the order of running.
    turn: u64,
    /// Failures in a row.
    failures: u32,
    outcome: Option<Outcome>,
    /// What was last logged about it.
    logged: Option<String>,
    /// Whether its unused columns were logged.
    noted: bool,
}

/// The last run.
struct Outcome {
    took: Duration,
    /// `None` where it was not run.
    at: Option<Timestamp>,
    /// `Err(None)` while the target is away, which is logged elsewhere.
    result: Result<Results, Option<Failure>>,
}

impl Queries {
    /// Those of the target of this name.
    pub fn new(
        collector: &'static str,
        target: &str,
        queries: Vec<Query>,
        latest: Arc<Latest>,
    ) -> Self {
        for query in &queries {
            latest.expect(target, &query.name);
        }
        let state = |query| State {
            query: Arc::new(query),
            due: None,
            turn: 0,
            failures: 0,
            outcome: None,
            logged: None,
            noted: false,
        };
        Queries {
            collector,
            target: target.to_owned(),
            list: queries.into_iter().map(state).collect(),
            latest,
        }
    }

    /// Those that are to be run now; the one that has waited longest first, so that a slow one
    /// keeps no other from being run.
    pub fn due(&self) -> Vec<Arc<Query>> {
        let now = Instant::now();
        let mut due: Vec<&State> = self
            .list
            .iter()
            .filter(|state| state.due.is_none_or(|due| due <= now))
            .collect();
        due.sort_by_key(|state| state.turn);
        due.into_iter()
            .map(|state| Arc::clone(&state.query))
            .collect()
    }

    /// Takes over what was run. Queries of `due` without a run could not be run at all, for lack of
    /// time.
    pub fn finish(&mut self, due: &[Arc<Query>], runs: Vec<Run>) {
        let now = Instant::now();
        let last = self.list.iter().map(|state| state.turn).max().unwrap_or(0);
        for (number, run) in (last + 1..).zip(runs) {
            let result = run
                .result
                .and_then(|answer| run.query.results(answer).map_err(Failure::new));
            let result = result.and_then(|results| self.alone(&run.query, results));
            self.latest
                .note(&self.target, &run.query.name, result.as_ref().ok());
            let Some(state) = self
                .list
                .iter_mut()
                .find(|state| Arc::ptr_eq(&state.query, &run.query))
            else {
                continue;
            };
            state.failures = if result.is_ok() {
                0
            } else {
                state.failures.saturating_add(1)
            };
            let wait = pause(state.query.interval, state.failures);
            // A collection is a little early or late: what is due in the middle of two is due in
            // the first.
            (state.due, state.turn) = (Some(now + wait.mul_f64(0.95)), number);
            state.outcome = Some(Outcome {
                took: run.took,
                at: Some(Timestamp::now()),
                result: result.map_err(Some),
            });
        }
        for state in &mut self.list {
            if due.iter().any(|query| Arc::ptr_eq(query, &state.query)) && state.turn <= last {
                let remedy = Some(
                    "raise the collector's timeout:, or give slow queries an interval:".to_owned(),
                );
                let late = Failure {
                    reason: "the collection's time was over before its turn".to_owned(),
                    remedy,
                };
                state.outcome = Some(Outcome {
                    took: Duration::ZERO,
                    at: None,
                    result: Err(Some(late)),
                });
                state.due = None;
            }
            state.log(self.collector, &self.target);
        }
    }

    /// Whether no other query gives these metrics.
    fn alone(&self, query: &Arc<Query>, results: Results) -> Result<Results, Failure> {
        for other in self
            .list
            .iter()
            .filter(|state| !Arc::ptr_eq(&state.query, query))
        {
            let Some(Outcome {
                result: Ok(theirs), ..
            }) = &other.outcome
            else {
                continue;
            };
            if let Some(name) = results
                .batch
                .families
                .keys()
                .find(|name| theirs.batch.families.contains_key(*name))
            {
                let reason = format!(
                    "gives the metric {name}, which the query {} gives already",
                    other.query.name
                );
                return Err(Failure {
                    reason,
                    remedy: Some("give one of them another name".to_owned()),
                });
            }
        }
        Ok(results)
    }

    /// The target does not answer: nothing of before is shown, and all are due when it is back.
    pub fn lose(&mut self) {
        for state in &mut self.list {
            state.due = None;
            self.latest.note(&self.target, &state.query.name, None);
            state.outcome = Some(Outcome {
                took: Duration::ZERO,
                at: None,
                result: Err(None),
            });
        }
    }

    /// nightbell stood still during the last collection: what failed in it says nothing, and is run
    /// again.
    pub fn missed(&mut self) {
        for state in self.list.iter_mut().filter(|state| {
            state
                .outcome
                .as_ref()
                .is_some_and(|outcome| outcome.result.is_err())
        }) {
            (state.due, state.failures, state.outcome) = (None, 0, None);
        }
    }

    /// Shows the rows of the last runs, and how those fared.
    pub fn emit(&self, batch: &mut Batch) {
        let [success, duration, rows, truncated, last_run] = &METRICS;
        for (state, outcome) in self
            .list
            .iter()
            .filter_map(|state| Some((state, state.outcome.as_ref()?)))
        {
            let labels = [("query", state.query.name.as_str())];
            batch.push(
                success,
                &labels,
                f64::from(u8::from(outcome.result.is_ok())),
            );
            if let Some(at) = outcome.at {
                batch.push(duration, &labels, outcome.took.as_secs_f64());
                batch.push(last_run, &labels, at.seconds());
            }
            if let Ok(results) = &outcome.result {
                batch.push(rows, &labels, results.rows as f64);
                batch.push(truncated, &labels, f64::from(u8::from(results.truncated)));
                batch.append(results.batch.clone());
            }
        }
    }

    /// Beginnings of the names of their metrics.
    pub fn chosen(&self) -> Vec<String> {
        let queries = self.list.iter().map(|state| &state.query);
        queries
            .flat_map(|query| {
                query
                    .columns
                    .iter()
                    .filter_map(|column| column.metric.clone())
                    .chain([query.prefix.clone()])
            })
            .filter(|name| !name.is_empty())
            .collect()
    }

    /// What people who try the configuration want to know.
    pub fn report(&self, report: &mut Report) {
        for state in &self.list {
            let name = &state.query.name;
            match state.outcome.as_ref().map(|outcome| &outcome.result) {
                Some(Ok(results)) => {
                    if results.truncated {
                        let text = format!(
                            "query {name}: gives more than {} rows; those beyond are left out",
                            state.query.max_rows
                        );
                        report.findings.push(Finding {
                            failed: false,
                            text,
                        });
                    }
                    if !results.unused.is_empty() {
                        let text = format!(
                            "query {name}: text columns that are no labels are left out: {}",
                            results.unused.join(", ")
                        );
                        report.findings.push(Finding {
                            failed: false,
                            text,
                        });
                    }
                    if results.rows == 0 {
                        report.findings.push(Finding {
                            failed: false,
                            text: format!("query {name}: gives no row"),
                        });
                    }
                    report.results.append(results.batch.clone());
                }
                Some(Err(Some(failure))) => {
                    let remedy = failure
                        .remedy
                        .as_ref()
                        .map(|remedy| format!("; {remedy}"))
                        .unwrap_or_default();
                    report.findings.push(Finding {
                        failed: true,
                        text: format!("query {name}: {}{remedy}", failure.reason),
                    });
                }
                Some(Err(None)) | None => report.findings.push(Finding {
                    failed: true,
                    text: format!("query {name}: was not run"),
                }),
            }
        }
    }
}

/// How long until the next run, after so many failures in a row.
fn pause(interval: Duration, failures: u32) -> Duration {
    match failures {
        0 => interval,
        1..STUBBORN => interval.min(AGAIN),
        _ => interval
            .min(AGAIN * 2_u32.saturating_pow((failures - STUBBORN + 1).min(10)))
            .max(AGAIN),
    }
}

impl State {
    /// One line when something begins, changes or ends.
    fn log(&mut self, collector: &'static str, target: &str) {
        let query = &self.query.name;
        match self.outcome.as_ref().map(|outcome| &outcome.result) {
            Some(Err(Some(failure))) => {
                if self.logged.as_ref() != Some(&failure.reason) {
                    let (error, remedy) = (
                        &failure.reason,
                        failure.remedy.as_deref().unwrap_or_default(),
                    );
                    tracing::warn!(collector, %target, %query, %error, %remedy, "A query of the configuration failed.");
                    self.logged = Some(failure.reason.clone());
                }
            }
            Some(Ok(results)) => {
                if !results.unused.is_empty() && !self.noted {
                    let columns = results.unused.join(", ");
                    tracing::info!(collector, %target, %query, %columns, "Text columns of a query that are no labels are left out.");
                    self.noted = true;
                }
                let beyond = "more rows than max_rows";
                if results.truncated && self.logged.as_deref() != Some(beyond) {
                    let max_rows = self.query.max_rows;
                    tracing::warn!(collector, %target, %query, max_rows, "A query gives more rows than max_rows; those beyond are left out.");
                } else if !results.truncated && self.logged.is_some() {
                    tracing::info!(collector, %target, %query, "A query of the configuration works again.");
                }
                self.logged = results.truncated.then(|| beyond.to_owned());
            }
            Some(Err(None)) | None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fails_again_and_again_is_run_ever_more_seldom() {
        let of = |interval, failures| pause(Duration::from_secs(interval), failures).as_secs();
        assert_eq!(
            [0, 1, 3, 4, 9, 99].map(|failures| of(0, failures)),
            [0, 0, 0, 60, 60, 60]
        );
        assert_eq!(
            [0, 1, 3, 4, 5, 9, u32::MAX].map(|failures| of(3600, failures)),
            [3600, 60, 60, 120, 240, 3600, 3600]
        );
        assert_eq!([0, 1, 4].map(|failures| of(20, failures)), [20, 20, 60]);
    }
}
