//! Figures that are set by name: each changes its rule and what the rule says of itself, and what
//! is wrong with one is said with its place.

use std::process::Command;

use nightbell::rules::file::{RuleFile, parse_text};
use nightbell::rules::threshold::{FIGURES, comparisons};
use nightbell::rules::{AlertingRule, Rule};

/// The rules that a configuration puts in force; the error is what it says instead.
fn shown(rules: &str) -> Result<RuleFile, String> {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(
        folder.path().join("n.yml"),
        format!("collectors: {{host: {{}}}}\n{rules}"),
    )
    .expect("written");
    let output = Command::new(env!("CARGO_BIN_EXE_nightbell"))
        .args(["rules", "show", "n.yml"])
        .current_dir(folder.path())
        .output();
    let output = output.expect("nightbell runs");
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    Ok(parse_text("shown", &String::from_utf8_lossy(&output.stdout)).expect("a rule file"))
}

fn alerts(file: &RuleFile) -> Vec<&AlertingRule> {
    let rules = file.groups.iter().flat_map(|group| &group.rules);
    rules
        .filter_map(|rule| {
            if let Rule::Alerting(alert) = rule {
                Some(alert)
            } else {
                None
            }
        })
        .collect()
}

fn alert<'a>(file: &'a RuleFile, name: &str) -> &'a AlertingRule {
    alerts(file)
        .into_iter()
        .find(|alert| alert.name == name)
        .unwrap_or_else(|| panic!("{name} is not there"))
}

const PROFILES: &str = "profiles: [llmchat, multi-agent, aigc]";

/// Each named figure stands in the expressions of its rules and in what they say, and follows what
/// is set; nothing else changes.
#[test]
fn every_named_figure_changes_its_rules_and_what_they_say() {
    // Profiles switch off what others name; all rules are wanted here.
    let standard = shown("").expect("valid");
    let named: Vec<&str> = FIGURES
        .iter()
        .flat_map(|figure| figure.alerts)
        .copied()
        .collect();
    let wanted: Vec<&AlertingRule> = alerts(&standard)
        .into_iter()
        .filter(|alert| named.contains(&alert.name.as_str()))
        .collect();
    let on = |gone: &[&str]| -> String {
        let level = |alert: &AlertingRule| match gone.contains(&alert.name.as_str()) {
            true => format!("{}: off, ", alert.name),
            false => format!(
                "{}: {{{}: on}}, ",
                alert.name,
                alert.labels.value("severity")
            ),
        };
        wanted.iter().map(|alert| level(alert)).collect()
    };
    let all = shown(&format!(
        "rules: {{{PROFILES}, thresholds: {{{}}}}}\n",
        on(&[])
    ))
    .expect("valid");
    for figure in FIGURES {
        for name in figure.alerts {
            let before = alert(&all, name);
            let old = comparisons(&before.expr);
            assert!(
                !old.is_empty() && old.iter().all(|one| *one == old[0]),
                "{name}: {}",
                before.expr_text
            );
            let said = before.annotations.value("threshold");
            assert!(
                said.contains(&figure.unit.write(old[0].value)),
                "{name}: {said:?} does not say {}",
                figure.unit.write(old[0].value)
            );
            let (value, text) = match figure.unit.wanted() {
                share if share.contains("share") => (0.37, "37%"),
                time if time.contains("time") => (420.0, "7m"),
                size if size.contains("size") => (7e6, "7MB"),
                _ => (7.0, "7"),
            };
            // The other severities go, so that no order is broken.
            let severity = before.labels.value("severity");
            let others: Vec<&str> = figure
                .alerts
                .iter()
                .filter(|other| *other != name)
                .copied()
                .collect();
            let on = on(&others);
            let set = shown(&format!(
                "rules: {{{PROFILES}, thresholds: {{{on}{}: {{{severity}: {text}}}}}}}\n",
                figure.name
            ));
            let set = set.unwrap_or_else(|error| panic!("{}: {error}", figure.name));
            let after = alert(&set, name);
            assert!(
                comparisons(&after.expr)
                    .iter()
                    .all(|one| one.value == value && one.op == old[0].op),
                "{name}: {}",
                after.expr_text
            );
            assert_eq!(
                after.annotations.value("threshold"),
                said.replace(&figure.unit.write(old[0].value), &figure.unit.write(value))
            );
            assert_eq!(
                after.annotations.value("summary_zh"),
                before.annotations.value("summary_zh")
            );
            assert_eq!(
                (after.hold, &after.labels),
                (before.hold, &before.labels),
                "{name}"
            );
            for other in alerts(&set)
                .iter()
                .filter(|other| !figure.alerts.contains(&other.name.as_str()))
            {
                assert_eq!(
                    other.expr_text,
                    alert(&all, &other.name).expr_text,
                    "{name}"
                );
            }
        }
    }
}

