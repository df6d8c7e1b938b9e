//! PromQL's syntax against Prometheus 3.5: the verdict, the canonical form and the error text of
//! hundreds of expressions, recorded from the real server's `/api/v1/format_query`.

use std::fs;
use std::path::Path;
use std::process::Command;

use nightbell::promql::{ParseOptions, parse, parse_with};

/// The recorded cases of a file: expression, whether it is valid, and the canonical form or the
/// error.
fn cases(file: &str) -> Vec<(String, bool, String)> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/promql_syntax")
        .join(file);
    let text = fs::read_to_string(&path).expect("the recorded cases are part of the project");
    text.lines()
        .map(|line| serde_json::from_str(line).expect("one JSON array per line"))
        .collect()
}

fn differences(file: &str, options: ParseOptions) -> (usize, Vec<String>) {
    let cases = cases(file);
    let count = cases.len();
    let wrong = cases.into_iter().filter_map(|(text, valid, wanted)| {
        let got = match parse_with(&text, options) {
            Ok(expr) => (true, expr.to_string()),
            Err(e) => (false, e.to_string()),
        };
        (got != (valid, wanted.clone()))
            .then(|| format!("{text:?}\n   got {got:?}\n  want {:?}", (valid, wanted)))
    });
    (count, wrong.collect())
}

/// SEMANTICS 47 to 51 and 91 to 92: the stable language.
#[test]
fn every_recorded_expression_is_read_printed_and_refused_as_prometheus_does() {
    for file in ["cases.jsonl", "generated.jsonl"] {
        let (count, wrong) = differences(file, ParseOptions::default());
        assert!(count > 200, "{file} is nearly empty");
        assert!(
            wrong.is_empty(),
            "{file}: {} of {count} differ:\n{}",
            wrong.len(),
            wrong.join("\n")
        );
    }
}

/// SEMANTICS 53: recorded from a server with `--enable-feature=promql-experimental-functions`.
#[test]
fn experimental_functions_need_the_switch() {
    let (count, wrong) = differences("experimental.jsonl", ParseOptions { experimental: true });
    assert!(
        count > 10 && wrong.is_empty(),
        "{} of {count} differ:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    for (text, valid, _) in cases("experimental.jsonl") {
        assert!(
            !valid || parse(&text).is_err(),
            "{text} must need the switch"
        );
    }
}

/// SEMANTICS 53: the switch that users have, for every command.
#[test]
fn the_command_line_enables_experimental_functions() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("rules.yml");
    fs::write(
        &file,
        "groups:\n- name: g\n  rules:\n  - {alert: A, expr: 'mad_over_time(x[5m]) > 1'}\n",
    )
    .expect("writable");
    let check = |words: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_nightbell"));
        let output = command
            .args(words)
            .args(["check", "rules"])
            .arg(&file)
            .output()
            .expect("nightbell runs");
        (
            output.status.code(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        )
    };
    let (status, error) = check(&[]);
    assert!(
        status == Some(1) && error.contains("function \"mad_over_time\" is not enabled"),
        "{status:?} {error}"
    );
    assert_eq!(
        check(&["--enable-feature=promql-experimental-functions,native-histograms"]),
        (Some(0), String::new())
    );
    let (status, error) = check(&["--enable-feature", "time-travel"]);
    assert!(
        status == Some(1) && error.contains("unknown feature in --enable-feature: time-travel"),
        "{status:?} {error}"
    );
}

/// SEMANTICS 48, 53: stable since 3.14, unlike in the 3.5 that recorded the other cases; printed as
/// the sum that they are.
#[test]
fn arithmetic_in_durations_and_first_over_time_need_no_switch() {
    for (text, printed) in [
        ("a[5m+1m]", "a[6m]"),
        ("a[(5m)]", "a[5m]"),
        ("a[1h:2*30s]", "a[1h:1m]"),
        ("a offset (5m - 30s)", "a offset 4m30s"),
        ("a offset -(2 ^ 3 * 1s)", "a offset -8s"),
        ("first_over_time(a[5m])", "first_over_time(a[5m])"),
    ] {
        assert_eq!(
            parse(text).map(|e| e.to_string()).as_deref(),
            Ok(printed),
            "from {text}"
        );
    }
    for (text, error) in [
        ("a[5m / 0]", "1:6: parse error: division by zero"),
        (
            "a[5m - 5m]",
            "1:3: parse error: duration must be greater than 0",
        ),
        (
            "a[5m +]",
            "1:7: parse error: unexpected \"]\" in subquery selector, expected number or duration",
        ),
    ] {
        assert_eq!(
            parse(text)
                .map(|e| e.to_string())
                .map_err(|e| e.to_string()),
            Err(error.to_owned()),
            "from {text}"
        );
    }
}

