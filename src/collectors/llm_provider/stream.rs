//! Server-sent events of a streamed answer, and what they say: content, usage, end, error.
//!
//! Keep-alive comments, empty lines, role-only chunks and pings are not content: a server can send
//! them for minutes.

use serde_json::Value;

use super::provider::StreamForm;

/// Longest line that is read, in bytes.
const MAX_LINE: usize = 1 << 20;
/// Most of an answer that is looked at for what it must hold, in bytes.
const MAX_TEXT: usize = 64 << 10;

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

/// Token counts that the provider stated; absent where it did not.
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
    /// Whether there is an answer: content came, or the cap on its length was reached before.
    pub brought: bool,
    /// The answer's text so far; it goes with the reader.
    pub text: String,
    /// The tool that is called, and the arguments so far.
    pub call: Option<(String, String)>,
}

impl StreamReader {
    /// A reader for this form.
    pub fn new(form: StreamForm) -> Self {
        StreamReader {
            form,
            line: Vec::new(),
            usage: Usage::default(),
            finished: false,
            brought: false,
            text: String::new(),
            call: None,
        }
    }

    /// Takes bytes as they arrive; answers with what they meant. Errs when a line is too long or
    /// not JSON.
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
        let Some(data) = line.strip_prefix(b"data:").map(<[u8]>::trim_ascii) else {
            return Ok(());
        };
        if data.starts_with(b"[DONE]") {
            pieces.push(Piece::End);
            return Ok(());
        }
        let json: Value =
            serde_json::from_slice(data).map_err(|_| "a data line of the stream is not JSON")?;
        if json.get("error").is_some_and(has_content) {
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
            if has_content(&choice["error"]) || choice["finish_reason"] == "error" {
                let error = Some(&choice["error"])
                    .filter(|error| has_content(error))
                    .cloned();
                let error = error.unwrap_or_else(|| serde_json::json!({ "type": "server_error" }));
                pieces.push(Piece::Error(
                    serde_json::json!({ "error": error }).to_string(),
                ));
                return;
            }
            for message in [&choice["delta"], &choice["message"]] {
                self.hear(&message["content"]);
                for call in message["tool_calls"].as_array().into_iter().flatten() {
                    let function = &call["function"];
                    self.hear_call(&function["name"], function["arguments"].as_str());
                }
            }
            let said = |message: &Value| ANSWERS.iter().any(|key| has_content(&message[key]));
            if said(&choice["delta"]) || said(&choice["message"]) || has_content(&choice["text"]) {
                self.brought = true;
                pieces.push(Piece::Content);
            }
            self.end(&choice["finish_reason"]);
        }
    }

    fn hear(&mut self, text: &Value) {
        let text = text.as_str().unwrap_or_default();
        if self.text.len() + text.len() <= MAX_TEXT {
            self.text.push_str(text);
        }
    }

    /// Takes a part of a call: its name, or a piece of its arguments.
    fn hear_call(&mut self, name: &Value, arguments: Option<&str>) {
        let call = self.call.get_or_insert_default();
        if let Some(name) = name.as_str() {
            name.clone_into(&mut call.0);
        }
        let arguments = arguments.unwrap_or_default();
        if call.1.len() + arguments.len() <= MAX_TEXT {
            call.1.push_str(arguments);
        }
    }

    /// Takes the reason for which the answer ended. One that was cut at the cap is an answer: a
    /// model may think up to there.
    fn end(&mut self, reason: &Value) {
        let Some(reason) = reason.as_str() else {
            return;
        };
        self.finished = true;
        self.brought |= matches!(
            reason.to_ascii_lowercase().as_str(),
            "length" | "max_tokens" | "refusal"
        );
    }

    /// Reads an answer that came in one piece.
    pub fn take_whole(&mut self, json: &Value) -> Vec<Piece> {
        let mut pieces = Vec::new();
        match self.form {
            StreamForm::OpenAi => self.openai(json, &mut pieces),
            StreamForm::Anthropic => {
                keep(&mut self.usage.input, &json["usage"]["input_tokens"]);
                keep(&mut self.usage.output, &json["usage"]["output_tokens"]);
                self.brought |= json["content"]
                    .as_array()
                    .into_iter()
                    .flatten()
                    .any(is_block);
                self.end(&json["stop_reason"]);
                for block in json["content"].as_array().into_iter().flatten() {
                    self.hear(&block["text"]);
                    if block["type"] == "tool_use" {
                        self.hear_call(&block["name"], Some(&block["input"].to_string()));
                    }
                }
            }
        }
        pieces
    }

    /// Reads a `usage` object of OpenAI's form.
    fn take_openai_usage(&mut self, usage: &Value) {
        keep(&mut self.usage.input, &usage["prompt_tokens"]);
        keep(&mut self.usage.output, &usage["completion_tokens"]);
        keep(
            &mut self.usage.reasoning,
            &usage["completion_tokens_details"]["reasoning_tokens"],
        );
    }

    fn anthropic(&mut self, json: &Value, pieces: &mut Vec<Piece>) {
        let block = &json["content_block"];
        if block["type"] == "tool_use" {
            self.hear_call(&block["name"], None);
        }
        if let Some(arguments) = json["delta"]["partial_json"].as_str() {
            self.hear_call(&Value::Null, Some(arguments));
        }
        self.hear(&block["text"]);
        self.hear(&json["delta"]["text"]);
        match json["type"].as_str().unwrap_or("") {
            "message_start" => {
                keep(
                    &mut self.usage.input,
                    &json["message"]["usage"]["input_tokens"],
                );
                keep(
                    &mut self.usage.output,
                    &json["message"]["usage"]["output_tokens"],
                );
            }
            "content_block_delta"
                if ["text", "thinking", "partial_json"]
                    .iter()
                    .any(|key| has_content(&json["delta"][key])) =>
            {
                self.brought = true;
                pieces.push(Piece::Content);
            }
            "content_block_start" if is_block(&json["content_block"]) => {
                self.brought = true;
                pieces.push(Piece::Content);
            }
            "message_delta" => {
                keep(&mut self.usage.output, &json["usage"]["output_tokens"]);
                self.end(&json["delta"]["stop_reason"]);
            }
            "message_stop" => pieces.push(Piece::End),
            _ => {}
        }
    }
}

