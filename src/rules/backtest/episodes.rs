//! When alerts fired, how long, and what a longer `for` would leave.

use std::collections::HashMap;
use std::time::Duration;

use crate::model::time::millis;
use crate::model::{Labels, Timestamp};
use crate::rules::Rule;
use crate::rules::evaluate::active::AlertState;
use crate::rules::evaluate::group::Group;

/// An alert that fires for less than this was hardly worth a message.
const SHORT: Duration = Duration::from_secs(120);
/// What is tried for `for`.
const HOLDS: [u64; 7] = [60, 120, 300, 600, 900, 1800, 3600];

/// One alert, from the evaluation at which it began to fire to the one at which it no longer did.
#[derive(Clone, Debug, PartialEq)]
pub struct Episode {
    /// The alert.
    pub labels: Labels,
    /// When it began.
    pub from: Timestamp,
    /// When it ended, or the end of the backtest.
    pub to: Timestamp,
    /// Whether it fires still at the end.
    pub goes_on: bool,
}

impl Episode {
    /// How long it fired.
    pub fn duration(&self) -> Duration {
        self.to.since(self.from)
    }

    /// Whether it ended within two minutes.
    pub fn is_short(&self) -> bool {
        !self.goes_on && self.duration() < SHORT
    }
}

/// What another `for` would leave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Longer {
    /// The `for`.
    pub hold: Duration,
    /// How often the rule would fire.
    pub fired: usize,
    /// How often of that for less than two minutes.
    pub short: usize,
}

/// What became of one alerting rule.
#[derive(Clone, Debug, PartialEq)]
pub struct RuleReport {
    /// Its file.
    pub file: String,
    /// Its group.
    pub group: String,
    /// Its name.
    pub name: String,
    /// Its labels, templates not expanded.
    pub labels: Labels,
    /// Its `for`.
    pub hold: Duration,
    /// Each time it fired, in the order of time.
    pub episodes: Vec<Episode>,
    /// How often it was pending and did not come to fire.
    pub only_pending: usize,
    /// What a longer `for` would leave.
    pub longer: Vec<Longer>,
}

impl RuleReport {
    /// How often it fired for less than two minutes.
    pub fn short(&self) -> usize {
        self.episodes
            .iter()
            .filter(|episode| episode.is_short())
            .count()
    }

    /// How long it fired, all alerts together.
    pub fn total(&self) -> Duration {
        self.episodes.iter().map(Episode::duration).sum()
    }
}

/// A stretch of time in which the expression held at every evaluation.
#[derive(Clone, Copy)]
struct Run {
    first: Timestamp,
    last: Timestamp,
    /// The evaluation at which it no longer held.
    missed: Option<Timestamp>,
}

#[derive(Default)]
struct RuleWatch {
    episodes: Vec<Episode>,
    /// What fires, by fingerprint: its labels, since when, and since when the expression holds.
    open: HashMap<u64, (Labels, Timestamp, Timestamp), ahash::RandomState>,
    runs: HashMap<u64, Vec<Run>, ahash::RandomState>,
    /// Runs that have not ended.
    running: Vec<u64>,
    errors: u64,
    last_error: String,
}

/// Looks on while a group is evaluated.
pub(super) struct Watch(Vec<RuleWatch>);

impl Watch {
    pub(super) fn new(group: &Group) -> Self {
        Watch(group.rules.iter().map(|_| RuleWatch::default()).collect())
    }

    /// What the evaluation at `now` has changed.
    pub(super) fn look(&mut self, group: &Group, now: Timestamp) {
        for (watch, rule) in self.0.iter_mut().zip(&group.rules) {
            if let Some(error) = &rule.health.last_error {
                watch.errors += 1;
                watch.last_error.clone_from(error);
                // An error leaves every alert as it was.
                continue;
            }
            let Some(state) = &rule.alerting else {
                continue;
            };
            let mut alerts = state
                .alerts()
                .filter(|alert| alert.state != AlertState::Inactive)
                .peekable();
            if alerts.peek().is_none() && watch.open.is_empty() && watch.running.is_empty() {
                continue;
            }
            let (mut firing, mut holding) = (Vec::new(), Vec::new());
            for alert in alerts {
                let fingerprint = alert.labels.fingerprint();
                if alert.state == AlertState::Firing {
                    firing.push(fingerprint);
                    let open = watch
                        .open
                        .entry(fingerprint)
                        .or_insert_with(|| (alert.labels.clone(), now, alert.active_at));
                    if open.2 != alert.active_at {
                        let (labels, from, _) =
                            std::mem::replace(open, (alert.labels.clone(), now, alert.active_at));
                        watch.episodes.push(Episode {
                            labels,
                            from,
                            to: now,
                            goes_on: false,
                        });
                    }
                }
                if alert.keep_firing_since.is_none() {
                    holding.push((fingerprint, alert.held.is_some()));
                }
            }
            watch.note_runs(holding, now);
            let episodes = &mut watch.episodes;
            watch.open.retain(|fingerprint, (labels, from, _)| {
                let stays = firing.contains(fingerprint);
                if !stays {
                    episodes.push(Episode {
                        labels: labels.clone(),
                        from: *from,
                        to: now,
                        goes_on: false,
                    });
                }
                stays
            });
        }
    }

