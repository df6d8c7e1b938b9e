//! The composition root: builds everything from the configuration, connects it, runs it, and stops
//! it in reverse order.

mod banner;
mod clock;
mod config;
mod environment;
mod folder;
mod outside;
mod profiles;
pub mod reference;
mod reload;
mod rules;
mod schedules;
mod shipped;
mod storage;
mod threads;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use parking_lot::RwLock;
use tokio::runtime::Handle;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tracing::{error, info, warn};

use crate::alerting;
use crate::alerting::self_test::{self, SelfTest};
use crate::collectors::llm_proxy::Proxies;
use crate::collectors::{job::Inbox, otlp};
use crate::config::Secret;
use crate::maintenance::Calendar;
use crate::model::{Budget, Holder, Timestamp, format_duration};
use crate::net;
use crate::promql::{self, Engine};
use crate::remote::{alertmanager, heartbeat, peer};
use crate::rules::explain::dead::DeadRules;
use crate::rules::scheduler::Scheduler;
use crate::scrape::{Health, Plan, Scraper, TaskEnded};
use crate::state::{FolderLock, State, prepare_folder};
use crate::store::Store;
use crate::telemetry::Telemetry;
use crate::web;
use reload::ReloadMetrics;
use schedules::{reports, rollups, windows};
use storage::when_read;
use threads::Threads;

pub use config::Config;
pub use reload::{environment, load, load_alone};
pub use shipped::{INHIBITIONS, PROFILE_SETTINGS, PROFILES, RULES};
pub use storage::{Folders, StoredHistory, history_settings, read_history};

/// Where nightbell serves unless the command line says otherwise.
pub const LISTEN: &str = "127.0.0.1:9908";
/// How long the first evaluation waits for the first collections, and how often it looks.
const FIRST_COLLECTION: Duration = Duration::from_millis(200);
const FIRST_LOOK: Duration = Duration::from_millis(2);
/// How long a start or a reload waits for the folders of `file_sd_configs`.
const GROUP_FILES: Duration = Duration::from_secs(5);
/// How long the last deliveries and answers may take after a signal to stop.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);
/// How long answers that are passed on may take then.
const STREAMS_TIMEOUT: Duration = Duration::from_secs(120);

/// How the process runs: the flags.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The configuration file.
    pub config: Option<PathBuf>,
    /// Files of `NAME=value` lines.
    pub env_files: Vec<PathBuf>,
    /// Folder of the state database.
    pub state_dir: Option<PathBuf>,
    /// Address to serve on.
    pub listen: Option<SocketAddr>,
    /// Folder of rule files instead of the built-in ones.
    pub rules: Option<PathBuf>,
    /// TLS and logging in, in Prometheus's format; instead of `web.config_file`.
    pub web_config: Option<PathBuf>,
    /// Collectors remember nothing: targets are only tried.
    pub is_trial: bool,
    /// Where reports of jobs and pushed metrics go; the same across reloads.
    pub inbox: Inbox,
    /// Where what applications send by OpenTelemetry's protocol goes; the same across reloads.
    pub otlp: otlp::Inbox,
    /// Where calls of language models are passed on to; the same across reloads.
    pub llm: Proxies,
}

/// A nightbell that is built and restored; [`App::run`] sets it going.
pub struct App {
    parts: Arc<Parts>,
    plan: Plan,
    listener: tokio::net::TcpListener,
    web_metrics: web::server::serve::Metrics,
    gate: Arc<web::server::tls::Gate>,
    /// Held as long as the state folder is ours.
    folder: Option<FolderLock>,
    stop: watch::Sender<bool>,
    alerting_loop: Loop<alerting::DeliveryEnded>,
    telling_loop: Loop<std::convert::Infallible>,
    ready: Arc<AtomicBool>,
    threads: Threads,
}

/// What a reload changes.
struct Parts {
    options: Options,
    state: State,
    store: Arc<Store>,
    engine: Engine,
    budget: Arc<Budget>,
    scraper: Arc<Scraper>,
    rules: Arc<Scheduler>,
    dead_rules: Arc<DeadRules>,
    alerting: alerting::Handle,
    outside: Arc<rules::Outside>,
    heartbeat: Arc<RwLock<Option<heartbeat::Heartbeat>>>,
    heartbeat_metrics: heartbeat::Metrics,
    peers: peer::Watch,
    calendar: Calendar,
    reporter: web::report::Reporter,
    reports: Arc<RwLock<Vec<reports::Scheduled>>>,
    report_metrics: reports::Metrics,
    rollup_metrics: rollups::Metrics,
    windows: Arc<RwLock<Vec<windows::Recurring>>>,
    self_test: Arc<RwLock<Option<SelfTest>>>,
    self_test_metrics: self_test::Metrics,
    web: Arc<RwLock<web::WebConfig>>,
    config_text: Arc<RwLock<String>>,
    reloads: ReloadMetrics,
    clock: clock::Watch,
    listen: SocketAddr,
    started_at: Timestamp,
    /// One reload at a time.
    reloading: tokio::sync::Mutex<()>,
}

