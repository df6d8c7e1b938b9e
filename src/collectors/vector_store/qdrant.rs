//! Qdrant 1.x over REST (<https://api.qdrant.tech/>), as its OpenAPI description of 1.19 has it.
//!
//! Privilege: a read-only API key. Used: GET of `/readyz`, `/collections`, `/cluster`, POST of
//! `points/scroll` and `points/query`, which read. Never used: whatever writes, snapshots, `/telemetry`.

use std::time::Duration;

use serde_json::{Value, json};

use crate::config::Section;

use super::caller::{Caller, number, segment, vector};
use super::store::{
    AnyStore, Choice, Collection, Failure, Hit, Looked, Search, Store, Stored, Survey,
};

/// The states of a collection.
const STATES: &[&str] = &["green", "yellow", "grey", "red"];

struct Qdrant(Caller);

/// Reads its keys.
pub fn build(section: &Section<'_>) -> Box<dyn AnyStore> {
    Box::new(Qdrant(Caller::read(section, "api-key", "", 6333)))
}

/// The vectors that a collection has, by name, `""` for the one without: dimension and distance.
fn fields(vectors: &Value) -> Vec<(String, f64, String)> {
    let one = |name: &str, params: &Value| {
        let distance = params["distance"].as_str().unwrap_or_default().to_owned();
        Some((name.to_owned(), params["size"].as_f64()?, distance))
    };
    match one("", vectors) {
        Some(single) => vec![single],
        None => vectors
            .as_object()
            .into_iter()
            .flatten()
            .filter_map(|(name, params)| one(name, params))
            .collect(),
    }
}

fn read(name: &str, result: &Value) -> Collection {
    let status = result["status"].as_str().unwrap_or_default().to_owned();
    let optimizer = &result["optimizer_status"];
    let vectors = result["points_count"]
        .as_f64()
        .or_else(|| result["vectors_count"].as_f64());
    let params = &result["config"]["params"];
    let fields = fields(&params["vectors"]);
    let (field, dimension, space) = fields.first().cloned().unwrap_or_default();
    // Counted are vectors; a point may have several.
    let indexed = result["indexed_vectors_count"].as_f64();
    let expected = vectors.map(|points| points * fields.len().max(1) as f64);
    Collection {
        name: name.to_owned(),
        id: name.to_owned(),
        field,
        vectors,
        dimension: (dimension > 0.0).then_some(dimension),
        indexed,
        unindexed: expected
            .zip(indexed)
            .map(|(expected, indexed)| (expected - indexed).max(0.0)),
        segments: result["segments_count"].as_f64(),
        searchable: status != "red",
        status: Some((status, STATES)),
        optimizer: Some(match optimizer["error"].as_str() {
            Some(error) => Err(error.chars().take(120).collect()),
            None => Ok(()),
        }),
        queue: result["update_queue"]["length"].as_f64(),
        inner_product: space == "Dot",
        space,
        ..Collection::default()
    }
}

/// Copies wanted and active: of the shards here and elsewhere.
fn replicas(cluster: &Value, wanted: f64) -> Option<(f64, f64)> {
    let shards = |key: &str| cluster[key].as_array().cloned().unwrap_or_default();
    let all = [shards("local_shards"), shards("remote_shards")].concat();
    let mut by_shard = std::collections::BTreeMap::<u64, f64>::new();
    for shard in &all {
        let active = f64::from(u8::from(shard["state"] == "Active"));
        *by_shard.entry(shard["shard_id"].as_u64()?).or_default() += active;
    }
    let least = by_shard.into_values().reduce(f64::min)?;
    Some((wanted, least))
}

