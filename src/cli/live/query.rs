//! `nightbell query`: asks a running nightbell, or any server with Prometheus's HTTP API; output
//! and exit status are promtool's.

use std::io::Write;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use serde_json::Value as Json;
use url::Url;

use super::query_output::{Form, print_labels, print_series, print_value};
use crate::cli::terminal::{complain, json_text};
use crate::http::{HeaderName, HeaderValue, Method, Request, Response};
use crate::model::text::{visible, visible_lines};
use crate::model::{Timestamp, parse_duration};

/// Deadline of a request: the server's own is two minutes.
const TIMEOUT: Duration = Duration::from_secs(130);
/// Greatest answer taken, in bytes.
const MAX_ANSWER: usize = 1 << 30;

/// What to ask, and whom.
#[derive(Args)]
pub struct QueryArgs {
    #[command(subcommand)]
    question: Question,
    /// The server, unless it stands before the question
    #[arg(
        long,
        global = true,
        default_value = "http://127.0.0.1:9908",
        env = "NIGHTBELL_URL"
    )]
    url: Url,
    /// How the answer is written
    #[arg(
        long,
        short = 'o',
        visible_alias = "format",
        global = true,
        value_enum,
        default_value_t
    )]
    output: Output,
    /// A header for the request; may be repeated
    #[arg(long, global = true, value_name = "NAME=VALUE")]
    header: Vec<String>,
}

/// How an answer is written.
#[derive(Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum Output {
    /// As promtool writes it
    #[default]
    Promql,
    /// JSON
    Json,
}

#[derive(Subcommand)]
enum Question {
    /// The value of an expression at one instant
    Instant {
        /// The expression; the server's URL may stand before it
        #[arg(required = true, num_args = 1..=2, value_name = "[SERVER] EXPR", allow_negative_numbers = true)]
        words: Vec<String>,
        /// When: RFC 3339 or Unix seconds [default: now]
        #[arg(long)]
        time: Option<String>,
    },
    /// The values of an expression over time
    Range {
        /// The expression; the server's URL may stand before it
        #[arg(required = true, num_args = 1..=2, value_name = "[SERVER] EXPR", allow_negative_numbers = true)]
        words: Vec<String>,
        /// From when [default: five minutes before the end]
        #[arg(long)]
        start: Option<String>,
        /// Until when [default: now]
        #[arg(long)]
        end: Option<String>,
        /// Distance of the values, such as 30s [default: 250 steps, one second at least]
        #[arg(long)]
        step: Option<String>,
    },
    /// Series that selectors choose
    Series {
        /// The server's URL
        server: Option<Url>,
        /// A selector; may be repeated
        #[arg(long = "match", required = true, value_name = "SELECTOR")]
        matches: Vec<String>,
        /// From when
        #[arg(long)]
        start: Option<String>,
        /// Until when
        #[arg(long)]
        end: Option<String>,
    },
    /// The values of a label
    Labels {
        /// The label; the server's URL may stand before it
        #[arg(required = true, num_args = 1..=2, value_name = "[SERVER] NAME")]
        words: Vec<String>,
        /// A selector; may be repeated
        #[arg(long = "match", value_name = "SELECTOR")]
        matches: Vec<String>,
        /// From when
        #[arg(long)]
        start: Option<String>,
        /// Until when
        #[arg(long)]
        end: Option<String>,
    },
}

/// Asks and prints; the error is for standard error.
pub async fn query(args: &QueryArgs) -> Result<(), String> {
    let form = if args.output == Output::Json {
        Form::Json
    } else {
        Form::Promql
    };
    let text = match &args.question {
        Question::Instant { words, time } => {
            let at = time
                .as_deref()
                .map(|text| moment(text, "evaluation time"))
                .transpose()?
                .unwrap_or_else(Timestamp::now);
            let (server, expr) = server_and(words, &args.url)?;
            let parameters = [("query", expr.to_owned()), ("time", seconds(at))];
            print_value(&ask(args, &server, "query", &parameters).await?, form)?
        }
        Question::Range {
            words,
            start,
            end,
            step,
        } => {
            let end = end
                .as_deref()
                .map(|text| moment(text, "end time"))
                .transpose()?
                .unwrap_or_else(Timestamp::now);
            let start = start
                .as_deref()
                .map(|text| moment(text, "start time"))
                .transpose()?;
            let start = start.unwrap_or(end - Duration::from_secs(300));
            if start >= end {
                return Err("start time is not before end time".to_owned());
            }
            let step = match step {
                Some(text) => {
                    parse_duration(text).map_err(|e| format!("error parsing step: {e}"))?
                }
                None => Duration::ZERO,
            };
            let default = || Duration::from_secs((end.since(start).as_secs() / 250).max(1));
            let step = if step.is_zero() { default() } else { step };
            let (server, expr) = server_and(words, &args.url)?;
            let parameters = [
                ("query", expr.to_owned()),
                ("start", seconds(start)),
                ("end", seconds(end)),
                ("step", step.as_secs_f64().to_string()),
            ];
            print_value(&ask(args, &server, "query_range", &parameters).await?, form)?
        }
        Question::Series {
            server,
            matches,
            start,
            end,
        } => {
            let parameters = selection(matches, start.as_deref(), end.as_deref())?;
            print_series(
                &ask(
                    args,
                    server.as_ref().unwrap_or(&args.url),
                    "series",
                    &parameters,
                )
                .await?,
                form,
            )
        }
        Question::Labels {
            words,
            matches,
            start,
            end,
        } => {
            let (server, name) = server_and(words, &args.url)?;
            let parameters = selection(matches, start.as_deref(), end.as_deref())?;
            print_labels(
                &ask(args, &server, &format!("label/{name}/values"), &parameters).await?,
                form,
            )
        }
    };
    let text = if form == Form::Json {
        json_text(&text).into()
    } else {
        visible_lines(&text)
    };
    std::io::stdout()
        .write_all(text.as_bytes())
        .map_err(|error| format!("nightbell: {error}"))
}

