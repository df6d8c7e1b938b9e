//! Parsing kernel text as bytes: lines, words, numbers, without a string for any of them.

/// The lines, without empty ones.
pub fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|b| *b == b'\n').filter(|line| !line.is_empty())
}

/// The words of a line.
pub fn words(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.split(u8::is_ascii_whitespace)
        .filter(|word| !word.is_empty())
}

/// A whole decimal number. Larger than 64 bits, or not a number: `None`.
pub fn whole(word: &[u8]) -> Option<u64> {
    if word.is_empty() {
        return None;
    }
    word.iter().try_fold(0_u64, |sum, b| match b {
        b'0'..=b'9' => sum.checked_mul(10)?.checked_add(u64::from(b - b'0')),
        _ => None,
    })
}

/// A whole hexadecimal number without prefix.
pub fn hex(word: &[u8]) -> Option<u64> {
    if word.is_empty() || word.len() > 16 {
        return None;
    }
    word.iter().try_fold(0_u64, |sum, b| {
        Some(sum << 4 | u64::from(char::from(*b).to_digit(16)?))
    })
}

/// A number as sample value: decimal, perhaps negative, or `0x…`.
pub fn signed(word: &[u8]) -> Option<f64> {
    match word {
        [b'0', b'x', digits @ ..] => hex(digits).map(|n| n as f64),
        [b'-', digits @ ..] => whole(digits).map(|n| -(n as f64)),
        _ => whole(word).map(|n| n as f64),
    }
}

/// A decimal number with a fraction.
pub fn decimal(word: &[u8]) -> Option<f64> {
    std::str::from_utf8(word).ok()?.parse().ok()
}

/// A word as text; what is not UTF-8 becomes U+FFFD.
pub fn text(word: &[u8]) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(word)
}

/// The parts before and after the first `separator`.
pub fn split_once(line: &[u8], separator: u8) -> Option<(&[u8], &[u8])> {
    let at = memchr::memchr(separator, line)?;
    Some((&line[..at], &line[at + 1..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_exactly_or_not_at_all() {
        assert_eq!(whole(b"18446744073709551615"), Some(u64::MAX));
        assert_eq!(whole(b"18446744073709551616"), None);
        assert_eq!(whole(b""), None);
        assert_eq!(whole(b"1a"), None);
        assert_eq!(hex(b"00ff"), Some(255));
        assert_eq!(hex(b"xyz"), None);
        assert_eq!(signed(b"-1"), Some(-1.0));
        assert_eq!(signed(b"0x1003"), Some(4099.0));
    }
}
