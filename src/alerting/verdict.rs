//! Alertmanager's verdict about an `alertmanager.yml`: a file that passes here passes `amtool check-config` (0.33), and the other way round.
//!
//! nightbell's own keys are refused; receivers that nightbell cannot deliver to are checked all the same. What Alertmanager does not look
//! at, nightbell looks at too, as warnings: files of secrets, inline templates, addresses. One difference is left: a YAML merge
//! key (`<<`) may be overridden here.

use std::path::Path;

use super::config::{ALERTMANAGER_KINDS, Alerting, GLOBAL_KEYS};
use super::schema::{AUTHENTICATION, GLOBAL_EXCLUSIVE, KINDS, Kind, OWN_GLOBAL_KEYS, RESPONDERS, ROOT_KEYS, ROUTE_KEYS, VICTOROPS_FIELDS};
use crate::config::{ConfigError, ConfigErrors, Document, Environment, Node, Position, ScalarStyle, Value};
use crate::model::text::is_legacy_label_name;
use crate::notify::NOTIFIERS;

/// A file that Alertmanager would take.
pub struct Checked {
    /// What it says; receivers are only as good as the verdict needs.
    pub alerting: Alerting,
    /// Number of patterns under `templates`.
    pub templates: usize,
    /// What nightbell would refuse in it.
    pub warnings: Vec<String>,
}

/// Whether this is the top level of an `alertmanager.yml`: a route, and no key that is nightbell's or Prometheus's.
pub fn is_alertmanager_file(document: &Document) -> bool {
    let keys = entries(&document.root);
    keys.iter().any(|(key, _, _)| key == "route") && keys.iter().all(|(key, _, _)| ROOT_KEYS.contains(&key.as_str()))
}

/// Alertmanager's verdict about a file in `folder`.
pub fn check(mut document: Document, folder: &Path) -> Result<Checked, ConfigErrors> {
    let environment = Environment::default();
    let mut inspector = Inspector { file: document.file.clone(), errors: Vec::new() };
    inspector.inspect(&document.root);
    let warnings = match Alerting::read_document(&document, folder, &environment) {
        Ok(_) => Vec::new(),
        Err(errors) => errors.0.iter().map(ToString::to_string).collect(),
    };
    let templates = items(&document.root, "templates").len();
    simplify(&mut document.root);
    document.has_more = false;
    match Alerting::read_document(&document, folder, &environment) {
        Ok(alerting) if inspector.errors.is_empty() => Ok(Checked { alerting, templates, warnings }),
        read => {
            let mut errors = ConfigErrors(inspector.errors);
            errors.0.extend(read.err().into_iter().flat_map(|e| e.0));
            errors.0.sort_by_key(|e| e.position);
            errors.0.dedup();
            Err(errors)
        }
    }
}

fn entries(node: &Node) -> &[(String, Position, Node)] {
    match &node.value {
        Value::Map(entries) => entries,
        _ => &[],
    }
}

fn items<'a>(node: &'a Node, key: &str) -> &'a [Node] {
    match node.get(key).map(|n| &n.value) {
        Some(Value::List(items)) => items,
        _ => &[],
    }
}

fn text(node: &Node) -> Option<&str> {
    match &node.value {
        Value::Scalar { text, .. } if !node.is_null() => Some(text),
        _ => None,
    }
}

fn is_delivered(key: &str) -> bool {
    NOTIFIERS.iter().any(|kind| kind.key == key)
}

