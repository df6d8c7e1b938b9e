//! One task of the calendar: what it is, and when it is due.

use std::time::Duration;

use crate::collectors::schedule::{self, Schedule};
use crate::config::Section;
use crate::model::Timestamp;
use crate::model::time::millis;

/// Most tasks.
const MAX_TASKS: usize = 200;
/// A task is done for the coming time when it is done early by no more than this part of its
/// interval …
const EARLY_PART: u32 = 10;
/// … and than this.
const EARLY: Duration = Duration::from_secs(86_400);
/// Grace where none is given: a fifth of the interval, a day at most.
const GRACE: Duration = Duration::from_secs(86_400);

/// An entry of `maintenance`.
#[derive(Clone, Debug)]
pub struct Task {
    /// Its name.
    pub name: String,
    /// What it is about, such as an application; may be empty.
    pub of: String,
    /// How it is done; may be empty.
    pub hint: String,
    /// When.
    pub schedule: Schedule,
    /// How much later it may be; `None`: a fifth of the interval, a day at most.
    pub grace: Option<Duration>,
    /// The scheduled job (collector `job`) whose success counts.
    pub job: Option<String>,
}

/// How a task stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// When it was last done.
    pub done: Option<Timestamp>,
    /// When it is to be done next.
    pub next: Option<Timestamp>,
    /// The same with its grace: later it is overdue.
    pub due: Option<Timestamp>,
    /// Whether it is.
    pub is_overdue: bool,
}

impl Task {
    /// Reads the list `maintenance`.
    pub fn read_all(root: &Section<'_>) -> Vec<Self> {
        let (mut tasks, mut names): (Vec<Task>, Vec<String>) = (Vec::new(), Vec::new());
        for section in root.sections("maintenance") {
            let name: String = section.require("name");
            if names.contains(&name) {
                section.error(
                    "name",
                    format!("{name:?} is the name of another task"),
                    "give each task a name of its own",
                );
            }
            if name.trim().is_empty() || name.contains(char::is_control) {
                section.error("name", "is no name", "give a word such as reindex");
            }
            names.push(name.clone());
            let schedule = schedule::read(&section, "schedule");
            if schedule.is_none()
                && section.node("schedule").is_none()
                && section.node("every").is_none()
            {
                section.error(
                    "",
                    "has no time",
                    "add schedule: \"0 3 1 * *\" with a timezone, or every: 30d",
                );
            }
            let task = schedule.map(|schedule| Task {
                name,
                of: section.or("of", String::new()),
                hint: section.or("hint", String::new()),
                grace: section.get("grace"),
                job: section.get("job"),
                schedule,
            });
            section.finish();
            tasks.extend(task);
        }
        if tasks.len() > MAX_TASKS {
            root.error(
                "maintenance",
                format!("has more than {MAX_TASKS} tasks"),
                "group them",
            );
            tasks.truncate(MAX_TASKS);
        }
        tasks
    }

    /// How it stands at `now`, last done at `done`, where it was first seen at `seen`.
    pub fn standing(&self, done: Option<Timestamp>, seen: Timestamp, now: Timestamp) -> Standing {
        let interval = self.interval(done.unwrap_or(seen));
        let early = (interval / EARLY_PART).min(EARLY);
        let next = match (&self.schedule, done) {
            (Schedule::At(..), Some(done)) => self.schedule.after(done + early),
            (Schedule::Every(_), Some(done)) => self.schedule.after(done),
            (_, None) => self.schedule.after(seen),
        };
        let grace = self.grace.unwrap_or_else(|| (interval / 5).min(GRACE));
        let due = next.map(|next| next + grace);
        Standing {
            done,
            next,
            due,
            is_overdue: due.is_some_and(|due| due < now),
        }
    }

    /// The time between the next two.
    fn interval(&self, from: Timestamp) -> Duration {
        let first = self.schedule.after(from);
        let second = first.and_then(|first| self.schedule.after(first));
        match (first, second) {
            (Some(first), Some(second)) => Duration::from_millis(
                u64::try_from((second.0 - first.0).min(millis(GRACE) * 366)).unwrap_or(0),
            ),
            _ => Duration::ZERO,
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::tz::TimeZone;

    use super::*;
    use crate::collectors::schedule::Cron;

    fn task(cron: &str, zone: &str) -> Task {
        let schedule = Schedule::At(
            Cron::parse(cron).expect("cron"),
            TimeZone::get(zone).expect("a zone"),
        );
        Task {
            name: "t".into(),
            of: String::new(),
            hint: String::new(),
            schedule,
            grace: None,
            job: None,
        }
    }

    fn time(text: &str) -> Timestamp {
        Timestamp::parse_rfc3339(text).expect("a time")
    }

    #[test]
    fn a_task_by_hand_is_due_by_its_zone_and_counts_a_little_early() {
        let weekly = task("Sun 04:00", "Asia/Shanghai");
        let seen = time("2026-11-30T00:00:00Z");
        let standing =
            |done: Option<&str>, now: &str| weekly.standing(done.map(time), seen, time(now));
        let first = standing(None, "2026-11-30T00:00:00Z");
        assert_eq!(
            first.next,
            Some(time("2026-12-05T20:00:00Z")),
            "from when it was first seen"
        );
        assert!(!first.is_overdue);
        assert_eq!(
            first.due,
            Some(time("2026-12-06T20:00:00Z")),
            "a day of grace"
        );
        assert!(standing(None, "2026-12-06T20:00:01Z").is_overdue);
        let early = standing(Some("2026-12-05T10:00:00Z"), "2026-12-06T20:00:01Z");
        assert_eq!(
            early.next,
            Some(time("2026-12-12T20:00:00Z")),
            "ten hours early count"
        );
        let too_early = standing(Some("2026-12-03T10:00:00Z"), "2026-12-06T20:00:01Z");
        assert!(too_early.is_overdue, "two days early do not");
        let late = standing(Some("2026-12-07T10:00:00Z"), "2026-12-07T10:00:00Z");
        assert_eq!(
            (late.next, late.is_overdue),
            (Some(time("2026-12-12T20:00:00Z")), false)
        );
    }

    #[test]
    fn a_task_by_interval_counts_from_the_last_time() {
        let every = Task {
            schedule: Schedule::Every(Duration::from_secs(7 * 86_400)),
            grace: Some(Duration::from_secs(3600)),
            ..task("@daily", "UTC")
        };
        let seen = time("2026-11-01T00:00:00Z");
        let standing = every.standing(
            Some(time("2026-11-10T12:00:00Z")),
            seen,
            time("2026-11-17T13:00:01Z"),
        );
        assert_eq!(standing.due, Some(time("2026-11-17T13:00:00Z")));
        assert!(standing.is_overdue);
    }
}
