//! An `alertmanager.yml` without what Alertmanager does not look at: what is left is read by
//! nightbell's own readers, whose errors is then Alertmanager's. And the forms that Go's readers
//! know for single values.

use url::Url;

use super::node::{is_delivered, text};
use super::schema::{GO_DURATIONS, URLS};
use crate::alerting::config::ALERTMANAGER_KINDS;
use crate::config::{Node, Position, ScalarStyle, Value};
use crate::model::parse_go_duration;

/// What stands for a secret that a file holds.
const SECRET: &str = "secret";
/// What stands for an address.
const ADDRESS: &str = "https://plain.invalid/";

/// Leaves of the file what Alertmanager looks at: kinds that nightbell does not know vanish, and so
/// do blocks about HTTP and TLS, which are judged by themselves; a secret in a file becomes one in
/// place, templates and addresses in receivers become plain words, a dollar sign only a dollar
/// sign.
pub(in crate::alerting) fn simplify(root: &mut Node) {
    let Value::Map(entries) = &mut root.value else {
        return;
    };
    for (key, _, node) in entries {
        literal(node);
        match (key.as_str(), &mut node.value) {
            ("global", Value::Map(_)) => plain(node),
            ("receivers", Value::List(receivers)) => {
                for receiver in receivers {
                    if let Value::Map(entries) = &mut receiver.value {
                        entries.retain(|(key, _, _)| {
                            is_delivered(key) || !ALERTMANAGER_KINDS.contains(&key.as_str())
                        });
                        let settings = entries
                            .iter_mut()
                            .filter(|(key, _, _)| !["name", "labels"].contains(&key.as_str()));
                        settings.for_each(|(_, _, node)| plain(node));
                    }
                }
            }
            _ => {}
        }
    }
}

/// Nothing is taken from the environment.
fn literal(node: &mut Node) {
    match &mut node.value {
        Value::Scalar { text, .. } => *text = text.replace("${", "$${"),
        Value::List(items) => items.iter_mut().for_each(literal),
        Value::Map(entries) => entries.iter_mut().for_each(|(_, _, node)| literal(node)),
    }
}

fn plain(node: &mut Node) {
    match &mut node.value {
        Value::Scalar { text, .. } if text.contains("{{") => *text = "template".into(),
        Value::Scalar { text, .. } if text == "<secret>" => *text = ADDRESS.into(),
        Value::Scalar { .. } => {}
        Value::List(items) => items.iter_mut().for_each(plain),
        Value::Map(entries) => {
            entries.retain(|(key, _, _)| {
                !["http_config", "tls_config", "smtp_tls_config"].contains(&key.as_str())
                    && !GO_DURATIONS.contains(&key.as_str())
            });
            let present: Vec<String> = entries.iter().map(|(key, _, _)| key.clone()).collect();
            // Alertmanager takes an e-mail's password both in place and in a file.
            entries.retain(|(key, _, _)| {
                !["auth_password_file", "auth_secret_file"].contains(&key.as_str())
                    || !present
                        .iter()
                        .any(|other| Some(other.as_str()) == key.strip_suffix("_file"))
            });
            for (key, _, node) in entries.iter_mut() {
                let is_address = key.ends_with("_url") || URLS.iter().any(|(_, url)| url == key);
                if is_address && self::text(node).is_some_and(|text| !text.is_empty()) {
                    node.value = scalar(ADDRESS);
                }
                plain(node);
                if key == "to"
                    && let Value::Scalar { text, .. } = &mut node.value
                    && !text.is_empty()
                {
                    *text = "someone@example.org".into();
                }
            }
            in_place(entries);
        }
    }
}

/// A secret in a file (or, by `_ref`, with a manager of secrets) becomes one in place, unless there
/// is one already.
fn in_place(entries: &mut [(String, Position, Node)]) {
    let mut present: Vec<String> = entries.iter().map(|(key, _, _)| key.clone()).collect();
    for (key, _, node) in entries {
        let Some(secret) = key
            .strip_suffix("_file")
            .or_else(|| key.strip_suffix("_ref"))
            .map(str::to_owned)
        else {
            continue;
        };
        if node.is_null() || !matches!(node.value, Value::Scalar { .. }) {
            continue;
        }
        if present.contains(&secret) {
            // Two of them: the reader says so.
            *key = format!("{secret}_file");
            continue;
        }
        node.value = scalar(match secret.as_str() {
            "chat_id" => "1",
            url if url.ends_with("url") => ADDRESS,
            _ => SECRET,
        });
        present.push(secret.clone());
        *key = secret;
    }
}

fn scalar(text: &str) -> Value {
    Value::Scalar {
        text: text.into(),
        style: ScalarStyle::Plain,
    }
}

