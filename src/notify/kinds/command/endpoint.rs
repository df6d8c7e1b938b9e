//! A call of an HTTP endpoint: one request, its answer the output.

use std::time::Duration;

use serde_json::Value;
use url::Url;

use crate::config::{Secret, Section};
use crate::http::{Method, Request};
use crate::model::ActionOutcome;
use crate::notify::endpoint::{Endpoint, secret_url};
use crate::notify::field::{Rendering, Tree};
use crate::notify::kinds::webhook;
use crate::notify::message::Style;
use crate::notify::notification::Notification;

use super::Ended;
use super::capture::Capture;

const METHODS: [&str; 5] = ["GET", "POST", "PUT", "PATCH", "DELETE"];

pub(super) struct Call {
    url: Option<Url>,
    method: Method,
    /// Replaces the webhook's body.
    payload: Option<Tree>,
    endpoint: Endpoint,
}

impl Call {
    pub(super) fn read(section: &Section<'_>, global: Option<&Section<'_>>) -> Self {
        let method: String = section.or("method", "POST".to_owned());
        if !METHODS.contains(&method.as_str()) {
            section.error(
                "method",
                format!("{method:?} is not a method"),
                format!("give one of {}", METHODS.join(", ")),
            );
        }
        Call {
            url: secret_url(section, "url", None),
            method: method.parse().unwrap_or(Method::POST),
            payload: Tree::read(section, "payload"),
            endpoint: Endpoint::read(section, global),
        }
    }

    /// The method and the server: the rest of a URL may be a secret.
    pub(super) fn shown(&self) -> String {
        let server = self
            .url
            .as_ref()
            .map(|url| url[..url::Position::BeforePath].to_owned())
            .unwrap_or_default();
        // Who logs in there is nobody's business either.
        let server = server
            .split_once('@')
            .map_or(server.clone(), |(_, host)| host.to_owned());
        format!("{} {server}", self.method)
    }

    /// All of the URL but the server, its parts that may be secrets of their own, and what it logs
    /// in with.
    pub(super) fn confidential(&self) -> Vec<Secret> {
        let mut out = self.endpoint.secrets();
        let Some(url) = &self.url else { return out };
        out.extend([url.as_str(), &url[url::Position::BeforePath..]].map(Secret::new));
        // A short one is a word such as `true`.
        out.extend(
            url.query_pairs()
                .filter(|(_, value)| value.len() >= 8)
                .map(|(_, value)| Secret::new(value)),
        );
        out.extend(
            url.query()
                .into_iter()
                .chain(url.password())
                .map(Secret::new),
        );
        out
    }

    pub(super) async fn run(&self, about: &Notification, style: &Style, limit: Duration) -> Ended {
        let failed = |detail: String| Ended {
            outcome: ActionOutcome::Failed,
            detail,
            output: String::new(),
        };
        let Some(url) = self.url.clone() else {
            return failed("no URL is configured".into());
        };
        let mut request = Request::post_json(url, &self.body(about, style), limit);
        request.method = self.method.clone();
        if self.method == Method::GET || self.method == Method::DELETE && self.payload.is_none() {
            request.headers.clear();
            request.body = Default::default();
        }
        let Ok(answer) = tokio::time::timeout(limit, self.endpoint.send(request)).await else {
            return Ended {
                outcome: ActionOutcome::TimedOut,
                ..failed("no answer in time".into())
            };
        };
        match answer {
            Err(error) if error.reason == crate::notify::Reason::Timeout => Ended {
                outcome: ActionOutcome::TimedOut,
                ..failed(error.message)
            },
            Err(error) => failed(error.message),
            Ok(answer) => {
                let mut output = Capture::default();
                output.push(answer.text().unwrap_or_default().as_bytes());
                let outcome = if (200..300).contains(&answer.status) {
                    ActionOutcome::Succeeded
                } else {
                    ActionOutcome::Failed
                };
                Ended {
                    outcome,
                    detail: format!("answered {}", answer.status),
                    output: output.text(),
                }
            }
        }
    }

    fn body(&self, about: &Notification, style: &Style) -> Value {
        let mut rendering = Rendering::new(about, style);
        self.payload
            .as_ref()
            .map_or_else(|| webhook::payload(about), |own| own.render(&mut rendering))
    }
}
