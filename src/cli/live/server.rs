//! The running nightbell that a command talks to: through the API v2 that amtool uses, and through
//! its own.

use std::path::Path;
use std::sync::OnceLock;
use std::time::Duration;

use clap::Args;
use serde_json::Value as Json;
use url::Url;

use crate::config::{Document, Environment, Loader};
use crate::http::{Client, HeaderValue, HttpConfig, Method, Request, Response};
use crate::model::Labels;
use crate::model::text::visible;

/// Deadline of a request.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Deadline of one that computes for long.
const LONG: Duration = Duration::from_secs(125);

/// Whom to ask.
#[derive(Args, Clone)]
pub struct ServerArgs {
    /// The running nightbell; an Alertmanager will do too
    #[arg(
        long,
        global = true,
        default_value = "http://127.0.0.1:9908",
        env = "NIGHTBELL_URL"
    )]
    pub url: Url,
    /// The token of web.admin_token, for changes where one is set
    #[arg(
        long,
        global = true,
        env = "NIGHTBELL_ADMIN_TOKEN",
        hide_env_values = true
    )]
    admin_token: Option<String>,
}

/// What was answered.
pub struct Answer {
    /// What to do about a token that is missing.
    hint: &'static str,
    /// The status code.
    pub status: u16,
    /// The body; nothing when it is empty or not JSON.
    pub body: Json,
}

impl ServerArgs {
    /// The one at this address.
    pub fn at(url: Url, admin_token: Option<String>) -> Self {
        ServerArgs { url, admin_token }
    }

    /// The value of an expression now: labels and values.
    pub async fn query(&self, expression: &str) -> Result<Vec<(Labels, f64)>, String> {
        let body = self
            .ask(Method::GET, "v1/query", &[("query", expression)], None)
            .await?
            .success()?;
        let sample = |sample: &Json| {
            let labels = sample["metric"]
                .as_object()
                .into_iter()
                .flatten()
                .map(|(name, value)| (name.as_str(), value.as_str().unwrap_or_default()));
            (
                Labels::from_pairs(labels),
                sample["value"][1]
                    .as_str()
                    .and_then(|value| value.parse().ok())
                    .unwrap_or(f64::NAN),
            )
        };
        Ok(body["data"]["result"]
            .as_array()
            .into_iter()
            .flatten()
            .map(sample)
            .collect())
    }

    /// GET below `/api/v2`; any status but 200 is an error.
    pub async fn get(&self, path: &str, parameters: &[(&str, &str)]) -> Result<Json, String> {
        let answer = self
            .ask(Method::GET, &format!("v2/{path}"), parameters, None)
            .await?;
        answer.success()
    }

    /// GET below `/api/nightbell`; any status but 200 is an error.
    pub async fn ask_own(&self, path: &str, parameters: &[(&str, &str)]) -> Result<Json, String> {
        self.ask(Method::GET, &format!("nightbell/{path}"), parameters, None)
            .await?
            .success()
    }

    /// `/health`, whatever it says.
    pub async fn health(&self) -> Result<Json, String> {
        let mut url = self.url.clone();
        url.set_path(&format!("{}/health", self.url.path().trim_end_matches('/')));
        let mut request = Request::get(url, TIMEOUT);
        authorize(&mut request, self.admin_token.as_deref())?;
        let response = send(request).await?;
        let body: Json = serde_json::from_slice(&response.body).unwrap_or_default();
        if body["status"].is_string() {
            Ok(body)
        } else {
            Err(format!(
                "status {}: {}",
                response.status,
                visible(response.text().trim())
            ))
        }
    }

    /// GET of a text below `/api/nightbell`; any status but 200 is an error.
    pub async fn text_own(
        &self,
        path: &str,
        parameters: &[(&str, &str)],
    ) -> Result<String, String> {
        let mut url = self.url.clone();
        url.set_path(&format!(
            "{}/api/nightbell/{path}",
            self.url.path().trim_end_matches('/')
        ));
        url.query_pairs_mut().extend_pairs(parameters);
        let mut request = Request::get(url, LONG);
        request.max_body = 64 << 20;
        authorize(&mut request, self.admin_token.as_deref())?;
        let response = send(request).await?;
        match response.status {
            200 => Ok(response.text().into_owned()),
            status => {
                let body = serde_json::from_slice(&response.body)
                    .unwrap_or_else(|_| Json::from(response.text().trim()));
                Answer {
                    status,
                    body,
                    hint: token_missing(status, self.admin_token.as_deref()),
                }
                .success()
                .map(|_| String::new())
            }
        }
    }

