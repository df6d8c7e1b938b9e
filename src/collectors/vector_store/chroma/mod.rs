//! A Chroma server, 1.x and 0.5.
//!
//! Chroma has no metrics of its own. The collector asks for heartbeat, readiness, collections and
//! counts, and keeps a canary for each collection: a stored vector whose similarity query must find
//! that vector. It never writes and needs no embedding model.

mod api;
mod disk;
pub mod embedded;

use std::collections::{HashMap, VecDeque};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use tokio::task::JoinHandle;
use url::Url;

use crate::config::Section;
use crate::http::{Client, HeaderMap, HeaderName, HeaderValue, HttpConfig};
use crate::model::{Batch, sample::Histogram};

use super::metrics;
use super::requests::Requests;
use crate::collectors::{CollectError, Collector, Target};
use api::{Api, ApiError, Canary, Collection, Generation};

/// The value of the `store` label.
const STORE: &str = "chroma";
/// Time between two looks at the disk.
const DISK_INTERVAL: Duration = Duration::from_secs(60);
/// How long a collection waits for the disk; a look that takes longer goes on beside the next ones.
const DISK_PATIENCE: Duration = Duration::from_secs(1);
/// Stored vectors that are tried in turn where the canary was not found.
const CANARY_CANDIDATES: usize = 3;
/// Kinds of request, the values of the `op` label.
const OPS: [&str; 4] = ["heartbeat", "list", "count", "query"];

struct VectorStore {
    target: String,
    api: Api,
    path: Option<PathBuf>,
    max_collections: usize,
    canaries: usize,
    only: Vec<String>,
    /// The application's dimension.
    dimension: Option<f64>,
    generation: Option<Generation>,
    probes: Requests,
    looks: HashMap<String, CanaryLook>,
    disk: Option<disk::Found>,
    next_disk: Option<Instant>,
    /// A look at the disk that has not ended: a folder that hangs holds this one, and no other is
    /// begun.
    looking: Option<JoinHandle<std::io::Result<disk::Found>>>,
    /// Why the last look failed.
    disk_error: Option<String>,
    /// What could not be read, as it was last logged.
    failing: Vec<String>,
}

/// The canary of one collection and the history of its queries.
struct CanaryLook {
    canary: Option<Canary>,
    durations: Histogram,
}

/// Reads its keys.
pub fn build(section: &Section<'_>, target: &Target) -> Box<dyn Collector> {
    let base = section.get::<Url>("url");
    if base.is_none() && section.node("url").is_none() {
        section.error("url", "key \"url\" is missing", "add url: http://HOST:8000");
    }
    let http = HttpConfig::read(section);
    let client = Client::or_plain(Client::build(&http), section);
    let mut headers = HeaderMap::new();
    if let Some(token) = section.secret("token") {
        match HeaderValue::from_str(token.expose()) {
            Ok(mut value) => {
                value.set_sensitive(true);
                headers.insert(HeaderName::from_static("x-chroma-token"), value);
                // The header that 0.5 looks at by default, unless the configuration has another use
                // for it.
                let taken = http.authorization.is_some()
                    || http.basic_auth.is_some()
                    || http.oauth2.is_some();
                let in_url = base
                    .as_ref()
                    .is_some_and(|url| !url.username().is_empty() || url.password().is_some());
                if let (false, Ok(mut bearer)) = (
                    taken || in_url,
                    HeaderValue::from_str(&format!("Bearer {}", token.expose())),
                ) {
                    bearer.set_sensitive(true);
                    headers.insert(HeaderName::from_static("authorization"), bearer);
                }
            }
            Err(_) => section.error(
                "token",
                "holds characters that a header cannot carry",
                "check for a line break at its end",
            ),
        }
    }
    let segment = |key: &str, default: &str| {
        let text = section.or(key, default.to_owned());
        if text.is_empty() || text.contains(['/', '?', '#', '&', ' ']) {
            section.error(
                key,
                format!("{text:?} is not a name"),
                "use letters, digits, - and _",
            );
        }
        text
    };
    Box::new(VectorStore {
        target: target.name.clone(),
        api: Api {
            client,
            base: base
                .unwrap_or_else(|| Url::parse("http://127.0.0.1/").expect("a literal URL parses")),
            headers,
            tenant: segment("tenant", "default_tenant"),
            database: segment("database", "default_database"),
            timeout: target.timeout.min(Duration::from_secs(5)),
        },
        path: section.get("path"),
        max_collections: section.or("max_collections", 50),
        canaries: section.or("max_canaries", 10),
        only: section.or("collections", Vec::new()),
        dimension: section.get::<u32>("dimension").map(f64::from),
        generation: None,
        probes: Requests::new(&OPS),
        looks: HashMap::new(),
        disk: None,
        next_disk: None,
        looking: None,
        disk_error: None,
        failing: Vec::new(),
    })
}

