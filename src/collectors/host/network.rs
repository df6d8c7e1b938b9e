//! Network interfaces: `/proc/net/dev`, `/sys/class/net` and bonding
//! (`Documentation/ABI/testing/sysfs-class-net`).

use std::path::Path;

use crate::model::MetricDesc;

use super::kernel::{Kernel, PartError, names};
use super::part::{Context, Lane, Part, counter, gauge};
use super::scan::{lines, split_once, text, whole, words};

/// Traffic.
pub const NETDEV: Part = Part {
    name: "netdev",
    default: true,
    lane: Lane::Kernel,
    metrics: &TRAFFIC,
    read: read_netdev,
};
/// Attributes.
pub const NETCLASS: Part = Part {
    name: "netclass",
    default: true,
    lane: Lane::Kernel,
    metrics: &CLASS,
    read: read_netclass,
};
/// Bonded interfaces.
pub const BONDING: Part = Part {
    name: "bonding",
    default: true,
    lane: Lane::Kernel,
    metrics: &[SLAVES, ACTIVE],
    read: read_bonding,
};

const fn traffic(name: &'static str, unit: &'static str, help: &'static str) -> MetricDesc {
    counter(name, unit, help, &["device"], "/proc/net/dev")
}

/// In the order of the columns of `/proc/net/dev`; the last one comes from sysfs.
const TRAFFIC: [MetricDesc; 17] = [
    traffic(
        "node_network_receive_bytes_total",
        "bytes",
        "Bytes received.",
    ),
    traffic(
        "node_network_receive_packets_total",
        "",
        "Packets received.",
    ),
    traffic(
        "node_network_receive_errs_total",
        "",
        "Packets received with errors.",
    ),
    traffic(
        "node_network_receive_drop_total",
        "",
        "Packets dropped on reception.",
    ),
    traffic(
        "node_network_receive_fifo_total",
        "",
        "Overruns of the receive queue.",
    ),
    traffic("node_network_receive_frame_total", "", "Framing errors."),
    traffic(
        "node_network_receive_compressed_total",
        "",
        "Compressed packets received.",
    ),
    traffic(
        "node_network_receive_multicast_total",
        "",
        "Multicast packets received.",
    ),
    traffic("node_network_transmit_bytes_total", "bytes", "Bytes sent."),
    traffic("node_network_transmit_packets_total", "", "Packets sent."),
    traffic(
        "node_network_transmit_errs_total",
        "",
        "Packets not sent for errors.",
    ),
    traffic(
        "node_network_transmit_drop_total",
        "",
        "Packets dropped before sending.",
    ),
    traffic(
        "node_network_transmit_fifo_total",
        "",
        "Overruns of the send queue.",
    ),
    traffic("node_network_transmit_colls_total", "", "Collisions."),
    traffic(
        "node_network_transmit_carrier_total",
        "",
        "Losses of the carrier while sending.",
    ),
    traffic(
        "node_network_transmit_compressed_total",
        "",
        "Compressed packets sent.",
    ),
    counter(
        "node_network_receive_nohandler_total",
        "",
        "Packets that no protocol wanted.",
        &["device"],
        "/sys/class/net/DEVICE/statistics/rx_nohandler",
    ),
];

const fn attribute(name: &'static str, help: &'static str, source: &'static str) -> MetricDesc {
    gauge(name, "", help, &["device"], source)
}

const fn changes(name: &'static str, help: &'static str, source: &'static str) -> MetricDesc {
    counter(name, "", help, &["device"], source)
}

/// [`INFO`] and [`UP`], then one for each of [`CLASS_FILES`].
const CLASS: [MetricDesc; 19] = [
    INFO,
    UP,
    attribute(
        "node_network_address_assign_type",
        "How the address was given (0: burnt in, 1: random, 3: set).",
        "addr_assign_type",
    ),
    attribute(
        "node_network_carrier",
        "1 when there is a carrier.",
        "carrier",
    ),
    changes(
        "node_network_carrier_changes_total",
        "Changes of the carrier.",
        "carrier_changes",
    ),
    changes(
        "node_network_carrier_up_changes_total",
        "How often the carrier came.",
        "carrier_up_count",
    ),
    changes(
        "node_network_carrier_down_changes_total",
        "How often the carrier went.",
        "carrier_down_count",
    ),
    attribute(
        "node_network_device_id",
        "Number that tells functions of one device apart.",
        "dev_id",
    ),
    attribute(
        "node_network_dormant",
        "1 when the interface waits for something before it may be used.",
        "dormant",
    ),
    attribute("node_network_flags", "Flags (IFF_*).", "flags"),
    attribute(
        "node_network_iface_id",
        "Index of the interface.",
        "ifindex",
    ),
    attribute(
        "node_network_iface_link",
        "Index of the interface that this one stands on.",
        "iflink",
    ),
    attribute(
        "node_network_iface_link_mode",
        "Link mode (0: default, 1: dormant).",
        "link_mode",
    ),
    gauge(
        "node_network_mtu_bytes",
        "bytes",
        "Greatest size of a packet.",
        &["device"],
        "mtu",
    ),
    attribute(
        "node_network_name_assign_type",
        "How the name was given.",
        "name_assign_type",
    ),
    attribute(
        "node_network_net_dev_group",
        "Group of the interface.",
        "netdev_group",
    ),
    gauge(
        "node_network_speed_bytes",
        "bytes",
        "Speed of the link, in bytes a second; negative when it is not known.",
        &["device"],
        "speed",
    ),
    attribute(
        "node_network_transmit_queue_length",
        "Greatest length of the send queue.",
        "tx_queue_len",
    ),
    attribute(
        "node_network_protocol_type",
        "Protocol type (ARPHRD_*).",
        "type",
    ),
];
const CLASS_FILES: [&str; 17] = [
    "addr_assign_type",
    "carrier",
    "carrier_changes",
    "carrier_up_count",
    "carrier_down_count",
    "dev_id",
    "dormant",
    "flags",
    "ifindex",
    "iflink",
    "link_mode",
    "mtu",
    "name_assign_type",
    "netdev_group",
    "speed",
    "tx_queue_len",
    "type",
];
const INFO: MetricDesc = gauge(
    "node_network_info",
    "",
    "What the interface is, always 1.",
    &[
        "address",
        "adminstate",
        "broadcast",
        "device",
        "duplex",
        "ifalias",
        "operstate",
    ],
    "/sys/class/net/DEVICE",
);
const UP: MetricDesc = attribute(
    "node_network_up",
    "1 when the interface is up.",
    "/sys/class/net/DEVICE/operstate",
);
const SLAVES: MetricDesc = gauge(
    "node_bonding_slaves",
    "",
    "Configured members of the bond.",
    &["master"],
    "bonding/slaves",
);
const ACTIVE: MetricDesc = gauge(
    "node_bonding_active",
    "",
    "Members of the bond whose link is up.",
    &["master"],
    "bonding_slave/mii_status",
);

