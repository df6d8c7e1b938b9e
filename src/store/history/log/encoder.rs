//! Turns what is appended into records; see [`crate::store::history::log`] for the format.

use std::io::{self, Write as _};
use std::sync::Arc;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::DeflateEncoder;
use parking_lot::Mutex;

use super::{HEADER, KEY, Kind, MARK, SEGMENT_TIME};
use crate::model::bytes::{put_int, put_labels, put_uint};
use crate::model::{Labels, NativeHistogram};
use crate::store::history::{delta, histogram};

/// Bytes of a segment beyond which a new one is begun.
const SEGMENT_BYTES: usize = 32 << 20;
/// A declaration is written again after the tick, and once more after so many bytes: more than a
/// page, which is what a disk loses at once.
const ECHO: usize = 8 << 10;
/// Milliseconds: ticks that come at least so often use each other's room; what would lie idle for
/// longer is given back.
const OFTEN: i64 = 10_000;
/// Samples of which the room may lie idle.
const IDLE: usize = 4 << 10;
/// A slot whose series is not declared in this segment.
const UNDECLARED: u32 = u32::MAX;

/// A record that is not yet written.
#[derive(Debug)]
pub(in crate::store::history) struct Record {
    /// Number of the segment it belongs to.
    pub(in crate::store::history) segment: u32,
    /// What it holds.
    pub(in crate::store::history) kind: Kind,
    pub(in crate::store::history) payload: Payload,
    /// Instant of what it holds.
    pub(in crate::store::history) time: i64,
}

/// As encoded; all but ticks is deflated when it is written.
#[derive(Debug)]
pub(in crate::store::history) enum Payload {
    Once(Bytes),
    /// What is written more than once.
    Declared(Arc<Declared>),
    /// One of the further times.
    Again(Arc<Declared>),
}

/// Label sets that are declared: plain until they are written, deflated from then on, since they are
/// written again.
#[derive(Debug)]
pub(in crate::store::history) struct Declared {
    /// Bytes, plain.
    length: usize,
    /// Whether they are deflated, and they.
    bytes: Mutex<(bool, Bytes)>,
}

impl Declared {
    fn new(plain: Bytes) -> Arc<Self> {
        Arc::new(Declared {
            length: plain.len(),
            bytes: Mutex::new((false, plain)),
        })
    }

    fn deflated(&self) -> io::Result<Bytes> {
        let (is_deflated, bytes) = &mut *self.bytes.lock();
        if !*is_deflated {
            let mut deflated = Vec::new();
            deflate(bytes, &mut deflated)?;
            deflated.shrink_to_fit();
            (*is_deflated, *bytes) = (true, Bytes::from(deflated));
        }
        Ok(bytes.clone())
    }
}

fn deflate(plain: &[u8], into: &mut Vec<u8>) -> io::Result<()> {
    let mut deflate = DeflateEncoder::new(into, Compression::new(3));
    deflate.write_all(plain)?;
    deflate.finish().map(|_| ())
}

impl Record {
    /// Bytes in memory that go with the record.
    pub(in crate::store::history) fn size(&self) -> usize {
        let payload = match &self.payload {
            Payload::Once(bytes) => bytes.len(),
            Payload::Declared(declared) => declared.bytes.lock().1.len(),
            Payload::Again(_) => 0,
        };
        payload + size_of::<Record>()
    }

    /// Appends the record as it stands in the file.
    pub(in crate::store::history) fn frame(&self, out: &mut Vec<u8>) -> io::Result<()> {
        out.extend_from_slice(&MARK);
        let start = out.len();
        out.extend_from_slice(&[0; HEADER]);
        out.push(self.kind as u8);
        match &self.payload {
            Payload::Once(payload) if self.kind == Kind::Histograms => deflate(payload, out)?,
            Payload::Once(payload) => out.extend_from_slice(payload),
            Payload::Declared(declared) | Payload::Again(declared) => {
                out.extend_from_slice(&declared.deflated()?);
            }
        }
        let length = (out.len() - start - HEADER - 1) as u32;
        let checksum = crc32fast::hash(&out[start + HEADER..]);
        out[start..start + 4].copy_from_slice(&length.to_le_bytes());
        out[start + 4..start + 8].copy_from_slice(&checksum.to_le_bytes());
        Ok(())
    }
}

