//! The `http_config` block of Prometheus and Alertmanager: authentication, TLS, proxy, redirects,
//! headers.
//!
//! What Prometheus refuses is refused here; of what it takes, three things are refused too: a TLS
//! older than 1.2 alone, a JWT as grant of `oauth2`, and secrets by reference (`*_ref`), which need
//! a manager of secrets.

use std::collections::BTreeMap;
use std::path::PathBuf;

use url::Url;

use super::oauth2::OAuth2;
use crate::config::{Node, Secret, SecretError, SecretSource, Section, Stamp, Value, stamp};

/// Headers that nobody may set by `http_headers`, as in Prometheus: others of the settings, or the
/// client itself, write them.
const RESERVED: &[&str] = &[
    "accept-encoding",
    "authorization",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "host",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "user-agent",
    "www-authenticate",
    "x-amz-content-sha256",
    "x-amz-date",
    "x-amz-security-token",
    "x-prometheus-remote-read-version",
    "x-prometheus-remote-write-version",
    "x-prometheus-scrape-timeout-seconds",
];

/// How to reach an HTTP server; see Prometheus's `http_config`.
#[derive(Clone, Debug)]
pub struct HttpConfig {
    /// `basic_auth`: user name and password.
    pub basic_auth: Option<(SecretSource, SecretSource)>,
    /// `authorization` (or the older `bearer_token`): type, `Bearer` by default, and credentials.
    pub authorization: Option<(String, SecretSource)>,
    /// `oauth2`: who gives the access token.
    pub oauth2: Option<OAuth2>,
    /// `tls_config`.
    pub tls: TlsConfig,
    /// `proxy_url`: http, https, socks5 or socks5h.
    pub proxy_url: Option<Url>,
    /// `proxy_connect_header`: headers for the proxy when it is asked for a tunnel.
    pub proxy_connect_header: BTreeMap<String, Vec<Secret>>,
    /// `no_proxy`: hosts, comma separated, that are reached without it.
    pub no_proxy: Option<String>,
    /// `proxy_from_environment`: take HTTP_PROXY, HTTPS_PROXY and NO_PROXY.
    pub proxy_from_environment: bool,
    /// `follow_redirects`, true by default.
    pub follow_redirects: bool,
    /// `http_headers`: extra headers, each with all its values.
    pub headers: BTreeMap<String, Vec<SecretSource>>,
}

/// The `tls_config` block.
#[derive(Clone, Debug, Default)]
pub struct TlsConfig {
    /// `ca_file` or `ca`: PEM certificates to trust instead of the system's.
    pub ca: Option<Secret>,
    /// `cert_file` or `cert`: PEM client certificate.
    pub cert: Option<Secret>,
    /// `key_file` or `key`: PEM client key.
    pub key: Option<Secret>,
    /// `server_name`: the name to verify instead of the URL's host.
    pub server_name: Option<String>,
    /// `insecure_skip_verify`: accept any certificate.
    pub insecure_skip_verify: bool,
    /// `min_version` and `max_version`.
    pub versions: TlsVersions,
    /// The files of these, and what they were like when they were read.
    pub files: TlsFiles,
}

/// The files of a TLS block.
#[derive(Clone, Debug, Default)]
pub struct TlsFiles(Vec<TlsFile>);

#[derive(Clone, Debug)]
struct TlsFile {
    key: &'static str,
    path: PathBuf,
    stamp: Stamp,
}

/// Which versions of TLS may be spoken; nothing older than 1.2 is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TlsVersions {
    /// 1.2 and 1.3.
    #[default]
    Both,
    /// `max_version: TLS12`.
    Only12,
    /// `min_version: TLS13`.
    Only13,
}

impl TlsVersions {
    /// Reads `min_version` and `max_version` of a TLS block.
    pub fn read(section: &Section<'_>) -> Self {
        let version = |key: &str| {
            let word: Option<String> = section.get(key);
            let known = word.filter(|w| {
                let known = matches!(w.as_str(), "TLS10" | "TLS11" | "TLS12" | "TLS13");
                if !known {
                    section.error(key, "is not a TLS version", "give TLS12 or TLS13");
                }
                known
            });
            known.unwrap_or_default()
        };
        match (
            version("min_version").as_str(),
            version("max_version").as_str(),
        ) {
            (old @ ("TLS10" | "TLS11"), newest) if !matches!(newest, "TLS10" | "TLS11") => {
                let problem =
                    format!("{old} is not spoken; what holds is TLS12, the oldest version here");
                section.note("min_version", problem, "give TLS12, or remove it");
                return if newest == "TLS12" {
                    TlsVersions::Only12
                } else {
                    TlsVersions::Both
                };
            }
            (_, "TLS10" | "TLS11") => section.error(
                "max_version",
                "is older than TLS 1.2, the oldest spoken",
                "give TLS12 or TLS13",
            ),
            ("TLS13", "TLS12") => {
                section.error("min_version", "is above max_version", "keep one of the two")
            }
            ("TLS13", _) => return TlsVersions::Only13,
            (_, "TLS12") => return TlsVersions::Only12,
            _ => {}
        }
        TlsVersions::Both
    }