fn read_netdev(context: &mut Context<'_>) -> Result<(), PartError> {
    let (mut devices, mut omitted) = (Vec::new(), 0);
    for line in lines(context.kernel.proc("net/dev")?).skip(2) {
        let Some((device, fields)) = split_once(line, b':') else {
            context.memory.lines.odd += 1;
            continue;
        };
        let device = text(device.trim_ascii()).into_owned();
        if context.settings.interfaces_exclude.is_match(&device) {
            continue;
        }
        if devices.len() == context.settings.max_objects {
            omitted += 1;
            continue;
        }
        // All of a line or nothing: a column that is left out would move the others.
        let values: Option<Vec<u64>> = words(fields).map(whole).collect();
        let Some(values) = context.memory.lines.take(values) else {
            continue;
        };
        for (desc, value) in TRAFFIC.iter().zip(values) {
            context
                .batch
                .push(desc, &[("device", &device)], value as f64);
        }
        devices.push(device);
    }
    context.memory.omitted = Some(omitted);
    let class = context.kernel.in_sys("class/net");
    for device in devices {
        if let Some(value) = context
            .kernel
            .number(&class.join(&device).join("statistics/rx_nohandler"))
        {
            context
                .batch
                .push(&TRAFFIC[16], &[("device", &device)], value);
        }
    }
    Ok(())
}

fn read_netclass(context: &mut Context<'_>) -> Result<(), PartError> {
    let class = context.kernel.in_sys("class/net");
    let devices = names(&class)?.into_iter().filter(|name| {
        !context.settings.interfaces_exclude.is_match(name) && name != "bonding_masters"
    });
    for device in devices.take(context.settings.max_objects) {
        read_interface(context, &class.join(&device), &device);
    }
    Ok(())
}

fn read_interface(context: &mut Context<'_>, folder: &Path, device: &str) {
    let kernel = &mut *context.kernel;
    let mut text = |file: &str| {
        kernel
            .text(&folder.join(file))
            .unwrap_or_default()
            .to_owned()
    };
    let (address, broadcast, duplex) = (text("address"), text("broadcast"), text("duplex"));
    let (alias, state) = (text("ifalias"), text("operstate"));
    let mut admin = "unknown";
    for (desc, file) in CLASS[2..].iter().zip(CLASS_FILES) {
        let Some(mut value) = kernel.number(&folder.join(file)) else {
            continue;
        };
        match file {
            // Megabits a second.
            "speed" => value *= 125_000.0,
            "flags" => {
                admin = if (value as u64) & 1 == 1 {
                    "up"
                } else {
                    "down"
                }
            }
            _ => {}
        }
        context.batch.push(desc, &[("device", device)], value);
    }
    context.batch.push(
        &UP,
        &[("device", device)],
        f64::from(u8::from(state == "up")),
    );
    let labels = [
        ("address", address.as_str()),
        ("adminstate", admin),
        ("broadcast", &broadcast),
        ("device", device),
        ("duplex", &duplex),
        ("ifalias", &alias),
        ("operstate", &state),
    ];
    context.batch.push(&INFO, &labels, 1.0);
}

fn read_bonding(context: &mut Context<'_>) -> Result<(), PartError> {
    let class = context.kernel.in_sys("class/net");
    let masters = text(context.kernel.once(&class.join("bonding_masters"))?).into_owned();
    for master in masters
        .split_ascii_whitespace()
        .take(context.settings.max_objects)
    {
        let folder = class.join(master);
        let Some(slaves) = context
            .kernel
            .text(&folder.join("bonding/slaves"))
            .map(str::to_owned)
        else {
            continue;
        };
        let (mut all, mut active) = (0.0, 0.0);
        for slave in slaves.split_ascii_whitespace() {
            all += 1.0;
            active += f64::from(u8::from(slave_is_up(context.kernel, &folder, slave)));
        }
        context.batch.push(&SLAVES, &[("master", master)], all);
        context.batch.push(&ACTIVE, &[("master", master)], active);
    }
    Ok(())
}

/// Older kernels call the link to a member `slave_NAME`.
fn slave_is_up(kernel: &mut Kernel, master: &Path, slave: &str) -> bool {
    ["lower", "slave"].iter().any(|prefix| {
        let file = master.join(format!("{prefix}_{slave}/bonding_slave/mii_status"));
        kernel.text(&file).is_some_and(|status| status == "up")
    })
}
