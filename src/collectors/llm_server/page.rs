//! A server's page of metrics, read by the table: series of the same model become one, whatever
//! other labels they have.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::exposition::{Format, Item, Lines, labels};
use crate::model::{Batch, LabelsBuilder, MetricKind};

use super::kinds::{Extra, Join, Kind};
use super::metrics;

/// Most values of the label beside the model; those beyond are added up as `other`.
const MAX_VALUES: usize = 30;
/// What stands for everything beyond a bound.
const OTHER: &str = "other";
/// Most bounds of one histogram.
const MAX_BOUNDS: usize = 200;

/// One series of ours.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    /// The row of the table.
    row: usize,
    /// Which of its names.
    name: usize,
    model: String,
    extra: String,
}

/// A histogram as it adds up.
#[derive(Debug, Default)]
struct Buckets {
    /// By the bits of the bound, which sort as positive numbers do.
    counts: BTreeMap<u64, f64>,
    sum: f64,
    count: f64,
}

/// What a page brought.
#[derive(Debug, Default)]
pub struct Found {
    values: BTreeMap<Key, f64>,
    histograms: BTreeMap<Key, Buckets>,
    /// The newest name that the page has, by row.
    names: BTreeMap<usize, usize>,
    /// Models beyond the bound.
    pub omitted: usize,
}

/// Which part of a histogram a name stands for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Value,
    Bucket,
    Sum,
    Count,
}

/// The text of a page: some releases of llama.cpp wrote it as one JSON string.
fn unquoted(body: &[u8]) -> Vec<u8> {
    match body.trim_ascii_start().first() {
        Some(b'"') => serde_json::from_slice::<String>(body)
            .map_or_else(|_| body.to_vec(), String::into_bytes),
        _ => body.to_vec(),
    }
}

/// Reads a page.
///
/// # Errors
///
/// The line that is no metric, and why.
pub fn read(kind: &Kind, body: &[u8], open: bool, max_models: usize) -> Result<Found, String> {
    let wanted = wanted(kind);
    let body = unquoted(body);
    let format = if open {
        Format::OpenMetrics
    } else {
        Format::Text
    };
    let mut found = Found::default();
    let (mut models, mut left_out) = (BTreeSet::new(), BTreeSet::new());
    let mut lines = Lines::new(&body, format);
    while let Some(item) = lines.next(b"").map_err(|error| error.to_string())? {
        let Item::Sample(line) = item else { continue };
        let end = line
            .series
            .iter()
            .position(|b| matches!(b, b'{' | b' ' | b'\t'))
            .unwrap_or(line.series.len());
        let Some(uses) = std::str::from_utf8(&line.series[..end])
            .ok()
            .and_then(|name| wanted.get(name))
        else {
            continue;
        };
        let mut builder = LabelsBuilder::new();
        labels(line.series, MetricKind::Gauge, &mut builder)
            .map_err(|problem| format!("line {}: {problem}", lines.line()))?;
        let series = builder.build();
        let model = kind
            .model_labels
            .iter()
            .map(|label| series.value(label))
            .find(|value| !value.is_empty())
            .unwrap_or_default();
        let mut model = model.to_owned();
        if !models.contains(&model) {
            if models.len() < max_models {
                models.insert(model.clone());
            } else {
                left_out.insert(std::mem::replace(&mut model, OTHER.to_owned()));
            }
        }
        for (row, name, part) in uses {
            let newest = found.names.entry(*row).or_insert(*name);
            *newest = (*newest).min(*name);
            let extra = match kind.rows[*row].extra {
                Extra::None | Extra::Is(..) => String::new(),
                Extra::From(_, theirs) => series.value(theirs).to_owned(),
            };
            let key = Key {
                row: *row,
                name: *name,
                model: if kind.rows[*row].whole {
                    String::new()
                } else {
                    model.clone()
                },
                extra,
            };
            found.take(kind, key, *part, series.value("le"), line.value);
        }
    }
    found.omitted = left_out.len();
    Ok(found)
}

/// Names on a page, and what each is used for: the row, which of its names, the part.
type Wanted = HashMap<String, Vec<(usize, usize, Part)>>;

