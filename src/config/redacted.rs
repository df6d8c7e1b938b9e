//! The configuration as others may see it: the same YAML, every secret replaced by `<secret>`, `${NAME}` left as it was written.
//!
//! A secret is what was read as one; besides, whatever stands under a key that sounds like one, read or not.

use std::collections::HashSet;

use serde::ser::{SerializeMap, SerializeSeq};
use serde::{Serialize, Serializer};

use super::document::{Document, Node, ScalarStyle, Value};

/// Ends of keys whose values are secrets, wherever they stand.
const SECRET_KEYS: [&str; 12] = [
    "password",
    "secret",
    "token",
    "credentials",
    "api_key",
    "apikey",
    "_key",
    "dsn",
    "api_url",
    "webhook_url",
    "authorization",
    "bearer_token",
];

/// The document as YAML without secrets.
pub fn redacted(document: &Document, secrets: &HashSet<*const Node>) -> String {
    // Only a value that is not in the tree could fail to be written.
    serde_yaml::to_string(&Shown { node: &document.root, secrets, secret: false }).unwrap_or_default()
}

/// A value as YAML.
pub fn to_yaml(value: &serde_json::Value) -> String {
    // Strings, numbers, lists and maps of them always have a YAML form.
    serde_yaml::to_string(value).unwrap_or_default()
}

struct Shown<'a> {
    node: &'a Node,
    secrets: &'a HashSet<*const Node>,
    secret: bool,
}

impl<'a> Shown<'a> {
    fn below(&self, node: &'a Node, secret: bool) -> Self {
        Shown { node, secrets: self.secrets, secret: self.secret || secret || self.secrets.contains(&std::ptr::from_ref(node)) }
    }
}

fn is_secret(key: &str) -> bool {
    let key = key.to_lowercase();
    SECRET_KEYS.iter().any(|end| key.ends_with(end))
}

/// Whether a URL carries a password or a query, which may hold a token.
fn tells(text: &str) -> bool {
    url::Url::parse(text).is_ok_and(|url| url.has_host() && (url.password().is_some() || url.query().is_some()))
}

impl Serialize for Shown<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.node.value {
            Value::Scalar { .. } if self.node.is_null() => serializer.serialize_none(),
            Value::Scalar { text, .. } if (self.secret || tells(text)) && !text.starts_with("${") => serializer.serialize_str("<secret>"),
            Value::Scalar { text, style: ScalarStyle::Plain } => match (text.as_str(), text.parse::<i64>()) {
                ("true", _) => serializer.serialize_bool(true),
                ("false", _) => serializer.serialize_bool(false),
                (_, Ok(number)) => serializer.serialize_i64(number),
                _ => serializer.serialize_str(text),
            },
            Value::Scalar { text, .. } => serializer.serialize_str(text),
            Value::List(items) => {
                let mut list = serializer.serialize_seq(Some(items.len()))?;
                items.iter().try_for_each(|node| list.serialize_element(&self.below(node, false)))?;
                list.end()
            }
            Value::Map(entries) => {
                let mut map = serializer.serialize_map(Some(entries.len()))?;
                for (key, _, node) in entries {
                    map.serialize_entry(key, &self.below(node, is_secret(key)))?;
                }
                map.end()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_not_shown_and_the_rest_reads_back() {
        let text = "a: {dsn: 'postgres://u:p@h/d', name: x, port: 5}\nb:\n- {url: 'https://u:p@h/', password: hunter2, api_key: '${KEY}'}\n- plain\n";
        let shown = redacted(&Document::parse("t.yml", text).expect("YAML"), &HashSet::new());
        assert!(!shown.contains("hunter2") && !shown.contains("u:p@"), "{shown}");
        let again = Document::parse("t.yml", &shown).expect("YAML");
        let text = |node: Option<&Node>| match node.map(|n| &n.value) {
            Some(Value::Scalar { text, .. }) => text.clone(),
            _ => String::new(),
        };
        assert_eq!(text(again.root.get("a").and_then(|a| a.get("name"))), "x");
        assert_eq!(text(again.root.get("a").and_then(|a| a.get("port"))), "5");
        let Some(Value::List(items)) = again.root.get("b").map(|n| &n.value) else { panic!("a list") };
        assert_eq!(text(items[0].get("api_key")), "${KEY}");
    }
}
