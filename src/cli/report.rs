//! `nightbell report`: reports of a running nightbell.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::check::health::LanguageArg;
use super::live::server::ServerArgs;
use super::terminal::{complain, json_text, say};
use crate::model::text::visible_lines;
use crate::report::{Language, Last};

/// Which report.
#[derive(Args)]
#[command(
    after_help = "Examples: nightbell report period --last 30d --job llmchat --language zh --format html --out report.html\n          \
                        nightbell report capacity --format md"
)]
pub struct ReportArgs {
    /// period: what an application did; capacity: trend and forecast; errors: what went wrong
    #[arg(value_enum)]
    kind: KindArg,
    /// The period: a duration up to now, in whole hours; or the last whole day, week or month
    #[arg(long, default_value = "30d", value_parser = Last::parse)]
    last: Last,
    /// The zone of days and of the times that are shown
    #[arg(long, default_value = "UTC", value_name = "ZONE")]
    timezone: String,
    /// Requests and logs of this job only
    #[arg(long)]
    job: Option<String>,
    /// How it is written
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// Its language
    #[arg(long, value_enum, default_value_t)]
    language: LanguageArg,
    /// The file to write it to [default: standard output]
    #[arg(long, short, value_name = "FILE")]
    out: Option<PathBuf>,
    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Clone, Copy, ValueEnum)]
enum KindArg {
    Period,
    Capacity,
    Errors,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum Format {
    /// A page of its own, ready to print
    Html,
    /// Markdown
    #[default]
    Md,
    /// JSON
    Json,
}

/// Prints the report, or writes it.
pub async fn report(args: &ReportArgs) -> Result<(), String> {
    let kind = match args.kind {
        KindArg::Period => "period",
        KindArg::Capacity => "capacity",
        KindArg::Errors => "errors",
    };
    let format = match args.format {
        Format::Html => "html",
        Format::Md => "md",
        Format::Json => "json",
    };
    let (last, language) = (args.last.text(), Language::from(args.language));
    let mut parameters = vec![
        ("kind", kind),
        ("last", last.as_str()),
        ("language", language.as_str()),
        ("format", format),
        ("timezone", &args.timezone),
    ];
    parameters.extend(args.job.as_deref().map(|job| ("job", job)));
    let text = args.server.text_own("report", &parameters).await?;
    match &args.out {
        Some(file) => {
            std::fs::write(file, text).map_err(|error| format!("{}: {error}", file.display()))?;
            complain!("{}", file.display());
        }
        None if args.format == Format::Json => {
            let json: serde_json::Value = serde_json::from_str(&text)
                .map_err(|error| format!("the answer is no JSON: {error}"))?;
            say!("{}", json_text(&format!("{json:#}")));
        }
        None => print!("{}", visible_lines(&text)),
    }
    Ok(())
}
