//! The block `limits`: how much memory requests, rules and caches may take together; and its
//! metrics.

use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use crate::config::{ByteSize, Section};
use crate::model::{Budget, Holder};
use crate::telemetry::Telemetry;

/// Bytes unless the file says otherwise: a few large dashboards at once. The unit's `MemoryMax` has
/// room for it.
const MEMORY: usize = 128 << 20;
/// Least that can be chosen, in bytes.
const LEAST: usize = 16 << 20;

/// Of the block `limits`: how much memory requests, rules and caches may take together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryLimit {
    /// Bytes that requests, rules and caches may take together; 128 MiB by default.
    pub bytes: usize,
}

impl Default for MemoryLimit {
    fn default() -> Self {
        MemoryLimit { bytes: MEMORY }
    }
}

impl MemoryLimit {
    /// Reads its part of the block.
    pub fn read(section: &Section<'_>) -> Self {
        let memory = section
            .get::<ByteSize>("memory")
            .map_or(MEMORY, |size| usize::try_from(size.0).unwrap_or(usize::MAX));
        if memory < LEAST {
            section.error(
                "memory",
                "is less than 16MB",
                "give at least 16MB; 128MB is the default",
            );
        }
        MemoryLimit { bytes: memory }
    }
}

/// Shows who holds how much of the budget.
#[derive(Debug)]
struct Held(Arc<Budget>);

impl Collector for Held {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), std::fmt::Error> {
        let limit = ConstGauge::new(i64::try_from(self.0.limit()).unwrap_or(i64::MAX));
        let help = "Bytes of memory that requests, rules and caches may take together.";
        limit.encode(encoder.encode_descriptor(
            "memory_budget_bytes",
            help,
            None,
            MetricType::Gauge,
        )?)?;
        let mut held = encoder.encode_descriptor(
            "memory_reserved_bytes",
            "Bytes of memory that are held.",
            None,
            MetricType::Gauge,
        )?;
        for holder in Holder::ALL {
            let bytes = ConstGauge::new(i64::try_from(self.0.held(holder)).unwrap_or(i64::MAX));
            bytes.encode(held.encode_family(&[("holder", holder.as_str())])?)?;
        }
        let help = "Times that memory was not given because a request asked for too much or because others held it.";
        let mut refused =
            encoder.encode_descriptor("memory_refused", help, None, MetricType::Counter)?;
        for holder in Holder::ALL {
            ConstCounter::new(self.0.refused(holder))
                .encode(refused.encode_family(&[("holder", holder.as_str())])?)?;
        }
        Ok(())
    }
}

/// Registers the metrics of the budget.
pub fn register(budget: &Arc<Budget>, telemetry: &Telemetry) {
    telemetry.register(|registry| registry.register_collector(Box::new(Held(Arc::clone(budget)))));
}
