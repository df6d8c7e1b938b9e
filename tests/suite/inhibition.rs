//! Which of the shipped rules' alerts explain which: every name and label that is spoken of is
//! there, and people hear of the cause alone.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use nightbell::alerting::Incoming;
use nightbell::alerting::config::matchers::parse_matchers;
use nightbell::alerting::dispatch::Dispatch;
use nightbell::alerting::metrics::Metrics;
use nightbell::alerting::mute::inhibit::{InhibitRule, Inhibition};
use nightbell::app::{INHIBITIONS, PROFILES, RULES};
use nightbell::model::{Alert, Labels, Matcher, Timestamp};
use nightbell::notify::Notification;
use nightbell::rules::Rule;
use nightbell::rules::file::parse_text;
use nightbell::state::State;
use serde_json::Value;

use crate::alerting::{START, alert, read_config};
use crate::servers::hostile::Hostile;
use crate::servers::http_sink::{HttpSink, Reply};
use crate::servers::nightbell::Nightbell;
use crate::servers::wait_until;

/// Names of all shipped alerts.
fn shipped_alerts() -> BTreeSet<String> {
    let groups = RULES
        .iter()
        .chain(PROFILES)
        .flat_map(|rules| parse_text(rules.name, rules.text).expect("valid").groups);
    let rules = groups.flat_map(|group| group.rules);
    rules
        .filter(|rule| matches!(rule, Rule::Alerting(_)))
        .map(|rule| rule.name().to_owned())
        .collect()
}

/// The labels that the tests of the shipped rules expect of each alert.
fn labels_of_alerts() -> BTreeMap<String, Vec<Labels>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/rules");
    let mut found: BTreeMap<String, Vec<Labels>> = BTreeMap::new();
    for folder in [folder.clone(), folder.join("profiles")] {
        for path in std::fs::read_dir(folder)
            .expect("the folder")
            .map(|entry| entry.expect("an entry").path())
            .filter(|p| p.is_file())
        {
            let text = std::fs::read_to_string(&path).expect("the file");
            let file: Value =
                serde_yaml::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
            for test in file["tests"].as_array().into_iter().flatten() {
                for case in test["alert_rule_test"].as_array().into_iter().flatten() {
                    for expected in case["exp_alerts"].as_array().into_iter().flatten() {
                        let labels = expected["exp_labels"].as_object().expect("labels");
                        let labels = labels.iter().map(|(name, value)| {
                            (name.as_str(), value.as_str().unwrap_or_default())
                        });
                        let name = case["alertname"].as_str().expect("a name");
                        found
                            .entry(name.to_owned())
                            .or_default()
                            .push(Labels::from_pairs(labels).with("alertname", name));
                    }
                }
            }
        }
    }
    found
}

fn fits(matchers: &[Matcher], name: &str) -> bool {
    let named = Labels::from_pairs([("alertname", name)]);
    matchers
        .iter()
        .filter(|m| m.name == "alertname")
        .all(|m| m.matches_labels(&named))
}

/// Every inhibition names alerts that the shipped rules have, each name of a list among them, and
/// labels that these alerts carry.
#[test]
fn every_shipped_inhibition_speaks_of_alerts_and_labels_that_exist() {
    let (alerts, labels) = (shipped_alerts(), labels_of_alerts());
    for one in INHIBITIONS {
        let place = format!("{} hides {}", one.cause, one.hides);
        InhibitRule::shipped(one.cause, one.hides, one.equal)
            .unwrap_or_else(|error| panic!("{place}: {error}"));
        for text in [one.cause, one.hides] {
            let matchers = parse_matchers(text).expect("matchers");
            for matcher in matchers.iter().filter(|m| m.name == "alertname") {
                for name in matcher
                    .value
                    .split('|')
                    .filter(|name| !name.contains(['.', '+']))
                {
                    assert!(alerts.contains(name), "{place}: there is no alert {name}");
                }
            }
            let meant: Vec<&String> = alerts.iter().filter(|name| fits(&matchers, name)).collect();
            assert!(!meant.is_empty(), "{place}: {text} fits no alert");
            // What is notified of nightbell itself belongs to one target too.
            for name in meant {
                for found in labels
                    .get(name)
                    .unwrap_or_else(|| panic!("{name} has no test"))
                {
                    for label in one
                        .equal
                        .iter()
                        .map(|label| if *label == "host" { "instance" } else { label })
                    {
                        assert!(
                            found.get(label).is_some(),
                            "{place}: {name} has no label {label}: {found:?}"
                        );
                    }
                }
            }
        }
    }
}

