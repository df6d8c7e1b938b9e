//! The state database: every case on SQLite and on a real PostgreSQL.

use std::path::Path;

use nightbell::model::{ActionOutcome, Alert, Labels, Timestamp};
use nightbell::state::migrations::MIGRATIONS;
use nightbell::state::{
    ActionBody, ActionRow, AlertRow, DeadLetter, Error, EscalationRow, FlapRow, GroupRow, LogRow,
    MAX_DEAD_LETTERS, OutboxRow, SilenceRow, State, Transition,
};
use nightbell::telemetry::Telemetry;

use crate::servers::postgres::Postgres;

/// A fresh PostgreSQL.
async fn postgres() -> Postgres {
    tokio::task::spawn_blocking(|| Postgres::start(&[]))
        .await
        .expect("PostgreSQL starts")
}

/// The backends to test: an SQLite file in `folder`, and this PostgreSQL.
async fn states(folder: &Path, postgres: &Postgres) -> Vec<State> {
    let sqlite = State::open(&folder.join("state.db"))
        .await
        .expect("a state file");
    let shared = State::connect(&postgres.dsn("postgres", "postgres"))
        .await
        .expect("an empty database");
    vec![sqlite, shared]
}

fn message(id: &str, group: &str, at: i64) -> OutboxRow {
    OutboxRow {
        held: false,
        delivery_id: id.into(),
        integration: "ops/webhook/0".into(),
        group_key: group.into(),
        created_at: Timestamp(at),
        body: format!("{{\"id\":{id:?}}}"),
    }
}

fn alert(name: &str) -> AlertRow {
    let alert = Alert {
        labels: Labels::from_pairs([("alertname", name), ("ключ", "значение")]),
        annotations: Labels::from_pairs([("summary", "it's \"broken\"")]),
        starts_at: Timestamp(1),
        ends_at: Some(Timestamp(2)),
        updated_at: Timestamp(3),
        generator_url: "http://x/".into(),
        value: Some(1.5),
        peak: None,
        evidence: Vec::new(),
        shipped: false,
    };
    AlertRow {
        alert,
        timeout: true,
        left: vec!["{}/0:{}".into()],
        posted: true,
    }
}

fn flap() -> FlapRow {
    FlapRow {
        fingerprint: u64::MAX,
        begins: vec![Timestamp(1), Timestamp(5)],
        since: Some(Timestamp(1)),
        settled: true,
        firings: 7,
        changed_at: Timestamp(9),
        values: vec![1.5],
    }
}

