//! Drivers' own counters of the network interfaces, what drives them, and what their links can do,
//! as the program `ethtool` (Debian's package of that name) shows it, under node_exporter's names.
//! Only on request: `host: {enable: [ethtool]}`.
//!
//! Only what every user may ask is asked (`ethtool`, `ethtool -i`, `ethtool -S`). The program runs
//! for each interface, since the kernel gives these counters by `ioctl` alone. What is seen are the
//! interfaces of the network that this process is in.

use std::collections::BTreeSet;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use regex::Regex;

use crate::collectors::programs::{Input, Program, command, find};
use crate::model::{Batch, MetricDesc, MetricKind};

use super::kernel::{PartError, names};
use super::part::{Context, Lane, Part, gauge, untyped};
use super::remembered::Link;

/// The part.
pub const PART: Part = Part {
    name: "ethtool",
    default: false,
    lane: Lane::Device,
    metrics: &METRICS,
    read,
};

const PROGRAM: &str = "ethtool";
/// Driver and link are asked for so often.
const SELDOM: Duration = Duration::from_secs(600);
/// So much of an answer is read, in bytes.
const MAX_ANSWER: u64 = 1 << 20;
/// Counters of an interface at most: a driver may have some for each of many queues.
const MAX_COUNTERS: usize = 1000;

const DEVICE: &[&str] = &["device"];
const SPEED: &[&str] = &["device", "duplex", "mode"];
const INFO: MetricDesc = gauge(
    "node_ethtool_info",
    "",
    "What drives the interface, always 1.",
    &[
        "bus_info",
        "device",
        "driver",
        "expansion_rom_version",
        "firmware_version",
        "version",
    ],
    "ethtool -i",
);
const SUPPORTED_SPEED: MetricDesc = gauge(
    "node_network_supported_speed_bytes",
    "bytes",
    "Bytes a second in a mode that the interface can have, always for its label.",
    SPEED,
    "ethtool: Supported link modes",
);
const ADVERTISED_SPEED: MetricDesc = gauge(
    "node_network_advertised_speed_bytes",
    "bytes",
    "Bytes a second in a mode that the interface offers.",
    SPEED,
    "ethtool: Advertised link modes",
);
const fn flag(name: &'static str, help: &'static str, source: &'static str) -> MetricDesc {
    gauge(name, "", help, DEVICE, source)
}
const FLAGS: [MetricDesc; 7] = [
    flag(
        "node_network_autonegotiate",
        "1 when the link negotiates by itself.",
        "ethtool: Auto-negotiation",
    ),
    flag(
        "node_network_autonegotiate_supported",
        "1 when the interface can negotiate.",
        "ethtool: Supports auto-negotiation",
    ),
    flag(
        "node_network_autonegotiate_advertised",
        "1 when the interface offers to negotiate.",
        "ethtool: Advertised auto-negotiation",
    ),
    flag(
        "node_network_pause_supported",
        "1 when the interface can send and take pause frames.",
        "ethtool: Supported pause frame use",
    ),
    flag(
        "node_network_pause_advertised",
        "1 when the interface offers pause frames.",
        "ethtool: Advertised pause frame use",
    ),
    flag(
        "node_network_asymmetricpause_supported",
        "1 when the interface can have pause frames in one direction.",
        "ethtool: Supported pause frame use",
    ),
    flag(
        "node_network_asymmetricpause_advertised",
        "1 when the interface offers pause frames in one direction.",
        "ethtool: Advertised pause frame use",
    ),
];
/// Counters that many drivers have under one name, by that name.
const COUNTERS: [(&str, MetricDesc); 7] = [
    (
        "rx_bytes",
        counted("node_ethtool_received_bytes_total", "Bytes received."),
    ),
    (
        "rx_dropped",
        counted(
            "node_ethtool_received_dropped_total",
            "Frames dropped on reception.",
        ),
    ),
    (
        "rx_errors",
        counted(
            "node_ethtool_received_errors_total",
            "Frames received with errors.",
        ),
    ),
    (
        "rx_packets",
        counted("node_ethtool_received_packets_total", "Packets received."),
    ),
    (
        "tx_bytes",
        counted("node_ethtool_transmitted_bytes_total", "Bytes sent."),
    ),
    (
        "tx_errors",
        counted(
            "node_ethtool_transmitted_errors_total",
            "Frames not sent for errors.",
        ),
    ),
    (
        "tx_packets",
        counted("node_ethtool_transmitted_packets_total", "Packets sent."),
    ),
];
const METRICS: [MetricDesc; 3 + FLAGS.len() + COUNTERS.len()] = {
    let mut all = [INFO; 3 + FLAGS.len() + COUNTERS.len()];
    (all[1], all[2]) = (SUPPORTED_SPEED, ADVERTISED_SPEED);
    let mut at = 0;
    while at < FLAGS.len() {
        all[3 + at] = FLAGS[at];
        at += 1;
    }
    at = 0;
    while at < COUNTERS.len() {
        all[3 + FLAGS.len() + at] = COUNTERS[at].1;
        at += 1;
    }
    all
};

