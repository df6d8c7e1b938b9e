//! The probes that cost nothing: the list of models, the account balance.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::http::{Client, HeaderMap, HttpError, Request, Response, within};
use url::Url;

use super::Settings;
use super::errors::{ErrorType, classify};
use super::provider::BalanceForm;
use super::stream::has_content;

/// Most models that are counted and compared.
const MAX_MODELS: usize = 10_000;
/// Greatest answer that is read, in bytes.
const MAX_ANSWER: usize = 10 << 20;

/// What a free probe found.
pub struct FreeOutcome<T> {
    /// The finding or the kind of failure.
    pub result: Result<T, ErrorType>,
    /// Status code, if there was an answer.
    pub status: Option<u16>,
    /// Headers of the answer.
    pub headers: HeaderMap,
    /// Request sent to last byte.
    pub duration: Duration,
    /// Request sent to the head of the answer.
    pub first_byte: Option<Duration>,
}

/// The account's state at DeepSeek.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Balance {
    /// `is_available`: can be false with money left.
    pub available: bool,
    /// Currency, kind (`total`, `granted`, `topped_up`), amount in units of the currency.
    pub amounts: Vec<(String, &'static str, f64)>,
}

/// Lists the models' identifiers.
pub async fn list_models(settings: &Settings) -> FreeOutcome<Vec<String>> {
    get(settings, "models", |json| {
        let items = json
            .get("data")
            .or_else(|| json.get("models"))
            .unwrap_or(json)
            .as_array()?;
        let name = |item: &Value| {
            item.get("id")
                .or_else(|| item.get("name"))
                .and_then(Value::as_str)
                .map(str::to_owned)
        };
        Some(items.iter().take(MAX_MODELS).filter_map(name).collect())
    })
    .await
}

/// Reads the balance; only for providers with a balance path.
pub async fn balance(settings: &Settings) -> FreeOutcome<Balance> {
    let (path, form) = settings
        .provider
        .balance
        .unwrap_or(("", BalanceForm::DeepSeek));
    get(settings, path, |json| read_balance(form, json)).await
}

/// Embeds a text: the dimension of what comes. It costs the text's few tokens.
pub async fn embed(settings: &Settings, model: &str, text: &str) -> FreeOutcome<usize> {
    let body = serde_json::json!({"model": model, "input": text});
    let request = Request::post_json(settings.url("embeddings"), &body, settings.timeout);
    ask(settings, request, |json| {
        let numbers = json["data"].get(0)?["embedding"].as_array()?;
        (!numbers.is_empty() && numbers.iter().all(Value::is_number)).then_some(numbers.len())
    })
    .await
}

/// What a page of incidents says: `none`, `minor`, `major`, `critical`, `maintenance`.
pub async fn incidents(settings: &Settings, page: &Url) -> Option<String> {
    // Without the provider's key: the page is another server's.
    let request = Request::get(page.clone(), settings.timeout);
    let answer = Client::plain().send(request).await.ok()?;
    let json: Value = serde_json::from_slice(&answer.body).ok()?;
    json["status"]["indicator"].as_str().map(str::to_owned)
}

async fn get<T>(
    settings: &Settings,
    path: &str,
    read: impl FnOnce(&Value) -> Option<T>,
) -> FreeOutcome<T> {
    ask(
        settings,
        Request::get(settings.url(path), settings.timeout),
        read,
    )
    .await
}

/// Sends a request; also says when the head of the answer came.
async fn timed(
    client: &Client,
    request: Request,
    first_byte: &mut Option<Duration>,
) -> Result<Response, HttpError> {
    let (started, timeout, most) = (Instant::now(), request.timeout, request.max_body);
    let whole = async {
        let mut incoming = client.start(request).await?;
        *first_byte = Some(started.elapsed());
        let body = incoming.read(bytes::BytesMut::new(), most).await?;
        Ok(Response {
            status: incoming.status,
            headers: incoming.headers.clone(),
            body,
        })
    };
    within(timeout, whole).await
}

async fn ask<T>(
    settings: &Settings,
    mut request: Request,
    read: impl FnOnce(&Value) -> Option<T>,
) -> FreeOutcome<T> {
    let started = Instant::now();
    request.max_body = MAX_ANSWER;
    request.headers.extend(settings.headers.clone());
    let mut first_byte = None;
    let answer = timed(&settings.client, request, &mut first_byte).await;
    let duration = started.elapsed();
    match answer {
        Err(error) => FreeOutcome {
            first_byte,
            result: Err(ErrorType::from(&error)),
            status: None,
            headers: HeaderMap::new(),
            duration,
        },
        Ok(response) => {
            let json = serde_json::from_slice::<Value>(&response.body).ok();
            let good = (200..300).contains(&response.status)
                && json
                    .as_ref()
                    .is_some_and(|j| !j.get("error").is_some_and(has_content));
            let found = if good {
                json.as_ref().and_then(read)
            } else {
                None
            };
            let result = found.ok_or_else(|| {
                match classify(
                    response.status,
                    &response.body,
                    settings.provider.quota_is_rate,
                ) {
                    // A list of models cannot miss a model: the base URL is wrong.
                    ErrorType::ModelNotFound => ErrorType::InvalidResponse,
                    other => other,
                }
            });
            FreeOutcome {
                first_byte,
                result,
                status: Some(response.status),
                headers: response.headers,
                duration,
            }
        }
    }
}

