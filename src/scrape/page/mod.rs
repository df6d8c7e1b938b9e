//! A scraped page: from the request to the series and values that it holds, and back to `/metrics`.
//!
//! [`fetch`] asks the target; [`reader`] takes the answer, whole or part by part while it comes;
//! [`scan`] finds each line's series in [`cache`], which remembers the target's previous page, or
//! parses the line and gives it its labels ([`labelling`]). Nothing reaches the store unless the
//! page is sound to its end. [`metrics_page`] and [`body`] hold what `/metrics` shows of it. Start
//! with [`reader`].

pub(super) mod body;
pub(super) mod cache;
pub(super) mod convert;
pub(super) mod fetch;
pub(super) mod labelling;
pub(super) mod metrics_page;
pub(super) mod reader;
pub(super) mod scan;
