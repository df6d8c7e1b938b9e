//! `nightbell init` with the built binary: a root with a known set of things, real servers, a
//! terminal, a hostile file system.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use crate::servers::free_port;
use crate::servers::page::serve_page;
use crate::servers::postgres::Postgres;
use crate::servers::redis::Redis;

/// Exit status, and everything that is said.
fn nightbell(folder: &Path, arguments: &[&str]) -> (i32, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_nightbell"));
    command
        .args(arguments)
        .current_dir(folder)
        .stdin(Stdio::null())
        .env("HOME", folder.join("home"));
    for name in [
        "DATABASE_URL",
        "REDIS_URL",
        "CHROMA_URL",
        "OPENAI_API_KEY",
        "LLM_PROVIDER",
        "STATE_DIRECTORY",
        "XDG_STATE_HOME",
    ] {
        command.env_remove(name);
    }
    let output = command.output().expect("it runs");
    let text = [output.stdout, output.stderr].concat();
    (
        output.status.code().expect("it exits"),
        String::from_utf8(text).expect("UTF-8"),
    )
}

fn write(root: &Path, path: &str, content: impl AsRef<[u8]>) {
    let path = root.join(path.trim_start_matches('/'));
    fs::create_dir_all(path.parent().expect("a folder")).expect("made");
    fs::write(path, content).expect("written");
}

/// A process that listens, as the kernel shows it.
fn process(root: &Path, pid: u32, comm: &str, line: &str, folder: &str, port: u16) {
    write(root, &format!("/proc/{pid}/comm"), format!("{comm}\n"));
    write(
        root,
        &format!("/proc/{pid}/cmdline"),
        line.replace(' ', "\0"),
    );
    let of = root.join(format!("proc/{pid}"));
    symlink(folder, of.join("cwd")).expect("linked");
    fs::create_dir_all(of.join("fd")).expect("made");
    symlink(format!("socket:[{}]", 1000 + pid), of.join("fd/3")).expect("linked");
    let table = root.join("proc/net/tcp");
    if !table.exists() {
        write(
            root,
            "/proc/net/tcp",
            "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n",
        );
    }
    let line = format!(
        "   0: 0100007F:{port:04X} 00000000:0000 0A 00000000:00000000 00:00000000 00000000  0  0 {} 1\n",
        1000 + pid
    );
    fs::OpenOptions::new()
        .append(true)
        .open(table)
        .expect("the table")
        .write_all(line.as_bytes())
        .expect("written");
}

fn aged(root: &Path, path: &str, days: u64) {
    write(root, path, "x");
    let file = fs::OpenOptions::new()
        .write(true)
        .open(root.join(path.trim_start_matches('/')))
        .expect("there");
    file.set_modified(SystemTime::now() - Duration::from_secs(days * 86_400))
        .expect("set");
}

