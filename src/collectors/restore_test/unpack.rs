//! A tar archive into the scratch folder: files and folders alone, nothing outside, within bounds
//! (<https://www.gnu.org/software/tar/manual/html_node/Standard.html>, and pax's records of
//! POSIX.1-2001).

use std::fs::{DirBuilder, OpenOptions};
use std::io::{self, Read, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Component, Path, PathBuf};

use super::failure::{Failure, Reason};
use crate::collectors::backup::read::{fill, skip};

/// Most members of an archive.
const MAX_MEMBERS: u64 = 200_000;
/// Longest name, and longest record of names, in bytes.
const MAX_NAME: u64 = 64 << 10;
/// Deepest folder.
const MAX_DEPTH: usize = 64;
const BLOCK: usize = 512;

/// What was unpacked.
#[derive(Debug, Default)]
pub struct Unpacked {
    /// Files.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Links, devices and pipes, which are left out.
    pub left: u64,
    /// Files that begin as SQLite databases do.
    pub databases: Vec<PathBuf>,
}

/// Unpacks into `folder`, up to `max_size` bytes.
pub fn unpack(
    reader: &mut impl Read,
    folder: &Path,
    max_size: u64,
    goes_on: &dyn Fn() -> Result<(), Failure>,
) -> Result<Unpacked, Failure> {
    let mut found = Unpacked::default();
    let mut block = [0; BLOCK];
    let (mut long_name, mut long_size) = (None, None);
    let mut members = 0;
    loop {
        goes_on()?;
        if fill(reader, &mut block)? < BLOCK {
            return Err(Failure::of(
                Reason::Damaged,
                "the blocks that end a tar archive are missing",
            ));
        }
        if block.iter().all(|byte| *byte == 0) {
            return if members > 0 {
                Ok(found)
            } else {
                Err(Failure::of(Reason::Empty, "the archive has no members"))
            };
        }
        let header = Header::read(&block)?;
        let size = long_size.take().unwrap_or(header.size);
        members += 1;
        if members > MAX_MEMBERS {
            return Err(Failure::of(
                Reason::TooLarge,
                format!("the archive has more than {MAX_MEMBERS} members"),
            ));
        }
        match header.kind {
            b'L' => long_name = Some(text(&content(reader, size)?)),
            b'x' => {
                let records = content(reader, size)?;
                long_name = pax(&records, "path").or(long_name);
                long_size = pax(&records, "size").and_then(|size| size.parse().ok());
            }
            b'g' | b'K' => drop(content(reader, size)?),
            b'5' => {
                let path = inside(folder, &long_name.take().unwrap_or(header.name))?;
                make_folder(&path)?;
                skip(reader, padded(size)?)?;
            }
            b'0' | 0 | b'7' => {
                let path = inside(folder, &long_name.take().unwrap_or(header.name))?;
                found.bytes = found.bytes.saturating_add(size);
                if found.bytes > max_size {
                    return Err(Failure::of(
                        Reason::TooLarge,
                        "what is in the archive is larger than max_size",
                    ));
                }
                if file(reader, &path, size, goes_on)? {
                    found.databases.push(path);
                }
                skip(reader, padded(size)? - size)?;
                found.files += 1;
            }
            b'S' => {
                return Err(Failure::of(
                    Reason::Unsupported,
                    "the archive holds sparse files",
                ));
            }
            _ => {
                long_name = None;
                found.left += 1;
                if !matches!(header.kind, b'1'..=b'6') {
                    skip(reader, padded(size)?)?;
                }
            }
        }
    }
}

/// Writes a file; whether it begins as a SQLite database does.
fn file(
    reader: &mut impl Read,
    path: &Path,
    size: u64,
    goes_on: &dyn Fn() -> Result<(), Failure>,
) -> Result<bool, Failure> {
    if let Some(parent) = path.parent() {
        make_folder(parent)?;
    }
    // Of two members with one name the later one counts.
    let _earlier = std::fs::remove_file(path);
    let mut out = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(own)?;
    let (mut left, mut piece, mut is_database) = (size, vec![0; 128 << 10], false);
    while left > 0 {
        goes_on()?;
        let wanted = piece.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        if fill(reader, &mut piece[..wanted])? < wanted {
            return Err(Failure::of(
                Reason::Damaged,
                "the archive ends within a file",
            ));
        }
        is_database |= left == size && piece[..wanted].starts_with(b"SQLite format 3\0");
        out.write_all(&piece[..wanted]).map_err(own)?;
        left -= wanted as u64;
    }
    Ok(is_database)
}

