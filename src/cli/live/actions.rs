//! `nightbell actions`: what recovery actions did.

use clap::Args;
use serde_json::Value as Json;

use super::server::ServerArgs;
use crate::cli::table::{print_table, shown_time};
use crate::cli::terminal::{json_text, say};
use crate::model::text::visible;

/// Which of them.
#[derive(Args)]
pub struct ActionsArgs {
    /// Those about the alert of this name
    alert: Option<String>,
    /// Those of this receiver
    #[arg(long, value_name = "NAME")]
    receiver: Option<String>,
    /// The last so many
    #[arg(long, default_value = "20", value_name = "N")]
    limit: u32,
    /// Print what programs printed, too
    #[arg(long)]
    output: bool,
    /// Print the answer of /api/nightbell/actions as it is
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: ServerArgs,
}

/// Prints the record, youngest first.
pub async fn actions(args: &ActionsArgs) -> Result<(), String> {
    let limit = args.limit.to_string();
    let mut parameters = vec![("limit", limit.as_str())];
    parameters.extend(args.alert.as_deref().map(|name| ("alert", name)));
    parameters.extend(args.receiver.as_deref().map(|name| ("receiver", name)));
    let answer = args.server.ask_own("actions", &parameters).await?;
    if args.json {
        say!("{}", json_text(&format!("{answer:#}")));
        return Ok(());
    }
    let rows: Vec<&Json> = answer["data"].as_array().into_iter().flatten().collect();
    let text = |json: &Json| json.as_str().unwrap_or_default().to_owned();
    let judged = |row: &Json| match row["helped"].as_bool() {
        Some(true) => "yes".to_owned(),
        Some(false) => "NO".to_owned(),
        None => "-".to_owned(),
    };
    let cells = |row: &&Json| {
        vec![
            shown_time(&row["begunAt"]),
            text(&row["alert"]),
            text(&row["integration"]),
            text(&row["action"]),
            text(&row["outcome"]),
            judged(row),
            text(&row["detail"]),
        ]
    };
    print_table(
        &[
            "Begun",
            "Alert",
            "Integration",
            "Action",
            "Outcome",
            "Helped",
            "Detail",
        ],
        rows.iter().map(cells),
    );
    if args.output {
        for row in rows.iter().filter(|row| !text(&row["output"]).is_empty()) {
            say!(
                "\n{} {}:",
                shown_time(&row["begunAt"]),
                visible(&text(&row["action"]))
            );
            // Set in, so that no line of it is taken for one of ours.
            text(&row["output"])
                .lines()
                .for_each(|line| say!("    {line}"));
        }
    }
    Ok(())
}
