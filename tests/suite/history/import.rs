//! `nightbell history import` and `export`: what Prometheus and VictoriaMetrics hold, and what a
//! nightbell held before.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use nightbell::model::{Labels, Sample, Timestamp};
use nightbell::store::{Import, Imported};

use super::{content, open, settings};
use crate::servers::nightbell::Nightbell;
use crate::servers::victoria::{Fault, Victoria};

const MINUTE: i64 = 60_000;
const DAY: i64 = 24 * 60 * MINUTE;

/// Midnight three days ago: inside the retention.
fn begin() -> i64 {
    (Timestamp::now().0.div_euclid(DAY) - 3) * DAY
}

fn run(state: &Path, arguments: &[&str], input: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_nightbell"))
        .args(["history", arguments[0], "--state-dir"])
        .arg(state)
        .args(&arguments[1..])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("starts");
    let mut stdin = child.stdin.take().expect("a pipe");
    // A command that has failed need not read it all.
    let _ = stdin.write_all(input.as_bytes());
    drop(stdin);
    child.wait_with_output().expect("ends")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Two days of three series, the newest samples first.
fn page(begin: i64) -> (String, Vec<String>) {
    let mut lines = Vec::new();
    for n in 0..600_i64 {
        let at = begin + n * 5 * MINUTE;
        let time = format!("{}.{:03}", at / 1000, at % 1000);
        lines.push(format!("c_total{{i=\"1\"}} {} {time}", n * 7));
        lines.push(format!(
            "g{{path=\"a\\\\b\\\"c\"}} {} {time}",
            n as f64 / 4.0 - 3.0
        ));
        lines.push(format!(
            "odd{{}} {} {time}",
            ["NaN", "+Inf", "-Inf"][n as usize % 3]
        ));
    }
    lines.reverse();
    let page = lines.join("\n") + "\n# EOF\n";
    lines.sort();
    (page, lines)
}

fn exported(state: &Path) -> Vec<String> {
    let output = run(state, &["export"], "");
    assert!(output.status.success(), "{}", text(&output.stderr));
    let page = text(&output.stdout);
    assert!(page.ends_with("# EOF\n"));
    let mut lines: Vec<String> = page
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(str::to_owned)
        .collect();
    lines.sort();
    lines
}

#[test]
fn what_is_imported_is_exported_and_an_import_again_doubles_nothing() {
    let state = tempfile::tempdir().expect("a folder");
    // The log of a nightbell that ran.
    drop(open(&state.path().join("history"), begin()));
    let (page, lines) = page(begin());
    for round in 0..2 {
        let output = run(state.path(), &["import", "-"], &page);
        assert!(output.status.success(), "{}", text(&output.stderr));
        let said = text(&output.stdout);
        assert!(
            said.starts_with("1800 samples imported, 3 blocks written"),
            "{said}"
        );
        assert_eq!(exported(state.path()), lines, "round {round}");
    }
    assert!(!state.path().join("history/import").exists());
    // The other format, from one history into another.
    let json = run(state.path(), &["export", "--format", "json"], "");
    let other = tempfile::tempdir().expect("a folder");
    drop(open(&other.path().join("history"), begin()));
    let output = run(
        other.path(),
        &["import", "--format", "json", "-"],
        &text(&json.stdout),
    );
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(exported(other.path()), lines);
}

#[test]
fn blocks_of_a_prometheus_come_by_promtool() {
    let state = tempfile::tempdir().expect("a folder");
    drop(open(&state.path().join("history"), begin()));
    let (page, lines) = page(begin());
    // Prometheus wants the samples of a series in order of time.
    let mut ordered: Vec<&str> = page.lines().rev().filter(|line| *line != "# EOF").collect();
    ordered.sort_by_key(|line| line.split('{').next());
    let file = state.path().join("page.om");
    fs::write(&file, ordered.join("\n") + "\n# EOF\n").expect("written");
    let blocks = state.path().join("prometheus");
    let promtool = |arguments: &[&std::ffi::OsStr]| {
        let output = Command::new("promtool")
            .args(arguments)
            .output()
            .expect("promtool runs");
        assert!(output.status.success(), "{}", text(&output.stderr));
        text(&output.stdout)
    };
    let made = ["tsdb", "create-blocks-from", "openmetrics"].map(std::ffi::OsStr::new);
    promtool(&[&made[..], &[file.as_os_str(), blocks.as_os_str()]].concat());
    // As a Prometheus has it.
    fs::create_dir(blocks.join("wal")).expect("made");
    let dump = ["tsdb", "dump"].map(std::ffi::OsStr::new);
    let dumped = promtool(&[&dump[..], &[blocks.as_os_str()]].concat());
    let output = run(
        state.path(),
        &["import", "--format", "promtool", "-"],
        &dumped,
    );
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(exported(state.path()), lines);
}

#[test]
fn a_damaged_file_is_named_with_its_line_and_nothing_of_it_is_taken() {
    let state = tempfile::tempdir().expect("a folder");
    drop(open(&state.path().join("history"), begin()));
    let time = begin() / 1000;
    let good = format!("a{{}} 1 {time}\n");
    let file = state.path().join("old.om");
    for (page, remedy) in [
        (
            format!("{good}a{{}} 1\n# EOF\n"),
            "old.om:2: the sample has no time",
        ),
        (format!("{good}a{{ 1 {time}\n# EOF\n"), "old.om:2: "),
        (good.clone(), "old.om: it does not end with # EOF"),
    ] {
        fs::write(&file, page).expect("written");
        let output = run(state.path(), &["import", file.to_str().expect("text")], "");
        let said = text(&output.stderr);
        assert!(!output.status.success() && said.contains(remedy), "{said}");
        assert!(said.contains("nothing of it was taken"), "{said}");
        assert_eq!(exported(state.path()), Vec::<String>::new());
    }
    let output = run(state.path(), &["import", "/nowhere/x.om"], "");
    assert!(text(&output.stderr).contains("/nowhere/x.om: No such file"));
    let output = run(
        state.path(),
        &["import", "--format", "json", "-"],
        "{\"metric\": 1}\n",
    );
    assert!(text(&output.stderr).contains("-:1: a line is {\"metric\""));
}

#[test]
fn an_import_while_nightbell_runs_is_refused() {
    let nightbell = Nightbell::start("collectors:\n  host: {}\n");
    let state = nightbell.folder.path().join("state");
    let output = run(&state, &["import", "-"], "# EOF\n");
    let said = text(&output.stderr);
    assert!(said.contains("is in use by another nightbell"), "{said}");
    assert!(
        run(&state, &["export"], "").status.success(),
        "reading is not"
    );
}

fn sample(name: &str, value: f64) -> Sample {
    Sample {
        labels: Labels::from_pairs([("__name__", name)]),
        value,
        timestamp: None,
    }
}

/// Blocks, a log, and an import over the time of both.
#[test]
fn an_import_hides_nothing_of_what_the_history_has() {
    let folder = tempfile::tempdir().expect("a folder");
    let (start, hours) = (begin(), 30);
    let store = open(folder.path(), start);
    for n in 0..hours * 60 {
        store.append(Timestamp(start + n * MINUTE), &[sample("own", n as f64)]);
        if n % 30 == 0 {
            store.maintain(Timestamp(start + n * MINUTE));
        }
    }
    assert!(store.flush());
    let end = start + hours * 60 * MINUTE;
    let mut expected = content(&store);
    let last = store
        .history()
        .and_then(|h| h.blocks.last().map(|b| b.last.0));
    drop(store);
    let labels = |name: &str| Labels::from_pairs([("__name__", name)]);
    let feed = |import: &mut Import| {
        for n in -60..hours * 60 + 60 {
            let at = Timestamp(start + n * MINUTE);
            import.add(&labels("own"), at, -1.0).expect("taken");
            import.add(&labels("fed"), at, n as f64).expect("taken");
        }
    };
    // One that does not come to its end changes nothing.
    let mut import = Import::open(&settings(folder.path()), Timestamp(end)).expect("opens");
    feed(&mut import);
    drop(import);
    assert_eq!(content(&open(folder.path(), end)), expected);
    let mut import = Import::open(&settings(folder.path()), Timestamp(end)).expect("opens");
    feed(&mut import);
    let mut days = Vec::new();
    let imported = import
        .finish(|done, all| days.push((done, all)))
        .expect("is merged");
    assert_eq!(days, [(0, 3), (1, 3), (2, 3), (3, 3)]);
    let Imported {
        taken,
        too_new,
        too_old,
        overlapping,
        blocks,
    } = imported;
    assert_eq!((too_old, overlapping, blocks), (0, 0, 3));
    let until = last.expect("blocks") + MINUTE;
    let inside = (until - start) / MINUTE + 60;
    assert_eq!(
        (taken, too_new),
        (inside as u64 * 2, (hours * 60 + 120 - inside) as u64 * 2)
    );
    for n in -60..(until - start) / MINUTE {
        let at = start + n * MINUTE;
        let mut add = |name: &str, value: f64| {
            expected
                .entry(name.to_owned())
                .or_default()
                .push((at, value.to_bits()));
        };
        add("fed", n as f64);
        if n < 0 {
            add("own", -1.0);
        }
    }
    expected
        .values_mut()
        .for_each(|samples| samples.sort_unstable());
    let store = open(folder.path(), end);
    assert!(content(&store) == expected);
    // And it goes on.
    assert_eq!(
        store.append(Timestamp(end), &[sample("own", 1.0)]).appended,
        1
    );
}

/// Days of several series, as JSON lines.
fn days(days: i64) -> Vec<String> {
    let series = |number: i64| {
        let (mut values, mut times) = (Vec::new(), Vec::new());
        for n in 0..days * 288 {
            values.push(((n + 9999 * number).pow(2) * 7919 % 1_000_003) as f64 / 4.0);
            times.push(begin() - days * DAY + n * 5 * MINUTE);
        }
        serde_json::json!({
            "metric": {"__name__": "m", "i": number.to_string()}, "values": values, "timestamps": times,
        })
        .to_string()
    };
    (0..20).map(series).collect()
}

/// Killed at any moment it leaves what there was, or whole days of it, and goes on where it is run
/// again.
#[test]
fn an_import_that_is_killed_loses_and_doubles_nothing() {
    let state = tempfile::tempdir().expect("a folder");
    let expected = tempfile::tempdir().expect("a folder");
    let old = "m{i=\"0\"} 17 ".to_owned() + &(begin() / 1000 - 86_400).to_string() + "\n# EOF\n";
    let lines = days(12);
    let file = state.path().join("all.jsonl");
    fs::write(&file, lines.join("\n") + "\n").expect("written");
    for folder in [&state, &expected] {
        let output = run(folder.path(), &["import", "-"], &old);
        assert!(output.status.success(), "{}", text(&output.stderr));
    }
    let file = file.display().to_string();
    let arguments = ["import", "--format", "json", &file];
    let output = run(expected.path(), &arguments, "");
    assert!(output.status.success(), "{}", text(&output.stderr));
    let (before, after) = (exported(state.path()), exported(expected.path()));
    assert_eq!((before.len(), after.len()), (1, 20 * 12 * 288));
    let count = |folder: &str, ending: &str| {
        let entries = fs::read_dir(state.path().join("history").join(folder));
        let names = entries.into_iter().flatten().flatten();
        names
            .filter(|e| e.file_name().to_string_lossy().ends_with(ending))
            .count()
    };
    let instants: [&dyn Fn() -> bool; 5] = [
        &|| state.path().join("history/import").exists(),
        &|| count("import", ".block") > 3,
        &|| count("import", ".whole") > 0,
        &|| count("import", ".whole") > 8,
        &|| count("blocks", ".block") > 1,
    ];
    for (number, instant) in instants.iter().enumerate() {
        let mut child = Command::new(env!("CARGO_BIN_EXE_nightbell"))
            .args(["history", "import", "--state-dir"])
            .arg(state.path())
            .args(&arguments[1..])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("starts");
        // It may be faster than whoever looks.
        while !instant() && child.try_wait().expect("a child").is_none() {
            std::thread::yield_now();
        }
        child.kill().expect("is ours");
        child.wait().expect("ends");
        let found = exported(state.path());
        assert!(found.windows(2).all(|pair| pair[0] != pair[1]));
        let known: std::collections::HashSet<&String> = after.iter().collect();
        assert!(
            found.iter().all(|line| known.contains(line)),
            "kill {number}"
        );
        assert!(found.contains(&before[0]), "kill {number}");
    }
    let output = run(state.path(), &arguments, "");
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(exported(state.path()), after);
    assert!(!state.path().join("history/import").exists());
}

/// A disk that is full is reported, and the history is as it was.
#[test]
fn a_full_disk_leaves_the_history_as_it_was() {
    let disk = tempfile::tempdir().expect("a folder");
    let mount = |arguments: &[&str]| {
        let status = Command::new(arguments[0])
            .args(&arguments[1..])
            .arg(disk.path())
            .status();
        status.expect("runs").success()
    };
    assert!(
        mount(&["mount", "-t", "tmpfs", "-o", "size=1m", "nightbell-test"]),
        "a tmpfs cannot be mounted: run the tests as root"
    );
    let lines = days(12).join("\n");
    let output = run(
        disk.path(),
        &["import", "-"],
        &format!("m{{i=\"0\"}} 17 {}\n# EOF\n", begin() / 1000 - 86_400),
    );
    assert!(output.status.success(), "{}", text(&output.stderr));
    let before = exported(disk.path());
    let arguments = ["import", "--format", "json", "-"];
    // What is put aside does not fit, then what is merged, then all.
    for failures in 0.. {
        let filler = disk.path().join("filler");
        let mut file = fs::File::create(&filler).expect("a file");
        while file.write_all(&[1; 4096]).is_ok() {}
        let length = file.metadata().expect("is there").len();
        let room = (failures + 1) * (24 << 10);
        file.set_len(length.saturating_sub(room)).expect("cut");
        drop(file);
        let output = run(disk.path(), &arguments, &lines);
        fs::remove_file(filler).expect("removed");
        let said = text(&output.stderr);
        if output.status.success() {
            assert!(failures > 5, "{failures}");
            break;
        }
        assert!(said.contains("No space left on device"), "{said}");
        assert_eq!(exported(disk.path()), before);
    }
    assert_eq!(exported(disk.path()).len(), 20 * 12 * 288);
    assert!(mount(&["umount", "-l"]));
}

#[test]
fn the_samples_of_a_victoria_come_day_by_day() {
    let (begun, step) = (begin(), 5 * MINUTE);
    let all: Vec<(String, i64, Option<f64>)> = (0..600)
        .flat_map(|n| {
            let at = begun + n * step;
            let gap = (n % 50 != 7).then_some(n as f64 / 4.0);
            [("a", Some(n as f64)), ("b", gap)].map(|(i, value)| (i.to_owned(), at, value))
        })
        .collect();
    let server = Victoria::start(all.clone());
    let state = tempfile::tempdir().expect("a folder");
    let output = run(state.path(), &["import", "victoria", &server.url()], "");
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(text(&output.stdout).starts_with("1200 samples imported, 3 blocks"));
    // Stale markers, which the JSON has as null, are in the history and not in an export.
    let found = exported(state.path());
    assert_eq!(
        found.len(),
        all.iter().filter(|(.., v)| v.is_some()).count()
    );
    assert!(found[0].starts_with("m{i=\"a\"} 0 "), "{}", found[0]);
    let asked = server.asked();
    assert!(
        asked.len() > 28
            && asked.iter().all(|path| path
                .starts_with("/api/v1/export?match%5B%5D=%7B__name__%21%3D%22%22%7D&start=")),
        "{asked:?}"
    );
    // What does not come to its end is not taken.
    let other = tempfile::tempdir().expect("a folder");
    for (fault, remedy) in [
        (Fault::Cut, "127.0.0.1"),
        (Fault::HalfALine, "EOF while parsing"),
        (Fault::Status, "status 422: too many"),
    ] {
        let server = Victoria::failing(all.clone(), fault);
        let output = run(other.path(), &["import", "victoria", &server.url()], "");
        let said = text(&output.stderr);
        assert!(!output.status.success() && said.contains(remedy), "{said}");
        assert!(said.contains("nothing of it was taken"), "{said}");
        assert_eq!(exported(other.path()), Vec::<String>::new());
    }
    let output = run(other.path(), &["import", "victoria", "nowhere"], "");
    assert!(text(&output.stderr).contains("`nowhere` is no URL of a VictoriaMetrics"));
}

/// Prometheus's own files: a folder of blocks, one of them, and what its log alone has.
mod prometheus {
    use std::io::Read as _;
    use std::net::TcpStream;
    use std::time::Duration;

    use super::*;
    use crate::servers::{free_port, wait_until};

    /// A running Prometheus, ended with the value.
    struct Server(std::process::Child);

    impl Drop for Server {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    fn tool(arguments: &[&str]) -> String {
        let output = Command::new("promtool").args(arguments).output();
        let output = output.expect("promtool runs");
        assert!(output.status.success(), "{}", text(&output.stderr));
        text(&output.stdout)
    }

    /// Blocks that promtool makes of a page; the folder, and the samples as lines.
    fn blocks(folder: &Path) -> (String, Vec<String>) {
        let (page, lines) = page(begin());
        let mut ordered: Vec<&str> = page.lines().rev().filter(|line| *line != "# EOF").collect();
        ordered.sort_by_key(|line| line.split('{').next());
        let file = folder.join("page.om");
        fs::write(&file, ordered.join("\n") + "\n# EOF\n").expect("written");
        let data = folder.join("prometheus").display().to_string();
        let file = file.display().to_string();
        tool(&["tsdb", "create-blocks-from", "openmetrics", &file, &data]);
        (data, lines)
    }

    #[test]
    fn its_blocks_are_read_without_promtool() {
        let state = tempfile::tempdir().expect("a folder");
        drop(open(&state.path().join("history"), begin()));
        let (data, lines) = blocks(state.path());
        for round in 0..2 {
            let output = run(state.path(), &["import", "prometheus", &data], "");
            assert!(output.status.success(), "{}", text(&output.stderr));
            let said = text(&output.stdout);
            assert!(
                said.starts_with("1800 samples imported, 3 blocks"),
                "{said}"
            );
            assert_eq!(exported(state.path()), lines, "round {round}");
        }
        // One of them alone.
        let other = tempfile::tempdir().expect("a folder");
        drop(open(&other.path().join("history"), begin()));
        let one = fs::read_dir(&data).expect("a folder").flatten().next();
        let one = one.expect("a block").path().display().to_string();
        let output = run(other.path(), &["import", "prometheus", &one], "");
        assert!(output.status.success(), "{}", text(&output.stderr));
        let found = exported(other.path());
        assert!(!found.is_empty() && found.len() < lines.len());
        assert!(found.iter().all(|line| lines.contains(line)));
    }

    #[test]
    fn a_damaged_block_is_named_and_nothing_of_it_is_taken() {
        let state = tempfile::tempdir().expect("a folder");
        drop(open(&state.path().join("history"), begin()));
        let (data, _) = blocks(state.path());
        let block = fs::read_dir(&data).expect("a folder").flatten().next();
        let block = block.expect("a block").path();
        for part in ["index", "chunks/000001"] {
            let file = block.join(part);
            let good = fs::read(&file).expect("is there");
            let cut = &good[..good.len() - 9];
            let mut flipped = good.clone();
            flipped[20] ^= 0x10;
            for bad in [cut, &flipped] {
                fs::write(&file, bad).expect("written");
                let output = run(state.path(), &["import", "prometheus", &data], "");
                let said = text(&output.stderr);
                assert!(!output.status.success() && said.contains(part), "{said}");
                assert!(said.contains("nothing of it was taken"), "{said}");
                assert_eq!(exported(state.path()), Vec::<String>::new());
            }
            fs::write(&file, good).expect("written");
        }
        let nothing = tempfile::tempdir().expect("a folder");
        let nothing = nothing.path().display().to_string();
        let output = run(state.path(), &["import", "prometheus", &nothing], "");
        let said = text(&output.stderr);
        assert!(
            said.contains("no block and no log of a Prometheus"),
            "{said}"
        );
        let output = run(state.path(), &["import", "graphite", "x"], "");
        assert!(text(&output.stderr).contains("`graphite` is no source"));
    }

    #[test]
    fn what_its_log_alone_has_is_read() {
        let state = tempfile::tempdir().expect("a folder");
        let folder = state.path().join("data");
        let port = free_port();
        let config = state.path().join("prometheus.yml");
        fs::write(
            &config,
            format!(
                "global: {{scrape_interval: 200ms}}\nscrape_configs:\n- job_name: self\n  static_configs: [{{targets: ['127.0.0.1:{port}']}}]\n"
            ),
        )
        .expect("written");
        let start = || {
            let server = Command::new("prometheus")
                .arg(format!("--config.file={}", config.display()))
                .arg(format!("--storage.tsdb.path={}", folder.display()))
                .arg(format!("--web.listen-address=127.0.0.1:{port}"))
                .arg("--web.enable-admin-api")
                .stderr(Stdio::null())
                .stdout(Stdio::null())
                .spawn();
            Server(server.expect("prometheus starts"))
        };
        let ask = |method: &str, path: &str| -> Option<String> {
            let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
            let request = format!("{method} {path} HTTP/1.0\r\nHost: localhost\r\n\r\n");
            stream.write_all(request.as_bytes()).ok()?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).ok()?;
            Some(answer)
        };
        let counted = |least: u64| {
            let path = "/api/v1/query?query=count_over_time(up%5B1h%5D)";
            let answer = ask("GET", path).unwrap_or_default();
            let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
            let body: serde_json::Value = serde_json::from_str(body).unwrap_or_default();
            let count = body["data"]["result"][0]["value"][1].as_str();
            count.is_some_and(|count| count.parse::<u64>().is_ok_and(|n| n >= least))
        };
        {
            let _server = start();
            wait_until("it has scraped", Duration::from_secs(60), || counted(5));
            let deleted = "/api/v1/admin/tsdb/delete_series?match%5B%5D=go_info";
            let answer = ask("POST", deleted).expect("answers");
            assert!(answer.contains(" 204 "), "{answer}");
        }
        // It was killed. What it has is asked of another start, without scrapes.
        fs::write(&config, "scrape_configs: []\n").expect("written");
        let server = start();
        wait_until("it answers", Duration::from_secs(60), || counted(5));
        let answer = ask("GET", "/api/v1/query?query=up%5B1h%5D").expect("answers");
        let (_, body) = answer.split_once("\r\n\r\n").expect("a body");
        let body: serde_json::Value = serde_json::from_str(body).expect("JSON");
        let values = body["data"]["result"][0]["values"]
            .as_array()
            .expect("values");
        let theirs: Vec<String> = values
            .iter()
            .map(|value| format!("{:.3}", value[0].as_f64().expect("a time")))
            .collect();
        drop(server);
        // A nightbell that has never run: no log of its own holds this time.
        let folder = folder.display().to_string();
        let output = run(state.path(), &["import", "prometheus", &folder], "");
        assert!(output.status.success(), "{}", text(&output.stderr));
        let lines = exported(state.path());
        let ours: Vec<&str> = lines
            .iter()
            .filter(|line| line.starts_with("up{"))
            .filter_map(|line| line.rsplit(' ').next())
            .collect();
        assert_eq!(ours, theirs);
        assert!(lines.iter().any(|line| line.starts_with("go_goroutines{")));
        assert!(
            !lines.iter().any(|line| line.starts_with("go_info{")),
            "was deleted"
        );
    }
}
