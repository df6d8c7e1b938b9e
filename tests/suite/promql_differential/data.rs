//! The series of the experiment: counters with resets, gauges, histograms of both kinds, odd
//! values, gaps, stale markers, names beyond ASCII.

use std::sync::Arc;

use nightbell::model::native_histogram::{CUSTOM_SCHEMA, ResetHint};
use nightbell::model::{Labels, NativeHistogram, stale_nan};

use super::random::Random;

/// The first sample; a multiple of two hours.
pub const START: i64 = 1_699_999_200_000;
const MINUTES: i64 = 60;

/// A series with its samples: milliseconds and values.
pub struct Recorded {
    /// The series.
    pub labels: Labels,
    /// Its samples, ascending in time.
    pub points: Vec<(i64, Value)>,
}

/// What a sample is.
#[derive(Clone, Debug)]
pub enum Value {
    /// A number.
    Float(f64),
    /// A native histogram.
    Histogram(Arc<NativeHistogram>),
}

#[derive(Clone, Copy, PartialEq)]
enum Shape {
    Counter,
    Gauge,
    Bucket,
    Odd,
    /// 1, as of an info series.
    One,
    /// A native histogram that counts, with exponential buckets.
    Native,
    /// One that does not count.
    NativeGauge,
    /// One with custom bounds.
    Custom,
    /// Floats and native histograms in turns.
    Mixed,
}

/// How long a mixed series is of one kind: a remote writer sends all floats of a batch before its
/// histograms.
pub const TURN: i64 = 600_000;

/// Draws the series.
pub fn series(random: &mut Random) -> Vec<Recorded> {
    let mut named: Vec<(Labels, Shape)> = Vec::new();
    let mut add = |pairs: &[(&str, &str)], shape| {
        named.push((Labels::from_pairs(pairs.iter().copied()), shape))
    };
    for job in ["api", "db"] {
        for instance in ["0", "1", "2"] {
            add(
                &[
                    ("__name__", "requests_total"),
                    ("job", job),
                    ("instance", instance),
                ],
                Shape::Counter,
            );
            add(
                &[
                    ("__name__", "errors_total"),
                    ("job", job),
                    ("instance", instance),
                ],
                Shape::Counter,
            );
            add(
                &[("__name__", "temp"), ("job", job), ("instance", instance)],
                Shape::Gauge,
            );
            for le in ["0.1", "0.5", "1.0", "2.5", "+Inf"] {
                add(
                    &[
                        ("__name__", "lat_bucket"),
                        ("job", job),
                        ("instance", instance),
                        ("le", le),
                    ],
                    Shape::Bucket,
                );
            }
            let version = if instance == "1" { "v10" } else { "v9" };
            add(
                &[
                    ("__name__", "target_info"),
                    ("job", job),
                    ("instance", instance),
                    ("version", version),
                ],
                Shape::One,
            );
            add(
                &[
                    ("__name__", "häufig.keit"),
                    ("job", job),
                    ("host.name", instance),
                ],
                Shape::Gauge,
            );
            add(
                &[("__name__", "nh"), ("job", job), ("instance", instance)],
                Shape::Native,
            );
            add(
                &[
                    ("__name__", "nh_gauge"),
                    ("job", job),
                    ("instance", instance),
                ],
                Shape::NativeGauge,
            );
            add(
                &[
                    ("__name__", "nh_custom"),
                    ("job", job),
                    ("instance", instance),
                ],
                Shape::Custom,
            );
            add(
                &[("__name__", "mixed"), ("job", job), ("instance", instance)],
                Shape::Mixed,
            );
        }
        add(&[("__name__", "limit"), ("job", job)], Shape::Gauge);
        add(
            &[("__name__", "odd"), ("job", job), ("kind", "x")],
            Shape::Odd,
        );
        add(
            &[("__name__", "small"), ("job", job), ("kind", "y")],
            Shape::One,
        );
    }
    add(&[("__name__", "lone")], Shape::Gauge);
    // A histogram of both kinds under one name.
    add(&[("__name__", "both"), ("job", "api")], Shape::Native);
    add(
        &[("__name__", "both"), ("job", "api"), ("le", "1")],
        Shape::Bucket,
    );
    add(
        &[("__name__", "both"), ("job", "api"), ("le", "+Inf")],
        Shape::Bucket,
    );
    let mut out: Vec<Recorded> = named
        .into_iter()
        .map(|(labels, shape)| Recorded {
            points: points(random, &labels, shape),
            labels,
        })
        .collect();
    // The order in which Prometheus first hears of them: sums of equal operands in equal order are
    // equal.
    out.sort_by(|a, b| a.labels.cmp(&b.labels));
    out
}

/// A native histogram in the making.
struct Growing {
    histogram: NativeHistogram,
    sides: [Vec<(i32, f64)>; 2],
    base: i32,
    both_sides: bool,
}