impl App {
    /// Builds everything and restores what the state database remembers. Nothing is collected
    /// before [`App::run`].
    ///
    /// The caller's runtime only starts, reloads and stops the rest, which runs on [`Threads`].
    pub async fn start(options: Options) -> anyhow::Result<Self> {
        let started_at = Timestamp::now();
        let threads = Threads::start().context("the threads cannot be started")?;
        // Where files may not grow beyond a limit, a write fails; without a handler the signal
        // would end the process instead.
        drop(signal(SignalKind::from_raw(
            rustix::process::Signal::XFSZ.as_raw(),
        ))?);
        let mut config = reload::load_for_start(&options)?;
        config.log_warnings();
        let address = listen_address(&options, &config)?;
        let listener = (threads.web.spawn(tokio::net::TcpListener::bind(address)).await?)
            .with_context(|| format!("{address} cannot be listened on; another nightbell? --listen takes another address"))?;
        config.reach_at(listener.local_addr()?);
        let gate = options
            .web_config
            .clone()
            .or_else(|| config.web.config_file.clone());
        let gate = web::server::tls::Gate::open(gate).map_err(anyhow::Error::msg)?;
        let folder = folder::take(&options, listener.local_addr()?)?;
        let telemetry = Telemetry::new();
        telemetry.register(net::register);
        let (folder_path, url) = (state_folder(&options), config.state.url.clone());
        let opened = threads
            .delivery
            .spawn(open_state(folder_path, url, listener.local_addr()?));
        let (state, state_name) = opened.await??;
        state.register(&telemetry);
        let starting =
            web::server::starting::Starting::answer(&listener, gate.clone(), threads.web.handle())?;
        let (store, history_name) = storage::open(&options, &config, started_at);
        starting.stop().await;
        store.register(&telemetry);
        let (clock, jumped) = clock::Watch::start(
            state_folder(&options).as_deref(),
            store.newest(),
            &telemetry,
        );
        if let Some(jump) = jumped {
            // What waits has not grown older by it. A failure is counted by the state itself.
            let _ = state.move_messages(jump.millis()).await;
        }
        let scraper = Arc::new(Scraper::new(
            store.clone(),
            &telemetry,
            threads.collection.handle().clone(),
        ));
        let reloads = ReloadMetrics::register(&telemetry);
        reloads.succeeded(started_at);
        // Not a log: the lines tell people where to look. Redirect standard output to silence them.
        print!(
            "{}",
            banner::banner(&config, listener.local_addr()?, &state_name, &history_name)
        );
        let budget = Budget::new(config.memory.bytes);
        web::limits::register(&budget, &telemetry);
        store.keep_within(&budget);
        let memory = Some(promql::Memory::new(budget.clone(), Holder::Rules));
        let engine = Engine {
            default_step: config.evaluation_interval(),
            memory,
            ..Engine::default()
        };
        let (found, alerts) = rules::queue();
        let judge = Arc::new(rules::Judge {
            engine: engine.clone(),
            store: store.clone(),
        });
        let rules = Arc::new(Scheduler::new(judge, state.clone(), found, &telemetry));
        let dead_rules = Arc::new(DeadRules::new(rules.clone(), store.clone(), &telemetry));
        let outside = std::mem::take(&mut config.outside);
        let outside = rules::Outside::start(
            outside,
            alertmanager::Metrics::register(&telemetry),
            threads.delivery.handle().clone(),
        );
        let (plan, settings) = (config.take_plan(), config.rule_settings());
        let (stop, stopped) = watch::channel(false);
        let (alerting, alerting_loop) =
            alerting::start(config.alerting, state.clone(), &telemetry, stopped).await;
        let alerting_loop = threads.delivery.spawn(alerting_loop);
        let telling_loop = threads.delivery.spawn(rules::hand_on(
            alerts,
            scraper.clone(),
            alerting.clone(),
            outside.clone(),
        ));
        rules.reload(config.groups, settings, started_at).await?;
        rules.restore(started_at).await?;
        let (web, config_text) = (
            Arc::new(RwLock::new(config.web)),
            Arc::new(RwLock::new(config.text)),
        );
        let reloading = tokio::sync::Mutex::new(());
        let listen = listener.local_addr()?;
        let rollups = rollups::open(state_folder(&options));
        let calendar = Calendar::start(config.tasks, state.clone(), store.clone(), &telemetry);
        let source = web::report::Source {
            store: store.clone(),
            rollups,
        };
        let reporter = web::report::Reporter {
            source,
            calendar: calendar.clone(),
            scraper: scraper.clone(),
        };
        let parts = Parts {
            options,
            state,
            store,
            engine,
            budget,
            scraper,
            rules,
            dead_rules,
            alerting,
            outside,
            heartbeat: Arc::new(RwLock::new(config.heartbeat)),
            heartbeat_metrics: heartbeat::Metrics::register(&telemetry),
            peers: peer::Watch::start(config.peers, &telemetry, started_at),
            reporter,
            reports: Arc::new(RwLock::new(config.reports)),
            report_metrics: reports::Metrics::register(&telemetry),
            rollup_metrics: rollups::Metrics::register(&telemetry),
            calendar,
            windows: Arc::new(RwLock::new(config.windows)),
            self_test: Arc::new(RwLock::new(config.self_test)),
            self_test_metrics: self_test::Metrics::register(&telemetry),
            web,
            config_text,
            reloads,
            clock,
            listen,
            started_at,
            reloading,
        };
        let (parts, ready) = (Arc::new(parts), Arc::new(AtomicBool::new(false)));
        let web_metrics = web::server::serve::Metrics::register(&telemetry);
        Ok(App {
            parts,
            plan,
            listener,
            web_metrics,
            gate,
            folder,
            stop,
            alerting_loop,
            telling_loop,
            ready,
            threads,
        })
    }

