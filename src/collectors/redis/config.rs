//! The section `redis`: where the server is, and which keys are looked at.

use url::Url;

use crate::config::{Secret, Section};
use crate::http::TlsConfig;

/// What the collector does.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where the server listens.
    pub address: Address,
    /// The ACL user; `None` for the default one.
    pub user: Option<String>,
    /// Its password.
    pub password: Secret,
    /// The database that `keys` and patterns are looked up in when they name none.
    pub database: u32,
    /// `tls_config`; used with `rediss://`.
    pub tls: Option<TlsConfig>,
    /// Patterns whose keys are counted: database and pattern.
    pub count_keys: Vec<(u32, String)>,
    /// Single keys whose size is measured.
    pub keys: Vec<(u32, String)>,
    /// Streams whose length and groups are measured.
    pub streams: Vec<(u32, String)>,
    /// How many of the biggest keys are named; 0 for none.
    pub big_keys: usize,
    /// Whether every setting of the server is shown.
    pub config_metrics: bool,
    /// Whether each client is shown.
    pub client_metrics: bool,
}

/// Where a server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// Host and port.
    Tcp(String, u16),
    /// Path of a socket.
    Unix(String),
}

/// At most this many patterns, keys and streams each: every one costs a command in each collection.
const MAX_WATCHED: usize = 100;

impl Config {
    /// Reads the section; `None` when its `url` is missing or wrong, which is then recorded.
    pub fn read(section: &Section<'_>) -> Option<Self> {
        let url = section.secret("url");
        let (user, password) = (
            section.get::<String>("username"),
            section.secret("password"),
        );
        let tls_config = section.section("tls_config").map(|s| TlsConfig::read(&s));
        let watched = ["count_keys", "keys", "streams"]
            .map(|key| (key, section.get::<Vec<String>>(key).unwrap_or_default()));
        let queues = section
            .section("queues")
            .map(|queues| queue_keys(&queues))
            .unwrap_or_default();
        let big_keys = section.or("big_keys", 0usize);
        let (config_metrics, client_metrics) = (
            section.or("config_metrics", false),
            section.or("client_metrics", false),
        );
        if big_keys > MAX_WATCHED {
            section.error(
                "big_keys",
                "is too many",
                format!("give at most {MAX_WATCHED}"),
            );
        }
        let Some(url) = url else {
            if section.node("url").is_none() && section.node("url_file").is_none() {
                section.error(
                    "url",
                    "is missing",
                    "add url: redis://user:password@host:6379/0, or url_file: with a path",
                );
            }
            return None;
        };
        let Some(mut config) = parse_url(url.expose()) else {
            // The text may hold a password: it is not quoted.
            section.error(
                "url",
                "is not a Redis URL",
                "give redis://host:6379/0, rediss://host:6379/0 or unix:///path",
            );
            return None;
        };
        let [count_keys, keys, streams] = watched.map(|(key, list)| {
            if list.len() > MAX_WATCHED {
                section.error(
                    key,
                    format!("has {} entries", list.len()),
                    format!("give at most {MAX_WATCHED}"),
                );
            }
            list.iter()
                .map(|entry| watch(entry, config.database))
                .collect::<Vec<_>>()
        });
        if keys.len() + queues.len() > MAX_WATCHED {
            section.error(
                "queues",
                "are too many keys, those of keys: included",
                format!("give at most {MAX_WATCHED}"),
            );
        }
        let keys = keys
            .into_iter()
            .chain(queues.iter().map(|key| watch(key, config.database)))
            .collect();
        (
            config.count_keys,
            config.keys,
            config.streams,
            config.big_keys,
        ) = (count_keys, keys, streams, big_keys);
        (config.config_metrics, config.client_metrics) = (config_metrics, client_metrics);
        config.user = user.or(config.user);
        config.password = password.unwrap_or(config.password);
        match (&config.tls, tls_config) {
            (Some(_), Some(tls)) => config.tls = Some(tls),
            (None, Some(_)) => section.error(
                "tls_config",
                "stands beside a URL without TLS",
                "write rediss:// in the URL",
            ),
            _ => {}
        }
        Some(config)
    }

