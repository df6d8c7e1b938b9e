//! How single values are read: each type says what it accepts and what its error recommends.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use url::Url;

use crate::model::{Labels, format_duration, parse_duration};

use super::document::{Node, ScalarStyle, Value};
use super::redacted::{ENCODE, splits_its_password};
use super::secret::Secret;
use super::section::{FromNode, Section};

/// The text of a scalar with `${NAME}` replaced; records an error for a list, a mapping or an unset
/// variable.
fn text(section: &Section<'_>, key: &str, node: &Node, wanted: &str) -> Option<String> {
    match &node.value {
        Value::Scalar {
            text,
            style: ScalarStyle::Binary,
        } if !text.is_ascii() => {
            section.error_at(
                node.position,
                key,
                "is !!binary".into(),
                format!("give {wanted}"),
            );
            None
        }
        Value::Scalar { text, .. } if !node.is_null() => match section.environment().expand(text) {
            Ok(text) => Some(text),
            Err(unset) => {
                section.error_at(node.position, key, unset.to_string(), unset.remedy());
                None
            }
        },
        _ => {
            section.error_at(
                node.position,
                key,
                format!("is {}", node.kind()),
                format!("give {wanted}"),
            );
            None
        }
    }
}

fn parsed<T>(
    section: &Section<'_>,
    key: &str,
    node: &Node,
    wanted: &str,
    parse: impl FnOnce(&str) -> Option<T>,
) -> Option<T> {
    let text = text(section, key, node, wanted)?;
    let value = parse(&text);
    if value.is_none() {
        section.error_at(
            node.position,
            key,
            format!("{} is not valid here", shown(key, node)),
            format!("give {wanted}"),
        );
    }
    value
}

/// A wrong value for a message: as it is written, so that a variable's value never shows; not at
/// all under a key that may hold a secret.
fn shown(key: &str, node: &Node) -> String {
    const SECRET: [&str; 8] = [
        "password",
        "secret",
        "token",
        "credential",
        "key",
        "dsn",
        "auth",
        "cookie",
    ];
    const LONGEST: usize = 60;
    let key = key.to_lowercase();
    match &node.value {
        Value::Scalar { text, .. }
            if text.chars().count() <= LONGEST && !SECRET.iter().any(|word| key.contains(word)) =>
        {
            format!("{text:?}")
        }
        _ => "the value".into(),
    }
}

impl FromNode for String {
    fn written(&self) -> Option<String> {
        Some(self.clone()).filter(|text| !text.is_empty())
    }

    fn from_node(section: &Section<'_>, key: &str, node: &Node) -> Option<Self> {
        if node.is_null() {
            return Some(String::new());
        }
        text(section, key, node, "text")
    }
}

impl FromNode for Secret {
    const TYPE: &'static str = "secret";

    fn from_node(section: &Section<'_>, key: &str, node: &Node) -> Option<Self> {
        section.conceal(node);
        text(section, key, node, "text").map(Secret::new)
    }
}

impl FromNode for bool {
    const TYPE: &'static str = "true or false";

    fn written(&self) -> Option<String> {
        Some(self.to_string())
    }

    fn from_node(section: &Section<'_>, key: &str, node: &Node) -> Option<Self> {
        // A quoted word is accepted too: "${FLAG}" must be quoted in many editors' eyes.
        parsed(section, key, node, "true or false", |t| match t {
            "true" | "True" | "TRUE" => Some(true),
            "false" | "False" | "FALSE" => Some(false),
            // YAML 1.1 spellings, which go-yaml accepts for a boolean field.
            "yes" | "on" | "Yes" | "On" | "YES" | "ON" | "y" | "Y" => Some(true),
            "no" | "off" | "No" | "Off" | "NO" | "OFF" | "n" | "N" => Some(false),
            _ => None,
        })
    }
}

macro_rules! whole_numbers {
    ($($kind:ty),*) => {$(
        impl FromNode for $kind {
            const TYPE: &'static str = "whole number";

            fn written(&self) -> Option<String> {
                Some(self.to_string())
            }

            fn from_node(section: &Section<'_>, key: &str, node: &Node) -> Option<Self> {
                let wanted = format!("a whole number from {} to {}", <$kind>::MIN, <$kind>::MAX);
                // A leading zero would mean an octal number to YAML 1.1 and a decimal one to
                // YAML 1.2: neither is guessed.
                parsed(section, key, node, &wanted, |t| if t.len() > 1 && t.starts_with('0') { None } else { t.parse().ok() })
            }
        }
    )*};
}
whole_numbers!(u16, u32, u64, usize, i64);

impl FromNode for f64 {
    const TYPE: &'static str = "number";

    fn written(&self) -> Option<String> {
        Some(self.to_string())
    }

    fn from_node(section: &Section<'_>, key: &str, node: &Node) -> Option<Self> {
        parsed(section, key, node, "a number", |t| t.parse().ok())
    }
}

