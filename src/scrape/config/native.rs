//! Native histograms in: what the configuration says of them
//! (<https://prometheus.io/docs/specs/native_histograms/#scrape-configuration>), and the limits of
//! one histogram.

use crate::config::Section;
use crate::model::NativeHistogram;
use crate::model::native_histogram::EXPONENTIAL_SCHEMAS;
use crate::scrape::error::PageError;

/// What a job, or `global` for all, makes of histograms.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NativeHistograms {
    /// `scrape_native_histograms`: they are asked for and kept.
    pub scrape: bool,
    /// `always_scrape_classic_histograms`: the classic series of a native histogram are kept beside
    /// it.
    pub classic: bool,
    /// `convert_classic_histograms_to_nhcb`: classic histograms become native ones with custom
    /// bounds.
    pub convert: bool,
    /// `native_histogram_bucket_limit`: buckets of one histogram; it is made coarser until it fits,
    /// or fails the scrape.
    pub bucket_limit: Option<u64>,
    /// `native_histogram_min_bucket_factor`: a finer one is made coarser.
    pub min_bucket_factor: f64,
}

impl Default for NativeHistograms {
    fn default() -> Self {
        NativeHistograms {
            scrape: false,
            classic: false,
            convert: false,
            bucket_limit: None,
            min_bucket_factor: 0.0,
        }
    }
}

impl NativeHistograms {
    /// Reads the keys of a block; those it does not name are `inherited`.
    pub fn read(section: &Section<'_>, inherited: &NativeHistograms) -> Self {
        let flag = |key: &str, inherited: bool| section.or(key, inherited);
        let factor = section.get::<f64>("native_histogram_min_bucket_factor");
        if factor.is_some_and(|factor| !(factor >= 0.0 && factor.is_finite())) {
            section.error(
                "native_histogram_min_bucket_factor",
                "is not a factor",
                "give the growth from bucket to bucket, 1.1 for example",
            );
        }
        NativeHistograms {
            scrape: flag("scrape_native_histograms", inherited.scrape),
            // The name that it had before Prometheus 3.
            classic: flag(
                "always_scrape_classic_histograms",
                flag("scrape_classic_histograms", inherited.classic),
            ),
            convert: flag("convert_classic_histograms_to_nhcb", inherited.convert),
            bucket_limit: section
                .get::<u64>("native_histogram_bucket_limit")
                .map_or(inherited.bucket_limit, |n| Some(n).filter(|n| *n > 0)),
            min_bucket_factor: factor.unwrap_or(inherited.min_bucket_factor),
        }
    }

    /// What decides whether a reload changes a job.
    pub(in crate::scrape) fn identity(&self) -> impl std::hash::Hash {
        (
            self.scrape,
            self.classic,
            self.convert,
            self.bucket_limit,
            self.min_bucket_factor.to_bits(),
        )
    }

    /// Makes a histogram as coarse as the configuration wants it.
    ///
    /// # Errors
    /// When that is not possible, which fails the scrape.
    pub(in crate::scrape) fn fit(
        &self,
        histogram: NativeHistogram,
    ) -> Result<NativeHistogram, PageError> {
        let mut histogram = histogram;
        if self.min_bucket_factor > 1.0 {
            histogram = histogram.reduced_to(finest(self.min_bucket_factor));
        }
        let Some(limit) = self.bucket_limit else {
            return Ok(histogram);
        };
        let buckets =
            |h: &NativeHistogram| (h.positive.counts().len() + h.negative.counts().len()) as u64;
        while buckets(&histogram) > limit {
            if histogram.is_custom() || histogram.schema <= *EXPONENTIAL_SCHEMAS.start() {
                let found = buckets(&histogram);
                return Err(PageError::BucketLimit { found, limit });
            }
            let coarser = histogram.schema - 1;
            histogram = histogram.reduced_to(coarser);
        }
        Ok(histogram)
    }
}

/// The finest schema whose buckets grow by at least this factor: those of schema `s` grow by
/// `2^(2^-s)`.
fn finest(factor: f64) -> i8 {
    let schema = (-factor.log2().log2()).floor();
    schema.clamp(
        f64::from(*EXPONENTIAL_SCHEMAS.start()),
        f64::from(*EXPONENTIAL_SCHEMAS.end()),
    ) as i8
}

#[cfg(test)]
mod tests {
    use super::*;

    fn histogram(schema: i8, buckets: i32) -> NativeHistogram {
        let positive = (0..buckets).map(|index| (index, 1.0)).collect();
        NativeHistogram {
            schema,
            count: f64::from(buckets),
            positive,
            ..NativeHistogram::default()
        }
    }

    /// Prometheus: `native_histogram_min_bucket_factor` picks the smallest factor in its table that
    /// is at least as large.
    #[test]
    fn a_finer_histogram_than_the_factor_becomes_coarser() {
        for (factor, schema) in [
            (1.0, 8),
            (1.002, 8),
            (1.01, 6),
            (1.1, 2),
            (1.4, 1),
            (1.5, 0),
            (2.0, 0),
            (4.0, -1),
            (1e9, -4),
        ] {
            let settings = NativeHistograms {
                min_bucket_factor: factor,
                ..NativeHistograms::default()
            };
            assert_eq!(
                settings.fit(histogram(8, 10)).ok().map(|h| h.schema),
                Some(schema),
                "{factor}"
            );
        }
    }

    #[test]
    fn too_many_buckets_are_merged_or_refused() {
        let settings = NativeHistograms {
            bucket_limit: Some(4),
            ..NativeHistograms::default()
        };
        let fitted = settings.fit(histogram(2, 13)).expect("can be merged");
        assert_eq!(
            (fitted.schema, fitted.positive.counts().iter().sum::<f64>()),
            (0, 13.0)
        );
        assert!(
            settings
                .fit(histogram(-4, 5))
                .expect_err("cannot be merged")
                .to_string()
                .contains("at most 4")
        );
        let custom = NativeHistogram {
            bounds: (0..9).map(f64::from).collect(),
            ..histogram(-53, 9)
        };
        assert!(settings.fit(custom).is_err());
    }
}
