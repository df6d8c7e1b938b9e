//! What templates give and what is refused at load. Expected texts are those of Prometheus 3.5
//! (`promtool test rules`).

use std::sync::Arc;

use super::{Queried, Query, RuleData, check, expand};
use crate::model::{Labels, METRIC_NAME, Timestamp};

fn render(written: &str, value: f64) -> String {
    let labels = Labels::from_pairs([
        (METRIC_NAME, "up"),
        ("instance", "db.example.org:9100"),
        ("job", "node"),
    ]);
    let query: Query = Arc::new(|expression| match expression {
        "none" => Ok(Vec::new()),
        "bad" => Err("no".into()),
        _ => Ok([("b", 2.0), ("a", 1.0)]
            .map(|(job, value)| Queried {
                labels: Labels::from_pairs([("job", job)]),
                value,
                histogram: None,
            })
            .into()),
    });
    let external = Labels::from_pairs([("region", "eu")]);
    let data = RuleData {
        labels: &labels,
        external_labels: &external,
        external_url: "http://bell.example.org/x",
        value,
        histogram: None,
        now: Timestamp(1_435_781_451_781),
        query: &query,
    };
    expand("A", written, &data)
}

/// SEMANTICS 129-134.
#[test]
fn functions_print_what_prometheus_prints() {
    for (written, value, expected) in [
        ("plain }} text", 0.0, "plain }} text"),
        (
            "{{ $labels.instance }} {{ .Labels.job }} {{ $labels.__name__ }}",
            0.0,
            "db.example.org:9100 node up",
        ),
        ("[{{ $labels.missing }}]", 0.0, "[]"),
        ("{{ $value }}", 0.1, "0.1"),
        ("{{ $value }}", 1e21, "1e+21"),
        ("{{ $value }}", 123_456_789.0, "1.23456789e+08"),
        ("{{ $value | humanize }}", 1_234_567.0, "1.235M"),
        ("{{ humanize $value }}", 0.5, "500m"),
        ("{{ humanize $value }}", f64::NAN, "NaN"),
        ("{{ $value | humanize1024 }}", 1_048_576.0, "1Mi"),
        ("{{ $value | humanize1024 }}", 2048.0, "2ki"),
        ("{{ $value | humanizePercentage }}", 0.123_456, "12.35%"),
        ("{{ $value | humanizeDuration }}", 93_784.0, "1d 2h 3m 4s"),
        ("{{ $value | humanizeDuration }}", 3605.0, "1h 0m 5s"),
        ("{{ $value | humanizeDuration }}", 1.2345, "1.234s"),
        ("{{ $value | humanizeDuration }}", 0.1, "100ms"),
        ("{{ $value | humanizeDuration }}", -65.0, "-1m 5s"),
        (
            "{{ $value | humanizeTimestamp }}",
            1_435_781_451.781,
            "2015-07-01 20:10:51.78 +0000 UTC",
        ),
        (
            "{{ ($value | toTime).Format \"2006-01-02T15:04\" }}",
            1_435_781_451.781,
            "2015-07-01T20:10",
        ),
        (
            "{{ printf \"%.2f%% of %s\" $value $labels.job }}",
            99.5,
            "99.50% of node",
        ),
        (
            "{{ with query \"x\" }}{{ . | first | value }}{{ end }}",
            0.0,
            "2",
        ),
        (
            "{{ range query \"x\" | sortByLabel \"job\" }}{{ .Labels.job }}={{ .Value }};{{ end }}",
            0.0,
            "a=1;b=2;",
        ),
        ("{{ query \"x\" | first | label \"job\" }}", 0.0, "b"),
        (
            "{{ reReplaceAll \"(.*):.*\" \"$1\" $labels.instance }}",
            0.0,
            "db.example.org",
        ),
        ("{{ $labels.instance | stripPort }}", 0.0, "db.example.org"),
        ("{{ $labels.instance | stripDomain }}", 0.0, "db:9100"),
        ("{{ parseDuration \"1h30m\" }}", 0.0, "5400"),
        (
            "{{ graphLink \"up == 0\" }}",
            0.0,
            "/graph?g0.expr=up+%3D%3D+0&g0.tab=0",
        ),
        ("{{ title \"aLPHA beta\" }}", 0.0, "ALPHA Beta"),
        (
            "{{ externalURL }} {{ pathPrefix }} {{ $externalLabels.region }}",
            0.0,
            "http://bell.example.org/x /x eu",
        ),
        ("{{ $externalURL }}", 0.0, "http://bell.example.org/x"),
        (
            "{{ if gt $value 1.0 }}high{{ else }}low{{ end }}",
            2.0,
            "high",
        ),
        (
            "{{ define \"x\" }}<{{ .arg0 }}{{ .arg1 }}>{{ end }}{{ template \"x\" (args 1 \"b\") }}",
            0.0,
            "<1b>",
        ),
        (
            "{{ if match \"^db\" $labels.instance }}yes{{ end }}",
            0.0,
            "yes",
        ),
    ] {
        assert_eq!(render(written, value), expected, "{written}");
    }
}

/// SEMANTICS 130: what fails while running becomes text.
#[test]
fn a_failure_becomes_the_text() {
    for written in [
        "{{ query \"none\" | first }}",
        "{{ query \"bad\" }}",
        "{{ .Nothing.x }}",
        "{{ humanize \"x\" }}",
        "{{ range 1000000 }}x{{ end }}",
    ] {
        let text = render(written, 0.0);
        assert!(
            text.starts_with("<error expanding template: error executing template __alert_A: "),
            "{written}: {text}"
        );
    }
    assert!(
        render("{{ query \"none\" | first }}", 0.0)
            .contains("first() called on vector with no elements")
    );
}

/// SEMANTICS 96, 97: what Go refuses is refused at load.
#[test]
fn what_go_refuses_is_refused_at_load() {
    for (written, fault) in [
        ("{{ if true }}", "unexpected EOF"),
        ("{{ end }}", "unexpected {{end}}"),
        ("{{ else }}", "unexpected {{else}}"),
        (
            "a\n{{ nope 1 }}",
            "template: __alert_A:2: function \"nope\" not defined",
        ),
        ("{{ $nope }}", "undefined variable \"$nope\""),
        ("{{ __dot . \"x\" }}", "function \"__dot\" not defined"),
        ("{{ break }}", "{{break}} outside {{range}}"),
        ("{{ /* no comment */ }}", "unexpected \"/\" in command"),
        ("{{ $labels.x", "unclosed action"),
    ] {
        let error = check("A", written).expect_err(written);
        assert!(error.to_string().contains(fault), "{written}: {error}");
    }
    for written in [
        "{{/* a }} b */}}",
        "{{- /* a */ -}}",
        "{{ \"}}\" }}",
        "{{ range $i, $x := query `up` }}{{ $i }}{{ else }}-{{ end }}",
        "",
    ] {
        check("A", written).expect(written);
    }
}

/// Found by the fuzz test of rule files: each field is a call inside the next one, so a long row of
/// them took all of the stack.
#[test]
fn a_row_of_fields_without_end_is_refused() {
    for text in ["{{ $labels", "{{ .Labels", "{{ (print 1)"]
        .map(|start| format!("{start}{} }}}}", ".i".repeat(3000)))
    {
        let error = check("A", &text).expect_err("too many");
        assert!(
            error.to_string().contains("more than 100 fields in a row"),
            "{error}"
        );
    }
}