fn firing(labels: &str, shipped: bool) -> Alert {
    Alert {
        shipped,
        ..alert(labels, Timestamp(0), None, Timestamp(0))
    }
}

/// What each cause hides, and what it does not: another target, another rule's alert of the same
/// name, what is reached on a host that is not.
#[test]
fn causes_hide_their_consequences_on_the_same_target_alone() {
    let rules: Vec<InhibitRule> = INHIBITIONS
        .iter()
        .map(|one| InhibitRule::shipped(one.cause, one.hides, one.equal).expect("a rule"))
        .collect();
    let cases = [
        (
            "alertname=RedisDown job=redis instance=cache",
            "alertname=RedisMemoryHigh job=redis instance=cache",
            true,
        ),
        (
            "alertname=RedisDown job=redis instance=cache",
            "alertname=RedisMemoryHigh job=redis instance=other",
            false,
        ),
        (
            "alertname=RedisMemoryHigh job=redis instance=cache",
            "alertname=RedisDown job=redis instance=cache",
            false,
        ),
        (
            "alertname=PostgresDown job=postgres instance=pg",
            "alertname=PostgresReplicationLag job=postgres instance=pg",
            true,
        ),
        (
            "alertname=PostgresDown job=postgres instance=pg",
            "alertname=PostgresQuerySlow job=postgres instance=pg",
            true,
        ),
        (
            "alertname=VectorStoreDown job=vector_store instance=v",
            "alertname=VectorQuerySlow job=vector_store instance=v",
            true,
        ),
        (
            "alertname=LLMDown job=llm_provider instance=l",
            "alertname=LLMNoRecentSuccess job=llm_provider instance=l",
            true,
        ),
        (
            "alertname=EndpointDown job=probe instance=e",
            "alertname=EndpointSlow job=probe instance=e",
            true,
        ),
        (
            "alertname=EndpointDown job=probe instance=e",
            "alertname=CertificateExpiresVerySoon job=probe instance=e",
            false,
        ),
        (
            "alertname=TargetDown job=app instance=a:80",
            "alertname=AppErrorRateHigh job=app instance=a:80",
            true,
        ),
        (
            "alertname=TargetDown job=app instance=a:80",
            "alertname=TargetDown job=app instance=b:80",
            false,
        ),
        (
            "alertname=TargetDown job=node instance=db1:9100",
            "alertname=PostgresDown job=pg instance=db1:5432",
            true,
        ),
        (
            "alertname=TargetDown job=node instance=db1:9100",
            "alertname=TargetDown job=app instance=db1:80",
            true,
        ),
        (
            "alertname=TargetDown job=node instance=db1:9100",
            "alertname=PostgresDown job=pg instance=main host=db1",
            true,
        ),
        (
            "alertname=TargetDown job=node instance=db1:9100",
            "alertname=PostgresDown job=pg instance=db2:5432",
            false,
        ),
        (
            "alertname=TargetDown job=node instance=db1:9100",
            "alertname=PostgresQuerySlow job=pg instance=db1:5432",
            false,
        ),
        (
            "alertname=TargetDown job=node instance=db1:9100",
            "alertname=TargetDown job=node instance=db1:9101",
            false,
        ),
        (
            "alertname=TargetDown job=node instance=[::1]:9100",
            "alertname=RedisDown job=redis instance=[::1]:6379",
            true,
        ),
        (
            "alertname=HostDiskSpaceCritical job=host instance=h mountpoint=/",
            "alertname=HostDiskSpaceLow job=host instance=h mountpoint=/",
            true,
        ),
        (
            "alertname=HostDiskSpaceCritical job=host instance=h mountpoint=/",
            "alertname=HostDiskSpaceLow job=host instance=h mountpoint=/a",
            false,
        ),
        ("alertname=RedisDown", "alertname=RedisMemoryHigh", false),
    ];
    for (cause, consequence, hidden) in cases {
        let (source, target) = (firing(cause, true), firing(consequence, true));
        let both = [source.clone(), target.clone()];
        let inhibition = Inhibition::new(&rules, both.iter());
        let wanted: Vec<&Alert> = if hidden { vec![&both[0]] } else { Vec::new() };
        assert_eq!(
            inhibition.muting(&target, false),
            wanted,
            "{cause} / {consequence}"
        );
        assert!(
            inhibition.muting(&target, true).is_empty(),
            "an end that people wait for is notified"
        );
        assert!(
            inhibition
                .muting(
                    &Alert {
                        shipped: false,
                        ..target.clone()
                    },
                    false
                )
                .is_empty(),
            "somebody else's alert"
        );
        let foreign = [
            Alert {
                shipped: false,
                ..source
            },
            target.clone(),
        ];
        assert!(
            Inhibition::new(&rules, foreign.iter())
                .muting(&target, false)
                .is_empty(),
            "somebody else's cause"
        );
    }
}

