//! A real message bus on a socket of its own, on which a stand-in for systemd may answer: no
//! systemd runs in a container.

use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use super::{Server, wait_until};

pub struct Bus {
    folder: tempfile::TempDir,
    _daemon: Server,
    systemd: Option<Server>,
}

impl Bus {
    /// Starts dbus-daemon.
    pub fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let socket = folder.path().join("bus");
        let config = format!(
            "<busconfig><type>system</type><listen>unix:path={}</listen><auth>EXTERNAL</auth><policy context=\"default\">\
             <allow send_destination=\"*\"/><allow receive_sender=\"*\"/><allow own=\"*\"/><allow user=\"*\"/></policy></busconfig>",
            socket.display()
        );
        std::fs::write(folder.path().join("bus.conf"), config).expect("written");
        let mut command = Command::new("dbus-daemon");
        command
            .arg("--nofork")
            .arg(format!(
                "--config-file={}",
                folder.path().join("bus.conf").display()
            ))
            .stdout(Stdio::null());
        let daemon = Server(
            command
                .spawn()
                .expect("dbus-daemon starts: apt-get install dbus-daemon"),
        );
        wait_until("the bus listens", Duration::from_secs(20), || {
            std::os::unix::net::UnixStream::connect(&socket).is_ok()
        });
        Bus {
            folder,
            _daemon: daemon,
            systemd: None,
        }
    }

    /// Lets systemd answer on it: what it says is described in `tests/tools/systemd_on_bus.py`.
    pub fn with_systemd(mut self, described: &str) -> Self {
        let described_in = self.folder.path().join("units.json");
        std::fs::write(&described_in, described).expect("written");
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/tools/systemd_on_bus.py");
        let mut command = Command::new("python3");
        let mut child = command
            .arg(script)
            .arg(self.socket())
            .arg(described_in)
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3 runs");
        let mut ready = String::new();
        BufReader::new(child.stdout.take().expect("piped"))
            .read_line(&mut ready)
            .expect("a line");
        assert_eq!(ready, "ready\n");
        self.systemd = Some(Server(child));
        self
    }

    /// Its socket.
    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("bus")
    }
}
