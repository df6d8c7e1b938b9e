//! The `http_config` block of Prometheus and Alertmanager: authentication, TLS, proxy, redirects, headers.

use std::collections::BTreeMap;
use std::path::PathBuf;

use url::Url;

use crate::config::{Secret, Section};

/// How to reach an HTTP server; see Prometheus's `http_config`.
#[derive(Clone, Debug)]
pub struct HttpConfig {
    /// `basic_auth`: user name and password.
    pub basic_auth: Option<(String, Secret)>,
    /// `authorization` (or the older `bearer_token`): type, `Bearer` by default, and credentials.
    pub authorization: Option<(String, Secret)>,
    /// `tls_config`.
    pub tls: TlsConfig,
    /// `proxy_url`.
    pub proxy_url: Option<Url>,
    /// `no_proxy`: hosts, comma separated, that are reached without it.
    pub no_proxy: Option<String>,
    /// `proxy_from_environment`: take HTTP_PROXY, HTTPS_PROXY and NO_PROXY.
    pub proxy_from_environment: bool,
    /// `follow_redirects`, true by default.
    pub follow_redirects: bool,
    /// `http_headers`: extra headers.
    pub headers: BTreeMap<String, Secret>,
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
    fn read(section: &Section<'_>) -> Self {
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
        match (version("min_version").as_str(), version("max_version").as_str()) {
            (_, "TLS10" | "TLS11") => section.error("max_version", "is older than TLS 1.2, the oldest spoken", "give TLS12 or TLS13"),
            ("TLS13", "TLS12") => section.error("min_version", "is above max_version", "keep one of the two"),
            ("TLS13", _) => return TlsVersions::Only13,
            (_, "TLS12") => return TlsVersions::Only12,
            _ => {}
        }
        TlsVersions::Both
    }

    pub(super) fn rustls(self) -> &'static [&'static rustls::SupportedProtocolVersion] {
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
            tls: TlsConfig::default(),
            proxy_url: None,
            no_proxy: None,
            proxy_from_environment: false,
            follow_redirects: true,
            headers: BTreeMap::new(),
        }
    }
}

impl HttpConfig {
    /// Reads the block's keys from `section`, which is the block itself or the mapping that inlines it (`scrape_configs`).
    pub fn read(section: &Section<'_>) -> Self {
        let basic_auth = section.section("basic_auth").map(|auth| {
            let user = auth.secret("username").map(|s| s.expose().to_owned()).unwrap_or_default();
            let password = auth.secret("password").unwrap_or_default();
            auth.finish();
            (user, password)
        });
        let authorization = section.section("authorization").map(|auth| {
            let scheme = auth.or("type", "Bearer".to_owned());
            let credentials = auth.secret("credentials").unwrap_or_default();
            if scheme.eq_ignore_ascii_case("basic") {
                auth.error("type", "is basic", "use basic_auth with username and password instead");
            }
            auth.finish();
            (scheme, credentials)
        });
        let bearer = section.secret("bearer_token").map(|token| ("Bearer".to_owned(), token));
        if [basic_auth.is_some(), authorization.is_some(), bearer.is_some()].iter().filter(|x| **x).count() > 1 {
            section.error("authorization", "stands beside another way to log in", "keep one of basic_auth, authorization, bearer_token");
        }
        let headers = section.section("http_headers").map(|headers| {
            let one = |name: &&str| {
                let header = headers.section(name)?;
                let value = header.get::<Vec<String>>("values").and_then(|v| v.into_iter().next()).map(Secret::new);
                let secrets = header.get::<Vec<Secret>>("secrets").and_then(|v| v.into_iter().next());
                let files = header.get::<Vec<PathBuf>>("files").and_then(|v| v.into_iter().next());
                let file = files.and_then(|path| match std::fs::read_to_string(&path) {
                    Ok(text) => Some(Secret::new(text.trim_end())),
                    Err(e) => {
                        header.error("files", format!("{}: cannot be read: {e}", path.display()), "check the path and its permissions");
                        None
                    }
                });
                header.finish();
                Some(((*name).to_owned(), value.or(secrets).or(file)?))
            };
            headers.keys().iter().filter_map(one).collect()
        });
        // HTTP/2 is never spoken; the key may stand where a Prometheus file has it.
        section.get::<bool>("enable_http2");
        for (key, remedy) in [
            ("oauth2", "use authorization with credentials_file, and let a script renew that file's token before a reload"),
            ("proxy_connect_header", "put a proxy that needs no extra headers in between"),
        ] {
            if section.node(key).is_some() {
                section.error(key, "is not supported", remedy);
            }
        }
        HttpConfig {
            basic_auth,
            authorization: authorization.or(bearer),
            tls: section.section("tls_config").map(|s| TlsConfig::read(&s)).unwrap_or_default(),
            proxy_url: section.get("proxy_url"),
            no_proxy: section.get("no_proxy"),
            proxy_from_environment: section.or("proxy_from_environment", false),
            follow_redirects: section.or("follow_redirects", true),
            headers: headers.unwrap_or_default(),
        }
    }
}

impl TlsConfig {
    /// Reads a `tls_config` mapping.
    pub fn read(section: &Section<'_>) -> Self {
        let config = TlsConfig {
            ca: section.secret("ca"),
            cert: section.secret("cert"),
            key: section.secret("key"),
            server_name: section.get("server_name"),
            insecure_skip_verify: section.or("insecure_skip_verify", false),
            versions: TlsVersions::read(section),
        };
        if config.cert.is_some() != config.key.is_some() {
            section.error("cert_file", "a client certificate needs its key", "give both cert_file and key_file");
        }
        section.finish();
        config
    }
}
