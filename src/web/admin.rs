//! Who may change something: requests with the administrator's token. Where none is configured,
//! this machine as itself: a request from here that neither a page of somebody else's in a browser
//! nor a proxy can have made, as far as a request shows that.

use std::net::{IpAddr, SocketAddr};

use axum::extract::{ConnectInfo, FromRequestParts};
use axum::http::header::{AUTHORIZATION, CONNECTION, HOST, ORIGIN};
use axum::http::request::Parts;
use axum::http::uri::Authority;
use axum::http::{HeaderMap, StatusCode, Uri, Version};
use subtle::ConstantTimeEq;
use url::{Host, Url};

use crate::config::Secret;

use super::error::ApiError;
use super::{Context, WebConfig};

/// Headers that a proxy adds: what it brings does not come from this machine, wherever the proxy
/// runs.
const FORWARDED: [&str; 14] = [
    "forwarded",
    "via",
    "x-real-ip",
    "x-client-ip",
    "x-cluster-client-ip",
    "x-original-forwarded-for",
    "x-original-host",
    "x-original-url",
    "x-proxyuser-ip",
    "x-scheme",
    "x-envoy-external-address",
    "true-client-ip",
    "cf-connecting-ip",
    "cdn-loop",
];

/// Our end of a connection.
#[derive(Clone, Copy, Debug)]
pub struct LocalEnd {
    /// What was connected to.
    pub address: SocketAddr,
    /// What is listened on.
    pub listens: SocketAddr,
    /// Whether TLS is spoken.
    pub tls: bool,
}

/// The client has logged in as `web.config_file` asks for it.
#[derive(Clone, Copy, Debug)]
pub struct LoggedIn;

/// Passes when `Authorization: Bearer TOKEN` carries the administrator's token; without a
/// configured token nobody passes.
pub fn check(token: Option<&Secret>, headers: &HeaderMap) -> Result<(), ApiError> {
    let Some(token) = token.filter(|t| !t.is_empty()) else {
        return Err(ApiError::new(
            StatusCode::FORBIDDEN,
            "only for an administrator, and none is configured: set web.admin_token or web.admin_token_file",
        ));
    };
    if carries(token, headers) {
        return Ok(());
    }
    Err(ApiError::new(
        StatusCode::UNAUTHORIZED,
        "only for an administrator: send Authorization: Bearer TOKEN",
    ))
}

/// Whether a request carries the administrator's token.
pub fn carries(token: &Secret, headers: &HeaderMap) -> bool {
    let sent = headers
        .get(AUTHORIZATION)
        .and_then(|v| v.to_str().ok())
        .and_then(bearer)
        .unwrap_or("");
    bool::from(sent.as_bytes().ct_eq(token.expose().as_bytes()))
}

/// The token that a request carries.
pub fn token(headers: &HeaderMap) -> Option<&str> {
    headers
        .get(AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(bearer)
}

/// The token of `Bearer TOKEN`; the scheme's case does not matter (RFC 9110, 11.1).
fn bearer(header: &str) -> Option<&str> {
    let (scheme, token) = header.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// A request that may change something, or see what is not for everybody.
pub struct Writer;

impl FromRequestParts<Context> for Writer {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, context: &Context) -> Result<Self, ApiError> {
        let settings = context.settings();
        if settings.has_token() {
            return check(settings.admin_token.as_ref(), &parts.headers).map(|()| Writer);
        }
        let asked = asked(parts);
        let names = Names {
            machine: machine_name(),
            external: settings.external(),
        };
        let refused = match parts.extensions.get::<LoggedIn>() {
            // A browser sends a password whichever page makes the request, so the origin still
            // counts.
            Some(LoggedIn) => asked.foreign_page(&names),
            None => asked.refusal(&names),
        };
        refused.map_or(Ok(Writer), |why| {
            Err(ApiError::new(
                StatusCode::FORBIDDEN,
                format!(
                    "changes are taken from this machine only, and {why}: set web.admin_token or web.admin_token_file, and send \
                     Authorization: Bearer TOKEN"
                ),
            ))
        })
    }
}

/// Whether a request comes from this machine as itself, whatever it is allowed; the error says why
/// not.
pub fn from_here(parts: &Parts, context: &Context) -> Result<(), String> {
    let names = Names {
        machine: machine_name(),
        external: context.settings().external(),
    };
    asked(parts).refusal(&names).map_or(Ok(()), Err)
}

fn asked(parts: &Parts) -> Asked<'_> {
    Asked {
        headers: &parts.headers,
        uri: &parts.uri,
        version: parts.version,
        peer: parts
            .extensions
            .get::<ConnectInfo<SocketAddr>>()
            .map(|info| info.0.ip().to_canonical()),
        local: parts.extensions.get::<LocalEnd>().copied(),
    }
}

