//! A client for one [`HttpConfig`]: every request has a deadline, every body a bound.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use reqwest::Method;
use reqwest::header::{
    ACCEPT_ENCODING, AUTHORIZATION, CONTENT_ENCODING, HeaderMap, HeaderName, HeaderValue,
};
use url::Url;

use super::config::HttpConfig;
use super::connections::Connections;
use super::error::{HttpError, HttpErrorKind};
use super::gunzip::Gunzip;
use super::login::{Login, Said};
use super::oauth2::Tokens;
use super::tls;
use crate::config::{Secret, Section};
use crate::net;

/// Most bytes that are reserved before they come.
const MAX_RESERVED: usize = 16 << 20;
/// Most redirects that are followed.
const MAX_REDIRECTS: usize = 10;
/// How long a connection may take where an answer may take much longer.
const CONNECT: Duration = Duration::from_secs(30);

/// Most header fields of an answer.
const MAX_HEADERS: usize = 512;

/// A client; cheap to clone. Connections are kept for reuse, at most two idle ones for each host.
#[derive(Clone)]
pub struct Client {
    connections: Arc<Connections>,
    login: Login,
    tokens: Option<Arc<Tokens>>,
}

/// One request.
#[derive(Clone)]
pub struct Request {
    /// GET, POST, …
    pub method: Method,
    /// Where to.
    pub url: Url,
    /// Headers beside those of the configuration.
    pub headers: HeaderMap,
    /// The body; empty for none.
    pub body: Bytes,
    /// Deadline for connecting, sending, and reading the whole body.
    pub timeout: Duration,
    /// Greatest size of the answer's body after decompression, in bytes.
    pub max_body: usize,
}

impl Request {
    /// A GET with a deadline, 10 MiB of answer at most.
    pub fn get(url: Url, timeout: Duration) -> Self {
        Request {
            method: Method::GET,
            url,
            headers: HeaderMap::new(),
            body: Bytes::new(),
            timeout,
            max_body: 10 << 20,
        }
    }

    /// A POST of JSON with a deadline, 1 MiB of answer at most.
    pub fn post_json(url: Url, body: &serde_json::Value, timeout: Duration) -> Self {
        let mut headers = HeaderMap::new();
        headers.insert(
            reqwest::header::CONTENT_TYPE,
            HeaderValue::from_static("application/json"),
        );
        Request {
            method: Method::POST,
            url,
            headers,
            body: Bytes::from(body.to_string()),
            timeout,
            max_body: 1 << 20,
        }
    }

    /// A POST of a form, whose body is still to be written, with a deadline, 1 MiB of answer at
    /// most.
    pub fn post_form(url: Url, timeout: Duration) -> Self {
        let form = HeaderValue::from_static("application/x-www-form-urlencoded");
        let headers = HeaderMap::from_iter([(reqwest::header::CONTENT_TYPE, form)]);
        Request {
            method: Method::POST,
            url,
            headers,
            body: Bytes::new(),
            timeout,
            max_body: 1 << 20,
        }
    }

    /// Adds a header whose value may be secret; an invalid value is left out by the caller's
    /// validation at build.
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }
}

/// A whole answer.
pub struct Response {
    /// Status code.
    pub status: u16,
    /// Headers.
    pub headers: HeaderMap,
    /// Body, decompressed.
    pub body: Bytes,
}

impl Response {
    /// The body as text, invalid UTF-8 replaced.
    pub fn text(&self) -> std::borrow::Cow<'_, str> {
        String::from_utf8_lossy(&self.body)
    }

    /// A header as text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|v| v.to_str().ok())
    }
}

/// The process's own resolver, for the HTTP client.
pub(super) struct Names;

impl reqwest::dns::Resolve for Names {
    fn resolve(&self, name: reqwest::dns::Name) -> reqwest::dns::Resolving {
        Box::pin(async move {
            let addresses = net::resolve(name.as_str()).await?;
            let addresses: Vec<SocketAddr> =
                addresses.iter().map(|ip| SocketAddr::new(*ip, 0)).collect();
            Ok(Box::new(addresses.into_iter()) as reqwest::dns::Addrs)
        })
    }
}

impl Client {
    /// Builds a client; errs on unusable certificates, headers or proxy.
    pub fn build(config: &HttpConfig) -> Result<Self, HttpError> {
        Client::with(config, false)
    }

    /// Like [`Client::build`], for requests whose body must arrive: a redirect that would turn a
    /// POST into an empty GET is not followed.
    pub fn keeping_body(config: &HttpConfig) -> Result<Self, HttpError> {
        Client::with(config, true)
    }

    /// This client; where its settings are wrong, a plain one, with an error at `section`.
    pub fn or_plain(built: Result<Self, HttpError>, section: &Section<'_>) -> Self {
        built.unwrap_or_else(|e| {
            section.error(
                "tls_config",
                e.to_string(),
                "check the HTTP settings of this target",
            );
            Client::plain()
        })
    }

