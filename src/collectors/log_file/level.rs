//! The level of a line: a closed set of words.

/// How serious a line says it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// No level was found.
    Unknown,
    /// TRACE.
    Trace,
    /// DEBUG.
    Debug,
    /// INFO.
    Info,
    /// NOTICE.
    Notice,
    /// WARN, WARNING.
    Warning,
    /// ERROR, ERR, SEVERE.
    Error,
    /// CRITICAL, FATAL, PANIC, ALERT, EMERG.
    Critical,
}

/// Names as labels have them, in the order of [`Level`].
pub const LEVELS: [&str; 8] = [
    "unknown", "trace", "debug", "info", "notice", "warning", "error", "critical",
];
/// How far into a plain line its level is looked for, in bytes.
const REACH: usize = 200;

impl Level {
    /// Whether it is an error.
    pub fn is_error(self) -> bool {
        matches!(self, Level::Error | Level::Critical)
    }

    /// The level that a word names, whatever its case.
    pub fn of_word(word: &[u8]) -> Option<Level> {
        let mut small = [0; 8];
        if !(3..=8).contains(&word.len()) {
            return None;
        }
        let small = &mut small[..word.len()];
        small.copy_from_slice(word);
        small.make_ascii_lowercase();
        Some(match &*small {
            b"trace" => Level::Trace,
            b"debug" | b"dbg" => Level::Debug,
            b"info" | b"inf" => Level::Info,
            b"notice" => Level::Notice,
            b"warn" | b"warning" | b"wrn" => Level::Warning,
            b"error" | b"err" | b"severe" => Level::Error,
            b"critical" | b"crit" | b"fatal" | b"panic" | b"alert" | b"emerg" => Level::Critical,
            _ => return None,
        })
    }

    /// The level that a field holds: a word, or a number as pino and bunyan write it.
    pub fn of_field(value: &[u8]) -> Level {
        let value = value.trim_ascii();
        match std::str::from_utf8(value)
            .ok()
            .and_then(|text| text.parse::<u32>().ok())
        {
            Some(0..=10) => Level::Trace,
            Some(11..=20) => Level::Debug,
            Some(21..=30) => Level::Info,
            Some(31..=40) => Level::Warning,
            Some(41..=50) => Level::Error,
            Some(_) => Level::Critical,
            None => Level::of_word(value).unwrap_or(Level::Unknown),
        }
    }

    /// The first level that a plain line names, and where the rest of the line begins: a word in
    /// capitals, one in brackets, one behind `level=`, or one that begins the line and has a colon.
    pub fn of_line(line: &[u8]) -> (Level, usize) {
        let reach = line.len().min(REACH);
        let mut at = 0;
        while at < reach {
            if !is_word(line[at]) {
                at += 1;
                continue;
            }
            let start = at;
            while at < line.len() && is_word(line[at]) {
                at += 1;
            }
            let word = &line[start..at];
            if !(3..=8).contains(&word.len()) || !word[0].is_ascii_alphabetic() {
                continue;
            }
            let (before, after) = (start.checked_sub(1).map(|i| line[i]), line.get(at).copied());
            let stands_out = word.iter().all(u8::is_ascii_uppercase)
                || (before == Some(b'[') && after == Some(b']'))
                || line[..start].ends_with(b"level=")
                || line[..start].ends_with(b"level=\"")
                || (start == 0 && after == Some(b':'));
            if stands_out && let Some(level) = Level::of_word(word) {
                return (level, at);
            }
        }
        (Level::Unknown, 0)
    }
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_level_of_a_line_is_its_level() {
        for (line, want) in [
            ("2026-11-30 12:00:00,123 INFO app: no ERROR here", "info"),
            (
                "2026-11-30 12:00:00,123 - app - ERROR - Database connection lost",
                "error",
            ),
            ("2026/11/30 12:00:00 [error] 7#7: *1 open() failed", "error"),
            ("time=x level=warn msg=y", "warning"),
            ("error: it broke", "error"),
            ("CRITICAL:root:down", "critical"),
            (
                "INFO:     127.0.0.1:5000 - \"GET /error HTTP/1.1\" 200 OK",
                "info",
            ),
            ("GET /error no level", "unknown"),
            ("ERROR_COUNT=3", "unknown"),
            ("", "unknown"),
        ] {
            assert_eq!(
                LEVELS[Level::of_line(line.as_bytes()).0 as usize],
                want,
                "{line}"
            );
        }
        assert_eq!(
            [
                Level::of_field(b"50"),
                Level::of_field(b"Warning"),
                Level::of_field(b"?")
            ],
            [Level::Error, Level::Warning, Level::Unknown]
        );
    }
}
