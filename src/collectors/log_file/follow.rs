//! Follows log files across rotation: each line is given out once, in order, also when the file was
//! renamed, copied and truncated, numbered, or compressed while nobody looked. A position is a file
//! (device, inode, and a hash of its first bytes) with an offset; it survives restarts.
//!
//! A file that was renamed is found among its siblings; after its end come the siblings that were
//! written later, then the path itself. What was renamed is looked at for a while longer, since its
//! writer may not have noticed.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read, Seek as _, SeekFrom};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Instant;

use flate2::read::MultiGzDecoder;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh64::xxh64;

use super::siblings::{MAX as MAX_SIBLINGS, Sibling, are_same, siblings, written};

/// A line that is longer is cut, in bytes; also what is read at once.
pub const MAX_LINE: usize = 256 << 10;
/// How many first bytes tell a file from another one.
const PRINT: usize = 1024;
/// Fewer bytes say nothing about which file it is.
const MIN_PRINT: u32 = 16;
/// How many files that are done with are remembered, so that a copy of one is not read again.
const SEEN: usize = 16;
/// For how long a renamed file is looked at after the next one began, in milliseconds, and how many
/// of them.
const LINGER_MS: i64 = 600_000;
const LINGERING: usize = 4;

/// What the first bytes of a file are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Print {
    length: u32,
    hash: u64,
}

impl Print {
    fn of(first: &[u8]) -> Self {
        Print {
            length: first.len() as u32,
            hash: xxh64(first, 0),
        }
    }
}

/// How far a file has been read.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Position {
    device: u64,
    inode: u64,
    print: Print,
    /// The first byte that has not been given out.
    offset: u64,
    /// When the file was last written, in nanoseconds, as last seen.
    written: i64,
    /// The rest of the line that begins before `offset` is passed over: it is too long.
    skips: bool,
    /// Whether the last line given out belongs to a traceback that goes on.
    pub traceback: bool,
    /// Until when a file that is done with is looked at, in Unix milliseconds; 0 for the one that
    /// is followed.
    until_ms: i64,
}

/// One path that is followed.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Follower {
    /// The path that the writer opens.
    pub path: PathBuf,
    /// `None` until the file is there.
    position: Option<Position>,
    lingering: Vec<Position>,
    seen: Vec<Print>,
    /// The file was there at the very first look and could not be read: it will be from its end.
    #[serde(default)]
    waits: bool,
    /// The file of `position`, so that its rest can be read after its name is gone.
    #[serde(skip)]
    open: Option<File>,
}

/// Takes what is read.
pub trait Sink {
    /// Whole lines, each with its line feed; `traceback` is carried from one call to the next.
    fn lines(&mut self, lines: &[u8], traceback: &mut bool);
    /// The beginning of a line that is too long.
    fn cut(&mut self, begin: &[u8], traceback: &mut bool);
}

/// What one look at a path found, and how much it may still do.
#[derive(Debug)]
pub struct Look {
    /// Bytes that may still be read.
    pub bytes: u64,
    /// When to stop.
    pub deadline: Instant,
    /// Now, Unix milliseconds.
    pub now_ms: i64,
    /// Whether a file that was not known before is read from its end.
    pub from_end: bool,
    /// Bytes that were read.
    pub read: u64,
    /// Bytes that are known of and not read yet.
    pub behind: u64,
    /// When a file was last written, in Unix seconds; 0 when none is there.
    pub written: f64,
    /// Files that vanished before they were read to their end.
    pub lost: u64,
}

impl Look {
    fn is_over(&self) -> bool {
        self.bytes == 0 || Instant::now() >= self.deadline
    }
}

/// How the reading of one file ended.
#[derive(PartialEq, Eq)]
enum End {
    /// At its end as of now; a line that has no end yet may be left.
    Reached,
    /// There is more, for the next time.
    Budget,
}

impl Follower {
    /// Follows `path` from the next look on.
    pub fn new(path: PathBuf) -> Self {
        Follower {
            path,
            ..Follower::default()
        }
    }