#[tokio::test]
async fn what_was_recorded_is_read_back_unchanged_after_a_restart() {
    let folder = tempfile::tempdir().expect("a folder");
    let postgres = postgres().await;
    let transition = Transition {
        flaps: vec![flap()],
        replace: false,
        alerts: vec![alert("A"), alert("B")],
        gone_alerts: Vec::new(),
        groups: vec![GroupRow {
            id: "{}/0:{}".into(),
            next_flush: Timestamp(5),
            flushed: true,
        }],
        gone_groups: Vec::new(),
        escalations: vec![EscalationRow {
            fingerprint: u64::MAX,
            receiver: "oncall".into(),
            starts_at: Timestamp(1),
            notified_at: Timestamp(2),
            level: 3,
            acknowledged: Some((Timestamp(4), "li".into())),
        }],
        gone_escalations: Vec::new(),
        log: vec![LogRow {
            group_key: "{}:{}".into(),
            integration: "ops/webhook/0".into(),
            sent_at: Timestamp(7),
            firing: vec![1, u64::MAX],
            resolved: vec![],
            expires_at: Timestamp(100),
        }],
        messages: vec![message("m1", "{}:{}", 7)],
        decisions: Vec::new(),
        actions: Vec::new(),
    };
    for state in states(folder.path(), &postgres).await {
        state.record(&transition).await.expect("recorded");
        state.close().await;
    }
    for state in states(folder.path(), &postgres).await {
        let (mut alerts, unreadable) = state.alerts().await.expect("read");
        alerts.sort_by(|a, b| a.alert.labels.cmp(&b.alert.labels));
        assert_eq!((alerts, unreadable), (transition.alerts.clone(), 0));
        assert_eq!(state.alert_groups().await.expect("read"), transition.groups);
        assert_eq!(
            state.notification_log().await.expect("read"),
            transition.log
        );
        assert_eq!(state.outbox(10).await.expect("read"), transition.messages);
        assert_eq!(
            state.escalations().await.expect("read"),
            transition.escalations
        );
        assert_eq!(state.flaps().await.expect("read"), transition.flaps);
        assert_eq!(state.secret("k", "first").await.expect("kept"), "first");
        assert_eq!(
            state.secret("k", "second").await.expect("kept"),
            "first",
            "a key stays"
        );
        let gone = Transition {
            gone_escalations: transition.escalations.clone(),
            gone_alerts: transition
                .alerts
                .iter()
                .map(|r| r.alert.fingerprint())
                .collect(),
            gone_groups: vec!["{}/0:{}".into()],
            ..Transition::default()
        };
        state.record(&gone).await.expect("recorded");
        assert_eq!(state.alerts().await.expect("read").0, []);
        assert_eq!(state.alert_groups().await.expect("read"), []);
        assert_eq!(state.escalations().await.expect("read"), []);
        state.prune_flaps(Timestamp(9)).await.expect("pruned");
        assert_eq!(
            state.flaps().await.expect("read").len(),
            1,
            "it changed at that instant"
        );
        state.prune_flaps(Timestamp(10)).await.expect("pruned");
        assert_eq!(state.flaps().await.expect("read"), []);
        state
            .forget_log_entries(&[("{}:{}".into(), "ops/webhook/0".into())])
            .await
            .expect("removed");
        assert_eq!(state.notification_log().await.expect("read"), []);
        state.remove_message("m1").await.expect("removed");
    }
}

#[tokio::test]
async fn messages_leave_in_the_order_in_which_they_came() {
    let folder = tempfile::tempdir().expect("a folder");
    let postgres = postgres().await;
    for state in states(folder.path(), &postgres).await {
        for (index, id) in ["c", "a", "b"].iter().enumerate() {
            let messages = vec![message(
                id,
                if index == 1 { "g2" } else { "g1" },
                index as i64,
            )];
            state
                .record(&Transition {
                    messages,
                    ..Transition::default()
                })
                .await
                .expect("recorded");
        }
        let (first, row) = state
            .next_message("ops/webhook/0", 0, true)
            .await
            .expect("read")
            .expect("a message");
        assert_eq!(row.delivery_id, "c");
        let (_, row) = state
            .next_message("ops/webhook/0", first, true)
            .await
            .expect("read")
            .expect("a message");
        assert_eq!(row.delivery_id, "a");
        assert!(
            state
                .next_message("other/webhook/0", 0, true)
                .await
                .expect("read")
                .is_none()
        );

        let of_group = state
            .group_messages(&message("c", "g1", 0), true, 10)
            .await
            .expect("read");
        assert_eq!(
            of_group
                .iter()
                .map(|(_, r)| r.delivery_id.as_str())
                .collect::<Vec<_>>(),
            ["b"]
        );
        state
            .merge_messages("b", "merged", &["c".into()])
            .await
            .expect("merged");
        let left: Vec<(String, String)> = state
            .outbox(10)
            .await
            .expect("read")
            .into_iter()
            .map(|r| (r.delivery_id, r.body))
            .collect();
        assert_eq!(
            left,
            [
                ("a".into(), "{\"id\":\"a\"}".to_owned()),
                ("b".into(), "merged".into())
            ]
        );
        let waiting = state.outbox_deliveries().await.expect("read");
        assert_eq!(
            waiting,
            ["a", "b"].map(|id| ("ops/webhook/0".to_owned(), id.to_owned()))
        );
        for id in ["a", "b"] {
            state.remove_message(id).await.expect("removed");
        }
    }
}

