//! Reading Debian's control files, a paragraph at a time and within bounds:
//! <https://www.debian.org/doc/debian-policy/ch-controlfields.html>. A list of all packages has 50
//! MB; what is kept of it is one line.

use std::io::{self, BufRead};

/// A longer line is cut, in bytes: what is read here is far shorter.
const MAX_LINE: usize = 4096;

/// A field that is wanted.
pub struct Field {
    /// Its name with the colon.
    name: &'static [u8],
    /// Its text in the paragraph at hand; empty when it has none.
    text: String,
}

/// Reads paragraphs.
pub struct Stanzas<R> {
    reader: R,
    fields: Vec<Field>,
    line: Vec<u8>,
    /// Bytes that may still be read.
    left: u64,
    is_over: bool,
}

impl<R: BufRead> Stanzas<R> {
    /// Of each paragraph these fields, by names with a colon; at most so many bytes.
    pub fn new(reader: R, names: &[&'static str], max_bytes: u64) -> Self {
        let fields = names.iter().map(|name| Field {
            name: name.as_bytes(),
            text: String::new(),
        });
        Stanzas {
            reader,
            fields: fields.collect(),
            line: Vec::new(),
            left: max_bytes,
            is_over: false,
        }
    }

    /// Goes on to the next paragraph; false at the end. Errs where reading fails, or where there is
    /// more than may be read.
    pub fn next(&mut self) -> io::Result<bool> {
        self.fields.iter_mut().for_each(|field| field.text.clear());
        let mut is_begun = false;
        while !self.is_over {
            if !self.read_line()? {
                self.is_over = true;
                break;
            }
            if self.line.is_empty() {
                if is_begun {
                    return Ok(true);
                }
                continue;
            }
            is_begun = true;
            let line = &self.line;
            let wanted = self
                .fields
                .iter_mut()
                .find(|field| line.starts_with(field.name));
            if let Some(field) = wanted {
                let text = String::from_utf8_lossy(&line[field.name.len()..]);
                field.text.push_str(text.trim());
            }
        }
        Ok(is_begun)
    }

    /// The text of the field with this number.
    pub fn field(&self, index: usize) -> &str {
        &self.fields[index].text
    }

    /// Reads a line without its end, cut at a bound; false at the end of the file.
    fn read_line(&mut self) -> io::Result<bool> {
        self.line.clear();
        let mut is_any = false;
        loop {
            let piece = match self.reader.fill_buf() {
                Ok(piece) => piece,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            if piece.is_empty() {
                return Ok(is_any);
            }
            is_any = true;
            let end = memchr::memchr(b'\n', piece);
            let part = &piece[..end.unwrap_or(piece.len())];
            let room = MAX_LINE.saturating_sub(self.line.len());
            self.line.extend_from_slice(&part[..part.len().min(room)]);
            let count = end.map_or(piece.len(), |end| end + 1);
            self.reader.consume(count);
            self.left = self
                .left
                .checked_sub(count as u64)
                .ok_or_else(|| io::Error::other("it is larger than is read"))?;
            if end.is_some() {
                return Ok(true);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paragraphs_give_the_wanted_fields_and_a_bound_holds() {
        let long = "x".repeat(1 << 20);
        let text = format!(
            "\n\nPackage: a\nDescription: one\n Package: no\nVersion: 1:2-3\n\n\nPackage: b\nLong: {long}\nVersion: 4"
        );
        let read = |max: u64| {
            let mut stanzas = Stanzas::new(io::Cursor::new(&text), &["Package:", "Version:"], max);
            let mut found = Vec::new();
            while stanzas.next()? {
                found.push((stanzas.field(0).to_owned(), stanzas.field(1).to_owned()));
            }
            Ok::<_, io::Error>(found)
        };
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        assert_eq!(
            read(2 << 20).expect("read"),
            [pair("a", "1:2-3"), pair("b", "4")]
        );
        assert!(read(1000).is_err());
    }
}
