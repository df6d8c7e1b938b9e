//! Table `alert_groups`: the timers of the aggregation groups, so that a restart neither forgets
//! nor repeats a wait.

use crate::model::Timestamp;
use crate::state::statement::{Statement, statement};
use crate::state::{Error, State, on_pool};

/// The timer of one aggregation group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupRow {
    /// Route identity and group labels.
    pub id: String,
    /// When it is next flushed.
    pub next_flush: Timestamp,
    /// Whether it was flushed at least once.
    pub flushed: bool,
}

impl State {
    /// Every timer.
    pub async fn alert_groups(&self) -> Result<Vec<GroupRow>, Error> {
        let rows: Vec<(String, i64, i64)> = on_pool!(self, "read groups", |pool| async {
            sqlx::query_as("SELECT id, next_flush_ms, flushed FROM alert_groups")
                .fetch_all(pool)
                .await
        })?;
        Ok(rows
            .into_iter()
            .map(|(id, next, flushed)| GroupRow {
                id,
                next_flush: Timestamp(next),
                flushed: flushed != 0,
            })
            .collect())
    }
}

pub(in crate::state) fn put(row: &GroupRow) -> Statement {
    statement(
        "INSERT INTO alert_groups (id, next_flush_ms, flushed) VALUES ($1, $2, $3) ON CONFLICT (id) DO UPDATE \
         SET next_flush_ms = excluded.next_flush_ms, flushed = excluded.flushed",
        [
            row.id.as_str().into(),
            row.next_flush.into(),
            i64::from(row.flushed).into(),
        ],
    )
}

pub(in crate::state) fn remove(id: &str) -> Statement {
    statement("DELETE FROM alert_groups WHERE id = $1", [id.into()])
}

pub(in crate::state) fn clear() -> Statement {
    statement("DELETE FROM alert_groups", [])
}
