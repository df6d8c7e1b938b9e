//! Watches the clock: a wall clock that jumps is noticed, said, and followed once it stays where it
//! is; everything that waits moves with it.
//!
//! A small file beside the state remembers the time, so that a jump between stop and start is known
//! as one, and by which time things grow old: a clock that is far ahead deletes nothing until it
//! has been believed for a week.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use tracing::{debug, info, warn};

use super::Parts;
use crate::model::clock::{self, Jump};
use crate::model::time::millis;
use crate::model::{Timestamp, format_duration};
use crate::telemetry::Telemetry;

/// How often the clock is looked at.
const LOOK: Duration = Duration::from_millis(250);
/// How long a clock that has jumped must stay before it is followed, and how long one that goes on
/// jumping is not followed at most.
const SETTLE: Duration = Duration::from_millis(1500);
const PATIENCE: Duration = Duration::from_secs(10);
/// By how much two looks at the same jump may differ.
const SAME: Duration = Duration::from_secs(1);
/// How long the dispatcher may take.
const DISPATCH: Duration = Duration::from_secs(5);
/// How often the time is written down.
const REMEMBER: Duration = Duration::from_secs(60);
/// What one clock may differ from another between stop and start: it is corrected slowly meanwhile,
/// by less than a thousandth.
const DRIFT: Duration = Duration::from_secs(2);
/// A clock that is ahead by more is not believed at once …
const AHEAD: Duration = Duration::from_secs(2 * 86_400);
/// … but when the process has run for so long by it.
const BELIEVED: Duration = Duration::from_secs(7 * 86_400);
/// Longest stop after which the time of an earlier boot says anything about this one's.
const LONGEST_STOP: Duration = Duration::from_secs(30 * 86_400);
/// What the kernel calls the time since it was started.
const BOOT: &str = "/proc/sys/kernel/random/boot_id";
/// The name of the file.
const FILE: &str = "clock";

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Direction {
    direction: &'static str,
}

#[derive(Clone, Default)]
struct Metrics {
    jumps: Family<Direction, Counter>,
    size: Gauge<f64, std::sync::atomic::AtomicU64>,
    at: Gauge<f64, std::sync::atomic::AtomicU64>,
}

impl Metrics {
    fn register(telemetry: &Telemetry) -> Self {
        let metrics = Metrics::default();
        for direction in ["back", "forward"] {
            drop(metrics.jumps.get_or_create(&Direction { direction }));
        }
        telemetry.register(|registry| {
            registry.register(
                "clock_jumps",
                "Jumps of the wall clock by more than a second.",
                metrics.jumps.clone(),
            );
            registry.register(
                "clock_jump_seconds",
                "The last jump of the wall clock; negative when it was set back.",
                metrics.size.clone(),
            );
            let help = "When the wall clock last jumped, by its new time; 0 when it did not.";
            registry.register("clock_jump_timestamp_seconds", help, metrics.at.clone());
        });
        metrics
    }

    fn seen(&self, jump: Jump) {
        let direction = if jump.is_back() { "back" } else { "forward" };
        self.jumps.get_or_create(&Direction { direction }).inc();
        self.size.set(jump.millis() as f64 / 1000.0);
        self.at.set(Timestamp::now().seconds());
    }
}

/// What is remembered of the time.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Memory {
    /// Wall time and monotonic time at one moment, milliseconds, and of which boot the latter is.
    wall: i64,
    monotonic: i64,
    boot: String,
    /// By which time things grow old.
    aged: i64,
    /// For how many milliseconds the wall clock has been far ahead of it.
    ahead: i64,
}

impl Memory {
    fn read(text: &str) -> Option<Self> {
        let mut words = text.split_whitespace();
        let mut number = || words.next()?.parse().ok();
        let (wall, monotonic, aged, ahead) = (number()?, number()?, number()?, number()?);
        Some(Memory {
            wall,
            monotonic,
            boot: words.next()?.to_owned(),
            aged,
            ahead,
        })
    }

    fn text(&self) -> String {
        format!(
            "{} {} {} {} {}\n",
            self.wall, self.monotonic, self.aged, self.ahead, self.boot
        )
    }

    /// The jump of the clock since this was written down, as far as it is known.
    fn jump(&self, now: Timestamp, monotonic: i64, boot: &str) -> Option<Jump> {
        let from = if boot == self.boot {
            self.wall + (monotonic - self.monotonic)
        } else {
            self.wall
        };
        let off = now.0.saturating_sub(from);
        let jumped = if boot == self.boot {
            off.saturating_abs() > millis(DRIFT) + (monotonic - self.monotonic) / 1000
        } else {
            // How long the machine was off nobody knows: not for less than nothing.
            off < -millis(DRIFT) || off > millis(LONGEST_STOP)
        };
        jumped.then_some(Jump {
            from: Timestamp(from),
            to: now,
        })
    }

