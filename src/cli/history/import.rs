//! Feeding samples in: from a file, from the files of a Prometheus, from a VictoriaMetrics.
//!
//! Nothing of it is taken before all of it has been read.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader};
use std::path::Path;

use serde_json::Value;

use super::progress::Progress;
use super::{FormatArg, ImportArgs, write};
use crate::app;
use crate::cli::live::server;
use crate::exposition::{Format, Item, Lines, labels};
use crate::model::{Labels, LabelsBuilder, MetricKind, Timestamp, stale_nan};
use crate::remote::{prometheus, victoria};
use crate::store::Import;

/// Longest line that is read.
const LONGEST: u64 = 256 << 20;
/// Milliseconds for which a VictoriaMetrics is asked at once.
const DAY: i64 = 86_400_000;

pub(super) fn import(args: &ImportArgs) -> Result<(), String> {
    let options = args.place.options();
    let config = app::load_alone(&options).map_err(|e| e.to_string())?;
    let settings = app::history_settings(&options, &config).map_err(|e| format!("{e:#}"))?;
    let open = || {
        Import::open(&settings, Timestamp::now())
            .map_err(|e| format!("{e}; an import needs a nightbell that does not run"))
    };
    let mut progress = Progress::new();
    let mut left = Vec::new();
    let import = match (args.source.to_str(), &args.from) {
        (Some("prometheus"), Some(folder)) => {
            let mut import = open()?;
            left = from_prometheus(Path::new(folder), &mut import, &mut progress)
                .map_err(|error| format!("{error}; nothing of it was taken"))?;
            import
        }
        (Some("victoria"), Some(url)) => {
            let mut import = open()?;
            from_victoria(url, &mut import, &mut progress)
                .map_err(|error| format!("{error}; nothing of it was taken"))?;
            import
        }
        (_, Some(_)) => {
            return Err(format!(
                "`{}` is no source: FILE, prometheus DIR, or victoria URL",
                args.source.display()
            ));
        }
        (_, None) => from_file(args, open, &mut progress)?,
    };
    let imported = import
        .finish(|done, all| progress.show("days merged", done as u64, Some(all as u64)))
        .map_err(|e| format!("{e}; the history is as it was: run it again when that is mended"))?;
    progress.end();
    let mut text = format!(
        "{} samples imported, {} blocks written\n",
        imported.taken, imported.blocks
    );
    let outside = [
        (imported.too_old, "older than storage.retention"),
        (
            imported.too_new,
            "of the time from the newest block on, or of the future",
        ),
        (
            imported.overlapping,
            "of days in which the clock was set back",
        ),
    ];
    for (count, why) in outside.into_iter().filter(|(count, _)| *count > 0) {
        text.push_str(&format!("{count} samples left out: {why}\n"));
    }
    left.iter().for_each(|line| text.push_str(line));
    write(text.as_bytes())
}

/// Returns what was left out, as lines.
fn from_prometheus(
    folder: &Path,
    import: &mut Import,
    progress: &mut Progress,
) -> Result<Vec<String>, String> {
    let mut take = |labels: &Labels, at: Timestamp, value: f64| {
        import.add(labels, at, value).map_err(|e| e.to_string())
    };
    let what = format!(
        "bytes of the indexes and the log in {} read",
        folder.display()
    );
    let mut show = |done, all| progress.show(&what, done, Some(all));
    let found = prometheus::read(folder, &mut take, &mut show).map_err(|e| e.to_string())?;
    let mut lines = Vec::new();
    if found.histograms > 0 {
        let count = found.histograms;
        lines.push(format!(
            "{count} native histograms left out: an import has none\n"
        ));
    }
    if found.deleted > 0 {
        lines.push(format!(
            "{} samples left out: deleted there\n",
            found.deleted
        ));
    }
    Ok(lines)
}

/// A day at a time, as far as the history goes.
fn from_victoria(url: &str, import: &mut Import, progress: &mut Progress) -> Result<(), String> {
    let source = victoria::Source::parse(url).map_err(|e| e.to_string())?;
    let client = server::client();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("the runtime cannot be started: {error}"))?;
    let (oldest, limit) = import.span();
    let all = (limit.0 - oldest.0) / DAY + 1;
    for day in 0..all {
        let from = Timestamp(oldest.0 + day * DAY);
        let to = Timestamp((from.0 + DAY).min(limit.0) - 1);
        progress.show("days read", day as u64, Some(all as u64));
        // The only NaN that it keeps is the stale marker.
        let mut take = |line: &[u8]| json_line(line, stale_nan(), import);
        let lines = source.lines(&client, (from, to), &mut take);
        runtime.block_on(lines).map_err(|e| e.to_string())?;
    }
    Ok(())
}

