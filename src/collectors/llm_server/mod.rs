//! Servers of language models and gateways before them: LiteLLM, vLLM, SGLang, TGI, TEI, llama.cpp,
//! Ollama, Triton, Xinference. Each has its own names, which change from version to version; here
//! they become one set, by the table in `kinds`.
//!
//! It reads: GET of health, version, list of models, page of metrics. It loads no model, asks for
//! no answer, and costs no token. The only privilege it may need is the key that the page asks for.

mod kinds;
mod metrics;
mod page;

use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use serde_json::Value;
use url::Url;

use crate::config::Section;
use crate::http::{Client, HeaderMap, HeaderName, HeaderValue, HttpConfig, HttpErrorKind, Request};
use crate::model::text::nearest;
use crate::model::{Batch, Timestamp};

use super::{CollectError, Collector, CollectorKind, Target};
use kinds::{KINDS, Kind};

/// The kind's row in the table of collectors.
pub const KIND: CollectorKind = CollectorKind {
    name: "llm_server",
    about: "servers of language models and gateways: requests, queue, cache, tokens, time to first token, errors, under one set of names",
    metrics: &[metrics::METRICS],
    build,
};

/// Greatest page that is read, in bytes.
const MAX_PAGE: usize = 16 << 20;
/// Most models of a list that are looked at.
const MAX_LISTED: usize = 1000;
/// Part of the deadline that one request may take: a slow one must not cost the others.
const SHARE: f64 = 0.4;

struct LlmServer {
    target: String,
    kind: &'static Kind,
    url: Url,
    page: Option<Url>,
    headers: HeaderMap,
    client: Client,
    timeout: Duration,
    models: Vec<String>,
    max_models: usize,
    /// What was logged last.
    failing: Option<String>,
}

/// An answer with status 2xx, or why there is none.
type Answer = Result<bytes::Bytes, Refusal>;

/// Why there is no answer.
#[derive(Debug)]
struct Refusal {
    /// The status, 0 without one.
    status: u16,
    text: String,
}

fn build(section: &Section<'_>, target: &Target) -> Box<dyn Collector> {
    let wanted = section.require::<String>("kind");
    let known = KINDS.into_iter().find(|kind| kind.name == wanted);
    if known.is_none() && !wanted.is_empty() {
        let names = KINDS.map(|kind| kind.name);
        let remedy = match nearest(&wanted, names) {
            Some(name) => format!("did you mean {name:?}?"),
            None => format!("give one of {}", names.join(", ")),
        };
        section.error("kind", format!("{wanted:?} is not known"), remedy);
    }
    let kind = known.unwrap_or(KINDS[0]);
    let url = section.get::<Url>("url");
    if url.is_none() && section.node("url").is_none() {
        section.error("url", "key \"url\" is missing", "add url: http://HOST:PORT");
    }
    let url = url.unwrap_or_else(|| Url::parse("http://127.0.0.1/").expect("a URL"));
    let http = HttpConfig::read(section);
    let client = Client::or_plain(Client::build(&http), section);
    let mut headers = HeaderMap::new();
    headers.insert(
        HeaderName::from_static("accept"),
        HeaderValue::from_static("text/plain;version=0.0.4, application/json;q=0.9, */*;q=0.1"),
    );
    if let Some(key) = section.secret("api_key") {
        match HeaderValue::from_str(&format!("Bearer {}", key.expose())) {
            Ok(mut value) => {
                value.set_sensitive(true);
                headers.insert(HeaderName::from_static("authorization"), value);
            }
            Err(_) => section.error(
                "api_key",
                "holds characters that a header cannot carry",
                "check for a line break at the end of the key",
            ),
        }
    }
    let page = section.get::<Url>("metrics_url").or_else(|| {
        let mut page = below(&url, kind.page?);
        if kind.page_port.is_some() {
            // A URL with a host takes a port.
            let _no_host = page.set_port(kind.page_port);
        }
        Some(page)
    });
    Box::new(LlmServer {
        target: target.name.clone(),
        kind,
        url,
        page,
        headers,
        client,
        timeout: target.timeout,
        models: section.or("models", Vec::new()),
        max_models: section.or("max_models", 50),
        failing: None,
    })
}

/// A URL below the server's, which may end in `/` or, as clients of OpenAI's form have it, `/v1`.
fn below(url: &Url, path: &str) -> Url {
    let mut below = url.clone();
    let start = url.path().trim_end_matches('/');
    let start = start.strip_suffix("/v1").unwrap_or(start).to_owned();
    below.set_path(&format!("{start}{path}"));
    below
}