    /// POST without a body below `/api/nightbell`; any status but 200 is an error.
    pub async fn tell_own(&self, path: &str) -> Result<Json, String> {
        self.ask(Method::POST, &format!("nightbell/{path}"), &[], None)
            .await?
            .success()
    }

    /// POST of JSON below `/api/nightbell`; any status but 200 is an error.
    pub async fn post_own(&self, path: &str, body: &Json) -> Result<Json, String> {
        self.ask(Method::POST, &format!("nightbell/{path}"), &[], Some(body))
            .await?
            .success()
    }

    /// DELETE below `/api/nightbell`; any status but 200 is an error.
    pub async fn delete_own(&self, path: &str) -> Result<Json, String> {
        self.ask(Method::DELETE, &format!("nightbell/{path}"), &[], None)
            .await?
            .success()
    }

    /// POST of JSON below `/api/v2`.
    pub async fn post(&self, path: &str, body: &Json) -> Result<Answer, String> {
        self.ask(Method::POST, &format!("v2/{path}"), &[], Some(body))
            .await
    }

    /// DELETE below `/api/v2`.
    pub async fn delete(&self, path: &str) -> Result<Answer, String> {
        self.ask(Method::DELETE, &format!("v2/{path}"), &[], None)
            .await
    }

    async fn ask(
        &self,
        method: Method,
        path: &str,
        parameters: &[(&str, &str)],
        body: Option<&Json>,
    ) -> Result<Answer, String> {
        let mut url = self.url.clone();
        url.set_path(&format!(
            "{}/api/{path}",
            self.url.path().trim_end_matches('/')
        ));
        if !parameters.is_empty() {
            url.query_pairs_mut().extend_pairs(parameters);
        }
        let mut request = match body {
            Some(body) => Request::post_json(url, body, TIMEOUT),
            None => Request::get(url, TIMEOUT),
        };
        request.method = method;
        request.max_body = 64 << 20;
        authorize(&mut request, self.admin_token.as_deref())?;
        let response = send(request).await?;
        let body = serde_json::from_slice(&response.body)
            .unwrap_or_else(|_| Json::from(response.text().trim()));
        Ok(Answer {
            status: response.status,
            body,
            hint: token_missing(response.status, self.admin_token.as_deref()),
        })
    }
}

/// Puts the administrator's token, where there is one, on a request.
pub fn authorize(request: &mut Request, token: Option<&str>) -> Result<(), String> {
    if let Some(token) = token {
        let value: HeaderValue = format!("Bearer {token}")
            .parse()
            .map_err(|_| "the token holds characters that a header cannot carry".to_owned())?;
        request.headers.insert("authorization", value);
    }
    Ok(())
}

/// What to do where the server wants the administrator's token and none was given, `""` elsewhere.
pub fn token_missing(status: u16, token: Option<&str>) -> &'static str {
    match (status, token) {
        (401, None) => "; give --admin-token, or set NIGHTBELL_ADMIN_TOKEN",
        (401, Some(_)) => "; the token that was given is another one",
        _ => "",
    }
}

/// The client of the commands, where `--http.config.file` says how.
static CLIENT: OnceLock<Client> = OnceLock::new();

/// Reads the file that says how a server is asked.
pub fn ask_with(file: &Path) -> Result<(), String> {
    let document = Document::read(file).map_err(|error| error.to_string())?;
    let environment = Environment::of_process();
    let folder = file
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    let loader = Loader::new(&document, &environment, folder);
    let config = {
        let root = loader.root();
        let config = HttpConfig::read(&root);
        root.finish();
        config
    };
    let config = loader.finish(config).map_err(|errors| errors.to_string())?;
    let client = Client::build(&config).map_err(|error| format!("{}: {error}", file.display()))?;
    // It is read once, before a command begins.
    let _ = CLIENT.set(client);
    Ok(())
}

/// The client for asking a running server.
pub fn client() -> Client {
    CLIENT.get().cloned().unwrap_or_else(Client::plain)
}

/// The answer to a request; the error names the server.
pub async fn send(request: Request) -> Result<Response, String> {
    let host = request.url.host_str().unwrap_or("the server");
    let host = request
        .url
        .port_or_known_default()
        .map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
    client()
        .send(request)
        .await
        .map_err(|error| format!("{host} does not answer: {error}"))
}

impl Answer {
    /// The body of a success; else what the server says is wrong.
    pub fn success(self) -> Result<Json, String> {
        if self.status == 200 {
            return Ok(self.body);
        }
        let said = [&self.body, &self.body["message"], &self.body["error"]]
            .into_iter()
            .find_map(Json::as_str)
            .unwrap_or_default();
        let said = visible(said);
        Err(format!(
            "status {}{}{said}{}",
            self.status,
            if said.is_empty() { "" } else { ": " },
            self.hint
        ))
    }
}