    /// Runs until SIGINT or SIGTERM, then stops in reverse order. Errs when a loop ends by itself:
    /// no quiet half-life.
    pub async fn run(self) -> anyhow::Result<()> {
        let App {
            parts,
            plan,
            listener,
            web_metrics,
            gate,
            folder: _folder,
            stop,
            alerting_loop,
            telling_loop,
            ready,
            threads,
        } = self;
        let Threads {
            rules,
            delivery,
            web,
            queries,
            upkeep,
            ..
        } = &threads;
        parts.apply(plan).await?;
        let context = parts.clone().context(&ready, queries.handle());
        let discovery = parts.scraper.clone();
        let store = || parts.store.clone();
        let mut loops = Loops {
            discovery: upkeep.spawn(discovery.run()),
            rules: rules.spawn(when_read(store(), parts.clone().judge(ready))),
            telling: telling_loop,
            alerting: alerting_loop,
            upkeep: upkeep.spawn(when_read(store(), storage::maintain(store()))),
            heartbeat: delivery.spawn(heartbeat::run(
                parts.heartbeat.clone(),
                parts.heartbeat_metrics.clone(),
            )),
            peers: delivery.spawn(parts.peers.clone().run()),
            calendar: upkeep.spawn(parts.calendar.clone().run()),
            reports: upkeep.spawn(when_read(store(), parts.post().run())),
            rollups: upkeep.spawn(when_read(
                store(),
                rollups::run(
                    store(),
                    parts.engine_for_reports(),
                    parts.reporter.source.rollups.clone(),
                    parts.rollup_metrics.clone(),
                ),
            )),
            windows: delivery.spawn(windows::run(
                parts.windows.clone(),
                parts.alerting.clone(),
                parts.calendar.clone(),
            )),
            self_test: delivery.spawn(self_test::run(
                parts.self_test.clone(),
                parts.alerting.clone(),
                parts.self_test_metrics.clone(),
            )),
            dead_rules: upkeep.spawn(when_read(store(), parts.dead_rules.clone().run())),
            clock: delivery.spawn(clock::watch(parts.clone())),
            server: web.spawn(web::server::serve::serve(
                listener,
                web::router(context, gate.clone(), web_metrics.refused.clone()),
                gate,
                web::server::serve::Limits::with_streams(!parts.options.llm.is_empty()),
                parts.budget.clone(),
                web_metrics,
                ended(stop.subscribe()),
            )),
        };
        let result = parts.clone().supervise(&mut loops).await;
        info!("Stopping.");
        parts.scraper.stop();
        if tokio::time::timeout(STOP_TIMEOUT, parts.rules.stop())
            .await
            .is_err()
        {
            warn!("A rule takes too long to be waited for.");
        }
        loops.rules.abort();
        stop.send_replace(true);
        if result.is_ok() {
            let rest = async { (loops.alerting.await.is_ok(), loops.server.await.is_ok()) };
            let (mut rest, began) = (pin!(rest), std::time::Instant::now());
            while tokio::time::timeout(STOP_TIMEOUT, &mut rest).await.is_err() {
                // Answers of language models that are passed on end first.
                if parts.options.llm.running() == 0 || began.elapsed() >= STREAMS_TIMEOUT {
                    warn!(
                        "The last deliveries and answers took too long; deliveries are kept for the next start."
                    );
                    break;
                }
            }
            if tokio::time::timeout(STOP_TIMEOUT, parts.options.llm.save())
                .await
                .is_err()
            {
                warn!("What was spent on language models could not be written in time.");
            }
        }
        parts.state.close().await;
        parts.clock.remember();
        if !parts.store.flush() {
            warn!("The last samples could not be written to the history.");
        }
        result
    }
}

