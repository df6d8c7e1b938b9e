//! Random expressions over random samples, answered by the engine and by a real Prometheus; every answer and every error must agree.
//!
//! Not part of the ordinary run, because it needs Prometheus 3.5 with its promtool (Debian 12 carries an older one, which differs):
//!
//! ```text
//! NIGHTBELL_TEST_PROMETHEUS=/folder/with/both/binaries cargo test --test suite promql_differential -- --ignored --nocapture
//! ```
//!
//! `NIGHTBELL_TEST_SEED` and `NIGHTBELL_TEST_COUNT` choose what is generated. A difference becomes a case in `tests/promql/`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nightbell::model::{Labels, Sample, Timestamp};
use nightbell::promql::{Engine, ParseOptions, Value, parse_with};
use nightbell::store::{Limits, Store};

/// The first sample; a multiple of two hours.
const START: i64 = 1_699_999_200_000;
const MINUTES: i64 = 60;

/// A small generator of pseudo-random numbers (splitmix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[self.below(from.len())]
    }

    fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }
}

/// The series of the experiment: counters with resets, gauges with NaN and infinities, histograms, gaps everywhere.
fn samples(random: &mut Random) -> Vec<(Labels, Vec<(i64, f64)>)> {
    let mut series: Vec<(Vec<(String, String)>, u8)> = Vec::new();
    let label = |pairs: &[(&str, &str)]| pairs.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect::<Vec<_>>();
    for job in ["api", "db"] {
        for instance in ["0", "1", "2"] {
            series.push((label(&[("__name__", "requests_total"), ("job", job), ("instance", instance)]), 0));
            series.push((label(&[("__name__", "errors_total"), ("job", job), ("instance", instance)]), 0));
            series.push((label(&[("__name__", "temp"), ("job", job), ("instance", instance)]), 1));
            for le in ["0.1", "0.5", "1.0", "2.5", "+Inf"] {
                series.push((label(&[("__name__", "lat_bucket"), ("job", job), ("instance", instance), ("le", le)]), 2));
            }
        }
        series.push((label(&[("__name__", "limit"), ("job", job)]), 1));
        series.push((label(&[("__name__", "odd"), ("job", job), ("kind", "x")]), 3));
    }
    series.push((label(&[("__name__", "lone")]), 1));
    let mut out = Vec::new();
    for (pairs, kind) in series {
        let mut points = Vec::new();
        let step = [15_000, 30_000, 60_000][random.below(3)];
        let jitter = random.chance(30);
        let (mut time, mut value) = (START + (random.below(60_000) as i64), (random.below(100) as f64) / 4.0);
        let bucket = pairs.iter().find(|(n, _)| n == "le").map(|(_, v)| if v == "+Inf" { 10.0 } else { v.parse().unwrap_or(1.0) });
        while time < START + MINUTES * 60_000 {
            match kind {
                0 => value = if random.chance(4) { random.below(3) as f64 } else { value + random.below(40) as f64 / 3.0 },
                1 => value += random.below(200) as f64 / 10.0 - 10.0,
                2 => value += (bucket.unwrap_or(1.0) * 10.0 + 1.0) * random.below(3) as f64,
                _ => value = [f64::NAN, f64::INFINITY, -1.5, 0.0, 3.0, 1e300, 7.0][random.below(7)],
            }
            points.push((time, value));
            time += step + if jitter { random.below(900) as i64 } else { 0 };
            if random.chance(2) {
                time += 420_000;
            }
        }
        out.push((Labels::from_pairs(pairs), points));
    }
    // The order in which Prometheus reads a block: sums of equal operands in equal order are equal.
    out.sort_by(|a, b| a.0.cmp(&b.0));
    out
}

struct Generator<'a> {
    random: &'a mut Random,
}

