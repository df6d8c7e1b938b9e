//! The gRPC prober: one `grpc.health.v1.Health/Check`
//! (<https://github.com/grpc/grpc/blob/master/doc/health-checking.md>) over HTTP/2, with TLS or
//! without. One message each way of one field each: no library of gRPC is needed for that.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderName, TE, USER_AGENT};
use http::{HeaderMap, Method, Request};
use tokio::task::JoinSet;

use super::connection::Connector;
use super::report::{Failure, GrpcFound, Reason, Report, SERVING};

/// Most bytes of an answer that are read.
const MAX_ANSWER: usize = 64 << 10;
/// Where a call's status is, in the headers or behind the body.
const STATUS: HeaderName = HeaderName::from_static("grpc-status");
/// gRPC's code for a call that took too long.
const DEADLINE: u32 = 4;
/// gRPC's code for a server that cannot be reached.
const UNAVAILABLE: u32 = 14;
/// gRPC's code for an answer that makes no sense.
const INTERNAL: u32 = 13;
/// gRPC's code for what has no better one.
const UNKNOWN: u32 = 2;
/// gRPC's codes have names up to this one.
const LAST_CODE: u32 = 16;

/// Whom to ask.
#[derive(Clone)]
pub struct GrpcProbe {
    /// Host name or address.
    pub host: String,
    /// Port; 80, or 443 with TLS, by default.
    pub port: u16,
    /// Whether to speak TLS.
    pub encrypted: bool,
    /// The service that is meant; empty for the server as a whole.
    pub service: String,
}

impl GrpcProbe {
    /// Asks once.
    pub async fn run(&self, connector: &Connector, report: &mut Report) -> Result<(), Failure> {
        // What stands if the deadline comes first.
        report.grpc = Some(GrpcFound {
            check: Duration::ZERO,
            ssl: false,
            code: DEADLINE,
            serving: None,
        });
        let start = Instant::now();
        let answered = self.check(connector, report).await;
        let check = start.elapsed().saturating_sub(report.phases.resolve);
        let ssl = report.grpc.as_ref().is_some_and(|found| found.ssl);
        let (code, serving, result) = match answered {
            Ok((code, serving)) => (code, serving, judged(code, serving)),
            Err((code, failure)) => (code, None, Err(failure)),
        };
        report.grpc = Some(GrpcFound {
            check,
            ssl,
            code,
            serving,
        });
        result
    }

    /// The status of the call, and what the service says.
    async fn check(
        &self,
        connector: &Connector,
        report: &mut Report,
    ) -> Result<(u32, Option<usize>), (u32, Failure)> {
        let unreachable = |failure| (UNAVAILABLE, failure);
        let stream = connector
            .open(&self.host, self.port, self.encrypted, report)
            .await
            .map_err(unreachable)?;
        if let Some(found) = &mut report.grpc {
            found.ssl = self.encrypted;
        }
        let broken = |error: h2::Error| {
            (
                UNAVAILABLE,
                Failure::new(Reason::Protocol, error.to_string())
                    .brief_as("the answer is not HTTP/2, or broke off"),
            )
        };
        let (client, connection) = h2::client::handshake(stream).await.map_err(broken)?;
        // Aborted when this function ends, however it ends.
        let mut driver = JoinSet::new();
        driver.spawn(connection);
        let mut client = client.ready().await.map_err(broken)?;
        let (response, mut body) = client
            .send_request(self.request().map_err(unreachable)?, false)
            .map_err(broken)?;
        body.send_data(message(&self.service), true)
            .map_err(broken)?;
        let (head, mut body) = response.await.map_err(broken)?.into_parts();
        if head.status.as_u16() != 200 {
            let text = format!("status {}", head.status.as_u16());
            return Err((
                of_http(head.status.as_u16()),
                Failure::new(Reason::Status, text.clone()).brief_as(text),
            ));
        }
        if let Some(code) = code(&head.headers) {
            return Ok((code, None));
        }
        let mut answer = Vec::new();
        while let Some(part) = body.data().await {
            let part = part.map_err(broken)?;
            // The server may send on.
            let _closed = body.flow_control().release_capacity(part.len());
            answer.extend_from_slice(&part);
            if answer.len() > MAX_ANSWER {
                return Err((
                    INTERNAL,
                    Failure::new(Reason::TooLarge, "the answer is too large"),
                ));
            }
        }
        let trailers = body.trailers().await.map_err(broken)?.unwrap_or_default();
        let nonsense = || {
            (
                INTERNAL,
                Failure::new(Reason::Protocol, "the answer is not gRPC")
                    .brief_as("the answer is not gRPC"),
            )
        };
        match code(&trailers).ok_or_else(nonsense)? {
            0 => Ok((0, Some(serving(&answer).ok_or_else(nonsense)?))),
            code => Ok((code, None)),
        }
    }

