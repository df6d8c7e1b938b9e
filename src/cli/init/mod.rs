//! `nightbell init`: looks at what runs on this machine, says what it found and why it believes so,
//! asks, and writes a configuration file. What cannot be asked so yet, such as a database that wants a
//! role for nightbell, is written as a comment.
//!
//! It only reads: files below one root, the tables of the kernel, and, by GET, pages of what
//! listens here. Everything is bounded; no value of a variable, no argument of a command is shown
//! or written. Exit status: 0 when the file was written, 1 when it was not.

mod asking;
mod containers;
mod files;
mod found;
mod processes;
mod root;
mod schedules;
mod services;
mod supervisor;
mod writing;

use std::collections::BTreeSet;
use std::io::{self, BufRead as _, IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, mpsc::Sender};
use std::time::{Duration, Instant};

use clap::Args;

use super::check::connect::failures;
use super::terminal::{complain, say};
use crate::app::{self, Options, PROFILE_SETTINGS};
use crate::model::Timestamp;
use found::{Found, What};
use root::Root;
use writing::Refused;

/// How long all of it may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// A file system that hangs is waited for so much longer.
const GRACE: Duration = Duration::from_secs(5);
/// After this time it is shown how far it is.
const SILENT: Duration = Duration::from_secs(2);

/// What to look at, and where to write.
#[derive(Args)]
pub struct InitArgs {
    /// File to write
    #[arg(long, short, value_name = "FILE", default_value = "nightbell.yml")]
    output: PathBuf,
    /// Take everything that is found, without asking
    #[arg(long, short)]
    yes: bool,
    /// Replace the file if it is there
    #[arg(long)]
    force: bool,
    /// Figures of an application: what `rules.profiles` takes
    #[arg(long, value_name = "NAME")]
    profile: Option<String>,
    /// Look at the files and processes below this folder instead of /, such as a host's root in a
    /// container
    #[arg(long, value_name = "DIR", default_value = "/")]
    root: PathBuf,
    /// Ask nothing by HTTP what listens here: judge by names and ports alone
    #[arg(long)]
    no_connect: bool,
}

