//! What survives a restart: when was restored, what came of it, and whether a run was cut short.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::failure::{Failure, Reason};
use super::restore::Outcome;
use crate::collectors::schedule::Schedule;
use crate::model::Timestamp;

/// What may pass by itself is tried again after this time.
const RETRY: Duration = Duration::from_secs(3600);

/// What is kept.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Kept {
    /// When this test was first looked at, in milliseconds since 1970.
    pub since: i64,
    /// The last run.
    pub last: Option<Run>,
    /// When the last one ended that succeeded.
    pub succeeded: Option<i64>,
    /// When the run began that has not ended.
    running: Option<i64>,
    /// Whether the one before was cut short too.
    was_cut: bool,
}

/// A run.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Run {
    /// When it began, in milliseconds since 1970.
    pub began: i64,
    /// When it ended.
    pub ended: i64,
    /// What came of it.
    pub outcome: Outcome,
}

impl Kept {
    /// After a start: a run that was cut short is done again, a second one in a row has failed.
    pub fn resume(&mut self, now: Timestamp) {
        if self.since == 0 {
            self.since = now.0;
        }
        let Some(began) = self.running.take() else {
            return;
        };
        if self.was_cut {
            let failure = Failure::of(
                Reason::Interrupted,
                "nightbell ended twice before the restore did",
            );
            self.finish(Run {
                began,
                ended: now.0,
                outcome: Outcome {
                    failure: Some(failure),
                    ..Outcome::default()
                },
            });
        } else {
            self.was_cut = true;
        }
    }

    /// A run begins.
    pub fn begin(&mut self, now: Timestamp) {
        self.running = Some(now.0);
    }

    /// The run gave nothing that counts.
    pub fn forget(&mut self) {
        self.running = None;
    }

    /// A run has ended.
    pub fn finish(&mut self, run: Run) {
        (self.running, self.was_cut) = (None, false);
        if run.outcome.failure.is_none() {
            self.succeeded = Some(run.ended);
        }
        self.last = Some(run);
    }

    /// When to run next; `None`: never.
    pub fn next(&self, schedule: &Schedule) -> Option<Timestamp> {
        let Some(last) = &self.last else {
            // The first one shows that it works; a cut one is done again.
            let at_once = matches!(schedule, Schedule::Every(_)) || self.was_cut;
            return if at_once {
                Some(Timestamp(self.since))
            } else {
                schedule.after(Timestamp(self.since))
            };
        };
        let regular = schedule.after(Timestamp(last.began));
        match &last.outcome.failure {
            Some(failure) if failure.reason.is_passing() => {
                let again = Timestamp(
                    last.ended
                        .saturating_add(i64::try_from(RETRY.as_millis()).unwrap_or(i64::MAX)),
                );
                Some(regular.map_or(again, |regular| regular.min(again)))
            }
            _ => regular,
        }
    }

    /// When the next success must be there.
    pub fn due(&self, schedule: &Schedule, grace: Duration) -> Option<f64> {
        let last = Timestamp(self.succeeded.unwrap_or(self.since));
        schedule
            .after(last)
            .map(|due| due.seconds() + grace.as_secs_f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 86_400_000;

    #[test]
    fn a_run_is_due_by_schedule_sooner_after_what_may_pass_and_at_once_after_a_cut() {
        let daily = Schedule::Every(Duration::from_secs(86_400));
        let mut kept = Kept::default();
        kept.resume(Timestamp(1000));
        assert_eq!(
            kept.next(&daily),
            Some(Timestamp(1000)),
            "the first at once"
        );
        let run = |reason: Option<Reason>| Run {
            began: 2000,
            ended: 5000,
            outcome: Outcome {
                failure: reason.map(|reason| Failure::of(reason, "")),
                ..Outcome::default()
            },
        };
        kept.begin(Timestamp(2000));
        kept.resume(Timestamp(3000));
        assert_eq!(
            (kept.next(&daily), kept.last.is_none()),
            (Some(Timestamp(1000)), true),
            "again at once"
        );
        kept.begin(Timestamp(3000));
        kept.resume(Timestamp(4000));
        let failure = |kept: &Kept| {
            kept.last
                .as_ref()
                .and_then(|run| run.outcome.failure.clone())
                .map(|failure| failure.reason)
        };
        assert_eq!(
            (failure(&kept), kept.next(&daily)),
            (Some(Reason::Interrupted), Some(Timestamp(3000 + DAY)))
        );
        kept.finish(run(Some(Reason::Unreachable)));
        assert_eq!(kept.next(&daily), Some(Timestamp(5000 + 3_600_000)));
        kept.finish(run(Some(Reason::Refused)));
        assert_eq!(
            (kept.next(&daily), kept.succeeded),
            (Some(Timestamp(2000 + DAY)), None)
        );
        assert_eq!(
            kept.due(&daily, Duration::from_secs(60)),
            Some(86_400.0 + 1.0 + 60.0)
        );
        kept.finish(run(None));
        assert_eq!(
            (kept.succeeded, kept.due(&daily, Duration::ZERO)),
            (Some(5000), Some(86_405.0))
        );
    }
}
