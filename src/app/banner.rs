//! The few lines that nightbell prints when it has started: what it watches, where to look, what is
//! not configured.

use std::net::SocketAddr;

use super::config::Config;
use crate::alerting::Receiver;

/// The lines, for standard output.
pub fn banner(config: &Config, address: SocketAddr, state: &str, history: &str) -> String {
    let mut text = format!(
        "nightbell {} — settings: {}\n",
        env!("CARGO_PKG_VERSION"),
        config.name
    );
    let mut watched: Vec<String> = config
        .collectors
        .iter()
        .map(|c| format!("{} {}", c.kind, c.target.name))
        .collect();
    for job in &config.jobs {
        watched.push(format!("app_metrics {}", job.name));
    }
    let mut line = |label: &str, value: &str| text.push_str(&format!("  {label:<8} {value}\n"));
    line(
        "watches",
        &if watched.is_empty() {
            "nothing: add collectors or scrape_configs".to_owned()
        } else {
            watched.join(", ")
        },
    );
    line(
        "judges",
        &format!(
            "{} rules every {}",
            config.rule_count(),
            crate::model::format_duration(config.evaluation_interval())
        ),
    );
    line("tells", &receivers(config));
    let acts: Vec<&str> = config
        .alerting
        .receivers
        .iter()
        .filter(|r| is_action(r))
        .map(|r| r.name.as_str())
        .collect();
    if !acts.is_empty() {
        line("acts", &acts.join(", "));
    }
    line(
        "look at",
        &format!("http://{address}/  /metrics  /health  /api/v1/query"),
    );
    line("state", state);
    line("history", history);
    for (variable, reason) in &config.environment.unusable {
        line("unused", &format!("{variable}: {reason}"));
    }
    if !config.environment.missing.is_empty() {
        line(
            "not set",
            &format!(
                "{} (watched when set in the environment or in --env-file)",
                config.environment.missing.join(", ")
            ),
        );
    }
    text
}

/// Whether a receiver only does something, and tells nobody.
fn is_action(receiver: &Receiver) -> bool {
    !receiver.integrations.is_empty()
        && receiver
            .integrations
            .iter()
            .all(|integration| integration.notifier.action().is_some())
}

fn receivers(config: &Config) -> String {
    let mut names: Vec<String> = Vec::new();
    for receiver in config
        .alerting
        .receivers
        .iter()
        .filter(|r| !r.integrations.is_empty() && !is_action(r))
    {
        let kinds: Vec<&str> = receiver.integrations.iter().map(|i| i.kind).collect();
        names.push(format!("{} ({})", receiver.name, kinds.join(", ")));
    }
    match (names.is_empty(), config.outside.known.active.len()) {
        (true, 0) => {
            "nobody yet: add notify: {email, slack, webhook}, or route and receivers".to_owned()
        }
        (true, n) => format!("{n} Alertmanager(s)"),
        (false, 0) => names.join(", "),
        (false, n) => format!("{}, and {n} Alertmanager(s)", names.join(", ")),
    }
}