/// How this machine is called.
struct Names {
    machine: String,
    external: Option<Url>,
}

/// The host name of this machine, `""` where there is none.
fn machine_name() -> String {
    rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned()
}

/// What a request shows of where it comes from.
struct Asked<'a> {
    headers: &'a HeaderMap,
    uri: &'a Uri,
    version: Version,
    peer: Option<IpAddr>,
    local: Option<LocalEnd>,
}

impl Asked<'_> {
    /// Why this is not a request of this machine as itself, if it is not.
    fn refusal(&self, names: &Names) -> Option<String> {
        let own = self.local.map(|local| local.address.ip().to_canonical());
        if !self
            .peer
            .is_some_and(|peer| peer.is_loopback() || own == Some(peer))
        {
            return Some("this comes from elsewhere".into());
        }
        if let Some(header) = self.proxy_header() {
            return Some(format!("this came through a proxy ({header})"));
        }
        // What a proxy passes on need not show it; but where people reach us through one, there is
        // one.
        if let Some(external) = names.external.as_ref().filter(|url| {
            !leads_here(
                url,
                self.local.map(|end| end.listens),
                self.local.is_some_and(|end| end.tls),
                &names.machine,
            )
        }) {
            let host = external.host_str().unwrap_or_default();
            return Some(format!(
                "web.external_url leads through another server ({host}), whose requests cannot be distinguished from those of this machine"
            ));
        }
        self.foreign_host(names)
            .or_else(|| self.foreign_page(names))
    }

    /// What shows that a proxy passed the request on.
    fn proxy_header(&self) -> Option<&str> {
        let is_proxys = |name: &&str| FORWARDED.contains(name) || name.starts_with("x-forwarded");
        let by_header = self
            .headers
            .keys()
            .map(|name| name.as_str())
            .find(is_proxys);
        // nginx speaks to what is behind it in HTTP/1.0, with a header that nobody else needs
        // there.
        let closes = self.version == Version::HTTP_10 && self.headers.contains_key(CONNECTION);
        by_header.or_else(|| closes.then_some("HTTP/1.0 with Connection"))
    }

    /// The host that was asked for, where it is not this machine: a name that somebody else owns
    /// may lead here (DNS rebinding).
    fn foreign_host(&self, names: &Names) -> Option<String> {
        let sent: Vec<Option<&str>> = self
            .headers
            .get_all(HOST)
            .iter()
            .map(|value| value.to_str().ok())
            .collect();
        let absolute = self
            .uri
            .authority()
            .map(|authority| Some(authority.as_str()));
        if sent.is_empty() && absolute.is_none() {
            return Some("this names no Host".into());
        }
        let foreign = sent
            .into_iter()
            .chain(absolute)
            .find(|host| !host.is_some_and(|host| self.is_own_host(host, names)))?;
        Some(format!(
            "Host {:?} is not this machine",
            foreign
                .unwrap_or_default()
                .chars()
                .take(100)
                .collect::<String>()
        ))
    }

    /// Where a browser sent it for a page that is not ours.
    fn foreign_page(&self, names: &Names) -> Option<String> {
        let sites = self.headers.get_all("sec-fetch-site").iter();
        // A page on another port of this machine is `same-site`.
        if sites
            .into_iter()
            .any(|site| !matches!(site.as_bytes(), b"same-origin" | b"none"))
        {
            return Some("a page of another site sent this (Sec-Fetch-Site)".into());
        }
        let foreign = self.headers.get_all(ORIGIN).iter().any(|origin| {
            !origin
                .to_str()
                .is_ok_and(|origin| self.is_own_origin(origin, names))
        });
        foreign.then(|| "a page of another origin sent this (Origin)".into())
    }

    fn is_own_host(&self, text: &str, names: &Names) -> bool {
        let Ok(authority) = text.parse::<Authority>() else {
            return false;
        };
        if text.contains('@') {
            return false;
        }
        let Ok(host) = Host::parse(authority.host()) else {
            return false;
        };
        let literal = match &host {
            Host::Ipv4(address) => Some(IpAddr::V4(*address)),
            Host::Ipv6(address) => Some(IpAddr::V6(*address).to_canonical()),
            Host::Domain(_) => None,
        };
        match literal {
            // `http://0.0.0.0:9908` is what people type who listen on every address.
            Some(address) => {
                address.is_loopback()
                    || address.is_unspecified()
                    || self
                        .local
                        .is_some_and(|local| local.address.ip().to_canonical() == address)
            }
            None => is_own_name(&host.to_string(), names),
        }
    }

    /// Whether a page came from the host and port that it asks now, or from where people reach us.
    fn is_own_origin(&self, origin: &str, names: &Names) -> bool {
        let Ok(url) = Url::parse(origin) else {
            return false;
        };
        let Some(host) = url
            .host_str()
            .filter(|_| matches!(url.scheme(), "http" | "https"))
        else {
            return false;
        };
        if names
            .external
            .as_ref()
            .is_some_and(|external| external.origin() == url.origin())
        {
            return true;
        }
        let asked = self.headers.get(HOST).and_then(|value| value.to_str().ok());
        let asked = asked.and_then(|host| Url::parse(&format!("{}://{host}", url.scheme())).ok());
        asked.is_some_and(|asked| {
            asked.host_str() == Some(host)
                && asked.port_or_known_default() == url.port_or_known_default()
        })
    }
}

