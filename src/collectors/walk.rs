//! Looks through a folder: names, sizes and times alone. Links are not followed and other file
//! systems not entered.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use regex::Regex;

use crate::config::{Section, file_name_pattern};

/// Which files count.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// Patterns of their names; `None`: all.
    pub pattern: Option<Regex>,
    /// Whether those of sub-folders count, too.
    pub recursive: bool,
    /// Entries that are looked at, at most.
    pub max_entries: usize,
}

impl Wanted {
    /// The keys `files`, `recursive` and `max_entries` of a section.
    pub fn read(section: &Section<'_>, max_entries: usize) -> Self {
        let pattern = section.get::<String>("files").and_then(|text| {
            let pattern = file_name_pattern(&text);
            if pattern.is_none() {
                section.error(
                    "files",
                    format!("{text:?} is not a pattern of file names"),
                    "write *.log, dump-????.sql or [ab]*.csv",
                );
            }
            pattern
        });
        Wanted {
            pattern,
            recursive: section.or("recursive", true),
            max_entries: section.or("max_entries", max_entries),
        }
    }
}

/// What was met beside files.
#[derive(Clone, Copy, Debug, Default)]
pub struct Walked {
    /// Sub-folders.
    pub folders: u64,
    /// Entries that could not be looked at.
    pub unreadable: u64,
    /// Whether there are more entries than are looked at.
    pub is_truncated: bool,
}

/// Shows each wanted file to `visit`. A file or sub-folder that vanishes meanwhile is no failure.
///
/// # Errors
/// The folder itself cannot be read.
pub fn walk(
    root: &Path,
    wanted: &Wanted,
    mut visit: impl FnMut(&Path, &Metadata),
) -> io::Result<Walked> {
    let device = fs::metadata(root)?.dev();
    let (mut walked, mut entries) = (Walked::default(), 0_usize);
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        let list = match fs::read_dir(&folder) {
            Ok(list) => list,
            Err(error) if folder == root => return Err(error),
            Err(error) => {
                walked.unreadable += u64::from(error.kind() != io::ErrorKind::NotFound);
                continue;
            }
        };
        for entry in list {
            let Ok(entry) = entry else {
                walked.unreadable += 1;
                break;
            };
            entries += 1;
            if entries > wanted.max_entries {
                walked.is_truncated = true;
                return Ok(walked);
            }
            // Of a link itself, not of where it leads.
            let metadata = match entry.metadata() {
                Ok(metadata) => metadata,
                Err(error) => {
                    walked.unreadable += u64::from(error.kind() != io::ErrorKind::NotFound);
                    continue;
                }
            };
            let fits = || {
                wanted
                    .pattern
                    .as_ref()
                    .is_none_or(|pattern| pattern.is_match(&entry.file_name().to_string_lossy()))
            };
            if metadata.is_dir() {
                walked.folders += 1;
                if wanted.recursive && metadata.dev() == device {
                    folders.push(entry.path());
                }
            } else if metadata.is_file() && fits() {
                visit(&entry.path(), &metadata);
            }
        }
    }
    Ok(walked)
}
