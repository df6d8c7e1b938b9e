//! A block: the samples of all series in a span of time, in one file that never changes.
//!
//! Layout: eight bytes that name the format and its number, one or two; for each series its chunks
//! ([`packed`]); the index; a footer of fixed size. Instants are a slice of a column in the index,
//! which series share, or stand in the chunk. In one with native histograms there is a marker among
//! the values for each, and they themselves follow, deflated. Series are grouped by metric name. Nothing of it stays in memory but the footer; the index is read when a query needs it and
//! kept in a bounded cache.

use std::collections::HashMap;
use std::fs::File;
use std::num::NonZeroU64;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

use parking_lot::Mutex;
use rustix::fs::{Advice, fadvise};

use super::BlockStatus;
use super::chunks::instants::Instants;
use super::chunks::packed::{self, Format, Packed, last_instant};
use super::chunks::runs::Run;
use super::chunks::values::Model;
use crate::model::bytes::Reader;
use crate::model::{Labels, METRIC_NAME, MatchOp, Matcher, Timestamp};
use crate::store::memory::chunk::decompress_times;
use crate::store::memory::series::Gathered;
use crate::store::read::seen::Seen;

/// What a block begins with, before the number of its format.
const MAGIC: &[u8; 7] = b"nbblock";
/// What a block that is written begins with.
pub(super) const MAGIC_NOW: &[u8; 8] = b"nbblock\x02";
/// What it ends with.
pub(super) const FOOTER_MAGIC: &[u8; 8] = b"nbbloend";
const FOOTER: usize = 8 * 8 + 4 + 4 + 8;
/// Largest index that is read.
const LARGEST: u64 = 1 << 30;
/// Bytes of a block that is fetched from the disk as a whole, sooner than in two pieces.
const SMALL: u64 = 128 << 10;
/// Numbers blocks: what was decoded from one cannot be mistaken for another.
static NEXT: AtomicU64 = AtomicU64::new(0);

/// Series found that an index remembers, over all selections.
const REMEMBERED: usize = 2048;

/// A block on disk.
#[derive(Debug)]
pub(in crate::store) struct Block {
    pub(super) path: PathBuf,
    file: File,
    format: Format,
    /// It holds what was sampled at `start <= timestamp < end`.
    pub(super) start: i64,
    pub(super) end: i64,
    /// Oldest and newest sample.
    pub(super) first: i64,
    pub(super) last: i64,
    pub(super) series: u64,
    pub(super) samples: u64,
    pub(super) bytes: u64,
    /// Unlike that of any other block of this process.
    number: u64,
    index_at: u64,
    index_length: u64,
    index_checksum: u32,
    /// Where time came by twice, which blocks were written last: those of the greater number.
    pub(super) later: u32,
    /// What it holds after this time is not served: the clock was set back, and it has not come by
    /// again.
    pub(super) until: AtomicI64,
    /// A chunk was found to be damaged.
    pub(super) damaged: AtomicBool,
    /// All chunks were read once since the start.
    pub(super) verified: AtomicBool,
}

/// The number in a name such as `<start>-<end>.<number>.block`.
fn later(path: &Path) -> u32 {
    let name = path.file_stem().map(Path::new).and_then(Path::extension);
    name.and_then(|number| number.to_str()?.parse().ok())
        .unwrap_or(0)
}

/// Where a series lies in a block.
#[derive(Clone, Debug)]
pub(in crate::store) struct Located {
    pub(in crate::store) labels: Labels,
    pub(in crate::store) offset: u64,
    pub(in crate::store) length: u32,
}

/// What was found for some matchers.
type Selections = HashMap<Box<[Matcher]>, Arc<[Located]>, ahash::RandomState>;

/// The index of a block, in memory.
#[derive(Debug)]
pub(super) struct Index {
    bytes: Vec<u8>,
    /// Where each text begins and how long it is.
    symbols: Vec<(u32, u32)>,
    pub(super) columns: Arc<Columns>,
    groups: Vec<Group>,
    entries: usize,
    selections: Mutex<Selections>,
}

