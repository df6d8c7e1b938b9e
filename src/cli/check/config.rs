//! `nightbell check config`: reads a configuration and everything it names, and says all that is
//! wrong with it.
//!
//! Exit status: 0 when nothing is wrong or only a lint finding was made, 1 for a mistake or, with
//! `--connect`, a target that does not answer, 3 for a lint finding with `--lint-fatal`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use super::connect::connect;
use super::rules::duplicate_rules;
use crate::app::{self, Config, Options};
use crate::cli::terminal::{complain, say};
use crate::model::format_duration;
use crate::promql::Engine;
use crate::rules::RuleGroup;
use crate::scrape::group_file_problems;

/// What to check.
#[derive(Args)]
pub struct CheckConfigArgs {
    /// Configuration files; none: the built-in settings
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Files of NAME=value lines for ${NAME} in the configuration
    #[arg(long, value_name = "FILE")]
    env_file: Vec<PathBuf>,
    /// Collect from every target once as well, and say whether it answers and what queries give.
    /// Costs what one collection costs: with llm_provider's completion, tokens
    #[arg(long, conflicts_with = "syntax_only")]
    connect: bool,
    /// Check the file alone, not the rule files and others that it names
    #[arg(long)]
    syntax_only: bool,
    /// Comma-separated: all, duplicate-rules, too-long-scrape-interval, none
    #[arg(long, default_value = "duplicate-rules", value_delimiter = ',')]
    lint: Vec<String>,
    /// Exit with status 3 when a lint finding was made
    #[arg(long)]
    lint_fatal: bool,
}

/// Checks each file.
pub fn check(args: &CheckConfigArgs) -> ExitCode {
    const OPTIONS: [&str; 4] = ["all", "duplicate-rules", "too-long-scrape-interval", "none"];
    for option in args
        .lint
        .iter()
        .filter(|o| !o.is_empty() && !OPTIONS.contains(&o.as_str()))
    {
        say!("WARNING: unknown lint option: {option:?}");
    }
    let files: Vec<Option<PathBuf>> = if args.files.is_empty() {
        vec![None]
    } else {
        args.files.iter().cloned().map(Some).collect()
    };
    let (mut failed, mut found) = (false, false);
    for file in files {
        let name = file
            .as_ref()
            .map_or("built-in settings".to_owned(), |f| f.display().to_string());
        say!("Checking {name}");
        let options = Options {
            config: file,
            env_files: args.env_file.clone(),
            is_trial: args.connect,
            ..Options::default()
        };
        let loaded = if args.syntax_only {
            app::load_alone(&options)
        } else {
            app::load(&options).and_then(complete)
        };
        match loaded {
            Ok(config) => {
                for warning in config.warnings.iter().cloned().chain(config.advice()) {
                    say!("  WARNING: {warning}");
                }
                say!(
                    "  SUCCESS: {} is a valid configuration: {} collectors, {} scrape jobs, {} rules",
                    name,
                    config.collectors.len(),
                    config.jobs.len(),
                    config.rule_count()
                );
                let findings = findings(&config, &args.lint);
                found |= !findings.is_empty();
                findings
                    .iter()
                    .for_each(|finding| complain!("  FAILED: {finding}"));
                if args.connect {
                    failed |= !connect(config).unwrap_or_else(|error| {
                        complain!("  FAILED: the runtime cannot be started: {error}");
                        false
                    });
                }
            }
            Err(error) => {
                say!("  FAILED:");
                for line in error.to_string().lines() {
                    complain!("{line}");
                }
                failed = true;
            }
        }
    }
    match (failed, found && args.lint_fatal) {
        (true, _) => ExitCode::FAILURE,
        (false, true) => ExitCode::from(3),
        (false, false) => ExitCode::SUCCESS,
    }
}

/// What the lint options find in a configuration without mistakes.
fn findings(config: &Config, lint: &[String]) -> Vec<String> {
    let has = |name: &str| lint.iter().any(|o| o == name);
    let wants = |name: &str| !has("none") && (has("all") || has(name));
    let mut findings = Vec::new();
    if wants("too-long-scrape-interval") {
        let lookback: Duration = Engine::default().lookback;
        for job in config.jobs.iter().filter(|job| job.interval > lookback) {
            let interval = format_duration(job.interval);
            findings.push(format!(
                "too long scrape interval found, data point will be marked as stale - job: {}, interval: {interval}",
                job.name
            ));
        }
    }
    if wants("duplicate-rules") {
        let mut files: BTreeMap<&str, Vec<&RuleGroup>> = BTreeMap::new();
        config
            .groups
            .iter()
            .for_each(|group| files.entry(&group.file).or_default().push(group));
        findings.extend(
            files
                .into_iter()
                .filter_map(|(file, groups)| Some(format!("{file}: {}", duplicate_rules(groups)?))),
        );
    }
    findings
}

/// Refuses a configuration that names rule files which are not there, or group files that cannot be
/// read: it would start, and watch or judge less than its author thinks.
fn complete(config: app::Config) -> anyhow::Result<app::Config> {
    let absent = config.absent.0.iter().map(ToString::to_string);
    let said: Vec<String> = absent.chain(group_file_problems(&config.jobs)).collect();
    anyhow::ensure!(said.is_empty(), said.join("\n"));
    Ok(config)
}
