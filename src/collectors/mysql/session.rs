//! One connection, for one collection: connect, read, run the configuration's queries, goodbye.
//!
//! The session is read-only and ends with the collection, so that nothing of it stays. Names are
//! resolved apart. What listens is looked at once before: a connection that only looks counts as a
//! failed one, and a server refuses hosts with too many of those in a row.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::TryStreamExt as _;
use sqlx::mysql::{MySqlConnection, MySqlRow};
use sqlx::{
    AssertSqlSafe, Column as _, ConnectOptions as _, Connection as _, Executor as _, Row as _,
    SqlSafeStr as _, Statement as _,
};
use sqlx::{TypeInfo as _, mysql::MySqlColumn};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

use crate::net;

use super::super::sql::{Answer, Cell, Failure, MAX_LABEL, Query, Role, Run, label};
use super::config::Config;
use super::metrics::Values;

/// How long the server is waited for beyond the time that it was given.
const GRACE: Duration = Duration::from_millis(250);
/// Addresses of a name that are tried.
const MAX_ADDRESSES: usize = 8;
/// Bytes of a server's first packet at most.
const MAX_GREETING: usize = 4096;
/// Bytes of it after its version at least.
const FIXED: usize = 31;

/// An open connection.
pub struct Session {
    connection: MySqlConnection,
    /// What the server says of itself.
    pub version: String,
}

impl Session {
    /// Connects, and makes the session read-only. Each statement may take `patience`. A server that
    /// is not `known` to speak MySQL's protocol is looked at first, and is known then.
    pub async fn open(
        config: &Config,
        known: &mut bool,
        patience: Duration,
        deadline: Instant,
    ) -> Result<Self, String> {
        let connection = timeout_at(deadline, connect(config, known, deadline))
            .await
            .map_err(|_| "connect: timed out".to_owned())??;
        let mut session = Session {
            connection,
            version: String::new(),
        };
        let rows = session
            .rows(
                "SELECT /* nightbell */ VERSION() AS version",
                config,
                deadline,
            )
            .await?;
        session.version = rows
            .first()
            .and_then(|row| row.get("version"))
            .cloned()
            .unwrap_or_default();
        let limit = session.limit(patience);
        let sql = format!("SET /* nightbell */ SESSION TRANSACTION READ ONLY; {limit}");
        session.execute(&sql, config, deadline).await?;
        Ok(session)
    }

    /// Whether it is MariaDB, which goes ways of its own.
    pub fn is_mariadb(&self) -> bool {
        self.version.contains("MariaDB")
    }

    /// The statement that bounds what each of the next ones may take.
    fn limit(&self, patience: Duration) -> String {
        let locks = patience.as_secs().max(1);
        let locks = format!(
            "SET /* nightbell */ SESSION lock_wait_timeout = {locks}, innodb_lock_wait_timeout = {locks}"
        );
        match self.is_mariadb() {
            true => format!(
                "{locks}, max_statement_time = {:.3}",
                patience.as_secs_f64()
            ),
            false => format!("{locks}, max_execution_time = {}", patience.as_millis()),
        }
    }

    async fn execute(
        &mut self,
        sql: &str,
        config: &Config,
        deadline: Instant,
    ) -> Result<(), String> {
        let run = self
            .connection
            .execute(sqlx::raw_sql(AssertSqlSafe(sql.to_owned())));
        timeout_at(deadline, run)
            .await
            .map_err(|_| "timed out".to_owned())?
            .map(drop)
            .map_err(|error| text(&error, config))
    }

    /// The rows of a statement of our own, by names in lower case; of those with a name and a
    /// value, as one row.
    pub async fn rows(
        &mut self,
        sql: &str,
        config: &Config,
        deadline: Instant,
    ) -> Result<Vec<Values>, String> {
        let asked = self
            .connection
            .fetch_all(sqlx::raw_sql(AssertSqlSafe(sql.to_owned())));
        let rows = timeout_at(deadline, asked)
            .await
            .map_err(|_| "timed out".to_owned())?
            .map_err(|error| text(&error, config))?;
        let value = |row: &MySqlRow, index: usize| -> Option<String> {
            let bytes: Option<Vec<u8>> = row.try_get_unchecked(index).ok()?;
            bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        };
        let named = |row: &MySqlRow| {
            let cell = |(index, column): (usize, &MySqlColumn)| {
                Some((column.name().to_ascii_lowercase(), value(row, index)?))
            };
            row.columns().iter().enumerate().filter_map(cell).collect()
        };
        Ok(rows.iter().map(named).collect())
    }

