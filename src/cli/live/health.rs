//! `nightbell health`: asks a running nightbell how everything is, for people, scripts and
//! containers.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use super::place::PlaceArgs;
use super::server::{authorize, send};
use crate::cli::terminal::{complain, say};
use crate::http::Request;
use crate::model::text::visible;

/// Whom to ask.
#[derive(Args)]
pub struct HealthArgs {
    #[command(flatten)]
    place: PlaceArgs,
}

/// Prints the health; exit status 1 when it is unhealthy or nobody answers.
pub async fn health(args: &HealthArgs, env_files: &[PathBuf]) -> ExitCode {
    let (place, token) = (&args.place, args.place.admin_token.as_deref());
    let mut url = match place.url(env_files) {
        Ok(url) => url,
        Err(error) => {
            complain!("nightbell: {error}");
            return ExitCode::from(2);
        }
    };
    url.set_path(if token.is_some() {
        "/health/detailed"
    } else {
        "/health"
    });
    let mut request = Request::get(url, Duration::from_secs(10));
    if let Err(error) = authorize(&mut request, token) {
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
    let json: serde_json::Value = serde_json::from_slice(&response.body).unwrap_or_default();
    let Some(status) = json["status"].as_str() else {
        complain!(
            "nightbell: status {}: {}",
            response.status,
            visible(response.text().trim())
        );
        return ExitCode::FAILURE;
    };
    say!(
        "{status}: {} of {} checks failed",
        json["checks_failed"],
        json["checks_total"]
    );
    if let Some(alerts) = json["alerts"].as_str() {
        say!("  {}", visible(alerts));
    }
    for check in json["checks"].as_array().into_iter().flatten() {
        let word = |key: &str| visible(check[key].as_str().unwrap_or("")).into_owned();
        let mark = if word("status") == "healthy" {
            "ok  "
        } else {
            "FAIL"
        };
        say!(
            "  {mark} {:<14} {:<30} {:>8.1} ms  {}",
            word("kind"),
            word("name"),
            check["response_time_ms"].as_f64().unwrap_or(0.0),
            word("error")
        );
    }
    if status == "unhealthy" {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    }
}
