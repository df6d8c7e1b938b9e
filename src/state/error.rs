//! What can go wrong with the state database. None of it may stop a notification: callers count it
//! and go on from memory.

use std::path::PathBuf;

/// A state operation failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The database cannot be opened: missing folder, no permission, not a database, disk full.
    #[error("state database {}: cannot be opened: {source}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// The driver's reason.
        source: sqlx::Error,
    },
    /// The file is not what was written.
    #[error("state database is damaged: {0}")]
    Damaged(String),
    /// The database server cannot be reached. The address holds a password and is not printed.
    #[error("state database server: cannot be reached: {0}")]
    Connect(sqlx::Error),
    /// The schema is newer than this program.
    #[error(
        "state database has schema {found}, this program knows up to {known}: use the newer program, or another state file"
    )]
    Newer {
        /// Number of the newest migration in the database.
        found: i64,
        /// Number of the newest migration here.
        known: i64,
    },
    /// A query failed.
    #[error("state database: {operation}: {source}")]
    Query {
        /// The operation, as in the metric's label.
        operation: &'static str,
        /// The driver's reason.
        source: sqlx::Error,
    },
    /// What it holds must be read before anything is written over it.
    #[error("state database: what it holds has not been read yet")]
    Unread,
    /// It was not asked, because it did not answer lately.
    #[error("state database: {operation}: not tried, because the database does not answer")]
    Away {
        /// The operation.
        operation: &'static str,
    },
    /// A query did not end in time.
    #[error("state database: {operation}: timed out after {seconds}s")]
    Timeout {
        /// The operation.
        operation: &'static str,
        /// The deadline.
        seconds: u64,
    },
}

impl Error {
    /// Whether a statement failed because of what it would have written, so that others can be
    /// written.
    pub(super) fn is_about_a_row(&self) -> bool {
        matches!(self, Error::Query { source, .. } if is_about_a_row(source))
    }

    /// Whether the file is damaged: SQLite's SQLITE_CORRUPT and SQLITE_NOTADB, extended codes
    /// included (<https://sqlite.org/rescode.html>).
    pub fn is_damage(&self) -> bool {
        let source = match self {
            Error::Damaged(_) => return true,
            Error::Open { source, .. } | Error::Query { source, .. } => source,
            Error::Connect(_)
            | Error::Newer { .. }
            | Error::Unread
            | Error::Away { .. }
            | Error::Timeout { .. } => return false,
        };
        let code = source
            .as_database_error()
            .and_then(|e| e.code())
            .and_then(|code| code.parse::<u32>().ok());
        code.is_some_and(|code| matches!(code & 0xff, 11 | 26))
    }
}

/// Whether a failure is about what a row holds, so that others can be written: SQLSTATE classes 22
/// (data), 23 (constraints) and 54 (limits) of PostgreSQL
/// (<https://www.postgresql.org/docs/current/errcodes-appendix.html>); SQLITE_TOOBIG, CONSTRAINT
/// and MISMATCH of SQLite.
pub(super) fn is_about_a_row(error: &sqlx::Error) -> bool {
    let Some(code) = error.as_database_error().and_then(|error| error.code()) else {
        return matches!(error, sqlx::Error::Encode(_));
    };
    match code.parse::<u32>() {
        Ok(number) if code.len() < 5 => matches!(number & 0xff, 18..=20),
        _ => ["22", "23", "54"]
            .iter()
            .any(|class| code.starts_with(class)),
    }
}
