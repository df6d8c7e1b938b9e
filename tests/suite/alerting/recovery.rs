//! Recovery actions: real programs, time-outs, cool-down, limit, hostile labels, restarts,
//! judgement, messages.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use std::time::{Duration, Instant};

use nightbell::alerting::dispatch::Dispatch;
use nightbell::alerting::metrics::Metrics;
use nightbell::model::Language;
use nightbell::model::alert::evidence::Clue;
use nightbell::model::{ActionOutcome, Stage, Timestamp};
use nightbell::notify::Notification;
use nightbell::state::{ActionRow, State};
use nightbell::web::why::words::{About, sentence};

use super::{START, alert, config, read_config};
use crate::servers::http_sink::{HttpSink, Reply};
use crate::servers::wait_until;

/// A nightbell in memory whose one receiver acts, and tells a webhook that nobody answers at.
struct Bench {
    config: String,
    state: State,
    dispatch: Dispatch,
}

/// The alerts of one group each, notified again every minute.
fn receiver(action: &str) -> String {
    format!(
        "route: {{receiver: act, group_by: ['...'], group_wait: 1s, group_interval: 10s, repeat_interval: 60s}}\n\
         receivers: [{{name: act, command_configs: [{action}], webhook_configs: [{{url: 'http://127.0.0.1:9/'}}]}}]\n"
    )
}

fn at(seconds: u64) -> Timestamp {
    START + Duration::from_secs(seconds)
}

impl Bench {
    async fn new(action: &str) -> Self {
        Self::with(
            &receiver(action),
            State::in_memory().await.expect("a database"),
            START,
        )
        .await
    }

    async fn with(yaml: &str, state: State, now: Timestamp) -> Self {
        let dispatch =
            Dispatch::restore(config(yaml), state.clone(), Metrics::default(), now).await;
        Bench {
            config: yaml.to_owned(),
            state,
            dispatch,
        }
    }

    async fn fire(&mut self, labels: &str, since: u64, now: u64) {
        self.dispatch
            .put(
                vec![alert(labels, at(since), None, at(now)).into()],
                at(now),
            )
            .await;
    }

    async fn resolve(&mut self, labels: &str, since: u64, now: u64) {
        self.dispatch
            .put(
                vec![alert(labels, at(since), Some(at(now)), at(now)).into()],
                at(now),
            )
            .await;
    }

    /// Flushes, then does what the messages ask for.
    async fn act(&mut self, now: u64) {
        self.dispatch.flush(at(now)).await;
        // The webhook's task comes first in the table of notifiers.
        let mut deliverer = self.dispatch.deliverers().pop().expect("the action's task");
        while deliverer.step(at(now)).await == nightbell::alerting::delivery::task::Step::Done {}
    }

    /// Oldest first.
    async fn log(&self) -> Vec<ActionRow> {
        let mut rows = self
            .state
            .actions(Timestamp::MIN, 1000)
            .await
            .expect("read");
        rows.reverse();
        rows
    }

    async fn outcomes(&self) -> Vec<ActionOutcome> {
        self.log()
            .await
            .into_iter()
            .map(|row| row.outcome)
            .collect()
    }

    /// The one action that was taken.
    async fn only(&self) -> ActionRow {
        let log = self.log().await;
        assert_eq!(log.len(), 1, "{log:?}");
        log.into_iter().next().expect("one")
    }

    /// The messages to people that wait.
    async fn messages(&self) -> Vec<Notification> {
        let rows = self
            .state
            .outbox(1000)
            .await
            .expect("read")
            .into_iter()
            .filter(|row| row.integration == "act/webhook/0");
        rows.map(|row| serde_json::from_str(&row.body).expect("a message"))
            .collect()
    }
}

fn script(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).expect("written");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755))
        .expect("made a program");
    path
}