impl Collector for LlmServer {
    fn collect<'a>(&'a mut self, batch: &'a mut Batch) -> BoxFuture<'a, Result<(), CollectError>> {
        async move {
            let outcome = self.measure(batch).await;
            let problem = match &outcome {
                Ok(problem) => problem.clone(),
                Err(error) => Some(error.reason.clone()),
            };
            self.explain(problem.as_deref(), batch);
            if outcome.is_ok() {
                self.log(problem);
            }
            outcome.map(drop)
        }
        .boxed()
    }

    fn address(&self) -> String {
        let mut url = self.url.clone();
        url.set_query(None);
        // A URL without a host takes neither.
        let _no_host = url.set_username("");
        let _no_host = url.set_password(None);
        url.to_string()
    }
}

impl LlmServer {
    /// Measures; returns what could not be read although the server is up.
    async fn measure(&self, batch: &mut Batch) -> Result<Option<String>, CollectError> {
        let labels = [("target", self.target.as_str()), ("kind", self.kind.name)];
        let flag = |value: bool| f64::from(u8::from(value));
        let health = match self.kind.health {
            Some(path) => Some(self.get(&below(&self.url, path)).await),
            None => None,
        };
        let failed = |refusal: &Refusal| CollectError::new(refusal.text.clone());
        match &health {
            // An answer with another status is one: a model that is being loaded.
            Some(answer) => {
                let up = answer.as_ref().map_or_else(|r| r.status > 0, |_| true);
                batch.push(&metrics::UP, &labels, flag(up));
                batch.push(&metrics::READY, &labels, flag(answer.is_ok()));
                if let (false, Err(refusal)) = (up, answer) {
                    return Err(failed(refusal));
                }
            }
            None => batch.push(&metrics::UP, &labels, 0.0),
        }
        let (page, loaded, version, listed) = tokio::join!(
            self.read_page(),
            self.read_loaded(),
            self.version(),
            self.list()
        );
        if health.is_none() {
            let up = page.as_ref().map_or_else(|r| r.status > 0, |_| true);
            if let (false, Err(refusal)) = (up, &page) {
                return Err(failed(refusal));
            }
            set_last(batch, metrics::UP.name, flag(up));
            batch.push(&metrics::READY, &labels, flag(page.is_ok()));
        }
        if let Some(version) = &version {
            let labels = [labels[0], labels[1], ("version", version.as_str())];
            batch.push(&metrics::INFO, &labels, 1.0);
        }
        let mut problem = None;
        match page.and_then(|found| loaded.map(|loaded| (found, loaded))) {
            Ok((found, loaded)) => {
                batch.push(&metrics::READABLE, &labels, 1.0);
                if let Some(found) = found {
                    batch.push(&metrics::OMITTED, &labels, found.omitted as f64);
                    found.write(self.kind, &self.target, batch);
                }
                self.write_loaded(&loaded, batch);
            }
            Err(refusal) => {
                batch.push(&metrics::READABLE, &labels, 0.0);
                problem = Some(match self.kind.hint {
                    "" => refusal.text,
                    hint => format!("metrics: {}; {hint}", refusal.text),
                });
            }
        }
        match listed {
            Ok(Some(listed)) => self.write_models(&listed, batch),
            Ok(None) => {}
            Err(refusal) => {
                problem.get_or_insert(format!("list of models: {}", refusal.text));
            }
        }
        Ok(problem)
    }

    async fn get(&self, url: &Url) -> Answer {
        let mut request = Request::get(url.clone(), self.timeout.mul_f64(SHARE));
        request.max_body = MAX_PAGE;
        request.headers = self.headers.clone();
        match self.client.send(request).await {
            Ok(response) if (200..300).contains(&response.status) => Ok(response.body),
            Ok(response) => Err(Refusal {
                status: response.status,
                text: format!("status {} at {}", response.status, url.path()),
            }),
            Err(error) => Err(Refusal {
                status: 0,
                text: match error.kind {
                    HttpErrorKind::Dns => "the name cannot be resolved".to_owned(),
                    HttpErrorKind::Timeout => format!("no answer in time at {}", url.path()),
                    _ => format!("{} ({})", error.message, error.kind.as_str()),
                },
            }),
        }
    }

    async fn get_json(&self, path: &str) -> Result<Value, Refusal> {
        let body = self.get(&below(&self.url, path)).await?;
        serde_json::from_slice(&body).map_err(|_| Refusal {
            status: 200,
            text: format!("no JSON at {path}"),
        })
    }

