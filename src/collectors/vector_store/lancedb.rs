//! A folder of LanceDB: each `NAME.lance` is a table, described by its newest manifest
//! (<https://lance.org/format/table/>): rows, deletions, dimension, which fragments an index covers.
//!
//! Privilege: to read the folder. Used: listing and reading files below `path`. Never used: the
//! library of LanceDB, locks, whatever writes. Nothing is searched: there is no server to ask.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use tokio::task::JoinHandle;

use crate::config::Section;

use super::store::{
    AnyStore, Choice, Collection, Failure, Hit, Index, Looked, Search, Store, Stored, Survey,
};

/// Most files of a table that are looked at.
const MAX_FILES: usize = 50_000;
/// Greatest manifest that is read, in bytes.
const MAX_MANIFEST: u64 = 64 << 20;
/// Most fragments that an index covers.
const MAX_FRAGMENTS: usize = 4 << 20;
/// Bytes at a manifest's end: where it begins, versions, `LANC`.
const FOOTER: usize = 16;

struct LanceDb {
    path: PathBuf,
    /// A look that has not ended: a file system that hangs holds this one, and no other is begun.
    looking: Option<JoinHandle<Looked<Survey>>>,
}

/// Reads its keys.
pub fn build(section: &Section<'_>) -> Box<dyn AnyStore> {
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
    let covered: BTreeSet<u32> = of_vectors
        .iter()
        .flat_map(|index| index.fragments.iter().copied())
        .collect();
    let indexed: f64 = manifest
        .fragments
        .iter()
        .filter(|(id, _)| covered.contains(id))
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
const CUT: Problem = "a field ends before its value does";
const WRONG: Problem = "a field has a value of the wrong type";

/// The fields of a message of Protocol Buffers, in order; of fixed numbers, which no field here has,
/// the value is left out.
struct Fields<'a>(&'a [u8]);

/// The value of a field.
#[derive(Clone, Copy)]
enum Value<'a> {
    Varint(u64),
    Bytes(&'a [u8]),
    Fixed,
}

impl<'a> Fields<'a> {
    fn of(message: &'a [u8]) -> Self {
        Fields(message)
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], Problem> {
        let (front, rest) = self.0.split_at_checked(length).ok_or(CUT)?;
        self.0 = rest;
        Ok(front)
    }

    fn uint(&mut self) -> Result<u64, Problem> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.take(1)?[0];
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err("a number is too long")
    }

    /// Number and value of the next field; `None` at the end.
    fn next(&mut self) -> Result<Option<(u64, Value<'a>)>, Problem> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let key = self.uint()?;
        let value = match key & 7 {
            0 => Value::Varint(self.uint()?),
            1 => self.take(8).map(|_| Value::Fixed)?,
            2 => {
                let length = usize::try_from(self.uint()?).map_err(|_| CUT)?;
                Value::Bytes(self.take(length)?)
            }
            5 => self.take(4).map(|_| Value::Fixed)?,
            _ => return Err("a field has a wire type that is not used"),
        };
        Ok(Some((key >> 3, value)))
    }
}

impl<'a> Value<'a> {
    fn uint(self) -> Result<u64, Problem> {
        match self {
            Value::Varint(number) => Ok(number),
            _ => Err(WRONG),
        }
    }

    fn bytes(self) -> Result<&'a [u8], Problem> {
        match self {
            Value::Bytes(bytes) => Ok(bytes),
            _ => Err(WRONG),
        }
    }

    fn message(self) -> Result<Fields<'a>, Problem> {
        self.bytes().map(Fields::of)
    }

    fn text(self) -> Result<&'a str, Problem> {
        std::str::from_utf8(self.bytes()?).map_err(|_| "a text is not UTF-8")
    }
}

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
    fragments: Vec<u32>,
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
                    index.fragments = bitmap(value.bytes()?).ok_or("a bitmap cannot be read")?;
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