/// The loops that must not end.
struct Loops {
    discovery: JoinHandle<TaskEnded>,
    rules: Loop<anyhow::Error>,
    telling: Loop<std::convert::Infallible>,
    alerting: Loop<alerting::DeliveryEnded>,
    upkeep: Loop<tokio::task::JoinError>,
    heartbeat: Loop<std::convert::Infallible>,
    peers: Loop<std::convert::Infallible>,
    calendar: Loop<std::convert::Infallible>,
    reports: Loop<std::convert::Infallible>,
    rollups: Loop<tokio::task::JoinError>,
    windows: Loop<std::convert::Infallible>,
    self_test: Loop<std::convert::Infallible>,
    dead_rules: Loop<tokio::task::JoinError>,
    clock: Loop<std::convert::Infallible>,
    server: Loop<std::io::Error>,
}

impl Parts {
    /// Gives the scraper its targets, on a thread that may hang in a folder of group files: what is
    /// found there then comes when it answers.
    async fn apply(&self, plan: Plan) -> Result<(), tokio::task::JoinError> {
        let scraper = self.scraper.clone();
        let applied = tokio::task::spawn_blocking(move || scraper.apply(plan));
        tokio::time::timeout(GROUP_FILES, applied).await.unwrap_or_else(|_| {
            warn!("A folder of file_sd_configs does not answer; its targets are collected once it does.");
            Ok(())
        })
    }

    /// Waits for a signal to stop, or for the end of a loop that must not end.
    async fn supervise(self: Arc<Self>, loops: &mut Loops) -> anyhow::Result<()> {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut hangup = signal(SignalKind::hangup())?;
        loop {
            tokio::select! {
                _ = interrupt.recv() => return Ok(()),
                _ = terminate.recv() => return Ok(()),
                _ = hangup.recv() => {
                    // A task of its own: a reload waits for the evaluation under way. What is
                    // refused is logged and counted there.
                    let parts = self.clone();
                    tokio::spawn(async move { parts.reload().await });
                }
                ended = &mut loops.discovery => return Err(ended?.into()),
                ended = &mut loops.rules => anyhow::bail!("the rule loop ended: {}", reason(ended)),
                ended = &mut loops.telling => anyhow::bail!("the loop between rules and receivers ended: {}", reason(ended)),
                ended = &mut loops.alerting => anyhow::bail!("the alerting loop ended: {}", reason(ended)),
                ended = &mut loops.upkeep => anyhow::bail!("the upkeep of the history ended: {}", reason(ended)),
                ended = &mut loops.heartbeat => anyhow::bail!("the heartbeat ended: {}", reason(ended)),
                ended = &mut loops.peers => anyhow::bail!("the heartbeats to peers ended: {}", reason(ended)),
                ended = &mut loops.calendar => anyhow::bail!("the maintenance calendar ended: {}", reason(ended)),
                ended = &mut loops.reports => anyhow::bail!("the sending of reports ended: {}", reason(ended)),
                ended = &mut loops.rollups => anyhow::bail!("the rolling up of hours ended: {}", reason(ended)),
                ended = &mut loops.windows => anyhow::bail!("the planning of windows ended: {}", reason(ended)),
                ended = &mut loops.self_test => anyhow::bail!("the self-test ended: {}", reason(ended)),
                ended = &mut loops.dead_rules => anyhow::bail!("the look for dead rules ended: {}", reason(ended)),
                ended = &mut loops.clock => anyhow::bail!("the watch over the clock ended: {}", reason(ended)),
                ended = &mut loops.server => anyhow::bail!("the web server ended: {}", reason(ended)),
            }
        }
    }

