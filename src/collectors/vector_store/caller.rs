//! Requests to stores that speak JSON over HTTP.

use std::time::Duration;

use serde_json::Value;
use url::Url;

use crate::config::Section;
use crate::http::{
    Client, HeaderMap, HeaderName, HeaderValue, HttpConfig, HttpError, HttpErrorKind, Request,
};

use super::store::{Failure, Looked};

/// Greatest answer that is read, in bytes.
const MAX_ANSWER: usize = 16 << 20;

/// A server.
pub struct Caller {
    client: Client,
    base: Url,
    headers: HeaderMap,
}

impl From<HttpError> for Failure {
    fn from(error: HttpError) -> Self {
        let kind = match error.kind {
            HttpErrorKind::TooLarge
            | HttpErrorKind::Protocol
            | HttpErrorKind::Request
            | HttpErrorKind::Credentials => "invalid_response",
            other => other.as_str(),
        };
        Failure::new(kind, error.message)
    }
}

impl Caller {
    /// Reads `url`, `token` and the HTTP settings. `header` carries the token, `scheme` stands
    /// before it.
    pub fn read(section: &Section<'_>, header: &'static str, scheme: &str, port: u16) -> Self {
        let base = section.get::<Url>("url");
        if base.is_none() && section.node("url").is_none() {
            section.error(
                "url",
                "key \"url\" is missing",
                format!("add url: http://HOST:{port}"),
            );
        }
        let http = HttpConfig::read(section);
        let client = Client::or_plain(Client::build(&http), section);
        let mut headers = HeaderMap::new();
        if let Some(token) = section.secret("token") {
            match HeaderValue::from_str(&format!("{scheme}{}", token.expose())) {
                Ok(mut value) => {
                    value.set_sensitive(true);
                    headers.insert(HeaderName::from_static(header), value);
                }
                Err(_) => section.error(
                    "token",
                    "holds characters that a header cannot carry",
                    "check for a line break at its end",
                ),
            }
        }
        Caller {
            client,
            base: base.unwrap_or_else(|| Url::parse("http://127.0.0.1/").expect("a URL")),
            headers,
        }
    }

    /// Where the server is, for people.
    pub fn address(&self) -> String {
        let port = self.base.port_or_known_default().unwrap_or(80);
        let host = self.base.host_str().unwrap_or("");
        format!("{}://{host}:{port}", self.base.scheme())
    }

    /// The same server at another port.
    pub fn at_port(&self, port: u16) -> Self {
        let mut base = self.base.clone();
        // A URL with a host takes a port.
        let _no_host = base.set_port(Some(port));
        Caller {
            client: self.client.clone(),
            base,
            headers: self.headers.clone(),
        }
    }

    /// GET of JSON.
    pub async fn get(&self, path: &str, timeout: Duration) -> Looked<Value> {
        self.json(Request::get(below(&self.base, path), timeout))
            .await
    }

    /// POST of JSON.
    pub async fn post(&self, path: &str, body: &Value, timeout: Duration) -> Looked<Value> {
        self.json(Request::post_json(below(&self.base, path), body, timeout))
            .await
    }

    /// The status of a GET whose body says nothing.
    pub async fn status(&self, path: &str, timeout: Duration) -> Looked<u16> {
        let mut request = Request::get(below(&self.base, path), timeout);
        request.headers.extend(self.headers.clone());
        let answer = self.client.send(request).await?;
        Ok(answer.status)
    }

    async fn json(&self, mut request: Request) -> Looked<Value> {
        request.max_body = MAX_ANSWER;
        request.headers.extend(self.headers.clone());
        let path = request.url.path().to_owned();
        let answer = self.client.send(request).await?;
        match answer.status {
            200..=299 => serde_json::from_slice(&answer.body)
                .map_err(|_| Failure::new("invalid_response", format!("no JSON at {path}"))),
            status => Err(refusal(status, &path, &answer.text())),
        }
    }
}

/// The URL of `path`, with its query, below the base URL of a server.
pub(super) fn below(base: &Url, path: &str) -> Url {
    let (path, query) = path
        .split_once('?')
        .map_or((path, None), |(p, q)| (p, Some(q)));
    let mut url = base.clone();
    let base = url.path().trim_end_matches('/').to_owned();
    url.set_path(&format!("{base}{path}"));
    url.set_query(query);
    url
}

/// What an answer with another status means. Its body is read for that and not shown: it may quote
/// data.
fn refusal(status: u16, path: &str, body: &str) -> Failure {
    let lower = body.to_ascii_lowercase();
    let kind = match status {
        401 | 403 => "auth",
        404 | 410 => "not_found",
        _ if lower.contains("dimension") => "dimension_mismatch",
        500..=599 => "server_error",
        _ => "bad_request",
    };
    Failure::new(kind, format!("status {status} at {path}"))
}

/// A name as a part of a path.
pub fn segment(name: &str) -> String {
    let mut url = Url::parse("http://h/").expect("a URL");
    if let Ok(mut path) = url.path_segments_mut() {
        path.clear().push(name);
    }
    url.path().trim_start_matches('/').to_owned()
}

/// Numbers as a vector.
pub fn vector(json: &Value) -> Option<Vec<f64>> {
    json.as_array()?.iter().map(Value::as_f64).collect()
}

/// A number, or a text that is one.
pub fn number(json: &Value) -> Option<f64> {
    json.as_f64().or_else(|| json.as_str()?.parse().ok())
}
