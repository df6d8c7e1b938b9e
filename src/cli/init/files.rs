//! What lies on disk: files of variables, logs, SQLite files, Chroma's folders, backups.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::found::{Found, What, label, yaml};
use super::root::{Entry, Root};

/// Where applications and their data are.
const PLACES: [&str; 11] = [
    "/srv",
    "/opt",
    "/app",
    "/data",
    "/backup",
    "/backups",
    "/var/www",
    "/var/backups",
    "/var/log",
    "/home",
    "/usr/local/share",
];
/// Folders that hold many files and nothing that is looked for.
const SKIPPED: [&str; 14] = [
    "node_modules",
    "site-packages",
    "dist-packages",
    "__pycache__",
    "venv",
    ".venv",
    "target",
    "journal",
    "vendor",
    "snapd",
    "proc",
    "sys",
    "overlay2",
    "lost+found",
];
/// Hidden folders are those of tools.
const DEPTH: usize = 5;
/// Logs of the machine itself; of its services the collectors say more.
const SYSTEM_LOGS: [&str; 22] = [
    "alternatives",
    "apt",
    "bootstrap",
    "boot",
    "btmp",
    "cloud-init",
    "cloud-init-output",
    "daemon",
    "dpkg",
    "faillog",
    "fontconfig",
    "history",
    "installer",
    "kern",
    "lastlog",
    "mail",
    "messages",
    "postgresql",
    "syslog",
    "term",
    "user",
    "wtmp",
];
/// A log that nobody has written to for so long is none of a service that runs.
const FRESH: Duration = Duration::from_secs(7 * 86_400);
/// A backup that is older is a relic.
const RECENT: Duration = Duration::from_secs(40 * 86_400);
/// Entries of one sort, at most.
const MOST: usize = 20;
/// Variables that nightbell knows by name.
pub const KNOWN: [&str; 8] = [
    "DATABASE_URL",
    "REDIS_URL",
    "CHROMA_URL",
    "OPENAI_API_KEY",
    "DEEPSEEK_API_KEY",
    "ANTHROPIC_API_KEY",
    "DASHSCOPE_API_KEY",
    "LLM_PROVIDER",
];

/// What the file systems gave.
#[derive(Default)]
pub struct Files {
    /// Everything that was found.
    pub found: Vec<Found>,
    /// Ports of this machine that variables lead to.
    pub ports: HashSet<u16>,
}

/// Files by what they are.
#[derive(Default)]
struct Kinds {
    environments: BTreeSet<PathBuf>,
    logs: BTreeMap<PathBuf, u64>,
    access_logs: BTreeSet<PathBuf>,
    databases: BTreeSet<PathBuf>,
    chroma: BTreeSet<PathBuf>,
    backups: BTreeMap<PathBuf, Vec<SystemTime>>,
    logins: Option<PathBuf>,
}

/// Looks at the usual places and at the folders of what runs.
pub fn find(root: &Root, folders: &BTreeSet<PathBuf>) -> Files {
    let mut kinds = Kinds::default();
    let enters =
        |entry: &Entry| !entry.name.starts_with('.') && !SKIPPED.contains(&entry.name.as_str());
    let usual = PLACES.iter().map(PathBuf::from);
    let mut places: Vec<PathBuf> = folders
        .iter()
        .filter(|folder| folder.components().count() > 2)
        .cloned()
        .chain(usual)
        .collect();
    places.sort();
    places.dedup_by(|later, earlier| later.starts_with(earlier.as_path()));
    for place in places {
        root.walk(&place, DEPTH, &enters, &mut |entry| kinds.take(root, entry));
    }
    kinds.finish(root)
}

