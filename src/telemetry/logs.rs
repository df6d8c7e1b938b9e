//! Logs on standard error: text for people, JSON for machines.

use std::borrow::Cow;
use std::io::{self, IsTerminal as _, Write};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;

use crate::model::text::{is_active, visible};

/// How a log line is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, clap::ValueEnum)]
pub enum LogFormat {
    /// One readable line.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Why logging did not start.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The level is no filter.
    #[error("log level {level:?}: {source}")]
    Level {
        /// As it was given.
        level: String,
        /// What is wrong with it.
        source: ParseError,
    },
    /// This process logs already.
    #[error("logs cannot be started: {0}")]
    Start(#[from] Box<dyn std::error::Error + Send + Sync>),
}

/// Starts logging for this process; `level` is a level or a filter such as
/// `info,nightbell::scrape=debug`.
///
/// # Errors
/// On a malformed filter, and where the process logs already.
pub fn start_logs(level: &str, format: LogFormat) -> Result<(), LogError> {
    let filter = EnvFilter::try_new(level).map_err(|source| LogError::Level {
        level: level.to_owned(),
        source,
    })?;
    let is_colored = format == LogFormat::Text && io::stderr().is_terminal();
    let writer = move || Lines {
        to: io::stderr(),
        format,
        is_colored,
    };
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(writer)
        .with_target(false);
    match format {
        LogFormat::Text => builder.with_ansi(is_colored).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    }
    .map_err(LogError::Start)
}

/// Writes each event, which comes whole, as one line: whatever texts from outside stand in it, they
/// neither begin another line nor steer a terminal.
struct Lines<W> {
    to: W,
    format: LogFormat,
    /// Whether escape sequences for colours are our own.
    is_colored: bool,
}

impl<W: Write> Write for Lines<W> {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(event);
        let (line, end) = text
            .strip_suffix('\n')
            .map_or((&*text, ""), |line| (line, "\n"));
        let line = match self.format {
            LogFormat::Json => in_json(line),
            LogFormat::Text if self.is_colored => Cow::Owned(between_colors(line)),
            LogFormat::Text => visible(line),
        };
        self.to.write_all(format!("{line}{end}").as_bytes())?;
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

/// As JSON escapes it.
fn in_json(line: &str) -> Cow<'_, str> {
    if !line.contains(is_active) {
        return Cow::Borrowed(line);
    }
    let mut out = String::with_capacity(line.len() + 16);
    for c in line.chars() {
        if is_active(c) {
            c.encode_utf16(&mut [0; 2])
                .iter()
                .for_each(|unit| out.push_str(&format!("\\u{unit:04x}")));
        } else {
            out.push(c);
        }
    }
    Cow::Owned(out)
}

/// All but `ESC [ digits m`, which the formatter wrote: in texts from outside it has escaped ESC
/// already.
fn between_colors(line: &str) -> String {
    let mut out = String::with_capacity(line.len() + 16);
    for (index, part) in line.split("\u{1b}[").enumerate() {
        let color = part.find('m').filter(|end| {
            index > 0
                && part[..*end]
                    .bytes()
                    .all(|b| b.is_ascii_digit() || b == b';')
        });
        let (color, text) = color.map_or(("", part), |end| part.split_at(end + 1));
        if index > 0 {
            out.push_str(if color.is_empty() {
                "\\u{1b}["
            } else {
                "\u{1b}["
            });
        }
        out.push_str(color);
        out.push_str(&visible(text));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(format: LogFormat, is_colored: bool, event: &str) -> String {
        let mut lines = Lines {
            to: Vec::new(),
            format,
            is_colored,
        };
        lines.write_all(event.as_bytes()).expect("written");
        String::from_utf8(lines.to).expect("text")
    }

    #[test]
    fn texts_from_outside_neither_begin_a_line_nor_steer_a_terminal() {
        let event = "WARN a=x\nERROR forged\u{1b}]0;pwned\u{7} \u{9b}2J \u{202e}drow\n";
        let text = written(LogFormat::Text, false, event);
        assert_eq!(
            text,
            "WARN a=x\\nERROR forged\\u{1b}]0;pwned\\u{7} \\u{9b}2J \\u{202e}drow\n"
        );
        assert_eq!(
            written(LogFormat::Text, true, "\u{1b}[33mWARN\u{1b}[0m a\nb\n"),
            "\u{1b}[33mWARN\u{1b}[0m a\\nb\n"
        );
        let json = written(
            LogFormat::Json,
            false,
            "{\"a\":\"\u{9b}\u{202e}\u{e0041}\"}\n",
        );
        assert_eq!(json, "{\"a\":\"\\u009b\\u202e\\udb40\\udc41\"}\n");
        assert_eq!(
            serde_json::from_str::<serde_json::Value>(&json).expect("JSON")["a"],
            "\u{9b}\u{202e}\u{e0041}"
        );
    }
}
