//! Software RAID (`/proc/mdstat`, md(4)) and ZFS pools (`/proc/spl/kstat/zfs/POOL/state`).

use crate::model::MetricDesc;

use super::kernel::{PartError, names};
use super::part::{Context, Lane, Part, gauge};
use super::scan::{lines, text, whole};

/// Software RAID.
pub const MDADM: Part = Part {
    name: "mdadm",
    default: true,
    lane: Lane::Kernel,
    metrics: &MD,
    read: read_mdadm,
};
/// ZFS pools: their state, not the hundreds of counters.
pub const ZFS: Part = Part {
    name: "zfs",
    default: true,
    lane: Lane::Kernel,
    metrics: &[POOL],
    read: read_zfs,
};

const MDSTAT: &str = "/proc/mdstat";
const MD: [MetricDesc; 5] = [
    gauge(
        "node_md_state",
        "",
        "1 for the state of the array, 0 for the others.",
        &["device", "state"],
        MDSTAT,
    ),
    gauge(
        "node_md_disks",
        "",
        "Disks of the array in each state.",
        &["device", "state"],
        MDSTAT,
    ),
    gauge(
        "node_md_disks_required",
        "",
        "Disks that the array needs.",
        &["device"],
        MDSTAT,
    ),
    gauge(
        "node_md_blocks",
        "",
        "Blocks of the array, of 1024 bytes.",
        &["device"],
        MDSTAT,
    ),
    gauge(
        "node_md_blocks_synced",
        "",
        "Blocks that are in step.",
        &["device"],
        MDSTAT,
    ),
];
const MD_STATES: [&str; 5] = ["active", "inactive", "recovering", "resync", "check"];
const POOL: MetricDesc = gauge(
    "node_zfs_zpool_state",
    "",
    "1 for the state of the pool, 0 for the others.",
    &["state", "zpool"],
    "/proc/spl/kstat/zfs/POOL/state",
);
const POOL_STATES: [&str; 7] = [
    "online",
    "degraded",
    "faulted",
    "offline",
    "removed",
    "unavail",
    "suspended",
];

#[derive(Debug, Default, PartialEq)]
struct Array {
    name: String,
    state: &'static str,
    active: u64,
    required: u64,
    failed: u64,
    spare: u64,
    blocks: u64,
    synced: u64,
}

fn read_mdadm(context: &mut Context<'_>) -> Result<(), PartError> {
    let arrays = arrays(&text(context.kernel.proc("mdstat")?));
    for array in arrays.iter().take(context.settings.max_objects) {
        let device = ("device", array.name.as_str());
        for state in MD_STATES {
            context.batch.push(
                &MD[0],
                &[device, ("state", state)],
                f64::from(u8::from(state == array.state)),
            );
        }
        for (state, count) in [
            ("active", array.active),
            ("failed", array.failed),
            ("spare", array.spare),
        ] {
            context
                .batch
                .push(&MD[1], &[device, ("state", state)], count as f64);
        }
        for (desc, value) in MD[2..]
            .iter()
            .zip([array.required, array.blocks, array.synced])
        {
            context.batch.push(desc, &[device], value as f64);
        }
    }
    Ok(())
}

/// One array: `md0 : active raid1 sdb1[1] sda1[0](F)`, then `8 blocks super 1.2 [2/1] [U_]`, then
/// perhaps a line of progress.
fn arrays(content: &str) -> Vec<Array> {
    let mut found: Vec<Array> = Vec::new();
    for line in content.lines() {
        if let Some((name, rest)) = line.split_once(" : ") {
            if name.starts_with("md") && !name.contains(' ') {
                found.push(header(name, rest));
            }
            continue;
        }
        let Some(array) = found.last_mut() else {
            continue;
        };
        let mut words = line.split_ascii_whitespace();
        if let (Some(blocks), Some("blocks")) =
            (words.next().and_then(|w| whole(w.as_bytes())), words.next())
        {
            (array.blocks, array.synced) = (blocks, blocks);
            if array.state == "active"
                && let Some((required, active)) = words.find_map(disks)
            {
                (array.required, array.active) = (required, active);
            }
        } else if let Some((what, progress)) = line.split_once(" = ") {
            for (word, state) in [
                ("recovery", "recovering"),
                ("reshape", "reshaping"),
                ("resync", "resync"),
                ("check", "check"),
            ] {
                if what.trim_end().ends_with(word) {
                    array.state = state;
                    array.synced = synced(progress).unwrap_or(0);
                }
            }
        }
    }
    found
}

