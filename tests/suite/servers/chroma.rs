//! A real Chroma 1.x server with data of its own.

use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::{Server, free_port, listens, python_tool, wait_until};

/// The path of Chroma's collections.
const COLLECTIONS: &str = "/api/v2/tenants/default_tenant/databases/default_database/collections";

pub struct Chroma {
    pub port: u16,
    pub data: TempDir,
    server: Option<Server>,
}

impl Chroma {
    pub fn start() -> Self {
        let mut chroma = Chroma { port: free_port(), data: tempfile::tempdir().expect("a folder"), server: None };
        chroma.restart();
        chroma
    }

    pub fn restart(&mut self) {
        let child = Command::new(python_tool("chroma"))
            .args(["run", "--host", "127.0.0.1", "--port", &self.port.to_string(), "--path"])
            .arg(self.data.path())
            .env("ANONYMIZED_TELEMETRY", "False")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("chroma starts");
        self.server = Some(Server(child));
        let port = self.port;
        wait_until("Chroma listens", Duration::from_secs(30), || listens(port));
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
        let response = nightbell::http::Client::plain().send(request).await.expect("Chroma answers");
        assert!(response.status < 300, "{path}: {} {}", response.status, response.text());
        serde_json::from_slice(&response.body).unwrap_or(Value::Null)
    }

    /// Makes a collection of `count` vectors of dimension 8; returns its identifier.
    pub async fn collection(&self, name: &str, count: usize) -> String {
        let made = self.post(COLLECTIONS, json!({ "name": name })).await;
        let id = made["id"].as_str().expect("an id").to_owned();
        if count > 0 {
            let ids: Vec<String> = (0..count).map(|i| format!("v{i}")).collect();
            let vectors: Vec<Vec<f64>> =
                (0..count).map(|i| (0..8).map(|j| ((i * 7 + j * 3) % 23) as f64 / 23.0 + i as f64).collect()).collect();
            self.post(&format!("{COLLECTIONS}/{id}/add"), json!({ "ids": ids, "embeddings": vectors, "documents": ids })).await;
        }
        id
    }

    pub async fn delete(&self, id: &str, record: &str) {
        self.post(&format!("{COLLECTIONS}/{id}/delete"), json!({ "ids": [record] })).await;
    }
}
