//! Defects that were found by using the built binary: one test for each, so that none returns.

use std::process::Command;
use std::time::Duration;

use crate::servers::nightbell::Nightbell;
use crate::servers::wait_until;

/// A state folder that cannot be made ended the program at start; it must go on watching and
/// telling, and say what that costs.
#[test]
fn a_state_folder_that_cannot_be_made_does_not_silence_it() {
    let mut nightbell = Nightbell::start("collectors: {host: {}}\n");
    nightbell.kill();
    let folder = nightbell.config_file().with_file_name("state");
    std::fs::remove_dir_all(&folder).expect("the state folder was there");
    std::fs::write(&folder, "a file stands in its place").expect("a file is written");
    nightbell.restart();
    wait_until(
        "it is ready without a state folder",
        Duration::from_secs(20),
        || nightbell.get("/-/ready").0 == 200,
    );
    let said = nightbell.log();
    assert!(
        said.contains("in memory only") && said.contains("--state-dir takes another"),
        "{said}"
    );
}

/// Mistakes in the rule files that a configuration names are notified together with its own.
#[test]
fn mistakes_in_rule_files_are_notified_with_those_of_the_configuration() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(
        folder.path().join("r.yml"),
        "groups: [{name: g, rules: [{alert: A, expr: 'up ==='}]}]\n",
    )
    .expect("written");
    std::fs::write(
        folder.path().join("n.yml"),
        "rule_files: [r.yml]\nweb: {lisen: x}\n",
    )
    .expect("written");
    let output = Command::new(env!("CARGO_BIN_EXE_nightbell"))
        .args(["check", "config", "n.yml"])
        .current_dir(folder.path())
        .output()
        .expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        said.contains("web.lisen: unknown key") && said.contains("could not parse expression"),
        "{said}"
    );
}

/// `check config` reads the group files that jobs name, as promtool does; `--syntax-only` reads no
/// file but the one that it is given.
#[test]
fn check_config_reads_what_the_file_names_unless_only_its_syntax_counts() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("prometheus.yml");
    let text = "scrape_configs:\n- job_name: a\n  authorization: {credentials_file: CREDENTIALS}\n  file_sd_configs: [{files: [targets.json]}]\n";
    std::fs::write(folder.path().join("targets.json"), "[{\"targets\": \"a:1\"").expect("writable");
    std::fs::write(folder.path().join("token"), "x").expect("writable");
    let check = |credentials: &str, words: &[&str]| {
        std::fs::write(&file, text.replace("CREDENTIALS", credentials)).expect("writable");
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_nightbell"));
        let output = command
            .args(["check", "config"])
            .args(words)
            .arg(&file)
            .output()
            .expect("nightbell runs");
        (
            output.status.code(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        )
    };
    let (status, said) = check("token", &[]);
    assert!(
        status == Some(1) && said.contains("targets.json"),
        "{status:?} {said}"
    );
    let (status, said) = check("absent", &[]);
    assert!(
        status == Some(1) && said.contains("credentials_file"),
        "{status:?} {said}"
    );
    assert_eq!(
        check("absent", &["--syntax-only"]),
        (Some(0), String::new())
    );
}

/// A receiver that never hears of an end by default is named; one of which that is written, or
/// which has another way, is not.
#[test]
fn check_config_names_receivers_that_never_hear_of_an_end() {
    let folder = tempfile::tempdir().expect("a folder");
    let mail = "to: a@b.c, from: a@b.c, smarthost: 'h:25'";
    let receivers = format!(
        "route: {{receiver: mail}}\nreceivers:\n- {{name: mail, email_configs: [{{{mail}}}]}}\n\
         - {{name: wanted, email_configs: [{{{mail}, send_resolved: false}}]}}\n\
         - {{name: both, email_configs: [{{{mail}}}], webhook_configs: [{{url: 'http://h/'}}]}}\n"
    );
    std::fs::write(folder.path().join("n.yml"), receivers).expect("written");
    let checked = Command::new(env!("CARGO_BIN_EXE_nightbell"))
        .args(["check", "config", "n.yml"])
        .current_dir(folder.path())
        .output();
    let said = String::from_utf8_lossy(&checked.expect("it runs").stdout).into_owned();
    let named: Vec<&str> = said
        .lines()
        .filter(|line| line.contains("never hears that an alert is over"))
        .collect();
    assert!(
        named.len() == 1
            && named[0].contains("receiver \"mail\"")
            && named[0].contains("send_resolved: true"),
        "{said}"
    );
}

/// A flag before the command says the same as behind it, or is refused; it is never ignored.
#[test]
fn a_flag_before_the_command_is_not_ignored() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join(".env"), "NIGHTBELL_TEST_KEY=hunter2\n").expect("written");
    std::fs::write(
        folder.path().join("n.yml"),
        "web: {admin_token: '${NIGHTBELL_TEST_KEY}'}\n",
    )
    .expect("written");
    let run = |words: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_nightbell"));
        let output = command
            .args(words)
            .current_dir(folder.path())
            .output()
            .expect("it runs");
        (
            output.status.code(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        )
    };
    assert_eq!(run(&["check", "config", "n.yml"]).0, Some(1));
    for words in [
        ["--env-file", ".env", "check", "config", "n.yml"],
        ["check", "config", "--env-file", ".env", "n.yml"],
    ] {
        assert_eq!(run(&words), (Some(0), String::new()), "{words:?}");
    }
    for (flag, value) in [
        ("--config", "n.yml"),
        ("--listen", "127.0.0.1:1"),
        ("--log-level", "debug"),
    ] {
        let (status, said) = run(&[flag, value, "check", "config"]);
        assert!(
            status == Some(2) && said.contains(&format!("{flag} stands before the command")),
            "{flag}: {said}"
        );
    }
}

