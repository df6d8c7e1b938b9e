//! LLM providers seen from outside: OpenAI, Anthropic, DeepSeek and ten more by the table in
//! `providers`, any server of OpenAI's form among them.
//!
//! The default probe is free: it lists the models (and, at DeepSeek, reads the balance). A
//! completion probe costs tokens; it runs only where configured, under a daily cap. Keys and bodies
//! are never logged.

mod completion;
pub(super) mod errors;
mod free;
mod limits;
mod metrics;
mod phases;
mod provider;
mod providers;
mod record;
mod stream;

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use tokio::task::JoinHandle;
use url::Url;

use crate::config::{Secret, Section};
use crate::http::{Client, HeaderMap, HeaderName, HeaderValue, HttpConfig, client_config};
use crate::model::text::nearest;
use crate::model::{Batch, Timestamp};

use super::job::disk::Disk;
use super::{CollectError, Collector, CollectorKind, Target};
use completion::{CompletionConfig, CompletionOutcome};
use errors::ErrorType;
use provider::{KeyHeader, Provider};
use providers::PROVIDERS;
use record::{Record, Spent};

/// The kind's row in the table of collectors.
pub const KIND: CollectorKind = CollectorKind {
    name: "llm_provider",
    about: "LLM providers: reachable, key valid, models, limits, balance, time to first token",
    metrics: &[metrics::METRICS],
    build,
};

/// Time between two looks at the balance.
const BALANCE_INTERVAL: Duration = Duration::from_secs(300);
/// Time between two measurements of the way, and between two looks at the page of incidents.
const WAY_INTERVAL: Duration = Duration::from_secs(60);
const INCIDENTS_INTERVAL: Duration = Duration::from_secs(120);
/// Stands in after a missing base URL was recorded as an error; the configuration is refused, so
/// nobody calls it.
const NOWHERE: &str = "http://127.0.0.1/";
/// Wait after a money error before the next completion probe.
const QUOTA_BACKOFF: Duration = Duration::from_secs(3600);
/// Longest pause of the free probe, whatever the provider asks for: after that we would be blind.
const LONGEST_PAUSE: Duration = Duration::from_secs(900);

/// Part of the deadline for the state folder to answer.
const LOADING: f64 = 0.3;
/// Part of the deadline for the way, and for the page of incidents.
const WAY_SHARE: f64 = 0.2;

struct Settings {
    target: String,
    provider: &'static Provider,
    base_url: Url,
    models: Vec<String>,
    headers: HeaderMap,
    client: Client,
    timeout: Duration,
    interval: Duration,
    /// The model of the embedding probe.
    embedding_model: Option<String>,
}

/// The block `embedding`.
struct Embedding {
    model: String,
    text: String,
    interval: Duration,
}

impl Settings {
    /// A URL below the base URL, whose path may or may not end in `/`.
    fn url(&self, path: &str) -> Url {
        let mut url = self.base_url.clone();
        let base = url.path().trim_end_matches('/').to_owned();
        url.set_path(&format!("{base}/{path}"));
        url
    }
}

struct LlmProvider {
    settings: Settings,
    /// Where the day's budget is kept.
    disk: Arc<Disk>,
    /// What was written last; `None` before it was read.
    saved: Option<Option<Spent>>,
    completion: Option<CompletionConfig>,
    record: Record,
    /// What was known before the last list of models failed, should that count for nothing.
    before: Option<Box<Record>>,
    pending: Option<JoinHandle<CompletionOutcome>>,
    /// The failure of the model list that was logged last.
    failing: Option<ErrorType>,
    /// When the last completion began.
    last_completion: Option<Instant>,
    next_completion: Option<Instant>,
    next_free: Option<Instant>,
    next_balance: Option<Instant>,
    embedding: Option<Embedding>,
    next_embedding: Option<Instant>,
    /// TLS of the measurement of the way; `None` where a proxy stands between.
    way: Option<Arc<rustls::ClientConfig>>,
    next_way: Option<Instant>,
    incidents: Option<Url>,
    next_incidents: Option<Instant>,
}

