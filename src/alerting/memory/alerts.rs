//! The active alerts by fingerprint: how alerts come in, how a newer one is merged with what is
//! known, when they are forgotten (Alertmanager's `provider/mem` and `types.Alert.Merge`).

use std::collections::HashMap;
use std::time::Duration;

use crate::model::{Alert, Labels, Timestamp};
use crate::state::AlertRow;

/// The share of alerts from outside, unless `web.posted_alerts` is another: how many are kept.
/// Those of our own rules are always taken.
pub const MAX_POSTED: usize = 20_000;
/// Most bytes that the texts of alerts from outside take together.
const MAX_POSTED_BYTES: usize = 64 << 20;
/// What an alert takes beside its texts, about, in bytes.
const OVERHEAD: usize = 256;
/// Most labels of an alert from outside, and most annotations.
const MAX_PAIRS: usize = 128;
/// Longest name of one, longest value of a label, of an annotation, and longest `generatorURL`, in
/// bytes.
const MAX_NAME: usize = 1024;
const MAX_LABEL: usize = 4096;
const MAX_ANNOTATION: usize = 64 << 10;
const MAX_URL: usize = 64 << 10;
/// How long a resolved alert is remembered.
const REMEMBER: Duration = Duration::from_secs(30 * 60);

/// An alert as a client of the API posts it.
#[derive(Clone, Debug, Default)]
pub struct PostedAlert {
    /// Identity; empty values vanish.
    pub labels: Vec<(String, String)>,
    /// Texts for people.
    pub annotations: Vec<(String, String)>,
    /// When it began, if known.
    pub starts_at: Option<Timestamp>,
    /// When it ended or will be taken as ended.
    pub ends_at: Option<Timestamp>,
    /// Link to its cause.
    pub generator_url: String,
}

impl PostedAlert {
    /// Fills in what is missing (SEMANTICS 136).
    ///
    /// # Errors
    /// When the alert is refused (SEMANTICS 137).
    pub fn accept(
        self,
        now: Timestamp,
        resolve_timeout: Duration,
    ) -> Result<Incoming, RefusedAlert> {
        let mut pairs = self.labels.iter().chain(&self.annotations);
        if pairs.any(|(name, _)| name.is_empty()) {
            return Err(RefusedAlert::NoName);
        }
        bounded("label", &self.labels, MAX_LABEL)?;
        bounded("annotation", &self.annotations, MAX_ANNOTATION)?;
        if self.generator_url.len() > MAX_URL {
            return Err(RefusedAlert::LongUrl);
        }
        let labels = Labels::from_pairs(self.labels);
        if labels.is_empty() {
            return Err(RefusedAlert::NoLabels);
        }
        let starts_at = self.starts_at.or(self.ends_at).unwrap_or(now);
        let timeout = self.ends_at.is_none();
        let ends_at = self.ends_at.unwrap_or(now + resolve_timeout);
        if ends_at < starts_at {
            return Err(RefusedAlert::EndsFirst);
        }
        let alert = Alert {
            labels,
            annotations: Labels::from_pairs(self.annotations),
            starts_at,
            ends_at: Some(ends_at),
            updated_at: now,
            generator_url: self.generator_url,
            value: None,
            peak: None,
            evidence: Vec::new(),
            shipped: false,
        };
        Ok(Incoming {
            alert,
            timeout,
            posted: true,
        })
    }
}

/// Why an alert from outside is refused.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RefusedAlert {
    /// A label or an annotation has an empty name.
    #[error("invalid label name \"\"")]
    NoName,
    /// It has no labels.
    #[error("at least one label pair required")]
    NoLabels,
    /// It ends before it starts.
    #[error("start time must be before end time")]
    EndsFirst,
    /// Its link is too long.
    #[error("generatorURL is longer than {MAX_URL} bytes")]
    LongUrl,
    /// It has too many labels or annotations.
    #[error("{count} {what}s are more than {MAX_PAIRS}")]
    ManyPairs {
        /// `label` or `annotation`.
        what: &'static str,
        /// How many it has.
        count: usize,
    },
    /// A name is too long.
    #[error("{what} name {name:?}… is longer than {MAX_NAME} bytes")]
    LongName {
        /// `label` or `annotation`.
        what: &'static str,
        /// The beginning of the name.
        name: String,
    },
    /// A value is too long.
    #[error("the value of {what} {name:?} is longer than {longest} bytes")]
    LongValue {
        /// `label` or `annotation`.
        what: &'static str,
        /// The beginning of the name.
        name: String,
        /// Bytes that it may have.
        longest: usize,
    },
    /// No database could keep it.
    #[error("{what} {name:?} holds the byte 0")]
    ZeroByte {
        /// `label` or `annotation`.
        what: &'static str,
        /// The beginning of the name.
        name: String,
    },
}