/// Turns appended samples into records.
#[derive(Debug)]
pub(in crate::store::history) struct Encoder {
    /// The segment that records belong to.
    pub(in crate::store::history) segment: u32,
    /// Where it ends in time.
    end: i64,
    bytes: usize,
    /// By slot: the number of the series in this segment.
    numbers: Vec<u32>,
    /// By number: what its values are differences from.
    bases: Vec<f64>,
    /// By number: the key tick that its base comes from.
    keys: Vec<u32>,
    /// By key tick: how many ticks build upon it.
    uses: Vec<u8>,
    time: i64,
    declared: Vec<u8>,
    /// What was declared, and from how many bytes on it is written again: no position in the file
    /// is the only one to name a series.
    echo: Vec<(usize, Arc<Declared>)>,
    /// What the tick under way holds: runs of numbers (the first, and how many), and the value of
    /// each.
    runs: Vec<(u32, u32)>,
    values: Vec<f64>,
    /// How many values the tick before held, and when it was.
    before: (usize, i64),
    histograms: Vec<u8>,
}

impl Encoder {
    /// Begins with the segment `segment`.
    pub(in crate::store::history) fn new(segment: u32) -> Self {
        Encoder {
            segment,
            end: i64::MIN,
            bytes: 0,
            numbers: Vec::new(),
            bases: Vec::new(),
            keys: Vec::new(),
            uses: Vec::new(),
            time: 0,
            declared: Vec::new(),
            echo: Vec::new(),
            runs: Vec::new(),
            values: Vec::new(),
            before: (0, 0),
            histograms: Vec::new(),
        }
    }

    /// Adds a sample to the tick under way; one of another instant than the sample before begins a
    /// new tick.
    pub(in crate::store::history) fn add(
        &mut self,
        slot: u32,
        labels: &Labels,
        time: i64,
        value: f64,
        out: &mut impl FnMut(Record),
    ) {
        let number = self.number(slot, labels, time, out);
        if self.values.is_empty() {
            self.values.reserve_exact(self.before.0);
        }
        match self.runs.last_mut() {
            Some((first, length)) if *first + *length == number => *length += 1,
            _ => self.runs.push((number, 1)),
        }
        self.values.push(value);
    }

    /// Likewise a native histogram.
    pub(in crate::store::history) fn add_histogram(
        &mut self,
        slot: u32,
        labels: &Labels,
        time: i64,
        value: &NativeHistogram,
        out: &mut impl FnMut(Record),
    ) {
        let number = self.number(slot, labels, time, out);
        if self.histograms.is_empty() {
            put_int(&mut self.histograms, time);
        }
        put_uint(&mut self.histograms, u64::from(number));
        histogram::put(None, value, &mut self.histograms);
    }

    fn is_empty(&self) -> bool {
        self.values.is_empty() && self.histograms.is_empty()
    }

    /// The number of a series at this instant, declared if need be.
    fn number(
        &mut self,
        slot: u32,
        labels: &Labels,
        time: i64,
        out: &mut impl FnMut(Record),
    ) -> u32 {
        if !self.is_empty() && time != self.time {
            self.finish(out);
        }
        if self.is_empty() {
            self.time = time;
            if time >= self.end || self.bytes >= SEGMENT_BYTES {
                self.next_segment(time);
            }
        }
        match self.numbers.get(slot as usize) {
            Some(number) if *number != UNDECLARED => *number,
            _ => self.declare(slot as usize, labels),
        }
    }