fn from_file(
    args: &ImportArgs,
    open: impl FnOnce() -> Result<Import, String>,
    progress: &mut Progress,
) -> Result<Import, String> {
    let name = args.source.display().to_string();
    let mut size = None;
    let mut input: Box<dyn io::BufRead> = if args.source == Path::new("-") {
        Box::new(io::stdin().lock())
    } else {
        let file = File::open(&args.source).map_err(|e| format!("{name}: {e}"))?;
        size = file.metadata().ok().map(|data| data.len());
        Box::new(BufReader::with_capacity(1 << 16, file))
    };
    let mut import = open()?;
    let (mut line, mut number, mut bytes, mut ended) = (Vec::new(), 0_u64, 0_u64, false);
    loop {
        line.clear();
        let read = io::Read::take(&mut input, LONGEST).read_until(b'\n', &mut line);
        if read.map_err(|e| format!("{name}: {e}"))? == 0 {
            break;
        }
        number += 1;
        bytes += line.len() as u64;
        let wrong = |what: String| format!("{name}:{number}: {what}; nothing of it was taken");
        match args.format {
            FormatArg::Openmetrics if line.trim_ascii_end() == b"# EOF" => {
                ended = true;
                break;
            }
            FormatArg::Openmetrics => openmetrics(&line, &mut import).map_err(wrong)?,
            FormatArg::Promtool => dumped(&line, &mut import).map_err(wrong)?,
            FormatArg::Json => json_line(&line, f64::NAN, &mut import).map_err(wrong)?,
        }
        progress.show_with(bytes, size, || format!("{name}: {number} lines read"));
    }
    if args.format == FormatArg::Openmetrics && !ended {
        return Err(format!(
            "{name}: it does not end with # EOF, so it may have been cut short; nothing of it was taken"
        ));
    }
    Ok(import)
}

fn openmetrics(line: &[u8], import: &mut Import) -> Result<(), String> {
    let mut lines = Lines::new(line, Format::OpenMetrics);
    let item = lines.next(b"").map_err(|e| e.to_string())?;
    let Some(Item::Sample(sample)) = item else {
        return Ok(());
    };
    let at = sample
        .timestamp
        .ok_or("the sample has no time, and a history needs one")?;
    let mut builder = LabelsBuilder::new();
    labels(sample.series, MetricKind::Untyped, &mut builder).map_err(str::to_owned)?;
    let added = import.add(&builder.build(), at, sample.value);
    added.map_err(|e| e.to_string())
}

/// A line such as `{__name__="a", i="1"} 3.5 1764000000000`.
fn dumped(line: &[u8], import: &mut Import) -> Result<(), String> {
    let text = std::str::from_utf8(line).map_err(|e| e.to_string())?.trim();
    if text.is_empty() {
        return Ok(());
    }
    let shape = "a line is {__name__=\"…\", …} VALUE MILLISECONDS";
    let mut words = text.rsplitn(3, ' ');
    let time = words.next().and_then(|word| word.parse().ok());
    let value = words.next().and_then(|word| word.parse().ok());
    let (Some(time), Some(value), Some(series)) = (time, value, words.next()) else {
        return Err(shape.to_owned());
    };
    // A page has the name alone, in quotes.
    let series = match series.strip_prefix("{__name__=") {
        Some(rest) => format!("{{{rest}"),
        None => series.replacen(", __name__=", ", ", 1),
    };
    let mut builder = LabelsBuilder::new();
    labels(series.as_bytes(), MetricKind::Untyped, &mut builder).map_err(str::to_owned)?;
    import
        .add(&builder.build(), Timestamp(time), value)
        .map_err(|e| e.to_string())
}

fn json_line(line: &[u8], null: f64, import: &mut Import) -> Result<(), String> {
    if line.trim_ascii().is_empty() {
        return Ok(());
    }
    let series: Value = serde_json::from_slice(line).map_err(|e| e.to_string())?;
    let shape = "a line is {\"metric\": {…}, \"values\": […], \"timestamps\": […]}";
    let metric = series["metric"].as_object().ok_or(shape)?;
    let pairs: Option<Vec<(&str, &str)>> = metric
        .iter()
        .map(|(name, value)| Some((name.as_str(), value.as_str()?)))
        .collect();
    let labels = Labels::from_pairs(pairs.ok_or("a label's value is not a text")?);
    let list = |name: &str| series[name].as_array().ok_or(shape);
    let (values, times) = (list("values")?, list("timestamps")?);
    if values.len() != times.len() {
        return Err("there are not as many timestamps as values".to_owned());
    }
    for (value, time) in values.iter().zip(times) {
        // JSON has no numbers for these.
        let value = match value {
            Value::Null => Some(null),
            Value::String(text) => text.parse().ok(),
            number => number.as_f64(),
        };
        let (value, time) = value.zip(time.as_i64()).ok_or(shape)?;
        import
            .add(&labels, Timestamp(time), value)
            .map_err(|e| e.to_string())?;
    }
    Ok(())
}
