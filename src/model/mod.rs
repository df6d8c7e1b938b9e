//! The nouns every other module speaks: labels, matchers, samples, metrics, alerts and time.
//!
//! Nothing here does I/O or asks what time it is.

pub mod alert;
pub mod budget;
pub mod bytes;
pub mod clock;
pub mod label_sets;
pub mod labels;
pub mod language;
pub mod matcher;
pub mod metric;
pub mod native_histogram;
pub mod needle;
pub mod regex;
pub mod sample;
pub mod text;
pub mod time;

pub use alert::Alert;
pub use alert::action::ActionOutcome;
pub use alert::note::Note;
pub use alert::stage::Stage;
pub use budget::{Budget, Holder, OverBudget, Reservation};
pub use label_sets::{Grouping, Groups, LabelSets};
pub use labels::{Labels, LabelsBuilder, METADATA, METRIC_NAME, is_metadata};
pub use language::Language;
pub use matcher::{MatchOp, Matcher, MatcherError};
pub use metric::{MetricDesc, MetricKind};
pub use native_histogram::{NativeHistogram, histogram_nan, is_histogram};
pub use needle::{Needle, Position};
pub use sample::{
    Batch, Family, Histogram, HistogramSample, STALE_NAN_BITS, Sample, any_stale, is_stale,
    stale_nan,
};
pub use time::{DurationError, Timestamp, format_duration, parse_duration, parse_go_duration};
