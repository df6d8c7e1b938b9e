//! The `vector_store` collector beside Chroma's server: a real pgvector, folders that real Chromas
//! and a real LanceDB wrote, and stand-ins for Qdrant, Milvus, Weaviate, Elasticsearch, OpenSearch
//! and Redis 8, which cannot be had in a test: they answer as the protocols are documented.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nightbell::collectors::{CollectError, Collector};
use nightbell::model::Batch;
use serde_json::{Value, json};

use crate::collecting::{build, build_patient, collect, value};
use crate::servers::chroma::Chroma;
use crate::servers::http::HttpServer;
use crate::servers::postgres::Postgres;
use crate::servers::vectors::{nearest, ok, parts, qdrant, vectors};

/// Builds a collector of a store at this port, and collects.
async fn measured(yaml: &str) -> (Box<dyn Collector>, Batch, Result<(), CollectError>) {
    let mut collector = build("vector_store", yaml);
    let (batch, result) = collect("vector_store", &mut collector).await;
    (collector, batch, result)
}

/// A metric's name without its beginning, labels, the value.
type Case<'a> = (&'a str, &'a [(&'a str, &'a str)], f64);

#[track_caller]
fn expect(batch: &Batch, cases: &[Case<'_>]) {
    for (name, labels, wanted) in cases {
        let got = value(batch, &format!("vectorstore_{name}"), labels);
        assert!(
            got.is_some_and(|got| (got - wanted).abs() < 1e-9),
            "{name}{labels:?}: {got:?}, not {wanted}"
        );
    }
}

/// No request of a collector may change anything.
#[track_caller]
fn only_reads(server: &HttpServer, reading: &[&str]) {
    for request in server.requests() {
        let (method, path, _) = parts(&request);
        let reads = method == "GET" || reading.iter().any(|part| path.contains(part));
        assert!(reads, "{method} {path}");
    }
}

/// Counts, states, copies, the optimizer's error, nodes; a canary that finds itself; recall beside a
/// search of all.
#[tokio::test(flavor = "multi_thread")]
async fn a_qdrant_is_described() {
    let server = HttpServer::answering(qdrant);
    let yaml = format!(
        "store: qdrant\nurl: http://127.0.0.1:{}\ntoken: secret\ndimension: 4\nrecall: {{sample: 3, neighbours: 5}}\n",
        server.port
    );
    let (_, batch, result) = measured(&yaml).await;
    result.expect("all is well");
    let docs = ("collection", "docs");
    let full = ("collection", "full");
    expect(
        &batch,
        &[
            ("up", &[("store", "qdrant")], 1.0),
            ("ready", &[], 1.0),
            ("info", &[("version", "1.19.0")], 1.0),
            ("collections", &[], 2.0),
            ("collections_omitted", &[], 0.0),
            ("collection_vectors", &[docs], 20.0),
            ("collection_dimension", &[docs], 4.0),
            ("collection_dimension_mismatch", &[docs], 0.0),
            ("collection_dimension_mismatch", &[full], 1.0),
            ("collection_indexed_vectors", &[docs], 15.0),
            ("collection_unindexed_vectors", &[docs], 5.0),
            // Two vectors a point.
            ("collection_unindexed_vectors", &[full], 0.0),
            ("collection_segments", &[docs], 3.0),
            ("collection_queue_length", &[docs], 2.0),
            ("collection_status", &[docs, ("status", "green")], 1.0),
            ("collection_status", &[full, ("status", "red")], 1.0),
            ("collection_status", &[full, ("status", "green")], 0.0),
            ("collection_searchable", &[full], 0.0),
            ("collection_optimizer_ok", &[docs], 1.0),
            ("collection_optimizer_ok", &[full], 0.0),
            ("collection_replicas_wanted", &[docs], 2.0),
            ("collection_replicas_active", &[docs], 1.0),
            ("node_healthy", &[("node", "1")], 1.0),
            ("node_healthy", &[("node", "2")], 0.0),
            ("canary_success", &[docs], 1.0),
            ("canary_self_match", &[docs], 1.0),
            ("canary_results", &[docs], 3.0),
            ("canary_query_seconds_count", &[docs], 1.0),
            // Of five neighbours of 1, 2 and 3 each, one is missed: and 3 is its own.
            ("recall_ratio", &[docs], 12.0 / 15.0),
            ("collection_readable", &[docs], 1.0),
        ],
    );
    assert_eq!(value(&batch, "vectorstore_canary_success", &[full]), None);
    only_reads(&server, &["/points/scroll", "/points/query"]);
    assert!(server.requests().iter().all(|r| r.contains("secret")));
}

/// A key that is refused, a canary that was deleted, a search that does not find.
#[tokio::test(flavor = "multi_thread")]
async fn a_qdrant_that_refuses_or_forgets_says_so() {
    let server = HttpServer::answering(qdrant);
    let yaml = format!("store: qdrant\nurl: http://127.0.0.1:{}\n", server.port);
    let (_, batch, result) = measured(&yaml).await;
    assert_eq!(
        result.expect_err("refused").reason,
        "auth: status 401 at /collections"
    );
    expect(
        &batch,
        &[
            ("up", &[], 0.0),
            ("last_scrape_error", &[], 1.0),
            (
                "probe_errors_total",
                &[("op", "list"), ("error_type", "auth")],
                1.0,
            ),
        ],
    );
    let forgetful = HttpServer::answering(|request| {
        if request.contains("/points/query") {
            return ok(json!({"result": {"points": [{"id": 19, "score": 1.9}]}}));
        }
        qdrant(request)
    });
    let yaml = format!(
        "store: qdrant\nurl: http://127.0.0.1:{}\ntoken: secret\ncollections: [docs]\n",
        forgetful.port
    );
    let (mut collector, batch, result) = measured(&yaml).await;
    result.expect("it answers");
    let docs = ("collection", "docs");
    expect(
        &batch,
        &[
            ("canary_self_match", &[docs], 0.0),
            ("canary_success", &[docs], 1.0),
        ],
    );
    // The second time the canary is renewed before that counts.
    let before = forgetful.requests().len();
    collect("vector_store", &mut collector)
        .await
        .1
        .expect("it answers");
    let asked = forgetful.requests()[before..]
        .iter()
        .filter(|r| r.contains("/points/scroll"))
        .count();
    assert_eq!(asked, 1);
}

/// An approximate index may never reach some vector; that others are found is what counts.
#[tokio::test(flavor = "multi_thread")]
async fn one_vector_that_the_index_never_reaches_is_passed_over() {
    let patchy = HttpServer::answering(|request| {
        let (_, path, body) = parts(request);
        let (_, unreached) = vectors().remove(0);
        if path.contains("/points/query") && body["query"] == json!(unreached) {
            return ok(json!({"result": {"points": [{"id": 19, "score": 0.7}]}}));
        }
        qdrant(request)
    });
    let yaml = format!(
        "store: qdrant\nurl: http://127.0.0.1:{}\ntoken: secret\ncollections: [docs]\n",
        patchy.port
    );
    let docs = ("collection", "docs");
    let (mut collector, batch, result) = measured(&yaml).await;
    result.expect("it answers");
    expect(&batch, &[("canary_self_match", &[docs], 1.0)]);
    let asked = |server: &HttpServer, what: &str| {
        let requests = server.requests();
        requests.iter().filter(|r| r.contains(what)).count()
    };
    assert_eq!(asked(&patchy, "/points/query"), 2);
    // The one that is found is kept.
    let (batch, _) = collect("vector_store", &mut collector).await;
    expect(&batch, &[("canary_self_match", &[docs], 1.0)]);
    assert_eq!(
        (
            asked(&patchy, "/points/query"),
            asked(&patchy, "/points/scroll")
        ),
        (3, 1)
    );
}

fn milvus(request: &str) -> (&'static str, String) {
    let (_, path, body) = parts(request);
    if path == "/healthz" {
        return ("200 OK", "OK".into());
    }
    if !request.contains("authorization: Bearer root:Milvus") {
        return ok(json!({"code": 1800, "message": "user hasn't authenticated"}));
    }
    let name = body["collectionName"].as_str().unwrap_or_default();
    let data = |data: Value| ok(json!({"code": 0, "data": data}));
    match path.trim_start_matches("/v2/vectordb/") {
        "collections/list" => data(json!(["books", "cold"])),
        "collections/describe" => data(json!({
            "collectionName": name, "shardsNum": 2,
            "fields": [
                {"name": "id", "type": "Int64", "primaryKey": true},
                {"name": "embedding", "type": "FloatVector", "params": [{"key": "dim", "value": "4"}]},
            ],
            "indexes": [{"fieldName": "embedding", "indexName": "embedding", "metricType": "L2"}],
        })),
        "collections/get_load_state" if name == "books" => {
            data(json!({"loadProgress": 100, "loadState": "LoadStateLoaded"}))
        }
        "collections/get_load_state" => data(json!({"loadState": "LoadStateNotLoad"})),
        "collections/get_stats" => data(json!({"rowCount": "20"})),
        "entities/query" => {
            let rows: Vec<Value> = vectors()
                .iter()
                .take(1)
                .map(|(id, v)| json!({"id": id, "embedding": v}))
                .collect();
            data(json!(rows))
        }
        "entities/search" => {
            let found = nearest(&body["data"][0], &body["limit"], false);
            let rows: Vec<Value> = found
                .into_iter()
                .map(|(id, distance)| json!({"id": id, "distance": distance}))
                .collect();
            data(json!(rows))
        }
        _ => ("404 Not Found", String::new()),
    }
}

/// Errors that come with status 200, counts that are texts, a collection that is not loaded.
#[tokio::test(flavor = "multi_thread")]
async fn a_milvus_is_described() {
    let server = HttpServer::answering(milvus);
    let yaml = format!(
        "store: milvus\nurl: http://127.0.0.1:{0}\nmanagement_port: {0}\ntoken: 'root:Milvus'\ndatabase: default\n",
        server.port
    );
    let (_, batch, result) = measured(&yaml).await;
    result.expect("all is well");
    let (books, cold) = (("collection", "books"), ("collection", "cold"));
    expect(
        &batch,
        &[
            ("up", &[], 1.0),
            ("ready", &[], 1.0),
            ("collection_vectors", &[books], 20.0),
            ("collection_dimension", &[books], 4.0),
            ("collection_status", &[cold, ("status", "notload")], 1.0),
            ("collection_searchable", &[cold], 0.0),
            ("collection_segments", &[books], 2.0),
            ("canary_self_match", &[books], 1.0),
        ],
    );
    assert_eq!(value(&batch, "vectorstore_canary_success", &[cold]), None);
    only_reads(
        &server,
        &[
            "/collections/list",
            "/collections/describe",
            "/collections/get_",
            "/entities/query",
            "/entities/search",
        ],
    );
    let yaml = format!("store: milvus\nurl: http://127.0.0.1:{}\n", server.port);
    let (_, _, result) = measured(&yaml).await;
    assert_eq!(result.expect_err("refused").reason, "auth: code 1800");
}

fn weaviate(request: &str) -> (&'static str, String) {
    let (_, path, body) = parts(request);
    match path.as_str() {
        "/v1/.well-known/ready" => ("200 OK", String::new()),
        "/v1/meta" => ok(json!({"version": "1.30.0"})),
        "/v1/schema" => ok(json!({"classes": [
            {"class": "Book", "vectorIndexType": "hnsw", "vectorIndexConfig": {"distance": "l2-squared"}},
        ]})),
        "/v1/nodes?output=verbose" => ok(json!({"nodes": [
            {"name": "node1", "status": "HEALTHY", "stats": {"objectCount": 20, "shardCount": 1},
             "shards": [{"name": "s1", "class": "Book", "objectCount": 20, "vectorQueueLength": 7}]},
            {"name": "node2", "status": "UNAVAILABLE",
             "shards": [{"name": "s1", "class": "Book", "objectCount": 19, "vectorQueueLength": 0}]},
        ]})),
        "/v1/objects?class=Book&limit=3&include=vector" => {
            let object =
                |(id, vector)| json!({"class": "Book", "id": format!("u{id}"), "vector": vector});
            let objects: Vec<Value> = vectors().into_iter().take(3).map(object).collect();
            ok(json!({"objects": objects}))
        }
        "/v1/graphql" => {
            let query = body["query"].as_str().expect("a query");
            let numbers = query.split("vector: ").nth(1).expect("a vector");
            let numbers = numbers.split('}').next().expect("an end");
            let to = serde_json::from_str(numbers).expect("numbers");
            let found: Vec<Value> = nearest(&to, &json!(3), true)
                .into_iter()
                .map(|(id, d)| json!({"_additional": {"id": format!("u{id}"), "distance": d}}))
                .collect();
            ok(json!({"data": {"Get": {"Book": found}}}))
        }
        _ => ("404 Not Found", String::new()),
    }
}

/// Objects are counted once however many copies there are; nodes that are not well are named.
#[tokio::test(flavor = "multi_thread")]
async fn a_weaviate_is_described() {
    let server = HttpServer::answering(weaviate);
    let yaml = format!("store: weaviate\nurl: http://127.0.0.1:{}\n", server.port);
    let (_, batch, result) = measured(&yaml).await;
    result.expect("all is well");
    let book = ("collection", "Book");
    expect(
        &batch,
        &[
            ("up", &[], 1.0),
            ("info", &[("version", "1.30.0")], 1.0),
            ("collection_vectors", &[book], 20.0),
            ("collection_segments", &[book], 1.0),
            ("collection_queue_length", &[book], 7.0),
            ("node_healthy", &[("node", "node1")], 1.0),
            ("node_healthy", &[("node", "node2")], 0.0),
            ("canary_self_match", &[book], 1.0),
        ],
    );
    only_reads(&server, &["/v1/graphql"]);
}

/// Elasticsearch and OpenSearch, which ask in other words.
fn elastic(distribution: Option<&'static str>, request: &str) -> (&'static str, String) {
    let (_, path, body) = parts(request);
    let mapping = match distribution {
        None => json!({"type": "dense_vector", "dims": 4, "index": true, "similarity": "l2_norm"}),
        Some(_) => {
            json!({"type": "knn_vector", "dimension": 4, "method": {"name": "hnsw", "space_type": "l2"}})
        }
    };
    let score = |d: f64| 1.0 / (1.0 + d);
    match path.as_str() {
        "/" => match distribution {
            None => ok(json!({"version": {"number": "8.17.0"}})),
            Some(name) => ok(json!({"version": {"number": "2.19.0", "distribution": name}})),
        },
        "/_cluster/health?level=indices" => ok(json!({"status": "yellow", "indices": {
            "docs": {"status": "yellow", "number_of_shards": 1, "number_of_replicas": 1, "active_shards": 1},
        }})),
        "/_mapping?expand_wildcards=open" => ok(json!({
            ".kibana": {"mappings": {"properties": {"v": mapping}}},
            "docs": {"mappings": {"properties": {"title": {"type": "text"}, "chunk": {"properties": {"embedding": mapping}}}}},
            "logs": {"mappings": {"properties": {"message": {"type": "text"}}}},
        })),
        "/docs/_stats/docs,store,segments" => ok(json!({"_all": {"primaries": {
            "docs": {"count": 20}, "store": {"size_in_bytes": 4096}, "segments": {"count": 2},
        }}})),
        "/docs/_search?request_cache=false" => {
            let query = &body["query"];
            let script = &query["script_score"]["script"]["params"];
            let field = "chunk.embedding";
            let (vector, exact) = if body["knn"].is_object() {
                assert_eq!(distribution, None);
                assert_eq!(body["knn"]["field"], field);
                (body["knn"]["query_vector"].clone(), false)
            } else if query["knn"].is_object() {
                assert!(distribution.is_some());
                (query["knn"][field]["vector"].clone(), false)
            } else if script.is_object() {
                let exact = if distribution.is_some() {
                    &script["query_value"]
                } else {
                    &script["q"]
                };
                (exact.clone(), true)
            } else {
                let hits: Vec<Value> = vectors()
                    .iter()
                    .take(usize::try_from(body["size"].as_u64().expect("a size")).expect("small"))
                    .map(|(id, v)| json!({"_id": id.to_string(), "_source": {"chunk": {"embedding": v}}}))
                    .collect();
                return ok(json!({"hits": {"hits": hits}}));
            };
            let hits: Vec<Value> = nearest(&vector, &body["size"], exact)
                .into_iter()
                .map(|(id, d)| json!({"_id": id.to_string(), "_score": score(d)}))
                .collect();
            ok(json!({"hits": {"hits": hits}}))
        }
        _ => ("404 Not Found", String::new()),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_elasticsearch_and_an_opensearch_are_described() {
    for (store, distribution, version) in [
        ("elasticsearch", None, "8.17.0"),
        ("opensearch", Some("opensearch"), "2.19.0"),
    ] {
        let server = HttpServer::answering(move |request| elastic(distribution, request));
        let yaml = format!(
            "store: {store}\nurl: http://127.0.0.1:{}\nrecall: {{sample: 1, neighbours: 4}}\n",
            server.port
        );
        let (_, batch, result) = measured(&yaml).await;
        result.expect("all is well");
        let docs = ("collection", "docs");
        expect(
            &batch,
            &[
                ("up", &[("store", store)], 1.0),
                ("info", &[("version", version)], 1.0),
                ("collections", &[], 1.0),
                ("collection_vectors", &[docs], 20.0),
                ("collection_dimension", &[docs], 4.0),
                ("collection_bytes", &[docs, ("part", "data")], 4096.0),
                ("collection_replicas_wanted", &[docs], 2.0),
                ("collection_replicas_active", &[docs], 1.0),
                ("collection_status", &[docs, ("status", "yellow")], 1.0),
                ("canary_self_match", &[docs], 1.0),
                ("recall_ratio", &[docs], 0.75),
            ],
        );
        only_reads(&server, &["/_search"]);
    }
}

/// A stand-in for Redis 8: RESP 2, the commands of vector sets, and a refusal of everything else.
fn redis_eight(sets: BTreeMap<&'static str, usize>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("its address").port();
    let sets = Arc::new(sets);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let sets = sets.clone();
            std::thread::spawn(move || {
                let mut reader = BufReader::new(stream.try_clone().expect("a stream"));
                let mut stream = stream;
                // A client that goes away ends its thread.
                while let Some(words) = command(&mut reader) {
                    let answer = answer(&words, &sets);
                    if stream.write_all(answer.as_bytes()).is_err() {
                        return;
                    }
                }
            });
        }
    });
    port
}

