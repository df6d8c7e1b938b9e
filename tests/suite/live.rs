//! A store that rules are judged over and record into, as in the program, for tests that feed it
//! themselves.

use nightbell::model::{HistogramSample, Sample, Timestamp};
use nightbell::promql::{Engine, Expr, parse};
use nightbell::rules::backend::{Backend, Hits, hits};
use nightbell::store::Store;

pub struct Live {
    pub engine: Engine,
    pub store: Store,
}

impl Backend for Live {
    fn query(&self, expr: &Expr, at: Timestamp) -> Hits {
        hits(self.engine.instant(&self.store, expr, at)?.value)
    }

    fn query_text(&self, text: &str, at: Timestamp) -> Hits {
        self.query(&parse(text)?, at)
    }

    fn append(&self, at: Timestamp, samples: &[Sample]) {
        self.store.append(at, samples);
    }

    fn append_histograms(&self, at: Timestamp, samples: &[HistogramSample]) {
        self.store.append_histograms(at, samples);
    }
}