impl Generator<'_> {
    fn duration(&mut self) -> &'static str {
        self.random.pick(&["30s", "1m", "2m", "5m", "7m30s", "20m", "1s", "90s"])
    }

    fn selector(&mut self) -> String {
        let name = self.random.pick(&["requests_total", "errors_total", "temp", "limit", "lone", "odd", "lat_bucket", "nothing", ""]);
        let matchers = self.random.pick(&[
            "",
            "",
            "",
            "{job=\"api\"}",
            "{job!=\"api\"}",
            "{instance=~\"0|1\"}",
            "{instance!~\"0.*\"}",
            "{job=~\".+\"}",
            "{instance=\"\"}",
            "{job=\"db\",instance=\"1\"}",
            "{kind=~\"x|\"}",
        ]);
        if name.is_empty() { "{job=~\".+\",__name__=~\"temp|limit|requests_total\"}".into() } else { format!("{name}{matchers}") }
    }

    fn modifiers(&mut self) -> String {
        let mut out = String::new();
        if self.random.chance(12) {
            let at = format!("{}", START / 1000 + 600 + self.random.below(2400) as i64);
            let _ = write!(out, " @ {}", self.random.pick(&["start()", "end()", &at]));
        }
        if self.random.chance(15) {
            let _ = write!(out, " offset {}{}", self.random.pick(&["", "-"]), self.duration());
        }
        out
    }

    fn range(&mut self, depth: usize) -> String {
        let (range, modifiers) = (self.duration(), self.modifiers());
        if depth > 0 && self.random.chance(25) {
            let step = self.random.pick(&["", "10s", "1m", "45s"]);
            return format!("({})[{range}:{step}]{modifiers}", self.vector(depth - 1));
        }
        format!("{}[{range}]{modifiers}", self.selector())
    }

    fn scalar(&mut self, depth: usize) -> String {
        match self.random.below(10) {
            0 => "time()".into(),
            1 if depth > 0 => format!("scalar({})", self.vector(depth - 1)),
            2 => "NaN".into(),
            3 => "Inf".into(),
            4 => "-1.5".into(),
            5 if depth > 0 => format!("({} {} {})", self.scalar(depth - 1), self.random.pick(&["+", "-", "*", "/", "%", "^"]), "2"),
            _ => self.random.pick(&["0", "1", "2", "3", "0.5", "0.9", "10", "100"]).into(),
        }
    }

    fn grouping(&mut self) -> &'static str {
        self.random.pick(&[
            "",
            "",
            "by (job) ",
            "by (instance) ",
            "without (instance) ",
            "by (job, instance) ",
            "by (__name__) ",
            "without () ",
            "by () ",
        ])
    }

    fn vector(&mut self, depth: usize) -> String {
        if depth == 0 {
            return format!("{}{}", self.selector(), self.modifiers());
        }
        let d = depth - 1;
        match self.random.below(22) {
            0..=4 => {
                let f = self.random.pick(&[
                    "rate",
                    "increase",
                    "delta",
                    "irate",
                    "idelta",
                    "resets",
                    "changes",
                    "deriv",
                    "avg_over_time",
                    "sum_over_time",
                    "min_over_time",
                    "max_over_time",
                    "count_over_time",
                    "stddev_over_time",
                    "stdvar_over_time",
                    "last_over_time",
                    "present_over_time",
                    "absent_over_time",
                    "mad_over_time",
                    "ts_of_max_over_time",
                    "ts_of_min_over_time",
                    "ts_of_last_over_time",
                ]);
                format!("{f}({})", self.range(depth))
            }
            5 => format!("quantile_over_time({}, {})", self.scalar(d), self.range(depth)),
            6 => format!("predict_linear({}, {})", self.range(depth), self.scalar(d)),
            7 => format!("double_exponential_smoothing({}, 0.{}, 0.{})", self.range(d), 1 + self.random.below(8), 1 + self.random.below(8)),
            8..=10 => {
                let op = self.random.pick(&["sum", "avg", "min", "max", "count", "group", "stddev", "stdvar"]);
                format!("{op} {}({})", self.grouping(), self.vector(d))
            }
            11 => {
                let op = self.random.pick(&["topk", "bottomk", "quantile"]);
                format!("{op} {}({}, {})", self.grouping(), self.scalar(d), self.vector(d))
            }
            12 => format!("count_values {}(\"v\", {})", self.grouping(), self.vector(d)),
            13 | 14 => {
                let op = self
                    .random
                    .pick(&["+", "-", "*", "/", "%", "^", "atan2", "==", "!=", ">", "<", ">=", "<=", "> bool", "== bool", "<= bool"]);
                let scalar = self.scalar(d);
                let vector = self.vector(d);
                if self.random.chance(50) { format!("({vector} {op} {scalar})") } else { format!("({scalar} {op} {vector})") }
            }
            15 | 16 => {
                let op = self.random.pick(&["+", "-", "*", "/", "%", "==", "!=", ">", "<=", "> bool", "!= bool"]);
                let matching = self.random.pick(&[
                    "",
                    "on (job) ",
                    "on (job, instance) ",
                    "ignoring (instance) ",
                    "ignoring (le) ",
                    "on (job) group_left ",
                    "on (job) group_right ",
                    "on (job) group_left (kind) ",
                    "ignoring (instance) group_right ",
                    "on (instance) ",
                    "on () ",
                    "ignoring (kind) group_left (instance) ",
                ]);
                format!("({} {op} {matching}{})", self.vector(d), self.vector(d))
            }
            17 => {
                let op = self.random.pick(&["and", "or", "unless"]);
                let matching = self.random.pick(&["", "on (job) ", "ignoring (instance) ", "on () ", "on (instance) "]);
                format!("({} {op} {matching}{})", self.vector(d), self.vector(d))
            }
            18 => {
                let f = self.random.pick(&[
                    "abs",
                    "ceil",
                    "floor",
                    "exp",
                    "sqrt",
                    "ln",
                    "log2",
                    "log10",
                    "sgn",
                    "sin",
                    "cos",
                    "tan",
                    "asin",
                    "acos",
                    "atan",
                    "sinh",
                    "cosh",
                    "tanh",
                    "asinh",
                    "acosh",
                    "atanh",
                    "deg",
                    "rad",
                    "round",
                    "timestamp",
                    "absent",
                    "hour",
                    "minute",
                    "day_of_week",
                    "day_of_year",
                    "day_of_month",
                    "month",
                    "year",
                    "days_in_month",
                    "sort",
                    "sort_desc",
                    "-",
                    "+",
                ]);
                format!("{f}({})", self.vector(d))
            }
            19 => match self.random.below(5) {
                0 => format!("clamp({}, {}, {})", self.vector(d), self.scalar(d), self.scalar(d)),
                1 => format!("clamp_min({}, {})", self.vector(d), self.scalar(d)),
                2 => format!("clamp_max({}, {})", self.vector(d), self.scalar(d)),
                3 => format!("round({}, {})", self.vector(d), self.scalar(d)),
                _ => format!("vector({})", self.scalar(d)),
            },
            20 => match self.random.below(3) {
                0 => format!(
                    "histogram_quantile({}, {})",
                    self.scalar(d),
                    self.random.pick(&["lat_bucket", "rate(lat_bucket[5m])", "sum by (le, job) (rate(lat_bucket[5m]))", "temp"])
                ),
                1 => format!("histogram_fraction({}, {}, lat_bucket)", self.scalar(d), self.scalar(d)),
                _ => format!("histogram_quantile({}, {})", self.scalar(d), self.vector(d)),
            },
            _ => match self.random.below(3) {
                0 => format!(
                    "label_join({}, \"{}\", \"-\", \"job\", \"instance\")",
                    self.vector(d),
                    self.random.pick(&["z", "job", "__name__"])
                ),
                _ => {
                    let (dst, repl) =
                        (self.random.pick(&["z", "job", "instance", "__name__"]), self.random.pick(&["$1", "x", "", "${1}y$$"]));
                    let re = self.random.pick(&["(.*)", "(a).*", "db", "(.+)"]);
                    format!("label_replace({}, \"{dst}\", \"{repl}\", \"job\", \"{re}\")", self.vector(d))
                }
            },
        }
    }
}

