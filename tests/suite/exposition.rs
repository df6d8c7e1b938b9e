//! The text formats: what is read, what is refused, and that what we write reads back.

use nightbell::exposition::encode::{openmetrics, text};
use nightbell::exposition::parse::help_text;
use nightbell::exposition::{Format, Item, Lines, labels};
use nightbell::model::{Batch, LabelsBuilder, MetricKind};
use proptest::prelude::{ProptestConfig, any, prop, proptest};

/// Every sample of a page as `series value [timestamp]`, or the error.
fn read(page: &[u8], format: Format) -> Result<Vec<String>, String> {
    let mut lines = Lines::new(page, format);
    let mut kind = MetricKind::Untyped;
    let mut out = Vec::new();
    while let Some(item) = lines.next(b"").map_err(|e| e.to_string())? {
        match item {
            Item::Type(_, k) => kind = k,
            Item::Help(..) | Item::Unit(..) => {}
            Item::Sample(line) => {
                let mut builder = LabelsBuilder::new();
                labels(line.series, kind, &mut builder).map_err(str::to_owned)?;
                let stamp = line
                    .timestamp
                    .map(|t| format!(" {}", t.0))
                    .unwrap_or_default();
                out.push(format!("{} {}{stamp}", builder.build(), line.value));
            }
        }
    }
    Ok(out)
}

fn read_text(page: &str) -> Result<Vec<String>, String> {
    read(page.as_bytes(), Format::Text)
}

fn read_open(page: &str) -> Result<Vec<String>, String> {
    read(page.as_bytes(), Format::OpenMetrics)
}

/// SEMANTICS 34 to 38: the freedoms of text 0.0.4.
#[test]
fn text_is_read_as_prometheus_reads_it() {
    for (page, want) in [
        ("", &[][..]),
        ("\n\n \n", &[]),
        ("a 1", &["a 1"]),
        (" \ta\t {  } \t 1 \t 1700 \t\nb 2\n", &["a 1 1700", "b 2"]),
        ("a{x=\"1\",} 1\n", &["a{x=\"1\"} 1"]),
        ("a{x=\"1\" y=\"2\"} 1\n", &["a{x=\"1\", y=\"2\"} 1"]),
        (
            "a{x = \"}{ \\\" \\\\ \\n \\q\"} +Inf\n",
            &["a{x=\"}{ \\\" \\\\ \\n \\\\q\"} inf"],
        ),
        (
            "a{x=\"line\nbreak\"} -inf\n",
            &["a{x=\"line\\nbreak\"} -inf"],
        ),
        ("a{x=\"\"} nan\n", &["a NaN"]),
        (
            "{\"a.b\",\"x y\"=\"1\"} 0.5e3\n",
            &["{\"a.b\", \"x y\"=\"1\"} 500"],
        ),
        ("{\"a\"} 1\n", &["a 1"]),
        (
            "# a comment\n#HELP\n# HELPER x\n# TYPEa b\n#\na:b 1\n",
            &["a:b 1"],
        ),
        ("# HELP a\n# TYPE a gauge\na .5\n", &["a 0.5"]),
        (
            "# HELP \"a.b\" Text \\n.\n#  TYPE\ta  counter\na 1\n"
                .replace("a  counter", "a counter")
                .as_str(),
            &["a 1"],
        ),
    ] {
        assert_eq!(
            read_text(page),
            Ok(want.iter().map(|s| (*s).to_owned()).collect()),
            "{page:?}"
        );
    }
}

/// A series with very many labels is refused before reading it costs much.
#[test]
fn a_series_of_a_million_labels_is_refused() {
    let pairs: String = (0..1_000_000)
        .rev()
        .map(|n| format!("l{n}=\"\","))
        .collect();
    assert_eq!(
        read_text(&format!("a{{{pairs}}} 1\n")),
        Err("a sample has more than 1,024 labels".to_owned())
    );
    let pairs: String = (0..1024).rev().map(|n| format!("l{n}=\"1\",")).collect();
    assert!(read_text(&format!("a{{{pairs}}} 1\n")).is_ok());
    assert_eq!(
        read_text("a{x=\"1\",y=\"\",y=\"2\"} 1\n"),
        Err("the same label twice".to_owned())
    );
}

