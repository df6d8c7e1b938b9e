//! The configuration as others may see it: the same YAML, every secret replaced by `<secret>`,
//! `${NAME}` left as it was written.
//!
//! A secret is what was read as one; besides, whatever stands under a key that sounds like one,
//! read or not.

use std::borrow::Cow;
use std::collections::HashSet;

use serde::ser::{SerializeMap, SerializeSeq};
use serde::{Serialize, Serializer};

use super::document::{Document, Node, ScalarStyle, Value};

/// Ends of keys whose values are secrets, wherever they stand; `-` counts as `_`.
const SECRET_KEYS: [&str; 20] = [
    "password",
    "passwd",
    "pwd",
    "passphrase",
    "secret",
    "token",
    "credentials",
    "credential",
    "api_key",
    "apikey",
    "_key",
    "dsn",
    "api_url",
    "webhook_url",
    "authorization",
    "auth",
    "signature",
    "sig",
    "session",
    "cookie",
];
/// Keys whose values hold headers: any of them may be a secret.
const HEADERS: [&str; 3] = ["http_headers", "headers", "proxy_connect_header"];

/// The document as YAML without secrets.
pub fn redacted(document: &Document, secrets: &HashSet<*const Node>) -> String {
    // Only a value that is not in the tree could fail to be written.
    serde_yaml::to_string(&Shown {
        node: &document.root,
        secrets,
        secret: false,
    })
    .unwrap_or_default()
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
        Shown {
            node,
            secrets: self.secrets,
            secret: self.secret || secret || self.secrets.contains(&std::ptr::from_ref(node)),
        }
    }
}

/// Whether the name of a key, header or parameter sounds like that of a secret.
pub fn sounds_secret(name: &str) -> bool {
    let name = name.to_lowercase().replace('-', "_");
    name == "key" || SECRET_KEYS.iter().any(|end| name.ends_with(end))
}

/// What to do about a URL that [`splits_its_password`].
pub const ENCODE: &str = "write / as %2F and @ as %40 in a user, a password and a path";

/// Whether a password of this URL seems to hold a raw `/`, so that its end would be read, and
/// shown, as a path: an `@` stands in the path, and what is read as the host has a `:` or an `@`.
pub fn splits_its_password(text: &str) -> bool {
    let Some((_, rest)) = text.split_once("://") else {
        return false;
    };
    let rest = rest.split(['?', '#']).next().unwrap_or(rest);
    rest.split_once('/')
        .is_some_and(|(authority, path)| path.contains('@') && authority.contains([':', '@']))
}

/// A URL without its password and without the values of parameters that sound like secrets.
pub fn shown_url(text: &str) -> String {
    let Ok(mut url) = url::Url::parse(text) else {
        return text.to_owned();
    };
    let has_secret = |url: &url::Url| url.query_pairs().any(|(name, _)| sounds_secret(&name));
    if url.password().is_none() && !has_secret(&url) {
        return text.to_owned();
    }
    if url.password().is_some() {
        // Only a URL that cannot have one refuses.
        let _ = url.set_password(Some("secret"));
    }
    let pairs = url.query_pairs().map(|(name, value)| {
        let value = if sounds_secret(&name) {
            "<secret>".into()
        } else {
            value
        };
        (name.into_owned(), value.into_owned())
    });
    let pairs: Vec<(String, String)> = pairs.collect();
    if !pairs.is_empty() {
        url.query_pairs_mut().clear().extend_pairs(pairs);
    }
    url.to_string().replace("%3Csecret%3E", "<secret>")
}

/// A text as it was written, of `${NAME:-default}` the name alone: a default may be a secret.
fn named(text: &str) -> Cow<'_, str> {
    if !text.contains("${") {
        return Cow::Borrowed(text);
    }
    let (mut out, mut rest) = (String::with_capacity(text.len()), text);
    while let Some(at) = rest.find("${") {
        out.push_str(&rest[..at + 2]);
        rest = &rest[at + 2..];
        let end = rest.find('}').unwrap_or(rest.len());
        let name = rest[..end]
            .chars()
            .take_while(|c| c.is_ascii_alphanumeric() || *c == '_')
            .map(char::len_utf8)
            .sum::<usize>();
        out.push_str(&rest[..name]);
        // A default goes, and so does whatever else stands there, which nobody reads as a name.
        if name != end && !rest[name..end].starts_with(":-") {
            out.push_str("<secret>");
        }
        if end == rest.len() {
            rest = "";
        } else {
            out.push('}');
            rest = &rest[end + 1..];
        }
    }
    out.push_str(rest);
    Cow::Owned(out)
}

/// Whether a text is one `${NAME}` and no more, with a default or without.
fn is_reference(text: &str) -> bool {
    let inner = text
        .strip_prefix("${")
        .and_then(|text| text.strip_suffix('}'));
    inner.is_some_and(|inner| {
        !inner.contains('}')
            && crate::model::text::is_legacy_label_name(
                inner.split(":-").next().unwrap_or_default(),
            )
    })
}

/// Whether a URL carries a password or a query, which may hold a token; parts of it may stand as
/// `${NAME}`.
fn tells(text: &str) -> bool {
    let mut whole = named(text).into_owned();
    while let Some((from, length)) = whole
        .find("${")
        .and_then(|from| Some((from, whole[from..].find('}')? + 1)))
    {
        whole.replace_range(from..from + length, "x");
    }
    splits_its_password(&whole)
        || url::Url::parse(&whole)
            .is_ok_and(|url| url.has_host() && (url.password().is_some() || url.query().is_some()))
}

