//! Real servers, and fakes of what cannot be had, each on a loopback port of its own. Every one is stopped when its value is dropped.

pub mod chroma;
pub mod hostile;
pub mod http;
pub mod http_sink;
pub mod litellm;
pub mod llm;
pub mod nightbell;
pub mod page;
pub mod postgres;
pub mod protobuf;
pub mod redis;
pub mod smtp;

use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::Child;
use std::time::{Duration, Instant};

/// A loopback port that was free a moment ago.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a loopback port");
    listener.local_addr().expect("its address").port()
}

/// A program of the Python environment that `tests/run` makes.
pub fn python_tool(name: &str) -> PathBuf {
    tool_of("venv", name)
}

/// A program of one of the Python environments that `tests/run` makes.
pub fn tool_of(environment: &str, name: &str) -> PathBuf {
    let tools = std::env::var_os("NIGHTBELL_TEST_TOOLS")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/test-tools"), PathBuf::from);
    let path = tools.join(environment).join("bin").join(name);
    assert!(path.exists(), "{} is missing: run `tests/run` once, it installs what the tests need", path.display());
    path
}

/// Polls until `ready` or fails after `limit`.
pub fn wait_until(what: &str, limit: Duration, mut ready: impl FnMut() -> bool) {
    let start = Instant::now();
    while !ready() {
        assert!(start.elapsed() < limit, "{what}: not within {limit:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Whether something listens on a loopback port.
pub fn listens(port: u16) -> bool {
    TcpStream::connect_timeout(&([127, 0, 0, 1], port).into(), Duration::from_millis(200)).is_ok()
}

/// A child process that is killed on drop.
pub struct Server(pub Child);

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing left to kill.
        if self.0.kill().is_ok() {
            drop(self.0.wait());
        }
    }
}
