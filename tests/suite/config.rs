//! Configuration files: twenty broken ones and what is said about each (issue 2, proof 5), and
//! realistic ones that must load.
//!
//! `tests/config/broken/<name>.yml` stands beside `<name>.err`, the whole message.
//! NIGHTBELL_UPDATE=1 rewrites the messages.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nightbell::config::{ConfigErrors, Document, Environment, Loader};
use nightbell::scrape::{CollectorTarget, Global, Job, read_collectors, read_jobs};

struct Read {
    global: Global,
    jobs: Vec<Job>,
    collectors: Vec<CollectorTarget>,
}

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/config")
        .join(name)
}

fn files(name: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder(name)).expect("the folder is there");
    let mut found: Vec<PathBuf> = entries
        .map(|e| e.expect("readable").path())
        .filter(|p| p.extension().is_some_and(|e| e == "yml"))
        .collect();
    found.sort();
    found
}

fn read_text(name: &str, text: &str) -> Result<Read, ConfigErrors> {
    let document = Document::parse(name, text)?;
    let environment = Environment::from_pairs([("API_TOKEN", "hunter2")]);
    let loader = Loader::new(&document, &environment, Path::new("/etc/nightbell"));
    let root = loader.root();
    let block = root.section("global");
    let global = Global::read(block.as_ref());
    if let Some(block) = &block {
        block.finish();
    }
    let read = Read {
        jobs: read_jobs(&root, &global),
        collectors: read_collectors(&root, &global),
        global,
    };
    root.finish();
    drop((block, root));
    loader.finish(read)
}

fn read(path: &Path) -> Result<Read, ConfigErrors> {
    let name = path.file_name().and_then(|n| n.to_str()).expect("a name");
    read_text(name, &fs::read_to_string(path).expect("readable"))
}