/// `localhost` and names below it, which never leave a machine (RFC 6761, 6.3), the machine's name,
/// and that of `web.external_url`.
fn is_own_name(host: &str, names: &Names) -> bool {
    let host = host.trim_end_matches('.');
    let is = |name: &str| !name.is_empty() && host.eq_ignore_ascii_case(name.trim_end_matches('.'));
    is("localhost")
        || host.to_ascii_lowercase().ends_with(".localhost")
        || is(&names.machine)
        || names
            .external
            .as_ref()
            .and_then(Url::host_str)
            .is_some_and(is)
}

/// Whether a URL leads to this process without another server in between: its host is this machine,
/// or it names the port on which every address is listened on.
fn leads_here(url: &Url, listens: Option<SocketAddr>, tls: bool, machine: &str) -> bool {
    let is_ours = |address: IpAddr| {
        address.is_loopback() || listens.is_some_and(|listens| listens.ip() == address)
    };
    let is_local = match url.host() {
        Some(Host::Ipv4(address)) => is_ours(address.into()),
        Some(Host::Ipv6(address)) => is_ours(address.into()),
        Some(Host::Domain(name)) => is_own_name(
            name,
            &Names {
                machine: machine.to_owned(),
                external: None,
            },
        ),
        None => true,
    };
    let direct = |listens: SocketAddr| {
        !listens.ip().is_loopback()
            && url.port_or_known_default() == Some(listens.port())
            && (url.scheme() == "https") == tls
    };
    is_local || listens.is_some_and(direct)
}

