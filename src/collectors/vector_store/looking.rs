//! Looks at a store: what it holds, whether a search still finds a vector that is stored, and how
//! much of what is nearest it finds.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;

use crate::collectors::{CollectError, Collector, Target};
use crate::config::Section;
use crate::model::{Batch, Timestamp, sample::Histogram};

use super::metrics;
use super::requests::Requests;
use super::store::{AnyStore, Choice, Collection, Failure, Looked, Search, Stored, Survey};

/// Pause after a measurement of recall that failed.
const RECALL_RETRY: Duration = Duration::from_secs(60);
/// Kinds of request, the values of the `op` label.
const OPS: [&str; 4] = ["list", "sample", "query", "exact"];
/// Neighbours that a canary asks for: a collection with equal vectors may name others first.
const CANARY_NEIGHBOURS: usize = 3;
/// Stored vectors that are tried in turn where the canary was not found.
const CANARY_CANDIDATES: usize = 3;
/// Part of the deadline that one request may take.
const SHARE: f64 = 0.4;

/// The block `recall`.
#[derive(Clone, Debug)]
struct Recall {
    interval: Duration,
    sample: usize,
    neighbours: usize,
    max_vectors: f64,
}

/// What is remembered of a collection.
struct Memory {
    canary: Option<Stored>,
    durations: Histogram,
    recall: Option<(f64, Timestamp)>,
    next_recall: Option<Instant>,
}

/// Keys of several stores.
pub struct Common {
    choice: Choice,
    canaries: usize,
    /// The application's dimension.
    dimension: Option<f64>,
    recall: Option<Recall>,
}

impl Common {
    /// Reads them; those of single stores are asked for too, so that the reference knows them.
    pub fn read(section: &Section<'_>) -> Self {
        let _of_single: (Option<Duration>, Option<u16>, _) = (
            section.get("integrity_interval"),
            section.get("management_port"),
            section.secret("dsn"),
        );
        Common {
            choice: Choice {
                only: section.or("collections", Vec::new()),
                most: section.or("max_collections", 50),
            },
            canaries: section.or("max_canaries", 10),
            dimension: section.get::<u32>("dimension").map(f64::from),
            recall: section.section("recall").map(|s| Recall::read(&s)),
        }
    }
}

/// The collector of one store.
pub struct Looking {
    target: String,
    name: &'static str,
    store: Box<dyn AnyStore>,
    timeout: Duration,
    common: Common,
    requests: Requests,
    memories: HashMap<String, Memory>,
    /// What could not be read, as it was last logged.
    failing: Vec<String>,
}

impl Recall {
    fn read(section: &Section<'_>) -> Self {
        let recall = Recall {
            interval: section.or("interval", Duration::from_secs(3600)),
            sample: section.or("sample", 5),
            neighbours: section.or("neighbours", 10),
            max_vectors: section.or("max_vectors", 100_000_u32).into(),
        };
        if recall.sample == 0 || recall.sample > 50 {
            section.error("sample", "is not between 1 and 50", "give 5");
        }
        if recall.neighbours == 0 || recall.neighbours > 100 {
            section.error("neighbours", "is not between 1 and 100", "give 10");
        }
        section.finish();
        recall
    }
}

fn flag(value: bool) -> f64 {
    f64::from(u8::from(value))
}

impl Looking {
    /// Nothing is known yet.
    pub fn new(
        common: Common,
        target: &Target,
        name: &'static str,
        store: Box<dyn AnyStore>,
    ) -> Self {
        Looking {
            target: target.name.clone(),
            name,
            store,
            timeout: target.timeout.mul_f64(SHARE),
            common,
            requests: Requests::new(&OPS),
            memories: HashMap::new(),
            failing: Vec::new(),
        }
    }

    fn note<T>(&mut self, op: &'static str, started: Instant, result: Looked<T>) -> Looked<T> {
        let failure = result.as_ref().err().map(|failure| failure.kind);
        self.requests.note(op, started.elapsed(), failure);
        result
    }

