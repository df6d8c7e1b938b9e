//! The section `mysql`: where the server is. A DSN is a URL, with SQLAlchemy's drivers in its
//! scheme, or what Go's driver and so mysqld_exporter reads:
//! `user:password@tcp(host:3306)/database`.

use sqlx::ConnectOptions as _;
use sqlx::mysql::{MySqlConnectOptions, MySqlSslMode};
use url::Url;

use crate::config::{ENCODE, Secret, Section, splits_its_password};

/// What the collector does.
#[derive(Clone, Debug)]
pub struct Config {
    /// As whom to connect, and how.
    pub options: MySqlConnectOptions,
    /// Whether the server's name must stay for its certificate.
    pub by_name: bool,
    /// Whether it is reached by a socket file.
    pub is_socket: bool,
    /// The user, for a GRANT.
    pub user: String,
    /// The password, for removal from messages.
    pub password: Secret,
    /// `mysql://host:port/database`, for people.
    pub address: String,
}

const FORM: (&str, &str) = (
    "is not a MySQL URL",
    "give mysql://user:password@host:3306/database",
);
const PARAMETERS: (&str, &str) = (
    "has a parameter with a value that is not known",
    "ssl-mode is DISABLED, PREFERRED, REQUIRED, VERIFY_CA or VERIFY_IDENTITY; tls is true, false, preferred or skip-verify",
);

/// The parts of a DSN, whichever its form.
#[derive(Default)]
struct Dsn {
    user: String,
    password: String,
    host: String,
    port: u16,
    socket: Option<String>,
    database: String,
    parameters: Vec<(String, String)>,
}

impl Config {
    /// Reads the section; `None` when its `dsn` is missing or wrong, which is then recorded.
    pub fn read(section: &Section<'_>) -> Option<Self> {
        let Some(dsn) = section.secret("dsn") else {
            if section.node("dsn_file").is_none() {
                section.error(
                    "dsn",
                    "is missing",
                    "add dsn: mysql://user:password@host:3306/database, or dsn_file: with a path",
                );
            }
            return None;
        };
        match parse(dsn.expose()) {
            Ok(config) => Some(config),
            Err((problem, remedy)) => {
                // The text may hold a password: it is not quoted.
                section.error("dsn", problem, remedy);
                None
            }
        }
    }
}

fn parse(text: &str) -> Result<Config, (&'static str, &'static str)> {
    let text = text.trim();
    let mut dsn = if text.contains("://") {
        url(text)?
    } else {
        driver(text).ok_or(FORM)?
    };
    let mut options = MySqlConnectOptions::new()
        .username(&dsn.user)
        .statement_cache_capacity(0)
        .disable_statement_logging();
    // The session is the server's own but for the time zone: what users wrote means here what it
    // means to them.
    options = options
        .pipes_as_concat(false)
        .no_engine_substitution(false)
        .timezone(Some("+00:00".to_owned()));
    if !dsn.password.is_empty() {
        options = options.password(&dsn.password);
    }
    if !dsn.database.is_empty() {
        options = options.database(&dsn.database);
    }
    let mut mode = MySqlSslMode::Preferred;
    for (name, value) in std::mem::take(&mut dsn.parameters) {
        match name.to_ascii_lowercase().replace('_', "-").as_str() {
            "ssl-mode" | "sslmode" | "tls" | "ssl" => {
                mode = match value.to_ascii_lowercase().replace('-', "_").as_str() {
                    "disabled" | "disable" | "false" | "0" => MySqlSslMode::Disabled,
                    "preferred" | "prefer" => MySqlSslMode::Preferred,
                    "required" | "require" | "skip_verify" | "1" => MySqlSslMode::Required,
                    "verify_ca" => MySqlSslMode::VerifyCa,
                    "verify_identity" | "verify_full" | "true" => MySqlSslMode::VerifyIdentity,
                    _ => return Err(PARAMETERS),
                }
            }
            "ssl-ca" => options = options.ssl_ca(value),
            "ssl-cert" => options = options.ssl_client_cert(value),
            "ssl-key" => options = options.ssl_client_key(value),
            "socket" | "unix-socket" => dsn.socket = Some(value),
            // Character sets, pools, timeouts: each library has its own.
            _ => {}
        }
    }
    let host = if dsn.host.contains(':') {
        format!("[{}]", dsn.host)
    } else {
        dsn.host.clone()
    };
    let address = match &dsn.socket {
        Some(socket) => format!("mysql://{socket}/{}", dsn.database),
        None => format!("mysql://{host}:{}/{}", dsn.port, dsn.database),
    };
    options = match &dsn.socket {
        Some(socket) => options.socket(socket).ssl_mode(MySqlSslMode::Disabled),
        None => options.host(&dsn.host).port(dsn.port).ssl_mode(mode),
    };
    let by_name = matches!(mode, MySqlSslMode::VerifyIdentity);
    Ok(Config {
        options,
        by_name,
        is_socket: dsn.socket.is_some(),
        user: dsn.user,
        password: Secret::new(dsn.password),
        address,
    })
}

