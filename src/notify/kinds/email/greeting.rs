//! The older greeting, for servers that do not know EHLO: lettre says EHLO only, so its word is put
//! right on the way.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use lettre::transport::smtp::client::AsyncTokioStream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// What is said instead of the first word, EHLO.
const HELO: &[u8] = b"HELO";

/// A connection whose first word is HELO.
#[derive(Debug)]
pub(super) struct Older {
    stream: TcpStream,
    /// Bytes of the word that were sent.
    said: usize,
}

impl Older {
    /// A connection on which nothing was said yet.
    pub(super) fn new(stream: TcpStream) -> Self {
        Older { stream, said: 0 }
    }
}

impl AsyncTokioStream for Older {
    fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.stream.peer_addr()
    }
}

impl AsyncRead for Older {
    fn poll_read(
        self: Pin<&mut Self>,
        task: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_read(task, buffer)
    }
}

impl AsyncWrite for Older {
    fn poll_write(
        self: Pin<&mut Self>,
        task: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let rest = &HELO[this.said..];
        if rest.is_empty() || bytes.is_empty() {
            return Pin::new(&mut this.stream).poll_write(task, bytes);
        }
        let word = &rest[..rest.len().min(bytes.len())];
        let sent = ready!(Pin::new(&mut this.stream).poll_write(task, word))?;
        this.said += sent;
        Poll::Ready(Ok(sent))
    }

    fn poll_flush(self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(task)
    }

    fn poll_shutdown(self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(task)
    }
}
