//! The values of a series in a block, in as few bytes as are quickly found and quickly read.
//!
//! Most values are whole numbers or decimal fractions with a common factor: `(base + factor × n) /
//! 10^places`. What is stored are the `n`, which are found again by exactly that formula, and only
//! where the same bits come back. A short run stands as differences of one width; longer ones as
//! pages of one pco chunk (<https://github.com/pcodec/pcodec>), whose model all pages of a series
//! share. What is no such number (NaN, infinities, negative zero) stands beside them by its bits;
//! other floats are left to pco whole. Nothing here has a checksum: the chunk that holds it does.

use std::cell::RefCell;
use std::ops::Range;

use pco::errors::PcoResult;
use pco::wrapped::{ChunkDecompressor, FileCompressor, FileDecompressor};
use pco::{ChunkConfig, DecompressorScratch, DeltaSpec, ModeSpec, PagingSpec};

use crate::model::bytes::{Reader, put_int, put_uint};

/// Samples in a page at most: more gain little and cost those who read a narrow window.
pub(in crate::store::history) const PAGE: usize = 480;
/// Samples in a page where they take next to nothing.
const LONG_PAGE: usize = 4 * PAGE;
/// Which is less than a quarter of a byte for each.
const CHEAP: usize = 4;
/// About the bytes of a chunk beside its values.
const AROUND: usize = 10;
/// Samples in any chunk at most.
pub(in crate::store::history) const MOST: usize = 1 << 16;
/// Samples whose model is sought at once; more have one each [`PAGE`].
const MODELLED: usize = 1 << 20;
/// Level of pco's search for an encoding; higher ones gain under a percent on runs this short.
const LEVEL: usize = 6;
/// Whole numbers up to it, either way, are exact.
const EXACT: f64 = 9_007_199_254_740_992.0;
/// Decimal places that are tried.
const PLACES: usize = 10;
const SCALES: [f64; PLACES] = [1.0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9];

/// What the first byte of a chunk's values says.
const SAME: u8 = 0;
const BITS: u8 = 1;
const OWN: u8 = 2;
const SHARED: u8 = 3;
/// Added where some stand by their bits.
const ODD: u8 = 0x80;

/// What the first byte of a model says: floats as they are, or whole numbers of so many places less
/// one.
const FLOATS: u8 = 0;
/// Added where the factor is not one.
const FACTOR: u8 = 0x40;

/// The values of a series, encoded.
#[derive(Debug, Default)]
pub(in crate::store::history) struct Encoded {
    /// What the chunks share; nothing where they do not.
    pub(in crate::store::history) model: Vec<u8>,
    /// Of each chunk the number of samples, and its values.
    pub(in crate::store::history) chunks: Vec<(usize, Vec<u8>)>,
}

/// Whole numbers that stand for floats.
struct Whole {
    form: Form,
    numbers: Vec<i64>,
    /// Positions of what is none, and its bits.
    odd: Vec<(usize, u64)>,
}

/// How whole numbers become floats.
#[derive(Clone, Copy, Debug)]
pub(in crate::store::history) struct Form {
    places: usize,
    base: i64,
    factor: i64,
}

impl Form {
    fn put(&self, out: &mut Vec<u8>) {
        let more = if self.factor == 1 { 0 } else { FACTOR };
        out.push((self.places as u8 + 1) | more);
        put_int(out, self.base);
        if self.factor != 1 {
            put_uint(out, self.factor as u64);
        }
    }

    fn take(kind: u8, reader: &mut Reader<'_>) -> Option<Self> {
        let places = usize::from(kind & !FACTOR).checked_sub(1)?;
        let base = reader.int()?;
        let factor = if kind & FACTOR == 0 {
            1
        } else {
            reader.uint()? as i64
        };
        (places < PLACES).then_some(Form {
            places,
            base,
            factor,
        })
    }

