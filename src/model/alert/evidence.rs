//! What speaks for an alert: values and circumstances that were found when it began to fire, and
//! what was done about it since.

use serde::{Deserialize, Serialize};

use super::action::ActionOutcome;
use crate::model::time::Timestamp;

/// One piece of evidence. A number that JSON cannot hold is left out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "clue", rename_all = "snake_case")]
pub enum Clue {
    /// The value of a part of the rule's expression.
    Part {
        /// The part.
        expression: String,
        /// Its value at the alert's labels.
        value: Option<f64>,
    },
    /// What the value was compared with.
    Threshold {
        /// The comparison, `>` for instance.
        operator: String,
        /// The limit.
        value: Option<f64>,
    },
    /// The value when all was still well.
    Before {
        /// The value.
        value: Option<f64>,
        /// When it was so.
        at_ms: i64,
    },
    /// How old the newest sample was.
    SampleAge {
        /// In seconds.
        seconds: f64,
    },
    /// How often the same alert fired in the last 30 days, this time not counted.
    Seen {
        /// How often.
        count: i64,
        /// When it did last.
        last_ms: Option<i64>,
    },
    /// Somebody was notified of it and has not acknowledged it, so that the next one is notified.
    Unanswered {
        /// Who was notified.
        receiver: String,
        /// When.
        since_ms: i64,
    },
    /// It begins and ends too often, or did until it settled.
    Flapping {
        /// How often it began to fire.
        firings: usize,
        /// The first of these firings.
        since_ms: i64,
        /// The last change before it settled; `None`: it flaps on.
        until_ms: Option<i64>,
        /// Whether it fires at this moment.
        fires: bool,
        /// Its last values, oldest first.
        values: Vec<f64>,
    },
    /// The value over the last hour.
    Series {
        /// When the first value was.
        from_ms: i64,
        /// Time between two values.
        step_ms: i64,
        /// The values; `None` where there was none.
        values: Vec<Option<f64>>,
    },
    /// Where its picture can be seen for a time.
    Picture {
        /// The link, which is signed.
        url: String,
    },
    /// What was done about the alert since it fires.
    Action {
        /// What was done to what.
        target: String,
        /// When it began.
        at_ms: i64,
        /// What came of it.
        outcome: ActionOutcome,
        /// The outcome in a few words.
        detail: String,
        /// The end of what it printed, as one line.
        output: String,
        /// Whether the alert was over some time after; `None`: that time has not come.
        helped: Option<bool>,
    },
    /// Lines of a log that it is about, the oldest first.
    Lines {
        /// The lines, without secrets.
        lines: Vec<String>,
    },
    /// What used most of something.
    Top {
        /// Of what.
        of: Top,
        /// Names and amounts, the greatest first.
        items: Vec<(String, f64)>,
    },
}

/// What a list of the greatest users is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Top {
    /// Groups of processes by CPU: seconds in a second.
    ProcessCpu,
    /// Groups of processes by memory: bytes.
    ProcessMemory,
    /// Statements by their time: seconds in a second.
    Statements,
}

impl Clue {
    /// The part of the rule's expression that it is about.
    pub fn expression(&self) -> Option<&str> {
        match self {
            Clue::Part { expression, .. } => Some(expression),
            _ => None,
        }
    }

    /// A sighting, from what the database counted.
    pub fn seen(count: i64, last: Option<Timestamp>) -> Self {
        Clue::Seen {
            count,
            last_ms: last.map(|t| t.0),
        }
    }
}
