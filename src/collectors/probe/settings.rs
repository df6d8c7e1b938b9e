//! The configuration of a probe.

use hyper::Method;
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use regex::bytes::Regex;
use std::collections::BTreeMap;
use url::Url;

use crate::config::{ENCODE, Secret, SecretSource, Section, splits_its_password};
use crate::http::{HttpConfig, Login};

use super::connection::{Connector, Family};
use super::expectation::{Expectation, JsonRule};
use super::http::HttpProbe;
use super::tcp::{Exchange, TcpProbe};
use super::{Probe, Prober};

/// Reads a probe; after a mistake the result is used by nobody.
pub fn read(section: &Section<'_>, deadline: std::time::Duration) -> Probe {
    let url = target(section);
    let mut http = HttpConfig::read(section);
    take_credentials(section, &url, &mut http);
    if http.proxy_url.is_some() || http.proxy_from_environment {
        section.error("proxy_url", "a probe goes straight to its target", "remove it");
    }
    if http.oauth2.is_some() {
        section.error("oauth2", "a probe asks nobody for a token", "use authorization");
    }
    let family = match section.get::<String>("ip_protocol").as_deref() {
        None => Family::Any,
        Some("ip4") => Family::V4,
        Some("ip6") => Family::V6,
        Some(other) => {
            section.error("ip_protocol", format!("{other:?} is not an address family"), "give ip4 or ip6, or leave it out for either");
            Family::Any
        }
    };
    let connector = Connector::new(http.tls.clone(), family).map_err(|problem| {
        section.error("tls_config", problem, "check the TLS settings of this probe");
    });
    let prober = match url.scheme() {
        "http" | "https" => Prober::Http(Box::new(http_probe(section, &url, &http))),
        scheme => Prober::Tcp(TcpProbe {
            host: url.host_str().unwrap_or_default().to_owned(),
            port: url.port().unwrap_or_default(),
            encrypted: scheme == "tls",
            dialogue: section.sections("query_response").iter().map(exchange).collect(),
        }),
    };
    let mut address = url;
    // What stands in a query or before the host may be secret.
    address.set_query(None);
    let _no_host = address.set_username("");
    let _no_host = address.set_password(None);
    Probe { address: address.to_string(), prober, connector: connector.ok(), deadline, failing: None }
}

/// A user and a password in the URL are sent as Basic authentication, as blackbox_exporter does; or they are refused.
fn take_credentials(section: &Section<'_>, url: &Url, http: &mut HttpConfig) {
    if url.username().is_empty() && url.password().is_none() {
        return;
    }
    let key = if section.node("url").is_some() { "url" } else { "target" };
    if !matches!(url.scheme(), "http" | "https") {
        section.error(key, "holds a user or a password, which a TCP probe cannot send", "remove them");
    } else if http.basic_auth.is_some() || http.authorization.is_some() {
        section.error(key, "holds a user or a password beside basic_auth or authorization", "remove one of them");
    } else {
        match (decode(url.username()), decode(url.password().unwrap_or_default())) {
            (Some(user), Some(password)) => {
                let given = |text: String| SecretSource::Given(Secret::new(text));
                http.basic_auth = Some((given(user), given(password)));
            }
            _ => section.error(key, "holds a user or a password with a wrong %", "write % as %25"),
        }
    }
}

/// Undoes `%xx`, RFC 3986 section 2.1.
fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        if *first == b'%' {
            let digits = std::str::from_utf8(tail.get(..2)?).ok()?;
            bytes.push(u8::from_str_radix(digits, 16).ok()?);
            rest = &tail[2..];
        } else {
            bytes.push(*first);
            rest = tail;
        }
    }
    String::from_utf8(bytes).ok()
}

