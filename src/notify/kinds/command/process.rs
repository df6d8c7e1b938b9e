//! One run of a program: in a process group of its own, for a bounded time, its output within a
//! bound.

use std::io;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe;
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::model::{ActionOutcome, format_duration};

use super::Ended;
use super::capture::Capture;
use super::inheritance::with_umask_of_start;

/// How long a program that is asked to end may take before it is ended.
const GRACE: Duration = Duration::from_secs(2);
/// How long output is waited for after the program's end: what it left behind may hold the pipe
/// open without end.
const LINGER: Duration = Duration::from_millis(500);

/// Runs `program` (its name or path, then its arguments) with exactly these variables.
pub(super) async fn run(
    program: &[String],
    variables: &[(String, String)],
    limit: Duration,
) -> Ended {
    let capture = Arc::new(Mutex::new(Capture::default()));
    let ended = |outcome, detail: String| Ended {
        outcome,
        detail,
        output: capture.lock().text(),
    };
    let (mut child, output) = match start(program, variables) {
        Ok(started) => started,
        Err(error) => {
            return ended(
                ActionOutcome::Failed,
                format!("it cannot be started: {}", error.kind()),
            );
        }
    };
    let mut group = Group(
        child
            .id()
            .and_then(|id| Pid::from_raw(i32::try_from(id).ok()?)),
    );
    let reader = tokio::spawn(read(output, Arc::clone(&capture)));
    let status = match timeout(limit, child.wait()).await {
        Ok(status) => {
            // What it started and left behind is its own affair: a service for instance.
            group.0 = None;
            status
        }
        Err(_) => {
            group.signal(Signal::TERM);
            let _ = timeout(GRACE, child.wait()).await;
            group.signal(Signal::KILL);
            let _ = timeout(GRACE, child.wait()).await;
            group.0 = None;
            settle(reader).await;
            return ended(
                ActionOutcome::TimedOut,
                format!("ended by nightbell after {}", format_duration(limit)),
            );
        }
    };
    settle(reader).await;
    match status {
        Ok(status) if status.success() => ended(ActionOutcome::Succeeded, "exit status 0".into()),
        Ok(status) => {
            use std::os::unix::process::ExitStatusExt as _;
            let detail = match (status.code(), status.signal()) {
                (Some(code), _) => format!("exit status {code}"),
                (None, Some(signal)) => format!("ended by signal {signal}"),
                (None, None) => "ended in an unknown way".into(),
            };
            ended(ActionOutcome::Failed, detail)
        }
        Err(error) => ended(
            ActionOutcome::Failed,
            format!("its end cannot be seen: {}", error.kind()),
        ),
    }
}

/// Standard output and standard error are one pipe, so that lines keep their order.
fn start(
    program: &[String],
    variables: &[(String, String)],
) -> io::Result<(Child, pipe::Receiver)> {
    let (name, arguments) = program.split_first().ok_or(io::ErrorKind::InvalidInput)?;
    let (reader, writer) = io::pipe()?;
    let reader = pipe::Receiver::from_owned_fd(reader.into())?;
    let mut command = Command::new(name);
    command
        .args(arguments)
        .env_clear()
        .envs(variables.iter().map(|(n, v)| (n, v)))
        .current_dir("/");
    command
        .stdin(Stdio::null())
        .stdout(writer.try_clone()?)
        .stderr(writer)
        .process_group(0)
        .kill_on_drop(true);
    // The command holds the writing ends: it goes away here, so that the pipe ends with the
    // program.
    Ok((with_umask_of_start(|| command.spawn())?, reader))
}

async fn read(mut output: pipe::Receiver, capture: Arc<Mutex<Capture>>) {
    let mut buffer = [0; 4096];
    while let Ok(read @ 1..) = output.read(&mut buffer).await {
        capture.lock().push(&buffer[..read]);
    }
}

async fn settle(mut reader: tokio::task::JoinHandle<()>) {
    if timeout(LINGER, &mut reader).await.is_err() {
        reader.abort();
    }
}

/// The program's process group; cancelling the run kills all of it.
struct Group(Option<Pid>);

impl Group {
    /// One that is gone already cannot be signalled, which is as good.
    fn signal(&self, signal: Signal) {
        if let Some(group) = self.0 {
            let _ = kill_process_group(group, signal);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
    }
}
