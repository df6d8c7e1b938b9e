//! The queries that run: which they are, what the slow ones cost, and how one is stopped.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tracing::warn;

use crate::model::Timestamp;
use crate::promql::{EvalError, Evaluated, Interrupt};

/// A query that takes longer is logged.
const SLOW: Duration = Duration::from_secs(1);
/// Bytes of an expression that are shown.
const SHOWN: usize = 1024;

/// What is asked: an expression at one instant, or from a first to a last one at every step.
#[derive(Clone, Debug)]
pub struct Asked {
    /// The expression.
    pub text: String,
    /// The first instant.
    pub start: Timestamp,
    /// The last one.
    pub end: Timestamp,
    /// Between two.
    pub step: Duration,
}

/// A query that runs.
#[derive(Clone, Debug)]
pub struct Query {
    /// Unlike that of any other query of this process.
    pub id: u64,
    /// What is asked.
    pub asked: Asked,
    /// When its evaluation began.
    pub since: Instant,
    /// How long it had waited for a seat.
    pub waited: Duration,
    interrupt: Arc<Interrupt>,
}

/// The queries that run. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Running(Arc<Mutex<All>>);

#[derive(Debug, Default)]
struct All {
    queries: BTreeMap<u64, Query>,
    last: u64,
}

/// A query that runs until this is dropped.
pub struct Run {
    running: Running,
    query: Query,
}

impl Running {
    /// A query begins.
    pub fn begin(&self, mut asked: Asked, waited: Duration, interrupt: Arc<Interrupt>) -> Run {
        if asked.text.len() > SHOWN {
            asked.text.truncate(asked.text.floor_char_boundary(SHOWN));
            asked.text.push('…');
        }
        let mut all = self.0.lock();
        all.last += 1;
        let query = Query {
            id: all.last,
            asked,
            since: Instant::now(),
            waited,
            interrupt,
        };
        all.queries.insert(query.id, query.clone());
        Run {
            running: self.clone(),
            query,
        }
    }

    /// Those that run now, the oldest first.
    pub fn list(&self) -> Vec<Query> {
        self.0.lock().queries.values().cloned().collect()
    }

    /// Stops a query: its client hears that it was canceled. `false` when it does not run.
    pub fn stop(&self, id: u64) -> bool {
        let all = self.0.lock();
        let query = all.queries.get(&id);
        query.is_some_and(|query| {
            query.interrupt.cancel();
            true
        })
    }
}

impl Run {
    /// Logs what the query cost, if it was slow.
    pub fn finish(self, outcome: &Result<Evaluated, EvalError>) {
        let (took, query) = (self.query.since.elapsed(), &self.query);
        if took < SLOW {
            return;
        }
        let (samples, held, bytes) = outcome.as_ref().map_or((None, None, None), |evaluated| {
            let memory = evaluated.memory.as_ref().map(|memory| memory.bytes());
            (
                Some(evaluated.samples_read),
                Some(evaluated.samples_held),
                memory,
            )
        });
        let error = outcome.as_ref().err().map(tracing::field::display);
        warn!(
            query = query.asked.text,
            start = query.asked.start.rfc3339(),
            end = query.asked.end.rfc3339(),
            step_seconds = query.asked.step.as_secs_f64(),
            seconds = took.as_secs_f64(),
            waited_seconds = query.waited.as_secs_f64(),
            samples,
            most_samples_held = held,
            answer_bytes = bytes,
            error,
            "A query was slow."
        );
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        self.running.0.lock().queries.remove(&self.query.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_listed_while_it_runs_and_can_be_stopped() {
        let running = Running::default();
        let asked = |text: &str| Asked {
            text: text.into(),
            start: Timestamp(0),
            end: Timestamp(0),
            step: Duration::ZERO,
        };
        let interrupts = [Arc::new(Interrupt::new()), Arc::new(Interrupt::new())];
        let begin = |text, number: usize| {
            running.begin(asked(text), Duration::ZERO, Arc::clone(&interrupts[number]))
        };
        let long = "é".repeat(SHOWN);
        let (first, second) = (begin("up", 0), begin(&long, 1));
        let listed = running.list();
        assert_eq!(listed.len(), 2);
        assert_eq!(listed[0].asked.text, "up");
        assert!(listed[1].asked.text.len() <= SHOWN + '…'.len_utf8());
        assert!(running.stop(listed[1].id));
        assert_eq!(interrupts[1].check(), Err(EvalError::Canceled));
        assert_eq!(interrupts[0].check(), Ok(()));
        drop(second);
        assert!(!running.stop(listed[1].id), "it has ended");
        drop(first);
        assert!(running.list().is_empty());
    }
}
