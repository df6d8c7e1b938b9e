//! Writing a block: series in order of metric name and labels, each as chunks of compressed values,
//! then an index, then a footer.
//!
//! See [`super::block`] for the layout. The file gets its name only when it is whole and the disk
//! has it.

use std::fs::File;
use std::io::{self, BufWriter, Write as _};
use std::path::{Path, PathBuf};

use hashbrown::HashTable;

use super::block::{Block, FOOTER_MAGIC, MAGIC_NOW};
use super::chunks::packed;
use super::chunks::values::{self, PAGE};
use super::histogram::put_all;
use crate::model::Labels;
use crate::model::bytes::{put_text, put_uint};
use crate::store::Window;
use crate::store::memory::chunk::compress_times;
use crate::store::memory::series::histograms_within;

/// Columns of instants that series may share.
const COLUMNS: usize = 64;

/// A block that is being written.
pub(in crate::store) struct BlockWriter {
    path: PathBuf,
    unfinished: PathBuf,
    output: BufWriter<File>,
    offset: u64,
    start: i64,
    end: i64,
    /// It spans what is in it; with the number in its name.
    part: Option<u32>,
    /// Where each text stands in `symbol_text`, its length, and its number.
    symbols: HashTable<(u32, u32, u32)>,
    hasher: ahash::RandomState,
    symbol_text: Vec<u8>,
    columns: Vec<Vec<i64>>,
    /// The column that the series before had.
    used: usize,
    names: Vec<u8>,
    name_count: u64,
    name: Option<String>,
    group: u64,
    group_at: (u64, u64),
    entries: Vec<u8>,
    series: u64,
    samples: u64,
    span: Option<(i64, i64)>,
}

impl BlockWriter {
    /// Begins a block for `start <= timestamp < end`.
    pub(in crate::store) fn create(folder: &Path, start: i64, end: i64) -> io::Result<Self> {
        Self::begin(named(folder, start, end, 0), start, end, None)
    }

    /// Begins one that takes precedence where blocks overlap, see [`Block::later`]; 0 where none
    /// do.
    pub(in crate::store) fn create_later(
        folder: &Path,
        (start, end): (i64, i64),
        later: u32,
    ) -> io::Result<Self> {
        Self::begin(named(folder, start, end, later), start, end, None)
    }

    /// Likewise for a part of that time: from its first sample to its last.
    pub(in crate::store) fn create_part(
        folder: &Path,
        (start, end): (i64, i64),
        later: u32,
    ) -> io::Result<Self> {
        Self::begin(named(folder, start, end, later), start, end, Some(later))
    }

    /// Begins a file that becomes `path` when it is whole.
    pub(in crate::store) fn create_at(path: PathBuf, start: i64, end: i64) -> io::Result<Self> {
        Self::begin(path, start, end, None)
    }

    fn begin(path: PathBuf, start: i64, end: i64, part: Option<u32>) -> io::Result<Self> {
        let unfinished = path.with_extension("tmp");
        let mut output = BufWriter::with_capacity(64 << 10, File::create(&unfinished)?);
        output.write_all(MAGIC_NOW)?;
        Ok(BlockWriter {
            path,
            unfinished,
            output,
            offset: MAGIC_NOW.len() as u64,
            start,
            end,
            part,
            symbols: HashTable::new(),
            hasher: ahash::RandomState::new(),
            symbol_text: Vec::new(),
            columns: Vec::new(),
            used: 0,
            names: Vec::new(),
            name_count: 0,
            name: None,
            group: 0,
            group_at: (0, 0),
            entries: Vec::new(),
            series: 0,
            samples: 0,
            span: None,
        })
    }

    /// Adds a series; series come in the order of [`order`].
    pub(in crate::store) fn add(&mut self, labels: &Labels, samples: Window<'_>) -> io::Result<()> {
        let times = samples.times;
        let (Some(first), Some(last)) = (times.first(), times.last()) else {
            return Ok(());
        };
        if self.name.as_deref() != Some(labels.metric_name()) {
            self.end_group();
            self.name = Some(labels.metric_name().to_owned());
            self.group_at = (self.entries.len() as u64, self.offset);
        }
        let data = self.chunks(samples)?;
        self.output.write_all(&data)?;
        self.offset += data.len() as u64;
        put_uint(&mut self.entries, labels.len() as u64);
        for (name, value) in labels {
            let pair = [self.symbol(name), self.symbol(value)];
            pair.into_iter()
                .for_each(|symbol| put_uint(&mut self.entries, u64::from(symbol)));
        }
        put_uint(&mut self.entries, data.len() as u64);
        self.group += 1;
        self.series += 1;
        self.samples += times.len() as u64;
        let (oldest, newest) = self.span.unwrap_or((*first, *last));
        self.span = Some((oldest.min(*first), newest.max(*last)));
        Ok(())
    }

    fn chunks(
        &mut self,
        Window {
            times,
            values,
            histograms,
        }: Window<'_>,
    ) -> io::Result<Vec<u8>> {
        let column = self.column(times);
        // Instants and histograms of its own make a chunk long.
        let longest = if column.is_some() && histograms.is_empty() {
            usize::MAX
        } else {
            PAGE
        };
        let encoded = values::encode(values, longest).map_err(io::Error::other)?;
        let (mut data, mut at) = (Vec::new(), 0);
        if !encoded.model.is_empty() {
            packed::put_model(&encoded.model, &mut data);
        }
        for (count, values) in encoded.chunks {
            let times = &times[at..at + count];
            let mut chunk = Vec::with_capacity(values.len() + 16);
            let histograms = histograms_within(histograms, times[0] - 1, times[count - 1]);
            if !histograms.is_empty() {
                put_uint(&mut chunk, 0);
            }
            put_uint(&mut chunk, count as u64);
            match column {
                Some((column, position)) => {
                    put_uint(&mut chunk, column as u64 + 1);
                    put_uint(&mut chunk, (position + at) as u64);
                }
                None => {
                    let times = compress_times(times).map_err(io::Error::other)?;
                    put_uint(&mut chunk, 0);
                    put_uint(&mut chunk, times.len() as u64);
                    chunk.extend_from_slice(&times);
                }
            }
            if !histograms.is_empty() {
                put_uint(&mut chunk, values.len() as u64);
            }
            chunk.extend_from_slice(&values);
            if !histograms.is_empty() {
                chunk.extend_from_slice(&put_all(histograms)?);
            }
            packed::put(&chunk, &mut data);
            at += count;
        }
        Ok(data)
    }

