//! Why a scrape brought nothing.

use std::borrow::Cow;
use std::io;

use crate::exposition::{ParseError, protobuf};
use crate::http::HttpError;
use crate::model::DurationError;
use crate::store::Refused;

/// Why a target has no page.
#[derive(Debug, thiserror::Error)]
pub(super) enum ScrapeError {
    /// It cannot be asked at all.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// It did not answer, or not to the end.
    #[error("{kind}: {0}", kind = .0.kind.as_str())]
    Http(#[from] HttpError),
    /// It refused.
    #[error("server returned HTTP status {0}")]
    Status(u16),
    /// Its answer is of no format that is known.
    #[error("unsupported Content-Type {0:?} and no fallback_scrape_protocol")]
    ContentType(String),
    /// Its page is not sound.
    #[error(transparent)]
    Page(#[from] PageError),
}

/// Why a target cannot be asked.
#[derive(Clone, Debug, thiserror::Error)]
pub(super) enum AddressError {
    /// Relabelling left no address.
    #[error("no address after relabelling")]
    Missing,
    /// It is no URL's.
    #[error("the address is not host:port: {0}")]
    Url(#[from] url::ParseError),
    /// It holds more than host and port.
    #[error("the address is not host:port")]
    Path,
    /// It is asked in another way.
    #[error("unsupported scheme {0:?}: neither http nor https")]
    Scheme(String),
    /// Its labels name a time that is none.
    #[error("{label}: {error}")]
    Duration {
        /// The label.
        label: &'static str,
        /// What is wrong with its value.
        error: DurationError,
    },
    /// Its times do not fit.
    #[error("the timeout must be above 0 and at most the interval")]
    Times,
    /// Its job has more targets than its file allows.
    #[error("target_limit exceeded (number of targets: {found}, limit: {limit})")]
    TargetLimit {
        /// Targets that there are.
        found: usize,
        /// The limit.
        limit: u64,
    },
}

/// Why a page is not taken. Small: it is part of the result for every line.
#[derive(Debug, thiserror::Error)]
pub(super) enum PageError {
    /// A line is none of its format.
    #[error(transparent)]
    Line(#[from] ParseError),
    /// The protobuf body cannot be read.
    #[error(transparent)]
    Protobuf(#[from] protobuf::Error),
    /// The labels of a series are none.
    #[error("{0}")]
    Series(Cow<'static, str>),
    /// It has more samples than its limit.
    #[error("sample limit exceeded: {found} samples, {bound}")]
    SampleLimit {
        /// Samples that were kept.
        found: usize,
        /// The limit, and the setting that it comes from.
        bound: String,
    },
    /// It has many more samples than its limit, however many of them relabelling drops.
    #[error("sample limit exceeded: more than {0} samples before relabelling")]
    BeforeRelabelling(usize),
    /// A histogram cannot be made coarse enough.
    #[error("histogram bucket limit exceeded: {found} buckets, at most {limit} allowed")]
    BucketLimit {
        /// Buckets that are left.
        found: u64,
        /// The limit.
        limit: u64,
    },
    /// Its target has as many series in memory as one may have.
    #[error(
        "series limit exceeded: no room for {name:?}, since a target may have {most} series in memory \
         (limits.series_per_target); those that ended count for some minutes"
    )]
    SeriesLimit {
        /// The metric for which there is no room.
        name: String,
        /// The limit.
        most: usize,
    },
    /// The store takes no such series.
    #[error("a series of {name:?} cannot be stored: {refused}")]
    NotStored {
        /// The metric.
        name: String,
        /// Why.
        refused: Refused,
    },
    /// It cannot be kept for those who ask for it.
    #[error("the page cannot be kept: {0}")]
    Kept(#[from] io::Error),
}
