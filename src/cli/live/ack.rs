//! `nightbell ack`: says that somebody takes an alert on, so that no further contact is notified.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use url::Url;

use super::server::{authorize, send, token_missing};
use crate::cli::terminal::{complain, say};
use crate::http::Request;
use crate::model::text::visible;

/// Which alerts, and who.
#[derive(Args)]
pub struct AckArgs {
    /// The alert's name
    alert: String,
    /// Labels that it must have
    #[arg(value_name = "LABEL=VALUE", value_parser = label)]
    labels: Vec<(String, String)>,
    /// Who takes it on
    #[arg(long, env = "USER", default_value = "cli")]
    by: String,
    /// The running nightbell
    #[arg(long, default_value = "http://127.0.0.1:9908", env = "NIGHTBELL_URL")]
    url: Url,
    /// The token of web.admin_token
    #[arg(long, env = "NIGHTBELL_ADMIN_TOKEN", hide_env_values = true)]
    admin_token: Option<String>,
}

fn label(text: &str) -> Result<(String, String), String> {
    text.split_once('=')
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .ok_or_else(|| "give LABEL=VALUE".into())
}

/// Exit status 0 when at least one alert was acknowledged.
pub async fn ack(args: &AckArgs) -> ExitCode {
    let mut labels: BTreeMap<&str, &str> = args
        .labels
        .iter()
        .map(|(n, v)| (n.as_str(), v.as_str()))
        .collect();
    labels.insert("alertname", &args.alert);
    let mut url = args.url.clone();
    url.set_path("/api/v1/acknowledge");
    let mut request = Request::post_json(
        url,
        &serde_json::json!({"labels": labels, "by": args.by}),
        Duration::from_secs(10),
    );
    if let Err(error) = authorize(&mut request, args.admin_token.as_deref()) {
        complain!("nightbell: {error}");
        return ExitCode::from(2);
    }
    let response = match send(request).await {
        Ok(response) => response,
        Err(error) => {
            complain!("nightbell: {error}");
            return ExitCode::FAILURE;
        }
    };
    if response.status != 200 {
        complain!(
            "nightbell: {}{}",
            visible(response.text().trim()),
            token_missing(response.status, args.admin_token.as_deref())
        );
        return ExitCode::FAILURE;
    }
    let json: serde_json::Value = serde_json::from_slice(&response.body).unwrap_or_default();
    for alert in json["data"]["alerts"].as_array().into_iter().flatten() {
        say!(
            "acknowledged by {}: {}",
            args.by,
            visible(alert.as_str().unwrap_or_default())
        );
    }
    ExitCode::SUCCESS
}
