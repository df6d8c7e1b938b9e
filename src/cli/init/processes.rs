//! Processes and the ports they listen on: `/proc/PID` and `/proc/net/tcp` (proc(5)).

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

use super::root::Root;

/// Processes that are looked at, at most.
const MAX_PROCESSES: usize = 8192;
/// Open files of one process that are looked at, at most.
const MAX_FILES: usize = 4096;
/// So much of a table of sockets is read, in bytes.
const MAX_TABLE: u64 = 4 << 20;
/// A socket that listens, in the column `st`.
const LISTENING: &str = "0A";

/// A process.
#[derive(Debug, Default)]
pub struct Process {
    /// Its number.
    pub pid: u32,
    /// The name of its program, as the kernel keeps it.
    pub comm: String,
    /// Its command line.
    pub words: Vec<String>,
    /// Where it works.
    pub folder: Option<PathBuf>,
    /// Whether it runs in a container.
    pub is_contained: bool,
}

impl Process {
    /// The command line as one text.
    pub fn line(&self) -> String {
        self.words.join(" ")
    }
}

/// A port that somebody listens on.
#[derive(Debug)]
pub struct Listener {
    /// The address, one by which it can be reached from here.
    pub address: IpAddr,
    /// The port.
    pub port: u16,
    /// The number of its process, where it can be seen.
    pub pid: Option<u32>,
}

/// Reads them all. Of other users' processes the open files can be seen by root alone; then it is
/// not known who listens.
pub fn read(root: &Root) -> (HashMap<u32, Process>, Vec<Listener>) {
    let mut sockets = HashMap::new();
    let mut listeners = Vec::new();
    for table in ["/proc/net/tcp", "/proc/net/tcp6"] {
        for line in root
            .text(table, MAX_TABLE)
            .unwrap_or_default()
            .lines()
            .skip(1)
        {
            let fields: Vec<&str> = line.split_ascii_whitespace().collect();
            if let (Some((address, port)), Some(&LISTENING), Some(inode)) = (
                fields.get(1).and_then(|text| local(text)),
                fields.get(3),
                fields.get(9).and_then(|text| text.parse::<u64>().ok()),
            ) {
                sockets.insert(inode, listeners.len());
                listeners.push(Listener {
                    address,
                    port,
                    pid: None,
                });
            }
        }
    }
    let mut processes = HashMap::new();
    let own = std::process::id();
    for entry in root.list("/proc") {
        let Ok(pid) = entry.name.parse::<u32>() else {
            continue;
        };
        if processes.len() >= MAX_PROCESSES || (root.is_machine() && pid == own) {
            continue;
        }
        let Some(process) = process(root, pid) else {
            continue;
        };
        for file in root.list(entry.path.join("fd")).iter().take(MAX_FILES) {
            let target = root.link(&file.path).unwrap_or_default();
            let inode = target.to_str().and_then(|text| {
                text.strip_prefix("socket:[")?
                    .strip_suffix(']')?
                    .parse::<u64>()
                    .ok()
            });
            // Of those that share a socket, the first one started the others.
            if let Some(listener) = inode
                .and_then(|inode| sockets.get(&inode))
                .and_then(|at| listeners.get_mut(*at))
            {
                listener.pid = Some(listener.pid.map_or(pid, |other| other.min(pid)));
            }
        }
        processes.insert(pid, process);
    }
    // One that listens by both protocols is one.
    listeners.sort_by_key(|listener| (listener.port, listener.address.is_ipv6(), listener.address));
    listeners.dedup_by(|a, b| {
        a.port == b.port && (a.address == b.address || a.pid.is_some() && a.pid == b.pid)
    });
    (processes, listeners)
}

fn process(root: &Root, pid: u32) -> Option<Process> {
    let folder = PathBuf::from(format!("/proc/{pid}"));
    let comm = root.text(folder.join("comm"), 64)?.trim().to_owned();
    let line = root
        .text(folder.join("cmdline"), 16 << 10)
        .unwrap_or_default();
    let words = line
        .split('\0')
        .filter(|word| !word.is_empty())
        .map(str::to_owned)
        .collect();
    let group = root.text(folder.join("cgroup"), 4096).unwrap_or_default();
    let is_contained = ["docker", "libpod", "containerd", "crio", "kubepods"]
        .iter()
        .any(|name| group.contains(name));
    Some(Process {
        pid,
        comm,
        words,
        folder: root.link(folder.join("cwd")),
        is_contained,
    })
}

/// `0100007F:1F90`: words of the address as the processor keeps them, and the port. An address for
/// all is reached by the loopback.
fn local(text: &str) -> Option<(IpAddr, u16)> {
    let (address, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let word = |text: &str| {
        u32::from_str_radix(text, 16)
            .ok()
            .map(|word| word.swap_bytes())
    };
    let address = match address.len() {
        8 => IpAddr::from(Ipv4Addr::from(word(address)?)),
        32 => {
            let mut bits = 0u128;
            for at in 0..4 {
                bits = bits << 32 | u128::from(word(address.get(at * 8..at * 8 + 8)?)?);
            }
            let address = Ipv6Addr::from(bits);
            address
                .to_ipv4_mapped()
                .map_or(IpAddr::from(address), IpAddr::from)
        }
        _ => return None,
    };
    // `::` takes IPv4 too, unless somebody has forbidden it.
    let address = if address.is_unspecified() {
        IpAddr::from(Ipv4Addr::LOCALHOST)
    } else {
        address
    };
    Some((address, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_the_kernel_s_tables_are_read() {
        let got = |text: &str| local(text).map(|(address, port)| format!("{address} {port}"));
        assert_eq!(got("0100007F:1F40").as_deref(), Some("127.0.0.1 8000"));
        assert_eq!(got("00000000:1538").as_deref(), Some("127.0.0.1 5432"));
        assert_eq!(
            got("00000000000000000000000001000000:0050").as_deref(),
            Some("::1 80")
        );
        assert_eq!(
            got("00000000000000000000000000000000:0050").as_deref(),
            Some("127.0.0.1 80")
        );
        assert_eq!(
            got("0000000000000000FFFF00000100007F:0050").as_deref(),
            Some("127.0.0.1 80")
        );
        assert_eq!(
            [got("x"), got("01:zz"), got("é0100007:0050")],
            [None, None, None]
        );
    }
}
