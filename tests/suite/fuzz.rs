//! Fuzz targets: broken variants of good inputs for everything that reads what others wrote.
//! Nothing may panic, overflow the stack or go on without bound, and what was read prints and reads
//! again as the same.
//!
//! Ordinary tests on stable Rust: the corpus is what the project's own tests and rules hold, the
//! mutations are drawn from a seed, the same ones on every run. `NIGHTBELL_TEST_FUZZ=1000000` runs
//! so many inputs for each target, `NIGHTBELL_TEST_SEED` draws others.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nightbell::exposition::protobuf::{Options, expand};
use nightbell::exposition::{Format, Item, Lines, Progress, labels};
use nightbell::model::native_histogram::{CUSTOM_SCHEMA, ResetHint};
use nightbell::model::{
    HistogramSample, Labels, LabelsBuilder, MetricKind, NativeHistogram, Sample, Timestamp,
};
use nightbell::promql::{
    Engine, ParseOptions, parse_metric, parse_selector, parse_series, parse_with,
};
use nightbell::rules::file::parse_text;
use nightbell::store::{Limits, Store};

use crate::promql_differential::random::Random;

/// Longest input: mutations that repeat must not grow without bound.
const LONGEST: usize = 20_000;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The files of a folder and of those below it with one of these endings.
fn files(folder: &Path, endings: &[&str], found: &mut Vec<String>) {
    let mut entries: Vec<PathBuf> = fs::read_dir(folder)
        .expect("the folder exists")
        .map(|e| e.expect("an entry").path())
        .collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            files(&path, endings, found);
        } else if path
            .extension()
            .is_some_and(|e| endings.iter().any(|wanted| e == *wanted))
        {
            found.extend(
                fs::read_to_string(&path)
                    .ok()
                    .filter(|text| text.len() < LONGEST),
            );
        }
    }
}

/// The expressions that other tests evaluate or parse.
fn expressions() -> Vec<String> {
    let mut scripts = Vec::new();
    files(&root().join("tests/promql"), &["test"], &mut scripts);
    let evaluated = scripts.iter().flat_map(|s| s.lines()).filter_map(|line| {
        let rest = line
            .strip_prefix("eval instant at ")
            .map(|rest| rest.split_once(' ').map(|(_, expr)| expr));
        rest.or_else(|| {
            line.strip_prefix("eval range from ")
                .map(|rest| rest.splitn(6, ' ').nth(5))
        })?
    });
    let mut all: Vec<String> = evaluated.map(str::to_owned).collect();
    for line in fs::read_to_string(root().join("tests/promql_syntax/cases.jsonl"))
        .expect("recorded")
        .lines()
    {
        let (text, ..): (String, bool, String) =
            serde_json::from_str(line).expect("one JSON array a line");
        all.push(text);
    }
    assert!(all.len() > 200, "{} expressions", all.len());
    all
}

/// One to four changes: characters and stretches removed, doubled, exchanged, taken from another
/// input or from the words of the language.
fn mutated(random: &mut Random, corpus: &[String], words: &[&str]) -> String {
    let mut text: Vec<char> = corpus[random.below(corpus.len())].chars().collect();
    for _ in 0..=random.below(4) {
        let at = random.below(text.len() + 1);
        let end = (at + random.below(12)).min(text.len());
        match random.below(7) {
            0 => drop(text.drain(at..end)),
            1 => {
                let stretch: Vec<char> = text[at..end].to_vec();
                let times = if random.chance(3) {
                    3000
                } else {
                    1 + random.below(3)
                };
                for _ in 0..times {
                    text.splice(at..at, stretch.iter().copied());
                }
            }
            2 | 3 => drop(text.splice(at..at, random.pick(words).chars())),
            4 => {
                let other: Vec<char> = corpus[random.below(corpus.len())].chars().collect();
                let from = random.below(other.len() + 1);
                let to = (from + random.below(40)).min(other.len());
                text.splice(at..end, other[from..to].iter().copied());
            }
            5 if at < text.len() => text[at] = char::from(32 + random.below(95) as u8),
            _ if at < text.len() => {
                text[at] = ['\0', '\n', 'é', '\u{2028}', '\\', '"', '\u{10ffff}'][random.below(7)]
            }
            _ => {}
        }
    }
    text.truncate(LONGEST);
    text.into_iter().collect()
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name)
        .ok()
        .and_then(|v| v.parse().ok())
        .unwrap_or(default)
}

/// Runs `target` over the corpus as it is, then over so many mutations.
fn fuzz(corpus: &[String], words: &[&str], usual: u64, mut target: impl FnMut(&str)) {
    corpus.iter().for_each(|text| target(text));
    let mut random = Random(number("NIGHTBELL_TEST_SEED", 1));
    for _ in 0..number("NIGHTBELL_TEST_FUZZ", usual) {
        let text = mutated(&mut random, corpus, words);
        target(&text);
    }
}

