//! Commands out, replies in: the crate `redis` over a stream of ours that puts a bound on what one
//! call may read.
//!
//! The crate encodes and parses RESP 2
//! (<https://redis.io/docs/latest/develop/reference/protocol-spec/>). Its driver is not spawned but
//! polled together with the call: between collections nothing is read, and a call that is cut off
//! by its deadline takes the connection with it. Refused are replies that are larger, or of more
//! parts, than any answer to our commands can be.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Either, select};
use parking_lot::Mutex;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Cmd, Pipeline, ProtocolVersion, RedisConnectionInfo, Value};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The greatest size of all replies to one call, in bytes.
const MAX_BYTES: usize = 8 << 20;
/// The most lines of all replies to one call. Every value takes a line, and a few bytes of it
/// become some 300 in memory.
const MAX_LINES: usize = 200_000;

/// What a connection runs over.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// One reply, its strings as text.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    /// Nothing.
    Nil,
    /// A whole number.
    Int(i64),
    /// A simple or bulk string; bytes that are not UTF-8 are replaced.
    Text(String),
    /// Several replies.
    List(Vec<Reply>),
    /// The server's refusal, its code first: `NOPERM …`.
    Error(String),
}

impl Reply {
    /// The text, if it is one.
    pub fn text(&self) -> Option<&str> {
        match self {
            Reply::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The items, if it is a list.
    pub fn list(&self) -> Option<&[Reply]> {
        match self {
            Reply::List(items) => Some(items),
            _ => None,
        }
    }

    /// The number, also if the server wrote it as text.
    pub fn number(&self) -> Option<f64> {
        match self {
            Reply::Int(number) => Some(*number as f64),
            Reply::Text(text) => text.parse().ok(),
            _ => None,
        }
    }
}

impl From<Value> for Reply {
    fn from(value: Value) -> Self {
        match value {
            Value::Int(number) => Reply::Int(number),
            Value::BulkString(bytes) => Reply::Text(
                String::from_utf8(bytes)
                    .unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned()),
            ),
            Value::SimpleString(text) => Reply::Text(text),
            Value::Okay => Reply::Text("OK".into()),
            Value::Array(items) => Reply::List(items.into_iter().map(Reply::from).collect()),
            Value::ServerError(error) => Reply::Error(format!(
                "{} {}",
                error.code(),
                error.details().unwrap_or_default()
            )),
            // Nil, and what RESP 2 does not have.
            _ => Reply::Nil,
        }
    }
}

/// An open connection.
pub struct Connection {
    requests: MultiplexedConnection,
    /// Moves bytes while a call waits; gone when the connection is over.
    driver: Option<BoxFuture<'static, ()>>,
    meter: Arc<Mutex<Meter>>,
}

impl Connection {
    /// Speaks RESP over `stream`.
    pub async fn new(stream: Box<dyn Stream>) -> io::Result<Self> {
        let meter = Arc::new(Mutex::new(Meter::new()));
        let stream = Metered {
            stream,
            meter: Arc::clone(&meter),
        };
        // Nothing is sent yet: the login is a call of ours, because the crate's own keeps the
        // server's reason to itself.
        let info = RedisConnectionInfo::default()
            .set_protocol(ProtocolVersion::RESP2)
            .set_skip_set_lib_name();
        // The deadline is the collection's.
        let config = AsyncConnectionConfig::new().set_response_timeout(None);
        let (requests, driver) = MultiplexedConnection::new_with_config(&info, stream, config)
            .await
            .map_err(io::Error::other)?;
        Ok(Connection {
            requests,
            driver: Some(driver.boxed()),
            meter,
        })
    }

