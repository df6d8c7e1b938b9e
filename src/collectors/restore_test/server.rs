//! The server with the scratch database: made by nightbell, marked by a comment, removed again. A
//! database of the name without the marker is never touched.

use std::future::Future;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgConnection, PgRow};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, Executor as _, Row as _};

use super::failure::{Failure, Reason};
use super::statement::Known;
use crate::collectors::postgres::{Dsn, reach, socket_folder};
use crate::config::Secret;

/// How long the server may take for one of the small questions.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long it may take to make and to remove a database.
const LONG_PATIENCE: Duration = Duration::from_secs(120);
/// The comment of the scratch database.
const MARKER: &str = "nightbell restore_test: made for a restore and removed after it";
/// The limit on connections of the scratch database. It comes with the database, before the comment
/// does: one that was made and not marked yet when nightbell was killed is known by it.
const LIMIT: i32 = 9908;

/// Where dumps are restored.
#[derive(Clone)]
pub struct Server {
    /// Where and as whom to connect.
    pub options: PgConnectOptions,
    /// The password, for removal from messages.
    pub password: Secret,
    /// `postgres://host:port/database`, for people.
    pub address: String,
    /// The variables for psql, without the password.
    pub variables: Vec<(&'static str, String)>,
    /// The name of the scratch database.
    pub scratch: String,
}

/// What stands under the name of the scratch database.
#[derive(Debug, PartialEq, Eq)]
enum Standing {
    Absent,
    Ours,
    Used,
    Foreign,
}

impl Server {
    /// psql's variables for a DSN.
    pub fn variables(dsn: &Dsn) -> Vec<(&'static str, String)> {
        let named = [
            ("PGHOST", "host"),
            ("PGHOSTADDR", "hostaddr"),
            ("PGPORT", "port"),
            ("PGUSER", "user"),
            ("PGSSLMODE", "sslmode"),
            ("PGSSLROOTCERT", "sslrootcert"),
            ("PGSSLCERT", "sslcert"),
            ("PGSSLKEY", "sslkey"),
        ];
        let given = named
            .into_iter()
            .filter_map(|(variable, name)| Some((variable, dsn.get(name)?.to_owned())));
        // As other libraries call it.
        let mode = dsn
            .get("ssl")
            .filter(|_| dsn.get("sslmode").is_none())
            .map(|mode| match mode {
                "true" | "True" | "1" => "require",
                "false" | "False" | "0" => "disable",
                other => other,
            });
        given
            .chain(mode.map(|mode| ("PGSSLMODE", mode.to_owned())))
            .chain([
                ("PGAPPNAME", "nightbell".to_owned()),
                ("PGCONNECT_TIMEOUT", "10".to_owned()),
            ])
            .collect()
    }

    /// The folder of the server's data, where it is on this machine and the role may know it.
    pub async fn data_folder(&self, connection: &mut PgConnection) -> Option<PathBuf> {
        let host = self.options.get_host();
        let here = socket_folder(&self.options).is_some()
            || host == "localhost"
            || host
                .parse::<IpAddr>()
                .is_ok_and(|address| address.is_loopback());
        let rows = self
            .ask(
                connection,
                "SELECT setting FROM pg_catalog.pg_settings WHERE name = 'data_directory'",
            )
            .await
            .ok()?;
        let folder = PathBuf::from(rows.first()?.try_get::<String, _>(0).ok()?);
        // The same path in a container is another folder: then it is likely not there.
        Some(folder).filter(|folder| here && folder.exists())
    }

    /// Connects to a database, or to the one that the DSN names.
    pub async fn connect(&self, database: Option<&str>) -> Result<PgConnection, Failure> {
        let options = database.map_or_else(
            || self.options.clone(),
            |name| self.options.clone().database(name),
        );
        let connect = async {
            let options = reach(options, false)
                .await
                .map_err(|error| Failure::of(Reason::Unreachable, format!("connect: {error}")))?;
            options
                .connect()
                .await
                .map_err(|error| match self.failure(&error) {
                    // A configuration error may quote the DSN.
                    _ if matches!(error, sqlx::Error::Configuration(_)) => {
                        Failure::of(Reason::Unreachable, "connect: invalid options")
                    }
                    failure => Failure {
                        reason: Reason::Unreachable,
                        ..failure
                    },
                })
        };
        self.in_time(connect, PATIENCE).await?
    }

    /// The rows of a question.
    pub async fn ask(
        &self,
        connection: &mut PgConnection,
        sql: &str,
    ) -> Result<Vec<PgRow>, Failure> {
        self.ask_within(connection, sql, PATIENCE).await
    }

