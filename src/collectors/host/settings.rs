//! The configuration of the host collector.

use std::path::PathBuf;
use std::time::Duration;

use regex::Regex;

use crate::config::Section;

use super::PARTS;
use super::kernel::Roots;

/// node_exporter's default exclusions.
const MOUNT_POINTS: &str =
    r"^/(dev|proc|run/credentials/.+|sys|var/lib/docker/.+|var/lib/containers/storage/.+)($|/)";
const FS_TYPES: &str = "^(autofs|binfmt_misc|bpf|cgroup2?|configfs|debugfs|devpts|devtmpfs|fusectl|hugetlbfs|iso9660|mqueue|nsfs|overlay|proc|procfs|pstore|rpc_pipefs|securityfs|selinuxfs|squashfs|erofs|sysfs|tracefs)$";
const DISKS: &str = r"^(z?ram|loop|fd|(h|s|v|xv)d[a-z]|nvme\d+n\d+p)\d+$";
const INTERFACES: &str = "^$";
const UNITS: &str = r"\.(automount|device|mount|scope|slice)$";
/// The part that runs where ports are configured.
pub const TCPSTAT: &str = "tcpstat";
const SYSTEM_BUS: &str = "run/dbus/system_bus_socket";

/// What to watch, and where.
#[derive(Clone)]
pub struct Settings {
    /// `procfs`, `sysfs`, `rootfs`.
    pub roots: Roots,
    /// `mount_points_exclude`.
    pub mount_points_exclude: Regex,
    /// `fs_types_exclude`.
    pub fs_types_exclude: Regex,
    /// `disks_exclude`.
    pub disks_exclude: Regex,
    /// `interfaces_exclude`.
    pub interfaces_exclude: Regex,
    /// `systemd_bus`: the socket of the bus on which systemd answers.
    pub systemd_bus: PathBuf,
    /// `units_include`: units of systemd that are shown.
    pub units_include: Regex,
    /// `units_exclude`: of these, those that are not.
    pub units_exclude: Regex,
    /// `textfile_directory`: `*.prom` files in it are shown as they are.
    pub textfile_directory: Option<PathBuf>,
    /// `ports`: shown even when nothing listens; naming any turns the part `tcpstat` on.
    pub ports: Vec<u16>,
    /// `processes`: groups of processes.
    pub processes: Vec<GroupRule>,
    /// `max_objects`: disks, interfaces, mounts, ports shown at most, each.
    pub max_objects: usize,
    /// `mount_timeout`: how long one mount may take to answer.
    pub mount_timeout: Duration,
    /// How long a collection may take: a little less than the loop allows, so that what is there is
    /// not lost.
    pub deadline: Duration,
    /// The names of the parts that run: the defaults, plus `enable`, minus `disable`.
    pub parts: Vec<&'static str>,
    /// Whether the file systems are measured.
    pub filesystem: bool,
}

/// Which processes form a group.
#[derive(Clone)]
pub struct GroupRule {
    /// `name`: the `groupname` label.
    pub name: String,
    /// `comm`: the whole name of the program as the kernel keeps it (15 characters).
    pub comm: Option<Regex>,
    /// `cmdline`: any part of the command line, its words joined by spaces.
    pub cmdline: Option<Regex>,
}

impl GroupRule {
    /// Whether a process belongs to the group.
    pub fn fits(&self, comm: &str, cmdline: &str) -> bool {
        self.comm.as_ref().is_none_or(|r| r.is_match(comm))
            && self.cmdline.as_ref().is_none_or(|r| r.is_match(cmdline))
    }
}

impl Settings {
    /// Reads the collector's keys.
    pub fn read(section: &Section<'_>, timeout: Duration) -> Self {
        let path = |key: &str, default: &str| section.or(key, PathBuf::from(default));
        let (enable, disable): (Vec<String>, Vec<String>) = (
            section.or("enable", Vec::new()),
            section.or("disable", Vec::new()),
        );
        for (key, names) in [("enable", &enable), ("disable", &disable)] {
            for name in names.iter().filter(|name| {
                *name != super::FILESYSTEM && !PARTS.iter().any(|p| p.name == **name)
            }) {
                let known: Vec<&str> = PARTS.iter().map(|p| p.name).collect();
                section.error(
                    key,
                    format!("there is no part {name:?}"),
                    format!("known: {}, {}", super::FILESYSTEM, known.join(", ")),
                );
            }
        }
        let listed = |list: &[String], name: &str| list.iter().any(|n| n == name);
        let ports: Vec<u16> = section.or("ports", Vec::new());

        let roots = Roots {
            procfs: path("procfs", "/proc"),
            sysfs: path("sysfs", "/sys"),
            rootfs: path("rootfs", "/"),
        };
        Settings {
            systemd_bus: section
                .get("systemd_bus")
                .unwrap_or_else(|| roots.rootfs.join(SYSTEM_BUS)),
            units_include: pattern(section, "units_include", ".+"),
            units_exclude: pattern(section, "units_exclude", UNITS),
            roots,
            mount_points_exclude: pattern(section, "mount_points_exclude", MOUNT_POINTS),
            fs_types_exclude: pattern(section, "fs_types_exclude", FS_TYPES),
            disks_exclude: pattern(section, "disks_exclude", DISKS),
            interfaces_exclude: pattern(section, "interfaces_exclude", INTERFACES),
            textfile_directory: section.get("textfile_directory"),
            processes: section
                .sections("processes")
                .iter()
                .filter_map(group)
                .collect(),
            max_objects: section.or("max_objects", 256),
            mount_timeout: section
                .or("mount_timeout", Duration::from_secs(5))
                .min(timeout / 2),
            deadline: timeout.mul_f64(0.9),
            parts: PARTS
                .iter()
                .filter(|part| {
                    part.default
                        || listed(&enable, part.name)
                        || (part.name == TCPSTAT && !ports.is_empty())
                        // node_exporter's collector of this name counts threads by state, too.
                        || (part.name == "threads" && listed(&enable, "processes"))
                })
                .map(|part| part.name)
                .filter(|name| !listed(&disable, name))
                .collect(),
            ports,
            filesystem: !listed(&disable, super::FILESYSTEM),
        }
    }
}

fn group(section: &Section<'_>) -> Option<GroupRule> {
    let name: String = section.require("name");
    let anchored = |text: String| format!("^(?:{text})$");
    let comm = section
        .get::<String>("comm")
        .and_then(|text| compiled(section, "comm", &anchored(text)));
    let cmdline = section
        .get::<String>("cmdline")
        .and_then(|text| compiled(section, "cmdline", &text));
    section.finish();
    if comm.is_none() && cmdline.is_none() {
        section.error(
            "",
            "says nothing about its processes",
            "add comm: NAME or cmdline: REGEX",
        );
        return None;
    }
    Some(GroupRule {
        name,
        comm,
        cmdline,
    })
}

fn pattern(section: &Section<'_>, key: &str, default: &str) -> Regex {
    section
        .get::<String>(key)
        .and_then(|text| compiled(section, key, &text))
        .unwrap_or_else(|| Regex::new(default).expect("the default patterns compile"))
}

fn compiled(section: &Section<'_>, key: &str, text: &str) -> Option<Regex> {
    Regex::new(text)
        .map_err(|_| {
            section.error(
                key,
                format!("{text:?} is not a regular expression"),
                "see https://docs.rs/regex for the syntax",
            )
        })
        .ok()
}
