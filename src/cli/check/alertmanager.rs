//! `check alertmanager`: an `alertmanager.yml` gets the result of `amtool check-config`; output and
//! exit status are amtool's.

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use clap::Args;

use crate::alerting::check::amtool::{Checked, check};
use crate::config::{ConfigErrors, Document};

/// Largest file accepted on standard input, in bytes.
const MAX_INPUT: u64 = 64 << 20;

/// What to check.
#[derive(Args)]
pub struct CheckAlertmanagerArgs {
    /// Files; none, or -: standard input
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
}

/// Checks each file; returns the exit status: 1 when Alertmanager would refuse one.
pub fn check_alertmanager(
    args: &CheckAlertmanagerArgs,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> io::Result<u8> {
    let mut failed = 0;
    let files = if args.files.is_empty() {
        &[PathBuf::from("-")] as &[PathBuf]
    } else {
        &args.files
    };
    for file in files {
        write!(out, "Checking '{}'", file.display())?;
        match check_file(file)? {
            Ok(checked) => {
                writeln!(out, "  SUCCESS\nFound:\n - global config\n - route")?;
                writeln!(
                    out,
                    " - {} inhibit rules",
                    checked.alerting.inhibit_rules.len()
                )?;
                writeln!(out, " - {} receivers", checked.alerting.receivers.len())?;
                writeln!(out, " - {} templates", checked.templates)?;
                if checked.templates > 0 {
                    writeln!(out, "  SUCCESS")?;
                }
                for note in checked.notes {
                    writeln!(err, "  NOTE: {note}")?;
                }
                for warning in checked.warnings {
                    writeln!(err, "  WARNING: nightbell would refuse it: {warning}")?;
                }
            }
            Err(errors) => {
                failed += 1;
                writeln!(out, "  FAILED: {errors}")?;
            }
        }
        writeln!(out)?;
    }
    if failed > 0 {
        writeln!(err, "nightbell: failed to validate {failed} file(s)")?;
    }
    Ok(u8::from(failed > 0))
}

fn check_file(file: &Path) -> io::Result<Result<Checked, ConfigErrors>> {
    let document = if file.as_os_str() == "-" {
        let mut text = String::new();
        io::stdin().take(MAX_INPUT).read_to_string(&mut text)?;
        Document::parse("standard input", &text)
    } else {
        Document::read(file)
    };
    let folder = file.parent().unwrap_or(Path::new("."));
    Ok(document
        .map_err(ConfigErrors::from)
        .and_then(|document| check(document, folder)))
}
