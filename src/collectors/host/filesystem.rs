//! Space and inodes of the mounted file systems: `/proc/1/mountinfo` (proc(5)) and `statvfs(3)`.
//!
//! `statvfs` of a server that does not answer hangs in the kernel and cannot be interrupted. So it
//! runs on a thread of its own: a mount that misses the deadline gets
//! `node_filesystem_device_error` 1 and is left alone until its call returns; the others go on in a
//! new thread. At most [`MAX_STUCK`] threads can hang on file systems of other machines and as many
//! on local ones, in the whole process, however often it is configured anew: where a file server is
//! gone, this machine's own disks are measured on.

use std::collections::HashSet;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rustix::fs::StatVfs;
use rustix::io::Errno;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::model::{Batch, MetricDesc};

use super::kernel::{Kernel, PartError};
use super::part::{LineCount, gauge};
use super::scan::{lines, split_once, text};
use super::settings::Settings;

/// Threads that may hang in `statvfs` at the same time, for each [`Kin`].
const MAX_STUCK: usize = 8;
/// How the types of file systems begin that another machine or a process answers for.
const REMOTE: [&str; 13] = [
    "9p",
    "afs",
    "beegfs",
    "ceph",
    "cifs",
    "coda",
    "fuse",
    "gfs2",
    "glusterfs",
    "lustre",
    "nfs",
    "smb",
    "virtiofs",
];

/// Mounts that hang, each with its thread. They outlive a collector that a reload replaces.
static STUCK: Mutex<Vec<Stuck>> = Mutex::new(Vec::new());

/// What a mount hangs with: its own kind takes no thread from the other.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kin {
    Local,
    Remote,
}

impl Kin {
    fn of(fstype: &str) -> Self {
        if REMOTE.iter().any(|name| fstype.starts_with(name)) {
            Kin::Remote
        } else {
            Kin::Local
        }
    }
}

/// A mount that hangs.
struct Stuck {
    path: PathBuf,
    kin: Kin,
    thread: JoinHandle<()>,
}

const LABELS: &[&str] = &["device", "device_error", "fstype", "mountpoint"];
const STATVFS: &str = "statvfs(3)";
const SIZE: MetricDesc = gauge(
    "node_filesystem_size_bytes",
    "bytes",
    "Size of the file system.",
    LABELS,
    STATVFS,
);
const FREE: MetricDesc = gauge(
    "node_filesystem_free_bytes",
    "bytes",
    "Free space, what is reserved for root included.",
    LABELS,
    STATVFS,
);
const AVAIL: MetricDesc = gauge(
    "node_filesystem_avail_bytes",
    "bytes",
    "Space that ordinary users can use.",
    LABELS,
    STATVFS,
);
const FILES: MetricDesc = gauge(
    "node_filesystem_files",
    "",
    "Inodes in all.",
    LABELS,
    STATVFS,
);
const FILES_FREE: MetricDesc = gauge(
    "node_filesystem_files_free",
    "",
    "Free inodes.",
    LABELS,
    STATVFS,
);
const PURGEABLE: MetricDesc = gauge(
    "node_filesystem_purgeable_bytes",
    "bytes",
    "Space that the system can make free by itself; 0 on Linux.",
    LABELS,
    STATVFS,
);
const READONLY: MetricDesc = gauge(
    "node_filesystem_readonly",
    "",
    "1 when mounted read-only.",
    LABELS,
    "/proc/1/mountinfo options",
);
const DEVICE_ERROR: MetricDesc = gauge(
    "node_filesystem_device_error",
    "",
    "1 when the file system did not answer, or not in time.",
    LABELS,
    STATVFS,
);
const MOUNT_INFO: MetricDesc = gauge(
    "node_filesystem_mount_info",
    "",
    "The device of the mount, always 1.",
    &["device", "major", "minor", "mountpoint"],
    "/proc/1/mountinfo",
);

