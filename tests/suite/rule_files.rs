//! Rule files: what is accepted, and every mistake at its place, compared with golden files
//! (`NIGHTBELL_UPDATE=1` rewrites them).

use std::fs;
use std::path::{Path, PathBuf};

use nightbell::cli::check::rules::{CheckMetricsArgs, CheckRulesArgs, check_metrics, check_rules};
use nightbell::cli::test::rules::{TestRulesArgs, test_rules};
use nightbell::rules::Rule;
use nightbell::rules::file::{parse_text, read};
use regex::Regex;

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
    let files = files
        .iter()
        .map(|f| folder("tests/rules_files").join(f))
        .collect();
    let args = CheckRulesArgs {
        files,
        lint: vec!["duplicate-rules".into()],
        lint_fatal,
        portable: false,
        ignore_unknown_fields: false,
    };
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
    for name in ["rules", "recording", "groups", "positions", "own_keys"] {
        let (out, err, status) = checked(&[&format!("{name}.yml")], false);
        assert_eq!(
            (out.as_str(), status),
            (format!("Checking {name}.yml\n").as_str(), 1)
        );
        compare_with_golden(
            &folder("tests/rules_files").join(format!("{name}.errors")),
            &err,
        );
    }
}

/// A file that Prometheus would refuse is named with its groups and rules when that is asked.
#[test]
fn keys_that_prometheus_does_not_know_are_named_when_files_must_be_portable() {
    let check = |name: &str, portable: bool| {
        let files = vec![folder("tests/rules_files").join(name)];
        let args = CheckRulesArgs {
            files,
            lint: Vec::new(),
            lint_fatal: false,
            portable,
            ignore_unknown_fields: false,
        };
        let mut err = Vec::new();
        let status =
            check_rules(&args, &mut Vec::new(), &mut err).expect("vectors take everything");
        let place = format!("{}/", folder("tests/rules_files").display());
        (
            status,
            String::from_utf8(err).expect("UTF-8").replace(&place, ""),
        )
    };
    let wanted = "  NOT PORTABLE: leave this out for Prometheus\n\
                  portable.yml: 8:5: group \"cpu\", rule 2, \"Hot\": Prometheus does not know recover_expr\n\
                  portable.yml: 9:5: group \"cpu\", rule 2, \"Hot\": Prometheus does not know no_data\n";
    assert_eq!(check("portable.yml", true), (3, wanted.to_owned()));
    assert_eq!(check("portable.yml", false), (0, String::new()));
    assert_eq!(check("unit/r.yml", true), (0, String::new()));
}

/// What Prometheus 3.5 refuses without features that are switched on (`promtool check rules`): each
/// is named where it stands, once for a rule.
#[test]
fn newer_and_experimental_parts_of_the_language_are_named_when_files_must_be_portable() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("r.yml");
    let check = |flags: &[&str], expr: &str| -> (Option<i32>, Vec<String>) {
        let text =
            format!("groups:\n- name: g\n  rules:\n  - record: a:b\n    expr: |-\n      {expr}\n");
        std::fs::write(&file, text).expect("writable");
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_nightbell"));
        let output = command
            .args(flags)
            .args(["check", "rules", "--portable"])
            .arg(&file)
            .output()
            .expect("nightbell runs");
        let said =
            String::from_utf8_lossy(&output.stderr).replace(&format!("{}: ", file.display()), "");
        let lines = said
            .lines()
            .map(str::to_owned)
            .filter(|line| line.contains("Prometheus ") && line.contains("rule 1"))
            .collect();
        (output.status.code(), lines)
    };
    let arithmetic = "Prometheus before 3.14 takes arithmetic in durations only with --enable-feature=promql-duration-expr";
    for (expr, column, problem) in [
        ("rate(x[1m+1m])", 16, arithmetic),
        ("x offset (1m*2)", 16, arithmetic),
        ("x[(1m)]", 9, arithmetic),
        ("rate(x[5m:(1m+1m)*2])", 17, arithmetic),
        ("sum(x) / sum(x offset -(1m))", 30, arithmetic),
        (
            "1 + first_over_time(x[5m])",
            11,
            "Prometheus before 3.14 does not know first_over_time",
        ),
    ] {
        let wanted = format!("6:{column}: group \"g\", rule 1, \"a:b\": {problem}");
        assert_eq!(check(&[], expr), (Some(3), vec![wanted]), "{expr}");
    }
    let flag = ["--enable-feature=promql-experimental-functions"];
    for (expr, name) in [
        ("1 + mad_over_time(x[5m])", "mad_over_time"),
        ("1 + limitk(1, x)", "limitk"),
        ("1 + info(x)", "info"),
    ] {
        let problem = format!(
            "Prometheus takes {name} only with --enable-feature=promql-experimental-functions"
        );
        assert_eq!(
            check(&flag, expr),
            (
                Some(3),
                vec![format!("6:11: group \"g\", rule 1, \"a:b\": {problem}")]
            ),
            "{expr}"
        );
        assert_eq!(check(&[], expr).0, Some(1), "{expr}");
    }
    for expr in [
        "rate(x[1h30m])",
        "x offset -1m",
        "rate(x[60])",
        "max_over_time(x[5m:30s] offset +1m)",
        "1 + 5m",
        "-x + (2 * 3)",
    ] {
        assert_eq!(check(&[], expr), (Some(0), Vec::new()), "{expr}");
    }
}

