//! Chroma's HTTP API, both generations: v2 with tenant and database in the path (0.5.16 and
//! later, 1.x), v1 with both as parameters.

use std::time::{Duration, Instant};

use serde_json::Value;
use url::Url;

use super::super::caller::below;
use crate::http::{Client, HeaderMap, HttpError, HttpErrorKind, Request};

/// Greatest answer that is read, in bytes.
const MAX_ANSWER: usize = 16 << 20;

/// Which generation the server speaks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Generation {
    /// `/api/v1`
    V1,
    /// `/api/v2`
    V2,
}

impl Generation {
    /// `v1` or `v2`.
    pub fn as_str(self) -> &'static str {
        match self {
            Generation::V1 => "v1",
            Generation::V2 => "v2",
        }
    }
}

/// A failed call, by kind; the kind labels a metric.
#[derive(Clone, Debug)]
pub struct ApiError {
    /// `dns`, `connect`, `tls`, `timeout`, `auth`, `not_found`, `dimension_mismatch`,
    /// `server_error`, `bad_request`, `invalid_response`.
    pub kind: &'static str,
    /// The HTTP status, 0 without an answer.
    pub status: u16,
}

impl From<HttpError> for ApiError {
    fn from(error: HttpError) -> Self {
        let kind = match error.kind {
            HttpErrorKind::TooLarge
            | HttpErrorKind::Protocol
            | HttpErrorKind::Request
            | HttpErrorKind::Credentials => "invalid_response",
            other => other.as_str(),
        };
        ApiError { kind, status: 0 }
    }
}

/// One collection as the list shows it.
#[derive(Clone, Debug, PartialEq)]
pub struct Collection {
    /// Identifier, for count and query.
    pub id: String,
    /// Name, for people.
    pub name: String,
    /// Dimension; `None` while it is empty.
    pub dimension: Option<f64>,
    /// Whether the nearest vector is the one with the greatest inner product: it need not be the
    /// vector itself.
    pub inner_product: bool,
}

/// A vector that is known to be stored.
#[derive(Clone, Debug)]
pub struct Canary {
    /// The record's identifier.
    pub id: String,
    /// Its embedding.
    pub embedding: Vec<f64>,
}

/// What a query found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Found {
    /// Number of rows.
    pub results: usize,
    /// Whether the canary, or a vector equal to it, was the first.
    pub itself: bool,
}

/// A server.
pub struct Api {
    /// The client.
    pub client: Client,
    /// `http://host:port`, without `/api`.
    pub base: Url,
    /// Headers that carry the token.
    pub headers: HeaderMap,
    /// Tenant, `default_tenant` by default.
    pub tenant: String,
    /// Database, `default_database` by default.
    pub database: String,
    /// Deadline of one call.
    pub timeout: Duration,
}

impl Api {
    /// GET, timed.
    pub async fn get(&self, path: &str) -> (Duration, Result<Value, ApiError>) {
        self.send(Request::get(below(&self.base, path), self.timeout))
            .await
    }

    async fn post(&self, path: &str, body: &Value) -> (Duration, Result<Value, ApiError>) {
        self.send(Request::post_json(
            below(&self.base, path),
            body,
            self.timeout,
        ))
        .await
    }

    async fn send(&self, mut request: Request) -> (Duration, Result<Value, ApiError>) {
        request.max_body = MAX_ANSWER;
        request.headers.extend(self.headers.clone());
        let started = Instant::now();
        let answer = self.client.send(request).await;
        let duration = started.elapsed();
        let result = answer
            .map_err(ApiError::from)
            .and_then(|response| match response.status {
                200..=299 => serde_json::from_slice(&response.body).map_err(|_| ApiError {
                    kind: "invalid_response",
                    status: response.status,
                }),
                status => Err(ApiError {
                    kind: refusal(status, &response.text()),
                    status,
                }),
            });
        (duration, result)
    }

    /// The path of the collections, followed by `rest`; `parameters` without the leading `&`.
    fn collections(&self, generation: Generation, rest: &str, parameters: &str) -> String {
        match generation {
            Generation::V2 => {
                let query = if parameters.is_empty() {
                    String::new()
                } else {
                    format!("?{parameters}")
                };
                format!(
                    "/api/v2/tenants/{}/databases/{}/collections{rest}{query}",
                    self.tenant, self.database
                )
            }
            Generation::V1 => format!(
                "/api/v1/collections{rest}?tenant={}&database={}&{parameters}",
                self.tenant, self.database
            ),
        }
    }

    /// Errs with `not_found` when the configured database does not exist: its list would be empty
    /// with status 200.
    pub async fn check_database(&self, generation: Generation) -> Result<(), ApiError> {
        let path = match generation {
            Generation::V2 => format!(
                "/api/v2/tenants/{}/databases/{}",
                self.tenant, self.database
            ),
            Generation::V1 => format!("/api/v1/databases/{}?tenant={}", self.database, self.tenant),
        };
        match self.get(&path).await.1 {
            Err(error) if matches!(error.status, 400 | 404 | 500) => Err(ApiError {
                kind: "not_found",
                status: error.status,
            }),
            Err(error) => Err(error),
            Ok(_) => Ok(()),
        }
    }

