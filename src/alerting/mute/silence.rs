//! Silences: people mute alerts for a time
//! (<https://prometheus.io/docs/alerting/latest/alertmanager/#silences>).

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::model::{Labels, MatchOp, Matcher, MatcherError, Timestamp};
use crate::state::SilenceRow;

/// How long an expired silence is kept.
pub const RETENTION: Duration = Duration::from_secs(120 * 3600);
/// Most silences that are kept; more are refused.
const MAX_SILENCES: usize = 10_000;

/// Where a silence is in its life.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SilenceState {
    /// It begins later.
    Pending,
    /// It mutes.
    Active,
    /// It is over.
    Expired,
}

impl SilenceState {
    /// The state in the API's word.
    pub fn as_str(self) -> &'static str {
        match self {
            SilenceState::Pending => "pending",
            SilenceState::Active => "active",
            SilenceState::Expired => "expired",
        }
    }
}

/// A silence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Silence {
    /// UUID; empty for one that is to be made.
    pub id: String,
    /// All must match for an alert to be muted.
    pub matchers: Vec<Matcher>,
    /// When it begins.
    pub starts_at: Timestamp,
    /// Its last instant.
    pub ends_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
    /// Who made it.
    pub created_by: String,
    /// Why.
    pub comment: String,
    /// Further texts.
    pub annotations: Vec<(String, String)>,
}

