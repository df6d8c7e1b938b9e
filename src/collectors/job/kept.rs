//! What is known of a job's runs, and what follows from it: pure, and kept across restarts.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::collectors::log_file::reader::Totals;
use crate::collectors::schedule::Schedule;
use crate::model::Timestamp;

use super::process::Process;
use super::report::{Event, Report};
use super::settings::Settings;

/// Runs under way at most, and ended ones whose ids are known.
const MAX_OPEN: usize = 100;
const MAX_DONE: usize = 200;
/// Missed times that are counted.
const MAX_MISSED: u32 = 100;
/// A time that lies further ahead is not believed, in milliseconds.
const AHEAD: i64 = 60_000;
/// A report may be so old, in milliseconds: 30 days.
const OLDEST: i64 = 30 * 86_400_000;
/// So long after its process has gone a run may still report its end, in milliseconds.
const VANISHED: i64 = 60_000;

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Well.
    Success,
    /// With an exit status other than 0, or a line that says so.
    Failed,
    /// Stopped because it took too long.
    Timeout,
    /// Its process has gone without a word.
    Lost,
    /// It was not begun because another one was under way.
    Skipped,
}

impl Outcome {
    /// All there are, in the order of [`Kept::runs`].
    pub const ALL: [Outcome; 5] = [
        Outcome::Success,
        Outcome::Failed,
        Outcome::Timeout,
        Outcome::Lost,
        Outcome::Skipped,
    ];

    /// The value of the label `result`.
    pub fn as_str(self) -> &'static str {
        match self {
            Outcome::Success => "success",
            Outcome::Failed => "failed",
            Outcome::Timeout => "timeout",
            Outcome::Lost => "lost",
            Outcome::Skipped => "skipped",
        }
    }
}

/// A run under way.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Run {
    id: String,
    /// Unix milliseconds.
    pub started: i64,
    /// Its process, where it said which.
    pub process: Option<Process>,
    /// Since when that is gone.
    vanished: Option<i64>,
}

/// How a run ended, and when.
#[derive(Clone, Copy, Debug)]
pub struct Ended {
    /// How.
    pub outcome: Outcome,
    /// When, Unix milliseconds.
    pub at: i64,
    /// How long it took, in seconds.
    pub duration: Option<f64>,
    /// Its exit status.
    pub exit_code: Option<i32>,
}

/// All that is known of a job. Times are Unix milliseconds.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Kept {
    /// When the job was first looked at.
    since: i64,
    /// When it was last looked at.
    looked: i64,
    /// Since when it has been looked at without a gap.
    awake: i64,
    /// Whether it was overdue then.
    pub is_overdue: bool,
    /// The last success.
    pub success: Option<i64>,
    /// The last failure.
    pub failure: Option<i64>,
    /// The end of the last run.
    pub end: Option<i64>,
    /// Whether it was a success.
    pub is_success: bool,
    /// How long it took, in seconds.
    pub duration: Option<f64>,
    /// Its exit status.
    pub exit_code: Option<i32>,
    /// Ended runs by outcome.
    pub runs: [u64; 5],
    /// Runs that began while another one was under way.
    pub overlaps: u64,
    /// Runs under way, oldest first.
    pub open: Vec<Run>,
    /// Ids of runs that have ended, so that none counts twice.
    done: Vec<String>,
    /// The modification that was seen last, in nanoseconds.
    pub modified: i64,
    /// The push that was seen last.
    pub pushed: i64,
    /// Of the reading of a log.
    pub totals: Totals,
    #[serde(skip)]
    plan: Option<Plan>,
}

/// The times that follow from the last success.
#[derive(Clone, Copy, Debug)]
struct Plan {
    last: Timestamp,
    /// When the next run ought to be; `None` when the schedule names no time.
    time: Option<Timestamp>,
    grace: Duration,
    /// The first time that has not passed, grace included, and how many have.
    upcoming: Option<Timestamp>,
    missed: u32,
}

/// What the schedule makes of it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Due {
    /// By when the next success must be there, grace included.
    pub at: Option<Timestamp>,
    /// Whether that is over.
    pub is_overdue: bool,
    /// How many times of the schedule passed without a success.
    pub missed: u32,
}