fn header(name: &str, rest: &str) -> Array {
    let mut words = rest.split_ascii_whitespace();
    let state = if words.next() == Some("active") {
        "active"
    } else {
        "inactive"
    };
    let mut array = Array {
        name: name.to_owned(),
        state,
        ..Array::default()
    };
    for disk in words.filter(|word| word.contains('[')) {
        if disk.ends_with("(F)") {
            array.failed += 1;
        } else if disk.ends_with("(S)") {
            array.spare += 1;
        } else {
            array.active += 1;
        }
    }
    // Levels without redundancy have no `[n/m]`: they need every disk.
    array.required = array.active;
    array
}

/// `[2/1]`.
fn disks(word: &str) -> Option<(u64, u64)> {
    let (required, active) = word.strip_prefix('[')?.strip_suffix(']')?.split_once('/')?;
    Some((whole(required.as_bytes())?, whole(active.as_bytes())?))
}

/// `8.5% (16775552/195310144) finish=17.0min`.
fn synced(progress: &str) -> Option<u64> {
    let (_, tail) = progress.split_once('(')?;
    let (done, _) = tail.split_once('/')?;
    whole(done.as_bytes())
}

fn read_zfs(context: &mut Context<'_>) -> Result<(), PartError> {
    let folder = context.kernel.in_proc("spl/kstat/zfs");
    for pool in names(&folder)?.iter().take(context.settings.max_objects) {
        let Ok(content) = context.kernel.once(&folder.join(pool).join("state")) else {
            continue;
        };
        let now = lines(content)
            .next()
            .map(|line| text(line).trim().to_lowercase())
            .unwrap_or_default();
        for state in POOL_STATES {
            context.batch.push(
                &POOL,
                &[("state", state), ("zpool", pool)],
                f64::from(u8::from(state == now)),
            );
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrays_that_are_whole_degraded_and_recovering_are_notified_apart() {
        let content = "Personalities : [raid6] [raid1]\n\
            md3 : active raid6 sda1[8] sdh1[7](S) sdg1[6] sdb1[9](F)\n      5853468288 blocks super 1.2 level 6, 64k chunk, algorithm 2 [4/2] [UU__]\n\n\
            md127 : active raid1 sdi2[0] sdj2[1]\n      312319552 blocks [2/2] [UU]\n\n\
            md8 : active raid1 sdb1[1] sda1[0] sdc[2](S)\n      195310144 blocks [2/2] [UU]\n      [=>...................]  resync =  8.5% (16775552/195310144) finish=17.0min speed=259783K/sec\n\n\
            md219 : inactive sdb[2](S) sdc[1](S) sda[0](S)\n        7932 blocks super external:imsm\n\nunused devices: <none>\n";
        let found = arrays(content);
        let of = |name: &str| found.iter().find(|a| a.name == name).expect("listed");
        assert_eq!(
            (
                of("md3").required,
                of("md3").active,
                of("md3").failed,
                of("md3").spare
            ),
            (4, 2, 1, 1)
        );
        assert_eq!(
            (of("md127").state, of("md127").blocks, of("md127").synced),
            ("active", 312_319_552, 312_319_552)
        );
        assert_eq!((of("md8").state, of("md8").synced), ("resync", 16_775_552));
        assert_eq!(
            (of("md219").state, of("md219").spare, of("md219").blocks),
            ("inactive", 3, 7932)
        );
        assert_eq!(found.len(), 4);
    }
}
