//! Alertmanager's judgement of an `alertmanager.yml`: a file that passes here passes
//! `amtool check-config` (0.33), and the other way round.
//!
//! nightbell's own keys are refused; receivers that nightbell cannot deliver to are checked as
//! well. What Alertmanager does not look at, nightbell looks at too, as warnings: files of secrets,
//! inline templates, addresses. Left are differences about what cannot be meant: a YAML merge key
//! (`<<`) may be overridden here, and refused is what Go's reader takes for something else than is
//! written (a lone brace for no matcher, `1.5` for a chat, `null` for a name, a port beyond 65535).

use super::node::{is_delivered, text};
use std::path::Path;

use super::plain::{
    http_settings, is_go_duration, is_go_url, is_yaml_flag, simplify, tls_settings,
};
use super::schema::{
    FLAGS, FREE, GLOBAL_EXCLUSIVE, GO_DURATIONS, INNER, KINDS, Kind, LISTS, MAPS, NUMBERS, ONE_OF,
    OWN_GLOBAL_KEYS, RECORDER_KEYS, RESPONDERS, ROOT_KEYS, ROUTE_KEYS, TEXTS_OR_MAPS, TRACING_KEYS,
    URLS, VICTOROPS_FIELDS,
};
use crate::alerting::config::{Alerting, GLOBAL_KEYS};
use crate::config::{
    ConfigError, ConfigErrors, Document, Environment, Loader, Node, Position, ScalarStyle, Section,
    Value,
};
use crate::http::{HttpConfig, TlsConfig};
use crate::model::parse_duration;
use crate::model::text::is_legacy_label_name;
use crate::template::{Library, Template};

/// Where Slack takes the messages of a bot.
const SLACK_APP_URL: &str = "https://slack.com/api/chat.postMessage";

/// A file that Alertmanager would take.
pub struct Checked {
    /// What it says; receivers are only as complete as the check needs.
    pub alerting: Alerting,
    /// Number of patterns under `templates`.
    pub templates: usize,
    /// What nightbell would refuse in it.
    pub warnings: Vec<String>,
    /// What its author may not expect.
    pub notes: Vec<String>,
}

/// Whether this is the top level of an `alertmanager.yml`: a route, and no key that is nightbell's
/// or Prometheus's.
pub fn is_alertmanager_file(document: &Document) -> bool {
    let keys = entries(&document.root);
    keys.iter().any(|(key, _, _)| key == "route")
        && keys
            .iter()
            .all(|(key, _, _)| ROOT_KEYS.contains(&key.as_str()))
}

/// Checks a file as Alertmanager does, in `folder`.
pub fn check(mut document: Document, folder: &Path) -> Result<Checked, ConfigErrors> {
    let environment = Environment::default();
    let mut inspector = Inspector {
        file: document.file.clone(),
        errors: Vec::new(),
    };
    inspector.inspect(&document.root);
    let (found, errors) = Alerting::read_with_mistakes(&document, folder, &environment);
    let (notes, warnings) = (
        found.notes,
        errors.0.iter().map(ToString::to_string).collect(),
    );
    let templates = items(&document.root, "templates").len();
    simplify(&mut document.root);
    document.has_more = false;
    match Alerting::read_document(&document, folder, &environment) {
        Ok(alerting) if inspector.errors.is_empty() => Ok(Checked {
            alerting,
            templates,
            warnings,
            notes,
        }),
        read => {
            let mut errors = ConfigErrors(inspector.errors);
            let known: Vec<_> = errors.0.iter().map(|e| e.position).collect();
            let more = read.err().into_iter().flat_map(|e| e.0);
            errors
                .0
                .extend(more.filter(|e| e.position.is_none() || !known.contains(&e.position)));
            errors.0.sort_by_key(|e| e.position);
            errors.0.dedup();
            Err(errors)
        }
    }
}

pub(in crate::alerting) fn entries(node: &Node) -> &[(String, Position, Node)] {
    match &node.value {
        Value::Map(entries) => entries,
        _ => &[],
    }
}

pub(in crate::alerting) fn items<'a>(node: &'a Node, key: &str) -> &'a [Node] {
    match node.get(key).map(|n| &n.value) {
        Some(Value::List(items)) => items,
        _ => &[],
    }
}