    /// The floats of these numbers.
    fn floats(&self, numbers: &[i64], into: &mut [f64]) {
        let number = |n: &i64| self.base.wrapping_add(self.factor.wrapping_mul(*n)) as f64;
        let both = into.iter_mut().zip(numbers);
        if self.places == 0 {
            both.for_each(|(value, n)| *value = number(n));
        } else {
            let scale = SCALES[self.places];
            both.for_each(|(value, n)| *value = number(n) / scale);
        }
    }
}

/// What these floats are as whole numbers; `None` where they are not.
fn whole(values: &[f64]) -> Option<Whole> {
    let odd = values.iter().enumerate().filter(|(_, v)| is_odd(**v));
    let odd: Vec<(usize, u64)> = odd.map(|(at, value)| (at, value.to_bits())).collect();
    // Beyond that they stand better by themselves.
    if odd.len() > values.len() / 16 + 1 {
        return None;
    }
    let mut numbers = Vec::with_capacity(values.len());
    let places = SCALES
        .iter()
        .position(|scale| numbers_of(values, *scale, &mut numbers))?;
    let base = numbers.first().copied()?;
    let mut factor = 0;
    for number in &numbers {
        let distance = number.abs_diff(base);
        // Most often it is known by now.
        if factor == 0 || distance % factor != 0 {
            factor = greatest_common_divisor(factor, distance);
            if factor == 1 {
                break;
            }
        }
    }
    let factor = factor.max(1) as i64;
    let shorten = |number: &mut i64| *number = (*number - base) / factor;
    if factor == 1 {
        numbers.iter_mut().for_each(|number| *number -= base);
    } else {
        numbers.iter_mut().for_each(shorten);
    }
    Some(Whole {
        form: Form {
            places,
            base,
            factor,
        },
        numbers,
        odd,
    })
}

/// Whether a value is none that a whole number can stand for.
fn is_odd(value: f64) -> bool {
    !value.is_finite() || value.to_bits() == (-0.0_f64).to_bits()
}

/// These floats in units of `1 / scale`; `false` where some are no whole number of them.
fn numbers_of(values: &[f64], scale: f64, numbers: &mut Vec<i64>) -> bool {
    numbers.clear();
    let number_of = |value: f64| {
        let units = value * scale;
        let number = (units + 0.5_f64.copysign(units)) as i64;
        let is_it = units.abs() < EXACT && (number as f64 / scale).to_bits() == value.to_bits();
        is_it.then_some(number)
    };
    // In place of what is none stands what was there before: that costs least.
    let first = values.iter().find(|value| !is_odd(**value));
    let Some(mut last) = first.and_then(|value| number_of(*value)) else {
        return false;
    };
    for value in values {
        if !is_odd(*value) {
            let Some(number) = number_of(*value) else {
                return false;
            };
            last = number;
        }
        numbers.push(last);
    }
    true
}

fn greatest_common_divisor(mut a: u64, mut b: u64) -> u64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

/// Encodes the values of a series. A chunk has at most [`PAGE`] of them, unless they take next to
/// nothing: then at most `longest`.
pub(in crate::store::history) fn encode(values: &[f64], longest: usize) -> PcoResult<Encoded> {
    let longest = longest.min(MOST);
    let encoded = encode_by(values, PAGE, longest)?;
    let bytes = |encoded: &Encoded| {
        let chunks = encoded.chunks.iter();
        let chunks = chunks.map(|(_, bytes)| bytes.len() + AROUND);
        encoded.model.len() + chunks.sum::<usize>()
    };
    let is_cheap = bytes(&encoded) * CHEAP < values.len();
    if encoded.chunks.len() > 1 && longest >= LONG_PAGE && is_cheap {
        let other = encode_by(values, LONG_PAGE, longest)?;
        if bytes(&other) < bytes(&encoded) {
            return Ok(other);
        }
    }
    Ok(encoded)
}

