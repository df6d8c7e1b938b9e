//! The commands. Each is one file; this one only says what they are called.

mod backtest;
pub mod check;
mod history;
mod init;
mod job;
mod live;
pub mod reference;
mod report;
mod rules;
mod run;
mod state;
mod table;
mod terminal;
pub mod test;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{ArgMatches, Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

use crate::promql::{ParseOptions, choose_language};
use crate::telemetry::LogFormat;
use terminal::{Screen, complain};

/// Watches this machine and its services, judges what it sees with Prometheus rules, and rings the
/// bell.
///
/// Without a configuration file it watches this host and whatever DATABASE_URL, REDIS_URL,
/// CHROMA_URL, OPENAI_API_KEY, DEEPSEEK_API_KEY, ANTHROPIC_API_KEY, DASHSCOPE_API_KEY and
/// LLM_PROVIDER name, with the rules that are built in.
#[derive(Parser)]
#[command(
    name = "nightbell",
    version,
    after_help = "Exit status: 0 success, 1 a check failed or the program could not go on, 2 wrong usage."
)]
pub struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    run: RunArgs,
    /// Features that are off by default, comma-separated; promql-experimental-functions is the one
    /// there is
    #[arg(
        long,
        global = true,
        value_name = "FEATURE",
        value_delimiter = ',',
        env = "NIGHTBELL_ENABLE_FEATURE"
    )]
    enable_feature: Vec<String>,
    /// How a running nightbell is asked: TLS and log-in, in the format of amtool's and
    /// promtool's --http.config.file
    #[arg(
        long = "http.config.file",
        alias = "http-config-file",
        global = true,
        value_name = "FILE",
        env = "NIGHTBELL_HTTP_CONFIG_FILE"
    )]
    http_config_file: Option<PathBuf>,
}

/// How the process runs; what it watches stands in the file.
#[derive(Args)]
pub struct RunArgs {
    /// Configuration file; a prometheus.yml is one too. Default: built-in settings
    #[arg(long, short, value_name = "FILE", env = "NIGHTBELL_CONFIG")]
    pub config: Option<PathBuf>,
    /// Files of NAME=value lines for ${NAME} in the configuration; may be repeated
    #[arg(long, global = true, value_name = "FILE")]
    pub env_file: Vec<PathBuf>,
    /// Folder for the state database [default: $STATE_DIRECTORY, else $XDG_STATE_HOME/nightbell,
    /// else ~/.local/state/nightbell]
    #[arg(long, value_name = "DIR", env = "NIGHTBELL_STATE_DIR")]
    pub state_dir: Option<PathBuf>,
    /// Address and port to serve on [default: web.listen, else 127.0.0.1:9908]
    #[arg(long, value_name = "ADDR", env = "NIGHTBELL_LISTEN")]
    pub listen: Option<std::net::SocketAddr>,
    /// Folder of rule files to use instead of the built-in ones
    #[arg(long, value_name = "DIR")]
    pub rules: Option<PathBuf>,
    /// File with TLS and passwords for the web server, in Prometheus's format [default:
    /// web.config_file]
    #[arg(
        long = "web.config.file",
        alias = "web-config-file",
        value_name = "FILE",
        env = "NIGHTBELL_WEB_CONFIG_FILE"
    )]
    pub web_config_file: Option<PathBuf>,
    /// error, warn, info, debug, trace, or a filter such as info,nightbell::scrape=debug
    #[arg(long, default_value = "info", env = "NIGHTBELL_LOG")]
    pub log_level: String,
    /// How a log line is written
    #[arg(long, value_enum, default_value_t)]
    pub log_format: LogFormat,
}

