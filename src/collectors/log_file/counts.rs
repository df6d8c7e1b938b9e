//! What was counted so far, and how a line is counted. It is saved together with the positions, so
//! each line counts once.

use std::collections::{BTreeMap, HashMap};

use memchr::memchr;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh64::xxh64;

use super::follow::Sink;
use super::json::{Raw, unescaped};
use super::level::{LEVELS, Level};
use super::mask::{masked, type_of};
use super::reader::Totals;
use super::settings::{Measure, Observation, Pattern, Settings};

/// The label of what has no room.
pub const OTHER: &str = "other";
/// A type that was not seen for so long leaves when a new one needs its room, in milliseconds.
const FORGET_MS: i64 = 86_400_000;
/// How many of the newest lines of a type are kept, and how much of each, in bytes.
const NEWEST: usize = 3;
const MAX_NEWEST: usize = 400;
/// Shapes of errors that are remembered.
const MAX_SHAPES: usize = 1024;

/// All counts of a target.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Counts {
    /// Events by level, in the order of [`LEVELS`].
    pub lines: [u64; LEVELS.len()],
    /// Lines that go on with the event before.
    pub continuations: u64,
    /// Lines by named pattern.
    pub matches: BTreeMap<String, u64>,
    /// Errors by type.
    pub types: Vec<ErrorType>,
    /// Where in `types` errors of one shape are counted, by the shape's hash.
    #[serde(skip)]
    shapes: HashMap<u64, usize>,
    /// Errors of types beyond the bound.
    pub other: u64,
    /// Figures by name.
    pub fields: BTreeMap<String, Figure>,
    /// Lines above the bound of `slow`.
    pub slow: u64,
    /// The slowest of them, the slowest first.
    pub slowest: Vec<Slow>,
    /// Of the reading itself.
    pub totals: Totals,
}

/// A type of error.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct ErrorType {
    /// What it is, without what differs.
    pub name: String,
    /// How often.
    pub count: u64,
    /// When it was last counted, Unix milliseconds.
    pub at_ms: i64,
    /// Its newest lines, masked, the oldest first.
    pub newest: Vec<String>,
    /// The newest line of this look, not masked yet.
    #[serde(skip)]
    fresh: Vec<u8>,
}

/// What was made of the values of a field.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Figure {
    /// Values by bucket, not cumulative; the last one is above all bounds.
    pub buckets: Vec<u64>,
    /// Sum of the values.
    pub sum: f64,
    /// The last value.
    pub last: Option<f64>,
    /// Values that are no numbers.
    pub odd: u64,
}

/// A slow line.
#[derive(Debug, Serialize, Deserialize)]
pub struct Slow {
    /// The value of the field.
    pub value: f64,
    /// The fields to show, masked.
    pub shown: BTreeMap<String, String>,
}

/// Counts lines by the settings.
pub struct Counter<'a> {
    /// What is counted, and how.
    pub settings: &'a Settings,
    /// The counts.
    pub counts: &'a mut Counts,
    /// Now, Unix milliseconds.
    pub now_ms: i64,
}

impl Sink for Counter<'_> {
    fn lines(&mut self, lines: &[u8], traceback: &mut bool) {
        let Some(envelope) = self.settings.files.envelope else {
            return self.plain_lines(lines, traceback);
        };
        let mut inner = Vec::with_capacity(lines.len());
        envelope.open(lines, &mut inner);
        self.plain_lines(&inner, traceback);
    }

    fn cut(&mut self, begin: &[u8], traceback: &mut bool) {
        self.counts.totals.cut += 1;
        let begin = &begin[..begin.len().min(4096)];
        let line: Vec<u8> = begin
            .iter()
            .map(|b| if *b == b'\n' { b' ' } else { *b })
            .chain([b'\n'])
            .collect();
        self.lines(&line, traceback);
    }
}

