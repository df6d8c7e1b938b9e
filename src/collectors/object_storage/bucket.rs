//! A bucket of a server that speaks S3, and how it is listed.

use std::time::{Duration, Instant};

use tokio::time::Instant as Deadline;
use url::Url;

use super::listing::{self, Next, Sums};
use super::sign::{EMPTY, Signer, encoded};
use crate::collectors::CollectError;
use crate::config::{SecretSource, Section};
use crate::http::{Client, HeaderName, HeaderValue, HttpConfig, Request};
use crate::model::Timestamp;

/// Largest page, in bytes: a thousand objects with names of 1 kB each.
const MAX_BODY: usize = 4 << 20;
/// Objects of a page, the most that S3 gives.
const PAGE: u64 = 1000;

/// Time between two listings.
const EVERY: Duration = Duration::from_secs(600);

/// Why there is no list: one of a few words, and a text.
pub type Failure = (&'static str, String);

/// A bucket that is listed now and then, and what came of that.
pub struct Watched {
    bucket: Bucket,
    /// Time between two listings.
    every: Duration,
    /// The last whole listing.
    pub last: Option<Found>,
    /// Why the last attempt failed.
    pub failure: Option<Failure>,
}

impl Watched {
    /// Reads the keys of the bucket, and under `every` the time between two listings. One collection
    /// may take `timeout`.
    pub fn read(section: &Section<'_>, every: &str, timeout: Duration) -> Self {
        Watched {
            bucket: Bucket::read(section, timeout),
            every: section.or(every, EVERY),
            last: None,
            failure: None,
        }
    }

    /// Lists the bucket where that is due, or goes on with it. What failed is tried again at once,
    /// from the beginning.
    pub async fn look(&mut self, deadline: Deadline) {
        let is_due = self
            .last
            .as_ref()
            .is_none_or(|last| last.ended.elapsed() >= self.every);
        if is_due || self.failure.is_some() || self.bucket.walk.is_some() {
            match self.bucket.list(deadline).await {
                Ok(found) => {
                    self.failure = None;
                    self.last = found.or(self.last.take());
                }
                Err(failure) => (self.failure, self.last) = (Some(failure), None),
            }
        }
    }

    /// How the last attempt went.
    pub fn outcome(&self) -> Result<(), CollectError> {
        match &self.failure {
            Some((_, message)) => Err(CollectError::new(message.clone())),
            None => Ok(()),
        }
    }

    /// Where it is, without secrets.
    pub fn address(&self) -> String {
        self.bucket.address()
    }
}

/// A bucket, or what lies under a prefix of it.
struct Bucket {
    client: Client,
    url: Url,
    bucket: String,
    prefix: String,
    region: String,
    /// The bucket stands in the path, not in the host's name.
    is_path: bool,
    keys: Option<(SecretSource, SecretSource)>,
    max_objects: u64,
    /// What one collection may take.
    timeout: Duration,
    /// A listing under way.
    walk: Option<Walk>,
}

struct Walk {
    sums: Sums,
    token: Option<String>,
    begun: Instant,
}

/// A whole listing.
pub struct Found {
    /// What was found.
    pub sums: Sums,
    /// There are more objects than are looked at.
    pub is_truncated: bool,
    /// When it ended, Unix time in seconds.
    pub at: f64,
    /// When it ended.
    pub ended: Instant,
    /// How long it took.
    pub took: Duration,
}

impl Bucket {
    /// Reads its keys and records their mistakes. One collection may take `timeout`.
    fn read(section: &Section<'_>, timeout: Duration) -> Self {
        let client = Client::or_plain(Client::build(&HttpConfig::read(section)), section);
        let url = section.get::<Url>("url").unwrap_or_else(|| {
            section.error("url", "key \"url\" is missing", "add url: http://HOST:9000");
            Url::parse("http://127.0.0.1:9000").expect("a URL")
        });
        let keys = match (
            section.secret_source("access_key"),
            section.secret_source("secret_key"),
        ) {
            (Some(access), Some(secret)) => Some((access, secret)),
            (None, None) => None,
            _ => {
                section.error(
                    "secret_key",
                    "access_key and secret_key belong together",
                    "give both, or none for a bucket that everybody may list",
                );
                None
            }
        };
        Bucket {
            client,
            url,
            bucket: section.require("bucket"),
            prefix: section.or("prefix", String::new()),
            region: section.or("region", "us-east-1".to_owned()),
            is_path: section.or("path_style", true),
            keys,
            max_objects: section.or("max_objects", 100_000),
            timeout,
            walk: None,
        }
    }

    /// Where it is, without secrets.
    fn address(&self) -> String {
        let mut url = self.url.clone();
        let _no_host = url.set_username("");
        let _no_host = url.set_password(None);
        url.set_path(&format!("{}/{}", self.bucket, self.prefix));
        url.to_string()
    }

    /// Asks for pages until the last one, the bound or the deadline; none where the listing goes on in
    /// the next collection. What failed begins anew.
    async fn list(&mut self, deadline: Deadline) -> Result<Option<Found>, Failure> {
        let mut walk = self.walk.take().unwrap_or_else(|| Walk {
            sums: Sums::default(),
            token: None,
            begun: Instant::now(),
        });
        let mut is_any = false;
        loop {
            // A page that was asked for brings the listing forward in each collection.
            if is_any && Deadline::now() + self.timeout.mul_f64(0.3) >= deadline {
                self.walk = Some(walk);
                return Ok(None);
            }
            let text = self.page(walk.token.as_deref(), deadline).await?;
            is_any = true;
            let next = listing::add(&text, &mut walk.sums).map_err(|error| ("answer", error))?;
            let is_full = walk.sums.objects >= self.max_objects;
            match next {
                Next::Page(token) if !is_full && walk.token.as_ref() != Some(&token) => {
                    walk.token = Some(token);
                }
                Next::Page(_) if !is_full => {
                    return Err(("answer", "a page leads to itself".to_owned()));
                }
                next => {
                    return Ok(Some(Found {
                        is_truncated: next != Next::End,
                        at: Timestamp::now().seconds(),
                        ended: Instant::now(),
                        took: walk.begun.elapsed(),
                        sums: walk.sums,
                    }));
                }
            }
        }
    }

    async fn page(&self, token: Option<&str>, deadline: Deadline) -> Result<String, Failure> {
        let count = PAGE.min(self.max_objects.max(1)).to_string();
        // In the order of their names, as the signature wants them.
        let parameters = [
            ("continuation-token", token),
            ("list-type", Some("2")),
            ("max-keys", Some(count.as_str())),
            ("prefix", Some(self.prefix.as_str())),
        ];
        let query: Vec<String> = parameters
            .iter()
            .filter_map(|(name, value)| Some(format!("{name}={}", encoded((*value)?, false))))
            .collect();
        let query = query.join("&");
        let mut url = self.url.clone();
        let base = url.path().trim_end_matches('/').to_owned();
        let path = if self.is_path {
            format!("{base}/{}", encoded(&self.bucket, false))
        } else {
            let host = format!("{}.{}", self.bucket, url.host_str().unwrap_or_default());
            url.set_host(Some(&host)).map_err(|_| {
                (
                    "request",
                    "the bucket cannot stand in a host's name".to_owned(),
                )
            })?;
            format!("{base}/")
        };
        url.set_path(&path);
        url.set_query(Some(&query));
        let host = match url.port() {
            Some(port) => format!("{}:{port}", url.host_str().unwrap_or_default()),
            None => url.host_str().unwrap_or_default().to_owned(),
        };
        let left = deadline.saturating_duration_since(Deadline::now());
        let mut request = Request::get(url, left);
        request.max_body = MAX_BODY;
        if let Some((access, secret)) = &self.keys {
            let current = |key: &SecretSource| {
                key.current()
                    .map_err(|error| ("credentials", error.to_string()))
            };
            let (access, secret) = (current(access)?, current(secret)?);
            let at = amz_date(Timestamp::now());
            let signer = Signer {
                access: access.expose(),
                secret: secret.expose(),
                region: &self.region,
                at: &at,
            };
            let authorization = signer.authorization(&host, &path, &query);
            for (name, value) in [
                ("x-amz-content-sha256", EMPTY),
                ("x-amz-date", &at),
                ("authorization", &authorization),
            ] {
                let mut value = HeaderValue::from_str(value)
                    .map_err(|_| ("credentials", "they cannot stand in a header".to_owned()))?;
                value.set_sensitive(name == "authorization");
                request = request.header(HeaderName::from_static(name), value);
            }
        }
        let response = self.client.send(request).await;
        let response = response.map_err(|error| (error.kind.as_str(), error.to_string()))?;
        let text = response.text();
        let code = listing::code(&text).filter(|code| !code.is_empty());
        let code = code.map(|code| format!(": {code}")).unwrap_or_default();
        match response.status {
            200 => Ok(text.into_owned()),
            status @ (401 | 403) => Err(("refused", format!("status {status}{code}"))),
            status => Err(("status", format!("status {status}{code}"))),
        }
    }
}

/// `20130524T000000Z`.
fn amz_date(now: Timestamp) -> String {
    let text: String = now
        .rfc3339()
        .chars()
        .filter(|c| !"-:".contains(*c))
        .collect();
    let whole = text.split('.').next().unwrap_or_default();
    format!("{}Z", whole.trim_end_matches('Z'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_the_signature_has_them() {
        assert_eq!(amz_date(Timestamp(1_369_353_600_123)), "20130524T000000Z");
        assert_eq!(amz_date(Timestamp(1_369_353_600_000)), "20130524T000000Z");
    }
}