/// A silence was refused.
#[derive(Debug, thiserror::Error)]
pub enum SilenceError {
    /// It contradicts itself.
    #[error("invalid silence: {0}")]
    Invalid(String),
    /// There is none with this id.
    #[error("silence {0} not found")]
    NotFound(String),
    /// It could not be written down, so it does not mute.
    #[error("the silence is as it was, because it cannot be written down: {0}")]
    State(#[from] crate::state::Error),
    /// The dispatcher has stopped.
    #[error("alerting has stopped")]
    Stopped,
}

#[derive(Serialize, Deserialize)]
struct Body {
    matchers: Vec<(String, String, String)>,
    created_by: String,
    comment: String,
    annotations: Vec<(String, String)>,
}

/// Why a row of the database is no silence.
#[derive(Debug, thiserror::Error)]
pub enum UnreadableSilence {
    /// Its body is another JSON, or none.
    #[error(transparent)]
    Body(#[from] serde_json::Error),
    /// A matcher has an operator that there is not.
    #[error("operator {0:?}")]
    Operator(String),
    /// A matcher's pattern is none.
    #[error(transparent)]
    Pattern(#[from] MatcherError),
}

impl Silence {
    /// Where it is in its life at `now`.
    pub fn state(&self, now: Timestamp) -> SilenceState {
        if now < self.starts_at {
            SilenceState::Pending
        } else if now <= self.ends_at {
            SilenceState::Active
        } else {
            SilenceState::Expired
        }
    }

    /// Whether it mutes an alert with these labels at `now`.
    pub fn mutes(&self, labels: &Labels, now: Timestamp) -> bool {
        self.state(now) == SilenceState::Active
            && self.matchers.iter().all(|m| m.matches_labels(labels))
    }

    /// As a row of the database.
    pub fn to_row(&self) -> SilenceRow {
        let matcher = |m: &Matcher| (m.name.clone(), m.op.as_str().to_owned(), m.value.clone());
        let body = Body {
            matchers: self.matchers.iter().map(matcher).collect(),
            created_by: self.created_by.clone(),
            comment: self.comment.clone(),
            annotations: self.annotations.clone(),
        };
        SilenceRow {
            id: self.id.clone(),
            starts_at: self.starts_at,
            ends_at: self.ends_at,
            updated_at: self.updated_at,
            // Strings and lists of them always have a JSON form.
            body: serde_json::to_string(&body).unwrap_or_default(),
        }
    }

    /// From a row of the database.
    ///
    /// # Errors
    /// When it was not written by this program.
    pub fn from_row(row: SilenceRow) -> Result<Self, UnreadableSilence> {
        let body: Body = serde_json::from_str(&row.body)?;
        let matcher = |(name, op, value): &(String, String, String)| {
            let op = match op.as_str() {
                "=" => MatchOp::Equal,
                "!=" => MatchOp::NotEqual,
                "=~" => MatchOp::Regex,
                "!~" => MatchOp::NotRegex,
                other => return Err(UnreadableSilence::Operator(other.to_owned())),
            };
            Ok(Matcher::new(name, op, value)?)
        };
        Ok(Silence {
            id: row.id,
            matchers: body
                .matchers
                .iter()
                .map(matcher)
                .collect::<Result<_, _>>()?,
            starts_at: row.starts_at,
            ends_at: row.ends_at,
            updated_at: row.updated_at,
            created_by: body.created_by,
            comment: body.comment,
            annotations: body.annotations,
        })
    }

    fn check(&self, now: Timestamp) -> Result<(), SilenceError> {
        let invalid = |reason: &str| Err(SilenceError::Invalid(reason.into()));
        if self.matchers.is_empty() {
            return invalid("at least one matcher required");
        }
        if self.matchers.iter().any(|m| m.name.is_empty()) {
            return invalid("a matcher has no label name");
        }
        if self
            .matchers
            .iter()
            .all(|m| matches!(m.op, MatchOp::Equal | MatchOp::Regex) && m.matches(""))
        {
            return invalid("at least one matcher must not match the empty string");
        }
        if self.ends_at < now {
            return invalid("end time can't be in the past");
        }
        if self.starts_at >= self.ends_at {
            return invalid("start time must be before end time");
        }
        Ok(())
    }

    /// Whether `new` may replace this one under the same id (SEMANTICS 166).
    fn can_become(&self, new: &Silence, now: Timestamp) -> bool {
        let second = |t: Timestamp| t.0.div_euclid(1000);
        self.matchers == new.matchers
            && match self.state(now) {
                SilenceState::Active => {
                    second(new.starts_at) == second(self.starts_at) && new.ends_at >= now
                }
                SilenceState::Pending => new.starts_at >= now,
                SilenceState::Expired => false,
            }
    }
}

/// The silences that are known.
#[derive(Clone, Debug, Default)]
pub struct Silences(BTreeMap<String, Silence>);

impl Silences {
    /// All of them, ordered by id.
    pub fn iter(&self) -> impl Iterator<Item = &Silence> {
        self.0.values()
    }

    /// The one with this id.
    pub fn get(&self, id: &str) -> Option<&Silence> {
        self.0.get(id)
    }

    /// Ids of the silences that mute an alert with these labels at `now`.
    pub fn muting(&self, labels: &Labels, now: Timestamp) -> Vec<&str> {
        self.0
            .values()
            .filter(|s| s.mutes(labels, now))
            .map(|s| s.id.as_str())
            .collect()
    }

    /// Takes silences as they are: from the database, or after they were written to it.
    pub fn apply(&mut self, silences: impl IntoIterator<Item = Silence>) {
        self.0
            .extend(silences.into_iter().map(|s| (s.id.clone(), s)));
    }

    /// What must change so that `silence` holds; its id is the last one's. `new_id` is used when a
    /// new one is made.
    pub fn plan_set(
        &self,
        mut silence: Silence,
        new_id: String,
        now: Timestamp,
    ) -> Result<Vec<Silence>, SilenceError> {
        silence.updated_at = now;
        let old = match silence.id.as_str() {
            "" => None,
            id => Some(
                self.0
                    .get(id)
                    .ok_or_else(|| SilenceError::NotFound(id.into()))?,
            ),
        };
        if old.is_some_and(|old| old.can_become(&silence, now)) {
            silence.check(now)?;
            return Ok(vec![silence]);
        }
        if self.0.len() >= MAX_SILENCES {
            return Err(SilenceError::Invalid(format!(
                "there are {MAX_SILENCES} silences already"
            )));
        }
        silence.starts_at = silence.starts_at.max(now);
        silence.check(now)?;
        silence.id = new_id;
        let expired = old
            .filter(|old| old.state(now) != SilenceState::Expired)
            .map(|old| expired(old, now));
        Ok(expired.into_iter().chain([silence]).collect())
    }

    /// What must change so that the silence with this id is over; nothing when it is already.
    pub fn plan_expire(&self, id: &str, now: Timestamp) -> Result<Option<Silence>, SilenceError> {
        let old = self
            .0
            .get(id)
            .ok_or_else(|| SilenceError::NotFound(id.into()))?;
        Ok((old.state(now) != SilenceState::Expired).then(|| expired(old, now)))
    }

    /// Forgets those that ended before `before`.
    pub fn prune(&mut self, before: Timestamp) {
        self.0.retain(|_, s| s.ends_at >= before);
    }
}

/// The end lies just before `now`, because a silence's last instant still mutes.
fn expired(old: &Silence, now: Timestamp) -> Silence {
    let last = Timestamp(now.0 - 1);
    Silence {
        starts_at: old.starts_at.min(last),
        ends_at: last,
        updated_at: now,
        ..old.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn silence(id: &str, starts: i64, ends: i64) -> Silence {
        Silence {
            id: id.into(),
            matchers: vec![Matcher::equal("a", "1")],
            starts_at: Timestamp(starts),
            ends_at: Timestamp(ends),
            updated_at: Timestamp(0),
            created_by: "me".into(),
            comment: "why".into(),
            annotations: Vec::new(),
        }
    }

    /// SEMANTICS 164 to 167.
    #[test]
    fn a_silence_lives_mutes_and_expires() {
        let mut silences = Silences::default();
        let made = silences
            .plan_set(silence("", 0, 10_000), "id1".into(), Timestamp(5000))
            .expect("valid");
        assert_eq!(
            (made.len(), made[0].id.as_str(), made[0].starts_at),
            (1, "id1", Timestamp(5000)),
            "a past start becomes now"
        );
        silences.apply(made);
        let labels = Labels::from_pairs([("a", "1")]);
        assert_eq!(
            silences.muting(&labels, Timestamp(10_000)),
            ["id1"],
            "the end is included"
        );
        assert!(silences.muting(&labels, Timestamp(10_001)).is_empty());
        assert!(silences.muting(&labels, Timestamp(4999)).is_empty());

        let longer = silences
            .plan_set(silence("id1", 5000, 20_000), "id2".into(), Timestamp(6000))
            .expect("valid");
        assert_eq!(
            longer.iter().map(|s| s.id.as_str()).collect::<Vec<_>>(),
            ["id1"],
            "updated in place"
        );
        silences.apply(longer);
        let moved = silences
            .plan_set(silence("id1", 8000, 20_000), "id2".into(), Timestamp(7000))
            .expect("valid");
        assert_eq!(
            moved.iter().map(|s| s.id.as_str()).collect::<Vec<_>>(),
            ["id1", "id2"],
            "another start is another silence"
        );
        silences.apply(moved);
        assert!(
            silences.muting(&labels, Timestamp(7000)).is_empty(),
            "the old one is over at once"
        );

        let over = silences
            .plan_expire("id2", Timestamp(9000))
            .expect("known")
            .expect("active");
        silences.apply([over]);
        assert!(
            silences
                .plan_expire("id2", Timestamp(9000))
                .expect("known")
                .is_none(),
            "a second time is no error"
        );
        assert!(matches!(
            silences.plan_expire("nope", Timestamp(0)),
            Err(SilenceError::NotFound(_))
        ));
        silences.prune(Timestamp(9_000));
        assert_eq!(silences.iter().count(), 0);
    }

    #[test]
    fn a_silence_that_would_mute_everything_or_nothing_is_refused() {
        let silences = Silences::default();
        let refused = |silence: Silence| {
            silences
                .plan_set(silence, "x".into(), Timestamp(5000))
                .is_err()
        };
        assert!(refused(Silence {
            matchers: Vec::new(),
            ..silence("", 0, 10_000)
        }));
        let empty = Matcher::new("a", MatchOp::Regex, ".*").expect("valid");
        assert!(refused(Silence {
            matchers: vec![empty],
            ..silence("", 0, 10_000)
        }));
        assert!(refused(silence("", 9000, 9000)));
        assert!(refused(silence("", 0, 4000)));
        assert!(refused(silence("unknown", 0, 10_000)));
    }

    #[test]
    fn the_database_gives_back_what_it_was_given() {
        let silence = silence("id", 1, 2);
        assert_eq!(Silence::from_row(silence.to_row()).ok(), Some(silence));
        assert!(
            Silence::from_row(SilenceRow {
                body: "x".into(),
                ..self::silence("id", 1, 2).to_row()
            })
            .is_err()
        );
    }
}
