//! The command: it has our standard streams, gets the signals that we get, and its exit status
//! becomes ours.

use std::ffi::OsString;
use std::os::unix::process::ExitStatusExt as _;
use std::pin::pin;
use std::process::ExitStatus;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use rustix::process::{Pid, Signal as Kind, kill_process};
use tokio::process::{Child, Command};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Signals that are passed on.
const PASSED: [Kind; 6] = [
    Kind::HUP,
    Kind::INT,
    Kind::QUIT,
    Kind::TERM,
    Kind::USR1,
    Kind::USR2,
];
/// Between SIGTERM and SIGKILL of a command that takes too long.
const MERCY: Duration = Duration::from_secs(10);

/// Signals to us.
pub struct Signals(Vec<(Kind, Signal)>);

impl Signals {
    /// Listens to them, but for those that we were started to ignore, as `nohup` does.
    pub fn listen() -> Self {
        let ignored = ignored();
        let listened = PASSED
            .into_iter()
            .filter(|kind| ignored >> (kind.as_raw() - 1) & 1 == 0);
        Signals(
            listened
                .filter_map(|kind| Some((kind, signal(SignalKind::from_raw(kind.as_raw())).ok()?)))
                .collect(),
        )
    }

    async fn next(&mut self) -> Kind {
        let mut all: FuturesUnordered<_> = self
            .0
            .iter_mut()
            .map(|(kind, signal)| async move {
                match signal.recv().await {
                    Some(()) => *kind,
                    None => std::future::pending().await,
                }
            })
            .collect();
        match all.next().await {
            Some(kind) => kind,
            None => std::future::pending().await,
        }
    }
}

/// The mask of ignored signals, `SigIgn` of `/proc/self/status`.
fn ignored() -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = text.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .unwrap_or(0)
}

/// Whether we are in the foreground of a terminal, whose keys reach the command by themselves:
/// fields 5 and 8 of `/proc/self/stat`.
fn has_keyboard() -> bool {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<i64> = text
        .rsplit(')')
        .next()
        .unwrap_or("")
        .split_ascii_whitespace()
        .skip(1)
        .take(5)
        .flat_map(str::parse)
        .collect();
    matches!(fields.as_slice(), [_, group, _, terminal, foreground] if *terminal != 0 && group == foreground)
}

/// How a command ended.
pub struct Ended {
    /// Its exit status; 128 and the number of the signal that ended it.
    pub code: u8,
    /// It was ended because it took too long.
    pub timed_out: bool,
}

/// Starts a command.
pub fn start(words: &[OsString]) -> std::io::Result<Child> {
    Command::new(&words[0]).args(&words[1..]).spawn()
}

/// Waits for its end; meanwhile it gets every signal that we get.
pub async fn wait(mut child: Child, mut signals: Signals, timeout: Option<Duration>) -> Ended {
    let pid = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
    // One that ended meanwhile gets none.
    let send = |kind: Kind| {
        let _ = pid.map(|pid| kill_process(pid, kind));
    };
    let mut timed_out = false;
    let mut deadline = pin!(tokio::time::sleep(timeout.unwrap_or(Duration::MAX)));
    loop {
        tokio::select! {
            biased;
            status = child.wait() => return Ended { code: status.map_or(1, code), timed_out },
            kind = signals.next() => {
                if !(matches!(kind, Kind::INT | Kind::QUIT) && has_keyboard()) {
                    send(kind);
                }
            }
            () = &mut deadline, if timeout.is_some() => {
                send(if timed_out { Kind::KILL } else { Kind::TERM });
                timed_out = true;
                deadline.set(tokio::time::sleep(MERCY));
            }
        }
    }
}

/// The exit status as a shell has it.
pub fn code(status: ExitStatus) -> u8 {
    let code = status
        .code()
        .or_else(|| status.signal().map(|signal| 128 + signal))
        .unwrap_or(1);
    u8::try_from(code & 0xff).unwrap_or(1)
}
