//! What rotation makes of a log file: the files beside it whose names derive from its name.

use std::cmp::Ordering;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// Siblings at most, and entries of a folder that are looked at.
pub const MAX: usize = 200;
const MAX_ENTRIES: usize = 10_000;
/// How often a folder is listed again until nothing was renamed meanwhile.
const LISTINGS: usize = 8;

/// A file that was the log once, or is a copy of it.
#[derive(Debug)]
pub struct Sibling {
    /// Where it is.
    pub path: PathBuf,
    /// Its device.
    pub device: u64,
    /// Its inode.
    pub inode: u64,
    /// Its size in bytes, packed.
    pub size: u64,
    /// When it was last written, in nanoseconds.
    pub written: i64,
    /// Whether it is compressed.
    pub packed: bool,
}

impl Sibling {
    /// Whether it was written after the file that was last written then and, if that is known, is
    /// `other`.
    pub fn is_after(&self, written: i64, other: Option<&Sibling>) -> bool {
        match (self.written.cmp(&written), other) {
            (Ordering::Equal, Some(other)) => self.rank(other) == Ordering::Greater,
            (order, _) => order == Ordering::Greater,
        }
    }

    /// Which of two is newer by its name: the lower of two numbers, the later of two dates.
    fn rank(&self, other: &Sibling) -> Ordering {
        match (number(&self.path), number(&other.path)) {
            (Some(own), Some(others)) if own < 10_000_000 && others < 10_000_000 => {
                others.cmp(&own)
            }
            _ => self.path.cmp(&other.path),
        }
    }
}

/// The number at the end of `app.log.3` or `app.log.3.gz`.
fn number(path: &Path) -> Option<u64> {
    let name = path.file_name()?.to_str()?;
    name.strip_suffix(".gz")
        .unwrap_or(name)
        .rsplit_once('.')?
        .1
        .parse()
        .ok()
}

/// Whether rotation of the file `base` makes files of this name: `app.log.1`,
/// `app.log-20261130.gz`, `app-2026-11-30.log`, `app.log.old`.
pub fn is_rotation(base: &str, name: &str) -> bool {
    let name = name.strip_suffix(".gz").unwrap_or(name);
    let counts = |rest: &str| {
        let mut characters = rest.chars();
        matches!(characters.next(), Some('.' | '-' | '_'))
            && (characters.next().is_some_and(|c| c.is_ascii_digit())
                || matches!(rest, ".old" | ".bak" | ".save"))
            && rest
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || ".-_:".contains(c))
    };
    if let Some(rest) = name.strip_prefix(base) {
        return counts(rest) || (rest.is_empty() && name.len() != base.len());
    }
    let Some((stem, extension)) = base.rsplit_once('.') else {
        return false;
    };
    let rest = name
        .strip_prefix(stem)
        .and_then(|rest| rest.strip_suffix(extension))
        .and_then(|rest| rest.strip_suffix('.'));
    rest.is_some_and(counts)
}

/// The siblings of a file, the oldest first. A folder that cannot be read has none. `None`: they are
/// being renamed, and no two listings agree.
///
/// A listing is no snapshot: a file that is renamed meanwhile may be missing from it, or stand under
/// a name that is another's by now, and what is missing would never be read.
pub fn siblings(path: &Path) -> Option<Vec<Sibling>> {
    let mut before = list(path);
    for _ in 0..LISTINGS {
        let now = list(path);
        if are_same(&before, &now) {
            return Some(now);
        }
        before = now;
    }
    None
}

/// Whether two listings hold the same files under the same names.
pub fn are_same(some: &[Sibling], others: &[Sibling]) -> bool {
    let names = |found: &[Sibling]| {
        let mut names: Vec<_> = found
            .iter()
            .map(|s| (s.path.clone(), s.device, s.inode))
            .collect();
        names.sort_unstable();
        names
    };
    names(some) == names(others)
}

fn list(path: &Path) -> Vec<Sibling> {
    // Behind a symbolic link, where the file is.
    let real = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let (Some(folder), Some(base)) = (real.parent(), real.file_name().and_then(|n| n.to_str()))
    else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .take(MAX_ENTRIES)
    {
        let name = entry.file_name();
        let Some(name) = name.to_str().filter(|name| {
            *name != base && (is_rotation(base, name) || *name == format!("{base}.gz"))
        }) else {
            continue;
        };
        let Ok(meta) = entry.metadata() else { continue };
        if meta.is_file() {
            let (device, inode, size, written) =
                (meta.dev(), meta.ino(), meta.len(), written(&meta));
            found.push(Sibling {
                path: entry.path(),
                device,
                inode,
                size,
                written,
                packed: name.ends_with(".gz"),
            });
        }
    }
    found.sort_by(|a, b| a.written.cmp(&b.written).then_with(|| a.rank(b)));
    let surplus = found.len().saturating_sub(MAX);
    found.drain(..surplus);
    found
}

/// When a file was last written, in nanoseconds.
pub fn written(meta: &fs::Metadata) -> i64 {
    meta.mtime()
        .saturating_mul(1_000_000_000)
        .saturating_add(meta.mtime_nsec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_rotation_makes_are_known() {
        for name in [
            "app.log.1",
            "app.log.12.gz",
            "app.log-20261130",
            "app.log.2026-11-30_12",
            "app-2026-11-30T10-00-00.000.log",
            "app.log.old",
        ] {
            assert!(is_rotation("app.log", name), "{name}");
        }
        for name in [
            "app.log",
            "app.log.err",
            "app-error.log",
            "app.log1",
            "other.log.1",
            "app.logs",
            "app.txt",
        ] {
            assert!(!is_rotation("app.log", name), "{name}");
        }
    }
}
