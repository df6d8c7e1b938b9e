//! Reading the kernel's text files below configurable roots: `/proc` files stay open and are read
//! with `pread` into one buffer.
//!
//! A file that does not exist is not an error but [`PartError::Absent`]: this kernel, or this
//! machine, does not have the thing.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

/// Greatest size of one file, in bytes; what lies behind it is not read. `/proc/net/tcp` of a busy
/// proxy is the largest.
const MAX_FILE: usize = 16 << 20;

/// Why a part brought nothing.
#[derive(Debug, thiserror::Error)]
pub enum PartError {
    /// This kernel or machine does not have it; not a failure.
    #[error("not offered by this kernel")]
    Absent,
    /// A file could not be read.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// A file does not look as documented.
    #[error("{path}: not in the documented format")]
    Malformed {
        /// The file, relative to its root.
        path: &'static str,
    },
}

impl PartError {
    /// A failed read of `path`; the ways of the kernel to say "not here" become
    /// [`PartError::Absent`].
    pub fn of_read(path: &Path, source: io::Error) -> Self {
        let absent = [
            Errno::NOENT,
            Errno::NODEV,
            Errno::NOTDIR,
            Errno::OPNOTSUPP,
            Errno::NXIO,
        ]
        .map(Errno::raw_os_error);
        match source.raw_os_error() {
            Some(code) if absent.contains(&code) => PartError::Absent,
            _ => PartError::Io {
                path: path.to_owned(),
                source,
            },
        }
    }
}

/// The three roots, as node_exporter's `--path.*` flags name them.
#[derive(Clone, Debug)]
pub struct Roots {
    /// `/proc`, or where a container sees the host's.
    pub procfs: PathBuf,
    /// `/sys`.
    pub sysfs: PathBuf,
    /// `/`.
    pub rootfs: PathBuf,
}

/// The kernel as a set of files.
pub struct Kernel {
    roots: Roots,
    open: Vec<(&'static str, File)>,
    buffer: Vec<u8>,
}

impl Kernel {
    /// Opens nothing yet.
    pub fn new(roots: Roots) -> Self {
        Kernel {
            roots,
            open: Vec::new(),
            buffer: vec![0; 16 << 10],
        }
    }

    /// The whole of a file below `/proc`. It stays open for the next time.
    pub fn proc(&mut self, path: &'static str) -> Result<&[u8], PartError> {
        let index = match self.open.iter().position(|(known, _)| *known == path) {
            Some(index) => index,
            None => {
                let full = self.roots.procfs.join(path);
                let file = File::open(&full).map_err(|e| PartError::of_read(&full, e))?;
                self.open.push((path, file));
                self.open.len() - 1
            }
        };
        match read_whole(&self.open[index].1, &mut self.buffer) {
            Ok(length) => Ok(&self.buffer[..length]),
            Err(error) => {
                // The next reading opens it afresh: the file may belong to a module that was
                // unloaded.
                self.open.swap_remove(index);
                Err(PartError::of_read(&self.roots.procfs.join(path), error))
            }
        }
    }

    /// The whole of any file, opened for this one reading.
    pub fn once(&mut self, path: &Path) -> Result<&[u8], PartError> {
        let file = File::open(path).map_err(|e| PartError::of_read(path, e))?;
        let length =
            read_whole(&file, &mut self.buffer).map_err(|e| PartError::of_read(path, e))?;
        Ok(&self.buffer[..length])
    }

    /// A small file as trimmed text; `None` when it is absent, unreadable or not UTF-8 (sysfs
    /// answers `EINVAL` for what does not apply).
    pub fn text(&mut self, path: &Path) -> Option<&str> {
        std::str::from_utf8(self.once(path).ok()?)
            .ok()
            .map(str::trim)
    }

    /// A small file as a number, decimal or `0x…`.
    pub fn number(&mut self, path: &Path) -> Option<f64> {
        super::scan::signed(self.text(path)?.as_bytes())
    }

    /// A path below `/proc`.
    pub fn in_proc(&self, path: &str) -> PathBuf {
        self.roots.procfs.join(path)
    }

    /// A path below `/sys`.
    pub fn in_sys(&self, path: &str) -> PathBuf {
        self.roots.sysfs.join(path)
    }

    /// An absolute path of the host as this process sees it.
    pub fn in_root(&self, path: &str) -> PathBuf {
        self.roots.rootfs.join(path.trim_start_matches('/'))
    }
}

/// Reads from the start to the end into `buffer`, which grows as needed; returns the number of
/// bytes.
fn read_whole(file: &File, buffer: &mut Vec<u8>) -> io::Result<usize> {
    let mut length = 0;
    loop {
        if length == buffer.len() {
            if length >= MAX_FILE {
                return Ok(length);
            }
            buffer.resize(length * 2, 0);
        }
        match file.read_at(&mut buffer[length..], length as u64) {
            Ok(0) => return Ok(length),
            Ok(count) => length += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Names in a folder, sorted; absent when the folder is.
pub fn names(path: &Path) -> Result<Vec<String>, PartError> {
    let entries = std::fs::read_dir(path).map_err(|e| PartError::of_read(path, e))?;
    let mut names: Vec<String> = entries
        .filter_map(|e| e.ok()?.file_name().into_string().ok())
        .collect();
    names.sort_unstable();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_grows_past_the_buffer_is_read_whole_and_an_absent_one_is_no_failure() {
        let folder = tempfile::tempdir().expect("a folder");
        let text = "x".repeat(100_000);
        std::fs::write(folder.path().join("stat"), &text).expect("written");
        let root = folder.path().to_owned();
        let mut kernel = Kernel::new(Roots {
            procfs: root.clone(),
            sysfs: root.clone(),
            rootfs: root,
        });
        assert_eq!(kernel.proc("stat").expect("there").len(), 100_000);
        std::fs::write(folder.path().join("stat"), "12").expect("written");
        assert_eq!(kernel.proc("stat").expect("still open"), b"12");
        assert!(matches!(
            kernel.proc("pressure/cpu"),
            Err(PartError::Absent)
        ));
    }
}
