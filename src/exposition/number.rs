//! The values of samples in text.

/// The NaN that stands for every exposed NaN, so that a target cannot write a stale marker.
const CANONICAL_NAN: f64 = f64::from_bits(0x7ff8_0000_0000_0001);

/// Most values: digits, perhaps with a decimal point among them. Up to fifteen of them and their
/// power of ten are exact, so that the one division rounds as it should.
fn short_float(token: &[u8]) -> Option<f64> {
    const DIGITS: usize = 15;
    const POWERS: [f64; DIGITS + 1] = [
        1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15,
    ];
    if token.len() > DIGITS + 1 {
        return None;
    }
    let (mut number, mut digits, mut before_point) = (0u64, 0, None);
    for byte in token {
        match byte {
            b'0'..=b'9' => {
                number = number * 10 + u64::from(byte - b'0');
                digits += 1;
            }
            b'.' if before_point.is_none() => before_point = Some(digits),
            _ => return None,
        }
    }
    let positions = digits - before_point.unwrap_or(digits);
    (1..=DIGITS)
        .contains(&digits)
        .then(|| number as f64 / POWERS[positions])
}

/// A sample's value as Go reads it: decimal, `Inf` and `NaN` in any case; no `_`, no hexadecimal,
/// nothing beyond the range.
pub(super) fn float(token: &[u8]) -> Result<f64, &'static str> {
    const PROBLEM: &str = "value is not a number";
    if let Some(value) = short_float(token) {
        return Ok(value);
    }
    let text = std::str::from_utf8(token).map_err(|_| PROBLEM)?;
    let value: f64 = text.parse().map_err(|_| PROBLEM)?;
    let bare = text.trim_start_matches(['+', '-']);
    match bare.as_bytes().first() {
        Some(b'n' | b'N') if bare.len() != text.len() => Err(PROBLEM),
        Some(b'n' | b'N') => Ok(CANONICAL_NAN),
        Some(b'i' | b'I') => Ok(value),
        _ if value.is_infinite() => Err("value is out of range"),
        _ => Ok(value),
    }
}
