//! The newest backup, and what is in it: found, opened, unpacked on the way.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::Scope;
use std::time::Duration;

use flate2::bufread::MultiGzDecoder;

use super::failure::{Failure, Reason, not_started, program};
use super::settings::Settings;
use super::watch::Watch;
use crate::collectors::backup::read::{fill, open};
use crate::collectors::backup::settings::Kind;
use crate::collectors::backup::survey;
use crate::collectors::programs::{Input, Program, command};

/// Between two looks, by which it is seen whether somebody writes.
const PAUSE: Duration = Duration::from_secs(1);
/// So much of the beginning says what something is.
const HEAD: usize = 512;

/// What is restored.
#[derive(Clone, Debug)]
pub struct Chosen {
    /// The file or folder.
    pub path: PathBuf,
    /// When the backup was written, in milliseconds since 1970.
    pub written: i64,
    /// Its bytes.
    pub size: u64,
}

/// What is inside.
pub enum Content<'a> {
    /// SQL.
    Script(Box<dyn Read + Send + 'a>),
    /// An archive of pg_dump that pg_restore reads from its standard input.
    Piped(Box<dyn Read + Send + 'a>),
    /// One that pg_restore reads by itself.
    Archive,
    /// A SQLite database.
    Sqlite(Box<dyn Read + Send + 'a>),
    /// A tar archive.
    Tar(Box<dyn Read + Send + 'a>),
}

/// What is there, the newest first, and whether somebody wrote to it since what was there `before`.
fn look(
    settings: &Settings,
    before: &HashMap<PathBuf, survey::Version>,
) -> Result<Vec<survey::Backup>, Failure> {
    let found = survey::look(&settings.backup, before)?.newest;
    if found.is_empty() {
        return Err(Failure::of(
            Reason::NoBackup,
            format!(
                "no backup fits {}",
                settings.backup.source.pattern().display()
            ),
        ));
    }
    Ok(found)
}

/// Whether there is a backup that can be read at all. Blocks.
pub fn exists(settings: &Settings) -> Result<(), Failure> {
    let found = look(settings, &HashMap::new())?;
    found
        .first()
        .map_or(Ok(()), |newest| check_readable(&newest.path))
}

/// The newest backup that nobody writes to. Blocks.
pub fn newest(settings: &Settings) -> Result<Chosen, Failure> {
    let first = look(settings, &HashMap::new())?;
    std::thread::sleep(PAUSE);
    let before = first
        .into_iter()
        .map(|backup| (backup.path, backup.version))
        .collect();
    let found = look(settings, &before)?;
    let newest = found.into_iter().find(|backup| backup.is_settled);
    let backup = newest.ok_or_else(|| {
        Failure::of(
            Reason::NoBackup,
            "every backup that is there is still being written",
        )
    })?;
    if let Some(name) = &backup.missing {
        return Err(Failure::of(
            Reason::Damaged,
            format!("{name} is missing or empty"),
        ));
    }
    let path = member(&backup.parts, settings.member.as_deref())?.clone();
    let size = if path.is_dir() {
        backup.version.size
    } else {
        path.metadata()?.len()
    };
    Ok(Chosen {
        path,
        written: backup.version.millis(),
        size,
    })
}

/// Which file of a backup is restored: the one that is named, or the dump, or the only one that can
/// be.
fn member<'a>(parts: &'a [(PathBuf, Kind)], name: Option<&str>) -> Result<&'a PathBuf, Failure> {
    if let ([(only, _)], None) = (parts, name) {
        return Ok(only);
    }
    let of = |wanted: &dyn Fn(&(PathBuf, Kind)) -> bool| -> Vec<&'a PathBuf> {
        parts
            .iter()
            .filter(|part| wanted(part))
            .map(|(path, _)| path)
            .collect()
    };
    let dumps = match name {
        Some(name) => of(&|(path, _)| path.ends_with(name)),
        None => of(&|(_, kind)| matches!(kind, Kind::PgDump | Kind::Sql)),
    };
    let candidates = if dumps.is_empty() && name.is_none() {
        of(&|(_, kind)| matches!(kind, Kind::Sqlite | Kind::Tar))
    } else {
        dumps
    };
    match candidates.as_slice() {
        [path] => Ok(path),
        [] => Err(Failure::of(
            Reason::NoBackup,
            "the backup has no file that could be restored",
        )),
        _ => Err(Failure::of(
            Reason::Unsupported,
            "the backup has several files that could be restored; name one with member",
        )),
    }
}