fn url(text: &str) -> Result<Dsn, (&'static str, &'static str)> {
    let scheme = text.split(['+', ':']).next().unwrap_or_default();
    if !matches!(scheme, "mysql" | "mariadb") {
        return Err(FORM);
    }
    if splits_its_password(text) {
        return Err(("cannot be read: a / or @ in its password", ENCODE));
    }
    let url = Url::parse(text).map_err(|_| FORM)?;
    let plain = |text: &str| percent(text).ok_or(("has a % that begins no code", ENCODE));
    Ok(Dsn {
        user: plain(url.username())?,
        password: plain(url.password().unwrap_or_default())?,
        host: url
            .host_str()
            .filter(|host| !host.is_empty())
            .unwrap_or("localhost")
            .trim_matches(['[', ']'])
            .to_owned(),
        port: url.port().unwrap_or(3306),
        socket: None,
        database: plain(url.path().trim_start_matches('/'))?,
        parameters: url
            .query_pairs()
            .map(|(name, value)| (name.into_owned(), value.into_owned()))
            .collect(),
    })
}

/// `%41` is `A`.
fn percent(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        if *first == b'%' {
            bytes.push(u8::from_str_radix(std::str::from_utf8(tail.get(..2)?).ok()?, 16).ok()?);
            rest = &tail[2..];
        } else {
            bytes.push(*first);
        }
    }
    String::from_utf8(bytes).ok()
}

/// `user:password@protocol(address)/database?name=value`,
/// <https://github.com/go-sql-driver/mysql#dsn-data-source-name>.
fn driver(text: &str) -> Option<Dsn> {
    let (before, tail) = text.rsplit_once('/')?;
    let (database, query) = tail.split_once('?').unwrap_or((tail, ""));
    // A socket's path has slashes of its own; a password may have an @.
    let (login, server) = before.rsplit_once('@').unwrap_or(("", before));
    let (user, password) = login.split_once(':').unwrap_or((login, ""));
    let (protocol, address) = match server.split_once('(') {
        Some((protocol, address)) => (protocol, address.strip_suffix(')')?),
        None => (server, ""),
    };
    let mut dsn = Dsn {
        user: user.into(),
        password: password.into(),
        port: 3306,
        database: database.into(),
        ..Dsn::default()
    };
    match protocol {
        "unix" => {
            dsn.socket = Some(
                if address.is_empty() {
                    "/tmp/mysql.sock"
                } else {
                    address
                }
                .to_owned(),
            )
        }
        "tcp" | "" => {
            let (host, port) = match address.rsplit_once(':') {
                Some((host, port)) if !host.ends_with(':') => (host, port.parse().ok()?),
                _ => (address, 3306),
            };
            let host = host.trim_matches(['[', ']']);
            (dsn.host, dsn.port) = (
                if host.is_empty() { "127.0.0.1" } else { host }.to_owned(),
                port,
            );
        }
        _ => return None,
    }
    dsn.parameters = query
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .map(|(name, value)| (name.into(), value.into()))
        .collect();
    Some(dsn)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_means_the_same() {
        for text in [
            "mysql://mon:p%40ss@db1:3307/app",
            "mysql+pymysql://mon:p%40ss@db1:3307/app?charset=utf8mb4",
            "mariadb+mariadbconnector://mon:p%40ss@db1:3307/app",
            "mon:p@ss@tcp(db1:3307)/app?timeout=5s",
        ] {
            let config = parse(text).unwrap_or_else(|error| panic!("{text}: {error:?}"));
            let found = (
                config.user.as_str(),
                config.password.expose(),
                config.address.as_str(),
            );
            assert_eq!(found, ("mon", "p@ss", "mysql://db1:3307/app"), "{text}");
        }
        assert_eq!(
            parse("root@unix(/run/mysqld/mysqld.sock)/").map(|c| c.address),
            Ok("mysql:///run/mysqld/mysqld.sock/".to_owned())
        );
        assert_eq!(
            parse("mysql://u@[::1]/").map(|c| c.address),
            Ok("mysql://[::1]:3306/".to_owned())
        );
        assert!(
            parse("mysql://u@h/?tls=skip-verify")
                .is_ok_and(|c| matches!(c.options.get_ssl_mode(), MySqlSslMode::Required))
        );
    }

    #[test]
    fn what_cannot_be_used_is_refused_without_being_quoted() {
        for text in [
            "postgres://u:p@h/d",
            "db",
            "",
            "u:p@carrier(h)/d",
            "mysql://u:p/w@h/d",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
        assert_eq!(
            parse("mysql://u@h/?ssl-mode=maybe").map(|c| c.address),
            Err(PARAMETERS)
        );
    }
}
