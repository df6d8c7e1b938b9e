//! A pass-through to a provider of language models: applications use `/llm/NAME` of this server as
//! base URL. What passes is neither changed nor held; its time, tokens, cost and errors are
//! measured. The web passes on, this collector says where to and shows what was seen.
//!
//! Keys pass and are not looked at; of prompts and answers nothing is kept.

mod metrics;
mod passing;
mod proxy;
mod scanner;
mod settings;
mod usage;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;

use super::job::disk::Disk;
use super::{CollectError, Collector, CollectorKind, Target, gen_ai};
use crate::config::Section;
use crate::model::{Batch, Timestamp};

pub use passing::Passing;
pub use proxy::{Proxies, Proxy};
pub use scanner::Scanner;
pub use settings::Settings;

/// The collector `llm_proxy`.
pub const KIND: CollectorKind = CollectorKind {
    name: "llm_proxy",
    about: "a pass-through to a provider of language models: time to the first token, tokens, cost, budgets, errors by caller",
    metrics: &[metrics::METRICS, gen_ai::metrics::METRICS],
    build,
};

fn build(section: &Section<'_>, target: &Target) -> Box<dyn Collector> {
    let settings = Arc::new(Settings::read(section));
    if !target
        .name
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
    {
        section.error(
            "name",
            format!("{:?} does not fit into a path", target.name),
            "use letters, digits, - and _",
        );
    }
    let proxies = section
        .given::<Proxies>()
        .map(|proxies| (*proxies).clone())
        .unwrap_or_default();
    let memory = target.memory.clone();
    let proxy = proxies.hold(&target.name, || Disk::new(memory));
    let is_applied = proxy.begin(&settings);
    Box::new(LlmProxy {
        settings,
        name: target.name.clone(),
        timeout: target.timeout,
        must_load: is_applied,
        is_applied,
        proxy,
    })
}

struct LlmProxy {
    settings: Arc<Settings>,
    name: String,
    timeout: std::time::Duration,
    proxy: Arc<Proxy>,
    is_applied: bool,
    /// What an earlier process has spent is not known yet.
    must_load: bool,
}

impl Drop for LlmProxy {
    fn drop(&mut self) {
        self.proxy.holders.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Collector for LlmProxy {
    fn collect<'a>(&'a mut self, batch: &'a mut Batch) -> BoxFuture<'a, Result<(), CollectError>> {
        async move {
            // Settings that replace others hold once they are in force: then they are collected.
            if !std::mem::replace(&mut self.is_applied, true) {
                self.proxy.apply(&self.settings);
            }
            if self.must_load {
                let disk = Arc::clone(&self.proxy.disk);
                let loaded = tokio::time::timeout(
                    self.timeout.mul_f64(0.9),
                    tokio::task::spawn_blocking(move || disk.load()),
                )
                .await;
                let loaded = loaded.map_err(|_| {
                    CollectError::new("timed out: the state folder does not answer")
                })?;
                self.must_load = false;
                loaded
                    .ok()
                    .flatten()
                    .into_iter()
                    .for_each(|text| self.proxy.remember(&text, Timestamp::now()));
            }
            self.proxy.show(&self.settings, Timestamp::now(), batch);
            // It is written on a thread of its own.
            drop(self.proxy.save());
            Ok(())
        }
        .boxed()
    }

    fn address(&self) -> String {
        format!("/llm/{}", self.name)
    }
}