/// Every metric of this part.
pub const METRICS: &[MetricDesc] = &[
    SIZE,
    FREE,
    AVAIL,
    FILES,
    FILES_FREE,
    PURGEABLE,
    READONLY,
    DEVICE_ERROR,
    MOUNT_INFO,
];

/// How a file system is asked; a function, so that a test can make one hang.
pub type Ask = fn(&std::path::Path) -> Result<StatVfs, Errno>;

/// A line of mountinfo.
#[derive(Clone, Debug, PartialEq)]
struct Mount {
    device: String,
    fstype: String,
    mountpoint: String,
    major: String,
    minor: String,
    readonly: bool,
    path: PathBuf,
}

/// The part, with the mounts that hang.
pub struct Filesystem {
    settings: Settings,
    kernel: Kernel,
    ask: Ask,
}

/// What became of a mount.
enum Answer {
    Known(Result<StatVfs, Errno>),
    Late,
}

impl Filesystem {
    /// Asks nothing yet.
    pub fn new(settings: Settings) -> Self {
        Filesystem {
            kernel: Kernel::new(settings.roots.clone()),
            settings,
            ask: |path| rustix::fs::statvfs(path),
        }
    }

    /// The same with another way to ask.
    #[cfg(test)]
    fn asking(mut self, ask: Ask) -> Self {
        self.ask = ask;
        self
    }

    /// Measures every mount that is not excluded. Returns how many exceeded the cap, and how many
    /// lines are not as documented.
    pub async fn read(&mut self, batch: &mut Batch) -> Result<(usize, Option<usize>), PartError> {
        let (mut mounts, odd) = self.mounts()?;
        let omitted = mounts.len().saturating_sub(self.settings.max_objects);
        mounts.truncate(self.settings.max_objects);
        STUCK.lock().retain(|stuck| !stuck.thread.is_finished());
        let (start, mut next) = (Instant::now(), 0);
        while next < mounts.len() {
            let patience = self
                .settings
                .deadline
                .saturating_sub(start.elapsed())
                .min(self.settings.mount_timeout);
            if patience.is_zero() || !may_ask(&mounts[next]) {
                push(&mounts[next], &Answer::Late, batch);
                next += 1;
                continue;
            }
            next += self.ask_from(&mounts[next..], patience, batch).await;
        }
        Ok((omitted, odd))
    }

    /// Asks mount after mount on one thread, up to the first that hangs or is known to. Returns how
    /// many are done.
    async fn ask_from(&self, mounts: &[Mount], patience: Duration, batch: &mut Batch) -> usize {
        let paths: Vec<PathBuf> = mounts
            .iter()
            .take_while(|m| may_ask(m))
            .map(|m| m.path.clone())
            .collect();
        let (count, ask) = (paths.len(), self.ask);
        let (sender, mut receiver) = mpsc::channel(count);
        let thread = tokio::task::spawn_blocking(move || {
            for path in paths {
                // Nobody listens any more: an earlier path took too long.
                if sender.try_send(ask(&path)).is_err() {
                    return;
                }
            }
        });
        for (index, mount) in mounts.iter().take(count).enumerate() {
            match tokio::time::timeout(patience, receiver.recv()).await {
                Ok(Some(answer)) => push(mount, &Answer::Known(answer), batch),
                Ok(None) | Err(_) => {
                    push(mount, &Answer::Late, batch);
                    STUCK.lock().push(Stuck {
                        path: mount.path.clone(),
                        kin: Kin::of(&mount.fstype),
                        thread,
                    });
                    return index + 1;
                }
            }
        }
        count
    }

