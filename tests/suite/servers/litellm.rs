//! A real LiteLLM proxy with mock models: real server-sent events, real authentication.

use std::process::{Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use super::{Server, free_port, listens, python_tool, wait_until};

pub struct LiteLlm {
    pub port: u16,
    pub key: String,
    _folder: TempDir,
    _server: Server,
}

impl LiteLlm {
    pub fn start() -> Self {
        Self::start_so("")
    }

    /// With a page of metrics.
    pub fn start_with_metrics() -> Self {
        Self::start_so(", callbacks: [prometheus]")
    }

    fn start_so(settings: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let config = folder.path().join("litellm.yml");
        let model = |name: &str, extra: &str| {
            format!(
                "  - model_name: {name}\n    litellm_params: {{model: openai/{name}, api_key: none, {extra}}}\n"
            )
        };
        let text = format!(
            "model_list:\n{}{}{}litellm_settings: {{num_retries: 0{settings}}}\n",
            model("mock-fast", "mock_response: 'ding dong, the bell rings'"),
            model("mock-slow", "mock_response: 'late answer', mock_delay: 0.5"),
            model("mock-limited", "mock_response: 'litellm.RateLimitError'"),
        );
        std::fs::write(&config, text).expect("written");
        let (port, key) = (
            free_port(),
            format!("sk-{:032x}{:08x}", std::process::id(), 0x7f3a_91c5_u32),
        );
        let child = Command::new(python_tool("litellm"))
            .args([
                "--host",
                "127.0.0.1",
                "--port",
                &port.to_string(),
                "--config",
            ])
            .arg(&config)
            .current_dir(folder.path())
            .envs([
                ("LITELLM_LOCAL_MODEL_COST_MAP", "True"),
                ("LITELLM_TELEMETRY", "False"),
                ("LITELLM_MASTER_KEY", key.as_str()),
            ])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("litellm starts");
        let server = Server(child);
        wait_until("LiteLLM listens", Duration::from_secs(90), || listens(port));
        LiteLlm {
            port,
            key,
            _folder: folder,
            _server: server,
        }
    }

    pub fn base_url(&self) -> String {
        format!("http://127.0.0.1:{}/v1", self.port)
    }
}