impl Growing {
    fn new(random: &mut Random, shape: Shape) -> Self {
        let mut histogram = NativeHistogram::default();
        match shape {
            Shape::Custom => {
                histogram.schema = CUSTOM_SCHEMA;
                // Most have the same bounds.
                histogram.bounds = [
                    &[0.1, 0.5, 1.0, 2.5][..],
                    &[0.1, 0.5, 1.0, 2.5],
                    &[-1.0, 0.0, 4.0],
                ][random.below(3)]
                .into();
            }
            _ => {
                histogram.schema = [0, 0, 1, 3, -1][random.below(5)];
                histogram.zero_threshold = [0.001, 0.001, 0.25][random.below(3)];
            }
        }
        if shape == Shape::NativeGauge {
            histogram.hint = ResetHint::Gauge;
        }
        let (base, both_sides) = (
            if shape == Shape::Custom {
                0
            } else {
                random.below(5) as i32 - 2
            },
            shape != Shape::Custom && random.chance(50),
        );
        let mut growing = Growing {
            histogram,
            sides: Default::default(),
            base,
            both_sides,
        };
        growing.restart();
        growing
    }

    /// Begins anew. A side has a bucket from the start or never: Prometheus shows the buckets that
    /// came later in what was before, empty.
    fn restart(&mut self) {
        let first = vec![(self.base, 1.0)];
        self.sides = [
            first.clone(),
            if self.both_sides { first } else { Vec::new() },
        ];
        let count = if self.both_sides { 2.0 } else { 1.0 };
        (
            self.histogram.count,
            self.histogram.sum,
            self.histogram.zero_count,
        ) = (count, 0.5, 0.0);
    }

    fn observe(&mut self, random: &mut Random, shape: Shape) {
        if shape != Shape::NativeGauge && random.chance(3) {
            // A restart; now and then with another resolution.
            self.restart();
            if shape != Shape::Custom && random.chance(50) {
                self.histogram.schema = [0, 1, 2][random.below(3)];
            }
        }
        for _ in 0..random.below(4) {
            let count = 1.0 + random.below(5) as f64;
            self.histogram.count += count;
            self.histogram.sum += count * (random.below(40) as f64 / 8.0 - 1.0);
            if shape != Shape::Custom && random.chance(15) {
                self.histogram.zero_count += count;
                continue;
            }
            let negative = self.both_sides && random.chance(20);
            let index = if shape == Shape::Custom {
                random.below(self.histogram.bounds.len() + 1) as i32
            } else {
                self.base + random.below(6) as i32
            };
            let side = &mut self.sides[usize::from(negative)];
            match side.binary_search_by_key(&index, |(at, _)| *at) {
                Ok(place) => side[place].1 += count,
                Err(place) => side.insert(place, (index, count)),
            }
        }
        if shape == Shape::NativeGauge && random.chance(30) {
            self.restart();
        }
    }

    fn now(&self) -> Value {
        let [positive, negative] = &self.sides;
        let (positive, negative) = (
            positive.iter().copied().collect(),
            negative.iter().copied().collect(),
        );
        Value::Histogram(Arc::new(NativeHistogram {
            positive,
            negative,
            ..self.histogram.clone()
        }))
    }
}

fn points(random: &mut Random, labels: &Labels, shape: Shape) -> Vec<(i64, Value)> {
    let mut points = Vec::new();
    let step = [15_000, 30_000, 60_000][random.below(3)];
    let jitter = random.chance(30);
    let (mut time, mut value) = (
        START + (random.below(60_000) as i64),
        (random.below(100) as f64) / 4.0,
    );
    let bucket = match labels.value("le") {
        "+Inf" => 10.0,
        text => text.parse().unwrap_or(1.0),
    };
    let mut native = Growing::new(random, shape);
    while time < START + MINUTES * 60_000 {
        match shape {
            Shape::Counter => {
                value = if random.chance(4) {
                    random.below(3) as f64
                } else {
                    value + random.below(40) as f64 / 3.0
                }
            }
            Shape::Gauge => value += random.below(200) as f64 / 10.0 - 10.0,
            Shape::Bucket => value += (bucket * 10.0 + 1.0) * random.below(3) as f64,
            Shape::Odd => {
                value = [
                    f64::NAN,
                    f64::INFINITY,
                    f64::NEG_INFINITY,
                    -1.5,
                    0.0,
                    -0.0,
                    3.0,
                    1e300,
                    7.0,
                    1e-300,
                ][random.below(10)]
            }
            Shape::One => value = 1.0,
            Shape::Native | Shape::NativeGauge | Shape::Custom => native.observe(random, shape),
            Shape::Mixed => {
                value += random.below(7) as f64;
                native.observe(random, shape);
            }
        }
        let histogram = match shape {
            Shape::Native | Shape::NativeGauge | Shape::Custom => true,
            Shape::Mixed => time / TURN % 2 == 0,
            _ => false,
        };
        points.push((
            time,
            if histogram {
                native.now()
            } else {
                Value::Float(value)
            },
        ));
        time += step + if jitter { random.below(900) as i64 } else { 0 };
        if random.chance(2) {
            // Prometheus loses the end of a series that was written as floats after histograms.
            if random.chance(50) && shape != Shape::Mixed {
                points.push((time, Value::Float(stale_nan())));
                time += step;
            }
            time += [60_000, 420_000][random.below(2)];
        }
    }
    points
}
