//! Once a minute: what has been in memory for a while goes into a block, blocks are merged, and
//! what is too old is dropped.

use std::io;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tracing::{info, warn};

use super::history::{BLOCK_TIME, Block, BlockWriter, History, order};
use super::memory::series::{Gathered, Scratch};
use super::{MEMORY_RETENTION, RECORDED_RETENTION, Store};
use crate::model::{Labels, Timestamp, clock};

/// How long after the end of its span a block is written: samples may come late. As in Prometheus,
/// whose head takes what is up to an hour old: exporters of cloud services stamp their samples ten
/// minutes back and more.
const MARGIN: Duration = Duration::from_secs(60 * 60);

/// The same where the log is long: what is in it is in memory too, and is read again by the next start.
/// Samples may then come as late as some came in the last hours.
const SHORT_MARGIN: Duration = Duration::from_secs(2 * 60);

/// A block waits for late samples that are at most so far behind, and for so long for those that
/// are further behind: what waits is in memory.
const PATIENCE: Duration = Duration::from_secs(2 * 3600);

/// Samples that come long after their time, from a page that carries timestamps: a metrics service
/// that lags, or a history that is fed in. Their block is not due as long as they come.
#[derive(Debug)]
pub(super) struct Late {
    /// The newest sample of all.
    newest: i64,
    /// The oldest late sample since the last upkeep, and between the last two.
    oldest: [i64; 2],
    /// When samples began to come that are further behind than [`PATIENCE`].
    since: Option<Timestamp>,
    /// How far samples were behind at most, in milliseconds and within the margin: since `turned`,
    /// and in the hour before that.
    lags: [i64; 2],
    turned: Option<Timestamp>,
}

impl Default for Late {
    fn default() -> Self {
        Late {
            newest: i64::MIN,
            oldest: [i64::MAX; 2],
            since: None,
            lags: [0; 2],
            turned: None,
        }
    }
}

impl Late {
    /// A sample was taken.
    pub(super) fn see(&mut self, at: i64) {
        if at >= self.newest {
            self.newest = at;
        } else if at < (Timestamp(self.newest) - MARGIN).0 {
            self.oldest[0] = self.oldest[0].min(at);
        } else {
            self.lags[0] = self.lags[0].max(self.newest - at);
        }
    }

    /// A sample was refused, since its time is in a block: further ones like it should find room.
    pub(super) fn missed(&mut self, at: i64) {
        if at < self.newest && at >= (Timestamp(self.newest) - MARGIN).0 {
            self.lags[0] = self.lags[0].max(self.newest - at);
        }
    }

    /// How long after the end of its span a block is written; call it at each upkeep.
    fn margin(&mut self, now: Timestamp, is_long: bool) -> Duration {
        let turned = *self.turned.get_or_insert(now);
        if now >= turned + MARGIN || now < turned {
            self.turned = Some(now);
            self.lags = [0, self.lags[0]];
        }
        if !is_long {
            return MARGIN;
        }
        let lag = self.lags[0].max(self.lags[1]).unsigned_abs();
        Duration::from_millis(lag.saturating_mul(2)).clamp(SHORT_MARGIN, MARGIN)
    }

    /// The time from which on samples still come; call it at each upkeep.
    fn open_from(&mut self, now: Timestamp) -> i64 {
        let [new, before] = self.oldest;
        self.oldest = [i64::MAX, new];
        let oldest = new.min(before);
        if oldest >= (now - PATIENCE).0 {
            self.since = None;
            return oldest;
        }
        let since = *self.since.get_or_insert(now);
        if now <= since + PATIENCE {
            return oldest;
        }
        warn!(
            "Samples that are hours late have held back the history for two hours; it goes on, and samples older than its last block are refused."
        );
        i64::MAX
    }
}

impl Store {
    /// Lets blocks be written as soon as their time has passed when the log takes so many bytes, 128
    /// MB otherwise: the log is then as long as that, or as half an hour.
    pub fn shorten_log_beyond(&self, bytes: u64) {
        self.long_log.store(bytes, Relaxed);
    }

    /// Writes blocks and drops what is too old, in memory and on disk. Call it about once a minute,
    /// off the async runtime: it reads and writes files.
    pub fn maintain(&self, now: Timestamp) {
        // What is still in the log alone must neither be deleted nor counted as missing.
        if self.is_reading() {
            return;
        }
        self.selections.lock().upkeep();
        self.located.lock().upkeep();
        let (mut floor, mut open) = (i64::MIN, i64::MAX);
        if let Some(history) = self.history.get() {
            let margin = {
                let is_long = history.log_bytes() >= self.long_log.load(Relaxed);
                let late = &mut self.inner.write().late;
                open = late.open_from(now);
                late.margin(now, is_long)
            };
            let written = self.write_blocks(history, open.min((now - margin).0));
            if let Err(error) = &written {
                warn!(%error, "A block cannot be written; its samples stay in memory.");
            }
            let ended = self.end_series(now);
            if let Err(error) = &ended {
                warn!(%error, "Series that ended cannot be written; their samples stay in memory.");
            }
            history.written(written.is_ok() && ended.is_ok());
            history.maintain(clock::aged(now));
            floor = history.floor_for_all();
        } else if let Err(error) = self.end_series(now) {
            warn!(%error, "Series that ended stay in memory.");
        }
        // Recorded series are few, and forecasts over days stand on them.
        let age = |labels: &Labels| {
            if labels.metric_name().contains(':') {
                RECORDED_RETENTION
            } else {
                MEMORY_RETENTION
            }
        };
        let aged = clock::aged(now);
        self.retain_by(|labels| {
            Timestamp(
                (aged - age(labels))
                    .0
                    .min(open.saturating_sub(BLOCK_TIME))
                    .max(floor),
            )
        });
    }

