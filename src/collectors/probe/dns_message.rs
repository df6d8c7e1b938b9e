//! DNS messages on the wire (RFC 1035): a question out, records in, written as zone files write
//! them.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, Ipv6Addr};

use crate::model::text::hex;

/// Most records of one answer that are read.
const MAX_RECORDS: usize = 4096;
/// Most jumps within one name; each must lead backwards, so this only bounds the work.
const MAX_JUMPS: usize = 64;
/// The type of SOA records.
pub const SOA: u16 = 6;

/// Types of records by name.
const TYPES: [(&str, u16); 46] = [
    ("A", 1),
    ("NS", 2),
    ("CNAME", 5),
    ("SOA", SOA),
    ("NULL", 10),
    ("PTR", 12),
    ("HINFO", 13),
    ("MX", 15),
    ("TXT", 16),
    ("RP", 17),
    ("AFSDB", 18),
    ("SIG", 24),
    ("KEY", 25),
    ("AAAA", 28),
    ("LOC", 29),
    ("SRV", 33),
    ("NAPTR", 35),
    ("KX", 36),
    ("CERT", 37),
    ("DNAME", 39),
    ("OPT", 41),
    ("APL", 42),
    ("DS", 43),
    ("SSHFP", 44),
    ("IPSECKEY", 45),
    ("RRSIG", 46),
    ("NSEC", 47),
    ("DNSKEY", 48),
    ("DHCID", 49),
    ("NSEC3", 50),
    ("NSEC3PARAM", 51),
    ("TLSA", 52),
    ("SMIMEA", 53),
    ("HIP", 55),
    ("CDS", 59),
    ("CDNSKEY", 60),
    ("OPENPGPKEY", 61),
    ("CSYNC", 62),
    ("ZONEMD", 63),
    ("SVCB", 64),
    ("HTTPS", 65),
    ("SPF", 99),
    ("URI", 256),
    ("CAA", 257),
    ("AXFR", 252),
    ("ANY", 255),
];
/// Classes by name.
const CLASSES: [(&str, u16); 5] = [("IN", 1), ("CS", 2), ("CH", 3), ("HS", 4), ("ANY", 255)];
/// Response codes by name.
const CODES: [(&str, u8); 11] = [
    ("NOERROR", 0),
    ("FORMERR", 1),
    ("SERVFAIL", 2),
    ("NXDOMAIN", 3),
    ("NOTIMP", 4),
    ("REFUSED", 5),
    ("YXDOMAIN", 6),
    ("YXRRSET", 7),
    ("NXRRSET", 8),
    ("NOTAUTH", 9),
    ("NOTZONE", 10),
];

/// The number of a type, by its name or as `TYPE123`.
pub fn type_of(name: &str) -> Option<u16> {
    let known = TYPES
        .iter()
        .find(|(known, _)| *known == name)
        .map(|(_, number)| *number);
    known.or_else(|| name.strip_prefix("TYPE")?.parse().ok())
}

/// The number of a class.
pub fn class_of(name: &str) -> Option<u16> {
    CLASSES
        .iter()
        .find(|(known, _)| *known == name)
        .map(|(_, number)| *number)
}

/// The number of a response code.
pub fn code_of(name: &str) -> Option<u8> {
    CODES
        .iter()
        .find(|(known, _)| *known == name)
        .map(|(_, number)| *number)
}

/// The name of a response code.
pub fn code_name(code: u8) -> String {
    CODES
        .iter()
        .find(|(_, number)| *number == code)
        .map_or_else(|| format!("RCODE{code}"), |(name, _)| (*name).to_owned())
}

/// What is asked.
#[derive(Clone, Debug)]
pub struct Question {
    /// The name, as it goes over the wire.
    name: Vec<u8>,
    /// The type.
    pub kind: u16,
    class: u16,
    /// Whether the server may ask others.
    recursion: bool,
}

