//! Queries of the configuration.
//!
//! Each is a read-only transaction of its own that is always rolled back, so that whatever a
//! statement sets or locks for its transaction is gone, behind a pooler too. The statement goes
//! through the extended protocol, which takes one statement: first as a cursor that is never read,
//! which must be a SELECT, then as a part of SELECTs of nightbell's own that ask for its columns
//! and make numbers of them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::TryStreamExt as _;
use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, Column as _, Executor as _, Row as _, TypeInfo as _};
use tokio::time::{Instant, timeout_at};

use super::super::sql::{Answer, Cell, Failure, MAX_LABEL, Query, Role, Run, label};
use super::config::Config;
use super::part;
use super::session::{Error, Session};

/// How long the server is waited for beyond the time that it was given.
const GRACE: Duration = Duration::from_millis(250);

/// Runs what is due, until the deadline. A session whose state is not known afterwards is not
/// handed back.
pub async fn run_all(
    due: &[Arc<Query>],
    mut main: Option<Session>,
    config: &Config,
    deadline: Instant,
) -> (Option<Session>, Vec<Run>) {
    let mut here = Vec::new();
    let mut elsewhere: BTreeMap<&str, Vec<&Arc<Query>>> = BTreeMap::new();
    for query in due {
        match &query.database {
            Some(name)
                if main
                    .as_ref()
                    .is_none_or(|session| session.server.database != *name) =>
            {
                elsewhere.entry(name).or_default().push(query)
            }
            _ => here.push(query),
        }
    }
    let mut runs = Vec::new();
    main = run_here(&here, main, None, config, deadline, &mut runs).await;
    for (name, queries) in elsewhere {
        if main.as_ref().is_some_and(|session| session.server.alone)
            && let Some(session) = main.take()
        {
            session.close(deadline).await;
        }
        if let Some(session) =
            run_here(&queries, None, Some(name), config, deadline, &mut runs).await
        {
            session.close(deadline).await;
        }
    }
    (main, runs)
}

/// Runs these in one database, on new sessions where the last one is gone.
async fn run_here(
    queries: &[&Arc<Query>],
    mut session: Option<Session>,
    database: Option<&str>,
    config: &Config,
    deadline: Instant,
    runs: &mut Vec<Run>,
) -> Option<Session> {
    let parts = if database.is_none() {
        super::PARTS
    } else {
        &[]
    };
    for query in queries {
        let started = Instant::now();
        // What is not run for lack of time is said by who asked.
        let left = deadline.saturating_duration_since(started);
        if left < GRACE {
            break;
        }
        let mut open = match session.take() {
            Some(session) => session,
            None => match Session::open(config, database, true, parts, deadline).await {
                Ok(session) => session,
                Err(error) => {
                    let failure = database_failure(&error, database, config);
                    runs.push(Run {
                        query: Arc::clone(query),
                        took: started.elapsed(),
                        result: Err(failure),
                    });
                    continue;
                }
            },
        };
        let mut result = run(&mut open, query, config, deadline).await;
        if let Err(Problem::Encoding) = result {
            open.raw = true;
            result = run(&mut open, query, config, deadline).await;
        }
        let result = match result {
            Ok(answer) => {
                session = Some(open);
                Ok(answer)
            }
            Err(Problem::Failed(failure)) => {
                session = Some(open);
                Err(failure)
            }
            Err(Problem::Encoding) => {
                session = Some(open);
                Err(Failure::new(
                    "the answer holds text that the server cannot turn into UTF-8",
                ))
            }
            Err(Problem::Lost(failure)) => Err(failure),
        };
        runs.push(Run {
            query: Arc::clone(query),
            took: started.elapsed(),
            result,
        });
    }
    session
}

/// Why a run gave nothing.
enum Problem {
    /// The session can be used further.
    Failed(Failure),
    /// Again, with the bytes as they are stored.
    Encoding,
    /// The session cannot be used further.
    Lost(Failure),
}