    /// The same for rustls.
    pub fn rustls(self) -> &'static [&'static rustls::SupportedProtocolVersion] {
        static ONLY_12: [&rustls::SupportedProtocolVersion; 1] = [&rustls::version::TLS12];
        static ONLY_13: [&rustls::SupportedProtocolVersion; 1] = [&rustls::version::TLS13];
        match self {
            TlsVersions::Both => rustls::DEFAULT_VERSIONS,
            TlsVersions::Only12 => &ONLY_12,
            TlsVersions::Only13 => &ONLY_13,
        }
    }
}

impl Default for HttpConfig {
    fn default() -> Self {
        HttpConfig {
            basic_auth: None,
            authorization: None,
            oauth2: None,
            tls: TlsConfig::default(),
            proxy_url: None,
            proxy_connect_header: BTreeMap::new(),
            no_proxy: None,
            proxy_from_environment: false,
            follow_redirects: true,
            headers: BTreeMap::new(),
        }
    }
}

impl HttpConfig {
    /// All it logs in with, as far as it can be read now, for those who must not show it. May read
    /// files.
    pub fn secrets(&self) -> Vec<Secret> {
        use base64::Engine as _;
        let sources = self.basic_auth.iter().map(|(_, password)| password).chain(
            self.authorization
                .iter()
                .map(|(_, credentials)| credentials),
        );
        let mut secrets: Vec<Secret> = sources
            .chain(self.headers.values().flatten())
            .filter_map(|source| source.current().ok())
            .collect();
        if let Some((Ok(user), Ok(password))) = self
            .basic_auth
            .as_ref()
            .map(|(user, password)| (user.current(), password.current()))
        {
            let pair = format!("{}:{}", user.expose(), password.expose());
            secrets.push(Secret::new(
                base64::engine::general_purpose::STANDARD.encode(pair),
            ));
        }
        secrets
    }

    /// Reads the block's keys from `section`, which is the block itself or the mapping that inlines
    /// it (`scrape_configs`).
    pub fn read(section: &Section<'_>) -> Self {
        let basic_auth = section.section("basic_auth").map(|auth| {
            let user = auth.secret_source("username").unwrap_or_default();
            let password = auth.secret_source("password").unwrap_or_default();
            auth.finish();
            (user, password)
        });
        let authorization = section.section("authorization").map(|auth| {
            let scheme = auth.or("type", "Bearer".to_owned());
            let credentials = auth.secret_source("credentials").unwrap_or_default();
            if scheme.eq_ignore_ascii_case("basic") {
                auth.error(
                    "type",
                    "is basic",
                    "use basic_auth with username and password instead",
                );
            }
            auth.finish();
            (scheme, credentials)
        });
        let bearer = section
            .secret_source("bearer_token")
            .map(|token| ("Bearer".to_owned(), token));
        let oauth2 = section
            .section("oauth2")
            .filter(|oauth2| !oauth2.own_node().is_null());
        if [
            basic_auth.is_some(),
            authorization.is_some(),
            bearer.is_some(),
            oauth2.is_some(),
        ]
        .iter()
        .filter(|x| **x)
        .count()
            > 1
        {
            let remedy = "keep one of basic_auth, authorization, bearer_token, oauth2";
            section.error(
                "authorization",
                "stands beside another way to log in",
                remedy,
            );
        }
        let oauth2 = oauth2.and_then(|section| OAuth2::read(&section));
        // HTTP/2 is never spoken; the key may stand where a Prometheus file has it.
        section.get::<bool>("enable_http2");
        HttpConfig {
            basic_auth,
            authorization: authorization.or(bearer),
            oauth2,
            follow_redirects: section.or("follow_redirects", true),
            ..Self::read_transport(section)
        }
    }