impl Qdrant {
    async fn collection(&self, name: &str, timeout: Duration) -> Looked<Collection> {
        let path = format!("/collections/{}", segment(name));
        let json = self.0.get(&path, timeout).await?;
        let mut collection = read(name, &json["result"]);
        // A single node has no copies.
        let wanted = json["result"]["config"]["params"]["replication_factor"].as_f64();
        if let Some(wanted) = wanted.filter(|wanted| *wanted > 1.0) {
            let cluster = self.0.get(&format!("{path}/cluster"), timeout).await?;
            collection.replicas = replicas(&cluster["result"], wanted);
        }
        Ok(collection)
    }

    async fn near(
        &self,
        of: &Collection,
        vector: &[f64],
        most: usize,
        search: Search,
        timeout: Duration,
    ) -> Looked<Vec<Hit>> {
        let mut body = json!({
            "query": vector, "limit": most, "with_payload": false,
            "params": {"exact": search == Search::Exact},
        });
        if !of.field.is_empty() {
            body["using"] = json!(of.field);
        }
        let path = format!("/collections/{}/points/query", segment(&of.id));
        let json = self.0.post(&path, &body, timeout).await?;
        let points = json["result"]["points"]
            .as_array()
            .ok_or_else(|| Failure::odd("no list of points"))?;
        let hit = |point: &Value| Hit {
            id: point["id"].to_string(),
            // The score of equal vectors: 1 by the cosine, a distance of 0.
            equal: number(&point["score"]).map(|score| match of.space.as_str() {
                "Cosine" => score > 1.0 - 1e-4,
                _ => score.abs() < 1e-4,
            }),
        };
        Ok(points.iter().map(hit).collect())
    }
}

impl Store for Qdrant {
    fn address(&self) -> String {
        self.0.address()
    }

    async fn survey(&mut self, choice: &Choice, timeout: Duration) -> Looked<Survey> {
        let list = self.0.get("/collections", timeout).await?;
        let names: Vec<String> = list["result"]["collections"]
            .as_array()
            .ok_or_else(|| Failure::odd("no list of collections"))?
            .iter()
            .filter_map(|item| item["name"].as_str().map(str::to_owned))
            .collect();
        let mut survey = Survey {
            ready: self.0.status("/readyz", timeout).await? == 200,
            total: names.len(),
            ..Survey::default()
        };
        if let Ok(root) = self.0.get("/", timeout).await {
            survey.version = root["version"].as_str().map(str::to_owned);
        }
        for name in choice.of(names) {
            match self.collection(&name, timeout).await {
                Ok(collection) => survey.collections.push(collection),
                Err(failure) => survey.problems.push(format!("{name}: {}", failure.text)),
            }
        }
        let cluster = self.0.get("/cluster", timeout).await;
        if let Ok(cluster) = cluster {
            let peers = cluster["result"]["peers"].as_object();
            let failing = &cluster["result"]["message_send_failures"];
            for (id, peer) in peers.into_iter().flatten().take(100) {
                let uri = peer["uri"].as_str().unwrap_or(id);
                let is_well = failing.get(uri).is_none() && failing.get(id).is_none();
                survey.nodes.push((id.clone(), is_well));
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
        let wanted = match of.field.as_str() {
            "" => json!(true),
            field => json!([field]),
        };
        let body = json!({"limit": most, "with_vector": wanted, "with_payload": false});
        let path = format!("/collections/{}/points/scroll", segment(&of.id));
        let json = self.0.post(&path, &body, timeout).await?;
        let points = json["result"]["points"].as_array();
        let one = |point: &Value| {
            let held = &point["vector"];
            let held = match of.field.as_str() {
                "" => held,
                field => &held[field],
            };
            Some(Stored {
                id: point["id"].to_string(),
                vector: vector(held)?,
            })
        };
        Ok(points.into_iter().flatten().filter_map(one).collect())
    }

    async fn nearest(
        &mut self,
        collection: &Collection,
        stored: &Stored,
        most: usize,
        search: Search,
        timeout: Duration,
    ) -> Looked<Option<Vec<Hit>>> {
        let hits = self
            .near(collection, &stored.vector, most, search, timeout)
            .await?;
        Ok(Some(hits))
    }
}
