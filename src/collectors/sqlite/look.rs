//! What can be known of a database file before SQLite opens it, and how SQLite may open it without
//! a trace.
//!
//! A database in WAL mode is the dangerous one: opening it, even read-only, creates the files
//! `-wal` and `-shm` where they are missing, as their owner, and an application under another user
//! can then write no more. So SQLite opens such a database only while both are there (and stay: a
//! shared lock keeps the application from removing them meanwhile), or as one that does not change,
//! while no log holds anything.

use std::fs::{File, Metadata};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;
use tokio::sync::oneshot;

use crate::model::Batch;

use super::{FREE_PAGES, JOURNAL_MODE, PAGE_SIZE_BYTES, PAGES};

/// How SQLite opens the file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    /// As any reader, without making the log's index.
    Reader,
    /// As a file that does not change: without locks and without a look at a log.
    Immutable,
    /// Not at all.
    Header,
}

/// The header of the file (<https://www.sqlite.org/fileformat2.html#the_database_header>).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    /// Whether it is in WAL mode.
    pub wal: bool,
    page_size: u32,
    pages: u32,
    free: u32,
    /// Counts the transactions that wrote the file; in WAL mode not all of them.
    changes: u32,
}

/// What a file looks like.
#[derive(Clone, Copy, Debug)]
pub struct Look {
    /// Bytes of the file.
    pub size: u64,
    /// Bytes of the write-ahead log.
    pub wal: u64,
    /// Whether somebody holds the write lock; `None` where the kernel does not say.
    pub write_lock_held: Option<bool>,
    /// `None` for a file that is none of SQLite's, or that this process has open itself.
    pub header: Option<Header>,
    /// How SQLite may open it.
    pub access: Access,
    /// Whether the header was read now, and is not the one of before.
    fresh: bool,
    inode: (u64, u64),
    modified: (i64, i64),
    /// Whether a rollback journal is there: a transaction is being written.
    journal: bool,
}

impl Look {
    /// The figures of the header, instead of what SQLite would say.
    pub fn report(&self, batch: &mut Batch) {
        if let Some(header) = &self.header {
            for (desc, value) in [
                (&PAGE_SIZE_BYTES, header.page_size),
                (&PAGES, header.pages),
                (&FREE_PAGES, header.free),
            ] {
                batch.push(desc, &[], f64::from(value));
            }
            batch.push(
                &JOURNAL_MODE,
                &[("mode", if header.wal { "wal" } else { "delete" })],
                1.0,
            );
        }
    }

    /// Whether something else than a transaction wrote the file since `before`: it is another one,
    /// its counter went back, or stood still.
    pub fn was_rewritten(&self, before: &Look) -> bool {
        let (Some(now), Some(then), true) =
            (self.header, before.header, self.fresh && before.fresh)
        else {
            return false;
        };
        let still = !now.wal
            && now.changes == then.changes
            && self.modified != before.modified
            && !self.journal
            && !before.journal;
        self.inode != before.inode || now.changes < then.changes || still
    }

    /// Whether nobody has written the file since.
    pub async fn is_still(&self, path: &Path) -> bool {
        match take(path.to_owned(), false, None).await {
            Ok((now, _guard)) => {
                !now.journal
                    && !self.journal
                    && (now.inode, now.size, now.modified, now.header)
                        == (self.inode, self.size, self.modified, self.header)
            }
            Err(_) => false,
        }
    }
}

/// What keeps the application's files where they are; to be kept until SQLite has closed the file.
pub type Guard = Option<File>;

/// Looks at the file, on a thread of its own: a file system may hang, and blocking threads of the
/// runtime would be waited for at its end.
pub async fn take(
    path: PathBuf,
    unlocked: bool,
    before: Option<Look>,
) -> io::Result<(Look, Guard)> {
    let (send, receive) = oneshot::channel();
    let look = move || {
        // Nobody waits any longer: then nothing is to be done.
        let _nobody = send.send(take_now(&path, unlocked, before));
    };
    std::thread::Builder::new()
        .name("sqlite-look".into())
        .spawn(look)?;
    receive.await.map_err(io::Error::other)?
}

