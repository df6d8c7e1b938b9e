//! What a program prints, within a bound: its beginning and its end, with a count of what was
//! between.

use std::collections::VecDeque;

/// Most bytes that are kept of the beginning, and of the end.
const HEAD: usize = 1024;
const TAIL: usize = 3072;

/// Output as it comes in.
#[derive(Default)]
pub(super) struct Capture {
    head: Vec<u8>,
    tail: VecDeque<u8>,
    cut: usize,
}

impl Capture {
    pub(super) fn push(&mut self, bytes: &[u8]) {
        let (head, rest) = bytes.split_at(bytes.len().min(HEAD - self.head.len()));
        self.head.extend_from_slice(head);
        // Of one piece no more than the end can stay.
        let skipped = rest.len().saturating_sub(TAIL);
        self.tail.extend(&rest[skipped..]);
        let over = self.tail.len().saturating_sub(TAIL);
        self.tail.drain(..over);
        self.cut += skipped + over;
    }

    /// The text without control characters, but with its lines.
    pub(super) fn text(&self) -> String {
        let between = if self.cut > 0 {
            format!("\n… [{} bytes cut]\n", self.cut)
        } else {
            String::new()
        };
        let tail: Vec<u8> = self.tail.iter().copied().collect();
        let text = if self.cut > 0 {
            format!(
                "{}{between}{}",
                String::from_utf8_lossy(&self.head),
                String::from_utf8_lossy(&tail)
            )
        } else {
            // A character may lie on the seam.
            String::from_utf8_lossy(&[self.head.as_slice(), &tail].concat()).into_owned()
        };
        let kept = text
            .chars()
            .map(|c| if c == '\t' { ' ' } else { c })
            .filter(|c| *c == '\n' || !c.is_control());
        kept.collect::<String>().trim().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_is_kept_within_a_bound_and_what_is_cut_is_counted() {
        let mut short = Capture::default();
        short.push(b"stopping\r\n\x1b[31mred\x1b[0m\n\0");
        assert_eq!(short.text(), "stopping\n[31mred[0m");
        let mut long = Capture::default();
        for _ in 0..1000 {
            long.push(&[b'a'; 999]);
        }
        long.push(b"the end");
        let text = long.text();
        assert!(
            text.len() < HEAD + TAIL + 40 && text.ends_with("the end"),
            "{}",
            text.len()
        );
        assert!(
            text.contains(&format!("[{} bytes cut]", 999_007 - HEAD - TAIL)),
            "{text}"
        );
        let mut seam = Capture::default();
        seam.push("磁".repeat(500).as_bytes());
        assert_eq!(seam.text(), "磁".repeat(500));
    }
}
