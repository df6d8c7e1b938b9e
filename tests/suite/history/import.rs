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
