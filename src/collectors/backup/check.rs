//! Whether a backup is complete to its real end.
//!
//! gzip is unpacked, checksums included, and what is inside is looked at. Of xz the footer with its
//! checksum, of zstd the chain of frames and blocks is followed to the end of the file; what they
//! hold is unpacked where the program of that name is installed.

use std::fs::File;
use std::io::{self, BufRead, Read, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use flate2::bufread::MultiGzDecoder;
use memchr::memmem;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _, Executor as _, Row as _};

use super::archive;
use super::finding::{Finding, Reason};
use super::read::{Progress, drain, fill, open, skip};
use super::settings::Kind;
use super::unpack::unpacked;
use crate::collectors::programs::find;

/// So much of a dump's end is kept, in bytes.
const TAIL: usize = 8192;
/// What stands at the beginning of a dump of MySQL or MariaDB.
const MYSQL: [&[u8]; 2] = [b"-- MySQL dump ", b"-- MariaDB dump "];
/// So much of the beginning says what something is.
const HEAD: usize = 512;

/// How files are read.
pub struct Reading<'a> {
    /// Bytes a second.
    pub rate: u64,
    /// Shared with the collector.
    pub progress: &'a Progress,
}

impl Reading<'_> {
    /// Judges a file, or a folder.
    pub fn judge(&self, path: &Path, kind: Kind) -> Result<(), Finding> {
        if std::fs::metadata(path)?.is_dir() {
            return self.folder(path, kind);
        }
        let mut file = open(path, self.rate, self.progress)?;
        let start = file.fill_buf()?;
        let (magic, length) = (
            [0, 1, 2, 3, 4, 5].map(|at| start.get(at).copied().unwrap_or(0)),
            start.len(),
        );
        match magic {
            _ if length == 0 => Err(Finding::of(Reason::Empty, "is empty")),
            [0x1f, 0x8b, ..] => {
                let mut inner = MultiGzDecoder::new(file);
                let result = content(&mut inner, kind, None);
                // A reason that is found early does not excuse from the rest: damage comes first.
                drain(&mut inner)?;
                result
            }
            [0xfd, b'7', b'z', b'X', b'Z', 0] => {
                if let Some(program) = find("xz", None) {
                    return unpacked(&program, file, |inner| content(inner, kind, None));
                }
                drain(&mut file)?;
                xz(path)
            }
            [0x28, 0xb5, 0x2f, 0xfd, ..] => match find("zstd", None) {
                Some(program) => unpacked(&program, file, |inner| content(inner, kind, None)),
                None => zstd(&mut file),
            },
            _ => content(&mut file, kind, Some(path)),
        }
    }

    /// A folder: a directory dump, or simply files.
    fn folder(&self, path: &Path, kind: Kind) -> Result<(), Finding> {
        let contents = path.join("toc.dat");
        if kind != Kind::PgDump && !contents.exists() {
            let mut entries = std::fs::read_dir(path)?;
            return if entries.next().is_some() {
                Ok(())
            } else {
                Err(Finding::of(Reason::Empty, "the folder is empty"))
            };
        }
        let mut file = match open(&contents, self.rate, self.progress) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(Finding::of(
                    Reason::NoEnd,
                    "toc.dat, which is written last, is missing",
                ));
            }
            file => file?,
        };
        let mut magic = [0; 5];
        if fill(&mut file, &mut magic)? < 5 || magic != *b"PGDMP" {
            return Err(Finding::of(Reason::Damaged, "toc.dat is none"));
        }
        for name in archive::directory(&mut file)? {
            let there = ["", ".gz", ".lz4", ".zst"]
                .iter()
                .map(|suffix| path.join(format!("{name}{suffix}")))
                .find(|p| p.exists());
            let Some(member) = there else {
                return Err(Finding::of(
                    Reason::MemberMissing,
                    format!("{name} is missing"),
                ));
            };
            let mut file = open(&member, self.rate, self.progress)?;
            if member.extension().is_some_and(|e| e == "gz") {
                drain(&mut MultiGzDecoder::new(file))?;
            } else {
                drain(&mut file)?;
            }
        }
        Ok(())
    }
}