    /// Runs what is due, until the deadline. The connection is gone when the last one left it in
    /// doubt.
    pub async fn run_all(
        mut self,
        due: &[Arc<Query>],
        config: &Config,
        deadline: Instant,
    ) -> Vec<Run> {
        let mut runs = Vec::new();
        for query in due {
            let started = Instant::now();
            let left = deadline.saturating_duration_since(started);
            if left < 2 * GRACE {
                break;
            }
            let timeout = query
                .timeout
                .min(left.saturating_sub(2 * GRACE))
                .max(Duration::from_millis(50));
            let result =
                timeout_at(started + timeout + GRACE, self.run(query, timeout, config)).await;
            let in_doubt = matches!(result, Err(_) | Ok(Err(Problem::Lost(_))));
            let result = match result {
                Ok(Ok(answer)) => Ok(answer),
                Ok(Err(Problem::Lost(failure) | Problem::Failed(failure))) => Err(failure),
                Err(_) => Err(late(timeout)),
            };
            runs.push(Run {
                query: Arc::clone(query),
                took: started.elapsed(),
                result,
            });
            if in_doubt {
                // The server ends what it still does by its own clock.
                match Session::open(config, &mut true, query.timeout, deadline).await {
                    Ok(session) => self = session,
                    Err(_) => return runs,
                }
            }
        }
        self.close(deadline).await;
        runs
    }

    async fn run(
        &mut self,
        query: &Query,
        timeout: Duration,
        config: &Config,
    ) -> Result<Answer, Problem> {
        let limit = self.limit(timeout);
        let begin = format!("{limit}; START TRANSACTION /* nightbell */ READ ONLY");
        let of = |error: sqlx::Error| problem(&error, query, timeout, config);
        self.connection
            .execute(sqlx::raw_sql(AssertSqlSafe(begin)))
            .await
            .map_err(of)?;
        let result = self.ask(query).await;
        self.connection
            .execute(sqlx::raw_sql("ROLLBACK /* nightbell */"))
            .await
            .map_err(of)?;
        match result {
            Ok(answer) => {
                answer.map_err(|reason| Problem::Failed(Failure::new(query.redact(&reason))))
            }
            Err(error) => Err(of(error)),
        }
    }

    /// The statement is prepared by itself, which must be one, and run as a part of a SELECT.
    async fn ask(&mut self, query: &Query) -> sqlx::Result<Result<Answer, String>> {
        let sql = query.sql.expose();
        let statement = self
            .connection
            .prepare(AssertSqlSafe(sql.to_owned()).into_sql_str())
            .await?;
        let kinds: Vec<&str> = statement
            .columns()
            .iter()
            .map(|column| column.type_info().name())
            .collect();
        let columns = statement
            .columns()
            .iter()
            .map(|column| {
                (
                    column.name().to_owned(),
                    is_numeric(column.type_info().name()),
                )
            })
            .collect();
        let shape = match query.shape(columns) {
            Ok(shape) => shape,
            Err(reason) => return Ok(Err(reason)),
        };
        let expression = |(index, role): &(usize, Role)| match (role, kinds[*index]) {
            (Role::Label, _) => format!("LEFT(CAST(c{index} AS CHAR), {MAX_LABEL})"),
            (Role::Value, "TIMESTAMP" | "DATETIME" | "DATE") => {
                format!("TIMESTAMPDIFF(MICROSECOND, '1970-01-01', c{index}) / 1e6 + 0e0")
            }
            (Role::Value, "TIME") => format!("TIME_TO_SEC(c{index}) + 0e0"),
            (Role::Value, _) => format!("c{index} + 0e0"),
        };
        let expressions: Vec<String> = shape.used.iter().map(expression).collect();
        let names: Vec<String> = (0..kinds.len()).map(|index| format!("c{index}")).collect();
        let text = format!(
            "WITH /* nightbell */ nightbell ({}) AS (\n{sql}\n) SELECT {} FROM nightbell LIMIT {}",
            names.join(", "),
            expressions.join(", "),
            query.max_rows + 1
        );
        let mut rows = Vec::new();
        let mut stream = self
            .connection
            .fetch(sqlx::query(AssertSqlSafe(text)).persistent(false));
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
        Ok(Ok(Answer { shape, rows }))
    }