const fn counted(name: &'static str, help: &'static str) -> MetricDesc {
    MetricDesc {
        labels: DEVICE,
        ..untyped(name, help, "ethtool -S")
    }
}

fn read(context: &mut Context<'_>) -> Result<(), PartError> {
    let failed = |source: io::Error| PartError::Io {
        path: PathBuf::from(PROGRAM),
        source,
    };
    let program = find(PROGRAM, None).ok_or_else(|| {
        failed(io::Error::other(
            "the program is not installed: apt-get install ethtool",
        ))
    })?;
    let devices: Vec<String> = names(&context.kernel.in_sys("class/net"))?
        .into_iter()
        .filter(|name| name != "lo" && !context.settings.interfaces_exclude.is_match(name))
        .collect();
    let most = context.settings.max_objects;
    context.memory.omitted = Some(devices.len().saturating_sub(most));
    let known = &mut context.memory.links.0;
    known.retain(|name, _| devices.contains(name));
    for name in devices.iter().take(most) {
        if known
            .get(name)
            .is_none_or(|(asked, _)| asked.elapsed() >= SELDOM)
        {
            let mut device = Link::default();
            if let Some(text) = ask(&program, &["-i", name]).map_err(failed)? {
                device.info = driver(&text);
            }
            if let Some(text) = ask(&program, &[name]).map_err(failed)? {
                link(&text, &mut device);
            }
            known.insert(name.clone(), (Instant::now(), device));
        }
        if let Some((_, device)) = known.get(name) {
            show(name, device, context.batch);
        }
        let Some(text) = ask(&program, &["-S", name]).map_err(failed)? else {
            continue;
        };
        for (metric, about, value) in counters(&text) {
            context.batch.push_named(
                &metric,
                MetricKind::Untyped,
                &about,
                &[("device", name)],
                value,
            );
        }
    }
    Ok(())
}

/// What the program says; nothing where it refuses, as it does for what a driver does not have.
fn ask(program: &Path, arguments: &[&str]) -> io::Result<Option<String>> {
    let mut run = command(program, &[]);
    run.args(arguments);
    let (program, _, output) = Program::start(run, Input::Nothing, true)?;
    let mut text = Vec::new();
    if let Some(output) = output {
        output.take(MAX_ANSWER).read_to_end(&mut text)?;
    }
    let (status, _said) = program.wait()?;
    Ok(status
        .success()
        .then(|| String::from_utf8_lossy(&text).into_owned()))
}

/// The values behind the names of `ethtool -i`, in the order of [`INFO`]'s labels.
fn driver(text: &str) -> Option<[String; 5]> {
    let of = |name: &str| {
        let mut lines = text.lines().filter_map(|line| line.split_once(':'));
        lines
            .find(|(key, _)| *key == name)
            .map(|(_, value)| value.trim().to_owned())
    };
    let found = [
        "bus-info",
        "driver",
        "expansion-rom-version",
        "firmware-version",
        "version",
    ]
    .map(of);
    found[1].as_ref()?;
    Some(found.map(Option::unwrap_or_default))
}

/// Reads what `ethtool DEVICE` says of the link.
fn link(text: &str, device: &mut Link) {
    let mut key = "";
    for line in text.lines().skip(1) {
        // Further modes stand below the first ones, without a key.
        let value = match line.trim().split_once(": ").or(line.trim().split_once(':')) {
            Some((begun, value)) => {
                key = begun;
                value.trim()
            }
            None => line.trim(),
        };
        let is = |word: &str| value.split_whitespace().any(|other| other == word);
        match key {
            "Auto-negotiation" => device.flags[0] = Some(value == "on"),
            "Supports auto-negotiation" => device.flags[1] = Some(value == "Yes"),
            "Advertised auto-negotiation" => device.flags[2] = Some(value == "Yes"),
            "Supported pause frame use" => {
                (device.flags[3], device.flags[5]) =
                    (Some(is("Symmetric")), Some(is("Receive-only")));
            }
            "Advertised pause frame use" => {
                (device.flags[4], device.flags[6]) = (
                    Some(is("Symmetric")),
                    Some(is("Receive-only") || is("Transmit-only")),
                );
            }
            "Supported link modes" | "Advertised link modes" => {
                for mode in value.split_whitespace() {
                    if let Some((speed, duplex, phy)) = mode_of(mode) {
                        let is_supported = key.starts_with('S');
                        device.speeds.push((is_supported, speed, duplex, phy));
                    }
                }
            }
            _ => {}
        }
    }
}

/// `1000baseT/Full`: bytes a second, duplex, mode.
fn mode_of(text: &str) -> Option<(f64, String, String)> {
    let (mode, duplex) = text.split_once('/')?;
    let megabits: f64 = mode.split_once("base")?.0.parse().ok()?;
    let duplex = duplex.to_ascii_lowercase();
    Some((megabits * 1e6 / 8.0, duplex, mode.to_owned()))
}

