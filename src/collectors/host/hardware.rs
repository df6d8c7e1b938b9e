//! Power supplies, memory controllers and NVMe disks: `/sys/class/power_supply`,
//! `/sys/devices/system/edac`, `/sys/class/nvme`.

use crate::model::MetricDesc;

use super::kernel::{PartError, names};
use super::part::{Context, Lane, Part, counter, gauge};
use super::scan::whole;

/// Batteries and mains.
pub const POWER: Part = Part {
    name: "powersupplyclass",
    default: true,
    lane: Lane::Device,
    metrics: &SUPPLIES,
    read: read_power,
};
/// Memory errors.
pub const EDAC: Part = Part {
    name: "edac",
    default: true,
    lane: Lane::Device,
    metrics: &ERRORS,
    read: read_edac,
};
/// NVMe disks.
pub const NVME: Part = Part {
    name: "nvme",
    default: true,
    lane: Lane::Device,
    metrics: &[NVME_INFO],
    read: read_nvme,
};

const fn supply(
    name: &'static str,
    unit: &'static str,
    help: &'static str,
    source: &'static str,
) -> MetricDesc {
    gauge(name, unit, help, &["power_supply"], source)
}

/// One for each of [`SUPPLY_FILES`], then the description.
const SUPPLIES: [MetricDesc; 14] = [
    supply(
        "node_power_supply_online",
        "",
        "1 when it gives power.",
        "online",
    ),
    supply(
        "node_power_supply_present",
        "",
        "1 when it is there.",
        "present",
    ),
    supply(
        "node_power_supply_capacity",
        "",
        "Charge in percent.",
        "capacity",
    ),
    supply(
        "node_power_supply_cyclecount",
        "",
        "Charging cycles.",
        "cycle_count",
    ),
    supply(
        "node_power_supply_energy_full",
        "",
        "Energy when full, in watt-hours.",
        "energy_full",
    ),
    supply(
        "node_power_supply_energy_full_design",
        "",
        "Energy when full and new, in watt-hours.",
        "energy_full_design",
    ),
    supply(
        "node_power_supply_energy_watthour",
        "",
        "Energy now, in watt-hours.",
        "energy_now",
    ),
    supply(
        "node_power_supply_power_watt",
        "watts",
        "Power now.",
        "power_now",
    ),
    supply(
        "node_power_supply_voltage_min_design",
        "volts",
        "Lowest voltage by design.",
        "voltage_min_design",
    ),
    supply(
        "node_power_supply_voltage_volt",
        "volts",
        "Voltage now.",
        "voltage_now",
    ),
    supply(
        "node_power_supply_current_ampere",
        "amperes",
        "Current now.",
        "current_now",
    ),
    supply(
        "node_power_supply_charge_ampere",
        "",
        "Charge now, in ampere-hours.",
        "charge_now",
    ),
    supply(
        "node_power_supply_temp_celsius",
        "celsius",
        "Temperature.",
        "temp",
    ),
    SUPPLY_INFO,
];
/// File below the supply's folder and by what its number is divided.
const SUPPLY_FILES: [(&str, f64); 13] = [
    ("online", 1.0),
    ("present", 1.0),
    ("capacity", 1.0),
    ("cycle_count", 1.0),
    ("energy_full", 1e6),
    ("energy_full_design", 1e6),
    ("energy_now", 1e6),
    ("power_now", 1e6),
    ("voltage_min_design", 1e6),
    ("voltage_now", 1e6),
    ("current_now", 1e6),
    ("charge_now", 1e6),
    ("temp", 10.0),
];
const SUPPLY_INFO: MetricDesc = gauge(
    "node_power_supply_info",
    "",
    "What the power supply is, always 1.",
    &[
        "capacity_level",
        "manufacturer",
        "model_name",
        "power_supply",
        "serial_number",
        "status",
        "technology",
        "type",
    ],
    "/sys/class/power_supply/NAME",
);

const fn errors(
    name: &'static str,
    help: &'static str,
    labels: &'static [&'static str],
    source: &'static str,
) -> MetricDesc {
    counter(name, "", help, labels, source)
}

