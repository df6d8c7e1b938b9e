//! Which of two versions is the newer one, as dpkg and as Python's packages order them: Debian
//! Policy 5.6.12 (<https://www.debian.org/doc/debian-policy/ch-controlfields.html#version>) and PEP
//! 440 (<https://peps.python.org/pep-0440/>).

use std::cmp::Ordering;

/// Compares two versions of Debian packages: `[epoch:]upstream[-revision]`.
pub fn debian(a: &str, b: &str) -> Ordering {
    let (a, b) = (split(a), split(b));
    a.0.cmp(&b.0)
        .then_with(|| part(a.1, b.1))
        .then_with(|| part(a.2, b.2))
}

/// Epoch, upstream version, revision.
fn split(version: &str) -> (u64, &str, &str) {
    let (epoch, rest) = version.split_once(':').unwrap_or(("0", version));
    let (upstream, revision) = rest.rsplit_once('-').unwrap_or((rest, ""));
    (epoch.parse().unwrap_or(0), upstream, revision)
}

/// Compares text and numbers in turn, as dpkg's `verrevcmp` does.
fn part(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a.as_bytes(), b.as_bytes());
    while !a.is_empty() || !b.is_empty() {
        loop {
            let (x, y) = (text(a), text(b));
            if x.is_none() && y.is_none() {
                break;
            }
            // A tilde comes before the end, the end before letters, letters before the rest.
            match x.unwrap_or(0).cmp(&y.unwrap_or(0)) {
                Ordering::Equal => (a, b) = (rest(a, x), rest(b, y)),
                unequal => return unequal,
            }
        }
        let (x, y) = (digits(&mut a), digits(&mut b));
        // Without leading zeros the longer number is the greater one, however many digits it has.
        match x.len().cmp(&y.len()).then_with(|| x.cmp(y)) {
            Ordering::Equal => {}
            unequal => return unequal,
        }
    }
    Ordering::Equal
}

/// The weight of the first character, unless it is a digit or there is none.
fn text(bytes: &[u8]) -> Option<i32> {
    match bytes.first()? {
        digit if digit.is_ascii_digit() => None,
        b'~' => Some(-1),
        letter if letter.is_ascii_alphabetic() => Some(i32::from(*letter)),
        other => Some(i32::from(*other) + 256),
    }
}

fn rest(bytes: &[u8], taken: Option<i32>) -> &[u8] {
    &bytes[usize::from(taken.is_some())..]
}

/// Takes a number, its leading zeros left out.
fn digits<'a>(bytes: &mut &'a [u8]) -> &'a [u8] {
    let end = bytes
        .iter()
        .position(|byte| !byte.is_ascii_digit())
        .unwrap_or(bytes.len());
    let (number, rest) = bytes.split_at(end);
    *bytes = rest;
    let zeros = number.iter().take_while(|digit| **digit == b'0').count();
    &number[zeros..]
}

/// What decides between two versions of a Python package: epoch, release, and how far the release
/// is: a development version before its alphas, betas and candidates, these before the release, a
/// correction (`.post1`) after it.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Python {
    epoch: u64,
    release: Vec<u64>,
    /// 0: only a development version, 1 to 3: a, b, rc with their number, 4: the release.
    stage: (u8, u64),
    /// 0: none, else the number and one.
    post: u64,
    /// The number of a development version; the greatest number for none.
    dev: u64,
}

/// Compares two versions of Python packages; `None` where one is not a version of PEP 440.
pub fn python(a: &str, b: &str) -> Option<Ordering> {
    Some(parse(a)?.cmp(&parse(b)?))
}