    async fn measure(
        &mut self,
        batch: &mut Batch,
        problems: &mut Vec<String>,
    ) -> Result<(), CollectError> {
        let (target, name) = (self.target.clone(), self.name);
        let labels = [("target", target.as_str()), ("store", name)];
        // 0 stands until the store answers; the deadline may cut this collection short at any
        // point.
        batch.push(&metrics::UP, &labels, 0.0);
        let started = Instant::now();
        let survey = self.store.survey(&self.common.choice, self.timeout).await;
        let survey = match self.note("list", started, survey) {
            Ok(survey) => survey,
            Err(failure) => {
                let message = format!("{}: {}", failure.kind, failure.text);
                let address = self.store.address();
                let why = [
                    labels[0],
                    labels[1],
                    ("url", address.as_str()),
                    ("message", message.as_str()),
                ];
                batch.push(&metrics::FAILURE, &why, 1.0);
                return Err(CollectError::new(message));
            }
        };
        if let Some(sample) = batch
            .families
            .get_mut(metrics::UP.name)
            .and_then(|family| family.samples.last_mut())
        {
            sample.value = 1.0;
        }
        self.write_survey(&survey, batch);
        problems.extend(survey.problems.iter().cloned());
        let names: Vec<&str> = survey.collections.iter().map(|c| c.name.as_str()).collect();
        self.memories
            .retain(|name, _| names.contains(&name.as_str()));
        let mut recall_left = 1;
        for (index, collection) in survey.collections.iter().enumerate() {
            let is_canary = index < self.common.canaries && collection.searchable;
            let holds = collection.vectors.is_none_or(|vectors| vectors != 0.0);
            let mut result = Ok(());
            if is_canary && holds {
                result = self.fly_canary(collection, batch).await;
                if result.is_ok() {
                    result = self
                        .measure_recall(collection, &mut recall_left, batch)
                        .await;
                }
            }
            let labels = [
                labels[0],
                labels[1],
                ("collection", collection.name.as_str()),
            ];
            batch.push(&metrics::READABLE, &labels, flag(result.is_ok()));
            if let Err(failure) = result {
                let text = format!("{}: {}: {}", collection.name, failure.kind, failure.text);
                problems.push(text);
            }
        }
        Ok(())
    }

    fn write_survey(&self, survey: &Survey, batch: &mut Batch) {
        let labels = [("target", self.target.as_str()), ("store", self.name)];
        batch.push(&metrics::READY, &labels, flag(survey.ready));
        if let Some(version) = &survey.version {
            let labels = [
                labels[0],
                labels[1],
                ("version", version.as_str()),
                ("api", ""),
            ];
            batch.push(&metrics::INFO, &labels, 1.0);
        }
        batch.push(&metrics::COLLECTIONS, &labels, survey.total as f64);
        let looked = survey.collections.len() + survey.problems.len();
        let omitted = survey.total.saturating_sub(looked);
        batch.push(&metrics::OMITTED, &labels, omitted as f64);
        for (node, is_well) in &survey.nodes {
            let labels = [labels[0], labels[1], ("node", node.as_str())];
            batch.push(&metrics::NODE, &labels, flag(*is_well));
        }
        for collection in &survey.collections {
            self.write_collection(collection, batch);
        }
    }

    fn write_collection(&self, collection: &Collection, batch: &mut Batch) {
        let labels = [
            ("target", self.target.as_str()),
            ("store", self.name),
            ("collection", collection.name.as_str()),
        ];
        let (wanted, active) = collection.replicas.unzip();
        for (desc, value) in [
            (&metrics::VECTORS, collection.vectors),
            (&metrics::DIMENSION, collection.dimension),
            (&metrics::INDEXED, collection.indexed),
            (&metrics::UNINDEXED, collection.unindexed),
            (&metrics::SEGMENTS, collection.segments),
            (&metrics::QUEUE, collection.queue),
            (&metrics::REPLICAS_WANTED, wanted),
            (&metrics::REPLICAS, active),
            (&metrics::WRITTEN, collection.written),
            (&metrics::SEARCHABLE, Some(flag(collection.searchable))),
        ] {
            if let Some(value) = value {
                batch.push(desc, &labels, value);
            }
        }
        let mismatch = self
            .common
            .dimension
            .zip(collection.dimension)
            .map(|(wanted, found)| wanted != found);
        if let Some(mismatch) = mismatch {
            batch.push(&metrics::MISMATCH, &labels, flag(mismatch));
        }
        if let Some((state, all)) = &collection.status {
            for one in *all {
                let labels = [labels[0], labels[1], labels[2], ("status", *one)];
                batch.push(&metrics::STATUS, &labels, flag(one == state));
            }
        }
        if let Some(optimizer) = &collection.optimizer {
            batch.push(&metrics::OPTIMIZER, &labels, flag(optimizer.is_ok()));
        }
        for (part, bytes) in &collection.bytes {
            let labels = [labels[0], labels[1], labels[2], ("part", *part)];
            batch.push(&metrics::BYTES, &labels, *bytes);
        }
        for index in &collection.indexes {
            let labels = [
                labels[0],
                labels[1],
                labels[2],
                ("index", index.name.as_str()),
            ];
            if let Some(scans) = index.scans {
                batch.push(&metrics::INDEX_SCANS, &labels, scans);
            }
            if let Some(bytes) = index.bytes {
                batch.push(&metrics::INDEX_BYTES, &labels, bytes);
            }
            let labels = [
                labels[0],
                labels[1],
                labels[2],
                labels[3],
                ("method", index.method.as_str()),
            ];
            batch.push(&metrics::INDEX_VALID, &labels, flag(index.valid));
        }
    }

