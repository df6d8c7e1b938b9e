//! Alertmanager's HTTP API v2
//! (<https://github.com/prometheus/alertmanager/blob/main/api/v2/openapi.yaml>), so that amtool,
//! Grafana and a Prometheus that sends its alerts here can use nightbell as an Alertmanager. API
//! v1, which Alertmanager itself dropped, is refused.

mod alerts;
mod answer;
mod filter;
mod groups;
mod receivers;
mod silences;
mod status;
mod uri;

use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::http::header::CACHE_CONTROL;
use axum::http::{HeaderValue, Method, Response, StatusCode};
use axum::middleware::{Next, from_fn};
use axum::response::IntoResponse as _;
use prometheus_client::metrics::counter::Counter;
use tokio::sync::Semaphore;
use tracing::warn;

use super::Context;
use super::error::ApiError;
use super::seats::{Class, Seats};
use crate::telemetry::Sparing;

/// Fewest GETs that are answered at once.
const GETS: usize = 8;

/// Every route below `/api/v2`; `refused` counts the GETs that are too many.
pub fn routes(seats: &Seats, refused: Counter) -> Router<Context> {
    let fresh = axum::middleware::map_response(async |mut response: Response<axum::body::Body>| {
        response
            .headers_mut()
            .insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        response
    });
    let router = Router::new()
        .merge(alerts::routes())
        .merge(groups::routes())
        .merge(silences::routes())
        .merge(receivers::routes())
        .merge(status::routes());
    let router = seats.over(Class::AlertsOrChange, router);
    limited(
        router,
        std::thread::available_parallelism().map_or(GETS, |cpus| cpus.get().max(GETS)),
        refused,
    )
    .layer(fresh)
}

/// Turns away GETs beyond `gets` at once, as Alertmanager does: requests that change something are
/// still answered.
fn limited<S: Clone + Send + Sync + 'static>(
    router: Router<S>,
    gets: usize,
    refused: Counter,
) -> Router<S> {
    let (seats, line) = (Arc::new(Semaphore::new(gets)), Arc::new(Sparing::default()));
    router.layer(from_fn(move |request: Request, next: Next| {
        let (seats, refused, line) = (seats.clone(), refused.clone(), line.clone());
        async move {
            if request.method() != Method::GET {
                return next.run(request).await;
            }
            let Ok(_seat) = seats.try_acquire() else {
                refused.inc();
                if let Some(count) = line.due() {
                    warn!(
                        gets,
                        count,
                        "Requests of the API were turned away because there were too many at once."
                    );
                }
                let text =
                    format!("limit of concurrent GET requests reached ({gets}), try again later");
                return ApiError::new(StatusCode::SERVICE_UNAVAILABLE, text).into_response();
            };
            next.run(request).await
        }
    }))
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;
    use crate::model::Budget;
    use crate::web::server::serve::{Limits, Metrics, serve};

    /// SEMANTICS 194: GETs beyond the limit are answered 503 and counted; POSTs are not limited; a
    /// seat that is left is free again.
    #[tokio::test]
    async fn gets_beyond_the_limit_are_turned_away() {
        let (begun, go) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
        let (inside, gate) = (begun.clone(), go.clone());
        let wait = async move || {
            inside.add_permits(1);
            gate.acquire().await.expect("open").forget();
            "served"
        };
        let refused = Counter::default();
        let router = limited(
            Router::new().route("/", get(wait).post(async || "changed")),
            2,
            refused.clone(),
        );
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("its address");
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let server = tokio::spawn(serve(
            listener,
            router,
            crate::web::server::tls::Gate::open(None).expect("no file"),
            Limits::default(),
            Budget::new(1 << 20),
            Metrics::default(),
            async { drop(stopped.await) },
        ));
        let ask = |method: &'static str| async move {
            let mut stream = TcpStream::connect(address).await.expect("connected");
            let head = format!(
                "{method} / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            );
            stream.write_all(head.as_bytes()).await.expect("sent");
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.expect("an answer");
            answer
        };
        let (first, second) = (tokio::spawn(ask("GET")), tokio::spawn(ask("GET")));
        begun
            .acquire_many(2)
            .await
            .expect("both are inside")
            .forget();
        let third = ask("GET").await;
        assert!(
            third.starts_with("HTTP/1.1 503")
                && third.contains("limit of concurrent GET requests reached (2)"),
            "{third}"
        );
        assert_eq!(refused.get(), 1);
        assert!(ask("POST").await.contains("changed"));
        go.add_permits(3);
        for answer in [first.await, second.await] {
            assert!(answer.expect("no panic").contains("served"));
        }
        assert!(
            ask("GET").await.contains("served"),
            "the seats are free again"
        );
        drop(stop);
        drop(server.await);
    }
}