async fn run(
    session: &mut Session,
    query: &Query,
    config: &Config,
    deadline: Instant,
) -> Result<Answer, Problem> {
    let left = deadline
        .saturating_duration_since(Instant::now())
        .saturating_sub(GRACE);
    let timeout = query.timeout.min(left).max(Duration::from_millis(50));
    let until = deadline.min(Instant::now() + timeout + GRACE);
    let asked = timeout_at(until, ask(session, query, timeout)).await;
    match asked {
        Ok(Ok(answer)) => {
            match timeout_at(deadline, session.simple("ROLLBACK /* nightbell */")).await {
                Ok(Ok(_)) => Ok(answer),
                Ok(Err(_)) | Err(_) => Err(Problem::Lost(Failure::new(
                    "the transaction could not be ended",
                ))),
            }
        }
        Ok(Err(Trouble::Answer(reason))) => {
            roll_back(
                session,
                deadline,
                Problem::Failed(Failure::new(query.redact(&reason))),
            )
            .await
        }
        Ok(Err(Trouble::Server(error))) => {
            let problem = problem(&error, query, session, config);
            if matches!(problem, Problem::Lost(_)) {
                Err(problem)
            } else {
                roll_back(session, deadline, problem).await
            }
        }
        Err(_) => Err(Problem::Lost(Failure::new(format!(
            "timed out after {:.1} s",
            timeout.as_secs_f64()
        )))),
    }
}

async fn roll_back(
    session: &mut Session,
    deadline: Instant,
    problem: Problem,
) -> Result<Answer, Problem> {
    match timeout_at(deadline, session.simple("ROLLBACK /* nightbell */")).await {
        Ok(Ok(_)) => Err(problem),
        Ok(Err(_)) | Err(_) => Err(match problem {
            Problem::Failed(failure) => Problem::Lost(failure),
            other => other,
        }),
    }
}

enum Trouble {
    Server(sqlx::Error),
    Answer(String),
}

impl From<sqlx::Error> for Trouble {
    fn from(error: sqlx::Error) -> Self {
        Trouble::Server(error)
    }
}

/// The rows of one query, in a transaction that is open afterwards.
async fn ask(session: &mut Session, query: &Query, timeout: Duration) -> Result<Answer, Trouble> {
    let milliseconds = timeout.as_millis();
    // A process that is stopped here holds no transaction open for longer.
    session
        .simple(&format!(
            "BEGIN /* nightbell */ TRANSACTION ISOLATION LEVEL READ COMMITTED, READ ONLY;
             SET /* nightbell */ LOCAL statement_timeout = {milliseconds};
             SET /* nightbell */ LOCAL lock_timeout = {};
             SET /* nightbell */ LOCAL client_min_messages = error;
             SET /* nightbell */ LOCAL idle_in_transaction_session_timeout = {};
             {}",
            (milliseconds / 2).max(25),
            milliseconds + 30_000,
            if session.raw {
                "SET /* nightbell */ LOCAL client_encoding = SQL_ASCII"
            } else {
                ""
            }
        ))
        .await?;
    let sql = query.sql.expose();
    session
        .single(format!(
            "DECLARE /* nightbell */ nightbell_columns CURSOR FOR\n{sql}"
        ))
        .await?;
    session
        .simple("CLOSE /* nightbell */ nightbell_columns")
        .await?;
    // It has been parsed as one SELECT by now. Joined so, it is not executed, and gives one row
    // without values.
    let columns = session
        .columns(format!(
            "SELECT /* nightbell */ q.* FROM (SELECT 1) AS one LEFT JOIN (\n{sql}\n) AS q ON false"
        ))
        .await?;
    let kinds: Vec<Kind> = columns.iter().map(|(_, kind)| Kind::of(kind)).collect();
    let named = columns
        .into_iter()
        .zip(&kinds)
        .map(|((name, _), kind)| (name, *kind != Kind::Text))
        .collect();
    let shape = query.shape(named).map_err(Trouble::Answer)?;
    let expressions: Vec<String> = shape
        .used
        .iter()
        .map(|(index, role)| kinds[*index].expression(*index, *role))
        .collect();
    let names: Vec<String> = (0..kinds.len()).map(|index| format!("c{index}")).collect();
    let text = format!(
        "SELECT /* nightbell */ {} FROM (\n{sql}\n) AS nightbell ({}) LIMIT {}",
        expressions.join(", "),
        names.join(", "),
        query.max_rows + 1
    );
    let mut rows = Vec::new();
    let Some(connection) = session.connection.as_mut() else {
        return Err(Trouble::Answer("the connection is closed".into()));
    };
    let mut stream = connection.fetch(sqlx::query(AssertSqlSafe(text)).persistent(false));
    while let Some(row) = stream.try_next().await? {
        let cell = |(index, (_, role)): (usize, &(usize, Role))| read(&row, index, *role);
        rows.push(
            shape
                .used
                .iter()
                .enumerate()
                .map(cell)
                .collect::<sqlx::Result<Vec<Cell>>>()?,
        );
    }
    drop(stream);
    Ok(Answer { shape, rows })
}

