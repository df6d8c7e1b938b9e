//! `/picture`: the last hour of an alert's value, behind the signed link of a message; everybody
//! who has the message may see it, for a day.

use axum::Router;
use axum::extract::{Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde::Deserialize;

use super::Context;
use super::error::ApiError;
use crate::model::Timestamp;

/// The routes of this file.
pub fn routes() -> Router<Context> {
    Router::new().route("/picture", get(picture))
}

#[derive(Deserialize)]
struct Link {
    alert: String,
    since: i64,
    until: i64,
    token: String,
}

async fn picture(
    State(context): State<Context>,
    Query(link): Query<Link>,
) -> Result<Response, ApiError> {
    let now = Timestamp::now();
    let signed = u64::from_str_radix(&link.alert, 16).ok();
    let signed = signed.filter(|f| {
        context
            .alerting
            .may_see_picture(*f, link.since, link.until, &link.token)
    });
    let fingerprint = signed.ok_or_else(|| {
        ApiError::new(
            StatusCode::FORBIDDEN,
            "this link is not valid: open the one of the message",
        )
    })?;
    let gone = || {
        ApiError::new(
            StatusCode::GONE,
            "this link is too old, or the alert is over",
        )
    };
    if link.until < now.0 {
        return Err(gone());
    }
    let png = context
        .alerting
        .picture(fingerprint, link.since, now)
        .ok_or_else(gone)?;
    let headers = [
        (header::CONTENT_TYPE, "image/png"),
        (header::CACHE_CONTROL, "private, max-age=60"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
    ];
    Ok((headers, png).into_response())
}
