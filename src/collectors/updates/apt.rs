//! What dpkg has installed and what apt's package lists offer. Files are read and nothing is run:
//! neither a lock is taken nor a list fetched.
//!
//! The version that would be installed is chosen as apt does without preferences
//! (`apt_preferences(5)`): 500 for a list, 100 for one that is not automatic but lets upgrades
//! through, 1 for one that is not; never an older version. Preferences of the machine's own are not
//! read, nor is Ubuntu's phasing.

use std::cmp::Ordering;
use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use flate2::bufread::MultiGzDecoder;
use lz4_flex::frame::FrameDecoder;

use super::stanza::Stanzas;
use super::version::debian;

/// Bytes of one file that are read, after decompression.
const MAX_BYTES: u64 = 512 << 20;
/// Lists that are read.
const MAX_LISTS: usize = 300;
/// Installed packages that are looked at.
const MAX_PACKAGES: usize = 50_000;
/// Longest name or version that is kept, in bytes.
const MAX_TEXT: usize = 200;
const BUFFER: usize = 128 << 10;

/// What was found.
#[derive(Clone, Debug, Default)]
pub struct Apt {
    /// Packages that are installed.
    pub installed: usize,
    /// Packages with a newer version, by origin and architecture.
    pub pending: BTreeMap<(String, String), u64>,
    /// Those that are held back.
    pub held: BTreeMap<(String, String), u64>,
    /// Packages that a list of security updates has a newer version of.
    pub security: u64,
    /// Some of these: package, installed version, version that would be installed.
    pub named: Vec<(String, String, String)>,
    /// Lists that could not be read.
    pub unreadable: u64,
    /// Package lists there are.
    pub lists: usize,
    /// When the lists were last fetched, Unix time.
    pub fetched: Option<f64>,
    /// `/run/reboot-required` exists.
    pub is_reboot_required: bool,
    /// A newer kernel than the running one is installed; `None` where the running one is no package
    /// of this system, as in a container.
    pub is_newer_kernel: Option<bool>,
}

/// Who offers a version.
#[derive(Debug)]
struct Source {
    /// `Debian:bookworm-security/stable-security`.
    origin: String,
    priority: i32,
    is_security: bool,
}

#[derive(Debug)]
struct Package {
    version: String,
    is_held: bool,
    /// The greatest priority of a list that has the installed version.
    priority: i32,
    /// What would be installed, and the numbers of the lists that have it.
    best: Option<(i32, String, Vec<usize>)>,
    is_insecure: bool,
}

/// The lists and the state of dpkg, as they were when they were last read.
#[derive(Default)]
pub struct Reader {
    stamps: Vec<Stamp>,
    last: Option<Apt>,
}

type Stamp = (PathBuf, u64, i64, i64, u64);

impl Reader {
    /// Looks at the system below `root`; reads the lists only when a file has changed.
    pub fn look(&mut self, root: &Path) -> io::Result<Apt> {
        let status = root.join("var/lib/dpkg/status");
        let lists = lists(&root.join("var/lib/apt/lists"))?;
        let stamps: Vec<Stamp> = lists
            .iter()
            .chain([&status])
            .filter_map(|path| stamp(path))
            .collect();
        let mut found = match self.last.take().filter(|_| stamps == self.stamps) {
            Some(last) => last,
            None => read(&status, &lists)?,
        };
        let times = [
            "var/lib/apt/lists/partial",
            "var/lib/apt/periodic/update-success-stamp",
        ];
        found.fetched = times
            .into_iter()
            .filter_map(|path| fs::metadata(root.join(path)).ok())
            .map(|metadata| metadata.mtime() as f64)
            .reduce(f64::max);
        found.is_reboot_required = ["run/reboot-required", "var/run/reboot-required"]
            .into_iter()
            .any(|path| root.join(path).exists());
        found.is_newer_kernel = newer_kernel(root, &status)?;
        (self.stamps, self.last) = (stamps, Some(found.clone()));
        if found.lists == 0 {
            return Err(io::Error::other(
                "there are no package lists: \"apt-get update\" has not run, or an image left them out",
            ));
        }
        if found.unreadable as usize == found.lists {
            return Err(io::Error::other("no package list can be read"));
        }
        Ok(found)
    }
}

fn stamp(path: &Path) -> Option<Stamp> {
    let metadata = fs::metadata(path).ok()?;
    Some((
        path.to_owned(),
        metadata.len(),
        metadata.mtime(),
        metadata.mtime_nsec(),
        metadata.ino(),
    ))
}