    /// Reads what is new. `Ok(false)`: the file is not there.
    pub fn look(&mut self, sink: &mut dyn Sink, look: &mut Look) -> io::Result<bool> {
        let current = match open(&self.path) {
            Ok(opened) => Some(opened),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                self.waits |= self.position.is_none() && look.from_end;
                return Err(error);
            }
        };
        if let Err(error) = self.follow(current.as_ref(), sink, look) {
            // A file that was renamed or compressed at this instant is found by the next look.
            if !matches!(
                error.kind(),
                io::ErrorKind::Interrupted | io::ErrorKind::NotFound
            ) {
                return Err(error);
            }
            look.behind += current.as_ref().map_or(0, |(_, meta)| meta.len());
        }
        if let Some((file, meta)) = current {
            look.written = look
                .written
                .max(meta.mtime() as f64 + meta.mtime_nsec() as f64 / 1e9);
            // Only the file that is followed is held open: this one, or one that is gone and has more.
            if self
                .position
                .as_ref()
                .is_some_and(|p| (p.device, p.inode) == (meta.dev(), meta.ino()))
            {
                self.open = Some(file);
            }
            return Ok(true);
        }
        Ok(false)
    }

    /// Reads what renamed files, the followed one, and those after it have.
    fn follow(
        &mut self,
        current: Option<&(File, Metadata)>,
        sink: &mut dyn Sink,
        look: &mut Look,
    ) -> io::Result<()> {
        self.linger(sink, look)?;
        if self.position.is_none() {
            // What rotation made before is not read, also not while it is being compressed.
            let Some(beside) = siblings(&self.path) else {
                self.waits |= current.is_some() && look.from_end;
                look.behind += current.map_or(0, |(_, meta)| meta.len());
                return Ok(());
            };
            let prints = beside
                .iter()
                .rev()
                .take(LINGERING)
                .filter_map(|s| s.source().and_then(|mut f| print_of(&mut f, None)).ok());
            self.seen = prints.filter(|print| print.length >= MIN_PRINT).collect();
            self.position = Some(match current {
                Some((file, meta)) => begin(
                    file,
                    meta,
                    if look.from_end || self.waits {
                        meta.len()
                    } else {
                        0
                    },
                )?,
                None => Position::absent(look.now_ms.saturating_mul(1_000_000)),
            });
        }
        self.catch_up(current, sink, look)
    }

    /// Whether nothing is left of a path that is gone: then it can be forgotten.
    pub fn is_done(&self) -> bool {
        self.lingering.is_empty()
            && self.position.as_ref().is_none_or(|p| p.inode == 0)
            && !self.path.exists()
    }

    /// From the file of the position to the path itself.
    fn catch_up(
        &mut self,
        current: Option<&(File, Metadata)>,
        sink: &mut dyn Sink,
        look: &mut Look,
    ) -> io::Result<()> {
        let Some(mut position) = self.position.clone() else {
            return Ok(());
        };
        // Each round takes one file; a folder has so many at most.
        for _ in 0..MAX_SIBLINGS {
            if let Some((file, meta)) = current
                && position.is_of(file, meta)?
            {
                let end = position.read(&mut Plain(file), sink, look);
                position.written = written(meta);
                let size = file.metadata().map_or(meta.len(), |m| m.len());
                look.behind += size.saturating_sub(position.offset);
                self.position = Some(position);
                return end.map(drop);
            }
            let Some(beside) = siblings(&self.path) else {
                // In the middle of a rotation: the next look takes it up.
                look.behind += current.map_or(0, |(_, meta)| meta.len());
                self.position = Some(position);
                return Ok(());
            };
            let old = match self.open.take() {
                // A copy of what was truncated is a sibling; otherwise the file itself is still
                // open.
                Some(file)
                    if file
                        .metadata()
                        .is_ok_and(|m| position.is_of(&file, &m).unwrap_or(false)) =>
                {
                    Some(Found::Open(file))
                }
                _ => beside
                    .iter()
                    .find(|s| s.is_inode(position.device, position.inode) && position.fits(s))
                    .map(Found::Sibling),
            };
            let old = old.or_else(|| {
                beside
                    .iter()
                    .find(|s| position.print.length >= MIN_PRINT && position.fits(s))
                    .map(Found::Sibling)
            });
            let mut is_own = false;
            let is_lost = old.is_none() && position.inode != 0 && position.print.length > 0;
            let (mut after, mut held) = (None, None);
            match old {
                Some(Found::Open(file)) => {
                    is_own = true;
                    let end = position.read(&mut Plain(&file), sink, look);
                    if end.as_ref().map_or(true, |end| *end == End::Budget) {
                        look.behind += file
                            .metadata()
                            .map_or(0, |m| m.len())
                            .saturating_sub(position.offset);
                        (self.position, self.open) = (Some(position), Some(file));
                        return end.map(drop);
                    }
                    if !beside
                        .iter()
                        .any(|s| s.is_inode(position.device, position.inode))
                    {
                        (&file).seek(SeekFrom::Start(0))?;
                        position.finish(&mut Plain(&file), sink);
                    }
                    position.written = position
                        .written
                        .max(file.metadata().map_or(0, |m| written(&m)));
                    after = beside
                        .iter()
                        .find(|s| s.is_inode(position.device, position.inode));
                    held = Some(file);
                }
                Some(Found::Sibling(sibling)) => {
                    is_own = sibling.is_inode(position.device, position.inode);
                    let end = sibling.read_from(&mut position, sink, look);
                    if end.as_ref().map_or(true, |end| *end == End::Budget) {
                        look.behind += sibling.size.saturating_sub(position.offset);
                        self.position = Some(position);
                        return end.map(drop);
                    }
                    if !is_own {
                        sibling
                            .source()
                            .iter_mut()
                            .for_each(|source| position.finish(source, sink));
                    }
                    position.written = sibling.written;
                    after = Some(sibling);
                }
                None => {}
            }
            // By its inode alone a file is not known: copying and truncating leaves it with other
            // lines, and one that compression freed belongs to another file.
            let is_new = |s: &&Sibling| {
                let is_it = s.is_inode(position.device, position.inode) && position.fits(s);
                !is_it && !self.seen.iter().any(|p| s.has(*p)) && !position.fits_print(s)
            };
            let next = beside
                .iter()
                .filter(|s| s.size > 0 && s.is_after(position.written, after))
                .find(is_new);
            let next = match (next, current) {
                (Some(sibling), _) => Some(sibling.begin()?),
                (None, Some((file, meta))) => Some(begin(file, meta, 0)?),
                (None, None) => None,
            };
            // What was renamed, or copied and truncated, since it was opened and listed may be what
            // comes first: the next look finds it.
            let is_stale = current.is_some_and(|(_, meta)| !is_at(&self.path, meta))
                || !siblings(&self.path).is_some_and(|now| are_same(&beside, &now));
            if is_stale {
                look.behind += current.map_or(0, |(_, meta)| meta.len());
                (self.position, self.open) = (Some(position), held);
                return Ok(());
            }
            look.lost += u64::from(is_lost);
            if let (true, Some(copy), Some((file, meta))) = (is_own, after, current)
                && next.as_ref().is_some_and(|n| n.inode == meta.ino())
                && position.is_copied(copy, file)?
            {
                // The copy that was read is being made, and its original is not truncated yet.
                (position.device, position.inode) = (meta.dev(), meta.ino());
                self.position = Some(position.clone());
                if meta.len() < position.offset {
                    // It has grown since it was opened.
                    return Ok(());
                }
                continue;
            }
            let Some(next) = next else {
                // Renamed, and the new one is not there yet: its writer may go on in the old one.
                if is_own && after.is_some() {
                    self.position = Some(position);
                    return Ok(());
                }
                self.remember(position.print);
                self.position = Some(Position::absent(position.written));
                return Ok(());
            };
            self.remember(position.print);
            if is_own && after.is_some() {
                self.lingering.push(Position {
                    until_ms: look.now_ms + LINGER_MS,
                    ..position
                });
                let surplus = self.lingering.len().saturating_sub(LINGERING);
                self.lingering.drain(..surplus);
            }
            position = next;
            self.position = Some(position.clone());
            if look.is_over() {
                look.behind += current.map_or(0, |(_, meta)| meta.len());
                return Ok(());
            }
        }
        Ok(())
    }

    /// Notes that a file with this beginning is done with.
    fn remember(&mut self, print: Print) {
        if print.length >= MIN_PRINT {
            self.seen.push(print);
            let surplus = self.seen.len().saturating_sub(SEEN);
            self.seen.drain(..surplus);
        }
    }

    /// What was still written to files that were renamed.
    fn linger(&mut self, sink: &mut dyn Sink, look: &mut Look) -> io::Result<()> {
        if self.lingering.is_empty() {
            return Ok(());
        }
        let Some(beside) = siblings(&self.path) else {
            return Ok(());
        };
        let mut problem = Ok(());
        for mut position in std::mem::take(&mut self.lingering) {
            let Some(sibling) = beside
                .iter()
                .find(|s| s.is_inode(position.device, position.inode) && position.fits(s))
            else {
                continue;
            };
            if sibling.size > position.offset
                && let Err(error) = sibling.read_from(&mut position, sink, look)
            {
                // What was given out stands; the rest is tried again.
                problem = Err(error);
            }
            if position.until_ms > look.now_ms {
                self.lingering.push(position);
            } else {
                sibling
                    .source()
                    .iter_mut()
                    .for_each(|source| position.finish(source, sink));
            }
        }
        problem
    }
}

