//! Canaries of retrieval: questions whose source is known, asked through the application or the
//! store on a schedule; and a fixed set of texts, whose embeddings must not change.
//!
//! A search may be fast, well indexed and wrong: only an answer that is known shows it. Questions
//! run beside the collections, one after the other. Of answers nothing is kept but whether they held
//! what they must.

mod asking;
mod metrics;
mod settings;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};
use tokio::task::JoinHandle;

use crate::config::Section;
use crate::model::{Batch, Timestamp, sample::Histogram};

use super::job::disk::Disk;
use super::{CollectError, Collector, CollectorKind, Target};
use asking::{Asked, Embedded};
use settings::{Embeddings, Settings};

/// The kind's row in the table of collectors.
pub const KIND: CollectorKind = CollectorKind {
    name: "retrieval",
    about: "questions whose source is known, asked through an application or a store: hit rate, rank, time; drift of embeddings",
    metrics: &[metrics::METRICS],
    build,
};

/// Part of the deadline for the state folder to answer.
const LOADING: f64 = 0.3;

/// The embeddings of the fixed texts when they were made first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Baseline {
    model: String,
    url: String,
    texts: Vec<String>,
    vectors: Vec<Vec<f32>>,
    /// Milliseconds of Unix time.
    at: i64,
}

/// What is known of one question.
struct History {
    last: Option<Asked>,
    durations: Histogram,
    asked: u64,
    hits: u64,
    errors: BTreeMap<&'static str, u64>,
}

/// What a round brought.
struct Round {
    asked: Vec<Asked>,
    embedded: Option<(Embedded, Duration)>,
}

/// What is known of the fixed texts.
#[derive(Default)]
struct Drift {
    success: Option<bool>,
    duration: Duration,
    /// Cosine and dimension by text.
    texts: Vec<(f64, usize)>,
}

struct Retrieval {
    target: String,
    settings: Arc<Settings>,
    timeout: Duration,
    histories: Vec<History>,
    drift: Drift,
    baseline: Option<Baseline>,
    /// Whether the state folder was asked.
    loaded: bool,
    disk: Arc<Disk>,
    pending: Option<JoinHandle<Round>>,
    next: Option<Instant>,
    next_drift: Option<Instant>,
    ended: Option<Timestamp>,
    failing: Vec<String>,
}

impl Drop for Retrieval {
    fn drop(&mut self) {
        if let Some(round) = &self.pending {
            round.abort();
        }
    }
}

fn build(section: &Section<'_>, target: &Target) -> Box<dyn Collector> {
    let settings = Settings::read(section);
    let history = || History {
        last: None,
        durations: Histogram::new(metrics::BOUNDS),
        asked: 0,
        hits: 0,
        errors: BTreeMap::new(),
    };
    Box::new(Retrieval {
        target: target.name.clone(),
        timeout: target.timeout,
        histories: settings.questions.iter().map(|_| history()).collect(),
        settings: Arc::new(settings),
        drift: Drift::default(),
        baseline: None,
        loaded: false,
        disk: Disk::new(target.memory.clone()),
        pending: None,
        next: None,
        next_drift: None,
        ended: None,
        failing: Vec::new(),
    })
}

/// Asks every question, and embeds the fixed texts where that is due.
async fn round(settings: Arc<Settings>, with_texts: bool) -> Round {
    let mut asked = Vec::with_capacity(settings.questions.len());
    let needs_vector = settings.body.contains("{vector}") && settings.parameter.is_none();
    for question in &settings.questions {
        let vector = match &settings.embeddings {
            Some(embeddings) if needs_vector => {
                let texts = [question.text.clone()];
                let embedded =
                    asking::embed(&settings.client, embeddings, &texts, settings.timeout).await;
                match embedded {
                    Ok(vectors) => vectors.into_iter().next(),
                    Err(kind) => {
                        asked.push(Asked {
                            error: Some(kind),
                            ..Asked::default()
                        });
                        continue;
                    }
                }
            }
            _ => None,
        };
        asked.push(asking::ask(&settings, question, vector.as_deref()).await);
    }
    let embedded = match &settings.embeddings {
        Some(embeddings) if with_texts && !embeddings.texts.is_empty() => {
            let started = Instant::now();
            let texts = &embeddings.texts;
            let embedded =
                asking::embed(&settings.client, embeddings, texts, settings.timeout).await;
            Some((embedded, started.elapsed()))
        }
        _ => None,
    };
    Round { asked, embedded }
}

