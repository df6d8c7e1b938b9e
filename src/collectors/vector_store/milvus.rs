//! Milvus 2.4 and later over its REST API v2 (<https://milvus.io/api-reference/restful/v2.5.x/>).
//!
//! Privilege: `DescribeCollection`, `GetStatistics`, `GetLoadState`, `Query`, `Search` on the
//! collections. Used: POST of `collections/{list,describe,get_stats,get_load_state}` and
//! `entities/{query,search}`, which read, and GET of `/healthz` at the port of management. Never
//! used: whatever writes, loads or releases.

use std::time::Duration;

use serde_json::{Value, json};

use crate::config::Section;

use super::caller::{Caller, number, vector};
use super::store::{
    AnyStore, Choice, Collection, Failure, Hit, Looked, Search, Store, Stored, Survey,
};

/// The states of a collection.
const STATES: &[&str] = &["loaded", "loading", "notload", "notexist"];

struct Milvus {
    caller: Caller,
    /// Port of health.
    management: Caller,
    database: String,
}

/// Reads its keys.
pub fn build(section: &Section<'_>) -> Box<dyn AnyStore> {
    let caller = Caller::read(section, "authorization", "Bearer ", 19530);
    Box::new(Milvus {
        management: caller.at_port(section.or("management_port", 9091)),
        caller,
        database: section.or("database", "default".to_owned()),
    })
}

/// What an error of Milvus is: it may come with status 200.
fn failure(answer: &Value) -> Failure {
    let code = answer["code"].as_i64().unwrap_or(-1);
    let message = answer["message"].as_str().unwrap_or_default();
    let lower = message.to_ascii_lowercase();
    let kind = match code {
        1800 | 65535 | 1807 if lower.contains("auth") || lower.contains("permission") => "auth",
        1800 => "auth",
        100 | 106 => "not_found",
        101..=103 => "not_loaded",
        _ if lower.contains("dimension") || lower.contains("dim ") => "dimension_mismatch",
        1..=99 => "server_error",
        _ => "bad_request",
    };
    Failure::new(kind, format!("code {code}"))
}

/// The parameters of a field: a list of keys and values, or a map.
fn parameter(field: &Value, key: &str) -> Option<f64> {
    match &field["params"] {
        Value::Array(items) => items
            .iter()
            .find(|item| item["key"] == key)
            .and_then(|item| number(&item["value"])),
        params => number(&params[key]),
    }
}

impl Milvus {
    async fn ask(&self, path: &str, mut body: Value, timeout: Duration) -> Looked<Value> {
        body["dbName"] = json!(self.database);
        let path = format!("/v2/vectordb/{path}");
        let answer = self.caller.post(&path, &body, timeout).await?;
        match answer["code"].as_i64() {
            Some(0 | 200) => Ok(answer["data"].clone()),
            _ => Err(failure(&answer)),
        }
    }

    async fn collection(&self, name: &str, timeout: Duration) -> Looked<Collection> {
        let body = || json!({"collectionName": name});
        let (described, state, stats) = tokio::join!(
            self.ask("collections/describe", body(), timeout),
            self.ask("collections/get_load_state", body(), timeout),
            self.ask("collections/get_stats", body(), timeout),
        );
        let (described, state, stats) = (described?, state?, stats?);
        let fields = described["fields"].as_array().cloned().unwrap_or_default();
        let of_vector = fields.iter().find(|field| {
            let kind = field["type"].as_str().unwrap_or_default();
            kind.ends_with("Vector") && !kind.starts_with("Sparse")
        });
        let key = fields.iter().find(|field| field["primaryKey"] == true);
        let index = described["indexes"].as_array().and_then(|indexes| {
            let field = of_vector?["name"].as_str()?;
            indexes
                .iter()
                .find(|index| index["fieldName"] == field)
                .cloned()
        });
        let space = index
            .as_ref()
            .and_then(|index| index["metricType"].as_str())
            .unwrap_or_default()
            .to_owned();
        let text = |field: Option<&Value>| {
            field
                .and_then(|field| field["name"].as_str())
                .unwrap_or_default()
                .to_owned()
        };
        let state = state["loadState"]
            .as_str()
            .unwrap_or_default()
            .trim_start_matches("LoadState")
            .to_ascii_lowercase();
        Ok(Collection {
            name: name.to_owned(),
            // The key comes back with each hit.
            id: text(key),
            field: text(of_vector),
            vectors: number(&stats["rowCount"]),
            dimension: of_vector.and_then(|field| parameter(field, "dim")),
            segments: described["shardsNum"].as_f64(),
            searchable: state == "loaded" && of_vector.is_some(),
            status: Some((state, STATES)),
            inner_product: space == "IP",
            space,
            ..Collection::default()
        })
    }

    async fn near(
        &self,
        of: &Collection,
        vector: &[f64],
        most: usize,
        timeout: Duration,
    ) -> Looked<Vec<Hit>> {
        let body = json!({
            "collectionName": of.name, "data": [vector], "annsField": of.field,
            "limit": most, "outputFields": [of.id],
        });
        let rows = self.ask("entities/search", body, timeout).await?;
        let hit = |row: &Value| Hit {
            id: row[&of.id].to_string(),
            equal: number(&row["distance"]).map(|distance| match of.space.as_str() {
                "COSINE" => distance > 1.0 - 1e-4,
                _ => distance.abs() < 1e-4,
            }),
        };
        Ok(rows.as_array().into_iter().flatten().map(hit).collect())
    }
}

impl Store for Milvus {
    fn address(&self) -> String {
        self.caller.address()
    }

    async fn survey(&mut self, choice: &Choice, timeout: Duration) -> Looked<Survey> {
        let list = self.ask("collections/list", json!({}), timeout).await?;
        let names: Vec<String> = list
            .as_array()
            .ok_or_else(|| Failure::odd("no list of collections"))?
            .iter()
            .filter_map(|name| name.as_str().map(str::to_owned))
            .collect();
        let mut survey = Survey {
            // Who may not reach the port of management is served still.
            ready: self
                .management
                .status("/healthz", timeout)
                .await
                .map_or(true, |status| status == 200),
            total: names.len(),
            ..Survey::default()
        };
        for name in choice.of(names) {
            match self.collection(&name, timeout).await {
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
            "collectionName": of.name, "limit": most, "filter": "",
            "outputFields": [of.id, of.field],
        });
        let rows = self.ask("entities/query", body, timeout).await?;
        let one = |row: &Value| {
            Some(Stored {
                id: row[&of.id].to_string(),
                vector: vector(&row[&of.field])?,
            })
        };
        let rows = rows.as_array();
        Ok(rows.into_iter().flatten().filter_map(one).collect())
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