enum Found<'a> {
    Open(File),
    Sibling(&'a Sibling),
}

/// Where a file's lines come from.
struct Plain<'a>(&'a File);

impl Read for Plain<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

/// Opens a file for reading. What is no file is refused, without waiting for a writer at its other
/// end.
pub fn open(path: &Path) -> io::Result<(File, Metadata)> {
    let flags = rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::NOCTTY;
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(flags.bits().cast_signed())
        .open(path)?;
    let meta = file.metadata()?;
    if !meta.is_file() {
        return Err(io::Error::other("is not a regular file"));
    }
    Ok((file, meta))
}

/// The hash of the first bytes: of so many as there are, or of `length`.
pub fn print_of(source: &mut dyn Read, length: Option<u32>) -> io::Result<Print> {
    let mut first = [0; PRINT];
    let wanted = length.map_or(PRINT, |n| (n as usize).min(PRINT));
    let mut filled = 0;
    while filled < wanted {
        match source.read(&mut first[filled..wanted])? {
            0 => break,
            n => filled += n,
        }
    }
    Ok(Print::of(&first[..filled]))
}

/// Whether the path still names this file.
fn is_at(path: &Path, meta: &Metadata) -> bool {
    fs::metadata(path).is_ok_and(|now| (now.dev(), now.ino()) == (meta.dev(), meta.ino()))
}

