//! The `object_storage` collector against a bucket on a real socket that speaks the documented form
//! of `ListObjectsV2`, and against servers that fail in every way. The signature itself is compared
//! with the documentation's example in `sign.rs`.

use std::sync::{Arc, Mutex};

use nightbell::model::Batch;

use crate::collecting::{build, collect, try_build, value};
use crate::servers::free_port;
use crate::servers::hostile::{Hostile, Manner};
use crate::servers::http::HttpServer;

/// Name, time and size.
type Object = (String, &'static str, u64);

/// A bucket `b c`: names, times and sizes of its objects, a few on a page.
struct Bucket {
    server: HttpServer,
    objects: Arc<Mutex<Vec<Object>>>,
    /// The access key that may list; empty for nobody.
    allowed: Arc<Mutex<String>>,
}

/// The parameters of a request's query.
fn parameter(head: &str, name: &str) -> Option<String> {
    let target = head.split_whitespace().nth(1)?;
    let url = url::Url::parse(&format!("http://x{target}")).ok()?;
    let pair = url.query_pairs().find(|(key, _)| key == name)?;
    Some(pair.1.into_owned())
}

impl Bucket {
    fn start(page: usize) -> Self {
        let objects = Arc::new(Mutex::new(Vec::<Object>::new()));
        let allowed = Arc::new(Mutex::new("watch".to_owned()));
        let (kept, who) = (objects.clone(), allowed.clone());
        let server = HttpServer::answering(move |head| {
            let error = |status: &'static str, code: &str| {
                (
                    status,
                    format!(
                        "<?xml version=\"1.0\"?>\n<Error><Code>{code}</Code><Message>s3cret</Message></Error>"
                    ),
                )
            };
            let credential = format!("Credential={}/", who.lock().expect("no panic"));
            let is_signed = head.contains(&credential)
                && head.contains("SignedHeaders=host;x-amz-content-sha256;x-amz-date,Signature=")
                && head.to_lowercase().contains("\nx-amz-date: ");
            if !is_signed {
                return error("403 Forbidden", "AccessDenied");
            }
            if !head.starts_with("GET /b%20c?") {
                return error("404 Not Found", "NoSuchBucket");
            }
            assert_eq!(parameter(head, "list-type").as_deref(), Some("2"));
            let prefix = parameter(head, "prefix").unwrap_or_default();
            let begin = parameter(head, "continuation-token").map_or(0, |token| {
                token.trim_start_matches("t+/&").parse().expect("ours")
            });
            let kept = kept.lock().expect("no panic");
            let under: Vec<_> = kept
                .iter()
                .filter(|(name, ..)| name.starts_with(&prefix))
                .collect();
            let wanted: usize = parameter(head, "max-keys")
                .expect("asked")
                .parse()
                .expect("a number");
            let end = under.len().min(begin + page.min(wanted));
            let contents: String = under[begin..end]
                .iter()
                .map(|(name, at, size)| {
                    format!("<Contents><Key>{name}</Key><LastModified>{at}</LastModified><ETag>&quot;x&quot;</ETag><Size>{size}</Size><StorageClass>STANDARD</StorageClass></Contents>")
                })
                .collect();
            let next = if end < under.len() {
                format!(
                    "<IsTruncated>true</IsTruncated><NextContinuationToken>t+/&amp;{end}</NextContinuationToken>"
                )
            } else {
                "<IsTruncated>false</IsTruncated>".to_owned()
            };
            (
                "200 OK",
                format!(
                    "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Name>b c</Name>{contents}{next}</ListBucketResult>"
                ),
            )
        });
        Bucket {
            server,
            objects,
            allowed,
        }
    }

    fn put(&self, name: &str, at: &'static str, size: u64) {
        let mut objects = self.objects.lock().expect("no panic");
        objects.push((name.to_owned(), at, size));
    }

    fn yaml(&self, rest: &str) -> String {
        format!(
            "url: 'http://127.0.0.1:{}'\nbucket: b c\naccess_key: watch\nsecret_key: s3cret\nevery: 0s\n{rest}",
            self.server.port
        )
    }
}

fn of(batch: &Batch, name: &str) -> Option<f64> {
    value(batch, &format!("object_storage_{name}"), &[])
}

fn figures(batch: &Batch) -> [Option<f64>; 6] {
    [
        "up",
        "objects",
        "size_bytes",
        "newest_timestamp_seconds",
        "newest_size_bytes",
        "oldest_timestamp_seconds",
    ]
    .map(|name| of(batch, name))
}