fn encode_by(values: &[f64], page: usize, longest: usize) -> PcoResult<Encoded> {
    let runs = runs(values, page, longest);
    let others: Vec<f64> = runs
        .iter()
        .filter(|(_, same)| !same)
        .flat_map(|(run, _)| &values[run.clone()])
        .copied()
        .collect();
    let lengths = || {
        let others = runs.iter().filter(|(_, same)| !same);
        others.map(|(run, _)| run.len())
    };
    let mut encoded = Encoded::default();
    let mut pages = if lengths().count() > 1 && others.len() <= MODELLED {
        shared(&others, lengths().collect(), &mut encoded.model)?.into_iter()
    } else {
        Vec::new().into_iter()
    };
    for (run, same) in runs {
        let values = &values[run];
        let bytes = if same {
            let mut bytes = vec![SAME];
            bytes.extend_from_slice(&values[0].to_bits().to_le_bytes());
            bytes
        } else if let Some(page) = pages.next() {
            page
        } else {
            alone(values)?
        };
        encoded.chunks.push((values.len(), bytes));
    }
    Ok(encoded)
}

/// What becomes one chunk each, and whether all in it are the same.
fn runs(values: &[f64], page: usize, longest: usize) -> Vec<(Range<usize>, bool)> {
    // Pages of one length: a short one at the end would cost as much as the others.
    let pages = values.len().div_ceil(page).max(1);
    let page = values.len().div_ceil(pages).max(1);
    let mut runs: Vec<(Range<usize>, bool)> = Vec::new();
    for (number, part) in values.chunks(page).enumerate() {
        let is_first = |value: &f64| value.to_bits() == part[0].to_bits();
        let (start, same) = (number * page, part.iter().all(is_first));
        let end = start + part.len();
        match runs.last_mut() {
            Some((run, true))
                if same && is_first(&values[run.start]) && end - run.start <= longest =>
            {
                run.end = end;
            }
            _ => runs.push((start..end, same)),
        }
    }
    runs
}

fn config(delta: DeltaSpec, paging: PagingSpec) -> ChunkConfig {
    let config = ChunkConfig::default().with_compression_level(LEVEL);
    config.with_delta_spec(delta).with_paging_spec(paging)
}

/// The pages of these values, and the model that they share.
fn shared(values: &[f64], lengths: Vec<usize>, model: &mut Vec<u8>) -> PcoResult<Vec<Vec<u8>>> {
    let file = FileCompressor::default();
    let config = config(DeltaSpec::Auto, PagingSpec::Exact(lengths.clone()));
    let (mut chunk, odd) = match whole(values) {
        Some(Whole { form, numbers, odd }) => {
            form.put(model);
            let config = config.with_mode_spec(ModeSpec::Classic);
            (file.chunk_compressor(&numbers, &config)?, odd)
        }
        None => {
            model.push(FLOATS);
            (file.chunk_compressor(values, &config)?, Vec::new())
        }
    };
    file.write_header(&mut *model)?;
    chunk.write_meta(model)?;
    let (mut pages, mut start) = (Vec::new(), 0);
    for (number, length) in lengths.into_iter().enumerate() {
        let mut page = Vec::new();
        begin(SHARED, &odd, start..start + length, &mut page);
        chunk.write_page(number, &mut page)?;
        pages.push(page);
        start += length;
    }
    Ok(pages)
}

/// One chunk by itself, in the fewest bytes.
fn alone(values: &[f64]) -> PcoResult<Vec<u8>> {
    let file = FileCompressor::default();
    let mut own = Vec::new();
    let paging = PagingSpec::EqualPagesUpTo(values.len());
    let Some(Whole { form, numbers, odd }) = whole(values) else {
        own.extend([OWN, FLOATS]);
        let config = config(DeltaSpec::Auto, paging);
        let mut chunk = file.chunk_compressor(values, &config)?;
        file.write_header(&mut own)?;
        chunk.write_meta(&mut own)?;
        chunk.write_page(0, &mut own)?;
        return Ok(own);
    };
    let differences = Differences::of(&numbers);
    let mut bits = Vec::new();
    begin(BITS, &odd, 0..values.len(), &mut bits);
    form.put(&mut bits);
    differences.put(&numbers, &mut bits);
    begin(OWN, &odd, 0..values.len(), &mut own);
    form.put(&mut own);
    let config = config(DeltaSpec::Auto, paging).with_mode_spec(ModeSpec::Classic);
    let mut chunk = file.chunk_compressor(&numbers, &config)?;
    file.write_header(&mut own)?;
    chunk.write_meta(&mut own)?;
    chunk.write_page(0, &mut own)?;
    // Bits are read several times as fast.
    let saves = bits.len() - bits.len() / 16;
    Ok(if own.len() < saves { own } else { bits })
}

