//! PostgreSQL's archives: custom format and the table of contents of a directory dump
//! (`pg_backup_archiver.c`, `pg_backup_custom.c`, versions 1.12 to 1.16 of the format, which are
//! PostgreSQL 9 to 18).

use std::collections::HashSet;
use std::io::{self, Read};

use super::finding::{Finding, Reason};
use super::read::skip;

/// A table of contents with more entries is not looked through.
const MAX_ENTRIES: i64 = 1_000_000;
/// A longer name of a file in a directory dump is none.
const MAX_NAME: u64 = 4096;

/// What stands at the beginning.
struct Head {
    minor: u8,
    int_size: u64,
    offset_size: u64,
    format: u8,
}

const CUSTOM: u8 = 1;
/// What a directory dump says: its table of contents is that of a tar archive.
const TAR: u8 = 3;
const DIRECTORY: u8 = 5;

struct Archive<'a, R> {
    reader: &'a mut R,
    head: Head,
}

impl<R: Read> Archive<'_, R> {
    fn byte(&mut self) -> io::Result<u8> {
        let mut byte = [0];
        self.reader.read_exact(&mut byte)?;
        Ok(byte[0])
    }

    fn int(&mut self) -> io::Result<i64> {
        let negative = self.byte()? != 0;
        let value = self.magnitude()?;
        Ok(if negative { -value } else { value })
    }

    /// A number after its sign.
    fn magnitude(&mut self) -> io::Result<i64> {
        let mut value: i64 = 0;
        for at in 0..self.head.int_size {
            value |= i64::from(self.byte()?)
                .checked_shl(u32::try_from(8 * at).unwrap_or(64))
                .unwrap_or(0);
        }
        Ok(value & i64::MAX)
    }

    /// Whether there is a text, which is skipped.
    fn text(&mut self) -> io::Result<bool> {
        let length = self.int()?;
        skip(self.reader, u64::try_from(length).unwrap_or(0))?;
        Ok(length >= 0)
    }

    fn name(&mut self) -> io::Result<String> {
        let length = u64::try_from(self.int()?).unwrap_or(0);
        if length > MAX_NAME {
            return Err(io::Error::other("a name is too long"));
        }
        let mut name = String::new();
        self.reader.take(length).read_to_string(&mut name)?;
        Ok(name)
    }

    /// Everything of an entry before what its format adds. Its number.
    fn entry(&mut self) -> io::Result<i64> {
        let minor = self.head.minor;
        let id = self.int()?;
        self.int()?; // hadDumper
        self.text()?; // tableoid
        self.text()?; // oid
        self.text()?; // tag
        self.text()?; // desc
        self.int()?; // section
        for _ in 0..5 {
            self.text()?; // defn, dropStmt, copyStmt, namespace, tablespace
        }
        if minor >= 14 {
            self.text()?; // tableam
        }
        if minor >= 16 {
            self.int()?; // relkind
        }
        self.text()?; // owner
        self.text()?; // with oids
        while self.text()? {} // dependencies
        Ok(id)
    }

    /// The date, the database's name, the versions; then how many entries there are.
    fn before_entries(&mut self) -> io::Result<i64> {
        if self.head.minor >= 15 {
            self.byte()?;
        } else {
            self.int()?;
        }
        for _ in 0..7 {
            self.int()?;
        }
        for _ in 0..3 {
            self.text()?;
        }
        self.int()
    }

    /// The numbers of the entries that have data, in custom format.
    fn entries_with_data(&mut self, count: i64) -> io::Result<HashSet<i64>> {
        let mut found = HashSet::new();
        for _ in 0..count.min(MAX_ENTRIES) {
            let id = self.entry()?;
            let state = self.byte()?;
            skip(self.reader, self.head.offset_size)?;
            // 1: not known where (written to a pipe), 2: known, 3: no data.
            if matches!(state, 1 | 2) {
                found.insert(id);
            }
        }
        Ok(found)
    }

    fn chunks(&mut self) -> io::Result<()> {
        loop {
            match u64::try_from(self.int()?) {
                Ok(0) => return Ok(()),
                Ok(length) => skip(self.reader, length)?,
                Err(_) => return Err(io::ErrorKind::InvalidData.into()),
            }
        }
    }
}

/// Reads what follows `PGDMP`.
fn begin<R: Read>(reader: &mut R) -> io::Result<Archive<'_, R>> {
    let mut archive = Archive {
        reader,
        head: Head {
            minor: 0,
            int_size: 4,
            offset_size: 8,
            format: 0,
        },
    };
    let (major, minor, _revision) = (archive.byte()?, archive.byte()?, archive.byte()?);
    let (int_size, offset_size, format) = (archive.byte()?, archive.byte()?, archive.byte()?);
    if major != 1 || int_size > 8 || offset_size > 8 {
        return Err(io::ErrorKind::InvalidData.into());
    }
    archive.head = Head {
        minor,
        int_size: int_size.into(),
        offset_size: offset_size.into(),
        format,
    };
    Ok(archive)
}

/// Judges an archive in custom format after its first five bytes: all data that its table of
/// contents names are there, each to its end.
pub fn custom(reader: &mut impl Read) -> Result<(), Finding> {
    let mut archive = begin(reader)?;
    if archive.head.format != CUSTOM {
        return Err(Finding::of(
            Reason::WrongFormat,
            "is an archive, but not in custom format",
        ));
    }
    if !(12..=16).contains(&archive.head.minor) {
        // A version that is not known: it was read to here, and no more can be said.
        super::read::drain(archive.reader)?;
        return Ok(());
    }
    let count = archive.before_entries()?;
    let mut missing = archive.entries_with_data(count)?;
    loop {
        let mut kind = [0];
        if archive.reader.read(&mut kind)? == 0 {
            break;
        }
        // pg_dump writes the table of contents again when it knows where the data are: over the
        // first one, but behind the data where its output was opened for appending. It begins with
        // the sign of a count, which no block does.
        if kind[0] == 0 {
            let count = archive.magnitude()?;
            archive.entries_with_data(count)?;
            continue;
        }
        let id = archive.int()?;
        match kind[0] {
            1 => archive.chunks()?,
            // Large objects: their numbers, each with chunks, up to 0.
            3 => {
                while archive.int()? != 0 {
                    archive.chunks()?;
                }
            }
            _ => {
                return Err(Finding::of(
                    Reason::Damaged,
                    "a block of data is of no known kind",
                ));
            }
        }
        missing.remove(&id);
    }
    match missing.len() {
        0 => Ok(()),
        count => Err(Finding::of(
            Reason::Truncated,
            format!("the data of {count} tables are missing"),
        )),
    }
}

/// The files that the table of contents of a directory dump names, after its first five bytes.
pub fn directory(reader: &mut impl Read) -> Result<Vec<String>, Finding> {
    let mut archive = begin(reader)?;
    if !matches!(archive.head.format, TAR | DIRECTORY) {
        return Err(Finding::of(
            Reason::WrongFormat,
            "toc.dat is not that of a directory dump",
        ));
    }
    if !(12..=16).contains(&archive.head.minor) {
        return Ok(Vec::new());
    }
    let count = archive.before_entries()?;
    let mut files = Vec::new();
    for _ in 0..count.min(MAX_ENTRIES) {
        archive.entry()?;
        let name = archive.name()?;
        if !name.is_empty() {
            files.push(name);
        }
    }
    Ok(files)
}
