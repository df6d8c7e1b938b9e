//! One HTTP scrape: the request Prometheus would send (SEMANTICS 31), and what its answer may look
//! like (32, 33).

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use url::Url;

use super::reader::{Fetched, Reader};
use crate::exposition::Format;
use crate::http::{
    Client, HeaderMap, HeaderName, HeaderValue, HttpError, HttpErrorKind, Incoming, Method,
    Request, within,
};
use crate::scrape::config::protocol::Encoding;
use crate::scrape::error::{AddressError, ScrapeError};

/// How to fetch one target's page.
pub(in crate::scrape) struct Fetch {
    client: Client,
    /// Where the page is, or why that is no address at all.
    url: Result<Url, AddressError>,
    headers: HeaderMap,
    timeout: Duration,
    max_body: usize,
    fallback: Option<Encoding>,
    /// The last answer came to its end, so that its connection may be in use again.
    kept: AtomicBool,
}

impl Fetch {
    /// Prepares the request. The job's client was built once when its configuration was read, so
    /// building it again can only fail when the machine's certificates went away meanwhile.
    pub(in crate::scrape) fn new(
        client: Client,
        url: Result<Url, AddressError>,
        job: &crate::scrape::Job,
        timeout: Duration,
    ) -> Self {
        let mut headers = HeaderMap::new();
        let mut put = |name: &'static str, value: &str| {
            if let Ok(value) = HeaderValue::from_str(value) {
                headers.insert(HeaderName::from_static(name), value);
            }
        };
        put("accept", &job.accept);
        put(
            "accept-encoding",
            if job.compression { "gzip" } else { "identity" },
        );
        put(
            "x-prometheus-scrape-timeout-seconds",
            &timeout.as_secs_f64().to_string(),
        );
        let max_body = usize::try_from(job.limits.body_size).unwrap_or(usize::MAX);
        Fetch {
            client,
            url,
            headers,
            timeout,
            max_body,
            fallback: job.fallback,
            kept: AtomicBool::new(false),
        }
    }

    /// Fetches the page and reads it.
    ///
    /// # Errors
    /// When there is none; the text is one line without secrets.
    pub(in crate::scrape) async fn page(
        &self,
        mut reader: Reader<'_>,
    ) -> Result<Fetched, ScrapeError> {
        let request = Request {
            method: Method::GET,
            url: self.url.clone()?,
            headers: self.headers.clone(),
            body: Bytes::new(),
            timeout: self.timeout,
            max_body: self.max_body,
        };
        // An answer that does not come to its end is a failure of its own, whatever else is wrong
        // with it.
        let exchange = async {
            let mut incoming = self.start(request).await?;
            let page = match self.encoding(&incoming) {
                Ok(Encoding::Text(format)) if !reader.often => {
                    let mut parts = reader.parts(format);
                    incoming
                        .pass(self.max_body, |part| parts.take(part))
                        .await?;
                    not_empty(&incoming)?;
                    Ok(parts.finish())
                }
                Ok(encoding) => {
                    let body = incoming.read(reader.room(), self.max_body).await?;
                    not_empty(&incoming)?;
                    reader.whole(body, encoding).map_err(ScrapeError::Page)
                }
                Err(error) => {
                    incoming.pass(self.max_body, |_| {}).await?;
                    Err(error)
                }
            };
            self.kept.store(true, Ordering::Relaxed);
            Ok(page)
        };
        within(self.timeout, exchange).await?
    }

    /// Sends the request. A connection that was used before may be closed by the other side just as
    /// it is used again: where it ended without an answer the request goes out once more, on a
    /// fresh one, as Go's client does.
    async fn start(&self, request: Request) -> Result<Incoming, HttpError> {
        let kept = self.kept.swap(false, Ordering::Relaxed);
        match self.client.start(request.clone()).await {
            Err(error) if error.unanswered && kept => self.client.start_fresh(request).await,
            started => started,
        }
    }

    fn encoding(&self, answer: &Incoming) -> Result<Encoding, ScrapeError> {
        if answer.status != 200 {
            return Err(ScrapeError::Status(answer.status));
        }
        let written = answer
            .headers
            .get("content-type")
            .and_then(|v| v.to_str().ok())
            .unwrap_or("");
        encoding_of(written).or(self.fallback).ok_or_else(|| {
            let shown: String = written
                .chars()
                .filter(|c| !c.is_control())
                .take(60)
                .collect();
            ScrapeError::ContentType(shown)
        })
    }
}

fn not_empty(answer: &Incoming) -> Result<(), HttpError> {
    if answer.lacks_its_gzip() {
        Err(HttpError::new(
            HttpErrorKind::Protocol,
            "the gzip body is empty",
        ))
    } else {
        Ok(())
    }
}

fn encoding_of(content_type: &str) -> Option<Encoding> {
    match content_type
        .split(';')
        .next()
        .unwrap_or("")
        .trim()
        .to_ascii_lowercase()
        .as_str()
    {
        "text/plain" => Some(Encoding::Text(Format::Text)),
        "application/openmetrics-text" => Some(Encoding::Text(Format::OpenMetrics)),
        "application/vnd.google.protobuf" => Some(Encoding::Protobuf),
        _ => None,
    }
}

/// `scheme://address/path?params` of a target; errs when that is not a URL.
pub(in crate::scrape) fn url_of(
    scheme: &str,
    address: &str,
    path: &str,
    params: &BTreeMap<String, Vec<String>>,
) -> Result<Url, AddressError> {
    let (path, query) = path
        .split_once('?')
        .map_or((path, None), |(p, q)| (p, Some(q)));
    let mut url = Url::parse(&format!("{scheme}://{address}"))?;
    url.set_path(path);
    url.set_query(query);
    if !params.is_empty() {
        let pairs = params
            .iter()
            .flat_map(|(name, values)| values.iter().map(move |value| (name, value)));
        url.query_pairs_mut().extend_pairs(pairs);
    }
    Ok(url)
}
