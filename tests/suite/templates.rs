//! Templates against the real programs: what `amtool template render` of Alertmanager 0.33 printed
//! for hundreds of them, byte for byte.

use std::fs;
use std::path::{Path, PathBuf};

use nightbell::config::glob;
use nightbell::template::{AlertData, Library, NotificationData, Template};
use serde_json::Value;

type Pairs = Vec<(String, String)>;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/notify/templates")
}

fn pairs(of: &Value) -> Pairs {
    of.as_object()
        .into_iter()
        .flatten()
        .map(|(name, value)| (name.clone(), value.as_str().unwrap_or("").to_owned()))
        .collect()
}

fn milliseconds(time: &Value) -> Option<i64> {
    let time: jiff::Timestamp = time.as_str()?.parse().ok()?;
    (time.as_second() > 0).then(|| time.as_millisecond())
}

/// Renders a template over one of the recorded data files; an error is Go's text.
fn render(html: bool, data: &str, template: &str, library: &Library) -> Result<String, String> {
    let text = fs::read_to_string(folder().join(format!("data/{data}.json")))
        .expect("the data are part of the project");
    let data: Value = serde_json::from_str(&text).expect("the data are JSON");
    let field = |value: &'_ Value, name: &str| value[name].as_str().unwrap_or("").to_owned();
    let alerts: Vec<(Value, Pairs, Pairs)> = data["alerts"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|a| (a.clone(), pairs(&a["labels"]), pairs(&a["annotations"])))
        .collect();
    let [group, labels, annotations] =
        ["groupLabels", "commonLabels", "commonAnnotations"].map(|name| pairs(&data[name]));
    let alerts = alerts.iter().map(|(alert, labels, annotations)| AlertData {
        status: alert["status"].as_str().unwrap_or(""),
        labels,
        annotations,
        starts_at_ms: milliseconds(&alert["startsAt"]).unwrap_or(0),
        ends_at_ms: milliseconds(&alert["endsAt"]),
        generator_url: alert["generatorURL"].as_str().unwrap_or(""),
        fingerprint: alert["fingerprint"].as_str().unwrap_or(""),
    });
    let data = NotificationData {
        receiver: &field(&data, "receiver"),
        status: &field(&data, "status"),
        alerts: alerts.collect(),
        group_labels: &group,
        common_labels: &labels,
        common_annotations: &annotations,
        external_url: &field(&data, "externalURL"),
        reason: &field(&data, "notification_reason"),
        at_ms: 1_435_784_400_000,
    };
    Template::notification(template, library)
        .map_err(|mistake| mistake.to_string())?
        .notify(&data, html)
        .map_err(|error| error.to_string())
}

fn library() -> Library {
    let mut library = Library::default();
    for file in glob(&folder().join("*.tmpl")).expect("it is a pattern") {
        library.add_file(&file).expect("the file is sound");
    }
    library
}

