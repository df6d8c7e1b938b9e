//! A block of Prometheus: series and where their chunks are (`index`), the chunks (`chunks/`), and
//! what was deleted (`tombstones`).

use std::collections::HashMap;
use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use super::{
    CASTAGNOLI, Deleted, Error, LONGEST, LeftOut, Take, big_u32, big_u64, chunk, failed, format,
    is_deleted,
};
use crate::model::bytes::Reader;
use crate::model::{Labels, Timestamp};

const INDEX_MAGIC: u32 = 0xBAAA_D700;
const CHUNKS_MAGIC: u32 = 0x85BD_40DD;
const TOMBSTONES_MAGIC: u32 = 0x0130_BA30;
/// The encoding of a chunk of floats; the other two are of native histograms.
const FLOATS: u8 = 1;
const HISTOGRAMS: [u8; 2] = [2, 3];
/// Series begin at multiples of it.
const ALIGNED: u64 = 16;
/// Bytes that are read at a time.
const WINDOW: u64 = 256 << 10;
/// Bytes at the end of the index: where its six parts begin, and a checksum.
const CONTENTS: u64 = 6 * 8 + 4;

/// A file, read a window at a time.
struct Windowed {
    path: PathBuf,
    file: File,
    length: u64,
    start: u64,
    held: Vec<u8>,
}

impl Windowed {
    fn open(path: PathBuf, magic: u32, versions: &[u8]) -> Result<Self, Error> {
        let file = File::open(&path).map_err(|error| failed(&path, error))?;
        let length = file.metadata().map_err(|error| failed(&path, error))?.len();
        let mut opened = Windowed {
            path,
            file,
            length,
            start: 0,
            held: Vec::new(),
        };
        let head = opened.at(0, 5)?;
        let known = head[..4] == magic.to_be_bytes() && versions.contains(&head[4]);
        if !known {
            return Err(opened.wrong("it is not of a format of Prometheus that is known"));
        }
        Ok(opened)
    }

    fn wrong(&self, what: impl Into<String>) -> Error {
        format(&self.path, what)
    }

    /// So many bytes from there on.
    fn at(&mut self, offset: u64, length: u64) -> Result<&[u8], Error> {
        let end = offset.checked_add(length).filter(|end| *end <= self.length);
        let Some(end) = end else {
            return Err(self.wrong("it is cut short"));
        };
        if offset < self.start || end > self.start + self.held.len() as u64 {
            let most = length.max(WINDOW).min(self.length - offset);
            self.start = offset;
            self.held.resize(most as usize, 0);
            let read = self.file.read_exact_at(&mut self.held, offset);
            read.map_err(|error| failed(&self.path, error))?;
        }
        let from = (offset - self.start) as usize;
        Ok(&self.held[from..from + length as usize])
    }

    /// What follows a length at this offset, with as many bytes more, and where that ends.
    fn counted(&mut self, offset: u64, more: u64) -> Result<(u64, u64), Error> {
        let head = self.at(offset, 10.min(self.length.saturating_sub(offset)))?;
        let mut reader = Reader(head);
        let before = reader.0.len();
        let length = reader.uint().filter(|length| *length < LONGEST);
        let head = (before - reader.0.len()) as u64;
        let length = length.ok_or_else(|| self.wrong("a length in it is none"))?;
        Ok((offset + head, length + more))
    }
}

/// A text of the index: where it begins in the table, and its length.
struct Symbols {
    bytes: Vec<u8>,
    at: Vec<(u32, u32)>,
    /// In the first version series name texts by where they stand in the file.
    by_offset: Option<HashMap<u32, u32>>,
}

impl Symbols {
    fn get(&self, number: u64) -> Option<&str> {
        let number = match &self.by_offset {
            Some(known) => *known.get(&u32::try_from(number).ok()?)? as usize,
            None => usize::try_from(number).ok()?,
        };
        let (start, length) = *self.at.get(number)?;
        let text = self.bytes.get(start as usize..(start + length) as usize)?;
        std::str::from_utf8(text).ok()
    }
}