    async fn fly_canary(&mut self, collection: &Collection, batch: &mut Batch) -> Looked<()> {
        let target = self.target.clone();
        let labels = [
            ("target", target.as_str()),
            ("store", self.name),
            ("collection", collection.name.as_str()),
        ];
        let mut memory = self
            .memories
            .remove(&collection.name)
            .unwrap_or_else(|| Memory {
                canary: None,
                durations: Histogram::new(metrics::BOUNDS),
                recall: None,
                next_recall: None,
            });
        let asked = self.ask_canary(collection, &mut memory).await;
        let canary = memory.canary.clone();
        batch.push_histogram(&metrics::CANARY, &labels, &memory.durations);
        self.memories.insert(collection.name.clone(), memory);
        let found = match &asked {
            // Nothing is stored, or the store hands out nothing.
            Ok(None) => return Ok(()),
            Ok(Some((time, found))) => {
                batch.push(&metrics::LAST_CANARY, &labels, time.as_secs_f64());
                Some(*found)
            }
            Err(_) => None,
        };
        let (results, itself) = found.unwrap_or((0, false));
        batch.push(&metrics::CANARY_SUCCESS, &labels, flag(results > 0));
        let zero = canary
            .as_ref()
            .is_some_and(|canary| canary.vector.iter().all(|part| *part == 0.0));
        if !(collection.inner_product || zero) {
            batch.push(&metrics::SELF_MATCH, &labels, flag(itself));
        }
        batch.push(&metrics::RESULTS, &labels, results as f64);
        asked?;
        if let Some(canary) = canary.filter(|_| !collection.indexes.is_empty()) {
            let used = self
                .store
                .used_index(collection, &canary, self.timeout)
                .await?;
            if let Some(used) = used {
                for index in &collection.indexes {
                    let labels = [
                        labels[0],
                        labels[1],
                        labels[2],
                        ("index", index.name.as_str()),
                    ];
                    let is_used = used.as_deref() == Some(index.name.as_str());
                    batch.push(&metrics::INDEX_USED, &labels, flag(is_used));
                }
            }
        }
        Ok(())
    }

    /// Searches for the canary: how long it took, how many rows came, whether it was among them. One
    /// that is not found may have been deleted, or be one of the few that an approximate index never
    /// reaches: only when other stored vectors are not found either does that count as wrong.
    async fn ask_canary(
        &mut self,
        collection: &Collection,
        memory: &mut Memory,
    ) -> Looked<Option<(Duration, (usize, bool))>> {
        let mut candidates: VecDeque<Stored> = memory.canary.iter().cloned().collect();
        let mut is_renewed = false;
        let mut answer = None;
        loop {
            let Some(canary) = candidates.pop_front() else {
                if is_renewed {
                    return Ok(answer);
                }
                is_renewed = true;
                let started = Instant::now();
                let stored = self
                    .store
                    .sample(collection, CANARY_CANDIDATES, self.timeout)
                    .await;
                candidates.extend(self.note("sample", started, stored)?);
                continue;
            };
            memory.canary = Some(canary.clone());
            let started = Instant::now();
            let hits = self
                .store
                .nearest(
                    collection,
                    &canary,
                    CANARY_NEIGHBOURS,
                    Search::Usual,
                    self.timeout,
                )
                .await;
            let time = started.elapsed();
            let Some(hits) = self.note("query", started, hits)? else {
                return Ok(None);
            };
            memory.durations.observe(time.as_secs_f64());
            let itself = hits.iter().any(|hit| hit.id == canary.id)
                || hits.first().is_some_and(|hit| hit.equal == Some(true));
            answer = Some((time, (hits.len(), itself)));
            // By the inner product others may be nearer: there is nothing to try again.
            if itself || collection.inner_product {
                return Ok(answer);
            }
        }
    }