/// The columns of instants that series of a block share, compressed. They outlive the index, which
/// is much larger.
#[derive(Debug)]
pub(super) struct Columns(Vec<(usize, Box<[u8]>)>);

/// The series of one metric.
#[derive(Clone, Copy, Debug)]
struct Group {
    name: u32,
    count: u64,
    entry: usize,
    data: u64,
}

/// Where a walk through an index stands.
#[derive(Debug, Default)]
pub(super) struct Cursor {
    /// The group that comes next, and how many series of the one before it are left.
    group: usize,
    left: u64,
    entry: usize,
    offset: u64,
}

impl Block {
    /// Opens a block and checks its footer. The error says what is wrong.
    pub(super) fn open(path: &Path) -> Result<Self, String> {
        let file = File::open(path).map_err(|e| e.to_string())?;
        let bytes = file.metadata().map_err(|e| e.to_string())?.len();
        let at = bytes.checked_sub(FOOTER as u64).ok_or("it is too short")?;
        let mut footer = [0; FOOTER];
        file.read_exact_at(&mut footer, at)
            .map_err(|e| e.to_string())?;
        if !footer.ends_with(FOOTER_MAGIC) {
            return Err("it does not end as a block does".into());
        }
        let mut reader = Reader(&footer);
        let mut numbers = [0; 8];
        for number in &mut numbers {
            *number = reader.u64().ok_or("it is too short")?;
        }
        let [
            index_at,
            index_length,
            series,
            samples,
            start,
            end,
            first,
            last,
        ] = numbers;
        let index_checksum = reader.u32().ok_or("it is too short")?;
        if reader.u32() != Some(crc32fast::hash(&footer[..FOOTER - 12])) {
            return Err("the checksum of its footer is wrong".into());
        }
        if index_length > LARGEST || index_at.checked_add(index_length) != Some(at) {
            return Err("its length is wrong".into());
        }
        let mut magic = [0; MAGIC_NOW.len()];
        file.read_exact_at(&mut magic, 0)
            .map_err(|e| e.to_string())?;
        let format = match magic.strip_prefix(MAGIC) {
            Some([1]) => Format::First,
            Some([2]) => Format::Second,
            _ => return Err("it does not begin as a block does".into()),
        };
        let [start, end, first, last] = [start, end, first, last].map(|n| n as i64);
        Ok(Block {
            path: path.to_owned(),
            file,
            format,
            start,
            end,
            first,
            last,
            series,
            samples,
            bytes,
            number: NEXT.fetch_add(1, Ordering::Relaxed),
            index_at,
            index_length,
            index_checksum,
            later: later(path),
            until: AtomicI64::new(i64::MAX),
            damaged: AtomicBool::new(false),
            verified: AtomicBool::new(false),
        })
    }

    /// Whether a file is a block of a format that only a newer nightbell knows.
    pub(super) fn is_newer(path: &Path) -> bool {
        let mut magic = [0; MAGIC_NOW.len()];
        let read = File::open(path).and_then(|file| file.read_exact_at(&mut magic, 0));
        // A number that nothing of ours will soon have is damage.
        let newer = |number: u8| number > MAGIC_NOW[MAGIC.len()] && number < 32;
        read.is_ok() && magic.starts_with(MAGIC) && newer(magic[MAGIC.len()])
    }

    /// The last time of which it is served, and the end of the span that nobody looks for in memory
    /// because of it.
    pub(super) fn served(&self) -> (i64, i64) {
        let until = self.until.load(Ordering::Relaxed);
        (self.last.min(until), self.end.min(until.saturating_add(1)))
    }