#[derive(Subcommand)]
enum Command {
    /// Say what is wrong with files, before they are used
    #[command(subcommand)]
    Check(Check),
    /// Run tests
    #[command(subcommand)]
    Test(Test),
    /// Ask a running nightbell, or any Prometheus, for samples
    Query(live::query::QueryArgs),
    /// Reports: of a period, of the capacity, of errors
    Report(report::ReportArgs),
    /// Say what rules would have said about the stored history
    Backtest(backtest::BacktestArgs),
    /// Feed samples into the history, or write it out
    History(history::HistoryArgs),
    /// Save everything that outlives a restart, check such a backup, and bring it back
    State(state::StateArgs),
    /// Say that somebody takes an alert on, so that no further contact is notified
    Ack(live::ack::AckArgs),
    /// Make, show, change and end silences
    Silence(live::silence::SilenceArgs),
    /// Show the alerts of a running nightbell, or post one
    Alert(live::alert::AlertArgs),
    /// Look at what runs on this machine, and write a configuration file for it
    Init(init::InitArgs),
    /// Run the command of a scheduled job, and report how it went
    Job(job::JobArgs),
    /// The maintenance calendar: tasks, who did them, planned windows
    Maintenance(live::maintenance::MaintenanceArgs),
    /// Show what recovery actions did
    Actions(live::actions::ActionsArgs),
    /// Show the messages that could not be delivered, and send them again
    DeadLetters(live::dead_letters::DeadLettersArgs),
    /// Show the routing tree, or test which receivers an alert reaches
    Routes(live::routes::RoutesArgs),
    /// Show the rules that a configuration puts in force
    Rules(rules::RulesArgs),
    /// Ask a running nightbell how everything is
    Health(live::health::HealthArgs),
    /// Ask a running nightbell why an alert was notified, or was not
    Why(live::why::WhyArgs),
    /// List every key of the configuration, every metric, or every command, as Markdown
    Reference(reference::ReferenceArgs),
    /// Print the script that completes the command line in a shell
    Completions(reference::CompletionsArgs),
    /// Write the manual pages
    Man(reference::ManArgs),
}

#[derive(Subcommand)]
enum Check {
    /// Configuration files (nightbell.yml or prometheus.yml) with everything they name
    Config(check::config::CheckConfigArgs),
    /// Files of Alertmanager, as amtool checks them
    Alertmanager(check::alertmanager::CheckAlertmanagerArgs),
    /// Rule files, as promtool checks them
    Rules(check::rules::CheckRulesArgs),
    /// Pages of metrics, as promtool checks them
    Metrics(check::rules::CheckMetricsArgs),
    /// The daily check: alerts, targets, disks, memory, logs, backups, certificates, jobs, tasks;
    /// one line each
    Health(check::health::CheckHealthArgs),
}

#[derive(Subcommand)]
enum Test {
    /// Rule tests in promtool's format
    Rules(test::rules::TestRulesArgs),
    /// Send a marked test message to a receiver now
    Notify(test::notify::TestNotifyArgs),
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    if std::env::args_os().nth(1).is_some_and(|word| word == "job") {
        return job::main(std::env::args_os().skip(1));
    }
    let matches = Cli::command().get_matches();
    let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    if let Some(flag) = misplaced(&matches) {
        complain!(
            "nightbell: {flag} stands before the command, where it says nothing; write it after the command if that takes it"
        );
        return ExitCode::from(2);
    }
    enable(&cli.enable_feature);
    if let Some(file) = &cli.http_config_file
        && let Err(error) = live::server::ask_with(file)
    {
        complain!("nightbell: {error}");
        return ExitCode::from(2);
    }
    match cli.command {
        Some(Command::Check(Check::Config(args))) => check::config::check(&args),
        Some(Command::Check(Check::Rules(args))) => finished(check::rules::check_rules(
            &args,
            &mut Screen(std::io::stdout()),
            &mut Screen(std::io::stderr()),
        )),
        Some(Command::Check(Check::Metrics(args))) => finished(check::rules::check_metrics(
            &args,
            &mut Screen(std::io::stdout()),
            &mut Screen(std::io::stderr()),
        )),
        Some(Command::Check(Check::Health(args))) => {
            check::health::check_health(&args, &cli.run.env_file)
        }
        Some(Command::Test(Test::Rules(args))) => finished(test::rules::test_rules(
            &args,
            &mut Screen(std::io::stdout()),
            &mut Screen(std::io::stderr()),
        )),
        Some(Command::Test(Test::Notify(args))) => wait_for(test::notify::test_notify(&args)),
        Some(Command::Check(Check::Alertmanager(args))) => {
            finished(check::alertmanager::check_alertmanager(
                &args,
                &mut Screen(std::io::stdout()),
                &mut Screen(std::io::stderr()),
            ))
        }
        Some(Command::Query(args)) => wait_for(async {
            live::query::query(&args).await.map_or_else(
                |error| {
                    complain!("{error}");
                    ExitCode::FAILURE
                },
                |()| ExitCode::SUCCESS,
            )
        }),
        Some(Command::Report(args)) => {
            wait_for(async { exit(report::report(&args).await.map(|()| ExitCode::SUCCESS)) })
        }
        Some(Command::History(args)) => match history::history(&args) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                complain!("nightbell: {error}");
                ExitCode::FAILURE
            }
        },
        Some(Command::State(args)) => wait_for(async {
            let done = state::state(&args, &cli.run.env_file).await;
            exit(done.map(|()| ExitCode::SUCCESS))
        }),
        Some(Command::Backtest(args)) => match backtest::backtest(&args) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                complain!("nightbell: {error}");
                ExitCode::FAILURE
            }
        },
        Some(Command::Ack(args)) => wait_for(live::ack::ack(&args)),
        Some(Command::Silence(args)) => wait_for(async {
            exit(
                live::silence::silence(&args)
                    .await
                    .map(|()| ExitCode::SUCCESS),
            )
        }),
        Some(Command::Alert(args)) => {
            wait_for(async { exit(live::alert::alert(&args).await.map(|()| ExitCode::SUCCESS)) })
        }
        Some(Command::Init(args)) => init::init(&args),
        Some(Command::Job(args)) => job::job(&args),
        Some(Command::Actions(args)) => wait_for(async {
            exit(
                live::actions::actions(&args)
                    .await
                    .map(|()| ExitCode::SUCCESS),
            )
        }),
        Some(Command::Maintenance(args)) => wait_for(async {
            exit(live::maintenance::maintenance(&args).await.map(|well| {
                if well {
                    ExitCode::SUCCESS
                } else {
                    ExitCode::FAILURE
                }
            }))
        }),
        Some(Command::DeadLetters(args)) => wait_for(async {
            exit(
                live::dead_letters::dead_letters(&args)
                    .await
                    .map(|()| ExitCode::SUCCESS),
            )
        }),
        Some(Command::Routes(args)) => wait_for(async { exit(live::routes::routes(&args).await) }),
        Some(Command::Rules(args)) => rules::rules(&args, &cli.run.env_file),
        Some(Command::Health(args)) => wait_for(live::health::health(&args, &cli.run.env_file)),
        Some(Command::Why(args)) => wait_for(live::why::why(&args)),
        Some(Command::Reference(args)) => reference::reference(&args),
        Some(Command::Completions(args)) => reference::completions(&args),
        Some(Command::Man(args)) => reference::man(&args),
        None => run::run(&cli.run),
    }
}

