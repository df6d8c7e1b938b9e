//! The section `postgres`: where the server is, and how much of it is looked at.

use std::path::{Path, PathBuf};
use std::time::Duration;

use sqlx::ConnectOptions as _;
use sqlx::postgres::PgConnectOptions;
use url::Url;

use crate::config::{Secret, Section};

use super::part::Limit;

/// What the collector does.
#[derive(Clone, Debug)]
pub struct Config {
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
    /// How many of them at most; each costs one connection.
    pub max_databases: usize,
    /// Time between two readings of sizes, tables, indexes and statements.
    pub table_interval: Duration,
    /// Bounds on rows.
    pub limits: Limits,
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
        Limits { tables: 100, indexes: 100, statements: 20 }
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
    pub fn read(section: &Section<'_>) -> Option<Self> {
        let dsn = section.secret("dsn");
        let databases = section.section("databases");
        let list = |key: &str| databases.as_ref().and_then(|d| d.get::<Vec<String>>(key)).unwrap_or_default();
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
            statements: statements.as_ref().map_or(defaults.statements, |s| s.or("limit", defaults.statements)),
        };
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
        let Some((options, password, address)) = parse_dsn(dsn.expose()) else {
            // The text may hold a password: it is not quoted.
            section.error("dsn", "is not a PostgreSQL URL", "give postgres://user:password@host:5432/database");
            return None;
        };
        Some(Config { options, password, address, include, exclude, max_databases, table_interval, limits })
    }

    /// Whether tables and indexes of this database are looked at.
    pub fn wants(&self, database: &str) -> bool {
        (self.include.is_empty() || self.include.iter().any(|d| d == database)) && !self.exclude.iter().any(|d| d == database)
    }
}

/// Connection options, password and address of a DSN. SQLAlchemy's `postgresql+asyncpg://` is understood too.
fn parse_dsn(dsn: &str) -> Option<(PgConnectOptions, Secret, String)> {
    let (scheme, rest) = dsn.trim().split_once("://")?;
    if !matches!(scheme.split('+').next(), Some("postgres" | "postgresql")) {
        return None;
    }
    let mut url = Url::parse(&format!("postgres://{rest}")).ok()?;
    let pairs: Vec<(String, String)> = url.query_pairs().map(|(name, value)| (name.into_owned(), value.into_owned())).collect();
    // What a framework adds for itself (`schema`, `pool_size`) is nothing to the server.
    url.query_pairs_mut().clear().extend_pairs(pairs.iter().filter_map(|(name, value)| parameter(name, value)));
    let in_query = pairs.iter().find(|(name, _)| name == "password").map(|(_, value)| value.as_str());
    let password = Secret::new(in_query.or(url.password()).unwrap_or_default());
    let options: PgConnectOptions = url.as_str().parse().ok()?;
    let options = options.application_name("nightbell").statement_cache_capacity(64).disable_statement_logging();
    let host = socket_folder(&options).map_or_else(|| options.get_host().to_owned(), |folder| folder.display().to_string());
    let address = format!("postgres://{host}:{}/{}", options.get_port(), options.get_database().unwrap_or_default());
    Some((options, password, address))
}

/// A parameter that libpq knows and that matters here; asyncpg's `ssl` is libpq's `sslmode`.
fn parameter<'a>(name: &'a str, value: &'a str) -> Option<(&'a str, &'a str)> {
    const KNOWN: [&str; 10] = ["sslmode", "sslrootcert", "sslcert", "sslkey", "host", "hostaddr", "port", "dbname", "user", "password"];
    match (name, value) {
        ("ssl", "true" | "True" | "1") => Some(("sslmode", "require")),
        ("ssl", "false" | "False" | "0") => Some(("sslmode", "disable")),
        ("ssl", mode) => Some(("sslmode", mode)),
        _ => KNOWN.contains(&name).then_some((name, value)),
    }
}

/// The folder of the server's socket, which a DSN may give as its host; `None` for TCP.
pub fn socket_folder(options: &PgConnectOptions) -> Option<&Path> {
    options.get_socket().map(PathBuf::as_path).or_else(|| Some(Path::new(options.get_host())).filter(|host| host.is_absolute()))
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
        let config = Config::read(&root);
        root.finish();
        drop(root);
        loader.finish(config).map_err(|e| e.to_string())
    }

    #[test]
    fn an_application_s_url_is_understood_and_its_address_has_no_secret() {
        let config = read("dsn: postgresql+asyncpg://app:s3cret@db1:6432/chat?sslmode=disable\n").expect("valid").expect("config");
        assert_eq!(config.address, "postgres://db1:6432/chat");
        assert_eq!(config.options.get_username(), "app");
        assert!(!format!("{:?}", config.password).contains("s3cret"));
    }

    #[test]
    fn parameters_of_other_libraries_are_translated_or_left_out() {
        let (options, password, _) = parse_dsn("postgresql+asyncpg://a@db/x?ssl=require&pool_size=5&password=s3cret").expect("valid");
        assert!(matches!(options.get_ssl_mode(), sqlx::postgres::PgSslMode::Require));
        assert_eq!(password.expose(), "s3cret");
        assert!(parse_dsn("postgres://db/x?sslmode=nonsense").is_none());
    }

    #[test]
    fn a_wrong_dsn_is_refused_without_being_quoted() {
        let error = read("dsn: mysql://root:hunter2@db/x\n").expect_err("refused");
        assert_eq!(error, "n.yml:1:6: dsn: is not a PostgreSQL URL; give postgres://user:password@host:5432/database");
        assert!(read("databases: {include: [a]}\n").expect_err("refused").contains("dsn: is missing"));
    }

    #[test]
    fn databases_are_chosen_by_name() {
        let config = read("dsn: postgres://db/x\ndatabases: {include: [a, b], exclude: [b]}\n").expect("valid").expect("config");
        assert_eq!(["a", "b", "c"].map(|d| config.wants(d)), [true, false, false]);
    }
}