/// Leaves of the file what Alertmanager looks at: kinds that nightbell does not know vanish, a secret in a file becomes one in place,
/// templates and addresses in receivers become plain words, a dollar sign only a dollar sign.
fn simplify(root: &mut Node) {
    let Value::Map(entries) = &mut root.value else { return };
    for (key, _, node) in entries {
        literal(node);
        match (key.as_str(), &mut node.value) {
            ("global", Value::Map(_)) => plain(node),
            ("receivers", Value::List(receivers)) => {
                for receiver in receivers {
                    if let Value::Map(entries) = &mut receiver.value {
                        entries.retain(|(key, _, _)| key != "labels" && (is_delivered(key) || !ALERTMANAGER_KINDS.contains(&key.as_str())));
                        entries.iter_mut().filter(|(key, _, _)| key != "name").for_each(|(_, _, node)| plain(node));
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
        Value::Scalar { text, .. } if text == "<secret>" => *text = "https://secret.invalid/".into(),
        Value::Scalar { .. } => {}
        Value::List(items) => items.iter_mut().for_each(plain),
        Value::Map(entries) => {
            entries.retain(|(key, _, _)| !["oauth2", "ca_file", "cert_file", "key_file"].contains(&key.as_str()));
            let present: Vec<String> = entries.iter().map(|(key, _, _)| key.clone()).collect();
            // Alertmanager takes an e-mail's password both in place and in a file.
            entries.retain(|(key, _, _)| {
                !["auth_password_file", "auth_secret_file"].contains(&key.as_str())
                    || !present.iter().any(|other| Some(other.as_str()) == key.strip_suffix("_file"))
            });
            for (key, _, node) in entries {
                if key.ends_with("url") && text(node).is_some_and(|text| text.contains("{{")) {
                    node.value = Value::Scalar { text: "https://template.invalid/".into(), style: ScalarStyle::Plain };
                }
                plain(node);
                let Value::Scalar { text, .. } = &mut node.value else { continue };
                if key == "to" && !text.is_empty() {
                    *text = "someone@example.org".into();
                }
                if let Some(secret) = key.strip_suffix("_file").filter(|secret| !present.iter().any(|other| other == secret)) {
                    *text = match secret {
                        "chat_id" => "1".into(),
                        url if url.ends_with("url") => "https://secret.invalid/".into(),
                        _ => "secret".into(),
                    };
                    *key = secret.to_owned();
                }
            }
        }
    }
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
        };
        self.errors.push(error);
    }

    fn own(&mut self, position: Position, key: &str) {
        self.error(position, key, "is not a key of Alertmanager", "keep nightbell's own keys in nightbell.yml");
    }

    fn exclusive(&mut self, node: &Node, pairs: &[(&str, &str)]) {
        for (one, other) in pairs.iter().filter(|(one, other)| is_set(node, one) && is_set(node, other)) {
            self.error(node.position, one, format!("stands beside {other}"), "keep one of them");
        }
    }

    fn inspect(&mut self, root: &Node) {
        if let Some(global) = root.get("global") {
            self.global(global);
        }
        if let Some(route) = root.get("route") {
            self.route(route);
        }
        for rule in items(root, "inhibit_rules") {
            self.label_names(rule, &["source_match", "source_match_re", "target_match", "target_match_re"]);
        }
        for key in ["time_intervals", "mute_time_intervals"] {
            for element in items(root, key).iter().flat_map(|named| items(named, "time_intervals")) {
                let digit = |day: &&Node| text(day).is_some_and(|day| day.contains(|c: char| c.is_ascii_digit()));
                for day in items(element, "weekdays").iter().filter(digit) {
                    self.error(day.position, "weekdays", "is not the name of a weekday", "give monday, or a range such as monday:friday");
                }
            }
        }
        for receiver in items(root, "receivers") {
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
        self.exclusive(global, GLOBAL_EXCLUSIVE);
        for (key, position, node) in entries(global) {
            if OWN_GLOBAL_KEYS.contains(&key.as_str()) || !GLOBAL_KEYS.contains(&key.as_str()) {
                self.own(*position, &format!("global.{key}"));
            }
            let Some(value) = text(node) else { continue };
            if key.ends_with("_url") && value != "<secret>" && !is_url(value) {
                self.error(*position, key, "is not an http or https URL", "give a URL such as https://example.org/path");
            }
            if key == "smtp_smarthost" && !value.contains(':') {
                self.error(*position, key, "has no port", "give host:port such as mail.example.org:587");
            }
        }
        if let Some(http) = global.get("http_config") {
            self.http(http);
        }
    }

    fn http(&mut self, http: &Node) {
        if AUTHENTICATION.iter().filter(|key| is_set(http, key)).count() > 1 {
            self.error(http.position, "http_config", "authenticates in two ways", &format!("keep one of {}", AUTHENTICATION.join(", ")));
        }
        if let Some(proxy) = http.get("proxy_url")
            && text(proxy).is_some_and(|proxy| !is_url(proxy) && !proxy.starts_with("socks5"))
        {
            self.error(proxy.position, "proxy_url", "is not a URL", "give a URL such as http://proxy:3128");
        }
    }

    fn route(&mut self, route: &Node) {
        for (key, position, _) in entries(route).iter().filter(|(key, _, _)| !ROUTE_KEYS.contains(&key.as_str())) {
            self.own(*position, key);
        }
        if let Some(empty) = items(route, "group_by").iter().find(|name| text(name) == Some("")) {
            self.error(empty.position, "group_by", "names no label", "give a label's name");
        }
        self.label_names(route, &["match", "match_re"]);
        for child in items(route, "routes") {
            self.route(child);
        }
    }

    fn label_names(&mut self, node: &Node, keys: &[&str]) {
        for (name, position, _) in keys.iter().filter_map(|key| node.get(key)).flat_map(entries) {
            if !is_legacy_label_name(name) {
                self.error(*position, name, "is not a label name that this key takes", "write it under matchers, in quotes");
            }
        }
    }

    fn blocks(&mut self, kind: &Kind, blocks: &Node, root: &Node) {
        let Value::List(list) = &blocks.value else {
            if !blocks.is_null() && !is_delivered(kind.key) {
                self.error(blocks.position, kind.key, format!("is {}", blocks.kind()), "give a list");
            }
            return;
        };
        let known = |key: &str| ["send_resolved", "http_config"].contains(&key) || kind.keys.contains(&key);
        for block in list {
            for (key, position, _) in entries(block).iter().filter(|(key, _, _)| !known(key)) {
                self.own(*position, &format!("{}.{key}", kind.key));
            }
            if let Some(http) = block.get("http_config") {
                self.http(http);
            }
            self.details(kind, block);
            if !is_delivered(kind.key) {
                self.foreign(kind, block, root);
            }
        }
    }

    /// What Alertmanager demands of single values.
    fn details(&mut self, kind: &Kind, block: &Node) {
        let unknown =
            |key: &str, known: &[&str]| block.get(key).filter(|n| !text(n).is_some_and(|t| known.contains(&t))).map(|n| n.position);
        match kind.key {
            "email_configs" if block.get("to").is_some_and(|to| text(to).is_none()) => {
                self.error(block.position, "to", "is not one text", "write addresses in one text, separated by commas");
            }
            "telegram_configs" => {
                let number = |node: &Node| text(node).is_some_and(|id| id.parse::<i64>().is_ok_and(|id| id != 0));
                if block.get("chat_id").is_some_and(|id| !number(id)) {
                    self.error(block.position, "chat_id", "is not a number", "give the chat's number, such as -1001234");
                }
            }
            "opsgenie_configs" => {
                for responder in items(block, "responders") {
                    let kind = responder.get("type").and_then(text).unwrap_or("");
                    if !["id", "name", "username"].iter().any(|key| is_set(responder, key)) {
                        self.error(responder.position, "responders", "has neither id nor name nor username", "give one of them");
                    }
                    if !kind.contains("{{") && !RESPONDERS.contains(&kind.to_lowercase().as_str()) {
                        self.error(responder.position, "responders", "has no known type", &format!("give {}", RESPONDERS.join(" or ")));
                    }
                }
            }
            "slack_configs" => {
                for action in items(block, "actions") {
                    if !is_set(action, "url") && !is_set(action, "name") {
                        self.error(action.position, "actions", "has neither url nor name", "give one of them");
                    }
                    if action.get("confirm").is_some_and(|confirm| !is_set(confirm, "text")) {
                        self.error(action.position, "confirm", "has no text", "give text");
                    }
                }
            }
            "victorops_configs" => {
                for (key, position, _) in block.get("custom_fields").map(entries).unwrap_or_default() {
                    if VICTOROPS_FIELDS.contains(&key.as_str()) {
                        self.error(*position, key, "is a field of VictorOps's own", "choose another name");
                    }
                }
            }
            "wechat_configs" => {
                if let Some(position) = unknown("message_type", &["text", "markdown"]) {
                    self.error(position, "message_type", "is not known", "give text or markdown");
                }
            }
            "sns_configs" => {
                if let Some(keys) = block.get("sigv4").filter(|keys| is_set(keys, "access_key") != is_set(keys, "secret_key")) {
                    self.error(keys.position, "sigv4", "has one of access_key and secret_key", "give both or neither");
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
        for group in kind.required.iter().filter(|group| !group.iter().any(|path| set(path))) {
            self.error(block.position, kind.key, format!("{} is missing", group[0]), &format!("give {}", group.join(" or ")));
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

fn is_url(text: &str) -> bool {
    url::Url::parse(text).is_ok_and(|url| ["http", "https"].contains(&url.scheme()) && url.has_host())
}