impl Kept {
    /// Takes a report. False when it says nothing new.
    pub fn report(&mut self, report: &Report, now: Timestamp) -> bool {
        let id = report.id.clone().unwrap_or_default();
        let is_done = !id.is_empty() && self.done.contains(&id);
        let time = |seconds: Option<f64>| {
            seconds
                .filter(|s| s.is_finite())
                .map(|s| ((s * 1000.0).round() as i64).clamp(now.0 - OLDEST, now.0))
        };
        match report.event {
            Event::Start => {
                if is_done || (!id.is_empty() && self.open.iter().any(|run| run.id == id)) {
                    return false;
                }
                self.overlaps += u64::from(!self.open.is_empty());
                self.open.push(Run {
                    id,
                    started: time(report.started_at).unwrap_or(now.0),
                    process: report.process.clone(),
                    vanished: None,
                });
                let surplus = self.open.len().saturating_sub(MAX_OPEN);
                self.open.drain(..surplus);
            }
            Event::Finish => {
                if is_done {
                    return false;
                }
                let at = time(report.ended_at).unwrap_or(now.0);
                let index = self.open.iter().rposition(|run| run.id == id);
                let begun = index.map(|index| self.open.remove(index));
                let started = time(report.started_at).or(begun.as_ref().map(|run| run.started));
                // The report of its beginning may have been lost.
                let met_another =
                    |started| !self.open.is_empty() || self.end.is_some_and(|end| started < end);
                self.overlaps += u64::from(begun.is_none() && started.is_some_and(met_another));
                let took = started.map(|started| (at - started).max(0) as f64 / 1000.0);
                let duration = report
                    .duration_seconds
                    .filter(|d| d.is_finite() && *d >= 0.0)
                    .or(took);
                let outcome = match report.exit_code {
                    _ if report.timed_out => Outcome::Timeout,
                    None | Some(0) => Outcome::Success,
                    Some(_) => Outcome::Failed,
                };
                self.ended(Ended {
                    outcome,
                    at,
                    duration,
                    exit_code: Some(report.exit_code.unwrap_or(0)),
                });
                self.remember(id);
            }
            Event::Skip => {
                if is_done {
                    return false;
                }
                self.runs[Outcome::Skipped as usize] += 1;
                self.remember(id);
            }
        }
        true
    }

    /// Notes the end of a run. One that is older than what is known changes only the counts.
    pub fn ended(&mut self, run: Ended) {
        self.runs[run.outcome as usize] += 1;
        let is_success = run.outcome == Outcome::Success;
        let last = if is_success {
            &mut self.success
        } else {
            &mut self.failure
        };
        *last = (*last).max(Some(run.at));
        if Some(run.at) >= self.end {
            self.end = Some(run.at);
            (self.is_success, self.duration, self.exit_code) =
                (is_success, run.duration, run.exit_code);
        }
    }

    fn remember(&mut self, id: String) {
        if !id.is_empty() {
            self.done.push(id);
            let surplus = self.done.len().saturating_sub(MAX_DONE);
            self.done.drain(..surplus);
        }
    }

    /// Ends runs whose processes have gone without a word. True when there was one.
    pub fn end_lost(&mut self, now: Timestamp, is_gone: impl Fn(&Process) -> bool) -> bool {
        let mut lost = Vec::new();
        self.open.retain_mut(|run| {
            if !run.process.as_ref().is_some_and(&is_gone) {
                run.vanished = None;
                return true;
            }
            let since = *run.vanished.get_or_insert(now.0);
            let is_lost = now.0 - since >= VANISHED;
            if is_lost {
                lost.push((run.started, since));
            }
            !is_lost
        });
        for (started, at) in &lost {
            let duration = Some((at - started).max(0) as f64 / 1000.0);
            self.ended(Ended {
                outcome: Outcome::Lost,
                at: *at,
                duration,
                exit_code: None,
            });
        }
        !lost.is_empty()
    }

    /// Looks at the clock: when nobody looked for a while, a run that ought to have been meanwhile
    /// has its grace once more.
    pub fn look(&mut self, now: Timestamp, interval: Duration) {
        if self.since == 0 {
            (self.since, self.awake) = (now.0, now.0);
        } else if now.0 - self.looked
            > i64::try_from(interval.as_millis())
                .unwrap_or(i64::MAX)
                .saturating_mul(3)
                .max(AHEAD)
            && !self.is_overdue
        {
            self.awake = now.0;
        }
        self.looked = now.0;
        // The clock was set back: what lies ahead happened by now.
        self.since = self.since.min(now.0);
        self.awake = self.awake.min(now.0);
        for time in [&mut self.success, &mut self.failure, &mut self.end]
            .into_iter()
            .flatten()
        {
            if *time > now.0 + AHEAD {
                *time = now.0;
            }
        }
    }

