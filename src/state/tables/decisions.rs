//! Table `decisions`: what was decided about alerts, for 30 days. A row is written in the
//! transaction that the decision belongs to.

use serde::{Deserialize, Serialize};

use super::notification_log::{fingerprints, words};
use crate::model::{Labels, Stage, Timestamp};
use crate::state::statement::{Statement, statement};
use crate::state::{Error, State, on_pool};

/// Most rows that are kept; the oldest go first.
pub const MAX_DECISIONS: i64 = 100_000;

/// Where an alert is sent: a group of a route.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct AlertPath {
    /// Alertmanager's group key.
    pub group_key: String,
    /// Who is notified.
    pub receiver: String,
    /// When the group's next message was due.
    #[serde(with = "crate::model::alert::stage::instant")]
    pub due: Timestamp,
}

/// One decision about one or several alerts.
#[derive(Clone, Debug, PartialEq)]
pub struct DecisionRow {
    /// The alert's name, a group key or an integration.
    pub scope: String,
    /// When it was decided.
    pub at: Timestamp,
    /// Fingerprints of the alerts.
    pub alerts: Vec<u64>,
    /// The integration, where a flush decided for one.
    pub integration: String,
    /// What was decided.
    pub stage: Stage,
    /// The labels, where the scope is the alert's name.
    pub labels: Labels,
    /// Where the alert will be sent, where that was decided.
    pub paths: Vec<AlertPath>,
}

#[derive(Serialize, Deserialize)]
struct Body {
    #[serde(default, skip_serializing_if = "String::is_empty")]
    integration: String,
    decision: Stage,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    labels: Vec<(String, String)>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    paths: Vec<AlertPath>,
}

type Columns = (String, i64, String, String);

/// A row that another version wrote and this one cannot read is left out.
fn row((scope, at, alerts, body): Columns) -> Option<DecisionRow> {
    let body: Body = serde_json::from_str(&body).ok()?;
    Some(DecisionRow {
        scope,
        at: Timestamp(at),
        alerts: fingerprints(&alerts),
        integration: body.integration,
        stage: body.decision,
        labels: Labels::from_pairs(body.labels),
        paths: body.paths,
    })
}

impl State {
    /// What was decided up to `until` in a scope, youngest first, at most `limit`; about one alert,
    /// if `fingerprint` is given.
    pub async fn decisions(
        &self,
        scope: &str,
        fingerprint: Option<u64>,
        until: Timestamp,
        limit: i64,
    ) -> Result<Vec<DecisionRow>, Error> {
        let pattern = fingerprint.map_or_else(|| "%".to_owned(), |f| format!("%{f:016x}%"));
        let rows: Vec<Columns> = on_pool!(self, "read decisions", |pool| async {
            sqlx::query_as(
                "SELECT scope, at_ms, alerts, body FROM decisions WHERE scope = $1 AND at_ms <= $2 AND alerts LIKE $3 \
                 ORDER BY seq DESC LIMIT $4",
            )
            .bind(scope)
            .bind(until.0)
            .bind(pattern.as_str())
            .bind(limit)
            .fetch_all(pool)
            .await
        })?;
        Ok(rows.into_iter().filter_map(row).collect())
    }

    /// How often an alert came to fire since `since`, and when it did last.
    pub async fn firings(
        &self,
        name: &str,
        fingerprint: u64,
        since: Timestamp,
    ) -> Result<(i64, Option<Timestamp>), Error> {
        let alert = format!("{fingerprint:016x}");
        let (count, last): (i64, Option<i64>) = on_pool!(self, "read decisions", |pool| async {
            sqlx::query_as(
                "SELECT COUNT(*), MAX(at_ms) FROM decisions WHERE scope = $1 AND alerts = $2 AND at_ms >= $3 \
                 AND body LIKE '%\"stage\":\"waiting\"%\"resolved\":false%'",
            )
            .bind(name)
            .bind(alert.as_str())
            .bind(since.0)
            .fetch_one(pool)
            .await
        })?;
        Ok((count, last.map(Timestamp)))
    }

    /// Writes decisions that belong to no other change.
    pub async fn record_decisions(&self, decisions: &[DecisionRow]) -> Result<(), Error> {
        self.write(
            "write decisions",
            &decisions.iter().map(put).collect::<Vec<_>>(),
        )
        .await
    }

    /// Removes what was decided before `before`, and the oldest beyond [`MAX_DECISIONS`].
    pub async fn prune_decisions(&self, before: Timestamp) -> Result<(), Error> {
        let old = statement("DELETE FROM decisions WHERE at_ms < $1", [before.into()]);
        let many = statement(
            "DELETE FROM decisions WHERE seq <= (SELECT MAX(seq) FROM decisions) - $1",
            [MAX_DECISIONS.into()],
        );
        self.write("prune decisions", &[old, many]).await
    }
}

pub(in crate::state) fn put(row: &DecisionRow) -> Statement {
    let body = Body {
        integration: row.integration.clone(),
        decision: row.stage.clone(),
        labels: row
            .labels
            .iter()
            .map(|(n, v)| (n.to_owned(), v.to_owned()))
            .collect(),
        paths: row.paths.clone(),
    };
    statement(
        "INSERT INTO decisions (seq, scope, at_ms, alerts, body) VALUES ((SELECT COALESCE(MAX(seq), 0) + 1 FROM decisions), $1, $2, $3, $4)",
        [
            row.scope.as_str().into(),
            row.at.into(),
            words(&row.alerts).into(),
            // Strings, numbers and lists of them always have a JSON form.
            serde_json::to_string(&body).unwrap_or_default().into(),
        ],
    )
}
