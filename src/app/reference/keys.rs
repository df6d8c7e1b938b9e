//! Pages of configuration keys: the sample with its comments, beside what the code asks for when it
//! reads it.

use std::collections::BTreeMap;

use crate::app::config::Config;
use crate::config::{AskedKey, Document, Node, Value};

/// One page: a sample of a block, with a comment above each key.
pub struct Page {
    /// Its headline, by which the command finds it.
    pub title: &'static str,
    /// The path of the block that it is about, with a point at its end; empty for the root.
    block: &'static str,
    text: &'static str,
    /// The keys of the block that belong here.
    scope: Scope,
}

/// Which keys of a block a page is about. A name that ends in `*` stands for whatever begins so.
enum Scope {
    Only(&'static [&'static str]),
    AllBut(&'static [&'static [&'static str]]),
}

use Scope::{AllBut, Only};

/// Keys that every collector has.
const OF_ALL: &[&str] = &["name", "job", "interval", "timeout", "labels", "enabled"];
/// Keys of whatever asks an HTTP server.
const HTTP: &[&str] = &[
    "authorization",
    "basic_auth",
    "bearer_token*",
    "enable_http2",
    "follow_redirects",
    "http_headers",
    "no_proxy",
    "oauth2",
    "proxy_*",
    "tls_config",
];
/// The same, in the block `bucket` of `backup`.
const BUCKET_HTTP: &[&str] = &[
    "bucket.authorization",
    "bucket.basic_auth",
    "bucket.bearer_token*",
    "bucket.enable_http2",
    "bucket.follow_redirects",
    "bucket.http_headers",
    "bucket.no_proxy",
    "bucket.oauth2",
    "bucket.proxy_*",
    "bucket.tls_config",
];
/// Keys of single queries.
const QUERIES: &[&str] = &["queries[]*"];
/// Keys of Prometheus and Alertmanager, which their documentation describes, and those of a
/// receiver's integration.
const OF_OTHERS: &[&str] = &[
    "alerting",
    "collectors*",
    "global*",
    "inhibit_rules",
    // Asked for beside `schedule`, and refused.
    "maintenance_windows[].every",
    "mute_time_intervals",
    "notify.command",
    "otlp",
    "receivers",
    "recovery[].http_config",
    "recovery[].language",
    "recovery[].match",
    "recovery[].match_re",
    "recovery[].max_alerts",
    "recovery[].method",
    "recovery[].payload",
    "recovery[].send_resolved",
    "recovery[].timezone",
    "remote_*",
    "route",
    "rule_files",
    "runtime",
    "scrape_config*",
    "storage.exemplars",
    "storage.tsdb*",
    "templates",
    "time_intervals",
    "tracing",
];

macro_rules! pages {
    ($($file:literal $title:literal $block:literal $scope:expr;)*) => {
        /// Every page, in the order of the reference.
        pub const PAGES: &[Page] =
            &[$(Page { title: $title, block: $block, text: include_str!(concat!($file, ".yml")), scope: $scope }),*];
    };
}

pages! {
    "blocks" "Blocks" "" AllBut(&[OF_OTHERS]);
    "collectors" "Every collector" "collectors.redis." Only(OF_ALL);
    "access_log" "collectors.access_log" "collectors.access_log." AllBut(&[OF_ALL]);
    "backup" "collectors.backup" "collectors.backup." AllBut(&[OF_ALL, BUCKET_HTTP]);
    "container" "collectors.container" "collectors.container." AllBut(&[OF_ALL]);
    "directory" "collectors.directory" "collectors.directory." AllBut(&[OF_ALL]);
    "file_integrity" "collectors.file_integrity" "collectors.file_integrity." AllBut(&[OF_ALL]);
    "host" "collectors.host" "collectors.host." AllBut(&[OF_ALL]);
    "job" "collectors.job" "collectors.job." AllBut(&[OF_ALL]);
    "json_api" "collectors.json_api" "collectors.json_api." AllBut(&[OF_ALL, HTTP, &["module", "modules_file", "target"]]);
    "llm_provider" "collectors.llm_provider" "collectors.llm_provider." AllBut(&[OF_ALL, HTTP]);
    "llm_proxy" "collectors.llm_proxy" "collectors.llm_proxy." AllBut(&[OF_ALL, HTTP, &["prices_file"]]);
    "llm_server" "collectors.llm_server" "collectors.llm_server." AllBut(&[OF_ALL, HTTP]);
    "log_file" "collectors.log_file" "collectors.log_file." AllBut(&[OF_ALL]);
    "mysql" "collectors.mysql" "collectors.mysql." AllBut(&[OF_ALL, QUERIES]);
    "object_storage" "collectors.object_storage" "collectors.object_storage." AllBut(&[OF_ALL, HTTP]);
    "otlp" "collectors.otlp" "collectors.otlp." AllBut(&[OF_ALL, &["prices_file"]]);
    "postgres" "collectors.postgres" "collectors.postgres." AllBut(&[OF_ALL, QUERIES]);
    "probe" "collectors.probe" "collectors.probe." AllBut(&[OF_ALL, HTTP, &["module", "modules_file", "target"]]);
    "redis" "collectors.redis" "collectors.redis." AllBut(&[OF_ALL]);
    "restore_test" "collectors.restore_test" "collectors.restore_test." AllBut(&[OF_ALL]);
    "retrieval" "collectors.retrieval" "collectors.retrieval." AllBut(&[OF_ALL, HTTP]);
    "sqlite" "collectors.sqlite" "collectors.sqlite." AllBut(&[OF_ALL, QUERIES]);
    "supervisor" "collectors.supervisor" "collectors.supervisor." AllBut(&[OF_ALL, HTTP]);
    "updates" "collectors.updates" "collectors.updates." AllBut(&[OF_ALL, HTTP]);
    "vector_store" "collectors.vector_store" "collectors.vector_store." AllBut(&[OF_ALL, HTTP]);
    "queries" "Queries of your own" "collectors.postgres." Only(QUERIES);
    "http_settings" "HTTP settings" "collectors.json_api." Only(HTTP);
}

impl Page {
    /// Whether a key, by its path below the block, belongs to this page.
    fn is_about(&self, key: &str) -> bool {
        let among = |names: &[&str]| {
            names.iter().any(|name| match name.strip_suffix('*') {
                Some(start) => key.starts_with(start),
                None => key
                    .strip_prefix(name)
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '['])),
            })
        };
        match self.scope {
            Only(names) => among(names),
            AllBut(lists) => !lists.iter().any(|names| among(names)),
        }
    }
}

