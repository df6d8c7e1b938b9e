//! Recovery actions as pure decisions: whether one may be taken now, and later whether it helped.
//! [`crate::alerting::delivery::action`] takes them.
//!
//! A repeat is a message that is repeated: the alert still fires after `repeat_interval`, the
//! cool-down is over, and the limit is not reached. An action is judged by its alerts alone: if
//! they still fire some time after it, it did not help, whatever its exit status was.

use std::collections::{BTreeMap, HashSet};

use crate::model::alert::evidence::Clue;
use crate::model::{ActionOutcome, Timestamp, format_duration};
use crate::notify::Limits;
use crate::state::{ActionBody, ActionRow};

/// Most actions that are kept in memory.
const MAX_RECENT: usize = 500;
/// How many targets may use up their limit at once: what goes wrong everywhere is not mended one by
/// one.
const TARGETS: usize = 10;
/// Most actions that a message tells of one alert.
const MAX_TOLD: usize = 3;
/// Most of an action's output that a message tells, in characters.
const MAX_OUTPUT: usize = 400;

/// What is decided about an action that a message asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It is taken.
    Take,
    /// The message has led to it before, which came to this.
    Done(Box<ActionRow>),
    /// It is not taken, for this reason.
    Leave(ActionOutcome, String),
}

/// Decides. `before` is what was done to the same target, youngest first, as far back as the limits
/// go; `of_all` is how often something was done to any target within `limit_per`.
pub fn decide(
    limits: &Limits,
    id: &str,
    before: &[ActionRow],
    of_all: usize,
    now: Timestamp,
) -> Decision {
    if let Some(row) = before.iter().find(|row| row.id == id) {
        return Decision::Done(Box::new(row.clone()));
    }
    let counts = |row: &&ActionRow| {
        row.outcome.was_begun() || limits.dry_run && row.outcome == ActionOutcome::DryRun
    };
    let begun: Vec<Timestamp> = before
        .iter()
        .filter(counts)
        .map(|row| row.begun_at)
        .collect();
    if let Some(last) = begun
        .first()
        .filter(|last| now.since(**last) < limits.cool_down)
    {
        let left = limits.cool_down - now.since(*last);
        let left = format_duration(std::time::Duration::from_secs(left.as_secs().max(1)));
        return Decision::Leave(
            ActionOutcome::CoolingDown,
            format!("the same was done a short time ago; not again for {left}"),
        );
    }
    let recent = begun
        .iter()
        .filter(|at| now.since(**at) < limits.limit_per)
        .count();
    if recent >= limits.limit {
        let per = format_duration(limits.limit_per);
        return Decision::Leave(
            ActionOutcome::LimitReached,
            format!("done {recent} times in {per} already; somebody must look"),
        );
    }
    if of_all >= limits.limit.saturating_mul(TARGETS) {
        let per = format_duration(limits.limit_per);
        return Decision::Leave(
            ActionOutcome::LimitReached,
            format!("done {of_all} times to all targets in {per} already; somebody must look"),
        );
    }
    Decision::Take
}

/// The actions that messages still tell of, and those that are still to be judged.
#[derive(Clone, Debug, Default)]
pub struct Recent(BTreeMap<(Timestamp, String), ActionRow>);

impl Recent {
    /// Notes an action, or what more is known of it.
    pub fn put(&mut self, row: ActionRow) {
        self.0.insert((row.begun_at, row.id.clone()), row);
        while self.0.len() > MAX_RECENT {
            self.0.pop_first();
        }
    }

    /// All of them.
    pub fn rows(&self) -> impl Iterator<Item = &ActionRow> {
        self.0.values()
    }

    /// Changes all of them; not what they are found by.
    pub(in crate::alerting) fn for_each(&mut self, change: impl FnMut(&mut ActionRow)) {
        self.0.values_mut().for_each(change);
    }

    /// When the next one is judged.
    pub fn next_due(&self) -> Option<Timestamp> {
        self.0
            .values()
            .filter(|row| row.body.helped.is_none())
            .filter_map(|row| row.body.verify_ms)
            .min()
            .map(Timestamp)
    }

