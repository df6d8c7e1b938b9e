//! A page of `ListObjectsV2`
//! (<https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectsV2.html>): sizes and times;
//! names are not looked at.

use crate::model::Timestamp;

/// Newest objects whose sizes are kept.
const NEWEST: usize = 8;
/// Longest code of an error that is repeated, in characters.
const MAX_CODE: usize = 60;

/// What is known of the objects so far.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sums {
    /// Objects.
    pub objects: u64,
    /// Sum of their sizes, in bytes.
    pub bytes: u64,
    /// When the newest ones were written, Unix time, and their sizes; the newest first.
    pub newest: Vec<(f64, u64)>,
    /// When the oldest was written, Unix time.
    pub oldest: Option<f64>,
}

/// What a page says of the pages after it.
#[derive(Debug, PartialEq)]
pub enum Next {
    /// There is none.
    End,
    /// Ask with this token.
    Page(String),
}

/// Adds a page's objects; errs when it is none.
pub fn add(text: &str, sums: &mut Sums) -> Result<Next, String> {
    let (Some(begin), Some(end)) = (
        text.find("<ListBucketResult"),
        text.rfind("</ListBucketResult>"),
    ) else {
        return Err("the answer is not a list of objects".to_owned());
    };
    let text = text.get(begin..end).unwrap_or_default();
    let mut pieces = text.split("<Contents>");
    let mut rest = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let (object, after) = piece
            .split_once("</Contents>")
            .ok_or("the answer breaks off in an object")?;
        rest.push_str(after);
        let size = element(object, "Size").and_then(|size| size.parse::<u64>().ok());
        let written = element(object, "LastModified").and_then(Timestamp::parse_rfc3339);
        let (Some(size), Some(written)) = (size, written) else {
            return Err("an object has no size or no time".to_owned());
        };
        let written = written.seconds();
        sums.objects += 1;
        sums.bytes = sums.bytes.saturating_add(size);
        let at = sums.newest.partition_point(|(other, _)| *other > written);
        if at < NEWEST {
            sums.newest.truncate(NEWEST - 1);
            sums.newest.insert(at, (written, size));
        }
        sums.oldest = Some(sums.oldest.map_or(written, |oldest| oldest.min(written)));
    }
    if element(&rest, "IsTruncated") != Some("true") {
        return Ok(Next::End);
    }
    let token = element(&rest, "NextContinuationToken").ok_or("a page names no next one")?;
    Ok(Next::Page(unescaped(token)))
}

/// The code of an error's body: `AccessDenied`, `NoSuchBucket`, …
pub fn code(text: &str) -> Option<String> {
    let code = element(text, "Code")?;
    let plain = code.chars().filter(char::is_ascii_alphanumeric);
    Some(plain.take(MAX_CODE).collect())
}

fn element<'t>(text: &'t str, name: &str) -> Option<&'t str> {
    let after = text.split_once(&format!("<{name}>"))?.1;
    Some(after.split_once(&format!("</{name}>"))?.0)
}

fn unescaped(text: &str) -> String {
    text.replace("&lt;", "<")
        .replace("&gt;", ">")
        .replace("&quot;", "\"")
        .replace("&#34;", "\"")
        .replace("&#43;", "+")
        .replace("&amp;", "&")
}
