//! The populated buckets of one side of a histogram: runs of neighbours, and how many observations
//! each bucket holds.

use super::InvalidHistogram;
use super::bounds::coarser;

/// A run of neighbouring buckets.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Span {
    /// Of the first span the index of its first bucket; of a later one the number of buckets left
    /// out before it.
    pub offset: i32,
    /// Number of buckets.
    pub length: u32,
}

/// Buckets in ascending order of their index. No span is empty, and neighbouring spans are one, so
/// that equal buckets have equal spans.
#[derive(Clone, Debug, Default)]
pub struct Buckets {
    spans: Vec<Span>,
    counts: Vec<f64>,
}

/// Equal index by index and bit by bit.
impl PartialEq for Buckets {
    fn eq(&self, other: &Self) -> bool {
        let same = |(a, b): (&f64, &f64)| a.to_bits() == b.to_bits();
        self.spans == other.spans
            && self.counts.len() == other.counts.len()
            && self.counts.iter().zip(&other.counts).all(same)
    }
}

impl Buckets {
    /// Buckets as formats write them. Errs where spans overlap, need another number of counts, or
    /// leave the range of indexes.
    pub fn new(spans: &[Span], counts: Vec<f64>) -> Result<Self, InvalidHistogram> {
        let mut kept: Vec<Span> = Vec::with_capacity(spans.len());
        let (mut next, mut length, mut gap) = (0_i64, 0_usize, 0_i64);
        for (number, span) in spans.iter().enumerate() {
            if number > 0 && span.offset < 0 {
                return Err(InvalidHistogram::NegativeOffset {
                    number: number + 1,
                    offset: span.offset,
                });
            }
            gap += i64::from(span.offset);
            next += i64::from(span.offset) + i64::from(span.length);
            length = length.saturating_add(span.length as usize);
            if i32::try_from(next).is_err() || i32::try_from(gap).is_err() {
                return Err(InvalidHistogram::IndexRange);
            }
            if span.length == 0 {
                continue;
            }
            match kept.last_mut().filter(|_| gap == 0) {
                Some(last) => last.length += span.length,
                None => kept.push(Span {
                    offset: gap as i32,
                    length: span.length,
                }),
            }
            gap = 0;
        }
        if length != counts.len() {
            return Err(InvalidHistogram::SpanLength {
                needed: length,
                found: counts.len(),
            });
        }
        Ok(Buckets {
            spans: kept,
            counts,
        })
    }

    /// The runs of buckets.
    pub fn spans(&self) -> &[Span] {
        &self.spans
    }

    /// How many observations each bucket holds, in the order of the spans.
    pub fn counts(&self) -> &[f64] {
        &self.counts
    }

    /// Whether there is no bucket, not even an unpopulated one.
    pub fn is_empty(&self) -> bool {
        self.counts.is_empty()
    }

    /// Index and count of each bucket.
    pub fn iter(&self) -> impl Iterator<Item = (i32, f64)> + '_ {
        let mut next = 0_i32;
        let indexes = self.spans.iter().flat_map(move |span| {
            let first = next.wrapping_add(span.offset);
            next = first.wrapping_add(span.length as i32);
            first..next
        });
        indexes.zip(self.counts.iter().copied())
    }

    /// Bytes on the heap.
    pub(super) fn heap_size(&self) -> usize {
        self.spans.capacity() * size_of::<Span>() + self.counts.capacity() * size_of::<f64>()
    }

    /// Changes every count.
    pub(super) fn map(&mut self, change: impl Fn(f64) -> f64) {
        self.counts
            .iter_mut()
            .for_each(|count| *count = change(*count));
    }

    /// Without the buckets that hold nothing.
    pub(super) fn compact(&mut self) {
        if self.counts.contains(&0.0) {
            *self = self.iter().filter(|(_, count)| *count != 0.0).collect();
        }
    }

    /// The same observations in the buckets of a coarser schema.
    pub(super) fn reduced(&self, from: i8, to: i8) -> Buckets {
        let mut reduced = Buckets::default();
        let mut last = None;
        for (index, count) in self.iter() {
            let index = coarser(index, from, to);
            match reduced.counts.last_mut().filter(|_| last == Some(index)) {
                Some(total) => *total += count,
                None => reduced.push(last, index, count),
            }
            last = Some(index);
        }
        reduced
    }

    /// These buckets and others together; counts of one index are added.
    pub(super) fn plus(&self, others: impl Iterator<Item = (i32, f64)>) -> Buckets {
        let mut own = self.iter().peekable();
        let mut others = others.peekable();
        std::iter::from_fn(|| {
            let index = match (own.peek(), others.peek()) {
                (Some((a, _)), Some((b, _))) => *a.min(b),
                (Some((index, _)), None) | (None, Some((index, _))) => *index,
                (None, None) => return None,
            };
            let own = own.next_if(|(at, _)| *at == index);
            let other = others.next_if(|(at, _)| *at == index);
            match (own, other) {
                (Some((_, a)), Some((_, b))) => Some((index, a + b)),
                (one, other) => one.or(other),
            }
        })
        .collect()
    }

    fn push(&mut self, last: Option<i32>, index: i32, count: f64) {
        let gap = last.map_or(index, |last| index.wrapping_sub(last).wrapping_sub(1));
        match self.spans.last_mut().filter(|_| gap == 0) {
            Some(span) => span.length += 1,
            None => self.spans.push(Span {
                offset: gap,
                length: 1,
            }),
        }
        self.counts.push(count);
    }
}