impl Counter<'_> {
    fn plain_lines(&mut self, lines: &[u8], traceback: &mut bool) {
        for pattern in &self.settings.count {
            let found = count_pattern(pattern, lines);
            if found > 0 {
                *self.matches(&pattern.name) += found;
            }
        }
        let mut found: Vec<Raw<'_>> = vec![None; self.settings.always.len()];
        let mut rest = lines;
        let mut last: &[u8] = b"";
        while let Some(end) = memchr(b'\n', rest) {
            let line = rest[..end].strip_suffix(b"\r").unwrap_or(&rest[..end]);
            rest = &rest[end + 1..];
            if is_continuation(line, traceback) {
                self.counts.continuations += 1;
            } else {
                self.event(line, &mut found);
                last = line;
            }
        }
        if let Some(at) = self.settings.time_of(last) {
            self.counts.totals.last_line = self.counts.totals.last_line.max(at);
        }
    }

    fn event<'l>(&mut self, line: &'l [u8], found: &mut [Raw<'l>]) {
        let settings = self.settings;
        let (mut level, mut message) = (Level::Unknown, 0);
        let structured = settings.find(&settings.always, line, found);
        if structured {
            let field = settings.level.iter().find_map(|index| found[*index]);
            level = field.map_or(Level::Unknown, Level::of_field);
        }
        if level == Level::Unknown && (!structured || settings.is_plain()) {
            (level, message) = Level::of_line(line);
        }
        self.counts.lines[level as usize] += 1;
        if level.is_error() {
            self.error(line, message);
        }
        for observation in &settings.observe {
            self.observe(observation, found);
        }
        if let Some(slow) = &settings.slow
            && let Some(value) = found[slow.field]
                .and_then(number)
                .map(|value| value * slow.factor)
            && value > slow.above
        {
            self.counts.slow += 1;
            let slowest = &mut self.counts.slowest;
            let at = slowest.partition_point(|other| other.value >= value);
            if at < slow.keep {
                let mut fields = vec![None; slow.show.len()];
                settings.find(&slow.show, line, &mut fields);
                let shown = |(name, raw): (&str, &Raw<'_>)| {
                    Some((name.to_owned(), masked(&cropped(&unescaped((*raw)?)))))
                };
                let shown = slow.show.names().zip(&fields).filter_map(shown).collect();
                slowest.insert(at, Slow { value, shown });
                slowest.truncate(slow.keep);
            }
        }
    }

    fn error(&mut self, line: &[u8], message: usize) {
        let mut found: Vec<Raw<'_>> = vec![None; self.settings.on_error.len()];
        let structured = self
            .settings
            .find(&self.settings.on_error, line, &mut found);
        let raw = found.iter().flatten().next().filter(|_| structured);
        let text = raw.map_or(&line[message..], |raw| *raw);
        let text = &text[..text.len().min(4096)];
        let counts = &mut *self.counts;
        // What differs from one error to the next is mostly digits: errors that differ in nothing
        // else have one type.
        let shape = shape(text, raw.is_some());
        if let Some(kind) = counts
            .shapes
            .get(&shape)
            .and_then(|at| counts.types.get_mut(*at))
        {
            kind.note(line, self.now_ms);
            return;
        }
        let text = match raw {
            Some(_) => unescaped(text),
            None => String::from_utf8_lossy(text).into_owned(),
        };
        let name = type_of(&text);
        if name == OTHER {
            counts.other += 1;
            return;
        }
        let at = match counts.types.iter().position(|known| known.name == name) {
            Some(at) => at,
            None => {
                if counts.types.len() >= self.settings.max_types {
                    let oldest = (0..counts.types.len()).min_by_key(|at| counts.types[*at].at_ms);
                    match oldest.filter(|at| counts.types[*at].at_ms < self.now_ms - FORGET_MS) {
                        Some(at) => {
                            drop(counts.types.remove(at));
                            counts.shapes.clear();
                        }
                        None => {
                            counts.other += 1;
                            return;
                        }
                    }
                }
                counts.types.push(ErrorType {
                    name,
                    ..ErrorType::default()
                });
                counts.types.len() - 1
            }
        };
        if counts.shapes.len() >= MAX_SHAPES {
            counts.shapes.clear();
        }
        counts.shapes.insert(shape, at);
        counts.types[at].note(line, self.now_ms);
    }

    fn observe(&mut self, observation: &Observation, found: &[Raw<'_>]) {
        let Some(raw) = found[observation.field].filter(|raw| *raw != b"null") else {
            return;
        };
        let is_met = |(field, wanted): &(usize, String)| {
            found[*field].is_some_and(|raw| {
                raw == wanted.as_bytes() || (raw.contains(&b'\\') && unescaped(raw) == *wanted)
            })
        };
        if !observation.only.iter().all(is_met) {
            return;
        }
        if !self.counts.fields.contains_key(&observation.name) {
            self.counts
                .fields
                .insert(observation.name.clone(), Figure::default());
        }
        let Some(figure) = self.counts.fields.get_mut(&observation.name) else {
            return;
        };
        let Some(value) = number(raw).map(|value| value * observation.factor) else {
            figure.odd += 1;
            return;
        };
        figure.sum += value;
        figure.last = Some(value);
        if let Measure::Histogram(bounds) = &observation.measure {
            figure.buckets.resize(bounds.len() + 1, 0);
            figure.buckets[bounds.partition_point(|bound| *bound < value)] += 1;
        }
    }

    fn matches(&mut self, name: &str) -> &mut u64 {
        self.counts.matches.entry(name.to_owned()).or_default()
    }
}

impl ErrorType {
    /// Counts an error.
    fn note(&mut self, line: &[u8], now_ms: i64) {
        self.count += 1;
        self.at_ms = now_ms;
        self.fresh.clear();
        self.fresh
            .extend_from_slice(&line[..line.len().min(MAX_NEWEST)]);
    }
}