const WORDS: &[&str] = &[
    "(",
    ")",
    "{",
    "}",
    "[",
    "]",
    "[5m]",
    "[1h:1m]",
    " offset -5m",
    " @ start()",
    " @ 1e99",
    "sum by (a) ",
    "rate(",
    "-",
    "^",
    " % ",
    " and ",
    " == bool ",
    " on (a) group_left (b) ",
    "ignoring()",
    "1e400",
    "0x",
    "Inf",
    "NaN",
    "9223372036854775807",
    "\"",
    "'",
    "`",
    "\\x",
    "#",
    ",",
    "{__name__=~\".*\"}",
    "=~\"(\"",
    "\"häufig.keit\"",
    "topk(",
    "count_values(\"v\", ",
    "label_replace(",
    "292y",
    "1ms",
    "5m",
    "stale",
    "_x9",
    "1+1x5",
    "{{schema:1 buckets:[1 2]}}",
    "!~",
    "((((((((",
    "))))))))",
    "--------",
];

/// SEMANTICS 47 to 53: what parses prints, and the print is its own print; errors are texts with a
/// place.
#[test]
fn the_parser_survives_anything_and_prints_what_it_read() {
    let mut corpus = expressions();
    corpus.extend([
        "(".repeat(10_000),
        "-".repeat(10_000),
        "1+".repeat(5_000),
        "a[".repeat(5_000),
        "sum(".repeat(5_000),
    ]);
    let options = ParseOptions { experimental: true };
    let long = regex::Regex::new("([0-9]+d[0-9hms]*?)[0-9]+ms").expect("valid");
    fuzz(&corpus, WORDS, 6000, |text| {
        let _ = (parse_selector(text), parse_metric(text), parse_series(text));
        match parse_with(text, options) {
            Ok(expr) => {
                let printed = expr.to_string();
                let again = parse_with(&printed, options)
                    .unwrap_or_else(|e| panic!("{text:?} prints as {printed:?}: {e}"));
                // As in Prometheus, a print may round the milliseconds of a duration of many days
                // down, each print anew.
                let exact = |text: &str| long.replace_all(text, "$1").into_owned();
                assert_eq!(exact(&again.to_string()), exact(&printed), "from {text:?}");
                assert_eq!(again.value_type(), expr.value_type(), "of {text:?}");
            }
            Err(error) => assert!(
                error.to_string().contains(": parse error: "),
                "{text:?}: {error}"
            ),
        }
    });
}

/// Samples of every kind under the names that the corpus uses.
fn store() -> Store {
    let store = Store::new(Limits::default());
    let mut random = Random(7);
    let odd = [
        f64::NAN,
        f64::INFINITY,
        f64::NEG_INFINITY,
        0.0,
        -0.0,
        1e308,
        -1e308,
        5e-324,
        nightbell::model::stale_nan(),
    ];
    for step in 0..40 {
        let mut batch = Vec::new();
        for name in [
            "a",
            "b",
            "up",
            "x",
            "limit",
            "full_total",
            "lat_bucket",
            "m",
        ] {
            for (index, le) in ["0.1", "1", "+Inf"].iter().enumerate() {
                let value = if random.chance(10) {
                    odd[random.below(odd.len())]
                } else {
                    (step * index + random.below(5)) as f64
                };
                let labels = Labels::from_pairs([
                    ("__name__", name),
                    ("le", le),
                    ("job", ["x", "y", "z"][index]),
                ]);
                batch.push(Sample {
                    labels,
                    value,
                    timestamp: None,
                });
            }
        }
        let at = Timestamp(step as i64 * 15_000);
        store.append(at, &batch);
        let mut histograms = Vec::new();
        for name in ["h", "g", "c", "mixed", "lat"] {
            let odd = |random: &mut Random| {
                if random.chance(10) {
                    odd[random.below(odd.len() - 1)]
                } else {
                    random.below(9) as f64
                }
            };
            let buckets =
                |random: &mut Random| [-3, 0, 2, i32::MAX].map(|index| (index, odd(random)));
            let custom = random.chance(30);
            let histogram = NativeHistogram {
                hint: [ResetHint::Unknown, ResetHint::Reset, ResetHint::Gauge][random.below(3)],
                schema: if custom {
                    CUSTOM_SCHEMA
                } else {
                    random.below(13) as i8 - 4
                },
                count: step as f64,
                sum: buckets(&mut random)[0].1,
                zero_threshold: if custom {
                    0.0
                } else {
                    [0.0, 0.001, 1e300][random.below(3)]
                },
                positive: buckets(&mut random)[usize::from(custom)..]
                    .iter()
                    .copied()
                    .take(3)
                    .collect(),
                negative: if custom {
                    Default::default()
                } else {
                    buckets(&mut random).into_iter().collect()
                },
                bounds: if custom {
                    [1.0, 2.0][random.below(2)..].into()
                } else {
                    [].into()
                },
                ..NativeHistogram::default()
            };
            let labels = Labels::from_pairs([("__name__", name), ("job", "x")]);
            histograms.push(HistogramSample {
                labels,
                histogram: histogram.into(),
                timestamp: None,
            });
        }
        store.append_histograms(at, &histograms);
    }
    store
}

