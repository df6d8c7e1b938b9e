//! Table `notification_log`: what each integration was last notified of each group. Fingerprints
//! are stored as hexadecimal words.

use crate::model::Timestamp;
use crate::state::statement::{Statement, statement};
use crate::state::{Error, State, on_pool};

/// The last message decided for one group and one integration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogRow {
    /// Alertmanager's group key.
    pub group_key: String,
    /// `receiver/notifier/index`.
    pub integration: String,
    /// When the message was decided.
    pub sent_at: Timestamp,
    /// Fingerprints of the alerts that fired in it, sorted.
    pub firing: Vec<u64>,
    /// Fingerprints of the alerts that were resolved in it, sorted.
    pub resolved: Vec<u64>,
    /// When the row may be forgotten.
    pub expires_at: Timestamp,
}

pub(in crate::state) fn words(fingerprints: &[u64]) -> String {
    let words: Vec<String> = fingerprints.iter().map(|f| format!("{f:016x}")).collect();
    words.join(" ")
}

pub(in crate::state) fn fingerprints(words: &str) -> Vec<u64> {
    words
        .split_ascii_whitespace()
        .filter_map(|w| u64::from_str_radix(w, 16).ok())
        .collect()
}

impl State {
    /// Every entry.
    pub async fn notification_log(&self) -> Result<Vec<LogRow>, Error> {
        let rows: Vec<(String, String, i64, String, String, i64)> = on_pool!(
            self,
            "read notification log",
            |pool| async {
                sqlx::query_as("SELECT group_key, integration, sent_ms, firing, resolved, expires_ms FROM notification_log")
                .fetch_all(pool)
                .await
            }
        )?;
        let row = |(group_key, integration, sent, firing, resolved, expires): (
            String,
            String,
            i64,
            String,
            String,
            i64,
        )| LogRow {
            group_key,
            integration,
            sent_at: Timestamp(sent),
            firing: fingerprints(&firing),
            resolved: fingerprints(&resolved),
            expires_at: Timestamp(expires),
        };
        Ok(rows.into_iter().map(row).collect())
    }

    /// Removes the entries of these groups and integrations.
    pub async fn forget_log_entries(&self, entries: &[(String, String)]) -> Result<(), Error> {
        let remove = |(group, integration): &(String, String)| {
            statement(
                "DELETE FROM notification_log WHERE group_key = $1 AND integration = $2",
                [group.as_str().into(), integration.as_str().into()],
            )
        };
        self.write(
            "prune notification log",
            &entries.iter().map(remove).collect::<Vec<_>>(),
        )
        .await
    }
}

pub(in crate::state) fn put(row: &LogRow) -> Statement {
    statement(
        "INSERT INTO notification_log (group_key, integration, sent_ms, firing, resolved, expires_ms) VALUES ($1, $2, $3, $4, $5, $6) \
         ON CONFLICT (group_key, integration) DO UPDATE SET sent_ms = excluded.sent_ms, firing = excluded.firing, \
         resolved = excluded.resolved, expires_ms = excluded.expires_ms",
        [
            row.group_key.as_str().into(),
            row.integration.as_str().into(),
            row.sent_at.into(),
            words(&row.firing).into(),
            words(&row.resolved).into(),
            row.expires_at.into(),
        ],
    )
}
