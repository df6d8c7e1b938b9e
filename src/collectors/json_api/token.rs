//! Tokens that expire: from a login, or from a program that prints one. A token is renewed shortly
//! before its end, and once when it is refused.
//!
//! A login that was refused is not repeated at once: wrong passwords lock accounts.

use std::process::Stdio;
use std::time::{Duration, Instant};

use base64::Engine as _;
use bytes::Bytes;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::AsyncReadExt as _;
use tokio::process::Command;
use url::Url;

use crate::config::Secret;
use crate::http::{Client, HeaderMap, HeaderName, HeaderValue, HttpErrorKind, Method, Request};
use crate::model::Timestamp;

use super::document::{Json, parse};
use super::path::Path;

/// A token is renewed this long before its end, or after nine tenths of its life.
const EARLY: Duration = Duration::from_secs(30);
/// Most of a login's answer and of a program's output, in bytes.
const MAX_ANSWER: usize = 1 << 20;
/// How long a refused login is left alone: so long first, then twice as long each time, so long at
/// most.
const PAUSE: Duration = Duration::from_secs(60);
const MAX_PAUSE: Duration = Duration::from_secs(15 * 60);
/// Numbers from here on are a time since 1970, below a number of seconds.
const FIRST_TIME: f64 = 1e9;
/// Numbers from here on are milliseconds.
const FIRST_MILLIS: f64 = 1e11;
/// What a program has of our environment.
const VARIABLES: [&str; 8] = [
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "LANG",
    "TZ",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
];

/// Where tokens come from.
pub enum Source {
    /// A request.
    Login(Box<Login>),
    /// A program, its name first, then its arguments.
    Command(Vec<String>),
}

/// A request that gives a token.
pub struct Login {
    /// A client without credentials.
    pub client: Client,
    /// Where.
    pub url: Url,
    /// POST by default.
    pub method: Method,
    /// With the content type of the body.
    pub headers: HeaderMap,
    /// Its body, which is secret.
    pub body: Bytes,
    /// Where the token is in the answer.
    pub token: Path,
    /// Where the answer says when the token expires: seconds, a Unix time or an RFC 3339 time.
    pub expires: Option<Path>,
}

/// The header that carries the token: what stands before and behind it.
pub struct Carrier {
    /// Its name.
    pub header: HeaderName,
    /// Before the token.
    pub before: String,
    /// Behind it.
    pub behind: String,
}

/// Why there is no token. The texts are few: they label a series.
#[derive(Debug, Clone, thiserror::Error)]
pub enum TokenError {
    /// Credentials that the login does not take.
    #[error("{0}")]
    Refused(String),
    /// No answer, or none that is a login's.
    #[error("{0}")]
    Failed(String),
}

struct Token {
    value: HeaderValue,
    end: Option<Timestamp>,
    renew: Option<Instant>,
}

/// The tokens of one endpoint.
pub struct Tokens {
    source: Source,
    carrier: Carrier,
    token: Option<Token>,
    /// When the login may be asked again, and why it was refused.
    pause: Option<(Instant, Duration, TokenError)>,
    renewals: u64,
}

impl Tokens {
    /// Without a token yet.
    pub fn new(source: Source, carrier: Carrier) -> Self {
        Tokens {
            source,
            carrier,
            token: None,
            pause: None,
            renewals: 0,
        }
    }

    /// The header of a request that is sent now.
    pub async fn header(
        &mut self,
        timeout: Duration,
    ) -> Result<(HeaderName, HeaderValue), TokenError> {
        if self
            .token
            .as_ref()
            .is_some_and(|token| token.renew.is_some_and(|at| Instant::now() >= at))
        {
            self.token = None;
        }
        if self.token.is_none() {
            self.token = Some(self.renew(timeout).await?);
            self.renewals += 1;
        }
        let value = self.token.as_ref().map(|token| token.value.clone());
        value
            .map(|value| (self.carrier.header.clone(), value))
            .ok_or_else(|| TokenError::Failed("login: no token".into()))
    }