    async fn ask_within(
        &self,
        connection: &mut PgConnection,
        sql: &str,
        patience: Duration,
    ) -> Result<Vec<PgRow>, Failure> {
        let answer = connection.fetch_all(sqlx::raw_sql(AssertSqlSafe(sql.to_owned())));
        self.in_time(answer, patience)
            .await?
            .map_err(|error| self.failure(&error))
    }

    async fn in_time<T>(
        &self,
        answer: impl Future<Output = T>,
        patience: Duration,
    ) -> Result<T, Failure> {
        let timed = tokio::time::timeout(patience, answer).await;
        timed.map_err(|_| Failure::of(Reason::Unreachable, "the server does not answer in time"))
    }

    /// What an error of the library says, without what it may quote of rows.
    pub fn failure(&self, error: &sqlx::Error) -> Failure {
        match error {
            sqlx::Error::Database(error) => {
                let code = error.code().unwrap_or_default().into_owned();
                refusal(&code, &self.password.redact(error.message()))
            }
            other => Failure::of(
                Reason::Unreachable,
                self.password.redact(&other.to_string()),
            ),
        }
    }

    /// Whether the role may make databases; a note where it may do more than it should.
    pub async fn check_role(
        &self,
        connection: &mut PgConnection,
    ) -> Result<Option<String>, Failure> {
        let sql = "SELECT rolcreatedb OR rolsuper, rolsuper, rolname::text FROM pg_catalog.pg_roles WHERE rolname = current_user";
        let rows = self.ask(connection, sql).await?;
        let row = rows
            .first()
            .ok_or_else(|| Failure::of(Reason::Denied, "the role is not known to the server"))?;
        let (may, is_super) = (
            row.try_get::<bool, _>(0).unwrap_or_default(),
            row.try_get::<bool, _>(1).unwrap_or_default(),
        );
        let role = row.try_get::<String, _>(2).unwrap_or_default();
        if !may {
            return Err(Failure::of(
                Reason::Denied,
                format!(
                    "the role may not make databases; ALTER ROLE {} CREATEDB",
                    quoted(&role)
                ),
            ));
        }
        let note = format!(
            "role {role} is a superuser: what a dump holds could do anything; give a role with CREATEDB alone"
        );
        Ok(is_super.then_some(note))
    }

    async fn standing(&self, connection: &mut PgConnection) -> Result<Standing, Failure> {
        let sql = format!(
            "SELECT coalesce(pg_catalog.shobj_description(d.oid, 'pg_database'), '') = {marker}
                 OR (d.datconnlimit = {LIMIT} AND pg_catalog.pg_get_userbyid(d.datdba) = current_user
                     AND pg_catalog.shobj_description(d.oid, 'pg_database') IS NULL),
                 EXISTS (SELECT FROM pg_catalog.pg_stat_activity a WHERE a.datid = d.oid)
             FROM pg_catalog.pg_database d WHERE d.datname = {name}",
            marker = literal(MARKER),
            name = literal(&self.scratch)
        );
        let rows = self.ask(connection, &sql).await?;
        let Some(row) = rows.first() else {
            return Ok(Standing::Absent);
        };
        let flag = |at: usize| row.try_get::<bool, _>(at).unwrap_or_default();
        Ok(match (flag(0), flag(1)) {
            (false, _) => Standing::Foreign,
            (true, true) => Standing::Used,
            (true, false) => Standing::Ours,
        })
    }

    /// Removes what a killed nightbell left, unless somebody uses it.
    pub async fn remove_left(&self, connection: &mut PgConnection) -> Result<(), Failure> {
        let name = &self.scratch;
        match self.standing(connection).await? {
            Standing::Absent => Ok(()),
            Standing::Foreign => Err(Failure::of(
                Reason::NotOurs,
                format!(
                    "database {name:?} exists, and nightbell has not made it; give another name"
                ),
            )),
            Standing::Used => Err(Failure::of(
                Reason::InUse,
                format!("database {name:?} is used, by another nightbell for instance"),
            )),
            // Without FORCE: who has come since is not thrown out.
            Standing::Ours => self
                .ask_within(
                    connection,
                    &format!("DROP DATABASE {}", quoted(name)),
                    LONG_PATIENCE,
                )
                .await
                .map(drop),
        }
    }

