//! A gzip body while it comes: all of its members (RFC 1952, section 2.2), and nothing but them.

use bytes::{Buf as _, Bytes};
use flate2::{Decompress, FlushDecompress, Status};

use super::error::{HttpError, HttpErrorKind};

/// Most bytes of one part: however much a body expands, it is passed on in pieces of this size.
const PART: usize = 64 << 10;
/// The largest window, of 2^15 bytes, which every gzip body can be read with.
const WINDOW: u8 = 15;

/// A whole body without its gzip, of so many bytes at most; the error is for its sender.
pub fn gunzipped(body: &[u8], most: usize) -> Result<Vec<u8>, String> {
    let (mut gunzip, mut out) = (Gunzip::new(), Vec::new());
    gunzip.put(Bytes::copy_from_slice(body));
    while let Some(part) = gunzip.part().map_err(|error| error.to_string())? {
        if out.len() + part.len() > most {
            return Err(format!(
                "the body has more than {most} bytes without its gzip"
            ));
        }
        out.extend_from_slice(&part);
    }
    gunzip.end().map_err(|error| error.to_string())?;
    Ok(out)
}

/// Reads one body.
pub struct Gunzip {
    /// The member that has begun and has not ended.
    member: Option<Decompress>,
    /// What came and was not read yet.
    input: Bytes,
    /// The last part was full, so that more may follow without further input.
    full: bool,
    /// Nothing has come at all.
    empty: bool,
}

impl Default for Gunzip {
    fn default() -> Self {
        Self::new()
    }
}

impl Gunzip {
    /// Nothing has come.
    pub fn new() -> Self {
        Gunzip {
            member: None,
            input: Bytes::new(),
            full: false,
            empty: true,
        }
    }

    /// Takes what came next; all of the last one was read.
    pub fn put(&mut self, input: Bytes) {
        self.empty &= input.is_empty();
        self.input = input;
    }

    /// The next part; `None` when there is more to come first.
    ///
    /// # Errors
    /// When it is no gzip.
    pub fn part(&mut self) -> Result<Option<Bytes>, HttpError> {
        while !self.input.is_empty() || self.full {
            let member = self
                .member
                .get_or_insert_with(|| Decompress::new_gzip(WINDOW));
            let mut part = Vec::with_capacity(PART);
            let before = member.total_in();
            let status = member
                .decompress_vec(&self.input, &mut part, FlushDecompress::None)
                .map_err(|_| broken("is damaged"))?;
            let taken = usize::try_from(member.total_in() - before).unwrap_or(usize::MAX);
            self.input.advance(taken.min(self.input.len()));
            let goes_on = status != Status::StreamEnd;
            self.full = goes_on && part.len() == part.capacity();
            if !goes_on {
                self.member = None;
            }
            if !part.is_empty() {
                return Ok(Some(part.into()));
            }
            if taken == 0 && goes_on {
                break;
            }
        }
        Ok(None)
    }

    /// Whether more may follow without further input.
    pub(super) fn has_more(&self) -> bool {
        self.full
    }

    /// Errs where the body ends within a member.
    pub(super) fn end(&self) -> Result<(), HttpError> {
        if self.member.is_some() {
            Err(broken("ends too early"))
        } else {
            Ok(())
        }
    }

    /// Whether there was no body, which is no gzip body either.
    pub(super) fn is_empty(&self) -> bool {
        self.empty
    }
}

fn broken(how: &str) -> HttpError {
    HttpError::new(HttpErrorKind::Protocol, format!("the gzip body {how}"))
}
