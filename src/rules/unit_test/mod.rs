//! Rule tests in promtool's format
//! (<https://prometheus.io/docs/prometheus/latest/configuration/unit_testing_rules/>): reading,
//! running, and reporting as promtool does.
//!
//! Time is the test's own: nothing here asks the clock, and nothing waits.

mod coverage;
mod definition;
mod diff;
mod run;

pub use coverage::{Coverage, Gaps};
pub use definition::{AlertTest, ExpectedAlert, ExprTest, Pairs, TestFile, TestGroup};
pub use run::{Options, Outcome, run};
