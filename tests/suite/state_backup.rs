//! `nightbell state backup`, `check` and `restore` with the built binary: a running one is saved
//! and brought back with everything it had; what is damaged, cut short, or killed at any instant
//! changes nothing, or everything.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use nightbell::model::Timestamp;
use serde_json::{Value, json};

use crate::alerting::crash::Dice;
use crate::kill::Watch;
use crate::program::encoded;
use crate::servers::Server;
use crate::servers::http_sink::{HttpSink, Reply};
use crate::servers::nightbell::Nightbell;
use crate::servers::wait_until;

fn command(words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_nightbell"));
    command.arg("state").args(words);
    command
}

fn said(output: &Output) -> String {
    let text = [output.stdout.as_slice(), &output.stderr].concat();
    String::from_utf8_lossy(&text).into_owned()
}

/// Runs the command; its text, which must say that it went well.
fn well(words: &[&str]) -> String {
    let output = command(words).output().expect("it runs");
    assert!(output.status.success(), "{words:?}: {}", said(&output));
    said(&output)
}

/// Runs the command, which must be refused; its text.
fn refused(words: &[&str]) -> String {
    let output = command(words).output().expect("it runs");
    assert_eq!(
        output.status.code(),
        Some(1),
        "{words:?}: {}",
        said(&output)
    );
    said(&output)
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

/// Makes a silence with this comment.
fn silence(nightbell: &Nightbell, comment: &str) {
    let silence = json!({ "matchers": [{ "name": "n", "value": "99", "isRegex": false }], "startsAt": "2020-01-01T00:00:00Z",
        "endsAt": "2099-01-01T00:00:00Z", "createdBy": "tests", "comment": comment });
    let body = silence.to_string();
    let headers = format!(
        "Content-Type: application/json\r\nContent-Length: {}\r\n",
        body.len()
    );
    let answer = nightbell.request_with("POST", "/api/v2/silences", &headers, &body);
    assert_eq!(answer.0, 200, "{}", answer.1);
}

/// What people see of it: silences, alerts with their beginnings, and the history up to `until`.
fn seen(nightbell: &Nightbell, since: Timestamp, until: Timestamp) -> Value {
    let mut silences = nightbell.json("/api/v2/silences");
    let alerts = nightbell.json("/api/v2/alerts");
    let mut alerts: Vec<String> = alerts
        .as_array()
        .expect("a list")
        .iter()
        .map(|alert| format!("{} {}", alert["labels"]["n"], alert["startsAt"]))
        .collect();
    alerts.sort();
    for silence in silences.as_array_mut().expect("a list") {
        // How long ago a look at it was is no part of it.
        silence["status"] = Value::Null;
    }
    let history = nightbell.json(&format!(
        "/api/v1/query_range?query={}&start={}&end={}&step=1",
        encoded("{__name__=~\"trouble|up\"}"),
        since.seconds(),
        until.seconds(),
    ));
    json!({ "silences": silences, "alerts": alerts, "history": history["data"]["result"] })
}

/// A nightbell with alerts, a silence, a history, and messages that nobody accepts.
fn busy() -> Watch {
    let mut watch = Watch::start(
        HttpSink::start([Reply::Answer(503, "", "overloaded")]),
        "rules: {shipped: false}\n",
    );
    for n in 0..3 {
        watch.trouble(n);
    }
    silence(&watch.nightbell, "planned");
    wait_until(
        "all of them wait for the receiver",
        Duration::from_secs(30),
        || waiting(&watch).len() == 3,
    );
    watch
}

/// The delivery ids of what the receiver was asked to take.
fn waiting(watch: &Watch) -> BTreeSet<(usize, String)> {
    let asked = watch.requests();
    asked.into_iter().map(|(n, id, _)| (n, id)).collect()
}

/// Saved while it runs, in each form; killed; brought back elsewhere: silences, alerts, history and
/// the messages that wait are there, under their old delivery ids.
#[test]
fn what_was_saved_while_it_ran_is_all_there_after_a_restore() {
    let mut watch = busy();
    let since = Timestamp::now() - Duration::from_secs(5);
    let state = watch.nightbell.folder.path().join("state");
    let backups = tempfile::tempdir().expect("a folder");
    let at = |name: &str| text(&backups.path().join(name));
    let before = Timestamp::now() - Duration::from_secs(1);
    let forms = ["b.tar", "b.tar.gz", "folder"];
    for form in forms {
        let message = well(&["backup", &at(form), "--state-dir", &text(&state)]);
        assert!(message.contains("are saved"), "{message}");
        let message = well(&["check", &at(form)]);
        assert!(message.contains("all with their checksums"), "{message}");
    }
    let expected = seen(&watch.nightbell, since, before);
    assert_eq!(expected["silences"].as_array().map(Vec::len), Some(1));
    assert_eq!(expected["alerts"].as_array().map(Vec::len), Some(3));
    assert!(expected["history"].as_array().is_some_and(|h| h.len() >= 2));
    let ids = waiting(&watch);
    let piped = command(&["backup", "-", "--state-dir", &text(&state)])
        .output()
        .expect("it runs");
    assert!(piped.status.success() && piped.stdout.len() > 10_000);
    let listed = Command::new("tar")
        .args(["-tf", &at("b.tar.gz")])
        .output()
        .expect("tar runs");
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    assert!(
        listed.starts_with("state.db\n") && listed.ends_with("nightbell-backup.json\n"),
        "{listed}"
    );

    let message = refused(&[
        "restore",
        &at("b.tar"),
        "--state-dir",
        &text(&state),
        "--force",
    ]);
    assert!(message.contains("is in use (process "), "{message}");
    watch.nightbell.kill();
    let message = refused(&["restore", &at("b.tar"), "--state-dir", &text(&state)]);
    assert!(message.contains("--force moves what is there"), "{message}");
    for (n, form) in forms.into_iter().enumerate() {
        fs::remove_dir_all(&state).expect("deleted");
        well(&["restore", &at(form), "--state-dir", &text(&state)]);
        watch.nightbell.restart();
        assert_eq!(seen(&watch.nightbell, since, before), expected, "{form}");
        assert!(!state.join("before-restore").exists());
        if n == forms.len() - 1 {
            watch.sink.answer(Reply::Answer(200, "", "{}"));
            wait_until("what waited is sent", Duration::from_secs(30), || {
                watch.notified() == [0, 1, 2]
            });
            let all = waiting(&watch);
            assert_eq!(all, ids, "no message got another delivery id");
        }
        watch.nightbell.kill();
    }
}

/// Damaged and truncated backups, foreign files, a newer database: refused before anything is
/// changed, with the reason.
#[test]
fn a_backup_that_is_damaged_is_refused_and_changes_nothing() {
    let mut nightbell = Nightbell::start("collectors: {}\n");
    silence(&nightbell, "old");
    nightbell.stop();
    let state = nightbell.folder.path().join("state");
    let backups = tempfile::tempdir().expect("a folder");
    let good = backups.path().join("good.tar");
    well(&["backup", &text(&good), "--state-dir", &text(&state)]);
    let bytes = fs::read(&good).expect("read");
    let unchanged = |what: &str, backup: &Path, word: &str| {
        let files = || {
            let mut names: Vec<String> = fs::read_dir(&state)
                .expect("a folder")
                .map(|entry| entry.expect("an entry").file_name().into_string())
                .map(|name| name.expect("UTF-8"))
                .collect();
            names.sort();
            (names, fs::read(state.join("state.db")).expect("read"))
        };
        let before = files();
        let restore = ["restore", &text(backup), "--force", "--state-dir"];
        let message = refused(&[&restore[..], &[&text(&state)]].concat());
        assert!(
            message.contains("Nothing was changed") && message.contains(word),
            "{what}: {message}"
        );
        assert_eq!(files(), before, "{what}");
        if !word.contains("schema") {
            refused(&["check", &text(backup)]);
        }
    };
    let other = backups.path().join("other.tar");
    let mut dice = Dice(7);
    for _ in 0..10 {
        let cut = 600 + dice.roll(bytes.len() as u64 - 12_000) as usize;
        fs::write(&other, &bytes[..cut]).expect("written");
        unchanged(&format!("cut at {cut}"), &other, "");
    }
    // In the database, beyond the header of its entry.
    let mut flipped = bytes.clone();
    flipped[4096] ^= 1;
    fs::write(&other, &flipped).expect("written");
    unchanged(
        "a bit",
        &other,
        "state.db is damaged: its checksum is another",
    );
    fs::write(&other, b"hello").expect("written");
    unchanged("no archive", &other, "");
    fs::write(&other, b"").expect("written");
    unchanged(
        "an empty file",
        &other,
        "it was cut short, or is no backup of nightbell",
    );
    unchanged("no file", &backups.path().join("none"), "No such file");

    let folder = backups.path().join("folder");
    let unpacked = || {
        let _ = fs::remove_dir_all(&folder);
        well(&["backup", &text(&folder), "--state-dir", &text(&state)]);
    };
    unpacked();
    fs::remove_file(folder.join("clock")).expect("removed");
    unchanged("a missing file", &folder, "clock is missing");
    unpacked();
    // Whether there are rollups already depends on when it was.
    fs::create_dir_all(folder.join("rollups")).expect("made");
    fs::write(folder.join("rollups/more"), "x").expect("written");
    unchanged("one too many", &folder, "is not in the list of files");
    fs::rename(folder.join("rollups/more"), folder.join("passwd")).expect("renamed");
    unchanged("a foreign name", &folder, "is no part of a state folder");
    let outside = Command::new("tar")
        .args(["-P", "--transform", "s|.*|../../out|", "-cf"])
        .arg(&other)
        .arg(folder.join("passwd"))
        .status()
        .expect("tar runs");
    assert!(outside.success());
    unchanged("a name outside", &other, "is no part of a state folder");
    assert!(!state.join("../../out").exists());

    // Of a program that does not exist yet: the list is right, the database is not ours to read.
    unpacked();
    crate::servers::sqlite(
        &folder.join("state.db"),
        "INSERT INTO migrations (number) VALUES (999); PRAGMA journal_mode = DELETE",
    );
    let sum = Command::new("sha256sum")
        .arg(folder.join("state.db"))
        .output()
        .expect("sha256sum runs");
    let list = folder.join("nightbell-backup.json");
    let mut listed: Value = serde_json::from_slice(&fs::read(&list).expect("read")).expect("JSON");
    listed["files"]["state.db"]["sha256"] = String::from_utf8_lossy(&sum.stdout)[..64].into();
    listed["files"]["state.db"]["size"] = fs::metadata(folder.join("state.db"))
        .expect("there")
        .len()
        .into();
    fs::write(&list, listed.to_string()).expect("written");
    unchanged("a newer schema", &folder, "has schema 999");

    nightbell.restart();
    assert_eq!(nightbell.json("/api/v2/silences")[0]["comment"], "old");
}

/// Restores of one backup over another are killed at random instants: the next start has all of
/// one or all of the other, and in the end the new one.
#[test]
fn a_restore_that_is_killed_leaves_all_of_the_old_or_all_of_the_new() {
    let backups = tempfile::tempdir().expect("a folder");
    let mut nightbell = Nightbell::start("collectors: {}\n");
    let state = nightbell.folder.path().join("state");
    let made = |nightbell: &mut Nightbell, comment: &str| -> String {
        silence(nightbell, comment);
        let path = text(&backups.path().join(format!("{comment}.tar")));
        well(&["backup", &path, "--state-dir", &text(&state)]);
        path
    };
    let comments = |nightbell: &Nightbell| -> Vec<String> {
        let silences = nightbell.json("/api/v2/silences");
        let list = silences.as_array().expect("a list").iter();
        let mut found: Vec<String> = list
            .map(|silence| silence["comment"].as_str().expect("a text").to_owned())
            .collect();
        found.sort();
        found
    };
    let one = made(&mut nightbell, "one");
    let two = made(&mut nightbell, "two");
    nightbell.stop();
    let mut dice = Dice(3);
    let restore = |from: &str| {
        let mut restore = command(&["restore", from, "--force", "--state-dir", &text(&state)]);
        restore.stdout(Stdio::null()).stderr(Stdio::null());
        restore
    };
    for n in 0..12 {
        let from = if n % 2 == 0 { &one } else { &two };
        let child = Server(restore(from).spawn().expect("it starts"));
        std::thread::sleep(Duration::from_millis(dice.roll(250)));
        // `kill -9`.
        drop(child);
        nightbell.restart();
        let found = comments(&nightbell);
        assert!(
            found == ["one"] || found == ["one", "two"],
            "after {n}: {found:?}"
        );
        nightbell.kill();
    }
    assert!(restore(&one).status().expect("it runs").success());
    nightbell.restart();
    assert_eq!(comments(&nightbell), ["one"]);
    assert!(!state.join("restore.unfinished").exists());
}

/// A small file system.
struct Small(PathBuf);

impl Small {
    fn mount(folder: PathBuf) -> Self {
        fs::create_dir_all(&folder).expect("a folder");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=100k", "nightbell-test"])
            .arg(&folder)
            .status()
            .expect("mount runs");
        assert!(
            mounted.success(),
            "a tmpfs cannot be mounted: run the tests as root"
        );
        Small(folder)
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        // A mount that stays would keep the folder from being removed; the test's result does not
        // depend on it.
        drop(Command::new("umount").arg("-l").arg(&self.0).status());
    }
}

/// Backups and restores that find no room say so, leave nothing half made, and keep what was there.
#[test]
fn a_full_disk_leaves_neither_half_a_backup_nor_half_a_restore() {
    let mut nightbell = Nightbell::start("collectors: {}\n");
    let state = text(&nightbell.folder.path().join("state"));
    let folder = tempfile::tempdir().expect("a folder");
    let small = Small::mount(folder.path().join("small"));
    fs::write(small.0.join("b.tar"), "an older one").expect("written");
    for name in ["b.tar", "new.tar.gz", "folder"] {
        let to = text(&small.0.join(name));
        refused(&["backup", &to, "--force", "--state-dir", &state]);
    }
    let full = fs::File::options().write(true).open("/dev/full");
    let piped = command(&["backup", "-", "--state-dir", &state])
        .stdout(full.expect("/dev/full"))
        .output()
        .expect("it runs");
    assert_eq!(piped.status.code(), Some(1));
    let left: Vec<_> = fs::read_dir(&small.0).expect("a folder").collect();
    assert_eq!(left.len(), 1, "{left:?}");
    assert_eq!(
        fs::read_to_string(small.0.join("b.tar")).expect("read"),
        "an older one"
    );
    let good = text(&folder.path().join("good.tar"));
    well(&["backup", &good, "--state-dir", &state]);
    let message = refused(&["backup", &good, "--state-dir", &state]);
    assert!(message.contains("--force"), "{message}");
    let into = text(&small.0.join("state"));
    let message = refused(&["restore", &good, "--state-dir", &into]);
    assert!(
        message.contains("No space left") && message.contains("Nothing was changed"),
        "{message}"
    );
    let left: Vec<_> = fs::read_dir(&into).expect("a folder").collect();
    assert_eq!(left.len(), 1, "its lock alone: {left:?}");
    nightbell.stop();
}

/// A history that lies apart is saved with the rest and goes back to where the configuration says.
/// Everything that a state folder holds is known to the backup.
#[test]
fn a_history_that_lies_apart_is_saved_and_restored_with_the_rest() {
    let history = tempfile::tempdir().expect("a folder");
    let apart = history.path().join("samples");
    let mut nightbell = Nightbell::start(&format!(
        "global: {{scrape_interval: 1s}}\nstorage: {{path: '{}'}}\n\
         collectors: {{host: {{}}, log_file: [{{name: l, path: /var/log/dpkg.log}}]}}\n",
        apart.display()
    ));
    let state = nightbell.folder.path().join("state");
    wait_until("it has collected", Duration::from_secs(20), || {
        state.join("collectors").is_dir() && state.join("rollups").is_dir()
    });
    let known = [
        "state.db",
        "state.db-wal",
        "state.db-shm",
        "clock",
        "collectors",
        "rollups",
        "state.lock",
    ];
    for entry in fs::read_dir(&state).expect("a folder") {
        let name = entry.expect("an entry").file_name();
        assert!(known.iter().any(|known| name == *known), "{name:?}");
    }
    let backup = text(&history.path().join("b.tgz"));
    let config = text(&nightbell.config_file());
    let place = ["--config", &config, "--state-dir", &text(&state)];
    let message = well(&[&["backup", backup.as_str()][..], &place].concat());
    assert!(message.contains("are saved"), "{message}");
    nightbell.kill();
    for folder in [&state, &apart] {
        fs::remove_dir_all(folder).expect("deleted");
    }
    let message = well(&[&["restore", backup.as_str()][..], &place].concat());
    assert!(
        message.contains(&format!("restored to {}", apart.display())),
        "{message}"
    );
    assert!(
        fs::read_dir(apart.join("wal"))
            .expect("a folder")
            .next()
            .is_some()
    );
    assert!(!state.join("history").exists());
    nightbell.restart();
    let first = nightbell.json("/api/v1/query?query=count(count_over_time(up%5B1m%5D))");
    assert!(
        first["data"]["result"][0]["value"][1].is_string(),
        "the history is there: {first}"
    );
    let message = refused(&[&["restore", backup.as_str(), "--force"][..], &place].concat());
    assert!(message.contains("in use"), "{message}");
}
