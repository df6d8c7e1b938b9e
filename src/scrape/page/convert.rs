//! `convert_classic_histograms_to_nhcb`: the lines of a classic histogram become one native
//! histogram with custom bounds.
//!
//! As in Prometheus, lines belong together while they follow each other and differ in `le` and
//! suffix only. A histogram that makes no sense (counts that sink from bucket to bucket, negative
//! ones) is left out.

use std::collections::HashSet;

use crate::exposition;
use crate::exposition::protobuf::Exposed;
use crate::model::native_histogram::{Buckets, CUSTOM_SCHEMA, Span};
use crate::model::{Labels, LabelsBuilder, METRIC_NAME, MetricKind, NativeHistogram, Timestamp};

/// What gathers the lines of a page.
#[derive(Default)]
pub(in crate::scrape) struct Converter {
    /// The declared histogram whose lines may follow.
    family: Option<String>,
    gathering: Option<Gathered>,
    /// Series that are native already.
    native: HashSet<Labels>,
    done: Vec<Exposed>,
}

/// A histogram as far as it was read.
struct Gathered {
    labels: Labels,
    timestamp: Option<Timestamp>,
    /// Bound and cumulative count, ascending.
    buckets: Vec<(f64, f64)>,
    count: Option<f64>,
    sum: f64,
    broken: bool,
}

impl Converter {
    /// `native`: the native histograms of the page, which need no conversion.
    pub(in crate::scrape) fn new(native: &[Exposed]) -> Self {
        let labels = |exposed: &Exposed| read(exposed.series.as_bytes());
        Converter {
            native: native.iter().filter_map(labels).collect(),
            ..Converter::default()
        }
    }

    /// A TYPE line.
    pub(in crate::scrape) fn declare(&mut self, family: &str, kind: MetricKind) {
        self.finish();
        self.family = (kind == MetricKind::Histogram).then(|| family.to_owned());
    }

    /// A sample line; returns whether it is part of a histogram that is converted.
    pub(in crate::scrape) fn take(
        &mut self,
        series: &[u8],
        value: f64,
        timestamp: Option<Timestamp>,
    ) -> bool {
        let Some(family) = self.family.as_deref() else {
            return false;
        };
        let Some(labels) = read(series) else {
            return false;
        };
        let Some(suffix) = labels
            .metric_name()
            .strip_prefix(family)
            .filter(|s| matches!(*s, "_bucket" | "_count" | "_sum"))
        else {
            self.finish();
            return false;
        };
        let bound = labels
            .get("le")
            .and_then(|le| le.parse::<f64>().ok())
            .filter(|bound| !bound.is_nan());
        if suffix == "_bucket" && bound.is_none() {
            return false;
        }
        let mut base = labels.to_builder();
        base.set(METRIC_NAME, family);
        if suffix == "_bucket" {
            base.set("le", "");
        }
        let base = base.build();
        if self.native.contains(&base) {
            return false;
        }
        if self
            .gathering
            .as_ref()
            .is_none_or(|gathered| gathered.labels != base)
        {
            self.finish();
        }
        let gathered = self.gathering.get_or_insert_with(|| Gathered::new(base));
        gathered.timestamp = timestamp;
        match (suffix, bound) {
            ("_bucket", Some(bound)) => gathered.add(bound, value),
            ("_count", _) => {
                gathered.broken |= value < 0.0 || value.is_nan();
                gathered.count = Some(value);
            }
            _ => gathered.sum = value,
        }
        true
    }

    /// Ends the histogram that is being gathered.
    fn finish(&mut self) {
        let Some(gathered) = self.gathering.take() else {
            return;
        };
        let (labels, timestamp) = (gathered.labels.clone(), gathered.timestamp);
        if let Some(histogram) = gathered.convert() {
            self.done.push(Exposed {
                series: exposition::written(&labels).into(),
                timestamp,
                histogram,
            });
        }
    }

    /// The histograms, at the end of the page.
    pub(in crate::scrape) fn into_histograms(mut self) -> Vec<Exposed> {
        self.finish();
        self.done
    }
}

/// The labels of a series as a page writes it.
fn read(series: &[u8]) -> Option<Labels> {
    let mut labels = LabelsBuilder::new();
    exposition::labels(series, MetricKind::Histogram, &mut labels).ok()?;
    Some(labels.build())
}

impl Gathered {
    fn new(labels: Labels) -> Self {
        Gathered {
            labels,
            timestamp: None,
            buckets: Vec::new(),
            count: None,
            sum: 0.0,
            broken: false,
        }
    }

