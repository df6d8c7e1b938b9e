//! Requests over a Unix socket, as container engines and Supervisor are asked: one connection for
//! each.

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;

/// The status and the body of the answer to a GET; the error says what went wrong. A longer body than
/// `most` bytes is refused.
pub async fn get_by_socket(
    socket: &Path,
    path: &str,
    timeout: Duration,
    most: usize,
) -> Result<(u16, Bytes), String> {
    let request = http::Request::get(path).body(Bytes::new());
    let request = request.map_err(|error| error.to_string())?;
    send_by_socket(socket, request, timeout, most).await
}

/// The same for any request; `Host` and `Connection` are added.
pub async fn send_by_socket(
    socket: &Path,
    request: http::Request<Bytes>,
    timeout: Duration,
    most: usize,
) -> Result<(u16, Bytes), String> {
    let exchange = async {
        let stream = UnixStream::connect(socket)
            .await
            .map_err(|error| error.to_string())?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| error.to_string())?;
        let talk = async {
            let mut request = request.map(Full::new);
            let headers = request.headers_mut();
            headers.insert("Host", http::HeaderValue::from_static("localhost"));
            headers.insert("Connection", http::HeaderValue::from_static("close"));
            let response = sender
                .send_request(request)
                .await
                .map_err(|error| error.to_string())?;
            let status = response.status().as_u16();
            let body = Limited::new(response.into_body(), most)
                .collect()
                .await
                .map_err(|error| error.to_string())?;
            Ok((status, body.to_bytes()))
        };
        // The connection is driven as long as the answer comes, and ends with it.
        tokio::select! {
            biased;
            answer = talk => answer,
            ended = drive(connection) => Err(ended),
        }
    };
    let answer = tokio::time::timeout(timeout, exchange)
        .await
        .unwrap_or_else(|_| Err("timed out".to_owned()));
    answer.map_err(|error| format!("{}: {error}", socket.display()))
}

/// Drives a connection; once it is over without an error, what was received is still read.
async fn drive(connection: impl Future<Output = hyper::Result<()>>) -> String {
    match connection.await {
        Ok(()) => std::future::pending().await,
        Err(error) => error.to_string(),
    }
}
