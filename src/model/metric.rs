//! What a metric is: the one file where its name, unit, help and source are written.

/// The type of a metric family, as the exposition formats know it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum MetricKind {
    /// Only goes up, or starts again from zero.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Cumulative buckets with sum and count.
    Histogram,
    /// Precomputed quantiles with sum and count.
    Summary,
    /// Type not known (`untyped` in text 0.0.4, `unknown` in OpenMetrics).
    Untyped,
    /// OpenMetrics: labels that describe something, with the value 1.
    Info,
    /// OpenMetrics: one series for each state, 1 or 0.
    StateSet,
    /// OpenMetrics: buckets that go up and down.
    GaugeHistogram,
}

impl MetricKind {
    /// The word in text format 0.0.4, which has none for some types of OpenMetrics.
    pub fn as_str(self) -> &'static str {
        match self {
            MetricKind::Counter => "counter",
            MetricKind::Gauge | MetricKind::Info | MetricKind::StateSet => "gauge",
            MetricKind::Histogram => "histogram",
            MetricKind::Summary => "summary",
            MetricKind::Untyped | MetricKind::GaugeHistogram => "untyped",
        }
    }

    /// The word in Prometheus's metadata API, which has one for every type.
    pub fn name(self) -> &'static str {
        match self {
            MetricKind::Untyped => "unknown",
            MetricKind::Info => "info",
            MetricKind::StateSet => "stateset",
            MetricKind::GaugeHistogram => "gaugehistogram",
            other => other.as_str(),
        }
    }
}

/// A metric that a collector emits. HELP text, `nightbell metrics` and the reference all read this.
#[derive(Debug, Clone, Copy)]
pub struct MetricDesc {
    /// Full name, with unit and `_total` where the field's convention (or the established exporter)
    /// has them.
    pub name: &'static str,
    /// Its type.
    pub kind: MetricKind,
    /// Base unit: `seconds`, `bytes`, `ratio`, `celsius`, `` for a plain number.
    pub unit: &'static str,
    /// One sentence for people; ends with a full stop.
    pub help: &'static str,
    /// The labels it carries, `job`, `instance` and configured ones apart.
    pub labels: &'static [&'static str],
    /// Where the number comes from: kernel file and field, catalog view, API call.
    pub source: &'static str,
}
