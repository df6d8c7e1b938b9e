//! The configuration of a probe.

use hyper::Method;
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use regex::bytes::Regex;
use std::collections::BTreeMap;
use std::sync::Arc;
use url::Url;

use crate::config::{
    ENCODE, ScalarStyle, Secret, SecretSource, Section, Value, splits_its_password,
};
use crate::http::{HttpConfig, Login};
use crate::model::text::is_legacy_label_name;

use super::connection::{Connector, Family};
use super::dns::{DnsProbe, RecordRules, Transport};
use super::dns_message::{self, Question};
use super::expectation::{Expectation, HeaderRule, JsonRule};
use super::grpc::GrpcProbe;
use super::http::HttpProbe;
use super::icmp::{IcmpProbe, MAX_PAYLOAD};
use super::tcp::{Exchange, TcpProbe};
use super::{Probe, Prober};

/// What a TLS connection of gRPC asks for.
pub const H2: &[&[u8]] = &[b"h2"];

/// Reads a probe; after a mistake the result is used by nobody.
pub fn read(section: &Section<'_>, deadline: std::time::Duration) -> Probe {
    let url = target(section);
    let mut http = HttpConfig::read(section);
    take_credentials(section, &url, &mut http);
    no_detours(section, &http);
    let family = match section.get::<String>("ip_protocol").as_deref() {
        None => Family::Any,
        Some("ip4") => Family::V4,
        Some("ip6") => Family::V6,
        Some(other) => {
            section.error(
                "ip_protocol",
                format!("{other:?} is not an address family"),
                "give ip4 or ip6, or leave it out for either",
            );
            Family::Any
        }
    };
    let protocols: &[&[u8]] = if url.scheme() == "grpcs" { H2 } else { &[] };
    let connector = Connector::new(http.tls.clone(), family, protocols).map_err(|problem| {
        section.error(
            "tls_config",
            problem,
            "check the TLS settings of this probe",
        );
    });
    let host = url.host_str().unwrap_or_default().to_owned();
    let prober = match url.scheme() {
        "http" | "https" => Prober::Http(Box::new(http_probe(section, &url, &http))),
        "dns" => {
            let block = section.section("dns");
            if block.is_none() {
                section.error(
                    "dns",
                    "key \"dns\" is missing",
                    "add dns: {query_name: example.org, query_type: A}",
                );
            }
            let probe = dns_probe(block.as_ref().unwrap_or(section), host, url.port());
            if let Some(block) = block {
                block.finish();
            }
            Prober::Dns(Box::new(probe))
        }
        "icmp" => {
            let block = section.section("icmp");
            let probe = IcmpProbe {
                host,
                ..icmp_probe(block.as_ref())
            };
            if let Some(block) = block {
                block.finish();
            }
            Prober::Icmp(probe)
        }
        scheme @ ("grpc" | "grpcs") => {
            let block = section.section("grpc");
            let service = block
                .as_ref()
                .map(|block| block.or("service", String::new()))
                .unwrap_or_default();
            if let Some(block) = block {
                block.finish();
            }
            let encrypted = scheme == "grpcs";
            Prober::Grpc(GrpcProbe {
                host,
                port: url.port().unwrap_or(if encrypted { 443 } else { 80 }),
                encrypted,
                service,
            })
        }
        scheme => Prober::Tcp(TcpProbe {
            host,
            port: url.port().unwrap_or_default(),
            encrypted: scheme == "tls",
            dialogue: section
                .sections("query_response")
                .iter()
                .map(exchange)
                .collect(),
        }),
    };
    let mut address = url;
    // What stands in a query or before the host may be secret.
    address.set_query(None);
    let _no_host = address.set_username("");
    let _no_host = address.set_password(None);
    Probe {
        address: address.to_string(),
        prober,
        connector: connector.ok().map(Arc::new),
        deadline,
        failing: None,
    }
}

/// A probe goes straight to its target, with fixed credentials.
pub fn no_detours(section: &Section<'_>, http: &HttpConfig) {
    if http.proxy_url.is_some() || http.proxy_from_environment {
        section.error(
            "proxy_url",
            "a probe goes straight to its target",
            "remove it",
        );
    }
    if http.oauth2.is_some() {
        section.error(
            "oauth2",
            "a probe asks nobody for a token",
            "use authorization",
        );
    }
}

