//! Table `silences`: one row a silence, its content as JSON text that `alerting` writes and reads.

use crate::model::Timestamp;
use crate::state::statement::{Statement, statement};
use crate::state::{Error, State, on_pool};

/// A silence as it lies in the database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SilenceRow {
    /// UUID.
    pub id: String,
    /// When it begins to mute.
    pub starts_at: Timestamp,
    /// When it stops.
    pub ends_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
    /// Matchers, author, comment and annotations as JSON.
    pub body: String,
}

impl State {
    /// Every silence, expired ones included until they are pruned.
    pub async fn silences(&self) -> Result<Vec<SilenceRow>, Error> {
        let rows: Vec<(String, i64, i64, i64, String)> =
            on_pool!(self, "read silences", |pool| async {
                sqlx::query_as(
                    "SELECT id, starts_ms, ends_ms, updated_ms, body FROM silences ORDER BY id",
                )
                .fetch_all(pool)
                .await
            })?;
        let row = |(id, starts, ends, updated, body)| SilenceRow {
            id,
            starts_at: Timestamp(starts),
            ends_at: Timestamp(ends),
            updated_at: Timestamp(updated),
            body,
        };
        Ok(rows.into_iter().map(row).collect())
    }

    /// Writes silences, replacing those with the same id, all or none.
    pub async fn put_silences(&self, silences: &[SilenceRow]) -> Result<(), Error> {
        let statements: Vec<Statement> = silences.iter().map(put).collect();
        self.write("write silences", &statements).await
    }

    /// Removes silences that ended before `before`.
    pub async fn prune_silences(&self, before: Timestamp) -> Result<(), Error> {
        self.write(
            "prune silences",
            &[statement(
                "DELETE FROM silences WHERE ends_ms < $1",
                [before.into()],
            )],
        )
        .await
    }
}

fn put(row: &SilenceRow) -> Statement {
    statement(
        "INSERT INTO silences (id, starts_ms, ends_ms, updated_ms, body) VALUES ($1, $2, $3, $4, $5) ON CONFLICT (id) DO UPDATE \
         SET starts_ms = excluded.starts_ms, ends_ms = excluded.ends_ms, updated_ms = excluded.updated_ms, body = excluded.body",
        [
            row.id.as_str().into(),
            row.starts_at.into(),
            row.ends_at.into(),
            row.updated_at.into(),
            row.body.as_str().into(),
        ],
    )
}