/// The last word, and the server that may stand before it.
fn server_and<'a>(words: &'a [String], url: &Url) -> Result<(Url, &'a str), String> {
    match words {
        [server, word] => Ok((
            Url::parse(server).map_err(|e| format!("{server:?} is not a URL: {e}"))?,
            word,
        )),
        _ => Ok((url.clone(), words.first().map_or("", String::as_str))),
    }
}

fn selection(
    matches: &[String],
    start: Option<&str>,
    end: Option<&str>,
) -> Result<Vec<(&'static str, String)>, String> {
    let mut parameters: Vec<(&'static str, String)> =
        matches.iter().map(|m| ("match[]", m.clone())).collect();
    for (name, text) in [("start", start), ("end", end)] {
        if let Some(text) = text {
            parameters.push((name, seconds(moment(text, &format!("{name} time"))?)));
        }
    }
    Ok(parameters)
}

fn moment(text: &str, what: &str) -> Result<Timestamp, String> {
    let unix = text
        .parse::<f64>()
        .ok()
        .filter(|s| s.is_finite() && s.abs() < 1e15)
        .map(Timestamp::from_seconds);
    let time = unix.or_else(|| Timestamp::parse_rfc3339(text));
    time.ok_or_else(|| format!("error parsing {what}: cannot parse {text:?} to a valid timestamp"))
}

fn seconds(at: Timestamp) -> String {
    format!("{:.3}", at.0 as f64 / 1000.0)
}

/// Asks with POST, and with GET where the server takes no POST. Gives `data`; warnings go to
/// standard error.
async fn ask(
    args: &QueryArgs,
    server: &Url,
    path: &str,
    parameters: &[(&str, String)],
) -> Result<Json, String> {
    let mut url = server.clone();
    url.set_path(&format!(
        "{}/api/v1/{path}",
        server.path().trim_end_matches('/')
    ));
    let form = url::form_urlencoded::Serializer::new(String::new())
        .extend_pairs(parameters)
        .finish();
    let mut post = Request::get(url.clone(), TIMEOUT);
    post.method = Method::POST;
    post.max_body = MAX_ANSWER;
    post.body = form.clone().into();
    post.headers.insert(
        "content-type",
        HeaderValue::from_static("application/x-www-form-urlencoded"),
    );
    for header in &args.header {
        let (name, value) = header
            .split_once('=')
            .ok_or_else(|| format!("header {header:?}: expected NAME=VALUE"))?;
        let name: HeaderName = name
            .trim()
            .parse()
            .map_err(|_| format!("header {name:?} is not a name"))?;
        let value = value.parse().map_err(|_| {
            format!("header {name}: the value holds characters that a header cannot carry")
        })?;
        post.headers.insert(name, value);
    }
    let mut get = Request {
        method: Method::GET,
        body: Vec::new().into(),
        ..post.clone()
    };
    get.headers.remove("content-type");
    url.set_query(
        Some(&form)
            .filter(|form| !form.is_empty())
            .map(String::as_str),
    );
    get.url = url;
    let client = super::server::client();
    let labels = path.starts_with("label/");
    let mut response = if labels {
        client.send(get.clone()).await
    } else {
        client.send(post).await
    };
    if !labels
        && response
            .as_ref()
            .is_ok_and(|r| matches!(r.status, 405 | 501))
    {
        response = client.send(get).await;
    }
    let response = response.map_err(|error| {
        format!(
            "query error: {}: {error}",
            server.host_str().unwrap_or("the server")
        )
    })?;
    data(&response).map_err(|error| format!("query error: {error}"))
}

/// The data of an answer, or what is wrong with it as client libraries say it.
fn data(response: &Response) -> Result<Json, String> {
    let detail = || format!(" (detail: {})", visible(response.text().trim()));
    match response.status {
        200..300 | 400 | 422 => {}
        status @ 401..500 => {
            return Err(format!("client_error: client error: {status}{}", detail()));
        }
        status @ 500..600 => {
            return Err(format!("server_error: server error: {status}{}", detail()));
        }
        status => {
            return Err(format!(
                "bad_response: bad response code {status}{}",
                detail()
            ));
        }
    }
    let mut answer: Json =
        serde_json::from_slice(&response.body).map_err(|error| format!("bad_response: {error}"))?;
    if answer["status"] == "error" {
        let word = |key: &str| answer[key].as_str().unwrap_or_default();
        return Err(format!(
            "{}: {}",
            visible(word("errorType")),
            visible(word("error"))
        ));
    }
    for warning in answer["warnings"].as_array().into_iter().flatten() {
        complain!(
            "query warning: {}",
            visible(warning.as_str().unwrap_or_default())
        );
    }
    Ok(answer["data"].take())
}
