//! `*.prom` files in a directory, shown as they are: how jobs of the host publish numbers (node_exporter's textfile collector).
//!
//! A file is taken whole or not at all; exposed timestamps are refused, since they would outlive their job.

use std::time::UNIX_EPOCH;

use crate::exposition::{Format, Item, Lines, labels};
use crate::model::{Batch, LabelsBuilder, MetricDesc, MetricKind, Sample};

use super::kernel::PartError;
use super::part::{Context, Lane, Part, gauge};

/// The directory of text files.
pub const PART: Part = Part { name: "textfile", default: true, lane: Lane::Device, metrics: &[MTIME, ERROR], read };

/// Files at most.
const MAX_FILES: usize = 100;
/// Size of one file at most, in bytes.
const MAX_BYTES: u64 = 1 << 20;
const MTIME: MetricDesc = gauge("node_textfile_mtime_seconds", "seconds", "When the file was written, as Unix time.", &["file"], "stat(2)");
const ERROR: MetricDesc =
    gauge("node_textfile_scrape_error", "", "1 when a file could not be read or is not in the text format.", &[], "textfile_directory");

fn read(context: &mut Context<'_>) -> Result<(), PartError> {
    let Some(directory) = &context.settings.textfile_directory else {
        // Rules ask for its absence of errors on every host.
        context.batch.push(&ERROR, &[], 0.0);
        return Ok(());
    };
    let files = super::kernel::names(directory).unwrap_or_default();
    let mut failed = !directory.is_dir();
    let mut omitted = 0;
    for (index, name) in files.iter().filter(|name| name.ends_with(".prom")).enumerate() {
        if index >= MAX_FILES {
            omitted += 1;
            continue;
        }
        let path = directory.join(name);
        let small = std::fs::metadata(&path).ok().filter(|m| m.is_file() && m.len() <= MAX_BYTES);
        let mut own = Batch::new();
        let taken = small.as_ref().and_then(|_| context.kernel.once(&path).ok()).and_then(|page| take(page, &mut own));
        let written = small.and_then(|m| m.modified().ok()).and_then(|t| t.duration_since(UNIX_EPOCH).ok());
        match (taken, written) {
            (Some(()), Some(written)) => {
                context.batch.append(own);
                let file = path.to_string_lossy();
                context.batch.push(&MTIME, &[("file", &file)], written.as_secs_f64());
            }
            _ => failed = true,
        }
    }
    context.memory.omitted = Some(omitted);
    context.batch.push(&ERROR, &[], f64::from(u8::from(failed)));
    Ok(())
}

/// All samples of a page; `None` when it is not in the text format.
fn take(page: &[u8], batch: &mut Batch) -> Option<()> {
    let mut family = (String::new(), MetricKind::Untyped);
    let mut builder = LabelsBuilder::new();
    let mut items = Lines::new(page, Format::Text);
    while let Some(item) = items.next(b"").ok()? {
        match item {
            Item::Help(..) => {}
            Item::Type(name, kind) => family = (name.into_owned(), kind),
            Item::Sample(line) => {
                if line.timestamp.is_some() {
                    return None;
                }
                builder.retain(|_, _| false);
                labels(line.series, family.1, &mut builder).ok()?;
                let set = builder.build();
                let name = set.metric_name();
                let part = name.strip_prefix(family.0.as_str()).is_some_and(|s| matches!(s, "" | "_bucket" | "_sum" | "_count"));
                let (name, kind) = if part { (family.0.clone(), family.1) } else { (name.to_owned(), MetricKind::Untyped) };
                batch.push_sample(&name, kind, "From a text file of the host.", Sample { labels: set, value: line.value, timestamp: None });
            }
        }
    }
    Some(())
}
