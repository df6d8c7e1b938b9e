//! `nightbell check health`: the daily check, one line for each thing that somebody looks at in the
//! morning. It asks the nightbell that runs here; where none runs, it collects once by itself,
//! stores nothing and notifies nobody.

use std::collections::HashMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, ValueEnum};
use futures_util::StreamExt as _;
use serde_json::{Value as Json, json};

use crate::app::{self, Options};
use crate::cli::live::arguments::labels_of;
use crate::cli::live::place::PlaceArgs;
use crate::cli::live::server::ServerArgs;
use crate::cli::terminal::{complain, json_text, say};
use crate::model::text::visible;
use crate::model::{Labels, METRIC_NAME, Sample, Timestamp};
use crate::promql::{Engine, Value, parse};
use crate::report::checks::{Answer, Check, Facts, Firing, QUESTIONS, expression, status};
use crate::report::{Language, words};
use crate::scrape::{Tried, trials};
use crate::store::{Limits, Store};

/// Targets that are tried at the same time, and how long all of them may take.
const AT_ONCE: usize = 8;
const DEADLINE: Duration = Duration::from_secs(120);

/// What to check.
#[derive(Args)]
#[command(
    after_help = "Exit status: 0 all is well, 1 something to look at, 2 something is unhealthy, or the check was not possible.\n\
                        For cron: 0 8 * * * nightbell check health --daily || mail …"
)]
pub struct CheckHealthArgs {
    /// Look back a day: errors in logs, what fired and is over
    #[arg(long)]
    daily: bool,
    /// The language of the lines
    #[arg(long, value_enum, default_value_t)]
    language: LanguageArg,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Collect once by itself, whether a nightbell runs or not
    #[arg(long, conflicts_with = "url")]
    alone: bool,
    #[command(flatten)]
    place: PlaceArgs,
}

/// A language on the command line.
#[derive(Clone, Copy, Default, ValueEnum)]
pub enum LanguageArg {
    /// English
    #[default]
    En,
    /// Chinese
    Zh,
}

impl From<LanguageArg> for Language {
    fn from(language: LanguageArg) -> Self {
        match language {
            LanguageArg::En => Language::En,
            LanguageArg::Zh => Language::Zh,
        }
    }
}

/// What was found out, and by whom.
struct Found {
    by: String,
    health: Option<Json>,
    answers: HashMap<&'static str, Answer>,
    alerts: Option<Vec<Firing>>,
}

/// Prints the lines; the exit status is that of the worst.
pub fn check_health(args: &CheckHealthArgs, env_files: &[PathBuf]) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            complain!("nightbell: the runtime cannot be started: {error}");
            return ExitCode::from(2);
        }
    };
    let found = runtime.block_on(find(args, env_files));
    // A file system that hangs keeps its thread: it is not waited for.
    runtime.shutdown_background();
    match found {
        Ok(found) => print(args, &found),
        Err(error) => {
            complain!("nightbell: {error}");
            ExitCode::from(2)
        }
    }
}

async fn find(args: &CheckHealthArgs, env_files: &[PathBuf]) -> Result<Found, String> {
    if args.alone {
        return alone(args, env_files).await;
    }
    let url = args.place.url(env_files)?;
    let server = ServerArgs::at(url.clone(), args.place.admin_token.clone());
    match running(args, &server).await {
        Err(error) if args.place.url.is_none() && error.contains("does not answer") => {
            alone(args, env_files).await
        }
        found => found,
    }
}

/// Asks the nightbell that runs.
async fn running(args: &CheckHealthArgs, server: &ServerArgs) -> Result<Found, String> {
    let health = server.health().await?;
    let mut answers = HashMap::new();
    for (key, question) in QUESTIONS {
        answers.insert(*key, server.query(&expression(question, args.daily)).await);
    }
    let list = server.get("alerts", &[]).await?;
    let alerts = list
        .as_array()
        .into_iter()
        .flatten()
        .map(|alert| firing(alert, args.language.into()))
        .collect();
    Ok(Found {
        by: server.url.to_string(),
        health: Some(health),
        answers,
        alerts: Some(alerts),
    })
}

fn firing(alert: &Json, language: Language) -> Firing {
    let text = |name: &str| {
        alert["annotations"][name]
            .as_str()
            .filter(|text| !text.is_empty())
    };
    let summary = match language {
        Language::Zh => text("summary_zh").or(text("summary")),
        Language::En => text("summary"),
    };
    Firing {
        labels: labels_of(&alert["labels"]),
        summary: summary
            .or(text("description"))
            .unwrap_or_default()
            .to_owned(),
        since: alert["startsAt"]
            .as_str()
            .and_then(Timestamp::parse_rfc3339),
        muted: alert["status"]["state"] == "suppressed",
    }
}

/// Collects once, and asks the same questions of what came.
async fn alone(args: &CheckHealthArgs, env_files: &[PathBuf]) -> Result<Found, String> {
    let options = Options {
        config: args.place.config.clone(),
        env_files: env_files.to_vec(),
        is_trial: true,
        ..Options::default()
    };
    let config = app::load(&options).map_err(|error| error.to_string())?;
    let (trials, problems) = trials(config.collectors, &config.jobs);
    problems
        .iter()
        .for_each(|problem| complain!("nightbell: {problem}"));
    let names: Vec<(String, String)> = trials
        .iter()
        .map(|trial| (trial.job.clone(), trial.instance.clone()))
        .collect();
    let running = futures_util::stream::iter(trials.into_iter().map(crate::scrape::Trial::run))
        .buffered(AT_ONCE);
    let tried: Vec<Tried> = tokio::time::timeout(DEADLINE, running.collect())
        .await
        .map_err(|_| format!("the targets do not answer within {}s", DEADLINE.as_secs()))?;
    let (store, now) = (Store::new(Limits::default()), Timestamp::now());
    for ((job, instance), tried) in names.iter().zip(&tried) {
        store.append(now, &samples(job, instance, tried));
    }
    let answers = QUESTIONS
        .iter()
        .map(|(key, question)| {
            (
                *key,
                evaluate(&store, &expression(question, args.daily), now),
            )
        })
        .collect();
    Ok(Found {
        by: String::new(),
        health: None,
        answers,
        alerts: None,
    })
}