    #[cold]
    fn declare(&mut self, slot: usize, labels: &Labels) -> u32 {
        if slot >= self.numbers.len() {
            if slot >= self.numbers.capacity() {
                self.numbers
                    .reserve_exact(slot + slot / 8 + 64 - self.numbers.len());
            }
            self.numbers.resize(slot + 1, UNDECLARED);
        }
        let number = self.bases.len() as u32;
        self.numbers[slot] = number;
        if self.declared.is_empty() {
            put_uint(&mut self.declared, u64::from(number));
        }
        // Growth by an eighth: doubling would leave a quarter of the room unused.
        if self.bases.len() == self.bases.capacity() {
            let more = self.bases.len() / 8 + 64;
            self.bases.reserve_exact(more);
            self.keys.reserve_exact(more);
        }
        self.bases.push(0.0);
        self.keys.push(0);
        put_labels(&mut self.declared, labels);
        number
    }

    /// Ends the tick under way, if there is one, and hands out its records.
    pub(in crate::store::history) fn finish(&mut self, out: &mut impl FnMut(Record)) {
        let (segment, time) = (self.segment, self.time);
        if self.is_empty() {
            return;
        }
        let mut declared = std::mem::take(&mut self.declared);
        declared.shrink_to_fit();
        let length = declared.len();
        let mut tell = |payload: Payload, length: usize, bytes: &mut usize| {
            *bytes += length;
            out(Record {
                segment,
                kind: Kind::Series,
                payload,
                time,
            });
        };
        let bytes = self.bytes;
        for (_, declared) in self.echo.extract_if(.., |(from, _)| *from <= bytes) {
            let length = declared.length / 8;
            tell(Payload::Again(declared), length, &mut self.bytes);
        }
        if length > 0 {
            let declared = Declared::new(Bytes::from(declared));
            self.echo.extend([
                (0, Arc::clone(&declared)),
                (self.bytes + ECHO, Arc::clone(&declared)),
            ]);
            tell(Payload::Declared(declared), length / 8, &mut self.bytes);
        }
        if !self.values.is_empty() {
            let payload = Bytes::from(self.tick());
            self.bytes += MARK.len() + HEADER + payload.len();
            out(Record {
                segment,
                kind: Kind::Tick,
                payload: Payload::Once(payload),
                time,
            });
        }
        if !self.histograms.is_empty() {
            let payload = Bytes::from(std::mem::take(&mut self.histograms));
            self.bytes += payload.len() / 2;
            out(Record {
                segment,
                kind: Kind::Histograms,
                payload: Payload::Once(payload),
                time,
            });
        }
    }

    fn tick(&mut self) -> Vec<u8> {
        let mut payload = Vec::with_capacity(16 + self.values.len() * 2);
        put_int(&mut payload, self.time);
        let numbers = || {
            self.runs
                .iter()
                .flat_map(|(first, length)| *first..first + length)
        };
        // A tick builds upon one key, or is one.
        let mut keys = numbers().map(|number| self.keys[number as usize]);
        let mut key = keys.next().unwrap_or(0);
        let shared = key > 0 && keys.all(|other| other == key);
        let is_key = !shared || self.uses[key as usize - 1] + 1 >= KEY;
        if is_key {
            self.uses.push(0);
            key = self.uses.len() as u32;
        } else {
            self.uses[key as usize - 1] += 1;
        }
        put_uint(&mut payload, u64::from(key) << 1 | u64::from(is_key));
        put_uint(&mut payload, self.runs.len() as u64);
        let mut next = 0_i64;
        for (first, length) in &self.runs {
            put_int(&mut payload, i64::from(*first) - next);
            put_uint(&mut payload, u64::from(*length));
            next = i64::from(*first) + i64::from(*length);
        }
        let kinds = payload.len();
        payload.resize(kinds + self.values.len().div_ceil(4), 0);
        for (position, (number, value)) in numbers().zip(&self.values).enumerate() {
            let base = &mut self.bases[number as usize];
            let kind = delta::put(if is_key { 0.0 } else { *base }, *value, &mut payload);
            payload[kinds + position / 4] |= kind << (position % 4 * 2);
            if is_key {
                *base = *value;
                self.keys[number as usize] = key;
            }
        }
        self.clear();
        payload
    }