fn command(reader: &mut BufReader<std::net::TcpStream>) -> Option<Vec<String>> {
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|n| *n > 0)?;
    let count: usize = line.trim().strip_prefix('*')?.parse().ok()?;
    let mut words = Vec::new();
    for _ in 0..count {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let length: usize = line.trim().strip_prefix('$')?.parse().ok()?;
        let mut bytes = vec![0; length + 2];
        reader.read_exact(&mut bytes).ok()?;
        words.push(String::from_utf8_lossy(&bytes[..length]).into_owned());
    }
    Some(words)
}

fn bulk(text: &str) -> String {
    format!("${}\r\n{text}\r\n", text.len())
}

fn list(items: &[String]) -> String {
    format!("*{}\r\n{}", items.len(), items.concat())
}

fn answer(words: &[String], sets: &BTreeMap<&'static str, usize>) -> String {
    let key = words.get(1).map(String::as_str).unwrap_or_default();
    let size = sets.get(key).copied().unwrap_or(0);
    match words[0].as_str() {
        "CLIENT" => "+OK\r\n".into(),
        "INFO" => bulk("# Server\r\nredis_version:8.2.1\r\n"),
        "SCAN" => {
            assert_eq!(&words[4..], ["TYPE", "vectorset"]);
            // Two rounds.
            let (next, keys): (&str, Vec<String>) = match key {
                "0" => ("7", sets.keys().take(1).map(|k| bulk(k)).collect()),
                _ => ("0", sets.keys().skip(1).map(|k| bulk(k)).collect()),
            };
            list(&[bulk(next), list(&keys)])
        }
        "VCARD" => format!(":{size}\r\n"),
        "VDIM" if size > 0 => ":4\r\n".into(),
        "VINFO" if size > 0 => list(&[
            bulk("quant-type"),
            bulk("int8"),
            bulk("size"),
            format!(":{size}\r\n"),
        ]),
        "VDIM" => "-ERR key does not exist\r\n".into(),
        "VINFO" => "*-1\r\n".into(),
        "VRANDMEMBER" => {
            let count: usize = words[2].parse().expect("a count");
            let names: Vec<String> = (1..=count).map(|i| bulk(&i.to_string())).collect();
            list(&names)
        }
        "VEMB" => {
            let id: usize = words[2].parse().expect("a number");
            let (_, vector) = &vectors()[id - 1];
            list(
                &vector
                    .iter()
                    .map(|n| bulk(&n.to_string()))
                    .collect::<Vec<_>>(),
            )
        }
        "VSIM" => {
            assert_eq!((words[2].as_str(), words[3].as_str()), ("VALUES", "4"));
            let numbers: Vec<f64> = words[4..8]
                .iter()
                .map(|n| n.parse().expect("a number"))
                .collect();
            let at = words.iter().position(|w| w == "COUNT").expect("a count");
            let most: u64 = words[at + 1].parse().expect("a count");
            let exact = words.iter().any(|w| w == "TRUTH");
            let found = nearest(&json!(numbers), &json!(most), exact);
            let pairs: Vec<String> = found
                .into_iter()
                .flat_map(|(id, d)| [bulk(&id.to_string()), bulk(&(1.0 - d / 2.0).to_string())])
                .collect();
            list(&pairs)
        }
        other => format!(
            "-NOPERM this user has no permissions to run the '{}' command\r\n",
            other.to_lowercase()
        ),
    }
}

