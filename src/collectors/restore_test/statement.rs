//! What becomes of one statement of a dump.

use std::collections::HashSet;

use super::failure::{Failure, Reason};

/// So much of a statement says what it is, in bytes.
const HEAD: usize = 4096;
/// Encodings in which a byte of a character may look like a quote or a backslash.
const CLIENT_ONLY: [&str; 6] = ["SJIS", "BIG5", "GBK", "GB18030", "JOHAB", "UHC"];

/// What the server has.
#[derive(Debug, Default)]
pub struct Known {
    /// Extensions that can be installed.
    pub extensions: HashSet<String>,
    /// Roles.
    pub roles: HashSet<String>,
    /// Settings.
    pub settings: HashSet<String>,
}

/// What of a dump was left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    /// Owners, grants, policies of roles that are missing.
    Privileges,
    /// Extensions that the server does not have.
    Extensions,
    /// Settings that the server does not know.
    Settings,
    /// What belongs to the server, and removals from an empty database.
    Other,
}

impl Left {
    /// All of them, in the order of their counts.
    pub const ALL: [(Left, &'static str); 4] = [
        (Left::Privileges, "privileges"),
        (Left::Extensions, "extensions"),
        (Left::Settings, "settings"),
        (Left::Other, "other"),
    ];
}

/// What is done with a statement.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// It is handed on.
    Pass {
        /// It creates something.
        creates: bool,
        /// Whether backslashes escape from now on; `None`: as before.
        loose: Option<bool>,
    },
    /// It is handed on, and rows follow it.
    Copy,
    /// It is left out.
    Leave(Left),
}

/// Decides by the first words. Until something was created the database is empty: there is nothing
/// to remove.
pub fn decide(statement: &[u8], known: &Known, created: bool) -> Result<Step, Failure> {
    let head = &statement[..statement.len().min(HEAD)];
    let text = String::from_utf8_lossy(head);
    let words: Vec<&str> = text
        .trim_end_matches(';')
        .split_ascii_whitespace()
        .collect();
    let upper: Vec<String> = words
        .iter()
        .take(8)
        .map(|word| word.trim_end_matches(';').to_ascii_uppercase())
        .collect();
    let upper: Vec<&str> = upper.iter().map(String::as_str).collect();
    let pass = |creates| {
        Ok(Step::Pass {
            creates,
            loose: None,
        })
    };
    match upper.as_slice() {
        ["COPY", ..] if ends_with(statement, "FROM STDIN;") => Ok(Step::Copy),
        ["COPY", ..] => Err(Failure::of(
            Reason::Unsupported,
            "a COPY of the dump reads or writes elsewhere",
        )),
        ["GRANT" | "REVOKE", ..]
        | ["ALTER", "DEFAULT", "PRIVILEGES", ..]
        | ["SET", "SESSION", "AUTHORIZATION", ..]
        | ["SET", "ROLE", ..] => Ok(Step::Leave(Left::Privileges)),
        [
            "CREATE" | "ALTER" | "DROP",
            "ROLE" | "USER" | "GROUP",
            next,
            ..,
        ] if *next != "MAPPING" => Err(Failure::of(
            Reason::Unsupported,
            "the dump changes roles, which belong to the whole server",
        )),
        ["ALTER", "SYSTEM", ..] | ["CREATE" | "ALTER" | "DROP", "TABLESPACE", ..] => Err(
            Failure::of(Reason::Unsupported, "the dump changes the whole server"),
        ),
        ["CREATE" | "ALTER" | "DROP", "DATABASE", ..]
        | ["SECURITY", "LABEL", ..]
        | ["CREATE" | "ALTER", "SUBSCRIPTION" | "PUBLICATION", ..]
        | ["CREATE" | "ALTER", "EVENT", "TRIGGER", ..]
        | [
            "COMMENT",
            "ON",
            "DATABASE" | "EXTENSION" | "ROLE" | "TABLESPACE" | "SUBSCRIPTION" | "PUBLICATION"
            | "EVENT" | "LANGUAGE",
            ..,
        ]
        | ["CREATE", "SCHEMA", "PUBLIC"]
        | ["COMMENT", "ON", "SCHEMA", "PUBLIC", ..] => Ok(Step::Leave(Left::Other)),
        ["SET", "DEFAULT_TABLESPACE", "=", value] if *value != "''" => Ok(Step::Leave(Left::Other)),
        ["DROP", ..] if !created => Ok(Step::Leave(Left::Other)),
        ["ALTER", ..] if !created && has(&words, "DROP") => Ok(Step::Leave(Left::Other)),
        ["ALTER", ..] if has_pair(&words, "OWNER", "TO") => Ok(Step::Leave(Left::Privileges)),
        ["CREATE", "EXTENSION", ..] => {
            let is_known = extension(head).is_some_and(|name| known.extensions.contains(&name));
            if is_known {
                pass(true)
            } else {
                Ok(Step::Leave(Left::Extensions))
            }
        }
        ["ALTER", "EXTENSION", ..] => Ok(Step::Leave(Left::Extensions)),
        ["CREATE", "POLICY", ..] if roles(&words).any(|role| !known.roles.contains(role)) => {
            Ok(Step::Leave(Left::Privileges))
        }
        ["SET", name, ..] => set(name.split('=').next().unwrap_or(name), &words, known),
        ["CREATE" | "INSERT", ..] => pass(true),
        _ => pass(false),
    }
}