    /// Empties the tick under way.
    fn clear(&mut self) {
        let (length, time) = (self.values.len(), self.time);
        self.runs.clear();
        self.values.clear();
        if time - self.before.1 > OFTEN {
            self.runs.shrink_to(IDLE);
            self.values.shrink_to(IDLE);
        }
        self.before = (length, time);
    }

    /// The series in `slot` is gone; another may take its position.
    pub(in crate::store::history) fn forget(&mut self, slot: u32) {
        if let Some(number) = self.numbers.get_mut(slot as usize) {
            *number = UNDECLARED;
        }
    }

    /// Leaves the segment: records that were handed out are lost, and what follows must not build
    /// upon them.
    pub(in crate::store::history) fn restart(&mut self) {
        self.end = i64::MIN;
    }

    /// The clock was set back to this time; a new segment begins with that.
    pub(in crate::store::history) fn turn(&mut self, time: i64, out: &mut impl FnMut(Record)) {
        self.finish(out);
        self.next_segment(time);
        let mut payload = Vec::new();
        put_int(&mut payload, time);
        self.bytes += MARK.len() + HEADER + payload.len();
        out(Record {
            segment: self.segment,
            kind: Kind::Turn,
            payload: Payload::Once(Bytes::from(payload)),
            time,
        });
    }

    fn next_segment(&mut self, time: i64) {
        self.segment += u32::from(self.bytes > 0);
        self.bytes = 0;
        self.end = (time.div_euclid(SEGMENT_TIME) + 1).saturating_mul(SEGMENT_TIME);
        self.numbers.fill(UNDECLARED);
        self.bases.clear();
        self.keys.clear();
        self.uses.clear();
        self.echo.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The records of a tick of so many series.
    fn tick(encoder: &mut Encoder, time: i64, series: u32) -> Vec<Record> {
        let mut records = Vec::new();
        for slot in 0..series {
            encoder.add(
                slot,
                &Labels::from_pairs([("n", slot.to_string())]),
                time,
                1.0,
                &mut |record| records.push(record),
            );
        }
        encoder.finish(&mut |record| records.push(record));
        records
    }

    #[test]
    fn room_is_kept_for_ticks_that_come_often_only() {
        let mut encoder = Encoder::new(1);
        for (time, kept) in [
            (20_000, false),
            (21_000, true),
            (22_000, true),
            (37_000, false),
        ] {
            tick(&mut encoder, time, 20_000);
            assert_eq!(encoder.values.capacity() >= 20_000, kept, "at {time}");
        }
        assert!(encoder.bases.capacity() <= 20_000 * 9 / 8 + 64);
    }

    #[test]
    fn a_declaration_that_is_written_again_is_not_there_twice() {
        let mut encoder = Encoder::new(1);
        let mut declared: Vec<Record> = (0..3)
            .flat_map(|time| tick(&mut encoder, time * 1000, 10_000))
            .collect();
        declared.retain(|record| record.kind == Kind::Series);
        assert_eq!(declared.len(), 3);
        assert!(encoder.echo.is_empty());
        // Those that are written again wait in the queue without taking room of their own.
        let sizes: Vec<usize> = declared.iter().map(Record::size).collect();
        assert!(
            sizes[0] > 50_000 && sizes[1..].iter().all(|size| *size < 200),
            "{sizes:?}"
        );
        // Deflated once, and then no longer there as it was.
        let mut frames = vec![Vec::new(); 3];
        for (record, frame) in declared.iter().zip(&mut frames) {
            record.frame(frame).expect("fits into memory");
        }
        assert!(frames[0] == frames[1] && frames[0] == frames[2]);
        assert!(declared[0].size() < frames[0].len() + 200);
    }
}
