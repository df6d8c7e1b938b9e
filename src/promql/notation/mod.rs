//! The notation of test series in rule tests: `up{job="a"} 1+1x3 _ stale`, and native histograms in
//! it.

pub(super) mod histogram_description;
pub(super) mod series_description;
