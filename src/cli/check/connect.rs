//! `nightbell check config --connect`: every target is collected from once, and said what came of
//! it.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::StreamExt as _;

use crate::app::Config;
use crate::cli::terminal::{complain, say};
use crate::model::text::format_float_g;
use crate::scrape::{Tried, trials};

/// Targets that are tried at the same time.
const AT_ONCE: usize = 8;
/// After this time it is said what is waited for.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long connections have to say goodbye.
const GOODBYE: Duration = Duration::from_millis(100);
/// Values that are shown of a target.
const MAX_RESULTS: usize = 50;

/// Tries every target; whether all of them, and all that the configuration asks of them, could be
/// measured.
pub fn connect(config: Config) -> std::io::Result<bool> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let all = runtime.block_on(async {
        let all = try_all(config).await;
        tokio::time::sleep(GOODBYE).await;
        all
    });
    // A file system that hangs keeps its thread: it is not waited for.
    runtime.shutdown_background();
    Ok(all)
}

/// Tries every target in silence. Which could not be measured, by job and instance, and why.
pub fn failures(config: Config) -> std::io::Result<BTreeMap<(String, String), String>> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let (trials, _) = trials(config.collectors, &config.jobs);
    let tries = trials.into_iter().map(|trial| async move {
        let key = (trial.job.clone(), trial.instance.clone());
        (key, trial.run().await)
    });
    let failed = runtime.block_on(async {
        let all: Vec<_> = futures_util::stream::iter(tries)
            .buffer_unordered(AT_ONCE)
            .collect()
            .await;
        tokio::time::sleep(GOODBYE).await;
        all.into_iter()
            .filter(|(_, tried)| !tried.error.is_empty())
            .map(|(key, tried)| (key, tried.error))
            .collect()
    });
    runtime.shutdown_background();
    Ok(failed)
}

async fn try_all(config: Config) -> bool {
    let (trials, problems) = trials(config.collectors, &config.jobs);
    problems
        .iter()
        .for_each(|problem| say!("  FAILED: {problem}"));
    let mut all = problems.is_empty();
    let names: Vec<String> = trials
        .iter()
        .map(|trial| match trial.address.is_empty() {
            true => format!("{} {}", trial.job, trial.instance),
            false => format!("{} {} ({})", trial.job, trial.instance, trial.address),
        })
        .collect();
    let mut running = futures_util::stream::iter(trials.into_iter().map(crate::scrape::Trial::run))
        .buffered(AT_ONCE);
    for name in &names {
        let tried = match tokio::time::timeout(PATIENCE, running.next()).await {
            Ok(tried) => tried,
            Err(_) => {
                complain!("  waiting for {name} …");
                running.next().await
            }
        };
        let Some(tried) = tried else { break };
        all &= tried.succeeded();
        show(name, &tried);
    }
    all
}

fn show(name: &str, tried: &Tried) {
    let took = tried.took.as_secs_f64();
    match tried.error.as_str() {
        "" => say!("  {name}: {} samples in {took:.2} s", tried.samples),
        error => say!("  {name}: FAILED: {error}"),
    }
    for sample in tried.report.results.samples().take(MAX_RESULTS) {
        say!("    {} {}", sample.labels, format_float_g(sample.value));
    }
    let beyond = tried.report.results.len().saturating_sub(MAX_RESULTS);
    if beyond > 0 {
        say!("    … and {beyond} more");
    }
    for finding in &tried.report.findings {
        say!(
            "    {}: {}",
            if finding.failed { "FAILED" } else { "NOTE" },
            finding.text
        );
    }
}