    /// Evaluates at once what the first collections brought, then at every slot.
    async fn judge(self: Arc<Self>, ready: Arc<AtomicBool>) -> anyhow::Result<()> {
        let collected = async {
            while self
                .scraper
                .targets()
                .iter()
                .any(|t| t.status.health == Health::Unknown)
            {
                tokio::time::sleep(FIRST_LOOK).await;
            }
        };
        // A slow target must not hold up the others' first judgement.
        let all_in_time = tokio::time::timeout(FIRST_COLLECTION, collected)
            .await
            .is_ok();
        self.rules.evaluate_all(Timestamp::now()).await?;
        info!(
            all_targets = all_in_time,
            duration_seconds = Timestamp::now().since(self.started_at).as_secs_f64(),
            "First evaluation done."
        );
        ready.store(true, Ordering::Relaxed);
        Ok(self
            .rules
            .run(self.scraper.arrivals(), || self.scraper.is_overdue())
            .await?)
    }

    /// How this process was started, by the names of Prometheus's flags where they mean the same.
    fn flags(&self) -> Vec<(&'static str, String)> {
        let options = &self.options;
        let path = |path: &Option<PathBuf>| {
            path.as_ref()
                .map(|p| p.display().to_string())
                .unwrap_or_default()
        };
        let web = self.web.read();
        vec![
            ("config.file", path(&options.config)),
            (
                "enable-feature",
                if promql::language().experimental {
                    "promql-experimental-functions"
                } else {
                    ""
                }
                .to_owned(),
            ),
            (
                "query.lookback-delta",
                format_duration(self.engine.lookback),
            ),
            ("query.max-concurrency", web::QUERIES.to_string()),
            ("query.max-samples", self.engine.max_samples.to_string()),
            ("rules", path(&options.rules)),
            ("state-dir", path(&options.state_dir)),
            (
                "storage.tsdb.retention.time",
                format_duration(self.store.retention()),
            ),
            ("web.enable-admin-api", "false".to_owned()),
            ("web.enable-lifecycle", "true".to_owned()),
            (
                "web.external-url",
                web.external_url.clone().unwrap_or_default(),
            ),
            ("web.listen-address", self.listen.to_string()),
        ]
    }

    /// The engine with the memory of queries: what reports compute takes nothing from the rules.
    fn engine_for_reports(&self) -> Engine {
        let memory = Some(promql::Memory::new(self.budget.clone(), Holder::Queries));
        Engine {
            memory,
            keeps_selections: false,
            ..self.engine.clone()
        }
    }

    /// What scheduled reports are made and sent with.
    fn post(&self) -> reports::Post {
        reports::Post {
            settings: self.reports.clone(),
            reporter: self.reporter.clone(),
            engine: self.engine_for_reports(),
            alerting: self.alerting.clone(),
            state: self.state.clone(),
            metrics: self.report_metrics.clone(),
        }
    }

    /// What the web's answers are made of.
    fn context(self: Arc<Self>, ready: &Arc<AtomicBool>, queries: &Handle) -> web::Context {
        let (parts, control) = (self.clone(), Handle::current());
        web::Context {
            inbox: self.options.inbox.clone(),
            otlp: self.options.otlp.clone(),
            llm: self.options.llm.clone(),
            store: self.store.clone(),
            engine: self.engine.clone(),
            budget: self.budget.clone(),
            running: web::running::Running::default(),
            queries: queries.clone(),
            rules: self.rules.clone(),
            alerting: self.alerting.clone(),
            peers: self.peers.clone(),
            calendar: self.calendar.clone(),
            reporter: self.reporter.clone(),
            alertmanagers: self.outside.known(),
            retention: self.store.retention(),
            dead_rules: self.dead_rules.clone(),
            config_text: self.config_text.clone(),
            scraper: self.scraper.clone(),
            state: self.state.clone(),
            started_at: self.started_at,
            last_reload: self.reloads.last.clone(),
            flags: Arc::new(self.flags()),
            settings: self.web.clone(),
            ready: ready.clone(),
            reload: Arc::new(move || {
                let parts = parts.clone();
                let reloaded = control.spawn(async move { parts.reload().await });
                Box::pin(async move {
                    reloaded.await.unwrap_or_else(|error| {
                        Err(anyhow::anyhow!("the reload ended early: {error}"))
                    })
                })
            }),
        }
    }
}