/// Judges what is inside, unpacked. `path` is that of a file that is not packed.
fn content(reader: &mut impl Read, kind: Kind, path: Option<&Path>) -> Result<(), Finding> {
    let mut head = [0; HEAD];
    let filled = fill(reader, &mut head)?;
    let head = &head[..filled];
    if head.is_empty() {
        return Err(Finding::of(Reason::Empty, "the archive holds nothing"));
    }
    let is_tar = head.get(257..262).is_some_and(|magic| magic == b"ustar")
        || head.iter().all(|b| *b == 0) && head.len() == HEAD;
    let is_sqlite = head.starts_with(b"SQLite format 3\0");
    let is_archive = head.starts_with(b"PGDMP");
    let is_dump = head.starts_with(b"--\n-- PostgreSQL database");
    let is_mysql = MYSQL
        .iter()
        .any(|begin| memmem::find(&head[..head.len().min(200)], begin).is_some());
    let wrong = |wanted: &str| Err(Finding::of(Reason::WrongFormat, format!("is no {wanted}")));
    let mut all = head.chain(reader);
    match kind {
        Kind::PgDump | Kind::Sql if is_tar => tar(&mut all),
        Kind::PgDump | Kind::Sql | Kind::Any if is_archive => {
            skip(&mut all, 5)?;
            archive::custom(&mut all)
        }
        Kind::MysqlDump => mysql(&mut all),
        Kind::Sql | Kind::Any if is_mysql => mysql(&mut all),
        Kind::PgDump | Kind::Sql => plain(&mut all),
        Kind::Any if is_dump => plain(&mut all),
        Kind::Tar | Kind::Any if is_tar => tar(&mut all),
        Kind::Sqlite | Kind::Any if is_sqlite => {
            drain(&mut all)?;
            path.map_or(Ok(()), sqlite)
        }
        Kind::Tar => wrong("tar archive"),
        Kind::Sqlite => wrong("SQLite database"),
        Kind::Any | Kind::Folder => Ok(drain(&mut all).map(drop)?),
    }
}

/// A dump as SQL: `-- PostgreSQL database dump complete` stands at its end; newer versions write
/// `\unrestrict` after that.
fn plain(reader: &mut impl Read) -> Result<(), Finding> {
    let text = tail(reader)?;
    let ends = [
        "-- PostgreSQL database dump complete",
        "-- PostgreSQL database cluster dump complete",
    ];
    let last = text.lines().rev().find(|line| {
        let line = line.trim_end();
        !(line.is_empty() || line == "--" || line.starts_with("\\unrestrict "))
    });
    match last {
        Some(line) if ends.contains(&line.trim_end()) && text.ends_with('\n') => Ok(()),
        Some(_) | None => Err(Finding::of(
            Reason::NoEnd,
            "does not end with \"PostgreSQL database dump complete\"",
        )),
    }
}

/// A dump of `mysqldump` or `mariadb-dump`: `-- Dump completed on …` is its last line.
fn mysql(reader: &mut impl Read) -> Result<(), Finding> {
    let text = tail(reader)?;
    let last = text.lines().rev().find(|line| !line.trim().is_empty());
    match last {
        Some(line) if line.starts_with("-- Dump completed") && text.ends_with('\n') => Ok(()),
        Some(_) | None => Err(Finding::of(
            Reason::NoEnd,
            "does not end with \"-- Dump completed\"",
        )),
    }
}

/// Reads to the end, which is kept as text.
fn tail(reader: &mut impl Read) -> io::Result<String> {
    let mut tail: Vec<u8> = Vec::with_capacity(2 * TAIL);
    let mut part = [0; TAIL];
    loop {
        let count = fill(reader, &mut part)?;
        tail.extend_from_slice(&part[..count]);
        let over = tail.len().saturating_sub(TAIL);
        tail.drain(..over);
        if count < part.len() {
            break;
        }
    }
    Ok(String::from_utf8_lossy(&tail).into_owned())
}

/// A tar archive: headers with their checksums, contents, two blocks of zeros at the end
/// (<https://www.gnu.org/software/tar/manual/html_node/Standard.html>).
fn tar(reader: &mut impl Read) -> Result<(), Finding> {
    let mut block = [0; 512];
    let mut members = 0u64;
    let no_end = || {
        Finding::of(
            Reason::Truncated,
            "the blocks that end a tar archive are missing",
        )
    };
    loop {
        match fill(reader, &mut block)? {
            512 => {}
            _ => return Err(no_end()),
        }
        if block.iter().all(|b| *b == 0) {
            if fill(reader, &mut block)? < 512 || block.iter().any(|b| *b != 0) {
                return Err(no_end());
            }
            drain(reader)?;
            return if members > 0 {
                Ok(())
            } else {
                Err(Finding::of(Reason::Empty, "the archive has no members"))
            };
        }
        let sum: u64 = block
            .iter()
            .enumerate()
            .map(|(at, b)| {
                if (148..156).contains(&at) {
                    32
                } else {
                    u64::from(*b)
                }
            })
            .sum();
        if octal(&block[148..156]) != Some(sum) {
            return Err(Finding::of(
                Reason::Damaged,
                "the checksum of a header is wrong",
            ));
        }
        let size = size(&block[124..136])
            .ok_or_else(|| Finding::of(Reason::Damaged, "the size in a header is none"))?;
        let (kind, mut is_extended) = (block[156], block[156] == b'S' && block[482] != 0);
        while is_extended {
            reader.read_exact(&mut block)?;
            is_extended = block[504] != 0;
        }
        // Links, devices and folders have no contents, whatever their size says.
        if !matches!(kind, b'1'..=b'6') {
            skip(
                reader,
                size.div_ceil(512)
                    .checked_mul(512)
                    .ok_or_else(|| Finding::of(Reason::Damaged, "a size is too large"))?,
            )?;
        }
        // Headers that only extend the next one are no members.
        members += u64::from(!matches!(kind, b'x' | b'g' | b'L' | b'K'));
    }
}