/// A number, or a text that is one.
fn amount(value: &Value) -> Option<f64> {
    value.as_f64().or_else(|| value.as_str()?.parse().ok())
}

fn read_balance(form: BalanceForm, json: &Value) -> Option<Balance> {
    let data = &json["data"];
    // Three amounts in one currency, the first of them all there is.
    let of = |currency: &str, keys: [&str; 3]| {
        let total = amount(&data[keys[0]])?;
        let kinds = ["total", "granted", "topped_up"];
        let amounts = kinds.iter().zip(keys).filter_map(|(kind, key)| {
            let value = amount(data.get(key)?)?;
            Some((currency.to_owned(), *kind, value))
        });
        Some(Balance {
            available: total > 0.0,
            amounts: amounts.collect(),
        })
    };
    match form {
        BalanceForm::Moonshot => of(
            "CNY",
            ["available_balance", "voucher_balance", "cash_balance"],
        ),
        BalanceForm::SiliconFlow => of("CNY", ["totalBalance", "balance", "chargeBalance"]),
        BalanceForm::OpenRouter => {
            let left = data.get("limit_remaining")?;
            let amounts = amount(left).map(|value| ("USD".to_owned(), "total", value));
            Some(Balance {
                available: amounts.as_ref().is_none_or(|(_, _, left)| *left > 0.0),
                amounts: amounts.into_iter().collect(),
            })
        }
        BalanceForm::DeepSeek => deepseek(json),
    }
}

/// DeepSeek writes amounts as text.
fn deepseek(json: &Value) -> Option<Balance> {
    let mut balance = Balance {
        available: json.get("is_available")?.as_bool()?,
        amounts: Vec::new(),
    };
    for info in json.get("balance_infos")?.as_array()?.iter().take(10) {
        let currency = info.get("currency")?.as_str()?;
        for (key, kind) in [
            ("total_balance", "total"),
            ("granted_balance", "granted"),
            ("topped_up_balance", "topped_up"),
        ] {
            if let Some(value) = info.get(key).and_then(amount) {
                balance.amounts.push((currency.to_owned(), kind, value));
            }
        }
    }
    Some(balance)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// DeepSeek's balance, whose amounts are text.
    #[test]
    fn balances_are_read_from_text_amounts() {
        let json: Value = serde_json::from_str(
            r#"{"is_available":false,"balance_infos":[{"currency":"CNY","total_balance":"110.00","granted_balance":"10.00","topped_up_balance":"100.00"}]}"#,
        )
        .expect("JSON");
        let balance = read_balance(BalanceForm::DeepSeek, &json).expect("a balance");
        assert!(!balance.available);
        assert_eq!(balance.amounts[0], ("CNY".to_owned(), "total", 110.0));
    }

    #[test]
    fn balances_of_other_forms_are_read() {
        let read = |form, text: &str| {
            let json: Value = serde_json::from_str(text).expect("JSON");
            read_balance(form, &json)
        };
        let moonshot = r#"{"code":0,"data":{"available_balance":49.5,"voucher_balance":46.5,"cash_balance":3.0},"status":true}"#;
        let moonshot = read(BalanceForm::Moonshot, moonshot).expect("a balance");
        assert_eq!(moonshot.amounts[2], ("CNY".to_owned(), "topped_up", 3.0));
        let silicon = r#"{"code":20000,"data":{"balance":"0.88","chargeBalance":"-1","totalBalance":"-0.12"}}"#;
        let silicon = read(BalanceForm::SiliconFlow, silicon).expect("a balance");
        assert!(!silicon.available);
        assert_eq!(silicon.amounts[0], ("CNY".to_owned(), "total", -0.12));
        // A key without a limit has no amount, and may be used.
        let open = read(
            BalanceForm::OpenRouter,
            r#"{"data":{"limit_remaining":null,"usage":3}}"#,
        );
        let open = open.expect("a balance");
        assert!(open.available && open.amounts.is_empty());
        let spent = read(BalanceForm::OpenRouter, r#"{"data":{"limit_remaining":0}}"#);
        assert!(!spent.expect("a balance").available);
        assert_eq!(read(BalanceForm::OpenRouter, r#"{"data":{}}"#), None);
    }
}
