//! `check rules` and `check metrics`: rule files are read as they would be for evaluation, pages of
//! metrics as promtool's linter reads them; output and exit status are promtool's.
//!
//! Exit status: 0 when nothing is wrong or only a lint finding was made, 1 for a mistake, 3 for a
//! lint finding with `--lint-fatal` and for rules with `--portable` that Prometheus would refuse.

use std::fmt::Write as _;
use std::fs;
use std::io::{self, Read, Write};
use std::path::PathBuf;

use clap::Args;

use crate::exposition::lint;
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
    /// Name what a Prometheus would refuse in the rules, and exit with status 3 if there is
    /// anything
    #[arg(long)]
    pub portable: bool,
    /// Pass over keys that are neither Prometheus's nor nightbell's
    #[arg(long)]
    pub ignore_unknown_fields: bool,
}

/// Arguments of `check metrics`.
#[derive(Args, Clone, Debug, Default)]
pub struct CheckMetricsArgs {
    /// Pages in text format 0.0.4; none, or -: standard input
    #[arg(value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// When nothing is found, list how many series each metric has
    #[arg(long)]
    pub extended: bool,
    /// all, or none to see only whether the page can be read
    #[arg(long, default_value = "all", value_parser = ["all", "none"])]
    pub lint: String,
}

/// Checks pages of metrics; returns the exit status: 1 when one cannot be read, 3 when something
/// was found, else 0.
pub fn check_metrics(
    args: &CheckMetricsArgs,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> io::Result<u8> {
    let mut status = 0;
    let mut pages: Vec<io::Result<Vec<u8>>> = Vec::new();
    if args.files.is_empty() || args.files.iter().any(|f| f.as_os_str() == "-") {
        let mut page = Vec::new();
        pages.push(
            io::stdin()
                .take(MAX_INPUT)
                .read_to_end(&mut page)
                .map(|_| page),
        );
    }
    let named = args.files.iter().filter(|f| f.as_os_str() != "-");
    pages.extend(named.map(|f| {
        fs::read(f).map_err(|e| io::Error::new(e.kind(), format!("{}: {e}", f.display())))
    }));
    for page in pages {
        let families = match lint::families(&page?) {
            Ok(families) => families,
            Err(error) => {
                writeln!(err, "error while linting: {error}")?;
                status = 1;
                continue;
            }
        };
        let findings = if args.lint == "none" {
            Vec::new()
        } else {
            lint::lint(&families)
        };
        for finding in &findings {
            writeln!(err, "{} {}", finding.metric, finding.text)?;
        }
        if !findings.is_empty() {
            status = if status == 1 { 1 } else { 3 };
        } else if args.extended {
            write!(out, "{}", cardinalities(&families))?;
        }
    }
    Ok(status)
}

/// Series of each metric, most first, as a table.
fn cardinalities(families: &lint::Families) -> String {
    let mut counts: Vec<(&str, usize)> = families
        .iter()
        .map(|(name, family)| (name.as_str(), family.cardinality()))
        .collect();
    counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let total: usize = counts.iter().map(|(_, count)| count).sum();
    let mut rows = vec![[
        "Metric".to_owned(),
        "Cardinality".to_owned(),
        "Percentage".to_owned(),
    ]];
    let share = |count: usize| format!("{:.2}%", count as f64 / total as f64 * 100.0);
    rows.extend(
        counts
            .into_iter()
            .map(|(name, count)| [name.to_owned(), count.to_string(), share(count)]),
    );
    rows.push(["Total".to_owned(), total.to_string(), "100%".to_owned()]);
    let width = |column: usize| {
        rows.iter()
            .map(|row| row[column].chars().count())
            .max()
            .unwrap_or(0)
            + 4
    };
    let widths = [width(0), width(1), width(2)];
    let line = |row: &[String; 3]| -> String {
        row.iter()
            .zip(widths)
            .map(|(cell, width)| format!("{cell:<width$}"))
            .collect()
    };
    rows.iter().map(|row| line(row) + "\n").collect()
}

/// Checks the files; returns the exit status.
pub fn check_rules(
    args: &CheckRulesArgs,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> io::Result<u8> {
    for option in args
        .lint
        .iter()
        .filter(|o| !["all", "duplicate-rules", "none", ""].contains(&o.as_str()))
    {
        writeln!(out, "WARNING: unknown lint option: {option:?}")?;
    }
    let duplicates = args
        .lint
        .iter()
        .any(|o| o == "all" || o == "duplicate-rules")
        && !args.lint.iter().any(|o| o == "none");
    let (mut failed, mut found, mut own) = (false, false, false);
    let mut judge = |name: String, result: Result<RuleFile, RuleFileErrors>| -> io::Result<()> {
        writeln!(out, "Checking {name}")?;
        match result {
            Err(errors) => {
                failed = true;
                writeln!(err, "  FAILED:\n{errors}")
            }
            Ok(file) => {
                if file.has_more {
                    writeln!(
                        err,
                        "  WARNING: {name}: only the first YAML document is read"
                    )?;
                }
                if args.portable && !file.unportable.is_empty() {
                    own = true;
                    let lines: Vec<String> =
                        file.unportable.iter().map(ToString::to_string).collect();
                    writeln!(
                        err,
                        "  NOT PORTABLE: leave this out for Prometheus\n{}",
                        lines.join("\n")
                    )?;
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
    let unknown_keys = if args.ignore_unknown_fields {
        UnknownKeys::Ignored
    } else {
        UnknownKeys::Refused
    };
    let stdin = args.files.is_empty() || args.files.iter().any(|f| f.as_os_str() == "-");
    if stdin {
        let mut text = String::new();
        io::stdin().take(MAX_INPUT).read_to_string(&mut text)?;
        judge(
            "standard input".into(),
            parse_text_with("standard input", &text, unknown_keys),
        )?;
    }
    for file in args.files.iter().filter(|f| f.as_os_str() != "-") {
        judge(file.display().to_string(), read_with(file, unknown_keys))?;
    }
    Ok(match (failed, own || (found && args.lint_fatal)) {
        (true, _) => 1,
        (false, true) => 3,
        (false, false) => 0,
    })
}

/// Rules of one file with equal names and labels, as promtool lists them; `None` when there are
/// none.
pub(in crate::cli) fn duplicate_rules<'a>(
    groups: impl IntoIterator<Item = &'a RuleGroup>,
) -> Option<String> {
    let mut rules: Vec<(&str, &Labels)> = groups
        .into_iter()
        .flat_map(|g| &g.rules)
        .map(|r| (r.name(), r.labels()))
        .collect();
    rules.sort();
    let mut repeated: Vec<(&str, &Labels)> = rules
        .windows(2)
        .filter(|pair| pair[0] == pair[1])
        .map(|pair| pair[1])
        .collect();
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
