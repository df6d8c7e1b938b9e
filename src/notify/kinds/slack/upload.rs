//! A file in a message's thread, in Slack's three steps
//! (<https://docs.slack.dev/messaging/working-with-files#upload>): ask for an upload URL, put the
//! file there, say that it is complete. The bot needs the scope `files:write`.

use bytes::Bytes;
use serde_json::{Value, json};
use url::Url;

use crate::http::{HeaderName, HeaderValue, Method, Request};

use super::{NotifyError, Reason, Slack, check_answer};

const CONTENT_TYPE: HeaderName = HeaderName::from_static("content-type");

/// The message that a file belongs to, as Slack named it.
pub(super) struct Thread<'a> {
    pub channel: &'a str,
    pub ts: &'a str,
}

impl Slack {
    /// Uploads a PNG into a thread.
    pub(super) async fn upload(&self, png: Vec<u8>, thread: Thread<'_>) -> Result<(), NotifyError> {
        let (get, complete) = match (
            self.method("files.getUploadURLExternal"),
            self.method("files.completeUploadExternal"),
        ) {
            (Some(get), Some(complete)) => (get, complete),
            // An address of somebody's own, where Slack's other methods are not to be found.
            _ => return Ok(()),
        };
        let upload = self
            .ask(form(
                get.clone(),
                &[
                    ("filename", "alert.png"),
                    ("length", &png.len().to_string()),
                ],
                self,
            ))
            .await?;
        let missing =
            || NotifyError::permanent(Reason::InvalidResponse, "the answer has no upload URL");
        let (url, file) = (
            upload["upload_url"].as_str().ok_or_else(missing)?,
            upload["file_id"].as_str().ok_or_else(missing)?,
        );
        let url = Url::parse(url).map_err(|_| missing())?;
        // Slack names another host for files; a plain connection is only for where the method
        // itself was asked.
        if url.scheme() != "https" && url.host() != get.host() {
            return Err(NotifyError::permanent(
                Reason::InvalidResponse,
                "the upload URL is not safe",
            ));
        }
        let mut put = Request::get(url, self.endpoint.timeout())
            .header(CONTENT_TYPE, HeaderValue::from_static("image/png"));
        (put.method, put.body) = (Method::POST, Bytes::from(png));
        self.endpoint.send(put).await?.accepted()?;
        let body = json!({"files": [{"id": file, "title": "alert"}], "channel_id": thread.channel, "thread_ts": thread.ts});
        self.ask(Request::post_json(complete, &body, self.endpoint.timeout()))
            .await
            .map(drop)
    }

    /// The address of another of Slack's methods.
    pub(super) fn method(&self, name: &str) -> Option<Url> {
        let mut url = self.url.clone()?;
        let path = url.path().strip_suffix("chat.postMessage")?.to_owned();
        url.set_path(&format!("{path}{name}"));
        Some(url)
    }

    /// Sends a request with the bot's token.
    pub(super) async fn ask(&self, mut request: Request) -> Result<Value, NotifyError> {
        if let Some(token) = &self.token {
            request = request.header(HeaderName::from_static("authorization"), token.clone());
        }
        check_answer(self.endpoint.send(request).await?)
    }
}

fn form(url: Url, fields: &[(&str, &str)], slack: &Slack) -> Request {
    let body = url::form_urlencoded::Serializer::new(String::new())
        .extend_pairs(fields)
        .finish();
    let kind = HeaderValue::from_static("application/x-www-form-urlencoded");
    let mut request = Request::get(url, slack.endpoint.timeout()).header(CONTENT_TYPE, kind);
    (request.method, request.body) = (Method::POST, Bytes::from(body));
    request
}