    /// Reads the keys that say how a server is reached, not who asks: TLS, proxy, headers.
    pub(super) fn read_transport(section: &Section<'_>) -> Self {
        let proxy_url = section
            .get::<String>("proxy_url")
            .filter(|text| !text.is_empty())
            .and_then(|text| {
                let known = |url: &Url| {
                    ["http", "https", "socks5", "socks5h"].contains(&url.scheme()) && url.has_host()
                };
                let url = Url::parse(&text).ok().filter(known);
                if url.is_none() {
                    section.error(
                        "proxy_url",
                        "is not the URL of a proxy",
                        "give a URL such as http://proxy:3128 or socks5://proxy:1080",
                    );
                }
                url
            });
        let config = HttpConfig {
            tls: section
                .section("tls_config")
                .map(|s| TlsConfig::read(&s))
                .unwrap_or_default(),
            no_proxy: section
                .get::<String>("no_proxy")
                .filter(|hosts| !hosts.is_empty()),
            proxy_from_environment: section.or("proxy_from_environment", false),
            proxy_connect_header: section.or("proxy_connect_header", BTreeMap::new()),
            headers: section
                .section("http_headers")
                .map(|headers| read_headers(&headers))
                .unwrap_or_default(),
            proxy_url,
            ..HttpConfig::default()
        };
        let has_url = section.node("proxy_url").is_some_and(says_something);
        let beside = |key: &str| {
            section.error(
                key,
                "stands beside proxy_from_environment",
                "keep one of the two",
            )
        };
        match (config.proxy_from_environment, has_url) {
            (true, true) => beside("proxy_url"),
            (true, false) if config.no_proxy.is_some() => beside("no_proxy"),
            (true, false) if !config.proxy_connect_header.is_empty() => {
                section.error(
                    "proxy_connect_header",
                    "is not sent to a proxy that the environment names",
                    "name the proxy in proxy_url",
                );
            }
            (false, false) => {
                for (key, _) in [
                    ("no_proxy", config.no_proxy.is_some()),
                    (
                        "proxy_connect_header",
                        !config.proxy_connect_header.is_empty(),
                    ),
                ]
                .iter()
                .filter(|(_, set)| *set)
                {
                    section.error(
                        key,
                        "is of no use without a proxy",
                        "add proxy_url, or remove it",
                    );
                }
            }
            _ => {}
        }
        config
    }
}

fn says_something(node: &Node) -> bool {
    !node.is_null() && !matches!(&node.value, Value::Scalar { text, .. } if text.is_empty())
}

fn read_headers(section: &Section<'_>) -> BTreeMap<String, Vec<SecretSource>> {
    let one = |name: &&str| {
        let header = section.section(name)?;
        let mut values: Vec<Secret> = header.or("values", Vec::new());
        values.extend(header.or::<Vec<Secret>>("secrets", Vec::new()));
        let mut values: Vec<SecretSource> = values.into_iter().map(SecretSource::Given).collect();
        values.extend(
            header
                .or::<Vec<PathBuf>>("files", Vec::new())
                .into_iter()
                .map(|path| header.secret_file("files", path)),
        );
        header.finish();
        if RESERVED.contains(&name.to_ascii_lowercase().as_str()) {
            section.error(
                name,
                "may not be set here",
                "use the key that is there for it, such as authorization, or remove it",
            );
        }
        Some(((*name).to_owned(), values))
    };
    section.keys().iter().filter_map(one).collect()
}

impl TlsConfig {
    /// Reads a `tls_config` mapping.
    pub fn read(section: &Section<'_>) -> Self {
        // Before their contents: a change meanwhile is seen at the next look.
        let file = |key: &'static str| {
            let path = section.get::<PathBuf>(&format!("{key}_file"))?;
            Some(TlsFile {
                key,
                stamp: stamp(&path),
                path,
            })
        };
        let config = TlsConfig {
            files: TlsFiles(["ca", "cert", "key"].into_iter().filter_map(file).collect()),
            ca: section.secret("ca"),
            cert: section.secret("cert"),
            key: section.secret("key"),
            server_name: section.get("server_name"),
            insecure_skip_verify: section.or("insecure_skip_verify", false),
            versions: TlsVersions::read(section),
        };
        if config.cert.is_some() != config.key.is_some() {
            section.error(
                "cert_file",
                "a client certificate needs its key",
                "give both cert_file and key_file",
            );
        }
        section.finish();
        config
    }

    /// What its files were like when they were read.
    pub(super) fn stamps(&self) -> Vec<Stamp> {
        self.files.0.iter().map(|file| file.stamp).collect()
    }

    /// What they are like now.
    pub(super) fn stamps_now(&self) -> Vec<Stamp> {
        self.files.0.iter().map(|file| stamp(&file.path)).collect()
    }

    /// The same settings with what the files hold now.
    pub(super) fn read_again(&self) -> Result<Self, SecretError> {
        let mut config = self.clone();
        for file in &self.files.0 {
            let text = Some(SecretSource::File(file.path.clone()).current()?);
            match file.key {
                "ca" => config.ca = text,
                "cert" => config.cert = text,
                _ => config.key = text,
            }
        }
        Ok(config)
    }

    /// Its files, for the log.
    pub(super) fn shown_files(&self) -> String {
        self.files
            .0
            .iter()
            .map(|file| file.path.display().to_string())
            .collect::<Vec<_>>()
            .join(", ")
    }
}
