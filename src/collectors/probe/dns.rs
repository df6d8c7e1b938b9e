//! The DNS prober: one question to one server, over UDP, TCP or TLS, and what its answer must be
//! like.

use std::hash::{BuildHasher as _, RandomState};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use regex::bytes::Regex;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UdpSocket;

use super::connection::Connector;
use super::dns_message::{self as message, Answer, Question, Record};
use super::report::{DnsFound, Failure, Reason, Report};

/// How a question travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// A datagram each way.
    Udp,
    /// A connection.
    Tcp,
    /// A connection with TLS.
    Tls,
}

/// What to ask whom.
#[derive(Clone)]
pub struct DnsProbe {
    /// Host name or address of the server.
    pub host: String,
    /// Its port; 53, or 853 with TLS, by default.
    pub port: u16,
    /// How.
    pub transport: Transport,
    /// What.
    pub question: Question,
    /// Wanted response codes.
    pub codes: Vec<u8>,
    /// What the records must be like: of the answer, the authority, and the further ones.
    pub rules: [RecordRules; 3],
}

/// What the records of a section must be like, as blackbox_exporter has it.
#[derive(Clone, Default)]
pub struct RecordRules {
    /// No record may match one of them.
    pub fail_if_matches: Vec<Regex>,
    /// Every record must match all of them.
    pub fail_if_all_match: Vec<Regex>,
    /// Every record must match all of them, and there must be one.
    pub fail_if_not_matches: Vec<Regex>,
    /// One of them must match one record.
    pub fail_if_none_matches: Vec<Regex>,
}

impl DnsProbe {
    /// Asks, and judges the answer.
    pub async fn run(&self, connector: &Connector, report: &mut Report) -> Result<(), Failure> {
        report.dns = Some(DnsFound::default());
        // An id that cannot be guessed costs nothing.
        let id = RandomState::new().hash_one(Instant::now()) as u16;
        let question = self.question.message(id);
        let exchanged = match self.transport {
            Transport::Udp => {
                let addresses = connector.resolve(&self.host, self.port, report).await?;
                let address = addresses.first().copied();
                let address = address
                    .ok_or_else(|| Failure::new(Reason::Dns, "the name server has no address"))?;
                over_udp(address, &question, id, report).await
            }
            Transport::Tcp | Transport::Tls => {
                self.over_tcp(connector, &question, id, report).await
            }
        };
        let answer = message::read(&exchanged?);
        let answer = answer.ok_or_else(|| {
            Failure::new(Reason::Protocol, "the answer is no DNS message")
                .brief_as("the answer is no DNS message")
        })?;
        if let Some(found) = &mut report.dns {
            found.succeeded = true;
            found.records = [&answer.answers, &answer.authority, &answer.additional].map(Vec::len);
            if self.question.kind == message::SOA {
                found.serial = Some(
                    answer
                        .answers
                        .iter()
                        .filter_map(|record| record.serial)
                        .next_back()
                        .unwrap_or(0),
                );
            }
        }
        self.judge(&answer)
    }

    async fn over_tcp(
        &self,
        connector: &Connector,
        question: &[u8],
        id: u16,
        report: &mut Report,
    ) -> Result<Vec<u8>, Failure> {
        let mut stream = connector
            .open(
                &self.host,
                self.port,
                self.transport == Transport::Tls,
                report,
            )
            .await?;
        let (connect, start) = (report.phases.connect + report.phases.tls, Instant::now());
        let length = u16::try_from(question.len()).unwrap_or_default();
        let exchange = async {
            stream
                .write_all(&[&length.to_be_bytes(), question].concat())
                .await?;
            stream.flush().await?;
            let length = stream.read_u16().await?;
            let mut answer = vec![0; usize::from(length)];
            stream.read_exact(&mut answer).await?;
            Ok(answer)
        };
        let answer = exchange.await.map_err(|error| broken(&error));
        timed(report, connect, start.elapsed());
        let answer = answer?;
        if message::id_of(&answer) == Some(id) {
            return Ok(answer);
        }
        Err(
            Failure::new(Reason::Protocol, "the answer is to another question")
                .brief_as("the answer is to another question"),
        )
    }

    fn judge(&self, answer: &Answer) -> Result<(), Failure> {
        if !self.codes.contains(&answer.code) {
            let text = format!("response code {}", message::code_name(answer.code));
            return Err(Failure::new(Reason::Status, text.clone()).brief_as(text));
        }
        let sections = [
            ("answer", &answer.answers),
            ("authority", &answer.authority),
            ("additional", &answer.additional),
        ];
        for ((name, records), rules) in sections.into_iter().zip(&self.rules) {
            rules.check(records).map_err(|what| {
                let text = format!("records of the {name} section: {what}");
                Failure::new(Reason::Records, text.clone()).brief_as(text)
            })?;
        }
        Ok(())
    }
}

impl RecordRules {
    /// The error is text of the configuration alone.
    fn check(&self, records: &[Record]) -> Result<(), String> {
        let matches = |pattern: &Regex, record: &Record| pattern.is_match(record.text.as_bytes());
        for pattern in &self.fail_if_matches {
            if records.iter().any(|record| matches(pattern, record)) {
                return Err(format!("one matches {:?}", pattern.as_str()));
            }
        }
        for pattern in &self.fail_if_not_matches {
            if records.is_empty() || !records.iter().all(|record| matches(pattern, record)) {
                return Err(format!("not all match {:?}", pattern.as_str()));
            }
        }
        for pattern in &self.fail_if_all_match {
            if !records.iter().all(|record| matches(pattern, record)) {
                return Err(format!("not all match {:?}", pattern.as_str()));
            }
        }
        let some = |pattern: &Regex| records.iter().any(|record| matches(pattern, record));
        if !self.fail_if_none_matches.is_empty() && !self.fail_if_none_matches.iter().any(some) {
            return Err("none matches".into());
        }
        Ok(())
    }
}

fn timed(report: &mut Report, connect: Duration, request: Duration) {
    if let Some(found) = &mut report.dns {
        (found.connect, found.request) = (connect, request);
    }
}

async fn over_udp(
    address: SocketAddr,
    question: &[u8],
    id: u16,
    report: &mut Report,
) -> Result<Vec<u8>, Failure> {
    let start = Instant::now();
    let local = if address.is_ipv4() {
        SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0))
    } else {
        SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0))
    };
    let socket = async {
        let socket = UdpSocket::bind(local).await?;
        // The kernel takes only what this server sends.
        socket.connect(address).await?;
        Ok(socket)
    };
    let socket = socket.await.map_err(|error: std::io::Error| {
        Failure::new(Reason::Connect, error.to_string()).brief_as(error.kind().to_string())
    })?;
    let connect = start.elapsed();
    timed(report, connect, Duration::ZERO);
    let start = Instant::now();
    let exchange = async {
        socket.send(question).await?;
        let mut room = vec![0; 1 << 16];
        loop {
            let length = socket.recv(&mut room).await?;
            // An answer to an earlier question may be late.
            if message::id_of(&room[..length]) == Some(id) {
                room.truncate(length);
                return Ok(room);
            }
        }
    };
    let answer = exchange.await.map_err(|error: std::io::Error| {
        Failure::new(Reason::Connect, error.to_string()).brief_as(error.kind().to_string())
    });
    timed(report, connect, start.elapsed());
    answer
}

fn broken(error: &std::io::Error) -> Failure {
    Failure::new(Reason::Protocol, error.to_string()).brief_as("the connection broke off")
}
