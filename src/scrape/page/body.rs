//! A scraped body that is kept for /metrics until the next one comes.

use std::borrow::Cow;
use std::io::{self, Read as _, Write as _};

use bytes::Bytes;
use flate2::Compression;
use flate2::read::DeflateDecoder;
use flate2::write::DeflateEncoder;

/// Bodies of fewer bytes are not worth the work.
const LARGE: usize = 256 << 10;

/// A body as it came, or deflated: the text of metrics becomes a tenth.
#[derive(Debug)]
pub(in crate::scrape) enum Body {
    Plain(Bytes),
    Deflated { bytes: Box<[u8]>, length: usize },
}

impl Body {
    /// What came as a whole.
    pub(in crate::scrape) fn of(body: Bytes) -> io::Result<Self> {
        if body.len() < LARGE {
            return Ok(Body::Plain(body));
        }
        let mut writer = Writer::default();
        writer.write(&body)?;
        writer.finish()
    }

    /// Whether it is kept in little room.
    pub(in crate::scrape) fn is_deflated(&self) -> bool {
        matches!(self, Body::Deflated { .. })
    }

    /// What came.
    pub(in crate::scrape) fn text(&self) -> Cow<'_, [u8]> {
        match self {
            Body::Plain(body) => Cow::Borrowed(body),
            Body::Deflated { bytes, length } => {
                let mut text = Vec::with_capacity(*length);
                // A `Writer` made these bytes and nothing changes them: only broken memory could,
                // and then the request gets no page.
                let inflated = DeflateDecoder::new(&**bytes).read_to_end(&mut text);
                assert_eq!(
                    inflated.ok(),
                    Some(*length),
                    "what was deflated here can be inflated"
                );
                Cow::Owned(text)
            }
        }
    }
}

/// Makes a body of what comes part by part, in little room once it is large.
#[derive(Default)]
pub(in crate::scrape) struct Writer {
    plain: Vec<u8>,
    deflate: Option<DeflateEncoder<Vec<u8>>>,
    length: usize,
}

impl Writer {
    /// Takes the next part.
    pub(in crate::scrape) fn write(&mut self, part: &[u8]) -> io::Result<()> {
        self.length += part.len();
        match &mut self.deflate {
            Some(deflate) => deflate.write_all(part),
            None if self.length < LARGE => {
                self.plain.extend_from_slice(part);
                Ok(())
            }
            None => {
                let deflate = self
                    .deflate
                    .insert(DeflateEncoder::new(Vec::new(), Compression::fast()));
                deflate.write_all(&std::mem::take(&mut self.plain))?;
                deflate.write_all(part)
            }
        }
    }

    /// The body, when it has come to its end.
    pub(in crate::scrape) fn finish(self) -> io::Result<Body> {
        Ok(match self.deflate {
            Some(deflate) => Body::Deflated {
                bytes: deflate.finish()?.into(),
                length: self.length,
            },
            None => Body::Plain(self.plain.into_boxed_slice().into()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_body_takes_little_room_and_comes_back_as_it_was() {
        let text: String = (0..10_000)
            .map(|n| {
                format!(
                    "app_requests_total{{route=\"/r{}\",pod=\"p{n}\"}} {}\n",
                    n % 200,
                    n * 17
                )
            })
            .collect();
        for size in [1000, 50_000, LARGE - 1, LARGE, text.len()] {
            let mut writer = Writer::default();
            text.as_bytes()
                .chunks(size)
                .for_each(|part| writer.write(part).expect("in memory"));
            let body = writer.finish().expect("in memory");
            assert!(matches!(&body, Body::Deflated { bytes, .. } if bytes.len() < text.len() / 4));
            assert!(body.text() == text.as_bytes());
        }
    }

    #[test]
    #[should_panic(expected = "what was deflated here can be inflated")]
    fn a_damaged_body_is_no_page() {
        let Ok(Body::Deflated { mut bytes, length }) = Body::of(vec![b'a'; LARGE].into()) else {
            panic!("large")
        };
        let middle = bytes.len() / 2;
        bytes[middle..].fill(0xff);
        Body::Deflated { bytes, length }.text();
    }

    #[test]
    fn a_small_body_stays_as_it_is() {
        let mut writer = Writer::default();
        writer
            .write(b"up")
            .and_then(|()| writer.write(b" 1\n"))
            .expect("in memory");
        assert!(matches!(writer.finish(), Ok(Body::Plain(body)) if body == "up 1\n"));
    }
}
