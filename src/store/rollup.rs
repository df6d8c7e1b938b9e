//! Rollups: one number for each hour of what reports need, kept much longer than samples, in one
//! small file for each day (UTC).
//!
//! A file is gzipped JSON, written beside the old one and put in its place, so that `kill -9`
//! leaves the one or the other. What a file says is the business of those who write and read it;
//! here it is names, label sets and up to 24 numbers.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use serde::{Deserialize, Serialize};

use crate::model::{Labels, Timestamp};

/// Milliseconds of a day.
const DAY: i64 = 86_400_000;
/// Hours of a day.
pub const HOURS: usize = 24;
/// Largest file, unpacked, in bytes.
const MAX_FILE: u64 = 64 << 20;
/// How a file's name ends.
const END: &str = ".json.gz";

/// A day: of each quantity its series, each with a number for each hour.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Day {
    /// How many of its hours are recorded, from the first one on.
    pub hours: usize,
    /// By quantity: label set, and hours that are NaN where there was nothing.
    pub quantities: BTreeMap<String, Vec<(Labels, Vec<f64>)>>,
    /// Series that had no room.
    pub dropped: u64,
}

/// Labels and hours as they are written.
type WrittenSeries = (BTreeMap<String, String>, Vec<Option<f64>>);

#[derive(Serialize, Deserialize)]
struct Written {
    hours: usize,
    dropped: u64,
    quantities: BTreeMap<String, Vec<WrittenSeries>>,
}

/// The folder of them.
#[derive(Clone, Debug)]
pub struct Rollups(PathBuf);

impl Rollups {
    /// Opens the folder, or makes it.
    ///
    /// # Errors
    ///
    /// The folder cannot be made.
    pub fn open(folder: &Path) -> io::Result<Self> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)?;
        Ok(Rollups(folder.to_owned()))
    }

    /// The number of a day, counted from the epoch.
    pub fn day_of(at: Timestamp) -> i64 {
        at.0.div_euclid(DAY)
    }

    /// The beginning of a day.
    pub fn begin_of(day: i64) -> Timestamp {
        Timestamp(day * DAY)
    }

    fn file(&self, day: i64) -> PathBuf {
        self.0
            .join(format!("{}{END}", &Self::begin_of(day).rfc3339()[..10]))
    }

    /// The days for which there is a file, the oldest first.
    ///
    /// # Errors
    ///
    /// The folder cannot be read.
    pub fn days(&self) -> io::Result<Vec<i64>> {
        let mut days = Vec::new();
        for entry in fs::read_dir(&self.0)? {
            let name = entry?.file_name();
            let date = name
                .to_string_lossy()
                .strip_suffix(END)
                .and_then(|date| Timestamp::parse_rfc3339(&format!("{date}T00:00:00Z")));
            days.extend(date.map(Self::day_of));
        }
        days.sort_unstable();
        Ok(days)
    }

    /// A day; `None` where there is no file.
    ///
    /// # Errors
    ///
    /// The file cannot be read, or is damaged (`InvalidData`).
    pub fn read(&self, day: i64) -> io::Result<Option<Day>> {
        let file = match fs::File::open(self.file(day)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file?,
        };
        let mut text = Vec::new();
        let damaged = |error: &dyn std::fmt::Display| {
            io::Error::new(
                io::ErrorKind::InvalidData,
                format!("{}: {error}", self.file(day).display()),
            )
        };
        GzDecoder::new(file)
            .take(MAX_FILE)
            .read_to_end(&mut text)
            .map_err(|error| damaged(&error))?;
        let written: Written = serde_json::from_slice(&text).map_err(|error| damaged(&error))?;
        let series = |(labels, hours): WrittenSeries| {
            let mut hours: Vec<f64> = hours
                .into_iter()
                .map(|value| value.unwrap_or(f64::NAN))
                .collect();
            hours.resize(HOURS, f64::NAN);
            (Labels::from_pairs(labels), hours)
        };
        let quantities = written
            .quantities
            .into_iter()
            .map(|(name, list)| (name, list.into_iter().map(series).collect()))
            .collect();
        Ok(Some(Day {
            hours: written.hours.min(HOURS),
            quantities,
            dropped: written.dropped,
        }))
    }

    /// Writes a day; when this returns, it is on disk.
    ///
    /// # Errors
    ///
    /// The file cannot be written; then the old one is as it was.
    pub fn write(&self, day: i64, content: &Day) -> io::Result<()> {
        let series = |(labels, hours): &(Labels, Vec<f64>)| {
            let labels = labels
                .iter()
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect();
            // Six digits are more than anybody reads, and take half the room.
            (
                labels,
                hours
                    .iter()
                    .map(|value| value.is_finite().then(|| rounded(*value)))
                    .collect(),
            )
        };
        let quantities = content
            .quantities
            .iter()
            .map(|(name, list)| (name.clone(), list.iter().map(series).collect()))
            .collect();
        let written = Written {
            hours: content.hours,
            dropped: content.dropped,
            quantities,
        };
        let (file, unfinished) = (self.file(day), self.file(day).with_extension("new"));
        let out = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&unfinished)?;
        let mut packed = GzEncoder::new(io::BufWriter::new(out), Compression::default());
        packed.write_all(&serde_json::to_vec(&written)?)?;
        packed
            .finish()?
            .into_inner()
            .map_err(io::IntoInnerError::into_error)?
            .sync_all()?;
        fs::rename(&unfinished, &file)?;
        fs::File::open(&self.0)?.sync_all()
    }

    /// Puts a damaged file aside, so that the day can be written anew.
    ///
    /// # Errors
    ///
    /// It cannot be renamed.
    pub fn set_aside(&self, day: i64) -> io::Result<()> {
        fs::rename(self.file(day), self.file(day).with_extension("broken"))
    }

    /// Removes the days before `first` and those after `last`; gives how many.
    ///
    /// # Errors
    ///
    /// The folder cannot be read, or a file not be removed.
    pub fn keep(&self, first: i64, last: i64) -> io::Result<usize> {
        let gone: Vec<i64> = self
            .days()?
            .into_iter()
            .filter(|day| !(first..=last).contains(day))
            .collect();
        for day in &gone {
            fs::remove_file(self.file(*day))?;
        }
        Ok(gone.len())
    }

    /// Bytes of all files.
    pub fn size(&self) -> u64 {
        let entries = fs::read_dir(&self.0).into_iter().flatten().flatten();
        entries
            .filter_map(|entry| entry.metadata().ok())
            .map(|file| file.len())
            .sum()
    }
}

