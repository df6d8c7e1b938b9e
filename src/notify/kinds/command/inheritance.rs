//! What the programs that are run have from this process: no capability, no open file, no
//! environment but what is listed, and the umask that this process was started with, although its
//! own files are for its owner alone.

use std::io;
use std::sync::OnceLock;

use close_fds::CloseFdsBuilder;
use parking_lot::Mutex;
use rustix::fs::Mode;
use rustix::process::umask;
use rustix::thread::{CapabilitySet, capabilities, clear_ambient_capability_set, set_capabilities};

/// What our own files are made with.
const PRIVATE: Mode = Mode::from_raw_mode(0o077);

/// The umask that this process was started with, once it has changed its own.
static STARTED_WITH: OnceLock<Mode> = OnceLock::new();
/// The umask is the process's: one program is started at a time.
static STARTING: Mutex<()> = Mutex::new(());

/// Prepares the process, whose only thread this is: its own capabilities stay, those that programs
/// would inherit go; descriptors that it inherited are closed to programs; files that it makes are
/// for its owner alone.
pub fn close_inheritance() -> io::Result<()> {
    let _ = STARTED_WITH.set(umask(PRIVATE));
    CloseFdsBuilder::new().cloexecfrom(3);
    let mut own = capabilities(None)?;
    if !own.inheritable.is_empty() {
        own.inheritable = CapabilitySet::empty();
        set_capabilities(None, own)?;
    }
    match clear_ambient_capability_set() {
        // Kernels before 4.3 have no such set.
        Err(error) if error != rustix::io::Errno::INVAL => Err(error.into()),
        _ => Ok(()),
    }
}

/// Starts a program with the umask that this process was started with. What this process makes
/// meanwhile lies in folders that are closed.
pub(super) fn with_umask_of_start<T>(start: impl FnOnce() -> T) -> T {
    let Some(mask) = STARTED_WITH.get() else {
        return start();
    };
    let _one = STARTING.lock();
    umask(*mask);
    let started = start();
    umask(PRIVATE);
    started
}
