//! Server-sent events of a streamed answer, and what they say: content, usage, end, error.
//!
//! Keep-alive comments, empty lines, role-only chunks and pings are not content: a server can send them for minutes.

use serde_json::Value;

use super::provider::StreamForm;

/// Longest line that is read, in bytes.
const MAX_LINE: usize = 1 << 20;

/// What a piece of the stream meant.
#[derive(Debug, PartialEq)]
pub enum Piece {
    /// Text, reasoning or a tool call.
    Content,
    /// The stream's end mark.
    End,
    /// An error event inside the stream, as JSON.
    Error(String),
}

/// Token counts that the provider told; absent where it did not.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Usage {
    /// Prompt tokens.
    pub input: Option<u64>,
    /// Answer tokens, reasoning included.
    pub output: Option<u64>,
    /// Reasoning tokens, part of the output.
    pub reasoning: Option<u64>,
}

/// Reads a stream piece by piece.
#[derive(Debug)]
pub struct StreamReader {
    form: StreamForm,
    line: Vec<u8>,
    /// Usage seen so far.
    pub usage: Usage,
    /// Whether the model said that it was done (`finish_reason`, `stop_reason`).
    pub finished: bool,
}

impl StreamReader {
    /// A reader for this form.
    pub fn new(form: StreamForm) -> Self {
        StreamReader { form, line: Vec::new(), usage: Usage::default(), finished: false }
    }

    /// Takes bytes as they arrive; answers with what they meant. Errs when a line is too long or not JSON.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<Vec<Piece>, &'static str> {
        let mut pieces = Vec::new();
        for part in bytes.split_inclusive(|b| *b == b'\n') {
            self.line.extend_from_slice(part);
            if self.line.len() > MAX_LINE {
                return Err("a line of the stream is longer than 1 MiB");
            }
            if part.ends_with(b"\n") {
                let line = std::mem::take(&mut self.line);
                self.read_line(line.trim_ascii(), &mut pieces)?;
            }
        }
        Ok(pieces)
    }

    fn read_line(&mut self, line: &[u8], pieces: &mut Vec<Piece>) -> Result<(), &'static str> {
        let Some(data) = line.strip_prefix(b"data:").map(<[u8]>::trim_ascii) else { return Ok(()) };
        if data == b"[DONE]" {
            pieces.push(Piece::End);
            return Ok(());
        }
        let json: Value = serde_json::from_slice(data).map_err(|_| "a data line of the stream is not JSON")?;
        if json.get("error").is_some_and(|e| !e.is_null()) {
            pieces.push(Piece::Error(json.to_string()));
            return Ok(());
        }
        match self.form {
            StreamForm::OpenAi => self.openai(&json, pieces),
            StreamForm::Anthropic => self.anthropic(&json, pieces),
        }
        Ok(())
    }

    fn openai(&mut self, json: &Value, pieces: &mut Vec<Piece>) {
        // The usage chunk may come with an empty list of choices, or with one whose delta is empty.
        self.take_openai_usage(&json["usage"]);
        for choice in json["choices"].as_array().into_iter().flatten() {
            if ["content", "reasoning_content", "reasoning", "tool_calls"].iter().any(|key| has_content(&choice["delta"][key])) {
                pieces.push(Piece::Content);
            }
            self.finished |= choice["finish_reason"].is_string();
        }
    }

    /// Reads a `usage` object of OpenAI's form.
    pub fn take_openai_usage(&mut self, usage: &Value) {
        keep(&mut self.usage.input, &usage["prompt_tokens"]);
        keep(&mut self.usage.output, &usage["completion_tokens"]);
        keep(&mut self.usage.reasoning, &usage["completion_tokens_details"]["reasoning_tokens"]);
    }

    fn anthropic(&mut self, json: &Value, pieces: &mut Vec<Piece>) {
        match json["type"].as_str().unwrap_or("") {
            "message_start" => {
                keep(&mut self.usage.input, &json["message"]["usage"]["input_tokens"]);
                keep(&mut self.usage.output, &json["message"]["usage"]["output_tokens"]);
            }
            "content_block_delta" if ["text", "thinking", "partial_json"].iter().any(|key| has_content(&json["delta"][key])) => {
                pieces.push(Piece::Content);
            }
            "message_delta" => {
                keep(&mut self.usage.output, &json["usage"]["output_tokens"]);
                self.finished |= json["delta"]["stop_reason"].is_string();
            }
            "message_stop" => pieces.push(Piece::End),
            _ => {}
        }
    }
}

fn keep(place: &mut Option<u64>, value: &Value) {
    if let Some(number) = value.as_u64() {
        *place = Some(number);
    }
}

fn has_content(value: &Value) -> bool {
    match value {
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn role_chunks_comments_and_pings_are_not_content() {
        let mut reader = StreamReader::new(StreamForm::OpenAi);
        let quiet = b": keep-alive\r\n\r\n\n data\ndata: {\"choices\":[{\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}\n\n";
        assert_eq!(reader.feed(quiet), Ok(vec![]));
        let mut typed = StreamReader::new(StreamForm::Anthropic);
        assert_eq!(typed.feed(b"event: ping\ndata: {\"type\": \"ping\"}\n\n"), Ok(vec![]));
    }

    #[test]
    fn content_split_between_reads_is_put_together() {
        let mut reader = StreamReader::new(StreamForm::OpenAi);
        assert_eq!(reader.feed(b"data: {\"choices\":[{\"delta\":{\"conte"), Ok(vec![]));
        assert_eq!(reader.feed(b"nt\":\"hi\"}}]}\n\ndata: [DO"), Ok(vec![Piece::Content]));
        assert_eq!(reader.feed(b"NE]\n"), Ok(vec![Piece::End]));
    }

    #[test]
    fn usage_comes_with_or_without_choices() {
        for choices in ["[]", r#"[{"delta":{}}]"#] {
            let mut reader = StreamReader::new(StreamForm::OpenAi);
            let line = format!(
                "data: {{\"choices\":{choices},\"usage\":{{\"prompt_tokens\":8,\"completion_tokens\":5,\"completion_tokens_details\":{{\"reasoning_tokens\":3}}}}}}\n"
            );
            assert_eq!(reader.feed(line.as_bytes()), Ok(vec![]));
            assert_eq!(reader.usage, Usage { input: Some(8), output: Some(5), reasoning: Some(3) });
        }
    }

    #[test]
    fn an_error_event_after_a_200_is_an_error() {
        let mut reader = StreamReader::new(StreamForm::Anthropic);
        let pieces = reader.feed(b"event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\"}}\n").expect("JSON");
        assert!(matches!(&pieces[..], [Piece::Error(text)] if text.contains("overloaded_error")));
    }

    #[test]
    fn an_endless_line_is_refused() {
        let mut reader = StreamReader::new(StreamForm::OpenAi);
        assert!((0..300).any(|_| reader.feed(&[b'x'; 8192]).is_err()));
    }
}
