//! What a Python environment has installed, and what its index says of it: the newest version, and
//! the known vulnerabilities of the installed one.
//!
//! Installed packages are read from the folders `*.dist-info`
//! (<https://packaging.python.org/en/latest/specifications/recording-installed-packages/>); no
//! Python is run. The index is asked by PyPI's JSON API (<https://docs.pypi.org/api/json/>), whose
//! vulnerabilities are also what pip-audit reads: a package at a time, a few in each collection, each
//! once a day. What was installed from a folder, a file or a repository is never asked for, since
//! its name may be nobody's business.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use url::Url;

use super::version::python;
use crate::http::{Client, Request};
use crate::model::Timestamp;

/// Packages of one environment at most.
const MAX_PACKAGES: usize = 1000;
/// Longest name or version that is looked at, in bytes.
const MAX_TEXT: usize = 100;
/// Packages that are asked for in one collection.
const BATCH: usize = 10;
/// Largest answer, in bytes: a package with thousands of files has 10 MB.
const MAX_BODY: usize = 24 << 20;
/// Versions that are remembered.
const MAX_KEPT: usize = 5000;
/// How long after the index failed it is asked again.
const PAUSE: Duration = Duration::from_secs(300);

/// A package that is installed: its normalized name and its version.
pub type Installed = (String, String);

/// What an environment has.
#[derive(Clone, Debug, Default)]
pub struct Environment {
    /// What the index can be asked for.
    pub packages: Vec<Installed>,
    /// Packages installed from elsewhere, or whose folder has another form.
    pub others: usize,
}

/// What the index said of a version.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Said {
    /// The newest version; empty where the index does not know the package.
    pub latest: String,
    /// Known vulnerabilities of the installed version.
    pub vulnerabilities: u64,
    /// When it was asked, Unix seconds.
    pub at: i64,
}

/// What the index said, by package and version.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Kept(BTreeMap<String, Said>);

/// Reads an environment: its folder, or that of its packages.
pub fn installed(path: &Path) -> io::Result<Environment> {
    let mut found = Environment::default();
    let mut is_any = false;
    for folder in folders(path)? {
        is_any = true;
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            let name = path.file_name().and_then(|name| name.to_str());
            let Some(stem) = name.and_then(|name| name.strip_suffix(".dist-info")) else {
                continue;
            };
            if found.packages.len() >= MAX_PACKAGES {
                return Err(io::Error::other(format!(
                    "there are more than {MAX_PACKAGES} packages"
                )));
            }
            let pair = stem
                .split_once('-')
                .filter(|_| stem.len() <= MAX_TEXT)
                .filter(|(name, version)| is_plain(name) && is_plain(version));
            match pair {
                Some((name, version)) if !path.join("direct_url.json").exists() => {
                    found.packages.push((normalized(name), version.to_owned()));
                }
                _ => found.others += 1,
            }
        }
    }
    if !is_any {
        return Err(io::Error::other(
            "there is no lib/python3.*/site-packages in it",
        ));
    }
    found.packages.sort();
    found.packages.dedup();
    Ok(found)
}

/// What can stand in a path of the index as it is.
fn is_plain(text: &str) -> bool {
    !text.is_empty()
        && !text.starts_with('.')
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "._-+!".contains(c))
}

/// The folders of packages of an environment.
fn folders(path: &Path) -> io::Result<Vec<PathBuf>> {
    let is_packages = path
        .file_name()
        .is_some_and(|name| name == "site-packages" || name == "dist-packages");
    if is_packages {
        return Ok(vec![path.to_owned()]);
    }
    fs::metadata(path)?;
    let mut found = Vec::new();
    // lib64 is a link to lib.
    for entry in fs::read_dir(path.join("lib"))? {
        let entry = entry?;
        let is_python = entry
            .file_name()
            .to_str()
            .is_some_and(|name| name.starts_with("python"));
        let packages = entry.path().join("site-packages");
        if is_python && packages.is_dir() {
            found.push(packages);
        }
    }
    found.sort();
    Ok(found)
}

/// A package's name as the index has it.
fn normalized(name: &str) -> String {
    let mut normal = String::with_capacity(name.len());
    for c in name.chars() {
        match c {
            '-' | '_' | '.' if normal.ends_with('-') => {}
            '-' | '_' | '.' => normal.push('-'),
            c => normal.push(c.to_ascii_lowercase()),
        }
    }
    normal
}

impl Said {
    /// Whether there is a newer version.
    pub fn is_outdated(&self, installed: &str) -> bool {
        python(&self.latest, installed) == Some(Ordering::Greater)
    }
}

