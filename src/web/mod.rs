//! Everything that answers HTTP: `/metrics`, health, control, the Prometheus and Alertmanager APIs, the page.

mod acknowledge;
mod actions;
pub mod admin;
mod alertmanager;
mod control;
mod dead_letters;
mod error;
mod health;
mod heartbeat;
mod metrics;
mod picture;
mod prometheus;
pub mod serve;
pub mod starting;
mod ui;
pub mod why;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use futures_util::future::BoxFuture;
use parking_lot::RwLock;
use prometheus_client::metrics::counter::Counter;
use tokio::sync::Semaphore;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::compression::CompressionLayer;
use tower_http::limit::RequestBodyLimitLayer;
use tower_http::timeout::TimeoutLayer;

use crate::alerting;
use crate::config::{Secret, Section};
use crate::model::Timestamp;
use crate::promql::Engine;
use crate::remote::peer;
use crate::rules::dead::DeadRules;
use crate::rules::scheduler::Scheduler;
use crate::scrape::Scraper;
use crate::state;
use crate::store::Store;

/// Deadline of one answer.
const TIMEOUT: Duration = Duration::from_secs(130);
/// Greatest request body, in bytes.
const MAX_BODY: usize = 8 << 20;

/// The block `web`.
#[derive(Clone, Debug, Default)]
pub struct WebConfig {
    /// The token of the administrator, for `/health/detailed` and for changes.
    pub admin_token: Option<Secret>,
    /// `host:port` to listen on; the flag `--listen` wins.
    pub listen: Option<String>,
    /// Where people reach this nightbell, for links in messages.
    pub external_url: Option<String>,
}

impl WebConfig {
    /// Reads the block.
    pub fn read(section: &Section<'_>) -> Self {
        let config = WebConfig {
            admin_token: section.secret("admin_token"),
            listen: section.get("listen"),
            external_url: section.get::<url::Url>("external_url").map(|u| u.to_string().trim_end_matches('/').to_owned()),
        };
        if let Some(listen) = &config.listen
            && listen.parse::<std::net::SocketAddr>().is_err()
        {
            section.error("listen", format!("{listen:?} is not an address and a port"), "give 127.0.0.1:9908");
        }
        section.finish();
        config
    }
}

/// Builds everything anew from the configuration file; the error is for people.
pub type Reload = Arc<dyn Fn() -> BoxFuture<'static, Result<(), String>> + Send + Sync>;

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
    /// The targets.
    pub scraper: Arc<Scraper>,
    /// The samples.
    pub store: Arc<Store>,
    /// Evaluates expressions.
    pub engine: Engine,
    /// Bounds how many queries run at once.
    pub queries: Arc<Semaphore>,
    /// The rules.
    pub rules: Arc<Scheduler>,
    /// Alerts, groups and silences.
    pub alerting: alerting::Handle,
    /// The instances that are watched.
    pub peers: peer::Watch,
    /// Those among them that can never say anything.
    pub dead_rules: Arc<DeadRules>,
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

/// Every route; `refused` counts what is turned away because too much is asked at once.
pub fn router(context: Context, refused: Counter) -> Router {
    Router::new()
        .merge(metrics::routes())
        .merge(health::routes())
        .merge(control::routes())
        .merge(acknowledge::routes())
        .merge(picture::routes())
        .merge(ui::routes())
        .merge(prometheus::federation())
        .nest("/api/v1", prometheus::routes())
        .nest("/api/v2", alertmanager::routes(refused))
        .nest("/api/nightbell", why::routes().merge(actions::routes()).merge(dead_letters::routes()).merge(heartbeat::routes()))
        .layer(RequestBodyLimitLayer::new(MAX_BODY))
        .layer(CompressionLayer::new())
        .layer(TimeoutLayer::with_status_code(StatusCode::SERVICE_UNAVAILABLE, TIMEOUT))
        .layer(CatchPanicLayer::new())
        .with_state(context)
}
