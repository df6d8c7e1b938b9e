//! One call on its way: what is measured while it passes. What passes is looked at and forgotten;
//! of an error's text only its class is kept.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use parking_lot::Mutex;

use crate::collectors::gen_ai::metrics::GAP_BOUNDS;
use crate::collectors::gen_ai::{Call, Grown, Measured, Source, Tokens};
use crate::collectors::llm_provider::errors::{ErrorType, classify};
use crate::http::{Gunzip, HeaderMap, HttpError};

use super::proxy::Proxy;
use super::scanner::Scanner;
use super::settings::Settings;
use super::usage;

/// So much of the body of an error is looked at, to sort it.
const ERROR_BODY: usize = 8 << 10;

/// Ends of paths, and the operation that they are.
const OPERATIONS: &[(&str, &str)] = &[
    ("/chat/completions", "chat"),
    ("/messages", "chat"),
    ("/responses", "chat"),
    ("/text-generation/generation", "chat"),
    ("/api/chat", "chat"),
    ("/api/generate", "text_completion"),
    ("/completions", "text_completion"),
    ("/embeddings", "embeddings"),
    ("/api/embed", "embeddings"),
    ("/rerank", "rerank"),
    (":generateContent", "generate_content"),
    (":streamGenerateContent", "generate_content"),
    (":embedContent", "embeddings"),
];

/// The operation of a path.
fn operation(path: &str) -> &'static str {
    OPERATIONS
        .iter()
        .find(|(end, _)| path.ends_with(end))
        .map_or("other", |(_, operation)| *operation)
}

/// The model that a path names: Gemini's `models/NAME:METHOD`, Azure's `deployments/NAME/…`.
fn model_of(path: &str) -> Option<&str> {
    let after = |part: &str| path.split_once(part).map(|(_, rest)| rest);
    let name = after("/deployments/").and_then(|rest| rest.split('/').next());
    name.or_else(|| {
        after("/models/")
            .and_then(|rest| rest.split(':').next())
            .filter(|name| !name.contains('/'))
    })
    .filter(|name| !name.is_empty() && operation(path) != "other")
}

/// How answers are compressed.
enum Coding {
    Plain,
    Gzip(Box<Gunzip>),
    /// In a way that is not read.
    Unread,
}

/// One call on its way.
pub struct Passing {
    proxy: Arc<Proxy>,
    settings: Arc<Settings>,
    path: String,
    application: String,
    agent: String,
    began: Instant,
    request: Arc<Mutex<Scanner>>,
    answer: Scanner,
    coding: Coding,
    status: u16,
    is_stream: bool,
    received: u64,
    /// Length of the answer, where it is announced.
    announced: Option<u64>,
    first: Option<Instant>,
    last: Option<Instant>,
    gaps: Grown,
    error_body: Vec<u8>,
    error: Option<&'static str>,
    is_over: bool,
}

impl Passing {
    /// Begins a call.
    pub fn begin(
        proxy: Arc<Proxy>,
        settings: Arc<Settings>,
        path: &str,
        headers: &HeaderMap,
        began: Instant,
    ) -> Self {
        let (application, agent) = proxy.begins(&settings, headers);
        Passing {
            proxy,
            settings,
            path: path.to_owned(),
            application,
            agent,
            began,
            request: Arc::default(),
            answer: Scanner::default(),
            coding: Coding::Plain,
            status: 0,
            is_stream: false,
            received: 0,
            announced: None,
            first: None,
            last: None,
            gaps: Grown {
                bounds: GAP_BOUNDS.to_vec(),
                counts: vec![0; GAP_BOUNDS.len() + 1],
                sum: 0.0,
            },
            error_body: Vec::new(),
            error: Some("cancelled"),
            is_over: false,
        }
    }

    /// What looks at the body of the request.
    pub fn request(&self) -> Arc<Mutex<Scanner>> {
        Arc::clone(&self.request)
    }

    /// There is no answer.
    pub fn failed(&mut self, error: &HttpError) {
        self.error = Some(ErrorType::from(error).as_str());
    }

