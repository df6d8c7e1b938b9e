//! The series of the experiment: counters with resets, gauges, histograms, odd values, gaps, stale markers, names beyond ASCII.

use nightbell::model::{Labels, stale_nan};

use super::random::Random;

/// The first sample; a multiple of two hours.
pub const START: i64 = 1_699_999_200_000;
const MINUTES: i64 = 60;

/// A series with its samples: milliseconds and values.
pub struct Recorded {
    /// The series.
    pub labels: Labels,
    /// Its samples, ascending in time.
    pub points: Vec<(i64, f64)>,
}

#[derive(Clone, Copy, PartialEq)]
enum Shape {
    Counter,
    Gauge,
    Bucket,
    Odd,
    /// 1, as of an info series.
    One,
}

/// Draws the series.
pub fn series(random: &mut Random) -> Vec<Recorded> {
    let mut named: Vec<(Labels, Shape)> = Vec::new();
    let mut add = |pairs: &[(&str, &str)], shape| named.push((Labels::from_pairs(pairs.iter().copied()), shape));
    for job in ["api", "db"] {
        for instance in ["0", "1", "2"] {
            add(&[("__name__", "requests_total"), ("job", job), ("instance", instance)], Shape::Counter);
            add(&[("__name__", "errors_total"), ("job", job), ("instance", instance)], Shape::Counter);
            add(&[("__name__", "temp"), ("job", job), ("instance", instance)], Shape::Gauge);
            for le in ["0.1", "0.5", "1.0", "2.5", "+Inf"] {
                add(&[("__name__", "lat_bucket"), ("job", job), ("instance", instance), ("le", le)], Shape::Bucket);
            }
            let version = if instance == "1" { "v10" } else { "v9" };
            add(&[("__name__", "target_info"), ("job", job), ("instance", instance), ("version", version)], Shape::One);
            add(&[("__name__", "häufig.keit"), ("job", job), ("host.name", instance)], Shape::Gauge);
        }
        add(&[("__name__", "limit"), ("job", job)], Shape::Gauge);
        add(&[("__name__", "odd"), ("job", job), ("kind", "x")], Shape::Odd);
        add(&[("__name__", "small"), ("job", job), ("kind", "y")], Shape::One);
    }
    add(&[("__name__", "lone")], Shape::Gauge);
    let mut out: Vec<Recorded> =
        named.into_iter().map(|(labels, shape)| Recorded { points: points(random, &labels, shape), labels }).collect();
    // The order in which Prometheus first hears of them: sums of equal operands in equal order are equal.
    out.sort_by(|a, b| a.labels.cmp(&b.labels));
    out
}

fn points(random: &mut Random, labels: &Labels, shape: Shape) -> Vec<(i64, f64)> {
    let mut points = Vec::new();
    let step = [15_000, 30_000, 60_000][random.below(3)];
    let jitter = random.chance(30);
    let (mut time, mut value) = (START + (random.below(60_000) as i64), (random.below(100) as f64) / 4.0);
    let bucket = match labels.value("le") {
        "+Inf" => 10.0,
        text => text.parse().unwrap_or(1.0),
    };
    while time < START + MINUTES * 60_000 {
        match shape {
            Shape::Counter => value = if random.chance(4) { random.below(3) as f64 } else { value + random.below(40) as f64 / 3.0 },
            Shape::Gauge => value += random.below(200) as f64 / 10.0 - 10.0,
            Shape::Bucket => value += (bucket * 10.0 + 1.0) * random.below(3) as f64,
            Shape::Odd => value = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -1.5, 0.0, -0.0, 3.0, 1e300, 7.0, 1e-300][random.below(10)],
            Shape::One => value = 1.0,
        }
        points.push((time, value));
        time += step + if jitter { random.below(900) as i64 } else { 0 };
        if random.chance(2) {
            if random.chance(50) {
                points.push((time, stale_nan()));
                time += step;
            }
            time += [60_000, 420_000][random.below(2)];
        }
    }
    points
}