/// SEMANTICS 34, 35, 36, 37, 38, 39, 41: what fails a scrape, with the line it stands on.
#[test]
fn broken_text_is_refused_with_its_line() {
    for (page, line) in [
        ("a 1\r\n", 1),
        ("ok 1\na\n", 2),
        ("ok 1\n\na{x=\"1\" 1\n", 3),
        ("a 1 -5\n", 1),
        ("a 1 1.5\n", 1),
        ("a 1 2 3\n", 1),
        ("a 0x1p4\n", 1),
        ("a 1_000\n", 1),
        ("a 1e400\n", 1),
        ("a +nan\n", 1),
        ("a one\n", 1),
        ("1a 1\n", 1),
        ("# TYPE a unknown\n", 1),
        ("# TYPE a\n", 1),
        ("# TYPE a  gauge\n", 1),
        ("# TYPE 1 gauge\n", 1),
        ("<html><body>502</body></html>\n", 1),
        ("{\"status\": \"ok\"}\n", 1),
    ] {
        let error = read_text(page).expect_err(page);
        assert!(
            error.starts_with(&format!("line {line}: ")),
            "{page:?}: {error}"
        );
    }
    for page in [
        "a{x=\"1\",x=\"2\"} 1\n",
        "a{1x=\"1\"} 1\n",
        "a{x:y=\"1\"} 1\n",
        "a{x=1} 1\n",
        "a{,} 1\n",
        "a{x\n=\"1\"} 1\n",
        "{} 1\n",
        "a{\"b\"} 1\n",
        "{\"a\",\"b\"} 1\n",
        "{x=\"1\"} 1\n",
    ] {
        assert!(read_text(page).is_err(), "{page:?}");
    }
    assert!(read(b"a{x=\"\xff\"} 1\n", Format::Text).is_err());
    assert!(read(b"# HELP a \xff\n", Format::Text).is_err());
}

/// SEMANTICS 40: the spelling of bounds depends on the last TYPE.
#[test]
fn bounds_of_histograms_and_summaries_are_spelled_as_floats() {
    let page = "# TYPE h histogram\nh_bucket{le=\"1\"} 1\nh_bucket{le=\"1000000\"} 1\nh_bucket{le=\"+Inf\"} 1\nh_bucket{quantile=\"1\"} 1\n\
                # TYPE s summary\ns{quantile=\"0.50\"} 1\n# TYPE g gauge\ng{le=\"5\"} 1\n";
    let want = [
        "h_bucket{le=\"1.0\"} 1",
        "h_bucket{le=\"1e+06\"} 1",
        "h_bucket{le=\"+Inf\"} 1",
        "h_bucket{quantile=\"1\"} 1",
        "s{quantile=\"0.5\"} 1",
        "g{le=\"5\"} 1",
    ];
    assert_eq!(read_text(page), Ok(want.map(str::to_owned).to_vec()));
}

/// SEMANTICS 38: a target cannot inject a stale marker; every NaN becomes the canonical one.
#[test]
fn every_exposed_nan_is_the_canonical_one() {
    for spelling in ["NaN", "nan", "NAN"] {
        let page = format!("a {spelling}\n");
        let Ok(Some(Item::Sample(line))) = Lines::new(page.as_bytes(), Format::Text).next(b"")
        else {
            panic!("a sample")
        };
        assert_eq!(line.value.to_bits(), 0x7ff8_0000_0000_0001);
    }
}

