//! `/silences` and `/silence/{id}`: made, changed, shown and ended. A silence is in the state
//! database before it mutes.

use std::collections::BTreeMap;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json as Answer, Router};
use serde::Deserialize;
use serde_json::{Value as Json, json};

use crate::alerting::{Silence, SilenceError, SilenceState};
use crate::model::{MatchOp, Matcher, Timestamp};

use super::super::Context;
use super::super::admin::Writer;
use super::answer::{Body, Problem, time};
use super::filter::Parameters;
use crate::web::server::slash::with_or_without;

/// The routes of this file.
pub fn routes() -> Router<Context> {
    with_or_without("/silences", get(list).post(set))
        .merge(with_or_without("/silence/{id}", get(show).delete(expire)))
}

impl From<SilenceError> for Problem {
    fn from(error: SilenceError) -> Self {
        let status = match error {
            SilenceError::Invalid(_) => StatusCode::BAD_REQUEST,
            SilenceError::NotFound(_) => StatusCode::NOT_FOUND,
            SilenceError::State(_) | SilenceError::Stopped => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Problem::Refused(status, error.to_string())
    }
}

/// SEMANTICS 192: active ones by their end, pending ones by their start, then expired ones, the
/// latest first.
async fn list(
    State(context): State<Context>,
    parameters: Parameters,
) -> Result<Answer<Vec<Json>>, Problem> {
    let (now, wanted) = (Timestamp::now(), parameters.matchers("filter")?);
    let mut silences = context.alerting.silences();
    silences.retain(|silence| {
        parameters.switch(silence.state(now).as_str())
            && wanted.iter().all(|m| silence.matchers.contains(m))
    });
    silences.sort_by_key(|silence| match silence.state(now) {
        SilenceState::Active => (0, silence.ends_at.0),
        SilenceState::Pending => (1, silence.starts_at.0),
        SilenceState::Expired => (2, -silence.ends_at.0),
    });
    Ok(Answer(
        silences
            .iter()
            .map(|silence| silence_json(silence, now))
            .collect(),
    ))
}

async fn show(
    State(context): State<Context>,
    Path(id): Path<String>,
) -> Result<Answer<Json>, Problem> {
    check_id(&id)?;
    let silence = context.alerting.silence(&id).ok_or(Problem::NotFound)?;
    Ok(Answer(silence_json(&silence, Timestamp::now())))
}

async fn expire(
    State(context): State<Context>,
    _: Writer,
    Path(id): Path<String>,
) -> Result<(), Problem> {
    check_id(&id)?;
    match context.alerting.expire_silence(&id).await {
        Err(SilenceError::NotFound(_)) => Err(Problem::NotFound),
        result => Ok(result?),
    }
}

async fn set(
    State(context): State<Context>,
    _: Writer,
    Body(posted): Body<Posted>,
) -> Result<Answer<Json>, Problem> {
    let silence = posted.read()?;
    Ok(Answer(
        json!({ "silenceID": context.alerting.set_silence(silence).await? }),
    ))
}

fn check_id(id: &str) -> Result<(), Problem> {
    let parts: Vec<usize> = id.split('-').map(str::len).collect();
    if parts == [8, 4, 4, 4, 12] && id.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-') {
        return Ok(());
    }
    Err(Problem::form(
        601,
        format!("silenceID in path must be of type uuid: {id:?}"),
    ))
}

/// A silence as it is posted.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Posted {
    #[serde(default)]
    id: Option<String>,
    matchers: Option<Vec<PostedMatcher>>,
    starts_at: Option<String>,
    ends_at: Option<String>,
    created_by: Option<String>,
    comment: Option<String>,
    #[serde(default)]
    annotations: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PostedMatcher {
    name: Option<String>,
    value: Option<String>,
    is_regex: Option<bool>,
    #[serde(default)]
    is_equal: Option<bool>,
}

impl Posted {
    fn read(self) -> Result<Silence, Problem> {
        let comment = self.comment.ok_or_else(|| Problem::missing("comment"))?;
        let created_by = self
            .created_by
            .ok_or_else(|| Problem::missing("createdBy"))?;
        let ends_at = self.ends_at.ok_or_else(|| Problem::missing("endsAt"))?;
        let matchers = self.matchers.ok_or_else(|| Problem::missing("matchers"))?;
        let starts_at = self.starts_at.ok_or_else(|| Problem::missing("startsAt"))?;
        if matchers.is_empty() {
            return Err(Problem::form(
                612,
                "matchers in body should have at least 1 items",
            ));
        }
        Ok(Silence {
            id: self.id.unwrap_or_default(),
            matchers: matchers
                .into_iter()
                .enumerate()
                .map(|(i, m)| m.read(i))
                .collect::<Result<_, _>>()?,
            starts_at: time("startsAt", Some(&starts_at))?.unwrap_or(Timestamp(0)),
            ends_at: time("endsAt", Some(&ends_at))?.unwrap_or(Timestamp(0)),
            updated_at: Timestamp::now(),
            created_by,
            comment,
            annotations: self.annotations.unwrap_or_default().into_iter().collect(),
        })
    }
}

impl PostedMatcher {
    fn read(self, index: usize) -> Result<Matcher, Problem> {
        let missing = |name: &str| Problem::missing(&format!("matchers.{index}.{name}"));
        let name = self.name.ok_or_else(|| missing("name"))?;
        let value = self.value.ok_or_else(|| missing("value"))?;
        let op = match (
            self.is_regex.ok_or_else(|| missing("isRegex"))?,
            self.is_equal.unwrap_or(true),
        ) {
            (false, true) => MatchOp::Equal,
            (false, false) => MatchOp::NotEqual,
            (true, true) => MatchOp::Regex,
            (true, false) => MatchOp::NotRegex,
        };
        Matcher::new(&name, op, &value).map_err(|e| {
            Problem::bad(format!(
                "invalid silence: invalid label matcher {index}: {e}"
            ))
        })
    }
}

fn silence_json(silence: &Silence, now: Timestamp) -> Json {
    let matcher = |m: &Matcher| {
        let (is_equal, is_regex) = (
            matches!(m.op, MatchOp::Equal | MatchOp::Regex),
            matches!(m.op, MatchOp::Regex | MatchOp::NotRegex),
        );
        json!({ "isEqual": is_equal, "isRegex": is_regex, "name": m.name, "value": m.value })
    };
    let matchers: Vec<Json> = silence.matchers.iter().map(matcher).collect();
    let annotations: BTreeMap<&str, &str> = silence
        .annotations
        .iter()
        .map(|(n, v)| (n.as_str(), v.as_str()))
        .collect();
    let mut shown = json!({
        "id": silence.id, "status": { "state": silence.state(now).as_str() }, "updatedAt": silence.updated_at.rfc3339(), "comment": silence.comment, "createdBy": silence.created_by,
        "endsAt": silence.ends_at.rfc3339(), "matchers": matchers, "startsAt": silence.starts_at.rfc3339(),
    });
    if !annotations.is_empty() {
        shown["annotations"] = json!(annotations);
    }
    shown
}
