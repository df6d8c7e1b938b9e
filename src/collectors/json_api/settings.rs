//! The keys of an endpoint.

use super::asked::Asked;
use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;

use bytes::Bytes;
use url::Url;

use crate::config::{ByteSize, Node, ScalarStyle, Secret, Section, Value as Yaml};
use crate::http::{Client, HeaderMap, HeaderName, HeaderValue, HttpConfig, Method};
use crate::model::MetricKind;
use crate::model::text::{is_legacy_label_name, is_legacy_metric_name};

use super::metric::{Elements, Metric, Part, Value, Words};
use super::modules;
use super::path::Path;
use super::token::{Carrier, Login, Source, Tokens};

/// Series of one answer, unless `max_series` says otherwise.
const MAX_SERIES: usize = 1000;
/// Bytes of one answer, unless `max_body` says otherwise.
const MAX_BODY: u64 = 4 << 20;
/// How `map` says that every other word is a number.
const OTHERS: &str = "*";

/// One endpoint's settings.
pub struct Settings {
    /// Where.
    pub url: Url,
    /// GET, POST, …
    pub method: Method,
    /// Headers; they may be secret.
    pub headers: HeaderMap,
    /// The request's body.
    pub body: Bytes,
    /// Wanted status codes; empty for 200 to 299.
    pub statuses: Vec<u16>,
    /// Most of a body that is read, in bytes.
    pub max_body: usize,
    /// Most series of one answer, and values of one label within an hour.
    pub max_series: usize,
    /// Whether blackbox_exporter's names are given, too.
    pub probe: bool,
    /// What is read from the answer.
    pub metrics: Vec<Metric>,
    /// The client.
    pub client: Client,
    /// Where tokens come from.
    pub tokens: Option<Tokens>,
}

impl Settings {
    /// Reads the section and records its mistakes.
    pub fn read(section: &Section<'_>) -> Self {
        let nowhere = || Url::parse("http://localhost/").expect("a literal URL parses");
        if section.node("url").is_none() {
            section.error(
                "url",
                "key \"url\" is missing",
                "add url: http://HOST:PORT/path",
            );
        }
        let asked = match section.get::<PathBuf>("modules_file") {
            Some(path) => {
                let name = section.or("module", "default".to_owned());
                for key in [
                    "metrics",
                    "body",
                    "body_file",
                    "headers",
                    "valid_status_codes",
                ] {
                    if section.node(key).is_some() {
                        section.error(key, "stands beside modules_file", "keep one of the two");
                    }
                }
                // What the module says of the connection counts alone, as in json_exporter.
                modules::read(section, &path, &name)
            }
            None => Asked {
                http: HttpConfig::read(section),
                headers: section.or("headers", BTreeMap::new()),
                body: section.secret("body"),
                statuses: section.or("valid_status_codes", Vec::new()),
                metrics: metrics(section),
            },
        };
        check_names(section, &asked.metrics);
        let body: Bytes = asked
            .body
            .map(|body| body.expose().to_owned())
            .unwrap_or_default()
            .into();
        let client = if body.is_empty() {
            Client::build(&asked.http)
        } else {
            Client::keeping_body(&asked.http)
        };
        let client = client.unwrap_or_else(|error| {
            section.error(
                "tls_config",
                error.to_string(),
                "check the HTTP settings of this endpoint",
            );
            Client::plain()
        });
        let method = method(section, if body.is_empty() { "GET" } else { "POST" });
        let max_series = section.or("max_series", MAX_SERIES);
        if max_series == 0 {
            section.error(
                "max_series",
                "is 0",
                "give the most series of one answer, such as 1000",
            );
        }
        Settings {
            url: section.get::<Url>("url").unwrap_or_else(nowhere),
            method,
            headers: headers(section, &asked.headers),
            body,
            statuses: asked.statuses,
            max_body: usize::try_from(section.or("max_body", ByteSize(MAX_BODY)).0)
                .unwrap_or(usize::MAX),
            max_series,
            probe: section.or("probe", false),
            metrics: asked.metrics,
            client,
            tokens: tokens(section, &asked.http),
        }
    }
}

fn method(section: &Section<'_>, default: &str) -> Method {
    let method = section.or("method", default.to_owned());
    Method::from_bytes(method.as_bytes()).unwrap_or_else(|_| {
        section.error("method", "is not an HTTP method", "give GET, POST, …");
        Method::GET
    })
}