fn take_now(path: &Path, unlocked: bool, before: Option<Look>) -> io::Result<(Look, Guard)> {
    let file = std::fs::metadata(path)?;
    if !file.is_file() {
        // Opening a pipe would wait for its writer.
        return Err(io::Error::other("is no regular file"));
    }
    let beside = |suffix: &str| {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        std::fs::metadata(PathBuf::from(name)).ok()
    };
    let inode = (file.dev(), file.ino());
    let index = beside("-shm").map(|m| (m.dev(), m.ino()));
    let locks = std::fs::read_to_string("/proc/locks").ok();
    let mut look = Look {
        size: file.len(),
        wal: beside("-wal").map_or(0, |m| m.len()),
        write_lock_held: locks.map(|locks| write_lock_held(&locks, inode, index)),
        header: None,
        access: Access::Reader,
        fresh: false,
        inode,
        modified: (file.mtime(), file.mtime_nsec()),
        journal: beside("-journal").is_some_and(|m| m.len() > 0),
    };
    if file.len() == 0 {
        // An empty database. SQLite would remove a journal that lies beside it.
        look.access = Access::Header;
        return Ok((look, None));
    }
    // POSIX locks belong to the process: closing any descriptor of a file gives up all that it
    // holds there. A file that this process has open elsewhere (the state database, a check) is
    // left to SQLite, which knows of that, and whose lock keeps the files beside it.
    let ours = own_descriptors(inode) > usize::from(unlocked);
    let opened = if ours { None } else { Some(File::open(path)?) };
    look.fresh = opened.is_some();
    look.header = match &opened {
        Some(opened) => read_header(opened, &file),
        None => before
            .filter(|before| before.inode == inode)
            .and_then(|before| before.header),
    };
    if !look.header.is_some_and(|header| header.wal) {
        return Ok((look, None));
    }
    let both = || beside("-shm").is_some() && beside("-wal").is_some();
    let stays =
        |file: &File| rustix::fs::fcntl_lock(file, FlockOperation::NonBlockingLockShared).is_ok();
    if both() && opened.as_ref().is_none_or(stays) && both() {
        return Ok((look, opened));
    }
    look.access = if beside("-wal").is_none_or(|m| m.len() == 0) && !both() {
        Access::Immutable
    } else {
        Access::Header
    };
    Ok((look, None))
}

fn read_header(file: &File, metadata: &Metadata) -> Option<Header> {
    let mut bytes = [0; 100];
    file.read_exact_at(&mut bytes, 0).ok()?;
    let number = |at: usize| {
        bytes
            .get(at..at + 4)
            .and_then(|b| b.try_into().ok())
            .map(u32::from_be_bytes)
    };
    if !bytes.starts_with(b"SQLite format 3\0") {
        return None;
    }
    let page_size = match u32::from(u16::from_be_bytes([bytes[16], bytes[17]])) {
        1 => 65_536,
        size => size,
    };
    let changes = number(24)?;
    // The count in the header is valid while it was written along with the counter; older versions
    // did not write it.
    let by_size = u32::try_from(metadata.len() / u64::from(page_size.max(1))).unwrap_or(u32::MAX);
    let pages = if number(92)? == changes && number(28)? > 0 {
        number(28)?
    } else {
        by_size
    };
    Some(Header {
        wal: bytes[19] == 2,
        page_size,
        pages,
        free: number(36)?,
        changes,
    })
}

/// How many descriptors of this process are open on a file.
fn own_descriptors(inode: (u64, u64)) -> usize {
    let Ok(folder) = std::fs::read_dir("/proc/self/fd") else {
        return 0;
    };
    let is_it = |m: &Metadata| (m.dev(), m.ino()) == inode;
    folder
        .flatten()
        .filter(|entry| std::fs::metadata(entry.path()).is_ok_and(|m| is_it(&m)))
        .count()
}

/// The file as SQLite's URI; `readonly_shm` keeps it from making the log's index.
pub fn uri(path: &Path, access: Access) -> String {
    let mut uri = String::from("file:");
    for byte in path.as_os_str().as_bytes() {
        if byte.is_ascii_alphanumeric() || b"/-_.".contains(byte) {
            uri.push(char::from(*byte));
        } else {
            uri.push_str(&format!("%{byte:02x}"));
        }
    }
    uri + if access == Access::Immutable {
        "?mode=ro&immutable=1"
    } else {
        "?mode=ro&readonly_shm=1"
    }
}

/// Whether `/proc/locks` shows the write lock: byte 120 of the log's index, or the RESERVED byte
/// (and what follows) of the file itself (<https://www.sqlite.org/walformat.html#wal_locks>,
/// `PENDING_BYTE` in os.h).
fn write_lock_held(locks: &str, file: (u64, u64), index: Option<(u64, u64)>) -> bool {
    const WAL_WRITE: u64 = 120;
    const RESERVED: u64 = 0x4000_0001;
    locks.lines().any(|line| {
        // `1: POSIX  ADVISORY  WRITE 1234 08:02:131 120 120`; a `->` after the number marks one
        // that waits.
        let words: Vec<&str> = line.split_whitespace().collect();
        let [_, _, _, "WRITE", _, inode, first, last] = words.as_slice() else {
            return false;
        };
        let mut parts = inode.split(':');
        let (Some(major), Some(minor), Some(number)) = (parts.next(), parts.next(), parts.next())
        else {
            return false;
        };
        let (Ok(major), Ok(minor)) = (
            u32::from_str_radix(major, 16),
            u32::from_str_radix(minor, 16),
        ) else {
            return false;
        };
        let found = (
            rustix::fs::makedev(major, minor),
            number.parse::<u64>().unwrap_or_default(),
        );
        let (first, last) = (first.parse().unwrap_or(0), last.parse().unwrap_or(u64::MAX));
        let covers = |byte: u64| first <= byte && byte <= last;
        (found == file && covers(RESERVED)) || (Some(found) == index && covers(WAL_WRITE))
    })
}
