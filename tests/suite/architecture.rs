//! The promises of ARCHITECTURE.md that a test can check: floors, file sizes, module docs, names,
//! complete tables.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Modules by floor, lowest first; a module imports only from floors below its own.
const FLOORS: [&[&str]; 8] = [
    &["model"],
    &["config", "exposition", "net", "telemetry"],
    &["store", "state", "template", "chart", "http"],
    &["collectors", "promql", "notify", "remote"],
    &["scrape", "rules", "alerting", "maintenance", "report"],
    &["web"],
    &["app"],
    &["cli"],
];

/// Names that say nothing about what is inside.
const FORBIDDEN_NAMES: [&str; 8] = [
    "util", "utils", "common", "helpers", "misc", "base", "manager", "helper",
];

/// Words of no reader's vocabulary, and what stands in CONTRIBUTING's glossary instead. Only whole
/// words are meant.
const FORBIDDEN_WORDS: [(&str, &str); 20] = [
    ("told", "notified"),
    ("courier", "notifier"),
    ("couriers", "notifiers, or deliveries"),
    ("desk", "context"),
    ("relief", "fallback"),
    ("bury", "move to the dead letters"),
    ("buried", "moved to the dead letters"),
    ("obey", "handle"),
    ("bearable", "non-fatal"),
    ("lest", "so that … not"),
    ("for want of", "because there is no"),
    ("whoever", "the client, the caller, the owner"),
    ("those apart", "except"),
    ("slip of the finger", "typo"),
    ("remark", "annotation"),
    ("remarked", "annotated"),
    ("verdict", "decision, or result"),
    ("verdicts", "decisions, or results"),
    ("all the same", "still, or anyway"),
    ("for ever", "until the process ends, or without end"),
];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("the folder can be read") {
        let path = entry.expect("the entry can be read").path();
        if path.is_dir() {
            found.extend(rust_files(&path));
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// Source files with their text, tests at the foot cut off.
fn sources() -> Vec<(PathBuf, String)> {
    let with_text = |path: PathBuf| {
        let text = fs::read_to_string(&path).expect("UTF-8");
        (
            path.strip_prefix(root())
                .expect("below the root")
                .to_owned(),
            text,
        )
    };
    rust_files(&root().join("src"))
        .into_iter()
        .map(with_text)
        .collect()
}

fn without_tests(text: &str) -> &str {
    text.split("#[cfg(test)]\nmod tests").next().unwrap_or(text)
}

fn floor_of(module: &str) -> Option<usize> {
    FLOORS.iter().position(|names| names.contains(&module))
}

fn module_of(path: &Path) -> Option<String> {
    let part = path.components().nth(1)?.as_os_str().to_str()?;
    Some(part.trim_end_matches(".rs").to_owned())
}

fn is_test_file(path: &Path) -> bool {
    path.file_stem().is_some_and(|s| s == "tests")
        || path.components().any(|c| c.as_os_str() == "tests")
}

#[test]
fn a_module_imports_only_from_floors_below_its_own() {
    let mut wrong = Vec::new();
    for (path, text) in sources() {
        let Some(module) = module_of(&path) else {
            continue;
        };
        // The roots of packages and of the program.
        if matches!(module.as_str(), "lib" | "main" | "engine") {
            continue;
        }
        let own = floor_of(&module).unwrap_or_else(|| {
            panic!("module `{module}` stands on no floor: add it to ARCHITECTURE.md and here")
        });
        for (number, line) in text.lines().enumerate() {
            let code = line.split("//").next().unwrap_or("");
            for used in code.split("crate::").skip(1) {
                let name: String = used
                    .chars()
                    .take_while(|c| c.is_ascii_lowercase() || *c == '_')
                    .collect();
                if name != module && floor_of(&name).is_some_and(|floor| floor >= own) {
                    wrong.push(format!(
                        "{}:{}: {module} (floor {own}) uses {name}",
                        path.display(),
                        number + 1
                    ));
                }
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "imports against the floors:\n{}",
        wrong.join("\n")
    );
}

/// A table of fields may be longer: it is looked up, not read.
#[test]
fn no_file_is_longer_than_900_lines() {
    let long: Vec<String> = sources()
        .into_iter()
        .filter(|(path, _)| !is_test_file(path) && !path.ends_with("redis/fields.rs"))
        .map(|(path, text)| (path, without_tests(&text).lines().count()))
        .filter(|(_, lines)| *lines > 900)
        .map(|(path, lines)| format!("{}: {lines} lines", path.display()))
        .collect();
    assert!(long.is_empty(), "split along a noun:\n{}", long.join("\n"));
}

/// A folder that a reader can overlook at a glance. `collectors/host` has one file for each source
/// of the kernel, as node_exporter has.
#[test]
fn no_folder_has_more_than_15_files() {
    let mut files = BTreeMap::<PathBuf, usize>::new();
    for (path, _) in sources() {
        *files
            .entry(path.parent().expect("a folder").to_owned())
            .or_default() += 1;
    }
    files.remove(Path::new("src/collectors/host"));
    files.retain(|_, count| *count > 15);
    assert!(files.is_empty(), "open sub-folders, along nouns: {files:?}");
}

#[test]
fn every_file_opens_with_what_it_is() {
    let bare: Vec<String> = sources()
        .into_iter()
        .filter(|(_, text)| !text.starts_with("//!"))
        .map(|(path, _)| path.display().to_string())
        .collect();
    assert!(bare.is_empty(), "no `//!` at the top:\n{}", bare.join("\n"));
}

#[test]
fn files_have_names_that_mean_something() {
    let vague: Vec<String> = sources()
        .into_iter()
        .filter(|(path, _)| {
            path.components().any(|c| {
                FORBIDDEN_NAMES.contains(&c.as_os_str().to_string_lossy().trim_end_matches(".rs"))
            })
        })
        .map(|(path, _)| path.display().to_string())
        .collect();
    assert!(vague.is_empty(), "rename: {}", vague.join(", "));
}

#[test]
fn texts_use_the_words_of_the_field() {
    let mut texts = sources();
    for name in [
        "README.md",
        "ARCHITECTURE.md",
        "CONTRIBUTING.md",
        "CHANGELOG.md",
    ] {
        texts.push((
            PathBuf::from(name),
            fs::read_to_string(root().join(name)).expect("UTF-8"),
        ));
    }
    for folder in ["rules", "deploy", "docs"] {
        for entry in fs::read_dir(root().join(folder)).expect("the folder can be read") {
            let path = entry.expect("the entry can be read").path();
            if path.is_file() {
                texts.push((
                    PathBuf::from(folder).join(path.file_name().expect("a name")),
                    fs::read_to_string(&path).expect("UTF-8"),
                ));
            }
        }
    }
    let mut found = Vec::new();
    for (path, text) in texts {
        for (number, line) in text.lines().enumerate() {
            let line = line.to_lowercase();
            for (word, instead) in FORBIDDEN_WORDS {
                if has_word(&line, word) {
                    found.push(format!(
                        "{}:{}: {word:?}; write {instead}",
                        path.display(),
                        number + 1
                    ));
                }
            }
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

/// Documents name files that exist, and each page of `docs/` can be reached from the README.
#[test]
fn links_of_documents_lead_to_files() {
    let link = regex::Regex::new(r"\]\(([^)#]+)(?:#[^)]*)?\)").expect("a pattern");
    let mut pages: Vec<PathBuf> = [
        "README.md",
        "ARCHITECTURE.md",
        "CONTRIBUTING.md",
        "CHANGELOG.md",
        "SECURITY.md",
    ]
    .map(PathBuf::from)
    .into();
    let docs: Vec<PathBuf> = ["docs", "docs/reference", "docs/tasks"]
        .iter()
        .flat_map(|folder| {
            fs::read_dir(root().join(folder))
                .expect("the folder can be read")
                .map(move |entry| (folder, entry))
        })
        .map(|(folder, entry)| {
            PathBuf::from(folder).join(entry.expect("the entry can be read").file_name())
        })
        .filter(|page| page.extension().is_some_and(|extension| extension == "md"))
        .collect();
    let readme = fs::read_to_string(root().join("README.md")).expect("UTF-8");
    let mut wrong: Vec<String> = docs
        .iter()
        .filter(|page| !readme.contains(&format!("({})", page.display())))
        .map(|page| format!("README.md leads not to {}", page.display()))
        .collect();
    pages.extend(docs);
    for page in pages {
        let text = fs::read_to_string(root().join(&page)).expect("UTF-8");
        for found in link
            .captures_iter(&text)
            .filter(|found| !found[1].contains("://"))
        {
            if !root()
                .join(&page)
                .parent()
                .expect("a folder")
                .join(&found[1])
                .exists()
            {
                wrong.push(format!("{}: {}", page.display(), &found[1]));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(
        readme.lines().count() <= 120,
        "README is for the first five minutes; the rest belongs to docs/"
    );
}

/// Rules are cited as `SEMANTICS 17`, `SEMANTICS 33 to 38` or `SEMANTICS 125-128, 154`: each is in
/// docs/semantics.md, and each there is cited.
#[test]
fn every_cited_rule_is_in_the_reference_and_every_rule_there_is_cited() {
    let reference = fs::read_to_string(root().join("docs/semantics.md")).expect("UTF-8");
    let rules: BTreeSet<u32> = reference
        .lines()
        .filter_map(|line| line.split_once(". ")?.0.parse().ok())
        .collect();
    let citation =
        regex::Regex::new(r"SEMANTICS (\d+(?:(?: to |-|, and |, | and )\d+)*)").expect("a pattern");
    let numbers = regex::Regex::new(r"(\d+)(?:(?: to |-)(\d+))?").expect("a pattern");
    let mut cited = BTreeSet::new();
    let files = [
        rust_files(&root().join("src")),
        rust_files(&root().join("tests")),
        data_files(&root().join("tests")),
    ]
    .concat();
    for path in files {
        // A citation may go on in the next line of a comment.
        let text = fs::read_to_string(&path).expect("UTF-8");
        let lines: Vec<&str> = text
            .lines()
            .map(|line| line.trim_start().trim_start_matches(['/', '!', '#', ' ']))
            .collect();
        for list in citation.captures_iter(&lines.join(" ")) {
            for range in numbers.captures_iter(&list[1]) {
                let first: u32 = range[1].parse().expect("a number");
                let last = range
                    .get(2)
                    .map_or(first, |last| last.as_str().parse().expect("a number"));
                let unknown: Vec<u32> = (first..=last)
                    .filter(|number| !rules.contains(number))
                    .collect();
                assert!(
                    unknown.is_empty(),
                    "{}: no rule {unknown:?} in docs/semantics.md",
                    path.display()
                );
                cited.extend(first..=last);
            }
        }
    }
    let idle: Vec<&u32> = rules.difference(&cited).collect();
    assert!(
        idle.is_empty(),
        "no code or test cites the rules {idle:?} of docs/semantics.md"
    );
}

/// Test data in text form that may cite rules.
fn data_files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("the folder can be read") {
        let path = entry.expect("the entry can be read").path();
        if path.is_dir() && !path.ends_with("sys") {
            found.extend(data_files(&path));
        } else if path.extension().is_some_and(|e| e == "test" || e == "yml") {
            found.push(path);
        }
    }
    found
}

/// Whether `word` stands in the line by itself, not as a part of another one.
fn has_word(line: &str, word: &str) -> bool {
    let is_letter = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back().is_some_and(is_letter);
        let after = line[at + word.len()..]
            .chars()
            .next()
            .is_some_and(is_letter);
        !before && !after
    })
}

#[test]
fn outside_crates_have_one_door_each() {
    // Crate, and the modules that may name it.
    let doors: [(&str, &[&str]); 5] = [
        ("granit_parser::", &["config"]),
        ("reqwest::", &["http"]),
        ("axum::", &["web"]),
        ("lettre::", &["notify"]),
        ("gotmpl::", &["template"]),
    ];
    let mut wrong = Vec::new();
    for (path, text) in sources() {
        let module = module_of(&path).unwrap_or_default();
        for (krate, allowed) in doors {
            if without_tests(&text).contains(krate) && !allowed.contains(&module.as_str()) {
                wrong.push(format!("{} uses {krate}", path.display()));
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "go through the door:\n{}",
        wrong.join("\n")
    );
}

/// A dependency that no code names is a burden without a use.
#[test]
fn every_dependency_is_used() {
    let engine = fs::read_to_string(root().join("src/engine/lib.rs")).expect("UTF-8");
    let is_engine = |path: &Path| {
        let module = path.iter().nth(1).expect("below src").to_string_lossy();
        engine.contains(&format!("pub mod {module};"))
    };
    for (file, of_engine) in [("Cargo.toml", false), ("src/engine/Cargo.toml", true)] {
        let manifest = fs::read_to_string(root().join(file)).expect("UTF-8");
        let dependencies = manifest
            .split("\n[dependencies]\n")
            .nth(1)
            .and_then(|rest| rest.split("\n[").next())
            .expect("the list");
        let code: String = sources()
            .into_iter()
            .filter(|(path, _)| is_engine(path) == of_engine)
            .map(|(_, text)| text)
            .collect();
        let names = dependencies.lines().filter_map(|line| {
            let name = line
                .split([' ', '.'])
                .next()
                .filter(|name| !name.is_empty())?;
            // The package whose library is called otherwise.
            Some(name.replace('-', "_").replace("md_5", "md5"))
        });
        let unused: Vec<String> = names
            .filter(|name| {
                ![
                    format!("{name}::"),
                    format!("use {name};"),
                    format!("use {name} as"),
                ]
                .iter()
                .any(|form| code.contains(form))
            })
            .collect();
        assert!(unused.is_empty(), "remove from {file}: {unused:?}");
    }
}

#[test]
fn every_collector_and_notifier_file_is_in_its_table() {
    let listed = |folder: &str| -> Vec<String> {
        fs::read_dir(root().join("src").join(folder))
            .expect("the folder can be read")
            .filter_map(|entry| {
                let path = entry.expect("the entry can be read").path();
                let text = fs::read_to_string(if path.is_dir() {
                    path.join("mod.rs")
                } else {
                    path.clone()
                })
                .unwrap_or_default();
                let stem = path.file_stem()?.to_str()?.to_owned();
                (text.contains("pub const KIND") || text.contains("pub static KIND"))
                    .then_some(stem)
            })
            .collect()
    };
    for (folder, table) in [("collectors", "collectors"), ("notify/kinds", "notify")] {
        let table =
            fs::read_to_string(root().join("src").join(table).join("mod.rs")).expect("mod.rs");
        for name in listed(folder) {
            assert!(
                table.contains(&format!("{name}::KIND")),
                "src/{folder}/{name} exports KIND, but the table in mod.rs does not list it"
            );
        }
    }
}

#[test]
fn time_is_an_argument_below_floor_4() {
    let mut wrong = Vec::new();
    for (path, text) in sources() {
        let module = module_of(&path).unwrap_or_default();
        if floor_of(&module).is_some_and(|f| f < 3)
            && !path.ends_with("model/time.rs")
            && !is_test_file(&path)
        {
            for call in ["Timestamp::now()", "SystemTime::now()"] {
                if without_tests(&text).contains(call) {
                    wrong.push(format!("{} calls {call}", path.display()));
                }
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "take `now` as an argument:\n{}",
        wrong.join("\n")
    );
}

/// ARCHITECTURE.md is true: the files and tests that it names exist, every folder of `src/` is on a
/// floor, and it stays short.
#[test]
fn the_architecture_names_what_exists() {
    let text = fs::read_to_string(root().join("ARCHITECTURE.md")).expect("readable");
    let code: Vec<String> = ["src", "tests/suite"]
        .iter()
        .flat_map(|folder| rust_files(&root().join(folder)))
        .map(|file| fs::read_to_string(file).expect("UTF-8"))
        .collect();
    let mut missing: Vec<&str> = text
        .split('`')
        .skip(1)
        .step_by(2)
        .filter(|name| {
            let is_path = ["src/", "tests/", "rules/", "dashboards/", "deploy/"]
                .iter()
                .any(|folder| name.starts_with(folder));
            let is_test = name.matches('_').count() > 4
                && !name.contains(|c: char| {
                    !(c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
                });
            (is_path && !root().join(name).exists())
                || (is_test
                    && !code
                        .iter()
                        .any(|code| code.contains(&format!("fn {name}("))))
        })
        .collect();
    let floors = [FLOORS.concat(), vec!["engine"]].concat();
    let folders: Vec<String> = fs::read_dir(root().join("src"))
        .expect("the folder can be read")
        .filter_map(|entry| {
            let entry = entry.expect("the entry can be read");
            entry
                .path()
                .is_dir()
                .then(|| entry.file_name().to_string_lossy().into_owned())
        })
        .collect();
    missing.extend(folders.iter().map(String::as_str).filter(|folder| {
        !floors.contains(folder)
            || !text.contains(&format!("`{folder}`")) && !text.contains(&format!("`src/{folder}/`"))
    }));
    assert!(
        missing.is_empty(),
        "ARCHITECTURE.md names what is not there, or a folder is missing: {}",
        missing.join(", ")
    );
    assert!(
        text.len() <= 10_000,
        "{} bytes: what changes often belongs to the files themselves",
        text.len()
    );
}
