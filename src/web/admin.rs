//! Who is an administrator: whoever sends the configured token.

use axum::http::HeaderMap;
use axum::http::StatusCode;
use axum::http::header::AUTHORIZATION;
use subtle::ConstantTimeEq;

use crate::config::Secret;

use super::error::ApiError;

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

#[cfg(test)]
mod tests {
    use super::*;

    fn status(token: Option<&str>, header: Option<&str>) -> Option<StatusCode> {
        let mut headers = HeaderMap::new();
        if let Some(header) = header {
            headers.insert(AUTHORIZATION, header.parse().expect("a header"));
        }
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
}
