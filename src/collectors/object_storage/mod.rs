//! Object storage that speaks S3 (MinIO, Ceph, AWS, …): how many objects lie under a prefix of a
//! bucket, how large they are, how old the newest and the oldest are.
//!
//! Objects are listed, never read, and nothing is written; the right `s3:ListBucket` is enough. A
//! listing is bounded, may take several collections, and is repeated seldom. What a whole server
//! has free is in MinIO's own metrics (`scrape_configs`).

mod listing;
mod sign;

use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::time::Instant as Deadline;
use url::Url;

use crate::config::{ByteSize, SecretSource, Section};
use crate::http::{Client, HeaderName, HeaderValue, HttpConfig, Request};
use crate::model::MetricKind::Gauge;
use crate::model::{Batch, Timestamp};

use super::{CollectError, Collector, CollectorKind, Target};
use listing::{Next, Sums};
use sign::{EMPTY, Signer, encoded};

/// The collector `object_storage`.
pub const KIND: CollectorKind = CollectorKind {
    name: "object_storage",
    about: "buckets of MinIO and whatever speaks S3: objects and bytes under a prefix, age of the newest and the oldest",
    metrics: &[METRICS],
    build,
};

/// Largest page, in bytes: a thousand objects with names of 1 kB each.
const MAX_BODY: usize = 4 << 20;
/// Objects of a page, the most that S3 gives.
const PAGE: u64 = 1000;
/// Part of the deadline in which pages are asked for.
const WAITING: f64 = 0.9;

metrics! {
    UP "object_storage_up" Gauge "" &[], "1 when the bucket could be listed, 0 when not.", "ListObjectsV2";
    FAILURE "object_storage_failure_info" Gauge "" &["reason", "message"], "Why it could not be listed, always 1; absent while it can be.", "ListObjectsV2";
    OBJECTS "object_storage_objects" Gauge "" &[], "Objects under the prefix.", "ListObjectsV2";
    SIZE "object_storage_size_bytes" Gauge "bytes" &[], "Sum of their sizes.", "ListObjectsV2: Size";
    NEWEST "object_storage_newest_timestamp_seconds" Gauge "seconds" &[], "When the newest was written, Unix time; absent when there is none.", "ListObjectsV2: LastModified";
    NEWEST_SIZE "object_storage_newest_size_bytes" Gauge "bytes" &[], "Size of the newest.", "ListObjectsV2: Size";
    OLDEST "object_storage_oldest_timestamp_seconds" Gauge "seconds" &[], "When the oldest was written, Unix time; absent when there is none.", "ListObjectsV2: LastModified";
    TRUNCATED "object_storage_truncated" Gauge "" &[], "1 when there are more objects than max_objects: all numbers are too small.", "nightbell";
    LOOKED "object_storage_last_look_timestamp_seconds" Gauge "seconds" &[], "When the last whole listing ended, Unix time.", "nightbell";
    TOOK "object_storage_look_duration_seconds" Gauge "seconds" &[], "How long it took.", "nightbell";
    SIZE_MAX "object_storage_size_max_bytes" Gauge "bytes" &[], "Size above which an alert fires (max_size).", "configuration";
    AGE_MAX "object_storage_newest_max_age_seconds" Gauge "seconds" &[], "Age of the newest object above which an alert fires (max_age).", "configuration";
}

fn build(section: &Section<'_>, target: &Target) -> Box<dyn Collector> {
    let client = Client::build(&HttpConfig::read(section)).unwrap_or_else(|error| {
        section.error(
            "tls_config",
            error.to_string(),
            "check the HTTP settings of this server",
        );
        Client::plain()
    });
    let url = section.get::<Url>("url").unwrap_or_else(|| {
        section.error("url", "key \"url\" is missing", "add url: http://HOST:9000");
        Url::parse("http://127.0.0.1:9000").expect("a URL")
    });
    let bucket: String = section.require("bucket");
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
    let max_objects = section.or("max_objects", 100_000);
    Box::new(ObjectStorage {
        client,
        url,
        bucket,
        prefix: section.or("prefix", String::new()),
        region: section.or("region", "us-east-1".to_owned()),
        is_path: section.or("path_style", true),
        keys,
        every: section.or("every", Duration::from_secs(600)),
        max_objects,
        max_size: section.get::<ByteSize>("max_size").map(|size| size.0),
        max_age: section.get("max_age"),
        target: target.clone(),
        walk: None,
        last: None,
        failure: None,
    })
}

