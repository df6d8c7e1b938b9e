//! The format of the log: what was appended to the store, in order, one record for each tick of a target.
//!
//! A segment is a file: eight bytes that name the format, then records, each `length, CRC-32, kind, payload` (the checksum covers kind
//! and payload). A record of series declares label sets, deflated, and numbers them in order of appearance; a record of a tick holds its
//! instant, runs of those numbers and the values, each as the distance from the value before (see [`super::delta`]). A segment needs no
//! other to be read. Reading stops at the first record that is not as it was written: nothing after it can be trusted to follow.

use std::io::{self, Read as _, Write as _};

use flate2::Compression;
use flate2::read::DeflateDecoder;
use flate2::write::DeflateEncoder;

use super::delta;
use crate::model::Labels;
use crate::model::bytes::{Reader, put_int, put_labels, put_uint};

/// What a segment begins with.
pub(super) const MAGIC: &[u8; 8] = b"nbwal\0\0\x01";
/// Bytes before the payload of a record: length, checksum, kind.
const HEADER: usize = 9;
/// Longest payload, also after inflating.
const LONGEST: usize = 256 << 20;
/// Bytes of a segment beyond which a new one is begun.
const SEGMENT_BYTES: usize = 32 << 20;
/// Milliseconds of time in one segment and in a block when it is first written; both end at a multiple of them.
pub(in crate::store) const SEGMENT_TIME: i64 = 30 * 60 * 1000;
/// A slot whose series is not declared in this segment.
const UNDECLARED: u32 = u32::MAX;

/// What a record holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Label sets.
    Series = 1,
    /// Values at one instant.
    Tick = 2,
}

/// A record that is not yet written.
#[derive(Debug)]
pub(super) struct Record {
    /// Number of the segment it belongs to.
    pub(super) segment: u32,
    /// What it holds.
    pub(super) kind: Kind,
    /// As encoded; series are deflated when they are written.
    pub(super) payload: Vec<u8>,
    /// Instant of a tick.
    pub(super) time: i64,
}

impl Record {
    /// Appends the record as it stands in the file.
    pub(super) fn frame(&self, out: &mut Vec<u8>) -> io::Result<()> {
        let start = out.len();
        out.extend_from_slice(&[0; HEADER - 1]);
        out.push(self.kind as u8);
        match self.kind {
            Kind::Series => {
                let mut deflate = DeflateEncoder::new(&mut *out, Compression::new(3));
                deflate.write_all(&self.payload)?;
                deflate.finish()?;
            }
            Kind::Tick => out.extend_from_slice(&self.payload),
        }
        let length = (out.len() - start - HEADER) as u32;
        let checksum = crc32fast::hash(&out[start + HEADER - 1..]);
        out[start..start + 4].copy_from_slice(&length.to_le_bytes());
        out[start + 4..start + 8].copy_from_slice(&checksum.to_le_bytes());
        Ok(())
    }
}

/// Turns appended samples into records.
#[derive(Debug)]
pub(super) struct Encoder {
    /// The segment that records belong to.
    pub(super) segment: u32,
    /// Where it ends in time.
    end: i64,
    bytes: usize,
    /// By slot: the number of the series in this segment.
    numbers: Vec<u32>,
    /// By number: the newest value.
    last: Vec<f64>,
    time: i64,
    declared: Vec<u8>,
    runs: Vec<(u32, u32)>,
    kinds: Vec<u8>,
    count: u32,
    values: Vec<u8>,
}

impl Encoder {
    /// Begins with the segment `segment`.
    pub(super) fn new(segment: u32) -> Self {
        Encoder {
            segment,
            end: i64::MIN,
            bytes: 0,
            numbers: Vec::new(),
            last: Vec::new(),
            time: 0,
            declared: Vec::new(),
            runs: Vec::new(),
            kinds: Vec::new(),
            count: 0,
            values: Vec::new(),
        }
    }