fn wanted(kind: &Kind) -> Wanted {
    let mut wanted = Wanted::new();
    for (index, row) in kind.rows.iter().enumerate() {
        for (at, name) in row.from.iter().enumerate() {
            let mut add = |suffix: &str, part| {
                wanted
                    .entry(format!("{name}{suffix}"))
                    .or_default()
                    .push((index, at, part));
            };
            if row.to.kind == MetricKind::Histogram {
                add("_bucket", Part::Bucket);
                add("_sum", Part::Sum);
                add("_count", Part::Count);
            } else {
                add("", Part::Value);
            }
        }
    }
    wanted
}

impl Found {
    fn take(&mut self, kind: &Kind, mut key: Key, part: Part, bound: &str, value: f64) {
        if !value.is_finite() {
            return;
        }
        let row = &kind.rows[key.row];
        let value_in_base = value * row.scale;
        if part == Part::Value {
            if !key.extra.is_empty() && !self.values.contains_key(&key) {
                let same = |k: &&Key| (k.row, k.name, &k.model) == (key.row, key.name, &key.model);
                if self.values.keys().filter(same).count() >= MAX_VALUES {
                    key.extra = OTHER.to_owned();
                }
            }
            let entry = self.values.entry(key);
            entry
                .and_modify(|sum| {
                    *sum = match row.join {
                        Join::Sum => *sum + value_in_base,
                        Join::Max => sum.max(value_in_base),
                        Join::Min => sum.min(value_in_base),
                    }
                })
                .or_insert(value_in_base);
            return;
        }
        let buckets = self.histograms.entry(key).or_default();
        match part {
            Part::Sum => buckets.sum += value_in_base,
            Part::Count => buckets.count += value,
            _ => {
                let Some(bound) = bound.parse::<f64>().ok().filter(|b| *b >= 0.0) else {
                    return;
                };
                if bound.is_finite() && buckets.counts.len() < MAX_BOUNDS {
                    *buckets
                        .counts
                        .entry((bound * row.scale).to_bits())
                        .or_default() += value;
                }
            }
        }
    }

    /// Whether a series has the newest name that the page has: where a server exposes an old name
    /// beside the new one, it counts once.
    fn is_newest(&self, key: &Key) -> bool {
        self.names.get(&key.row) == Some(&key.name)
    }

    /// Writes our series.
    pub fn write(&self, kind: &Kind, target: &str, batch: &mut Batch) {
        let labels = [("target", target), ("kind", kind.name)];
        let mut metrics_found: BTreeMap<&'static str, bool> = BTreeMap::new();
        for (index, row) in kind.rows.iter().enumerate() {
            *metrics_found.entry(row.to.name).or_default() |= self.names.contains_key(&index);
        }
        for (name, is_found) in metrics_found {
            let labels = [labels[0], labels[1], ("metric", name)];
            batch.push(&metrics::FOUND, &labels, f64::from(u8::from(is_found)));
        }
        for (key, value) in self.values.iter().filter(|(key, _)| self.is_newest(key)) {
            let row = &kind.rows[key.row];
            let mut labels = labels.to_vec();
            if !row.whole {
                labels.push(("model", &key.model));
            }
            match row.extra {
                Extra::None => {}
                Extra::Is(label, value) => labels.push((label, value)),
                Extra::From(label, _) => labels.push((label, &key.extra)),
            }
            batch.push(row.to, &labels, *value);
        }
        for (key, buckets) in self
            .histograms
            .iter()
            .filter(|(key, _)| self.is_newest(key))
        {
            let labels = [labels[0], labels[1], ("model", key.model.as_str())];
            let (bounds, counts) = buckets.apart();
            batch.push_buckets(
                kind.rows[key.row].to,
                &labels,
                &bounds,
                &counts,
                buckets.sum,
            );
        }
    }
}

impl Buckets {
    /// Bounds, and the number of values in each bucket, one more than bounds.
    fn apart(&self) -> (Vec<f64>, Vec<u64>) {
        let (mut bounds, mut counts, mut below) = (Vec::new(), Vec::new(), 0.0);
        for (bits, up_to) in &self.counts {
            bounds.push(f64::from_bits(*bits));
            counts.push((up_to - below).max(0.0) as u64);
            below = up_to.max(below);
        }
        counts.push((self.count - below).max(0.0) as u64);
        (bounds, counts)
    }
}
