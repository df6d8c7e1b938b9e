//! What is read and counted: the keys of the configuration.

use std::path::PathBuf;
use std::sync::Arc;

use memchr::memmem;
use regex::bytes::Regex;

use crate::config::{ByteSize, Section};
use crate::model::text::is_legacy_label_name;

use super::envelope::Envelope;
use super::journal::{Journal, Style};
use super::json::{Paths, Raw};

/// Where Docker keeps its containers.
const DOCKER: &str = "/var/lib/docker/containers";
/// Bytes that are read in one collection unless the configuration says otherwise.
const MAX_BYTES: u64 = 64 << 20;
/// Error types that have a series of their own.
const MAX_TYPES: usize = 20;
const MOST_TYPES: usize = 200;
/// Named patterns and figures at most.
const MAX_NAMED: usize = 50;
/// Buckets of a histogram, in seconds.
const BUCKETS: [f64; 11] = [
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];

/// Everything that a target's section says.
#[derive(Debug)]
pub struct Settings {
    /// What is followed.
    pub files: Files,
    /// How a line is read.
    format: Format,
    /// Fields that may hold the level, by their numbers in `always`.
    pub level: Vec<usize>,
    /// Fields of every line.
    pub always: Paths,
    /// Fields of error lines: what the error is.
    pub on_error: Paths,
    time: Option<(Paths, jiff::tz::TimeZone)>,
    /// Named patterns.
    pub count: Vec<Pattern>,
    /// Figures from fields.
    pub observe: Vec<Observation>,
    /// What is slow.
    pub slow: Option<SlowLines>,
    /// Error types that have a series of their own.
    pub max_types: usize,
}

/// Which files are followed, and how much of them at once.
#[derive(Clone, Debug)]
pub struct Files {
    /// A file, a folder, or a pattern; with `docker` the folder of all containers.
    pub path: PathBuf,
    /// The name of a container, or of a Compose service or project.
    pub docker: Option<String>,
    /// systemd's journal in place of files.
    pub journal: Option<Journal>,
    /// What is around each line.
    pub envelope: Option<Envelope>,
    /// Whether a file that is there at the very first look is read from its end.
    pub from_end: bool,
    /// Bytes that are read in one collection.
    pub max_bytes: u64,
}

#[derive(Debug)]
enum Format {
    Plain,
    Json,
    Logfmt,
    Regex(Regex),
}

/// A pattern whose lines are counted.
#[derive(Debug)]
pub struct Pattern {
    /// The label.
    pub name: String,
    /// The text that is looked for.
    pub text: memmem::Finder<'static>,
    /// The expression in its stead.
    pub regex: Option<Regex>,
}

/// A figure from a field.
#[derive(Debug)]
pub struct Observation {
    /// The label.
    pub name: String,
    /// The field's number.
    pub field: usize,
    /// Fields and the values that they must have.
    pub only: Vec<(usize, String)>,
    /// What becomes of it.
    pub measure: Measure,
    /// What a value is multiplied with, to be seconds for instance.
    pub factor: f64,
}

/// What becomes of a field's values.
#[derive(Debug)]
pub enum Measure {
    /// A histogram with these upper bounds, in seconds.
    Histogram(Arc<[f64]>),
    /// The last value.
    Gauge,
    /// Their sum.
    Counter,
}

/// Which lines are slow.
#[derive(Debug)]
pub struct SlowLines {
    /// The field's number.
    pub field: usize,
    /// What a value is multiplied with.
    pub factor: f64,
    /// Above what.
    pub above: f64,
    /// How many are kept.
    pub keep: usize,
    /// Which fields of them.
    pub show: Paths,
}

impl std::fmt::Display for Files {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (&self.docker, &self.journal) {
            (Some(name), _) => write!(f, "docker {name}"),
            (None, Some(journal)) => write!(f, "{journal}"),
            (None, None) => write!(f, "{}", self.path.display()),
        }
    }
}