impl Collector for VectorStore {
    fn collect<'a>(&'a mut self, batch: &'a mut Batch) -> BoxFuture<'a, Result<(), CollectError>> {
        Box::pin(async move {
            let mut failures = Vec::new();
            let result = self.measure(batch, &mut failures).await;
            self.look_at_disk(batch, &mut failures).await;
            self.probes.write(batch, &self.target, STORE);
            let labels = [("target", self.target.as_str()), ("store", STORE)];
            batch.push(
                &metrics::ERROR,
                &labels,
                f64::from(u8::from(result.is_err() || !failures.is_empty())),
            );
            self.log(failures);
            result
        })
    }

    fn address(&self) -> String {
        let url = &self.api.base;
        let port = url.port_or_known_default().unwrap_or(80);
        format!("{}://{}:{port}", url.scheme(), url.host_str().unwrap_or(""))
    }
}

impl VectorStore {
    /// One line in the log when something cannot be read, something else cannot, and all can again.
    fn log(&mut self, failures: Vec<String>) {
        let target = &self.target;
        if !failures.is_empty() && failures != self.failing {
            let error = failures
                .iter()
                .take(5)
                .map(String::as_str)
                .collect::<Vec<_>>()
                .join("; ");
            tracing::warn!(collector = "vector_store", %target, count = failures.len(), %error, "Part of the store cannot be read.");
        } else if failures.is_empty() && !self.failing.is_empty() {
            tracing::info!(collector = "vector_store", %target, "Every part of the store can be read again.");
        }
        self.failing = failures;
    }

    async fn measure(
        &mut self,
        batch: &mut Batch,
        failures: &mut Vec<String>,
    ) -> Result<(), CollectError> {
        let target = self.target.clone();
        let labels = [("target", target.as_str()), ("store", STORE)];
        let flag = |value: bool| f64::from(u8::from(value));
        // 0 stands until the heartbeat answers; the deadline may cut this collection short at any
        // point.
        batch.push(&metrics::UP, &labels, 0.0);
        let generation = match self.heartbeat().await.map_err(|e| failed("heartbeat", &e)) {
            Ok(generation) => generation,
            Err(error) => {
                let why = [
                    labels[0],
                    labels[1],
                    ("url", &self.address()),
                    ("message", &error.reason),
                ];
                batch.push(&metrics::FAILURE, &why, 1.0);
                return Err(error);
            }
        };
        set_last(batch, metrics::UP.name, 1.0);
        batch.push(&metrics::READY, &labels, flag(self.ready(generation).await));
        self.info(generation, batch).await;
        self.api.check_database(generation).await.map_err(|e| {
            CollectError::new(format!(
                "tenant `{}`, database `{}`: {}",
                self.api.tenant, self.api.database, e.kind
            ))
        })?;
        let (time, count) = self.api.count_collections(generation).await;
        let count = self
            .note("list", time, count)
            .map_err(|e| failed("count collections", &e))?;
        batch.push(&metrics::COLLECTIONS, &labels, count);
        let (time, list) = self
            .api
            .list(generation, self.max_collections + self.only.len())
            .await;
        let mut list = self
            .note("list", time, list)
            .map_err(|e| failed("list collections", &e))?;
        list.retain(|c| self.only.is_empty() || self.only.contains(&c.name));
        list.truncate(self.max_collections);
        batch.push(
            &metrics::OMITTED,
            &labels,
            (count - list.len() as f64).max(0.0),
        );
        self.looks.retain(|id, _| list.iter().any(|c| c.id == *id));
        for (index, collection) in list.iter().enumerate() {
            let measured = self
                .measure_collection(generation, collection, index < self.canaries, batch)
                .await;
            let labels = [
                labels[0],
                labels[1],
                ("collection", collection.name.as_str()),
            ];
            batch.push(&metrics::READABLE, &labels, flag(measured.is_ok()));
            // One collection that fails costs no other, and the store is still up.
            failures.extend(
                measured
                    .err()
                    .map(|error| format!("collection `{}`: {}", collection.name, error.kind)),
            );
        }
        Ok(())
    }

