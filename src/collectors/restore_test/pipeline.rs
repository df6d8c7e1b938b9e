//! A dump on its way into the scratch database: `pg_restore` makes SQL of an archive, the filter
//! takes out what is none of the copy's business, `psql` runs the rest and stops at the first
//! error.

use std::hash::{BuildHasher as _, RandomState};
use std::io::{self, BufReader, BufWriter, Read, Write as _};
use std::path::Path;
use std::sync::Arc;
use std::thread::Scope;
use std::time::Duration;

use regex::Regex;

use super::failure::{Failure, Reason, not_started, program};
use super::scratch::Scratch;
use super::script::{Ended, Filter};
use super::server::{Server, close, refusal};
use super::settings::Settings;
use super::source::{Chosen, Content};
use super::statement::{Known, Left};
use super::watch::Watch;
use crate::collectors::programs::{Input, Program, command};
use crate::model::text::visible;

/// How often the size of the scratch database is asked for.
const LOOK: Duration = Duration::from_secs(2);
/// Bytes that are handed on at once.
const PIECE: usize = 256 << 10;
/// The first minor version of each major one whose psql takes no command of its own from a dump
/// after `\restrict`.
const RESTRICTS: [(u32, u32); 5] = [(13, 22), (14, 19), (15, 14), (16, 10), (17, 6)];

/// Ends the run when the scratch database becomes too large.
pub fn bound_size<'scope>(
    settings: &'scope Settings,
    server: &'scope Server,
    watch: &'scope Arc<Watch>,
    scope: &'scope Scope<'scope, '_>,
) {
    let look = async move {
        let mut connection = server.connect(None).await?;
        while !watch.is_over() {
            let size = server.size(&mut connection).await?;
            if size > settings.max_size {
                watch.end(Failure::of(
                    Reason::TooLarge,
                    "the restored database is larger than max_size",
                ));
                break;
            }
            watch.rest(LOOK).await;
        }
        close(connection).await;
        Ok::<_, Failure>(())
    };
    scope.spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        // A size that cannot be asked for bounds nothing; the run's other bounds stay.
        let _unbounded = runtime.map(|runtime| runtime.block_on(look));
    });
}

/// Restores a dump.
#[expect(clippy::too_many_arguments, reason = "one step of a run")]
pub fn restore<'scope>(
    settings: &Settings,
    server: &Server,
    watch: &'scope Arc<Watch>,
    scope: &'scope Scope<'scope, '_>,
    scratch: &Scratch,
    chosen: &Chosen,
    dump: Content<'scope>,
    known: &Known,
    left: &mut [u64; Left::ALL.len()],
) -> Result<(), Failure> {
    let programs = settings.programs.as_deref();
    let mut variables = server.variables.clone();
    variables.extend(password(server, scratch)?);
    let (archive, source): (Option<Program>, Box<dyn Read + Send + '_>) = match dump {
        Content::Script(reader) => (None, reader),
        Content::Piped(mut reader) => {
            let (program, writer, output) = convert(programs, None)?;
            watch.add(program.group());
            let mut writer = writer.ok_or_else(no_pipe)?;
            // What is wrong with the file is seen by what comes out.
            scope.spawn(move || {
                io::copy(&mut reader, &mut writer)
                    .map(drop)
                    .unwrap_or_default()
            });
            (Some(program), Box::new(output.ok_or_else(no_pipe)?))
        }
        _ => {
            let (program, _, output) = convert(programs, Some(&chosen.path))?;
            watch.add(program.group());
            (Some(program), Box::new(output.ok_or_else(no_pipe)?))
        }
    };
    let psql = program("psql", programs)?;
    let restricts = restricts(&psql);
    let mut run = command(&psql, &variables);
    run.args([
        "-X",
        "-q",
        "-w",
        "-v",
        "ON_ERROR_STOP=1",
        "-v",
        "VERBOSITY=verbose",
        "-f",
        "-",
        "-d",
        &server.scratch,
    ]);
    let (running, writer, _) =
        Program::start(run, Input::Pipe, false).map_err(|error| not_started("psql", &error))?;
    watch.add(running.group());
    let mut writer = BufWriter::with_capacity(PIECE, writer.ok_or_else(no_pipe)?);
    let mut filter = Filter::new(known);
    let handed = match restricts {
        true => writeln!(
            writer,
            "\\restrict {:016x}",
            RandomState::new().hash_one(&chosen.path)
        )
        .map_or(Ok(Ended::Closed), |()| {
            filter.run(BufReader::with_capacity(PIECE, source), &mut writer)
        }),
        false => filter.run(BufReader::with_capacity(PIECE, source), &mut writer),
    };
    *left = filter.left;
    if let Err(failure) = &handed {
        // The rest of what was begun must not count as a whole.
        watch.end(failure.clone());
    }
    // What is left in the buffer of a psql that has ended is of no use.
    drop(writer);
    let (status, said) = running
        .wait()
        .map_err(|error| not_started("psql", &error))?;
    let archive = archive
        .map(Program::wait)
        .transpose()
        .map_err(|error| not_started("pg_restore", &error))?;
    watch.forget_programs();
    watch.goes_on()?;
    if !status.success() || handed == Ok(Ended::Closed) {
        let failure = of_psql(&said);
        if !filter.missing.is_empty() && failure.reason == Reason::Refused {
            let detail = format!(
                "the server does not have the extensions {}: {}",
                filter.missing.join(", "),
                failure.detail
            );
            return Err(Failure::of(Reason::ExtensionMissing, detail));
        }
        return Err(failure);
    }
    match archive {
        Some((status, said)) if !status.success() => {
            let line = said.lines().next().unwrap_or("pg_restore failed");
            Err(Failure::of(Reason::Damaged, visible(line)))
        }
        _ => handed.map(drop),
    }
}

