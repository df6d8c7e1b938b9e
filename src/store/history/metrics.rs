//! What the history tells of itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

use crate::telemetry::Telemetry;

/// Which part of the history was damaged.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Part {
    part: &'static str,
}

/// A log that was cut short, as a crash leaves it; damage within the log; blocks; chunks of them.
const PARTS: [&str; 4] = ["log", "record", "block", "chunk"];

/// Own metrics of the history; cheap to clone.
#[derive(Clone, Debug, Default)]
pub(in crate::store) struct Metrics {
    writable: Gauge,
    log_fails: Arc<AtomicBool>,
    blocks_fail: Arc<AtomicBool>,
    errors: Counter,
    dropped: Counter,
    damaged: Family<Part, Counter>,
    blocks: Gauge,
    bytes: Gauge,
    replay: Gauge<f64, std::sync::atomic::AtomicU64>,
}

impl Metrics {
    /// Registers them.
    pub(in crate::store) fn register(&self, telemetry: &Telemetry) {
        for part in PARTS {
            drop(self.damaged.get_or_create(&Part { part }));
        }
        telemetry.register(|registry| {
            registry.register(
                "history_writable",
                "Whether the last write to the history on disk succeeded; while 0, samples are kept in memory only.",
                self.writable.clone(),
            );
            registry.register("history_write_errors", "Writes to the history on disk that failed.", self.errors.clone());
            registry.register(
                "history_samples_not_logged",
                "Samples that were not written to the log because its queue was full: they live in memory until their block is written.",
                self.dropped.clone(),
            );
            registry.register(
                "history_damaged",
                "Parts of the history that were not as they had been written and were set aside.",
                self.damaged.clone(),
            );
            registry.register("history_blocks", "Blocks on disk.", self.blocks.clone());
            registry.register("history_bytes", "Bytes on disk: blocks, log, and what was set aside.", self.bytes.clone());
            registry.register("history_replay_duration_seconds", "How long reading the log took at start.", self.replay.clone());
        });
    }

    /// Whether the log could be written.
    pub(super) fn log_written(&self, written: bool) {
        self.log_fails.store(!written, Ordering::Relaxed);
        self.judge();
    }

    /// Whether the blocks that were due could be written.
    pub(super) fn blocks_written(&self, written: bool) {
        self.blocks_fail.store(!written, Ordering::Relaxed);
        self.judge();
    }

    fn judge(&self) {
        let fails =
            self.log_fails.load(Ordering::Relaxed) || self.blocks_fail.load(Ordering::Relaxed);
        self.writable.set(i64::from(!fails));
    }

    pub(super) fn is_writable(&self) -> bool {
        self.writable.get() == 1
    }

    pub(super) fn failed(&self) {
        self.errors.inc();
    }

    pub(super) fn dropped(&self, samples: u32) {
        self.dropped.inc_by(u64::from(samples));
    }

    /// `part` is one of [`PARTS`].
    pub(super) fn damaged(&self, part: &'static str) {
        self.damaged.get_or_create(&Part { part }).inc();
    }

    /// Parts damaged so far.
    pub(super) fn damaged_count(&self) -> u64 {
        PARTS
            .into_iter()
            .map(|part| self.damaged.get_or_create(&Part { part }).get())
            .sum()
    }

    pub(super) fn size(&self, blocks: usize, bytes: u64) {
        self.blocks.set(blocks as i64);
        self.bytes.set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    pub(super) fn replayed(&self, seconds: f64) {
        self.replay.set(seconds);
    }
}
