//! Table `alerts`: the alerts that some group still has to notify of. A resolved alert leaves when
//! its end has been notified.

use serde::{Deserialize, Serialize};

use crate::model::alert::evidence::Clue;
use crate::model::{Alert, Labels, Timestamp};
use crate::state::statement::{Statement, statement};
use crate::state::{Error, State, on_pool};

/// An alert as it lies in the database.
#[derive(Clone, Debug, PartialEq)]
pub struct AlertRow {
    /// The alert.
    pub alert: Alert,
    /// Whether `ends_at` is only a time-out, not an end that the sender named.
    pub timeout: bool,
    /// Groups that have dealt with its end, while others have not.
    pub left: Vec<String>,
    /// Whether it came from outside, not from a rule of our own.
    pub posted: bool,
}

#[derive(Serialize, Deserialize)]
struct Body {
    labels: Vec<(String, String)>,
    annotations: Vec<(String, String)>,
    starts_at: i64,
    ends_at: Option<i64>,
    timeout: bool,
    updated_at: i64,
    generator_url: String,
    value: Option<f64>,
    peak: Option<f64>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    evidence: Vec<Clue>,
    #[serde(default)]
    shipped: bool,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    left: Vec<String>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    posted: bool,
}

fn pairs(labels: &Labels) -> Vec<(String, String)> {
    labels
        .iter()
        .map(|(n, v)| (n.to_owned(), v.to_owned()))
        .collect()
}

fn body(row: &AlertRow) -> String {
    let alert = &row.alert;
    let body = Body {
        labels: pairs(&alert.labels),
        annotations: pairs(&alert.annotations),
        starts_at: alert.starts_at.0,
        ends_at: alert.ends_at.map(|t| t.0),
        timeout: row.timeout,
        updated_at: alert.updated_at.0,
        generator_url: alert.generator_url.clone(),
        value: alert.value,
        peak: alert.peak,
        evidence: alert.evidence.clone(),
        shipped: alert.shipped,
        left: row.left.clone(),
        posted: row.posted,
    };
    // Strings, numbers and lists of them always have a JSON form.
    serde_json::to_string(&body).unwrap_or_default()
}

fn row(text: &str) -> Result<AlertRow, serde_json::Error> {
    let body: Body = serde_json::from_str(text)?;
    let alert = Alert {
        labels: Labels::from_pairs(body.labels),
        annotations: Labels::from_pairs(body.annotations),
        starts_at: Timestamp(body.starts_at),
        ends_at: body.ends_at.map(Timestamp),
        updated_at: Timestamp(body.updated_at),
        generator_url: body.generator_url,
        value: body.value,
        peak: body.peak,
        evidence: body.evidence,
        shipped: body.shipped,
    };
    Ok(AlertRow {
        alert,
        timeout: body.timeout,
        left: body.left,
        posted: body.posted,
    })
}

impl State {
    /// Every alert whose end was not notified yet. A row that cannot be read is left out, counted
    /// in the second value.
    pub async fn alerts(&self) -> Result<(Vec<AlertRow>, usize), Error> {
        let rows: Vec<(String,)> = on_pool!(self, "read alerts", |pool| async {
            sqlx::query_as("SELECT body FROM alerts ORDER BY fingerprint")
                .fetch_all(pool)
                .await
        })?;
        let total = rows.len();
        let alerts: Vec<AlertRow> = rows.iter().filter_map(|(text,)| row(text).ok()).collect();
        let unreadable = total - alerts.len();
        Ok((alerts, unreadable))
    }
}

pub(in crate::state) fn put(row: &AlertRow) -> Statement {
    statement(
        "INSERT INTO alerts (fingerprint, body) VALUES ($1, $2) ON CONFLICT (fingerprint) DO UPDATE SET body = excluded.body",
        [
            format!("{:016x}", row.alert.fingerprint()).into(),
            body(row).into(),
        ],
    )
}

pub(in crate::state) fn remove(fingerprint: u64) -> Statement {
    statement(
        "DELETE FROM alerts WHERE fingerprint = $1",
        [format!("{fingerprint:016x}").into()],
    )
}

pub(in crate::state) fn clear() -> Statement {
    statement("DELETE FROM alerts", [])
}
