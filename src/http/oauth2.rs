//! Access tokens by OAuth 2.0's client credentials (RFC 6749, section 4.4), as the `oauth2` block
//! of `http_config` asks for them.
//!
//! A token is kept until shortly before its end, or until a server refuses it. How the token's
//! server wants the client to identify itself is found out as Go's client does: in the header, and
//! where that is refused, in the body. Only this grant is known: no JWT is signed.

use std::collections::BTreeMap;
use std::time::Duration;

use parking_lot::Mutex;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use tokio::time::Instant;
use url::Url;

use super::client::{Client, Request, secret_value};
use super::config::HttpConfig;
use super::error::{HttpError, HttpErrorKind};
use crate::config::{Secret, SecretSource, Section};

/// A token is fetched anew this long before its end.
const EARLY: Duration = Duration::from_secs(10);
/// Deadline of one request for a token; the request that needs it may have a shorter one.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Most of an answer that is read, in bytes, as in Go's client.
const MAX_BODY: usize = 1 << 20;

/// The `oauth2` block.
#[derive(Clone, Debug)]
pub struct OAuth2 {
    /// `client_id`.
    pub client_id: String,
    /// `client_secret` or `client_secret_file`.
    pub client_secret: SecretSource,
    /// `token_url`: who gives tokens.
    pub token_url: Url,
    /// `scopes`.
    pub scopes: Vec<String>,
    /// `endpoint_params`: further fields of the request for a token.
    pub endpoint_params: BTreeMap<String, Secret>,
    /// How to reach `token_url`: its `tls_config`, proxy and headers.
    pub http: Box<HttpConfig>,
}

impl OAuth2 {
    /// Reads the block; `None` after a mistake.
    pub(super) fn read(section: &Section<'_>) -> Option<Self> {
        let grant = section.or("grant_type", "client_credentials".to_owned());
        if !["client_credentials", ""].contains(&grant.as_str()) {
            section.error(
                "grant_type",
                "is not supported",
                "use client_credentials with client_id and client_secret",
            );
        }
        for key in [
            "client_certificate_key_id",
            "client_certificate_key",
            "client_certificate_key_file",
            "signature_algorithm",
        ] {
            section.node(key);
        }
        for key in ["iss", "audience", "claims"] {
            section.node(key);
        }
        let oauth2 = OAuth2 {
            client_id: filled(section, "client_id").unwrap_or_default(),
            client_secret: section.secret_source("client_secret").unwrap_or_default(),
            token_url: filled(section, "token_url").and_then(|_| section.get("token_url"))?,
            scopes: section.or("scopes", Vec::new()),
            endpoint_params: section.or("endpoint_params", BTreeMap::new()),
            http: Box::new(HttpConfig::read_transport(section)),
        };
        section.finish();
        Some(oauth2)
    }
}

/// A text that must be there, and not empty.
fn filled(section: &Section<'_>, key: &str) -> Option<String> {
    let text = section.get::<String>(key).filter(|text| !text.is_empty());
    if text.is_none() {
        section.error(
            "",
            format!("key {key:?} is missing"),
            format!("add {key}: …"),
        );
    }
    text
}

/// The tokens of one client.
pub(super) struct Tokens {
    settings: OAuth2,
    client: Client,
    known: Mutex<Known>,
    /// One request for a token at a time.
    turn: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Known {
    token: Option<(HeaderValue, Option<Instant>)>,
    /// Whether the token's server wants the secret in the body.
    in_body: bool,
}

impl Tokens {
    pub(super) fn build(settings: OAuth2) -> Result<Self, HttpError> {
        let client = Client::build(&settings.http)?;
        Ok(Tokens {
            settings,
            client,
            known: Mutex::default(),
            turn: tokio::sync::Mutex::default(),
        })
    }

    /// The `Authorization` header of a request that is sent now.
    pub(super) async fn authorization(&self) -> Result<HeaderValue, HttpError> {
        let _turn = self.turn.lock().await;
        if let Some(value) = self.kept() {
            return Ok(value);
        }
        let first = self.known.lock().in_body;
        let answer = match self.ask(first).await {
            Err(Refusal::Status(_)) if !first => {
                let answer = self.ask(true).await;
                self.known.lock().in_body = answer.is_ok();
                answer
            }
            answer => answer,
        };
        let (value, lifetime) = answer.map_err(Refusal::error)?;
        let end = lifetime.map(|lifetime| Instant::now() + lifetime.saturating_sub(EARLY));
        self.known.lock().token = Some((value.clone(), end));
        Ok(value)
    }