    /// Sends commands in one write and reads as many replies. After an error the connection is of
    /// no more use.
    pub async fn call(&mut self, commands: &[&[&str]]) -> io::Result<Vec<Reply>> {
        let mut pipeline = Pipeline::with_capacity(commands.len());
        for command in commands {
            let mut words = Cmd::new();
            words.arg(*command);
            pipeline.add_command(words);
        }
        let Some(driver) = self.driver.take() else {
            return Err(Meter::new().reason());
        };
        self.meter.lock().refill();
        let request = Box::pin(
            self.requests
                .send_packed_commands(&pipeline, 0, commands.len()),
        );
        let values = match select(request, driver).await {
            Either::Left((values, driver)) => {
                self.driver = Some(driver);
                values
            }
            // Without the driver the request is answered already or fails at once.
            Either::Right(((), request)) => request.await,
        };
        match values {
            Ok(values) => {
                // An answer to a call of ours was no greeting.
                let mut meter = self.meter.lock();
                (meter.greeted, meter.greeting) = (true, Vec::new());
                Ok(values.into_iter().map(Reply::from).collect())
            }
            Err(_) => {
                self.driver = None;
                Err(self.meter.lock().reason())
            }
        }
    }
}

/// What one call may still read, and why the stream ended. The crate says no more of an end within
/// a pipeline than that there was one.
struct Meter {
    bytes: usize,
    lines: usize,
    ended: Option<(io::ErrorKind, String)>,
    /// What came first on the connection: a server that has no room for us, or may not let us in,
    /// says so unasked and closes.
    greeting: Vec<u8>,
    greeted: bool,
}

/// Most bytes of a greeting that are kept.
const MAX_GREETING: usize = 256;

impl Meter {
    fn new() -> Self {
        Meter {
            bytes: MAX_BYTES,
            lines: MAX_LINES,
            ended: None,
            greeting: Vec::new(),
            greeted: false,
        }
    }

    fn refill(&mut self) {
        (self.bytes, self.lines) = (MAX_BYTES, MAX_LINES);
    }

    fn take(&mut self, read: &[u8]) -> io::Result<()> {
        let lines = memchr::memchr_iter(b'\n', read).count();
        if !self.greeted {
            let room = MAX_GREETING - self.greeting.len();
            self.greeting
                .extend_from_slice(&read[..read.len().min(room)]);
            self.greeted = self.greeting.len() == MAX_GREETING || self.greeting.contains(&b'\n');
        }
        match (
            self.bytes.checked_sub(read.len()),
            self.lines.checked_sub(lines),
        ) {
            (Some(bytes), Some(lines)) => (self.bytes, self.lines) = (bytes, lines),
            (None, _) => {
                return Err(self.end(io::Error::new(
                    io::ErrorKind::InvalidData,
                    "a reply is larger than 8 MiB",
                )));
            }
            (_, None) => {
                return Err(self.end(io::Error::new(
                    io::ErrorKind::InvalidData,
                    "a reply has more than 200000 lines",
                )));
            }
        }
        if read.is_empty() {
            // Not an error for the stream, but the reason if the crate misses replies.
            let _eof = self.end(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "the server closed the connection",
            ));
        }
        Ok(())
    }

    fn end(&mut self, error: io::Error) -> io::Error {
        self.ended
            .get_or_insert_with(|| (error.kind(), error.to_string()));
        error
    }

    /// Why a call failed: the stream's end, or else the crate could not read what came.
    fn reason(&self) -> io::Error {
        let refusal = self
            .greeting
            .strip_prefix(b"-")
            .and_then(|line| line.split(|b| *b == b'\n').next());
        if let Some(refusal) = refusal {
            let text = String::from_utf8_lossy(refusal.trim_ascii()).into_owned();
            return io::Error::new(
                io::ErrorKind::ConnectionRefused,
                crate::model::text::visible(&text).into_owned(),
            );
        }
        match &self.ended {
            Some((kind, reason)) => io::Error::new(*kind, reason.clone()),
            None => io::Error::new(io::ErrorKind::InvalidData, "not a RESP reply"),
        }
    }
}

/// A stream that reads no more than its meter allows.
struct Metered {
    stream: Box<dyn Stream>,
    meter: Arc<Mutex<Meter>>,
}

impl AsyncRead for Metered {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = ready!(Pin::new(&mut self.stream).poll_read(context, buffer));
        let mut meter = self.meter.lock();
        Poll::Ready(
            read.map_err(|e| meter.end(e))
                .and_then(|()| meter.take(&buffer.filled()[before..])),
        )
    }
}

