//! A folder of LanceDB: each `NAME.lance` is a table, described by its newest manifest
//! (<https://lance.org/format/table/>): rows, deletions, dimension, which fragments an index covers.
//!
//! Privilege: to read the folder. Used: listing and reading files below `path`. Never used: the
//! library of LanceDB, locks, whatever writes. Nothing is searched: there is no server to ask.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use roaring::RoaringBitmap;
use tokio::task::JoinHandle;

use crate::config::Section;
use crate::exposition::wire::{Fields, Value};

use super::store::{
    Choice, Collection, Failure, Hit, Index, Looked, Search, Store, Stored, Survey,
};

/// Most files of a table that are looked at.
const MAX_FILES: usize = 50_000;
/// Greatest manifest that is read, in bytes.
const MAX_MANIFEST: u64 = 64 << 20;
/// Bytes at a manifest's end: where it begins, versions, `LANC`.
const FOOTER: usize = 16;

struct LanceDb {
    path: PathBuf,
    /// A look that has not ended: a file system that hangs holds this one, and no other is begun.
    looking: Option<JoinHandle<Looked<Survey>>>,
}

/// Reads its keys.
pub fn build(section: &Section<'_>) -> Box<dyn Store> {
    let path = section.get::<PathBuf>("path");
    if path.is_none() && section.node("path").is_none() {
        section.error(
            "path",
            "key \"path\" is missing",
            "add the folder of the database",
        );
    }
    Box::new(LanceDb {
        path: path.unwrap_or_default(),
        looking: None,
    })
}

fn unreadable(path: &Path, error: &io::Error) -> Failure {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let kind = match error.kind() {
        io::ErrorKind::NotFound => "not_found",
        io::ErrorKind::PermissionDenied => "auth",
        _ => "server_error",
    };
    Failure::new(kind, format!("{name}: {error}"))
}

fn survey(path: &Path, choice: &Choice) -> Looked<Survey> {
    let entries = fs::read_dir(path).map_err(|e| unreadable(path, &e))?;
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|e| unreadable(path, &e))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        names.extend(name.strip_suffix(".lance").map(str::to_owned));
    }
    let mut survey = Survey {
        ready: true,
        total: names.len(),
        ..Survey::default()
    };
    for name in choice.of(names) {
        let folder = path.join(format!("{name}.lance"));
        match table(&folder, &name) {
            Ok(table) => survey.collections.push(table),
            Err(failure) => survey.problems.push(format!("{name}: {}", failure.text)),
        }
    }
    Ok(survey)
}

/// What the files of a table take, by part, and how many versions there are.
#[derive(Default)]
struct Files {
    bytes: BTreeMap<&'static str, f64>,
    versions: Vec<(u64, PathBuf)>,
    indexes: BTreeMap<String, f64>,
}

/// The version that a manifest's name says: newer files count down from the greatest number, so that
/// the newest is listed first.
fn version(name: &str) -> Option<u64> {
    let number: u64 = name.strip_suffix(".manifest")?.parse().ok()?;
    Some(if number > u64::MAX / 2 {
        u64::MAX - number
    } else {
        number
    })
}

fn files(folder: &Path) -> io::Result<Files> {
    let mut found = Files::default();
    let (mut folders, mut seen) = (vec![(folder.to_owned(), "other", String::new())], 0);
    while let Some((folder, part, index)) = folders.pop() {
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            seen += 1;
            if seen > MAX_FILES {
                return Ok(found);
            }
            // A file that vanishes meanwhile is no error: a cleanup removes old versions.
            let Ok(meta) = entry.metadata() else { continue };
            let name = entry.file_name().to_string_lossy().into_owned();
            if meta.is_dir() {
                let (part, index) = match (part, name.as_str()) {
                    ("other", "data") => ("data", String::new()),
                    ("other", "_indices") => ("indexes", String::new()),
                    ("other", "_versions" | "_transactions") => ("versions", String::new()),
                    ("other", "_deletions") => ("deletions", String::new()),
                    ("indexes", _) if index.is_empty() => ("indexes", name),
                    _ => (part, index.clone()),
                };
                folders.push((entry.path(), part, index));
                continue;
            }
            *found.bytes.entry(part).or_default() += meta.len() as f64;
            if !index.is_empty() {
                *found.indexes.entry(index.clone()).or_default() += meta.len() as f64;
            }
            if let ("versions", Some(version)) = (part, version(&name)) {
                found.versions.push((version, entry.path()));
            }
        }
    }
    Ok(found)
}

