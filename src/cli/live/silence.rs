//! `nightbell silence`: makes, shows, changes, ends and imports silences of a running nightbell,
//! and shows what one would hide.

use super::arguments::{Output, labels_of, moment, read_matchers};
use std::collections::BTreeMap;
use std::io::Read;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::{Value as Json, json};

use super::alert::print_alerts;
use super::server::ServerArgs;
use crate::alerting::config::matchers::canonical;
use crate::cli::table::{print_table, shown_time};
use crate::cli::terminal::{complain, json_text, say};
use crate::model::text::visible;
use crate::model::{MatchOp, Matcher, Timestamp, parse_duration};

/// Largest import, in bytes.
const MAX_IMPORT: u64 = 64 << 20;
/// Values that no honest matcher takes all of.
const PROBES: [&str; 6] = ["a", "Z9", "0", "-", "any value at all", "\u{e9}\u{4e2d}"];

/// What to do with silences.
#[derive(Args)]
pub struct SilenceArgs {
    #[command(subcommand)]
    action: Action,
    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Subcommand)]
enum Action {
    /// Mute alerts for a time; prints the new silence's id
    Add(AddArgs),
    /// Show what a silence with these matchers would hide now
    Preview {
        /// Matchers such as severity=page or instance=~"db.*"; a bare word is an alertname
        #[arg(required = true)]
        matchers: Vec<String>,
        /// How the alerts are written
        #[arg(long, short, value_enum, default_value_t)]
        output: Output,
    },
    /// Show silences
    Query(QueryArgs),
    /// Change silences
    Update(UpdateArgs),
    /// End silences
    Expire {
        /// Their ids
        #[arg(required = true)]
        ids: Vec<String>,
    },
    /// Make the silences that a JSON file lists, as `silence query -o json` writes them
    Import {
        /// The file; none, or -: standard input
        file: Option<PathBuf>,
        /// Make new ones even of those whose ids are known
        #[arg(long, short)]
        force: bool,
    },
}

#[derive(Args)]
struct AddArgs {
    /// Matchers such as severity=page or instance=~"db.*"; a bare word is an alertname
    #[arg(required = true)]
    matchers: Vec<String>,
    /// Who makes it
    #[arg(
        long,
        short,
        env = "USER",
        hide_env_values = true,
        default_value = "nightbell"
    )]
    author: String,
    /// Why
    #[arg(long, short, default_value = "")]
    comment: String,
    /// For how long
    #[arg(long, short, default_value = "1h", value_parser = parse_duration)]
    duration: Duration,
    /// When it begins, RFC 3339 [default: now]
    #[arg(long, value_parser = moment)]
    start: Option<Timestamp>,
    /// When it ends, RFC 3339; instead of --duration
    #[arg(long, value_parser = moment)]
    end: Option<Timestamp>,
    /// Make it even when it would hide every alert
    #[arg(long, short)]
    force: bool,
}

#[derive(Args)]
struct QueryArgs {
    /// Matchers that a silence must have, letter by letter; a bare word is an alertname
    matchers: Vec<String>,
    /// Those that are over
    #[arg(long)]
    expired: bool,
    /// Those that end, or have ended, within this time
    #[arg(long, value_parser = parse_duration)]
    within: Option<Duration>,
    /// Those of this author
    #[arg(long)]
    created_by: Option<String>,
    /// Ids only
    #[arg(long, short)]
    quiet: bool,
    /// How they are written
    #[arg(long, short, value_enum, default_value_t)]
    output: Output,
}

#[derive(Args)]
struct UpdateArgs {
    /// Their ids
    #[arg(required = true)]
    ids: Vec<String>,
    /// How long from its start
    #[arg(long, short, value_parser = parse_duration)]
    duration: Option<Duration>,
    /// When it begins, RFC 3339
    #[arg(long, value_parser = moment)]
    start: Option<Timestamp>,
    /// When it ends, RFC 3339; instead of --duration
    #[arg(long, value_parser = moment)]
    end: Option<Timestamp>,
    /// Why
    #[arg(long, short)]
    comment: Option<String>,
    /// Ids only
    #[arg(long, short)]
    quiet: bool,
}

/// Does it; the error is for standard error.
pub async fn silence(args: &SilenceArgs) -> Result<(), String> {
    let server = &args.server;
    match &args.action {
        Action::Add(args) => add(server, args).await,
        Action::Preview { matchers, output } => {
            preview(server, &read_matchers(matchers)?, *output).await
        }
        Action::Query(args) => query(server, args).await,
        Action::Update(args) => update(server, args).await,
        Action::Expire { ids } => {
            for id in ids {
                let answer = server.delete(&format!("silence/{id}")).await?;
                let unknown = answer.status == 404;
                answer.success().map_err(|error| {
                    format!(
                        "silence {id}: {}",
                        if unknown {
                            "there is none".to_owned()
                        } else {
                            error
                        }
                    )
                })?;
            }
            Ok(())
        }
        Action::Import { file, force } => import(server, file.as_ref(), *force).await,
    }
}