    /// When the job was last looked at.
    pub fn looked(&self) -> Timestamp {
        Timestamp(self.looked)
    }

    /// What the schedule says now.
    pub fn due(&mut self, settings: &Settings, now: Timestamp) -> Due {
        let Some(schedule) = &settings.schedule else {
            return Due::default();
        };
        let last = Timestamp(self.success.unwrap_or(self.since));
        if self.plan.as_ref().is_none_or(|plan| plan.last != last) {
            self.plan = Some(Plan::after(last, schedule, settings));
        }
        let Some(Plan {
            time: Some(time),
            grace,
            upcoming,
            missed,
            ..
        }) = &mut self.plan
        else {
            self.is_overdue = false;
            return Due::default();
        };
        let at = *time + *grace;
        let is_awake = now > Timestamp(self.awake) + *grace;
        self.is_overdue = now > at && (self.is_overdue || is_awake);
        while let Some(next) = upcoming.filter(|next| now > *next + *grace && *missed < MAX_MISSED)
        {
            *missed += 1;
            *upcoming = schedule.after(next);
        }
        Due {
            at: Some(at),
            is_overdue: self.is_overdue,
            missed: if self.is_overdue { *missed } else { 0 },
        }
    }
}

impl Plan {
    fn after(last: Timestamp, schedule: &Schedule, settings: &Settings) -> Self {
        let time = next(schedule, last);
        let between = time.and_then(|time| Some(schedule.after(time)?.since(time)));
        Plan {
            last,
            time,
            grace: settings.grace(between.unwrap_or(Duration::MAX)),
            upcoming: time,
            missed: 0,
        }
    }
}

