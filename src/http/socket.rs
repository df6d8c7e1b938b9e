//! Requests over a Unix socket, as container engines and Supervisor are asked: one connection for
//! each.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;

/// Why a request over a socket has no answer.
#[derive(Debug, thiserror::Error)]
#[error("{}: {problem}", socket.display())]
pub struct SocketError {
    socket: PathBuf,
    problem: Problem,
}

impl SocketError {
    /// Whether the answer did not come in time.
    pub fn is_timeout(&self) -> bool {
        matches!(self.problem, Problem::Timeout)
    }
}

#[derive(Debug, thiserror::Error)]
enum Problem {
    #[error(transparent)]
    Connect(#[from] io::Error),
    #[error(transparent)]
    Request(#[from] http::Error),
    #[error(transparent)]
    Exchange(#[from] hyper::Error),
    #[error("{0}")]
    Body(Box<dyn std::error::Error + Send + Sync>),
    #[error("timed out")]
    Timeout,
}

/// The status and the body of the answer to a GET.
///
/// # Errors
/// When the socket cannot be reached, the answer is not HTTP, its body is longer than `most` bytes,
/// or `timeout` passes.
pub async fn get_by_socket(
    socket: &Path,
    path: &str,
    timeout: Duration,
    most: usize,
) -> Result<(u16, Bytes), SocketError> {
    let request = http::Request::get(path).body(Bytes::new());
    let request = request.map_err(|error| SocketError {
        socket: socket.to_owned(),
        problem: error.into(),
    })?;
    send_by_socket(socket, request, timeout, most).await
}

/// The same for any request; `Host` and `Connection` are added.
///
/// # Errors
/// As [`get_by_socket`].
pub async fn send_by_socket(
    socket: &Path,
    request: http::Request<Bytes>,
    timeout: Duration,
    most: usize,
) -> Result<(u16, Bytes), SocketError> {
    let exchange = async {
        let stream = UnixStream::connect(socket).await?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let talk = async {
            let mut request = request.map(Full::new);
            let headers = request.headers_mut();
            headers.insert("Host", http::HeaderValue::from_static("localhost"));
            headers.insert("Connection", http::HeaderValue::from_static("close"));
            let response = sender.send_request(request).await?;
            let status = response.status().as_u16();
            let body = Limited::new(response.into_body(), most)
                .collect()
                .await
                .map_err(Problem::Body)?;
            Ok((status, body.to_bytes()))
        };
        // The connection is driven as long as the answer comes, and ends with it.
        tokio::select! {
            biased;
            answer = talk => answer,
            ended = drive(connection) => Err(Problem::Exchange(ended)),
        }
    };
    let answer = tokio::time::timeout(timeout, exchange)
        .await
        .unwrap_or(Err(Problem::Timeout));
    answer.map_err(|problem| SocketError {
        socket: socket.to_owned(),
        problem,
    })
}

/// Drives a connection; once it is over without an error, what was received is still read.
async fn drive(connection: impl Future<Output = hyper::Result<()>>) -> hyper::Error {
    match connection.await {
        Ok(()) => std::future::pending().await,
        Err(error) => error,
    }
}
