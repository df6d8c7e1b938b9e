//! Table `flaps`: when alerts began to fire lately, and which of them flap.

use serde::{Deserialize, Serialize};

use crate::model::Timestamp;
use crate::state::statement::{Statement, statement};
use crate::state::{Error, State, on_pool};

/// How often one alert changed lately.
#[derive(Clone, Debug, PartialEq)]
pub struct FlapRow {
    /// The alert.
    pub fingerprint: u64,
    /// When it began to fire lately, oldest first.
    pub begins: Vec<Timestamp>,
    /// The first of the firings because of which it flaps, or flapped before it settled.
    pub since: Option<Timestamp>,
    /// Whether it has settled since then.
    pub settled: bool,
    /// How often it fired from `since` on.
    pub firings: usize,
    /// When it last began or ended.
    pub changed_at: Timestamp,
    /// Its last values, oldest first, where they are known.
    pub values: Vec<f64>,
}

#[derive(Serialize, Deserialize)]
struct Body {
    begins: Vec<i64>,
    since: Option<i64>,
    settled: bool,
    firings: usize,
    values: Vec<f64>,
}

impl State {
    /// Every row; one that cannot be read is left out.
    pub async fn flaps(&self) -> Result<Vec<FlapRow>, Error> {
        let rows: Vec<(String, i64, String)> = on_pool!(self, "read flaps", |pool| async {
            sqlx::query_as("SELECT fingerprint, changed_ms, body FROM flaps")
                .fetch_all(pool)
                .await
        })?;
        let row = |(fingerprint, changed, body): (String, i64, String)| {
            let body: Body = serde_json::from_str(&body).ok()?;
            Some(FlapRow {
                fingerprint: u64::from_str_radix(&fingerprint, 16).ok()?,
                begins: body.begins.into_iter().map(Timestamp).collect(),
                since: body.since.map(Timestamp),
                settled: body.settled,
                firings: body.firings,
                changed_at: Timestamp(changed),
                values: body.values,
            })
        };
        Ok(rows.into_iter().filter_map(row).collect())
    }

    /// Forgets alerts that have not changed since `before`.
    pub async fn prune_flaps(&self, before: Timestamp) -> Result<(), Error> {
        self.write(
            "prune flaps",
            &[statement(
                "DELETE FROM flaps WHERE changed_ms < $1",
                [before.into()],
            )],
        )
        .await
    }
}

pub(in crate::state) fn put(row: &FlapRow) -> Statement {
    let body = Body {
        begins: row.begins.iter().map(|t| t.0).collect(),
        since: row.since.map(|t| t.0),
        settled: row.settled,
        firings: row.firings,
        values: row.values.clone(),
    };
    statement(
        "INSERT INTO flaps (fingerprint, changed_ms, body) VALUES ($1, $2, $3) \
         ON CONFLICT (fingerprint) DO UPDATE SET changed_ms = excluded.changed_ms, body = excluded.body",
        [
            format!("{:016x}", row.fingerprint).into(),
            row.changed_at.into(),
            // Finite numbers and lists of them always have a JSON form.
            serde_json::to_string(&body).unwrap_or_default().into(),
        ],
    )
}

pub(in crate::state) fn clear() -> Statement {
    statement("DELETE FROM flaps", [])
}
