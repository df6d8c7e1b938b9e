//! A slash at the end of a path: Alertmanager's API takes it, Prometheus redirects to the path
//! without it. So do the routes here.

use axum::Router;
use axum::extract::{OriginalUri, Request, State};
use axum::http::header::{ALLOW, LOCATION};
use axum::http::{Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, any};
use tower::ServiceExt as _;

use crate::web::Context;

/// A route that is there with a slash at its end as well.
pub fn with_or_without(path: &str, handler: MethodRouter<Context>) -> Router<Context> {
    Router::new()
        .route(&format!("{path}/"), handler.clone())
        .route(path, handler)
}

/// Answers what no route takes: by a redirect where the path without its last slash is one of
/// `routes`, else by `not_found`.
pub fn redirecting(routes: Router<Context>, not_found: fn() -> Response) -> MethodRouter<Context> {
    any(
        async move |State(context): State<Context>,
                    OriginalUri(original): OriginalUri,
                    request: Request| {
            let (method, uri) = (request.method().clone(), request.uri().clone());
            let (Some(target), Some(inner)) = (without_slash(&original), without_slash(&uri))
            else {
                return not_found();
            };
            if takes(routes.with_state(context), inner, &method).await {
                redirect(&method, target)
            } else {
                not_found()
            }
        },
    )
}

/// The path and query without the slash at the end. One that begins with two slashes would lead to
/// another host.
fn without_slash(uri: &Uri) -> Option<String> {
    let path = uri
        .path()
        .strip_suffix('/')
        .filter(|path| path.starts_with('/') && !path.starts_with("//"))?;
    Some(
        uri.query()
            .map_or_else(|| path.to_owned(), |query| format!("{path}?{query}")),
    )
}

/// Whether a path takes a method. It is asked with a method that none takes, so that nothing is
/// done.
async fn takes(routes: Router, path: String, method: &Method) -> bool {
    let Ok(request) = Request::builder()
        .method("NONE")
        .uri(path)
        .body(axum::body::Body::empty())
    else {
        return false;
    };
    let answer = match routes.oneshot(request).await {
        Ok(answer) => answer,
        Err(never) => match never {},
    };
    let allowed = answer
        .headers()
        .get(ALLOW)
        .and_then(|allowed| allowed.to_str().ok())
        .unwrap_or("");
    answer.status() == StatusCode::METHOD_NOT_ALLOWED
        && allowed.split(',').any(|one| one.trim() == method.as_str())
}

/// As Prometheus redirects: a GET may become another one, whatever has a body comes again.
fn redirect(method: &Method, target: String) -> Response {
    let status = if *method == Method::GET {
        StatusCode::MOVED_PERMANENTLY
    } else {
        StatusCode::TEMPORARY_REDIRECT
    };
    (status, [(LOCATION, target)]).into_response()
}
