//! Tables `maintenance_done`, `maintenance_windows` and `schedules`: the maintenance calendar, and
//! when what is scheduled last began.

use crate::model::Timestamp;
use crate::state::statement::statement;
use crate::state::{Error, State, on_pool};

/// Most entries that are kept of a task, and most windows; the oldest go first.
const MAX_DONE: i64 = 200;
/// Most windows that are kept; the oldest go first.
const MAX_WINDOWS: i64 = 2000;

/// A task that somebody has done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DoneRow {
    /// Identity of the entry.
    pub id: String,
    /// The task's name.
    pub task: String,
    /// When it was done.
    pub at: Timestamp,
    /// When that was noted.
    pub noted_at: Timestamp,
    /// Who did it.
    pub by: String,
    /// What they say about it.
    pub note: String,
}

/// A planned window.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WindowRow {
    /// The id of its silence.
    pub id: String,
    /// When it begins.
    pub starts_at: Timestamp,
    /// When it ends.
    pub ends_at: Timestamp,
    /// The rest as JSON.
    pub body: String,
}

impl State {
    /// The newest entries of all tasks, newest first, at most `limit`.
    pub async fn tasks_done(&self, limit: i64) -> Result<Vec<DoneRow>, Error> {
        let rows: Vec<(String, String, i64, i64, String, String)> = on_pool!(
            self,
            "read maintenance",
            |pool| async {
                sqlx::query_as("SELECT id, task, at_ms, noted_ms, who, note FROM maintenance_done ORDER BY at_ms DESC, id LIMIT $1")
                .bind(limit)
                .fetch_all(pool)
                .await
            }
        )?;
        let row = |(id, task, at, noted, by, note)| DoneRow {
            id,
            task,
            at: Timestamp(at),
            noted_at: Timestamp(noted),
            by,
            note,
        };
        Ok(rows.into_iter().map(row).collect())
    }

    /// The newest entry of each task.
    pub async fn tasks_last_done(&self) -> Result<Vec<DoneRow>, Error> {
        let rows: Vec<(String, String, i64, i64, String, String)> =
            on_pool!(self, "read maintenance", |pool| async {
                sqlx::query_as(
                    "SELECT id, task, at_ms, noted_ms, who, note FROM maintenance_done AS one \
                 WHERE at_ms = (SELECT MAX(at_ms) FROM maintenance_done WHERE task = one.task)",
                )
                .fetch_all(pool)
                .await
            })?;
        let row = |(id, task, at, noted, by, note)| DoneRow {
            id,
            task,
            at: Timestamp(at),
            noted_at: Timestamp(noted),
            by,
            note,
        };
        Ok(rows.into_iter().map(row).collect())
    }

    /// Notes that a task was done, and forgets its oldest entries beyond [`MAX_DONE`].
    pub async fn put_task_done(&self, row: &DoneRow) -> Result<(), Error> {
        let put = statement(
            "INSERT INTO maintenance_done (id, task, at_ms, noted_ms, who, note) VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (id) DO NOTHING",
            [
                row.id.as_str().into(),
                row.task.as_str().into(),
                row.at.into(),
                row.noted_at.into(),
                row.by.as_str().into(),
                row.note.as_str().into(),
            ],
        );
        let forget = statement(
            "DELETE FROM maintenance_done WHERE task = $1 AND id NOT IN \
             (SELECT id FROM maintenance_done WHERE task = $1 ORDER BY at_ms DESC, id LIMIT $2)",
            [row.task.as_str().into(), MAX_DONE.into()],
        );
        self.write("write maintenance", &[put, forget]).await
    }

    /// The windows that end after `from` and begin before `to`, the latest first.
    pub async fn windows(&self, from: Timestamp, to: Timestamp) -> Result<Vec<WindowRow>, Error> {
        let rows: Vec<(String, i64, i64, String)> = on_pool!(self, "read windows", |pool| async {
            sqlx::query_as(
                "SELECT id, starts_ms, ends_ms, body FROM maintenance_windows WHERE ends_ms >= $1 AND starts_ms <= $2 \
                 ORDER BY starts_ms DESC, id LIMIT $3",
            )
            .bind(from.0)
            .bind(to.0)
            .bind(MAX_WINDOWS)
            .fetch_all(pool)
            .await
        })?;
        let row = |(id, starts, ends, body)| WindowRow {
            id,
            starts_at: Timestamp(starts),
            ends_at: Timestamp(ends),
            body,
        };
        Ok(rows.into_iter().map(row).collect())
    }

    /// Keeps a window, or changes one, and forgets the oldest beyond [`MAX_WINDOWS`].
    pub async fn put_window(&self, row: &WindowRow) -> Result<(), Error> {
        let put = statement(
            "INSERT INTO maintenance_windows (id, starts_ms, ends_ms, body) VALUES ($1, $2, $3, $4) ON CONFLICT (id) DO UPDATE \
             SET starts_ms = excluded.starts_ms, ends_ms = excluded.ends_ms, body = excluded.body",
            [
                row.id.as_str().into(),
                row.starts_at.into(),
                row.ends_at.into(),
                row.body.as_str().into(),
            ],
        );
        let forget = statement(
            "DELETE FROM maintenance_windows WHERE id NOT IN (SELECT id FROM maintenance_windows ORDER BY starts_ms DESC, id LIMIT $1)",
            [MAX_WINDOWS.into()],
        );
        self.write("write windows", &[put, forget]).await
    }

    /// When everything that is scheduled last began, or was first seen.
    pub async fn schedules(&self) -> Result<Vec<(String, Timestamp)>, Error> {
        let rows: Vec<(String, i64)> = on_pool!(self, "read schedules", |pool| async {
            sqlx::query_as("SELECT name, at_ms FROM schedules")
                .fetch_all(pool)
                .await
        })?;
        Ok(rows
            .into_iter()
            .map(|(name, at)| (name, Timestamp(at)))
            .collect())
    }

    /// Notes when something that is scheduled began; `anew` also where that is known already.
    pub async fn put_schedule(&self, name: &str, at: Timestamp, anew: bool) -> Result<(), Error> {
        let sql = match anew {
            true => {
                "INSERT INTO schedules (name, at_ms) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET at_ms = excluded.at_ms"
            }
            false => {
                "INSERT INTO schedules (name, at_ms) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING"
            }
        };
        self.write(
            "write schedules",
            &[statement(sql, [name.into(), at.into()])],
        )
        .await
    }
}