    /// Writes the blocks that end by `due`.
    fn write_blocks(&self, history: &History, due: i64) -> io::Result<()> {
        loop {
            let floor = history.snapshot().floor;
            if floor.saturating_add(BLOCK_TIME) > due {
                return Ok(());
            }
            let Some(oldest) = self.oldest(history, floor) else {
                return Ok(());
            };
            let start = oldest.div_euclid(BLOCK_TIME) * BLOCK_TIME;
            let end = start + BLOCK_TIME;
            if end > due {
                return Ok(());
            }
            // From here on nothing can come that the block would miss.
            {
                let inner = &mut *self.inner.write();
                inner.floor = inner.floor.max(end);
            }
            // After a jump of the clock blocks may end in between.
            let block = self.block(history, (start.max(floor), end), false)?;
            history.publish(block, end);
        }
    }

    /// Milliseconds of the oldest sample at or after `floor` that no block holds.
    pub(super) fn oldest(&self, history: &History, floor: i64) -> Option<i64> {
        [self.inner.read().oldest(floor), history.oldest_ended()]
            .into_iter()
            .flatten()
            .min()
    }

    /// Writes a block of what memory and the files of series that ended hold of
    /// `start <= timestamp < end`; one of a `part` spans no more than what is in it.
    pub(super) fn block(
        &self,
        history: &History,
        (start, end): (i64, i64),
        part: bool,
    ) -> io::Result<Option<Block>> {
        let mut series: Vec<(Labels, u32)> = {
            let inner = self.inner.read();
            let columns = &inner.columns;
            inner
                .slots
                .iter()
                .filter(|(_, s)| s.overlaps(start - 1, end - 1, columns))
                .map(|(number, s)| (s.labels.clone(), number))
                .collect()
        };
        series.sort_unstable_by(|(a, _), (b, _)| order(a, b));
        let (folder, later) = (history.blocks_folder(), history.later_than(start, end));
        let mut writer = match part {
            true => BlockWriter::create_part(folder, (start, end), later)?,
            false => BlockWriter::create_later(folder, (start, end), later)?,
        };
        let mut ended = history.walk_ended(start - 1, end - 1)?;
        let (mut samples, mut scratch) = (Gathered::default(), Scratch::default());
        let mut series = series.into_iter().peekable();
        while let Some(labels) = first(ended.peek(), series.peek().map(|(labels, _)| labels)) {
            samples.clear();
            if ended.peek() == Some(&labels) {
                ended.take(start - 1, end - 1, &mut samples)?;
            }
            if let Some((_, slot)) = series.next_if(|(other, _)| *other == labels) {
                let inner = self.inner.read();
                let series = inner.slots.get(slot).filter(|s| s.labels == labels);
                match series.map(|s| {
                    s.window(
                        start - 1,
                        end - 1,
                        &inner.columns,
                        &self.decoded,
                        &mut scratch,
                    )
                }) {
                    Some(Ok(window)) => samples.extend(window),
                    Some(Err(error)) => {
                        self.damaged
                            .fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                        warn!(series = %labels, %error, "A chunk in memory is damaged and is missing from the block.");
                    }
                    None => {}
                }
            }
            samples.order();
            writer.add(&labels, samples.window())?;
        }
        let block = writer.finish()?;
        if let Some(block) = &block {
            let status = block.status();
            info!(block = %block.path().display(), status.series, status.samples, status.bytes, "Block written.");
        }
        Ok(block)
    }
}

/// The label set that comes first in a block.
fn first(a: Option<&Labels>, b: Option<&Labels>) -> Option<Labels> {
    a.into_iter().chain(b).min_by(|a, b| order(a, b)).cloned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_log_waits_for_late_samples_as_long_as_some_were_late() {
        let minute = Duration::from_secs(60);
        let (start, mut late) = (Timestamp(1_800_000_000_000), Late::default());
        late.see(start.0);
        late.see((start - Duration::from_secs(3)).0);
        assert_eq!(late.margin(start, false), MARGIN);
        assert_eq!(late.margin(start, true), SHORT_MARGIN);
        // A service that lags, and one whose sample found a block there.
        late.see((start - 5 * minute).0);
        assert_eq!(late.margin(start, true), 10 * minute);
        late.missed((start - 11 * minute).0);
        assert_eq!(late.margin(start, true), 22 * minute);
        late.missed((start - 40 * minute).0);
        assert_eq!(late.margin(start, true), MARGIN);
        // What no margin would have room for changes nothing; what has not come for hours is
        // forgotten.
        late.missed(0);
        assert_eq!(late.margin(start + MARGIN, true), MARGIN);
        assert_eq!(late.margin(start + 2 * MARGIN, true), SHORT_MARGIN);
    }
}