#[derive(Clone, Copy)]
enum Shape {
    Text,
    List,
    Map,
}

struct Inspector {
    file: String,
    errors: Vec<ConfigError>,
}

impl Inspector {
    fn error(&mut self, position: Position, key: &str, problem: impl Into<String>, remedy: &str) {
        let error = ConfigError {
            file: self.file.clone(),
            position: Some(position),
            key: key.to_owned(),
            problem: problem.into(),
            remedy: remedy.to_owned(),
            non_fatal: false,
        };
        self.errors.push(error);
    }

    fn own(&mut self, position: Position, key: &str) {
        self.error(
            position,
            key,
            "is not a key of Alertmanager",
            "keep nightbell's own keys in nightbell.yml",
        );
    }

    fn exclusive(&mut self, node: &Node, pairs: &[(&str, &str)]) {
        for (one, other) in pairs
            .iter()
            .filter(|(one, other)| is_set(node, one) && is_set(node, other))
        {
            self.error(
                node.position,
                one,
                format!("stands beside {other}"),
                "keep one of them",
            );
        }
    }

    fn inspect(&mut self, root: &Node) {
        if let Some(global) = root.get("global") {
            self.global(global);
        }
        if let Some(route) = root.get("route") {
            self.route(route);
            self.scalars(route);
        }
        if let Some(tracing) = root.get("tracing") {
            self.tracing(tracing);
        }
        if let Some(recorder) = root.get("event_recorder") {
            self.keys("event_recorder", recorder, RECORDER_KEYS);
        }
        for rule in items(root, "inhibit_rules") {
            self.label_names(
                rule,
                &[
                    "source_match",
                    "source_match_re",
                    "target_match",
                    "target_match_re",
                ],
            );
            self.patterns(rule, &["source_match_re", "target_match_re"]);
            if let Some(empty) = items(rule, "equal")
                .iter()
                .find(|name| text(name).unwrap_or("").is_empty())
            {
                self.error(
                    empty.position,
                    "equal",
                    "names no label",
                    "give a label's name",
                );
            }
        }
        for key in ["time_intervals", "mute_time_intervals"] {
            for interval in items(root, key)
                .iter()
                .filter(|interval| interval.get("name").and_then(text) == Some(""))
            {
                self.error(interval.position, key, "has no name", "give name");
            }
            for element in items(root, key)
                .iter()
                .flat_map(|named| items(named, "time_intervals"))
            {
                let digit = |day: &&Node| {
                    text(day).is_some_and(|day| day.contains(|c: char| c.is_ascii_digit()))
                };
                for day in items(element, "weekdays").iter().filter(digit) {
                    self.error(
                        day.position,
                        "weekdays",
                        "is not the name of a weekday",
                        "give monday, or a range such as monday:friday",
                    );
                }
            }
        }
        for receiver in items(root, "receivers") {
            self.scalars(receiver);
            let name = receiver.get("name").and_then(text);
            if let Some(label) = receiver
                .get("labels")
                .and_then(|labels| labels.get("name"))
                .filter(|label| text(label) != name)
            {
                self.error(
                    label.position,
                    "labels.name",
                    "is not the receiver's name",
                    "remove the label: every receiver has it",
                );
            }
            for (key, position, blocks) in entries(receiver) {
                match KINDS.iter().find(|kind| kind.key == key) {
                    Some(kind) => self.blocks(kind, blocks, root),
                    None if ["name", "labels"].contains(&key.as_str()) => {}
                    None => self.own(*position, key),
                }
            }
        }
    }

