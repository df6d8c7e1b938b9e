//! `nightbell history`: what the history holds, out and in.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Value, json};

use super::terminal::complain;
use crate::app;
use crate::exposition::{Format, Item, Lines, labels};
use crate::model::{
    Labels, LabelsBuilder, METRIC_NAME, Matcher, MetricKind, Timestamp, is_histogram, is_stale,
};
use crate::store::{Import, Store, Window};

/// How often a long import or export says how far it is.
const PROGRESS: Duration = Duration::from_secs(2);
/// Longest line that is read.
const LONGEST: u64 = 256 << 20;

/// What to do with the history.
#[derive(Args)]
#[command(after_help = "Examples: nightbell history import old.om\n          \
                        promtool tsdb dump-openmetrics /var/lib/prometheus | nightbell history import -\n          \
                        curl -s http://victoria:8428/api/v1/export -d 'match[]={__name__!=\"\"}' | nightbell history import --format json -\n          \
                        nightbell history export --format json > history.jsonl")]
pub struct HistoryArgs {
    #[command(subcommand)]
    command: HistoryCommand,
}

#[derive(Subcommand)]
enum HistoryCommand {
    /// Feed samples into the history of a nightbell that does not run
    Import(ImportArgs),
    /// Write the history to standard output; nightbell may run
    Export(ExportArgs),
}

/// Where the history is.
#[derive(Args)]
struct Place {
    /// Configuration file, for the folder of the history and its retention
    #[arg(long, short, value_name = "FILE", env = "NIGHTBELL_CONFIG")]
    config: Option<PathBuf>,
    /// Folder for the state database and the history, as for nightbell itself
    #[arg(long, value_name = "DIR", env = "NIGHTBELL_STATE_DIR")]
    state_dir: Option<PathBuf>,
}

#[derive(Args)]
struct ImportArgs {
    /// The file, with a time at each sample; - is standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// How the samples are written
    #[arg(long, value_enum, default_value_t)]
    format: FormatArg,
    #[command(flatten)]
    place: Place,
}