    /// Judges what is due: an action helped if none of its alerts fires any more. Gives the rows
    /// that are judged.
    pub fn judge(&mut self, fires: impl Fn(u64) -> bool, now: Timestamp) -> Vec<ActionRow> {
        let due = |row: &&mut ActionRow| {
            row.body.helped.is_none() && row.body.verify_ms.is_some_and(|at| at <= now.0)
        };
        let judged = self.0.values_mut().filter(due).map(|row| {
            row.body.helped = Some(!row.body.alerts.iter().any(|alert| fires(*alert)));
            row.clone()
        });
        judged.collect()
    }

    /// What a message tells of the actions about this firing of an alert: the last ones, oldest
    /// first.
    pub fn clues(&self, fingerprint: u64, starts_at: Timestamp, resolved: bool) -> Vec<Clue> {
        let about =
            |row: &&ActionRow| row.begun_at >= starts_at && row.body.alerts.contains(&fingerprint);
        let mut clues: Vec<Clue> = self
            .0
            .values()
            .rev()
            .filter(about)
            .take(MAX_TOLD)
            .map(|row| clue(row, resolved))
            .collect();
        clues.reverse();
        clues
    }
}

/// The same as text, for templates and for receivers that show annotations; empty when nothing was
/// done.
pub fn text(clues: &[Clue]) -> String {
    let one = |clue: &Clue| {
        let Clue::Action {
            target,
            at_ms,
            outcome,
            detail,
            output,
            helped,
        } = clue
        else {
            return None;
        };
        let judged = match helped {
            Some(true) => ", it helped",
            Some(false) => ", it did not help",
            None => "",
        };
        let printed = if output.is_empty() {
            String::new()
        } else {
            format!(": {output}")
        };
        Some(format!(
            "{target} at {} {} ({detail}){judged}{printed}",
            Timestamp(*at_ms).rfc3339(),
            outcome.english()
        ))
    };
    clues.iter().filter_map(one).collect::<Vec<_>>().join("\n")
}

fn clue(row: &ActionRow, resolved: bool) -> Clue {
    let output: Vec<&str> = row
        .body
        .output
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    let output = output.join(" | ");
    let from = output
        .char_indices()
        .rev()
        .nth(MAX_OUTPUT - 1)
        .map_or(0, |(at, _)| at);
    Clue::Action {
        target: row.target.clone(),
        at_ms: row.begun_at.0,
        outcome: row.outcome,
        detail: row.body.detail.clone(),
        // The end of what is printed says most.
        output: if from > 0 {
            format!("…{}", &output[from..])
        } else {
            output
        },
        // An alert that is over before the time to judge has spoken for itself.
        helped: row
            .body
            .helped
            .or(Some(true).filter(|_| resolved && row.outcome.was_begun())),
    }
}

/// One row for each outcome that nothing was begun for is enough: those that only repeat it are not
/// written down.
pub fn is_news(outcome: ActionOutcome, before: &[ActionRow], alerts: &[u64]) -> bool {
    let Some(last) = before.first().filter(|last| last.outcome == outcome) else {
        return true;
    };
    let known: HashSet<&u64> = last.body.alerts.iter().collect();
    alerts.iter().any(|alert| !known.contains(alert))
}