    /// Makes the scratch database, empty.
    pub async fn make(&self, connection: &mut PgConnection) -> Result<(), Failure> {
        let name = quoted(&self.scratch);
        let made = format!("CREATE DATABASE {name} TEMPLATE template0 CONNECTION LIMIT {LIMIT}");
        self.ask_within(connection, &made, LONG_PATIENCE)
            .await
            .map_err(|failure| match failure.reason {
                Reason::Refused if failure.detail.contains("42P04") => {
                    Failure::of(Reason::InUse, "another nightbell made the database first")
                }
                _ => failure,
            })?;
        self.ask(
            connection,
            &format!("COMMENT ON DATABASE {name} IS {}", literal(MARKER)),
        )
        .await
        .map(drop)
    }

    /// Removes the scratch database that this run has made, with the sessions that are left in it.
    pub async fn remove(&self) -> Result<(), Failure> {
        let mut connection = self.connect(None).await?;
        let rows = self
            .ask(
                &mut connection,
                "SELECT pg_catalog.current_setting('server_version_num')::int4",
            )
            .await?;
        let version: i32 = rows
            .first()
            .and_then(|row| row.try_get(0).ok())
            .unwrap_or_default();
        let name = quoted(&self.scratch);
        let drop = if version >= 130_000 {
            format!("DROP DATABASE {name} WITH (FORCE)")
        } else {
            format!("DROP DATABASE {name}")
        };
        let mut result = Ok(());
        for _ in 0..3 {
            if version < 130_000 {
                let sessions = "SELECT pg_catalog.pg_terminate_backend(pid) FROM pg_catalog.pg_stat_activity WHERE datname";
                self.ask(
                    &mut connection,
                    &format!("{sessions} = {}", literal(&self.scratch)),
                )
                .await?;
            }
            result = match self.standing(&mut connection).await? {
                Standing::Absent => Ok(()),
                Standing::Foreign => Err(Failure::of(
                    Reason::NotOurs,
                    "the database is no longer the one that was made",
                )),
                Standing::Ours | Standing::Used => self
                    .ask_within(&mut connection, &drop, LONG_PATIENCE)
                    .await
                    .map(std::mem::drop),
            };
            if result.is_ok() {
                break;
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        close(connection).await;
        result
    }

    /// What the server has, as far as dumps ask for it.
    pub async fn known(&self, connection: &mut PgConnection) -> Result<Known, Failure> {
        let mut known = Known::default();
        let questions = [
            (
                &mut known.extensions,
                "SELECT name::text FROM pg_catalog.pg_available_extensions",
            ),
            (
                &mut known.roles,
                "SELECT rolname::text FROM pg_catalog.pg_roles",
            ),
            (
                &mut known.settings,
                "SELECT lower(name) FROM pg_catalog.pg_settings",
            ),
        ];
        for (names, sql) in questions {
            names.extend(
                self.ask(connection, sql)
                    .await?
                    .iter()
                    .filter_map(|row| row.try_get::<String, _>(0).ok()),
            );
        }
        Ok(known)
    }

    /// The bytes of the scratch database.
    pub async fn size(&self, connection: &mut PgConnection) -> Result<u64, Failure> {
        let rows = self
            .ask(
                connection,
                &format!(
                    "SELECT pg_catalog.pg_database_size({})",
                    literal(&self.scratch)
                ),
            )
            .await?;
        let size: i64 = rows
            .first()
            .and_then(|row| row.try_get(0).ok())
            .unwrap_or_default();
        Ok(size.unsigned_abs())
    }
}

/// What a refusal of the server says. Messages about data quote the data: of these the code alone
/// is kept.
pub fn refusal(code: &str, message: &str) -> Failure {
    let reason = match code {
        "42501" => Reason::Denied,
        "53100" => Reason::NoSpace,
        "55006" => Reason::InUse,
        code if ["08", "28", "57P", "3D"]
            .iter()
            .any(|class| code.starts_with(class)) =>
        {
            Reason::Unreachable
        }
        _ => Reason::Refused,
    };
    let says_names_alone = ["08", "0A", "28", "3D", "3F", "42", "53", "55", "57", "58"]
        .iter()
        .any(|class| code.starts_with(class));
    let text = if says_names_alone {
        message
    } else {
        "the server does not take the dump's data"
    };
    Failure::of(reason, format!("{text} ({code})"))
}

/// Says goodbye; a server that does not take it has lost nothing.
pub async fn close(connection: PgConnection) {
    let _best_effort = tokio::time::timeout(Duration::from_secs(2), connection.close()).await;
}

/// A name in SQL.
pub fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A text in SQL.
pub fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}