/// SEMANTICS 52, 54 to 93: whatever can be read can be evaluated, within the engine's limits.
#[test]
fn the_evaluator_survives_whatever_the_parser_lets_through() {
    let (store, corpus) = (store(), expressions());
    let engine = Engine {
        max_samples: 20_000,
        ..Engine::default()
    };
    let mut evaluated = 0;
    fuzz(&corpus, WORDS, 4000, |text| {
        let Ok(expr) = parse_with(text, ParseOptions { experimental: true }) else {
            return;
        };
        let instant = engine.instant(&store, &expr, Timestamp(300_000));
        let range = engine.range(
            &store,
            &expr,
            Timestamp(0),
            Timestamp(600_000),
            Duration::from_secs(150),
        );
        evaluated += usize::from(instant.is_ok()) + usize::from(range.is_ok());
    });
    assert!(evaluated > 200, "{evaluated} evaluations");
}

/// SEMANTICS 94 to 99: a rule file is read or refused, and every error names the file.
#[test]
fn the_reader_of_rule_files_survives_anything() {
    let mut corpus = Vec::new();
    for folder in ["rules", "tests/rules_files", "tests/rules"] {
        files(&root().join(folder), &["yml"], &mut corpus);
    }
    // Whole files are slow to read: the shorter ones hold every form too.
    corpus.retain(|text| text.len() < 4000);
    assert!(corpus.len() > 5, "{} rule files", corpus.len());
    corpus.extend([
        "groups: ".repeat(500),
        "[".repeat(5000),
        "- ".repeat(3000),
        "&a [*a, *a]".to_owned(),
        "{".repeat(5000),
    ]);
    let words: Vec<&str> = WORDS
        .iter()
        .copied()
        .chain([
            "groups:",
            "- name: g\n",
            "  rules:\n",
            "    - alert: A\n",
            "expr: |\n",
            "&a ",
            "*a",
            "<<: *a",
            "for: 5m\n",
            "{{ $value }}",
            "{{",
            "{{ range }}",
            "\t",
            "---\n",
            "!!binary ",
            "? ",
            "keep_firing_for: -1s\n",
            "limit: 1e9\n",
        ])
        .collect();
    fuzz(&corpus, &words, 1200, |text| {
        if let Err(errors) = parse_text("f.yml", text) {
            assert!(errors.to_string().contains("f.yml"), "{errors}");
        }
    });
}

/// SEMANTICS 34 to 46: a page is read to its end or to an error with a line, in either format.
#[test]
fn the_reader_of_pages_survives_anything() {
    let mut corpus: Vec<String> = [
        "# HELP a Text \\n \\\\.\n# TYPE a counter\na_total{x=\"1\",y=\"}{ \\\" \\\\ \\n\"} 1 1700000000000\n",
        "# TYPE h histogram\nh_bucket{le=\"1\"} 1\nh_bucket{le=\"+Inf\"} 2\nh_sum 3.5\nh_count 2\n",
        "{\"a.b\",\"x y\"=\"1\"} +Inf\n\n  \t b { } NaN \n",
        "# TYPE a counter\n# UNIT a_seconds seconds\na_total{x=\"1\"} 1 1700.5 # {trace=\"x\"} 0.5 1700.25\na_created 1.5\n# EOF\n",
        "# TYPE i info\ni_info{v=\"1\"} 1\n# TYPE s stateset\ns{s=\"on\"} 1\n# EOF\n",
    ]
    .map(str::to_owned)
    .into();
    corpus.push("a{".to_owned() + &"x=\"1\",".repeat(2000) + "} 1\n");
    let words = [
        "# TYPE ",
        "# HELP ",
        "# EOF\n",
        "# UNIT ",
        "{",
        "}",
        "\"",
        "=",
        ",",
        " ",
        "\n",
        "\r\n",
        "\\",
        "1e999",
        "0x1p4",
        "NaN",
        "-1",
        "le=\"1\"",
        "# {a=\"b\"} 1",
    ];
    fuzz(&corpus, &words, 3000, |text| {
        let mut bytes = text.as_bytes().to_vec();
        if let Some(byte) = bytes
            .get_mut(text.len() / 2)
            .filter(|_| text.len() % 7 == 0)
        {
            *byte = 0xff;
        }
        for format in [Format::Text, Format::OpenMetrics] {
            let mut lines = Lines::new(&bytes, format);
            // Every item takes at least one byte of the page.
            for _ in 0..=bytes.len() {
                match lines.next(b"") {
                    Ok(Some(Item::Sample(line))) => drop(labels(
                        line.series,
                        MetricKind::Histogram,
                        &mut LabelsBuilder::new(),
                    )),
                    Ok(Some(_)) => {}
                    Ok(None) => break,
                    Err(error) => {
                        assert!(lines.line() > 0, "{error}");
                        break;
                    }
                }
            }
            let size = 1 + text.len() % 23;
            assert_eq!(
                items_of(bytes.chunks(size), format),
                items_of([&bytes[..]].into_iter(), format),
                "in parts of {size} bytes"
            );
        }
    });
}