impl Files {
    /// Reads `path`, `docker` or `journal`, `envelope`, `start` and `max_bytes`.
    pub fn read(section: &Section<'_>) -> Self {
        let start = section.or("start", "end".to_owned());
        if !matches!(start.as_str(), "end" | "beginning") {
            section.error(
                "start",
                format!("{start:?} is not known"),
                "give end or beginning",
            );
        }
        let max_bytes = section.or("max_bytes", ByteSize(MAX_BYTES)).0;
        if max_bytes < 1 << 20 {
            section.error(
                "max_bytes",
                "is too little for one line",
                "give 1MB or more",
            );
        }
        let docker: Option<String> = section.get("docker");
        let envelope = match section.get::<String>("envelope").as_deref() {
            None if docker.is_some() => Some(Envelope::Docker),
            None | Some("none") => None,
            Some("docker") => Some(Envelope::Docker),
            Some("cri") => Some(Envelope::Cri),
            Some(other) => {
                section.error(
                    "envelope",
                    format!("{other:?} is not known"),
                    "give docker, cri or none: what the runtime puts around a line",
                );
                None
            }
        };
        let journal = Journal::read(section);
        if journal.is_some() && (docker.is_some() || section.node("path").is_some()) {
            section.error(
                "journal",
                "stands beside \"path\" or \"docker\"",
                "keep one of them",
            );
        }
        let path = match &docker {
            None if journal.is_some() => PathBuf::new(),
            Some(_) if section.node("path").is_some() => {
                section.error(
                    "path",
                    "stands beside \"docker\"",
                    "keep one of the two; docker_root is the folder of all containers",
                );
                PathBuf::new()
            }
            Some(_) => section.or("docker_root", PathBuf::from(DOCKER)),
            None => section.require("path"),
        };
        Files {
            path,
            docker,
            journal,
            envelope,
            from_end: start == "end",
            max_bytes,
        }
    }
}

impl Settings {
    /// Reads all keys; mistakes are recorded in the section.
    pub fn read(section: &Section<'_>) -> Self {
        let format = read_format(section);
        let mut always = Paths::default();
        let own_level = section.get::<String>("level");
        let defaults: &[&str] = if matches!(format, Format::Plain) {
            &[]
        } else {
            &["level", "severity", "levelname"]
        };
        let levels = own_level
            .as_deref()
            .map_or(defaults.to_vec(), |one| vec![one]);
        let level = levels
            .into_iter()
            .filter_map(|path| field(section, "level", &format, &mut always, path))
            .collect();
        let mut on_error = Paths::default();
        let own_type = section.get::<String>("type");
        let defaults: &[&str] = if matches!(format, Format::Plain) {
            &[]
        } else {
            &["message", "msg", "error"]
        };
        for path in own_type
            .as_deref()
            .map_or(defaults.to_vec(), |one| vec![one])
        {
            field(section, "type", &format, &mut on_error, path);
        }
        let time = section
            .section("time")
            .and_then(|time| read_time(&time, &format));
        let count = read_patterns(section);
        let observe = read_observations(section, &format, &mut always);
        let slow = section
            .section("slow")
            .map(|slow| read_slow(&slow, &format, &mut always));
        let max_types = section.or("max_types", MAX_TYPES);
        if max_types > MOST_TYPES {
            section.error(
                "max_types",
                "is too many: each is a series",
                format!("give {MOST_TYPES} at most"),
            );
        }
        let mut files = Files::read(section);
        if let (Some(journal), Format::Plain) = (&mut files.journal, &format) {
            journal.style = Style::Levelled;
        }
        Settings {
            files,
            format,
            level,
            always,
            on_error,
            time,
            count,
            observe,
            slow,
            max_types,
        }
    }

    /// Whether lines have no fields but columns.
    pub fn is_plain(&self) -> bool {
        matches!(self.format, Format::Plain)
    }

    /// Puts the fields of a line into `found`; false when the line is not in the format.
    pub fn find<'l>(&self, fields: &Paths, line: &'l [u8], found: &mut [Raw<'l>]) -> bool {
        found.fill(None);
        match &self.format {
            Format::Json => {
                if !line.trim_ascii_start().starts_with(b"{") {
                    return false;
                }
                fields.find(line, found);
            }
            Format::Plain => {
                if fields.len() > 0 {
                    for (raw, name) in found.iter_mut().zip(fields.names()) {
                        let column = name.parse::<usize>().unwrap_or(1);
                        *raw = line
                            .split(u8::is_ascii_whitespace)
                            .filter(|word| !word.is_empty())
                            .nth(column - 1);
                    }
                }
            }
            Format::Logfmt => logfmt(line, fields, found),
            Format::Regex(regex) => {
                let Some(groups) = regex.captures(line) else {
                    return false;
                };
                for (raw, name) in found.iter_mut().zip(fields.names()) {
                    *raw = groups.name(name).map(|group| group.as_bytes());
                }
            }
        }
        true
    }

    /// Whether lines say when they were written.
    pub fn has_time(&self) -> bool {
        self.time.is_some()
    }

    /// When a line says that it was written, Unix seconds.
    pub fn time_of(&self, line: &[u8]) -> Option<f64> {
        let (fields, zone) = self.time.as_ref()?;
        let mut found = [None];
        self.find(fields, line, &mut found);
        parse_time(std::str::from_utf8(found[0]?).ok()?, zone)
    }
}

fn read_format(section: &Section<'_>) -> Format {
    match section.or("format", "plain".to_owned()).as_str() {
        "plain" => Format::Plain,
        "json" => Format::Json,
        "logfmt" => Format::Logfmt,
        other => {
            let Some(text) = other.strip_prefix("regex:") else {
                section.error(
                    "format",
                    format!("{other:?} is not known"),
                    "give plain, json, logfmt, or \"regex: (?P<level>[A-Z]+) …\"",
                );
                return Format::Plain;
            };
            regex(section, "format", text.trim()).map_or(Format::Plain, Format::Regex)
        }
    }
}