struct ObjectStorage {
    client: Client,
    url: Url,
    bucket: String,
    prefix: String,
    region: String,
    /// The bucket stands in the path, not in the host's name.
    is_path: bool,
    keys: Option<(SecretSource, SecretSource)>,
    every: Duration,
    max_objects: u64,
    max_size: Option<u64>,
    max_age: Option<Duration>,
    target: Target,
    /// A listing under way.
    walk: Option<Walk>,
    /// The last whole one.
    last: Option<Found>,
    failure: Option<Failure>,
}

struct Walk {
    sums: Sums,
    token: Option<String>,
    begun: Instant,
}

struct Found {
    sums: Sums,
    is_truncated: bool,
    at: f64,
    ended: Instant,
    took: Duration,
}

/// Why there is no list: one of a few words, and a text.
type Failure = (&'static str, String);

impl Collector for ObjectStorage {
    fn collect<'a>(&'a mut self, batch: &'a mut Batch) -> BoxFuture<'a, Result<(), CollectError>> {
        async move {
            let deadline = Deadline::now() + self.target.timeout.mul_f64(WAITING);
            let is_due = self
                .last
                .as_ref()
                .is_none_or(|last| last.ended.elapsed() >= self.every);
            // What failed is tried again at once, from the beginning.
            if is_due || self.failure.is_some() || self.walk.is_some() {
                self.failure = self.list(deadline).await.err();
                if self.failure.is_some() {
                    (self.walk, self.last) = (None, None);
                }
            }
            self.show(batch);
            match &self.failure {
                Some((_, message)) => Err(CollectError::new(message.clone())),
                None => Ok(()),
            }
        }
        .boxed()
    }

    fn address(&self) -> String {
        let mut url = self.url.clone();
        let _no_host = url.set_username("");
        let _no_host = url.set_password(None);
        url.set_path(&format!("{}/{}", self.bucket, self.prefix));
        url.to_string()
    }
}

impl ObjectStorage {
    /// Asks for pages until the last one, the bound or the deadline.
    async fn list(&mut self, deadline: Deadline) -> Result<(), Failure> {
        let mut walk = self.walk.take().unwrap_or_else(|| Walk {
            sums: Sums::default(),
            token: None,
            begun: Instant::now(),
        });
        let mut is_any = false;
        loop {
            // A page that was asked for brings the listing forward in each collection.
            if is_any && Deadline::now() + self.target.timeout.mul_f64(0.3) >= deadline {
                self.walk = Some(walk);
                return Ok(());
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
                    self.last = Some(Found {
                        is_truncated: next != Next::End,
                        at: Timestamp::now().seconds(),
                        ended: Instant::now(),
                        took: walk.begun.elapsed(),
                        sums: walk.sums,
                    });
                    return Ok(());
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

    fn show(&self, batch: &mut Batch) {
        let limits = [
            (&SIZE_MAX, self.max_size.map(|bytes| bytes as f64)),
            (&AGE_MAX, self.max_age.map(|age| age.as_secs_f64())),
        ];
        for (desc, limit) in limits {
            limit
                .into_iter()
                .for_each(|limit| batch.push(desc, &[], limit));
        }
        let is_up = self.failure.is_none();
        batch.push(&UP, &[], f64::from(u8::from(is_up)));
        if let Some((reason, message)) = &self.failure {
            batch.push(&FAILURE, &[("reason", reason), ("message", message)], 1.0);
        }
        let Some(last) = &self.last else {
            return;
        };
        let sums = &last.sums;
        let numbers = [
            (&OBJECTS, Some(sums.objects as f64)),
            (&SIZE, Some(sums.bytes as f64)),
            (&NEWEST, sums.newest.map(|(at, _)| at)),
            (&NEWEST_SIZE, sums.newest.map(|(_, size)| size as f64)),
            (&OLDEST, sums.oldest),
            (&TRUNCATED, Some(f64::from(u8::from(last.is_truncated)))),
            (&LOOKED, Some(last.at)),
            (&TOOK, Some(last.took.as_secs_f64())),
        ];
        for (desc, number) in numbers {
            number
                .into_iter()
                .for_each(|number| batch.push(desc, &[], number));
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