/// What a target brought, as the store of a running nightbell would have it.
fn samples(job: &str, instance: &str, tried: &Tried) -> Vec<Sample> {
    let labelled = |labels: &Labels| labels.with("job", job).with("instance", instance);
    let sample = |pairs: &[(&str, &str)], value: f64| Sample {
        labels: labelled(&Labels::from_pairs(pairs.iter().copied())),
        value,
        timestamp: None,
    };
    let collected = tried
        .batch
        .families
        .values()
        .flat_map(|family| &family.samples);
    let mut samples: Vec<Sample> = collected
        .map(|one| Sample {
            labels: labelled(&one.labels),
            value: one.value,
            timestamp: None,
        })
        .collect();
    samples.push(sample(
        &[(METRIC_NAME, "up")],
        f64::from(u8::from(tried.error.is_empty())),
    ));
    if !tried.error.is_empty() {
        samples.push(sample(
            &[
                (METRIC_NAME, "nightbell_target_failure_info"),
                ("message", &tried.error),
            ],
            1.0,
        ));
    }
    samples
}

fn evaluate(store: &Store, expression: &str, now: Timestamp) -> Answer {
    let expr = parse(expression).map_err(|error| error.to_string())?;
    match Engine::default()
        .instant(store, &expr, now)
        .map_err(|error| error.to_string())?
        .value
    {
        Value::Vector(samples) => Ok(samples
            .into_iter()
            .map(|sample| (sample.labels, sample.value))
            .collect()),
        _ => Ok(Vec::new()),
    }
}

fn print(args: &CheckHealthArgs, found: &Found) -> ExitCode {
    let language: Language = args.language.into();
    let now = Timestamp::now();
    let facts = Facts {
        answers: &found.answers,
        alerts: found.alerts.as_deref(),
        daily: args.daily,
        now,
        language,
    };
    let mut checks = found
        .health
        .iter()
        .map(|health| own(health, language))
        .collect::<Vec<Check>>();
    checks.extend(facts.checks());
    let worst = status(&checks);
    let word = match worst {
        0 => language.pick("healthy", "健康"),
        1 => language.pick("something to look at", "需要关注"),
        _ => language.pick("unhealthy", "异常"),
    };
    if args.json {
        let word = match worst {
            0 => "healthy",
            1 => "look",
            _ => "unhealthy",
        };
        let body = json!({
            "status": word, "exitStatus": worst, "at": now.rfc3339(),
            "by": if found.by.is_empty() { "itself" } else { found.by.as_str() }, "daily": args.daily,
            "checks": checks.iter().map(Check::json).collect::<Vec<_>>(),
        });
        say!("{}", json_text(&format!("{body:#}")));
        return ExitCode::from(worst);
    }
    let by = match found.by.as_str() {
        "" => language
            .pick(
                "looked by itself, no nightbell was asked",
                "本机未运行 nightbell，直接检查一次",
            )
            .to_owned(),
        url => visible(url).into_owned(),
    };
    say!("{word} · {} · {by}", now.rfc3339());
    let width = checks
        .iter()
        .map(|check| columns(&check.name))
        .max()
        .unwrap_or(0)
        .min(48);
    for check in &checks {
        let pad = " ".repeat(width.saturating_sub(columns(&check.name)));
        let limit = if check.limit.is_empty() {
            String::new()
        } else {
            format!("  [{}]", visible(&check.limit))
        };
        let hint = if check.hint.is_empty() {
            String::new()
        } else {
            format!("  → {}", visible(&check.hint))
        };
        say!(
            "{} {}{pad}  {}{limit}{hint}",
            check.mark.sign(),
            visible(&check.name),
            visible(&check.value)
        );
    }
    ExitCode::from(worst)
}

/// How wide a text is on a terminal: what is not of an alphabet is twice as wide.
fn columns(text: &str) -> usize {
    text.chars()
        .map(|c| if c as u32 >= 0x1100 { 2 } else { 1 })
        .sum()
}

/// How the nightbell itself is.
fn own(health: &Json, language: Language) -> Check {
    let status = health["status"].as_str().unwrap_or_default();
    let up = words::span(health["uptime_seconds"].as_f64().unwrap_or(0.0));
    let mark = match status {
        "healthy" => crate::report::checks::Mark::Good,
        "degraded" => crate::report::checks::Mark::Look,
        _ => crate::report::checks::Mark::Bad,
    };
    let version = health["version"].as_str().unwrap_or_default();
    let value = match language {
        Language::En => format!(
            "{status}, {} of {} checks failed; {version}, up {up}",
            health["checks_failed"], health["checks_total"]
        ),
        Language::Zh => format!(
            "{status}，{}/{} 项检查失败；{version}，已运行 {up}",
            health["checks_failed"], health["checks_total"]
        ),
    };
    Check {
        mark,
        subject: "nightbell",
        name: "nightbell".into(),
        value,
        limit: "healthy".into(),
        hint: String::new(),
    }
}