/// Alerts link to a page that exists; the Alertmanagers elsewhere are listed, those that
/// relabelling drops apart; `health` asks where the configuration listens, and says whom it asked.
#[test]
fn links_alertmanagers_and_health_are_what_the_configuration_says() {
    let relabel = "[{source_labels: [__address__], regex: '.*:9', action: drop}, {source_labels: [site], target_label: __alerts_path__, regex: '(.+)', replacement: /$1}]";
    let mut nightbell = Nightbell::start(&format!(
        "alerting: {{alertmanagers: [{{path_prefix: /am, relabel_configs: {relabel}, static_configs: [{{targets: ['127.0.0.1:8', '127.0.0.1:9']}}, \
         {{targets: ['127.0.0.1:7'], labels: {{site: b}}}}]}}]}}\n"
    ));
    let known = nightbell.json("/api/v1/alertmanagers");
    let wanted = serde_json::json!({
        "activeAlertmanagers": [{"url": "http://127.0.0.1:8/am/api/v2/alerts"}, {"url": "http://127.0.0.1:7/b"}],
        "droppedAlertmanagers": [{"url": "http://127.0.0.1:9/am/api/v2/alerts"}],
    });
    assert_eq!(known["data"], wanted, "{known}");
    let (status, page) = nightbell.get("/graph?g0.expr=up&g0.tab=1");
    assert!(
        status == 200 && page.contains("g0.expr") && page.contains("Ask in PromQL"),
        "{status} {page}"
    );
    let port = crate::servers::free_port();
    let file = nightbell.config_file();
    std::fs::write(&file, format!("web: {{listen: '0.0.0.0:{port}'}}\n")).expect("written");
    let mut command = Command::new(env!("CARGO_BIN_EXE_nightbell"));
    let output = command
        .args(["health", "--config"])
        .arg(&file)
        .env_remove("NIGHTBELL_URL")
        .env_remove("NIGHTBELL_LISTEN")
        .output();
    let output = output.expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        output.status.code() == Some(1)
            && said.contains(&format!("127.0.0.1:{port} does not answer")),
        "{said}"
    );
    nightbell.kill();
}

/// The address of one chat program below the keys of another one is named, in a nightbell.yml and
/// in an alertmanager.yml.
#[test]
fn check_config_names_an_address_of_one_service_below_the_keys_of_another() {
    let folder = tempfile::tempdir().expect("a folder");
    let receivers = "route: {receiver: a}\nreceivers:\n- name: a\n  slack_configs:\n  - {api_url: 'https://oapi.dingtalk.com/robot/send?access_token=s3cr3t'}\n  \
                     - {api_url: 'https://hooks.slack.com/services/x'}\n  - {api_url: 'https://discord.com/api/webhooks/1/x/slack'}\n  - {api_url: 'https://mattermost.example.org/hooks/x'}\n  \
                     webhook_configs: [{url: 'https://qyapi.weixin.qq.com/cgi-bin/webhook/send?key=s3cr3t'}]\n";
    let own = "  dingtalk_configs: [{url: 'https://open.feishu.cn/open-apis/bot/v2/hook/s3cr3t'}]\n  \
               wecom_configs: [{url: 'https://hooks.slack.com/services/s3cr3t'}]\n  feishu_configs: [{url: 'https://open.feishu.cn/open-apis/bot/v2/hook/x'}]\n";
    std::fs::write(folder.path().join("n.yml"), format!("{receivers}{own}")).expect("written");
    std::fs::write(folder.path().join("alertmanager.yml"), receivers).expect("written");
    std::fs::write(
        folder.path().join("by_file.yml"),
        "alertmanager: alertmanager.yml\n",
    )
    .expect("written");
    let warnings = |file: &str| -> Vec<String> {
        let checked = Command::new(env!("CARGO_BIN_EXE_nightbell"))
            .args(["check", "config", file])
            .current_dir(folder.path())
            .output();
        let said = String::from_utf8_lossy(&checked.expect("it runs").stdout).into_owned();
        assert!(!said.contains("s3cr3t"), "{said}");
        said.lines()
            .filter(|line| line.contains("; use "))
            .map(|line| line.trim().trim_start_matches("WARNING: ").to_owned())
            .collect()
    };
    let slack = "5:15: receivers[0].slack_configs[0].api_url: oapi.dingtalk.com does not take what slack sends; use dingtalk_configs";
    let webhook =
        "webhook_configs: qyapi.weixin.qq.com refuses Alertmanager's JSON; use wecom_configs";
    let said = warnings("n.yml");
    for wanted in [
        slack,
        webhook,
        "receivers[0].dingtalk_configs[0].url: open.feishu.cn does not take what dingtalk sends; use feishu_configs",
        "receivers[0].wecom_configs[0].url: hooks.slack.com does not take what wecom sends; use slack_configs",
    ] {
        assert!(
            said.iter().any(|line| line.contains(wanted)),
            "{wanted}: {said:#?}"
        );
    }
    assert_eq!(said.len(), 4, "{said:#?}");
    let said = warnings("by_file.yml");
    assert!(
        said.len() == 2 && said.iter().any(|line| line.contains(slack)),
        "{said:#?}"
    );
}