/// The first byte of a chunk's values, and which of those in `range` stand by their bits.
fn begin(kind: u8, odd: &[(usize, u64)], range: Range<usize>, out: &mut Vec<u8>) {
    let from = odd.partition_point(|(at, _)| *at < range.start);
    let to = odd.partition_point(|(at, _)| *at < range.end);
    if from == to {
        return out.push(kind);
    }
    out.push(kind | ODD);
    put_uint(out, (to - from) as u64);
    let mut last = range.start;
    for (at, bits) in &odd[from..to] {
        put_uint(out, (at - last) as u64);
        out.extend_from_slice(&bits.to_le_bytes());
        last = *at;
    }
}

/// Numbers by what each is more than the one before, or by what that is more than the time before,
/// or by themselves; as many bits for each as the largest needs.
struct Differences {
    order: usize,
    least: i64,
    width: u32,
}

impl Differences {
    /// The shortest.
    fn of(numbers: &[i64]) -> Self {
        let mut least = [i64::MAX; 3];
        let mut most = [i64::MIN; 3];
        let (mut last, mut step) = (0, 0);
        for (at, number) in numbers.iter().enumerate() {
            let found = [*number, number - last, number - last - step];
            for order in 0..=at.min(2) {
                least[order] = least[order].min(found[order]);
                most[order] = most[order].max(found[order]);
            }
            (last, step) = (*number, found[1]);
        }
        let width = |order: usize| 64 - most[order].abs_diff(least[order]).leading_zeros();
        let orders = 0..numbers.len().min(3);
        let order = orders.min_by_key(|order| width(*order)).unwrap_or(0);
        Differences {
            order,
            least: least[order],
            width: width(order),
        }
    }

    /// Appends them. The first number is zero.
    fn put(&self, numbers: &[i64], out: &mut Vec<u8>) {
        out.push((self.order as u8) << 6 | self.width as u8);
        put_int(out, self.least);
        if self.order == 2 {
            put_int(out, numbers[1]);
        }
        let (mut held, mut bits) = (0_u128, 0);
        let (mut last, mut step) = (0, 0);
        for (at, number) in numbers.iter().enumerate() {
            let found = [*number, number - last, number - last - step][self.order];
            (last, step) = (*number, number - last);
            if at < self.order {
                continue;
            }
            held |= u128::from(found.abs_diff(self.least)) << bits;
            bits += self.width;
            while bits >= 8 {
                out.push(held as u8);
                held >>= 8;
                bits -= 8;
            }
        }
        if bits > 0 {
            out.push(held as u8);
        }
    }

    /// Reads as many numbers as there is room for.
    fn take(reader: &mut Reader<'_>, numbers: &mut [i64]) -> Option<()> {
        let head = reader.byte()?;
        let (order, width) = (usize::from(head >> 6), usize::from(head & 63));
        let least = reader.int()?;
        let first = if order == 2 { reader.int()? } else { 0 };
        let packed = std::mem::take(&mut reader.0);
        let given = [0, first];
        if order > 2 || numbers.len() < order || width > 56 {
            return None;
        }
        numbers[..order].copy_from_slice(&given[..order]);
        let (rest, mut at) = (&mut numbers[order..], 0);
        if packed.len() != (rest.len() * width).div_ceil(8) {
            return None;
        }
        let mask = (1_u64 << width) - 1;
        let mut next = || {
            let from = at / 8;
            let word = match packed.get(from..from + 8) {
                Some(word) => word.try_into().map_or(0, u64::from_le_bytes),
                None => {
                    let mut word = [0; 8];
                    let end = packed.get(from..).unwrap_or_default();
                    word[..end.len()].copy_from_slice(end);
                    u64::from_le_bytes(word)
                }
            };
            let found = (word >> (at % 8)) & mask;
            at += width;
            least.wrapping_add(found as i64)
        };
        match order {
            0 => rest.iter_mut().for_each(|number| *number = next()),
            1 => {
                let mut last = 0_i64;
                for number in rest {
                    last = last.wrapping_add(next());
                    *number = last;
                }
            }
            _ => {
                let (mut last, mut step) = (first, first);
                for number in rest {
                    step = step.wrapping_add(next());
                    last = last.wrapping_add(step);
                    *number = last;
                }
            }
        }
        Some(())
    }
}

