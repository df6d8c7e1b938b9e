//! Tables `escalations` (critical alerts that wait for somebody to acknowledge them) and `secrets`
//! (keys of this installation).

use crate::model::Timestamp;
use crate::state::statement::{Statement, statement};
use crate::state::{Error, State, on_pool};

/// One alert on its way from contact to contact, beginning at one receiver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EscalationRow {
    /// The alert.
    pub fingerprint: u64,
    /// The receiver that was notified first.
    pub receiver: String,
    /// When the alert began: another beginning is another escalation.
    pub starts_at: Timestamp,
    /// When that receiver was notified.
    pub notified_at: Timestamp,
    /// How many further contacts have been notified.
    pub level: usize,
    /// When and by whom it was acknowledged.
    pub acknowledged: Option<(Timestamp, String)>,
}

type Columns = (String, String, i64, i64, i64, i64, String);

impl State {
    /// Every escalation; a row that cannot be read is left out.
    pub async fn escalations(&self) -> Result<Vec<EscalationRow>, Error> {
        let rows: Vec<Columns> = on_pool!(self, "read escalations", |pool| async {
            sqlx::query_as("SELECT fingerprint, receiver, starts_ms, told_ms, level, acknowledged_ms, acknowledged_by FROM escalations")
                .fetch_all(pool)
                .await
        })?;
        let row = |(fingerprint, receiver, starts, told_ms, level, at, by): Columns| {
            Some(EscalationRow {
                fingerprint: u64::from_str_radix(&fingerprint, 16).ok()?,
                receiver,
                starts_at: Timestamp(starts),
                notified_at: Timestamp(told_ms),
                level: usize::try_from(level).ok()?,
                acknowledged: (at > 0).then_some((Timestamp(at), by)),
            })
        };
        Ok(rows.into_iter().filter_map(row).collect())
    }

    /// The key of this name; `fresh` becomes it where there is none yet.
    pub async fn secret(&self, name: &str, fresh: &str) -> Result<String, Error> {
        let put = statement(
            "INSERT INTO secrets (name, value) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING",
            [name.into(), fresh.into()],
        );
        self.write("write secret", &[put]).await?;
        let (value,): (String,) = on_pool!(self, "read secret", |pool| async {
            sqlx::query_as("SELECT value FROM secrets WHERE name = $1")
                .bind(name)
                .fetch_one(pool)
                .await
        })?;
        Ok(value)
    }
}

pub(in crate::state) fn put(row: &EscalationRow) -> Statement {
    let (at, by) = row
        .acknowledged
        .as_ref()
        .map_or((0, ""), |(at, by)| (at.0, by.as_str()));
    statement(
        "INSERT INTO escalations (fingerprint, receiver, starts_ms, told_ms, level, acknowledged_ms, acknowledged_by) \
         VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (fingerprint, receiver) DO UPDATE SET starts_ms = excluded.starts_ms, \
         told_ms = excluded.told_ms, level = excluded.level, acknowledged_ms = excluded.acknowledged_ms, \
         acknowledged_by = excluded.acknowledged_by",
        [
            format!("{:016x}", row.fingerprint).into(),
            row.receiver.as_str().into(),
            row.starts_at.into(),
            row.notified_at.into(),
            i64::try_from(row.level).unwrap_or(i64::MAX).into(),
            at.into(),
            by.into(),
        ],
    )
}

pub(in crate::state) fn remove(row: &EscalationRow) -> Statement {
    statement(
        "DELETE FROM escalations WHERE fingerprint = $1 AND receiver = $2",
        [
            format!("{:016x}", row.fingerprint).into(),
            row.receiver.as_str().into(),
        ],
    )
}

pub(in crate::state) fn clear() -> Statement {
    statement("DELETE FROM escalations", [])
}
