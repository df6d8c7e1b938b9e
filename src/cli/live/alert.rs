//! `nightbell alert`: shows the alerts of a running nightbell, and posts one.

use clap::{Args, Subcommand};
use serde_json::{Map, Value as Json, json};

use super::arguments::{Output, labels_of, moment, read_matchers};
use super::server::ServerArgs;
use crate::cli::table::{print_table, shown_time};
use crate::cli::terminal::{json_text, say};
use crate::model::{MatchOp, Matcher, Timestamp};

/// What to do with alerts.
#[derive(Args)]
pub struct AlertArgs {
    #[command(subcommand)]
    action: Action,
    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Subcommand)]
enum Action {
    /// Show alerts: those that are heard, unless a kind is named
    Query(QueryArgs),
    /// Post an alert, which is routed and sent as those of the rules are
    Add(AddArgs),
}

#[derive(Args)]
struct QueryArgs {
    /// Matchers such as severity=page; a bare word is an alertname
    matchers: Vec<String>,
    /// Those that are heard
    #[arg(long, short)]
    active: bool,
    /// Those that a silence mutes
    #[arg(long, short)]
    silenced: bool,
    /// Those that another alert mutes
    #[arg(long, short)]
    inhibited: bool,
    /// Those for receivers whose names match
    #[arg(long, short, value_name = "REGEX")]
    receiver: Option<String>,
    /// How they are written
    #[arg(long, short, value_enum, default_value_t)]
    output: Output,
}

#[derive(Args)]
struct AddArgs {
    /// Labels as name=value; a bare word is the alertname
    #[arg(required = true)]
    labels: Vec<String>,
    /// An annotation as name=value; may be repeated
    #[arg(long, value_name = "NAME=VALUE")]
    annotation: Vec<String>,
    /// When it began, RFC 3339 [default: now]
    #[arg(long, value_parser = moment)]
    start: Option<Timestamp>,
    /// When it ends, RFC 3339 [default: after global.resolve_timeout]
    #[arg(long, value_parser = moment)]
    end: Option<Timestamp>,
    /// Link to its cause
    #[arg(long, default_value = "")]
    generator_url: String,
}

/// Does it; the error is for standard error.
pub async fn alert(args: &AlertArgs) -> Result<(), String> {
    match &args.action {
        Action::Query(query) => {
            let wanted: Vec<String> = read_matchers(&query.matchers)?
                .iter()
                .map(ToString::to_string)
                .collect();
            let heard = query.active || !(query.silenced || query.inhibited);
            let mut parameters: Vec<(&str, &str)> = wanted
                .iter()
                .map(|matcher| ("filter", matcher.as_str()))
                .collect();
            for (name, on) in [
                ("active", heard),
                ("silenced", query.silenced),
                ("inhibited", query.inhibited),
            ] {
                parameters.push((name, if on { "true" } else { "false" }));
            }
            parameters.extend(
                query
                    .receiver
                    .as_deref()
                    .map(|receiver| ("receiver", receiver)),
            );
            let Json::Array(alerts) = args.server.get("alerts", &parameters).await? else {
                return Err("the answer is not a list of alerts".into());
            };
            match query.output {
                Output::Json => say!("{}", json_text(&Json::Array(alerts).to_string())),
                Output::Simple => print_alerts(&alerts),
            }
            Ok(())
        }
        Action::Add(add) => {
            let mut alert =
                json!({ "labels": pairs(&add.labels)?, "annotations": pairs(&add.annotation)? });
            for (key, time) in [("startsAt", add.start), ("endsAt", add.end)] {
                if let Some(time) = time {
                    alert[key] = json!(time.rfc3339());
                }
            }
            if !add.generator_url.is_empty() {
                alert["generatorURL"] = json!(add.generator_url);
            }
            args.server
                .post("alerts", &json!([alert]))
                .await?
                .success()
                .map(drop)
        }
    }
}

/// Words as name=value; a bare word is an alertname.
pub fn pairs(words: &[String]) -> Result<Map<String, Json>, String> {
    let mut pairs = Map::new();
    for Matcher {
        name, op, value, ..
    } in read_matchers(words)?
    {
        if op != MatchOp::Equal {
            return Err(format!("{name}{}{value}: write name=value", op.as_str()));
        }
        pairs.insert(name, json!(value));
    }
    Ok(pairs)
}

/// A table of alerts.
pub fn print_alerts(alerts: &[Json]) {
    let rows = alerts.iter().map(|alert| {
        let labels = labels_of(&alert["labels"]);
        let others = labels.filtered(|name| name != "alertname");
        let summary = alert["annotations"]["summary"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        let state = alert["status"]["state"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        vec![
            labels.value("alertname").to_owned(),
            others.braced(),
            shown_time(&alert["startsAt"]),
            summary,
            state,
        ]
    });
    print_table(
        &["Alertname", "Labels", "Starts At", "Summary", "State"],
        rows,
    );
}
