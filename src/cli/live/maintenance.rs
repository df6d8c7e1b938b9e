//! `nightbell maintenance`: the calendar of a running nightbell: tasks, who did them, planned
//! windows.

use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::{Value as Json, json};

use super::arguments::{moment, read_matchers};
use super::server::ServerArgs;
use super::silence::takes_everything;
use crate::cli::table::{print_table, shown_time};
use crate::cli::terminal::{json_text, say};
use crate::model::text::visible;
use crate::model::{Timestamp, format_duration, parse_duration};

/// What to do with the calendar.
#[derive(Args)]
pub struct MaintenanceArgs {
    #[command(subcommand)]
    action: Action,
    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Subcommand)]
enum Action {
    /// Show each task, when it was last done and when it is due; exit status 1 when one is overdue
    List {
        /// Print the answer of /api/nightbell/maintenance as it is
        #[arg(long)]
        json: bool,
        /// Show who did what, too
        #[arg(long)]
        entries: bool,
    },
    /// Note that a task was done
    Done {
        /// Its name
        task: String,
        /// Who did it
        #[arg(long, env = "USER", hide_env_values = true)]
        by: String,
        /// When, RFC 3339 [default: now]
        #[arg(long, value_parser = moment)]
        at: Option<Timestamp>,
        /// What is to be said about it
        #[arg(long, default_value = "")]
        note: String,
    },
    /// Planned windows, in which alerts are silenced
    #[command(subcommand)]
    Window(WindowAction),
}

#[derive(Subcommand)]
enum WindowAction {
    /// Plan one; prints its id
    Add {
        /// When it begins, RFC 3339 [default: now]
        #[arg(long, value_parser = moment)]
        start: Option<Timestamp>,
        /// How long it lasts
        #[arg(long, short, default_value = "30m", value_parser = parse_duration)]
        duration: Duration,
        /// Which alerts it silences: matchers such as instance=db1; a bare word is an alertname
        #[arg(long, short, required = true, num_args = 1..)]
        matchers: Vec<String>,
        /// Why
        #[arg(long, short, default_value = "")]
        comment: String,
        /// Who plans it
        #[arg(
            long,
            env = "USER",
            hide_env_values = true,
            default_value = "nightbell"
        )]
        by: String,
        /// Plan it even when it would hide every alert
        #[arg(long, short)]
        force: bool,
    },
    /// Show them: those of the last 30 days, and those to come
    List {
        /// Print the answer of /api/nightbell/maintenance/windows as it is
        #[arg(long)]
        json: bool,
    },
    /// End one, or call it off
    End {
        /// Its id
        id: String,
    },
}

/// Does it; whether nothing is overdue.
pub async fn maintenance(args: &MaintenanceArgs) -> Result<bool, String> {
    let server = &args.server;
    match &args.action {
        Action::List { json, entries } => return list(server, *json, *entries).await,
        Action::Done { task, by, at, note } => {
            let body =
                json!({ "task": task, "by": by, "note": note, "at": at.map(Timestamp::rfc3339) });
            let answer = server.post_own("maintenance/done", &body).await?;
            say!(
                "{}: done at {} by {}",
                visible(task),
                shown_time(&answer["data"]["at"]),
                visible(by)
            );
        }
        Action::Window(WindowAction::Add {
            start,
            duration,
            matchers,
            comment,
            by,
            force,
        }) => {
            let read = read_matchers(matchers)?;
            if !force && takes_everything(&read) {
                return Err(
                    "it would hide every alert that has these labels; narrow it, or say --force"
                        .into(),
                );
            }
            let matchers: Vec<String> = read.iter().map(ToString::to_string).collect();
            let body = json!({
                "start": start.map(Timestamp::rfc3339), "duration": format_duration(*duration), "matchers": matchers, "comment": comment,
                "by": by,
            });
            let answer = server.post_own("maintenance/windows", &body).await?;
            say!(
                "{}",
                visible(answer["data"]["id"].as_str().unwrap_or_default())
            );
        }
        Action::Window(WindowAction::List { json }) => windows(server, *json).await?,
        Action::Window(WindowAction::End { id }) => {
            server
                .delete_own(&format!("maintenance/windows/{id}"))
                .await?;
        }
    }
    Ok(true)
}

async fn list(server: &ServerArgs, json: bool, entries: bool) -> Result<bool, String> {
    let answer = server.ask_own("maintenance", &[]).await?;
    let tasks: Vec<&Json> = answer["data"]["tasks"]
        .as_array()
        .into_iter()
        .flatten()
        .collect();
    let well = !tasks.iter().any(|task| task["overdue"] == true);
    if json {
        say!("{}", json_text(&format!("{answer:#}")));
        return Ok(well);
    }
    let text = |json: &Json| json.as_str().unwrap_or_default().to_owned();
    let time = |json: &Json| {
        if json.is_null() {
            "-".to_owned()
        } else {
            shown_time(json)
        }
    };
    let cells = |task: &&Json| {
        let state = if task["overdue"] == true {
            "OVERDUE"
        } else {
            "ok"
        };
        let job = task["job"].as_str().map(|job| format!("job {job}"));
        let by = task["by"]
            .as_str()
            .map(str::to_owned)
            .or(job)
            .unwrap_or_default();
        vec![
            text(&task["task"]),
            text(&task["of"]),
            state.to_owned(),
            time(&task["lastDone"]),
            by,
            time(&task["due"]),
            text(&task["hint"]),
        ]
    };
    print_table(
        &["Task", "Of", "State", "Last Done", "By", "Due By", "Hint"],
        tasks.iter().map(cells),
    );
    if entries {
        say!("");
        let rows = answer["data"]["entries"].as_array().into_iter().flatten();
        let cells = |entry: &Json| {
            vec![
                time(&entry["at"]),
                text(&entry["task"]),
                text(&entry["by"]),
                text(&entry["note"]),
            ]
        };
        print_table(&["Done", "Task", "By", "Note"], rows.map(cells));
    }
    Ok(well)
}

async fn windows(server: &ServerArgs, json: bool) -> Result<(), String> {
    let answer = server.ask_own("maintenance/windows", &[]).await?;
    if json {
        say!("{}", json_text(&format!("{answer:#}")));
        return Ok(());
    }
    let text = |json: &Json| json.as_str().unwrap_or_default().to_owned();
    let cells = |window: &Json| {
        let matchers: Vec<&str> = window["matchers"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Json::as_str)
            .collect();
        vec![
            text(&window["id"]),
            text(&window["state"]),
            shown_time(&window["startsAt"]),
            shown_time(&window["endsAt"]),
            matchers.join(" "),
            text(&window["author"]),
            text(&window["comment"]),
        ]
    };
    let rows = answer["data"].as_array().into_iter().flatten().map(cells);
    print_table(
        &[
            "ID",
            "State",
            "Starts At",
            "Ends At",
            "Matchers",
            "Author",
            "Comment",
        ],
        rows,
    );
    Ok(())
}
