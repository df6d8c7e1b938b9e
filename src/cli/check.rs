//! `check rules`: rule files are read as they would be for evaluation; output and exit status are promtool's.
//!
//! Exit status: 0 when nothing is wrong or only a lint finding was made, 1 for a mistake, 3 for a lint finding with `--lint-fatal`.

use std::fmt::Write as _;
use std::io::{self, Read, Write};
use std::path::PathBuf;

use clap::Args;

use crate::model::Labels;
use crate::rules::RuleGroup;
use crate::rules::file::{RuleFile, RuleFileErrors, UnknownKeys, parse_text_with, read_with};

/// Largest rule file accepted on standard input, in bytes.
const MAX_INPUT: u64 = 64 << 20;

/// Arguments of `check rules`.
#[derive(Args)]
pub struct CheckRulesArgs {
    /// Rule files; none, or -: standard input
    pub files: Vec<PathBuf>,
    /// Comma-separated: all, duplicate-rules, none
    #[arg(long, default_value = "duplicate-rules", value_delimiter = ',')]
    pub lint: Vec<String>,
    /// Exit with status 3 when a lint finding was made
    #[arg(long)]
    pub lint_fatal: bool,
    /// Pass over keys that are not Prometheus's
    #[arg(long)]
    pub ignore_unknown_fields: bool,
}

/// Checks the files; returns the exit status.
pub fn check_rules(args: &CheckRulesArgs, out: &mut dyn Write, err: &mut dyn Write) -> io::Result<u8> {
    for option in args.lint.iter().filter(|o| !["all", "duplicate-rules", "none", ""].contains(&o.as_str())) {
        writeln!(err, "WARNING: unknown lint option: {option:?}")?;
    }
    let duplicates = args.lint.iter().any(|o| o == "all" || o == "duplicate-rules") && !args.lint.iter().any(|o| o == "none");
    let (mut failed, mut found) = (false, false);
    let mut judge = |name: String, result: Result<RuleFile, RuleFileErrors>| -> io::Result<()> {
        writeln!(out, "Checking {name}")?;
        match result {
            Err(errors) => {
                failed = true;
                writeln!(err, "  FAILED:\n{errors}")
            }
            Ok(file) => {
                if file.has_more {
                    writeln!(err, "  WARNING: {name}: only the first YAML document is read")?;
                }
                match duplicates.then(|| duplicate_rules(&file.groups)).flatten() {
                    Some(finding) => {
                        found = true;
                        writeln!(err, "  FAILED:\n{finding}")?;
                    }
                    None => {
                        let count: usize = file.groups.iter().map(|g| g.rules.len()).sum();
                        writeln!(out, "  SUCCESS: {count} rules found")?;
                    }
                }
                writeln!(out)
            }
        }
    };
    let unknown_keys = if args.ignore_unknown_fields { UnknownKeys::Ignored } else { UnknownKeys::Refused };
    let stdin = args.files.is_empty() || args.files.iter().any(|f| f.as_os_str() == "-");
    if stdin {
        let mut text = String::new();
        io::stdin().take(MAX_INPUT).read_to_string(&mut text)?;
        judge("standard input".into(), parse_text_with("standard input", &text, unknown_keys))?;
    }
    for file in args.files.iter().filter(|f| f.as_os_str() != "-") {
        judge(file.display().to_string(), read_with(file, unknown_keys))?;
    }
    Ok(match (failed, found && args.lint_fatal) {
        (true, _) => 1,
        (false, true) => 3,
        (false, false) => 0,
    })
}

/// Rules of one file with equal names and labels, as promtool lists them; `None` when there are none.
fn duplicate_rules(groups: &[RuleGroup]) -> Option<String> {
    let mut rules: Vec<(&str, &Labels)> = groups.iter().flat_map(|g| &g.rules).map(|r| (r.name(), r.labels())).collect();
    rules.sort();
    let mut repeated: Vec<(&str, &Labels)> = rules.windows(2).filter(|pair| pair[0] == pair[1]).map(|pair| pair[1]).collect();
    repeated.dedup();
    if repeated.is_empty() {
        return None;
    }
    let mut text = format!("lint error {} duplicate rule(s) found.", repeated.len());
    for (name, labels) in repeated {
        let _ = write!(text, "\nMetric: {name}\nLabel(s):");
        for (name, value) in labels {
            let _ = write!(text, "\n\t{name}: {value}");
        }
    }
    text.push_str("\nMight cause inconsistency while recording expressions");
    Some(text)
}
