//! The completion probe: a tiny streamed question, timed to its first token. It costs tokens, so it
//! is off unless configured and capped by the day.

use std::time::{Duration, Instant};

use crate::config::Section;
use crate::http::{Client, HeaderMap, Incoming, Request};
use crate::telemetry::watched;
use url::Url;

use super::errors::{ErrorType, classify};
use super::provider::{Provider, TOOL};
use super::stream::{Piece, StreamReader, Usage, has_content};

/// Greatest size of an answer that is read, in bytes.
const MAX_ANSWER: usize = 4 << 20;

/// The `completion` block.
#[derive(Clone, Debug)]
pub struct CompletionConfig {
    /// The model to ask.
    pub model: String,
    /// Time between two probes.
    pub interval: Duration,
    /// The question.
    pub prompt: String,
    /// Cap on the answer. 1 is a trap: reasoning models spend it before the first word and
    /// answer 400.
    pub max_tokens: u32,
    /// `max_tokens`, or `max_completion_tokens` for newer OpenAI models.
    pub max_tokens_key: String,
    /// Tokens (input and output) that probes may consume in a day, UTC.
    pub daily_token_budget: u64,
    /// Deadline of the first chunk with content.
    pub first_token_timeout: Duration,
    /// Longest silence between chunks with content.
    pub stall_timeout: Duration,
    /// Deadline of the whole probe.
    pub timeout: Duration,
    /// A text that the answer must hold.
    pub must_contain: Option<String>,
    /// Whether a tool is offered, and must be called.
    pub tool_call: bool,
}

impl CompletionConfig {
    /// Reads the block.
    pub fn read(section: &Section<'_>) -> Self {
        let config = CompletionConfig {
            model: section.require("model"),
            interval: section.or("interval", Duration::from_secs(300)),
            prompt: section.or("prompt", "ping".to_owned()),
            max_tokens: section.or("max_tokens", 16),
            max_tokens_key: section.or("max_tokens_key", "max_tokens".to_owned()),
            daily_token_budget: section.or("daily_token_budget", 20_000),
            first_token_timeout: section.or("first_token_timeout", Duration::from_secs(30)),
            stall_timeout: section.or("stall_timeout", Duration::from_secs(15)),
            timeout: section.or("timeout", Duration::from_secs(60)),
            must_contain: section.get("must_contain"),
            tool_call: section.or("tool_call", false),
        };
        if config.tool_call && config.must_contain.is_some() {
            section.error(
                "must_contain",
                "stands beside tool_call, whose answer is a call",
                "keep one of the two; another entry may have the other",
            );
        }
        if config.max_tokens < 2 {
            section.error(
                "max_tokens",
                "is below 2",
                "give 16: reasoning models answer 400 to less although they are healthy",
            );
        }
        if !matches!(
            config.max_tokens_key.as_str(),
            "max_tokens" | "max_completion_tokens"
        ) {
            section.error(
                "max_tokens_key",
                "is not a key that providers know",
                "give max_tokens or max_completion_tokens",
            );
        }
        if config.interval.is_zero() {
            section.error("interval", "is zero", "give 5m");
        }
        section.finish();
        config
    }
}

/// What one completion probe found.
#[derive(Debug, Default)]
pub struct CompletionOutcome {
    /// The failure, `None` for success.
    pub error: Option<ErrorType>,
    /// Status code, if there was an answer.
    pub status: Option<u16>,
    /// Headers of the answer.
    pub headers: HeaderMap,
    /// Request sent to last byte.
    pub duration: Duration,
    /// Request sent to first content, streamed answers only.
    pub first_token: Option<Duration>,
    /// Longest silence between contents, streamed answers only.
    pub max_gap: Option<Duration>,
    /// Output tokens a second after the first one.
    pub tokens_per_second: Option<f64>,
    /// What it consumed.
    pub usage: Usage,
    /// It failed while nightbell itself stood still.
    pub missed: bool,
}

/// Asks once. Never errs: what went wrong is part of the outcome.
pub async fn ask(
    client: Client,
    url: Url,
    headers: HeaderMap,
    provider: &'static Provider,
    config: CompletionConfig,
) -> CompletionOutcome {
    let started = Instant::now();
    let mut outcome = CompletionOutcome::default();
    let body = provider.completion(
        &config.model,
        &config.prompt,
        &config.max_tokens_key,
        config.max_tokens,
        config.tool_call,
    );
    let mut request = Request::post_json(url, &body, config.timeout);
    request.headers.extend(headers);
    let asked = tokio::time::timeout(
        config.timeout,
        exchange(&client, request, provider, &config, started, &mut outcome),
    );
    let (whole, stood_still) = watched(asked).await;
    outcome.error = match whole {
        Ok(Ok(())) => None,
        Ok(Err(error)) => Some(error),
        Err(_) if outcome.status == Some(200) && outcome.first_token.is_none() => {
            Some(ErrorType::FirstTokenTimeout)
        }
        Err(_) => Some(ErrorType::Timeout),
    };
    // Each wait of it has a deadline of its own.
    let shortest = config
        .timeout
        .min(config.first_token_timeout)
        .min(config.stall_timeout);
    outcome.missed = outcome.error.is_some() && stood_still.excuses(shortest);
    outcome.duration = started.elapsed();
    if let (Some(first), Some(output)) = (outcome.first_token, outcome.usage.output)
        && output >= 2
        && outcome.duration > first
    {
        outcome.tokens_per_second =
            Some((output - 1) as f64 / (outcome.duration - first).as_secs_f64());
    }
    outcome
}