fn headers(section: &Section<'_>, given: &BTreeMap<String, Secret>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in given {
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
        headers.insert(name, value);
    }
    headers
}

/// `login` or `token_command`.
fn tokens(section: &Section<'_>, http: &HttpConfig) -> Option<Tokens> {
    let (login, command) = (
        section.section("login"),
        section.get::<Vec<String>>("token_command"),
    );
    let key = if login.is_some() {
        "login"
    } else {
        "token_command"
    };
    if login.is_some() && command.is_some() {
        section.error(
            "token_command",
            "stands beside \"login\"",
            "keep one of the two",
        );
    }
    if (login.is_some() || command.is_some())
        && (http.authorization.is_some() || http.basic_auth.is_some() || http.oauth2.is_some())
    {
        section.error(
            key,
            "stands beside another way to log in",
            "keep one of login, token_command, authorization, basic_auth, oauth2",
        );
    }
    if let Some(login) = login {
        let source = Source::Login(Box::new(read_login(&login, http)));
        let carrier = carrier(&login, "header");
        login.finish();
        return Some(Tokens::new(source, carrier));
    }
    let command = command?;
    if command.is_empty() {
        section.error(
            "token_command",
            "is empty",
            "give a program and its arguments: [/usr/local/bin/token, --print]",
        );
    }
    Some(Tokens::new(
        Source::Command(command),
        carrier(section, "token_header"),
    ))
}

fn read_login(section: &Section<'_>, http: &HttpConfig) -> Login {
    let mut given: BTreeMap<String, Secret> = section.or("headers", BTreeMap::new());
    let mut bodies = Vec::new();
    if let Some(node) = section.node("json") {
        bodies.push((
            Secret::new(to_json(section, "json", node).to_string()),
            "application/json",
        ));
    }
    if let Some(body) = section.secret("body") {
        bodies.push((body, "application/json"));
    }
    if section.node("form").is_some() {
        let mut form = url::form_urlencoded::Serializer::new(String::new());
        for (name, value) in section.or::<BTreeMap<String, Secret>>("form", BTreeMap::new()) {
            form.append_pair(&name, value.expose());
        }
        bodies.push((
            Secret::new(form.finish()),
            "application/x-www-form-urlencoded",
        ));
    }
    if bodies.len() > 1 {
        section.error(
            "body",
            "stands beside another body",
            "keep one of json, form, body",
        );
    }
    let body = bodies.pop();
    if let Some((_, kind)) = &body
        && !given
            .keys()
            .any(|name| name.eq_ignore_ascii_case("content-type"))
    {
        given.insert("content-type".into(), Secret::new(*kind));
    }
    // The credentials of the endpoint are none of the login's.
    let bare = HttpConfig {
        authorization: None,
        basic_auth: None,
        oauth2: None,
        ..http.clone()
    };
    let client = Client::keeping_body(&bare).unwrap_or_else(|_| Client::plain());
    Login {
        client,
        url: section.get::<Url>("url").unwrap_or_else(|| {
            if section.node("url").is_none() {
                section.error(
                    "url",
                    "key \"url\" is missing",
                    "add url: http://HOST:PORT/login",
                );
            }
            Url::parse("http://localhost/").expect("a literal URL parses")
        }),
        method: method(section, "POST"),
        headers: headers(section, &given),
        body: body
            .map(|(body, _)| body.expose().to_owned())
            .unwrap_or_default()
            .into(),
        token: path(
            section,
            "token",
            &section.or("token", "access_token".to_owned()),
        )
        .unwrap_or_default(),
        expires: section
            .get::<String>("expires")
            .and_then(|text| path(section, "expires", &text)),
    }
}

/// `Authorization: Bearer {token}`, or what is given in its place.
fn carrier(section: &Section<'_>, key: &str) -> Carrier {
    let text = section.or(key, "Authorization: Bearer {token}".to_owned());
    let read = || {
        let (name, value) = text.split_once(':')?;
        let (before, behind) = value.trim().split_once("{token}")?;
        let plain = |text: &str| HeaderValue::from_str(text).is_ok();
        let header = HeaderName::from_bytes(name.trim().as_bytes()).ok()?;
        (plain(before) && plain(behind)).then(|| Carrier {
            header,
            before: before.to_owned(),
            behind: behind.to_owned(),
        })
    };
    read().unwrap_or_else(|| {
        section.error(
            key,
            "is not a header with {token} in it",
            "give a text such as \"Authorization: Bearer {token}\" or \"X-Token: {token}\"",
        );
        Carrier {
            header: HeaderName::from_static("authorization"),
            before: String::new(),
            behind: String::new(),
        }
    })
}

