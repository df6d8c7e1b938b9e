//! `nightbell why`: asks a running nightbell why an alert was notified or not.

use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, ValueEnum};
use serde_json::Value;
use url::Url;

use crate::cli::terminal::{complain, json_text, say};
use crate::http::Request;
use crate::model::text::visible;

/// What to ask whom.
#[derive(Args)]
#[command(
    after_help = "Exit status: 0 it was notified, 3 it was not, 1 nobody answered or there is no such alert, 2 wrong usage.\n\
                        Examples: nightbell why HostDown instance=db1\n          nightbell why HostDown 'severity=~warning|critical' --at 2h"
)]
pub struct WhyArgs {
    /// The alert's name
    #[arg(value_name = "ALERT")]
    alert: String,
    /// Labels that the alert has; matchers (=, !=, =~, !~) are understood
    #[arg(value_name = "LABEL=VALUE")]
    labels: Vec<String>,
    /// What was decided then: RFC 3339, Unix seconds, or a time ago such as 2h [default: now]
    #[arg(long, value_name = "TIME")]
    at: Option<String>,
    /// The language of the answer
    #[arg(long, value_enum, default_value_t)]
    language: AnswerLanguage,
    /// Print the answer of /api/nightbell/why as it is
    #[arg(long)]
    json: bool,
    /// Print what was decided before, too
    #[arg(long)]
    history: bool,
    /// The running nightbell
    #[arg(long, default_value = "http://127.0.0.1:9908", env = "NIGHTBELL_URL")]
    url: Url,
}

#[derive(Clone, Copy, Default, ValueEnum)]
enum AnswerLanguage {
    /// English
    #[default]
    En,
    /// Chinese
    Zh,
}

/// Prints the deciding stage of each alert that matches.
pub async fn why(args: &WhyArgs) -> ExitCode {
    let (status, body) = match ask(args).await {
        Ok(answer) => answer,
        Err(error) => {
            complain!(
                "nightbell: {} does not answer: {error}",
                args.url.host_str().unwrap_or("the server")
            );
            return ExitCode::FAILURE;
        }
    };
    let json: Value = serde_json::from_str(&body).unwrap_or_default();
    let Some(answers) = json["answers"].as_array() else {
        complain!("nightbell: status {status}: {}", visible(body.trim()));
        return ExitCode::from(if status == 400 { 2 } else { 1 });
    };
    if args.json {
        say!(
            "{}",
            json_text(&serde_json::to_string_pretty(&json).unwrap_or(body))
        );
    } else {
        print!("{}", render(answers, args));
    }
    if answers.iter().any(|a| a["notified"] == true) {
        ExitCode::SUCCESS
    } else if answers.iter().all(|a| a["stage"] == "no_rule") {
        ExitCode::FAILURE
    } else {
        ExitCode::from(3)
    }
}

async fn ask(args: &WhyArgs) -> Result<(u16, String), String> {
    let mut url = args.url.clone();
    url.set_path(&format!(
        "{}/api/nightbell/why",
        url.path().trim_end_matches('/')
    ));
    {
        let mut query = url.query_pairs_mut();
        query.clear().append_pair("alert", &args.alert);
        query.extend_pairs(args.labels.iter().map(|label| ("filter", label)));
        query.extend_pairs(args.at.iter().map(|at| ("at", at)));
        query.append_pair(
            "language",
            if matches!(args.language, AnswerLanguage::Zh) {
                "zh"
            } else {
                "en"
            },
        );
    }
    let response = super::server::client()
        .send(Request::get(url, Duration::from_secs(30)))
        .await
        .map_err(|e| e.to_string())?;
    Ok((response.status, response.text().into_owned()))
}

fn render(answers: &[Value], args: &WhyArgs) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut lines = Vec::new();
    for answer in answers {
        let pairs = answer["labels"]
            .as_object()
            .into_iter()
            .flatten()
            .filter(|(name, _)| *name != "alertname");
        let pairs: Vec<String> = pairs
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        lines.push(format!("{}{{{}}}", args.alert, pairs.join(", ")));
        lines.push(format!("  {}", text(&answer["text"])));
        let receivers = answer["receivers"]
            .as_array()
            .map(Vec::as_slice)
            .unwrap_or_default();
        let others = receivers.iter().filter(|r| r["text"] != answer["text"]);
        lines.extend(others.map(|r| format!("  {}", text(&r["text"]))));
        if args.history {
            let events = answer["history"].as_array().into_iter().flatten();
            lines.extend(
                events.map(|event| format!("    {}  {}", text(&event["at"]), text(&event["text"]))),
            );
        }
    }
    lines
        .into_iter()
        .map(|line| visible(&line).into_owned() + "\n")
        .collect()
}