struct Peer {
    process: Child,
    port: u16,
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A series with its samples: milliseconds and values.
type Recorded = (Labels, Vec<(i64, f64)>);

impl Peer {
    fn start(binaries: &std::path::Path, folder: &std::path::Path, series: &[Recorded]) -> Peer {
        let mut text = String::new();
        let mut families: BTreeMap<&str, Vec<&Recorded>> = BTreeMap::new();
        series.iter().for_each(|s| families.entry(s.0.metric_name()).or_default().push(s));
        for family in families.values() {
            for (labels, points) in family {
                for (time, value) in points {
                    let _ = writeln!(
                        text,
                        "{}{} {value} {}.{:03}",
                        labels.metric_name(),
                        labels.without_name().braced().replace("\", ", "\","),
                        time / 1000,
                        time % 1000
                    );
                }
            }
        }
        text = text.replace(" inf ", " +Inf ");
        text.push_str("# EOF\n");
        let (input, data, config) = (folder.join("in.txt"), folder.join("data"), folder.join("prometheus.yml"));
        std::fs::write(&input, text).expect("the folder is writable");
        std::fs::write(&config, "global: {evaluation_interval: 1m}\n").expect("the folder is writable");
        let made = Command::new(binaries.join("promtool"))
            .args(["tsdb", "create-blocks-from", "openmetrics"])
            .args([&input, &data])
            .output()
            .expect("promtool runs");
        assert!(made.status.success(), "promtool: {}", String::from_utf8_lossy(&made.stderr));
        let port = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a free port").port();
        let process = Command::new(binaries.join("prometheus"))
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", data.display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .args(["--storage.tsdb.retention.time=100y", "--enable-feature=promql-experimental-functions", "--log.level=error"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("prometheus runs");
        let peer = Peer { process, port };
        let deadline = Instant::now() + Duration::from_secs(30);
        while peer.ask("/api/v1/query", "query=1").is_none_or(|answer| answer["status"] != "success") {
            assert!(Instant::now() < deadline, "Prometheus does not answer");
            std::thread::sleep(Duration::from_millis(100));
        }
        peer
    }

