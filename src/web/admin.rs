//! Who may change something: whoever sends the administrator's token. Where none is configured, a request from this machine.

use std::net::SocketAddr;

use axum::extract::{ConnectInfo, FromRequestParts};
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use subtle::ConstantTimeEq;

use crate::config::Secret;

use super::Context;
use super::error::ApiError;

/// Headers that a proxy adds: what it brings does not come from this machine, wherever the proxy runs.
const FORWARDED: [&str; 4] = ["forwarded", "x-forwarded-for", "x-real-ip", "via"];

/// Passes when `Authorization: Bearer TOKEN` carries the administrator's token; without a configured token nobody passes.
pub fn check(token: Option<&Secret>, headers: &HeaderMap) -> Result<(), ApiError> {
    let Some(token) = token.filter(|t| !t.is_empty()) else {
        return Err(ApiError::new(
            StatusCode::FORBIDDEN,
            "only for an administrator, and none is configured: set web.admin_token or web.admin_token_file",
        ));
    };
    let sent = headers.get(AUTHORIZATION).and_then(|v| v.to_str().ok()).and_then(bearer).unwrap_or("");
    if bool::from(sent.as_bytes().ct_eq(token.expose().as_bytes())) {
        return Ok(());
    }
    Err(ApiError::new(StatusCode::UNAUTHORIZED, "only for an administrator: send Authorization: Bearer TOKEN"))
}

/// The token of `Bearer TOKEN`; the scheme's case does not matter (RFC 9110, 11.1).
fn bearer(header: &str) -> Option<&str> {
    let (scheme, token) = header.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// A request that may change something.
pub struct Writer;

impl FromRequestParts<Context> for Writer {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, context: &Context) -> Result<Self, ApiError> {
        let peer = parts.extensions.get::<ConnectInfo<SocketAddr>>().map(|info| info.0);
        may_write(context.settings().admin_token.as_ref(), &parts.headers, peer).map(|()| Writer)
    }
}

fn may_write(token: Option<&Secret>, headers: &HeaderMap, peer: Option<SocketAddr>) -> Result<(), ApiError> {
    if token.is_some_and(|t| !t.is_empty()) {
        return check(token, headers);
    }
    let forwarded = FORWARDED.iter().any(|name| headers.contains_key(*name));
    if !forwarded && peer.is_some_and(|peer| peer.ip().to_canonical().is_loopback()) {
        return Ok(());
    }
    Err(ApiError::new(
        StatusCode::FORBIDDEN,
        "changes are taken from this machine only: set web.admin_token or web.admin_token_file, and send Authorization: Bearer TOKEN",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (axum::http::HeaderName::from_static(name), value.parse().expect("a header"))).collect()
    }

    fn status(token: Option<&str>, header: Option<&str>) -> Option<StatusCode> {
        let headers = headers(&header.map(|value| ("authorization", value)).into_iter().collect::<Vec<_>>());
        check(token.map(Secret::new).as_ref(), &headers).err().map(|e| e.status)
    }

    /// P1: the detailed health is for an administrator only.
    #[test]
    fn only_the_configured_token_passes() {
        assert_eq!(status(Some("t0ken"), Some("Bearer t0ken")), None);
        assert_eq!(status(Some("t0ken"), Some("bearer  t0ken")), None);
        assert_eq!(status(Some("t0ken"), Some("Basic t0ken")), Some(StatusCode::UNAUTHORIZED));
        assert_eq!(status(Some("t0ken"), Some("Bearer other")), Some(StatusCode::UNAUTHORIZED));
        assert_eq!(status(Some("t0ken"), None), Some(StatusCode::UNAUTHORIZED));
        assert_eq!(status(None, Some("Bearer ")), Some(StatusCode::FORBIDDEN));
        assert_eq!(status(Some(""), Some("Bearer ")), Some(StatusCode::FORBIDDEN));
    }

    #[test]
    fn changes_need_the_token_or_where_there_is_none_this_machine() {
        let write = |token: Option<&str>, sent: &[(&'static str, &str)], peer: &str| {
            let peer = peer.parse().ok();
            may_write(token.map(Secret::new).as_ref(), &headers(sent), peer).err().map(|e| e.status)
        };
        for local in ["127.0.0.1:5000", "[::1]:5000", "[::ffff:127.0.0.1]:5000"] {
            assert_eq!(write(None, &[], local), None, "{local}");
            assert_eq!(write(Some(""), &[], local), None, "{local}");
            assert_eq!(write(Some("t0ken"), &[], local), Some(StatusCode::UNAUTHORIZED), "{local}");
            assert_eq!(write(None, &[("x-forwarded-for", "192.0.2.1")], local), Some(StatusCode::FORBIDDEN), "{local}");
        }
        for stranger in ["192.0.2.1:5000", "[2001:db8::1]:5000", "unknown"] {
            assert_eq!(write(None, &[], stranger), Some(StatusCode::FORBIDDEN), "{stranger}");
            assert_eq!(write(Some("t0ken"), &[("authorization", "Bearer t0ken")], stranger), None, "{stranger}");
        }
    }
}
