//! What the commands print: texts from outside never steer a terminal. [`say!`] and [`complain!`]
//! stand for `println!` and `eprintln!`; a text from outside that could forge a line goes through
//! [`visible`](crate::model::text::visible) besides, or through a table.

use std::io::{self, Write};

use crate::model::text::visible_lines;

/// Prints a line on standard output.
macro_rules! say {
    ($($text:tt)*) => { println!("{}", $crate::model::text::visible_lines(&format!($($text)*))) };
}

/// Prints a line on standard error.
macro_rules! complain {
    ($($text:tt)*) => { eprintln!("{}", $crate::model::text::visible_lines(&format!($($text)*))) };
}

pub(super) use {complain, say};

/// JSON for people and programs: what a terminal would act on is escaped as JSON escapes it.
pub fn json_text(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if crate::model::text::is_active(c) && !matches!(c, '\n' | '\t') {
            c.encode_utf16(&mut [0; 2])
                .iter()
                .for_each(|unit| out.push_str(&format!("\\u{unit:04x}")));
        } else {
            out.push(c);
        }
    }
    out
}

/// A writer for the commands that print as they go.
pub struct Screen<W>(pub W);

impl<W: Write> Write for Screen<W> {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        match std::str::from_utf8(text) {
            Ok(text) => self.0.write_all(visible_lines(text).as_bytes())?,
            Err(_) => self
                .0
                .write_all(visible_lines(&String::from_utf8_lossy(text)).as_bytes())?,
        }
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}