/// A machine with one of each, and what is written for it.
#[test]
fn what_is_there_is_found_written_and_valid() {
    let folder = tempfile::tempdir().expect("a folder");
    let root = folder.path().join("root");
    process(
        &root,
        70,
        "postgres",
        "/usr/lib/postgresql/15/bin/postgres -D /data",
        "/",
        5432,
    );
    process(
        &root,
        71,
        "redis-server",
        "redis-server 127.0.0.1:6379",
        "/",
        6379,
    );
    process(
        &root,
        72,
        "uvicorn",
        "/usr/bin/python3 -m uvicorn main:app --api-key hunter2-argument",
        "/srv/shop",
        8000,
    );
    process(&root, 73, "sshd", "sshd: /usr/sbin/sshd -D", "/", 22);
    process(
        &root,
        74,
        "chroma",
        "/opt/venv/bin/python /opt/venv/bin/chroma run --path /data",
        "/",
        8001,
    );
    process(
        &root,
        75,
        "docker-proxy",
        "/usr/bin/docker-proxy -host-port 3306",
        "/",
        3306,
    );
    write(&root, "/proc/75/cgroup", "0::/system.slice/docker.service");
    write(&root, "/proc/72/cgroup", "0::/system.slice/shop.service");
    write(
        &root,
        "/srv/shop/.env",
        "OPENAI_API_KEY=sk-hunter2\nexport REDIS_URL=\"redis://:hunter2@localhost:6379/0\"\nOTHER=hunter2\n# DATABASE_URL=x\n",
    );
    write(
        &root,
        "/srv/shop/.env.example",
        "DATABASE_URL=postgres://localhost/x\n",
    );
    write(
        &root,
        "/srv/shop/logs/app.log",
        "{\"level\": \"error\", \"message\": \"hunter2\"}\n",
    );
    write(&root, "/srv/shop/node_modules/a/b.log", "no\n");
    write(
        &root,
        "/srv/shop/data/sessions.db",
        b"SQLite format 3\0more",
    );
    write(&root, "/srv/shop/data/other.db", "none");
    write(
        &root,
        "/srv/shop/chroma/chroma.sqlite3",
        b"SQLite format 3\0more",
    );
    write(
        &root,
        "/var/log/nginx/access.log",
        "1.2.3.4 - - [30/Nov/2026:12:00:00 +0000] \"GET / HTTP/1.1\" 200 1 \"-\" \"-\"\n",
    );
    write(&root, "/var/log/auth.log", "x\n");
    write(&root, "/var/log/syslog.log", "x\n");
    write(&root, "/var/log/worker/worker.log", "INFO x\n");
    for day in 0..4 {
        aged(&root, &format!("/backup/shop/db_2026113{day}.sql.gz"), day);
    }
    aged(&root, "/backup/old/a.dump", 400);
    write(
        &root,
        "/etc/systemd/system/shop.service",
        "[Service]\nWorkingDirectory=/srv/shop\nEnvironmentFile=-/etc/shop.conf\n",
    );
    write(&root, "/etc/shop.conf", "DASHSCOPE_API_KEY=sk-hunter2\n");
    write(&root, "/run/systemd/system/x", "");
    write(&root, "/run/dbus/system_bus_socket", "");
    write(&root, "/run/docker.sock", "");
    write(
        &root,
        "/etc/crontab",
        "17 * * * * root cd / && run-parts --report /etc/cron.hourly\n0 2 * * * root /srv/shop/full_backup.sh --password hunter2\n",
    );
    write(
        &root,
        "/var/spool/cron/crontabs/shop",
        "@hourly python3 /srv/shop/learn.py hunter2\n",
    );

    let root_text = root.display().to_string();
    let (status, said) = nightbell(
        folder.path(),
        &[
            "init",
            "--root",
            &root_text,
            "--yes",
            "--no-connect",
            "--profile",
            "intent",
        ],
    );
    assert_eq!(status, 0, "{said}");
    let file = folder.path().join("nightbell.yml");
    let text = fs::read_to_string(&file).expect("written");
    assert_eq!(
        file.metadata().expect("there").permissions().mode() & 0o777,
        0o600
    );
    assert!(
        !said.contains("hunter2") && !text.contains("hunter2"),
        "no value and no argument: {said}\n{text}"
    );
    for part in [
        "- {name: \"postgres-5432\", dsn: \"postgres://nightbell@127.0.0.1:5432/postgres\"}",
        "# PostgreSQL on 127.0.0.1:5432: process 70 (postgres) listens on port 5432; the name of its program",
        "- {name: \"mysql-3306\", dsn: ",
        "the usual port of that",
        "- {name: \"chroma-8001\", url: \"http://127.0.0.1:8001\"}",
        "- {name: \"main-8000\", cmdline: \"python3.*main\"}",
        "    ports: [8000]",
        "    enable: [systemd]",
        "- {name: \"app\", path: \"/srv/shop/logs/app.log\", format: json}",
        "- {name: \"worker-worker\", path: \"/var/log/worker/worker.log\"}",
        "- {name: \"nginx-access\", path: \"/var/log/nginx/access.log\", format: combined}",
        "- {name: \"logins\", path: \"/var/log/auth.log\", format: auth}",
        "path: \"/srv/shop/data/sessions.db\"}",
        "path: \"/srv/shop/chroma/chroma.sqlite3\"}",
        "files: \"/backup/shop/db_*.sql.gz\", every: 1d}",
        "# /srv/shop/.env names OPENAI_API_KEY, REDIS_URL; start with --env-file /srv/shop/.env",
        "# /etc/shop.conf names DASHSCOPE_API_KEY",
        "# job: [{name: full_backup, schedule: \"0 2 * * *\", timezone: Local}]",
        "# job: [{name: learn, schedule: \"@hourly\", timezone: Local}]",
        "- {name: \"container\"}",
        "# socket: /run/docker.sock adds names",
        "  profiles: [intent]",
        "watch_environment: true",
    ] {
        assert!(text.contains(part), "{part} is missing in:\n{text}");
    }
    for part in [
        "other.db",
        "node_modules",
        "/backup/old",
        "run-parts",
        "syslog",
        "env.example",
        "sshd",
        "redis-6379",
    ] {
        assert!(!text.contains(part), "{part} is in:\n{text}");
    }
    assert!(
        said.contains("because process 70 (postgres) listens on port 5432"),
        "{said}"
    );
    let env_file = root.join("srv/shop/.env").display().to_string();
    assert!(
        said.contains(&format!(
            "nightbell check config --env-file {env_file} --connect nightbell.yml"
        )),
        "{said}"
    );
    for arguments in [
        &["check", "config", "nightbell.yml"][..],
        &["check", "config", "--env-file", &env_file, "nightbell.yml"],
    ] {
        let (status, said) = nightbell(folder.path(), arguments);
        assert!(
            status == 0 && said.contains("is a valid configuration"),
            "{said}"
        );
    }

    // What is there stays, unless somebody wants it replaced.
    fs::write(&file, "mine").expect("written");
    let (status, said) = nightbell(folder.path(), &["init", "--root", &root_text, "--yes"]);
    assert!(
        status == 1 && said.contains("--force") && fs::read(&file).expect("there") == b"mine",
        "{said}"
    );
    let (status, said) = nightbell(
        folder.path(),
        &["init", "--root", &root_text, "--yes", "--force"],
    );
    assert!(
        status == 0
            && fs::read_to_string(&file)
                .expect("there")
                .contains("watch_environment"),
        "{said}"
    );
    let (status, said) = nightbell(
        folder.path(),
        &[
            "init",
            "--root",
            &root_text,
            "--yes",
            "--profile",
            "nosuch",
            "-o",
            "b.yml",
        ],
    );
    assert!(
        status == 1
            && said.contains("\"nosuch\" is not known; there is ")
            && !folder.path().join("b.yml").exists(),
        "{said}"
    );
    let (status, said) = nightbell(
        folder.path(),
        &["init", "--root", &root_text, "-o", "c.yml"],
    );
    assert!(
        status == 1
            && said.contains("give --yes")
            && said.contains("PostgreSQL on")
            && !folder.path().join("c.yml").exists(),
        "{said}"
    );
}

