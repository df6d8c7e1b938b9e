//! `nightbell state`: everything that outlives a restart, saved and brought back.

mod archive;
mod backup;
mod restore;
mod source;

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::app::{self, Folders};

/// What to do with the state.
#[derive(Args)]
#[command(
    after_help = "Examples: nightbell state backup /backup/nightbell-$(date +%F).tar.gz\n          \
                        nightbell state check /backup/nightbell-2026-12-01.tar.gz\n          \
                        nightbell state restore /backup/nightbell-2026-12-01.tar.gz --state-dir /var/lib/nightbell"
)]
pub struct StateArgs {
    #[command(subcommand)]
    command: StateCommand,
}

#[derive(Subcommand)]
enum StateCommand {
    /// Save silences, alerts, messages, history and all else; nightbell may run
    Backup(BackupArgs),
    /// Read a backup to its end, checksums included; nothing is changed
    Check(CheckArgs),
    /// Put a backup in the position of what a nightbell that does not run has
    Restore(RestoreArgs),
}

/// Where the state is.
#[derive(Args)]
struct Place {
    /// Configuration file, for the folder of the history
    #[arg(long, short, value_name = "FILE", env = "NIGHTBELL_CONFIG")]
    config: Option<PathBuf>,
    /// State folder, as for nightbell itself
    #[arg(long, value_name = "DIR", env = "NIGHTBELL_STATE_DIR")]
    state_dir: Option<PathBuf>,
}

#[derive(Args)]
struct BackupArgs {
    /// Where to: an archive when the name ends in .tar, .tar.gz or .tgz, else a new folder; - is
    /// standard output, as .tar
    #[arg(value_name = "FILE|DIR")]
    to: PathBuf,
    /// Replace a file of that name, once the new one is whole
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    place: Place,
}

#[derive(Args)]
struct CheckArgs {
    /// The backup: an archive, packed by gzip or not, or a folder; - is standard input
    #[arg(value_name = "FILE|DIR")]
    from: PathBuf,
}

#[derive(Args)]
struct RestoreArgs {
    /// The backup: an archive, packed by gzip or not, or a folder; - is standard input
    #[arg(value_name = "FILE|DIR")]
    from: PathBuf,
    /// Put it in the position of a state that is there, which is moved to before-restore
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    place: Place,
}

impl Place {
    fn folders(&self, env_files: &[PathBuf]) -> Result<Folders, String> {
        let options = app::Options {
            config: self.config.clone(),
            env_files: env_files.to_vec(),
            state_dir: self.state_dir.clone(),
            ..app::Options::default()
        };
        let config = app::load_alone(&options).map_err(|error| error.to_string())?;
        Folders::of(&options, &config).map_err(|error| format!("{error:#}"))
    }
}

/// Runs the command; the error is for standard error.
pub async fn state(args: &StateArgs, env_files: &[PathBuf]) -> Result<(), String> {
    match &args.command {
        StateCommand::Backup(args) => backup::backup(args, args.place.folders(env_files)?).await,
        StateCommand::Check(args) => restore::check(args),
        StateCommand::Restore(args) => restore::restore(args, args.place.folders(env_files)?).await,
    }
}

/// A size for people.
fn size(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}