    /// How many of these hold samples of `start <= timestamp < end`.
    pub(super) fn overlapping(blocks: &[Arc<Block>], start: i64, end: i64) -> usize {
        blocks
            .iter()
            .filter(|b| b.start < end && b.end > start)
            .count()
    }

    /// Its number, unlike that of any other block of this process.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// Bytes of its index.
    pub(super) fn index_length(&self) -> u64 {
        self.index_length
    }

    /// Where it is.
    pub(in crate::store) fn path(&self) -> &Path {
        &self.path
    }

    /// Milliseconds of the newest sample of a series; `None` when that is damaged.
    pub(super) fn newest(
        &self,
        columns: &Columns,
        instants: &Instants,
        series: &Located,
    ) -> Option<i64> {
        let mut data = vec![0; series.length as usize];
        self.file.read_exact_at(&mut data, series.offset).ok()?;
        let (mut reader, mut last) = (Reader(&data), None);
        while !reader.0.is_empty() {
            let length = reader.size(data.len())?;
            let checksum = reader.u32()?;
            let chunk = reader.take(length)?;
            if crc32fast::hash(chunk) != checksum {
                return None;
            }
            last = Some(chunk);
        }
        let column = |number| instants.get((self.number, number), || columns.decode(number));
        last_instant(column, last?)
    }

    /// Whether a chunk was found to be damaged.
    pub(super) fn is_damaged(&self) -> bool {
        self.damaged.load(Ordering::Relaxed)
    }

    /// Numbers for people.
    pub(in crate::store) fn status(&self) -> BlockStatus {
        BlockStatus {
            name: self
                .path
                .file_name()
                .map(|n| n.to_string_lossy().into_owned())
                .unwrap_or_default(),
            first: Timestamp(self.first),
            last: Timestamp(self.last),
            series: self.series,
            samples: self.samples,
            bytes: self.bytes,
        }
    }

    /// Reads the index.
    pub(super) fn index(&self) -> Result<Index, String> {
        let mut bytes = vec![0; self.index_length as usize];
        self.file
            .read_exact_at(&mut bytes, self.index_at)
            .map_err(|e| e.to_string())?;
        if crc32fast::hash(&bytes) != self.index_checksum {
            return Err("the checksum of its index is wrong".into());
        }
        Index::parse(bytes).ok_or_else(|| "its index cannot be decoded".into())
    }

    /// Appends the samples of a series with `from < timestamp <= to`. Returns how many chunks are
    /// damaged; those are left out.
    pub(super) fn read(
        &self,
        columns: &Columns,
        instants: &Instants,
        series: &Located,
        span: (i64, i64),
        samples: &mut Gathered,
    ) -> u64 {
        let mut data = Vec::new();
        if !self.fetch((series.offset, series.length as usize), &mut data) {
            return 1;
        }
        let (seen, mut known) = (
            Seen::all(Timestamp(span.0), Timestamp(span.1)),
            Known::default(),
        );
        self.decode(columns, instants, &mut known, &data, (span, &seen), samples)
    }

    /// Says that this part of the file will be read, so that the disk may fetch it meanwhile.
    pub(super) fn announce(&self, (offset, length): (u64, usize)) {
        // It is only a hint.
        let length = NonZeroU64::new(length as u64);
        let _ = fadvise(&self.file, offset, length, Advice::WillNeed);
    }

    /// The same of its index, or of all of it where that is small.
    pub(super) fn announce_index(&self) {
        if self.bytes <= SMALL {
            self.announce((0, self.bytes as usize));
        } else {
            self.announce((self.index_at, self.index_length as usize));
        }
    }

    /// Appends bytes of the file, as many as are asked for; `false` when it cannot be read.
    pub(super) fn fetch(&self, (offset, length): (u64, usize), into: &mut Vec<u8>) -> bool {
        let before = into.len();
        into.resize(before + length, 0);
        let read = self.file.read_exact_at(&mut into[before..], offset);
        if read.is_err() {
            into.truncate(before);
            self.damaged.store(true, Ordering::Relaxed);
        }
        read.is_ok()
    }