/// The time of the schedule after a run that ended at `last`. A run that ends shortly before a
/// time, by clocks that differ, is that time's.
fn next(schedule: &Schedule, last: Timestamp) -> Option<Timestamp> {
    let first = schedule.after(last)?;
    let Schedule::At(..) = schedule else {
        return Some(first);
    };
    let Some(second) = schedule.after(first) else {
        return Some(first);
    };
    let skew = (second.since(first) / 4).min(Duration::from_secs(30));
    Some(if first.since(last) < skew {
        second
    } else {
        first
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::{Document, Environment, Loader};

    const MINUTE: i64 = 60_000;
    const HOUR: i64 = 60 * MINUTE;
    const INTERVAL: Duration = Duration::from_secs(15);

    fn settings(yaml: &str) -> Settings {
        let document = Document::parse("nightbell.yml", yaml).expect("YAML");
        let environment = Environment::default();
        let loader = Loader::new(&document, &environment, Path::new("."));
        let settings = Settings::read(&loader.root());
        loader
            .finish(settings)
            .unwrap_or_else(|errors| panic!("{errors}"))
    }

    fn at(text: &str) -> Timestamp {
        Timestamp::parse_rfc3339(text).expect(text)
    }

    fn success(at: Timestamp) -> Ended {
        Ended {
            outcome: Outcome::Success,
            at: at.0,
            duration: None,
            exit_code: None,
        }
    }

    /// Looks every interval until then; the first instant at which it was overdue.
    fn overdue_from(
        kept: &mut Kept,
        settings: &Settings,
        mut now: Timestamp,
        until: Timestamp,
    ) -> Option<Timestamp> {
        let mut since = None;
        while now <= until {
            kept.look(now, INTERVAL);
            if kept.due(settings, now).is_overdue {
                since.get_or_insert(now);
            }
            now = now + INTERVAL;
        }
        since
    }

    /// The minute at which a job that ended well at `last` is late.
    fn late(yaml: &str, last: &str) -> String {
        let (settings, last) = (settings(yaml), at(last));
        let mut kept = Kept::default();
        kept.look(last, INTERVAL);
        kept.ended(success(last));
        let since = overdue_from(
            &mut kept,
            &settings,
            last,
            last + Duration::from_secs(3 * 86_400),
        )
        .expect("late at some time");
        Timestamp(since.0 - since.0 % MINUTE).rfc3339()
    }

    #[test]
    fn a_job_is_overdue_when_time_and_grace_are_over_also_across_summer_time() {
        let berlin = |schedule: &str| {
            format!("schedule: '{schedule}'\ntimezone: Europe/Berlin\ngrace: 10m\n")
        };
        for (yaml, last, from) in [
            (
                "every: 1h\ngrace: 10m\n",
                "2026-11-30T12:00:00Z",
                "2026-11-30T13:10:00Z",
            ),
            (
                "every: 1h\n",
                "2026-11-30T12:00:00Z",
                "2026-11-30T13:12:00Z",
            ),
            (
                "schedule: '0 2 * * *'\ntimezone: UTC\n",
                "2026-11-30T02:05:00Z",
                "2026-12-01T03:00:00Z",
            ),
            (
                "schedule: '*/10 * * * *'\ntimezone: UTC\n",
                "2026-11-30T02:05:00Z",
                "2026-11-30T02:12:00Z",
            ),
            // By clocks that differ: it is the run of 03:00.
            (
                "schedule: '0 * * * *'\ntimezone: UTC\ngrace: 10m\n",
                "2026-11-30T02:59:50Z",
                "2026-11-30T04:10:00Z",
            ),
            (
                "schedule: '* * * * *'\ntimezone: UTC\n",
                "2026-11-30T02:59:05Z",
                "2026-11-30T03:01:00Z",
            ),
            // Winter ends: 02:30 is 03:30. Summer ends: it comes twice, and counts once; every hour
            // counts twice.
            (
                &berlin("30 2 * * *"),
                "2026-03-28T01:31:00Z",
                "2026-03-29T01:40:00Z",
            ),
            (
                &berlin("30 2 * * *"),
                "2026-10-24T00:31:00Z",
                "2026-10-25T00:40:00Z",
            ),
            (
                &berlin("30 2 * * *"),
                "2026-10-25T00:31:00Z",
                "2026-10-26T01:40:00Z",
            ),
            (
                &berlin("0 * * * *"),
                "2026-10-25T00:01:00Z",
                "2026-10-25T01:10:00Z",
            ),
        ] {
            assert_eq!(
                late(yaml, last),
                from.replace('Z', ".000Z"),
                "{yaml} {last}"
            );
        }
    }

    #[test]
    fn a_first_start_gives_the_job_its_time_and_an_old_run_its_grace() {
        let settings = settings("every: 1h\ngrace: 10m\n");
        let start = at("2026-11-30T12:00:00Z");
        let mut kept = Kept::default();
        let since =
            overdue_from(&mut kept, &settings, start, Timestamp(start.0 + 3 * HOUR)).expect("late");
        assert_eq!(since.0 - start.0, 70 * MINUTE + 15_000, "never ran");
        let mut kept = Kept::default();
        kept.ended(success(Timestamp(start.0 - 100 * HOUR)));
        let since =
            overdue_from(&mut kept, &settings, start, Timestamp(start.0 + 3 * HOUR)).expect("late");
        assert_eq!(since.0 - start.0, 10 * MINUTE + 15_000, "ran long ago");
    }

    #[test]
    fn a_machine_that_slept_gets_its_grace_after_it_wakes() {
        let settings = settings("schedule: '0 2 * * *'\ntimezone: UTC\ngrace: 30m\n");
        let evening = at("2026-11-30T20:00:00Z");
        let mut kept = Kept::default();
        kept.ended(success(at("2026-11-30T02:01:00Z")));
        assert_eq!(
            overdue_from(&mut kept, &settings, evening, Timestamp(evening.0 + HOUR)),
            None
        );
        // It sleeps from 21:00 to 08:00.
        let morning = at("2026-12-01T08:00:00Z");
        let mut slept = kept.clone();
        let since = overdue_from(&mut slept, &settings, morning, Timestamp(morning.0 + HOUR))
            .expect("late");
        assert_eq!(since.0 - morning.0, 30 * MINUTE + 15_000);
        assert_eq!(slept.due(&settings, Timestamp(morning.0 + HOUR)).missed, 1);
        // The run is made up for in time.
        kept.look(morning, INTERVAL);
        kept.ended(success(Timestamp(morning.0 + 5 * MINUTE)));
        assert_eq!(
            overdue_from(
                &mut kept,
                &settings,
                morning,
                Timestamp(morning.0 + 3 * HOUR)
            ),
            None
        );
        // What was late before a restart is late after it.
        let text = serde_json::to_string(&slept).expect("JSON");
        let mut again: Kept = serde_json::from_str(&text).expect("JSON");
        let later = Timestamp(morning.0 + 9 * HOUR);
        again.look(later, INTERVAL);
        assert!(again.due(&settings, later).is_overdue);
    }

    #[test]
    fn a_clock_that_was_set_back_hides_no_missing_run() {
        let settings = settings("every: 1h\ngrace: 10m\n");
        let (wrong, right) = (at("2030-01-01T00:00:00Z"), at("2026-11-30T12:00:00Z"));
        let mut kept = Kept::default();
        kept.look(wrong, INTERVAL);
        kept.ended(success(wrong));
        let since =
            overdue_from(&mut kept, &settings, right, Timestamp(right.0 + 3 * HOUR)).expect("late");
        assert_eq!(since.0 - right.0, 70 * MINUTE + 15_000);
    }

    fn report(event: Event, id: &str) -> Report {
        Report {
            event,
            id: Some(id.into()),
            ..Report::default()
        }
    }

    #[test]
    fn reports_of_one_run_count_once_in_any_order() {
        let (mut kept, now) = (Kept::default(), at("2026-11-30T12:00:00Z"));
        let start = report(Event::Start, "a");
        assert!(kept.report(&start, now) && !kept.report(&start, now));
        assert_eq!((kept.open.len(), kept.overlaps), (1, 0));
        assert!(kept.report(&report(Event::Start, "b"), now));
        assert_eq!((kept.open.len(), kept.overlaps), (2, 1));
        let end = Report {
            exit_code: Some(3),
            ..report(Event::Finish, "a")
        };
        assert!(
            kept.report(&end, Timestamp(now.0 + 5000))
                && !kept.report(&end, Timestamp(now.0 + 9000))
        );
        assert_eq!(
            (kept.runs, kept.duration, kept.exit_code, kept.is_success),
            ([0, 1, 0, 0, 0], Some(5.0), Some(3), false)
        );
        assert!(
            !kept.report(&start, now),
            "the beginning comes after the end"
        );
        assert!(kept.report(&report(Event::Finish, "b"), Timestamp(now.0 + 6000)));
        // One that could not be delivered for an hour is older than what is known.
        let old = Report {
            ended_at: Some(now.seconds() - 3600.0),
            exit_code: Some(9),
            ..report(Event::Finish, "old")
        };
        assert!(kept.report(&old, Timestamp(now.0 + 7000)));
        assert_eq!(
            (kept.runs, kept.exit_code, kept.is_success),
            ([1, 2, 0, 0, 0], Some(0), true)
        );
        assert!(
            kept.report(&Report::default(), now) && kept.report(&Report::default(), now),
            "without an id each is one"
        );
        assert!(
            kept.report(&report(Event::Skip, "s"), now)
                && !kept.report(&report(Event::Skip, "s"), now)
        );
        assert_eq!((kept.runs, kept.open.len()), ([3, 2, 0, 0, 1], 0));
    }

    #[test]
    fn times_that_cannot_be_are_not_believed_and_lists_are_bounded() {
        let (mut kept, now) = (Kept::default(), at("2026-11-30T12:00:00Z"));
        for time in [1e300, -1e300, f64::NAN, f64::INFINITY, now.seconds() + 1e6] {
            kept.report(
                &Report {
                    ended_at: Some(time),
                    started_at: Some(time),
                    duration_seconds: Some(time),
                    ..Report::default()
                },
                now,
            );
            assert!(
                kept.success <= Some(now.0)
                    && kept.duration.is_none_or(|d| d.is_finite() && d >= 0.0)
                    || time == 1e300,
                "{time}: {kept:?}"
            );
        }
        for n in 0..1000 {
            kept.report(&report(Event::Start, &format!("open{n}")), now);
            kept.report(&report(Event::Finish, &format!("done{n}")), now);
        }
        assert_eq!((kept.open.len(), kept.done.len()), (MAX_OPEN, MAX_DONE));
    }

    #[test]
    fn a_run_whose_process_has_gone_is_lost_after_a_minute() {
        let (mut kept, now) = (Kept::default(), at("2026-11-30T12:00:00Z"));
        kept.report(
            &Report {
                process: Some(Process::default()),
                ..report(Event::Start, "a")
            },
            now,
        );
        kept.report(&report(Event::Start, "elsewhere"), now);
        assert!(
            !kept.end_lost(now, |_| true) && !kept.end_lost(Timestamp(now.0 + 59_000), |_| true)
        );
        assert!(
            !kept.end_lost(Timestamp(now.0 + 60_000), |_| false),
            "it is there"
        );
        assert!(!kept.end_lost(Timestamp(now.0 + 61_000), |_| true));
        assert!(kept.end_lost(Timestamp(now.0 + 130_000), |_| true));
        assert_eq!(
            (kept.runs, kept.open.len(), kept.is_success, kept.failure),
            ([0, 0, 0, 1, 0], 1, false, Some(now.0 + 61_000))
        );
    }
}