/// The beginning of a file that is read from `offset`.
fn begin(mut file: &File, meta: &Metadata, offset: u64) -> io::Result<Position> {
    file.seek(SeekFrom::Start(0))?;
    let print = print_of(&mut file, None)?;
    Ok(Position {
        device: meta.dev(),
        inode: meta.ino(),
        print,
        offset,
        written: written(meta),
        ..Position::default()
    })
}

impl Sibling {
    fn is_inode(&self, device: u64, inode: u64) -> bool {
        (self.device, self.inode) == (device, inode)
    }

    /// The file, not another one that has its name by now.
    fn open(&self) -> io::Result<File> {
        let (file, meta) = open(&self.path)?;
        if !self.is_inode(meta.dev(), meta.ino()) {
            return Err(io::ErrorKind::Interrupted.into());
        }
        Ok(file)
    }

    /// What the file holds, unpacked.
    fn source(&self) -> io::Result<Box<dyn Read>> {
        let file = self.open()?;
        Ok(if self.packed {
            Box::new(MultiGzDecoder::new(file))
        } else {
            Box::new(file)
        })
    }

    /// Whether it begins so. One that cannot be read does not.
    fn has(&self, print: Print) -> bool {
        self.source()
            .and_then(|mut source| print_of(&mut source, Some(print.length)))
            .is_ok_and(|found| found == print)
    }

