//! One lane: parts read one after the other on a blocking thread, at most one thread at a time.

use super::PARTS;
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;

use crate::model::Batch;

use super::kernel::{Kernel, PartError};
use super::part::{Context, Lane, Memory, Part};
use super::settings::Settings;

/// How a part fared.
pub struct Outcome {
    /// Its name.
    pub part: &'static str,
    /// How long it took.
    pub took: Duration,
    /// What became of it.
    pub result: Result<(), PartError>,
    /// Objects beyond the cap, for parts that have one.
    pub omitted: Option<usize>,
    /// Lines that are not as documented, for parts that count them.
    pub odd: Option<usize>,
}

/// What a lane brought.
pub struct Done {
    /// The samples.
    pub batch: Batch,
    /// How each part fared.
    pub outcomes: Vec<Outcome>,
}

/// A lane and, while it is being read, the thread that reads it.
pub struct Worker {
    lane: Lane,
    deadline: Duration,
    work: Option<Work>,
    running: Option<JoinHandle<(Work, Done)>>,
}

/// What moves to the thread and back.
struct Work {
    parts: Vec<&'static Part>,
    settings: Settings,
    kernel: Kernel,
    memory: Memory,
}

impl Worker {
    /// The parts of `settings` that belong to `lane`.
    pub fn new(lane: Lane, settings: &Settings) -> Self {
        let parts = PARTS
            .iter()
            .filter(|part| part.lane == lane && settings.parts.contains(&part.name))
            .collect();
        let kernel = Kernel::new(settings.roots.clone());
        let work = Work {
            parts,
            settings: settings.clone(),
            kernel,
            memory: Memory::default(),
        };
        Worker {
            lane,
            deadline: settings.deadline,
            work: Some(work),
            running: None,
        }
    }

    /// Reads all parts; `None` when they are not done in time. The thread then goes on, and the
    /// next run waits for the same one.
    pub async fn run(&mut self) -> Option<Done> {
        let running = match (&mut self.running, self.work.take()) {
            (Some(running), _) => running,
            (None, Some(work)) => self
                .running
                .insert(tokio::task::spawn_blocking(move || work.read())),
            (None, None) => return None,
        };
        match tokio::time::timeout(self.deadline, running).await {
            Ok(Ok((work, done))) => {
                self.running = None;
                self.work = Some(work);
                Some(done)
            }
            Ok(Err(error)) => {
                // A part panicked: that is a bug, and it must not be silent. The lane ends here.
                self.running = None;
                tracing::error!(collector = "host", lane = ?self.lane, %error, "Lane ended.");
                None
            }
            Err(_) => None,
        }
    }

    /// What the lane reads, for people.
    pub fn describe(&self) -> &'static str {
        match self.lane {
            Lane::Kernel => "the kernel's statistics",
            Lane::Device => "sensors and text files",
            Lane::Process => "processes",
        }
    }
}

impl Work {
    fn read(mut self) -> (Self, Done) {
        let mut done = Done {
            batch: Batch::new(),
            outcomes: Vec::with_capacity(self.parts.len()),
        };
        for part in &self.parts {
            let start = Instant::now();
            let result = (part.read)(&mut Context {
                kernel: &mut self.kernel,
                settings: &self.settings,
                memory: &mut self.memory,
                batch: &mut done.batch,
            });
            let omitted = self.memory.omitted.take();
            let lines = std::mem::take(&mut self.memory.lines);
            let (result, odd) = match result.and_then(|()| lines.finish(part.name)) {
                Ok(odd) => (Ok(()), odd),
                Err(error) => (Err(error), None),
            };
            done.outcomes.push(Outcome {
                part: part.name,
                took: start.elapsed(),
                result,
                omitted,
                odd,
            });
        }
        (self, done)
    }
}
