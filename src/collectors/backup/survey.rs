//! What lies there: each backup with its size, time and identity. Blocks, so it runs on a thread of
//! its own.

use std::collections::HashMap;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::config::glob_at_most;

use super::settings::{Kind, Settings, Source};

/// Most backups that are looked at.
const MAX_BACKUPS: usize = 20_000;
/// Backups that may be judged at all: the newest ones.
pub const MAX_JUDGED: usize = 64;
/// Most files of a folder that are added up.
const MAX_FILES: usize = 20_000;
/// A set that misses a member waits so many times longer before that counts.
const PATIENCE: u32 = 10;

/// One version of a file: a write changes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Version {
    device: u64,
    inode: u64,
    /// When it was last written, nanoseconds since 1970.
    mtime: i64,
    /// Bytes, of all that belongs to it.
    pub size: u64,
}

impl Version {
    /// When it was last written.
    pub fn millis(&self) -> i64 {
        self.mtime.div_euclid(1_000_000)
    }
}

/// One backup.
#[derive(Clone, Debug)]
pub struct Backup {
    /// The file or folder.
    pub path: PathBuf,
    /// Its version.
    pub version: Version,
    /// Its files and what each is.
    pub parts: Vec<(PathBuf, Kind)>,
    /// A member of a set that is not there, or empty.
    pub missing: Option<String>,
    /// Whether nobody writes to it any longer.
    pub is_settled: bool,
}

/// What a look found.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// The newest ones, newest first.
    pub newest: Vec<Backup>,
    /// How many there are.
    pub count: usize,
    /// The time of the oldest one, in milliseconds since 1970.
    pub oldest: Option<i64>,
    /// More were there than are looked at.
    pub is_cut: bool,
}

/// Looks once. `before` has the versions of the last look.
pub fn look(settings: &Settings, before: &HashMap<PathBuf, Version>) -> io::Result<Found> {
    let pattern = settings.source.pattern();
    check_readable(pattern)?;
    let paths = glob_at_most(pattern, MAX_BACKUPS).map_err(io::Error::other)?;
    let is_cut = paths.len() >= MAX_BACKUPS;
    let wants_folder = matches!(
        settings.source,
        Source::Set(..) | Source::Files(_, Kind::Folder)
    );
    let mut all = Vec::new();
    for path in paths {
        // What vanishes between listing and asking was removed by a clean-up.
        let Ok(meta) = std::fs::metadata(&path) else {
            continue;
        };
        let dump =
            matches!(settings.source, Source::Files(_, Kind::PgDump | Kind::Any)) && meta.is_dir();
        if if wants_folder {
            meta.is_dir()
        } else {
            meta.is_file() || dump
        } {
            all.push((
                meta.mtime()
                    .saturating_mul(1_000_000_000)
                    .saturating_add(meta.mtime_nsec()),
                meta.is_dir(),
                path,
            ));
        }
    }
    // A folder's own time does not follow its files: those that may be the newest are looked into.
    all.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| b.2.cmp(&a.2)));
    let mut found = Found {
        count: all.len(),
        oldest: all.last().map(|(mtime, _, _)| mtime.div_euclid(1_000_000)),
        is_cut,
        newest: Vec::new(),
    };
    for (_, is_folder, path) in all.into_iter().take(MAX_JUDGED) {
        if let Ok(backup) = backup(settings, path, is_folder, before) {
            found.newest.push(backup);
        }
    }
    found
        .newest
        .sort_by_key(|backup| std::cmp::Reverse(backup.version.mtime));
    Ok(found)
}

/// The folder of the pattern must be there and readable: one that is not looks as if it held
/// nothing.
fn check_readable(pattern: &Path) -> io::Result<()> {
    let is_pattern =
        |part: &std::ffi::OsStr| part.to_string_lossy().contains(['*', '?', '[', '\\']);
    let mut folder = PathBuf::new();
    for part in pattern.components() {
        if is_pattern(part.as_os_str()) {
            break;
        }
        folder.push(part);
    }
    if folder == pattern {
        folder.pop();
    }
    if folder.as_os_str().is_empty() {
        folder.push(".");
    }
    std::fs::read_dir(&folder)
        .map(drop)
        .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", folder.display())))
}

/// The version of one backup.
pub fn look_at(settings: &Settings, path: PathBuf) -> io::Result<Version> {
    let is_folder = std::fs::metadata(&path)?.is_dir();
    backup(settings, path, is_folder, &HashMap::new()).map(|backup| backup.version)
}

fn backup(
    settings: &Settings,
    path: PathBuf,
    is_folder: bool,
    before: &HashMap<PathBuf, Version>,
) -> io::Result<Backup> {
    let (mut parts, mut missing) = (Vec::new(), None);
    match &settings.source {
        Source::Files(_, kind) => parts.push((path.clone(), *kind)),
        Source::Set(_, needs) => {
            for name in needs {
                let members =
                    glob_at_most(&path.join(name), MAX_FILES).map_err(io::Error::other)?;
                let size =
                    |member: &PathBuf| std::fs::metadata(member).map_or(0, |meta| meta.len());
                if members.iter().all(|member| size(member) == 0) {
                    missing.get_or_insert_with(|| name.clone());
                }
                parts.extend(members.into_iter().map(|member| {
                    let kind = Kind::of_name(&member.to_string_lossy());
                    (member, kind)
                }));
            }
        }
    }
    let meta = std::fs::metadata(&path)?;
    let mut version = Version {
        device: meta.dev(),
        inode: meta.ino(),
        mtime: i64::MIN,
        size: 0,
    };
    for (part, _) in &parts {
        add_up(part, &mut version)?;
    }
    if is_folder && parts.is_empty() {
        version.mtime = meta
            .mtime()
            .saturating_mul(1_000_000_000)
            .saturating_add(meta.mtime_nsec());
    }
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default()
        .as_nanos();
    let age = i64::try_from(now)
        .unwrap_or(i64::MAX)
        .saturating_sub(version.mtime);
    let wait = if missing.is_some() {
        settings.settle * PATIENCE
    } else {
        settings.settle
    };
    // A time that lies ahead says nothing of how long ago that was.
    let is_old = age < 0 || Duration::from_nanos(age.unsigned_abs()) >= wait;
    let is_settled = is_old && before.get(&path) == Some(&version);
    Ok(Backup {
        path,
        version,
        parts,
        missing,
        is_settled,
    })
}

/// Adds the sizes below `path`, and takes the newest time.
fn add_up(path: &Path, version: &mut Version) -> io::Result<()> {
    let (mut open, mut files) = (vec![path.to_owned()], 0);
    while let Some(path) = open.pop() {
        let meta = if files == 0 {
            std::fs::metadata(&path)?
        } else {
            std::fs::symlink_metadata(&path)?
        };
        files += 1;
        version.mtime = version.mtime.max(
            meta.mtime()
                .saturating_mul(1_000_000_000)
                .saturating_add(meta.mtime_nsec()),
        );
        if !meta.is_dir() {
            version.size = version.size.saturating_add(meta.len());
        } else if files < MAX_FILES {
            let room = MAX_FILES.saturating_sub(open.len());
            open.extend(
                std::fs::read_dir(&path)?
                    .flatten()
                    .take(room)
                    .map(|entry| entry.path()),
            );
        }
        if files >= MAX_FILES {
            break;
        }
    }
    Ok(())
}
