//! One conversation with the message bus: connect, log in as this user, call methods, read the
//! replies.

use std::collections::HashMap;
use std::io::{self, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::model::text::hex;

use super::message::{Body, Call, FIXED, Reply, lengths};

/// Calls that are under way at once: a bus bounds how many replies a client may wait for.
const AT_ONCE: usize = 64;
/// Messages that are read at most while replies are waited for.
const MAX_MESSAGES: usize = 10_000;
/// Greatest line of the login, in bytes.
const MAX_LINE: usize = 512;

/// An open connection.
pub struct Bus {
    stream: BufReader<UnixStream>,
    deadline: Instant,
    serial: u32,
}

impl Bus {
    /// Connects to the socket; everything is done by `deadline`.
    ///
    /// # Errors
    /// Nobody listens, or the bus does not take this user.
    pub fn connect(socket: &Path, deadline: Instant) -> io::Result<Self> {
        let mut bus = Bus {
            stream: BufReader::new(UnixStream::connect(socket)?),
            deadline,
            serial: 0,
        };
        let user = rustix::process::geteuid().as_raw().to_string();
        let name = hex(user.as_bytes());
        bus.send(format!("\0AUTH EXTERNAL {name}\r\n").as_bytes())?;
        if !bus.line()?.starts_with(b"OK ") {
            return Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                "the bus does not take this user",
            ));
        }
        bus.send(b"BEGIN\r\n")?;
        let name = "org.freedesktop.DBus";
        let hello = Call {
            destination: name,
            path: "/org/freedesktop/DBus",
            interface: name,
            member: "Hello",
            arguments: &[],
        };
        bus.call(&[hello])?.remove(0).map_err(io::Error::other)?;
        Ok(bus)
    }

    /// Calls methods; the results are in the order of the calls, an error by its name.
    ///
    /// # Errors
    /// The connection ends, or is not done by the deadline.
    pub fn call(&mut self, calls: &[Call<'_>]) -> io::Result<Vec<Result<Body, String>>> {
        let mut results = Vec::with_capacity(calls.len());
        for some in calls.chunks(AT_ONCE) {
            let (first, mut messages) = (self.serial + 1, Vec::new());
            for call in some {
                self.serial += 1;
                messages.extend(call.encode(self.serial));
            }
            self.send(&messages)?;
            let mut replies = HashMap::new();
            for _ in 0..MAX_MESSAGES {
                if replies.len() == some.len() {
                    break;
                }
                if let Some(reply) = self
                    .read()?
                    .filter(|reply| (first..=self.serial).contains(&reply.serial))
                {
                    replies.insert(reply.serial, reply.result);
                }
            }
            for serial in first..=self.serial {
                results.push(
                    replies
                        .remove(&serial)
                        .ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))?,
                );
            }
        }
        Ok(results)
    }

    fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        let left = self.left()?;
        let stream = self.stream.get_mut();
        stream.set_write_timeout(Some(left))?;
        stream.write_all(bytes)
    }

    fn read(&mut self) -> io::Result<Option<Reply>> {
        let mut fixed = [0; FIXED];
        self.fill(&mut fixed)?;
        let (header, body) = lengths(&fixed)?;
        let mut message = vec![0; header + body];
        message[..FIXED].copy_from_slice(&fixed);
        self.fill(&mut message[FIXED..])?;
        let body = message.split_off(header);
        Reply::decode(&message, body)
    }

    /// What is left until the deadline.
    fn left(&self) -> io::Result<Duration> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            Err(io::ErrorKind::TimedOut.into())
        } else {
            Ok(left)
        }
    }

    /// A line of the login.
    fn line(&mut self) -> io::Result<Vec<u8>> {
        let mut line = Vec::new();
        while line.len() < MAX_LINE && !line.ends_with(b"\n") {
            let mut byte = [0];
            self.fill(&mut byte)?;
            line.extend(byte);
        }
        Ok(line)
    }

    /// Reads until `bytes` is full. Each reading gets what is left of the time: a bus that sends a
    /// byte now and then is given up as well.
    fn fill(&mut self, mut bytes: &mut [u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let left = self.left()?;
            self.stream.get_mut().set_read_timeout(Some(left))?;
            match self.stream.read(bytes) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => bytes = &mut bytes[count..],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