fn read(row: &PgRow, index: usize, role: Role) -> sqlx::Result<Cell> {
    Ok(match role {
        Role::Label => part::text(row, index)?.map_or(Cell::Null, |text| label(&text)),
        Role::Value => row
            .try_get_unchecked::<Option<f64>, _>(index)?
            .map_or(Cell::Null, Cell::Number),
    })
}

/// How a column's values become numbers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Number,
    Oid,
    Boolean,
    /// Since the epoch, or long.
    Time,
    Text,
}

impl Kind {
    /// Domains come as the type that they are made of.
    fn of(name: &str) -> Self {
        match name {
            "INT2" | "INT4" | "INT8" | "FLOAT4" | "FLOAT8" | "NUMERIC" => Kind::Number,
            "OID" => Kind::Oid,
            "BOOL" => Kind::Boolean,
            "TIMESTAMP" | "TIMESTAMPTZ" | "DATE" | "TIME" | "INTERVAL" => Kind::Time,
            _ => Kind::Text,
        }
    }

    fn expression(self, index: usize, role: Role) -> String {
        match (role, self) {
            (Role::Label, _) => {
                format!("pg_catalog.\"left\"(c{index}::pg_catalog.text, {MAX_LABEL})")
            }
            (Role::Value, Kind::Oid) => format!("c{index}::pg_catalog.int8::pg_catalog.float8"),
            (Role::Value, Kind::Boolean) => format!("c{index}::pg_catalog.int4::pg_catalog.float8"),
            (Role::Value, Kind::Time) => format!("extract(epoch FROM c{index})::pg_catalog.float8"),
            (Role::Value, Kind::Number | Kind::Text) => format!("c{index}::pg_catalog.float8"),
        }
    }
}

impl Session {
    /// Statements of our own, as one message.
    async fn simple(&mut self, text: &str) -> sqlx::Result<()> {
        match self.connection.as_mut() {
            Some(connection) => connection
                .execute(sqlx::raw_sql(AssertSqlSafe(text.to_owned())))
                .await
                .map(drop),
            None => Err(sqlx::Error::WorkerCrashed),
        }
    }

    /// Names and types of the columns of one statement with a row. The simple protocol does not
    /// make the client library look types up.
    async fn columns(&mut self, text: String) -> sqlx::Result<Vec<(String, String)>> {
        let Some(connection) = self.connection.as_mut() else {
            return Err(sqlx::Error::WorkerCrashed);
        };
        let row = connection
            .fetch_one(sqlx::raw_sql(AssertSqlSafe(text)))
            .await?;
        Ok(row
            .columns()
            .iter()
            .map(|column| {
                (
                    column.name().to_owned(),
                    column.type_info().name().to_owned(),
                )
            })
            .collect())
    }

    /// One statement, which the protocol sees to.
    async fn single(&mut self, text: String) -> sqlx::Result<()> {
        match self.connection.as_mut() {
            Some(connection) => connection
                .execute(sqlx::query(AssertSqlSafe(text)).persistent(false))
                .await
                .map(drop),
            None => Err(sqlx::Error::WorkerCrashed),
        }
    }
}

