//! Weaviate 1.20 and later (<https://docs.weaviate.io/weaviate/api/rest>).
//!
//! Privilege: `read_nodes` (verbose), `read_collections`, `read_data`. Used: GET of the well-known
//! paths, `/v1/meta`, `/v1/schema`, `/v1/nodes`, `/v1/objects`, and queries of GraphQL, which only
//! read. Never used: whatever writes, backups, `/v1/authz`.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use crate::config::Section;

use super::caller::{Caller, segment, vector};
use super::store::{
    AnyStore, Choice, Collection, Failure, Hit, Looked, Search, Store, Stored, Survey,
};

struct Weaviate(Caller);

/// Reads its keys.
pub fn build(section: &Section<'_>) -> Box<dyn AnyStore> {
    Box::new(Weaviate(Caller::read(
        section,
        "authorization",
        "Bearer ",
        8080,
    )))
}

/// What the nodes say of a class: objects, shards, updates that wait.
#[derive(Clone, Copy, Default)]
struct OfClass {
    objects: f64,
    shards: f64,
    queue: f64,
}

/// Names of classes begin with a capital letter and hold letters, digits and `_`: what is put into a
/// query holds nothing else.
fn is_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

fn read(class: &Value, of: OfClass) -> Option<Collection> {
    let name = class["class"].as_str()?.to_owned();
    // Named vectors, or the one without a name.
    let named = class["vectorConfig"]
        .as_object()
        .and_then(|c| c.iter().next());
    let (field, index) = match named {
        Some((field, config)) => (field.clone(), &config["vectorIndexConfig"]),
        None => (String::new(), &class["vectorIndexConfig"]),
    };
    let space = index["distance"].as_str().unwrap_or("cosine").to_owned();
    Some(Collection {
        searchable: is_name(&name) && (field.is_empty() || is_name(&field)),
        id: name.clone(),
        name,
        field,
        vectors: Some(of.objects),
        unindexed: Some(of.queue),
        queue: Some(of.queue),
        segments: Some(of.shards),
        inner_product: space == "dot",
        space,
        ..Collection::default()
    })
}

impl Weaviate {
    async fn near(
        &self,
        of: &Collection,
        vector: &[f64],
        most: usize,
        timeout: Duration,
    ) -> Looked<Vec<Hit>> {
        let numbers: Vec<String> = vector.iter().map(f64::to_string).collect();
        let target = match of.field.as_str() {
            "" => String::new(),
            field => format!(", targetVectors: [\"{field}\"]"),
        };
        let query = format!(
            "{{ Get {{ {}(limit: {most}, nearVector: {{vector: [{}]{target}}}) {{ _additional {{ id distance }} }} }} }}",
            of.id,
            numbers.join(",")
        );
        let json = self
            .0
            .post("/v1/graphql", &json!({ "query": query }), timeout)
            .await?;
        // Errors come with status 200.
        if let Some(error) = json["errors"].get(0) {
            let message = error["message"].as_str().unwrap_or_default();
            let kind = if message.contains("length") || message.contains("dimension") {
                "dimension_mismatch"
            } else {
                "bad_request"
            };
            return Err(Failure::new(kind, "GraphQL refuses the search"));
        }
        let hits = json["data"]["Get"][&of.id]
            .as_array()
            .ok_or_else(|| Failure::odd("no list of hits"))?;
        let hit = |object: &Value| {
            let more = &object["_additional"];
            Hit {
                id: more["id"].as_str().unwrap_or_default().to_owned(),
                equal: more["distance"].as_f64().map(|d| d.abs() < 1e-4),
            }
        };
        Ok(hits.iter().map(hit).collect())
    }
}

impl Store for Weaviate {
    fn address(&self) -> String {
        self.0.address()
    }

    async fn survey(&mut self, choice: &Choice, timeout: Duration) -> Looked<Survey> {
        let schema = self.0.get("/v1/schema", timeout).await?;
        let classes = schema["classes"]
            .as_array()
            .ok_or_else(|| Failure::odd("no list of classes"))?;
        let mut survey = Survey {
            ready: self.0.status("/v1/.well-known/ready", timeout).await? == 200,
            total: classes.len(),
            ..Survey::default()
        };
        if let Ok(meta) = self.0.get("/v1/meta", timeout).await {
            survey.version = meta["version"].as_str().map(str::to_owned);
        }
        let mut by_class = BTreeMap::<String, OfClass>::new();
        // A copy on another node holds the same objects.
        let mut seen = BTreeMap::<(String, String), f64>::new();
        match self.0.get("/v1/nodes?output=verbose", timeout).await {
            Ok(nodes) => {
                for node in nodes["nodes"].as_array().into_iter().flatten().take(100) {
                    let name = node["name"].as_str().unwrap_or_default().to_owned();
                    survey.nodes.push((name, node["status"] == "HEALTHY"));
                    for shard in node["shards"].as_array().into_iter().flatten() {
                        let class = shard["class"].as_str().unwrap_or_default().to_owned();
                        let of = by_class.entry(class.clone()).or_default();
                        of.queue += shard["vectorQueueLength"].as_f64().unwrap_or(0.0);
                        let shard_name = shard["name"].as_str().unwrap_or_default().to_owned();
                        let count = shard["objectCount"].as_f64().unwrap_or(0.0);
                        let most = seen.entry((class, shard_name)).or_insert(0.0);
                        *most = most.max(count);
                    }
                }
            }
            Err(failure) => survey.problems.push(format!("nodes: {}", failure.text)),
        }
        for ((class, _), count) in seen {
            let of = by_class.entry(class).or_default();
            of.objects += count;
            of.shards += 1.0;
        }
        let names = classes
            .iter()
            .filter_map(|class| class["class"].as_str().map(str::to_owned))
            .collect();
        for name in choice.of(names) {
            let class = classes.iter().find(|class| class["class"] == name.as_str());
            let of = by_class.get(&name).copied().unwrap_or_default();
            survey
                .collections
                .extend(class.and_then(|class| read(class, of)));
        }
        Ok(survey)
    }

    async fn sample(
        &mut self,
        of: &Collection,
        most: usize,
        timeout: Duration,
    ) -> Looked<Vec<Stored>> {
        let path = format!(
            "/v1/objects?class={}&limit={most}&include=vector",
            segment(&of.id)
        );
        let json = self.0.get(&path, timeout).await?;
        let one = |object: &Value| {
            let held = match of.field.as_str() {
                "" => &object["vector"],
                field => &object["vectors"][field],
            };
            Some(Stored {
                id: object["id"].as_str()?.to_owned(),
                vector: vector(held)?,
            })
        };
        let objects = json["objects"].as_array();
        Ok(objects.into_iter().flatten().filter_map(one).collect())
    }

    async fn nearest(
        &mut self,
        collection: &Collection,
        stored: &Stored,
        most: usize,
        search: Search,
        timeout: Duration,
    ) -> Looked<Option<Vec<Hit>>> {
        // Its index cannot be passed over by a request.
        if search == Search::Exact {
            return Ok(None);
        }
        let hits = self.near(collection, &stored.vector, most, timeout).await?;
        Ok(Some(hits))
    }
}
