//! One round: each question is asked, and the fixed texts are embedded.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::collectors::json_api::{Json, Path, parse};
use crate::http::{Client, HttpError, HttpErrorKind, Request};

use super::settings::{Embeddings, Question, Settings, filled};

/// Greatest answer that is read, in bytes.
const MAX_ANSWER: usize = 4 << 20;
/// Where applications and stores usually have their sources.
const USUAL: [&str; 10] = [
    "sources[*].source",
    "sources[*].name",
    "sources[*]",
    "results[*].source",
    "results[*].metadata.source",
    "documents[*].metadata.source",
    "source_documents[*].metadata.source",
    "context[*].metadata.source",
    "citations[*].source",
    "result.points[*].payload.source",
];

/// What a question brought.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Asked {
    /// Request sent to last byte.
    pub duration: Duration,
    /// Why there is no answer that can be judged.
    pub error: Option<&'static str>,
    /// Whether the expected source was there.
    pub hit: bool,
    /// Its position, from 1.
    pub rank: Option<usize>,
    /// Number of sources; `None` where the answer has no order.
    pub results: Option<usize>,
    /// Whether the answer held what it must.
    pub contains: Option<bool>,
}

/// What embedding brought: a vector for each text.
pub type Embedded = Result<Vec<Vec<f64>>, &'static str>;

fn transport(error: &HttpError) -> &'static str {
    match error.kind {
        HttpErrorKind::Protocol | HttpErrorKind::Request | HttpErrorKind::Credentials => {
            "invalid_response"
        }
        other => other.as_str(),
    }
}

fn refusal(status: u16) -> &'static str {
    match status {
        401 | 403 => "auth",
        404 | 410 => "not_found",
        429 => "rate_limited",
        500..=599 => "server_error",
        _ => "bad_request",
    }
}

/// Asks for embeddings.
pub async fn embed(
    client: &Client,
    embeddings: &Embeddings,
    texts: &[String],
    timeout: Duration,
) -> Embedded {
    let body = json!({"model": embeddings.model, "input": texts});
    let mut request = Request::post_json(embeddings.url.clone(), &body, timeout);
    request.max_body = MAX_ANSWER;
    request.headers.extend(embeddings.headers.clone());
    let answer = client.send(request).await.map_err(|e| transport(&e))?;
    if !(200..300).contains(&answer.status) {
        return Err(refusal(answer.status));
    }
    let json: Value = serde_json::from_slice(&answer.body).map_err(|_| "invalid_response")?;
    let data = json["data"].as_array().ok_or("invalid_response")?;
    let mut vectors = vec![Vec::new(); texts.len()];
    for (at, item) in data.iter().enumerate() {
        let index = item["index"].as_u64().map_or(at, |index| index as usize);
        let numbers = item["embedding"].as_array();
        let vector = numbers.map(|numbers| numbers.iter().filter_map(Value::as_f64).collect());
        if let (Some(slot), Some(vector)) = (vectors.get_mut(index), vector) {
            *slot = vector;
        }
    }
    if vectors.iter().any(Vec::is_empty) {
        return Err("invalid_response");
    }
    Ok(vectors)
}

/// Asks one question.
pub async fn ask(settings: &Settings, question: &Question, vector: Option<&[f64]>) -> Asked {
    let started = Instant::now();
    let request = request(settings, question, vector);
    let answer = settings.client.send(request).await;
    let mut asked = Asked {
        duration: started.elapsed(),
        ..Asked::default()
    };
    match answer {
        Err(error) => asked.error = Some(transport(&error)),
        Ok(answer) if !(200..300).contains(&answer.status) => {
            asked.error = Some(refusal(answer.status));
        }
        Ok(answer) => judge(settings, question, &answer.body, &mut asked),
    }
    asked
}

fn request(settings: &Settings, question: &Question, vector: Option<&[f64]>) -> Request {
    let mut request = match &settings.parameter {
        Some(parameter) => {
            let mut url = settings.url.clone();
            url.query_pairs_mut().append_pair(parameter, &question.text);
            Request::get(url, settings.timeout)
        }
        None => {
            let body = filled(&settings.body, &question.text, vector);
            // It was tried when the configuration was read.
            let body: Value = serde_json::from_str(&body).unwrap_or_default();
            Request::post_json(settings.url.clone(), &body, settings.timeout)
        }
    };
    request.max_body = MAX_ANSWER;
    request.headers.extend(settings.headers.clone());
    request
}

fn judge(settings: &Settings, question: &Question, body: &[u8], asked: &mut Asked) {
    let text = String::from_utf8_lossy(body);
    let quoted = Value::from(question.must_contain.as_deref().unwrap_or_default()).to_string();
    asked.contains = question.must_contain.as_ref().map(|wanted| {
        // In JSON a text may stand with escapes.
        text.contains(wanted.as_str()) || text.contains(quoted.trim_matches('"'))
    });
    let Ok(json) = parse(body) else {
        // A stream of events, or text: the source is named somewhere, without an order.
        asked.hit = text.contains(&question.expect);
        asked.error = text.trim().is_empty().then_some("invalid_response");
        return;
    };
    let Some(sources) = sources(settings.sources.as_ref(), &json) else {
        asked.error = Some("no_sources");
        return;
    };
    asked.results = Some(sources.len());
    let found = sources.iter().position(|s| s.contains(&question.expect));
    asked.rank = found.map(|index| index + 1);
    asked.hit = asked.rank.is_some_and(|rank| rank <= settings.max_rank);
}

/// The answer's sources in their order; `None` where there is no list of them.
fn sources(path: Option<&Path>, json: &Json<'_>) -> Option<Vec<String>> {
    let at = |path: &Path| {
        let text = |value: &Json<'_>| match value {
            Json::Text(text) => Some(text.to_string()),
            Json::Number(number) => Some(number.to_string()),
            _ => None,
        };
        let mut texts = Vec::new();
        for found in path.select(json) {
            match found.value {
                Json::List(items) => texts.extend(items.iter().filter_map(text)),
                value => texts.extend(text(value)),
            }
        }
        (!texts.is_empty()).then_some(texts)
    };
    match path {
        // An empty list is an answer: nothing was found.
        Some(path) => at(path).or_else(|| {
            let is_empty =
                |found: &Json<'_>| matches!(found, Json::List(items) if items.is_empty());
            path.clone()
                .list()
                .find(json)
                .is_some_and(is_empty)
                .then(Vec::new)
        }),
        None => {
            let usual = USUAL.iter().filter_map(|text| Path::parse(text).ok());
            usual.into_iter().find_map(|path| at(&path)).or_else(|| {
                let keys = ["sources", "results", "documents", "source_documents", "citations"];
                let is_empty = |key: &&str| {
                    matches!(json.get(key), Some(Json::List(items)) if items.is_empty())
                };
                keys.iter().any(is_empty).then(Vec::new)
            })
        }
    }
}

/// The cosine between two vectors; 0 where they cannot be compared.
pub fn cosine(a: &[f64], b: &[f64]) -> f64 {
    let product = |x: &[f64], y: &[f64]| x.iter().zip(y).map(|(x, y)| x * y).sum::<f64>();
    let length = (product(a, a) * product(b, b)).sqrt();
    if a.len() == b.len() && length > 0.0 {
        product(a, b) / length
    } else {
        0.0
    }
}
