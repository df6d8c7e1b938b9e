//! What passes of JSON, or of JSON in server-sent events, looked at byte by byte while it passes:
//! where the usage stands, the model, whether there is content. Texts are skipped over; nothing but
//! these few values is ever held.

use memchr::memchr3;

/// Longest key that is compared, and longest name of a model.
const LONGEST_NAME: usize = 128;
/// Longest object that is kept: a usage or an error.
const LONGEST_OBJECT: usize = 4 << 10;
/// Keys of objects that are kept.
const OBJECTS: [&[u8]; 3] = [b"usage", b"usageMetadata", b"error"];
/// Keys whose texts are what a model says.
const CONTENT: [&[u8]; 8] = [
    b"content",
    b"text",
    b"thinking",
    b"reasoning_content",
    b"reasoning",
    b"partial_json",
    b"arguments",
    b"delta",
];
/// Types of events that end a stream, beside `[DONE]`.
const ENDS: [&[u8]; 2] = [b"message_stop", b"response.completed"];
/// How deep the name of a model may stand: some put it into a message.
const DEEPEST_MODEL: usize = 2;

/// What has been found so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// The first model.
    pub model: String,
    /// Every object of usage, as JSON, the newest last; a few at most.
    pub usages: Vec<Vec<u8>>,
    /// The first error, as JSON.
    pub error: Vec<u8>,
    /// Whether there was content since this was last reset.
    pub content: bool,
    /// Whether the key `stream` was true.
    pub streams: bool,
    /// Whether the end mark of a stream has passed.
    pub done: bool,
}

/// Looks at bytes.
#[derive(Debug, Default)]
pub struct Scanner {
    depth: usize,
    /// The text that has not ended, as far as it is kept, and whether it is longer.
    text: Vec<u8>,
    in_text: bool,
    is_long: bool,
    escaped: bool,
    /// The last text has just ended: with a colon it is a key.
    ended: bool,
    key: Vec<u8>,
    /// A value follows the key.
    expects: bool,
    /// The object that is being kept, and the depth at which it began.
    kept: Option<(Vec<u8>, usize, bool)>,
    newlines: u8,
    is_events: bool,
    /// The last byte outside of texts.
    last: u8,
    /// What was found.
    pub found: Found,
}

/// Objects of usage that are remembered until they are read.
const USAGES: usize = 8;

impl Scanner {
    /// For server-sent events, or for one JSON text.
    pub fn new(is_events: bool) -> Self {
        Scanner {
            is_events,
            ..Scanner::default()
        }
    }

    /// Looks at what comes next.
    pub fn look(&mut self, bytes: &[u8]) {
        let mut at = 0;
        while at < bytes.len() {
            if self.in_text
                && !self.escaped
                && (self.is_long || !self.wants_text())
                && self.kept.is_none()
            {
                // The rest of a text that nobody needs.
                let Some(end) = memchr3(b'"', b'\\', b'\n', &bytes[at..]) else {
                    return;
                };
                self.is_long |= end > 0;
                at += end;
            }
            self.byte(bytes[at]);
            at += 1;
        }
    }

    /// Whether the text under way may be a key or a value that is looked for: keys are as long as
    /// their first bytes show.
    fn wants_text(&self) -> bool {
        self.text.len() < LONGEST_NAME
    }

    fn byte(&mut self, byte: u8) {
        if let Some((kept, _, _)) = &mut self.kept
            && kept.len() < LONGEST_OBJECT
        {
            kept.push(byte);
        }
        if self.in_text {
            return self.text_byte(byte);
        }
        match byte {
            b'\n' => {
                self.newlines = self.newlines.saturating_add(1);
                // An event ends: what was malformed in it ends, too.
                if self.newlines > 1 && self.is_events {
                    (self.depth, self.newlines, self.kept) = (0, 0, None);
                }
                return;
            }
            b'\r' => return,
            b'"' => {
                (self.in_text, self.is_long, self.escaped) = (true, false, false);
                self.text.clear();
            }
            b':' if self.ended => {
                std::mem::swap(&mut self.key, &mut self.text);
                self.expects = true;
                (self.ended, self.newlines) = (false, 0);
                return;
            }
            b'{' | b'[' => {
                if byte == b'{'
                    && self.expects
                    && self.kept.is_none()
                    && OBJECTS.contains(&&self.key[..])
                {
                    self.kept = Some((vec![b'{'], self.depth, self.key == b"error"));
                }
                self.depth += 1;
                self.expects = false;
            }
            b'}' | b']' => {
                self.depth = self.depth.saturating_sub(1);
                self.expects = false;
                self.end_object();
            }
            b't' if self.expects && self.depth == 1 && self.key == b"stream" => {
                self.found.streams = true
            }
            b'D' if self.is_events && self.last == b'[' => self.found.done = true,
            b',' => self.expects = false,
            _ => {}
        }
        (self.newlines, self.last) = (0, byte);
        if !byte.is_ascii_whitespace() {
            self.ended = false;
        }
    }

