//! One write: SQL text with its values. Each table's file makes them; [`State::write`] runs a list
//! of them as one transaction.

use std::borrow::Cow;
use std::time::{Duration, Instant};

use sqlx::Connection as _;
use tracing::error;

use super::{DEADLINE, Error, Pool, State, on_pool};

/// What each statement of a transaction adds to its deadline.
const PER_STATEMENT: Duration = Duration::from_millis(2);
/// Time between two log lines about rows that were refused.
const QUIET: Duration = Duration::from_secs(60);

/// A value bound to a `$n` marker.
#[derive(Clone, Debug)]
pub(super) enum Argument {
    Text(String),
    Number(i64),
}

impl From<&str> for Argument {
    fn from(text: &str) -> Self {
        Argument::Text(kept(text).into_owned())
    }
}

impl From<String> for Argument {
    fn from(text: String) -> Self {
        match kept(&text) {
            Cow::Borrowed(_) => Argument::Text(text),
            Cow::Owned(text) => Argument::Text(text),
        }
    }
}

/// A text as every backend keeps it: PostgreSQL refuses the byte 0, for which its picture stands.
pub(super) fn kept(text: &str) -> Cow<'_, str> {
    if text.contains('\0') {
        Cow::Owned(text.replace('\0', "\u{2400}"))
    } else {
        Cow::Borrowed(text)
    }
}

impl From<i64> for Argument {
    fn from(number: i64) -> Self {
        Argument::Number(number)
    }
}

impl From<crate::model::Timestamp> for Argument {
    fn from(time: crate::model::Timestamp) -> Self {
        Argument::Number(time.0)
    }
}

/// SQL text and the values of its markers, in order.
#[derive(Clone, Debug)]
pub(super) struct Statement {
    pub sql: &'static str,
    pub arguments: Vec<Argument>,
}

/// `statement("DELETE FROM t WHERE id = $1", [id.into()])`.
pub(super) fn statement<const N: usize>(sql: &'static str, arguments: [Argument; N]) -> Statement {
    Statement {
        sql,
        arguments: arguments.into(),
    }
}

macro_rules! bound {
    ($statement:expr) => {
        $statement
            .arguments
            .iter()
            .fold(
                sqlx::query($statement.sql),
                |query, argument| match argument {
                    Argument::Text(text) => query.bind(text),
                    Argument::Number(number) => query.bind(number),
                },
            )
    };
}

impl State {
    /// Runs the statements in order, all or none; durable when it returns `Ok`. `operation` labels
    /// the error metric.
    pub(super) async fn write(
        &self,
        operation: &'static str,
        statements: &[Statement],
    ) -> Result<(), Error> {
        self.write_with(operation, statements, true).await
    }

    /// The same without waiting for the disk: it survives `kill -9`, and a power failure may undo
    /// it until the next durable write.
    pub(super) async fn write_lightly(
        &self,
        operation: &'static str,
        statements: &[Statement],
    ) -> Result<(), Error> {
        self.write_with(operation, statements, false).await
    }

    async fn write_with(
        &self,
        operation: &'static str,
        statements: &[Statement],
        durable: bool,
    ) -> Result<(), Error> {
        match self.write_all(operation, statements, durable).await {
            Err(error) if statements.len() > 1 && error.is_about_a_row() => {
                self.write_each(operation, statements).await.map(drop)
            }
            result => result,
        }
    }

    /// Runs the statements in order, each for itself in one transaction: the numbers of those that
    /// the database refused, which are logged and counted. Errs when it refused all, or fails.
    pub(super) async fn write_each(
        &self,
        operation: &'static str,
        statements: &[Statement],
    ) -> Result<Vec<usize>, Error> {
        let deadline =
            DEADLINE + PER_STATEMENT * 3 * u32::try_from(statements.len()).unwrap_or(u32::MAX);
        let refused = on_pool!(self, operation, deadline, |pool| async {
            let mut transaction = pool.begin().await?;
            let mut refused: Vec<(usize, sqlx::Error)> = Vec::new();
            for (index, statement) in statements.iter().enumerate() {
                let mut one = transaction.begin().await?;
                match bound!(statement).execute(&mut *one).await {
                    Ok(_) => one.commit().await?,
                    Err(error) if super::error::is_about_a_row(&error) => {
                        one.rollback().await?;
                        refused.push((index, error));
                    }
                    Err(error) => return Err(error),
                }
            }
            transaction.commit().await?;
            Ok(refused)
        })?;
        self.note_refused(operation, statements, &refused);
        Ok(refused.into_iter().map(|(index, _)| index).collect())
    }

    /// Counts rows that were refused; one is logged, and then none for a minute.
    fn note_refused(
        &self,
        operation: &str,
        statements: &[Statement],
        refused: &[(usize, sqlx::Error)],
    ) {
        let Some((index, error)) = refused.first() else {
            return;
        };
        self.0.refused.inc_by(refused.len() as u64);
        let mut noted_at = self.0.refused_at.lock();
        if noted_at.is_none_or(|at| at.elapsed() >= QUIET) {
            *noted_at = Some(Instant::now());
            let sql = statements
                .get(*index)
                .map(|statement| statement.sql.chars().take(40).collect::<String>())
                .unwrap_or_default();
            error!(operation, rows = refused.len(), sql, %error, "The state database cannot keep a row; the others are written.");
        }
    }

    pub(super) async fn write_all(
        &self,
        operation: &'static str,
        statements: &[Statement],
        durable: bool,
    ) -> Result<(), Error> {
        // Each statement may take its way to a server and back.
        let deadline =
            DEADLINE + PER_STATEMENT * u32::try_from(statements.len()).unwrap_or(u32::MAX);
        let lasts = !self.is_in_memory();
        let (before, first) = match (self.pool(), durable) {
            (Pool::Sqlite(_), true) => (Some("PRAGMA synchronous = FULL"), None),
            (Pool::Sqlite(_), false) => (Some("PRAGMA synchronous = NORMAL"), None),
            (Pool::Postgres(_), true) => (None, None),
            (Pool::Postgres(_), false) => (None, Some("SET LOCAL synchronous_commit TO off")),
        };
        on_pool!(self, operation, deadline, |pool| async {
            let mut connection = pool.acquire().await?;
            let run = async {
                if let Some(before) = before {
                    sqlx::query(before).execute(&mut *connection).await?;
                }
                let mut transaction = connection.begin().await?;
                if let Some(first) = first {
                    sqlx::query(first).execute(&mut *transaction).await?;
                }
                for statement in statements {
                    bound!(statement).execute(&mut *transaction).await?;
                }
                transaction.commit().await
            };
            let result = run.await;
            if result.is_err() && lasts {
                // When the disk is full, SQLite ends a transaction that the driver takes for open,
                // and would nest the next ones into it.
                connection.close_on_drop();
            }
            result
        })
    }
}
