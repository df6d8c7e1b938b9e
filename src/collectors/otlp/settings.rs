//! The keys of the receiver.

use std::time::Duration;

use crate::collectors::gen_ai;
use crate::config::{ByteSize, SecretSource, Section};

/// Series that may be held unless the configuration says otherwise, and most that it may say.
const SERIES: usize = 20_000;
const MOST_SERIES: usize = 150_000;
/// A series of which nothing came for so long is not shown any more, as Prometheus has it.
const STALE_AFTER: Duration = Duration::from_secs(300);
/// Most bytes of a request after decompression: what the protocol's specification recommends.
const MAX_BODY: u64 = 20 << 20;

/// The keys of the collector.
#[derive(Clone, Debug)]
pub struct Settings {
    /// A token that lets senders in, beside the administrator's.
    pub token: Option<SecretSource>,
    /// Series that may be held.
    pub series: usize,
    /// How long a series is shown of which nothing comes.
    pub stale_after: Duration,
    /// Most bytes of a request after decompression.
    pub max_body: usize,
    /// What is known of calls.
    pub calls: gen_ai::Settings,
}

impl Settings {
    /// Reads the section and records its mistakes.
    pub fn read(section: &Section<'_>) -> Self {
        let series = section.or("series", SERIES);
        if !(1..=MOST_SERIES).contains(&series) {
            section.error(
                "series",
                format!("is not a number from 1 to {MOST_SERIES}"),
                "leave it out: 20000 series are held",
            );
        }
        let max_body = section
            .get::<ByteSize>("max_body")
            .map_or(MAX_BODY, |size| size.0);
        if !(1..=MAX_BODY).contains(&max_body) {
            section.error(
                "max_body",
                "is not a size up to 20MiB",
                "leave it out: 20MiB is the default",
            );
        }
        Settings {
            token: section.secret_source("token"),
            series: series.min(MOST_SERIES),
            stale_after: section.or("stale_after", STALE_AFTER),
            max_body: usize::try_from(max_body.min(MAX_BODY)).unwrap_or(0),
            calls: gen_ai::Settings::read(section),
        }
    }
}