/// What two severities of a fact, or a forecast of it, say is notified once, whichever of them
/// begins first.
#[test]
fn a_fact_that_several_rules_judge_is_notified_once() {
    let rules: Vec<InhibitRule> = INHIBITIONS
        .iter()
        .map(|one| InhibitRule::shipped(one.cause, one.hides, one.equal).expect("a rule"))
        .collect();
    let facts: [&[&str]; 5] = [
        &[
            "HostMemoryHigh",
            "HostMemoryCritical",
            "HostMemoryForecastHigh",
        ],
        &["HostDiskSpaceLow", "HostDiskSpaceCritical"],
        &["AppErrorRateHigh", "AppErrorRateRaised"],
        &["AppResponseSlow", "AppResponseVerySlow"],
        &["CertificateExpiresSoon", "CertificateExpiresVerySoon"],
    ];
    for names in facts {
        let alerts: Vec<Alert> = names
            .iter()
            .map(|name| {
                firing(
                    &format!("alertname={name} job=j instance=i mountpoint=/"),
                    true,
                )
            })
            .collect();
        let inhibition = Inhibition::new(&rules, alerts.iter());
        let notified = alerts
            .iter()
            .filter(|alert| inhibition.muting(alert, false).is_empty());
        assert_eq!(notified.count(), 1, "{names:?} all fire");
        for (number, one) in alerts.iter().enumerate() {
            for other in &alerts[number + 1..] {
                let both = [one.clone(), other.clone()];
                let inhibition = Inhibition::new(&rules, both.iter());
                let notified = both
                    .iter()
                    .filter(|alert| inhibition.muting(alert, false).is_empty());
                assert_eq!(
                    notified.count(),
                    1,
                    "{:?} and {:?}",
                    one.labels,
                    other.labels
                );
            }
        }
    }
}

