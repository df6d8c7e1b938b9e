//! The HTTP prober: one request over a connection of its own, so that every phase is the server's
//! and not a pool's (RFC 9110, 9112).
//!
//! It speaks HTTP/1.1 and asks for no compression. Proxies are not supported: a probe measures the
//! server.

use std::time::Instant;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1;
use hyper::header::{
    AUTHORIZATION, CONTENT_LENGTH, HOST, HeaderMap, HeaderName, HeaderValue, LAST_MODIFIED,
    LOCATION, USER_AGENT,
};
use hyper::{Method, Request, Response, Version};
use hyper_util::rt::TokioIo;
use tokio::task::JoinSet;
use url::Url;

use super::connection::Connector;
use super::expectation::Expectation;
use super::report::{Answer, Failure, Reason, Report};
use crate::http::{Login, Said};

/// Redirects followed at most, as blackbox_exporter does.
const MAX_REDIRECTS: u32 = 10;

/// Bytes of a body that are read where no limit is configured.
const MAX_READ: usize = 8 << 20;

/// What to send and what to expect.
#[derive(Clone)]
pub struct HttpProbe {
    /// Where.
    pub url: Url,
    /// GET, POST, …
    pub method: Method,
    /// Headers of the probe; they may be secret.
    pub headers: HeaderMap,
    /// Credentials: sent to the first host only.
    pub credentials: Login,
    /// The request's body.
    pub body: Bytes,
    /// Whether redirects are followed.
    pub follow_redirects: bool,
    /// What the answer must be.
    pub expectation: Expectation,
}

impl HttpProbe {
    /// Sends the request, follows redirects, judges the last answer.
    pub async fn run(&self, connector: &Connector, report: &mut Report) -> Result<(), Failure> {
        report.answer = Some(Answer {
            status: 0,
            declared: 0.0,
            length: 0,
            version: 0.0,
            modified: None,
            redirects: 0,
            ssl: self.url.scheme() == "https",
        });
        let (mut url, mut method) = (self.url.clone(), self.method.clone());
        loop {
            let (response, body) = self.exchange(&url, &method, connector, report).await?;
            let target = response
                .headers()
                .get(LOCATION)
                .filter(|_| self.follow_redirects && response.status().is_redirection());
            let Some(target) = target.cloned() else {
                return self
                    .expectation
                    .judge_all(&response, &body, url.scheme() == "https");
            };
            let redirects = report.answer.as_mut().map_or(0, |answer| {
                answer.redirects += 1;
                answer.redirects
            });
            if redirects > MAX_REDIRECTS {
                return Err(Failure::new(
                    Reason::Redirect,
                    format!("more than {MAX_REDIRECTS} redirects"),
                ));
            }
            let next = target
                .to_str()
                .ok()
                .and_then(|t| url.join(t).ok())
                .filter(|u| matches!(u.scheme(), "http" | "https") && u.has_host());
            url = next.ok_or_else(|| {
                Failure::new(
                    Reason::Redirect,
                    "redirected to something that is not an http or https URL",
                )
            })?;
            // As browsers do: what was not GET or HEAD becomes GET, unless the status says to keep
            // it.
            if !matches!(response.status().as_u16(), 307 | 308) && method != Method::HEAD {
                method = Method::GET;
            }
        }
    }

