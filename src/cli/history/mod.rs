//! `nightbell history`: what the history holds, out and in.

mod import;
mod progress;

use std::io::{self, Write as _};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Value, json};

use super::terminal::complain;
use crate::app;
use crate::model::{Labels, METRIC_NAME, Matcher, Timestamp, is_histogram, is_stale};
use crate::store::{Store, Window};

/// How often a long import or export says how far it is.
const PROGRESS: Duration = Duration::from_secs(2);

/// What to do with the history.
#[derive(Args)]
#[command(after_help = "Examples: nightbell history import old.om\n          \
                        promtool tsdb dump-openmetrics /var/lib/prometheus | nightbell history import -\n          \
                        nightbell history import prometheus /var/lib/prometheus\n          \
                        nightbell history import victoria http://127.0.0.1:8428\n          \
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
    /// A file with a time at each sample, - for standard input, `prometheus` or `victoria`
    #[arg(value_name = "SOURCE")]
    source: PathBuf,
    /// Of `prometheus` its data folder, or one block of it; of `victoria` its URL
    #[arg(value_name = "FROM")]
    from: Option<String>,
    /// How the samples in a file are written
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
        HistoryCommand::Import(args) => import::import(args),
        HistoryCommand::Export(args) => export(args),
    }
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
