//! The maintenance calendar, with the built binary: tasks outlive `kill -9`, jobs count, windows
//! silence beforehand.

use std::time::Duration;

use nightbell::model::Timestamp;
use serde_json::Value;

use crate::check_health::said;
use crate::servers::nightbell::Nightbell;
use crate::servers::wait_until;

fn tasks(nightbell: &Nightbell) -> Vec<Value> {
    nightbell.json("/api/nightbell/maintenance")["data"]["tasks"]
        .as_array()
        .cloned()
        .unwrap_or_default()
}

#[test]
fn a_task_done_by_hand_is_remembered_through_kill_9_and_alerted_when_it_is_overdue() {
    let mut nightbell = Nightbell::start(
        "global: {scrape_interval: 1s, evaluation_interval: 1s}\n\
         maintenance:\n- {name: reindex, every: 1d, grace: 0s, of: intent, hint: 'REINDEX DATABASE intent_system'}\n\
         - {name: audit, schedule: '0 3 1 */3 *', timezone: Asia/Shanghai}\ncollectors: {}\n",
    );
    let url = format!("http://127.0.0.1:{}", nightbell.port);
    let command = |words: &[&str]| said(&[&["maintenance"], words, &["--url", &url]].concat());
    let (status, text) = command(&["list"]);
    assert_eq!(
        status, 0,
        "nothing is overdue when it is first seen: {text}"
    );
    assert!(
        text.contains("reindex") && text.contains("audit") && text.contains("REINDEX DATABASE"),
        "{text}"
    );
    let (status, text) = command(&["done", "rindex", "--by", "li"]);
    assert!(
        status == 1 && text.contains("there is reindex, audit"),
        "{text}"
    );
    let (status, text) = command(&[
        "done",
        "reindex",
        "--by",
        "li",
        "--at",
        "2999-01-01T00:00:00Z",
    ]);
    assert!(status == 1 && text.contains("in the future"), "{text}");

    let days_ago = (Timestamp::now() - Duration::from_secs(3 * 86_400)).rfc3339();
    assert_eq!(
        command(&[
            "done",
            "reindex",
            "--by",
            "李雷",
            "--at",
            &days_ago,
            "--note",
            "took 3 min"
        ])
        .0,
        0
    );
    nightbell.kill();
    nightbell.restart();
    wait_until("it is overdue", Duration::from_secs(30), || {
        nightbell.metric("nightbell_maintenance_task_overdue{task=\"reindex\",of=\"intent\"")
            == Some(1.0)
            || nightbell
                .get("/metrics")
                .1
                .contains("nightbell_maintenance_task_overdue{of=\"intent\",task=\"reindex\"} 1")
            || tasks(&nightbell)[0]["overdue"] == true
    });
    assert_eq!(
        (
            &tasks(&nightbell)[0]["by"],
            &tasks(&nightbell)[0]["lastDone"]
        ),
        (&Value::from("李雷"), &Value::from(days_ago))
    );
    wait_until("its alert fires", Duration::from_secs(30), || {
        nightbell
            .get("/api/v2/alerts")
            .1
            .contains("MaintenanceOverdue")
    });
    assert!(
        nightbell
            .get("/api/v2/alerts")
            .1
            .contains("维护任务 reindex（intent）已超期")
    );
    let (status, text) = command(&["list"]);
    assert!(status == 1 && text.contains("OVERDUE"), "{text}");
    assert_eq!(command(&["done", "reindex", "--by", "han"]).0, 0);
    wait_until("the alert ends", Duration::from_secs(30), || {
        !nightbell
            .get("/api/v2/alerts")
            .1
            .contains("MaintenanceOverdue")
    });
    let entries = nightbell.json("/api/nightbell/maintenance")["data"]["entries"].clone();
    let by: Vec<&str> = entries
        .as_array()
        .expect("entries")
        .iter()
        .filter_map(|entry| entry["by"].as_str())
        .collect();
    assert_eq!(by, ["han", "李雷"], "who did what is kept");
    let (status, _) = command(&["list", "--entries"]);
    assert_eq!(status, 0);
}

