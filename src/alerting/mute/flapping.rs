//! Alerts that begin and end too often: one message says that an alert flaps, then none until it
//! has settled, then one with the state that it settled in.
//!
//! Pure: it counts, the pipeline tells. While an alert flaps it stays in its groups as one that
//! fires, whatever it does, under an identity of its own in the notification log: so each
//! integration hears of the flapping once, and of its end, through restarts too.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::config::Section;
use crate::model::alert::evidence::Clue;
use crate::model::{Alert, Timestamp};
use crate::state::FlapRow;

/// Longest time in which firings may be counted; what is older is forgotten.
pub const LONGEST: Duration = Duration::from_secs(24 * 3600);
/// Most firings that are remembered of one alert, and most values that are shown.
const MAX_BEGINS: usize = 100;
const MAX_VALUES: usize = 5;

/// What counts as flapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flapping {
    /// An alert flaps that begins to fire so often …
    pub firings: usize,
    /// … within this time. 0 firings: none ever flaps.
    pub within: Duration,
    /// It has settled when it neither began nor ended for so long.
    pub stable_for: Duration,
}

impl Default for Flapping {
    fn default() -> Self {
        Flapping {
            firings: 4,
            within: Duration::from_secs(3600),
            stable_for: Duration::from_secs(1800),
        }
    }
}

/// The keys of a block `flapping`, as far as they are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FlappingKeys {
    firings: Option<usize>,
    within: Option<Duration>,
    stable_for: Option<Duration>,
}

impl FlappingKeys {
    /// Reads the block of a section, if there is one; keys that it leaves out are those of `outer`.
    pub fn read(section: &Section<'_>, outer: Self) -> Self {
        let Some(block) = section.section("flapping") else {
            return outer;
        };
        let keys = FlappingKeys {
            firings: block.get("firings").or(outer.firings),
            within: block.get("within").or(outer.within),
            stable_for: block.get("stable_for").or(outer.stable_for),
        };
        if keys.firings == Some(1) {
            block.error(
                "firings",
                "1 would make every alert flap",
                "give 2 or more, or 0 to turn it off",
            );
        }
        for (key, value) in [("within", keys.within), ("stable_for", keys.stable_for)] {
            if value.is_some_and(|value| value.is_zero() || value > LONGEST)
                && block.node(key).is_some()
            {
                block.error(
                    key,
                    "is not between 1ms and 1d",
                    "give a duration such as 30m",
                );
            }
        }
        block.finish();
        keys
    }

    /// These keys over those of `outer`, and the defaults.
    pub fn over(self, outer: Self) -> Flapping {
        let default = Flapping::default();
        Flapping {
            firings: self.firings.or(outer.firings).unwrap_or(default.firings),
            within: self.within.or(outer.within).unwrap_or(default.within),
            stable_for: self
                .stable_for
                .or(outer.stable_for)
                .unwrap_or(default.stable_for),
        }
    }
}

/// What is known of the changes of alerts.
#[derive(Clone, Debug, Default)]
pub struct Flaps(BTreeMap<u64, FlapRow>);

impl Flaps {
    /// Takes in what the database remembered, as far as nothing newer is known.
    pub fn restore(&mut self, rows: Vec<FlapRow>) {
        for row in rows {
            self.0.entry(row.fingerprint).or_insert(row);
        }
    }

    /// An alert began or ended; gives what is now known of it.
    pub fn changed(
        &mut self,
        alert: &Alert,
        settings: &Flapping,
        now: Timestamp,
    ) -> Option<FlapRow> {
        if settings.firings == 0 {
            return None;
        }
        let fingerprint = alert.fingerprint();
        let row = self.0.entry(fingerprint).or_insert_with(|| FlapRow {
            fingerprint,
            begins: Vec::new(),
            since: None,
            settled: false,
            firings: 0,
            changed_at: now,
            values: Vec::new(),
        });
        // When it happened, not when it was heard of: a restart in between changes nothing.
        let at = alert
            .ends_at
            .filter(|_| alert.is_resolved(now))
            .unwrap_or(alert.starts_at)
            .min(now);
        settle(row, settings, at);
        if row.settled {
            (row.since, row.settled, row.firings) = (None, false, 0);
            row.begins.clear();
        }
        row.changed_at = at;
        if let Some(value) = alert.value.filter(|value| value.is_finite()) {
            row.values.push(value);
            row.values
                .drain(..row.values.len().saturating_sub(MAX_VALUES));
        }
        if !alert.is_resolved(now) {
            row.begins.push(at);
            row.begins
                .retain(|begin| at.since(*begin) < settings.within);
            row.begins
                .drain(..row.begins.len().saturating_sub(MAX_BEGINS));
            if row.since.is_some() {
                row.firings += 1;
            } else if row.begins.len() >= settings.firings {
                (row.since, row.firings) = (row.begins.first().copied(), row.begins.len());
            }
        }
        Some(row.clone())
    }

    /// Notes which alerts have settled; gives their rows.
    pub fn settle(&mut self, now: Timestamp, settings: impl Fn(u64) -> Flapping) -> Vec<FlapRow> {
        let flapping = self.0.values_mut().filter(|row| is_flapping(row));
        let settled = flapping
            .filter_map(|row| settle(row, &settings(row.fingerprint), now).then(|| row.clone()));
        settled.collect()
    }

    /// What is known of an alert that flaps.
    pub fn flapping(&self, fingerprint: u64) -> Option<&FlapRow> {
        self.0.get(&fingerprint).filter(|row| is_flapping(row))
    }