#[tokio::test]
async fn dead_letters_are_kept_up_to_a_bound() {
    let folder = tempfile::tempdir().expect("a folder");
    let state = State::open(&folder.path().join("state.db"))
        .await
        .expect("a state file");
    for n in 0..MAX_DEAD_LETTERS + 3 {
        let letter = DeadLetter {
            message: message(&format!("m{n}"), "g", n),
            died_at: Timestamp(n),
            error: "refused".into(),
        };
        state.move_to_dead_letters(&letter).await.expect("buried");
    }
    let letters = state.dead_letters(5000).await.expect("read");
    assert_eq!(letters.len() as i64, MAX_DEAD_LETTERS);
    assert_eq!(
        letters[0].message.delivery_id,
        format!("m{}", MAX_DEAD_LETTERS + 2),
        "the youngest stays"
    );
}

#[tokio::test]
async fn silences_are_replaced_by_id_and_pruned_by_end() {
    let folder = tempfile::tempdir().expect("a folder");
    let postgres = postgres().await;
    for state in states(folder.path(), &postgres).await {
        let row = |id: &str, ends: i64| SilenceRow {
            id: id.into(),
            starts_at: Timestamp(1),
            ends_at: Timestamp(ends),
            updated_at: Timestamp(1),
            body: "{}".into(),
        };
        state
            .put_silences(&[row("a", 10), row("b", 20)])
            .await
            .expect("written");
        state.put_silences(&[row("a", 15)]).await.expect("written");
        assert_eq!(
            state.silences().await.expect("read"),
            [row("a", 15), row("b", 20)]
        );
        state.prune_silences(Timestamp(16)).await.expect("pruned");
        assert_eq!(state.silences().await.expect("read"), [row("b", 20)]);
        state.prune_silences(Timestamp::MAX).await.expect("pruned");
    }
}

#[tokio::test]
async fn a_database_of_a_newer_program_is_refused_with_a_remedy() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("state.db");
    State::open(&path)
        .await
        .expect("a state file")
        .close()
        .await;
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(&path);
    let pool = sqlx::SqlitePool::connect_with(options)
        .await
        .expect("the file opens");
    sqlx::query("INSERT INTO migrations (number) VALUES (999)")
        .execute(&pool)
        .await
        .expect("written");
    pool.close().await;
    let error = State::open(&path).await.err().expect("refused");
    assert!(matches!(error, Error::Newer { found: 999, .. }), "{error}");
}

#[test]
fn migrations_are_numbered_without_gaps() {
    let numbers: Vec<i64> = MIGRATIONS.iter().map(|m| m.number).collect();
    assert_eq!(numbers, (1..=MIGRATIONS.len() as i64).collect::<Vec<_>>());
}

/// A failing database is an error for the caller, a metric and a health state; never a panic or a
/// hang.
#[tokio::test]
async fn a_broken_database_is_counted_and_visible() {
    let folder = tempfile::tempdir().expect("a folder");
    let state = State::open(&folder.path().join("state.db"))
        .await
        .expect("a state file");
    let telemetry = Telemetry::new();
    state.register(&telemetry);
    state.ping().await.expect("answers");
    assert!(state.is_healthy());
    state.close().await;
    state.outbox(1).await.expect_err("closed");
    assert!(!state.is_healthy());
    let text = telemetry.encode();
    assert!(text.contains("nightbell_state_errors_total 1"), "{text}");

    std::fs::write(folder.path().join("garbage.db"), vec![0x5a; 8192]).expect("written");
    let error = State::open(&folder.path().join("garbage.db"))
        .await
        .err()
        .expect("refused")
        .to_string();
    assert!(error.contains("garbage.db: cannot be opened"), "{error}");
    assert!(
        State::open(&folder.path().join("missing/state.db"))
            .await
            .is_err()
    );
}