    /// A server refused this token: the next request gets another one.
    pub(super) fn refused(&self, value: &HeaderValue) {
        let mut known = self.known.lock();
        if known.token.as_ref().is_some_and(|(kept, _)| kept == value) {
            known.token = None;
        }
    }

    fn kept(&self) -> Option<HeaderValue> {
        let known = self.known.lock();
        let (value, end) = known.token.as_ref()?;
        end.is_none_or(|end| Instant::now() < end)
            .then(|| value.clone())
    }

    fn request(&self, in_body: bool, secret: &Secret) -> Result<Request, HttpError> {
        let settings = &self.settings;
        let mut form = url::form_urlencoded::Serializer::new(String::new());
        form.append_pair("grant_type", "client_credentials");
        if !settings.scopes.is_empty() {
            form.append_pair("scope", &settings.scopes.join(" "));
        }
        for (name, value) in &settings.endpoint_params {
            form.append_pair(name, value.expose());
        }
        let mut request = Request::post_form(settings.token_url.clone(), TIMEOUT);
        request.max_body = MAX_BODY;
        if in_body {
            form.append_pair("client_id", &settings.client_id)
                .append_pair("client_secret", secret.expose());
        } else {
            request.headers.insert(AUTHORIZATION, self.basic(secret)?);
        }
        request.body = form.finish().into();
        Ok(request)
    }

    async fn ask(&self, in_body: bool) -> Result<(HeaderValue, Option<Duration>), Refusal> {
        let secret =
            super::login::current(&self.settings.client_secret, "client_secret_file").await?;
        let request = self.request(in_body, &secret)?;
        // The client of a token asks for no token itself, but the compiler cannot know.
        let response = Box::pin(self.client.send(request)).await?;
        if !(200..300).contains(&response.status) {
            return Err(Refusal::Status(response.status));
        }
        let is_form = response.header(CONTENT_TYPE.as_str()).is_some_and(|kind| {
            kind.starts_with("application/x-www-form-urlencoded") || kind.starts_with("text/plain")
        });
        let fields: BTreeMap<String, String> = if is_form {
            url::form_urlencoded::parse(&response.body)
                .into_owned()
                .collect()
        } else {
            let json: serde_json::Map<String, serde_json::Value> =
                serde_json::from_slice(&response.body).unwrap_or_default();
            json.into_iter()
                .map(|(name, value)| {
                    (
                        name,
                        value
                            .as_str()
                            .map_or_else(|| value.to_string(), str::to_owned),
                    )
                })
                .collect()
        };
        let token = fields
            .get("access_token")
            .filter(|token| !token.is_empty())
            .ok_or(Refusal::NoToken)?;
        let kind = match fields.get("token_type").map(String::as_str) {
            None | Some("") => "Bearer",
            Some(kind) if kind.eq_ignore_ascii_case("bearer") => "Bearer",
            Some(kind) => kind,
        };
        let lifetime = fields
            .get("expires_in")
            .and_then(|seconds| seconds.parse::<f64>().ok())
            .filter(|seconds| *seconds > 0.0);
        let lifetime = lifetime.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        Ok((secret_value(&format!("{kind} {token}"))?, lifetime))
    }

    fn basic(&self, secret: &Secret) -> Result<HeaderValue, HttpError> {
        use base64::Engine as _;
        // RFC 6749, section 2.3.1: both are encoded as in a form before they become a pair.
        let encoded =
            |text: &str| url::form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
        let pair = format!(
            "{}:{}",
            encoded(&self.settings.client_id),
            encoded(secret.expose())
        );
        secret_value(&format!(
            "Basic {}",
            base64::engine::general_purpose::STANDARD.encode(pair)
        ))
    }
}

/// Why there is no token.
enum Refusal {
    Status(u16),
    NoToken,
    Failed(HttpError),
}

impl From<HttpError> for Refusal {
    fn from(error: HttpError) -> Self {
        Refusal::Failed(error)
    }
}

impl Refusal {
    /// Another attempt may help whatever the status: a token's server is not the server that the
    /// request is for.
    fn error(self) -> HttpError {
        let text = match self {
            Refusal::Status(status) => format!("oauth2: token_url answered {status}"),
            Refusal::NoToken => "oauth2: token_url gave no access_token".to_owned(),
            Refusal::Failed(error) => {
                return HttpError::new(error.kind, format!("oauth2: token_url: {}", error.message));
            }
        };
        HttpError::new(HttpErrorKind::Protocol, text)
    }
}