/// Sets are found by SCAN; a canary, and recall by TRUTH.
#[tokio::test(flavor = "multi_thread")]
async fn vector_sets_of_redis_are_described() {
    let port = redis_eight(BTreeMap::from([("docs", 20), ("users", 3)]));
    let yaml = format!(
        "store: redis\nurl: redis://127.0.0.1:{port}/0\nrecall: {{sample: 2, neighbours: 4}}\n"
    );
    let (_, batch, result) = measured(&yaml).await;
    result.expect("all is well");
    let docs = ("collection", "docs");
    expect(
        &batch,
        &[
            ("up", &[("store", "redis")], 1.0),
            ("info", &[("version", "8.2.1")], 1.0),
            ("collections", &[], 2.0),
            ("collection_vectors", &[docs], 20.0),
            ("collection_vectors", &[("collection", "users")], 3.0),
            ("collection_dimension", &[docs], 4.0),
            ("canary_self_match", &[docs], 1.0),
            ("recall_ratio", &[docs], 0.75),
        ],
    );
    let yaml = format!("store: redis\nurl: redis://127.0.0.1:{port}/0\ncollections: [gone]\n");
    let (_, batch, result) = measured(&yaml).await;
    result.expect("it answers");
    expect(
        &batch,
        &[("collection_vectors", &[("collection", "gone")], 0.0)],
    );
}