    fn request(&self) -> Result<Request<()>, Failure> {
        let scheme = if self.encrypted { "https" } else { "http" };
        let host = if self.host.contains(':') && !self.host.starts_with('[') {
            format!("[{}]", self.host)
        } else {
            self.host.clone()
        };
        Request::builder()
            .method(Method::POST)
            .uri(format!(
                "{scheme}://{host}:{}/grpc.health.v1.Health/Check",
                self.port
            ))
            .header(CONTENT_TYPE, "application/grpc")
            .header(TE, "trailers")
            .header(USER_AGENT, concat!("nightbell/", env!("CARGO_PKG_VERSION")))
            .body(())
            .map_err(|_| Failure::new(Reason::Protocol, "the request cannot be written"))
    }
}

fn judged(code: u32, serving: Option<usize>) -> Result<(), Failure> {
    match (code, serving.and_then(|number| SERVING.get(number))) {
        (0, Some(&"SERVING")) => Ok(()),
        (0, said) => {
            let text = format!("the service is {}", said.unwrap_or(&"UNKNOWN"));
            Err(Failure::new(Reason::Health, text.clone()).brief_as(text))
        }
        (code, _) => {
            let text = if code <= LAST_CODE {
                format!("gRPC status {code}")
            } else {
                "an unknown gRPC status".into()
            };
            Err(Failure::new(Reason::Status, text.clone()).brief_as(text))
        }
    }
}

/// The code of a call whose answer is not that of a gRPC server, as gRPC's clients have it.
fn of_http(status: u16) -> u32 {
    match status {
        400 => INTERNAL,
        401 => 16,
        403 => 7,
        404 => 12,
        429 | 502..=504 => UNAVAILABLE,
        _ => UNKNOWN,
    }
}

fn code(headers: &HeaderMap) -> Option<u32> {
    headers.get(STATUS)?.to_str().ok()?.parse().ok()
}

/// A message without compression, with the service as field 1, a text.
fn message(service: &str) -> Bytes {
    let mut field = Vec::new();
    if !service.is_empty() {
        field.push(0x0a);
        let mut length = service.len();
        while length > 0x7f {
            field.push(0x80 | (length & 0x7f) as u8);
            length >>= 7;
        }
        field.push(length as u8);
        field.extend(service.as_bytes());
    }
    let length = u32::try_from(field.len()).unwrap_or_default();
    [&[0][..], &length.to_be_bytes(), &field].concat().into()
}

/// Field 1 of a message, a number; 0 where it is left out.
fn serving(message: &[u8]) -> Option<usize> {
    let (head, mut field) = message.split_at_checked(5)?;
    let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]);
    if head[0] != 0 || usize::try_from(length).ok()? != field.len() {
        return None;
    }
    let mut said = 0;
    while let Some((tag, rest)) = varint(field) {
        let (value, rest) = match tag & 7 {
            0 => varint(rest)?,
            2 => {
                let (length, rest) = varint(rest)?;
                (0, rest.get(usize::try_from(length).ok()?..)?)
            }
            1 => (0, rest.get(8..)?),
            5 => (0, rest.get(4..)?),
            _ => return None,
        };
        if tag == 8 {
            said = usize::try_from(value).ok()?;
        }
        field = rest;
    }
    field.is_empty().then_some(said)
}

fn varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0;
    for (index, byte) in bytes.iter().enumerate().take(10) {
        value |= u64::from(byte & 0x7f).checked_shl(u32::try_from(index * 7).ok()?)?;
        if byte & 0x80 == 0 {
            return Some((value, &bytes[index + 1..]));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_written_and_read_as_protobuf_has_them() {
        assert_eq!(message("")[..], [0, 0, 0, 0, 0]);
        assert_eq!(message("a.B")[..], *b"\0\0\0\0\x05\x0a\x03a.B");
        assert_eq!(
            message(&"x".repeat(300))[..8],
            [0, 0, 0, 1, 47, 0x0a, 0xac, 2]
        );
        for (bytes, wanted) in [
            (&b"\0\0\0\0\0"[..], Some(0)),
            (b"\0\0\0\0\x02\x08\x01", Some(1)),
            (b"\0\0\0\0\x06\x12\x02hi\x08\x02", Some(2)),
            (b"\0\0\0\0\x03\x08\xff\x01", Some(255)),
            (b"\x01\0\0\0\x02\x08\x01", None),
            (b"\0\0\0\0\x02\x08", None),
            (b"\0\0\0\0\x02\x08\x80", None),
            (b"\0\0\0\0\x02\x12\x09", None),
            (b"\0\0", None),
        ] {
            assert_eq!(serving(bytes), wanted, "{bytes:?}");
        }
    }
}
