//! Whether a block of the configuration says the same as before a reload: a hash over its keys, its
//! values with variables replaced, and the contents of the files that `*_file` keys name.

use std::hash::{DefaultHasher, Hash, Hasher};

use crate::config::{Node, Section, Value};

/// The identity of a block, together with what it inherits. Valid within this process only.
pub fn of(section: &Section<'_>, inherited: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    inherited.hash(&mut hasher);
    section.path().split('[').next().hash(&mut hasher);
    add(section, "", section.own_node(), &mut hasher);
    hasher.finish()
}

/// A plain hash, valid within this process only.
pub(in crate::scrape) fn hash(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

fn add(section: &Section<'_>, key: &str, node: &Node, hasher: &mut DefaultHasher) {
    match &node.value {
        Value::Scalar { text, style } => {
            let text = section.environment().expand(text).unwrap_or_default();
            if key.ends_with("_file") {
                std::fs::read(section.resolve(&text))
                    .unwrap_or_default()
                    .hash(hasher);
            }
            (text, *style as u8).hash(hasher);
        }
        Value::List(items) => {
            items.len().hash(hasher);
            items
                .iter()
                .for_each(|item| add(section, key, item, hasher));
        }
        Value::Map(entries) => {
            entries.len().hash(hasher);
            for (key, _, value) in entries {
                key.hash(hasher);
                add(section, key, value, hasher);
            }
        }
    }
}