    /// Says goodbye: a connection that breaks off is counted as aborted.
    pub async fn close(self, deadline: Instant) {
        // A server that does not take the goodbye has lost nothing.
        let _best_effort = timeout_at(deadline, self.connection.close()).await;
    }
}

/// One address after the other, each with its share of the time.
async fn connect(
    config: &Config,
    known: &mut bool,
    deadline: Instant,
) -> Result<MySqlConnection, String> {
    let failed = |error: &sqlx::Error| format!("connect: {}", text(error, config));
    if config.is_socket {
        return config
            .options
            .connect()
            .await
            .map_err(|error| failed(&error));
    }
    let found = net::resolve(config.options.get_host())
        .await
        .map_err(|error| format!("connect: {error}"))?;
    let addresses = found
        .iter()
        .take(if config.by_name { 1 } else { MAX_ADDRESSES });
    let mut problem = "connect: the name has no address".to_owned();
    let count = found.len().min(MAX_ADDRESSES);
    for (index, address) in addresses.enumerate() {
        let options = if config.by_name {
            config.options.clone()
        } else {
            config.options.clone().host(&address.to_string())
        };
        let share = deadline.saturating_duration_since(Instant::now())
            / u32::try_from(count - index).unwrap_or(1).max(1);
        let reached = async {
            if !*known {
                knock(SocketAddr::new(*address, config.options.get_port()))
                    .await
                    .map_err(sqlx::Error::Io)?;
                *known = true;
            }
            options.connect().await
        };
        problem = match tokio::time::timeout(share, reached).await {
            Ok(Ok(connection)) => return Ok(connection),
            // The server answers: another address would say the same.
            Ok(Err(error @ sqlx::Error::Database(_))) => return Err(failed(&error)),
            Ok(Err(error)) => {
                *known &= !matches!(error, sqlx::Error::Io(_) | sqlx::Error::Protocol(_));
                failed(&error)
            }
            Err(_) => "connect: timed out".to_owned(),
        };
    }
    Err(problem)
}

/// Whether what listens greets as a MySQL server does, or refuses as one. The client library
/// believes whatever it is sent.
///
/// <https://dev.mysql.com/doc/dev/mysql-server/latest/page_protocol_connection_phase_packets_protocol_handshake_v10.html>
async fn knock(address: SocketAddr) -> io::Result<()> {
    let other = || io::Error::new(io::ErrorKind::InvalidData, "not a MySQL server");
    let mut stream = TcpStream::connect(address).await?;
    let mut header = [0; 4];
    stream.read_exact(&mut header).await.map_err(|_| other())?;
    let [low, middle, high, number] = header;
    let length = usize::from(low) | usize::from(middle) << 8 | usize::from(high) << 16;
    if !(3..=MAX_GREETING).contains(&length) || number != 0 {
        return Err(other());
    }
    let mut greeting = vec![0; length];
    stream
        .read_exact(&mut greeting)
        .await
        .map_err(|_| other())?;
    match greeting.as_slice() {
        [0xff, ..] => Ok(()),
        // What follows the version has a fixed size at least.
        [10, rest @ ..]
            if rest
                .iter()
                .position(|byte| *byte == 0)
                .is_some_and(|end| rest.len() - end > FIXED) =>
        {
            Ok(())
        }
        _ => Err(other()),
    }
}

fn is_numeric(kind: &str) -> bool {
    const TIMES: [&str; 6] = ["TIMESTAMP", "DATETIME", "DATE", "TIME", "YEAR", "NULL"];
    let plain = kind.trim_end_matches(" UNSIGNED");
    TIMES.contains(&plain)
        || plain.ends_with("INT")
        || ["BOOLEAN", "FLOAT", "DOUBLE", "DECIMAL", "BIT"].contains(&plain)
}