    fn mounts(&mut self) -> Result<(Vec<Mount>, Option<usize>), PartError> {
        // The mounts of the first process: those of the host, even from a container that may see
        // them.
        let path = match self.kernel.proc("1/mountinfo") {
            Ok(_) => "1/mountinfo",
            Err(_) => "self/mountinfo",
        };
        let (mut seen, mut found, mut count) = (HashSet::new(), Vec::new(), LineCount::default());
        let root = self.settings.roots.rootfs.clone();
        for line in lines(self.kernel.proc(path)?) {
            let Some(mut mount) = count.take(parse(line)) else {
                continue;
            };
            if root.as_os_str() != "/" {
                let Some(inner) = mount
                    .mountpoint
                    .strip_prefix(root.to_string_lossy().trim_end_matches('/'))
                else {
                    continue;
                };
                mount.mountpoint = if inner.is_empty() {
                    "/".into()
                } else {
                    inner.to_owned()
                };
            }
            if self
                .settings
                .mount_points_exclude
                .is_match(&mount.mountpoint)
                || self.settings.fs_types_exclude.is_match(&mount.fstype)
            {
                continue;
            }
            if seen.insert((
                mount.device.clone(),
                mount.mountpoint.clone(),
                mount.fstype.clone(),
            )) {
                mount.path = root.join(mount.mountpoint.trim_start_matches('/'));
                found.push(mount);
            }
        }
        Ok((found, count.finish(path)?))
    }
}

/// Whether a mount does not hang, as far as is known, and may.
fn may_ask(mount: &Mount) -> bool {
    let (stuck, kin) = (STUCK.lock(), Kin::of(&mount.fstype));
    stuck.iter().all(|stuck| stuck.path != mount.path)
        && stuck.iter().filter(|stuck| stuck.kin == kin).count() < MAX_STUCK
}

/// `36 35 98:0 /root /mount rw,noatime shared:1 - ext3 /dev/sda1 rw,errors=continue`.
fn parse(line: &[u8]) -> Option<Mount> {
    // One blank stands between two fields, and a field may be empty: that of a source that has
    // none.
    let mut parts = line.split(|byte| *byte == b' ');
    let (major, minor) = split_once(parts.nth(2)?, b':')?;
    let mountpoint = unescaped(parts.nth(1)?);
    let options = parts.next()?;
    let mut parts = parts.skip_while(|word| *word != b"-").skip(1);
    let (fstype, device) = (parts.next().filter(|name| !name.is_empty())?, parts.next()?);
    let readonly = |options: &[u8]| options.split(|b| *b == b',').any(|o| o == b"ro");
    Some(Mount {
        readonly: readonly(options) || parts.next().is_some_and(readonly),
        device: unescaped(device),
        fstype: text(fstype).into_owned(),
        path: PathBuf::new(),
        mountpoint,
        major: text(major).into_owned(),
        minor: text(minor).into_owned(),
    })
}

