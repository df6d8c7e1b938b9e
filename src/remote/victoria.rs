//! The samples of a VictoriaMetrics, by its `/api/v1/export`
//! (<https://docs.victoriametrics.com/victoriametrics/#how-to-export-data-in-json-line-format>): a JSON
//! object for each series and line, asked for a day at a time. What the lines say is not read here.

use std::time::Duration;

use url::Url;

use crate::http::{Client, HttpError, Request};
use crate::model::Timestamp;

/// How long the answer for one span may take.
const TIMEOUT: Duration = Duration::from_secs(3600);
/// Longest line.
const LONGEST: usize = 256 << 20;
/// Bytes of an error that are shown.
const SHOWN: usize = 300;

/// Why samples are not had.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The URL is none.
    #[error("`{0}` is no URL of a VictoriaMetrics, such as http://127.0.0.1:8428")]
    Url(String),
    /// It does not answer, or not to the end.
    #[error("{host}: {error}")]
    Http {
        /// Whom was asked.
        host: String,
        /// Why.
        error: HttpError,
    },
    /// It answers with an error.
    #[error("{host}: status {status}: {said}")]
    Status {
        /// Whom was asked.
        host: String,
        /// The status.
        status: u16,
        /// The beginning of its answer.
        said: String,
    },
    /// A line is not taken.
    #[error("{host}: {what}")]
    Refused {
        /// Whom was asked.
        host: String,
        /// Why.
        what: String,
    },
}

/// A VictoriaMetrics.
#[derive(Debug)]
pub struct Source {
    url: Url,
    host: String,
}

impl Source {
    /// What is at this URL; a path in it comes before that of the API, as a cluster has it.
    ///
    /// # Errors
    /// When the text is no URL of HTTP.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let wrong = || Error::Url(text.to_owned());
        let mut url = Url::parse(text).map_err(|_| wrong())?;
        let host = url.host_str().map(str::to_owned).ok_or_else(wrong)?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(wrong());
        }
        let path = format!("{}/api/v1/export", url.path().trim_end_matches('/'));
        url.set_path(&path);
        url.set_query(None);
        let port = url.port_or_known_default().unwrap_or_default();
        Ok(Source {
            host: format!("{host}:{port}"),
            url,
        })
    }

    /// Hands each line with samples of `from <= timestamp <= to` to `take`.
    ///
    /// # Errors
    /// When the server does not answer, or not to the end, or a line is not taken.
    pub async fn lines(
        &self,
        client: &Client,
        (from, to): (Timestamp, Timestamp),
        take: &mut dyn FnMut(&[u8]) -> Result<(), String>,
    ) -> Result<(), Error> {
        let seconds = |at: Timestamp| format!("{}.{:03}", at.0 / 1000, at.0 % 1000);
        let mut url = self.url.clone();
        url.query_pairs_mut()
            .append_pair("match[]", "{__name__!=\"\"}")
            .append_pair("start", &seconds(from))
            .append_pair("end", &seconds(to));
        let failed = |error| Error::Http {
            host: self.host.clone(),
            error,
        };
        let refused = |what| Error::Refused {
            host: self.host.clone(),
            what,
        };
        let mut answer = client
            .start(Request::get(url, TIMEOUT))
            .await
            .map_err(failed)?;
        let mut line: Vec<u8> = Vec::new();
        while let Some(part) = answer.next().await.map_err(failed)? {
            if answer.status != 200 {
                line.extend_from_slice(&part[..part.len().min(SHOWN)]);
                if line.len() >= SHOWN {
                    break;
                }
                continue;
            }
            let mut rest = &part[..];
            while let Some(end) = memchr::memchr(b'\n', rest) {
                line.extend_from_slice(&rest[..end]);
                rest = &rest[end + 1..];
                take(&line).map_err(refused)?;
                line.clear();
            }
            line.extend_from_slice(rest);
            if line.len() > LONGEST {
                return Err(refused(format!("a line is longer than {LONGEST} bytes")));
            }
        }
        if answer.status != 200 {
            line.truncate(SHOWN);
            return Err(Error::Status {
                host: self.host.clone(),
                status: answer.status,
                said: String::from_utf8_lossy(&line).trim().to_owned(),
            });
        }
        // Each line ends, unless it was cut short.
        take(&line).map_err(refused)
    }
}
