//! Real servers, and fakes of what cannot be had, each on a loopback port of its own. Every one is
//! stopped when its value is dropped.

pub mod bus;
pub mod chroma;
pub mod dns;
pub mod engine;
pub mod grpc;
pub mod hostile;
pub mod http;
pub mod http_sink;
pub mod litellm;
pub mod llm;
pub mod mariadb;
pub mod nightbell;
pub mod page;
pub mod postgres;
pub mod protobuf;
pub mod redis;
pub mod smtp;
pub mod vectors;
pub mod victoria;

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::Child;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// A loopback port that nobody listens on, given out once.
///
/// It comes from below the range from which the kernel picks ports for connections and for
/// `bind(0)`: until the server that gets it listens, no neighbouring test can be handed the same
/// one.
pub fn free_port() -> u16 {
    const FIRST: u32 = 10_000;
    const COUNT: u32 = 20_000;
    static NEXT: OnceLock<AtomicU32> = OnceLock::new();
    // Two runs at the same time begin far from each other.
    let next =
        NEXT.get_or_init(|| AtomicU32::new(std::process::id().wrapping_mul(2_654_435_761) % COUNT));
    for _ in 0..COUNT {
        let port = u16::try_from(FIRST + next.fetch_add(1, Ordering::Relaxed) % COUNT)
            .expect("below 65,536");
        if [[0, 0, 0, 0], [127, 0, 0, 1]]
            .iter()
            .all(|address| TcpListener::bind((Ipv4Addr::from(*address), port)).is_ok())
        {
            return port;
        }
    }
    panic!("every port from {FIRST} on is in use");
}

/// A program of the Python environment that `tests/run` makes.
pub fn python_tool(name: &str) -> PathBuf {
    tool_of("venv", name)
}

/// A program of one of the Python environments that `tests/run` makes.
pub fn tool_of(environment: &str, name: &str) -> PathBuf {
    let tools = std::env::var_os("NIGHTBELL_TEST_TOOLS").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/test-tools"),
        PathBuf::from,
    );
    let path = tools.join(environment).join("bin").join(name);
    assert!(
        path.exists(),
        "{} is missing: run `tests/run` once, it installs what the tests need",
        path.display()
    );
    path
}

/// How long an event is waited for at least: a busy machine makes a test slow, never red.
const PATIENCE: Duration = Duration::from_secs(90);

/// Polls until `ready` or fails after `limit`, or after [`PATIENCE`] where that is longer.
pub fn wait_until(what: &str, limit: Duration, mut ready: impl FnMut() -> bool) {
    let (start, limit) = (Instant::now(), limit.max(PATIENCE));
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

/// Makes an SQLite database by these statements.
pub fn sqlite(path: &std::path::Path, statements: &str) {
    let made = std::process::Command::new(python_tool("python"))
        .args([
            "-c",
            "import sqlite3, sys; sqlite3.connect(sys.argv[1]).executescript(sys.argv[2])",
        ])
        .arg(path)
        .arg(statements)
        .status()
        .expect("Python starts");
    assert!(made.success(), "{statements}");
}
