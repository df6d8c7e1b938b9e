//! TCP connections: the addresses of a host are tried one after the other, and the next one does
//! not wait for an address that is silent (as in RFC 8305).

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt as _};
use tokio::net::TcpStream;

use super::resolver::{ResolveError, resolve};

/// Head start of an address before the next one is tried beside it.
const HEAD_START: Duration = Duration::from_millis(300);

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The host has no address.
    #[error("{host:?} cannot be resolved: {source}")]
    Name {
        /// The host.
        host: String,
        /// Why not.
        source: ResolveError,
    },
    /// No address took the connection; this is what the last one said.
    #[error("{0}")]
    Refused(io::Error),
}

impl From<ConnectError> for io::Error {
    fn from(error: ConnectError) -> Self {
        match error {
            ConnectError::Refused(error) => error,
            name => io::Error::new(io::ErrorKind::NotFound, name.to_string()),
        }
    }
}

/// Connects to a host by name or address, without Nagle's delay. The caller keeps the deadline.
///
/// # Errors
/// When the name cannot be resolved, or no address takes the connection.
pub async fn connect(host: &str, port: u16) -> Result<TcpStream, ConnectError> {
    let addresses = resolve(host).await.map_err(|source| ConnectError::Name {
        host: host.to_owned(),
        source,
    })?;
    let addresses: Vec<SocketAddr> = addresses
        .iter()
        .map(|ip| SocketAddr::new(*ip, port))
        .collect();
    connect_any(&addresses)
        .await
        .map(|(stream, _)| stream)
        .map_err(ConnectError::Refused)
}

/// Connects to the first of these addresses that takes the connection; says which.
///
/// # Errors
/// With what the address said that failed last.
pub async fn connect_any(addresses: &[SocketAddr]) -> io::Result<(TcpStream, SocketAddr)> {
    let mut waiting = addresses.iter();
    let mut attempts = FuturesUnordered::new();
    let mut last = io::Error::new(io::ErrorKind::InvalidInput, "no address");
    loop {
        if let Some(address) = waiting.next() {
            attempts.push(attempt(*address));
        }
        let head_start = async {
            match waiting.len() {
                0 => std::future::pending().await,
                _ => tokio::time::sleep(HEAD_START).await,
            }
        };
        tokio::select! {
            ended = attempts.next() => match ended {
                Some(Ok(connected)) => return Ok(connected),
                Some(Err(error)) => last = error,
                None => return Err(last),
            },
            () = head_start => {}
        }
    }
}

async fn attempt(address: SocketAddr) -> io::Result<(TcpStream, SocketAddr)> {
    let stream = TcpStream::connect(address)
        .await
        .map_err(|error| io::Error::new(error.kind(), format!("{address}: {error}")))?;
    stream.set_nodelay(true)?;
    Ok((stream, address))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    #[tokio::test]
    async fn a_silent_address_does_not_hold_up_the_next_one() {
        // A queue that is full drops what comes: the kernel answers nothing.
        let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
        socket
            .bind("127.0.0.1:0".parse().expect("an address"))
            .expect("bound");
        let full = socket.listen(0).expect("listening");
        let silent = full.local_addr().expect("its address");
        let mut held = Vec::new();
        while let Ok(Ok(stream)) =
            tokio::time::timeout(Duration::from_millis(200), TcpStream::connect(silent)).await
        {
            held.push(stream);
        }
        let open = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let good = open.local_addr().expect("its address");
        let (_stream, reached) = connect_any(&[silent, good]).await.expect("connected");
        assert_eq!(reached, good);
    }

    #[tokio::test]
    async fn the_last_refusal_is_the_error() {
        let port = TcpListener::bind("127.0.0.1:0")
            .await
            .expect("a port")
            .local_addr()
            .expect("its address")
            .port();
        let error = connect("127.0.0.1", port)
            .await
            .expect_err("nobody listens");
        assert!(
            error.to_string().starts_with("127.0.0.1:")
                && matches!(error, ConnectError::Refused(_)),
            "{error}"
        );
    }
}