/// Every message names file, line, column, key and remedy; all mistakes of a file come at once; no
/// secret is among them.
#[test]
fn broken_files_are_explained() {
    let mut wrong = Vec::new();
    let files = files("broken");
    assert!(files.len() >= 20);
    for path in files {
        let Err(errors) = read(&path) else {
            wrong.push(format!("{} was accepted", path.display()));
            continue;
        };
        let got = format!("{errors}\n");
        assert!(!got.contains("hunter2"), "{}: {got}", path.display());
        let golden = path.with_extension("err");
        if std::env::var_os("NIGHTBELL_UPDATE").is_some() {
            fs::write(&golden, &got).expect("written");
        }
        let want = fs::read_to_string(&golden).unwrap_or_default();
        if got != want {
            wrong.push(format!("{}:\n{got}instead of\n{want}", path.display()));
        }
        for error in &errors.0 {
            assert!(
                !error.remedy.is_empty(),
                "{}: no remedy: {error}",
                path.display()
            );
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn realistic_files_load() {
    for path in files("good") {
        if let Err(errors) = read(&path) {
            panic!("{}:\n{errors}", path.display());
        }
    }
}

/// A `prometheus.yml` means here what it means there: defaults (SEMANTICS 29), inheritance, raw
/// `${1}`.
#[test]
fn values_mean_what_prometheus_takes_them_for() {
    let read =
        read(&folder("good").join("everything-documented.yml")).unwrap_or_else(|e| panic!("{e}"));
    let job = &read.jobs[0];
    assert_eq!(
        (job.interval, job.timeout),
        (Duration::from_secs(50), Duration::from_secs(5))
    );
    assert_eq!(
        (job.limits.body_size, job.limits.samples, job.limits.targets),
        (10 << 20, 1000, 35)
    );
    assert!(job.honor_labels && job.honor_timestamps && !job.track_timestamps_staleness);
    assert_eq!(job.files[0], Path::new("/etc/nightbell/foo/*.slow.json"));
    assert_eq!(
        job.accept,
        "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.6,\
         application/openmetrics-text;version=1.0.0;escaping=underscores;q=0.5,*/*;q=0.4"
    );
    assert_eq!(read.global.external_labels.value("monitor"), "codelab");
    assert_eq!(read.global.rule_query_offset, Duration::from_secs(5));

    let read = read_text(
        "n.yml",
        "scrape_configs: [{job_name: a}, {job_name: b, scrape_interval: 5s}]",
    )
    .unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(
        (read.jobs[0].interval, read.jobs[0].timeout),
        (Duration::from_secs(60), Duration::from_secs(10))
    );
    assert_eq!(
        read.jobs[1].timeout,
        Duration::from_secs(5),
        "the default timeout yields to a shorter interval"
    );
    let zero = "global: {scrape_interval: 0s, scrape_timeout: 0s, evaluation_interval: 0s}\nscrape_configs: [{job_name: a, scrape_interval: 0s}]";
    let read = read_text("n.yml", zero).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(
        (read.jobs[0].interval, read.global.evaluation_interval),
        (Duration::from_secs(60), None),
        "0 is the default, as in Prometheus"
    );
}

/// Collectors share their common keys; a disabled one is checked but not run.
#[test]
fn collectors_are_read_by_kind_and_name() {
    let read = read(&folder("good").join("collectors.yml")).unwrap_or_else(|e| panic!("{e}"));
    let seen: Vec<(&str, &str, &str, u64)> = read
        .collectors
        .iter()
        .map(|c| {
            (
                c.kind,
                c.job.as_str(),
                c.target.name.as_str(),
                c.target.interval.as_secs(),
            )
        })
        .collect();
    assert_eq!(
        seen,
        [
            ("redis", "redis", "cache", 10),
            ("redis", "redis-queue", "queue", 30),
            ("sqlite", "sqlite", "sqlite", 10)
        ]
    );
    assert_eq!(read.collectors[0].labels.value("tier"), "cache");
    let bare = read_text("n.yml", "collectors: {redis: {url: 'redis://localhost'}}")
        .unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(
        bare.collectors[0].target.interval,
        Duration::from_secs(15),
        "collectors need no global block"
    );
}

/// A reload must know an unchanged block again, and a changed one, also when only an inherited
/// value or a secret's file changed.
#[test]
fn equal_blocks_have_equal_identities() {
    let secret = tempfile::NamedTempFile::new().expect("a file");
    fs::write(secret.path(), "one").expect("written");
    let text = format!(
        "scrape_configs:\n- {{job_name: a, basic_auth: {{username: u, password_file: {}}}}}\n- {{job_name: b}}\n",
        secret.path().display()
    );
    let identity = |text: &str| -> Vec<u64> {
        read_text("n.yml", text)
            .unwrap_or_else(|e| panic!("{e}"))
            .jobs
            .iter()
            .map(|j| j.identity)
            .collect()
    };
    let first = identity(&text);
    assert_eq!(first, identity(&text));
    assert_ne!(first[0], first[1]);
    fs::write(secret.path(), "two").expect("written");
    let second = identity(&text);
    assert_ne!(first[0], second[0], "the secret changed");
    assert_eq!(first[1], second[1]);
    assert_ne!(
        second[1],
        identity(&format!("global: {{scrape_interval: 5s}}\n{text}"))[1],
        "an inherited value changed"
    );
}

/// YAML's odd corners: a byte order mark, Windows line ends, an empty file, comments only, JSON.
#[test]
fn odd_but_valid_files_load() {
    for text in [
        "\u{feff}global: {scrape_interval: 5s}\n",
        "global:\r\n  scrape_interval: 5s\r\n",
        "{\"global\": {\"scrape_interval\": \"5s\"}}",
        "%YAML 1.2\n---\nglobal: {scrape_interval: 5s}\n...\n",
    ] {
        let read = read_text("n.yml", text).unwrap_or_else(|e| panic!("{text:?}: {e}"));
        assert_eq!(
            read.global.scrape_interval,
            Duration::from_secs(5),
            "{text:?}"
        );
    }
    for text in [
        "",
        "# nothing\n",
        "---\n",
        "global:\nscrape_configs:\ncollectors:\n",
    ] {
        assert_eq!(
            read_text("n.yml", text)
                .unwrap_or_else(|e| panic!("{text:?}: {e}"))
                .global,
            Global::default(),
            "{text:?}"
        );
    }
}
