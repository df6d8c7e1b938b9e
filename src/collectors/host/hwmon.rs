//! Sensors: `/sys/class/hwmon` (`Documentation/hwmon/sysfs-interface.rst`) and
//! `/sys/class/thermal`.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use crate::model::{MetricDesc, MetricKind};

use super::kernel::{Kernel, PartError, names};
use super::part::{Context, Lane, Part, find, gauge};
use super::scan::whole;

/// Temperatures, fans, voltages. Further names come from the driver's files.
pub const HWMON: Part = Part {
    name: "hwmon",
    default: true,
    lane: Lane::Device,
    metrics: SENSORS,
    read: read_hwmon,
};
/// Thermal zones and what cools them.
pub const THERMAL: Part = Part {
    name: "thermal_zone",
    default: true,
    lane: Lane::Device,
    metrics: &[ZONE, COOLING, COOLING_MAX],
    read: read_thermal,
};

const CHIP: &[&str] = &["chip", "sensor"];
const CHIP_NAMES: MetricDesc = gauge(
    "node_hwmon_chip_names",
    "",
    "What the driver calls the chip, always 1.",
    &["chip", "chip_name"],
    "hwmonN/name",
);
const SENSOR_LABEL: MetricDesc = gauge(
    "node_hwmon_sensor_label",
    "",
    "What the driver calls the sensor, always 1.",
    &["chip", "label", "sensor"],
    "hwmonN/*_label",
);
/// Sorted by name.
const SENSORS: &[MetricDesc] = &[
    CHIP_NAMES,
    gauge(
        "node_hwmon_curr_amps",
        "amperes",
        "Current.",
        CHIP,
        "hwmonN/currN_input",
    ),
    gauge(
        "node_hwmon_fan_alarm",
        "",
        "1 when the fan's alarm is on.",
        CHIP,
        "hwmonN/fanN_alarm",
    ),
    gauge(
        "node_hwmon_fan_max_rpm",
        "",
        "Highest speed of the fan, in turns a minute.",
        CHIP,
        "hwmonN/fanN_max",
    ),
    gauge(
        "node_hwmon_fan_min_rpm",
        "",
        "Lowest speed of the fan, in turns a minute.",
        CHIP,
        "hwmonN/fanN_min",
    ),
    gauge(
        "node_hwmon_fan_rpm",
        "",
        "Speed of the fan, in turns a minute.",
        CHIP,
        "hwmonN/fanN_input",
    ),
    gauge(
        "node_hwmon_in_volts",
        "volts",
        "Voltage.",
        CHIP,
        "hwmonN/inN_input",
    ),
    gauge(
        "node_hwmon_power_watt",
        "watts",
        "Power.",
        CHIP,
        "hwmonN/powerN_input",
    ),
    gauge(
        "node_hwmon_pwm",
        "",
        "Drive of the fan, 0 to 255.",
        CHIP,
        "hwmonN/pwmN",
    ),
    SENSOR_LABEL,
    gauge(
        "node_hwmon_temp_alarm",
        "",
        "1 when the temperature's alarm is on.",
        CHIP,
        "hwmonN/tempN_alarm",
    ),
    gauge(
        "node_hwmon_temp_celsius",
        "celsius",
        "Temperature.",
        CHIP,
        "hwmonN/tempN_input",
    ),
    gauge(
        "node_hwmon_temp_crit_alarm_celsius",
        "celsius",
        "A thousandth when the critical alarm is on: an alarm under the name that dashboards know.",
        CHIP,
        "hwmonN/tempN_crit_alarm",
    ),
    gauge(
        "node_hwmon_temp_crit_celsius",
        "celsius",
        "Critical temperature.",
        CHIP,
        "hwmonN/tempN_crit",
    ),
    gauge(
        "node_hwmon_temp_crit_hyst_celsius",
        "celsius",
        "Where the critical state ends.",
        CHIP,
        "hwmonN/tempN_crit_hyst",
    ),
    gauge(
        "node_hwmon_temp_max_celsius",
        "celsius",
        "High temperature.",
        CHIP,
        "hwmonN/tempN_max",
    ),
];
const TYPES: [&str; 13] = [
    "vrm",
    "beep_enable",
    "update_interval",
    "in",
    "cpu",
    "fan",
    "pwm",
    "temp",
    "curr",
    "power",
    "energy",
    "humidity",
    "intrusion",
];
const ZONE: MetricDesc = gauge(
    "node_thermal_zone_temp",
    "celsius",
    "Temperature of the zone.",
    &["type", "zone"],
    "/sys/class/thermal/thermal_zoneN/temp",
);
const COOLING: MetricDesc = gauge(
    "node_cooling_device_cur_state",
    "",
    "How hard it cools.",
    &["name", "type"],
    "/sys/class/thermal/cooling_deviceN/cur_state",
);
const COOLING_MAX: MetricDesc = gauge(
    "node_cooling_device_max_state",
    "",
    "How hard it can cool.",
    &["name", "type"],
    "/sys/class/thermal/cooling_deviceN/max_state",
);