/// Collects buckets that come in ascending order of their index.
impl FromIterator<(i32, f64)> for Buckets {
    fn from_iter<I: IntoIterator<Item = (i32, f64)>>(buckets: I) -> Self {
        let mut collected = Buckets::default();
        let mut last = None;
        for (index, count) in buckets {
            collected.push(last, index, count);
            last = Some(index);
        }
        collected
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(offset: i32, length: u32) -> Span {
        Span { offset, length }
    }

    #[test]
    fn spans_are_written_in_one_way_only() {
        let written = Buckets::new(
            &[span(2, 0), span(1, 1), span(0, 2), span(3, 0), span(1, 1)],
            vec![1.0, 2.0, 3.0, 4.0],
        )
        .expect("valid");
        assert_eq!(written.spans(), [span(3, 3), span(4, 1)]);
        assert_eq!(
            written.iter().collect::<Vec<_>>(),
            [(3, 1.0), (4, 2.0), (5, 3.0), (10, 4.0)]
        );
        assert_eq!(written.iter().collect::<Buckets>(), written);
        let first = Buckets::new(&[span(0, 1), span(0, 1)], vec![1.0, 2.0]).expect("valid");
        assert_eq!(first.spans(), [span(0, 2)]);
    }

    #[test]
    fn spans_that_do_not_fit_are_refused() {
        let error = |spans: &[Span], counts: usize| {
            Buckets::new(spans, vec![1.0; counts])
                .expect_err("broken")
                .to_string()
        };
        assert!(error(&[span(0, 1), span(-1, 1)], 2).contains("span number 2 with offset -1"));
        assert!(error(&[span(0, 2)], 1).contains("spans need 2 buckets, have 1 buckets"));
        assert!(error(&[span(i32::MAX, 1), span(i32::MAX, 1)], 2).contains("indexes"));
        assert!(error(&[span(0, u32::MAX)], 1).contains("indexes"));
    }

    #[test]
    fn sums_and_reductions_keep_every_observation() {
        let a: Buckets = [(-3, 1.0), (0, 2.0), (1, 0.0)].into_iter().collect();
        let b: Buckets = [(-2, 5.0), (0, 7.0), (9, 1.0)].into_iter().collect();
        let sum = a.plus(b.iter());
        assert_eq!(
            sum.iter().collect::<Vec<_>>(),
            [(-3, 1.0), (-2, 5.0), (0, 9.0), (1, 0.0), (9, 1.0)]
        );
        let mut reduced = sum.reduced(2, 1);
        assert_eq!(
            reduced.iter().collect::<Vec<_>>(),
            [(-1, 6.0), (0, 9.0), (1, 0.0), (5, 1.0)]
        );
        reduced.compact();
        assert_eq!(
            reduced.iter().collect::<Vec<_>>(),
            [(-1, 6.0), (0, 9.0), (5, 1.0)]
        );
    }
}