/// Whole folder: names, sizes, times of writing.
fn listing(folder: &Path) -> Vec<(PathBuf, u64, std::time::SystemTime)> {
    let (mut found, mut folders) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder") {
            let entry = entry.expect("an entry");
            let meta = entry.metadata().expect("its metadata");
            if meta.is_dir() {
                folders.push(entry.path());
            }
            found.push((entry.path(), meta.len(), meta.modified().expect("a time")));
        }
    }
    found.sort();
    found
}

/// A folder that LanceDB 0.40 wrote: 330 rows of which 5 are deleted, an index of those before the
/// last ten.
#[tokio::test(flavor = "multi_thread")]
async fn a_folder_of_lancedb_is_described() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/collectors/lancedb");
    let before = listing(&folder);
    let yaml = format!("store: lancedb\npath: {}\n", folder.display());
    let (_, batch, result) = measured(&yaml).await;
    result.expect("all is well");
    let docs = ("collection", "docs");
    expect(
        &batch,
        &[
            ("up", &[("store", "lancedb")], 1.0),
            ("collections", &[], 2.0),
            ("collection_vectors", &[docs], 325.0),
            ("collection_vectors", &[("collection", "plain")], 3.0),
            ("collection_dimension", &[docs], 8.0),
            ("collection_indexed_vectors", &[docs], 315.0),
            ("collection_unindexed_vectors", &[docs], 10.0),
            ("collection_segments", &[docs], 3.0),
            ("collection_bytes", &[docs, ("part", "data")], 13_888.0),
            ("collection_bytes", &[docs, ("part", "indexes")], 12_609.0),
            ("index_valid", &[docs, ("index", "vector_idx")], 1.0),
            ("index_bytes", &[docs, ("index", "vector_idx")], 12_609.0),
        ],
    );
    let plain = ("collection", "plain");
    assert_eq!(
        value(&batch, "vectorstore_collection_unindexed_vectors", &[plain]),
        None
    );
    let written = value(
        &batch,
        "vectorstore_collection_last_write_timestamp_seconds",
        &[docs],
    );
    assert!(written.expect("a time") > 1.7e9);
    assert_eq!(listing(&folder), before, "something was written");
    let (_, batch, result) = measured("store: lancedb\npath: /nonexistent/lance\n").await;
    assert!(
        result
            .expect_err("no folder")
            .reason
            .starts_with("not_found: lance:")
    );
    expect(&batch, &[("up", &[], 0.0)]);
}