/// Says what is too much of labels or annotations from outside, or what no database could keep.
fn bounded(
    what: &'static str,
    pairs: &[(String, String)],
    longest: usize,
) -> Result<(), RefusedAlert> {
    if pairs.len() > MAX_PAIRS {
        return Err(RefusedAlert::ManyPairs {
            what,
            count: pairs.len(),
        });
    }
    for (name, value) in pairs {
        let shown = || name.chars().take(100).collect();
        if name.len() > MAX_NAME {
            return Err(RefusedAlert::LongName {
                what,
                name: shown(),
            });
        }
        if value.len() > longest {
            return Err(RefusedAlert::LongValue {
                what,
                name: shown(),
                longest,
            });
        }
        if name.contains('\0') || value.contains('\0') {
            return Err(RefusedAlert::ZeroByte {
                what,
                name: shown(),
            });
        }
    }
    Ok(())
}

/// An alert on its way in.
#[derive(Clone, Debug, PartialEq)]
pub struct Incoming {
    /// The alert.
    pub alert: Alert,
    /// Whether `ends_at` is only a time-out, not an end that the sender named.
    pub timeout: bool,
    /// Whether it comes from outside, not from a rule of our own.
    pub posted: bool,
}

impl From<Alert> for Incoming {
    fn from(alert: Alert) -> Self {
        Incoming {
            alert,
            timeout: false,
            posted: false,
        }
    }
}

/// What a new report of an alert changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Change {
    /// Not known before, or known as ended: groups must hear of it, and it must be written down.
    News,
    /// Ended now: written down, groups must hear of it.
    Ended,
    /// It fires on with another text or value: groups hold it already, and it must be written down.
    Revised,
    /// It fires on, perhaps with a later end.
    Renewed,
    /// It had ended before, and this says so again.
    Repeated,
    /// It comes from outside, and the share of such alerts is used up; it was not taken.
    Refused,
}

/// The alerts that are known.
#[derive(Debug, Default)]
pub struct Alerts {
    rows: HashMap<u64, AlertRow, ahash::RandomState>,
    /// How many of them came from outside, and about how many bytes they take.
    posted: Share,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Share {
    alerts: usize,
    bytes: usize,
}

impl Share {
    /// What an alert takes of it.
    fn of(row: &AlertRow) -> Self {
        if !row.posted {
            return Share::default();
        }
        let pairs = row.alert.labels.iter().chain(row.alert.annotations.iter());
        let texts: usize = pairs.map(|(name, value)| name.len() + value.len()).sum();
        Share {
            alerts: 1,
            bytes: OVERHEAD + texts + row.alert.generator_url.len(),
        }
    }

    fn change(&mut self, before: Share, after: Share) {
        self.alerts = (self.alerts + after.alerts).saturating_sub(before.alerts);
        self.bytes = (self.bytes + after.bytes).saturating_sub(before.bytes);
    }
}

impl Alerts {
    /// Takes a report in and says what it changed; of alerts from outside at most `share` are kept.
    pub fn put(&mut self, incoming: Incoming, share: usize, now: Timestamp) -> Change {
        let fingerprint = incoming.alert.fingerprint();
        let mut new = AlertRow {
            alert: incoming.alert,
            timeout: incoming.timeout,
            left: Vec::new(),
            posted: incoming.posted,
        };
        let Some(old) = self.rows.get_mut(&fingerprint) else {
            let taken = Share::of(&new);
            if new.posted
                && (self.posted.alerts >= share
                    || self.posted.bytes + taken.bytes > MAX_POSTED_BYTES)
            {
                return Change::Refused;
            }
            self.posted.change(Share::default(), taken);
            self.rows.insert(fingerprint, new);
            return Change::News;
        };
        let before = Share::of(old);
        // What a rule of our own says, too, is ours.
        new.posted &= old.posted;
        let was_over = old.alert.is_resolved(now);
        let mut merged = if overlap(&old.alert, &new.alert) {
            merge(old, new, now)
        } else {
            new
        };
        // Evidence is gathered once, when the alert begins.
        if merged.alert.evidence.is_empty() && merged.alert.starts_at == old.alert.starts_at {
            merged.alert.evidence = std::mem::take(&mut old.alert.evidence);
        }
        let is_over = merged.alert.is_resolved(now);
        merged.left = if was_over && is_over {
            std::mem::take(&mut old.left)
        } else {
            Vec::new()
        };
        let shown = |alert: &Alert| {
            (
                alert.annotations.clone(),
                alert.value.map(f64::to_bits),
                alert.peak.map(f64::to_bits),
            )
        };
        let revised = shown(&merged.alert) != shown(&old.alert);
        self.posted.change(before, Share::of(&merged));
        *old = merged;
        match (was_over, is_over) {
            (true, false) => Change::News,
            (false, false) if revised => Change::Revised,
            (false, false) => Change::Renewed,
            (false, true) => Change::Ended,
            (true, _) => Change::Repeated,
        }
    }

