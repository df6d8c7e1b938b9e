//! The format of the log: what was appended to the store, in order, one record for each tick of a
//! target.
//!
//! A segment is a file: eight bytes that name the format, then records, each
//! `mark, length, CRC-32, kind, payload` (the checksum covers kind and payload). A record of series
//! declares label sets, deflated, and numbers them; a record of a tick holds its instant, runs of
//! those numbers and the values (see [`super::delta`]); native histograms have a kind of their own,
//! and so has the time to which the clock was set back. A segment needs no other to be read.
//!
//! Damage costs what it touches: after a record that is not as it was written, reading goes on at
//! the next mark that a good record follows. Series have explicit numbers for that and are declared
//! more than once, and the values of a tick stand either by themselves, in a *key* tick, or as the
//! distance from the key that the tick names; so a tick is read if its key was, whatever lies
//! between. Every [`KEY`]th tick of a target is a key.
//!
//! Segments of version 1 had no mark, and each value was notified from the one before; of such a
//! segment damage costs the rest.

pub(super) mod decoder;
pub(super) mod encoder;
pub(super) mod recover;
pub(super) mod writer;

use std::io::{self, BufRead, Read as _, Seek, SeekFrom};
use std::ops::Range;

use crate::model::Labels;
use crate::model::bytes::Reader;
use crate::store::memory::series::TimedHistogram;
use decoder::{Decoded, Decoder};

/// What a segment begins with.
pub(super) const MAGIC: &[u8; 8] = b"nbwal\0\0\x02";
/// What one of version 1 began with.
const MAGIC_1: &[u8; 8] = b"nbwal\0\0\x01";
/// What a record begins with.
pub(super) const MARK: [u8; 4] = [0xf5, 0x9e, 0x0a, 0xc1];
/// Bytes of a record before its kind, without the mark: length, checksum.
pub(super) const HEADER: usize = 8;
/// Longest payload, also after inflating.
pub(super) const LONGEST: usize = 256 << 20;
/// Milliseconds of time in one segment and in a block when it is first written; both end at a
/// multiple of them.
pub(in crate::store) const SEGMENT_TIME: i64 = 30 * 60 * 1000;
/// Ticks of a target from one key to the next.
pub(super) const KEY: u8 = 8;
/// Most series that a segment may number.
pub(super) const MOST_SERIES: usize = 1 << 24;

/// What a record holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Label sets.
    Series = 1,
    /// Values at one instant.
    Tick = 2,
    /// Native histograms at one instant.
    Histograms = 3,
    /// The clock was set back.
    Turn = 4,
}

/// What a segment tells, in order.
pub(in crate::store) enum Entry<'a> {
    /// Further series, numbered from the first number on.
    Series(u32, Vec<Labels>),
    /// Samples of one instant: number of the series, and value.
    Tick(i64, &'a [(u32, f64)]),
    /// The clock was set back to this time: what lay after it was cut off.
    Turn(i64),
    /// Native histograms, each with its instant and the number of its series.
    Histograms(Vec<(u32, TimedHistogram)>),
}

/// What was found in a segment.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Read {
    /// Bytes in the file.
    pub(super) length: u64,
    /// Those that tell nothing: damaged records, and those that build upon them.
    pub(super) bad: Vec<Range<u64>>,
    /// What was wrong first.
    pub(super) damage: Option<&'static str>,
    /// Whether nothing is wrong but that the file ends in the midst of a record: a write that a
    /// crash cut short.
    pub(super) torn: bool,
    /// Samples in good records that could not be read, since what they build upon is lost.
    pub(super) lost: u64,
}

impl Read {
    fn is_bad(&mut self, from: u64, to: u64) {
        match self.bad.last_mut() {
            Some(last) if last.end == from => last.end = to,
            _ if from < to => self.bad.push(from..to),
            _ => {}
        }
    }
}

