//! What was found: what it is, why that is believed, and what is written for it.

use std::path::PathBuf;

use crate::model::text::visible;

/// One thing that was found.
#[derive(Clone, Debug)]
pub struct Found {
    /// What it is, for people.
    pub title: String,
    /// Why that is believed.
    pub why: String,
    /// What is written for it.
    pub what: What,
}

/// What is written for it.
#[derive(Clone, Debug)]
pub enum What {
    /// An entry of `collectors`.
    Collector {
        /// The kind.
        kind: &'static str,
        /// The name, made unique when it is written.
        name: String,
        /// Further keys, with their values as YAML.
        keys: Vec<(&'static str, String)>,
        /// Comments: what the entry needs, what it could have besides.
        notes: Vec<String>,
    },
    /// A Prometheus endpoint.
    Scrape {
        /// The job.
        name: String,
        /// Host and port.
        address: String,
    },
    /// A group of processes that must be there.
    Process {
        /// The group.
        name: String,
        /// What its command lines have in common, as a regular expression.
        cmdline: String,
        /// The port that it listens on.
        port: u16,
    },
    /// Units of systemd.
    Systemd,
    /// A file of variables, some of which nightbell knows by name.
    Environment {
        /// The file.
        path: PathBuf,
        /// The names that are known here.
        names: Vec<String>,
    },
    /// Lines that are written as comments.
    Hint(Vec<String>),
}

impl Found {
    /// A find. What comes from outside steers no terminal.
    pub fn new(title: impl AsRef<str>, why: impl AsRef<str>, what: What) -> Self {
        Found {
            title: visible(title.as_ref()).into_owned(),
            why: visible(why.as_ref()).into_owned(),
            what,
        }
    }

    /// An entry of `collectors`.
    pub fn collector(
        title: &str,
        why: &str,
        kind: &'static str,
        name: &str,
        keys: Vec<(&'static str, String)>,
        notes: &[&str],
    ) -> Self {
        let notes = notes.iter().map(|note| (*note).to_owned()).collect();
        Found::new(
            title,
            why,
            What::Collector {
                kind,
                name: label(name),
                keys,
                notes,
            },
        )
    }
}

/// A text in YAML. `None` for one that YAML or the configuration would read as something else.
pub fn yaml(text: &str) -> Option<String> {
    if text.contains("${") || text.chars().any(char::is_control) {
        return None;
    }
    serde_json::to_string(text).ok()
}

/// A name for an entry: letters, digits, `-`, `_` and `.`.
pub fn label(text: &str) -> String {
    let name: String = text
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || "-_.".contains(c) {
                c
            } else {
                '-'
            }
        })
        .collect();
    let name = name.trim_matches(['-', '.', '_']);
    if name.is_empty() {
        "found".to_owned()
    } else {
        name.chars().take(60).collect()
    }
}
