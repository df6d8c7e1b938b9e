//! Numbers and texts as bytes: variable-length integers (LEB128), as Protocol Buffers has them, and
//! a reader that never runs over the end.

use super::Labels;

/// Appends an unsigned number, seven bits a byte, the lowest first.
pub fn put_uint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// Appends a signed number, small ones of either sign short.
pub fn put_int(out: &mut Vec<u8>, number: i64) {
    put_uint(out, zigzag(number));
}

/// Appends a text after its length.
pub fn put_text(out: &mut Vec<u8>, text: &str) {
    put_uint(out, text.len() as u64);
    out.extend_from_slice(text.as_bytes());
}

/// Appends a label set.
pub fn put_labels(out: &mut Vec<u8>, labels: &Labels) {
    put_uint(out, labels.len() as u64);
    for (name, value) in labels {
        put_text(out, name);
        put_text(out, value);
    }
}

/// A signed number as an unsigned one: 0, -1, 1, -2, …
pub fn zigzag(number: i64) -> u64 {
    ((number << 1) ^ (number >> 63)) as u64
}

/// The reverse of [`zigzag`].
pub fn unzigzag(number: u64) -> i64 {
    (number >> 1) as i64 ^ -((number & 1) as i64)
}

/// Bytes that [`put_uint`] appends.
pub fn uint_length(number: u64) -> usize {
    (64 - (number | 1).leading_zeros() as usize).div_ceil(7)
}

/// Reads from the front of a slice; `None` where the bytes do not hold what is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a>(pub &'a [u8]);

impl<'a> Reader<'a> {
    /// The next `length` bytes.
    pub fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (front, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(front)
    }

    /// The next byte.
    pub fn byte(&mut self) -> Option<u8> {
        self.take(1).map(|b| b[0])
    }

    /// What [`put_uint`] wrote.
    pub fn uint(&mut self) -> Option<u64> {
        let mut number = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(number);
            }
        }
        None
    }

    /// What [`put_uint`] wrote, as a size; at most `bound`, so that a damaged one cannot make us
    /// reserve the memory.
    pub fn size(&mut self, bound: usize) -> Option<usize> {
        usize::try_from(self.uint()?).ok().filter(|n| *n <= bound)
    }

    /// What [`put_int`] wrote.
    pub fn int(&mut self) -> Option<i64> {
        self.uint().map(unzigzag)
    }

    /// Four bytes, the lowest first.
    pub fn u32(&mut self) -> Option<u32> {
        self.take(4)?.try_into().ok().map(u32::from_le_bytes)
    }

    /// Eight bytes, the lowest first.
    pub fn u64(&mut self) -> Option<u64> {
        self.take(8)?.try_into().ok().map(u64::from_le_bytes)
    }

    /// What [`put_text`] wrote.
    pub fn text(&mut self) -> Option<&'a str> {
        let length = self.size(self.0.len())?;
        std::str::from_utf8(self.take(length)?).ok()
    }

    /// What [`put_labels`] wrote.
    pub fn labels(&mut self) -> Option<Labels> {
        let count = self.size(self.0.len())?;
        let pairs: Option<Vec<(&str, &str)>> = (0..count)
            .map(|_| Some((self.text()?, self.text()?)))
            .collect();
        pairs.map(|pairs| Labels::from_written(&pairs))
    }
}
