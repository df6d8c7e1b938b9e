//! A scraped body that is kept for /metrics until the next one comes.

use std::borrow::Cow;
use std::io::{Read as _, Write as _};

use bytes::Bytes;
use flate2::Compression;
use flate2::read::DeflateDecoder;
use flate2::write::DeflateEncoder;

/// Bodies of fewer bytes are not worth the work.
const LARGE: usize = 256 << 10;

/// A body as it came, or deflated: the text of metrics becomes a tenth.
#[derive(Debug)]
pub(super) enum Body {
    Plain(Bytes),
    Deflated { bytes: Box<[u8]>, length: usize },
}

impl Body {
    /// The body in little room, where it is large.
    pub(super) fn deflated(body: Bytes) -> Self {
        if body.len() < LARGE {
            return Body::Plain(body);
        }
        let mut deflate = DeflateEncoder::new(Vec::new(), Compression::fast());
        match deflate.write_all(&body).and_then(|()| deflate.finish()) {
            Ok(bytes) => Body::Deflated { bytes: bytes.into(), length: body.len() },
            // Nothing that writes into memory fails; if it did, the body is there.
            Err(_) => Body::Plain(body),
        }
    }

    /// What came.
    pub(super) fn text(&self) -> Cow<'_, [u8]> {
        match self {
            Body::Plain(body) => Cow::Borrowed(body),
            Body::Deflated { bytes, length } => {
                let mut text = Vec::with_capacity(*length);
                // A page that is cut short is still one of whole lines: whoever reads it leaves the last one out.
                let _ = DeflateDecoder::new(&**bytes).read_to_end(&mut text);
                Cow::Owned(text)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_body_takes_little_room_and_comes_back_as_it_was() {
        let text: String =
            (0..10_000).map(|n| format!("app_requests_total{{route=\"/r{}\",pod=\"p{n}\"}} {}\n", n % 200, n * 17)).collect();
        let body = Body::deflated(Bytes::from(text.clone()));
        assert!(matches!(&body, Body::Deflated { bytes, .. } if bytes.len() < text.len() / 4));
        assert!(body.text() == text.as_bytes());
        let small = Bytes::from_static(b"up 1\n");
        assert!(matches!(Body::deflated(small), Body::Plain(_)));
    }
}