    fn ask(&self, path: &str, form: &str) -> Option<serde_json::Value> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(20))).ok()?;
        let head = format!(
            "POST {path} HTTP/1.0\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{form}",
            form.len()
        );
        stream.write_all(head.as_bytes()).ok()?;
        let mut reader = BufReader::new(stream);
        let mut line = String::new();
        while reader.read_line(&mut line).ok()? > 2 {
            line.clear();
        }
        let mut body = Vec::new();
        reader.read_to_end(&mut body).ok()?;
        serde_json::from_slice(&body).ok()
    }
}

/// An answer in a form that both sides can be brought to.
#[derive(Debug, PartialEq)]
enum Answer {
    Error(String),
    /// Series in the order of the answer.
    Series(Vec<(String, Vec<(i64, f64)>)>),
}

fn theirs(answer: &serde_json::Value) -> Answer {
    if answer["status"] != "success" {
        return Answer::Error(answer["error"].as_str().unwrap_or("no answer").to_owned());
    }
    let point = |p: &serde_json::Value| {
        let time = (p[0].as_f64().unwrap_or(f64::NAN) * 1000.0).round() as i64;
        (time, p[1].as_str().and_then(|v| v.parse().ok()).unwrap_or(f64::NAN))
    };
    let result = &answer["data"]["result"];
    if answer["data"]["resultType"] == "scalar" {
        return Answer::Series(vec![("{}".into(), vec![point(result)])]);
    }
    let rows = result.as_array().map(Vec::as_slice).unwrap_or_default().iter().map(|row| {
        let pairs = row["metric"].as_object().into_iter().flatten().map(|(n, v)| (n.clone(), v.as_str().unwrap_or("").to_owned()));
        let points = match row["values"].as_array() {
            Some(values) => values.iter().map(point).collect(),
            None => vec![point(&row["value"])],
        };
        (Labels::from_pairs(pairs).braced(), points)
    });
    Answer::Series(rows.collect())
}

fn ours(value: Result<nightbell::promql::Evaluated, String>, at: i64) -> Answer {
    match value {
        Err(error) => Answer::Error(error),
        Ok(evaluated) => Answer::Series(match evaluated.value {
            Value::Scalar(v) => vec![("{}".into(), vec![(at, v)])],
            Value::String(_) => Vec::new(),
            Value::Vector(samples) => samples.into_iter().map(|s| (s.labels.braced(), vec![(at, s.value)])).collect(),
            Value::Matrix(series) => {
                series.into_iter().map(|s| (s.labels.braced(), s.points.into_iter().map(|(t, v)| (t.0, v)).collect())).collect()
            }
        }),
    }
}

fn near(a: f64, b: f64) -> bool {
    a == b || (a.is_nan() && b.is_nan()) || (a - b).abs() <= 1e-12 * a.abs().max(b.abs()) || (a - b).abs() < 1e-9 && a.abs() < 1e-3
}