    /// Adds a sample to the tick under way; one of another instant than the sample before begins a new tick.
    pub(super) fn add(&mut self, slot: u32, labels: &Labels, time: i64, value: f64, out: &mut impl FnMut(Record)) {
        if self.count > 0 && time != self.time {
            self.finish(out);
        }
        if self.count == 0 {
            self.time = time;
            if time >= self.end || self.bytes >= SEGMENT_BYTES {
                self.next_segment(time);
            }
        }
        let slot = slot as usize;
        if slot >= self.numbers.len() {
            self.numbers.resize(slot + 1, UNDECLARED);
        }
        if self.numbers[slot] == UNDECLARED {
            self.numbers[slot] = self.last.len() as u32;
            self.last.push(0.0);
            put_labels(&mut self.declared, labels);
        }
        let number = self.numbers[slot];
        match self.runs.last_mut() {
            Some((first, length)) if *first + *length == number => *length += 1,
            _ => self.runs.push((number, 1)),
        }
        let last = std::mem::replace(&mut self.last[number as usize], value);
        let kind = delta::put(last, value, &mut self.values);
        let place = self.count % 4 * 2;
        if place == 0 {
            self.kinds.push(0);
        }
        if let Some(byte) = self.kinds.last_mut() {
            *byte |= kind << place;
        }
        self.count += 1;
    }

    /// Ends the tick under way, if there is one, and hands out its records.
    pub(super) fn finish(&mut self, out: &mut impl FnMut(Record)) {
        if self.count == 0 {
            return;
        }
        let (segment, time) = (self.segment, self.time);
        if !self.declared.is_empty() {
            self.bytes += self.declared.len() / 8;
            let payload = std::mem::take(&mut self.declared);
            out(Record { segment, kind: Kind::Series, payload, time });
        }
        let mut payload = Vec::with_capacity(16 + self.runs.len() * 4 + self.kinds.len() + self.values.len());
        put_int(&mut payload, time);
        put_uint(&mut payload, self.runs.len() as u64);
        let mut next = 0_i64;
        for (first, length) in self.runs.drain(..) {
            put_int(&mut payload, i64::from(first) - next);
            put_uint(&mut payload, u64::from(length));
            next = i64::from(first) + i64::from(length);
        }
        payload.append(&mut self.kinds);
        payload.append(&mut self.values);
        self.bytes += HEADER + payload.len();
        out(Record { segment, kind: Kind::Tick, payload, time });
        self.count = 0;
    }

    /// The series in `slot` is gone; another may take its place.
    pub(super) fn forget(&mut self, slot: u32) {
        if let Some(number) = self.numbers.get_mut(slot as usize) {
            *number = UNDECLARED;
        }
    }

    /// Leaves the segment: records that were handed out are lost, and what follows must not build upon them.
    pub(super) fn restart(&mut self) {
        self.end = i64::MIN;
    }

    fn next_segment(&mut self, time: i64) {
        self.segment += u32::from(self.bytes > 0);
        self.bytes = 0;
        self.end = (time.div_euclid(SEGMENT_TIME) + 1).saturating_mul(SEGMENT_TIME);
        self.numbers.fill(UNDECLARED);
        self.last.clear();
    }
}

/// What a segment tells, in order.
pub(in crate::store) enum Entry<'a> {
    /// Further series, numbered from where the last ones ended.
    Series(Vec<Labels>),
    /// Samples of one instant: number of the series, and value.
    Tick(i64, &'a [(u32, f64)]),
}

/// How far a segment could be read.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Read {
    /// Bytes up to the end of the last good record.
    pub(super) good: u64,
    /// Why it ended there, unless that is the end of the file.
    pub(super) damage: Option<&'static str>,
    /// Whether the file ends in the midst of a record: a write that a crash cut short.
    pub(super) torn: bool,
}

