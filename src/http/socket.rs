//! GET over a Unix socket, as container engines are asked: one connection for each request.

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;

/// The status and the body of an answer; the error says what went wrong. A longer body than `most`
/// bytes is refused.
pub async fn get_by_socket(
    socket: &Path,
    path: &str,
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
            let request = hyper::Request::get(path)
                .header("Host", "localhost")
                .header("Connection", "close");
            let request = request
                .body(Empty::<Bytes>::new())
                .map_err(|error| error.to_string())?;
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