/// What an action prints goes into messages: a program, or an endpoint, that repeats what it was
/// notified in confidence does not pass it on.
#[tokio::test]
async fn an_action_that_prints_its_secrets_does_not_pass_them_on() {
    let sink = HttpSink::start([Reply::Answer(
        200,
        "",
        "you said /fix?token=s3cret-of-url, s3cret-of-url and Bearer s3cret-login; force=true",
    )]);
    for (action, output) in [
        (
            "{command: [sh, -c, 'echo it is $TOKEN'], environment: {TOKEN: s3cret-of-env}}"
                .to_owned(),
            "it is <secret>",
        ),
        (
            format!(
                "{{url: '{}/fix?token=s3cret-of-url&force=true', http_config: {{authorization: {{credentials: s3cret-login}}}}}}",
                sink.url
            ),
            "you said /fix?token=<secret>, <secret> and Bearer <secret>; force=true",
        ),
    ] {
        let mut bench = Bench::new(&action).await;
        bench.fire("alertname=Down", 0, 0).await;
        bench.act(1).await;
        assert_eq!(bench.only().await.body.output, output);
    }
}

/// The alert reaches the program as variables; what it prints and how it ends is recorded, with the
/// alert, before and after.
#[tokio::test]
async fn an_action_runs_once_with_its_alert_in_variables_and_is_recorded() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("env");
    let program = script(
        folder.path(),
        "fix",
        &format!(
            "env | sort > {}; echo out; echo err >&2; exit 3",
            file.display()
        ),
    );
    let mut bench = Bench::new(&format!(
        "{{command: ['{}', 'a b', '$HOME;reboot'], environment: {{MODE: fast}}}}",
        program.display()
    ))
    .await;
    bench
        .fire("alertname=Down instance=db1:9100 severity=critical", 0, 0)
        .await;
    bench.act(1).await;
    let row = bench.only().await;
    assert_eq!(
        (
            row.outcome,
            row.body.detail.as_str(),
            row.body.output.as_str()
        ),
        (ActionOutcome::Failed, "exit status 3", "out\nerr")
    );
    assert_eq!(
        (
            row.integration.as_str(),
            row.begun_at,
            row.body.alert.as_str()
        ),
        ("act/command/0", at(1), "Down")
    );
    assert_eq!(
        row.target,
        format!("{} a b $HOME;reboot", program.display())
    );
    let variables = std::fs::read_to_string(&file).expect("it ran");
    for line in [
        "NIGHTBELL_ALERT=Down",
        "NIGHTBELL_LABEL_INSTANCE=db1:9100",
        "NIGHTBELL_LABEL_SEVERITY=critical",
        "NIGHTBELL_VALUE=1",
        "MODE=fast",
    ] {
        assert!(variables.lines().any(|l| l == line), "{line}: {variables}");
    }
    assert!(
        !variables.contains("CARGO"),
        "our own environment stays ours: {variables}"
    );
}