    fn global(&mut self, global: &Node) {
        // Where both are one, the file is from before the token had a key.
        let written = |key: &str| global.get(key).and_then(text);
        let app_url = written("slack_app_url").unwrap_or(SLACK_APP_URL);
        let transition = written("slack_api_url") == Some(app_url);
        let exclusive: Vec<(&str, &str)> = GLOBAL_EXCLUSIVE
            .iter()
            .filter(|(one, other)| {
                !(transition && *one == "slack_app_token" && *other == "slack_api_url")
            })
            .copied()
            .collect();
        self.exclusive(global, &exclusive);
        for (key, position, node) in entries(global) {
            if OWN_GLOBAL_KEYS.contains(&key.as_str()) || !GLOBAL_KEYS.contains(&key.as_str()) {
                self.own(*position, &format!("global.{key}"));
            }
            if !["http_config", "smtp_tls_config"].contains(&key.as_str()) {
                self.shape(key, node, Shape::Text);
            }
            let Some(value) = text(node) else { continue };
            if key.ends_with("_url") && value != "<secret>" && !is_go_url(value) {
                self.error(
                    *position,
                    key,
                    "is not an http or https URL",
                    "give a URL such as https://example.org/path",
                );
            }
            if key == "smtp_smarthost" && !value.contains(':') {
                self.error(
                    *position,
                    key,
                    "has no port",
                    "give host:port such as mail.example.org:587",
                );
            }
        }
        self.scalars(global);
        if let Some(http) = global.get("http_config") {
            self.http(http);
        }
        if let Some(tls) = global.get("smtp_tls_config") {
            self.tls("smtp_tls_config", tls);
        }
    }

    fn http(&mut self, http: &Node) {
        self.settings("http_config", http_settings(http), |section| {
            drop(HttpConfig::read(section))
        });
    }

    fn tls(&mut self, key: &str, tls: &Node) {
        self.settings(key, tls_settings(tls), |section| {
            drop(TlsConfig::read(section))
        });
    }