    /// Appends those samples in the chunks of a series that lie in `from < timestamp <= to`, of all
    /// chunks in which something is seen. Returns how many chunks are damaged; those are left out.
    pub(super) fn decode(
        &self,
        columns: &Columns,
        instants: &Instants,
        known: &mut Known,
        data: &[u8],
        (span, seen): ((i64, i64), &Seen),
        samples: &mut Gathered,
    ) -> u64 {
        let mut column = |number| known.column(self.number, number, columns, instants);
        self.each_chunk(data, |chunk, model| {
            chunk.append(model, &mut column, (span, seen), samples)
        })
    }

    /// All samples in the chunks of a series, to be kept; `None` when some are native histograms, or
    /// damaged.
    pub(super) fn runs(&self, data: &[u8]) -> Option<Arc<[Run]>> {
        let mut runs: Vec<Run> = Vec::new();
        // Where the next chunk goes on in the column of the one before it, both are one run.
        let (mut position, mut values): (Option<(usize, usize)>, Vec<f64>) = (None, Vec::new());
        let mut all = true;
        let lost = self.each_chunk(data, |chunk, model| {
            all &= chunk.is_floats();
            let before = position
                .map(|(number, first)| (number, first + values.len()))
                .filter(|next| chunk.column == Some(*next));
            if before.is_none() {
                if let Some((number, first)) = position.take() {
                    runs.push(Run::shared(number, first, &values));
                }
                values.clear();
                position = chunk.column;
            }
            let begun = values.len();
            values.resize(begun + chunk.count, 0.0);
            chunk.decode(model, &mut values[begun..])?;
            if chunk.column.is_none() {
                runs.push(Run::own(&chunk.own_times()?, &values));
                values.clear();
            }
            Some(())
        });
        if let Some((number, first)) = position {
            runs.push(Run::shared(number, first, &values));
        }
        (lost == 0 && all).then(|| runs.into())
    }

    /// Appends those samples of runs that lie in `from < timestamp <= to`; `false` when their column
    /// cannot be decoded.
    pub(super) fn append(
        &self,
        columns: &Columns,
        instants: &Instants,
        known: &mut Known,
        runs: &[Run],
        span: (i64, i64),
        samples: &mut Gathered,
    ) -> bool {
        runs.iter().all(|run| {
            let column = match run.column() {
                Some(number) => known.column(self.number, number, columns, instants),
                None => Some(Arc::default()),
            };
            let times = column.as_deref().and_then(|column| run.times(column));
            times.is_some_and(|times| {
                run.append(times, span, samples);
                true
            })
        })
    }

    /// Calls `visit` for each chunk of a series. Returns how many are damaged, or are so as `visit`
    /// sees it.
    fn each_chunk(
        &self,
        data: &[u8],
        visit: impl FnMut(Packed<'_>, Option<&Model>) -> Option<()>,
    ) -> u64 {
        let lost = packed::each(data, self.format, visit);
        if lost > 0 {
            self.damaged.store(true, Ordering::Relaxed);
        }
        lost
    }
}

/// The column of instants that was used last: the chunks of a series usually share one, and so do
/// those of the next series.
#[derive(Clone, Default)]
pub(in crate::store) struct Known(Option<(usize, Arc<[i64]>)>);

impl Known {
    fn column(
        &mut self,
        block: u64,
        number: usize,
        columns: &Columns,
        instants: &Instants,
    ) -> Option<Arc<[i64]>> {
        if self.0.as_ref().is_none_or(|(other, _)| *other != number) {
            self.0 = Some((
                number,
                instants.get((block, number), || columns.decode(number))?,
            ));
        }
        self.0.as_ref().map(|(_, instants)| Arc::clone(instants))
    }
}

impl Columns {
    fn decode(&self, number: usize) -> Option<Vec<i64>> {
        let (length, packed) = self.0.get(number)?;
        decompress_times(packed).filter(|times| times.len() == *length)
    }