/// The numbers of a Roaring bitmap
/// (<https://github.com/RoaringBitmap/RoaringFormatSpec>); `None` where it is cut.
fn bitmap(bytes: &[u8]) -> Option<Vec<u32>> {
    const NO_RUNS: u32 = 12346;
    const RUNS: u32 = 12347;
    let u16_at = |at: usize| Some(u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?));
    let u32_at = |at: usize| Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    let cookie = u32_at(0)?;
    let (count, runs, mut at) = if cookie == NO_RUNS {
        (u32_at(4)? as usize, None, 8)
    } else if cookie & 0xffff == RUNS {
        let count = (cookie >> 16) as usize + 1;
        let flags = count.div_ceil(8);
        (count, Some(bytes.get(4..4 + flags)?), 4 + flags)
    } else {
        return None;
    };
    let keys = at;
    at += count.checked_mul(4)?;
    if runs.is_none() || count >= 4 {
        // Where each container begins; they follow each other.
        at += count * 4;
    }
    let mut numbers = Vec::new();
    for index in 0..count {
        if numbers.len() > MAX_FRAGMENTS {
            return None;
        }
        let high = u32::from(u16_at(keys + index * 4)?) << 16;
        let cardinality = usize::from(u16_at(keys + index * 4 + 2)?) + 1;
        let is_run = runs.is_some_and(|flags| flags[index / 8] & (1 << (index % 8)) != 0);
        if is_run {
            let count = usize::from(u16_at(at)?);
            for run in 0..count {
                let start = u32::from(u16_at(at + 2 + run * 4)?);
                let length = u32::from(u16_at(at + 4 + run * 4)?);
                numbers.extend((start..=start + length).map(|low| high | low));
            }
            at += 2 + count * 4;
        } else if cardinality > 4096 {
            for (byte, flags) in bytes.get(at..at + 8192)?.iter().enumerate() {
                for bit in (0..8).filter(|bit| flags & (1 << bit) != 0) {
                    numbers.push(high | (byte as u32 * 8 + bit));
                }
            }
            at += 8192;
        } else {
            for item in 0..cardinality {
                numbers.push(high | u32::from(u16_at(at + item * 2)?));
            }
            at += cardinality * 2;
        }
    }
    Some(numbers)
}

impl Store for LanceDb {
    fn address(&self) -> String {
        self.path.display().to_string()
    }

    async fn survey(&mut self, choice: &Choice, timeout: Duration) -> Looked<Survey> {
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

    async fn sample(&mut self, _: &Collection, _: usize, _: Duration) -> Looked<Vec<Stored>> {
        Ok(Vec::new())
    }

    async fn nearest(
        &mut self,
        _: &Collection,
        _: &Stored,
        _: usize,
        _: Search,
        _: Duration,
    ) -> Looked<Option<Vec<Hit>>> {
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bitmaps_of_every_kind_are_read_and_cut_ones_refused() {
        let array = [12346_u32.to_le_bytes(), 1_u32.to_le_bytes()].concat();
        // Key 0, two numbers, the container at 16.
        let array = [
            array,
            vec![0, 0, 1, 0],
            16_u32.to_le_bytes().to_vec(),
            vec![3, 0, 7, 0],
        ];
        let array = array.concat();
        assert_eq!(bitmap(&array), Some(vec![3, 7]));
        // Key 1, one run of 5 to 8.
        let run = [
            12347_u32.to_le_bytes().to_vec(),
            vec![1, 1, 0, 3, 0, 1, 0, 5, 0, 3, 0],
        ]
        .concat();
        let high = 1 << 16;
        assert_eq!(
            bitmap(&run),
            Some(vec![high | 5, high | 6, high | 7, high | 8])
        );
        for cut in 0..array.len() {
            assert_eq!(bitmap(&array[..cut]), None, "{cut}");
        }
        assert_eq!(bitmap(b"something else"), None);
    }

    #[test]
    fn versions_count_up_or_down() {
        assert_eq!(version("7.manifest"), Some(7));
        assert_eq!(version("18446744073709551610.manifest"), Some(5));
        assert_eq!(version("latest_version_hint.json"), None);
    }
}
