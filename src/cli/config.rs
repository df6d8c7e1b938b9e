//! `nightbell check config`: reads a configuration and everything it names, and says all that is wrong with it.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use crate::app::{self, Options};

/// What to check.
#[derive(Args)]
pub struct CheckConfigArgs {
    /// Configuration files; none: the built-in settings
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Files of NAME=value lines for ${NAME} in the configuration
    #[arg(long, value_name = "FILE")]
    env_file: Vec<PathBuf>,
}

/// Checks each file; exit status 1 when one is refused.
pub fn check(args: &CheckConfigArgs) -> ExitCode {
    let files: Vec<Option<PathBuf>> = if args.files.is_empty() { vec![None] } else { args.files.iter().cloned().map(Some).collect() };
    let mut status = ExitCode::SUCCESS;
    for file in files {
        let name = file.as_ref().map_or("built-in settings".to_owned(), |f| f.display().to_string());
        println!("Checking {name}");
        let options = Options { config: file, env_files: args.env_file.clone(), ..Options::default() };
        match app::load(&options) {
            Ok(config) => {
                for warning in &config.warnings {
                    println!("  WARNING: {warning}");
                }
                println!(
                    "  SUCCESS: {} is a valid configuration: {} collectors, {} scrape jobs, {} rules",
                    name,
                    config.collectors.len(),
                    config.jobs.len(),
                    config.rule_count()
                );
            }
            Err(error) => {
                println!("  FAILED:");
                for line in error.to_string().lines() {
                    eprintln!("{line}");
                }
                status = ExitCode::FAILURE;
            }
        }
    }
    status
}
