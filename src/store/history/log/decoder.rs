//! From the records of a segment to what was appended; see [`crate::store::history::log`] for the
//! format.

use std::collections::HashSet;
use std::sync::Arc;

use super::{Entry, Kind, MOST_SERIES};
use crate::model::bytes::Reader;
use crate::store::history::histogram::inflate;
use crate::store::history::{delta, histogram};
use crate::store::memory::series::TimedHistogram;

/// Label sets that are handed on together: all that a target declares would leave holes in the
/// memory, where most are known already and are let go.
const PIECE: usize = 512;

/// What became of a record.
pub(in crate::store::history) enum Decoded {
    /// It was notified, but for samples of series whose declaration is lost.
    Good { lost: u64 },
    /// A tick whose key is lost: so many samples.
    Keyless { lost: u64 },
    /// It is none.
    Broken,
}

/// What the records so far say.
pub(in crate::store::history) struct Decoder {
    /// Version 2: series have numbers, ticks name their key.
    keyed: bool,
    /// By number.
    series: Vec<Series>,
    /// Hashes of the declarations so far: each is written more than once.
    declarations: HashSet<u64, ahash::RandomState>,
    samples: Vec<(u32, f64)>,
}

#[derive(Clone, Copy, Default)]
struct Series {
    declared: bool,
    /// What its values are differences from.
    base: f64,
    /// The key tick that the base comes from; 0 for none.
    key: u32,
}

impl Decoder {
    pub(in crate::store::history) fn new(keyed: bool) -> Self {
        Decoder {
            keyed,
            series: Vec::new(),
            declarations: HashSet::default(),
            samples: Vec::new(),
        }
    }

    /// Reads kind and payload of a record.
    pub(in crate::store::history) fn entry(
        &mut self,
        body: &[u8],
        visit: &mut impl FnMut(Entry<'_>),
    ) -> Decoded {
        let Some((kind, payload)) = body.split_first() else {
            return Decoded::Broken;
        };
        let decoded = match *kind {
            kind if kind == Kind::Series as u8 => self.declare(payload, visit),
            kind if kind == Kind::Tick as u8 => self.tick(payload, visit),
            kind if kind == Kind::Histograms as u8 => self.histograms(payload, visit),
            kind if kind == Kind::Turn as u8 => Reader(payload).int().map(|time| {
                visit(Entry::Turn(time));
                Decoded::Good { lost: 0 }
            }),
            _ => None,
        };
        decoded.unwrap_or(Decoded::Broken)
    }

    fn declare(&mut self, payload: &[u8], visit: &mut impl FnMut(Entry<'_>)) -> Option<Decoded> {
        let hash = self.declarations.hasher().hash_one(payload);
        if self.keyed && self.declarations.contains(&hash) {
            return Some(Decoded::Good { lost: 0 });
        }
        let plain = inflate(payload)?;
        let mut reader = Reader(&plain);
        let first = if self.keyed {
            reader.size(MOST_SERIES)?
        } else {
            self.series.len()
        };
        let mut next = first;
        while !reader.0.is_empty() {
            let mut labels = Vec::new();
            while labels.len() < PIECE && !reader.0.is_empty() {
                labels.push(reader.labels()?);
            }
            let end = next + labels.len();
            self.grow(end)?;
            let mut news = false;
            for series in &mut self.series[next..end] {
                news |= !std::mem::replace(&mut series.declared, true);
            }
            if news {
                visit(Entry::Series(next as u32, labels));
            }
            next = end;
        }
        self.declarations.insert(hash);
        Some(Decoded::Good { lost: 0 })
    }

    /// Room for numbers below `end`.
    fn grow(&mut self, end: usize) -> Option<()> {
        if end > MOST_SERIES {
            return None;
        }
        if end > self.series.len() {
            self.series.resize(end, Series::default());
        }
        Some(())
    }

    fn tick(&mut self, payload: &[u8], visit: &mut impl FnMut(Entry<'_>)) -> Option<Decoded> {
        let mut reader = Reader(payload);
        let time = reader.int()?;
        let key = if self.keyed {
            u32::try_from(reader.uint()?).ok()?
        } else {
            0
        };
        let (key, is_key) = (key >> 1, key & 1 == 1);
        self.samples.clear();
        let mut next = 0_i64;
        for _ in 0..reader.size(payload.len())? {
            let first = next.checked_add(reader.int()?)?;
            let length = reader.size(MOST_SERIES)?;
            next = first.checked_add(length as i64)?;
            // The kinds alone take a quarter of a byte for each sample.
            if first < 0
                || self.samples.len() + length > payload.len() * 4
                || (!self.keyed && next > self.series.len() as i64)
            {
                return None;
            }
            self.grow(usize::try_from(next).ok()?)?;
            self.samples
                .extend((first..next).map(|number| (number as u32, 0.0)));
        }
        let kinds = reader.take(self.samples.len().div_ceil(4))?;
        let built_upon = |series: &Series| is_key || series.key == key;
        if self.keyed
            && !self
                .samples
                .iter()
                .all(|(number, _)| built_upon(&self.series[*number as usize]))
        {
            return Some(Decoded::Keyless {
                lost: self.samples.len() as u64,
            });
        }
        for (position, (number, value)) in self.samples.iter_mut().enumerate() {
            let series = &mut self.series[*number as usize];
            let base = if is_key { 0.0 } else { series.base };
            *value = delta::take(
                base,
                kinds[position / 4] >> (position % 4 * 2) & 3,
                &mut reader,
            )?;
            if is_key || !self.keyed {
                (series.base, series.key) = (*value, key);
            }
        }
        if !reader.0.is_empty() {
            return None;
        }
        let before = self.samples.len();
        let series = &self.series;
        self.samples
            .retain(|(number, _)| series[*number as usize].declared);
        visit(Entry::Tick(time, &self.samples));
        Some(Decoded::Good {
            lost: (before - self.samples.len()) as u64,
        })
    }

    fn histograms(&mut self, payload: &[u8], visit: &mut impl FnMut(Entry<'_>)) -> Option<Decoded> {
        let plain = inflate(payload)?;
        let mut reader = Reader(&plain);
        let time = reader.int()?;
        let mut found: Vec<(u32, TimedHistogram)> = Vec::new();
        let mut lost = 0;
        while !reader.0.is_empty() {
            let number = reader.size(MOST_SERIES)?;
            let histogram = histogram::take(None, &mut reader)?;
            match self.series.get(number).filter(|series| series.declared) {
                Some(_) => found.push((number as u32, (time, Arc::new(histogram)))),
                None => lost += 1,
            }
        }
        visit(Entry::Histograms(found));
        Some(Decoded::Good { lost })
    }
}