/// The name in `CREATE EXTENSION IF NOT EXISTS name`.
pub fn extension(statement: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(&statement[..statement.len().min(HEAD)]);
    let mut words = text.split_ascii_whitespace().skip(2);
    let name = words.find(|word| {
        !["IF", "NOT", "EXISTS"]
            .iter()
            .any(|one| word.eq_ignore_ascii_case(one))
    })?;
    Some(name.trim_end_matches(';').trim_matches('"').to_owned())
}

/// `SET name = value`.
fn set(name: &str, words: &[&str], known: &Known) -> Result<Step, Failure> {
    let lower = name.to_ascii_lowercase();
    let value = words
        .last()
        .map(|value| {
            value
                .trim_matches(['\'', '"', ';', '='])
                .to_ascii_uppercase()
        })
        .unwrap_or_default();
    match lower.as_str() {
        "client_encoding" if CLIENT_ONLY.contains(&value.as_str()) => Err(Failure::of(
            Reason::Unsupported,
            format!("the dump is in the encoding {value}; dump in UTF8"),
        )),
        "standard_conforming_strings" => Ok(Step::Pass {
            creates: false,
            loose: Some(value == "OFF"),
        }),
        // Settings of extensions have a dot, and are taken by every server.
        name if name.contains('.')
            || matches!(name, "local" | "session" | "time")
            || known.settings.contains(name) =>
        {
            Ok(Step::Pass {
                creates: false,
                loose: None,
            })
        }
        _ => Ok(Step::Leave(Left::Settings)),
    }
}

/// The roles that a policy is for.
fn roles<'a>(words: &'a [&'a str]) -> impl Iterator<Item = &'a str> {
    let is = |word: &str, wanted: &[&str]| wanted.iter().any(|one| word.eq_ignore_ascii_case(one));
    let named = words
        .iter()
        .skip_while(move |word| !is(word, &["TO"]))
        .skip(1)
        .take_while(move |word| !is(word, &["USING", "WITH"]));
    let names = named
        .flat_map(|word| word.split(','))
        .map(|name| name.trim_matches(['"', ';']))
        .filter(|name| !name.is_empty());
    names.filter(move |name| {
        !is(
            name,
            &["PUBLIC", "CURRENT_USER", "CURRENT_ROLE", "SESSION_USER"],
        )
    })
}

fn has(words: &[&str], wanted: &str) -> bool {
    words.iter().any(|word| word.eq_ignore_ascii_case(wanted))
}

fn has_pair(words: &[&str], first: &str, second: &str) -> bool {
    words
        .windows(2)
        .any(|pair| pair[0].eq_ignore_ascii_case(first) && pair[1].eq_ignore_ascii_case(second))
}

fn ends_with(statement: &[u8], end: &str) -> bool {
    let at = statement.len().saturating_sub(end.len());
    statement[at..].eq_ignore_ascii_case(end.as_bytes())
}