    /// Number of collections.
    pub async fn count_collections(
        &self,
        generation: Generation,
    ) -> (Duration, Result<f64, ApiError>) {
        let path = match generation {
            Generation::V2 => format!(
                "/api/v2/tenants/{}/databases/{}/collections_count",
                self.tenant, self.database
            ),
            Generation::V1 => format!(
                "/api/v1/count_collections?tenant={}&database={}",
                self.tenant, self.database
            ),
        };
        let (duration, result) = self.get(&path).await;
        (
            duration,
            result.and_then(|json| {
                json.as_f64().ok_or(ApiError {
                    kind: "invalid_response",
                    status: 200,
                })
            }),
        )
    }

    /// At most `limit` collections.
    pub async fn list(
        &self,
        generation: Generation,
        limit: usize,
    ) -> (Duration, Result<Vec<Collection>, ApiError>) {
        let (duration, result) = self
            .get(&self.collections(generation, "", &format!("limit={limit}&offset=0")))
            .await;
        let read = |json: Value| {
            let text =
                |item: &Value, key: &str| item.get(key).and_then(Value::as_str).map(str::to_owned);
            let one = |item: &Value| {
                let (id, name, inner_product) = (
                    text(item, "id")?,
                    text(item, "name")?,
                    space(item) == Some("ip"),
                );
                Some(Collection {
                    id,
                    name,
                    dimension: item["dimension"].as_f64(),
                    inner_product,
                })
            };
            json.as_array()
                .map(|items| items.iter().filter_map(one).take(limit).collect())
        };
        (
            duration,
            result.and_then(|json| {
                read(json).ok_or(ApiError {
                    kind: "invalid_response",
                    status: 200,
                })
            }),
        )
    }

    /// Vectors in a collection.
    pub async fn count(
        &self,
        generation: Generation,
        id: &str,
    ) -> (Duration, Result<f64, ApiError>) {
        let (duration, result) = self
            .get(&self.collections(generation, &format!("/{id}/count"), ""))
            .await;
        (
            duration,
            result.and_then(|json| {
                json.as_f64().ok_or(ApiError {
                    kind: "invalid_response",
                    status: 200,
                })
            }),
        )
    }

    /// Any stored vectors, at most so many. They need no embedding model.
    pub async fn any_vectors(
        &self,
        generation: Generation,
        id: &str,
        most: usize,
    ) -> Result<Vec<Canary>, ApiError> {
        let body = serde_json::json!({ "limit": most, "include": ["embeddings"] });
        let json = self
            .post(
                &self.collections(generation, &format!("/{id}/get"), ""),
                &body,
            )
            .await
            .1?;
        let read = |(index, id): (usize, &Value)| {
            let embedding = json["embeddings"]
                .get(index)?
                .as_array()?
                .iter()
                .map(Value::as_f64)
                .collect::<Option<Vec<f64>>>()?;
            Some(Canary {
                id: id.as_str()?.to_owned(),
                embedding,
            })
        };
        let ids = json["ids"].as_array().map(Vec::as_slice);
        Ok(ids
            .unwrap_or_default()
            .iter()
            .enumerate()
            .filter_map(read)
            .collect())
    }

    /// Asks for the vector nearest to the canary.
    pub async fn query(
        &self,
        generation: Generation,
        id: &str,
        canary: &Canary,
    ) -> (Duration, Result<Found, ApiError>) {
        let body = serde_json::json!({ "query_embeddings": [canary.embedding], "n_results": 1, "include": ["distances"] });
        let (duration, result) = self
            .post(
                &self.collections(generation, &format!("/{id}/query"), ""),
                &body,
            )
            .await;
        let found = result.map(|json| {
            let ids = json["ids"]
                .get(0)
                .and_then(Value::as_array)
                .cloned()
                .unwrap_or_default();
            let near = json["distances"]
                .get(0)
                .and_then(|d| d.get(0))
                .and_then(Value::as_f64)
                .is_some_and(|d| d.abs() < 1e-4);
            Found {
                results: ids.len(),
                itself: ids.first().and_then(Value::as_str) == Some(&canary.id)
                    || (!ids.is_empty() && near),
            }
        });
        (duration, found)
    }
}

/// How a collection measures distance: in its metadata as 0.5 has it, or in its configuration as
/// later versions write it.
fn space(item: &Value) -> Option<&str> {
    let configuration = &item["configuration_json"];
    let positions = [
        &configuration["hnsw"]["space"],
        &configuration["spann"]["space"],
        &configuration["hnsw_configuration"]["space"],
        &configuration["space"],
    ];
    // The configuration names a default where the metadata alone says what holds.
    item["metadata"]["hnsw:space"]
        .as_str()
        .or_else(|| positions.into_iter().find_map(Value::as_str))
}

fn refusal(status: u16, body: &str) -> &'static str {
    match status {
        401 | 403 => "auth",
        404 | 410 => "not_found",
        _ if body.contains("dimension") => "dimension_mismatch",
        400 if body.contains("does not exist") => "not_found",
        500..=599 => "server_error",
        _ => "bad_request",
    }
}