/// The row of an action that is about to begin, or is not taken.
pub fn row(
    id: String,
    integration: &str,
    target: &str,
    (alert, alerts): (&str, Vec<u64>),
    now: Timestamp,
) -> ActionRow {
    ActionRow {
        id,
        integration: integration.to_owned(),
        target: target.to_owned(),
        begun_at: now,
        outcome: ActionOutcome::Running,
        body: ActionBody {
            alert: alert.to_owned(),
            alerts,
            ..ActionBody::default()
        },
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const LIMITS: Limits = Limits {
        cool_down: Duration::from_secs(60),
        limit: 2,
        limit_per: Duration::from_secs(600),
        verify_after: Duration::from_secs(120),
        timeout: Duration::from_secs(10),
        dry_run: false,
    };

    fn done(id: &str, at: i64, outcome: ActionOutcome) -> ActionRow {
        ActionRow {
            outcome,
            ..row(
                id.into(),
                "r/command/0",
                "restart web",
                ("Down", vec![7]),
                Timestamp(at * 1000),
            )
        }
    }

    fn decided(before: &[ActionRow], seconds: i64) -> Option<ActionOutcome> {
        match decide(&LIMITS, "new", before, 0, Timestamp(seconds * 1000)) {
            Decision::Take => None,
            Decision::Done(_) => panic!("another message"),
            Decision::Leave(outcome, _) => Some(outcome),
        }
    }

    /// A cool-down, and a limit on repeats.
    #[test]
    fn an_action_cools_down_and_stops_at_its_limit() {
        use ActionOutcome::{CoolingDown, DryRun, Failed, LimitReached, Succeeded, Unknown};
        assert_eq!(decided(&[], 0), None);
        for outcome in [Succeeded, Failed, Unknown, ActionOutcome::Running] {
            assert_eq!(
                decided(&[done("a", 0, outcome)], 59),
                Some(CoolingDown),
                "{outcome:?}"
            );
            assert_eq!(decided(&[done("a", 0, outcome)], 60), None, "{outcome:?}");
        }
        let twice = [done("b", 100, Failed), done("a", 0, Succeeded)];
        assert_eq!(decided(&twice, 599), Some(LimitReached));
        assert_eq!(decided(&twice, 600), None, "the first one is too long ago");
        // What was not begun counts for nothing.
        assert_eq!(
            decided(
                &[
                    done("c", 100, CoolingDown),
                    done("b", 90, LimitReached),
                    done("a", 80, DryRun)
                ],
                101
            ),
            None
        );
        assert_eq!(
            decide(&LIMITS, "a", &twice, 0, Timestamp(900_000)),
            Decision::Done(Box::new(twice[1].clone())),
            "one message acts once"
        );
        assert_eq!(decide(&LIMITS, "n", &[], 19, Timestamp(0)), Decision::Take);
        assert!(
            matches!(decide(&LIMITS, "n", &[], 20, Timestamp(0)), Decision::Leave(LimitReached, why) if why.contains("to all targets"))
        );
        // A clock that was set back does not begin anything anew.
        assert_eq!(decided(&[done("a", 1000, Succeeded)], 0), Some(CoolingDown));
        let dry = Limits {
            dry_run: true,
            ..LIMITS
        };
        assert!(matches!(
            decide(&dry, "n", &[done("a", 0, DryRun)], 0, Timestamp(1)),
            Decision::Leave(CoolingDown, _)
        ));
    }

    #[test]
    fn an_action_is_judged_by_its_alerts_once() {
        let mut recent = Recent::default();
        let mut first = done("a", 0, ActionOutcome::Failed);
        first.body.verify_ms = Some(120_000);
        recent.put(first);
        recent.put(done("b", 1, ActionOutcome::CoolingDown));
        assert_eq!(recent.next_due(), Some(Timestamp(120_000)));
        assert!(recent.judge(|_| true, Timestamp(119_999)).is_empty());
        let judged = recent.judge(|alert| alert == 7, Timestamp(120_000));
        assert_eq!((judged.len(), judged[0].body.helped), (1, Some(false)));
        assert!(
            recent.judge(|_| false, Timestamp(130_000)).is_empty() && recent.next_due().is_none()
        );
    }

    #[test]
    fn a_message_tells_the_last_actions_of_this_firing() {
        let mut recent = Recent::default();
        for n in 0..5 {
            let mut one = done(&n.to_string(), n, ActionOutcome::Succeeded);
            one.body.output = format!("{}\n\n done {n}\n", "x".repeat(2000));
            recent.put(one);
        }
        assert!(
            recent.clues(8, Timestamp(0), false).is_empty(),
            "another alert"
        );
        let clues = recent.clues(7, Timestamp(3000), true);
        let [
            Clue::Action { at_ms: 3000, .. },
            Clue::Action {
                at_ms: 4000,
                output,
                helped: Some(true),
                ..
            },
        ] = &clues[..]
        else {
            panic!("{clues:?}")
        };
        assert!(
            output.ends_with("x | done 4") && output.chars().count() == MAX_OUTPUT + 1,
            "{output}"
        );
        for n in 5..2000 {
            recent.put(done(&n.to_string(), n, ActionOutcome::Succeeded));
        }
        assert_eq!(recent.rows().count(), MAX_RECENT);
    }

    #[test]
    fn what_is_left_again_and_again_is_written_down_once() {
        let before = [done("a", 0, ActionOutcome::LimitReached)];
        assert!(!is_news(ActionOutcome::LimitReached, &before, &[7]));
        assert!(
            is_news(ActionOutcome::LimitReached, &before, &[7, 8])
                && is_news(ActionOutcome::CoolingDown, &before, &[7])
        );
    }
}