/// A cool-down and a limit on repeats, for each target, also across a restart; then it stops, says
/// so, and goes on when the time is over.
#[tokio::test]
async fn cool_down_and_limit_hold_for_each_target_and_across_restarts() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("state.db");
    let yaml = receiver(
        "{command: [echo, '{{ .CommonLabels.instance }}'], cool_down: 90s, limit: 2, limit_per: 10m}",
    );
    let mut bench = Bench::with(&yaml, State::open(&path).await.expect("a file"), START).await;
    bench.fire("alertname=Down instance=a", 0, 0).await;
    bench.act(1).await;
    assert_eq!(bench.outcomes().await, [ActionOutcome::Succeeded]);
    // Notified again after a minute: too early. Another target has a cool-down of its own.
    bench.fire("alertname=Down instance=b", 65, 65).await;
    bench.act(66).await;
    let log: Vec<(String, ActionOutcome)> = bench
        .log()
        .await
        .into_iter()
        .map(|row| (row.target, row.outcome))
        .collect();
    let row = |target: &str, outcome| (target.to_owned(), outcome);
    let mut wanted = vec![
        row("echo a", ActionOutcome::Succeeded),
        row("echo a", ActionOutcome::CoolingDown),
        row("echo b", ActionOutcome::Succeeded),
    ];
    let sorted = |mut rows: Vec<(String, ActionOutcome)>| {
        rows.sort_by_key(|(target, outcome)| (target.clone(), outcome.as_str()));
        rows
    };
    assert_eq!(sorted(log), sorted(wanted.clone()));
    // Another process: the cool-down of b is still on, a may be done a second time.
    let mut bench = Bench::with(&yaml, State::open(&path).await.expect("a file"), at(130)).await;
    bench.act(130).await;
    wanted.extend([
        row("echo a", ActionOutcome::Succeeded),
        row("echo b", ActionOutcome::CoolingDown),
    ]);
    let log = || async {
        bench
            .state
            .actions(Timestamp::MIN, 100)
            .await
            .expect("read")
            .into_iter()
            .map(|r| (r.target, r.outcome))
            .collect()
    };
    assert_eq!(sorted(log().await), sorted(wanted.clone()));
    // Twice in ten minutes is the limit; that is written down once, however often it is asked for.
    for minute in 4..10 {
        // As rules do after a restart.
        bench
            .fire("alertname=Down instance=a", 0, minute * 60)
            .await;
        bench.act(minute * 60).await;
    }
    let log = bench.log().await;
    let of_a: Vec<ActionOutcome> = log
        .iter()
        .filter(|r| r.target == "echo a")
        .map(|r| r.outcome)
        .collect();
    assert_eq!(
        of_a[2..],
        [ActionOutcome::Succeeded, ActionOutcome::LimitReached][..],
        "{of_a:?}"
    );
    let stopped = log
        .iter()
        .find(|row| row.outcome == ActionOutcome::LimitReached)
        .expect("it says so");
    assert_eq!(
        stopped.body.detail,
        "done 2 times in 10m already; somebody must look"
    );
    let tells = |clue: &Clue| {
        matches!(
            clue,
            Clue::Action {
                outcome: ActionOutcome::LimitReached,
                ..
            }
        )
    };
    assert!(
        bench
            .messages()
            .await
            .iter()
            .any(|m| m.alerts[0].evidence.iter().any(tells)),
        "and the messages say so"
    );
    bench.act(11 * 60).await;
    assert!(bench.log().await.iter().any(|r| r.target == "echo a"
        && r.begun_at >= at(601)
        && r.outcome == ActionOutcome::Succeeded));
}

/// A program that does not end is ended with everything that it started.
#[tokio::test]
async fn a_program_that_does_not_end_is_ended_with_all_it_started() {
    let folder = tempfile::tempdir().expect("a folder");
    let (ours, theirs) = (folder.path().join("ours"), folder.path().join("theirs"));
    let text = format!(
        "trap '' TERM; echo begun; sleep 300 & echo $! > {}; echo $$ > {}; wait; sleep 300",
        theirs.display(),
        ours.display()
    );
    let program = script(folder.path(), "hang", &text);
    let mut bench = Bench::new(&format!(
        "{{command: ['{}'], timeout: 4s}}",
        program.display()
    ))
    .await;
    bench.fire("alertname=Down", 0, 0).await;
    let started = Instant::now();
    bench.act(1).await;
    assert!(
        started.elapsed() < Duration::from_secs(30),
        "{:?}",
        started.elapsed()
    );
    let row = bench.only().await;
    assert_eq!(
        (
            row.outcome,
            row.body.detail.as_str(),
            row.body.output.as_str()
        ),
        (
            ActionOutcome::TimedOut,
            "ended by nightbell after 4s",
            "begun"
        )
    );
    for file in [ours, theirs] {
        let id = std::fs::read_to_string(&file)
            .expect("it ran")
            .trim()
            .to_owned();
        wait_until("the process is gone", Duration::from_secs(5), || {
            let status = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
            status.is_empty() || status.contains(") Z ")
        });
    }
}