/// Servers that really run: what is written for them answers.
#[tokio::test(flavor = "multi_thread")]
async fn the_targets_that_are_written_answer() {
    let postgres = Postgres::start(&[]);
    postgres.sql(
        "postgres",
        "CREATE ROLE nightbell LOGIN; GRANT pg_monitor TO nightbell",
    );
    let redis = Redis::start(&[]);
    let other = Postgres::start(&[]);
    let page = serve_page("# TYPE up_here gauge\nup_here 1\n");
    let folder = tempfile::tempdir().expect("a folder");
    let root = folder.path().join("root");
    process(&root, 70, "postgres", "postgres", "/", postgres.port);
    process(&root, 71, "redis-server", "redis-server", "/", redis.port);
    // One that a variable leads to is watched by it alone.
    process(&root, 72, "postgres", "postgres", "/", other.port);
    // An application, by what it answers.
    process(&root, 73, "app", "/srv/app/bin/app serve", "/srv/app", page);
    write(
        &root,
        "/srv/app/.env",
        format!("DATABASE_URL={}\n", other.dsn("postgres", "postgres")),
    );
    let (status, said) = nightbell(
        folder.path(),
        &["init", "--root", &root.display().to_string(), "--yes"],
    );
    assert_eq!(status, 0, "{said}");
    let env_file = root.join("srv/app/.env").display().to_string();
    let (status, said) = nightbell(
        folder.path(),
        &[
            "check",
            "config",
            "--env-file",
            &env_file,
            "--connect",
            "nightbell.yml",
        ],
    );
    assert_eq!(status, 0, "{said}");
    for target in [
        format!("postgres-{}", postgres.port),
        format!("redis-{}", redis.port),
        "postgres postgres ".to_owned(),
        format!("app-{page} 127.0.0.1:{page}"),
        format!("http://127.0.0.1:{page}/health"),
    ] {
        assert!(
            said.lines()
                .any(|line| line.contains(&target) && line.contains(" samples in ")),
            "{target}: {said}"
        );
    }
    assert!(
        !said.contains(&format!("postgres-{}", other.port)),
        "{said}"
    );
}

/// The machine that this runs on, whatever else it has: a server of this test is found, and what is
/// written is valid. The servers of other tests are asked nothing.
#[tokio::test(flavor = "multi_thread")]
async fn this_machine_is_looked_at_as_it_is() {
    let redis = Redis::start(&[]);
    let folder = tempfile::tempdir().expect("a folder");
    let (status, said) = nightbell(folder.path(), &["init", "--yes", "--no-connect"]);
    assert_eq!(status, 0, "{said}");
    assert!(
        said.contains(&format!("Redis on 127.0.0.1:{}", redis.port)),
        "{said}"
    );
    let (status, said) = nightbell(folder.path(), &["check", "config", "nightbell.yml"]);
    assert!(
        status == 0 && said.contains("is a valid configuration"),
        "{said}"
    );
}

