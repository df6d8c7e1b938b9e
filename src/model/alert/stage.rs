//! The stages at which it is decided whether people hear of an alert, as they are recorded and
//! shown.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::action::ActionOutcome;
use crate::model::labels::Labels;
use crate::model::time::Timestamp;

/// An alert that mutes another one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Inhibitor {
    /// Its fingerprint, in hexadecimal.
    pub fingerprint: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
}

/// A silence that mutes an alert.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Silencer {
    /// Its id.
    pub id: String,
    /// Who made it.
    pub created_by: String,
    /// Why.
    pub comment: String,
    /// Its last instant.
    #[serde(with = "instant")]
    pub ends_at: Timestamp,
}

/// One decision about one alert. The order is the order in which they are taken: the first one that
/// stops an alert is the one that counts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "stage", rename_all = "snake_case")]
pub enum Stage {
    /// No rule has this name, and no such alert came from outside.
    NoRule,
    /// Nobody knows: it is too long ago.
    NothingRecorded,
    /// The rule's expression cannot be evaluated.
    RuleFailing {
        /// Why.
        error: String,
    },
    /// The rule has not been evaluated yet.
    NotEvaluated,
    /// The expression finds no series.
    NoSeries {
        /// The part of the expression that is empty.
        expression: String,
    },
    /// The series is there, its value is not bad enough.
    BelowThreshold {
        /// The value.
        value: f64,
        /// The comparison, `>` for instance.
        operator: String,
        /// What the value is compared with.
        threshold: f64,
        /// How far the value is from the threshold.
        by: f64,
        /// The labels of the series that is nearest to the threshold.
        series: BTreeMap<String, String>,
        /// How many series were compared.
        compared: usize,
    },
    /// A condition that is not a comparison does not hold.
    ConditionFalse {
        /// The condition.
        expression: String,
    },
    /// The condition holds, but not for long enough.
    Pending {
        /// Since when it holds.
        #[serde(with = "instant")]
        since: Timestamp,
        /// How long it must hold, in seconds (`for`).
        #[serde(rename = "for_seconds", with = "seconds")]
        hold: Duration,
    },
    /// The condition ceased to hold before it had held for long enough.
    PendingEnded {
        /// Since when it held.
        #[serde(with = "instant")]
        since: Timestamp,
    },
    /// The expression has no result for it, because its input is missing; the alert stays as it
    /// was.
    HeldNoData {
        /// Since when.
        #[serde(with = "instant")]
        since: Timestamp,
        /// The series that are missing, or their target; some of them, when there are many.
        missing: Vec<String>,
    },
    /// The condition has ceased to hold, and the condition of recovery does not hold yet: the alert
    /// goes on firing.
    NotRecovered {
        /// Since when.
        #[serde(with = "instant")]
        since: Timestamp,
        /// The condition of recovery (`recover_expr`).
        expression: String,
    },
    /// What held the alert has ended.
    HoldEnded {
        /// Since when it was held.
        #[serde(with = "instant")]
        since: Timestamp,
    },
    /// Another alert mutes it.
    Inhibited {
        /// Which.
        by: Vec<Inhibitor>,
    },
    /// Its route is quiet now.
    Muted {
        /// The time intervals because of which it is.
        intervals: Vec<String>,
    },
    /// People mute it.
    Silenced {
        /// With which silences.
        by: Vec<Silencer>,
    },
    /// It waits for the next message of its group.
    Waiting {
        /// When that is due.
        #[serde(with = "instant")]
        until: Timestamp,
        /// Whether it is the alert's end that waits.
        resolved: bool,
    },
    /// Its receiver has no integration: it is meant for nobody.
    #[serde(alias = "nobody_to_tell")]
    NoIntegration,
    /// The alert ended before anyone was notified of it: there is nothing to take back.
    #[serde(alias = "ended_untold")]
    EndedUnnotified,
    /// The receiver does not want to hear of ends (`send_resolved: false`).
    EndNotWanted,
    /// It begins and ends too often: the receiver knows, and hears of it again when it has settled.
    Flapping {
        /// The first of the firings because of which it flaps.
        #[serde(with = "instant")]
        since: Timestamp,
        /// When the message about it was decided.
        #[serde(with = "instant", alias = "told_at")]
        notified_at: Timestamp,
        /// How long it must neither begin nor end to have settled, in seconds.
        #[serde(rename = "stable_for_seconds", with = "seconds")]
        stable_for: Duration,
    },
    /// The receiver knows already, and nothing has changed.
    Deduplicated {
        /// When the message about it was decided.
        #[serde(with = "instant", alias = "told_at")]
        notified_at: Timestamp,
        /// When it will be notified again (`repeat_interval`).
        #[serde(with = "instant")]
        until: Timestamp,
    },
    /// A message was written and is on its way.
    Sending {
        /// Why, in Alertmanager's words.
        reason: String,
        /// Its delivery id.
        delivery_id: String,
    },
    /// A message was written and waits for the end of its receiver's quiet hours.
    Held {
        /// Its delivery id.
        delivery_id: String,
    },
    /// The receiver is down, and the message went to its fallback.
    HandedOver {
        /// The integrations that have it now.
        to: Vec<String>,
    },
    /// The receiver takes no more messages for a while.
    RateLimited {
        /// What it said.
        error: String,
    },
    /// The receiver did not accept the message; it is tried again.
    Failing {
        /// Why.
        error: String,
    },
    /// The receiver refused the message for good, or it became too old; it is kept as a dead
    /// letter.
    GivenUp {
        /// Why.
        error: String,
    },
    /// The receiver is a recovery action: it was taken, or was not.
    Acted {
        /// What was done to what.
        action: String,
        /// What came of it.
        outcome: ActionOutcome,
        /// The outcome in a few words.
        detail: String,
        /// Whether the alert was over some time after; `None`: that time has not come.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        helped: Option<bool>,
    },
    /// The receiver accepted the message.
    Delivered {
        /// Whether the message was about the alert's end.
        resolved: bool,
    },
}