    /// The report of each alerting rule, and the errors of all rules.
    pub(super) fn finish(
        self,
        group: &Group,
        end: Timestamp,
    ) -> (Vec<RuleReport>, Vec<(String, u64, String)>) {
        let (mut reports, mut errors) = (Vec::new(), Vec::new());
        for (watch, running) in self.0.into_iter().zip(&group.rules) {
            if watch.errors > 0 {
                errors.push((
                    running.rule.name().to_owned(),
                    watch.errors,
                    watch.last_error.clone(),
                ));
            }
            let Rule::Alerting(rule) = &*running.rule else {
                continue;
            };
            let only_pending = watch
                .runs
                .values()
                .map(|runs| pending_only(runs, rule.hold, rule.keep_firing_for, group.interval))
                .sum();
            let longer = HOLDS
                .map(Duration::from_secs)
                .into_iter()
                .filter(|hold| *hold > rule.hold);
            let longer = longer
                .map(|hold| watch.longer(hold, rule.keep_firing_for, group.interval, end))
                .collect();
            let mut episodes = watch.episodes;
            let open = watch.open.into_values();
            episodes.extend(open.map(|(labels, from, _)| Episode {
                labels,
                from,
                to: end,
                goes_on: true,
            }));
            episodes.sort_by(|a, b| (a.from, &a.labels).cmp(&(b.from, &b.labels)));
            reports.push(RuleReport {
                file: group.definition.file.clone(),
                group: group.definition.name.clone(),
                name: rule.name.clone(),
                labels: rule.labels.clone(),
                hold: rule.hold,
                episodes,
                only_pending,
                longer,
            });
        }
        (reports, errors)
    }
}

impl RuleWatch {
    /// `holding`: alerts that go on, and whether only because something holds them: then their run
    /// neither ends nor grows.
    fn note_runs(&mut self, holding: Vec<(u64, bool)>, now: Timestamp) {
        for fingerprint in &self.running {
            if !holding.iter().any(|(other, _)| other == fingerprint)
                && let Some(run) = self
                    .runs
                    .get_mut(fingerprint)
                    .and_then(|runs| runs.last_mut())
            {
                run.missed = Some(now);
            }
        }
        for (fingerprint, is_held) in &holding {
            let runs = self.runs.entry(*fingerprint).or_default();
            match runs.last_mut().filter(|run| run.missed.is_none()) {
                Some(_) if *is_held => {}
                Some(run) => run.last = now,
                None => runs.push(Run {
                    first: now,
                    last: now,
                    missed: None,
                }),
            }
        }
        self.running = holding
            .into_iter()
            .map(|(fingerprint, _)| fingerprint)
            .collect();
    }

    fn longer(&self, hold: Duration, keep: Duration, interval: Duration, end: Timestamp) -> Longer {
        let mut longer = Longer {
            hold,
            fired: 0,
            short: 0,
        };
        for runs in self.runs.values() {
            for (from, to) in firings(runs, hold, keep, interval) {
                longer.fired += 1;
                longer.short +=
                    usize::from(to.is_some_and(|to| to <= end && to.since(from) < SHORT));
            }
        }
        longer
    }
}

/// When an alert with these runs fires: from when, and until when unless it goes on at the end.
fn firings(
    runs: &[Run],
    hold: Duration,
    keep: Duration,
    interval: Duration,
) -> Vec<(Timestamp, Option<Timestamp>)> {
    let (hold, keep, interval) = (millis(hold), millis(keep), millis(interval).max(1));
    let rounded = |span: i64| -(-span).div_euclid(interval) * interval;
    let mut found: Vec<(Timestamp, Option<Timestamp>)> = Vec::new();
    for run in runs {
        // While it goes on firing after the expression ceased to hold, up to the evaluation that
        // would end it, a new run is the same alert.
        let same = found
            .last()
            .is_some_and(|(_, to)| to.is_none_or(|to| to >= run.first));
        let end = run.missed.map(|missed| Timestamp(missed.0 + rounded(keep)));
        let start = Timestamp(run.first.0 + rounded(hold));
        match found.last_mut() {
            Some(last) if same => last.1 = end,
            _ if start <= run.last => found.push((start, end)),
            _ => {}
        }
    }
    found
}

/// Runs that ended without a firing of their own or of the run before.
fn pending_only(runs: &[Run], hold: Duration, keep: Duration, interval: Duration) -> usize {
    let firings = firings(runs, hold, keep, interval);
    let fires = |run: &Run| {
        firings
            .iter()
            .any(|(from, to)| *from <= run.last && to.is_none_or(|to| to >= run.first))
    };
    runs.iter()
        .filter(|run| run.missed.is_some() && !fires(run))
        .count()
}
