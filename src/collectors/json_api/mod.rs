//! JSON endpoints as metrics: one request for many of them, behind a token that may expire, and
//! each part of a detailed health answer.
//!
//! What is not there is absent, never 0, and counted. Texts from outside become labels only where
//! the configuration names the label, and only so many values of one.

mod asked;
mod document;
mod metric;
mod metrics;
mod modules;
mod path;
mod settings;
mod token;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tracing::{info, warn};

use crate::config::Section;
use crate::http::{HttpError, HttpErrorKind, Request, Response};
use crate::model::{Batch, Labels, LabelsBuilder, METRIC_NAME, Sample};

use super::{CollectError, Collector, CollectorKind, Target};
pub(super) use document::{Json, parse};
use metric::{Metric, Odd};
pub(super) use path::Path;
use settings::Settings;
use token::TokenError;

/// The kind's row in the table of collectors.
pub const KIND: CollectorKind = CollectorKind {
    name: "json_api",
    about: "JSON endpoints: numbers, words and lists as metrics, one request for all, behind a token that may expire",
    metrics: &[metrics::METRICS],
    build,
};

/// How long a value of a label counts after it was seen last.
const LABEL_MEMORY: Duration = Duration::from_secs(3600);
/// Most characters of a message that labels a series.
const MAX_MESSAGE: usize = 160;

/// Why the endpoint is not up: a closed set of reasons, and few messages.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Failure {
    reason: &'static str,
    message: String,
    /// Whether the credentials were refused.
    refused: bool,
}

impl Failure {
    fn new(reason: &'static str, message: impl Into<String>) -> Self {
        Failure {
            reason,
            message: message.into().chars().take(MAX_MESSAGE).collect(),
            refused: false,
        }
    }
}

impl From<HttpError> for Failure {
    fn from(error: HttpError) -> Self {
        let message = match error.kind {
            HttpErrorKind::Dns => "the name cannot be resolved",
            HttpErrorKind::Tls => "the TLS handshake failed, or the certificate is not trusted",
            HttpErrorKind::Timeout => "no answer in time",
            HttpErrorKind::Protocol => "the answer is not HTTP, or broke off",
            // The kernel's reasons and ours are few.
            HttpErrorKind::Connect
            | HttpErrorKind::TooLarge
            | HttpErrorKind::Request
            | HttpErrorKind::Credentials => &error.message,
        };
        Failure::new(error.kind.as_str(), message)
    }
}

impl From<TokenError> for Failure {
    fn from(error: TokenError) -> Self {
        let refused = matches!(error, TokenError::Refused(_));
        Failure {
            refused,
            ..Failure::new("token", error.to_string())
        }
    }
}

struct JsonApi {
    target: String,
    settings: Settings,
    timeout: Duration,
    counts: Counts,
    /// When each value of a label was seen, by metric and label.
    seen: HashMap<(usize, usize), HashMap<String, Instant>>,
    /// The failure that was logged last.
    failing: Option<Failure>,
    /// What was logged once, by metric.
    logged: HashSet<(usize, &'static str)>,
}

/// What was left out so far.
#[derive(Default)]
struct Counts {
    missing: BTreeMap<usize, u64>,
    invalid: BTreeMap<usize, u64>,
    dropped: BTreeMap<&'static str, u64>,
}

/// Why a series is left out: the values of the label `reason`.
const REASONS: [&str; 3] = ["duplicate", "label_values", "limit"];

/// An answer, as far as there was one.
#[derive(Default)]
struct Answer {
    status: u16,
    body: Bytes,
}

fn build(section: &Section<'_>, target: &Target) -> Box<dyn Collector> {
    let settings = Settings::read(section);
    let each = |value: u64| {
        settings
            .metrics
            .iter()
            .enumerate()
            .map(move |(index, _)| (index, value))
            .collect::<BTreeMap<_, _>>()
    };
    // A counter that begins at 0 shows its first increase.
    let counts = Counts {
        missing: each(0),
        invalid: each(0),
        dropped: REASONS.map(|reason| (reason, 0)).into(),
    };
    Box::new(JsonApi {
        target: target.name.clone(),
        settings,
        // A little less than the loop allows, so that the result is not lost.
        timeout: target.timeout.mul_f64(0.95),
        counts,
        seen: HashMap::new(),
        failing: None,
        logged: HashSet::new(),
    })
}

impl Collector for JsonApi {
    fn collect<'a>(&'a mut self, batch: &'a mut Batch) -> BoxFuture<'a, Result<(), CollectError>> {
        async move {
            let start = Instant::now();
            let mut answer = Answer::default();
            let timeout = self.timeout;
            let asked = tokio::time::timeout(timeout, self.ask(&mut answer)).await;
            let mut failure = match asked {
                Ok(result) => result.err(),
                Err(_) => Some(Failure::new("timeout", "no answer in time")),
            };
            let took = start.elapsed().as_secs_f64();
            // A health endpoint that answers 503 says in its body what is wrong.
            let is_read = failure.is_none()
                || failure
                    .as_ref()
                    .is_some_and(|failure| failure.reason == "status")
                    && answer.status == 503;
            let mut series = None;
            if is_read {
                match document::parse(&answer.body) {
                    Ok(json) => series = Some(self.take(&json, failure.is_none(), batch)),
                    Err(problem) if failure.is_none() => {
                        failure = Some(Failure::new("json", problem.to_string()))
                    }
                    Err(_) => {}
                }
            }
            self.report(&answer, failure.as_ref(), took, series, batch);
            match (failure, series) {
                // The loop logs it.
                (Some(failure), None) => Err(CollectError::new(failure.message)),
                (failure, _) => {
                    self.log(failure);
                    Ok(())
                }
            }
        }
        .boxed()
    }

