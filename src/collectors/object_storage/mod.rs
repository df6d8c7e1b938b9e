//! Object storage that speaks S3 (MinIO, Ceph, AWS, …): how many objects lie under a prefix of a
//! bucket, how large they are, how old the newest and the oldest are.
//!
//! Objects are listed, never read, and nothing is written; the right `s3:ListBucket` is enough. A
//! listing is bounded, may take several collections, and is repeated seldom. What a whole server
//! has free is in MinIO's own metrics (`scrape_configs`).

mod bucket;
mod listing;
mod sign;

use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::time::Instant as Deadline;

use crate::config::{ByteSize, Section};
use crate::model::Batch;
use crate::model::MetricKind::Gauge;

use super::{CollectError, Collector, CollectorKind, Target};
pub(super) use bucket::{Found, Watched};

/// The collector `object_storage`.
pub const KIND: CollectorKind = CollectorKind {
    name: "object_storage",
    about: "buckets of MinIO and whatever speaks S3: objects and bytes under a prefix, age of the newest and the oldest",
    metrics: &[METRICS],
    build,
};

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
    Box::new(ObjectStorage {
        bucket: Watched::read(section, "every", target.timeout),
        max_size: section.get::<ByteSize>("max_size").map(|size| size.0),
        max_age: section.get("max_age"),
        target: target.clone(),
    })
}

struct ObjectStorage {
    bucket: Watched,
    max_size: Option<u64>,
    max_age: Option<Duration>,
    target: Target,
}

impl Collector for ObjectStorage {
    fn collect<'a>(&'a mut self, batch: &'a mut Batch) -> BoxFuture<'a, Result<(), CollectError>> {
        async move {
            let deadline = Deadline::now() + self.target.timeout.mul_f64(WAITING);
            self.bucket.look(deadline).await;
            self.show(batch);
            self.bucket.outcome()
        }
        .boxed()
    }

    fn address(&self) -> String {
        self.bucket.address()
    }
}

impl ObjectStorage {
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
        let is_up = self.bucket.failure.is_none();
        batch.push(&UP, &[], f64::from(u8::from(is_up)));
        if let Some((reason, message)) = &self.bucket.failure {
            batch.push(&FAILURE, &[("reason", reason), ("message", message)], 1.0);
        }
        let Some(last) = &self.bucket.last else {
            return;
        };
        let sums = &last.sums;
        let numbers = [
            (&OBJECTS, Some(sums.objects as f64)),
            (&SIZE, Some(sums.bytes as f64)),
            (&NEWEST, sums.newest.first().map(|(at, _)| *at)),
            (
                &NEWEST_SIZE,
                sums.newest.first().map(|(_, size)| *size as f64),
            ),
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