    /// Lets `elapsed` milliseconds pass, after which it is `now`.
    fn pass(&mut self, elapsed: i64, now: Timestamp) {
        self.aged = self.aged.saturating_add(elapsed);
        if now.0.saturating_sub(self.aged) <= millis(AHEAD) {
            (self.aged, self.ahead) = (self.aged.max(now.0), 0);
            return;
        }
        self.ahead += elapsed;
        if self.ahead > millis(BELIEVED) {
            (self.aged, self.ahead) = (now.0, 0);
        }
    }
}

/// The watch over the clock.
pub(super) struct Watch {
    metrics: Metrics,
    file: Option<PathBuf>,
    memory: Mutex<Memory>,
}

impl Watch {
    /// Compares the time with what the last process wrote down into `folder`; `newest` is the
    /// newest sample, used where nothing was written.
    pub(super) fn start(
        folder: Option<&Path>,
        newest: Option<Timestamp>,
        telemetry: &Telemetry,
    ) -> (Self, Option<Jump>) {
        let (now, monotonic) = (Timestamp::now(), clock::monotonic());
        let boot = std::fs::read_to_string(BOOT).unwrap_or_default();
        let boot = if boot.trim().is_empty() {
            "unknown".to_owned()
        } else {
            boot.trim().to_owned()
        };
        let file = folder.map(|folder| folder.join(FILE));
        let before = file
            .as_ref()
            .and_then(|file| Memory::read(&std::fs::read_to_string(file).ok()?));
        let metrics = Metrics::register(telemetry);
        let jump = before
            .as_ref()
            .and_then(|before| before.jump(now, monotonic, &boot));
        if let Some(jump) = jump {
            clock::note(jump);
            metrics.seen(jump);
            say(jump, "The clock has jumped since nightbell ran last.");
        }
        let (aged, ahead) = before.map_or((newest.unwrap_or(now).0, 0), |before| {
            (before.aged, before.ahead)
        });
        let mut memory = Memory {
            wall: now.0,
            monotonic,
            boot,
            aged,
            ahead,
        };
        memory.pass(0, now);
        clock::age_from(Timestamp(memory.aged));
        let watch = Watch {
            metrics,
            file,
            memory: Mutex::new(memory),
        };
        watch.remember();
        (watch, jump)
    }

    /// Writes down what time it is.
    pub(super) fn remember(&self) {
        let (now, monotonic) = (Timestamp::now(), clock::monotonic());
        let text = {
            let mut memory = self.memory.lock();
            let elapsed = monotonic - memory.monotonic;
            memory.pass(elapsed, now);
            (memory.wall, memory.monotonic) = (now.0, monotonic);
            clock::age_from(Timestamp(memory.aged));
            memory.text()
        };
        let Some(file) = &self.file else { return };
        let unfinished = file.with_extension("new");
        // That the folder cannot be written is reported elsewhere; without the file the next start
        // knows less.
        if let Err(error) =
            std::fs::write(&unfinished, text).and_then(|()| std::fs::rename(&unfinished, file))
        {
            debug!(file = %file.display(), %error, "The time cannot be written down.");
        }
    }
}

fn say(jump: Jump, sentence: &str) {
    let size = format_duration(Duration::from_millis(jump.millis().unsigned_abs()));
    let direction = if jump.is_back() { "back" } else { "forward" };
    warn!(
        direction,
        size,
        from = jump.from.rfc3339(),
        to = jump.to.rfc3339(),
        "{sentence}"
    );
}

/// A jump that was seen and is not followed yet.
struct Seen {
    jump: Jump,
    /// Since when it has been there, and since when it is the same; monotonic.
    since: i64,
    same_since: i64,
}

/// Watches until the process ends.
pub(super) async fn watch(parts: Arc<Parts>) -> Result<(), std::convert::Infallible> {
    let mut seen: Option<Seen> = None;
    let (mut remembered, mut suspended) = (clock::monotonic(), suspension());
    loop {
        tokio::time::sleep(LOOK).await;
        parts.peers.look();
        let monotonic = clock::monotonic();
        let asleep = suspension() - std::mem::replace(&mut suspended, suspension());
        if asleep > millis(SAME) {
            info!(
                seconds = asleep / 1000,
                "The machine was suspended; what is due is collected first."
            );
            parts.scraper.collect_at_once();
        }
        seen = match (clock::pending(), seen) {
            (None, None) => None,
            (None, Some(seen)) => {
                say(
                    Jump {
                        from: seen.jump.to,
                        to: seen.jump.from,
                    },
                    "The clock has come back before it was followed.",
                );
                None
            }
            (Some(jump), None) => {
                say(jump, "The clock has jumped.");
                parts.clock.metrics.seen(jump);
                clock::see(jump);
                Some(Seen {
                    jump,
                    since: monotonic,
                    same_since: monotonic,
                })
            }
            (Some(jump), Some(seen)) => {
                let same = jump
                    .millis()
                    .saturating_sub(seen.jump.millis())
                    .saturating_abs()
                    <= millis(SAME);
                let same_since = if same { seen.same_since } else { monotonic };
                if monotonic - same_since >= millis(SETTLE)
                    || monotonic - seen.since >= millis(PATIENCE)
                {
                    follow(&parts).await;
                    None
                } else {
                    Some(Seen {
                        jump,
                        since: seen.since,
                        same_since,
                    })
                }
            }
        };
        if monotonic - remembered >= millis(REMEMBER) {
            remembered = monotonic;
            remember(&parts).await;
        }
    }
}