/// As promtool takes them; what is the same many times in a row is kept once.
#[test]
fn series_of_millions_of_equal_values_are_read() {
    let folder = tempfile::tempdir().expect("a folder");
    let write =
        |name: &str, text: &str| std::fs::write(folder.path().join(name), text).expect("writable");
    write(
        "r.yml",
        "groups:\n- {name: g, rules: [{record: 'a:b', expr: 'sum(x)'}]}\n",
    );
    let series = [
        "1x1000000",
        "0x10000000",
        "1+0x10000000",
        "_x5000000 7x10000000",
        "0x2000000000",
    ];
    let series: String = series
        .iter()
        .enumerate()
        .map(|(n, v)| format!("  - {{series: 'x{{n=\"{n}\"}}', values: '{v}'}}\n"))
        .collect();
    write(
        "t.yml",
        &format!(
            "rule_files: [r.yml]\ntests:\n- interval: 1m\n  input_series:\n{series}  promql_expr_test:\n  \
             - {{expr: 'a:b', eval_time: 10m, exp_samples: [{{labels: 'a:b', value: 2}}]}}\n"
        ),
    );
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_nightbell"))
        .args(["test", "rules"])
        .arg(folder.path().join("t.yml"))
        .output();
    let output = output.expect("nightbell runs");
    let said = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
}

/// `no_data` and `recover_expr` in rule tests; a rule without them follows Prometheus.
#[test]
fn rule_tests_take_our_own_keys() {
    let (out, err, status) = tested(TestRulesArgs {
        files: vec!["own.yml".into()],
        ..TestRulesArgs::default()
    });
    assert_eq!(status, 0, "{out}{err}");
}

/// SEMANTICS 216: recorded from promtool 3.5 on the same file.
#[test]
fn duplicate_rules_are_a_finding_that_only_lint_fatal_makes_fatal() {
    let wanted = "  FAILED:\nlint error 2 duplicate rule(s) found.\nMetric: a\nLabel(s):\n\tx: y\n\tz: 1\nMetric: b\nLabel(s):\n\
                  Might cause inconsistency while recording expressions\n";
    assert_eq!(
        checked(&["duplicates.yml"], false),
        ("Checking duplicates.yml\n\n".into(), wanted.into(), 0)
    );
    assert_eq!(checked(&["duplicates.yml"], true).2, 3);
}

/// What `check metrics` writes to standard output and standard error, and its exit status.
fn checked_metrics(name: &str, extended: bool, lint: &str) -> (String, String, u8) {
    let args = CheckMetricsArgs {
        files: vec![folder("tests/lint").join(name)],
        extended,
        lint: lint.into(),
    };
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let status = check_metrics(&args, &mut out, &mut err).expect("vectors take everything");
    (
        String::from_utf8(out).expect("UTF-8"),
        String::from_utf8(err).expect("UTF-8"),
        status,
    )
}

