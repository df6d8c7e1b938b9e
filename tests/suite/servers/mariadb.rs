//! A real MariaDB server with a fresh data folder. It runs as the user of the tests, root included.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use super::{Server, free_port, wait_until};

/// Nothing needs to outlive the machine.
const UNSYNCED: [&str; 5] = [
    "--debug-no-sync",
    "--innodb-flush-method=nosync",
    "--innodb-flush-log-at-trx-commit=0",
    "--skip-innodb-doublewrite",
    "--innodb-log-file-size=5M",
];

pub struct MariaDb {
    pub port: u16,
    folder: TempDir,
    options: Vec<String>,
    server: Option<Server>,
}

impl MariaDb {
    /// Starts a server with these options (`--name=value`).
    pub fn start(options: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let options = options.iter().map(|option| (*option).to_owned()).collect();
        let mut mariadb = MariaDb {
            port: free_port(),
            folder,
            options,
            server: None,
        };
        let mut made = Command::new("mariadb-install-db");
        made.args([
            "--no-defaults",
            "--user=root",
            "--auth-root-authentication-method=normal",
            "--skip-test-db",
            "--skip-name-resolve",
        ]);
        made.args(UNSYNCED);
        // Servers that share a folder for temporary tables remove each other's.
        made.arg(format!("--tmpdir={}", mariadb.folder.path().display()));
        let made = made
            .arg(format!(
                "--datadir={}",
                mariadb.folder.path().join("data").display()
            ))
            .output();
        let made = made.expect("mariadb-install-db runs: apt-get install mariadb-server-core");
        assert!(
            made.status.success(),
            "{}",
            String::from_utf8_lossy(&made.stderr)
        );
        mariadb.resume();
        mariadb
    }

    /// Starts it again on the same port with the same data.
    pub fn resume(&mut self) {
        let path = |name: &str| self.folder.path().join(name).display().to_string();
        let mut command = Command::new("mariadbd");
        command
            .args([
                "--no-defaults",
                "--user=root",
                "--bind-address=127.0.0.1",
                "--skip-name-resolve",
            ])
            .args(UNSYNCED);
        command.args([
            format!("--port={}", self.port),
            format!("--socket={}", path("s")),
            format!("--datadir={}", path("data")),
        ]);
        command.arg(format!("--tmpdir={}", self.folder.path().display()));
        command
            .arg(format!("--pid-file={}", path("pid")))
            .args(&self.options)
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        self.server =
            Some(Server(command.spawn().expect(
                "mariadbd starts: apt-get install mariadb-server-core",
            )));
        wait_until("MariaDB answers", Duration::from_secs(30), || {
            self.try_sql("SELECT 1").is_ok()
        });
    }

    /// Stops it at once.
    pub fn stop(&mut self) {
        self.server = None;
    }

    /// Its process.
    pub fn process(&self) -> u32 {
        self.server.as_ref().expect("it runs").0.id()
    }

    /// Its socket.
    pub fn socket(&self) -> std::path::PathBuf {
        Path::join(self.folder.path(), "s")
    }

    /// Runs SQL as root; the answer is its text, errs with what the server says.
    pub fn try_sql(&self, sql: &str) -> Result<String, String> {
        let mut client = Command::new("mariadb");
        client.args([
            "--no-defaults",
            "-h",
            "127.0.0.1",
            "-P",
            &self.port.to_string(),
            "-u",
            "root",
            "-BN",
            "-e",
            sql,
        ]);
        let output = client
            .output()
            .expect("mariadb runs: apt-get install mariadb-client-core");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
        if output.status.success() {
            Ok(text(&output.stdout))
        } else {
            Err(text(&output.stderr))
        }
    }

    /// As [`MariaDb::try_sql`], for what must succeed.
    pub fn sql(&self, sql: &str) -> String {
        self.try_sql(sql)
            .unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    /// A DSN for a user without a password.
    pub fn dsn(&self, user: &str, database: &str) -> String {
        format!("mysql://{user}@127.0.0.1:{}/{database}", self.port)
    }
}