    /// The head of the answer is there.
    pub fn answered(&mut self, status: u16, headers: &HeaderMap) {
        let header = |name: &str| {
            headers
                .get(name)
                .and_then(|value| value.to_str().ok())
                .unwrap_or_default()
                .to_ascii_lowercase()
        };
        self.status = status;
        self.announced = header("content-length").parse().ok();
        self.is_stream = header("content-type").starts_with("text/event-stream");
        self.answer = Scanner::new(self.is_stream);
        self.coding = match header("content-encoding").as_str() {
            "" | "identity" => Coding::Plain,
            "gzip" => Coding::Gzip(Box::default()),
            _ => Coding::Unread,
        };
    }

    /// A part of the answer passes.
    pub fn saw(&mut self, part: &Bytes, now: Instant) {
        self.received += part.len() as u64;
        match &mut self.coding {
            Coding::Plain => Self::look(&mut self.answer, &mut self.error_body, self.status, part),
            Coding::Gzip(gunzip) => {
                gunzip.put(part.clone());
                loop {
                    match gunzip.part() {
                        Ok(Some(plain)) => {
                            Self::look(&mut self.answer, &mut self.error_body, self.status, &plain)
                        }
                        Ok(None) => break,
                        Err(_) => {
                            self.coding = Coding::Unread;
                            break;
                        }
                    }
                }
            }
            Coding::Unread => {}
        }
        if std::mem::take(&mut self.answer.found.content) && self.is_stream {
            self.first.get_or_insert(now);
            if let Some(last) = self.last.replace(now) {
                let gap = now.duration_since(last).as_secs_f64();
                self.gaps.counts[GAP_BOUNDS.partition_point(|bound| *bound < gap)] += 1;
                self.gaps.sum += gap;
            }
        }
    }

    /// Whether all that was announced has passed: nobody asks for the end of such an answer.
    pub fn is_complete(&self) -> bool {
        self.announced.is_some_and(|length| self.received >= length)
    }

    fn look(answer: &mut Scanner, error_body: &mut Vec<u8>, status: u16, part: &[u8]) {
        answer.look(part);
        if status >= 400 {
            let room = ERROR_BODY.saturating_sub(error_body.len());
            error_body.extend_from_slice(&part[..part.len().min(room)]);
        }
    }

    /// The answer is over; `cut` says that it broke off.
    pub fn ended(&mut self, cut: bool) {
        let in_stream = &self.answer.found.error;
        self.error = if cut {
            Some(ErrorType::StreamTruncated.as_str())
        } else if self.status >= 400 {
            Some(
                classify(
                    self.status,
                    &self.error_body,
                    self.settings.provider == "dashscope",
                )
                .as_str(),
            )
        } else if !in_stream.is_empty() && self.is_stream {
            let body = [&b"{\"error\":"[..], in_stream, b"}"].concat();
            Some(classify(self.status, &body, false).as_str())
        } else {
            None
        };
        self.note();
    }

    /// Notes the call, once.
    fn note(&mut self) {
        if std::mem::replace(&mut self.is_over, true) {
            return;
        }
        self.error_body = Vec::new();
        let request = self.request.lock();
        let named = [
            request.found.model.as_str(),
            model_of(&self.path).unwrap_or_default(),
            &self.answer.found.model,
        ];
        let model = named
            .into_iter()
            .find(|name| !name.is_empty())
            .unwrap_or_default()
            .to_owned();
        drop(request);
        let operation = operation(&self.path);
        let seconds = |until: Instant| until.duration_since(self.began).as_secs_f64();
        let measured = Measured {
            duration: Some(self.began.elapsed().as_secs_f64()),
            first_token: self.first.map(seconds),
            tokens: if operation == "other" {
                Tokens::default()
            } else {
                usage::tokens(&self.answer.found.usages)
            },
            error: self.error,
        };
        let call = Call {
            application: std::mem::take(&mut self.application),
            provider: self.settings.provider.clone(),
            model,
            agent: std::mem::take(&mut self.agent),
            ..Call::of(Source::Proxy, operation)
        };
        let is_unread = matches!(self.coding, Coding::Unread) && self.received > 0;
        let gaps = Some(&self.gaps).filter(|gaps| gaps.counts.iter().any(|count| *count > 0));
        self.proxy.note(
            &self.settings,
            call,
            &measured,
            (self.status, self.received, is_unread),
            gaps,
        );
    }
}

impl Drop for Passing {
    fn drop(&mut self) {
        // Clients leave when they have seen the end mark.
        if !self.is_over && self.answer.found.done {
            self.ended(false);
        }
        self.note();
        self.proxy.ends();
    }
}