/// SEMANTICS 215: findings, table and exit status recorded from promtool 3.5 on the same pages.
#[test]
fn metrics_are_checked_as_promtool_checks_them() {
    let recorded =
        |name: &str| fs::read_to_string(folder("tests/lint").join(name)).expect("recorded");
    assert_eq!(
        checked_metrics("unusual.prom", true, "all"),
        (String::new(), recorded("unusual.err"), 3)
    );
    assert_eq!(
        checked_metrics("unusual.prom", false, "none"),
        (String::new(), String::new(), 0)
    );
    assert_eq!(
        checked_metrics("good.prom", true, "all"),
        (recorded("good.out"), String::new(), 0)
    );
    for name in ["second_type.prom", "escape.prom", "bound.prom", "name.prom"] {
        let (out, err, status) = checked_metrics(name, false, "none");
        assert_eq!(
            (out, err, status),
            (String::new(), recorded(&name.replace(".prom", ".err")), 1),
            "{name}"
        );
    }
}

/// SEMANTICS 94 and 98: defaults, the group's labels under the rule's, further documents ignored.
#[test]
fn a_rule_file_is_read_as_prometheus_reads_it() {
    let text = "groups:\n- name: g\n  interval: 30s\n  limit: 3\n  labels: {team: a, tier: web}\n  rules:\n  - alert: A\n    expr: |\n      up == 0\n    \
                for: 5m\n    labels: {team: b}\n    annotations: {summary: down}\n  - record: r:x\n    expr: 1\n---\nother: document\n";
    let file = parse_text("r.yml", text).expect("valid");
    assert!(file.has_more);
    let group = &file.groups[0];
    assert_eq!(
        (
            group.limit,
            group.interval.map(|d| d.as_secs()),
            group.query_offset
        ),
        (3, Some(30), None)
    );
    let Rule::Alerting(alert) = &group.rules[0] else {
        panic!("an alerting rule")
    };
    assert_eq!(
        (alert.expr_text.as_str(), alert.hold.as_secs()),
        ("up == 0", 300)
    );
    assert_eq!(alert.labels.braced(), r#"{team="b", tier="web"}"#);
    assert_eq!(
        group.rules[1].labels().braced(),
        r#"{team="a", tier="web"}"#
    );
    assert_eq!(
        parse_text("empty.yml", "")
            .expect("an empty file is valid")
            .groups,
        []
    );
}

/// The shipped rules load.
#[test]
fn every_shipped_rule_file_is_valid() {
    for folder in [folder("rules"), folder("rules/profiles")] {
        for entry in fs::read_dir(folder).expect("the folder can be read") {
            let path = entry.expect("the entry can be read").path();
            if path.extension().is_some_and(|e| e == "yml") {
                let file = read(&path).unwrap_or_else(|errors| panic!("{errors}"));
                assert!(
                    file.groups.iter().any(|g| !g.rules.is_empty()),
                    "{} holds no rule",
                    path.display()
                );
            }
        }
    }
}

/// Runs tests of `tests/rules_files/unit`: standard output, standard error and exit status, without
/// times and the folder's name.
fn tested(args: TestRulesArgs) -> (String, String, u8) {
    let unit = folder("tests/rules_files/unit");
    let files = args.files.iter().map(|f| unit.join(f)).collect();
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let status = test_rules(&TestRulesArgs { files, ..args }, &mut out, &mut err)
        .expect("vectors take everything");
    (without_place(&out), without_place(&err), status)
}

fn without_place(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text).replace(
        &format!("{}/", folder("tests/rules_files/unit").display()),
        "",
    );
    let text = Regex::new("took .*")
        .expect("valid")
        .replace_all(&text, "took TIME")
        .into_owned();
    Regex::new("timestamp=\"[^\"]*\"")
        .expect("valid")
        .replace_all(&text, "timestamp=\"TIME\"")
        .into_owned()
}

fn recorded(name: &str) -> String {
    fs::read_to_string(folder("tests/rules_files/unit").join(name)).expect("recorded")
}

