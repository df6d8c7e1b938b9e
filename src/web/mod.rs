//! Everything that answers HTTP: `/metrics`, health, control, the Prometheus and Alertmanager APIs,
//! the page.

mod acknowledge;
mod actions;
pub mod admin;
mod alertmanager;
mod control;
mod dead_letters;
mod error;
mod health;
mod heartbeat;
mod intake;
pub mod limits;
pub mod maintenance;
mod metrics;
mod picture;
pub mod probe;
mod prometheus;
pub mod report;
pub mod running;
mod seats;
pub mod server;
mod ui;
pub mod why;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use axum::response::IntoResponse as _;
use futures_util::future::BoxFuture;
use parking_lot::RwLock;
use prometheus_client::metrics::counter::Counter;
use tokio::runtime::Handle;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::compression::CompressionLayer;
use tower_http::limit::RequestBodyLimitLayer;
use tower_http::timeout::TimeoutLayer;

use crate::alerting;
use crate::collectors::{job::Inbox, llm_proxy::Proxies, otlp as received};
use crate::config::{Secret, Section};
use crate::maintenance::Calendar;
use crate::model::{Budget, Timestamp};
use crate::promql::Engine;
use crate::remote::peer;
use crate::rules::explain::dead::DeadRules;
use crate::rules::scheduler::Scheduler;
use crate::scrape::Scraper;
use crate::state;
use crate::store::Store;
use seats::{Class, MAX_BODY, Seats};

pub use limits::MemoryLimit;
pub use seats::QUERIES;

/// Deadline of one answer.
const TIMEOUT: Duration = Duration::from_secs(130);

/// The block `web`.
#[derive(Clone, Debug)]
pub struct WebConfig {
    /// The token of the administrator, for `/health/detailed` and for changes.
    pub admin_token: Option<Secret>,
    /// `host:port` to listen on; the flag `--listen` wins.
    pub listen: Option<String>,
    /// Where people reach this nightbell, for links in messages.
    pub external_url: Option<String>,
    /// `config_file`: TLS and logging in, as Prometheus's `web.config.file` says it; the flag
    /// `--web.config.file` wins.
    pub config_file: Option<PathBuf>,
    /// Whether that file lets in only who logs in.
    pub logs_in: bool,
    /// How many alerts that were posted are kept.
    pub posted_alerts: usize,
    /// The block `probe`: how targets are probed that a client names.
    pub probe: Option<probe::ProbeConfig>,
}

impl Default for WebConfig {
    fn default() -> Self {
        WebConfig {
            admin_token: None,
            listen: None,
            external_url: None,
            config_file: None,
            logs_in: false,
            posted_alerts: alerting::memory::alerts::MAX_POSTED,
            probe: None,
        }
    }
}

impl WebConfig {
    /// Reads the block.
    pub fn read(section: &Section<'_>) -> Self {
        let mut config = WebConfig {
            admin_token: section.secret("admin_token"),
            listen: section.get("listen"),
            external_url: section
                .get::<url::Url>("external_url")
                .map(|u| u.to_string().trim_end_matches('/').to_owned()),
            config_file: section.get("config_file"),
            logs_in: false,
            posted_alerts: section.or("posted_alerts", alerting::memory::alerts::MAX_POSTED),
            probe: None,
        };
        if let Some(listen) = &config.listen
            && listen.parse::<std::net::SocketAddr>().is_err()
        {
            section.error(
                "listen",
                format!("{listen:?} is not an address and a port"),
                "give 127.0.0.1:9908",
            );
        }
        if let Some(path) = config.config_file.clone() {
            match server::tls::check(&path) {
                Ok(logs_in) => config.logs_in = logs_in,
                Err(problem) => section.error(
                    "config_file",
                    problem,
                    "mend that file; its format is that of Prometheus's web.config.file",
                ),
            }
        }
        section.finish();
        config
    }

    fn has_token(&self) -> bool {
        self.admin_token
            .as_ref()
            .is_some_and(|token| !token.is_empty())
    }

    fn external(&self) -> Option<url::Url> {
        self.external_url
            .as_ref()
            .and_then(|text| url::Url::parse(text).ok())
    }
}

/// Builds everything anew from the configuration file; the error is for people.
pub type Reload = Arc<dyn Fn() -> BoxFuture<'static, anyhow::Result<()>> + Send + Sync>;

/// How the last attempt to load a configuration ended.
#[derive(Clone, Copy, Debug, Default)]
pub struct LastReload {
    /// Whether it is in force.
    pub successful: bool,
    /// When the configuration in force was loaded.
    pub at: Timestamp,
    /// When loading was last tried.
    pub tried_at: Timestamp,
}