/// SEMANTICS 175 to 178, and the texts of the errors where nightbell gives the same.
#[test]
fn every_recorded_template_prints_what_amtool_prints_or_fails_as_it_does() {
    let library = library();
    let text = fs::read_to_string(folder().join("cases.jsonl"))
        .expect("the recorded cases are part of the project");
    let cases: Vec<(String, String, String, bool, String)> = text
        .lines()
        .map(|line| serde_json::from_str(line).expect("one JSON array per line"))
        .collect();
    assert!(
        cases.len() > 300 && cases.iter().filter(|case| !case.3).count() > 80,
        "the corpus is nearly empty"
    );
    let (mut wrong, mut reworded) = (Vec::new(), Vec::new());
    for (kind, data, template, good, wanted) in &cases {
        let got = render(kind == "html", data, template, &library);
        let difference =
            || format!("{kind} {data} {template:?}\n   got  {got:?}\n   want {good} {wanted:?}");
        match &got {
            Ok(text) if *good && text == wanted => {}
            Err(error) if !*good && error == wanted => {}
            Err(_) if !*good => reworded.push(difference()),
            _ => wrong.push(difference()),
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of {} differ:\n{}",
        wrong.len(),
        cases.len(),
        wrong.join("\n")
    );
    // Both fail; most say it in the same words and name the same place.
    assert!(
        reworded.len() <= 34,
        "{} errors are worded otherwise:\n{}",
        reworded.len(),
        reworded.join("\n")
    );
}

/// The same with the amtool that Debian installs, live: what it knows prints the same.
#[test]
fn debians_amtool_prints_the_same_for_what_it_knows() {
    let library = library();
    for (kind, template) in [
        (
            "text",
            "{{ .Receiver }} {{ .Status | toUpper }} {{ .ExternalURL }} {{ len .Alerts.Firing }}",
        ),
        (
            "text",
            "{{ range .Alerts }}{{ .Labels.SortedPairs.Values | join \" \" }}|{{ .StartsAt.Unix }}|{{ .EndsAt.IsZero }};{{ end }}",
        ),
        (
            "text",
            "{{ (.CommonLabels.Remove .GroupLabels.Names).Names | join \",\" }}[{{ .CommonLabels.none }}]",
        ),
        (
            "text",
            "{{ reReplaceAll \"(.*):.*\" \"$1\" \"node1:9100\" }} {{ match \"^Hi\" .CommonLabels.alertname }} {{ title \"aLPHA beta\" }}",
        ),
        (
            "text",
            "{{ printf \"%05.1f|%-6s|%q|%d%%\" 3.14159 \"ab\" \"c\\\"d\" 7 }} {{ stringSlice \"a\" \"b\" }} {{ print 1 2 \"x\" 3 }}",
        ),
        ("text", "{{ template \"custom.title\" . }}"),
        (
            "html",
            "<a href=\"{{ .CommonAnnotations.runbook_url }}\" title=\"{{ .CommonAnnotations.summary }}\">{{ .CommonAnnotations.summary }}</a>",
        ),
        (
            "html",
            "{{ safeHtml \"<b>\" }}{{ \"<b>\" }}<a href=\"{{ \"javascript:x\" }}\">{{ .Alerts | len }}</a>",
        ),
        ("text", "{{ .Nope }}"),
        ("text", "{{ toUpper }}"),
        ("text", "{{ if }}"),
        ("text", "{{ nope }}"),
    ] {
        let mut amtool = std::process::Command::new("amtool");
        amtool
            .args(["template", "render"])
            .arg(format!("--template.type={kind}"))
            .arg(format!("--template.text={template}"));
        amtool.arg(format!(
            "--template.glob={}/custom.tmpl",
            folder().display()
        ));
        let ran = amtool
            .arg(format!(
                "--template.data={}/data/firing.json",
                folder().display()
            ))
            .output()
            .expect("amtool is installed");
        let got = render(kind == "html", "firing", template, &library);
        match got {
            Ok(text) => {
                assert_eq!(
                    (
                        ran.status.success(),
                        String::from_utf8_lossy(&ran.stdout).as_ref()
                    ),
                    (true, text.as_str()),
                    "{template}"
                )
            }
            Err(error) => assert!(!ran.status.success(), "{template}: {error}"),
        }
    }
}

/// SEMANTICS 129 to 134: the labels and annotations that Prometheus 3.5 makes of 139 templates,
/// every function among them, and its words for those that fail. The file is a test in promtool's
/// format; a newer `parseDuration` takes a sign, too.
#[test]
fn every_recorded_template_of_a_rule_gives_what_prometheus_gives() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/rules_files/templates/templates_test.yml");
    assert!(
        fs::read_to_string(&file)
            .expect("recorded")
            .matches("alertname:")
            .count()
            > 130,
        "the corpus is nearly empty"
    );
    let ran = std::process::Command::new(env!("CARGO_BIN_EXE_nightbell"))
        .args(["test", "rules"])
        .arg(file)
        .output()
        .expect("it runs");
    let notified =
        String::from_utf8_lossy(&ran.stdout).into_owned() + &String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success(), "{notified}");
}

/// SEMANTICS 96, 97: what `promtool check rules` 3.5 accepts and refuses, nearly always in the same
/// words. (A value given to a variable that was never declared is refused here already; Prometheus
/// fails when it runs.)
#[test]
fn a_template_is_refused_when_the_rules_are_read_where_prometheus_refuses_it() {
    let file =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/rules_files/templates/loading.jsonl");
    let text = fs::read_to_string(file).expect("the recorded cases are part of the project");
    let (mut wrong, mut reworded) = (Vec::new(), Vec::new());
    for line in text.lines() {
        let (template, accepted, wanted): (String, bool, String) =
            serde_json::from_str(line).expect("one JSON array per line");
        match nightbell::template::check("A", &template) {
            Ok(()) if accepted => {}
            Err(error) if !accepted && error.to_string() == wanted => {}
            Err(error) if !accepted => {
                reworded.push(format!("{template:?}\n   got  {error}\n   want {wanted}"))
            }
            got => wrong.push(format!(
                "{template:?}\n   got  {got:?}\n   want {accepted} {wanted}"
            )),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(reworded.len() <= 12, "{}", reworded.join("\n"));
}