/// An `http_config` as [`crate::http::HttpConfig`] is to read it.
pub(in crate::alerting) fn http_settings(node: &Node) -> Node {
    let mut http = node.clone();
    literal(&mut http);
    transport(&mut http);
    let Value::Map(entries) = &mut http.value else {
        return http;
    };
    for (key, _, node) in entries
        .iter_mut()
        .filter(|(key, _, _)| ["basic_auth", "authorization"].contains(&key.as_str()))
    {
        if let Value::Map(entries) = &mut node.value {
            in_place(entries);
        }
        if key == "authorization"
            && let Value::Map(entries) = &mut node.value
        {
            // Credentials may be missing as far as Alertmanager is concerned.
            entries.retain(|(key, _, node)| key != "type" || !node.is_null());
        }
    }
    for (_, _, oauth2) in entries.iter_mut().filter(|(key, _, _)| key == "oauth2") {
        transport(oauth2);
        let Value::Map(entries) = &mut oauth2.value else {
            continue;
        };
        in_place(entries);
        for (_, _, url) in entries.iter_mut().filter(|(key, _, node)| {
            key == "token_url" && text(node).is_some_and(|t| !t.is_empty())
        }) {
            url.value = scalar(ADDRESS);
        }
        // A JWT is a grant that nightbell does not know; its algorithm is still checked.
        let algorithm = |node: &Node| {
            text(node).is_some_and(|text| ["RS256", "RS384", "RS512"].contains(&text))
        };
        let jwt = entries.iter().any(|(key, _, node)| {
            key == "grant_type" && text(node).is_some_and(|t| t.ends_with(":jwt-bearer"))
        });
        let is_right = !jwt
            || entries
                .iter()
                .all(|(key, _, node)| key != "signature_algorithm" || algorithm(node));
        entries.retain(|(key, _, _)| key != "grant_type" || !is_right);
    }
    in_place(entries);
    http
}

/// A `tls_config` as [`crate::http::TlsConfig`] is to read it.
pub(in crate::alerting) fn tls_settings(node: &Node) -> Node {
    let mut tls = node.clone();
    if let Value::Map(entries) = &mut tls.value {
        in_place(entries);
        let is_version = |node: &Node| {
            text(node).is_some_and(|text| ["TLS10", "TLS11", "TLS12", "TLS13"].contains(&text))
        };
        entries.retain(|(key, _, node)| {
            !["min_version", "max_version"].contains(&key.as_str()) || !is_version(node)
        });
    }
    tls
}

/// TLS, proxy and headers of a block about HTTP.
fn transport(http: &mut Node) {
    let Value::Map(entries) = &mut http.value else {
        return;
    };
    let flag = |(key, _, node): &(String, Position, Node)| {
        key == "proxy_from_environment" && text(node) == Some("true")
    };
    let by_environment = entries.iter().any(flag);
    entries.retain(|(key, _, node)| {
        let of_no_use = match key.as_str() {
            "proxy_connect_header" => by_environment,
            "proxy_url" => text(node).is_none_or(str::is_empty),
            _ => false,
        };
        !of_no_use
    });
    for (key, _, node) in entries.iter_mut() {
        match (key.as_str(), &mut node.value) {
            ("tls_config", _) => *node = tls_settings(node),
            // Go's `net/url` takes a bare word as a path.
            ("proxy_url", Value::Scalar { text, .. })
                if Url::parse(text).is_ok()
                    || !text.contains([':', '%', ' '])
                        && !text.bytes().any(|b| b.is_ascii_control()) =>
            {
                *text = "http://proxy.invalid/".into()
            }
            ("http_headers", Value::Map(headers)) => {
                for (_, _, header) in headers {
                    if let Value::Map(entries) = &mut header.value {
                        entries.retain(|(key, _, node)| {
                            key != "files" || !matches!(node.value, Value::List(_))
                        });
                    }
                }
            }
            _ => {}
        }
    }
}

/// Whether Go's `net/url` takes this as an address of a web server.
pub(in crate::alerting) fn is_go_url(text: &str) -> bool {
    let lower = text.to_ascii_lowercase();
    let Some(rest) = lower
        .strip_prefix("http://")
        .or_else(|| lower.strip_prefix("https://"))
    else {
        return false;
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = authority.rsplit('@').next().unwrap_or_default();
    let port = match host.rsplit_once(']') {
        Some((_, after)) => after.strip_prefix(':').unwrap_or(after),
        None => host.rsplit_once(':').map_or("", |(_, port)| port),
    };
    let escapes = |text: &str| {
        text.split('%')
            .skip(1)
            .all(|after| after.len() > 1 && after.bytes().take(2).all(|b| b.is_ascii_hexdigit()))
    };
    let path = text.split(['?', '#']).next().unwrap_or_default();
    !host.is_empty()
        && port.bytes().all(|b| b.is_ascii_digit())
        && !host.contains([' ', '<', '>', '"', '{', '}', '|', '\\', '^', '`'])
        && !text.bytes().any(|b| b.is_ascii_control())
        && escapes(path)
}

/// Whether Go's YAML reader takes this as a `time.Duration`: `1.5s`, `-1m`, or a whole number of
/// nanoseconds.
pub(in crate::alerting) fn is_go_duration(text: &str, style: ScalarStyle) -> bool {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let is_number = style == ScalarStyle::Plain
        && !unsigned.is_empty()
        && unsigned.bytes().all(|b| b.is_ascii_digit());
    is_number || parse_go_duration(unsigned).is_ok()
}

/// Whether YAML 1.1, as Go reads it, takes this as true or false.
pub(in crate::alerting) fn is_yaml_flag(text: &str) -> bool {
    let lower = text.to_ascii_lowercase();
    let one_case = text == lower
        || text == text.to_ascii_uppercase()
        || text == format!("{}{}", text[..1].to_ascii_uppercase(), &lower[1..]);
    one_case && ["true", "false", "yes", "no", "on", "off", "y", "n"].contains(&lower.as_str())
}