/// Why another database could not be asked, or the connection not be made.
fn database_failure(error: &Error, database: Option<&str>, config: &Config) -> Failure {
    let remedy = database
        .filter(|_| error.to_string().contains("permission denied"))
        .map(|name| {
            let role = quoted(config.options.get_username());
            format!("GRANT CONNECT ON DATABASE {} TO {role}", quoted(name))
        });
    Failure {
        reason: error.to_string(),
        remedy,
    }
}

fn problem(error: &sqlx::Error, query: &Query, session: &Session, config: &Config) -> Problem {
    let sqlx::Error::Database(db) = error else {
        let reason = config.password.redact(&query.redact(&error.to_string()));
        return match error {
            sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) => {
                Problem::Failed(Failure::new(format!("unexpected answer: {reason}")))
            }
            _ => Problem::Lost(Failure::new(reason)),
        };
    };
    let message = config.password.redact(&query.redact(db.message()));
    let failed = |remedy: Option<String>| {
        Problem::Failed(Failure {
            reason: message.clone(),
            remedy,
        })
    };
    match db.code().as_deref().unwrap_or_default() {
        "42501" => failed(Some(grant(db.message(), &session.server.role))),
        "22021" | "22P05" if !session.raw => Problem::Encoding,
        "57014" => failed(Some("make it faster, or raise its timeout:".to_owned())),
        "25006" => failed(Some("only what reads is run".to_owned())),
        _ if message.contains("statement pooling") => {
            let remedy =
                "give a dsn that leads past the pooler, or to a pool by session or transaction";
            Problem::Lost(Failure {
                reason: message,
                remedy: Some(remedy.to_owned()),
            })
        }
        code if ["57P0", "08", "25P03"]
            .iter()
            .any(|class| code.starts_with(class)) =>
        {
            Problem::Lost(Failure::new(message))
        }
        _ => failed(None),
    }
}

/// The statement that lets the role read what the server's message names.
fn grant(message: &str, role: &str) -> String {
    let role = quoted(role);
    let Some((what, name)) = message
        .strip_prefix("permission denied for ")
        .and_then(|rest| rest.split_once(' '))
    else {
        return format!("GRANT SELECT on the tables of this query TO {role}");
    };
    let (kind, name) = match name
        .strip_prefix("view ")
        .or_else(|| name.strip_prefix("table "))
    {
        Some(rest) => ("table", rest),
        None => (what, name),
    };
    let name = quoted(name);
    match kind {
        "schema" => format!("GRANT USAGE ON SCHEMA {name} TO {role}"),
        "database" => format!("GRANT CONNECT ON DATABASE {name} TO {role}"),
        "function" | "procedure" | "routine" => {
            format!("GRANT EXECUTE ON FUNCTION {name} TO {role}")
        }
        "sequence" => format!("GRANT SELECT ON SEQUENCE {name} TO {role}"),
        "type" => format!("GRANT USAGE ON TYPE {name} TO {role}"),
        _ => format!("GRANT SELECT ON {name} TO {role}"),
    }
}

fn quoted(name: &str) -> String {
    if name
        .chars()
        .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
        && !name.starts_with(|c: char| c.is_ascii_digit())
    {
        return name.to_owned();
    }
    format!("\"{}\"", name.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_grant_is_that_which_the_message_is_about() {
        for (message, wanted) in [
            (
                "permission denied for table results",
                "GRANT SELECT ON results TO nightbell",
            ),
            (
                "permission denied for materialized view Odd",
                "GRANT SELECT ON \"Odd\" TO nightbell",
            ),
            (
                "permission denied for schema app",
                "GRANT USAGE ON SCHEMA app TO nightbell",
            ),
            (
                "permission denied for function f",
                "GRANT EXECUTE ON FUNCTION f TO nightbell",
            ),
            (
                "权限不够",
                "GRANT SELECT on the tables of this query TO nightbell",
            ),
        ] {
            assert_eq!(grant(message, "nightbell"), wanted);
        }
    }
}
