//! What every collector that reads log files shows of the reading itself.

use crate::model::Batch;
use crate::model::MetricKind::{Counter, Gauge};

use super::reader::{Seen, Totals};

metrics! {
    LAST "log_last_line_timestamp_seconds" Gauge "seconds" &[], "When the last line was written, Unix time: by its time field, or by the file's modification.", "the log, stat(2)";
    BEHIND "log_bytes_behind" Gauge "bytes" &[], "Bytes that are in the files and not read yet.", "stat(2)";
    READABLE "log_readable" Gauge "" &[], "1 when every file is there and can be read.", "open(2)";
    READ "log_read_bytes_total" Counter "bytes" &[], "Bytes read.", "nightbell";
    CUT "log_lines_cut_total" Counter "" &[], "Lines longer than 256 KiB, of which only the beginning counts.", "nightbell";
    LOST "log_files_lost_total" Counter "" &[], "Files that vanished before they were read to their end.", "nightbell";
    FILES "log_files" Gauge "" &[], "Files that are followed.", "nightbell";
    OMITTED "log_files_omitted" Gauge "" &[], "Files beyond the bound of 100, which are not read.", "nightbell";
    SAVED "log_position_saved" Gauge "" &[], "1 when what was read is on disk, so that a restart counts nothing twice.", "nightbell";
}

/// Shows it.
pub fn show(totals: &Totals, seen: &Seen, batch: &mut Batch) {
    let one = |condition: bool| f64::from(u8::from(condition));
    if totals.last_line > 0.0 {
        batch.push(&LAST, &[], totals.last_line);
    }
    batch.push(&BEHIND, &[], seen.behind as f64);
    batch.push(&READABLE, &[], one(seen.readable));
    batch.push(&READ, &[], totals.bytes as f64);
    batch.push(&CUT, &[], totals.cut as f64);
    batch.push(&LOST, &[], totals.lost as f64);
    batch.push(&FILES, &[], seen.files as f64);
    batch.push(&OMITTED, &[], seen.omitted as f64);
    batch.push(&SAVED, &[], one(seen.saved));
}