    fn text_byte(&mut self, byte: u8) {
        match byte {
            // No text of JSON holds one: it was none.
            b'\n' => (self.in_text, self.escaped) = (false, false),
            _ if self.escaped => {
                self.escaped = false;
                self.put(byte);
            }
            b'\\' => {
                self.escaped = true;
                self.put(byte);
            }
            b'"' => {
                self.in_text = false;
                if std::mem::take(&mut self.expects) {
                    self.value();
                } else {
                    self.ended = !self.is_long;
                }
            }
            _ => self.put(byte),
        }
    }

    fn put(&mut self, byte: u8) {
        if self.text.len() < LONGEST_NAME {
            self.text.push(byte)
        } else {
            self.is_long = true
        }
    }

    /// A text is the value of the key.
    fn value(&mut self) {
        if CONTENT.contains(&&self.key[..]) && !self.text.is_empty() {
            self.found.content = true;
        }
        self.found.done |= self.key == b"type" && ENDS.contains(&&self.text[..]);
        if self.key == b"model"
            && self.found.model.is_empty()
            && self.depth <= DEEPEST_MODEL
            && !self.is_long
        {
            self.found.model = String::from_utf8_lossy(&self.text).into_owned();
        }
        self.text.clear();
    }

    fn end_object(&mut self) {
        let Some((kept, depth, is_error)) = self.kept.take() else {
            return;
        };
        if self.depth > depth {
            self.kept = Some((kept, depth, is_error));
        } else if kept.len() >= LONGEST_OBJECT {
            // It was not kept whole.
        } else if is_error {
            if self.found.error.is_empty() {
                self.found.error = kept;
            }
        } else if self.found.usages.len() < USAGES {
            self.found.usages.push(kept);
        } else if let Some(last) = self.found.usages.last_mut() {
            *last = kept;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(pieces: &[&str]) -> Found {
        let mut scanner = Scanner::default();
        pieces
            .iter()
            .for_each(|piece| scanner.look(piece.as_bytes()));
        scanner.found
    }

    fn usage(text: &str) -> Vec<Vec<u8>> {
        vec![text.as_bytes().to_vec()]
    }

    #[test]
    fn usage_and_model_are_found_wherever_the_pieces_are_cut() {
        let body = r#"{"id":"x","model":"gpt-4o","choices":[{"message":{"role":"assistant","content":"\"usage\":{\"prompt_tokens\":9}, \\"}}],"usage":{"prompt_tokens":1,"d":{"cached_tokens":2}}}"#;
        for cut in 0..body.len() {
            let found = found(&[&body[..cut], &body[cut..]]);
            assert_eq!(
                (found.model.as_str(), found.content),
                ("gpt-4o", true),
                "{cut}"
            );
            assert_eq!(
                found.usages,
                usage(r#"{"prompt_tokens":1,"d":{"cached_tokens":2}}"#),
                "{cut}"
            );
        }
        let pretty = "{\n  \"model\" : \"m\",\n\n  \"stream\": true,\n  \"usage\" :\n {\"total_tokens\": 3}\n}";
        let found = found(&[pretty]);
        assert_eq!(
            (found.model.as_str(), found.streams, found.usages),
            ("m", true, usage("{\"total_tokens\": 3}"))
        );
    }

    #[test]
    fn events_of_a_stream_are_read_one_by_one() {
        let mut scanner = Scanner::new(true);
        scanner.look(b": keep-alive \"\n\ndata: {\"model\":\"m\",\"choices\":[{\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}\n\n");
        assert!(!scanner.found.content, "an empty text is no content");
        scanner.look(b"data: {\"choices\":[{\"delta\":{\"content\":\"Hi\"}}],\"usage\":null}\n\n");
        assert!(std::mem::take(&mut scanner.found.content));
        scanner.look(b"data: {\"broken\n\ndata: {\"choices\":[],\"usage\":{\"prompt_tokens\":5}}\n\ndata: [DONE]\n\n");
        assert_eq!(scanner.found.usages, usage("{\"prompt_tokens\":5}"));
        scanner.look(b"event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\"}}\n\n");
        assert_eq!(scanner.found.error, b"{\"type\":\"overloaded_error\"}");
        assert_eq!(
            (scanner.found.model.as_str(), scanner.found.done),
            ("m", true)
        );
    }

    #[test]
    fn nothing_is_held_of_what_is_long_or_no_json() {
        let mut scanner = Scanner::default();
        for _ in 0..1000 {
            scanner.look(format!("{{\"usage\":{{\"{}", "x".repeat(5000)).as_bytes());
            scanner.look(&[0xff; 100]);
        }
        assert!(scanner.text.capacity() + scanner.key.capacity() < 4 * LONGEST_NAME);
        assert!(
            scanner
                .kept
                .as_ref()
                .is_none_or(|(kept, _, _)| kept.len() <= LONGEST_OBJECT)
        );
        scanner.look("\n\n".repeat(3).as_bytes());
        let mut deep = Scanner::default();
        deep.look(&vec![b'['; 1 << 20]);
        assert_eq!(deep.found, Found::default());
    }
}