impl Retrieval {
    /// Learns, the first time, what the fixed texts were like.
    async fn load(&mut self) -> Result<(), CollectError> {
        if self.loaded || self.settings.embeddings.is_none() {
            return Ok(());
        }
        let disk = Arc::clone(&self.disk);
        let loading = tokio::task::spawn_blocking(move || disk.load());
        let loaded = tokio::time::timeout(self.timeout.mul_f64(LOADING), loading)
            .await
            .map_err(|_| CollectError::new("timed out: the state folder does not answer"))?;
        self.baseline = loaded
            .ok()
            .flatten()
            .and_then(|text| serde_json::from_str(&text).ok());
        self.loaded = true;
        Ok(())
    }

    fn start(&mut self) {
        let now = Instant::now();
        if self.pending.is_some() || self.next.is_some_and(|at| now < at) {
            return;
        }
        self.next = Some(now + self.settings.interval);
        let with_texts = self.next_drift.is_none_or(|at| now >= at);
        if let (true, Some(embeddings)) = (with_texts, &self.settings.embeddings) {
            self.next_drift = Some(now + embeddings.interval);
        }
        let round = round(Arc::clone(&self.settings), with_texts);
        self.pending = Some(tokio::spawn(round));
    }

    async fn finish(&mut self) {
        let Some(round) = self.pending.take_if(|round| round.is_finished()) else {
            return;
        };
        // One that was cut off brought nothing.
        let Ok(round) = round.await else { return };
        self.ended = Some(Timestamp::now());
        let mut problems = Vec::new();
        let questions = self.settings.questions.iter();
        for ((question, history), asked) in questions.zip(&mut self.histories).zip(round.asked) {
            history.asked += 1;
            history.hits += u64::from(asked.hit);
            history.durations.observe(asked.duration.as_secs_f64());
            if let Some(kind) = asked.error {
                *history.errors.entry(kind).or_default() += 1;
                problems.push(format!("{}: {kind}", question.name));
            }
            history.last = Some(asked);
        }
        if let Some((embedded, duration)) = round.embedded {
            if let Err(kind) = &embedded {
                problems.push(format!("embeddings: {kind}"));
            }
            self.compare(embedded, duration);
        }
        self.log(problems);
    }

    /// Compares the fixed texts with what they were first; other texts or another model begin anew.
    fn compare(&mut self, embedded: Embedded, duration: Duration) {
        let Some(embeddings) = &self.settings.embeddings else {
            return;
        };
        self.drift.duration = duration;
        self.drift.success = Some(embedded.is_ok());
        let Ok(vectors) = embedded else { return };
        let fits = |baseline: &Baseline| {
            baseline.model == embeddings.model
                && baseline.url == address(embeddings)
                && baseline.texts == embeddings.texts
                && baseline.vectors.len() == vectors.len()
        };
        if !self.baseline.as_ref().is_some_and(fits) {
            let baseline = Baseline {
                model: embeddings.model.clone(),
                url: address(embeddings),
                texts: embeddings.texts.clone(),
                vectors: vectors
                    .iter()
                    .map(|vector| vector.iter().map(|n| *n as f32).collect())
                    .collect(),
                at: Timestamp::now().0,
            };
            // What cannot be saved is logged by the disk.
            drop(
                serde_json::to_string(&baseline)
                    .ok()
                    .and_then(|text| self.disk.write(text)),
            );
            self.baseline = Some(baseline);
        }
        let first = self.baseline.iter().flat_map(|baseline| &baseline.vectors);
        self.drift.texts = first
            .zip(&vectors)
            .map(|(first, now)| {
                let first: Vec<f64> = first.iter().map(|n| f64::from(*n)).collect();
                (asking::cosine(&first, now), now.len())
            })
            .collect();
    }

