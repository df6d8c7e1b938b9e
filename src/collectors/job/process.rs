//! Which process a run is, and whether it is still there: `/proc/sys/kernel/random/boot_id`,
//! `/proc/self/ns/pid`, `/proc/[pid]/stat`.

use std::fs;
use std::sync::OnceLock;

use serde::{Deserialize, Serialize};

/// A process of some machine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Process {
    /// The machine since its start, and the namespace in which `pid` is a number.
    pub machine: String,
    /// Its number.
    pub pid: u32,
    /// When it began, in ticks since the machine's start.
    pub ticks: u64,
}

impl Process {
    /// A process of this machine.
    pub fn of(pid: u32) -> Option<Self> {
        Some(Process {
            machine: machine()?.to_owned(),
            pid,
            ticks: ticks(pid)?,
        })
    }

    /// Whether it ran here and has gone. Of other machines nothing is known.
    pub fn is_gone(&self) -> bool {
        machine() == Some(&self.machine) && ticks(self.pid) != Some(self.ticks)
    }
}

fn machine() -> Option<&'static str> {
    static MACHINE: OnceLock<Option<String>> = OnceLock::new();
    let read = || {
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
        let space = fs::read_link("/proc/self/ns/pid").ok()?;
        Some(format!("{} {}", boot.trim(), space.display()))
    };
    MACHINE.get_or_init(read).as_deref()
}

/// Field 22 of `/proc/[pid]/stat`; `None` also for one that has ended and is not waited for.
fn ticks(pid: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let rest = text.get(text.rfind(')')? + 1..)?;
    let mut fields = rest.split_ascii_whitespace();
    let state = fields.next()?;
    fields
        .nth(18)?
        .parse()
        .ok()
        .filter(|_| state != "Z" && state != "X")
}
