//! Table `action_log`: what recovery actions did, for 30 days. A row is there before its action
//! begins, so that nothing is done twice unknown.

use serde::{Deserialize, Serialize};

use crate::model::{ActionOutcome, Timestamp};
use crate::state::statement::{Statement, statement};
use crate::state::{Error, State, on_pool};

/// Most rows that are kept; the oldest go first.
pub const MAX_ACTIONS: i64 = 10_000;

/// One action, taken or not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ActionRow {
    /// Follows from the message and the target: the same message never acts twice on one target.
    pub id: String,
    /// `receiver/notifier/index`.
    pub integration: String,
    /// What is done to what, without secrets.
    pub target: String,
    /// When it began, or would have.
    pub begun_at: Timestamp,
    /// What came of it.
    pub outcome: ActionOutcome,
    /// The rest.
    pub body: ActionBody,
}

/// What is known of an action beside what it is found by.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActionBody {
    /// The name of the first alert that it was about.
    pub alert: String,
    /// Fingerprints of the alerts.
    pub alerts: Vec<u64>,
    /// The outcome in a few words: `exit status 3`.
    #[serde(default)]
    pub detail: String,
    /// What it printed.
    #[serde(default)]
    pub output: String,
    /// When it ended, in milliseconds since the Unix epoch.
    #[serde(default)]
    pub ended_ms: Option<i64>,
    /// When it is judged, likewise.
    #[serde(default)]
    pub verify_ms: Option<i64>,
    /// Whether the alerts had ended by then.
    #[serde(default)]
    pub helped: Option<bool>,
}

/// A query for actions, as [`row`] reads them.
macro_rules! actions {
    ($rest:literal) => {
        concat!(
            "SELECT id, integration, target, begun_ms, outcome, body FROM action_log ",
            $rest
        )
    };
}

type Columns = (String, String, String, i64, String, String);

/// A row that another version wrote and this one cannot read is left out.
fn row((id, integration, target, begun, outcome, body): Columns) -> Option<ActionRow> {
    let outcome = ActionOutcome::parse(&outcome)?;
    Some(ActionRow {
        id,
        integration,
        target,
        begun_at: Timestamp(begun),
        outcome,
        body: serde_json::from_str(&body).ok()?,
    })
}

impl State {
    /// What was done since `since`, youngest first, at most `limit`.
    pub async fn actions(&self, since: Timestamp, limit: i64) -> Result<Vec<ActionRow>, Error> {
        let rows: Vec<Columns> = on_pool!(self, "read action log", |pool| async {
            sqlx::query_as(actions!(
                "WHERE begun_ms >= $1 \
                 ORDER BY begun_ms DESC, id LIMIT $2"
            ))
            .bind(since.0)
            .bind(limit)
            .fetch_all(pool)
            .await
        })?;
        Ok(rows.into_iter().filter_map(row).collect())
    }

    /// What an integration did to one target since `since`, youngest first, at most `limit`.
    pub async fn actions_on(
        &self,
        integration: &str,
        target: &str,
        since: Timestamp,
        limit: i64,
    ) -> Result<Vec<ActionRow>, Error> {
        let rows: Vec<Columns> = on_pool!(self, "read action log", |pool| async {
            sqlx::query_as(actions!(
                "WHERE integration = $1 AND target = $2 \
                 AND begun_ms >= $3 ORDER BY begun_ms DESC, id LIMIT $4"
            ))
            .bind(integration)
            .bind(target)
            .bind(since.0)
            .bind(limit)
            .fetch_all(pool)
            .await
        })?;
        Ok(rows.into_iter().filter_map(row).collect())
    }

    /// How many actions an integration began since `since`, on whatever target.
    pub async fn actions_begun(&self, integration: &str, since: Timestamp) -> Result<i64, Error> {
        let (count,): (i64,) = on_pool!(self, "read action log", |pool| async {
            sqlx::query_as(
                "SELECT COUNT(*) FROM action_log WHERE integration = $1 AND begun_ms >= $2 \
                 AND outcome IN ('running', 'succeeded', 'failed', 'timed_out', 'unknown')",
            )
            .bind(integration)
            .bind(since.0)
            .fetch_one(pool)
            .await
        })?;
        Ok(count)
    }

    /// Writes an action down, or what more is known of it.
    pub async fn put_action(&self, action: &ActionRow) -> Result<(), Error> {
        self.write("write action", &[put(action)]).await
    }

    /// After a start: what was under way then may have happened or not.
    pub async fn forget_running_actions(&self) -> Result<(), Error> {
        let (running, unknown) = (
            ActionOutcome::Running.as_str(),
            ActionOutcome::Unknown.as_str(),
        );
        let update = statement(
            "UPDATE action_log SET outcome = $1 WHERE outcome = $2",
            [unknown.into(), running.into()],
        );
        self.write("write action", &[update]).await
    }

    /// Removes what began before `before`, and the oldest beyond [`MAX_ACTIONS`].
    pub async fn prune_actions(&self, before: Timestamp) -> Result<(), Error> {
        let old = statement(
            "DELETE FROM action_log WHERE begun_ms < $1",
            [before.into()],
        );
        let many = statement(
            "DELETE FROM action_log WHERE id NOT IN (SELECT id FROM action_log ORDER BY begun_ms DESC LIMIT $1)",
            [MAX_ACTIONS.into()],
        );
        self.write("prune actions", &[old, many]).await
    }
}

pub(in crate::state) fn put(row: &ActionRow) -> Statement {
    statement(
        "INSERT INTO action_log (id, integration, target, begun_ms, outcome, body) VALUES ($1, $2, $3, $4, $5, $6) \
         ON CONFLICT (id) DO UPDATE SET outcome = excluded.outcome, body = excluded.body",
        [
            row.id.as_str().into(),
            row.integration.as_str().into(),
            row.target.as_str().into(),
            row.begun_at.into(),
            row.outcome.as_str().into(),
            // Strings, numbers and lists of them always have a JSON form.
            serde_json::to_string(&row.body).unwrap_or_default().into(),
        ],
    )
}
