//! Unpacking by a program, `xz` or `zstd`, which runs when nothing else wants the processor: what
//! an archive holds is looked at while it is read.

use std::io::{self, Read};
use std::path::Path;

use super::finding::{Finding, Reason};
use super::read::drain;
use crate::collectors::programs::{Input, Program, command};

/// Memory that a program may take, as it is written for both.
const MEMORY: &str = "--memory=128MiB";

/// Judges what a packed file holds. Errs also where the program says that the file is damaged, or
/// where the file ends too early.
pub fn unpacked(
    program: &Path,
    mut file: impl Read + Send,
    judge: impl FnOnce(&mut io::PipeReader) -> Result<(), Finding>,
) -> Result<(), Finding> {
    let failed = |error: io::Error| {
        Finding::of(
            Reason::Unreadable,
            format!("{}: {error}", program.display()),
        )
    };
    let mut unpack = command(program, &[]);
    unpack.args(["-d", "-c", "-q", MEMORY]);
    let (running, writer, reader) = Program::start(unpack, Input::Pipe, true).map_err(failed)?;
    let (Some(mut writer), Some(mut reader)) = (writer, reader) else {
        return Err(failed(io::Error::other("a pipe is missing")));
    };
    let (judged, drained, fed) = std::thread::scope(|scope| {
        let feeding = scope.spawn(move || io::copy(&mut file, &mut writer).map(drop));
        let judged = judge(&mut reader);
        // A reason that is found early does not excuse from the rest: damage comes first.
        let drained = drain(&mut reader);
        (judged, drained, feeding.join())
    });
    let (status, said) = running.wait().map_err(failed)?;
    match fed {
        // Then the program ended by itself, and has said why.
        Ok(Err(error)) if error.kind() != io::ErrorKind::BrokenPipe => return Err(error.into()),
        Ok(_) => {}
        Err(_) => return Err(failed(io::Error::other("ended early"))),
    }
    if status.success() {
        drained?;
        return judged;
    }
    let said = said.lines().next().unwrap_or_default().to_owned();
    let small = said.to_ascii_lowercase();
    let reason = if small.contains("memory") {
        Reason::Unreadable
    } else if small.contains("unexpected end") || small.contains("premature") {
        Reason::Truncated
    } else {
        Reason::Damaged
    };
    Err(Finding::of(reason, said))
}