    /// What is known of an alert that flapped and has settled.
    pub fn settled(&self, fingerprint: u64) -> Option<&FlapRow> {
        self.0.get(&fingerprint).filter(|row| row.settled)
    }

    /// How many alerts flap.
    pub fn count(&self) -> usize {
        self.0.values().filter(|row| is_flapping(row)).count()
    }

    /// The rows.
    pub fn rows(&self) -> impl Iterator<Item = &FlapRow> {
        self.0.values()
    }

    /// Changes all rows; not what they are found by.
    pub(in crate::alerting) fn for_each(&mut self, change: impl FnMut(&mut FlapRow)) {
        self.0.values_mut().for_each(change);
    }

    /// Forgets alerts that have not changed since `before`.
    pub fn prune(&mut self, before: Timestamp) {
        self.0.retain(|_, row| row.changed_at >= before);
    }
}

fn is_flapping(row: &FlapRow) -> bool {
    row.since.is_some() && !row.settled
}

/// Whether an alert that flapped has settled just now.
fn settle(row: &mut FlapRow, settings: &Flapping, now: Timestamp) -> bool {
    // Turned off by a new configuration, it settles at once.
    let over = is_flapping(row)
        && (settings.firings == 0 || now.since(row.changed_at) >= settings.stable_for);
    row.settled |= over;
    over
}

/// The identity of an alert in the notification log while it flaps.
pub fn flapping_id(alert: &Alert, row: &FlapRow) -> u64 {
    let since = row.since.unwrap_or(row.changed_at);
    alert
        .labels
        .with("__flapping__", &since.0.to_string())
        .fingerprint()
}

/// What a message says of it.
pub fn clue(row: &FlapRow, alert: &Alert, now: Timestamp) -> Clue {
    Clue::Flapping {
        firings: row.firings,
        since_ms: row.since.unwrap_or(row.changed_at).0,
        until_ms: row.settled.then_some(row.changed_at.0),
        fires: !alert.is_resolved(now),
        values: row.values.clone(),
    }
}

/// The same as text, for templates and for receivers that show annotations.
pub fn text(row: &FlapRow) -> String {
    let since = row.since.unwrap_or(row.changed_at).rfc3339();
    let until = if row.settled {
        format!(" until {}", row.changed_at.rfc3339())
    } else {
        String::new()
    };
    let values: Vec<String> = row.values.iter().map(ToString::to_string).collect();
    let values = if values.is_empty() {
        String::new()
    } else {
        format!(", last values {}", values.join(", "))
    };
    format!("{} firings since {since}{until}{values}", row.firings)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Labels;

    const SETTINGS: Flapping = Flapping {
        firings: 3,
        within: Duration::from_secs(60),
        stable_for: Duration::from_secs(30),
    };

    fn alert(fires: bool, second: i64) -> Alert {
        Alert {
            labels: Labels::from_pairs([("alertname", "A")]),
            annotations: Labels::empty(),
            starts_at: Timestamp(second * 1000),
            ends_at: (!fires).then_some(Timestamp(second * 1000)),
            updated_at: Timestamp(0),
            generator_url: String::new(),
            value: Some(second as f64),
            peak: None,
            evidence: Vec::new(),
            shipped: false,
        }
    }

    #[test]
    fn an_alert_flaps_from_the_firing_that_is_one_too_many_until_it_is_stable() {
        let (mut flaps, fingerprint) = (Flaps::default(), alert(true, 0).fingerprint());
        let at = |second: i64| Timestamp(second * 1000);
        let change = |flaps: &mut Flaps, second: i64, fires: bool| {
            flaps
                .changed(&alert(fires, second), &SETTINGS, at(second))
                .expect("it is on");
            flaps
                .flapping(fingerprint)
                .map(|row| (row.since.expect("since").0 / 1000, row.firings))
        };
        // Two firings in a minute, the third just too late.
        assert_eq!(
            [
                change(&mut flaps, 0, true),
                change(&mut flaps, 5, false),
                change(&mut flaps, 40, true)
            ],
            [None; 3]
        );
        assert_eq!(change(&mut flaps, 45, false), None);
        assert_eq!(
            change(&mut flaps, 60, true),
            None,
            "the first has just left the window"
        );
        assert_eq!(change(&mut flaps, 65, false), None);
        assert_eq!(change(&mut flaps, 70, true), Some((40, 3)));
        assert_eq!(change(&mut flaps, 80, false), Some((40, 3)));
        assert_eq!(change(&mut flaps, 90, true), Some((40, 4)));
        assert_eq!(flaps.settle(at(119), |_| SETTINGS), []);
        let settled = flaps.settle(at(120), |_| SETTINGS);
        assert_eq!(
            (settled.len(), settled[0].firings, settled[0].values.clone()),
            (1, 4, vec![60.0, 65.0, 70.0, 80.0, 90.0])
        );
        assert_eq!(
            (
                flaps.flapping(fingerprint),
                flaps.settled(fingerprint).is_some(),
                flaps.count()
            ),
            (None, true, 0)
        );
        // It counts anew, also when nobody looked between.
        assert_eq!(change(&mut flaps, 121, false), None);
        assert_eq!(
            [change(&mut flaps, 122, true), change(&mut flaps, 123, true)],
            [None; 2]
        );
        assert_eq!(change(&mut flaps, 124, true), Some((122, 3)));
        assert_eq!(change(&mut flaps, 200, false), None);
        assert_eq!(
            flaps.changed(
                &alert(true, 201),
                &Flapping {
                    firings: 0,
                    ..SETTINGS
                },
                at(201)
            ),
            None,
            "turned off"
        );
    }
}