/// Without end in size and without end in time: the beginning and the end are kept, what is between
/// is counted; a service that is left behind holds nothing up.
#[tokio::test]
async fn huge_output_is_cut_and_a_service_that_is_left_behind_is_not_waited_for() {
    let folder = tempfile::tempdir().expect("a folder");
    let pid = folder.path().join("pid");
    let text = format!(
        "echo first; yes | head -c 5000000; echo last; sleep 300 & echo $! > {}",
        pid.display()
    );
    let program = script(folder.path(), "loud", &text);
    let mut bench = Bench::new(&format!(
        "{{command: ['{}'], timeout: 60s}}",
        program.display()
    ))
    .await;
    bench.fire("alertname=Down", 0, 0).await;
    let started = Instant::now();
    bench.act(1).await;
    assert!(
        started.elapsed() < Duration::from_secs(30),
        "{:?}",
        started.elapsed()
    );
    let left = std::fs::read_to_string(&pid).expect("it ran");
    assert!(
        std::process::Command::new("kill")
            .arg(left.trim())
            .status()
            .expect("kill runs")
            .success(),
        "it lives on"
    );
    let row = bench.only().await;
    assert_eq!(row.outcome, ActionOutcome::Succeeded);
    assert!(
        row.body.output.starts_with("first\ny\n")
            && row.body.output.ends_with("\nlast")
            && row.body.output.len() < 4200
    );
    assert!(
        row.body.output.contains("[4995915 bytes cut]"),
        "{}",
        row.body.output
    );
}

/// Whatever a label holds, it becomes neither an option nor text for a shell nor another target;
/// that it tried is recorded.
#[tokio::test]
async fn hostile_labels_are_refused_in_arguments_and_harmless_in_variables() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("seen");
    for hostile in [
        "-rf",
        "--all",
        "a;touch${IFS}x",
        "$(reboot)",
        "`id`",
        "../../etc",
        "a|b",
        "x'y",
    ] {
        let program = script(
            folder.path(),
            "log",
            &format!("printf '%s\\n' \"$@\" >> {}", file.display()),
        );
        let mut bench = Bench::new(&format!(
            "{{command: ['{}', '{{{{ .CommonLabels.name }}}}']}}",
            program.display()
        ))
        .await;
        bench
            .fire(&format!("alertname=Down name={hostile}"), 0, 0)
            .await;
        bench.act(1).await;
        let row = bench.only().await;
        assert_eq!(row.outcome, ActionOutcome::Refused, "{hostile}");
        assert!(
            row.target.contains("would become an argument that"),
            "{}",
            row.target
        );
        assert!(!file.exists(), "{hostile} ran");
        // The same in a variable, also through a shell that somebody wrote: exactly the text.
        let shell = format!(
            "[sh, -c, 'printf %s \"$NIGHTBELL_LABEL_NAME\" > {}']",
            file.display()
        );
        let mut bench = Bench::new(&format!("{{command: {shell}}}")).await;
        bench
            .fire(&format!("alertname=Down name={hostile}"), 0, 0)
            .await;
        bench.act(1).await;
        assert_eq!(bench.only().await.outcome, ActionOutcome::Succeeded);
        assert_eq!(std::fs::read_to_string(&file).expect("it ran"), hostile);
        std::fs::remove_file(&file).expect("removed");
    }
}

#[test]
fn what_labels_could_turn_into_something_else_is_a_mistake_of_the_file() {
    for (action, wanted) in [
        (
            "{command: 'rm -rf /tmp/x'}",
            "give a list: [program, argument, …]",
        ),
        (
            "{command: ['{{ .CommonLabels.program }}']}",
            "lets a label choose the program",
        ),
        (
            "{command: [sh, -c, 'restart {{ .CommonLabels.name }}']}",
            "puts a label into the text of a shell",
        ),
        (
            "{command: [sudo, /bin/bash, -ec, 'restart {{ .CommonLabels.name }}']}",
            "puts a label into the text of a shell",
        ),
        ("{command: []}", "is empty"),
        ("{}", "says nothing to do"),
        ("{command: [a], container: b}", "says command and container"),
        (
            "{systemd_unit: '{{ .CommonLabels.unit }}'}",
            "lets a label choose what is restarted",
        ),
        ("{container: '-it'}", "is not a name"),
        ("{container: web, allowed: [web]}", "there is no choice"),
        ("{url: 'ftp://x'}", "is not an http or https URL"),
        ("{url: 'http://x', method: BREW}", "is not a method"),
        ("{command: [a], limit: 0}", "is zero"),
        ("{command: [a], cool_down: 0s}", "is below a second"),
        (
            "{command: [a], environment: {NIGHTBELL_ALERT: x}}",
            "is not a name for a variable here",
        ),
        ("{command: [a], http_config: {}}", "is for url"),
    ] {
        let error = read_config(&receiver(action))
            .err()
            .unwrap_or_else(|| panic!("{action} is accepted"))
            .to_string();
        assert!(error.contains(wanted), "{action}: {error}");
    }
}