    /// One request and its answer.
    async fn exchange(
        &self,
        url: &Url,
        method: &Method,
        connector: &Connector,
        report: &mut Report,
    ) -> Result<(Response<()>, Vec<u8>), Failure> {
        let encrypted = url.scheme() == "https";
        if let Some(answer) = &mut report.answer {
            answer.ssl = encrypted;
        }
        let port = url.port_or_known_default().unwrap_or(80);
        let name = self
            .own_host(url)
            .and_then(|host| host.to_str().ok())
            .map(|host| host.split(':').next().unwrap_or(host));
        let stream = connector
            .open_as(
                name,
                url.host_str().unwrap_or_default(),
                port,
                encrypted,
                report,
            )
            .await?;
        let said = self
            .credentials
            .now()
            .await
            .map_err(|error| Failure::new(Reason::Protocol, error.message))?;
        let request = self.request(url, method, said)?;
        let start = Instant::now();
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|e| of_hyper(&e))?;
        // Aborted when this function ends, however it ends.
        let mut driver = JoinSet::new();
        driver.spawn(connection);
        let response = sender.send_request(request).await;
        report.phases.processing += start.elapsed();
        let (head, mut incoming) = response.map_err(|e| of_hyper(&e))?.into_parts();
        let head = Response::from_parts(head, ());
        note_head(&head, report);
        let start = Instant::now();
        let (mut body, mut length) = (Vec::new(), 0_usize);
        let (limit, keep) = (self.expectation.max_body, self.expectation.reads_body());
        let result = loop {
            match incoming.frame().await {
                None => break Ok(()),
                Some(Err(error)) => break Err(of_hyper(&error)),
                Some(Ok(frame)) => {
                    let data = frame.data_ref().map_or(&[][..], |data| &data[..]);
                    length += data.len();
                    if let Some(limit) = limit.filter(|limit| length > *limit) {
                        let message = format!("the body is larger than {limit} bytes");
                        break Err(
                            Failure::new(Reason::TooLarge, message.clone()).brief_as(message)
                        );
                    }
                    if keep {
                        body.extend_from_slice(data);
                    }
                    // The target has answered; what would come yet changes nothing.
                    if limit.is_none() && length >= MAX_READ {
                        break Ok(());
                    }
                }
            }
        };
        report.phases.transfer += start.elapsed();
        if let Some(answer) = &mut report.answer {
            answer.length = length;
        }
        result.map(|()| (head, body))
    }

    /// The header `Host` of the settings, for the first host only. It is the name that a
    /// certificate is for, too.
    fn own_host(&self, url: &Url) -> Option<&HeaderValue> {
        self.headers
            .get(HOST)
            .filter(|_| url.origin() == self.url.origin())
    }

    fn request(
        &self,
        url: &Url,
        method: &Method,
        said: Said,
    ) -> Result<Request<Full<Bytes>>, Failure> {
        let invalid = |_| Failure::new(Reason::Protocol, "the request cannot be written");
        let path = &url[url::Position::BeforePath..url::Position::AfterQuery];
        let body = if method == self.method {
            self.body.clone()
        } else {
            Bytes::new()
        };
        let mut request = Request::builder()
            .method(method.clone())
            .uri(path)
            .body(Full::new(body))
            .map_err(invalid)?;
        let headers = request.headers_mut();
        headers.insert(
            USER_AGENT,
            HeaderValue::from_static(concat!("nightbell/", env!("CARGO_PKG_VERSION"))),
        );
        if self.own_host(url).is_none() {
            let host = &url[url::Position::BeforeHost..url::Position::AfterPort];
            headers.insert(
                HOST,
                HeaderValue::from_str(host)
                    .map_err(|_| Failure::new(Reason::Protocol, "the host cannot be written"))?,
            );
        }
        if url.origin() == self.url.origin() {
            let more = self.headers.iter().chain(said.headers.iter());
            headers.extend(more.map(|(name, value)| (name.clone(), value.clone())));
            if let Some(credentials) = said.authorization {
                headers.insert(AUTHORIZATION, credentials);
            }
        }
        Ok(request)
    }
}

fn note_head(head: &Response<()>, report: &mut Report) {
    let Some(answer) = &mut report.answer else {
        return;
    };
    answer.status = head.status().as_u16();
    let text = |name: HeaderName| {
        head.headers()
            .get(name)
            .and_then(|value| value.to_str().ok())
    };
    answer.declared = text(CONTENT_LENGTH)
        .and_then(|length| length.trim().parse().ok())
        .unwrap_or(-1.0);
    answer.version = if head.version() == Version::HTTP_10 {
        1.0
    } else {
        1.1
    };
    let parsed = text(LAST_MODIFIED).and_then(|date| jiff::fmt::rfc2822::parse(date).ok());
    answer.modified = parsed.map(|zoned| zoned.timestamp().as_second() as f64);
}

fn of_hyper(error: &hyper::Error) -> Failure {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(inner) = source {
        text = inner.to_string();
        source = inner.source();
    }
    Failure::new(Reason::Protocol, text)
}
