//! The listening side: each connection within bounds of time and number, so that clients that send nothing, or read nothing, cost only
//! themselves.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::ConnectInfo;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use prometheus_client::metrics::counter::Counter;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tracing::{debug, warn};

use super::admin::{LocalEnd, LoggedIn};
use super::tls::Gate;
use crate::telemetry::Telemetry;

/// What the server refuses to exceed.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections held at once; the next ones wait in the kernel's queue.
    pub connections: usize,
    /// Longest wait for the head of a request, and so the longest that a kept connection may idle.
    pub head: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { connections: 512, head: Duration::from_secs(10) }
    }
}

/// Longest time, in milliseconds, that a client may leave what was sent to it unread.
const UNREAD_MS: u32 = 60_000;
/// Pause after the kernel refused a connection, for want of file descriptors.
const PAUSE: Duration = Duration::from_millis(200);

/// What the server counts about itself.
#[derive(Clone, Default)]
pub struct Metrics {
    accepted: Counter,
    full: Counter,
    /// Requests that were turned away because too many of their kind were being answered.
    pub refused: Counter,
}

impl Metrics {
    /// Registers them.
    pub fn register(telemetry: &Telemetry) -> Self {
        let metrics = Metrics::default();
        telemetry.register(|registry| {
            registry.register("http_connections", "Connections that the web server has accepted.", metrics.accepted.clone());
            registry.register("http_connections_full", "Times that all connections of the web server were taken.", metrics.full.clone());
            registry.register(
                "http_concurrency_limit_exceeded",
                "Requests turned away with 503 by a limit of their number.",
                metrics.refused.clone(),
            );
        });
        metrics
    }
}

/// Serves until `stop` ends, then lets the answers under way finish.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    gate: Arc<Gate>,
    limits: Limits,
    metrics: Metrics,
    stop: impl Future<Output = ()> + Send,
) -> io::Result<()> {
    let seats = Arc::new(Semaphore::new(limits.connections));
    let connections = GracefulShutdown::new();
    let listens = listener.local_addr()?;
    let mut stop = pin!(stop);
    loop {
        if seats.available_permits() == 0 {
            metrics.full.inc();
            warn!(connections = limits.connections, "All connections of the web server are taken; new ones wait.");
        }
        let next = async {
            let seat = seats.clone().acquire_owned().await.map_err(io::Error::other)?;
            listener.accept().await.map(|(stream, peer)| (stream, peer, seat))
        };
        let accepted = tokio::select! {
            () = &mut stop => break,
            accepted = next => accepted,
        };
        let (stream, peer, seat) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                warn!(%error, "A connection could not be accepted.");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        metrics.accepted.inc();
        prepare(&stream);
        let routes = TowerToHyperService::new(router.clone());
        let local = LocalEnd { address: stream.local_addr().unwrap_or(listens), listens, tls: gate.is_encrypted() };
        let (gate, watcher) = (gate.clone(), connections.watcher());
        tokio::spawn(async move {
            let (stream, identified) = match gate.enter(stream, limits.head).await {
                Ok(entered) => entered,
                // Clients that speak something else, or are not let in, are part of life.
                Err(error) => {
                    debug!(%error, "A handshake failed.");
                    return;
                }
            };
            let service = service_fn(move |mut request: Request<Incoming>| {
                let extensions = request.extensions_mut();
                extensions.insert(ConnectInfo(peer));
                extensions.insert(local);
                if identified {
                    extensions.insert(LoggedIn);
                }
                routes.call(request)
            });
            let served = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(limits.head)
                .serve_connection(TokioIo::new(stream), service);
            if let Err(error) = watcher.watch(served).await {
                // Clients that go away are part of life.
                debug!(%error, "A connection ended early.");
            }
            drop(seat);
        });
    }
    connections.shutdown().await;
    Ok(())
}

/// Small answers at once, and no endless wait for a client that stops reading. A kernel that cannot do either serves all the same.
fn prepare(stream: &TcpStream) {
    if let Err(error) = stream.set_nodelay(true) {
        debug!(%error, "TCP_NODELAY was refused.");
    }
    if let Err(error) = rustix::net::sockopt::set_tcp_user_timeout(stream, UNREAD_MS) {
        debug!(%error, "TCP_USER_TIMEOUT was refused.");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    /// A client that never ends its request holds a place for a bounded time only, and then the next one is served.
    #[tokio::test]
    async fn a_client_that_sends_no_request_is_sent_away() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("its address");
        let router = Router::new().route("/", axum::routing::get(async || "served"));
        let limits = Limits { connections: 1, head: Duration::from_millis(50) };
        let metrics = Metrics::default();
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let server = tokio::spawn(serve(listener, router, Gate::open(None).expect("no file"), limits, metrics.clone(), async {
            drop(stopped.await)
        }));
        let mut silent = TcpStream::connect(address).await.expect("connected");
        silent.write_all(b"GET / HTTP/1.1\r\nHost: ").await.expect("sent");
        let mut rest = Vec::new();
        drop(silent.read_to_end(&mut rest).await);
        assert!(!String::from_utf8_lossy(&rest).contains("200 OK"));
        let mut next = TcpStream::connect(address).await.expect("connected");
        next.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await.expect("sent");
        let mut answer = String::new();
        next.read_to_string(&mut answer).await.expect("answered");
        assert!(answer.ends_with("served"), "{answer}");
        assert!(metrics.full.get() >= 1 && metrics.accepted.get() == 2);
        stop.send(()).expect("it still serves");
        server.await.expect("it ends").expect("well");
    }
}