/// Hands all samples of a block to `take`.
pub(super) fn read(
    folder: &Path,
    take: &mut Take<'_>,
    left: &mut LeftOut,
    progress: &mut dyn FnMut(u64),
) -> Result<(), Error> {
    let deleted = tombstones(&folder.join("tombstones"))?;
    let mut index = Windowed::open(folder.join("index"), INDEX_MAGIC, &[1, 2])?;
    let version = index.at(4, 1)?[0];
    let (symbols, from, to) = contents(&mut index, version)?;
    let mut segments = Segments {
        folder: folder.join("chunks"),
        open: None,
    };
    let mut at = from.next_multiple_of(ALIGNED);
    while at < to {
        progress(at);
        let (start, length) = index.counted(at, 4)?;
        if length == 4 {
            // What fills up the end of the part.
            break;
        }
        let entry = checked(&mut index, start, length)?.to_vec();
        let id = if version == 1 { at } else { at / ALIGNED };
        let series = series(&entry, &symbols).ok_or_else(|| index.wrong("a series is damaged"))?;
        for place in &series.chunks {
            segments.read(*place, left, &mut |time, value, left| {
                if is_deleted(&deleted, id, time) {
                    left.deleted += 1;
                    return Ok(());
                }
                take(&series.labels, Timestamp(time), value)
            })?;
        }
        at = (start + length).next_multiple_of(ALIGNED);
    }
    Ok(())
}

/// The texts of an index, and where its series begin and end.
fn contents(index: &mut Windowed, version: u8) -> Result<(Symbols, u64, u64), Error> {
    let start = index.length.saturating_sub(CONTENTS);
    let contents = index.at(start, CONTENTS)?.to_vec();
    let (body, sum) = contents.split_at(contents.len() - 4);
    let mut reader = Reader(body);
    let parts: Vec<u64> = (0..6).filter_map(|_| big_u64(&mut reader)).collect();
    if CASTAGNOLI.checksum(body).to_be_bytes() != sum || parts.len() != 6 {
        return Err(index.wrong("the checksum of its contents is wrong"));
    }
    let (symbols, series) = (parts[0], parts[1]);
    let end = parts.iter().filter(|part| **part > series).min();
    let end = end.copied().unwrap_or(start);
    let mut length = Reader(index.at(symbols, 4)?);
    let length = u64::from(big_u32(&mut length).unwrap_or_default());
    let bytes = checked(index, symbols + 4, length + 4)?.to_vec();
    let damaged = "its table of texts is damaged";
    let found = texts(bytes, symbols + 4, version).ok_or_else(|| index.wrong(damaged))?;
    Ok((found, series, end))
}

fn texts(bytes: Vec<u8>, offset: u64, version: u8) -> Option<Symbols> {
    let mut reader = Reader(&bytes);
    let count = big_u32(&mut reader)?;
    let mut at = Vec::new();
    let mut by_offset = (version == 1).then(HashMap::new);
    for number in 0..count {
        let start = bytes.len() - reader.0.len();
        let text = reader.text()?;
        if let Some(known) = &mut by_offset {
            known.insert(u32::try_from(offset + start as u64).ok()?, number);
        }
        let end = bytes.len() - reader.0.len();
        at.push(((end - text.len()) as u32, text.len() as u32));
    }
    Some(Symbols {
        bytes,
        at,
        by_offset,
    })
}

/// Bytes whose last four are the checksum of those before.
fn checked(file: &mut Windowed, offset: u64, length: u64) -> Result<&[u8], Error> {
    let path = file.path.clone();
    let bytes = file.at(offset, length)?;
    let (body, sum) = bytes.split_at(bytes.len() - 4);
    if CASTAGNOLI.checksum(body).to_be_bytes() != sum {
        return Err(format(
            &path,
            format!("the checksum at byte {offset} is wrong"),
        ));
    }
    Ok(body)
}