/// SEMANTICS 42 to 46.
#[test]
fn openmetrics_is_read_as_prometheus_reads_it() {
    let page = "# HELP a Text \\\"x\\\".\n# TYPE a_seconds counter\n# UNIT a_seconds seconds\n\
                a_seconds_total{x=\"1\"} 1 1.5 # {trace=\"a}b\"} 0.5 1.25\na_seconds_created 3 # {} 1\n# TYPE g gaugehistogram\ng_gcount 2 -0.5\n\
                # TYPE i info\ni_info{v=\"1\"} 1\n# TYPE u unknown\nu NaN\n# EOF";
    assert_eq!(
        read_open(page),
        Ok([
            "a_seconds_total{x=\"1\"} 1 1500",
            "a_seconds_created 3",
            "g_gcount 2 -500",
            "i_info{v=\"1\"} 1",
            "u NaN"
        ]
        .map(str::to_owned)
        .to_vec())
    );
    assert_eq!(read_open("# EOF\n"), Ok(Vec::new()));
}

/// SEMANTICS 42, 43, 44, 45.
#[test]
fn broken_openmetrics_is_refused() {
    for page in [
        "",
        "a 1\n",
        "a 1\n# EOF\na 2\n",
        "a 1\n# EOF\n\n",
        "a  1\n# EOF\n",
        "a\t1\n# EOF\n",
        " a 1\n# EOF\n",
        "a 1 \n# EOF\n",
        "a {x=\"1\"} 1\n# EOF\n",
        "\na 1\n# EOF\n",
        "# a comment\na 1\n# EOF\n",
        "# TYPE a untyped\n# EOF\n",
        "# UNIT a seconds\n# EOF\n",
        "a 1 NaN\n# EOF\n",
        "a 1 Inf\n# EOF\n",
        "a 1 # {x=1} 1\n# EOF\n",
        "a 1 # {x=\"1\"}\n# EOF\n",
        "a 1 # x\n# EOF\n",
        "a{x=\"line\nbreak\"} 1\n# EOF\n",
        "a 1",
    ] {
        assert!(read_open(page).is_err(), "{page:?}: {:?}", read_open(page));
    }
}

/// The hint is only a shortcut: with it a page says the same as without it, whatever the hint is.
#[test]
fn a_hint_never_changes_what_a_line_says() {
    let page = b"a {x=\"1\"} 1\n".as_slice();
    for hint in ["", "a", "a {x=\"1\"}", "b"] {
        let Ok(Some(Item::Sample(line))) = Lines::new(page, Format::Text).next(hint.as_bytes())
        else {
            panic!("a sample")
        };
        assert_eq!(
            (line.series, line.value),
            (b"a {x=\"1\"}".as_slice(), 1.0),
            "{hint}"
        );
    }
}

#[test]
fn what_is_written_reads_back() {
    let mut batch = Batch::new();
    for (index, value) in [0.1, -0.0, 1e300, 5e-324, f64::INFINITY, 123_456_789.0]
        .into_iter()
        .enumerate()
    {
        let label = format!("\"\\\n{index} ü");
        batch.push_named(
            "x_total",
            MetricKind::Counter,
            "A \"help\" \\ text\nof two lines.",
            &[("l", &label)],
            value,
        );
    }
    let want: Vec<String> = batch
        .samples()
        .map(|s| format!("{} {}", s.labels, s.value))
        .collect();
    assert_eq!(read_text(&text(&batch)), Ok(want.clone()));
    assert_eq!(read_open(&openmetrics(&batch)), Ok(want));
    let written = openmetrics(&batch);
    let Ok(Some(Item::Help(_, help))) =
        Lines::new(written.as_bytes(), Format::OpenMetrics).next(b"")
    else {
        panic!("HELP first")
    };
    assert_eq!(
        help_text(help, Format::OpenMetrics),
        "A \"help\" \\ text\nof two lines."
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// No bytes make the reader panic or loop.
    #[test]
    fn any_bytes_are_read_or_refused(page in prop::collection::vec(any::<u8>(), 0..200)) {
        drop(read(&page, Format::Text));
        drop(read(&page, Format::OpenMetrics));
    }

    /// The same with bytes that look like an exposition.
    #[test]
    fn any_likely_text_is_read_or_refused(page in "([a{}=\"\\\\,# \n\t1.eE+-]|HELP|TYPE|NaN|# EOF\n){0,60}") {
        drop(read(page.as_bytes(), Format::Text));
        drop(read(page.as_bytes(), Format::OpenMetrics));
    }
}