/// Nine significant digits.
fn rounded(value: f64) -> f64 {
    format!("{value:.8e}").parse().unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_is_read_as_it_was_written_and_a_damaged_one_is_said() {
        let folder = tempfile::tempdir().expect("a folder");
        let rollups = Rollups::open(&folder.path().join("rollups")).expect("opens");
        let labels = Labels::from_pairs([("job", "a\"b"), ("instance", "\u{4e2d}")]);
        let mut hours = vec![f64::NAN; HOURS];
        hours[3] = 1.0 / 3.0;
        let day = Day {
            hours: 4,
            quantities: BTreeMap::from([("q".to_owned(), vec![(labels, hours)])]),
            dropped: 2,
        };
        rollups.write(20_000, &day).expect("written");
        let read = rollups.read(20_000).expect("readable").expect("there");
        assert_eq!(
            (read.hours, read.dropped, read.quantities["q"][0].0.clone()),
            (4, 2, day.quantities["q"][0].0.clone())
        );
        assert!(
            (read.quantities["q"][0].1[3] - 1.0 / 3.0).abs() < 1e-9
                && read.quantities["q"][0].1[2].is_nan()
        );
        assert_eq!(rollups.read(20_001).expect("readable"), None);
        rollups.write(20_001, &day).expect("written");
        rollups.write(20_500, &day).expect("written");
        assert_eq!(
            rollups.keep(20_001, 20_400).expect("kept"),
            2,
            "what is old, and what lies in the future"
        );
        assert_eq!(rollups.days().expect("readable"), [20_001]);
        fs::write(rollups.file(20_001), b"no gzip").expect("written");
        assert_eq!(
            rollups.read(20_001).expect_err("damaged").kind(),
            io::ErrorKind::InvalidData
        );
        rollups.set_aside(20_001).expect("renamed");
        assert_eq!(rollups.read(20_001).expect("readable"), None);
    }
}
