//! What the machine is: `uname(2)`, `os-release(5)`, the firmware's tables (`/sys/class/dmi/id`).

use crate::model::MetricDesc;

use super::kernel::PartError;
use super::part::{Context, Lane, Part, gauge};

/// The kernel.
pub const UNAME: Part = Part {
    name: "uname",
    default: true,
    lane: Lane::Kernel,
    metrics: &[UNAME_INFO],
    read: read_uname,
};
/// The distribution.
pub const OS: Part = Part {
    name: "os",
    default: true,
    lane: Lane::Kernel,
    metrics: &[OS_INFO, OS_VERSION, SUPPORT_END],
    read: read_os,
};
/// The hardware.
pub const DMI: Part = Part {
    name: "dmi",
    default: true,
    lane: Lane::Device,
    metrics: &[DMI_INFO],
    read: read_dmi,
};

const UNAME_INFO: MetricDesc = gauge(
    "node_uname_info",
    "",
    "What uname tells, always 1.",
    &[
        "domainname",
        "machine",
        "nodename",
        "release",
        "sysname",
        "version",
    ],
    "uname(2)",
);
const OS_INFO: MetricDesc = gauge(
    "node_os_info",
    "",
    "What os-release tells, always 1.",
    &[
        "build_id",
        "id",
        "id_like",
        "image_id",
        "image_version",
        "name",
        "pretty_name",
        "variant",
        "variant_id",
        "version",
        "version_codename",
        "version_id",
    ],
    "/etc/os-release",
);
const OS_VERSION: MetricDesc = gauge(
    "node_os_version",
    "",
    "Major and minor version of the system.",
    &["id", "id_like", "name"],
    "/etc/os-release VERSION_ID",
);
const SUPPORT_END: MetricDesc = gauge(
    "node_os_support_end_timestamp_seconds",
    "seconds",
    "When support ends, as Unix time.",
    &[],
    "/etc/os-release SUPPORT_END",
);
const DMI_INFO: MetricDesc = gauge(
    "node_dmi_info",
    "",
    "What the firmware tells of the hardware, always 1.",
    &[
        "bios_date",
        "bios_release",
        "bios_vendor",
        "bios_version",
        "board_asset_tag",
        "board_name",
        "board_serial",
        "board_vendor",
        "board_version",
        "chassis_asset_tag",
        "chassis_serial",
        "chassis_vendor",
        "chassis_version",
        "product_family",
        "product_name",
        "product_serial",
        "product_sku",
        "product_uuid",
        "product_version",
        "system_vendor",
    ],
    "/sys/class/dmi/id",
);

fn read_uname(context: &mut Context<'_>) -> Result<(), PartError> {
    let name = rustix::system::uname();
    let labels = [
        ("domainname", name.domainname().to_string_lossy()),
        ("machine", name.machine().to_string_lossy()),
        ("nodename", name.nodename().to_string_lossy()),
        ("release", name.release().to_string_lossy()),
        ("sysname", name.sysname().to_string_lossy()),
        ("version", name.version().to_string_lossy()),
    ];
    context.batch.push(
        &UNAME_INFO,
        &labels
            .each_ref()
            .map(|(name, value)| (*name, value.as_ref())),
        1.0,
    );
    Ok(())
}

fn read_os(context: &mut Context<'_>) -> Result<(), PartError> {
    let paths = ["etc/os-release", "usr/lib/os-release"].map(|path| context.kernel.in_root(path));
    let content = match context.kernel.once(&paths[0]) {
        Ok(content) => String::from_utf8_lossy(content).into_owned(),
        Err(PartError::Absent) => {
            String::from_utf8_lossy(context.kernel.once(&paths[1])?).into_owned()
        }
        Err(error) => return Err(error),
    };
    let of = |key: &str| {
        content
            .lines()
            .find_map(|line| line.strip_prefix(key)?.strip_prefix('='))
            .map_or(String::new(), unquoted)
    };
    let values: Vec<(&str, String)> = OS_INFO
        .labels
        .iter()
        .map(|label| (*label, of(&label.to_ascii_uppercase())))
        .collect();
    let pairs: Vec<(&str, &str)> = values
        .iter()
        .map(|(label, value)| (*label, value.as_str()))
        .collect();
    context.batch.push(&OS_INFO, &pairs, 1.0);
    if let Some(version) = leading_number(&of("VERSION_ID")) {
        let identity: Vec<(&str, &str)> = pairs
            .iter()
            .copied()
            .filter(|(label, _)| OS_VERSION.labels.contains(label))
            .collect();
        context.batch.push(&OS_VERSION, &identity, version);
    }
    if let Ok(date) = of("SUPPORT_END").parse::<jiff::civil::Date>()
        && let Ok(end) = date.to_zoned(jiff::tz::TimeZone::UTC)
    {
        context
            .batch
            .push(&SUPPORT_END, &[], end.timestamp().as_second() as f64);
    }
    Ok(())
}

/// A value as os-release(5) writes it: bare, or quoted as in a shell.
fn unquoted(value: &str) -> String {
    let value = value.trim();
    let inner = ['"', '\'']
        .into_iter()
        .find_map(|quote| value.strip_prefix(quote)?.strip_suffix(quote))
        .unwrap_or(value);
    let mut escaped = false;
    inner
        .chars()
        .filter(|c| {
            escaped = *c == '\\' && !escaped;
            !escaped
        })
        .collect()
}

/// The number that opens a version: `22.04.3` is 22.04.
fn leading_number(version: &str) -> Option<f64> {
    let mut dots = 0;
    let end = version
        .find(|c: char| {
            dots += usize::from(c == '.');
            !c.is_ascii_digit() && (c != '.' || dots > 1)
        })
        .unwrap_or(version.len());
    version[..end].parse().ok()
}

fn read_dmi(context: &mut Context<'_>) -> Result<(), PartError> {
    let folder = context.kernel.in_sys("class/dmi/id");
    if !folder.is_dir() {
        return Err(PartError::Absent);
    }
    let mut values = Vec::new();
    for label in DMI_INFO.labels {
        let file = if *label == "system_vendor" {
            "sys_vendor"
        } else {
            label
        };
        // Serial numbers are for root alone.
        if let Some(value) = context.kernel.text(&folder.join(file)) {
            values.push((*label, value.to_owned()));
        }
    }
    let pairs: Vec<(&str, &str)> = values
        .iter()
        .map(|(label, value)| (*label, value.as_str()))
        .collect();
    context.batch.push(&DMI_INFO, &pairs, 1.0);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn os_release_values_lose_their_quotes_and_versions_their_third_number() {
        assert_eq!(
            unquoted("\"Debian GNU/Linux 12 (bookworm)\""),
            "Debian GNU/Linux 12 (bookworm)"
        );
        assert_eq!(unquoted(r#""a \"b\" \\ c""#), r#"a "b" \ c"#);
        assert_eq!(leading_number("22.04.3"), Some(22.04));
        assert_eq!(leading_number("12"), Some(12.0));
        assert_eq!(leading_number(""), None);
    }
}
