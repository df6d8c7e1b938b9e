//! Twilio's Messages resource: one request for each recipient.
//! <https://www.twilio.com/docs/messaging/api/message-resource>.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use url::Url;

use crate::config::{Secret, Section};
use crate::http::{HeaderName, HeaderValue, Request};
use crate::notify::endpoint::{Answer, Endpoint};
use crate::notify::error::{NotifyError, Reason};
use crate::notify::message::cut_chars;
use crate::notify::notification::Notification;
use crate::notify::served::Served;

/// Longest body, in characters.
const MAX_BODY: usize = 1600;

pub(super) struct Twilio {
    url: Option<Url>,
    login: HeaderValue,
    /// `From` or `MessagingServiceSid`, and its value.
    sender: (&'static str, String),
}

impl Twilio {
    pub(super) fn read(section: &Section<'_>) -> Self {
        let account = section.require::<String>("account_sid");
        let user = section.or("api_key", account.clone());
        let password = section.secret("auth_token").unwrap_or_else(|| {
            section.error(
                "",
                "has neither auth_token nor auth_token_file",
                "add auth_token: …",
            );
            Secret::default()
        });
        let base = section
            .get::<Url>("api_url")
            .or_else(|| Url::parse("https://api.twilio.com").ok());
        let url = base.map(|mut url| {
            let path = format!(
                "{}/2010-04-01/Accounts/{account}/Messages.json",
                url.path().trim_end_matches('/')
            );
            url.set_path(&path);
            url
        });
        let sender = match (
            section.get::<String>("from"),
            section.get::<String>("messaging_service_sid"),
        ) {
            (Some(from), None) => ("From", from),
            (None, Some(service)) => ("MessagingServiceSid", service),
            _ => {
                section.error(
                    "",
                    "needs one of from and messaging_service_sid",
                    "add from: '+15005550006'",
                );
                ("From", String::new())
            }
        };
        let pair = STANDARD.encode(format!("{user}:{}", password.expose()));
        // Base64 is always a valid header.
        let mut login = HeaderValue::from_str(&format!("Basic {pair}")).expect("base64 is ASCII");
        login.set_sensitive(true);
        Twilio { url, login, sender }
    }

    /// Sends to each. A number that is refused is done with, unless all of them are; gives the
    /// first failure that another attempt may cure.
    pub(super) async fn send_each(
        &self,
        endpoint: &Endpoint,
        to: &[String],
        text: &str,
        served: &Served,
        n: &Notification,
    ) -> Result<(), NotifyError> {
        let text = cut_chars(text, MAX_BODY);
        let (mut refused, mut failure): (Vec<(&String, NotifyError)>, Option<NotifyError>) =
            (Vec::new(), None);
        for number in to {
            match self.send(endpoint, number, &text).await {
                Ok(()) => served.has_it(&n.delivery_id, number),
                Err(error) if !error.retryable && error.reason == Reason::Rejected => {
                    refused.push((number, error))
                }
                Err(error)
                    if failure
                        .as_ref()
                        .is_none_or(|f| error.retryable && !f.retryable) =>
                {
                    failure = Some(error)
                }
                Err(_) => {}
            }
        }
        if refused.len() == to.len()
            && let Some((_, error)) = refused.pop()
        {
            return Err(error);
        }
        for (number, error) in refused {
            served.is_refused(&n.delivery_id, number, &n.receiver, &error.message);
        }
        failure.map_or(Ok(()), Err)
    }

    async fn send(&self, endpoint: &Endpoint, to: &str, text: &str) -> Result<(), NotifyError> {
        let url = self
            .url
            .clone()
            .ok_or_else(|| NotifyError::permanent(Reason::Rejected, "no URL is configured"))?;
        let form = url::form_urlencoded::Serializer::new(String::new())
            .append_pair("To", to)
            .append_pair(self.sender.0, &self.sender.1)
            .append_pair("Body", text)
            .finish();
        let mut request = Request::post_json(url, &serde_json::Value::Null, endpoint.timeout())
            .header(
                HeaderName::from_static("content-type"),
                HeaderValue::from_static("application/x-www-form-urlencoded"),
            )
            .header(HeaderName::from_static("authorization"), self.login.clone());
        request.body = Bytes::from(form);
        check_answer(endpoint.send(request).await?)
    }
}

fn check_answer(answer: Answer) -> Result<(), NotifyError> {
    let json = answer.json();
    let code = json.as_ref().ok().and_then(|j| j["code"].as_i64());
    let answer = answer.accepted().map_err(|mut error| {
        if let Some(code) = code {
            error.message = format!("{}: code {code}", error.message);
            // Not processed, so it is safe to ask again.
            if code == 20_429 {
                error.reason = Reason::RateLimited;
                error.retryable = true;
            } else if code == 20_003 {
                error.reason = Reason::Auth;
            }
        }
        error
    })?;
    let accepted = answer.json()?;
    match accepted["status"].as_str() {
        Some("queued" | "accepted" | "scheduled" | "sending" | "sent" | "delivered")
            if accepted["sid"].is_string() =>
        {
            Ok(())
        }
        Some("failed" | "undelivered") => Err(NotifyError::permanent(
            Reason::Rejected,
            "Twilio could not send it",
        )),
        _ => Err(NotifyError::retryable(
            Reason::InvalidResponse,
            "the answer has no sid and status",
        )),
    }
}
