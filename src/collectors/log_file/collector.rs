//! The collector of every kind that reads log files: it reads on a thread of its own, and says what
//! it knew while a file system hangs.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::reader::{Reader, Thread};
use super::reading::READABLE;
use super::settings::Files;
use crate::collectors::{CollectError, Collector, Target};
use crate::model::Batch;

/// What a look brought, and what was wrong.
pub type Looked = (Batch, Option<String>);

/// Reads what is new, for so long at most, and shows all counts.
type Measure<C> = dyn Fn(&mut Reader<C>, Duration) -> Looked + Send + Sync;

/// Which part of the deadline may be spent with reading, and with waiting for it.
const READING: f64 = 0.6;
const WAITING: f64 = 0.9;

/// Files that are followed, and what is counted in them.
pub struct LogCollector<C> {
    measure: Arc<Measure<C>>,
    path: String,
    timeout: Duration,
    reader: Thread<Reader<C>, Looked>,
    /// What is shown while a file system hangs.
    last: Batch,
}

impl<C: Serialize + DeserializeOwned + Default> LogCollector<C>
where
    Reader<C>: Send + 'static,
{
    /// Nothing is read yet.
    pub fn new(
        files: Files,
        target: &Target,
        measure: impl Fn(&mut Reader<C>, Duration) -> Looked + Send + Sync + 'static,
    ) -> Self {
        let path = files.to_string();
        let reader = Thread::new(Reader::new(files, target.memory.clone()));
        LogCollector {
            measure: Arc::new(measure),
            path,
            timeout: target.timeout,
            reader,
            last: Batch::new(),
        }
    }
}

impl<C> Collector for LogCollector<C>
where
    Reader<C>: Send + 'static,
{
    fn collect<'a>(&'a mut self, batch: &'a mut Batch) -> BoxFuture<'a, Result<(), CollectError>> {
        async move {
            let (measure, time) = (Arc::clone(&self.measure), self.timeout.mul_f64(READING));
            match self
                .reader
                .run(self.timeout.mul_f64(WAITING), move |reader| {
                    measure(reader, time)
                })
                .await
            {
                Ok((found, problem)) => {
                    self.last.clone_from(&found);
                    batch.append(found);
                    problem.map_or(Ok(()), |problem| Err(CollectError::new(problem)))
                }
                Err(problem) => {
                    // All that was known, and that the log cannot be read.
                    self.last.families.shift_remove(READABLE.name);
                    batch.append(self.last.clone());
                    batch.push(&READABLE, &[], 0.0);
                    Err(CollectError::new(format!("{}: {problem}", self.path)))
                }
            }
        }
        .boxed()
    }

    fn address(&self) -> String {
        self.path.clone()
    }
}