#[test]
fn a_task_of_a_job_is_done_when_the_job_succeeds() {
    let folder = tempfile::tempdir().expect("a folder");
    let stamp = folder.path().join("stamp");
    let nightbell = Nightbell::start(&format!(
        "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\n\
         maintenance: [{{name: cleanup, every: 1d, job: sweep}}]\ncollectors:\n  job: [{{name: sweep, every: 1d, file: '{}'}}]\n",
        stamp.display()
    ));
    wait_until("the task is there", Duration::from_secs(30), || {
        tasks(&nightbell).len() == 1
    });
    assert_eq!(tasks(&nightbell)[0]["lastDone"], Value::Null);
    std::fs::write(&stamp, "done").expect("written");
    wait_until("the job counts", Duration::from_secs(30), || {
        tasks(&nightbell)[0]["lastDone"].is_string()
    });
    assert_eq!(
        tasks(&nightbell)[0]["by"],
        Value::Null,
        "nobody did it by hand"
    );
}

#[test]
fn a_planned_window_silences_beforehand_is_drawn_and_outlives_kill_9() {
    let mut nightbell = Nightbell::start(
        "global: {scrape_interval: 1s, evaluation_interval: 1s}\nweb: {admin_token: t0ken}\n\
         maintenance_windows: [{name: nightly, schedule: '@hourly', duration: 10m, matchers: ['instance=db1'], comment: backup}]\ncollectors: {}\n",
    );
    let url = format!("http://127.0.0.1:{}", nightbell.port);
    let window = |words: &[&str]| {
        said(
            &[
                &["maintenance", "window"],
                words,
                &["--url", &url, "--admin-token", "t0ken"],
            ]
            .concat(),
        )
    };
    let start = (Timestamp::now() + Duration::from_secs(3600)).rfc3339();
    let add = [
        "add",
        "--start",
        &start,
        "--duration",
        "30m",
        "--matchers",
        "instance=~api.*",
        "--comment",
        "upgrade <b>",
        "--by",
        "li",
    ];
    let refused = said(&[&["maintenance", "window"], &add[..], &["--url", &url]].concat());
    assert!(
        refused.0 == 1 && refused.1.contains("admin-token"),
        "changes need the token: {}",
        refused.1
    );
    assert_eq!(
        window(&["add", "--matchers", "alertname=~.+", "--by", "li"]).0,
        1,
        "not everything"
    );
    let (status, id) = window(&add);
    assert_eq!(status, 0, "{id}");
    let id = id.trim().to_owned();
    nightbell.kill();
    nightbell.restart();
    let silences = nightbell.json("/api/v2/silences");
    let silence = silences
        .as_array()
        .expect("a list")
        .iter()
        .find(|silence| silence["id"] == *id)
        .expect("the silence is kept");
    assert_eq!(
        (&silence["status"]["state"], &silence["comment"]),
        (&Value::from("pending"), &Value::from("upgrade <b>"))
    );
    assert_eq!(silence["startsAt"], Value::from(start.clone()));
    let drawn = nightbell.json("/api/nightbell/annotations");
    let drawn = drawn
        .as_array()
        .expect("a list")
        .iter()
        .find(|one| one["text"] == "upgrade <b>")
        .expect("the window")
        .clone();
    assert_eq!(
        drawn["timeEnd"].as_i64().expect("ms") - drawn["time"].as_i64().expect("ms"),
        1_800_000
    );
    wait_until("its metric is there", Duration::from_secs(30), || {
        nightbell.get("/metrics").1.contains("upgrade <b>")
    });
    wait_until(
        "the hourly one is announced",
        Duration::from_secs(60),
        || window(&["list"]).1.contains("backup"),
    );
    assert_eq!(window(&["end", &id]).0, 0);
    assert_eq!(window(&["end", &id]).0, 1, "it is over");
    let silences = nightbell.json("/api/v2/silences");
    let silence = silences
        .as_array()
        .expect("a list")
        .iter()
        .find(|silence| silence["id"] == *id)
        .expect("the silence");
    assert_eq!(silence["status"]["state"], "expired");
}

/// Mistakes in the calendar are named with their place.
#[test]
fn mistakes_in_the_calendar_are_said_by_check_config() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("n.yml");
    let text = "maintenance:\n- {name: a}\n- {name: b, schedule: nonsense}\n- {name: b, every: 1d, tonight: 1}\n\
                maintenance_windows: [{name: w, schedule: 'Sun 04:00', duration: 1h, matchers: []}]\n";
    std::fs::write(&file, text).expect("written");
    let (status, said) = said(&["check", "config", &file.display().to_string()]);
    assert_eq!(status, 1, "{said}");
    for expected in [
        "maintenance[0]: has no time",
        "\"nonsense\" is no time",
        "name of another task",
        "tonight: unknown key",
        "at least one matcher",
    ] {
        assert!(said.contains(expected), "{expected}: {said}");
    }
}