fn matcher_json(matcher: &Matcher) -> Json {
    json!({
        "name": matcher.name, "value": matcher.value,
        "isRegex": matches!(matcher.op, MatchOp::Regex | MatchOp::NotRegex), "isEqual": matches!(matcher.op, MatchOp::Equal | MatchOp::Regex),
    })
}

/// Whether the matchers take whatever value their labels may have: `alertname=~".+"`.
pub fn takes_everything(matchers: &[Matcher]) -> bool {
    matchers
        .iter()
        .all(|m| PROBES.iter().all(|probe| m.matches(probe)))
}

/// The alerts that such a silence would hide, and how many there are in all.
async fn hidden(server: &ServerArgs, matchers: &[Matcher]) -> Result<(Vec<Json>, usize), String> {
    let Json::Array(alerts) = server.get("alerts", &[]).await? else {
        return Err("the answer is not a list of alerts".into());
    };
    let all = alerts.len();
    let matching = |alert: &Json| {
        let labels = labels_of(&alert["labels"]);
        matchers.iter().all(|m| m.matches_labels(&labels))
    };
    Ok((alerts.into_iter().filter(matching).collect(), all))
}

async fn preview(server: &ServerArgs, matchers: &[Matcher], output: Output) -> Result<(), String> {
    let (alerts, all) = hidden(server, matchers).await?;
    if output == Output::Json {
        say!("{}", json_text(&Json::Array(alerts).to_string()));
        return Ok(());
    }
    say!(
        "{} would hide {} of {all} alerts.",
        canonical(matchers),
        alerts.len()
    );
    if takes_everything(matchers) {
        say!("It would hide every alert that has these labels, later ones too.");
    }
    if !alerts.is_empty() {
        print_alerts(&alerts);
    }
    Ok(())
}

async fn add(server: &ServerArgs, args: &AddArgs) -> Result<(), String> {
    let matchers = read_matchers(&args.matchers)?;
    if !args.force && takes_everything(&matchers) {
        return Err(format!(
            "{} would hide every alert that has these labels, later ones too; narrow it, or say --force",
            canonical(&matchers)
        ));
    }
    let starts_at = args.start.unwrap_or_else(Timestamp::now);
    let body = json!({
        "matchers": matchers.iter().map(matcher_json).collect::<Vec<_>>(), "startsAt": starts_at.rfc3339(),
        "endsAt": args.end.unwrap_or(starts_at + args.duration).rfc3339(), "createdBy": args.author, "comment": args.comment,
    });
    let (alerts, all) = hidden(server, &matchers).await?;
    let made = server.post("silences", &body).await?.success()?;
    complain!(
        "{} hides {} of {all} alerts.",
        canonical(&matchers),
        alerts.len()
    );
    say!(
        "{}",
        visible(made["silenceID"].as_str().unwrap_or_default())
    );
    Ok(())
}

async fn query(server: &ServerArgs, args: &QueryArgs) -> Result<(), String> {
    let wanted: Vec<String> = read_matchers(&args.matchers)?
        .iter()
        .map(ToString::to_string)
        .collect();
    let filters: Vec<(&str, &str)> = wanted
        .iter()
        .map(|matcher| ("filter", matcher.as_str()))
        .collect();
    let Json::Array(mut silences) = server.get("silences", &filters).await? else {
        return Err("the answer is not a list".into());
    };
    let now = Timestamp::now();
    silences.retain(|silence| {
        let end = time_of(&silence["endsAt"]);
        (silence["status"]["state"] == "expired") == args.expired
            && args.within.is_none_or(|within| {
                if args.expired {
                    end >= now - within
                } else {
                    end <= now + within
                }
            })
            && args
                .created_by
                .as_ref()
                .is_none_or(|author| silence["createdBy"] == author.as_str())
    });
    print_silences(&silences, args.quiet, args.output);
    Ok(())
}

async fn update(server: &ServerArgs, args: &UpdateArgs) -> Result<(), String> {
    let mut changed = Vec::new();
    for id in &args.ids {
        let mut silence = server
            .get(&format!("silence/{id}"), &[])
            .await
            .map_err(|error| format!("silence {id}: {error}"))?;
        if let Some(start) = args.start {
            silence["startsAt"] = json!(start.rfc3339());
        }
        match (args.end, args.duration) {
            (Some(end), _) => silence["endsAt"] = json!(end.rfc3339()),
            (None, Some(duration)) => {
                silence["endsAt"] = json!((time_of(&silence["startsAt"]) + duration).rfc3339())
            }
            (None, None) => {}
        }
        if let Some(comment) = &args.comment {
            silence["comment"] = json!(comment);
        }
        let made = server
            .post("silences", &silence)
            .await?
            .success()
            .map_err(|error| format!("silence {id}: {error}"))?;
        let id = made["silenceID"].as_str().unwrap_or_default();
        changed.push(server.get(&format!("silence/{id}"), &[]).await?);
    }
    print_silences(&changed, args.quiet, Output::Simple);
    Ok(())
}