/// On a terminal each thing is asked about; what is declined is not written.
#[test]
fn on_a_terminal_each_thing_is_asked_about() {
    let folder = tempfile::tempdir().expect("a folder");
    let root = folder.path().join("root");
    process(&root, 70, "postgres", "postgres", "/", free_port());
    process(&root, 71, "redis-server", "redis-server", "/", free_port());
    write(&root, "/srv/app/data/a.db", b"SQLite format 3\0more");
    let asked = |answers: &str, output: &str| {
        let line = format!(
            "{} init --root {} -o {output}",
            env!("CARGO_BIN_EXE_nightbell"),
            root.display()
        );
        let mut command = Command::new("script");
        command
            .args(["-qec", &line, "/dev/null"])
            .current_dir(folder.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut child = command
            .spawn()
            .expect("script runs: apt-get install bsdutils");
        child
            .stdin
            .take()
            .expect("its input")
            .write_all(answers.as_bytes())
            .expect("written");
        let output = child.wait_with_output().expect("it ends");
        (
            output.status.code(),
            String::from_utf8_lossy(&output.stdout).into_owned(),
        )
    };
    let (status, said) = asked("n\ny\n\n", "a.yml");
    assert_eq!(status, Some(0), "{said}");
    assert!(said.contains("take it in?"), "{said}");
    let text = fs::read_to_string(folder.path().join("a.yml")).expect("written");
    // What does not answer is a comment.
    let kinds = ["postgres:\n", "redis:\n", "sqlite:\n"].map(|kind| text.contains(kind));
    assert_eq!(kinds.iter().filter(|is| **is).count(), 2, "{text}");
    let (status, said) = asked("y\nq\n", "b.yml");
    assert!(
        status == Some(1)
            && said.contains("nothing was written")
            && !folder.path().join("b.yml").exists(),
        "{said}"
    );
}

/// Pipes, circles, depths, many files, names that are none, lines without end: it ends, within
/// bounds, with what it could see.
#[test]
fn a_hostile_file_system_is_looked_at_within_bounds() {
    let folder = tempfile::tempdir().expect("a folder");
    let root = folder.path().join("root");
    write(&root, "/srv/app/x\n  evil: true\n.log", "x\n");
    write(&root, "/srv/app/${HOME}.log", "x\n");
    write(&root, "/srv/app/\u{1b}[31m.log", "x\n");
    write(&root, "/srv/app/on.log", "x\n");
    write(
        &root,
        "/srv/app/long/.env",
        "A=".to_owned() + &"x".repeat(3 << 20),
    );
    symlink("/", root.join("srv/app/circle")).expect("linked");
    symlink("/dev/zero", root.join("srv/app/endless.log")).expect("linked");
    let made = Command::new("mkfifo")
        .args([root.join("srv/app/.env"), root.join("srv/app/pipe.log")])
        .status()
        .expect("mkfifo runs");
    assert!(made.success());
    let deep = root.join("srv").join(vec!["deep"; 200].join("/"));
    fs::create_dir_all(&deep).expect("made");
    fs::write(deep.join("deep.log"), "x").expect("written");
    fs::create_dir_all(root.join("srv/many")).expect("made");
    (0..2000)
        .for_each(|n| fs::write(root.join(format!("srv/many/{n}.log")), "x").expect("written"));
    use std::os::unix::ffi::OsStrExt as _;
    fs::write(
        root.join("srv")
            .join(std::ffi::OsStr::from_bytes(b"\xff\xfe.log")),
        "x",
    )
    .expect("written");
    write(&root, "/proc/net/tcp", "garbage\n 0: zz:yy\n");
    write(&root, "/proc/7/comm", "x");
    write(
        &root,
        "/etc/crontab",
        "* * * * * root \n".repeat(10_000) + &"9".repeat(1 << 20),
    );
    let (status, said) = nightbell(
        folder.path(),
        &["init", "--root", &root.display().to_string(), "--yes"],
    );
    assert_eq!(status, 0, "{said}");
    let text = fs::read_to_string(folder.path().join("nightbell.yml")).expect("written");
    assert!(
        text.matches("log_file").count() == 1 && text.matches("    - {name").count() == 0,
        "{text}"
    );
    assert!(
        text.matches(".log\"}").count() <= 20
            && !text.contains("deep.log")
            && !text.contains("endless")
            && !text.contains("pipe"),
        "{text}"
    );
    assert!(
        !text.contains('\u{1b}')
            && !said.contains('\u{1b}')
            && !text
                .lines()
                .any(|line| line.trim_start().starts_with("evil")),
        "{text}"
    );
    let (status, said) = nightbell(folder.path(), &["check", "config", "nightbell.yml"]);
    assert!(
        status == 0 && said.contains("is a valid configuration"),
        "{said}"
    );
}