    fn begin(&self) -> io::Result<Position> {
        let print = print_of(&mut self.source()?, None)?;
        Ok(Position {
            device: self.device,
            inode: self.inode,
            print,
            written: self.written,
            ..Position::default()
        })
    }

    fn read_from(
        &self,
        position: &mut Position,
        sink: &mut dyn Sink,
        look: &mut Look,
    ) -> io::Result<End> {
        if !self.packed {
            let file = self.open()?;
            return position.read(&mut Plain(&file), sink, look);
        }
        let mut source = self.source()?;
        let skipped = io::copy(&mut (&mut source).take(position.offset), &mut io::sink())?;
        if skipped < position.offset {
            return Ok(End::Reached);
        }
        position.read_on(&mut source, sink, look)
    }
}

impl Position {
    /// Whether this file is the one, at least as long as it was.
    fn is_of(&mut self, mut file: &File, meta: &Metadata) -> io::Result<bool> {
        if (self.device, self.inode) != (meta.dev(), meta.ino()) || meta.len() < self.offset {
            return Ok(false);
        }
        file.seek(SeekFrom::Start(0))?;
        if print_of(&mut file, Some(self.print.length))? != self.print {
            return Ok(false);
        }
        // More is known of a file that has grown.
        if (self.print.length as usize) < PRINT && meta.len() > u64::from(self.print.length) {
            file.seek(SeekFrom::Start(0))?;
            self.print = print_of(&mut file, None)?;
        }
        Ok(true)
    }

    /// Whether the file holds what was read of its unpacked copy: the same first bytes, and the same
    /// before the offset.
    fn is_copied(&self, copy: &Sibling, mut file: &File) -> io::Result<bool> {
        if copy.packed || self.print.length as usize != PRINT || self.offset < PRINT as u64 {
            return Ok(false);
        }
        file.seek(SeekFrom::Start(0))?;
        if print_of(&mut file, None)? != self.print {
            return Ok(false);
        }
        let before = SeekFrom::Start(self.offset - PRINT as u64);
        let mut copied = copy.open()?;
        copied.seek(before)?;
        file.seek(before)?;
        Ok(print_of(&mut file, None)? == print_of(&mut copied, None)?)
    }

    /// No file, since then (in nanoseconds).
    fn absent(written: i64) -> Self {
        Position {
            written,
            ..Position::default()
        }
    }

    /// Gives out a last line that has no end and will get none.
    fn finish(&mut self, source: &mut dyn Read, sink: &mut dyn Sink) {
        let mut last = Vec::new();
        let passed = io::copy(&mut (&mut *source).take(self.offset), &mut io::sink()).unwrap_or(0);
        if self.skips
            || passed < self.offset
            || (&mut *source)
                .take(MAX_LINE as u64)
                .read_to_end(&mut last)
                .is_err()
            || last.is_empty()
        {
            return;
        }
        self.offset += last.len() as u64;
        last.push(b'\n');
        sink.lines(&last, &mut self.traceback);
    }

    fn fits_print(&self, sibling: &Sibling) -> bool {
        self.print.length >= MIN_PRINT && sibling.has(self.print)
    }

    /// Whether a sibling holds the same, at least as far as it was read.
    fn fits(&self, sibling: &Sibling) -> bool {
        (sibling.packed || sibling.size >= self.offset) && sibling.has(self.print)
    }

    fn read(
        &mut self,
        source: &mut Plain<'_>,
        sink: &mut dyn Sink,
        look: &mut Look,
    ) -> io::Result<End> {
        source.0.seek(SeekFrom::Start(self.offset))?;
        self.read_on(source, sink, look)
    }

