//! What parts remember from one collection to the next.

use std::collections::{BTreeMap, HashMap};
use std::time::Instant;

use sysinfo::System;

/// Names of each kind that are shown.
pub const TOP: usize = 5;

/// Ticks of a CPU time in one second (`USER_HZ`).
pub const USER_HZ: f64 = 100.0;
/// A counter that falls by more than this many ticks belongs to a CPU that was away; a smaller fall
/// is the kernel's rounding of idle time.
const REAL_FALL: u64 = 300;
pub const FIELDS: usize = 10;

/// The last CPU times. The kernel lets `idle` and `iowait` fall a little; a counter that falls
/// would look like a restart of the machine.
#[derive(Default)]
pub struct CpuTimes(Vec<(String, [u64; FIELDS])>);

impl CpuTimes {
    /// Takes new times and returns what to show for them.
    pub fn settle(&mut self, cpu: &str, new: [u64; FIELDS]) -> [u64; FIELDS] {
        let Some((_, old)) = self.0.iter_mut().find(|(name, _)| name == cpu) else {
            self.0.push((cpu.to_owned(), new));
            return new;
        };
        if new[3] + REAL_FALL < old[3] {
            *old = new;
        } else {
            for (old, new) in old.iter_mut().zip(new) {
                *old = new.max(*old);
            }
        }
        *old
    }
}

/// What `/proc/PID/stat` tells of one process.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Stat {
    pub state: u8,
    pub threads: u64,
    pub user: u64,
    pub system: u64,
    pub minor_faults: u64,
    pub faults: u64,
    /// Clock ticks after the boot at which it started: with the number of the process, which is
    /// used again, it names it.
    pub start: u64,
    /// Pages in RAM.
    pub resident: u64,
    /// Bytes read from disks, where groups are measured.
    pub read: u64,
    /// Bytes written to disks, where groups are measured.
    pub written: u64,
}

/// What the processes had used at the last collection, and when that was, in seconds after the
/// boot.
#[derive(Default)]
pub struct Used {
    at: Option<f64>,
    ticks: HashMap<(u64, u64), u64>,
}

/// The names with the greatest amounts, none that is nothing.
fn greatest(amounts: HashMap<&str, f64>) -> Vec<(&str, f64)> {
    let mut all: Vec<(&str, f64)> = amounts
        .into_iter()
        .filter(|(_, amount)| *amount > 0.0)
        .collect();
    all.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(b.0)));
    all.truncate(TOP);
    all
}

impl Used {
    /// CPUs used since the last collection, where it is known how long ago that was, and pages in
    /// RAM, of the names that use most.
    pub fn top<'p>(
        &mut self,
        uptime: Option<f64>,
        processes: &'p [(u64, String, Stat)],
    ) -> [Vec<(&'p str, f64)>; 2] {
        let elapsed = self
            .at
            .zip(uptime)
            .map(|(before, now)| now - before)
            .filter(|elapsed| *elapsed > 0.0);
        let (mut cpu, mut memory): (HashMap<&str, f64>, HashMap<&str, f64>) =
            (HashMap::new(), HashMap::new());
        let mut ticks = HashMap::with_capacity(processes.len());
        for (pid, name, stat) in processes {
            let now = stat.user + stat.system;
            // One that is new began at nothing.
            let since =
                now.saturating_sub(self.ticks.get(&(*pid, stat.start)).copied().unwrap_or(0));
            ticks.insert((*pid, stat.start), now);
            *cpu.entry(name).or_default() +=
                elapsed.map_or(0.0, |elapsed| since as f64 / USER_HZ / elapsed);
            *memory.entry(name).or_default() += stat.resident as f64;
        }
        (self.at, self.ticks) = (uptime, ticks);
        [greatest(cpu), greatest(memory)]
    }
}

/// What is known of the network interfaces' drivers and links, and when it was asked for.
#[derive(Default)]
pub struct Links(pub BTreeMap<String, (Instant, Link)>);

/// Driver and link of one network interface.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Link {
    /// Bus, driver, versions of the ROM, the firmware and the driver; none where nothing is known.
    pub info: Option<[String; 5]>,
    /// What it negotiates, can and offers; none where the driver does not say.
    pub flags: [Option<bool>; 7],
    /// Whether it is supported (or advertised), bytes a second, duplex, mode.
    pub speeds: Vec<(bool, f64, String, String)>,
}

/// The process table and the counters of the groups.
#[derive(Default)]
pub struct Groups {
    pub table: Option<System>,
    /// Looks so far.
    pub looks: u64,
    pub seen: HashMap<(u32, u64), Stat>,
    pub totals: HashMap<String, Stat>,
}