    /// Takes back what the database remembered. An alert that fired then is given time to be
    /// renewed before it counts as over: as long as its sender had promised, at least
    /// `resolve_timeout`.
    pub fn restore(&mut self, mut row: AlertRow, now: Timestamp, resolve_timeout: Duration) {
        if !row.alert.is_resolved(row.alert.updated_at) {
            let promised = row
                .alert
                .ends_at
                .map_or(Duration::ZERO, |end| end.since(row.alert.updated_at));
            row.alert.ends_at = Some(now + promised.max(resolve_timeout));
            row.timeout = true;
        }
        let taken = Share::of(&row);
        let before = self
            .rows
            .insert(row.alert.fingerprint(), row)
            .map_or(Share::default(), |old| Share::of(&old));
        self.posted.change(before, taken);
    }

    /// Notes that a group has dealt with the end of an alert that other groups still hold.
    pub fn leave(&mut self, fingerprint: u64, group: &str) -> Option<AlertRow> {
        let row = self.rows.get_mut(&fingerprint)?;
        row.left.push(group.to_owned());
        Some(row.clone())
    }

    /// The alert with this fingerprint.
    pub fn get(&self, fingerprint: u64) -> Option<&AlertRow> {
        self.rows.get(&fingerprint)
    }

    /// All of them, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &AlertRow> + Clone {
        self.rows.values()
    }

    /// The alerts that have not ended at `now`.
    pub fn firing(&self, now: Timestamp) -> impl Iterator<Item = &Alert> + Clone {
        self.rows
            .values()
            .map(|row| &row.alert)
            .filter(move |alert| !alert.is_resolved(now))
    }

    /// Changes all of them; not their labels, by which they are found.
    pub(in crate::alerting) fn for_each(&mut self, mut change: impl FnMut(&mut Alert)) {
        self.rows
            .values_mut()
            .for_each(|row| change(&mut row.alert));
    }

    /// How many are known.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether none is known.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Forgets alerts that ended long ago and that no group still has to tell about.
    pub fn collect_garbage(&mut self, now: Timestamp, held: impl Fn(u64) -> bool) {
        let posted = &mut self.posted;
        self.rows.retain(|fingerprint, row| {
            let stays = !row.alert.is_resolved(now - REMEMBER) || held(*fingerprint);
            if !stays {
                posted.change(Share::of(row), Share::default());
            }
            stays
        });
    }
}

fn end(alert: &Alert) -> Timestamp {
    alert.ends_at.unwrap_or(Timestamp::MAX)
}

fn overlap(old: &Alert, new: &Alert) -> bool {
    let inside = |instant: Timestamp| old.starts_at < instant && instant < end(old);
    inside(end(new)) || inside(new.starts_at)
}

