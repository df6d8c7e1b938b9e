//! `nightbell reference`, `nightbell completions` and `nightbell man`: what the program knows of
//! itself, in Markdown, for shells and for man.

use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Arg, Args, Command, CommandFactory as _, ValueEnum};

use crate::app::reference;

use super::Cli;
use super::terminal::{complain, say};

/// Arguments of `reference`.
#[derive(Args)]
pub struct ReferenceArgs {
    /// What to list
    #[arg(value_enum)]
    about: About,
    /// Only pages whose title contains this, such as collectors.redis, or redis
    #[arg(value_name = "NAME")]
    chosen: Option<String>,
}

#[derive(Clone, Copy, ValueEnum)]
enum About {
    /// Every key of the configuration: type, default, meaning, example
    Configuration,
    /// Every metric of the collectors: type, unit, labels, meaning, source
    Metrics,
    /// Every command and its flags
    Commands,
}

/// Arguments of `completions`.
#[derive(Args)]
pub struct CompletionsArgs {
    /// The shell
    shell: clap_complete::Shell,
}

/// Arguments of `man`.
#[derive(Args)]
pub struct ManArgs {
    /// The folder to write nightbell.1, nightbell-check.1 and so on into
    folder: PathBuf,
}

/// Prints a part of the reference as Markdown.
pub fn reference(args: &ReferenceArgs) -> ExitCode {
    let is_chosen = |title: &str| {
        args.chosen
            .as_ref()
            .is_none_or(|name| title.contains(name.as_str()))
    };
    let text = match args.about {
        About::Configuration => match reference::configuration(|page| is_chosen(page.title)) {
            Ok(text) => text,
            Err(problem) => {
                complain!("nightbell: {problem}");
                return ExitCode::FAILURE;
            }
        },
        About::Metrics => reference::metrics(is_chosen),
        About::Commands => commands(is_chosen),
    };
    if text.is_empty() {
        complain!(
            "nightbell: no page has {:?} in its title; without a name all are listed",
            args.chosen.as_deref().unwrap_or_default()
        );
        return ExitCode::FAILURE;
    }
    say!("{}", text.trim());
    ExitCode::SUCCESS
}

/// Prints the script that completes the command line in a shell.
pub fn completions(args: &CompletionsArgs) -> ExitCode {
    clap_complete::generate(
        args.shell,
        &mut Cli::command(),
        "nightbell",
        &mut io::stdout(),
    );
    ExitCode::SUCCESS
}

/// Writes the manual pages.
pub fn man(args: &ManArgs) -> ExitCode {
    match std::fs::create_dir_all(&args.folder)
        .and_then(|()| clap_mangen::generate_to(Cli::command(), &args.folder))
    {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain!("nightbell: {}: {error}", Path::display(&args.folder));
            ExitCode::FAILURE
        }
    }
}

/// Every command with its flags as Markdown.
pub fn commands(is_chosen: impl Fn(&str) -> bool) -> String {
    let mut root = Cli::command().disable_help_subcommand(true);
    root.build();
    let mut text = String::new();
    describe(&root, "nightbell", &is_chosen, &mut text);
    text
}

fn describe(command: &Command, name: &str, is_chosen: &impl Fn(&str) -> bool, text: &mut String) {
    if is_chosen(name) {
        let about = command
            .get_long_about()
            .or(command.get_about())
            .map(ToString::to_string)
            .unwrap_or_default();
        let _ = write!(text, "\n## {name}\n\n{about}\n");
        let shown: Vec<&Arg> = command
            .get_arguments()
            .filter(|arg| !arg.is_hide_set() && is_own(arg, name))
            .collect();
        if !shown.is_empty() {
            text.push_str("\n| argument | meaning |\n|---|---|\n");
        }
        for arg in shown {
            let _ = writeln!(
                text,
                "| `{}` | {} |",
                spelled(arg),
                meaning(arg).replace('|', "\\|").replace('\n', " ")
            );
        }
    }
    for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set()) {
        describe(sub, &format!("{name} {}", sub.get_name()), is_chosen, text);
    }
}

/// Whether an argument is described with this command: what all commands take is described once.
fn is_own(arg: &Arg, name: &str) -> bool {
    let id = arg.get_id().as_str();
    id != "help" && id != "version" && (name == "nightbell" || !arg.is_global_set())
}

/// `-c, --config <FILE>`, or `<FILE>...`.
fn spelled(arg: &Arg) -> String {
    let mut names: Vec<String> = arg
        .get_short()
        .map(|short| format!("-{short}"))
        .into_iter()
        .collect();
    names.extend(arg.get_long().map(|long| format!("--{long}")));
    let value = arg.get_value_names().map(|names| {
        names
            .iter()
            .map(|name| format!("<{name}>"))
            .collect::<Vec<_>>()
            .join(" ")
    });
    let takes_value = arg.get_action().takes_values();
    match (names.is_empty(), value.filter(|_| takes_value)) {
        (true, value) => value.unwrap_or_default(),
        (false, Some(value)) => format!("{} {value}", names.join(", ")),
        (false, None) => names.join(", "),
    }
}

/// What an argument says, its values, its default and the variable that sets it.
fn meaning(arg: &Arg) -> String {
    let mut text = arg
        .get_long_help()
        .or(arg.get_help())
        .map(ToString::to_string)
        .unwrap_or_default();
    let values: Vec<String> = match arg.get_action().takes_values() {
        true => arg
            .get_possible_values()
            .iter()
            .map(|value| value.get_name().to_owned())
            .collect(),
        false => Vec::new(),
    };
    if !values.is_empty() {
        let _ = write!(text, ". One of: {}", values.join(", "));
    }
    let defaults: Vec<String> = arg
        .get_default_values()
        .iter()
        .map(|value| value.to_string_lossy().into_owned())
        .collect();
    if arg.get_action().takes_values() && !defaults.is_empty() {
        let _ = write!(text, ". Default: `{}`", defaults.join(","));
    }
    if let Some(variable) = arg.get_env() {
        let _ = write!(text, ". Variable: `{}`", variable.to_string_lossy());
    }
    text
}
