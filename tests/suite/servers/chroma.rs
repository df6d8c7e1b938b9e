//! A real Chroma server with data of its own: 1.x, or 0.5 from the time when there was only the
//! first generation of its API.

use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::{Server, free_port, listens, tool_of, wait_until};

/// Which Chroma.
struct Edition {
    /// The Python environment that holds it.
    environment: &'static str,
    /// The path of its collections.
    collections: &'static str,
}

const CURRENT: Edition = Edition {
    environment: "venv",
    collections: "/api/v2/tenants/default_tenant/databases/default_database/collections",
};
const OLD: Edition = Edition {
    environment: "chroma05",
    collections: "/api/v1/collections",
};

pub struct Chroma {
    edition: &'static Edition,
    /// The token that it asks for.
    token: Option<&'static str>,
    pub port: u16,
    pub data: TempDir,
    server: Option<Server>,
}

impl Chroma {
    pub fn start() -> Self {
        Self::of(&CURRENT, None)
    }

    /// Chroma 0.5.
    pub fn start_old() -> Self {
        Self::of(&OLD, None)
    }

    /// Chroma 0.5 that asks for a token.
    pub fn start_old_with_token(token: &'static str) -> Self {
        Self::of(&OLD, Some(token))
    }

    fn of(edition: &'static Edition, token: Option<&'static str>) -> Self {
        let mut chroma = Chroma {
            edition,
            token,
            port: free_port(),
            data: tempfile::tempdir().expect("a folder"),
            server: None,
        };
        chroma.restart();
        chroma
    }

    pub fn restart(&mut self) {
        let child = Command::new(tool_of(self.edition.environment, "chroma"))
            .args([
                "run",
                "--host",
                "127.0.0.1",
                "--port",
                &self.port.to_string(),
                "--path",
            ])
            .arg(self.data.path())
            // It writes a log where it stands.
            .current_dir(self.data.path())
            .env("ANONYMIZED_TELEMETRY", "False")
            .envs(self.token.iter().flat_map(|token| {
                let provider = "chromadb.auth.token_authn.TokenAuthenticationServerProvider";
                [
                    ("CHROMA_SERVER_AUTHN_CREDENTIALS", *token),
                    ("CHROMA_SERVER_AUTHN_PROVIDER", provider),
                ]
            }))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("chroma starts");
        self.server = Some(Server(child));
        let port = self.port;
        wait_until("Chroma listens", Duration::from_secs(60), || listens(port));
    }

    pub fn stop(&mut self) {
        self.server = None;
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    async fn post(&self, path: &str, body: Value) -> Value {
        let url = format!("{}{path}", self.url()).parse().expect("a URL");
        let request = nightbell::http::Request::post_json(url, &body, Duration::from_secs(10));
        let response = nightbell::http::Client::plain()
            .send(request)
            .await
            .expect("Chroma answers");
        assert!(
            response.status < 300,
            "{path}: {} {}",
            response.status,
            response.text()
        );
        serde_json::from_slice(&response.body).unwrap_or(Value::Null)
    }

    /// Makes a collection of `count` vectors of dimension 8; returns its identifier.
    pub async fn collection(&self, name: &str, count: usize) -> String {
        let made = self
            .post(self.edition.collections, json!({ "name": name }))
            .await;
        let id = made["id"].as_str().expect("an id").to_owned();
        if count > 0 {
            let ids: Vec<String> = (0..count).map(|i| format!("v{i}")).collect();
            let vectors: Vec<Vec<f64>> = (0..count)
                .map(|i| {
                    (0..8)
                        .map(|j| ((i * 7 + j * 3) % 23) as f64 / 23.0 + i as f64)
                        .collect()
                })
                .collect();
            self.post(
                &format!("{}/{id}/add", self.edition.collections),
                json!({ "ids": ids, "embeddings": vectors, "documents": ids }),
            )
            .await;
        }
        id
    }

    /// Makes a collection that measures distance so, of these vectors.
    pub async fn collection_in(&self, name: &str, space: &str, vectors: &[Vec<f64>]) {
        let made = self
            .post(
                self.edition.collections,
                json!({ "name": name, "metadata": { "hnsw:space": space } }),
            )
            .await;
        let id = made["id"].as_str().expect("an id").to_owned();
        let ids: Vec<String> = (0..vectors.len()).map(|i| format!("v{i}")).collect();
        self.post(
            &format!("{}/{id}/add", self.edition.collections),
            json!({ "ids": ids, "embeddings": vectors, "documents": ids }),
        )
        .await;
    }

    pub async fn delete(&self, id: &str, record: &str) {
        self.post(
            &format!("{}/{id}/delete", self.edition.collections),
            json!({ "ids": [record] }),
        )
        .await;
    }
}