/// A damaged file is kept for people to look at; whatever the damage, a new database begins, and
/// says so.
#[tokio::test]
async fn a_damaged_database_is_put_aside_and_a_new_one_begun() {
    type Damage = fn(&mut Vec<u8>);
    let damages: [Damage; 3] = [
        |b| *b = b"not a database, not at all".repeat(200),
        |b| b[4096..].fill(0xa5),
        |b| b.truncate(5000),
    ];
    for (number, damage) in damages.into_iter().enumerate() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("state.db");
        let (state, aside) = State::open_or_replace(&path, Timestamp(1_000))
            .await
            .expect("opens");
        assert_eq!(aside, None);
        state
            .record(&Transition {
                messages: vec![message("a", "g", 1)],
                ..Transition::default()
            })
            .await
            .expect("written");
        state.close().await;
        let (state, aside) = State::open_or_replace(&path, Timestamp(2_000))
            .await
            .expect("opens");
        assert_eq!(
            (aside, state.outbox(10).await.expect("read").len()),
            (None, 1),
            "a sound one is used"
        );
        state.close().await;

        let mut bytes = std::fs::read(&path).expect("read");
        damage(&mut bytes);
        std::fs::write(&path, &bytes).expect("written");
        let (state, replaced) = State::open_or_replace(&path, Timestamp(3_000_000))
            .await
            .unwrap_or_else(|e| panic!("damage {number}: {e}"));
        let aside = replaced.map(|replaced| replaced.aside);
        assert_eq!(
            aside.as_deref(),
            Some(folder.path().join("state.db.broken-3000").as_path()),
            "damage {number}"
        );
        assert_eq!(std::fs::read(aside.expect("moved")).expect("kept"), bytes);
        assert_eq!(state.outbox(10).await.expect("read"), []);
        let telemetry = Telemetry::new();
        state.register(&telemetry);
        assert!(
            telemetry
                .encode()
                .contains("nightbell_state_replaced_timestamp_seconds 3000"),
            "{}",
            telemetry.encode()
        );
    }
}

/// An action is there before it ends, is found by its target, is not under way after a start, and
/// is forgotten after its time.
#[tokio::test]
async fn actions_are_found_by_target_and_forgotten_after_their_time() {
    let folder = tempfile::tempdir().expect("a folder");
    let postgres = postgres().await;
    for state in states(folder.path(), &postgres).await {
        let action = |id: &str, target: &str, at: i64| ActionRow {
            id: id.into(),
            integration: "mend/command/0".into(),
            target: target.into(),
            begun_at: Timestamp(at),
            outcome: ActionOutcome::Running,
            body: ActionBody {
                alert: "Down".into(),
                alerts: vec![1, u64::MAX],
                verify_ms: Some(9),
                ..ActionBody::default()
            },
        };
        for (id, target, at) in [("a", "x", 1), ("b", "x", 2), ("c", "y", 3)] {
            state
                .put_action(&action(id, target, at))
                .await
                .expect("written");
        }
        let ended = ActionRow {
            outcome: ActionOutcome::Failed,
            body: ActionBody {
                detail: "exit status 1".into(),
                output: "it's\n磁盘".into(),
                helped: Some(false),
                ..action("a", "x", 1).body
            },
            ..action("a", "x", 1)
        };
        state.put_action(&ended).await.expect("written");
        assert_eq!(
            state
                .actions_on("mend/command/0", "x", Timestamp(0), 10)
                .await
                .expect("read"),
            [action("b", "x", 2), ended.clone()]
        );
        assert_eq!(
            state
                .actions_on("mend/command/0", "x", Timestamp(2), 10)
                .await
                .expect("read"),
            [action("b", "x", 2)]
        );
        assert_eq!(
            state
                .actions_on("other/command/0", "x", Timestamp(0), 10)
                .await
                .expect("read"),
            []
        );
        assert_eq!(
            state
                .actions_begun("mend/command/0", Timestamp(2))
                .await
                .expect("read"),
            2
        );
        state.forget_running_actions().await.expect("written");
        let outcomes =
            |rows: Vec<ActionRow>| rows.into_iter().map(|row| row.outcome).collect::<Vec<_>>();
        let all = state.actions(Timestamp(0), 10).await.expect("read");
        assert_eq!(
            outcomes(all),
            [
                ActionOutcome::Unknown,
                ActionOutcome::Unknown,
                ActionOutcome::Failed
            ],
            "youngest first"
        );
        state.prune_actions(Timestamp(3)).await.expect("pruned");
        assert_eq!(
            state
                .actions(Timestamp(0), 10)
                .await
                .expect("read")
                .into_iter()
                .map(|row| row.id)
                .collect::<Vec<_>>(),
            ["c"]
        );
    }
}

