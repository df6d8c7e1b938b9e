//! The keys of a backup.

use std::path::PathBuf;
use std::time::Duration;

use crate::collectors::schedule::{self, Schedule};
use crate::config::{ByteSize, Section};

/// What a backup is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Of `pg_dump` or `pg_dumpall`: SQL, custom, tar or directory format.
    PgDump,
    /// Of `mysqldump` or `mariadb-dump`.
    MysqlDump,
    /// SQL, or an archive of `pg_dump`: of either of the two.
    Sql,
    /// A copy of a SQLite file.
    Sqlite,
    /// A tar archive.
    Tar,
    /// A folder.
    Folder,
    /// Whatever it shows itself to be.
    Any,
}

impl Kind {
    /// What a member of a set is, by its name.
    pub fn of_name(name: &str) -> Self {
        let name = name.to_ascii_lowercase();
        let plain = [".gz", ".xz", ".zst"]
            .iter()
            .find_map(|end| name.strip_suffix(end))
            .unwrap_or(&name);
        match plain.rsplit_once('.').map(|(_, end)| end) {
            Some("tar") => Kind::Tar,
            _ if name.ends_with(".tgz") || name.ends_with(".txz") => Kind::Tar,
            Some("sql" | "dump") => Kind::Sql,
            Some("db" | "sqlite" | "sqlite3") => Kind::Sqlite,
            _ => Kind::Any,
        }
    }
}

/// Where backups are.
#[derive(Clone, Debug)]
pub enum Source {
    /// Each match is one.
    Files(PathBuf, Kind),
    /// Each folder is one, with these files.
    Set(PathBuf, Vec<String>),
}

impl Source {
    /// The pattern.
    pub fn pattern(&self) -> &PathBuf {
        match self {
            Source::Files(pattern, _) | Source::Set(pattern, _) => pattern,
        }
    }
}

/// One backup's settings.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where they are, and what.
    pub source: Source,
    /// When there must be a new one.
    pub schedule: Option<Schedule>,
    /// How much later it may be.
    pub grace: Duration,
    /// How many are kept.
    pub keep: Option<u64>,
    /// How long they are kept, in days.
    pub keep_days: Option<u64>,
    /// A smaller one is none, in bytes.
    pub min_size: u64,
    /// Which share of its predecessors' size a new one must have.
    pub min_ratio: f64,
    /// Bytes read in a second.
    pub read_rate: u64,
    /// How long a file must have been left alone, before it is judged.
    pub settle: Duration,
}

impl Settings {
    /// Reads the section and records its mistakes.
    pub fn read(section: &Section<'_>) -> Self {
        let (files, set) = (
            section.get::<PathBuf>("files"),
            section.get::<PathBuf>("set"),
        );
        let needs: Vec<String> = section.or("needs", Vec::new());
        let kind = kind(section);
        if section.node("bucket").is_some() {
            for key in ["files", "set", "kind", "read_rate", "settle"] {
                if section.node(key).is_some() {
                    section.error(
                        key,
                        "stands beside \"bucket\"",
                        "remove it: objects are listed, not read",
                    );
                }
            }
        }
        let source = match (files, set) {
            (None, None) if section.node("bucket").is_some() => Source::Files(PathBuf::new(), kind),
            (Some(files), None) => {
                if !needs.is_empty() {
                    section.error(
                        "needs",
                        "belongs to \"set\"",
                        "give set: a pattern of folders, or remove it",
                    );
                }
                Source::Files(files, kind)
            }
            (None, Some(set)) => {
                if needs.is_empty() {
                    section.error(
                        "set",
                        "has no members",
                        "add needs: [names of the files in each folder]",
                    );
                }
                if let Some(name) = needs
                    .iter()
                    .find(|name| name.is_empty() || name.starts_with('/') || name.contains(".."))
                {
                    section.error(
                        "needs",
                        format!("{name:?} is no name in the folder"),
                        "give names such as database.sql.gz",
                    );
                }
                Source::Set(set, needs)
            }
            (Some(_), Some(_)) => {
                section.error("set", "stands beside \"files\"", "keep one of the two");
                Source::Files(PathBuf::new(), kind)
            }
            (None, None) => {
                section.error(
                    "",
                    "none of \"files\", \"set\" and \"bucket\" is given",
                    "add files: a path or pattern, set: a pattern of folders, or bucket: {url, bucket, prefix}",
                );
                Source::Files(PathBuf::new(), kind)
            }
        };
        let schedule = schedule::read(section, "at");
        let grace = section
            .get("grace")
            .unwrap_or_else(|| schedule.as_ref().map_or(Duration::ZERO, Schedule::grace));
        let rate = section.or("read_rate", ByteSize(20 << 20)).0;
        if rate < 1024 {
            section.error(
                "read_rate",
                "is too low",
                "give at least 1KB, bytes a second",
            );
        }
        Settings {
            source,
            schedule,
            grace,
            keep: section.get("keep"),
            keep_days: section.get("keep_days"),
            min_size: section.or("min_size", ByteSize(0)).0,
            min_ratio: 1.0 - shrink(section),
            read_rate: rate,
            settle: section.or("settle", Duration::from_secs(60)),
        }
    }
}

/// The key `kind`.
pub fn kind(section: &Section<'_>) -> Kind {
    match section.or("kind", "any".to_owned()).as_str() {
        "pg_dump" => Kind::PgDump,
        "mysqldump" => Kind::MysqlDump,
        "sqlite" => Kind::Sqlite,
        "tar" | "tar.gz" => Kind::Tar,
        "folder" => Kind::Folder,
        "any" => Kind::Any,
        other => {
            section.error(
                "kind",
                format!("{other:?} is not known"),
                "give pg_dump, mysqldump, sqlite, tar, folder or any",
            );
            Kind::Any
        }
    }
}

/// By which share a backup may be smaller than its predecessors.
fn shrink(section: &Section<'_>) -> f64 {
    let Some(text) = section.get::<String>("shrink") else {
        return 0.5;
    };
    let share = text
        .strip_suffix('%')
        .and_then(|number| number.trim().parse::<f64>().ok())
        .map(|percent| percent / 100.0);
    share
        .filter(|share| (0.0..=1.0).contains(share))
        .unwrap_or_else(|| {
            section.error(
                "shrink",
                format!("{text:?} is not valid here"),
                "give a share such as 50%",
            );
            0.5
        })
}