fn agree(a: &Answer, b: &Answer, ordered: bool) -> bool {
    match (a, b) {
        // Which of several colliding series is named depends on the order of storage.
        (Answer::Error(a), Answer::Error(b)) => a.split(" for the match group").next() == b.split(" for the match group").next(),
        (Answer::Series(a), Answer::Series(b)) => {
            let sorted = |rows: &[(String, Vec<(i64, f64)>)]| {
                let mut order: Vec<usize> = (0..rows.len()).collect();
                if !ordered {
                    order.sort_by(|x, y| rows[*x].0.cmp(&rows[*y].0));
                }
                order
            };
            a.len() == b.len()
                && sorted(a).into_iter().zip(sorted(b)).all(|(x, y)| {
                    let (x, y) = (&a[x], &b[y]);
                    x.0 == y.0 && x.1.len() == y.1.len() && x.1.iter().zip(&y.1).all(|(p, q)| p.0 == q.0 && near(p.1, q.1))
                })
        }
        _ => false,
    }
}

/// SEMANTICS part B as a whole.
#[test]
#[ignore = "needs Prometheus 3.5 and its promtool in the folder NIGHTBELL_TEST_PROMETHEUS"]
fn random_expressions_have_prometheus_answers() {
    let binaries =
        PathBuf::from(std::env::var("NIGHTBELL_TEST_PROMETHEUS").expect("NIGHTBELL_TEST_PROMETHEUS names the folder of the binaries"));
    let number = |name: &str, default: u64| std::env::var(name).ok().and_then(|v| v.parse().ok()).unwrap_or(default);
    let mut random = Random(number("NIGHTBELL_TEST_SEED", 1));
    let series = samples(&mut random);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let peer = Peer::start(&binaries, folder.path(), &series);
    let store = Store::new(Limits::default());
    for (labels, points) in &series {
        for (time, value) in points {
            store.append(Timestamp(*time), &[Sample { labels: labels.clone(), value: *value, timestamp: None }]);
        }
    }
    let engine = Engine::default();
    let options = ParseOptions { experimental: true };
    let (mut wrong, total) = (0, number("NIGHTBELL_TEST_COUNT", 3000));
    for _ in 0..total {
        let depth = 1 + random.below(3);
        let text = Generator { random: &mut random }.vector(depth);
        let encoded: String = text.bytes().map(|b| format!("%{b:02X}")).collect();
        let at = START + 300_000 + random.below(3_300) as i64 * 1000;
        let expr = parse_with(&text, options);
        let (path, form, mine) = if random.chance(50) {
            let mine = expr.map_err(|e| e.to_string()).and_then(|e| engine.instant(&store, &e, Timestamp(at)).map_err(|e| e.to_string()));
            ("/api/v1/query", format!("query={encoded}&time={}", at as f64 / 1000.0), mine)
        } else {
            let (step, end) = ([15, 60, 77][random.below(3)], at + 1_200_000);
            let mine = expr.map_err(|e| e.to_string()).and_then(|e| {
                engine.range(&store, &e, Timestamp(at), Timestamp(end), Duration::from_secs(step)).map_err(|e| e.to_string())
            });
            let form = format!("query={encoded}&start={}&end={}&step={step}", at as f64 / 1000.0, end as f64 / 1000.0);
            ("/api/v1/query_range", form, mine)
        };
        let theirs = theirs(&peer.ask(path, &form).unwrap_or_default());
        let mine = ours(mine, at);
        let ordered = path.ends_with("query") && text.starts_with("sort");
        let bad_data = matches!(&theirs, Answer::Error(e) if e.contains("parse error"));
        let both_refuse = bad_data && matches!(mine, Answer::Error(_));
        if !(both_refuse || agree(&mine, &theirs, ordered)) {
            wrong += 1;
            let show = |a: &Answer| format!("{a:?}").chars().take(700).collect::<String>();
            println!(
                "--- {text}\n    {} {}\n  ours:   {}\n  theirs: {}",
                path,
                form.split_once("&").map_or("", |f| f.1),
                show(&mine),
                show(&theirs)
            );
        }
    }
    assert_eq!(wrong, 0, "of {total} expressions");
}