fn read(row: &MySqlRow, index: usize, role: Role) -> sqlx::Result<Cell> {
    Ok(match role {
        Role::Label => row
            .try_get_unchecked::<Option<Vec<u8>>, _>(index)?
            .map_or(Cell::Null, |bytes| label(&String::from_utf8_lossy(&bytes))),
        Role::Value => row
            .try_get_unchecked::<Option<f64>, _>(index)?
            .map_or(Cell::Null, Cell::Number),
    })
}

/// Why a run gave nothing.
enum Problem {
    /// The session can be used further.
    Failed(Failure),
    /// It cannot.
    Lost(Failure),
}

fn late(timeout: Duration) -> Failure {
    let reason = format!("timed out after {:.1} s", timeout.as_secs_f64());
    Failure {
        reason,
        remedy: Some("make it faster, or raise its timeout:".to_owned()),
    }
}

/// A message in one line without the password.
fn text(error: &sqlx::Error, config: &Config) -> String {
    let message = match error {
        sqlx::Error::Database(db) => db.message().to_owned(),
        // The plugins sha256_password and caching_sha2_password hand a password over only so, or
        // with RSA, which is not built in.
        sqlx::Error::Configuration(error) if error.to_string().contains("RSA") => {
            "the server takes this user's password over TLS only: set up TLS, or use a socket"
                .to_owned()
        }
        sqlx::Error::Configuration(_) => "invalid connection options".to_owned(),
        other => other.to_string(),
    };
    config.password.redact(&message.replace('\n', " "))
}

fn problem(error: &sqlx::Error, query: &Query, timeout: Duration, config: &Config) -> Problem {
    let sqlx::Error::Database(db) = error else {
        return Problem::Lost(Failure::new(query.redact(&text(error, config))));
    };
    let number = db
        .try_downcast_ref::<sqlx::mysql::MySqlDatabaseError>()
        .map_or(0, sqlx::mysql::MySqlDatabaseError::number);
    let message = query.redact(&text(error, config));
    Problem::Failed(match number {
        // max_execution_time, max_statement_time.
        3024 | 1969 => late(timeout),
        // It quotes what follows the mistake, which may be cut anywhere.
        1064 => Failure::new(match message.rsplit_once(" at line ") {
            Some((_, line)) => format!("its syntax is wrong at line {line}"),
            None => "its syntax is wrong".to_owned(),
        }),
        _ => Failure {
            remedy: grant(number, &message, &config.user),
            reason: message,
        },
    })
}

/// The statement that lets the user do what the server's message is about.
pub fn grant(number: u16, message: &str, user: &str) -> Option<String> {
    // `SELECT command denied to user 'u'@'h' for table `db`.`t``.
    let account = message
        .split_once("to user ")
        .or_else(|| message.split_once("for user "))
        .map(|(_, rest)| rest);
    let account = account
        .and_then(|rest| rest.split(' ').next())
        .filter(|account| account.contains('@'));
    let account = account.map_or_else(|| format!("'{user}'@'…'"), str::to_owned);
    let object = message
        .rsplit_once(" table ")
        .map(|(_, table)| table.replace('\'', "`"));
    match number {
        1142 | 1143 => Some(format!(
            "GRANT SELECT ON {} TO {account}",
            object.unwrap_or_else(|| "the tables of this query".to_owned())
        )),
        1044 => Some(format!(
            "GRANT SELECT ON the database of this query TO {account}"
        )),
        1370 => Some(format!("GRANT EXECUTE ON the routine TO {account}")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_grant_is_that_which_the_message_is_about() {
        let message = "SELECT command denied to user 'mon'@'localhost' for table `app`.`results`";
        assert_eq!(
            grant(1142, message, "mon").as_deref(),
            Some("GRANT SELECT ON `app`.`results` TO 'mon'@'localhost'")
        );
        assert_eq!(grant(1146, "Table 'app.x' doesn't exist", "mon"), None);
    }
}