/// `temp1` to its properties (`input`, `max`, `label`, …) as text.
type Sensors = BTreeMap<String, BTreeMap<String, String>>;

fn read_hwmon(context: &mut Context<'_>) -> Result<(), PartError> {
    let class = context.kernel.in_sys("class/hwmon");
    let (all, mut seen) = (names(&class)?, HashSet::new());
    context.memory.omitted = Some(all.len().saturating_sub(context.settings.max_objects));
    for name in all.iter().take(context.settings.max_objects) {
        read_chip(context, &class.join(name), &mut seen);
    }
    Ok(())
}

fn read_chip(context: &mut Context<'_>, folder: &Path, seen: &mut HashSet<String>) {
    let mut chip = chip_label(context.kernel, folder);
    let driver = context.kernel.text(&folder.join("name")).map(clean);
    // One device may have several chips; the second is distinguished by its driver, or else by the
    // folder.
    if seen.contains(&chip) {
        let own = folder
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let names = [driver.clone().unwrap_or_default(), own];
        let apart = names
            .iter()
            .filter(|name| !name.is_empty())
            .map(|name| format!("{chip}_{name}"))
            .find(|label| !seen.contains(label));
        chip = apart.unwrap_or(chip);
    }
    seen.insert(chip.clone());
    if let Some(name) = driver {
        context
            .batch
            .push(&CHIP_NAMES, &[("chip", &chip), ("chip_name", &name)], 1.0);
    }
    let mut sensors = Sensors::new();
    gather(context.kernel, folder, &mut sensors);
    gather(context.kernel, &folder.join("device"), &mut sensors);
    for (sensor, properties) in &sensors {
        if let Some(label) = properties.get("label") {
            context.batch.push(
                &SENSOR_LABEL,
                &[("chip", &chip), ("label", label), ("sensor", sensor)],
                1.0,
            );
        }
        let kind = sensor.trim_end_matches(|c: char| c.is_ascii_digit());
        for (property, text) in properties
            .iter()
            .filter(|(property, _)| *property != "label")
        {
            let Ok(value) = text.parse::<f64>() else {
                continue;
            };
            let (name, scale) = name_of(kind, property, properties.contains_key(""));
            let labels = [("chip", chip.as_str()), ("sensor", sensor.as_str())];
            match find(SENSORS, &name) {
                Some(desc) => context.batch.push(desc, &labels, value / scale),
                None => {
                    let metric = if name.ends_with("_total") {
                        MetricKind::Counter
                    } else {
                        MetricKind::Gauge
                    };
                    context.batch.push_named(
                        &name,
                        metric,
                        "A sensor, as its driver names it.",
                        &labels,
                        value / scale,
                    );
                }
            }
        }
    }
}

/// The name that node_exporter gives to a property, and by what its number is divided.
fn name_of(kind: &str, property: &str, has_bare: bool) -> (String, f64) {
    let mut name = format!("node_hwmon_{kind}");
    match kind {
        "beep_enable" => return ("node_hwmon_beep_enabled".into(), 1.0),
        "vrm" => return ("node_hwmon_voltage_regulator_version".into(), 1.0),
        "update_interval" => return ("node_hwmon_update_interval_seconds".into(), 1000.0),
        _ => {}
    }
    if property == "input" {
        if has_bare {
            name.push_str("_input");
        }
    } else if !property.is_empty() {
        name.push('_');
        name.push_str(&clean(property));
    }
    let (suffix, scale) = match (kind, property) {
        (_, "fault" | "alarm") => ("", 1.0),
        (_, "beep") => ("_enabled", 1.0),
        ("in" | "cpu", _) => ("_volts", 1000.0),
        ("temp", property) if property != "type" => ("_celsius", 1000.0),
        ("curr", _) => ("_amps", 1000.0),
        ("energy", _) => ("_joule_total", 1e6),
        ("power", "accuracy") => ("", 1e6),
        ("power", "average_interval" | "average_interval_min" | "average_interval_max") => {
            ("_seconds", 1000.0)
        }
        ("power", _) => ("_watt", 1e6),
        ("humidity", _) => ("", 1e6),
        ("fan", "input" | "min" | "max" | "target") => ("_rpm", 1.0),
        _ => ("", 1.0),
    };
    name.push_str(suffix);
    (name, scale)
}

fn gather(kernel: &mut Kernel, folder: &Path, sensors: &mut Sensors) {
    for file in names(folder).unwrap_or_default() {
        let Some((sensor, property)) = sensor_of(&file) else {
            continue;
        };
        if let Some(value) = kernel.text(&folder.join(&file)).map(str::to_owned) {
            sensors.entry(sensor).or_default().insert(property, value);
        }
    }
}