/// What the chunks of a series share, read.
#[derive(Debug)]
pub(in crate::store::history) enum Model {
    Floats(ChunkDecompressor<f64>),
    Whole(Form, ChunkDecompressor<i64>),
}

/// Room that decoding needs.
#[derive(Default)]
struct Scratch {
    numbers: Vec<i64>,
    pco: DecompressorScratch,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

impl Model {
    /// Reads a model; check a checksum first.
    pub(in crate::store::history) fn parse(bytes: &[u8]) -> Option<Self> {
        Model::take(bytes).map(|(model, _)| model)
    }

    /// Reads a model and gives back what follows it.
    fn take(bytes: &[u8]) -> Option<(Self, &[u8])> {
        let mut reader = Reader(bytes);
        let kind = reader.byte()?;
        let form = match kind {
            FLOATS => None,
            kind => Some(Form::take(kind, &mut reader)?),
        };
        let (file, rest) = FileDecompressor::new(reader.0).ok()?;
        Some(match form {
            None => {
                let (chunk, rest) = file.chunk_decompressor(rest).ok()?;
                (Model::Floats(chunk), rest)
            }
            Some(form) => {
                let (chunk, rest) = file.chunk_decompressor(rest).ok()?;
                (Model::Whole(form, chunk), rest)
            }
        })
    }