impl Drop for LlmProvider {
    fn drop(&mut self) {
        if let Some(probe) = &self.pending {
            probe.abort();
        }
    }
}

fn build(section: &Section<'_>, target: &Target) -> Box<dyn Collector> {
    let wanted = section.require::<String>("provider");
    let known = PROVIDERS.iter().find(|p| p.name == wanted);
    if known.is_none() && !wanted.is_empty() {
        let names: Vec<&str> = PROVIDERS.iter().map(|p| p.name).collect();
        let remedy = match nearest(&wanted, names.iter().copied()) {
            Some(name) => format!("did you mean {name:?}?"),
            None => format!("give one of {}", names.join(", ")),
        };
        section.error("provider", format!("{wanted:?} is not known"), remedy);
    }
    let configured = section.get::<Url>("base_url");
    if known.is_some_and(|p| p.base_url.is_none()) && section.node("base_url").is_none() {
        section.error(
            "provider",
            "has no base URL of its own",
            "add base_url: http://HOST:PORT/v1",
        );
    }
    let provider = known.unwrap_or(&PROVIDERS[PROVIDERS.len() - 1]);
    let base_url = configured.unwrap_or_else(|| {
        Url::parse(provider.base_url.unwrap_or(NOWHERE)).expect("the table's URLs parse")
    });
    let http = HttpConfig::read(section);
    let client = Client::or_plain(Client::build(&http), section);
    let (in_url, key) = (
        !base_url.username().is_empty() || base_url.password().is_some(),
        section.secret("api_key"),
    );
    if in_url && (key.is_some() || http.authorization.is_some() || http.basic_auth.is_some()) {
        section.error(
            "base_url",
            "holds a user or a password beside a key",
            "remove one of them",
        );
    }
    let embedding = section.section("embedding").map(|section| {
        let embedding = Embedding {
            model: section.require("model"),
            text: section.or("text", "ping".to_owned()),
            interval: section.or("interval", Duration::from_secs(600)),
        };
        section.finish();
        embedding
    });
    let (page, watched) = (
        section.get::<Url>("status_page"),
        section.or("watch_status_page", false),
    );
    let own = provider
        .status_page
        .map(|url| Url::parse(url).expect("the table's URLs parse"));
    let incidents = page.or(own).filter(|_| watched);
    if watched && incidents.is_none() {
        section.error(
            "watch_status_page",
            "has no page: none is known of this provider",
            "add status_page: https://HOST/api/v2/status.json",
        );
    }
    let direct = http.proxy_url.is_none() && !http.proxy_from_environment;
    let way = client_config(&http.tls)
        .ok()
        .filter(|_| direct)
        .map(Arc::new);
    let version = section.or("api_version", "2023-06-01".to_owned());
    let headers = key_headers(section, provider, key, &version);
    let settings = Settings {
        target: target.name.clone(),
        provider,
        base_url,
        models: section.or("models", Vec::new()),
        headers,
        client,
        timeout: target.timeout,
        interval: target.interval,
        embedding_model: embedding.as_ref().map(|e| e.model.clone()),
    };
    let completion = section
        .section("completion")
        .map(|s| CompletionConfig::read(&s));
    let selected = section.get::<bool>("selected");
    let max_models = 200;
    if settings.models.len() > max_models {
        section.error(
            "models",
            "lists more than 200 models",
            "name only those that the application uses",
        );
    }
    let record = Record::new(&settings, completion.as_ref(), selected);
    Box::new(LlmProvider {
        disk: Disk::new(target.memory.clone()),
        saved: None,
        settings,
        completion,
        record,
        before: None,
        pending: None,
        failing: None,
        last_completion: None,
        next_completion: None,
        next_free: None,
        next_balance: None,
        embedding,
        next_embedding: None,
        way,
        next_way: None,
        incidents,
        next_incidents: None,
    })
}