#[tokio::test]
async fn a_dead_letter_goes_back_behind_all_others() {
    let folder = tempfile::tempdir().expect("a folder");
    let postgres = postgres().await;
    for state in states(folder.path(), &postgres).await {
        let messages = vec![message("m1", "g", 1), message("m2", "g", 2)];
        state
            .record(&Transition {
                messages,
                ..Transition::default()
            })
            .await
            .expect("written");
        let letter = DeadLetter {
            message: message("m1", "g", 1),
            died_at: Timestamp(5),
            error: "403".into(),
        };
        state.move_to_dead_letters(&letter).await.expect("buried");
        assert_eq!(state.dead_letter("m1").await.expect("read"), Some(letter));
        assert!(
            !state
                .revive_message("m2", Timestamp(9))
                .await
                .expect("there is none")
        );
        assert!(
            state
                .revive_message("m1", Timestamp(9))
                .await
                .expect("back")
        );
        assert_eq!(state.dead_letters(10).await.expect("read"), []);
        let waiting = state.outbox(10).await.expect("read");
        assert_eq!(
            waiting,
            [message("m2", "g", 2), message("m1", "g", 9)],
            "its age counts from now"
        );
    }
}

/// What can be read of a damaged database is in the new one.
#[tokio::test]
async fn a_damaged_database_gives_its_readable_rows_to_the_new_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("state.db");
    let (state, _) = State::open_or_replace(&path, Timestamp(1_000))
        .await
        .expect("opens");
    let silence = |n: i64| SilenceRow {
        id: format!("s{n}"),
        starts_at: Timestamp(n),
        ends_at: Timestamp(n),
        updated_at: Timestamp(n),
        body: "b".into(),
    };
    state
        .put_silences(&(0..50).map(silence).collect::<Vec<_>>())
        .await
        .expect("written");
    let body = "x".repeat(900);
    let messages = (0..400)
        .map(|n| OutboxRow {
            body: body.clone(),
            ..message(&format!("m{n}"), "g", n)
        })
        .collect();
    state
        .record(&Transition {
            messages,
            ..Transition::default()
        })
        .await
        .expect("written");
    state.close().await;

    // A page of the outbox, somewhere in its middle.
    let mut bytes = std::fs::read(&path).expect("read");
    let is_row =
        |at: &usize| bytes[*at..].starts_with(b"m200") && bytes[*at..*at + 100].ends_with(b"xxxx");
    let at = (0..bytes.len() - 100).find(is_row).expect("there");
    let page = at / 4096 * 4096;
    bytes[page..page + 4096].fill(0xa5);
    std::fs::write(&path, &bytes).expect("written");
    let (state, replaced) = State::open_or_replace(&path, Timestamp(3_000_000))
        .await
        .expect("opens");
    let (silences, left) = (
        state.silences().await.expect("read").len(),
        state.outbox(1000).await.expect("read"),
    );
    assert_eq!(silences, 50, "another table is whole");
    assert!(
        left.len() >= 390 && left.len() < 400,
        "{} of 400",
        left.len()
    );
    assert!(
        left.iter().any(|row| row.delivery_id == "m0")
            && left.iter().any(|row| row.delivery_id == "m399"),
        "both sides of the damage"
    );
    assert!(replaced.is_some_and(|replaced| replaced.rows >= 440));
}

