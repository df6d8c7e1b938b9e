//! Vectors in Elasticsearch 8 and OpenSearch 2: fields of the types `dense_vector` and `knn_vector`.
//!
//! Privilege: `monitor` on the cluster, `monitor`, `view_index_metadata` and `read` on the indices.
//! Used: GET of `/`, `/_cluster/health`, `/_mapping`, `/_stats`, POST of `_search`, which reads.
//! Never used: whatever writes, refreshes, merges or closes.
//! <https://www.elastic.co/docs/reference/elasticsearch/mapping-reference/dense-vector>,
//! <https://docs.opensearch.org/latest/field-types/supported-field-types/knn-vector/>

use std::time::Duration;

use serde_json::{Value, json};

use crate::config::Section;

use super::caller::{Caller, segment, vector};
use super::store::{
    AnyStore, Choice, Collection, Failure, Hit, Looked, Search, Store, Stored, Survey,
};

/// Deepest nesting of a mapping in which a vector is looked for.
const DEPTH: usize = 5;
/// The states of an index.
const STATES: &[&str] = &["green", "yellow", "red"];

struct Elastic {
    caller: Caller,
    /// Whether it is OpenSearch, which asks in other words; found out by its root.
    open: bool,
}

/// Reads its keys.
pub fn build(section: &Section<'_>) -> Box<dyn AnyStore> {
    Box::new(Elastic {
        caller: Caller::read(section, "authorization", "ApiKey ", 9200),
        open: false,
    })
}

/// A field of vectors.
struct Field {
    path: String,
    dimension: Option<f64>,
    space: String,
}

/// The first field of vectors in a mapping.
fn field(properties: &Value, above: &str, depth: usize) -> Option<Field> {
    for (name, field_of) in properties.as_object()? {
        let path = format!("{above}{name}");
        let dimension = match field_of["type"].as_str() {
            Some("dense_vector") => field_of["dims"].as_f64(),
            Some("knn_vector") => field_of["dimension"].as_f64(),
            _ if depth < DEPTH => {
                match field(&field_of["properties"], &format!("{path}."), depth + 1) {
                    Some(found) => return Some(found),
                    None => continue,
                }
            }
            _ => continue,
        };
        let space = field_of["similarity"]
            .as_str()
            .or_else(|| field_of["method"]["space_type"].as_str())
            .or_else(|| field_of["space_type"].as_str())
            .unwrap_or(if field_of["type"] == "knn_vector" {
                "l2"
            } else {
                "cosine"
            });
        return Some(Field {
            path,
            dimension,
            space: space.to_owned(),
        });
    }
    None
}

/// A value at a path of names, which may stand as one name with dots.
fn at<'a>(source: &'a Value, path: &str) -> Option<&'a Value> {
    source.get(path).or_else(|| {
        let (first, rest) = path.split_once('.')?;
        at(source.get(first)?, rest)
    })
}

impl Elastic {
    async fn collection(
        &self,
        name: &str,
        field: Field,
        health: &Value,
        timeout: Duration,
    ) -> Looked<Collection> {
        let path = format!("/{}/_stats/docs,store,segments", segment(name));
        let stats = self.caller.get(&path, timeout).await?;
        let primaries = &stats["_all"]["primaries"];
        let copies = health["number_of_replicas"].as_f64().map(|n| n + 1.0);
        let shards = health["number_of_shards"].as_f64().filter(|n| *n > 0.0);
        let active = health["active_shards"].as_f64();
        let state = health["status"].as_str().unwrap_or_default().to_owned();
        Ok(Collection {
            name: name.to_owned(),
            id: name.to_owned(),
            vectors: primaries["docs"]["count"].as_f64(),
            dimension: field.dimension,
            segments: primaries["segments"]["count"].as_f64(),
            bytes: primaries["store"]["size_in_bytes"]
                .as_f64()
                .map(|bytes| ("data", bytes))
                .into_iter()
                .collect(),
            replicas: copies.zip(active.zip(shards).map(|(active, shards)| active / shards)),
            searchable: state != "red",
            status: Some((state, STATES)),
            inner_product: field.space.contains("product") || field.space.contains("innerproduct"),
            field: field.path,
            space: field.space,
            ..Collection::default()
        })
    }

    async fn search(&self, of: &Collection, body: &Value, timeout: Duration) -> Looked<Vec<Value>> {
        let path = format!("/{}/_search?request_cache=false", segment(&of.id));
        let json = self.caller.post(&path, body, timeout).await?;
        let hits = json["hits"]["hits"].as_array();
        hits.cloned().ok_or_else(|| Failure::odd("no list of hits"))
    }

