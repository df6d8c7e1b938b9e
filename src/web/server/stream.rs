//! The bytes of one connection: heads of requests are counted and put into a form that the HTTP
//! library reads, and a client that does not read its answer is cut off.
//!
//! Request lines are read as Go's server reads them: characters that should have been escaped are,
//! and a URL may be a megabyte long, where the library takes 64 kB: its query then comes as a
//! [`LongQuery`] beside the request.

use std::borrow::Cow;
use std::future::Future as _;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::http::request::Parts;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

use super::tls;
use crate::model::{Budget, Holder, Reservation};

/// Greatest head of a request, in bytes: what Go takes.
pub const MAX_HEAD: usize = (1 << 20) + 4096;
/// The first bytes of a head are the connection's own.
const SMALL_HEAD: usize = 16 << 10;
/// What a head takes in memory: as it came, as it was read, and what is read from it.
const HEAD_COPIES: usize = 3;
/// Longest URL that the library reads, with some room.
const MAX_TARGET: usize = 60 << 10;
/// How long a client may leave an answer unread, and how fast it must read in the long run, in
/// bytes a second.
const UNREAD: Duration = Duration::from_secs(30);
const READ_RATE: u64 = 16 << 10;

/// The query of a URL that is too long for the HTTP library.
#[derive(Clone, Debug)]
pub struct LongQuery(pub Arc<str>);

/// The query of a request's URL, however long it is.
pub fn query_of(parts: &Parts) -> Cow<'_, str> {
    match parts.extensions.get::<LongQuery>() {
        Some(long) => Cow::Borrowed(&long.0),
        None => Cow::Borrowed(parts.uri.query().unwrap_or("")),
    }
}

/// What the stream and the service that answers on it know of each other.
pub struct Head(Mutex<HeadState>);

struct HeadState {
    /// Whether the next bytes are a request line.
    expects_line: bool,
    /// Whether the next bytes belong to a head.
    is_head: bool,
    /// Bytes of the head so far.
    length: usize,
    held: Reservation,
    long: Option<LongQuery>,
    /// Counts answers.
    answers: u64,
    /// The answer under way is passed on as it comes, and holds no memory: its client may read as
    /// slowly as it likes.
    may_be_slow: bool,
}

impl Head {
    fn new(budget: &Arc<Budget>) -> Self {
        let held = budget.reserve(Holder::Bodies);
        Head(Mutex::new(HeadState {
            expects_line: true,
            is_head: true,
            length: 0,
            held,
            long: None,
            answers: 0,
            may_be_slow: false,
        }))
    }

    /// A head was read: what it holds, and its query if that was too long.
    pub fn read(&self, has_body: bool) -> (Reservation, Option<LongQuery>) {
        let mut state = self.0.lock();
        state.is_head = !has_body;
        state.expects_line = !has_body;
        state.length = 0;
        state.may_be_slow = false;
        let bytes = state.held.bytes();
        (
            state.held.hand_over(bytes, Holder::Bodies),
            state.long.take(),
        )
    }

    /// The answer to this request is passed on as it comes.
    pub fn may_be_slow(&self) {
        self.0.lock().may_be_slow = true;
    }

    /// An answer is ready to be sent.
    pub fn answered(&self) {
        let mut state = self.0.lock();
        state.answers += 1;
        state.is_head = true;
    }

    /// Counts bytes that came; whether there is room for them.
    fn count(&self, bytes: usize) -> bool {
        let mut state = self.0.lock();
        if !state.is_head {
            return true;
        }
        state.length += bytes;
        let wanted = state
            .length
            .saturating_sub(SMALL_HEAD)
            .saturating_mul(HEAD_COPIES);
        let more = wanted.saturating_sub(state.held.bytes());
        more == 0 || state.held.grow(more).is_ok()
    }
}

/// A connection's stream.
pub struct Stream {
    stream: Box<dyn tls::Stream>,
    head: Arc<Head>,
    /// A request line that has not ended yet.
    line: Vec<u8>,
    /// What was read and is to be handed on, from `given` on.
    ready: Vec<u8>,
    given: usize,
    /// Since when the answer with this number cannot be written, and how much of it was.
    stalled: Option<(u64, Instant)>,
    written: u64,
    timer: Pin<Box<Sleep>>,
}

