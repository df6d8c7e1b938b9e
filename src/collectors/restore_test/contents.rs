//! What a restored copy holds: tables, rows, and what the configuration expects of them. It is only
//! read.

use std::path::{Path, PathBuf};

use sqlx::postgres::PgConnection;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, Executor as _, Row as _};

use super::failure::{Failure, Reason};
use super::server::Server;
use super::settings::Check;
use super::watch::Watch;

/// Most tables that are counted.
const MAX_TABLES: usize = 10_000;

/// What was found.
#[derive(Debug, Default)]
pub struct Contents {
    /// Tables.
    pub tables: u64,
    /// Rows in them.
    pub rows: u64,
    /// The checks by their place, with the number that each gave.
    pub checks: Vec<(usize, Result<f64, String>)>,
}

const TABLES: &str = "SELECT pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(c.relname)
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind = 'r' AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname NOT LIKE 'pg\\_toast%'
        AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.objid = c.oid AND d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass
            AND d.deptype = 'e')
    ORDER BY 1";

/// Counts the rows of each table of a database, and asks the checks.
pub async fn postgres(
    server: &Server,
    connection: &mut PgConnection,
    checks: &[Check],
    watch: &Watch,
) -> Result<Contents, Failure> {
    let mut found = Contents::default();
    // A session without writes: what the dump brought along, such as views and functions, is run as
    // little as may be.
    server.ask(connection, "SET default_transaction_read_only = on; SET search_path = pg_catalog; SET statement_timeout = 0").await?;
    let failed = |error: sqlx::Error| server.failure(&error);
    let tables = watch
        .within(connection.fetch_all(sqlx::raw_sql(TABLES)))
        .await?
        .map_err(failed)?;
    found.tables = tables.len() as u64;
    for row in tables.iter().take(MAX_TABLES) {
        let table: String = row.try_get(0).map_err(failed)?;
        let sql = format!("SELECT pg_catalog.count(*) FROM ONLY {table}");
        let row = watch
            .within(connection.fetch_one(sqlx::raw_sql(AssertSqlSafe(sql))))
            .await?
            .map_err(failed)?;
        found.rows += row.try_get::<i64, _>(0).unwrap_or_default().unsigned_abs();
    }
    server.ask(connection, "RESET search_path").await?;
    for (index, check) in checks.iter().enumerate() {
        // By the protocol that takes one statement.
        let sql = format!(
            "SELECT found.value::pg_catalog.text FROM ({}\n) AS found(value) LIMIT 1",
            check.sql
        );
        let answer = watch
            .within(sqlx::query(AssertSqlSafe(sql)).fetch_optional(&mut *connection))
            .await?;
        let value = match answer {
            Ok(row) => {
                number(row.and_then(|row| row.try_get::<Option<String>, _>(0).ok().flatten()))
            }
            Err(error) => Err(server.failure(&error).detail),
        };
        found.checks.push((index, value));
    }
    Ok(found)
}

/// Checks the integrity of SQLite files, counts their rows, and asks the checks of the file that
/// each is for.
pub async fn sqlite(
    folder: &Path,
    files: &[PathBuf],
    checks: &[Check],
    watch: &Watch,
) -> Result<Contents, Failure> {
    let mut found = Contents::default();
    for file in files {
        let mut connection = open(file).await?;
        let row = watch
            .within(connection.fetch_one("PRAGMA integrity_check(1)"))
            .await?
            .map_err(damaged)?;
        let answer: String = row.try_get(0).map_err(damaged)?;
        if answer != "ok" {
            return Err(Failure::of(
                Reason::Damaged,
                format!("the copy is not sound: {answer}"),
            ));
        }
        let sql = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'";
        let tables = watch
            .within(connection.fetch_all(sql))
            .await?
            .map_err(damaged)?;
        found.tables += tables.len() as u64;
        for row in tables.iter().take(MAX_TABLES) {
            let name: String = row.try_get(0).map_err(damaged)?;
            let sql = format!("SELECT count(*) FROM \"{}\"", name.replace('"', "\"\""));
            match watch
                .within(connection.fetch_one(sqlx::raw_sql(AssertSqlSafe(sql))))
                .await?
            {
                Ok(row) => {
                    found.rows += row.try_get::<i64, _>(0).unwrap_or_default().unsigned_abs()
                }
                // Tables of modules that are not built in: an index of another kind.
                Err(error) if error.to_string().contains("no such module") => {}
                Err(error) => return Err(damaged(error)),
            }
        }
        close(connection).await;
    }
    for (index, check) in checks.iter().enumerate() {
        let wanted = |file: &&PathBuf| {
            check.file.as_ref().is_none_or(|name| {
                file.strip_prefix(folder)
                    .is_ok_and(|path| path.ends_with(name))
            })
        };
        let candidates: Vec<&PathBuf> = files.iter().filter(wanted).collect();
        let value = match candidates.as_slice() {
            [file] => ask(file, &check.sql, watch).await?,
            [] => Err("no such SQLite file was restored".to_owned()),
            _ => Err("several SQLite files were restored; name one with file".to_owned()),
        };
        found.checks.push((index, value));
    }
    Ok(found)
}

async fn ask(file: &Path, sql: &str, watch: &Watch) -> Result<Result<f64, String>, Failure> {
    let mut connection = open(file).await?;
    let sql = format!("SELECT * FROM ({sql}\n) LIMIT 1");
    let answer = watch
        .within(sqlx::query(AssertSqlSafe(sql)).fetch_optional(&mut connection))
        .await?;
    let value = match answer {
        Ok(Some(row)) => {
            let text = row.try_get_unchecked::<Option<String>, _>(0).ok().flatten();
            let real = row.try_get_unchecked::<Option<f64>, _>(0).ok().flatten();
            real.map_or_else(|| number(text), Ok)
        }
        Ok(None) => number(None),
        Err(error) => Err(error.to_string().replace('\n', " ")),
    };
    close(connection).await;
    Ok(value)
}

async fn open(file: &Path) -> Result<SqliteConnection, Failure> {
    // The copy is nightbell's own: what stands in a WAL that was restored with it is taken over.
    let options = SqliteConnectOptions::new()
        .filename(file)
        .pragma("query_only", "ON")
        .disable_statement_logging();
    options.connect().await.map_err(damaged)
}

async fn close(connection: SqliteConnection) {
    // Nothing was written that could be lost.
    let _closed = connection.close().await;
}

fn damaged(error: sqlx::Error) -> Failure {
    Failure::of(Reason::Damaged, error.to_string())
}

fn number(text: Option<String>) -> Result<f64, String> {
    match text.as_deref().map(str::trim) {
        None => Err("it gave no row, or NULL".into()),
        Some("t" | "true") => Ok(1.0),
        Some("f" | "false") => Ok(0.0),
        Some(text) => text.parse().map_err(|_| "it gave no number".into()),
    }
}
