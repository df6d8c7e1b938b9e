//! The section `retrieval`.

use std::time::Duration;

use url::Url;

use crate::config::{Secret, Section};
use crate::http::{Client, HeaderMap, HeaderName, HeaderValue, HttpConfig};

use crate::collectors::json_api::Path;

/// Most questions of one target, and most fixed texts.
const MAX_QUESTIONS: usize = 50;
const MAX_TEXTS: usize = 20;

/// What is asked, and what must come.
#[derive(Clone, Debug)]
pub struct Question {
    /// For people: a label.
    pub name: String,
    /// What is asked.
    pub text: String,
    /// A part of the source that must be among the answer's.
    pub expect: String,
    /// A text that the answer must hold.
    pub must_contain: Option<String>,
}

/// Where texts are embedded.
#[derive(Clone)]
pub struct Embeddings {
    /// `…/v1/embeddings`, of OpenAI's form.
    pub url: Url,
    /// The model.
    pub model: String,
    /// Headers that carry the key.
    pub headers: HeaderMap,
    /// The fixed set.
    pub texts: Vec<String>,
    /// Time between two looks at it.
    pub interval: Duration,
}

/// What the collector does.
pub struct Settings {
    /// Where questions are asked.
    pub url: Url,
    /// The body, `{question}` and `{vector}` in it replaced.
    pub body: String,
    /// The parameter of the URL that carries the question, instead of a body.
    pub parameter: Option<String>,
    /// Headers beside those of the HTTP settings.
    pub headers: HeaderMap,
    /// Where the sources are in the answer; the usual places without it.
    pub sources: Option<Path>,
    /// Sources of an answer that count.
    pub max_rank: usize,
    /// Time between two rounds.
    pub interval: Duration,
    /// Deadline of a question.
    pub timeout: Duration,
    /// What is asked.
    pub questions: Vec<Question>,
    /// Where texts are embedded.
    pub embeddings: Option<Embeddings>,
    /// The client.
    pub client: Client,
}

impl Settings {
    /// Reads the section; mistakes are recorded there.
    pub fn read(section: &Section<'_>) -> Self {
        let url = section.get::<Url>("url");
        if url.is_none() && section.node("url").is_none() {
            section.error(
                "url",
                "key \"url\" is missing",
                "add url: http://HOST/search",
            );
        }
        let http = HttpConfig::read(section);
        let client = Client::or_plain(Client::keeping_body(&http), section);
        let mut headers = HeaderMap::new();
        if let Some(key) = section.secret("api_key") {
            bearer(section, "api_key", &key, &mut headers);
        }
        let sources = section.get::<String>("sources").and_then(|text| {
            Path::parse(&text)
                .map_err(|(problem, remedy)| section.error("sources", problem, remedy))
                .ok()
        });
        let questions = questions(section);
        let embeddings = section
            .section("embeddings")
            .map(|section| Embeddings::read(&section));
        let body = section.or("body", r#"{"question": {question}}"#.to_owned());
        if body.contains("{vector}") && embeddings.is_none() {
            section.error(
                "body",
                "asks for {vector}, and nothing embeds the question",
                "add the block embeddings",
            );
        }
        if serde_json::from_str::<serde_json::Value>(&filled(&body, "\"", Some(&[0.5]))).is_err() {
            section.error(
                "body",
                "is no JSON when {question} is replaced by a quoted text",
                "write {\"query\": {question}}, without quotes around {question}",
            );
        }
        Settings {
            url: url.unwrap_or_else(|| Url::parse("http://127.0.0.1/").expect("a URL")),
            body,
            parameter: section.get("parameter"),
            headers,
            sources,
            max_rank: section.or("max_rank", 10),
            interval: section.or("ask_interval", Duration::from_secs(600)),
            timeout: section.or("ask_timeout", Duration::from_secs(60)),
            questions,
            embeddings,
            client,
        }
    }
}

/// The body of a question: texts are quoted as JSON has them.
pub fn filled(body: &str, question: &str, vector: Option<&[f64]>) -> String {
    let vector = serde_json::json!(vector.unwrap_or_default()).to_string();
    // The question last: what stands in it is not replaced.
    body.replace("{vector}", &vector)
        .replace("{question}", &serde_json::Value::from(question).to_string())
}

fn bearer(section: &Section<'_>, name: &str, key: &Secret, headers: &mut HeaderMap) {
    match HeaderValue::from_str(&format!("Bearer {}", key.expose())) {
        Ok(mut value) => {
            value.set_sensitive(true);
            headers.insert(HeaderName::from_static("authorization"), value);
        }
        Err(_) => section.error(
            name,
            "holds characters that a header cannot carry",
            "check for a line break at the end of the key",
        ),
    }
}

/// `question` with `expect_source`, or a list of `questions`.
fn questions(section: &Section<'_>) -> Vec<Question> {
    let one = |section: &Section<'_>, name: Option<String>| {
        let text = section.require::<String>("question");
        let question = Question {
            name: name.unwrap_or_else(|| text.chars().take(60).collect()),
            expect: section.require("expect_source"),
            must_contain: section.get("must_contain"),
            text,
        };
        if question.expect.is_empty() && section.node("expect_source").is_some() {
            section.error("expect_source", "is empty", "name a part of the source");
        }
        question
    };
    let listed: Vec<Question> = section
        .sections("questions")
        .iter()
        .map(|section| {
            let question = one(section, section.get("name"));
            section.finish();
            question
        })
        .collect();
    let single = section.node("question").is_some() || listed.is_empty();
    let mut all: Vec<Question> = single.then(|| one(section, None)).into_iter().collect();
    all.extend(listed);
    if all.len() > MAX_QUESTIONS {
        section.error(
            "questions",
            format!("are more than {MAX_QUESTIONS}"),
            "split them over several entries",
        );
        all.truncate(MAX_QUESTIONS);
    }
    let mut names: Vec<&str> = all.iter().map(|q| q.name.as_str()).collect();
    names.sort_unstable();
    if names.windows(2).any(|pair| pair[0] == pair[1]) {
        section.error("questions", "have the same name twice", "give each a name");
    }
    all
}

impl Embeddings {
    fn read(section: &Section<'_>) -> Self {
        let mut headers = HeaderMap::new();
        if let Some(key) = section.secret("api_key") {
            bearer(section, "api_key", &key, &mut headers);
        }
        let url = section.get::<Url>("url");
        if url.is_none() && section.node("url").is_none() {
            section.error(
                "url",
                "key \"url\" is missing",
                "add url: https://api.openai.com/v1/embeddings",
            );
        }
        let embeddings = Embeddings {
            url: url.unwrap_or_else(|| Url::parse("http://127.0.0.1/").expect("a URL")),
            model: section.require("model"),
            headers,
            texts: section.or("texts", Vec::new()),
            interval: section.or("interval", Duration::from_secs(3600)),
        };
        if embeddings.texts.len() > MAX_TEXTS {
            section.error(
                "texts",
                format!("are more than {MAX_TEXTS}"),
                "a few show a change of the model",
            );
        }
        section.finish();
        embeddings
    }
}
