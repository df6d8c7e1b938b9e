//! The keys of a restore test.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::collectors::backup::settings::{Settings as Backup, Source, kind};
use crate::collectors::backup::{self};
use crate::collectors::postgres::{Dsn, parse_dsn};
use crate::collectors::schedule::{self, Schedule};
use crate::collectors::sql::{Dialect, Statement};
use crate::collectors::{StateFolder, Target};
use crate::config::{ByteSize, Section};

use super::server::Server;

/// Longest name of a database, in bytes (`NAMEDATALEN`).
const MAX_DATABASE: usize = 63;
/// Most checks.
const MAX_CHECKS: usize = 50;

/// One test's settings.
pub struct Settings {
    /// Which backups.
    pub backup: Arc<Backup>,
    /// Of a set: the one member that is restored.
    pub member: Option<String>,
    /// Where dumps of PostgreSQL are restored.
    pub server: Option<Server>,
    /// The scratch folder.
    pub scratch: PathBuf,
    /// When.
    pub schedule: Schedule,
    /// How much later a success may be.
    pub grace: Duration,
    /// How long one may take.
    pub max_duration: Duration,
    /// How large a backup, and what is restored of it, may be, in bytes.
    pub max_size: u64,
    /// What must be in it.
    pub checks: Vec<Check>,
    /// The folder of psql and pg_restore.
    pub programs: Option<PathBuf>,
}

/// What must be in a restored copy.
pub struct Check {
    /// Its name, a label.
    pub name: String,
    /// A SELECT of one number.
    pub sql: String,
    /// In an archive: the SQLite file that is asked, by the end of its path.
    pub file: Option<String>,
    /// The smallest number that is right.
    pub min: f64,
    /// The largest.
    pub max: f64,
}

impl Settings {
    /// Reads the section and records its mistakes.
    pub fn read(section: &Section<'_>, target: &Target) -> Option<Self> {
        let schedule = schedule::read(section, "at");
        if schedule.is_none() && section.node("every").is_none() && section.node("at").is_none() {
            section.error(
                "",
                "says not when",
                "add every: 7d, or at: \"Sun 04:00\" with timezone",
            );
        }
        let server = server(section);
        let folder = section
            .given::<StateFolder>()
            .and_then(|state| state.0.clone())
            .unwrap_or_else(std::env::temp_dir);
        let scratch = section
            .get::<PathBuf>("scratch")
            .unwrap_or_else(|| folder.join("restore_test"));
        if !scratch.is_absolute() && section.node("scratch").is_some() {
            section.error(
                "scratch",
                "is not absolute",
                "give a folder that begins with /",
            );
        }
        let name: String = target
            .name
            .chars()
            .map(|c| {
                if c.is_ascii_alphanumeric() || "-_".contains(c) {
                    c
                } else {
                    '_'
                }
            })
            .collect();
        let max_duration = section.or("max_duration", Duration::from_secs(1800));
        if max_duration.is_zero() {
            section.error(
                "max_duration",
                "is zero",
                "give how long a restore may take, such as 30m",
            );
        }
        let max_size = section.or("max_size", ByteSize(20 << 30)).0;
        let grace = section.get("grace");
        let backup = backup_of(section);
        let (member, checks, programs) = (
            section.get("member"),
            checks(section),
            section.get("programs"),
        );
        let schedule = schedule?;
        Some(Settings {
            backup: backup?,
            member,
            server,
            scratch: scratch.join(name),
            grace: grace.unwrap_or_else(|| schedule.grace() + max_duration),
            schedule,
            max_duration,
            max_size,
            checks,
            programs,
        })
    }
}

