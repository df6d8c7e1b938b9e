//! The probes that cost nothing: the list of models, the account balance.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::http::{HeaderMap, Request};

use super::Settings;
use super::errors::{ErrorType, classify};
use super::stream::has_content;

/// Most models that are counted and compared.
const MAX_MODELS: usize = 10_000;

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
    get(
        settings,
        settings.provider.balance_path.unwrap_or_default(),
        read_balance,
    )
    .await
}

async fn get<T>(
    settings: &Settings,
    path: &str,
    read: impl FnOnce(&Value) -> Option<T>,
) -> FreeOutcome<T> {
    let started = Instant::now();
    let mut request = Request::get(settings.url(path), settings.timeout);
    request.headers.extend(settings.headers.clone());
    let answer = settings.client.send(request).await;
    let duration = started.elapsed();
    match answer {
        Err(error) => FreeOutcome {
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
                result,
                status: Some(response.status),
                headers: response.headers,
                duration,
            }
        }
    }
}

/// DeepSeek writes amounts as text.
fn read_balance(json: &Value) -> Option<Balance> {
    let amount = |value: &Value| value.as_f64().or_else(|| value.as_str()?.parse().ok());
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
        let balance = read_balance(&json).expect("a balance");
        assert!(!balance.available);
        assert_eq!(balance.amounts[0], ("CNY".to_owned(), "total", 110.0));
    }
}