    fn add(&mut self, bound: f64, count: f64) {
        let position = self.buckets.partition_point(|(other, _)| *other < bound);
        // A bucket that comes twice counts once.
        if self
            .buckets
            .get(position)
            .is_some_and(|(other, _)| *other == bound)
        {
            return;
        }
        self.broken |= count < 0.0 || count.is_nan();
        self.buckets.insert(position, (bound, count));
    }

    fn convert(mut self) -> Option<NativeHistogram> {
        let count = self
            .count
            .or_else(|| self.buckets.last().map(|(_, count)| *count))
            .unwrap_or(0.0);
        if self
            .buckets
            .last()
            .is_none_or(|(bound, _)| *bound != f64::INFINITY)
        {
            self.buckets.push((f64::INFINITY, count));
        }
        if self.broken || !self.buckets.is_sorted_by(|(_, a), (_, b)| a <= b) {
            return None;
        }
        let mut before = 0.0;
        let counts: Vec<f64> = self
            .buckets
            .iter()
            .map(|(_, cumulative)| cumulative - std::mem::replace(&mut before, *cumulative))
            .collect();
        let whole = |value: f64| value.round() == value;
        let integer = whole(count)
            && self
                .buckets
                .iter()
                .all(|(_, cumulative)| whole(*cumulative));
        // Of an integer histogram the buckets hold what the count says, or there is none.
        if integer && (before > count || (before < count && !self.sum.is_nan())) {
            return None;
        }
        let span = Span {
            offset: 0,
            length: u32::try_from(counts.len()).ok()?,
        };
        let bounds = self.buckets[..self.buckets.len() - 1]
            .iter()
            .map(|(bound, _)| *bound)
            .collect();
        let positive = Buckets::new(&[span], counts).ok()?;
        let histogram = NativeHistogram {
            schema: CUSTOM_SCHEMA,
            count,
            sum: self.sum,
            positive,
            bounds,
            ..NativeHistogram::default()
        };
        histogram.validate().ok()?;
        Some(histogram.compacted())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exposition::{Format, Item, Lines};

    fn converted(page: &str) -> (Vec<String>, Vec<String>) {
        let mut converter = Converter::default();
        let mut rest = Vec::new();
        let mut lines = Lines::new(page.as_bytes(), Format::Text);
        while let Some(item) = lines.next(b"").expect("a sound page") {
            match item {
                Item::Type(family, kind) => converter.declare(&family, kind),
                Item::Sample(line) if !converter.take(line.series, line.value, line.timestamp) => {
                    rest.push(String::from_utf8_lossy(line.series).into_owned());
                }
                _ => {}
            }
        }
        let shown = converter
            .into_histograms()
            .iter()
            .map(|e| format!("{} {}", e.series, e.histogram))
            .collect();
        (shown, rest)
    }

    #[test]
    fn lines_of_one_histogram_become_one_sample() {
        let page = "# TYPE h histogram\nh_bucket{a=\"1\",le=\"1\"} 2\nh_bucket{a=\"1\",le=\"5\"} 5\nh_bucket{a=\"1\",le=\"+Inf\"} 6\n\
                    h_sum{a=\"1\"} 12.5\nh_count{a=\"1\"} 6\nh_count{a=\"2\"} 3\nh_bucket{a=\"2\",le=\"1\"} 1\nh_other 1\nx_count 1\n\
                    # TYPE s summary\ns_count 1\n";
        let (histograms, rest) = converted(page);
        assert_eq!(
            histograms,
            [
                "h{a=\"1\"} {count:6, sum:12.5, [-Inf,1]:2, (1,5]:3, (5,+Inf]:1}",
                "h{a=\"2\"} {count:3, sum:0, [-Inf,1]:1, (1,+Inf]:2}"
            ]
        );
        assert_eq!(rest, ["h_other", "x_count", "s_count"]);
    }

    #[test]
    fn what_makes_no_sense_is_left_out() {
        for page in [
            "h_bucket{le=\"1\"} 5\nh_bucket{le=\"2\"} 4\n",
            "h_bucket{le=\"1\"} -1\n",
            "h_bucket{le=\"+Inf\"} 2\nh_count 3\n",
        ] {
            assert_eq!(
                converted(&format!("# TYPE h histogram\n{page}")),
                (vec![], vec![]),
                "{page}"
            );
        }
    }
}