/// A part of the file as JSON, its texts kept secret. A plain number, true, false and null are what
/// they are in YAML.
fn to_json(section: &Section<'_>, key: &str, node: &Node) -> serde_json::Value {
    match &node.value {
        Yaml::List(items) => items
            .iter()
            .map(|item| to_json(section, key, item))
            .collect(),
        Yaml::Map(entries) => {
            let entries = entries.iter().map(|(name, _, value)| {
                (
                    name.clone(),
                    to_json(section, &format!("{key}.{name}"), value),
                )
            });
            serde_json::Value::Object(entries.collect())
        }
        Yaml::Scalar { .. } if node.is_null() => serde_json::Value::Null,
        Yaml::Scalar { text, style } => {
            section.conceal(node);
            let expanded = section.environment().expand(text).unwrap_or_else(|name| {
                let remedy = "set it, or name it in the --env-file".to_owned();
                section.error_at(
                    node.position,
                    key,
                    format!("environment variable {name} is not set"),
                    remedy,
                );
                String::new()
            });
            // What a variable holds is text.
            let typed = (*style == ScalarStyle::Plain && expanded == *text)
                .then(|| serde_json::from_str(text).ok())
                .flatten();
            typed
                .filter(|value: &serde_json::Value| !value.is_string())
                .unwrap_or(serde_json::Value::String(expanded))
        }
    }
}

fn metrics(section: &Section<'_>) -> Vec<Metric> {
    let metrics: Vec<Metric> = section
        .sections("metrics")
        .iter()
        .map(read_metric)
        .collect();
    if metrics.is_empty() && !section.or("probe", false) {
        section.error(
            "metrics",
            "names no metric",
            "add metrics: [{name: app_sessions, path: data.sessions}], or probe: true for the probe alone",
        );
    }
    metrics
}

fn read_metric(section: &Section<'_>) -> Metric {
    let name: String = section.require("name");
    let kind = match section.or("type", "gauge".to_owned()).as_str() {
        "gauge" => MetricKind::Gauge,
        "counter" => MetricKind::Counter,
        other => {
            section.error(
                "type",
                format!("{other:?} is not known"),
                "give gauge or counter",
            );
            MetricKind::Gauge
        }
    };
    let mut elements = section
        .get::<String>("for_each")
        .and_then(|text| path(section, "for_each", &text));
    let mut value = value(section);
    match (&elements, &value) {
        (Some(_), Value::At(path)) if path.is_many() => {
            section.error(
                "value",
                "finds several values for one series",
                "name the way up to the last [*] in for_each",
            );
        }
        // `checks[*].status` is a series for each check.
        (None, Value::At(path)) if path.is_many() => {
            let (each, rest) = path.clone().split();
            (elements, value) = (Some(each), Value::At(rest));
        }
        _ => {}
    }
    let labels: Vec<(String, Vec<Part>)> = section
        .section("labels")
        .map(|labels| {
            labels
                .keys()
                .iter()
                .map(|name| ((*name).to_owned(), label(&labels, name)))
                .collect()
        })
        .unwrap_or_default();
    let uses_key = labels
        .iter()
        .flat_map(|(_, parts)| parts)
        .any(|part| matches!(part, Part::Key(_)));
    if uses_key && elements.is_none() {
        section.error(
            "labels",
            "use $key without for_each",
            "add for_each: the path of the list or mapping whose key is meant",
        );
    }
    let words = words(section, &name);
    let metric = Metric {
        help: section.or("help", "A value of a JSON endpoint.".to_owned()),
        name,
        kind,
        elements: elements.map(|path| Elements { path, opens: true }),
        value,
        labels,
        words,
        is_optional: section.or("optional", false),
        time: None,
    };
    section.finish();
    metric
}

/// `value`, or `path`: a path or a number; without both the element itself.
fn value(section: &Section<'_>) -> Value {
    let key = if section.node("value").is_some() {
        "value"
    } else {
        "path"
    };
    if key == "value" && section.node("path").is_some() {
        section.error("path", "stands beside \"value\"", "keep one of the two");
    }
    let Some(text) = section.get::<String>(key) else {
        if section.node("for_each").is_none() {
            section.error(
                "",
                "key \"path\" is missing",
                "add path: where the value is, such as data.sessions",
            );
        }
        return Value::At(Path::default());
    };
    match text.parse::<f64>() {
        Ok(number) if number.is_finite() => Value::Fixed(number),
        _ => Value::At(path(section, key, &text).unwrap_or_default()),
    }
}

