//! The listening side: each connection within bounds of time and number, so that clients that send
//! nothing, or read nothing, cost only themselves.

use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::extract::ConnectInfo;
use hyper::Request;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use prometheus_client::metrics::counter::Counter;
use tokio::net::{TcpListener, TcpStream};
use tracing::{debug, warn};

use super::connections::{Admission, Connections, Slot};
use super::stream::{MAX_HEAD, Stream};
use super::tls::Gate;
use crate::model::Budget;
use crate::telemetry::{Sparing, Telemetry};
use crate::web::admin::{LocalEnd, LoggedIn};

/// What the server refuses to exceed.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections held at once; each address has a share of them.
    pub connections: usize,
    /// Longest wait for the head of a request, and so the longest that a kept connection may idle.
    pub head: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            connections: 512,
            head: Duration::from_secs(10),
        }
    }
}

/// Connections where answers of language models are passed on, each of which takes one as long as
/// it lasts.
const WITH_STREAMS: usize = 2048;

impl Limits {
    /// The usual limits; with room for streams that are passed on.
    pub fn with_streams(has_streams: bool) -> Self {
        let usual = Limits::default();
        if has_streams {
            Limits {
                connections: WITH_STREAMS,
                ..usual
            }
        } else {
            usual
        }
    }
}

/// Longest time, in milliseconds, that a client may leave what was sent to it unread.
const UNREAD_MS: u32 = 60_000;
/// Pause after the kernel refused a connection because no file descriptor was free.
const PAUSE: Duration = Duration::from_millis(200);

/// What the server counts about itself.
#[derive(Clone, Default)]
pub struct Metrics {
    accepted: Counter,
    full: Counter,
    sent_away: Counter,
    /// Requests that were turned away because too many of their kind were being answered.
    pub refused: Counter,
}

