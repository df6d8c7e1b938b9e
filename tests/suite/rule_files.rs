//! Rule files: what is accepted, and every mistake at its place, compared with golden files (`NIGHTBELL_UPDATE=1` rewrites them).

use std::fs;
use std::path::{Path, PathBuf};

use nightbell::cli::check::{CheckRulesArgs, check_rules};
use nightbell::cli::test::{TestRulesArgs, test_rules};
use nightbell::rules::Rule;
use nightbell::rules::file::{parse_text, read};

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn compare_with_golden(path: &Path, got: &str) {
    if std::env::var_os("NIGHTBELL_UPDATE").is_some() {
        fs::write(path, got).expect("the golden file can be written");
    }
    let wanted = fs::read_to_string(path).unwrap_or_default();
    assert_eq!(got, wanted, "{} differs", path.display());
}

/// What `check rules` writes to standard output and standard error, and its exit status.
fn checked(files: &[&str], lint_fatal: bool) -> (String, String, u8) {
    let files = files.iter().map(|f| folder("tests/rules_files").join(f)).collect();
    let args = CheckRulesArgs { files, lint: vec!["duplicate-rules".into()], lint_fatal };
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let status = check_rules(&args, &mut out, &mut err).expect("vectors take everything");
    let text = |bytes: Vec<u8>| {
        let text = String::from_utf8(bytes).expect("UTF-8");
        text.replace(&format!("{}/", folder("tests/rules_files").display()), "")
    };
    (text(out), text(err), status)
}

/// SEMANTICS 95, 96 and 99: all mistakes of a file, each with its place.
#[test]
fn every_mistake_is_reported_with_its_place() {
    for name in ["rules", "recording", "groups", "positions"] {
        let (out, err, status) = checked(&[&format!("{name}.yml")], false);
        assert_eq!((out.as_str(), status), (format!("Checking {name}.yml\n").as_str(), 1));
        compare_with_golden(&folder("tests/rules_files").join(format!("{name}.errors")), &err);
    }
}

/// SEMANTICS 216: recorded from promtool 3.5 on the same file.
#[test]
fn duplicate_rules_are_a_finding_that_only_lint_fatal_makes_fatal() {
    let wanted = "  FAILED:\nlint error 2 duplicate rule(s) found.\nMetric: a\nLabel(s):\n\tx: y\n\tz: 1\nMetric: b\nLabel(s):\n\
                  Might cause inconsistency while recording expressions\n";
    assert_eq!(checked(&["duplicates.yml"], false), ("Checking duplicates.yml\n\n".into(), wanted.into(), 0));
    assert_eq!(checked(&["duplicates.yml"], true).2, 3);
}

/// SEMANTICS 94 and 98: defaults, the group's labels under the rule's, further documents ignored.
#[test]
fn a_rule_file_is_read_as_prometheus_reads_it() {
    let text = "groups:\n- name: g\n  interval: 30s\n  limit: 3\n  labels: {team: a, tier: web}\n  rules:\n  - alert: A\n    expr: |\n      up == 0\n    \
                for: 5m\n    labels: {team: b}\n    annotations: {summary: down}\n  - record: r:x\n    expr: 1\n---\nother: document\n";
    let file = parse_text("r.yml", text).expect("valid");
    assert!(file.has_more);
    let group = &file.groups[0];
    assert_eq!((group.limit, group.interval.map(|d| d.as_secs()), group.query_offset), (3, Some(30), None));
    let Rule::Alerting(alert) = &group.rules[0] else { panic!("an alerting rule") };
    assert_eq!((alert.expr_text.as_str(), alert.hold.as_secs()), ("up == 0", 300));
    assert_eq!(alert.labels.braced(), r#"{team="b", tier="web"}"#);
    assert_eq!(group.rules[1].labels().braced(), r#"{team="a", tier="web"}"#);
    assert_eq!(parse_text("empty.yml", "").expect("an empty file is valid").groups, []);
}

/// The shipped rules load.
#[test]
fn every_shipped_rule_file_is_valid() {
    for folder in [folder("rules"), folder("rules/profiles")] {
        for entry in fs::read_dir(folder).expect("the folder can be read") {
            let path = entry.expect("the entry can be read").path();
            if path.extension().is_some_and(|e| e == "yml") {
                let file = read(&path).unwrap_or_else(|errors| panic!("{errors}"));
                assert!(file.groups.iter().any(|g| !g.rules.is_empty()), "{} holds no rule", path.display());
            }
        }
    }
}

/// SEMANTICS 210 to 215 (and T3's tool): output and exit status recorded from promtool 3.5 on the same files.
#[test]
fn rule_tests_run_and_report_as_promtool_does() {
    for (name, status) in [("ok", 0), ("bad", 1), ("broken", 1)] {
        let path = |extension: &str| folder("tests/rules_files/unit").join(format!("{name}.{extension}"));
        let recorded = |extension: &str| fs::read_to_string(path(extension)).expect("recorded");
        let args = TestRulesArgs { files: vec![path("yml")], run: Vec::new() };
        let (mut out, mut err) = (Vec::new(), Vec::new());
        assert_eq!(test_rules(&args, &mut out, &mut err).expect("vectors take everything"), status, "{name}");
        assert_eq!(String::from_utf8_lossy(&out), recorded("out"), "{name}");
        assert_eq!(String::from_utf8_lossy(&err), recorded("err"), "{name}");
    }
}
