//! Aliyun's SendSms (version 2017-05-25), signed with ACS3-HMAC-SHA256.
//! <https://help.aliyun.com/zh/sms/developer-reference/api-dysmsapi-2017-05-25-sendsms>.
//!
//! Free text is impossible: `template_params` maps the variables of an approved template to texts;
//! without it, `content` is the built-in text.

use std::collections::BTreeMap;

use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};
use url::Url;

use crate::config::{Secret, Section};
use crate::http::{HeaderName, HeaderValue, Method, Request};
use crate::model::Timestamp;
use crate::model::text::hex;
use crate::notify::endpoint::{Endpoint, quotable};
use crate::notify::error::{NotifyError, Reason};
use crate::notify::field::{Field, Rendering};
use crate::notify::message::cut_chars;
use crate::notify::notification::Notification;

/// Longest value of a template's variable, in characters.
const MAX_VALUE: usize = 35;

pub(super) struct Aliyun {
    url: Option<Url>,
    key_id: String,
    secret: Secret,
    sign_name: String,
    template_code: String,
    params: Vec<(String, Field)>,
}

impl Aliyun {
    pub(super) fn read(section: &Section<'_>) -> Self {
        let secret = section.secret("access_key_secret").unwrap_or_else(|| {
            section.error(
                "",
                "has neither access_key_secret nor access_key_secret_file",
                "add access_key_secret: …",
            );
            Secret::default()
        });
        let params: BTreeMap<String, String> = section.get("template_params").unwrap_or_default();
        Aliyun {
            url: section
                .get::<Url>("api_url")
                .or_else(|| Url::parse("https://dysmsapi.aliyuncs.com/").ok()),
            key_id: section.require("access_key_id"),
            secret,
            sign_name: section.require("sign_name"),
            template_code: section.require("template_code"),
            params: params
                .into_iter()
                .map(|(name, text)| (name, Field::new(section, "template_params", text)))
                .collect(),
        }
    }

    /// One request for all recipients.
    pub(super) async fn send(
        &self,
        endpoint: &Endpoint,
        n: &Notification,
        rendering: &mut Rendering<'_>,
        to: &[String],
        text: &str,
    ) -> Result<(), NotifyError> {
        let url = self
            .url
            .clone()
            .ok_or_else(|| NotifyError::permanent(Reason::Rejected, "no URL is configured"))?;
        let short = |text: &str| Value::from(cut_chars(text, MAX_VALUE).into_owned());
        let mut params: Map<String, Value> = Map::new();
        for (name, field) in &self.params {
            params.insert(
                name.clone(),
                short(&rendering.text(Some(field), || text.to_owned())),
            );
        }
        if params.is_empty() {
            params.insert("content".into(), short(text));
        }
        let query = [
            ("OutId", n.delivery_id.as_str()),
            ("PhoneNumbers", &to.join(",")),
            ("SignName", &self.sign_name),
            ("TemplateCode", &self.template_code),
            ("TemplateParam", &Value::Object(params).to_string()),
        ];
        let date = Timestamp(Timestamp::now().0 / 1000 * 1000)
            .rfc3339()
            .replace(".000Z", "Z");
        let call = Call {
            action: "SendSms",
            version: "2017-05-25",
            date: &date,
            nonce: &nonce(n, &date),
            query: &query,
        };
        let request = call.request(url, &self.key_id, &self.secret, endpoint.timeout())?;
        let answer = endpoint.send(request).await?;
        let answered = answer.json();
        let code = answered
            .as_ref()
            .ok()
            .and_then(|json| json["Code"].as_str())
            .unwrap_or("")
            .to_owned();
        match code.as_str() {
            "OK" => answer.accepted().map(drop),
            "" => {
                answer.accepted()?;
                Err(NotifyError::retryable(
                    Reason::InvalidResponse,
                    "the answer has no Code",
                ))
            }
            code => Err(failure(code)),
        }
    }
}

/// What Aliyun's codes mean; everything it does not explain by load is permanent, because a message
/// could be sent twice.
fn failure(code: &str) -> NotifyError {
    let text = format!("answered {}", quotable(code));
    if code == "isv.BUSINESS_LIMIT_CONTROL" || code.starts_with("Throttling") {
        NotifyError::retryable(Reason::RateLimited, text)
    } else if matches!(
        code,
        "isp.SYSTEM_ERROR" | "isp.RAM_PERMISSION_DENY" | "InternalError" | "ServiceUnavailable"
    ) {
        let reason = if code == "isp.RAM_PERMISSION_DENY" {
            Reason::Auth
        } else {
            Reason::ServerError
        };
        NotifyError {
            retryable: reason == Reason::ServerError,
            ..NotifyError::permanent(reason, text)
        }
    } else if code.starts_with("InvalidAccessKeyId")
        || code.starts_with("SignatureDoesNotMatch")
        || code.starts_with("Forbidden")
    {
        NotifyError::permanent(Reason::Auth, text)
    } else {
        NotifyError::permanent(Reason::Rejected, text)
    }
}