#[derive(Deserialize)]
struct Answer {
    info: Info,
    #[serde(default)]
    vulnerabilities: Vec<Vulnerability>,
}

#[derive(Deserialize)]
struct Info {
    version: String,
}

#[derive(Deserialize)]
struct Vulnerability {
    /// When the report was taken back.
    #[serde(default)]
    withdrawn: Option<String>,
}

/// The index, and what it is asked next.
pub struct Index {
    /// Where it is.
    pub url: Url,
    /// How it is asked.
    pub client: Client,
    /// How long an answer holds.
    pub every: Duration,
    /// What it said.
    pub kept: Kept,
    /// What it said has changed since it was saved.
    pub is_changed: bool,
    /// Why it does not answer, and since when.
    pub failure: Option<(Instant, String)>,
    /// Whether it was ever asked.
    pub is_asked: bool,
}

impl Kept {
    fn key(package: &Installed) -> String {
        format!("{}=={}", package.0, package.1)
    }

    /// What was said of this.
    pub fn said(&self, package: &Installed) -> Option<&Said> {
        self.0.get(&Self::key(package))
    }
}

impl Index {
    /// Asks for a few of these, those first that were never asked for; until the deadline.
    pub async fn ask<'p>(
        &mut self,
        packages: impl Iterator<Item = &'p Installed>,
        deadline: Instant,
    ) {
        if self
            .failure
            .as_ref()
            .is_some_and(|(since, _)| since.elapsed() < PAUSE)
        {
            return;
        }
        let now = Timestamp::now().0 / 1000;
        let old = now - i64::try_from(self.every.as_secs()).unwrap_or(i64::MAX);
        let mut due: Vec<(i64, &Installed)> = packages
            .map(|package| (self.kept.said(package).map_or(0, |said| said.at), package))
            // A clock that was set back must not silence it.
            .filter(|(at, _)| *at <= old || *at > now)
            .collect();
        due.sort();
        due.dedup();
        for (_, package) in due.into_iter().take(BATCH) {
            if Instant::now() >= deadline {
                return;
            }
            self.is_asked = true;
            match self.ask_for(package, deadline).await {
                Ok(said) => {
                    self.failure = None;
                    self.keep(package, Said { at: now, ..said });
                }
                Err(reason) => {
                    self.failure = Some((Instant::now(), reason));
                    return;
                }
            }
        }
    }

    fn keep(&mut self, package: &Installed, said: Said) {
        self.is_changed = true;
        self.kept.0.insert(Kept::key(package), said);
        if self.kept.0.len() > MAX_KEPT {
            let oldest = self.kept.0.iter().min_by_key(|(_, said)| said.at);
            if let Some(key) = oldest.map(|(key, _)| key.clone()) {
                self.kept.0.remove(&key);
            }
        }
    }

    async fn ask_for(&self, package: &Installed, deadline: Instant) -> Result<Said, String> {
        let (name, version) = package;
        let Some(newest) = self.get(&format!("pypi/{name}/json"), deadline).await? else {
            return Ok(Said::default());
        };
        let latest: String = newest.info.version.chars().take(MAX_TEXT).collect();
        // What stands in the answer about the package is of its newest version.
        let of_installed = if latest == *version {
            Some(newest)
        } else {
            self.get(&format!("pypi/{name}/{version}/json"), deadline)
                .await?
        };
        let vulnerabilities = of_installed.map_or(0, |answer| {
            let open = |one: &&Vulnerability| one.withdrawn.is_none();
            answer.vulnerabilities.iter().filter(open).count()
        });
        Ok(Said {
            latest,
            vulnerabilities: vulnerabilities as u64,
            at: 0,
        })
    }

    /// One answer; `None` where the index does not know it.
    async fn get(&self, path: &str, deadline: Instant) -> Result<Option<Answer>, String> {
        let mut url = self.url.clone();
        url.set_path(&format!("{}/{path}", url.path().trim_end_matches('/')));
        let left = deadline.saturating_duration_since(Instant::now());
        let mut request = Request::get(url, left);
        request.max_body = MAX_BODY;
        let response = self.client.send(request).await;
        let response = response.map_err(|error| error.to_string())?;
        match response.status {
            200 => serde_json::from_slice(&response.body)
                .map(Some)
                .map_err(|_| "its answer is not that of PyPI's JSON API".to_owned()),
            404 => Ok(None),
            status => Err(format!("status {status}")),
        }
    }
}