/// The backups: an entry of `backup`, or files of one's own.
fn backup_of(section: &Section<'_>) -> Option<Arc<Backup>> {
    let (name, files) = (
        section.get::<String>("backup"),
        section.get::<PathBuf>("files"),
    );
    let rate = section
        .get::<ByteSize>("read_rate")
        .map(|rate| rate.0.max(1024));
    let settle = section.or("settle", Duration::from_secs(60));
    let kind = kind(section);
    match (name, files) {
        (Some(_), Some(_)) => {
            section.error("files", "stands beside \"backup\"", "keep one of the two");
            None
        }
        (None, None) => {
            section.error(
                "",
                "neither \"backup\" nor \"files\" is given",
                "add backup: the name of an entry of backup, or files: a pattern",
            );
            None
        }
        (Some(name), None) => {
            let named = section.given::<backup::Named>().unwrap_or_default();
            let found = named.0.lock().get(&name).cloned();
            if found.is_none() {
                let names: Vec<String> = named.0.lock().keys().cloned().collect();
                let remedy = if names.is_empty() {
                    "add it to backup, or give files".to_owned()
                } else {
                    format!("there is {}", names.join(", "))
                };
                section.error("backup", format!("no backup is named {name:?}"), remedy);
            }
            found.map(|backup| {
                Arc::new(Backup {
                    read_rate: rate.unwrap_or(DEFAULT_RATE),
                    ..backup.as_ref().clone()
                })
            })
        }
        (None, Some(files)) => Some(Arc::new(Backup {
            source: Source::Files(files, kind),
            schedule: None,
            grace: Duration::ZERO,
            keep: None,
            keep_days: None,
            min_size: 0,
            min_ratio: 0.0,
            read_rate: rate.unwrap_or(DEFAULT_RATE),
            settle,
        })),
    }
}

/// Bytes of a backup that are read in a second.
const DEFAULT_RATE: u64 = 50 << 20;

fn server(section: &Section<'_>) -> Option<Server> {
    let scratch = section.or("database", "nightbell_restore_test".to_owned());
    let is_name = !scratch.is_empty() && scratch.len() <= MAX_DATABASE && !scratch.contains('\0');
    if !is_name || ["postgres", "template0", "template1"].contains(&scratch.as_str()) {
        section.error(
            "database",
            format!("{scratch:?} cannot be a scratch database"),
            "give a name that no database has",
        );
    }
    let dsn = section.secret("dsn")?;
    match (Dsn::parse(dsn.expose()), parse_dsn(dsn.expose())) {
        (Ok(dsn), Ok((options, password, address))) => {
            if options.get_database() == Some(scratch.as_str()) {
                section.error(
                    "database",
                    "is the one that the DSN names",
                    "give a name that no database has",
                );
            }
            Some(Server {
                options,
                password,
                address,
                variables: Server::variables(&dsn),
                scratch,
            })
        }
        // The text may hold a password: it is not quoted.
        (Err(refusal), _) | (_, Err(refusal)) => {
            section.error("dsn", refusal.problem, refusal.remedy);
            None
        }
    }
}

fn checks(section: &Section<'_>) -> Vec<Check> {
    let entries = section.sections("expect");
    if entries.len() > MAX_CHECKS {
        section.error(
            "expect",
            format!("has more than {MAX_CHECKS} entries"),
            "leave some out",
        );
    }
    let mut checks: Vec<Check> = Vec::new();
    for (index, entry) in entries.iter().enumerate().take(MAX_CHECKS) {
        let name = entry
            .get::<String>("name")
            .unwrap_or_else(|| (index + 1).to_string());
        let sql: String = entry.require("sql");
        // The looser of the two dialects that may be meant.
        if let Err(refusal) = Statement::read(&sql, Dialect::Postgres)
            && !sql.is_empty()
        {
            entry.error("sql", refusal.problem, refusal.remedy);
        }
        if checks.iter().any(|check| check.name == name) {
            entry.error(
                "name",
                format!("another check is named {name:?}"),
                "give each its own name",
            );
        }
        let max = entry.get::<f64>("max");
        let min = entry.get::<f64>("min").unwrap_or(if max.is_some() {
            f64::NEG_INFINITY
        } else {
            1.0
        });
        let sql = sql.trim().trim_end_matches(';').to_owned();
        checks.push(Check {
            name,
            sql,
            file: entry.get("file"),
            min,
            max: max.unwrap_or(f64::INFINITY),
        });
        entry.finish();
    }
    checks
}