/// docs/rules.md lists every figure with its defaults; `NIGHTBELL_UPDATE=1` writes it.
#[test]
fn the_table_of_figures_is_up_to_date() {
    let file = shown("rules: {profiles: [llmchat, aigc]}\n").expect("valid");
    let standard = shown("").expect("valid");
    let multi_agent = shown("rules: {profiles: [multi-agent]}\n").expect("valid");
    let level = |name: &str| -> String {
        let found = [&standard, &file, &multi_agent]
            .into_iter()
            .find_map(|file| alerts(file).into_iter().find(|alert| alert.name == name));
        let alert = found.unwrap_or_else(|| panic!("{name} is nowhere"));
        let figure = FIGURES
            .iter()
            .find(|figure| figure.alerts.contains(&name))
            .expect("a figure");
        let one = comparisons(&alert.expr)[0];
        format!(
            "{} {} {}",
            alert.labels.value("severity"),
            one.op.as_str(),
            figure.unit.write(one.value)
        )
    };
    let row = |figure: &nightbell::rules::threshold::Figure| {
        let levels: Vec<String> = figure.alerts.iter().map(|name| level(name)).collect();
        let alerts: Vec<String> = figure
            .alerts
            .iter()
            .map(|name| format!("`{name}`"))
            .collect();
        format!(
            "| `{}` | {} | {} | {} |\n",
            figure.name,
            figure.meaning,
            levels.join(", "),
            alerts.join(", ")
        )
    };
    let table: String = FIGURES.iter().map(row).collect();
    let table = format!("| figure | what | default | alerts |\n|---|---|---|---|\n{table}");
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/rules.md");
    let text = std::fs::read_to_string(&path).expect("the page");
    let (before, rest) = text
        .split_once("| figure |")
        .or_else(|| text.split_once("FIGURES\n"))
        .expect("the table");
    let (_, after) = rest.split_once("\n## Profiles").expect("the next part");
    let wanted = format!("{before}{table}\n## Profiles{after}");
    if std::env::var_os("NIGHTBELL_UPDATE").is_some() {
        std::fs::write(&path, &wanted).expect("written");
    }
    assert_eq!(
        std::fs::read_to_string(&path).expect("the page"),
        wanted,
        "docs/rules.md: NIGHTBELL_UPDATE=1 writes it"
    );
}