    /// The token was refused: the next request gets another one.
    pub fn forget(&mut self) {
        self.token = None;
    }

    /// A new token was refused, too: another one would be no better.
    pub fn give_up(&mut self, error: TokenError) {
        let pause = self
            .pause
            .as_ref()
            .map_or(PAUSE, |(_, before, _)| (*before * 2).min(MAX_PAUSE));
        self.pause = Some((Instant::now() + pause, pause, error));
    }

    /// The token was taken.
    pub fn taken(&mut self) {
        self.pause = None;
    }

    /// Tokens that were given so far.
    pub fn renewals(&self) -> u64 {
        self.renewals
    }

    /// When the present token expires, where that is known.
    pub fn end(&self) -> Option<Timestamp> {
        self.token.as_ref()?.end
    }

    async fn renew(&mut self, timeout: Duration) -> Result<Token, TokenError> {
        if let Some((until, _, error)) = &self.pause
            && Instant::now() < *until
        {
            return Err(error.clone());
        }
        let given = match &self.source {
            Source::Login(login) => login.ask(timeout).await,
            Source::Command(program) => ran(program, timeout).await.map(|text| (text, None)),
        };
        if let Err(error @ TokenError::Refused(_)) = &given {
            self.give_up(error.clone());
        }
        let (text, end) = given?;
        let text = text.expose();
        let end = end.or_else(|| end_of_jwt(text));
        let left = end.map(|end| end.since(Timestamp::now()));
        let value = HeaderValue::from_str(&format!(
            "{}{text}{}",
            self.carrier.before, self.carrier.behind
        ));
        let mut value = value.map_err(|_| {
            TokenError::Failed(
                "login: the token holds characters that a header cannot carry".into(),
            )
        })?;
        value.set_sensitive(true);
        // One that has hardly any time left is used as it is: the clocks may differ.
        let renew = left
            .filter(|left| !left.is_zero())
            .map(|left| Instant::now() + left.saturating_sub(EARLY).max(left.mul_f64(0.9)));
        Ok(Token { value, end, renew })
    }
}

impl Login {
    async fn ask(&self, timeout: Duration) -> Result<(Secret, Option<Timestamp>), TokenError> {
        let request = Request {
            method: self.method.clone(),
            url: self.url.clone(),
            headers: self.headers.clone(),
            body: self.body.clone(),
            timeout,
            max_body: MAX_ANSWER,
        };
        let answer = self.client.send(request).await.map_err(|error| {
            let what = if error.kind == HttpErrorKind::Connect {
                error.message
            } else {
                error.kind.as_str().to_owned()
            };
            TokenError::Failed(format!("login: {what}"))
        })?;
        match answer.status {
            200..=299 => {}
            status @ (400 | 401 | 403 | 422) => {
                return Err(TokenError::Refused(format!("login: status {status}")));
            }
            status => return Err(TokenError::Failed(format!("login: status {status}"))),
        }
        let json = parse(&answer.body)
            .map_err(|problem| TokenError::Failed(format!("login: {problem}")))?;
        let token = match self.token.find(&json) {
            Some(Json::Text(token)) if !token.is_empty() => Secret::new(token.clone()),
            // Some answer 200 and say in the body that the password is wrong.
            _ => {
                return Err(TokenError::Refused(
                    "login: the answer holds no token".into(),
                ));
            }
        };
        let now = Timestamp::now();
        let end = self
            .expires
            .as_ref()
            .and_then(|path| path.find(&json))
            .and_then(|value| end_of(value, now));
        Ok((token, end))
    }
}

fn end_of(value: &Json<'_>, now: Timestamp) -> Option<Timestamp> {
    let number = match value {
        Json::Number(number) => *number,
        Json::Text(text) => match text.trim().parse() {
            Ok(number) => number,
            Err(_) => return Timestamp::parse_rfc3339(text.trim()),
        },
        _ => return None,
    };
    match number {
        n if !n.is_finite() || n <= 0.0 => None,
        n if n >= FIRST_MILLIS => Some(Timestamp(n as i64)),
        n if n >= FIRST_TIME => Some(Timestamp::from_seconds(n)),
        n => Some(now + Duration::from_secs_f64(n)),
    }
}