    /// Gives out whole lines until the end or the budget. An error leaves what was given out behind
    /// `offset`.
    fn read_on(
        &mut self,
        source: &mut dyn Read,
        sink: &mut dyn Sink,
        look: &mut Look,
    ) -> io::Result<End> {
        let mut buffer = vec![0; MAX_LINE];
        let mut filled = 0;
        loop {
            if look.is_over() {
                return Ok(End::Budget);
            }
            let n = match source.read(&mut buffer[filled..]) {
                Ok(n) => n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            if n == 0 {
                return Ok(End::Reached);
            }
            look.read += n as u64;
            look.bytes = look.bytes.saturating_sub(n as u64);
            let mut taken = 0;
            if self.skips {
                match memchr::memchr(b'\n', &buffer[..filled + n]) {
                    Some(at) => (self.skips, taken) = (false, at + 1),
                    None => {
                        self.offset += (filled + n) as u64;
                        filled = 0;
                        continue;
                    }
                }
            }
            filled += n;
            // It may have been empty when it was begun: what was given out is what tells it apart.
            if self.offset == 0 && (self.print.length as usize) < filled.min(PRINT) {
                self.print = Print::of(&buffer[..filled.min(PRINT)]);
            }
            // What was left before holds no line feed.
            match memchr::memrchr(b'\n', &buffer[taken..filled]) {
                Some(at) => {
                    let end = taken + at + 1;
                    sink.lines(&buffer[taken..end], &mut self.traceback);
                    taken = end;
                }
                None if filled - taken == MAX_LINE => {
                    sink.cut(&buffer[..filled], &mut self.traceback);
                    (self.skips, taken) = (true, filled);
                }
                None => {}
            }
            self.offset += taken as u64;
            buffer.copy_within(taken..filled, 0);
            filled -= taken;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::time::Duration;

    use super::*;

    #[derive(Default)]
    struct Lines(Vec<u8>);

    impl Sink for Lines {
        fn lines(&mut self, lines: &[u8], _: &mut bool) {
            self.0.extend_from_slice(lines);
        }

        fn cut(&mut self, begin: &[u8], _: &mut bool) {
            self.0.extend_from_slice(begin);
        }
    }

    fn look() -> Look {
        Look {
            bytes: 1 << 30,
            deadline: Instant::now() + Duration::from_secs(60),
            now_ms: 0,
            from_end: false,
            read: 0,
            behind: 0,
            written: 0.0,
            lost: 0,
        }
    }

    #[test]
    fn a_file_that_was_empty_when_it_was_begun_is_told_apart_by_what_was_read() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("app.log");
        let mut file = File::create(&path).expect("made");
        let (opened, meta) = open(&path).expect("opened");
        let mut position = begin(&opened, &meta, 0).expect("begun");
        file.write_all(b"the first line of a log\n")
            .expect("written");
        let mut lines = Lines::default();
        let end = position.read(&mut Plain(&opened), &mut lines, &mut look());
        assert!(end.is_ok_and(|end| end == End::Reached));
        assert_eq!(lines.0, b"the first line of a log\n");
        fs::write(&path, "another line of another log, and longer\n").expect("written");
        let (opened, meta) = open(&path).expect("opened");
        assert!(!position.is_of(&opened, &meta).expect("read"));
    }

    #[test]
    fn a_sibling_that_was_renamed_since_it_was_listed_is_not_read() {
        let folder = tempfile::tempdir().expect("a folder");
        let (path, beside) = (
            folder.path().join("app.log"),
            folder.path().join("app.log.1"),
        );
        fs::write(&path, "the second line of a log\n").expect("written");
        fs::write(&beside, "the first line of a log\n").expect("written");
        let found = siblings(&path).expect("listed");
        let mut position = found[0].begin().expect("begun");
        fs::rename(&beside, folder.path().join("app.log.2")).expect("renamed");
        fs::rename(&path, &beside).expect("renamed");
        let mut lines = Lines::default();
        let end = found[0].read_from(&mut position, &mut lines, &mut look());
        assert!(end.is_err() && found[0].begin().is_err());
        assert_eq!((lines.0, position.offset), (Vec::new(), 0));
    }
}