    /// A search as applications do, or a score of every document by a script.
    fn query(&self, of: &Collection, vector: &[f64], most: usize, search: Search) -> Value {
        let field = &of.field;
        match (search, self.open) {
            (Search::Usual, false) => json!({
                "size": most, "_source": false,
                "knn": {"field": field, "query_vector": vector, "k": most, "num_candidates": (most * 10).max(100)},
            }),
            (Search::Usual, true) => json!({
                "size": most, "_source": false,
                "query": {"knn": {field: {"vector": vector, "k": most}}},
            }),
            (Search::Exact, false) => {
                let script = match of.space.as_str() {
                    "l2_norm" => format!("1 / (1 + l2norm(params.q, '{field}'))"),
                    "dot_product" | "max_inner_product" => {
                        format!(
                            "double s = dotProduct(params.q, '{field}'); return s < 0 ? 1 / (1 - s) : s + 1;"
                        )
                    }
                    _ => format!("cosineSimilarity(params.q, '{field}') + 1"),
                };
                json!({
                    "size": most, "_source": false,
                    "query": {"script_score": {
                        "query": {"exists": {"field": field}},
                        "script": {"source": script, "params": {"q": vector}},
                    }},
                })
            }
            (Search::Exact, true) => json!({
                "size": most, "_source": false,
                "query": {"script_score": {
                    "query": {"exists": {"field": field}},
                    "script": {"lang": "knn", "source": "knn_score", "params": {
                        "field": field, "query_value": vector, "space_type": of.space,
                    }},
                }},
            }),
        }
    }
}

impl Store for Elastic {
    fn address(&self) -> String {
        self.caller.address()
    }

    async fn survey(&mut self, choice: &Choice, timeout: Duration) -> Looked<Survey> {
        let root = self.caller.get("/", timeout).await?;
        self.open = root["version"]["distribution"] == "opensearch";
        let health = self
            .caller
            .get("/_cluster/health?level=indices", timeout)
            .await?;
        let mappings = self
            .caller
            .get("/_mapping?expand_wildcards=open", timeout)
            .await?;
        let fields: Vec<(String, Field)> = mappings
            .as_object()
            .ok_or_else(|| Failure::odd("no mappings"))?
            .iter()
            .filter(|(name, _)| !name.starts_with('.'))
            .filter_map(|(name, mapping)| {
                let properties = &mapping["mappings"]["properties"];
                Some((name.clone(), field(properties, "", 0)?))
            })
            .collect();
        let mut survey = Survey {
            version: root["version"]["number"].as_str().map(str::to_owned),
            ready: health["status"] != "red",
            total: fields.len(),
            ..Survey::default()
        };
        let names = choice.of(fields.iter().map(|(name, _)| name.clone()).collect());
        for (name, field) in fields.into_iter().filter(|(name, _)| names.contains(name)) {
            let state = &health["indices"][&name];
            match self.collection(&name, field, state, timeout).await {
                Ok(collection) => survey.collections.push(collection),
                Err(failure) => survey.problems.push(format!("{name}: {}", failure.text)),
            }
        }
        Ok(survey)
    }

    async fn sample(
        &mut self,
        of: &Collection,
        most: usize,
        timeout: Duration,
    ) -> Looked<Vec<Stored>> {
        let body = json!({
            "size": most, "_source": [of.field], "track_total_hits": false,
            "query": {"exists": {"field": of.field}},
        });
        let hits = self.search(of, &body, timeout).await?;
        let one = |hit: &Value| {
            Some(Stored {
                id: hit["_id"].as_str()?.to_owned(),
                vector: vector(at(&hit["_source"], &of.field)?)?,
            })
        };
        Ok(hits.iter().filter_map(one).collect())
    }

    async fn nearest(
        &mut self,
        collection: &Collection,
        stored: &Stored,
        most: usize,
        search: Search,
        timeout: Duration,
    ) -> Looked<Option<Vec<Hit>>> {
        let body = self.query(collection, &stored.vector, most, search);
        let hits = self.search(collection, &body, timeout).await?;
        let hit = |hit: &Value| Hit {
            id: hit["_id"].as_str().unwrap_or_default().to_owned(),
            // Both give equal vectors the score 1, by the cosine and by the distance.
            equal: hit["_score"]
                .as_f64()
                .map(|score| (score - 1.0).abs() < 1e-4),
        };
        Ok(Some(hits.iter().map(hit).collect()))
    }
}