async fn import(server: &ServerArgs, file: Option<&PathBuf>, force: bool) -> Result<(), String> {
    let mut text = String::new();
    let read = match file.filter(|file| file.as_os_str() != "-") {
        Some(file) => std::fs::File::open(file)
            .and_then(|file| file.take(MAX_IMPORT).read_to_string(&mut text)),
        None => std::io::stdin().take(MAX_IMPORT).read_to_string(&mut text),
    };
    read.map_err(|error| format!("the silences cannot be read: {error}"))?;
    let silences: Vec<Json> = serde_json::from_str(&text)
        .map_err(|error| format!("not a JSON list of silences: {error}"))?;
    let (mut made, mut refused) = (0, BTreeMap::<String, usize>::new());
    for mut silence in silences {
        if force && let Some(silence) = silence.as_object_mut() {
            silence.remove("id");
        }
        let mut answer = server.post("silences", &silence).await?;
        if answer.status == 404
            && let Some(unknown) = silence.as_object_mut()
        {
            // An id of another server: here it is a new silence.
            unknown.remove("id");
            answer = server.post("silences", &silence).await?;
        }
        match answer.success() {
            Ok(_) => made += 1,
            Err(error) => *refused.entry(error).or_default() += 1,
        }
    }
    say!("{made} silences imported.");
    if refused.is_empty() {
        return Ok(());
    }
    let refusals: Vec<String> = refused
        .iter()
        .map(|(error, count)| format!("{count} refused: {error}"))
        .collect();
    Err(refusals.join("\n"))
}

fn time_of(json: &Json) -> Timestamp {
    json.as_str()
        .and_then(Timestamp::parse_rfc3339)
        .unwrap_or(Timestamp(0))
}

fn matcher_text(json: &Json) -> String {
    let op = match (json["isRegex"] == true, json["isEqual"] != false) {
        (false, true) => MatchOp::Equal,
        (false, false) => MatchOp::NotEqual,
        (true, true) => MatchOp::Regex,
        (true, false) => MatchOp::NotRegex,
    };
    let text = |key: &str| json[key].as_str().unwrap_or_default();
    Matcher::new(text("name"), op, text("value"))
        .map_or_else(|_| json.to_string(), |matcher| matcher.to_string())
}

fn print_silences(silences: &[Json], quiet: bool, output: Output) {
    if quiet {
        for silence in silences {
            say!("{}", visible(silence["id"].as_str().unwrap_or_default()));
        }
        return;
    }
    if output == Output::Json {
        say!("{}", json_text(&Json::Array(silences.to_vec()).to_string()));
        return;
    }
    let rows = silences.iter().map(|silence| {
        let matchers: Vec<String> = silence["matchers"]
            .as_array()
            .into_iter()
            .flatten()
            .map(matcher_text)
            .collect();
        let text = |key: &str| silence[key].as_str().unwrap_or_default().to_owned();
        let state = silence["status"]["state"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        vec![
            text("id"),
            matchers.join(" "),
            state,
            shown_time(&silence["endsAt"]),
            text("createdBy"),
            text("comment"),
        ]
    });
    print_table(
        &[
            "ID",
            "Matchers",
            "State",
            "Ends At",
            "Created By",
            "Comment",
        ],
        rows,
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_matchers_and_bare_words_alertnames() {
        let read = |words: &[&str]| {
            read_matchers(&words.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>())
                .map(|m| canonical(&m))
        };
        assert_eq!(
            read(&["Down", "a=~b.*", "c!=d,e=f"]).as_deref(),
            Ok(r#"{a=~"b.*",alertname="Down",c!="d",e="f"}"#)
        );
        assert!(read(&["a=~("]).is_err());
    }

    #[test]
    fn a_silence_that_takes_every_value_is_seen() {
        let takes = |words: &[&str]| {
            takes_everything(
                &read_matchers(&words.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>())
                    .expect("valid"),
            )
        };
        assert!(
            takes(&["alertname=~.+"])
                && takes(&["alertname=~.+", "x!=\"\""])
                && takes(&["alertname!=\"\""])
                && takes(&["a!~q|z"])
        );
        assert!(
            !takes(&["alertname=~[A-Z].*"])
                && !takes(&["alertname=~.+", "job=db"])
                && !takes(&["Down"])
        );
    }
}
