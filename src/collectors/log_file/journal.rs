//! systemd's journal in place of a file: what `journalctl -o json` gives after the last cursor
//! (<https://systemd.io/JOURNAL_EXPORT_FORMATS/#journal-json-format>), each entry once, also over
//! restarts. It is read in bounded runs of the program, never followed.

use std::io::{self, BufRead as _, BufReader, Read as _};
use std::path::PathBuf;
use std::process::Command;
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::follow::{MAX_LINE, Sink};
use super::level::Level;
use crate::collectors::programs::{Input, Program, command, find};
use crate::config::Section;
use crate::model::text::visible;

/// Ends of the names of units; other names are identifiers.
const UNITS: [&str; 7] = [
    ".service", ".socket", ".timer", ".mount", ".scope", ".slice", ".target",
];
/// So much of one entry is read, in bytes; of a longer message the beginning counts.
const MAX_ENTRY: u64 = 4 * MAX_LINE as u64;
/// Entries that wait between the thread that reads and the one that counts.
const WAITING: usize = 64;
/// What of an entry is asked for.
const FIELDS: &str = "MESSAGE,PRIORITY,SYSLOG_IDENTIFIER,_COMM,_PID,_HOSTNAME";

/// Which entries, and how they are given out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Journal {
    /// Units, or identifiers of syslog.
    names: Vec<String>,
    are_units: bool,
    /// The folder of the journal's files; the system's own when it is not given.
    folder: Option<PathBuf>,
    /// How an entry becomes a line.
    pub style: Style,
}

/// How an entry becomes a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// Its message as it is.
    Bare,
    /// The message; where it names no level, that of the entry stands before it.
    Levelled,
    /// As syslog writes it: `host program[number]: message`.
    Syslog,
}

/// Where the next run begins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Place {
    /// After this entry.
    Cursor(String),
    /// At this time, in microseconds since 1970.
    Since(i64),
}

/// What a run found.
#[derive(Debug, Default)]
pub struct Run {
    /// Bytes of messages.
    pub read: u64,
    /// When the newest entry was written, Unix seconds.
    pub written: f64,
    /// There is more than could be read this time.
    pub has_more: bool,
}

impl std::fmt::Display for Journal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "journal {}", self.names.join(" "))
    }
}

impl Journal {
    /// Reads `journal` and `journal_folder`; `None` when there is no such key.
    pub fn read(section: &Section<'_>) -> Option<Self> {
        let folder = section.get::<PathBuf>("journal_folder");
        let Some(names) = names(section) else {
            if folder.is_some() {
                section.error(
                    "journal_folder",
                    "belongs to \"journal\"",
                    "add journal: a unit such as app.service, or remove it",
                );
            }
            return None;
        };
        let is_unit = |name: &String| UNITS.iter().any(|end| name.ends_with(end));
        let are_units = names.iter().all(is_unit);
        if names.is_empty()
            || names
                .iter()
                .any(|name| name.is_empty() || name.starts_with('-') || name.contains('\0'))
        {
            section.error(
                "journal",
                "names nothing",
                "give a unit such as app.service, or identifiers of syslog: [sshd, sudo]",
            );
        } else if !are_units && names.iter().any(is_unit) {
            section.error(
                "journal",
                "names units and identifiers of syslog",
                "give each an entry of its own",
            );
        }
        Some(Journal {
            names,
            are_units,
            folder,
            style: Style::Bare,
        })
    }

    fn command(&self, place: Option<&Place>) -> io::Result<Command> {
        let program = find("journalctl", None)
            .ok_or_else(|| io::Error::other("journalctl is not installed"))?;
        let mut run = command(&program, &[]);
        run.args([
            "-o",
            "json",
            "--all",
            "--no-pager",
            "--quiet",
            "--no-hostname",
            "--output-fields",
            FIELDS,
        ]);
        if let Some(folder) = &self.folder {
            run.arg("--directory").arg(folder);
        }
        for name in &self.names {
            run.arg(if self.are_units {
                "--unit"
            } else {
                "--identifier"
            })
            .arg(name);
        }
        match place {
            Some(Place::Cursor(cursor)) => run.arg(format!("--after-cursor={cursor}")),
            Some(Place::Since(time)) => run.arg(format!(
                "--since=@{}.{:06}",
                time / 1_000_000,
                time % 1_000_000
            )),
            None => &mut run,
        };
        Ok(run)
    }

