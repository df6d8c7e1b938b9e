//! The two forms of a backup: an archive (POSIX tar, <https://pubs.opengroup.org/onlinepubs/9799919799/utilities/pax.html>,
//! packed by gzip or not) and a folder. Both end with a list of what they hold, with sizes and
//! checksums: one that has no list was cut short.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, BufReader, BufWriter, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Component, Path, PathBuf};

use flate2::Compression;
use flate2::bufread::MultiGzDecoder;
use flate2::write::GzEncoder;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::model::Timestamp;
use crate::state::replacement::STATE_NAMES;

/// The name of the list.
pub const LIST: &str = "nightbell-backup.json";
/// Longest list that is read, in bytes.
const MAX_LIST: u64 = 64 << 20;
/// The form of backups that this program writes, and the newest that it reads.
pub const FORM: u32 = 1;
/// What a file that gzip packed begins with.
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// What a backup holds.
#[derive(Debug, Deserialize, Serialize)]
pub struct List {
    /// [`FORM`].
    pub form: u32,
    /// The version that wrote it.
    pub nightbell: String,
    /// When it was begun, RFC 3339.
    pub created: String,
    /// The files, by name.
    pub files: BTreeMap<String, Entry>,
}

/// A file of a backup.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct Entry {
    /// Bytes.
    pub size: u64,
    /// In hexadecimal.
    pub sha256: String,
}

impl List {
    /// All bytes.
    pub fn bytes(&self) -> u64 {
        self.files.values().map(|entry| entry.size).sum()
    }
}

/// Reads and sums up what goes through.
struct Summing<'a> {
    inner: &'a mut dyn Read,
    hash: Sha256,
    bytes: u64,
}

impl<'a> Summing<'a> {
    fn new(inner: &'a mut dyn Read) -> Self {
        Summing {
            inner,
            hash: Sha256::new(),
            bytes: 0,
        }
    }

    fn entry(self) -> Entry {
        Entry {
            size: self.bytes,
            sha256: self
                .hash
                .finalize()
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect(),
        }
    }
}

impl Read for Summing<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.hash.update(&buffer[..read]);
        self.bytes += read as u64;
        Ok(read)
    }
}

/// Where an archive is written to.
enum Output {
    Plain(BufWriter<Box<dyn Write>>),
    Gzip(Box<GzEncoder<BufWriter<Box<dyn Write>>>>),
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Output::Plain(inner) => inner.write(bytes),
            Output::Gzip(inner) => inner.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Output::Plain(inner) => inner.flush(),
            Output::Gzip(inner) => inner.flush(),
        }
    }
}

/// A backup that is being written.
pub struct Writer {
    form: Form,
    files: BTreeMap<String, Entry>,
}

enum Form {
    Archive(Box<tar::Builder<Output>>),
    Folder(PathBuf),
}

impl Writer {
    /// An archive that goes there.
    pub fn archive(to: Box<dyn Write>, is_packed: bool) -> Self {
        let to = BufWriter::with_capacity(1 << 17, to);
        let output = if is_packed {
            Output::Gzip(Box::new(GzEncoder::new(to, Compression::fast())))
        } else {
            Output::Plain(to)
        };
        Writer {
            form: Form::Archive(Box::new(tar::Builder::new(output))),
            files: BTreeMap::new(),
        }
    }

    /// A folder, which is there.
    pub fn folder(path: &Path) -> Self {
        Writer {
            form: Form::Folder(path.to_owned()),
            files: BTreeMap::new(),
        }
    }

    /// Adds a file of so many bytes; one that has fewer by now errs.
    pub fn add(&mut self, name: &str, from: &mut dyn Read, size: u64) -> io::Result<()> {
        let mut bounded = from.take(size);
        let mut summing = Summing::new(&mut bounded);
        self.form.write(name, &mut summing, size)?;
        let entry = summing.entry();
        if entry.size != size {
            return Err(io::Error::new(
                ErrorKind::UnexpectedEof,
                format!("{name} became shorter meanwhile"),
            ));
        }
        self.files.insert(name.to_owned(), entry);
        Ok(())
    }

    /// Adds the list and gives it back; everything has been handed to the kernel then.
    pub fn finish(mut self, created: String) -> io::Result<List> {
        let list = List {
            form: FORM,
            nightbell: env!("CARGO_PKG_VERSION").to_owned(),
            created,
            files: self.files,
        };
        let mut text = serde_json::to_vec_pretty(&list)?;
        text.push(b'\n');
        self.form
            .write(LIST, &mut text.as_slice(), text.len() as u64)?;
        match self.form {
            Form::Archive(archive) => match archive.into_inner()? {
                Output::Plain(mut inner) => inner.flush()?,
                Output::Gzip(inner) => inner.finish()?.flush()?,
            },
            Form::Folder(path) => File::open(path)?.sync_all()?,
        }
        Ok(list)
    }
}

impl Form {
    fn write(&mut self, name: &str, from: &mut dyn Read, size: u64) -> io::Result<()> {
        match self {
            Form::Archive(archive) => {
                let mut header = tar::Header::new_gnu();
                header.set_size(size);
                header.set_mode(0o600);
                header.set_mtime(Timestamp::now().seconds() as u64);
                archive.append_data(&mut header, name, from)
            }
            Form::Folder(folder) => write(&folder.join(name), from).map(drop),
        }
    }
}

