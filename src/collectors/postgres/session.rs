//! One connection to one database: connect, learn the server's version and our privileges, ask, each with a deadline.
//!
//! No message made here holds the DSN or the password.

use std::io;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgConnection, PgRow, PgSslMode};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, Executor as _, Row as _, SqlStr};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::time::{Instant, timeout_at};

use crate::net;

use super::config::{Config, socket_folder};
use super::part::{Grant, Part, Query, Scope};

/// Why an answer did not come.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// The connection is of no more use.
    #[error("{0}")]
    Lost(String),
    /// The collection's deadline came while the server was still at work.
    #[error("{0}")]
    Late(String),
    /// The role lacks a privilege.
    #[error("{0}")]
    Denied(String),
    /// The server has not loaded what the query needs.
    #[error("{0}")]
    Unavailable(String),
    /// The server refused or gave up this one query.
    #[error("{0}")]
    Query(String),
}

impl Error {
    fn from_sqlx(error: &sqlx::Error, config: &Config) -> Self {
        match error {
            sqlx::Error::Database(db) => {
                let text = config.password.redact(&db.message().replace('\n', " "));
                match db.code().as_deref().unwrap_or_default() {
                    "42501" => Error::Denied(text),
                    "55000" => Error::Unavailable(text),
                    // Shutdown, crash, and trouble with the connection or the login.
                    code if ["57P0", "08", "28", "53300", "3D000"].iter().any(|class| code.starts_with(class)) => Error::Lost(text),
                    _ => Error::Query(text),
                }
            }
            sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) | sqlx::Error::ColumnIndexOutOfBounds { .. } => {
                Error::Query(format!("unexpected answer: {error}"))
            }
            // Never the text of a configuration error: it may quote the DSN.
            sqlx::Error::Configuration(_) => Error::Lost("connect: invalid connection options".into()),
            other => Error::Lost(config.password.redact(&other.to_string().replace('\n', " "))),
        }
    }
}

/// What is known about the server and our role after connecting.
#[derive(Debug, Clone, Default)]
pub struct Server {
    /// `server_version_num`.
    pub version: u32,
    /// Our role.
    pub role: String,
    /// The connected database.
    pub database: String,
    held: Vec<&'static str>,
    /// The schema of the extension `pg_stat_statements`, quoted; `None` where it is not installed.
    statements: Option<String>,
}

impl Server {
    /// Whether the role holds the privilege that `grant` names.
    pub fn holds(&self, grant: &Grant) -> bool {
        self.held.contains(&grant.role)
    }
}

/// An open connection and the queries that it is good for.
pub struct Session {
    connection: PgConnection,
    /// What is known about the server.
    pub server: Server,
    /// The queries, ready for this server's version.
    pub queries: Vec<Query>,
}

const LEARN: &str = "SELECT current_setting('server_version_num')::int4, current_user::text, current_database()::text,
    (SELECT quote_ident(nspname) FROM pg_extension JOIN pg_namespace n ON n.oid = extnamespace WHERE extname = 'pg_stat_statements'),
    pg_has_role('pg_read_all_stats', 'USAGE'),
    pg_has_role('pg_read_all_settings', 'USAGE'), pg_has_role('pg_monitor', 'USAGE')";

impl Session {
    /// Connects to `database`, or to the one that the DSN names, and learns what there is.
    pub async fn open(config: &Config, database: Option<&str>, parts: &[&'static Part], deadline: Instant) -> Result<Self, Error> {
        let lost = || Error::Lost("connect: timed out".into());
        let options = timeout_at(deadline, addressed(config.options.clone())).await.map_err(|_| lost())?;
        let options = options.map_err(|e| Error::Lost(format!("connect: {e}")))?;
        let options = match database {
            Some(name) => options.database(name),
            None => options,
        };
        if database.is_none() {
            let known = timeout_at(deadline, knock(&options)).await.map_err(|_| lost())?;
            known.map_err(|e| Error::Lost(format!("connect: {e}")))?;
        }
        let connected = timeout_at(deadline, options.connect()).await.map_err(|_| lost())?;
        let mut connection = connected.map_err(|e| Error::Lost(format!("connect: {}", Error::from_sqlx(&e, config))))?;
        // Half of what is left: one slow query must not cost the whole collection.
        let timeout = (deadline.saturating_duration_since(Instant::now()) / 2).max(Duration::from_millis(100)).as_millis();
        let set = format!("SET statement_timeout = {timeout}; SET lock_timeout = {}; SET default_transaction_read_only = on", timeout / 5);
        let setting = connection.execute(sqlx::raw_sql(AssertSqlSafe(set)));
        timeout_at(deadline, setting).await.map_err(|_| lost())?.map_err(|e| Error::from_sqlx(&e, config))?;
        let asked = connection.fetch_one(sqlx::query(LEARN).persistent(false));
        let row = timeout_at(deadline, asked).await.map_err(|_| lost())?.map_err(|e| Error::from_sqlx(&e, config))?;
        let server = learn(&row).map_err(|e| Error::from_sqlx(&e, config))?;
        let fits = |part: &&&'static Part| match part.scope {
            Scope::Server => database.is_none(),
            Scope::Statements => database.is_none() && server.statements.is_some(),
            Scope::Database => config.wants(&server.database),
        };
        let schema = server.statements.as_deref().unwrap_or_default();
        let assemble = |part: &&'static Part| Query::assemble(part, server.version, &config.limits, schema);
        let queries = parts.iter().filter(fits).filter_map(assemble).collect();
        Ok(Session { connection, server, queries })
    }