/// A loop of this process; it ends only when asked to.
type Loop<E> = JoinHandle<Result<(), E>>;

/// Why a loop ended.
fn reason<E: std::fmt::Display>(ended: Result<Result<(), E>, tokio::task::JoinError>) -> String {
    match ended {
        Ok(Ok(())) => "without a reason".to_owned(),
        Ok(Err(error)) => error.to_string(),
        Err(error) => format!("it panicked: {error}"),
    }
}

/// Ends when `stop` becomes true.
async fn ended(mut stop: watch::Receiver<bool>) {
    // The sender goes away only with the process.
    drop(stop.wait_for(|stop| *stop).await);
}

fn listen_address(options: &Options, config: &Config) -> anyhow::Result<SocketAddr> {
    match (options.listen, &config.web.listen) {
        (Some(address), _) => Ok(address),
        (None, text) => {
            let text = text.as_deref().unwrap_or(LISTEN);
            text.parse()
                .with_context(|| format!("web.listen: {text:?} is not an address and a port"))
        }
    }
}

/// Opens the state database. A broken one must not silence us: then the state lives in memory, and
/// that is said.
async fn open_state(
    folder: Option<PathBuf>,
    url: Option<Secret>,
    listens: SocketAddr,
) -> anyhow::Result<(State, String)> {
    let mut file = None;
    let (opened, name) = match url {
        Some(url) => {
            let name = "PostgreSQL (state.url)";
            match State::connect_when_there(url.expose()).await {
                Ok((state, Some(error))) => {
                    error!(state = name, %error, "The state database does not answer; alerts are kept in memory until it does.");
                    return Ok((state, format!("in memory until {name} answers: {error}")));
                }
                opened => (
                    opened.map(|(state, _)| state).map_err(anyhow::Error::from),
                    name.to_owned(),
                ),
            }
        }
        None => {
            let path = folder.as_deref().unwrap_or(Path::new("")).join("state.db");
            let opened = match folder.as_deref().map(prepare_folder) {
                Some(Ok(())) => open_file(&path).await.map_err(anyhow::Error::from),
                Some(Err(error)) => Err(anyhow::anyhow!(
                    "the folder cannot be made; --state-dir takes another: {error}"
                )),
                None => Err(anyhow::anyhow!(
                    "HOME is not set, so no folder is known for it; pass --state-dir"
                )),
            };
            file = folder.map(|_| path.clone());
            (opened, path.display().to_string())
        }
    };
    match opened {
        Ok(state) => Ok((state, name)),
        Err(error) => {
            error!(state = name, %error, "The state database cannot be opened; alerts are kept in memory until it can be.");
            Ok((
                State::instead(file, listens).await?,
                format!("in memory only: {name}: {error}"),
            ))
        }
    }
}

async fn open_file(file: &Path) -> Result<State, crate::state::Error> {
    match file.metadata() {
        Ok(found) if found.len() == 0 => {
            warn!(state = %file.display(), "The file of the state database is empty: a new one begins.")
        }
        Err(error)
            if error.kind() == std::io::ErrorKind::NotFound
                && file.with_file_name("history").is_dir() =>
        {
            warn!(state = %file.display(), "The file of the state database is missing: a new one begins.");
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            info!(state = %file.display(), "A state database begins.")
        }
        _ => {}
    }
    let (state, replaced) = State::open_or_replace(file, Timestamp::now()).await?;
    if let Some(replaced) = replaced {
        let (state, aside, rows) = (file.display(), replaced.aside.display(), replaced.rows);
        error!(%state, %aside, rows, "The state database is damaged: it was put aside, and a new one begun with the rows that can be read.");
    }
    Ok(state)
}

/// `--state-dir`, systemd's `$STATE_DIRECTORY`, or the user's state folder, where there is a home;
/// none for a trial.
fn state_folder(options: &Options) -> Option<PathBuf> {
    if options.is_trial {
        return None;
    }
    let set = |name: &str| {
        std::env::var_os(name)
            .filter(|v| !v.is_empty())
            .map(PathBuf::from)
    };
    let home = || set("HOME").map(|home| home.join(".local/state/nightbell"));
    let state = || set("XDG_STATE_HOME").map(|folder| folder.join("nightbell"));
    options
        .state_dir
        .clone()
        .or_else(|| set("STATE_DIRECTORY"))
        .or_else(state)
        .or_else(home)
}