/// The files of package lists in a folder, in their order.
fn lists(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut found = Vec::new();
    for entry in entries.take(MAX_LISTS * 20) {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        if name.is_some_and(|name| stem(name).ends_with("_Packages")) {
            found.push(path);
        }
    }
    found.sort();
    found.truncate(MAX_LISTS);
    Ok(found)
}

/// A name without the ending of a compression.
fn stem(name: &str) -> &str {
    [".lz4", ".gz", ".xz", ".zst", ".bz2"]
        .iter()
        .find_map(|ending| name.strip_suffix(ending))
        .unwrap_or(name)
}

fn open(path: &Path) -> io::Result<File> {
    // Opening a pipe would wait for its writer.
    if fs::metadata(path)?.is_file() {
        File::open(path)
    } else {
        Err(io::Error::other("is no regular file"))
    }
}

fn open_list(path: &Path) -> io::Result<Box<dyn BufRead>> {
    let file = BufReader::with_capacity(BUFFER, open(path)?);
    let buffered = |reader: Box<dyn Read>| BufReader::with_capacity(BUFFER, reader);
    match path.extension().and_then(|ending| ending.to_str()) {
        Some("lz4") => Ok(Box::new(buffered(Box::new(FrameDecoder::new(file))))),
        Some("gz") => Ok(Box::new(buffered(Box::new(MultiGzDecoder::new(file))))),
        Some(ending @ ("xz" | "zst" | "bz2")) => Err(io::Error::other(format!(
            "lists compressed as {ending} are not read"
        ))),
        _ => Ok(Box::new(file)),
    }
}

fn read(status: &Path, lists: &[PathBuf]) -> io::Result<Apt> {
    let (mut packages, native) = installed(status)?;
    let mut found = Apt {
        installed: packages.len(),
        lists: lists.len(),
        ..Apt::default()
    };
    let mut sources = Vec::new();
    for path in lists {
        let source = source(path);
        let read = offered(path, &source, sources.len(), &native, &mut packages);
        sources.push(source);
        if let Err(error) = read {
            found.unreadable += 1;
            tracing::debug!(file = %path.display(), %error, "A package list cannot be read.");
        }
    }
    let mut names: Vec<_> = packages.into_iter().collect();
    names.sort_by(|a, b| a.0.cmp(&b.0));
    for ((name, arch), package) in names {
        let Some((_, version, offering)) = package
            .best
            .filter(|(_, version, _)| debian(version, &package.version) == Ordering::Greater)
        else {
            continue;
        };
        let mut origins: Vec<&str> = offering
            .iter()
            .map(|index| sources[*index].origin.as_str())
            .collect();
        origins.sort_unstable();
        origins.dedup();
        let counts = if package.is_held {
            &mut found.held
        } else {
            &mut found.pending
        };
        *counts.entry((origins.join(","), arch)).or_default() += 1;
        if package.is_insecure {
            found.security += 1;
            found.named.push((name, package.version, version));
        }
    }
    found.named.truncate(super::MAX_NAMED);
    Ok(found)
}

type Packages = HashMap<(String, String), Package>;

/// What is installed, by name and architecture, and the system's own architecture.
fn installed(status: &Path) -> io::Result<(Packages, String)> {
    let names = ["Package:", "Status:", "Architecture:", "Version:"];
    let mut stanzas = Stanzas::new(
        BufReader::with_capacity(BUFFER, open(status)?),
        &names,
        MAX_BYTES,
    );
    let (mut packages, mut native) = (Packages::new(), String::new());
    while stanzas.next()? {
        let [name, state, arch, version] = [0, 1, 2, 3].map(|index| stanzas.field(index));
        let is_text = |text: &str| (1..=MAX_TEXT).contains(&text.len());
        if !state.ends_with(" installed") || !is_text(name) || !is_text(version) {
            continue;
        }
        if name == "dpkg" {
            native = arch.to_owned();
        }
        if packages.len() >= MAX_PACKAGES {
            return Err(io::Error::other(format!(
                "there are more than {MAX_PACKAGES} packages"
            )));
        }
        let package = Package {
            version: version.to_owned(),
            is_held: state.starts_with("hold "),
            priority: 100,
            best: None,
            is_insecure: false,
        };
        packages.insert((name.to_owned(), arch.to_owned()), package);
    }
    if packages.is_empty() {
        return Err(io::Error::other("dpkg's status names no installed package"));
    }
    // A package for all architectures may come to be one for this, and the other way round.
    let packages = packages
        .into_iter()
        .map(|((name, arch), package)| ((name, own(&arch, &native).to_owned()), package))
        .collect();
    Ok((packages, native))
}

fn own<'a>(arch: &'a str, native: &'a str) -> &'a str {
    if arch == "all" { native } else { arch }
}