    fn chosen(&self) -> Vec<String> {
        let probes = self.settings.probe.then(|| "probe_".to_owned());
        self.settings
            .metrics
            .iter()
            .map(|metric| metric.name.clone())
            .chain(probes)
            .collect()
    }

    fn address(&self) -> String {
        let mut url = self.settings.url.clone();
        // What stands in a query or before the host may be secret.
        url.set_query(None);
        url.set_fragment(None);
        let _no_host = url.set_username("");
        let _no_host = url.set_password(None);
        url.to_string()
    }
}

impl JsonApi {
    /// One request, and a second one where the token was refused.
    async fn ask(&mut self, answer: &mut Answer) -> Result<(), Failure> {
        let settings = &mut self.settings;
        let mut request = Request {
            method: settings.method.clone(),
            url: settings.url.clone(),
            headers: settings.headers.clone(),
            body: settings.body.clone(),
            timeout: self.timeout.mul_f64(0.98),
            max_body: settings.max_body,
        };
        let mut response: Option<Response> = None;
        // The first token may be an old one.
        let attempts = if settings.tokens.is_some() { 2 } else { 1 };
        for attempt in 0..attempts {
            let mut is_new = true;
            if let Some(tokens) = &mut settings.tokens {
                let before = tokens.renewals();
                let (name, mut value) = tokens.header(self.timeout.mul_f64(0.9)).await?;
                value.set_sensitive(true);
                request.headers.insert(name, value);
                is_new = tokens.renewals() > before;
            }
            let came = settings.client.send(request.clone()).await?;
            answer.status = came.status;
            let is_refused = came.status == 401;
            response = Some(came);
            let Some(tokens) = &mut settings.tokens else {
                break;
            };
            if !is_refused {
                tokens.taken();
                break;
            }
            tokens.forget();
            if is_new {
                tokens.give_up(TokenError::Refused("status 401 with a new token".into()));
            }
            if is_new || attempt == 1 {
                break;
            }
        }
        if let Some(response) = response {
            answer.body = response.body;
        }
        let status = answer.status;
        let is_wanted = match settings.statuses.as_slice() {
            [] => (200..300).contains(&status),
            wanted => wanted.contains(&status),
        };
        if is_wanted {
            return Ok(());
        }
        Err(Failure {
            refused: matches!(status, 401 | 403),
            ..Failure::new("status", format!("status {status}"))
        })
    }

    /// Makes series of an answer; returns how many. What is missing in one that was not wanted is
    /// not counted.
    fn take(&mut self, json: &Json<'_>, is_wanted: bool, batch: &mut Batch) -> usize {
        let JsonApi {
            settings,
            counts,
            seen,
            ..
        } = self;
        let now = Instant::now();
        for values in seen.values_mut() {
            values.retain(|_, last| now.duration_since(*last) < LABEL_MEMORY);
        }
        let mut taken: HashSet<Labels> = HashSet::new();
        let mut notes: HashSet<(usize, &'static str)> = HashSet::new();
        for (index, metric) in settings.metrics.iter().enumerate() {
            let mut drop_for =
                |reason: &'static str,
                 what: &'static str,
                 notes: &mut HashSet<(usize, &'static str)>| {
                    *counts.dropped.entry(reason).or_default() += 1;
                    notes.insert((index, what));
                };
            metric.series(json, |series| {
                let mut count =
                    |counted: &mut BTreeMap<usize, u64>, by: u64, what: &'static str| {
                        if by > 0 && is_wanted {
                            *counted.entry(index).or_default() += by;
                            notes.insert((index, what));
                        }
                    };
                count(
                    &mut counts.missing,
                    series.missing,
                    "a label is not in the answer",
                );
                let value = match series.value {
                    Ok(value) => value,
                    Err(Odd::Missing) if metric.is_optional => return true,
                    Err(Odd::Missing) => {
                        count(&mut counts.missing, 1, "its value is not in the answer");
                        return true;
                    }
                    Err(Odd::Invalid) => {
                        count(
                            &mut counts.invalid,
                            1,
                            "its value is no finite number and no known word",
                        );
                        return true;
                    }
                };
                if taken.len() >= settings.max_series {
                    drop_for(
                        "limit",
                        "there are more series than max_series allows",
                        &mut notes,
                    );
                    return true;
                }
                let mut builder = LabelsBuilder::new();
                builder.set(METRIC_NAME, &metric.name);
                for (label, value) in &series.labels {
                    builder.set(label, value.as_ref());
                }
                let labels = builder.build();
                if taken.contains(&labels) {
                    drop_for("duplicate", "two series have the same labels", &mut notes);
                    return true;
                }
                if !is_room(
                    seen,
                    settings.max_series,
                    index,
                    metric,
                    &series.labels,
                    now,
                ) {
                    drop_for(
                        "label_values",
                        "a label has more values within an hour than max_series allows",
                        &mut notes,
                    );
                    return true;
                }
                taken.insert(labels.clone());
                let sample = Sample {
                    labels,
                    value,
                    timestamp: series.time,
                };
                batch.push_sample(&metric.name, metric.kind, &metric.help, sample);
                true
            });
        }
        let count = taken.len();
        for (index, error) in notes {
            if self.logged.insert((index, error)) {
                let metric = &self.settings.metrics[index].name;
                warn!(collector = "json_api", target = %self.target, metric, error, "Part of a JSON answer was left out.");
            }
        }
        count
    }