/// The rows of a page.
pub(super) struct Keys {
    /// What the block is for.
    pub about: String,
    /// Its keys, in the order of the sample.
    pub rows: Vec<Row>,
    /// The sample without its comments.
    pub sample: String,
}

/// One key.
pub(super) struct Row {
    pub path: String,
    pub kind: &'static str,
    pub required: bool,
    pub default: String,
    pub meaning: String,
}

/// A page as it was read.
#[derive(Default)]
struct Read {
    /// Paths below the block with their comments, in the order of the sample.
    written: Vec<(String, String)>,
    /// Keys whose value stands in their own line: what they hold is explained with them.
    flat: Vec<String>,
    /// What the code asks for, by paths below the block.
    asked: BTreeMap<String, AskedKey>,
    /// Mistakes in the sample.
    mistakes: Vec<String>,
}

/// A page's keys.
pub(super) fn keys(page: &Page) -> Result<Keys, String> {
    let (about, _) = page
        .text
        .split_once("\n\n")
        .ok_or("a page begins with what the block is for")?;
    let about = about
        .lines()
        .map(|line| line.trim_start_matches(['#', ' ']))
        .collect::<Vec<_>>()
        .join(" ");
    let read = read(page)?;
    let mut rows = Vec::new();
    for (path, meaning) in read.written {
        let known = read.asked.get(&path).cloned().unwrap_or_default();
        let file = format!("{path}_file");
        let meaning = match read.asked.contains_key(&file) && known.kind == "secret" {
            true => format!(
                "{meaning} Or `{}` names a file that holds it.",
                file.rsplit('.').next().unwrap_or(&file)
            ),
            false => meaning,
        };
        rows.push(Row {
            kind: if known.kind.is_empty() {
                "several forms"
            } else {
                known.kind
            },
            required: known.required,
            default: known.default.unwrap_or_default(),
            path,
            meaning,
        });
    }
    Ok(Keys {
        about,
        rows,
        sample: without_comments(page.text),
    })
}

/// What is wrong with a page: keys that it omits, keys that do not exist, mistakes in its sample.
pub fn problems(page: &Page) -> Vec<String> {
    let read = match read(page) {
        Ok(read) => read,
        Err(problem) => return vec![problem],
    };
    let mut problems = read.mistakes;
    for (path, _) in &read.written {
        if !read.asked.contains_key(path)
            && !read
                .asked
                .keys()
                .any(|asked| asked.starts_with(&format!("{path}.")))
        {
            problems.push(format!("{}: no code asks for {path}", page.title));
        }
    }
    for (path, _) in read.asked.iter().filter(|(path, _)| page.is_about(path)) {
        let is_below = |other: &String| {
            path.strip_prefix(other.as_str())
                .is_some_and(|rest| rest.starts_with(['.', '[']))
        };
        let is_file = path
            .strip_suffix("_file")
            .is_some_and(|key| read.asked.contains_key(key));
        // A list of mappings is asked for as a whole, then entry by entry; names that the user
        // chooses have no meaning of their own.
        let has_written_keys = read
            .written
            .iter()
            .any(|(other, _)| other.starts_with(&format!("{path}.")));
        let is_written = read.written.iter().any(|(other, _)| is_alike(other, path));
        if !(is_written || is_file || has_written_keys || read.flat.iter().any(is_below)) {
            problems.push(format!("{}: {path} has no comment", page.title));
        }
    }
    problems
}