/// A series of the index: the numbers of segment and byte of its chunks.
struct Series {
    labels: Labels,
    chunks: Vec<u64>,
}

fn series(entry: &[u8], symbols: &Symbols) -> Option<Series> {
    let mut reader = Reader(entry);
    let count = reader.size(entry.len())?;
    let pairs: Option<Vec<(&str, &str)>> = (0..count)
        .map(|_| {
            let (name, value) = (reader.uint()?, reader.uint()?);
            Some((symbols.get(name)?, symbols.get(value)?))
        })
        .collect();
    let labels = Labels::from_pairs(pairs?);
    let mut chunks: Vec<u64> = Vec::new();
    for number in 0..reader.size(entry.len())? {
        // The first and the last instant stand in the chunk as well.
        if number == 0 {
            reader.int()?;
            reader.uint()?;
            chunks.push(reader.uint()?);
        } else {
            reader.uint()?;
            reader.uint()?;
            let last = *chunks.last()?;
            chunks.push(last.wrapping_add(reader.int()? as u64));
        }
    }
    Some(Series { labels, chunks })
}

/// The files of chunks, one of them open.
struct Segments {
    folder: PathBuf,
    open: Option<(u64, Windowed)>,
}

impl Segments {
    /// Hands the samples of a chunk to `take`.
    fn read(
        &mut self,
        place: u64,
        left: &mut LeftOut,
        take: &mut dyn FnMut(i64, f64, &mut LeftOut) -> Result<(), String>,
    ) -> Result<(), Error> {
        let (number, offset) = (place >> 32, place & 0xffff_ffff);
        if self.open.as_ref().is_none_or(|(open, _)| *open != number) {
            let path = self.folder.join(format!("{:06}", number + 1));
            self.open = Some((number, Windowed::open(path, CHUNKS_MAGIC, &[1])?));
        }
        let Some((_, segment)) = &mut self.open else {
            return Ok(());
        };
        // The encoding comes before what is counted, a checksum after it.
        let (start, length) = segment.counted(offset, 5)?;
        let path = segment.path.clone();
        let body = checked(segment, start, length)?;
        let mut refused = None;
        let whole = match body.split_first() {
            Some((&FLOATS, data)) => chunk::floats(data, |at, value| {
                refused = take(at, value, left).err();
                refused.is_none().then_some(())
            }),
            Some((kind, data)) if HISTOGRAMS.contains(kind) => {
                left.histograms += chunk::count(data);
                Some(())
            }
            _ => None,
        };
        match (whole, refused) {
            (Some(()), _) => Ok(()),
            (None, Some(reason)) => Err(Error::Refused(reason)),
            (None, None) => Err(format(
                &path,
                format!("the chunk at byte {offset} is of a kind that is not known"),
            )),
        }
    }
}

/// What was deleted, by the number of the series.
fn tombstones(path: &Path) -> Result<Deleted, Error> {
    let bytes = match fs::read(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Deleted::new()),
        read => read.map_err(|error| failed(path, error))?,
    };
    let parse = || {
        let (body, sum) = bytes.split_at_checked(bytes.len().checked_sub(4)?)?;
        let mut reader = Reader(body);
        let known = big_u32(&mut reader)? == TOMBSTONES_MAGIC && reader.byte()? == 1;
        // The checksum is of what follows the head.
        let whole = CASTAGNOLI.checksum(reader.0).to_be_bytes() == sum;
        if !known || !whole {
            return None;
        }
        let mut deleted = Deleted::new();
        while !reader.0.is_empty() {
            let series = reader.uint()?;
            let span = (reader.int()?, reader.int()?);
            deleted.entry(series).or_default().push(span);
        }
        Some(deleted)
    };
    parse().ok_or_else(|| format(path, "it is damaged"))
}
