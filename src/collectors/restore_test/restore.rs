//! One run: the newest backup is restored, looked at, and the copy is removed. It blocks, on a
//! thread of its own.

use std::io::{self, BufReader, BufWriter, Read, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::thread::Scope;

use serde::{Deserialize, Serialize};
use tokio::runtime::Runtime;

use super::contents::{self, Contents};
use super::failure::{Failure, Reason, program};
use super::pipeline;
use super::scratch::{Scratch, check_space, remove_left};
use super::server::{Server, close};
use super::settings::Settings;
use super::source::{Chosen, Content, check_readable, content, exists, newest};
use super::statement::Left;
use super::unpack::unpack;
use super::watch::Watch;
use crate::collectors::backup::read::Progress;

/// Most SQLite files of an archive that are looked at.
const MAX_DATABASES: usize = 100;

/// What came of a run.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Outcome {
    /// When the backup was written, in milliseconds since 1970.
    pub written: Option<i64>,
    /// Bytes of what was restored.
    pub bytes: u64,
    /// Files that were unpacked.
    pub files: u64,
    /// Tables.
    pub tables: u64,
    /// Rows.
    pub rows: u64,
    /// Of each check its name, its number, whether that is right.
    pub checks: Vec<(String, Option<f64>, bool)>,
    /// Statements left out, in the order of [`Left::ALL`].
    pub left: [u64; Left::ALL.len()],
    /// What was made for the run could not be removed.
    pub is_left_behind: bool,
    /// Why it failed.
    pub failure: Option<Failure>,
}

/// Looks whether a run is possible, and removes what a killed process left.
///
/// # Errors
/// What is in the way.
pub fn prepare(settings: &Settings) -> Result<Vec<String>, Failure> {
    remove_left(&settings.scratch)?;
    let mut notes = Vec::new();
    if let Some(server) = &settings.server {
        program("psql", settings.programs.as_deref())?;
        notes.extend(runtime()?.block_on(async {
            let mut connection = server.connect(None).await?;
            let note = server.check_role(&mut connection).await?;
            match server.remove_left(&mut connection).await {
                // Another one restores at the moment.
                Err(failure) if failure.reason == Reason::InUse => {}
                result => result?,
            }
            close(connection).await;
            Ok::<_, Failure>(note)
        })?);
    }
    exists(settings)?;
    Ok(notes)
}

fn runtime() -> Result<Runtime, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.map_err(|error| {
        Failure::of(
            Reason::Failed,
            format!("a runtime cannot be started: {error}"),
        )
    })
}

/// Runs once.
pub fn run(settings: &Settings, progress: &Arc<Progress>) -> Outcome {
    let mut outcome = Outcome::default();
    let watch = Watch::begin(Arc::clone(progress), settings.max_duration);
    let result = Scratch::make(&settings.scratch).and_then(|scratch| {
        let result = test(settings, &watch, &scratch, &mut outcome);
        outcome.is_left_behind |= !scratch.remove();
        result
    });
    // What ended the run explains what went wrong by that.
    let result = watch.goes_on().and(result);
    watch.over();
    outcome.failure = result.err();
    outcome
}

fn test(
    settings: &Settings,
    watch: &Arc<Watch>,
    scratch: &Scratch,
    outcome: &mut Outcome,
) -> Result<(), Failure> {
    let chosen = newest(settings)?;
    outcome.written = Some(chosen.written);
    check_readable(&chosen.path)?;
    if chosen.size > settings.max_size {
        return Err(Failure::of(
            Reason::TooLarge,
            format!(
                "the backup has {} MB, more than max_size",
                chosen.size >> 20
            ),
        ));
    }
    let found = std::thread::scope(|scope| {
        let result = opened(settings, watch, scope, scratch, &chosen, outcome);
        if let Err(failure) = &result {
            // What still runs beside would be waited for.
            watch.end(failure.clone());
        }
        result
    })?;
    (outcome.tables, outcome.rows) = (found.tables, found.rows);
    let mut wrong = None;
    for (index, value) in found.checks {
        let check = &settings.checks[index];
        let is_right = value
            .as_ref()
            .is_ok_and(|value| (check.min..=check.max).contains(value));
        if !is_right && wrong.is_none() {
            let detail = value
                .as_ref()
                .map_or_else(Clone::clone, |value| format!("it gave {value}"));
            wrong = Some(Failure::of(
                Reason::CheckFailed,
                format!("check {}: {detail}", check.name),
            ));
        }
        outcome
            .checks
            .push((check.name.clone(), value.ok(), is_right));
    }
    match wrong {
        Some(wrong) => Err(wrong),
        None if outcome.tables == 0 && outcome.files == 0 => {
            Err(Failure::of(Reason::Empty, "no table was restored"))
        }
        None => Ok(()),
    }
}

