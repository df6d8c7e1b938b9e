//! A real SMTP server: aiosmtpd, run by `smtp.py`, which parses each mail with Python's email
//! package.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use super::{Server, python_tool};

/// Listens until it is dropped.
pub struct Smtp {
    pub port: u16,
    lines: Receiver<String>,
    _server: Server,
}

impl Smtp {
    /// Starts it with the options that `smtp.py` documents.
    pub fn start(options: &Value) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/suite/servers/smtp.py");
        let mut child = Command::new(python_tool("python"))
            .arg(script)
            .arg(options.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("Python starts");
        let output = BufReader::new(child.stdout.take().expect("it is piped"));
        let (send, lines) = channel();
        thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                if send.send(line).is_err() {
                    break;
                }
            }
        });
        let server = Server(child);
        let port = lines
            .recv_timeout(Duration::from_secs(90))
            .expect("aiosmtpd starts; is it installed? `tests/run` does that");
        Smtp {
            port: port.parse().expect("a port"),
            lines,
            _server: server,
        }
    }

    /// The next mail it took.
    pub fn mail(&self) -> Value {
        let line = self
            .lines
            .recv_timeout(Duration::from_secs(90))
            .expect("a mail within 10 s");
        serde_json::from_str(&line).expect("JSON")
    }

    /// The next mail that is there already.
    pub fn next(&self) -> Option<Value> {
        self.lines
            .try_recv()
            .ok()
            .map(|line| serde_json::from_str(&line).expect("JSON"))
    }

    /// Whether another mail is there already.
    pub fn has_mail(&self) -> bool {
        self.lines.try_recv().is_ok()
    }
}

/// A certificate for `localhost` and 127.0.0.1, made by the openssl program in `folder`; it is its
/// own root.
pub struct Certificate {
    pub cert: PathBuf,
    pub key: PathBuf,
}

impl Certificate {
    pub fn make(folder: &Path) -> Self {
        Certificate::with(folder, "CA:FALSE")
    }

    /// One that says that it is an authority.
    pub fn authority(folder: &Path) -> Self {
        Certificate::with(folder, "CA:TRUE")
    }

    fn with(folder: &Path, role: &str) -> Self {
        let (cert, key, config) = (
            folder.join("cert.pem"),
            folder.join("key.pem"),
            folder.join("openssl.cnf"),
        );
        let text = format!(
            "[req]\ndistinguished_name=name\nx509_extensions=ext\nprompt=no\n[name]\nCN=localhost\n\
             [ext]\nbasicConstraints=critical,{role}\nsubjectAltName=DNS:localhost,IP:127.0.0.1\n"
        );
        std::fs::write(&config, text).expect("the folder is ours");
        let run = Command::new("openssl")
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
                "-config",
            ])
            .args([
                config.as_os_str(),
                "-keyout".as_ref(),
                key.as_os_str(),
                "-out".as_ref(),
                cert.as_os_str(),
            ])
            .output()
            .expect("openssl is installed (Debian package openssl)");
        assert!(
            run.status.success(),
            "openssl: {}",
            String::from_utf8_lossy(&run.stderr)
        );
        Certificate { cert, key }
    }

    /// The options of `smtp.py` that use it.
    pub fn options(&self, mode: &str) -> Value {
        json!({"cert": self.cert, "key": self.key, mode: true})
    }
}