/// A byte that PostgreSQL refuses, or a row too large for it, never takes the others along.
#[tokio::test]
async fn a_row_that_cannot_be_kept_takes_no_other_along() {
    let postgres = postgres().await;
    let folder = tempfile::tempdir().expect("a folder");
    for state in states(folder.path(), &postgres).await {
        // Too large for an index of PostgreSQL, and not to be compressed.
        let mut seed = 1u64;
        let noise: String = std::iter::repeat_with(|| {
            seed = seed
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            format!("{seed:016x}")
        })
        .take(2000)
        .collect();
        let messages = vec![
            message("first", "g", 1),
            message("nul", "g\0h", 2),
            message("large", &noise, 3),
            message("last", "g", 4),
        ];
        let refused = state
            .record(&Transition {
                messages,
                ..Transition::default()
            })
            .await
            .expect("written")
            .messages;
        let kept: Vec<String> = state
            .outbox(10)
            .await
            .expect("read")
            .into_iter()
            .map(|row| row.delivery_id)
            .collect();
        let all: Vec<&String> = kept.iter().chain(&refused).collect();
        assert_eq!(all.len(), 4, "{all:?}");
        assert!(
            ["first", "nul", "last"]
                .iter()
                .all(|id| kept.iter().any(|kept| kept == id)),
            "{kept:?}"
        );
        assert!(state.is_healthy());
    }
}

/// The file gives back what it no longer needs, also one that an older version made.
#[tokio::test]
async fn a_database_gives_its_space_back() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("state.db");
    let older = format!("sqlite://{}?mode=rwc", path.display());
    let mut connection = <sqlx::SqliteConnection as sqlx::Connection>::connect(&older)
        .await
        .expect("made");
    sqlx::raw_sql(
        "PRAGMA auto_vacuum = 0; CREATE TABLE old (a TEXT); INSERT INTO old VALUES ('x')",
    )
    .execute(&mut connection)
    .await
    .expect("made");
    sqlx::Connection::close(connection).await.expect("closed");
    let state = State::open(&path).await.expect("opens");
    let body = "x".repeat(100_000);
    let messages = (0..200)
        .map(|n| OutboxRow {
            body: body.clone(),
            ..message(&format!("m{n}"), "g", n)
        })
        .collect();
    state
        .record(&Transition {
            messages,
            ..Transition::default()
        })
        .await
        .expect("written");
    for n in 0..200 {
        state
            .remove_message(&format!("m{n}"))
            .await
            .expect("removed");
    }
    state.trim(Timestamp(5)).await.expect("trimmed");
    let bytes = path.metadata().expect("there").len();
    assert!(bytes < 1 << 20, "{bytes}");
    let telemetry = Telemetry::new();
    state.register(&telemetry);
    assert!(
        !telemetry
            .encode()
            .contains("nightbell_state_size_bytes 0\n"),
        "{}",
        telemetry.encode()
    );
}