/// What is printed reads back as the same text: the canonical form is a fixed point.
#[test]
fn the_canonical_form_is_a_fixed_point() {
    for (text, _, printed) in cases("cases.jsonl")
        .into_iter()
        .chain(cases("generated.jsonl"))
        .filter(|c| c.1)
    {
        // An infinite sign and a folded unary plus are printed in a form that reads as a sign and a
        // number.
        let again = parse(&printed).map(|e| e.to_string());
        assert_eq!(again.as_deref(), Ok(printed.as_str()), "from {text}");
    }
}

#[test]
fn hostile_expressions_are_refused_without_harm() {
    let deep =
        |open: &str, close: &str| format!("{}a{}", open.repeat(100_000), close.repeat(100_000));
    for text in [
        deep("(", ")"),
        deep("-", ""),
        deep("abs(", ")"),
        deep("sum by (x) (", ")"),
        "a+".repeat(100_000) + "a",
        "a^".repeat(100_000) + "a",
        "a".to_owned() + &"[1m:]".repeat(100_000),
        format!("a[{}1m]", "-".repeat(100_000)),
        format!("a[{}1m]", "(".repeat(100_000)),
        "a or ".repeat(300_000),
        format!("a{{b=~\"{}\"}}", "(".repeat(100_000)),
        format!("a{{b=~\"{}\"}}", "(x{900})".repeat(5_000)),
    ] {
        parse(&text).expect_err("must be refused");
    }
}

/// A long rule is no attack.
#[test]
fn a_chain_of_four_hundred_operators_is_read() {
    let text = vec!["a"; 400].join(" or ");
    assert_eq!(parse(&text).expect("valid").to_string(), text);
}

/// Prometheus takes each of these, and far higher ones: they are read, checked, copied, compared
/// and printed on the small stack of a thread.
#[test]
fn chains_and_nests_of_a_thousand_are_read_and_printed() {
    let nest = |open: &str, count: usize, close: &str| {
        format!("{}vector(1){}", open.repeat(count), close.repeat(count))
    };
    let chain = |operator: &str, count: usize| vec!["vector(1)"; count].join(operator);
    let texts = [
        chain(" or ", 1900),
        chain(" + ", 1900),
        chain(" ^ ", 1900),
        chain(" == bool ", 1900),
        nest("(", 1900, ")"),
        nest("-", 1900, ""),
        nest("abs(", 1900, ")"),
        nest("sum(", 1900, ")"),
        nest("topk(1, ", 1900, ")"),
        nest("vector(1) or (", 900, ")"),
        nest("max_over_time(", 900, "[1m:1m])"),
        nest("label_replace(", 1900, ", \"a\", \"b\", \"c\", \"d\")"),
    ];
    for text in texts {
        let shown = &text[..text.len().min(40)];
        let read = std::thread::Builder::new().stack_size(512 << 10).spawn({
            let text = text.clone();
            move || {
                let expr = parse(&text).unwrap_or_else(|error| panic!("{}: {error}", &text[..40]));
                assert!(expr.clone() == expr && !format!("{:?}", expr.value_type()).is_empty());
                assert_eq!(expr.selectors().len(), 0);
                let printed = expr.to_string();
                assert_eq!(
                    parse(&printed)
                        .expect("what is printed is read")
                        .to_string(),
                    printed
                );
            }
        });
        assert!(read.expect("a thread").join().is_ok(), "{shown}");
    }
    for (text, words) in [
        (
            nest("(", 2100, ")"),
            "expression is more than 2000 levels high",
        ),
        (
            nest("(", 100_000, ")"),
            "expression nests deeper than 4000 levels",
        ),
        (
            nest("-", 100_000, ""),
            "expression nests deeper than 4000 levels",
        ),
        (
            chain(" or ", 2100),
            "expression is more than 2000 levels high",
        ),
    ] {
        let error = parse(&text).expect_err("too high").to_string();
        assert!(error.contains(words), "{error}");
    }
}