    fn page(&self, bytes: &[u8], scratch: &mut Scratch, into: &mut [f64]) -> Option<()> {
        let Scratch { numbers, pco } = scratch;
        let (count, progress) = (
            into.len(),
            match self {
                Model::Floats(chunk) => {
                    let page = chunk.page_decompressor_with_scratch(bytes, into.len(), pco);
                    page.ok()?.read(into).ok()?
                }
                Model::Whole(form, chunk) => {
                    numbers.clear();
                    numbers.resize(into.len(), 0);
                    let page = chunk.page_decompressor_with_scratch(bytes, into.len(), pco);
                    let progress = page.ok()?.read(numbers).ok()?;
                    form.floats(numbers, into);
                    progress
                }
            },
        );
        (progress.finished && progress.n_processed == count).then_some(())
    }
}

/// The value of a chunk whose samples all have the same.
pub(in crate::store::history) fn same(bytes: &[u8]) -> Option<f64> {
    let bits = bytes.strip_prefix(&[SAME])?.try_into().ok()?;
    Some(f64::from_bits(u64::from_le_bytes(bits)))
}

/// Reads what [`encode`] made, as many values as there is room for; check a checksum first.
pub(in crate::store::history) fn decode(
    bytes: &[u8],
    model: Option<&Model>,
    into: &mut [f64],
) -> Option<()> {
    let mut reader = Reader(bytes);
    let kind = reader.byte()?;
    let odd = if kind & ODD == 0 {
        Vec::new()
    } else {
        take_odd(&mut reader, into.len())?
    };
    SCRATCH.with_borrow_mut(|scratch| {
        match kind & !ODD {
            SAME => into.fill(f64::from_bits(reader.u64()?)),
            BITS => {
                let kind = reader.byte()?;
                let form = Form::take(kind, &mut reader)?;
                scratch.numbers.clear();
                scratch.numbers.resize(into.len(), 0);
                Differences::take(&mut reader, &mut scratch.numbers)?;
                form.floats(&scratch.numbers, into);
            }
            OWN => {
                let (model, rest) = Model::take(reader.0)?;
                model.page(rest, scratch, into)?;
            }
            SHARED => model?.page(reader.0, scratch, into)?,
            _ => return None,
        }
        Some(())
    })?;
    for (at, value) in odd {
        into[at] = value;
    }
    Some(())
}

fn take_odd(reader: &mut Reader<'_>, count: usize) -> Option<Vec<(usize, f64)>> {
    let mut at = 0_usize;
    let number = reader.size(count)?;
    (0..number)
        .map(|_| {
            at = at.checked_add(reader.size(count)?)?;
            let value = f64::from_bits(reader.u64()?);
            (at < count).then_some((at, value))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::{histogram_nan, stale_nan};

    fn bits(values: &[f64]) -> Vec<u64> {
        values.iter().map(|value| value.to_bits()).collect()
    }

    fn decoded(encoded: &Encoded) -> Option<Vec<f64>> {
        let model = (!encoded.model.is_empty()).then(|| Model::parse(&encoded.model));
        let model = match model {
            Some(model) => Some(model?),
            None => None,
        };
        let mut all = Vec::new();
        for (count, bytes) in &encoded.chunks {
            let begun = all.len();
            all.resize(begun + count, 0.0);
            decode(bytes, model.as_ref(), &mut all[begun..])?;
        }
        Some(all)
    }

    /// Encodes and decodes; returns bytes a sample.
    fn round_trip(values: &[f64]) -> f64 {
        let mut least = f64::INFINITY;
        for longest in [PAGE, usize::MAX] {
            let encoded = encode(values, longest).expect("encodes");
            let back = decoded(&encoded).expect("decodes");
            assert_eq!(bits(&back), bits(values));
            let chunks: usize = encoded.chunks.iter().map(|(_, chunk)| chunk.len()).sum();
            assert!(
                encoded
                    .chunks
                    .iter()
                    .all(|(count, _)| *count <= longest.min(MOST))
            );
            least = least.min((chunks + encoded.model.len()) as f64 / values.len() as f64);
        }
        least
    }

    /// Numbers that look like noise, the same at each run.
    fn noise(count: usize, below: u64) -> impl Iterator<Item = i64> {
        let mut state = 1_u64;
        (0..count).map(move |_| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            ((state >> 33) % below) as i64
        })
    }

    fn sums(steps: impl Iterator<Item = i64>, first: i64) -> Vec<f64> {
        steps
            .scan(first, |sum, step| {
                *sum += step;
                Some(*sum as f64)
            })
            .collect()
    }

    #[test]
    fn a_day_takes_little_more_than_what_is_new_in_it() {
        let entropy = |below: f64| below.log2() / 8.0;
        let counter = round_trip(&sums(noise(5760, 100_000), 1 << 40));
        assert!(counter < entropy(100_000.0) * 1.015, "{counter}");
        let gauge = round_trip(&sums(noise(5760, 65).map(|n| (n - 32) * 4096), 1 << 30));
        assert!(gauge < entropy(65.0) * 1.05, "{gauge}");
        let factor = round_trip(&sums(noise(5760, 1000).map(|n| n * 1500), 12_345));
        assert!(factor < entropy(1000.0) * 1.02, "{factor}");
        let cents: Vec<f64> = sums(noise(5760, 30), 7).iter().map(|n| n / 100.0).collect();
        let cents = round_trip(&cents);
        assert!(cents < entropy(30.0) * 1.08, "{cents}");
        let still = round_trip(&[0.1; 5760]);
        assert!(still < 0.002, "{still}");
        let mut once = [3.0; 5760];
        once[5000..].fill(4.0);
        let once = round_trip(&once);
        assert!(once < 0.015, "{once}");
    }

    #[test]
    fn half_an_hour_of_whole_numbers_is_a_width_and_bits() {
        let values = sums(noise(120, 1000), 77);
        let encoded = encode(&values, MOST).expect("encodes");
        assert_eq!(encoded.chunks[0].1[0], BITS);
        assert!(encoded.model.is_empty() && round_trip(&values) < 10.6 / 8.0);
    }

    #[test]
    fn what_is_no_number_costs_only_itself() {
        let mut values = sums(noise(5760, 1000), 77);
        let before = round_trip(&values);
        for (at, value) in [
            (0, stale_nan()),
            (479, -0.0),
            (480, f64::NAN),
            (5759, f64::INFINITY),
        ] {
            values[at] = value;
        }
        assert!(round_trip(&values) < before + 0.02);
        round_trip(&[histogram_nan(); 700]);
        round_trip(&[stale_nan(), 1.0]);
        round_trip(&[1.0]);
        round_trip(&[-0.0, 0.0, f64::from_bits(0x7ff8_0000_0000_0123)]);
        round_trip(&[9e15, -9e15, 9_007_199_254_740_993.0, 1e300, 5e-324]);
    }

    #[test]
    fn damaged_bytes_never_panic_and_take_no_memory() {
        let values = sums(noise(1200, 1000), 77);
        let half: Vec<f64> = values.iter().map(|value| value.sqrt()).collect();
        for values in [&values[..], &values[..100], &half, &half[..100]] {
            let encoded = encode(values, MOST).expect("encodes");
            let model = Model::parse(&encoded.model);
            let mut into = vec![0.0; 480];
            for (count, chunk) in &encoded.chunks {
                for at in 0..chunk.len() {
                    for flip in [1, 0x80, 0xff] {
                        let mut damaged = chunk.clone();
                        damaged[at] ^= flip;
                        let _ = decode(&damaged, model.as_ref(), &mut into[..*count]);
                        let _ = decode(&damaged[..at], model.as_ref(), &mut into[..*count]);
                    }
                }
            }
            for at in 0..encoded.model.len() {
                for flip in [1, 2, 0x10, 0x80, 0xff] {
                    let mut damaged = encoded.model.clone();
                    damaged[at] ^= flip;
                    let model = Model::parse(&damaged);
                    let (count, chunk) = &encoded.chunks[0];
                    let _ = decode(chunk, model.as_ref(), &mut into[..*count]);
                }
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 300, rng_seed: proptest::test_runner::RngSeed::Fixed(1), ..ProptestConfig::default() })]

        #[test]
        fn any_values_come_back_bit_for_bit(
            kind in 0_u8..8,
            numbers in prop::collection::vec((any::<u64>(), -70_000_i64..70_000), 1..1500),
            places in 0_i32..12,
            factor in 1_i64..10_000,
            repeat in 1_usize..40,
        ) {
            let mut sum = 0_i64;
            let values: Vec<f64> = numbers.iter().enumerate().map(|(at, (bits, small))| {
                if at % repeat == 0 {
                    sum += small;
                }
                match kind {
                    0 => f64::from_bits(*bits),
                    1 => (sum * factor) as f64,
                    2 => sum as f64 / 10_f64.powi(places),
                    3 => (sum * factor) as f64 * 10_f64.powi(places),
                    4 => (*bits as i64 >> (bits % 60)) as f64,
                    5 => if bits % 50 == 0 { f64::from_bits(*bits) } else { sum as f64 },
                    6 => (sum as f64).sqrt() * 1e-3,
                    _ => (sum % 3) as f64,
                }
            }).collect();
            round_trip(&values);
        }

        #[test]
        fn any_bytes_are_read_without_panic(
            bytes in prop::collection::vec(any::<u8>(), 0..80),
            kind in prop::sample::select(vec![SAME, BITS, OWN, SHARED, BITS | ODD, OWN | ODD]),
            form in 0_u8..12,
            count in 0_usize..600,
        ) {
            let mut into = vec![0.0; count];
            let model = Model::parse(&bytes);
            let bytes = [&[kind, form][..], &bytes].concat();
            let _ = decode(&bytes, model.as_ref(), &mut into);
            let _ = decode(&bytes[1..], model.as_ref(), &mut into);
        }
    }
}