    fn report(
        &self,
        answer: &Answer,
        failure: Option<&Failure>,
        took: f64,
        series: Option<usize>,
        batch: &mut Batch,
    ) {
        let flag = |value: bool| f64::from(u8::from(value));
        let up = flag(failure.is_none());
        batch.push(&metrics::UP, &[], up);
        batch.push(&metrics::STATUS, &[], f64::from(answer.status));
        batch.push(&metrics::DURATION, &[], took);
        batch.push(&metrics::BODY, &[], answer.body.len() as f64);
        batch.push(
            &metrics::REFUSED,
            &[],
            flag(failure.is_some_and(|failure| failure.refused)),
        );
        if let Some(failure) = failure {
            let labels = [
                ("reason", failure.reason),
                ("url", &self.address()),
                ("message", &failure.message),
            ];
            batch.push(&metrics::FAILURE, &labels, 1.0);
            if self.settings.probe {
                batch.push(&metrics::PROBE_FAILURE, &labels, 1.0);
            }
        }
        if let Some(series) = series {
            batch.push(&metrics::SERIES, &[], series as f64);
        }
        for (desc, counts) in [
            (&metrics::MISSING, &self.counts.missing),
            (&metrics::INVALID, &self.counts.invalid),
        ] {
            let mut by_name: BTreeMap<&str, u64> = BTreeMap::new();
            for (index, count) in counts {
                *by_name
                    .entry(self.settings.metrics[*index].name.as_str())
                    .or_default() += count;
            }
            for (name, count) in by_name {
                batch.push(desc, &[("metric", name)], count as f64);
            }
        }
        for (reason, count) in &self.counts.dropped {
            batch.push(&metrics::DROPPED, &[("reason", reason)], *count as f64);
        }
        if let Some(tokens) = &self.settings.tokens {
            batch.push(&metrics::RENEWALS, &[], tokens.renewals() as f64);
            if let Some(end) = tokens.end() {
                batch.push(&metrics::TOKEN_END, &[], end.seconds());
            }
        }
        if self.settings.probe {
            batch.push(&metrics::PROBE_SUCCESS, &[], up);
            batch.push(&metrics::PROBE_STATUS, &[], f64::from(answer.status));
            batch.push(&metrics::PROBE_DURATION, &[], took);
        }
    }

    /// Says once when an endpoint whose answer is read begins to fail, and when it is well again.
    fn log(&mut self, failure: Option<Failure>) {
        let target = &self.target;
        match (&failure, &self.failing) {
            (Some(now), before)
                if before
                    .as_ref()
                    .is_none_or(|before| before.reason != now.reason) =>
            {
                warn!(collector = "json_api", target, reason = now.reason, error = %now.message, "JSON endpoint cannot be read.");
            }
            (None, Some(_)) => info!(
                collector = "json_api",
                target, "JSON endpoint can be read again."
            ),
            _ => {}
        }
        self.failing = failure;
    }
}

/// Whether the values of a series' labels are known, or there is room for more; then they are known
/// from now on.
fn is_room(
    seen: &mut HashMap<(usize, usize), HashMap<String, Instant>>,
    most: usize,
    index: usize,
    metric: &Metric,
    labels: &[(&str, std::borrow::Cow<'_, str>)],
    now: Instant,
) -> bool {
    let place = |name: &str| {
        (
            index,
            metric
                .labels
                .iter()
                .position(|(label, _)| label == name)
                .unwrap_or_default(),
        )
    };
    let is_full = |name: &str, value: &str| {
        seen.get(&place(name))
            .is_some_and(|values| values.len() >= most && !values.contains_key(value))
    };
    if labels.iter().any(|(name, value)| is_full(name, value)) {
        return false;
    }
    for (name, value) in labels {
        let values = seen.entry(place(name)).or_default();
        match values.get_mut(value.as_ref()) {
            Some(last) => *last = now,
            None => drop(values.insert(value.clone().into_owned(), now)),
        }
    }
    true
}