const ERRORS: [MetricDesc; 4] = [
    errors(
        "node_edac_correctable_errors_total",
        "Memory errors that were corrected.",
        &["controller"],
        "mcN/ce_count",
    ),
    errors(
        "node_edac_uncorrectable_errors_total",
        "Memory errors that could not be corrected.",
        &["controller"],
        "mcN/ue_count",
    ),
    errors(
        "node_edac_csrow_correctable_errors_total",
        "Memory errors that were corrected, for each row of chips.",
        &["controller", "csrow"],
        "mcN/csrowN/ce_count",
    ),
    errors(
        "node_edac_csrow_uncorrectable_errors_total",
        "Memory errors that could not be corrected, for each row of chips.",
        &["controller", "csrow"],
        "mcN/csrowN/ue_count",
    ),
];
const NVME_INFO: MetricDesc = gauge(
    "node_nvme_info",
    "",
    "What the NVMe disk is, always 1.",
    &[
        "cntlid",
        "device",
        "firmware_revision",
        "model",
        "serial",
        "state",
    ],
    "/sys/class/nvme/DEVICE",
);

fn read_power(context: &mut Context<'_>) -> Result<(), PartError> {
    let class = context.kernel.in_sys("class/power_supply");
    let all = names(&class)?;
    if all.is_empty() {
        return Err(PartError::Absent);
    }
    for name in all.iter().take(context.settings.max_objects) {
        let folder = class.join(name);
        for (desc, (file, scale)) in SUPPLIES.iter().zip(SUPPLY_FILES) {
            if let Some(value) = context.kernel.number(&folder.join(file)) {
                context
                    .batch
                    .push(desc, &[("power_supply", name)], value / scale);
            }
        }
        let mut labels = Vec::new();
        for label in SUPPLY_INFO.labels {
            if let Some(value) = context.kernel.text(&folder.join(label)) {
                labels.push((*label, value.to_owned()));
            }
        }
        let mut pairs: Vec<(&str, &str)> = labels
            .iter()
            .map(|(label, value)| (*label, value.as_str()))
            .collect();
        pairs.push(("power_supply", name));
        context.batch.push(&SUPPLY_INFO, &pairs, 1.0);
    }
    Ok(())
}

fn read_edac(context: &mut Context<'_>) -> Result<(), PartError> {
    let folder = context.kernel.in_sys("devices/system/edac/mc");
    let mut found = false;
    for controller in names(&folder)?
        .iter()
        .filter_map(|name| name.strip_prefix("mc"))
        .filter(|id| whole(id.as_bytes()).is_some())
    {
        found = true;
        let own = folder.join(format!("mc{controller}"));
        for (row, files) in [
            (None, ["ce_count", "ue_count"]),
            (Some("unknown"), ["ce_noinfo_count", "ue_noinfo_count"]),
        ] {
            push_errors(context, &own, controller, row, files);
        }
        for row in names(&own)?
            .iter()
            .filter_map(|name| name.strip_prefix("csrow"))
            .filter(|id| whole(id.as_bytes()).is_some())
        {
            push_errors(
                context,
                &own.join(format!("csrow{row}")),
                controller,
                Some(row),
                ["ce_count", "ue_count"],
            );
        }
    }
    if found {
        Ok(())
    } else {
        Err(PartError::Absent)
    }
}

fn push_errors(
    context: &mut Context<'_>,
    folder: &std::path::Path,
    controller: &str,
    row: Option<&str>,
    files: [&str; 2],
) {
    for (index, file) in files.iter().enumerate() {
        let Some(value) = context.kernel.number(&folder.join(file)) else {
            continue;
        };
        match row {
            None => context
                .batch
                .push(&ERRORS[index], &[("controller", controller)], value),
            Some(row) => context.batch.push(
                &ERRORS[2 + index],
                &[("controller", controller), ("csrow", row)],
                value,
            ),
        }
    }
}

fn read_nvme(context: &mut Context<'_>) -> Result<(), PartError> {
    let class = context.kernel.in_sys("class/nvme");
    for device in names(&class)?.iter().take(context.settings.max_objects) {
        let folder = class.join(device);
        let mut text = |file: &str| {
            context
                .kernel
                .text(&folder.join(file))
                .unwrap_or_default()
                .to_owned()
        };
        let (cntlid, firmware, model) = (text("cntlid"), text("firmware_rev"), text("model"));
        let (serial, state) = (text("serial"), text("state"));
        let labels = [
            ("cntlid", cntlid.as_str()),
            ("device", device),
            ("firmware_revision", &firmware),
            ("model", &model),
            ("serial", &serial),
            ("state", &state),
        ];
        context.batch.push(&NVME_INFO, &labels, 1.0);
    }
    Ok(())
}