/// Page after page, under a prefix, up to a bound; a right that is taken away.
#[tokio::test]
async fn a_bucket_is_listed_to_its_end_or_its_bound() {
    let bucket = Bucket::start(2);
    bucket.put("backups/a&amp;b", "2024-01-01T00:00:00.000Z", 100);
    bucket.put("backups/c", "2024-03-01T00:00:00.000Z", 200);
    bucket.put(
        "backups/<d>".replace('<', "&lt;").as_str(),
        "2024-02-01T00:00:00Z",
        300,
    );
    bucket.put("other", "2025-01-01T00:00:00.000Z", 1);
    bucket.put("backups/e", "2024-01-15T00:00:00.000Z", 50);
    let mut collector = build(
        "object_storage",
        &bucket.yaml("prefix: backups/\nmax_size: 1KB\nmax_age: 1h\n"),
    );
    let (batch, result) = collect("object_storage", &mut collector).await;
    result.expect("listed");
    assert_eq!(
        figures(&batch),
        [
            Some(1.0),
            Some(4.0),
            Some(650.0),
            Some(1_709_251_200.0),
            Some(200.0),
            Some(1_704_067_200.0)
        ]
    );
    assert_eq!(
        (
            of(&batch, "truncated"),
            of(&batch, "size_max_bytes"),
            of(&batch, "newest_max_age_seconds")
        ),
        (Some(0.0), Some(1024.0), Some(3600.0))
    );
    let (batch, _) = collect(
        "object_storage",
        &mut build("object_storage", &bucket.yaml("max_objects: 3\n")),
    )
    .await;
    assert_eq!(
        (of(&batch, "objects"), of(&batch, "truncated")),
        (Some(4.0), Some(1.0))
    );
    let (batch, _) = collect(
        "object_storage",
        &mut build("object_storage", &bucket.yaml("prefix: none\n")),
    )
    .await;
    assert_eq!(
        figures(&batch),
        [Some(1.0), Some(0.0), Some(0.0), None, None, None]
    );

    *bucket.allowed.lock().expect("no panic") = "another".into();
    let (batch, result) = collect("object_storage", &mut collector).await;
    assert_eq!(
        result.expect_err("refused").to_string(),
        "status 403: AccessDenied"
    );
    assert_eq!(figures(&batch), [Some(0.0), None, None, None, None, None]);
    let info = &batch.families["object_storage_failure_info"].samples[0].labels;
    assert_eq!(info.value("reason"), "refused");
    *bucket.allowed.lock().expect("no panic") = "watch".into();
    let (batch, result) = collect("object_storage", &mut collector).await;
    result.expect("listed again");
    assert_eq!(of(&batch, "objects"), Some(4.0));
    let heads = bucket.server.requests();
    assert!(
        heads
            .iter()
            .all(|head| head.starts_with("GET ") && !head.contains("s3cret"))
    );
}

/// Between two listings the last one is shown and nothing is asked.
#[tokio::test]
async fn a_listing_is_repeated_seldom() {
    let bucket = Bucket::start(10);
    bucket.put("a", "2024-01-01T00:00:00.000Z", 100);
    let yaml = bucket.yaml("").replace("0s", "1h");
    let mut collector = build("object_storage", &yaml);
    for _ in 0..3 {
        let (batch, _) = collect("object_storage", &mut collector).await;
        assert_eq!(of(&batch, "objects"), Some(1.0));
    }
    assert_eq!(bucket.server.requests().len(), 1);
}

/// A server that refuses, hangs, breaks off, sends garbage, without end, or leads in a circle.
#[tokio::test]
async fn what_is_no_bucket_is_named_and_bounded() {
    let fails = async |url: &str| {
        let yaml = format!("url: '{url}'\nbucket: b\n");
        let (batch, result) = collect("object_storage", &mut build("object_storage", &yaml)).await;
        assert_eq!(
            (of(&batch, "up"), of(&batch, "objects")),
            (Some(0.0), None),
            "{url}"
        );
        let info = &batch.families["object_storage_failure_info"].samples[0].labels;
        let error = result.expect_err("it fails").to_string();
        (info.value("reason").to_owned(), error)
    };
    let closed = format!("http://127.0.0.1:{}", free_port());
    assert_eq!(fails(&closed).await.0, "connect");
    for (manner, wanted) in [
        (Manner::Silent, "timeout"),
        (Manner::SlowHead, "timeout"),
        (Manner::Stalls, "timeout"),
        (Manner::Truncated, "protocol"),
    ] {
        let hostile = Hostile::start(manner);
        let (reason, error) = fails(&format!("http://{}", hostile.address)).await;
        assert_eq!(reason, wanted, "{error}");
    }
    let endless = Hostile::start(Manner::Endless);
    let (reason, error) = fails(&format!("http://{}", endless.address)).await;
    assert!(
        ["too_large", "timeout"].contains(&reason.as_str()),
        "{reason} {error}"
    );
    let circle = "<ListBucketResult><IsTruncated>true</IsTruncated><NextContinuationToken>t</NextContinuationToken></ListBucketResult>";
    let no_size = "<ListBucketResult><Contents><Key>a</Key></Contents></ListBucketResult>";
    let cut = "<ListBucketResult><Contents><Key>a</Key></ListBucketResult>";
    for (status, body, wanted) in [
        ("200 OK", "{}", "answer"),
        ("200 OK", circle, "answer"),
        ("200 OK", no_size, "answer"),
        ("200 OK", cut, "answer"),
        (
            "404 Not Found",
            "<Error><Code>NoSuchBucket</Code></Error>",
            "status",
        ),
        ("401 Unauthorized", "", "refused"),
    ] {
        let server = HttpServer::answering(move |_| (status, body.to_owned()));
        let (reason, error) = fails(&format!("http://127.0.0.1:{}", server.port)).await;
        assert_eq!(reason, wanted, "{error}");
    }
}