/// Looks, asks, writes.
pub fn init(args: &InitArgs) -> ExitCode {
    match run(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            complain!("nightbell: {problem}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &InitArgs) -> Result<(), String> {
    if let Some(profile) = &args.profile {
        let known: Vec<&str> = PROFILE_SETTINGS
            .iter()
            .map(|profile| profile.name)
            .collect();
        if !known.contains(&profile.as_str()) {
            return Err(format!(
                "--profile: {profile:?} is not known; there is {}",
                known.join(", ")
            ));
        }
    }
    let path = &args.output;
    if !args.force && std::fs::symlink_metadata(path).is_ok() {
        return Err(format!(
            "{} is there already; give --output another name, or --force to replace it",
            path.display()
        ));
    }
    if !args.root.is_dir() {
        return Err(format!("--root: {} is not a folder", args.root.display()));
    }
    let root = Arc::new(Root::new(&args.root, PATIENCE));
    let found = look(&root, !args.no_connect);
    let found = choose(found, args.yes)?;
    let made = Timestamp::now().rfc3339();
    let render = |refused: &Refused| {
        let made = made.split('T').next().unwrap_or_default();
        writing::render(&found, args.profile.as_deref(), made, refused)
    };
    let write = |text: &str, replaces: bool| {
        writing::write(path, text, replaces).map_err(|error| format!("{}: {error}", path.display()))
    };
    write(&render(&Refused::new()), args.force)?;
    let environment = found.iter().find_map(|one| match &one.what {
        What::Environment { path, .. } => Some(root.at(path)),
        _ => None,
    });
    let env_files: Vec<PathBuf> = environment.into_iter().collect();
    let options = Options {
        config: Some(path.to_owned()),
        env_files: env_files.clone(),
        is_trial: true,
        ..Options::default()
    };
    // A file that is not valid yet is spoken of below.
    if !args.no_connect
        && let Ok(config) = app::load(&options)
    {
        let refused = failures(config).map_err(|error| error.to_string())?;
        if !refused.is_empty() {
            write(&render(&refused), true)?;
            say!("\nWritten as comments, since they cannot be asked so yet:");
            for ((kind, name), why) in &refused {
                say!("  {kind} {name}: {why}");
            }
        }
    }
    next(path, &options, &root)
}

/// Says what to do now, after the file was checked.
fn next(path: &std::path::Path, options: &Options, root: &Root) -> Result<(), String> {
    let shown = path.display();
    say!("\nWrote {shown}, for its owner alone.");
    if root.is_cut() {
        say!("There is more than was looked at: see what is missing.");
    }
    if let Err(error) = app::load(options) {
        // What a variable holds may be wrong; what was written is not.
        return Err(format!(
            "{shown} is written, and is not valid yet:\n{error}"
        ));
    }
    let with: String = options
        .env_files
        .iter()
        .map(|file| format!(" --env-file {}", file.display()))
        .collect();
    say!("Next:");
    say!("  nightbell check config{with} {shown}              # what is wrong with it");
    say!("  nightbell check config{with} --connect {shown}    # asks every target once");
    say!("  nightbell{with} --config {shown}                  # then add who is notified: notify");
    Ok(())
}

/// Looks on a thread that may hang; what was found until then counts.
fn look(root: &Arc<Root>, asks: bool) -> Vec<Found> {
    let (send, receive) = channel();
    let looking = Arc::clone(root);
    let thread = std::thread::Builder::new()
        .name("init".into())
        .spawn(move || look_at_all(&looking, asks, &send));
    if let Err(error) = thread {
        complain!("nightbell: {error}");
    }
    let found = collect(root, &receive);
    if io::stderr().is_terminal() {
        eprint!("\r\x1b[K");
    }
    found
}

fn collect(root: &Root, receive: &Receiver<Vec<Found>>) -> Vec<Found> {
    let (begun, mut found) = (Instant::now(), Vec::new());
    let mut shown = Instant::now();
    loop {
        match receive.recv_timeout(Duration::from_millis(200)) {
            Ok(more) => found.extend(more),
            Err(RecvTimeoutError::Disconnected) => return found,
            Err(RecvTimeoutError::Timeout) => {}
        }
        let elapsed = begun.elapsed();
        if elapsed > PATIENCE + GRACE {
            complain!(
                "nightbell: {} does not answer: what was found so far is used",
                root.progress().0
            );
            return found;
        }
        if elapsed > SILENT {
            progress(root, elapsed, &mut shown);
        }
    }
}

/// A bar on a terminal, a line now and then elsewhere.
fn progress(root: &Root, elapsed: Duration, shown: &mut Instant) {
    const WIDTH: usize = 30;
    let (stage, entries) = root.progress();
    if io::stderr().is_terminal() {
        let full = (elapsed.as_secs_f64() / PATIENCE.as_secs_f64() * WIDTH as f64) as usize;
        let bar: String = (0..WIDTH)
            .map(|at| if at < full { '#' } else { '.' })
            .collect();
        eprint!(
            "\r\x1b[K[{bar}] {stage}: {entries} entries seen, {} s of {} at most",
            elapsed.as_secs(),
            PATIENCE.as_secs()
        );
        // A terminal that takes nothing shows nothing.
        let _unseen = io::stderr().flush();
    } else if shown.elapsed() > SILENT {
        *shown = Instant::now();
        complain!("looking at {stage}: {entries} entries seen …");
    }
}

fn look_at_all(root: &Root, asks: bool, send: &Sender<Vec<Found>>) {
    // Nobody waits any longer: then nothing is to be done.
    let tell = |found: Vec<Found>| drop(send.send(found));
    root.begin("units of systemd");
    let (mut folders, mut environments) = (BTreeSet::new(), BTreeSet::new());
    let units = schedules::units(root, &mut folders, &mut environments);
    root.begin("processes and ports");
    let (processes, listeners) = processes::read(root);
    let listening = listeners
        .iter()
        .filter_map(|listener| processes.get(&listener.pid?));
    folders.extend(
        listening
            .filter_map(|process| process.folder.clone())
            .filter(|folder| folder.starts_with("/")),
    );
    root.begin("files");
    let mut files = files::find(root, &folders);
    let seen: BTreeSet<PathBuf> = files
        .found
        .iter()
        .filter_map(|one| {
            if let What::Environment { path, .. } = &one.what {
                Some(path.clone())
            } else {
                None
            }
        })
        .collect();
    environments
        .difference(&seen)
        .for_each(|path| files.environment(root, path));
    let (first, rest) = files
        .found
        .into_iter()
        .partition(|one| matches!(one.what, What::Environment { .. }));
    tell(first);
    root.begin("what listens here");
    tell(services::find(&processes, &listeners, &files.ports, asks));
    tell(
        supervisor::find(root, processes.values())
            .into_iter()
            .collect(),
    );
    root.begin("containers");
    tell(
        containers::find(root, processes.values(), asks)
            .into_iter()
            .collect(),
    );
    tell(units.into_iter().collect());
    tell(rest);
    root.begin("cron");
    tell(schedules::cron(root));
}

/// Shows what was found, and asks about each.
fn choose(found: Vec<Found>, takes_all: bool) -> Result<Vec<Found>, String> {
    say!("Found, beside this host itself:");
    if found.is_empty() {
        say!("  nothing else that is known here");
    }
    let asks = !takes_all && !found.is_empty();
    if asks && !io::stdin().is_terminal() {
        found.iter().for_each(show);
        return Err(
            "nothing was written: there is no terminal to ask on; give --yes to take all of it"
                .to_owned(),
        );
    }
    let mut chosen = Vec::new();
    let mut takes_all = takes_all;
    for one in found {
        show(&one);
        let takes = takes_all
            || match ask()? {
                Answer::Yes => true,
                Answer::No => false,
                Answer::All => {
                    takes_all = true;
                    true
                }
            };
        if takes {
            chosen.push(one);
        }
    }
    Ok(chosen)
}

fn show(one: &Found) {
    say!("  {}\n      because {}", one.title, one.why);
}

enum Answer {
    Yes,
    No,
    All,
}

fn ask() -> Result<Answer, String> {
    loop {
        print!("      take it in? [Y/n/a(ll)/q] ");
        io::stdout().flush().map_err(|error| error.to_string())?;
        let mut line = String::new();
        let read = io::stdin()
            .lock()
            .read_line(&mut line)
            .map_err(|error| error.to_string())?;
        match line.trim().to_ascii_lowercase().as_str() {
            "q" | "quit" => return Err("nothing was written".to_owned()),
            _ if read == 0 => return Err("nothing was written".to_owned()),
            "" | "y" | "yes" => return Ok(Answer::Yes),
            "n" | "no" => return Ok(Answer::No),
            "a" | "all" => return Ok(Answer::All),
            _ => {}
        }
    }
}
