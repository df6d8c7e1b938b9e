//! What a run says of itself: the body of `POST /api/nightbell/job/NAME`.

use serde::{Deserialize, Serialize};

use super::process::Process;

/// Longest id, in bytes.
pub const MAX_ID: usize = 100;

/// What happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Event {
    /// A run began.
    Start,
    /// A run ended; with an exit code other than 0 it failed.
    #[default]
    Finish,
    /// A run was not begun because another one is under way.
    Skip,
}

/// One report. An empty one says that a run ended well just now.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Report {
    /// What happened.
    pub event: Event,
    /// Which run it is: reports of one id belong together, and its end counts once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The exit status of the command; 128 and the number of the signal that ended it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// The command was stopped because it took too long.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub timed_out: bool,
    /// When it began, Unix seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started_at: Option<f64>,
    /// When it ended, Unix seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<f64>,
    /// How long it took, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duration_seconds: Option<f64>,
    /// The command's process.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub process: Option<Process>,
}

impl Report {
    /// What is wrong with it, for its sender.
    pub fn problem(&self) -> Option<String> {
        if self.id.as_ref().is_some_and(|id| id.len() > MAX_ID) {
            return Some(format!("id is longer than {MAX_ID} bytes"));
        }
        let times = [
            ("started_at", self.started_at),
            ("ended_at", self.ended_at),
            ("duration_seconds", self.duration_seconds),
        ];
        let wrong = times
            .into_iter()
            .find(|(_, value)| value.is_some_and(|value| !value.is_finite() || value < 0.0));
        wrong.map(|(name, _)| format!("{name} is not a number of seconds, 0 or more"))
    }
}