impl Kinds {
    fn take(&mut self, root: &Root, entry: &Entry) {
        let name = entry.name.as_str();
        let path = &entry.path;
        let in_logs = path.starts_with("/var/log");
        let ends = |ends: &[&str]| ends.iter().any(|end| name.ends_with(end));
        if name == ".env"
            || (name.starts_with(".env.") && !ends(&[".example", ".sample", ".template", ".dist"]))
        {
            self.environments.insert(path.clone());
        } else if name == "chroma.sqlite3" {
            self.chroma.extend(path.parent().map(Path::to_owned));
        } else if path == Path::new("/var/log/auth.log") {
            self.logins = Some(path.clone());
        } else if name.ends_with("access.log") || name.ends_with("access_log") {
            if entry.age < FRESH {
                self.access_logs.insert(path.clone());
            }
        } else if ends(&[".log"])
            && entry.size > 0
            && entry.age < FRESH
            && !(in_logs && is_system_log(path))
        {
            self.logs.insert(path.clone(), entry.size);
        } else if let Some(pattern) = backup_pattern(path) {
            if entry.size > 0 {
                self.backups.entry(pattern).or_default().push(entry.written);
            }
        } else if ends(&[".db", ".sqlite", ".sqlite3"])
            && root
                .bytes(path, 16)
                .is_some_and(|head| head == b"SQLite format 3\0")
        {
            self.databases.insert(path.clone());
        }
    }

    fn finish(self, root: &Root) -> Files {
        let mut files = Files::default();
        for path in self.environments.iter().take(MOST) {
            files.environment(root, path);
        }
        files.found.extend(
            self.access_logs
                .iter()
                .take(MOST)
                .filter_map(|path| access_log(root, path)),
        );
        if let Some(path) = self.logins {
            let keys = vec![
                (
                    "path",
                    yaml(&path.display().to_string()).unwrap_or_default(),
                ),
                ("format", "auth".to_owned()),
            ];
            files.found.push(Found::collector(
                "failed logins",
                "/var/log/auth.log is there",
                "access_log",
                "logins",
                keys,
                &[],
            ));
        } else if root.has("/run/systemd/journal/socket") && root.has("/var/log/journal") {
            let keys = vec![
                ("journal", "[sshd, sudo, su, login]".to_owned()),
                ("format", "auth".to_owned()),
            ];
            let why = "there is no auth.log, and systemd keeps a journal";
            files.found.push(Found::collector(
                "failed logins",
                why,
                "access_log",
                "logins",
                keys,
                &[],
            ));
        }
        // The largest ones are those that somebody writes to.
        let mut logs: Vec<(&PathBuf, &u64)> = self.logs.iter().collect();
        logs.sort_by_key(|(_, size)| std::cmp::Reverse(**size));
        files.found.extend(
            logs.into_iter()
                .take(MOST)
                .filter_map(|(path, _)| log(root, path)),
        );
        files.found.extend(
            self.databases
                .iter()
                .take(MOST)
                .filter_map(|path| sqlite(path, "it begins as a SQLite file does")),
        );
        files.found.extend(self.chroma.iter().take(MOST).filter_map(|folder| {
            sqlite(
                &folder.join("chroma.sqlite3"),
                "the name is that of Chroma's database; an application that embeds Chroma has no port to ask",
            )
        }));
        files.found.extend(
            self.backups
                .into_iter()
                .take(MOST)
                .filter_map(|(pattern, times)| backup(&pattern, times)),
        );
        files
    }
}

fn is_system_log(path: &Path) -> bool {
    let below = path.strip_prefix("/var/log").unwrap_or(path);
    below.components().any(|part| {
        let name = part.as_os_str().to_string_lossy();
        SYSTEM_LOGS.contains(&name.trim_end_matches(".log")) || name.starts_with("postgresql")
    })
}

/// The name of an entry for a file: its folder's and its own.
fn name_of(path: &Path) -> String {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let folder = path
        .parent()
        .and_then(Path::file_name)
        .unwrap_or_default()
        .to_string_lossy();
    if ["log", "logs", "data", ""].contains(&folder.as_ref()) {
        label(&stem)
    } else {
        label(&format!("{folder}-{stem}"))
    }
}

fn log(root: &Root, path: &Path) -> Option<Found> {
    let head = root.bytes(path, 4096).unwrap_or_default();
    let is_json = head.trim_ascii_start().starts_with(b"{");
    let mut keys = vec![("path", yaml(path.to_str()?)?)];
    if is_json {
        keys.push(("format", "json".to_owned()));
    }
    let why = format!(
        "written to within a week; its lines are {}",
        if is_json { "JSON" } else { "plain text" }
    );
    Some(Found::collector(
        &format!("log {}", path.display()),
        &why,
        "log_file",
        &name_of(path),
        keys,
        &[],
    ))
}