/// A unit and a container through programs of these names on PATH: systemd and Docker are not there
/// in CI. Labels choose only what is allowed.
#[tokio::test]
async fn units_and_containers_are_restarted_by_name() {
    let folder = tempfile::tempdir().expect("a folder");
    let seen = folder.path().join("seen");
    for name in ["systemctl", "docker"] {
        script(
            folder.path(),
            name,
            &format!("echo {name} \"$@\" | tee -a {}", seen.display()),
        );
    }
    let path = format!("{}:/usr/bin:/bin", folder.path().display());
    let act = async |action: &str, labels: &str| {
        let action = action.replace("PATH", &format!("environment: {{PATH: '{path}'}}"));
        let mut bench = Bench::new(&action).await;
        bench.fire(labels, 0, 0).await;
        bench.act(1).await;
        bench.only().await
    };
    let row = act("{systemd_unit: nginx.service, PATH}", "alertname=Down").await;
    assert_eq!(
        (row.outcome, row.body.output.as_str()),
        (
            ActionOutcome::Succeeded,
            "systemctl --no-ask-password restart -- nginx.service"
        )
    );
    let row = act(
        "{container: '{{ .CommonLabels.name }}', allowed: [web, worker], PATH}",
        "alertname=Down name=worker",
    )
    .await;
    assert_eq!(
        (row.target.as_str(), row.body.output.as_str()),
        ("docker restart -- worker", "docker restart -- worker")
    );
    let row = act(
        "{container: '{{ .CommonLabels.name }}', allowed: [web, worker], PATH}",
        "alertname=Down name=vault",
    )
    .await;
    assert_eq!(
        (row.outcome, row.body.detail.as_str()),
        (ActionOutcome::Refused, "\"vault\" is not among allowed")
    );
    assert_eq!(
        std::fs::read_to_string(&seen)
            .expect("they ran")
            .lines()
            .count(),
        2
    );
}

/// An endpoint: the alert as the webhook's body, the answer as output, nothing of the URL in the
/// record.
#[tokio::test]
async fn an_endpoint_is_called_and_its_answer_recorded() {
    let sink = HttpSink::start([
        Reply::Answer(200, "", "cleared 12 entries"),
        Reply::Answer(500, "", "no"),
        Reply::Silence,
    ]);
    let action = format!(
        "{{url: '{}/admin/cache?token=s3cr3t', method: PUT, timeout: 3s, cool_down: 1s}}",
        sink.url
    );
    let mut bench = Bench::new(&action).await;
    bench.fire("alertname=Slow", 0, 0).await;
    for now in [1, 62, 123] {
        bench.act(now).await;
    }
    let log = bench.log().await;
    let seen: Vec<(ActionOutcome, &str, &str)> = log
        .iter()
        .map(|r| (r.outcome, r.body.detail.as_str(), r.body.output.as_str()))
        .collect();
    assert_eq!(
        seen,
        [
            (
                ActionOutcome::Succeeded,
                "answered 200",
                "cleared 12 entries"
            ),
            (ActionOutcome::Failed, "answered 500", "no"),
            (ActionOutcome::TimedOut, "timed out", "")
        ]
    );
    let request = &sink.requests()[0];
    assert_eq!(
        (request.method.as_str(), request.path.as_str()),
        ("PUT", "/admin/cache?token=s3cr3t")
    );
    assert!(
        request.body.contains("\"alertname\":\"Slow\""),
        "{}",
        request.body
    );
    assert!(
        log.iter()
            .all(|row| row.target == format!("PUT {}", sink.url)),
        "{log:?}"
    );
}