    fn with(config: &HttpConfig, keeps_body: bool) -> Result<Self, HttpError> {
        let tokens = config
            .oauth2
            .clone()
            .map(Tokens::build)
            .transpose()?
            .map(Arc::new);
        Ok(Client {
            connections: Arc::new(Connections::build(config, keeps_body)?),
            login: Login::build(config)?,
            tokens,
        })
    }

    /// A client with default settings, for callers that have already recorded why the wanted one
    /// cannot be built.
    pub fn plain() -> Self {
        Client::build(&HttpConfig::default()).expect("the default settings are usable")
    }

    /// Sends a request and reads the whole answer.
    pub async fn send(&self, request: Request) -> Result<Response, HttpError> {
        let (timeout, max_body) = (request.timeout, request.max_body);
        let whole = async {
            let mut incoming = self.start(request).await?;
            let body = incoming.read(BytesMut::new(), max_body).await?;
            Ok(Response {
                status: incoming.status,
                headers: incoming.headers,
                body,
            })
        };
        within(timeout, whole).await
    }

    /// Sends a request and returns as soon as the headers are there, for callers that watch the
    /// body arrive. The caller keeps the deadline.
    pub async fn start(&self, request: Request) -> Result<Incoming, HttpError> {
        self.connections.follow().await;
        self.start_with(&self.connections.kept(), request).await
    }

    /// Like [`Client::start`], on a connection of its own.
    pub async fn start_fresh(&self, request: Request) -> Result<Incoming, HttpError> {
        self.start_with(&self.connections.fresh()?, request).await
    }

    async fn start_with(
        &self,
        client: &reqwest::Client,
        request: Request,
    ) -> Result<Incoming, HttpError> {
        let mut said = self.login.now().await?;
        let Some(tokens) = self
            .tokens
            .as_ref()
            .filter(|_| !request.headers.contains_key(AUTHORIZATION))
        else {
            return self.attempt(client, request, said).await;
        };
        let token = tokens.authorization().await?;
        said.authorization = Some(token.clone());
        let incoming = self.attempt(client, request.clone(), said.clone()).await?;
        if incoming.status != 401 {
            return Ok(incoming);
        }
        // It was taken back before its time.
        tokens.refused(&token);
        said.authorization = Some(tokens.authorization().await?);
        self.attempt(client, request, said).await
    }

    async fn attempt(
        &self,
        client: &reqwest::Client,
        request: Request,
        said: Said,
    ) -> Result<Incoming, HttpError> {
        let mut headers = request.headers;
        for (name, value) in said
            .headers
            .iter()
            .filter(|(name, _)| !headers.contains_key(*name))
            .collect::<Vec<_>>()
        {
            headers.append(name.clone(), value.clone());
        }
        if let Some(authorization) = said.authorization
            && !headers.contains_key(AUTHORIZATION)
        {
            headers.insert(AUTHORIZATION, authorization);
        }
        headers
            .entry(ACCEPT_ENCODING)
            .or_insert(HeaderValue::from_static("gzip"));
        let builder = client.request(request.method, request.url).headers(headers);
        let builder = if request.body.is_empty() {
            builder
        } else {
            builder.body(request.body)
        };
        let inner = builder.send().await.map_err(HttpError::from)?;
        let is_gzip = inner
            .headers()
            .get(CONTENT_ENCODING)
            .is_some_and(|coding| coding.as_bytes().eq_ignore_ascii_case(b"gzip"));
        let gunzip = is_gzip.then(|| Box::new(Gunzip::new()));
        Ok(Incoming {
            status: inner.status().as_u16(),
            headers: inner.headers().clone(),
            inner,
            gunzip,
        })
    }
}

/// A client that keeps at most `idle` unused connections for each host.
pub(super) fn build(
    config: &HttpConfig,
    idle: usize,
    keeps_body: bool,
) -> Result<reqwest::Client, HttpError> {
    let builder = builder(config, idle)?;
    let builder = if keeps_body {
        builder.redirect(with_body(config)).connect_timeout(CONNECT)
    } else {
        builder
    };
    builder.build().map_err(HttpError::from)
}

fn with_body(config: &HttpConfig) -> reqwest::redirect::Policy {
    if !config.follow_redirects {
        return reqwest::redirect::Policy::none();
    }
    reqwest::redirect::Policy::custom(|attempt| match attempt.status().as_u16() {
        301..=303 => attempt.stop(),
        _ if attempt.previous().len() > MAX_REDIRECTS => attempt.error("too many redirects"),
        _ => attempt.follow(),
    })
}