/// SEMANTICS 210 to 215: output and exit status recorded from promtool 3.5 on the same files with
/// the same flags.
#[test]
fn rule_tests_run_and_report_as_promtool_does() {
    let regexes = |texts: &[&str]| {
        texts
            .iter()
            .map(|text| Regex::new(text).expect("valid"))
            .collect()
    };
    let plain = TestRulesArgs::default();
    for (name, files, status, args) in [
        ("ok", vec!["ok.yml"], 0, plain.clone()),
        ("bad", vec!["bad.yml"], 1, plain.clone()),
        ("broken", vec!["broken.yml"], 1, plain.clone()),
        ("many", vec!["many.yml"], 1, plain.clone()),
        ("fuzzy", vec!["fuzzy.yml"], 1, plain.clone()),
        ("nameless", vec!["nameless.yml"], 1, plain.clone()),
        ("empties", vec!["empties.yml"], 1, plain.clone()),
        ("emptied", vec!["emptied.yml"], 1, plain.clone()),
        ("negative", vec!["negative.yml"], 1, plain.clone()),
        (
            "unmatched",
            vec!["unmatched.yml", "empty.yml"],
            0,
            plain.clone(),
        ),
        ("globbed", vec!["globbed.yml"], 0, plain.clone()),
        (
            "extended",
            vec!["extended.yml"],
            0,
            TestRulesArgs {
                ignore_unknown_fields: true,
                ..plain.clone()
            },
        ),
        ("native", vec!["native.yml"], 1, plain.clone()),
        ("followed", vec!["followed.yml"], 0, plain.clone()),
        (
            "named",
            vec!["many.yml"],
            1,
            TestRulesArgs {
                run: regexes(&["fir", "xx"]),
                ..plain.clone()
            },
        ),
        (
            "none",
            vec!["nameless.yml"],
            1,
            TestRulesArgs {
                run: regexes(&["^$", "zz"]),
                ..plain.clone()
            },
        ),
        (
            "diff",
            vec!["many.yml"],
            1,
            TestRulesArgs {
                diff: true,
                ..plain.clone()
            },
        ),
        (
            "debug",
            vec!["many.yml"],
            1,
            TestRulesArgs {
                debug: true,
                ..plain.clone()
            },
        ),
    ] {
        let (out, err, code) = tested(TestRulesArgs {
            files: files.into_iter().map(PathBuf::from).collect(),
            ..args
        });
        assert_eq!(out, recorded(&format!("{name}.out")), "{name}");
        assert_eq!(err, recorded(&format!("{name}.err")), "{name}");
        assert_eq!(code, status, "{name}");
    }
}

/// The coverage of tests: rules, label sets and outcomes of branches that no test shows.
#[test]
fn coverage_names_what_no_test_makes_fire() {
    let args = TestRulesArgs {
        files: vec!["coverage.yml".into()],
        coverage: true,
        ..TestRulesArgs::default()
    };
    let (out, err, status) = tested(args);
    assert_eq!((err.as_str(), status), ("", 0));
    compare_with_golden(&folder("tests/rules_files/unit/coverage.out"), &out);
}

/// SEMANTICS 215: the results as JUnit XML, recorded from promtool 3.5.
#[test]
fn rule_tests_write_the_junit_file_that_promtool_writes() {
    let folder = tempfile::tempdir().expect("a folder");
    let junit = folder.path().join("junit.xml");
    let files = ["many.yml", "nameless.yml", "globbed.yml"]
        .map(PathBuf::from)
        .to_vec();
    tested(TestRulesArgs {
        files,
        junit: Some(junit.clone()),
        ..TestRulesArgs::default()
    });
    assert_eq!(
        without_place(&fs::read(junit).expect("written")),
        recorded("junit.xml")
    );
}

/// SEMANTICS 94: promtool 3.5 passes over a dash alone and cuts the fraction off a limit.
#[test]
fn items_without_a_value_are_none_and_a_limit_is_cut_to_a_whole_number() {
    let text = "groups:\n-\n- name: a\n  limit: 2.9\n  rules:\n  -\n  - {record: b, expr: c}\n";
    let file = parse_text("a.yml", text).expect("promtool takes it");
    let found: Vec<_> = file
        .groups
        .iter()
        .map(|g| (g.name.as_str(), g.limit, g.rules.len()))
        .collect();
    assert_eq!(found, [("a", 2, 1)]);
    let error = parse_text("a.yml", "groups:\n- name: a\n  limit: many\n")
        .expect_err("no number")
        .to_string();
    assert!(
        error.contains("a.yml: 3:10: limit: \"many\" is not a whole number"),
        "{error}"
    );
}