/// `dry_run`: everything is decided and recorded as if, and nothing is done.
#[tokio::test]
async fn a_dry_run_is_recorded_and_nothing_is_done() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("done");
    let mut bench = Bench::new(&format!(
        "{{command: [touch, '{}'], dry_run: true, cool_down: 90s}}",
        file.display()
    ))
    .await;
    bench.fire("alertname=Down", 0, 0).await;
    for now in [1, 62, 123] {
        bench.act(now).await;
    }
    assert_eq!(
        bench.outcomes().await,
        [
            ActionOutcome::DryRun,
            ActionOutcome::CoolingDown,
            ActionOutcome::DryRun
        ]
    );
    assert!(!file.exists());
}

/// Some time after an action the alert decides whether it helped; the record, the decisions and the
/// next message say so, with the output.
#[tokio::test]
async fn an_action_is_judged_by_whether_the_alert_fires_on() {
    for helps in [true, false] {
        let mut bench = Bench::new("{command: [echo, restarted], verify_after: 30s}").await;
        bench.fire("alertname=Down", 0, 0).await;
        bench.act(1).await;
        assert_eq!(bench.only().await.body.helped, None);
        if helps {
            bench.resolve("alertname=Down", 0, 20).await;
        }
        bench.act(25).await;
        assert_eq!(bench.only().await.body.helped, None, "not yet");
        bench.act(62).await;
        let row = bench.log().await.remove(0);
        assert_eq!(row.body.helped, Some(helps));
        let account = bench
            .dispatch
            .accounts(&bench.state, "Down", None)
            .await
            .expect("read")
            .remove(0);
        let acted = account
            .history
            .iter()
            .find(|row| {
                matches!(
                    row.stage,
                    Stage::Acted {
                        helped: Some(_),
                        ..
                    }
                )
            })
            .expect("its judgement");
        let about = About {
            receiver: "act (command)",
            at: Some(acted.at),
            delivered_at: None,
            now: at(62),
        };
        let (english, chinese) = if helps {
            ("the alert was over afterwards", "之后告警已恢复")
        } else {
            (
                "it did not help: the alert fired on",
                "未见效：告警仍在触发",
            )
        };
        assert_eq!(
            [
                sentence(&acted.stage, about, Language::En),
                sentence(&acted.stage, about, Language::Zh)
            ],
            [
                format!(
                    "Recovery action of act (command) at 2026-01-01 00:01:02 UTC: echo restarted: succeeded (exit status 0); {english}."
                ),
                format!(
                    "act (command) 的恢复动作于 2026-01-01 00:01:02 UTC：echo restarted：成功（exit status 0）；{chinese}。"
                ),
            ]
        );
        let message = bench.messages().await.pop().expect("the end, or a repeat");
        let notified = message.alerts[0]
            .evidence
            .iter()
            .find_map(|clue| match clue {
                Clue::Action {
                    output,
                    outcome,
                    helped,
                    ..
                } => Some((output.as_str(), *outcome, *helped)),
                _ => None,
            });
        assert_eq!(
            notified,
            Some(("restarted", ActionOutcome::Succeeded, Some(helps))),
            "{message:?}"
        );
        let judged = if helps {
            "it helped"
        } else {
            "it did not help"
        };
        let text = format!(
            "echo restarted at 2026-01-01T00:00:01.000Z succeeded (exit status 0), {judged}: restarted"
        );
        assert_eq!(
            message.alerts[0].annotation("recovery"),
            text,
            "for those who show annotations"
        );
    }
}

/// An alert that is over when its turn comes, or was notified twice, leads to nothing; alerts of
/// one group that mean one target lead to one action.
#[tokio::test]
async fn only_what_still_fires_is_acted_on_and_one_target_once() {
    let mut bench = Bench::new("{command: [echo, x]}").await;
    bench.fire("alertname=Down", 0, 0).await;
    bench.dispatch.flush(at(1)).await;
    bench.resolve("alertname=Down", 0, 2).await;
    bench.act(3).await;
    assert!(bench.log().await.is_empty());
    let yaml = receiver("{command: [echo, x]}").replace("'...'", "alertname");
    let mut bench = Bench::with(&yaml, State::in_memory().await.expect("a database"), START).await;
    for n in 0..5 {
        bench.fire(&format!("alertname=Down n={n}"), 0, 0).await;
    }
    bench.act(1).await;
    assert_eq!(bench.only().await.body.alerts.len(), 5);
}

