//! D-Bus messages: what a method call and its reply look like on the wire
//! (<https://dbus.freedesktop.org/doc/dbus-specification.html#message-protocol-marshaling>).
//!
//! Of the types only those that systemd's manager answers with are read. Calls take texts.

use std::io;

/// What stands before the fields of a header, the length of the fields included.
pub const FIXED: usize = 16;
/// Greatest header and body of a message that is read, in bytes.
const MAX_HEADER: usize = 64 << 10;
const MAX_BODY: usize = 8 << 20;

const METHOD_CALL: u8 = 1;
const METHOD_RETURN: u8 = 2;
const ERROR: u8 = 3;
/// A service that does not run is not started for us.
const NO_AUTO_START: u8 = 2;

/// A method to call.
#[derive(Clone, Copy, Debug)]
pub struct Call<'a> {
    /// The service's name on the bus.
    pub destination: &'a str,
    /// The object.
    pub path: &'a str,
    /// The interface of the method.
    pub interface: &'a str,
    /// The method.
    pub member: &'a str,
    /// Its arguments, all texts.
    pub arguments: &'a [&'a str],
}

impl Call<'_> {
    /// The message, as it is sent.
    pub fn encode(&self, serial: u32) -> Vec<u8> {
        let mut body = Writer::default();
        for argument in self.arguments {
            body.text(argument);
        }
        let mut fields = Writer::default();
        for (code, kind, value) in [
            (1, b'o', self.path),
            (2, b's', self.interface),
            (3, b's', self.member),
            (6, b's', self.destination),
        ] {
            fields.align(8);
            fields.0.extend([code, 1, kind, 0]);
            fields.text(value);
        }
        if !self.arguments.is_empty() {
            fields.align(8);
            fields.0.extend([8, 1, b'g', 0]);
            fields.signature(&"s".repeat(self.arguments.len()));
        }
        let mut message = Writer(vec![b'l', METHOD_CALL, NO_AUTO_START, 1]);
        for number in [body.0.len(), serial as usize, fields.0.len()] {
            message.number(number);
        }
        message.0.extend(fields.0);
        message.align(8);
        message.0.extend(body.0);
        message.0
    }
}

#[derive(Default)]
struct Writer(Vec<u8>);

impl Writer {
    fn align(&mut self, to: usize) {
        self.0.resize(self.0.len().next_multiple_of(to), 0);
    }

    fn number(&mut self, number: usize) {
        self.align(4);
        self.0
            .extend(u32::try_from(number).unwrap_or(u32::MAX).to_le_bytes());
    }

    fn text(&mut self, text: &str) {
        self.number(text.len());
        self.0.extend(text.as_bytes());
        self.0.push(0);
    }

    fn signature(&mut self, text: &str) {
        self.0.push(text.len() as u8);
        self.0.extend(text.as_bytes());
        self.0.push(0);
    }
}

/// How long a message is: its header with padding, and its body, in bytes.
///
/// # Errors
/// The first bytes are not those of a message, or it is too long.
pub fn lengths(fixed: &[u8; FIXED]) -> io::Result<(usize, usize)> {
    let mut reader = Reader {
        bytes: fixed,
        at: 4,
        is_big: is_big(fixed)?,
    };
    let (body, _serial, fields) = (
        reader.number()? as usize,
        reader.number()?,
        reader.number()? as usize,
    );
    if fields > MAX_HEADER || body > MAX_BODY {
        return Err(invalid("a message is too long"));
    }
    Ok(((FIXED + fields).next_multiple_of(8), body))
}

fn is_big(message: &[u8]) -> io::Result<bool> {
    match message.first() {
        Some(b'l') => Ok(false),
        Some(b'B') => Ok(true),
        _ => Err(invalid("not a D-Bus message")),
    }
}

fn invalid(text: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text)
}

/// A reply: the number of the call, and the body or the name of the error.
pub struct Reply {
    /// The number of the call that it answers.
    pub serial: u32,
    /// What it says.
    pub result: Result<Body, String>,
}

/// The values of a reply.
pub struct Body {
    bytes: Vec<u8>,
    is_big: bool,
}

impl Reply {
    /// Reads a whole message; `None` when it is something else, such as a signal.
    ///
    /// # Errors
    /// The header is not as documented.
    pub fn decode(header: &[u8], body: Vec<u8>) -> io::Result<Option<Self>> {
        let (is_big, kind) = (is_big(header)?, header.get(1).copied());
        let mut reader = Reader {
            bytes: header,
            at: 12,
            is_big,
        };
        let end = reader.number()? as usize + FIXED;
        let (mut serial, mut error) = (None, String::new());
        while reader.at < end {
            reader.align(8);
            let code = reader.byte()?;
            match (code, reader.value()?) {
                (4, Value::Text(name)) => error = name,
                (5, Value::Number(number)) => serial = Some(number as u32),
                _ => {}
            }
        }
        let Some(serial) = serial else {
            return Ok(None);
        };
        let result = match kind {
            Some(METHOD_RETURN) => Ok(Body {
                bytes: body,
                is_big,
            }),
            Some(ERROR) => Err(error),
            _ => return Ok(None),
        };
        Ok(Some(Reply { serial, result }))
    }
}