/// `temp1_crit_alarm` is the property `crit_alarm` of the sensor `temp1`.
fn sensor_of(file: &str) -> Option<(String, String)> {
    let kind = TYPES.iter().find(|kind| {
        file.strip_prefix(**kind).is_some_and(|r| {
            r.is_empty() || r.starts_with(|c: char| c.is_ascii_digit() || c == '_')
        })
    })?;
    let rest = &file[kind.len()..];
    let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let number = if digits == 0 { "0" } else { &rest[..digits] };
    let property = match &rest[digits..] {
        "" => "",
        tail => tail.strip_prefix('_')?,
    };
    Some((format!("{kind}{number}"), property.to_owned()))
}

/// The device's bus and name, which are unique; else the driver's name; else `hwmonN`.
fn chip_label(kernel: &mut Kernel, folder: &Path) -> String {
    if let Ok(device) = folder.join("device").canonicalize() {
        let part = |path: Option<&Path>| {
            path.and_then(Path::file_name)
                .map(|n| clean(&n.to_string_lossy()))
                .unwrap_or_default()
        };
        let (name, bus) = (part(Some(&device)), part(device.parent()));
        match (bus.is_empty(), name.is_empty()) {
            (false, false) => return format!("{bus}_{name}"),
            (true, false) => return name,
            _ => {}
        }
    }
    if let Some(name) = kernel
        .text(&folder.join("name"))
        .map(clean)
        .filter(|name| !name.is_empty())
    {
        return name;
    }
    let real = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
    clean(&real.file_name().unwrap_or_default().to_string_lossy())
}

/// Lower case; everything but letters, digits, `:` and `_` becomes `_`.
fn clean(text: &str) -> String {
    let lower = text.trim().to_lowercase();
    let replaced: String = lower
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || c == ':' || c == '_' {
                c
            } else {
                '_'
            }
        })
        .collect();
    replaced.trim_matches('_').to_owned()
}

fn read_thermal(context: &mut Context<'_>) -> Result<(), PartError> {
    let class = context.kernel.in_sys("class/thermal");
    let all = names(&class)?;
    if all.is_empty() {
        return Err(PartError::Absent);
    }
    for name in all.iter().take(context.settings.max_objects) {
        let folder = class.join(name);
        let kind = context
            .kernel
            .text(&folder.join("type"))
            .unwrap_or_default()
            .to_owned();
        if let Some(zone) = name
            .strip_prefix("thermal_zone")
            .filter(|id| whole(id.as_bytes()).is_some())
        {
            if let Some(value) = context.kernel.number(&folder.join("temp")) {
                context
                    .batch
                    .push(&ZONE, &[("type", &kind), ("zone", zone)], value / 1000.0);
            }
        } else if let Some(device) = name
            .strip_prefix("cooling_device")
            .filter(|id| whole(id.as_bytes()).is_some())
        {
            for (desc, file) in [(&COOLING, "cur_state"), (&COOLING_MAX, "max_state")] {
                if let Some(value) = context.kernel.number(&folder.join(file)) {
                    context
                        .batch
                        .push(desc, &[("name", device), ("type", &kind)], value);
                }
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sensor_files_become_the_established_names() {
        for (file, sensor, property, name, scale) in [
            (
                "temp1_input",
                "temp1",
                "input",
                "node_hwmon_temp_celsius",
                1000.0,
            ),
            (
                "temp1_crit_alarm",
                "temp1",
                "crit_alarm",
                "node_hwmon_temp_crit_alarm_celsius",
                1000.0,
            ),
            (
                "temp2_alarm",
                "temp2",
                "alarm",
                "node_hwmon_temp_alarm",
                1.0,
            ),
            ("fan1_input", "fan1", "input", "node_hwmon_fan_rpm", 1.0),
            ("fan1_min", "fan1", "min", "node_hwmon_fan_min_rpm", 1.0),
            ("in0_input", "in0", "input", "node_hwmon_in_volts", 1000.0),
            (
                "power1_average",
                "power1",
                "average",
                "node_hwmon_power_average_watt",
                1e6,
            ),
            ("pwm1", "pwm1", "", "node_hwmon_pwm", 1.0),
        ] {
            assert_eq!(
                sensor_of(file),
                Some((sensor.to_owned(), property.to_owned())),
                "{file}"
            );
            let kind = sensor.trim_end_matches(|c: char| c.is_ascii_digit());
            assert_eq!(
                name_of(kind, property, false),
                (name.to_owned(), scale),
                "{file}"
            );
        }
        for file in ["name", "uevent", "power", "intel", "temp1x", "device"] {
            assert!(
                sensor_of(file).is_none_or(|(_, property)| property.is_empty()),
                "{file}"
            );
        }
    }
}
