//! One connection to one database: connect, learn the server's version and our privileges, ask,
//! each with a deadline.
//!
//! No message made here holds the DSN or the password.

use std::borrow::Cow;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgConnection, PgRow};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, Executor as _, Row as _};
use tokio::runtime::Handle;
use tokio::time::{Instant, timeout_at};

use super::address;
use super::config::{Config, LastClosed};
use super::part::{self, Grant, Part, Query, Scope};

/// How long a goodbye may take that nobody waits for.
const GOODBYE: Duration = Duration::from_secs(2);

/// The SQLSTATE of a limit on connections, of the role, the database or the server.
const TOO_MANY_CONNECTIONS: &str = "53300";

/// Pauses until the server has forgotten the session that was closed last, each twice the one
/// before, and how many.
pub const FAREWELL: Duration = Duration::from_millis(50);
const FAREWELLS: u32 = 6;

/// Why an answer did not come.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// The connection is of no more use.
    #[error("{0}")]
    Lost(String),
    /// The server answers, and does not let us in.
    #[error("{0}")]
    Refused(String),
    /// The collection's deadline came while the server was still at work.
    #[error("{0}")]
    Late(String),
    /// The role lacks a privilege.
    #[error("{0}")]
    Denied(String),
    /// The server has not loaded what the query needs.
    #[error("{0}")]
    Unavailable(String),
    /// The answer holds text that the server cannot turn into UTF-8.
    #[error("{0}")]
    Encoding(String),
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
                    "22021" | "22P05" => Error::Encoding(text),
                    // Shutdown, crash, and trouble with the connection or the login.
                    code if ["57P0", "08", "28", "53300", "3D000"]
                        .iter()
                        .any(|class| code.starts_with(class)) =>
                    {
                        Error::Lost(text)
                    }
                    _ => Error::Query(text),
                }
            }
            sqlx::Error::ColumnDecode { .. }
            | sqlx::Error::Decode(_)
            | sqlx::Error::ColumnIndexOutOfBounds { .. } => {
                Error::Query(format!("unexpected answer: {error}"))
            }
            // Never the text of a configuration error: it may quote the DSN.
            sqlx::Error::Configuration(_) => {
                Error::Lost("connect: invalid connection options".into())
            }
            other => Error::Lost(
                config
                    .password
                    .redact(&other.to_string().replace('\n', " ")),
            ),
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
    pub statements: Option<String>,
    /// Whether the role may have one connection only.
    pub alone: bool,
}

impl Server {
    /// Whether the role holds the privilege that `grant` names.
    pub fn holds(&self, grant: &Grant) -> bool {
        self.held.contains(&grant.role)
    }
}

/// An open connection and the queries that it is good for.
pub struct Session {
    /// There until it is dropped.
    pub(super) connection: Option<PgConnection>,
    closed: LastClosed,
    /// Where the goodbye is sent from.
    runtime: Handle,
    /// Whether text comes as the bytes that are stored: the server cannot turn all of it into
    /// UTF-8.
    pub(super) raw: bool,
    /// What is known about the server.
    pub server: Server,
    /// The queries, ready for this server's version.
    pub queries: Vec<Query>,
}

const LEARN: &str = "SELECT /* nightbell */ current_setting('server_version_num')::int4, current_user::text, current_database()::text,
    (SELECT quote_ident(n.nspname) FROM pg_extension e JOIN pg_class v ON v.relname = 'pg_stat_statements' AND v.relnamespace = e.extnamespace
        JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.objid = v.oid AND d.refclassid = 'pg_extension'::regclass
            AND d.refobjid = e.oid AND d.deptype = 'e'
        JOIN pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = 'pg_stat_statements'),
    pg_has_role('pg_read_all_stats', 'USAGE'),
    pg_has_role('pg_read_all_settings', 'USAGE'), pg_has_role('pg_monitor', 'USAGE'),
    (SELECT NOT rolsuper AND rolconnlimit = 1 FROM pg_roles WHERE rolname = current_user)";

impl Session {
    /// Connects to `database`, or to the one that the DSN names, and learns what there is. A server
    /// that is not `known` to speak PostgreSQL's protocol is tried first.
    pub async fn open(
        config: &Config,
        database: Option<&str>,
        known: bool,
        parts: &[&'static Part],
        deadline: Instant,
    ) -> Result<Self, Error> {
        let lost = || Error::Lost("connect: timed out".into());
        let options = match database {
            Some(name) => config.options.clone().database(name),
            None => config.options.clone(),
        };
        let reached = timeout_at(deadline, address::reach(options, known))
            .await
            .map_err(|_| lost())?;
        let options = reached.map_err(|e| Error::Lost(format!("connect: {e}")))?;
        let connected = timeout_at(deadline, connect(&options, &config.closed))
            .await
            .map_err(|_| lost())?;
        let connection = connected.map_err(|error| {
            let text = format!("connect: {}", Error::from_sqlx(&error, config));
            if matches!(error, sqlx::Error::Database(_)) {
                Error::Refused(text)
            } else {
                Error::Lost(text)
            }
        })?;
        let (server, queries) = (Server::default(), Vec::new());
        let mut session = Session {
            connection: Some(connection),
            closed: config.closed.clone(),
            runtime: Handle::current(),
            raw: false,
            server,
            queries,
        };
        let rows = session.ask(LEARN, config, deadline).await?;
        let row = rows
            .first()
            .ok_or_else(|| Error::Lost("connect: the server's answer has no row".into()))?;
        session.server = learn(row).map_err(|e| Error::from_sqlx(&e, config))?;
        let server = &session.server;
        let fits = |part: &&&'static Part| match part.scope {
            Scope::Server => database.is_none(),
            Scope::Statements => database.is_none() && server.statements.is_some(),
            Scope::StatementTexts => {
                config.statement_texts && database.is_none() && server.statements.is_some()
            }
            Scope::Database => config.wants(&server.database),
        };
        let schema = server.statements.as_deref().unwrap_or_default();
        let assemble =
            |part: &&'static Part| Query::assemble(part, server.version, &config.limits, schema);
        session.queries = parts.iter().filter(fits).filter_map(assemble).collect();
        Ok(session)
    }

