//! The section `postgres`: where the server is, and how much of it is looked at.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use sqlx::ConnectOptions as _;
use sqlx::postgres::PgConnectOptions;

use crate::config::{Secret, Section};

use super::dsn::{Dsn, Refusal};

/// How long a busy server may count a session that has said goodbye.
const STILL_COUNTED: Duration = Duration::from_secs(10);

/// What the collector does.
#[derive(Clone, Debug)]
pub struct Config {
    /// How long one collection may take.
    pub patience: Duration,
    /// Where and as whom to connect.
    pub options: PgConnectOptions,
    /// The password, for removal from messages.
    pub password: Secret,
    /// `postgres://host:port/database`, for people.
    pub address: String,
    /// Databases looked into for tables and indexes; empty for all.
    pub include: Vec<String>,
    /// Databases not looked into.
    pub exclude: Vec<String>,
    /// How many of them at most; each costs a connection for the moment of its reading.
    pub max_databases: usize,
    /// Time between two readings of sizes, tables, indexes and statements.
    pub table_interval: Duration,
    /// Bounds on rows.
    pub limits: Limits,
    /// Whether the texts of statements are read for reports.
    pub statement_texts: bool,
    /// When a session of this collector was closed last.
    pub closed: LastClosed,
}

/// When a session was closed last; clones are one.
#[derive(Clone, Debug, Default)]
pub struct LastClosed(Arc<Mutex<Option<Instant>>>);

impl LastClosed {
    /// Notes that one is closed now.
    pub fn note(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    /// Whether one was closed so lately that the server may still count it.
    pub fn is_recent(&self) -> bool {
        let at = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        at.is_some_and(|at| at.elapsed() < STILL_COUNTED)
    }
}

/// A bound on rows, set in the configuration.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Limit {
    /// Databases of the server.
    Databases,
    /// Tables of a database.
    Tables,
    /// Indexes of a database.
    Indexes,
    /// Statements of `pg_stat_statements`.
    Statements,
    /// Groups of sessions, roles, replicas, slots.
    Sessions,
}

/// Bounds on rows.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    tables: usize,
    indexes: usize,
    statements: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            tables: 100,
            indexes: 100,
            statements: 100,
        }
    }
}

impl Limits {
    /// The number that this limit stands for.
    pub fn of(&self, limit: Limit) -> usize {
        match limit {
            Limit::Databases | Limit::Sessions => 100,
            Limit::Tables => self.tables,
            Limit::Indexes => self.indexes,
            Limit::Statements => self.statements,
        }
    }
}

impl Config {
    /// Reads the section; `None` when its `dsn` is missing or wrong, which is then recorded.
    pub fn read(section: &Section<'_>, patience: Duration) -> Option<Self> {
        let dsn = section.secret("dsn");
        let databases = section.section("databases");
        let list = |key: &str| {
            databases
                .as_ref()
                .and_then(|d| d.get::<Vec<String>>(key))
                .unwrap_or_default()
        };
        let (include, exclude) = (list("include"), list("exclude"));
        let max_databases = databases.as_ref().map_or(8, |d| d.or("max", 8));
        if let Some(databases) = &databases {
            databases.finish();
        }
        let defaults = Limits::default();
        let statements = section.section("statements");
        let limits = Limits {
            tables: section.or("max_tables", defaults.tables),
            indexes: section.or("max_indexes", defaults.indexes),
            statements: statements
                .as_ref()
                .map_or(defaults.statements, |s| s.or("limit", defaults.statements)),
        };
        let statement_texts = statements.as_ref().is_some_and(|s| s.or("text", false));
        if let Some(statements) = &statements {
            statements.finish();
        }
        let table_interval = section.or("table_interval", Duration::from_secs(60));
        let Some(dsn) = dsn else {
            if section.node("dsn").is_none() && section.node("dsn_file").is_none() {
                section.error("dsn", "is missing", "add dsn: postgres://user:password@host:5432/database, or dsn_file: with a path");
            }
            return None;
        };
        let (options, password, address) = match parse_dsn(dsn.expose()) {
            Ok(parsed) => parsed,
            Err(refusal) => {
                // The text may hold a password: it is not quoted.
                section.error("dsn", refusal.problem, refusal.remedy);
                return None;
            }
        };
        Some(Config {
            patience,
            options,
            password,
            address,
            include,
            exclude,
            max_databases,
            table_interval,
            limits,
            statement_texts,
            closed: LastClosed::default(),
        })
    }

