//! The built-in texts: what they say, and that no limit is exceeded.

use proptest::prelude::{ProptestConfig, prop_assert, proptest};

use super::shorten::fit;
use super::*;

fn alert(status: AlertStatus) -> NotifiedAlert {
    let pairs = |list: &[(&str, &str)]| {
        list.iter()
            .map(|(n, v)| ((*n).to_owned(), (*v).to_owned()))
            .collect()
    };
    NotifiedAlert {
        status,
        labels: pairs(&[
            ("alertname", "Down"),
            ("instance", "db1"),
            ("job", "pg"),
            ("severity", "critical"),
        ]),
        annotations: Vec::new(),
        starts_at_ms: 0,
        ends_at_ms: None,
        generator_url: String::new(),
        fingerprint: String::new(),
        value: None,
        peak: None,
        evidence: Vec::new(),
    }
}

fn notification(alerts: Vec<NotifiedAlert>) -> Notification {
    let labels = super::super::notification::common(alerts.iter().map(|a| a.labels.as_slice()));
    Notification {
        delivery_id: String::new(),
        receiver: "r".into(),
        group_key: "{}:{}".into(),
        status: AlertStatus::Firing,
        stands_in_for: Vec::new(),
        report: None,
        digest: 0,
        truncated_alerts: 0,
        group_labels: labels
            .iter()
            .filter(|(n, _)| n == "alertname" || n == "job")
            .cloned()
            .collect(),
        common_labels: labels,
        common_annotations: Vec::new(),
        external_url: String::new(),
        reason: String::new(),
        at_ms: 0,
        alerts,
    }
}

fn style(language: Language) -> Style {
    Style {
        language,
        zone: TimeZone::UTC,
    }
}

/// SEMANTICS 178.
#[test]
fn the_subject_is_alertmanagers() {
    let mut n = notification(vec![alert(AlertStatus::Firing), alert(AlertStatus::Firing)]);
    assert_eq!(
        subject(&n, Language::En),
        "[FIRING:2] Down pg (db1 critical)"
    );
    n.alerts
        .iter_mut()
        .for_each(|a| a.status = AlertStatus::Resolved);
    n.common_labels.clone_from(&n.group_labels);
    assert_eq!(subject(&n, Language::En), "[RESOLVED] Down pg");
    n.receiver = "ops.mail".into();
    n.external_url = "http://bell".into();
    assert_eq!(link(&n), "http://bell/#/alerts?receiver=ops%5C.mail");
}

/// A Chinese reader gets the texts that are written for one, and a subject in the same words;
/// others do not see them.
#[test]
fn a_chinese_message_has_the_chinese_texts_of_its_alert() {
    let mut both = alert(AlertStatus::Firing);
    let pairs = [
        ("description", "It is down."),
        ("description_zh", "它停了。"),
        ("summary", "db1 is down"),
        ("summary_zh", "db1 已停止"),
    ];
    both.annotations = pairs
        .map(|(name, text)| (name.to_owned(), text.to_owned()))
        .to_vec();
    let n = notification(vec![both.clone()]);
    let chinese = body(&n, &style(Language::Zh), &PLAIN, 1000);
    assert!(
        chinese.contains("[告警] db1 已停止\n  它停了。\n") && !chinese.contains("is down"),
        "{chinese}"
    );
    let english = body(&n, &style(Language::En), &PLAIN, 1000);
    assert!(
        english.contains("[FIRING] db1 is down\n  It is down.\n") && !english.contains("停"),
        "{english}"
    );
    assert_eq!(subject(&n, Language::Zh), "[告警:1] Down pg (db1 critical)");
    assert_eq!(
        subject(&Notification { digest: 3, ..n }, Language::Zh),
        "[告警:1] 3 条消息合并 Down pg (db1 critical)"
    );
    // An annotation that exists only in English is sent in English.
    both.annotations.retain(|(name, _)| !name.ends_with("_zh"));
    assert!(
        body(
            &notification(vec![both]),
            &style(Language::Zh),
            &PLAIN,
            1000
        )
        .contains("[告警] db1 is down\n  It is down.\n")
    );
}

/// A robot's Markdown has no escapes, and what stands in an alert must not call people.
#[test]
fn the_text_of_an_alert_is_no_tag_in_a_robots_markdown() {
    let mut hostile = alert(AlertStatus::Firing);
    let text = "<at id=all></at> <@all> <font color=red> up < 1 and 2<3";
    hostile.annotations = vec![("summary".into(), text.into())];
    let text = body(
        &notification(vec![hostile]),
        &style(Language::En),
        &ROBOT,
        1000,
    );
    assert!(
        text.contains("**‹at id=all>‹/at> ‹@all> ‹font color=red> up < 1 and 2<3**"),
        "{text}"
    );
}