/// Writes a file for its owner alone, with the folders above it; gives back what it holds.
pub fn write(path: &Path, from: &mut dyn Read) -> io::Result<Entry> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path.parent().unwrap_or(Path::new(".")))?;
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    let mut summing = Summing::new(from);
    io::copy(&mut summing, &mut file)?;
    file.sync_all()?;
    Ok(summing.entry())
}

/// Reads a backup to its end: `take` gets each file. Errs unless everything is there, is as the
/// list says, and is what a state folder may hold.
pub fn read(
    from: &Path,
    mut take: impl FnMut(&str, &mut dyn Read) -> Result<Entry, String>,
) -> Result<List, String> {
    let (mut found, mut list) = (BTreeMap::new(), None);
    let mut visit = |name: &str, file: &mut dyn Read| -> Result<(), String> {
        if list.is_some() {
            return Err(format!("{name} stands after the list of all files"));
        }
        if name == LIST {
            list = Some(parse_list(file)?);
            return Ok(());
        }
        if !is_ours(Path::new(name)) {
            return Err(format!("{name:?} is no part of a state folder"));
        }
        let entry = take(name, file)?;
        match found.insert(name.to_owned(), entry) {
            None => Ok(()),
            Some(_) => Err(format!("{name} is there twice")),
        }
    };
    if from == Path::new("-") {
        read_archive(&mut BufReader::new(io::stdin().lock()), &mut visit)?;
    } else if from.is_dir() {
        read_folder(from, &mut visit)?;
    } else {
        let file = File::open(from).map_err(|error| error.to_string())?;
        read_archive(&mut BufReader::with_capacity(1 << 17, file), &mut visit)?;
    }
    let list = list.ok_or_else(|| {
        format!("it has no {LIST}: it was cut short, or is no backup of nightbell")
    })?;
    for (name, entry) in &list.files {
        match found.get(name) {
            None => return Err(format!("{name} is missing")),
            Some(there) if there != entry => {
                return Err(format!("{name} is damaged: its checksum is another"));
            }
            Some(_) => {}
        }
    }
    match found.keys().find(|name| !list.files.contains_key(*name)) {
        Some(name) => Err(format!("{name} is not in the list of files")),
        None => Ok(list),
    }
}

/// What a file holds, without keeping it.
pub fn sum(file: &mut dyn Read) -> io::Result<Entry> {
    let mut summing = Summing::new(file);
    io::copy(&mut summing, &mut io::sink())?;
    Ok(summing.entry())
}

fn parse_list(file: &mut dyn Read) -> Result<List, String> {
    let list: List = serde_json::from_reader(file.take(MAX_LIST))
        .map_err(|error| format!("{LIST} is damaged: {error}"))?;
    if list.form > FORM {
        return Err(format!(
            "it was written by nightbell {}, in a form that this version does not know",
            list.nightbell
        ));
    }
    Ok(list)
}

/// Whether a name is that of a file in a state folder.
fn is_ours(name: &Path) -> bool {
    let mut parts = name.components();
    let first = match parts.next() {
        Some(Component::Normal(first)) => first,
        _ => return false,
    };
    STATE_NAMES.iter().any(|ours| first == *ours)
        && parts.all(|part| matches!(part, Component::Normal(_)))
}

type Visit<'a> = &'a mut dyn FnMut(&str, &mut dyn Read) -> Result<(), String>;

fn read_archive(from: &mut dyn io::BufRead, visit: Visit<'_>) -> Result<(), String> {
    let said = |error: io::Error| error.to_string();
    let mut packed;
    let mut plain;
    let input: &mut dyn Read = if from.fill_buf().map_err(said)?.starts_with(&GZIP) {
        packed = MultiGzDecoder::new(from);
        &mut packed
    } else {
        plain = from;
        &mut plain
    };
    let mut archive = tar::Archive::new(input);
    for entry in archive.entries().map_err(said)? {
        let mut entry = entry.map_err(said)?;
        let name = entry.path().map_err(said)?.display().to_string();
        let kind = entry.header().entry_type();
        if kind.is_dir() {
            continue;
        }
        if !kind.is_file() {
            return Err(format!("{name:?} is no file"));
        }
        visit(&name, &mut entry)?;
    }
    // The end of what gzip packed has a checksum of its own.
    io::copy(archive.into_inner(), &mut io::sink())
        .map(drop)
        .map_err(said)
}

fn read_folder(folder: &Path, visit: Visit<'_>) -> Result<(), String> {
    let mut names = Vec::new();
    names_below(folder, "", &mut names).map_err(|error| error.to_string())?;
    // The list ends it.
    names.retain(|name| name != LIST);
    names.sort();
    names.push(LIST.to_owned());
    for name in names {
        match File::open(folder.join(&name)) {
            Ok(mut file) => visit(&name, &mut file)?,
            Err(error) if error.kind() == ErrorKind::NotFound && name == LIST => {}
            Err(error) => return Err(format!("{name}: {error}")),
        }
    }
    Ok(())
}

/// The names of all files below a folder; errs at anything that is neither file nor folder.
pub fn names_below(folder: &Path, prefix: &str, names: &mut Vec<String>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name().into_string().map_err(|name| {
            io::Error::other(format!("{}: is not UTF-8", Path::new(&name).display()))
        })?;
        let (path, name) = (entry.path(), format!("{prefix}{name}"));
        let kind = entry.file_type()?;
        if kind.is_dir() {
            names_below(&path, &format!("{name}/"), names)?;
        } else if kind.is_file() {
            names.push(name);
        } else {
            return Err(io::Error::other(format!("{name}: is no file")));
        }
    }
    Ok(())
}
