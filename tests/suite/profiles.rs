//! Profiles: what each application's demands come to, in rule tests; one alert for one fact; what
//! has no input yet; the sample configurations.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use nightbell::alerting::config::matchers::parse_matchers;
use nightbell::app::{INHIBITIONS, PROFILE_SETTINGS, RULES};
use nightbell::model::Labels;
use serde_json::Value;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn names() -> impl Iterator<Item = &'static str> {
    PROFILE_SETTINGS.iter().map(|settings| settings.name)
}

/// The rule tests of a profile: `NAME.yml`, `NAME_month.yml` …
fn tests_of(profile: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(root().join("tests/rules/profiles")).expect("the folder");
    let is_its = |path: &PathBuf| {
        let stem = path
            .file_stem()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        stem == profile || stem.starts_with(&format!("{profile}_"))
    };
    entries
        .map(|entry| entry.expect("an entry").path())
        .filter(is_its)
        .collect()
}

fn nightbell(folder: &Path, words: &[&str]) -> (bool, String) {
    run(env!("CARGO_BIN_EXE_nightbell"), folder, words)
}

fn run(program: &str, folder: &Path, words: &[&str]) -> (bool, String) {
    let output = Command::new(program)
        .args(words)
        .current_dir(folder)
        .output()
        .unwrap_or_else(|e| panic!("{program}: {e}"));
    (
        output.status.success(),
        format!(
            "{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        ),
    )
}

/// The rules of each profile, as they are in force, pass its tests here and in Debian's promtool.
#[test]
fn the_rules_of_each_profile_do_what_its_guide_demands_here_and_in_promtool() {
    for profile in names() {
        let folder = tempfile::tempdir().expect("a folder");
        let config = format!("collectors: {{host: {{}}}}\nrules: {{profiles: [{profile}]}}\n");
        std::fs::write(folder.path().join("n.yml"), config).expect("written");
        let (ok, rules) = nightbell(folder.path(), &["rules", "show", "n.yml"]);
        assert!(ok, "{profile}: {rules}");
        std::fs::write(folder.path().join("rules.yml"), rules).expect("written");
        let tests = tests_of(profile);
        assert!(!tests.is_empty(), "{profile} has no tests");
        for test in tests {
            let name = test
                .file_name()
                .expect("a name")
                .to_string_lossy()
                .into_owned();
            std::fs::copy(&test, folder.path().join(&name)).expect("copied");
            for program in ["promtool", env!("CARGO_BIN_EXE_nightbell")] {
                let (ok, said) = run(program, folder.path(), &["test", "rules", &name]);
                assert!(ok, "{program}: {name}: {said}");
            }
        }
    }
}

/// Of the alerts that one fact raises, people hear of one: the others are muted by it.
#[test]
fn no_fact_of_a_profile_is_notified_twice() {
    let fits = |matchers: &str, alert: &str| {
        let named = Labels::from_pairs([("alertname", alert)]);
        let matchers = parse_matchers(matchers).expect("matchers");
        matchers
            .iter()
            .filter(|matcher| matcher.name == "alertname")
            .all(|matcher| matcher.matches_labels(&named))
    };
    let mut facts = 0;
    for file in names().flat_map(tests_of) {
        let text = std::fs::read_to_string(&file).expect("the file");
        let tests: Value = serde_yaml::from_str(&text).expect("YAML");
        for test in tests["tests"].as_array().expect("tests") {
            for check in test["promql_expr_test"]
                .as_array()
                .expect("each fact is compared with all alerts")
            {
                let samples = check["exp_samples"].as_array().cloned().unwrap_or_default();
                let alerts: Vec<String> = samples
                    .iter()
                    .map(|s| {
                        s["labels"]
                            .as_str()
                            .unwrap_or_default()
                            .split('"')
                            .nth(1)
                            .unwrap_or_default()
                            .to_owned()
                    })
                    .collect();
                let is_muted = |alert: &String| {
                    let causes = alerts.iter().filter(|cause| *cause != alert);
                    causes.into_iter().any(|cause| {
                        INHIBITIONS
                            .iter()
                            .any(|one| fits(one.cause, cause) && fits(one.hides, alert))
                    })
                };
                let heard: Vec<&String> = alerts.iter().filter(|alert| !is_muted(alert)).collect();
                assert!(
                    heard.len() <= 1,
                    "{}: {}: {heard:?}",
                    file.display(),
                    test["name"]
                );
                facts += heard.len();
            }
        }
    }
    assert!(facts > 40, "{facts} facts");
}

/// Each row of a profile is an alert that is there, and is not switched off by the profile itself.
#[test]
fn every_row_of_a_profile_names_alerts_that_are_in_force() {
    for settings in PROFILE_SETTINGS {
        let folder = tempfile::tempdir().expect("a folder");
        let config = format!(
            "collectors: {{host: {{}}}}\nrules: {{profiles: [{}]}}\n",
            settings.name
        );
        std::fs::write(folder.path().join("n.yml"), config).expect("written");
        let (_, rules) = nightbell(folder.path(), &["rules", "show", "n.yml"]);
        let alerts: BTreeSet<&str> = rules
            .lines()
            .filter_map(|line| line.strip_prefix("  - alert: "))
            .map(|name| name.trim_matches('"'))
            .collect();
        let text: Value = serde_yaml::from_str(settings.text).expect("YAML");
        let rows: BTreeMap<String, Vec<String>> =
            serde_json::from_value(text["rows"].clone()).expect("rows");
        for (row, named) in rows {
            for alert in named {
                assert!(
                    alerts.contains(alert.as_str()),
                    "{}: {row}: {alert}",
                    settings.name
                );
            }
        }
    }
    assert!(RULES.len() > 10);
}

fn check(folder: &Path, text: &str) -> String {
    std::fs::write(folder.join("n.yml"), text).expect("written");
    let (ok, said) = nightbell(folder, &["check", "config", "n.yml"]);
    assert!(ok, "{said}");
    said
}

/// Rows of a profile that nothing feeds are named with what would; one that any of several alerts
/// can be is fed by one of them.
#[test]
fn check_config_names_the_rows_of_a_profile_that_have_no_input_yet() {
    let folder = tempfile::tempdir().expect("a folder");
    let rows = |text: &str| -> Vec<String> {
        let said = check(folder.path(), text);
        said.lines()
            .filter(|line| line.contains("has nothing to read"))
            .map(|line| line.trim().trim_start_matches("WARNING: ").to_owned())
            .collect()
    };
    let said = rows("collectors: {host: {}}\nrules: {profiles: [intent]}\n");
    assert!(
        said.iter().any(|row| row == "T3 of intent (PostgresDown) has nothing to read: collectors.postgres would bring it"),
        "{said:?}"
    );
    let twice = "T2 of intent (AppErrorRateHigh, LogErrorRateHigh) has nothing to read: a target of scrape_configs that exposes http_requests_total would bring it, and so would collectors.access_log; a target of scrape_configs that exposes llmchat_http_requests_total would bring it; collectors.log_file would bring it";
    assert!(said.iter().any(|row| row == twice), "{said:?}");
    assert!(
        said.iter().any(|row| row.starts_with(
            "T28 of intent (AppComponentDown) has nothing to read: a metric of the name app_component_up in collectors.json_api"
        )),
        "{said:?}"
    );
    assert!(
        !said.iter().any(|row| row.contains("HostDiskSpaceLow")),
        "{said:?}"
    );
    let health = "metrics: [{name: app_component_up, for_each: ., value: status, labels: {component: $key}}]";
    let fed = format!(
        "collectors: {{host: {{}}, log_file: [{{name: a, path: /x}}], json_api: [{{name: d, url: 'http://127.0.0.1:1/', {health}}}]}}\nrules: {{profiles: [intent]}}\n"
    );
    let said = rows(&fed);
    assert!(
        !said.iter().any(|row| ["T2 ", "T20 ", "T28 ", "C13 "]
            .iter()
            .any(|fed| row.starts_with(fed))),
        "{said:?}"
    );
    // What is scraped may bring anything but what collectors alone measure.
    let scraped = "collectors: {host: {}}\nscrape_configs: [{job_name: a, static_configs: [{targets: ['127.0.0.1:1']}]}]\nrules: {profiles: [intent]}\n";
    let said: Vec<String> = rows(scraped)
        .iter()
        .filter_map(|row| row.split(" of intent").next().map(str::to_owned))
        .collect();
    assert_eq!(said, ["C13", "C18", "C8", "T24", "T26", "T28"]);
}

/// Two applications on one nightbell may want different figures of one rule: the later one decides,
/// and that is said.
#[test]
fn of_two_profiles_that_disagree_the_later_one_decides_and_that_is_said() {
    let folder = tempfile::tempdir().expect("a folder");
    let text = "collectors: {host: {}}\nrules: {profiles: [agent-v3, llmchat]}\n";
    let said = check(folder.path(), text);
    assert!(
        said.contains(
            "WARNING: rules.profiles: memory.warning is what llmchat says, not what agent-v3 says; write it under thresholds to decide"
        ),
        "{said}"
    );
    assert!(!said.contains("disk_free"), "they agree: {said}");
    let (_, rules) = nightbell(folder.path(), &["rules", "show", "n.yml"]);
    assert!(rules.contains("MemTotal_bytes > 0.8\"") && !rules.contains("MemTotal_bytes > 0.85\""));
}

/// The sample configuration of each profile is accepted with its example of an environment, and
/// feeds every row that it can.
#[test]
fn the_sample_of_each_profile_is_accepted_and_feeds_its_rows() {
    for profile in names() {
        let folder = root().join("deploy/profiles");
        let (file, environment) = (format!("{profile}.yml"), format!("{profile}.env.example"));
        let (ok, said) = nightbell(
            &folder,
            &["check", "config", &file, "--env-file", &environment],
        );
        assert!(ok, "{said}");
        let unfed: Vec<&str> = said
            .lines()
            .filter(|line| line.contains("WARNING"))
            .collect();
        assert!(unfed.is_empty(), "{profile}: {unfed:?}");
        assert!(
            std::fs::read_to_string(folder.join(&file))
                .is_ok_and(|text| text.contains(&format!("profiles: [{profile}]")))
        );
    }
}
