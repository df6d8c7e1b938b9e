//! The configuration file that is written for what was found.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use super::found::{Found, What, yaml};
use crate::model::text::visible;

/// Kinds in the order in which they are written.
const KINDS: [&str; 12] = [
    "postgres",
    "mysql",
    "redis",
    "sqlite",
    "vector_store",
    "container",
    "supervisor",
    "probe",
    "log_file",
    "access_log",
    "backup",
    "directory",
];

/// What stands above an entry that is a comment.
const REFUSED: &str = "Left out until it can be asked; take the # away then";

/// What does not answer as it is written, and why: by kind and name, or by job and address.
pub type Refused = BTreeMap<(String, String), String>;

/// The whole file. What is refused is written as a comment.
pub fn render(found: &[Found], profile: Option<&str>, made: &str, refused: &Refused) -> String {
    let mut out = format!(
        "# Written by `nightbell init` on {made}, for what it found on this machine: change it as you like.\n"
    );
    out.push_str("# `nightbell check config FILE` says what is wrong with it; docs/collectors.md has every key.\n\n");
    environment(found, &mut out);
    out.push_str("global:\n  scrape_interval: 15s\n  evaluation_interval: 15s\n\n");
    if let Some(profile) = profile {
        let _ = writeln!(
            out,
            "# The figures of one application.\nrules:\n  profiles: [{profile}]\n"
        );
    }
    out.push_str("collectors:\n");
    host(found, &mut out);
    collectors(found, refused, &mut out);
    scrapes(found, refused, &mut out);
    hints(found, &mut out);
    out.push_str(
        "# Who is notified. Critical goes to e-mail, Slack and webhook; warning to Slack and webhook; info to the webhook.\n\
         # notify:\n\
         #   webhook: {url: \"http://127.0.0.1:9000/alerts\"}\n\
         #   slack: {api_url_file: /etc/nightbell/slack, channel: \"#ops\"}\n\n\
         web:\n  listen: 127.0.0.1:9908\n",
    );
    out
}

/// A comment; a text from outside cannot end it.
fn comment(indent: &str, text: &str, out: &mut String) {
    let _ = writeln!(out, "{indent}# {}", visible(text));
}

fn environment(found: &[Found], out: &mut String) {
    let files: Vec<(&Path, &Vec<String>)> = found
        .iter()
        .filter_map(|one| match &one.what {
            What::Environment { path, names } => Some((path.as_path(), names)),
            _ => None,
        })
        .collect();
    out.push_str("# Targets from DATABASE_URL, REDIS_URL, CHROMA_URL, the keys of LLM providers and LLM_PROVIDER, where they are set.\n");
    for (at, (path, names)) in files.iter().enumerate() {
        let text = format!(
            "{} names {}; start with --env-file {}",
            path.display(),
            names.join(", "),
            path.display()
        );
        comment(
            "",
            &if at == 0 {
                text
            } else {
                format!("{text} as well, where its names are other ones")
            },
            out,
        );
    }
    out.push_str("watch_environment: true\n\n");
}

fn host(found: &[Found], out: &mut String) {
    let systemd = found.iter().find(|one| matches!(one.what, What::Systemd));
    let is_bare = systemd.is_none()
        && !found
            .iter()
            .any(|one| matches!(one.what, What::Process { .. }));
    out.push_str(if is_bare { "  host: {}\n" } else { "  host:\n" });
    if let Some(systemd) = systemd {
        comment("    ", &systemd.why, out);
        out.push_str("    enable: [systemd]\n");
    }
    let mut groups = Vec::new();
    let mut ports = BTreeSet::new();
    for one in found {
        if let What::Process {
            name,
            cmdline,
            port,
        } = &one.what
            && let Some(cmdline) = yaml(cmdline)
        {
            groups.push((&one.why, name, cmdline));
            ports.insert(*port);
        }
    }
    if groups.is_empty() {
        return;
    }
    let ports: Vec<String> = ports.iter().map(u16::to_string).collect();
    let _ = writeln!(out, "    ports: [{}]\n    processes:", ports.join(", "));
    let mut names = BTreeSet::new();
    let mut lines = BTreeSet::new();
    for (why, name, cmdline) in groups {
        // A process belongs to the first group that fits: a second one of this pattern is empty.
        if !lines.insert(cmdline.clone()) {
            continue;
        }
        comment("    ", why, out);
        let _ = writeln!(
            out,
            "    - {{name: {}, cmdline: {cmdline}}}",
            unique(name, &mut names)
        );
    }
}

fn collectors(found: &[Found], refused: &Refused, out: &mut String) {
    for wanted in KINDS {
        let (mut names, mut entries, mut is_bare) = (BTreeSet::new(), String::new(), true);
        for one in found {
            let What::Collector {
                kind,
                name,
                keys,
                notes,
            } = &one.what
            else {
                continue;
            };
            // A value that cannot be written was left empty.
            if *kind != wanted || keys.iter().any(|(_, value)| value.is_empty()) {
                continue;
            }
            comment("  ", &format!("{}: {}", one.title, one.why), &mut entries);
            notes
                .iter()
                .for_each(|note| comment("  ", note, &mut entries));
            let keys: String = keys
                .iter()
                .map(|(key, value)| format!(", {key}: {value}"))
                .collect();
            let name = unique(name, &mut names);
            let key = ((*kind).to_owned(), name.trim_matches('"').to_owned());
            let mark = match refused.get(&key) {
                Some(why) => {
                    comment("  ", &format!("{REFUSED}: {why}"), &mut entries);
                    "# "
                }
                None => {
                    is_bare = false;
                    ""
                }
            };
            let _ = writeln!(entries, "  {mark}- {{name: {name}{keys}}}");
        }
        if !names.is_empty() {
            let _ = writeln!(out, "  {}{wanted}:", if is_bare { "# " } else { "" });
            out.push_str(&entries);
        }
    }
    out.push('\n');
}