    async fn heartbeat(&mut self) -> Result<Generation, ApiError> {
        let known = self
            .generation
            .map_or([Generation::V2, Generation::V1], |g| match g {
                Generation::V2 => [Generation::V2, Generation::V1],
                Generation::V1 => [Generation::V1, Generation::V2],
            });
        let mut last = ApiError {
            kind: "not_found",
            status: 404,
        };
        for generation in known {
            let (time, answer) = self
                .api
                .get(&format!("/api/{}/heartbeat", generation.as_str()))
                .await;
            match self.note("heartbeat", time, answer) {
                Ok(_) => {
                    self.generation = Some(generation);
                    return Ok(generation);
                }
                Err(error) if error.kind == "not_found" => last = error,
                Err(error) => return Err(error),
            }
        }
        self.generation = None;
        Err(last)
    }

    /// Only 1.x knows readiness; for others the heartbeat has to do.
    async fn ready(&self, generation: Generation) -> bool {
        if generation == Generation::V1 {
            return true;
        }
        match self.api.get("/api/v2/healthcheck").await.1 {
            Ok(json) => json
                .as_object()
                .is_some_and(|o| o.values().all(|v| v.as_bool() != Some(false))),
            Err(error) => error.status == 404,
        }
    }

    async fn info(&self, generation: Generation, batch: &mut Batch) {
        if let Ok(json) = self
            .api
            .get(&format!("/api/{}/version", generation.as_str()))
            .await
            .1
            && let Some(version) = json.as_str()
        {
            let labels = [
                ("target", self.target.as_str()),
                ("store", STORE),
                ("version", version),
                ("api", generation.as_str()),
            ];
            batch.push(&metrics::INFO, &labels, 1.0);
        }
    }

    async fn measure_collection(
        &mut self,
        generation: Generation,
        collection: &Collection,
        canary: bool,
        batch: &mut Batch,
    ) -> Result<(), ApiError> {
        let target = self.target.clone();
        let labels = [
            ("target", target.as_str()),
            ("store", STORE),
            ("collection", collection.name.as_str()),
        ];
        if let Some(dimension) = collection.dimension {
            batch.push(&metrics::DIMENSION, &labels, dimension);
            if let Some(wanted) = self.dimension {
                let mismatch = f64::from(u8::from(wanted != dimension));
                batch.push(&metrics::MISMATCH, &labels, mismatch);
            }
        }
        let (time, count) = self.api.count(generation, &collection.id).await;
        let count = self.note("count", time, count)?;
        batch.push(&metrics::VECTORS, &labels, count);
        if canary && count > 0.0 {
            self.fly_canary(generation, collection, &labels, batch)
                .await
        } else {
            Ok(())
        }
    }

    async fn fly_canary(
        &mut self,
        generation: Generation,
        collection: &Collection,
        labels: &[(&str, &str)],
        batch: &mut Batch,
    ) -> Result<(), ApiError> {
        let fresh = || CanaryLook {
            canary: None,
            durations: Histogram::new(metrics::BOUNDS),
        };
        let mut look = self.looks.remove(&collection.id).unwrap_or_else(fresh);
        let result = self.ask_canary(generation, collection, &mut look).await;
        let zero = look
            .canary
            .as_ref()
            .is_some_and(|canary| canary.embedding.iter().all(|part| *part == 0.0));
        batch.push_histogram(&metrics::CANARY, labels, &look.durations);
        self.looks.insert(collection.id.clone(), look);
        let found = match &result {
            Ok(None) => return Ok(()),
            Ok(Some((time, found))) => {
                batch.push(&metrics::LAST_CANARY, labels, time.as_secs_f64());
                Some(*found)
            }
            Err(_) => None,
        };
        let flag = |value: bool| f64::from(u8::from(value));
        batch.push(
            &metrics::CANARY_SUCCESS,
            labels,
            flag(found.is_some_and(|f| f.results > 0)),
        );
        if !(collection.inner_product || zero) {
            batch.push(
                &metrics::SELF_MATCH,
                labels,
                flag(found.is_some_and(|f| f.itself)),
            );
        }
        batch.push(
            &metrics::RESULTS,
            labels,
            found.map_or(0.0, |f| f.results as f64),
        );
        result.map(drop)
    }