impl AsyncWrite for Metered {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write(context, bytes));
        if written.is_err() && !self.meter.lock().greeted {
            // A server that closed may have said why before.
            let (mut room, mut parting) = ([0; MAX_GREETING], 0);
            let mut buffer = ReadBuf::new(&mut room);
            if let Poll::Ready(Ok(())) = Pin::new(&mut self.stream).poll_read(context, &mut buffer)
            {
                parting = buffer.filled().len();
            }
            let mut meter = self.meter.lock();
            if parting > 0 && meter.take(&room[..parting]).is_err() {
                return Poll::Ready(Err(meter.reason()));
            }
        }
        Poll::Ready(written.map_err(|e| self.meter.lock().end(e)))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = ready!(Pin::new(&mut self.stream).poll_flush(context));
        Poll::Ready(flushed.map_err(|e| self.meter.lock().end(e)))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::time::timeout;

    use super::*;

    /// What a call of `PING` and `ECHO a` comes to when the server answers `bytes`, over and over
    /// if `endless`, and closes.
    async fn answered(bytes: &[u8], endless: bool) -> io::Result<Vec<Reply>> {
        let (client, mut server) = tokio::io::duplex(64 << 10);
        let bytes = if endless {
            bytes.repeat((32 << 10) / bytes.len())
        } else {
            bytes.to_vec()
        };
        tokio::spawn(async move {
            let mut sent = [0; 256];
            let _request = server.read(&mut sent).await;
            while server.write_all(&bytes).await.is_ok() && endless {}
        });
        let mut connection = Connection::new(Box::new(client)).await?;
        let call = connection.call(&[&["PING"], &["ECHO", "a"]]);
        let replies = timeout(Duration::from_secs(30), call)
            .await
            .expect("an end without a deadline of the caller's");
        if replies.is_err() {
            assert!(
                connection.call(&[&["PING"]]).await.is_err(),
                "the connection is of no more use"
            );
        }
        replies
    }

    #[tokio::test]
    async fn replies_are_what_the_server_said() {
        let replies = answered(b"-NOPERM no such luck\r\n*5\r\n:7\r\n$3\r\na\r\n\r\n*1\r\n$-1\r\n+OK\r\n$1\r\n\xff\r\n", false).await;
        let list = vec![
            Reply::Int(7),
            Reply::Text("a\r\n".into()),
            Reply::List(vec![Reply::Nil]),
            Reply::Text("OK".into()),
            Reply::Text("\u{fffd}".into()),
        ];
        assert_eq!(
            replies.expect("two replies"),
            [
                Reply::Error("NOPERM no such luck".into()),
                Reply::List(list)
            ]
        );
    }

    #[tokio::test]
    async fn commands_are_sent_as_bulk_strings() {
        let (client, mut server) = tokio::io::duplex(1024);
        let mut connection = Connection::new(Box::new(client))
            .await
            .expect("nothing is sent");
        let wanted = b"*1\r\n$4\r\nPING\r\n*2\r\n$4\r\nECHO\r\n$3\r\n\xe4\xbd\xa0\r\n";
        let mut sent = vec![0; wanted.len()];
        let _unanswered = timeout(
            Duration::from_millis(200),
            connection.call(&[&["PING"], &["ECHO", "你"]]),
        )
        .await;
        server.read_exact(&mut sent).await.expect("sent");
        assert_eq!(sent, wanted);
    }

    #[tokio::test]
    async fn what_is_no_reply_says_why() {
        let deep = "*1\r\n".repeat(200);
        let bulk = format!("+OK\r\n$99999999999\r\n{}", "x".repeat(4000));
        for (bytes, endless, wanted) in [
            (&b"HTTP/1.1 400\r\n"[..], false, "not a RESP reply"),
            (b":x\r\n", false, "not a RESP reply"),
            (b"$1\r\nabc\r\n", false, "not a RESP reply"),
            (deep.as_bytes(), false, "not a RESP reply"),
            (b"*-9\r\n", false, "the server closed the connection"),
            (
                b"+PONG\r\n$5\r\nab",
                false,
                "the server closed the connection",
            ),
            (
                b"*99999999999\r\n:1\r\n",
                false,
                "the server closed the connection",
            ),
            (b"", false, "the server closed the connection"),
            (b"+no end", true, "a reply is larger than 8 MiB"),
            (bulk.as_bytes(), true, "a reply is larger than 8 MiB"),
            (b"+OK\r\n*1000000\r\n:1\r\n:1\r\n", true, "not a RESP reply"),
        ] {
            let reason = answered(bytes, endless)
                .await
                .expect_err("no two replies")
                .to_string();
            assert_eq!(reason, wanted, "{}", String::from_utf8_lossy(bytes));
        }
    }

    #[tokio::test]
    async fn a_reply_of_too_many_parts_is_refused() {
        let many = format!(
            "+OK\r\n*{}\r\n{}",
            MAX_LINES + 1,
            ":1\r\n".repeat(MAX_LINES + 1)
        );
        let reason = answered(many.as_bytes(), false)
            .await
            .expect_err("too many")
            .to_string();
        assert_eq!(reason, "a reply has more than 200000 lines");
    }
}