impl Question {
    /// `None` when no name can be so.
    pub fn new(name: &str, kind: u16, class: u16, recursion: bool) -> Option<Self> {
        let mut wire = Vec::with_capacity(name.len() + 2);
        for label in name
            .trim_end_matches('.')
            .split('.')
            .filter(|_| name != ".")
        {
            let length = u8::try_from(label.len())
                .ok()
                .filter(|length| (1..64).contains(length))?;
            wire.push(length);
            wire.extend(label.as_bytes());
        }
        wire.push(0);
        (wire.len() <= 255 && name.is_ascii()).then_some(Question {
            name: wire,
            kind,
            class,
            recursion,
        })
    }

    /// The message, with this number.
    pub fn message(&self, id: u16) -> Vec<u8> {
        let mut message = Vec::with_capacity(self.name.len() + 16);
        message.extend(id.to_be_bytes());
        message.extend([u8::from(self.recursion), 0, 0, 1, 0, 0, 0, 0, 0, 0]);
        message.extend(&self.name);
        message.extend(self.kind.to_be_bytes());
        message.extend(self.class.to_be_bytes());
        message
    }
}

/// An answer.
#[derive(Debug, Default, PartialEq)]
pub struct Answer {
    /// Its response code.
    pub code: u8,
    /// Records of the answer.
    pub answers: Vec<Record>,
    /// Of the authority.
    pub authority: Vec<Record>,
    /// And further ones.
    pub additional: Vec<Record>,
}

/// A record.
#[derive(Debug, PartialEq)]
pub struct Record {
    /// As a zone file writes it: name, seconds, class, type, data, with tabs between them.
    pub text: String,
    /// The serial number of a SOA record.
    pub serial: Option<u32>,
}

/// The number of a message, if it is an answer.
pub fn id_of(message: &[u8]) -> Option<u16> {
    let mut reader = Reader { message, at: 0 };
    let id = reader.u16()?;
    (reader.u8()? & 0x80 != 0).then_some(id)
}

/// Reads an answer; `None` when it is none.
pub fn read(message: &[u8]) -> Option<Answer> {
    let mut reader = Reader { message, at: 2 };
    let (high, low) = (reader.u8()?, reader.u8()?);
    if high & 0x80 == 0 {
        return None;
    }
    let counts = [reader.u16()?, reader.u16()?, reader.u16()?, reader.u16()?].map(usize::from);
    if counts.iter().sum::<usize>() > MAX_RECORDS {
        return None;
    }
    for _ in 0..counts[0] {
        reader.name()?;
        reader.bytes(4)?;
    }
    let mut section = |count: usize| {
        (0..count)
            .map(|_| reader.record())
            .collect::<Option<Vec<Record>>>()
    };
    Some(Answer {
        code: low & 0x0f,
        answers: section(counts[1])?,
        authority: section(counts[2])?,
        additional: section(counts[3])?,
    })
}