/// A value that no other call of ours has: the delivery, the second, and a count would do, so their
/// hash does.
fn nonce(n: &Notification, date: &str) -> String {
    static CALLS: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
    let call = CALLS.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    hex(&Sha256::digest(format!(
        "{}{}{date}{}{call}",
        n.delivery_id,
        n.group_key,
        std::process::id()
    )))[..32]
        .to_owned()
}

/// One call of an Aliyun API in RPC style.
struct Call<'a> {
    action: &'a str,
    version: &'a str,
    date: &'a str,
    nonce: &'a str,
    /// Sorted by name.
    query: &'a [(&'a str, &'a str)],
}

impl Call<'_> {
    fn request(
        &self,
        mut url: Url,
        key_id: &str,
        secret: &Secret,
        timeout: std::time::Duration,
    ) -> Result<Request, NotifyError> {
        let host = match (url.host_str(), url.port()) {
            (Some(host), Some(port)) => format!("{host}:{port}"),
            (Some(host), None) => host.to_owned(),
            (None, _) => {
                return Err(NotifyError::permanent(
                    Reason::Rejected,
                    "the URL has no host",
                ));
            }
        };
        url.set_query(Some(&self.canonical_query()));
        let mut request = Request::get(url, timeout);
        request.method = Method::POST;
        let authorization = self.authorization(&host, key_id, secret);
        let headers = self.headers(&host);
        // The client writes `host` itself.
        for (name, value) in headers
            .iter()
            .filter(|(name, _)| *name != "host")
            .chain([&("authorization", authorization)])
        {
            let value = HeaderValue::from_str(value)
                .map_err(|_| NotifyError::permanent(Reason::Rejected, "a header cannot be made"))?;
            request = request.header(HeaderName::from_static(name), value);
        }
        Ok(request)
    }

    /// Sorted by name.
    fn headers(&self, host: &str) -> [(&'static str, String); 6] {
        [
            ("host", host.to_owned()),
            ("x-acs-action", self.action.to_owned()),
            ("x-acs-content-sha256", hex(&Sha256::digest(b""))),
            ("x-acs-date", self.date.to_owned()),
            ("x-acs-signature-nonce", self.nonce.to_owned()),
            ("x-acs-version", self.version.to_owned()),
        ]
    }

    fn canonical_query(&self) -> String {
        self.query
            .iter()
            .map(|(name, value)| format!("{}={}", percent(name), percent(value)))
            .collect::<Vec<_>>()
            .join("&")
    }

    /// SEMANTICS 229.
    fn authorization(&self, host: &str, key_id: &str, secret: &Secret) -> String {
        let headers = self.headers(host);
        let lines: String = headers
            .iter()
            .map(|(name, value)| format!("{name}:{value}\n"))
            .collect();
        let names = headers.each_ref().map(|(name, _)| *name).join(";");
        let canonical = format!(
            "POST\n/\n{}\n{lines}\n{names}\n{}",
            self.canonical_query(),
            hex(&Sha256::digest(b""))
        );
        let to_sign = format!(
            "ACS3-HMAC-SHA256\n{}",
            hex(&Sha256::digest(canonical.as_bytes()))
        );
        let mut mac = Hmac::<Sha256>::new_from_slice(secret.expose().as_bytes())
            .expect("HMAC takes keys of any length");
        mac.update(to_sign.as_bytes());
        format!(
            "ACS3-HMAC-SHA256 Credential={key_id},SignedHeaders={names},Signature={}",
            hex(&mac.finalize().into_bytes())
        )
    }
}

/// RFC 3986: all but letters, digits and `-_.~`.
fn percent(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of Aliyun's own documentation of the signature (version 3).
    #[test]
    fn the_signature_is_aliyuns() {
        let query = [
            (
                "ImageId",
                "win2019_1809_x64_dtc_zh-cn_40G_alibase_20230811.vhd",
            ),
            ("RegionId", "cn-shanghai"),
        ];
        let call = Call {
            action: "RunInstances",
            version: "2014-05-26",
            date: "2023-10-26T10:22:32Z",
            nonce: "3156853299f313e23d1673dc12e1703d",
            query: &query,
        };
        let got = call.authorization(
            "ecs.cn-shanghai.aliyuncs.com",
            "YourAccessKeyId",
            &Secret::new("YourAccessKeySecret"),
        );
        assert!(
            got.ends_with(
                "Signature=06563a9e1b43f5dfe96b81484da74bceab24a1d853912eee15083a6f0f3283c0"
            ),
            "{got}"
        );
        assert_eq!(percent("a b*~/中"), "a%20b%2A~%2F%E4%B8%AD");
    }
}
