//! `nightbell`: watch, judge, tell, until told to stop.

use std::process::ExitCode;

use crate::app::{App, Options};
use crate::telemetry::start_logs;

use super::RunArgs;

/// Threads of the runtime: one keeps collecting while the other evaluates or serves.
const WORKERS: usize = 2;

/// Runs until a signal; the exit status says whether it ended well.
pub fn run(args: &RunArgs) -> ExitCode {
    if let Err(error) = start_logs(&args.log_level, args.log_format) {
        eprintln!("nightbell: {error}");
        return ExitCode::from(2);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(WORKERS).max_blocking_threads(8).enable_all().build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("nightbell: the runtime cannot be started: {error}");
            return ExitCode::FAILURE;
        }
    };
    let options = Options {
        config: args.config.clone(),
        env_files: args.env_file.clone(),
        state_dir: args.state_dir.clone(),
        listen: args.listen,
        rules: args.rules.clone(),
    };
    match runtime.block_on(async { App::start(options).await?.run().await }) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("nightbell: {error:#}");
            ExitCode::FAILURE
        }
    }
}