fn opened<'scope>(
    settings: &'scope Settings,
    watch: &'scope Arc<Watch>,
    scope: &'scope Scope<'scope, '_>,
    scratch: &Scratch,
    chosen: &Chosen,
    outcome: &mut Outcome,
) -> Result<Contents, Failure> {
    match content(&chosen.path, settings.backup.read_rate, watch, scope)? {
        Content::Sqlite(reader) => {
            check_space(scratch.path(), chosen.size)?;
            watch.look_after(scratch.path().to_owned());
            let copy = scratch.path().join("copy");
            outcome.bytes = write(reader, &copy, settings.max_size)?;
            outcome.files = 1;
            runtime()?.block_on(contents::sqlite(
                scratch.path(),
                &[copy],
                &settings.checks,
                watch,
            ))
        }
        Content::Tar(mut reader) => {
            check_space(scratch.path(), chosen.size)?;
            watch.look_after(scratch.path().to_owned());
            let folder = scratch.path().join("files");
            let mut found = unpack(&mut reader, &folder, settings.max_size, &|| watch.goes_on())?;
            // To the end: checksums of what is packed stand there.
            io::copy(&mut reader, &mut io::sink())?;
            (outcome.bytes, outcome.files) = (found.bytes, found.files);
            outcome.left[Left::Other as usize] = found.left;
            found.databases.truncate(MAX_DATABASES);
            runtime()?.block_on(contents::sqlite(
                &folder,
                &found.databases,
                &settings.checks,
                watch,
            ))
        }
        dump => {
            let missing = || {
                Failure::of(
                    Reason::Unsupported,
                    "the backup is a dump of PostgreSQL, and no dsn says where to restore it",
                )
            };
            let server = settings.server.as_ref().ok_or_else(missing)?;
            database(
                settings, server, watch, scope, scratch, chosen, dump, outcome,
            )
        }
    }
}

#[expect(clippy::too_many_arguments, reason = "one step of a run")]
fn database<'scope>(
    settings: &'scope Settings,
    server: &'scope Server,
    watch: &'scope Arc<Watch>,
    scope: &'scope Scope<'scope, '_>,
    scratch: &Scratch,
    chosen: &Chosen,
    dump: Content<'scope>,
    outcome: &mut Outcome,
) -> Result<Contents, Failure> {
    let runtime = runtime()?;
    let known = runtime.block_on(async {
        let mut connection = server.connect(None).await?;
        server.check_role(&mut connection).await?;
        server.remove_left(&mut connection).await?;
        if let Some(folder) = server.data_folder(&mut connection).await {
            check_space(&folder, chosen.size)?;
            watch.look_after(folder);
        }
        let known = server.known(&mut connection).await?;
        server.make(&mut connection).await?;
        close(connection).await;
        Ok::<_, Failure>(known)
    })?;
    pipeline::bound_size(settings, server, watch, scope);
    let restored = pipeline::restore(
        settings,
        server,
        watch,
        scope,
        scratch,
        chosen,
        dump,
        &known,
        &mut outcome.left,
    );
    let counted = restored.and_then(|()| {
        runtime.block_on(async {
            let mut connection = server.connect(Some(&server.scratch)).await?;
            let found = contents::postgres(server, &mut connection, &settings.checks, watch).await;
            outcome.bytes = server.size(&mut connection).await.unwrap_or_default();
            close(connection).await;
            found
        })
    });
    // Nothing of the run may write into it any longer, nor look at its size.
    watch.over();
    if let Err(failure) = runtime.block_on(server.remove()) {
        outcome.is_left_behind = true;
        tracing::warn!(
            collector = "restore_test",
            error = failure.detail,
            "The scratch database cannot be removed."
        );
    }
    counted
}

/// Writes a copy; its bytes.
fn write(reader: impl Read, path: &Path, max_size: u64) -> Result<u64, Failure> {
    let failed = |error: io::Error| Failure::of(Reason::Failed, error.to_string());
    let file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(failed)?;
    let mut out = BufWriter::new(file);
    let bytes = io::copy(
        &mut BufReader::new(reader.take(max_size.saturating_add(1))),
        &mut out,
    )?;
    out.flush()?;
    if bytes > max_size {
        return Err(Failure::of(
            Reason::TooLarge,
            "what is in the backup is larger than max_size",
        ));
    }
    Ok(bytes)
}