/// A user and a password in the URL are sent as Basic authentication, as blackbox_exporter does; or
/// they are refused.
fn take_credentials(section: &Section<'_>, url: &Url, http: &mut HttpConfig) {
    if url.username().is_empty() && url.password().is_none() {
        return;
    }
    let key = if section.node("url").is_some() {
        "url"
    } else {
        "target"
    };
    if !matches!(url.scheme(), "http" | "https") {
        section.error(
            key,
            "holds a user or a password, which a TCP probe cannot send",
            "remove them",
        );
    } else if http.basic_auth.is_some() || http.authorization.is_some() {
        section.error(
            key,
            "holds a user or a password beside basic_auth or authorization",
            "remove one of them",
        );
    } else {
        match (
            decode(url.username()),
            decode(url.password().unwrap_or_default()),
        ) {
            (Some(user), Some(password)) => {
                let given = |text: String| SecretSource::Given(Secret::new(text));
                http.basic_auth = Some((given(user), given(password)));
            }
            _ => section.error(
                key,
                "holds a user or a password with a wrong %",
                "write % as %25",
            ),
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
    let key = if section.node("url").is_none() && section.node("target").is_some() {
        "target"
    } else {
        "url"
    };
    let Some(text) = section.get::<String>(key) else {
        section.error(
            key,
            "key \"url\" is missing",
            "add url: https://HOST/health, tcp://HOST:PORT or tls://HOST:PORT",
        );
        return nowhere();
    };
    if splits_its_password(&text) {
        section.error(key, "has an @ in its path: a / in the password?", ENCODE);
        return nowhere();
    }
    let usable = |url: &Url| match url.scheme() {
        "http" | "https" | "dns" | "icmp" | "grpc" | "grpcs" => url.has_host(),
        "tcp" | "tls" => url.has_host() && url.port().is_some(),
        _ => false,
    };
    // The text may hold a token: it is not quoted.
    Url::parse(&text).ok().filter(usable).unwrap_or_else(|| {
        section.error(
            key,
            "is not a URL that can be probed",
            "give https://HOST/health, tcp://HOST:PORT, tls://HOST:PORT, dns://SERVER, icmp://HOST or grpc://HOST:PORT",
        );
        nowhere()
    })
}

/// An HTTP probe with these settings.
pub fn http_probe(section: &Section<'_>, url: &Url, http: &HttpConfig) -> HttpProbe {
    let method = section.or("method", "GET".to_owned());
    let method = Method::from_bytes(method.as_bytes()).unwrap_or_else(|_| {
        section.error("method", "is not an HTTP method", "give GET, HEAD, POST, …");
        Method::GET
    });
    let mut headers = HeaderMap::new();
    let own: BTreeMap<String, Secret> = section.or("headers", BTreeMap::new());
    for (name, value) in &own {
        let pair = (
            HeaderName::from_bytes(name.as_bytes()),
            HeaderValue::from_str(value.expose()),
        );
        let (Ok(name), Ok(mut value)) = pair else {
            section.error(
                "headers",
                format!("{name:?} or its value cannot stand in a request"),
                "use printable ASCII characters",
            );
            continue;
        };
        value.set_sensitive(true);
        headers.append(name, value);
    }
    let credentials = Login::build(http).unwrap_or_else(|error| {
        section.error(
            "http_headers",
            error.to_string(),
            "use printable ASCII characters",
        );
        Login::build(&HttpConfig::default()).expect("the default settings are usable")
    });
    let versions: Vec<String> = section.or("valid_http_versions", Vec::new());
    if !versions.is_empty()
        && !versions
            .iter()
            .any(|version| matches!(version.as_str(), "HTTP/1.0" | "HTTP/1.1"))
    {
        section.error(
            "valid_http_versions",
            "names no version that is spoken here",
            "add HTTP/1.1",
        );
    }
    HttpProbe {
        url: url.clone(),
        method,
        headers,
        credentials,
        body: section
            .secret("body")
            .map(|body| body.expose().to_owned())
            .unwrap_or_default()
            .into(),
        follow_redirects: http.follow_redirects,
        expectation: Expectation {
            statuses: section.or("valid_status_codes", Vec::new()),
            any_status: section.or("accept_any_response", false),
            forbidden: patterns(section, "fail_if_body_matches_regexp"),
            required: patterns(section, "fail_if_body_not_matches_regexp"),
            json: section.one_or_many("json").iter().map(json_rule).collect(),
            max_body: section.get("max_body"),
            versions,
            forbidden_headers: section
                .sections("fail_if_header_matches")
                .iter()
                .filter_map(header_rule)
                .collect(),
            required_headers: section
                .sections("fail_if_header_not_matches")
                .iter()
                .filter_map(header_rule)
                .collect(),
            encrypted: match (
                section.or("fail_if_ssl", false),
                section.or("fail_if_not_ssl", false),
            ) {
                (true, true) => {
                    section.error(
                        "fail_if_ssl",
                        "stands beside fail_if_not_ssl: nothing would do",
                        "keep one of the two",
                    );
                    None
                }
                (true, false) => Some(false),
                (false, true) => Some(true),
                (false, false) => None,
            },
        },
    }
}

fn header_rule(section: &Section<'_>) -> Option<HeaderRule> {
    let (name, allow_missing) = (
        section.require::<String>("header"),
        section.or("allow_missing", false),
    );
    let pattern = patterns(section, "regexp").into_iter().next();
    if section.node("regexp").is_none() {
        section.error("", "key \"regexp\" is missing", "add regexp: …");
    }
    section.finish();
    let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| {
        section.error(
            "header",
            "is not the name of a header",
            "give one such as Content-Type",
        )
    });
    Some(HeaderRule {
        name: name.ok()?,
        pattern: pattern?,
        allow_missing,
    })
}

/// A DNS probe with these settings, of this server.
pub fn dns_probe(section: &Section<'_>, host: String, port: Option<u16>) -> DnsProbe {
    let named = |key: &str, default: &str, known: fn(&str) -> Option<u16>| {
        let word = section.or(key, default.to_owned());
        known(&word).unwrap_or_else(|| {
            section.error(
                key,
                format!("{word:?} is not known"),
                format!("give one such as {default}"),
            );
            1
        })
    };
    let (kind, class) = (
        named("query_type", "ANY", dns_message::type_of),
        named("query_class", "IN", dns_message::class_of),
    );
    let recursion = section.or("recursion_desired", true);
    let name: String = section.require("query_name");
    let question = Question::new(&name, kind, class, recursion).unwrap_or_else(|| {
        if !name.is_empty() {
            section.error(
                "query_name",
                format!("{name:?} is not a name that DNS knows"),
                "give one such as example.org, in ASCII",
            );
        }
        Question::new(".", kind, class, recursion).expect("the root has a name")
    });
    let over = section.or("transport_protocol", "udp".to_owned());
    let transport = match (over.as_str(), section.or("dns_over_tls", false)) {
        ("udp", false) => Transport::Udp,
        ("tcp", false) => Transport::Tcp,
        ("tcp", true) => Transport::Tls,
        ("udp", true) => {
            section.error("dns_over_tls", "needs TCP", "add transport_protocol: tcp");
            Transport::Tls
        }
        _ => {
            section.error(
                "transport_protocol",
                format!("{over:?} is not known"),
                "give udp or tcp",
            );
            Transport::Udp
        }
    };
    let code = |name: &String| {
        let code = dns_message::code_of(name);
        if code.is_none() {
            section.error(
                "valid_rcodes",
                format!("{name:?} is not a response code"),
                "give names such as NOERROR and NXDOMAIN",
            );
        }
        code
    };
    let rules = [
        "validate_answer_rrs",
        "validate_authority_rrs",
        "validate_additional_rrs",
    ]
    .map(|key| {
        section
            .section(key)
            .map(|rules| record_rules(&rules))
            .unwrap_or_default()
    });
    DnsProbe {
        host,
        port: port.unwrap_or(if transport == Transport::Tls { 853 } else { 53 }),
        transport,
        question,
        codes: section
            .or("valid_rcodes", vec!["NOERROR".to_owned()])
            .iter()
            .filter_map(code)
            .collect(),
        rules,
    }
}

fn record_rules(section: &Section<'_>) -> RecordRules {
    let rules = RecordRules {
        fail_if_matches: patterns(section, "fail_if_matches_regexp"),
        fail_if_all_match: patterns(section, "fail_if_all_match_regexp"),
        fail_if_not_matches: patterns(section, "fail_if_not_matches_regexp"),
        fail_if_none_matches: patterns(section, "fail_if_none_matches_regexp"),
    };
    section.finish();
    rules
}

/// An ICMP probe with these settings, of nobody yet.
pub fn icmp_probe(section: Option<&Section<'_>>) -> IcmpProbe {
    let default = IcmpProbe {
        host: String::new(),
        payload: 28,
        ttl: None,
    };
    let Some(section) = section else {
        return default;
    };
    let payload = section.or("payload_size", default.payload);
    if payload > MAX_PAYLOAD {
        section.error(
            "payload_size",
            "is more than a packet holds",
            format!("give {MAX_PAYLOAD} at most"),
        );
    }
    if section.or("dont_fragment", false) {
        section.error("dont_fragment", "is not known here", "remove it");
    }
    let ttl = section.get::<u16>("ttl").and_then(|ttl| {
        let fits = u8::try_from(ttl).ok().filter(|ttl| *ttl > 0);
        if fits.is_none() {
            section.error("ttl", "is not a hop limit", "give a number from 1 to 255");
        }
        fits
    });
    IcmpProbe {
        payload: if payload == 0 {
            default.payload
        } else {
            payload
        },
        ttl,
        ..default
    }
}

/// A text, which may be secret, or bytes that are written as `!!binary`.
fn bytes(section: &Section<'_>, key: &str) -> Option<Vec<u8>> {
    if let Some(node) = section.node(key)
        && let Value::Scalar {
            text,
            style: ScalarStyle::Binary,
        } = &node.value
    {
        section.conceal(node);
        return Some(
            text.chars()
                .filter_map(|c| u8::try_from(u32::from(c)).ok())
                .collect(),
        );
    }
    section
        .secret(key)
        .map(|text| text.expose().as_bytes().to_vec())
}

/// One step of a dialogue.
pub fn exchange(section: &Section<'_>) -> Exchange {
    let labels = section.sections("labels").into_iter().map(|label| {
        let pair = (
            label.require::<String>("name"),
            label.require::<String>("value"),
        );
        if !is_legacy_label_name(&pair.0)
            || pair.0.starts_with("__")
            || matches!(pair.0.as_str(), "job" | "instance")
        {
            label.error(
                "name",
                format!("{:?} cannot be a label here", pair.0),
                "use letters, digits and _; job and instance say whose series it is",
            );
        }
        label.finish();
        pair
    });
    let exchange = Exchange {
        labels: labels.collect(),
        expect_bytes: bytes(section, "expect_bytes"),
        expect: patterns(section, "expect").into_iter().next(),
        send: bytes(section, "send"),
        starttls: section.or("starttls", false),
    };
    if !exchange.labels.is_empty() && exchange.expect.is_none() {
        section.error(
            "labels",
            "need \"expect\"",
            "add expect: a pattern whose groups the labels show as ${1}",
        );
    }
    if exchange.expect.is_some() && exchange.expect_bytes.is_some() {
        section.error(
            "expect_bytes",
            "stands beside \"expect\"",
            "keep one of the two, or make two steps",
        );
    }
    if exchange.expect.is_none()
        && exchange.expect_bytes.is_none()
        && exchange.send.is_none()
        && !exchange.starttls
        && section.node("expect").is_none()
    {
        section.error(
            "",
            "does nothing",
            "give expect: REGEX, send: TEXT or starttls: true",
        );
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
    let single = section
        .node(key)
        .is_some_and(|node| matches!(node.value, Value::Scalar { .. }));
    let texts = if single {
        section.get::<String>(key).into_iter().collect()
    } else {
        section.or(key, Vec::new())
    };
    let compiled = |text: &String| {
        let pattern = Regex::new(text);
        if pattern.is_err() {
            section.error(
                key,
                format!("{text:?} is not a regular expression"),
                "see https://docs.rs/regex for the syntax",
            );
        }
        pattern.ok()
    };
    texts.iter().filter_map(compiled).collect()
}
