//! Signs requests to S3: AWS Signature Version 4 in the `Authorization` header
//! (<https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html>). Only GET
//! without a body.

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256};

use crate::model::text::hex;

/// The SHA-256 of nothing, in hexadecimal.
pub const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// Who asks, for which region, when.
pub struct Signer<'a> {
    /// Access key.
    pub access: &'a str,
    /// Secret key.
    pub secret: &'a str,
    /// Region, such as `us-east-1`.
    pub region: &'a str,
    /// The time as `20130524T000000Z`.
    pub at: &'a str,
}

impl Signer<'_> {
    /// The value of `Authorization` for a GET of an encoded path with an encoded, sorted query.
    pub fn authorization(&self, host: &str, path: &str, query: &str) -> String {
        let day = self.at.split('T').next().unwrap_or_default();
        let signed = "host;x-amz-content-sha256;x-amz-date";
        let request = format!(
            "GET\n{path}\n{query}\nhost:{host}\nx-amz-content-sha256:{EMPTY}\nx-amz-date:{}\n\n{signed}\n{EMPTY}",
            self.at
        );
        let scope = format!("{day}/{}/s3/aws4_request", self.region);
        let text = format!(
            "AWS4-HMAC-SHA256\n{}\n{scope}\n{}",
            self.at,
            hex(&Sha256::digest(request))
        );
        let mut key = format!("AWS4{}", self.secret).into_bytes();
        for part in [day, self.region, "s3", "aws4_request", &text] {
            key = mac(&key, part);
        }
        format!(
            "AWS4-HMAC-SHA256 Credential={}/{scope},SignedHeaders={signed},Signature={}",
            self.access,
            hex(&key)
        )
    }
}

fn mac(key: &[u8], text: &str) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().to_vec()
}

/// A part of a path or a query as S3 wants it encoded.
pub fn encoded(text: &str, keeps_slash: bool) -> String {
    use std::fmt::Write as _;
    let mut found = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                found.push(char::from(byte));
            }
            b'/' if keeps_slash => found.push('/'),
            _ => {
                let _never_fails = write!(found, "%{byte:02X}");
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example "GET Bucket (List Objects)" of the documentation.
    #[test]
    fn the_example_of_the_documentation_has_its_signature() {
        let signer = Signer {
            access: "AKIAIOSFODNN7EXAMPLE",
            secret: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
            region: "us-east-1",
            at: "20130524T000000Z",
        };
        let header =
            signer.authorization("examplebucket.s3.amazonaws.com", "/", "max-keys=2&prefix=J");
        assert_eq!(
            header,
            "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request,\
             SignedHeaders=host;x-amz-content-sha256;x-amz-date,\
             Signature=34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"
        );
        assert_eq!(encoded("a b/ü+", false), "a%20b%2F%C3%BC%2B");
        assert_eq!(encoded("a b/c", true), "a%20b/c");
    }
}
