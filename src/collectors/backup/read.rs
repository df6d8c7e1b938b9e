//! Reading a backup slowly: at a bounded rate, until somebody says stop.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Bytes of one read.
const STEP: usize = 128 << 10;

/// What the thread that reads and the collector share.
#[derive(Debug, Default)]
pub struct Progress {
    /// The collector is gone: the thread ends.
    pub stop: AtomicBool,
    /// Bytes read so far, of all files.
    pub bytes: AtomicU64,
}

/// A file read at a bounded rate.
pub struct Paced<'a> {
    file: File,
    rate: u64,
    begun: Instant,
    read: u64,
    progress: &'a Progress,
}

/// Opens a regular file.
pub fn open<'a>(
    path: &Path,
    rate: u64,
    progress: &'a Progress,
) -> io::Result<BufReader<Paced<'a>>> {
    // Opening a pipe would wait for its writer.
    if !std::fs::metadata(path)?.is_file() {
        return Err(io::Error::other("is no regular file"));
    }
    let file = File::open(path)?;
    Ok(BufReader::with_capacity(
        STEP,
        Paced {
            file,
            rate,
            begun: Instant::now(),
            read: 0,
            progress,
        },
    ))
}

impl Read for Paced<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let step = buffer.len().min(STEP);
        let count = self.file.read(&mut buffer[..step])?;
        self.read += count as u64;
        self.progress
            .bytes
            .fetch_add(count as u64, Ordering::Relaxed);
        let due = Duration::from_secs_f64(self.read as f64 / self.rate.max(1) as f64);
        while let Some(ahead) = due
            .checked_sub(self.begun.elapsed())
            .filter(|ahead| !ahead.is_zero())
        {
            if self.progress.stop.load(Ordering::Relaxed) {
                break;
            }
            std::thread::sleep(ahead.min(Duration::from_millis(200)));
        }
        if self.progress.stop.load(Ordering::Relaxed) {
            return Err(io::Error::other("stopped"));
        }
        Ok(count)
    }
}

/// Fills as much of `buffer` as there is.
pub fn fill(reader: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match reader.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// Reads and forgets `count` bytes; errs at an earlier end.
pub fn skip(reader: &mut impl Read, count: u64) -> io::Result<()> {
    let copied = io::copy(&mut reader.take(count), &mut io::sink())?;
    if copied < count {
        Err(io::ErrorKind::UnexpectedEof.into())
    } else {
        Ok(())
    }
}

/// Reads to the end.
pub fn drain(reader: &mut impl Read) -> io::Result<u64> {
    io::copy(reader, &mut io::sink())
}