/// Blanks, tabs, line feeds and backslashes stand as `\040` and the like.
fn unescaped(word: &[u8]) -> String {
    let mut out = Vec::with_capacity(word.len());
    let mut rest = word;
    while let [first, tail @ ..] = rest {
        let code = tail
            .get(..3)
            .filter(|d| *first == b'\\' && d.iter().all(|b| (b'0'..=b'7').contains(b)));
        let value = code.map(|d| d.iter().fold(0_u32, |sum, b| sum * 8 + u32::from(b - b'0')));
        match value.and_then(|v| u8::try_from(v).ok()) {
            Some(byte) => {
                out.push(byte);
                rest = &tail[3..];
            }
            None => {
                out.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn push(mount: &Mount, answer: &Answer, batch: &mut Batch) {
    let trouble = match answer {
        Answer::Known(Ok(_)) => String::new(),
        Answer::Known(Err(error)) => std::io::Error::from(*error).kind().to_string(),
        Answer::Late => "mountpoint timeout".into(),
    };
    let labels = [
        ("device", mount.device.as_str()),
        ("device_error", &trouble),
        ("fstype", &mount.fstype),
        ("mountpoint", &mount.mountpoint),
    ];
    batch.push(
        &DEVICE_ERROR,
        &labels,
        f64::from(u8::from(!trouble.is_empty())),
    );
    batch.push(&READONLY, &labels, f64::from(u8::from(mount.readonly)));
    let Answer::Known(Ok(space)) = answer else {
        return;
    };
    let block = space.f_frsize as f64;
    batch.push(&SIZE, &labels, space.f_blocks as f64 * block);
    batch.push(&FREE, &labels, space.f_bfree as f64 * block);
    batch.push(&AVAIL, &labels, space.f_bavail as f64 * block);
    batch.push(&FILES, &labels, space.f_files as f64);
    batch.push(&FILES_FREE, &labels, space.f_ffree as f64);
    batch.push(&PURGEABLE, &labels, 0.0);
    let position = [
        ("device", mount.device.as_str()),
        ("major", &mount.major),
        ("minor", &mount.minor),
        ("mountpoint", &mount.mountpoint),
    ];
    batch.push(&MOUNT_INFO, &position, 1.0);
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;
    use crate::collectors::host::kernel::Roots;
    use crate::config::{Document, Environment, Loader};

    static RELEASED: AtomicBool = AtomicBool::new(false);

    /// `/hung` does not answer until it is released.
    fn ask(path: &Path) -> Result<StatVfs, Errno> {
        while path.ends_with("hung") && !RELEASED.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(5));
        }
        if path.ends_with("gone") {
            Err(Errno::ACCESS)
        } else {
            rustix::fs::statvfs("/")
        }
    }

    fn errors(batch: &Batch) -> Vec<String> {
        let all = batch
            .samples()
            .filter(|s| s.labels.metric_name() == DEVICE_ERROR.name && s.value == 1.0);
        all.map(|s| {
            format!(
                "{} {}",
                s.labels.value("mountpoint"),
                s.labels.value("device_error")
            )
        })
        .collect()
    }

    fn settings(folder: &Path) -> Settings {
        let document = Document::parse("n.yml", "mount_timeout: 500ms").expect("YAML");
        let environment = Environment::default();
        let loader = Loader::new(&document, &environment, Path::new("."));
        let mut settings = Settings::read(&loader.root(), Duration::from_secs(5));
        settings.roots = Roots {
            procfs: folder.to_owned(),
            sysfs: folder.to_owned(),
            rootfs: "/".into(),
        };
        settings
    }

    /// A hung mount hurts its own series only, and recovers.
    #[tokio::test]
    async fn a_mount_that_hangs_is_marked_and_left_alone_until_it_answers() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::create_dir(folder.path().join("1")).expect("made");
        let info = "1 0 8:1 / / rw - ext4 /dev/a rw\n2 1 0:9 / /hung rw - nfs4 s:/x rw\n3 1 8:2 / /with\\040blank ro - xfs /dev/b rw\n\
                    4 1 8:3 / /gone rw - xfs /dev/c rw\n5 1 0:5 / /proc rw - proc proc rw\n";
        std::fs::write(folder.path().join("1/mountinfo"), info).expect("written");
        let mut part = Filesystem::new(settings(folder.path())).asking(ask);
        for _ in 0..2 {
            let mut batch = Batch::new();
            part.read(&mut batch).await.expect("read");
            assert_eq!(
                errors(&batch),
                ["/hung mountpoint timeout", "/gone permission denied"]
            );
            assert_eq!(batch.families[SIZE.name].samples.len(), 2);
            assert_eq!(
                STUCK
                    .lock()
                    .iter()
                    .filter(|stuck| stuck.path.ends_with("hung"))
                    .count(),
                1
            );
            let readonly = batch.families[READONLY.name]
                .samples
                .iter()
                .filter(|s| s.value == 1.0);
            assert_eq!(
                readonly
                    .map(|s| s.labels.value("mountpoint"))
                    .collect::<Vec<_>>(),
                ["/with blank"]
            );
        }
        RELEASED.store(true, Ordering::SeqCst);
        let limit = std::time::Instant::now() + Duration::from_secs(10);
        loop {
            let mut batch = Batch::new();
            part.read(&mut batch).await.expect("read");
            if errors(&batch) == ["/gone permission denied"] {
                break;
            }
            assert!(std::time::Instant::now() < limit, "the mount stays marked");
        }
    }
}
