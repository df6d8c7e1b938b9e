//! `test rules`: runs rule tests in promtool's format; output and exit status are promtool's.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::Args;
use regex::Regex;

use super::junit::Report;
use crate::config::glob;
use crate::model::Timestamp;
use crate::rules::RuleGroup;
use crate::rules::file::{UnknownKeys, read_with};
use crate::rules::unit_test::{Coverage, Options, Outcome, TestFile, run};

/// Arguments of `test rules`.
#[derive(Args, Clone, Debug, Default)]
pub struct TestRulesArgs {
    /// Test files
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Run only the tests whose name this regular expression matches; may be repeated
    #[arg(long, value_name = "REGEX")]
    pub run: Vec<Regex>,
    /// Show alerts that differ member by member, in colours
    #[arg(long)]
    pub diff: bool,
    /// Show when each test begins and ends, and all samples at its end
    #[arg(long)]
    pub debug: bool,
    /// Write the results to this file as JUnit XML
    #[arg(long, value_name = "FILE")]
    pub junit: Option<PathBuf>,
    /// Pass over keys in rule files that are not Prometheus's
    #[arg(long)]
    pub ignore_unknown_fields: bool,
    /// Say which rules, label sets and branches of expressions no test makes fire
    #[arg(long)]
    pub coverage: bool,
}

/// Runs the files; returns the exit status: 0 when all tests pass, else 1.
pub fn test_rules(
    args: &TestRulesArgs,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> io::Result<u8> {
    let mut failed = false;
    let (mut report, mut coverage) = (Report::default(), args.coverage.then(Coverage::default));
    for file in &args.files {
        report.begin(file.display().to_string(), Timestamp::now());
        let failures = run_file(file, args, &mut report, &mut coverage, out, err)?;
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
    if let Some(path) = &args.junit {
        fs::write(path, report.to_xml())
            .map_err(|e| io::Error::new(e.kind(), format!("{}: {e}", path.display())))?;
    }
    if let Some(coverage) = coverage {
        write!(out, "{}", coverage.gaps())?;
    }
    Ok(u8::from(failed))
}

/// What failed in one file; the results of its tests go to the report.
fn run_file(
    path: &Path,
    args: &TestRulesArgs,
    report: &mut Report,
    coverage: &mut Option<Coverage>,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> io::Result<Vec<String>> {
    let tests = match TestFile::read(path) {
        Ok(tests) => tests,
        Err(errors) => {
            report.abort(errors.to_string());
            return Ok(vec![errors.to_string()]);
        }
    };
    let (groups, errors) = read_groups(path, &tests, args, err)?;
    if let Some(coverage) = coverage {
        coverage.expect(&groups);
    }
    let options = Options {
        diff: args.diff,
        dump: args.debug,
    };
    let mut failures = Vec::new();
    for (number, test) in tests.tests.iter().enumerate() {
        if !args.run.is_empty() && !args.run.iter().any(|regex| regex.is_match(&test.name)) {
            continue;
        }
        let name = if test.name.is_empty() {
            format!("unnamed#{number}")
        } else {
            test.name.clone()
        };
        if args.debug {
            writeln!(out, "DEBUG: Starting test {name}")?;
        }
        let started = Instant::now();
        // promtool reads the rule files for each test: so each test fails of them.
        let outcome = match errors.is_empty() {
            true => run(&tests, test, &groups, options, coverage.as_mut()),
            false => Outcome {
                failures: errors.clone(),
                dump: None,
            },
        };
        if args.debug {
            write!(out, "{}", outcome.dump.unwrap_or_default())?;
            writeln!(
                out,
                "DEBUG: Test {name} finished, took {:?}",
                started.elapsed()
            )?;
        }
        report.add(name, outcome.failures.clone());
        failures.extend(outcome.failures);
    }
    Ok(failures)
}

/// The groups of the rule files that a test file names, and the mistakes in them.
fn read_groups(
    path: &Path,
    tests: &TestFile,
    args: &TestRulesArgs,
    err: &mut dyn Write,
) -> io::Result<(Vec<RuleGroup>, Vec<String>)> {
    let folder = path.parent().unwrap_or(Path::new(""));
    let unknown_keys = if args.ignore_unknown_fields {
        UnknownKeys::Ignored
    } else {
        UnknownKeys::Refused
    };
    let (mut groups, mut errors) = (Vec::new(), Vec::new());
    for pattern in &tests.rule_files {
        let files = match glob(&folder.join(pattern)) {
            Ok(files) => files,
            Err(error) => {
                errors.push(error.to_string());
                continue;
            }
        };
        if files.is_empty() {
            writeln!(
                err,
                "  WARNING: no file match pattern {}",
                folder.join(pattern).display()
            )?;
        }
        for file in files {
            match read_with(&file, unknown_keys) {
                Ok(file) => groups.extend(file.groups),
                Err(found) => errors.extend(found.0.iter().map(ToString::to_string)),
            }
        }
    }
    Ok((groups, errors))
}