/// How long the machine was suspended since it was started, in milliseconds.
fn suspension() -> i64 {
    let running = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    clock::monotonic() - (running.tv_sec * 1000 + running.tv_nsec / 1_000_000)
}

async fn remember(parts: &Arc<Parts>) {
    let parts = Arc::clone(parts);
    // Only a panic could fail here.
    let _ = tokio::task::spawn_blocking(move || parts.clock.remember()).await;
}

/// Takes the new time, and moves all that waits.
async fn follow(parts: &Arc<Parts>) {
    let hold = parts.rules.hold().await;
    let followed = match tokio::time::timeout(DISPATCH, parts.alerting.adopt_clock()).await {
        Ok(jump) => jump,
        // It moves its own times as soon as it can.
        Err(_) => clock::adopt(),
    };
    let Some(jump) = followed else { return };
    parts.clock.metrics.at.set(jump.to.seconds());
    let moved = Arc::clone(parts);
    let moving = tokio::task::spawn_blocking(move || {
        moved.store.clock_jumped(jump);
        moved.scraper.collect_at_once();
        moved.rules.clock_jumped(jump);
    });
    if let Err(error) = moving.await {
        warn!(%error, "The new time could not be followed everywhere.");
    }
    drop(hold);
    parts.peers.clock_jumped(jump.millis());
    remember(parts).await;
    info!(
        now = Timestamp::now().rfc3339(),
        "The new time is followed."
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 86_400_000;

    fn memory(wall: i64, monotonic: i64) -> Memory {
        Memory {
            wall,
            monotonic,
            boot: "b".into(),
            aged: wall,
            ahead: 0,
        }
    }

    #[test]
    fn a_jump_between_stop_and_start_is_distinguished_from_time_that_has_passed() {
        let before = memory(1_000 * DAY, 5 * DAY);
        assert_eq!(Memory::read(&before.text()), Some(before.clone()));
        let jump = |now: i64, monotonic: i64, boot: &str| {
            before
                .jump(Timestamp(now), monotonic, boot)
                .map(Jump::millis)
        };
        assert_eq!(jump(1_001 * DAY, 6 * DAY, "b"), None, "a day has passed");
        assert_eq!(
            jump(1_001 * DAY + 50_000, 6 * DAY, "b"),
            None,
            "and was corrected slowly meanwhile"
        );
        assert_eq!(jump(1_001 * DAY - 600_000, 6 * DAY, "b"), Some(-600_000));
        assert_eq!(jump(4_651 * DAY, 6 * DAY, "b"), Some(3_650 * DAY));
        assert_eq!(
            [jump(1_010 * DAY, 0, "c"), jump(999 * DAY, 0, "c")],
            [None, Some(-DAY)],
            "another boot"
        );
    }

    #[test]
    fn a_clock_that_is_years_ahead_makes_nothing_old_before_it_was_believed_for_a_week() {
        let mut memory = memory(1_000 * DAY, 0);
        memory.pass(60_000, Timestamp(1_000 * DAY + 60_000));
        assert_eq!(memory.aged, 1_000 * DAY + 60_000);
        memory.pass(DAY, Timestamp(4_651 * DAY));
        assert_eq!(
            (memory.aged, memory.ahead),
            (1_001 * DAY + 60_000, DAY),
            "ten years ahead"
        );
        memory.pass(DAY, Timestamp(1_002 * DAY));
        assert_eq!(
            (memory.aged, memory.ahead),
            (1_002 * DAY + 60_000, 0),
            "and back"
        );
        for _ in 0..8 {
            memory.pass(DAY, Timestamp(5_000 * DAY));
        }
        assert_eq!(memory.aged, 5_000 * DAY);
        memory.pass(DAY, Timestamp(3 * DAY));
        assert_eq!(
            memory.aged,
            5_001 * DAY,
            "a clock that is behind makes nothing younger"
        );
    }
}