#[derive(Args)]
struct ExportArgs {
    /// How samples are written
    #[arg(long, value_enum, default_value_t)]
    format: ExportFormat,
    #[command(flatten)]
    place: Place,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum ExportFormat {
    /// OpenMetrics text, as promtool reads it
    #[default]
    Openmetrics,
    /// A JSON object for each series and line, as VictoriaMetrics imports them
    Json,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum FormatArg {
    /// OpenMetrics text, as promtool writes and reads it
    #[default]
    Openmetrics,
    /// What `promtool tsdb dump` writes
    Promtool,
    /// A JSON object for each series and line, as VictoriaMetrics exports and imports them
    Json,
}

impl Place {
    fn options(&self) -> app::Options {
        app::Options {
            config: self.config.clone(),
            state_dir: self.state_dir.clone(),
            ..app::Options::default()
        }
    }
}

/// Runs the command; the error is for standard error.
pub fn history(args: &HistoryArgs) -> Result<(), String> {
    match &args.command {
        HistoryCommand::Import(args) => import(args),
        HistoryCommand::Export(args) => export(args),
    }
}

fn import(args: &ImportArgs) -> Result<(), String> {
    let options = args.place.options();
    let config = app::load_alone(&options).map_err(|e| e.to_string())?;
    let settings = app::history_settings(&options, &config).map_err(|e| format!("{e:#}"))?;
    let name = args.file.display().to_string();
    let opened = || File::open(&args.file).map_err(|e| format!("{name}: {e}"));
    let mut input: Box<dyn io::BufRead> = if args.file == Path::new("-") {
        Box::new(io::stdin().lock())
    } else {
        Box::new(BufReader::with_capacity(1 << 16, opened()?))
    };
    let mut import = Import::open(&settings, Timestamp::now())
        .map_err(|e| format!("{e}; an import needs a nightbell that does not run"))?;
    let (mut line, mut number, mut ended) = (Vec::new(), 0_u64, false);
    let mut said = Instant::now();
    loop {
        line.clear();
        let read = io::Read::take(&mut input, LONGEST).read_until(b'\n', &mut line);
        if read.map_err(|e| format!("{name}: {e}"))? == 0 {
            break;
        }
        number += 1;
        let wrong = |what: String| format!("{name}:{number}: {what}; nothing of it was taken");
        match args.format {
            FormatArg::Openmetrics if line.trim_ascii_end() == b"# EOF" => {
                ended = true;
                break;
            }
            FormatArg::Openmetrics => openmetrics(&line, &mut import).map_err(wrong)?,
            FormatArg::Promtool => dumped(&line, &mut import).map_err(wrong)?,
            FormatArg::Json => json_line(&line, &mut import).map_err(wrong)?,
        }
        if said.elapsed() >= PROGRESS {
            said = Instant::now();
            complain!("{name}: {number} lines read");
        }
    }
    if args.format == FormatArg::Openmetrics && !ended {
        return Err(format!(
            "{name}: it does not end with # EOF, so it may have been cut short; nothing of it was taken"
        ));
    }
    let imported = import
        .finish(|done, all| {
            if said.elapsed() >= PROGRESS {
                said = Instant::now();
                complain!("{done} of {all} days merged");
            }
        })
        .map_err(|e| format!("{e}; run it again when that is mended: nothing is doubled"))?;
    let mut text = format!(
        "{} samples imported, {} blocks written\n",
        imported.taken, imported.blocks
    );
    for (count, why) in [
        (imported.too_old, "older than storage.retention"),
        (
            imported.too_new,
            "of the time from the newest block on, or of the future",
        ),
        (
            imported.overlapping,
            "of days in which the clock was set back",
        ),
    ] {
        if count > 0 {
            text.push_str(&format!("{count} samples left out: {why}\n"));
        }
    }
    write(text.as_bytes())
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

fn json_line(line: &[u8], import: &mut Import) -> Result<(), String> {
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
            Value::Null => Some(f64::NAN),
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

fn export(args: &ExportArgs) -> Result<(), String> {
    let options = args.place.options();
    let config = app::load_alone(&options).map_err(|e| e.to_string())?;
    let history = app::read_history(&options, &config).map_err(|e| format!("{e:#}"))?;
    let store: &Store = &history.store;
    let (from, to) = (Timestamp(i64::MIN / 2), Timestamp(i64::MAX / 2));
    let names = store.label_values(METRIC_NAME, &[], from, to);
    let mut output = io::BufWriter::with_capacity(1 << 16, io::stdout().lock());
    let (mut said, mut left, mut failed) = (Instant::now(), 0_u64, Ok(()));
    for (number, name) in names.iter().enumerate() {
        if args.format == ExportFormat::Openmetrics {
            writeln!(output, "# TYPE {name} unknown").map_err(|e| e.to_string())?;
        }
        let matcher = [Matcher::equal(METRIC_NAME, name)];
        let read = store.select(&matcher, from, to, |labels, window| {
            left += window.histograms.len() as u64;
            failed = match args.format {
                ExportFormat::Openmetrics => put_openmetrics(&mut output, labels, window),
                ExportFormat::Json => put_json(&mut output, labels, window),
            };
            match failed {
                Ok(()) => ControlFlow::Continue(()),
                Err(_) => ControlFlow::Break(()),
            }
        });
        read.map_err(|e| format!("the history cannot be read: {e}"))?;
        if let Err(error) = &failed {
            return Err(error.to_string());
        }
        if said.elapsed() >= PROGRESS {
            said = Instant::now();
            complain!("{number} of {} metrics written", names.len());
        }
    }
    if args.format == ExportFormat::Openmetrics {
        writeln!(output, "# EOF").map_err(|e| e.to_string())?;
    }
    output.flush().map_err(|e| e.to_string())?;
    if left > 0 {
        complain!("{left} native histograms left out: the format has none");
    }
    Ok(())
}

/// What can be written of a window: floats that were measured.
fn floats(window: Window<'_>) -> impl Iterator<Item = (i64, f64)> + Clone {
    let samples = window.times.iter().zip(window.values);
    samples
        .map(|(at, value)| (*at, *value))
        .filter(|(_, value)| !is_stale(*value) && !is_histogram(*value))
}

fn put_openmetrics(
    output: &mut impl io::Write,
    labels: &Labels,
    window: Window<'_>,
) -> io::Result<()> {
    for (at, value) in floats(window) {
        let (sign, at) = (if at < 0 { "-" } else { "" }, at.unsigned_abs());
        let value = match value {
            value if value.is_nan() => "NaN".to_owned(),
            f64::INFINITY => "+Inf".to_owned(),
            f64::NEG_INFINITY => "-Inf".to_owned(),
            value => value.to_string(),
        };
        let (seconds, rest) = (at / 1000, at % 1000);
        let series = series_text(labels);
        writeln!(output, "{series} {value} {sign}{seconds}.{rest:03}")?;
    }
    Ok(())
}

/// Name and labels as a page has them, without the blanks that people get.
fn series_text(labels: &Labels) -> String {
    let rest: Vec<String> = labels
        .iter()
        .filter(|(name, _)| *name != METRIC_NAME)
        .map(|(name, value)| {
            let value = value
                .replace('\\', "\\\\")
                .replace('"', "\\\"")
                .replace('\n', "\\n");
            format!("{name}=\"{value}\"")
        })
        .collect();
    format!("{}{{{}}}", labels.metric_name(), rest.join(","))
}

fn put_json(output: &mut impl io::Write, labels: &Labels, window: Window<'_>) -> io::Result<()> {
    let samples = floats(window);
    if samples.clone().next().is_none() {
        return Ok(());
    }
    let metric: serde_json::Map<String, Value> = labels
        .iter()
        .map(|(name, value)| (name.to_owned(), json!(value)))
        .collect();
    let number = |value: f64| match value {
        f64::INFINITY => json!("Infinity"),
        f64::NEG_INFINITY => json!("-Infinity"),
        // JSON has none; what is not a number becomes null.
        value => json!(value),
    };
    let values: Vec<Value> = samples.clone().map(|(_, value)| number(value)).collect();
    let times: Vec<i64> = samples.map(|(at, _)| at).collect();
    let line = json!({ "metric": metric, "values": values, "timestamps": times });
    writeln!(output, "{line}")
}

fn write(text: &[u8]) -> Result<(), String> {
    io::stdout().write_all(text).map_err(|e| e.to_string())
}
