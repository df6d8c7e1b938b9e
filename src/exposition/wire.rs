//! The wire format of Protocol Buffers (<https://protobuf.dev/programming-guides/encoding/>): a
//! message as its fields, in order.
//!
//! Nothing is copied, and nothing is reserved on the word of the input: a length is good only when
//! so many bytes are there.

use crate::model::bytes::{Reader, unzigzag};

/// What is wrong, in words.
type Problem = &'static str;

/// Most buckets, and most runs of them, on one side of a histogram's zero: ten times what covers
/// nanoseconds to hours most finely.
pub(super) const MOST: usize = 100_000;
pub(super) const TOO_MANY: Problem = "a histogram has more than 100,000 buckets";

/// The value of a field, as the wire has it.
#[derive(Clone, Copy, Debug)]
pub(super) enum Value<'a> {
    /// A variable-length integer.
    Varint(u64),
    /// Eight bytes.
    Fixed64(u64),
    /// Four bytes.
    Fixed32(u32),
    /// A text, a message, or packed numbers.
    Bytes(&'a [u8]),
}

/// The fields of a message.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fields<'a>(Reader<'a>);

impl<'a> Fields<'a> {
    pub(super) fn of(message: &'a [u8]) -> Self {
        Fields(Reader(message))
    }

    /// Number and value of the next field; `None` at the end.
    pub(super) fn next(&mut self) -> Result<Option<(u32, Value<'a>)>, Problem> {
        if self.0.0.is_empty() {
            return Ok(None);
        }
        let key = self.0.uint().ok_or("a field has no whole key")?;
        let number = u32::try_from(key >> 3)
            .ok()
            .filter(|n| (1..1 << 29).contains(n))
            .ok_or("a field has no valid number")?;
        let value = match key & 7 {
            0 => Value::Varint(self.0.uint().ok_or(CUT)?),
            1 => Value::Fixed64(self.0.u64().ok_or(CUT)?),
            2 => Value::Bytes(delimited(&mut self.0).ok_or(CUT)?),
            5 => self.0.u32().map(Value::Fixed32).ok_or(CUT)?,
            _ => return Err("a field has a wire type that is not used"),
        };
        Ok(Some((number, value)))
    }

    /// Reads to the end, to see that the message is whole.
    pub(super) fn check(mut self) -> Result<(), Problem> {
        while self.next()?.is_some() {}
        Ok(())
    }
}

const CUT: Problem = "a field ends before its value does";
const WRONG: Problem = "a field has a value of the wrong type";

/// The next bytes after their length.
pub(super) fn delimited<'a>(reader: &mut Reader<'a>) -> Option<&'a [u8]> {
    let length = reader.size(reader.0.len())?;
    reader.take(length)
}

impl<'a> Value<'a> {
    pub(super) fn uint(self) -> Result<u64, Problem> {
        match self {
            Value::Varint(number) => Ok(number),
            _ => Err(WRONG),
        }
    }

    /// `int64`.
    pub(super) fn int(self) -> Result<i64, Problem> {
        self.uint().map(|number| number as i64)
    }

    /// `sint32`: like Go, what does not fit is cut.
    pub(super) fn sint32(self) -> Result<i32, Problem> {
        self.uint()
            .map(|number| unzigzag(number & u64::from(u32::MAX)) as i32)
    }

    pub(super) fn double(self) -> Result<f64, Problem> {
        match self {
            Value::Fixed64(bits) => Ok(f64::from_bits(bits)),
            _ => Err(WRONG),
        }
    }

    /// `fixed64`.
    pub(super) fn fixed64(self) -> Result<u64, Problem> {
        match self {
            Value::Fixed64(number) => Ok(number),
            _ => Err(WRONG),
        }
    }

    /// `fixed32`, and `uint32` as some write it.
    pub(super) fn small(self) -> Result<u32, Problem> {
        match self {
            Value::Fixed32(number) => Ok(number),
            Value::Varint(number) => Ok(number as u32),
            _ => Err(WRONG),
        }
    }

    pub(super) fn bytes(self) -> Result<&'a [u8], Problem> {
        match self {
            Value::Bytes(bytes) => Ok(bytes),
            _ => Err(WRONG),
        }
    }

    pub(super) fn message(self) -> Result<Fields<'a>, Problem> {
        self.bytes().map(Fields::of)
    }

    pub(super) fn text(self) -> Result<&'a str, Problem> {
        std::str::from_utf8(self.bytes()?).map_err(|_| "a text is not UTF-8")
    }

    /// `repeated sint64`, packed or one by one.
    pub(super) fn sints(self, into: &mut Vec<i64>) -> Result<(), Problem> {
        match self {
            Value::Varint(number) => into.push(unzigzag(number)),
            Value::Bytes(packed) => {
                let mut reader = Reader(packed);
                while !reader.0.is_empty() {
                    into.push(reader.int().ok_or(CUT)?);
                    if into.len() > MOST {
                        return Err(TOO_MANY);
                    }
                }
            }
            _ => return Err(WRONG),
        }
        Ok(())
    }

    /// `repeated uint64`, packed or one by one.
    pub(super) fn uints(self, into: &mut Vec<u64>) -> Result<(), Problem> {
        match self {
            Value::Varint(number) => into.push(number),
            Value::Bytes(packed) => {
                let mut reader = Reader(packed);
                while !reader.0.is_empty() {
                    into.push(reader.uint().ok_or(CUT)?);
                    if into.len() > MOST {
                        return Err(TOO_MANY);
                    }
                }
            }
            _ => return Err(WRONG),
        }
        Ok(())
    }

    /// `repeated fixed64`, packed or one by one.
    pub(super) fn fixed64s(self, into: &mut Vec<u64>) -> Result<(), Problem> {
        match self {
            Value::Fixed64(number) => into.push(number),
            Value::Bytes(packed) => {
                let (numbers, []) = packed.as_chunks::<8>() else {
                    return Err(CUT);
                };
                if into.len() + numbers.len() > MOST {
                    return Err(TOO_MANY);
                }
                into.extend(numbers.iter().map(|bytes| u64::from_le_bytes(*bytes)));
            }
            _ => return Err(WRONG),
        }
        Ok(())
    }

    /// `repeated double`, packed or one by one.
    pub(super) fn doubles(self, into: &mut Vec<f64>) -> Result<(), Problem> {
        match self {
            Value::Fixed64(bits) => into.push(f64::from_bits(bits)),
            Value::Bytes(packed) => {
                let (numbers, []) = packed.as_chunks::<8>() else {
                    return Err(CUT);
                };
                if into.len() + numbers.len() > MOST {
                    return Err(TOO_MANY);
                }
                into.extend(numbers.iter().map(|bytes| f64::from_le_bytes(*bytes)));
            }
            _ => return Err(WRONG),
        }
        Ok(())
    }
}