/// Backups in a bucket are judged by their list: in time, not empty, as large as those before.
#[tokio::test]
async fn backups_in_a_bucket_are_judged_by_their_list() {
    let bucket = Bucket::start(2);
    let yaml = format!(
        "bucket: {{url: 'http://127.0.0.1:{}', bucket: b c, prefix: db/, access_key: watch, secret_key: s3cret, look_every: 0s}}\nat: '02:00'\ntimezone: UTC\ngrace: 30m\nkeep: 3\nkeep_days: 7\nmin_size: 50B\n",
        bucket.server.port
    );
    let mut collector = build("backup", &yaml);
    let (batch, result) = collect("backup", &mut collector).await;
    result.expect("an empty bucket is no failure");
    let of = |batch: &Batch, name: &str| value(batch, &format!("backup_{name}"), &[]);
    assert_eq!(
        [of(&batch, "files"), of(&batch, "valid")],
        [Some(0.0), None]
    );
    assert!(of(&batch, "next_due_timestamp_seconds").is_some());
    for (name, at, size) in [
        ("db/1", "2024-02-28T02:10:00.000Z", 1000),
        ("db/2", "2024-02-29T02:10:00.000Z", 1200),
        ("db/3", "2024-03-01T02:10:00.000Z", 1100),
        ("logs/4", "2024-03-02T02:10:00.000Z", 1),
        ("db/4", "2024-03-02T02:10:00.000Z", 550),
    ] {
        bucket.put(name, at, size);
    }
    let (batch, result) = collect("backup", &mut collector).await;
    result.expect("listed");
    let names = [
        "files",
        "newest_timestamp_seconds",
        "oldest_timestamp_seconds",
        "last_success_timestamp_seconds",
        "size_bytes",
        "size_ratio",
        "valid",
        "next_due_timestamp_seconds",
        "keep_files",
    ];
    let newest = 1_709_345_400.0;
    let wanted = [
        4.0,
        newest,
        1_709_086_200.0,
        newest,
        550.0,
        0.5,
        1.0,
        // The next 02:00, and half an hour.
        1_709_431_200.0 + 1800.0,
        3.0,
    ];
    assert_eq!(names.map(|name| of(&batch, name)), wanted.map(Some));
    // One that holds next to nothing is none: the one before it counts.
    bucket.put("db/5", "2024-03-03T02:10:00.000Z", 20);
    let (batch, _) = collect("backup", &mut collector).await;
    assert_eq!(
        [
            "valid",
            "newest_timestamp_seconds",
            "last_success_timestamp_seconds"
        ]
        .map(|name| of(&batch, name)),
        [Some(0.0), Some(newest + 86_400.0), Some(newest)]
    );
    assert_eq!(
        value(&batch, "backup_invalid_info", &[("reason", "too_small")]),
        Some(1.0)
    );
    // A right that is taken away.
    *bucket.allowed.lock().expect("no panic") = String::new();
    let (batch, result) = collect("backup", &mut collector).await;
    let error = result.expect_err("refused").to_string();
    assert!(
        error.contains("AccessDenied") && !error.contains("s3cret"),
        "{error}"
    );
    assert_eq!(of(&batch, "files"), None);
    let errors = try_build(
        "backup",
        "files: /a\nbucket: {url: 'http://127.0.0.1', bucket: b}\n",
    );
    let errors = errors.err().expect("a mistake").to_string();
    assert!(errors.contains("stands beside"), "{errors}");
}

#[test]
fn mistakes_of_a_bucket_are_named() {
    for (yaml, words) in [
        ("bucket: b\n", "url"),
        ("url: 'http://127.0.0.1'\n", "bucket"),
        (
            "url: 'http://127.0.0.1'\nbucket: b\naccess_key: a\n",
            "belong together",
        ),
    ] {
        let errors = try_build("object_storage", yaml)
            .err()
            .expect("a mistake")
            .to_string();
        assert!(errors.contains(words), "{errors}");
    }
}