fn table(folder: &Path, name: &str) -> Looked<Collection> {
    let files = files(folder).map_err(|e| unreadable(folder, &e))?;
    let newest = files.versions.iter().max();
    let Some((_, path)) = newest else {
        return Err(Failure::new("not_found", "it has no manifest"));
    };
    let (manifest, indexes) = read(path).map_err(|e| unreadable(path, &e))?;
    let written = fs::metadata(path).and_then(|meta| meta.modified()).ok();
    let odd = |problem: &str| Failure::odd(&format!("the manifest: {problem}"));
    let manifest = Manifest::parse(&manifest).map_err(odd)?;
    let indexes = index_section(&indexes).map_err(odd)?;
    let rows: f64 = manifest.fragments.iter().map(|(_, rows)| rows).sum();
    let of_vectors: Vec<&IndexOf> = indexes
        .iter()
        .filter(|index| {
            manifest
                .vector
                .is_some_and(|(id, _)| index.fields.contains(&id))
        })
        .collect();
    let mut covered = RoaringBitmap::new();
    for index in &of_vectors {
        covered |= &index.fragments;
    }
    let indexed: f64 = manifest
        .fragments
        .iter()
        .filter(|(id, _)| covered.contains(*id))
        .map(|(_, rows)| rows)
        .sum();
    let has_index = !of_vectors.is_empty();
    Ok(Collection {
        name: name.to_owned(),
        id: name.to_owned(),
        vectors: Some(rows),
        dimension: manifest.vector.map(|(_, dimension)| f64::from(dimension)),
        indexed: has_index.then_some(indexed),
        unindexed: has_index.then_some(rows - indexed),
        segments: Some(manifest.fragments.len() as f64),
        bytes: files.bytes.iter().map(|(part, n)| (*part, *n)).collect(),
        written: written
            .and_then(|at| at.duration_since(UNIX_EPOCH).ok())
            .map(|since| since.as_secs_f64()),
        indexes: of_vectors
            .into_iter()
            .map(|index| Index {
                name: index.name.clone(),
                method: "lance".to_owned(),
                valid: true,
                scans: None,
                bytes: files.indexes.get(&index.folder).copied(),
            })
            .collect(),
        searchable: false,
        ..Collection::default()
    })
}

/// The message of the manifest, and that of its indexes, which is empty where there is none.
fn read(path: &Path) -> io::Result<(Vec<u8>, Vec<u8>)> {
    let odd = || io::Error::new(io::ErrorKind::InvalidData, "is no manifest of Lance");
    let mut file = fs::File::open(path)?;
    let size = file.metadata()?.len();
    if size > MAX_MANIFEST || size < FOOTER as u64 {
        return Err(odd());
    }
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(0))?;
    file.take(MAX_MANIFEST).read_to_end(&mut bytes)?;
    let (body, footer) = bytes.split_at(bytes.len().saturating_sub(FOOTER));
    if footer.get(12..) != Some(b"LANC") {
        return Err(odd());
    }
    let at = u64::from_le_bytes(footer[..8].try_into().map_err(|_| odd())?);
    let message = |at: u64| -> io::Result<Vec<u8>> {
        let rest = usize::try_from(at).ok().and_then(|at| body.get(at..));
        let (length, rest) = rest
            .and_then(|rest| rest.split_at_checked(4))
            .ok_or_else(odd)?;
        let length = u32::from_le_bytes(length.try_into().map_err(|_| odd())?);
        let message = rest.get(..length as usize).ok_or_else(odd)?;
        Ok(message.to_vec())
    };
    let manifest = message(at)?;
    let mut fields = Fields::of(&manifest);
    let mut indexes = Vec::new();
    while let Some((number, value)) = fields.next().map_err(|_| odd())? {
        if number == 6 {
            indexes = message(value.uint().map_err(|_| odd())?)?;
        }
    }
    Ok((manifest, indexes))
}

type Problem = &'static str;

/// What is used of `lance.table.Manifest`.
#[derive(Debug, Default)]
struct Manifest {
    /// The field of vectors: its number, and the dimension.
    vector: Option<(u64, u32)>,
    /// Number, and rows that are not deleted.
    fragments: Vec<(u32, f64)>,
}

impl Manifest {
    fn parse(bytes: &[u8]) -> Result<Self, Problem> {
        let mut manifest = Manifest::default();
        let mut fields = Fields::of(bytes);
        while let Some((number, value)) = fields.next()? {
            match number {
                1 if manifest.vector.is_none() => manifest.vector = vector_field(value.message()?)?,
                2 => manifest.fragments.push(fragment(value.message()?)?),
                _ => {}
            }
        }
        Ok(manifest)
    }
}