    /// Queries for the canary. One that is not found may have been deleted, or be one of the few
    /// that an approximate index never reaches: only when other stored vectors are not found either
    /// does that count as wrong.
    async fn ask_canary(
        &mut self,
        generation: Generation,
        collection: &Collection,
        look: &mut CanaryLook,
    ) -> Result<Option<(Duration, api::Found)>, ApiError> {
        let id = collection.id.as_str();
        let mut candidates: VecDeque<Canary> = look.canary.take().into_iter().collect();
        let mut is_renewed = false;
        let mut last = Ok(None);
        loop {
            let Some(canary) = candidates.pop_front() else {
                if is_renewed {
                    return last;
                }
                is_renewed = true;
                let stored = self.api.any_vectors(generation, id, CANARY_CANDIDATES);
                candidates.extend(stored.await?);
                continue;
            };
            let (time, answer) = self.api.query(generation, id, &canary).await;
            look.canary = Some(canary);
            look.durations.observe(time.as_secs_f64());
            let answer = self.note("query", time, answer);
            let itself = answer.as_ref().is_ok_and(|found| found.itself);
            // A query that fails fails with every vector.
            let is_last = itself || collection.inner_product || (is_renewed && answer.is_err());
            last = answer.map(|found| Some((time, found)));
            if is_last {
                return last;
            }
        }
    }

    fn note<T>(
        &mut self,
        op: &'static str,
        time: Duration,
        result: Result<T, ApiError>,
    ) -> Result<T, ApiError> {
        let failure = result.as_ref().err().map(|error| error.kind);
        self.probes.note(op, time, failure);
        result
    }

    async fn look_at_disk(&mut self, batch: &mut Batch, failures: &mut Vec<String>) {
        let Some(path) = self.path.clone() else {
            return;
        };
        let now = Instant::now();
        if self.looking.is_none() && self.next_disk.is_none_or(|at| now >= at) {
            self.next_disk = Some(now + DISK_INTERVAL);
            self.looking = Some(tokio::spawn(disk::look(path)));
        }
        if let Some(looking) = &mut self.looking {
            let patience = self.api.timeout.min(DISK_PATIENCE);
            let error = match tokio::time::timeout(patience, looking).await {
                Ok(Ok(Ok(found))) => {
                    self.disk = Some(found);
                    None
                }
                Ok(Ok(Err(error))) => Some(error.kind().to_string()),
                Ok(Err(error)) => Some(error.to_string()),
                // The task is kept: it ends with the call that hangs.
                Err(_) => Some("no answer in time".to_owned()),
            };
            if error.as_deref() != Some("no answer in time") {
                self.looking = None;
            }
            self.disk_error = error;
        }
        let labels = [("target", self.target.as_str()), ("store", STORE)];
        batch.push(
            &metrics::DISK_READABLE,
            &labels,
            f64::from(u8::from(self.disk_error.is_none())),
        );
        if let Some(error) = &self.disk_error {
            failures.push(format!("path: {error}"));
            self.disk = None;
        }
        let Some((sizes, rows)) = &self.disk else {
            return;
        };
        for (part, bytes) in sizes.parts() {
            let labels = [labels[0], labels[1], ("part", part)];
            batch.push(&metrics::DISK, &labels, bytes as f64);
        }
        if let Some(rows) = rows {
            batch.push(&metrics::WAL_ROWS, &labels, *rows as f64);
        }
    }
}

fn failed(what: &str, error: &ApiError) -> CollectError {
    let status = if error.status == 0 {
        String::new()
    } else {
        format!(" (status {})", error.status)
    };
    CollectError::new(format!("{what}: {}{status}", error.kind))
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
