//! `nightbell backtest`: what rules would have said about the history that is stored.

use std::fmt::Write as _;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use serde_json::{Value as Json, json};

use super::terminal::complain;
use crate::app;
use crate::config::glob;
use crate::model::{Timestamp, format_duration, parse_duration};
use crate::promql::Engine;
use crate::rules::RuleGroup;
use crate::rules::backtest::{Episode, Options, Report, RuleReport, run};
use crate::rules::file::read;

/// Firings shown for each rule unless all are asked for.
const SHOWN: usize = 10;

/// What to look at.
#[derive(Args)]
pub struct BacktestArgs {
    /// Rule files, or patterns of files
    #[arg(required = true, value_name = "RULES")]
    rules: Vec<PathBuf>,
    /// How far back to begin
    #[arg(long, default_value = "7d", value_name = "DURATION")]
    since: String,
    /// When to end: RFC 3339 or Unix seconds [default: now]
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// Configuration file, for the interval of groups that name none, external labels and the
    /// folder of the history
    #[arg(long, short, value_name = "FILE", env = "NIGHTBELL_CONFIG")]
    config: Option<PathBuf>,
    /// Folder for the state database and the history, as for nightbell itself
    #[arg(long, value_name = "DIR", env = "NIGHTBELL_STATE_DIR")]
    state_dir: Option<PathBuf>,
    /// How the report is written
    #[arg(long, short = 'o', value_enum, default_value_t)]
    output: Output,
    /// Show every firing, not only the first ten of a rule
    #[arg(long)]
    all: bool,
    /// Threads that evaluate [default: as many as there are cores]
    #[arg(long, value_name = "NUMBER")]
    threads: Option<usize>,
}

/// How the report is written.
#[derive(Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum Output {
    /// For people
    #[default]
    Text,
    /// JSON
    Json,
}

/// Evaluates and prints; the error is for standard error.
pub fn backtest(args: &BacktestArgs) -> Result<(), String> {
    let began = Instant::now();
    let groups = read_rules(&args.rules)?;
    let to = match &args.until {
        None => Timestamp::now(),
        Some(text) => moment(text).ok_or_else(|| {
            format!("--until: cannot parse {text:?} to a time; give RFC 3339 or Unix seconds")
        })?,
    };
    let since = parse_duration(&args.since).map_err(|e| format!("--since: {e}"))?;
    let options = app::Options {
        config: args.config.clone(),
        state_dir: args.state_dir.clone(),
        ..app::Options::default()
    };
    let config = app::load_alone(&options).map_err(|e| e.to_string())?;
    let history = app::read_history(&options, &config).map_err(|e| format!("{e:#}"))?;
    if let Some(damaged) = history
        .store
        .history()
        .map(|status| status.damaged)
        .filter(|damaged| *damaged > 0)
    {
        complain!("nightbell: {damaged} parts of the history are damaged and left out");
    }
    let threads = args
        .threads
        .or_else(|| std::thread::available_parallelism().ok().map(Into::into))
        .unwrap_or(1);
    let engine = Engine {
        default_step: config.evaluation_interval(),
        ..Engine::default()
    };
    let options = Options {
        from: to - since,
        to,
        threads,
        settings: config.rule_settings(),
        engine,
    };
    let report = run(&history.store, &groups, &options)
        .map_err(|e| format!("the history cannot be read: {e}"))?;
    let text = match args.output {
        Output::Text => text(&report, &options, args.all, began.elapsed()),
        Output::Json => to_json(&report, &options).to_string() + "\n",
    };
    std::io::stdout()
        .write_all(text.as_bytes())
        .map_err(|e| e.to_string())
}

fn moment(text: &str) -> Option<Timestamp> {
    let unix = text
        .parse::<f64>()
        .ok()
        .filter(|seconds| seconds.abs() < 1e12)
        .map(Timestamp::from_seconds);
    unix.or_else(|| Timestamp::parse_rfc3339(text))
}

/// The groups of all files; the error lists every mistake.
fn read_rules(patterns: &[PathBuf]) -> Result<Vec<RuleGroup>, String> {
    let (mut groups, mut mistakes) = (Vec::new(), Vec::new());
    for pattern in patterns {
        let files = glob(pattern).map_err(|e| e.to_string())?;
        if files.is_empty() {
            mistakes.push(format!("{}: no such file", pattern.display()));
        }
        for file in files {
            match read(Path::new(&file)) {
                Ok(file) => groups.extend(file.groups),
                Err(errors) => mistakes.push(errors.to_string()),
            }
        }
    }
    if mistakes.is_empty() {
        Ok(groups)
    } else {
        Err(mistakes.join("\n"))
    }
}

