//! Queries of the configuration, on a connection of their own for the moment of a collection.
//!
//! The file is opened read-only and `query_only`, and a statement runs as a part of a SELECT of
//! nightbell's own: a PRAGMA or an ATTACH cannot stand there. A text that is no label is never a
//! number, whatever it looks like.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::TryStreamExt as _;
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use sqlx::{
    AssertSqlSafe, Column as _, Connection as _, Executor as _, Row as _, SqlSafeStr as _,
    Statement as _,
};
use tokio::time::{Instant, timeout_at};

use super::super::sql::{Answer, Cell, Failure, MAX_LABEL, Query, Role, Run, label};
use super::look::{Access, Look};
use super::{Problem, open};

/// How long SQLite is waited for beyond the time that it was given.
const GRACE: Duration = Duration::from_millis(250);
/// How many of SQLite's steps pass between two looks at the clock.
const STEPS: i32 = 10_000;

/// Runs what is due, until the deadline.
pub async fn run_all(path: &Path, seen: &Look, due: &[Arc<Query>], deadline: Instant) -> Vec<Run> {
    if due.is_empty() {
        return Vec::new();
    }
    let all = |failure: Failure| {
        due.iter()
            .map(|query| failed(query, Duration::ZERO, failure.clone()))
            .collect()
    };
    if seen.access == Access::Header {
        return all(Failure {
            reason: "the file is in WAL mode, and to read it SQLite would have to make the files -wal or -shm beside it".to_owned(),
            remedy: Some("it can be read while the application has it open, and its files are readable for nightbell's user".to_owned()),
        });
    }
    let busy = deadline.saturating_duration_since(Instant::now()) / 4;
    let mut connection: Option<SqliteConnection> = None;
    let mut runs = Vec::new();
    for query in due {
        let started = Instant::now();
        if deadline.saturating_duration_since(started) < GRACE {
            break;
        }
        let mut open = match connection.take() {
            Some(connection) => connection,
            None => match prepared(path, seen.access, busy).await {
                Ok(connection) => connection,
                Err(error) => {
                    runs.push(failed(
                        query,
                        started.elapsed(),
                        Failure::new(Problem::from(error).to_string()),
                    ));
                    continue;
                }
            },
        };
        let timeout = query
            .timeout
            .min(
                deadline
                    .saturating_duration_since(started)
                    .saturating_sub(GRACE),
            )
            .max(Duration::from_millis(10));
        let result =
            match timeout_at(started + timeout + GRACE, run(&mut open, query, timeout)).await {
                Ok(result) => {
                    connection = Some(open);
                    result
                }
                Err(_) => Err(late(timeout)),
            };
        let result = match result {
            // Without locks: what was read is one state of the file only if nobody wrote to it.
            Ok(_) if seen.access == Access::Immutable && !seen.is_still(path).await => {
                Err(Failure::new("the file was written meanwhile"))
            }
            other => other,
        };
        runs.push(Run {
            query: Arc::clone(query),
            took: started.elapsed(),
            result,
        });
    }
    if let Some(connection) = connection {
        // Nothing is lost with a connection that only read.
        drop(connection.close().await);
    }
    runs
}

fn failed(query: &Arc<Query>, took: Duration, failure: Failure) -> Run {
    Run {
        query: Arc::clone(query),
        took,
        result: Err(failure),
    }
}

fn late(timeout: Duration) -> Failure {
    let reason = format!("timed out after {:.1} s", timeout.as_secs_f64());
    Failure {
        reason,
        remedy: Some("make it faster, or raise its timeout:".to_owned()),
    }
}

async fn prepared(
    path: &Path,
    access: Access,
    busy: Duration,
) -> Result<SqliteConnection, sqlx::Error> {
    let mut connection = open(path, access, busy).await?;
    connection.execute("PRAGMA query_only = ON").await?;
    Ok(connection)
}

async fn run(
    connection: &mut SqliteConnection,
    query: &Query,
    timeout: Duration,
) -> Result<Answer, Failure> {
    let limit = std::time::Instant::now() + timeout;
    let failure = |error: sqlx::Error| match std::time::Instant::now() >= limit {
        true => late(timeout),
        false => Failure::new(query.redact(&Problem::from(error).to_string())),
    };
    let mut handle = connection.lock_handle().await.map_err(failure)?;
    handle.set_progress_handler(STEPS, move || std::time::Instant::now() < limit);
    drop(handle);
    let sql = query.sql.expose();
    let statement = connection
        .prepare(AssertSqlSafe(sql.to_owned()).into_sql_str())
        .await
        .map_err(failure)?;
    let columns: Vec<(String, bool)> = statement
        .columns()
        .iter()
        .map(|column| (column.name().to_owned(), true))
        .collect();
    let names: Vec<String> = (0..columns.len())
        .map(|index| format!("c{index}"))
        .collect();
    let shape = query
        .shape(columns)
        .map_err(|reason| Failure::new(query.redact(&reason)))?;
    let expressions: Vec<String> = shape
        .used
        .iter()
        .map(|(index, role)| expression(*index, *role))
        .collect();
    let text = format!(
        "WITH nightbell_rows ({}) AS (\n{sql}\n) SELECT {} FROM nightbell_rows LIMIT {}",
        names.join(", "),
        expressions.join(", "),
        query.max_rows + 1
    );
    let mut rows = Vec::new();
    let mut stream = connection.fetch(sqlx::query(AssertSqlSafe(text)).persistent(false));
    while let Some(row) = stream.try_next().await.map_err(failure)? {
        let cell = |(index, (_, role)): (usize, &(usize, Role))| read(&row, index, *role);
        rows.push(
            shape
                .used
                .iter()
                .enumerate()
                .map(cell)
                .collect::<sqlx::Result<Vec<Cell>>>()
                .map_err(failure)?,
        );
    }
    drop(stream);
    Ok(Answer { shape, rows })
}

/// Numbers as they are; of a text that is no label, that it is one.
fn expression(index: usize, role: Role) -> String {
    match role {
        Role::Label => format!("substr(CAST(c{index} AS TEXT), 1, {MAX_LABEL})"),
        Role::Value => {
            format!(
                "CASE typeof(c{index}) WHEN 'integer' THEN CAST(c{index} AS REAL) WHEN 'real' THEN c{index} WHEN 'text' THEN '' END"
            )
        }
    }
}

fn read(row: &SqliteRow, index: usize, role: Role) -> sqlx::Result<Cell> {
    if role == Role::Label {
        return Ok(row
            .try_get_unchecked::<Option<String>, _>(index)?
            .map_or(Cell::Null, |text| label(&text)));
    }
    let raw = row.try_get_raw(index)?;
    if sqlx::ValueRef::is_null(&raw) {
        return Ok(Cell::Null);
    }
    if sqlx::TypeInfo::name(sqlx::ValueRef::type_info(&raw).as_ref()) == "TEXT" {
        return Ok(Cell::Text(String::new()));
    }
    row.try_get_unchecked(index).map(Cell::Number)
}