/// What the answers are made of. Cheap to clone.
#[derive(Clone)]
pub struct Context {
    /// Where reports of jobs and pushed metrics go.
    pub inbox: Inbox,
    /// Where what applications send by OpenTelemetry's protocol goes.
    pub otlp: received::Inbox,
    /// Where calls of language models are passed on to.
    pub llm: Proxies,
    /// The targets.
    pub scraper: Arc<Scraper>,
    /// The samples.
    pub store: Arc<Store>,
    /// Evaluates expressions.
    pub engine: Engine,
    /// The memory that requests may take together.
    pub budget: Arc<Budget>,
    /// The queries that run.
    pub running: running::Running,
    /// Where queries and lookups are computed, by threads that yield to all others.
    pub queries: Handle,
    /// The rules.
    pub rules: Arc<Scheduler>,
    /// Alerts, groups and silences.
    pub alerting: alerting::Handle,
    /// The maintenance calendar.
    pub calendar: Calendar,
    /// Makes reports.
    pub reporter: report::Reporter,
    /// The instances that are watched.
    pub peers: peer::Watch,
    /// Those among them that can never say anything.
    pub dead_rules: Arc<DeadRules>,
    /// Alertmanagers elsewhere.
    pub alertmanagers: Arc<RwLock<crate::remote::alertmanager::Known>>,
    /// How long samples are kept.
    pub retention: Duration,
    /// The text of the configuration in force, `${NAME}` not replaced.
    pub config_text: Arc<RwLock<String>>,
    /// The state database.
    pub state: state::State,
    /// When this process began.
    pub started_at: Timestamp,
    /// How the last attempt to load a configuration ended.
    pub last_reload: Arc<RwLock<LastReload>>,
    /// How this process was started, by the names that Prometheus gives such settings.
    pub flags: Arc<Vec<(&'static str, String)>>,
    /// Reloads the configuration.
    pub reload: Reload,
    /// Settings that a reload may change.
    pub settings: Arc<RwLock<WebConfig>>,
    /// Whether the first evaluation is done.
    pub ready: Arc<AtomicBool>,
}

impl Context {
    fn settings(&self) -> WebConfig {
        self.settings.read().clone()
    }

    fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Relaxed)
    }
}

/// Every route; `refused` counts what is turned away because too much is asked at once, `gate` says
/// who may ask at all.
pub fn router(context: Context, gate: Arc<server::tls::Gate>, refused: Counter) -> Router {
    let settings = context.settings.clone();
    let enter = axum::middleware::from_fn(move |request, next| {
        let token = settings.read().admin_token.clone();
        gate.clone().pass(token, request, next)
    });
    let seats = Seats::new(
        context.budget.clone(),
        context.queries.clone(),
        refused.clone(),
    );
    let own = || {
        Router::new()
            .merge(why::routes())
            .merge(actions::routes())
            .merge(dead_letters::routes())
            .merge(maintenance::routes())
    };
    let plain = || {
        Router::new()
            .merge(health::life())
            .merge(control::routes())
            .merge(ui::routes())
    };
    let known = || {
        Router::new()
            .merge(metrics::routes())
            .merge(health::routes())
            .merge(picture::routes())
            .merge(prometheus::federation())
    };
    let slashes =
        server::slash::redirecting(known().merge(plain()).nest("/api/nightbell", own()), || {
            StatusCode::NOT_FOUND.into_response()
        });
    Router::new()
        .merge(seats.over(Class::Operator, known().nest("/api/nightbell", own())))
        .merge(seats.over(Class::Telemetry, intake::otlp::routes()))
        .merge(
            seats.over(
                Class::Change,
                acknowledge::routes()
                    .merge(intake::job::routes())
                    .nest("/api/nightbell", maintenance::changes()),
            ),
        )
        .merge(seats.over(
            Class::Query,
            Router::new().nest("/api/nightbell", report::routes()),
        ))
        .merge(plain())
        .merge(probe::routes(refused.clone()))
        .nest("/api/nightbell", heartbeat::routes())
        .nest("/api/v1", prometheus::routes(&seats))
        .nest("/api/v2", alertmanager::routes(&seats, refused))
        .fallback(slashes)
        .layer(RequestBodyLimitLayer::new(MAX_BODY))
        .layer(CompressionLayer::new())
        .layer(TimeoutLayer::with_status_code(
            StatusCode::SERVICE_UNAVAILABLE,
            TIMEOUT,
        ))
        .layer(CatchPanicLayer::new())
        .layer(enter)
        .layer(axum::middleware::map_response(server::guard::protect))
        .merge(intake::llm::routes())
        .with_state(context)
}