fn access_log(root: &Root, path: &Path) -> Option<Found> {
    let head = root.text(path, 4096).unwrap_or_default();
    let first = head.lines().next().unwrap_or_default();
    let is_json = first.starts_with('{');
    let looks_combined = first.is_empty() || first.split('"').count() >= 7 && first.contains(" [");
    let text = yaml(path.to_str()?)?;
    if !is_json && !looks_combined {
        let lines = vec![format!(
            "access_log of {}: give its log_format of nginx as format",
            path.display()
        )];
        return Some(Found::new(
            format!("access log {}", path.display()),
            "its lines are in a format of its own",
            What::Hint(lines),
        ));
    }
    let format = if is_json { "json" } else { "combined" };
    let keys = vec![("path", text), ("format", format.to_owned())];
    let why = format!("written to within a week; its lines are {format}");
    Some(Found::collector(
        &format!("access log {}", path.display()),
        &why,
        "access_log",
        &name_of(path),
        keys,
        &[],
    ))
}

fn sqlite(path: &Path, why: &str) -> Option<Found> {
    let keys = vec![("path", yaml(path.to_str()?)?)];
    Some(Found::collector(
        &format!("SQLite file {}", path.display()),
        why,
        "sqlite",
        &name_of(path),
        keys,
        &[],
    ))
}

/// Of a file that looks like a backup: its path with a `*` for each run of digits in its name, and
/// in its folder's where that is a time.
fn backup_pattern(path: &Path) -> Option<PathBuf> {
    const ENDS: [&str; 16] = [
        ".sql", ".sql.gz", ".sql.xz", ".sql.zst", ".dump", ".dump.gz", ".tar", ".tar.gz", ".tgz",
        ".tar.xz", ".tar.zst", ".backup", ".bak", ".rdb.gz", ".pgdump", ".zip",
    ];
    let name = path.file_name()?.to_str()?;
    let is_place = path.parent()?.components().any(|part| {
        let part = part.as_os_str().to_string_lossy().to_ascii_lowercase();
        part.contains("backup") || part.contains("dump")
    });
    // Debian's own copies of its lists.
    let is_own = path.parent()? == Path::new("/var/backups")
        && ["dpkg", "apt", "alternatives"]
            .iter()
            .any(|own| name.starts_with(own));
    if !is_place
        || is_own
        || !ENDS.iter().any(|end| name.ends_with(end))
        || path.to_str()?.contains(['*', '?', '[', '\\'])
    {
        return None;
    }
    let (folder, parent) = (path.parent()?, path.parent()?.parent()?);
    let folder_name = folder.file_name()?.to_str()?;
    let digits = folder_name.chars().filter(char::is_ascii_digit).count();
    // A folder for each run is called by its time.
    let folder = if digits >= 6 {
        parent.join(starred(folder_name))
    } else {
        folder.to_owned()
    };
    Some(folder.join(starred(name)))
}

fn starred(name: &str) -> String {
    let mut out = String::new();
    for c in name.chars() {
        match c {
            '0'..='9' if out.ends_with('*') => {}
            '0'..='9' => out.push('*'),
            // Between digits of a time: 2026-11-30_02.
            '-' | '_' | ':' | 'T' if out.ends_with('*') => out.push(c),
            _ => out.push(c),
        }
    }
    // `*-*-*_*` is `*`.
    for between in ["*-*", "*_*", "*T*", "*:*"] {
        while out.contains(between) {
            out = out.replace(between, "*");
        }
    }
    out
}

