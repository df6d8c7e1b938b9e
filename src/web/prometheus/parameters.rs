//! Parameters of a request: the URL's query, merged with a form body.

use std::time::Duration;

use axum::extract::{FromRequest, Request};
use axum::http::header::CONTENT_TYPE;

use crate::model::{Matcher, Timestamp, parse_duration};
use crate::promql;

use super::answer::Problem;

/// Greatest form body, in bytes.
const MAX_FORM: usize = 4 << 20;

/// All parameters, repeated ones included, the form's first as Go's `ParseForm` orders them.
pub struct Parameters(Vec<(String, String)>);

impl<S: Send + Sync> FromRequest<S> for Parameters {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        let query = request.uri().query().unwrap_or("").to_owned();
        let is_form = request
            .headers()
            .get(CONTENT_TYPE)
            .and_then(|v| v.to_str().ok())
            .is_some_and(|t| t.starts_with("application/x-www-form-urlencoded"));
        let mut pairs = Vec::new();
        if is_form {
            let body = axum::body::to_bytes(request.into_body(), MAX_FORM).await.map_err(|_| Problem::bad_data("the form is too large"))?;
            pairs.extend(url::form_urlencoded::parse(&body).into_owned());
        }
        pairs.extend(url::form_urlencoded::parse(query.as_bytes()).into_owned());
        Ok(Parameters(pairs))
    }
}

impl Parameters {
    /// The first value of `name`; an empty one counts as absent.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str()).filter(|v| !v.is_empty())
    }

    /// Every value of `name`.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    /// Unix seconds or RFC 3339.
    pub fn time(&self, name: &str) -> Result<Option<Timestamp>, Problem> {
        self.get(name)
            .map(|text| parse_time(text).ok_or_else(|| Problem::parameter(name, format!("cannot parse {text:?} to a valid timestamp"))))
            .transpose()
    }

    /// Seconds or `5m`.
    pub fn duration(&self, name: &str) -> Result<Option<Duration>, Problem> {
        self.get(name)
            .map(|text| {
                let seconds =
                    text.parse::<f64>().ok().filter(|s| s.is_finite()).map(|s| Duration::try_from_secs_f64(s).unwrap_or(Duration::ZERO));
                seconds
                    .or_else(|| parse_duration(text).ok())
                    .ok_or_else(|| Problem::parameter(name, format!("cannot parse {text:?} to a valid duration")))
            })
            .transpose()
    }

    /// `limit`: 0 for none.
    pub fn limit(&self) -> Result<usize, Problem> {
        self.get("limit").map_or(Ok(0), |text| text.parse().map_err(|_| Problem::parameter("limit", "limit must be non-negative")))
    }

    /// `query`, parsed.
    pub fn query(&self) -> Result<(&str, promql::Expr), Problem> {
        let text = self.get("query").unwrap_or("");
        promql::parse(text).map(|expr| (text, expr)).map_err(|e| Problem::parameter("query", e))
    }

    /// Every `match[]` as matchers.
    pub fn matchers(&self) -> Result<Vec<Vec<Matcher>>, Problem> {
        self.all("match[]").map(|text| promql::parse_selector(text).map_err(|e| Problem::parameter("match[]", e))).collect()
    }
}

fn parse_time(text: &str) -> Option<Timestamp> {
    match text.parse::<f64>() {
        Ok(seconds) if seconds.is_finite() && seconds.abs() < 1e15 => Some(Timestamp::from_seconds(seconds)),
        Ok(_) => None,
        Err(_) => Timestamp::parse_rfc3339(text),
    }
}
