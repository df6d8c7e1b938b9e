//! `nightbell job run NAME -- command…`: runs a command and reports to a nightbell how it went. The
//! command runs, and its exit status is passed on, whatever becomes of the reports.

mod child;
mod delivery;
mod folder;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use clap::{Args, Parser, Subcommand};

use super::live::server;
use crate::collectors::job::{Event, Process, Report};
use crate::model::{Timestamp, parse_duration};
use delivery::Delivery;
use folder::{Folder, LockError};

/// Prints a line on standard error. Unlike `eprintln!` it does not panic where nobody reads: the
/// exit status is the command's.
macro_rules! note {
    ($($text:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stderr(), "{}", $crate::model::text::visible_lines(&format!($($text)*)));
    }};
}

use note;

/// The exit status when another run holds the lock: EX_TEMPFAIL of sysexits.h.
const IS_LOCKED: u8 = 75;
/// The exit status when the lock cannot be made: EX_CANTCREAT.
const NO_LOCK: u8 = 73;
/// As a shell has them: the command cannot be run, there is no such command.
const NOT_EXECUTABLE: u8 = 126;
const NOT_FOUND: u8 = 127;

/// Watch scheduled jobs.
#[derive(Args)]
pub struct JobArgs {
    #[command(subcommand)]
    command: JobCommand,
}

#[derive(Subcommand)]
enum JobCommand {
    /// Run a command and report how it went
    #[command(
        after_help = "Exit status: that of the command, 128+N when signal N ended it, 126 or 127 when it cannot be run; \
                            with --lock 75 when another run is under way, 73 when the lock cannot be made; 2 wrong usage. \
                            What nightbell answers, and whether it does, changes none of these."
    )]
    Run(RunArgs),
}

/// What to run, and whom it is reported to.
#[derive(Args)]
struct RunArgs {
    /// The job's name in the configuration
    name: String,
    /// The running nightbell [default: http://127.0.0.1:9908]
    // Not a URL by type: a wrong one must not keep the command from running.
    #[arg(long, env = "NIGHTBELL_URL")]
    url: Option<String>,
    /// File with the token of the job, or of web.admin_token [default: $NIGHTBELL_ADMIN_TOKEN holds
    /// it]
    #[arg(long, value_name = "FILE", env = "NIGHTBELL_JOB_TOKEN_FILE")]
    token_file: Option<PathBuf>,
    /// Do not run while another run of this job, started on this machine by this user, holds the
    /// lock
    #[arg(long)]
    lock: bool,
    /// End the command with SIGTERM after this time, and with SIGKILL 10 seconds later
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    timeout: Option<Duration>,
    /// Folder of locks, and of reports that could not be delivered yet [default:
    /// $XDG_STATE_HOME/nightbell/jobs, else ~/.local/state/nightbell/jobs]
    #[arg(long, value_name = "DIR", env = "NIGHTBELL_JOB_DIR")]
    dir: Option<PathBuf>,
    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

/// A parser of its own, so that no setting of the daemon in the environment, wrong as it may be,
/// keeps the command from running.
#[derive(Parser)]
#[command(name = "nightbell job", bin_name = "nightbell job", version)]
struct JobCli {
    /// How a running nightbell is asked: TLS and log-in, in the format of amtool's and
    /// promtool's --http.config.file
    #[arg(
        long = "http.config.file",
        alias = "http-config-file",
        global = true,
        value_name = "FILE",
        env = "NIGHTBELL_HTTP_CONFIG_FILE"
    )]
    http_config_file: Option<PathBuf>,
    #[command(flatten)]
    args: JobArgs,
}

/// Runs `nightbell job …`; `words` begins with `job`.
pub fn main(words: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = JobCli::parse_from(words);
    if let Some(file) = &cli.http_config_file
        && let Err(error) = server::ask_with(file)
    {
        note!(
            "nightbell: reports are sent without {}: {error}",
            file.display()
        );
    }
    job(&cli.args)
}

/// Runs the command `job`.
pub fn job(args: &JobArgs) -> ExitCode {
    let JobCommand::Run(args) = &args.command;
    let runtime = match tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            note!("nightbell: job {}: nothing is reported: {error}", args.name);
            return alone(args);
        }
    };
    let status = runtime.block_on(run(args));
    // A name server that does not answer is not waited for.
    runtime.shutdown_background();
    ExitCode::from(status)
}

/// Runs the command and nothing else.
fn alone(args: &RunArgs) -> ExitCode {
    let mut command = Command::new(&args.command[0]);
    match command.args(&args.command[1..]).status() {
        Ok(status) => ExitCode::from(child::code(status)),
        Err(error) => ExitCode::from(not_run(args, &error)),
    }
}

fn not_run(args: &RunArgs, error: &std::io::Error) -> u8 {
    note!("nightbell: {}: {error}", args.command[0].display());
    if error.kind() == std::io::ErrorKind::NotFound {
        NOT_FOUND
    } else {
        NOT_EXECUTABLE
    }
}

async fn run(args: &RunArgs) -> u8 {
    let folder = Folder::find(args.dir.as_deref());
    let delivery = Delivery::new(
        &args.name,
        args.url.as_deref(),
        args.token_file.as_deref(),
        folder.clone(),
    );
    let (started, clock) = (Timestamp::now(), Instant::now());
    let id = format!("{:x}-{}", started.0, std::process::id());
    let _lock = match args.lock.then(|| folder.lock(&args.name)) {
        None => None,
        Some(Ok(lock)) => Some(lock),
        Some(Err(LockError::Taken)) => {
            note!(
                "nightbell: job {}: another run is under way; this one is skipped",
                args.name
            );
            delivery
                .last(Report {
                    event: Event::Skip,
                    id: Some(id),
                    ..Report::default()
                })
                .await;
            return IS_LOCKED;
        }
        Some(Err(LockError::Unusable(problem))) => {
            note!(
                "nightbell: job {}: not run, because the lock cannot be made: {problem}; --dir takes another folder",
                args.name
            );
            let failed = Report {
                id: Some(id),
                exit_code: Some(NO_LOCK.into()),
                ..Report::default()
            };
            delivery.last(failed).await;
            return NO_LOCK;
        }
    };
    let report = Report {
        id: Some(id),
        started_at: Some(started.seconds()),
        ..Report::default()
    };
    // Before there is a child, so that no signal ends us alone.
    let signals = child::Signals::listen();
    let ended = match child::start(&args.command) {
        Err(error) => child::Ended {
            code: not_run(args, &error),
            timed_out: false,
        },
        Ok(child) => {
            let process = child.id().and_then(Process::of);
            let begun = tokio::spawn(delivery.clone().first(Report {
                event: Event::Start,
                process,
                ..report.clone()
            }));
            let ended = child::wait(child, signals, args.timeout).await;
            // What has not arrived by now is said by the last report, too.
            begun.abort();
            ended
        }
    };
    let duration = clock.elapsed().as_secs_f64();
    let report = Report {
        exit_code: Some(ended.code.into()),
        timed_out: ended.timed_out,
        ended_at: Some(Timestamp::now().seconds()),
        duration_seconds: Some((duration * 1000.0).round() / 1000.0),
        ..report
    };
    delivery.last(report).await;
    ended.code
}
