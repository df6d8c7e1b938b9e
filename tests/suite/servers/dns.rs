//! A name server of one zone on a loopback port, over UDP, TCP, or TCP with TLS.

use std::io::{Read, Write};
use std::net::{TcpListener, UdpSocket};
use std::sync::Arc;
use std::thread;

/// How a server answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// From its zone: `example.org` with records of several types; NXDOMAIN for every other name.
    Zone,
    /// Not at all.
    Silent,
    /// First with an answer to another question.
    LateFirst,
    /// With something that is no answer.
    Garbage,
    /// With REFUSED.
    Refuses,
}

/// Starts a server on one port for both UDP and TCP; its threads end with the test process.
pub fn name_server(manner: Manner, tls: Option<Arc<rustls::ServerConfig>>) -> u16 {
    let (udp, tcp) = (0..100)
        .find_map(|_| {
            let udp = UdpSocket::bind("127.0.0.1:0").ok()?;
            let tcp = TcpListener::bind(udp.local_addr().ok()?).ok()?;
            Some((udp, tcp))
        })
        .expect("a port of both");
    let port = udp.local_addr().expect("its address").port();
    thread::spawn(move || {
        let mut room = [0; 512];
        while let Ok((length, from)) = udp.recv_from(&mut room) {
            for answer in answers(manner, &room[..length]) {
                let _gone = udp.send_to(&answer, from);
            }
        }
    });
    thread::spawn(move || {
        for stream in tcp.incoming().flatten() {
            let tls = tls.clone();
            thread::spawn(move || match tls {
                None => drop(serve(manner, stream)),
                Some(config) => {
                    let connection = rustls::ServerConnection::new(config).expect("a connection");
                    drop(serve(manner, rustls::StreamOwned::new(connection, stream)));
                }
            });
        }
    });
    port
}

fn serve(manner: Manner, mut stream: impl Read + Write) -> std::io::Result<()> {
    loop {
        let mut length = [0; 2];
        stream.read_exact(&mut length)?;
        let mut question = vec![0; usize::from(u16::from_be_bytes(length))];
        stream.read_exact(&mut question)?;
        for answer in answers(manner, &question) {
            let length = u16::try_from(answer.len()).expect("short");
            stream.write_all(&[&length.to_be_bytes()[..], &answer].concat())?;
            stream.flush()?;
        }
    }
}

fn answers(manner: Manner, question: &[u8]) -> Vec<Vec<u8>> {
    match manner {
        Manner::Silent => Vec::new(),
        Manner::Garbage => vec![
            [
                &question[..2],
                b"\x80\0\xff\xff\xff\xff\xff\xff\xff\xff garbage",
            ]
            .concat(),
        ],
        Manner::LateFirst => {
            let mut other = from_zone(question, 0);
            other[0] ^= 0xff;
            vec![other, from_zone(question, 0)]
        }
        Manner::Zone => vec![from_zone(question, 0)],
        Manner::Refuses => vec![from_zone(question, 5)],
    }
}

fn from_zone(question: &[u8], refusal: u8) -> Vec<u8> {
    let mut name = String::new();
    let mut at = 12;
    while question[at] > 0 {
        let end = at + 1 + usize::from(question[at]);
        name.push_str(&String::from_utf8_lossy(&question[at + 1..end]));
        name.push('.');
        at = end;
    }
    let kind = u16::from_be_bytes([question[at + 1], question[at + 2]]);
    let zone: [(u16, &[u8]); 5] = [
        (1, &[192, 0, 2, 1]),
        (1, &[192, 0, 2, 2]),
        (15, b"\x00\x0a\x04mail\xc0\x0c"),
        (16, b"\x0bv=spf1 -all"),
        (6, b"\x02ns\xc0\x0c\x04root\xc0\x0c\x78\xa3\xfb\xf1\0\0\x0e\x10\0\0\x02\x58\0\x12\x75\0\0\0\x01\x2c"),
    ];
    let is_known = name == "example.org." && refusal == 0;
    let records: Vec<_> = zone
        .iter()
        .filter(|(of, _)| is_known && (kind == 255 || *of == kind))
        .collect();
    let code = if refusal > 0 {
        refusal
    } else if is_known {
        0
    } else {
        3
    };
    let mut answer = question[..at + 5].to_vec();
    answer[2..12].copy_from_slice(&[
        0x85,
        code,
        0,
        1,
        0,
        u8::try_from(records.len()).expect("a few"),
        0,
        0,
        0,
        0,
    ]);
    for (of, data) in records {
        answer.extend([0xc0, 0x0c]);
        answer.extend(of.to_be_bytes());
        answer.extend([0, 1, 0, 0, 0x0e, 0x10]);
        answer.extend(u16::try_from(data.len()).expect("short").to_be_bytes());
        answer.extend(*data);
    }
    answer
}
