//! `nightbell dead-letters`: the messages that no attempt could bring, and sending them again.

use clap::{Args, Subcommand};
use serde_json::Value as Json;

use super::server::ServerArgs;
use crate::cli::table::{print_table, shown_time};
use crate::cli::terminal::say;

/// What to do with them.
#[derive(Args)]
pub struct DeadLettersArgs {
    #[command(subcommand)]
    action: Option<Action>,
    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Subcommand)]
enum Action {
    /// Show them, the last one first
    List,
    /// Send some of them again, or all
    Send {
        /// Their ids
        #[arg(required_unless_present = "all", conflicts_with = "all")]
        ids: Vec<String>,
        /// All whose integration is still configured
        #[arg(long)]
        all: bool,
    },
}

/// Shows dead letters or sends them again.
pub async fn dead_letters(args: &DeadLettersArgs) -> Result<(), String> {
    match &args.action {
        None | Some(Action::List) => list(&args.server).await,
        Some(Action::Send { all: true, .. }) => {
            let answer = args.server.tell_own("dead-letters/send").await?;
            say!("{} messages are sent again", answer["data"]["sent"]);
            Ok(())
        }
        Some(Action::Send { ids, .. }) => {
            for id in ids {
                args.server
                    .tell_own(&format!("dead-letters/{id}/send"))
                    .await
                    .map_err(|error| format!("{id}: {error}"))?;
                say!("{id}: is sent again");
            }
            Ok(())
        }
    }
}

async fn list(server: &ServerArgs) -> Result<(), String> {
    let answer = server.ask_own("dead-letters", &[]).await?;
    let text = |json: &Json| json.as_str().unwrap_or_default().to_owned();
    let names = |row: &Json| {
        let mut names: Vec<String> = row["alerts"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|a| text(&a["labels"]["alertname"]))
            .collect();
        names.dedup();
        names.join(" ")
    };
    let cells = |row: &Json| {
        vec![
            text(&row["id"]),
            shown_time(&row["givenUpAt"]),
            text(&row["integration"]),
            names(row),
            text(&row["error"]),
        ]
    };
    print_table(
        &["Id", "Given up", "Integration", "Alerts", "Error"],
        answer["data"].as_array().into_iter().flatten().map(cells),
    );
    Ok(())
}