fn regex(section: &Section<'_>, key: &str, text: &str) -> Option<Regex> {
    let built = regex::bytes::RegexBuilder::new(text)
        .size_limit(4 << 20)
        .dfa_size_limit(4 << 20)
        .build();
    built
        .map_err(|error| {
            section.error(
                key,
                format!("is no regular expression: {error}"),
                "use RE2 syntax: (?P<name>…) names a group",
            )
        })
        .ok()
}

/// The number of a field, which must exist in the format.
fn field(
    section: &Section<'_>,
    key: &str,
    format: &Format,
    fields: &mut Paths,
    path: &str,
) -> Option<usize> {
    match format {
        Format::Plain
            if !path
                .parse::<usize>()
                .is_ok_and(|column| (1..=100).contains(&column)) =>
        {
            section.error(
                key,
                format!("{path:?} is no column"),
                "in plain lines give the number of a column, 5 for the fifth word; or set format",
            );
            return None;
        }
        Format::Regex(regex) if !regex.capture_names().flatten().any(|name| name == path) => {
            // The usual names are looked for where there are such.
            if section.node(key).is_some() {
                section.error(
                    key,
                    format!("the expression has no group {path:?}"),
                    format!("name one: (?P<{path}>…)"),
                );
            }
            return None;
        }
        _ => {}
    }
    let number = fields.add(path);
    if number.is_none() {
        section.error(
            key,
            "are too many fields",
            format!("use {} at most", Paths::MAX),
        );
    }
    number
}

fn read_time(section: &Section<'_>, format: &Format) -> Option<(Paths, jiff::tz::TimeZone)> {
    let name = section.or("zone", "UTC".to_owned());
    let zone = jiff::tz::TimeZone::get(&name);
    if zone.is_err() {
        section.error(
            "zone",
            format!("{name:?} is no time zone"),
            "give a name such as Asia/Shanghai or UTC",
        );
    }
    let mut fields = Paths::default();
    field(
        section,
        "field",
        format,
        &mut fields,
        &section.require::<String>("field"),
    );
    section.finish();
    Some((fields, zone.ok()?)).filter(|(fields, _)| fields.len() == 1)
}

fn check_name(section: &Section<'_>, name: &str, count: usize) {
    if !is_legacy_label_name(name) {
        section.error(name, "is no name", "use letters, digits and _");
    }
    if count == MAX_NAMED {
        section.error(
            name,
            format!("is one too many: there may be {MAX_NAMED}"),
            "give it to another target of the same file",
        );
    }
}

fn read_patterns(section: &Section<'_>) -> Vec<Pattern> {
    let Some(block) = section.section("count") else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for name in block.keys() {
        check_name(&block, name, found.len());
        let Some(one) = block.section(name) else {
            continue;
        };
        let (text, expression) = (one.get::<String>("contains"), one.get::<String>("regex"));
        let regex = expression
            .as_deref()
            .and_then(|text| regex(&one, "regex", text));
        if text.is_some() == expression.is_some() || text.as_deref() == Some("") {
            block.error(
                name,
                "does not say what is looked for",
                "give contains: \"some text\", or regex: EXPRESSION",
            );
        }
        let text = memmem::Finder::new(&text.unwrap_or_default()).into_owned();
        one.finish();
        found.push(Pattern {
            name: name.to_owned(),
            text,
            regex,
        });
    }
    found
}

fn read_observations(
    section: &Section<'_>,
    format: &Format,
    fields: &mut Paths,
) -> Vec<Observation> {
    let Some(block) = section.section("observe") else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for name in block.keys() {
        check_name(&block, name, found.len());
        let Some(one) = block.section(name) else {
            continue;
        };
        let number = field(
            &one,
            "field",
            format,
            fields,
            &one.require::<String>("field"),
        );
        let conditions: std::collections::BTreeMap<String, String> =
            one.or("where", std::collections::BTreeMap::new());
        let only = conditions
            .into_iter()
            .filter_map(|(path, value)| Some((field(&one, "where", format, fields, &path)?, value)))
            .collect();
        let buckets: Vec<f64> = one.or("buckets", BUCKETS.to_vec());
        if buckets.is_empty()
            || buckets.len() > 50
            || !buckets.is_sorted_by(|a, b| a < b)
            || buckets.iter().any(|b| !b.is_finite())
        {
            one.error(
                "buckets",
                "are not 1 to 50 numbers, each greater than the one before",
                "give upper bounds in seconds: [0.1, 0.5, 1, 5]",
            );
        }
        let measure = match one.or("metric", "histogram".to_owned()).as_str() {
            "histogram" => Measure::Histogram(buckets.into()),
            "gauge" => Measure::Gauge,
            "counter" => Measure::Counter,
            other => {
                one.error(
                    "metric",
                    format!("{other:?} is not known"),
                    "give histogram, gauge or counter",
                );
                Measure::Gauge
            }
        };
        let factor = read_unit(&one);
        one.finish();
        if let Some(field) = number {
            found.push(Observation {
                name: name.to_owned(),
                field,
                only,
                measure,
                factor,
            });
        }
    }
    found
}