/// Reads a segment, calling `visit` for each good record.
pub(super) fn read(mut input: impl io::BufRead, mut visit: impl FnMut(Entry<'_>)) -> io::Result<Read> {
    let mut end = Read { good: 0, damage: None, torn: false };
    let mut magic = [0; MAGIC.len()];
    let length = fill(&mut input, &mut magic)?;
    if length < magic.len() {
        end.torn = MAGIC.starts_with(&magic[..length]);
        end.damage = Some("the file ends in its first bytes");
        return Ok(end);
    }
    if magic != *MAGIC {
        end.damage = Some("it does not begin as a log does");
        return Ok(end);
    }
    end.good = MAGIC.len() as u64;
    let mut decoder = Decoder::default();
    let mut body = Vec::new();
    loop {
        let mut header = [0; HEADER - 1];
        let got = fill(&mut input, &mut header)?;
        if got == 0 {
            return Ok(end);
        }
        let mut fields = Reader(&header);
        let (length, checksum) = (fields.u32().unwrap_or(0) as usize, fields.u32().unwrap_or(0));
        body.clear();
        if got == header.len() && length <= LONGEST {
            input.by_ref().take(length as u64 + 1).read_to_end(&mut body)?;
        }
        if got < header.len() || (length <= LONGEST && body.len() < length + 1) {
            (end.damage, end.torn) = (Some("the file ends in the midst of a record"), true);
            return Ok(end);
        }
        if length > LONGEST || crc32fast::hash(&body) != checksum {
            end.damage = Some("the checksum of a record is wrong");
            return Ok(end);
        }
        if decoder.entry(&body, &mut visit).is_none() {
            end.damage = Some("a record cannot be decoded");
            return Ok(end);
        }
        end.good += (HEADER + length) as u64;
    }
}

#[derive(Default)]
struct Decoder {
    last: Vec<f64>,
    samples: Vec<(u32, f64)>,
}

impl Decoder {
    fn entry(&mut self, body: &[u8], visit: &mut impl FnMut(Entry<'_>)) -> Option<()> {
        let (kind, payload) = body.split_first()?;
        match *kind {
            kind if kind == Kind::Series as u8 => {
                let mut plain = Vec::new();
                DeflateDecoder::new(payload).take(LONGEST as u64).read_to_end(&mut plain).ok()?;
                let mut reader = Reader(&plain);
                let mut series = Vec::new();
                while !reader.0.is_empty() {
                    series.push(reader.labels()?);
                }
                self.last.resize(self.last.len() + series.len(), 0.0);
                visit(Entry::Series(series));
            }
            kind if kind == Kind::Tick as u8 => {
                let time = self.tick(payload)?;
                visit(Entry::Tick(time, &self.samples));
            }
            _ => return None,
        }
        Some(())
    }

    fn tick(&mut self, payload: &[u8]) -> Option<i64> {
        let mut reader = Reader(payload);
        let time = reader.int()?;
        self.samples.clear();
        let mut next = 0_i64;
        for _ in 0..reader.size(payload.len())? {
            let first = next.checked_add(reader.int()?)?;
            let length = reader.size(self.last.len())? as i64;
            next = first.checked_add(length)?;
            // The kinds alone take a quarter of a byte for each sample.
            if first < 0 || next > self.last.len() as i64 || self.samples.len() > payload.len() * 4 {
                return None;
            }
            self.samples.extend((first..next).map(|number| (number as u32, 0.0)));
        }
        let kinds = reader.take(self.samples.len().div_ceil(4))?;
        for (place, (number, value)) in self.samples.iter_mut().enumerate() {
            let last = &mut self.last[*number as usize];
            *last = delta::take(*last, kinds[place / 4] >> (place % 4 * 2) & 3, &mut reader)?;
            *value = *last;
        }
        reader.0.is_empty().then_some(time)
    }
}

/// Reads until the buffer is full or the input ends.
fn fill(input: &mut impl io::Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut length = 0;
    while length < buffer.len() {
        match input.read(&mut buffer[length..]) {
            Ok(0) => break,
            Ok(more) => length += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(length)
}