fn show(name: &str, device: &Link, batch: &mut Batch) {
    if let Some([bus, driver, rom, firmware, version]) = &device.info {
        let labels = [
            ("bus_info", bus.as_str()),
            ("device", name),
            ("driver", driver),
            ("expansion_rom_version", rom),
            ("firmware_version", firmware),
            ("version", version),
        ];
        batch.push(&INFO, &labels, 1.0);
    }
    for (desc, value) in FLAGS.iter().zip(device.flags) {
        if let Some(value) = value {
            batch.push(desc, &[("device", name)], f64::from(u8::from(value)));
        }
    }
    let mut seen = BTreeSet::new();
    for (is_supported, speed, duplex, mode) in &device.speeds {
        if seen.insert((is_supported, duplex, mode)) {
            let desc = if *is_supported {
                &SUPPORTED_SPEED
            } else {
                &ADVERTISED_SPEED
            };
            let labels = [
                ("device", name),
                ("duplex", duplex.as_str()),
                ("mode", mode),
            ];
            batch.push(desc, &labels, *speed);
        }
    }
}

/// The counters of `ethtool -S` as metrics: name, help, value. Of several that would have one name
/// the first is shown, as node_exporter does it.
fn counters(text: &str) -> Vec<(String, String, f64)> {
    static ODD: LazyLock<Regex> =
        LazyLock::new(|| Regex::new("[^0-9A-Za-z_]+").expect("a fixed pattern is valid"));
    static RECEIVED: LazyLock<Regex> =
        LazyLock::new(|| Regex::new("(^|_)rx(_|$)").expect("a fixed pattern is valid"));
    static SENT: LazyLock<Regex> =
        LazyLock::new(|| Regex::new("(^|_)tx(_|$)").expect("a fixed pattern is valid"));
    let (mut seen, mut found) = (BTreeSet::new(), Vec::new());
    for line in text.lines().skip(1) {
        let Some((name, value)) = line.trim().rsplit_once(':') else {
            continue;
        };
        let Ok(value) = value.trim().parse::<u64>() else {
            continue;
        };
        let common = COUNTERS.iter().find(|(common, _)| *common == name);
        let metric = common.map_or_else(
            || {
                let plain = ODD.replace_all(name, "_").to_ascii_lowercase();
                let plain = RECEIVED.replace_all(plain.trim_start_matches('_'), "${1}received${2}");
                let plain = SENT.replace_all(&plain, "${1}transmitted${2}");
                format!("node_ethtool_{plain}")
            },
            |(_, desc)| desc.name.to_owned(),
        );
        if seen.len() < MAX_COUNTERS && seen.insert(metric.clone()) {
            let about = common.map_or_else(
                || format!("Network interface {name}"),
                |(_, desc)| desc.help.to_owned(),
            );
            found.push((metric, about, value as f64));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_have_node_exporters_names() {
        let text = "NIC statistics:\n     rx_bytes: 12\n     rx_kicks: 3\n     tx_tx_timeouts: 4\n     tx0_xdp_tx: 5\n     [0]: rx-Missed: 6\n     rx_0: x\n     rx_kicks: 9\n";
        let names: Vec<_> = counters(text)
            .into_iter()
            .map(|(name, _, value)| (name, value))
            .collect();
        let wanted = [
            ("node_ethtool_received_bytes_total", 12.0),
            ("node_ethtool_received_kicks", 3.0),
            ("node_ethtool_transmitted_tx_timeouts", 4.0),
            ("node_ethtool_tx0_xdp_transmitted", 5.0),
            ("node_ethtool_0_received_missed", 6.0),
        ];
        assert_eq!(names, wanted.map(|(name, value)| (name.to_owned(), value)));
    }

    #[test]
    fn a_link_and_its_driver_are_read() {
        let text = "Settings for eth0:\n\tSupported ports: [ TP ]\n\tSupported link modes:   10baseT/Half 10baseT/Full\n\t                        1000baseT/Full\n\tSupported pause frame use: Symmetric Receive-only\n\tSupports auto-negotiation: Yes\n\tAdvertised link modes:  1000baseT/Full\n\tAdvertised pause frame use: No\n\tAdvertised auto-negotiation: Yes\n\tSpeed: 1000Mb/s\n\tAuto-negotiation: on\n\tLink detected: yes\n";
        let mut device = Link::default();
        link(text, &mut device);
        let flags = [true, true, true, true, false, true, false].map(Some);
        assert_eq!(device.flags, flags);
        let speeds: Vec<_> = device
            .speeds
            .iter()
            .map(|(is_supported, speed, duplex, mode)| {
                (*is_supported, *speed, duplex.as_str(), mode.as_str())
            })
            .collect();
        let wanted = [
            (true, 1.25e6, "half", "10baseT"),
            (true, 1.25e6, "full", "10baseT"),
            (true, 1.25e8, "full", "1000baseT"),
            (false, 1.25e8, "full", "1000baseT"),
        ];
        assert_eq!(speeds, wanted);
        let text = "driver: e1000e\nversion: 6.1\nfirmware-version: 0.13-4\nexpansion-rom-version: \nbus-info: 0000:00:1f.6\n";
        let wanted = ["0000:00:1f.6", "e1000e", "", "0.13-4", "6.1"];
        assert_eq!(driver(text), Some(wanted.map(str::to_owned)));
        assert_eq!(driver("Cannot get driver information"), None);
    }
}