    /// Whether tables and indexes of this database are looked at.
    pub fn wants(&self, database: &str) -> bool {
        (self.include.is_empty() || self.include.iter().any(|d| d == database))
            && !self.exclude.iter().any(|d| d == database)
    }
}

/// Connection options, password and address of a DSN.
pub fn parse_dsn(text: &str) -> Result<(PgConnectOptions, Secret, String), Refusal> {
    const PARAMETERS: Refusal = Refusal {
        problem: "has a parameter with a value that is not known",
        remedy: "sslmode is disable, allow, prefer, require, verify-ca or verify-full; hostaddr is an IP address",
    };
    let dsn = Dsn::parse(text)?;
    let password = Secret::new(dsn.get("password").unwrap_or_default());
    let url = dsn.url().ok_or(PARAMETERS)?;
    let options: PgConnectOptions = url.as_str().parse().map_err(|_| PARAMETERS)?;
    // A pooler refuses parameters that it cannot hand on, so none is sent that is not needed;
    // nothing is prepared, so nothing is kept.
    let options = options
        .application_name("nightbell")
        .extra_float_digits(None)
        .statement_cache_capacity(0)
        .disable_statement_logging();
    let host = socket_folder(&options).map_or_else(
        || options.get_host().to_owned(),
        |folder| folder.display().to_string(),
    );
    let host = if host.contains(':') {
        format!("[{host}]")
    } else {
        host
    };
    let address = format!(
        "postgres://{host}:{}/{}",
        options.get_port(),
        options.get_database().unwrap_or_default()
    );
    Ok((options, password, address))
}

/// The folder of the server's socket, which a DSN may give as its host; `None` for TCP.
pub fn socket_folder(options: &PgConnectOptions) -> Option<&Path> {
    options
        .get_socket()
        .map(PathBuf::as_path)
        .or_else(|| Some(Path::new(options.get_host())).filter(|host| host.is_absolute()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Document, Environment, Loader};

    fn read(text: &str) -> Result<Option<Config>, String> {
        let document = Document::parse("n.yml", text).expect("YAML");
        let environment = Environment::default();
        let loader = Loader::new(&document, &environment, Path::new("."));
        let root = loader.root();
        let config = Config::read(&root, Duration::from_secs(5));
        root.finish();
        drop(root);
        loader.finish(config).map_err(|e| e.to_string())
    }

    #[test]
    fn an_application_s_url_is_understood_and_its_address_has_no_secret() {
        let config = read("dsn: postgresql+asyncpg://app:s3cret@db1:6432/chat?sslmode=disable\n")
            .expect("valid")
            .expect("config");
        assert_eq!(config.address, "postgres://db1:6432/chat");
        assert_eq!(config.options.get_username(), "app");
        assert!(!format!("{:?}", config.password).contains("s3cret"));
    }

    #[test]
    fn parameters_of_other_libraries_are_translated_or_left_out() {
        let (options, password, _) =
            parse_dsn("postgresql+asyncpg://a@db/x?ssl=require&pool_size=5&password=s3cret")
                .expect("valid");
        assert!(matches!(
            options.get_ssl_mode(),
            sqlx::postgres::PgSslMode::Require
        ));
        assert_eq!(password.expose(), "s3cret");
        assert!(parse_dsn("postgres://db/x?sslmode=nonsense").is_err());
    }

    #[test]
    fn a_wrong_dsn_is_refused_without_being_quoted() {
        let error = read("dsn: mysql://root:hunter2@db/x\n").expect_err("refused");
        assert_eq!(
            error,
            "n.yml:1:6: dsn: is not a PostgreSQL URL; give postgres://user:password@host:5432/database"
        );
        assert!(
            read("databases: {include: [a]}\n")
                .expect_err("refused")
                .contains("dsn: is missing")
        );
    }

    #[test]
    fn databases_are_chosen_by_name() {
        let config = read("dsn: postgres://db/x\ndatabases: {include: [a, b], exclude: [b]}\n")
            .expect("valid")
            .expect("config");
        assert_eq!(
            ["a", "b", "c"].map(|d| config.wants(d)),
            [true, false, false]
        );
    }
}