/// SEMANTICS 138: the younger one rules, but starts as early and ends as late as what is known for
/// certain.
fn merge(old: &AlertRow, new: AlertRow, now: Timestamp) -> AlertRow {
    let (older, mut younger) = if new.alert.updated_at < old.alert.updated_at {
        (new, old.clone())
    } else {
        (old.clone(), new)
    };
    younger.alert.starts_at = younger.alert.starts_at.min(older.alert.starts_at);
    let keep_older_end = match (older.alert.ends_at, younger.alert.ends_at) {
        (Some(older_end), Some(younger_end)) if older_end > younger_end => {
            if younger.alert.is_resolved(now) {
                older.alert.is_resolved(now)
            } else {
                !older.timeout
            }
        }
        _ => false,
    };
    if keep_older_end {
        younger.alert.ends_at = older.alert.ends_at;
    }
    younger.alert.value = younger.alert.value.or(older.alert.value);
    younger.alert.peak = younger.alert.peak.or(older.alert.peak);
    younger
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alert(starts: i64, ends: Option<i64>, updated: i64) -> Alert {
        Alert {
            labels: Labels::from_pairs([("alertname", "A")]),
            annotations: Labels::empty(),
            starts_at: Timestamp(starts),
            ends_at: ends.map(Timestamp),
            updated_at: Timestamp(updated),
            generator_url: String::new(),
            value: None,
            peak: None,
            evidence: Vec::new(),
            shipped: false,
        }
    }

    fn put_all(reports: &[(Alert, bool, i64)]) -> (Vec<Change>, AlertRow) {
        let mut alerts = Alerts::default();
        let put = |(alert, timeout, now): &(Alert, bool, i64)| {
            alerts.put(
                Incoming {
                    alert: alert.clone(),
                    timeout: *timeout,
                    posted: false,
                },
                MAX_POSTED,
                Timestamp(*now),
            )
        };
        let changes = reports.iter().map(put).collect();
        let row = alerts.iter().next().expect("one alert").clone();
        (changes, row)
    }

    /// SEMANTICS 138 and 139.
    #[test]
    fn overlapping_reports_are_merged_and_others_replace() {
        // Renewal with a later end.
        let (changes, row) = put_all(&[
            (alert(10, Some(100), 10), false, 10),
            (alert(10, Some(160), 70), false, 70),
        ]);
        assert_eq!(
            (changes, row.alert.ends_at),
            (vec![Change::News, Change::Renewed], Some(Timestamp(160)))
        );
        // A younger report with an earlier end does not shorten an explicit one …
        let (_, row) = put_all(&[
            (alert(10, Some(500), 10), false, 10),
            (alert(20, Some(300), 70), true, 70),
        ]);
        assert_eq!(
            (row.alert.starts_at, row.alert.ends_at),
            (Timestamp(10), Some(Timestamp(500)))
        );
        // … but it does shorten a time-out.
        let (_, row) = put_all(&[
            (alert(10, Some(500), 10), true, 10),
            (alert(20, Some(300), 70), true, 70),
        ]);
        assert_eq!(row.alert.ends_at, Some(Timestamp(300)));
        // A resolve, its repetition, and a new trouble.
        let (changes, row) = put_all(&[
            (alert(10, None, 10), false, 10),
            (alert(10, Some(50), 50), false, 50),
            (alert(10, Some(50), 110), false, 110),
            (alert(200, None, 200), false, 200),
        ]);
        assert_eq!(
            changes,
            [Change::News, Change::Ended, Change::Repeated, Change::News]
        );
        assert_eq!(
            (row.alert.starts_at, row.alert.ends_at),
            (Timestamp(200), None)
        );
    }

    #[test]
    fn a_restored_alert_is_given_time_to_be_renewed() {
        let mut alerts = Alerts::default();
        let row = |alert| AlertRow {
            alert,
            timeout: false,
            left: Vec::new(),
            posted: false,
        };
        alerts.restore(
            row(alert(0, Some(240_000), 0)),
            Timestamp(9_000_000),
            Duration::from_secs(300),
        );
        assert_eq!(
            alerts.iter().next().expect("one").alert.ends_at,
            Some(Timestamp(9_300_000))
        );
        alerts.restore(
            row(alert(0, Some(900_000), 0)),
            Timestamp(9_000_000),
            Duration::from_secs(300),
        );
        assert_eq!(
            alerts.iter().next().expect("one").alert.ends_at,
            Some(Timestamp(9_900_000)),
            "as long as was promised"
        );
        alerts.restore(
            row(alert(0, Some(50), 50)),
            Timestamp(9_000_000),
            Duration::from_secs(300),
        );
        assert_eq!(
            alerts.iter().next().expect("one").alert.ends_at,
            Some(Timestamp(50)),
            "a real end stays"
        );
    }

    /// SEMANTICS 136 and 137.
    #[test]
    fn a_posted_alert_is_completed_or_refused() {
        let minute = Duration::from_secs(60);
        let posted = |starts: Option<i64>, ends: Option<i64>| PostedAlert {
            labels: vec![("a".into(), "1".into()), ("b".into(), String::new())],
            starts_at: starts.map(Timestamp),
            ends_at: ends.map(Timestamp),
            ..PostedAlert::default()
        };
        let got = posted(None, None)
            .accept(Timestamp(1000), minute)
            .expect("accepted");
        assert_eq!(
            (got.alert.starts_at, got.alert.ends_at, got.timeout),
            (Timestamp(1000), Some(Timestamp(61_000)), true)
        );
        assert_eq!(got.alert.labels, Labels::from_pairs([("a", "1")]));
        let got = posted(None, Some(500))
            .accept(Timestamp(1000), minute)
            .expect("accepted");
        assert_eq!(
            (got.alert.starts_at, got.alert.ends_at, got.timeout),
            (Timestamp(500), Some(Timestamp(500)), false)
        );
        assert!(
            posted(Some(2), Some(1))
                .accept(Timestamp(1000), minute)
                .is_err()
        );
        assert!(
            PostedAlert::default()
                .accept(Timestamp(1000), minute)
                .is_err()
        );
    }

    /// Alerts from outside have a share, those of our own rules are always taken, and what has gone
    /// leaves room.
    #[test]
    fn alerts_from_outside_have_a_share_and_own_ones_are_always_taken() {
        let named = |name: &str, ends: Option<i64>| Alert {
            labels: Labels::from_pairs([("alertname", name)]),
            ..alert(0, ends, 0)
        };
        let posted = |name: &str, ends| Incoming {
            alert: named(name, ends),
            timeout: false,
            posted: true,
        };
        let mut alerts = Alerts::default();
        let put = |alerts: &mut Alerts, incoming| alerts.put(incoming, 2, Timestamp(10));
        assert_eq!(put(&mut alerts, posted("a", Some(5))), Change::News);
        assert_eq!(put(&mut alerts, posted("b", None)), Change::News);
        assert_eq!(put(&mut alerts, posted("c", None)), Change::Refused);
        assert_eq!(
            put(&mut alerts, Incoming::from(named("own", None))),
            Change::News,
            "of our own"
        );
        assert_eq!(
            put(&mut alerts, posted("b", None)),
            Change::Renewed,
            "what is known is renewed"
        );
        alerts.collect_garbage(Timestamp(REMEMBER.as_millis() as i64 + 100), |_| false);
        assert_eq!(
            put(&mut alerts, posted("c", None)),
            Change::News,
            "there is room again"
        );
        assert_eq!(
            put(&mut alerts, Incoming::from(named("c", None))),
            Change::Renewed
        );
        assert_eq!(
            put(&mut alerts, posted("d", None)),
            Change::News,
            "what is ours takes nothing of the share"
        );
        assert_eq!(put(&mut alerts, posted("e", None)), Change::Refused);
    }

    #[test]
    fn what_is_posted_is_bounded_and_holds_no_byte_that_a_database_refuses() {
        let refused = |labels: Vec<(String, String)>, annotations: Vec<(String, String)>| {
            let posted = PostedAlert {
                labels,
                annotations,
                ..PostedAlert::default()
            };
            posted
                .accept(Timestamp(1000), Duration::from_secs(60))
                .err()
        };
        let pair = |name: &str, value: &str| vec![(name.to_owned(), value.to_owned())];
        for (labels, annotations) in [
            (pair("alertname", "a\0b"), Vec::new()),
            (pair("a\0", "b"), Vec::new()),
            (pair("alertname", "a"), pair("summary", "\0")),
            (pair("alertname", &"x".repeat(MAX_LABEL + 1)), Vec::new()),
            (pair(&"x".repeat(MAX_NAME + 1), "a"), Vec::new()),
            (
                pair("alertname", "a"),
                pair("summary", &"x".repeat(MAX_ANNOTATION + 1)),
            ),
            (
                (0..=MAX_PAIRS)
                    .map(|n| (format!("l{n}"), "x".to_owned()))
                    .collect(),
                Vec::new(),
            ),
        ] {
            assert!(
                refused(labels.clone(), annotations).is_some_and(|why| why.to_string().len() < 400),
                "{labels:?}"
            );
        }
        assert_eq!(
            refused(
                pair("alertname", &"x".repeat(MAX_LABEL)),
                pair("summary", "fine")
            ),
            None
        );
    }
}