fn scrapes(found: &[Found], refused: &Refused, out: &mut String) {
    let (mut names, mut entries, mut is_bare) = (BTreeSet::new(), String::new(), true);
    for one in found {
        let What::Scrape { name, address } = &one.what else {
            continue;
        };
        let Some(quoted) = yaml(address) else {
            continue;
        };
        comment("", &one.why, &mut entries);
        let name = unique(name, &mut names);
        let key = (name.trim_matches('"').to_owned(), address.clone());
        let mark = match refused.get(&key) {
            Some(why) => {
                comment("", &format!("{REFUSED}: {why}"), &mut entries);
                "# "
            }
            None => {
                is_bare = false;
                ""
            }
        };
        let _ = writeln!(
            entries,
            "{mark}- job_name: {name}\n{mark}  static_configs: [{{targets: [{quoted}]}}]"
        );
    }
    if !names.is_empty() {
        let _ = writeln!(out, "{}scrape_configs:", if is_bare { "# " } else { "" });
        out.push_str(&entries);
        out.push('\n');
    }
}

fn hints(found: &[Found], out: &mut String) {
    let mut is_first = true;
    for one in found {
        let What::Hint(lines) = &one.what else {
            continue;
        };
        if std::mem::take(&mut is_first) {
            out.push_str(
                "# Found besides, which needs a decision; the lines belong below collectors.\n",
            );
        }
        lines.iter().for_each(|line| comment("", line, out));
    }
    if !is_first {
        out.push('\n');
    }
}

/// A name that none of the others has. Quoted, since one such as `on` or `8000` would be something
/// else than a text.
fn unique(name: &str, names: &mut BTreeSet<String>) -> String {
    let free = |name: &String| !names.contains(name);
    let numbered = (2..).map(|number| format!("{name}-{number}"));
    let found = std::iter::once(name.to_owned())
        .chain(numbered)
        .find(free)
        .unwrap_or_default();
    names.insert(found.clone());
    format!("\"{found}\"")
}

/// Writes the file, for its owner alone. One that is there is replaced as a whole, where that is
/// wanted.
pub fn write(path: &Path, text: &str, replaces: bool) -> io::Result<()> {
    let open = |path: &Path| {
        OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)
    };
    if !replaces {
        return open(path)?.write_all(text.as_bytes());
    }
    let part = path.with_extension(format!("part{}", std::process::id()));
    let written = open(&part)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .and_then(|()| fs::rename(&part, path));
    if written.is_err() {
        let _not_there = fs::remove_file(&part);
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_texts_from_outside_stay_where_they_are() {
        let log = |name: &str, title: &str| {
            Found::collector(
                title,
                "why\nweb: {}",
                "log_file",
                name,
                vec![("path", yaml("/a \"b\"").expect("text"))],
                &[],
            )
        };
        let found = [
            log("app", "log"),
            log("app", "x\n  evil: true"),
            Found::new("h", "", What::Hint(vec!["a\nb: c".into()])),
        ];
        let none = Refused::new();
        let text = render(&found, Some("intent"), "today", &none);
        assert!(
            text.contains("- {name: \"app\", path: \"/a \\\"b\\\"\"}")
                && text.contains("- {name: \"app-2\","),
            "{text}"
        );
        assert!(text.contains("  profiles: [intent]\n"), "{text}");
        assert!(
            !text.lines().any(|line| ["evil", "web: {}", "b: c"]
                .iter()
                .any(|bad| line.trim_start().starts_with(bad))),
            "{text}"
        );
        assert_eq!([yaml("${HOME}"), yaml("a\nb")], [None, None]);
    }
    #[test]
    fn what_does_not_answer_is_a_comment_and_a_pattern_is_written_once() {
        let collector = |kind, name: &str| {
            Found::collector(
                "t",
                "w",
                kind,
                name,
                vec![("url", yaml("x").expect("text"))],
                &[],
            )
        };
        let group = |port| {
            let (name, cmdline) = (format!("app-{port}"), "app".to_owned());
            Found::new(
                "g",
                "w",
                What::Process {
                    name,
                    cmdline,
                    port,
                },
            )
        };
        let scrape = What::Scrape {
            name: "app".into(),
            address: "127.0.0.1:1".into(),
        };
        let found = [
            collector("redis", "a"),
            collector("redis", "b"),
            collector("mysql", "c"),
            group(1),
            group(2),
            Found::new("s", "w", scrape),
        ];
        let refused = [("redis", "b"), ("mysql", "c"), ("app", "127.0.0.1:1")];
        let refused = refused.map(|(kind, name)| ((kind.into(), name.into()), "no\nanswer".into()));
        let text = render(&found, None, "today", &refused.into());
        let lines: Vec<&str> = text.lines().collect();
        for line in [
            "  redis:",
            "  - {name: \"a\", url: \"x\"}",
            "  # - {name: \"b\", url: \"x\"}",
            "  # mysql:",
            "  # - {name: \"c\", url: \"x\"}",
            "# scrape_configs:",
            "# - job_name: \"app\"",
            "    ports: [1, 2]",
        ] {
            assert!(lines.contains(&line), "{line}: {text}");
        }
        assert_eq!(text.matches("cmdline: \"app\"").count(), 1, "{text}");
        assert!(!lines.contains(&"answer"), "{text}");
    }
}