/// After `kill -9` in the midst of an action nobody knows what came of it: that is recorded, and
/// within the cool-down it is not done again, though its message is still there.
#[tokio::test]
async fn an_action_that_was_interrupted_is_not_done_twice() {
    let folder = tempfile::tempdir().expect("a folder");
    let (path, file) = (folder.path().join("state.db"), folder.path().join("runs"));
    let program = script(
        folder.path(),
        "slow",
        &format!("echo run >> {}; sleep 60", file.display()),
    );
    let yaml = receiver(&format!(
        "{{command: ['{}'], cool_down: 10m}}",
        program.display()
    ));
    let mut bench = Bench::with(&yaml, State::open(&path).await.expect("a file"), START).await;
    bench.fire("alertname=Down", 0, 0).await;
    // The process dies: the attempt is dropped where it stands.
    let begun = async {
        while !file.exists() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::select! {
        () = bench.act(1) => panic!("it takes a minute"),
        () = begun => {}
    }
    let mut bench = Bench::with(
        &bench.config.clone(),
        State::open(&path).await.expect("a file"),
        at(5),
    )
    .await;
    assert_eq!(bench.only().await.outcome, ActionOutcome::Unknown);
    assert_eq!(
        bench
            .state
            .outbox(10)
            .await
            .expect("read")
            .iter()
            .filter(|row| row.integration == "act/command/0")
            .count(),
        1
    );
    bench.act(6).await;
    bench.act(66).await;
    assert_eq!(std::fs::read_to_string(&file).expect("it ran"), "run\n");
    assert_eq!(
        bench.outcomes().await,
        [ActionOutcome::Unknown, ActionOutcome::CoolingDown]
    );
    bench.act(66 + 180).await;
    assert_eq!(
        bench.log().await[0].body.helped,
        Some(false),
        "it is judged all the same"
    );
}

/// Without a database nothing is begun: what is not remembered could be done over and over. It is
/// done when the database is back.
#[tokio::test]
async fn nothing_is_begun_that_cannot_be_written_down() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("done");
    let mut bench = Bench::new(&format!("{{command: [touch, '{}']}}", file.display())).await;
    bench.fire("alertname=Down", 0, 0).await;
    bench.dispatch.flush(at(1)).await;
    bench.state.close().await;
    let mut deliverer = bench
        .dispatch
        .deliverers()
        .pop()
        .expect("the action's task");
    assert_eq!(
        deliverer.step(at(2)).await,
        nightbell::alerting::delivery::task::Step::Look
    );
    assert!(!file.exists());
}

/// The short form `notify` has no routes: an action there would be taken for every alert.
#[test]
fn the_short_form_takes_no_actions() {
    use nightbell::config::{Document, Environment, Loader};
    let document =
        Document::parse("nightbell.yml", "notify: {command: {command: [echo]}}").expect("YAML");
    let environment = Environment::default();
    let loader = Loader::new(&document, &environment, Path::new("."));
    nightbell::alerting::Alerting::read_default(
        &loader.root().section("notify").expect("there"),
        None,
    );
    let errors = loader.into_errors().to_string();
    assert!(errors.contains("would act on every alert"), "{errors}");
}