/// `exp` of a JSON Web Token (RFC 7519), which is not verified here.
fn end_of_jwt(token: &str) -> Option<Timestamp> {
    let mut parts = token.split('.');
    let (_, claims, _) = (parts.next()?, parts.next()?, parts.next()?);
    let claims = base64::engine::general_purpose::URL_SAFE_NO_PAD
        .decode(claims.trim_end_matches('='))
        .ok()?;
    match parse(&claims).ok()?.get("exp")? {
        Json::Number(exp) if *exp > FIRST_TIME && *exp < FIRST_MILLIS => {
            Some(Timestamp::from_seconds(*exp))
        }
        _ => None,
    }
}

/// Runs the program and takes what it prints. Its errors are its own: they may quote the token.
async fn ran(program: &[String], timeout: Duration) -> Result<Secret, TokenError> {
    let failed = |what: String| TokenError::Failed(format!("token_command: {what}"));
    let (name, arguments) = program
        .split_first()
        .ok_or_else(|| failed("is empty".into()))?;
    let mut command = Command::new(name);
    command
        .args(arguments)
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    command
        .envs(
            VARIABLES
                .iter()
                .filter_map(|name| Some((name, std::env::var_os(name)?))),
        )
        .process_group(0)
        .kill_on_drop(true);
    let mut child = command
        .spawn()
        .map_err(|error| failed(format!("cannot be started: {}", error.kind())))?;
    let mut group = Group(
        child
            .id()
            .and_then(|id| Pid::from_raw(i32::try_from(id).ok()?)),
    );
    let mut output = Vec::new();
    let run = async {
        if let Some(stdout) = child.stdout.take() {
            let mut bounded = stdout.take(MAX_ANSWER as u64);
            bounded.read_to_end(&mut output).await?;
        }
        child.wait().await
    };
    let status = match tokio::time::timeout(timeout, run).await {
        Ok(status) => status.map_err(|error| failed(error.kind().to_string()))?,
        Err(_) => return Err(failed("did not end in time".into())),
    };
    group.0 = None;
    if !status.success() {
        return Err(failed(
            status
                .code()
                .map_or("was ended by a signal".into(), |code| {
                    format!("exit status {code}")
                }),
        ));
    }
    let text = std::str::from_utf8(&output)
        .map(str::trim)
        .unwrap_or_default();
    if text.is_empty() {
        Err(failed("printed no token".into()))
    } else {
        Ok(Secret::new(text))
    }
}

/// The program's process group: all of it ends when nobody waits any longer.
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            // One that is gone already cannot be signalled, which is as good.
            let _gone = kill_process_group(group, Signal::KILL);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_read_in_every_usual_form() {
        let now = Timestamp(1_700_000_000_000);
        let text = |text: &str| Json::Text(text.to_owned().into());
        for (value, wanted) in [
            (Json::Number(3600.0), Some(1_700_003_600_000)),
            (text("3600"), Some(1_700_003_600_000)),
            (Json::Number(1_700_000_060.0), Some(1_700_000_060_000)),
            (Json::Number(1_700_000_060_000.0), Some(1_700_000_060_000)),
            (text("2023-11-14T22:14:20Z"), Some(1_700_000_060_000)),
            (Json::Number(-1.0), None),
            (text("soon"), None),
            (Json::Null, None),
        ] {
            assert_eq!(end_of(&value, now), wanted.map(Timestamp), "{value:?}");
        }
        let claims = base64::engine::general_purpose::URL_SAFE_NO_PAD
            .encode(r#"{"sub":"a","exp":1700000060}"#);
        assert_eq!(
            end_of_jwt(&format!("e30.{claims}.sig")),
            Some(Timestamp(1_700_000_060_000))
        );
        assert_eq!(end_of_jwt("opaque"), None);
        assert_eq!(end_of_jwt("a.b.c"), None);
    }
}
