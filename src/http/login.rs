//! What a client says of itself with each request: its credentials and secret headers. Those that
//! stand in files are read at each use, as Prometheus and Alertmanager do, so that a token that is
//! renewed needs no reload, and one that is missing fails that request alone.

use std::collections::BTreeMap;
use std::sync::Arc;

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};

use super::client::secret_value;
use super::config::HttpConfig;
use super::error::{HttpError, HttpErrorKind};
use crate::config::{Secret, SecretSource};

/// The settings, and what they come to where no file is asked.
#[derive(Clone)]
pub struct Login {
    settings: Arc<Settings>,
    fixed: Option<Said>,
    /// One reading at a time: a folder that hangs holds one thread, not one for each request.
    turn: Arc<tokio::sync::Mutex<()>>,
}

struct Settings {
    basic_auth: Option<(SecretSource, SecretSource)>,
    authorization: Option<(String, SecretSource)>,
    headers: BTreeMap<String, Vec<SecretSource>>,
}

/// The headers of one request.
#[derive(Clone, Default)]
pub struct Said {
    /// `http_headers`, each with all its values.
    pub headers: HeaderMap,
    /// The value of `Authorization`.
    pub authorization: Option<HeaderValue>,
}

impl Login {
    /// Errs on what no header can hold.
    pub fn build(config: &HttpConfig) -> Result<Self, HttpError> {
        let settings = Settings {
            basic_auth: config.basic_auth.clone(),
            authorization: config.authorization.clone(),
            headers: config.headers.clone(),
        };
        for name in settings.headers.keys() {
            header_name(name)?;
        }
        let fixed = if settings.has_files() {
            None
        } else {
            Some(settings.said()?)
        };
        Ok(Login {
            settings: Arc::new(settings),
            fixed,
            turn: Arc::default(),
        })
    }

    /// What to say now. The caller keeps the deadline.
    pub async fn now(&self) -> Result<Said, HttpError> {
        if let Some(fixed) = &self.fixed {
            return Ok(fixed.clone());
        }
        let turn = self.turn.clone().lock_owned().await;
        let settings = self.settings.clone();
        let reading = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            settings.said()
        });
        reading
            .await
            .unwrap_or_else(|_| Err(invalid("the credentials could not be read".into())))
    }
}

impl Settings {
    fn has_files(&self) -> bool {
        let basic = self
            .basic_auth
            .iter()
            .flat_map(|(user, password)| [user, password]);
        basic
            .chain(
                self.authorization
                    .iter()
                    .map(|(_, credentials)| credentials),
            )
            .chain(self.headers.values().flatten())
            .any(SecretSource::is_file)
    }

    fn said(&self) -> Result<Said, HttpError> {
        let mut headers = HeaderMap::new();
        for (name, values) in &self.headers {
            let header = header_name(name)?;
            for value in values {
                headers.append(
                    header.clone(),
                    secret_value(read(value, "http_headers")?.expose())?,
                );
            }
        }
        Ok(Said {
            headers,
            authorization: self.authorization()?,
        })
    }

    fn authorization(&self) -> Result<Option<HeaderValue>, HttpError> {
        use base64::Engine as _;
        if let Some((user, password)) = &self.basic_auth {
            let (user, password) = (
                read(user, "username_file")?,
                read(password, "password_file")?,
            );
            let pair = base64::engine::general_purpose::STANDARD.encode(format!(
                "{}:{}",
                user.expose(),
                password.expose()
            ));
            return secret_value(&format!("Basic {pair}")).map(Some);
        }
        match &self.authorization {
            Some((scheme, credentials)) => secret_value(&format!(
                "{scheme} {}",
                read(credentials, "credentials_file")?.expose()
            ))
            .map(Some),
            None => Ok(None),
        }
    }
}

fn header_name(name: &str) -> Result<HeaderName, HttpError> {
    HeaderName::from_bytes(name.as_bytes())
        .map_err(|_| HttpError::new(HttpErrorKind::Request, "http_headers: not a header name"))
}

fn read(source: &SecretSource, key: &str) -> Result<Secret, HttpError> {
    source
        .current()
        .map_err(|problem| invalid(format!("{key}: {problem}")))
}

/// A secret as it is now, read on a thread that may wait.
pub(super) async fn current(source: &SecretSource, key: &'static str) -> Result<Secret, HttpError> {
    if !source.is_file() {
        return read(source, key);
    }
    let source = source.clone();
    let reading = tokio::task::spawn_blocking(move || read(&source, key));
    reading
        .await
        .unwrap_or_else(|_| Err(invalid(format!("{key}: could not be read"))))
}

/// A file may come back, so another attempt may help: it is not the request that is wrong.
fn invalid(problem: String) -> HttpError {
    HttpError::new(HttpErrorKind::Credentials, problem)
}