/// The first lines name the worst alerts.
#[test]
fn the_gravest_alert_that_fires_stands_first() {
    let with = |severity: &str, status, summary: &str| {
        let mut one = alert(status);
        one.labels
            .iter_mut()
            .filter(|(name, _)| name == "severity")
            .for_each(|(_, value)| *value = severity.into());
        one.annotations = vec![("summary".into(), summary.into())];
        one
    };
    let (firing, resolved) = (AlertStatus::Firing, AlertStatus::Resolved);
    let n = notification(vec![
        with("critical", resolved, "over"),
        with("info", firing, "small"),
        with("warning", firing, "middle"),
        with("page", firing, "grave"),
        with("critical", firing, "worst"),
    ]);
    let text = body(&n, &style(Language::En), &PLAIN, 4000);
    let positions =
        ["grave", "worst", "middle", "small", "over"].map(|word| text.find(word).expect(word));
    assert!(positions.is_sorted(), "{text}");
    let document = html(&n, &style(Language::En), "t", &[], &[], 80 << 10);
    let colours = ["#d93f3f", "#c77700", "#3b82f6", "#2e9e5b"]
        .map(|colour| document.find(colour).expect(colour));
    assert!(colours.is_sorted(), "{document}");
    assert!(
        brief(&n, &style(Language::En), 400)
            .lines()
            .nth(1)
            .is_some_and(|line| line.starts_with("grave")),
        "as in the message"
    );
}

/// An SMS with one alert has room for what it is about.
#[test]
fn the_fewer_alerts_a_brief_text_has_the_more_it_says_of_each() {
    let mut long = alert(AlertStatus::Firing);
    long.annotations = vec![(
        "summary".into(),
        "数据库 db1 的磁盘已用百分之九十七，一小时后写满，请清理日志或扩容".into(),
    )];
    let one = brief(&notification(vec![long.clone()]), &style(Language::Zh), 400);
    assert!(
        one.contains("请清理日志或扩容 (db1)") && one.len() <= 400,
        "{one}"
    );
    let many: Vec<NotifiedAlert> = (0..20)
        .map(|index| {
            let mut one = long.clone();
            one.labels
                .iter_mut()
                .filter(|(name, _)| name == "instance")
                .for_each(|(_, value)| *value = format!("db{index}"));
            one
        })
        .collect();
    let named = brief(&notification(many.clone()), &style(Language::Zh), 1600);
    assert!(
        (0..20).all(|index| named.contains(&format!("db{index}"))) && named.len() <= 1600,
        "{named}"
    );
    let counted = brief(&notification(many), &style(Language::Zh), 160);
    assert!(
        counted.contains("条告警") && counted.len() <= 160,
        "{counted}"
    );
}

#[test]
fn an_alert_that_says_nothing_still_makes_a_message() {
    let mut bare = alert(AlertStatus::Firing);
    bare.labels.clear();
    let text = body(
        &notification(vec![bare]),
        &style(Language::En),
        &PLAIN,
        1000,
    );
    assert_eq!(
        text,
        "1 firing\n\n[FIRING] Alert\n  Since: 1970-01-01 00:00:00 UTC (0s)\n\n"
    );
}

#[test]
fn values_and_durations_are_short_enough_to_read() {
    for (value, text) in [
        (93.4567, "93.46"),
        (3.0, "3"),
        (1_234_567.0, "1234567"),
        (12_345.678, "12345.7"),
        (0.000_123_456, "0.0001235"),
        (0.5, "0.5"),
        (1e-9, "1e-09"),
        (f64::NAN, "NaN"),
        (f64::INFINITY, "+Inf"),
        (-0.25, "-0.25"),
        (0.0, "0"),
    ] {
        assert_eq!(format_value(value), text);
    }
    for (ms, text) in [
        (999, "0s"),
        (330_000, "5m30s"),
        (86_400_000, "1d"),
        (183_661_000, "2d3h1m"),
        (-5, "0s"),
    ] {
        assert_eq!(elapsed(0, ms), text);
    }
}

#[test]
fn a_message_names_as_many_alerts_as_fit_and_counts_the_others() {
    let n = notification((0..50).map(|_| alert(AlertStatus::Firing)).collect());
    let text = body(&n, &style(Language::En), &PLAIN, 600);
    let shown = text.matches("[FIRING] Down\n").count();
    assert!(
        shown > 1
            && text.len() <= 600
            && text.contains(&format!(
                "… and {} more alerts:\n[FIRING] Down (critical) ×{0}, instance=db1, job=pg\n",
                50 - shown
            )),
        "{text}"
    );
    let text = body(&n, &style(Language::Zh), &PLAIN, 600);
    assert!(text.contains("条告警：\n") && text.len() <= 600, "{text}");
}

