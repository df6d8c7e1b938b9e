//! The text forms of a native histogram: the one that Prometheus shows, and the notation of its
//! rule tests.

use std::fmt;

use super::{Bucket, Buckets, NativeHistogram, ResetHint};
use crate::model::text::format_float_g;

/// Most buckets that the notation of rule tests fills a gap with.
const MOST_FILLED: usize = 100_000;

impl fmt::Display for NativeHistogram {
    /// `{count:4, sum:10, [-1,-0.5):1, (0.5,1]:3}`: populated buckets only.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{{count:{}, sum:{}",
            format_float_g(self.count),
            format_float_g(self.sum)
        )?;
        let mut negative: Vec<Bucket> = self.negative_buckets().collect();
        negative.reverse();
        let zero = Some(self.zero_bucket()).filter(|_| !self.is_custom());
        for bucket in negative
            .into_iter()
            .chain(zero)
            .chain(self.positive_buckets())
            .filter(|bucket| bucket.count != 0.0)
        {
            write!(f, ", {bucket}")?;
        }
        f.write_str("}")
    }
}

impl fmt::Display for Bucket {
    /// `(0.5,1]:3`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (open, close) = (
            if self.lower_inclusive { '[' } else { '(' },
            if self.upper_inclusive { ']' } else { ')' },
        );
        let (lower, upper, count) = (
            format_float_g(self.lower),
            format_float_g(self.upper),
            format_float_g(self.count),
        );
        write!(f, "{open}{lower},{upper}{close}:{count}")
    }
}

impl NativeHistogram {
    /// `{{schema:1 count:4 sum:10 offset:-1 buckets:[1 0 3]}}`: the notation of promtool's rule
    /// tests.
    pub fn notation(&self) -> String {
        let mut parts = Vec::new();
        if self.schema != 0 {
            parts.push(format!("schema:{}", self.schema));
        }
        let numbers = [
            ("count", self.count),
            ("sum", self.sum),
            ("z_bucket", self.zero_count),
            ("z_bucket_w", self.zero_threshold),
        ];
        for (key, value) in numbers.into_iter().filter(|(_, value)| *value != 0.0) {
            parts.push(format!("{key}:{}", format_float_g(value)));
        }
        if self.is_custom() {
            parts.push(format!(
                "custom_values:[{}]",
                spaced(self.bounds.iter().copied())
            ));
        }
        match self.hint {
            ResetHint::Unknown => {}
            ResetHint::Reset => parts.push("counter_reset_hint:reset".into()),
            ResetHint::NotReset => parts.push("counter_reset_hint:not_reset".into()),
            ResetHint::Gauge => parts.push("counter_reset_hint:gauge".into()),
        }
        for (side, offset_key, key) in [
            (&self.positive, "offset", "buckets"),
            (&self.negative, "n_offset", "n_buckets"),
        ] {
            let (offset, counts) = filled(side);
            if offset != 0 {
                parts.push(format!("{offset_key}:{offset}"));
            }
            if !counts.is_empty() {
                parts.push(format!("{key}:[{}]", spaced(counts.into_iter())));
            }
        }
        format!("{{{{{}}}}}", parts.join(" "))
    }
}

fn spaced(values: impl Iterator<Item = f64>) -> String {
    values.map(format_float_g).collect::<Vec<_>>().join(" ")
}

/// The index of the first populated bucket, and the counts from there to the last one, zeroes in
/// gaps.
fn filled(side: &Buckets) -> (i32, Vec<f64>) {
    let mut populated = side.iter().filter(|(_, count)| *count != 0.0).peekable();
    let Some((first, _)) = populated.peek().copied() else {
        return (0, Vec::new());
    };
    let mut counts: Vec<f64> = Vec::new();
    for (index, count) in populated {
        let position = index.wrapping_sub(first) as u32 as usize;
        if position < MOST_FILLED {
            counts.resize(position, 0.0);
        }
        counts.push(count);
    }
    (first, counts)
}