fn make_folder(path: &Path) -> Result<(), Failure> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(own)
}

/// Trouble with what is written, not with what is read.
fn own(error: io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::StorageFull => Failure::of(Reason::NoSpace, error.to_string()),
        _ => Failure::of(Reason::Failed, format!("the scratch folder: {error}")),
    }
}

/// The name below `folder`. Neither `/` at the beginning nor `..` leads out, and no link was made
/// that could.
fn inside(folder: &Path, name: &str) -> Result<PathBuf, Failure> {
    let mut path = folder.to_owned();
    let mut depth = 0;
    for part in Path::new(name).components() {
        match part {
            Component::Normal(part) => path.push(part),
            Component::CurDir => continue,
            Component::RootDir | Component::ParentDir | Component::Prefix(_) => {
                return Err(Failure::of(
                    Reason::UnsafePath,
                    "the archive has a member that lies outside of it",
                ));
            }
        }
        depth += 1;
    }
    if depth > MAX_DEPTH || name.contains('\0') {
        return Err(Failure::of(
            Reason::UnsafePath,
            "the archive has a member with a name that is none",
        ));
    }
    Ok(path)
}

struct Header {
    name: String,
    size: u64,
    kind: u8,
}

impl Header {
    fn read(block: &[u8; BLOCK]) -> Result<Self, Failure> {
        let damaged = |what: &str| Failure::of(Reason::Damaged, what);
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
            return Err(damaged("the checksum of a header is wrong"));
        }
        let size = match block[124] & 0x80 {
            0 if block[124..136].iter().all(|b| matches!(b, 0 | b' ')) => Some(0),
            0 => octal(&block[124..136]),
            _ => block[128..136].try_into().ok().map(u64::from_be_bytes),
        };
        let (name, prefix) = (text(&block[..100]), text(&block[345..500]));
        let is_posix = &block[257..263] == b"ustar\0";
        let name = if is_posix && !prefix.is_empty() {
            format!("{prefix}/{name}")
        } else {
            name
        };
        Ok(Header {
            name,
            size: size.ok_or_else(|| damaged("the size in a header is none"))?,
            kind: block[156],
        })
    }
}

fn octal(field: &[u8]) -> Option<u64> {
    u64::from_str_radix(
        std::str::from_utf8(field).ok()?.trim_matches([' ', '\0']),
        8,
    )
    .ok()
}

/// Up to the first zero.
fn text(field: &[u8]) -> String {
    let end = field
        .iter()
        .position(|byte| *byte == 0)
        .unwrap_or(field.len());
    String::from_utf8_lossy(&field[..end]).into_owned()
}

fn padded(size: u64) -> Result<u64, Failure> {
    size.div_ceil(BLOCK as u64)
        .checked_mul(BLOCK as u64)
        .ok_or_else(|| Failure::of(Reason::Damaged, "a size is too large"))
}

/// What follows a header that extends the next one.
fn content(reader: &mut impl Read, size: u64) -> Result<Vec<u8>, Failure> {
    if size > MAX_NAME {
        return Err(Failure::of(
            Reason::Damaged,
            "a name in the archive is too long",
        ));
    }
    let mut found = vec![0; usize::try_from(size).unwrap_or(0)];
    reader.read_exact(&mut found)?;
    skip(reader, padded(size)? - size)?;
    Ok(found)
}

/// A record of pax: `length key=value\n`.
fn pax(records: &[u8], key: &str) -> Option<String> {
    let (mut rest, mut value) = (records, None);
    while let Some(space) = rest.iter().position(|byte| *byte == b' ') {
        let length: usize = std::str::from_utf8(&rest[..space]).ok()?.parse().ok()?;
        let record = rest.get(space + 1..length)?.strip_suffix(b"\n")?;
        if let Some(found) = record
            .strip_prefix(key.as_bytes())
            .and_then(|rest| rest.strip_prefix(b"="))
        {
            value = Some(String::from_utf8_lossy(found).into_owned());
        }
        rest = &rest[length..];
    }
    value
}