/// A manifest that is cut or is none costs its table, not the others.
#[tokio::test(flavor = "multi_thread")]
async fn a_broken_table_costs_only_itself() {
    let folder = tempfile::tempdir().expect("a folder");
    let table = folder.path().join("bad.lance/_versions");
    std::fs::create_dir_all(&table).expect("made");
    std::fs::write(table.join("1.manifest"), b"too short").expect("written");
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/collectors/lancedb/plain.lance/_versions");
    let good = folder.path().join("good.lance/_versions");
    std::fs::create_dir_all(&good).expect("made");
    for entry in std::fs::read_dir(fixture).expect("the fixture") {
        let entry = entry.expect("an entry");
        std::fs::copy(entry.path(), good.join(entry.file_name())).expect("copied");
    }
    let yaml = format!("store: lancedb\npath: {}\n", folder.path().display());
    let (_, batch, result) = measured(&yaml).await;
    result.expect("the folder is there");
    expect(
        &batch,
        &[
            ("collection_vectors", &[("collection", "good")], 3.0),
            ("last_scrape_error", &[], 1.0),
            ("collections", &[], 2.0),
            ("collections_omitted", &[], 0.0),
        ],
    );
}

/// Folders of real Chromas, looked at while their servers run: counts, dimension, sizes, queue,
/// newest write, integrity; and nothing in them changes.
#[tokio::test(flavor = "multi_thread")]
async fn chroma_inside_an_application_is_described_by_its_folder() {
    for chroma in [Chroma::start(), Chroma::start_old()] {
        chroma.collection("books", 30).await;
        chroma.collection("empty", 0).await;
        let folder = chroma.data.path();
        let before = listing(folder);
        let yaml = format!(
            "path: {}\ndimension: 16\nintegrity_interval: 1d\n",
            folder.display()
        );
        let mut collector = build_patient("vector_store", &yaml);
        let (batch, result) = collect("vector_store", &mut collector).await;
        result.expect("all is well");
        let books = ("collection", "books");
        expect(
            &batch,
            &[
                ("up", &[("store", "chroma")], 1.0),
                ("last_scrape_error", &[], 0.0),
                ("collections", &[], 2.0),
                ("collection_vectors", &[books], 30.0),
                ("collection_vectors", &[("collection", "empty")], 0.0),
                ("collection_dimension", &[books], 8.0),
                ("collection_dimension_mismatch", &[books], 1.0),
                ("integrity_ok", &[], 1.0),
                ("wal_rows", &[], 30.0),
            ],
        );
        let of = |name: &str, labels: &[(&str, &str)]| value(&batch, name, labels);
        assert!(of("vectorstore_last_write_timestamp_seconds", &[]).expect("a time") > 1.7e9);
        assert!(of("vectorstore_disk_bytes", &[("part", "sqlite")]).expect("a size") > 10_000.0);
        let index = of("vectorstore_collection_bytes", &[books, ("part", "index")]);
        assert!(index.is_some());
        assert_eq!(listing(folder), before, "something was written");
    }
}

