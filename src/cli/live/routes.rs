//! `nightbell routes`: the routing tree of a file or of a running nightbell, and which receivers an
//! alert with given labels reaches. The output is amtool's.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::alert::pairs;
use super::arguments::labels_of;
use super::server::ServerArgs;
use crate::alerting::check::amtool::{check, is_alertmanager_file};
use crate::alerting::config::matchers::canonical;
use crate::alerting::config::route::{Route, Routes};
use crate::app::{self, Options};
use crate::cli::terminal::say;
use crate::config::Document;

/// Whose routes.
#[derive(Args)]
pub struct RoutesArgs {
    #[command(subcommand)]
    action: Action,
    /// An alertmanager.yml or a nightbell.yml; without one, the running nightbell is asked
    #[arg(
        long,
        short,
        visible_alias = "config.file",
        global = true,
        value_name = "FILE"
    )]
    config: Option<PathBuf>,
    /// Files of NAME=value lines for ${NAME} in a nightbell.yml
    #[arg(long, global = true, value_name = "FILE")]
    env_file: Vec<PathBuf>,
    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Subcommand)]
enum Action {
    /// Print the tree
    Show {
        /// Instead of --config
        file: Option<PathBuf>,
    },
    /// Print the receivers that an alert with these labels reaches
    Test {
        /// Labels as name=value; a word without = is the file, instead of --config
        words: Vec<String>,
        /// Exit with status 1 unless the receivers are these, separated by commas
        #[arg(
            long = "verify.receivers",
            visible_alias = "verify-receivers",
            value_name = "RECEIVERS"
        )]
        verify: Option<String>,
        /// Print the branches that match, too
        #[arg(long)]
        tree: bool,
    },
}

/// Does it; the error is for standard error.
pub async fn routes(args: &RoutesArgs) -> Result<ExitCode, String> {
    match &args.action {
        Action::Show { file } => {
            let routes = load(args, file.as_ref()).await?;
            let mut tree = String::from("Routing tree:\n.\n");
            branch(&routes, 0, "", true, &mut tree, &|route| {
                slug(route, true, true)
            });
            say!("{tree}");
            Ok(ExitCode::SUCCESS)
        }
        Action::Test {
            words,
            verify,
            tree,
        } => {
            let (labels, files): (Vec<String>, Vec<String>) =
                words.iter().cloned().partition(|word| word.contains('='));
            if files.len() > 1 {
                return Err(format!("{}: write labels as name=value", files[1]));
            }
            let routes = load(args, files.first().map(PathBuf::from).as_ref()).await?;
            let labels = labels_of(&pairs(&labels)?.into());
            let taken = routes.matching(&labels);
            if *tree {
                let mut text = String::from("Matching routes:\n.\n");
                matching_branch(&routes, 0, &taken, "", true, &mut text);
                say!("{text}\n");
            }
            let receivers: Vec<&str> = taken
                .iter()
                .filter_map(|index| Some(routes.get(*index)?.receiver.as_str()))
                .collect();
            let receivers = receivers.join(",");
            say!("{receivers}");
            if verify.as_ref().is_some_and(|wanted| *wanted != receivers) {
                say!("WARNING: Expected receivers did not match resolved receivers.");
                return Ok(ExitCode::FAILURE);
            }
            Ok(ExitCode::SUCCESS)
        }
    }
}

async fn load(args: &RoutesArgs, file: Option<&PathBuf>) -> Result<Routes, String> {
    let Some(file) = file.or(args.config.as_ref()) else {
        let status = args.server.get("status", &[]).await?;
        let text = status["config"]["original"].as_str().unwrap_or_default();
        let document =
            Document::parse("the configuration of the server", text).map_err(|e| e.to_string())?;
        return check(document, std::path::Path::new("."))
            .map(|checked| checked.alerting.routes)
            .map_err(|e| e.to_string());
    };
    let document = Document::read(file).map_err(|e| e.to_string())?;
    if is_alertmanager_file(&document) {
        let folder = file.parent().unwrap_or(std::path::Path::new("."));
        return check(document, folder)
            .map(|checked| checked.alerting.routes)
            .map_err(|e| e.to_string());
    }
    let options = Options {
        config: Some(file.clone()),
        env_files: args.env_file.clone(),
        ..Options::default()
    };
    app::load(&options)
        .map(|config| config.alerting.routes)
        .map_err(|e| e.to_string())
}

/// A node's line, as amtool writes it.
fn slug(route: &Route, show_continue: bool, show_receiver: bool) -> String {
    let mut text = if route.matchers.is_empty() {
        "default-route".to_owned()
    } else {
        canonical(&route.matchers)
    };
    if route.continues && show_continue {
        text.push_str("  continue: true");
    }
    if show_receiver {
        text.push_str(&format!("  receiver: {}", route.receiver));
    }
    text
}

fn line(text: &str, indent: &str, last: bool, out: &mut String) -> String {
    out.push_str(&format!(
        "{indent}{}── {text}\n",
        if last { "└" } else { "├" }
    ));
    format!("{indent}{}", if last { "    " } else { "│   " })
}

fn branch(
    routes: &Routes,
    index: usize,
    indent: &str,
    last: bool,
    out: &mut String,
    text: &dyn Fn(&Route) -> String,
) {
    let Some(route) = routes.get(index) else {
        return;
    };
    let indent = line(&text(route), indent, last, out);
    for (index, child) in route.children.iter().enumerate() {
        branch(
            routes,
            *child,
            &indent,
            index + 1 == route.children.len(),
            out,
            text,
        );
    }
}

/// Only the nodes on the way to those that take the alert, whose receivers are named.
fn matching_branch(
    routes: &Routes,
    index: usize,
    taken: &[usize],
    indent: &str,
    last: bool,
    out: &mut String,
) {
    let Some(route) = routes.get(index) else {
        return;
    };
    let indent = line(
        &slug(route, false, taken.contains(&index)),
        indent,
        last,
        out,
    );
    let on_the_way: Vec<usize> = route
        .children
        .iter()
        .copied()
        .filter(|child| leads_to(routes, *child, taken))
        .collect();
    for (index, child) in on_the_way.iter().enumerate() {
        matching_branch(
            routes,
            *child,
            taken,
            &indent,
            index + 1 == on_the_way.len(),
            out,
        );
    }
}

fn leads_to(routes: &Routes, index: usize, taken: &[usize]) -> bool {
    taken.contains(&index)
        || routes.get(index).is_some_and(|route| {
            route
                .children
                .iter()
                .any(|child| leads_to(routes, *child, taken))
        })
}