/// Whether two paths are equal, except for a name that the user chooses: `count.requests.regex`,
/// `count.failures.regex`.
fn is_alike(a: &str, b: &str) -> bool {
    let parts = |path: &str| -> Option<(String, String)> {
        let (above, key) = path.rsplit_once('.')?;
        Some((above.rsplit_once('.')?.0.to_owned(), key.to_owned()))
    };
    a == b || parts(a).is_some_and(|of_a| parts(b) == Some(of_a))
}

/// Reads a page's samples as configurations, and the comments above their keys.
fn read(page: &Page) -> Result<Read, String> {
    let mut read = Read::default();
    for sample in page.text.split("\n---\n") {
        let title = format!("reference of {}", page.title);
        let document = Document::parse(&title, sample).map_err(|error| error.to_string())?;
        let lines: Vec<&str> = sample.lines().collect();
        comments(&document.root, "", &lines, page.block, &mut read);
        let (asked, mistakes) =
            Config::asked_keys(&title, sample).map_err(|errors| errors.to_string())?;
        for (path, key) in asked {
            if let Some(path) = path.strip_prefix(page.block) {
                read.asked.entry(path.to_owned()).or_insert(key);
            }
        }
        // Files that a sample names are not on every machine.
        let is_about_a_file = |mistake: &str| {
            ["cannot be read", "does not exist", "is not a folder"]
                .iter()
                .any(|words| mistake.contains(words))
        };
        read.mistakes.extend(
            mistakes
                .0
                .iter()
                .map(ToString::to_string)
                .filter(|mistake| !is_about_a_file(mistake)),
        );
    }
    Ok(read)
}

/// Collects the comments above the keys of a mapping, and of the mappings below it.
fn comments(node: &Node, path: &str, lines: &[&str], block: &str, read: &mut Read) {
    match &node.value {
        Value::Map(entries) => {
            for (key, position, value) in entries {
                let path = if path.is_empty() {
                    key.clone()
                } else {
                    format!("{path}.{key}")
                };
                let line = position.line as usize - 1;
                let begins_its_line = lines[line][..position.column as usize - 1]
                    .trim_start_matches([' ', '-'])
                    .is_empty();
                if let Some(below) = path.strip_prefix(block)
                    && begins_its_line
                {
                    let meaning = comment_above(lines, line);
                    if !meaning.is_empty() && !read.written.iter().any(|(other, _)| other == below)
                    {
                        read.written.push((below.to_owned(), meaning));
                    }
                    if value.position.line == position.line {
                        read.flat.push(below.to_owned());
                    }
                }
                comments(value, &path, lines, block, read);
            }
        }
        Value::List(items) => items
            .iter()
            .for_each(|item| comments(item, &format!("{path}[]"), lines, block, read)),
        Value::Scalar { .. } => {}
    }
}

/// The comment that ends above a line. In a list it may stand after the dash of the entry that the
/// line begins.
fn comment_above(lines: &[&str], line: usize) -> String {
    let mut found = Vec::new();
    for above in lines[..line].iter().rev() {
        let text = above.trim_start();
        let Some(comment) = text.strip_prefix("- ").unwrap_or(text).strip_prefix("# ") else {
            break;
        };
        found.push(comment);
        if text.starts_with('-') {
            break;
        }
    }
    found.reverse();
    found.join(" ")
}

/// A sample as one would write it.
fn without_comments(text: &str) -> String {
    let mut sample = String::new();
    // The dash of a list's entry that begins with a comment moves to the key below.
    let mut dash = None;
    for line in text.lines().filter(|line| !line.is_empty()) {
        let code = line.trim_start();
        let indent = &line[..line.len() - code.len()];
        if code.starts_with("- #") {
            dash = Some(indent);
        } else if !code.starts_with('#') {
            match dash.take() {
                Some(indent) => sample.push_str(&format!("{indent}- {code}\n")),
                None => sample.push_str(&format!("{line}\n")),
            }
        }
    }
    sample
}
