//! Windows that come again (`maintenance_windows`): their silences are made beforehand, each once.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLock;
use tracing::{info, warn};

use crate::alerting::Handle;
use crate::collectors::schedule::{self, Schedule};
use crate::config::Section;
use crate::maintenance::{Calendar, WindowBody};
use crate::model::{Timestamp, format_duration};
use crate::web::maintenance::{plan, read_matchers};

/// How often it is looked what comes next.
const LOOK: Duration = Duration::from_secs(30);
/// How long before it begins a window is announced.
const ANNOUNCED: Duration = Duration::from_secs(86_400);

/// An entry of `maintenance_windows`.
#[derive(Clone, Debug)]
pub struct Recurring {
    name: String,
    schedule: Schedule,
    duration: Duration,
    matchers: Vec<String>,
    comment: String,
}

impl Recurring {
    /// Reads the list.
    pub fn read_all(root: &Section<'_>) -> Vec<Self> {
        let mut found: Vec<Recurring> = Vec::new();
        for section in root.sections("maintenance_windows") {
            let name: String = section.require("name");
            if found.iter().any(|window| window.name == name) {
                section.error(
                    "name",
                    format!("{name:?} is the name of another window"),
                    "give each window a name of its own",
                );
            }
            let schedule = schedule::read(&section, "schedule");
            if section.node("schedule").is_none() {
                section.error(
                    "",
                    "has no schedule",
                    "add schedule: \"Sun 04:00\" and a timezone",
                );
            }
            let duration: Duration = section.or("duration", Duration::from_secs(1800));
            if duration.is_zero() {
                section.error("duration", "is zero", "give for example 30m");
            }
            let matchers: Vec<String> = section.require("matchers");
            if let Err(error) = read_matchers(&matchers) {
                section.error(
                    "matchers",
                    error.to_string(),
                    "give matchers such as [instance=db1]",
                );
            }
            let comment = section.or("comment", String::new());
            section.finish();
            found.extend(schedule.map(|schedule| Recurring {
                name,
                schedule,
                duration,
                matchers,
                comment,
            }));
        }
        found
    }
}

/// Plans what comes until the process ends, as `settings` says at the time.
pub(in crate::app) async fn run(
    settings: Arc<RwLock<Vec<Recurring>>>,
    alerting: Handle,
    calendar: Calendar,
) -> Result<(), Infallible> {
    loop {
        let windows = settings.read().clone();
        for window in &windows {
            announce(window, &alerting, &calendar, Timestamp::now()).await;
        }
        tokio::time::sleep(LOOK).await;
    }
}

async fn announce(window: &Recurring, alerting: &Handle, calendar: &Calendar, now: Timestamp) {
    let Some(next) = window
        .schedule
        .after(now)
        .filter(|next| *next <= now + ANNOUNCED)
    else {
        return;
    };
    let planned = format!("{}@{}", window.name, next.0);
    // Without the database nobody knows whether it is planned already: it is asked again.
    let Ok(known) = calendar.windows(now, next + window.duration).await else {
        return;
    };
    if known.iter().any(|one| one.about.planned == planned) {
        return;
    }
    let comment = if window.comment.is_empty() {
        window.name.clone()
    } else {
        window.comment.clone()
    };
    let about = WindowBody {
        matchers: window.matchers.clone(),
        comment,
        author: "maintenance_windows".into(),
        planned,
    };
    match plan(alerting, calendar, next, window.duration, about).await {
        Ok(made) => {
            let duration = format_duration(window.duration);
            info!(
                window = window.name,
                start = next.rfc3339(),
                duration,
                silence = made.id,
                "A planned window was announced."
            );
        }
        Err(error) => {
            warn!(window = window.name, start = next.rfc3339(), %error, "A planned window cannot be announced.")
        }
    }
}