    /// Gives out what came after `place`, which moves along, up to so many bytes and until the
    /// deadline.
    pub fn look(
        &self,
        place: &mut Option<Place>,
        sink: &mut dyn Sink,
        bytes: u64,
        deadline: Instant,
    ) -> io::Result<Run> {
        let (program, _, output) =
            Program::start(self.command(place.as_ref())?, Input::Nothing, true)?;
        let group = program.group();
        let mut output =
            BufReader::new(output.ok_or_else(|| io::Error::other("a pipe is missing"))?);
        let (send, entries) = sync_channel::<Vec<u8>>(WAITING);
        // It ends with the pipe, or when nobody takes what it reads.
        let reader = std::thread::spawn(move || {
            while let Some(entry) = entry(&mut output) {
                if send.send(entry).is_err() {
                    break;
                }
            }
        });
        let (mut run, mut traceback) = (Run::default(), false);
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if run.read >= bytes || left.is_zero() {
                run.has_more = true;
                break;
            }
            match entries.recv_timeout(left.max(Duration::from_millis(1))) {
                Ok(entry) => self.give(&entry, place, sink, &mut run, &mut traceback),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        if run.has_more {
            group.kill();
        }
        drop(entries);
        let (status, said) = program.wait()?;
        // It has nothing left to read from.
        drop(reader.join());
        if run.has_more || status.success() {
            return Ok(run);
        }
        Err(io::Error::other(format!(
            "journalctl: {}",
            visible(said.lines().next().unwrap_or("failed"))
        )))
    }

    fn give(
        &self,
        entry: &[u8],
        place: &mut Option<Place>,
        sink: &mut dyn Sink,
        run: &mut Run,
        traceback: &mut bool,
    ) {
        // An entry that is cut has no cursor that could be read: the next one has.
        let Ok(fields) = serde_json::from_slice::<Value>(entry) else {
            run.read += entry.len() as u64;
            sink.cut(&entry[..entry.len().min(MAX_LINE)], traceback);
            return;
        };
        if let Some(cursor) = fields["__CURSOR"].as_str() {
            *place = Some(Place::Cursor(cursor.to_owned()));
        }
        if let Some(time) = fields["__REALTIME_TIMESTAMP"]
            .as_str()
            .and_then(|text| text.parse::<f64>().ok())
        {
            run.written = run.written.max(time / 1e6);
        }
        let message = bytes_of(&fields["MESSAGE"]);
        let mut line = Vec::with_capacity(message.len() + 64);
        let text = |name: &str| fields[name].as_str().unwrap_or_default();
        match self.style {
            Style::Bare => {}
            Style::Levelled => {
                let is_known = Level::of_line(&message).0 != Level::Unknown;
                line.extend_from_slice(
                    if is_known { "" } else { word(text("PRIORITY")) }.as_bytes(),
                );
            }
            Style::Syslog => {
                let program = [text("SYSLOG_IDENTIFIER"), text("_COMM")]
                    .into_iter()
                    .find(|name| !name.is_empty())
                    .unwrap_or("-");
                line.extend_from_slice(
                    format!("{} {program}[{}]: ", text("_HOSTNAME"), text("_PID")).as_bytes(),
                );
            }
        }
        for byte in message {
            line.push(byte);
            // An entry is one event, however many lines it has: what is indented goes on with the
            // one before.
            line.extend((byte == b'\n').then_some(b' '));
        }
        line.push(b'\n');
        run.read += line.len() as u64;
        if line.len() > MAX_LINE {
            sink.cut(&line[..MAX_LINE], traceback)
        } else {
            sink.lines(&line, traceback)
        }
    }
}

/// One name, or several.
fn names(section: &Section<'_>) -> Option<Vec<String>> {
    match section.node("journal").map(|node| &node.value) {
        None => None,
        Some(crate::config::Value::List(_)) => section.get::<Vec<String>>("journal"),
        Some(_) => section.get::<String>("journal").map(|name| vec![name]),
    }
}

/// The next line of the program's output, cut at a bound; `None` at its end.
fn entry(output: &mut BufReader<io::PipeReader>) -> Option<Vec<u8>> {
    let mut entry = Vec::new();
    output
        .by_ref()
        .take(MAX_ENTRY)
        .read_until(b'\n', &mut entry)
        .ok()?;
    if entry.last() != Some(&b'\n') && entry.len() as u64 == MAX_ENTRY {
        // The rest of it is passed over.
        loop {
            let piece = output.fill_buf().ok().filter(|piece| !piece.is_empty())?;
            let end = memchr::memchr(b'\n', piece);
            let length = end.map_or(piece.len(), |at| at + 1);
            output.consume(length);
            if end.is_some() {
                break;
            }
        }
    }
    Some(entry).filter(|entry| !entry.is_empty())
}

/// A field: a text; a list of bytes where it is no text; a list of these where an entry has it more
/// than once, of which the first counts.
fn bytes_of(field: &Value) -> Vec<u8> {
    match field {
        Value::String(text) => text.clone().into_bytes(),
        Value::Array(items) => match items.first() {
            Some(Value::Number(_)) => items
                .iter()
                .filter_map(|byte| u8::try_from(byte.as_u64()?).ok())
                .collect(),
            Some(first) => bytes_of(first),
            None => Vec::new(),
        },
        _ => Vec::new(),
    }
}

/// The word for a priority of syslog, with a space behind it.
fn word(priority: &str) -> &'static str {
    match priority {
        "0" | "1" | "2" => "CRITICAL ",
        "3" => "ERROR ",
        "4" => "WARNING ",
        "5" => "NOTICE ",
        "6" => "INFO ",
        "7" => "DEBUG ",
        _ => "",
    }
}
