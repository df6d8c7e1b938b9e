//! What systemd and cron start: units of one's own, entries that look like jobs. Jobs become
//! comments: an entry of `job` waits for reports, which come when the command is started by
//! `nightbell job run`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::found::{Found, What, label};
use super::root::Root;
use crate::model::text::visible;

/// So much of a file is read, in bytes.
const MAX_FILE: u64 = 64 << 10;
/// Jobs and units that are shown, at most.
const MOST: usize = 30;
/// Jobs of the machine itself.
const SYSTEM_JOBS: [&str; 14] = [
    "apt-compat",
    "dpkg",
    "e2scrub_all",
    "logrotate",
    "man-db",
    "popularity-contest",
    "exim4-base",
    "mlocate",
    "plocate",
    "passwd",
    "sysstat",
    "0anacron",
    ".placeholder",
    "anacron",
];

/// Units that somebody has written for this machine; the folders that they work in and their files
/// of variables are put into the sets.
pub fn units(
    root: &Root,
    folders: &mut BTreeSet<PathBuf>,
    environments: &mut BTreeSet<PathBuf>,
) -> Option<Found> {
    let mut names = Vec::new();
    for entry in root.list("/etc/systemd/system") {
        if !entry.is_file
            || !entry.name.ends_with(".service")
            || entry.name.starts_with("nightbell")
        {
            continue;
        }
        names.push(entry.name.clone());
        let text = root.text(&entry.path, MAX_FILE).unwrap_or_default();
        for line in text.lines().map(str::trim) {
            if let Some(folder) = line.strip_prefix("WorkingDirectory=") {
                folders.insert(PathBuf::from(folder.trim_start_matches('-')));
            }
            if let Some(file) = line.strip_prefix("EnvironmentFile=") {
                environments.insert(PathBuf::from(file.trim_start_matches('-')));
            }
        }
    }
    // Without the bus nobody can be asked for the states of units.
    if !root.has("/run/systemd/system") || !root.has("/run/dbus/system_bus_socket") {
        return None;
    }
    names.truncate(MOST);
    let own = if names.is_empty() {
        "no units of one's own".to_owned()
    } else {
        names.join(", ")
    };
    Some(Found::new(
        "units of systemd",
        format!(
            "systemd runs here ({own}); units that fail or restart again and again are noticed"
        ),
        What::Systemd,
    ))
}

/// Entries of cron that look like jobs of an application.
pub fn cron(root: &Root) -> Vec<Found> {
    let mut found = Vec::new();
    let mut tables = vec![(PathBuf::from("/etc/crontab"), true)];
    let files = |folder: &str, has_user| -> Vec<(PathBuf, bool)> {
        root.list(folder)
            .into_iter()
            .filter(|entry| entry.is_file)
            .map(|entry| (entry.path, has_user))
            .collect()
    };
    tables.extend(files("/etc/cron.d", true));
    tables.extend(files("/var/spool/cron/crontabs", false));
    for (path, has_user) in tables {
        for line in root.text(&path, MAX_FILE).unwrap_or_default().lines() {
            found.extend(
                entry(line, has_user).map(|(schedule, command)| job(&path, &schedule, &command)),
            );
        }
    }
    for (folder, schedule) in [
        ("/etc/cron.hourly", "@hourly"),
        ("/etc/cron.daily", "@daily"),
        ("/etc/cron.weekly", "@weekly"),
    ] {
        for entry in root
            .list(folder)
            .into_iter()
            .filter(|entry| entry.is_file && !SYSTEM_JOBS.contains(&entry.name.as_str()))
        {
            found.push(job(
                &entry.path,
                schedule,
                &entry.path.display().to_string(),
            ));
        }
    }
    found.truncate(MOST);
    found
}

/// Schedule and command of a line of a crontab.
fn entry(line: &str, has_user: bool) -> Option<(String, String)> {
    let line = line.trim();
    let first = line.chars().next()?;
    let fields = match first {
        '@' => 1,
        '0'..='9' | '*' => 5,
        _ => return None,
    };
    let words: Vec<&str> = line.split_ascii_whitespace().collect();
    let command = words
        .get(fields + usize::from(has_user)..)
        .filter(|words| !words.is_empty())?
        .join(" ");
    let is_system = [
        "run-parts",
        "/etc/cron.",
        "debian-sa1",
        "e2scrub",
        "anacron",
    ]
    .iter()
    .any(|own| command.contains(own));
    (!is_system).then(|| (words[..fields].join(" "), command))
}

/// A job: its program alone is shown, since the rest of a command may hold secrets.
fn job(path: &Path, schedule: &str, command: &str) -> Found {
    let programs = command
        .split_ascii_whitespace()
        .filter(|word| word.starts_with('/') || word.contains(".sh") || word.contains(".py"));
    let interpreter = [
        "/bin/sh",
        "/bin/bash",
        "/usr/bin/python3",
        "/usr/bin/env",
        "/usr/bin/flock",
    ];
    let program = programs
        .clone()
        .find(|word| !interpreter.contains(word))
        .or_else(|| command.split_ascii_whitespace().next())
        .unwrap_or("?");
    let program: String = visible(program).chars().take(200).collect();
    let stem = Path::new(&program)
        .file_stem()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let name = label(&stem);
    let lower = command.to_ascii_lowercase();
    let is_backup = ["backup", "dump", "rsync", "restic", "borg"]
        .iter()
        .any(|word| lower.contains(word));
    let kind = if is_backup { "a backup" } else { "a job" };
    let quoted = visible(schedule).replace('"', "");
    let lines = vec![
        format!(
            "{kind} of {}: put `nightbell job run {name} -- ` before its command, and take this in:",
            path.display()
        ),
        format!("job: [{{name: {name}, schedule: \"{quoted}\", timezone: Local}}]"),
    ];
    Found::new(
        format!("{kind} in cron: {program}"),
        format!("{} has it at {schedule:?}", path.display()),
        What::Hint(lines),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_of_crontabs_are_read_and_their_arguments_not_shown() {
        let got = |line: &str, has_user| {
            entry(line, has_user).map(|(schedule, command)| format!("{schedule}|{command}"))
        };
        assert_eq!(
            got("0 2 * * * root /srv/backup.sh --password x", true).as_deref(),
            Some("0 2 * * *|/srv/backup.sh --password x")
        );
        assert_eq!(
            got("@daily python3 /srv/learn.py", false).as_deref(),
            Some("@daily|python3 /srv/learn.py")
        );
        assert_eq!(
            got(
                "17 * * * * root cd / && run-parts --report /etc/cron.hourly",
                true
            ),
            None
        );
        assert_eq!(
            [
                got("SHELL=/bin/sh", true),
                got("# 0 2 * * * x y", true),
                got("0 2 * *", true)
            ],
            [None, None, None]
        );
        let found = job(
            Path::new("/etc/cron.d/app"),
            "0 2 * * *",
            "/srv/backup.sh --password hunter2",
        );
        let What::Hint(lines) = &found.what else {
            panic!("{found:?}")
        };
        assert!(
            lines[1].contains("name: backup, schedule: \"0 2 * * *\"")
                && !format!("{found:?}").contains("hunter2"),
            "{found:?}"
        );
    }
}