fn read_unit(section: &Section<'_>) -> f64 {
    match section.get::<String>("unit").as_deref() {
        None | Some("s" | "") => 1.0,
        Some("ms") => 1e-3,
        Some("us") => 1e-6,
        Some("ns") => 1e-9,
        Some(other) => {
            section.error(
                "unit",
                format!("{other:?} is not known"),
                "give s, ms, us or ns: what the log has; the metric has seconds",
            );
            1.0
        }
    }
}

fn read_slow(section: &Section<'_>, format: &Format, fields: &mut Paths) -> SlowLines {
    let number = field(
        section,
        "field",
        format,
        fields,
        &section.require::<String>("field"),
    );
    let mut show = Paths::default();
    for path in section.or("show", Vec::<String>::new()) {
        field(section, "show", format, &mut show, &path);
    }
    let keep: usize = section.or("keep", 10);
    if keep > 100 {
        section.error("keep", "is too many", "keep 100 at most");
    }
    let slow = SlowLines {
        field: number.unwrap_or_default(),
        factor: read_unit(section),
        above: section.require("above"),
        keep,
        show,
    };
    section.finish();
    slow
}

/// `key=value key="a value"`.
fn logfmt<'l>(line: &'l [u8], fields: &Paths, found: &mut [Raw<'l>]) {
    let mut at = 0;
    while at < line.len() {
        let Some(equals) = memchr::memchr(b'=', &line[at..]).map(|n| at + n) else {
            return;
        };
        let start = line[at..equals]
            .iter()
            .rposition(|b| b.is_ascii_whitespace())
            .map_or(at, |n| at + n + 1);
        let (key, from) = (&line[start..equals], equals + 1);
        let (value, end) = if line.get(from) == Some(&b'"') {
            let mut end = from + 1;
            while end < line.len() && line[end] != b'"' {
                end += 1 + usize::from(line[end] == b'\\');
            }
            let end = end.min(line.len());
            (&line[from + 1..end], end + 1)
        } else {
            let end = line[from..]
                .iter()
                .position(u8::is_ascii_whitespace)
                .map_or(line.len(), |n| from + n);
            (&line[from..end], end)
        };
        if let Some(index) = fields.names().position(|name| name.as_bytes() == key) {
            found[index] = Some(value);
        }
        at = end;
    }
}

/// A time as logs write it: RFC 3339, the same without a zone, or Unix seconds, milliseconds or
/// nanoseconds.
pub fn parse_time(text: &str, zone: &jiff::tz::TimeZone) -> Option<f64> {
    if let Ok(number) = text.parse::<f64>() {
        let scale = if number > 1e17 {
            1e9
        } else if number > 1e11 {
            1e3
        } else {
            1.0
        };
        return Some(number / scale);
    }
    if let Ok(at) = text.parse::<jiff::Timestamp>() {
        return Some(at.as_nanosecond() as f64 / 1e9);
    }
    let civil: jiff::civil::DateTime = text.replace(',', ".").replace('/', "-").parse().ok()?;
    Some(zone.to_timestamp(civil).ok()?.as_nanosecond() as f64 / 1e9)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_without_a_zone_are_read_in_the_one_that_is_set() {
        let zone = jiff::tz::TimeZone::get("Asia/Shanghai").expect("a zone");
        let want = Some(1_796_040_000.5);
        for text in [
            "2026-11-30T20:00:00.5",
            "2026-11-30 20:00:00,500",
            "2026-11-30T12:00:00.5Z",
            "1796040000.5",
            "1796040000500",
        ] {
            assert_eq!(parse_time(text, &zone), want, "{text}");
        }
        assert_eq!(parse_time("yesterday", &zone), None);
    }

    #[test]
    fn logfmt_has_quoted_values() {
        let mut fields = Paths::default();
        for name in ["level", "msg", "n"] {
            fields.add(name);
        }
        let mut found = [None; 3];
        logfmt(
            br#"time=x level=error msg="it \"broke\"" n=3"#,
            &fields,
            &mut found,
        );
        assert_eq!(
            found,
            [Some(&b"error"[..]), Some(br#"it \"broke\""#), Some(b"3")]
        );
        logfmt(br#"a = b msg="open"#, &fields, &mut found);
    }
}
