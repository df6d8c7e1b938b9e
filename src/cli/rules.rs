//! `nightbell rules show`: the rules that a configuration puts in force, with the figures that it
//! sets, as a rule file of Prometheus.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::terminal::{complain, say};
use crate::app::{self, Options};
use crate::rules::print::print;

/// Whose rules.
#[derive(Args)]
pub struct RulesArgs {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Print the rules of a configuration, as Prometheus reads them
    Show {
        /// A nightbell.yml; none: the built-in settings
        file: Option<PathBuf>,
    },
}

/// Prints them.
pub fn rules(args: &RulesArgs, env_files: &[PathBuf]) -> ExitCode {
    let Action::Show { file } = &args.action;
    match app::load(&Options {
        config: file.clone(),
        env_files: env_files.to_vec(),
        ..Options::default()
    }) {
        Ok(config) => {
            say!("{}", print(&config.groups).trim_end());
            ExitCode::SUCCESS
        }
        Err(error) => {
            complain!("{error}");
            ExitCode::FAILURE
        }
    }
}
