//! `log_file` and `access_log` over systemd's journal, by the real journalctl, with files that
//! systemd-journal-remote 252 made of entries in export format.

use std::fs;
use std::io::Read as _;
use std::path::Path;

use flate2::read::GzDecoder;
use nightbell::collectors::Memory;
use nightbell::model::Batch;

use crate::collecting::{build, collect, try_build, try_build_with, value};

/// Puts a recorded journal into a folder.
fn put(name: &str, folder: &Path) {
    let packed = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/collectors/journal")
        .join(format!("{name}.journal.gz"));
    let mut journal = Vec::new();
    GzDecoder::new(fs::File::open(packed).expect("the fixture"))
        .read_to_end(&mut journal)
        .expect("unpacked");
    fs::write(folder.join(format!("{name}.journal")), journal).expect("written");
}

/// A look by a collector that begins anew, as after a restart.
async fn looked(kind: &str, yaml: &str, state: &Path) -> Batch {
    let mut collector = try_build_with(kind, yaml, Memory::of(state, kind, kind, "t"))
        .unwrap_or_else(|errors| panic!("{errors}"));
    let (batch, result) = collect(kind, &mut collector).await;
    result.unwrap_or_else(|error| panic!("{error}: journalctl: apt-get install systemd"));
    batch
}

fn lines(batch: &Batch) -> [Option<f64>; 4] {
    ["info", "warning", "error", "unknown"]
        .map(|level| value(batch, "log_lines_total", &[("level", level)]))
}

/// C13: entries of a unit are lines with the level of their priority, where they name none; each
/// counts once, also after a restart.
#[tokio::test(flavor = "multi_thread")]
async fn each_entry_of_a_unit_counts_once_over_restarts() {
    let folder = tempfile::tempdir().expect("a folder");
    let journal = folder.path().join("journal");
    fs::create_dir(&journal).expect("made");
    put("first", &journal);
    let yaml = format!(
        "journal: app.service\njournal_folder: {}\nstart: beginning\ncount: {{model: {{contains: model}}}}\n",
        journal.display()
    );
    let first = looked("log_file", &yaml, folder.path()).await;
    assert_eq!(lines(&first), [Some(2.0), Some(1.0), Some(2.0), Some(0.0)]);
    assert_eq!(
        value(&first, "log_continuation_lines_total", &[]),
        Some(2.0),
        "a traceback is part of its entry"
    );
    assert_eq!(
        value(&first, "log_matches_total", &[("pattern", "model")]),
        Some(1.0)
    );
    assert_eq!(
        value(&first, "log_last_line_timestamp_seconds", &[]),
        Some(1_764_500_007.0)
    );
    let again = looked("log_file", &yaml, folder.path()).await;
    assert_eq!(lines(&again), lines(&first));
    put("second", &journal);
    for _ in 0..2 {
        let more = looked("log_file", &yaml, folder.path()).await;
        assert_eq!(
            lines(&more),
            [Some(2.0), Some(1.0), Some(4.0), Some(0.0)],
            "one of them is too long, and counts"
        );
        assert_eq!(value(&more, "log_lines_cut_total", &[]), Some(1.0));
        assert_eq!(
            (
                value(&more, "log_readable", &[]),
                value(&more, "log_position_saved", &[])
            ),
            (Some(1.0), Some(1.0))
        );
    }
    // Without `start: beginning` what was there before does not count.
    let mut new = build(
        "log_file",
        &format!(
            "journal: [app.service]\njournal_folder: {}\n",
            journal.display()
        ),
    );
    let (batch, result) = collect("log_file", &mut new).await;
    result.expect("read");
    assert_eq!(lines(&batch), [Some(0.0); 4]);
}

/// C14, T22: failed logins of sshd and sudo, where there is no auth.log.
#[tokio::test(flavor = "multi_thread")]
async fn failed_logins_are_counted_from_the_journal() {
    let folder = tempfile::tempdir().expect("a folder");
    let journal = folder.path().join("journal");
    fs::create_dir(&journal).expect("made");
    put("first", &journal);
    let yaml = format!(
        "journal: [sshd, sudo, su, login]\njournal_folder: {}\nformat: auth\nstart: beginning\nclients: {{above: 0, window: 1d}}\n",
        journal.display()
    );
    let failures = |batch: &Batch| {
        ["sshd", "sudo", "su"]
            .map(|source| value(batch, "login_failures_total", &[("source", source)]))
    };
    assert_eq!(
        failures(&looked("access_log", &yaml, folder.path()).await),
        [Some(1.0), Some(1.0), Some(0.0)]
    );
    put("second", &journal);
    let more = looked("access_log", &yaml, folder.path()).await;
    assert_eq!(failures(&more), [Some(2.0), Some(1.0), Some(0.0)]);
    let text = format!("{:?}", more.families);
    assert!(
        text.contains("198.51.100.0/24") && text.contains("203.0.113.0/24"),
        "{text}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_journal_that_cannot_be_read_says_so_and_wrong_keys_are_named() {
    let mut collector = build(
        "log_file",
        "journal: app.service\njournal_folder: /nowhere/at/all\n",
    );
    let (batch, result) = collect("log_file", &mut collector).await;
    let error = result.expect_err("it is not there").to_string();
    assert!(
        error.contains("journal app.service: journalctl: "),
        "{error}"
    );
    assert_eq!(value(&batch, "log_readable", &[]), Some(0.0));
    for (yaml, part) in [
        (
            "journal: app.service\npath: /a\n",
            "stands beside \"path\" or \"docker\"",
        ),
        (
            "journal: [app.service, sshd]\n",
            "names units and identifiers of syslog",
        ),
        ("journal: []\n", "names nothing"),
        ("journal: --file=/etc/shadow\n", "names nothing"),
        ("path: /a\njournal_folder: /b\n", "belongs to \"journal\""),
    ] {
        let errors = try_build("log_file", yaml)
            .err()
            .unwrap_or_else(|| panic!("{yaml}"))
            .to_string();
        assert!(errors.contains(part), "{yaml}: {errors}");
    }
}