fn key_headers(
    section: &Section<'_>,
    provider: &Provider,
    key: Option<Secret>,
    version: &str,
) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let mut add = |name: &'static str, text: String| match HeaderValue::from_str(&text) {
        Ok(mut value) => {
            value.set_sensitive(true);
            headers.insert(HeaderName::from_static(name), value);
        }
        Err(_) => section.error(
            "api_key",
            "holds characters that a header cannot carry",
            "check for a line break at the end of the key",
        ),
    };
    if let Some(key) = key {
        match provider.key_header {
            KeyHeader::Bearer => add("authorization", format!("Bearer {}", key.expose())),
            KeyHeader::Named(name) | KeyHeader::Versioned(name) => {
                add(name, key.expose().to_owned());
            }
        }
    }
    if matches!(provider.key_header, KeyHeader::Versioned(_)) {
        add("anthropic-version", version.to_owned());
    }
    headers
}

impl Collector for LlmProvider {
    fn collect<'a>(&'a mut self, batch: &'a mut Batch) -> BoxFuture<'a, Result<(), CollectError>> {
        Box::pin(async move {
            self.load().await?;
            self.finish_completion().await;
            self.start_completion();
            self.save();
            self.measure_way().await;
            let outcome = self.free_probes().await;
            self.record.write(batch, Timestamp::now());
            self.log(outcome.err());
            // A provider that answers is there, whatever it answers: `llm_up` and
            // `llm_probe_last_error` say what it refuses.
            let reachable = self.record.is_reachable();
            let gone = |error: ErrorType| {
                CollectError::new(format!(
                    "{}: model list: {}",
                    self.settings.provider.name,
                    error.as_str()
                ))
            };
            outcome
                .map_err(gone)
                .or_else(|error| if reachable { Ok(()) } else { Err(error) })
        })
    }

    fn missed(&mut self) {
        if let Some(before) = self.before.take() {
            self.record = *before;
            self.next_free = None;
        }
    }

    fn address(&self) -> String {
        let mut url = self.settings.base_url.clone();
        url.set_query(None);
        // A URL with a host always takes an empty user name and password.
        if url.set_username("").is_err() || url.set_password(None).is_err() {
            return self.settings.provider.name.to_owned();
        }
        url.to_string()
    }
}

impl LlmProvider {
    /// Learns, the first time, what an earlier process has spent of the day's budget: it is not
    /// spent twice.
    async fn load(&mut self) -> Result<(), CollectError> {
        if self.completion.is_none() || self.saved.is_some() {
            return Ok(());
        }
        let disk = Arc::clone(&self.disk);
        let loaded = tokio::time::timeout(
            self.settings.timeout.mul_f64(LOADING),
            tokio::task::spawn_blocking(move || disk.load()),
        )
        .await;
        let loaded = loaded
            .map_err(|_| CollectError::new("timed out: the state folder does not answer"))?
            .ok()
            .flatten();
        loaded
            .and_then(|text| serde_json::from_str(&text).ok())
            .into_iter()
            .for_each(|spent| self.record.remember(spent));
        self.saved = Some(self.record.spent());
        Ok(())
    }

    /// Writes what is spent, if it is new, on a thread of its own.
    fn save(&mut self) {
        let spent = self.record.spent();
        if self.saved != Some(spent) {
            self.saved = Some(spent);
            drop(
                spent
                    .and_then(|spent| serde_json::to_string(&spent).ok())
                    .and_then(|text| self.disk.write(text)),
            );
        }
    }

    /// Once a minute, the way to the provider by phase, and what its page of incidents says.
    async fn measure_way(&mut self) {
        let now = Instant::now();
        let timeout = self.settings.timeout.mul_f64(WAY_SHARE);
        if let Some(tls) = &self.way
            && self.next_way.is_none_or(|at| now >= at)
        {
            self.next_way = Some(now + WAY_INTERVAL);
            let phases = phases::measure(&self.settings.base_url, Some(tls), timeout).await;
            self.record.phases = phases.0;
        }
        if let Some(page) = &self.incidents
            && self.next_incidents.is_none_or(|at| now >= at)
        {
            self.next_incidents = Some(now + INCIDENTS_INTERVAL);
            let said = free::incidents(&self.settings, page);
            self.record.incidents = tokio::time::timeout(timeout, said).await.ok().flatten();
        }
    }