/// Opens it. What unpacks runs beside, in `scope`.
pub fn content<'scope>(
    chosen: &Path,
    rate: u64,
    watch: &'scope Arc<Watch>,
    scope: &'scope Scope<'scope, '_>,
) -> Result<Content<'scope>, Failure> {
    if chosen.is_dir() {
        let is_dump = chosen.join("toc.dat").is_file();
        return if is_dump {
            Ok(Content::Archive)
        } else {
            Err(Failure::of(
                Reason::Unsupported,
                "a folder is no dump of PostgreSQL",
            ))
        };
    }
    let mut file = open(chosen, rate, &watch.progress)?;
    let start = file.fill_buf()?;
    let magic = [0, 1, 2, 3, 4, 5].map(|at| start.get(at).copied().unwrap_or(0));
    let (mut inner, is_packed): (Box<dyn Read + Send + 'scope>, bool) = match magic {
        [0x1f, 0x8b, ..] => (Box::new(MultiGzDecoder::new(file)), true),
        [0xfd, b'7', b'z', b'X', b'Z', 0] => (unpacked("xz", file, watch, scope)?, true),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => (unpacked("zstd", file, watch, scope)?, true),
        _ => (Box::new(file), false),
    };
    let mut head = vec![0; HEAD];
    let filled = fill(&mut inner, &mut head)?;
    head.truncate(filled);
    let is_tar = head.get(257..262) == Some(b"ustar");
    let is_archive = head.starts_with(b"PGDMP") || (is_tar && head.starts_with(b"toc.dat\0"));
    let is_sqlite = head.starts_with(b"SQLite format 3\0");
    if head.is_empty() {
        return Err(Failure::of(Reason::Damaged, "the backup holds nothing"));
    }
    let is_text = !head.contains(&0);
    let whole: Box<dyn Read + Send + 'scope> = Box::new(io::Cursor::new(head).chain(inner));
    match () {
        () if is_archive && !is_packed => Ok(Content::Archive),
        () if is_archive => Ok(Content::Piped(whole)),
        () if is_tar => Ok(Content::Tar(whole)),
        () if is_sqlite => Ok(Content::Sqlite(whole)),
        () if is_text => Ok(Content::Script(whole)),
        () => Err(Failure::of(
            Reason::Unsupported,
            "the backup is neither a dump of PostgreSQL, nor a SQLite file, nor a tar archive",
        )),
    }
}

/// Unpacks by a program.
fn unpacked<'scope>(
    name: &str,
    mut file: BufReader<impl Read + Send + 'scope>,
    watch: &'scope Arc<Watch>,
    scope: &'scope Scope<'scope, '_>,
) -> Result<Box<dyn Read + Send + 'scope>, Failure> {
    let mut unpack = command(&program(name, None)?, &[]);
    unpack.args(["-d", "-c", "-q"]);
    let (program, writer, reader) =
        Program::start(unpack, Input::Pipe, true).map_err(|error| not_started(name, &error))?;
    watch.add(program.group());
    let (Some(mut writer), Some(reader)) = (writer, reader) else {
        return Err(Failure::of(Reason::Failed, "a pipe is missing"));
    };
    // What is wrong with the file is seen by what comes out: it ends too early.
    scope.spawn(move || {
        io::copy(&mut file, &mut writer)
            .map(drop)
            .unwrap_or_default()
    });
    Ok(Box::new(Unpacking {
        reader,
        program: Some(program),
    }))
}

/// The output of a program that unpacks: an error at its end where the program failed.
struct Unpacking {
    reader: io::PipeReader,
    program: Option<Program>,
}

impl Read for Unpacking {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.reader.read(buffer)?;
        if count == 0
            && !buffer.is_empty()
            && let Some(program) = self.program.take()
        {
            let (status, _said) = program.wait()?;
            if !status.success() {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    "the packed file is damaged, or ends too early",
                ));
            }
        }
        Ok(count)
    }
}

/// A file as bytes, for what reads it by itself: whether it can be read at all.
pub fn check_readable(path: &Path) -> Result<(), Failure> {
    let opened = if path.is_dir() {
        std::fs::read_dir(path).map(drop)
    } else {
        File::open(path).map(drop)
    };
    opened.map_err(|error| Failure::of(Reason::Unreadable, format!("{}: {error}", path.display())))
}