/// A file that is damaged, one that is none, a folder that is not there.
#[tokio::test(flavor = "multi_thread")]
async fn a_chroma_folder_that_is_damaged_says_so() {
    let chroma = Chroma::start();
    chroma.collection("books", 30).await;
    let folder = tempfile::tempdir().expect("a folder");
    let copy = folder.path().join("chroma.sqlite3");
    let mut bytes = std::fs::read(chroma.data.path().join("chroma.sqlite3")).expect("the file");
    // Pages in the middle, behind the schema's.
    let (from, to) = (bytes.len() / 2, bytes.len() / 2 + 16_384);
    bytes[from..to].fill(0xab);
    std::fs::write(&copy, bytes).expect("written");
    let yaml = format!(
        "path: {}\nintegrity_interval: 1d\n",
        folder.path().display()
    );
    let mut collector = build_patient("vector_store", &yaml);
    let (batch, _) = collect("vector_store", &mut collector).await;
    expect(&batch, &[("integrity_ok", &[], 0.0)]);
    std::fs::write(&copy, "this is no database, but a text of some length").expect("written");
    let (_, batch, _) = measured(&yaml).await;
    expect(&batch, &[("last_scrape_error", &[], 1.0)]);
    let (_, batch, result) = measured("path: /nonexistent/chroma\n").await;
    assert!(result.is_err());
    expect(&batch, &[("up", &[], 0.0), ("disk_readable", &[], 0.0)]);
}