fn builder(config: &HttpConfig, idle: usize) -> Result<reqwest::ClientBuilder, HttpError> {
    let mut builder = reqwest::Client::builder()
        .pool_max_idle_per_host(idle)
        // The library's own reader ends at the first member of a gzip body.
        .no_gzip()
        // As much and as odd as Go's client takes.
        .http1_allow_obsolete_multiline_headers_in_responses(true)
        .http1_max_headers(MAX_HEADERS)
        .redirect(if config.follow_redirects {
            reqwest::redirect::Policy::limited(MAX_REDIRECTS)
        } else {
            reqwest::redirect::Policy::none()
        })
        .dns_resolver(Arc::new(Names))
        .user_agent(concat!("nightbell/", env!("CARGO_PKG_VERSION")))
        .tls_backend_preconfigured(tls::client_config(&config.tls)?);
    if let Some(url) = &config.proxy_url {
        let proxy =
            reqwest::Proxy::all(url.clone()).map_err(|_| invalid("proxy_url is not usable"))?;
        let proxy = proxy.headers(header_map(
            &config.proxy_connect_header,
            "proxy_connect_header",
        )?);
        builder = builder.proxy(
            proxy.no_proxy(
                config
                    .no_proxy
                    .as_deref()
                    .and_then(reqwest::NoProxy::from_string),
            ),
        );
    } else if !config.proxy_from_environment {
        builder = builder.no_proxy();
    }
    Ok(builder)
}

/// Lets a request and the reading of its answer take so long at most.
pub async fn within<T>(
    timeout: Duration,
    exchange: impl Future<Output = Result<T, HttpError>>,
) -> Result<T, HttpError> {
    tokio::time::timeout(timeout, exchange)
        .await
        .unwrap_or_else(|_| Err(HttpError::new(HttpErrorKind::Timeout, "timed out")))
}

/// An answer whose body is still arriving.
pub struct Incoming {
    /// Status code.
    pub status: u16,
    /// Headers.
    pub headers: HeaderMap,
    inner: reqwest::Response,
    gunzip: Option<Box<Gunzip>>,
}

impl Incoming {
    /// The next part of the body, decompressed; `None` at its end.
    pub async fn next(&mut self) -> Result<Option<Bytes>, HttpError> {
        let Some(gunzip) = &mut self.gunzip else {
            return self.inner.chunk().await.map_err(HttpError::from);
        };
        loop {
            if let Some(part) = gunzip.part()? {
                if gunzip.has_more() {
                    // A little input may become very much: others shall have their turn meanwhile.
                    tokio::task::yield_now().await;
                }
                return Ok(Some(part));
            }
            match self.inner.chunk().await? {
                Some(came) => gunzip.put(came),
                None => return gunzip.end().map(|()| None),
            }
        }
    }

    /// Whether the body, which has come to its end, was announced as gzip and is empty: no reader
    /// of gzip takes that for a page.
    pub fn lacks_its_gzip(&self) -> bool {
        self.gunzip.as_ref().is_some_and(|gunzip| gunzip.is_empty())
    }

    /// Passes the rest of the body on part by part; errs when it becomes larger than `max_body`
    /// bytes.
    pub async fn pass(
        &mut self,
        max_body: usize,
        mut take: impl FnMut(&[u8]),
    ) -> Result<(), HttpError> {
        let mut length = 0;
        while let Some(part) = self.next().await? {
            length += part.len();
            if length > max_body {
                return Err(HttpError::new(
                    HttpErrorKind::TooLarge,
                    format!("answer is larger than {max_body} bytes"),
                ));
            }
            take(&part);
        }
        Ok(())
    }

    /// The rest of the body, in the room of an empty buffer; errs when it becomes larger than
    /// `max_body` bytes.
    pub async fn read(&mut self, mut body: BytesMut, max_body: usize) -> Result<Bytes, HttpError> {
        // Room for what is announced, within reason: who announces much need not send it.
        let announced = self
            .inner
            .content_length()
            .filter(|_| self.gunzip.is_none())
            .and_then(|length| usize::try_from(length).ok());
        body.reserve(announced.unwrap_or(0).min(max_body).min(MAX_RESERVED));
        self.pass(max_body, |part| body.extend_from_slice(part))
            .await?;
        if body.capacity() - body.len() <= body.len() / 4 {
            return Ok(body.freeze());
        }
        let mut body = Vec::from(body);
        body.shrink_to_fit();
        Ok(body.into())
    }
}

fn invalid(message: &str) -> HttpError {
    HttpError::new(HttpErrorKind::Request, message)
}

pub(super) fn secret_value(text: &str) -> Result<HeaderValue, HttpError> {
    let mut value = HeaderValue::from_str(text)
        .map_err(|_| invalid("a header value holds characters that HTTP does not allow"))?;
    value.set_sensitive(true);
    Ok(value)
}

fn header_map(headers: &BTreeMap<String, Vec<Secret>>, key: &str) -> Result<HeaderMap, HttpError> {
    let mut map = HeaderMap::new();
    for (name, values) in headers {
        let name = HeaderName::from_bytes(name.as_bytes())
            .map_err(|_| invalid(&format!("{key}: not a header name")))?;
        for value in values {
            map.append(name.clone(), secret_value(value.expose())?);
        }
    }
    Ok(map)
}
