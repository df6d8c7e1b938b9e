//! Programs that collectors run, such as psql, zstd and journalctl: found, and started as children
//! that have nothing of this process.
//!
//! They run when nothing else wants the processor or the disk, and end with the thread that started
//! them, however that ends.

use std::io::{self, PipeReader, PipeWriter, Read as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use rustix::process::{Pid, Signal, kill_process_group};

/// Where programs are looked for.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Where Debian has the programs of each version of PostgreSQL.
const VERSIONS: &str = "/usr/lib/postgresql";
/// So much of what a program says is read, in bytes.
const MAX_SAID: u64 = 64 << 10;

/// A program: in `folder`, or of the newest PostgreSQL that Debian has installed, or in the path.
pub fn find(name: &str, folder: Option<&Path>) -> Option<PathBuf> {
    if let Some(folder) = folder {
        return Some(folder.join(name)).filter(|path| path.is_file());
    }
    let versions = std::fs::read_dir(VERSIONS)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path());
    let number = |path: &PathBuf| {
        path.file_name()
            .and_then(|name| name.to_str()?.parse::<u32>().ok())
    };
    let mut versions: Vec<PathBuf> = versions.filter(|path| number(path).is_some()).collect();
    versions.sort_by_key(|path| std::cmp::Reverse(number(path)));
    let folders = versions
        .into_iter()
        .map(|path| path.join("bin"))
        .chain(PATH.split(':').map(PathBuf::from));
    folders
        .map(|folder| folder.join(name))
        .find(|path| path.is_file())
}

/// A command in a process group of its own, with these variables alone.
pub fn command(program: &Path, variables: &[(&'static str, String)]) -> Command {
    let wrappers: [&[&str]; 3] = [
        &["/usr/bin/setpriv", "--pdeathsig", "KILL", "--"],
        &["/usr/bin/ionice", "-t", "-c", "3"],
        &["/usr/bin/nice", "-n", "19"],
    ];
    let words = wrappers
        .into_iter()
        .filter(|wrapper| Path::new(wrapper[0]).is_file())
        .flatten()
        .copied();
    let mut words = words.map(PathBuf::from).chain([program.to_owned()]);
    let mut command = Command::new(words.next().unwrap_or_else(|| program.to_owned()));
    command
        .args(words)
        .env_clear()
        .env("PATH", PATH)
        .env("LC_ALL", "C")
        .current_dir("/")
        .process_group(0);
    command.envs(variables.iter().map(|(name, value)| (name, value)));
    command
}

/// A child that is killed with all that it started when this is dropped.
pub struct Program {
    child: Child,
    said: std::thread::JoinHandle<Vec<u8>>,
}

/// What a child is given to read.
pub enum Input {
    /// Nothing.
    Nothing,
    /// What is written into the other end.
    Pipe,
}

impl Program {
    /// Starts it. The ends of its pipes are ours.
    pub fn start(
        mut command: Command,
        input: Input,
        reads: bool,
    ) -> io::Result<(Self, Option<PipeWriter>, Option<PipeReader>)> {
        let (mut writer, mut reader) = (None, None);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        if matches!(input, Input::Pipe) {
            let (theirs, ours) = io::pipe()?;
            command.stdin(theirs);
            writer = Some(ours);
        }
        if reads {
            let (ours, theirs) = io::pipe()?;
            command.stdout(theirs);
            reader = Some(ours);
        }
        let (errors, theirs) = io::pipe()?;
        command.stderr(theirs);
        let child = command.spawn()?;
        // The command holds the other ends: they go away here, so that each pipe ends with the
        // program.
        drop(command);
        let said = std::thread::spawn(move || said(errors));
        Ok((Program { child, said }, writer, reader))
    }

    /// The way to end it from elsewhere.
    pub fn group(&self) -> Group {
        Group(Pid::from_raw(self.child.id().cast_signed()))
    }

    /// Waits for its end; what it said comes with it.
    pub fn wait(mut self) -> io::Result<(ExitStatus, String)> {
        let status = self.child.wait()?;
        let said = self.said.join().unwrap_or_default();
        Ok((status, String::from_utf8_lossy(&said).into_owned()))
    }
}

/// A process group.
#[derive(Clone, Copy)]
pub struct Group(Option<Pid>);

impl Group {
    /// Ends it. One that is gone already is as good.
    pub fn kill(self) {
        if let Some(group) = self.0 {
            let _gone = kill_process_group(group, Signal::KILL);
        }
    }
}

/// The beginning of what is said; the rest is read and forgotten.
fn said(mut errors: PipeReader) -> Vec<u8> {
    let mut kept = Vec::new();
    // What cannot be read is as if it had not been said.
    let _end = (&mut errors).take(MAX_SAID).read_to_end(&mut kept);
    let _end = io::copy(&mut errors, &mut io::sink());
    kept
}