    /// How long the server takes to answer at all.
    pub async fn ping(&mut self, config: &Config, deadline: Instant) -> Result<Duration, Error> {
        let asked = Instant::now();
        self.ask(SqlStr::from_static("SELECT 1"), config, deadline).await.map(|_| asked.elapsed()).map_err(|error| match error {
            Error::Late(text) => Error::Lost(text),
            other => other,
        })
    }

    /// The rows of a query.
    pub async fn ask(&mut self, sql: SqlStr, config: &Config, deadline: Instant) -> Result<Vec<PgRow>, Error> {
        match timeout_at(deadline, self.connection.fetch_all(sqlx::query(sql))).await {
            Ok(rows) => rows.map_err(|e| Error::from_sqlx(&e, config)),
            Err(_) => Err(Error::Late("query: timed out".into())),
        }
    }

    /// Says goodbye, so that the server need not wonder.
    pub async fn close(self, deadline: Instant) {
        // A server that does not take the goodbye has lost nothing.
        let _best_effort = timeout_at(deadline, self.connection.close()).await;
    }
}

/// The options with the server's address in place of its name, so that the client library need not resolve it. With TLS the name stays,
/// which the certificate or a proxy may ask for; the library then looks up what was just found.
async fn addressed(options: PgConnectOptions) -> io::Result<PgConnectOptions> {
    if socket_folder(&options).is_some() {
        return Ok(options);
    }
    let found = net::resolve(options.get_host()).await.map_err(io::Error::other)?;
    let plain = matches!(options.get_ssl_mode(), PgSslMode::Disable);
    Ok(match found.as_ref() {
        [address] if plain => options.host(&address.to_string()),
        _ => options,
    })
}

/// Asks whether the server speaks TLS, which PostgreSQL answers with exactly one byte. The client library believes any length that a
/// server announces and would buffer gigabytes of whatever else listens there.
async fn knock(options: &PgConnectOptions) -> io::Result<()> {
    match socket_folder(options) {
        Some(folder) => {
            let path = folder.join(format!(".s.PGSQL.{}", options.get_port()));
            answers_as_postgres(UnixStream::connect(path).await?).await
        }
        None => answers_as_postgres(net::connect(options.get_host(), options.get_port()).await?).await,
    }
}

/// <https://www.postgresql.org/docs/current/protocol-message-formats.html>, SSLRequest; `E` is an error message instead.
async fn answers_as_postgres(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> io::Result<()> {
    const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];
    stream.write_all(&SSL_REQUEST).await?;
    let mut answer = [0; 16];
    match stream.read(&mut answer).await? {
        0 => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the server closed the connection")),
        1 if matches!(answer[0], b'S' | b'N') => Ok(()),
        _ if answer[0] == b'E' => Ok(()),
        _ => Err(io::Error::new(io::ErrorKind::InvalidData, "not a PostgreSQL server")),
    }
}

fn learn(row: &PgRow) -> sqlx::Result<Server> {
    let version: i32 = row.try_get(0)?;
    let mut held = Vec::new();
    for (index, role) in [(4, "pg_read_all_stats"), (5, "pg_read_all_settings"), (6, "pg_monitor")] {
        if row.try_get(index)? {
            held.push(role);
        }
    }
    Ok(Server {
        version: u32::try_from(version).unwrap_or_default(),
        role: row.try_get(1)?,
        database: row.try_get(2)?,
        held,
        statements: row.try_get(3)?,
    })
}
