//! Passing requests on to another server, and its answers back, while they come: nothing is
//! gathered, decompressed, followed or repeated.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream;
use reqwest::header::{HeaderMap, HeaderName};
use reqwest::{Body, Method};
use url::Url;

use super::client::Names;
use super::error::HttpError;
use super::tls;
use crate::http::TlsConfig;

/// Unused connections that are kept.
const IDLE: usize = 256;
/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(10);

/// Headers that belong to one connection (RFC 9110, 7.6.1), and the host, which the URL names.
const OF_CONNECTION: [&str; 10] = [
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "host",
];

/// A client that passes requests on. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Relay(reqwest::Client);

/// The body of an answer that is passed on.
pub type RelayedBody = Body;

impl Relay {
    /// A client that trusts as the block says, and gives an answer up when nothing of it has come
    /// for so long.
    ///
    /// # Errors
    /// When a certificate cannot be used.
    pub fn build(config: &TlsConfig, silence: Duration) -> Result<Self, HttpError> {
        let client = reqwest::Client::builder()
            .pool_max_idle_per_host(IDLE)
            .no_gzip()
            .redirect(reqwest::redirect::Policy::none())
            .dns_resolver(Arc::new(Names))
            .connect_timeout(CONNECT)
            .read_timeout(silence)
            .tls_backend_preconfigured(tls::client_config(config)?)
            .no_proxy()
            .build()?;
        Ok(Relay(client))
    }

    /// Passes a request on; returns as soon as the head of the answer is there. Headers of the
    /// connection are left out on both ways.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn pass<S, E>(
        &self,
        method: Method,
        url: Url,
        headers: &HeaderMap,
        body: Option<S>,
    ) -> Result<http::Response<Body>, HttpError>
    where
        S: Stream<Item = Result<Bytes, E>> + Send + 'static,
        E: Into<Box<dyn std::error::Error + Send + Sync>> + 'static,
    {
        let request = self.0.request(method, url).headers(passed_on(headers));
        let request = match body {
            Some(body) => request.body(Body::wrap_stream(body)),
            None => request,
        };
        let mut response: http::Response<Body> = request.send().await?.into();
        *response.headers_mut() = passed_on(response.headers());
        Ok(response)
    }
}

fn passed_on(headers: &HeaderMap) -> HeaderMap {
    // Those that `Connection` names are of the connection, too.
    let named: Vec<HeaderName> = (headers.get_all("connection").iter())
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    let is_passed =
        |name: &HeaderName| !OF_CONNECTION.contains(&name.as_str()) && !named.contains(name);
    headers
        .iter()
        .filter(|(name, _)| is_passed(name))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}