fn text(report: &Report, options: &Options, all: bool, took: Duration) -> String {
    let mut out = String::new();
    let fired: usize = report.rules.iter().map(|rule| rule.episodes.len()).sum();
    let short: usize = report.rules.iter().map(RuleReport::short).sum();
    let _ = writeln!(
        out,
        "From {} to {}: {} alerting rules would have fired {fired} times, {short} of them shorter than two minutes.",
        options.from.rfc3339(),
        options.to.rfc3339(),
        report.rules.len(),
    );
    let _ = writeln!(
        out,
        "{} evaluations in {:.1} s.",
        report.evaluations,
        took.as_secs_f64()
    );
    for note in &report.notes {
        let _ = writeln!(out, "NOTE: {note}.");
    }
    for (rule, count, error) in &report.errors {
        let _ = writeln!(
            out,
            "FAILED: rule {rule:?}, {count} times, at last: {error}"
        );
    }
    let mut position = (String::new(), String::new());
    for rule in &report.rules {
        if (&rule.file, &rule.group) != (&position.0, &position.1) {
            position = (rule.file.clone(), rule.group.clone());
            let _ = writeln!(out, "\n{}: group {:?}", position.0, position.1);
        }
        rule_text(&mut out, rule, all);
    }
    out
}

fn rule_text(out: &mut String, rule: &RuleReport, all: bool) {
    let labels = if rule.labels.is_empty() {
        String::new()
    } else {
        rule.labels.braced()
    };
    let hold = if rule.hold.is_zero() {
        String::new()
    } else {
        format!(" for {}", format_duration(rule.hold))
    };
    let pending = if rule.only_pending == 0 {
        String::new()
    } else {
        format!("; {} times only pending", rule.only_pending)
    };
    if rule.episodes.is_empty() {
        let _ = writeln!(out, "  {}{labels}{hold}: never{pending}", rule.name);
        return;
    }
    let longest = rule
        .episodes
        .iter()
        .map(Episode::duration)
        .max()
        .unwrap_or_default();
    let (total, longest) = (format_duration(rule.total()), format_duration(longest));
    let _ = writeln!(
        out,
        "  {}{labels}{hold}: fired {} times, {total} in all, {longest} at the longest, {} shorter than 2m{pending}",
        rule.name,
        rule.episodes.len(),
        rule.short()
    );
    if !rule.longer.is_empty() {
        let each = |l: &crate::rules::backtest::Longer| {
            format!(
                "{} {} ({} short)",
                format_duration(l.hold),
                l.fired,
                l.short
            )
        };
        let _ = writeln!(
            out,
            "    a longer for would leave: {}",
            rule.longer.iter().map(each).collect::<Vec<_>>().join(", ")
        );
    }
    let shown = if all { rule.episodes.len() } else { SHOWN };
    for episode in rule.episodes.iter().take(shown) {
        let (from, lasted) = (episode.from.rfc3339(), format_duration(episode.duration()));
        let end = if episode.goes_on { ", and goes on" } else { "" };
        let _ = writeln!(
            out,
            "    {from}  {lasted}{end}  {}",
            episode.labels.braced()
        );
    }
    if rule.episodes.len() > shown {
        let _ = writeln!(
            out,
            "    and {} more (--all shows them)",
            rule.episodes.len() - shown
        );
    }
}

fn to_json(report: &Report, options: &Options) -> Json {
    let labels = |labels: &crate::model::Labels| -> Json {
        Json::Object(
            labels
                .iter()
                .map(|(name, value)| (name.to_owned(), json!(value)))
                .collect(),
        )
    };
    let episode = |episode: &Episode| {
        json!({
            "labels": labels(&episode.labels), "startsAt": episode.from.rfc3339(), "goesOn": episode.goes_on,
            "endsAt": (!episode.goes_on).then(|| episode.to.rfc3339()), "seconds": episode.duration().as_secs_f64(),
        })
    };
    let rule = |rule: &RuleReport| {
        let longer = rule.longer.iter().map(
            |l| json!({ "for": l.hold.as_secs(), "fired": l.fired, "shorterThan2m": l.short }),
        );
        json!({
            "file": rule.file, "group": rule.group, "name": rule.name, "labels": labels(&rule.labels), "for": rule.hold.as_secs_f64(),
            "fired": rule.episodes.len(), "seconds": rule.total().as_secs_f64(), "shorterThan2m": rule.short(),
            "onlyPending": rule.only_pending, "longerFor": longer.collect::<Vec<_>>(),
            "firings": rule.episodes.iter().map(episode).collect::<Vec<_>>(),
        })
    };
    let error = |(rule, count, error): &(String, u64, String)| json!({ "rule": rule, "count": count, "last": error });
    json!({
        "from": options.from.rfc3339(), "to": options.to.rfc3339(), "evaluations": report.evaluations, "remarks": report.notes,
        "errors": report.errors.iter().map(error).collect::<Vec<_>>(), "rules": report.rules.iter().map(rule).collect::<Vec<_>>(),
    })
}