/// A description of any length is cut inside itself, so that a document stays well formed.
#[test]
fn html_stays_whole_when_a_text_is_too_long() {
    let mut long = alert(AlertStatus::Firing);
    long.annotations = vec![
        ("description".into(), "<b>&".repeat(100_000)),
        ("runbook_url".into(), "javascript:alert(1)".into()),
    ];
    let document = html(
        &notification(vec![long]),
        &style(Language::En),
        "t",
        &[],
        &[],
        80 << 10,
    );
    assert!(
        document.ends_with("</body></html>\n")
            && !document.contains("<b>")
            && !document.contains("href=\"javascript")
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Limits are bytes of UTF-8 and are never exceeded; characters are never broken (a broken one
    /// would panic).
    #[test]
    fn no_limit_is_ever_exceeded(text in "\\PC{0,200}", entries in proptest::collection::vec("\\PC{0,80}", 0..6), limit in 0usize..400) {
        for language in [Language::En, Language::Zh] {
            prop_assert!(cut_bytes(&text, limit, language).len() <= limit.max(text.len().min(limit)));
            prop_assert!(fit("head", &entries, &text, limit, language).len() <= limit);
        }
        prop_assert!(cut_chars(&text, limit.max(1)).chars().count() <= limit.max(1));
        let cut = cut_text(&text, limit, Language::En);
        prop_assert!(units(&cut) <= limit);
        prop_assert!(cut == text || limit < 30 || cut.contains("characters cut]"), "{cut}");
    }
}

/// How often it fired, since when, whether it fires now, its last values; and once it has settled,
/// until when.
#[test]
fn an_alert_that_flaps_says_so_in_both_languages() {
    use crate::model::alert::evidence::Clue;
    let mut alert = alert(AlertStatus::Firing);
    let flapping = |until_ms| Clue::Flapping {
        firings: 5,
        since_ms: 0,
        until_ms,
        fires: false,
        values: vec![91.0, 84.5],
    };
    alert.evidence = vec![flapping(None)];
    let text = body(
        &notification(vec![alert.clone()]),
        &style(Language::En),
        &PLAIN,
        2000,
    );
    let wanted = "  Flapping: fired 5 times since 1970-01-01 00:00:00 UTC, quiet now; no further message until it is stable; last values 91, 84.5\n";
    assert!(text.contains(wanted), "{text}");
    let text = body(
        &notification(vec![alert.clone()]),
        &style(Language::Zh),
        &PLAIN,
        2000,
    );
    let wanted = "  反复抖动：自 1970-01-01 00:00:00 UTC 起触发 5 次，目前已恢复；稳定之前不再通知；最近的值 91、84.5\n";
    assert!(text.contains(wanted), "{text}");
    alert.evidence = vec![flapping(Some(60_000))];
    (alert.status, alert.ends_at_ms) = (AlertStatus::Resolved, Some(60_000));
    let text = body(
        &notification(vec![alert]),
        &style(Language::En),
        &PLAIN,
        2000,
    );
    let wanted = "  Flapping: fired 5 times since 1970-01-01 00:00:00 UTC until 1970-01-01 00:01:00 UTC, stable since; last values 91, 84.5\n";
    assert!(text.contains(wanted), "{text}");
}

/// The evidence card: parts, threshold, what was before, age, sightings and users while it fires;
/// only the sightings once it is over.
#[test]
fn evidence_stands_among_the_facts_in_both_languages() {
    use crate::model::alert::evidence::{Clue, Top};
    let mut hot = alert(AlertStatus::Firing);
    hot.evidence = vec![
        Clue::Part {
            expression: "a / b".into(),
            value: Some(0.97),
        },
        Clue::Part {
            expression: "b".into(),
            value: Some(100.0),
        },
        Clue::Part {
            expression: "node_memory_MemFree_bytes{job=\"node\"}".into(),
            value: Some(1_610_612_736.0),
        },
        Clue::Part {
            expression: "c".into(),
            value: None,
        },
        Clue::Threshold {
            operator: ">".into(),
            value: Some(0.9),
        },
        Clue::Before {
            value: Some(0.5),
            at_ms: 60_000,
        },
        Clue::SampleAge { seconds: 3.2 },
        Clue::Seen {
            count: 2,
            last_ms: Some(0),
        },
        Clue::Top {
            of: Top::ProcessCpu,
            items: vec![("python".into(), 0.934), ("nginx".into(), 0.1)],
        },
        Clue::Lines {
            lines: vec!["ERROR one".into(), format!("ERROR {}", "x".repeat(1000))],
        },
    ];
    let text = body(
        &notification(vec![hot.clone()]),
        &style(Language::En),
        &PLAIN,
        2000,
    );
    for line in [
        "  Threshold: > 0.9\n",
        "  Evidence: a / b = 0.97; b = 100; node_memory_MemFree_bytes{job=\"node\"} = 1610612736 (1.5 GiB)\n",
        "  Before: 0.5 (1970-01-01 00:01:00 UTC)\n",
        "  Newest sample: 3s old when it fired\n",
        "  Seen before: 2 times in 30 days, last at 1970-01-01 00:00:00 UTC\n",
        "  Top processes: python 93.4% CPU; nginx 10% CPU\n",
        "  Log: ERROR one\n  Log: ERROR xxx",
    ] {
        assert!(text.contains(line), "{line}{text}");
    }
    let text = body(
        &notification(vec![hot.clone()]),
        &style(Language::Zh),
        &PLAIN,
        2000,
    );
    assert!(
        text.contains("  依据：a / b = 0.97；b = 100；node_memory_MemFree_bytes")
            && text.contains("  历史触发：30 天内 2 次，最近一次 1970-01-01 00:00:00 UTC\n"),
        "{text}"
    );
    hot.status = AlertStatus::Resolved;
    hot.ends_at_ms = Some(60_000);
    let text = body(&notification(vec![hot]), &style(Language::En), &PLAIN, 2000);
    assert!(
        text.contains("  Seen before: 2 times")
            && !text.contains("Evidence")
            && !text.contains("Top processes"),
        "{text}"
    );
}

/// The next contact reads why the alert comes to them.
#[test]
fn an_escalated_alert_says_who_has_not_answered_in_both_languages() {
    let mut one = alert(AlertStatus::Firing);
    one.evidence = vec![crate::model::alert::evidence::Clue::Unanswered {
        receiver: "oncall".into(),
        since_ms: 60_000,
    }];
    let text = |language| {
        body(
            &notification(vec![one.clone()]),
            &style(language),
            &PLAIN,
            2000,
        )
    };
    let wanted = "[FIRING] Down\n  Escalated: oncall was notified at 1970-01-01 00:01:00 UTC, and nobody has acknowledged it\n";
    assert!(
        text(Language::En).contains(wanted),
        "{}",
        text(Language::En)
    );
    assert!(
        text(Language::Zh)
            .contains("  升级：已于 1970-01-01 00:01:00 UTC 通知 oncall，至今无人确认\n"),
        "{}",
        text(Language::Zh)
    );
}

/// The next messages tell what was done, how it ended, what it printed and whether it helped; also
/// the one that tells of the end.
#[test]
fn recovery_actions_stand_among_the_facts_in_both_languages() {
    use crate::model::ActionOutcome;
    use crate::model::alert::evidence::Clue;
    let action = |outcome, detail: &str, output: &str, helped| Clue::Action {
        target: "docker restart -- web".into(),
        at_ms: 60_000,
        outcome,
        detail: detail.into(),
        output: output.into(),
        helped,
    };
    let shown = |clue: Clue, status, language| {
        let mut one = alert(status);
        one.evidence = vec![clue];
        body(&notification(vec![one]), &style(language), &PLAIN, 4000)
    };
    let failed = || {
        action(
            ActionOutcome::Failed,
            "exit status 1",
            "no such container: web",
            Some(false),
        )
    };
    for (clue, status, language, line) in [
        (
            failed(),
            AlertStatus::Firing,
            Language::En,
            "  Recovery: docker restart -- web (1970-01-01 00:01:00 UTC): FAILED, exit status 1; it did not help, the alert fires on; output: no such container: web\n",
        ),
        (
            failed(),
            AlertStatus::Firing,
            Language::Zh,
            "  恢复动作：docker restart -- web (1970-01-01 00:01:00 UTC): 失败，exit status 1；未见效，告警仍在触发；输出：no such container: web\n",
        ),
        (
            action(ActionOutcome::Succeeded, "exit status 0", "", Some(true)),
            AlertStatus::Resolved,
            Language::En,
            "  Recovery: docker restart -- web (1970-01-01 00:01:00 UTC): succeeded, exit status 0; the alert was over afterwards\n",
        ),
        (
            action(
                ActionOutcome::LimitReached,
                "done 3 times in 1h already; somebody must look",
                "",
                None,
            ),
            AlertStatus::Firing,
            Language::En,
            "  Recovery: docker restart -- web (1970-01-01 00:01:00 UTC): STOPPED: its limit is reached, done 3 times in 1h already; somebody must look\n",
        ),
        (
            action(ActionOutcome::Unknown, "", "", None),
            AlertStatus::Firing,
            Language::Zh,
            "  恢复动作：docker restart -- web (1970-01-01 00:01:00 UTC): 被中断，结果未知\n",
        ),
    ] {
        let text = shown(clue, status, language);
        assert!(text.contains(line), "{line}{text}");
    }
}
