//! `*.prom` files in a directory, shown as they are: how jobs of the host publish numbers
//! (node_exporter's textfile collector).
//!
//! A file is taken whole or not at all; exposed timestamps are refused, since they would outlive
//! their job.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;
use std::time::UNIX_EPOCH;

use crate::exposition::{Format, Item, Lines, labels};
use crate::model::{Batch, LabelsBuilder, MetricDesc, MetricKind, Sample};

use super::kernel::PartError;
use super::part::{Context, Lane, Part, gauge};

/// The directory of text files.
pub const PART: Part = Part {
    name: "textfile",
    default: true,
    lane: Lane::Device,
    metrics: &[MTIME, ERROR],
    read,
};

/// Files at most.
const MAX_FILES: usize = 100;
/// Size of one file at most, in bytes.
const MAX_BYTES: u64 = 1 << 20;
const MTIME: MetricDesc = gauge(
    "node_textfile_mtime_seconds",
    "seconds",
    "When the file was written, as Unix time.",
    &["file"],
    "stat(2)",
);
const ERROR: MetricDesc = gauge(
    "node_textfile_scrape_error",
    "",
    "1 when a file could not be read or is not in the text format.",
    &[],
    "textfile_directory",
);

fn read(context: &mut Context<'_>) -> Result<(), PartError> {
    let Some(directory) = &context.settings.textfile_directory else {
        // Rules ask for its absence of errors on every host.
        context.batch.push(&ERROR, &[], 0.0);
        return Ok(());
    };
    let mut problems = BTreeMap::new();
    let files = super::kernel::names(directory).unwrap_or_default();
    if !directory.is_dir() {
        problems.insert(
            directory.display().to_string(),
            "is not a folder that can be read".to_owned(),
        );
    }
    let (mut omitted, mut seen) = (0, HashSet::new());
    for (index, name) in files
        .iter()
        .filter(|name| name.ends_with(".prom"))
        .enumerate()
    {
        if index >= MAX_FILES {
            omitted += 1;
            continue;
        }
        let path = directory.join(name);
        let mut own = Batch::new();
        let written = match look(&path) {
            Ok(written) => written,
            Err(problem) => {
                problems.insert(name.clone(), problem);
                continue;
            }
        };
        let page = context
            .kernel
            .once(&path)
            .map_err(|error| error.to_string());
        if let Err(problem) = page.and_then(|page| take(page, &mut own)) {
            problems.insert(name.clone(), problem);
            continue;
        }
        // The same series in two files: the first one stays, and it is said.
        let mut twice = 0;
        for family in own.families.values_mut() {
            family.samples.retain(|sample| {
                let new = seen.insert(sample.labels.clone());
                twice += usize::from(!new);
                new
            });
        }
        if twice > 0 {
            problems.insert(
                name.clone(),
                format!("{twice} series are in another file, or in this one, already"),
            );
        }
        context.batch.append(own);
        let file = path.to_string_lossy();
        context.batch.push(&MTIME, &[("file", &file)], written);
    }
    context.memory.omitted = Some(omitted);
    context
        .batch
        .push(&ERROR, &[], f64::from(u8::from(!problems.is_empty())));
    for (file, error) in problems
        .iter()
        .filter(|(file, error)| context.memory.textfiles.get(*file) != Some(*error))
    {
        tracing::warn!(collector = "host", part = "textfile", file, %error, "Text file cannot be used.");
    }
    context.memory.textfiles = problems;
    Ok(())
}

/// When the file was written, as Unix time in seconds; errs with what is wrong with it.
fn look(path: &Path) -> Result<f64, String> {
    let meta = std::fs::metadata(path).map_err(|error| error.to_string())?;
    if !meta.is_file() {
        return Err("is not a file".into());
    }
    if meta.len() > MAX_BYTES {
        return Err(format!("is larger than {MAX_BYTES} bytes"));
    }
    let written = meta
        .modified()
        .ok()
        .and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    written
        .map(|time| time.as_secs_f64())
        .ok_or_else(|| "was written before 1970".into())
}

/// All samples of a page; errs with what is not in the text format.
fn take(page: &[u8], batch: &mut Batch) -> Result<(), String> {
    if page.starts_with(b"\xef\xbb\xbf") {
        return Err("begins with a byte order mark".into());
    }
    if page.contains(&b'\r') {
        return Err("has carriage returns: lines end with a line feed alone".into());
    }
    let mut family = (String::new(), MetricKind::Untyped);
    let mut helps: HashMap<String, String> = HashMap::new();
    let mut builder = LabelsBuilder::new();
    let mut items = Lines::new(page, Format::Text);
    while let Some(item) = items.next(b"").map_err(|error| error.to_string())? {
        match item {
            Item::Help(name, text) => drop(helps.insert(name.into_owned(), text.to_owned())),
            Item::Type(name, kind) => family = (name.into_owned(), kind),
            Item::Unit(..) => {}
            Item::Sample(line) => {
                if line.timestamp.is_some() {
                    return Err("has a timestamp, which would outlive its job".into());
                }
                builder.retain(|_, _| false);
                labels(line.series, family.1, &mut builder).map_err(|error| error.to_string())?;
                let set = builder.build();
                let name = set.metric_name();
                let part = name
                    .strip_prefix(family.0.as_str())
                    .is_some_and(|s| matches!(s, "" | "_bucket" | "_sum" | "_count"));
                let (name, kind) = if part {
                    (family.0.clone(), family.1)
                } else {
                    (name.to_owned(), MetricKind::Untyped)
                };
                let help = helps
                    .get(&name)
                    .map_or("From a text file of the host.", String::as_str);
                batch.push_sample(
                    &name,
                    kind,
                    help,
                    Sample {
                        labels: set,
                        value: line.value,
                        timestamp: None,
                    },
                );
            }
        }
    }
    Ok(())
}