    /// The server at this URL, with no key to look at; `None` for what is no URL of Redis.
    pub fn at(url: &str) -> Option<Self> {
        parse_url(url)
    }

    /// `redis://host:port`, for people.
    pub fn address(&self) -> String {
        match &self.address {
            Address::Tcp(host, port) => format!(
                "{}://{host}:{port}",
                if self.tls.is_some() {
                    "rediss"
                } else {
                    "redis"
                }
            ),
            Address::Unix(path) => format!("unix://{path}"),
        }
    }
}

/// The keys in which libraries keep their queues: BullMQ
/// (<https://docs.bullmq.io/guide/architecture>), Celery with kombu's Redis transport, RQ.
fn queue_keys(section: &Section<'_>) -> Vec<String> {
    const BULLMQ: [&str; 7] = [
        "wait",
        "active",
        "delayed",
        "prioritized",
        "paused",
        "completed",
        "failed",
    ];
    let of = |library: &str| section.get::<Vec<String>>(library).unwrap_or_default();
    let mut keys: Vec<String> = of("bullmq")
        .iter()
        .flat_map(|queue| BULLMQ.map(|state| format!("bull:{queue}:{state}")))
        .collect();
    let celery = of("celery");
    if !celery.is_empty() {
        keys.extend(celery.into_iter().chain(["unacked".to_owned()]));
    }
    for queue in of("rq") {
        keys.push(format!("rq:queue:{queue}"));
        keys.extend(
            ["wip", "failed", "scheduled", "deferred"]
                .map(|registry| format!("rq:{registry}:{queue}")),
        );
    }
    section.finish();
    keys
}

/// `db3=session:*` is a pattern in database 3; without the prefix it is in `database`.
fn watch(entry: &str, database: u32) -> (u32, String) {
    let named = entry.split_once('=').and_then(|(db, rest)| {
        Some((
            db.strip_prefix("db").unwrap_or(db).parse().ok()?,
            rest.to_owned(),
        ))
    });
    named.unwrap_or_else(|| (database, entry.to_owned()))
}

fn parse_url(text: &str) -> Option<Config> {
    let url = Url::parse(text.trim()).ok()?;
    let tls = matches!(url.scheme(), "rediss" | "valkeys");
    let address = match url.scheme() {
        "redis" | "rediss" | "valkey" | "valkeys" => Address::Tcp(
            url.host_str()?.trim_matches(['[', ']']).to_owned(),
            url.port().unwrap_or(6379),
        ),
        "unix" | "redis+unix" | "valkey+unix" => Address::Unix(url.path().to_owned()),
        _ => return None,
    };
    let in_path = url.path().trim_matches('/');
    let database = match (&address, url.query_pairs().find(|(name, _)| name == "db")) {
        (_, Some((_, number))) => number.parse().ok()?,
        (Address::Tcp(..), None) if !in_path.is_empty() => in_path.parse().ok()?,
        _ => 0,
    };
    // Where a URL with a path to a socket has no room for a login, redis-py and the crate redis
    // take it from the query.
    let asked = |names: [&str; 2]| {
        url.query_pairs()
            .find(|(name, _)| names.contains(&&**name))
            .map(|(_, value)| value.into_owned())
    };
    let (user, password) = (
        decode(url.username())?,
        decode(url.password().unwrap_or_default())?,
    );
    // redis-py's way to say that any certificate will do.
    let unverified = url.query_pairs().any(|(name, value)| {
        name == "ssl_cert_reqs" && value.to_ascii_lowercase().ends_with("none")
    });
    Some(Config {
        address,
        user: Some(user)
            .filter(|u| !u.is_empty())
            .or_else(|| asked(["username", "user"])),
        password: Secret::new(
            Some(password)
                .filter(|p| !p.is_empty())
                .or_else(|| asked(["password", "pass"]))
                .unwrap_or_default(),
        ),
        database,
        tls: tls.then(|| TlsConfig {
            insecure_skip_verify: unverified,
            ..TlsConfig::default()
        }),
        count_keys: Vec::new(),
        keys: Vec::new(),
        streams: Vec::new(),
        big_keys: 0,
        config_metrics: false,
        client_metrics: false,
    })
}