impl FromNode for Duration {
    const TYPE: &'static str = "duration";

    fn written(&self) -> Option<String> {
        Some(format_duration(*self))
    }

    fn from_node(section: &Section<'_>, key: &str, node: &Node) -> Option<Self> {
        parsed(
            section,
            key,
            node,
            "a duration such as 15s, 5m or 1h30m",
            |t| parse_duration(t).ok(),
        )
    }
}

/// A size such as `10MB`; as in Prometheus each step is 1024, with or without an `i`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ByteSize(pub u64);

impl std::fmt::Display for ByteSize {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        const UNITS: [&str; 5] = ["B", "KB", "MB", "GB", "TB"];
        let mut power = 0;
        while power + 1 < UNITS.len()
            && self.0 != 0
            && self.0.is_multiple_of(1 << (10 * (power + 1)))
        {
            power += 1;
        }
        write!(f, "{}{}", self.0 >> (10 * power), UNITS[power])
    }
}

impl FromNode for ByteSize {
    const TYPE: &'static str = "size";

    fn written(&self) -> Option<String> {
        Some(self.to_string())
    }

    fn from_node(section: &Section<'_>, key: &str, node: &Node) -> Option<Self> {
        parsed(
            section,
            key,
            node,
            "a size such as 512KB, 10MB or 1GB",
            |text| {
                let digits = text
                    .find(|c: char| !c.is_ascii_digit())
                    .unwrap_or(text.len());
                let power = match text[digits..]
                    .trim()
                    .to_ascii_uppercase()
                    .replace('I', "")
                    .as_str()
                {
                    "" | "B" => 0,
                    "K" | "KB" => 1,
                    "M" | "MB" => 2,
                    "G" | "GB" => 3,
                    "T" | "TB" => 4,
                    _ => return None,
                };
                text[..digits]
                    .parse::<u64>()
                    .ok()?
                    .checked_mul(1 << (10 * power))
                    .map(ByteSize)
            },
        )
    }
}

impl FromNode for Url {
    const TYPE: &'static str = "URL";

    fn written(&self) -> Option<String> {
        Some(self.to_string())
    }

    fn from_node(section: &Section<'_>, key: &str, node: &Node) -> Option<Self> {
        let text = text(section, key, node, "a URL such as https://example.org/path")?;
        if splits_its_password(&text) {
            section.error_at(
                node.position,
                key,
                "has an @ in its path: a / in the password?".into(),
                ENCODE.into(),
            );
            return None;
        }
        match Url::parse(&text) {
            Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => Some(url),
            // The text may hold a token: it is not quoted.
            _ => {
                section.error_at(
                    node.position,
                    key,
                    "is not an http or https URL".into(),
                    "give a URL such as https://example.org/path".into(),
                );
                None
            }
        }
    }
}

impl FromNode for PathBuf {
    const TYPE: &'static str = "path";

    fn written(&self) -> Option<String> {
        Some(self.display().to_string())
    }

    fn from_node(section: &Section<'_>, key: &str, node: &Node) -> Option<Self> {
        text(section, key, node, "a path").map(|t| section.resolve(&t))
    }
}

impl<T: FromNode> FromNode for Vec<T> {
    const TYPE: &'static str = "list";

    fn from_node(section: &Section<'_>, key: &str, node: &Node) -> Option<Self> {
        let Value::List(items) = &node.value else {
            if node.is_null() {
                return Some(Vec::new());
            }
            section.error_at(
                node.position,
                key,
                format!("is {}", node.kind()),
                "give a list: [a, b]".into(),
            );
            return None;
        };
        let read = |(i, item): (usize, &Node)| T::from_node(section, &format!("{key}[{i}]"), item);
        Some(items.iter().enumerate().filter_map(read).collect())
    }
}

impl<T: FromNode> FromNode for BTreeMap<String, T> {
    const TYPE: &'static str = "mapping";

    fn from_node(section: &Section<'_>, key: &str, node: &Node) -> Option<Self> {
        let Value::Map(entries) = &node.value else {
            if node.is_null() {
                return Some(BTreeMap::new());
            }
            section.error_at(
                node.position,
                key,
                format!("is {}", node.kind()),
                "give a mapping: {name: value}".into(),
            );
            return None;
        };
        let read = |(name, _, value): &(String, _, Node)| {
            Some((
                name.clone(),
                T::from_node(section, &format!("{key}.{name}"), value)?,
            ))
        };
        Some(entries.iter().filter_map(read).collect())
    }
}

impl FromNode for Labels {
    const TYPE: &'static str = "mapping";

    fn from_node(section: &Section<'_>, key: &str, node: &Node) -> Option<Self> {
        BTreeMap::<String, String>::from_node(section, key, node).map(Labels::from_pairs)
    }
}
