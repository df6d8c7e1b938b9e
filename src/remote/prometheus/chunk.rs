//! A chunk of floats: instants by what their distance changes, values by the bits that differ, as in
//! Facebook's Gorilla paper and in Prometheus's `chunkenc/xor.go`.

/// Reads a stream of bits, the highest of each byte first.
struct Bits<'a> {
    bytes: &'a [u8],
    /// Bits that were read.
    at: usize,
}

impl Bits<'_> {
    fn bit(&mut self) -> Option<bool> {
        let byte = self.bytes.get(self.at / 8)?;
        let bit = byte >> (7 - self.at % 8) & 1 == 1;
        self.at += 1;
        Some(bit)
    }

    fn bits(&mut self, count: usize) -> Option<u64> {
        let mut number = 0;
        let mut left = count;
        while left > 0 {
            let byte = u64::from(*self.bytes.get(self.at / 8)?);
            let have = 8 - self.at % 8;
            let some = have.min(left);
            let bits = byte >> (have - some) & ((1 << some) - 1);
            number = number << some | bits;
            self.at += some;
            left -= some;
        }
        Some(number)
    }

    /// Seven bits a byte, the lowest first.
    fn uint(&mut self) -> Option<u64> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.bits(8)?;
            number |= (byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(number);
            }
        }
        None
    }

    fn int(&mut self) -> Option<i64> {
        self.uint().map(crate::model::bytes::unzigzag)
    }

    /// How much the distance to the instant before has changed.
    fn change(&mut self) -> Option<i64> {
        let mut ones = 0;
        while ones < 4 && self.bit()? {
            ones += 1;
        }
        let width = match ones {
            0 => return Some(0),
            1 => 14,
            2 => 17,
            3 => 20,
            _ => return self.bits(64).map(|bits| bits as i64),
        };
        let bits = self.bits(width)? as i64;
        // The upper half, less one, are negative ones.
        Some(if bits > 1 << (width - 1) {
            bits - (1 << width)
        } else {
            bits
        })
    }
}

/// Hands each sample to `take`; `None` where the bytes do not hold a chunk, or `take` says so.
pub(super) fn floats(chunk: &[u8], mut take: impl FnMut(i64, f64) -> Option<()>) -> Option<()> {
    let (count, bytes) = chunk.split_first_chunk::<2>()?;
    let mut bits = Bits { bytes, at: 0 };
    let (mut time, mut distance, mut value) = (0_i64, 0_i64, 0_u64);
    let (mut leading, mut width) = (0, 0);
    for number in 0..u16::from_be_bytes(*count) {
        match number {
            0 => {
                time = bits.int()?;
                value = bits.bits(64)?;
            }
            1 => distance = bits.uint()? as i64,
            _ => distance = distance.wrapping_add(bits.change()?),
        }
        if number > 0 {
            time = time.wrapping_add(distance);
            if bits.bit()? {
                if bits.bit()? {
                    leading = bits.bits(5)? as usize;
                    width = bits.bits(6)? as usize;
                    if width == 0 {
                        width = 64;
                    }
                }
                let trailing = 64_usize.checked_sub(leading + width)?;
                value ^= bits.bits(width)?.checked_shl(trailing as u32).unwrap_or(0);
            }
        }
        take(time, f64::from_bits(value))?;
    }
    Some(())
}

/// How many samples a chunk of any kind has: all begin with that.
pub(super) fn count(chunk: &[u8]) -> u64 {
    let count = chunk.first_chunk::<2>();
    count.map_or(0, |count| u64::from(u16::from_be_bytes(*count)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn instants_and_values_come_bit_by_bit() {
        // The count; 1000 zigzagged; the bits of 1.0.
        let first = [&[0, 4, 0xd0, 0x0f][..], &1.0_f64.to_be_bytes()].concat();
        // A distance of 15; the same value; no change, and the same again; 14 bits of -1 with three
        // leading zeroes and nine bits of an exclusive or.
        let text = format!(
            "00001111 0 0 0 10{:014b} 11 00011 001001 100000001",
            (1 << 14) - 1
        );
        let text: Vec<char> = text.chars().filter(|c| *c != ' ').collect();
        let rest = text.chunks(8).map(|byte| {
            let bits = byte.iter().enumerate();
            bits.fold(0, |sum, (at, bit)| sum | u8::from(*bit == '1') << (7 - at))
        });
        let chunk: Vec<u8> = first.into_iter().chain(rest).collect();
        let mut found = Vec::new();
        floats(&chunk, |at, value| {
            found.push((at, value));
            Some(())
        })
        .expect("is one");
        let last = f64::from_bits(1.0_f64.to_bits() ^ (0b1_0000_0001 << (64 - 3 - 9)));
        assert_eq!(found, [(1000, 1.0), (1015, 1.0), (1030, 1.0), (1044, last)]);
        assert!(floats(&chunk[..chunk.len() - 1], |_, _| Some(())).is_none());
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 500, rng_seed: proptest::test_runner::RngSeed::Fixed(1), ..ProptestConfig::default() })]

        #[test]
        fn any_bytes_are_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut count = 0;
            let _ = floats(&bytes, |_, _| { count += 1; Some(()) });
            prop_assert!(count <= bytes.len() * 8);
        }
    }
}