/// Undoes `%xx`, RFC 3986 section 2.1.
fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let byte = match (first, tail) {
            (b'%', [high, low, after @ ..]) => {
                let digit = |c: u8| char::from(c).to_digit(16);
                rest = after;
                u8::try_from(digit(*high)? * 16 + digit(*low)?).ok()?
            }
            _ => {
                rest = tail;
                *first
            }
        };
        bytes.push(byte);
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_name_place_user_and_database() {
        let config = parse_url("redis://app:p%40ss@cache:7000/2").expect("valid");
        assert_eq!(
            (
                config.address.clone(),
                config.user.as_deref(),
                config.database
            ),
            (Address::Tcp("cache".into(), 7000), Some("app"), 2)
        );
        assert_eq!(config.password.expose(), "p@ss");
        assert_eq!(config.address(), "redis://cache:7000");
        let config = parse_url("rediss://:x@[::1]").expect("valid");
        assert!(config.tls.is_some() && config.user.is_none());
        assert_eq!(config.address, Address::Tcp("::1".into(), 6379));
        assert_eq!(
            parse_url("unix:///run/redis.sock?db=3").map(|c| (c.address, c.database)),
            Some((Address::Unix("/run/redis.sock".into()), 3))
        );
        let config =
            parse_url("unix:///run/redis.sock?username=app&password=p%40ss").expect("valid");
        assert_eq!(
            (config.user.as_deref(), config.password.expose()),
            (Some("app"), "p@ss")
        );
        assert!(
            parse_url("valkeys://x").is_some_and(|c| c.tls.is_some())
                && parse_url("valkey://x").is_some_and(|c| c.tls.is_none())
        );
        assert!(
            parse_url("rediss://x?ssl_cert_reqs=CERT_NONE")
                .and_then(|c| c.tls)
                .is_some_and(|t| t.insecure_skip_verify)
        );
        assert!(
            ["http://x", "cache:6379", "redis://x/abc", "redis://%zz@x"]
                .iter()
                .all(|url| parse_url(url).is_none())
        );
    }

    #[test]
    fn queues_are_the_keys_in_which_libraries_keep_them() {
        use crate::config::{Document, Environment, Loader};
        let yaml = "url: redis://x/2\nkeys: [a]\nqueues: {bullmq: [mail], celery: [celery, slow], rq: [default]}\n";
        let document = Document::parse("nightbell.yml", yaml).expect("YAML");
        let environment = Environment::default();
        let loader = Loader::new(&document, &environment, std::path::Path::new("."));
        let config = Config::read(&loader.root());
        let config = loader.finish(config).expect("valid").expect("valid");
        let keys: Vec<&str> = config.keys.iter().map(|(_, key)| key.as_str()).collect();
        for key in [
            "a",
            "bull:mail:wait",
            "bull:mail:failed",
            "celery",
            "slow",
            "unacked",
            "rq:queue:default",
            "rq:failed:default",
        ] {
            assert!(keys.contains(&key), "{key}: {keys:?}");
        }
        assert!(
            config.keys.len() == 16 && config.keys.iter().all(|(database, _)| *database == 2),
            "{keys:?}"
        );
    }

    #[test]
    fn patterns_may_name_their_database() {
        assert_eq!(watch("db3=session:*", 0), (3, "session:*".into()));
        assert_eq!(watch("a=b", 1), (1, "a=b".into()));
    }
}