/// What a configuration has to say about who may change something: where a proxy or others are
/// expected, a token is needed.
pub fn needs_token(config: &WebConfig, listen: Option<SocketAddr>) -> Option<String> {
    if config.has_token() || config.logs_in {
        return None;
    }
    let external = config
        .external()
        .filter(|url| !leads_here(url, listen, config.config_file.is_some(), &machine_name()));
    if let Some(url) = external {
        let host = url.host_str().unwrap_or_default();
        return Some(format!(
            "web.external_url leads to {host}, and web.admin_token is not set: silences, posted alerts and reloads are refused, because what a \
             proxy passes on cannot be distinguished from this machine; set web.admin_token_file"
        ));
    }
    let listen = listen.filter(|address| !address.ip().is_loopback())?;
    Some(format!(
        "web.listen is {listen}, and web.admin_token is not set: silences, posted alerts and reloads are taken from this machine only; set \
         web.admin_token_file for others"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, value.parse().expect("a header"));
        }
        headers
    }

    fn status(token: Option<&str>, header: Option<&str>) -> Option<StatusCode> {
        let headers = headers(
            &header
                .map(|value| ("authorization", value))
                .into_iter()
                .collect::<Vec<_>>(),
        );
        check(token.map(Secret::new).as_ref(), &headers)
            .err()
            .map(|e| e.status)
    }

    /// The detailed health is for an administrator only.
    #[test]
    fn only_the_configured_token_passes() {
        assert_eq!(status(Some("t0ken"), Some("Bearer t0ken")), None);
        assert_eq!(status(Some("t0ken"), Some("bearer  t0ken")), None);
        assert_eq!(
            status(Some("t0ken"), Some("Basic t0ken")),
            Some(StatusCode::UNAUTHORIZED)
        );
        assert_eq!(
            status(Some("t0ken"), Some("Bearer other")),
            Some(StatusCode::UNAUTHORIZED)
        );
        assert_eq!(status(Some("t0ken"), None), Some(StatusCode::UNAUTHORIZED));
        assert_eq!(status(None, Some("Bearer ")), Some(StatusCode::FORBIDDEN));
        assert_eq!(
            status(Some(""), Some("Bearer ")),
            Some(StatusCode::FORBIDDEN)
        );
    }

    const LISTENS: &str = "0.0.0.0:9908";

    fn refusal(
        sent: &[(&'static str, &str)],
        peer: &str,
        external: Option<&str>,
        version: Version,
    ) -> Option<String> {
        let address: SocketAddr = peer.parse().expect("an address");
        let uri = Uri::from_static("/-/reload");
        let local = LocalEnd {
            address: SocketAddr::new(address.ip(), 9908),
            listens: LISTENS.parse().expect("an address"),
            tls: false,
        };
        let headers = headers(sent);
        let asked = Asked {
            headers: &headers,
            uri: &uri,
            version,
            peer: Some(address.ip().to_canonical()),
            local: Some(local),
        };
        let external = external.map(|url| Url::parse(url).expect("a URL"));
        asked.refusal(&Names {
            machine: "box".into(),
            external,
        })
    }

    #[test]
    fn without_a_token_this_machine_may_change_something_as_itself() {
        for peer in [
            "127.0.0.1:5000",
            "[::1]:5000",
            "[::ffff:127.0.0.1]:5000",
            "192.0.2.1:5000",
        ] {
            assert_eq!(
                refusal(&[("host", "localhost:9908")], peer, None, Version::HTTP_11),
                None,
                "{peer}"
            );
        }
        for host in [
            "127.0.0.1:9908",
            "127.1.2.3",
            "[::1]:9908",
            "LOCALHOST.",
            "a.localhost:1",
            "box",
            "0.0.0.0:9908",
        ] {
            assert_eq!(
                refusal(&[("host", host)], "127.0.0.1:5000", None, Version::HTTP_11),
                None,
                "{host}"
            );
        }
        let own = [
            ("host", "localhost:9908"),
            ("origin", "http://localhost:9908"),
            ("sec-fetch-site", "same-origin"),
        ];
        assert_eq!(
            refusal(&own, "127.0.0.1:5000", None, Version::HTTP_11),
            None
        );
        assert_eq!(
            refusal(
                &[("host", "localhost")],
                "127.0.0.1:5000",
                None,
                Version::HTTP_10
            ),
            None,
            "as old programs ask"
        );
        let people = [
            ("host", "bell.lan:9908"),
            ("origin", "http://bell.lan:9908"),
        ];
        assert_eq!(
            refusal(
                &people,
                "127.0.0.1:5000",
                Some("http://bell.lan:9908"),
                Version::HTTP_11
            ),
            None,
            "external_url"
        );
    }

    #[test]
    fn what_a_page_a_proxy_or_a_rebound_name_sends_is_refused() {
        let local = ("host", "localhost:9908");
        let hostile: [&[(&'static str, &str)]; 21] = [
            &[],
            &[("host", "evil.example")],
            &[("host", "evil.example:9908")],
            &[("host", "localhost.evil.example")],
            &[("host", "localhost@evil.example")],
            &[("host", "")],
            &[("host", "192.168.1.5:9908")],
            &[("host", "localhost"), ("host", "evil.example")],
            &[local, ("origin", "http://evil.example")],
            &[local, ("origin", "http://localhost:8000")],
            &[local, ("origin", "http://127.0.0.1:9908")],
            &[local, ("origin", "null")],
            &[local, ("origin", "file://")],
            &[
                local,
                ("origin", "http://localhost:9908"),
                ("origin", "http://evil.example"),
            ],
            &[local, ("sec-fetch-site", "cross-site")],
            &[local, ("sec-fetch-site", "same-site")],
            &[local, ("x-forwarded-for", "192.0.2.1")],
            &[local, ("x-forwarded-proto", "https")],
            &[local, ("via", "1.1 cache")],
            &[local, ("forwarded", "for=192.0.2.1")],
            &[
                ("host", "evil.example"),
                ("origin", "http://evil.example"),
                ("sec-fetch-site", "same-origin"),
            ],
        ];
        for sent in hostile {
            assert!(
                refusal(sent, "127.0.0.1:5000", None, Version::HTTP_11).is_some(),
                "{sent:?}"
            );
        }
        assert!(
            refusal(
                &[local, ("connection", "close")],
                "127.0.0.1:5000",
                None,
                Version::HTTP_10
            )
            .is_some(),
            "nginx"
        );
        assert!(
            refusal(
                &[local],
                "127.0.0.1:5000",
                Some("https://bell.example.org/"),
                Version::HTTP_11
            )
            .is_some(),
            "external_url"
        );
    }
}