fn octal(field: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(field).ok()?;
    u64::from_str_radix(text.trim_matches([' ', '\0']), 8).ok()
}

/// A size: octal, or GNU's binary form.
fn size(field: &[u8]) -> Option<u64> {
    if field[0] & 0x80 == 0 {
        return if field.iter().all(|b| matches!(b, 0 | b' ')) {
            Some(0)
        } else {
            octal(field)
        };
    }
    field[field.len() - 8..]
        .try_into()
        .ok()
        .map(u64::from_be_bytes)
}

/// The footer of an xz stream (<https://tukaani.org/xz/xz-file-format.txt>, 2.1.2); zeros may
/// follow it.
fn xz(path: &Path) -> Result<(), Finding> {
    let mut file = File::open(path)?;
    let mut end = file.metadata()?.len();
    let mut footer = [0; 12];
    loop {
        end = end
            .checked_sub(12)
            .ok_or(Finding::of(Reason::Truncated, "ends too early"))?;
        file.seek(SeekFrom::Start(end))?;
        file.read_exact(&mut footer)?;
        if footer[8..] != [0; 4] {
            break;
        }
        end += 8;
    }
    let checksum = u32::from_le_bytes([footer[0], footer[1], footer[2], footer[3]]);
    if footer[10..] != *b"YZ" || crc32fast::hash(&footer[4..10]) != checksum {
        return Err(Finding::of(
            Reason::Truncated,
            "the footer of the xz stream is missing",
        ));
    }
    // The smallest stream: header, an index without records, footer.
    if end <= 12 + 8 {
        return Err(Finding::of(Reason::Empty, "the archive holds nothing"));
    }
    Ok(())
}

/// The frames of a zstd file (RFC 8878, 3.1).
fn zstd(reader: &mut impl Read) -> Result<(), Finding> {
    let mut is_empty = true;
    loop {
        let mut magic = [0; 4];
        match fill(reader, &mut magic)? {
            0 if is_empty => return Err(Finding::of(Reason::Empty, "the archive holds nothing")),
            0 => return Ok(()),
            4 => {}
            _ => return Err(Finding::of(Reason::Truncated, "ends too early")),
        }
        let magic = u32::from_le_bytes(magic);
        let mut bytes = [0; 4];
        if magic & 0xffff_fff0 == 0x184d_2a50 {
            reader.read_exact(&mut bytes)?;
            skip(reader, u32::from_le_bytes(bytes).into())?;
            continue;
        }
        if magic != 0xfd2f_b528 {
            return Err(Finding::of(
                Reason::Damaged,
                "something follows that is no frame",
            ));
        }
        reader.read_exact(&mut bytes[..1])?;
        let flags = bytes[0];
        let is_single = flags & 0x20 != 0;
        let size = [u64::from(is_single), 2, 4, 8][usize::from(flags >> 6)];
        skip(
            reader,
            u64::from(!is_single) + [0, 1, 2, 4][usize::from(flags & 3)] + size,
        )?;
        loop {
            reader.read_exact(&mut bytes[..3])?;
            let header = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], 0]);
            let length = u64::from(header >> 3);
            is_empty &= length == 0;
            match header >> 1 & 3 {
                1 => skip(reader, 1)?,
                3 => return Err(Finding::of(Reason::Damaged, "a block is of no known kind")),
                _ => skip(reader, length)?,
            }
            if header & 1 == 1 {
                break;
            }
        }
        if flags & 4 != 0 {
            skip(reader, 4)?;
        }
    }
}

/// `PRAGMA quick_check`, on the file as one that does not change: nothing is made beside it.
fn sqlite(path: &Path) -> Result<(), Finding> {
    let path: PathBuf = path.to_owned();
    let check = async move {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .read_only(true)
            .immutable(true)
            .disable_statement_logging();
        let mut connection = options.connect().await?;
        let row = connection.fetch_one("PRAGMA quick_check(1)").await?;
        let answer: String = row.try_get(0)?;
        connection.close().await?;
        Ok::<_, sqlx::Error>(answer)
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()?;
    match runtime.block_on(check) {
        Ok(answer) if answer == "ok" => Ok(()),
        Ok(answer) => Err(Finding::of(Reason::Damaged, answer.replace('\n', " "))),
        Err(error) => Err(Finding::of(
            Reason::Damaged,
            error.to_string().replace('\n', " "),
        )),
    }
}