/// No table grows without bound: what waits longest becomes a dead letter, the oldest entries are
/// forgotten first.
#[tokio::test]
async fn every_table_is_bounded_and_the_oldest_rows_go_first() {
    const TOO_MANY: &str = "
        INSERT INTO outbox (delivery_id, seq, integration, group_key, created_ms, held, body)
            WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100007)
            SELECT 'm' || i, i, 'ops/webhook/0', 'g', i, 0, 'body' FROM n;
        INSERT INTO notification_log (group_key, integration, sent_ms, firing, resolved, expires_ms)
            WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 200009)
            SELECT 'g' || i, 'ops/webhook/0', i, '', '', 1000000000 + i FROM n;
        INSERT INTO escalations (fingerprint, receiver, starts_ms, told_ms, level, acknowledged_ms, acknowledged_by)
            WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 200011)
            SELECT 'f' || i, 'ops', i, i, 1, 0, '' FROM n;";
    const COUNTS: &str = "SELECT CAST((SELECT COUNT(*) FROM outbox) AS BIGINT), CAST((SELECT MIN(seq) FROM outbox) AS BIGINT), \
                          CAST((SELECT COUNT(*) FROM dead_letters) AS BIGINT), CAST((SELECT COUNT(*) FROM notification_log) AS BIGINT), \
                          CAST((SELECT MIN(sent_ms) FROM notification_log) AS BIGINT), \
                          CAST((SELECT COUNT(*) FROM escalations) AS BIGINT), CAST((SELECT MIN(told_ms) FROM escalations) AS BIGINT)";
    use sqlx::Connection as _;
    let (postgres, folder) = (postgres().await, tempfile::tempdir().expect("a folder"));
    let [sqlite, shared]: [State; 2] = states(folder.path(), &postgres)
        .await
        .try_into()
        .ok()
        .expect("two");
    let bounded = (100_000, 8, 7, 200_000, 10, 200_000, 12);

    let file = format!("sqlite://{}", folder.path().join("state.db").display());
    let mut connection = sqlx::SqliteConnection::connect(&file)
        .await
        .expect("connected");
    sqlx::raw_sql(TOO_MANY)
        .execute(&mut connection)
        .await
        .expect("written");
    sqlite.trim(Timestamp(5)).await.expect("trimmed");
    let counts: (i64, i64, i64, i64, i64, i64, i64) = sqlx::query_as(COUNTS)
        .fetch_one(&mut connection)
        .await
        .expect("read");
    assert_eq!(counts, bounded);

    let mut connection = sqlx::PgConnection::connect(&postgres.dsn("postgres", "postgres"))
        .await
        .expect("connected");
    sqlx::raw_sql(TOO_MANY)
        .execute(&mut connection)
        .await
        .expect("written");
    shared.trim(Timestamp(5)).await.expect("trimmed");
    let counts: (i64, i64, i64, i64, i64, i64, i64) = sqlx::query_as(COUNTS)
        .fetch_one(&mut connection)
        .await
        .expect("read");
    assert_eq!(counts, bounded);
    let letters = shared.dead_letters(100).await.expect("read");
    assert!(
        letters
            .iter()
            .all(|letter| letter.error == "too many messages wait"),
        "{letters:?}"
    );
}

/// A folder that becomes writable again is used again, with what memory held meanwhile and what the
/// file held before.
#[tokio::test]
async fn a_database_that_can_be_opened_again_is_used_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("below/state.db");
    std::fs::write(folder.path().join("below"), "in the way").expect("written");
    let state = State::instead(
        Some(path.clone()),
        "127.0.0.1:9908".parse().expect("an address"),
    )
    .await
    .expect("in memory");
    assert!(state.is_instead());
    state
        .record(&Transition {
            messages: vec![message("meanwhile", "g", 1)],
            ..Transition::default()
        })
        .await
        .expect("written");
    assert!(
        state.open_wanted(Timestamp(1)).await.is_err(),
        "still in the way"
    );
    std::fs::remove_file(folder.path().join("below")).expect("removed");
    std::fs::create_dir(folder.path().join("below")).expect("made");
    let other = State::open(&path).await.expect("opens");
    other
        .record(&Transition {
            messages: vec![message("before", "g", 1)],
            ..Transition::default()
        })
        .await
        .expect("written");
    other.close().await;
    assert!(state.open_wanted(Timestamp(2)).await.expect("opened"));
    assert!(!state.is_instead());
    let mut held: Vec<String> = state
        .outbox(10)
        .await
        .expect("read")
        .into_iter()
        .map(|row| row.delivery_id)
        .collect();
    held.sort();
    assert_eq!(held, ["before", "meanwhile"]);
    state.close().await;
    let again = State::open(&path).await.expect("opens");
    assert_eq!(again.outbox(10).await.expect("read").len(), 2, "on disk");
}