/// A path, `$key`, `$1` … `$9`, or a mapping with `literal`.
fn label(section: &Section<'_>, name: &str) -> Vec<Part> {
    if section
        .node(name)
        .is_some_and(|node| matches!(node.value, Yaml::Map(_)))
    {
        let literal = section.section(name).map(|one| {
            let text: String = one.require("literal");
            one.finish();
            text
        });
        return vec![Part::Text(literal.unwrap_or_default())];
    }
    let text: String = section.require(name);
    let nth = text
        .strip_prefix('$')
        .and_then(|digit| digit.parse::<usize>().ok())
        .filter(|n| (1..=9).contains(n));
    match nth {
        _ if text == "$key" => vec![Part::Key(0)],
        Some(n) => vec![Part::Key(n)],
        None => {
            let path = path(section, name, &text).unwrap_or_default();
            if path.is_many() {
                section.error(
                    name,
                    "finds several values for one label",
                    "name the way up to the last [*] in for_each",
                );
            }
            vec![Part::At(path)]
        }
    }
}

/// `map: status`, or `map: {word: number}` with `"*"` for every other word. What ends in `_up` is a
/// status.
fn words(section: &Section<'_>, name: &str) -> Words {
    match section.node("map").map(|node| &node.value) {
        None if name.ends_with("_up") => Words::Status,
        None => Words::Usual,
        Some(Yaml::Map(_)) => {
            let given: BTreeMap<String, f64> = section.or("map", BTreeMap::new());
            if given.values().any(|number| !number.is_finite()) {
                section.error(
                    "map",
                    "holds a number that is not finite",
                    "give numbers such as 1, 0.5 and 0",
                );
            }
            let mut own: BTreeMap<String, f64> = given
                .into_iter()
                .map(|(word, number)| (word.trim().to_lowercase(), number))
                .collect();
            let others = own.remove(OTHERS);
            Words::Own(own, others)
        }
        Some(_) => {
            if section
                .get::<String>("map")
                .is_none_or(|word| word != "status")
            {
                section.error(
                    "map",
                    "is no mapping",
                    "give {word: number}, or status for the usual words and 0 for all others",
                );
            }
            Words::Status
        }
    }
}

/// Reads a path and records its mistake.
pub fn path(section: &Section<'_>, key: &str, text: &str) -> Option<Path> {
    Path::parse(text)
        .map_err(|(problem, remedy)| section.error(key, format!("{text:?} {problem}"), remedy))
        .ok()
}

/// Names that no series can have, and those that would mix two things.
fn check_names(section: &Section<'_>, metrics: &[Metric]) {
    let mut kinds: BTreeMap<&str, MetricKind> = BTreeMap::new();
    for metric in metrics {
        let name = metric.name.as_str();
        let key = if section.node("metrics").is_some() {
            "metrics"
        } else {
            "module"
        };
        if !is_legacy_metric_name(name) {
            section.error(
                key,
                format!("{name:?} is not the name of a metric"),
                "use letters, digits, _ and :, such as app_sessions",
            );
        }
        let is_own = super::metrics::METRICS.iter().any(|own| own.name == name)
            || name.starts_with("json_api_");
        if is_own
            || matches!(name, "up" | "ALERTS" | "ALERTS_FOR_STATE")
            || name.starts_with("nightbell_")
            || name.starts_with("scrape_")
        {
            section.error(
                key,
                format!("{name:?} is a name that nightbell gives"),
                "choose another name",
            );
        }
        if *kinds.entry(name).or_insert(metric.kind) != metric.kind {
            section.error(
                key,
                format!("{name:?} has two types"),
                "give both the same type",
            );
        }
        let mut seen = HashSet::new();
        for (label, _) in &metric.labels {
            if !is_legacy_label_name(label)
                || label.starts_with("__")
                || matches!(label.as_str(), "job" | "instance")
            {
                let remedy = "use letters, digits and _; job and instance say whose series it is";
                section.error(
                    key,
                    format!("{name:?} has the label {label:?}, which cannot be set here"),
                    remedy,
                );
            }
            if !seen.insert(label) {
                section.error(
                    key,
                    format!("{name:?} has the label {label:?} twice"),
                    "remove one of the two",
                );
            }
        }
    }
}