    /// Compares the usual search with one that passes over the index, for a few stored vectors, in
    /// one collection at a time.
    async fn measure_recall(
        &mut self,
        collection: &Collection,
        left: &mut usize,
        batch: &mut Batch,
    ) -> Looked<()> {
        let Some(recall) = self.common.recall.clone() else {
            return Ok(());
        };
        let now = Instant::now();
        let is_small = collection
            .vectors
            .is_some_and(|vectors| vectors <= recall.max_vectors);
        let is_due = self
            .memories
            .get(&collection.name)
            .is_some_and(|memory| memory.next_recall.is_none_or(|at| now >= at));
        if is_due && is_small && *left > 0 {
            *left -= 1;
            // What fails, or takes too long, is tried again soon, not an hour later.
            if let Some(memory) = self.memories.get_mut(&collection.name) {
                memory.next_recall = Some(now + recall.interval.min(RECALL_RETRY));
            }
            let found = self.compare(collection, &recall).await?;
            if let Some(memory) = self.memories.get_mut(&collection.name) {
                memory.next_recall = Some(now + recall.interval);
                if let Some(ratio) = found {
                    memory.recall = Some((ratio, Timestamp::now()));
                }
            }
        }
        let known = self
            .memories
            .get(&collection.name)
            .and_then(|memory| memory.recall);
        if let Some((ratio, at)) = known {
            let labels = [
                ("target", self.target.as_str()),
                ("store", self.name),
                ("collection", collection.name.as_str()),
            ];
            batch.push(&metrics::RECALL, &labels, ratio);
            batch.push(&metrics::RECALL_AT, &labels, at.0 as f64 / 1000.0);
        }
        Ok(())
    }

    async fn compare(&mut self, collection: &Collection, recall: &Recall) -> Looked<Option<f64>> {
        let started = Instant::now();
        let sample = self
            .store
            .sample(collection, recall.sample, self.timeout)
            .await;
        let sample = self.note("sample", started, sample)?;
        let (mut found, mut wanted) = (0, 0);
        for stored in &sample {
            let started = Instant::now();
            let exact = self
                .store
                .nearest(
                    collection,
                    stored,
                    recall.neighbours,
                    Search::Exact,
                    self.timeout,
                )
                .await;
            let Some(exact) = self.note("exact", started, exact)? else {
                return Ok(None);
            };
            let usual = self
                .store
                .nearest(
                    collection,
                    stored,
                    recall.neighbours,
                    Search::Usual,
                    self.timeout,
                )
                .await?
                .ok_or_else(|| Failure::odd("no list of hits"))?;
            wanted += exact.len();
            found += exact
                .iter()
                .filter(|hit| usual.iter().any(|other| other.id == hit.id))
                .count();
        }
        Ok((wanted > 0).then(|| found as f64 / wanted as f64))
    }

    /// One line in the log when something cannot be read, something else cannot, and all can again.
    fn log(&mut self, problems: Vec<String>) {
        let (target, store) = (&self.target, self.name);
        if !problems.is_empty() && problems != self.failing {
            let error = problems
                .iter()
                .take(5)
                .map(String::as_str)
                .collect::<Vec<_>>()
                .join("; ");
            tracing::warn!(collector = "vector_store", %target, store, count = problems.len(), %error, "Part of the store cannot be read.");
        } else if problems.is_empty() && !self.failing.is_empty() {
            tracing::info!(collector = "vector_store", %target, store, "Every part of the store can be read again.");
        }
        self.failing = problems;
    }
}

impl Collector for Looking {
    fn collect<'a>(&'a mut self, batch: &'a mut Batch) -> BoxFuture<'a, Result<(), CollectError>> {
        async move {
            let mut problems = Vec::new();
            let result = self.measure(batch, &mut problems).await;
            self.requests.write(batch, &self.target, self.name);
            let labels = [("target", self.target.as_str()), ("store", self.name)];
            let failed = result.is_err() || !problems.is_empty();
            batch.push(&metrics::ERROR, &labels, flag(failed));
            self.log(problems);
            result
        }
        .boxed()
    }

    fn address(&self) -> String {
        self.store.address()
    }
}