struct Reader<'a> {
    message: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let bytes = self.message.get(self.at..self.at.checked_add(count)?)?;
        self.at += count;
        Some(bytes)
    }

    fn u8(&mut self) -> Option<u8> {
        self.bytes(1).map(|bytes| bytes[0])
    }

    fn u16(&mut self) -> Option<u16> {
        self.bytes(2)
            .map(|bytes| u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    fn u32(&mut self) -> Option<u32> {
        self.bytes(4)
            .map(|bytes| u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    }

    /// A name, which may go on at an earlier place of the message.
    fn name(&mut self) -> Option<String> {
        let mut name = String::new();
        let (mut at, mut end) = (self.at, None);
        for _ in 0..MAX_JUMPS + 128 {
            let length = *self.message.get(at)?;
            match length {
                0 => {
                    self.at = end.unwrap_or(at + 1);
                    return Some(if name.is_empty() { ".".into() } else { name });
                }
                1..=63 => {
                    let label = self.message.get(at + 1..at + 1 + usize::from(length))?;
                    label
                        .iter()
                        .for_each(|byte| push_escaped(&mut name, *byte, b". ()@;\"'\\"));
                    name.push('.');
                    at += 1 + usize::from(length);
                }
                0xc0.. => {
                    let low = *self.message.get(at + 1)?;
                    end.get_or_insert(at + 2);
                    let target = usize::from(length & 0x3f) << 8 | usize::from(low);
                    if target >= at {
                        return None;
                    }
                    at = target;
                }
                _ => return None,
            }
        }
        None
    }

    fn record(&mut self) -> Option<Record> {
        let name = self.name()?;
        let (kind, class, ttl, length) = (self.u16()?, self.u16()?, self.u32()?, self.u16()?);
        let end = self
            .at
            .checked_add(usize::from(length))
            .filter(|end| *end <= self.message.len())?;
        // Names in the data may lead anywhere in the message, but not beyond its end.
        let mut data = Reader {
            message: &self.message[..end],
            at: self.at,
        };
        let (text, serial) = data.data(kind)?;
        self.at = end;
        let kind = TYPES
            .iter()
            .find(|(_, number)| *number == kind)
            .map_or_else(|| format!("TYPE{kind}"), |(name, _)| (*name).to_owned());
        let class = CLASSES
            .iter()
            .find(|(_, number)| *number == class)
            .map_or_else(|| format!("CLASS{class}"), |(name, _)| (*name).to_owned());
        Some(Record {
            text: format!("{name}\t{ttl}\t{class}\t{kind}\t{text}"),
            serial,
        })
    }

    /// The data of a record as text.
    fn data(&mut self, kind: u16) -> Option<(String, Option<u32>)> {
        let text = match kind {
            1 => <[u8; 4]>::try_from(self.rest())
                .map(|bytes| Ipv4Addr::from(bytes).to_string())
                .ok()?,
            28 => <[u8; 16]>::try_from(self.rest())
                .map(|bytes| Ipv6Addr::from(bytes).to_string())
                .ok()?,
            2 | 5 | 12 | 39 => self.name()?,
            15 | 18 | 36 => format!("{} {}", self.u16()?, self.name()?),
            16 | 99 => {
                let mut texts = Vec::new();
                while self.at < self.message.len() {
                    texts.push(self.quoted()?);
                }
                texts.join(" ")
            }
            SOA => {
                let (server, mailbox, serial) = (self.name()?, self.name()?, self.u32()?);
                let times = [self.u32()?, self.u32()?, self.u32()?, self.u32()?]
                    .map(|time| time.to_string())
                    .join(" ");
                return Some((format!("{server} {mailbox} {serial} {times}"), Some(serial)));
            }
            33 => format!(
                "{} {} {} {}",
                self.u16()?,
                self.u16()?,
                self.u16()?,
                self.name()?
            ),
            43 | 59 => format!(
                "{} {} {} {}",
                self.u16()?,
                self.u8()?,
                self.u8()?,
                hex(self.rest()).to_uppercase()
            ),
            44 => format!(
                "{} {} {}",
                self.u8()?,
                self.u8()?,
                hex(self.rest()).to_uppercase()
            ),
            52 | 53 => format!(
                "{} {} {} {}",
                self.u8()?,
                self.u8()?,
                self.u8()?,
                hex(self.rest())
            ),
            257 => {
                let flag = self.u8()?;
                let length = usize::from(self.u8()?);
                let tag = String::from_utf8_lossy(self.bytes(length)?).into_owned();
                let mut value = String::from("\"");
                self.rest()
                    .iter()
                    .for_each(|byte| push_escaped(&mut value, *byte, b"\"\\"));
                format!("{flag} {tag} {value}\"")
            }
            // RFC 3597
            _ => {
                let rest = self.rest();
                format!("\\# {} {}", rest.len(), hex(rest))
                    .trim_end()
                    .to_owned()
            }
        };
        Some((text, None))
    }

    fn rest(&mut self) -> &'a [u8] {
        let rest = &self.message[self.at..];
        self.at = self.message.len();
        rest
    }

    fn quoted(&mut self) -> Option<String> {
        let length = usize::from(self.u8()?);
        let mut text = String::from("\"");
        self.bytes(length)?
            .iter()
            .for_each(|byte| push_escaped(&mut text, *byte, b"\"\\"));
        text.push('"');
        Some(text)
    }
}

fn push_escaped(text: &mut String, byte: u8, special: &[u8]) {
    match byte {
        byte if special.contains(&byte) => text.extend(['\\', char::from(byte)]),
        b' '..=b'~' => text.push(char::from(byte)),
        // A string takes every text.
        byte => drop(write!(text, "\\{byte:03}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An answer whose records lead back to the name of the question.
    fn message(records: &[(u16, &[u8])]) -> Vec<u8> {
        let question = Question::new("example.org", 255, 1, true).expect("a name");
        let mut message = question.message(7);
        message[2] |= 0x80;
        message[7] = u8::try_from(records.len()).expect("a few");
        for (kind, data) in records {
            message.extend([0xc0, 12]);
            message.extend(kind.to_be_bytes());
            message.extend([0, 1, 0, 0, 1, 44]);
            message.extend(u16::try_from(data.len()).expect("short").to_be_bytes());
            message.extend(*data);
        }
        message
    }

    #[test]
    fn records_are_written_as_zone_files_write_them() {
        let records: [(u16, &[u8], &str); 9] = [
            (1, &[192, 0, 2, 1], "A\t192.0.2.1"),
            (
                28,
                &[0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1],
                "AAAA\t2001:db8::1",
            ),
            (5, b"\x03www\xc0\x0c", "CNAME\twww.example.org."),
            (15, b"\x00\x0a\x04mail\xc0\x0c", "MX\t10 mail.example.org."),
            (
                16,
                b"\x05a \"b\\\x03\x07c;",
                "TXT\t\"a \\\"b\\\\\" \"\\007c;\"",
            ),
            (
                33,
                b"\0\x01\0\x02\x1f\x90\x01a\xc0\x0c",
                "SRV\t1 2 8080 a.example.org.",
            ),
            (257, b"\0\x05issueca.org", "CAA\t0 issue \"ca.org\""),
            (
                SOA,
                b"\x02ns\xc0\x0c\x03a.b\xc0\x0c\0\0\0\x09\0\0\0\x01\0\0\0\x02\0\0\0\x03\0\0\0\x04",
                "SOA\tns.example.org. a\\.b.example.org. 9 1 2 3 4",
            ),
            (4711, b"\x01\xff", "TYPE4711\t\\# 2 01ff"),
        ];
        let all: Vec<(u16, &[u8])> = records
            .iter()
            .map(|(kind, data, _)| (*kind, *data))
            .collect();
        let answer = read(&message(&all)).expect("an answer");
        for ((_, _, wanted), record) in records.iter().zip(&answer.answers) {
            assert_eq!(record.text, format!("example.org.\t300\tIN\t{wanted}"));
        }
        assert_eq!(answer.answers[7].serial, Some(9));
        assert_eq!(id_of(&message(&[])), Some(7));
        assert_eq!(
            id_of(
                &Question::new(".", 1, 1, false)
                    .expect("the root")
                    .message(7)
            ),
            None,
            "a question"
        );
    }

    /// Whatever comes is read or refused, in bounded time.
    #[test]
    fn messages_that_are_cut_short_or_lead_in_circles_are_refused() {
        let whole = message(&[(5, b"\x03www\xc0\x0c"), (16, b"\x01a")]);
        for end in 0..whole.len() {
            assert_eq!(read(&whole[..end]), None, "{end}");
        }
        let circle = message(&[(5, &[0xc0, 41])]);
        assert_eq!(circle.len(), 43);
        assert_eq!(read(&circle), None);
        assert_eq!(
            read(&message(&[(1, &[1, 2, 3])])),
            None,
            "an address of three bytes"
        );
        assert_eq!(
            read(&message(&[(16, &[9, b'a'])])),
            None,
            "a text longer than its record"
        );
        for (at, byte) in [(4, 0xff), (6, 0xff), (12, 0x80)] {
            let mut wrong = whole.clone();
            wrong[at] = byte;
            assert_eq!(read(&wrong), None, "{at}");
        }
        for at in 0..whole.len() {
            for byte in 0..=255 {
                let mut other = whole.clone();
                other[at] = byte;
                let _result = read(&other);
            }
        }
        for name in ["a..b", &"x".repeat(64), &"abc.".repeat(70), "ü"] {
            assert!(Question::new(name, 1, 1, true).is_none(), "{name}");
        }
    }
}