/// The built binary: of two alerts of the shipped rules about one database people hear of the
/// cause; a rule of their own is notified; all is notified when that is wanted.
#[test]
fn people_hear_of_the_cause_alone_unless_they_want_all() {
    for inhibit in [true, false] {
        let page = Hostile::page("sqlite_up 0\nsqlite_integrity_ok 0\n");
        let sink = HttpSink::start([Reply::Answer(200, "", "{}")]);
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("rules.yml");
        let own = "groups:\n- name: own\n  rules:\n  - {alert: SqliteDamaged, expr: sqlite_integrity_ok == 0, labels: {mine: 'yes'}}\n";
        std::fs::write(&file, own).expect("written");
        let nightbell = Nightbell::start(&format!(
            "global: {{scrape_interval: 200ms, scrape_timeout: 200ms, evaluation_interval: 200ms}}\nrules: {{inhibit: {inhibit}}}\n\
             rule_files: ['{}']\nscrape_configs: [{{job_name: app, static_configs: [{{targets: ['{}']}}]}}]\n\
             route: {{receiver: hook, group_by: ['...'], group_wait: 1s}}\n\
             receivers: [{{name: hook, webhook_configs: [{{url: '{}'}}]}}]\n",
            file.display(),
            page.address,
            sink.url
        ));
        let notified = |name: &str, mine: &str| {
            let bodies = sink
                .requests()
                .into_iter()
                .filter_map(|r| serde_json::from_str::<Value>(&r.body).ok());
            let mut labels = bodies.map(|body| body["commonLabels"].clone());
            labels.any(|labels| {
                labels["alertname"] == name && labels["mine"].as_str().unwrap_or("") == mine
            })
        };
        let json =
            |path: &str| -> Value { serde_json::from_str(&nightbell.get(path).1).expect("JSON") };
        let why = |filter: &str| {
            json(&format!(
                "/api/nightbell/why?alert=SqliteDamaged&filter={filter}"
            ))["answers"][0]
                .clone()
        };
        wait_until(
            "the cause and the rule of one's own are notified",
            Duration::from_secs(20),
            || notified("SqliteDown", "") && notified("SqliteDamaged", "yes"),
        );
        if inhibit {
            wait_until("it says what inhibits it", Duration::from_secs(20), || {
                why("mine%3D")["stage"] == "inhibited"
            });
            assert_eq!(why("mine%3D")["by"][0]["labels"]["alertname"], "SqliteDown");
            assert!(!notified("SqliteDamaged", ""), "{:?}", sink.requests());
            let alerts = json("/api/v2/alerts?filter=alertname%3DSqliteDamaged&filter=mine%3D");
            assert_eq!(
                alerts[0]["status"]["inhibitedBy"].as_array().map(Vec::len),
                Some(1),
                "{alerts}"
            );
        } else {
            wait_until("all is notified", Duration::from_secs(20), || {
                notified("SqliteDamaged", "")
            });
        }
        let shown = json("/api/v2/status")["config"]["original"]
            .as_str()
            .expect("a configuration")
            .to_owned();
        assert_eq!(
            shown.contains("alertname=\"SqliteDown\""),
            inhibit,
            "{shown}"
        );
    }
}

/// The end of an alert that people heard of is notified though its cause fires by then; one that
/// nobody heard of ends without a word.
#[tokio::test]
async fn an_end_is_notified_to_those_who_heard_of_the_beginning() {
    let mut config = read_config(
        "route: {receiver: ops, group_by: ['...'], group_wait: 1s, group_interval: 5s}\n\
         receivers: [{name: ops, webhook_configs: [{url: 'http://127.0.0.1:9/'}]}]\n",
    )
    .unwrap_or_else(|errors| panic!("{errors}"));
    let rules = INHIBITIONS
        .iter()
        .filter_map(|one| InhibitRule::shipped(one.cause, one.hides, one.equal).ok());
    config.inhibit_rules.extend(rules);
    let state = State::in_memory().await.expect("a database");
    let mut dispatch =
        Dispatch::restore(Arc::new(config), state.clone(), Metrics::default(), START).await;
    let at = |seconds: u64| START + Duration::from_secs(seconds);
    let report = |name: &str, began: u64, ended: Option<u64>| {
        let labels = format!("alertname={name} job=redis instance=cache");
        let now = at(ended.unwrap_or(began));
        Incoming::from(Alert {
            shipped: true,
            ..alert(&labels, at(began), ended.map(at), now)
        })
    };
    dispatch
        .put(vec![report("RedisMemoryHigh", 0, None)], at(0))
        .await;
    dispatch.flush(at(1)).await;
    dispatch
        .put(
            vec![
                report("RedisDown", 2, None),
                report("RedisSaveFailed", 2, None),
            ],
            at(2),
        )
        .await;
    dispatch.flush(at(3)).await;
    dispatch
        .put(
            vec![
                report("RedisMemoryHigh", 0, Some(4)),
                report("RedisSaveFailed", 2, Some(4)),
            ],
            at(4),
        )
        .await;
    for second in 5..15 {
        dispatch.flush(at(second)).await;
    }
    let notified = state
        .outbox(100)
        .await
        .expect("read")
        .into_iter()
        .map(|row| {
            let message: Notification = serde_json::from_str(&row.body).expect("a message");
            format!(
                "{} {}",
                message.alerts[0].label("alertname"),
                message.alerts[0].status.as_str()
            )
        });
    assert_eq!(
        notified.collect::<Vec<_>>(),
        [
            "RedisMemoryHigh firing",
            "RedisDown firing",
            "RedisMemoryHigh resolved"
        ]
    );
}