/// `lance.file.Field`: its number (absent for 0) and type, such as `fixed_size_list:float:128`.
fn vector_field(mut fields: Fields<'_>) -> Result<Option<(u64, u32)>, Problem> {
    let (mut id, mut dimension) = (0, None);
    while let Some((number, value)) = fields.next()? {
        match number {
            3 => id = value.uint()?,
            5 => {
                let kind = value.text()?.strip_prefix("fixed_size_list:");
                dimension = kind.and_then(|kind| kind.rsplit(':').next()?.parse().ok());
            }
            _ => {}
        }
    }
    Ok(dimension.map(|dimension| (id, dimension)))
}

/// `lance.table.DataFragment`.
fn fragment(mut fields: Fields<'_>) -> Result<(u32, f64), Problem> {
    let (mut id, mut rows, mut deleted) = (0, 0, 0);
    while let Some((number, value)) = fields.next()? {
        match number {
            1 => id = value.uint()?,
            4 => rows = value.uint()?,
            3 => {
                let mut deletion = value.message()?;
                while let Some((number, value)) = deletion.next()? {
                    if number == 4 {
                        deleted = value.uint()?;
                    }
                }
            }
            _ => {}
        }
    }
    let id = u32::try_from(id).map_err(|_| "a fragment's number is too great")?;
    Ok((id, rows.saturating_sub(deleted) as f64))
}

/// What is used of `lance.table.IndexMetadata`.
#[derive(Debug, Default)]
struct IndexOf {
    folder: String,
    name: String,
    fields: Vec<u64>,
    fragments: RoaringBitmap,
}

fn index_section(bytes: &[u8]) -> Result<Vec<IndexOf>, Problem> {
    let mut indexes = Vec::new();
    let mut section = Fields::of(bytes);
    while let Some((number, value)) = section.next()? {
        if number != 1 {
            continue;
        }
        let mut index = IndexOf::default();
        let mut fields = value.message()?;
        while let Some((number, value)) = fields.next()? {
            match (number, value) {
                (1, value) => index.folder = identifier(value.message()?)?,
                (2, Value::Varint(field)) => index.fields.push(field),
                (2, value) => index
                    .fields
                    .extend(value.bytes()?.iter().map(|b| u64::from(*b))),
                (3, value) => index.name = value.text()?.to_owned(),
                (5, value) => {
                    index.fragments = RoaringBitmap::deserialize_from(value.bytes()?)
                        .map_err(|_| "a bitmap cannot be read")?;
                }
                _ => {}
            }
        }
        indexes.push(index);
    }
    Ok(indexes)
}

/// `lance.table.UUID`: sixteen bytes, as the folder is called.
fn identifier(mut fields: Fields<'_>) -> Result<String, Problem> {
    let mut text = String::new();
    while let Some((_, value)) = fields.next()? {
        for (index, byte) in value.bytes()?.iter().enumerate().take(16) {
            if matches!(index, 4 | 6 | 8 | 10) {
                text.push('-');
            }
            text.push_str(&format!("{byte:02x}"));
        }
    }
    Ok(text)
}

impl Store for LanceDb {
    fn address(&self) -> String {
        self.path.display().to_string()
    }

    fn survey<'a>(
        &'a mut self,
        choice: &'a Choice,
        timeout: Duration,
    ) -> BoxFuture<'a, Looked<Survey>> {
        async move {
            let (path, choice) = (self.path.clone(), choice.clone());
            let looking = self
                .looking
                .get_or_insert_with(|| tokio::task::spawn_blocking(move || survey(&path, &choice)));
            let Ok(ended) = tokio::time::timeout(timeout, looking).await else {
                return Err(Failure::new(
                    "timeout",
                    "the folder does not answer in time",
                ));
            };
            self.looking = None;
            ended.unwrap_or_else(|error| Err(Failure::odd(&error.to_string())))
        }
        .boxed()
    }

    fn sample<'a>(
        &'a mut self,
        _collection: &'a Collection,
        _most: usize,
        _timeout: Duration,
    ) -> BoxFuture<'a, Looked<Vec<Stored>>> {
        async { Ok(Vec::new()) }.boxed()
    }

    fn nearest<'a>(
        &'a mut self,
        _collection: &'a Collection,
        _stored: &'a Stored,
        _most: usize,
        _search: Search,
        _timeout: Duration,
    ) -> BoxFuture<'a, Looked<Option<Vec<Hit>>>> {
        async { Ok(None) }.boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_count_up_or_down() {
        assert_eq!(version("7.manifest"), Some(7));
        assert_eq!(version("18446744073709551610.manifest"), Some(5));
        assert_eq!(version("latest_version_hint.json"), None);
    }
}