    /// What nightbell's own reader finds in a block that stands by itself.
    fn settings(&mut self, key: &str, root: Node, read: impl Fn(&Section<'_>)) {
        let document = Document {
            file: self.file.clone(),
            source: "".into(),
            root,
            has_more: false,
        };
        let environment = Environment::default();
        let loader = Loader::new(&document, &environment, Path::new("."));
        let section = loader.root();
        read(&section);
        section.finish();
        drop(section);
        let path = |inner: &str| {
            if inner.is_empty() {
                key.to_owned()
            } else {
                format!("{key}.{inner}")
            }
        };
        self.errors
            .extend(loader.into_errors().0.into_iter().map(|error| ConfigError {
                key: path(&error.key),
                ..error
            }));
    }

    /// Go's readers tell a text from a flag or a number: `"true"` is not true.
    fn scalars(&mut self, node: &Node) {
        match &node.value {
            Value::Scalar { .. } => {}
            Value::List(items) => items.iter().for_each(|item| self.scalars(item)),
            Value::Map(entries) => {
                for (key, _, node) in entries
                    .iter()
                    .filter(|(key, _, _)| !FREE.contains(&key.as_str()))
                {
                    self.scalars(node);
                    let Value::Scalar { text, style } = &node.value else {
                        if FLAGS.contains(&key.as_str()) {
                            self.error(
                                node.position,
                                key,
                                format!("is {}", node.kind()),
                                "give true or false",
                            );
                        }
                        continue;
                    };
                    let plain = *style == ScalarStyle::Plain;
                    if FLAGS.contains(&key.as_str())
                        && !node.is_null()
                        && !(plain && is_yaml_flag(text))
                    {
                        self.error(
                            node.position,
                            key,
                            "is not true or false",
                            "give true or false, without quotes",
                        );
                    }
                    if NUMBERS.contains(&key.as_str()) && !plain {
                        self.error(
                            node.position,
                            key,
                            "is a text",
                            "give a number without quotes",
                        );
                    }
                }
            }
        }
    }

    fn keys(&mut self, name: &str, block: &Node, known: &[&str]) {
        for (key, position, _) in entries(block)
            .iter()
            .filter(|(key, _, _)| !known.contains(&key.as_str()))
        {
            self.own(*position, &format!("{name}.{key}"));
        }
    }

    fn tracing(&mut self, tracing: &Node) {
        self.keys("tracing", tracing, TRACING_KEYS);
        if let Some(kind) = tracing
            .get("client_type")
            .filter(|kind| !text(kind).is_some_and(|t| ["http", "grpc"].contains(&t)))
        {
            self.error(
                kind.position,
                "client_type",
                "is not known",
                "give http or grpc",
            );
        }
        if !tracing.is_null() && !is_set(tracing, "endpoint") {
            self.error(
                tracing.position,
                "tracing",
                "endpoint is missing",
                "give endpoint",
            );
        }
        if let Some(headers) = tracing.get("headers") {
            self.shape("headers", headers, Shape::Map);
            for (_, _, header) in entries(headers) {
                self.shape("headers", header, Shape::Map);
                self.keys("headers", header, &["values", "secrets", "files"]);
            }
        }
        if let Some(tls) = tracing.get("tls_config") {
            self.tls("tls_config", tls);
        }
    }

    fn route(&mut self, route: &Node) {
        for (key, position, _) in entries(route)
            .iter()
            .filter(|(key, _, _)| !ROUTE_KEYS.contains(&key.as_str()))
        {
            self.own(*position, key);
        }
        if let Some(empty) = items(route, "group_by")
            .iter()
            .find(|name| text(name).unwrap_or("").is_empty())
        {
            self.error(
                empty.position,
                "group_by",
                "names no label",
                "give a label's name",
            );
        }
        self.label_names(route, &["match", "match_re"]);
        self.patterns(route, &["match_re"]);
        for child in items(route, "routes") {
            if child.is_null() {
                self.error(
                    child.position,
                    "routes",
                    "has nothing in it",
                    "give a route, or remove it",
                );
            }
            self.route(child);
        }
    }

    /// A pattern that was forgotten would match every alert without the label.
    fn patterns(&mut self, node: &Node, keys: &[&str]) {
        let pairs = keys
            .iter()
            .filter_map(|key| node.get(key))
            .flat_map(entries);
        for (name, position, _) in pairs.filter(|(_, _, node)| node.is_null()) {
            self.error(
                *position,
                name,
                "has no pattern",
                "give a regular expression",
            );
        }
    }

    fn label_names(&mut self, node: &Node, keys: &[&str]) {
        for (name, position, _) in keys
            .iter()
            .filter_map(|key| node.get(key))
            .flat_map(entries)
        {
            if !is_legacy_label_name(name) {
                self.error(
                    *position,
                    name,
                    "is not a label name that this key takes",
                    "write it under matchers, in quotes",
                );
            }
        }
    }

    fn blocks(&mut self, kind: &Kind, blocks: &Node, root: &Node) {
        let Value::List(list) = &blocks.value else {
            if !blocks.is_null() && !is_delivered(kind.key) {
                self.error(
                    blocks.position,
                    kind.key,
                    format!("is {}", blocks.kind()),
                    "give a list",
                );
            }
            return;
        };
        let has_http = kind.key != "email_configs";
        let known = |key: &str| {
            key == "send_resolved" || (has_http && key == "http_config") || kind.keys.contains(&key)
        };
        for block in list {
            for (key, position, _) in entries(block).iter().filter(|(key, _, _)| !known(key)) {
                self.own(*position, &format!("{}.{key}", kind.key));
            }
            if let Some(http) = block.get("http_config") {
                self.http(http);
            }
            if let Some(tls) = block
                .get("tls_config")
                .filter(|_| kind.key == "email_configs")
            {
                self.tls("tls_config", tls);
            }
            for (_, one, other) in ONE_OF.iter().filter(|(only, _, _)| *only == kind.key) {
                if !is_set(block, one) && !is_set(block, other) {
                    self.error(
                        block.position,
                        one,
                        "is missing",
                        &format!("give {one} or {other}"),
                    );
                }
            }
            self.values(kind, block);
            self.details(kind, block);
            if !is_delivered(kind.key) {
                self.foreign(kind, block, root);
            }
        }
    }

    fn shape(&mut self, key: &str, node: &Node, shape: Shape) {
        let remedy = match (shape, &node.value) {
            _ if node.is_null() => return,
            (Shape::List, Value::List(_))
            | (Shape::Map, Value::Map(_))
            | (Shape::Text, Value::Scalar { .. }) => return,
            (Shape::List, _) => "give a list: each entry begins with \"- \"",
            (Shape::Map, _) => "give a mapping: indented lines of key: value",
            (Shape::Text, _) => "give one value",
        };
        self.error(node.position, key, format!("is {}", node.kind()), remedy);
    }

    /// What Go's readers demand of the values of a block: of which shape they are, and the form of
    /// single ones.
    fn values(&mut self, kind: &Kind, block: &Node) {
        for (key, _, node) in entries(block) {
            let is_in = |list: &[(&str, &str)]| list.contains(&(kind.key, key.as_str()));
            match &node.value {
                Value::Map(_) if is_in(TEXTS_OR_MAPS) || key == "http_config" => {}
                _ if is_in(LISTS) => self.shape(key, node, Shape::List),
                _ if is_in(MAPS) => self.shape(key, node, Shape::Map),
                _ if !is_delivered(kind.key) || GO_DURATIONS.contains(&key.as_str()) => {
                    self.shape(key, node, Shape::Text)
                }
                _ => {}
            }
            if let Some((_, _, inner)) = INNER
                .iter()
                .find(|(only, outer, _)| (*only, *outer) == (kind.key, key))
            {
                let blocks = match &node.value {
                    Value::List(blocks) => blocks.as_slice(),
                    _ => std::slice::from_ref(node),
                };
                for block in blocks {
                    self.shape(key, block, Shape::Map);
                    self.keys(key, block, inner);
                    entries(block)
                        .iter()
                        .for_each(|(inner, _, node)| self.shape(inner, node, Shape::Text));
                }
            }
            let Value::Scalar { text, style } = &node.value else {
                continue;
            };
            if node.is_null() {
                continue;
            }
            if GO_DURATIONS.contains(&key.as_str()) && !is_go_duration(text, *style) {
                self.error(
                    node.position,
                    key,
                    "is not a duration here",
                    "give a duration such as 10s or 1m30s",
                );
            }
            let is_url = URLS
                .iter()
                .any(|(only, url)| url == key && [kind.key, ""].contains(only));
            if !is_url || text == "<secret>" || kind.key == "sns_configs" {
                continue;
            }
            // An empty one is missing, where it may be; an address in `api_url` may not be empty.
            let missing = text.is_empty() && key != "api_url";
            if kind.key == "webhook_configs" && text.contains("{{") {
                if let Err(problem) = Template::notification(text, &Library::default()) {
                    self.error(
                        node.position,
                        key,
                        problem.to_string(),
                        "write it as Alertmanager's templates are written",
                    );
                }
            } else if !missing && !is_go_url(text) {
                self.error(
                    node.position,
                    key,
                    "is not an http or https URL",
                    "give a URL such as https://example.org/path",
                );
            }
        }
    }

    /// What Alertmanager demands of single values.
    fn details(&mut self, kind: &Kind, block: &Node) {
        let unknown = |key: &str, known: &[&str]| {
            block
                .get(key)
                .filter(|n| !text(n).is_some_and(|t| known.contains(&t)))
                .map(|n| n.position)
        };
        match kind.key {
            "email_configs" if block.get("to").is_some_and(|to| text(to).is_none()) => {
                self.error(
                    block.position,
                    "to",
                    "is not one text",
                    "write addresses in one text, separated by commas",
                );
            }
            "telegram_configs" => {
                let number = |node: &Node| {
                    text(node).is_some_and(|id| id.parse::<i64>().is_ok_and(|id| id != 0))
                };
                if block.get("chat_id").is_some_and(|id| !number(id)) {
                    self.error(
                        block.position,
                        "chat_id",
                        "is not a number",
                        "give the chat's number, such as -1001234",
                    );
                }
            }
            "opsgenie_configs" => {
                for responder in items(block, "responders") {
                    let kind = responder.get("type").and_then(text).unwrap_or("");
                    if !["id", "name", "username"]
                        .iter()
                        .any(|key| is_set(responder, key))
                    {
                        self.error(
                            responder.position,
                            "responders",
                            "has neither id nor name nor username",
                            "give one of them",
                        );
                    }
                    if !kind.contains("{{") && !RESPONDERS.contains(&kind.to_lowercase().as_str()) {
                        self.error(
                            responder.position,
                            "responders",
                            "has no known type",
                            &format!("give {}", RESPONDERS.join(" or ")),
                        );
                    }
                }
            }
            "slack_configs" => {
                for field in items(block, "fields") {
                    if let Some(missing) = ["title", "value"]
                        .into_iter()
                        .find(|key| !is_set(field, key))
                    {
                        self.error(
                            field.position,
                            "fields",
                            format!("has no {missing}"),
                            &format!("give {missing}"),
                        );
                    }
                }
                for action in items(block, "actions") {
                    if !is_set(action, "url") && !is_set(action, "name") {
                        self.error(
                            action.position,
                            "actions",
                            "has neither url nor name",
                            "give one of them",
                        );
                    }
                    if action
                        .get("confirm")
                        .is_some_and(|confirm| !is_set(confirm, "text"))
                    {
                        self.error(action.position, "confirm", "has no text", "give text");
                    }
                }
            }
            "victorops_configs" => {
                for (key, position, _) in
                    block.get("custom_fields").map(entries).unwrap_or_default()
                {
                    if VICTOROPS_FIELDS.contains(&key.as_str()) {
                        self.error(
                            *position,
                            key,
                            "is a field of VictorOps's own",
                            "choose another name",
                        );
                    }
                }
            }
            "wechat_configs" => {
                if let Some(position) = unknown("message_type", &["text", "markdown"]) {
                    self.error(
                        position,
                        "message_type",
                        "is not known",
                        "give text or markdown",
                    );
                }
            }
            "jira_configs" => {
                if let Some(position) = unknown("api_type", &["auto", "cloud", "datacenter"]) {
                    self.error(
                        position,
                        "api_type",
                        "is not known",
                        "give auto, cloud or datacenter",
                    );
                }
                if let Some(reopen) = block
                    .get("reopen_duration")
                    .filter(|n| text(n).is_some_and(|t| parse_duration(t).is_err()))
                {
                    self.error(
                        reopen.position,
                        "reopen_duration",
                        "is not a duration",
                        "give a duration such as 7d",
                    );
                }
            }
            "incidentio_configs" => {
                let tokens = ["alert_source_token", "alert_source_token_file"]
                    .iter()
                    .any(|key| is_set(block, key));
                if tokens
                    && block
                        .get("http_config")
                        .is_some_and(|http| is_set(http, "authorization"))
                {
                    self.error(
                        block.position,
                        "alert_source_token",
                        "stands beside http_config.authorization",
                        "keep one of them",
                    );
                }
            }
            "pushover_configs" => {
                if let Some(html) = block
                    .get("html")
                    .filter(|n| !n.is_null() && !text(n).is_some_and(is_yaml_flag))
                {
                    self.error(
                        html.position,
                        "html",
                        "is not true or false",
                        "give true or false",
                    );
                }
            }
            "sns_configs" => {
                for (key, _, value) in block.get("attributes").map(entries).unwrap_or_default() {
                    self.shape(key, value, Shape::Text);
                }
                let sigv4 = block.get("sigv4");
                if let Some(keys) =
                    sigv4.filter(|keys| is_set(keys, "access_key") != is_set(keys, "secret_key"))
                {
                    self.error(
                        keys.position,
                        "sigv4",
                        "has one of access_key and secret_key",
                        "give both or neither",
                    );
                }
                if let Some(keys) =
                    sigv4.filter(|keys| is_set(keys, "external_id") && !is_set(keys, "role_arn"))
                {
                    self.error(
                        keys.position,
                        "external_id",
                        "is of no use without role_arn",
                        "add role_arn, or remove it",
                    );
                }
            }
            _ => {}
        }
    }

    /// What a kind demands that nightbell does not deliver to.
    fn foreign(&mut self, kind: &Kind, block: &Node, root: &Node) {
        let set = |path: &str| match path.strip_prefix("global.") {
            Some(key) => root.get("global").is_some_and(|global| is_set(global, key)),
            None => match path.split_once('.') {
                Some((outer, inner)) => block.get(outer).is_some_and(|node| is_set(node, inner)),
                None => is_set(block, path),
            },
        };
        for group in kind
            .required
            .iter()
            .filter(|group| !group.iter().any(|path| set(path)))
        {
            self.error(
                block.position,
                kind.key,
                format!("{} is missing", group[0]),
                &format!("give {}", group.join(" or ")),
            );
        }
        self.exclusive(block, kind.exclusive);
    }
}

/// Whether a key is there with a value that counts.
fn is_set(node: &Node, key: &str) -> bool {
    node.get(key).is_some_and(|found| match &found.value {
        Value::Scalar { text, .. } => !found.is_null() && !text.is_empty() && text != "false",
        _ => true,
    })
}
