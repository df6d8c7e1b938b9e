//! What can go wrong with the state database. None of it may stop a notification: callers count it and go on from memory.

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
    /// The database server cannot be reached. The address holds a password and is not printed.
    #[error("state database server: cannot be reached: {0}")]
    Connect(sqlx::Error),
    /// The schema is newer than this program.
    #[error("state database has schema {found}, this program knows up to {known}: use the newer program, or another state file")]
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
    /// A query did not end in time.
    #[error("state database: {operation}: timed out after {seconds}s")]
    Timeout {
        /// The operation.
        operation: &'static str,
        /// The deadline.
        seconds: u64,
    },
}
