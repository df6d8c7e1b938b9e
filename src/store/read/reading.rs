//! Reading the chunks of a few series at a time: series of one metric lie beside each other in a
//! block, so that what a query needs of a block takes one call.

use std::ops::Range;
use std::sync::Arc;

use super::located::{Found, Piece};
use super::seen::Seen;
use crate::store::history::{History, Known, Part, Run};
use crate::store::memory::series::Gathered;

/// Bytes of chunks that are fetched at a time, the last series left out.
const BATCH: usize = 2 << 20;
/// Bytes between two series that are fetched with them sooner than with a call of its own.
const GAP: u64 = 4 << 10;

/// The chunks of some series.
pub(super) struct Reading<'a> {
    seen: &'a Seen,
    /// Which parts hold something that is seen.
    needed: Vec<bool>,
    /// The column that each part used last.
    known: Vec<Known>,
    bytes: Vec<u8>,
    /// The first series that was fetched, and for each of them its part and where its chunks are.
    first: usize,
    pieces: Vec<Vec<(u32, Chunks)>>,
}

/// The chunks of a series in a part.
enum Chunks {
    /// Decoded, for a reader before this one.
    Kept(Arc<[Run]>),
    /// As they lie at this offset of the part, and in these bytes of what was fetched.
    Fetched(u64, Range<usize>),
}

impl<'a> Reading<'a> {
    /// Nothing yet.
    pub(super) fn new(parts: &[Part], seen: &'a Seen) -> Self {
        Reading {
            seen,
            needed: parts.iter().map(|part| part.is_seen(seen)).collect(),
            known: vec![Known::default(); parts.len()],
            bytes: Vec::new(),
            first: 0,
            pieces: Vec::new(),
        }
    }

    /// Fetches the next series, as many as fit; returns the one after them.
    pub(super) fn fetch(&mut self, history: &History, found: &Found, rows: Range<usize>) -> usize {
        self.first = rows.start;
        self.bytes.clear();
        self.pieces.clear();
        let (mut wanted, mut bytes) = (Vec::new(), 0);
        for row in rows {
            let mut kept = Vec::new();
            let pieces = &found.positions[row].pieces;
            for piece in pieces.iter().filter(|p| self.needed[p.part as usize]) {
                let part = &found.parts[piece.part as usize];
                if let Some(runs) = history.kept(part, piece.offset) {
                    kept.push((piece.part, Chunks::Kept(runs)));
                    continue;
                }
                bytes += piece.length as usize;
                wanted.push((*piece, self.pieces.len()));
            }
            self.pieces.push(kept);
            if bytes >= BATCH {
                break;
            }
        }
        wanted.sort_unstable_by_key(|(piece, _)| (piece.part, piece.offset));
        let near = |(a, _): &(Piece, usize), (b, _): &(Piece, usize)| {
            a.part == b.part && b.offset <= a.offset + u64::from(a.length) + GAP
        };
        let span = |run: &[(Piece, usize)]| {
            let (first, last) = (run[0].0, run[run.len() - 1].0);
            let length = last.offset - first.offset + u64::from(last.length);
            (first.part as usize, (first.offset, length as usize))
        };
        // The disk fetches all of them at once while the first ones are read.
        for (part, span) in wanted.chunk_by(near).map(span).skip(1) {
            history.announce_fetch(&found.parts[part], span);
        }
        for run in wanted.chunk_by(near) {
            let (at, (part, span)) = (self.bytes.len(), span(run));
            if !history.fetch(&found.parts[part], span, &mut self.bytes) {
                continue;
            }
            let first = run[0].0;
            for (piece, row) in run {
                let start = at + (piece.offset - first.offset) as usize;
                let range = start..start + piece.length as usize;
                self.pieces[*row].push((piece.part, Chunks::Fetched(piece.offset, range)));
            }
        }
        for pieces in &mut self.pieces {
            if !pieces.is_sorted_by_key(|(part, _)| *part) {
                pieces.sort_by_key(|(part, _)| *part);
            }
        }
        self.first + self.pieces.len()
    }

    /// Appends the samples of a series that was fetched.
    pub(super) fn decode(
        &mut self,
        history: &History,
        found: &Found,
        row: usize,
        samples: &mut Gathered,
    ) {
        for (number, chunks) in &self.pieces[row - self.first] {
            let number = *number as usize;
            let (part, known) = (&found.parts[number], &mut self.known[number]);
            match chunks {
                Chunks::Kept(runs) => {
                    history.append(part, known, runs, self.seen, samples);
                }
                Chunks::Fetched(offset, range) => {
                    let data = (*offset, &self.bytes[range.clone()]);
                    history.decode(part, known, data, self.seen, samples);
                }
            }
        }
    }
}