impl Metrics {
    /// Registers them.
    pub fn register(telemetry: &Telemetry) -> Self {
        let metrics = Metrics::default();
        telemetry.register(|registry| {
            registry.register("http_connections", "Connections that the web server has accepted.", metrics.accepted.clone());
            registry.register(
                "http_connections_full",
                "Connections that were closed at once because those of their address, or all of them, were taken.",
                metrics.full.clone(),
            );
            registry.register(
                "http_connections_displaced",
                "Connections without a request that were closed to make room for new ones.",
                metrics.sent_away.clone(),
            );
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
    budget: Arc<Budget>,
    metrics: Metrics,
    stop: impl Future<Output = ()> + Send,
) -> io::Result<()> {
    let connections = Connections::new(limits.connections);
    let (full, broken) = (Sparing::default(), Sparing::default());
    let graceful = GracefulShutdown::new();
    let listens = listener.local_addr()?;
    let mut stop = pin!(stop);
    loop {
        let accepted = tokio::select! {
            () = &mut stop => break,
            accepted = listener.accept() => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                if let Some(count) = broken.due() {
                    warn!(%error, count, "Connections could not be accepted.");
                }
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        metrics.accepted.inc();
        let admission = connections.admit(peer.ip());
        if !matches!(admission, Admission::In(_))
            && let Some(count) = full.due()
        {
            let (connections, last) = (limits.connections, peer.ip());
            warn!(connections, count, %last, "Connections of the web server are taken; the longest idle ones are closed.");
        }
        let slot = match admission {
            Admission::In(slot) => slot,
            Admission::InsteadOfAnother(slot) => {
                metrics.sent_away.inc();
                slot
            }
            Admission::Refused => {
                metrics.full.inc();
                continue;
            }
        };
        prepare(&stream);
        let local = LocalEnd {
            address: stream.local_addr().unwrap_or(listens),
            listens,
            tls: gate.is_encrypted(),
        };
        let (gate, budget, router, watcher) = (
            gate.clone(),
            budget.clone(),
            router.clone(),
            graceful.watcher(),
        );
        let slot = Arc::new(slot);
        tokio::spawn(async move {
            let served = async {
                let (stream, identified) = match gate.enter(stream, limits.head).await {
                    Ok(entered) => entered,
                    // Clients that speak something else, or are not let in, are part of life.
                    Err(error) => return debug!(%error, "A handshake failed."),
                };
                let (stream, head) = Stream::new(stream, &budget);
                let (routes, at) = (TowerToHyperService::new(router), Arc::clone(&slot));
                let service = service_fn(move |mut request: Request<Incoming>| {
                    at.busy();
                    let (held, long) = head.read(!request.is_end_stream());
                    let extensions = request.extensions_mut();
                    extensions.insert(ConnectInfo(peer));
                    extensions.insert(local);
                    extensions.insert(Arc::clone(&head));
                    if identified {
                        extensions.insert(LoggedIn);
                    }
                    if let Some(long) = long {
                        extensions.insert(long);
                    }
                    let (answer, head, at) =
                        (routes.call(request), Arc::clone(&head), Arc::clone(&at));
                    async move {
                        let answer = answer.await;
                        drop(held);
                        head.answered();
                        answer.map(|answer| answer.map(|body| Sent { body, at: Idle(at) }))
                    }
                });
                let served = http1::Builder::new()
                    .timer(TokioTimer::new())
                    .header_read_timeout(limits.head)
                    .max_buf_size(MAX_HEAD)
                    .serve_connection(TokioIo::new(stream), service);
                if let Err(error) = watcher.watch(served).await {
                    // Clients that go away are part of life.
                    debug!(%error, "A connection ended early.");
                }
            };
            tokio::select! {
                () = served => {}
                () = slot.sent_away() => debug!(%peer, "A connection without a request was closed to make room."),
            }
        });
    }
    // Nobody is let in any more; who is in hears the end of the answer.
    drop(listener);
    graceful.shutdown().await;
    Ok(())
}

/// A body; when it has been sent, or is given up, the connection waits for the next request.
struct Sent {
    body: axum::body::Body,
    at: Idle,
}

/// Says that a connection waits when it is dropped.
struct Idle(Arc<Slot>);

impl Drop for Idle {
    fn drop(&mut self) {
        self.0.waits();
    }
}

impl Body for Sent {
    type Data = axum::body::Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        task: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let _ = &self.at;
        Pin::new(&mut self.body).poll_frame(task)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Small answers at once, and no endless wait for a client that stops reading. A kernel that
/// supports neither serves requests as well.
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

    /// A client that never ends its request holds a slot for a bounded time only, and then the next
    /// one is served.
    #[tokio::test]
    async fn a_client_that_sends_no_request_is_sent_away() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("its address");
        let router = Router::new().route("/", axum::routing::get(async || "served"));
        let limits = Limits {
            connections: 1,
            head: Duration::from_millis(50),
        };
        let metrics = Metrics::default();
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let server = tokio::spawn(serve(
            listener,
            router,
            Gate::open(None).expect("no file"),
            limits,
            Budget::new(1 << 20),
            metrics.clone(),
            async { drop(stopped.await) },
        ));
        let mut silent = TcpStream::connect(address).await.expect("connected");
        silent
            .write_all(b"GET / HTTP/1.1\r\nHost: ")
            .await
            .expect("sent");
        let mut rest = Vec::new();
        drop(silent.read_to_end(&mut rest).await);
        assert!(!String::from_utf8_lossy(&rest).contains("200 OK"));
        let mut next = TcpStream::connect(address).await.expect("connected");
        next.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            .await
            .expect("sent");
        let mut answer = String::new();
        next.read_to_string(&mut answer).await.expect("answered");
        assert!(answer.ends_with("served"), "{answer}");
        assert_eq!(metrics.accepted.get(), 2);
        stop.send(()).expect("it still serves");
        server.await.expect("it ends").expect("well");
    }
}