/// The items of a page that comes in parts, with its mistake.
fn items_of<'a>(mut parts: impl Iterator<Item = &'a [u8]>, format: Format) -> Vec<String> {
    let (mut items, mut left, mut progress) = (Vec::new(), Vec::new(), Progress::default());
    loop {
        let part = parts.next();
        left.extend_from_slice(part.unwrap_or_default());
        let mut lines = Lines::part(&left, format, progress, part.is_none());
        loop {
            match lines.next(b"") {
                Ok(Some(item)) => items.push(format!("{item:?}")),
                Ok(None) if part.is_some() => break,
                Ok(None) => return items,
                Err(error) => {
                    items.push(error.to_string());
                    return items;
                }
            }
        }
        let (taken, so_far) = lines.taken();
        left.drain(..taken);
        progress = so_far;
    }
}

/// One to four changes of bytes: flips, stretches removed, doubled, taken from elsewhere; lengths
/// that promise what is not there.
fn mutated_bytes(random: &mut Random, corpus: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = corpus[random.below(corpus.len())].clone();
    for _ in 0..=random.below(4) {
        let at = random.below(bytes.len() + 1);
        let end = (at + random.below(12)).min(bytes.len());
        match random.below(6) {
            0 => drop(bytes.drain(at..end)),
            1 => {
                let stretch = bytes[at..end].repeat(if random.chance(5) {
                    500
                } else {
                    1 + random.below(3)
                });
                bytes.splice(at..at, stretch);
            }
            2 => {
                let other = &corpus[random.below(corpus.len())];
                let from = random.below(other.len() + 1);
                bytes.splice(
                    at..end,
                    other[from..(from + random.below(40)).min(other.len())]
                        .iter()
                        .copied(),
                );
            }
            3 => drop(
                bytes.splice(
                    at..at,
                    [0xff, 0xff, 0xff, 0xff, 0x7f]
                        .into_iter()
                        .take(1 + random.below(5)),
                ),
            ),
            _ if at < bytes.len() => bytes[at] = random.below(256) as u8,
            _ => {}
        }
    }
    bytes.truncate(LONGEST);
    bytes
}

/// The protobuf reader takes or refuses whatever a target sends; what it takes is a sound page of
/// text and valid histograms, within the bound.
#[test]
fn no_protobuf_page_breaks_its_reader() {
    let real = fs::read(root().join("tests/exposition/prometheus.pb")).expect("recorded");
    let corpus = [
        crate::servers::protobuf::everything(),
        real[..real.len().min(LONGEST)].to_vec(),
        Vec::new(),
    ];
    let mut random = Random(number("NIGHTBELL_TEST_SEED", 1));
    let mut taken = 0;
    for round in 0..number("NIGHTBELL_TEST_FUZZ", 20_000) {
        let body = mutated_bytes(&mut random, &corpus);
        let options = Options {
            native: round % 3 > 0,
            classic: round % 2 == 0,
            bound: 200_000,
        };
        let Ok(page) = expand(&body, &options) else {
            continue;
        };
        taken += 1;
        assert!(page.text.len() < 250_000);
        let mut lines = Lines::new(page.text.as_bytes(), Format::Text);
        // A text that stands in a label's name or value is quoted so that it reads back.
        while lines
            .next(b"")
            .unwrap_or_else(|e| panic!("{e}: {:?} of {body:?}", page.text))
            .is_some()
        {}
        for exposed in &page.histograms {
            assert_eq!(exposed.histogram.validate(), Ok(()));
            let _ = labels(
                exposed.series.as_bytes(),
                MetricKind::Histogram,
                &mut LabelsBuilder::new(),
            );
        }
    }
    assert!(taken > 100, "{taken} were taken");
}