fn keep(position: &mut Option<u64>, value: &Value) {
    if let Some(number) = value.as_u64() {
        *position = Some(number);
    }
}

/// Where the answer may stand in a message of OpenAI's form, and of those who extend it.
const ANSWERS: [&str; 8] = [
    "content",
    "reasoning_content",
    "reasoning",
    "reasoning_details",
    "refusal",
    "tool_calls",
    "function_call",
    "audio",
];

/// Whether a block of Anthropic's form holds something already where it begins.
fn is_block(block: &Value) -> bool {
    let kind = block["type"].as_str().unwrap_or("");
    has_content(&block["text"])
        || has_content(&block["thinking"])
        || kind.ends_with("tool_use")
        || kind == "redacted_thinking"
}

/// Whether there is something, as the official clients ask: `null`, `false`, 0 and what is empty
/// are nothing.
pub fn has_content(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(value) => *value,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(fields) => !fields.is_empty(),
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
        assert_eq!(
            typed.feed(b"event: ping\ndata: {\"type\": \"ping\"}\n\n"),
            Ok(vec![])
        );
    }

    #[test]
    fn content_split_between_reads_is_put_together() {
        let mut reader = StreamReader::new(StreamForm::OpenAi);
        assert_eq!(
            reader.feed(b"data: {\"choices\":[{\"delta\":{\"conte"),
            Ok(vec![])
        );
        assert_eq!(
            reader.feed(b"nt\":\"hi\"}}]}\n\ndata: [DO"),
            Ok(vec![Piece::Content])
        );
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
            assert_eq!(
                reader.usage,
                Usage {
                    input: Some(8),
                    output: Some(5),
                    reasoning: Some(3)
                }
            );
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