async fn exchange(
    client: &Client,
    request: Request,
    provider: &Provider,
    config: &CompletionConfig,
    started: Instant,
    outcome: &mut CompletionOutcome,
) -> Result<(), ErrorType> {
    let mut response = client
        .start(request)
        .await
        .map_err(|e| ErrorType::from(&e))?;
    outcome.status = Some(response.status);
    outcome.headers = response.headers.clone();
    let streamed = response
        .headers
        .get("content-type")
        .and_then(|v| v.to_str().ok())
        .is_some_and(|t| t.to_ascii_lowercase().starts_with("text/event-stream"));
    if !(200..300).contains(&response.status) || !streamed {
        return whole_answer(response, provider, config, outcome).await;
    }
    let mut reader = StreamReader::new(provider.stream);
    let (mut last_content, mut read) = (None::<Instant>, 0);
    loop {
        // The deadline is on content, not on bytes: keep-alives would hold off an idle timeout
        // without end.
        let (since, limit, failure) = match last_content {
            None => (
                started,
                config.first_token_timeout,
                ErrorType::FirstTokenTimeout,
            ),
            Some(at) => (at, config.stall_timeout, ErrorType::StreamStalled),
        };
        let part = tokio::time::timeout(limit.saturating_sub(since.elapsed()), response.next())
            .await
            .map_err(|_| failure)?;
        let Some(bytes) = part.map_err(|_| ErrorType::StreamTruncated)? else {
            return if reader.finished {
                answered(&reader, config)
            } else {
                Err(ErrorType::StreamTruncated)
            };
        };
        read += bytes.len();
        if read > MAX_ANSWER {
            return Err(ErrorType::InvalidResponse);
        }
        let pieces = reader
            .feed(&bytes)
            .map_err(|_| ErrorType::InvalidResponse)?;
        outcome.usage = reader.usage;
        for piece in pieces {
            match piece {
                Piece::Content => {
                    let now = Instant::now();
                    match last_content {
                        None => outcome.first_token = Some(now - started),
                        Some(at) => {
                            outcome.max_gap =
                                Some(outcome.max_gap.unwrap_or_default().max(now - at))
                        }
                    }
                    last_content = Some(now);
                }
                Piece::End => return answered(&reader, config),
                Piece::Error(text) => {
                    return Err(classify(200, text.as_bytes(), provider.quota_is_rate));
                }
            }
        }
    }
}

/// A stream that ended as it should is a success only if it brought something: what it must hold,
/// or a call of the tool with arguments that can be read.
fn answered(reader: &StreamReader, config: &CompletionConfig) -> Result<(), ErrorType> {
    if !reader.brought {
        return Err(ErrorType::EmptyAnswer);
    }
    if config.tool_call {
        let is_call = reader.call.as_ref().is_some_and(|(name, arguments)| {
            let arguments = serde_json::from_str::<serde_json::Value>(arguments);
            name == TOOL && arguments.is_ok_and(|arguments| arguments["times"].is_i64())
        });
        return is_call.then_some(()).ok_or(ErrorType::NoToolCall);
    }
    match &config.must_contain {
        Some(wanted) if !reader.text.contains(wanted.as_str()) => Err(ErrorType::WrongAnswer),
        _ => Ok(()),
    }
}

/// An error body, or a server that answers in one piece although a stream was asked for: healthy,
/// but without a time to first token.
async fn whole_answer(
    mut response: Incoming,
    provider: &Provider,
    config: &CompletionConfig,
    outcome: &mut CompletionOutcome,
) -> Result<(), ErrorType> {
    let body = response
        .read(bytes::BytesMut::new(), MAX_ANSWER)
        .await
        .map_err(|e| ErrorType::from(&e))?;
    let status = outcome.status.unwrap_or(0);
    let refused = || classify(status, &body, provider.quota_is_rate);
    if !(200..300).contains(&status) {
        return Err(refused());
    }
    let mut reader = StreamReader::new(provider.stream);
    let pieces = match serde_json::from_slice::<serde_json::Value>(&body) {
        Ok(json)
            if has_content(&json["error"])
                || !(json["choices"].is_array() || json["content"].is_array()) =>
        {
            return Err(refused());
        }
        Ok(json) => reader.take_whole(&json),
        // A stream under another content type: the official clients, which asked for one, read it.
        Err(_)
            if [&b"data:"[..], b"event:", b":"]
                .iter()
                .any(|start| body.trim_ascii_start().starts_with(start)) =>
        {
            let mut pieces = reader.feed(&body).map_err(|_| ErrorType::InvalidResponse)?;
            // The last line may lack its end.
            pieces.extend(reader.feed(b"\n").map_err(|_| ErrorType::InvalidResponse)?);
            if !reader.finished
                && !pieces.contains(&Piece::End)
                && !pieces.iter().any(|piece| matches!(piece, Piece::Error(_)))
            {
                return Err(ErrorType::StreamTruncated);
            }
            pieces
        }
        Err(_) => return Err(refused()),
    };
    outcome.usage = reader.usage;
    if let Some(Piece::Error(text)) = pieces.iter().find(|piece| matches!(piece, Piece::Error(_))) {
        return Err(classify(200, text.as_bytes(), provider.quota_is_rate));
    }
    answered(&reader, config)
}
