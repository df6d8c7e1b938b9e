//! `test rules`: runs rule tests in promtool's format; output and exit status are promtool's.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use regex::Regex;

use crate::rules::file::read;
use crate::rules::unit_test::{TestFile, run};

/// Arguments of `test rules`.
#[derive(Args)]
pub struct TestRulesArgs {
    /// Test files
    #[arg(required = true)]
    pub files: Vec<PathBuf>,
    /// Run only the tests whose name this regular expression matches; may be repeated
    #[arg(long, value_name = "REGEX")]
    pub run: Vec<Regex>,
}

/// Runs the files; returns the exit status: 0 when all tests pass, else 1.
pub fn test_rules(args: &TestRulesArgs, out: &mut dyn Write, err: &mut dyn Write) -> io::Result<u8> {
    let mut failed = false;
    for file in &args.files {
        let failures = run_file(file, &args.run, err)?;
        if failures.is_empty() {
            writeln!(out, "  SUCCESS")?;
        } else {
            failed = true;
            writeln!(err, "  FAILED:")?;
            for failure in failures {
                writeln!(err, "{failure}")?;
                writeln!(out)?;
            }
        }
        writeln!(out)?;
    }
    Ok(u8::from(failed))
}

fn run_file(path: &Path, only: &[Regex], err: &mut dyn Write) -> io::Result<Vec<String>> {
    let tests = match TestFile::read(path) {
        Ok(tests) => tests,
        Err(errors) => return Ok(errors.0.iter().map(ToString::to_string).collect()),
    };
    let folder = path.parent().unwrap_or(Path::new(""));
    let (mut groups, mut errors) = (Vec::new(), Vec::new());
    for pattern in &tests.rule_files {
        let files = matching_files(folder, pattern);
        if files.is_empty() {
            writeln!(err, "  WARNING: no file match pattern {}", folder.join(pattern).display())?;
        }
        for file in files {
            match read(&file) {
                Ok(file) => groups.extend(file.groups),
                Err(found) => errors.extend(found.0.iter().map(ToString::to_string)),
            }
        }
    }
    if errors.is_empty() {
        errors = run(&tests, &groups, |name| only.is_empty() || only.iter().any(|r| r.is_match(name)));
    }
    Ok(errors)
}

/// The files of a pattern, sorted; `*` and `?` may stand in its last part.
fn matching_files(folder: &Path, pattern: &str) -> Vec<PathBuf> {
    let path = folder.join(pattern);
    let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default().to_owned();
    if !name.contains(['*', '?']) {
        return if path.exists() { vec![path] } else { Vec::new() };
    }
    let parent = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let text = regex::escape(&name).replace("\\*", ".*").replace("\\?", ".");
    let Ok(wanted) = Regex::new(&format!("^{text}$")) else { return Vec::new() };
    let entries = fs::read_dir(parent).into_iter().flatten().flatten();
    let mut files: Vec<PathBuf> =
        entries.filter(|e| e.file_name().to_str().is_some_and(|n| wanted.is_match(n))).map(|e| e.path()).collect();
    files.sort();
    files
}
