//! A client for RESP2 (<https://redis.io/docs/latest/develop/reference/protocol-spec/>): commands out, replies in, with bounds.
//!
//! Small on purpose: one connection, one command or pipeline at a time. It refuses replies that are larger or deeper than any answer to our
//! commands can be, so that a server that streams without end costs a bounded buffer.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// The greatest size of all replies to one pipeline, in bytes.
const MAX_REPLY: usize = 8 << 20;
/// How deep replies may nest.
const MAX_DEPTH: usize = 8;

/// What a connection runs over.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// One reply.
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

/// An open connection.
pub struct Connection {
    stream: Box<dyn Stream>,
    buffer: Vec<u8>,
}

impl Connection {
    /// Speaks RESP over `stream`.
    pub fn new(stream: Box<dyn Stream>) -> Self {
        Connection { stream, buffer: Vec::new() }
    }

    /// Sends commands in one write and reads as many replies. After an error the connection is of no more use.
    pub async fn call(&mut self, commands: &[&[&str]]) -> io::Result<Vec<Reply>> {
        let mut out = Vec::with_capacity(256);
        for command in commands {
            out.extend_from_slice(format!("*{}\r\n", command.len()).as_bytes());
            for word in *command {
                out.extend_from_slice(format!("${}\r\n{word}\r\n", word.len()).as_bytes());
            }
        }
        self.stream.write_all(&out).await?;
        self.stream.flush().await?;
        let mut replies = Vec::with_capacity(commands.len());
        let mut used = 0;
        // A reply is parsed again from its beginning when it was not complete; reading in growing steps keeps that cheap.
        while replies.len() < commands.len() {
            match parse(&self.buffer[used..], 0)? {
                Some((reply, length)) => {
                    used += length;
                    replies.push(reply);
                }
                None => self.read_more().await?,
            }
        }
        self.buffer.drain(..used);
        if !self.buffer.is_empty() {
            return Err(invalid("more replies than commands"));
        }
        self.buffer.shrink_to(64 << 10);
        Ok(replies)
    }

    async fn read_more(&mut self) -> io::Result<()> {
        if self.buffer.len() >= MAX_REPLY {
            return Err(invalid("a reply is larger than 8 MiB"));
        }
        self.buffer.reserve(self.buffer.len().clamp(16 << 10, 1 << 20));
        match self.stream.read_buf(&mut self.buffer).await? {
            0 => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the server closed the connection")),
            _ => Ok(()),
        }
    }
}

fn invalid(problem: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, problem.to_owned())
}

/// The first reply in `bytes` and its length; `None` when it is not complete yet.
fn parse(bytes: &[u8], depth: usize) -> io::Result<Option<(Reply, usize)>> {
    if depth > MAX_DEPTH {
        return Err(invalid("a reply nests too deeply"));
    }
    let Some(end) = memchr::memchr(b'\n', bytes) else {
        return if bytes.len() > 64 << 10 { Err(invalid("not a RESP reply")) } else { Ok(None) };
    };
    let line = bytes[..end].strip_suffix(b"\r").ok_or_else(|| invalid("not a RESP reply"))?;
    let Some((kind, rest)) = line.split_first() else { return Err(invalid("not a RESP reply")) };
    let text = || String::from_utf8_lossy(rest).into_owned();
    let number = || std::str::from_utf8(rest).ok().and_then(|t| t.parse::<i64>().ok()).ok_or_else(|| invalid("not a RESP reply"));
    let head = end + 1;
    match kind {
        b'+' => Ok(Some((Reply::Text(text()), head))),
        b'-' => Ok(Some((Reply::Error(text()), head))),
        b':' => Ok(Some((Reply::Int(number()?), head))),
        b'$' => bulk(bytes, head, number()?),
        b'*' => list(bytes, head, number()?, depth),
        _ => Err(invalid("not a RESP reply")),
    }
}

fn length(declared: i64) -> io::Result<Option<usize>> {
    match usize::try_from(declared) {
        Ok(length) if length <= MAX_REPLY => Ok(Some(length)),
        Ok(_) => Err(invalid("a reply is larger than 8 MiB")),
        Err(_) if declared == -1 => Ok(None),
        Err(_) => Err(invalid("not a RESP reply")),
    }
}

fn bulk(bytes: &[u8], head: usize, declared: i64) -> io::Result<Option<(Reply, usize)>> {
    let Some(length) = length(declared)? else { return Ok(Some((Reply::Nil, head))) };
    let Some(body) = bytes.get(head..head + length + 2) else { return Ok(None) };
    let body = body.strip_suffix(b"\r\n").ok_or_else(|| invalid("not a RESP reply"))?;
    Ok(Some((Reply::Text(String::from_utf8_lossy(body).into_owned()), head + length + 2)))
}

fn list(bytes: &[u8], head: usize, declared: i64, depth: usize) -> io::Result<Option<(Reply, usize)>> {
    let Some(count) = length(declared)? else { return Ok(Some((Reply::Nil, head))) };
    // No item is shorter than four bytes: what has not arrived is not reserved for.
    let mut items = Vec::with_capacity(count.min(bytes.len() / 4));
    let mut used = head;
    for _ in 0..count {
        let Some((item, length)) = parse(&bytes[used..], depth + 1)? else { return Ok(None) };
        used += length;
        items.push(item);
    }
    Ok(Some((Reply::List(items), used)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_are_read_once_they_are_complete() {
        let whole = b"*3\r\n:7\r\n$3\r\na\r\n\r\n*1\r\n$-1\r\n";
        for cut in 0..whole.len() {
            assert_eq!(parse(&whole[..cut], 0).expect("no error"), None, "{cut} bytes");
        }
        let wanted = Reply::List(vec![Reply::Int(7), Reply::Text("a\r\n".into()), Reply::List(vec![Reply::Nil])]);
        assert_eq!(parse(whole, 0).expect("valid"), Some((wanted, whole.len())));
        assert_eq!(parse(b"-NOPERM no\r\n", 0).expect("valid"), Some((Reply::Error("NOPERM no".into()), 12)));
    }

    #[test]
    fn what_is_no_reply_is_refused_at_once() {
        for bytes in [&b"HTTP/1.1 400\r\n"[..], b"\r\n", b":x\r\n", b"$-2\r\n", b"$99999999999\r\n", b"*99999999999\r\n", b"$1\r\nabc"] {
            assert!(parse(bytes, 0).is_err(), "{}", String::from_utf8_lossy(bytes));
        }
        assert!(parse("*1\r\n".repeat(20).as_bytes(), 0).is_err());
        assert!(parse(&vec![b'+'; 100_000], 0).is_err());
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>) {
            let _any = parse(&bytes, 0);
        }
    }
}
