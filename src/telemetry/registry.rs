//! The process's registry: each component registers its own metrics at start and keeps the handles.

use std::sync::Arc;

use parking_lot::Mutex;
use prometheus_client::registry::Registry;

use super::process::Process;

/// A shared registry with the prefix `nightbell_`; cheap to clone. Register at start, encode at
/// each collection.
#[derive(Clone)]
pub struct Telemetry {
    own: Arc<Mutex<Registry>>,
    /// Of the process itself: standard names, which have no prefix.
    process: Arc<Registry>,
    /// What is done before they are read.
    before: Arc<Mutex<Vec<Before>>>,
}

type Before = Box<dyn Fn() + Send + Sync>;

impl Telemetry {
    /// A registry that holds only what the process uses.
    pub fn new() -> Self {
        let mut process = Registry::default();
        process.register_collector(Box::new(Process));
        Telemetry {
            own: Arc::new(Mutex::new(Registry::with_prefix("nightbell"))),
            process: Arc::new(process),
            before: Arc::default(),
        }
    }

    /// Registers a component's metrics.
    pub fn register<T>(&self, register: impl FnOnce(&mut Registry) -> T) -> T {
        register(&mut self.own.lock())
    }

    /// Does this each time before the metrics are read.
    pub fn before_reading(&self, act: impl Fn() + Send + Sync + 'static) {
        self.before.lock().push(Box::new(act));
    }

    /// All metrics as OpenMetrics text.
    pub fn encode(&self) -> String {
        self.before.lock().iter().for_each(|act| act());
        let mut page = encode_registry(&self.own.lock());
        page.truncate(page.len().saturating_sub("# EOF\n".len()));
        page + &encode_registry(&self.process)
    }
}

impl Default for Telemetry {
    fn default() -> Self {
        Self::new()
    }
}

/// A registry as OpenMetrics text.
pub fn encode_registry(registry: &Registry) -> String {
    let mut text = String::new();
    match prometheus_client::encoding::text::encode(&mut text, registry) {
        // The crate ends each HELP with a full stop; ours are sentences that have one.
        Ok(()) => text.replace("..\n", ".\n"),
        // Writing into a String cannot fail; should a metric refuse, an empty page is better than
        // half of one.
        Err(std::fmt::Error) => String::from("# EOF\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use prometheus_client::metrics::gauge::Gauge;

    #[test]
    fn a_help_ends_in_one_full_stop() {
        let telemetry = Telemetry::new();
        telemetry
            .register(|registry| registry.register("a", "A sentence.", Gauge::<i64>::default()));
        assert!(telemetry.encode().starts_with("# HELP nightbell_a A sentence.\n# TYPE nightbell_a gauge\nnightbell_a 0\n# HELP process_"));
    }
}