fn no_pipe() -> Failure {
    Failure::of(Reason::Failed, "a pipe is missing")
}

type Started = (Program, Option<io::PipeWriter>, Option<io::PipeReader>);

/// pg_restore, which makes SQL of an archive and asks no server.
fn convert(programs: Option<&Path>, path: Option<&Path>) -> Result<Started, Failure> {
    let mut run = command(&program("pg_restore", programs)?, &[]);
    run.args(["--no-owner", "--no-privileges", "-f", "-"]);
    run.args(path);
    let input = if path.is_some() {
        Input::Nothing
    } else {
        Input::Pipe
    };
    Program::start(run, input, true).map_err(|error| not_started("pg_restore", &error))
}

/// Where psql finds the password: in a file of the scratch folder, or where nightbell's own user
/// has it.
fn password(server: &Server, scratch: &Scratch) -> Result<Vec<(&'static str, String)>, Failure> {
    if !server.password.is_empty() {
        let escaped = server
            .password
            .expose()
            .replace('\\', "\\\\")
            .replace(':', "\\:");
        let file = scratch.write("pgpass", &format!("*:*:*:*:{escaped}\n"))?;
        return Ok(vec![("PGPASSFILE", file.display().to_string())]);
    }
    Ok(["PGPASSFILE", "HOME"]
        .into_iter()
        .filter_map(|name| Some((name, std::env::var(name).ok()?)))
        .collect())
}

/// Whether this psql has `\restrict`.
fn restricts(psql: &Path) -> bool {
    let said = command(psql, &[])
        .arg("--version")
        .output()
        .map(|output| output.stdout)
        .unwrap_or_default();
    let said = String::from_utf8_lossy(&said);
    let Some(version) = said.split_whitespace().nth(2) else {
        return false;
    };
    let mut parts = version.split('.').map(|part| part.parse::<u32>().ok());
    match (parts.next().flatten(), parts.next().flatten()) {
        (Some(major), Some(minor)) => {
            major >= 18
                || RESTRICTS
                    .iter()
                    .any(|(of, first)| *of == major && minor >= *first)
        }
        _ => false,
    }
}

/// The first error that psql names.
fn of_psql(said: &str) -> Failure {
    let pattern = Regex::new(r"(?m)^psql:[^\n]*?:(\d+): [^:\n]+: +([0-9A-Z]{5}): (.*)$").ok();
    let found = pattern
        .iter()
        .flat_map(|pattern| pattern.captures_iter(said))
        .find(|found| {
            // Notices and warnings have codes too.
            !["00", "01", "02"]
                .iter()
                .any(|class| found[2].starts_with(class))
        });
    match found {
        Some(found) => {
            let failure = refusal(&found[2], &visible(&found[3]));
            Failure {
                detail: format!(
                    "line {} of what psql was given: {}",
                    &found[1], failure.detail
                ),
                ..failure
            }
        }
        None if said.contains("connection") => Failure::of(
            Reason::Unreachable,
            "psql lost the server, or did not reach it",
        ),
        None => Failure::of(Reason::Failed, "psql ended early without saying why"),
    }
}