/// `recovery` beside any routing, an untouched `alertmanager.yml` for example: the tree sends what
/// it always sent, the action is taken for its matchers alone, and again when its cool-down is
/// over, up to its limit.
#[tokio::test]
async fn actions_beside_the_tree_leave_its_messages_as_they_are() {
    use nightbell::config::{Document, Environment, Loader};
    let tree = "route: {receiver: ops, group_by: [alertname], group_wait: 1s, group_interval: 10s, routes: [{matchers: [team=a], receiver: a}]}\n\
                receivers:\n- {name: ops, webhook_configs: [{url: 'http://127.0.0.1:9/'}]}\n- {name: a, webhook_configs: [{url: 'http://127.0.0.1:9/'}]}\n";
    let recovery = "recovery:\n- {name: mend, matchers: [alertname=Down], command: [echo, '{{ .CommonLabels.n }}'], cool_down: 60s, limit: 2}\n";
    let read = |yaml: &str| {
        let document = Document::parse("nightbell.yml", yaml).expect("YAML");
        let environment = Environment::default();
        let loader = Loader::new(&document, &environment, Path::new("."));
        let mut alerting = nightbell::alerting::Alerting::read(&loader.root(), None);
        alerting.read_recovery(&loader.root(), None);
        loader.finish(alerting)
    };
    let mut notified = Vec::new();
    for yaml in [tree.to_owned(), format!("{tree}{recovery}")] {
        let alerting = Arc::new(read(&yaml).unwrap_or_else(|e| panic!("{e}")));
        let state = State::in_memory().await.expect("a database");
        let dispatch = Dispatch::restore(alerting, state.clone(), Metrics::default(), START).await;
        let mut bench = Bench {
            config: yaml.clone(),
            state,
            dispatch,
        };
        for labels in [
            "alertname=Down team=a n=1",
            "alertname=Down n=2",
            "alertname=Slow n=3",
        ] {
            bench.fire(labels, 0, 0).await;
        }
        for now in [1, 30, 62, 123, 184] {
            bench.act(now).await;
        }
        let rows = bench.state.outbox(100).await.expect("read");
        notified.push(
            rows.iter()
                .map(|r| (r.integration.clone(), r.group_key.clone(), r.created_at))
                .collect::<Vec<_>>(),
        );
        let log: Vec<(String, ActionOutcome)> = bench
            .log()
            .await
            .into_iter()
            .map(|row| (row.target, row.outcome))
            .collect();
        let count = |target: &str, outcome| {
            log.iter()
                .filter(|row| **row == (target.to_owned(), outcome))
                .count()
        };
        if yaml.contains("recovery") {
            for target in ["echo 1", "echo 2"] {
                let counts = (
                    count(target, ActionOutcome::Succeeded),
                    count(target, ActionOutcome::LimitReached),
                );
                assert_eq!(counts, (2, 1), "{log:?}");
            }
        }
        assert_eq!(count("echo 3", ActionOutcome::Succeeded), 0);
    }
    assert_eq!(notified[0], notified[1], "the tree's own messages");
    for (wrong, problem) in [
        (
            "recovery: [{name: x, command: [a]}]",
            "would act on every alert",
        ),
        (
            "recovery: [{name: ops, matchers: [a=b], command: [a]}]",
            "is a receiver already",
        ),
        (
            "recovery: [{matchers: [a=b], command: [a]}]",
            "\"name\" is missing",
        ),
        (
            "recovery: [{name: x, matchers: [a=b], command: [a], coll_down: 5m}]",
            "cool_down",
        ),
    ] {
        let errors = read(&format!("{tree}{wrong}"))
            .err()
            .unwrap_or_else(|| panic!("{wrong} is accepted"))
            .to_string();
        assert!(errors.contains(problem), "{wrong}: {errors}");
    }
}

/// What goes wrong everywhere is not mended one by one: all targets together have a limit, too.
#[tokio::test]
async fn a_storm_of_targets_stops_at_a_limit_of_its_own() {
    let mut bench = Bench::new("{command: ['true', '{{ .CommonLabels.n }}'], limit: 1}").await;
    for n in 0..15 {
        bench.fire(&format!("alertname=Down n={n}"), 0, 0).await;
    }
    bench.act(1).await;
    let outcomes = bench.outcomes().await;
    let count = |wanted| {
        outcomes
            .iter()
            .filter(|outcome| **outcome == wanted)
            .count()
    };
    assert_eq!(
        (
            count(ActionOutcome::Succeeded),
            count(ActionOutcome::LimitReached)
        ),
        (10, 5),
        "{outcomes:?}"
    );
}
