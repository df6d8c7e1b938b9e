//! Writes what is kept: at most one thread for each file, the newest text last, and nobody waits
//! long for a disk that hangs.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tracing::{info, warn};

use crate::collectors::Memory;

/// Threads of all files at most.
static THREADS: Semaphore = Semaphore::const_new(8);

/// One file.
#[derive(Debug)]
pub struct Disk {
    memory: Memory,
    /// What is to be written.
    text: Mutex<Option<String>>,
    is_busy: AtomicBool,
    has_failed: AtomicBool,
}

impl Disk {
    /// The file of a memory.
    pub fn new(memory: Memory) -> Arc<Self> {
        Arc::new(Disk {
            memory,
            text: Mutex::new(None),
            is_busy: AtomicBool::new(false),
            has_failed: AtomicBool::new(false),
        })
    }

    /// What was written last.
    pub fn load(&self) -> Option<String> {
        self.memory.load()
    }

    /// Writes a text on a thread of its own, in place of one that still waits. The handle ends when
    /// it is on disk; there is none when another thread will write it, now or with the next text.
    pub fn write(self: &Arc<Self>, text: String) -> Option<JoinHandle<()>> {
        *self.text.lock() = Some(text);
        let permit = THREADS.try_acquire().ok()?;
        if self.is_busy.swap(true, Ordering::AcqRel) {
            return None;
        }
        let disk = Arc::clone(self);
        Some(tokio::task::spawn_blocking(move || {
            let _permit = permit;
            loop {
                let text = disk.text.lock().take();
                if let Some(text) = text {
                    disk.save(&text);
                    continue;
                }
                disk.is_busy.store(false, Ordering::Release);
                // A text that came between the two lines above has found nobody but us.
                if disk.text.lock().is_none() || disk.is_busy.swap(true, Ordering::AcqRel) {
                    return;
                }
            }
        }))
    }

    fn save(&self, text: &str) {
        match self.memory.save(text) {
            Ok(()) if self.has_failed.swap(false, Ordering::Relaxed) => {
                info!("What a collector knows is saved again.")
            }
            Ok(()) => {}
            Err(error) if !self.has_failed.swap(true, Ordering::Relaxed) => {
                warn!(%error, "What a collector knows cannot be saved; after a restart it is forgotten.");
            }
            Err(_) => {}
        }
    }
}