    /// How long the server takes to answer at all.
    pub async fn ping(&mut self, config: &Config, deadline: Instant) -> Result<Duration, Error> {
        let asked = Instant::now();
        self.ask("SELECT /* nightbell */ 1", config, deadline)
            .await
            .map(|_| asked.elapsed())
            .map_err(|error| match error {
                Error::Late(text) => Error::Lost(text),
                other => other,
            })
    }

    /// The rows of a query.
    pub async fn ask(
        &mut self,
        sql: &str,
        config: &Config,
        deadline: Instant,
    ) -> Result<Vec<PgRow>, Error> {
        let answer = self.ask_once(sql, config, deadline).await;
        if let Err(Error::Encoding(_)) = &answer
            && !self.raw
        {
            self.raw = true;
            return self.ask_once(sql, config, deadline).await;
        }
        answer
    }

    /// Settings and query are one message, which the server runs as one transaction: whichever
    /// session of a pool it meets, nothing of it is left there, and an error ends the transaction
    /// too. Every name in it is the system's own, whatever the owner of the database or of its
    /// schemas made. The simple protocol prepares no statement.
    async fn ask_once(
        &mut self,
        sql: &str,
        config: &Config,
        deadline: Instant,
    ) -> Result<Vec<PgRow>, Error> {
        // Half of a collection: one slow query must not cost all of it. Halved again rather than
        // cut to what is left, so that the text of the setting is one of a few: each text is an
        // entry of pg_stat_statements.
        let left = deadline.saturating_duration_since(Instant::now());
        let mut timeout = config.patience / 2;
        while timeout > left && timeout > Duration::from_millis(100) {
            timeout /= 2;
        }
        let timeout = timeout.as_millis().max(50);
        let encoding = if self.raw {
            "SET /* nightbell */ LOCAL client_encoding = SQL_ASCII;"
        } else {
            ""
        };
        let text = format!(
            "SET /* nightbell */ TRANSACTION ISOLATION LEVEL READ COMMITTED, READ ONLY;
             SET /* nightbell */ LOCAL search_path = pg_catalog, pg_temp;
             SET /* nightbell */ LOCAL statement_timeout = {timeout};
             SET /* nightbell */ LOCAL lock_timeout = {};
             SET /* nightbell */ LOCAL extra_float_digits = 3;
             {encoding}
             {sql}",
            timeout / 5
        );
        let Some(connection) = self.connection.as_mut() else {
            return Err(Error::Lost("query: the connection is closed".into()));
        };
        match timeout_at(
            deadline,
            connection.fetch_all(sqlx::raw_sql(AssertSqlSafe(text))),
        )
        .await
        {
            Ok(rows) => rows.map_err(|e| Error::from_sqlx(&e, config)),
            Err(_) => Err(Error::Late("query: timed out".into())),
        }
    }

    /// Says goodbye and waits until that is sent: the session has left its database when the next
    /// step begins.
    pub async fn close(mut self, deadline: Instant) {
        if let Some(connection) = self.connection.take() {
            // A server that does not take the goodbye has lost nothing.
            let _best_effort = timeout_at(deadline, connection.close()).await;
            self.closed.note();
        }
    }
}

impl Drop for Session {
    /// A connection that just breaks off would be an error in the server's log.
    fn drop(&mut self) {
        if let Some(connection) = self.connection.take() {
            self.closed.note();
            self.runtime
                .spawn(tokio::time::timeout(GOODBYE, connection.close()));
        }
    }
}

/// Connects. A limit that is reached because the server still counts a session of ours is waited
/// for, with pauses that grow: each refusal is a line in the server's log.
async fn connect(options: &PgConnectOptions, closed: &LastClosed) -> sqlx::Result<PgConnection> {
    let is_ours = |error: &sqlx::Error| {
        let sqlx::Error::Database(error) = error else {
            return false;
        };
        error.code().as_deref() == Some(TOO_MANY_CONNECTIONS) && closed.is_recent()
    };
    for attempt in 0..FAREWELLS {
        match options.connect().await {
            Err(error) if is_ours(&error) => {
                tokio::time::sleep(FAREWELL * 2_u32.pow(attempt)).await;
            }
            connected => return connected,
        }
    }
    options.connect().await
}

fn learn(row: &PgRow) -> sqlx::Result<Server> {
    let version: i32 = row.try_get(0)?;
    let mut held = Vec::new();
    for (index, role) in [
        (4, "pg_read_all_stats"),
        (5, "pg_read_all_settings"),
        (6, "pg_monitor"),
    ] {
        if row.try_get(index)? {
            held.push(role);
        }
    }
    Ok(Server {
        version: u32::try_from(version).unwrap_or_default(),
        role: part::text(row, 1)?.unwrap_or_default().into_owned(),
        database: part::text(row, 2)?.unwrap_or_default().into_owned(),
        held,
        statements: part::text(row, 3)?.map(Cow::into_owned),
        alone: row.try_get::<Option<bool>, _>(7)?.unwrap_or_default(),
    })
}