/// The hash of a text in which all digits are alike, and what it stands for: a field's raw value or
/// a line's text. Texts of one shape have one type, since [`type_of`] looks at no digit but the one
/// of `0x`; digits of an escaped character such as `\u4e2d` stay, as they say which one it is.
fn shape(text: &[u8], is_field: bool) -> u64 {
    let mut alike = [0; 4096];
    let alike = &mut alike[..text.len().min(4096)];
    let is_escaped = is_field && text.contains(&b'\\');
    for (at, (byte, out)) in text.iter().zip(alike.iter_mut()).enumerate() {
        let is_hex = *byte == b'0' && text.get(at + 1) == Some(&b'x');
        let is_plain = is_escaped || is_hex || !byte.is_ascii_digit();
        *out = if is_plain { *byte } else { b'1' };
    }
    xxh64(alike, u64::from(is_field))
}

impl Counts {
    /// Masks the newest lines.
    pub fn settle(&mut self) {
        for kind in self.types.iter_mut().filter(|kind| !kind.fresh.is_empty()) {
            let line = masked(&String::from_utf8_lossy(&std::mem::take(&mut kind.fresh)));
            kind.newest.push(line);
            let surplus = kind.newest.len().saturating_sub(NEWEST);
            kind.newest.drain(..surplus);
        }
    }
}

fn cropped(text: &str) -> String {
    text.chars().take(200).collect()
}

/// A number as it is written, or as a text.
fn number(raw: &[u8]) -> Option<f64> {
    std::str::from_utf8(raw)
        .ok()?
        .trim()
        .parse()
        .ok()
        .filter(|value: &f64| value.is_finite())
}

/// Lines among `lines` that the pattern is in.
fn count_pattern(pattern: &Pattern, lines: &[u8]) -> u64 {
    let mut count = 0;
    if let Some(regex) = &pattern.regex {
        return lines
            .split(|b| *b == b'\n')
            .filter(|line| !line.is_empty() && regex.is_match(line))
            .count() as u64;
    }
    let mut at = 0;
    while let Some(hit) = lines.get(at..).and_then(|rest| pattern.text.find(rest)) {
        count += 1;
        let from = at + hit;
        at = memchr(b'\n', &lines[from..]).map_or(lines.len(), |end| from + end + 1);
    }
    count
}

/// Whether a line goes on with the event before it: it is empty or indented, or it belongs to a
/// traceback.
pub fn is_continuation(line: &[u8], traceback: &mut bool) -> bool {
    let Some(first) = line.first() else {
        return true;
    };
    match first {
        b' ' | b'\t' => return true,
        b'{' | b'0'..=b'9' | b'[' => {
            *traceback = false;
            return false;
        }
        _ => {}
    }
    const BEGINNINGS: [&[u8]; 4] = [
        b"Caused by",
        b"During handling of the above",
        b"The above exception was",
        b"File \"",
    ];
    if line.starts_with(b"Traceback (most recent call last)") {
        *traceback = true;
        return true;
    }
    if BEGINNINGS.iter().any(|begin| line.starts_with(begin)) {
        return true;
    }
    // The line that names the exception closes a traceback.
    let first = line.split(|b| *b == b' ').next().unwrap_or_default();
    std::mem::take(traceback) && Level::of_line(first).0 == Level::Unknown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_one_shape_have_one_type() {
        let pairs = [
            ("request 17 of user 123", "request 42 of user 999", true),
            ("request 17", "request 170", false),
            ("id 0x1f", "id 1x1f", false),
            ("commit deadbeef12 failed", "commit deadbeef98 failed", true),
            ("page 1234567 defaced", "page 7654321 defaced", true),
            (
                "at 12:00:01 'x' in /srv/a1/b",
                "at 13:59:59 'x' in /srv/a2/b",
                true,
            ),
            (
                "key sk-abcdef0123456789 x9",
                "key sk-abcdef9876543210 x1",
                true,
            ),
            (
                "uuid 3f2b8c1d-0000-4000-8000-1234567890ab",
                "uuid 3f9b1c7d-1111-4222-8333-9876543210ab",
                true,
            ),
        ];
        for (one, other, is_same) in pairs {
            let same = shape(one.as_bytes(), false) == shape(other.as_bytes(), false);
            assert_eq!(same, is_same, "{one} and {other}");
            if same {
                assert_eq!(type_of(one), type_of(other));
            }
        }
        // In a field `\u4e2d` and `\u4e3d` are characters of their own.
        assert_ne!(shape(br"\u4e2d", true), shape(br"\u4e3d", true));
        assert_ne!(shape(b"1", true), shape(b"1", false));
    }
}
