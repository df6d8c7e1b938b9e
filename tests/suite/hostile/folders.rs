//! The state folder: one nightbell to it, and nobody else in it.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::servers::http_sink::{HttpSink, Reply};
use crate::servers::nightbell::Nightbell;
use crate::servers::{free_port, wait_until};

/// The second refuses to start and names the first; what waits for the first stays with it.
#[test]
fn a_second_nightbell_on_a_state_folder_refuses_to_start_and_takes_nothing() {
    let rules = tempfile::tempdir().expect("a folder");
    let file = rules.path().join("rules.yml");
    std::fs::write(
        &file,
        "groups: [{name: g, rules: [{alert: Always, expr: 'vector(1)'}]}]",
    )
    .expect("written");
    let config = |receiver: &str, url: &str| {
        format!(
            "global: {{evaluation_interval: 1s}}\nrules: {{shipped: false}}\nrule_files: ['{}']\n\
             route: {{receiver: {receiver}, group_wait: 0s}}\nreceivers: [{{name: {receiver}, webhook_configs: [{{url: '{url}'}}]}}]\n",
            file.display()
        )
    };
    let mut first = Nightbell::start(&config("w", &format!("http://127.0.0.1:{}/", free_port())));
    wait_until("a message waits", Duration::from_secs(30), || {
        first
            .metric("nightbell_outbox_messages")
            .is_some_and(|waiting| waiting >= 1.0)
    });
    let other = first.folder.path().join("other.yml");
    std::fs::write(&other, config("z", "http://127.0.0.1:9/")).expect("written");
    let output = Command::new(env!("CARGO_BIN_EXE_nightbell"))
        .args([
            "--listen",
            &format!("127.0.0.1:{}", free_port()),
            "--config",
        ])
        .arg(&other)
        .arg("--state-dir")
        .arg(first.folder.path().join("state"))
        .output()
        .expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains(&first.id().to_string())
            && said.contains(&format!("127.0.0.1:{}", first.port)),
        "{said}"
    );
    // The first goes on, and after `kill -9` its message is delivered.
    first.kill();
    let sink = HttpSink::start([Reply::Answer(200, "", "")]);
    first.configure(&config("w", &sink.url));
    first.restart();
    wait_until("the message is delivered", Duration::from_secs(30), || {
        sink.requests()
            .iter()
            .any(|request| request.body.contains("Always"))
    });
}

fn modes(path: &Path, found: &mut Vec<(String, u32)>) {
    let file = path.symlink_metadata().expect("there");
    found.push((path.display().to_string(), file.mode() & 0o7777));
    if file.is_dir() {
        std::fs::read_dir(path)
            .expect("read")
            .flatten()
            .for_each(|entry| modes(&entry.path(), found));
    }
}

/// Whatever the umask, and also what an older version left.
#[test]
fn folders_and_files_are_for_their_owner_alone_whatever_the_umask() {
    for umask in ["0000", "0022", "0777"] {
        let folder = tempfile::tempdir().expect("a folder");
        let state = folder.path().join("a/state");
        let port = free_port();
        let script = format!(
            "umask {umask}; exec \"$0\" --listen 127.0.0.1:{port} --state-dir \"$1\" >/dev/null 2>&1"
        );
        let start = || {
            let child = Command::new("sh")
                .args(["-c", &script, env!("CARGO_BIN_EXE_nightbell")])
                .arg(&state)
                .spawn()
                .expect("it starts");
            let server = crate::servers::Server(child);
            wait_until("it has written its files", Duration::from_secs(30), || {
                state.join("state.db-wal").exists()
                    && state.join("history/wal").is_dir()
                    && crate::servers::listens(port)
            });
            server
        };
        for round in 0..2 {
            let _server = start();
            let check = || {
                let mut found = Vec::new();
                modes(&state, &mut found);
                found
                    .into_iter()
                    .filter(|(path, mode)| {
                        *mode
                            != if Path::new(path).is_dir() {
                                0o700
                            } else {
                                0o600
                            }
                    })
                    .collect::<Vec<_>>()
            };
            // It listens before it looks at what is there.
            wait_until(
                &format!("umask {umask}, round {round}: {:?}", check()),
                Duration::from_secs(30),
                || check().is_empty(),
            );
            drop(_server);
            // As an older version left it.
            std::fs::set_permissions(&state, std::fs::Permissions::from_mode(0o755)).expect("set");
            std::fs::set_permissions(
                state.join("state.db"),
                std::fs::Permissions::from_mode(0o644),
            )
            .expect("set");
        }
    }
}

/// A folder that cannot be used is said in the health, and used once it can be.
#[test]
fn a_state_folder_that_becomes_usable_again_is_used_again() {
    let mut nightbell = Nightbell::start("rules: {shipped: false}\n");
    nightbell.stop();
    let state = nightbell.folder.path().join("state");
    std::fs::remove_dir_all(&state).expect("removed");
    // Root writes everywhere; a file in its place stops everybody.
    std::fs::write(&state, "in the way").expect("written");
    nightbell.restart();
    let (status, health) = nightbell.get("/health");
    assert!(
        status == 503 && health.contains("unhealthy"),
        "{status} {health}"
    );
    std::fs::remove_file(&state).expect("removed");
    wait_until(
        "the database is used again",
        Duration::from_secs(60),
        || state.join("state.db").exists() && nightbell.get("/health").0 == 200,
    );
    wait_until("the metric says so", Duration::from_secs(40), || {
        nightbell.metric("nightbell_state_in_memory") == Some(0.0)
    });
    wait_until("the history is used again", Duration::from_secs(60), || {
        nightbell.metric("nightbell_history_writable") == Some(1.0)
    });
    let mut found = Vec::new();
    modes(&state, &mut found);
    assert!(
        found.iter().any(|(name, _)| name.contains("history/wal")),
        "{found:?}"
    );
    assert!(found.iter().all(|(_, mode)| mode & 0o077 == 0), "{found:?}");
}
