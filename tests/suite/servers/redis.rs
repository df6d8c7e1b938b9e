//! A real Redis server, with TLS on a second port when asked for.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use super::{Server, free_port, wait_until};

pub struct Redis {
    pub port: u16,
    pub tls_port: Option<u16>,
    folder: TempDir,
    options: Vec<String>,
    server: Option<Server>,
}

impl Redis {
    /// Starts a server with these options (`--name value`).
    pub fn start(options: &[&str]) -> Self {
        let options = options.iter().map(|o| (*o).to_owned()).collect();
        let mut redis = Redis {
            port: free_port(),
            tls_port: None,
            folder: tempfile::tempdir().expect("a folder"),
            options,
            server: None,
        };
        redis.resume();
        redis
    }

    /// Starts a sentinel that watches `primary` under the name `main`.
    pub fn start_sentinel(primary: &Redis) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("sentinel.conf");
        std::fs::write(
            &file,
            format!("sentinel monitor main 127.0.0.1 {} 1\n", primary.port),
        )
        .expect("written");
        let mut redis = Redis {
            port: free_port(),
            tls_port: None,
            folder,
            options: vec![file.display().to_string(), "--sentinel".into()],
            server: None,
        };
        redis.resume();
        redis
    }

    /// Starts a server that also listens with TLS; its certificate is signed by itself and names
    /// `localhost`.
    pub fn start_with_tls() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let (cert, key) = (
            folder.path().join("cert.pem"),
            folder.path().join("key.pem"),
        );
        let made = Command::new("openssl")
            .args([
                "req",
                "-x509",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:prime256v1",
                "-nodes",
                "-days",
                "2",
            ])
            .args([
                "-subj",
                "/CN=localhost",
                "-addext",
                "subjectAltName=DNS:localhost",
                "-addext",
                "basicConstraints=critical,CA:FALSE",
                "-keyout",
            ])
            .arg(&key)
            .arg("-out")
            .arg(&cert)
            .output()
            .expect("openssl runs: apt-get install openssl");
        assert!(
            made.status.success(),
            "openssl: {}",
            String::from_utf8_lossy(&made.stderr)
        );
        let tls_port = free_port();
        let paths = [&cert, &key].map(|p| p.display().to_string());
        let options = [
            "--tls-port",
            &tls_port.to_string(),
            "--tls-auth-clients",
            "no",
            "--tls-cert-file",
            &paths[0],
            "--tls-key-file",
            &paths[1],
        ];
        let options = options.iter().map(|o| (*o).to_owned()).collect();
        let mut redis = Redis {
            port: free_port(),
            tls_port: Some(tls_port),
            folder,
            options,
            server: None,
        };
        redis.resume();
        redis
    }

    /// Path of the TLS certificate.
    pub fn certificate(&self) -> PathBuf {
        self.folder.path().join("cert.pem")
    }

    /// Starts it again on the same port.
    pub fn resume(&mut self) {
        let child = Command::new("redis-server")
            // A configuration file, if there is one, comes first.
            .args(self.options.iter().filter(|o| o.ends_with(".conf")))
            .args([
                "--port",
                &self.port.to_string(),
                "--bind",
                "127.0.0.1",
                "--save",
                "",
                "--dir",
            ])
            .arg(self.folder.path())
            .args(self.options.iter().filter(|o| !o.ends_with(".conf")))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("redis-server starts: apt-get install redis-server");
        self.server = Some(Server(child));
        wait_until("Redis answers", Duration::from_secs(20), || {
            self.try_cli(&["PING"])
                .is_some_and(|answer| answer.contains("PONG"))
        });
    }

    /// Kills it.
    pub fn stop(&mut self) {
        self.server = None;
    }

    fn try_cli(&self, words: &[&str]) -> Option<String> {
        let output = Command::new("redis-cli")
            .args(["-p", &self.port.to_string()])
            .args(words)
            .output()
            .expect("redis-cli runs");
        output.status.success().then(|| {
            String::from_utf8_lossy(&output.stdout)
                .trim_end()
                .to_owned()
        })
    }

    /// Runs a command through redis-cli.
    pub fn cli(&self, words: &[&str]) -> String {
        self.try_cli(words)
            .unwrap_or_else(|| panic!("redis-cli {words:?} fails"))
    }

    /// A client that waits for an element of this list.
    pub fn blocked(&self, list: &str) -> Server {
        let client = Command::new("redis-cli")
            .args(["-p", &self.port.to_string(), "BLPOP", list, "0"])
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-cli runs");
        wait_until("a client waits", Duration::from_secs(20), || {
            self.info("blocked_clients") == "1"
        });
        Server(client)
    }

    /// One field of INFO, as redis-cli reads it.
    pub fn info(&self, field: &str) -> String {
        let all = self.cli(&["INFO", "ALL"]);
        let value = all.lines().find_map(|line| {
            line.trim_end()
                .split_once(':')
                .filter(|(name, _)| *name == field)
        });
        value.unwrap_or_else(|| panic!("no {field}")).1.to_owned()
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }
}