fn backup(pattern: &Path, mut times: Vec<SystemTime>) -> Option<Found> {
    times.sort();
    let newest = *times.last()?;
    if newest.elapsed().unwrap_or_default() > RECENT {
        return None;
    }
    let mut gaps: Vec<Duration> = times
        .windows(2)
        .filter_map(|pair| pair[1].duration_since(pair[0]).ok())
        .collect();
    gaps.sort();
    let gap = gaps.get(gaps.len() / 2).filter(|_| gaps.len() >= 2);
    let hours = |gap: &Duration| gap.as_secs_f64() / 3600.0;
    let every = gap.and_then(|gap| match hours(gap) {
        hours if (0.5..2.0).contains(&hours) => Some("1h"),
        hours if (12.0..36.0).contains(&hours) => Some("1d"),
        hours if (120.0..240.0).contains(&hours) => Some("7d"),
        _ => None,
    });
    let mut keys = vec![("files", yaml(pattern.to_str()?)?)];
    let mut notes = vec![
        "To restore the newest one regularly: restore_test: [{backup: NAME, every: 7d, dsn_file: PATH}]",
    ];
    match every {
        Some(every) => keys.push(("every", every.to_owned())),
        None => notes
            .push("Add every: 1d, or at: \"02:00\", so that one that does not come is noticed."),
    }
    let gap = every.map_or_else(String::new, |every| format!(", about every {every}"));
    let why = format!(
        "{} file{} of a backup's name and place{gap}",
        times.len(),
        if times.len() == 1 { "" } else { "s" }
    );
    Some(Found::collector(
        &format!("backups {}", pattern.display()),
        &why,
        "backup",
        &name_of(&unstarred(pattern)),
        keys,
        &notes,
    ))
}

fn unstarred(pattern: &Path) -> PathBuf {
    PathBuf::from(pattern.display().to_string().replace('*', ""))
}

impl Files {
    /// A file of variables: their names. Of the values it is only seen which kind of server, on
    /// which port of this machine, a URL leads to.
    pub fn environment(&mut self, root: &Root, path: &Path) {
        let Some(text) = root.text(path, 256 << 10) else {
            return;
        };
        let (mut known, mut others) = (Vec::new(), 0);
        for line in text.lines() {
            let line = line.trim().strip_prefix("export ").unwrap_or(line.trim());
            let Some((name, value)) = line.split_once('=').filter(|_| !line.starts_with('#'))
            else {
                continue;
            };
            let value = value.trim().trim_matches(['"', '\'']);
            if !KNOWN.contains(&name.trim()) {
                others += 1;
            } else if !value.is_empty() {
                known.push(name.trim().to_owned());
                self.ports.extend(local_port(value));
            }
        }
        if known.is_empty() {
            return;
        }
        let why = format!(
            "it names {}, and {others} more that are not known here; values are not shown",
            known.join(", ")
        );
        self.found.push(Found::new(
            format!("variables of {}", path.display()),
            why,
            What::Environment {
                path: path.to_owned(),
                names: known,
            },
        ));
    }
}

/// The port of a URL that leads to this machine.
fn local_port(value: &str) -> Option<u16> {
    let url = url::Url::parse(value).ok()?;
    let host = url.host_str()?;
    let port = url.port().or(match url.scheme().split('+').next()? {
        "postgres" | "postgresql" => Some(5432),
        "mysql" | "mariadb" => Some(3306),
        "redis" => Some(6379),
        "http" => Some(80),
        _ => None,
    })?;
    ["localhost", "127.0.0.1", "[::1]", "0.0.0.0"]
        .contains(&host)
        .then_some(port)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backups_of_one_sort_have_one_pattern() {
        for (path, pattern) in [
            ("/backup/db_20261130.sql.gz", Some("/backup/db_*.sql.gz")),
            (
                "/backup/db-2026-11-30_02-00-00.dump",
                Some("/backup/db-*.dump"),
            ),
            (
                "/srv/backups/20261130_020000/database.sql.gz",
                Some("/srv/backups/*/database.sql.gz"),
            ),
            ("/srv/dumps/ring3.tar.gz", Some("/srv/dumps/ring*.tar.gz")),
            ("/srv/app/schema.sql", None),
            ("/var/backups/dpkg.status.1.gz", None),
            ("/backup/a[1].sql", None),
        ] {
            assert_eq!(
                backup_pattern(Path::new(path)),
                pattern.map(PathBuf::from),
                "{path}"
            );
        }
    }

    #[test]
    fn only_the_port_of_this_machine_is_seen_of_a_url() {
        assert_eq!(
            local_port("postgresql+asyncpg://u:p@localhost/db"),
            Some(5432)
        );
        assert_eq!(local_port("redis://127.0.0.1:6380/0"), Some(6380));
        assert_eq!(local_port("http://chroma:8000"), None);
        assert_eq!(local_port("sk-12345"), None);
    }
}