/// pgvector in a real PostgreSQL: columns, indexes, whether the planner uses them, a canary, recall;
/// by a role that may only read, and by one that may not even that.
#[tokio::test(flavor = "multi_thread")]
async fn a_real_pgvector_is_described() {
    let postgres = Postgres::start_newer(&[]);
    let made = "CREATE EXTENSION vector;
        CREATE TABLE docs (id int, embedding vector(8), other vector(4));
        INSERT INTO docs SELECT i, ARRAY[sin(i), cos(i), sin(i * 2), cos(i * 3), sin(i * 5), i % 7, i % 11, 1]::vector FROM generate_series(1, 3000) i;
        CREATE INDEX docs_hnsw ON docs USING hnsw (embedding vector_cosine_ops);
        CREATE TABLE \"Odd \"\"name\" (\"v v\" vector(3));
        INSERT INTO \"Odd \"\"name\" VALUES ('[1,2,3]');
        CREATE TABLE hidden (v vector(2));
        ANALYZE;
        CREATE ROLE reader LOGIN; GRANT SELECT ON docs, \"Odd \"\"name\" TO reader;
        CREATE ROLE stranger LOGIN;";
    postgres.sql("postgres", made);
    let yaml = format!(
        "store: pgvector\ndsn: '{}'\ndimension: 8\nrecall: {{sample: 3, neighbours: 10}}\n",
        postgres.dsn("reader", "postgres")
    );
    let mut collector = build_patient("vector_store", &yaml);
    let (batch, result) = collect("vector_store", &mut collector).await;
    result.expect("all is well");
    let docs = ("collection", "public.docs.embedding");
    let odd = ("collection", "public.Odd \"name.v v");
    let hidden = ("collection", "public.hidden.v");
    expect(
        &batch,
        &[
            ("up", &[("store", "pgvector")], 1.0),
            ("collections", &[], 4.0),
            ("collection_vectors", &[docs], 3000.0),
            ("collection_dimension", &[docs], 8.0),
            ("collection_dimension_mismatch", &[docs], 0.0),
            ("collection_dimension_mismatch", &[odd], 1.0),
            (
                "index_valid",
                &[docs, ("index", "docs_hnsw"), ("method", "hnsw")],
                1.0,
            ),
            ("index_used", &[docs, ("index", "docs_hnsw")], 1.0),
            ("canary_self_match", &[docs], 1.0),
            ("canary_self_match", &[odd], 1.0),
            ("collection_searchable", &[hidden], 0.0),
            ("last_scrape_error", &[], 1.0),
        ],
    );
    // One collection at a time: each collection of the collector measures the recall of one.
    let (batch, result) = loop {
        let (batch, result) = collect("vector_store", &mut collector).await;
        if value(&batch, "vectorstore_recall_ratio", &[docs]).is_some() {
            break (batch, result);
        }
    };
    result.expect("all is well");
    let of = |name: &str, labels: &[(&str, &str)]| value(&batch, name, labels);
    assert!(of("vectorstore_recall_ratio", &[docs]).expect("a share") > 0.5);
    assert!(of("vectorstore_index_bytes", &[docs]).expect("a size") > 100_000.0);
    assert!(
        of("vectorstore_collection_bytes", &[docs, ("part", "table")]).expect("a size") > 100_000.0
    );
    // An index of another operator is passed over, and that shows.
    postgres.sql("postgres", "DROP INDEX docs_hnsw; CREATE INDEX docs_l2 ON docs USING ivfflat (embedding vector_l2_ops) WITH (lists = 10); SET enable_indexscan = off; ALTER ROLE reader SET enable_indexscan = off;");
    let mut again = build_patient("vector_store", &yaml);
    let (batch, result) = collect("vector_store", &mut again).await;
    result.expect("all is well");
    expect(
        &batch,
        &[("index_used", &[docs, ("index", "docs_l2")], 0.0)],
    );
    // A role without SELECT still sees what there is.
    let yaml = format!(
        "store: pgvector\ndsn: '{}'\n",
        postgres.dsn("stranger", "postgres")
    );
    let mut stranger = build_patient("vector_store", &yaml);
    let (batch, result) = collect("vector_store", &mut stranger).await;
    result.expect("it is let in");
    expect(
        &batch,
        &[
            ("collection_vectors", &[docs], 3000.0),
            ("collection_searchable", &[docs], 0.0),
        ],
    );
    assert_eq!(value(&batch, "vectorstore_canary_success", &[docs]), None);
    // A database without the extension.
    postgres.sql("postgres", "CREATE DATABASE bare");
    let yaml = format!(
        "store: pgvector\ndsn: '{}'\n",
        postgres.dsn("reader", "bare")
    );
    let mut bare = build_patient("vector_store", &yaml);
    let (_, result) = collect("vector_store", &mut bare).await;
    assert!(
        result
            .expect_err("no extension")
            .reason
            .contains("not installed")
    );
}