    /// A column that holds these instants in a row, and where they begin in it.
    fn column(&mut self, times: &[i64]) -> Option<(usize, usize)> {
        let position = |column: &Vec<i64>| {
            let position = column.binary_search(&times[0]).ok()?;
            (column.get(position..position + times.len())? == times).then_some(position)
        };
        if let Some(position) = self.columns.get(self.used).and_then(position) {
            return Some((self.used, position));
        }
        let found = self
            .columns
            .iter()
            .enumerate()
            .find_map(|(number, column)| Some((number, position(column)?)));
        let found = found.or_else(|| {
            (self.columns.len() < COLUMNS).then(|| {
                self.columns.push(times.to_vec());
                (self.columns.len() - 1, 0)
            })
        });
        self.used = found.map_or(self.used, |(number, _)| number);
        found
    }

    fn symbol(&mut self, text: &str) -> u32 {
        let (texts, hasher) = (&mut self.symbol_text, &self.hasher);
        let hash = hasher.hash_one(text.as_bytes());
        let at = |symbol: &(u32, u32, u32)| symbol.0 as usize..(symbol.0 + symbol.1) as usize;
        if let Some((.., number)) = self
            .symbols
            .find(hash, |symbol| texts[at(symbol)] == *text.as_bytes())
        {
            return *number;
        }
        let number = self.symbols.len() as u32;
        put_text(texts, text);
        let symbol = ((texts.len() - text.len()) as u32, text.len() as u32, number);
        self.symbols
            .insert_unique(hash, symbol, |symbol| hasher.hash_one(&texts[at(symbol)]));
        number
    }

    fn end_group(&mut self) {
        let Some(name) = self.name.take() else { return };
        // The value of the name is a symbol already, unless the series have none.
        let symbol = self.symbol(&name);
        for number in [
            u64::from(symbol),
            self.group,
            self.group_at.0,
            self.group_at.1,
        ] {
            put_uint(&mut self.names, number);
        }
        self.name_count += 1;
        self.group = 0;
    }

    /// Ends the block; `None` when it holds nothing.
    pub(in crate::store) fn finish(mut self) -> io::Result<Option<Block>> {
        self.end_group();
        let Some((first, last)) = self.span else {
            std::fs::remove_file(&self.unfinished)?;
            return Ok(None);
        };
        if let (Some(later), Some(folder)) = (self.part, self.path.parent()) {
            (self.start, self.end) = (first, last.saturating_add(1));
            self.path = named(folder, self.start, self.end, later);
        }
        let mut index =
            Vec::with_capacity(self.symbol_text.len() + self.entries.len() + self.names.len());
        put_uint(&mut index, self.symbols.len() as u64);
        index.append(&mut self.symbol_text);
        put_uint(&mut index, self.columns.len() as u64);
        for column in &self.columns {
            let packed = compress_times(column).map_err(io::Error::other)?;
            put_uint(&mut index, column.len() as u64);
            put_uint(&mut index, packed.len() as u64);
            index.extend_from_slice(&packed);
        }
        put_uint(&mut index, self.name_count);
        index.append(&mut self.names);
        index.append(&mut self.entries);
        let mut footer = Vec::new();
        for number in [self.offset, index.len() as u64, self.series, self.samples] {
            footer.extend_from_slice(&number.to_le_bytes());
        }
        for time in [self.start, self.end, first, last] {
            footer.extend_from_slice(&time.to_le_bytes());
        }
        footer.extend_from_slice(&crc32fast::hash(&index).to_le_bytes());
        footer.extend_from_slice(&crc32fast::hash(&footer).to_le_bytes());
        footer.extend_from_slice(FOOTER_MAGIC);
        self.output.write_all(&index)?;
        self.output.write_all(&footer)?;
        self.output.flush()?;
        self.output.get_ref().sync_all()?;
        if Block::is_newer(&self.path) {
            let path = self.path.display();
            return Err(io::Error::other(format!(
                "{path} was written by a newer nightbell"
            )));
        }
        std::fs::rename(&self.unfinished, &self.path)?;
        if let Some(folder) = self.path.parent() {
            File::open(folder)?.sync_all()?;
        }
        Block::open(&self.path).map(Some).map_err(io::Error::other)
    }
}

impl Drop for BlockWriter {
    fn drop(&mut self) {
        // After a failure the space is needed; after success there is no such file.
        let _ = std::fs::remove_file(&self.unfinished);
    }
}

/// The name of a block.
pub(super) fn named(folder: &Path, start: i64, end: i64, later: u32) -> PathBuf {
    let number = if later == 0 {
        String::new()
    } else {
        format!(".{later}")
    };
    folder.join(format!("{start}-{end}{number}.block"))
}

/// The order of series in a block.
pub(in crate::store) fn order(a: &Labels, b: &Labels) -> std::cmp::Ordering {
    a.metric_name().cmp(b.metric_name()).then_with(|| a.cmp(b))
}