fn parse(version: &str) -> Option<Python> {
    let version = version.trim().to_ascii_lowercase();
    let version = version.strip_prefix('v').unwrap_or(&version);
    // What is local, after a plus, says who built it, not what is newer.
    let version = version.split('+').next()?;
    let (epoch, rest) = version.split_once('!').unwrap_or(("0", version));
    let mut rest = rest.as_bytes();
    let mut release = vec![number(&mut rest)?];
    while let [b'.', digit, ..] = rest
        && digit.is_ascii_digit()
    {
        rest = &rest[1..];
        release.push(number(&mut rest)?);
    }
    // 1.0 and 1.0.0 are one version.
    while release.len() > 1 && release.last() == Some(&0) {
        release.pop();
    }
    let mut found = Python {
        epoch: epoch.parse().ok()?,
        release,
        stage: (4, 0),
        post: 0,
        dev: u64::MAX,
    };
    while !rest.is_empty() {
        if let [b'.' | b'-' | b'_', after @ ..] = rest {
            let is_implicit_post = rest[0] == b'-' && after.first().is_some_and(u8::is_ascii_digit);
            rest = after;
            if is_implicit_post {
                found.post = number(&mut rest)?.saturating_add(1);
                continue;
            }
        }
        let end = rest
            .iter()
            .position(|byte| !byte.is_ascii_alphabetic())
            .unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        rest = after;
        if let [b'.' | b'-' | b'_', digit, ..] = rest
            && digit.is_ascii_digit()
        {
            rest = &rest[1..];
        }
        let count = number(&mut rest).unwrap_or(0);
        match word {
            b"a" | b"alpha" => found.stage = (1, count),
            b"b" | b"beta" => found.stage = (2, count),
            b"rc" | b"c" | b"pre" | b"preview" => found.stage = (3, count),
            b"post" | b"rev" | b"r" => found.post = count.saturating_add(1),
            b"dev" => found.dev = count,
            _ => return None,
        }
    }
    if found.dev != u64::MAX && found.stage.0 == 4 && found.post == 0 {
        found.stage = (0, 0);
    }
    Some(found)
}

fn number(rest: &mut &[u8]) -> Option<u64> {
    let end = rest
        .iter()
        .position(|byte| !byte.is_ascii_digit())
        .unwrap_or(rest.len());
    let (digits, after) = rest.split_at(end);
    let number = std::str::from_utf8(digits).ok()?.parse().ok()?;
    *rest = after;
    Some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each is newer than the one before it; `dpkg --compare-versions` says the same.
    #[test]
    fn versions_of_debian_are_in_dpkg_order() {
        let rising = [
            "0.9~~",
            "0.9~",
            "0.9",
            "0.9a",
            "0.9+b1",
            "0.9.1",
            "1.0~rc1-1",
            "1.0-1",
            "1.0-1+deb12u1",
            "1.0-1+deb12u2",
            "1.0-1+deb12u10",
            "1.0-1.1",
            "1.0-2",
            "1.0a-1",
            "1.00001-1",
            "1.2-0",
            "1:0.1-1",
            "2:0",
            "2:18446744073709551617",
        ];
        for (i, a) in rising.iter().enumerate() {
            for (j, b) in rising.iter().enumerate() {
                // 1.00001 is 1.1, and so after 1.0.
                assert_eq!(debian(a, b), i.cmp(&j), "{a} {b}");
            }
        }
        assert_eq!(debian("1.0", "1.0-0"), Ordering::Equal);
        assert_eq!(debian("0:1.0-1", "1.0-1"), Ordering::Equal);
    }

    /// The order that PEP 440 prints, and its equal spellings.
    #[test]
    fn versions_of_python_are_in_the_order_of_pep_440() {
        let rising = [
            "1.0.dev456",
            "1.0a1.dev1",
            "1.0a1",
            "1.0a2",
            "1.0a12",
            "1.0b1.dev456",
            "1.0b2",
            "1.0b2.post345.dev456",
            "1.0b2.post345",
            "1.0rc1.dev456",
            "1.0rc1",
            "1.0",
            "1.0.post456.dev34",
            "1.0.post456",
            "1.0.15",
            "1.1.dev1",
            "1.10",
            "2024.1",
            "1!0.1",
        ];
        for (i, a) in rising.iter().enumerate() {
            for (j, b) in rising.iter().enumerate() {
                assert_eq!(python(a, b), Some(i.cmp(&j)), "{a} {b}");
            }
        }
        for (a, b) in [
            ("1.0", "1.0.0"),
            ("v1.0-alpha.1", "1.0a1"),
            ("1.0-1", "1.0.post1"),
            ("1.0+cu121", "1.0"),
            ("1.0C1", "1.0rc1"),
        ] {
            assert_eq!(python(a, b), Some(Ordering::Equal), "{a} {b}");
        }
        for broken in ["", "one", "1.0-what", "1.x", "!1"] {
            assert_eq!(python(broken, "1"), None, "{broken}");
        }
    }
}