/// A single value.
#[derive(Clone, PartialEq, Debug)]
pub enum Value {
    /// A text, a path or a signature.
    Text(String),
    /// A number or a truth value.
    Number(f64),
}

/// A unit as `ListUnits` has it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Unit {
    /// `nginx.service`.
    pub name: String,
    /// `loaded`, `not-found`, …
    pub loaded: String,
    /// `active`, `failed`, …
    pub state: String,
    /// Its object.
    pub path: String,
}

impl Body {
    /// Of `Properties.Get`: one value.
    ///
    /// # Errors
    /// The value is of another type.
    pub fn value(&self) -> io::Result<Value> {
        Reader {
            bytes: &self.bytes,
            at: 0,
            is_big: self.is_big,
        }
        .value()
    }

    /// Of `ListUnits`: an array of `(ssssssouso)`.
    ///
    /// # Errors
    /// The body is not as documented.
    pub fn units(&self) -> io::Result<Vec<Unit>> {
        let mut reader = Reader {
            bytes: &self.bytes,
            at: 0,
            is_big: self.is_big,
        };
        let length = reader.number()? as usize;
        reader.align(8);
        let (end, mut units) = (reader.at + length, Vec::new());
        while reader.at < end {
            reader.align(8);
            let (name, _description, loaded, state) = (
                reader.text()?,
                reader.text()?,
                reader.text()?,
                reader.text()?,
            );
            let (_substate, _followed, path) = (reader.text()?, reader.text()?, reader.text()?);
            let (_job, _kind, _job_path) = (reader.number()?, reader.text()?, reader.text()?);
            units.push(Unit {
                name,
                loaded,
                state,
                path,
            });
        }
        Ok(units)
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    is_big: bool,
}

impl Reader<'_> {
    fn align(&mut self, to: usize) {
        self.at = self.at.next_multiple_of(to);
    }

    fn take<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let found = self
            .bytes
            .get(self.at..self.at + N)
            .and_then(|bytes| bytes.try_into().ok());
        self.at += N;
        found.ok_or_else(|| invalid("a message ends early"))
    }

    fn byte(&mut self) -> io::Result<u8> {
        self.take::<1>().map(|[byte]| byte)
    }

    fn number(&mut self) -> io::Result<u32> {
        self.align(4);
        let bytes = self.take()?;
        Ok(if self.is_big {
            u32::from_be_bytes(bytes)
        } else {
            u32::from_le_bytes(bytes)
        })
    }

    fn long(&mut self) -> io::Result<u64> {
        self.align(8);
        let bytes = self.take()?;
        Ok(if self.is_big {
            u64::from_be_bytes(bytes)
        } else {
            u64::from_le_bytes(bytes)
        })
    }

    fn texts(&mut self, length: usize) -> io::Result<String> {
        let bytes = self
            .bytes
            .get(self.at..self.at.saturating_add(length))
            .ok_or_else(|| invalid("a message ends early"))?;
        self.at += length + 1;
        Ok(String::from_utf8_lossy(bytes).into_owned())
    }

    fn text(&mut self) -> io::Result<String> {
        let length = self.number()? as usize;
        self.texts(length)
    }

    /// A variant.
    fn value(&mut self) -> io::Result<Value> {
        let length = self.byte()?;
        let signature = self.texts(usize::from(length))?;
        Ok(match signature.as_str() {
            "s" | "o" => Value::Text(self.text()?),
            "g" => {
                let length = self.byte()?;
                Value::Text(self.texts(usize::from(length))?)
            }
            "y" => Value::Number(f64::from(self.byte()?)),
            "b" | "u" => Value::Number(f64::from(self.number()?)),
            "i" => Value::Number(f64::from(self.number()?.cast_signed())),
            "t" => Value::Number(self.long()? as f64),
            "x" => Value::Number(self.long()?.cast_signed() as f64),
            _ => return Err(invalid("a value is of a type that is not expected here")),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_what_the_specification_says() {
        let call = Call {
            destination: "d.e",
            path: "/p",
            interface: "i.f",
            member: "M",
            arguments: &["a"],
        };
        let message = call.encode(7);
        let fixed: [u8; FIXED] = message[..FIXED].try_into().expect("a header");
        let (header, body) = lengths(&fixed).expect("a message");
        assert_eq!((message.len(), body, header % 8), (header + body, 6, 0));
        assert_eq!(&message[header..], b"\x01\0\0\0a\0");
        assert!(
            Reply::decode(&message[..header], Vec::new())
                .expect("sound")
                .is_none(),
            "a call is no reply"
        );
    }

    #[test]
    fn what_is_cut_or_too_long_is_an_error() {
        let mut fixed = *b"l\x02\0\x01\0\0\0\0\x01\0\0\0\0\0\0\0";
        assert!(lengths(&fixed).is_ok());
        fixed[7] = 0x10;
        assert!(lengths(&fixed).is_err(), "a body of 256 MiB");
        fixed[0] = b'H';
        assert!(lengths(&fixed).is_err());
        let body = Body {
            bytes: vec![0xff; 12],
            is_big: false,
        };
        assert!(body.units().is_err() && body.value().is_err());
    }
}
