//! Several threads for one query that reads much: each takes the next few series of a selection,
//! until there are none.
//!
//! All queries together have as many further threads as there are processors, less one: a dashboard
//! that asks thirty things at once has one thread for each of them. They inherit the low priority
//! of the thread that they are started from.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::thread::Builder;

use parking_lot::Mutex;

use super::evaluator::Evaluator;
use super::frame::{Frame, Growing};
use super::selector::continue_unless;
use crate::promql::value::EvalError;
use crate::store::{Seen, Selection, Window};

/// Most threads of one query.
const MOST: usize = 4;
/// Series that a thread takes at a time at least, and into how many pieces a selection of many is
/// cut: what is kept of each piece until the end must not add up.
const SERIES: usize = 8;
const PIECES: usize = 256;
/// Milliseconds of one series, times series, below which one thread is enough: a quarter of a
/// million samples at 15 s.
const MUCH: i64 = 250_000 * 15_000;

/// Further threads in use, of all queries.
static FURTHER: AtomicUsize = AtomicUsize::new(0);

/// Leave to use some further threads.
struct Further(usize);

impl Further {
    /// As many as are free, `wanted` at most.
    fn ask(wanted: usize) -> Self {
        static PROCESSORS: OnceLock<usize> = OnceLock::new();
        let all =
            *PROCESSORS.get_or_init(|| std::thread::available_parallelism().map_or(1, usize::from));
        let most = (all - 1).min(MOST - 1);
        let mut given = 0;
        let _ = FURTHER.fetch_update(Relaxed, Relaxed, |used| {
            given = most.saturating_sub(used).min(wanted);
            (given > 0).then_some(used + given)
        });
        Further(given)
    }
}

impl Drop for Further {
    fn drop(&mut self) {
        FURTHER.fetch_sub(self.0, Relaxed);
    }
}

/// What becomes of one series: it is added to a frame, or not.
pub(super) type Visit<'a> =
    &'a (dyn Fn(&mut Growing, usize, Window<'_>) -> Result<(), EvalError> + Sync + 'a);

impl Evaluator<'_> {
    /// Calls `visit` for every series of a selection that has samples where they are looked at, and
    /// gives the frame that it makes of them, in the order of the selection.
    pub(super) fn each_on_threads(
        &self,
        selection: &Selection,
        seen: &Seen,
        visit: Visit<'_>,
    ) -> Result<Frame, EvalError> {
        let (all, count) = (&selection.labels, self.steps.count);
        let much = seen.milliseconds().saturating_mul(all.len() as i64) >= MUCH;
        let further = Further::ask(if much {
            all.len().div_ceil(SERIES).saturating_sub(1)
        } else {
            0
        });
        if further.0 == 0 {
            let mut frame = Growing::new(self.query, all.clone(), all.len(), count)?;
            self.some(selection, 0..all.len(), seen, &mut frame, visit)?;
            return Ok(frame.finish());
        }
        let piece = all.len().div_ceil(PIECES).max(SERIES);
        let (next, failed) = (AtomicUsize::new(0), AtomicBool::new(false));
        let (parts, failure) = (Mutex::new(Vec::new()), Mutex::new(None));
        let work = || {
            while !failed.load(Relaxed) {
                let first = next.fetch_add(piece, Relaxed);
                if first >= all.len() {
                    break;
                }
                let rows = first..(first + piece).min(all.len());
                let part = Growing::new(self.query, all.clone(), rows.len(), count);
                let part = part.and_then(|mut frame| {
                    self.some(selection, rows, seen, &mut frame, visit)?;
                    Ok(frame)
                });
                match part {
                    Ok(frame) => parts.lock().push((first, frame)),
                    Err(error) => {
                        failed.store(true, Relaxed);
                        failure.lock().get_or_insert(error);
                    }
                }
            }
        };
        std::thread::scope(|scope| {
            for _ in 0..further.0 {
                // Without it the work takes longer, no more.
                let _ = Builder::new()
                    .name("query".into())
                    .spawn_scoped(scope, work);
            }
            work();
        });
        if let Some(failure) = failure.into_inner() {
            return Err(failure);
        }
        let mut parts = parts.into_inner();
        parts.sort_unstable_by_key(|(first, _)| *first);
        let found = parts.iter().map(|(_, part)| part.len()).sum();
        let mut frame = Growing::new(self.query, all.clone(), found, count)?;
        for (_, part) in parts {
            frame.append(self.query, part)?;
        }
        Ok(frame.finish())
    }

    fn some(
        &self,
        selection: &Selection,
        rows: std::ops::Range<usize>,
        seen: &Seen,
        frame: &mut Growing,
        visit: Visit<'_>,
    ) -> Result<(), EvalError> {
        let mut failure = None;
        self.query
            .store
            .read_seen(selection, rows, seen, |row, window| {
                continue_unless(visit(frame, row, window), &mut failure)
            })?;
        failure.map_or(Ok(()), Err)
    }
}
