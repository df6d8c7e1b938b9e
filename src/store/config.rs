//! The block `storage`: where the history is kept, how long, and how large it may grow. The block
//! `limits`: what memory may hold.
//!
//! Prometheus's own keys, `storage.tsdb.retention.time` and `.size`, mean the same here.

use std::path::PathBuf;
use std::time::Duration;

use crate::config::{ByteSize, Section};

use super::{HistorySettings, Limits};

/// How long samples are kept unless the file says otherwise.
const RETENTION: Duration = Duration::from_secs(30 * 86_400);
/// Bytes on disk unless the file says otherwise.
const MAX_SIZE: u64 = 5 << 30;
/// Shortest retention: less would drop samples before they are in a block.
const SHORTEST: Duration = Duration::from_secs(3600);

/// The block `storage`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StorageConfig {
    /// Folder of the history; `history` in the state folder by default.
    pub path: Option<PathBuf>,
    /// How long samples are kept; 30 days by default.
    pub retention: Duration,
    /// Bytes on disk, the oldest samples go first; 5 GB by default, `None` for no bound.
    pub max_size: Option<u64>,
}

impl Default for StorageConfig {
    fn default() -> Self {
        StorageConfig {
            path: None,
            retention: RETENTION,
            max_size: Some(MAX_SIZE),
        }
    }
}

impl StorageConfig {
    /// Reads the block.
    pub fn read(section: &Section<'_>) -> Self {
        let path = section.get("path");
        let mut time: Option<Duration> = section.get("retention");
        let mut size: Option<ByteSize> = section.get("max_size");
        if let Some(tsdb) = section.section("tsdb") {
            if let Some(retention) = tsdb.section("retention") {
                let twice = "stands beside";
                if time.is_some() && retention.node("time").is_some() {
                    retention.error(
                        "time",
                        format!("{twice} storage.retention"),
                        "keep one of the two",
                    );
                }
                if size.is_some() && retention.node("size").is_some() {
                    retention.error(
                        "size",
                        format!("{twice} storage.max_size"),
                        "keep one of the two",
                    );
                }
                time = time.or_else(|| retention.get("time"));
                size = size.or_else(|| retention.get("size"));
                retention.finish();
            }
            // Samples out of order are refused.
            tsdb.node("out_of_order_time_window");
            tsdb.finish();
        }
        section.node("exemplars");
        let retention = time.filter(|t| !t.is_zero()).unwrap_or(RETENTION);
        if retention < SHORTEST {
            section.error(
                "retention",
                "is shorter than an hour",
                "give at least 1h; 30d is the default",
            );
        }
        section.finish();
        StorageConfig {
            path,
            retention,
            max_size: size.map_or(Some(MAX_SIZE), |s| Some(s.0).filter(|bytes| *bytes > 0)),
        }
    }

    /// What the store needs to open the history; `default` is the folder when the file names none.
    pub fn settings(&self, default: PathBuf) -> HistorySettings {
        HistorySettings {
            path: self.path.clone().unwrap_or(default),
            retention: self.retention,
            max_size: self.max_size,
        }
    }
}

/// Of the block `limits`: how many series memory may hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeriesLimits {
    /// Series in memory; a million by default, `None` for no bound.
    pub series: Option<usize>,
    /// Series of one target; a fifth of `series` by default, `None` for no bound.
    pub series_per_target: Option<usize>,
}

impl Default for SeriesLimits {
    fn default() -> Self {
        let Limits {
            max_series,
            max_series_per_target,
            ..
        } = Limits::default();
        SeriesLimits {
            series: Some(max_series),
            series_per_target: Some(max_series_per_target),
        }
    }
}

/// Fewer would leave no room for what nightbell measures of itself.
const FEWEST: usize = 1000;

impl SeriesLimits {
    /// Reads its part of the block; 0 is no bound.
    pub fn read(section: &Section<'_>) -> Self {
        let bound = |key: &str| {
            section
                .get::<usize>(key)
                .map(|most| Some(most).filter(|most| *most > 0))
        };
        let series = bound("series").unwrap_or(SeriesLimits::default().series);
        if series.is_some_and(|series| series < FEWEST) {
            section.error(
                "series",
                format!("is below {FEWEST}"),
                "1000000 is the default, 0 sets no bound",
            );
        }
        let share = bound("series_per_target").unwrap_or(series.map(|series| series / 5));
        SeriesLimits {
            series,
            series_per_target: share,
        }
    }

    /// What the store refuses to exceed.
    pub fn limits(&self) -> Limits {
        let bound = |most: Option<usize>| most.unwrap_or(usize::MAX);
        Limits {
            max_series: bound(self.series),
            max_series_per_target: bound(self.series_per_target),
            ..Limits::default()
        }
    }
}