    fn write(&self, batch: &mut Batch) {
        let flag = |value: bool| f64::from(u8::from(value));
        let target = ("target", self.target.as_str());
        let (mut hits, mut reciprocal, mut known, mut ordered) = (0.0, 0.0, 0.0, 0.0);
        for (question, history) in self.settings.questions.iter().zip(&self.histories) {
            let labels = [target, ("question", question.name.as_str())];
            batch.push(&metrics::ASKED, &labels, history.asked as f64);
            batch.push(&metrics::HITS, &labels, history.hits as f64);
            batch.push_histogram(&metrics::DURATION, &labels, &history.durations);
            for (kind, count) in &history.errors {
                let labels = [labels[0], labels[1], ("error_type", *kind)];
                batch.push(&metrics::ERRORS, &labels, *count as f64);
            }
            let Some(last) = &history.last else { continue };
            known += 1.0;
            hits += flag(last.hit);
            batch.push(&metrics::SUCCESS, &labels, flag(last.error.is_none()));
            batch.push(
                &metrics::LAST_DURATION,
                &labels,
                last.duration.as_secs_f64(),
            );
            if last.error.is_none() {
                batch.push(&metrics::HIT, &labels, flag(last.hit));
            }
            if let Some(results) = last.results {
                batch.push(&metrics::RESULTS, &labels, results as f64);
                ordered += 1.0;
                reciprocal += last.rank.map_or(0.0, |rank| 1.0 / rank as f64);
            }
            if let Some(rank) = last.rank {
                batch.push(&metrics::RANK, &labels, rank as f64);
            }
            if let Some(contains) = last.contains {
                batch.push(&metrics::CONTAINS, &labels, flag(contains));
            }
        }
        if known > 0.0 {
            batch.push(&metrics::RATIO, &[target], hits / known);
        }
        if ordered > 0.0 {
            batch.push(&metrics::RECIPROCAL, &[target], reciprocal / ordered);
        }
        if let Some(at) = self.ended {
            batch.push(&metrics::AT, &[target], at.0 as f64 / 1000.0);
        }
        let Some(embeddings) = &self.settings.embeddings else {
            return;
        };
        let labels = [target, ("model", embeddings.model.as_str())];
        if let Some(success) = self.drift.success {
            batch.push(&metrics::EMBED_SUCCESS, &labels, flag(success));
            let seconds = self.drift.duration.as_secs_f64();
            batch.push(&metrics::EMBED_DURATION, &labels, seconds);
        }
        if let Some(baseline) = &self.baseline {
            batch.push(&metrics::BASELINE, &labels, baseline.at as f64 / 1000.0);
        }
        for (index, (cosine, dimension)) in self.drift.texts.iter().enumerate() {
            let number = (index + 1).to_string();
            let labels = [labels[0], labels[1], ("text", number.as_str())];
            batch.push(&metrics::SIMILARITY, &labels, *cosine);
            batch.push(&metrics::DIMENSION, &labels, *dimension as f64);
        }
    }

    /// One line in the log when something cannot be asked, something else cannot, and all can again.
    fn log(&mut self, problems: Vec<String>) {
        let target = &self.target;
        if !problems.is_empty() && problems != self.failing {
            let shown: Vec<&str> = problems.iter().take(5).map(String::as_str).collect();
            let error = shown.join("; ");
            tracing::warn!(collector = "retrieval", %target, count = problems.len(), %error, "Questions have no answer.");
        } else if problems.is_empty() && !self.failing.is_empty() {
            tracing::info!(collector = "retrieval", %target, "Every question is answered again.");
        }
        self.failing = problems;
    }
}

/// A URL without what may be secret.
fn address(embeddings: &Embeddings) -> String {
    let url = &embeddings.url;
    format!("{}{}", url.origin().ascii_serialization(), url.path())
}

impl Collector for Retrieval {
    fn collect<'a>(&'a mut self, batch: &'a mut Batch) -> BoxFuture<'a, Result<(), CollectError>> {
        async move {
            self.load().await?;
            self.finish().await;
            self.start();
            self.write(batch);
            Ok(())
        }
        .boxed()
    }

    fn address(&self) -> String {
        let url = &self.settings.url;
        format!("{}{}", url.origin().ascii_serialization(), url.path())
    }
}