/// What stands at a position.
enum Found {
    /// A record, and its length with all that is before its payload.
    Record(u64),
    End,
    Damage(&'static str),
    /// The file ends before the record does.
    Torn,
}

/// Reads a segment, calling `visit` for each good record.
pub(super) fn read<I: BufRead + Seek>(
    mut input: I,
    mut visit: impl FnMut(Entry<'_>),
) -> io::Result<Read> {
    let mut end = Read {
        length: input.seek(SeekFrom::End(0))?,
        ..Read::default()
    };
    input.rewind()?;
    let mut magic = [0; MAGIC.len()];
    let got = fill(&mut input, &mut magic)?;
    if got < magic.len() {
        end.torn = MAGIC.starts_with(&magic[..got]);
        end.damage = Some("the file ends in its first bytes");
        end.is_bad(0, end.length);
        return Ok(end);
    }
    let marked = magic != *MAGIC_1;
    let mut decoder = Decoder::new(marked);
    let (mut at, mut body) = (MAGIC.len() as u64, Vec::new());
    if marked && magic != *MAGIC {
        end.damage = Some("it does not begin as a log does");
        at = next_record(&mut input, 0, &mut body)?.unwrap_or(end.length);
        end.is_bad(0, at);
        input.seek(SeekFrom::Start(at))?;
    }
    loop {
        let (reason, cut) = match record(&mut input, marked, &mut body)? {
            Found::End => return Ok(end),
            Found::Record(length) => {
                let from = at;
                at += length;
                match decoder.entry(&body, &mut visit) {
                    Decoded::Good { lost } => {
                        end.lost += lost;
                        continue;
                    }
                    Decoded::Keyless { lost } => {
                        end.lost += lost;
                        end.is_bad(from, at);
                        continue;
                    }
                    Decoded::Broken => {
                        at = from;
                        ("a record cannot be decoded", false)
                    }
                }
            }
            Found::Damage(reason) => (reason, false),
            Found::Torn => ("the file ends in the midst of a record", true),
        };
        let next = if marked {
            next_record(&mut input, at + 1, &mut body)?
        } else {
            None
        };
        end.torn = end.damage.is_none() && next.is_none() && cut;
        end.damage.get_or_insert(reason);
        let next = next.unwrap_or(end.length);
        end.is_bad(at, next);
        at = next;
        input.seek(SeekFrom::Start(at))?;
    }
}

/// Reads the record that stands here; its kind and payload go into `body`.
fn record(input: &mut impl BufRead, marked: bool, body: &mut Vec<u8>) -> io::Result<Found> {
    let mut header = [0; MARK.len() + HEADER];
    let header = if marked {
        &mut header[..]
    } else {
        &mut header[MARK.len()..]
    };
    let got = fill(input, header)?;
    if got == 0 {
        return Ok(Found::End);
    }
    let mark = if marked { &MARK[..] } else { &[] };
    if !header[..got].starts_with(&mark[..mark.len().min(got)]) {
        return Ok(Found::Damage("a record does not begin as records do"));
    }
    if got < header.len() {
        return Ok(Found::Torn);
    }
    let mut fields = Reader(&header[mark.len()..]);
    let (length, checksum) = (
        fields.u32().unwrap_or(0) as usize,
        fields.u32().unwrap_or(0),
    );
    if length > LONGEST {
        return Ok(Found::Damage("the length of a record is wrong"));
    }
    body.clear();
    input.by_ref().take(length as u64 + 1).read_to_end(body)?;
    if body.len() < length + 1 {
        return Ok(Found::Torn);
    }
    if crc32fast::hash(body) != checksum {
        return Ok(Found::Damage("the checksum of a record is wrong"));
    }
    Ok(Found::Record((header.len() + length + 1) as u64))
}

/// The position of the first good record from `from` on.
fn next_record<I: BufRead + Seek>(
    input: &mut I,
    from: u64,
    body: &mut Vec<u8>,
) -> io::Result<Option<u64>> {
    const WINDOW: usize = 64 << 10;
    let (mut at, mut window) = (from, Vec::new());
    loop {
        input.seek(SeekFrom::Start(at))?;
        window.clear();
        input
            .by_ref()
            .take(WINDOW as u64)
            .read_to_end(&mut window)?;
        for position in memchr::memmem::find_iter(&window, &MARK) {
            let position = at + position as u64;
            input.seek(SeekFrom::Start(position))?;
            if matches!(record(input, true, body)?, Found::Record(_)) {
                return Ok(Some(position));
            }
        }
        if window.len() < WINDOW {
            return Ok(None);
        }
        // A mark may stand across the end of the window.
        at += (window.len() - (MARK.len() - 1)) as u64;
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