/// Who a list is of, by the Release file beside it.
fn source(list: &Path) -> Source {
    let name = list
        .file_name()
        .and_then(|name| name.to_str())
        .unwrap_or_default();
    let mut prefix = name;
    let release = loop {
        let Some((before, _)) = prefix.rsplit_once('_') else {
            break None;
        };
        prefix = before;
        let files =
            ["InRelease", "Release"].map(|kind| list.with_file_name(format!("{prefix}_{kind}")));
        if let Some(file) = files.into_iter().find(|file| file.is_file()) {
            break Some(file);
        }
    };
    let mut fields = BTreeMap::new();
    if let Some(file) = release.and_then(|file| open(&file).ok()) {
        // The fields stand before the checksums.
        let lines = BufReader::new(file.take(64 << 10)).lines();
        for line in lines.map_while(Result::ok).take(100) {
            if let Some((name, text)) = line.split_once(": ") {
                let text: String = text.trim().chars().take(64).collect();
                fields.entry(name.to_owned()).or_insert(text);
            }
        }
    }
    let field = |name: &str| fields.get(name).map_or("", String::as_str);
    let is_yes = |name: &str| field(name).eq_ignore_ascii_case("yes");
    let is_security = ["Suite", "Codename", "Label", "Archive"]
        .into_iter()
        .any(|name| field(name).to_ascii_lowercase().contains("security"));
    Source {
        origin: format!(
            "{}:{}/{}",
            field("Origin"),
            field("Codename"),
            field("Suite")
        ),
        priority: match (is_yes("NotAutomatic"), is_yes("ButAutomaticUpgrades")) {
            (false, _) => 500,
            (true, true) => 100,
            (true, false) => 1,
        },
        is_security,
    }
}

/// Notes what a list offers for what is installed.
fn offered(
    path: &Path,
    source: &Source,
    index: usize,
    native: &str,
    packages: &mut Packages,
) -> io::Result<()> {
    let names = ["Package:", "Architecture:", "Version:"];
    let mut stanzas = Stanzas::new(open_list(path)?, &names, MAX_BYTES);
    let mut key = (String::new(), String::new());
    while stanzas.next()? {
        let [name, arch, version] = [0, 1, 2].map(|index| stanzas.field(index));
        key.0.clear();
        key.0.push_str(name);
        key.1.clear();
        key.1.push_str(own(arch, native));
        let Some(package) = packages.get_mut(&key).filter(|_| version.len() <= MAX_TEXT) else {
            continue;
        };
        match debian(version, &package.version) {
            // Never an older one.
            Ordering::Less => {}
            Ordering::Equal => {
                package.priority = package.priority.max(source.priority);
            }
            Ordering::Greater => {
                package.is_insecure |= source.is_security;
                package.offer(source.priority, version, index);
            }
        }
    }
    // The installed version wins where a list with more weight has it.
    for package in packages.values_mut() {
        if package
            .best
            .as_ref()
            .is_some_and(|(priority, ..)| *priority < package.priority)
        {
            package.best = None;
        }
    }
    Ok(())
}

impl Package {
    fn offer(&mut self, priority: i32, version: &str, list: usize) {
        if priority < self.priority {
            return;
        }
        match &mut self.best {
            Some((_, best, lists)) if best == version => {
                if lists.last() != Some(&list) {
                    lists.push(list);
                }
            }
            Some((weight, best, _))
                if *weight > priority
                    || *weight == priority && debian(version, best) != Ordering::Greater => {}
            best => *best = Some((priority, version.to_owned(), vec![list])),
        }
    }
}

/// Whether a newer kernel than the running one is installed.
fn newer_kernel(root: &Path, status: &Path) -> io::Result<Option<bool>> {
    let Ok(running) = fs::read_to_string(root.join("proc/sys/kernel/osrelease")) else {
        return Ok(None);
    };
    let running = running.trim();
    let flavour = |release: &str| {
        release
            .trim_start_matches(|c: char| c.is_ascii_digit() || ".-+~".contains(c))
            .to_owned()
    };
    let mut stanzas = Stanzas::new(
        BufReader::with_capacity(BUFFER, open(status)?),
        &["Package:", "Status:"],
        MAX_BYTES,
    );
    let (mut is_package, mut is_newer) = (false, false);
    while stanzas.next()? {
        let Some(release) = stanzas.field(0).strip_prefix("linux-image-") else {
            continue;
        };
        if !stanzas.field(1).ends_with(" installed")
            || !release.starts_with(|c: char| c.is_ascii_digit())
        {
            continue;
        }
        is_package |= release == running;
        is_newer |=
            flavour(release) == flavour(running) && debian(release, running) == Ordering::Greater;
    }
    Ok(is_package.then_some(is_newer))
}