/// `url`, or `target` as blackbox_exporter calls it: http, https, tcp or tls.
fn target(section: &Section<'_>) -> Url {
    let nowhere = || Url::parse("http://localhost/").expect("a literal URL parses");
    let key = if section.node("url").is_none() && section.node("target").is_some() { "target" } else { "url" };
    let Some(text) = section.get::<String>(key) else {
        section.error(key, "key \"url\" is missing", "add url: https://HOST/health, tcp://HOST:PORT or tls://HOST:PORT");
        return nowhere();
    };
    if splits_its_password(&text) {
        section.error(key, "has an @ in its path: a / in the password?", ENCODE);
        return nowhere();
    }
    let usable = |url: &Url| match url.scheme() {
        "http" | "https" => url.has_host(),
        "tcp" | "tls" => url.has_host() && url.port().is_some(),
        _ => false,
    };
    // The text may hold a token: it is not quoted.
    Url::parse(&text).ok().filter(usable).unwrap_or_else(|| {
        section.error(key, "is not a URL that can be probed", "give https://HOST/health, tcp://HOST:PORT or tls://HOST:PORT");
        nowhere()
    })
}

fn http_probe(section: &Section<'_>, url: &Url, http: &HttpConfig) -> HttpProbe {
    let method = section.or("method", "GET".to_owned());
    let method = Method::from_bytes(method.as_bytes()).unwrap_or_else(|_| {
        section.error("method", "is not an HTTP method", "give GET, HEAD, POST, …");
        Method::GET
    });
    let mut headers = HeaderMap::new();
    let own: BTreeMap<String, Secret> = section.or("headers", BTreeMap::new());
    for (name, value) in &own {
        let pair = (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_str(value.expose()));
        let (Ok(name), Ok(mut value)) = pair else {
            section.error("headers", format!("{name:?} or its value cannot stand in a request"), "use printable ASCII characters");
            continue;
        };
        value.set_sensitive(true);
        headers.append(name, value);
    }
    let credentials = Login::build(http).unwrap_or_else(|error| {
        section.error("http_headers", error.to_string(), "use printable ASCII characters");
        Login::build(&HttpConfig::default()).expect("the default settings are usable")
    });
    HttpProbe {
        url: url.clone(),
        method,
        headers,
        credentials,
        body: section.secret("body").map(|body| body.expose().to_owned()).unwrap_or_default().into(),
        follow_redirects: http.follow_redirects,
        expectation: Expectation {
            statuses: section.or("valid_status_codes", Vec::new()),
            forbidden: patterns(section, "fail_if_body_matches_regexp"),
            required: patterns(section, "fail_if_body_not_matches_regexp"),
            json: section.one_or_many("json").iter().map(json_rule).collect(),
            max_body: section.get("max_body"),
        },
    }
}

fn exchange(section: &Section<'_>) -> Exchange {
    let exchange = Exchange {
        expect: patterns(section, "expect").into_iter().next(),
        send: section.secret("send"),
        starttls: section.or("starttls", false),
    };
    if exchange.expect.is_none() && exchange.send.is_none() && !exchange.starttls && section.node("expect").is_none() {
        section.error("", "does nothing", "give expect: REGEX, send: TEXT or starttls: true");
    }
    section.finish();
    exchange
}

fn json_rule(section: &Section<'_>) -> JsonRule {
    let rule = JsonRule::new(&section.require::<String>("path"), section.get("equals"));
    section.finish();
    rule
}

/// One pattern or a list of them.
fn patterns(section: &Section<'_>, key: &str) -> Vec<Regex> {
    let single = section.node(key).is_some_and(|node| matches!(node.value, crate::config::Value::Scalar { .. }));
    let texts = if single { section.get::<String>(key).into_iter().collect() } else { section.or(key, Vec::new()) };
    let compiled = |text: &String| {
        let pattern = Regex::new(text);
        if pattern.is_err() {
            section.error(key, format!("{text:?} is not a regular expression"), "see https://docs.rs/regex for the syntax");
        }
        pattern.ok()
    };
    texts.iter().filter_map(compiled).collect()
}