impl Stage {
    /// Whether people have heard of the alert.
    pub fn is_notified(&self) -> bool {
        matches!(
            self,
            Stage::Delivered { .. } | Stage::Deduplicated { .. } | Stage::Flapping { .. }
        )
    }

    /// Whether the rule keeps the alert as it is, though its expression has no result for it.
    pub fn is_hold(&self) -> bool {
        matches!(self, Stage::HeldNoData { .. } | Stage::NotRecovered { .. })
    }

    /// Whether nobody was meant to hear.
    pub fn is_unwanted(&self) -> bool {
        matches!(
            self,
            Stage::NoIntegration
                | Stage::EndedUnnotified
                | Stage::EndNotWanted
                | Stage::Acted { .. }
        )
    }

    /// The position in the order of decisions.
    pub fn rank(&self) -> usize {
        match self {
            Stage::NoRule => 0,
            Stage::NotEvaluated | Stage::NothingRecorded => 1,
            Stage::RuleFailing { .. } => 2,
            Stage::NoSeries { .. } => 3,
            Stage::BelowThreshold { .. } => 4,
            Stage::ConditionFalse { .. } => 5,
            Stage::Pending { .. } => 6,
            Stage::PendingEnded { .. } => 7,
            Stage::HeldNoData { .. } => 8,
            Stage::NotRecovered { .. } => 9,
            Stage::HoldEnded { .. } => 10,
            Stage::Inhibited { .. } => 11,
            Stage::Muted { .. } => 12,
            Stage::Silenced { .. } => 13,
            Stage::Waiting { .. } => 14,
            Stage::NoIntegration => 15,
            Stage::EndedUnnotified => 16,
            Stage::EndNotWanted => 17,
            Stage::Flapping { .. } => 18,
            Stage::Deduplicated { .. } => 19,
            Stage::Sending { .. } => 20,
            Stage::Held { .. } => 21,
            Stage::RateLimited { .. } => 22,
            Stage::Failing { .. } => 23,
            Stage::GivenUp { .. } => 24,
            Stage::HandedOver { .. } => 25,
            Stage::Delivered { .. } => 26,
            Stage::Acted { .. } => 27,
        }
    }
}

/// Labels as JSON shows them.
pub fn label_map(labels: &Labels) -> BTreeMap<String, String> {
    labels
        .iter()
        .map(|(n, v)| (n.to_owned(), v.to_owned()))
        .collect()
}

/// An instant as RFC 3339 text.
pub mod instant {
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error};

    use crate::model::Timestamp;

    /// Writes it.
    pub fn serialize<S: Serializer>(at: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&at.rfc3339())
    }

    /// Reads it.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
        let text = String::deserialize(deserializer)?;
        Timestamp::parse_rfc3339(&text).ok_or_else(|| D::Error::custom("not an instant"))
    }
}

mod seconds {
    use std::time::Duration;

    use serde::{Deserialize as _, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(duration.as_secs_f64())
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        let seconds = f64::deserialize(deserializer)?;
        Ok(Duration::try_from_secs_f64(seconds).unwrap_or_default())
    }
}
