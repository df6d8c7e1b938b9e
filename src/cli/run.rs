//! `nightbell`: watch, judge, tell, until a signal ends it.

use std::process::{Command, ExitCode};

use crate::app::{App, Options};
use crate::collectors::llm_proxy::Proxies;
use crate::collectors::{job::Inbox, otlp};
use crate::telemetry::start_logs;

use super::RunArgs;

/// How glibc's allocator is set up (<https://man7.org/linux/man-pages/man3/mallopt.3.html>): a page
/// or a query takes megabytes for a moment, which go back to the kernel at once instead of being
/// kept for each thread. A fifth less memory with 50,000 series, at no cost in time. Measured
/// beside mimalloc and jemalloc with 5,000 series, 24 range queries of 900 s and a minute of rest,
/// resident MB before, at the peak, a minute later: glibc 28, 90, 32; jemalloc 34, 148, 37;
/// mimalloc 99, 216, 130. CPU of the queries: 1.35, 1.60, 1.58 s. A burst of 700 MB, larger than
/// the budget of requests allows, left glibc at 185 and jemalloc at 40. Within the budget,
/// `tests/bench/burst.py` prints 25, 96 and 29.
const ALLOCATOR: [(&str, &str); 3] = [
    ("MALLOC_ARENA_MAX", "1"),
    ("MALLOC_MMAP_THRESHOLD_", "131072"),
    ("MALLOC_TRIM_THRESHOLD_", "131072"),
];

/// Starts this program anew, in the same process, with the allocator's settings in its environment:
/// glibc reads them before `main`, and there is no safe call that sets them later. Returns when
/// they are there already, or when it cannot be done.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn settle_allocator() {
    use std::os::unix::process::CommandExt as _;
    if ALLOCATOR
        .iter()
        .any(|(name, _)| std::env::var_os(name).is_some())
    {
        return;
    }
    let mut words = std::env::args_os();
    if let (Ok(program), Some(name)) = (std::env::current_exe(), words.next()) {
        let error = Command::new(program)
            .arg0(name)
            .args(words)
            .envs(ALLOCATOR)
            .exec();
        eprintln!("nightbell: goes on with the allocator's own settings: {error}");
    }
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
fn settle_allocator() {}

/// Raises the soft limit of open files to the hard one, as Go's programs do: each target takes one,
/// and 1024 are soon used up.
fn raise_open_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        // Where it is refused, the old limit stands.
        let _ = setrlimit(
            Resource::Nofile,
            Rlimit {
                current: limit.maximum,
                ..limit
            },
        );
    }
}

/// Runs until a signal; the exit status says whether it ended well.
pub fn run(args: &RunArgs) -> ExitCode {
    settle_allocator();
    // After the start anew, which needs them, and before there are other threads, which would have
    // their own.
    if let Err(error) = crate::notify::close_inheritance() {
        eprintln!("nightbell: goes on with what it inherited: {error}");
    }
    raise_open_files();
    if let Err(error) = start_logs(&args.log_level, args.log_format) {
        eprintln!("nightbell: {error}");
        return ExitCode::from(2);
    }
    // It only starts, reloads and stops: everything else has threads of its own.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
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
        web_config: args.web_config_file.clone(),
        is_trial: false,
        inbox: Inbox::default(),
        otlp: otlp::Inbox::default(),
        llm: Proxies::default(),
    };
    let ended = start(&runtime, options).and_then(|app| runtime.block_on(app.run()));
    // A thread that hangs in a file system must not keep the process.
    runtime.shutdown_background();
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("nightbell: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Starts on a thread of its own: its stack is deep and goes with it.
fn start(runtime: &tokio::runtime::Runtime, options: Options) -> anyhow::Result<App> {
    let begun = std::thread::Builder::new().name("start".into());
    std::thread::scope(|scope| {
        let started = begun
            .spawn_scoped(scope, || runtime.block_on(App::start(options)))?
            .join();
        started.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}
