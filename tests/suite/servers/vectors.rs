//! Stand-ins of vector stores: twenty vectors, searches among them, and Qdrant's answers as its
//! description of the interface has them.

use serde_json::{Value, json};

/// Vectors of a stand-in: number and numbers.
pub fn vectors() -> Vec<(u64, Vec<f64>)> {
    (1..=20_u32)
        .map(|i| {
            let angle = f64::from(i) / 10.0;
            (u64::from(i), vec![angle.cos(), angle.sin(), 0.5, 0.25])
        })
        .collect()
}

/// The nearest by Euclid's distance, with it; a search that is not exact misses number 3.
pub fn nearest(to: &Value, most: &Value, exact: bool) -> Vec<(u64, f64)> {
    let to: Vec<f64> = to
        .as_array()
        .expect("a vector")
        .iter()
        .map(|n| n.as_f64().expect("a number"))
        .collect();
    let distance = |v: &[f64]| {
        let squares = v.iter().zip(&to).map(|(a, b)| (a - b) * (a - b));
        squares.sum::<f64>().sqrt()
    };
    let mut found: Vec<(u64, f64)> = vectors()
        .iter()
        .filter(|(id, _)| exact || *id != 3)
        .map(|(id, v)| (*id, distance(v)))
        .collect();
    found.sort_by(|a, b| a.1.total_cmp(&b.1));
    found.truncate(usize::try_from(most.as_u64().expect("a count")).expect("a count"));
    found
}

/// Method, path and body of a request.
pub fn parts(request: &str) -> (String, String, Value) {
    let (head, body) = request.split_once("\r\n\r\n").expect("a head");
    let mut words = head.split(' ');
    let method = words.next().expect("a method").to_owned();
    let path = words.next().expect("a path").to_owned();
    (
        method,
        path,
        serde_json::from_str(body).unwrap_or(Value::Null),
    )
}

pub fn ok(body: Value) -> (&'static str, String) {
    ("200 OK", body.to_string())
}

/// Qdrant at its root, with a token; everything else is 404.
pub fn qdrant(request: &str) -> (&'static str, String) {
    let (_, path, body) = parts(request);
    if !request.contains("api-key: secret") && path != "/readyz" && path != "/" {
        return ("401 Unauthorized", "Must provide an API key".into());
    }
    let points = |found: Vec<(u64, f64)>| {
        let points: Vec<Value> = found
            .into_iter()
            .map(|(id, score)| json!({"id": id, "version": 0, "score": score}))
            .collect();
        json!({"result": {"points": points}, "status": "ok"})
    };
    match path.as_str() {
        "/" => ok(json!({"title": "qdrant - vector search engine", "version": "1.19.0"})),
        "/readyz" => ("200 OK", "all shards are ready".into()),
        "/collections" => {
            ok(json!({"result": {"collections": [{"name": "docs"}, {"name": "full"}]}}))
        }
        "/collections/docs" => ok(json!({"result": {
            "status": "green", "optimizer_status": "ok", "points_count": 20, "indexed_vectors_count": 15,
            "segments_count": 3, "update_queue": {"length": 2, "deferred_points": 0},
            "config": {"params": {"vectors": {"size": 4, "distance": "Euclid"}, "replication_factor": 2}},
        }, "status": "ok", "time": 0.1})),
        "/collections/docs/cluster" => ok(json!({"result": {"peer_id": 1, "shard_count": 1,
            "local_shards": [{"shard_id": 0, "points_count": 20, "state": "Active"}],
            "remote_shards": [{"shard_id": 0, "peer_id": 2, "state": "Dead"}]}})),
        "/collections/full" => ok(json!({"result": {
            "status": "red", "optimizer_status": {"error": "No space left on device"}, "points_count": 5,
            "indexed_vectors_count": 10, "segments_count": 1,
            "config": {"params": {"vectors": {"title": {"size": 8, "distance": "Cosine"}, "text": {"size": 8, "distance": "Cosine"}}}},
        }})),
        "/collections/docs/points/scroll" => {
            let most = usize::try_from(body["limit"].as_u64().expect("a limit")).expect("small");
            let points: Vec<Value> = vectors()
                .iter()
                .take(most)
                .map(|(id, v)| json!({"id": id, "vector": v}))
                .collect();
            ok(json!({"result": {"points": points, "next_page_offset": null}}))
        }
        "/collections/docs/points/query" => {
            let exact = body["params"]["exact"] == true;
            ok(points(nearest(&body["query"], &body["limit"], exact)))
        }
        "/cluster" => ok(json!({"result": {"status": "enabled", "peer_id": 1,
            "peers": {"1": {"uri": "http://a:6335/"}, "2": {"uri": "http://b:6335/"}},
            "message_send_failures": {"http://b:6335/": {"count": 3}}}})),
        _ => (
            "404 Not Found",
            json!({"status": {"error": "Not found"}}).to_string(),
        ),
    }
}