/// A flag of the daemon that stands before a command, which does not see it. Where it stands the
/// parser does not say: it hands flags that commands share on in both directions.
fn misplaced(matches: &ArgMatches) -> Option<&'static str> {
    const RUN_ONLY: [&str; 7] = [
        "--config",
        "--state-dir",
        "--listen",
        "--rules",
        "--web.config.file",
        "--log-level",
        "--log-format",
    ];
    let command = matches.subcommand_name()?;
    let before: Vec<String> = std::env::args()
        .skip(1)
        .take_while(|word| word != command)
        .collect();
    let stands = |flag: &&str| {
        before.iter().any(|word| {
            word.strip_prefix(*flag)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('='))
        })
    };
    let short = before
        .iter()
        .any(|word| word.starts_with("-c") && !word.starts_with("--"));
    RUN_ONLY.into_iter().find(stands).or(short.then_some("-c"))
}

/// What of Prometheus's `--enable-feature` is always on here.
const ALWAYS_ON: [&str; 3] = [
    "promql-duration-expr",
    "native-histograms",
    "concurrent-rule-eval",
];

/// Switches features on, for everything that this process does.
fn enable(features: &[String]) {
    let mut options = ParseOptions::default();
    for feature in features {
        match feature.as_str() {
            "promql-experimental-functions" => options.experimental = true,
            name if name.is_empty() || ALWAYS_ON.contains(&name) => {}
            name => complain!("WARNING: unknown feature in --enable-feature: {name}"),
        }
    }
    choose_language(options);
}

/// The exit status when standard output was closed: that of a program which the signal for it
/// ended.
pub const NOBODY_READS: u8 = 128 + 13;

/// The exit status of a command that only reads and writes.
fn finished(result: std::io::Result<u8>) -> ExitCode {
    match result {
        Ok(status) => ExitCode::from(status),
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => {
            ExitCode::from(NOBODY_READS)
        }
        Err(error) => {
            complain!("nightbell: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The exit status of a command whose error is for people.
fn exit(result: Result<ExitCode, String>) -> ExitCode {
    result.unwrap_or_else(|error| {
        complain!("nightbell: {error}");
        ExitCode::FAILURE
    })
}

/// Runs a command that talks to others, on a runtime of its own.
fn wait_for(command: impl Future<Output = ExitCode>) -> ExitCode {
    match tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime.block_on(command),
        Err(error) => {
            complain!("nightbell: the runtime cannot be started: {error}");
            ExitCode::FAILURE
        }
    }
}