/// `for`, `window` and the severity are set beside a figure; `off` takes a rule away.
#[test]
fn a_severity_a_window_and_a_duration_are_set_beside_a_figure() {
    let set = "thresholds: {memory: {warning: 80%, critical: off}, cpu: {critical: {figure: 70%, for: 1m}}, response_time_p95: off, \
               log_errors: {critical: {figure: 3, window: 1d}}, container_memory: {warning: {for: 10m}}, EndpointSlow: {warning: on}, SqliteBusy: off}";
    let file = shown(&format!("rules: {{{set}}}\n")).expect("valid");
    let names: Vec<&str> = alerts(&file)
        .iter()
        .map(|alert| alert.name.as_str())
        .collect();
    for gone in [
        "HostMemoryCritical",
        "AppResponseSlow",
        "AppResponseVerySlow",
        "SqliteBusy",
    ] {
        assert!(!names.contains(&gone), "{gone}");
    }
    assert!(file.groups.iter().all(|group| !group.rules.is_empty()));
    let memory = alert(&file, "HostMemoryHigh");
    assert_eq!(
        (
            memory.expr_text.ends_with("> 0.8"),
            memory.annotations.value("threshold")
        ),
        (true, "> 80 %")
    );
    let cpu = alert(&file, "HostCpuHigh");
    assert_eq!(
        (
            cpu.labels.value("severity"),
            cpu.hold.as_secs(),
            cpu.annotations.value("threshold")
        ),
        ("critical", 60, "> 70 %")
    );
    let lines = alert(&file, "LogErrorsMany");
    assert_eq!(
        lines.expr_text,
        "sum by (job, instance) (increase(log_lines_total{level=~\"error|critical\"}[1d])) > 3"
    );
    assert_eq!(lines.annotations.value("threshold"), "> 3 in 1d");
    let (english, chinese) = (
        lines.annotations.value("summary"),
        lines.annotations.value("summary_zh"),
    );
    assert!(
        english.contains("error lines in 1d{{")
            && english.contains("[1d]")
            && !english.contains("1h"),
        "{english}"
    );
    assert!(
        chinese.contains("：1d 内有") && !chinese.contains("1h"),
        "{chinese}"
    );
    let container = alert(&file, "ContainerMemoryHigh");
    assert_eq!(
        (
            container.hold.as_secs(),
            container.annotations.value("threshold")
        ),
        (600, "> 85 % for 10 min")
    );
    assert_eq!(
        alert(&file, "EndpointSlow").labels.value("severity"),
        "warning"
    );
}

/// A wrong name, unit, order or severity is refused with file, line, key and remedy.
#[test]
fn what_is_wrong_with_a_threshold_is_said_with_its_place_and_remedy() {
    for (set, wanted) in [
        (
            "memry: {warning: 80%}",
            "n.yml:4:12: rules.thresholds.memry: is not the name of a figure or of an alert; did you mean \"memory\"?",
        ),
        (
            "memory: {warning: 80}",
            "n.yml:4:23: rules.thresholds.memory.warning: \"80\" is not valid here; give a share such as 80%, or off",
        ),
        (
            "memory: {warnin: 80%}",
            "n.yml:4:14: rules.thresholds.memory.warnin: unknown key; did you mean \"warning\"?",
        ),
        (
            "memory: 80%",
            "n.yml:4:13: rules.thresholds.memory: does not say for which severity; write memory: {warning: …, critical: …}, or off",
        ),
        (
            "memory: {warning: 97%}",
            "n.yml:4:23: rules.thresholds.memory.warning: warning at 97 % comes no earlier than critical at 95 %; set both warning and critical of memory, or one of them to off",
        ),
        (
            "disk_free: {critical: 20%}",
            "rules.thresholds.disk_free.critical: warning at 20 % comes no earlier than critical at 20 %; set both",
        ),
        (
            "memory: {info: 50%}",
            "rules.thresholds.memory.info: memory has no rule of this severity; there is critical, warning",
        ),
        (
            "HostMemoryHi: off",
            "rules.thresholds.HostMemoryHi: no rule HostMemoryHi is loaded; did you mean \"HostMemoryHigh\"?",
        ),
        (
            "heap: {warning: 80%}",
            "rules.thresholds.heap.warning: no rule LLMChatHeapFull is loaded; ",
        ),
        (
            "error_rate: {warning: {window: 1d}}",
            "rules.thresholds.error_rate.warning: AppErrorRateRaised has no window of its own; leave window out",
        ),
        (
            "SqliteBusy: {warning: 3}",
            "rules.thresholds.SqliteBusy.warning: names an alert, whose figure has no name; write on, off, or {for: 5m}",
        ),
        (
            "cpu: {warning: {figure: 90%, fro: 1m}}",
            "rules.thresholds.cpu.warning.fro: unknown key; known here: figure, for, window",
        ),
    ] {
        let said = shown(&format!("rules:\n  thresholds:\n    {set}\n")).expect_err(set);
        assert!(said.contains(wanted), "{set}:\n{said}\nwanted {wanted}");
    }
}
