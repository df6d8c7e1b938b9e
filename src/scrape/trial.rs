//! Every target tried once, outside of the loop: nothing is stored, and what collectors remember
//! stays as it is.

use std::panic::AssertUnwindSafe;
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;

use crate::collectors::{Collector, Report, found_down, why_down};
use crate::model::{Batch, format_duration};

use super::discovery::group_files::GroupFiles;
use super::discovery::targets_of;
use super::page::fetch::Fetch;
use super::page::labelling::Labelling;
use super::page::reader::Reader;
use super::page::scan::PageCache;
use super::{CollectorTarget, Job};

/// A target that can be tried.
pub struct Trial {
    /// Its job.
    pub job: String,
    /// Its instance.
    pub instance: String,
    /// Where it is, without secrets.
    pub address: String,
    timeout: Duration,
    source: Source,
}

enum Source {
    Collector(Box<dyn Collector>),
    Http(Box<(Fetch, Labelling)>),
}

/// What came of it.
#[derive(Debug, Default)]
pub struct Tried {
    /// Why it failed, without secrets; empty when it did not.
    pub error: String,
    /// Samples that it brought.
    pub samples: usize,
    /// How long it took.
    pub took: Duration,
    /// What its collector found beside them.
    pub report: Report,
    /// The samples themselves, of a collector.
    pub batch: Batch,
}

impl Tried {
    /// Whether everything that the configuration asks for was measured.
    pub fn succeeded(&self) -> bool {
        self.error.is_empty() && !self.report.findings.iter().any(|finding| finding.failed)
    }
}

/// All targets, in the order of the configuration, and why others could not be made. Reads the
/// group files of the jobs.
pub fn trials(collectors: Vec<CollectorTarget>, jobs: &[Job]) -> (Vec<Trial>, Vec<String>) {
    let (mut files, mut problems) = (GroupFiles::default(), Vec::new());
    files.look(
        &jobs.iter().flat_map(|job| &job.files).collect(),
        &mut problems,
    );
    let mut trials: Vec<Trial> = collectors
        .into_iter()
        .map(|target| Trial {
            job: target.job,
            address: target.collector.address(),
            timeout: target.target.timeout,
            instance: target.target.name,
            source: Source::Collector(target.collector),
        })
        .collect();
    for job in jobs {
        let found = targets_of(job, &files.groups(&job.files));
        problems.extend(found.errors);
        for target in found.targets {
            let fetch = Fetch::new(job.client.clone(), target.url, job, target.info.timeout);
            let labelling = Labelling::of(job, &target.info);
            trials.push(Trial {
                job: job.name.clone(),
                instance: target.info.labels.value("instance").to_owned(),
                address: target.info.address,
                timeout: target.info.timeout,
                source: Source::Http(Box::new((fetch, labelling))),
            });
        }
    }
    (trials, problems)
}

impl Trial {
    /// Collects once, within the target's own timeout.
    pub async fn run(self) -> Tried {
        let started = Instant::now();
        let mut tried = match self.source {
            Source::Collector(collector) => try_collector(collector, self.timeout).await,
            Source::Http(http) => {
                let (fetch, labelling) = *http;
                let mut cache = PageCache::new();
                let reader = Reader {
                    cache: &mut cache,
                    labelling: &labelling,
                    often: false,
                    hits: Vec::new(),
                };
                match fetch.page(reader).await {
                    Ok(page) => Tried {
                        error: page
                            .body
                            .err()
                            .map(|error| error.to_string())
                            .unwrap_or_default(),
                        samples: page.scanned.scraped,
                        ..Tried::default()
                    },
                    Err(error) => Tried {
                        error: error.to_string(),
                        ..Tried::default()
                    },
                }
            }
        };
        tried.took = started.elapsed();
        tried
    }
}

async fn try_collector(mut collector: Box<dyn Collector>, timeout: Duration) -> Tried {
    let mut batch = Batch::new();
    let measured = AssertUnwindSafe(collector.collect(&mut batch)).catch_unwind();
    let error = match tokio::time::timeout(timeout, measured).await {
        Ok(Ok(Ok(()))) if found_down(&batch) => why_down(&batch).unwrap_or("it is down").to_owned(),
        Ok(Ok(Ok(()))) => String::new(),
        Ok(Ok(Err(error))) => error.to_string(),
        Ok(Err(_)) => "the collector panicked".to_owned(),
        Err(_) => format!("timed out after {}", format_duration(timeout)),
    };
    Tried {
        error,
        samples: batch.len(),
        took: Duration::ZERO,
        report: collector.report(),
        batch,
    }
}
