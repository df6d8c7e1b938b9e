//! A dump as bytes: one by one where they are code, in pieces where they are rows.

use std::io::{self, BufRead, Write};

use super::failure::{Failure, Reason};

/// A longer tag of `$tag$` is none, in bytes.
const MAX_TAG: usize = 64;

/// What went wrong on which side.
pub enum Problem {
    /// With the dump.
    In(Failure),
    /// With psql.
    Out,
}

impl Problem {
    /// The dump cannot be read on.
    pub fn read(error: io::Error) -> Self {
        Problem::In(error.into())
    }
}

impl From<Failure> for Problem {
    fn from(failure: Failure) -> Self {
        Problem::In(failure)
    }
}

/// Whatever the error: psql reads no more, and says itself why.
pub fn closed(_error: io::Error) -> Problem {
    Problem::Out
}

/// The next byte, which stays.
pub fn peek(input: &mut impl BufRead) -> Result<Option<u8>, Problem> {
    input
        .fill_buf()
        .map(|piece| piece.first().copied())
        .map_err(Problem::read)
}

/// The next byte.
pub fn next(input: &mut impl BufRead) -> Result<Option<u8>, Problem> {
    let byte = peek(input)?;
    input.consume(usize::from(byte.is_some()));
    Ok(byte)
}

/// The rest of a line, cut at a bound, without what ends it.
pub fn line(input: &mut impl BufRead) -> Result<Vec<u8>, Problem> {
    let mut found = Vec::new();
    while let Some(byte) = next(input)?.filter(|byte| *byte != b'\n') {
        if found.len() < 1024 {
            found.push(byte);
        }
    }
    Ok(found)
}

/// After a `$`: the tag with both its dollars, if this is one. What was read of it stands in `into`
/// too.
pub fn tag(input: &mut impl BufRead, into: &mut Vec<u8>) -> Result<Option<Vec<u8>>, Problem> {
    let start = into.len() - 1;
    while let Some(byte) = peek(input)?.filter(|byte| *byte == b'$' || is_word(*byte)) {
        let is_first = into.len() == start + 1;
        if (is_first && byte.is_ascii_digit()) || into.len() - start > MAX_TAG {
            return Ok(None);
        }
        next(input)?;
        into.push(byte);
        if byte == b'$' {
            return Ok(Some(into[start..].to_vec()));
        }
    }
    Ok(None)
}

/// Rows of COPY, up to the line `\.`.
pub fn copy(input: &mut impl BufRead, out: &mut impl Write) -> Result<(), Problem> {
    // What stands in the line so far, as long as it may be the last one.
    let mut head: Option<Vec<u8>> = Some(Vec::new());
    loop {
        let piece = input.fill_buf().map_err(Problem::read)?;
        if piece.is_empty() {
            return Err(
                Failure::of(Reason::Damaged, "the dump ends within the rows of a table").into(),
            );
        }
        let (ends, length) = match memchr::memchr(b'\n', piece) {
            Some(at) => (true, at + 1),
            None => (false, piece.len()),
        };
        if let Some(begun) = &mut head {
            begun.extend_from_slice(&piece[..length.min(4)]);
            if length > 4 || begun.len() > 4 {
                head = None;
            }
        }
        out.write_all(&piece[..length]).map_err(closed)?;
        input.consume(length);
        if ends {
            if head.is_some_and(|head| matches!(head.as_slice(), b"\\.\n" | b"\\.\r\n")) {
                return Ok(());
            }
            head = Some(Vec::new());
        }
    }
}

/// Whether it may stand in a name.
pub fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80
}
