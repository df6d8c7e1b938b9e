//! What Docker or Podman say of their containers, over their socket: `GET /containers/json?all=1`
//! and `/containers/ID/json` (<https://docs.docker.com/reference/api/engine/>). Nothing is ever
//! changed.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use tokio::time::Instant;

use crate::http::{SocketError, get_by_socket};

/// Largest answers, in bytes.
const MAX_LIST: usize = 16 << 20;
const MAX_ONE: usize = 1 << 20;
/// Containers that are asked for in detail in one collection.
const DETAILS: usize = 25;
/// Longest name or image that becomes a label, in characters.
const MAX_TEXT: usize = 128;

/// What is known of a container.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// Its name.
    pub name: String,
    /// Its image.
    pub image: String,
    /// The project and the service of Compose.
    pub project: String,
    /// The service.
    pub service: String,
    /// `running`, `exited`, …
    pub state: String,
    /// Whether its health check succeeds; `None` without one, or before its first result.
    pub is_healthy: Option<bool>,
    /// How often the engine started it anew.
    pub restarts: Option<f64>,
    /// Its exit status, when it has ended.
    pub exit_code: Option<f64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", default)]
#[derive(Default)]
struct Listed {
    id: String,
    names: Option<Vec<String>>,
    image: String,
    state: String,
    status: String,
    labels: Option<HashMap<String, String>>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct Details {
    restart_count: f64,
    state: State,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct State {
    running: bool,
    exit_code: f64,
}

/// All containers of an engine.
#[derive(Default)]
pub struct Engine {
    /// What is known, by id.
    pub known: HashMap<String, Known>,
    /// Where the next collection goes on with details.
    at: usize,
}

fn short(text: &str) -> String {
    text.chars()
        .filter(|c| !c.is_control())
        .take(MAX_TEXT)
        .collect()
}

/// Why the engine brought nothing.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    #[error(transparent)]
    Socket(#[from] SocketError),
    #[error("{}: status {status}", socket.display())]
    Status { socket: PathBuf, status: u16 },
    #[error("{}: the list of containers cannot be read: {source}", socket.display())]
    Answer {
        socket: PathBuf,
        source: serde_json::Error,
    },
}

impl Engine {
    /// Asks anew, within a time. What was known stands when the engine does not answer.
    pub async fn ask(&mut self, socket: &Path, timeout: Duration) -> Result<(), EngineError> {
        let deadline = Instant::now() + timeout;
        let (status, body) =
            get_by_socket(socket, "/containers/json?all=1", timeout, MAX_LIST).await?;
        if status != 200 {
            let socket = socket.to_owned();
            return Err(EngineError::Status { socket, status });
        }
        let wrong = |source| EngineError::Answer {
            socket: socket.to_owned(),
            source,
        };
        let listed: Vec<Listed> = serde_json::from_slice(&body).map_err(wrong)?;
        let mut known = HashMap::new();
        for one in listed.into_iter().filter(|one| !one.id.is_empty()) {
            let label = |name: &str| {
                one.labels
                    .as_ref()
                    .and_then(|labels| labels.get(name))
                    .map(|text| short(text))
                    .unwrap_or_default()
            };
            let name = one
                .names
                .iter()
                .flatten()
                .next()
                .map(|name| short(name.trim_start_matches('/')))
                .unwrap_or_default();
            let old = self.known.remove(&one.id).unwrap_or_default();
            let is_healthy = match () {
                () if one.status.contains("(healthy)") => Some(true),
                () if one.status.contains("(unhealthy)") => Some(false),
                () => None,
            };
            let new = Known {
                name,
                image: short(&one.image),
                project: label("com.docker.compose.project"),
                service: label("com.docker.compose.service"),
                state: short(&one.state.to_lowercase()),
                is_healthy,
                ..old
            };
            known.insert(one.id, new);
        }
        self.known = known;
        self.ask_details(socket, deadline).await;
        Ok(())
    }

    /// Restarts and exit statuses, of some containers each time. Those that vanish meanwhile are
    /// passed over.
    async fn ask_details(&mut self, socket: &Path, deadline: Instant) {
        let mut ids: Vec<String> = self.known.keys().cloned().collect();
        ids.sort();
        for step in 0..ids.len().min(DETAILS) {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            let id = &ids[(self.at + step) % ids.len()];
            // An id stands in a path: nothing but what ids are made of.
            if !id.bytes().all(|b| b.is_ascii_alphanumeric()) {
                continue;
            }
            let Ok((200, body)) =
                get_by_socket(socket, &format!("/containers/{id}/json"), left, MAX_ONE).await
            else {
                continue;
            };
            let Ok(details) = serde_json::from_slice::<Details>(&body) else {
                continue;
            };
            if let Some(known) = self.known.get_mut(id) {
                known.restarts = Some(details.restart_count);
                known.exit_code = (!details.state.running).then_some(details.state.exit_code);
            }
        }
        self.at = (self.at + DETAILS) % ids.len().max(1);
    }
}