    async fn embed(&mut self) {
        let now = Instant::now();
        if let Some(embedding) = &self.embedding
            && self.next_embedding.is_none_or(|at| now >= at)
        {
            self.next_embedding = Some(now + embedding.interval);
            let (model, text) = (&embedding.model, &embedding.text);
            let outcome = free::embed(&self.settings, model, text).await;
            self.record.embedding(model, &outcome, Timestamp::now());
        }
    }

    async fn free_probes(&mut self) -> Result<(), ErrorType> {
        self.before = None;
        let now = Instant::now();
        if self.next_free.is_some_and(|at| now < at) {
            self.record.skip("models", "backoff");
            return self.record.last_models_result();
        }
        self.next_free = None;
        let outcome = free::list_models(&self.settings).await;
        self.before = outcome
            .result
            .is_err()
            .then(|| Box::new(self.record.clone()));
        let wait = self
            .record
            .models(&self.settings, &outcome, Timestamp::now());
        // A provider that asks for a pause gets it.
        self.next_free = wait.map(|w| now + w.min(LONGEST_PAUSE));
        // Who waits for money looks whether there is some.
        let waits = self.record.completion_error() == Some(ErrorType::QuotaExhausted);
        if self.settings.provider.balance.is_some()
            && (waits || self.next_balance.is_none_or(|at| now >= at))
        {
            self.next_balance = Some(now + BALANCE_INTERVAL);
            let balance = free::balance(&self.settings).await;
            self.record.balance(&balance, Timestamp::now());
        }
        self.embed().await;
        // A refused question costs nothing. So while nothing says that the account is empty, the
        // model is asked at its usual pace again.
        if waits
            && self.record.has_money()
            && let (Some(config), Some(last)) = (&self.completion, self.last_completion)
        {
            self.next_completion = self.next_completion.min(Some(last + config.interval));
        }
        outcome.result.map(drop)
    }

    /// Says once that the list of models fails, fails in another way, and is there again.
    fn log(&mut self, error: Option<ErrorType>) {
        let (target, provider) = (&self.settings.target, self.settings.provider.name);
        match error {
            Some(error) if self.failing != Some(error) && self.record.is_reachable() => {
                tracing::warn!(collector = "llm_provider", %target, provider, error = error.as_str(), "Model list was refused.");
            }
            None if self.failing.is_some() => {
                tracing::info!(collector = "llm_provider", %target, provider, "Model list is there again.")
            }
            _ => {}
        }
        self.failing = error;
    }

    /// Starts a completion probe when one is due, nothing forbids it, and the day's budget allows
    /// it. It runs beside the collections.
    fn start_completion(&mut self) {
        let Some(config) = &self.completion else {
            return;
        };
        let now = Instant::now();
        if self.pending.is_some() || self.next_completion.is_some_and(|at| now < at) {
            return;
        }
        (self.next_completion, self.last_completion) = (Some(now + config.interval), Some(now));
        if !self.record.reserve(config, Timestamp::now()) {
            self.record.skip("completion", "token_budget");
            return;
        }
        let url = self.settings.url(self.settings.provider.completion_path);
        let probe = completion::ask(
            self.settings.client.clone(),
            url,
            self.settings.headers.clone(),
            self.settings.provider,
            config.clone(),
        );
        self.pending = Some(tokio::spawn(probe));
    }

    async fn finish_completion(&mut self) {
        let (Some(config), Some(probe)) =
            (&self.completion, self.pending.take_if(|p| p.is_finished()))
        else {
            return;
        };
        let Ok(outcome) = probe.await else { return };
        if outcome.missed {
            self.record.missed_completion(config, &outcome);
            return;
        }
        let now = Instant::now();
        let wait = self.record.completion(config, &outcome, Timestamp::now());
        let pause = match outcome.error {
            Some(ErrorType::QuotaExhausted) => {
                self.record.skip("completion", "quota_exhausted");
                Some(QUOTA_BACKOFF)
            }
            _ => wait.inspect(|_| self.record.skip("completion", "backoff")),
        };
        if let Some(pause) = pause {
            self.next_completion = self.next_completion.max(Some(now + pause));
        }
    }
}