impl Stream {
    /// Over a connection.
    pub fn new(stream: Box<dyn tls::Stream>, budget: &Arc<Budget>) -> (Self, Arc<Head>) {
        let head = Arc::new(Head::new(budget));
        let timer = Box::pin(sleep_until(Instant::now()));
        let stream = Stream {
            stream,
            head: Arc::clone(&head),
            line: Vec::new(),
            ready: Vec::new(),
            given: 0,
            stalled: None,
            written: 0,
            timer,
        };
        (stream, head)
    }

    /// Answers by itself, as far as the kernel takes it at once, and ends the connection.
    fn refuse(&mut self, task: &mut Context<'_>, status: &str, text: &str) -> io::Error {
        let length = text.len() + 1;
        let answer = format!(
            "HTTP/1.1 {status}\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{text}\n"
        );
        // A client that sends such a head does not need the reason.
        let _ = Pin::new(&mut self.stream).poll_write(task, answer.as_bytes());
        let _ = Pin::new(&mut self.stream).poll_flush(task);
        io::Error::other(text.to_owned())
    }

    /// Errs when the client has left its answer unread for too long.
    fn stall(&mut self, task: &mut Context<'_>) -> io::Result<()> {
        let answers = {
            let state = self.head.0.lock();
            if state.may_be_slow {
                return Ok(());
            }
            state.answers
        };
        let (_, since) = match self.stalled {
            Some((number, since)) if number == answers => (number, since),
            _ => {
                self.written = 0;
                *self.stalled.insert((answers, Instant::now()))
            }
        };
        let until = since + UNREAD + Duration::from_millis(self.written * 1000 / READ_RATE);
        if self.timer.deadline() != until {
            self.timer.as_mut().reset(until);
        }
        match self.timer.as_mut().poll(task) {
            Poll::Ready(()) => Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "the client does not read its answer",
            )),
            Poll::Pending => Ok(()),
        }
    }

    fn sent(
        &mut self,
        result: Poll<io::Result<usize>>,
        task: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        match &result {
            Poll::Ready(Ok(bytes)) => self.written += *bytes as u64,
            Poll::Ready(Err(_)) => {}
            Poll::Pending => self.stall(task)?,
        }
        result
    }

    /// Hands on what is ready.
    fn give(&mut self, buffer: &mut ReadBuf<'_>) {
        let rest = &self.ready[self.given..];
        let count = rest.len().min(buffer.remaining());
        buffer.put_slice(&rest[..count]);
        self.given += count;
        if self.given == self.ready.len() {
            (self.ready, self.given) = (Vec::new(), 0);
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        task: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        loop {
            if this.given < this.ready.len() {
                this.give(buffer);
                return Poll::Ready(Ok(()));
            }
            if !this.head.0.lock().expects_line {
                let before = buffer.filled().len();
                ready!(Pin::new(&mut this.stream).poll_read(task, buffer))?;
                if !this.head.count(buffer.filled().len() - before) {
                    return Poll::Ready(Err(this.refuse(
                        task,
                        "503 Service Unavailable",
                        "too much is asked at once; try again later",
                    )));
                }
                return Poll::Ready(Ok(()));
            }
            let mut space = [0; 8192];
            let mut piece = ReadBuf::new(&mut space);
            ready!(Pin::new(&mut this.stream).poll_read(task, &mut piece))?;
            let piece = piece.filled();
            if piece.is_empty() {
                return Poll::Ready(Ok(()));
            }
            if !this.head.count(piece.len()) {
                return Poll::Ready(Err(this.refuse(
                    task,
                    "503 Service Unavailable",
                    "too much is asked at once; try again later",
                )));
            }
            this.line.extend_from_slice(piece);
            // Empty lines before a request are allowed (RFC 9112, 2.2).
            let blank = this
                .line
                .iter()
                .take_while(|byte| matches!(byte, b'\r' | b'\n'))
                .count();
            this.line.drain(..blank);
            let Some(end) = memchr::memchr(b'\n', &this.line) else {
                if this.line.len() > MAX_HEAD {
                    return Poll::Ready(Err(this.refuse(
                        task,
                        "414 URI Too Long",
                        "the URL is longer than a megabyte",
                    )));
                }
                continue;
            };
            match request_line(&this.line[..=end]) {
                Ok((line, long)) => {
                    this.ready = line;
                    this.ready.extend_from_slice(&this.line[end + 1..]);
                    this.line = Vec::new();
                    let mut state = this.head.0.lock();
                    state.long = long;
                    state.expects_line = false;
                }
                Err(Unreadable::Long) => {
                    return Poll::Ready(Err(this.refuse(
                        task,
                        "414 URI Too Long",
                        "the path of the URL is too long",
                    )));
                }
                Err(Unreadable::Malformed) => {
                    return Poll::Ready(Err(this.refuse(
                        task,
                        "400 Bad Request",
                        "400 Bad Request: the request line is malformed",
                    )));
                }
            }
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        task: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write(task, bytes);
        self.sent(result, task)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        task: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write_vectored(task, slices);
        self.sent(result, task)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(task)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(task)
    }
}

#[derive(Debug, PartialEq)]
enum Unreadable {
    Malformed,
    Long,
}

/// A request line with its end, as the library reads it, and the query where that is too long for
/// it.
fn request_line(line: &[u8]) -> Result<(Vec<u8>, Option<LongQuery>), Unreadable> {
    let bare = line.strip_suffix(b"\n").unwrap_or(line);
    let bare = bare.strip_suffix(b"\r").unwrap_or(bare);
    let mut words = bare.split(|byte| *byte == b' ');
    let (Some(method), Some(target), Some(version), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(Unreadable::Malformed);
    };
    let is_sound = !method.is_empty()
        && !target.is_empty()
        && version.starts_with(b"HTTP/")
        && !bare.iter().any(u8::is_ascii_control);
    if !is_sound {
        return Err(Unreadable::Malformed);
    }
    let mut escaped = Vec::with_capacity(target.len() + 16);
    for byte in target {
        match byte {
            0x21 | 0x24..=0x3b | 0x3d | 0x3f..=0x5f | 0x61..=0x7a | 0x7c | 0x7e => {
                escaped.push(*byte)
            }
            _ => escaped.extend_from_slice(format!("%{byte:02X}").as_bytes()),
        }
    }
    let mut long = None;
    if escaped.len() > MAX_TARGET {
        let query = memchr::memchr(b'?', &escaped)
            .filter(|at| *at < MAX_TARGET)
            .ok_or(Unreadable::Long)?;
        long = Some(LongQuery(
            String::from_utf8_lossy(&escaped[query + 1..]).into(),
        ));
        escaped.truncate(query);
    }
    Ok((
        [method, b" ", &escaped, b" ", version, b"\r\n"].concat(),
        long,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_characters_of_a_url_are_escaped() {
        let read = |line: &str| {
            request_line(line.as_bytes()).map(|(line, _)| String::from_utf8(line).expect("text"))
        };
        assert_eq!(
            read("GET /a?b=c%20d HTTP/1.1\r\n").as_deref(),
            Ok("GET /a?b=c%20d HTTP/1.1\r\n")
        );
        assert_eq!(
            read("GET /a?m={n!=\"é\"} HTTP/1.1\n").as_deref(),
            Ok("GET /a?m=%7Bn!=%22%C3%A9%22%7D HTTP/1.1\r\n")
        );
        assert_eq!(
            read("OPTIONS * HTTP/1.1\r\n").as_deref(),
            Ok("OPTIONS * HTTP/1.1\r\n")
        );
        for malformed in [
            "GET /a b HTTP/1.1\r\n",
            "GET /\r\n",
            "GET /\u{1} HTTP/1.1\r\n",
            "GET  HTTP/1.1\r\n",
            "GET / HTTQ\r\n",
        ] {
            assert_eq!(read(malformed), Err(Unreadable::Malformed), "{malformed:?}");
        }
    }

    #[test]
    fn a_long_query_comes_beside_the_request() {
        let query = "x".repeat(MAX_TARGET);
        let (line, long) =
            request_line(format!("GET /a?{query} HTTP/1.1\r\n").as_bytes()).expect("readable");
        assert_eq!(
            (&line[..], long.map(|long| long.0.len())),
            (&b"GET /a HTTP/1.1\r\n"[..], Some(query.len()))
        );
        assert_eq!(
            request_line(format!("GET /{query} HTTP/1.1\r\n").as_bytes()).err(),
            Some(Unreadable::Long)
        );
    }
}
