//! A copy of the database for a backup, made while everything goes on, and whether such a copy can
//! be used. The database itself is only read.

use std::path::Path;

use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions as _, Connection as _};

use super::{BUSY, Error, migrations};

/// Writes the database as it is at this moment into a new file
/// (<https://sqlite.org/lang_vacuum.html#vacuum_into>), whether or not a nightbell has it open.
///
/// # Errors
/// When the database is missing or damaged, or the disk does not take the copy.
pub async fn copy_database(from: &Path, to: &Path) -> Result<(), Error> {
    let mut connection = open(from).await?;
    super::folder::make_private(to).map_err(|source| failed(to, sqlx::Error::Io(source)))?;
    let copied = sqlx::query("VACUUM INTO $1")
        .bind(to.display().to_string())
        .execute(&mut connection)
        .await;
    let closed = connection.close().await;
    copied.map(drop).and(closed).map_err(|source| Error::Query {
        operation: "copy",
        source,
    })
}

/// Whether a copy is whole, and of a version that this program knows; gives back its schema.
///
/// # Errors
/// When it is damaged, is no state database, or is of a newer program.
pub async fn check_copy(file: &Path) -> Result<i64, Error> {
    let mut connection = open(file).await?;
    let found = async {
        let (said,): (String,) = sqlx::query_as("PRAGMA quick_check(1)")
            .fetch_one(&mut connection)
            .await?;
        let (schema,): (i64,) = sqlx::query_as("SELECT COALESCE(MAX(number), 0) FROM migrations")
            .fetch_one(&mut connection)
            .await?;
        Ok((said, schema))
    };
    let found = found.await.map_err(|source| Error::Query {
        operation: "check",
        source,
    });
    // It was only read: what is wrong with its end is wrong with nothing of ours.
    let _ = connection.close().await;
    let (said, found) = found?;
    if said != "ok" {
        return Err(Error::Damaged(said));
    }
    let known = migrations::MIGRATIONS.last().map_or(0, |m| m.number);
    if found > known {
        return Err(Error::Newer { found, known });
    }
    Ok(found)
}

async fn open(file: &Path) -> Result<SqliteConnection, Error> {
    SqliteConnectOptions::new()
        .filename(file)
        .read_only(true)
        .busy_timeout(BUSY)
        .connect()
        .await
        .map_err(|source| failed(file, source))
}

fn failed(file: &Path, source: sqlx::Error) -> Error {
    Error::Open {
        path: file.to_owned(),
        source,
    }
}