    fn heap_size(&self) -> usize {
        self.0
            .iter()
            .map(|(_, packed)| packed.len() + size_of::<(usize, Box<[u8]>)>())
            .sum()
    }
}

impl Index {
    fn parse(bytes: Vec<u8>) -> Option<Self> {
        let mut reader = Reader(&bytes);
        let offset_of = |reader: &Reader<'_>| bytes.len() - reader.0.len();
        let mut symbols = Vec::new();
        for _ in 0..reader.size(bytes.len())? {
            let text = reader.text()?;
            symbols.push(((offset_of(&reader) - text.len()) as u32, text.len() as u32));
        }
        let mut columns = Vec::new();
        for _ in 0..reader.size(bytes.len())? {
            let (length, packed) = (reader.size(u32::MAX as usize)?, reader.size(bytes.len())?);
            columns.push((length, reader.take(packed)?.into()));
        }
        let mut groups = Vec::new();
        for _ in 0..reader.size(bytes.len())? {
            let name = reader.size(symbols.len().checked_sub(1)?)? as u32;
            groups.push(Group {
                name,
                count: reader.uint()?,
                entry: reader.size(bytes.len())?,
                data: reader.uint()?,
            });
        }
        let entries = offset_of(&reader);
        let columns = Arc::new(Columns(columns));
        Some(Index {
            symbols,
            columns,
            groups,
            entries,
            bytes,
            selections: Mutex::default(),
        })
    }

    /// The names of the metrics in it.
    pub(super) fn metric_names(&self) -> impl Iterator<Item = &str> {
        self.groups.iter().map(|group| self.symbol(group.name))
    }

    /// The series at a cursor, which moves on to the next one; `None` at the end. Errs when the
    /// index cannot be decoded.
    pub(super) fn series_at(&self, cursor: &mut Cursor) -> Result<Option<Located>, String> {
        while cursor.left == 0 {
            let Some(group) = self.groups.get(cursor.group) else {
                return Ok(None);
            };
            *cursor = Cursor {
                group: cursor.group + 1,
                left: group.count,
                entry: self.entries + group.entry,
                offset: group.data,
            };
        }
        let broken = || "its index cannot be decoded".to_owned();
        let mut reader = Reader(self.bytes.get(cursor.entry..).ok_or_else(broken)?);
        let mut entry = || {
            let number = |reader: &mut Reader<'_>| Some(reader.size(u32::MAX as usize)? as u32);
            let pairs: Option<Vec<(u32, u32)>> = (0..reader.size(self.bytes.len())?)
                .map(|_| Some((number(&mut reader)?, number(&mut reader)?)))
                .collect();
            let labels = Labels::from_pairs(
                pairs?
                    .iter()
                    .map(|(name, value)| (self.symbol(*name), self.symbol(*value))),
            );
            Some(Located {
                labels,
                offset: cursor.offset,
                length: number(&mut reader)?,
            })
        };
        let series = entry().ok_or_else(broken)?;
        cursor.left -= 1;
        cursor.entry = self.bytes.len() - reader.0.len();
        cursor.offset += u64::from(series.length);
        Ok(Some(series))
    }

    /// Bytes in memory when all selections are remembered that may be, for an index as small as its
    /// series.
    pub(super) fn heap_size(&self) -> usize {
        let columns = self.columns.heap_size();
        self.bytes.len()
            + self.symbols.len() * 8
            + columns
            + self.groups.len() * size_of::<Group>()
            + self.series().min(REMEMBERED) * size_of::<Located>()
    }

    fn series(&self) -> usize {
        self.groups.iter().map(|group| group.count as usize).sum()
    }

