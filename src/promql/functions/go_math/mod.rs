//! Go's `math` package, bit for bit where Prometheus's results depend on it: exponential, power and
//! trigonometric functions.

pub(in crate::promql) mod exponential;
pub(in crate::promql) mod power;
pub(in crate::promql) mod trigonometry;