    async fn read_page(&self) -> Result<Option<page::Found>, Refusal> {
        let Some(url) = &self.page else {
            return Ok(None);
        };
        let body = self.get(url).await?;
        // A page of OpenMetrics ends with its mark, whatever its type says.
        let open = body.trim_ascii_end().ends_with(b"# EOF");
        page::read(self.kind, &body, open, self.max_models)
            .map(Some)
            .map_err(|problem| Refusal {
                status: 200,
                text: format!("{} is no page of metrics: {problem}", url.path()),
            })
    }

    async fn read_loaded(&self) -> Result<Vec<Value>, Refusal> {
        let Some(path) = self.kind.loaded else {
            return Ok(Vec::new());
        };
        let json = self.get_json(path).await?;
        Ok(json["models"]
            .as_array()
            .map(|models| models.iter().take(self.max_models).cloned().collect())
            .unwrap_or_default())
    }

    async fn version(&self) -> Option<String> {
        let (path, pointer) = self.kind.version?;
        let json = self.get_json(path).await.ok()?;
        let text = json.pointer(pointer)?.as_str()?;
        Some(text.chars().take(60).collect())
    }

    async fn list(&self) -> Result<Option<Vec<String>>, Refusal> {
        let Some((path, pointer, key)) = self.kind.models else {
            return Ok(None);
        };
        let json = self.get_json(path).await?;
        let items = json.pointer(pointer).and_then(Value::as_array);
        let names = items
            .into_iter()
            .flatten()
            .take(MAX_LISTED)
            .filter_map(|item| item[key].as_str().map(str::to_owned))
            .collect();
        Ok(Some(names))
    }

    fn write_models(&self, listed: &[String], batch: &mut Batch) {
        let labels = [("target", self.target.as_str()), ("kind", self.kind.name)];
        batch.push(&metrics::MODELS, &labels, listed.len() as f64);
        for model in &self.models {
            // Ollama lists `name:latest`.
            let is_listed = listed.iter().any(|name| {
                name == model
                    || name.strip_suffix(":latest") == Some(model)
                    || name.rsplit('/').next() == Some(model)
            });
            let labels = [labels[0], labels[1], ("model", model.as_str())];
            batch.push(&metrics::AVAILABLE, &labels, f64::from(u8::from(is_listed)));
        }
    }

    fn write_loaded(&self, loaded: &[Value], batch: &mut Batch) {
        for model in loaded {
            let Some(name) = model["name"].as_str() else {
                continue;
            };
            let labels = [
                ("target", self.target.as_str()),
                ("kind", self.kind.name),
                ("model", name),
            ];
            for (key, part) in [("size", "total"), ("size_vram", "gpu")] {
                if let Some(bytes) = model[key].as_f64() {
                    let labels = [labels[0], labels[1], labels[2], ("where", part)];
                    batch.push(&metrics::MEMORY, &labels, bytes);
                }
            }
            let expires = model["expires_at"]
                .as_str()
                .and_then(Timestamp::parse_rfc3339);
            if let Some(at) = expires {
                batch.push(&metrics::EXPIRES, &labels, at.0 as f64 / 1000.0);
            }
        }
    }

    fn explain(&self, problem: Option<&str>, batch: &mut Batch) {
        if let Some(message) = problem {
            let address = self.address();
            let labels = [
                ("target", self.target.as_str()),
                ("kind", self.kind.name),
                ("url", address.as_str()),
                ("message", message),
            ];
            batch.push(&metrics::FAILURE, &labels, 1.0);
        }
    }

    /// One line when something cannot be read although the server is up, and one when it can again.
    fn log(&mut self, problem: Option<String>) {
        let (target, kind) = (&self.target, self.kind.name);
        match &problem {
            Some(error) if self.failing != problem => {
                tracing::warn!(collector = "llm_server", %target, kind, %error, "Part of the server cannot be read.");
            }
            None if self.failing.is_some() => {
                tracing::info!(collector = "llm_server", %target, kind, "Every part of the server can be read again.");
            }
            _ => {}
        }
        self.failing = problem;
    }
}

/// Replaces the value of the newest sample of a family.
fn set_last(batch: &mut Batch, family: &str, value: f64) {
    if let Some(sample) = batch
        .families
        .get_mut(family)
        .and_then(|f| f.samples.last_mut())
    {
        sample.value = value;
    }
}
