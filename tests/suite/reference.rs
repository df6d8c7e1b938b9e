//! The reference in `docs/reference/` is what the program prints, and complete: keys, metrics,
//! commands, HTTP paths. `NIGHTBELL_UPDATE=1` writes it anew.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::servers::nightbell::Nightbell;
use crate::servers::wait_until;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn printed(words: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_nightbell"))
        .args(words)
        .output()
        .expect("the binary runs");
    assert!(
        output.status.success(),
        "{words:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// Compares a page of the reference with what is generated, or writes it.
fn page(name: &str, opening: &str, generated: &str) {
    let path = root().join("docs/reference").join(name);
    let text = format!("{opening}\n\n{}\n", generated.trim());
    if std::env::var_os("NIGHTBELL_UPDATE").is_some() {
        fs::create_dir_all(path.parent().expect("a folder")).expect("the folder can be made");
        fs::write(&path, &text).expect("the page can be written");
    }
    let there = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        there == text,
        "docs/reference/{name} is not what the program prints: NIGHTBELL_UPDATE=1 cargo test --test suite reference writes it"
    );
}

/// A page that differs from what the program prints is refused.
#[test]
fn the_pages_are_what_the_program_prints() {
    let how = |command: &str| {
        format!(
            "This page is generated: `nightbell reference {command}` prints it, with a NAME only the pages about it."
        )
    };
    page(
        "configuration.md",
        &format!(
            "# Reference: configuration\n\n{}\n\nA type `secret` takes text, or `${{NAME}}`; durations are `15s`, `5m`, `1h30m`; sizes `512KB`, `10MB`, in steps of 1024. \
             What stands nowhere here is Prometheus's (`global`, `scrape_configs`) or Alertmanager's (`route`, `receivers`), with the additions in [notifications](../notifications.md).",
            how("configuration")
        ),
        &printed(&["reference", "configuration"]),
    );
    page(
        "commands.md",
        &format!("# Reference: commands\n\n{}", how("commands")),
        &printed(&["reference", "commands"]),
    );
    page(
        "metrics.md",
        &format!(
            "# Reference: metrics of the collectors\n\n{}\n\nnightbell's own metrics (`nightbell_*`) are in [own metrics](own-metrics.md).",
            how("metrics")
        ),
        &printed(&["reference", "metrics"]),
    );
    let one = printed(&["reference", "configuration", "collectors.redis"]);
    assert!(
        one.starts_with("## collectors.redis") && one.matches("\n## ").count() == 0,
        "{one}"
    );
    let unknown = Command::new(env!("CARGO_BIN_EXE_nightbell"))
        .args(["reference", "metrics", "nosuch"])
        .output()
        .expect("it runs");
    assert_eq!(unknown.status.code(), Some(1));
}

/// A running nightbell shows no metric of its own that the page does not name.
#[test]
fn own_metrics_are_documented() {
    let nightbell = Nightbell::start(
        "collectors: {host: {}}\nnotify: {webhook: {url: 'http://127.0.0.1:9/'}}\nheartbeat: {url: 'http://127.0.0.1:9/'}\n",
    );
    wait_until("rules are evaluated", Duration::from_secs(60), || {
        nightbell
            .metric("nightbell_rule_evaluations_total")
            .is_some()
    });
    let text = nightbell.get("/metrics").1;
    let mut own: BTreeMap<&str, (&str, &str)> = BTreeMap::new();
    for line in text.lines() {
        let mut words = line.splitn(4, ' ');
        if let (Some("#"), Some(what), Some(name), Some(rest)) =
            (words.next(), words.next(), words.next(), words.next())
            && name.starts_with("nightbell_")
        {
            let entry = own.entry(name).or_default();
            *(if what == "HELP" {
                &mut entry.1
            } else {
                &mut entry.0
            }) = rest;
        }
    }
    assert!(own.len() > 30, "{own:?}");
    let path = root().join("docs/reference/own-metrics.md");
    let mut rows: BTreeMap<String, String> = fs::read_to_string(&path)
        .unwrap_or_default()
        .lines()
        .filter_map(|line| {
            Some((
                line.strip_prefix("| `")?.split_once('`')?.0.to_owned(),
                line.to_owned(),
            ))
        })
        .collect();
    let seen: BTreeMap<String, String> = own
        .iter()
        .map(|(name, (kind, help))| {
            (
                (*name).to_owned(),
                format!("| `{name}` | {kind} | {} |", help.replace('|', "\\|")),
            )
        })
        .collect();
    if std::env::var_os("NIGHTBELL_UPDATE").is_some() {
        rows.extend(seen.clone());
        let lines: Vec<&str> = rows.values().map(String::as_str).collect();
        let opening = "# Reference: nightbell's own metrics\n\nEach as `/metrics` shows it with its HELP. A metric that counts by label appears with its first event.\n\n\
                       | metric | type | meaning |\n|---|---|---|";
        fs::write(&path, format!("{opening}\n{}\n", lines.join("\n")))
            .expect("the page can be written");
    }
    let missing: Vec<&String> = seen
        .iter()
        .filter(|(name, row)| rows.get(*name) != Some(row))
        .map(|(name, _)| name)
        .collect();
    assert!(
        missing.is_empty(),
        "docs/reference/own-metrics.md lacks, or says otherwise of: {missing:?}"
    );
}

/// Every path that a route is written for stands in the page about the HTTP interface.
#[test]
fn every_http_path_is_documented() {
    let page = fs::read_to_string(root().join("docs/http.md")).expect("the page");
    let route = regex::Regex::new(r#"\.route\("(/[^"]*)""#).expect("a pattern");
    let mut missing = BTreeSet::new();
    for file in files(&root().join("src/web")) {
        let text = fs::read_to_string(&file).expect("UTF-8");
        let code = text
            .split("#[cfg(test)]\nmod tests")
            .next()
            .unwrap_or_default();
        for found in route.captures_iter(code) {
            let path = found[1].replace("{*", "{");
            if !page.contains(&path) {
                missing.insert(format!(
                    "{} ({})",
                    path,
                    file.strip_prefix(root()).unwrap_or(&file).display()
                ));
            }
        }
    }
    assert!(missing.is_empty(), "docs/http.md does not name {missing:?}");
}

/// Shells and man get their files from the same source.
#[test]
fn completions_and_manual_pages_come_from_the_commands() {
    for shell in ["bash", "zsh", "fish"] {
        assert!(
            printed(&["completions", shell]).contains("dead-letters"),
            "{shell}"
        );
    }
    let folder = tempfile::tempdir().expect("a folder");
    printed(&["man", &folder.path().join("man1").display().to_string()]);
    let page = fs::read_to_string(folder.path().join("man1/nightbell-silence-add.1"))
        .expect("a page of a command below another");
    assert!(page.contains("nightbell"), "{page}");
}

/// Examples of the documents that say what file they are: a configuration, rules, a test of rules.
/// Each page's are checked together.
#[test]
fn examples_of_the_documents_work() {
    let block = regex::Regex::new(r"(?ms)^ *```yaml (\S+)\n(.*?)^ *```").expect("a pattern");
    let mut checked = 0;
    for page in ["docs", "docs/tasks"]
        .iter()
        .flat_map(|folder| fs::read_dir(root().join(folder)).expect("the folder can be read"))
    {
        let page = page.expect("the entry can be read").path();
        let Ok(text) = fs::read_to_string(&page) else {
            continue;
        };
        let folder = tempfile::tempdir().expect("a folder");
        fs::create_dir(folder.path().join("rules")).expect("a folder");
        fs::write(
            folder.path().join("alertmanager.yml"),
            "route: {receiver: a}\nreceivers: [{name: a}]\n",
        )
        .expect("a file");
        let found: Vec<(&str, &str)> = block
            .captures_iter(&text)
            .map(|found| found.extract::<2>().1.into())
            .collect();
        for (name, content) in &found {
            fs::write(folder.path().join(name), content).expect("the example can be written");
        }
        for (name, _) in &found {
            let words = match *name {
                "nightbell.yml" => ["check", "config", name],
                "rules.yml" => ["check", "rules", name],
                "test.yml" => ["test", "rules", name],
                other => panic!("{}: what is {other}?", page.display()),
            };
            let output = Command::new(env!("CARGO_BIN_EXE_nightbell"))
                .args(words)
                .current_dir(folder.path())
                .output()
                .expect("it runs");
            let said = String::from_utf8_lossy(&output.stdout).into_owned()
                + &String::from_utf8_lossy(&output.stderr);
            assert!(
                output.status.success(),
                "{}: {name}: {said}",
                page.display()
            );
            checked += 1;
        }
    }
    assert!(checked >= 8, "only {checked} examples were found");
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("the folder can be read") {
        let path = entry.expect("the entry can be read").path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found
}