impl Serialize for Shown<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.node.value {
            Value::Scalar { .. } if self.node.is_null() => serializer.serialize_none(),
            Value::Scalar { text, .. } if self.secret && is_reference(text) => {
                serializer.serialize_str(&named(text))
            }
            Value::Scalar { text, .. } if self.secret || tells(text) => {
                serializer.serialize_str("<secret>")
            }
            Value::Scalar {
                text,
                style: ScalarStyle::Plain,
            } => match (text.as_str(), text.parse::<i64>()) {
                ("true", _) => serializer.serialize_bool(true),
                ("false", _) => serializer.serialize_bool(false),
                (_, Ok(number)) => serializer.serialize_i64(number),
                _ => serializer.serialize_str(&named(text)),
            },
            Value::Scalar { text, .. } => serializer.serialize_str(&named(text)),
            Value::List(items) => {
                let mut list = serializer.serialize_seq(Some(items.len()))?;
                items
                    .iter()
                    .try_for_each(|node| list.serialize_element(&self.below(node, false)))?;
                list.end()
            }
            Value::Map(entries) => {
                let mut map = serializer.serialize_map(Some(entries.len()))?;
                for (key, _, node) in entries {
                    map.serialize_entry(
                        &*named(key),
                        &self.below(node, sounds_secret(key) || HEADERS.contains(&key.as_str())),
                    )?;
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
    fn a_password_with_a_raw_slash_is_noticed() {
        for text in [
            "http://u:123/SECRET@127.0.0.1:1",
            "http://u:123/SECRET@h/v1",
            "http://u:abc@SECRET/x@127.0.0.1:1/",
            "http://u:p/a/b@h",
        ] {
            assert!(splits_its_password(text) && tells(text), "{text}");
        }
        for text in [
            "http://u:p%2F@h/",
            "http://h:80/search?mail=a@b.c",
            "https://h/@user",
            "http://h:80/a/b",
            "u:1/x@h",
        ] {
            assert!(!splits_its_password(text), "{text}");
        }
    }

    #[test]
    fn secrets_are_not_shown_and_the_rest_reads_back() {
        let text = "a: {dsn: 'postgres://u:p@h/d', name: x, port: 5}\nb:\n- {url: 'https://u:p@h/', password: hunter2, api_key: '${KEY}'}\n- plain\n";
        let shown = redacted(
            &Document::parse("t.yml", text).expect("YAML"),
            &HashSet::new(),
        );
        assert!(
            !shown.contains("hunter2") && !shown.contains("u:p@"),
            "{shown}"
        );
        let again = Document::parse("t.yml", &shown).expect("YAML");
        let text = |node: Option<&Node>| match node.map(|n| &n.value) {
            Some(Value::Scalar { text, .. }) => text.clone(),
            _ => String::new(),
        };
        assert_eq!(text(again.root.get("a").and_then(|a| a.get("name"))), "x");
        assert_eq!(text(again.root.get("a").and_then(|a| a.get("port"))), "5");
        let Some(Value::List(items)) = again.root.get("b").map(|n| &n.value) else {
            panic!("a list")
        };
        assert_eq!(text(items[0].get("api_key")), "${KEY}");
    }

    /// Of `${…}` only the name is shown, and only where nothing stands beside it.
    #[test]
    fn nothing_between_dollar_brace_and_brace_but_the_name_is_shown() {
        let text = "web: {admin_token: '${NOPE:-DEFAULTSECRET1}', webhook_url: '${WBASE}TAILSECRET2', api_url: '${SCH:-https}://h/SLACKSECRET3'}\n\
                    a: {auth_password: '${PFX}MAILSECRET4', bot_token: '${X:-555}:TGSECRET5', dsn: '${P:-postgres}://u:PGSECRET6@h'}\n\
                    b: {password: '${NOPE:-BASICSECRET7}', token: '${A}${B:-SECRET8}', secret: '${a SECRET9}', key: '${A:-SECRET10'}\n\
                    c: {name: '${HOST:-SECRET11}/x', text: '${1}-${A} ${b-SECRET12} ${C:-SECRET13', '${K:-SECRET14}': x}\n\
                    http_headers: {X-Api-Key: {values: [SECRET15]}, X-Scope: {values: ['${T:-SECRET16}']}}\n\
                    params: {token: [SECRET17], sig: SECRET18, module: [http_2xx]}\nd: {url: 'https://${U}:SECRET19@h/', e: 'http://h/?q=SECRET20', f: '${S:-https}://u:SECRET21@h/'}\n";
        let shown = redacted(
            &Document::parse("t.yml", text).expect("YAML"),
            &HashSet::new(),
        );
        let hidden = shown.replace("<secret>", "");
        assert!(
            !hidden.contains("SECRET") && shown.contains("http_2xx"),
            "{shown}"
        );
        for name in ["${NOPE}", "${HOST}/x", "${1}-${A} "] {
            assert!(shown.contains(name), "{name}: {shown}");
        }
    }

    #[test]
    fn a_url_is_shown_without_what_sounds_like_a_secret() {
        assert_eq!(
            shown_url("http://h:1/p?a=b&token=X&X-Amz-Signature=Y"),
            "http://h:1/p?a=b&token=<secret>&X-Amz-Signature=<secret>"
        );
        assert_eq!(shown_url("http://u:p@h/"), "http://u:secret@h/");
        assert_eq!(shown_url("http://h/p?a=b%20c"), "http://h/p?a=b%20c");
    }
}