    fn symbol(&self, number: u32) -> &str {
        let (start, length) = self
            .symbols
            .get(number as usize)
            .copied()
            .unwrap_or_default();
        self.bytes
            .get(start as usize..(start + length) as usize)
            .and_then(|b| std::str::from_utf8(b).ok())
            .unwrap_or_default()
    }

    /// The series that pass all matchers, in the block's order. `intern` may give back an equal
    /// label set that is in memory already.
    pub(super) fn select(
        &self,
        matchers: &[Matcher],
        intern: impl Fn(Labels) -> Labels,
    ) -> Option<Arc<[Located]>> {
        if let Some(found) = self.selections.lock().get(matchers) {
            return Some(Arc::clone(found));
        }
        let mut conditions: Vec<Condition<'_>> =
            matchers.iter().map(|m| Condition::new(self, m)).collect();
        let mut found = Vec::new();
        for group in &self.groups {
            let name = self.symbol(group.name);
            if matchers
                .iter()
                .any(|m| m.name == METRIC_NAME && !m.matches(name))
            {
                continue;
            }
            let mut reader = Reader(self.bytes.get(self.entries + group.entry..)?);
            let mut offset = group.data;
            let mut pairs: Vec<(u32, u32)> = Vec::new();
            for _ in 0..group.count {
                pairs.clear();
                for _ in 0..reader.size(self.bytes.len())? {
                    pairs.push((
                        reader.size(u32::MAX as usize)? as u32,
                        reader.size(u32::MAX as usize)? as u32,
                    ));
                }
                let length = reader.size(u32::MAX as usize)?;
                if conditions.iter_mut().all(|c| c.holds(self, &pairs)) {
                    let labels = Labels::from_pairs(
                        pairs
                            .iter()
                            .map(|(n, v)| (self.symbol(*n), self.symbol(*v))),
                    );
                    found.push(Located {
                        labels: intern(labels),
                        offset,
                        length: length as u32,
                    });
                }
                offset += length as u64;
            }
        }
        let found: Arc<[Located]> = Arc::from(found);
        let mut selections = self.selections.lock();
        let most = self.series().min(REMEMBERED);
        if selections.values().map(|f| f.len() + 1).sum::<usize>() + found.len() > most {
            selections.clear();
        }
        if found.len() <= most {
            selections.insert(matchers.into(), Arc::clone(&found));
        }
        Some(found)
    }
}

/// A matcher in terms of a block's symbols.
struct Condition<'a> {
    matcher: &'a Matcher,
    name: Option<u32>,
    /// The symbol that the value must be, for `=`.
    equal: Option<u32>,
    known: HashMap<u32, bool, ahash::RandomState>,
    absent: bool,
}

impl<'a> Condition<'a> {
    fn new(index: &Index, matcher: &'a Matcher) -> Self {
        let number = |text: &str| {
            let same = |(_, length): &&(u32, u32)| *length as usize == text.len();
            let at = |(start, length): &(u32, u32)| {
                &index.bytes[*start as usize..(*start + *length) as usize] == text.as_bytes()
            };
            index
                .symbols
                .iter()
                .position(|symbol| same(&symbol) && at(symbol))
                .map(|n| n as u32)
        };
        let equal = (matcher.op == MatchOp::Equal)
            .then(|| number(&matcher.value))
            .flatten();
        Condition {
            matcher,
            name: number(&matcher.name),
            equal,
            known: HashMap::default(),
            absent: matcher.matches(""),
        }
    }

    fn holds(&mut self, index: &Index, pairs: &[(u32, u32)]) -> bool {
        let value = pairs
            .iter()
            .find(|(name, _)| Some(*name) == self.name)
            .map(|(_, value)| *value);
        match (value, self.matcher.op) {
            (None, _) => self.absent,
            (Some(value), MatchOp::Equal) => Some(value) == self.equal,
            (Some(value), _) => *self
                .known
                .entry(value)
                .or_insert_with(|| self.matcher.matches(index.symbol(value))),
        }
    }
}
